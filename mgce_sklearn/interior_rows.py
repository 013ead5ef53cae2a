"""Rows of the interior point method: what it asks of a potential, one class for each.

The method knows coefficients; a row has variables of its own, which are eliminated before
every step and recovered after it. `kernels.barrier` and `kernels.maximum` do so for a block of
rows; the classes here hold the state of all rows, and put them inside their constraints at the
start. A potential makes its own (`potentials.Eliminable`).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mgce_sklearn import kernels
from mgce_sklearn.arrays import Array, namespace
from mgce_sklearn.kernels import barrier, maximum

# How far thresholds near given coefficients keep from the largest margin, where 1 is the start
# from none.
MAXIMUM_NEAR = 0.3

# What is mixed with given distributions so that they are inside the simplex.
UNIFORM_SHARE = 0.03


class Rows(Protocol):
    """The interior point of every row, and the elimination of a step.

    There are so many for every part of the rows. New ones hold nothing. Every block of them enters
    its constraints.

    Attributes
    ----------
    coef_share : float
        The products W⁺u and W⁻v aim at coef_share/d of the rows' target. With n rows and one
        target for all, the penalty would be far closer to its boundary than the rows to theirs.
    ambition : float
        Power of the predictor's reduction that the target is reduced by.
    correctors : int
        The most centrality correctors a step. One is worth about a tenth of a system.
    products : int
        Complementarity products a row, as they count in the duality gap.
    proba : ndarray of shape (K, n)
        Multipliers that end as the worst case.
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
            Whether the coefficients are near the solution. Else they are zeros.
        nu : float or None
            What all products shall be, if that is known.
        """

    def eliminate(self, start: int, stop: int, margins: Array, first: int, *out: Array) -> None:
        """Write curvature, kappa, and its change per unit of nu, of some rows."""

    def follow(self, start: int, stop: int, *direction: Any) -> None:
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""


class ThresholdRows:
    """Rows of `MGCEPotential`.

    Parameters
    ----------
    potential : MGCEPotential
        Its rule and worst case are where rows start.
    state : kernels.barrier.RowState
    barrier : module
        `kernels.barrier`, or what stands for it where rows are in tensors.
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

        Newton's steps begin inside the constraints: the rule and the worst case of the margins,
        which are nearer than any other distributions known, are mixed with uniform ones.
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
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""
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

        Without distributions all products of a row are equal.
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
        """Look along a direction, or take a step; see `kernels.barrier.follow`."""
        maximum.follow(self.state, start, stop, *direction)
