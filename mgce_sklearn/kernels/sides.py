"""The two sides of a sum over sparse rows, and which rows push a coordinate too far.

Rows are those of a CSR matrix, a coordinate is a class k and a column j, and row i adds
r_ik x_ij to it. Where few rows have a column, few can push its coordinates too far.
"""

from __future__ import annotations

import numpy as np

from mgce_sklearn.kernels.compilation import jit


@jit
def add_sides(indptr, indices, numbers, rows, weights, raising, lowering):
    """Add w_i r_ik x_ij to raising (d, C) where it is positive, its size to lowering elsewhere."""
    for i in range(len(rows)):
        for a in range(indptr[i], indptr[i + 1]):
            j, number = indices[a], weights[i] * numbers[a]
            for k in range(rows.shape[1]):
                part = rows[i, k] * number
                raising[j, k] += max(part, 0.0)
                lowering[j, k] += max(-part, 0.0)


@jit
def largest_share(indptr, indices, numbers, rows, shares, out):
    """Write the largest |share| (n,) of the coordinates that a row pushes the way of its sign."""
    any_share = np.empty(len(shares), np.bool_)
    for j in range(len(shares)):
        any_share[j] = shares[j].any()
    # Class by class: loops of a single maximum are not vectorized.
    largest = np.empty(rows.shape[1])
    for i in range(len(rows)):
        largest[:] = 0.0
        for a in range(indptr[i], indptr[i + 1]):
            j, number = indices[a], numbers[a]
            if any_share[j]:
                for k in range(len(largest)):
                    share = shares[j, k]
                    pushed = abs(share) if share * (rows[i, k] * number) > 0.0 else 0.0
                    largest[k] = max(largest[k], pushed)
        out[i] = largest.max()
