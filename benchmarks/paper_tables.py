r"""The papers' table of multi-layer perceptrons under label noise, ours beside theirs.

    python benchmarks/paper_tables.py --quick    # under a minute, nothing kept
    python benchmarks/paper_tables.py --data DIR --datasets letter adult covtype mnist \
        --methods MGCE GCE CE MAE GenCE --noise 0 0.2 0.4 --seeds 0 1 2

One hidden layer of 1024 units; SGD with learning rate 0.001 and momentum 0.9 on mini-batches of
128 for 150 epochs, the gradient's norm clipped at 5, an L1 weight lam; 10% of the training rows
for validation; symmetric noise on the labels of both, clean labels to test on. MGCE and GCE take
the q = 1/beta of best validation accuracy, for each seed. Every run is a row of the CSV file as
soon as it ends, and a row that is there is not trained again: start the same command to go on.

The test rows are the same in all repetitions: the last ones, where a split was published. So it
seems to have been done there, since the deviations are far below those of a share of so few rows.
Columns of zeros and ones stay as they are, others are standardized. ``letter_lt`` is letter with
long-tailed classes, the first 100 times as frequent as the last, and as many test rows of each.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Split, long_tailed
from runs import Run, Trained, carry_out, classifier, common_parser, settle_process, settled
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from mgce_sklearn.label_noise import symmetric_noise

Array = np.ndarray[Any, Any]

HIDDEN_UNITS = 1024
LEARNING_RATE = 0.001
COVTYPE_ROWS = 110_000
TEST_ROWS = {"letter": 4000, "adult": 16_281, "covtype": COVTYPE_ROWS // 5, "mnist": 10_000}
SETS = (*TEST_ROWS, "letter_lt")
LONG_TAILED = ("letter_lt",)
QUICK = {
    "datasets": ["letter", "letter_lt"],
    "noise": [0.4],
    "seeds": [0],
    "epochs": 2,
    "betas": [1.0, 2.0, 11.0],
}


def rows_of(name: str) -> Split:
    """Return a set with its features scaled, the same test rows every time."""
    if name in LONG_TAILED:
        return long_tailed(rows_of(name.removesuffix("_lt")))
    X, labels = datasets.images(name) if name == "mnist" else datasets.LOADERS[name]()
    y = np.unique(labels, return_inverse=True)[1]
    if name == "covtype":
        order = np.random.default_rng(0).permutation(len(y))[:COVTYPE_ROWS]
        X, y = X[order], y[order]
    n_train = len(y) - TEST_ROWS[name]
    if name == "mnist":
        X = (X.reshape(len(X), -1) / 255.0).astype(np.float32)
    else:
        X = scaled(X, n_train)
    return Split(X[:n_train], y[:n_train], X[n_train:], y[n_train:])


def scaled(X: Array, n_train: int) -> Array:
    """Standardize columns by their first rows, but leave those of zeros and ones."""
    X = X.astype(np.float64)
    numbers = ~((X == 0.0) | (X == 1.0)).all(axis=0)
    scaler = StandardScaler().fit(X[:n_train, numbers])
    X[:, numbers] = scaler.transform(X[:, numbers])
    return X.astype(np.float32)


def train(run: Run) -> Trained:
    """Make labels wrong, set a tenth of the rows aside, and train a network on one thread."""
    settle_process()
    rows = rows_of(run.data)
    noisy = symmetric_noise(rows.y, run.noise, random_state=run.seed)
    X, X_valid, y, y_valid = train_test_split(rows.X, noisy, test_size=0.1, random_state=run.seed)
    network = classifier(run, perceptron, lr=LEARNING_RATE)
    started = time.perf_counter()
    network.fit(X, y)
    seconds = time.perf_counter() - started
    return Trained(network, (X_valid, y_valid), (rows.X_test, rows.y_test), seconds)


def perceptron(n_features: int, n_classes: int) -> nn.Module:
    """Return a network with one hidden layer."""
    return nn.Sequential(
        nn.Linear(n_features, HIDDEN_UNITS), nn.ReLU(), nn.Linear(HIDDEN_UNITS, n_classes)
    )


def main() -> None:
    """Train what is not on record, and print the table."""
    parser = common_parser(__doc__, SETS, Path("benchmarks/results/paper_tables.csv"))
    options = settled(parser.parse_args(), **QUICK)
    carry_out(options, train, calibrated=LONG_TAILED)


if __name__ == "__main__":
    main()
