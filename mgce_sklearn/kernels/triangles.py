"""Symmetric matrices as triangles: the entries on and above the diagonal, row by row.

A symmetric matrix C of some size K is packed into a sequence of its entries C_kl with k <= l:
C_11, C_12, ..., C_1K, C_22, ..., C_KK. Such an entry is called a pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def n_pairs(size: int) -> int:
    """Return the number of pairs of a matrix."""
    return size * (size + 1) // 2


def size_of(n_pairs: int) -> int:
    """Return the size of the matrix that has so many pairs."""
    return int(np.sqrt(2 * n_pairs))


def pairs(size: int) -> tuple[Array, Array]:
    """Return the rows k and the columns l of all pairs."""
    return np.triu_indices(size)


def diagonal(size: int) -> Array:
    """Return the positions of C_kk among the pairs."""
    return np.cumsum([0, *range(size, 1, -1)])


def symmetric(upper: Array) -> Array:
    """Return the symmetric matrix with this upper triangle. Entries below it are ignored."""
    return np.triu(upper) + np.triu(upper, 1).T


def unpacked(packed: Array, size: int) -> Array:
    """Return the symmetric matrix (size, size) of a sequence of pairs."""
    upper = np.zeros((size, size), packed.dtype)
    upper[pairs(size)] = packed
    return symmetric(upper)
