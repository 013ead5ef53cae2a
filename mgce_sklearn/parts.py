"""Parts of the rows: the one door through which everything above reads them.

A sum over rows is a sum over parts. A term is a function of a `Part`, with small arguments that
can be pickled; what it returns of all parts is combined in the order of the rows. What has one
entry a row stays with its part, and is known above by a name alone, `Kept`: so the same solvers
run over rows in memory, in files and on other machines.

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

# What a term returns of a part: a number, an array, a tuple of such, or None.
Term = Callable[["Part"], Any]

Name = TypeVar("Name", bound="Kept")

# One column a row: a term that returns an array (K, rows), as `Kept` does.
Columns = Term

_numbers = itertools.count()


class LostRows(Exception):
    """What was kept with some rows went with the machine that held it."""


class Objects(dict):
    """What is no array of columns, by its key."""

    def __missing__(self, key: int) -> Any:
        raise LostRows(f"rows have nothing under the name {key}")


class RowArrays(dict):
    """Arrays of one column a row, by their key.

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
        """Forget what has none of these keys."""
        for own in (self, self.objects):
            for key in own.keys() - keys:
                del own[key]


class Part:
    """Rows that lie together, with all that has one entry a row.

    Parameters
    ----------
    design : Design
    labels : Labels or None
    arrays : RowArrays
        Of more rows perhaps, of which these are some.
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
        """Return rows with no arrays yet."""
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
        """Return the same, with arrays of its own that begin with views of these."""
        part = self.view(begin, end)
        own = RowArrays(end - begin, part.first_row)
        for key, array in dict(self.arrays).items():  # names may end meanwhile
            own[key] = array[..., part.start : part.stop]
        return Part(part.design, part.labels, own)

    def blocks(self, width: int = 1) -> Iterable[Part]:
        """Cut the rows into blocks, shorter ones for ``width`` numbers a row."""
        return self.blocks_of(self.design.rows_at_a_time(width))

    def blocks_of(self, size: int) -> Iterable[Part]:
        """Cut the rows into blocks of so many, the same ones whenever they are asked for."""
        if self.n_rows <= size and self.design.views_are_free:
            return (self,)
        views = (self.view(b, min(b + size, self.n_rows)) for b in range(0, self.n_rows, size))
        if not self.design.views_are_free:
            return views
        if size not in self._blocks:
            self._blocks[size] = list(views)
        return self._blocks[size]

    def hold(self, name: Held, thing: Any) -> None:
        """Keep an object of all rows that are kept together with these."""
        self.arrays.objects[name.key] = thing

    def allotted(self, kept: Kept, *lead: int, dtype: Any = None) -> Array:
        """Return the columns (..., rows) of these rows of an array, a new one if there is none."""
        array = self.arrays.get(kept.key)
        if array is None:
            shape = *lead, self.arrays.n_rows
            array = self.design.empty(*shape) if dtype is None else np.empty(shape, dtype)
            self.arrays[kept.key] = array
        return array[..., self.start : self.stop]


class Kept:
    """Name of an array of one column a row, which stays with the parts as long as the name lives.

    Called with a part it returns the part's columns.

    Parameters
    ----------
    forget : callable
        Is given the key when the name ends.
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
        """Pickle the key alone: who holds the name elsewhere does not own what it names."""
        return _borrowed, (type(self), self.key)


class Held(Kept):
    """Name of an object of every part, rather than an array: the state of its rows."""

    def __call__(self, part: Part) -> Any:
        """Return the object of a part."""
        return part.arrays.objects[self.key]


def _borrowed(kind: type[Kept], key: int) -> Kept:
    name = kind.__new__(kind)
    name.key = key
    return name


def forget(owners: Sequence[RowArrays], key: int) -> None:
    """Forget what has a key, wherever it may be kept."""
    for arrays in owners:
        arrays.pop(key, None)
        arrays.objects.pop(key, None)


def add(one: Any, other: Any) -> Any:
    """Return the sum of what terms return."""
    if isinstance(one, tuple):
        return tuple(map(add, one, other))
    return None if one is None else one + other


def of_blocks(term: Term, width: int) -> Term:
    """Return the term of a part that adds what one returns of its blocks."""
    return partial(_sum_over_blocks, term, width)


def _sum_over_blocks(term: Term, width: int, part: Part) -> Any:
    return reduce(add, map(term, part.blocks(width)))


def _columns_of(array: Array, part: Part) -> Array:
    return array[..., part.first_row : part.first_row + part.n_rows]


