"""Dask collections: their partitions, and functions that are applied to each of them lazily."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import Delayed, delayed
from distributed import Future

# Types of a single partition.
LAZY = (Delayed, Future)


def is_collection(X: Any) -> bool:
    """Return whether X is a Dask collection, a partition, or a list of partitions."""
    return isinstance(X, (da.Array, dd.DataFrame, dd.Series, *LAZY)) or is_list(X)


def is_list(X: Any) -> bool:
    """Return whether X is a list of partitions."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and isinstance(X[0], LAZY)


def partitions_of(X: Any, y: Any = None, sample_weight: Any = None) -> list[tuple[Any, Any, Any]]:
    """Return the partitions of rows, labels and weights. Missing labels or weights are None.

    Raises
    ------
    TypeError, ValueError
        If they are no collections, or are known to have another number of rows than X.
    """
    others = [("y", y), ("sample_weight", sample_weight)]
    rows = _cut(X, "X")
    given = [_beside(X, one, name, len(rows)) for name, one in others]
    return list(zip(rows, *given, strict=True))


def _beside(X: Any, other: Any, name: str, n_partitions: int) -> list[Any]:
    """Return the partitions of labels or weights. If there are none, each of them is None."""
    if other is None:
        return [None] * n_partitions
    own = _cut(_along(X, other, name), name)
    if len(own) != n_partitions:
        raise ValueError(
            f"{name} must have the partitions of X, {n_partitions}; got {len(own)}. Take both "
            "from one collection, or call compute_chunk_sizes() on both arrays."
        )
    return own


def _cut(collection: Any, name: str) -> list[Any]:
    """Return the partitions of a collection. Those of an array have all its columns."""
    check_collection(collection, name)
    if isinstance(collection, da.Array):
        return list(_with_all_columns(collection).to_delayed().ravel())
    if is_list(collection):
        return list(collection)
    # If frames from one source were optimized one by one, they could get different partitions: when
    # few columns of a file are read, Dask merges several files into one partition.
    return list(collection.to_delayed(optimize_graph=False))


def check_collection(collection: Any, name: str) -> None:
    """Check that X, labels or weights are a collection with the right number of dimensions.

    Raises
    ------
    TypeError
        If it is no collection.
    ValueError
        If it has another number of dimensions.
    """
    if is_list(collection):
        wrong = [part for part in collection if not isinstance(part, LAZY)]
        if wrong:
            raise TypeError(
                f"{name} must be a list of delayed partitions alone; got a {_kind(wrong[0])} too. "
                "Try delayed() on each."
            )
    elif isinstance(collection, LAZY):
        raise TypeError(
            f"{name} must be a list of delayed partitions; got a single {_kind(collection)}. Try "
            f"[{name}]."
        )
    elif not is_collection(collection):
        raise TypeError(
            f"{name} must be a dask array, a dask dataframe, or a list of delayed partitions; got "
            f"a {_kind(collection)}. Try dask.array.from_array, or MGCEClassifier for rows in "
            "memory."
        )
    elif collection.ndim not in ((2,) if name == "X" else (1, 2)):
        expected = "two dimensions, rows and columns" if name == "X" else "one or two dimensions"
        raise ValueError(
            f"{name} must have {expected}; got a dask {_kind(collection)} of {collection.ndim}. "
            "Try reshape, or to_frame for a Series."
        )


def _with_all_columns(X: Any) -> Any:
    """Return an array in chunks that have all columns."""
    return X.rechunk({1: -1}) if X.ndim == 2 and X.numblocks[1] > 1 else X


def _along(X: Any, other: Any, name: str) -> Any:
    """Return another array in the chunks of X, if the sizes of both are known."""
    if not (isinstance(X, da.Array) and isinstance(other, da.Array) and other.ndim):
        return other
    known = not any(map(math.isnan, (*X.chunks[0], *other.chunks[0])))
    if not known or X.chunks[0] == other.chunks[0]:
        return other
    if X.shape[0] != other.shape[0]:
        raise ValueError(
            f"{name} must have one entry per row of X, {X.shape[0]}; got {other.shape[0]}."
        )
    return other.rechunk({0: X.chunks[0]})


def _kind(thing: Any) -> str:
    return type(thing).__name__


def shape_of(X: Any) -> tuple[int | None, Any]:
    """Return the number of columns and their names, None if they are not known in advance."""
    if isinstance(X, da.Array) and X.ndim == 2:
        return None if math.isnan(X.shape[1]) else X.shape[1], None
    if isinstance(X, dd.DataFrame):
        return len(X.columns), list(X.columns)
    return None, None


class PartitionFunction(Protocol):
    """A function of the rows of a partition, whose value is an array (n,) or (n, K).

    ``empty`` is its value for no rows.
    """

    name: str
    empty: np.ndarray

    def __call__(self, X: Any) -> np.ndarray:
        """Return the value for some rows."""


def map_rows(function: PartitionFunction, X: Any, columns: Sequence[Any] | None) -> Any:
    """Apply a function to every partition, lazily.

    Parameters
    ----------
    function : PartitionFunction
    X : collection
        Rows, checked.
    columns : sequence of length K, or None
        Names of the columns of the values. None: values are of shape (n,).

    Returns
    -------
    collection
        A list for a list, an array for an array, a dataframe or series for a dataframe.
    """
    held = delayed(function, pure=False)
    if is_list(X):
        task = delayed(_of_array, pure=False)
        return [task(part, held) for part in X]
    if isinstance(X, da.Array):
        X = _with_all_columns(X)
        chunks, meta = X.chunks[0], function.empty
        shape: Any = {"chunks": (chunks, meta.shape[1:])} if meta.ndim == 2 else {"drop_axis": 1}
        return X.map_blocks(_of_array, held, meta=meta, token=f"mgce-{function.name}", **shape)
    meta = _of_frame(X._meta, lambda _: function.empty, columns)
    return X.map_partitions(_of_frame, held, columns, meta=meta)


def _of_array(X: Any, function: Callable[[Any], np.ndarray]) -> np.ndarray:
    return function(X)


def _of_frame(X: Any, function: Callable[[Any], np.ndarray], columns: Any) -> Any:
    out = function(X)
    if columns is None:
        return pd.Series(out, index=X.index)
    return pd.DataFrame(out, index=X.index, columns=list(columns))
