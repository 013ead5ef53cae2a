"""Labels of rows: one class for each row, or a distribution over the classes.

A row with a distribution counts as K copies, one for each class. The probabilities are the weight
shares of the copies, so it counts as if its label were drawn. Both kinds of labels have the same
methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mgce_sklearn.arrays import Array, on_host, positions_of

Rows = slice | Array


class Copies(NamedTuple):
    """Copies of rows, one for each class that a row may have, on the host.

    Attributes
    ----------
    positions : ndarray of shape (m,)
        Position of the row of each copy.
    codes : ndarray of shape (m,)
        Class of each copy.
    shares : ndarray of shape (m,)
        Weight share of each copy: the fraction of the weight of its row.
    """

    positions: Array
    codes: Array
    shares: Array


class Labels(Protocol):
    """The methods of labels that moments, objectives and streams use."""

    @property
    def certain(self) -> bool:
        """Whether every row has one class."""

    @property
    def n_copies(self) -> int:
        """Largest number of copies of a row."""

    @property
    def codes(self) -> Array:
        """Class (n,) of each row. Distributions raise AttributeError."""

    def take(self, rows: Rows) -> Labels:
        """Return the labels of some rows."""

    def put(self, design: Any) -> Labels:
        """Return the labels on the device of a design."""

    def copies(self) -> Copies | None:
        """Return the copies of rows, or None if every row has one class."""

    def share(self, k: int) -> Array:
        """Return the weight share (n,) of class k in each row, its probability, on the host."""

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes that occur, and the position of the first row of each, on the host."""

    def add_to(self, columns: Array, factor: Any) -> None:
        """Add ``factor``, a number or an array (n,), times the labels to columns (K, n)."""


@dataclass(frozen=True)
class HardLabels:
    """A class for each row.

    Parameters
    ----------
    codes : Array of shape (n,)
        Class of each row, 0 to K - 1, on the device of the rows.
    """

    codes: Array
    certain = True
    n_copies = 1

    def take(self, rows: Rows) -> HardLabels:
        """Return the labels of some rows."""
        return HardLabels(self.codes[rows])

    def put(self, design: Any) -> HardLabels:
        """Return the labels on the device of a design."""
        return HardLabels(design.put_codes(self.codes))

    def copies(self) -> None:
        """Return None: each row has one class."""

    def share(self, k: int) -> Array:
        """Return True for rows of class k, else False."""
        return on_host(self.codes) == k

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes that occur, and the position of the first row of each."""
        present, rows = np.unique(on_host(self.codes), return_index=True)
        return present, rows

    def add_to(self, columns: Array, factor: Any) -> None:
        """Add ``factor`` at the class of each column."""
        columns[self.codes, positions_of(self.codes)] += factor


@dataclass(frozen=True)
class SoftLabels:
    """A distribution over the classes for each row.

    Parameters
    ----------
    proba : Array of shape (K, n)
        Columns that sum to 1, on the device of the rows.
    """

    proba: Array
    certain = False

    @property
    def codes(self) -> Array:
        """Raise AttributeError: rows have distributions, and not classes."""
        raise AttributeError("distributions have no class for each row; use copies()")

    @property
    def n_copies(self) -> int:
        """Number of classes."""
        return len(self.proba)

    def take(self, rows: Rows) -> SoftLabels:
        """Return the labels of some rows."""
        return SoftLabels(self.proba[:, rows])

    def put(self, design: Any) -> SoftLabels:
        """Return the labels on the device of a design."""
        return SoftLabels(design.put(self.proba))

    def copies(self) -> Copies:
        """Return a copy of each row for every class of positive probability."""
        proba = on_host(self.proba).T
        positions, codes = np.nonzero(proba)
        return Copies(positions, codes, proba[positions, codes])

    def share(self, k: int) -> Array:
        """Return the probability of class k."""
        return on_host(self.proba[k])

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes of positive probability, and the position of the first row of each."""
        possible = on_host(self.proba) > 0.0
        present = np.flatnonzero(possible.any(axis=1))
        return present, possible[present].argmax(axis=1)

    def add_to(self, columns: Array, factor: Any) -> None:
        """Add ``factor`` times the distributions."""
        columns += factor * self.proba
