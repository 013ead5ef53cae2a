"""What all solvers share: what they ask for, the stopping rule, and one result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from mgce_sklearn.arrays import Array, is_tensor
from mgce_sklearn.objective import Columns, DualPoint, Objective
from mgce_sklearn.parallel import RowTeam

# A value this share below its lower bound is no rounding.
ROUNDING = 1e-9

# To factor a (C d, C d) matrix takes about 1 s at this size.
LARGEST_SYSTEM = 4000

# Tells what a solver asks for and a problem lacks, in words that end a sentence; None if nothing.
Need = Callable[[Objective], str | None]


class Status(Enum):
    """How a solver ended. The value is the sentence that a user reads."""

    CONVERGED = "The relative duality gap is within tol."
    EMPTY = "The value fell below what any distribution gives: the uncertainty set is empty."
    MAX_ITER = "The iteration limit was reached. Raise max_iter, or accept a larger tol."
    STALLED = (
        "Progress stopped before the gap was closed. Accept a larger tol, or raise lam; "
        "solver='interior_point' closes the smallest gaps."
    )


class TracePoint(NamedTuple):
    """One line of a solver's history."""

    seconds: float
    value: float
    dual_value: float


@dataclass(frozen=True)
class SolverResult:
    """What a solver returns.

    Attributes
    ----------
    coef : ndarray of shape (C, d)
    value : float
        R(coef): an upper bound on the optimum.
    dual_value : float
        A lower bound on the optimum; -inf if no feasible point of the dual was found.
    status : Status
    n_iter : int
    trace : tuple of TracePoint
        Best values so far against seconds, a point whenever the gap was checked.
    restart : object or None
        What the same solver can start a neighbouring problem from, if it was asked to keep it.
    """

    coef: Array
    value: float
    dual_value: float
    status: Status
    n_iter: int
    trace: tuple[TracePoint, ...]
    restart: Any = None

    @property
    def gap(self) -> float:
        """value - dual_value: at least the distance of ``value`` from the optimum."""
        return max(0.0, self.value - self.dual_value)

    @property
    def relative_gap(self) -> float:
        """The gap as a share of the value: what ``tol`` bounds."""
        return self.gap / self.value


class Start(NamedTuple):
    """A point to start from.

    Attributes
    ----------
    coef : ndarray of shape (C, d)
    proba : ndarray of shape (K, n)
        Distributions that come near to the constraints of the dual.
    """

    coef: Array
    proba: Array


def coef_of(start: Array | Start | SolverResult | None) -> Array | None:
    """Return the coefficients to start from, of a solver that restarts from these alone."""
    return start.coef if isinstance(start, Start | SolverResult) else start


class Solver(Protocol):
    """Settings, and a method that uses them.

    A solver that leaves anything to chance has a setting ``seed`` too.

    Attributes
    ----------
    name : str
        What a user writes as ``solver``.
    needs : tuple of Need
        What is asked of a problem, beyond an objective of a `Potential`.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]]

    @property
    def tol(self) -> float:
        """Relative duality gap at which to stop."""

    @property
    def max_iter(self) -> int:
        """The most iterations."""

    @property
    def verbose(self) -> int:
        """Whether to print a line whenever the gap is checked."""

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether ``solver="auto"`` should end its search here."""

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        restartable: bool = False,
    ) -> SolverResult:
        """Minimise an objective.

        Parameters
        ----------
        objective : Objective
        start : ndarray of shape (C, d), Start, SolverResult or None
            Coefficients to start from, with distributions or without, or the result of a
            neighbouring problem: the same rows and potential, other half-widths.
        restartable : bool, default=False
            Whether to keep in the result what a neighbouring problem can start from.

        Raises
        ------
        ValueError
            If the problem lacks what the solver asks for.
        """


def offers(method: str) -> Need:
    """Ask for a method, or an attribute, of the potential."""

    def lacking(objective: Objective) -> str | None:
        if hasattr(objective.potential, method):
            return None
        kind = type(objective.potential).__name__
        return f"a potential with `{method}`, which {kind} does not have"

    return lacking


