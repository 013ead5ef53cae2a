"""Coefficients near the optimum, found quickly and without a duality gap.

With W = U - V and U, V >= 0 the penalty is linear, <half_width, U + V>, so the objective is smooth.
L-BFGS with bounds (Byrd, Lu, Nocedal and Zhu 1995) minimizes it, in coordinates where features have
unit size. Zero coefficients are exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import fmin_l_bfgs_b

from mgce_sklearn.arrays import Array
from mgce_sklearn.objective import Objective

# Coefficients are rounded to this number of binary digits of the largest one. If the same rows come
# in another order, rounding errors grow from step to step, to differences of 1e-7 or somewhat more.
# After rounding, the coefficients are mostly equal.
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
        Potentials that are not smooth are not smoothed here.
    least_gain : float
        Stop after a step that lowers the value by less than this times max(1, value).
    most_gradients : int
        Largest number of gradients, each one pass over the rows. The last step may add a few.
    stop : callable, default=never
        Called after every step; returns whether to stop.
    start : ndarray or Tensor of shape (C, d), default=None
        Coefficients to begin at. None: zeros.

    Returns
    -------
    coef : ndarray or Tensor of shape (C, d)
    n_gradients : int
        Number of gradients computed.
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

    def check_stop(_: Array) -> None:
        if stop():
            raise StopIteration

    with objective.opened() as objective:

        def value_and_gradient(parts: Array) -> tuple[float, Array]:
            coef = coef_of(parts)
            value, gradient = objective.value_and_slope(coef)
            slope = design.fetch(gradient) / scale
            # If both parts of a coefficient are positive, the penalty is that of their sum.
            excess = np.minimum(parts[:n], parts[n:]) @ half_width.ravel()
            return value + 2.0 * excess, np.stack([half_width + slope, half_width - slope]).ravel()

        # `scipy.optimize.minimize` converts the bounds of every variable in Python, which is slow.
        parts, _, info = fmin_l_bfgs_b(
            value_and_gradient,
            first,
            bounds=np.broadcast_to((0.0, np.inf), (2 * n, 2)),
            factr=least_gain / np.finfo(float).eps,
            pgtol=0.0,
            maxfun=most_gradients,
            callback=check_stop,
        )
    return coef_of(_rounded(parts)), info["funcalls"]


def _rounded(parts: Array) -> Array:
    unit = 2.0 ** (np.frexp(parts.max(initial=0.0))[1] - DIGITS)
    return np.round(parts / unit) * unit
