"""The uncertainty set: means of labeled rows, and half-widths around them.

No other module of the mathematics uses the labels of a fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.arrays import on_host
from mgce_sklearn.concentration import (
    bernstein_deviation,
    betting_deviation,
    hoeffding_deviation,
)
from mgce_sklearn.design import Design
from mgce_sklearn.labels import Labels
from mgce_sklearn.parts import Part, Parts, RowsInMemory

Array = np.ndarray[Any, Any]

# Numbers for each copy of a row, by which blocks are made: as many rows as any other block has.
COPIES_WIDTH = 4

# Up to this, in units of the mean's square, a variance of a class may be rounding of its mean.
ROUNDING = 1e-20

# A column is constant if its range is at most so many units in the last place of its numbers.
LAST_PLACES = 8.0

# Squares of numbers between these are float64 numbers, with room for sums of them.
LARGEST_FEATURE, SMALLEST_SPREAD = 1e150, 1e-150

# A center is left out if it moves rows by no more than so many of their spreads.
NEGLIGIBLE = 1e-13

# Weights count as equal up to this squared coefficient of variation. Rounding of a million portions
# makes far less, and one different weight among a million rows far more.
UNEQUAL = 1e-9


def n_coefficient_rows(n_classes: int) -> int:
    """Return the number C of classes with coefficients: of two classes only the second."""
    return 1 if n_classes == 2 else n_classes


class ClassMoments(NamedTuple):
    """Weights, means and variances of x by class, x as it is stored.

    Attributes
    ----------
    weight : ndarray of shape (K,)
        Sum of the weights of a class' rows.
    mean : ndarray of shape (K, d)
        Relative to an origin near the rows, so that large offsets do not lose digits.
    variance : ndarray of shape (K, d)
    support : ndarray of shape (K, d)
        Sum of the weights where the feature is not 0.
    """

    weight: Array
    mean: Array
    variance: Array
    support: Array

    def joined(self, other: ClassMoments) -> ClassMoments:
        """Return the moments of both parts (Chan, Golub and LeVeque 1983, equation 2.1)."""
        weight = self.weight + other.weight
        share = (other.weight / np.where(weight > 0.0, weight, 1.0))[:, np.newaxis]
        way = other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance)
        return ClassMoments(
            weight,
            self.mean + share * way,
            variance + share * (1.0 - share) * way**2,
            self.support + other.support,
        )


class Moments(NamedTuple):
    r"""Moments of labeled rows, from which means and half-widths of the set are computed.

    Let :math:`\pi_k` be the weights of the classes, which sum to 1, and :math:`\mu_k` and
    :math:`v_k` the means and variances of x in them. For every c, the components
    onehot(y) ⊗ (x - c) have

    .. math:: \tau_k = \pi_k (\mu_k - c), \quad
              \sigma_k^2 = \pi_k v_k + \pi_k (1 - \pi_k) (\mu_k - c)^2,

    so that no difference of large numbers is needed.

    Attributes
    ----------
    n_rows : int
    concentration : float
        Sum of the squared weights over the square of their sum: 1 / n_rows if all are equal,
        and more if not.
    classes : ClassMoments
    origin : ndarray of shape (d,)
        The point that the means of the classes are relative to.
    constant : ndarray of shape (K, d)
        The value of a feature that is constant in all rows of a class, and NaN for others.
    differing : ndarray of shape (K, d)
        Sum of the weights of the rows, of all classes, where the feature has another value.
    low, high : ndarrays of shape (d,)
        Least and largest value of each feature as it is stored.
    center : ndarray of shape (d,)
        c, which ``mean`` and the methods subtract from x; 0 for the intercept.
    inverse : ndarray of shape (K, K) or None
        Inverse of the noise matrix, a row for each observed class. None: the moments are those of
        labels as observed. See the notes.

    Notes
    -----
    With a noise matrix T (a row for each true class), the components

    .. math:: Z_k = (T^{-1})_{\tilde y k} (x - c)

    of an observed label :math:`\tilde y` have the same expectation as onehot(y)_k (x - c) with the
    true label y. From the means M1 and mean squares M2 of the observed components follow

    .. math:: \tau = T^{-\top} M1, \quad \sigma^2 = (T^{-1} \circ T^{-1})^\top M2 - \tau^2 .
    """

    n_rows: int
    concentration: float
    classes: ClassMoments
    origin: Array
    constant: Array
    differing: Array
    low: Array
    high: Array
    center: Array
    inverse: Array | None = None

    @classmethod
    def of(cls, parts: Parts, n_classes: int) -> Moments:
        """Compute the moments of labeled rows, about 0.

        Raises
        ------
        ValueError
            If a feature is too large or too small to be squared.
        """
        origin = parts.like.origin()
        facts = parts.over(partial(_facts, n_classes, origin), _Facts.joined)
        check_magnitudes(facts.low, facts.high)
        constant, differing = _constants(parts, facts.classes)
        classes = facts.classes
        return cls(
            facts.n_rows,
            facts.concentration,
            classes._replace(variance=np.where(np.isnan(constant), classes.variance, 0.0)),
            origin,
            constant,
            differing,
            facts.low,
            facts.high,
            np.zeros_like(origin),
        )

    @classmethod
    def none(cls, n_classes: int, n_features: int) -> Moments:
        """Return the moments of no rows."""
        zeros, ends = np.zeros((n_classes, n_features)), np.full(n_features, np.inf)
        classes = ClassMoments(np.zeros(n_classes), zeros, zeros, zeros)
        none, at_zero = np.full_like(zeros, np.nan), np.zeros(n_features)
        return cls(0, 0.0, classes, at_zero, none, zeros, ends, -ends, at_zero)

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both parts together, about the center of this one."""
        if self.n_rows == 0:
            return other.about(self.center).unmixed(self.inverse)
        share = other.total_weight / (self.total_weight + other.total_weight)
        moved = other.classes._replace(mean=other.classes.mean + (other.origin - self.origin))
        one, another = ((part.classes.weight > 0.0)[:, np.newaxis] for part in (self, other))
        constant = np.where(one, self.constant, other.constant)
        constant = np.where(one & another & (self.constant != other.constant), np.nan, constant)
        return Moments(
            self.n_rows + other.n_rows,
            _joined_concentration(self.concentration, other.concentration, share),
            self.classes.joined(moved),
            self.origin,
            constant,
            # A part without rows of a class was not compared with the constant of the class.
            # Widths are then larger than necessary.
            self.differing + other.differing,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.center,
            self.inverse,
        )

    def about(self, center: Array) -> Moments:
        """Return the same moments about another point."""
        return self._replace(center=center)

    def unmixed(self, inverse: Array | None) -> Moments:
        """Return the moments of true labels, by the inverse of the noise matrix."""
        return self._replace(inverse=inverse)

    @property
    def total_weight(self) -> float:
        """Sum n of the weights."""
        return float(self.classes.weight.sum())

    @property
    def _shares(self) -> Array:
        """Share (K, 1) of each class in the weight."""
        return self.classes.weight[:, np.newaxis] / self.total_weight

    @property
    def _class_means(self) -> Array:
        """Means (K, d) of x - c in each class; 0 for a class without rows."""
        seen = self.classes.weight[:, np.newaxis] > 0.0
        return np.where(seen, self.classes.mean - (self.center - self.origin), 0.0)

    @property
    def mean(self) -> Array:
        """Means tau (K, d) of onehot(y) ⊗ (x - c)."""
        observed = self._shares * self._class_means
        return observed if self.inverse is None else self.inverse.T @ observed

    def row_mean(self) -> Array:
        """Return the mean (d,) of the rows as stored."""
        return self.origin + (self._shares * self.classes.mean).sum(axis=0)

    def variance(self) -> Array:
        """Return the variance of every component (K, d), by the mean over rows."""
        if self.inverse is not None:
            square = self._shares * (self.classes.variance + self._class_means**2)
            variance: Array = (self.inverse**2).T @ square - self.mean**2
            return variance.clip(min=0.0)
        # A sum, not 1 less the share: other classes may weigh next to nothing.
        others = (1.0 - np.eye(len(self._shares))) @ self._shares
        return self._shares * (self.classes.variance + others * self._class_means**2)

    def _square_about(self, point: Array) -> Array:
        """Return the mean square of (x - c) - point, for a point (d,) or points (K, d)."""
        mean = self.mean.sum(axis=0)
        around = self.classes.variance + (self._class_means - mean) ** 2
        return (self._shares * around).sum(axis=0) + (mean - point) ** 2

    def column_scale(self) -> Array:
        """Return the root mean square of each feature x - c (d,)."""
        return np.sqrt(self._square_about(np.zeros_like(self.center)))

    def spread(self) -> Array:
        """Return the standard deviation of each feature (d,)."""
        return np.sqrt(self._square_about(self.mean.sum(axis=0)))

    def offset(self) -> float:
        """Return the largest distance of the center from 0, in spreads of its column."""
        spread, center = self.spread(), np.abs(self.center)
        varies = (spread > 0.0) & ~self.idle
        return float(np.max(center[varies] / spread[varies], initial=0.0))

    @property
    def idle(self) -> Array:
        """Which features (d,) are 0 in every row, or centered and constant up to rounding."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        constant = self.high - self.low <= LAST_PLACES * np.finfo(np.float64).eps * size
        return (size == 0.0) | (constant & (self.center != 0.0))

    def deviation(self) -> Array:
        r"""Return standard deviations (K, d), with a pseudo-observation for constant features.

        A feature that is constant within a class has a variance of 0 there, although new rows may
        have another value. So :math:`s^2_{kj} / n` is added to :math:`\sigma^2_{kj}`, as if one
        such row had been observed. Here s is the root mean square distance from the constant, over
        the rows of all classes that have another value. The components of a class without rows, or
        with all of them, are constant as well. For these s is the root mean square of the rows
        that are not 0. With a noise matrix, what is added to observed classes is transformed to
        true classes like mean squares.
        """
        support = self.classes.support.sum(axis=0)
        differing = np.where(self.constant == 0.0, support, self.differing)
        differing = np.where(np.isnan(self.constant) | (differing == 0.0), np.inf, differing)
        unseen = self._square_about(self._class_means) / differing
        if self.inverse is not None:
            unseen = (self.inverse**2).T @ unseen
        variance = self.variance() + unseen
        not_zero = np.where(self.center == 0.0, support, self.total_weight)
        of_any_row = self.column_scale() ** 2 / np.where(not_zero > 0.0, not_zero, np.inf)
        sigma = np.sqrt(np.where(variance > 0.0, variance, of_any_row))
        return np.where(self.idle, 0.0, sigma)

    @property
    def equal_weights(self) -> bool:
        """Whether all rows have the same weight."""
        # By the inequality of Cauchy and Schwarz at least 1, and 1 only for equal weights.
        return self.n_rows * self.concentration <= 1.0 + UNEQUAL

    def check_equal_weights(self, kind: str) -> None:
        """Raise ValueError unless all rows have the same weight."""
        if not self.equal_weights:
            raise ValueError(
                f"sample_weight must be the same for all rows if width={kind!r}, whose "
                "probability is valid only for equal weights; got different weights. Leave them "
                "out, or use width='standard_error'."
            )


@dataclass(frozen=True)
class Width:
    r"""Method of the half-widths.

    Parameters
    ----------
    kind : str or ndarray of shape (K, d), default="standard_error"
        A name of `WIDTHS`, or the half-widths themselves.
    delta : float, default=0.05
        For "hoeffding", "bernstein" and "betting" the probability, in (0, 1), that over the
        sample some true mean lies outside.
    feature_range : pair of ndarrays of shape (d - fit_intercept,), default=None
        Least and largest value that each feature can take, known beforehand. None: those in
        the rows.

    Notes
    -----
    There are N = K d components :math:`\Phi_{kj} = \text{onehot}(y)_k \, (x_j - c_j)`. Let sigma be
    their standard deviation (by the mean over rows), and n the number of rows. The half-widths are

    - "standard_error": :math:`\text{lam} \, \sigma / \sqrt n`, with n the sum of the weights.
    - "std": :math:`\text{lam} \, \sigma`.
    - "hoeffding": :math:`r \sqrt{\ln(2N/\delta) / (2n)}`.
    - "bernstein": :math:`\sqrt{2 V L / n} + 7 r L / (3(n - 1))`, with
      :math:`L = \ln(4N/\delta)` and :math:`V = \sigma^2 n / (n - 1)`.
    - "betting": the larger of two deviations, one for each side.

    The last three are the inequalities of `concentration`, where they are derived. Every inequality
    is about one side of one component. The N components have 2N sides, so each side has a
    probability of :math:`\delta / (2N)`. For "bernstein" it is divided once more, between two
    events.

    A component is x_j - c_j or 0. So it lies in [min(0, low_j - c_j), max(0, high_j - c_j)], an
    interval of length r_j. The intercept's component lies in [0, 1]. For "betting", Z is the
    distance from either end of the interval. It is assumed that rows are independent and
    identically distributed, and that c was fixed before they were seen.
    """

    kind: str | Array = "standard_error"
    delta: float = 0.05
    feature_range: tuple[Array, Array] | None = None

    def half_width(self, moments: Moments, lam: float) -> Array:
        """Return the half-widths (K, d) for the moments of a sample.

        Raises
        ------
        ValueError
            If the method is not valid for the sample, or the shape of an array does not match it.
        """
        if not isinstance(self.kind, str):
            return _fitting(self.kind, moments)
        return _RULES[self.kind](self, moments, lam)

    def of_mean(self, variance: float, total_weight: float, lam: float) -> float:
        """Return the half-width of another mean, by a method of `SCALED_WIDTHS`."""
        n = total_weight if self.kind == "standard_error" else 1.0
        return lam * float(np.sqrt(variance / n))

    def factor(self, lam: float) -> float | None:
        """Return lam if the half-widths are multiples of it, else None."""
        scaled = isinstance(self.kind, str) and self.kind in SCALED_WIDTHS
        return float(lam) if scaled else None

    def _standard_error(self, moments: Moments, lam: float) -> Array:
        return lam * (1.0 / np.sqrt(moments.total_weight) * moments.deviation())

    def _std(self, moments: Moments, lam: float) -> Array:
        return lam * moments.deviation()

    def _hoeffding(self, moments: Moments, lam: float) -> Array:
        moments.check_equal_weights("hoeffding")
        log_term = np.log(2.0 * moments.mean.size) - np.log(self.delta)
        width = hoeffding_deviation(self._lengths(moments), moments.n_rows, log_term)
        return np.tile(width, (len(moments.mean), 1))

    def _bernstein(self, moments: Moments, lam: float) -> Array:
        moments.check_equal_weights("bernstein")
        n = moments.n_rows
        if n < 2:
            raise ValueError(
                "width='bernstein' must have at least 2 rows to estimate a variance; got 1. Add "
                "rows, or use width='hoeffding'."
            )
        log_term = np.log(4.0 * moments.mean.size) - np.log(self.delta)
        return bernstein_deviation(self._lengths(moments), moments.variance(), n, log_term)

    def _betting(self, moments: Moments, lam: float) -> Array:
        moments.check_equal_weights("betting")
        low, high = self._ends(moments)
        log_term = np.log(2.0 * moments.mean.size) - np.log(self.delta)
        variance, n = moments.variance(), moments.n_rows
        return np.maximum(
            betting_deviation(high - moments.mean, variance, n, log_term),
            betting_deviation(moments.mean - low, variance, n, log_term),
        )

    def range_of(self, moments: Moments) -> tuple[Array, Array]:
        """Return the ends (d,) of the range of x - c, 1 for the intercept's constant."""
        low, high = self._stored_range(moments)
        return low - moments.center, high - moments.center

    def _stored_range(self, moments: Moments) -> tuple[Array, Array]:
        """Return the ends (d,) of the range of x: those given, or those of the rows."""
        low, high = moments.low.copy(), moments.high.copy()
        if self.feature_range is not None:
            n_columns = len(self.feature_range[0])  # the intercept's constant is none of them
            self._check_seen(self.feature_range, low[:n_columns], high[:n_columns])
            low[:n_columns], high[:n_columns] = self.feature_range
        return low, high

    def columns_to_center(self, design: Design, moments: Moments, center: Any) -> Array:
        """Return which features (d,) to center: all or none, or some if ``center`` is "auto".

        Nothing is centered without an intercept, because a function that is linear in x - c is
        then not linear in x. "auto" centers all columns of dense rows, and the columns of sparse
        rows that are not 0 in more than half of them. In other columns centering would replace
        many zeros by one number. If the half-widths hold with a probability, the rows must not
        decide this. Then sparse columns are centered if their range does not contain 0.
        """
        chosen = isinstance(center, str)  # by us
        if not design.fit_intercept or not (chosen or center):
            return np.zeros(design.n_features, dtype=bool)
        if not (chosen and design.sparse):
            columns: Array = np.ones(design.n_features, dtype=bool)
        elif self.claims_probability:
            low, high = self._stored_range(moments)
            columns = (low > 0.0) | (high < 0.0)
        else:
            columns = moments.classes.support.sum(axis=0) > 0.5 * moments.total_weight
        columns[-1] = False  # the intercept's constant
        return columns

    def centered(self, moments: Moments, columns: Array) -> Moments:
        """Return moments about the point c that the means of the set are taken about.

        In the given ``columns`` it is the mean of the rows, so that nothing depends on offsets. If
        the half-widths hold with a probability it is the middle of the range, which is known
        beforehand. In other columns it is 0.
        """
        if self.claims_probability:
            low, high = self._stored_range(moments)
            center = low + (high - low) / 2.0
        else:
            center = moments.row_mean()
        # Columns that are centered already stay the same to the last digit.
        needed = columns & (np.abs(center) > NEGLIGIBLE * moments.spread())
        return moments.about(np.where(needed, center, 0.0))

    @property
    def claims_probability(self) -> bool:
        """Whether the half-widths hold with a probability."""
        return isinstance(self.kind, str) and self.kind in PROBABLE_WIDTHS

    def _ends(self, moments: Moments) -> tuple[Array, Array]:
        """Return the ends (d,) of the intervals in which the components x_j - c_j or 0 lie."""
        low, high = self.range_of(moments)
        return np.minimum(low, 0.0), np.maximum(high, 0.0)

    def _lengths(self, moments: Moments) -> Array:
        """Return the lengths r (d,) of these intervals."""
        low, high = self._ends(moments)
        return high - low

    @staticmethod
    def _check_seen(ends: tuple[Array, Array], seen_low: Array, seen_high: Array) -> None:
        """Raise ValueError if rows, perhaps of earlier portions, were outside the range."""
        low, high = ends
        outside = (seen_low < low) | (seen_high > high)
        if outside.any():
            j = int(np.argmax(outside))
            raise ValueError(
                f"feature_range must contain all rows so far; column {j} was from {seen_low[j]} to "
                f"{seen_high[j]}, beyond [{low[j]}, {high[j]}]. Widen the range."
            )


