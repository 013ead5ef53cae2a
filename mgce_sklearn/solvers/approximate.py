"""Coefficients near the optimum, soon and without a certificate.

W = U - V with U, V >= 0 makes the penalty linear, <half_width, U + V>, and L-BFGS with bounds
(Byrd, Lu, Nocedal and Zhu 1995) minimizes what is then smooth, in coordinates where features have
unit size. Zeros are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import fmin_l_bfgs_b

from mgce_sklearn.arrays import Array
from mgce_sklearn.objective import Objective

# Digits, in base 2, of the largest coefficient that are kept. Steps turn errors of rounding into
# differences of 1e-7 between fits of the same rows in another order, and these have some more.
DIGITS = 16


def approximate(
    objective: Objective,
    least_gain: float,
    most_gradients: int,
    stop: Callable[[], bool] = lambda: False,
    start: Array | None = None,
) -> tuple[Array, int]:
    """Minimize an objective until steps gain little.

    Parameters
    ----------
    objective : Objective
        Potentials that are not smooth are taken as they are.
    least_gain : float
        A step that lowers the value by less is the last; a share of values above 1.
    most_gradients : int
        So many passes over the rows, save for those that the last step may take more.
    stop : callable, default=never
        Asked after every step whether to end.
    start : ndarray or Tensor of shape (C, d), default=None
        None: zeros.

    Returns
    -------
    coef : ndarray or Tensor of shape (C, d)
    n_gradients : int
    """
    design, shape = objective.parts.like, objective.shape
    scale = design.fetch(objective.parts.column_scale)
    half_width = design.fetch(objective.uncertainty.half_width) / scale
    n = half_width.size

    def coef_of(parts: Array) -> Array:
        return design.put((parts[:n] - parts[n:]).reshape(shape) / scale)

    first = np.zeros(2 * n)
    if start is not None:
        scaled = (design.fetch(start) * scale).ravel()
        first = np.concatenate([scaled.clip(min=0.0), (-scaled).clip(min=0.0)])

    def look_up(_: Array) -> None:
        if stop():
            raise StopIteration

    with objective.opened() as objective:

        def value_and_gradient(parts: Array) -> tuple[float, Array]:
            coef = coef_of(parts)
            value, gradient = objective.value_and_slope(coef)
            slope = design.fetch(gradient) / scale
            # The penalty of a coefficient is that of its parts, which may both be positive.
            excess = np.minimum(parts[:n], parts[n:]) @ half_width.ravel()
            return value + 2.0 * excess, np.stack([half_width + slope, half_width - slope]).ravel()

        # `scipy.optimize.minimize` would turn the bounds of every variable to and fro in Python.
        parts, _, told = fmin_l_bfgs_b(
            value_and_gradient,
            first,
            bounds=np.broadcast_to((0.0, np.inf), (2 * n, 2)),
            factr=least_gain / np.finfo(float).eps,
            pgtol=0.0,
            maxfun=most_gradients,
            callback=look_up,
        )
    return coef_of(_rounded(parts)), told["funcalls"]


def _rounded(parts: Array) -> Array:
    unit = 2.0 ** (np.frexp(parts.max(initial=0.0))[1] - DIGITS)
    return np.round(parts / unit) * unit
