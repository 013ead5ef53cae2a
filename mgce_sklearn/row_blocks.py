"""RowBlocks: rows that are read block by block, as often as a fit needs, and never all at once."""

from __future__ import annotations

import os
import reprlib
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array

from mgce_sklearn import constraints, validation
from mgce_sklearn.arrays import on_host
from mgce_sklearn.parquet import ParquetRows

Array = np.ndarray[Any, Any]

# 26 MB of 50 float32 columns: large enough that the overhead of a block is negligible.
ROWS_PER_BLOCK = 131072

# The remedy if a pass differs from the first one.
THE_SAME = (
    "Every iter() must start again and give the same blocks in the same order: turn shuffling off, "
    "or make a new RowBlocks if the data have changed."
)


class RowBlock(NamedTuple):
    """Some rows.

    Attributes
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        float32 or float64, finite; contiguous by rows, or without duplicates.
    y : ndarray of shape (n,), or None
        Labels.
    sample_weight : ndarray of shape (n,), or None
        float64, finite and not negative.
    """

    X: Any
    y: Array | None
    sample_weight: Array | None


class RowBlocks:
    """Rows in blocks that can be read again and again: data larger than memory.

    A fit reads its rows several times. Every pass is compared with the first one, and data that
    have changed are an error.

    Parameters
    ----------
    blocks : iterable, or function without arguments that returns an iterator
        Every ``iter(blocks)`` or ``blocks()`` must start again and give the same blocks. Blocks are
        tuples ``(X, y)`` or ``(X, y, sample_weight)``; for predictions also ``X`` or ``(X,)``. X is
        an array, a sparse matrix or a frame of numbers. float32 stays float32, and everything else
        becomes float64. y are labels (n,), and weights are non-negative. Blocks without rows are
        ignored.

    Attributes
    ----------
    n_rows, n_features, n_blocks : int
        Known after the first complete pass, like all attributes below. `scan` makes one.
    block_sizes : tuple of int
        Rows of each block.
    dtype : dtype
        Of X, float32 or float64.
    n_bytes : int
        Bytes of X in one pass.
    feature_names : tuple of str, or None
        Names of the columns, if blocks are frames with names that are strings.
    classes : ndarray, or None
        Labels that occur, sorted. None if blocks have no labels.

    Raises
    ------
    TypeError
        If ``blocks`` can be read only once, as a generator can, or not at all.

    Notes
    -----
    Iteration yields `RowBlock` tuples. Their arrays are copies, because a function may write its
    next block to the same memory. Blocks of `from_parquet` and `from_memmap` are not copied. Only
    the size of a block and a checksum of its contents are stored. To compute the checksum takes a
    tenth of the time of decoding a file.

    There is no ``len``, because it could be mistaken for the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from mgce_sklearn import RowBlocks
    >>> def read():
    ...     for day in range(3):  # a file a day, say
    ...         rng = np.random.default_rng(day)
    ...         yield rng.normal(size=(100, 2)), rng.integers(2, size=100)
    >>> blocks = RowBlocks(read)  # the function, not read()
    >>> blocks.scan()
    RowBlocks(3 blocks, 300 rows x 2 features, float64)
    >>> blocks.classes
    array([0, 1])
    >>> sum(len(block.y) for block in blocks)
    300
    """

    n_rows: int
    n_features: int
    n_blocks: int
    block_sizes: tuple[int, ...]
    dtype: np.dtype
    n_bytes: int
    feature_names: tuple[str, ...] | None
    classes: Array | None

    def __init__(self, blocks: Any) -> None:
        _check_repeatable(blocks)
        self._blocks = blocks
        self._names: tuple[str, ...] | None = None  # of columns, if blocks have none
        self._may_be_overwritten = True  # when the next block is read
        self._first_pass: tuple[_Facts, ...] = ()

    @classmethod
    def from_parquet(
        cls,
        path: Any,
        target: str | None,
        columns: Iterable[str] | None = None,
        sample_weight: str | None = None,
        rows_per_block: int = ROWS_PER_BLOCK,
    ) -> RowBlocks:
        """Read Parquet files in blocks, again in every pass.

        Parameters
        ----------
        path : str, PathLike, or list of these
            A file, a folder whose files end in ``.parquet``, a glob, or files. They are read in the
            order of their names.
        target : str or None
            The column of labels: numbers, strings or a dictionary. None if there are none.
        columns : list of str, default=None
            The columns of X, in this order. None: all except target, weights and the index of
            pandas.
        sample_weight : str, default=None
            The column of weights.
        rows_per_block : int, default=131072
            Number of rows of every block except the last, for any row groups of the files. A pass
            needs memory for two blocks, of ``4 * d * rows_per_block`` bytes each in float32, and
            for pages of every column: 100 MB for 50 columns, and 250 MB if they have dictionaries.

        Returns
        -------
        RowBlocks

        Raises
        ------
        ImportError
            If pyarrow is not installed: ``pip install 'mgce_sklearn[parquet]'``.
        TypeError, ValueError
            If there is no file, a column is missing, or a column of X is not numeric.

        Notes
        -----
        X is float32 if that represents all columns exactly, as it does float32 and 16-bit integers.
        Otherwise X is float64. pyarrow decodes columns in ``pyarrow.cpu_count()`` threads, or in
        one if BLAS is limited to one, as in joblib's workers.

        Numbers that seldom repeat are best written with ``use_dictionary=False``: they are read at
        680 MB/s instead of 460. Snappy compression costs no time, zstd as much as dictionaries. The
        size of row groups makes no difference.

        Examples
        --------
        >>> from mgce_sklearn import RowBlocks
        >>> blocks = RowBlocks.from_parquet("folder", target="label")  # doctest: +SKIP
        """
        constraints.COUNT.check("rows_per_block", rows_per_block)
        rows = ParquetRows.open(path, target, columns, sample_weight, rows_per_block)
        blocks = cls(rows)
        blocks._names, blocks._may_be_overwritten = rows.feature_names, False
        return blocks

    @classmethod
    def from_memmap(
        cls, X: Any, y: Any = None, sample_weight: Any = None, rows_per_block: int = ROWS_PER_BLOCK
    ) -> RowBlocks:
        """Slice an array that need not be in memory, such as one of `numpy.memmap`.

        Parameters
        ----------
        X : array of shape (n, d)
            Anything with a shape whose slices of rows are arrays: memory-mapped arrays, CSR
            matrices, and data sets of zarr or h5py.
        y : array of shape (n,), default=None
            Labels, or none.
        sample_weight : array of shape (n,), default=None
        rows_per_block : int, default=131072

        Returns
        -------
        RowBlocks
            Its blocks are views of X if X is float32 or float64 and its slices are views.

        Raises
        ------
        TypeError, ValueError
            If the shapes do not match.

        Examples
        --------
        >>> import numpy as np
        >>> from mgce_sklearn import RowBlocks
        >>> X = np.zeros((10, 3), np.float32)  # or np.load("X.npy", mmap_mode="r")
        >>> [len(block.X) for block in RowBlocks.from_memmap(X, rows_per_block=4)]
        [4, 4, 2]
        """
        constraints.COUNT.check("rows_per_block", rows_per_block)
        blocks = cls(_Slices.of(X, y, sample_weight, rows_per_block))
        blocks._may_be_overwritten = False
        return blocks

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Names of the columns, if known from the blocks read so far."""
        return self._names

    def scan(self) -> RowBlocks:
        """Make the first pass, unless it has been made.

        Returns
        -------
        RowBlocks
            The same object, with its attributes known.

        Raises
        ------
        ValueError
            If a block cannot be used. The message has its number, counted from 0.
        """
        if not self._first_pass:
            for _ in self:
                pass
        return self

    def __iter__(self) -> Iterator[RowBlock]:
        this = _Pass(self._first_pass, self._names)
        for number, given in enumerate(_start(self._blocks)):
            with _named(number):
                block = this.read(given, self._may_be_overwritten)
            if block is not None:
                self._names = this.facts[0].likeness.names
                yield block
        this.check_end()
        if not self._first_pass:
            self._learn(this)

    def _learn(self, done: _Pass) -> None:
        """Store the facts of a complete first pass."""
        self._first_pass = tuple(done.facts)
        likeness = self._first_pass[0].likeness
        self.block_sizes = tuple(facts.n_rows for facts in self._first_pass)
        self.n_rows, self.n_blocks = sum(self.block_sizes), len(self.block_sizes)
        self.n_features, self.feature_names = likeness.n_columns, likeness.names
        self.dtype = np.dtype(likeness.dtype)
        self.n_bytes, self.classes = done.n_bytes, done.classes

    def __getattr__(self, name: str) -> Any:
        if name in RowBlocks.__annotations__:
            raise AttributeError(f"{name} is known after a first pass over the rows: call scan().")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise TypeError: the rows may be larger than memory."""
        refuse_blocks(self)

    def __repr__(self) -> str:
        if not self._first_pass:
            return "RowBlocks(not yet read)"
        return (
            f"RowBlocks({self.n_blocks} blocks, {self.n_rows} rows x {self.n_features} features, "
            f"{self.dtype})"
        )


