"""Orthant-wise L-BFGS on the smoothed objective, with continuation in the smoothing.

Limited-memory quasi-Newton steps stay within the orthant of the current signs, where the penalty
<half_width, |W|> is linear (Andrew and Gao 2007). If the curvature of the potential is unbounded
(q > 1/2), the potential is smoothed, in stages: whenever progress stops, a stage with less
smoothing begins. Each iteration costs two passes over X, and memory is O(n K). It is the method
where K d is too large for the system of the interior point method.

The duality gap is that of the problem without smoothing. Values are R(W) of the iterates. Dual
points come from the smoothed gradient, which is a distribution in every row: the last one, the
average over some iterations, and at the end of each stage the repaired average.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from mgce_sklearn.arrays import LARGEST_SYSTEM, Array, inner, namespace, norm
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.objective import Objective
from mgce_sklearn.parts import Columns, Kept, LostRows, Part
from mgce_sklearn.solvers.base import (
    UNWATCHED,
    Need,
    Progress,
    SolverResult,
    Start,
    Status,
    Watch,
    coef_of,
    offers,
)
from mgce_sklearn.solvers.repair import repaired

FIRST_SMOOTHING = 0.3
SMOOTHING_FACTOR = 1.0 / 3.0

MEMORY = 20
ITERATIONS_PER_CHECK = 10
# A smoothed stage ends when the value decreases from one check to the next by less than this
# fraction of the gap that tol allows. Without smoothing the gap itself decides, since it closes
# long after the value has converged.
STALLED_PROGRESS = 0.003
SUFFICIENT_DECREASE = 1e-4
SHORTEST_STEP = 1e-10

# If values differ by less than ROUNDING (relative), rounding may be the cause. A step is then
# accepted if the upward slope at its end is at most SLOPE times the downward slope at its
# beginning.
ROUNDING = 1e-14
SLOPE = 0.9

# Number of checks without a better gap after which rounding is assumed to prevent progress.
PATIENCE = 10


def smoothness(objective: Objective) -> str | None:
    """Require a potential that is smooth, or that can be smoothed."""
    return None if objective.potential.smooth else offers("smoothed")(objective)


class _Memory:
    """The last steps and changes of the gradient, which define an approximate inverse Hessian."""

    def __init__(self) -> None:
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=MEMORY)

    def add(self, step: Array, change: Array) -> None:
        curvature = inner(step, change)
        if curvature > 1e-12 * norm(step) * norm(change):
            self.pairs.append((step, change, curvature))

    def inverse_hessian_product(self, gradient: Array) -> Array:
        """Apply the two-loop recursion (Nocedal and Wright 2006, algorithm 7.4)."""
        out = gradient
        projections = []
        for step, change, curvature in reversed(self.pairs):
            projections.append(inner(step, out) / curvature)
            out = out - projections[-1] * change
        if self.pairs:
            step, change, curvature = self.pairs[-1]
            out = out * (curvature / inner(change, change))
        for (step, change, curvature), projection in zip(
            self.pairs, reversed(projections), strict=True
        ):
            out = out + (projection - inner(change, out) / curvature) * step
        return out


@dataclass(frozen=True)
class _Iterate:
    """A point of the smoothed problem, in coordinates where features have unit size."""

    coef: Array
    value: float
    gradient: Array
    p: Kept
    length: float  # of the step to this point, as a fraction of the full step

    def pseudo_gradient(self, half_width: Array) -> Array:
        """Return the smallest element of the subdifferential of the objective."""
        at_zero = soft_threshold(self.gradient, half_width)
        arrays = namespace(self.coef)
        elsewhere = self.gradient + half_width * arrays.sign(self.coef)
        return arrays.where(self.coef == 0.0, at_zero, elsewhere)


@dataclass(frozen=True)
class LBFGS:
    """Solve by orthant-wise L-BFGS with continuation.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int, default=10_000
    verbose : int, default=0
        Whether to print the size of the problem, and a line at each check of the gap.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import LBFGS
    >>> objective = Problem.from_labels(*load_iris(return_X_y=True)).objective(q=0.5, lam=0.3)
    >>> result = LBFGS().solve(objective)
    >>> print(result.status.name, f"{result.value:.3f}")
    CONVERGED 0.218
    """

    name: ClassVar[str] = "lbfgs"
    needs: ClassVar[tuple[Need, ...]] = (smoothness,)
    tol: float = 1e-4
    max_iter: int = 10_000
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether the gap closes, or nearly closes by repairs, or passes over X are cheap.

        Passes are cheap over few rows, and over rows on a device. It also suits rows without
        labels, since their dual may have no feasible point, and then only coefficients matter.
        """
        n_coef, parts = int(np.prod(objective.shape)), objective.parts
        closes = objective.potential.smooth or n_coef <= LARGEST_SYSTEM
        cheap = parts.n_rows < n_coef or not parts.like.is_numpy
        return closes or cheap or not objective.labeled

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        watch: Watch = UNWATCHED,
    ) -> SolverResult:
        """Minimize ``objective``; see `Solver.solve`."""
        with objective.opened() as objective:
            progress = Progress(self, objective, watch)
            if not progress.well_posed:
                return progress.result(Status.NOT_FINITE, 0)
            with progress.kept_on_interrupt():
                return self._solve(objective, coef_of(start), progress)

    def _solve(self, objective: Objective, start: Array | None, progress: Progress) -> SolverResult:
        coef = objective.parts.like.zeros(*objective.shape) if start is None else start
        # A start is near the solution. Strong smoothing would lead away from it.
        nearer = 0 if start is None else 2
        iteration = 0
        for stage in _stages(objective, FIRST_SMOOTHING * SMOOTHING_FACTOR**nearer, self.tol):
            coef, iteration, status = self._mended(stage, coef, iteration, progress)
            if status is not Status.STALLED:
                break
        return progress.result(status, iteration)

    def _mended(
        self, stage: Objective, coef: Array, iteration: int, progress: Progress
    ) -> tuple[Array, int, Status]:
        """Iterate. If arrays of rows are lost, continue from the latest coefficients.

        The number of losses is limited by the `Parts` that lose them.
        """
        while True:
            try:
                return self._descend(stage, coef, iteration, progress)
            except LostRows:
                progress.let_go()
                if progress.n_iter > iteration:
                    coef, iteration = progress.latest, progress.n_iter

    def _descend(
        self, stage: Objective, coef: Array, iteration: int, progress: Progress
    ) -> tuple[Array, int, Status]:
        """Iterate until the gap is closed, the limit is reached, or progress stops."""
        scale = stage.parts.column_scale
        half_width = stage.uncertainty.half_width / scale

        def evaluate(scaled: Array, length: float = 0.0) -> _Iterate:
            p = stage.parts.kept()
            value, gradient = stage.value_and_slope(scaled / scale, p)
            return _Iterate(scaled, value, gradient / scale, p, length)

        now, memory = evaluate(coef * scale), _Memory()
        checked_value = now.value
        average = _Average(stage, now.p)
        for count in range(1, self.max_iter + 1 - iteration):
            after = _step(now, memory, half_width, evaluate)
            stalled = after is None
            if after is not None:
                memory.add(after.coef - now.coef, after.gradient - now.gradient)
                now = after
                average.add(now.p)
            coef = now.coef / scale
            progress.reached(iteration + count, coef)
            late = progress.watch.out_of_time()
            if stalled or late or count % ITERATIONS_PER_CHECK == 0:
                if stage is progress.objective:
                    stalled |= progress.iterations_since_better() >= PATIENCE
                else:
                    gained = checked_value - now.value
                    stalled |= gained < STALLED_PROGRESS * self.tol * now.value
                ended = _check(progress, coef, now, average, last=stalled and not late)
                if ended is not None:
                    return coef, iteration + count, ended
                if stalled:
                    return coef, iteration + count, Status.STALLED
                checked_value, average = now.value, _Average(stage, now.p)
        coef = now.coef / scale
        ended = _check(progress, coef, now, average, last=True)
        return coef, self.max_iter, ended or Status.MAX_ITER


