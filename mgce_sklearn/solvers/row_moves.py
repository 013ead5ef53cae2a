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

from functools import partial
from typing import Any

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.objective import Objective, normalized
from mgce_sklearn.parts import Columns, Held, Kept, Part, once

# What they leave undone costs about a thousandth of the value.
ROUNDS = 3

TINY = np.finfo(np.float64).tiny


def can_move(objective: Objective) -> bool:
    """Tell whether there are labels to move to, and rows that have a part in few constraints."""
    return objective.labeled and objective.parts.like.sparse


def moved_by_rows(objective: Objective, p: Columns) -> Columns:
    """Return a point (K, n) between ``p`` and the labels that is feasible, or nearly so.

    Parameters
    ----------
    objective : Objective
        That `can_move`.
    p : Columns
        Distributions (K, n).
    """
    parts = objective.parts
    way = parts.held()
    parts.over(partial(_ways, p, objective.first_class, way), features=False)
    return partial(_moved, p, row_thetas(objective, way))


def row_thetas(objective: Objective, way: Held) -> Kept:
    """Return the theta (n,) of each row, for the way (n, C) from its label to p."""
    parts, width = objective.parts, objective.uncertainty.half_width.T
    thetas = parts.keep(_ones, features=False)
    for _ in range(ROUNDS):
        up, down = parts.over(partial(_sides, way, thetas))
        beyond = soft_threshold(up - down, width)
        if not beyond.any():
            break
        beyond /= np.maximum(up, down).clip(min=TINY)
        parts.over(once(partial(_lower, way, thetas, beyond)))
    return thetas


def _ways(p: Columns, first: int, way: Held, part: Part) -> None:
    """Leave with the rows how far (n, C) p is from the label, row by row in memory."""
    labels: Any = part.labels  # asked for where they are known
    columns = normalized(p(part))
    labels.add_to(columns, -1.0)
    part.hold(way, np.ascontiguousarray(columns[first:].T))


def _ones(part: Part) -> Array:
    return np.ones(part.n_rows)


def _sides(way: Held, thetas: Kept, part: Part) -> tuple[Array, Array]:
    return part.design.sides(way(part), thetas(part))


def _lower(way: Held, thetas: Kept, beyond: Array, part: Part) -> None:
    theta = thetas(part)
    theta *= 1.0 - part.design.largest_share(way(part), beyond)


def _moved(p: Columns, thetas: Kept, part: Part) -> Array:
    theta = thetas(part)
    labels: Any = part.labels
    columns = normalized(p(part)) * theta
    labels.add_to(columns, 1.0 - theta)
    return columns