STANDARD_ERROR = Width()

_RULES: dict[str, Callable[[Width, Moments, float], Array]] = {
    "standard_error": Width._standard_error,
    "std": Width._std,
    "hoeffding": Width._hoeffding,
    "bernstein": Width._bernstein,
    "betting": Width._betting,
}
WIDTHS = tuple(_RULES)

# Widths that are multiples of lam, and widths that hold with a probability. The latter need rows of
# equal weight.
SCALED_WIDTHS = ("standard_error", "std")
PROBABLE_WIDTHS = ("hoeffding", "bernstein", "betting")


def check_magnitudes(low: Array, high: Array) -> None:
    """Raise ValueError if squares of features, or of their spreads, are no float64 numbers.

    Parameters
    ----------
    low, high : ndarrays of shape (d,)
        Least and largest value of each feature.
    """
    size, spread = np.maximum(np.abs(low), np.abs(high)), high / 2.0 - low / 2.0
    extreme = (size > LARGEST_FEATURE) | ((spread > 0.0) & (spread < SMALLEST_SPREAD))
    if extreme.any():
        j = int(np.argmax(extreme))
        raise ValueError(
            f"X must have columns up to {LARGEST_FEATURE:g} in size, with spreads above "
            f"{SMALLEST_SPREAD:g} unless constant; column {j} is from {low[j]:g} to {high[j]:g}. "
            "Give it in another unit, or drop the rows that are outliers."
        )


