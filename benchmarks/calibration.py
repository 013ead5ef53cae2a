"""Calibration errors on rows held out, before and after temperature scaling.

    python benchmarks/calibration.py            # a minute
    python benchmarks/calibration.py --quick    # one set

Every classifier is fitted to 4,000 rows (of digits 1,198), which calibrate it too, in five folds.
ECE is that of the predicted class, SCE the mean over classes, both in 15 bins of one width.

MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
from typing import Any

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
    MGCEClassifier(q=0.5),
    MGCEClassifier(q=1.0),
)


def measured(model: Any, rows: Split) -> str:
    """Return both errors of a fitted model."""
    if not hasattr(model, "predict_proba"):
        return "none"
    proba = model.predict_proba(rows.X_test)
    errors = (expected_calibration_error, static_calibration_error)
    return " / ".join(f"{error(rows.y_test, proba):.4f}" for error in errors)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set")
    sets = SETS[:1] if parser.parse_args().quick else SETS
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


if __name__ == "__main__":
    main()
