"""What all solvers share: what they ask for, the stopping rule, who watches, and one result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from mgce_sklearn.arrays import Array, namespace
from mgce_sklearn.objective import DualPoint, Objective
from mgce_sklearn.parts import Columns, LostRows
from mgce_sklearn.solvers.row_moves import can_move, moved_by_rows

# A value this share below its lower bound is no rounding.
ROUNDING = 1e-9

# The share of a dual value that single precision may have added, through constraints that are met
# by rounding alone.
DUAL_ROUNDING = 1e-3

# A gap of at most so many tol may be closed by moving rows one by one, at the cost of some steps.
REACH = 10.0

# Tells what a solver asks for and a problem lacks, in words that end a sentence; None if nothing.
Need = Callable[[Objective], str | None]


class Status(Enum):
    """How a solver ended. The value is the sentence that a user reads.

    Examples
    --------
    >>> from mgce_sklearn.solvers import Status
    >>> Status.CONVERGED.value
    'The relative duality gap is within tol.'
    """

    CONVERGED = "The relative duality gap is within tol."
    EMPTY = "The value fell below what any distribution gives: the uncertainty set is empty."
    MAX_ITER = "The iteration limit was reached. Raise max_iter, or accept a larger tol."
    STALLED = (
        "Progress stopped before the gap was closed. Accept a larger tol, or raise lam; "
        "solver='interior_point' closes the smallest gaps."
    )
    STOPPED = "It was stopped before the gap was closed. Allow more time, or accept a larger tol."
    NOT_FINITE = (
        "Numbers became infinite or NaN on the way. Look for such, or ones beyond 1e100, among "
        "features, weights and half-widths."
    )


class TracePoint(NamedTuple):
    """One line of a solver's history.

    Attributes
    ----------
    seconds : float
        Since the solver began.
    value, dual_value : float
        The best so far.
    n_nonzero : int
        Coefficients that are not 0, or that "interior_point" would not set to 0 if it ended here.
    steps : tuple of float
        How far the last step went along its direction, 1 being all of it: for "interior_point" the
        primal and the dual length, for "lbfgs" one. For "sgd" the length of its steps, in
        units of 1/(largest curvature). Empty if no step was made.
    n_iter : int
        Iterations so far.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> point = InteriorPoint().solve(objective).trace[-1]
    >>> print(f"{point.value:.3f}, {point.n_nonzero} coefficients are not 0")
    0.218, 9 coefficients are not 0
    """

    seconds: float
    value: float
    dual_value: float
    n_nonzero: int
    steps: tuple[float, ...] = ()
    n_iter: int = 0


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
    stopped_by : str
        Who stopped it, if the status is STOPPED.
    anchor : DualPoint or None
        A feasible point well inside, of rows without labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> result = InteriorPoint(max_iter=1).solve(objective)
    >>> result.status.name, result.dual_value <= result.value
    ('MAX_ITER', True)
    """

    coef: Array
    value: float
    dual_value: float
    status: Status
    n_iter: int
    trace: tuple[TracePoint, ...]
    stopped_by: str = ""
    anchor: DualPoint | None = None

    @property
    def reason(self) -> str:
        """Why it ended, in a sentence that says who stopped it, if anybody did."""
        by = f"stopped by {self.stopped_by}" if self.stopped_by else "stopped"
        return self.status.value.replace("stopped", by)

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
    proba : Columns
        Distributions (K, n) that come near to the constraints of the dual.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint, Start
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> first = InteriorPoint(tol=1e-2).solve(objective)
    >>> start = Start(first.coef, np.full((3, 150), 1 / 3))
    >>> InteriorPoint(tol=1e-6).solve(objective, start).status.name
    'CONVERGED'
    """

    coef: Array
    proba: Columns


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt, its cause, that brings along what was reached until then.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint, Interrupted
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> stopped = Interrupted(InteriorPoint().solve(objective))
    >>> isinstance(stopped, KeyboardInterrupt), stopped.result.status.name
    (True, 'CONVERGED')
    """

    def __init__(self, result: SolverResult) -> None:
        super().__init__()
        self.result = result


class Watch(NamedTuple):
    """Who looks on while a solver is at work, and may stop it.

    Attributes
    ----------
    deadline : float
        When to stop, on the clock of `time.monotonic`, which all processes of a machine share.
    listener : callable or None
        Called with the `Progress` whenever the gap is checked; returns whether to stop.
    keeps : bool
        Whether a KeyboardInterrupt shall come as `Interrupted` once there is an iterate.
        Who asks for that raises its cause when the result is in safety.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint, Watch
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> watch = Watch(listener=lambda progress: progress.n_iter >= 2)
    >>> InteriorPoint().solve(objective, watch=watch).status.name
    'STOPPED'
    """

    deadline: float = np.inf
    listener: Callable[[Progress], bool] | None = None
    keeps: bool = False

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def out_of_time(self) -> bool:
        """Tell whether the deadline has passed, at the cost of a look at the clock."""
        return self.seconds_left <= 0.0


UNWATCHED = Watch()


