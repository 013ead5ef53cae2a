"""Primal-dual interior point method, with the rows eliminated.

Coefficients W = W⁺ - W⁻ have the multipliers u = half_width + g and v = half_width - g of
their signs, where g = mean p ⊗ x - tau; rows have the variables of `interior_rows`.
Eliminating the rows leaves one symmetric positive definite system per iteration,

    [mean C_i ⊗ x_i x_iᵀ + D] dW = rhs,      D = (W⁺/u + W⁻/v)^{-1},

solved for a predictor, Mehrotra's corrector, and centrality correctors of Gondzio.
Every iterate's p is a candidate for the dual, every W for the primal, so the gap that stops
the method is that of the problem itself and owes nothing to the method's own accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, cholesky, inner, is_tensor, namespace, set_diagonal
from mgce_sklearn.interior_rows import Rows, Side
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.potentials import Potential
from mgce_sklearn.solvers.base import (
    LARGEST_SYSTEM,
    Need,
    Progress,
    SolverResult,
    Start,
    Status,
    coef_of,
    offers,
)
from mgce_sklearn.solvers.repair import repair

# Fraction of the longest step that keeps every variable positive.
TO_THE_BOUNDARY = 0.99

# W⁺ and W⁻ at the start, in units of 1/(root mean square of the feature).
START_SIZE = 0.3

# The target is not taken further below the gap allowed than this: it would gain nothing,
# and the system's condition worsens with it.
LOWEST_TARGET = 0.02

# How far beyond the step before it a centrality corrector looks.
REACH = 0.3

# The relative gap at which a point is kept for neighbouring problems.
RESTART_GAP = 0.4

# Iterations without a better gap after which rounding has won.
PATIENCE = 15

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

# Jitters tried when rounding makes the (unit diagonal) system indefinite.
JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)


class _Coefficients(NamedTuple):
    """The positive variables of the penalty, each (C, d)."""

    plus: Array
    minus: Array
    upper: Array  # multiplier u of plus
    lower: Array  # multiplier v of minus

    def step_rates(self, step: _Coefficients) -> Array:
        """Return 1/(longest primal, dual step) that keeps the variables positive."""
        rates = [-float((change / now).min()) for now, change in zip(self, step, strict=True)]
        return np.array([max(rates[0], rates[1]), max(rates[2], rates[3])])

    def complementarity(self, step: _Coefficients) -> Array:
        """Return the sum of products as coefficients of 1, primal, dual step and both."""
        return np.array(
            [
                inner(self.plus, self.upper) + inner(self.minus, self.lower),
                inner(step.plus, self.upper) + inner(step.minus, self.lower),
                inner(self.plus, step.upper) + inner(self.minus, step.lower),
                inner(step.plus, step.upper) + inner(step.minus, step.lower),
            ]
        )

    def advanced(self, step: _Coefficients, primal: float, dual: float) -> _Coefficients:
        """Return the point after a step."""
        lengths = (primal, primal, dual, dual)
        return _Coefficients(
            *(now + a * change for now, change, a in zip(self, step, lengths, strict=True))
        )


class _Restart(NamedTuple):
    """An interior point of middling accuracy: central enough to serve neighbouring problems."""

    potential: Potential
    rows: Rows
    point: _Coefficients
    half_width: Array

    def fits(self, objective: Objective) -> bool:
        """Tell whether the rows and the potential are those of ``objective``.

        Without labels there is nothing that p could shrink toward.
        """
        shapes = (objective.n_classes, objective.design.n_rows), objective.shape
        ours = tuple(self.rows.proba.shape), tuple(self.point.plus.shape)
        same = ours == shapes and self.potential == objective.potential
        return same and objective.codes is not None

    def between(self, other: _Restart, share: float, objective: Objective) -> _Restart:
        """Mix with ``share`` of the other: a point for the half-widths mixed alike.

        The constraints of W, s, c and of p, u, v are linear, so that what holds for both
        points holds for their mixture, with a gap of second order in their distance.
        """

        def mix(one: Array, another: Array) -> Array:
            return (1.0 - share) * one + share * another

        mixed = new_rows(objective)
        for rows in objective.design.blocks(width=objective.n_classes):
            mixed.mix(rows, share, self._side(objective, rows), other._side(objective, rows))
        point = _Coefficients(*map(mix, self.point, other.point))
        return _Restart(self.potential, mixed, point, mix(self.half_width, other.half_width))

    def _side(self, objective: Objective, rows: slice) -> Side:
        return Side(self.rows, objective.margins(self.point.plus - self.point.minus, rows))

    def at(self, objective: Objective, half_width: Array) -> tuple[Rows, _Coefficients]:
        """Return a copy for other half-widths.

        Where they are smaller, u and v shrink with them, and W stays: the products shrink
        alike. p shrunk as much toward the labels would meet every constraint that it met
        before, but its products with s would grow without bound in rows whose label the
        rule misses. So it goes half of the way, and the first steps go the other half.
        """
        rows = self.rows.copy()
        shrink = min(1.0, float((half_width / self.half_width).min()))
        labels = objective.codes, objective.design.positions(objective.design.n_rows)
        rows.proba[:] *= shrink**0.5
        rows.proba[labels] += 1.0 - shrink**0.5
        rest = half_width - shrink * self.half_width
        upper, lower = shrink * self.point.upper + rest, shrink * self.point.lower + rest
        return rows, self.point._replace(upper=upper, lower=lower)


class _Probe(NamedTuple):
    """What lies along a direction."""

    step: _Coefficients
    rates: Array  # 1/(longest primal and dual step)
    sums: Array  # complementarity, as a bilinear form of the two lengths
    correction: Array  # of the next stage's corrector, mean kappa ⊗ x (C, d)

    def lengths(self, fraction: float) -> Array:
        """Return the primal and dual step, at most 1 and that fraction of the longest."""
        return np.minimum(1.0, fraction / np.maximum(self.rates, np.finfo(float).tiny))


class _RowSums:
    """The rows' part of the method: sums over rows of what `Rows` computes of blocks."""

    def __init__(self, objective: Objective, team: RowTeam, rows: Rows) -> None:
        self.objective, self.team, self.rows = objective, team, rows
        self.stages = 0
        # The coefficients of the point, and their steps of each stage.
        self.coefs = objective.design.zeros(3 + rows.correctors, *objective.shape)
        self.nu = 0.0
        self.reach = np.ones((1 + rows.correctors, 2))

    def _blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, Array]]:
        design = self.objective.design
        # One buffer for all blocks: fresh memory costs a page fault every 4 KiB.
        buffer = design.empty(design.n_features, min(size, stop - start))
        for begin in range(start, stop, size):
            end = min(begin + size, stop)
            whole = end - begin == buffer.shape[1]
            yield begin, end, design.features(begin, end, buffer if whole else None)

    def assemble(self) -> tuple[Array, Array, Array, Array]:
        """Return mean C ⊗ x xᵀ, g, mean kappa ⊗ x, and the latter's change per unit of nu."""
        objective, design = self.objective, self.objective.design
        first, n_classes = objective.first_class, objective.n_classes
        n_pairs = objective.shape[0] * (objective.shape[0] + 1) // 2

        def share(start: int, stop: int) -> tuple[Any, Array]:
            gram = design.gram(objective.shape[0])
            sums = design.zeros(3, *objective.shape)
            for begin, end, features in self._blocks(start, stop, gram.rows_per_block):
                curvature = design.empty(n_pairs, end - begin)
                kappas = design.empty(2, n_classes, end - begin)
                margins = self._margins(features, begin, end, stages=0)[0]
                self.rows.eliminate(begin, end, margins, first, curvature, *kappas)
                weights = design.weights[begin:end]
                curvature *= weights
                gram.add(curvature, features)
                sums[0] += (self.rows.proba[first:, begin:end] * weights) @ features.T
                sums[1:] += (kappas[:, first:] * weights) @ features.T
            return gram, sums

        parts = self.team.run(share)
        gram, sums = parts[0][0], sum(part[1] for part in parts)
        excess, kappa, kappa_center = sums
        for other, _ in parts[1:]:
            gram += other
        return gram.matrix(), excess - objective.uncertainty.tau, kappa, kappa_center

    def _margins(self, features: Array, start: int, stop: int, stages: int) -> Array:
        """Return the margins, and their steps of each stage (1 + stages, K, rows)."""
        margins = self.objective.with_reference(self.coefs[: 1 + stages] @ features)
        if self.objective.offsets is not None:
            margins[0] += self.objective.offsets[:, start:stop]
        return margins

    def look(self) -> tuple[Array, Array, Array]:
        """Look along the last direction of ``coefs``: rates, sums, next correction."""
        rates, sums, corrections = zip(*self._follow(np.zeros(2)), strict=True)
        return np.max(rates, axis=0), sum(sums), sum(corrections)

    def advance(self, lengths: Array) -> None:
        """Take the primal and the dual step."""
        self._follow(lengths)

    def _follow(self, lengths: Array) -> list[tuple[Array, Array, Array]]:
        objective, design = self.objective, self.objective.design
        first, weights = objective.first_class, design.weights

        def share(start: int, stop: int) -> tuple[Array, Array, Array]:
            rates, sums = np.zeros(2), np.zeros(4)
            correction = design.zeros(*objective.shape)
            for begin, end, features in self._blocks(start, stop, design.rows_in_cache):
                kappa = design.empty(objective.n_classes, end - begin)
                self.rows.follow(
                    begin, end, weights, self.stages,
                    self._margins(features, begin, end, self.stages),
                    self.nu, self.reach, lengths, kappa, rates, sums,
                )  # fmt: skip
                if not lengths.any():
                    correction += (kappa[first:] * weights[begin:end]) @ features.T
            return rates, sums, correction

        return self.team.run(share)


