"""A sketch: what remains of the rows of a fit by which it knows them again, of a fixed size.

Every row has a code of 64 bits. The sketch holds the smallest codes, and how often each occurred.
Up to the smaller end of two sketches nothing is missing in either, so that they tell how many rows
are in both: of a share of all rows, which is as good as drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mgce_sklearn.arrays import is_tensor, namespace, on_host

Array = np.ndarray[Any, Any]

# Different rows that a sketch holds: 8 kB.
SIZE = 512

# Rows of a block if they are sparse, and numbers if not.
ROWS_AT_A_TIME = 8192
NUMBERS_AT_A_TIME = 2**17

# A share of rows seen before that chance need not explain.
TOLERATED = 0.1


class RowSketch(NamedTuple):
    """The rows with the smallest codes, of all that were read.

    Attributes
    ----------
    codes : ndarray of shape (m,), uint64
        Different, in ascending order, at most `SIZE`.
    counts : ndarray of shape (m,)
        How many rows had each.
    """

    codes: Array
    counts: Array

    @classmethod
    def none(cls) -> RowSketch:
        """Return the sketch of no rows."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64))

    @classmethod
    def of(cls, X: Any) -> RowSketch:
        """Return the sketch of the rows of an ndarray, a CSR matrix or a tensor."""
        sketch = cls.none()
        for codes in row_codes(X):
            small = codes[codes <= sketch.end]
            sketch = sketch.joined(cls(*np.unique(small, return_counts=True)))
        return sketch

    def joined(self, other: RowSketch) -> RowSketch:
        """Return the sketch of the rows of both."""
        codes, positions = np.unique(np.append(self.codes, other.codes), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, positions, np.append(self.counts, other.counts))
        return RowSketch(codes[:SIZE].copy(), counts[:SIZE].copy())

    @property
    def end(self) -> np.uint64:
        """The largest code up to which no row is missing."""
        return np.uint64(self.codes[-1] if len(self.codes) == SIZE else np.iinfo(np.uint64).max)

    def up_to(self, end: np.uint64) -> RowSketch:
        """Return the part with codes that are not larger."""
        return RowSketch(*(part[self.codes <= end] for part in self))

    def has_seen(self, other: RowSketch) -> bool:
        """Tell whether more of the other's rows are in this than chance explains.

        Nor does chance explain the very same rows, each as often.
        """
        known, asked = self._in_common(other)
        return not known.explains_by_chance(asked) or all(map(np.array_equal, self, other))

    def _in_common(self, other: RowSketch) -> tuple[RowSketch, RowSketch]:
        """Return the parts of both up to which no row is missing in either."""
        end = min(self.end, other.end)
        return self.up_to(end), other.up_to(end)

    def check_unseen(self, other: RowSketch) -> None:
        """Raise ValueError if this `has_seen` the other's rows."""
        if not self.has_seen(other):
            return
        known, asked = self._in_common(other)
        raise ValueError(
            f"X must be rows that the fit has not seen; of {asked.counts.sum()} rows compared, "
            f"{asked.n_among(known.codes)} are rows of the fit. Hold rows out before the fit, and "
            "give these."
        )

    def explains_by_chance(self, asked: RowSketch) -> bool:
        """Tell whether other rows may be draws from one distribution with these.

        Rows of few features may well coincide. Those that this has several times are left out, and
        of the rest the share that this has once is compared with what new rows would have: by Good
        and Turing, rows that it has once stand to rows that it has not as twice the number of pairs
        in it to the number of those that are alone. A tenth more of them, and four standard errors,
        and one row, is no coincidence.
        """
        alone, pairs = (int((self.counts == times).sum()) for times in (1, 2))
        pairs += 1  # where there are few rows none says little
        n_rare = alone + 2 * pairs
        share = 2.0 * pairs / n_rare
        n_once = asked.n_among(self.codes[self.counts == 1])
        n_left = n_once + int(asked.counts.sum()) - asked.n_among(self.codes)
        # Of the rows asked for, and of the pairs, which count twice.
        variance = share * (1.0 - share) * (1.0 / max(1, n_left) + 2.0 / n_rare)
        return n_once <= 1 + n_left * (share + TOLERATED + 4.0 * float(np.sqrt(variance)))

    def n_among(self, codes: Array) -> int:
        """Return how many of the rows have one of these codes."""
        return int(self.counts[np.isin(self.codes, codes)].sum())


def row_codes(X: Any) -> Iterator[Array]:
    """Yield a number for every row, a block of rows at a time: the same for the same row.

    It is the sum of the bits of x_j, mixed, times an odd number per column, modulo 2**64. Zeros
    add nothing, so that sparse and dense rows of the same numbers have the same code.
    """
    n_rows, n_columns = X.shape
    # What a generator of bits gives is the same in all versions of numpy.
    factors = (np.random.PCG64(0).random_raw(n_columns) | np.uint64(1)).view(np.int64)
    if is_tensor(X):
        factors = namespace(X).as_tensor(factors, device=X.device)
    size = ROWS_AT_A_TIME if sp.issparse(X) else max(1, NUMBERS_AT_A_TIME // n_columns)
    for start in range(0, n_rows, size):
        yield on_host(_codes(X[start : start + size], factors)).view(np.uint64)


def _codes(block: Any, factors: Any) -> Any:
    if is_tensor(block):  # of integers devices have no matrix products
        return (_mixed_bits(block) * factors).sum(dim=1)
    if not sp.issparse(block):
        return _mixed_bits(block) @ factors
    block.sum_duplicates()
    bits = sp.csr_array((_mixed_bits(block.data), block.indices, block.indptr), block.shape)
    return bits @ factors


def _mixed_bits(numbers: Any) -> Any:
    """Return the bits of float64 numbers as integers, 0 for 0."""
    arrays = namespace(numbers)
    # Adding 0 makes -0 a 0, and a copy.
    bits = (arrays.asarray(numbers, dtype=arrays.float64) + 0.0).view(arrays.int64)
    # The last bits of round numbers are 0, and what a product has there depends on these alone.
    bits ^= bits >> 32
    return bits
