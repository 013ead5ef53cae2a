"""The problem: labeled rows, prepared once for every q and lam."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from mgce_sklearn import validation
from mgce_sklearn.block_parts import RowsInBlocks, Survey
from mgce_sklearn.design import ALL_ROWS, design_of
from mgce_sklearn.labels import HardLabels, Labels, SoftLabels
from mgce_sklearn.objective import DualPoint, Objective, label_columns
from mgce_sklearn.parts import Kept, Part, Parts, RowsInMemory
from mgce_sklearn.sketch import RowSketch
from mgce_sklearn.targets import Distributions, encoded
from mgce_sklearn.uncertainty import (
    STANDARD_ERROR,
    Moments,
    UncertaintySet,
    Width,
    n_coefficient_rows,
)

Array = np.ndarray[Any, Any]


class UsedRows(NamedTuple):
    """Labels and weights of the rows with positive weight.

    Attributes
    ----------
    positions : ndarray of shape (n,) or None
        Positions of these rows among the given ones. None: all.
    classes : ndarray of shape (K,)
        Label of each class, sorted.
    labels : Labels
        As positions in ``classes``.
    weights : ndarray of shape (n,)
        Sample weights times class weights.
    inverse : ndarray of shape (K, K) or None
        Inverse of the noise matrix.
    """

    positions: Array | None
    classes: Array
    labels: Labels
    weights: Array
    inverse: Array | None

    @property
    def rows(self) -> Any:
        """Index of these rows in an array of all given rows."""
        return ALL_ROWS if self.positions is None else self.positions

    @classmethod
    def of(
        cls,
        y: Array | Distributions,
        sample_weight: Any = None,
        class_weight: Any = None,
        noise_matrix: Any = None,
        classes: Array | None = None,
    ) -> UsedRows:
        """Check weights, leave out rows of weight 0, encode labels, and apply class weights.

        Parameters
        ----------
        y : ndarray of shape (n_samples,), or Distributions
            Labels, checked.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        class_weight : dict, "balanced" or None, default=None
        noise_matrix : float, array-like of shape (K, K) or None, default=None
            Probabilities by which labels became wrong; see `Moments`.
        classes : ndarray of shape (K,), default=None
            All classes that can occur. None: those that occur.

        Raises
        ------
        ValueError
            If y has only one class, or if weights or the matrix are invalid.
        """
        weights = validation.check_sample_weight(sample_weight, len(y))
        positions = None
        if not (weights > 0.0).all():
            positions = np.flatnonzero(weights)
            y, weights = y[positions], weights[positions]
        classes, labels = encoded(y, classes)
        inverse = inverse_noise(noise_matrix, class_weight, classes, labels.certain)
        if class_weight is not None:
            labels, weights = weighted_by_class(class_weight, classes, labels, weights)
        return cls(positions, classes, labels, weights, inverse)


@dataclass(frozen=True)
class Problem:
    """What a fit, a path and a search have in common: everything except q and lam.

    Parameters
    ----------
    parts : Parts
        Rows of positive weight, with their labels as observed.
    classes : ndarray of shape (K,)
        Label of each class, sorted.
    moments : Moments
        Moments of the labeled rows, computed once for all lam.
    width : Width
        Method of the half-widths.
    base_margin : Kept, default=None
        Name of an array (K, n) that is added to the margins. None: zeros.
    anchors : dict
        For rows without labels: a feasible dual point for each lam that was used.
    largest_empty : list
        The largest lam whose set is known to be empty, and the factor by which it must grow.
    """

    parts: Parts
    classes: Array
    moments: Moments
    width: Width = STANDARD_ERROR
    base_margin: Kept | None = None
    anchors: dict[float, DualPoint] = field(default_factory=dict, repr=False, compare=False)
    largest_empty: list[float] = field(default_factory=lambda: [0.0, 1.0], repr=False)

    @classmethod
    def from_labels(
        cls,
        X: Any,
        y: Array | Distributions,
        sample_weight: Any = None,
        class_weight: Any = None,
        fit_intercept: bool = True,
        width: Width = STANDARD_ERROR,
        center: Any = "auto",
        noise_matrix: Any = None,
        base_margin: Any = None,
    ) -> Problem:
        """Make the problem of rows in memory: weigh them, encode labels, and compute moments.

        Parameters
        ----------
        X : ndarray, CSR matrix or Tensor of shape (n_samples, n_features), float64 or float32
        y : ndarray of shape (n_samples,), or Distributions
            Labels, checked.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Rows of weight 0 are left out.
        class_weight : dict, "balanced" or None, default=None
        fit_intercept : bool, default=True
        width : Width, default=standard errors
        center : "auto" or bool, default="auto"
            Which columns to center; see `Width.columns_to_center`.
        noise_matrix : float, array-like of shape (K, K) or None, default=None
            Probabilities by which labels became wrong; see `Moments`.
        base_margin : array-like of shape (n_samples, K), default=None
            Added to the margins. For two classes also of shape (n_samples,).

        Raises
        ------
        ValueError
            If y has only one class, or if weights, margins or the matrix are invalid.
        """
        used = UsedRows.of(y, sample_weight, class_weight, noise_matrix)
        n_classes = len(used.classes)
        base = None
        if base_margin is not None:
            _check_base_allowed(width, noise_matrix)
            base = validation.check_base_margin(base_margin, X.shape[0], n_classes)
            base = np.ascontiguousarray(base[used.rows].T)
        n_coefficients = n_coefficient_rows(n_classes) * (X.shape[1] + fit_intercept)
        design = design_of(X, used.positions, used.weights, fit_intercept, n_coefficients)
        parts = RowsInMemory.of(design, used.labels.put(design))
        moments = Moments.of(parts, n_classes).unmixed(used.inverse)
        moments = width.centered(moments, width.columns_to_center(design, moments, center))
        parts = parts.centered_at(moments.center)
        kept = None if base is None else parts.kept_array(design.put(base))
        return cls(parts, used.classes, moments, width, kept)

    @classmethod
    def from_blocks(
        cls,
        survey: Survey,
        class_weight: Any = None,
        fit_intercept: bool = True,
        width: Width = STANDARD_ERROR,
        center: Any = "auto",
    ) -> Problem:
        """Make the problem of rows that are read block by block with their labels and weights.

        Raises
        ------
        ValueError
            If there are no labels, if they have only one class, or if weights are invalid.
        """
        survey.check_labels()
        classes: Any = survey.classes
        weights = validation.check_sample_weight(survey.weights, len(survey.weights))
        labels: Any = HardLabels(survey.codes)
        if class_weight is not None:
            labels, weights = weighted_by_class(class_weight, classes, labels, weights)
        parts = RowsInBlocks.of(survey, labels, weights, fit_intercept)
        problem = cls.from_parts(parts, classes, width, center)
        vars(problem)["sketch"] = survey.sketch
        return problem

    @classmethod
    def from_parts(
        cls,
        parts: Any,
        classes: Array,
        width: Width = STANDARD_ERROR,
        center: Any = "auto",
        inverse: Array | None = None,
    ) -> Problem:
        """Make the problem of labeled parts: compute moments, and center the rows.

        Parameters
        ----------
        parts : Parts
            With a method `centered_at`.
        classes : ndarray of shape (K,)
            Label of each class, sorted.
        width : Width, default=standard errors
        center : "auto" or bool, default="auto"
        inverse : ndarray of shape (K, K), default=None
            Inverse of the noise matrix; see `Moments`.
        """
        moments = Moments.of(parts, len(classes)).unmixed(inverse)
        moments = width.centered(moments, width.columns_to_center(parts.like, moments, center))
        width.range_of(moments)  # raises if rows are outside a given range
        parts = parts.centered_at(moments.center)
        # Otherwise `column_scale` would read all rows.
        scale = moments.column_scale()
        vars(parts)["column_scale"] = np.where(scale > 0.0, scale, 1.0)
        return cls(parts, classes, moments, width)

    @cached_property
    def sketch(self) -> RowSketch:
        """Sketch by which the rows are recognized later."""
        return self.parts.over(_sketch, RowSketch.joined)

    def uncertainty(self, lam: float) -> UncertaintySet:
        """Return the uncertainty set of ``lam``, all classes in it."""
        return UncertaintySet.from_moments(self.moments, lam, self.width)

    def objective(self, q: float, lam: float) -> Objective:
        """Return the objective. For two classes only the second has coefficients.

        With a noise matrix, observed labels are not in the uncertainty set of true ones, so the
        objective has no labels.
        """
        uncertainty = self.uncertainty(lam).of_coefficients()
        half_width = uncertainty.half_width
        half_width = np.where(half_width > 0.0, half_width, self._wide_for_constants())
        potential = self.parts.like.potential(q)
        return Objective(
            potential=potential,
            parts=self.parts,
            uncertainty=UncertaintySet(*map(self.parts.like.put, (uncertainty.tau, half_width))),
            n_classes=len(self.classes),
            labeled=self.moments.inverse is None,
            offsets=self._offsets(potential, lam),
        )

    def _offsets(self, potential: Any, lam: float) -> Kept | None:
        r"""Return the base margins c (K, n), plus a number for each row by which R(W) is a risk.

        A number added to all margins of a row is added to psi, and does not change the solution.
        The loss of margins is at most :math:`\psi(m) - m_y`, and that of the base is
        L(y) = psi(c) - c_y. So for every distribution of the set

            E loss <= mean [psi(m) - psi(c)] - <tau, W> + <half_width, |W|> + E L,

        If E L is at most the sample's mean of L plus its half-width, the right side is at most R(W)
        with the offsets c - c_y + half-width. With these offsets, the dual value of the labels is
        the sample's mean of L plus its half-width.
        """
        if self.base_margin is None:
            return None
        _, half_width = self._base_loss(potential, lam)
        return self.parts.keep(partial(_above_own, self.base_margin, half_width), features=False)

    def base_ceiling(self, q: float, lam: float) -> float | None:
        """Return the mean of the base's loss plus its half-width, or None without a base."""
        if self.base_margin is None:
            return None
        return sum(self._base_loss(self.parts.like.potential(q), lam))

    def _base_loss(self, potential: Any, lam: float) -> tuple[float, float]:
        """Return the mean of the base's loss, and its half-width.

        The variance includes one additional row with base margins 0, so that a base without an
        error in the sample is not taken for perfect.
        """
        base: Any = self.base_margin
        at_zero = float(potential.value(self.parts.like.zeros(len(self.classes), 1))[0])
        term = partial(_loss_beyond, potential, base, at_zero)
        mean = float(self.parts.sum(partial(term, 0.0, 1), features=False))
        spread = float(self.parts.sum(partial(term, mean, 2), features=False))
        total = self.moments.total_weight
        half_width = self.width.of_mean(spread + mean**2 / total, total, lam)
        return at_zero + mean, half_width

    def _wide_for_constants(self) -> Array:
        """Return half-widths (d,) for constant features, with which their coefficients are 0.

        A constant less its center is a rounding error, far smaller than the constant itself.
        """
        size = np.maximum(np.abs(self.moments.low), np.abs(self.moments.high))
        return np.where(size > 0.0, size, 1.0)

    def lam_max(self) -> float:
        """Return the smallest lam at which all coefficients are zero. It is the same for every q.

        At W = 0 the worst case of every row is uniform, for every q. The gradient of the smooth
        part is then mean (1/K - onehot(y_i)) ⊗ x_i. Half-widths must be proportional to lam, as
        those in standard errors are, and there must be no base margins.
        """
        objective = self.objective(q=0.0, lam=1.0)
        uniform = partial(_uniform, objective.n_classes)
        excess = abs(self.parts.like.fetch(objective.excess(uniform)))
        half_width = self.uncertainty(1.0).of_coefficients().half_width
        used = half_width > 0.0
        return float(np.max(excess[used] / half_width[used], initial=0.0))


