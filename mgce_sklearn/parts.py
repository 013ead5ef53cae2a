"""Parts of the rows: the interface through which objectives and solvers read them.

A sum over rows is computed as a sum over parts. A *term* is a function of a `Part`, with small
arguments that can be pickled. Its results for all parts are combined in the order of the rows.
Arrays with one entry for each row are stored with their part. Other modules refer to them by a
name, `Kept`. So the same solvers run over rows in memory, in files and on other machines.

`RowsInMemory` has a part for every thread.
"""

from __future__ import annotations

import itertools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from typing import Any, ClassVar, TypeVar

import numpy as np

from mgce_sklearn.arrays import Array
from mgce_sklearn.design import WORKING_MEMORY, Design
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import RowTeam, one_blas_thread

# A term returns a number, an array, a tuple of these, or None.
Term = Callable[["Part"], Any]

Name = TypeVar("Name", bound="Kept")

# A term that returns an array (K, rows) with one column for each row, as `Kept` does.
Columns = Term

_numbers = itertools.count()


class LostRows(Exception):
    """Arrays that were stored with some rows were lost together with their machine."""


class Objects(dict):
    """Objects that belong to rows and are not arrays of columns, by their key."""

    def __missing__(self, key: int) -> Any:
        raise LostRows(f"rows have nothing under the name {key}")


class RowArrays(dict):
    """Arrays with one column for each row, by their key.

    Parameters
    ----------
    n_rows : int
    first_row : int, default=0
        Place of the first of these among all rows.

    Attributes
    ----------
    objects : Objects
    changed : int
        Number of the last change, see `Parts.change`.
    """

    def __init__(self, n_rows: int, first_row: int = 0) -> None:
        super().__init__()
        self.n_rows, self.first_row = n_rows, first_row
        self.objects, self.changed = Objects(), -1

    def __missing__(self, key: int) -> Any:
        raise LostRows(f"rows have nothing under the name {key}")

    def keep_only(self, keys: Any) -> None:
        """Delete everything with another key."""
        for own in (self, self.objects):
            for key in own.keys() - keys:
                del own[key]


class Part:
    """Consecutive rows, with their labels and the arrays that have one entry for each row.

    Parameters
    ----------
    design : Design
    labels : Labels or None
    arrays : RowArrays
        Arrays of these rows, and perhaps of more rows around them.
    start : int, default=0
        Place of the first row in ``arrays``.
    """

    __slots__ = ("_blocks", "arrays", "design", "labels", "start", "stop")

    def __init__(
        self, design: Design, labels: Labels | None, arrays: RowArrays, start: int = 0
    ) -> None:
        self.design, self.labels, self.arrays = design, labels, arrays
        self.start, self.stop = start, start + design.n_rows
        self._blocks: dict[int, list[Part]] = {}

    @classmethod
    def of(cls, design: Design, labels: Labels | None = None) -> Part:
        """Return rows without arrays."""
        return cls(design, labels, RowArrays(design.n_rows))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def first_row(self) -> int:
        """Place of the first row among all rows."""
        return self.arrays.first_row + self.start

    def view(self, begin: int, end: int) -> Part:
        """Return rows ``begin`` to ``end`` of this part."""
        labels = None if self.labels is None else self.labels.take(slice(begin, end))
        return Part(self.design.view(begin, end), labels, self.arrays, self.start + begin)

    def of_its_own(self, begin: int, end: int) -> Part:
        """Return the same, with its own dict of arrays, which are views of these at first."""
        part = self.view(begin, end)
        own = RowArrays(end - begin, part.first_row)
        for key, array in dict(self.arrays).items():  # names may be deleted meanwhile
            own[key] = array[..., part.start : part.stop]
        return Part(part.design, part.labels, own)

    def blocks(self, width: int = 1) -> Iterable[Part]:
        """Cut the rows into blocks, shorter ones if a term makes ``width`` numbers for each row."""
        return self.blocks_of(self.design.rows_at_a_time(width))

    def blocks_of(self, size: int) -> Iterable[Part]:
        """Cut the rows into blocks of so many, the same objects in every call."""
        if self.n_rows <= size and self.design.views_are_free:
            return (self,)
        views = (self.view(b, min(b + size, self.n_rows)) for b in range(0, self.n_rows, size))
        if not self.design.views_are_free:
            return views
        if size not in self._blocks:
            self._blocks[size] = list(views)
        return self._blocks[size]

    def hold(self, name: Held, thing: Any) -> None:
        """Store an object of the rows that ``arrays`` belongs to."""
        self.arrays.objects[name.key] = thing

    def allotted(self, kept: Kept, *lead: int, dtype: Any = None) -> Array:
        """Return the columns (..., rows) of these rows in an array, made if there is none."""
        array = self.arrays.get(kept.key)
        if array is None:
            shape = *lead, self.arrays.n_rows
            array = self.design.empty(*shape) if dtype is None else np.empty(shape, dtype)
            self.arrays[kept.key] = array
        return array[..., self.start : self.stop]