def refuse_blocks(X: Any) -> None:
    """Raise TypeError if X is `RowBlocks`, in methods that need rows in memory."""
    if isinstance(X, RowBlocks):
        raise TypeError(
            "X must be an array here; got RowBlocks, which this method does not read. Give the "
            "arrays of one block at a time, or rows that fit in memory."
        )


def check_alone(**given: Any) -> None:
    """Raise ValueError if an argument is given that blocks have of their own, or cannot have."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} must be None where X is RowBlocks, whose blocks bring labels and weights. "
                "Give (X, y, sample_weight) in the blocks, or rows that fit in memory for anything "
                "else."
            )


def _check_repeatable(blocks: Any) -> None:
    """Raise TypeError unless blocks can be read again and again."""
    kind = type(blocks).__name__
    if hasattr(blocks, "shape"):
        got = f"one {kind}. Try RowBlocks.from_memmap(X, y)"
    elif isinstance(blocks, (str, os.PathLike)):
        got = f"{blocks!r}. Try RowBlocks.from_parquet(path, target)"
    elif isinstance(blocks, Iterator):
        got = f"a {kind}, which can be read once. Try RowBlocks(read) with the function itself"
    elif isinstance(blocks, Iterable) or callable(blocks):
        return
    else:
        got = f"a {kind}. Try a list of (X, y)"
    raise TypeError(
        "blocks must be an iterable that starts again whenever it is read, or a function that "
        f"returns a new iterator; got {got}."
    )


def _start(blocks: Any) -> Iterable[Any]:
    if isinstance(blocks, Iterable):
        return blocks
    started = blocks()
    if isinstance(started, Iterable):
        return started
    raise TypeError(
        "blocks must be a function that returns an iterator of (X, y), such as a generator "
        f"function; it returned {reprlib.repr(started)}."
    )


@contextmanager
def _named(number: int) -> Iterator[None]:
    """Add the number of the block to the message of an error."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"Block {number}: {error}") from None


