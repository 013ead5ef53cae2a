"""Labels of rows: a class each, or a distribution over the classes.

A distribution counts as K copies of its row, one for each class, with its probabilities as shares
of the row's weight: as if the label were drawn from it. Both kinds answer the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from mgce_sklearn.arrays import Array, on_host, positions_of

Rows = slice | Array


class Copies(NamedTuple):
    """Rows as often as they have classes, on the host.

    Attributes
    ----------
    positions : ndarray of shape (m,)
        Which of the rows asked for.
    codes : ndarray of shape (m,)
        Class of each copy.
    shares : ndarray of shape (m,)
        Share of the row's weight that the copy has.
    """

    positions: Array
    codes: Array
    shares: Array


class Labels(Protocol):
    """What moments, objectives and streams ask of labels."""

    @property
    def certain(self) -> bool:
        """Whether every row has one class."""

    @property
    def n_copies(self) -> int:
        """Number of copies of a row, at most."""

    @property
    def codes(self) -> Array:
        """Class of each row (n,), if every row has one."""

    def take(self, rows: Rows) -> Labels:
        """Return the labels of some rows."""

    def put(self, design: Any) -> Labels:
        """Return the labels where the rows of a design are."""

    def copies(self) -> Copies | None:
        """Return the rows as copies of one class each, None if each has one."""

    def share(self, k: int) -> Array:
        """Return the probability (n,) of class k, on the host."""

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes that occur, and the first row of each, on the host."""

    def add_to(self, columns: Array, factor: Any) -> None:
        """Add ``factor``, a number or an array (n,), times the labels to columns (K, n)."""


@dataclass(frozen=True)
class HardLabels:
    """A class for each row.

    Parameters
    ----------
    codes : Array of shape (n,)
        0 to K - 1: indices, where the rows are.
    """

    codes: Array
    certain = True
    n_copies = 1

    def take(self, rows: Rows) -> HardLabels:
        """Return the labels of some rows."""
        return HardLabels(self.codes[rows])

    def put(self, design: Any) -> HardLabels:
        """Return the labels where the rows of a design are."""
        return HardLabels(design.put_codes(self.codes))

    def copies(self) -> None:
        """Return None: each row has one class."""

    def share(self, k: int) -> Array:
        """Return 1 for rows of class k, else 0."""
        return on_host(self.codes) == k

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes that occur, and the first row of each."""
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
        Columns that sum to 1, where the rows are.
    """

    proba: Array
    certain = False

    @property
    def codes(self) -> Array:
        """Class of each row: there are none."""
        raise AttributeError("distributions have no classes of rows; take copies")

    @property
    def n_copies(self) -> int:
        """Number of classes."""
        return len(self.proba)

    def take(self, rows: Rows) -> SoftLabels:
        """Return the labels of some rows."""
        return SoftLabels(self.proba[:, rows])

    def put(self, design: Any) -> SoftLabels:
        """Return the labels where the rows of a design are."""
        return SoftLabels(design.put(self.proba))

    def copies(self) -> Copies:
        """Return each row once for every class that it may have."""
        proba = on_host(self.proba).T
        positions, codes = np.nonzero(proba)
        return Copies(positions, codes, proba[positions, codes])

    def share(self, k: int) -> Array:
        """Return the probability of class k."""
        return on_host(self.proba[k])

    def first_rows(self) -> tuple[Array, Array]:
        """Return the classes that occur, and the first row that may have each."""
        possible = on_host(self.proba) > 0.0
        present = np.flatnonzero(possible.any(axis=1))
        return present, possible[present].argmax(axis=1)

    def add_to(self, columns: Array, factor: Any) -> None:
        """Add ``factor`` times the distributions."""
        columns += factor * self.proba
