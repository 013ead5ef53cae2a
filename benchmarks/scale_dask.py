"""Rows on workers of Dask: the part of `scale.py` that ``--dask`` runs, which tells what it prints.

Every fit is a process of its own, with a cluster of its own: a client, which holds the scheduler
too, and workers of one thread. A process that does not end in time is ended with its workers.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scale

ROWS, ROWS_QUICK = 1_000_000, 100_000
GROWTH = 100_000, 1_000_000, 3_000_000
ROWS_OF_MODEL = 200_000
LIMIT, LIMIT_QUICK = 120.0, 15.0  # seconds of a fit whose worker is killed
LONGEST = 3600.0  # of any

# The paper: what a fit on many machines is made of, besides what is measured.
MACHINES, CORES, ROWS_ON_PAPER, FEATURES_ON_PAPER = 100, 16, 10**9, 100
BYTES_A_SECOND, SECONDS_A_HOP = 10e9 / 8, 1e-3
FAN_IN = 8

MANY_TASKS, EMPTY_ROUNDS, BYTES_OF_ROUND = 32, 30, 2**20

ASSUMED = f"""
Measured here:
- seconds of a core a row, rounds, and bytes: the fits above, one worker of one thread
- an empty round: 2 workers; one more task: {MANY_TASKS} tasks on these, an upper estimate
- a byte of a result: rounds of 2 workers that return {BYTES_OF_ROUND >> 20} MiB each
- client: all that lies between rounds, the sample's solution for the most part
Assumed:
- {MACHINES} machines of {CORES} cores as fast as one here, which share rows and work evenly
- as many rounds as measured, and rows that stay in memory in single precision
- {BYTES_A_SECOND * 8 / 1e9:.0f} Gbit/s, {1e3 * SECONDS_A_HOP:.0f} ms a message
- the client tells every task its order in turn; results are added up {FAN_IN} at a time
- a round is a task a worker: {MACHINES} workers have {CORES} threads each, {MACHINES * CORES} one
"""


class Job(NamedTuple):
    """A process.

    Attributes
    ----------
    name : str
        A key of `FITS`, "memory" or "latency".
    train, held_out : str
    n_workers, n_rounds : int
    kill_after, limit : float
        Seconds from when rows are brought until the first worker is killed, 0: none is; and from
        then on.
    pinned : bool
        Whether there is a file for each worker.
    form : str
        How the equations of a step are solved: "factors" or "products"; "": as they are.
    """

    name: str
    train: str
    held_out: str
    n_workers: int = 2
    n_rounds: int = 0
    kill_after: float = 0.0
    limit: float = 0.0
    pinned: bool = False
    form: str = ""


class Round(NamedTuple):
    """A round: seconds, bytes that were sent in it, and those of its result."""

    kind: str
    seconds: float
    sent: int
    result: int


class Fit(NamedTuple):
    """What a process measures: seconds to bring the rows and to fit, scores, peaks in bytes."""

    bringing: float
    fitting: float
    accuracy: float
    brier: float
    client: int = 0
    worker: int = 0
    remark: str = ""
    rounds: Any = ()


class Latency(NamedTuple):
    """Seconds of an empty round, of one more of its tasks, and of a byte of its results."""

    round: float
    task: float
    byte: float


# In the process of a fit


def new_client(n_workers: int, pinned: bool = False) -> Any:
    """Return the client of a new cluster on this machine; ``pinned``: parts stay where they are."""
    import dask
    from distributed import Client, LocalCluster

    if pinned:  # the scheduler believes that it takes long to move them
        dask.config.set({"distributed.scheduler.bandwidth": 1})
    cluster = LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    return Client(cluster)


def kind_of(term: Any) -> str:
    """Return in a word what a round does, from the names of functions in its term."""
    words = {
        "_draw": "sample", "_assemble": "arrive", "_follow": "look",
        "sum_over_features": "product",
    }  # fmt: skip
    return next((kind for name, kind in words.items() if f"function {name} " in repr(term)), "rest")


def note_rounds(log: list[Round], brought: Callable[[], None]) -> None:
    """Have rounds noted from now on, and told when rows have been brought."""
    from dask.sizeof import sizeof

    from mgce_sklearn.dask.rounds import Rounds

    begin, run = Rounds.__init__, Rounds.sum

    def begin_noted(self: Any, *args: Any) -> None:
        begin(self, *args)
        brought()

    def run_noted(self: Any, term: Any, *args: Any) -> Any:
        started, before = time.perf_counter(), self.n_bytes
        value = run(self, term, *args)
        seconds = time.perf_counter() - started
        log.append(Round(kind_of(term), seconds, self.n_bytes - before, sizeof(value)))
        return value

    Rounds.__init__, Rounds.sum = begin_noted, run_noted  # type: ignore[method-assign]


def frames_in(client: Any, job: Job) -> list[Any]:
    """Return a delayed frame, or a future of one, for every file."""
    import dask.dataframe as dd
    from distributed import wait

    frames = dd.read_parquet(job.train).to_delayed()
    if not job.pinned:
        return frames
    pairs = zip(frames, client.scheduler_info()["workers"], strict=True)
    futures = [client.compute(frame, workers=[worker]) for frame, worker in pairs]
    wait(futures)
    return futures


def mgce(client: Any, job: Job, brought: Callable[[], None]) -> Any:
    """Fit ours to a frame a file, which is read where it will stay."""
    from dask.delayed import delayed

    from mgce_sklearn.dask import DaskMGCEClassifier
    from mgce_sklearn.dask.parts import RowsOnWorkers

    if job.form:
        RowsOnWorkers.latency = np.inf if job.form == "factors" else 0.0
    log: list[Round] = []
    note_rounds(log, brought)
    frames = [delayed(frame) for frame in frames_in(client, job)]
    X, y = [frame.drop(columns="y") for frame in frames], [frame["y"] for frame in frames]
    model = DaskMGCEClassifier(q=0.5, tol=scale.TOL).fit(X, y)
    n_bytes = sum(one.sent for one in log)
    gap = model.dual_gap_ / model.minimax_risk_
    remark = f"gap {gap:.0e}, {model.n_iter_} steps, {len(log)} rounds, {n_bytes / 1e6:.1f} MB"
    return model.to_local().predict_proba, remark, log


def persisted(client: Any, job: Job) -> tuple[Any, Any]:
    """Return features and labels, in memory on workers."""
    import dask.dataframe as dd
    from distributed import wait

    frame = dd.from_delayed(frames_in(client, job)) if job.pinned else dd.read_parquet(job.train)
    frame = frame.persist()
    wait(frame)
    return frame.drop(columns="y"), frame["y"]


def lightgbm(client: Any, job: Job, brought: Callable[[], None]) -> Any:
    """Boost by LightGBM."""
    from lightgbm import DaskLGBMClassifier

    rows = persisted(client, job)
    brought()
    model = DaskLGBMClassifier(n_estimators=job.n_rounds, verbose=-1, client=client).fit(*rows)
    local = model.to_local()

    def proba(X: Any) -> Any:
        out = np.zeros((len(X), scale.N_CLASSES))
        out[:, local.classes_] = local.predict_proba(X)
        return out

    return proba, f"{len(local.classes_)} classes"


def xgboost(client: Any, job: Job, brought: Callable[[], None]) -> Any:
    """Boost by xgboost."""
    from xgboost.dask import DaskXGBClassifier

    rows = persisted(client, job)
    brought()
    model = DaskXGBClassifier(n_estimators=job.n_rounds, tree_method="hist")
    model.client = client
    return (model.fit(*rows).get_booster().inplace_predict,)


FITS = {fit.__name__: fit for fit in (mgce, lightgbm, xgboost)}


class Watcher(threading.Thread):
    """Sees the most anonymous bytes of this process and of one worker, and kills the first worker.

    It does so some time after the rows were brought, and if the fit has not ended some time after
    that, it tells so and ends this process.
    """

    def __init__(self, workers: list[int], kill_after: float = 0.0, limit: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.workers, self.kill_after, self.limit = workers, kill_after, limit
        self.client = self.worker = 0
        self.begin = time.perf_counter()
        self.brought_at = self.killed_at = np.inf

    def brought(self) -> None:
        """Take note that rows have been brought."""
        self.brought_at = min(self.brought_at, time.perf_counter())

    def run(self) -> None:
        """Look, for ever."""
        while True:
            self.client = max(self.client, scale.anonymous_bytes(os.getpid()))
            self.worker = max([self.worker, *map(_bytes_if_there, self.workers)])
            if self.kill_after:
                self._kill(time.perf_counter())
            time.sleep(scale.SECONDS_BETWEEN_LOOKS)

    def _kill(self, now: float) -> None:
        if self.killed_at == np.inf and now > self.brought_at + self.kill_after:
            os.kill(self.workers[0], signal.SIGKILL)
            self.killed_at = now
        if now > self.killed_at + self.limit:
            tell(f"had not ended {self.limit:.0f} s later")


def _bytes_if_there(pid: int) -> int:
    try:
        return scale.anonymous_bytes(pid)
    except FileNotFoundError:
        return 0


def tell(found: Any) -> None:
    """Print what this process measured, and end it at once, whatever is left of its cluster."""
    print(json.dumps(found), flush=True)
    os._exit(0)


def fit_here(job: Job) -> Fit | str:
    """Fit on a cluster, in this process; return the error if there is one."""
    from mgce_sklearn import RowBlocks

    client = new_client(job.n_workers, pinned=job.pinned)
    if job.name == "mgce":
        scale.warm_up(scale.N_FEATURES, scale.N_CLASSES)
        client.run(scale.warm_up, scale.N_FEATURES, scale.N_CLASSES)
    (block,) = RowBlocks.from_parquet(job.held_out, "y")
    watcher = Watcher(list(client.run(os.getpid).values()), job.kill_after, job.limit)
    watcher.start()
    try:
        proba, *more = FITS[job.name](client, job, watcher.brought)
    except Exception as error:
        seconds = time.perf_counter() - min(watcher.killed_at, watcher.brought_at)
        return f"{seconds:.0f} s later {type(error).__name__}: {error}"
    end = time.perf_counter()
    if job.kill_after and end < watcher.killed_at:
        return "it ended before the worker was killed"
    bringing, fitting = watcher.brought_at - watcher.begin, end - watcher.brought_at
    scores = scale.scores(np.asarray(proba(block.X)), block.y)
    return Fit(bringing, fitting, *scores, watcher.client, watcher.worker, *more)


def memory_here(job: Job) -> Fit:
    """Fit to the same rows in memory, with two threads."""
    import pyarrow.parquet as pq

    from mgce_sklearn import MGCEClassifier, RowBlocks

    scale.warm_up(scale.N_FEATURES, scale.N_CLASSES)
    (block,) = RowBlocks.from_parquet(job.held_out, "y")
    watcher = Watcher([])
    watcher.start()
    table = pq.read_table(job.train)
    X, y = table.drop_columns("y").to_pandas(), table["y"].to_numpy()
    watcher.brought()
    model = MGCEClassifier(q=0.5, tol=scale.TOL).fit(X, y)
    end = time.perf_counter()
    scores = scale.scores(model.predict_proba(block.X), block.y)
    remark = f"gap {model.dual_gap_ / model.minimax_risk_:.0e}, {model.n_iter_} steps"
    bringing, fitting = watcher.brought_at - watcher.begin, end - watcher.brought_at
    return Fit(bringing, fitting, *scores, watcher.client, 0, remark)


def _nothing(n: int, part: Any) -> Any:
    return np.ones(n)


def latency_here(job: Job) -> Latency:
    """Time rounds that compute nothing."""
    few, bytes_of_few = _empty_rounds(2)
    many, _ = _empty_rounds(MANY_TASKS)
    more = (many - few) / (n_tasks(MANY_TASKS) - n_tasks(2))
    return Latency(few, more, (bytes_of_few - few) / (2 * BYTES_OF_ROUND))


def _empty_rounds(n_tasks: int) -> Any:
    """Return median seconds of rounds of 2 workers whose results are one number, and many."""
    import dask.array as da

    from mgce_sklearn.dask import DaskMGCEClassifier
    from mgce_sklearn.dask.partitions import partitions_of
    from mgce_sklearn.dask.parts import RowsOnWorkers

    X, y = scale.draw(6400, 0, d=5)
    size = len(X) // n_tasks
    cells = partitions_of(da.from_array(X, chunks=(size, 5)), da.from_array(y, chunks=size))
    with new_client(2) as client:
        brought = DaskMGCEClassifier(client=client)._loaded(cells, None)
        parts = RowsOnWorkers.of(*brought, True)
        groups = parts.rounds._placement
        parts.rounds._placement = [(worker, (i,)) for worker, own in groups for i in own]
        return tuple(_median_of_rounds(parts, n) for n in (1, BYTES_OF_ROUND // 8))


def _median_of_rounds(parts: Any, n: int) -> float:
    seconds = []
    for _ in range(EMPTY_ROUNDS):
        begin = time.perf_counter()
        parts.over(partial(_nothing, n))
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def be_process_of(job: Job) -> None:
    """Do what a job asks for, and tell."""
    warnings.simplefilter("ignore")
    tell({"memory": memory_here, "latency": latency_here}.get(job.name, fit_here)(job))


# In the first process


@cache
def run(job: Job) -> Any:
    """Return what the process of a job measures; in a line why not if it failed or was ended."""
    threads = scale.N_THREADS if job.name == "memory" else 1
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(job)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"had not ended after {LONGEST:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers too
        process.wait()
    if process.returncode:
        return (errors.strip() or "no word").splitlines()[-1]
    found = json.loads(out.splitlines()[-1])
    return found if isinstance(found, str) else KINDS.get(job.name, Fit)(*found)


KINDS: dict[str, Any] = {"latency": Latency}


def sorted_by_class(train: str, n_files: int) -> str:
    """Return a folder with the same rows, sorted by label, in so many files."""
    import pyarrow.parquet as pq

    folder = Path(train).parent / "by_class"
    if not folder.exists():
        part = folder.with_suffix(".part")
        part.mkdir(exist_ok=True)
        table = pq.read_table(train).sort_by("y")
        for i, rows in enumerate(np.array_split(np.arange(len(table)), n_files)):
            pq.write_table(table.slice(rows[0], len(rows)), part / f"part-{i}.parquet")
        part.rename(folder)
    return str(folder)


def line(name: str, fit: Any) -> None:
    """Print what a process measured."""
    if isinstance(fit, str):
        print(f"{name:32} {' '.join(fit.split())[:200]}", flush=True)
        return
    print(
        f"{name:32} {fit.bringing:8.1f} {fit.fitting:8.1f} {fit.accuracy:9.4f} {fit.brier:7.4f} "
        f"{fit.client / 1e6:8.0f} {fit.worker / 1e6:8.0f}  {fit.remark}",
        flush=True,
    )


def head(title: str) -> None:
    """Print a title, and names of columns."""
    print(f"\n{title}")
    columns = (
        f"{'bring, s':>8} {'fit, s':>8} {'accuracy':>9} {'Brier':>7} {'client':>8} {'worker':>8}"
    )
    print(f"{'':32} {columns} MB")


def compare(job: Job, limit: float) -> None:
    """Print fits, fits of which a worker is killed, and fits to workers that lack a class."""
    head("Rows at hand")
    line("in memory, two threads", run(job._replace(name="memory")))
    line("mgce, 1 worker", run(job._replace(name="mgce", n_workers=1)))
    whole = {name: run(job._replace(name=name)) for name in FITS}
    for name, fit in whole.items():
        line(f"{name}, {job.n_workers} workers", fit)
    head(f"One of two workers is killed half-way through the fit; ended after {limit:.0f} s")
    for name, fit in whole.items():
        line(name, run(job._replace(name=name, kill_after=fit.fitting / 2, limit=limit)))
    head("Each worker lacks a class")
    apart = job._replace(train=sorted_by_class(job.train, job.n_workers), pinned=True)
    for name in FITS:
        line(name, run(apart._replace(name=name)))


def client_by_rows(job: Job, folder: Path, sizes: tuple[int, ...]) -> None:
    """Print the client's peak of memory by rows."""
    head("The client's memory by rows, 2 workers")
    jobs = [Job("mgce", *scale.files_in(folder, n), n_rounds=job.n_rounds) for n in sizes]
    fits = [run(one) for one in jobs]
    for n, fit in zip(sizes, fits, strict=True):
        line(f"{n} rows", fit)
    for name in ("client", "worker"):
        slope = np.polyfit(sizes, [getattr(fit, name) for fit in fits], 1)[0]
        print(f"{name}: {slope:.1f} bytes more a row")


