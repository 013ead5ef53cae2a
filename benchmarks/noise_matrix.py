"""How often the error on true labels lies within the bounds of a fit that knows the noise matrix.

    MGCE_DATA_DIR=DIR python benchmarks/noise_matrix.py            # some minutes
    python benchmarks/noise_matrix.py --quick                      # under a minute
    MGCE_DATA_DIR=DIR python benchmarks/noise_matrix.py --lam feasible

Labels of at most 2,000 rows are made wrong, alike or to the next class, and `MGCEClassifier`
(q = 1) is fitted with the matrix and without. `error_bounds` of the rows of the fit are held
against the error on their true labels. A line has, over seeds: the share of empty sets; of the
others how often the error is within, its median and the medians of the bounds; chance; how often
the bounds without the matrix hold it; and the accuracy of both on the true labels.
"""

from __future__ import annotations

import argparse
from typing import Any

import datasets
import numpy as np
from joblib import Parallel, delayed
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mgce_sklearn import EmptySetError, MGCEClassifier
from mgce_sklearn.label_noise import matrix_noise, pair_flip_transition, symmetric_transition

Array = np.ndarray[Any, Any]

N_ROWS = 2_000
# As many principal components as 2,000 rows can tell means of, where columns are many.
SETS = {
    "wine": None,
    "breast_cancer": None,
    "digits": 12,
    "magic": None,
    "waveform": None,
    "adult": None,
    "covtype": None,
}
NOISE = {
    "symmetric .2": lambda k: symmetric_transition(k, 0.2),
    "symmetric .3": lambda k: symmetric_transition(k, 0.3),
    "pair .3": lambda k: pair_flip_transition(k, 0.3),
}
TOL = 1e-2


def rows_of(name: str, n_components: int | None, seed: int) -> tuple[Array, Array]:
    """Return rows of a set, others for every seed where there are more than enough."""
    X, y = datasets.LOADERS[name]()
    y = np.unique(y, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(y))[:N_ROWS]
    X, y = np.asarray(X)[order], y[order]
    if n_components is not None:
        X = PCA(n_components, random_state=0).fit_transform(StandardScaler().fit_transform(X))
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    kept = counts[codes] >= len(X) / 100  # a matrix asks for every class among observed labels
    return X[kept], np.unique(y[kept], return_inverse=True)[1]


def within(model: MGCEClassifier, X: Array, y: Array) -> tuple[float, float, float, float]:
    """Return whether the error is within the bounds, it, and the bounds."""
    bounds = model.error_bounds(X, tol=TOL)
    error = 1.0 - model.score(X, y)
    return float(bounds.lower <= error <= bounds.upper), error, bounds.lower, bounds.upper


def measured(name: str, n_components: int | None, noise: str, lam: Any, seed: int) -> list[float]:
    """Return whether the set is empty, what `within` does with and without the matrix."""
    with threadpool_limits(1):
        X, y = rows_of(name, n_components, seed)
        matrix = NOISE[noise](y.max() + 1)
        observed = matrix_noise(y, matrix, random_state=seed)
        plain = MGCEClassifier(1.0, 1.0 if lam == "feasible" else lam, tol=1e-3).fit(X, observed)
        without = [within(plain, X, y)[0], plain.score(X, y)]
        try:
            model = MGCEClassifier(1.0, lam, noise_matrix=matrix, tol=1e-3).fit(X, observed)
            return [0.0, *within(model, X, y), *without, 1.0 - 1.0 / (y.max() + 1)]
        except EmptySetError:
            return [1.0, *[np.nan] * 4, *without, 1.0 - 1.0 / (y.max() + 1)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sets, three seeds")
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--lam", default="1", help="a number, or feasible")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--all-columns", action="store_true", help="digits without components")
    options = parser.parse_args()
    names = ["wine", "breast_cancer"] if options.quick else options.data
    seeds = range(3 if options.quick else options.seeds)
    lam = options.lam if options.lam == "feasible" else float(options.lam)
    print(
        "| data | noise | empty | within | error | lower | upper | chance | without: within "
        "| accuracy | without |\n" + "|---" * 11 + "|"
    )
    for name in names:
        n_components = None if options.all_columns else SETS[name]
        for noise in NOISE:
            rows = np.array(
                Parallel(options.jobs)(
                    delayed(measured)(name, n_components, noise, lam, seed) for seed in seeds
                )
            )
            empty, chance = rows[:, 0] == 1.0, rows[0, -1]
            inside, error, lower, upper = rows[~empty, 1:5].T
            if empty.all():
                cells = ["", "", "", ""]
            else:
                cells = [f"{int(inside.sum())} of {len(inside)}"]
                cells += [f"{np.median(values):.3f}" for values in (error, lower, upper)]
            accuracy = "" if empty.all() else f"{np.mean(1.0 - error):.3f}"
            print(
                f"| {name} | {noise} | {int(empty.sum())} of {len(rows)} | "
                + " | ".join(cells)
                + f" | {chance:.3f} | {int(rows[:, 5].sum())} of {len(rows)} | {accuracy} | "
                f"{rows[:, 6].mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
