"""What all solvers share: settings, the stopping rule, and one result."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

import numpy as np

from mgce_sklearn.objective import Columns, DualPoint, Objective
from mgce_sklearn.parallel import RowTeam

Array = np.ndarray[Any, Any]

# A value this share below its lower bound is no rounding.
ROUNDING = 1e-9


class Status(Enum):
    """How a solver ended. The value is the sentence that a user reads."""

    CONVERGED = "The relative duality gap is within tol."
    EMPTY = "The value fell below what any distribution gives: the uncertainty set is empty."
    MAX_ITER = "The iteration limit was reached. Raise max_iter, or accept a larger tol."
    STALLED = (
        "Progress stopped before the gap was closed. Accept a larger tol, raise lam, or "
        "standardise the features; solver='interior_point' closes the smallest gaps."
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
    """Settings, and a method that uses them."""

    tol: float
    max_iter: int
    verbose: int

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
        """


@dataclass
class Progress:
    """The best primal and dual points seen, and the one stopping rule.

    Every solver hands its candidates to this object, so ``tol`` means the same for all:
    value - dual value <= tol * value.
    """

    name: str
    objective: Objective
    tol: float
    verbose: int = 0
    coef: Array = field(init=False)
    value: float = field(default=np.inf, init=False)
    dual_value: float = field(init=False)
    anchor: DualPoint | None = field(default=None, init=False)
    trace: list[TracePoint] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.coef = self.objective.design.zeros(*self.objective.shape)
        # Labels are a feasible point. Rows without may have none.
        labelled = self.objective.codes is not None
        self.dual_value = self.objective.least_value if labelled else -np.inf
        self._begin = time.perf_counter()

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
        if self.verbose:
            print(
                f"{self.name} {len(self.trace) - 1:4d}  value {self.value:.9f}  "
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
        return len(gaps) - 1 - gaps.index(gaps[-1]) if np.isfinite(gaps[-1]) else 0

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
