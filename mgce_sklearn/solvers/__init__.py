"""Solvers: they know an objective, never an estimator.

All have the same protocol (`Solver`), the same result (`SolverResult`) and the same stopping
rule, the relative duality gap. A new one is a module and a row in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mgce_sklearn.arrays import is_tensor
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers.base import Solver, SolverResult, Start, Status, TracePoint
from mgce_sklearn.solvers.cvxpy import ConicProgram
from mgce_sklearn.solvers.interior_point import InteriorPoint
from mgce_sklearn.solvers.lbfgs import LBFGS
from mgce_sklearn.solvers.repair import certificate
from mgce_sklearn.solvers.sgd import SGD

SOLVERS: dict[str, Callable[..., Solver]] = {
    "interior_point": InteriorPoint,
    "lbfgs": LBFGS,
    "sgd": SGD,
    "cvxpy": ConicProgram,
}

# The interior point method factors a (C d, C d) matrix: about 1 s a step at this size.
LARGEST_SYSTEM = 4000
LARGEST_SYSTEM_OF_DEVICE = {"cuda": 20_000}

# Those whose arrays may be tensors.
OF_TENSORS = ("interior_point", "lbfgs")

# Where widths are those of a standard error or more, and coefficients at least so many, the
# few iterations of L-BFGS cost less than the systems (`benchmarks/README.md`).
STRONG_PENALTY = 1.0
MANY_COEFFICIENTS = 400


def choose_solver(objective: Objective) -> str:
    """Return the name of the solver that ``solver="auto"`` stands for.

    "interior_point" up to `LARGEST_SYSTEM` coefficients, save for strong penalties on many of
    them at q <= 1/2. Otherwise "lbfgs" where it closes the gap, at q <= 1/2, or where rows are
    fewer than coefficients, so that passes over them are cheap, or have no labels, without
    which neither closes the gap and "lbfgs" finds better coefficients; else "sgd".
    Rows in tensors have these two alone, and a device has room for larger systems.
    """
    n_coef, n_rows = int(np.prod(objective.shape)), objective.design.n_rows
    smooth = objective.potential.smooth
    if is_tensor(objective.design.X):
        largest = LARGEST_SYSTEM_OF_DEVICE.get(objective.design.X.device.type, LARGEST_SYSTEM)
        return "interior_point" if n_coef <= largest else "lbfgs"
    if n_coef > LARGEST_SYSTEM:
        cheap = n_rows < n_coef or objective.codes is None
        return "lbfgs" if smooth or cheap else "sgd"
    if smooth and n_coef >= MANY_COEFFICIENTS and _penalty(objective) >= STRONG_PENALTY:
        return "lbfgs"
    return "interior_point"


def _penalty(objective: Objective) -> float:
    """Return the median half-width in standard errors of a class of average frequency."""
    widths = objective.uncertainty.half_width / objective.design.column_scale
    return float(np.median(widths)) * np.sqrt(objective.design.total_weight * objective.n_classes)


__all__ = [
    "LBFGS",
    "OF_TENSORS",
    "SGD",
    "SOLVERS",
    "ConicProgram",
    "InteriorPoint",
    "Solver",
    "SolverResult",
    "Start",
    "Status",
    "TracePoint",
    "certificate",
    "choose_solver",
]