def _sketch(part: Part) -> RowSketch:
    return reduce(RowSketch.joined, (block.design.sketch() for block in part.blocks()))


def _uniform(n_classes: int, part: Part) -> Array:
    return part.design.zeros(n_classes, part.n_rows) + 1.0 / n_classes


def _above_own(base: Kept, half_width: float, part: Part) -> Array:
    """Return base margins (K, rows), less that of the label, plus the half-width."""
    margins = base(part)
    own = (label_columns(part, len(margins)) * margins).sum(axis=0)
    return margins - own + half_width


def _loss_beyond(
    potential: Any, base: Kept, at_zero: float, mean: float, power: int, part: Part
) -> Array:
    """Return the contribution of rows to a moment of the base's loss about at_zero + mean."""
    margins = base(part)
    more = potential.value(margins) - margins - at_zero - mean
    columns = label_columns(part, len(margins))
    return part.design.weights @ (columns * more**power).sum(axis=0)


def _check_base_allowed(width: Width, noise_matrix: Any) -> None:
    """Raise ValueError unless the loss of the base has a half-width proportional to lam."""
    if noise_matrix is not None:
        raise ValueError(
            "base_margin must be None beside a noise_matrix, since the loss of the base is known "
            "only for observed labels. Leave out one of them."
        )
    if width.factor(1.0) is None:
        got = repr(width.kind) if isinstance(width.kind, str) else "an array"
        raise ValueError(
            "width must be 'standard_error' or 'std' where there is a base_margin, since other "
            f"widths require a range of its loss; got {got}."
        )


