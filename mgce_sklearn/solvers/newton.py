"""One step of the interior point method: its direction, how far it goes, and the next point.

Rows are read in passes. Each pass computes the sums over rows that the equations of the
coefficients need. `Rows` has the mathematics of a row, `Form` that of the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, inner, namespace
from mgce_sklearn.design import Block
from mgce_sklearn.interior_rows import Rows
from mgce_sklearn.kernels import triangles
from mgce_sklearn.objective import Objective, margins_of, normalized_columns, with_reference
from mgce_sklearn.parts import Columns, Held, Kept, Part, Term, add, once
from mgce_sklearn.solvers.systems import Form, System

# Steps have this fraction of the longest length that keeps every variable positive.
TO_THE_BOUNDARY = 0.99

# A centrality corrector aims at step lengths that exceed those before it by this number.
REACH = 0.3

# The residual that a solution of the equations may leave, relative to the multipliers, or to the
# half-widths while the gap is wide. The predictor needs less accuracy.
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
        """Return the sum of products: its coefficients of 1, primal, dual, and primal * dual."""
        return np.array(
            [
                inner(self.plus, self.upper) + inner(self.minus, self.lower),
                inner(step.plus, self.upper) + inner(step.minus, self.lower),
                inner(self.plus, step.upper) + inner(self.minus, step.lower),
                inner(step.plus, step.upper) + inner(step.minus, step.lower),
            ]
        )

    def advanced(self, step: Coefficients, primal: float, dual: float) -> Coefficients:
        """Return the point after a step of these lengths."""
        lengths = (primal, primal, dual, dual)
        return Coefficients(
            *(now + a * change for now, change, a in zip(self, step, lengths, strict=True))
        )


class _Probe(NamedTuple):
    """What a pass over the rows finds along a direction."""

    step: Coefficients
    rates: Array  # 1/(longest primal and dual length)
    sums: Array  # complementarity, as a bilinear form of the two lengths
    correction: Array  # for the corrector of the next stage, mean kappa ⊗ x (C, d)

    def lengths(self, fraction: float) -> Array:
        """Return the primal and dual length: that fraction of the longest, and at most 1."""
        return np.minimum(1.0, fraction / np.maximum(self.rates, np.finfo(float).tiny))


class Along(NamedTuple):
    """The point and the directions that a pass over the rows uses.

    Attributes
    ----------
    rows : Held
        Name of the interior points of the rows.
    coefs : ndarray of shape (1 + stages, C, d)
        The coefficients of the point, and their steps of each stage.
    offsets : Kept or None
        Name of the offsets of the margins.
    nu : float
        Target of the products of the rows.
    reach : ndarray of shape (1 + correctors, 2)
        Primal and dual length at which each centrality corrector aims.
    """

    rows: Held
    coefs: Array
    offsets: Kept | None
    nu: float
    reach: Array

    def margins(self, block: Block, part: Part) -> Array:
        """Return the margins, and their steps in each stage (1 + stages, K, rows)."""
        margins = with_reference(block.margins(self.coefs), self.coefs[0])
        if self.offsets is not None:
            margins[0] += self.offsets(part)
        return margins


class RowSums:
    """The part of the method that concerns rows: sums over rows of what `Rows` computes.

    Parameters
    ----------
    objective : Objective
        Its rows are read. `read` can replace it by another one with the same rows.
    form : Form
        How the equations are solved.
    """

    def __init__(self, objective: Objective, form: Form) -> None:
        self.objective, self.form = objective, form
        self.kind = _new_rows(objective.potential, objective.n_classes, 0, objective.parts.like)
        self.rows = objective.parts.held()
        self.stages = 0
        # The coefficients of the point, and their steps of each stage.
        n_stages = 3 + self.kind.correctors
        self.coefs = objective.parts.like.zeros(n_stages, *objective.shape)
        self.nu = 0.0
        self._level: float | None = None  # nu at the point where the rows are
        self.reach = np.ones((1 + self.kind.correctors, 2))
        # If reading costs: the first term of the next pass, and the result of the last pass.
        self._pending: Term | None = None
        self._arrived: Arrival | None = None
        self._may_end = False  # then the next equations may not be needed

    @property
    def p(self) -> Columns:
        """Multipliers (K, n), which converge to the worst case."""
        return partial(_p, self.rows)

    def _along(self, stages: int) -> Along:
        coefs = self.coefs[: 1 + stages]
        return Along(self.rows, coefs, self.objective.offsets, self.nu, self.reach)

    def enter(self, coef: Array, p: Columns | None, near: bool, nu: float | None) -> None:
        """Put the rows inside their constraints; see `Rows.enter`."""
        self.coefs[0], self._level = coef, nu
        self._move(self.entering(coef, p, near, nu))

    def entering(self, coef: Array, p: Columns | None, near: bool, nu: float | None) -> Term:
        """Return the term by which the rows of a part enter.

        With the current coefficients and nu it also restores rows that were lost. They are then on
        the central path, and not exactly where they were, but steps lead to the same optimum.
        """
        objective = self.objective
        new = partial(_new_rows, objective.potential, objective.n_classes)
        return once(partial(_enter, self.rows, new, coef, objective.offsets, p, near, nu))

    def _move(self, term: Term) -> None:
        """Apply a term to the rows at once, or if reading costs, as part of the next pass."""
        self._arrived, self._may_end = None, False
        if self.objective.parts.reading_costs:
            self._pending = term
        else:
            self.objective.parts.over(term)

    def read(self, objective: Objective, form: Form) -> None:
        """Read the rows of another objective, and solve the equations in another form."""
        if objective is not self.objective or form is not self.form:
            self._may_end = objective is not self.objective
            self.objective, self.form, self._arrived = objective, form, None

    def mend(self, form: Form) -> None:
        """Restore rows that were lost, and discard the equations.

        They enter where the other rows are, or will be after the term of the next pass.

        Raises
        ------
        LostRows
            If arrays that the objective stores with the rows were lost too.
        """
        self.form, self._arrived = form, None
        entering = self.entering(1.0 * self.coefs[0], None, True, self._level)
        self.objective.parts.over(partial(_if_lost, self.rows, entering))

    def arrive(self, coef: Array) -> Arrival:
        """Return what is known about a point once the rows have moved to it.

        If reading costs, one pass computes everything that is needed until the next step.
        """
        objective = self.objective
        if not objective.parts.reading_costs:
            return Arrival(coef, objective.value(coef))
        if self._arrived is None:
            self.coefs[0] = coef
            terms = [] if self._pending is None else [self._pending]
            terms += [] if self._may_end else [self._assembly()]
            terms.append(objective.psi_term(coef))
            terms.append(objective.mean_term(partial(normalized_columns, self.p)))
            *others, psi, mean = objective.parts.in_one_pass(*((term, add) for term in terms))
            assembled = None if self._may_end else others[-1]
            self._pending = None
            excess = mean - objective.uncertainty.tau
            value = psi + objective.linear_part(coef)
            self._arrived = Arrival(coef, value, excess, assembled)
        return self._arrived

    def excess(self, coef: Array) -> Array:
        """Return g (C, d), once the rows have moved."""
        if not self.objective.parts.reading_costs:
            return self.objective.excess(self.p)
        return self.arrive(coef).excess

    def assemble(self) -> tuple[Any, Array, Array, Array]:
        """Return the sum for H, g, mean kappa ⊗ x, and the derivative of the latter by nu."""
        assembled = None if self._arrived is None else self._arrived.assembled
        if assembled is None:
            assembled = self.objective.parts.over(self._assembly())
        gathered, sums = assembled
        excess, kappa, kappa_center = sums
        return gathered, excess - self.objective.uncertainty.tau, kappa, kappa_center

    def _assembly(self) -> Term:
        return partial(_assemble, self._along(0), self.form.gather)

    @property
    def curvature(self) -> Columns:
        """C_kl (pairs, rows) for k <= l, weights included."""
        return partial(_curvature, self._along(0))

    def look(self) -> tuple[Array, Array, Array]:
        """Return rates, sums and the next correction along the last direction of ``coefs``."""
        return self.objective.parts.over(self._following(np.zeros(2)), _ahead)

    def advance(self, lengths: Array) -> None:
        """Move the rows by a step of the primal and the dual length."""
        self._level = self.nu
        self._move(once(self._following(lengths)))

    def _following(self, lengths: Array) -> Term:
        along = self._along(self.stages)
        return partial(_follow, along._replace(coefs=1.0 * along.coefs), lengths)


class Arrival(NamedTuple):
    """What is known about a point.

    Attributes
    ----------
    coef : ndarray of shape (C, d)
    value : float
        R(coef).
    excess : ndarray of shape (C, d), or None
        g of the normalized p of the rows, if it was computed in the same pass.
    assembled : tuple or None
        The sums that `RowSums.assemble` needs, if they were computed in the same pass.
    """

    coef: Array
    value: float
    excess: Array | None = None
    assembled: Any = None


def _new_rows(potential: Any, n_classes: int, n_rows: int, design: Any) -> Rows:
    """Return the interior points of ``n_rows`` rows, for a potential with `interior_rows`."""
    return potential.interior_rows(design, n_classes, n_rows)


def _p(rows: Held, part: Part) -> Array:
    return rows(part).proba[:, part.start : part.stop]


def _enter(
    rows: Held,
    new: Any,
    coef: Array,
    offsets: Kept | None,
    p: Columns | None,
    near: bool,
    nu: float | None,
    part: Part,
) -> None:
    own = new(part.n_rows, part.design)
    part.hold(rows, own)
    for block in part.blocks(len(own.proba)):
        known = None if p is None else p(block)
        place = slice(block.start, block.stop)
        own.enter(place, margins_of(block, coef, offsets), known, near, nu)


def _if_lost(rows: Held, term: Term, part: Part) -> None:
    if rows.key not in part.arrays.objects:
        term(part)


def _features(part: Part, size: int) -> Iterator[tuple[Part, Block]]:
    """Yield blocks of rows, and their features."""
    # One buffer for all blocks, since new memory costs a page fault every 4 KiB.
    size = min(size, part.n_rows)
    buffer = part.design.buffer(size)
    for block in part.blocks_of(size):
        yield block, block.design.block(buffer if block.n_rows == size else None)


def _assemble(along: Along, gather: Any, part: Part) -> tuple[Any, Array]:
    gathered, shape = gather(part), along.coefs[0].shape
    sums = part.design.zeros(3, *shape)
    for block, features in _features(part, gathered.rows_per_block):
        p = _p(along.rows, block)
        curvature, kappas = _eliminated(along, features, block)
        gathered.add(curvature, features, block)
        first, weights = len(p) - len(sums[0]), block.design.weights
        sums[0] += features.adjoint(p[first:] * weights)
        sums[1] += features.adjoint(kappas[0, first:] * weights)
        sums[2] += features.adjoint(kappas[1, first:] * weights)
    return gathered, sums


def _curvature(along: Along, part: Part) -> Array:
    return _eliminated(along, part.design.block(), part)[0]


def _eliminated(along: Along, features: Block, block: Part) -> tuple[Array, Array]:
    design, rows, n_coef = block.design, along.rows(block), len(along.coefs[0])
    n_classes = len(rows.proba)
    curvature = design.empty(triangles.n_pairs(n_coef), block.n_rows)
    kappas = design.empty(2, n_classes, block.n_rows)
    margins = along.margins(features, block)[0]
    rows.eliminate(block.start, block.stop, margins, n_classes - n_coef, curvature, *kappas)
    curvature *= design.weights
    return curvature, kappas


def _follow(along: Along, lengths: Array, part: Part) -> tuple[Array, Array, Array]:
    rates, sums, design = np.zeros(2), np.zeros(4), part.design
    correction = design.zeros(*along.coefs[0].shape)
    rows = along.rows(part)
    first = len(rows.proba) - len(correction)
    for block, features in _features(part, design.rows_in_cache):
        kappa = design.empty(len(rows.proba), block.n_rows)
        rows.follow(
            block.start, block.stop, design.weights, len(along.coefs) - 1,
            along.margins(features, block),
            along.nu, along.reach, lengths, kappa, rates, sums,
        )  # fmt: skip
        if not lengths.any():
            correction += features.adjoint(kappa[first:] * block.design.weights)
    return rates, sums, correction


def _ahead(one: tuple[Array, Array, Array], other: tuple[Array, Array, Array]) -> Any:
    """Combine the results of two parts: the larger rates, and the sums of the others."""
    return np.maximum(one[0], other[0]), one[1] + other[1], one[2] + other[2]


class _Newton:
    """The equations of the coefficients and of their multipliers at one point."""

    def __init__(self, point: Coefficients, excess: Array, kappa: Array, half_width: Array) -> None:
        self.point = point
        self.residual_upper = half_width + excess - point.upper
        self.residual_lower = half_width - excess - point.lower
        self.kappa = kappa
        # 1/(W⁺/u + W⁻/v), computed from products, which are near 1 in any units, unlike the ratios.
        products = point.plus * point.lower + point.minus * point.upper
        self.barrier = point.upper * (point.lower / products)
        self.target_plus = -point.plus * point.upper
        self.target_minus = -point.minus * point.lower

    def correct(self, predictor: Coefficients, target: float, kappa: Array) -> None:
        """Add Mehrotra's correction, and set the target of the products."""
        self.target_plus += target - predictor.plus * predictor.upper
        self.target_minus += target - predictor.minus * predictor.lower
        self.kappa = self.kappa + kappa

    def pull(
        self, step: Coefficients, target: float, primal: float, dual: float, kappa: Array
    ) -> None:
        """Add Gondzio's correction for the given lengths of the step."""
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

        The residual of the system becomes one of g. The steps of u and v are computed from that of
        W exactly.
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
    """The targets of a step.

    Attributes
    ----------
    relative_target : float
        Target of the products W⁺u and W⁻v, divided by that of the rows.
    n_products : float
        Number of all products, each weighted as it counts in the gap.
    lowest_nu : float
        Smallest target of the rows.
    relative_gap : float
        The current one.
    """

    relative_target: float
    n_products: float
    lowest_nu: float
    relative_gap: float


