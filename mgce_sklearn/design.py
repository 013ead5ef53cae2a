"""The design: rows of features behind one interface, dense or sparse.

This is the only module that knows how X is stored, save that rows in a tensor have a design of
their own, `tensors.design`. Everything above asks for margins (X times coefficients), for adjoints
(weighted means of something per row, times x), or for a block of rows, and gets float64 whatever
the storage. Arrays that go with the rows come from the design as well, and are where these are.

The intercept is a feature like the others, constant 1 and last; it is never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mgce_sklearn.kernels import barrier
from mgce_sklearn.kernels.gram import GramSum
from mgce_sklearn.parallel import RowTeam, row_team

Array = np.ndarray[Any, Any]

# Rows taken at a time: small beside X, large beside the cost of a call.
ROWS_AT_A_TIME = 8192

# Numbers that a block of rows has in an array (K, rows), of which there may be a dozen.
NUMBERS_AT_A_TIME = 2**15

# Numbers of a block's features: few enough for the second cache, where they are read for the
# margins and again for the sums.
CACHED_FEATURES = 2**16

ALL_ROWS = slice(None)


@dataclass(frozen=True)
class Design:
    """Rows of features with weights.

    Parameters
    ----------
    X : ndarray or scipy.sparse CSR of shape (n, d - fit_intercept), float64 or float32
    sample_weight : ndarray of shape (n,)
        Positive. A weight of 2 means the same as the row twice.
    fit_intercept : bool
        Whether a constant feature 1 follows the columns of X.
    """

    X: Any
    sample_weight: Array
    fit_intercept: bool = True

    @property
    def n_rows(self) -> int:
        """Number of rows stored."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """Number of features d, the intercept's constant included."""
        return int(self.X.shape[1]) + self.fit_intercept

    @cached_property
    def total_weight(self) -> float:
        """n of the mathematics: the sum of the weights."""
        return float(self.sample_weight.sum())

    @cached_property
    def weights(self) -> Array:
        """Weights of a mean over rows: they sum to 1."""
        return self.sample_weight / self.total_weight

    def on_host(self) -> Design:
        """Return the same rows in numpy's arrays."""
        return self

    @property
    def precision(self) -> np.dtype:
        """The type of the numbers of X."""
        return self.X.dtype

    def empty(self, *shape: int) -> Array:
        """Return an array to be written to, where the rows are."""
        return np.empty(shape)

    def zeros(self, *shape: int) -> Array:
        """Return zeros, where the rows are."""
        return np.zeros(shape)

    def put(self, array: Array) -> Array:
        """Return numbers as float64, where the rows are."""
        return array

    def put_codes(self, codes: Array) -> Array:
        """Return classes as indices, where the rows are."""
        return codes

    def fetch(self, array: Array) -> Array:
        """Return coefficients as an ndarray."""
        return array

    def positions(self, n: int) -> Array:
        """Return 0 to n - 1, where the rows are."""
        return np.arange(n)

    def team(self, width: int) -> AbstractContextManager[RowTeam]:
        """Give threads for arrays of so many numbers a row."""
        return row_team(self.n_rows, width)

    @property
    def rows_in_cache(self) -> int:
        """Number of rows whose features are read twice before they leave the cache."""
        return int(np.clip(CACHED_FEATURES // self.n_features, 256, 1024))

    @property
    def barrier(self) -> Any:
        """The row elimination of the interior point method: what `kernels.barrier` has."""
        return barrier

    def gram(self, n_classes: int) -> GramSum:
        """Return an empty sum of C_i ⊗ x_i x_iᵀ over rows."""
        return GramSum(n_classes, self.n_features)

    def blocks(self, rows: slice = ALL_ROWS, width: int = 1) -> Iterator[slice]:
        """Cut the rows into blocks, shorter ones for ``width`` numbers a row."""
        start, stop, _ = rows.indices(self.n_rows)
        size = min(ROWS_AT_A_TIME, max(1, NUMBERS_AT_A_TIME // width))
        for begin in range(start, stop, size):
            yield slice(begin, min(begin + size, stop))

    def _blocks(self) -> Iterator[tuple[slice, Any]]:
        for rows in self.blocks():
            yield rows, self._block(rows)

    def _block(self, rows: slice) -> Any:
        return self.X[rows].astype(np.float64, copy=False)

    def margins(self, coef: Array, rows: slice = ALL_ROWS) -> Array:
        """Compute x Wᵀ for every row, or for some.

        Parameters
        ----------
        coef : ndarray of shape (C, d)
        rows : slice, default=all

        Returns
        -------
        ndarray of shape (C, n)
            Class-major, as the kernels like it.
        """
        start, stop, _ = rows.indices(self.n_rows)
        out = np.empty((len(coef), stop - start))
        slopes = coef[:, : self.X.shape[1]]
        for part in self.blocks(rows):
            block = self._block(part)
            # A sparse block must stand on the left for the product to be an ndarray.
            product = (block @ slopes.T).T if sp.issparse(block) else slopes @ block.T
            out[:, part.start - start : part.stop - start] = product
        if self.fit_intercept:
            out += coef[:, -1:]
        return out

    def adjoint(self, rows_by_class: Array, rows: slice = ALL_ROWS) -> Array:
        """Compute the weighted mean over rows of r_i ⊗ x_i, or what some rows add to it.

        Parameters
        ----------
        rows_by_class : ndarray of shape (C, n)
            A column for each of the rows.
        rows : slice, default=all

        Returns
        -------
        ndarray of shape (C, d)
        """
        start, _, _ = rows.indices(self.n_rows)
        out = np.zeros((len(rows_by_class), self.n_features))
        slopes = out[:, : self.X.shape[1]]
        for part in self.blocks(rows):
            weighted = rows_by_class[:, part.start - start : part.stop - start]
            weighted = weighted * self.weights[part]
            slopes += weighted @ self._block(part)
            if self.fit_intercept:
                out[:, -1] += weighted.sum(axis=1)
        return out

    def split(self, coef: Array) -> tuple[Array, Array]:
        """Return the coefficients (..., d) of X's columns and those of the intercept, or zeros.

        Returns
        -------
        slopes : ndarray of shape (..., d - fit_intercept)
        intercepts : ndarray of shape (...)
        """
        n_columns = self.X.shape[1]
        intercepts = coef[..., -1] if self.fit_intercept else np.zeros(coef.shape[:-1], coef.dtype)
        return np.ascontiguousarray(coef[..., :n_columns]), np.ascontiguousarray(intercepts)

    def class_moments(self, codes: Array, n_classes: int) -> tuple[Array, Array, Array]:
        """Compute means over rows of onehot(y) ⊗ x, ⊗ x² and ⊗ 1[x ≠ 0].

        Parameters
        ----------
        codes : ndarray of shape (n,)
            Class of each row, 0 to n_classes - 1.
        n_classes : int

        Returns
        -------
        mean, mean_square, support : ndarrays of shape (n_classes, d)
        """
        moments = np.zeros((3, n_classes, self.n_features))
        slopes = moments[:, :, : self.X.shape[1]]
        for rows, block in self._blocks():
            size = block.shape[0]
            one_hot = sp.csr_array(
                (self.weights[rows], codes[rows], np.arange(size + 1)), shape=(size, n_classes)
            ).T
            square = block.power(2) if sp.issparse(block) else block**2
            for moment, power in zip(slopes, (block, square, block != 0), strict=True):
                product = one_hot @ power
                moment += product.toarray() if sp.issparse(product) else product
        if self.fit_intercept:
            moments[:, :, -1] = np.bincount(codes, self.weights, n_classes)
        return moments[0], moments[1], moments[2]

    def column_range(self) -> tuple[Array, Array]:
        """Return the least and the largest value (d,) of each feature, zeros not stored included.

        A pass of its own: a block is larger than the cache, so that one in common with
        `class_moments` would be no faster, and a step of a stream needs no range.
        """
        ends = np.ones((2, self.n_features))
        low, high = ends[:, : self.X.shape[1]]
        low[:], high[:] = np.inf, -np.inf
        for rows in self.blocks():
            block = self.X[rows]
            np.minimum(low, _dense(block.min(axis=0)), out=low)
            np.maximum(high, _dense(block.max(axis=0)), out=high)
        return ends[0], ends[1]

    def features(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Return rows ``start`` to ``stop`` as a dense float64 array (d, stop - start)."""
        if out is None:
            out = np.empty((self.n_features, stop - start))
        block = self.X[start:stop]
        out[: self.X.shape[1]] = (block.toarray() if sp.issparse(block) else block).T
        if self.fit_intercept:
            out[-1] = 1.0
        return out

    def take(self, rows: Array) -> Design:
        """Return some of the rows, by position."""
        return Design(self.X[rows], self.sample_weight[rows], self.fit_intercept)

    def squared_norms(self, scale: Array) -> Array:
        """Return |x_i / scale|² of every row (n,)."""
        weight = scale[: self.X.shape[1]] ** -2
        out = np.full(self.n_rows, 1.0 / scale[-1] ** 2 if self.fit_intercept else 0.0)
        for rows, block in self._blocks():
            out[rows] += (block.power(2) if sp.issparse(block) else block**2) @ weight
        return out

    @cached_property
    def column_scale(self) -> Array:
        """Root mean square of each feature (d,), 1 for a feature that is always zero."""
        square = np.zeros(self.n_features)
        for rows, block in self._blocks():
            power = block.power(2) if sp.issparse(block) else block**2
            square[: self.X.shape[1]] += self.weights[rows] @ power
        if self.fit_intercept:
            square[-1] = 1.0
        return np.sqrt(np.where(square > 0.0, square, 1.0))


def _dense(row: Any) -> Array:
    """Return an ndarray (d,), whichever of its shapes a sparse row comes in."""
    return row.toarray().ravel() if sp.issparse(row) else row
