"""The equations [H + diag D] dW = right of one interior point step, H = mean C_i ⊗ x_i x_iᵀ.

There are two forms with the same interface. Either H is summed over rows and factored, or a
preconditioned conjugate gradient method uses products with H, computed row by row. Computations are
in units where features have root mean square 1; arguments and results are in the given units.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import (
    LARGEST_SYSTEM,
    Array,
    cholesky,
    inner,
    namespace,
    set_diagonal,
)
from mgce_sklearn.design import Block
from mgce_sklearn.kernels import blocks, triangles
from mgce_sklearn.objective import Objective
from mgce_sklearn.parts import Columns, Kept, Part
from mgce_sklearn.solvers.preconditioner import (
    GRAM_RATE,
    MANY_FEATURES,
    SAMPLED_ROWS,
    ActiveBlock,
    ClassBlocks,
    FeatureTerm,
    sum_over_features,
)

# Numbers added to the unit diagonal, one after the other, until the system is positive definite. By
# rounding it may be indefinite.
JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)

# Largest number of products with H for one solution.
MOST_PRODUCTS = 50

# Numbers in a block of rows in a product.
NUMBERS_AT_A_TIME = 2**18


# Operations a second, and seconds, by which the form is chosen. Measured, with an error of 30%.
FACTOR_RATE = 28e9
PRODUCT_RATE = 30e9
SINGLE_RATE = 70e9
DOUBLE_RATE = 15e9
SECONDS_A_PAIR = 1e-9
SECONDS_A_PRODUCT = 5e-5

# Near q = 1 an active block costs less than the whole matrix from this number of coefficients on.
ACTIVE_FROM = 1500

# Products that a step takes: more from q = MANY_PRODUCTS_FROM on. Class blocks are used up to
# LARGEST_Q_OF_CLASS_BLOCKS.
PRODUCTS = 14
MORE_PRODUCTS, MANY_PRODUCTS_FROM = 40, 0.7
LARGEST_Q_OF_CLASS_BLOCKS = 0.8

# Single precision saves time from this many numbers in all rows, and from this many columns. With
# fewer columns, a second copy of the rows would be a large part of the memory.
SINGLE_FROM, LEAST_COLUMNS = 2**16, 8

# For smaller gaps, factors in double precision are used if the system is small enough.
LEAST_GAP_OF_PRODUCTS = 3e-5

# Largest number of entries of the class blocks, and of their factors.
MOST_BLOCK_NUMBERS = 10**8


class Gathered(Protocol):
    """Collects the curvature of a part of the rows. Results of two parts can be added."""

    rows_per_block: int

    def add(self, curvature: Array, features: Block, block: Part) -> None:
        """Add a block; its curvature (pairs, rows) includes the weights."""

    def __add__(self, other: Any) -> Any:
        """Return the sum of both parts. Either may be modified."""


class System(Protocol):
    """The equations at one point."""

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of at most ``accuracy`` (C, d)."""


class Form(Protocol):
    """How the equations are solved."""

    gather: Callable[[Part], Gathered]

    def at(self, gathered: Any, barrier: Array, curvature: Columns) -> System:
        """Return the equations at a point, from the sum over all parts and D (C, d).

        The ``curvature`` is a term that computes the curvatures (pairs, rows) of rows again.
        """


def choose_form(objective: Objective, tol: float) -> Form:
    """Return the form whose steps take less time.

    Parameters
    ----------
    objective : Objective
        With rows in single precision, if they are available.
    tol : float
        Relative gap of the solver.
    """
    factoring = _factoring_seconds(objective)
    if not has_products(objective) or (tol < LEAST_GAP_OF_PRODUCTS and np.isfinite(factoring)):
        return Factored(objective)
    return Factored(objective) if factoring < _product_seconds(objective) else Conjugate(objective)


def reconsidered(form: Form, objective: Objective) -> Form:
    """Return a factored form, if the products of a step took longer than factors would."""
    if isinstance(form, Conjugate):
        taken = form.n_products * form.seconds_of_product
        return Factored(objective) if _factoring_seconds(objective) < taken else form
    return form


def has_products(objective: Objective) -> bool:
    """Tell whether the form with products can be used.

    It needs at least as many rows as features, memory for its preconditioner, and rows in single
    precision. It makes sparse rows dense, and needs memory to store them, since
    otherwise every product would make them dense again.
    """
    parts, (n_classes, n_features) = objective.parts, objective.shape
    fits = n_classes * n_features**2 <= MOST_BLOCK_NUMBERS and n_features <= parts.n_rows
    written = not parts.like.sparse or 4 * parts.n_rows * n_features <= parts.working_memory
    return fits and written and is_large(objective)


