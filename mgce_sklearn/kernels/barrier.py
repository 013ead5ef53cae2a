"""Row elimination for the interior point method.

The threshold psi(m) of one row is itself a small convex program,

    minimize psi  over psi and t   subject to  t_k >= m_k - psi,  1 + q t_k >= 0,
                                               sum_k h(t_k) <= 1,

with h(t) = (1 + q t)^{1/q} (e^t at q = 0): the t_k are the q-logarithms of a rule h that
majorizes the thresholded margins. With slacks s_k = t_k - m_k + psi, c_k = 1 + q t_k and
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

from mgce_sklearn.arrays import namespace
from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LOG2E, exp2, log2, log2_1p

Array = np.ndarray[Any, Any]

LN2 = 1.0 / LOG2E
TINY = np.finfo(np.float64).tiny

# Below, c is so near to 1 that log2(c)/q would lose digits. Above, c may be so near to 0 that
# c - 1 would.
LEAST_Q_OF_LOGARITHMS = 0.01

# The share of the longest step that rows take toward the central path, how near to it they end
# (a share of nu), and the most steps: the method itself mends what is left.
TO_THE_BOUNDARY = 0.95
CENTERED = 0.1
MOST_CENTERINGS = 20

# What the last of these steps has dropped is known to second order alone: half of that share.
LAST_DROPPED = 0.5 * CENTERED


class RowState(NamedTuple):
    """The interior point of every row.

    Attributes
    ----------
    distance : ndarray of shape (K, n), float32
        How far t_k is from the nearer of its bounds: s_k if that is m_k - psi, and
        -c_k/q, negative, if it is -1/q. With the margins and psi it gives both: the larger
        is a sum of positive numbers, so that neither loses digits, and s = t - m + psi holds
        by construction, so that errors of rounding do not add up over the steps. What single
        precision changes is a small part of the smaller distance.
    proba : ndarray of shape (K, n)
        p_k, the multiplier of s_k.
    edge : ndarray of shape (K, n), float32
        e_k, the multiplier of c_k >= 0. It is in no sum over rows or classes, and what
        rounding adds to y g = p + e is a residual that the next step removes.
    multiplier, spare : ndarray of shape (n,)
        y and zeta, of the constraint on the sum of h.
    threshold : ndarray of shape (n,)
        psi.
    """

    distance: Any
    proba: Any
    edge: Any
    multiplier: Any
    spare: Any
    threshold: Any


def new_rows(n_classes: int, n_rows: int) -> RowState:
    """Return a state of so many rows, with nothing in it yet."""
    shape = n_classes, n_rows
    return RowState(
        np.empty(shape, np.float32), np.empty(shape), np.empty(shape, np.float32),
        np.empty(n_rows), np.empty(n_rows), np.empty(n_rows),
    )  # fmt: skip


def nearer(slack: Array, c: Array, q: float) -> Array:
    """Return `RowState.distance` of given s and c."""
    if q == 0.0:
        return slack
    return namespace(slack).where(slack <= c / q, slack, -c / q)


class _Scratch(NamedTuple):
    """What one group of rows (lanes) needs.

    Two arrays with a named index each, not an array a quantity: a tuple of thirty arrays
    doubles the time that the kernels take to compile.
    """

    wide: Array  # (19, K, lanes)
    flat: Array  # (14, lanes)


# First index of `wide`.
(
    C,
    G,
    RATIO,  # p/s
    REST,  # b: what of a is not p/s
    INVERSE,  # 1/a
    BETA,
    DELTA,
    R_RULE,  # residual of y g = p + e
    U_SLACK,  # residual of p s = nu, over s
    U_EDGE,  # residual of e c = q nu, over c
    NEXT_SLACK,  # what the next corrector adds to U_SLACK
    NEXT_EDGE,
    KAPPA,
    DT,
    DS,
    DP,
    DE,
    SLACK,
    LOG_RULE,  # log2 h
) = range(19)

# First index of `flat`.
(
    E,
    S,
    T,
    Q,
    R_PROBA,  # residual of sum p = 1
    R_RULE_SUM,  # residual of sum h + zeta = 1
    U_SPARE,  # residual of y zeta = nu, over y
    NEXT_SPARE,
    SUM_RHO,  # sum g rho/a, with its residuals
    SUM_KAPPA,  # sum of kappa, less the residual of sum p
    DY,
    DZETA,
    DPSI,
    BOTH,
) = range(14)


@jit
def _scratch(n_classes, lanes):
    return _Scratch(np.empty((19, n_classes, lanes)), np.empty((14, lanes)))


@jit
def lanes_of(n_classes):
    """Rows treated together: enough for full vectors, few enough for the cache."""
    return min(256, max(8, 4096 // n_classes))


@jit
def _unpack(w, state, start, lanes, q, margins, offset):
    """Fill in s, c and log2 h."""
    w_c, w_slack, w_log_rule = w.wide[C], w.wide[SLACK], w.wide[LOG_RULE]
    scale = 1.0 / q if q > 0.0 else 0.0
    for k in range(state.proba.shape[0]):
        for i in range(lanes):
            distance = np.float64(state.distance[k, start + i])
            z = 1.0 + q * (margins[k, offset + i] - state.threshold[start + i])
            near = abs(distance)
            # Rounding of z must not make the nearer bound the other one.
            above = z if (z > 0.0) & (distance > 0.0) else 0.0
            below = -z if (z < 0.0) & (distance < 0.0) else 0.0
            w_c[k, i] = q * near + above
            w_slack[k, i] = near + scale * below
        if q >= LEAST_Q_OF_LOGARITHMS:
            for i in range(lanes):
                w_log_rule[k, i] = scale * log2(w_c[k, i])
        else:
            for i in range(lanes):
                t = margins[k, offset + i] - state.threshold[start + i] + w_slack[k, i]
                w_log_rule[k, i] = scale * log2_1p(q * t) if q > 0.0 else LOG2E * t


@jit
def _factor(w, state, start, lanes, q, margins, offset):
    """Fill in the elimination's coefficients, the residuals, and the affine targets nu = 0."""
    w_c, w_g, w_ratio, w_rest = w.wide[C], w.wide[G], w.wide[RATIO], w.wide[REST]
    w_inverse, w_beta, w_delta, w_r_rule = (
        w.wide[INVERSE],
        w.wide[BETA],
        w.wide[DELTA],
        w.wide[R_RULE],
    )
    w_u_slack, w_u_edge = w.wide[U_SLACK], w.wide[U_EDGE]
    w_slack, w_log_rule = w.wide[SLACK], w.wide[LOG_RULE]
    w_E, w_S, w_T, w_Q = w.flat[E], w.flat[S], w.flat[T], w.flat[Q]
    w_r_proba, w_r_rule_sum, w_u_spare = w.flat[R_PROBA], w.flat[R_RULE_SUM], w.flat[U_SPARE]
    y, zeta = state.multiplier, state.spare
    _unpack(w, state, start, lanes, q, margins, offset)
    for i in range(lanes):
        w_E[i] = zeta[start + i] / y[start + i]
        w_S[i] = 0.0
        w_T[i] = 0.0
        w_r_proba[i] = 1.0
        w_r_rule_sum[i] = 1.0 - zeta[start + i]
        w_u_spare[i] = -zeta[start + i]
    for k in range(state.proba.shape[0]):
        for i in range(lanes):
            j = start + i
            p, s, e = state.proba[k, j], w_slack[k, i], state.edge[k, j]
            c, g = w_c[k, i], exp2((1.0 - q) * w_log_rule[k, i])
            ratio = p / s
            rest = (y[j] * (1.0 - q) * g + q * e) / c
            inverse = 1.0 / (rest + ratio)
            w_g[k, i], w_ratio[k, i] = g, ratio
            w_rest[k, i], w_inverse[k, i] = rest, inverse
            beta = ratio * g * inverse
            delta = ratio * rest * inverse
            w_beta[k, i], w_delta[k, i] = beta, delta
            w_S[i] += beta
            w_T[i] += delta
            w_E[i] += g * g * inverse
            w_r_proba[i] -= p
            w_r_rule_sum[i] -= c * g
            w_r_rule[k, i] = p + e - y[j] * g
            w_u_slack[k, i] = -p
            w_u_edge[k, i] = -e
    for i in range(lanes):
        w_Q[i] = w_E[i] * w_T[i] + w_S[i] * w_S[i]


