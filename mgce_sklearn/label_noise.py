"""Label noise: added for experiments, its rate estimated, and the answers of annotators."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.utils import check_random_state

from mgce_sklearn import constraints, validation

Array = np.ndarray[Any, Any]

# Logarithms of temperatures to compare, from 1/50 to 20. With noise the best may be very low.
LOG_TEMPERATURES = np.linspace(np.log(1 / 50), np.log(20.0), 40)

# A rate is plausible if its log-likelihood, summed over rows, is at most PLAUSIBLE below the
# largest. There is a warning if plausible rates are more than WIDE apart.
PLAUSIBLE, WIDE = 2.0, 0.1

N_CLASSES = constraints.Constraint((Integral,), lambda n: n >= 2, "an integer of at least 2")


def symmetric_transition(n_classes: int, rate: float) -> Array:
    """Return the transition matrix of symmetric noise: all wrong labels are equally likely.

    Parameters
    ----------
    n_classes : int
        At least 2.
    rate : float
        Probability in [0, 1] that a label changes.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        ``1 - rate`` on the diagonal and ``rate / (n_classes - 1)`` elsewhere.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import symmetric_transition
    >>> print(symmetric_transition(3, 0.2))
    [[0.8 0.1 0.1]
     [0.1 0.8 0.1]
     [0.1 0.1 0.8]]
    """
    _check_noise(n_classes, rate)
    return validation.symmetric_matrix(n_classes, rate)


def pair_flip_transition(n_classes: int, rate: float) -> Array:
    """Return the transition matrix of pair-flip noise: a wrong label is the next class.

    The class after the last one is the first one.

    Parameters
    ----------
    n_classes : int
        At least 2.
    rate : float
        Probability in [0, 1] that a label changes.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        ``1 - rate`` on the diagonal and ``rate`` to the right of it, cyclically.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import pair_flip_transition
    >>> print(pair_flip_transition(3, 0.2))
    [[0.8 0.2 0. ]
     [0.  0.8 0.2]
     [0.2 0.  0.8]]
    """
    _check_noise(n_classes, rate)
    same = np.eye(n_classes)
    return (1.0 - rate) * same + rate * np.roll(same, 1, axis=1)


def _check_noise(n_classes: int, rate: float) -> None:
    N_CLASSES.check("n_classes", n_classes)
    constraints.RATE.check("rate", rate)


def symmetric_noise(y: Any, rate: float, *, classes: Any = None, random_state: Any = None) -> Array:
    """Replace each label, with probability ``rate``, by another class drawn uniformly.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    rate : float
        Probability in [0, 1] that a label changes.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y``.
    random_state : int, RandomState instance or None, default=None
        Seed of the random draws.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, if that can hold all classes.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import symmetric_noise
    >>> print(symmetric_noise(["a", "b", "c"] * 3, 0.3, random_state=0))
    ['a' 'b' 'c' 'a' 'b' 'c' 'a' 'c' 'c']
    """
    codes, classes = _codes(y, classes)
    return _redrawn(codes, classes, symmetric_transition(len(classes), rate), random_state)


def pair_flip_noise(y: Any, rate: float, *, classes: Any = None, random_state: Any = None) -> Array:
    """Replace each label, with probability ``rate``, by the next class in sorted order.

    The class after the last one is the first one.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    rate : float
        Probability in [0, 1] that a label changes.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y``.
    random_state : int, RandomState instance or None, default=None
        Seed of the random draws.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, if that can hold all classes.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import pair_flip_noise
    >>> print(pair_flip_noise(["a", "b", "c"] * 3, 1.0))
    ['b' 'c' 'a' 'b' 'c' 'a' 'b' 'c' 'a']
    """
    codes, classes = _codes(y, classes)
    return _redrawn(codes, classes, pair_flip_transition(len(classes), rate), random_state)


def matrix_noise(
    y: Any, transition: Any, *, classes: Any = None, random_state: Any = None
) -> Array:
    """Replace each label by one drawn from the row of its class in a transition matrix.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    transition : array-like of shape (n_classes, n_classes)
        Probabilities, with a row for each true class and a column for each observed label, in
        sorted order. Rows sum to 1.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y``.
    random_state : int, RandomState instance or None, default=None
        Seed of the random draws.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, if that can hold all classes.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import matrix_noise
    >>> print(matrix_noise([3, 3, 3, 5, 5, 5], [[1, 0], [0.5, 0.5]], random_state=0))
    [3 3 3 5 3 5]
    """
    codes, classes = _codes(y, classes)
    transition = validation.check_transition("transition", transition, len(classes))
    return _redrawn(codes, classes, transition, random_state)


def symmetric_rate(proba: Any, y: Any, *, classes: Any = None) -> float:
    r"""Estimate the rate of symmetric label noise from held-out probabilities.

    The rate r and a temperature T maximize the mean log-likelihood of the observed labels,

    .. math:: \log\Bigl((1 - r) p_{iy_i} + \frac{r}{K - 1} (1 - p_{iy_i})\Bigr),
        \quad p_{ik} = \frac{P_{ik}^{1/T}}{\sum_j P_{ij}^{1/T}}.

    Without T, r would be near 0: a classifier that was fitted to wrong labels has probabilities P
    that allow for them already. With T, r is determined by how often labels disagree with the
    classifier where it is most confident.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        Probabilities P of rows that the classifier has not seen, such as those of
        `~sklearn.model_selection.cross_val_predict`, classes in sorted order.
    y : array-like of shape (n_samples,)
        Observed labels of any dtype.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y``.

    Returns
    -------
    float
        In [0, 1 - 1 / n_classes]. At the upper end labels are independent of the probabilities.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used.

    Warns
    -----
    UserWarning
        If rates more than 0.1 apart explain the labels about equally well.

    Notes
    -----
    *Assumptions.* The noise is symmetric, and there are rows that the classifier can predict with
    certainty: its own errors in rows where it is most confident count as noise. The data do not
    show if the noise is of another kind. With pair-flip noise of 30%, estimates were anything from
    0 to 0.35.

    *Accuracy.* With symmetric noise of 0, 20 and 40%, on eight real data sets of up to 3,000 rows,
    with probabilities from five folds, the largest error was 0.036 for a forest, 0.048 for logistic
    regression, and 0.077 for `MGCEClassifier`, or 0.113 at q = 1, where there was no warning.
    There was a warning in 8 of 96 cases, all with 40% (``benchmarks/label_noise.py``).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import cross_val_predict
    >>> from mgce_sklearn.label_noise import symmetric_noise, symmetric_rate
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = symmetric_noise(y, 0.3, random_state=0)
    >>> forest = RandomForestClassifier(min_samples_leaf=3, random_state=0)
    >>> proba = cross_val_predict(forest, X, noisy, method="predict_proba")
    >>> print(round(symmetric_rate(proba, noisy), 1), round((noisy != y).mean(), 1))
    0.3 0.3
    """
    proba, codes = _held_out(proba, y, classes)
    with np.errstate(divide="ignore"):
        logs = np.log(proba)
    # The likelihood may have several maxima over the temperature. A grid finds the highest.
    losses, rates = np.array([_rate_at(log, logs, codes) for log in LOG_TEMPERATURES]).T
    best = int(np.argmin(losses))
    found = minimize_scalar(
        lambda log: _rate_at(log, logs, codes)[0],
        bounds=LOG_TEMPERATURES[[max(best - 1, 0), min(best + 1, len(losses) - 1)]],
        method="bounded",
    )
    loss, rate = min((losses[best], rates[best]), _rate_at(found.x, logs, codes))
    _warn_of_a_range(rates[losses <= loss + PLAUSIBLE / len(codes)])
    return float(rate)


def _warn_of_a_range(rates: Array) -> None:
    """Warn if plausible rates are far apart."""
    if len(rates) and np.ptp(rates) > WIDE:
        warnings.warn(
            f"Labels do not determine the rate: rates from {rates.min():.2f} to {rates.max():.2f} "
            "explain them about equally well. Try more rows, or the probabilities of a classifier "
            "that is more confident of some rows.",
            UserWarning,
            stacklevel=3,
        )


def _rate_at(log_temperature: float, logs: Array, codes: Array) -> tuple[float, float]:
    """Return the smallest mean loss of labels at a temperature, and the rate at which it is."""
    rows = np.arange(len(codes))
    likelihood = np.exp(log_softmax(logs / np.exp(log_temperature), axis=1)[rows, codes])
    others = (1.0 - likelihood) / (logs.shape[1] - 1)

    def loss(rate: float) -> float:
        with np.errstate(divide="ignore"):
            return float(-np.log((1.0 - rate) * likelihood + rate * others).mean())

    # The loss is convex in the rate. The search does not reach the ends of its interval, so the
    # lower end is compared below.
    found = minimize_scalar(
        loss, bounds=(0.0, 1.0 - 1.0 / logs.shape[1]), method="bounded", options={"xatol": 1e-8}
    )
    return min((loss(0.0), 0.0), (float(found.fun), float(found.x)))


def estimated_transition(proba: Any, y: Any, *, classes: Any = None) -> Array:
    """Estimate the transition matrix of label noise, by cleanlab's count of confident rows.

    It is cleanlab's estimate of the joint distribution of observed labels and true classes,
    `cleanlab.count.estimate_joint` [1]_, divided by the frequency of each true class. In short: a
    row counts for a class if its probability of the class is at least the mean probability of that
    class among the rows with this label.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        Probabilities of rows that the classifier has not seen, such as those of
        `~sklearn.model_selection.cross_val_predict`, classes in sorted order.
    y : array-like of shape (n_samples,)
        Observed labels of any dtype.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``y``.

    Returns
    -------
    ndarray of shape (n_classes, n_classes)
        A row for each true class, a column for each observed label. Rows sum to 1.

    Raises
    ------
    ImportError
        If cleanlab is not installed: ``pip install 'mgce_sklearn[noise]'``.
    TypeError, ValueError
        If an argument cannot be used, or if no row counts for a class.

    Notes
    -----
    The classifier's own errors count as noise. So where classes overlap, using the matrix may do
    more harm than good. For the data set letter, whose labels are correct, the matrix from
    probabilities of logistic regression makes 14% of all labels wrong, and 52% of those of one
    class; that from a forest makes 1% and 4% wrong. With 40% wrong labels, the largest error of an
    entry over eight data sets was 0.22 with a forest and 0.41 with logistic regression
    (``benchmarks/label_noise.py``). For symmetric noise, `symmetric_rate` is more accurate.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in
       Dataset Labels", Journal of Artificial Intelligence Research 70, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.model_selection import cross_val_predict
    >>> from mgce_sklearn.label_noise import estimated_transition, pair_flip_noise
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = pair_flip_noise(y, 0.3, random_state=0)
    >>> forest = RandomForestClassifier(min_samples_leaf=3, random_state=0)
    >>> proba = cross_val_predict(forest, X, noisy, method="predict_proba")
    >>> print(estimated_transition(proba, noisy)[3, [3, 4]].round(1))  # doctest: +SKIP
    [0.7 0.3]
    """
    proba, codes = _held_out(proba, y, classes)
    try:
        from cleanlab.count import estimate_joint
    except ImportError:
        raise ImportError(
            "estimated_transition needs cleanlab: pip install 'mgce_sklearn[noise]'."
        ) from None
    joint = estimate_joint(codes, proba)  # a row for each label
    frequency = joint.sum(axis=0)
    if not frequency.all():
        raise ValueError(
            "proba must predict every class confidently in at least one row; class number "
            f"{int(np.argmin(frequency))} (counted from 0) it never predicts confidently. Try a "
            "better classifier or more rows, or estimate symmetric_rate."
        )
    return (joint / frequency).T


def _held_out(proba: Any, y: Any, classes: Any) -> tuple[Array, Array]:
    """Return probabilities, and the labels' positions among their columns."""
    proba = validation.check_proba("proba", proba)
    codes, classes = _codes(y, classes)
    if proba.shape != (len(codes), len(classes)):
        raise ValueError(
            f"proba must have a row for each label and a column for each class, shape "
            f"{(len(codes), len(classes))}; got shape {proba.shape}. If some classes do not occur "
            "in y, give all of them as classes."
        )
    return proba, codes


