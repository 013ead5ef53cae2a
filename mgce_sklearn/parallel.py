"""Threads over blocks of rows: one thread an equal share of rows, each with its own sums.

The kernels and BLAS release the interpreter's lock, so plain threads are enough. While
they run, BLAS itself is held to one thread: two pools on the same cores wait for each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
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
    width : int
        Array elements per row, to judge whether a share is worth a thread.
    n_threads : int
        The most threads to use.
    """

    def __init__(self, n_rows: int, width: int, n_threads: int) -> None:
        worthwhile = max(1, n_rows * width // SMALLEST_SHARE)
        self.n_threads = max(1, min(n_threads, worthwhile))
        bounds = [n_rows * i // self.n_threads for i in range(self.n_threads + 1)]
        self.shares = list(itertools.pairwise(bounds))
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None

    def run(self, work: Callable[[int, int], Result]) -> list[Result]:
        """Return ``work(start, stop)`` of every share, in the order of the rows."""
        if self._pool is None:
            return [work(*share) for share in self.shares]
        return list(self._pool.map(lambda share: work(*share), self.shares))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _BlasHold:
    """Holds BLAS to one thread while anybody asks for it, from whichever thread.

    Nested or overlapping limits of threadpoolctl would each restore what they found, in the
    order in which they end: with two fits in two threads, one thread for ever.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._limiter: Any = None
        self._n_threads = 1

    def enter(self) -> int:
        """Hold BLAS, and return the number of threads that it had."""
        with self._lock:
            if self._holders == 0:
                blas = _controller().select(user_api="blas")
                self._n_threads = max((pool["num_threads"] for pool in blas.info()), default=1)
                self._limiter = blas.limit(limits=1)
            self._holders += 1
            return self._n_threads

    def leave(self) -> None:
        """Let go; the last to do so gives BLAS its threads back."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._limiter.restore_original_limits()


_hold = _BlasHold()


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread: products too small to share wait longer than they work."""
    _hold.enter()
    try:
        yield
    finally:
        _hold.leave()


@contextmanager
def row_team(n_rows: int, width: int) -> Iterator[RowTeam]:
    """Give a `RowTeam` of as many threads as BLAS was allowed, and hold BLAS to one.

    The number is thus set as for any numerical library: ``OPENBLAS_NUM_THREADS``,
    ``threadpoolctl.threadpool_limits``, or joblib, which limits its workers the same way.
    """
    n_threads = _hold.enter()
    try:
        team = RowTeam(n_rows, width, n_threads)
        try:
            yield team
        finally:
            team.close()
    finally:
        _hold.leave()
