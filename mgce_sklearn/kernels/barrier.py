"""Steps of the rows of the interior point method.

`elimination` has the equations of a row, and the step that follows from a step of its margins.
Here such a step is corrected, measured and taken: with all rows together in `follow`, and for every
row by itself in `center`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LOG2E
from mgce_sklearn.kernels.elimination import (
    BOTH,
    DE,
    DP,
    DPSI,
    DS,
    DT,
    DY,
    DZETA,
    LOG_RULE,
    NEXT_EDGE,
    NEXT_SLACK,
    NEXT_SPARE,
    SLACK,
    SUM_KAPPA,
    SUM_RHO,
    U_EDGE,
    U_SLACK,
    U_SPARE,
    C,
    G,
    RowState,
    condense_increment,
    direction,
    eliminate,
    factor,
    lanes_of,
    nearer,
    new_rows,
    scratch_of,
    write_kappa,
)

__all__ = ["RowState", "center", "eliminate", "follow", "nearer", "new_rows"]

Array = np.ndarray[Any, Any]

LN2 = 1.0 / LOG2E
TINY = np.finfo(np.float64).tiny

# The share of the longest step that rows take toward the central path, how near to it they end
# (a share of nu), and the most steps: the method itself removes what is left.
TO_THE_BOUNDARY = 0.95
CENTERED = 0.1
MOST_CENTERINGS = 20

# What the last of these steps has dropped is known to second order only: half of that share.
LAST_DROPPED = 0.5 * CENTERED


@jit
def _second_order(w, state, start, lanes, q):
    """Mehrotra's correction: the products that the linearization dropped."""
    w_slack = w.wide[SLACK]
    w_c, w_next_slack, w_next_edge, w_dt = (
        w.wide[C],
        w.wide[NEXT_SLACK],
        w.wide[NEXT_EDGE],
        w.wide[DT],
    )
    w_ds, w_dp, w_de = w.wide[DS], w.wide[DP], w.wide[DE]
    w_next_spare, w_dy, w_dzeta = w.flat[NEXT_SPARE], w.flat[DY], w.flat[DZETA]
    for i in range(lanes):
        w_next_spare[i] = -w_dy[i] * w_dzeta[i] / state.multiplier[start + i]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            w_next_slack[k, i] = -w_dp[k, i] * w_ds[k, i] / w_slack[k, i]
            w_next_edge[k, i] = -w_de[k, i] * q * w_dt[k, i] / w_c[k, i]


@jit
def pull(product, target):
    """How far to pull a product back into [target/10, 10 target], not beyond -10 target."""
    low = 0.1 * target - product
    high = 10.0 * target - product
    pull = low if low > 0.0 else (high if high < 0.0 else 0.0)
    return pull if pull > -10.0 * target else -10.0 * target


@jit
def _centrality(w, state, start, lanes, q, nu, primal, dual):
    """Gondzio's correction: pull in the products that a longer step would throw far off."""
    w_slack = w.wide[SLACK]
    w_c, w_next_slack, w_next_edge, w_dt = (
        w.wide[C],
        w.wide[NEXT_SLACK],
        w.wide[NEXT_EDGE],
        w.wide[DT],
    )
    w_ds, w_dp, w_de = w.wide[DS], w.wide[DP], w.wide[DE]
    w_next_spare, w_dy, w_dzeta = w.flat[NEXT_SPARE], w.flat[DY], w.flat[DZETA]
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        product = (y + dual * w_dy[i]) * (zeta + primal * w_dzeta[i])
        w_next_spare[i] = pull(product, nu) / y
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            p, s, e = state.proba[k, start + i], w_slack[k, i], state.edge[k, start + i]
            product = (p + dual * w_dp[k, i]) * (s + primal * w_ds[k, i])
            w_next_slack[k, i] = pull(product, nu) / s
            product = (e + dual * w_de[k, i]) * (w_c[k, i] + primal * q * w_dt[k, i])
            w_next_edge[k, i] = pull(product, q * nu) / w_c[k, i]


