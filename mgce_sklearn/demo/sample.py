"""A sample cut in two: rows to learn from and rows held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

Array = np.ndarray[Any, Any]

SEED = 0
HELD_OUT = 0.4


@dataclass(frozen=True)
class Sample:
    """Rows to learn from and rows held out, of one table.

    Parameters
    ----------
    title : str
    preprocessing : transformer
        Unfitted; what turns columns into standardized numbers.
    X_train, X_test : ndarray
    y_train, y_test : ndarray of labels
    """

    title: str
    preprocessing: Any
    X_train: Any
    X_test: Any
    y_train: Array
    y_test: Array

    @classmethod
    def split(cls, title: str, preprocessing: Any, X: Any, y: Array) -> Sample:
        """Hold out 40% of the rows, as many of each class in proportion."""
        parts = train_test_split(X, y, test_size=HELD_OUT, stratify=y, random_state=SEED)
        return cls(title, preprocessing, *parts)

    def with_wrong_labels(self, share: float) -> Sample:
        """Replace that share of the training labels by another class; those held out stay."""
        random = np.random.default_rng(SEED)
        classes, codes = np.unique(self.y_train, return_inverse=True)
        rows = random.choice(len(codes), round(share * len(codes)), replace=False)
        codes[rows] += random.integers(1, len(classes), len(rows))
        return replace(
            self,
            title=f"{self.title}, {share:.0%} of the training labels wrong",
            y_train=classes[codes % len(classes)],
        )


def embedded(load: Callable[..., Any], title: str) -> Sample:
    """Return one of scikit-learn's own data sets as a sample."""
    data = load()
    return Sample.split(title, StandardScaler(), data.data, data.target_names[data.target])


def breast_cancer() -> Sample:
    """Return 569 tumors with 30 measurements each, benign or malignant."""
    return embedded(load_breast_cancer, "breast cancer")


def digits() -> Sample:
    """Return 1,797 handwritten digits of 8 × 8 pixels."""
    return embedded(load_digits, "digits")