class _Facts(NamedTuple):
    """Moments and ranges of some rows."""

    n_rows: int
    concentration: float
    classes: ClassMoments
    low: Array
    high: Array

    def joined(self, other: _Facts) -> _Facts:
        """Return the facts of both parts."""
        weight, more = self.classes.weight.sum(), other.classes.weight.sum()
        return _Facts(
            self.n_rows + other.n_rows,
            _joined_concentration(self.concentration, other.concentration, more / (weight + more)),
            self.classes.joined(other.classes),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


def _joined_concentration(one: float, other: float, share: float) -> float:
    """Return `Moments.concentration` of two parts, of which the other has a weight share."""
    return float((1.0 - share) ** 2 * one + share**2 * other)


@np.errstate(over="ignore", invalid="ignore")  # magnitudes are checked when all are known
def _facts(n_classes: int, origin: Array, part: Part) -> _Facts:
    labels: Any = part.labels  # asked for where they are known
    return reduce(
        _Facts.joined,
        (
            _facts_of_block(n_classes, origin, block)
            for block in part.blocks(COPIES_WIDTH * labels.n_copies)
        ),
    )


def _facts_of_block(n_classes: int, origin: Array, block: Part) -> _Facts:
    labels: Any = block.labels
    design = block.design
    weights = on_host(design.sample_weight)
    return _Facts(
        block.n_rows,
        float(np.sum((weights / weights.sum()) ** 2)),
        ClassMoments(*design.class_moments(labels, n_classes, origin)),
        *design.column_range(),
    )


def _constants(parts: Parts, classes: ClassMoments) -> tuple[Array, Array]:
    """Return `Moments.constant` and `Moments.differing` of labeled rows.

    If a variance may be rounding, rows are compared with the first row of their class.
    """
    varies = classes.variance > ROUNDING * classes.mean**2
    n_columns = parts.like.n_columns
    if varies[classes.weight > 0.0, :n_columns].all():
        return np.full_like(classes.mean, np.nan), np.zeros_like(classes.mean)
    first = parts.over(partial(_first_rows, len(varies)), _first_of)
    first[varies] = np.nan
    compared = np.where(first == 0.0, np.nan, first)
    own, total = parts.sum(partial(_differing, compared))
    own = np.where(first == 0.0, classes.support, own)
    return np.where(own > 0.0, np.nan, first), total


def _first_rows(n_classes: int, part: Part) -> Array:
    labels: Any = part.labels
    return part.design.first_rows(labels, n_classes)


def _first_of(one: Array, other: Array) -> Array:
    return np.where(np.isnan(one), other, one)


def _differing(values: Array, part: Part) -> tuple[Array, Array]:
    labels: Any = part.labels
    return part.design.differing(labels, values)


def _fitting(half_width: Array, moments: Moments) -> Array:
    """Return half-widths given as an array, checked."""
    if half_width.shape != moments.constant.shape:
        raise ValueError(
            f"width must have a row for each class and a column for each feature, with the "
            f"intercept's last if there is one: shape {moments.constant.shape}; got shape "
            f"{half_width.shape}."
        )
    # The coefficient of a feature that is always 0 has no effect. It may have no width.
    valid = np.isfinite(half_width) & ((half_width > 0.0) | (moments.idle & (half_width == 0.0)))
    if not valid.all():
        k, j = np.argwhere(~valid)[0]
        raise ValueError(
            f"width must be positive and finite; row {k}, column {j} has {half_width[k, j]}. Try a "
            "small positive number: without a width the duality gap cannot be computed."
        )
    return half_width


@dataclass(frozen=True)
class UncertaintySet:
    r"""Distributions whose feature means lie near those of the sample.

    .. math:: \{ P : |E_P[\Phi(x, y)] - \tau| \le \lambda, \; P_x = \text{sample's } x \},
              \quad \Phi(x, y) = \text{onehot}(y) \otimes (x - c)

    Parameters
    ----------
    tau : ndarray of shape (K, d)
        Mean of the feature map over the sample, in units of the feature.
    half_width : ndarray of shape (K, d)
        Half-widths, non-negative, in units of the feature. 0 for a feature that was constant.
    center : ndarray of shape (d,), or 0, default=0
        The point c that is subtracted from the rows, in units of the feature.

    Notes
    -----
    The last column belongs to the intercept's constant feature where there is one; its c is 0.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> found = MGCEClassifier(lam=0.3).fit(X, y).uncertainty_set_
    >>> found.tau.shape, bool((found.half_width > 0).all())  # the intercept is last
    ((3, 5), True)
    """

    tau: Array
    half_width: Array
    center: Array | float = 0.0

    @classmethod
    def from_sample(
        cls,
        design: Design,
        labels: Labels,
        n_classes: int,
        lam: float,
        width: Width = STANDARD_ERROR,
    ) -> UncertaintySet:
        r"""Estimate means and widths from labeled rows.

        .. math:: \tau = \operatorname{mean} \Phi, \quad
                  \sigma^2 = \operatorname{mean} \Phi^2 - \tau^2, \quad
                  \lambda = \text{lam} \, \sigma / \sqrt{n}

        with weighted means and n the sum of the weights, so that a weight of 2 equals the
        same row twice. `Width` has other methods for lambda.

        Parameters
        ----------
        design : Design
        labels : Labels
        n_classes : int
        lam : float
            Half-width in standard errors, or in the unit of ``width``.
        width : Width, default=standard errors
        """
        moments = Moments.of(RowsInMemory.of(design, labels), n_classes)
        moments = moments.about(design.center_point())
        return cls.from_moments(moments, lam, width)

    @classmethod
    def from_moments(
        cls, moments: Moments, lam: float, width: Width = STANDARD_ERROR
    ) -> UncertaintySet:
        """Estimate the same from the moments of the rows."""
        return cls(moments.mean, width.half_width(moments, lam), moments.center)

    def widened(self, factor: float) -> UncertaintySet:
        """Return the set with every half-width multiplied by a factor.

        The set of one standard error, widened by lam, is that of lam standard errors.
        """
        return replace(self, half_width=factor * self.half_width)

    def of_coefficients(self, mean: Array | None = None) -> UncertaintySet:
        """Return the set of the classes with coefficients: of two the second, otherwise all.

        Parameters
        ----------
        mean : ndarray of shape (d,), default=None
            Mean of the features. None: that of the sample, the sum of tau over classes.
        """
        n_classes = len(self.tau)
        return self.binary(mean) if n_coefficient_rows(n_classes) < n_classes else self

    def binary(self, mean: Array | None = None) -> UncertaintySet:
        """Reduce two classes to the coefficients of the second, with those of the first at zero.

        The potential depends only on the difference w = W_1 - W_0. Of all ways to split w, the
        cheapest puts it where the half-width is smaller. So the width min(lambda_0, lambda_1) on w
        gives the same optimum as both widths on W_0 and W_1.

        With another mean of the features than the sample's, the two classes give two intervals for
        the mean of the second class, whose middles differ. The result is their intersection.
        """
        if mean is None:
            width = self.half_width.min(axis=0, keepdims=True)
            return UncertaintySet(self.tau[1:], width, self.center)
        first, second = self.tau
        middle = np.stack([mean - first, second])
        low = np.max(middle - self.half_width, axis=0, keepdims=True)
        high = np.min(middle + self.half_width, axis=0, keepdims=True)
        return UncertaintySet((low + high) / 2.0, np.maximum(high - low, 0.0) / 2.0, self.center)

    def columns(self, columns: Array) -> UncertaintySet:
        """Return the set of some of the features."""
        center = np.broadcast_to(self.center, len(self.tau.T))[columns]
        return UncertaintySet(self.tau[:, columns], self.half_width[:, columns], center)
