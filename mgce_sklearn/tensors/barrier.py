"""Row elimination for the interior point method, on tensors.

`kernels.elimination` derives the equations, and has the same symbols. Where it loops over rows, the
code here has one operation on a block of rows (K, n).
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
    slack, c, p, edge : Tensor of shape (K, n)
        s_k, c_k, and their multipliers p_k and e_k.
    multiplier, spare : Tensor of shape (n,)
        y and zeta, of the constraint on the sum of h.
    log_rule : Tensor of shape (K, n)
        ln h.
    """

    slack: Tensor
    c: Tensor
    p: Tensor
    edge: Tensor
    multiplier: Tensor
    spare: Tensor
    log_rule: Tensor


class Targets(NamedTuple):
    """The values that complementarity products aim at, each divided by its factor s, c or y."""

    slack: Tensor
    edge: Tensor
    spare: Tensor

    def plus(self, other: Targets) -> Targets:
        """Return the sum of both."""
        return Targets(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, factor: float) -> Targets:
        """Return ``factor`` times these targets."""
        return Targets(*(factor * a for a in self))


class Direction(NamedTuple):
    """A step of the variables of rows."""

    t: Tensor
    slack: Tensor
    p: Tensor
    edge: Tensor
    multiplier: Tensor
    spare: Tensor
    threshold: Tensor


