"""One step of the interior point method: its direction, how far it goes, and the next point.

Rows are read in passes, each of which sums over them what the equations of the coefficients ask
for; `Rows` knows the mathematics of a row, `Form` that of the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, inner, namespace
from mgce_sklearn.design import Block
from mgce_sklearn.interior_rows import Rows
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.solvers.systems import Form, System

# Fraction of the longest step that keeps every variable positive.
TO_THE_BOUNDARY = 0.99

# How far beyond the step before it a centrality corrector looks.
REACH = 0.3

# The residual that a solution of the equations may leave, as a share of what g is compared with:
# half-widths while the gap is open, multipliers. The predictor needs less.
ACCURACY = 0.4
PREDICTORS_ACCURACY = 3.0


class Coefficients(NamedTuple):
    """The positive variables of the penalty, each (C, d)."""

    plus: Array
    minus: Array
    upper: Array  # multiplier u of plus
    lower: Array  # multiplier v of minus

    def step_rates(self, step: Coefficients) -> Array:
        """Return 1/(longest primal, dual step) that keeps the variables positive."""
        rates = [-float((change / now).min()) for now, change in zip(self, step, strict=True)]
        return np.array([max(rates[0], rates[1]), max(rates[2], rates[3])])

    def complementarity(self, step: Coefficients) -> Array:
        """Return the sum of products as coefficients of 1, primal, dual step and both."""
        return np.array(
            [
                inner(self.plus, self.upper) + inner(self.minus, self.lower),
                inner(step.plus, self.upper) + inner(step.minus, self.lower),
                inner(self.plus, step.upper) + inner(self.minus, step.lower),
                inner(step.plus, step.upper) + inner(step.minus, step.lower),
            ]
        )

    def advanced(self, step: Coefficients, primal: float, dual: float) -> Coefficients:
        """Return the point after a step."""
        lengths = (primal, primal, dual, dual)
        return Coefficients(
            *(now + a * change for now, change, a in zip(self, step, lengths, strict=True))
        )


class _Probe(NamedTuple):
    """What lies along a direction."""

    step: Coefficients
    rates: Array  # 1/(longest primal and dual step)
    sums: Array  # complementarity, as a bilinear form of the two lengths
    correction: Array  # of the next stage's corrector, mean kappa ⊗ x (C, d)

    def lengths(self, fraction: float) -> Array:
        """Return the primal and dual step, at most 1 and that fraction of the longest."""
        return np.minimum(1.0, fraction / np.maximum(self.rates, np.finfo(float).tiny))


class RowSums:
    """The rows' part of the method: sums over rows of what `Rows` computes of blocks.

    Parameters
    ----------
    objective : Objective
        Whose rows are read. Another one of the same rows may take its place.
    team : RowTeam
    rows : Rows
    form : Form
    """

    def __init__(self, objective: Objective, team: RowTeam, rows: Rows, form: Form) -> None:
        self.objective, self.team, self.rows, self.form = objective, team, rows, form
        self.stages = 0
        # The coefficients of the point, and their steps of each stage.
        self.coefs = objective.design.zeros(3 + rows.correctors, *objective.shape)
        self.nu = 0.0
        self.reach = np.ones((1 + rows.correctors, 2))

    def _blocks(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int, Block]]:
        design, size = self.objective.design, min(size, stop - start)
        # One buffer for all blocks: fresh memory costs a page fault every 4 KiB.
        buffer = design.buffer(size)
        for begin in range(start, stop, size):
            end = min(begin + size, stop)
            yield begin, end, design.block(begin, end, buffer if end - begin == size else None)

    def assemble(self) -> tuple[list[Any], Array, Array, Array]:
        """Return the parts of H, g, mean kappa ⊗ x, and the latter's change per unit of nu."""
        objective, design = self.objective, self.objective.design
        first = objective.first_class

        def share(start: int, stop: int) -> tuple[Any, Array]:
            part = self.form.part()
            sums = design.zeros(3, *objective.shape)
            for begin, end, block in self._blocks(start, stop, part.rows_per_block):
                curvature, kappas = self._eliminated(block, begin, end)
                part.add(curvature, block, begin, end)
                weights = design.weights[begin:end]
                sums[0] += block.adjoint(self.rows.proba[first:, begin:end] * weights)
                sums[1] += block.adjoint(kappas[0, first:] * weights)
                sums[2] += block.adjoint(kappas[1, first:] * weights)
            return part, sums

        parts = self.team.run(share)
        excess, kappa, kappa_center = sum(sums for _, sums in parts)
        excess = excess - objective.uncertainty.tau
        return [part for part, _ in parts], excess, kappa, kappa_center

    def curvature(self, begin: int, end: int) -> Array:
        """Return C_kl (pairs, rows) for k <= l of some rows, weights included."""
        block = self.objective.design.block(begin, end)
        return self._eliminated(block, begin, end)[0]

    def _eliminated(self, block: Block, begin: int, end: int) -> tuple[Array, Array]:
        objective, design = self.objective, self.objective.design
        n_pairs = objective.shape[0] * (objective.shape[0] + 1) // 2
        curvature = design.empty(n_pairs, end - begin)
        kappas = design.empty(2, objective.n_classes, end - begin)
        margins = self._margins(block, begin, end, stages=0)[0]
        self.rows.eliminate(begin, end, margins, objective.first_class, curvature, *kappas)
        curvature *= design.weights[begin:end]
        return curvature, kappas

    def _margins(self, block: Block, start: int, stop: int, stages: int) -> Array:
        """Return the margins, and their steps of each stage (1 + stages, K, rows)."""
        margins = self.objective.with_reference(block.margins(self.coefs[: 1 + stages]))
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
            for begin, end, block in self._blocks(start, stop, design.rows_in_cache):
                kappa = design.empty(objective.n_classes, end - begin)
                self.rows.follow(
                    begin, end, weights, self.stages,
                    self._margins(block, begin, end, self.stages),
                    self.nu, self.reach, lengths, kappa, rates, sums,
                )  # fmt: skip
                if not lengths.any():
                    correction += block.adjoint(kappa[first:] * weights[begin:end])
            return rates, sums, correction

        return self.team.run(share)


