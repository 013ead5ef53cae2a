"""Solvers: they know an objective, never an estimator.

All have the same protocol (`Solver`), the same result (`SolverResult`) and the same stopping
rule, the relative duality gap. A new one is a module and a row in `SOLVERS`.
"""

from __future__ import annotations

from typing import Any

from mgce_sklearn.arrays import LARGEST_SYSTEM
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers.base import (
    UNWATCHED,
    Interrupted,
    Progress,
    Solver,
    SolverResult,
    Start,
    Status,
    TracePoint,
    Watch,
    deadline_in,
    missing,
)
from mgce_sklearn.solvers.cvxpy import ConicProgram
from mgce_sklearn.solvers.interior_point import InteriorPoint
from mgce_sklearn.solvers.lbfgs import LBFGS
from mgce_sklearn.solvers.repair import certificate
from mgce_sklearn.solvers.sgd import SGD

# In the order in which "auto" asks them; classes of the protocol `Solver`, which says nothing of
# how they are made.
SOLVERS: dict[str, Any] = {
    solver.name: solver
    for solver in (
        InteriorPoint,
        LBFGS,
        SGD,
        ConicProgram,
    )
}


def choose_solver(objective: Objective) -> str:
    """Return the name of the solver that ``solver="auto"`` stands for.

    Of those that have what they ask for it is the first that the problem suits. For a potential
    of the library, that is "interior_point" up to `LARGEST_SYSTEM` coefficients, beyond for rows
    that are no fewer than their columns (`systems.has_products`), save for strong penalties
    on many of them at q <= 1/2. Otherwise "lbfgs" where it closes the gap, at q <= 1/2,
    or where rows are fewer than coefficients, so that passes over them are cheap, or have no
    labels, without which neither closes the gap and "lbfgs" finds better coefficients; else "sgd".
    Rows in tensors have the first two alone, and a device has room for larger systems.

    Raises
    ------
    ValueError
        If every solver asks for something that the problem lacks.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import choose_solver
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> choose_solver(objective)
    'interior_point'
    """
    able = [solver for solver in SOLVERS.values() if missing(solver, objective) is None]
    if not able:
        reasons = "; ".join(str(missing(solver, objective)) for solver in SOLVERS.values())
        raise ValueError(f"No solver has what it asks for: {reasons}.")
    return next((solver for solver in able if solver.suits(objective)), able[0]).name


__all__ = [
    "LARGEST_SYSTEM",
    "LBFGS",
    "SGD",
    "SOLVERS",
    "UNWATCHED",
    "ConicProgram",
    "InteriorPoint",
    "Interrupted",
    "Progress",
    "Solver",
    "SolverResult",
    "Start",
    "Status",
    "TracePoint",
    "Watch",
    "certificate",
    "choose_solver",
    "deadline_in",
]
