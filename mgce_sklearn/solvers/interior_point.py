"""Primal-dual interior point method, with the rows eliminated.

Coefficients are W = W⁺ - W⁻. The multipliers of W⁺ >= 0 and W⁻ >= 0 are u = half_width + g and
v = half_width - g, where g = mean p ⊗ x - tau. The variables of the rows are those of
`interior_rows`. After elimination of the rows, one symmetric positive definite system per iteration
remains,

    [mean C_i ⊗ x_i x_iᵀ + D] dW = rhs,      D = (W⁺/u + W⁻/v)^{-1},

which is solved for a predictor, Mehrotra's corrector, and centrality correctors of Gondzio
(`newton`), by a Cholesky factor or by conjugate gradients (`systems`). The first coefficients come
from first-order steps on a smoothed objective. Every row begins on the central path, at the same
barrier parameter nu.

The p of every iterate is a candidate for the dual, and its W for the primal. So the gap that stops
the method is that of the problem itself, whatever the accuracy of the steps. While the gap is
wide, rows are read in single precision. The final gap is computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import LARGEST_SYSTEM, Array, namespace
from mgce_sklearn.objective import Objective, label_columns
from mgce_sklearn.parts import Columns, LostRows
from mgce_sklearn.solvers.approximate import approximate
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
from mgce_sklearn.solvers.newton import Aim, Coefficients, RowSums, advance
from mgce_sklearn.solvers.repair import repair
from mgce_sklearn.solvers.systems import (
    Factored,
    choose_form,
    has_products,
    is_large,
    reconsidered,
)

# W⁺ and W⁻ at a first point without first-order steps, in units of 1/(root mean square of the
# feature).
FIRST_SIZE = 0.3

TINY = np.finfo(np.float64).tiny

# Number of gradients of the first-order steps, smaller if they begin at given coefficients. Many
# rows need more, since they have rare columns. The steps end when one gains less than LEAST_GAIN
# (relative).
FEW_GRADIENTS, MANY_GRADIENTS, WARM_GRADIENTS = 40, 80, 20
MANY_ROWS = 30_000
LEAST_GAIN = 1e-5

# At the first point, the sum of all complementarity products is this multiple of the value; the
# second number is for given coefficients.
FIRST_TARGET, WARM_TARGET = 2.0, 1.0

# If reading costs, the first point is the solution for a sample of the rows, to this relative gap.
SAMPLE_TOL = 1e-3

# Lower bound on the value of the first coefficients, as a fraction of psi(0). Values may be too
# small, and in an empty set negative.
LEAST_VALUE = 1e-3

# At the first point W⁺ and W⁻ are at least LEAST_SIZE, in units of 1/(root mean square of the
# feature), or less if the penalty of all would exceed this fraction of the value.
LEAST_SIZE = 0.003
LEAST_SHARE = 0.1

# At the first point, multipliers are at least LEAST_MULTIPLIER times the half-width or g, and the
# product W⁺u is at most LARGEST_PRODUCT times its target.
LEAST_MULTIPLIER = 0.1
LARGEST_PRODUCT = 10.0

# Rows are read in single precision if the median half-width is at least SINGLE_WIDTH, in units of
# the features' size. They are read in double precision once the relative gap is below SINGLE_GAP,
# or if SINGLE_PATIENCE steps do not improve it. Below SLOW_GAP, an improvement counts only if it is
# at least by a factor SLOW.
SINGLE_GAP = 3e-3
SINGLE_WIDTH = 5e-5
SINGLE_PATIENCE = 2
SLOW, SLOW_GAP = 0.7, 0.03

# The smallest target, as a fraction of the gap that tol allows. A smaller one would not help, and
# would make the system worse conditioned.
LOWEST_TARGET = 0.02

# Number of iterations that improve the gap by at most LEAST_SHARE_OF_GAP after which the solver
# stops, since rounding prevents progress. With conjugate gradients in single precision, the number
# after which it changes to a factor, if the system is small enough.
PATIENCE, PATIENCE_WITH_PRODUCTS = 15, 4
LEAST_SHARE_OF_GAP = 0.01

# A dual point is repaired, at the cost of one assembly, if it would otherwise be shrunk by at most
# this multiple of tol. Larger violations become smaller in the next iterations anyway.
REPAIRABLE = 10.0

# Without labels, a repair makes the first feasible point, once constraints are violated by at most
# the fraction ANCHORED of the half-widths. It moves them inside by ROOM times the violation.
ANCHORED = 0.1
ROOM = 10.0

# A device factors larger systems than a CPU in the same time.
LARGEST_SYSTEM_OF_DEVICE = {"cuda": 20_000}

# If the half-widths are one standard error or more, and there are at least MANY_COEFFICIENTS, the
# few steps of a first-order method cost less than the systems (`benchmarks/README.md`).
STRONG_PENALTY = 1.0
MANY_COEFFICIENTS = 400


def _penalty(objective: Objective) -> float:
    """Return the median half-width in standard errors of a class of average frequency."""
    parts = objective.parts
    half_widths = parts.like.fetch(objective.uncertainty.half_width / parts.column_scale)
    return float(np.median(half_widths)) * np.sqrt(parts.total_weight * objective.n_classes)


@dataclass(frozen=True)
class InteriorPoint:
    """Solve by the primal-dual interior point method.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int, default=200
    verbose : int, default=0
        Whether to print the size of the problem, and a line at each check of the gap.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint
    >>> objective = Problem.from_labels(*load_iris(return_X_y=True)).objective(q=0.5, lam=0.3)
    >>> result = InteriorPoint().solve(objective)
    >>> print(result.status.name, f"{result.value:.3f}")
    CONVERGED 0.218
    """

    name: ClassVar[str] = "interior_point"
    needs: ClassVar[tuple[Need, ...]] = (offers("interior_rows"),)
    tol: float = 1e-4
    max_iter: int = 200
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether systems are of moderate size, and first-order methods need many steps."""
        n_coef, like = int(np.prod(objective.shape)), objective.parts.like
        if not like.is_numpy:
            return n_coef <= LARGEST_SYSTEM_OF_DEVICE.get(like.device, LARGEST_SYSTEM)
        if objective.parts.reading_costs:  # a step takes four passes, and few steps are enough
            return n_coef <= LARGEST_SYSTEM or has_products(objective)
        many = objective.potential.smooth and n_coef >= MANY_COEFFICIENTS
        if many and _penalty(objective) >= STRONG_PENALTY:
            return False
        return n_coef <= LARGEST_SYSTEM or has_products(objective)

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
                return self._solve(objective, start, progress)

    def _solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None,
        progress: Progress,
    ) -> SolverResult:
        half_width = objective.uncertainty.half_width
        # A feature that is always zero has half-width zero. Any positive number can replace it.
        half_width = namespace(half_width).where(half_width > 0.0, half_width, 1.0)
        if _may_be_rounded(objective):
            progress.working = replace(objective, parts=objective.parts.compact())
        sums = RowSums(progress.working, choose_form(progress.working, self.tol))
        point = _first_point(sums, half_width, start, progress.watch.out_of_time)
        mended = partial(_mended, sums, progress)
        relative_target = _relative_target(sums)
        n_products = sums.kind.products + 2 * relative_target * np.prod(objective.shape)
        status = Status.MAX_ITER
        lengths: tuple[float, ...] = ()
        for iteration in range(self.max_iter + 1):
            progress.reached(iteration, point.plus - point.minus)
            mended(partial(_offer, progress, point, sums))
            if progress.rounded and _rounding_matters(progress):
                _read_in_double(sums, progress)
                mended(partial(_offer, progress, point, sums))
            small = _small(point, half_width, objective)
            ended = mended(partial(progress.record, lengths, int((~small).sum())))
            if ended is not None:
                status = ended
                break
            if iteration == self.max_iter:
                break
            idle = progress.iterations_since_better(LEAST_SHARE_OF_GAP)
            if idle >= PATIENCE:
                status = Status.STALLED
                break
            form = reconsidered(sums.form, progress.working)
            if idle >= PATIENCE_WITH_PRODUCTS and np.prod(objective.shape) <= LARGEST_SYSTEM:
                form = form if isinstance(form, Factored) else Factored(objective)
            sums.read(progress.working, form)
            lowest = LOWEST_TARGET * self.tol * progress.value / n_products
            aim = Aim(relative_target, n_products, lowest, progress.gap / max(progress.value, TINY))
            try:
                point, lengths = mended(partial(advance, sums, point, half_width, aim))
            except LinAlgError:
                status = Status.STALLED
                break
        if progress.rounded:
            _read_in_double(sums, progress)
            mended(partial(_offer, progress, point, sums))
        _drop_small(point, half_width, progress)
        return progress.result(status, iteration)


