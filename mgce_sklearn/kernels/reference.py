"""The formulas of the kernels in plain numpy, slow and obvious. Tests compare both.

No code is shared with the fast kernels, so that the same error cannot be in both. Every root is
found by 200 bisections.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BISECTIONS = 200


def bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Find the root of a decreasing function, row by row, between low and high."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def _power(base: Array, exponent: float) -> Array:
    """Raise positive numbers to a power. Zeros stay zero for any power."""
    positive = base > 0
    return np.where(positive, np.where(positive, base, 1.0) ** exponent, 0.0)


def rule_at(psi: Array, margins: Array, q: float) -> Array:
    """Compute h_k = (1 + q (m_k - psi))_+^{1/q}, for any psi."""
    difference = margins - psi[:, None]
    if q < 1e-100:  # the limit; products with a subnormal q would have lost their digits
        return np.exp(difference)
    support = q * difference > -1
    inside = np.where(support, difference, 0.0)
    return np.where(support, np.exp(np.log1p(q * inside) / q), 0.0)


def threshold(margins: Array, q: float) -> Array:
    """Compute psi, where the rule sums to 1.

    At max m one class alone makes the sum 1 or more; ln K above it, each class is at most
    1/K (and at q = 1 no class is left above max m + 1 - 1/K, which is smaller).
    """
    top = margins.max(axis=1)
    shifted = margins - top[:, None]
    high = np.full_like(top, np.log(margins.shape[1]) + 1e-3)
    excess = bisect(lambda psi: rule_at(psi, shifted, q).sum(axis=1) - 1, 0 * top, high)
    return top + excess


def rule(margins: Array, q: float) -> Array:
    """Compute h, the classification rule."""
    shifted = margins - margins.max(axis=1, keepdims=True)
    return rule_at(threshold(shifted, q), shifted, q)


def worst_case(margins: Array, q: float) -> Array:
    """Compute p*_k, proportional to h_k^{1-q} on the support."""
    powers = _power(rule(margins, q), 1 - q)
    return powers / powers.sum(axis=1, keepdims=True)


def curvature(margins: Array, q: float) -> Array:
    """Compute v_k = (1 - q) h_k^{1-2q} / sum_j h_j^{1-q}."""
    h = rule(margins, q)
    return (1 - q) * _power(h, 1 - 2 * q) / _power(h, 1 - q).sum(axis=1, keepdims=True)


def hessian(p: Array, v: Array) -> Array:
    """Compute (I - p 1ᵀ) diag(v) (I - 1 pᵀ) for every row, shape (n, K, K)."""
    center = np.eye(p.shape[1]) - p[:, :, None]
    return np.einsum("nij,nj,nkj->nik", center, v, center)


def smoothed_threshold(margins: Array, q: float, eps: float) -> Array:
    """Compute the root in psi of sum_k c_k^{1/q} = 1, c = eps softplus(z / eps)."""

    def total(psi: Array) -> Array:
        z = 1 + q * (margins - psi[:, None])
        return ((eps * np.logaddexp(0, z / eps)) ** (1 / q)).sum(axis=1) - 1

    top = margins.max(axis=1)
    reach = (1 + eps * 800) / q
    return bisect(total, top - reach, top + reach)


def smoothed_gradient(margins: Array, q: float, eps: float) -> Array:
    """Compute p = f'(z) / sum f'(z) of the smoothed threshold, f(z) = c(z)^{1/q}, c' = sigma."""
    z = 1 + q * (margins - smoothed_threshold(margins, q, eps)[:, None])
    c = eps * np.logaddexp(0, z / eps)
    sigma = np.exp(-np.logaddexp(0, -z / eps))
    slope = _power(c, 1 / q - 1) * sigma
    return slope / slope.sum(axis=1, keepdims=True)


def entropy(p: Array, q: float) -> Array:
    """Compute (1 - ||p||_{1/(1-q)}) / q, Shannon's entropy at 0 and 1 - max p at 1.

    The norm is near 1 where q is small: ||p||^{1/(1-q)} - 1 = sum p (p^{q/(1-q)} - 1).
    """
    logarithm = np.log(np.where(p > 0, p, 1.0))
    top = p.max(axis=1)
    if q == 0:
        return -(p * logarithm).sum(axis=1)
    if q == 1:
        return 1 - top
    if q <= 0.5:
        excess = (p * np.expm1(q / (1 - q) * logarithm)).sum(axis=1)
        return -np.expm1((1 - q) * np.log1p(excess)) / q
    return (1 - top * _power(p / top[:, None], 1 / (1 - q)).sum(axis=1) ** (1 - q)) / q


def soft_threshold(x: Array, width: Array) -> Array:
    """Compute argmin_w (w - x)² / 2 + width |w|, component by component."""
    return np.sign(x) * np.maximum(np.abs(x) - width, 0)


def sides(X: Array, rows: Array, weights: Array) -> tuple[Array, Array]:
    """Compute the sums over i of what is positive in w_i x_ij r_ik, and of what is negative."""
    parts = np.einsum("i,ij,ik->ijk", weights, X, rows)
    return parts.clip(min=0).sum(axis=0), (-parts).clip(min=0).sum(axis=0)


def largest_share(X: Array, rows: Array, shares: Array) -> Array:
    """Compute the largest |share_jk| of every row where x_ij r_ik has the sign of share_jk."""
    pushed = np.einsum("ij,ik,jk->ijk", X, rows, shares) > 0
    return np.where(pushed, np.abs(shares), 0.0).max(axis=(1, 2))
