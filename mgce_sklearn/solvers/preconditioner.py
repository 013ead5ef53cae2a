"""Preconditioners of the conjugate gradient method, in units where features have size 1.

For q up to about 0.8 the curvature C_i of a row is nearly diag(v) - v vᵀ / sum v, as in
multinomial regression. With A_k = mean v_k x xᵀ and B_k = A_k + D_k, the system is then nearly

    P = blockdiag(B_k) - [A_k] (sum A)^{-1} [A_l]ᵀ,

which is solved class by class: P^{-1} r = z + B^{-1} A S^{-1} sum_k A_k z_k, with z = B^{-1} r and
S = sum_k (A_k - A_k B_k^{-1} A_k). Near q = 1 classes are coupled in other ways, but the barrier
leaves only few coefficients free. For these a block that couples all classes is factored; for the
others the diagonal is used.

If there are many rows, sums are over a sample of high leverage, and then scaled to the diagonal of
the sum over all rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from mgce_sklearn.arrays import set_diagonal
from mgce_sklearn.kernels import blocks, triangles
from mgce_sklearn.parts import Columns, Kept, Part, add

Array = np.ndarray[Any, Any]

# Number of sampled rows, and the fraction of them that is drawn uniformly, whatever their leverage.
SAMPLED_ROWS = 16_000
UNIFORM_SHARE = 0.05

# Number of sampled rows at a time in the sum of the active block.
ROWS_AT_A_TIME = 4000

# Rounds in which the probabilities of rows are raised until the expected number is SAMPLED_ROWS.
ROUNDS = 4

# With more features, sums and factors are in single precision.
MANY_FEATURES = 300

# Numbers added to unit diagonals. The first with which the matrix can be factored is used.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SHARED_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

# Largest factor by which the diagonal of a sum over a sample, or of an earlier step, is scaled.
LARGEST_SCALE = 4.0

# If one solution takes this many products, an earlier sum is replaced by a new one.
TOO_MANY_PRODUCTS = 25

# Coefficients are free if D is at most FREE times the diagonal of H. At most MOST_FREE are.
FREE = 5.0
MOST_FREE = 6000

# Operations a second: of sums of squares in single precision, of sums of the active block, and of
# solutions with its factor.
GRAM_RATE = 175e9
BLOCK_RATE = 50e9
SOLVE_RATE = 0.5e9

TINY = np.finfo(np.float32).tiny


# A function of a block of rows and its features (d, rows).
FeatureTerm = Callable[[Part, Array], Any]


class RowSource(Protocol):
    """What a preconditioner needs of the rows."""

    shape: tuple[int, int]
    parts: Any
    seconds_of_product: float
    rows_per_block: int
    curvature: Columns  # C_kl (pairs, rows) for k <= l, in single precision

    def sum(self, term: FeatureTerm, size: int | None = None) -> Any:
        """Return the sum of ``term`` over blocks of ``size`` rows and their features (d, rows)."""


def sum_over_features(term: FeatureTerm, size: int, part: Part) -> Any:
    """Return the sum of ``term`` over blocks of ``size`` rows of a part."""
    return reduce(
        add, (term(block, block.design.block().features) for block in part.blocks_of(size))
    )


class _Age:
    """Age of a sum, measured by the products that a new sum would have saved."""

    def __init__(self) -> None:
        self._counts: list[int] = []  # products of the solutions of a step
        self._usual: int | None = None  # products of the step in which the sum was made
        self._beyond = 0

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self._counts.append(n_products)

    def is_too_great(self, product: float, gram: float) -> bool:
        """Tell, at every step but the first, whether a new sum costs less time than it saves."""
        n_products, most = sum(self._counts), max(self._counts, default=0)
        self._counts = []
        if self._usual is None:
            self._usual = n_products
            return False
        self._beyond += max(0, n_products - self._usual)
        return most >= TOO_MANY_PRODUCTS or self._beyond * product > gram


class ClassBlocks:
    """The matrix P of the module's docstring.

    Parameters
    ----------
    source : RowSource
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.n_classes, self.n_features = source.shape
        self.dtype = np.float32 if self.n_features > MANY_FEATURES else np.float64
        self.draw = 0
        self.age = _Age()
        self._sums: Array | None = None  # A_k (C, d, d) of the step in which they were summed

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self.age.count(n_products)

    def renew(self, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        weights = self.source.parts.kept()
        diagonal = self.source.sum(partial(_class_weights, self.source.curvature, weights))
        n_rows = self.source.parts.n_rows
        gram = min(n_rows, SAMPLED_ROWS) * self.n_classes * self.n_features**2 / GRAM_RATE
        product = self.source.seconds_of_product
        if self._sums is None or self.age.is_too_great(product, gram):
            self._sums, self.age = self._sum(weights, diagonal + barrier), _Age()
        self._factor(diagonal, barrier)

    def _sum(self, weights: Kept, diagonal: Array) -> Array:
        """Return the A_k over all rows, or if these are many, over a sample of high leverage."""
        chosen = weights
        if self.source.parts.n_rows > SAMPLED_ROWS:
            self.draw += 1
            chosen = _sample(self.source, weights, diagonal, self.draw, by_class=True)
        return self.source.sum(partial(_squares_by_class, chosen, self.dtype), ROWS_AT_A_TIME)

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
        """Return an earlier A_k, with rows and columns scaled to the current diagonal."""
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
        pooled = (residual - self.barrier * direct).sum(axis=0)  # sum A z, since B z = residual
        shared = self.shared_root.T @ (self.shared_root @ pooled)
        return direct + shared - self._solve_blocks(self.barrier * shared)

    def _solve_blocks(self, right: Array) -> Array:
        roots = self.inverse_roots
        half = roots @ right.astype(self.dtype)[:, :, None]
        return (roots.transpose(0, 2, 1) @ half)[:, :, 0].astype(np.float64)


class ActiveBlock:
    """A block of the free coefficients of all classes, and a diagonal for the others.

    Parameters
    ----------
    source : RowSource
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.draw = 0
        self.age = _Age()
        self._block: Array | None = None  # H of the coefficients that were free in that step
        self._free_then: Any = None

    def count(self, n_products: int) -> None:
        """Take note of the products that a solution took."""
        self.age.count(n_products)

    def renew(self, barrier: Array) -> None:
        """Prepare for other curvatures and another D (C, d)."""
        own = self.source.parts.kept()
        same = triangles.diagonal(self.source.shape[0])
        diagonal = self.source.sum(partial(_own_curvature, self.source.curvature, same, own))
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

    def _summed(self, free: Array, own: Kept) -> Array:
        """Return H of free coefficients: a new sum, or the part of the last that is still free."""
        n_rows, n_free = self.source.parts.n_rows, int(free.sum())
        product = self.source.seconds_of_product + n_free**2 / SOLVE_RATE
        gram = min(n_rows, SAMPLED_ROWS) * n_free**2 / BLOCK_RATE
        if self._block is None or self.age.is_too_great(product, gram):
            self.free = self._free_then = free
            self._block, self.age = self._sum(self._sampled(own)), _Age()
        self.free = free & self._free_then
        kept = self.free[self._free_then]
        return self._block[np.ix_(kept, kept)]

    def _sampled(self, own: Kept) -> Kept | None:
        """Return the weights (1, n) of a sample of rows, 0 for the others; None for all rows."""
        if self.source.parts.n_rows <= SAMPLED_ROWS:
            return None
        self.draw += 1
        return _sample(self.source, own, self.total, self.draw, by_class=False)

    def _sum(self, weight: Kept | None) -> Array:
        """Return H of the free coefficients, ordered by class."""
        columns = [np.flatnonzero(one) for one in self.free]
        size, curvature = self.source.rows_per_block, self.source.curvature
        block = self.source.parts.over(partial(_free_block, columns, curvature, weight, size))
        return triangles.symmetric(block)

    def apply(self, residual: Array) -> Array:
        """Return the approximate solution for a residual (C, d)."""
        out = residual / self.total
        out[self.free] = self.solve_block(residual[self.free])
        return out


def _free(ratio: Array) -> Array:
    """Tell which coefficients (C, d) the barrier leaves free, from the ratios D_j / H_jj."""
    if ratio.size <= MOST_FREE:
        return ratio <= FREE
    return ratio <= min(FREE, np.partition(ratio.ravel(), MOST_FREE)[MOST_FREE])


def _class_weights(curvature: Columns, weights: Kept, part: Part, features: Array) -> Array:
    """Store the v (C, rows) of the rows, and return the sum of v x²."""
    out = part.allotted(weights, triangles.size_of(len(curvature(part))), dtype=np.float32)
    blocks.diagonal_part(curvature(part), out)
    return (out @ np.square(features).T).astype(np.float64)


def _own_curvature(
    curvature: Columns, same: Array, own: Kept, part: Part, features: Array
) -> Array:
    """Store the C_kk (C, rows) of the rows, and return the diagonal of H."""
    out = part.allotted(own, len(same), dtype=np.float32)
    out[:] = curvature(part)[same].clip(min=0.0)
    return (out @ np.square(features).T).astype(np.float64)


def _squares_by_class(weights: Kept, dtype: Any, part: Part, features: Array) -> Array:
    """Return the sums of v x xᵀ (C, d, d)."""
    roots = np.sqrt(weights(part))
    out = np.empty((len(roots), len(features), len(features)), dtype)
    for total, root in zip(out, roots, strict=True):
        kept = np.flatnonzero(root)
        scaled = features.T[kept] * root[kept][:, None]
        total[:] = scaled.T @ scaled
    return out


def _free_block(
    columns: list[Array], curvature: Columns, weight: Kept | None, size: int, part: Part
) -> Array:
    """Return the upper triangle of H for some columns of each class."""
    ends = np.cumsum([0, *map(len, columns)])
    places = [slice(*pair) for pair in itertools.pairwise(ends)]
    out = np.zeros((ends[-1], ends[-1]), np.float32)
    for features, curved in _chosen(curvature, weight, size, part):
        parts = [features[:, free] for free in columns]
        for k, other, factor in zip(*triangles.pairs(len(parts)), curved, strict=True):
            out[places[k], places[other]] += (parts[k].T * factor) @ parts[other]
    return out


def _chosen(
    curvature: Columns, weight: Kept | None, size: int, part: Part
) -> Iterator[tuple[Array, Array]]:
    """Yield features (rows, d) and weighted curvatures (pairs, rows) of rows with a weight.

    Many rows come at a time, since for few rows adding the result takes most of the time.
    """
    gathered: list[tuple[Array, Array]] = []
    for block in part.blocks_of(size):
        factor = np.ones(block.n_rows, np.float32) if weight is None else weight(block)[0]
        rows = np.flatnonzero(factor)
        features = block.design.block().features
        gathered.append((features.T[rows], curvature(block)[:, rows] * factor[rows]))
        if sum(len(one) for one, _ in gathered) >= ROWS_AT_A_TIME or block.stop == part.stop:
            yield np.concatenate([x for x, _ in gathered]), np.hstack([c for _, c in gathered])
            gathered = []


def _sample(source: RowSource, weights: Kept, total: Array, draw: int, by_class: bool) -> Kept:
    """Draw rows by their leverage v_ik sum_j x_ij² / (H + D)_kj, of each class or of all classes.

    Returns
    -------
    Kept
        Name of an array (C, n), or (1, n), of the weights of rows: 0 if a row was not drawn.
    """
    parts, leverage, chosen = source.parts, source.parts.kept(), source.parts.kept()
    inverse = (1.0 / total).astype(np.float32)
    sums = source.sum(partial(_leverages, weights, inverse, leverage, by_class))
    # A probability is a multiple of slope * leverage + floor, and at most 1.
    slope = np.where(sums > 0.0, (1.0 - UNIFORM_SHARE) / np.where(sums > 0.0, sums, 1.0), 0.0)
    floor = np.where(sums > 0.0, UNIFORM_SHARE, 1.0) / parts.n_rows
    factor = np.full(len(sums), float(SAMPLED_ROWS))
    for _ in range(ROUNDS):
        term = partial(_uncertain, leverage, slope, floor, factor)
        n_certain, rest = parts.sum(term, features=False)
        left = SAMPLED_ROWS - n_certain
        raised = (left > 0.0) & (rest > 0.0)
        factor = np.where(raised, left / np.where(raised, rest, 1.0), factor)
    parts.sum(
        partial(_draw, weights if by_class else None, leverage, slope, floor, factor, draw, chosen),
        features=False,
    )
    return chosen


def _leverages(
    weights: Kept, inverse: Array, leverage: Kept, by_class: bool, part: Part, features: Array
) -> Array:
    """Store the leverages of the rows, and return their sum."""
    own = weights(part) * (inverse @ np.square(features))
    out = part.allotted(leverage, len(own) if by_class else 1)
    out[:] = own if by_class else own.sum(axis=0)
    return out.sum(axis=1)


def _chances(leverage: Kept, slope: Array, floor: Array, part: Part) -> Array:
    return slope[:, None] * leverage(part) + floor[:, None]


def _uncertain(
    leverage: Kept, slope: Array, floor: Array, factor: Array, part: Part
) -> tuple[Array, Array]:
    """Return the number of rows of probability 1, and the sum of the others with factor 1."""
    chances = _chances(leverage, slope, floor, part)
    certain = factor[:, None] * chances >= 1.0
    return certain.sum(axis=1), np.where(certain, 0.0, chances).sum(axis=1)


def _draw(
    weights: Kept | None,
    leverage: Kept,
    slope: Array,
    floor: Array,
    factor: Array,
    draw: int,
    chosen: Kept,
    part: Part,
) -> None:
    chances = np.minimum(factor[:, None] * _chances(leverage, slope, floor, part), 1.0)
    out = part.allotted(chosen, len(chances), dtype=np.float32)
    for k, chance in enumerate(chances):
        # The random number of a row does not depend on how rows are divided into parts.
        bits = np.random.PCG64([draw, k]).advance(part.first_row)
        drawn = np.random.Generator(bits).random(part.n_rows) < chance
        own = 1.0 if weights is None else weights(part)[k]
        out[k] = np.where(drawn, own / chance, 0.0)


def _parallel(own: Array, inverse: Array, extra: Array) -> Array:
    """Return A - A B^{-1} A, from A, the inverse of B = A + diag D, and D, without cancellation.

    Off the diagonal it is -D B^{-1} D. The diagonal is D times that of A B^{-1}. It cannot be
    computed from B^{-1} alone: where D is large, that has lost A to rounding.
    """
    with_diagonal = extra * np.einsum("ij,ij->i", own, inverse)
    out = inverse * -extra
    out *= extra[:, None]
    set_diagonal(out, with_diagonal)
    return out


def _inverse_root(matrix: Array, ridges: tuple[float, ...]) -> Array:
    """Return M such that MᵀM is nearly the inverse of a positive definite matrix.

    The product MᵀM is positive in spite of rounding, which an inverse may not be.
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
    """Factor a positive definite matrix plus a small ridge. Return the function that solves."""
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
