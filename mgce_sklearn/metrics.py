"""Calibration errors: how far predicted probabilities are from observed frequencies.

A classifier is calibrated if, among the rows to which it gives probability p, the event happens in
a share p of them. To measure this, rows of similar probability are put into bins. In each bin the
mean probability is compared with the frequency of the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgce_sklearn import constraints, validation

Array = np.ndarray[Any, Any]

STRATEGIES = ("uniform", "quantile")

PARAMETERS = {"n_bins": constraints.COUNT, "strategy": constraints.one_of(STRATEGIES)}


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of confidence: the numbers of a reliability diagram.

    Attributes
    ----------
    confidence, accuracy : ndarray of shape (n_bins,)
        Weighted means within each bin that has weight, in [0, 1].
    count : ndarray of shape (n_bins,)
        Number of rows of each of these bins; with sample weights, the sum of their weights.
    share : ndarray of shape (n_bins,)
        Share of the weight that each of these bins has, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from mgce_sklearn.metrics import Reliability
    >>> found = Reliability.measure(np.array([0.6, 0.6, 0.9]), np.array([True, False, True]))
    >>> print(found.accuracy, round(found.error, 3))
    [0.5 1. ] 0.1
    """

    confidence: Array
    accuracy: Array
    count: Array

    @classmethod
    def measure(
        cls,
        confidence: Array,
        correct: Array,
        sample_weight: Array | None = None,
        n_bins: int = 15,
        strategy: str = "uniform",
    ) -> Reliability:
        """Average within each bin. Arguments are not checked.

        Parameters
        ----------
        confidence : ndarray of shape (n_samples,)
            Probabilities in [0, 1] of an event, for example that the prediction is correct.
        correct : ndarray of shape (n_samples,)
            Whether the event occurred.
        sample_weight : ndarray of shape (n_samples,), default=None
            Non-negative.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            As in `expected_calibration_error`.

        Returns
        -------
        Reliability
        """
        weights = np.ones(len(confidence)) if sample_weight is None else sample_weight
        bins = (
            equal_width_bins(confidence, n_bins)
            if strategy == "uniform"
            else equal_mass_bins(confidence, weights, n_bins)
        )
        mass = np.bincount(bins, weights)
        used = mass > 0.0
        mean_confidence, accuracy = (
            np.bincount(bins, weights * values)[used] / mass[used]
            for values in (confidence, correct)
        )
        return cls(mean_confidence, accuracy, mass[used])

    @property
    def share(self) -> Array:
        """Share of the weight that each bin has."""
        return self.count / self.count.sum()

    @property
    def error(self) -> float:
        """Mean of abs(confidence - accuracy) over bins, weighted by ``share``."""
        return float(self.share @ np.abs(self.confidence - self.accuracy))


def equal_width_bins(values: Array, n_bins: int) -> Array:
    """Return the bin of each value. Bins are of equal width and closed on the right.

    0 belongs to the first bin.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In [0, 1].
    n_bins : int
        Number of bins.

    Returns
    -------
    ndarray of shape (n,)
        Integers from 0 to n_bins - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mgce_sklearn.metrics import equal_width_bins
    >>> print(equal_width_bins(np.array([0.0, 0.5, 0.6, 1.0]), 2))
    [0 0 1 1]
    """
    ends = np.linspace(0.0, 1.0, n_bins + 1)
    return np.searchsorted(ends[1:-1], values, side="left")


