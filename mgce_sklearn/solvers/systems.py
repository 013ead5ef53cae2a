"""The equations [H + diag D] dW = right of one interior point step, H = mean C_i ⊗ x_i x_iᵀ.

Two forms of the same interface: H summed and factored, or multiplied with, row by row, in a
preconditioned conjugate gradient method. All of this is in units where features have root mean
square 1, save for what goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import (
    LARGEST_SYSTEM,
    Array,
    cholesky,
    inner,
    is_tensor,
    namespace,
    set_diagonal,
)
from mgce_sklearn.design import WORKING_MEMORY, Block
from mgce_sklearn.kernels import blocks
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.solvers.preconditioner import (
    GRAM_RATE,
    MANY_FEATURES,
    SAMPLED_ROWS,
    ActiveBlock,
    ClassBlocks,
)

# Jitters tried when rounding makes the (unit diagonal) system indefinite.
JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)

# Products with H of one solution.
MOST_PRODUCTS = 50

# Numbers of a block of rows in a product.
NUMBERS_AT_A_TIME = 2**18


# Seconds of an operation, for the choice between the two forms: measured, give or take 30%.
FACTOR_RATE = 28e9
PRODUCT_RATE = 30e9
SINGLE_RATE = 70e9
DOUBLE_RATE = 15e9
SECONDS_A_PAIR = 1e-9
SECONDS_A_PRODUCT = 5e-5

# Near q = 1 an active block costs less than the whole matrix from this size on.
ACTIVE_FROM = 1500

# Products that a step takes, by q, and up to which q class blocks serve.
PRODUCTS = 14
MORE_PRODUCTS, MANY_PRODUCTS_FROM = 40, 0.7
LARGEST_Q_OF_CLASS_BLOCKS = 0.8

# Numbers of the rows, and of their columns, from which on single precision saves time: rows of few
# columns would be a large part of the memory.
SINGLE_FROM, LEAST_COLUMNS = 2**16, 8

# Smaller gaps are asked of factors, in double precision, where there is a choice.
LEAST_GAP_OF_PRODUCTS = 3e-5

# Numbers of the class blocks, and of their factors each.
MOST_BLOCK_NUMBERS = 10**8

Curvatures = Callable[[int, int], Array]


class Part(Protocol):
    """What gathers the curvature of a share of the rows."""

    rows_per_block: int

    def add(self, curvature: Array, block: Block, start: int, stop: int) -> None:
        """Add a block; its curvature (pairs, rows) includes the weights."""


class System(Protocol):
    """The equations at one point."""

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of no more than ``accuracy`` (C, d)."""


class Form(Protocol):
    """How the equations are solved at every point."""

    def part(self) -> Part:
        """Return what gathers a share of the rows."""

    def at(self, parts: list[Any], barrier: Array, curvatures: Curvatures) -> System:
        """Return the equations of the parts and D (C, d).

        ``curvatures`` computes those (pairs, rows) of given rows again.
        """


def choose_form(objective: Objective, tol: float, team: RowTeam) -> Form:
    """Return the form whose steps take less time.

    Parameters
    ----------
    objective : Objective
        Of rows in single precision, where there are such.
    tol : float
        Relative gap that is asked for.
    team : RowTeam
    """
    factoring = _factoring_seconds(objective)
    if not has_products(objective) or (tol < LEAST_GAP_OF_PRODUCTS and np.isfinite(factoring)):
        return Factored(objective)
    return (
        Factored(objective)
        if factoring < _product_seconds(objective)
        else Conjugate(objective, team)
    )


def reconsidered(form: Form, objective: Objective) -> Form:
    """Return factors instead of products, once those of a step took longer than factors would."""
    if isinstance(form, Conjugate):
        taken = form.n_products * form.seconds_of_product
        return Factored(objective) if _factoring_seconds(objective) < taken else form
    return form


def has_products(objective: Objective) -> bool:
    """Tell whether the second form has rows that it reads, room, and more rows than features.

    Of sparse rows it reads all zeros, and would not write them again for every product.
    """
    design, (n_classes, n_features) = objective.design, objective.shape
    fits = n_classes * n_features**2 <= MOST_BLOCK_NUMBERS and n_features <= design.n_rows
    written = not design.sparse or 4 * design.n_rows * n_features <= WORKING_MEMORY
    return fits and written and is_large(objective)


def is_large(objective: Objective) -> bool:
    """Tell whether rows are numpy's, and enough to gain from single precision."""
    design = objective.design
    many = design.n_rows * design.n_features >= SINGLE_FROM
    return many and design.n_features >= LEAST_COLUMNS and not is_tensor(design.X)


def loss_parameter(objective: Objective) -> float:
    """Return q; for other potentials 1, where classes of a row depend on each other most."""
    return float(getattr(objective.potential, "q", 1.0))


def _factoring_seconds(objective: Objective) -> float:
    n_rows, (n_classes, d) = objective.design.n_rows, objective.shape
    if n_classes * d > LARGEST_SYSTEM:
        return np.inf
    gram = n_rows * n_classes * (n_classes + 1) * d * (d + 1) / 2
    return (gram + (n_classes * d) ** 3 / 3) / FACTOR_RATE


def _product_seconds(objective: Objective) -> float:
    n_rows, (n_classes, d) = objective.design.n_rows, objective.shape
    q = loss_parameter(objective)
    if n_classes > 1 and q > LARGEST_Q_OF_CLASS_BLOCKS:
        # The active block is as large as the whole matrix while many coefficients are free.
        return 0.0 if n_classes * d > ACTIVE_FROM else np.inf
    n_products = MORE_PRODUCTS if q > MANY_PRODUCTS_FROM and n_classes > 1 else PRODUCTS
    gram = min(n_rows, SAMPLED_ROWS) * n_classes * d**2 / GRAM_RATE
    rate = SINGLE_RATE if d > MANY_FEATURES else DOUBLE_RATE
    return n_products * _seconds_of_product(objective) + gram + 3.3 * n_classes * d**3 / rate


