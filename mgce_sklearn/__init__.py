"""Minimax generalized cross-entropy classifiers for scikit-learn."""

from mgce_sklearn.bounds import EmptySetError, ErrorBounds, ErrorCertificate
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.expressive import RandomReLUFeatures, ThresholdFeatures
from mgce_sklearn.path import MGCEPath, lam_max, mgce_path
from mgce_sklearn.row_blocks import RowBlocks
from mgce_sklearn.search import MGCEClassifierCV
from mgce_sklearn.stacking import MGCEStackingClassifier
from mgce_sklearn.uncertainty import UncertaintySet

__version__ = "0.1.0"

__all__ = [
    "EmptySetError",
    "ErrorBounds",
    "ErrorCertificate",
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
