"""Threads over rows: each thread has an equal thread share of the rows, and its own sums.

The kernels and BLAS release the interpreter's lock, so threads run in parallel. Meanwhile BLAS
itself is limited to one thread, since two pools of threads on the same cores wait for each other.
Every thread that calls BLAS sets the limit, since some libraries have a limit for each thread.
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

# With fewer array elements in a thread share, starting a thread costs more time than it saves.
SMALLEST_SHARE = 50_000


class RowTeam:
    """Runs functions of a range of rows in threads, each on its thread share.

    Parameters
    ----------
    n_rows : int
    row_size : int
        Array elements per row, by which the number of threads is chosen.
    n_threads : int
        Largest number of threads.
    """

    def __init__(self, n_rows: int, row_size: int, n_threads: int) -> None:
        worthwhile = max(1, n_rows * row_size // SMALLEST_SHARE)
        self.n_threads = max(1, min(n_threads, worthwhile))
        bounds = [n_rows * i // self.n_threads for i in range(self.n_threads + 1)]
        self.shares = list(itertools.pairwise(bounds))
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def run(self, work: Callable[[int, int], Result]) -> list[Result]:
        """Return ``work(start, stop)`` for every thread share, in the order of the rows."""
        return self.map(lambda share: work(*share), self.shares)

    def map(self, work: Callable[[Any], Result], items: Sequence[Any]) -> list[Result]:
        """Return ``work(item)`` for every item, in order.

        If one fails, or on an interrupt, the error is raised after the others have ended.
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
    """Limits a library to one thread while there is at least one holder, in any thread.

    Each limit of threadpoolctl restores the number that it found. Overlapping limits of two fits in
    two threads would do so in the order in which they end, and may leave the library with one
    thread.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._holders = 0
        self._found = 1

    def enter(self) -> int:
        """Limit the library, and return the number of threads that it had."""
        n_threads = self._library.num_threads
        # If it is more than one during a hold, other code has changed it since.
        if self._holders == 0 or n_threads > 1:
            self._found = n_threads
            self._set(1)
        self._holders += 1
        return self._found

    def leave(self) -> None:
        """End a hold. The last one restores the number of threads."""
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
    """Limits a library in which every thread has its own limit."""


class _BlasHold(ContextDecorator):
    """Limits all BLAS libraries that are loaded. It can be entered several times."""

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
    """Tell whether the limit holds for the process, as for OpenBLAS with its own threads."""
    return library.internal_api == "openblas" and library.threading_layer != "openmp"


_blas_hold = _BlasHold()


def one_blas_thread() -> _BlasHold:
    """Return a context that limits BLAS to one thread and gives the number that it had.

    In small products, threads would spend more time waiting than computing.
    """
    return _blas_hold


@contextmanager
def row_team(n_rows: int, row_size: int) -> Iterator[RowTeam]:
    """Return a context with a `RowTeam` of as many threads as BLAS had, and BLAS limited to one.

    So the number of threads is set as for any numerical library: by ``OPENBLAS_NUM_THREADS``, by
    ``threadpoolctl.threadpool_limits``, or by joblib, which limits its workers the same way.
    """
    with (
        one_blas_thread() as n_threads,
        closing(RowTeam(n_rows, row_size, n_threads)) as team,
    ):
        yield team
