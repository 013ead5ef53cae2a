"""The threshold psi, the rule h and the worst case p* of rows of margins.

For every row, one pass solves

    sum_k z_k^{1/q} = 1   with   z_k = (1 + q (m_k - psi))_+

by Newton's method on the *norm* form, ‖z(psi)‖_{1/q} = 1. The norm is convex and decreasing
in psi, so from the left end of the bracket max m <= psi <= max m + (1 - K^{-q})/q the iterates
increase toward the root and never pass it; and it is nearly linear (exactly for equal margins,
for one class, and as q -> 0), so that a few steps are enough. With u_k = z_k^{(1-q)/q} and the
moments S = sum u z, D = sum u, T = sum u/z, the step and its third-order (Chebyshev) form are

    s = (S / D) (1 - S^{-q}) / q,      psi += s + s² (1 - q) (S T - D²) / (2 S D),

and when the iteration ends, the results follow without another pass:

    h = u z,      p* = u / D.

The first steps are computed in single precision, in which a vector instruction has twice as many
numbers and polynomials are shorter. Rows are transposed in blocks, with one row in a lane. So every
inner loop runs over rows, which are contiguous, and has no sum over the loop variable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import (
    LN2,
    LOG2E,
    exp2,
    exp2_single,
    log2,
    log2_1p,
    log2_1p_single,
)
from mgce_sklearn.kernels.lanes import (
    call_by_rows,
    gather,
    load,
    loss_parameter,
    n_lanes_for,
    subtract_maxima,
    unload,
)

Array = NDArray[Any]

# The quantity that a pass computes in addition to psi.
NOTHING, WORST_CASE, RULE = range(3)

# Up to here (1 - q)/q >= 2, and u is smooth enough for `_correct`.
SMOOTH_Q = 1.0 / 3.0

# The arrays of a block, one row of margins a lane:
#
#     x (G, L)  margins less the row's maximum              t (L,)     psi less that maximum
#     u (G, L)  z^{(1-q)/q}                                 step (L,)  last change of t
#     S, D, T (L,)  the moments: sums of u z, u and u/z


@jit
def _positive_part(q, difference):
    """Compute z = (1 + q (m - psi))_+, or NaN."""
    z = 1.0 + q * difference
    return 0.0 if z < 0.0 else z


@jit
def _powers(x, t, q, u):
    """Fill u with z^{(1-q)/q}. Two loops are faster than one, because their bodies are short."""
    exponent = (1.0 - q) / q
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            u[k, lane] = exponent * log2_1p(q * (x[k, lane] - t[lane]))
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            u[k, lane] = exp2(u[k, lane])


@jit
def _powers_single(x, t, q, u):
    exponent, q_single = np.float32((1.0 - q) / q), np.float32(q)
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            u[k, lane] = exponent * log2_1p_single(q_single * (x[k, lane] - t[lane]))
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            u[k, lane] = exp2_single(u[k, lane])


@jit
def _special_powers(x, t, q, u):
    """Fill u where it needs no logarithm: e^(m - psi), z itself, and 1 on the support."""
    for k in range(x.shape[0]):
        if q == 0.0:
            for lane in range(x.shape[1]):
                u[k, lane] = exp2(LOG2E * (x[k, lane] - t[lane]))
        elif q == 0.5:
            for lane in range(x.shape[1]):
                u[k, lane] = _positive_part(0.5, x[k, lane] - t[lane])
        else:
            for lane in range(x.shape[1]):
                z = _positive_part(1.0, x[k, lane] - t[lane])
                u[k, lane] = 1.0 if z > 0.0 else z


@jit
def _moments(x, t, q, u, S, D, T):
    """Sum u z, u and, where it is bounded and the third-order step uses it, u/z."""
    for lane in range(x.shape[1]):
        S[lane] = D[lane] = T[lane] = 0.0
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            z = _positive_part(q, x[k, lane] - t[lane])
            D[lane] += u[k, lane]
            S[lane] += u[k, lane] * z
        if 0.0 < q < 0.5:
            for lane in range(x.shape[1]):
                z = _positive_part(q, x[k, lane] - t[lane])
                T[lane] += u[k, lane] / z if z > 0.0 else 0.0


@jit
def newton_step(q, S, D, step):
    """Fill step with (S/D) (1 - S^{-q})/q, Newton's on the norm S^q.

    (1 - S^{-q})/q = ln S (1 - e^{-w})/w with w = q ln S, and w / (1 - e^{-w}) is at most
    1 + w/2 + w²/12: this form keeps its digits as q -> 0 and S -> 1, and never overshoots.
    """
    for lane in range(step.shape[0]):
        logarithm = LN2 * log2(S[lane])
        w = q * logarithm
        step[lane] = S[lane] / D[lane] * logarithm / (1.0 + w * (0.5 + w / 12.0))
    if q == 1.0:
        for lane in range(step.shape[0]):
            step[lane] = (S[lane] - 1.0) / D[lane]


@jit
def _third_order(q, S, D, T, step):
    """Lengthen Newton's step by half its square times the curvature, within reason."""
    for lane in range(step.shape[0]):
        gain = 0.5 * (1.0 - q) * step[lane] * (T[lane] / D[lane] - D[lane] / S[lane])
        gain = 0.5 if gain > 0.5 else gain
        step[lane] *= 1.0 + (-0.5 if gain < -0.5 else gain)