# The paper


def n_tasks(leaves: int) -> int:
    """Return the tasks of a round: leaves, and those that add."""
    return leaves if leaves == 1 else leaves + n_tasks(-(-leaves // FAN_IN))


def n_levels(leaves: int) -> int:
    """Return how often results are added up, one after the other."""
    return 0 if leaves == 1 else 1 + n_levels(-(-leaves // FAN_IN))


def told(one: Round) -> int:
    """Return the bytes that the one worker was told: its sum is a result too."""
    return max(0, one.sent - 2 * one.result)


class Predicted(NamedTuple):
    """Seconds of a fit, by what they go into, and bytes that are sent."""

    reading: float
    computing: float
    client: float
    shipping: float
    waiting: float
    n_bytes: float


def predicted(
    fit: Fit,
    rows_measured: int,
    latency: Latency,
    n_rows: int,
    cores: int,
    tasks: int,
    seconds_a_byte: float = 0.0,
    seconds_a_hop: float = 0.0,
) -> Predicted:
    """Return what a fit takes, of one with a worker of one thread and its rounds.

    Reading and computing are shared by cores. A round is told to every task, one after the other
    through the client's network; results go up a tree, in which a task takes in those of `FAN_IN`.
    """
    rounds = [Round(*one) for one in fit.rounds]
    share = n_rows / cores / rows_measured
    levels, byte = n_levels(tasks), latency.byte + seconds_a_byte
    computing = sum(r.seconds - latency.round - r.result * latency.byte for r in rounds)
    up = sum(r.result * (1 if r.kind == "sample" else min(FAN_IN, tasks)) * levels for r in rounds)
    down = sum(told(r) for r in rounds) * tasks
    one_round = latency.round + (n_tasks(tasks) - n_tasks(2)) * latency.task
    return Predicted(
        reading=fit.bringing * share,
        computing=max(0.0, computing) * share,
        client=fit.fitting - sum(r.seconds for r in rounds),
        shipping=(up + down) * byte,
        waiting=len(rounds) * (one_round + 2 * levels * seconds_a_hop),
        n_bytes=sum((told(r) + r.result) * tasks for r in rounds if r.kind != "sample"),
    )


def paper(job: Job, n_rows: int, folder: Path, rows_of_model: int) -> None:
    """Print the model beside a fit that was measured, and for many machines."""
    latency = run(Job("latency", "", ""))
    print(
        f"\nAn empty round of 2 workers {1e3 * latency.round:.1f} ms, one more of its tasks "
        f"{1e3 * latency.task:.2f} ms, a byte of a result {1e9 * latency.byte:.2f} ns."
    )
    wide = Job("mgce", *scale.files_in(folder, rows_of_model, FEATURES_ON_PAPER), n_workers=1)
    forms = {form: run(wide._replace(form=form)) for form in ("factors", "products")}
    for form, fit in forms.items():
        line(f"{form}, {rows_of_model} x {FEATURES_ON_PAPER}", fit)
        print(by_kind(fit, rows_of_model, latency))
    columns = " ".join(f"{name:>9}" for name in (*Predicted._fields[:-1], "all"))
    print(f"\n{'Seconds':40} {columns}")

    def print_line(name: str, seconds: Predicted) -> float:
        numbers = [*seconds[:-1], sum(seconds[:-1])]
        amounts = " ".join(f"{number:9.2f}" for number in numbers)
        print(f"{name:40} {amounts}  {seconds.n_bytes / 1e6:.0f} MB", flush=True)
        return numbers[-1]

    one, two = run(job._replace(name="mgce", n_workers=1)), run(job._replace(name="mgce"))
    all_of = print_line(
        f"{n_rows} x {scale.N_FEATURES}, 2 workers, model",
        predicted(one, n_rows, latency, n_rows, 2, 2),
    )
    in_rounds, measured = sum(Round(*r).seconds for r in two.rounds), two.bringing + two.fitting
    print(
        f"{'the same, measured':40} {two.bringing:9.2f} {in_rounds:9.2f} "
        f"{two.fitting - in_rounds:9.2f} {'(all of a round is computing)':>19} {measured:9.2f}  "
        f"the model is off by {100 * (all_of / measured - 1):+.0f}%"
    )
    for form, fit in forms.items():
        for tasks in (MACHINES * CORES, MACHINES):
            seconds = predicted(
                fit, rows_of_model, latency, ROWS_ON_PAPER, MACHINES * CORES, tasks,
                1 / BYTES_A_SECOND, SECONDS_A_HOP,
            )  # fmt: skip
            size = f"{ROWS_ON_PAPER:.0e} x {FEATURES_ON_PAPER}"
            print_line(f"{size}, {form}, {tasks} workers", seconds)
    print(ASSUMED)


def by_kind(fit: Fit, n_rows: int, latency: Latency) -> str:
    """Return, of every kind of round, how many there were and seconds of a core a row."""
    kinds: dict[str, list[float]] = {}
    for one in map(lambda r: Round(*r), fit.rounds):
        kinds.setdefault(one.kind, []).append(one.seconds - latency.round)
    told = (f"{kind} {len(s)} x {1e9 * np.mean(s) / n_rows:.0f} ns" for kind, s in kinds.items())
    return "    a row: " + ", ".join(told)


def main(folder: Path, n_rows: int | None, n_rounds: int, quick: bool) -> None:
    """Print all tables; if quick those of fits of the same rows alone."""
    n = n_rows or (ROWS_QUICK if quick else ROWS)
    job = Job("", *scale.files_in(folder, n), n_rounds=n_rounds)
    print(
        f"{n} rows, d = {scale.N_FEATURES}, K = {scale.N_CLASSES}, {n_rounds} rounds of boosting; "
        f"load {os.getloadavg()[0]:.1f} before"
    )
    compare(job, LIMIT_QUICK if quick else LIMIT)
    if not quick:
        client_by_rows(job, folder, GROWTH)
        paper(job, n, folder, ROWS_OF_MODEL)


if __name__ == "__main__":
    be_process_of(Job(*json.loads(sys.argv[1])))