@jit
def _condense(w, u_slack, u_edge, u_spare, residual):
    """Find kappa, before the row's own dy and dpsi, for given targets.

    ``residual`` is 1 for the whole, 0 for an increment.
    """
    w_g, w_ratio, w_rest = w.wide[G], w.wide[RATIO], w.wide[REST]
    w_inverse, w_r_rule, w_kappa = w.wide[INVERSE], w.wide[R_RULE], w.wide[KAPPA]
    w_r_proba, w_r_rule_sum, w_sum_rho, w_sum_kappa = (
        w.flat[R_PROBA],
        w.flat[R_RULE_SUM],
        w.flat[SUM_RHO],
        w.flat[SUM_KAPPA],
    )
    n_classes, lanes = w.wide.shape[1:]
    for i in range(lanes):
        w_sum_rho[i] = u_spare[i] - residual * w_r_rule_sum[i]
        w_sum_kappa[i] = -residual * w_r_proba[i]
    for k in range(n_classes):
        for i in range(lanes):
            target = u_edge[k, i] + residual * w_r_rule[k, i]
            w_sum_rho[i] += w_g[k, i] * (u_slack[k, i] + target) * w_inverse[k, i]
            kappa = (u_slack[k, i] * w_rest[k, i] - w_ratio[k, i] * target) * w_inverse[k, i]
            w_kappa[k, i] = kappa
            w_sum_kappa[i] += kappa