def _mended(sums: RowSums, progress: Progress, work: Callable[[], Any]) -> Any:
    """Return ``work()``. If rows are lost, enter them again and repeat.

    The number of losses is limited by the `Parts` that lose them.
    """
    while True:
        try:
            return work()
        except LostRows:
            sums.mend(choose_form(progress.working, progress.tol))


def _read_in_double(sums: RowSums, progress: Progress) -> None:
    """Read rows in double precision from now on, and discard the values from single precision."""
    progress.working = progress.objective
    sums.read(progress.working, sums.form)
    progress.forget()


def _may_be_rounded(objective: Objective) -> bool:
    """Tell whether single precision is accurate enough relative to the half-widths.

    Without labels, the point toward which others are moved must not be rounded. With few rows
    single precision saves no time. Devices always read rows in double precision.
    """
    if not objective.labeled or not is_large(objective):
        return False
    half_widths = objective.uncertainty.half_width / objective.parts.column_scale
    return float(np.median(half_widths)) >= SINGLE_WIDTH


def _rounding_matters(progress: Progress) -> bool:
    """Tell whether the gap is so small, or closes so slowly, that double precision is needed."""
    gap, before = progress.gap, progress.trace[-SINGLE_PATIENCE:]
    if gap <= max(SINGLE_GAP, progress.tol) * progress.value:
        return True
    once = max((point.value - point.dual_value for point in before), default=np.inf)
    slow = len(before) == SINGLE_PATIENCE and gap > SLOW * once
    return slow and (gap == once or gap <= SLOW_GAP * progress.value)


