"""Rounds: a term is computed for every block on its worker, and the values are combined.

A round has one task for each worker, over the blocks that this worker holds. If a worker is lost,
its task runs elsewhere: Dask computes lost blocks again, from the graph that made them. The arrays
that were kept with their rows are lost, and a term that needs them raises `LostRows`. A round can
be repeated. Each block counts once in the result, and changes the arrays that it keeps once.

Dask may also move a task to an idle worker, with copies of the blocks but without these arrays.
Then the round is repeated, and each task is pinned to the worker that holds its blocks.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from functools import reduce
from operator import attrgetter
from typing import Any, NamedTuple

from dask.sizeof import sizeof
from distributed import Client, Future, KilledWorker, get_worker, wait
from distributed.comm import CommClosedError

from mgce_sklearn.dask.blocks import Block, Order, Recipe, Summary
from mgce_sklearn.parts import LostRows, Term

# Seconds between two checks of which workers run, and seconds without any worker before an error.
LOOK, PATIENCE = 2.0, 60.0

# How often a round is tried, and how many tries may be lost in a fit.
ROUND_TRIES, MOST_LOSSES = 5, 20

# An order of more bytes is sent to one worker, and the others get it from each other.
SENT_ALONE = 2**18

# Results that one task combines.
FAN_IN = 8

# Errors that mean that futures were lost.
LOST = (CancelledError, CommClosedError, TimeoutError)


class ClusterError(RuntimeError):
    """Workers, or the scheduler, were lost for good.

    Examples
    --------
    >>> from mgce_sklearn.dask import ClusterError
    >>> try:
    ...     raise ClusterError("No worker has taken tasks for 60 seconds.")
    ... except RuntimeError as error:
    ...     print(error)
    No worker has taken tasks for 60 seconds.
    """


class _Result(NamedTuple):
    """The result of a round for some blocks.

    Attributes
    ----------
    numbers : tuple of int
        Numbers of the blocks, sorted.
    moved : bool
        Whether a task ran on another worker than the one that holds its blocks.
    n_bytes : int
        Bytes that were sent between workers to be combined.
    total : object
        The combined value of the term. None if blocks have changed or lost arrays.
    changed : frozenset of int
        Numbers of blocks whose rows are not the same as before.
    lost : bool
        Whether the term needed arrays that were lost.
    """

    numbers: tuple[int, ...]
    moved: bool
    n_bytes: int = 0
    total: Any = None
    changed: frozenset[int] = frozenset()
    lost: bool = False


class _BlockId(NamedTuple):
    """By which a task recognizes a block: its number, its first row, and its fingerprint."""

    number: int
    first_row: int
    fingerprint: int

    def is_changed(self, block: Block) -> bool:
        """Return whether a block has other rows than before, or rows that cannot be used."""
        summary = block.summary
        return isinstance(summary, str) or summary.fingerprint != self.fingerprint


def _run_blocks(sent: bytes, holder: str, ids: list[_BlockId], blocks: list[Block]) -> _Result:
    """Compute the order's term for the blocks that the worker ``holder`` holds. This is a task."""
    order: Order = pickle.loads(sent)
    pairs, worker = list(zip(ids, blocks, strict=True)), get_worker()
    here = _Result(tuple(each.number for each in ids), worker.address != holder)
    changed = frozenset(each.number for each, block in pairs if each.is_changed(block))
    if changed:
        return here._replace(changed=changed)
    try:
        totals = _run_in_threads(order, _cut_evenly(pairs, worker.state.nthreads))
    except LostRows:
        return here._replace(lost=True)
    total = reduce(order.combine, totals)
    return here._replace(n_bytes=sizeof(total), total=total)


