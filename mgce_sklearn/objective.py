"""The objective: a potential over a design, and an uncertainty set.

    R(W) = mean_i psi(m_i) - <tau, W> + <half_width, |W|>,      m_i = W x_i + c_i

Its dual maximises the mean of H(p_i) + <c_i, p_i> over distributions p_i, one a row, under
|mean p_i ⊗ x_i - tau| <= half_width. Where labels are known, any p becomes feasible when it is
shrunk toward them, so every iterate of every solver has a certificate. Rows without labels may
have no feasible p at all: then the value falls without bound.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mgce_sklearn.arrays import Array, inner, namespace
from mgce_sklearn.design import ALL_ROWS, FEATURES_PER_MARGIN, Design
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.potentials import Potential
from mgce_sklearn.uncertainty import UncertaintySet

Sum = TypeVar("Sum", float, Array)

# One column a row, whole (K, n) or as a function of the rows wanted.
Columns = Array | Callable[[slice], Array]


class DualPoint(NamedTuple):
    """A feasible point of the dual.

    Attributes
    ----------
    value : float
        A lower bound on the optimum; -inf if no feasible point was found.
    shrink : float
        Smallest share of an excess that its half-width allows, of the point as it came: 1 if
        it was feasible.
    excess : ndarray of shape (C, d)
        mean p_i ⊗ x_i - tau, within the half-widths if the value is finite.
    """

    value: float
    shrink: float
    excess: Array


@dataclass(frozen=True)
class Objective:
    """The convex problem of one fit.

    Parameters
    ----------
    potential : Potential
    design : Design
    labels : Labels or None
        Classes of the rows, or distributions over them, whose means are tau; None if the rows
        have no labels.
    uncertainty : UncertaintySet
        With C = n_classes rows, or C = 1 row for two classes: then the coefficients are
        those of the second class and the margin of the first is 0.
    n_classes : int
    offsets : ndarray of shape (n_classes, n), default=None
        Added to the margins. None: zeros.
    anchor : DualPoint, default=None
        Of rows without labels a feasible point, if one is known.
    """

    potential: Potential
    design: Design
    labels: Labels | None
    uncertainty: UncertaintySet
    n_classes: int
    offsets: Array | None = None
    anchor: DualPoint | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (C, d) of the coefficients."""
        rows, columns = self.uncertainty.tau.shape
        return rows, columns

    @property
    def first_class(self) -> int:
        """First class that has coefficients; those before it have margin 0."""
        return self.n_classes - self.shape[0]

    def sum_over_rows(self, term: Callable[[slice], Sum], team: RowTeam | None = None) -> Sum:
        """Add what ``term`` returns for blocks of rows, in the threads of a team if given.

        An array (K, n) is as large as X where d is small: what needs a few of them on the way
        to a sum takes the rows in blocks.
        """

        def share(start: int, stop: int) -> Any:
            blocks = self.design.blocks(slice(start, stop), self.n_classes)
            return sum(map(term, blocks))

        return share(0, self.design.n_rows) if team is None else sum(team.run(share))

    def team(self) -> AbstractContextManager[RowTeam]:
        """Give threads for sums over rows of what margins decide."""
        return self.design.team(self.n_classes + self.shape[1] // FEATURES_PER_MARGIN)

    @cached_property
    def least_value(self) -> float:
        """A lower bound on the optimum, if any distribution is feasible.

        Labels, where they are known, are a feasible point. Else entropies are at least 0, and
        expected offsets at least their minimum.
        """
        if self.labels is not None and not (self.labels.certain and self.offsets is None):
            return self.mean_entropy(self.label_columns)
        if self.offsets is None:
            return 0.0
        return float(self.design.weights @ self.offsets.min(axis=0))

    def possible(self, value: float) -> float:
        """Return R(W) as computed, raised to the least it can be if rounding took it below.

        Labels are feasible. Without them a value below the least tells that nothing is.
        """
        return value if self.labels is None else max(value, self.least_value)

    def take(self, rows: Array) -> Objective:
        """Return the objective of some of the rows, by position."""
        return replace(
            self,
            design=self.design.take(rows),
            labels=None if self.labels is None else self.labels.take(rows),
            offsets=None if self.offsets is None else self.offsets[:, rows],
            anchor=None,
        )

    def margins(self, coef: Array, rows: slice = ALL_ROWS) -> Array:
        """Return the margins (K, n) of all classes, offsets included."""
        margins = self.linear_margins(coef, rows)
        return margins if self.offsets is None else margins + self.offsets[:, rows]

    def linear_margins(self, coef: Array, rows: slice = ALL_ROWS) -> Array:
        """Return what coefficients, or a step of them, add to the margins (K, n)."""
        return self.with_reference(self.design.margins(coef, rows))

    def with_reference(self, margins: Array) -> Array:
        """Put the zero margins of classes without coefficients before the others (..., K, n)."""
        if self.first_class == 0:
            return margins
        arrays = namespace(margins)
        return arrays.concatenate([arrays.zeros_like(margins[..., :1, :]), margins], axis=-2)

    def adjoint(self, rows_by_class: Array, rows: slice = ALL_ROWS) -> Array:
        """Return mean r_i ⊗ x_i (C, d) over the classes that have coefficients."""
        return self.design.adjoint(rows_by_class[self.first_class :], rows)

    def linear_part(self, coef: Array) -> float:
        """Return -<tau, W> + <half_width, |W|>."""
        penalty = inner(self.uncertainty.half_width, abs(coef))
        return penalty - inner(self.uncertainty.tau, coef)

    def value(self, coef: Array, team: RowTeam | None = None) -> float:
        """Return R(W)."""

        def mean_psi(rows: slice) -> float:
            psi = self.potential.value(self.margins(coef, rows))
            return float(self.design.weights[rows] @ psi)

        return self.sum_over_rows(mean_psi, team) + self.linear_part(coef)

    def value_and_gradient(
        self, coef: Array, team: RowTeam | None = None
    ) -> tuple[float, Array, Array]:
        """Return R(W), the gradient (C, d) of its smooth part, and p (K, n)."""

        def share(start: int, stop: int) -> tuple[float, Array, Array]:
            rows = slice(start, stop)
            psi, proba = self.potential.value_and_gradient(self.margins(coef, rows))
            return float(self.design.weights[rows] @ psi), self.adjoint(proba, rows), proba

        shares = [share(0, self.design.n_rows)] if team is None else team.run(share)
        values, means, probas = zip(*shares, strict=True)
        proba = probas[0] if len(probas) == 1 else namespace(probas[0]).concatenate(probas, 1)
        return sum(values) + self.linear_part(coef), sum(means) - self.uncertainty.tau, proba

    def value_and_slope(self, coef: Array, team: RowTeam | None = None) -> tuple[float, Array]:
        """Return R(W) and the gradient (C, d) of its smooth part, with no array of all rows."""

        def part(rows: slice) -> Array:
            psi, proba = self.potential.value_and_gradient(self.margins(coef, rows))
            value = (self.design.weights[rows] * psi).sum().reshape(1)
            return namespace(psi).concatenate([value, self.adjoint(proba, rows).reshape(-1)])

        total = self.sum_over_rows(part, team)
        slope = total[1:].reshape(self.shape) - self.uncertainty.tau
        return float(total[0]) + self.linear_part(coef), slope

    def excess(self, proba: Columns, team: RowTeam | None = None) -> Array:
        """Return mean (p_i - label_i) ⊗ x_i, bounded by half_width if p is feasible."""

        def mean(rows: slice) -> Array:
            return self.adjoint(columns_of(proba, rows), rows)

        return self.sum_over_rows(mean, team) - self.uncertainty.tau

    def dual_point(
        self, proba: Columns, team: RowTeam | None = None, anchor: DualPoint | None = None
    ) -> DualPoint:
        """Move p (K, n) toward a feasible point until it is feasible, and take its value.

        p(theta) = p' + theta (p - p'), with theta in [0, 1] the largest that meets every
        constraint. p' are the labels where they are known, which always meet them. Else it is
        the ``anchor``, an earlier feasible point.
        """

        def distributions(rows: slice) -> Array:
            return normalized(columns_of(proba, rows))

        labels: Any = self.labels  # asked for where they are known

        def shrunk(rows: slice) -> Array:
            columns = distributions(rows)
            columns *= shrink
            labels.add_to(columns, 1.0 - shrink, rows)
            return columns

        excess, width = self.excess(distributions, team), self.uncertainty.half_width
        arrays, violated = namespace(excess), abs(excess) > width
        share = width / arrays.where(violated, abs(excess), 1.0)
        shrink = float(arrays.where(violated, share, 1.0).min())
        if self.labels is not None:
            return DualPoint(self.mean_entropy(shrunk, team), shrink, shrink * excess)
        entropy = self.mean_entropy(distributions, team)
        if not violated.any():
            return DualPoint(entropy, shrink, excess)
        if anchor is None:
            return DualPoint(-np.inf, shrink, excess)
        # Entropies are concave: the value of the anchor is all that is needed of it.
        way = excess - anchor.excess
        room = arrays.copysign(width, excess) - anchor.excess
        theta = float((room[violated] / way[violated]).min())
        value = anchor.value + theta * (entropy - anchor.value)
        return DualPoint(value, shrink, anchor.excess + theta * way)

    def label_columns(self, rows: slice) -> Array:
        """Return the labels of some rows as distributions (K, rows)."""
        start, stop, _ = rows.indices(self.design.n_rows)
        columns, labels = self.design.zeros(self.n_classes, stop - start), self.labels
        if labels is not None:
            labels.add_to(columns, 1.0, rows)
        return columns

    def depth(self, point: DualPoint) -> float:
        """Return how far inside the constraints a point is: 1 at zero excess, 0 at a bound."""
        width = self.uncertainty.half_width
        width = namespace(width).where(width > 0.0, width, 1.0)
        return 1.0 - float((abs(point.excess) / width).max())

    def mean_entropy(self, proba: Columns, team: RowTeam | None = None) -> float:
        """Return the mean of H(p) + <c, p> over the rows of p (K, n)."""

        def part(rows: slice) -> float:
            columns = columns_of(proba, rows)
            entropy = self.potential.entropy(columns)
            if self.offsets is not None:
                entropy = entropy + (columns * self.offsets[:, rows]).sum(axis=0)
            return float(self.design.weights[rows] @ entropy)

        return self.sum_over_rows(part, team)


def columns_of(columns: Columns, rows: slice) -> Array:
    """Return the columns (K, rows) of some rows."""
    return columns(rows) if callable(columns) else columns[:, rows]


def normalized(columns: Array) -> Array:
    """Return distributions (K, rows) of what is nearly one, as a copy."""
    columns = columns.clip(min=0.0)
    columns /= columns.sum(axis=0)
    return columns
