"""A dual point of sparse rows, moved toward the labels row by row.

To make a dual point feasible, it can be moved toward the labels by one theta for all rows. The
constraint with the largest violation then determines theta. But only few sparse rows contribute to
a constraint, for example to that of a rare word, and the others need not move.

A row contributes r_i ⊗ x_i with r_i = theta_i (p_i - onehot(y_i)) to the mean of these. In each
coordinate some rows contribute positive numbers, others negative ones. If the mean exceeds its
half-width, the contributions of its sign must be reduced by the fraction

    1 - (half_width + size of the contributions of the other sign) / size of those of its sign,

so each theta_i is reduced by the largest of these fractions over the coordinates of the row. The
contributions of the other sign are reduced as well. So some violation may remain for the next
round, and finally for the one theta of `Objective.dual_point`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.objective import Objective, normalized
from mgce_sklearn.parts import Columns, Held, Kept, Part, once

# The violation left after these rounds costs about a thousandth of the value.
ROUNDS = 3

TINY = np.finfo(np.float64).tiny


def can_move(objective: Objective) -> bool:
    """Tell whether rows have labels to move toward, and are sparse."""
    return objective.labeled and objective.parts.like.sparse


def moved_by_rows(objective: Objective, p: Columns) -> Columns:
    """Return a point (K, n) between ``p`` and the labels that is feasible, or nearly so.

    Parameters
    ----------
    objective : Objective
        One for which `can_move` is True.
    p : Columns
        Distributions (K, n).
    """
    parts = objective.parts
    differences = parts.held()
    parts.over(partial(_differences, p, objective.first_class, differences), features=False)
    return partial(_moved, p, row_thetas(objective, differences))


def row_thetas(objective: Objective, differences: Held) -> Kept:
    """Return the theta (n,) of each row, for the ``differences`` (n, C) of p and labels."""
    parts, half_width = objective.parts, objective.uncertainty.half_width.T
    thetas = parts.keep(_ones, features=False)
    for _ in range(ROUNDS):
        up, down = parts.over(partial(_sides, differences, thetas))
        beyond = soft_threshold(up - down, half_width)
        if not beyond.any():
            break
        beyond /= np.maximum(up, down).clip(min=TINY)
        parts.over(once(partial(_lower, differences, thetas, beyond)))
    return thetas


def _differences(p: Columns, first: int, differences: Held, part: Part) -> None:
    """Store with the rows the differences (n, C) of p from the labels, contiguous by row."""
    labels: Any = part.labels  # called only if rows have labels
    columns = normalized(p(part))
    labels.add_to(columns, -1.0)
    part.hold(differences, np.ascontiguousarray(columns[first:].T))


def _ones(part: Part) -> Array:
    return np.ones(part.n_rows)


def _sides(differences: Held, thetas: Kept, part: Part) -> tuple[Array, Array]:
    return part.design.sides(differences(part), thetas(part))


def _lower(differences: Held, thetas: Kept, beyond: Array, part: Part) -> None:
    theta = thetas(part)
    theta *= 1.0 - part.design.largest_share(differences(part), beyond)


def _moved(p: Columns, thetas: Kept, part: Part) -> Array:
    theta = thetas(part)
    labels: Any = part.labels
    columns = normalized(p(part)) * theta
    labels.add_to(columns, 1.0 - theta)
    return columns