def _seconds_of_product(objective: Objective) -> float:
    """Return what a product takes, and the preconditioner with it."""
    n_rows, (n_classes, d) = objective.design.n_rows, objective.shape
    pairs = n_rows * n_classes * (n_classes + 1) / 2
    rows = 4 * n_rows * n_classes * d / PRODUCT_RATE + pairs * SECONDS_A_PAIR
    return rows + 4 * n_classes * d**2 / 10e9 + SECONDS_A_PRODUCT


class _GramPart:
    def __init__(self, gram: Any) -> None:
        self.gram = gram
        self.rows_per_block = gram.rows_per_block
        self.unit: Array | None = None  # of the features

    def add(self, curvature: Array, block: Block, start: int, stop: int) -> None:
        self.unit = block.scale
        self.gram.add(curvature, block.features)


class Factored:
    """H as a matrix, factored by Cholesky.

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def part(self) -> Part:
        """Return what gathers a share of the rows."""
        return _GramPart(self.objective.design.gram(self.objective.shape[0]))

    def at(self, parts: list[Any], barrier: Array, curvatures: Curvatures) -> System:
        """Return the equations of the parts and D (C, d)."""
        gram = parts[0].gram
        for other in parts[1:]:
            gram += other.gram
        return _FactoredSystem(gram.matrix(), barrier, parts[0].unit)


class _FactoredSystem:
    def __init__(self, matrix: Array, barrier: Array, unit: Array | None) -> None:
        unit = 1.0 if unit is None else unit
        diagonal = matrix.diagonal().clip(min=0.0) + (barrier / unit**2).ravel()
        # A unit diagonal makes the jitter mean the same whatever the features' units.
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


class _CurvaturePart:
    """Keeps curvatures, or drops them if nothing is given to keep them in."""

    def __init__(self, curvature: Array | None, rows_per_block: int) -> None:
        self.curvature, self.rows_per_block = curvature, rows_per_block

    def add(self, curvature: Array, block: Block, start: int, stop: int) -> None:
        if self.curvature is not None:
            self.curvature[:, start:stop] = curvature


class Conjugate:
    """H by its products alone: preconditioned conjugate gradients.

    The curvatures of all rows are kept in single precision, within `design.WORKING_MEMORY`; else
    they are computed again for every product.

    Parameters
    ----------
    objective : Objective
        Whose rows are read in single precision, whatever they are.
    team : RowTeam
    """

    def __init__(self, objective: Objective, team: RowTeam) -> None:
        self.design, self.team, self.shape = objective.design.compact(), team, objective.shape
        self.seconds_of_product = _seconds_of_product(objective)
        n_classes, n_features = objective.shape
        n_rows, n_pairs = self.design.n_rows, n_classes * (n_classes + 1) // 2
        fits = 4 * n_pairs * n_rows <= WORKING_MEMORY
        self._kept = np.empty((n_pairs, n_rows), np.float32) if fits else None
        self.rows_per_block = int(np.clip(NUMBERS_AT_A_TIME // n_features, 256, 2048))
        unit = self.design.block(0, 1).scale
        self.unit = np.ones(n_features) if unit is None else unit
        active = n_classes > 1 and loss_parameter(objective) > LARGEST_Q_OF_CLASS_BLOCKS
        self.preconditioner = ActiveBlock(self) if active else ClassBlocks(self)
        self.n_products = 0

    def part(self) -> Part:
        """Return what gathers a share of the rows."""
        return _CurvaturePart(self._kept, self.rows_per_block)

    def at(self, parts: list[Any], barrier: Array, curvatures: Curvatures) -> System:
        """Return the equations at one point: these, with another D."""
        self._curvatures = curvatures
        self.barrier = barrier / self.unit**2
        self.preconditioner.renew(self.barrier)
        self.n_products = 0
        return self

    def curvature(self, rows: slice) -> Array:
        """Return C_kl (pairs, rows) for k <= l, in single precision."""
        if self._kept is not None:
            return self._kept[:, rows]
        return self._curvatures(rows.start, rows.stop).astype(np.float32)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows and their features (d, rows)."""
        for begin in range(start, stop, self.rows_per_block):
            end = min(begin + self.rows_per_block, stop)
            yield slice(begin, end), self.design.block(begin, end).features

    def sum_over_shares(self, term: Callable[[int, int], Any]) -> Any:
        """Add what ``term`` returns of the first row and the end of a share of the rows."""
        return sum(self.team.run(term))

    def sum_over_blocks(self, term: Callable[[slice, Array], Array]) -> Any:
        """Add in float64 what ``term`` returns of blocks of rows and their features (d, rows)."""

        def share(start: int, stop: int) -> Any:
            return sum(term(rows, features) for rows, features in self.blocks(start, stop))

        return self.sum_over_shares(share)

    def product(self, step: Array) -> Array:
        """Return H dW (C, d)."""
        single = step.astype(np.float32)

        def term(rows: slice, features: Array) -> Array:
            margins = single @ features
            out = np.empty_like(margins)
            blocks.multiply(self.curvature(rows), margins, out)
            return (out @ features.T).astype(np.float64)

        self.n_products += 1
        return self.sum_over_blocks(term)

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of no more than ``accuracy`` (C, d)."""
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
                break  # rounding has won
            step = step + (slope / curvature) * direction
            residual = residual - (slope / curvature) * image
        self.preconditioner.count(self.n_products - before)
        return step / self.unit
