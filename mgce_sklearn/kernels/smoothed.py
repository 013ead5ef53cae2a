"""The smoothed threshold: z_+ replaced by c(z) = eps softplus(z / eps).

psi_eps is the root of sum_k c(z_k)^{1/q} = 1 with z_k = 1 + q (m_k - psi_eps). It is convex, its
gradient is again a distribution, and its curvature is at most of the order of 1/eps. With
sigma = c'(z), u_k = c_k^{(1-q)/q}, S = sum u c and D = sum u sigma, Newton's step on the norm is
the one of `link`, and

    p = u sigma / D.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LN2, LOG2E, exp2, log2, log2_1p
from mgce_sklearn.kernels.lanes import (
    call_by_rows,
    load,
    n_lanes_for,
    subtract_maxima,
    unload,
)
from mgce_sklearn.kernels.link import move, newton_step

Array = NDArray[Any]


@jit
def _softplus(x, t, q, eps, c, sigma):
    """Fill c and sigma. Both are computed from e = exp(-|z| / eps), which does not overflow."""
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            w = (1.0 + q * (x[k, lane] - t[lane])) / eps
            e = exp2(-LOG2E * abs(w))
            c[k, lane] = eps * ((w if w > 0.0 else 0.0) + LN2 * log2_1p(e))
            sigma[k, lane] = (e if w < 0.0 else 1.0) / (1.0 + e)


@jit
def _powers(q, c, u):
    """Fill u with c^{(1-q)/q}; where q = 1 that is 1, even if c underflowed."""
    exponent = (1.0 - q) / q
    for k in range(c.shape[0]):
        for lane in range(c.shape[1]):
            u[k, lane] = exp2(exponent * log2(c[k, lane])) if exponent > 0.0 else 1.0


@jit
def _moments(c, sigma, u, S, D):
    """Turn u into u sigma, and sum u c and u sigma."""
    for lane in range(c.shape[1]):
        S[lane] = D[lane] = 0.0
    for k in range(c.shape[0]):
        for lane in range(c.shape[1]):
            S[lane] += u[k, lane] * c[k, lane]
            u[k, lane] *= sigma[k, lane]
            D[lane] += u[k, lane]


@jit
def _normalize(u, D):
    """Turn u into p."""
    for k in range(u.shape[0]):
        for lane in range(u.shape[1]):
            u[k, lane] /= D[lane]


@jit
def _excess(share, q, eps):
    """Compute (1 - z)/q for the z with c(z) = share: how far psi is above such a margin."""
    return (1.0 - share - eps * np.log1p(-np.exp(-share / eps))) / q


@jit
def _pass(margins, q, eps, psi, p):
    n_rows, n_classes = margins.shape
    n_lanes = n_lanes_for(n_classes)
    low = _excess(1.0, q, eps)
    high = _excess(n_classes**-q, q, eps)
    x = np.empty((n_classes, n_lanes))
    c, sigma, u = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    index = np.empty((0, 0), np.int32)
    count = np.empty(0, np.int64)
    top, t, step = np.empty(n_lanes), np.empty(n_lanes), np.empty(n_lanes)
    S, D = np.empty(n_lanes), np.empty(n_lanes)
    for start in range(0, n_rows, n_lanes):
        load(margins, start, x)
        subtract_maxima(x, top)
        for lane in range(n_lanes):
            t[lane] = low
        for _ in range(100):
            _softplus(x, t, q, eps, c, sigma)
            _powers(q, c, u)
            _moments(c, sigma, u, S, D)
            newton_step(q, S, D, step)
            if not move(t, step, low, high) > 1e-13 * max(1.0, abs(low)):
                break
        _normalize(u, D)
        for lane in range(min(n_lanes, n_rows - start)):
            psi[start + lane] = top[lane] + t[lane]
        unload(u, False, index, count, p, start)


def smoothed_threshold_and_gradient(
    margins: ArrayLike, q: float, eps: float
) -> tuple[Array, Array]:
    """Compute the smoothed threshold and its gradient p.

    Parameters
    ----------
    margins : array-like of shape (n, K)
    q : float in (0, 1]
        The rounding of z costs psi a relative error of some 1e-16/q.
    eps : float, positive
        Width of the smoothing, in units of z. psi_eps exceeds psi by at most eps ln(2) K^q / q.

    Returns
    -------
    psi : ndarray of shape (n,)
    p : ndarray of shape (n, K)
        Probabilities; each row sums to 1.
    """
    if not 0 < q <= 1:
        raise ValueError(f"q must be in (0, 1], got {q!r}: at q = 0 there is no edge to smooth.")
    if not 0 < eps < np.inf:
        raise ValueError(f"eps must be positive and finite, got {eps!r}.")
    psi, p = call_by_rows(_pass, margins, (float(q), float(eps)), 1)
    return psi, p
