"""Preconditioners of the conjugate gradient method, in units where features have size 1.

Up to middling q the curvature C_i of a row is nearly diag(v) - v vᵀ / sum v, as in multinomial
regression. With A_k = mean v_k x xᵀ and B_k = A_k + D_k the system is then nearly

    P = blockdiag(B_k) - [A_k] (sum A)^{-1} [A_l]ᵀ,

which is solved class by class: P^{-1} r = z + B^{-1} A S^{-1} sum_k A_k z_k, with z = B^{-1} r and
S = sum_k (A_k - A_k B_k^{-1} A_k). Near q = 1 classes depend on each other in other ways, but the
barrier leaves few coefficients free: those are coupled over all classes, the others taken alone.

Where rows are many, sums are over a sample of high leverage, and scaled to the diagonal of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from mgce_sklearn.arrays import set_diagonal
from mgce_sklearn.kernels import blocks

Array = np.ndarray[Any, Any]

# Rows that are summed over, and the share of them that is chosen by chance alone.
SAMPLED_ROWS = 16_000
UNIFORM_SHARE = 0.05

# Of these so many at a time in the sum of the active block.
ROWS_AT_A_TIME = 4000

# Rounds in which the chances of rows are raised until so many can be expected.
ROUNDS = 4

# Features from which on sums and factors are in single precision.
MANY_FEATURES = 300

# Ridges on unit diagonals, of which the first that lets them be factored is taken.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SHARED_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

# The most that the diagonal of a sum over a sample, or of an earlier step, is scaled by.
LARGEST_SCALE = 4.0

# Products of one solution at which an earlier sum is too old.
TOO_MANY_PRODUCTS = 25

# Coefficients are free where D is at most so many times the diagonal of H, and at most so many.
FREE = 5.0
MOST_FREE = 6000

# Operations a second: of sums of squares in single precision, of sums of the active block, of its
# solutions.
GRAM_RATE = 175e9
BLOCK_RATE = 50e9
SOLVE_RATE = 0.5e9

TINY = np.finfo(np.float32).tiny


class RowSource(Protocol):
    """Where a preconditioner finds the rows."""

    shape: tuple[int, int]
    design: Any
    seconds_of_product: float

    def curvature(self, rows: slice) -> Array:
        """Return C_kl (pairs, rows) for k <= l."""

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows and their features (d, rows)."""

    def sum_over_shares(self, term: Callable[[int, int], Array]) -> Any:
        """Add what ``term`` returns of the first row and the end of a share of the rows."""

    def sum_over_blocks(self, term: Callable[[slice, Array], Array]) -> Any:
        """Add what ``term`` returns of blocks of rows and their features (d, rows)."""


class _Age:
    """How old a sum is, in products that a new one would have saved."""

    def __init__(self) -> None:
        self._counts: list[int] = []  # of the solutions of a step
        self._usual: int | None = None  # of the step with the sum itself
        self._beyond = 0

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self._counts.append(n_products)

    def is_too_great(self, product: float, gram: float) -> bool:
        """Tell, at every step but the first, whether a new sum takes less time than it saves."""
        n_products, most = sum(self._counts), max(self._counts, default=0)
        self._counts = []
        if self._usual is None:
            self._usual = n_products
            return False
        self._beyond += max(0, n_products - self._usual)
        return most >= TOO_MANY_PRODUCTS or self._beyond * product > gram