@jit
def move(t, step, low, high):
    """Add the step to t inside [low, high]; return the longest move of the lanes."""
    for lane in range(t.shape[0]):
        moved = t[lane] + step[lane]
        moved = low if moved < low else moved
        moved = high if moved > high else moved
        step[lane] = moved - t[lane]
        t[lane] = moved
    longest = 0.0
    for lane in range(t.shape[0]):
        longest = max(longest, abs(step[lane]))
    return longest


@jit
def _advance(t, step, q, high, S, D, T):
    newton_step(q, S, D, step)
    if 0.0 < q < 0.5:
        _third_order(q, S, D, T, step)
    return move(t, step, 0.0, high)


@jit
def _approach(x, x_single, u_single, t, t_single, step, q, high, S, D, T):
    """Compute t with the accuracy of single precision, from the left end of the bracket.

    Powers take most of the time. All their operands are in single precision: one in double would
    halve the numbers in a vector instruction.
    """
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            x_single[k, lane] = x[k, lane]
    # The error after a step is of the order of its square, or of its cube for q < 1/2.
    tolerance = 1e-2 if q < 0.5 else 1e-3
    for _ in range(20):
        for lane in range(x.shape[1]):
            t_single[lane] = t[lane]
        _powers_single(x_single, t_single, q, u_single)
        _moments(x, t, q, u_single, S, D, T)
        if not _advance(t, step, q, high, S, D, T) > tolerance:
            break


@jit
def _solve(x, x_single, u, u_single, t, t_single, step, q, high, S, D, T):
    """Find t, and u and D as they are there (up to a common factor where q = 0)."""
    for lane in range(t.shape[0]):
        t[lane] = 0.0
    special = q == 0.0 or q == 0.5 or q == 1.0
    if not special:
        _approach(x, x_single, u_single, t, t_single, step, q, high, S, D, T)
    tolerance = 3e-6 if q <= SMOOTH_Q else 1e-13
    for _ in range(100):
        if special:
            _special_powers(x, t, q, u)
        else:
            _powers(x, t, q, u)
        _moments(x, t, q, u, S, D, T)
        # Where q = 0 the first step is exact.
        if not _advance(t, step, q, high, S, D, T) > tolerance or q == 0.0:
            break
    if q != 0.0:
        _correct(x, t, step, q, u, D)


@jit
def _correct(x, t, step, q, u, D):
    """Update u and D for the last step by two terms of Taylor's series, which saves a pass.

    With r = step/z, u changes by the factor (1 - q r)^{(1-q)/q} ~ 1 - (1-q) r + (1-q)(1-2q) r²/2.
    For q <= 1/3 that is positive, and neglects the order of the step to the power
    min(3, (1-q)/q): below 1e-11 after a last step of 3e-6. For larger q the last step is at
    rounding error already, and the correction is for classes near the edge of the support,
    where u has no bound on its slope.
    """
    first = 1.0 - q
    second = 0.5 * (1.0 - q) * (1.0 - 2.0 * q) if q <= SMOOTH_Q else 0.0
    for lane in range(x.shape[1]):
        D[lane] = 0.0
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            before = x[k, lane] - (t[lane] - step[lane])
            r = step[lane] / (1.0 + q * before)
            changed = u[k, lane] * (1.0 - r * (first - second * r))
            left = 1.0 + q * (x[k, lane] - t[lane]) <= 0.0
            u[k, lane] = 0.0 if (u[k, lane] == 0.0) | left else changed
            D[lane] += u[k, lane]


@jit
def _probabilities(x, t, q, u, D, wants_rule):
    """Turn u into h or p*."""
    for k in range(x.shape[0]):
        if wants_rule and q > 0.0:
            for lane in range(x.shape[1]):
                u[k, lane] *= _positive_part(q, x[k, lane] - t[lane])
        else:
            for lane in range(x.shape[1]):
                u[k, lane] /= D[lane]


