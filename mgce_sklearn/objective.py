"""The objective: a potential over parts of the rows, and an uncertainty set.

    R(W) = mean_i psi(m_i) - <tau, W> + <half_width, |W|>,      m_i = W x_i + c_i

Its dual maximizes the mean of H(p_i) + <c_i, p_i> over distributions p_i, one for each row, under
|mean p_i ⊗ x_i - tau| <= half_width. If labels are known, any p becomes feasible when it is
shrunk toward them, so every iterate of every solver has a duality gap. For rows without labels
there may be no feasible p. Then the value has no lower bound.

Functions of a part are terms, which are summed over the parts of the rows. The objective itself
has no access to rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.arrays import Array, inner, namespace, two_class_margins
from mgce_sklearn.design import FEATURES_PER_MARGIN
from mgce_sklearn.parts import Columns, Kept, Part, Parts, Term, of_blocks
from mgce_sklearn.potentials import Potential
from mgce_sklearn.uncertainty import UncertaintySet


class DualPoint(NamedTuple):
    """A feasible point of the dual.

    Attributes
    ----------
    value : float
        A lower bound on the optimum; -inf if no feasible point was found.
    shrink : float
        Largest factor by which the excess of the given point meets every constraint, at most 1. It
        is 1 if the point was feasible.
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
        The function psi.
    parts : Parts
        The rows.
    uncertainty : UncertaintySet
        With C = n_classes rows, or C = 1 row for two classes: then the coefficients are
        those of the second class and the margin of the first is 0.
    n_classes : int
    labeled : bool, default=True
        Whether the rows have labels, classes or distributions over them, whose means are tau.
    offsets : Kept, default=None
        Name of an array (n_classes, n) that is added to the margins. None: zeros.
    anchor : DualPoint, default=None
        For rows without labels: a feasible point of the dual, if one is known.
    """

    potential: Potential
    parts: Parts
    uncertainty: UncertaintySet
    n_classes: int
    labeled: bool = True
    offsets: Kept | None = None
    anchor: DualPoint | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (C, d) of the coefficients."""
        rows, columns = self.uncertainty.tau.shape
        return rows, columns

    @property
    def first_class(self) -> int:
        """First class with coefficients. A class before it has margin 0."""
        return self.n_classes - self.shape[0]

    @contextmanager
    def opened(self) -> Iterator[Objective]:
        """Return a context with the same objective, prepared for many sums over rows."""
        with self.parts.opened(self.n_classes + self.shape[1] // FEATURES_PER_MARGIN) as parts:
            yield replace(self, parts=parts)

    def sum(self, term: Term, features: bool = True) -> Any:
        """Return the sum of a term over blocks of rows."""
        return self.parts.sum(term, self.n_classes, features)

    @cached_property
    def least_value(self) -> float:
        """A lower bound on the optimum, valid if some distribution is feasible.

        Labels, if they are known, are a feasible point. Otherwise entropies are at least 0, and
        expected offsets at least their minimum.
        """
        if self.labeled and not (self.parts.certain and self.offsets is None):
            return self.mean_entropy(partial(label_columns, n_classes=self.n_classes))
        if self.offsets is None:
            return 0.0
        return self.sum(partial(_least_offset, self.offsets), features=False)

    def possible(self, value: float) -> float:
        """Return a computed R(W), raised to `least_value` if rounding took it below.

        This is for rows with labels, which are feasible. Without labels, a value below the
        least one shows that no distribution is feasible, so it is not raised.
        """
        return max(value, self.least_value) if self.labeled else value

    def linear_part(self, coef: Array) -> float:
        """Return -<tau, W> + <half_width, |W|>."""
        penalty = inner(self.uncertainty.half_width, abs(coef))
        return penalty - inner(self.uncertainty.tau, coef)

    def value(self, coef: Array) -> float:
        """Return R(W)."""
        return self.parts.over(self.psi_term(coef)) + self.linear_part(coef)

    def psi_term(self, coef: Array) -> Term:
        """Return the term whose sum is the mean of psi."""
        return of_blocks(partial(_mean_psi, self.potential, coef, self.offsets), self.n_classes)

    def value_and_slope(self, coef: Array, p: Kept | None = None) -> tuple[float, Array]:
        """Return R(W) and the gradient (C, d) of its smooth part.

        If ``p`` is given, the worst-case distributions (K, n) are stored under this name.
        """
        value, mean = self.sum(partial(_psi_and_mean, self.potential, coef, self.offsets, p))
        return float(value) + self.linear_part(coef), mean - self.uncertainty.tau

    def excess(self, p: Columns) -> Array:
        """Return mean p_i ⊗ x_i - tau (C, d). Its size is at most half_width if p is feasible."""
        return self.parts.over(self.mean_term(p)) - self.uncertainty.tau

    def mean_term(self, p: Columns) -> Term:
        """Return the term whose sum is the mean of p_i ⊗ x_i (C, d)."""
        return of_blocks(partial(mean_of, p, self.first_class), self.n_classes)

    def dual_point(
        self, p: Columns, anchor: DualPoint | None = None, excess: Array | None = None
    ) -> DualPoint:
        """Move p (K, n) toward a feasible point until it is feasible, and return the result.

        The result is p(theta) = p' + theta (p - p'), with the largest theta in [0, 1] that meets
        every constraint. p' are the labels, if they are known; they meet all constraints.
        Otherwise p' is the ``anchor``, an earlier feasible point. The ``excess`` of the normalized
        p can be given, if it is known.
        """
        distributions = partial(normalized_columns, p)
        if excess is None:
            excess = self.excess(distributions)
        half_width = self.uncertainty.half_width
        arrays, violated = namespace(excess), abs(excess) > half_width
        allowed = half_width / arrays.where(violated, abs(excess), 1.0)
        shrink = float(arrays.where(violated, allowed, 1.0).min())
        if self.labeled:
            entropy = self.mean_entropy(partial(_shrunk_columns, p, shrink))
            return DualPoint(entropy, shrink, shrink * excess)
        entropy = self.mean_entropy(distributions)
        if not violated.any():
            return DualPoint(entropy, shrink, excess)
        if anchor is None:
            return DualPoint(-np.inf, shrink, excess)
        # Entropies are concave, so between two points the value is at least this interpolation.
        difference = excess - anchor.excess
        room = arrays.copysign(half_width, excess) - anchor.excess
        theta = float((room[violated] / difference[violated]).min())
        value = anchor.value + theta * (entropy - anchor.value)
        return DualPoint(value, shrink, anchor.excess + theta * difference)

    def depth(self, point: DualPoint) -> float:
        """Return the smallest distance from a constraint: 1 at zero excess, 0 at a bound."""
        half_width = self.uncertainty.half_width
        half_width = namespace(half_width).where(half_width > 0.0, half_width, 1.0)
        return 1.0 - float((abs(point.excess) / half_width).max())

    def mean_entropy(self, p: Columns) -> float:
        """Return the mean of H(p) + <c, p> over the rows of p (K, n)."""
        term = partial(_mean_entropy, self.potential, p, self.offsets)
        return self.sum(term, features=False)


def with_reference(margins: Array, coef: Array) -> Array:
    """Put the zero margins of a class without coefficients (C, d) before the others (..., K, n)."""
    return margins if len(coef) > 1 else two_class_margins(margins[..., 0, :], -2)


def linear_margins(part: Part, coef: Array) -> Array:
    """Return the margins (K, rows) of coefficients, or of a step of them, without offsets."""
    return with_reference(part.design.margins(coef), coef)


def margins_of(part: Part, coef: Array, offsets: Kept | None) -> Array:
    """Return the margins (K, rows) of all classes, offsets included."""
    margins = linear_margins(part, coef)
    return margins if offsets is None else margins + offsets(part)


def label_columns(part: Part, n_classes: int) -> Array:
    """Return the labels as distributions (K, rows)."""
    columns, labels = part.design.zeros(n_classes, part.n_rows), part.labels
    if labels is not None:
        labels.add_to(columns, 1.0)
    return columns


def normalized(columns: Array) -> Array:
    """Return a copy of columns (K, rows), made non-negative and rescaled to sum to 1."""
    columns = columns.clip(min=0.0)
    columns /= columns.sum(axis=0)
    return columns


def normalized_columns(p: Columns, part: Part) -> Array:
    """Return the distributions (K, rows) of a part, `normalized`."""
    return normalized(p(part))


def mean_of(columns: Columns, first: int, part: Part) -> Array:
    """Return the contribution of rows to mean r_i ⊗ x_i (C, d), for classes from ``first`` on."""
    return part.design.adjoint(columns(part)[first:])


def worst_case(potential: Any, coef: Array, offsets: Kept | None, part: Part) -> Array:
    """Return the worst-case distributions (K, rows) at given coefficients."""
    return potential.value_and_gradient(margins_of(part, coef, offsets))[1]


def _mean_psi(potential: Any, coef: Array, offsets: Kept | None, part: Part) -> float:
    return float(part.design.weights @ potential.value(margins_of(part, coef, offsets)))


def _psi_and_mean(
    potential: Any, coef: Array, offsets: Kept | None, kept: Kept | None, part: Part
) -> tuple[Array, Array]:
    psi, p = potential.value_and_gradient(margins_of(part, coef, offsets))
    if kept is not None:
        part.allotted(kept, len(p))[:] = p
    return part.design.weights @ psi, part.design.adjoint(p[len(p) - len(coef) :])


def _shrunk_columns(p: Columns, shrink: float, part: Part) -> Array:
    columns = normalized(p(part))
    columns *= shrink
    labels: Any = part.labels  # called only if rows have labels
    labels.add_to(columns, 1.0 - shrink)
    return columns


def _mean_entropy(potential: Any, p: Columns, offsets: Kept | None, part: Part) -> float:
    columns = p(part)
    entropy = potential.entropy(columns)
    if offsets is not None:
        entropy = entropy + (columns * offsets(part)).sum(axis=0)
    return float(part.design.weights @ entropy)


def _least_offset(offsets: Kept, part: Part) -> float:
    columns = offsets(part)
    return float(part.design.weights @ namespace(columns).amin(columns, 0))
