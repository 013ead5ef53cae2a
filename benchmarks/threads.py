"""Seconds of a fit in the main thread, in another, and of two at once.

    python benchmarks/threads.py                  # some minutes
    python benchmarks/threads.py --quick          # under a minute
    python benchmarks/threads.py --load 2         # beside so many processes that keep cores busy
    python benchmarks/threads.py --base DIR       # beside another checkout, in turn

Variables that limit threads are unset. A process of each checkout fits whenever it is told to,
so that everything is measured in turn; what is printed is the median of seconds in the main
thread, and medians of ratios: of another thread to the main one, and of two fits at once (in
threads, by joblib in threads, by joblib in processes) to two in sequence in the main thread. The
last column is the main thread of this checkout against the base's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits

Array = np.ndarray[Any, Any]
Seconds = dict[str, Array]

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "VECLIB_MAXIMUM")

# Settings of the classifier for each solver: what takes about a second.
SOLVERS: dict[str, dict[str, int]] = {
    "interior_point": {},
    "lbfgs": {"max_iter": 60},
    "sgd": {"max_iter": 10},
}


def digits() -> tuple[Any, Any]:
    """Return 1,797 rows: too few to share, and BLAS alone could use more threads."""
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


def many_rows() -> tuple[Any, Any]:
    """Return 50,000 rows of 20 features and 5 classes, which threads share."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50_000, 20))
    scores = X @ rng.normal(size=(20, 5)) / 2.0 + rng.gumbel(size=(50_000, 5))
    return X, scores.argmax(axis=1)


DATA = {"digits": digits, "50,000 x 20": many_rows}


def fit_once(solver: str, data: tuple[Any, Any]) -> None:
    """Fit a classifier of its own."""
    from mgce_sklearn import MGCEClassifier

    warnings.simplefilter("ignore")  # an iteration limit is no news here
    MGCEClassifier(q=0.5, lam=0.1, solver=solver, **SOLVERS[solver]).fit(*data)


def in_threads(n: int, work: Callable[[], None]) -> None:
    """Run ``work`` in so many threads at once."""
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def by_joblib(backend: str, *fit: Any) -> None:
    """Run two fits by joblib."""
    Parallel(n_jobs=2, backend=backend)(delayed(fit_once)(*fit) for _ in range(2))


WAYS: dict[str, Callable[..., None]] = {
    "main": fit_once,
    "thread": lambda *fit: in_threads(1, lambda: fit_once(*fit)),
    "sequence": lambda *fit: [fit_once(*fit) for _ in range(2)],
    "at once": lambda *fit: in_threads(2, lambda: fit_once(*fit)),
    "joblib threading": lambda *fit: by_joblib("threading", *fit),
    "joblib loky": lambda *fit: by_joblib("loky", *fit),
}


def serve() -> None:
    """Fit as told, a line ``solver;data;way`` each time, and answer with seconds."""
    data = {name: load() for name, load in DATA.items()}
    for line in sys.stdin:
        solver, name, way = line.strip().split(";")
        begin = time.perf_counter()
        WAYS[way](solver, data[name])
        print(time.perf_counter() - begin, flush=True)


class Checkout:
    """A process that fits with the package of a folder."""

    def __init__(self, folder: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(LIMITS)}
        environment["PYTHONPATH"] = str(folder)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def seconds(self, *order: str) -> float:
        """Let it fit once."""
        print(*order, sep=";", file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> Checkout:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()


def measure(checkouts: list[Checkout], case: tuple[str, str], repeats: int) -> list[Seconds]:
    """Return the seconds of every way, for each checkout."""
    seconds: list[Seconds] = [{way: np.empty(repeats) for way in WAYS} for _ in checkouts]
    for way in ("main", "joblib loky"):  # compile, and start joblib's processes
        for checkout in checkouts:
            checkout.seconds(*case, way)
    for repeat in range(repeats):
        for way in WAYS:
            for checkout, of in zip(checkouts, seconds, strict=True):
                of[way][repeat] = checkout.seconds(*case, way)
    return seconds


def cells(ours: Seconds, base: Seconds) -> str:
    """Return a line's numbers."""
    ratios = [ours["thread"] / ours["main"]]
    ratios += [ours[way] / ours["sequence"] for way in ("at once", "joblib threading")]
    ratios += [ours["joblib loky"] / ours["sequence"], ours["main"] / base["main"]]
    return f"{np.median(ours['main']):8.3f}" + "".join(f"{np.median(r):11.2f}" for r in ratios)


def main() -> None:
    """Print a line per data set, solver and checkout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="interior_point alone, three times")
    parser.add_argument("--repeats", type=int, default=7, help="fits a median is taken of")
    parser.add_argument("--load", type=int, default=0, help="processes that keep cores busy")
    parser.add_argument("--base", type=Path, help="another checkout to compare with")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    folders = {"this": ROOT, **({"base": options.base} if options.base else {})}
    solvers = ["interior_point"] if options.quick else list(SOLVERS)
    repeats = 3 if options.quick else options.repeats
    print(
        f"{'data':12} {'solver':15} {'':4} {'main, s':>8}"
        f"{'thread':>11}{'at once':>11}{'threading':>11}{'loky':>11}{'main/base':>11}"
    )
    with ExitStack() as stack:
        for _ in range(options.load):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.kill)
        checkouts = [stack.enter_context(Checkout(folder)) for folder in folders.values()]
        for data in DATA:
            for solver in solvers:
                seconds = measure(checkouts, (solver, data), repeats)
                for name, of in zip(folders, seconds, strict=True):
                    print(f"{data:12} {solver:15} {name:4} {cells(of, seconds[-1])}", flush=True)


if __name__ == "__main__":
    main()
