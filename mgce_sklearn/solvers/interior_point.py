"""Primal-dual interior point method, with the rows eliminated.

Coefficients W = W⁺ - W⁻ have the multipliers u = half_width + g and v = half_width - g of
their signs, where g = mean p ⊗ x - tau; rows have the variables of `interior_rows`.
Eliminating the rows leaves one symmetric positive definite system per iteration,

    [mean C_i ⊗ x_i x_iᵀ + D] dW = rhs,      D = (W⁺/u + W⁻/v)^{-1},

solved for a predictor, Mehrotra's corrector, and centrality correctors of Gondzio (`newton`), by
a factor or by conjugate gradients (`systems`). It starts from coefficients that first-order steps
find on a smoothed objective, with every row put on the central path at one nu.

Every iterate's p is a candidate for the dual, every W for the primal, so the gap that stops
the method is that of the problem itself and owes nothing to the method's own accuracy. As long as
it is wide, rows are read in single precision; what is certified is read in double.
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

# W⁺ and W⁻ at a start without first-order steps, in units of 1/(root mean square of the feature).
START_SIZE = 0.3

TINY = np.finfo(np.float64).tiny

# Gradients of the start, fewer from given coefficients: many rows, and the rare columns that they
# have, take more of them. Steps that gain less than a share of the value are the last.
FEW_GRADIENTS, MANY_GRADIENTS, WARM_GRADIENTS = 40, 80, 20
MANY_ROWS = 30_000
LEAST_GAIN = 1e-5

# At the start all products add up to so many times the value, from given coefficients to fewer.
FIRST_TARGET, WARM_TARGET = 2.0, 1.0

# Gap of a sample's solution, where a fit of rows that cost reading starts.
SAMPLE_TOL = 1e-3

# Of psi(0), for a value of coefficients that is too small, or negative as in an empty set.
LEAST_VALUE = 1e-3

# At the start W⁺ and W⁻ are at least this, in units of 1/(root mean square of the feature), unless
# the penalty of all would be more than this share of the value.
LEAST_SIZE = 0.003
LEAST_SHARE = 0.1

# At the start multipliers are at least this share of the half-width or of g, and W⁺u at most so
# many times its target.
LEAST_MULTIPLIER = 0.1
LARGEST_PRODUCT = 10.0

# Rows in single precision serve down to this relative gap, and as long as so many steps bring a
# better one, from a middling gap on by some share; and if the median half-width is no less than
# this, in units of the features' size.
SINGLE_GAP = 3e-3
SINGLE_WIDTH = 5e-5
SINGLE_PATIENCE = 2
SLOW, SLOW_GAP = 0.7, 0.03

# The target is not taken further below the gap allowed than this: it would gain nothing,
# and the system's condition worsens with it.
LOWEST_TARGET = 0.02

# Iterations that gain no more than a share of the gap, after which rounding has won, and after
# which products in single precision give way to a factor, if one can be had.
PATIENCE, PATIENCE_WITH_PRODUCTS = 15, 4
LEAST_SHARE_OF_GAP = 0.01

# A dual point is repaired, at the price of one assembly, if it would otherwise be shrunk by
# no more than this many times tol. Larger violations the next iterations mend as well.
REPAIRABLE = 10.0

# Without labels, a first feasible point is made by a repair once constraints are violated by no
# more than this share, with room of so many times the violation.
ANCHORED = 0.1
ROOM = 10.0

# A device factors larger systems in the same time.
LARGEST_SYSTEM_OF_DEVICE = {"cuda": 20_000}

# Where widths are those of a standard error or more, and coefficients at least so many, the
# few steps of a first-order method cost less than the systems (`benchmarks/README.md`).
STRONG_PENALTY = 1.0
MANY_COEFFICIENTS = 400


def _penalty(objective: Objective) -> float:
    """Return the median half-width in standard errors of a class of average frequency."""
    parts = objective.parts
    widths = parts.like.fetch(objective.uncertainty.half_width / parts.column_scale)
    return float(np.median(widths)) * np.sqrt(parts.total_weight * objective.n_classes)


@dataclass(frozen=True)
class InteriorPoint:
    """Solve by the primal-dual interior point method.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int, default=200
    verbose : int, default=0

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> result = InteriorPoint(tol=1e-6).solve(objective)
    >>> print(f"{result.value:.4f}, {result.relative_gap <= 1e-6}")
    0.2182, True
    """

    name: ClassVar[str] = "interior_point"
    needs: ClassVar[tuple[Need, ...]] = (offers("interior_rows"),)
    tol: float = 1e-4
    max_iter: int = 200
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether the systems are of moderate size, and no other method needs few steps."""
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
        # A feature that is always zero has width zero. Any other width does as well.
        half_width = namespace(half_width).where(half_width > 0.0, half_width, 1.0)
        if _may_be_rounded(objective):
            progress.working = replace(objective, parts=objective.parts.compact())
        sums = RowSums(progress.working, choose_form(progress.working, self.tol))
        point = _start(sums, half_width, start, progress.watch.out_of_time)
        mended = partial(_mended, sums, progress)
        share = _share(sums)
        n_products = sums.kind.products + 2 * share * np.prod(objective.shape)
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
            aim = Aim(share, n_products, lowest, progress.gap / max(progress.value, TINY))
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
    """Return what work does, anew once rows that were lost on the way have entered again.

    Who loses rows limits how often.
    """
    while True:
        try:
            return work()
        except LostRows:
            sums.mend(choose_form(progress.working, progress.tol))


