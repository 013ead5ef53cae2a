"""The problem as written on paper, for small data: a conic program through cvxpy and Clarabel.

    minimize   mean psi_i - <tau, W> + <half_width, |W|>
    such that  sum_k h_ik <= 1,     h_ik^q >= 1 + q (m_ik - psi_i),     h >= 0

Its cones depend on q, and are the potential's to state. The multipliers of the second
constraint, in units of the row's weight, are the worst-case distribution, and give the dual
value.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.objective import Objective, worst_case
from mgce_sklearn.parts import Columns
from mgce_sklearn.solvers.base import (
    UNWATCHED,
    Need,
    Progress,
    SolverResult,
    Start,
    Status,
    Watch,
    host_arrays,
    offers,
)


@dataclass(frozen=True)
class ConicProgram:
    """State the conic program and hand it to Clarabel: slow, and independent of our solvers.

    Clarabel stops at its own tolerances, near 1e-8. What is returned is certified like any
    other result: the value is that of the coefficients, and the dual value that of a feasible
    point, whatever the conic solver claims.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap within which the result counts as converged.
    max_iter : int, default=200
    verbose : int, default=0

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import ConicProgram
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> import cvxpy
    >>> print(f"{ConicProgram().solve(objective).value:.4f}")
    0.2182
    """

    name: ClassVar[str] = "cvxpy"
    needs: ClassVar[tuple[Need, ...]] = (host_arrays, offers("conic_program"))
    tol: float = 1e-4
    max_iter: int = 200
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell that it is for those who ask for it by name."""
        return False

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        watch: Watch = UNWATCHED,
    ) -> SolverResult:
        """Minimize ``objective``; see `Solver.solve`. Clarabel has no use for a start.

        Nor can it be interrupted, or tell of its steps.

        Raises
        ------
        ImportError
            If cvxpy is not installed.
        """
        progress = Progress(self, objective, watch)
        if not progress.well_posed:
            return progress.result(Status.NOT_FINITE, 0)
        cp = _import_cvxpy()
        program = _Program(cp, objective)
        n_iter, limited = program.run(self.max_iter, watch.seconds_left)
        coef, proba = program.solution()
        progress.reached(n_iter, coef)
        progress.offer_coef(coef, objective.value(coef))
        progress.offer_proba(proba)
        status = Status.MAX_ITER if limited else Status.STALLED
        return progress.result(progress.record() or status, n_iter)


def _import_cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError:
        raise ImportError(
            "solver='cvxpy' needs cvxpy: pip install 'mgce_sklearn[cvxpy]'."
        ) from None
    return cvxpy


class _Program:
    """The conic program of an objective, with rows dense and features of unit size.

    Attributes
    ----------
    problem : cvxpy.Problem
    coef : cvxpy.Variable of shape (C, d)
        Coefficients of the scaled features.
    """

    def __init__(self, cp: Any, objective: Objective) -> None:
        self.cp, self.objective = cp, objective
        parts, uncertainty = objective.parts, objective.uncertainty
        scale, rows = parts.column_scale, parts.together()
        self.coef = cp.Variable(objective.shape)
        features = rows.design.features() / scale[:, np.newaxis]
        reference = np.zeros((objective.first_class, parts.n_rows))
        margins = cp.vstack([reference, self.coef @ features])
        if objective.offsets is not None:
            margins = margins + objective.offsets(rows)
        potential: Any = objective.potential  # it has `conic_program`, which was asked for
        psi, self.constraints = potential.conic_program(cp, margins)
        penalty = cp.sum(cp.multiply(uncertainty.half_width / scale, cp.abs(self.coef)))
        fit = cp.sum(cp.multiply(uncertainty.tau / scale, self.coef))
        self.problem = cp.Problem(
            cp.Minimize(rows.design.weights @ psi - fit + penalty), self.constraints
        )

    def run(self, max_iter: int, seconds: float) -> tuple[int, bool]:
        """Run Clarabel; return its iterations, and whether a limit ended it."""
        with warnings.catch_warnings():
            # How accurate the solution is, the duality gap tells.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            try:
                self.problem.solve(
                    solver=self.cp.CLARABEL, max_iter=max_iter, time_limit=max(seconds, 0.0)
                )
            except self.cp.SolverError:
                return 0, False
        return self.problem.solver_stats.num_iters, self.problem.status == self.cp.USER_LIMIT

    def solution(self) -> tuple[Array, Columns]:
        """Return coefficients (C, d), zero if Clarabel failed, and p (K, n) up to factors."""
        if self.coef.value is None:
            coef = np.zeros(self.coef.shape)
        else:
            coef = self.coef.value / self.objective.parts.column_scale
        multipliers = self.constraints[0].dual_value if self.constraints else None
        if multipliers is None:
            return coef, partial(worst_case, self.objective.potential, coef, self.objective.offsets)
        return coef, self.objective.parts.kept_array(multipliers)
