"""What named feature maps bring: accuracy, Brier score, calibration error and seconds by table.

    OMP_NUM_THREADS=1 python benchmarks/feature_maps.py           # some minutes
    OMP_NUM_THREADS=1 python benchmarks/feature_maps.py --quick   # half a minute

`MGCEClassifier` with each map is fitted to training rows, some of whose labels are wrong where
``--noise`` says so, and judged on others with true ones. Means over ``--seeds`` splits.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from datasets import split

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.expressive import NAMED
from mgce_sklearn.metrics import expected_calibration_error

SETS = ("magic", "spambase", "digits", "adult", "letter")
QUICK = ("spambase", "waveform")


def judge(name: str, feature_map: Any, seed: int, options: argparse.Namespace) -> list[float]:
    """Return features, accuracy, Brier score, calibration error, and seconds of a fit."""
    rows = split(name, options.rows, options.noise, seed)
    model = MGCEClassifier(
        options.q, options.lam, tol=options.tol, feature_map=feature_map, random_state=seed
    )
    begin = time.process_time()
    model.fit(rows.X, rows.y)
    seconds = time.process_time() - begin
    proba = model.predict_proba(rows.X_test)
    off = proba - np.eye(proba.shape[1])[rows.y_test]
    accuracy = model.score(rows.X_test, rows.y_test)
    calibration_error = expected_calibration_error(rows.y_test, proba)
    return [model.coef_.shape[1], accuracy, (off**2).sum(axis=1).mean(), calibration_error, seconds]


def main() -> None:
    """Print a line for each table and map."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=SETS)
    parser.add_argument("--rows", type=int, default=4000, help="training rows at most")
    parser.add_argument("--noise", type=float, default=0.0, help="share of wrong training labels")
    parser.add_argument("--q", type=float, default=0.5)
    parser.add_argument("--lam", type=float, default=0.1)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| set | map | features | accuracy | Brier | ECE | fit, s |")
    print("|---|---|---|---|---|---|---|")
    for name in QUICK if options.quick else options.data:
        for feature_map in (None, *NAMED):
            measured = [judge(name, feature_map, seed, options) for seed in range(options.seeds)]
            features, accuracy, brier, error, seconds = np.mean(measured, axis=0)
            print(
                f"| {name} | {feature_map or 'none'} | {features:.0f} | {accuracy:.3f} | "
                f"{brier:.3f} | {error:.3f} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
