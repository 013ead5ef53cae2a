"""How well the noise of labels is estimated from held-out probabilities.

    python benchmarks/label_noise.py            # six minutes
    python benchmarks/label_noise.py --quick    # one set

Up to 3,000 rows, some of whose labels are made wrong; probabilities are those of five folds.
"share" is that of wrong labels. `symmetric_rate` is to equal it where noise is symmetric. Of
`estimated_transition` (extra noise), "off" is the mean over classes of the share of labels that it
calls wrong, and "largest error" that of its entry which is furthest from the true matrix. At the
end the errors of all sets, mean and largest. A rate with a question mark came with the warning that
labels do not tell it; it counts in the last column alone.

MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
from datasets import split
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.label_noise import (
    estimated_transition,
    matrix_noise,
    pair_flip_transition,
    symmetric_rate,
    symmetric_transition,
)

Array = np.ndarray[Any, Any]

SETS = (
    "digits", "letter", "pendigits", "adult", "spambase", "waveform", "breast_cancer", "wine"
)  # fmt: skip
MODELS = {
    "forest": RandomForestClassifier(min_samples_leaf=3, random_state=0),
    "logistic": LogisticRegression(max_iter=2000),
    "MGCE, q = 0.5": MGCEClassifier(lam=0.1),
    "MGCE, q = 1": MGCEClassifier(q=1.0, lam=0.1),
}
NOISES = {
    "none": lambda n_classes: np.eye(n_classes),
    "symmetric .2": lambda n_classes: symmetric_transition(n_classes, 0.2),
    "symmetric .4": lambda n_classes: symmetric_transition(n_classes, 0.4),
    "pair .3": lambda n_classes: pair_flip_transition(n_classes, 0.3),
}


def estimates(proba: Array, y: Array, transition: Array) -> tuple[float, bool, float, float]:
    """Return the rate, whether it is in doubt, and the matrix's share and largest error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rate = symmetric_rate(proba, y)
    estimate = estimated_transition(proba, y)
    return rate, bool(caught), 1.0 - np.diag(estimate).mean(), abs(estimate - transition).max()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set")
    sets = SETS[:1] if parser.parse_args().quick else SETS
    found = defaultdict(list)
    print("| data | noise | share | model | symmetric_rate | off | largest error |")
    print("|---" * 7 + "|")
    for name in sets:
        rows = split(name, n_train=3000, noise=0.0, seed=0)
        for noise, transition_of in NOISES.items():
            transition = transition_of(1 + rows.y.max())
            y = matrix_noise(rows.y, transition, random_state=0)
            share = np.mean(y != rows.y)
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            for label, model in MODELS.items():
                proba = cross_val_predict(model, rows.X, y, cv=folds, method="predict_proba")
                rate, doubt, off, largest = estimates(proba, y, transition)
                error = np.nan if doubt else abs(rate - share)
                found[label, noise].append([error, abs(off - share), largest])
                cells = [name, noise, f"{share:.3f}", label]
                cells += [f"{rate:.3f}{' ?' if doubt else ''}", f"{off:.3f}", f"{largest:.2f}"]
                print("| " + " | ".join(cells) + " |", flush=True)
    print("\n| model | noise | symmetric_rate | off | entries of the matrix | in doubt |")
    print("|---" * 6 + "|")
    for (label, noise), numbers in found.items():
        means, most = np.nanmean(numbers, axis=0), np.nanmax(numbers, axis=0)
        cells = [f"{mean:.3f} / {top:.3f}" for mean, top in zip(means, most, strict=True)]
        doubts = f"{np.isnan(numbers).any(axis=1).sum()} of {len(numbers)}"
        print("| " + " | ".join([label, noise, *cells, doubts]) + " |")


if __name__ == "__main__":
    main()