class Likeness(NamedTuple):
    """Properties that must be the same for all blocks."""

    n_columns: int
    names: tuple[str, ...] | None
    dtype: str
    storage: str
    labels: str
    weights: str

    @classmethod
    def of(cls, block: RowBlock, names: tuple[str, ...] | None) -> Likeness:
        """Return the properties of a block."""
        X, y, sample_weight = block
        text = y is not None and y.dtype.kind in "SU"
        return cls(
            n_columns=X.shape[1],
            names=names,
            dtype=X.dtype.name,
            storage="sparse" if sp.issparse(X) else "dense",
            labels="none" if y is None else "strings" if text else "numbers",
            weights="none" if sample_weight is None else "given",
        )

    def check(self, other: Likeness, blocks: str = "blocks") -> None:
        """Raise ValueError with the first property in which another block differs."""
        for (what, remedy), expected, got in zip(LIKENESS, self, other, strict=True):
            if got != expected:
                raise ValueError(
                    f"{what} must be the same in all {blocks}, {reprlib.repr(expected)}; got "
                    f"{reprlib.repr(got)}. {remedy.format(blocks)}"
                )


# For each field of `Likeness` its description, and the remedy if a block differs.
LIKENESS = (
    ("the number of columns of X", "Give all {} the same columns."),
    ("the names of columns", "Put columns into the same order, as in frame[names]."),
    ("the dtype of X", "Try X.astype(np.float32), or np.float64, in all {}."),
    ("the storage of X", "Try X.toarray(), or scipy.sparse.csr_array(X), in all {}."),
    ("the kind of labels", "Give y with all {} or with none, always numbers or always strings."),
    ("the kind of weights", "Give sample_weight with all {} or with none."),
)


