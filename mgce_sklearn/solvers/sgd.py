"""Stochastic proximal gradient steps with variance reduction.

Each step reads a batch of rows and computes their worst-case distributions p_i at the current
coefficients. These replace the entries of the rows in a table (SAGA, Defazio, Bach and
Lacoste-Julien 2014):

    W <- prox(W - step (g + sum_batch w_i (p_i - table_i) ⊗ x_i / rate_i)),
    g <- g + sum_batch w_i (p_i - table_i) ⊗ x_i,      table_i <- p_i,

where w_i are weights that sum to 1, g = mean (table_i - onehot(y_i)) ⊗ x_i is updated with the
table, and rate_i is the expected number of times that row i is in a batch. prox is the soft
threshold, so zero coefficients are exactly 0. Every row of the table is a distribution, so the
table is a candidate for the dual. Its average over passes is a better one where p jumps (q near 1).

The curvature of a batch limits the length of a step. Rows with large features would make steps
short. Instead, such rows are in several batches, with smaller changes each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.objective import Objective, mean_of, with_reference
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import Columns, Part
from mgce_sklearn.solvers.base import (
    UNWATCHED,
    Need,
    Progress,
    SolverResult,
    Start,
    Status,
    Watch,
    coef_of,
    host_arrays,
)
from mgce_sklearn.solvers.repair import repaired

ROWS_PER_BATCH = 256
FEWEST_BATCHES = 32

# A row is in one batch for each SIZE_PER_COPY of its squared size, in units of the mean.
SIZE_PER_COPY = 2.0

# Lower bound on sizes, since rows may be all zero. The root mean square of a feature is 1.
SMALLEST_SIZE = 1e-12

# Length of the first step, in units of 1/(largest curvature of the squared features). It is halved
# at a check without progress, since for q near 1 the gradient of the potential jumps.
FIRST_STEP = 3.0
SHORTEST_STEP = 1e-3
POWER_ITERATIONS = 12

# Passes from one check to the next: at least this number, and this fraction of those made so far.
PASSES_PER_CHECK = 5
CHECK_SHARE = 0.25

# A repair of the averaged table assembles and factors a matrix of the size N of all coefficients.
# It costs about as much as N (1 + N/n) / COEFFICIENTS_PER_PASS passes. Between two repairs there
# are at least as many.
COEFFICIENTS_PER_PASS = 20


class _Batches:
    """The batches of rows, and how often each row is read in a pass."""

    def __init__(self, sizes: Array, rng: np.random.Generator) -> None:
        n_rows = len(sizes)
        self.count = max(min(FEWEST_BATCHES, n_rows), n_rows // ROWS_PER_BATCH)
        copies = np.ceil(sizes / (SIZE_PER_COPY * sizes.mean()))
        copies = np.clip(copies, 1, self.count).astype(np.intp)
        order = rng.permutation(n_rows)
        # Copies of a row are neighbors in this list, so they are in different batches.
        self._sequence = np.repeat(order, copies[order])
        self.rates = copies / self.count
        n_reads = len(self._sequence)
        self.largest_size = float(np.max(sizes / copies)) * n_reads / n_rows
        self.rows_per_batch = n_reads / self.count

    def rows(self, batch: int) -> Array:
        """Return the rows of a batch, each once."""
        return self._sequence[batch :: self.count]


def _squared_norms(scale: Array, part: Part) -> Array:
    return part.design.squared_norms(scale)


def _squared(direction: Array, part: Part) -> Array:
    """Return the contribution of rows to mean (x xᵀ) direction (1, d)."""
    return part.design.adjoint(part.design.margins(direction))


class _Iteration:
    """Coefficients, table and step, in coordinates where features have unit size."""

    def __init__(self, objective: Objective, start: Array | None, seed: int) -> None:
        self.objective, self.rng = objective, np.random.default_rng(seed)
        parts = objective.parts
        self.design = parts.together().design
        self.scale = parts.column_scale
        self.half_width = objective.uncertainty.half_width / self.scale
        self.scaled = np.zeros(objective.shape) if start is None else start * self.scale
        norms = parts.keep(partial(_squared_norms, self.scale))(parts.together())
        sizes = norms * self.design.weights * parts.n_rows
        self.batches = _Batches(np.maximum(sizes, SMALLEST_SIZE), self.rng)
        self.unit_step = 1.0 / (
            self._largest_curvature() + self.batches.largest_size / self.batches.rows_per_batch
        )
        self.step = FIRST_STEP * self.unit_step
        # The value at the start is not compared: near the optimum, any step increases it.
        self.value = np.inf
        p = parts.kept()
        objective.value_and_slope(self.coef, p)
        # Contiguous by row, as batches read it.
        self.table = np.ascontiguousarray(p(parts.together())[objective.first_class :].T)
        self.gradient = self._excess()
        self._sum, self._n_summed = np.zeros_like(self.table), 0

    @property
    def coef(self) -> Array:
        return self.scaled / self.scale

    def _excess(self) -> Array:
        objective = self.objective
        table = objective.parts.kept_array(self.table.T)
        mean = objective.parts.sum(partial(mean_of, table, 0), objective.n_classes)
        return (mean - objective.uncertainty.tau) / self.scale

    def _largest_curvature(self) -> float:
        """Return the largest eigenvalue of mean x xᵀ, or slightly less."""
        parts = self.objective.parts
        direction, size = self.rng.normal(size=(1, parts.n_features)), 1.0
        for _ in range(POWER_ITERATIONS):
            direction /= max(float(np.linalg.norm(direction)), SMALLEST_SIZE)
            direction = parts.sum(partial(_squared, direction / self.scale)) / self.scale
            size = float(np.linalg.norm(direction))
        return size

    def read_all(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Make one pass, a step for every batch in random order, until ``enough`` returns True."""
        for batch in self.rng.permutation(self.batches.count):
            self._read(self.batches.rows(batch))
            if enough():
                break
        self._sum += self.table
        self._n_summed += 1

    def _read(self, rows: Array) -> None:
        objective, batch = self.objective, self.design.take(rows)
        margins = with_reference(batch.margins(self.coef), self.scaled)
        if objective.offsets is not None:
            margins = margins + objective.offsets(objective.parts.together())[:, rows]
        p = objective.potential.value_and_gradient(margins)[1][objective.first_class :]
        change = p - self.table[rows].T
        factor = batch.total_weight / self.design.total_weight / self.scale
        sums = batch.adjoint(np.vstack([change, change / self.batches.rates[rows]])) * factor
        known, noisy = np.split(sums, 2)
        moved = self.scaled - self.step * (self.gradient + noisy)
        self.scaled = soft_threshold(moved, self.step * self.half_width)
        self.gradient += known
        self.table[rows] = p.T

    def average(self) -> Columns:
        """Return the table's average (K, n) over the passes since the last call."""
        average = self._sum / self._n_summed
        self._sum[:], self._n_summed = 0.0, 0
        return self.distributions(average)

    def distributions(self, table: Array) -> Columns:
        """Return a table (n, C) as distributions (K, n)."""
        columns = table.T
        if self.objective.first_class > 0:
            columns = np.vstack([1.0 - table.sum(axis=1), columns])
        return self.objective.parts.kept_array(columns)

    def check(self) -> float:
        """Return the value. Halve the step if it did not improve since the last check."""
        value = self.objective.value(self.coef)
        if value >= self.value:
            self.step *= 0.5
        self.value = min(value, self.value)
        self.gradient = self._excess()  # removes the rounding errors of the updates
        return value


