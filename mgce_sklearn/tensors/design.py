"""The design of rows that are a tensor: the same interface, everything on its device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mgce_sklearn.arrays import positions_of
from mgce_sklearn.design import Design
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.tensors.barrier import TensorBarrier
from mgce_sklearn.tensors.gram import TensorGram
from mgce_sklearn.tensors.potentials import TensorMGCEPotential

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
    shares : Tensor of shape (n,), default=None
        Weights of a mean over all rows, of which these may be some. None: these are all.
    """

    X: Tensor
    sample_weight: Tensor
    fit_intercept: bool = True
    center: Tensor | None = None
    shares: Tensor | None = None

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

    namespace: ClassVar[Any] = torch
    is_numpy: ClassVar[bool] = False
    has_single: ClassVar[bool] = False  # a device computes in float64 from whatever X is

    @property
    def device(self) -> str:  # type: ignore[override]
        """The kind of device that the rows are on."""
        return self.X.device.type

    @property
    def precision(self) -> np.dtype:
        """The type of the numbers of X."""
        return np.dtype(np.float64 if self.X.dtype == torch.float64 else np.float32)

    def potential(self, q: float) -> MGCEPotential:
        """Return the MGCE potential of arrays that are where the rows are."""
        return TensorMGCEPotential(q)

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

    def take(self, rows: Array) -> TensorDesign:
        """Return some of the rows, by position, as all there are."""
        positions = self.put_codes(rows)
        weights = self.sample_weight[positions]
        return TensorDesign(self.X[positions], weights, self.fit_intercept, self.center)

    def rows_at_a_time(self, width: int = 1) -> int:
        """Return how many rows a block has: as many as keep a device busy."""
        return max(1, self._numbers_at_a_time // max(width, self.n_features))

    @property
    def rows_in_cache(self) -> int:
        """Number of rows of a block: as many as keep the device busy."""
        return max(256, self._numbers_at_a_time // self.n_features)

    @property
    def _numbers_at_a_time(self) -> int:
        return NUMBERS_AT_A_TIME.get(self.device, 2**24)

    @property
    def barrier(self) -> TensorBarrier:
        """The row elimination of the interior point method."""
        return TensorBarrier(self.X.device)

    def gram(self, n_classes: int) -> Any:
        """Return an empty sum of C_i ⊗ x_i x_iᵀ."""
        return TensorGram(n_classes, self.n_features, self.X.device)

    @property
    def _stored(self) -> Tensor:
        block = self.X.to(torch.float64)
        return block if self.center is None else block - self.center

    def margins(self, coef: Tensor) -> Tensor:
        """Compute x Wᵀ (C, n)."""
        out = coef[:, : self.n_columns] @ self._stored.T
        return out + coef[:, -1:] if self.fit_intercept else out

    def adjoint(self, rows_by_class: Tensor) -> Tensor:
        """Compute what these rows add to the weighted mean of r_i ⊗ x_i (C, d)."""
        weighted = rows_by_class * self.weights
        out = weighted @ self._stored
        return torch.cat([out, weighted.sum(1, keepdim=True)], 1) if self.fit_intercept else out

    def class_moments(
        self, labels: Labels, n_classes: int, origin: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Compute weights, means, variances and support, class by class."""
        block, weights, codes = self._copied(labels)
        block = block.to(torch.float64)
        one_hot = self.zeros(n_classes, len(block))
        one_hot[codes, positions_of(codes)] = weights
        weight = one_hot.sum(dim=1)
        moments = self.zeros(3, n_classes, self.n_features)
        if self.fit_intercept:
            moments[0, :, -1] = (weight > 0.0).to(torch.float64)
            moments[2, :, -1] = weight
        mean, variance, support = moments[:, :, : self.n_columns]
        share = torch.where(weight > 0.0, weight, 1.0)[:, None]
        support[:] = one_hot @ (block != 0.0).to(torch.float64)
        block = block - self.put(origin[: self.n_columns])
        mean[:] = one_hot @ block / share
        variance[:] = one_hot @ (block - mean[codes]) ** 2 / share
        return self.fetch(weight), *self.fetch(moments)

    def column_range(self) -> tuple[Array, Array]:
        """Return the least and the largest value (d,) of each feature."""
        ends = np.ones((2, self.n_features))
        for end, value in zip(ends, (self.X.amin(dim=0), self.X.amax(dim=0)), strict=True):
            end[: self.n_columns] = self.fetch(value)
        return ends[0], ends[1]

    def compact(self, scale: Tensor) -> Design:
        """Return itself: a device computes in float64 from whatever X is."""
        return self

    def buffer(self, n_rows: int) -> Tensor | None:
        """Return None: blocks are tensors of their own."""
        return None

    def features(self, out: Any = None) -> Tensor:
        """Return the rows as float64 (d, n)."""
        block = self._stored.T
        return torch.cat([block, torch.ones_like(block[:1])]) if self.fit_intercept else block

    def mean_square(self) -> Tensor:
        """Return what these rows add to the mean square of each feature (d,)."""
        square = self.weights @ self._stored**2
        return torch.cat([square, self.weights.sum()[None]]) if self.fit_intercept else square