def _relative_target(sums: RowSums) -> float:
    """Return the target of the products W⁺u and W⁻v, divided by that of the rows."""
    (_, n_features), total = sums.objective.shape, sums.objective.parts.total_weight
    return max(sums.kind.coef_share / n_features, 1.0 / max(total, 1.0))


def _offer(progress: Progress, point: Coefficients, sums: RowSums) -> None:
    """Offer the coefficients and the distributions of a point.

    Small violations are repaired if the gap would be closed without them, and if steps factor
    a matrix, as a repair does.
    """
    p, objective = sums.p, progress.working
    arrived = sums.arrive(point.plus - point.minus)
    progress.offer_coef(arrived.coef, arrived.value)
    shrink = progress.offer_p(p, arrived.excess).shrink
    if not objective.labeled:
        _anchor(progress, p, 1.0 / shrink - 1.0)
    allowed = progress.tol * progress.value
    if progress.gap <= allowed or 1.0 - shrink > REPAIRABLE * progress.tol:
        return
    if progress.rounded or not isinstance(sums.form, Factored):
        return
    if progress.value - objective.mean_entropy(p) <= allowed:
        progress.offer_p(repair(objective, p))


def _anchor(progress: Progress, p: Columns, violation: float) -> None:
    """Make the first feasible point of rows without labels.

    Iterates may approach the constraints from outside without ever meeting them. While p has room,
    a repair finds a point well inside, and all later points can be moved toward it.
    """
    if progress.anchor is None and violation <= ANCHORED:
        margin = min(ANCHORED, ROOM * violation)
        progress.offer_p(repair(progress.objective, p, margin))


def _first_point(
    sums: RowSums,
    half_width: Array,
    start: Array | Start | SolverResult | None,
    stop: Callable[[], bool],
) -> Coefficients:
    """Return the first interior point, after first-order steps if the potential allows them."""
    coef, objective = coef_of(start), sums.objective
    if not hasattr(objective.potential, "descended"):
        p = start.p if isinstance(start, Start) else None
        return _cold(sums, half_width, coef, p)
    if objective.parts.reading_costs:
        return _from_sample(sums, half_width, coef, stop)
    n_gradients, target = WARM_GRADIENTS, WARM_TARGET
    if coef is None:
        many = objective.parts.n_rows >= MANY_ROWS
        n_gradients, target = MANY_GRADIENTS if many else FEW_GRADIENTS, FIRST_TARGET
    potential: Any = objective.potential  # it has `descended`
    smoother = replace(objective, potential=potential.descended())
    coef, _ = approximate(smoother, LEAST_GAIN, n_gradients, stop, coef)
    return _central(sums, half_width, coef, target)


def _from_sample(
    sums: RowSums, half_width: Array, coef: Array | None, stop: Callable[[], bool]
) -> Coefficients:
    """Return a point near the central path, from the solution for a sample of the rows.

    The sample is in memory. In its problem, tau are the means of the labels of the sample.
    """
    objective = sums.objective
    if coef is not None:
        return _central(sums, half_width, coef, WARM_TARGET)
    sample = replace(objective, parts=objective.parts.sample)
    tau = sample.excess(partial(label_columns, n_classes=objective.n_classes))
    tau = tau + objective.uncertainty.tau
    sample = replace(sample, uncertainty=replace(objective.uncertainty, tau=tau))
    watch = Watch(listener=lambda _: stop())
    found = InteriorPoint(tol=SAMPLE_TOL).solve(sample, watch=watch)
    return _central(sums, half_width, found.coef, WARM_TARGET, found.value)