class _System:
    """The equations of the coefficients at one point."""

    def __init__(
        self, point: _Coefficients, gram: Array, excess: Array, kappa: Array, half_width: Array
    ) -> None:
        self.point = point
        self.residual_upper = half_width + excess - point.upper
        self.residual_lower = half_width - excess - point.lower
        self.kappa = kappa
        self.barrier = 1.0 / (point.plus / point.upper + point.minus / point.lower)
        diagonal = gram.diagonal().clip(min=0.0) + self.barrier.ravel()
        # A unit diagonal makes the jitter mean the same whatever the features' units.
        self.scale = diagonal**-0.5
        gram *= self.scale[:, None]
        gram *= self.scale
        self.solve_for = _factor(gram)
        self.target_plus = -point.plus * point.upper
        self.target_minus = -point.minus * point.lower

    def correct(self, predictor: _Coefficients, target: float, kappa: Array) -> None:
        """Add Mehrotra's correction and centre on ``target``."""
        self.target_plus += target - predictor.plus * predictor.upper
        self.target_minus += target - predictor.minus * predictor.lower
        self.kappa = self.kappa + kappa

    def pull(
        self, step: _Coefficients, target: float, primal: float, dual: float, kappa: Array
    ) -> None:
        """Add Gondzio's correction at the given step lengths."""
        ahead = self.point.advanced(step, primal, dual)
        for target_of, product in (
            (self.target_plus, ahead.plus * ahead.upper),
            (self.target_minus, ahead.minus * ahead.lower),
        ):
            pulled = product.clip(0.1 * target, 10.0 * target) - product
            target_of += pulled.clip(min=-10.0 * target)
        self.kappa = self.kappa + kappa

    def solve(self) -> _Coefficients:
        """Return the step of the coefficients and of their multipliers."""
        plus, minus, upper, lower = self.point
        aim = (self.target_plus - plus * self.residual_upper) / upper
        aim -= (self.target_minus - minus * self.residual_lower) / lower
        right = self.scale * (self.barrier * aim - self.kappa).ravel()
        step = (self.scale * self.solve_for(right)).reshape(plus.shape)
        excess_step = self.barrier * (aim - step)
        upper_step = self.residual_upper + excess_step
        lower_step = self.residual_lower - excess_step
        return _Coefficients(
            plus=(self.target_plus - plus * upper_step) / upper,
            minus=(self.target_minus - minus * lower_step) / lower,
            upper=upper_step,
            lower=lower_step,
        )


