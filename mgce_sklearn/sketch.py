"""A sketch of the rows of a fit, of a fixed size, by which they are recognized later.

Every row has a code of 64 bits. The sketch stores the smallest codes, and how often each occurred.
Two sketches are compared up to the smaller of their largest codes. Below it no row is missing in
either, so that they show how many rows are in both. The rows compared are a share of all rows
that is practically a random sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mgce_sklearn.arrays import is_tensor, namespace, on_host

Array = np.ndarray[Any, Any]

# Number of different rows that a sketch stores: 8 kB.
SIZE = 512

# Rows of a block if they are sparse, and numbers if not.
ROWS_AT_A_TIME = 8192
NUMBERS_AT_A_TIME = 2**17

# Share of rows seen before that is tolerated in addition to coincidences.
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
        """Tell whether the other's rows were seen: more of them are in this than by coincidence.

        The same rows, each as often, are no coincidence either.
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
        """Tell whether other rows may be new draws from the distribution of these.

        New rows with few features may coincide with these by chance. Rows that this has several
        times are left out. Among the others, the share of rows that this has once is compared with
        the share to be expected among new rows. By the estimate of Good and Turing, the ratio of
        new rows that this has once to new rows that this does not have is that of 2 n_2 to n_1,
        where n_1 rows occur once in this and n_2 rows twice. A share is no coincidence if it is
        larger by more than a tenth, four standard errors and one row.
        """
        alone, pairs = (int((self.counts == times).sum()) for times in (1, 2))
        pairs += 1  # none among few rows is no evidence that there are none
        n_rare = alone + 2 * pairs
        share = 2.0 * pairs / n_rare
        n_once = asked.n_among(self.codes[self.counts == 1])
        n_left = n_once + int(asked.counts.sum()) - asked.n_among(self.codes)
        # The variance has two sources: the other rows, and the pairs, which count twice.
        variance = share * (1.0 - share) * (1.0 / max(1, n_left) + 2.0 / n_rare)
        return n_once <= 1 + n_left * (share + TOLERATED + 4.0 * float(np.sqrt(variance)))

    def n_among(self, codes: Array) -> int:
        """Return how many of the rows have one of these codes."""
        return int(self.counts[np.isin(self.codes, codes)].sum())


def row_codes(X: Any) -> Iterator[Array]:
    """Yield the codes of rows, a block of rows at a time. Equal rows have equal codes.

    The code is the sum over columns of the bits of x_j, mixed, times an odd number of the column,
    modulo 2**64. Zeros add nothing, so that a sparse row and a dense one with the same numbers have
    the same code.
    """
    n_rows, n_columns = X.shape
    # A bit generator gives the same numbers in all versions of numpy.
    factors = (np.random.PCG64(0).random_raw(n_columns) | np.uint64(1)).view(np.int64)
    if is_tensor(X):
        factors = namespace(X).as_tensor(factors, device=X.device)
    size = ROWS_AT_A_TIME if sp.issparse(X) else max(1, NUMBERS_AT_A_TIME // n_columns)
    for start in range(0, n_rows, size):
        yield on_host(_codes(X[start : start + size], factors)).view(np.uint64)


def _codes(block: Any, factors: Any) -> Any:
    if is_tensor(block):  # devices have no matrix products of integers
        return (_mixed_bits(block) * factors).sum(dim=1)
    if not sp.issparse(block):
        return _mixed_bits(block) @ factors
    block.sum_duplicates()
    bits = sp.csr_array((_mixed_bits(block.data), block.indices, block.indptr), block.shape)
    return bits @ factors


def _mixed_bits(numbers: Any) -> Any:
    """Return the bits of float64 numbers as integers, 0 for 0."""
    arrays = namespace(numbers)
    # Adding 0 turns -0 into 0, and makes a copy.
    bits = (arrays.asarray(numbers, dtype=arrays.float64) + 0.0).view(arrays.int64)
    # The last bits of round numbers are 0, and the last bits of a product depend on them alone.
    bits ^= bits >> 32
    return bits