@jit
def _add_targets(w, state, start, lanes, q, nu):
    """Add the pending corrector, and nu for every product, to the targets."""
    w_slack = w.wide[SLACK]
    w_c, w_u_slack, w_u_edge, w_next_slack = (
        w.wide[C],
        w.wide[U_SLACK],
        w.wide[U_EDGE],
        w.wide[NEXT_SLACK],
    )
    w_next_edge = w.wide[NEXT_EDGE]
    w_u_spare, w_next_spare = w.flat[U_SPARE], w.flat[NEXT_SPARE]
    for i in range(lanes):
        w_u_spare[i] += w_next_spare[i] + nu / state.multiplier[start + i]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            w_u_slack[k, i] += w_next_slack[k, i] + nu / w_slack[k, i]
            w_u_edge[k, i] += w_next_edge[k, i] + q * nu / w_c[k, i]


@jit
def _center_targets(w, state, start, lanes, q, nu):
    """Add nu to the affine targets, for every product."""
    w_slack, w_c = w.wide[SLACK], w.wide[C]
    w_u_slack, w_u_edge, w_u_spare = w.wide[U_SLACK], w.wide[U_EDGE], w.flat[U_SPARE]
    for i in range(lanes):
        w_u_spare[i] += nu / state.multiplier[start + i]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            w_u_slack[k, i] += nu / w_slack[k, i]
            w_u_edge[k, i] += q * nu / w_c[k, i]


@jit
def _staged_direction(w, state, start, lanes, q, stages, margins, offset, nu, reach):
    """Repeat the predictor, the corrector and the centrality correctors up to ``stages``.

    Directions are recomputed in cache from the steps of the margins rather than stored:
    four arrays (K, n) less, for about the same time as writing and reading them.
    """
    factor(w, state, start, lanes, q, margins[0], offset)
    for stage in range(stages):
        if stage == 1:
            _second_order(w, state, start, lanes, q)
        elif stage >= 2:
            _centrality(w, state, start, lanes, q, nu, reach[stage - 2, 0], reach[stage - 2, 1])
        if stage > 0:
            _add_targets(w, state, start, lanes, q, nu if stage == 1 else 0.0)
        direction(w, state, start, lanes, q, margins[1 + stage], offset)


@jit
def _lane_rates(w, state, start, lanes, q, primal, dual):
    """Write 1/(longest primal, dual step that keeps every factor positive) of each row.

    The primal rate also keeps h below e: Newton on an exponential (q near 0) overshoots.
    """
    w_slack, w_log_rule = w.wide[SLACK], w.wide[LOG_RULE]
    w_c, w_dt, w_ds, w_dp = w.wide[C], w.wide[DT], w.wide[DS], w.wide[DP]
    w_de = w.wide[DE]
    w_dy, w_dzeta = w.flat[DY], w.flat[DZETA]
    for i in range(lanes):
        primal[i] = -w_dzeta[i] / state.spare[start + i]
        dual[i] = -w_dy[i] / state.multiplier[start + i]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            j = start + i
            growth = w_dt[k, i] / w_c[k, i]
            rate = -w_ds[k, i] / w_slack[k, i]
            primal[i] = rate if rate > primal[i] else primal[i]
            rate = -q * growth
            primal[i] = rate if rate > primal[i] else primal[i]
            room = 1.0 - LN2 * w_log_rule[k, i]
            rate = growth / (room if room > 0.5 else 0.5)
            primal[i] = rate if rate > primal[i] else primal[i]
            rate = -w_dp[k, i] / state.proba[k, j]
            dual[i] = rate if rate > dual[i] else dual[i]
            rate = -w_de[k, i] / state.edge[k, j]  # 0/0 at q = 0 compares as false
            dual[i] = rate if rate > dual[i] else dual[i]


@jit
def _step_rates(w, state, start, lanes, q, rates):
    """Raise ``rates`` to 1/(longest primal, dual step) of all rows."""
    primal, dual = w.flat[SUM_RHO], w.flat[SUM_KAPPA]  # free after a direction
    _lane_rates(w, state, start, lanes, q, primal, dual)
    for i in range(lanes):
        rates[0] = max(rates[0], primal[i])
        rates[1] = max(rates[1], dual[i])


