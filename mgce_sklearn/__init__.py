"""Minimax generalized cross-entropy classifiers for scikit-learn."""

import warnings
from typing import Any

from mgce_sklearn.bounds import EmptySetError, ErrorBounds
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.confidence import ConfidenceBound
from mgce_sklearn.expressive import RandomReLUFeatures, ThresholdFeatures
from mgce_sklearn.path import MGCEPath, lam_max, mgce_path
from mgce_sklearn.row_blocks import RowBlocks
from mgce_sklearn.search import MGCEClassifierCV
from mgce_sklearn.stacking import MGCEStackingClassifier
from mgce_sklearn.uncertainty import UncertaintySet

__version__ = "0.1.0"

__all__ = [
    "ConfidenceBound",
    "EmptySetError",
    "ErrorBounds",
    "MGCEClassifier",
    "MGCEClassifierCV",
    "MGCEPath",
    "MGCEStackingClassifier",
    "RandomReLUFeatures",
    "RowBlocks",
    "ThresholdFeatures",
    "UncertaintySet",
    "__version__",
    "lam_max",
    "mgce_path",
]


def __getattr__(name: str) -> Any:
    if name == "ErrorCertificate":
        warnings.warn(
            "ErrorCertificate is deprecated; its name is ConfidenceBound.",
            FutureWarning,
            stacklevel=2,
        )
        return ConfidenceBound
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
