"""Preconditioners of the conjugate gradient method.

C_i of a row is nearly diag(v) - v vᵀ / sum v, as in multinomial regression. With A_k = mean v_k
x xᵀ and B_k = A_k + D_k the system is then nearly

    P = blockdiag(B_k) - [A_k] (sum A)^{-1} [A_l]ᵀ,

which is solved class by class: P^{-1} r = z + B^{-1} A S^{-1} sum_k A_k z_k with z = B^{-1} r and
S = sum_k (A_k - A_k B_k^{-1} A_k).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from mgce_sklearn.kernels import blocks

Array = np.ndarray[Any, Any]

# Rows that a class' A_k is summed over, chosen by leverage where there are more.
SAMPLED_ROWS = 16_000
# The share of the rows chosen by chance alone.
UNIFORM_SHARE = 0.05

# Features from which on A and the factors are in single precision.
MANY_FEATURES = 300

MOST_ACTIVE = 5000
ACTIVE_RATIO = 5.0

# Added to unit diagonals, until they can be factored.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SHARED_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

# Most that the diagonal of an A kept from an earlier step is scaled by.
LARGEST_SCALE = 4.0

# Products of one solution at which a kept A is too old.
TOO_MANY_PRODUCTS = 25

# Operations per second: of sums of squares in single precision, of products.
GRAM_RATE = 175e9
PRODUCT_RATE = 30e9


class ClassBlocks:
    """P of this module's first lines.

    Parameters
    ----------
    shape : tuple of int
        (C, d).
    n_rows : int
    """

    def __init__(self, shape: tuple[int, int], n_rows: int) -> None:
        self.n_classes, self.n_features = shape
        self.n_rows = n_rows
        self.dtype = np.float32 if self.n_features > MANY_FEATURES else np.float64
        self.random = np.random.default_rng(0)
        self.sums: Array | None = None  # A_k (C, d, d) as they were summed
        self.n_refreshes = 0
        self._counts: list[int] = []
        self._first: int | None = None
        self._excess = 0
        self._tired = False

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self._counts.append(n_products)

    def renew(self, system: Any, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        weights = np.empty((self.n_classes, self.n_rows), np.float32)

        def share(start: int, stop: int) -> None:
            blocks.diagonal_part(system.curvature[:, start:stop], weights[:, start:stop])

        system.team.run(share)
        diagonal = system.sum_over_blocks(lambda rows, x: weights[:, rows] @ np.square(x).T)
        if self._wants_refresh():
            self.sums = self._sum(system, weights, diagonal + barrier)
            self.n_refreshes += 1
            self._first, self._excess, self._tired = None, 0, False
        self._factor(diagonal, barrier)

    def _wants_refresh(self) -> bool:
        n_products, most = sum(self._counts), max(self._counts, default=0)
        self._counts = []
        if self.sums is None:
            return True
        fresh = self._first is None
        if self._first is None:
            self._first = n_products
        else:
            self._excess += max(0, n_products - self._first)
        if most >= TOO_MANY_PRODUCTS and not fresh:
            return True
        size = self.n_rows * self.n_classes * self.n_features
        product = 4 * size / PRODUCT_RATE + self.n_rows * self.n_classes**2 / 2 * 1e-9
        gram = min(self.n_rows, SAMPLED_ROWS) * self.n_classes * self.n_features**2 / GRAM_RATE
        return self._excess * product > gram

    def _sum(self, system: Any, weights: Array, diagonal: Array) -> Array:
        """Return the A_k over all rows or, where these are many, over rows of high leverage."""
        out = np.empty((self.n_classes, self.n_features, self.n_features), self.dtype)
        sampled = self.n_rows > SAMPLED_ROWS
        leverage = self._leverages(system, weights, diagonal) if sampled else None
        for k in range(self.n_classes):
            out[k] = self._one_sum(system, weights[k], None if leverage is None else leverage[k])
        return out

    def _leverages(self, system: Any, weights: Array, diagonal: Array) -> Array:
        inverse = (1.0 / diagonal).astype(np.float32)
        out = np.empty_like(weights)

        def term(rows: slice, features: Array) -> Array:
            out[:, rows] = weights[:, rows] * (inverse @ np.square(features))
            return np.zeros(())

        system.sum_over_blocks(term)
        return out

    def _one_sum(self, system: Any, weight: Array, leverage: Array | None) -> Array:
        if leverage is None:
            root = np.sqrt(weight)
            return system.sum_over_blocks(lambda rows, x: _square(x * root[rows]))
        chance = _chances(leverage.astype(np.float64))
        chosen = self.random.random(self.n_rows) < chance
        root = np.sqrt(weight / chance).astype(np.float32)

        def term(rows: slice, features: Array) -> Array:
            kept = np.flatnonzero(chosen[rows])
            chosen_rows = features.T[kept] * root[rows][kept][:, None]
            return _square(chosen_rows.T)

        return system.sum_over_blocks(term)

    def _factor(self, diagonal: Array, barrier: Array) -> None:
        n_classes, d = self.n_classes, self.n_features
        self.barrier = barrier
        self.inverse_roots = np.empty((n_classes, d, d), self.dtype)
        shared = np.zeros((d, d))
        for k in range(n_classes):
            block, extra = self._block(k, diagonal[k], barrier[k])
            root = _inverse_root(block + np.diag(extra.astype(self.dtype)))
            self.inverse_roots[k] = root
            if n_classes > 1:
                inverse = root.T @ root
                shared_diagonal = extra * np.einsum("ij,ij->i", block, inverse)
                inverse *= extra.astype(self.dtype)
                inverse *= extra.astype(self.dtype)[:, None]
                shared -= inverse
                shared[np.diag_indices(d)] += inverse.diagonal() + shared_diagonal
        if n_classes > 1:
            self.shared_root = _inverse_root(shared, SHARED_RIDGES)

    def _block(self, k: int, diagonal: Array, barrier: Array) -> tuple[Array, Array]:
        """Return A_k as it may be now, and D."""
        sums = self.sums[k]
        before = np.maximum(sums.diagonal(), np.finfo(np.float32).tiny)
        scale = np.sqrt(np.clip(diagonal / before, 0.0, LARGEST_SCALE)).astype(self.dtype)
        block = sums * scale
        block *= scale[:, None]
        block[np.diag_indices(len(scale))] = np.maximum(diagonal, block.diagonal())
        return block, barrier

    def apply(self, residual: Array) -> Array:
        """Return P^{-1} of a residual (C, d)."""
        direct = self._solve_blocks(residual)
        if self.n_classes == 1:
            return direct
        pooled = (residual - self.barrier * direct).sum(axis=0)
        shared = self.shared_root.T @ (self.shared_root @ pooled)
        return direct + shared - self._solve_blocks(self.barrier * shared)

    def _solve_blocks(self, right: Array) -> Array:
        roots = self.inverse_roots
        half = roots @ right.astype(self.dtype)[:, :, None]
        return (roots.transpose(0, 2, 1) @ half)[:, :, 0].astype(np.float64)


class ActiveBlock:
    """Coefficients that the barrier leaves free, coupled over all classes; the others alone.

    Near q = 1 the classes of a row depend on each other in ways that `ClassBlocks` leaves out.

    Parameters
    ----------
    shape : tuple of int
        (C, d).
    n_rows : int
    """

    def __init__(self, shape: tuple[int, int], n_rows: int) -> None:
        self.shape, self.n_rows = shape, n_rows
        self.random = np.random.default_rng(0)

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""

    def renew(self, system: Any, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        n_classes, n_features = self.shape
        first = np.cumsum([0, *range(n_classes, 1, -1)])  # of C_kk among the pairs
        own = system.curvature[first].clip(min=0.0)
        diagonal = system.sum_over_blocks(lambda rows, x: own[:, rows] @ np.square(x).T)
        self.total = diagonal + barrier
        ratio = barrier / np.maximum(diagonal, np.finfo(float).tiny)
        bound = np.partition(ratio.ravel(), min(ratio.size, MOST_ACTIVE) - 1)[min(ratio.size, MOST_ACTIVE) - 1]
        self.active = ratio <= min(ACTIVE_RATIO, bound)
        self.columns = [np.flatnonzero(one) for one in self.active]
        weight = self._row_weights(system, own)
        gram = self._gram(system, weight)
        size = diagonal[self.active]
        scale = np.sqrt(np.clip(size / np.maximum(gram.diagonal(), np.finfo(np.float32).tiny), 0.0, LARGEST_SCALE)).astype(np.float32)
        gram *= scale
        gram *= scale[:, None]
        gram[np.diag_indices(len(gram))] = np.maximum(size, gram.diagonal()) + barrier[self.active]
        self.solve_active = _factored(gram)

    def _row_weights(self, system: Any, own: Array) -> Array | None:
        """Return the weights of rows that stand for all, 0 of others; None: all rows."""
        if self.n_rows <= SAMPLED_ROWS:
            return None
        inverse = (1.0 / self.total).astype(np.float32)
        leverage = np.empty(self.n_rows)

        def term(rows: slice, features: Array) -> Array:
            leverage[rows] = (own[:, rows] * (inverse @ np.square(features))).sum(axis=0)
            return np.zeros(())

        system.sum_over_blocks(term)
        chance = _chances(leverage)
        return np.where(self.random.random(self.n_rows) < chance, 1.0 / chance, 0.0)

    def _gram(self, system: Any, weight: Array | None) -> Array:
        ends = np.cumsum([0, *map(len, self.columns)])

        def term(rows: slice, features: Array) -> Array:
            curvature, x = system.curvature[:, rows], features
            if weight is not None:
                kept = np.flatnonzero(weight[rows])
                curvature = curvature[:, kept] * weight[rows][kept].astype(np.float32)
                x = features[:, kept]
            parts = [np.ascontiguousarray(x[columns]) for columns in self.columns]
            out = np.empty((ends[-1], ends[-1]), np.float32)
            pair = 0
            for k, one in enumerate(parts):
                for other in range(k, len(parts)):
                    out[ends[k]:ends[k + 1], ends[other]:ends[other + 1]] = (one * curvature[pair]) @ parts[other].T
                    pair += 1
            return out

        gram = system.sum_over_blocks(term).astype(np.float32)
        return np.triu(gram) + np.triu(gram, 1).T

    def apply(self, residual: Array) -> Array:
        """Return the approximate solution for a residual (C, d)."""
        out = residual / self.total
        out[self.active] = self.solve_active(residual[self.active])
        return out


def _factored(matrix):
    scale = (1.0 / np.sqrt(matrix.diagonal())).astype(matrix.dtype)
    matrix *= scale
    matrix *= scale[:, None]
    for ridge in RIDGES:
        matrix[np.diag_indices(len(matrix))] = 1.0 + ridge
        try:
            factor = cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            continue
        return lambda right: scale * cho_solve(factor, (scale * right).astype(np.float32), check_finite=False)
    raise LinAlgError("the active block of the preconditioner is not positive definite")


def _square(rows: Array) -> Array:
    return rows @ rows.T


def _chances(leverage: Array) -> Array:
    """Return with which chance each row is chosen, for `SAMPLED_ROWS` of them to be expected."""
    n_rows = len(leverage)
    total = leverage.sum()
    share = leverage / total if total > 0.0 else np.full(n_rows, 1.0 / n_rows)
    chance = (1.0 - UNIFORM_SHARE) * share + UNIFORM_SHARE / n_rows
    chance *= SAMPLED_ROWS
    for _ in range(4):
        certain = chance >= 1.0
        rest = SAMPLED_ROWS - certain.sum()
        if rest <= 0 or certain.all():
            break
        chance[~certain] *= rest / chance[~certain].sum()
    return np.minimum(chance, 1.0)


def _inverse_root(matrix: Array, ridges: tuple[float, ...] = RIDGES) -> Array:
    """Return M with MᵀM the inverse of a positive definite matrix, nearly.

    With a unit diagonal, so that a ridge means the same whatever the units. As a product it stays
    positive where rounding would spoil an inverse.
    """
    size = np.maximum(matrix.diagonal(), np.finfo(matrix.dtype).tiny)
    scale = (1.0 / np.sqrt(size)).astype(matrix.dtype)
    unit = matrix * scale
    unit *= scale[:, None]
    potrf, trtri = lapack.get_lapack_funcs(("potrf", "trtri"), (unit,))
    for ridge in ridges:
        unit[np.diag_indices(len(unit))] = 1.0 + ridge
        lower, failed = potrf(unit, lower=1, clean=1)
        if failed:
            continue
        inverse, failed = trtri(lower, lower=1)
        if not failed:
            return inverse * scale
    raise LinAlgError("a block of the preconditioner is not positive definite")