def _read_in_double(sums: RowSums, progress: Progress) -> None:
    """Read rows as they are, and begin with values of these."""
    progress.working = progress.objective
    sums.read(progress.working, sums.form)
    progress.forget()


def _may_be_rounded(objective: Objective) -> bool:
    """Tell whether means of rows in single precision are exact beside the half-widths.

    Without labels the point that others are moved to, once there is one, must not be rounded.
    Few rows gain nothing, and devices read them in double precision whatever they are.
    """
    if not objective.labeled or not is_large(objective):
        return False
    widths = objective.uncertainty.half_width / objective.parts.column_scale
    return float(np.median(widths)) >= SINGLE_WIDTH


def _rounding_matters(progress: Progress) -> bool:
    """Tell whether the gap is so small, or closes so slowly, that rows are wanted in double."""
    gap, before = progress.gap, progress.trace[-SINGLE_PATIENCE:]
    if gap <= max(SINGLE_GAP, progress.tol) * progress.value:
        return True
    once = max((point.value - point.dual_value for point in before), default=np.inf)
    slow = len(before) == SINGLE_PATIENCE and gap > SLOW * once
    return slow and (gap == once or gap <= SLOW_GAP * progress.value)


def _share(sums: RowSums) -> float:
    """Return what the products W⁺u and W⁻v aim at, in units of the rows' target."""
    (_, n_features), total = sums.objective.shape, sums.objective.parts.total_weight
    return max(sums.kind.coef_share / n_features, 1.0 / max(total, 1.0))


def _offer(progress: Progress, point: Coefficients, sums: RowSums) -> None:
    """Offer the coefficients and the distributions of a point.

    Small violations are repaired if they are all that keeps the gap open, and if steps factor a
    matrix as a repair does.
    """
    proba, objective = sums.proba, progress.working
    arrived = sums.arrive(point.plus - point.minus)
    progress.offer_coef(arrived.coef, arrived.value)
    shrink = progress.offer_proba(proba, arrived.excess).shrink
    if not objective.labeled:
        _anchor(progress, proba, 1.0 / shrink - 1.0)
    allowed = progress.tol * progress.value
    if progress.gap <= allowed or 1.0 - shrink > REPAIRABLE * progress.tol:
        return
    if progress.rounded or not isinstance(sums.form, Factored):
        return
    if progress.value - objective.mean_entropy(proba) <= allowed:
        progress.offer_proba(repair(objective, proba))


