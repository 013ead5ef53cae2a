"""Tables whose training and validation labels are partly wrong, and clean rows to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from scipy.optimize import brentq
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mgce_sklearn.commands import UserMistake
from mgce_sklearn.label_noise import (
    matrix_noise,
    pair_flip_transition,
    symmetric_transition,
    votes,
)
from mgce_sklearn.report.table import read_table

Array = np.ndarray[Any, Any]

MOST_ROWS, MOST_TEST_ROWS = 3_000, 5_000
VALIDATION = 0.25
# Rarer classes would have next to no rows to learn from, and none to choose by.
LEAST_SHARE = 0.01
SETS = (
    "adult", "letter", "covtype", "a9a", "labelme", "spambase", "pendigits", "phoneme",
    "waveform", "page_blocks", "nursery", "krkopt", "magic", "splice", "churn", "digits",
    "breast_cancer",
)  # fmt: skip
INSTANCE_RATE = 0.3
LABELS = ("clean", "symmetric .2", "symmetric .4", "pair .3", "instance .3")


@dataclass(frozen=True)
class Table:
    """Training, validation and test rows of one table, with labels 0 to K - 1.

    Attributes
    ----------
    columns : tuple of three arrays
        Columns as they come, codes as numbers: what trees see.
    X : tuple of three arrays
        Codes as indicators, all standardized on the training rows: what linear models see.
    y : tuple of three arrays
        Labels; those of test rows are clean.
    transition : ndarray of shape (K, K)
        Row k has the probabilities of the labels given where k is right.
    shares : ndarray of shape (n_train, K) or None
        Shares of annotators' votes, where there are annotators.
    """

    columns: tuple[Array, Array, Array]
    X: tuple[Array, Array, Array]
    y: tuple[Array, Array, Array]
    transition: Array
    shares: Array | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes K."""
        return len(self.transition)


def labels_of(name: str) -> tuple[str, ...]:
    """Return the kinds of labels that a set comes with."""
    return ("crowd",) if name == "labelme" else LABELS


def table(name: str, labels: str, seed: int) -> Table:
    """Return a random split of a set with labels of a kind."""
    if name == "labelme":
        return _crowd(seed)
    return split(*datasets.columns(name), labels, seed)


def split(X: Array, y: Array, codes: Array, labels: str, seed: int) -> Table:
    """Split rows whose columns ``codes`` (a mask) are codes, and make labels wrong."""
    y, kept = _frequent(y)
    X = X[kept]
    n_learned = min(MOST_ROWS, 2 * len(y) // 3)
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=n_learned, test_size=min(MOST_TEST_ROWS, len(y) - n_learned),
        stratify=y, random_state=seed,
    )  # fmt: skip
    given, transition = wrong(X, y, labels, seed)
    X, X_valid, given, given_valid = train_test_split(
        X, given, test_size=VALIDATION, stratify=given, random_state=seed
    )
    columns = (X, X_valid, X_test)
    return Table(columns, encoded(columns, codes), (given, given_valid, y_test), transition)


def _frequent(y: Array) -> tuple[Array, Array]:
    """Return labels 0 to K - 1 of the rows whose class is not too rare, and the mask of these."""
    _, positions, counts = np.unique(y, return_inverse=True, return_counts=True)
    kept = counts[positions] >= LEAST_SHARE * len(y)
    return np.unique(positions[kept], return_inverse=True)[1], kept


def encoded(columns: tuple[Array, Array, Array], codes: Array) -> tuple[Array, Array, Array]:
    """Return columns with codes as indicators, standardized by the first rows."""
    indicators = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transform = make_column_transformer((indicators, codes), remainder="passthrough")
    scaler = StandardScaler()
    train = scaler.fit_transform(transform.fit_transform(columns[0]).astype(np.float64))
    rest = [scaler.transform(transform.transform(part).astype(np.float64)) for part in columns[1:]]
    return train, rest[0], rest[1]


def wrong(X: Array, y: Array, labels: str, seed: int) -> tuple[Array, Array]:
    """Return labels of a kind, and the matrix of the probabilities with which they get wrong."""
    n_classes = y.max() + 1
    kind, _, rate = labels.partition(" ")
    if kind == "instance":
        given = runner_up_noise(X, y, float(rate), seed)
        return given, observed_transition(y, given, n_classes)
    if kind == "clean":
        return y, np.eye(n_classes)
    matrices = {"symmetric": symmetric_transition, "pair": pair_flip_transition}
    transition = matrices[kind](n_classes, float(rate))
    return matrix_noise(y, transition, random_state=seed), transition


def runner_up_noise(X: Array, y: Array, rate: float, seed: int) -> Array:
    """Flip labels to the wrong class that a forest likes best, most where it is in doubt.

    The probability of a flip is proportional to 1 - (p_y - p_runner-up), p from trees that have
    not seen the row, with a vote more for every class, and ``rate`` on average.
    """
    forest = RandomForestClassifier(200, oob_score=True, random_state=seed).fit(X, y)
    votes_of = 200.0 * forest.oob_decision_function_ + 1.0
    proba = votes_of / votes_of.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    own = proba[rows, y]
    others = proba.copy()
    others[rows, y] = -1.0
    doubt = 1.0 - (own - others.max(axis=1))
    factor = brentq(lambda c: np.minimum(c * doubt, 1.0).mean() - rate, 0.0, 1e6)
    flipped = np.random.default_rng(seed).random(len(y)) < factor * doubt
    return np.where(flipped, others.argmax(axis=1), y)


def observed_transition(y: Array, given: Array, n_classes: int) -> Array:
    """Return how often each class was given each label."""
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (y, given), 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


def _crowd(seed: int) -> Table:
    """LabelMe: the majority of annotators' answers, ties drawn; validation rows of the crowd's."""
    arrays = datasets.labelme()
    shares = votes(arrays["answers"], missing=-1)
    ties = np.random.default_rng(seed).random(shares.shape)
    majority = (shares + 1e-6 * ties).argmax(axis=1)
    truth = arrays["y_train"].astype(int)
    parts = train_test_split(
        arrays["X_train"], majority, shares, test_size=VALIDATION, stratify=majority,
        random_state=seed,
    )  # fmt: skip
    X, X_valid, given, given_valid, shares, _ = parts
    columns = datasets.components(X, X_valid, arrays["X_test"])
    return Table(
        columns,
        encoded(columns, np.zeros(columns[0].shape[1], dtype=bool)),
        (given, given_valid, arrays["y_test"].astype(int)),
        observed_transition(truth, majority, 8),
        shares,
    )


def from_csv(path: Path, target: str | None) -> tuple[Array, Array, Array]:
    """Return columns, labels and which columns are codes, of a table in a file.

    Gaps in numbers are filled with medians, and have a column that says so; text is codes.
    """
    try:
        table = read_table(path, target)
    except UserMistake as mistake:
        raise SystemExit(str(mistake)) from None
    print(*table.notes, sep="\n")
    frame, labels = table.features, table.labels
    codes = np.array([kind.kind not in "iuf" for kind in frame.dtypes])
    columns = [
        pd.factorize(column, use_na_sentinel=False)[0] if code else column.fillna(column.median())
        for (_, column), code in zip(frame.items(), codes, strict=True)
    ]
    gaps = [column.isna() for _, column in frame.loc[:, ~codes].items() if column.hasnans]
    codes = np.append(codes, np.zeros(len(gaps), dtype=bool))
    return np.column_stack([*columns, *gaps]).astype(np.float64), labels.to_numpy(), codes