class ClassBlocks:
    """P of the first lines.

    Parameters
    ----------
    source : RowSource
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.n_classes, self.n_features = source.shape
        self.dtype = np.float32 if self.n_features > MANY_FEATURES else np.float64
        self.random = np.random.default_rng(0)
        self.age = _Age()
        self._sums: Array | None = None  # A_k (C, d, d) of the step that summed them

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self.age.count(n_products)

    def renew(self, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        weights = np.empty((self.n_classes, self.source.design.n_rows), np.float32)

        def squares(rows: slice, features: Array) -> Array:
            blocks.diagonal_part(self.source.curvature(rows), weights[:, rows])
            return (weights[:, rows] @ np.square(features).T).astype(np.float64)

        diagonal = self.source.sum_over_blocks(squares)
        n_rows = self.source.design.n_rows
        gram = min(n_rows, SAMPLED_ROWS) * self.n_classes * self.n_features**2 / GRAM_RATE
        product = self.source.seconds_of_product
        if self._sums is None or self.age.is_too_great(product, gram):
            self._sums, self.age = self._sum(weights, diagonal + barrier), _Age()
        self._factor(diagonal, barrier)

    def _sum(self, weights: Array, diagonal: Array) -> Array:
        """Return the A_k over all rows or, where these are many, over rows of high leverage."""
        chances = None
        if self.source.design.n_rows > SAMPLED_ROWS:
            leverages = _leverages(self.source, weights, diagonal)
            chances = [_chances(leverage) for leverage in leverages]
        out = np.empty((self.n_classes, self.n_features, self.n_features), self.dtype)
        for k, weight in enumerate(weights):
            out[k] = self._sum_of(weight if chances is None else self._sampled(weight, chances[k]))
        return out

    def _sampled(self, weight: Array, chance: Array) -> Array:
        chosen = self.random.random(len(chance)) < chance
        return np.where(chosen, weight / chance, 0.0)

    def _sum_of(self, weight: Array) -> Array:
        """Return the sum of v x xᵀ (d, d)."""
        root = np.sqrt(weight).astype(np.float32)

        def squares(rows: slice, features: Array) -> Array:
            kept = np.flatnonzero(root[rows])
            scaled = features.T[kept] * root[rows][kept][:, None]
            return (scaled.T @ scaled).astype(self.dtype)

        return self.source.sum_over_blocks(squares)

    def _factor(self, diagonal: Array, barrier: Array) -> None:
        d = self.n_features
        self.barrier = barrier
        self.inverse_roots = np.empty((self.n_classes, d, d), self.dtype)
        shared = np.zeros((d, d))
        for k in range(self.n_classes):
            block, extra = self._block(k, diagonal[k]), barrier[k].astype(self.dtype)
            own = block.diagonal().copy()
            set_diagonal(block, own + extra)
            root = self.inverse_roots[k] = _inverse_root(block, RIDGES)
            if self.n_classes > 1:
                set_diagonal(block, own)
                shared += _parallel(block, root.T @ root, extra)
        if self.n_classes > 1:
            self.shared_root = _inverse_root(shared, SHARED_RIDGES)

    def _block(self, k: int, diagonal: Array) -> Array:
        """Return A_k as it is now, of one that was: its rows and columns scaled, its diagonal."""
        sums: Any = self._sums
        before = np.maximum(sums[k].diagonal(), TINY)
        scale = np.sqrt(np.clip(diagonal / before, 0.0, LARGEST_SCALE)).astype(self.dtype)
        block = sums[k] * scale
        block *= scale[:, None]
        block[np.diag_indices(len(scale))] = np.maximum(diagonal, block.diagonal())
        return block

    def apply(self, residual: Array) -> Array:
        """Return P^{-1} of a residual (C, d)."""
        direct = self._solve_blocks(residual)
        if self.n_classes == 1:
            return direct
        pooled = (residual - self.barrier * direct).sum(axis=0)  # sum A z, as B z is the residual
        shared = self.shared_root.T @ (self.shared_root @ pooled)
        return direct + shared - self._solve_blocks(self.barrier * shared)

    def _solve_blocks(self, right: Array) -> Array:
        roots = self.inverse_roots
        half = roots @ right.astype(self.dtype)[:, :, None]
        return (roots.transpose(0, 2, 1) @ half)[:, :, 0].astype(np.float64)


class ActiveBlock:
    """Coefficients that the barrier leaves free, coupled over all classes; the others alone.

    Parameters
    ----------
    source : RowSource
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.random = np.random.default_rng(0)
        self.age = _Age()
        self._block: Array | None = None  # of the coefficients that were free when it was summed
        self._free_then: Any = None

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self.age.count(n_products)

    def renew(self, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        n_classes = self.source.shape[0]
        own = np.empty((n_classes, self.source.design.n_rows), np.float32)
        same = np.cumsum([0, *range(n_classes, 1, -1)])  # C_kk among the pairs

        def squares(rows: slice, features: Array) -> Array:
            own[:, rows] = self.source.curvature(rows)[same].clip(min=0.0)
            return (own[:, rows] @ np.square(features).T).astype(np.float64)

        diagonal = self.source.sum_over_blocks(squares)
        self.total = diagonal + barrier
        free = _free(barrier / np.maximum(diagonal, TINY))
        block = self._summed(free, own)
        size = diagonal[self.free]
        before = np.maximum(block.diagonal(), TINY)
        scale = np.sqrt(np.clip(size / before, 0.0, LARGEST_SCALE)).astype(np.float32)
        block *= scale
        block *= scale[:, None]
        block[np.diag_indices(len(block))] = np.maximum(size, block.diagonal()) + barrier[self.free]
        self.solve_block = _factored(block)

    def _summed(self, free: Array, own: Array) -> Array:
        """Return H of free coefficients, a new sum or the part that is still free of the last."""
        n_rows, n_free = own.shape[1], int(free.sum())
        product = self.source.seconds_of_product + n_free**2 / SOLVE_RATE
        gram = min(n_rows, SAMPLED_ROWS) * n_free**2 / BLOCK_RATE
        if self._block is None or self.age.is_too_great(product, gram):
            self.free = self._free_then = free
            self._block, self.age = self._sum(self._sampled(own)), _Age()
        self.free = free & self._free_then
        kept = self.free[self._free_then]
        return self._block[np.ix_(kept, kept)]

    def _sampled(self, own: Array) -> Array:
        """Return the weights of rows that stand for all, 0 of others."""
        if own.shape[1] <= SAMPLED_ROWS:
            return np.ones(own.shape[1], np.float32)
        leverage = _leverages(self.source, own, self.total).sum(axis=0)
        chance = _chances(leverage)
        chosen = self.random.random(len(chance)) < chance
        return np.where(chosen, 1.0 / chance, 0.0).astype(np.float32)

    def _sum(self, weight: Array) -> Array:
        """Return H of the free coefficients, class by class."""
        columns = [np.flatnonzero(one) for one in self.free]
        ends = np.cumsum([0, *map(len, columns)])
        places = [slice(*pair) for pair in itertools.pairwise(ends)]

        def share(start: int, stop: int) -> Array:
            out = np.zeros((ends[-1], ends[-1]), np.float32)
            for features, curvature in self._chosen(start, stop, weight):
                parts = [features[:, free] for free in columns]
                pairs = itertools.combinations_with_replacement(range(len(parts)), 2)
                for (k, other), curved in zip(pairs, curvature, strict=True):
                    out[places[k], places[other]] += (parts[k].T * curved) @ parts[other]
            return out

        block = self.source.sum_over_shares(share)
        return np.triu(block) + np.triu(block, 1).T

    def _chosen(self, start: int, stop: int, weight: Array) -> Iterator[tuple[Array, Array]]:
        """Yield features (rows, d) and weighted curvatures (pairs, rows) of rows with a weight.

        Many at a time, as sums over few rows spend their time on adding up.
        """
        gathered: list[tuple[Array, Array]] = []
        for block, features in self.source.blocks(start, stop):
            rows = np.flatnonzero(weight[block])
            curvature = self.source.curvature(block)[:, rows] * weight[block][rows]
            gathered.append((features.T[rows], curvature))
            if sum(len(one) for one, _ in gathered) >= ROWS_AT_A_TIME or block.stop == stop:
                yield np.concatenate([x for x, _ in gathered]), np.hstack([c for _, c in gathered])
                gathered = []

    def apply(self, residual: Array) -> Array:
        """Return the approximate solution for a residual (C, d)."""
        out = residual / self.total
        out[self.free] = self.solve_block(residual[self.free])
        return out


def _free(ratio: Array) -> Array:
    """Tell which coefficients (C, d) the barrier leaves free, of ratios D_j / H_jj."""
    if ratio.size <= MOST_FREE:
        return ratio <= FREE
    return ratio <= min(FREE, np.partition(ratio.ravel(), MOST_FREE)[MOST_FREE])


def _leverages(source: RowSource, weights: Array, total: Array) -> Array:
    """Return v_ik sum_j x_ij² / (H + D)_kj (C, n)."""
    inverse = (1.0 / total).astype(np.float32)
    out = np.empty(weights.shape)

    def share(rows: slice, features: Array) -> Array:
        out[:, rows] = weights[:, rows] * (inverse @ np.square(features))
        return np.zeros(())

    source.sum_over_blocks(share)
    return out


def _chances(leverage: Array) -> Array:
    """Return with which chance each row is chosen, so that `SAMPLED_ROWS` can be expected."""
    n_rows, total = len(leverage), leverage.sum()
    share = leverage / total if total > 0.0 else np.full(n_rows, 1.0 / n_rows)
    chance = SAMPLED_ROWS * ((1.0 - UNIFORM_SHARE) * share + UNIFORM_SHARE / n_rows)
    for _ in range(ROUNDS):
        certain = chance >= 1.0
        rest = SAMPLED_ROWS - certain.sum()
        if rest <= 0 or certain.all():
            break
        chance[~certain] *= rest / chance[~certain].sum()
    return np.minimum(chance, 1.0)


def _parallel(own: Array, inverse: Array, extra: Array) -> Array:
    """Return A - A B^{-1} A of A, the inverse of B = A + diag D, and D, without large differences.

    Beside the diagonal it is -D B^{-1} D, and on it D times the diagonal of A B^{-1}. That of B
    would not do: where D is large it has lost A.
    """
    with_diagonal = extra * np.einsum("ij,ij->i", own, inverse)
    out = inverse * -extra
    out *= extra[:, None]
    set_diagonal(out, with_diagonal)
    return out


def _inverse_root(matrix: Array, ridges: tuple[float, ...]) -> Array:
    """Return M with MᵀM the inverse of a positive definite matrix, nearly.

    It stays positive as a product, where rounding would spoil an inverse.
    """
    scale = (1.0 / np.sqrt(np.maximum(matrix.diagonal(), TINY))).astype(matrix.dtype)
    unit = matrix * scale
    unit *= scale[:, None]
    potrf, trtri = lapack.get_lapack_funcs(("potrf", "trtri"), (unit,))
    for ridge in ridges:
        unit[np.diag_indices(len(unit))] = 1.0 + ridge
        lower, failed = potrf(unit, lower=1, clean=1)
        if not failed:
            inverse, failed = trtri(lower, lower=1)
        if not failed:
            return inverse * scale
    raise LinAlgError("a block of the preconditioner is not positive definite")


def _factored(matrix: Array) -> Callable[[Array], Array]:
    """Factor a positive definite matrix, nearly; return the function that solves."""
    scale = (1.0 / np.sqrt(np.maximum(matrix.diagonal(), TINY))).astype(matrix.dtype)
    matrix *= scale
    matrix *= scale[:, None]
    for ridge in RIDGES:
        matrix[np.diag_indices(len(matrix))] = 1.0 + ridge
        try:
            factor = cho_factor(matrix, lower=True, check_finite=False)
        except LinAlgError:
            continue
        return lambda right: (
            scale * cho_solve(factor, (scale * right).astype(matrix.dtype), check_finite=False)
        )
    raise LinAlgError("the active block of the preconditioner is not positive definite")
