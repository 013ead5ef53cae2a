"""How a model does on rows that it has not seen, for the demonstration and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.pipeline import Pipeline

from mgce_sklearn.metrics import Reliability

Array = np.ndarray[Any, Any]

# Bins of calibration errors.
N_BINS = 15


@dataclass(frozen=True)
class Assessment:
    """A fitted model, and its predictions of rows that it has not seen.

    Attributes
    ----------
    model : Pipeline
        The classifier is its last step.
    proba : ndarray of shape (n, K)
        Probabilities of each row, by this model or one that was fitted to other rows.
    is_label : ndarray of shape (n, K)
        Indicators of the labels given.
    seconds : float
        Duration of the model's fit.
    """

    model: Pipeline
    proba: Array
    is_label: Array
    seconds: float

    @property
    def classifier(self) -> Any:
        """The last step of the pipeline."""
        return self.model[-1]

    @property
    def name(self) -> str:
        """Name of the classifier's type."""
        return type(self.classifier).__name__

    @property
    def right(self) -> Array:
        """Whether the most probable class is the label, by row."""
        return self.is_label[np.arange(len(self.proba)), self.proba.argmax(axis=1)]

    @property
    def squares(self) -> Array:
        """Squared distance from the label's indicator, by row, in [0, 2]."""
        return np.sum((self.proba - self.is_label) ** 2, axis=1)

    @property
    def of_label(self) -> Array:
        """Probability of the label given, by row."""
        return np.sum(self.proba, axis=1, where=self.is_label)

    @property
    def accuracy(self) -> float:
        """Share of labels that are predicted."""
        return float(self.right.mean())

    @property
    def drawn_error(self) -> float:
        """Probability that a label drawn from the probabilities is wrong."""
        return float(1.0 - self.of_label.mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy, with probability 95%."""
        found = binomtest(int(self.right.sum()), len(self.right)).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    @property
    def brier(self) -> float:
        """Brier score, the mean of `squares`."""
        return float(self.squares.mean())

    @property
    def calibration(self) -> Reliability:
        """Probability of the predicted class against the share of right predictions."""
        return Reliability.measure(self.proba.max(axis=1), self.right, n_bins=N_BINS)