class Elimination:
    """The linear equations of some rows at their current point.

    Parameters
    ----------
    point : Point
        The interior point of the rows.
    q : float
        Loss parameter in [0, 1].
    """

    def __init__(self, point: Point, q: float) -> None:
        self.point, self.q = point, q
        y = point.multiplier
        self.g = torch.exp((1.0 - q) * point.log_rule)
        self.ratio = point.p / point.slack
        self.rest = (y * (1.0 - q) * self.g + q * point.edge) / point.c
        self.inverse = 1.0 / (self.rest + self.ratio)
        self.beta = self.ratio * self.g * self.inverse
        self.delta = self.ratio * self.rest * self.inverse
        self.E = point.spare / y + torch.sum(self.g**2 * self.inverse, dim=0)
        self.S, self.T = self.beta.sum(dim=0), self.delta.sum(dim=0)
        self.Q = self.E * self.T + self.S**2
        self.residual_p = 1.0 - point.p.sum(dim=0)
        self.residual_rule_sum = 1.0 - point.spare - torch.sum(point.c * self.g, dim=0)
        self.residual_rule = point.p + point.edge - y * self.g
        # The affine targets, nu = 0.
        self.affine = Targets(-point.p, -point.edge, -point.spare)

    def curvature(self, first: int) -> Tensor:
        """Return C_kl (pairs, n) for first <= k <= l, the upper triangle row by row."""
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
        """Return kappa (K, n) for targets. With ``residual=0`` residuals are left out."""
        kappa, sum_rho, sum_kappa = self._condense(targets, residual)
        shared = self.beta * (sum_rho * self.T - self.S * sum_kappa)
        shared -= self.delta * (self.E * sum_kappa + self.S * sum_rho)
        return kappa + shared / self.Q

    def _condense(self, targets: Targets, residual: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return kappa before dy and dpsi of the row are eliminated, sum g rho/a, and sum kappa."""
        target = targets.edge + residual * self.residual_rule
        sum_rho = targets.spare - residual * self.residual_rule_sum
        sum_rho = sum_rho + torch.sum(self.g * (targets.slack + target) * self.inverse, dim=0)
        kappa = (targets.slack * self.rest - self.ratio * target) * self.inverse
        return kappa, sum_rho, kappa.sum(dim=0) - residual * self.residual_p

    def direction(self, targets: Targets, margin_step: Tensor) -> Direction:
        """Return the step of the rows that belongs to a step (K, n) of their margins."""
        point = self.point
        _, sum_rho, sum_kappa = self._condense(targets, 1.0)
        sum_kappa = sum_kappa + torch.sum(self.delta * margin_step, dim=0)
        sum_rho = sum_rho + torch.sum(self.beta * margin_step, dim=0)
        threshold = (self.E * sum_kappa + self.S * sum_rho) / self.Q
        multiplier = (self.T * sum_rho - self.S * sum_kappa) / self.Q
        spare = targets.spare - point.spare * multiplier / point.multiplier
        shift = margin_step - threshold
        rho = targets.slack + targets.edge + self.residual_rule - self.g * multiplier
        # The step of s is that of t minus shift. This formula avoids the cancellation.
        t = (self.ratio * shift + rho) * self.inverse
        slack = (rho - self.rest * shift) * self.inverse
        p = targets.slack - self.ratio * slack
        edge = targets.edge - self.q * point.edge * t / point.c
        return Direction(t, slack, p, edge, multiplier, spare, threshold)

    def second_order(self, step: Direction) -> Targets:
        """Return Mehrotra's correction: the second-order products that linearization drops."""
        point = self.point
        return Targets(
            -step.p * step.slack / point.slack,
            -step.edge * self.q * step.t / point.c,
            -step.multiplier * step.spare / point.multiplier,
        )

    def centrality(self, step: Direction, nu: float, primal: float, dual: float) -> Targets:
        """Return Gondzio's correction, of products that a longer step would move far from nu."""
        point, q = self.point, self.q
        slack = (point.p + dual * step.p) * (point.slack + primal * step.slack)
        edge = (point.edge + dual * step.edge) * (point.c + primal * q * step.t)
        spare = (point.multiplier + dual * step.multiplier) * (point.spare + primal * step.spare)
        return Targets(
            _pull(slack, nu) / point.slack,
            _pull(edge, q * nu) / point.c,
            _pull(spare, nu) / point.multiplier,
        )

    def row_rates(self, step: Direction) -> Tensor:
        """Return 1/(longest primal, dual step that keeps every factor positive) (2, n).

        The primal rate also keeps h below e, because for an exponential (q near 0) Newton's method
        overshoots.
        """
        point = self.point
        growth = step.t / point.c
        room = (1.0 - point.log_rule).clip(min=0.5)
        primal = [-step.slack / point.slack, -self.q * growth, growth / room]
        dual = [-step.p / point.p]
        if self.q > 0.0:
            dual.append(-step.edge / point.edge)
        primal_rate = torch.cat([*primal, -(step.spare / point.spare)[None]]).amax(dim=0)
        dual_rate = torch.cat([*dual, -(step.multiplier / point.multiplier)[None]]).amax(dim=0)
        return torch.stack([primal_rate, dual_rate])

    def rates(self, step: Direction) -> tuple[float, float]:
        """Return the largest primal and dual rate of `row_rates`."""
        largest = self.row_rates(step).amax(dim=1).tolist()
        return largest[0], largest[1]

    def dropped(self, step: Direction) -> Tensor:
        """Return the largest term (n,) that a full step of a row drops, in units of products."""
        curved = 0.5 * (1.0 - self.q) * self.g / self.point.c * step.t**2
        parts = (
            step.p * step.slack,
            step.edge * step.t,
            step.multiplier * step.spare,
            (self.point.multiplier + step.multiplier) * curved.sum(dim=0),
        )
        return torch.cat([abs(part).reshape(-1, len(step.spare)) for part in parts]).amax(dim=0)

    def complementarity(self, step: Direction, weights: Tensor) -> Tensor:
        """Return coefficients (4,) of the sum of products, as a function of the step lengths.

        They multiply 1, the primal length, the dual length, and the product of both. Products e c
        count 1/q times, as in the duality gap.
        """
        point = self.point
        scale = 1.0 / self.q if self.q > 0.0 else 0.0
        pairs = (
            (point.p, step.p, point.slack, step.slack),
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
    """Return the changes that bring products into [target/10, 10 target], at least -10 target."""
    pulled = product.clip(0.1 * target, 10.0 * target) - product
    return pulled.clip(min=-10.0 * target)


class TensorBarrier:
    """The functions of `kernels.barrier` that the interior point method calls, for tensors.

    Parameters
    ----------
    device : torch.device
        Device of the rows.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def new_rows(self, n_classes: int, n_rows: int) -> RowState:
        """Return an uninitialized state of ``n_rows`` rows."""
        shapes = [(n_classes, n_rows)] * 3 + [(n_rows,)] * 3
        return RowState(
            *(torch.empty(shape, dtype=torch.float64, device=self.device) for shape in shapes)
        )

    def center(
        self, state: RowState, start: int, stop: int, q: float, margins: Tensor, nu: float
    ) -> None:
        """Move rows to the central path, where every product is ``nu``. Margins do not change."""
        part, no_step = slice(start, stop), torch.zeros_like(margins)
        ended = torch.zeros_like(margins[0], dtype=torch.bool)
        for _ in range(MOST_CENTERINGS):
            rows = Elimination(_point(state, part, margins, q), q)
            step = rows.direction(rows.affine.plus(rows.unit_targets().times(nu)), no_step)
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
        """Eliminate some rows at their current point; write C and both kappas."""
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
        """Compute the step of rows along a direction, and take it if step lengths are given.

        If they are not, write how long the step may be (``rates``) and the products along it
        (``sums``). Both are ndarrays: six numbers, by which the host chooses the step lengths.
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
    """Return the point of some rows. s and c are computed from the stored distances."""
    distance, below = state.distance[:, rows], margins - state.threshold[rows]
    z = 1.0 + q * below
    near = abs(distance)
    # Clipped, so that rounding of z does not change which bound is the nearer one.
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
    """Take the step, with one length for all rows or one for each."""
    slack = point.slack + primal * step.slack
    if q > 0.0:
        above_edge = point.c / q + primal * step.t
        slack = torch.where(slack <= above_edge, slack, -above_edge)
    state.distance[:, rows] = slack
    state.proba[:, rows] += dual * step.p
    state.edge[:, rows] += dual * step.edge
    state.multiplier[rows] += dual * step.multiplier
    state.spare[rows] += primal * step.spare
    state.threshold[rows] += primal * step.threshold
