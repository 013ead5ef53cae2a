"""The two sides of a sum over sparse rows, and which rows push a coordinate too far.

Rows are those of a CSR matrix, a coordinate is a class k and a column j, and row i adds
r_ik x_ij to it. Where few rows have a column, few can push its coordinates too far.
"""

from __future__ import annotations

from mgce_sklearn.kernels.compilation import jit


@jit
def add_sides(indptr, indices, numbers, rows, raising, lowering):
    """Add what is positive of r_ik x_ij to raising, and the size of the rest to lowering (d, C)."""
    for i in range(len(rows)):
        for a in range(indptr[i], indptr[i + 1]):
            j = indices[a]
            for k in range(rows.shape[1]):
                part = rows[i, k] * numbers[a]
                raising[j, k] += max(part, 0.0)
                lowering[j, k] += max(-part, 0.0)


@jit
def largest_share(indptr, indices, numbers, rows, shares, any_share, out):
    """Write the largest |share| of the coordinates that a row pushes the way of its sign (n,)."""
    for i in range(len(rows)):
        largest = 0.0
        for a in range(indptr[i], indptr[i + 1]):
            j = indices[a]
            if any_share[j]:
                for k in range(rows.shape[1]):
                    share = shares[j, k]
                    if share * (rows[i, k] * numbers[a]) > 0.0:
                        largest = max(largest, abs(share))
        out[i] = largest
