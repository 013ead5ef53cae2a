"""Threads over blocks of rows: one thread an equal share of rows, each with its own sums.

The kernels and BLAS release the interpreter's lock, so plain threads are enough. While
they run, BLAS itself is held to one thread: two pools on the same cores wait for each other.
The hold is taken by every thread that calls BLAS, as some libraries keep a limit for each.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ContextDecorator, closing, contextmanager
from functools import cached_property
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# Below this many array elements a share, starting a thread costs more than it gains.
SMALLEST_SHARE = 50_000


class RowTeam:
    """Runs functions of a range of rows, each thread on its share.

    Parameters
    ----------
    n_rows : int
    row_size : int
        Array elements per row, to judge whether a share is worth a thread.
    n_threads : int
        The most threads to use.
    """

    def __init__(self, n_rows: int, row_size: int, n_threads: int) -> None:
        worthwhile = max(1, n_rows * row_size // SMALLEST_SHARE)
        self.n_threads = max(1, min(n_threads, worthwhile))
        bounds = [n_rows * i // self.n_threads for i in range(self.n_threads + 1)]
        self.shares = list(itertools.pairwise(bounds))
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def run(self, work: Callable[[int, int], Result]) -> list[Result]:
        """Return ``work(start, stop)`` of every share, in the order of the rows."""
        return self.map(lambda share: work(*share), self.shares)

    def map(self, work: Callable[[Any], Result], items: Sequence[Any]) -> list[Result]:
        """Return ``work(item)`` of every item, in their order.

        If one fails, or somebody interrupts, the others have ended when it is told.
        """

        def held(item: Any) -> Result:
            with one_blas_thread():
                return work(item)

        if self._pool is None or len(items) == 1:
            return list(map(held, items))
        futures = [self._pool.submit(held, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            wait(futures)
            raise

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _LibraryHold:
    """Holds a library to one thread while anybody asks for it, from whichever thread.

    Nested or overlapping limits of threadpoolctl would each restore what they found, in the
    order in which they end: with two fits in two threads, one thread for ever.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._holders = 0
        self._found = 1

    def enter(self) -> int:
        """Hold the library, and return the number of threads that it had."""
        n_threads = self._library.num_threads
        # More than one in the midst of a hold is what somebody else has set since.
        if self._holders == 0 or n_threads > 1:
            self._found = n_threads
            self._set(1)
        self._holders += 1
        return self._found

    def leave(self) -> None:
        """Let go; the last to do so gives the library its threads back."""
        self._holders -= 1
        if self._holders == 0 and self._library.num_threads == 1:
            self._set(self._found)

    def _set(self, n_threads: int) -> None:
        if self._library.num_threads == n_threads:
            return
        # From 3.8 on threadpoolctl lets a single thread set OpenBLAS and ignores the others.
        release = getattr(self._library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        self._library.set_num_threads(n_threads)
        release(force=True)


class _ThreadHold(_LibraryHold, threading.local):
    """The same for a library in which every thread has a limit of its own."""


class _BlasHold(ContextDecorator):
    """Holds every library that numpy and scipy call; entered any number of times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @cached_property
    def _holds(self) -> list[_LibraryHold]:
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        return [(_LibraryHold if _is_shared(one) else _ThreadHold)(one) for one in libraries]

    def __enter__(self) -> int:
        with self._lock:
            return max([hold.enter() for hold in self._holds], default=1)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            for hold in self._holds:
                hold.leave()


def _is_shared(library: Any) -> bool:
    """Tell whether a limit is the process's, as it is where OpenBLAS starts threads itself."""
    return library.internal_api == "openblas" and library.threading_layer != "openmp"


_blas_hold = _BlasHold()


def one_blas_thread() -> _BlasHold:
    """Hold BLAS to one thread, and give the number of threads that it had.

    Products too small to share wait longer than they work.
    """
    return _blas_hold


@contextmanager
def row_team(n_rows: int, row_size: int) -> Iterator[RowTeam]:
    """Give a `RowTeam` of as many threads as BLAS was allowed, and hold BLAS to one.

    The number is thus set as for any numerical library: ``OPENBLAS_NUM_THREADS``,
    ``threadpoolctl.threadpool_limits``, or joblib, which limits its workers the same way.
    """
    with (
        one_blas_thread() as n_threads,
        closing(RowTeam(n_rows, row_size, n_threads)) as team,
    ):
        yield team
