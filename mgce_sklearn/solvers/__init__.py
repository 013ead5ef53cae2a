"""Solvers: they know an objective, never an estimator.

All have the same protocol (`Solver`), the same result (`SolverResult`) and the same stopping
rule, the relative duality gap. A new one is a module and a row in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers.base import Solver, SolverResult, Status, TracePoint
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


def choose_solver(objective: Objective) -> str:
    """Return the name of the solver that ``solver="auto"`` stands for."""
    n_classes, n_features = objective.shape
    return "interior_point" if n_classes * n_features <= LARGEST_SYSTEM else "sgd"


__all__ = [
    "LBFGS",
    "SGD",
    "SOLVERS",
    "ConicProgram",
    "InteriorPoint",
    "Solver",
    "SolverResult",
    "Status",
    "TracePoint",
    "certificate",
    "choose_solver",
]
