"""The equations [H + diag D] dW = right of one interior point step, H = mean C_i ⊗ x_i x_iᵀ.

Two forms of the same interface: H summed and factored, or multiplied with, row by row, in a
preconditioned conjugate gradient method. All of this is in units where features have root mean
square 1, save for what goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, cholesky, inner, namespace, set_diagonal
from mgce_sklearn.design import Block
from mgce_sklearn.kernels import blocks
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.solvers.preconditioner import ActiveBlock, ClassBlocks

# Jitters tried when rounding makes the (unit diagonal) system indefinite.
JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)

# Products with H of one solution.
MOST_PRODUCTS = 50

# Numbers of a block of rows in a product.
NUMBERS_AT_A_TIME = 2**18


class Part(Protocol):
    """What gathers the curvature of a share of the rows."""

    rows_per_block: int

    def add(self, curvature: Array, block: Block, start: int, stop: int) -> None:
        """Add a block; its curvature (pairs, rows) includes the weights."""


class System(Protocol):
    """The equations at one point."""

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of no more than ``accuracy`` (C, d)."""


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

    def at(self, parts: list[Any], barrier: Array) -> System:
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
    def __init__(self, curvature: Array, rows_per_block: int) -> None:
        self.curvature, self.rows_per_block = curvature, rows_per_block

    def add(self, curvature: Array, block: Block, start: int, stop: int) -> None:
        self.curvature[:, start:stop] = curvature


class Conjugate:
    """H by its products alone: preconditioned conjugate gradients.

    Parameters
    ----------
    objective : Objective
        Of rows in single precision.
    team : RowTeam
    """

    def __init__(self, objective: Objective, team: RowTeam, kind="cg") -> None:
        self.design, self.team = objective.design, team
        n_classes, n_features = objective.shape
        n_pairs = n_classes * (n_classes + 1) // 2
        self.curvature = np.empty((n_pairs, self.design.n_rows), np.float32)
        self.rows_per_block = int(np.clip(NUMBERS_AT_A_TIME // n_features, 256, 2048))
        self.preconditioner = (ActiveBlock if kind == "act" else ClassBlocks)(objective.shape, self.design.n_rows)
        self.unit = self.design.column_scale
        self.n_products = 0

    def part(self) -> Part:
        """Return what gathers a share of the rows."""
        return _CurvaturePart(self.curvature, self.rows_per_block)

    def at(self, parts: list[Any], barrier: Array) -> System:
        """Return the equations at one point: these, with another D."""
        self.barrier = barrier / self.unit**2
        self.preconditioner.renew(self, self.barrier)
        return self

    def sum_over_blocks(self, term: Callable[[slice, Array], Array]) -> Any:
        """Add in float64 what ``term`` returns of blocks of rows and their features (d, rows)."""

        def share(start: int, stop: int) -> Any:
            total: Any = 0.0
            for begin in range(start, stop, self.rows_per_block):
                end = min(begin + self.rows_per_block, stop)
                features = self.design.block(begin, end).features
                total = total + term(slice(begin, end), features).astype(np.float64)
            return total

        return sum(self.team.run(share))

    def product(self, step: Array) -> Array:
        """Return H dW (C, d)."""
        single = step.astype(np.float32)

        def term(rows: slice, features: Array) -> Array:
            margins = single @ features
            out = np.empty_like(margins)
            blocks.multiply(self.curvature[:, rows], margins, out)
            return out @ features.T

        self.n_products += 1
        return self.sum_over_blocks(term)

    def solve(self, right: Array, accuracy: Array, guess: Array | None) -> Array:
        """Return dW (C, d), with a residual of no more than ``accuracy`` (C, d)."""
        right, accuracy = right / self.unit, accuracy / self.unit
        before = self.n_products
        step = np.zeros_like(right) if guess is None else guess * self.unit
        residual = right
        if guess is not None:
            residual = right - self.product(step) - self.barrier * step
        direction, slope = None, 0.0
        while self.n_products - before < MOST_PRODUCTS and (abs(residual) > accuracy).any():
            preconditioned = self.preconditioner.apply(residual)
            last, slope = slope, inner(residual, preconditioned)
            if direction is None:
                direction = preconditioned
            else:
                direction = preconditioned + (slope / last) * direction
            image = self.product(direction) + self.barrier * direction
            curvature = inner(direction, image)
            if not (slope > 0.0 and curvature > 0.0):
                break  # rounding has won
            length = slope / curvature
            step = step + length * direction
            residual = residual - length * image
        self.preconditioner.count(self.n_products - before)
        return step / self.unit
