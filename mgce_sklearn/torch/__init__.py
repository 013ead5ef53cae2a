"""MGCE on tensors and in networks; needs the extra ``torch``."""

from mgce_sklearn.tensors.link import mgce_proba, mgce_threshold, mgce_worst_case
from mgce_sklearn.torch.losses import (
    FocalLoss,
    GCELoss,
    GenerativeCrossEntropyLoss,
    MarginLoss,
    MGCELoss,
)

__all__ = [
    "FocalLoss",
    "GCELoss",
    "GenerativeCrossEntropyLoss",
    "MGCELoss",
    "MarginLoss",
    "mgce_proba",
    "mgce_threshold",
    "mgce_worst_case",
]
