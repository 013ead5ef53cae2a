"""Sparse text: accuracy, probabilities, certificate, seconds and memory beside logistic regression.

    OMP_NUM_THREADS=1 python benchmarks/text.py --quick     # two groups of news, under a minute
    OMP_NUM_THREADS=1 python benchmarks/text.py             # news20, some minutes
    OMP_NUM_THREADS=1 python benchmarks/text.py --search    # and the choice of q and lam

Rows are the tf-idf of the words of news20, ``TfidfTransformer(sublinear_tf=True)`` of the training
rows, split by date. Each model has a process of its own. Memory is the peak of what the fit
allocates, as tracemalloc sees it, in units of X: the bytes of its numbers and indices. Seconds are
of the CPU. ECE has 15 bins. C of logistic regression is 1, and 30, about the best on the test rows;
"as it comes" is the classifier without a parameter, stopped after ``--limit`` seconds.

``--search`` is 3-fold cross-validation on the training rows, by accuracy, over q, lam and passes.
MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Split, news20
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.metrics import expected_calibration_error

RECIPE = {"q": 0.5, "lam": 0.3, "solver": "sgd", "max_iter": 10, "random_state": 0}
EQUAL_WIDTH = 1e-5


def equal_widths(rows: Split) -> np.ndarray[Any, Any]:
    """Return one half-width for every coefficient."""
    return np.full((len(np.unique(rows.y)), rows.X.shape[1] + 1), EQUAL_WIDTH)


MODELS: dict[str, Callable[[Split, float], Any]] = {
    "LogisticRegression(C=1)": lambda rows, limit: LogisticRegression(C=1, max_iter=1000),
    "LogisticRegression(C=30)": lambda rows, limit: LogisticRegression(C=30, max_iter=1000),
    "the recipe": lambda rows, limit: MGCEClassifier(**RECIPE),
    "5 passes": lambda rows, limit: MGCEClassifier(**{**RECIPE, "max_iter": 5}),
    "20 passes": lambda rows, limit: MGCEClassifier(**{**RECIPE, "max_iter": 20}),
    "40 passes": lambda rows, limit: MGCEClassifier(**{**RECIPE, "max_iter": 40}),
    "q = 0": lambda rows, limit: MGCEClassifier(**{**RECIPE, "q": 0.0}),
    "q = 0.7": lambda rows, limit: MGCEClassifier(**{**RECIPE, "q": 0.7}),
    "lam = 0.1": lambda rows, limit: MGCEClassifier(**{**RECIPE, "lam": 0.1}),
    "equal widths": lambda rows, limit: MGCEClassifier(**RECIPE, width=equal_widths(rows)),
    "as it comes": lambda rows, limit: MGCEClassifier(max_time=limit),
}


def tfidf(quick: bool) -> Split:
    """Return training and test rows; of two groups if it shall be quick."""
    X, y, is_test = news20()
    if quick:
        few = y < 2
        X, y, is_test = X[few], y[few], is_test[few]
    transformer = TfidfTransformer(sublinear_tf=True).fit(X[~is_test])
    X = transformer.transform(X).tocsr()
    return Split(X[~is_test], y[~is_test], X[is_test], y[is_test])


def n_bytes(X: Any) -> int:
    """Return what a CSR matrix takes."""
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes


def fit_once(name: str, quick: bool, limit: float) -> dict[str, Any]:
    """Fit in this process, after a small fit that loads the compiled kernels."""
    warnings.simplefilter("ignore")  # the gap is in the table
    rows = tfidf(quick)
    columns = np.arange(200)
    small = Split(rows.X[::20][:, columns], rows.y[::20], None, None)
    model = MODELS[name](small, limit)
    if hasattr(model, "max_time"):
        model.set_params(max_iter=2)
    model.fit(small.X, small.y)
    model = MODELS[name](rows, limit)
    tracemalloc.start()
    begin = time.process_time()
    model.fit(rows.X, rows.y)
    seconds = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    proba = model.predict_proba(rows.X_test)
    one_hot = rows.y_test[:, np.newaxis] == model.classes_
    return {
        "accuracy": model.score(rows.X_test, rows.y_test),
        "Brier": ((proba - one_hot) ** 2).sum(axis=1).mean(),
        "ECE": expected_calibration_error(rows.y_test, proba),
        "risk": getattr(model, "minimax_risk_", np.nan),
        "gap": getattr(model, "dual_gap_", np.nan) / getattr(model, "minimax_risk_", np.nan),
        "seconds": seconds,
        "X": peak / n_bytes(rows.X),
    }


def fit_elsewhere(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fit in a new process."""
    command = [sys.executable, __file__, "--model", name, "--limit", str(options.limit)]
    command += ["--quick"] * options.quick
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def search(rows: Split, options: argparse.Namespace) -> None:
    """Print cross-validated accuracies, and the test accuracy of the best setting."""
    warnings.simplefilter("ignore")  # passes end before gaps are closed
    begin = time.process_time()
    grid = GridSearchCV(
        MGCEClassifier(solver="sgd", random_state=0),
        {"q": options.qs, "lam": options.lams, "max_iter": options.passes},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(rows.X, rows.y)
    results = grid.cv_results_
    print("\n| q | lam | passes | accuracy, 3 folds |\n|---|---|---|---|")
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        print(f"| {params['q']:g} | {params['lam']:g} | {params['max_iter']} | {score:.4f} |")
    accuracy = grid.score(rows.X_test, rows.y_test)
    print(f"chosen {grid.best_params_}, test accuracy {accuracy:.4f}, ", end="")
    print(f"{time.process_time() - begin:.0f} s, refit included")


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two groups, two models")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--limit", type=float, default=120.0, help="seconds, of one")
    parser.add_argument("--search", action="store_true", help="choose q, lam and passes as well")
    parser.add_argument("--qs", nargs="+", type=float, default=[0.0, 0.5, 0.7])
    parser.add_argument("--lams", nargs="+", type=float, default=[0.1, 0.3])
    parser.add_argument("--passes", nargs="+", type=int, default=[5, 10, 20])
    parser.add_argument("--model", help="fit one here, and print JSON")
    options = parser.parse_args()
    if options.model:
        print(json.dumps(fit_once(options.model, options.quick, options.limit)))
        return
    print("| model | accuracy | Brier | ECE | minimax risk | gap | s | memory, X |")
    print("|---|---|---|---|---|---|---|---|")
    names = ["LogisticRegression(C=1)", "the recipe"] if options.quick else options.models
    for name in names:
        fit = fit_elsewhere(name, options)
        print(
            f"| {name} | {fit['accuracy']:.4f} | {fit['Brier']:.3f} | {fit['ECE']:.3f} | "
            f"{fit['risk']:.3f} | {fit['gap']:.2f} | {fit['seconds']:.1f} | {fit['X']:.1f} |",
            flush=True,
        )
    if options.search:
        search(tfidf(options.quick), options)


if __name__ == "__main__":
    main()
