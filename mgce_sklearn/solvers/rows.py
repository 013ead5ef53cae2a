"""Rows of the interior point method: what it asks of a potential, one class for each.

The method knows coefficients; a row has variables of its own, which are eliminated before
every step and recovered after it. `kernels.barrier` and `kernels.maximum` do so for a block of
rows; the classes here hold the state of all rows, and put them inside their constraints at the
start.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mgce_sklearn import kernels
from mgce_sklearn.arrays import inner, namespace
from mgce_sklearn.kernels import barrier, maximum
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.potentials import MGCEPotential

Array = np.ndarray[Any, Any]

# How far a start near given coefficients keeps from the boundary, where 1 is the start from none.
NEAR = 0.1
MAXIMUM_NEAR = 0.3

# What is mixed with given distributions so that they are inside the simplex.
UNIFORM_SHARE = 0.03


class Rows(Protocol):
    """The interior point of every row, and the elimination of a step.

    Attributes
    ----------
    coef_share : float
        The products W⁺u and W⁻v aim at coef_share/d of the rows' target. With n rows and one
        target for all, the penalty would be far closer to its boundary than the rows to theirs.
    ambition : float
        Power of the predictor's reduction that the target is reduced by.
    correctors : int
        The most centrality correctors a step. One is worth about a tenth of a system.
    """

    coef_share: float
    ambition: float
    correctors: int

    @property
    def proba(self) -> Array:
        """Multipliers (K, n) that end as the worst case."""

    @property
    def products(self) -> int:
        """Complementarity products a row, as they count in the duality gap."""

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""


class ThresholdRows:
    """Rows of `MGCEPotential`.

    Parameters
    ----------
    state : kernels.barrier.RowState
    q : float
    barrier : module
        `kernels.barrier`, or what stands for it where rows are in tensors.
    """

    coef_share, ambition, correctors = 0.03, 3.0, 1

    def __init__(self, state: barrier.RowState, q: float, barrier: Any = barrier) -> None:
        self.state, self.q, self.barrier = state, q, barrier
        self.proba = state.proba
        self.products = len(state.proba) * (2 if q > 0.0 else 1) + 1

    @classmethod
    def of(cls, objective: Objective, coef: Array | None, team: RowTeam) -> ThresholdRows:
        """Put every row well inside its constraints, near given coefficients if there are any.

        The rule and the worst case of the margins are mixed with uniform ones, which keeps
        them off the boundary; slacks follow from feasibility, and multipliers from the average
        product.
        """
        q = kernels.loss_parameter(objective.potential.q)
        n_classes, n_rows = objective.n_classes, objective.design.n_rows
        spread = 1.0 if coef is None else NEAR
        if coef is None:
            coef = objective.design.zeros(*objective.shape)
        smallest = spread * (min(1.0, float(n_classes) ** -q / (2.0 * q)) if q > 0.0 else 1.0)
        state = objective.design.barrier.new_rows(n_classes, n_rows)

        def fill(rows: slice) -> float:
            margins = objective.margins(coef, rows)
            worst_case = objective.potential.value_and_gradient(margins)[1]
            proba = (1.0 - spread) * worst_case + spread / n_classes
            rule = (1.0 - spread) * objective.potential.rule(margins) + spread / n_classes
            rule *= 1.0 - spread / 2.0
            slack = _q_logarithm(rule, q) - margins
            state.threshold[rows] = smallest - namespace(slack).amin(slack, 0)
            slack += state.threshold[rows]
            c = rule**q
            state.distance[:, rows] = barrier.nearer(slack, c, q)
            state.proba[:, rows], state.spare[rows] = proba, 1.0 - rule.sum(axis=0)
            # Up to nu, which is known at the end.
            state.edge[:, rows], state.multiplier[rows] = q / c, (rule / c).sum(axis=0)
            return inner(proba, slack)

        nu = objective.sum_over_rows(fill, team) / (n_classes * n_rows)
        state.edge[:] *= nu
        for rows in objective.design.blocks(width=objective.n_classes):
            total = 1.0 + state.edge[:, rows].sum(axis=0)
            state.multiplier[rows] = total / state.multiplier[rows]
        return cls(state, q, objective.design.barrier)

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""
        self.barrier.eliminate(self.state, start, stop, self.q, margins, first, *out)

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""
        self.barrier.follow(self.state, start, stop, self.q, *direction)

    def copy(self) -> ThresholdRows:
        """Return the same point in arrays of its own."""
        return ThresholdRows(barrier.RowState(*(array.copy() for array in self.state)), self.q)

    def bounds(self, margins: Array, rows: slice) -> tuple[Array, Array]:
        """Return s and c (K, rows) of some rows at their margins."""
        below = margins - self.state.threshold[rows]
        return barrier.both(self.state.distance[:, rows], below, self.q)


def _q_logarithm(rule: Array, q: float) -> Array:
    log_rule = namespace(rule).log(rule)
    return log_rule if q == 0.0 else namespace(rule).expm1(q * log_rule) / q


class MaximumRows:
    """Rows of `MaximumPotential`.

    Parameters
    ----------
    state : kernels.maximum.MaximumState
    """

    coef_share, ambition, correctors = 0.1, 5.0, 3

    def __init__(self, state: maximum.MaximumState) -> None:
        self.state = state
        self.proba = state.proba
        self.products = len(state.proba)

    @classmethod
    def of(
        cls, objective: Objective, coef: Array | None, proba: Array | None, team: RowTeam
    ) -> MaximumRows:
        """Put every row inside its constraints.

        Near the given coefficients, if there are any, and distributions; without these all
        products of a row are equal.
        """
        n_classes, n_rows = objective.n_classes, objective.design.n_rows
        spread = 1.0 if coef is None else MAXIMUM_NEAR
        if coef is None:
            coef = np.zeros(objective.shape)
        state = maximum.MaximumState(np.empty((n_classes, n_rows)), np.empty(n_rows))

        def fill(rows: slice) -> float:
            margins = objective.margins(coef, rows)
            state.threshold[rows] = margins.max(axis=0) + spread
            if proba is None:
                inverse = 1.0 / (state.threshold[rows] - margins)
                state.proba[:, rows] = inverse / inverse.sum(axis=0)
            else:
                mixed = (1.0 - UNIFORM_SHARE) * proba[:, rows] + UNIFORM_SHARE / n_classes
                state.proba[:, rows] = mixed
            return 0.0

        objective.sum_over_rows(fill, team)
        return cls(state)

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""
        maximum.eliminate(self.state, start, stop, margins, first, *out)

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""
        maximum.follow(self.state, start, stop, *direction)


def rows_of(objective: Objective, coef: Array | None, proba: Array | None, team: RowTeam) -> Rows:
    """Return the rows of an objective, inside their constraints, near a point if one is given."""
    if isinstance(objective.potential, MGCEPotential):
        return ThresholdRows.of(objective, coef, team)  # whose own worst case is near enough
    return MaximumRows.of(objective, coef, proba, team)