def is_large(objective: Objective) -> bool:
    """Tell whether rows are available in single precision, and numerous enough to save time."""
    parts = objective.parts
    many = parts.n_rows * parts.n_features >= SINGLE_FROM
    return many and parts.n_features >= LEAST_COLUMNS and parts.has_single


def loss_parameter(objective: Objective) -> float:
    """Return q. For other potentials return 1, at which classes are coupled most strongly."""
    return float(getattr(objective.potential, "q", 1.0))


def _rows_a_thread(objective: Objective) -> float:
    """Return the number of rows divided by the number of processes that read them."""
    return objective.parts.n_rows / objective.parts.at_once


def _factoring_seconds(objective: Objective) -> float:
    n_rows, (n_classes, d) = _rows_a_thread(objective), objective.shape
    if n_classes * d > LARGEST_SYSTEM:
        return np.inf
    gram = n_rows * n_classes * (n_classes + 1) * d * (d + 1) / 2
    return (gram + (n_classes * d) ** 3 / 3) / FACTOR_RATE


def _product_seconds(objective: Objective) -> float:
    n_rows, (n_classes, d) = objective.parts.n_rows, objective.shape
    q = loss_parameter(objective)
    if n_classes > 1 and q > LARGEST_Q_OF_CLASS_BLOCKS:
        # While many coefficients are free, the active block is as large as the whole matrix.
        return 0.0 if n_classes * d > ACTIVE_FROM else np.inf
    n_products = MORE_PRODUCTS if q > MANY_PRODUCTS_FROM and n_classes > 1 else PRODUCTS
    gram = min(n_rows, SAMPLED_ROWS) * n_classes * d**2 / GRAM_RATE
    rate = SINGLE_RATE if d > MANY_FEATURES else DOUBLE_RATE
    return n_products * _seconds_of_product(objective) + gram + 3.3 * n_classes * d**3 / rate


def _seconds_of_product(objective: Objective) -> float:
    """Return the seconds of a product and of one use of the preconditioner."""
    n_rows, (n_classes, d) = _rows_a_thread(objective), objective.shape
    pairs = n_rows * triangles.n_pairs(n_classes)
    rows = 4 * n_rows * n_classes * d / PRODUCT_RATE + pairs * SECONDS_A_PAIR
    return rows + 4 * n_classes * d**2 / 10e9 + SECONDS_A_PRODUCT + objective.parts.latency


class _Gram:
    """The matrix H itself."""

    def __init__(self, gram: Any) -> None:
        self.gram = gram
        self.rows_per_block = gram.rows_per_block
        self.unit: Array | None = None  # of the features

    def add(self, curvature: Array, features: Block, block: Part) -> None:
        self.unit = features.scale
        self.gram.add(curvature, features.features)

    def __add__(self, other: _Gram) -> _Gram:
        self.gram = self.gram + other.gram
        return self


def _gather_gram(n_coef: int, part: Part) -> Gathered:
    return _Gram(part.design.gram(n_coef))


