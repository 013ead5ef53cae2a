"""Labels as users give them: one class for each row, or a distribution over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgce_sklearn import validation
from mgce_sklearn.labels import HardLabels, Labels, SoftLabels

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Distributions:
    """Labels as a user gave them: a distribution for each row. Rows are indexed as in an array.

    Attributes
    ----------
    proba : ndarray of shape (n, K)
        Rows that sum to 1.
    classes : ndarray of shape (K,)
        Label of each column, sorted.
    """

    proba: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.proba)

    def __getitem__(self, rows: Any) -> Distributions:
        return Distributions(self.proba[rows], self.classes)

    def check_rows(self, n_rows: int) -> None:
        """Raise ValueError unless there are ``n_rows`` distributions."""
        if len(self) != n_rows:
            raise ValueError(
                f"y must have a distribution for each row of X, {n_rows}; got {len(self)}."
            )

    def most_probable(self) -> Array:
        """Return the most probable label (n,) of each row; of equally probable ones the first."""
        return self.classes[self.proba.argmax(axis=1)]

    def expected_accuracy(self, predicted: Array, weights: Array | None = None) -> float:
        """Return the mean probability of predicted labels (n,), which must be among the classes."""
        codes = np.searchsorted(self.classes, predicted)
        return float(np.average(self.proba[np.arange(len(codes)), codes], weights=weights))


def read_labels(y: Any, known: Array | None = None) -> Array | Distributions:
    """Return labels as an array (n,), or distributions over two classes or more.

    The columns of a frame are named by classes, in any order. ``known`` classes may be missing. The
    columns of an array are the known classes, or 0 to K - 1.

    Raises
    ------
    ValueError
        If y contains neither labels nor distributions.
    """
    if isinstance(y, Distributions):
        return y
    if validation.has_columns(y):
        return Distributions(*validation.check_soft_labels("y", y, known))
    return validation.check_label_array("y", y, warn=True)[0]


def encoded(y: Array | Distributions, classes: Array | None = None) -> tuple[Array, Labels]:
    """Return the classes, and the labels as positions in them.

    Parameters
    ----------
    y : ndarray of shape (n,), or Distributions
    classes : ndarray of shape (K,), default=None
        All classes. For distributions they are the classes of the columns. None: the classes that
        occur, or the classes of the columns.

    Raises
    ------
    ValueError
        If fewer than two classes occur, or if a label is not among the classes.
    """
    if isinstance(y, Distributions):
        if classes is None:
            classes = y.classes
            validation.check_several(classes[(y.proba > 0.0).any(axis=0)])
        return classes, SoftLabels(np.ascontiguousarray(y.proba.T))
    if classes is None:
        classes = np.unique(y)
        validation.check_several(classes)
    codes = validation.check_labels(y, classes)
    # Mostly one byte for each row.
    return classes, HardLabels(codes.astype(np.min_scalar_type(len(classes) - 1)))