def inverse_noise(
    noise_matrix: Any, class_weight: Any, classes: Array, certain: bool
) -> Array | None:
    """Return the inverse of the noise matrix, or None if there is no matrix.

    Raises
    ------
    TypeError, ValueError
        If the matrix is invalid, or if it cannot be combined with these labels or class weights.
    """
    if noise_matrix is None:
        return None
    if class_weight is not None:
        raise ValueError(
            f"class_weight must be None beside a noise_matrix; got {class_weight!r}. Weights of "
            "observed classes would bias the means of true ones. Use sample_weight, or no weights."
        )
    if not certain:
        raise ValueError(
            "y must be labels beside a noise_matrix; got distributions, which already describe "
            "uncertain labels. Give the observed labels, or leave the matrix out."
        )
    matrix = validation.check_noise_matrix(noise_matrix, len(classes))
    return validation.check_invertible(matrix)


def weighted_by_class(
    class_weight: Any, classes: Array, labels: Labels, sample_weight: Array
) -> tuple[Labels, Array]:
    """Return labels and weights (n,) after multiplication by class weights."""
    if isinstance(labels, SoftLabels):
        totals = labels.proba @ sample_weight
    else:
        totals = np.bincount(labels.codes, sample_weight, len(classes))
    factors = class_factors(class_weight, classes, totals)
    labels, weights = times_factors(factors, labels, sample_weight)
    name = "sample_weight times class_weight"
    return labels, validation.check_sample_weight(weights, len(weights), name)


