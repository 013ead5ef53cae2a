"""Row elimination for the interior point method.

The threshold psi(m) of one row is itself a small convex program,

    minimise psi  over psi and t   subject to  t_k >= m_k - psi,  1 + q t_k >= 0,
                                               sum_k h(t_k) <= 1,

with h(t) = (1 + q t)^{1/q} (e^t at q = 0): the t_k are the q-logarithms of a rule h that
majorises the thresholded margins. With slacks s_k = t_k - m_k + psi, c_k = 1 + q t_k and
zeta = 1 - sum h, and with multipliers p_k, e_k and y of the three constraints, the points
at which every complementarity product has the value nu satisfy

    y g_k = p_k + e_k,    sum p = 1,    sum h + zeta = 1,
    p_k s_k = nu,         e_k c_k = q nu,         y zeta = nu,

where g = dh/dt = h^{1-q} and dg/dt = (1-q) g/c. At q = 0 the constraint on c is void
(c = 1, e = 0), at q = 1 the program is linear (g = 1): nothing below tells them apart.

A Newton step for these equations and a change dm of the margins can be eliminated row by
row. With b = (y (1-q) g + q e)/c, a = b + p/s, beta = (p/s) g/a, delta = (p/s) b/a and
E = sum g²/a + zeta/y,

    dp = C dm + kappa,    C = B - B 1 1ᵀ B / (1ᵀ B 1),    B = diag(delta) + beta betaᵀ/E,

where C is positive semidefinite, C 1 = 0, and kappa carries the residuals. This is all
that the equations of the coefficients need to know of a row.

Near the optimum E tends to 0 and the two parts of C, each as large as 1/E, cancel. So every
formula below is the result of cancelling them on paper: with S = sum beta, T = sum delta
and Q = E T + S², no 1/E is left, and for example

    Q C_kk = E delta_k (T - delta_k) + delta_k (S - beta_k)² + beta_k² (T - delta_k).

The arrays are class-major, (K, n): rows lie side by side, and every loop runs over rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LOG2E, exp2, log2_1p

Array = np.ndarray[Any, Any]

LN2 = 1.0 / LOG2E


class RowState(NamedTuple):
    """The interior point of every row.

    Attributes
    ----------
    log_rule : ndarray of shape (K, n)
        log2 h_k. Kept instead of c = h^q, it loses no digits where h is tiny or q is.
    slack, proba, edge : ndarray of shape (K, n)
        s, its multiplier p, and e, the multiplier of c >= 0.
    multiplier, spare : ndarray of shape (n,)
        y and zeta, of the constraint on the sum of h.
    """

    log_rule: Array
    slack: Array
    proba: Array
    edge: Array
    multiplier: Array
    spare: Array


class _Scratch(NamedTuple):
    """What one group of rows (lanes) needs: arrays (K, lanes), then arrays (lanes,)."""

    c: Array
    g: Array
    ratio: Array  # p/s
    rest: Array  # b: what of a is not p/s
    inverse: Array  # 1/a
    beta: Array
    delta: Array
    r_rule: Array  # residual of y g = p + e
    u_slack: Array  # residual of p s = nu, over s
    u_edge: Array  # residual of e c = q nu, over c
    w_slack: Array  # what the next corrector adds to u_slack
    w_edge: Array
    kappa: Array
    dt: Array
    ds: Array
    dp: Array
    de: Array
    E: Array
    S: Array
    T: Array
    Q: Array
    r_proba: Array  # residual of sum p = 1
    r_rule_sum: Array  # residual of sum h + zeta = 1
    u_spare: Array  # residual of y zeta = nu, over y
    w_spare: Array
    sum_rho: Array  # of beta's equation: sum g rho/a, with the residuals
    sum_kappa: Array  # sum of kappa, less the residual of sum p
    dy: Array
    dzeta: Array
    dpsi: Array
    total: Array


@jit
def _scratch(n_classes, lanes):
    wide = np.empty((17, n_classes, lanes))
    flat = np.empty((14, lanes))
    return _Scratch(
        wide[0], wide[1], wide[2], wide[3], wide[4], wide[5], wide[6], wide[7],
        wide[8], wide[9], wide[10], wide[11], wide[12], wide[13], wide[14], wide[15],
        wide[16], flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], flat[6], flat[7],
        flat[8], flat[9], flat[10], flat[11], flat[12], flat[13],
    )  # fmt: skip


@jit
def _lanes(n_classes):
    """Rows treated together: enough for full vectors, few enough for the cache."""
    return min(256, max(8, 4096 // n_classes))


@jit
def _factor(w, state, start, lanes, q):
    """Fill in the elimination's coefficients, the residuals, and the affine targets nu = 0."""
    y, zeta = state.multiplier, state.spare
    for i in range(lanes):
        w.E[i] = zeta[start + i] / y[start + i]
        w.S[i] = 0.0
        w.T[i] = 0.0
        w.r_proba[i] = 1.0
        w.r_rule_sum[i] = 1.0 - zeta[start + i]
        w.u_spare[i] = -zeta[start + i]
    for k in range(state.proba.shape[0]):
        for i in range(lanes):
            j = start + i
            p, s, e = state.proba[k, j], state.slack[k, j], state.edge[k, j]
            c = exp2(q * state.log_rule[k, j])
            g = exp2((1.0 - q) * state.log_rule[k, j])
            ratio = p / s
            rest = (y[j] * (1.0 - q) * g + q * e) / c
            inverse = 1.0 / (rest + ratio)
            w.c[k, i], w.g[k, i], w.ratio[k, i] = c, g, ratio
            w.rest[k, i], w.inverse[k, i] = rest, inverse
            beta = ratio * g * inverse
            delta = ratio * rest * inverse
            w.beta[k, i], w.delta[k, i] = beta, delta
            w.S[i] += beta
            w.T[i] += delta
            w.E[i] += g * g * inverse
            w.r_proba[i] -= p
            w.r_rule_sum[i] -= c * g
            w.r_rule[k, i] = p + e - y[j] * g
            w.u_slack[k, i] = -p
            w.u_edge[k, i] = -e
    for i in range(lanes):
        w.Q[i] = w.E[i] * w.T[i] + w.S[i] * w.S[i]


