"""Coefficients near the optimum for a fixed number of gradients, without a certificate.

W = U - V with U, V >= 0 makes the penalty linear, <half_width, U + V>, and L-BFGS with bounds
(Byrd, Lu, Nocedal and Zhu 1995) minimises what is then smooth, in coordinates where features have
unit size. Zeros are exact.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import fmin_l_bfgs_b

from mgce_sklearn.arrays import Array
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import one_blas_thread


@one_blas_thread()
def approximate(objective: Objective, n_gradients: int) -> Array:
    """Minimise an objective from zero as far as some gradients go.

    Parameters
    ----------
    objective : Objective
        Not smooth potentials are taken as they are.
    n_gradients : int
        Passes over the rows, save for those that the last step may take more.

    Returns
    -------
    ndarray or Tensor of shape (C, d)
    """
    design, shape = objective.design, objective.shape
    scale = design.fetch(design.column_scale)
    half_width = design.fetch(objective.uncertainty.half_width) / scale
    n = half_width.size

    def coef_of(parts: Array) -> Array:
        return design.put((parts[:n] - parts[n:]).reshape(shape) / scale)

    with objective.team() as team:

        def value_and_gradient(parts: Array) -> tuple[float, Array]:
            coef = coef_of(parts)
            value, gradient, _ = objective.value_and_gradient(coef, team)
            slope = design.fetch(gradient) / scale
            # The penalty of a coefficient is that of its parts, which may both be positive.
            excess = np.minimum(parts[:n], parts[n:]) @ half_width.ravel()
            return value + 2.0 * excess, np.stack([half_width + slope, half_width - slope]).ravel()

        # `scipy.optimize.minimize` would turn the bounds of every variable to and fro in Python.
        parts, _, _ = fmin_l_bfgs_b(
            value_and_gradient,
            np.zeros(2 * n),
            bounds=np.broadcast_to((0.0, np.inf), (2 * n, 2)),
            factr=0.0,
            pgtol=1e-8,
            maxfun=n_gradients,
        )
    return coef_of(parts)