class _Facts(NamedTuple):
    """Facts about a block that are stored, to recognize it in other passes."""

    n_rows: int
    likeness: Likeness
    fingerprint: int


class _Pass:
    """One pass over the blocks, compared with the first one if that has been made."""

    def __init__(self, first: tuple[_Facts, ...], names: tuple[str, ...] | None) -> None:
        self._first = first
        self._names = names
        self.facts: list[_Facts] = []
        self.n_bytes = 0
        self.classes: Array | None = None

    def read(self, given: Any, copy: bool) -> RowBlock | None:
        """Return the next block, or None if it has no rows; a copy if ``copy``.

        Raises
        ------
        TypeError, ValueError
            If it cannot be used, differs from the other blocks, or has changed since the first
            pass.
        """
        parts = _parts(given)
        if parts is None:
            return None
        block = as_block(*parts)
        if copy:
            block = RowBlock(*(None if array is None else array.copy() for array in block))
        likeness = Likeness.of(block, names_of(parts[0]) or self._names)
        facts = _Facts(block.X.shape[0], likeness, fingerprint(block))
        expected = self._first[len(self.facts) : len(self.facts) + 1]
        if expected != (facts,):
            self._examine(block, facts, expected)
        self.facts.append(facts)
        return block

    def _examine(self, block: RowBlock, facts: _Facts, expected: tuple[_Facts, ...]) -> None:
        """Check every number of a new block; raise ValueError if a known one has changed."""
        like = (self._first or self.facts or [facts])[0].likeness
        like.check(facts.likeness)
        check_finite(block.X)
        present = None if block.y is None else validation.distinct_labels("y", block.y)
        if self._first:
            raise ValueError(_change(facts, expected))
        self.n_bytes += sum(array.nbytes for array in _arrays_of(block.X))
        if present is not None:
            known = present if self.classes is None else self.classes
            self.classes = np.union1d(known, present)

    def check_end(self) -> None:
        """Raise ValueError if the pass ended too early, or had no rows."""
        if len(self.facts) < len(self._first):
            raise ValueError(
                f"Block {len(self.facts)}: the pass ended before it, and the first pass went on to "
                f"block {len(self._first) - 1}. {THE_SAME}"
            )
        if not self.facts:
            raise ValueError("blocks must have rows; a pass over them found none.")


def _change(facts: _Facts, expected: tuple[_Facts, ...]) -> str:
    """Return the message about a block that is not the one of the first pass."""
    if not expected:
        return f"it comes after the last one of the first pass. {THE_SAME}"
    before = expected[0].n_rows
    if facts.n_rows != before:
        return f"it has {facts.n_rows} rows, and had {before} in the first pass. {THE_SAME}"
    return f"its numbers, labels or weights are not those of the first pass. {THE_SAME}"


def _parts(given: Any) -> tuple[Any, Any, Any] | None:
    """Return features, labels and weights as given by the user, or None if there are no rows."""
    parts = given if isinstance(given, (tuple, list)) else (given,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            "a block must be (X, y) or (X, y, sample_weight), or X alone to predict; got a "
            f"{type(given).__name__} of {len(parts)}."
        )
    X, y, sample_weight = (*parts, None, None)[:3]
    shape = getattr(X, "shape", None) or np.shape(X)
    if shape and shape[0] == 0:
        return None
    if len(shape) != 2:
        raise ValueError(
            "X must have two dimensions, rows and columns; got a "
            f"{type(X).__name__} of shape {tuple(shape)}. A block is a tuple (X, y), and blocks "
            "are a list of these."
        )
    return X, y, sample_weight


