"""Minimax generalised cross-entropy classifiers for scikit-learn."""

from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.uncertainty import UncertaintySet

__version__ = "0.1.0"

__all__ = ["MGCEClassifier", "UncertaintySet", "__version__"]
