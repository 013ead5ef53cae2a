"""The design of rows that are a tensor: the same interface, everything on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgce_sklearn.arrays import positions_of
from mgce_sklearn.design import ALL_ROWS, Design
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.tensors.barrier import TensorBarrier
from mgce_sklearn.tensors.gram import TensorGram

Array = np.ndarray[Any, Any]

# Numbers that a block of rows has in its largest array: a device needs many to be busy.
NUMBERS_AT_A_TIME = {"cpu": 2**18, "cuda": 2**26}


@dataclass(frozen=True)
class TensorDesign(Design):
    """Rows of features in a tensor, with weights.

    Parameters
    ----------
    X : Tensor of shape (n, d - fit_intercept), floating point
        Computed with in float64, a block of rows at a time.
    sample_weight : Tensor of shape (n,), float64, on the same device
        Positive. A weight of 2 means the same as the row twice.
    fit_intercept : bool
        Whether a constant feature 1 follows the columns of X.
    center : Tensor of shape (d - fit_intercept,), float64, on the same device, default=None
        What is subtracted from every row of X. None: nothing.
    """

    X: Tensor
    sample_weight: Tensor
    fit_intercept: bool = True
    center: Tensor | None = None

    @classmethod
    def of(cls, X: Tensor, sample_weight: Array, fit_intercept: bool) -> TensorDesign:
        """Return the design of rows whose weights are on the host."""
        weights = torch.as_tensor(np.array(sample_weight), device=X.device)
        return cls(X, weights, fit_intercept)

    def on_host(self) -> Design:
        """Return the same rows in numpy's arrays."""
        weights = self.fetch(self.sample_weight)
        center = None if self.center is None else self.fetch(self.center)
        return Design(self.fetch(self.X), weights, self.fit_intercept, center)

    @property
    def precision(self) -> np.dtype:
        """The type of the numbers of X."""
        return np.dtype(np.float64 if self.X.dtype == torch.float64 else np.float32)

    def empty(self, *shape: int) -> Tensor:
        """Return a tensor to be written to, where the rows are."""
        return torch.empty(shape, dtype=torch.float64, device=self.X.device)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros, where the rows are."""
        return torch.zeros(shape, dtype=torch.float64, device=self.X.device)

    def put(self, array: Array | Tensor) -> Tensor:
        """Return numbers as float64, where the rows are."""
        return torch.as_tensor(array, dtype=torch.float64, device=self.X.device)

    def put_codes(self, codes: Array) -> Tensor:
        """Return classes as indices, where the rows are."""
        return torch.as_tensor(codes, dtype=torch.int64, device=self.X.device)

    def fetch(self, array: Tensor) -> Array:
        """Return a tensor of coefficients as an ndarray."""
        return array.cpu().numpy()

    def team(self, width: int) -> AbstractContextManager[RowTeam]:
        """Give a team of one: tensors share their operations among threads by themselves."""
        return nullcontext(RowTeam(self.n_rows, width, 1))

    @property
    def rows_in_cache(self) -> int:
        """Number of rows of a block: as many as keep the device busy."""
        return max(256, self._numbers_at_a_time // self.n_features)

    @property
    def _numbers_at_a_time(self) -> int:
        return NUMBERS_AT_A_TIME.get(self.X.device.type, 2**24)

    @property
    def barrier(self) -> TensorBarrier:
        """The row elimination of the interior point method."""
        return TensorBarrier(self.X.device)

    def gram(self, n_classes: int) -> Any:
        """Return an empty sum of C_i ⊗ x_i x_iᵀ."""
        return TensorGram(n_classes, self.n_features, self.X.device)

    def blocks(self, rows: slice = ALL_ROWS, width: int = 1) -> Iterator[slice]:
        """Cut the rows into blocks of so many numbers as a device can use."""
        start, stop, _ = rows.indices(self.n_rows)
        size = max(1, self._numbers_at_a_time // max(width, self.n_features))
        for begin in range(start, stop, size):
            yield slice(begin, min(begin + size, stop))

    def _block(self, rows: slice) -> Tensor:
        block = self.X[rows].to(torch.float64)
        return block if self.center is None else block - self.center

    def margins(self, coef: Tensor, rows: slice = ALL_ROWS) -> Tensor:
        """Compute x Wᵀ (C, n) for every row, or for some."""
        slopes = coef[:, : self.X.shape[1]]
        parts = [slopes @ self._block(part).T for part in self.blocks(rows)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return out + coef[:, -1:] if self.fit_intercept else out

    def adjoint(self, rows_by_class: Tensor, rows: slice = ALL_ROWS) -> Tensor:
        """Compute the weighted mean over rows of r_i ⊗ x_i (C, d), or what some rows add to it."""
        start, _, _ = rows.indices(self.n_rows)
        out = self.zeros(len(rows_by_class), self.n_features)
        slopes = out[:, : self.X.shape[1]]
        for part in self.blocks(rows):
            weighted = rows_by_class[:, part.start - start : part.stop - start]
            weighted = weighted * self.weights[part]
            slopes += weighted @ self._block(part)
            if self.fit_intercept:
                out[:, -1] += weighted.sum(dim=1)
        return out

    def origin(self) -> Array:
        """Return a point (d,) near the rows, from which their differences are exact."""
        origin = np.zeros(self.n_features)
        origin[: self.X.shape[1]] = self.fetch(self.X[0])
        return origin

    def class_moments(
        self, labels: Labels, n_classes: int, origin: Array, rows: slice
    ) -> tuple[Array, Array, Array, Array]:
        """Compute weights, means, variances and support of a block of rows, class by class."""
        block, weights, codes = self._copied(labels, rows)
        block = block.to(torch.float64)
        one_hot = self.zeros(n_classes, len(block))
        one_hot[codes, positions_of(codes)] = weights
        weight = one_hot.sum(dim=1)
        moments = self.zeros(3, n_classes, self.n_features)
        if self.fit_intercept:
            moments[0, :, -1] = (weight > 0.0).to(torch.float64)
            moments[2, :, -1] = weight
        mean, variance, support = moments[:, :, : self.X.shape[1]]
        share = torch.where(weight > 0.0, weight, 1.0)[:, None]
        support[:] = one_hot @ (block != 0.0).to(torch.float64)
        block = block - self.put(origin[: self.X.shape[1]])
        mean[:] = one_hot @ block / share
        variance[:] = one_hot @ (block - mean[codes]) ** 2 / share
        return self.fetch(weight), *self.fetch(moments)

    def column_range(self) -> tuple[Array, Array]:
        """Return the least and the largest value (d,) of each feature."""
        ends = np.ones((2, self.n_features))
        for end, value in zip(ends, (self.X.amin(dim=0), self.X.amax(dim=0)), strict=True):
            end[: self.X.shape[1]] = self.fetch(value)
        return ends[0], ends[1]

    def compact(self) -> Design:
        """Return itself: a device computes in float64 from whatever X is."""
        return self

    def buffer(self, n_rows: int) -> Tensor | None:
        """Return None: blocks are tensors of their own."""
        return None

    def features(self, start: int, stop: int, out: Any = None) -> Tensor:
        """Return rows ``start`` to ``stop`` as float64 (d, stop - start)."""
        block = self._block(slice(start, stop)).T
        if not self.fit_intercept:
            return block
        return torch.cat([block, torch.ones_like(block[:1])])

    @cached_property
    def column_scale(self) -> Tensor:
        """Root mean square of each feature (d,), 1 for a feature that is always zero."""
        square = self.zeros(self.n_features)
        for rows in self.blocks():
            square[: self.X.shape[1]] += self.weights[rows] @ self._block(rows) ** 2
        if self.fit_intercept:
            square[-1] = 1.0
        return torch.sqrt(torch.where(square > 0.0, square, 1.0))