def _run_in_threads(order: Order, lists: list[list[Any]]) -> list[Any]:
    """Return the term's value for each of some lists of blocks, in idle threads of the worker.

    No thread is started. A list that no thread has begun is computed here, so that the tasks of two
    fits cannot wait for each other.
    """

    def total(pairs: list[Any]) -> Any:
        values = (block.run(order, each.first_row) for each, block in pairs)
        return reduce(order.combine, values)

    threads = get_worker().executors["default"]
    submitted = [threads.submit(total, pairs) for pairs in lists[1:]]
    try:
        totals = [total(lists[0])]
        for pairs, future in zip(lists[1:], submitted, strict=True):
            totals.append(total(pairs) if future.cancel() else future.result())
    finally:
        for future in submitted:
            future.cancel()
    return totals


def _combined(combine: Callable[[Any, Any], Any], results: list[_Result]) -> _Result:
    """Combine results in the order of the blocks. This is a task."""
    results = sorted(results, key=lambda result: result.numbers)
    all_of = _Result(
        tuple(sorted(itertools.chain.from_iterable(result.numbers for result in results))),
        any(result.moved for result in results),
        sum(result.n_bytes for result in results),
        changed=frozenset().union(*(result.changed for result in results)),
        lost=any(result.lost for result in results),
    )
    if all_of.changed or all_of.lost:
        return all_of
    # `combine` may write over its first argument, and Dask may use that again for another task.
    first, *others = (result.total for result in results)
    return all_of._replace(total=reduce(combine, others, copy.deepcopy(first)))


def _identity(sent: bytes) -> bytes:
    return sent


