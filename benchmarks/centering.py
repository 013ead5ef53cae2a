"""What centering does to a fit on raw columns: accuracy, risk and seconds, with and without.

    OMP_NUM_THREADS=1 python benchmarks/centering.py            # some minutes
    OMP_NUM_THREADS=1 python benchmarks/centering.py --quick    # under a minute

Columns are as they come, but for text, which is one-hot. Each pair of fits learns from the same
rows. MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from datasets import LOADERS

from mgce_sklearn import MGCEClassifier

SETS = ("iris", "wine", "breast_cancer", "digits", "letter", "covtype", "adult")
SETTINGS = ((0.5, 0.1), (1.0, 0.1), (0.5, 1.0), (1.0, 1.0))
MOST_TEST_ROWS = 8000


def measure(name: str, n_train: int, q: float, lam: float, seeds: range) -> list[float]:
    """Return accuracy, risk and seconds without centering, then with it: medians over seeds."""
    X, labels = LOADERS[name]()
    y = np.unique(labels, return_inverse=True)[1]
    rows = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        size = min(n_train, 2 * len(y) // 3)
        train, test = order[:size], order[size : size + MOST_TEST_ROWS]
        numbers = []
        for center in (False, True):
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the gap is part of the risk
                clf = MGCEClassifier(q, lam, center=center).fit(X[train], y[train])
            seconds = time.perf_counter() - begin
            numbers += [clf.score(X[test], y[test]), clf.minimax_risk_, seconds]
        rows.append(numbers)
    return np.median(rows, axis=0).tolist()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=SETS, choices=sorted(LOADERS))
    parser.add_argument("--rows", type=int, default=4000, help="the most training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three small sets, one seed")
    options = parser.parse_args()
    if options.quick:
        options.data, options.seeds = ("iris", "wine", "breast_cancer"), 1
    MGCEClassifier().fit(*LOADERS["iris"]())  # compile
    print("| data | q | lam | accuracy, not centered | centered | risk | centered | s | centered |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.data:
        for q, lam in SETTINGS:
            found = measure(name, options.rows, q, lam, range(options.seeds))
            accuracy, risk, seconds = found[::3], found[1::3], found[2::3]
            cells = [f"{a:.3f}" for a in (*accuracy, *risk)] + [f"{s:.2f}" for s in seconds]
            print(f"| {name} | {q:g} | {lam:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
