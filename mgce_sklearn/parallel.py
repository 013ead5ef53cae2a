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
from typing import TypeVar

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


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def row_team(n_rows: int, width: int) -> Iterator[RowTeam]:
    """Give a `RowTeam` of as many threads as BLAS was allowed, and hold BLAS to one.

    The number is thus set as for any numerical library: ``OPENBLAS_NUM_THREADS``,
    ``threadpoolctl.threadpool_limits``, or joblib, which limits its workers the same way.
    """
    blas = _controller().select(user_api="blas")
    n_threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1):
        team = RowTeam(n_rows, width, n_threads)
        try:
            yield team
        finally:
            team.close()
