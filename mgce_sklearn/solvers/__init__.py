"""Solvers minimize an objective. They do not depend on estimators.

All have the same protocol (`Solver`), the same result (`SolverResult`) and the same stopping
rule, the relative duality gap. A new solver is a module and an entry in `SOLVERS`.
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

# Classes that follow the protocol `Solver`, in the order in which "auto" tries them. The protocol
# has no constructor, hence the type Any.
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
    """Return the name of the solver that ``solver="auto"`` selects.

    It is the first in `SOLVERS` that suits the problem, among those whose requirements are met. For
    the potentials of the library:

    - "interior_point" up to `LARGEST_SYSTEM` coefficients, and beyond that for rows that are at
      least as many as columns (`systems.has_products`). The exception is a strong penalty on many
      coefficients at q <= 1/2.
    - "lbfgs" in three other cases. At q <= 1/2 it closes the gap. If there are fewer rows than
      coefficients, passes over the rows are cheap. For rows without labels, neither "lbfgs" nor
      "sgd" closes the gap, and "lbfgs" finds better coefficients.
    - "sgd" in all remaining cases.

    For tensors only the first two are available, and a device has memory for larger systems.

    Raises
    ------
    ValueError
        If every solver requires something that the problem lacks.

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
        raise ValueError(f"No solver can solve this problem: {reasons}.")
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
