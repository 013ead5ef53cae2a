"""Row elimination for the interior point method, on tensors: `kernels.barrier` once more.

The equations and the names are those of `kernels.elimination`, where they are derived. What is a
loop over rows there is one operation on a block of rows (K, rows) here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mgce_sklearn.kernels import triangles
from mgce_sklearn.kernels.barrier import (
    LAST_DROPPED,
    MOST_CENTERINGS,
    TINY,
    TO_THE_BOUNDARY,
)
from mgce_sklearn.kernels.elimination import LEAST_Q_OF_LOGARITHMS, RowState

Array = np.ndarray[Any, Any]


class Point(NamedTuple):
    """The interior point of some rows.

    Attributes
    ----------
    slack, c, proba, edge : Tensor of shape (K, n)
        s_k, c_k, and their multipliers p_k and e_k.
    multiplier, spare : Tensor of shape (n,)
        y and zeta, of the constraint on the sum of h.
    log_rule : Tensor of shape (K, n)
        ln h.
    """

    slack: Tensor
    c: Tensor
    proba: Tensor
    edge: Tensor
    multiplier: Tensor
    spare: Tensor
    log_rule: Tensor


class Targets(NamedTuple):
    """What the products are to become, each over its factor s, c or y."""

    slack: Tensor
    edge: Tensor
    spare: Tensor

    def plus(self, other: Targets) -> Targets:
        """Return the sum."""
        return Targets(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> Targets:
        """Return a multiple."""
        return Targets(*(factor * a for a in self))


class Direction(NamedTuple):
    """A step of the rows' variables."""

    t: Tensor
    slack: Tensor
    proba: Tensor
    edge: Tensor
    multiplier: Tensor
    spare: Tensor
    threshold: Tensor


