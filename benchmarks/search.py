"""What the search costs and chooses, with scores that are certified and scores that are not.

    OMP_NUM_THREADS=1 python benchmarks/search.py            # some ten minutes
    OMP_NUM_THREADS=1 python benchmarks/search.py --quick    # 500 rows of small sets

For every set, in one run and on the same five folds of at most 4,000 standardized rows: a grid of
16 C for `LogisticRegression(max_iter=1000)`, the search as it comes, and with `certify_scores`
(once). Seconds are of the CPU, medians over repeats in turn, refits included; with `--n-jobs` other
than 1 they are of the clock. "regret" is how far the certified score of the pair that the search
chose is below the best certified score; "off by" is the mean distance of all pairs' scores from
certified ones.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from datasets import LOADERS
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifierCV
from mgce_sklearn.label_noise import symmetric_noise

Array = np.ndarray[Any, Any]

SETS = (
    "digits",
    "letter",
    "pendigits",
    "spambase",
    "waveform",
    "adult",
    "covtype",
    "breast_cancer",
    "digits, 20% wrong",
    "letter, 20% wrong",
    "adult, 20% wrong",
)
SMALL = ("wine", "breast_cancer", "digits")
MOST_ROWS = 4000
CS = np.geomspace(1e-3, 1e2, 16)


def data(name: str, most_rows: int) -> tuple[Array, Array]:
    """Return standardized rows and labels, some of them wrong if the name says so."""
    name, _, wrong = name.partition(", ")
    X, y = LOADERS[name]()
    rows = np.random.default_rng(0).permutation(len(y))[:most_rows]
    X, y = X[rows], np.unique(y[rows], return_inverse=True)[1]
    enough = np.isin(y, np.flatnonzero(np.bincount(y) >= 5))
    X, y = X[enough], y[enough]
    X = StandardScaler().fit_transform(X[:, np.ptp(X, axis=0) > 0])
    return X, symmetric_noise(y, 0.2, random_state=0) if wrong else y


def median_seconds(
    searches: Sequence[Any], X: Array, y: Array, repeats: int, clock: Callable[[], float]
) -> list[float]:
    """Return the median seconds of each search, fitted in turns."""
    seconds = np.empty((repeats, len(searches)))
    for repeat in range(repeats):
        for i, search in enumerate(searches):
            begin = clock()
            search.fit(X, y)
            seconds[repeat, i] = clock() - begin
    return np.median(seconds, axis=0).tolist()


def main() -> None:
    """Print a line per data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="500 rows of small sets")
    parser.add_argument("--data", nargs="+", default=SETS, help="sets to run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--n-jobs", type=int, default=1, help="processes of every search")
    parser.add_argument("--qs", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75])
    parser.add_argument("--scoring", default="accuracy", help="neg_brier_score, for example")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # iteration limits of logistic regression
    clock = time.process_time if options.n_jobs == 1 else time.perf_counter
    shared = {"scoring": options.scoring, "n_jobs": options.n_jobs}
    grid = GridSearchCV(LogisticRegression(max_iter=1000), {"C": CS}, **shared)
    search, certified = (
        MGCEClassifierCV(options.qs, certify_scores=certify, **shared) for certify in (False, True)
    )
    print(
        f"{'data':18}     n   d  K  LR, s  search, s    /LR  certified, s  best LR  certified  "
        f"{'its pair':>11}  {'chosen pair':>11}  regret  off by"
    )
    for name in SMALL if options.quick else options.data:
        X, y = data(name, 500 if options.quick else MOST_ROWS)
        search.fit(X[::2], y[::2])  # compile
        of_grid, of_search = median_seconds([grid, search], X, y, options.repeats, clock)
        (of_certified,) = median_seconds([certified], X, y, 1, clock)
        scores = certified.cv_results_["mean_test_score"]
        off = np.abs(search.cv_results_["mean_test_score"] - scores).mean()
        print(
            f"{name:18} {X.shape[0]:5d} {X.shape[1]:3d} {y.max() + 1:2d} {of_grid:6.2f} "
            f"{of_search:10.2f} {of_search / of_grid:6.2f} {of_certified:13.2f} "
            f"{grid.best_score_:8.4f} {certified.best_score_:10.4f}  "
            f"{certified.q_:4g}, {certified.lam_:5g}  {search.q_:4g}, {search.lam_:5g}  "
            f"{certified.best_score_ - scores[search.best_index_]:6.4f}  {off:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
