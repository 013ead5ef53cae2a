"""Potentials: the noun that objectives, solvers and bounds turn on.

A potential is a convex function psi of a row of margins, given by an implicit equation
sum_k f(1 + q (m_k - psi)) = 1. Its gradient is a distribution p over classes, and its
Hessian has the form (I - p 1ᵀ) diag(v) (I - 1 pᵀ), so that a row's second derivative is
two vectors. Its conjugate is minus a generalised entropy, from which dual values come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from mgce_sklearn import kernels

Array = np.ndarray[Any, Any]


class Potential(Protocol):
    """What an objective needs of a potential; arrays are class-major, (K, n)."""

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

    def smoothed(self, eps: float) -> MGCEPotential:
        """Return the same potential at another smoothing."""
        return replace(self, eps=eps)