class Elimination:
    """The linear equations of some rows at their present point.

    Parameters
    ----------
    point : Point
    q : float
    """

    def __init__(self, point: Point, q: float) -> None:
        self.point, self.q = point, q
        y = point.multiplier
        self.g = torch.exp((1.0 - q) * point.log_rule)
        self.ratio = point.proba / point.slack
        self.rest = (y * (1.0 - q) * self.g + q * point.edge) / point.c
        self.inverse = 1.0 / (self.rest + self.ratio)
        self.beta = self.ratio * self.g * self.inverse
        self.delta = self.ratio * self.rest * self.inverse
        self.E = point.spare / y + torch.sum(self.g**2 * self.inverse, dim=0)
        self.S, self.T = self.beta.sum(dim=0), self.delta.sum(dim=0)
        self.Q = self.E * self.T + self.S**2
        self.residual_proba = 1.0 - point.proba.sum(dim=0)
        self.residual_rule_sum = 1.0 - point.spare - torch.sum(point.c * self.g, dim=0)
        self.residual_rule = point.proba + point.edge - y * self.g
        # The affine targets, nu = 0.
        self.affine = Targets(-point.proba, -point.edge, -point.spare)

    def curvature(self, first: int) -> Tensor:
        """Return C_kl (pairs, n) for first <= k <= l, row by row of the upper triangle."""
        k, other = (index + first for index in triangles.pairs(len(self.beta) - first))
        beta_k, delta_k, beta_l, delta_l = (
            array[index] for index in (k, other) for array in (self.beta, self.delta)
        )
        cross = beta_k * beta_l * (self.T - delta_k - delta_l)
        cross -= delta_k * beta_l * (self.S - beta_k) + delta_l * beta_k * (self.S - beta_l)
        cross -= self.E * delta_k * delta_l
        others, without = self.T - self.delta, self.S - self.beta
        diagonal = self.delta * (self.E * others + without**2) + self.beta**2 * others
        cross[k == other] = diagonal[first:]
        return cross / self.Q

    def unit_targets(self) -> Targets:
        """Return what one unit of nu adds to the targets."""
        point = self.point
        return Targets(1.0 / point.slack, self.q / point.c, 1.0 / point.multiplier)

    def kappa(self, targets: Targets, residual: float) -> Tensor:
        """Return kappa (K, n) for targets, with the residuals or (``residual=0``) without."""
        kappa, sum_rho, sum_kappa = self._condense(targets, residual)
        shared = self.beta * (sum_rho * self.T - self.S * sum_kappa)
        shared -= self.delta * (self.E * sum_kappa + self.S * sum_rho)
        return kappa + shared / self.Q

    def _condense(self, targets: Targets, residual: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return kappa before the row's own dy and dpsi, sum g rho/a, and sum kappa."""
        target = targets.edge + residual * self.residual_rule
        sum_rho = targets.spare - residual * self.residual_rule_sum
        sum_rho = sum_rho + torch.sum(self.g * (targets.slack + target) * self.inverse, dim=0)
        kappa = (targets.slack * self.rest - self.ratio * target) * self.inverse
        return kappa, sum_rho, kappa.sum(dim=0) - residual * self.residual_proba

    def direction(self, targets: Targets, margin_step: Tensor) -> Direction:
        """Return the step of the rows that goes with a step (K, n) of their margins."""
        point = self.point
        _, sum_rho, sum_kappa = self._condense(targets, 1.0)
        sum_kappa = sum_kappa + torch.sum(self.delta * margin_step, dim=0)
        sum_rho = sum_rho + torch.sum(self.beta * margin_step, dim=0)
        threshold = (self.E * sum_kappa + self.S * sum_rho) / self.Q
        multiplier = (self.T * sum_rho - self.S * sum_kappa) / self.Q
        spare = targets.spare - point.spare * multiplier / point.multiplier
        shift = margin_step - threshold
        rho = targets.slack + targets.edge + self.residual_rule - self.g * multiplier
        # The step of s is that of t less shift, without the cancellation.
        t = (self.ratio * shift + rho) * self.inverse
        slack = (rho - self.rest * shift) * self.inverse
        proba = targets.slack - self.ratio * slack
        edge = targets.edge - self.q * point.edge * t / point.c
        return Direction(t, slack, proba, edge, multiplier, spare, threshold)

    def second_order(self, step: Direction) -> Targets:
        """Return Mehrotra's correction: the products that the linearization dropped."""
        point = self.point
        return Targets(
            -step.proba * step.slack / point.slack,
            -step.edge * self.q * step.t / point.c,
            -step.multiplier * step.spare / point.multiplier,
        )

    def centrality(self, step: Direction, nu: float, primal: float, dual: float) -> Targets:
        """Return Gondzio's correction of the products that a longer step would throw far off."""
        point, q = self.point, self.q
        slack = (point.proba + dual * step.proba) * (point.slack + primal * step.slack)
        edge = (point.edge + dual * step.edge) * (point.c + primal * q * step.t)
        spare = (point.multiplier + dual * step.multiplier) * (point.spare + primal * step.spare)
        return Targets(
            _pull(slack, nu) / point.slack,
            _pull(edge, q * nu) / point.c,
            _pull(spare, nu) / point.multiplier,
        )

    def row_rates(self, step: Direction) -> Tensor:
        """Return 1/(longest primal, dual step that keeps every factor positive) (2, n).

        The primal rate also keeps h below e: Newton on an exponential (q near 0) overshoots.
        """
        point = self.point
        growth = step.t / point.c
        room = (1.0 - point.log_rule).clip(min=0.5)
        primal = [-step.slack / point.slack, -self.q * growth, growth / room]
        dual = [-step.proba / point.proba]
        if self.q > 0.0:
            dual.append(-step.edge / point.edge)
        primal_rate = torch.cat([*primal, -(step.spare / point.spare)[None]]).amax(dim=0)
        dual_rate = torch.cat([*dual, -(step.multiplier / point.multiplier)[None]]).amax(dim=0)
        return torch.stack([primal_rate, dual_rate])

    def rates(self, step: Direction) -> tuple[float, float]:
        """Return the largest of `row_rates`."""
        largest = self.row_rates(step).amax(dim=1).tolist()
        return largest[0], largest[1]

    def dropped(self, step: Direction) -> Tensor:
        """Return the largest of what whole steps of a row drop (n,), in units of the products."""
        curved = 0.5 * (1.0 - self.q) * self.g / self.point.c * step.t**2
        parts = (
            step.proba * step.slack,
            step.edge * step.t,
            step.multiplier * step.spare,
            (self.point.multiplier + step.multiplier) * curved.sum(dim=0),
        )
        return torch.cat([abs(part).reshape(-1, len(step.spare)) for part in parts]).amax(dim=0)

    def complementarity(self, step: Direction, weights: Tensor) -> Tensor:
        """Return the sum of products as coefficients (4,) of 1, primal, dual step and both.

        The products e c count 1/q times, as they enter the duality gap.
        """
        point = self.point
        scale = 1.0 / self.q if self.q > 0.0 else 0.0
        pairs = (
            (point.proba, step.proba, point.slack, step.slack),
            (scale * point.edge, scale * step.edge, point.c, self.q * step.t),
            (point.multiplier, step.multiplier, point.spare, step.spare),
        )
        sums: Any = 0.0
        for dual, dual_step, primal, primal_step in pairs:
            products = torch.stack(
                [dual * primal, dual * primal_step, dual_step * primal, dual_step * primal_step]
            )
            sums = sums + (products @ weights).reshape(4, -1).sum(dim=1)
        return sums


def _pull(product: Tensor, target: float) -> Tensor:
    """Return how far to pull products back into [target/10, 10 target], not beyond -10 target."""
    pulled = product.clip(0.1 * target, 10.0 * target) - product
    return pulled.clip(min=-10.0 * target)


class TensorBarrier:
    """What the interior point method calls of `kernels.barrier`, for rows in tensors.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def new_rows(self, n_classes: int, n_rows: int) -> RowState:
        """Return a state of so many rows, with nothing in it yet."""
        shapes = [(n_classes, n_rows)] * 3 + [(n_rows,)] * 3
        return RowState(
            *(torch.empty(shape, dtype=torch.float64, device=self.device) for shape in shapes)
        )

    def center(
        self, state: RowState, start: int, stop: int, q: float, margins: Tensor, nu: float
    ) -> None:
        """Put some rows on the central path: every product at ``nu``, the margins as they are."""
        part, still = slice(start, stop), torch.zeros_like(margins)
        ended = torch.zeros_like(margins[0], dtype=torch.bool)
        for _ in range(MOST_CENTERINGS):
            rows = Elimination(_point(state, part, margins, q), q)
            step = rows.direction(rows.affine.plus(rows.unit_targets().times(nu)), still)
            rates = rows.row_rates(step)
            lengths = (TO_THE_BOUNDARY / rates.clip(min=TINY)).clip(max=1.0)
            _move(state, part, rows.point, step, q, *torch.where(ended, 0.0, lengths))
            whole = rates.amax(dim=0) <= TO_THE_BOUNDARY
            ended |= whole & (rows.dropped(step) <= LAST_DROPPED * nu)
            if bool(ended.all()):
                break

    def eliminate(
        self,
        state: RowState,
        start: int,
        stop: int,
        q: float,
        margins: Tensor,
        first: int,
        curvature: Tensor,
        kappa: Tensor,
        kappa_center: Tensor,
    ) -> None:
        """Eliminate some rows at the present point."""
        rows = Elimination(_point(state, slice(start, stop), margins, q), q)
        curvature[:] = rows.curvature(first)
        kappa[:] = rows.kappa(rows.affine, residual=1.0)
        kappa_center[:] = rows.kappa(rows.unit_targets(), residual=0.0)

    def follow(
        self,
        state: RowState,
        start: int,
        stop: int,
        q: float,
        weights: Tensor,
        stages: int,
        margins: Tensor,
        nu: float,
        reach: Array,
        lengths: Array,
        kappa: Tensor,
        rates: Array,
        sums: Array,
    ) -> None:
        """Follow a direction: look how far it goes, or, given step lengths, take the step.

        Of what is written, ``rates`` and ``sums`` are ndarrays: six numbers that steer the method.
        """
        part = slice(start, stop)
        rows = Elimination(_point(state, part, margins[0], q), q)
        targets = rows.affine
        step = rows.direction(targets, margins[1])
        for stage in range(1, stages):
            if stage == 1:
                targets = targets.plus(rows.unit_targets().times(nu)).plus(rows.second_order(step))
            else:
                targets = targets.plus(rows.centrality(step, nu, *map(float, reach[stage - 2])))
            step = rows.direction(targets, margins[1 + stage])
        if lengths[0] > 0.0:
            _move(state, part, rows.point, step, q, *map(float, lengths))
            return
        np.maximum(rates, rows.rates(step), out=rates)
        sums += rows.complementarity(step, weights[part]).cpu().numpy()
        if stages == 1:
            following = rows.second_order(step)
        else:
            following = rows.centrality(step, nu, *map(float, reach[stages - 2]))
        kappa[:] = rows.kappa(following, residual=0.0)


def _point(state: RowState, rows: slice, margins: Tensor, q: float) -> Point:
    """Return the point of some rows, with s and c of their distances."""
    distance, below = state.distance[:, rows], margins - state.threshold[rows]
    z = 1.0 + q * below
    near = abs(distance)
    # Rounding of z must not make the nearer bound the other one.
    c = q * near + torch.where(distance > 0.0, z.clip(min=0.0), 0.0)
    slack = near + torch.where(distance < 0.0, (-z).clip(min=0.0), 0.0) / (q if q > 0.0 else 1.0)
    if q >= LEAST_Q_OF_LOGARITHMS:
        log_rule = torch.log(c) / q
    else:
        t = below + slack
        log_rule = torch.log1p(q * t) / q if q > 0.0 else t
    return Point(
        slack, c, state.proba[:, rows], state.edge[:, rows],
        state.multiplier[rows], state.spare[rows], log_rule,
    )  # fmt: skip


def _move(
    state: RowState,
    rows: slice,
    point: Point,
    step: Direction,
    q: float,
    primal: float | Tensor,
    dual: float | Tensor,
) -> None:
    """Take the step, of one length or of one a row."""
    slack = point.slack + primal * step.slack
    if q > 0.0:
        above_edge = point.c / q + primal * step.t
        slack = torch.where(slack <= above_edge, slack, -above_edge)
    state.distance[:, rows] = slack
    state.proba[:, rows] += dual * step.proba
    state.edge[:, rows] += dual * step.edge
    state.multiplier[rows] += dual * step.multiplier
    state.spare[rows] += primal * step.spare
    state.threshold[rows] += primal * step.threshold
