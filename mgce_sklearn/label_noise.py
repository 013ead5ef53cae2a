"""Wrong labels on purpose: for measuring what label noise does to a classifier."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from mgce_sklearn import validation

Array = np.ndarray[Any, Any]

N_CLASSES = validation.Rule((Integral,), lambda n: n >= 2, "an integer of at least 2")


def symmetric_transition(n_classes: int, rate: float) -> Array:
    """Return the matrix by which a label becomes each of the others with equal probability.

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
        For an argument that cannot be used.

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
    """Return the matrix by which a label becomes the next class, and the last one the first.

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
        For an argument that cannot be used.

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
    validation.RATE.check("rate", rate)


def symmetric_noise(y: Any, rate: float, *, classes: Any = None, random_state: Any = None) -> Array:
    """Replace each label, with probability ``rate``, by another class, all others alike.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    rate : float
        Probability in [0, 1] that a label changes.
    classes : array-like of shape (n_classes,), default=None
        All classes, if ``y`` lacks some.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, where that holds all classes.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

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

    The first class follows the last one.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    rate : float
        Probability in [0, 1] that a label changes.
    classes : array-like of shape (n_classes,), default=None
        All classes, if ``y`` lacks some.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, where that holds all classes.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

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
    """Draw each label anew from its class's row of a transition matrix.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    transition : array-like of shape (n_classes, n_classes)
        Probabilities: a row for each true class, a column for each label that it may get, in
        sorted order. Rows sum to 1.
    classes : array-like of shape (n_classes,), default=None
        All classes, if ``y`` lacks some.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels of the dtype of y, where that holds all classes.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.label_noise import matrix_noise
    >>> print(matrix_noise([3, 3, 3, 5, 5, 5], [[1, 0], [0.5, 0.5]], random_state=0))
    [3 3 3 5 3 5]
    """
    codes, classes = _codes(y, classes)
    transition = validation.check_transition("transition", transition, len(classes))
    return _redrawn(codes, classes, transition, random_state)


def _codes(y: Any, classes: Any) -> tuple[Array, Array]:
    """Return the labels' positions among all classes, and these in the dtype of y if it can."""
    y, present = validation.check_label_array("y", y)
    if not len(y):
        raise ValueError("y must have at least one label; got none.")
    classes = validation.check_classes(present if classes is None else classes, None, begun=False)
    codes = validation.check_labels(y, classes)
    as_y = classes.astype(y.dtype)
    return codes, as_y if np.array_equal(as_y, classes) else classes


def _redrawn(codes: Array, classes: Array, transition: Array, random_state: Any) -> Array:
    """Draw labels from the rows of the matrix, by the inverse of its cumulative sums."""
    cumulative = np.cumsum(transition, axis=1)
    cumulative /= cumulative[:, -1:]  # so that rounding leaves no class of probability 0 a chance
    draws = check_random_state(random_state).uniform(size=len(codes))
    drawn = np.empty_like(codes)
    for k, ends in enumerate(cumulative):
        rows = codes == k
        drawn[rows] = np.searchsorted(ends, draws[rows], side="right")
    return classes[drawn]