@jit
def _complementarity(w, state, start, lanes, q, weights, sums):
    """Add the coefficients of the bilinear form (primal step, dual step) -> sum of products.

    The products e c count 1/q times, as they enter the duality gap.
    """
    w_slack = w.wide[SLACK]
    w_c, w_dt, w_ds, w_dp = w.wide[C], w.wide[DT], w.wide[DS], w.wide[DP]
    w_de = w.wide[DE]
    w_sum_rho, w_sum_kappa, w_dy, w_dzeta = (
        w.flat[SUM_RHO],
        w.flat[SUM_KAPPA],
        w.flat[DY],
        w.flat[DZETA],
    )
    w_dpsi, w_both = w.flat[DPSI], w.flat[BOTH]
    now, along_dual, along_primal, both = w_sum_rho, w_sum_kappa, w_dpsi, w_both
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        now[i] = y * zeta
        along_dual[i] = w_dy[i] * zeta
        along_primal[i] = y * w_dzeta[i]
        both[i] = w_dy[i] * w_dzeta[i]
    scale = 1.0 / q if q > 0.0 else 0.0
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            p, s, e = state.proba[k, start + i], w_slack[k, i], state.edge[k, start + i]
            e, de = scale * e, scale * w_de[k, i]
            dc = q * w_dt[k, i]
            now[i] += p * s + e * w_c[k, i]
            along_dual[i] += w_dp[k, i] * s + de * w_c[k, i]
            along_primal[i] += p * w_ds[k, i] + e * dc
            both[i] += w_dp[k, i] * w_ds[k, i] + de * dc
    for i in range(lanes):
        weight = weights[start + i]
        sums[0] += weight * now[i]
        sums[1] += weight * along_primal[i]
        sums[2] += weight * along_dual[i]
        sums[3] += weight * both[i]


@jit
def _move(w, state, start, lanes, q, primal, dual):
    """Take a step, each row its primal and dual length."""
    w_c, w_slack, w_dt, w_ds, w_dp = w.wide[C], w.wide[SLACK], w.wide[DT], w.wide[DS], w.wide[DP]
    w_de = w.wide[DE]
    w_dy, w_dzeta, w_dpsi = w.flat[DY], w.flat[DZETA], w.flat[DPSI]
    for i in range(lanes):
        state.multiplier[start + i] += dual[i] * w_dy[i]
        state.spare[start + i] += primal[i] * w_dzeta[i]
        state.threshold[start + i] += primal[i] * w_dpsi[i]
    scale = 1.0 / q if q > 0.0 else np.inf
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            j = start + i
            slack = w_slack[k, i] + primal[i] * w_ds[k, i]
            above_edge = scale * w_c[k, i] + primal[i] * w_dt[k, i]
            state.distance[k, j] = slack if slack <= above_edge else -above_edge
            state.proba[k, j] += dual[i] * w_dp[k, i]
            state.edge[k, j] += dual[i] * w_de[k, i]


@jit
def _dropped(w, state, start, lanes, q, out):
    """Write the largest of what whole steps of each row have dropped, in units of the products.

    p s, e c/q and y zeta miss their target by the product of two steps, and sum h + zeta = 1
    is missed by half of d²h/dt² dt², which counts y times.
    """
    w_c, w_g, w_dt, w_ds = w.wide[C], w.wide[G], w.wide[DT], w.wide[DS]
    w_dp, w_de = w.wide[DP], w.wide[DE]
    w_dy, w_dzeta, rule = w.flat[DY], w.flat[DZETA], w.flat[SUM_RHO]  # free after a direction
    for i in range(lanes):
        out[i] = abs(w_dy[i] * w_dzeta[i])
        rule[i] = 0.0
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            out[i] = max(out[i], abs(w_dp[k, i] * w_ds[k, i]), abs(w_de[k, i] * w_dt[k, i]))
            rule[i] += 0.5 * (1.0 - q) * w_g[k, i] / w_c[k, i] * w_dt[k, i] ** 2
    for i in range(lanes):
        out[i] = max(out[i], state.multiplier[start + i] * rule[i])