def _central(
    sums: RowSums, half_width: Array, coef: Array, target: float, value: float | None = None
) -> Coefficients:
    """Return a point near the central path, with given coefficients.

    The sum of all complementarity products is ``target`` times the value of the coefficients, which
    can be given if it is roughly known.
    """
    objective, at_zero = sums.objective, _value_at_zero(sums.objective)
    if value is None:
        value = objective.value(coef)
    if objective.labeled and not value > 0.0:  # overflow
        coef, value = 0.0 * coef, at_zero
    n_products = 2 * objective.n_classes + 1 + 2 * _relative_target(sums) * np.prod(coef.shape)
    nu = target * max(value, LEAST_VALUE * at_zero) / n_products
    sums.enter(coef, None, True, nu)
    excess = sums.excess(coef)
    most = LEAST_SHARE * value / (half_width * np.prod(coef.shape))
    least_size = namespace(most).minimum(LEAST_SIZE / objective.parts.column_scale, most)
    return _coefficients_at(coef, excess, half_width, _relative_target(sums) * nu, least_size)


def _coefficients_at(
    coef: Array, excess: Array, half_width: Array, target: float, least_size: Array
) -> Coefficients:
    """Return coefficients with multipliers whose products are near ``target``, if g allows it.

    For a nonzero coefficient, the multiplier of its sign is small, and that of the other sign is at
    least the half-width, whatever g is. W⁺ and W⁻ are at least ``least_size``, since from a smaller
    size steps would be too short.
    """
    arrays = namespace(coef)
    least = LEAST_MULTIPLIER * arrays.maximum(half_width, abs(excess))
    signs = coef.clip(min=0.0), (-coef).clip(min=0.0)
    free = [arrays.maximum(half_width + g, least) for g in (excess, -excess)]
    active = [size > target / multiplier for size, multiplier in zip(signs, free, strict=True)]
    multipliers = []
    for own, size, multiplier, other in zip(active, signs, free, reversed(active), strict=True):
        most = LARGEST_PRODUCT * target / arrays.maximum(size, target / multiplier)
        held = arrays.where(own, arrays.minimum(multiplier, most), multiplier)
        multipliers.append(arrays.where(other, arrays.maximum(held, half_width), held))
    inside = arrays.minimum(*(target / multiplier for multiplier in multipliers))
    inside = arrays.maximum(inside, least_size)
    return Coefficients(signs[0] + inside, signs[1] + inside, *multipliers)


def _cold(sums: RowSums, half_width: Array, coef: Array | None, p: Columns | None) -> Coefficients:
    """Return a point well inside all constraints, near given coefficients or distributions."""
    objective = sums.objective
    zeros = objective.parts.like.zeros(*objective.shape)
    sums.enter(zeros if coef is None else coef, p, coef is not None, None)
    size = zeros + FIRST_SIZE / objective.parts.column_scale
    excess = abs(sums.excess(zeros if coef is None else coef))
    multiplier = namespace(excess).maximum(half_width, excess)
    plus = minus = size
    if coef is not None:
        plus, minus = coef.clip(min=0.0) + 0.1 * size, (-coef).clip(min=0.0) + 0.1 * size
    return Coefficients(plus, minus, multiplier, multiplier)


def _drop_small(point: Coefficients, half_width: Array, progress: Progress) -> None:
    """Set to zero the coefficients that are zero at the optimum.

    The result is used if it does not raise the value, or raises it by at most a tenth of the gap
    that tol allows, and the gap stays within tol. If no value is below that at W = 0, all are 0.
    """
    objective = progress.objective
    if _value_at_zero(objective) <= progress.value:
        progress.offer_coef(0.0 * progress.coef, objective.value(0.0 * progress.coef))
        return
    small = _small(point, half_width, objective)
    coef = namespace(small).where(small, 0.0, progress.coef)
    value = objective.value(coef)
    costs_little = value <= progress.value * (1.0 + 0.1 * progress.tol)
    certified = value - progress.dual_value <= progress.tol * value
    if value <= progress.value or (costs_little and certified):
        progress.coef, progress.value = coef, value


def _value_at_zero(objective: Objective) -> float:
    """Return the objective at coefficients 0: without offsets psi(0), the same for all rows."""
    like = objective.parts.like
    if objective.offsets is not None:
        return objective.value(like.zeros(*objective.shape))
    return float(objective.potential.value(like.zeros(objective.n_classes, 1))[0])


def _small(point: Coefficients, half_width: Array, objective: Objective) -> Array:
    """Tell where (C, d) the optimum is probably 0: W⁺ and W⁻ are small relative to u and v."""
    unit = half_width * objective.parts.column_scale
    return (point.plus * unit < point.upper) & (point.minus * unit < point.lower)