class Kept:
    """Name of an array with one column for each row, which is stored with the parts.

    Called with a part, it returns the columns of that part. The array is deleted when the name is.

    Parameters
    ----------
    forget : callable
        Called with the key when the name is deleted.
    """

    def __init__(self, forget: Callable[[int], None]) -> None:
        self.key = next(_numbers)
        weakref.finalize(self, forget, self.key)

    def __call__(self, part: Part) -> Array:
        """Return the columns (..., rows) of a part.

        Raises
        ------
        LostRows
            If the part has none of this name.
        """
        return part.arrays[self.key][..., part.start : part.stop]

    def __reduce__(self) -> Any:
        """Pickle only the key: deleting the copy must not delete the array."""
        return _borrowed, (type(self), self.key)


class Held(Kept):
    """Name of an object of every part, such as the state of its rows."""

    def __call__(self, part: Part) -> Any:
        """Return the object of a part."""
        return part.arrays.objects[self.key]


def _borrowed(kind: type[Kept], key: int) -> Kept:
    name = kind.__new__(kind)
    name.key = key
    return name


def forget(owners: Sequence[RowArrays], key: int) -> None:
    """Delete the array or the object of a key from all owners."""
    for arrays in owners:
        arrays.pop(key, None)
        arrays.objects.pop(key, None)


def add(one: Any, other: Any) -> Any:
    """Return the sum of two results of a term."""
    if isinstance(one, tuple):
        return tuple(map(add, one, other))
    return None if one is None else one + other


def of_blocks(term: Term, width: int) -> Term:
    """Return a term of a part that sums the results of another term for its blocks."""
    return partial(_sum_over_blocks, term, width)


def _sum_over_blocks(term: Term, width: int, part: Part) -> Any:
    return reduce(add, map(term, part.blocks(width)))


def _columns_of(array: Array, part: Part) -> Array:
    return array[..., part.first_row : part.first_row + part.n_rows]


def once(term: Term) -> Term:
    """Return a term that changes arrays of a whole part, and only once if called twice."""
    return partial(_once, next(_numbers), term)


def _once(number: int, term: Term, part: Part) -> None:
    if part.arrays.changed < number:
        term(part)
        part.arrays.changed = number


def _in_turn(terms: Sequence[Term], part: Part) -> list[Any]:
    return [term(part) for term in terms]


def _each(combine: Sequence[Callable[[Any, Any], Any]], one: list[Any], other: list[Any]) -> Any:
    return [function(*pair) for function, *pair in zip(combine, one, other, strict=True)]


def _keep(columns: Columns, kept: Kept, width: int, part: Part) -> None:
    for block in part.blocks(width):
        array = columns(block)
        block.allotted(kept, *array.shape[:-1])[:] = array