def _factor(matrix: Array) -> Callable[[Array], Array]:
    if not namespace(matrix).isfinite(matrix).all():
        raise LinAlgError("the interior point system is not finite")
    for jitter in JITTERS:
        set_diagonal(matrix, 1.0 + jitter)
        try:
            return cholesky(matrix)
        except LinAlgError:
            continue
    raise LinAlgError("the interior point system is not positive definite")


def _penalty(objective: Objective) -> float:
    """Return the median half-width in standard errors of a class of average frequency."""
    widths = objective.uncertainty.half_width / objective.design.column_scale
    return float(np.median(widths)) * np.sqrt(objective.design.total_weight * objective.n_classes)


@dataclass(frozen=True)
class InteriorPoint:
    """Solve by the primal-dual interior point method.

    Parameters
    ----------
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int, default=200
    verbose : int, default=0
    """

    name: ClassVar[str] = "interior_point"
    needs: ClassVar[tuple[Need, ...]] = (offers("interior_rows"),)
    tol: float = 1e-4
    max_iter: int = 200
    verbose: int = 0

    @staticmethod
    def suits(objective: Objective) -> bool:
        """Tell whether the systems are of moderate size, and no other method needs few steps."""
        n_coef, X = int(np.prod(objective.shape)), objective.design.X
        if is_tensor(X):
            return n_coef <= LARGEST_SYSTEM_OF_DEVICE.get(X.device.type, LARGEST_SYSTEM)
        many = objective.potential.smooth and n_coef >= MANY_COEFFICIENTS
        return n_coef <= LARGEST_SYSTEM and not (many and _penalty(objective) >= STRONG_PENALTY)

    def solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None = None,
        restartable: bool = False,
    ) -> SolverResult:
        """Minimise ``objective``; see `Solver.solve`."""
        progress = Progress(self, objective)
        with objective.design.team(objective.n_classes) as team:
            return self._solve(objective, start, restartable, team, progress)

    def _solve(
        self,
        objective: Objective,
        start: Array | Start | SolverResult | None,
        restartable: bool,
        team: RowTeam,
        progress: Progress,
    ) -> SolverResult:
        half_width = objective.uncertainty.half_width
        # A feature that is always zero has width zero. Any other width does as well.
        half_width = namespace(half_width).where(half_width > 0.0, half_width, 1.0)
        rows, point = _start(objective, half_width, start, team)
        share = max(rows.coef_share / objective.shape[1], 1.0 / objective.design.total_weight)
        n_products = rows.products + 2 * share * np.prod(objective.shape)
        sums = _RowSums(objective, team, rows)
        restart, status = None, Status.MAX_ITER
        for iteration in range(self.max_iter + 1):
            coef = point.plus - point.minus
            progress.offer_coef(coef, objective.value(coef, team))
            _offer_proba(progress, rows.proba, team)
            if progress.record():
                status = Status.CONVERGED
                break
            if iteration == self.max_iter:
                break
            if progress.iterations_since_better() >= PATIENCE:
                status = Status.STALLED
                break
            if restartable and restart is None and progress.gap <= RESTART_GAP * progress.value:
                restart = _Restart(objective.potential, rows.copy(), point, half_width)
            try:
                lowest = LOWEST_TARGET * self.tol * progress.value / n_products
                point = _iterate(sums, point, half_width, share, n_products, lowest)
            except LinAlgError:
                status = Status.STALLED
                break
        _drop_small(point, half_width, progress, team)
        if restartable and restart is None:
            restart = _Restart(objective.potential, rows, point, half_width)
        return progress.result(status, iteration, restart)