@jit
def _condense(w, u_slack, u_edge, u_spare, residual):
    """Find kappa, before the row's own dy and dpsi, for given targets.

    ``residual`` is 1 for the whole, 0 for an increment.
    """
    n_classes, lanes = w.c.shape
    for i in range(lanes):
        w.sum_rho[i] = u_spare[i] - residual * w.r_rule_sum[i]
        w.sum_kappa[i] = -residual * w.r_proba[i]
    for k in range(n_classes):
        for i in range(lanes):
            target = u_edge[k, i] + residual * w.r_rule[k, i]
            w.sum_rho[i] += w.g[k, i] * (u_slack[k, i] + target) * w.inverse[k, i]
            kappa = (u_slack[k, i] * w.rest[k, i] - w.ratio[k, i] * target) * w.inverse[k, i]
            w.kappa[k, i] = kappa
            w.sum_kappa[i] += kappa


@jit
def _write_kappa(w, lanes, out, offset):
    """Store kappa with dy and dpsi eliminated."""
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            shared = w.beta[k, i] * (w.sum_rho[i] * w.T[i] - w.S[i] * w.sum_kappa[i])
            shared -= w.delta[k, i] * (w.E[i] * w.sum_kappa[i] + w.S[i] * w.sum_rho[i])
            out[k, offset + i] = w.kappa[k, i] + shared / w.Q[i]


