"""Clarabel and HiGHS: the problem as cvxpy states it, for small data.

The statement is the library's own (`mgce_sklearn.solvers.cvxpy`), where it serves as an outside
check with Clarabel at its default tolerances. Here tolerances, time limits and the solver
vary, which is why its private part is used. Seconds include cvxpy's compilation.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

from competitors.base import Competitor, Look, Terms, Unable, look_at, with_smaller_tolerances
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers.cvxpy import _Program

# Margins (n K) up to which a conic program is small; Clarabel takes some 20 s there.
MOST_MARGINS = 20_000

OWN_TOLERANCES = (1e-4, 1e-6, 1e-8)


def run_clarabel(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run Clarabel at smaller tolerances. Its other factorization, with threads, is no faster."""

    def attempt(tolerance: float) -> Look:
        options = {
            "tol_gap_rel": tolerance,
            "tol_gap_abs": tolerance,
            "tol_feas": tolerance,
            "time_limit": terms.limit,
        }
        return _solve(objective, "CLARABEL", options)

    _require_small(objective)
    return with_smaller_tolerances(attempt, terms, OWN_TOLERANCES)


def run_highs(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run HiGHS's interior point method, up to five times faster here than its simplex."""
    if objective.potential.q != 1.0:
        raise Unable("knows linear programs only, q = 1.")
    _require_small(objective)
    yield _solve(
        objective, "HIGHS", {"highs_options": {"solver": "ipm", "time_limit": terms.limit}}
    )


def _require_small(objective: Objective) -> None:
    if objective.n_classes * objective.parts.n_rows > MOST_MARGINS:
        raise Unable(f"is not asked for more than {MOST_MARGINS} margins (rows times classes).")


def _solve(objective: Objective, solver: str, options: dict[str, Any]) -> Look:
    try:
        import cvxpy
    except ImportError:
        raise Unable("needs cvxpy: pip install 'mgce_sklearn[cvxpy]'.") from None
    if solver not in cvxpy.installed_solvers():
        raise Unable("is not installed: pip install clarabel highspy.")
    begin = time.perf_counter()
    program = _Program(cvxpy, objective)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how accurate it is, the gap tells
        try:
            program.problem.solve(solver=solver, **options)
        except (cvxpy.SolverError, ValueError) as error:  # nothing to unpack at the time limit
            raise Unable(f"ended without a solution: {str(error)[:60]}") from None
    seconds = time.perf_counter() - begin
    coef, proba = program.solution()
    return look_at(objective, coef, seconds, proba)


COMPETITORS = (Competitor("clarabel", run_clarabel), Competitor("highs", run_highs))
