"""Parts that are read block by block, again in every pass: for rows larger than memory.

Labels, weights and the arrays that solvers store with the rows stay in memory. Features are in
memory only while terms are computed for their block. Every thread computes one block at a time.
The results are combined in the order of the blocks, so that they are the same bits for any number
of threads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp

from mgce_sklearn import validation
from mgce_sklearn.arrays import Array
from mgce_sklearn.design import Design
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import Name, Part, Parts, RowArrays, RowsInMemory, Term, add, forget
from mgce_sklearn.row_blocks import RowBlocks
from mgce_sklearn.sketch import RowSketch

# Number of rows of a random sample, or up to twice as many. A fit of all rows starts at the
# solution for the sample.
SAMPLED_ROWS = 2**15


@dataclass
class Reads:
    """Number of passes, bytes read and seconds of the passes, computations included."""

    n_passes: int = 0
    n_bytes: int = 0
    seconds: float = 0.0

    def add(self, n_bytes: int, seconds: float) -> None:
        """Count a pass."""
        self.n_passes += 1
        self.n_bytes += n_bytes
        self.seconds += seconds

    def __str__(self) -> str:
        speed = self.n_bytes / max(self.seconds, 1e-9) / 1e6
        return f"{self.n_passes} passes, {speed:.0f} MB/s"


class Survey(NamedTuple):
    """Facts about the rows of positive weight, from the first pass.

    Attributes
    ----------
    blocks : RowBlocks
    classes : ndarray of shape (K,), or None
        Labels that occur, sorted; None if the rows have no labels.
    codes : ndarray of shape (n,), or None
        Position in ``classes`` of each row's label.
    weights : ndarray of shape (n,)
    used : list of ndarray or None
        Rows of each block that have a weight; None: all of them.
    ends : ndarray
        Where the rows of each block begin and end.
    sample : tuple
        Features, codes and weights of some rows, drawn at random.
    sketch : RowSketch
    reads : Reads
    """

    blocks: RowBlocks
    classes: Array | None
    codes: Array | None
    weights: Array
    used: list[Array | None]
    ends: Array
    sample: tuple[Any, Array | None, Array]
    sketch: RowSketch
    reads: Reads

    @classmethod
    def of(cls, blocks: RowBlocks) -> Survey:
        """Read all rows once.

        Raises
        ------
        ValueError
            If a block cannot be used.
        """
        begin, labels, weights, used = time.perf_counter(), [], [], []
        sample, sketch = _Sample(), RowSketch.none()
        for X, y, weight in blocks:
            rows = None if weight is None or (weight > 0.0).all() else np.flatnonzero(weight > 0.0)
            weight = np.ones(X.shape[0]) if weight is None else weight
            if rows is not None:
                X, weight = X[rows], weight[rows]
                y = None if y is None else y[rows]
            if y is not None:
                present, inverse = np.unique(y, return_inverse=True)
                labels.append((present, inverse.astype(np.min_scalar_type(len(present)))))
            weights.append(weight)
            used.append(rows)
            sketch = sketch.joined(RowSketch.of(X))
            sample.add(X)
        reads = Reads()
        reads.add(blocks.n_bytes, time.perf_counter() - begin)
        ends = np.cumsum([0, *map(len, weights)])
        classes = codes = None
        if labels:
            classes = np.unique(np.concatenate([present for present, _ in labels]))
            kind = np.min_scalar_type(max(len(classes) - 1, 1))
            places = [np.searchsorted(classes, own).astype(kind)[at] for own, at in labels]
            codes = np.concatenate(places)
        all_weights = np.concatenate(weights)
        return cls(
            blocks, classes, codes, all_weights, used, ends,
            sample.rows(codes, all_weights), sketch, reads,
        )  # fmt: skip

    def check_labels(self) -> None:
        """Raise ValueError unless there are labels of two classes or more."""
        if self.classes is None:
            raise ValueError(
                "X must have labels if it is RowBlocks to fit to; these have none. Give blocks "
                "(X, y), or a target."
            )
        validation.check_several(self.classes)


class _Sample:
    """The rows with the smallest random numbers: `SAMPLED_ROWS`, or up to twice as many."""

    def __init__(self) -> None:
        self._random, self._limit = np.random.default_rng(0), 1.0
        self._kept: list[tuple[Array, Any, Array]] = []
        self._n_kept = self._n_seen = 0

    def add(self, X: Any) -> None:
        """Draw random numbers for a block of rows."""
        numbers = self._random.random(X.shape[0])
        self._keep(numbers, X, self._n_seen + np.arange(X.shape[0]))
        self._n_seen += X.shape[0]
        while self._n_kept > 2 * SAMPLED_ROWS:
            self._limit /= 2.0
            before, self._kept, self._n_kept = self._kept, [], 0
            for one in before:
                self._keep(*one)

    def _keep(self, numbers: Array, X: Any, rows: Array) -> None:
        low = np.flatnonzero(numbers < self._limit)
        if len(low):
            self._kept.append((numbers[low], X[low], rows[low]))
            self._n_kept += len(low)

    def rows(self, codes: Array | None, weights: Array) -> tuple[Any, Any, Array]:
        """Return features, codes and weights of the rows drawn."""
        together = sp.vstack if sp.issparse(self._kept[0][1]) else np.concatenate
        X = together([X for _, X, _ in self._kept])
        rows = np.concatenate([rows for *_, rows in self._kept])
        return X, None if codes is None else codes[rows], weights[rows]


@dataclass(frozen=True)
class RowsInBlocks(Parts):
    """Labeled rows that are read block by block.

    Parameters
    ----------
    survey : Survey
    labels : HardLabels or None
        Of all rows.
    weights : ndarray of shape (n,)
    fit_intercept : bool
    center : ndarray of shape (d,), default=None
    chosen : ndarray, default=None
        Which columns are features. None: all.
    arrays : tuple of RowArrays
        Of each block.
    pool : ThreadPoolExecutor, default=None
        Threads that compute terms of blocks while the next one is read. None: the thread of the
        caller.
    n_threads : int, default=1
    """

    survey: Survey
    labels: HardLabels | None
    weights: Array
    fit_intercept: bool
    center: Array | None = None
    chosen: Array | None = None
    arrays: tuple[RowArrays, ...] = ()
    pool: ThreadPoolExecutor | None = field(default=None, repr=False)
    n_threads: int = 1
    reading_costs: ClassVar[bool] = True
    certain: ClassVar[bool] = True

    @classmethod
    def of(
        cls, survey: Survey, labels: HardLabels | None, weights: Array, fit_intercept: bool
    ) -> RowsInBlocks:
        """Return rows whose features are not centered."""
        arrays = tuple(RowArrays(stop - start, start) for start, stop in pairwise(survey.ends))
        return cls(survey, labels, weights, fit_intercept, arrays=arrays)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.weights)

    @cached_property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @property
    def told(self) -> str:
        """Number of passes and reading speed."""
        return f"  {self.survey.reads}"

    @cached_property
    def sample(self) -> RowsInMemory:
        """Some of the rows, in memory."""
        X, codes, weights = self.survey.sample
        return RowsInMemory.of(
            self._design(X, weights), None if codes is None else HardLabels(codes)
        )

    @property
    def like(self) -> Design:
        """The design of some of the rows."""
        return self.sample.like

    def _design(self, X: Any, weights: Array, shares: Array | None = None) -> Design:
        design = Design(X, weights, self.fit_intercept, shares=shares)
        design = design if self.center is None else design.centered_at(self.center)
        return design if self.chosen is None else design.columns(self.chosen)

    def _part(self, X: Any, block: int) -> Part:
        rows = slice(*self.survey.ends[block : block + 2])
        weights = self.weights[rows]
        design = self._design(X, weights, weights / self.total_weight)
        labels = None if self.labels is None else self.labels.take(rows)
        return Part(design, labels, self.arrays[block])

    def _without_features(self) -> Iterator[Part]:
        for block, arrays in enumerate(self.arrays):
            # Features of NaN, which take no memory.
            shape = arrays.n_rows, self.survey.blocks.n_features
            if arrays.n_rows:
                yield self._part(np.broadcast_to(np.float32(np.nan), shape), block)

    def _read(self) -> Iterator[Part]:
        """Yield the parts of a pass, and count the pass at the end."""
        begin = time.perf_counter()
        blocks = self.survey.blocks
        for block, (given, used) in enumerate(zip(blocks, self.survey.used, strict=True)):
            X = given.X if used is None else given.X[used]
            if X.shape[0]:
                yield self._part(X, block)
        self.survey.reads.add(blocks.n_bytes, time.perf_counter() - begin)

    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine the results of a term for every part; see `Parts.over`."""
        parts = self._read() if features else self._without_features()
        if self.pool is None:
            with one_blas_thread():
                return reduce(combine, map(term, parts))
        return reduce(combine, self._at_once(term, parts))

    def _at_once(self, term: Term, parts: Iterator[Part]) -> Iterator[Any]:
        """Yield the results of a term in order, with up to ``n_threads + 1`` blocks in memory."""
        pool: Any = self.pool
        waiting: deque[Future] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(_held, term, part))
                if len(waiting) > self.n_threads:
                    yield self._first(waiting)
            while waiting:
                yield self._first(waiting)
        finally:
            wait(waiting)

    @staticmethod
    def _first(waiting: deque[Future]) -> Any:
        """Return the result of the first one, and remove it."""
        result = waiting[0].result()  # if interrupted, it is still one to wait for
        waiting.popleft()
        return result

    @contextmanager
    def opened(self, width: int) -> Iterator[RowsInBlocks]:
        """Return a context with the same rows and as many threads as BLAS may use."""
        if self.pool is not None:
            yield self
            return
        with one_blas_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:
            yield self._same(pool=pool, n_threads=n_threads)

    def named(self, kind: type[Name]) -> Name:
        """Return a new name for an array or an object that is stored with the blocks."""
        return kind(partial(forget, self.arrays))

    def together(self) -> Part:
        """Raise TypeError: the rows are never in memory all at once."""
        raise TypeError("rows that are read block by block are never in memory all at once")

    def compact(self) -> RowsInBlocks:
        """Return itself: single precision saves no time if rows are not stored."""
        return self

    def columns(self, columns: Array) -> RowsInBlocks:
        """Return the same rows with some of their columns, and the intercept as it was."""
        return replace(self, chosen=columns)

    def centered_at(self, center: Array) -> RowsInBlocks:
        """Return the same rows less ``center`` (d,), whose last entry is 0 with an intercept."""
        return replace(self, center=center)


def _held(term: Term, part: Part) -> Any:
    with one_blas_thread():
        return term(part)
