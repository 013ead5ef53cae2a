"""Blocks of rows: what a partition becomes on the worker that holds it.

A block has rows, labels and weights, and, as long as it stays where it is, what solvers keep with
the rows. That is not sent along when a block moves: a copy begins without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mgce_sklearn import validation
from mgce_sklearn.arrays import Array
from mgce_sklearn.design import CompactDesign, Design
from mgce_sklearn.feature_maps import apply_feature_map
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import LostRows, Part, RowArrays, Term
from mgce_sklearn.problem import times_factors
from mgce_sklearn.row_blocks import (
    Likeness,
    RowBlock,
    as_block,
    check_finite,
    fingerprint,
    names_of,
)
from mgce_sklearn.targets import Distributions, encoded, read_labels


class Facts(NamedTuple):
    """What a block tells of itself.

    Attributes
    ----------
    likeness : Likeness or None
        What all blocks with rows must have in common.
    n_given : int or None
        Columns before a map, of what has columns.
    n_rows : int
        Of positive weight.
    n_bytes : int
        Of X.
    fingerprint : int
        By which a block is known that was computed again.
    classes : ndarray
        Labels that occur, or that distributions are over.
    totals : ndarray
        Sum of the weights of each of these.
    weight : float
        Sum of all weights.
    """

    likeness: Likeness | None
    n_given: int | None
    n_rows: int
    n_bytes: int
    fingerprint: int
    classes: Array
    totals: Array
    weight: float


NO_ROWS = Facts(None, None, 0, 0, 0, np.empty(0), np.empty(0), 0.0)


@dataclass(frozen=True)
class Recipe:
    """How a block becomes a part.

    Parameters
    ----------
    number : int
        Of other recipes for the same rows.
    classes : ndarray of shape (K,), or None
        Of labels; None: labels are not read.
    factors : ndarray of shape (K,), or None
        On the weights of each class.
    total_weight : float
        Of all rows.
    fit_intercept : bool
    center : ndarray of shape (d,), default=None
    chosen : ndarray, default=None
        Which columns are features. None: all.
    unit : ndarray of shape (d,), default=None
        Rows in single precision, in this unit. None: as they are.
    keeps : bool, default=False
        Whether rows in single precision stay in memory.
    """

    number: int
    classes: Array | None
    factors: Array | None
    total_weight: float
    fit_intercept: bool
    center: Array | None = None
    chosen: Array | None = None
    unit: Array | None = None
    keeps: bool = False

    def labeled(self, rows: RowBlock) -> tuple[Labels | None, Array]:
        """Return the labels and the weights of rows."""
        weights: Any = rows.sample_weight
        if weights is None:
            weights = np.ones(rows.X.shape[0])
        if self.classes is None:
            return None, weights
        y: Any = rows.y
        _, labels = encoded(y, self.classes)
        if self.factors is None:
            return labels, weights
        return times_factors(self.factors, labels, weights)

    def design(self, X: Any, weights: Array, shares: Array | None = None) -> Design:
        """Return the design of rows; ``shares`` of the weight of all, None if these are all."""
        design = Design(X, weights, self.fit_intercept, shares=shares)
        design = design if self.center is None else design.centered_at(self.center)
        design = design if self.chosen is None else design.columns(self.chosen)
        if self.unit is None:
            return design
        compact = CompactDesign.of(design, self.unit)
        return compact.kept() if self.keeps else compact


class Order(NamedTuple):
    """What a round tells every block.

    Attributes
    ----------
    number : int
        Of the round.
    completed : int
        The last round that all blocks have seen.
    live : frozenset of int
        Names of what is still needed.
    recipe : Recipe
    term : callable
    combine : callable
    """

    number: int
    completed: int
    live: frozenset[int]
    recipe: Recipe
    term: Term
    combine: Callable[[Any, Any], Any]


class _State:
    """What stays with the rows of a block where it lies."""

    def __init__(self, n_rows: int, first_row: int) -> None:
        self.arrays = RowArrays(n_rows, first_row)
        self.parts: dict[int, Part] = {}
        self.seen = -1


class Block:
    """Rows on a worker.

    Parameters
    ----------
    rows : RowBlock or None
        Those of positive weight; None if there are none, or they cannot be used.
    facts : Facts or str
        What they are; or why they cannot be used.
    """

    def __init__(self, rows: RowBlock | None, facts: Facts | str) -> None:
        self.rows, self.facts = rows, facts
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._labeled: tuple[Labels | None, Array] | None = None

    def __getstate__(self) -> tuple[Any, Any]:
        return self.rows, self.facts

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self.rows, self.facts = state
        self._prepare()

    def __sizeof__(self) -> int:
        return 1024 if isinstance(self.facts, str) else self.facts.n_bytes + 1024

    def run(self, order: Order, first_row: int) -> Any:
        """Return what a term gives of these rows.

        Raises
        ------
        LostRows
            If it asks for what was kept with rows that have moved since.
        """
        with self._lock:
            state = self._state_at(order, first_row)
            state.arrays.keep_only(order.live)
            with one_blas_thread():
                value = order.term(self._part(state, order.recipe))
            state.seen = order.number
            return value

    def _state_at(self, order: Order, first_row: int) -> _State:
        """Return what is kept, nothing if a round went by without this copy of the block."""
        rows: Any = self.rows
        if self._state is not None and order.number < self._state.seen:
            raise LostRows("a round came late, which nobody waits for")
        if self._state is None or self._state.seen < order.completed:
            self._state = _State(rows.X.shape[0], first_row)
        return self._state

    def _part(self, state: _State, recipe: Recipe) -> Part:
        if recipe.number not in state.parts:
            rows: Any = self.rows
            if self._labeled is None:
                self._labeled = recipe.labeled(rows)
            labels, weights = self._labeled
            design = recipe.design(rows.X, weights, weights / recipe.total_weight)
            state.parts[recipe.number] = Part(design, labels, state.arrays)
        return state.parts[recipe.number]


def block_of(
    number: int, feature_map: Any, known: Array | None, X: Any, y: Any, sample_weight: Any
) -> Block:
    """Return the block of a partition, where the partition is: a task."""
    try:
        rows = rows_of(feature_map, known, X, y, sample_weight)
    except (TypeError, ValueError) as error:
        return Block(None, f"Partition {number}: {error}")
    return Block(rows, NO_ROWS if rows is None else _facts(rows, X))


def rows_of(
    feature_map: Any, known: Array | None, X: Any, y: Any, sample_weight: Any
) -> RowBlock | None:
    """Return the rows of a partition that have positive weight; None if it has no rows.

    Parameters
    ----------
    feature_map : callable or None
    known : ndarray of shape (K,), or None
        Classes of which distributions are, if there has been a fit.
    X, y, sample_weight : object
        As users have them; labels may be `Distributions`, and are then in the block.

    Raises
    ------
    TypeError, ValueError
        If they cannot be used.
    """
    X = X.to_scipy_sparse() if hasattr(X, "to_scipy_sparse") else X
    n_rows = _n_rows_of(X, feature_map is not None)
    for name, other in (("y", y), ("sample_weight", sample_weight)):
        if other is not None:
            _check_beside(X, n_rows, name, other)
    if n_rows == 0:
        return None
    if feature_map is not None:
        X = apply_feature_map(feature_map, X)
    soft = y is not None and validation.has_columns(y)
    rows = as_block(X, None if soft else y, sample_weight)
    if soft:
        labels: Any = read_labels(y, known)
        rows = rows._replace(y=labels)
    elif y is not None:
        validation.distinct_labels("y", rows.y)
    check_finite(rows.X)
    if rows.sample_weight is None or rows.sample_weight.all():
        return rows
    used = np.flatnonzero(rows.sample_weight)
    return RowBlock(*(None if part is None else part[used] for part in rows))


def _n_rows_of(X: Any, mapped: bool) -> int:
    """Return the number of rows of a partition, which may have any columns before a map."""
    shape = np.shape(X)
    if len(shape) != 2 and not (mapped and shape):
        raise ValueError(
            f"X must have two dimensions, rows and columns; got a {type(X).__name__} of shape "
            f"{shape}. Try reshape, or to_frame of a Series."
        )
    return shape[0]


def _check_beside(X: Any, n_rows: int, name: str, other: Any) -> None:
    """Raise ValueError unless something has an entry for each row of X, and a frame its index."""
    if np.shape(other)[:1] != (n_rows,):
        raise ValueError(
            f"{name} must have one entry per row of X, {n_rows}; got shape {np.shape(other)}. Cut "
            "both in the same way, as columns of one frame are."
        )
    one, two = getattr(X, "index", None), getattr(other, "index", None)
    if callable(one) or callable(two) or one is None or two is None:  # of lists it is a method
        return
    if not one.equals(two):
        raise ValueError(
            f"{name} must have the index of X, row by row; the two differ. Take both from one "
            "frame. Reset both indices only if you know that rows are in the same order."
        )


def _facts(rows: RowBlock, given: Any) -> Facts:
    """Return the facts of rows, of X as it was given too."""
    labels: Any = rows.y
    X, _, weight = rows
    weight = np.ones(X.shape[0]) if weight is None else weight
    classes: Any = np.empty(0)
    totals: Any = classes
    if isinstance(labels, Distributions):
        rows = rows._replace(y=labels.proba)
        classes, totals = labels.classes, weight @ labels.proba
    elif labels is not None:
        classes, codes = np.unique(labels, return_inverse=True)
        totals = np.bincount(codes, weight, len(classes))
    likeness = Likeness.of(rows, names_of(given))
    if isinstance(labels, Distributions):
        likeness = likeness._replace(labels=f"distributions over {classes.tolist()}")
    with np.errstate(over="ignore"):
        total = float(weight.sum())
    return Facts(
        likeness=likeness,
        n_given=(*np.shape(given), None)[1],
        n_rows=X.shape[0],
        n_bytes=X.data.nbytes + X.indices.nbytes if sp.issparse(X) else X.nbytes,
        fingerprint=fingerprint(rows),
        classes=classes,
        totals=totals,
        weight=total,
    )
