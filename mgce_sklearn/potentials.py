"""Potentials: the noun that objectives, solvers and bounds turn on.

A potential is a convex function psi of a row of margins with psi(m + c) = psi(m) + c. Its
gradient is a distribution p over classes, and its Hessian has the form
(I - p 1ᵀ) diag(v) (I - 1 pᵀ), so that a row's second derivative is two vectors. Its conjugate
is minus a generalised entropy, from which dual values come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy.special import logsumexp, softmax

from mgce_sklearn import kernels

Array = np.ndarray[Any, Any]


class Potential(Protocol):
    """What an objective needs of a potential; arrays are class-major, (K, n)."""

    @property
    def smooth(self) -> bool:
        """Whether the curvature is bounded, so that first-order methods need no smoothing."""

    def smoothed(self, eps: float) -> Potential:
        """Return a potential at most about eps above this one, smooth for eps > 0."""

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n)."""

    def curvature(self, margins: Array) -> tuple[Array, Array, Array]:
        """Return psi (n,), p (K, n) and v (K, n)."""

    def entropy(self, proba: Array) -> Array:
        """Return the generalised entropy (n,), whose conjugate psi is."""


@dataclass(frozen=True)
class MGCEPotential:
    """Threshold of minimax generalised cross-entropy.

    Parameters
    ----------
    q : float
        Loss parameter in [0, 1].
    eps : float, default=0
        Smoothing: positive parts become eps * softplus(z / eps). The gradient stays a
        distribution, so it still gives dual values of the problem that is not smoothed.
    """

    q: float
    eps: float = 0.0

    @property
    def smooth(self) -> bool:
        """Whether the curvature is bounded: up to q = 1/2."""
        return self.q <= 0.5

    def smoothed(self, eps: float) -> MGCEPotential:
        """Return the same potential at another smoothing."""
        return replace(self, eps=eps)

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        if self.eps > 0.0:
            return self.curvature(margins)[0]
        return kernels.threshold(margins.T, self.q)

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and its gradient, the worst-case distribution p* (K, n)."""
        if self.eps > 0.0:
            return self.curvature(margins)[:2]
        psi, proba = kernels.threshold_and_worst_case(margins.T, self.q)
        return psi, proba.T

    def rule(self, margins: Array) -> Array:
        """Return h (K, n), of the potential that is not smoothed."""
        return kernels.rule(margins.T, self.q).T

    def curvature(self, margins: Array) -> tuple[Array, Array, Array]:
        """Return psi (n,), p* (K, n) and the curvature v (K, n)."""
        if self.eps > 0.0:
            psi, proba, v = kernels.smoothed_curvature(margins.T, self.q, self.eps)
        else:
            psi, proba, v = kernels.curvature(margins.T, self.q)
        return psi, proba.T, v.T

    def entropy(self, proba: Array) -> Array:
        """Return H_q (n,), of the potential that is not smoothed."""
        return kernels.entropy(proba.T, self.q)


@dataclass(frozen=True)
class MaximumPotential:
    """Largest margin of a row: the potential of worst cases of a given rule.

    Parameters
    ----------
    eps : float, default=0
        Smoothing: the maximum becomes eps * logsumexp(m / eps).
    """

    eps: float = 0.0

    @property
    def smooth(self) -> bool:
        """Whether the curvature is bounded: only if smoothed."""
        return False

    def smoothed(self, eps: float) -> MaximumPotential:
        """Return the same potential at another smoothing."""
        return replace(self, eps=eps)

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        if self.eps > 0.0:
            return self.eps * logsumexp(margins / self.eps, axis=0)
        return np.max(margins, axis=0)

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n): uniform over the largest margins, or their softmax."""
        psi = self.value(margins)
        if self.eps > 0.0:
            return psi, softmax(margins / self.eps, axis=0)
        largest = (margins == psi).astype(np.float64)
        return psi, largest / largest.sum(axis=0)

    def curvature(self, margins: Array) -> tuple[Array, Array, Array]:
        """Return psi (n,), p (K, n) and v (K, n)."""
        psi, proba = self.value_and_gradient(margins)
        v = proba / self.eps if self.eps > 0.0 else np.zeros_like(proba)
        return psi, proba, v

    def entropy(self, proba: Array) -> Array:
        """Return zeros (n,): the largest margin is the maximum of <p, m> alone."""
        return np.zeros(proba.shape[1])