@jit
def center(state, start, stop, q, margins, nu):
    """Put rows on the central path: every product at ``nu``, the margins as they are.

    Every row takes Newton steps of its own lengths until its equations hold within a tenth of nu.
    Where a row ends does not depend on the rows beside it.

    Parameters
    ----------
    state : RowState
        Inside its constraints. Changed in place.
    start, stop : int
    q : float
    margins : ndarray of shape (K, stop - start)
    nu : float
    """
    n_classes = state.proba.shape[0]
    lanes = lanes_of(n_classes)
    scratch = scratch_of(n_classes, lanes)
    still = np.zeros((n_classes, lanes))
    primal, dual, dropped = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    whole, ended = np.empty(lanes, np.bool_), np.empty(lanes, np.bool_)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else scratch_of(n_classes, size)
        ended[:size] = False
        for _ in range(MOST_CENTERINGS):
            factor(w, state, begin, size, q, margins, begin - start)
            _center_targets(w, state, begin, size, q, nu)
            direction(w, state, begin, size, q, still, 0)
            _lane_rates(w, state, begin, size, q, primal, dual)
            for i in range(size):
                whole[i] = max(primal[i], dual[i]) <= TO_THE_BOUNDARY
                primal[i] = 0.0 if ended[i] else min(1.0, TO_THE_BOUNDARY / max(primal[i], TINY))
                dual[i] = 0.0 if ended[i] else min(1.0, TO_THE_BOUNDARY / max(dual[i], TINY))
            _move(w, state, begin, size, q, primal, dual)
            _dropped(w, state, begin, size, q, dropped)
            for i in range(size):
                ended[i] |= whole[i] and dropped[i] <= LAST_DROPPED * nu
            if ended[:size].all():
                break


@jit
def follow(state, start, stop, q, weights, stages, margins, nu, reach, lengths, kappa, rates, sums):
    """Follow a direction: measure how far it goes, or, given step lengths, take the step.

    Parameters
    ----------
    state : RowState
        Changed in place if ``lengths`` is not zero.
    start, stop : int
    q : float
    weights : ndarray of shape (n,)
    stages : int
        1: predictor. 2: corrector. 3 and more: with ``stages - 2`` centrality correctors.
    margins : ndarray of shape (1 + stages or more, K, stop - start)
        The margins, and their steps of each stage.
    nu : float
        Target of the complementarity products (stages > 1).
    reach : ndarray of shape (stages - 1 or more, 2)
        Primal and dual step at which each centrality corrector looks at the products.
    lengths : ndarray of shape (2,)
        Primal and dual step to take. Zero: only measure, and write what follows.
    kappa : ndarray of shape (K, stop - start)
        Written: what the next stage's corrector adds to kappa (its nu left out).
    rates : ndarray of shape (2,)
        Raised to 1/(longest primal, dual step).
    sums : ndarray of shape (4,)
        Increased by the weighted coefficients of 1, primal step, dual step and their
        product in the sum of the complementarity products.
    """
    n_classes = state.proba.shape[0]
    lanes = lanes_of(n_classes)
    scratch = scratch_of(n_classes, lanes)
    primal, dual = np.empty(lanes), np.empty(lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else scratch_of(n_classes, size)
        offset = begin - start
        _staged_direction(w, state, begin, size, q, stages, margins, offset, nu, reach)
        if lengths[0] > 0.0:
            for i in range(size):
                primal[i], dual[i] = lengths[0], lengths[1]
            _move(w, state, begin, size, q, primal, dual)
            continue
        _step_rates(w, state, begin, size, q, rates)
        _complementarity(w, state, begin, size, q, weights, sums)
        if stages == 1:
            _second_order(w, state, begin, size, q)
        else:
            far = reach[stages - 2]
            _centrality(w, state, begin, size, q, nu, far[0], far[1])
        condense_increment(w)
        write_kappa(w, size, kappa, offset)
