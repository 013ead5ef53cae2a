"""Threshold and worst case of rows of float32, computed in float32: for networks.

The steps are those of `link`, which computes in float64 and rounds at the end. A network's margins
are rounded anyway, and in float32 a vector instruction has twice as many numbers. Only sums over
classes are in float64. psi has a relative error of some 1e-6. So has p*, except for classes at the
edge of the support at q > 1/2, where an error of z is magnified in any precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LOG2E, exp2_single, log2_1p_single
from mgce_sklearn.kernels.lanes import (
    gather,
    load,
    loss_parameter,
    n_lanes_for,
    subtract_maxima,
    unload,
)
from mgce_sklearn.kernels.link import move, newton_step

Array = NDArray[Any]

LOG2E_SINGLE = np.float32(LOG2E)
ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)

# Steps end when they are this small: then the error is of the order of their square, and where
# the norm is not smooth (q > 1/2) of a part of it.
LAST_STEP = 1e-4


@jit
def _powers(x, t, q, u):
    """Fill u with z^{(1-q)/q}, which at q = 0 is e^(m - psi)."""
    n_groups, n_lanes = x.shape
    for k in range(n_groups):
        if q == ZERO:
            for lane in range(n_lanes):
                u[k, lane] = exp2_single(LOG2E_SINGLE * (x[k, lane] - t[lane]))
        elif q == HALF:
            for lane in range(n_lanes):
                z = ONE + HALF * (x[k, lane] - t[lane])
                u[k, lane] = ZERO if z < ZERO else z
        elif q == ONE:
            for lane in range(n_lanes):
                z = ONE + x[k, lane] - t[lane]
                u[k, lane] = ONE if z > ZERO else (ZERO if z <= ZERO else z)
    if q in (ZERO, HALF, ONE):
        return
    exponent = (ONE - q) / q
    for k in range(n_groups):
        for lane in range(n_lanes):
            u[k, lane] = exponent * log2_1p_single(q * (x[k, lane] - t[lane]))
    for k in range(n_groups):
        for lane in range(n_lanes):
            u[k, lane] = exp2_single(u[k, lane])


@jit
def _moments(x, t, q, u, S, D):
    """Sum u z and u."""
    for lane in range(x.shape[1]):
        S[lane] = D[lane] = 0.0
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            z = ONE + q * (x[k, lane] - t[lane])
            z = ZERO if z < ZERO else z
            z = ONE if q == ZERO else z  # not zero times infinity
            D[lane] += u[k, lane]
            S[lane] += u[k, lane] * z


@jit
def _solve(x, u, t, t_single, step, q, high, S, D):
    """Find t, and u and D as they are there."""
    q_single = np.float32(q)
    for lane in range(t.shape[0]):
        t[lane] = t_single[lane] = 0.0
    for _ in range(50):
        _powers(x, t_single, q_single, u)
        _moments(x, t_single, q_single, u, S, D)
        newton_step(q, S, D, step)
        longest = move(t, step, 0.0, high)
        for lane in range(t.shape[0]):
            t_single[lane] = t[lane]
        if not longest > LAST_STEP or q == 0.0:
            break
    _powers(x, t_single, q_single, u)
    for lane in range(t.shape[0]):
        D[lane] = 0.0
    for k in range(x.shape[0]):
        for lane in range(x.shape[1]):
            D[lane] += u[k, lane]


@jit
def _pass(margins, q, psi, p):
    n_rows, n_classes = margins.shape
    n_lanes = n_lanes_for(n_classes)
    high = np.log(n_classes) if q == 0.0 else -np.expm1(-q * np.log(n_classes)) / q
    cut = -1.0 / q if q > 0.0 else -np.inf
    all_x = np.empty((n_classes, n_lanes), np.float32)
    all_u = np.empty((n_classes, n_lanes), np.float32)
    index = np.empty((n_classes, n_lanes), np.int32)
    count = np.empty(n_lanes, np.int64)
    top, t_single = np.empty(n_lanes, np.float32), np.empty(n_lanes, np.float32)
    t, step, S, D = np.empty(n_lanes), np.empty(n_lanes), np.empty(n_lanes), np.empty(n_lanes)
    scale = np.empty(n_lanes, np.float32)
    for start in range(0, n_rows, n_lanes):
        load(margins, start, all_x)
        subtract_maxima(all_x, top)
        n_kept = gather(all_x, cut, index, count)
        n_groups = n_kept if n_kept > 0 else n_classes
        x, u = all_x[:n_groups], all_u[:n_groups]
        _solve(x, u, t, t_single, step, q, high, S, D)
        for lane in range(min(n_lanes, n_rows - start)):
            psi[start + lane] = top[lane] + t[lane]
        for lane in range(n_lanes):
            scale[lane] = 1.0 / D[lane]
        for k in range(n_groups):
            for lane in range(n_lanes):
                u[k, lane] *= scale[lane]
        unload(u, n_kept > 0, index, count, p, start)


def threshold_and_worst_case_single(margins: Array, q: float, out: tuple[Array, Array]) -> None:
    """Compute psi and its gradient p* in one pass, in single precision.

    Parameters
    ----------
    margins : ndarray of shape (n, K), float32, C-ordered
    q : float in [0, 1]
    out : (ndarray of shape (n,), ndarray of shape (n, K))
        Memory for the results, float32 and C-ordered.
    """
    _pass(margins, loss_parameter(q), *out)
