"""A dual point of sparse rows, moved toward the labels row by row.

One theta for all rows is what the worst of the constraints allows. Where rows are sparse, few have
a part in most constraints, those of a rare word for one, and the others need not move.

Rows r_i = theta_i (p_i - onehot(y_i)) push a coordinate of mean r_i ⊗ x_i up or down. Where the
mean is beyond its half-width, what pushes it there must shrink by a share of

    1 - (half_width + what pushes back) / what pushes there,

and so each row is lowered by the largest share among the coordinates that it pushes the wrong way.
What pushes back shrinks as well, which leaves something for the next round, and in the end for one
theta of all rows: that of `Objective.dual_point`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.objective import Columns, Objective, columns_of, normalized

# What they leave undone costs about a thousandth of the value.
ROUNDS = 3

TINY = np.finfo(np.float64).tiny


def can_move(objective: Objective) -> bool:
    """Tell whether there are labels to move to, and rows that have a part in few constraints."""
    return objective.labels is not None and objective.design.sparse


def moved_by_rows(objective: Objective, proba: Columns) -> Callable[[slice], Array]:
    """Return a point (K, n) between ``proba`` and the labels that is feasible, or nearly so.

    Parameters
    ----------
    objective : Objective
        That `can_move`.
    proba : ndarray of shape (K, n), or a function of the rows wanted
    """
    design = objective.design
    labels: Any = objective.labels  # asked for where they are known
    way = np.empty((design.n_rows, objective.shape[0]))
    for rows in design.blocks(width=objective.n_classes):
        columns = normalized(columns_of(proba, rows))
        labels.add_to(columns, -1.0, rows)
        way[rows] = columns[objective.first_class :].T
    shares = row_shares(objective, way)

    def moved(rows: slice) -> Array:
        columns = normalized(columns_of(proba, rows)) * shares[rows]
        labels.add_to(columns, 1.0 - shares[rows], rows)
        return columns

    return moved


def row_shares(objective: Objective, way: Array) -> Array:
    """Return the theta (n,) of each row, for the way (n, C) from its label to p."""
    shares, width = np.ones(len(way)), objective.uncertainty.half_width.T
    for _ in range(ROUNDS):
        up, down = objective.design.sides(way, shares)
        beyond = soft_threshold(up - down, width)
        if not beyond.any():
            break
        beyond /= np.maximum(up, down).clip(min=TINY)
        shares *= 1.0 - objective.design.largest_share(way, beyond)
    return shares
