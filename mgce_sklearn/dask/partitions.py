"""Dask's collections as lists of partitions, and what is computed of each, lazily."""

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

# A partition that is computed when it is asked for.
LAZY = (Delayed, Future)


def is_collection(X: Any) -> bool:
    """Tell whether rows are in partitions."""
    return isinstance(X, (da.Array, dd.DataFrame, dd.Series, *LAZY)) or is_list(X)


def is_list(X: Any) -> bool:
    """Tell whether rows are a list of partitions."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and isinstance(X[0], LAZY)


def partitions_of(X: Any, y: Any = None, sample_weight: Any = None) -> list[tuple[Any, Any, Any]]:
    """Return the partitions of rows, labels and weights, None where there are none.

    Raises
    ------
    TypeError, ValueError
        If they are no collections, or seen to have other rows than X.
    """
    others = [("y", y), ("sample_weight", sample_weight)]
    rows = _cut(X, "X")
    given = [_beside(X, one, name, len(rows)) for name, one in others]
    return list(zip(rows, *given, strict=True))


def _beside(X: Any, other: Any, name: str, n_partitions: int) -> list[Any]:
    """Return the partitions of what goes with X, None for each where there is nothing."""
    if other is None:
        return [None] * n_partitions
    own = _cut(_along(X, other, name), name)
    if len(own) != n_partitions:
        raise ValueError(
            f"{name} must have the partitions of X, {n_partitions}; got {len(own)}. Take both "
            "from one collection, or compute_chunk_sizes() of both arrays."
        )
    return own


def _cut(collection: Any, name: str) -> list[Any]:
    """Return the partitions of a collection; of an array of several columns with all of them."""
    check_collection(collection, name)
    if isinstance(collection, da.Array):
        return list(_with_all_columns(collection).to_delayed().ravel())
    if is_list(collection):
        return list(collection)
    # Optimized alone, frames of one root may come in other partitions: where few columns of a file
    # are asked for, several files make one.
    return list(collection.to_delayed(optimize_graph=False))


def check_collection(collection: Any, name: str) -> None:
    """Raise an error unless a collection has the form that X, or what goes with it, has.

    Raises
    ------
    TypeError, ValueError
        If it is none, or has other dimensions.
    """
    if is_list(collection):
        wrong = [part for part in collection if not isinstance(part, LAZY)]
        if wrong:
            raise TypeError(
                f"{name} must be a list of delayed partitions alone; got a {_kind(wrong[0])} too. "
                "Try delayed() of each."
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
        raise ValueError(
            f"{name} must have {'two dimensions, rows and columns' if name == 'X' else 'rows'}; "
            f"got a dask {_kind(collection)} of {collection.ndim}. Try reshape, or to_frame of a "
            "Series."
        )


def _with_all_columns(X: Any) -> Any:
    """Return an array in chunks of rows."""
    return X.rechunk({1: -1}) if X.ndim == 2 and X.numblocks[1] > 1 else X


def _along(X: Any, other: Any, name: str) -> Any:
    """Return another array in the chunks of X, where the sizes of both are known."""
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
    """Return the number of columns and their names, None where only the partitions know."""
    if isinstance(X, da.Array) and X.ndim == 2:
        return None if math.isnan(X.shape[1]) else X.shape[1], None
    if isinstance(X, dd.DataFrame):
        return len(X.columns), list(X.columns)
    return None, None


class OfRows(Protocol):
    """A function of the rows of a partition: an array (n,) or (n, K)."""

    name: str

    def __call__(self, X: Any) -> np.ndarray:
        """Return that of some rows."""

    def of_none(self) -> np.ndarray:
        """Return that of no rows."""


def each(function: OfRows, X: Any, columns: Sequence[Any] | None) -> Any:
    """Return what a function of rows gives of every partition, lazily and of X's kind.

    Parameters
    ----------
    function : OfRows
    X : collection
        Rows, checked.
    columns : sequence of length K, or None
        Names of the columns of what it returns, if that has columns.
    """
    held = delayed(function, pure=False)
    if is_list(X):
        task = delayed(_of_array, pure=False)
        return [task(part, held) for part in X]
    if isinstance(X, da.Array):
        X = _with_all_columns(X)
        chunks, meta = X.chunks[0], function.of_none()
        shape: Any = {"chunks": (chunks, meta.shape[1:])} if meta.ndim == 2 else {"drop_axis": 1}
        return X.map_blocks(_of_array, held, meta=meta, token=f"mgce-{function.name}", **shape)
    meta = _of_frame(X._meta, lambda _: function.of_none(), columns)
    return X.map_partitions(_of_frame, held, columns, meta=meta)


def _of_array(X: Any, function: Callable[[Any], np.ndarray]) -> np.ndarray:
    return function(X)


def _of_frame(X: Any, function: Callable[[Any], np.ndarray], columns: Any) -> Any:
    out = function(X)
    if columns is None:
        return pd.Series(out, index=X.index)
    return pd.DataFrame(out, index=X.index, columns=list(columns))
