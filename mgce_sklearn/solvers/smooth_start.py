"""Coefficients near the optimum, by a few steps of L-BFGS on a smoothed objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from mgce_sklearn.arrays import inner
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam

Array = np.ndarray[Any, Any]

# Below this size, in units of 1/(root mean square of the feature), |W| is rounded off.
SMOOTHING = 0.03

MEMORY = 10


def smooth_start(
    objective: Objective,
    n_iter: int,
    start: Any = None,
    team: RowTeam | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Any:
    """Minimise mean psi - <tau, W> + <half_width, sqrt(W² + eps²)>, roughly.

    Parameters
    ----------
    objective : Objective
    n_iter : int
        Steps of L-BFGS.
    start : ndarray or tensor of shape (C, d), default=None
        None: zeros.
    team : RowTeam, default=None
        Threads to share the rows.
    stop : callable, default=never
        Asked after every step whether to end.

    Returns
    -------
    coef : ndarray, or tensor where the rows are tensors, of shape (C, d)
    """
    design, half_width = objective.design, objective.uncertainty.half_width
    scale = design.column_scale
    rounding = SMOOTHING / scale

    def value_and_gradient(flat: Array) -> tuple[float, Array]:
        coef = design.put(flat.reshape(objective.shape)) / scale
        value, gradient, _ = objective.value_and_gradient(coef, team)
        size = (coef**2 + rounding**2) ** 0.5
        value += inner(half_width, size - abs(coef))
        gradient = (gradient + half_width * coef / size) / scale
        return value, design.fetch(gradient).ravel()

    first = np.zeros(int(np.prod(objective.shape)))
    if start is not None:
        first = design.fetch(start * scale).ravel()

    def look_up(_: Array) -> None:
        if stop():
            raise StopIteration

    found = minimize(
        value_and_gradient,
        first,
        jac=True,
        method="L-BFGS-B",
        callback=look_up,
        options={"maxiter": n_iter, "maxcor": MEMORY},
    )
    return design.put(found.x.reshape(objective.shape)) / scale
