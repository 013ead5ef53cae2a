"""Row elimination for the interior point method: the equations of one row.

The threshold psi(m) of one row is itself a small convex program,

    minimize psi  over psi and t   subject to  t_k >= m_k - psi,  1 + q t_k >= 0,
                                               sum_k h(t_k) <= 1,

with h(t) = (1 + q t)^{1/q} (e^t at q = 0). The t_k are the q-logarithms of a rule h that is at
least the rule of the margins. The slacks are s_k = t_k - m_k + psi, c_k = 1 + q t_k and
zeta = 1 - sum h. The multipliers of the three constraints are p_k, e_k and y. At the points at
which every complementarity product has the value nu,

    y g_k = p_k + e_k,    sum p = 1,    sum h + zeta = 1,
    p_k s_k = nu,         e_k c_k = q nu,         y zeta = nu,

where g = dh/dt = h^{1-q} and dg/dt = (1-q) g/c. At q = 0 the constraint on c is void
(c = 1, e = 0), and at q = 1 the program is linear (g = 1). The formulas below hold for these too.

A Newton step for these equations and a change dm of the margins can be eliminated row by
row. With b = (y (1-q) g + q e)/c, a = b + p/s, beta = (p/s) g/a, delta = (p/s) b/a and
E = sum g²/a + zeta/y,

    dp = C dm + kappa,    C = B - B 1 1ᵀ B / (1ᵀ B 1),    B = diag(delta) + beta betaᵀ/E,

where C is positive semidefinite, C 1 = 0, and kappa carries the residuals. The equations of the
coefficients need to know no more of a row than C and kappa.

Near the optimum E tends to 0 and the two parts of C, each as large as 1/E, cancel. So every
formula below is the result of cancelling them on paper. With S = sum beta, T = sum delta
and Q = E T + S², no 1/E is left, and for example

    Q C_kk = E delta_k (T - delta_k) + delta_k (S - beta_k)² + beta_k² (T - delta_k).

The arrays are class-major, (K, n): rows lie side by side, and every loop runs over rows.
`barrier` follows the steps that result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.arrays import namespace
from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LOG2E, exp2, log2, log2_1p

Array = np.ndarray[Any, Any]

# For smaller q, c is so near to 1 that log2(c)/q would lose digits. For larger q, c may be so near
# to 0 that c - 1 would.
LEAST_Q_OF_LOGARITHMS = 0.01


class RowState(NamedTuple):
    """The interior point of every row.

    Attributes
    ----------
    distance : ndarray of shape (K, n), float32
        How far t_k is from the nearer of its bounds. It is s_k if that bound is m_k - psi, and
        -c_k/q, which is negative, if it is -1/q. Together with the margins and psi it gives both
        s_k and c_k: the larger one is a sum of positive numbers, so that neither loses digits.
        The equation s = t - m + psi holds by construction, so that rounding errors do not add up
        over the steps. What single precision changes is a small part of the smaller distance.
    proba : ndarray of shape (K, n)
        p_k, the multiplier of s_k.
    edge : ndarray of shape (K, n), float32
        e_k, the multiplier of c_k >= 0. No sum over rows or classes contains it. What rounding
        adds to y g = p + e is a residual, which the next step removes.
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


class Scratch(NamedTuple):
    """Memory for one group of rows (lanes).

    It is two arrays, and the constants below are names of their first index. A tuple of thirty
    arrays doubles the time that the kernels take to compile.
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
def scratch_of(n_classes, lanes):
    """Return memory for so many rows."""
    return Scratch(np.empty((19, n_classes, lanes)), np.empty((14, lanes)))


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
def factor(w, state, start, lanes, q, margins, offset):
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
def condense_increment(w):
    """Find kappa for what the next corrector adds to the targets."""
    w_next_slack, w_next_edge = w.wide[NEXT_SLACK], w.wide[NEXT_EDGE]
    w_next_spare = w.flat[NEXT_SPARE]
    _condense(w, w_next_slack, w_next_edge, w_next_spare, 0.0)


@jit
def write_kappa(w, lanes, out, offset):
    """Write kappa with dy and dpsi eliminated."""
    w_beta, w_delta, w_kappa = w.wide[BETA], w.wide[DELTA], w.wide[KAPPA]
    w_E, w_S, w_T, w_Q = w.flat[E], w.flat[S], w.flat[T], w.flat[Q]
    w_sum_rho, w_sum_kappa = w.flat[SUM_RHO], w.flat[SUM_KAPPA]
    for k in range(w.wide.shape[1]):
        for i in range(lanes):
            shared = w_beta[k, i] * (w_sum_rho[i] * w_T[i] - w_S[i] * w_sum_kappa[i])
            shared -= w_delta[k, i] * (w_E[i] * w_sum_kappa[i] + w_S[i] * w_sum_rho[i])
            out[k, offset + i] = w_kappa[k, i] + shared / w_Q[i]


@jit
def direction(w, state, start, lanes, q, margin_step, offset):
    """Recover the row's step from the step of its margins, for the targets of `targets_of`."""
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
def _curvature(w, lanes, first, out, offset):
    """Write C_kl, first <= k <= l: products of what is positive wherever that is possible."""
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
    scratch = scratch_of(n_classes, lanes)
    for begin in range(start, stop, lanes):
        size = min(lanes, stop - begin)
        w = scratch if size == lanes else scratch_of(n_classes, size)
        offset = begin - start
        factor(w, state, begin, size, q, margins, offset)
        _curvature(w, size, first, curvature, offset)
        _condense_whole(w)
        write_kappa(w, size, kappa, offset)
        _unit_targets(w, state, begin, size, q)
        condense_increment(w)
        write_kappa(w, size, kappa_center, offset)
