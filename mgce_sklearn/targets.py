"""Labels as users give them: a class a row, or a distribution over the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mgce_sklearn import validation
from mgce_sklearn.labels import HardLabels, Labels, SoftLabels

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Distributions:
    """Labels as a user gave them: a distribution a row. Rows are taken as those of an array.

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
        """Raise ValueError unless there is one for each of so many rows."""
        if len(self) != n_rows:
            raise ValueError(
                f"y must have a distribution for each row of X, {n_rows}; got {len(self)}."
            )

    def most_probable(self) -> Array:
        """Return the label (n,) of the largest probability of each row, of equal ones the first."""
        return self.classes[self.proba.argmax(axis=1)]

    def expected_accuracy(self, predicted: Array, weights: Array | None = None) -> float:
        """Return the mean probability of predicted labels (n,), each one of the classes."""
        codes = np.searchsorted(self.classes, predicted)
        return float(np.average(self.proba[np.arange(len(codes)), codes], weights=weights))


def read_labels(y: Any, known: Array | None = None) -> Array | Distributions:
    """Return labels as an array (n,), or distributions over two classes or more.

    The columns of a frame are classes, in any order, of which ``known`` ones may be missing. Those
    of an array are the known classes, or 0 to K - 1.

    Raises
    ------
    ValueError
        If they are neither.
    """
    if isinstance(y, Distributions):
        return y
    if validation.has_columns(y):
        return Distributions(*validation.check_soft_labels("y", y, known))
    return validation.check_label_array("y", y, warn=True)[0]


def encoded(y: Array | Distributions, classes: Array | None = None) -> tuple[Array, Labels]:
    """Return the classes, and the labels by their positions.

    Parameters
    ----------
    y : ndarray of shape (n,), or Distributions
    classes : ndarray of shape (K,), default=None
        All that there are, also those that distributions are over. None: those that occur, or that
        distributions are over.
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
    # Seldom more than a byte a row.
    return classes, HardLabels(codes.astype(np.min_scalar_type(len(classes) - 1)))