class Factored:
    """H as a matrix, factored by Cholesky.

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective: Objective) -> None:
        self.gather: Callable[[Part], Gathered] = partial(_gather_gram, objective.shape[0])

    def at(self, gathered: Any, barrier: Array, curvature: Columns) -> System:
        """Return the equations at a point, from the sum over all parts and D (C, d)."""
        return _FactoredSystem(gathered.gram.matrix(), barrier, gathered.unit)


class _FactoredSystem:
    def __init__(self, matrix: Array, barrier: Array, unit: Array | None) -> None:
        unit = 1.0 if unit is None else unit
        diagonal = matrix.diagonal().clip(min=0.0) + (barrier / unit**2).ravel()
        # With a unit diagonal, the effect of the jitter does not depend on the features' units.
        scale = diagonal**-0.5
        matrix *= scale[:, None]
        matrix *= scale
        self.solve_for = _factor(matrix)
        self.scale = scale.reshape(barrier.shape) / unit

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        scaled = (self.scale * right).ravel()
        return self.scale * self.solve_for(scaled).reshape(right.shape)


def _factor(matrix: Array) -> Callable[[Array], Array]:
    if not namespace(matrix).isfinite(matrix).all():
        raise LinAlgError("the interior point system is not finite")
    for jitter in JITTERS:
        set_diagonal(matrix, 1.0 + jitter)
        try:
            return cholesky(matrix)
        except LinAlgError:
            continue
    raise LinAlgError("the interior point system is not positive definite")


@dataclass
class _Curvature:
    """Stores curvatures with the rows, or discards them if ``kept`` is None."""

    kept: Kept | None
    rows_per_block: int

    def add(self, curvature: Array, features: Block, block: Part) -> None:
        if self.kept is not None:
            block.allotted(self.kept, len(curvature), dtype=np.float32)[:] = curvature

    def __add__(self, other: Any) -> Any:
        return self


def _gather_curvature(kept: Kept | None, rows_per_block: int, part: Part) -> Gathered:
    return _Curvature(kept, rows_per_block)


def _in_single(columns: Columns, part: Part) -> Array:
    return columns(part).astype(np.float32)


def _product(curvature: Columns, step: Array, part: Part, features: Array) -> Array:
    margins = step @ features
    out = np.empty_like(margins)
    blocks.multiply(curvature(part), margins, out)
    return (out @ features.T).astype(np.float64)


class Conjugate:
    """Preconditioned conjugate gradients, with products with H only.

    The curvatures of all rows are stored in single precision, if they fit in
    `Parts.working_memory`. If not, they are computed again for every product.

    Parameters
    ----------
    objective : Objective
        Its rows are read in single precision, whatever their precision is.
    """

    def __init__(self, objective: Objective) -> None:
        self.parts, self.shape = objective.parts.compact(), objective.shape
        self.seconds_of_product = _seconds_of_product(objective)
        n_classes, n_features = objective.shape
        n_pairs = triangles.n_pairs(n_classes)
        fits = 4 * n_pairs * self.parts.n_rows <= self.parts.working_memory
        self._kept = self.parts.kept() if fits else None
        self.rows_per_block = int(np.clip(NUMBERS_AT_A_TIME // n_features, 256, 2048))
        self.gather: Callable[[Part], Gathered] = partial(
            _gather_curvature, self._kept, self.rows_per_block
        )
        unit = self.parts.like.scale
        self.unit = np.ones(n_features) if unit is None else unit
        active = n_classes > 1 and loss_parameter(objective) > LARGEST_Q_OF_CLASS_BLOCKS
        source = weakref.proxy(self)  # a cycle would keep the rows in memory until it is collected
        self.preconditioner = ActiveBlock(source) if active else ClassBlocks(source)
        self.n_products = 0

    def at(self, gathered: Any, barrier: Array, curvature: Columns) -> System:
        """Return the equations at a point: this object, with another D."""
        again: Columns = partial(_in_single, curvature)
        self.curvature: Columns = again if self._kept is None else self._kept
        self.barrier = barrier / self.unit**2
        self.preconditioner.renew(self.barrier)
        self.n_products = 0
        return self

    def sum(self, term: FeatureTerm, size: int | None = None) -> Any:
        """Return the sum of ``term`` over blocks of ``size`` rows and their features (d, rows)."""
        return self.parts.over(partial(sum_over_features, term, size or self.rows_per_block))

    def product(self, step: Array) -> Array:
        """Return H dW (C, d)."""
        self.n_products += 1
        return self.sum(partial(_product, self.curvature, step.astype(np.float32)))

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of at most ``accuracy`` (C, d)."""
        before = self.n_products
        residual, accuracy = right / self.unit, accuracy / self.unit
        step, direction, slope = np.zeros_like(residual), np.zeros_like(residual), np.inf
        if guess is not None:
            step = guess * self.unit
            residual = residual - self.product(step) - self.barrier * step
        while self.n_products - before < MOST_PRODUCTS and (abs(residual) > accuracy).any():
            preconditioned = self.preconditioner.apply(residual)
            last, slope = slope, inner(residual, preconditioned)
            direction = preconditioned + (slope / last) * direction
            image = self.product(direction) + self.barrier * direction
            curvature = inner(direction, image)
            if not (slope > 0.0 and curvature > 0.0):
                break  # rounding prevents progress
            step = step + (slope / curvature) * direction
            residual = residual - (slope / curvature) * image
        self.preconditioner.count(self.n_products - before)
        return step / self.unit
