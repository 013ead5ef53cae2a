"""The generalized entropy H_q, conjugate of the threshold: psi(m) = max_p <p, m> + H_q(p)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgce_sklearn.kernels.compilation import jit
from mgce_sklearn.kernels.elementary import LN2, exp2, exp2m1, log2, log2_1p
from mgce_sklearn.kernels.lanes import call_by_rows, load, loss_parameter, n_lanes_for

Array = NDArray[Any]


@jit
def _shannon(p, total):
    """Fill total with -sum p ln p; the logarithm of zero and of subnormal numbers is -inf."""
    for k in range(p.shape[0]):
        for lane in range(p.shape[1]):
            logarithm = log2(p[k, lane])
            total[lane] -= 0.0 if logarithm == -np.inf else LN2 * (p[k, lane] * logarithm)


@jit
def _near_shannon(p, q, total):
    """Fill total with H_q for q <= 1/2, without a difference of close numbers.

    As sum p = 1, the sum of powers is 1 + s with s = sum p (p^{q/(1-q)} - 1).
    """
    exponent = q / (1.0 - q)
    for k in range(p.shape[0]):
        for lane in range(p.shape[1]):
            total[lane] += p[k, lane] * exp2m1(exponent * log2(p[k, lane]))
    for lane in range(p.shape[1]):
        total[lane] = -exp2m1((1.0 - q) * log2_1p(total[lane])) / q


@jit
def _near_maximum(p, q, top, total):
    """Fill total with H_q for q > 1/2, with the largest p taken out of the norm."""
    for k in range(p.shape[0]):
        for lane in range(p.shape[1]):
            larger = (p[k, lane] > top[lane]) | (p[k, lane] != p[k, lane])
            top[lane] = p[k, lane] if larger else top[lane]
    if q < 1.0:
        exponent = 1.0 / (1.0 - q)
        for k in range(p.shape[0]):
            for lane in range(p.shape[1]):
                total[lane] += exp2(exponent * log2(p[k, lane] / top[lane]))
        for lane in range(p.shape[1]):
            top[lane] *= exp2((1.0 - q) * log2(total[lane]))
    for lane in range(p.shape[1]):
        total[lane] = (1.0 - top[lane]) / q


@jit
def _pass(rows, q, entropies):
    n_rows, n_classes = rows.shape
    n_lanes = n_lanes_for(n_classes)
    p = np.empty((n_classes, n_lanes))
    top, total = np.empty(n_lanes), np.empty(n_lanes)
    for start in range(0, n_rows, n_lanes):
        load(rows, start, p)
        for lane in range(n_lanes):
            top[lane] = total[lane] = 0.0
        if q == 0.0:
            _shannon(p, total)
        elif q <= 0.5:
            _near_shannon(p, q, total)
        else:
            _near_maximum(p, q, top, total)
        for lane in range(min(n_lanes, n_rows - start)):
            entropies[start + lane] = total[lane]


def entropy(p: ArrayLike, q: float) -> Array:
    """Compute the generalized entropy H_q(p) = (1 - ‖p‖_{1/(1-q)}) / q of every row.

    Shannon's entropy at q = 0, and 1 - max p at q = 1. It is the least expected loss of a
    classification rule when the labels have distribution p.

    Parameters
    ----------
    p : array-like of shape (n, K)
        Distributions. Rows must sum to 1: the formula for small q relies on it.
    q : float in [0, 1]

    Returns
    -------
    ndarray of shape (n,)
    """
    return call_by_rows(_pass, p, (loss_parameter(q),), 0)[0]
