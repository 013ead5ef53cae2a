"""Rows in lanes: how the kernels lay out a block of margins, and how arrays reach them.

A block of rows is transposed, one row a lane, into arrays of shape (classes, lanes). Every
inner loop then runs over rows: its elements are contiguous and independent, so that it becomes
vector instructions without fastmath, for two classes as for a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgce_sklearn.kernels.compilation import jit

Array = NDArray[Any]

# Stands for the margin -inf, so that no product of zero and infinity arises.
LOWEST = -1e300

# Classes transposed at a time, few enough for the nearest cache.
TILE = 32

# Numbers converted at a time if rows are not C-ordered float64.
SLAB = 1 << 16

# Largest number of rows in a block.
MOST_LANES = 64


# For smaller q, the limit q = 0 is exact to the last digit, and formulas with q would lose digits.
SMALLEST_Q = 1e-22


def loss_parameter(q: float) -> float:
    """Return q, checked; 0 if it is so small that results are the same."""
    if not 0 <= q <= 1:
        raise ValueError(f"q must be in [0, 1], got {q!r}.")
    return float(q) if q >= SMALLEST_Q else 0.0


@jit
def n_lanes_for(n_classes):
    """Return the rows of a block: many, as long as its arrays fit in the second-level cache."""
    if n_classes <= 256:
        return MOST_LANES
    return 32 if n_classes <= 2048 else 16


@jit
def load(rows, start, x):
    """Transpose rows from start on into x (K, L). Lanes without a row hold 1/K."""
    n_classes, n_lanes = x.shape
    n_rows = min(n_lanes, rows.shape[0] - start)
    for first in range(0, n_classes, TILE):
        for k in range(first, min(first + TILE, n_classes)):
            for lane in range(n_rows):
                x[k, lane] = rows[start + lane, k]
            for lane in range(n_rows, n_lanes):
                x[k, lane] = 1.0 / n_classes


@jit
def subtract_maxima(x, top):
    """Subtract from the lanes of x their maxima, and put those into top (L,).

    NaN and +inf make the maximum NaN, and with it everything computed for the row.
    """
    n_classes, n_lanes = x.shape
    for lane in range(n_lanes):
        top[lane] = -np.inf
    for k in range(n_classes):
        for lane in range(n_lanes):
            value = x[k, lane]
            top[lane] = value if (value > top[lane]) | (value != value) else top[lane]
    for lane in range(n_lanes):
        top[lane] += top[lane] - top[lane]
    for k in range(n_classes):
        for lane in range(n_lanes):
            difference = x[k, lane] - top[lane]
            x[k, lane] = LOWEST if difference < LOWEST else difference


@jit
def gather(x, cut, index, count):
    """Move the entries of x above cut, and their class numbers, to the front of their lanes.

    Return how many groups of x then have an entry. Return 0 if that would save little time; x is
    then unchanged. The lanes are filled up with `LOWEST`.
    """
    n_groups, n_lanes = x.shape
    for lane in range(n_lanes):
        count[lane] = 0
    for k in range(n_groups):
        for lane in range(n_lanes):
            count[lane] += 0 if x[k, lane] <= cut else 1
    n_kept = 0
    for lane in range(n_lanes):
        n_kept = max(n_kept, count[lane])
    if n_kept > 0.7 * n_groups:
        return 0
    for lane in range(n_lanes):
        count[lane] = 0
    for k in range(n_groups):
        for lane in range(n_lanes):
            kept = count[lane]
            value = x[k, lane]
            x[kept, lane] = value
            index[kept, lane] = k
            count[lane] = kept + (0 if value <= cut else 1)
    for lane in range(n_lanes):
        for k in range(count[lane], n_kept):
            x[k, lane] = LOWEST
    return n_kept


@jit
def unload(values, gathered, index, count, rows, start):
    """Transpose lanes back into rows from start on; classes that were not gathered are 0."""
    n_groups, n_lanes = values.shape
    n_rows = min(n_lanes, rows.shape[0] - start)
    if gathered:
        for lane in range(n_rows):
            for k in range(rows.shape[1]):
                rows[start + lane, k] = 0.0
            for k in range(count[lane]):
                rows[start + lane, index[k, lane]] = values[k, lane]
        return
    for first in range(0, n_groups, TILE):
        for lane in range(n_rows):
            for k in range(first, min(first + TILE, n_groups)):
                rows[start + lane, k] = values[k, lane]


def call_by_rows(
    kernel: Callable[..., None],
    rows: ArrayLike,
    parameters: tuple[float, ...],
    n_matrices: int,
    out: tuple[Array, ...] | None = None,
) -> tuple[Array, ...]:
    """Call ``kernel(rows, *parameters, vector, *matrices)`` on C-ordered float64 arrays.

    Kernels get one layout only, so that they are compiled once. Single precision and other memory
    orders are converted, a slab of rows at a time.

    Parameters
    ----------
    kernel : callable
        Fills a vector of shape (n,) and matrices of shape (n, K).
    rows : array-like of shape (n, K)
        The results of float32 are float32; every other type becomes float64.
    parameters : tuple of float
    n_matrices : int
    out : tuple of arrays, optional
        Memory for the results: C-ordered and of the type of rows.

    Returns
    -------
    tuple of arrays
        The vector and the matrices.
    """
    rows = np.asarray(rows)
    if rows.dtype != np.float32:
        rows = rows.astype(np.float64, copy=False)
    if out is None:
        out = _allocate(rows.shape, rows.dtype, n_matrices)
    if rows.dtype == np.float64 and rows.flags.c_contiguous:
        kernel(_read_only(rows), *parameters, *out)
        return out
    # At least as many rows as a block, so that no lanes are empty. Slabs share the same memory.
    height = min(max(SLAB // rows.shape[1], MOST_LANES), rows.shape[0])
    slab = np.empty((height, rows.shape[1]))
    results = _allocate(slab.shape, slab.dtype, n_matrices)
    for start in range(0, rows.shape[0], max(1, height)):
        source = rows[start : start + height]
        used = slice(source.shape[0])
        slab[used] = source
        kernel(_read_only(slab[used]), *parameters, *(result[used] for result in results))
        for target, result in zip(out, results, strict=True):
            target[start : start + height] = result[used]
    return out


def _allocate(shape: tuple[int, ...], dtype: Any, n_matrices: int) -> tuple[Array, ...]:
    return (np.empty(shape[0], dtype), *(np.empty(shape, dtype) for _ in range(n_matrices)))


def _read_only(rows: Array) -> Array:
    """View rows as read-only. To numba that is another type, and users may pass either kind."""
    view = rows.view()
    view.flags.writeable = False
    return view
