"""Blocks: what a partition becomes on the worker that holds it.

A block has rows, labels and weights. While it stays on its worker, it also has the arrays that
solvers keep with the rows. These are not sent when a block moves: a copy begins without them.
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


class Summary(NamedTuple):
    """What the client knows of a block.

    Attributes
    ----------
    likeness : Likeness or None
        What all blocks with rows must have in common. None if there are no rows.
    n_given : int or None
        Number of columns of X before a feature map. None if X has no columns.
    n_rows : int
        Number of rows of positive weight.
    n_bytes : int
        Size of X in memory.
    fingerprint : int
        By which it is seen whether a block that was computed again has the same rows.
    classes : ndarray of shape (K,)
        Labels that occur, or that distributions are over.
    totals : ndarray of shape (K,)
        Sum of the weights of each class.
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


NO_ROWS = Summary(None, None, 0, 0, 0, np.empty(0), np.empty(0), 0.0)


@dataclass(frozen=True)
class Recipe:
    """How a block becomes a `Part`.

    Parameters
    ----------
    number : int
        Tells this recipe from others for the same rows.
    classes : ndarray of shape (K,), or None
        All classes. None: labels are not read.
    factors : ndarray of shape (K,), or None
        Factor on the weights of each class. None: 1.
    total_weight : float
        Sum of the weights of all rows of all blocks.
    fit_intercept : bool
        Whether a constant feature 1 follows the columns.
    center : ndarray of shape (d,), default=None
        What is subtracted from every row. None: nothing.
    chosen : ndarray, default=None
        Columns that are features. None: all.
    unit : ndarray of shape (d,), default=None
        Scale of the columns of rows in single precision. None: rows stay in their own precision.
    stores_single : bool, default=False
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
    stores_single: bool = False

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

    def design(self, X: Any, weights: Array, weight_shares: Array | None = None) -> Design:
        """Return the design of rows.

        ``weight_shares`` are the weights divided by the weight of all rows; None if these are all.
        """
        design = Design(X, weights, self.fit_intercept, shares=weight_shares)
        design = design if self.center is None else design.centered_at(self.center)
        design = design if self.chosen is None else design.columns(self.chosen)
        if self.unit is None:
            return design
        compact = CompactDesign.of(design, self.unit)
        return compact.kept() if self.stores_single else compact


class Order(NamedTuple):
    """What is to be computed in a round, the same for every block.

    Attributes
    ----------
    number : int
        Number of the round.
    completed : int
        Number of the last round that all blocks took part in.
    live : frozenset of int
        Keys of the names whose arrays are still needed.
    recipe : Recipe
        How blocks become parts.
    term : callable
        What is computed of a part.
    combine : callable
        How the values of two parts become one.
    """

    number: int
    completed: int
    live: frozenset[int]
    recipe: Recipe
    term: Term
    combine: Callable[[Any, Any], Any]


class _State:
    """What stays with the rows of a block on its worker, but not with copies of the block."""

    def __init__(self, n_rows: int, first_row: int) -> None:
        self.arrays = RowArrays(n_rows, first_row)
        self.parts: dict[int, Part] = {}
        self.last_round = -1


class Block:
    """Rows on a worker.

    Parameters
    ----------
    rows : RowBlock or None
        Rows of positive weight. None if there are none, or if they cannot be used.
    summary : Summary or str
        Their summary; or, if they cannot be used, the reason.
    """

    def __init__(self, rows: RowBlock | None, summary: Summary | str) -> None:
        self.rows, self.summary = rows, summary
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._labeled: tuple[Labels | None, Array] | None = None

    def __getstate__(self) -> tuple[Any, Any]:
        return self.rows, self.summary

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self.rows, self.summary = state
        self._prepare()

    def __sizeof__(self) -> int:
        return 1024 if isinstance(self.summary, str) else self.summary.n_bytes + 1024

    def run(self, order: Order, first_row: int) -> Any:
        """Return the value of the order's term for these rows.

        Raises
        ------
        LostRows
            If the term needs an array that was kept with the rows, and the rows have moved since.
        """
        with self._lock:
            state = self._state_at(order, first_row)
            state.arrays.keep_only(order.live)
            with one_blas_thread():
                value = order.term(self._part(state, order.recipe))
            state.last_round = order.number
            return value

    def _state_at(self, order: Order, first_row: int) -> _State:
        """Return the arrays that are kept; none if this copy of the block missed a round."""
        rows: Any = self.rows
        if self._state is not None and order.number < self._state.last_round:
            raise LostRows("a task of an earlier round came late; its result is not needed")
        if self._state is None or self._state.last_round < order.completed:
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
    """Return the block of a partition. This is a task: it runs where the partition is."""
    try:
        rows = checked_rows(feature_map, known, X, y, sample_weight)
    except (TypeError, ValueError) as error:
        return Block(None, f"Partition {number}: {error}")
    return Block(rows, NO_ROWS if rows is None else _summary_of(rows, X))


def checked_rows(
    feature_map: Any, known: Array | None, X: Any, y: Any, sample_weight: Any
) -> RowBlock | None:
    """Return the rows of a partition that have positive weight; None if it has no rows.

    Parameters
    ----------
    feature_map : callable or None
        Transforms X.
    known : ndarray of shape (K,), or None
        Classes of a fitted model, if there is one: those of the columns of distributions.
    X, y, sample_weight : object
        As users have them. If y has distributions, the result's labels are `Distributions`.

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
    """Return the number of rows of X, which may have any dimensions if it is mapped."""
    shape = np.shape(X)
    if len(shape) != 2 and not (mapped and shape):
        raise ValueError(
            f"X must have two dimensions, rows and columns; got a {type(X).__name__} of shape "
            f"{shape}. Try reshape, or to_frame of a Series."
        )
    return shape[0]


def _check_beside(X: Any, n_rows: int, name: str, other: Any) -> None:
    """Raise ValueError unless there is an entry for each row of X, in the same index."""
    if np.shape(other)[:1] != (n_rows,):
        raise ValueError(
            f"{name} must have one entry per row of X, {n_rows}; got shape {np.shape(other)}. Use "
            "the same partitions for both, for example by taking both from one frame."
        )
    one, two = getattr(X, "index", None), getattr(other, "index", None)
    if callable(one) or callable(two) or one is None or two is None:  # a list has a method index
        return
    if not one.equals(two):
        raise ValueError(
            f"{name} must have the index of X, row by row; got another index. Take both from one "
            "frame. Reset both indices only if you know that rows are in the same order."
        )


def _summary_of(rows: RowBlock, given: Any) -> Summary:
    """Return the summary of rows; ``given`` is X before a feature map."""
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
    return Summary(
        likeness=likeness,
        n_given=(*np.shape(given), None)[1],
        n_rows=X.shape[0],
        n_bytes=X.data.nbytes + X.indices.nbytes if sp.issparse(X) else X.nbytes,
        fingerprint=fingerprint(rows),
        classes=classes,
        totals=totals,
        weight=total,
    )
