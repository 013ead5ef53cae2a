"""Settings: the solver that an estimator's parameters select."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers import SOLVERS, choose_solver
from mgce_sklearn.solvers.base import Solver


class Settings(NamedTuple):
    """Name of a solver, and the parameters that it is made with.

    Parameters
    ----------
    solver : str, default="auto"
        A key of `SOLVERS`, or "auto": `choose_solver` then decides for each objective.
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int or None, default=None
        None: the solver's own limit.
    verbose : int, default=0
        Whether to print the size of each problem, and a line at each check of the gap.
    draw_seed : callable, default=int
        Returns a seed. Called only for solvers that use random numbers.
    """

    solver: str = "auto"
    tol: float = 1e-4
    max_iter: int | None = None
    verbose: int = 0
    draw_seed: Callable[[], int] = int

    @classmethod
    def of(cls, estimator: Any, draw_seed: Callable[[], int]) -> Settings:
        """Return the settings from the parameters of an estimator."""
        names = ("solver", "tol", "max_iter", "verbose")
        return cls(**{name: getattr(estimator, name) for name in names}, draw_seed=draw_seed)

    def solver_for(self, objective: Objective) -> tuple[str, Solver]:
        """Return the name of the solver for an objective, and the solver."""
        name = choose_solver(objective) if self.solver == "auto" else self.solver
        solver = SOLVERS[name](tol=float(self.tol), verbose=int(self.verbose))
        options = {} if self.max_iter is None else {"max_iter": self.max_iter}
        if hasattr(solver, "seed"):
            options["seed"] = self.draw_seed()
        return name, replace(solver, **options)
