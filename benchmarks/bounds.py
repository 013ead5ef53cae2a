"""Seconds of error bounds beside those of the fit, and beside HiGHS on the linear programs.

    OMP_NUM_THREADS=1 python benchmarks/bounds.py            # a few minutes
    OMP_NUM_THREADS=1 python benchmarks/bounds.py --quick    # small sets, under a minute

`error_bounds` solves two problems, the worst case and the best. Fits and bounds alternate in one
run, each on one thread; times are medians. HiGHS (its interior point method, through scipy) is
given the two linear programs in the worst-case distributions, at its own tolerances; it is left
out where a program has more than `LARGEST_PROGRAM` variables.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from datasets import LOADERS
from scipy.optimize import linprog
from sklearn import datasets as embedded
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.bounds import RULES

Array = np.ndarray[Any, Any]

SMALL = ("iris", "wine", "breast_cancer", "digits")
LARGE = ("letter", "adult")
QS = (0.0, 0.5, 1.0)
LAM = 0.3
MOST_ROWS = 20_000
LARGEST_PROGRAM = 20_000


def data(name: str) -> tuple[Array, Array]:
    """Return standardized features and labels."""
    if name in LOADERS:
        X, y = LOADERS[name]()
    else:
        X, y = getattr(embedded, f"load_{name}")(return_X_y=True)
    X, y = X[:MOST_ROWS], y[:MOST_ROWS]
    X = X.toarray() if sp.issparse(X) else X
    return StandardScaler().fit_transform(X[:, np.ptp(X, axis=0) > 0]), y


def seconds(function: Callable[[], Any]) -> float:
    """Return the time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def paired_seconds(
    model: MGCEClassifier, X: Array, y: Array, rule: str, repeats: int
) -> tuple[float, float]:
    """Return the median times of fits and of bounds, in turns."""
    pairs = [
        (seconds(lambda: model.fit(X, y)), seconds(lambda: model.error_bounds(X, rule)))
        for _ in range(repeats)
    ]
    fit, bounds = np.median(pairs, axis=0)
    return float(fit), float(bounds)


def linear_programs(model: MGCEClassifier, X: Array, rule: str) -> tuple[float, float]:
    """Return the least and the largest expected error by HiGHS."""
    if rule == "randomized":
        costs = 1.0 - model.predict_proba(X).T
    else:
        costs = (model.classes_[:, None] != model.predict(X)).astype(float)
    n_classes, n = costs.shape
    about = model.uncertainty_set_
    features = np.column_stack([X, np.ones(n)]) - about.center
    means = sp.block_diag([features.T / n] * n_classes).tocsr()
    tau, width = about.tau.ravel(), about.half_width.ravel()
    both = sp.vstack([means, -means])
    limits = np.concatenate([tau + width, width - tau])
    simplex = sp.hstack([sp.eye(n)] * n_classes).tocsr()
    ends = []
    for sign in (1.0, -1.0):
        found = linprog(
            sign * costs.ravel() / n,
            A_ub=both,
            b_ub=limits,
            A_eq=simplex,
            b_eq=np.ones(n),
            method="highs-ipm",
        )
        ends.append(sign * found.fun)
    return ends[0], ends[1]


def main() -> None:
    """Print a line per data set, q and rule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sets")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # gaps are printed
    print("data            n  K   q rule            fit, s  bounds, s  in fits  HiGHS, s  ", end="")
    print("lower   upper  gap")
    for name in SMALL if options.quick else SMALL + LARGE:
        X, y = data(name)
        for q in QS:
            model = MGCEClassifier(q=q, lam=LAM).fit(X, y)
            for rule in RULES:
                found = model.error_bounds(X, rule)
                fit, bounds = paired_seconds(model, X, y, rule, options.repeats)
                n_classes = len(model.classes_)
                highs = ""
                if n_classes * len(X) <= LARGEST_PROGRAM and not (options.quick and len(X) > 1000):
                    begin = time.perf_counter()
                    lower, upper = linear_programs(model, X, rule)
                    highs = f"{time.perf_counter() - begin:.3f}"
                    off = max(lower - found.lower, found.upper - upper)
                    assert -1e-6 < off < 1e-3 + 1e-6, off
                print(
                    f"{name:13s} {len(X):5d} {n_classes:2d} {q:.1f} {rule:13s} {fit:8.3f} "
                    f"{bounds:10.3f} {bounds / fit:8.2f} {highs:>9s}  {found.lower:.4f}  "
                    f"{found.upper:.4f}  {found.gap:.0e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