POTENTIAL = tuple(map(offers, ("smooth", "value", "value_and_gradient", "entropy")))


def host_arrays(objective: Objective) -> str | None:
    """Ask for rows in numpy's arrays."""
    return "rows in numpy's arrays, as of X.numpy()" if is_tensor(objective.design.X) else None


def missing(solver: type[Solver] | Solver, objective: Objective) -> str | None:
    """Return what the solver asks for and the problem lacks, in one clause; None if nothing."""
    lacking = (need(objective) for need in (*POTENTIAL, *solver.needs))
    words = next(filter(None, lacking), None)
    return f"solver={solver.name!r} asks for {words}" if words else None


@dataclass
class Progress:
    """The best primal and dual points seen, and the one stopping rule.

    Every solver begins with this object, which sees to it that the problem has what the solver
    asks for, and hands its candidates to it, so ``tol`` means the same for all:
    value - dual value <= tol * value.
    """

    solver: Solver
    objective: Objective
    coef: Array = field(init=False)
    value: float = field(default=np.inf, init=False)
    dual_value: float = field(init=False)
    anchor: DualPoint | None = field(default=None, init=False)
    trace: list[TracePoint] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        lacking = missing(self.solver, self.objective)
        if lacking:
            raise ValueError(f"{lacking}; solver='auto' chooses among those that can do without.")
        self.coef = self.objective.design.zeros(*self.objective.shape)
        # Labels are a feasible point. Rows without may have none.
        labelled = self.objective.codes is not None
        self.dual_value = self.objective.least_value if labelled else -np.inf
        self._begin = time.perf_counter()

    @property
    def tol(self) -> float:
        """The relative gap at which to stop."""
        return self.solver.tol

    def forget(self) -> None:
        """Begin the values anew: those so far were rounded."""
        self.value = np.inf
        labelled = self.objective.codes is not None
        self.dual_value = self.objective.least_value if labelled else -np.inf

    def offer_coef(self, coef: Array, value: float) -> None:
        """Keep coefficients if they are the best so far."""
        if value < self.value:
            self.coef, self.value = coef, value

    def offer_proba(self, proba: Columns, team: RowTeam | None = None) -> DualPoint:
        """Keep the value of a dual point (K, n) if it is the best so far; return the point."""
        point = self.objective.dual_point(proba, team, self.anchor)
        self.dual_value = max(self.dual_value, point.value)
        if self.objective.codes is None and np.isfinite(point.value):
            self.anchor = max(self.anchor or point, point, key=self.objective.depth)
        return point

    def record(self) -> bool:
        """Add a point to the trace; tell whether the gap is within tol, or the set empty."""
        seconds = time.perf_counter() - self._begin
        self.trace.append(TracePoint(seconds, self.value, self.dual_value))
        if self.solver.verbose:
            print(
                f"{self.solver.name} {len(self.trace) - 1:4d}  value {self.value:.9f}  "
                f"gap {self.gap:.2e}  {seconds:.3f} s"
            )
        return bool(self.gap <= self.tol * self.value) or self._empty

    @property
    def _empty(self) -> bool:
        """Whether no distribution is feasible: the value is below what all of them give."""
        return self.value < self.objective.least_value * (1.0 - ROUNDING)

    def iterations_since_better(self) -> int:
        """Return how many points of the trace, at its end, have the same gap.

        Until a feasible point of the dual is found there is no gap that could be better.
        """
        gaps = [point.value - point.dual_value for point in self.trace]
        return len(gaps) - 1 - gaps.index(gaps[-1]) if gaps and np.isfinite(gaps[-1]) else 0

    @property
    def gap(self) -> float:
        """Return the best value less the best dual value."""
        return self.value - self.dual_value

    def result(self, status: Status, n_iter: int, restart: Any = None) -> SolverResult:
        """Bundle what is known now."""
        status = Status.EMPTY if self._empty else status
        return SolverResult(
            self.coef, self.value, self.dual_value, status, n_iter, tuple(self.trace), restart
        )
