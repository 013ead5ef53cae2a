"""Sums of C_i ⊗ x_i x_iᵀ on tensors, as `kernels.gram` computes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mgce_sklearn.kernels import triangles

# How many numbers a block of features has. A device needs many to be busy.
NUMBERS = {"cpu": 2**20, "cuda": 2**27}


class TensorGram:
    """Accumulates sum_i C_i ⊗ x_i x_iᵀ over blocks of rows.

    Parameters
    ----------
    n_classes : int
        Number C of classes with coefficients.
    n_features : int
        Number d of features.
    device : torch.device
        Device of the sums.
    """

    def __init__(self, n_classes: int, n_features: int, device: torch.device) -> None:
        self.n_classes, self.n_features = n_classes, n_features
        self.rows_per_block = max(256, NUMBERS.get(device.type, 2**24) // n_features)
        shape = (n_classes, n_features, n_classes, n_features)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=device)

    def add(self, curvature: Tensor, features: Tensor) -> None:
        """Add a block.

        Parameters
        ----------
        curvature : Tensor of shape (n_pairs, rows)
            C_kl for k <= l, times the weights; the upper triangle row by row.
        features : Tensor of shape (d, rows)
            The x_i.
        """
        for k, other, weight in zip(*triangles.pairs(self.n_classes), curvature, strict=True):
            self._sums[k, :, other] += (features * weight) @ features.T

    def matrix(self) -> Tensor:
        """Return the sum as a symmetric (C d, C d) matrix, coefficients class by class."""
        for k, other in zip(*np.triu_indices(self.n_classes, 1), strict=True):
            self._sums[other, :, k] = self._sums[k, :, other].T
        size = self.n_classes * self.n_features
        return self._sums.reshape(size, size)

    def __add__(self, other: TensorGram) -> TensorGram:
        """Return the sum of both, in place of this one."""
        self._sums += other._sums
        return self