def deadline_in(seconds: float | None) -> float:
    """Return when so many seconds have passed from now on; never for None.

    Examples
    --------
    >>> from mgce_sklearn.solvers import Watch, deadline_in
    >>> Watch(deadline=deadline_in(60.0)).out_of_time()
    False
    """
    return np.inf if seconds is None else time.monotonic() + seconds


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

    Examples
    --------
    >>> from mgce_sklearn.solvers import SOLVERS
    >>> list(SOLVERS)
    ['interior_point', 'lbfgs', 'sgd', 'cvxpy']
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
        """Whether to print the problem's size, and a line whenever the gap is checked."""

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether ``solver="auto"`` should end its search here."""

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        watch: Watch = UNWATCHED,
    ) -> SolverResult:
        """Minimize an objective.

        Parameters
        ----------
        objective : Objective
        start : ndarray of shape (C, d), Start, SolverResult or None
            Coefficients to start from, with distributions or without, or the result of a
            neighboring problem: the same rows and potential, other half-widths.
        watch : Watch
            Who may stop it. It ends after its present step, and with one iterate at least.

        Raises
        ------
        ValueError
            If the problem lacks what the solver asks for.
        Interrupted
            A KeyboardInterrupt, if ``watch`` keeps what was reached.
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
    if objective.parts.reading_costs:
        return "rows in memory, all of them here"
    numpy = objective.parts.like.is_numpy
    return None if numpy else "rows in numpy's arrays, as of X.numpy()"


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

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import LBFGS, Progress
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> with objective.opened() as objective:
    ...     progress, zeros = Progress(LBFGS(), objective), np.zeros(objective.shape)
    ...     progress.offer_coef(zeros, objective.value(zeros))
    >>> print(f"{progress.value:.3f}")  # (1 - 3^{-1/2}) / 0.5, the entropy of a uniform guess
    0.845
    """

    solver: Solver
    objective: Objective
    watch: Watch = UNWATCHED
    working: Objective = field(init=False)
    coef: Array = field(init=False)
    value: float = field(default=np.inf, init=False)
    dual_value: float = field(init=False)
    anchor: DualPoint | None = field(init=False)
    trace: list[TracePoint] = field(default_factory=list, init=False)
    n_iter: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        lacking = missing(self.solver, self.objective)
        if lacking:
            raise ValueError(f"{lacking}; solver='auto' chooses among those that can do without.")
        self.coef = self.objective.parts.like.zeros(*self.objective.shape)
        self.working, self.anchor = self.objective, self.objective.anchor
        self._can_move = can_move(self.objective)
        self.forget()
        self._begin = time.perf_counter()
        self.latest = self.coef
        self._stopped_by = ""
        self._finite = True
        if self.solver.verbose:
            print(f"{self.solver.name}: {_size(self.objective)}", flush=True)

    @property
    def tol(self) -> float:
        """The relative gap at which to stop."""
        return self.solver.tol

    @property
    def rounded(self) -> bool:
        """Whether candidates are evaluated on rows in single precision."""
        return self.working.parts is not self.objective.parts

    def forget(self) -> None:
        """Begin anew with the best values: those so far were rounded.

        Labels are a feasible point, and so is an anchor. Rows without either may have none.
        """
        self.value = np.inf
        self._movable: Columns | None = None
        self._before_moves = -np.inf
        known = self.objective.labeled or self.objective.anchor is not None
        self.dual_value = self.objective.least_value if known else -np.inf

    def let_go(self) -> None:
        """Let go of arrays that are kept with the rows: some were lost."""
        self._movable = None

    @property
    def well_posed(self) -> bool:
        """Whether means, half-widths and the size of the features are finite.

        Where they are not a solver need not begin: its status is NOT_FINITE.
        """
        uncertainty = self.objective.uncertainty
        numbers = (uncertainty.tau, uncertainty.half_width, self.objective.parts.column_scale)
        return all(bool(namespace(part).isfinite(part).all()) for part in numbers)

    def reached(self, n_iter: int, coef: Array) -> None:
        """Note the coefficients after so many iterations: an interrupt after one certifies them."""
        self.n_iter, self.latest = n_iter, coef

    def offer_coef(self, coef: Array, value: float) -> None:
        """Keep coefficients if they are the best so far."""
        self._finite &= bool(np.isfinite(value))
        if self.objective.labeled and value < self.objective.least_value:
            return  # labels are feasible, so that this is rounding alone
        if value < self.value:
            self.coef, self.value = coef, value

    def offer_proba(self, proba: Columns, excess: Array | None = None) -> DualPoint:
        """Keep the value of a dual point (K, n) if it is the best so far; return the point.

        Its ``excess``, once normalized, may be known.
        """
        point = self.working.dual_point(proba, self.anchor, excess)
        self.dual_value = max(self.dual_value, point.value)
        if self._can_move and point.shrink < 1.0 and point.value >= self._before_moves:
            self._movable, self._before_moves = proba, point.value
        if not self.objective.labeled and np.isfinite(point.value):
            self.anchor = max(self.anchor or point, point, key=self.objective.depth)
        return point

    def _move_rows(self) -> None:
        """Offer the best point of sparse rows once more, moved row by row."""
        proba, self._movable = self._movable, None
        if proba is not None:
            moved = moved_by_rows(self.working, proba)
            self.dual_value = max(self.dual_value, self.working.dual_point(moved).value)

    def record(self, steps: tuple[float, ...] = (), n_nonzero: int | None = None) -> Status | None:
        """Add a point to the trace, tell whoever watches, and return why to end; None to go on.

        Parameters
        ----------
        steps : tuple of float
            Lengths of the last step; see `TracePoint`.
        n_nonzero : int or None
            None: of the best coefficients.
        """
        if not self._closed and self.gap <= REACH * self.tol * self.value:
            self._move_rows()
        self._before_moves = -np.inf  # the next check has points of its own
        seconds = time.perf_counter() - self._begin
        count = int((self.coef != 0.0).sum()) if n_nonzero is None else n_nonzero
        bracket = self.value, self.dual_value
        self.trace.append(TracePoint(seconds, *bracket, count, steps, self.n_iter))
        if self.solver.verbose:
            print(
                f"{self.solver.name} {self.n_iter:4d} {seconds:9.3f} s  "
                f"value {self.value:.9f}  gap {self.gap:.2e}  {count} non-zero"
                + self.objective.parts.told,
                flush=True,
            )
        self._ask_to_stop()
        if self._empty:
            return Status.EMPTY
        if self._closed:
            return Status.CONVERGED
        if not self._finite:
            return Status.NOT_FINITE
        return Status.STOPPED if self._stopped_by else None

    def _ask_to_stop(self) -> None:
        if self.watch.listener is not None and self.watch.listener(self):
            self._stopped_by = "a callback"
        elif self.watch.out_of_time():
            self._stopped_by = "max_time"

    @property
    def _empty(self) -> bool:
        """Whether no distribution is feasible: the value is below what all of them give."""
        return self.value < self.objective.least_value * (1.0 - ROUNDING)

    @property
    def _closed(self) -> bool:
        return bool(self.gap <= self.tol * self.value < np.inf)

    def iterations_since_better(self, gain: float = 0.0) -> int:
        """Return how many points of the trace, at its end, gained no more than a share of the gap.

        Until a feasible point of the dual is found there is no gap that could be better.
        """
        gaps = np.array([point.value - point.dual_value for point in self.trace])
        if not (len(gaps) and np.isfinite(gaps[-1])):
            return 0
        return len(gaps) - 1 - int(np.argmax(gaps <= gaps[-1] * (1.0 + gain)))

    @property
    def gap(self) -> float:
        """Return the best value less the best dual value."""
        return self.value - self.dual_value

    def result(self, status: Status, n_iter: int) -> SolverResult:
        """Bundle what is known now; what was rounded is computed again, or allowed for.

        The gap of a fit that ends before it is closed is made as small as can be.
        """
        if status is not Status.CONVERGED and self._movable is not None:
            self._move_rows()
            status = Status.CONVERGED if self._closed and not self.rounded else status
        value, dual_value = self.value, self.dual_value
        if self.rounded:
            value = self.objective.possible(self.objective.value(self.coef))
            dual_value *= 1.0 - DUAL_ROUNDING
        status = Status.EMPTY if self._empty else status
        by = self._stopped_by if status is Status.STOPPED else ""
        trace = tuple(self.trace)
        return SolverResult(self.coef, value, dual_value, status, n_iter, trace, by, self.anchor)

    @contextmanager
    def kept_on_interrupt(self) -> Iterator[None]:
        """Turn a KeyboardInterrupt into `Interrupted` if ``watch`` asks for it.

        Threads must have ended when it comes here. A second one, or rows lost just then, end the
        passes that certify the latest coefficients; what had been certified before stays.

        Raises
        ------
        Interrupted
            With the best coefficients so far.
        KeyboardInterrupt
            The same as it came, if there are none or nobody would keep them.
        """
        try:
            yield
        except KeyboardInterrupt as interrupt:
            if not self.watch.keeps or self.n_iter == 0:
                raise
            with suppress(KeyboardInterrupt, LostRows):
                self._certify(self.latest)
                self._move_rows()
            self._movable = None
            if not np.isfinite(self.value):
                raise
            self._stopped_by = "an interrupt"
            raise Interrupted(self.result(Status.STOPPED, self.n_iter)) from interrupt

    def _certify(self, coef: Array) -> None:
        """Offer coefficients and the worst case at them, in one pass over the rows."""
        if self.rounded:
            self.working = self.objective
            self.forget()
        proba = self.objective.parts.kept()
        value, _ = self.objective.value_and_slope(coef, proba)
        self.offer_coef(coef, value)
        self.offer_proba(proba)


def _size(objective: Objective) -> str:
    """Return in words how large a problem is."""
    parts, n_classes = objective.parts, objective.n_classes
    q = getattr(objective.potential, "q", None)
    return (
        f"{parts.n_rows} rows, {parts.like.n_columns} features, {n_classes} classes, "
        f"{int(np.prod(objective.shape))} coefficients" + ("" if q is None else f", q = {q:g}")
    )