def once(term: Term) -> Term:
    """Return the term of a whole part that changes what it holds, and not twice if told twice."""
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
        Some of the rows, or none: what makes arrays where the rows are.
    n_rows : int
    total_weight : float
        n of the mathematics: the sum of the weights.
    column_scale : ndarray of shape (d,)
        Root mean square of each feature, 1 for a feature that is always zero.
    certain : bool
        Whether the labels, if there are any, are a class each.
    reading_costs : bool
        Whether to come by the features takes longer than most of what is done with them.
    latency : float
        Seconds that a pass takes whatever it computes.
    at_once : int
        Number of parts that are looked at at the same time, by more than one process.
    working_memory : int
        Bytes of what may be kept beside the rows to save time: more is computed again.
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
        """What to tell of the passes over the rows, in a few words, if reading costs."""
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
        """Whether the labels are a class each."""

    @abstractmethod
    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine what a term returns of every part, in the order of the rows.

        Parameters
        ----------
        term : callable
        combine : callable, default=`add`
        features : bool, default=True
            Whether the term reads features. What else the parts have costs less to come by.
        """

    @abstractmethod
    def opened(self, width: int) -> Any:
        """Give the same rows, in a context, ready for many sums of so many numbers a row."""

    @abstractmethod
    def named(self, kind: type[Name]) -> Name:
        """Return a new name for what stays with the parts."""

    @abstractmethod
    def compact(self) -> Parts:
        """Return the same rows in single precision, for what needs no more."""

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
        """Return the same rows; dense ones less their center in a copy, for many passes."""
        return self

    def on_host(self) -> Parts:
        """Return the same rows, perhaps without labels, in numpy's arrays."""
        return self

    def kept(self) -> Kept:
        """Return a new name for an array of one column a row."""
        return self.named(Kept)

    def held(self) -> Held:
        """Return a new name for an object of each part."""
        return self.named(Held)

    def kept_array(self, array: Array) -> Kept:
        """Keep an array (..., n) of one column a row."""
        return self.keep(partial(_columns_of, array), features=False)

    @property
    def n_features(self) -> int:
        """Number of features d, the intercept's constant included."""
        return self.like.n_features

    def sum(self, term: Term, width: int = 1, features: bool = True) -> Any:
        """Add what a term returns of blocks of rows, with ``width`` numbers a row on the way.

        An array (K, n) is as large as X where d is small: what needs a few of them on the way
        to a sum takes the rows in blocks.
        """
        return self.over(of_blocks(term, width), features=features)

    def in_one_pass(self, *terms: tuple[Term, Callable[[Any, Any], Any]]) -> list[Any]:
        """Return what `over` gives for several pairs of a term and how to combine, in turn.

        Every part goes through all of them before the next one is read.
        """
        each, combine = zip(*terms, strict=True)
        return self.over(partial(_in_turn, each), partial(_each, combine))

    def keep(self, columns: Columns, width: int = 1, features: bool = True) -> Kept:
        """Keep what a term returns of blocks of rows, an array (..., rows)."""
        kept = self.kept()
        self.over(partial(_keep, columns, kept, width), features=features)
        return kept

    def change(self, term: Term, width: int = 1, features: bool = True) -> None:
        """Have a term of blocks change what is kept with the rows.

        Passes may be repeated where parts are lost on the way. What depends on what it replaces
        is computed once all the same.
        """
        self.over(once(of_blocks(term, width)), features=features)

    def _same(self, **changes: Any) -> Any:
        """Return the same rows with other fields, and with what is known of them."""
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
        All rows again, one part a thread; none: the whole is the only one.
    team : RowTeam, default=None
        The threads. None: that of the caller.
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
        """Whether the labels are a class each."""
        labels: Any = self.whole.labels  # asked for where they are known
        return labels.certain

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.shares or (self.whole,)

    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine what a term returns of every part; see `Parts.over`."""
        if self.team is None:
            with one_blas_thread():
                return reduce(combine, map(term, self._parts))
        return reduce(combine, self.team.map(term, self._parts))

    @contextmanager
    def opened(self, width: int) -> Iterator[RowsInMemory]:
        """Give the same rows with threads for sums of ``width`` numbers a row.

        Within the context they are as they are.
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
        """Return a new name for what stays with the parts."""
        return kind(partial(forget, [part.arrays for part in self._parts]))

    def kept_array(self, array: Array) -> Kept:
        """Keep an array (..., n) of one column a row."""
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
        """Return the same rows in single precision, for what needs no more."""
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
        """Return the same rows; dense ones less their center in a copy, for many passes."""
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
