"""Networks trained by MGCE, its loss, and its link on tensors. It needs the extra ``torch``."""

from mgce_sklearn.tensors.link import mgce_proba, mgce_threshold, mgce_worst_case
from mgce_sklearn.torch.losses import (
    FocalLoss,
    GCELoss,
    GenerativeCrossEntropyLoss,
    MarginLoss,
    MGCELoss,
)
from mgce_sklearn.torch.net import MGCENetClassifier

__all__ = [
    "FocalLoss",
    "GCELoss",
    "GenerativeCrossEntropyLoss",
    "MGCELoss",
    "MGCENetClassifier",
    "MarginLoss",
    "mgce_proba",
    "mgce_threshold",
    "mgce_worst_case",
]