@np.errstate(over="ignore", invalid="ignore")  # a system that is not finite raises below
def advance(
    sums: RowSums, point: Coefficients, half_width: Array, aim: Aim
) -> tuple[Coefficients, tuple[float, float]]:
    """Take a step of coefficients and rows. Return the next point, and the two lengths.

    Raises
    ------
    LinAlgError
        If rounding prevents a step.
    """
    sums.coefs[0] = point.plus - point.minus
    gathered, excess, kappa, kappa_center = sums.assemble()
    newton = _Newton(point, excess, kappa, half_width)
    system = sums.form.at(gathered, newton.barrier, sums.curvature)
    arrays = namespace(half_width)
    accuracy = arrays.minimum(point.upper, point.lower)
    accuracy = ACCURACY * arrays.maximum(accuracy, min(1.0, aim.relative_gap) * half_width)

    def look(stage: int) -> _Probe:
        predicts = stage == 1
        guess = None if predicts else sums.coefs[stage - 1]
        needed = PREDICTORS_ACCURACY * accuracy if predicts else accuracy
        step = newton.solve(system, needed, guess)
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
    sums.nu = max((ahead / now) ** sums.kind.ambition * now / aim.n_products, aim.lowest_nu)
    sums.reach[0] = np.minimum(1.0, predictor.lengths(1.0) + REACH)
    target = aim.relative_target * sums.nu
    newton.correct(predictor.step, target, predictor.correction + sums.nu * kappa_center)
    best = look(2)
    for stage in range(3, 3 + sums.kind.correctors):
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
