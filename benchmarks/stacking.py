"""What a minimax correction makes of its base, with right labels and with wrong ones.

    python benchmarks/stacking.py            # some minutes
    python benchmarks/stacking.py --quick    # one set, one seed, no choice
    python benchmarks/stacking.py --base forest --leaf 10 --plain    # other forests, no choice

A base is fitted to 2,500 rows (digits: 1,198), a share of whose labels is replaced by others, and
judged on right ones, beside `MGCEStackingClassifier` around it. "corrected" has q = lam = scale =
1; "chosen" chooses all three by accuracy on wrong labels. Nobody is told the share. Means over
seeds; at the end over sets. Brier scores sum over classes; the ECE is of the predicted class.

MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from datasets import Split, split
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning

from mgce_sklearn import MGCEStackingClassifier
from mgce_sklearn.metrics import expected_calibration_error

Array = np.ndarray[Any, Any]

SETS = ("digits", "letter", "magic", "spambase", "nursery", "waveform")
SHARES = (0.0, 0.2, 0.4)
N_TRAIN = 2500
GRID = {"q": (0.0, 0.5, 1.0), "lam": (1.0, 3.0, 10.0), "scale": (0.5, 1.0, 2.0)}


def bases(leaf: int) -> dict[str, Any]:
    """Return the classifiers to correct."""
    return {
        "forest": RandomForestClassifier(100, min_samples_leaf=leaf, random_state=0),
        "boosting": HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0),
    }


def models(base: Any, chosen: bool) -> dict[str, Any]:
    """Return a base, and what is made of it."""
    found = {"alone": base, "corrected": MGCEStackingClassifier(base, lam=1.0, tol=1e-3)}
    if chosen:
        found["chosen"] = MGCEStackingClassifier(base, **GRID, tol=1e-3)
    return found


def measured(model: Any, rows: Split) -> tuple[float, float, float, float]:
    """Return accuracy, Brier score and ECE on the test rows, and the seconds of the fit."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows.X, rows.y)
    seconds = time.perf_counter() - begin
    proba = model.predict_proba(rows.X_test)
    one_hot = np.eye(proba.shape[1])[rows.y_test]
    accuracy = np.mean(model.classes_[proba.argmax(axis=1)] == rows.y_test)
    brier = ((proba - one_hot) ** 2).sum(axis=1).mean()
    return accuracy, brier, expected_calibration_error(rows.y_test, proba), seconds


def print_head(title: str) -> None:
    """Begin a table."""
    print(f"\n| {title} | accuracy | Brier | ECE | fit, s |")
    print("|---" * (5 + title.count("|")) + "|", flush=True)


def print_line(key: tuple[str, ...], numbers: list[Any]) -> None:
    """Print means over measurements."""
    accuracy, brier, ece, seconds = np.mean(numbers, axis=0)
    cells = f"{accuracy:.3f} | {brier:.3f} | {ece:.3f} | {seconds:.1f}"
    print(f"| {' | '.join(key)} | {cells} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set, one seed, no choice")
    parser.add_argument("--plain", action="store_true", help="no choice")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--leaf", type=int, default=5, help="min_samples_leaf of the forest")
    parser.add_argument("--base", choices=list(bases(1)), help="one of the bases alone")
    given = parser.parse_args()
    sets, seeds = (SETS[:1], 1) if given.quick else (SETS, given.seeds)
    chosen_bases = {k: v for k, v in bases(given.leaf).items() if given.base in (None, k)}
    over_sets: dict[tuple[str, ...], list[Any]] = {}
    print_head("set | wrong | base | model")
    for name in sets:
        for share in SHARES:
            splits = [split(name, N_TRAIN, share, seed) for seed in range(seeds)]
            for base, classifier in chosen_bases.items():
                for label, model in models(classifier, not (given.quick or given.plain)).items():
                    numbers = [measured(model, rows) for rows in splits]
                    print_line((name, f"{share:g}", base, label), numbers)
                    over_sets.setdefault((f"{share:g}", base, label), []).extend(numbers)
    print_head("wrong | base | model")
    for key, numbers in over_sets.items():
        print_line(key, numbers)


if __name__ == "__main__":
    main()