@dataclass(frozen=True)
class SGD:
    """Solve by stochastic proximal gradient steps with variance reduction.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int, default=1000
        Largest number of passes over the rows.
    verbose : int, default=0
        Whether to print the size of the problem, and a line at each check of the gap.
    seed : int, default=0
        Draws the batches and their order.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import SGD
    >>> objective = Problem.from_labels(*load_iris(return_X_y=True)).objective(q=0.5, lam=0.3)
    >>> result = SGD().solve(objective)
    >>> print(result.status.name, f"{result.value:.3f}")
    CONVERGED 0.218
    """

    name: ClassVar[str] = "sgd"
    needs: ClassVar[tuple[Need, ...]] = (host_arrays,)
    tol: float = 1e-4
    max_iter: int = 1000
    verbose: int = 0
    seed: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Return True: "auto" chooses it if no other solver suits."""
        return True

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        watch: Watch = UNWATCHED,
    ) -> SolverResult:
        """Minimize ``objective``; see `Solver.solve`."""
        progress = Progress(self, objective, watch)
        if not progress.well_posed:
            return progress.result(Status.NOT_FINITE, 0)
        with progress.kept_on_interrupt(), one_blas_thread():
            return self._solve(progress, _Iteration(objective, coef_of(start), self.seed))

    def _solve(self, progress: Progress, iteration: _Iteration) -> SolverResult:
        objective = progress.objective
        check, last_repair = PASSES_PER_CHECK, 0
        n_coef = iteration.scaled.size
        repair_cost = n_coef * (1.0 + n_coef / objective.parts.n_rows) / COEFFICIENTS_PER_PASS
        for n_passes in range(1, self.max_iter + 1):
            iteration.read_all(enough=progress.watch.out_of_time)
            progress.reached(n_passes, iteration.coef)
            late = progress.watch.out_of_time()
            if n_passes < min(check, self.max_iter) and not late:
                continue
            check = n_passes + max(PASSES_PER_CHECK, int(CHECK_SHARE * n_passes))
            progress.offer_coef(iteration.coef, iteration.check())
            average = iteration.average()
            progress.offer_p(iteration.distributions(iteration.table))
            progress.offer_p(average)
            done = iteration.step < SHORTEST_STEP * iteration.unit_step
            due = done or n_passes == self.max_iter or n_passes - last_repair >= repair_cost
            if due and not late and progress.gap > self.tol * progress.value:
                progress.offer_p(repaired(objective, average))
                last_repair = n_passes
            ended = progress.record((iteration.step / iteration.unit_step,))
            if ended is not None:
                return progress.result(ended, n_passes)
            if done:
                return progress.result(Status.STALLED, n_passes)
        return progress.result(Status.MAX_ITER, self.max_iter)