@jit
def _condense_whole(w):
    w_u_slack, w_u_edge = w.wide[U_SLACK], w.wide[U_EDGE]
    w_u_spare = w.flat[U_SPARE]
    _condense(w, w_u_slack, w_u_edge, w_u_spare, 1.0)


@jit
def _condense_increment(w):
    w_next_slack, w_next_edge = w.wide[NEXT_SLACK], w.wide[NEXT_EDGE]
    w_next_spare = w.flat[NEXT_SPARE]
    _condense(w, w_next_slack, w_next_edge, w_next_spare, 0.0)


@jit
def _write_kappa(w, lanes, out, offset):
    """Store kappa with dy and dpsi eliminated."""
    w_beta, w_delta, w_kappa = w.wide[BETA], w.wide[DELTA], w.wide[KAPPA]
    w_E, w_S, w_T, w_Q = w.flat[E], w.flat[S], w.flat[T], w.flat[Q]
    w_sum_rho, w_sum_kappa = w.flat[SUM_RHO], w.flat[SUM_KAPPA]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            shared = w_beta[k, i] * (w_sum_rho[i] * w_T[i] - w_S[i] * w_sum_kappa[i])
            shared -= w_delta[k, i] * (w_E[i] * w_sum_kappa[i] + w_S[i] * w_sum_rho[i])
            out[k, offset + i] = w_kappa[k, i] + shared / w_Q[i]


