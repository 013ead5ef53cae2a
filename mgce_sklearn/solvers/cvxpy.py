"""The problem as a conic program, solved by cvxpy and Clarabel, for small data.

    minimize   mean psi_i - <tau, W> + <half_width, |W|>
    such that  sum_k h_ik <= 1,     h_ik^q >= 1 + q (m_ik - psi_i),     h >= 0

The cones depend on q, and the potential defines them. The multipliers of the second constraint,
divided by the weight of the row, are the worst-case distribution, from which the dual value is
computed.
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
    """Solve the conic program by Clarabel: slow, and independent of the other solvers.

    Clarabel stops at its own tolerances, near 1e-8. The duality gap of the result is computed as
    for every solver: the value is that of the coefficients, and the dual value that of a feasible
    point. It does not depend on what Clarabel reports.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap within which the result counts as converged.
    max_iter : int, default=200
        Iterations of Clarabel.
    verbose : int, default=0
        Whether to print the size of the problem, and a line at each check of the gap.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import ConicProgram
    >>> objective = Problem.from_labels(*load_iris(return_X_y=True)).objective(q=0.5, lam=0.3)
    >>> result = ConicProgram().solve(objective)  # doctest: +SKIP
    >>> print(result.status.name, f"{result.value:.3f}")  # doctest: +SKIP
    CONVERGED 0.218
    """

    name: ClassVar[str] = "cvxpy"
    needs: ClassVar[tuple[Need, ...]] = (host_arrays, offers("conic_program"))
    tol: float = 1e-4
    max_iter: int = 200
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Return False: "auto" never chooses it."""
        return False

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        watch: Watch = UNWATCHED,
    ) -> SolverResult:
        """Minimize ``objective``; see `Solver.solve`.

        Clarabel ignores ``start``, cannot be interrupted, and does not report its steps.

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
        coef, p = program.solution()
        progress.reached(n_iter, coef)
        progress.offer_coef(coef, objective.value(coef))
        progress.offer_p(p)
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
    """The conic program of an objective, with dense rows and features of unit size.

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
        potential: Any = objective.potential  # it has `conic_program`, as `needs` requires
        psi, self.constraints = potential.conic_program(cp, margins)
        penalty = cp.sum(cp.multiply(uncertainty.half_width / scale, cp.abs(self.coef)))
        fit = cp.sum(cp.multiply(uncertainty.tau / scale, self.coef))
        self.problem = cp.Problem(
            cp.Minimize(rows.design.weights @ psi - fit + penalty), self.constraints
        )

    def run(self, max_iter: int, seconds: float) -> tuple[int, bool]:
        """Run Clarabel. Return the number of iterations, and whether a limit ended it."""
        with warnings.catch_warnings():
            # The duality gap shows how accurate the solution is.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            try:
                self.problem.solve(
                    solver=self.cp.CLARABEL, max_iter=max_iter, time_limit=max(seconds, 0.0)
                )
            except self.cp.SolverError:
                return 0, False
        return self.problem.solver_stats.num_iters, self.problem.status == self.cp.USER_LIMIT

    def solution(self) -> tuple[Array, Columns]:
        """Return coefficients (C, d), zero if Clarabel failed, and p (K, n) up to row factors."""
        if self.coef.value is None:
            coef = np.zeros(self.coef.shape)
        else:
            coef = self.coef.value / self.objective.parts.column_scale
        multipliers = self.constraints[0].dual_value if self.constraints else None
        if multipliers is None:
            return coef, partial(worst_case, self.objective.potential, coef, self.objective.offsets)
        return coef, self.objective.parts.kept_array(multipliers)
