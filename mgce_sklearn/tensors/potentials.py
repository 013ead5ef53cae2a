"""`MGCEPotential` and its smoothed form for margins that are tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mgce_sklearn.potentials import MGCEPotential, Potential, SmoothedMGCEPotential
from mgce_sklearn.tensors.link import mgce_proba, newton_direction, solve

# Steps of Newton's method between two checks of whether they have become small, and most checks.
STEPS_PER_CHECK = 8
MOST_CHECKS = 12


@dataclass(frozen=True)
class TensorMGCEPotential(MGCEPotential):
    """`potentials.MGCEPotential`, with arrays (K, n) that are tensors."""

    def value(self, margins: Tensor) -> Tensor:
        """Return psi (n,)."""
        return self.value_and_gradient(margins)[0]

    def value_and_gradient(self, margins: Tensor) -> tuple[Tensor, Tensor]:
        """Return psi (n,) and its gradient, the worst-case distribution p* (K, n)."""
        psi, worst_case = solve(margins.T, self.q)
        return psi, worst_case.T

    def rule(self, margins: Tensor) -> Tensor:
        """Return h (K, n)."""
        return mgce_proba(margins.T, self.q).T

    def entropy(self, proba: Tensor) -> Tensor:
        """Return H_q (n,)."""
        q = self.q
        if q == 0.0:
            return torch.special.entr(proba).sum(dim=0)
        if q <= 0.5:
            # This avoids a difference of close numbers. Since sum p = 1, the sum of powers is
            # 1 + s, where s = sum p (p^{q/(1-q)} - 1).
            s = torch.sum(proba * torch.expm1(q / (1.0 - q) * torch.log(proba)), dim=0)
            return -torch.expm1((1.0 - q) * torch.log1p(s)) / q
        top = proba.amax(dim=0)
        if q == 1.0:
            return 1.0 - top
        norm = top * torch.sum((proba / top) ** (1.0 / (1.0 - q)), dim=0) ** (1.0 - q)
        return (1.0 - norm) / q

    def smoothed(self, eps: float) -> Potential:
        """Return the potential with softplus in place of positive parts."""
        return TensorSmoothedMGCEPotential(self, eps)


@dataclass(frozen=True)
class TensorSmoothedMGCEPotential(SmoothedMGCEPotential):
    """`potentials.SmoothedMGCEPotential`, with arrays (K, n) that are tensors."""

    def value_and_gradient(self, margins: Tensor) -> tuple[Tensor, Tensor]:
        """Return psi (n,) and p (K, n); see `kernels.smoothed`."""
        q, eps = self.sharp.q, self.eps
        top = margins.amax(dim=0)
        z_at_top = 1.0 + q * (margins - top)
        low, high = (_excess(total, q, eps) for total in (1.0, float(len(margins)) ** -q))
        t = torch.full_like(top, low)
        # In a long bracket the rounding of z is larger, and so is the tolerance.
        tolerance = 1e-13 * max(1.0, abs(low))
        for _ in range(MOST_CHECKS):
            for _ in range(STEPS_PER_CHECK):
                c, sigma = _softplus(z_at_top - q * t, eps)
                u = c ** ((1.0 - q) / q)
                step = newton_direction(torch.sum(u * c, dim=0), torch.sum(u * sigma, dim=0), q)
                before, t = t, (t + step).clamp(low, high)
            if not bool(torch.any(abs(t - before) > tolerance)):
                break
        c, sigma = _softplus(z_at_top - q * t, eps)
        p = c ** ((1.0 - q) / q) * sigma
        return top + t, p / p.sum(dim=0)


def _softplus(z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return c = eps softplus(z / eps), and its derivative sigma.

    For z / eps > 40, c equals z to the last digit.
    """
    return eps * softplus(z / eps, threshold=40.0), torch.sigmoid(z / eps)


def _excess(total: float, q: float, eps: float) -> float:
    """Return (1 - z)/q for the z with c(z) = total: how far psi is above such a margin."""
    return (1.0 - total - eps * math.log1p(-math.exp(-total / eps))) / q