def _anchor(progress: Progress, proba: Columns, violation: float) -> None:
    """Make the first feasible point of rows without labels.

    Iterates may near the constraints from outside for ever. While p has room, a point well inside
    is at hand that all later ones can be moved to.
    """
    if progress.anchor is None and violation <= ANCHORED:
        margin = min(ANCHORED, ROOM * violation)
        progress.offer_proba(repair(progress.objective, proba, margin))


def _start(
    sums: RowSums,
    half_width: Array,
    start: Array | Start | SolverResult | None,
    stop: Callable[[], bool],
) -> Coefficients:
    """Return the first interior point, after first-order steps where the potential allows them."""
    coef, objective = coef_of(start), sums.objective
    if not hasattr(objective.potential, "descended"):
        proba = start.proba if isinstance(start, Start) else None
        return _cold(sums, half_width, coef, proba)
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
    """Return a point near the central path, of the solution of a sample of the rows.

    The sample is in memory, and its means of labels take the place of those of all rows.
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
    """Return a point near the central path, of given coefficients.

    All products add up to the target, in units of the value, which may be known about.
    """
    objective, at_zero = sums.objective, _value_at_zero(sums.objective)
    if value is None:
        value = objective.value(coef)
    if objective.labeled and not value > 0.0:  # beyond what numbers hold
        coef, value = 0.0 * coef, at_zero
    n_products = 2 * objective.n_classes + 1 + 2 * _share(sums) * np.prod(coef.shape)
    nu = target * max(value, LEAST_VALUE * at_zero) / n_products
    sums.enter(coef, None, True, nu)
    excess = sums.excess(coef)
    most = LEAST_SHARE * value / (half_width * np.prod(coef.shape))
    least_size = namespace(most).minimum(LEAST_SIZE / objective.parts.column_scale, most)
    return _coefficients_at(coef, excess, half_width, _share(sums) * nu, least_size)


def _coefficients_at(
    coef: Array, excess: Array, half_width: Array, target: float, least_size: Array
) -> Coefficients:
    """Return given coefficients with multipliers, products near ``target`` where g allows it.

    A coefficient that is not 0 has a small multiplier, and the other sign one of at least the
    half-width, whatever g says. W⁺ and W⁻ are at least of a size from which steps can grow.
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


def _cold(
    sums: RowSums, half_width: Array, coef: Array | None, proba: Columns | None
) -> Coefficients:
    """Return a point well inside all constraints, near coefficients or distributions if given."""
    objective = sums.objective
    zeros = objective.parts.like.zeros(*objective.shape)
    sums.enter(zeros if coef is None else coef, proba, coef is not None, None)
    size = zeros + START_SIZE / objective.parts.column_scale
    excess = abs(sums.excess(zeros if coef is None else coef))
    multiplier = namespace(excess).maximum(half_width, excess)
    plus = minus = size
    if coef is not None:
        plus, minus = coef.clip(min=0.0) + 0.1 * size, (-coef).clip(min=0.0) + 0.1 * size
    return Coefficients(plus, minus, multiplier, multiplier)


def _drop_small(point: Coefficients, half_width: Array, progress: Progress) -> None:
    """Set to zero the coefficients that the optimum has at zero.

    The result is kept if it costs nothing, or little: no more than a tenth of the gap allowed, and
    the gap stays within tol. Zeros alone are the optimum where nothing found is below them.
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
    """Return the objective at coefficients 0: without offsets psi at margins 0, of any row."""
    like = objective.parts.like
    if objective.offsets is not None:
        return objective.value(like.zeros(*objective.shape))
    return float(objective.potential.value(like.zeros(objective.n_classes, 1))[0])


def _small(point: Coefficients, half_width: Array, objective: Objective) -> Array:
    """Tell where (C, d) the optimum seems to be 0: W⁺ and W⁻ vanish while u and v do not."""
    unit = half_width * objective.parts.column_scale
    return (point.plus * unit < point.upper) & (point.minus * unit < point.lower)