def equal_mass_bins(values: Array, weights: Array, n_bins: int) -> Array:
    """Return the bin of each value. Bins hold the same weight, as nearly as ties permit.

    Equal values form one block. The bin of a block is where the middle of its weight is. So bins do
    not depend on the order of rows, and a row of weight 2 is equivalent to two copies of it. A
    value of very many rows may fill a bin alone, and other bins stay empty.

    Parameters
    ----------
    values, weights : ndarray of shape (n,)
        Weights are non-negative, not all zero.
    n_bins : int
        Number of bins.

    Returns
    -------
    ndarray of shape (n,)
        Integers from 0 to n_bins - 1, in the order of the values.

    Examples
    --------
    >>> import numpy as np
    >>> from mgce_sklearn.metrics import equal_mass_bins
    >>> print(equal_mass_bins(np.array([0.6, 0.9, 0.9, 0.9, 0.7, 1.0]), np.ones(6), 3))
    [0 1 1 1 0 2]
    """
    _, block = np.unique(values, return_inverse=True)
    mass = np.bincount(block, weights)
    middle = (np.cumsum(mass) - mass / 2.0) / mass.sum()
    # A middle on the border of two bins goes to the upper one, whatever the rounding of the sums.
    bins = np.floor(n_bins * middle + 1e-9).astype(int)
    return np.minimum(bins, n_bins - 1)[block]


def expected_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    labels: Any = None,
    sample_weight: Any = None,
) -> float:
    r"""Compute the expected calibration error, which is about the predicted class.

    Let :math:`B_b` be the rows whose largest probability is in bin b, and :math:`w(B_b)` their
    share of the total weight. The error is

    .. math::

        \sum_b w(B_b) \, |\operatorname{acc}(B_b) - \operatorname{conf}(B_b)| ,

    where conf is the mean of the largest probability, and acc is the share of rows whose label is
    the class of the largest probability.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any dtype.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Probabilities in [0, 1], in an array or a tensor of any floating-point type, bfloat16
        included. Columns are in the sorted order of the labels. A vector has the probabilities of
        the second class.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        "uniform": bins of equal width in [0, 1], closed on the right. "quantile": bins of equal
        weight. Equal probabilities are always in one bin, so the order of rows does not matter,
        and the weights of bins are as nearly equal as that permits.
    labels : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y_true``.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative.

    Returns
    -------
    float
        In [0, 1]; 0 for a classifier whose confidence equals its accuracy in every bin.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Notes
    -----
    If several classes have the largest probability, the first is the predicted one. With few rows
    the error is biased upwards, and the bias grows with the number of bins.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, equation (3).

    Examples
    --------
    >>> from mgce_sklearn.metrics import expected_calibration_error
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
    >>> print(round(expected_calibration_error(["a", "a", "a", "b"], y_proba), 3))
    0.2

    As a score in a search:

    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(
    ...     expected_calibration_error, response_method="predict_proba", greater_is_better=False
    ... )
    """
    return top_label_reliability(
        y_true,
        y_proba,
        n_bins=n_bins,
        strategy=strategy,
        labels=labels,
        sample_weight=sample_weight,
    ).error


def static_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    labels: Any = None,
    sample_weight: Any = None,
) -> float:
    r"""Compute the calibration error of the probabilities of each class, averaged over classes.

    Let :math:`B_{bk}` be the rows whose probability of class k is in bin b, and :math:`w(B_{bk})`
    their share of the total weight. The error is

    .. math::

        \frac1K \sum_k \sum_b w(B_{bk}) \, |\operatorname{acc}_k(B_{bk})
        - \operatorname{conf}_k(B_{bk})| ,

    where conf is the mean probability of class k, and acc is the share of rows of that class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any dtype.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Probabilities in [0, 1], in an array or a tensor of any floating-point type, bfloat16
        included. Columns are in the sorted order of the labels. A vector has the probabilities of
        the second class.
    n_bins : int, default=15
        Number of bins for each class.
    strategy : {"uniform", "quantile"}, default="uniform"
        As in `expected_calibration_error`. With "quantile" this is the adaptive calibration error
        of [1]_.
    labels : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y_true``.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative.

    Returns
    -------
    float
        In [0, 1]. With many classes most probabilities are near 0, and so is this mean. Compare it
        between classifiers, not between data sets.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    References
    ----------
    .. [1] J. Nixon, M. Dusenberry, L. Zhang, G. Jerfel and D. Tran, "Measuring Calibration in
       Deep Learning", CVPR Workshops 2019: static and adaptive calibration error.

    Examples
    --------
    >>> from mgce_sklearn.metrics import static_calibration_error
    >>> y_proba = [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]
    >>> print(round(static_calibration_error(["a", "b"], y_proba, labels=["a", "b", "c"]), 3))
    0.267
    """
    of_each_class = class_reliabilities(
        y_true,
        y_proba,
        n_bins=n_bins,
        strategy=strategy,
        labels=labels,
        sample_weight=sample_weight,
    )
    return float(np.mean([found.error for found in of_each_class.values()]))


