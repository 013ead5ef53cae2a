"""The uncertainty set: the one place where labels enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.design import Design

Array = np.ndarray[Any, Any]

ROUNDING = 1e-14


def n_coefficient_rows(n_classes: int) -> int:
    """Return the number C of classes that have coefficients: of two only the second."""
    return 1 if n_classes == 2 else n_classes


class Moments(NamedTuple):
    """What the uncertainty set needs to know of labelled rows.

    Attributes
    ----------
    total_weight : float
    mean, mean_square, support : ndarrays of shape (K, d)
        Weighted means of onehot(y) ⊗ x, of its square, and of where it is not 0.
    """

    total_weight: float
    mean: Array
    mean_square: Array
    support: Array

    @classmethod
    def of(cls, design: Design, codes: Array, n_classes: int) -> Moments:
        """Compute the moments of labelled rows."""
        return cls(design.total_weight, *design.class_moments(codes, n_classes))

    @classmethod
    def none(cls, n_classes: int, n_features: int) -> Moments:
        """Return the moments of no rows."""
        return cls(0.0, *np.zeros((3, n_classes, n_features)))

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both parts together."""
        total = self.total_weight + other.total_weight
        share = other.total_weight / total
        return Moments(
            total, *(a + share * (b - a) for a, b in zip(self[1:], other[1:], strict=True))
        )

    def column_scale(self) -> Array:
        """Return the root mean square of each feature (d,)."""
        return np.sqrt(self.mean_square.sum(axis=0))


@dataclass(frozen=True)
class UncertaintySet:
    r"""Distributions whose feature means lie near those of the sample.

    .. math:: \{ P : |E_P[\Phi(x, y)] - \tau| \le \lambda, \; P_x = \text{sample's } x \},
              \quad \Phi(x, y) = \text{onehot}(y) \otimes x

    Parameters
    ----------
    tau : ndarray of shape (K, d)
        Mean of the feature map over the sample, in units of the feature.
    half_width : ndarray of shape (K, d)
        Half-widths, non-negative, in units of the feature.

    Notes
    -----
    The last column belongs to the intercept's constant feature where there is one.
    """

    tau: Array
    half_width: Array

    @classmethod
    def from_sample(
        cls, design: Design, codes: Array, n_classes: int, lam: float
    ) -> UncertaintySet:
        r"""Estimate means and standard-error widths from labelled rows.

        .. math:: \tau = \operatorname{mean} \Phi, \quad
                  \sigma^2 = \operatorname{mean} \Phi^2 - \tau^2, \quad
                  \lambda = \text{lam} \, \sigma / \sqrt{n}

        with weighted means and n the sum of the weights, so that a weight of 2 equals the
        same row twice. A feature never seen with a class has sigma = 0, and a width of zero
        would claim that it never will be: it gets one pseudo-observation instead,
        :math:`\sigma_{kj} = r_j / \sqrt n`, with r_j the root mean square of the feature's
        non-zero values.

        Parameters
        ----------
        design : Design
        codes : ndarray of shape (n,)
            Class of each row, 0 to n_classes - 1.
        n_classes : int
        lam : float
            Half-width in standard errors.
        """
        return cls.from_moments(Moments.of(design, codes, n_classes), lam)

    @classmethod
    def from_moments(cls, moments: Moments, lam: float) -> UncertaintySet:
        """Estimate the same from the moments of the rows."""
        mean, mean_square, support = moments.mean, moments.mean_square, moments.support
        n = moments.total_weight
        variance = mean_square - mean**2
        # What rounding leaves of a feature that is constant in a class of weight 1 is 0.
        sigma = np.sqrt(np.where(variance > ROUNDING * mean_square, variance, 0.0))
        square, occupied = mean_square.sum(axis=0), support.sum(axis=0)
        pseudo = np.sqrt(square / np.where(occupied > 0, occupied, 1.0) / n)
        half_width = lam / np.sqrt(n) * np.where(sigma > 0, sigma, pseudo)
        return cls(tau=mean, half_width=half_width)

    def widened(self, factor: float) -> UncertaintySet:
        """Return the set with every half-width multiplied by a factor.

        The set of one standard error, widened by lam, is that of lam standard errors: a path
        over lam reads the data once.
        """
        return UncertaintySet(self.tau, factor * self.half_width)

    def of_coefficients(self, mean: Array | None = None) -> UncertaintySet:
        """Return the set of what has coefficients: of two classes the second, else all.

        Parameters
        ----------
        mean : ndarray of shape (d,), default=None
            Mean of the features. None: that of the sample, the sum of tau over classes.
        """
        n_classes = len(self.tau)
        return self.binary(mean) if n_coefficient_rows(n_classes) < n_classes else self

    def binary(self, mean: Array | None = None) -> UncertaintySet:
        """Reduce two classes to the coefficients of the second, the first held at zero.

        The potential depends on the difference w = W_1 - W_0 alone. Of all ways to split w,
        the cheapest puts it where the half-width is smaller, so min(lambda_0, lambda_1) on w
        gives the same optimum as both widths on W_0 and W_1. With another mean of the features
        than the sample's, the two intervals of the second class' mean no longer have the same
        centre, and what they have in common remains.
        """
        if mean is None:
            return UncertaintySet(self.tau[1:], self.half_width.min(axis=0, keepdims=True))
        first, second = self.tau
        center = np.stack([mean - first, second])
        low = np.max(center - self.half_width, axis=0, keepdims=True)
        high = np.min(center + self.half_width, axis=0, keepdims=True)
        return UncertaintySet((low + high) / 2.0, (high - low) / 2.0)
