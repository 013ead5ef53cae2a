"""Certified fits beside logistic regression: CPU seconds on the same rows.

    OMP_NUM_THREADS=1 python benchmarks/pace.py --quick     # under a minute
    OMP_NUM_THREADS=1 python benchmarks/pace.py             # everyday tables, tol = 1e-4
    OMP_NUM_THREADS=1 python benchmarks/pace.py --data letter covtype adult --relu 1000 --tol 1e-3
    OMP_NUM_THREADS=1 python benchmarks/pace.py --data mnist --tol 1e-3 --width 0.3
    OMP_NUM_THREADS=1 python benchmarks/pace.py --data wine breast_cancer digits --paths

Logistic regression is scikit-learn's ``LogisticRegression(max_iter=1000)``: no guarantee, to its
own tolerance. Ours is `MGCEClassifier` with ``solver="auto"`` and its own widths, or with one width
of ``--width`` · 0.3/√n for every coefficient. Rows are standardized, columns without spread left
out. ``--relu`` puts so many `RandomReLUFeatures` in their place. The gap is that of the objective
in float64, after the fit. Medians of three, or of what takes less than 5 seconds.
``--paths`` times `mgce_path` over ten widths beside ten fits of one.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import datasets as real
import numpy as np
import scipy.sparse as sp
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, RandomReLUFeatures, mgce_path

Array = np.ndarray[Any, Any]

EVERYDAY = [
    "breast_cancer", "digits", "letter", "covtype", "pendigits", "spambase", "waveform", "table",
]  # fmt: skip
PATH_LAMS = np.geomspace(1.0, 0.01, 10)
QUICK = ["breast_cancer", "digits", "pendigits"]
MOST_ROWS = {"covtype": 40_000}
ROWS_WITH_RELU = {"covtype": 20_000, "letter": 16_000}
LONG = 5.0


def table() -> tuple[Array, Array]:
    """Return 2,000 rows, 216 features and 10 classes."""
    return make_classification(
        2000, 216, n_informative=40, n_redundant=60, n_classes=10, random_state=0
    )


def rows_of(name: str, n_relu: int, most: int | None = None) -> tuple[Array, Array]:
    """Return standardized rows and labels, at most so many; None: as many as is usual."""
    X, y = table() if name == "table" else real.LOADERS[name]()
    X = X.toarray() if sp.issparse(X) else np.asarray(X, float)
    limit = most or (ROWS_WITH_RELU if n_relu else MOST_ROWS).get(name, len(y))
    chosen = np.random.default_rng(0).permutation(len(y))[:limit]
    X, y = X[chosen], np.asarray(y)[chosen]
    X = StandardScaler().fit_transform(X[:, X.std(axis=0) > 0.0])
    if n_relu:
        X = RandomReLUFeatures(n_relu, random_state=0).fit_transform(X)
        X = StandardScaler().fit_transform(X[:, X.std(axis=0) > 0.0])
    return X, y


def median_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return median CPU seconds, and what was made last."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < LONG:
        begin = time.process_time()
        made = work()
        seconds.append(time.process_time() - begin)
    return float(np.median(seconds)), made


def classifier(q: float, options: argparse.Namespace, X: Array, y: Array) -> MGCEClassifier:
    """Return the classifier that is measured."""
    settings = {"q": q, "lam": options.lam, "tol": options.tol}
    if options.width is not None:
        shape = len(np.unique(y)), X.shape[1] + 1
        settings["width"] = np.full(shape, options.width * 0.3 / np.sqrt(len(y)))
    return MGCEClassifier(**settings)


def print_paths(options: argparse.Namespace) -> None:
    """Print what a path costs, of the fits of its points one by one."""
    print("| set | q | steps, apart | of them | s, apart | of them |")
    print("|---|---|---|---|---|---|")
    for name in options.data:
        X, y = rows_of(name, 0, options.rows)
        for q in options.qs:
            seconds: list[float] = []
            steps: list[int] = []
            for lams in (PATH_LAMS, *PATH_LAMS[:, None]):
                took, path = median_seconds(
                    lambda X=X, y=y, q=q, lams=lams: mgce_path(X, y, [q], lams, tol=options.tol)
                )
                seconds.append(took)
                steps.append(int(path.n_iters.sum()))
            apart, n_apart = sum(seconds[1:]), sum(steps[1:])
            print(
                f"| {name} | {q:g} | {n_apart} | {steps[0] / n_apart:.2f} | {apart:.2f} | "
                f"{seconds[0] / apart:.2f} |",
                flush=True,
            )


def main() -> None:
    """Print a line for each table and q."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=EVERYDAY)
    parser.add_argument("--qs", nargs="+", type=float, default=[0.0, 0.5, 0.7, 1.0])
    parser.add_argument("--lam", type=float, default=0.1)
    parser.add_argument("--width", type=float, help="of all coefficients, in units of 0.3/√n")
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--relu", type=int, default=0)
    parser.add_argument("--rows", type=int, help="at most; by default 40,000 of covtype")
    parser.add_argument("--paths", action="store_true", help="paths beside separate fits")
    parser.add_argument("--single", action="store_true", help="rows in float32, for both")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.paths:
        print_paths(options)
        return
    print("| set | rows × features, classes | LR, s | q | ours, s | × LR | steps | gap | |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios = []
    for name in QUICK if options.quick else options.data:
        X, y = rows_of(name, options.relu, options.rows)
        X = X.astype(np.float32 if options.single else np.float64)
        size = f"{len(y):,} × {X.shape[1]}, {len(np.unique(y))}"
        for q in options.qs:  # kernels are compiled and read before anything is timed
            classifier(q, options, X[:500], y[:500]).set_params(tol=0.1).fit(X[:500], y[:500])
        beside, _ = median_seconds(lambda X=X, y=y: LogisticRegression(max_iter=1000).fit(X, y))
        for q in options.qs:
            model = classifier(q, options, X, y)
            seconds, fitted = median_seconds(lambda X=X, y=y, model=model: model.fit(X, y))
            ratios.append(seconds / beside)
            gap = fitted.dual_gap_ / fitted.minimax_risk_
            status = "" if gap <= options.tol else "not closed"
            print(
                f"| {name} | {size} | {beside:.3f} | {q:g} | {seconds:.3f} | {ratios[-1]:.1f} | "
                f"{fitted.n_iter_} | {gap:.1e} | {status} |",
                flush=True,
            )
    print(f"\nmedian {np.median(ratios):.1f} × LR, most {np.max(ratios):.1f}")


if __name__ == "__main__":
    main()
