"""Rounds: a term of every block, computed where the block is, and summed on the way back.

A round is one task a worker, over the blocks that this holds. It runs elsewhere if the worker has
gone: Dask computes lost blocks again, from the graph that they came from. What was kept with their
rows is lost, which solvers are told by `LostRows`. A round can be repeated: each block counts once
in its sum, and changes what it keeps once.

Where workers are many or busy Dask may also move a task to an idle one, with copies of the blocks.
The round is then repeated by the workers that were meant, and by no others.
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

from mgce_sklearn.dask.blocks import Block, Facts, Order, Recipe
from mgce_sklearn.parts import LostRows, Term

# Seconds between two looks at who is there, and without any worker before it is given up.
LOOK, PATIENCE = 2.0, 60.0

# Rounds that are begun anew, one after the other, and in a fit.
ATTEMPTS, MOST_LOSSES = 5, 20

# Bytes of an order from which on it is sent once, and workers have it from each other.
SENT_ALONE = 2**18

# Results that one task adds up.
FAN_IN = 8

LOST = (CancelledError, CommClosedError, TimeoutError)


class ClusterError(RuntimeError):
    """Workers, or the scheduler, went away and did not come back.

    Examples
    --------
    >>> from mgce_sklearn.dask import ClusterError
    >>> try:
    ...     raise ClusterError("No worker has taken tasks for 60 seconds.")
    ... except RuntimeError as error:
    ...     print(error)
    No worker has taken tasks for 60 seconds.
    """


class _Counted(NamedTuple):
    """What a term gives of some blocks.

    Attributes
    ----------
    numbers : tuple of int
        Of the blocks, in their order.
    moved : bool
        Whether another worker took them than was meant.
    n_bytes : int
        Of what came from elsewhere to be added up.
    total : object
    changed : frozenset of int
        Blocks that have other rows than before: then there is no total.
    lost : bool
        Whether rows have lost what was kept with them: then neither.
    """

    numbers: tuple[int, ...]
    moved: bool
    n_bytes: int = 0
    total: Any = None
    changed: frozenset[int] = frozenset()
    lost: bool = False


class _Asked(NamedTuple):
    """A block that a task is for, and what is known of it."""

    number: int
    first_row: int
    fingerprint: int

    def is_changed(self, block: Block) -> bool:
        """Tell whether a block has other rows, or none that can be used."""
        facts = block.facts
        return isinstance(facts, str) or facts.fingerprint != self.fingerprint


def _of_blocks(sent: bytes, meant: str, asked: list[_Asked], blocks: list[Block]) -> _Counted:
    """Return what the order's term gives of blocks: a task."""
    order: Order = pickle.loads(sent)
    pairs, worker = list(zip(asked, blocks, strict=True)), get_worker()
    here = _Counted(tuple(one.number for one in asked), worker.address != meant)
    changed = frozenset(one.number for one, block in pairs if one.is_changed(block))
    if changed:
        return here._replace(changed=changed)
    try:
        total = reduce(order.combine, _of_shares(order, _shares(pairs, worker.state.nthreads)))
    except LostRows:
        return here._replace(lost=True)
    return here._replace(n_bytes=sizeof(total), total=total)


def _of_shares(order: Order, shares: list[list[Any]]) -> list[Any]:
    """Return what a term gives of shares of the blocks, by threads of the worker that are idle.

    No other thread is begun. What waits for one is done here, so that tasks of two fits cannot wait
    for each other.
    """

    def total(share: list[Any]) -> Any:
        each = (block.run(order, one.first_row) for one, block in share)
        return reduce(order.combine, each)

    threads = get_worker().executors["default"]
    helped = [threads.submit(total, share) for share in shares[1:]]
    try:
        totals = [total(shares[0])]
        for share, help in zip(shares[1:], helped, strict=True):
            totals.append(total(share) if help.cancel() else help.result())
    finally:
        for help in helped:
            help.cancel()
    return totals


def _joined(combine: Callable[[Any, Any], Any], results: list[_Counted]) -> _Counted:
    """Combine results in the order of the blocks: a task."""
    results = sorted(results, key=lambda result: result.numbers)
    all_of = _Counted(
        tuple(sorted(itertools.chain.from_iterable(result.numbers for result in results))),
        any(result.moved for result in results),
        sum(result.n_bytes for result in results),
        changed=frozenset().union(*(result.changed for result in results)),
        lost=any(result.lost for result in results),
    )
    if all_of.changed or all_of.lost:
        return all_of
    # Sums may be written over their first part, which Dask may give to another task again.
    first, *others = (result.total for result in results)
    return all_of._replace(total=reduce(combine, others, copy.deepcopy(first)))


