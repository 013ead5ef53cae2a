"""Repair of a dual point that misses its constraints by little.

A point close to the optimum of the dual violates a few constraints by what rounding, or an
unfinished step, left. Shrinking the whole point toward the labels until the worst of them
holds costs its value in proportion. A small change of p where there is room for it costs
next to nothing:

    minimize mean_i sum_k dp_ik² / p_ik²   subject to  sum_k dp_ik = 0,
                                                       mean_i dp_i ⊗ x_i = r,

with r what moves every violated constraint back to its bound. As the classes' means sum to a
constant, other classes must give way by as much, and do so in proportion to their room. The
solution is
dp_i = M_i (Lambda x_i) with M = diag(p²) - p² p²ᵀ / sum p², and Lambda solves one system of
the size of the coefficients, [mean M_i ⊗ x_i x_iᵀ] Lambda = r.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from mgce_sklearn.arrays import Array, cholesky, namespace, set_diagonal
from mgce_sklearn.objective import Objective, linear_margins
from mgce_sklearn.parts import Columns, Part
from mgce_sklearn.solvers.row_moves import can_move, moved_by_rows

# Constraints are moved this share inside their bounds, so that rounding does not undo it.
MARGIN = 1e-9

# A second round mends what the first, bounded by p >= 0, left.
ROUNDS = 2
LEAST_PROBABILITY = 1e-12

# The repair factors a matrix of the size of all coefficients.
MOST_COEFFICIENTS = 8000

# Relative to a unit diagonal: directions in which no row has room are left alone.
RIDGE = 1e-10

TINY = np.finfo(np.float64).tiny


def repair(objective: Objective, proba: Columns, margin: float = MARGIN) -> Columns:
    """Return a point (K, n) near ``proba`` that violates the constraints less.

    It is a term, so that a second point need not be kept. Its rows sum to 1, but entries may lie
    below 0 where there was no room.

    Parameters
    ----------
    objective : Objective
    proba : Columns
        Positive, with rows that sum to 1.
    margin : float, default=`MARGIN`
        Share of the half-widths by which constraints are to hold with room.
    """
    target = _target(objective, proba, margin)
    gram = objective.parts.over(partial(_gram, proba, objective.shape[0])).matrix()
    scale = gram.diagonal().clip(min=TINY) ** -0.5
    gram *= scale
    gram *= scale[:, None]
    set_diagonal(gram, 1.0 + RIDGE)
    try:
        solve = cholesky(gram)
    except LinAlgError:
        return proba
    solution = (scale * solve(scale * target.ravel())).reshape(target.shape)
    if not namespace(solution).isfinite(solution).all():
        return proba
    return partial(_pulled, proba, solution)


def _pulled(proba: Columns, solution: Array, part: Part) -> Array:
    columns, pull = proba(part), linear_margins(part, solution)
    room = columns**2
    pull -= (room * pull).sum(axis=0) / room.sum(axis=0)
    return columns + room * pull


def repaired(objective: Objective, proba: Columns) -> Columns:
    """Return ``proba`` after repairs, or as it is if they cost too much; entries may lie below 0.

    Parameters
    ----------
    objective : Objective
    proba : Columns
        Distributions (K, n), with zeros perhaps.
    """
    if np.prod(objective.shape) > MOST_COEFFICIENTS:
        return proba
    for _ in range(ROUNDS):
        inside = objective.parts.keep(partial(_inside, proba), objective.n_classes, features=False)
        proba = objective.parts.keep(repair(objective, inside), objective.n_classes)
    return proba


def _inside(proba: Columns, part: Part) -> Array:
    columns = proba(part).clip(min=LEAST_PROBABILITY)
    columns /= columns.sum(axis=0)
    return columns


def certificate(objective: Objective, coef: Array) -> tuple[float, float]:
    """Return R(coef), and a lower bound on the optimum from the worst case at ``coef``.

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
        proba = objective.parts.kept()
        value, _ = objective.value_and_slope(coef, proba)
        candidates: list[Columns] = [proba, repaired(objective, proba)]
        if can_move(objective):
            candidates.append(moved_by_rows(objective, proba))
        points = [objective.dual_point(p, objective.anchor) for p in candidates]
        return objective.possible(value), max(point.value for point in points)


def _target(objective: Objective, proba: Columns, margin: float) -> Array:
    """Return r (C, d), with columns that sum to 0 if every class has coefficients.

    Where there is not room enough for that, as in an empty set, some constraints stay violated.
    """
    width = (1.0 - margin) * objective.uncertainty.half_width
    excess = objective.excess(proba)
    inside = excess.clip(-width, width)
    if objective.first_class == 0:
        surplus = (inside - excess).sum(axis=0)
        room = namespace(width).where(surplus > 0.0, width + inside, width - inside)
        inside -= room * (surplus / room.sum(axis=0).clip(min=TINY))
    return inside - excess


def _gram(proba: Columns, n_coef: int, part: Part) -> Any:
    """Return the sum of M_i ⊗ x_i x_iᵀ."""
    gram, (upper_k, upper_l) = part.design.gram(n_coef), np.triu_indices(n_coef)
    for block in part.blocks_of(gram.rows_per_block):
        room = proba(block) ** 2
        own = room[len(room) - n_coef :]
        weighted = own * block.design.weights
        curvature = -weighted[upper_k] * (own / room.sum(axis=0))[upper_l]
        curvature[upper_k == upper_l] += weighted
        gram.add(curvature, block.design.features())
    return gram
