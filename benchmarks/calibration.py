"""Calibration errors on rows held out, before and after temperature scaling.

    python benchmarks/calibration.py            # a minute
    python benchmarks/calibration.py --quick    # one set
    python benchmarks/calibration.py --noise    # wrong labels: two minutes

Every classifier is fitted to 4,000 rows (of digits 1,198), which calibrate it too, in five folds.
ECE is that of the predicted class, SCE the mean over classes, both in 15 bins of one width.

With --noise, labels to learn from are wrong by symmetric noise, temperatures are found without and
with its matrix, and all is judged on right labels.

MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from datasets import Split, split
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.calibration import PiecewiseTemperatureScaling, TemperatureScaling
from mgce_sklearn.metrics import expected_calibration_error, static_calibration_error

SETS = ("digits", "letter", "adult")
MODELS = (
    LogisticRegression(max_iter=2000),
    LinearSVC(),
    MGCEClassifier(q=0.5, lam=0.1),
    MGCEClassifier(q=1.0, lam=0.1),
)
RATES = (0.2, 0.4)
NOISY_MODELS = (
    LogisticRegression(max_iter=2000),
    MGCEClassifier(lam=0.1),
    MGCEClassifier(q=1.0, lam=0.1),
)


def measured(model: Any, rows: Split) -> str:
    """Return both errors of a fitted model."""
    if not hasattr(model, "predict_proba"):
        return "none"
    proba = model.predict_proba(rows.X_test)
    errors = (expected_calibration_error, static_calibration_error)
    return " / ".join(f"{error(rows.y_test, proba):.4f}" for error in errors)


def compare_noise(sets: Sequence[str]) -> None:
    """Print ECE and Brier score on right labels, without and with the noise matrix."""
    columns = ("data", "noise", "model", "accuracy", "ECE, Brier", "T", "with T", "T knowing",
               "with it", "by confidence, knowing")  # fmt: skip
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for name, noise, model in product(sets, RATES, NOISY_MODELS):
        rows = split(name, n_train=4000, noise=noise, seed=0)
        one = TemperatureScaling(model).fit(rows.X, rows.y)
        knowing, pieces = (
            scaling(model, noise_matrix=noise).fit(rows.X, rows.y)
            for scaling in (TemperatureScaling, PiecewiseTemperatureScaling)
        )
        accuracy = f"{one.score(rows.X_test, rows.y_test):.3f}"
        cells = [name, noise, model, accuracy, judged(one.estimator_, rows)]
        for scaled in (one, knowing):
            cells += [f"{scaled.temperature_:.2f}", judged(scaled, rows)]
        print("| " + " | ".join(map(str, [*cells, judged(pieces, rows)])) + " |", flush=True)


def judged(model: Any, rows: Split) -> str:
    """Return calibration error and Brier score of a fitted model on right labels."""
    proba = model.predict_proba(rows.X_test)
    brier = ((proba - np.eye(proba.shape[1])[rows.y_test]) ** 2).sum(axis=1).mean()
    return f"{expected_calibration_error(rows.y_test, proba):.3f}, {brier:.3f}"


def compare(sets: Sequence[str]) -> None:
    """Print calibration errors before and after scaling."""
    print("| data | model | accuracy | ECE / SCE | T | with one T | with a T by confidence |")
    print("|---" * 7 + "|")
    for name in sets:
        rows = split(name, n_train=4000, noise=0.0, seed=0)
        for model in MODELS:
            plain, one, pieces = (
                each.fit(rows.X, rows.y)
                for each in (model, TemperatureScaling(model), PiecewiseTemperatureScaling(model))
            )
            accuracy = plain.score(rows.X_test, rows.y_test)
            cells = [name, model, f"{accuracy:.3f}", measured(plain, rows)]
            cells += [f"{one.temperature_:.2f}", measured(one, rows), measured(pieces, rows)]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set")
    parser.add_argument("--noise", action="store_true", help="wrong labels")
    options = parser.parse_args()
    sets = SETS[:1] if options.quick else SETS
    (compare_noise if options.noise else compare)(sets)


if __name__ == "__main__":
    main()