def as_block(X: Any, y: Any, sample_weight: Any) -> RowBlock:
    """Return rows, labels and weights as checked arrays. Numbers of X may be infinite or NaN.

    Raises
    ------
    TypeError, ValueError
        If they cannot be used, or have different lengths.
    """
    X = as_features(on_host(X))
    y = None if y is None else as_labels(on_host(y), X.shape[0])
    if sample_weight is not None:
        sample_weight = validation.check_row_weights(sample_weight, X.shape[0])
    return RowBlock(X, y, sample_weight)


def as_features(X: Any) -> Any:
    """Return X contiguous by rows or CSR, in float32 or float64; a copy only if necessary."""
    try:
        array = check_array(
            X, accept_sparse="csr", dtype=(np.float64, np.float32), order="C",
            ensure_all_finite=False,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"X must be numbers, in at least one column. ({reason})") from None
    if sp.issparse(array) and not array.has_canonical_format:
        array = array.copy()  # the user's matrix must not change
        array.sum_duplicates()
    return array


def as_labels(y: Any, n_rows: int) -> Array:
    """Return labels (n_rows,), strings in numpy's own type, so that checksums are of the text."""
    labels = np.asarray(y)
    if labels.dtype.kind in "OT":
        if not all(isinstance(label, str) for label in labels.ravel()):
            validation.check_label_array("y", y)
        labels = np.asarray(labels.tolist())
    if labels.shape == (n_rows, 1):
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise ValueError(
            f"y must have one label per row of X, shape ({n_rows},); got shape {labels.shape}."
        )
    return labels


def names_of(X: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a frame, if all are strings."""
    names = getattr(X, "column_names", getattr(X, "columns", None))  # pyarrow's, and others'
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def check_finite(X: Any) -> None:
    """Raise ValueError with the place of the first number that is not finite."""
    numbers = X.data if sp.issparse(X) else X
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(numbers.sum()):
            return
    finite = np.isfinite(numbers).ravel()
    if finite.all():  # only their sum was not
        return
    position = int(np.argmin(finite))
    if sp.issparse(X):
        row = int(np.searchsorted(X.indptr, position, side="right")) - 1
        column = int(X.indices[position])
    else:
        row, column = divmod(position, X.shape[1])
    raise ValueError(
        f"X must be finite; row {row}, column {column} has {X[row, column]}. Drop such rows, or "
        "impute numbers."
    )


def _arrays_of(X: Any) -> tuple[Array, ...]:
    return (X.data, X.indices, X.indptr) if sp.issparse(X) else (X,)


def fingerprint(block: RowBlock) -> int:
    """Return a checksum of the contents of a block, in their order."""
    code = 0
    for array in (*_arrays_of(block.X), *block[1:]):
        if array is not None:
            code = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, code)
    return code


@dataclass(frozen=True)
class _Slices:
    """Arrays in slices of rows."""

    X: Any
    y: Any
    sample_weight: Any
    rows_per_block: int

    @classmethod
    def of(cls, X: Any, y: Any, sample_weight: Any, rows_per_block: int) -> _Slices:
        """Check that the shapes match, before anything is read."""
        X = X.tocsr() if sp.issparse(X) else X
        shape: tuple[int, ...] = getattr(X, "shape", ())
        if len(shape) != 2:
            raise ValueError(
                "X must be an array of rows and columns, such as np.load(file, mmap_mode='r'); got "
                f"a {type(X).__name__}{f' of shape {tuple(shape)}' if shape else ''}."
            )
        for name, values in (("y", y), ("sample_weight", sample_weight)):
            if values is not None and np.shape(values)[:1] != (shape[0],):
                raise ValueError(
                    f"{name} must have one entry per row of X, shape ({shape[0]},); got shape "
                    f"{np.shape(values)}."
                )
        return cls(X, y, sample_weight, rows_per_block)

    def __iter__(self) -> Iterator[tuple[Any, Any, Any]]:
        arrays = (self.X, self.y, self.sample_weight)
        for start in range(0, self.X.shape[0], self.rows_per_block):
            rows = slice(start, start + self.rows_per_block)
            X, y, weight = (None if array is None else array[rows] for array in arrays)
            yield X, y, weight