class Cluster:
    """The workers of a client, and waiting for their results.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._alone_since: float | None = None

    def running(self) -> dict[str, int]:
        """Return the number of threads of every worker that accepts tasks, by address."""
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except (*LOST, OSError, RuntimeError, ValueError) as error:
            raise ClusterError(_gone(error)) from None
        return {
            address: one["nthreads"]
            for address, one in workers.items()
            if one.get("status", "running") == "running"
        }

    def check(self) -> None:
        """Raise ClusterError if there is no scheduler, or has been no worker for a while."""
        if self.client.status != "running":
            raise ClusterError(_gone(f"the client is {self.client.status}"))
        if self.running():
            self._alone_since = None
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since > PATIENCE:
            raise ClusterError(
                f"No worker has accepted tasks for {PATIENCE:.0f} seconds: all have gone, or are "
                "paused because their memory is full. Start workers, or larger ones, and fit again."
            )

    def wait_for(self, futures: Sequence[Future], workers: Any = frozenset()) -> None:
        """Wait until all futures are finished, also those with an error.

        Raises
        ------
        ClusterError
            If there is no scheduler or no worker, see `check`.
        CancelledError
            If one of ``workers`` has gone.
        """
        while True:
            try:
                wait(futures, timeout=LOOK)
                return
            except TimeoutError:
                self.check()
                if not workers <= self.running().keys():
                    raise CancelledError("a worker has gone") from None

    def gathered(self, futures: Sequence[Future], workers: Any = frozenset()) -> list[Any]:
        """Wait for futures, see `wait_for`, and return their results, which must be small.

        Raises
        ------
        ClusterError
            If there are no workers, or if several died while they computed the same future.
        Exception
            Any error of a task. One of `LOST` if futures were lost.
        """
        self.wait_for(futures, workers)
        failed = next((future for future in futures if future.status == "error"), None)
        if failed is None:
            return self.client.gather(futures)
        error: Any = failed.exception()
        if isinstance(error, KilledWorker):
            raise ClusterError(
                "Several workers died while they computed the same partition, which may be too "
                f"large for their memory. Make partitions smaller, or workers larger. ({error})"
            )
        raise error


class Rounds:
    """Rounds over blocks on the workers of a client.

    Parameters
    ----------
    client : distributed.Client
    futures : list of Future
        The blocks.

    Attributes
    ----------
    summaries : list of Summary
        Summaries of the blocks.
    live : set of int
        Keys of the names whose arrays are kept with the rows.
    n_threads : int
        Number of threads of the workers that hold blocks, at most one for each block.
    n_rounds : int
        Number of rounds so far.
    n_bytes : int
        Bytes that were sent to workers, from workers, and between workers to be combined.
    """

    def __init__(self, client: Client, futures: Sequence[Future]) -> None:
        self.client, self._cluster, self._futures = client, Cluster(client), list(futures)
        self.live: set[int] = set()
        self.n_rounds, self.n_bytes, self.n_threads = 0, 0, 1
        self._number, self._completed, self._losses = 0, -1, 0
        # The worker of each block, as it was placed last; and the blocks of each worker, None if
        # they must be placed again.
        self._homes: dict[int, str] = {}
        self._placement: list[tuple[str, tuple[int, ...]]] | None = None
        self.summaries = self._first_summaries()
        sizes = [summary.n_rows for summary in self.summaries]
        first_rows = [0, *itertools.accumulate(sizes)]
        self._ids = {
            number: _BlockId(number, first_rows[number], self.summaries[number].fingerprint)
            for number, size in enumerate(sizes)
            if size
        }

    @property
    def n_workers(self) -> int:
        """Number of workers that hold blocks."""
        return max(1, len(self._placement or ()))

    def _first_summaries(self) -> list[Summary]:
        summaries = self._computed_summaries()
        reasons = [each for each in summaries if isinstance(each, str)]
        if reasons:
            more = f" ({len(reasons) - 1} more partitions cannot be used.)" if reasons[1:] else ""
            raise ValueError(reasons[0] + more)
        _check_alike(summaries)
        return summaries

    def _computed_summaries(self) -> list[Any]:
        """Return the summaries of all blocks. Blocks that were lost are computed again."""
        for _ in range(ROUND_TRIES):
            asked = self.client.map(attrgetter("summary"), self._futures, pure=False)
            try:
                return self._cluster.gathered(asked)
            except LOST as error:
                lost = error
                self._cluster.check()
        raise ClusterError(
            "Partitions could not be loaded into workers' memory: a worker died with them, or they "
            "were cancelled, or they belong to another client. Give lazy collections, or "
            "persisted ones of this client, in place of scattered data."
        ) from lost

    def sum(self, term: Term, combine: Callable[[Any, Any], Any], recipe: Recipe) -> Any:
        """Combine the term's values of all blocks.

        They are combined in the order of the blocks, as far as these are on the same workers.

        Raises
        ------
        LostRows
            If the term needs arrays that were kept with rows that a worker lost.
        ClusterError
            If workers, or the scheduler, have gone for good, or if workers are lost repeatedly.
        """
        sent = self._next_order(term, combine, recipe)
        pinned: bool = False
        lost: Exception = CancelledError()
        for _ in range(ROUND_TRIES):
            try:
                result = self._round(sent, combine, pinned)
            except LOST as error:
                lost, pinned = error, False
                self._note_loss()
                continue
            if result.changed:
                raise ValueError(_changed(min(result.changed)))
            if not pinned and self._must_be_pinned(result):
                pinned = True
                continue
            if result.lost:
                self._note_loss()
                raise LostRows("a worker that kept arrays with its rows is lost")
            if list(result.numbers) == list(self._ids):
                self._completed = self._number
                return result.total
            lost = RuntimeError("blocks were not counted once each")
        raise ClusterError(f"A round was lost {ROUND_TRIES} times; the last time by {lost!r}.")

    def _next_order(self, term: Term, combine: Callable[[Any, Any], Any], recipe: Recipe) -> bytes:
        self._number += 1
        order = Order(self._number, self._completed, frozenset(self.live), recipe, term, combine)
        return pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)

    def _must_be_pinned(self, result: _Result) -> bool:
        """Return whether a round must be repeated with its tasks pinned to their workers.

        It must be if a task has moved away from arrays that are kept with the rows. If it has moved
        because its worker is gone, the next round places the blocks again.
        """
        if not result.moved:
            return False
        if {worker for worker, _ in self._placement or ()} <= self._cluster.running().keys():
            return bool(self.live)
        self._placement = None
        return False

    def _round(self, sent: bytes, combine: Callable[[Any, Any], Any], pinned: bool) -> _Result:
        placement = self._placement or self._place_blocks()
        tasks = self._submitted(sent, placement, pinned)
        held = [tasks]  # Dask forgets futures, and does not compute them, if nothing refers to them
        while len(tasks) > 1:
            tasks = [
                self.client.submit(_combined, combine, tasks[i : i + FAN_IN], pure=False)
                for i in range(0, len(tasks), FAN_IN)
            ]
            held.append(tasks)
        required = {worker for worker, _ in placement} if pinned else set()
        result: _Result = self._cluster.gathered(tasks, required)[0]
        self.n_rounds += 1
        self.n_bytes += len(sent) * len(placement) + result.n_bytes + sizeof(result.total)
        return result

    def _submitted(
        self, sent: bytes, placement: list[tuple[str, tuple[int, ...]]], pinned: bool
    ) -> list[Future]:
        """Return the tasks of a round, one for each worker."""
        carried: Any = sent
        if len(sent) > SENT_ALONE:
            carried = self.client.submit(_identity, sent, pure=False)
        return [
            self.client.submit(
                _run_blocks,
                carried,
                worker,
                [self._ids[number] for number in numbers],
                [self._futures[number] for number in numbers],
                workers=[worker],
                # A pinned task of a worker that is lost would wait forever: see `wait_for`.
                allow_other_workers=not pinned,
                pure=False,
            )
            for worker, numbers in placement
        ]

    def _note_loss(self) -> None:
        """Count a loss, and have the next round place the blocks again."""
        self._losses += 1
        self._placement = None
        self._cluster.check()
        if self._losses > MOST_LOSSES:
            raise ClusterError(
                f"Workers, or their arrays in memory, were lost {self._losses} times in one fit. "
                "They may be short of memory: try more or larger workers, or float32."
            )

    def _place_blocks(self) -> list[tuple[str, tuple[int, ...]]]:
        """Choose the worker of each block, among those that hold it; return blocks by worker."""
        if self._losses:
            self._computed_summaries()  # this computes lost blocks again
        where = self.client.who_has(self._futures)
        n_threads = self._cluster.running()
        held: dict[str, list[int]] = {}
        for number in self._ids:
            holders = where.get(self._futures[number].key, ())
            if not holders:
                raise CancelledError("a worker has gone")
            home = self._homes.get(number, "")
            if home not in holders:
                home = min(holders, key=lambda one: len(held.get(one, ())))
            held.setdefault(home, []).append(number)
        self._homes = {number: home for home, own in held.items() for number in own}
        self._placement = [(worker, tuple(own)) for worker, own in sorted(held.items())]
        threads = (min(len(own), n_threads.get(worker, 1)) for worker, own in held.items())
        self.n_threads = max(1, sum(threads))
        return self._placement


def _changed(number: int) -> str:
    return (
        f"Partition {number} must have the same rows whenever it is computed; a worker lost it, "
        "and when it was computed again it had other rows. Set seeds, or write the collection to "
        "files and read these."
    )


def _gone(reason: Any) -> str:
    return (
        f"The scheduler cannot be reached ({reason}). Connect a new client to a running scheduler, "
        "and fit again."
    )


def _check_alike(summaries: Iterable[Summary]) -> None:
    """Raise ValueError unless all blocks with rows have the same columns, dtypes and labels."""
    first = None
    for number, summary in enumerate(summaries):
        if summary.likeness is None:
            continue
        first = first or summary.likeness
        try:
            first.check(summary.likeness, "partitions")
        except ValueError as error:
            raise ValueError(f"Partition {number}: {error}") from None
    if first is None:
        raise ValueError("X must have rows; all partitions are empty.")


def _cut_evenly(things: list[Any], n_lists: int) -> list[list[Any]]:
    """Cut a list into ``n_lists`` lists of nearly equal length, none of them empty."""
    n_lists = min(n_lists, len(things))
    ends = [len(things) * i // n_lists for i in range(n_lists + 1)]
    return [things[a:b] for a, b in itertools.pairwise(ends)]