class Parts(ABC):
    """Rows in parts.

    Attributes
    ----------
    like : Design
        Some of the rows, or none. It makes arrays on the device of the rows.
    n_rows : int
    total_weight : float
        The sum of the weights, n in formulas.
    column_scale : ndarray of shape (d,)
        Root mean square of each feature, 1 for a feature that is always zero.
    certain : bool
        Whether the labels, if there are any, are classes and not distributions.
    reading_costs : bool
        Whether reading the features takes longer than most computations with them.
    latency : float
        Seconds that every pass takes in addition to its computations.
    at_once : int
        Number of parts that several processes compute at the same time.
    working_memory : int
        Bytes that may be stored beside the rows to save time. More is computed again.
    has_single : bool
        Whether `compact` would save time.
    """

    like: Any
    reading_costs: ClassVar[bool] = False
    latency: ClassVar[float] = 0.0
    at_once: ClassVar[int] = 1
    working_memory: ClassVar[int] = WORKING_MEMORY
    has_single = False

    @property
    def told(self) -> str:
        """A few words about the passes over the rows for verbose output, if reading costs."""
        return ""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    @abstractmethod
    def total_weight(self) -> float:
        """Sum of the weights."""

    @property
    @abstractmethod
    def certain(self) -> bool:
        """Whether the labels are classes and not distributions."""

    @abstractmethod
    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine the results of a term for every part, in the order of the rows.

        Parameters
        ----------
        term : callable
        combine : callable, default=`add`
        features : bool, default=True
            Whether the term reads features. A pass without features costs less.
        """

    @abstractmethod
    def opened(self, width: int) -> Any:
        """Return a context with the same rows, ready for many sums of ``width`` numbers a row."""

    @abstractmethod
    def named(self, kind: type[Name]) -> Name:
        """Return a new name for an array or an object that is stored with the parts."""

    @abstractmethod
    def compact(self) -> Parts:
        """Return the same rows in single precision."""

    @abstractmethod
    def columns(self, columns: Array) -> Parts:
        """Return the same rows with some of their columns, and the intercept as it was."""

    @abstractmethod
    def together(self) -> Part:
        """Return all rows as one part, if they are in memory."""

    @property
    @abstractmethod
    def sample(self) -> RowsInMemory:
        """Some of the rows, in memory."""

    def centered_in_memory(self) -> Parts:
        """Return the same rows; the center of dense ones is subtracted in a copy."""
        return self

    def on_host(self) -> Parts:
        """Return the same rows in numpy's arrays, perhaps without labels."""
        return self

    def kept(self) -> Kept:
        """Return a new name for an array with one column for each row."""
        return self.named(Kept)

    def held(self) -> Held:
        """Return a new name for an object of each part."""
        return self.named(Held)

    def kept_array(self, array: Array) -> Kept:
        """Store an array (..., n) with one column for each row."""
        return self.keep(partial(_columns_of, array), features=False)

    @property
    def n_features(self) -> int:
        """Number of features d, the intercept's constant included."""
        return self.like.n_features

    def sum(self, term: Term, width: int = 1, features: bool = True) -> Any:
        """Sum the results of a term for blocks of rows.

        If d is small, an array (K, n) is as large as X. A term that makes several of them computes
        a sum in blocks. ``width`` is how many numbers it makes for each row.
        """
        return self.over(of_blocks(term, width), features=features)

    def in_one_pass(self, *terms: tuple[Term, Callable[[Any, Any], Any]]) -> list[Any]:
        """Return the results of `over` for several pairs (term, combine), in turn.

        All terms are computed for a part before the next part is read.
        """
        each, combine = zip(*terms, strict=True)
        return self.over(partial(_in_turn, each), partial(_each, combine))

    def keep(self, columns: Columns, width: int = 1, features: bool = True) -> Kept:
        """Store the results of a term for blocks of rows, arrays (..., rows)."""
        kept = self.kept()
        self.over(partial(_keep, columns, kept, width), features=features)
        return kept

    def change(self, term: Term, width: int = 1, features: bool = True) -> None:
        """Run a term of blocks that changes arrays stored with the rows.

        A pass may be repeated if parts are lost. The change is still made only once.
        """
        self.over(once(of_blocks(term, width)), features=features)

    def _same(self, **changes: Any) -> Any:
        """Return the same rows with other fields, and with the properties computed so far."""
        other: Any = replace(self, **changes)  # type: ignore[type-var]
        known = {"column_scale", "total_weight", "sample"} & vars(self).keys()
        vars(other).update((name, vars(self)[name]) for name in known)
        return other

    @cached_property
    def column_scale(self) -> Array:
        """Root mean square of each feature (d,), 1 for a feature that is always zero."""
        square = self.sum(_mean_square)
        arrays = self.like.namespace
        return arrays.sqrt(arrays.where(square > 0.0, square, 1.0))


