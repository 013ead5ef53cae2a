"""Rows of the interior point method, one class for each potential.

The method solves for coefficients. A row has variables of its own, which are eliminated before
every step and recovered after it. `kernels.elimination`, `kernels.barrier` and `kernels.maximum` do
so for a block of rows. The classes here have the state of all rows, and put rows inside their
constraints at the start. A potential makes its own (`potentials.Eliminable`).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mgce_sklearn import kernels
from mgce_sklearn.arrays import Array, namespace
from mgce_sklearn.kernels import barrier, maximum

# Initial distance of thresholds from the largest margin if coefficients are near the solution.
# Without coefficients it is 1.
MAXIMUM_NEAR = 0.3

# Share of the uniform distribution in mixtures with given ones: mixtures are inside the simplex.
UNIFORM_SHARE = 0.03


class Rows(Protocol):
    """The interior point of every row, and the elimination of a step.

    Every part of the rows has an object of this kind. It is empty at first, and filled block by
    block with `enter`.

    Attributes
    ----------
    coef_share : float
        The target of the products W⁺u and W⁻v is coef_share/d of that of the rows. With n rows and
        one target for all, the penalty would be far closer to its boundary than the rows to theirs.
    ambition : float
        The target is multiplied by the reduction that the predictor reached, to this power.
    correctors : int
        The largest number of centrality correctors in a step. One takes about a tenth of the time
        of a system.
    products : int
        Number of complementarity products in a row, as they count in the duality gap.
    proba : ndarray of shape (K, n)
        Multipliers that converge to the worst case p*.
    """

    coef_share: float
    ambition: float
    correctors: int
    products: int
    proba: Array

    def enter(
        self, rows: slice, margins: Array, proba: Array | None, near: bool, nu: float | None
    ) -> None:
        """Put some rows inside their constraints.

        Parameters
        ----------
        rows : slice
        margins : ndarray of shape (K, rows)
            Of the coefficients that the method starts from.
        proba : ndarray of shape (K, rows) or None
            Distributions to start near, if any are known.
        near : bool
            Whether the coefficients are near the solution. Otherwise they are zeros.
        nu : float or None
            Target of all products, if it is known.
        """

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Measure a direction, or take a step; see `kernels.barrier.follow`."""


class ThresholdRows:
    """Rows of `MGCEPotential`.

    Parameters
    ----------
    potential : MGCEPotential
        Its rule and worst case are where rows start.
    state : kernels.barrier.RowState
    barrier : module
        `kernels.barrier`, or `tensors.barrier` if rows are in tensors.
    """

    coef_share, ambition, correctors = 0.03, 5.0, 1

    def __init__(self, potential: Any, state: barrier.RowState, barrier: Any = barrier) -> None:
        self.potential, self.state, self.barrier = potential, state, barrier
        self.q = kernels.loss_parameter(potential.q)
        self.proba = state.proba
        self.products = len(state.proba) * (2 if self.q > 0.0 else 1) + 1

    def enter(
        self, rows: slice, margins: Array, proba: Array | None, near: bool, nu: float | None
    ) -> None:
        """Put some rows on the central path at ``nu``; see `Rows.enter`.

        Newton's steps must start inside the constraints. So the rule h and the worst case p* of
        the margins are mixed with uniform distributions. Both are nearer than ``proba``.
        """
        q, state, n_classes = self.q, self.state, len(margins)
        target: Any = nu  # of coefficients near the solution it is known
        spread = min(1.0, n_classes * target)
        smallest = spread * (min(1.0, float(n_classes) ** -q / (2.0 * q)) if q > 0.0 else 1.0)
        worst_case = self.potential.value_and_gradient(margins)[1]
        rule = (1.0 - spread) * self.potential.rule(margins) + spread / n_classes
        rule *= 1.0 - spread / 2.0
        slack, c = _q_logarithm(rule, q) - margins, rule**q
        state.threshold[rows] = smallest - namespace(slack).amin(slack, 0)
        slack += state.threshold[rows]
        state.distance[:, rows] = barrier.nearer(slack, c, q)
        state.proba[:, rows] = (1.0 - spread) * worst_case + spread / n_classes
        state.spare[rows] = 1.0 - rule.sum(axis=0)
        state.edge[:, rows] = target * q / c
        state.multiplier[rows] = (1.0 + target * (q / c).sum(axis=0)) / (rule / c).sum(axis=0)
        self.barrier.center(state, rows.start, rows.stop, q, margins, target)

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""
        self.barrier.eliminate(self.state, start, stop, self.q, margins, first, *out)

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Measure a direction, or take a step; see `kernels.barrier.follow`."""
        self.barrier.follow(self.state, start, stop, self.q, *direction)


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

    def enter(
        self, rows: slice, margins: Array, proba: Array | None, near: bool, nu: float | None
    ) -> None:
        """Put some rows inside their constraints; see `Rows.enter`.

        Without ``proba`` all products of a row are equal.
        """
        state, n_classes = self.state, len(margins)
        state.threshold[rows] = margins.max(axis=0) + (MAXIMUM_NEAR if near else 1.0)
        slack = state.threshold[rows] - margins
        if proba is None:
            state.proba[:, rows] = 1.0 / slack / np.sum(1.0 / slack, axis=0)
        else:
            state.proba[:, rows] = (1.0 - UNIFORM_SHARE) * proba + UNIFORM_SHARE / n_classes

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""
        maximum.eliminate(self.state, start, stop, margins, first, *out)

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Measure a direction, or take a step; see `kernels.barrier.follow`."""
        maximum.follow(self.state, start, stop, *direction)