def _stages(objective: Objective, smoothing: float, tol: float) -> Iterator[Objective]:
    """Yield the objective if it is smooth; else smoothed ones, each with less smoothing."""
    if objective.potential.smooth:
        yield objective
        return
    potential: Any = objective.potential  # it has `smoothed`, as `needs` requires
    while True:
        yield replace(objective, potential=potential.smoothed(smoothing))
        # The smoothed value exceeds the true one by less than the smoothing.
        if smoothing < 0.01 * tol:
            return
        smoothing *= SMOOTHING_FACTOR


class _Average:
    """The mean of distributions (K, n). Where p jumps, it is closer to the optimum of the dual."""

    def __init__(self, objective: Objective, first: Kept) -> None:
        self._objective, self._count = objective, 1
        self._sum = self._keep(partial(_scaled, first, 1.0))

    def _keep(self, columns: Columns) -> Kept:
        return self._objective.parts.keep(columns, self._objective.n_classes, features=False)

    def add(self, p: Kept) -> None:
        parts, n_classes = self._objective.parts, self._objective.n_classes
        parts.change(partial(_add_to, self._sum, p), n_classes, features=False)
        self._count += 1

    def mean(self) -> Columns:
        return partial(_scaled, self._sum, 1.0 / self._count)


def _scaled(columns: Columns, factor: float, part: Part) -> Array:
    return factor * columns(part)


def _add_to(total: Kept, columns: Columns, part: Part) -> None:
    own = total(part)
    own += columns(part)


def _check(
    progress: Progress, coef: Array, now: _Iterate, average: _Average, last: bool
) -> Status | None:
    """Offer coefficients and distributions; at the ``last`` check of a stage also repaired ones."""
    progress.offer_coef(coef, progress.objective.value(coef))
    progress.offer_p(now.p)
    progress.offer_p(average.mean())
    if last and progress.gap > progress.tol * progress.value:
        progress.offer_p(repaired(progress.objective, average.mean()))
    return progress.record((now.length,))


def _step(now: _Iterate, memory: _Memory, half_width: Array, evaluate) -> _Iterate | None:
    """Return the next iterate, or None if rounding prevents descent."""
    descent = -now.pseudo_gradient(half_width)
    direction = memory.inverse_hessian_product(descent)
    direction[direction * descent <= 0.0] = 0.0
    arrays = namespace(descent)
    orthant = arrays.where(now.coef == 0.0, arrays.sign(descent), arrays.sign(now.coef))
    length = 1.0 if memory.pairs else 1.0 / max(norm(descent), 1e-300)
    while length > SHORTEST_STEP:
        coef = now.coef + length * direction
        coef[coef * orthant < 0.0] = 0.0
        after = evaluate(coef, length)
        moved = coef - now.coef
        predicted = inner(descent, moved)
        if predicted <= 0.0:
            return None
        if after.value <= now.value - SUFFICIENT_DECREASE * predicted:
            return after
        # If values differ only by rounding, slopes still show descent (Hager and Zhang 2005,
        # equation 4.1): on a convex function the slope at the end of a step is the steepest.
        close = after.value <= now.value + ROUNDING * abs(now.value)
        if close and inner(after.pseudo_gradient(half_width), moved) <= SLOPE * predicted:
            return after
        length *= 0.5
    return None