def column_range(part: Part) -> tuple[Array, Array]:
    """Return the least and the largest value (d,) of each feature: a term."""
    return reduce(wider_range, (block.design.column_range() for block in part.blocks()))


def wider_range(one: tuple[Array, Array], other: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the range of both parts."""
    return np.minimum(one[0], other[0]), np.maximum(one[1], other[1])


def _mean_square(part: Part) -> Array:
    return part.design.mean_square()


@dataclass(frozen=True)
class RowsInMemory(Parts):
    """Rows in memory, dense, sparse or a tensor: a part for every thread.

    Parameters
    ----------
    whole : Part
        All rows.
    shares : tuple of Part, default=()
        All rows again, one part for each thread. None: the whole is the only part.
    team : RowTeam, default=None
        The threads. None: the thread of the caller.
    """

    whole: Part
    shares: tuple[Part, ...] = ()
    team: RowTeam | None = None

    @classmethod
    def of(cls, design: Design, labels: Labels | None = None) -> RowsInMemory:
        """Return the rows of a design."""
        return cls(Part.of(design, labels))

    @property
    def like(self) -> Design:
        """The design of all rows."""
        return self.whole.design

    @property
    def has_single(self) -> bool:  # type: ignore[override]
        """Whether `compact` would save time."""
        return self.like.has_single

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.whole.n_rows

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return self.like.total_weight

    @property
    def certain(self) -> bool:
        """Whether the labels are classes and not distributions."""
        labels: Any = self.whole.labels  # read only if there are labels
        return labels.certain

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.shares or (self.whole,)

    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine the results of a term for every part; see `Parts.over`."""
        if self.team is None:
            with one_blas_thread():
                return reduce(combine, map(term, self._parts))
        return reduce(combine, self.team.map(term, self._parts))

    @contextmanager
    def opened(self, width: int) -> Iterator[RowsInMemory]:
        """Return a context with the same rows, and threads for sums of ``width`` numbers a row.

        Within a context it returns the same rows and threads.
        """
        if self.team is not None:
            yield self
            return
        with self.like.team(width) as team:
            shares: tuple[Part, ...] = ()
            if len(team.shares) > 1:
                shares = tuple(self.whole.of_its_own(*share) for share in team.shares)
            yield self._same(shares=shares, team=team)

    def named(self, kind: type[Name]) -> Name:
        """Return a new name for an array or an object that is stored with the parts."""
        return kind(partial(forget, [part.arrays for part in self._parts]))

    def kept_array(self, array: Array) -> Kept:
        """Store an array (..., n) with one column for each row."""
        kept, begin = self.kept(), 0
        for part in self._parts:
            part.arrays[kept.key] = array[..., begin : begin + part.n_rows]
            begin += part.n_rows
        return kept

    def together(self) -> Part:
        """Return all rows as one part."""
        return self.whole

    @property
    def sample(self) -> RowsInMemory:
        """All of the rows."""
        return self

    def compact(self) -> RowsInMemory:
        """Return the same rows in single precision."""
        design = self.like.compact(self.column_scale)
        if design is self.like:
            return self
        whole = Part(design, self.whole.labels, self.whole.arrays)
        shares, begin = [], 0
        for share in self.shares:
            end = begin + share.n_rows
            shares.append(Part(design.view(begin, end), share.labels, share.arrays))
            begin = end
        return self._same(whole=whole, shares=tuple(shares))

    def centered_in_memory(self) -> RowsInMemory:
        """Return the same rows; the center of dense ones is subtracted in a copy."""
        whole = self.whole
        return RowsInMemory(Part(self.like.centered_in_memory(), whole.labels, whole.arrays))

    def columns(self, columns: Array) -> RowsInMemory:
        """Return the same rows with some of their columns, and the intercept as it was."""
        whole = self.whole
        return RowsInMemory(Part(self.like.columns(columns), whole.labels, whole.arrays))

    def on_host(self) -> RowsInMemory:
        """Return the same rows, without labels, in numpy's arrays."""
        return self if self.like.is_numpy else RowsInMemory.of(self.like.on_host())

    def centered_at(self, center: Array) -> RowsInMemory:
        """Return the same rows less ``center`` (d,), whose last entry is 0 with an intercept."""
        return RowsInMemory.of(self.like.centered_at(center), self.whole.labels)