@jit
def _direction(w, state, start, lanes, q, margin_step, offset):
    """Recover the row's step from the step of its margins (targets in u_*)."""
    w_c, w_g, w_ratio, w_rest = w.wide[C], w.wide[G], w.wide[RATIO], w.wide[REST]
    w_inverse, w_beta, w_delta, w_r_rule = (
        w.wide[INVERSE],
        w.wide[BETA],
        w.wide[DELTA],
        w.wide[R_RULE],
    )
    w_u_slack, w_u_edge, w_dt, w_ds = w.wide[U_SLACK], w.wide[U_EDGE], w.wide[DT], w.wide[DS]
    w_dp, w_de = w.wide[DP], w.wide[DE]
    w_E, w_S, w_T, w_Q = w.flat[E], w.flat[S], w.flat[T], w.flat[Q]
    w_u_spare, w_sum_rho, w_sum_kappa, w_dy = (
        w.flat[U_SPARE],
        w.flat[SUM_RHO],
        w.flat[SUM_KAPPA],
        w.flat[DY],
    )
    w_dzeta, w_dpsi = w.flat[DZETA], w.flat[DPSI]
    _condense_whole(w)
    n_classes = w.wide.shape[1]
    for k in range(n_classes):
        for i in range(lanes):
            w_sum_kappa[i] += w_delta[k, i] * margin_step[k, offset + i]
            w_sum_rho[i] += w_beta[k, i] * margin_step[k, offset + i]
    for i in range(lanes):
        y, zeta = state.multiplier[start + i], state.spare[start + i]
        w_dpsi[i] = (w_E[i] * w_sum_kappa[i] + w_S[i] * w_sum_rho[i]) / w_Q[i]
        w_dy[i] = (w_T[i] * w_sum_rho[i] - w_S[i] * w_sum_kappa[i]) / w_Q[i]
        w_dzeta[i] = w_u_spare[i] - zeta * w_dy[i] / y
    for k in range(n_classes):
        for i in range(lanes):
            shift = margin_step[k, offset + i] - w_dpsi[i]
            rho = w_u_slack[k, i] + w_u_edge[k, i] + w_r_rule[k, i] - w_g[k, i] * w_dy[i]
            # ds = dt - shift, without the cancellation where p/s dominates a.
            dt = (w_ratio[k, i] * shift + rho) * w_inverse[k, i]
            ds = (rho - w_rest[k, i] * shift) * w_inverse[k, i]
            w_dt[k, i] = dt
            w_ds[k, i] = ds
            w_dp[k, i] = w_u_slack[k, i] - w_ratio[k, i] * ds
            w_de[k, i] = w_u_edge[k, i] - q * state.edge[k, start + i] * dt / w_c[k, i]


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
def _unit_targets(w, state, start, lanes, q):
    """Write what one unit of nu adds to the targets."""
    w_slack = w.wide[SLACK]
    w_c, w_next_slack, w_next_edge = w.wide[C], w.wide[NEXT_SLACK], w.wide[NEXT_EDGE]
    w_next_spare = w.flat[NEXT_SPARE]
    for i in range(lanes):
        w_next_spare[i] = 1.0 / state.multiplier[start + i]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            w_next_slack[k, i] = 1.0 / w_slack[k, i]
            w_next_edge[k, i] = q / w_c[k, i]


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

    Directions are recomputed in cache from the steps of the margins rather than kept:
    four arrays (K, n) less, for about the same time as writing and reading them.
    """
    _factor(w, state, start, lanes, q, margins[0], offset)
    for stage in range(stages):
        if stage == 1:
            _second_order(w, state, start, lanes, q)
        elif stage >= 2:
            _centrality(w, state, start, lanes, q, nu, reach[stage - 2, 0], reach[stage - 2, 1])
        if stage > 0:
            _add_targets(w, state, start, lanes, q, nu if stage == 1 else 0.0)
        _direction(w, state, start, lanes, q, margins[1 + stage], offset)


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
def _curvature(w, lanes, first, out, offset):
    """Store C_kl, first <= k <= l: products of what is positive wherever that is possible."""
    w_beta, w_delta = w.wide[BETA], w.wide[DELTA]
    w_E, w_S, w_T, w_Q = w.flat[E], w.flat[S], w.flat[T], w.flat[Q]
    n_classes = w.wide.shape[1]
    pair = 0
    for k in range(first, n_classes):
        for i in range(lanes):
            beta, delta, others = w_beta[k, i], w_delta[k, i], w_T[i] - w_delta[k, i]
            without = w_S[i] - beta
            diagonal = delta * (w_E[i] * others + without * without) + beta * beta * others
            out[pair, offset + i] = diagonal / w_Q[i]
        pair += 1
        for m in range(k + 1, n_classes):
            for i in range(lanes):
                beta_k, delta_k = w_beta[k, i], w_delta[k, i]
                beta_m, delta_m = w_beta[m, i], w_delta[m, i]
                cross = beta_k * beta_m * (w_T[i] - delta_k - delta_m)
                cross -= delta_k * beta_m * (w_S[i] - beta_k)
                cross -= delta_m * beta_k * (w_S[i] - beta_m)
                out[pair, offset + i] = (cross - w_E[i] * delta_k * delta_m) / w_Q[i]
            pair += 1


@jit
def eliminate(state, start, stop, q, margins, first, curvature, kappa, kappa_center):
    """Eliminate rows ``start`` to ``stop`` at the present point.

    Parameters
    ----------
    state : RowState
    start, stop : int
    q : float
    margins : ndarray of shape (K, stop - start)
    first : int
        First class that has coefficients: 1 where class 0 is the reference, else 0.
    curvature : ndarray of shape (pairs, stop - start)
        Written: C_kl for first <= k <= l, row by row of the upper triangle.
    kappa, kappa_center : ndarray of shape (K, stop - start)
        Written: kappa of the affine step (nu = 0), and its change per unit of nu.
    """
    n_classes = state.proba.shape[0]
    lanes = lanes_of(n_classes)
    scratch = _scratch(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        offset = begin - start
        _factor(w, state, begin, size, q, margins, offset)
        _curvature(w, size, first, curvature, offset)
        _condense_whole(w)
        _write_kappa(w, size, kappa, offset)
        _unit_targets(w, state, begin, size, q)
        _condense_increment(w)
        _write_kappa(w, size, kappa_center, offset)


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

    Newton's steps, each row with lengths of its own, until its equations hold within a tenth of
    nu. Rows beside it have no part in where a row ends.

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
    scratch = _scratch(n_classes, lanes)
    still = np.zeros((n_classes, lanes))
    primal, dual, dropped = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    whole, ended = np.empty(lanes, np.bool_), np.empty(lanes, np.bool_)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
        ended[:size] = False
        for _ in range(MOST_CENTERINGS):
            _factor(w, state, begin, size, q, margins, begin - start)
            _center_targets(w, state, begin, size, q, nu)
            _direction(w, state, begin, size, q, still, 0)
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
    """Follow a direction: look how far it goes, or, given step lengths, take the step.

    Parameters
    ----------
    state : RowState
        Changed in place if ``lengths`` is not zero.
    start, stop : int
    q : float
    weights : ndarray of shape (n,)
    stages : int
        1: predictor. 2: corrector. 3 and more: with so many less two centrality correctors.
    margins : ndarray of shape (1 + stages or more, K, stop - start)
        The margins, and their steps of each stage.
    nu : float
        Target of the complementarity products (stages > 1).
    reach : ndarray of shape (stages - 1 or more, 2)
        Primal and dual step at which each centrality corrector looks at the products.
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
    lanes = lanes_of(n_classes)
    scratch = _scratch(n_classes, lanes)
    primal, dual = np.empty(lanes), np.empty(lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else _scratch(n_classes, size)
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
        _condense_increment(w)
        _write_kappa(w, size, kappa, offset)