@jit
def _direction(w, state, start, lanes, q, margin_step, offset):
    """Recover the row's step from the step of its margins (targets in u_*)."""
    _condense(w, w.u_slack, w.u_edge, w.u_spare, 1.0)
    n_classes = w.c.shape[0]
    for k in range(n_classes):
        for i in range(lanes):
            w.sum_kappa[i] += w.delta[k, i] * margin_step[k, offset + i]
            w.sum_rho[i] += w.beta[k, i] * margin_step[k, offset + i]
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        w.dpsi[i] = (w.E[i] * w.sum_kappa[i] + w.S[i] * w.sum_rho[i]) / w.Q[i]
        w.dy[i] = (w.T[i] * w.sum_rho[i] - w.S[i] * w.sum_kappa[i]) / w.Q[i]
        w.dzeta[i] = w.u_spare[i] - zeta * w.dy[i] / y
    for k in range(n_classes):
        for i in range(lanes):
            shift = margin_step[k, offset + i] - w.dpsi[i]
            rho = w.u_slack[k, i] + w.u_edge[k, i] + w.r_rule[k, i] - w.g[k, i] * w.dy[i]
            # ds = dt - shift, without the cancellation where p/s dominates a.
            dt = (w.ratio[k, i] * shift + rho) * w.inverse[k, i]
            ds = (rho - w.rest[k, i] * shift) * w.inverse[k, i]
            w.dt[k, i] = dt
            w.ds[k, i] = ds
            w.dp[k, i] = w.u_slack[k, i] - w.ratio[k, i] * ds
            w.de[k, i] = w.u_edge[k, i] - q * state.edge[k, start + i] * dt / w.c[k, i]


@jit
def _second_order(w, state, start, lanes, q):
    """Mehrotra's correction: the products that the linearisation dropped."""
    for i in range(lanes):
        w.w_spare[i] = -w.dy[i] * w.dzeta[i] / state.multiplier[start + i]
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            w.w_slack[k, i] = -w.dp[k, i] * w.ds[k, i] / state.slack[k, start + i]
            w.w_edge[k, i] = -w.de[k, i] * q * w.dt[k, i] / w.c[k, i]


@jit
def _pull(product, target):
    """How far to pull a product back into [target/10, 10 target], not beyond -10 target."""
    low = 0.1 * target - product
    high = 10.0 * target - product
    pull = low if low > 0.0 else (high if high < 0.0 else 0.0)
    return pull if pull > -10.0 * target else -10.0 * target


@jit
def _centrality(w, state, start, lanes, q, nu, primal, dual):
    """Gondzio's correction: pull in the products that a longer step would throw far off."""
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        product = (y + dual * w.dy[i]) * (zeta + primal * w.dzeta[i])
        w.w_spare[i] = _pull(product, nu) / y
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            p, s, e = state.proba[k, start + i], state.slack[k, start + i], state.edge[k, start + i]
            product = (p + dual * w.dp[k, i]) * (s + primal * w.ds[k, i])
            w.w_slack[k, i] = _pull(product, nu) / s
            product = (e + dual * w.de[k, i]) * (w.c[k, i] + primal * q * w.dt[k, i])
            w.w_edge[k, i] = _pull(product, q * nu) / w.c[k, i]


@jit
def _add_targets(w, state, start, lanes, q, nu):
    """Add the pending corrector, and nu for every product, to the targets."""
    for i in range(lanes):
        w.u_spare[i] += w.w_spare[i] + nu / state.multiplier[start + i]
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            w.u_slack[k, i] += w.w_slack[k, i] + nu / state.slack[k, start + i]
            w.u_edge[k, i] += w.w_edge[k, i] + q * nu / w.c[k, i]


@jit
def _staged_direction(w, state, start, lanes, q, stages, margin_steps, offset, nu, reach):
    """Repeat the predictor, the corrector and the centrality corrector up to ``stages``.

    Directions are recomputed in cache from the steps of the margins rather than kept:
    four arrays (K, n) less, for about the same time as writing and reading them.
    """
    _factor(w, state, start, lanes, q)
    _direction(w, state, start, lanes, q, margin_steps[0], offset)
    if stages > 1:
        _second_order(w, state, start, lanes, q)
        _add_targets(w, state, start, lanes, q, nu)
        _direction(w, state, start, lanes, q, margin_steps[1], offset)
    if stages > 2:
        _centrality(w, state, start, lanes, q, nu, reach[0], reach[1])
        _add_targets(w, state, start, lanes, q, 0.0)
        _direction(w, state, start, lanes, q, margin_steps[2], offset)