@jit
def _pass(margins, q, quantity, psi, probabilities):
    """Fill psi, and the probabilities that the quantity says, block by block."""
    n_rows, n_classes = margins.shape
    n_lanes = n_lanes_for(n_classes)
    high = np.log(n_classes) if q == 0.0 else -np.expm1(-q * np.log(n_classes)) / q
    cut = -1.0 / q if q > 0.0 else -np.inf
    all_x = np.empty((n_classes, n_lanes))
    all_u = np.empty((n_classes, n_lanes))
    all_x_single = np.empty((n_classes, n_lanes), np.float32)
    all_u_single = np.empty((n_classes, n_lanes), np.float32)
    index = np.empty((n_classes, n_lanes), np.int32)
    count = np.empty(n_lanes, np.int64)
    top, t, step = np.empty(n_lanes), np.empty(n_lanes), np.empty(n_lanes)
    t_single = np.empty(n_lanes, np.float32)
    S, D, T = np.empty(n_lanes), np.empty(n_lanes), np.empty(n_lanes)
    for start in range(0, n_rows, n_lanes):
        load(margins, start, all_x)
        subtract_maxima(all_x, top)
        n_kept = gather(all_x, cut, index, count)
        n_groups = n_kept if n_kept > 0 else n_classes
        x, x_single = all_x[:n_groups], all_x_single[:n_groups]
        u, u_single = all_u[:n_groups], all_u_single[:n_groups]
        _solve(x, x_single, u, u_single, t, t_single, step, q, high, S, D, T)
        for lane in range(min(n_lanes, n_rows - start)):
            psi[start + lane] = top[lane] + t[lane]
        if quantity != NOTHING:
            _probabilities(x, t, q, u, D, quantity == RULE)
            unload(u, n_kept > 0, index, count, probabilities, start)


NO_MATRIX = np.empty((0, 0))


def _fill(
    margins: Array, q: float, quantity: int, psi: Array, probabilities: Array = NO_MATRIX
) -> None:
    _pass(margins, q, quantity, psi, probabilities)


def _run(
    margins: ArrayLike,
    q: float,
    quantity: int,
    n_matrices: int,
    out: tuple[Array, ...] | None = None,
) -> tuple[Array, ...]:
    return call_by_rows(_fill, margins, (loss_parameter(q), quantity), n_matrices, out)


def threshold(margins: ArrayLike, q: float) -> Array:
    """Compute the threshold psi of every row.

    psi is the root of sum_k (1 + q (m_k - psi))_+^{1/q} = 1; logsumexp at q = 0.

    Parameters
    ----------
    margins : array-like of shape (n, K)
    q : float in [0, 1]

    Returns
    -------
    ndarray of shape (n,)
    """
    return _run(margins, q, NOTHING, 0)[0]


def rule(margins: ArrayLike, q: float) -> Array:
    """Compute the classification rule h_k = (1 + q (m_k - psi))_+^{1/q}.

    This is alpha-entmax [1]_ with alpha = 1 + q: softmax at q = 0, sparsemax at q = 1.

    Parameters
    ----------
    margins : array-like of shape (n, K)
    q : float in [0, 1]

    Returns
    -------
    ndarray of shape (n, K)
        Probabilities; each row sums to 1.

    References
    ----------
    .. [1] B. Peters, V. Niculae, A. Martins, "Sparse sequence-to-sequence models", ACL 2019.
    """
    return _run(margins, q, RULE, 1)[1]


def worst_case(margins: ArrayLike, q: float) -> Array:
    """Compute the worst-case distribution p*_k, proportional to h_k^{1-q} on the support.

    It is the gradient of psi, and uniform on the support at q = 1.

    Parameters
    ----------
    margins : array-like of shape (n, K)
    q : float in [0, 1]

    Returns
    -------
    ndarray of shape (n, K)
        Probabilities; each row sums to 1.
    """
    return threshold_and_worst_case(margins, q)[1]


def threshold_and_worst_case(
    margins: ArrayLike, q: float, out: tuple[Array, Array] | None = None
) -> tuple[Array, Array]:
    """Compute psi and its gradient p* in one pass.

    Parameters
    ----------
    margins : array-like of shape (n, K)
    q : float in [0, 1]
    out : (ndarray of shape (n,), ndarray of shape (n, K)), optional
        C-ordered arrays of the type of margins to write to. New arrays of this size are
        slow to touch for the first time: a loop gains by passing the same ones.

    Returns
    -------
    psi : ndarray of shape (n,)
    p : ndarray of shape (n, K)
    """
    psi, p = _run(margins, q, WORST_CASE, 1, out)
    return psi, p


@jit
def subtract_labels(margins, labels, psi, p):
    """Replace psi and p* with the loss psi - m_y of labels (n,), 0 to K - 1, and p* - onehot(y)."""
    for row in range(labels.shape[0]):
        label = labels[row]
        psi[row] -= margins[row, label]
        p[row, label] -= 1.0