def votes(answers: Any, *, classes: Any = None, missing: Any = None) -> Any:
    """Turn the answers of several annotators into distributions over classes.

    The probability of a class is its share of the answers in the row. All annotators who answered
    count equally.

    Parameters
    ----------
    answers : array-like or dataframe of shape (n_samples, n_annotators)
        Labels of any dtype. NaN, None and pandas' NA are missing answers. Whole numbers in float
        columns become integers.
    classes : array-like of shape (n_classes,), default=None
        All classes. Needed if some do not occur in ``answers``.
    missing : label, default=None
        Another label that means a missing answer, such as -1.

    Returns
    -------
    ndarray or dataframe of shape (n_samples, n_classes)
        Rows sum to 1. Columns are the classes in sorted order. If ``answers`` is a dataframe, so is
        the result; its columns are named by classes, and it has the index of ``answers``.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or if a row has no answer.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import votes
    >>> print(votes([["cat", "dog", "dog", None], [None, "dog", None, None]]).round(2))
    [[0.33 0.67]
     [0.   1.  ]]
    >>> print(votes([[0, 2, -1], [1, 1, 0]], missing=-1).round(2))
    [[0.5  0.   0.5 ]
     [0.33 0.67 0.  ]]
    """
    table = answers if isinstance(answers, np.ndarray) else np.asarray(answers, dtype=object)
    if table.ndim != 2:
        raise ValueError(
            "answers must have two dimensions, a row for each sample and a column for each "
            f"annotator; got shape {table.shape}."
        )
    given = ~_gaps(table, missing)
    unanswered = ~given.any(axis=1)
    if unanswered.any():
        raise ValueError(
            "answers must have at least one in every row; row "
            f"{int(np.argmax(unanswered))} has none. Drop such rows, also from X."
        )
    rows, columns = np.nonzero(given)
    labels, present = validation.check_label_array("answers", _of_one_type(table[given]))
    known = validation.check_classes(present if classes is None else classes, None, begun=False)
    strange = ~np.isin(labels, known)
    if strange.any():
        first = int(np.argmax(strange))
        raise ValueError(
            f"answers must be among classes, {known.tolist()}; row {rows[first]}, column "
            f"{columns[first]} has {labels.tolist()[first]!r}. If it means a missing answer, pass "
            "it as missing."
        )
    cells = rows * len(known) + np.searchsorted(known, labels)
    counts = np.bincount(cells, minlength=len(table) * len(known)).reshape(len(table), -1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    is_frame = hasattr(answers, "iloc")
    return type(answers)(shares, index=answers.index, columns=known) if is_frame else shares


def _gaps(table: Array, missing: Any) -> Array:
    """Return a mask of missing answers."""
    if table.dtype.kind == "f":
        gaps = np.isnan(table)
    elif table.dtype == object:
        gaps = np.frompyfunc(validation.is_missing, 1, 1)(table).astype(bool)
    else:
        gaps = np.zeros(table.shape, dtype=bool)
    if missing is not None:
        gaps[~gaps] = table[~gaps] == missing
    return gaps


def _of_one_type(labels: Array) -> Array:
    """Return labels in the type that they have without missing answers; strings stay as they are.

    Missing answers turn labels into objects, and integers into floats.
    """
    narrowed = np.asarray(labels.tolist())
    if narrowed.dtype.kind == "U":
        return labels
    if narrowed.dtype.kind == "f" and (narrowed % 1.0 == 0.0).all():
        return narrowed.astype(np.int64)
    return narrowed


def _codes(y: Any, classes: Any) -> tuple[Array, Array]:
    """Return positions of labels in the classes, and the classes, if possible in the dtype of y."""
    y, present = validation.check_label_array("y", y)
    if not len(y):
        raise ValueError("y must have at least one label; got none.")
    classes = validation.check_classes(present if classes is None else classes, None, begun=False)
    codes = validation.check_labels(y, classes)
    as_y = classes.astype(y.dtype)
    return codes, as_y if np.array_equal(as_y, classes) else classes


def _redrawn(codes: Array, classes: Array, transition: Array, random_state: Any) -> Array:
    """Draw labels from the rows of the matrix, by inverting its cumulative sums."""
    cumulative = np.cumsum(transition, axis=1)
    # Rounding must not give a class of probability 0 a chance.
    cumulative /= cumulative[:, -1:]
    draws = check_random_state(random_state).uniform(size=len(codes))
    drawn = np.empty_like(codes)
    for k, ends in enumerate(cumulative):
        rows = codes == k
        drawn[rows] = np.searchsorted(ends, draws[rows], side="right")
    return classes[drawn]