def _offer_proba(progress: Progress, proba: Array, team: RowTeam) -> None:
    """Offer a dual point, and repair it if small violations are all that keeps the gap open."""
    objective = progress.objective
    shrink = progress.offer_proba(proba, team).shrink
    violation = 1.0 / shrink - 1.0
    if objective.codes is None and progress.anchor is None and violation <= ANCHORED:
        # Iterates may near the constraints from outside for ever. While p has room, a point well
        # inside is at hand that all later ones can be moved to.
        margin = min(ANCHORED, ROOM * violation)
        progress.offer_proba(repair(objective, proba, team, margin), team)
    allowed = progress.tol * progress.value
    if progress.gap <= allowed or 1.0 - shrink > REPAIRABLE * progress.tol:
        return
    if progress.value - objective.mean_entropy(proba, team) <= allowed:
        progress.offer_proba(repair(objective, proba, team), team)


@np.errstate(over="ignore", invalid="ignore")  # a system that is not finite ends it all
def _iterate(
    sums: _RowSums,
    point: _Coefficients,
    half_width: Array,
    share: float,
    n_products: float,
    lowest_nu: float,
) -> _Coefficients:
    sums.coefs[0] = point.plus - point.minus
    gram, excess, kappa, kappa_center = sums.assemble()
    system = _System(point, gram, excess, kappa, half_width)

    def look(stage: int) -> _Probe:
        step = system.solve()
        if not namespace(step.plus).isfinite(step.plus + step.minus).all():
            raise LinAlgError("the interior point step is not finite")
        sums.stages = stage
        sums.coefs[stage] = step.plus - step.minus
        rates, products, correction = sums.look()
        rates = np.maximum(rates, point.step_rates(step))
        return _Probe(step, rates, products + point.complementarity(step), correction)

    predictor = look(1)
    primal, dual = predictor.lengths(1.0)
    now = predictor.sums[0]
    ahead = predictor.sums @ (1.0, primal, dual, primal * dual)
    sums.nu = max((ahead / now) ** sums.rows.ambition * now / n_products, lowest_nu)
    sums.reach[0] = np.minimum(1.0, predictor.lengths(1.0) + REACH)
    system.correct(predictor.step, share * sums.nu, predictor.correction + sums.nu * kappa_center)
    best = look(2)
    for stage in range(3, 3 + sums.rows.correctors):
        primal, dual = sums.reach[stage - 3]
        system.pull(best.step, share * sums.nu, primal, dual, best.correction)
        sums.reach[stage - 2] = np.minimum(1.0, best.lengths(1.0) + REACH)
        probe = look(stage)
        if probe.lengths(1.0).sum() < best.lengths(1.0).sum():
            sums.stages = stage - 1
            break
        best = probe
    lengths = best.lengths(TO_THE_BOUNDARY)
    sums.advance(lengths)
    return point.advanced(best.step, *lengths)