@jit
def _step_rates(w, state, start, lanes, q, rates):
    """Raise ``rates`` to 1/(longest primal, dual step that keeps every factor positive).

    The primal rate also keeps h below e: Newton on an exponential (q near 0) overshoots.
    """
    primal, dual = w.sum_rho, w.sum_kappa  # free after a direction
    for i in range(lanes):
        primal[i] = -w.dzeta[i] / state.spare[start + i]
        dual[i] = -w.dy[i] / state.multiplier[start + i]
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            j = start + i
            growth = w.dt[k, i] / w.c[k, i]
            rate = -w.ds[k, i] / state.slack[k, j]
            primal[i] = rate if rate > primal[i] else primal[i]
            rate = -q * growth
            primal[i] = rate if rate > primal[i] else primal[i]
            room = 1.0 - LN2 * state.log_rule[k, j]
            rate = growth / (room if room > 0.5 else 0.5)
            primal[i] = rate if rate > primal[i] else primal[i]
            rate = -w.dp[k, i] / state.proba[k, j]
            dual[i] = rate if rate > dual[i] else dual[i]
            rate = -w.de[k, i] / state.edge[k, j]  # 0/0 at q = 0 compares as false
            dual[i] = rate if rate > dual[i] else dual[i]
    for i in range(lanes):
        rates[0] = max(rates[0], primal[i])
        rates[1] = max(rates[1], dual[i])


@jit
def _complementarity(w, state, start, lanes, q, weights, sums):
    """Add the coefficients of the bilinear form (primal step, dual step) -> sum of products.

    The products e c count 1/q times, as they enter the duality gap.
    """
    now, along_dual, along_primal, both = w.sum_rho, w.sum_kappa, w.dpsi, w.total
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        now[i] = y * zeta
        along_dual[i] = w.dy[i] * zeta
        along_primal[i] = y * w.dzeta[i]
        both[i] = w.dy[i] * w.dzeta[i]
    scale = 1.0 / q if q > 0.0 else 0.0
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            p, s, e = state.proba[k, start + i], state.slack[k, start + i], state.edge[k, start + i]
            e, de = scale * e, scale * w.de[k, i]
            dc = q * w.dt[k, i]
            now[i] += p * s + e * w.c[k, i]
            along_dual[i] += w.dp[k, i] * s + de * w.c[k, i]
            along_primal[i] += p * w.ds[k, i] + e * dc
            both[i] += w.dp[k, i] * w.ds[k, i] + de * dc
    for i in range(lanes):
        weight = weights[start + i]
        sums[0] += weight * now[i]
        sums[1] += weight * along_primal[i]
        sums[2] += weight * along_dual[i]
        sums[3] += weight * both[i]


@jit
def _curvature(w, lanes, first, out, offset):
    """Store C_kl, first <= k <= l: products of what is positive wherever that is possible."""
    n_classes = w.c.shape[0]
    pair = 0
    for k in range(first, n_classes):
        for i in range(lanes):
            beta, delta, others = w.beta[k, i], w.delta[k, i], w.T[i] - w.delta[k, i]
            without = w.S[i] - beta
            diagonal = delta * (w.E[i] * others + without * without) + beta * beta * others
            out[pair, offset + i] = diagonal / w.Q[i]
        pair += 1
        for m in range(k + 1, n_classes):
            for i in range(lanes):
                beta_k, delta_k = w.beta[k, i], w.delta[k, i]
                beta_m, delta_m = w.beta[m, i], w.delta[m, i]
                cross = beta_k * beta_m * (w.T[i] - delta_k - delta_m)
                cross -= delta_k * beta_m * (w.S[i] - beta_k)
                cross -= delta_m * beta_k * (w.S[i] - beta_m)
                out[pair, offset + i] = (cross - w.E[i] * delta_k * delta_m) / w.Q[i]
            pair += 1