def _itself(sent: bytes) -> bytes:
    return sent


class Cluster:
    """Workers as a client sees them.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._alone_since: float | None = None

    def running(self) -> dict[str, int]:
        """Return the threads of every worker that takes tasks."""
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
        """Raise ClusterError if there is no scheduler, or was no worker for a while."""
        if self.client.status != "running":
            raise ClusterError(_gone(f"the client is {self.client.status}"))
        if self.running():
            self._alone_since = None
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since > PATIENCE:
            raise ClusterError(
                f"No worker has taken tasks for {PATIENCE:.0f} seconds: all have gone, or are "
                "paused because their memory is full. Start some, or larger ones, and fit again."
            )

    def wait_for(self, futures: Sequence[Future], workers: Any = frozenset()) -> None:
        """Wait until all are done, one way or the other, as long as there are workers.

        Raises
        ------
        CancelledError
            If one of some given workers has gone.
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
        """Return the results of futures, small ones, see `wait_for`.

        Raises
        ------
        ClusterError
            If there is nobody to compute them, or they kill who does.
        Exception
            Whatever a task raised. One of `LOST` if futures were lost on the way.
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
        A `Block` each.

    Attributes
    ----------
    facts : list of Facts
        Of every block.
    live : set of int
        Names of what is kept with the rows.
    n_threads : int
        Of all workers that hold blocks, as far as these are enough for them.
    n_rounds, n_bytes : int
        Rounds, and what was sent to workers, from them, and between them to be added up.
    """

    def __init__(self, client: Client, futures: Sequence[Future]) -> None:
        self.client, self._cluster, self._futures = client, Cluster(client), list(futures)
        self.live: set[int] = set()
        self.n_rounds, self.n_bytes, self.n_threads = 0, 0, 1
        self._number, self._completed, self._losses = 0, -1, 0
        self._homes: dict[int, str] = {}
        self._groups: list[tuple[str, tuple[int, ...]]] | None = None
        self.facts = self._first_facts()
        sizes = [fact.n_rows for fact in self.facts]
        first_rows = [0, *itertools.accumulate(sizes)]
        self._used = [number for number, size in enumerate(sizes) if size]
        self._asked = {
            number: _Asked(number, first_rows[number], self.facts[number].fingerprint)
            for number in self._used
        }

    @property
    def n_workers(self) -> int:
        """Number of workers that hold blocks."""
        return max(1, len(self._groups or ()))

    def _first_facts(self) -> list[Facts]:
        facts = self._ask_facts()
        wrong = [fact for fact in facts if isinstance(fact, str)]
        if wrong:
            more = f" ({len(wrong) - 1} more partitions cannot be used.)" if wrong[1:] else ""
            raise ValueError(wrong[0] + more)
        _check_alike(facts)
        return facts

    def _ask_facts(self) -> list[Any]:
        """Return the facts of all blocks, which are computed where they are lost."""
        for _ in range(ATTEMPTS):
            asked = self.client.map(attrgetter("facts"), self._futures, pure=False)
            try:
                return self._cluster.gathered(asked)
            except LOST as error:
                lost = error
                self._cluster.check()
        raise ClusterError(
            "Partitions could not be brought into the workers' memory: a worker died with them, or "
            "they were cancelled, or they belong to another client. Give lazy collections, or "
            "persisted ones of this client, in place of scattered data."
        ) from lost

    def sum(self, term: Term, combine: Callable[[Any, Any], Any], recipe: Recipe) -> Any:
        """Combine what a term gives of all blocks, in their order as far as they lie together.

        Raises
        ------
        LostRows
            If the term asks for what was kept with rows that a worker lost.
        ClusterError
            If workers, or the scheduler, went away for good, or go away over and over.
        """
        self._number += 1
        order = Order(self._number, self._completed, frozenset(self.live), recipe, term, combine)
        sent = pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)
        strictly: bool = False
        lost: Exception = CancelledError()
        for _ in range(ATTEMPTS):
            try:
                result = self._round(sent, combine, strictly)
            except LOST as error:
                lost, strictly = error, False
                self._lose()
                continue
            if result.changed:
                raise ValueError(_changed(min(result.changed)))
            moved = result.moved and not strictly
            if moved and not self._are_there():
                self._groups = None
            elif moved and self.live:
                strictly = True
                continue
            if result.lost:
                self._lose()
                raise LostRows("a worker that kept something with its rows has gone")
            if list(result.numbers) == self._used:
                self._completed = self._number
                return result.total
            lost = RuntimeError("blocks were not counted once each")
        raise ClusterError(f"A round was lost {ATTEMPTS} times; the last time by {lost!r}.")

    def _are_there(self) -> bool:
        """Tell whether the workers that were meant are all there."""
        return {worker for worker, _ in self._groups or ()} <= self._cluster.running().keys()

    def _round(self, sent: bytes, combine: Callable[[Any, Any], Any], strictly: bool) -> _Counted:
        groups = self._groups or self._placed()
        carried: Any = sent
        if len(sent) > SENT_ALONE:
            carried = self.client.submit(_itself, sent, pure=False)
        tasks = [
            self.client.submit(
                _of_blocks,
                carried,
                worker,
                [self._asked[number] for number in numbers],
                [self._futures[number] for number in numbers],
                workers=[worker],
                # If not, a task of a worker that is lost waits forever, if nobody looks.
                allow_other_workers=not strictly,
                pure=False,
            )
            for worker, numbers in groups
        ]
        held = [tasks]  # futures are forgotten, and computed no more, when nobody holds them
        while len(tasks) > 1:
            some = range(0, len(tasks), FAN_IN)
            tasks = [
                self.client.submit(_joined, combine, tasks[i : i + FAN_IN], pure=False)
                for i in some
            ]
            held.append(tasks)
        meant = {worker for worker, _ in groups} if strictly else set()
        result: _Counted = self._cluster.gathered(tasks, meant)[0]
        self.n_rounds += 1
        self.n_bytes += len(sent) * len(groups) + result.n_bytes + sizeof(result.total)
        return result

    def _lose(self) -> None:
        """Take note of a loss, and find out where the blocks are now."""
        self._losses += 1
        self._groups = None
        self._cluster.check()
        if self._losses > MOST_LOSSES:
            raise ClusterError(
                f"Workers, or what they kept in memory, were lost {self._losses} times in one fit. "
                "They may be short of memory: take more or larger workers, or float32."
            )

    def _placed(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return who shall compute which blocks."""
        if self._losses:
            self._ask_facts()  # once more where they are lost
        where = self.client.who_has(self._futures)
        n_threads = self._cluster.running()
        held: dict[str, list[int]] = {}
        for number in self._used:
            holders = where.get(self._futures[number].key, ())
            if not holders:
                raise CancelledError("a worker has gone")
            home = self._homes.get(number, "")
            if home not in holders:
                home = min(holders, key=lambda one: len(held.get(one, ())))
            held.setdefault(home, []).append(number)
        self._homes = {number: home for home, own in held.items() for number in own}
        self._groups = [(worker, tuple(own)) for worker, own in sorted(held.items())]
        threads = (min(len(own), n_threads.get(worker, 1)) for worker, own in held.items())
        self.n_threads = max(1, sum(threads))
        return self._groups


def _changed(number: int) -> str:
    return (
        f"Partition {number} must have the same rows whenever it is computed; a worker lost it, "
        "and computed again it has others. Set seeds, or write the collection to files and read "
        "these."
    )


def _gone(reason: Any) -> str:
    return (
        f"The scheduler cannot be reached ({reason}). Connect a new client to a running scheduler, "
        "and fit again."
    )


def _check_alike(facts: Iterable[Facts]) -> None:
    """Raise ValueError unless all blocks with rows are alike."""
    first = None
    for number, fact in enumerate(facts):
        if fact.likeness is None:
            continue
        first = first or fact.likeness
        try:
            first.check(fact.likeness, "partitions")
        except ValueError as error:
            raise ValueError(f"Partition {number}: {error}") from None
    if first is None:
        raise ValueError("X must have rows; all partitions are empty.")


def _shares(things: list[Any], n_shares: int) -> list[list[Any]]:
    """Cut a list into so many parts of nearly equal length, or fewer."""
    n_shares = min(n_shares, len(things))
    ends = [len(things) * i // n_shares for i in range(n_shares + 1)]
    return [things[a:b] for a, b in itertools.pairwise(ends)]
