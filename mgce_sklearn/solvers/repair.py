"""Repair of a dual point that violates its constraints by little.

Close to the optimum of the dual, rounding or an unfinished step leaves a few constraints violated.
To shrink the whole point toward the labels, until all constraints hold, lowers the dual value in
proportion. A small change of p, in the entries that have room for it, lowers it by almost nothing:

    minimize mean_i sum_k dp_ik² / p_ik²   subject to  sum_k dp_ik = 0,
                                                       mean_i dp_i ⊗ x_i = r,

where r moves every violated constraint back to its bound. The means of all classes sum to a
constant, so other classes must change by as much in the opposite direction. The change is
distributed over them in proportion to their room. The solution is
dp_i = M_i (Lambda x_i) with M = diag(p²) - p² p²ᵀ / sum p². Lambda solves one system of the
size of the coefficients, [mean M_i ⊗ x_i x_iᵀ] Lambda = r.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, cholesky, namespace, set_diagonal
from mgce_sklearn.kernels import triangles
from mgce_sklearn.objective import Objective, linear_margins
from mgce_sklearn.parts import Columns, Part
from mgce_sklearn.solvers.row_moves import can_move, moved_by_rows

# Constraints are moved inside their bounds by this fraction of the half-width, so that they still
# hold after rounding.
MARGIN = 1e-9

# The second round repairs what the first one left, because p >= 0 limits the change.
ROUNDS = 2
LEAST_PROBABILITY = 1e-12

# Above this number of coefficients there is no repair: it factors a matrix of their size.
MOST_COEFFICIENTS = 8000

# Added to a unit diagonal, so that nothing changes in directions in which no row has room.
RIDGE = 1e-10

TINY = np.finfo(np.float64).tiny


def repair(objective: Objective, p: Columns, margin: float = MARGIN) -> Columns:
    """Return a point (K, n) near ``p`` that violates the constraints less.

    It is a term, so that no second array is stored. Its columns sum to 1, but entries may be
    negative where there was no room.

    Parameters
    ----------
    objective : Objective
    p : Columns
        Positive distributions (K, n).
    margin : float, default=`MARGIN`
        Fraction of the half-widths by which constraints are moved inside their bounds.
    """
    target = _target(objective, p, margin)
    gram = objective.parts.over(partial(_gram, p, objective.shape[0])).matrix()
    scale = gram.diagonal().clip(min=TINY) ** -0.5
    gram *= scale
    gram *= scale[:, None]
    set_diagonal(gram, 1.0 + RIDGE)
    try:
        solve = cholesky(gram)
    except LinAlgError:
        return p
    solution = (scale * solve(scale * target.ravel())).reshape(target.shape)
    if not namespace(solution).isfinite(solution).all():
        return p
    return partial(_pulled, p, solution)


def _pulled(p: Columns, solution: Array, part: Part) -> Array:
    columns, pull = p(part), linear_margins(part, solution)
    room = columns**2
    pull -= (room * pull).sum(axis=0) / room.sum(axis=0)
    return columns + room * pull


def repaired(objective: Objective, p: Columns) -> Columns:
    """Return ``p`` after repairs, or unchanged if they cost too much. Entries may be negative.

    Parameters
    ----------
    objective : Objective
    p : Columns
        Distributions (K, n). Entries may be 0.
    """
    if np.prod(objective.shape) > MOST_COEFFICIENTS:
        return p
    for _ in range(ROUNDS):
        inside = objective.parts.keep(partial(_inside, p), objective.n_classes, features=False)
        p = objective.parts.keep(repair(objective, inside), objective.n_classes)
    return p


def _inside(p: Columns, part: Part) -> Array:
    columns = p(part).clip(min=LEAST_PROBABILITY)
    columns /= columns.sum(axis=0)
    return columns


def certificate(objective: Objective, coef: Array) -> tuple[float, float]:
    """Return R(coef), and a lower bound on the optimum computed from the worst case at ``coef``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn.path import objective_of
    >>> from mgce_sklearn.problem import Problem
    >>> from mgce_sklearn.solvers import InteriorPoint, certificate
    >>> objective = objective_of(Problem.from_labels(*load_iris(return_X_y=True)), q=0.5, lam=0.3)
    >>> upper, lower = certificate(objective, InteriorPoint().solve(objective).coef)
    >>> print(f"{lower:.3f} <= optimum <= {upper:.3f}")
    0.218 <= optimum <= 0.218
    """
    with objective.opened() as objective:
        p = objective.parts.kept()
        value, _ = objective.value_and_slope(coef, p)
        candidates: list[Columns] = [p, repaired(objective, p)]
        if can_move(objective):
            candidates.append(moved_by_rows(objective, p))
        points = [objective.dual_point(p, objective.anchor) for p in candidates]
        return objective.possible(value), max(point.value for point in points)


def _target(objective: Objective, p: Columns, margin: float) -> Array:
    """Return r (C, d). If every class has coefficients, its columns sum to 0.

    If there is too little room for that, as in an empty set, some constraints stay violated.
    """
    half_width = (1.0 - margin) * objective.uncertainty.half_width
    excess = objective.excess(p)
    inside = excess.clip(-half_width, half_width)
    if objective.first_class == 0:
        surplus = (inside - excess).sum(axis=0)
        room = namespace(excess).where(surplus > 0.0, half_width + inside, half_width - inside)
        inside -= room * (surplus / room.sum(axis=0).clip(min=TINY))
    return inside - excess


def _gram(p: Columns, n_coef: int, part: Part) -> Any:
    """Return the sum of M_i ⊗ x_i x_iᵀ."""
    gram, (upper_k, upper_l) = part.design.gram(n_coef), triangles.pairs(n_coef)
    for block in part.blocks_of(gram.rows_per_block):
        room = p(block) ** 2
        own = room[len(room) - n_coef :]
        weighted = own * block.design.weights
        curvature = -weighted[upper_k] * (own / room.sum(axis=0))[upper_l]
        curvature[upper_k == upper_l] += weighted
        gram.add(curvature, block.design.features())
    return gram