def top_label_reliability(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    labels: Any = None,
    sample_weight: Any = None,
) -> Reliability:
    """Compare the largest probability of each row with the accuracy of the class that has it.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any dtype.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Probabilities in [0, 1], as in `expected_calibration_error`.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        As in `expected_calibration_error`.
    labels : array-like of shape (n_classes,), default=None
        All classes, if ``y_true`` lacks some.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative.

    Returns
    -------
    Reliability
        A number for each bin that has rows. Its ``error`` is `expected_calibration_error`.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.metrics import top_label_reliability
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
    >>> print(top_label_reliability(["a", "a", "a", "b"], y_proba).accuracy)
    [0.5 1. ]
    """
    codes, _, proba, weights = _checked(y_true, y_proba, n_bins, strategy, labels, sample_weight)
    correct = proba.argmax(axis=1) == codes
    return Reliability.measure(proba.max(axis=1), correct, weights, n_bins, strategy)


def class_reliabilities(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    labels: Any = None,
    sample_weight: Any = None,
) -> dict[Any, Reliability]:
    """Compare the probabilities of each class with the share of rows that are of this class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of any dtype.
    y_proba : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
        Probabilities in [0, 1], as in `expected_calibration_error`.
    n_bins : int, default=15
        Number of bins of each class.
    strategy : {"uniform", "quantile"}, default="uniform"
        As in `expected_calibration_error`.
    labels : array-like of shape (n_classes,), default=None
        All classes, if ``y_true`` lacks some.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative.

    Returns
    -------
    dict
        The `Reliability` of each class, by its label, in sorted order. The mean of their ``error``
        is `static_calibration_error`.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.metrics import class_reliabilities
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
    >>> print(class_reliabilities(["a", "a", "a", "b"], y_proba)["b"].accuracy)
    [0.  0.5]
    """
    checked = _checked(y_true, y_proba, n_bins, strategy, labels, sample_weight)
    codes, classes, proba, weights = checked
    return {
        label: Reliability.measure(column, codes == k, weights, n_bins, strategy)
        for k, (label, column) in enumerate(zip(classes.tolist(), proba.T, strict=True))
    }


def _checked(
    y_true: Any, y_proba: Any, n_bins: Any, strategy: Any, labels: Any, sample_weight: Any
) -> tuple[Array, Array, Array, Array]:
    """Return the labels' columns (n,), the classes (K,), probabilities (n, K) and weights (n,)."""
    constraints.check_all({"n_bins": n_bins, "strategy": strategy}, PARAMETERS)
    proba = validation.check_numbers("y_proba", y_proba)
    if proba.ndim == 1:
        proba = np.column_stack([1.0 - proba, proba])
    proba = validation.check_proba("y_proba", proba)
    y_true, classes = validation.check_label_array("y_true", y_true)
    if labels is not None:
        classes = validation.distinct_labels("labels", labels)
    if len(y_true) != len(proba):
        raise ValueError(
            f"y_true must have a label for each row of y_proba, {len(proba)}; got {len(y_true)}."
        )
    if len(classes) != proba.shape[1]:
        raise ValueError(
            f"y_proba must have a column for each class, {classes.tolist()}; got {proba.shape[1]}. "
            "If some classes do not occur in y_true, give all of them as labels."
        )
    codes = validation.check_labels(y_true, classes)
    return codes, classes, proba, validation.check_sample_weight(sample_weight, len(proba))