def _start(
    objective: Objective,
    half_width: Array,
    start: Array | Start | SolverResult | None,
    team: RowTeam,
) -> tuple[Rows, _Coefficients]:
    """Return the first interior point: kept from a neighbour, near coefficients, or neither."""
    restart = start.restart if isinstance(start, SolverResult) else None
    if isinstance(restart, _Restart) and restart.fits(objective):
        return restart.at(objective, half_width)
    proba = start.proba if isinstance(start, Start) else None
    coef = coef_of(start)
    rows = _rows(objective, coef, proba, team)
    design = objective.design
    size = design.zeros(*objective.shape) + START_SIZE / design.column_scale
    excess = abs(objective.excess(rows.proba, team))
    multiplier = namespace(excess).maximum(half_width, excess)
    plus = minus = size
    if coef is not None:
        plus, minus = coef.clip(min=0.0) + 0.1 * size, (-coef).clip(min=0.0) + 0.1 * size
    return rows, _Coefficients(plus, minus, multiplier, multiplier)


def new_rows(objective: Objective) -> Rows:
    """Return the potential's rows, with nothing in them yet."""
    potential: Any = objective.potential  # it has `interior_rows`, which was asked for
    return potential.interior_rows(objective.design, objective.n_classes)


def _rows(objective: Objective, coef: Array | None, proba: Array | None, team: RowTeam) -> Rows:
    """Return the rows inside their constraints, near a point if one is given."""
    design, n_classes = objective.design, objective.n_classes
    rows = new_rows(objective)
    first = design.zeros(*objective.shape) if coef is None else coef

    def enter(block: slice) -> float:
        known = None if proba is None else proba[:, block]
        return rows.enter(block, objective.margins(first, block), known, coef is not None)

    nu = objective.sum_over_rows(enter, team) / (n_classes * design.n_rows)
    for block in design.blocks(width=n_classes):
        rows.balance(block, nu)
    return rows


def _drop_small(point: _Coefficients, half_width: Array, progress: Progress, team: RowTeam) -> None:
    """Set to zero the coefficients that the optimum has at zero.

    There both W⁺ and W⁻ vanish while u and v do not. The result is kept if it costs nothing,
    or little: no more than a tenth of the gap allowed, and the gap stays within tol.
    """
    objective = progress.objective
    unit = half_width * objective.design.column_scale
    zero = (point.plus * unit < point.upper) & (point.minus * unit < point.lower)
    coef = namespace(zero).where(zero, 0.0, progress.coef)
    value = objective.value(coef, team)
    costs_little = value <= progress.value * (1.0 + 0.1 * progress.tol)
    certified = value - progress.dual_value <= progress.tol * value
    if value <= progress.value or (costs_little and certified):
        progress.coef, progress.value = coef, value
