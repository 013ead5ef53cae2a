"""Second-order assembly: the weighted mean of C_i ⊗ x_i x_iᵀ over a block of rows.

For K classes and d features this is n K² d²/2 multiplications and dominates a Newton or
interior point step. Two forms, both matrix products:

* *pairs*: class pairs (k <= l) times feature pairs (a <= b), one product that uses both
  symmetries. The feature pairs are built per block and must stay in the cache.
* *per class pair*: Xᵀ diag(C_kl) X, for many features or few class pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg.blas import dgemm, dsyrk

from mgce_sklearn.kernels import triangles
from mgce_sklearn.kernels.compilation import jit

Array = np.ndarray[Any, Any]

# With fewer class pairs there is too little computation for each feature pair read from memory.
_FEWEST_CLASS_PAIRS = 6
_MOST_FEATURES = 256
_CACHED_FEATURE_PAIRS = 2**18
_PANEL = 128

# scipy's BLAS adds to an array in place, but holds the interpreter's lock, so that other threads
# wait. numpy's does not hold the lock, but its product has to be added. That costs more for more
# than so many sums, or features of one class.
_MOST_SUMS = 2**16
_MOST_SQUARES = 400


@jit
def _feature_products(features, out):
    """Write x_a x_b for a <= b, row by row of the upper triangle; features are (d, rows)."""
    pair = 0
    for a in range(features.shape[0]):
        for b in range(a, features.shape[0]):
            for i in range(features.shape[1]):
                out[pair, i] = features[a, i] * features[b, i]
            pair += 1


class GramSum:
    """Accumulates sum_i C_i ⊗ x_i x_iᵀ over blocks of rows.

    Parameters
    ----------
    n_classes : int
        Number C of classes with coefficients.
    n_features : int
    """

    def __init__(self, n_classes: int, n_features: int) -> None:
        self.n_classes, self.n_features = n_classes, n_features
        n_pairs, n_products = triangles.n_pairs(n_classes), triangles.n_pairs(n_features)
        self.by_pairs = n_pairs >= _FEWEST_CLASS_PAIRS and n_features <= _MOST_FEATURES
        if self.by_pairs:
            self.rows_per_block = int(np.clip(_CACHED_FEATURE_PAIRS // n_products, 64, 1024))
            self._sums: Array = np.zeros((n_pairs, n_products))
            self._products = np.empty((n_products, self.rows_per_block))
        else:
            self.rows_per_block = int(np.clip(_CACHED_FEATURE_PAIRS // n_features, 64, 1024))
            self._sums = np.zeros((n_pairs, n_features, n_features))

    def add(self, curvature: Array, features: Array) -> None:
        """Add a block.

        Parameters
        ----------
        curvature : ndarray of shape (n_pairs, rows)
            C_kl for k <= l, row by row of the upper triangle, weights included.
        features : ndarray of shape (d, rows)
        """
        if self.by_pairs:
            products = self._products[:, : features.shape[1]]
            _feature_products(features, products)
            if self._sums.size <= _MOST_SUMS:
                self._sums += curvature @ products.T
                return
            # In Fortran order, which BLAS reads without a copy, these arrays are transposed.
            self._sums = dgemm(
                1.0, products.T, curvature.T, beta=1.0, c=self._sums.T, trans_a=1, overwrite_c=1
            ).T
            return
        if self.n_classes == 1:
            # Rounding may make a curvature slightly negative.
            scaled = np.sqrt(np.maximum(curvature, 0.0)) * features
            if self.n_features <= _MOST_SQUARES:  # numpy's product with itself is BLAS' syrk
                self._sums[0] += scaled @ scaled.T
                return
            # In Fortran order, which BLAS reads without a copy, these arrays are transposed.
            self._sums[0] = dsyrk(
                1.0, scaled.T, beta=1.0, c=self._sums[0].T, trans=1, lower=1, overwrite_c=1
            ).T
            return
        for total, weight in zip(self._sums, curvature, strict=True):
            scaled = features * weight
            for begin in range(0, self.n_features, _PANEL):  # only the upper triangle is needed
                end = begin + _PANEL
                total[begin:end, begin:] += scaled[begin:end] @ features[begin:].T

    def matrix(self) -> Array:
        """Return the sum as a symmetric (C d, C d) matrix, coefficients class by class."""
        n_classes, d = self.n_classes, self.n_features
        out = np.empty((n_classes, d, n_classes, d))
        for k, other, total in zip(*triangles.pairs(n_classes), self._sums, strict=True):
            block = triangles.unpacked(total, d) if self.by_pairs else triangles.symmetric(total)
            out[k, :, other] = block
            out[other, :, k] = block
        return out.reshape(n_classes * d, n_classes * d)

    def __add__(self, other: GramSum) -> GramSum:
        """Return the sum of both, written over this one."""
        self._sums += other._sums
        return self
