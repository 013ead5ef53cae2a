"""What all solvers have in common: their protocol, the stopping rule, and the result.

A `Solver` takes an objective, a start and a `Watch`, and returns a `SolverResult`. It gives every
candidate to a `Progress`, which keeps the best values and decides when the solver stops.
"""

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

# If a value is below its lower bound by more than this relative amount, rounding is not the cause.
ROUNDING = 1e-9

# Relative amount by which single precision may increase a dual value, since constraints may be met
# only because of rounding.
DUAL_ROUNDING = 1e-3

# Rows are moved one by one, at the cost of some steps, if the gap is at most this multiple of tol.
REACH = 10.0

# Returns what a solver requires and a problem lacks, as the end of a sentence, or None.
Need = Callable[[Objective], str | None]


class Status(Enum):
    """How a solver ended. The value is the sentence that appears in warnings.

    Examples
    --------
    >>> from mgce_sklearn.solvers import Status
    >>> Status.CONVERGED.value
    'The relative duality gap is within tol.'
    """

    CONVERGED = "The relative duality gap is within tol."
    EMPTY = "The uncertainty set is empty: the value fell below the minimum over all distributions."
    MAX_ITER = "The iteration limit was reached. Raise max_iter, or accept a larger tol."
    STALLED = (
        "Progress stopped before the gap was closed. Accept a larger tol, raise lam, or use "
        "solver='interior_point', which reaches the smallest gaps."
    )
    STOPPED = "It was stopped before the gap was closed. Allow more time, or accept a larger tol."
    NOT_FINITE = (
        "Numbers became infinite or NaN during the fit. Features, weights or half-widths may "
        "contain such numbers, or numbers above 1e100."
    )


class TracePoint(NamedTuple):
    """State of a solver at one check of the gap.

    Attributes
    ----------
    seconds : float
        Since the solver began.
    value, dual_value : float
        The best values so far.
    n_nonzero : int
        Number of nonzero coefficients. "interior_point" does not count those that it would set to
        0 if it ended here.
    steps : tuple of float
        Length of the last step, as a fraction of the full step: for "interior_point" the primal
        and the dual length, for "lbfgs" one length. For "sgd" it is in units of
        1/(largest curvature). Empty if there was no step.
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
        One point for each check of the gap.
    stopped_by : str
        What stopped it, if the status is STOPPED.
    anchor : DualPoint or None
        For rows without labels: a feasible dual point well inside its constraints.

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
        """Why the solver ended, in a sentence. If it was stopped, the sentence names the cause."""
        by = f"stopped by {self.stopped_by}" if self.stopped_by else "stopped"
        return self.status.value.replace("stopped", by)

    @property
    def gap(self) -> float:
        """Duality gap, value - dual_value: a bound on the distance of value from the optimum."""
        return max(0.0, self.value - self.dual_value)

    @property
    def relative_gap(self) -> float:
        """The gap divided by the value. ``tol`` limits it."""
        return self.gap / self.value


class Start(NamedTuple):
    """The coefficients and distributions at which a solver begins.

    Attributes
    ----------
    coef : ndarray of shape (C, d)
    p : Columns
        Distributions (K, n) that nearly satisfy the constraints of the dual.

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
    p: Columns


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt with the result so far. The original interrupt is its cause.

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
    """What may stop a solver.

    Attributes
    ----------
    deadline : float
        Time at which to stop, on the clock of `time.monotonic`. All processes of a machine have
        the same clock.
    listener : callable or None
        Called with the `Progress` at each check of the gap. Returns whether to stop.
    keeps : bool
        Whether a KeyboardInterrupt is raised as `Interrupted`, once there is an iterate. The
        caller stores the result and then raises the original interrupt.

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
        """Tell whether the deadline has passed."""
        return self.seconds_left <= 0.0


UNWATCHED = Watch()


def deadline_in(seconds: float | None) -> float:
    """Return the time that is ``seconds`` from now, or infinity for None.

    Examples
    --------
    >>> from mgce_sklearn.solvers import Watch, deadline_in
    >>> Watch(deadline=deadline_in(60.0)).out_of_time()
    False
    """
    return np.inf if seconds is None else time.monotonic() + seconds


def coef_of(start: Array | Start | SolverResult | None) -> Array | None:
    """Return the coefficients of a start, for a solver that uses nothing else of it."""
    return start.coef if isinstance(start, Start | SolverResult) else start


class Solver(Protocol):
    """Settings, and the method `solve`.

    A solver that uses random numbers also has a setting ``seed``.

    Attributes
    ----------
    name : str
        The value of the parameter ``solver`` that selects it.
    needs : tuple of Need
        Requirements on the problem, in addition to those of every solver.

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
        """Largest number of iterations."""

    @property
    def verbose(self) -> int:
        """Whether to print the size of the problem, and a line at each check of the gap."""

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether ``solver="auto"`` chooses this solver, if no earlier one suits."""

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
            Coefficients to begin at, with or without distributions, or the result of a
            neighboring problem: one with the same rows and potential, and other half-widths.
        watch : Watch
            What may stop it. It ends after the current step, and after at least one iterate.

        Returns
        -------
        SolverResult

        Raises
        ------
        ValueError
            If the problem lacks something that the solver requires.
        Interrupted
            On Ctrl-C, if ``watch.keeps``.
        """