@jit
def eliminate(state, start, stop, q, first, curvature, kappa, kappa_center):
    """Eliminate rows ``start`` to ``stop`` at the present point.

    Parameters
    ----------
    state : RowState
    start, stop : int
    q : float
    first : int
        First class that has coefficients: 1 where class 0 is the reference, else 0.
    curvature : ndarray of shape (pairs, stop - start)
        Written: C_kl for first <= k <= l, row by row of the upper triangle.
    kappa, kappa_center : ndarray of shape (K, stop - start)
        Written: kappa of the affine step (nu = 0), and its change per unit of nu.
    """
    n_classes = state.proba.shape[0]
    lanes = _lanes(n_classes)
    scratch = _scratch(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        offset = begin - start
        _factor(w, state, begin, size, q)
        _curvature(w, size, first, curvature, offset)
        _condense(w, w.u_slack, w.u_edge, w.u_spare, 1.0)
        _write_kappa(w, size, kappa, offset)
        for i in range(size):
            w.w_spare[i] = 1.0 / state.multiplier[begin + i]
        for k in range(n_classes):
            for i in range(size):
                w.w_slack[k, i] = 1.0 / state.slack[k, begin + i]
                w.w_edge[k, i] = q / w.c[k, i]
        _condense(w, w.w_slack, w.w_edge, w.w_spare, 0.0)
        _write_kappa(w, size, kappa_center, offset)


@jit
def _move(w, state, start, lanes, q, primal, dual):
    for i in range(lanes):
        state.multiplier[start + i] += dual * w.dy[i]
        state.spare[start + i] += primal * w.dzeta[i]
    for k in range(w.c.shape[0]):
        for i in range(lanes):
            j = start + i
            growth = primal * w.dt[k, i] / w.c[k, i]
            # h = c^{1/q}: log2 h grows by log2(1 + q dt/c)/q, which tends to dt log2(e).
            state.log_rule[k, j] += log2_1p(q * growth) / q if q > 0.0 else LOG2E * growth
            state.slack[k, j] += primal * w.ds[k, i]
            state.proba[k, j] += dual * w.dp[k, i]
            state.edge[k, j] += dual * w.de[k, i]


@jit
def follow(
    state, start, stop, q, weights, stages, margin_steps, nu, reach, lengths, kappa, rates, sums
):
    """Follow a direction: look how far it goes, or, given step lengths, take the step.

    Parameters
    ----------
    state : RowState
        Changed in place if ``lengths`` is not zero.
    start, stop : int
    q : float
    weights : ndarray of shape (n,)
    stages : {1, 2, 3}
        1: predictor. 2: corrector. 3: with the centrality corrector.
    margin_steps : ndarray of shape (3, K, stop - start)
        Steps of the margins, of each stage up to ``stages``.
    nu : float
        Target of the complementarity products (stages > 1).
    reach : ndarray of shape (2,)
        Primal and dual step at which the centrality corrector looks at the products.
    lengths : ndarray of shape (2,)
        Primal and dual step to take. Zero: only look, and write what follows.
    kappa : ndarray of shape (K, stop - start)
        Written: what the next stage's corrector adds to kappa (its nu left out).
    rates : ndarray of shape (2,)
        Raised to 1/(longest primal, dual step).
    sums : ndarray of shape (4,)
        Increased by the weighted coefficients of 1, primal step, dual step and their
        product in the sum of the complementarity products.
    """
    n_classes = state.proba.shape[0]
    lanes = _lanes(n_classes)
    scratch = _scratch(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        offset = begin - start
        _staged_direction(w, state, begin, size, q, stages, margin_steps, offset, nu, reach)
        if lengths[0] > 0.0:
            _move(w, state, begin, size, q, lengths[0], lengths[1])
            continue
        _step_rates(w, state, begin, size, q, rates)
        _complementarity(w, state, begin, size, q, weights, sums)
        if stages == 1:
            _second_order(w, state, begin, size, q)
        else:
            _centrality(w, state, begin, size, q, nu, reach[0], reach[1])
        _condense(w, w.w_slack, w.w_edge, w.w_spare, 0.0)
        _write_kappa(w, size, kappa, offset)
