"""`TensorDesign`: the interface of `Design` for rows in a tensor, computed on its device."""

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

# How many numbers the largest array of a block of rows has. A device needs many to be busy.
NUMBERS_AT_A_TIME = {"cpu": 2**18, "cuda": 2**26}


@dataclass(frozen=True)
class TensorDesign(Design):
    """Rows of features in a tensor, with weights.

    Parameters
    ----------
    X : Tensor of shape (n, d - fit_intercept), floating point
        Computed with in float64, a block of rows at a time.
    sample_weight : Tensor of shape (n,), float64, on the same device
        Positive. A row of weight 2 is equivalent to two copies of it.
    fit_intercept : bool
        Whether a constant feature 1 follows the columns of X.
    center : Tensor of shape (d - fit_intercept,), float64, on the same device, default=None
        What is subtracted from every row of X. None: nothing.
    shares : Tensor of shape (n,), default=None
        Weight of each row in a mean over all rows, if these rows are only some of them. None: these
        are all rows.
    """

    X: Tensor
    sample_weight: Tensor
    fit_intercept: bool = True
    center: Tensor | None = None
    shares: Tensor | None = None

    @classmethod
    def of(cls, X: Tensor, sample_weight: Array, fit_intercept: bool) -> TensorDesign:
        """Return the design of rows; their weights are in the memory of the host."""
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
        """Type of the numbers of X: float64, or float32 for all others."""
        return np.dtype(np.float64 if self.X.dtype == torch.float64 else np.float32)

    def potential(self, q: float) -> MGCEPotential:
        """Return the MGCE potential for arrays on the device of the rows."""
        return TensorMGCEPotential(q)

    def empty(self, *shape: int) -> Tensor:
        """Return an uninitialized tensor on the device of the rows."""
        return torch.empty(shape, dtype=torch.float64, device=self.X.device)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros on the device of the rows."""
        return torch.zeros(shape, dtype=torch.float64, device=self.X.device)

    def put(self, array: Array | Tensor) -> Tensor:
        """Return numbers as float64 on the device of the rows."""
        return torch.as_tensor(array, dtype=torch.float64, device=self.X.device)

    def put_codes(self, codes: Array) -> Tensor:
        """Return positions as integers on the device of the rows."""
        return torch.as_tensor(codes, dtype=torch.int64, device=self.X.device)

    def fetch(self, array: Tensor) -> Array:
        """Return a tensor as an ndarray."""
        return array.cpu().numpy()

    def team(self, width: int) -> AbstractContextManager[RowTeam]:
        """Return a team of one thread, because PyTorch uses several threads by itself."""
        return nullcontext(RowTeam(self.n_rows, width, 1))

    def take(self, rows: Array) -> TensorDesign:
        """Return the design of some of the rows, by position, without ``shares``."""
        positions = self.put_codes(rows)
        weights = self.sample_weight[positions]
        return TensorDesign(self.X[positions], weights, self.fit_intercept, self.center)

    def rows_at_a_time(self, width: int = 1) -> int:
        """Return the number of rows of a block: enough to keep the device busy."""
        return max(1, self._numbers_at_a_time // max(width, self.n_features))

    @property
    def rows_in_cache(self) -> int:
        """Number of rows of a block: enough to keep the device busy."""
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
        """Compute the part of these rows in the weighted mean of r_i ⊗ x_i (C, d)."""
        weighted = rows_by_class * self.weights
        out = weighted @ self._stored
        return torch.cat([out, weighted.sum(1, keepdim=True)], 1) if self.fit_intercept else out

    def class_moments(
        self, labels: Labels, n_classes: int, origin: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Compute the weight, means, variances and weight of non-zeros of every class."""
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
        divisor = torch.where(weight > 0.0, weight, 1.0)[:, None]
        support[:] = one_hot @ (block != 0.0).to(torch.float64)
        block = block - self.put(origin[: self.n_columns])
        mean[:] = one_hot @ block / divisor
        variance[:] = one_hot @ (block - mean[codes]) ** 2 / divisor
        return self.fetch(weight), *self.fetch(moments)

    def column_range(self) -> tuple[Array, Array]:
        """Return the smallest and the largest value (d,) of each feature."""
        ends = np.ones((2, self.n_features))
        for end, value in zip(ends, (self.X.amin(dim=0), self.X.amax(dim=0)), strict=True):
            end[: self.n_columns] = self.fetch(value)
        return ends[0], ends[1]

    def compact(self, scale: Tensor) -> Design:
        """Return itself, because everything is computed in float64 from X as it is."""
        return self

    def buffer(self, n_rows: int) -> Tensor | None:
        """Return None, because every block is a new tensor."""
        return None

    def features(self, out: Any = None) -> Tensor:
        """Return the rows as float64 (d, n)."""
        block = self._stored.T
        return torch.cat([block, torch.ones_like(block[:1])]) if self.fit_intercept else block

    def mean_square(self) -> Tensor:
        """Return the part of these rows in the mean square of each feature (d,)."""
        square = self.weights @ self._stored**2
        return torch.cat([square, self.weights.sum()[None]]) if self.fit_intercept else square