class _Newton:
    """The equations of the coefficients and of their multipliers at one point."""

    def __init__(self, point: Coefficients, excess: Array, kappa: Array, half_width: Array) -> None:
        self.point = point
        self.residual_upper = half_width + excess - point.upper
        self.residual_lower = half_width - excess - point.lower
        self.kappa = kappa
        # 1/(W⁺/u + W⁻/v) of products that are near 1 in any units, unlike the ratios.
        products = point.plus * point.lower + point.minus * point.upper
        self.barrier = point.upper * (point.lower / products)
        self.target_plus = -point.plus * point.upper
        self.target_minus = -point.minus * point.lower

    def correct(self, predictor: Coefficients, target: float, kappa: Array) -> None:
        """Add Mehrotra's correction and centre on ``target``."""
        self.target_plus += target - predictor.plus * predictor.upper
        self.target_minus += target - predictor.minus * predictor.lower
        self.kappa = self.kappa + kappa

    def pull(
        self, step: Coefficients, target: float, primal: float, dual: float, kappa: Array
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

    def solve(self, system: System, accuracy: Array, guess: Array | None) -> Coefficients:
        """Return the step of the coefficients and of their multipliers.

        What a solution of the system leaves over is a residual of g: the steps of u and v follow
        that of W exactly.
        """
        plus, minus, upper, lower = self.point
        aim = (self.target_plus - plus * self.residual_upper) / upper
        aim -= (self.target_minus - minus * self.residual_lower) / lower
        step = system.solve(self.barrier * aim - self.kappa, accuracy, guess)
        excess_step = self.barrier * (aim - step)
        upper_step = self.residual_upper + excess_step
        lower_step = self.residual_lower - excess_step
        return Coefficients(
            plus=(self.target_plus - plus * upper_step) / upper,
            minus=(self.target_minus - minus * lower_step) / lower,
            upper=upper_step,
            lower=lower_step,
        )


class Aim(NamedTuple):
    """What a step aims at.

    Attributes
    ----------
    share : float
        The products W⁺u and W⁻v aim at so much of the rows' target.
    n_products : float
        All products, as they count in the gap.
    lowest_nu : float
        The rows' target is not taken below.
    relative_gap : float
    """

    share: float
    n_products: float
    lowest_nu: float
    relative_gap: float


@np.errstate(over="ignore", invalid="ignore")  # a system that is not finite ends it all
def advance(
    sums: RowSums, point: Coefficients, half_width: Array, aim: Aim
) -> tuple[Coefficients, tuple[float, float]]:
    """Take a step, rows and all; return the next point, and the primal and the dual length.

    Raises
    ------
    LinAlgError
        If rounding leaves no step.
    """
    sums.coefs[0] = point.plus - point.minus
    parts, excess, kappa, kappa_center = sums.assemble()
    newton = _Newton(point, excess, kappa, half_width)
    system = sums.form.at(parts, newton.barrier, sums.curvature)
    arrays = namespace(half_width)
    accuracy = arrays.minimum(point.upper, point.lower)
    accuracy = ACCURACY * arrays.maximum(accuracy, min(1.0, aim.relative_gap) * half_width)

    def look(stage: int) -> _Probe:
        predicts = stage == 1
        guess = None if predicts else sums.coefs[stage - 1]
        asked = PREDICTORS_ACCURACY * accuracy if predicts else accuracy
        step = newton.solve(system, asked, guess)
        if not arrays.isfinite(step.plus + step.minus).all():
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
    sums.nu = max((ahead / now) ** sums.rows.ambition * now / aim.n_products, aim.lowest_nu)
    sums.reach[0] = np.minimum(1.0, predictor.lengths(1.0) + REACH)
    target = aim.share * sums.nu
    newton.correct(predictor.step, target, predictor.correction + sums.nu * kappa_center)
    best = look(2)
    for stage in range(3, 3 + sums.rows.correctors):
        primal, dual = sums.reach[stage - 3]
        newton.pull(best.step, target, primal, dual, best.correction)
        sums.reach[stage - 2] = np.minimum(1.0, best.lengths(1.0) + REACH)
        probe = look(stage)
        if probe.lengths(1.0).sum() < best.lengths(1.0).sum():
            sums.stages = stage - 1
            break
        best = probe
    lengths = best.lengths(TO_THE_BOUNDARY)
    sums.advance(lengths)
    primal, dual = map(float, lengths)
    return point.advanced(best.step, primal, dual), (primal, dual)
