"""DaskMGCEClassifier against MGCEClassifier on the same rows: any partitions, and workers that die.

    python benchmarks/dask_equality.py            # seven minutes
    python benchmarks/dask_equality.py --quick    # half a minute

20,000 rows of 10 columns, three classes, on two workers of one thread each, processes. The first
table cuts the rows into other partitions; the second has workers killed (SIGKILL), or changed, in
the midst of a fit. A line has the relative difference of the two minimax risks, the largest
difference of a probability, the relative gap, and seconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.dask import DaskMGCEClassifier
from mgce_sklearn.dask.rounds import Rounds

N, D, K, TOL = 20_000, 10, 3, 1e-9
ROUND = 16  # of the fit, in which something happens: in its third step or so

SETTINGS = {
    "interior point, q = 0": {"q": 0.0},
    "interior point, q = 0.5": {"q": 0.5},
    "interior point, q = 1": {"q": 1.0, "lam": 1.0},
    "lbfgs, q = 0.3, tol = 1e-6": {"q": 0.3, "solver": "lbfgs", "tol": 1e-6},
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and labels by a linear model."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)) + 1.0
    scores = X @ rng.normal(size=(D, K))
    return X, (scores + 2.0 * rng.gumbel(size=(N, K))).argmax(axis=1)


def orders(y: np.ndarray) -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """Return orders of the rows, and the sizes of their partitions."""
    as_they_are, rng = np.arange(N), np.random.default_rng(1)
    ragged = np.diff([0, *np.sort(rng.choice(N, 11, replace=False)), N])
    return {
        "8 equal parts": (as_they_are, (N // 8,) * 8),
        "12 ragged parts, one empty": (as_they_are, (*ragged, 0)),
        "by class, 6 parts": (np.argsort(y, kind="stable"), (N // 6,) * 5 + (N - 5 * (N // 6),)),
        "in another order, 8 parts": (rng.permutation(N), (N // 8,) * 8),
    }


def kill(client: Client, n: int) -> None:
    """End some workers at once."""
    for pid in list(client.run(os.getpid).values())[:n]:
        os.kill(pid, signal.SIGKILL)


def faults(client: Client, cluster: LocalCluster) -> dict[str, Callable[[], Any]]:
    """Return what may happen to workers."""
    later = partial(threading.Timer, 0.01, kill, (client, 1))
    return {
        "one killed between rounds": partial(kill, client, 1),
        "one killed during a round": lambda: later().start(),
        "both killed": partial(kill, client, 2),
        "one joins": partial(cluster.scale, 3),
    }


def line(what: str, fit: Callable[[], Any], expected: MGCEClassifier, X: np.ndarray) -> None:
    """Print how a fit differs from that in memory."""
    begin = time.perf_counter()
    model = fit()
    seconds = time.perf_counter() - begin
    risk = abs(model.minimax_risk_ / expected.minimax_risk_ - 1.0)
    proba = np.abs(model.predict_proba(X) - expected.predict_proba(X)).max()
    gap = model.dual_gap_ / model.minimax_risk_
    print(f"| {what} | {risk:.1e} | {proba:.1e} | {gap:.1e} | {seconds:.1f} |", flush=True)


def in_round(number: int, happen: Callable[[], Any]) -> Callable[[], None]:
    """Have something happen before a round; return what ends this."""
    real, seen = Rounds._round, []

    def noted(self: Any, *args: Any) -> Any:
        seen.append(None)
        if len(seen) == number:
            happen()
        return real(self, *args)

    Rounds._round = noted  # type: ignore[method-assign]
    return partial(setattr, Rounds, "_round", real)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Equality of fits on workers of Dask.")
    parser.add_argument("--quick", action="store_true", help="one setting alone")
    settings = dict(list(SETTINGS.items())[1:2]) if parser.parse_args().quick else SETTINGS
    warnings.simplefilter("ignore")
    X, y = rows()
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster, Client(cluster) as client:  # fmt: skip
        for name, parameters in settings.items():
            parameters = {"tol": TOL, **parameters}
            expected = MGCEClassifier(**parameters).fit(X, y)
            new = partial(DaskMGCEClassifier, client=client, **parameters)
            print(f"\n{name}\n\n| | risk | probability | gap | s |\n|---|---|---|---|---|")
            for cut, (order, sizes) in orders(y).items():
                parts = da.from_array(X[order], (sizes, D)), da.from_array(y[order], (sizes,))
                line(cut, lambda parts=parts, new=new: new().fit(*parts), expected, X)
            parts = da.from_array(X, (N // 8, D)), da.from_array(y, N // 8)
            for what, happen in faults(client, cluster).items():
                client.wait_for_workers(2)
                end = in_round(ROUND, happen)
                line(what, lambda parts=parts, new=new: new().fit(*parts), expected, X)
                end()


if __name__ == "__main__":
    main()
