"""Potentials: the convex function of margins that an objective averages over rows.

A potential psi is a convex function of the margins m of a row, with psi(m + c) = psi(m) + c for
every number c. Its gradient is a distribution p over classes. Its conjugate is minus a generalized
entropy, from which dual values are computed.

The protocol `Potential` has what every objective needs. Some solvers need more: `Smoothable`,
`Eliminable` and `Conic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mgce_sklearn import kernels
from mgce_sklearn.arrays import Array
from mgce_sklearn.interior_rows import MaximumRows, Rows, ThresholdRows
from mgce_sklearn.kernels import maximum

# For larger q, first-order steps come nearer to the solution on the potential of this q.
LARGEST_Q_OF_DESCENT = 0.8


class Potential(Protocol):
    """What an objective needs of a potential; arrays are class-major, (K, n)."""

    @property
    def smooth(self) -> bool:
        """Whether the second derivative is bounded, so that first-order steps close the gap."""

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n)."""

    def entropy(self, proba: Array) -> Array:
        """Return the generalized entropy (n,): psi(m) is the maximum of <p, m> + entropy(p)."""


class Smoothable(Potential, Protocol):
    """What "lbfgs" needs of a potential that is not smooth."""

    def smoothed(self, eps: float) -> Potential:
        """Return a smooth potential that is nowhere below this one, and not far above it.

        The distance vanishes as eps > 0 tends to 0. The gradient is a distribution too, so that it
        gives dual values of the problem without smoothing.
        """


class Eliminable(Potential, Protocol):
    """What "interior_point" needs of a potential."""

    def interior_rows(self, design: Any, n_classes: int, n_rows: int) -> Rows:
        """Return so many rows of the interior point method, with nothing in them yet."""


class Conic(Potential, Protocol):
    """What "cvxpy" needs of a potential."""

    def conic_program(self, cp: Any, margins: Any) -> tuple[Any, list[Any]]:
        """Return psi (n,) of an expression (K, n), and the constraints that define it.

        ``cp`` is the module cvxpy. The multipliers of the first constraint, if there are any,
        are p (K, n) up to a factor for each row.
        """


@dataclass(frozen=True)
class MGCEPotential:
    """Threshold of minimax generalized cross-entropy.

    Parameters
    ----------
    q : float
        Loss parameter in [0, 1].
    """

    q: float

    @property
    def smooth(self) -> bool:
        """Whether the second derivative is bounded: up to q = 1/2."""
        return self.q <= 0.5

    def descended(self) -> Potential:
        """Return a potential near this one, for first-order steps."""
        return type(self)(min(self.q, LARGEST_Q_OF_DESCENT))

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        return kernels.threshold(margins.T, self.q)

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and its gradient, the worst-case distribution p* (K, n)."""
        psi, proba = kernels.threshold_and_worst_case(margins.T, self.q)
        return psi, proba.T

    def rule(self, margins: Array) -> Array:
        """Return h (K, n)."""
        return kernels.rule(margins.T, self.q).T

    def entropy(self, proba: Array) -> Array:
        """Return H_q (n,)."""
        return kernels.entropy(proba.T, self.q)

    def smoothed(self, eps: float) -> Potential:
        """Return the potential with positive parts softened."""
        return SmoothedMGCEPotential(self, eps)

    def interior_rows(self, design: Any, n_classes: int, n_rows: int) -> ThresholdRows:
        """Return so many rows of the interior point method, with nothing in them yet."""
        state = design.barrier.new_rows(n_classes, n_rows)
        return ThresholdRows(self, state, design.barrier)

    def conic_program(self, cp: Any, margins: Any) -> tuple[Any, list[Any]]:
        """Return psi (n,) and the constraints that define it, with c = h^q.

        The cones depend on q: exponential at q = 0, where psi is a logsumexp, second-order at
        q = 1/2, linear at q = 1, and power cones otherwise.
        """
        q = float(self.q)
        if q == 0.0:
            return cp.log_sum_exp(margins, axis=0), []
        psi, c = cp.Variable(margins.shape[1]), cp.Variable(margins.shape, nonneg=True)
        above = c >= 1 + q * (margins - cp.reshape(psi, (1, psi.size), order="C"))
        if q == 1.0:
            return psi, [above, cp.sum(c, axis=0) <= 1]
        if q == 0.5:  # power cones are possible too, but are solved less accurately
            return psi, [above, cp.norm(c, 2, axis=0) <= 1]
        rule, ones = cp.Variable(margins.shape, nonneg=True), np.ones(c.size)
        cone = cp.PowCone3D(cp.vec(rule, order="C"), ones, cp.vec(c, order="C"), q * ones)
        return psi, [above, cone, cp.sum(rule, axis=0) <= 1]


@dataclass(frozen=True)
class SmoothedMGCEPotential:
    """`MGCEPotential` with positive parts z_+ softened to eps * softplus(z / eps).

    Parameters
    ----------
    sharp : MGCEPotential
        With q > 0.
    eps : float
        Width of the smoothing, positive.
    """

    sharp: MGCEPotential
    eps: float
    smooth = True

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        return self.value_and_gradient(margins)[0]

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n)."""
        psi, proba = kernels.smoothed_threshold_and_gradient(margins.T, self.sharp.q, self.eps)
        return psi, proba.T

    def entropy(self, proba: Array) -> Array:
        """Return H_q (n,), a lower bound: psi is above the sharp one, and so is its entropy."""
        return self.sharp.entropy(proba)


@dataclass(frozen=True)
class MaximumPotential:
    """Largest margin of a row: the potential of worst cases of a given rule."""

    smooth = False

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        return np.max(margins, axis=0)

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n), uniform over the largest margins."""
        psi = self.value(margins)
        largest = (margins == psi).astype(np.float64)
        return psi, largest / largest.sum(axis=0)

    def entropy(self, proba: Array) -> Array:
        """Return zeros (n,): the largest margin is the maximum of <p, m>."""
        return np.zeros(proba.shape[1])

    def smoothed(self, eps: float) -> Potential:
        """Return eps * logsumexp(m / eps)."""
        return SmoothedMaximumPotential(eps)

    def interior_rows(self, design: Any, n_classes: int, n_rows: int) -> MaximumRows:
        """Return so many rows of the interior point method, with nothing in them yet."""
        return MaximumRows(maximum.new_rows(n_classes, n_rows))

    def conic_program(self, cp: Any, margins: Any) -> tuple[Any, list[Any]]:
        """Return psi (n,) and the constraints that define it."""
        psi = cp.Variable(margins.shape[1])
        return psi, [cp.reshape(psi, (1, psi.size), order="C") >= margins]


@dataclass(frozen=True)
class SmoothedMaximumPotential:
    """eps * logsumexp(m / eps), which exceeds the largest margin by at most eps * log K.

    Parameters
    ----------
    eps : float
        Width of the smoothing, positive.
    """

    eps: float
    smooth = True

    def value(self, margins: Array) -> Array:
        """Return psi (n,)."""
        return self.value_and_gradient(margins)[0]

    def value_and_gradient(self, margins: Array) -> tuple[Array, Array]:
        """Return psi (n,) and p (K, n), the softmax of m / eps."""
        psi, proba = kernels.threshold_and_worst_case((margins / self.eps).T, 0.0)
        return self.eps * psi, proba.T

    def entropy(self, proba: Array) -> Array:
        """Return eps times Shannon's entropy (n,)."""
        return self.eps * kernels.entropy(proba.T, 0.0)