def times_factors(factors: Array, labels: Labels, sample_weight: Array) -> tuple[Labels, Array]:
    """Return labels and weights (n,) after multiplication by a factor (K,) of each class."""
    with np.errstate(over="ignore"):
        if not isinstance(labels, SoftLabels):
            return labels, sample_weight * factors[labels.codes]
        weighted = factors[:, np.newaxis] * labels.proba
        mean = weighted.sum(axis=0)
        return SoftLabels(weighted / mean), sample_weight * mean


def class_factors(class_weight: Any, classes: Array, totals: Array) -> Array:
    """Return the factor (K,) on the weights of each class. ``totals`` (K,) are the sums of these.

    "balanced" uses sums of weights instead of numbers of rows, so a weight of 2 equals two rows.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        if not totals.all():
            raise ValueError(
                "class_weight='balanced' must have rows of every class; got none of "
                f"{classes[totals == 0.0].tolist()[0]!r}. Give factors as a dict."
            )
        return totals.sum() / (len(classes) * totals)
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight must be a dict of positive factors by class, 'balanced' or None; "
            f"got {class_weight!r}."
        )
    factors = compute_class_weight(class_weight, classes=classes, y=classes)
    if not (np.isfinite(factors).all() and (factors > 0.0).all()):
        raise ValueError(
            f"class_weight must be positive for every class; got {class_weight!r}. "
            "Leave out the rows of a class that should not count."
        )
    return factors