def offers(method: str) -> Need:
    """Return the requirement that the potential has a method or an attribute."""

    def lacking(objective: Objective) -> str | None:
        if hasattr(objective.potential, method):
            return None
        kind = type(objective.potential).__name__
        return f"a potential with `{method}`, which {kind} does not have"

    return lacking


POTENTIAL = tuple(map(offers, ("smooth", "value", "value_and_gradient", "entropy")))


def host_arrays(objective: Objective) -> str | None:
    """Require all rows in memory, in numpy arrays."""
    if objective.parts.reading_costs:
        return "rows in memory, all of them in this process"
    numpy = objective.parts.like.is_numpy
    return None if numpy else "rows in numpy's arrays, as X.numpy() returns"


def missing(solver: type[Solver] | Solver, objective: Objective) -> str | None:
    """Return, as a clause, a requirement of the solver that the problem lacks, or None."""
    lacking = (need(objective) for need in (*POTENTIAL, *solver.needs))
    words = next(filter(None, lacking), None)
    return f"solver={solver.name!r} requires {words}" if words else None


@dataclass
class Progress:
    """The best primal and dual values so far, and the stopping rule of all solvers.

    Every solver makes this object first, which checks the requirements of the solver. The solver
    then offers its candidates to it. So ``tol`` means the same for all solvers:
    value - dual value <= tol * value.

    Attributes
    ----------
    working : Objective
        The objective whose rows are read: ``objective``, or the same with rows in single precision.
    coef, value, dual_value
        The best coefficients, their value, and the best dual value.
    anchor : DualPoint or None
        For rows without labels: the feasible point toward which others are moved.
    latest : ndarray of shape (C, d)
        The coefficients of the latest iterate.

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
            raise ValueError(f"{lacking}; solver='auto' chooses a solver that does not.")
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
        """Relative gap at which to stop."""
        return self.solver.tol

    @property
    def rounded(self) -> bool:
        """Whether candidates are evaluated on rows in single precision."""
        return self.working.parts is not self.objective.parts

    def forget(self) -> None:
        """Discard the best values so far, which were rounded.

        Labels are a feasible point, and so is an anchor. Without either there may be no feasible
        point.
        """
        self.value = np.inf
        self._movable: Columns | None = None
        self._before_moves = -np.inf
        known = self.objective.labeled or self.objective.anchor is not None
        self.dual_value = self.objective.least_value if known else -np.inf

    def let_go(self) -> None:
        """Release arrays stored with the rows, after some of them were lost."""
        self._movable = None

    @property
    def well_posed(self) -> bool:
        """Whether means, half-widths and the size of the features are finite.

        If they are not, a solver returns the status NOT_FINITE at once.
        """
        uncertainty = self.objective.uncertainty
        numbers = (uncertainty.tau, uncertainty.half_width, self.objective.parts.column_scale)
        return all(bool(namespace(part).isfinite(part).all()) for part in numbers)

    def reached(self, n_iter: int, coef: Array) -> None:
        """Store the latest coefficients. On Ctrl-C their duality gap is computed."""
        self.n_iter, self.latest = n_iter, coef

    def offer_coef(self, coef: Array, value: float) -> None:
        """Keep coefficients if they are the best so far."""
        self._finite &= bool(np.isfinite(value))
        if self.objective.labeled and value < self.objective.least_value:
            return  # labels are feasible, so the difference is only rounding
        if value < self.value:
            self.coef, self.value = coef, value

    def offer_p(self, p: Columns, excess: Array | None = None) -> DualPoint:
        """Make distributions (K, n) feasible, and keep the dual value if it is the best so far.

        The ``excess`` of the normalized distributions can be given, if it is known.
        """
        point = self.working.dual_point(p, self.anchor, excess)
        self.dual_value = max(self.dual_value, point.value)
        if self._can_move and point.shrink < 1.0 and point.value >= self._before_moves:
            self._movable, self._before_moves = p, point.value
        if not self.objective.labeled and np.isfinite(point.value):
            self.anchor = max(self.anchor or point, point, key=self.objective.depth)
        return point

    def _move_rows(self) -> None:
        """For sparse rows: move the best point row by row, and offer it again."""
        p, self._movable = self._movable, None
        if p is not None:
            moved = moved_by_rows(self.working, p)
            self.dual_value = max(self.dual_value, self.working.dual_point(moved).value)

    def record(self, steps: tuple[float, ...] = (), n_nonzero: int | None = None) -> Status | None:
        """Add a point to the trace, and return the reason to end, or None to continue.

        Parameters
        ----------
        steps : tuple of float
            Lengths of the last step; see `TracePoint`.
        n_nonzero : int or None
            None: the number in the best coefficients.
        """
        if not self._closed and self.gap <= REACH * self.tol * self.value:
            self._move_rows()
        self._before_moves = -np.inf  # at the next check new points are compared
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
        """Whether no distribution is feasible: the value is below the minimum over all of them."""
        return self.value < self.objective.least_value * (1.0 - ROUNDING)

    @property
    def _closed(self) -> bool:
        return bool(self.gap <= self.tol * self.value < np.inf)

    def iterations_since_better(self, gain: float = 0.0) -> int:
        """Return the number of checks since the gap first was within 1 + gain times the latest one.

        It is 0 until there is a feasible dual point.
        """
        gaps = np.array([point.value - point.dual_value for point in self.trace])
        if not (len(gaps) and np.isfinite(gaps[-1])):
            return 0
        return len(gaps) - 1 - int(np.argmax(gaps <= gaps[-1] * (1.0 + gain)))

    @property
    def gap(self) -> float:
        """Best value less best dual value."""
        return self.value - self.dual_value

    def result(self, status: Status, n_iter: int) -> SolverResult:
        """Return the result so far.

        Values from rows in single precision are computed again, or corrected for rounding. If the
        gap is not closed, rows are moved once more to make it smaller.
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
        """Turn a KeyboardInterrupt into `Interrupted`, if ``watch.keeps``.

        Threads must have ended before the interrupt arrives here. The gap of the latest
        coefficients is then computed in one pass over the rows. A second interrupt, or a loss of
        rows, ends this pass, and the best earlier coefficients are used.

        Raises
        ------
        Interrupted
            With the best coefficients so far.
        KeyboardInterrupt
            The original one, if there are no coefficients, or if ``watch.keeps`` is False.
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
        """Offer coefficients and their worst case, in one pass over the rows."""
        if self.rounded:
            self.working = self.objective
            self.forget()
        p = self.objective.parts.kept()
        value, _ = self.objective.value_and_slope(coef, p)
        self.offer_coef(coef, value)
        self.offer_p(p)


def _size(objective: Objective) -> str:
    """Return the size of a problem as text."""
    parts, n_classes = objective.parts, objective.n_classes
    q = getattr(objective.potential, "q", None)
    return (
        f"{parts.n_rows} rows, {parts.like.n_columns} features, {n_classes} classes, "
        f"{int(np.prod(objective.shape))} coefficients" + ("" if q is None else f", q = {q:g}")
    )
