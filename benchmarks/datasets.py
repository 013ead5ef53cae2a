"""Real classification data for the benchmarks, ready for a linear model.

Sets come through scikit-learn's own loaders, or from the folder that the environment variable
MGCE_DATA_DIR names, where it is set: files NAME.npz of plain arrays. ``labelme``, whose
training labels are those of human annotators, is there only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

Array = np.ndarray[Any, Any]

MOST_TEST_ROWS = 8000
IMBALANCE = 100.0


class Split(NamedTuple):
    """Rows to learn from, and rows with true labels 0 to K - 1 to judge by."""

    X: Any
    y: Array
    X_test: Any
    y_test: Array


def split(name: str, n_train: int, noise: float, seed: int) -> Split:
    """Return a random split of a set, with a share of the training labels made wrong.

    Parameters
    ----------
    name : str
        "labelme", or a name in `LOADERS`.
    n_train : int
        Training rows, at most two thirds of the set. ``labelme`` has a split of its own.
    noise : float
        Probability that a training label is replaced by one of the others.
    seed : int
    """
    rng = np.random.default_rng(seed)
    if name == "labelme":
        rows = _labelme(rng)
    else:
        X, labels = LOADERS[name]()
        y = np.unique(labels, return_inverse=True)[1]
        order = rng.permutation(len(y))
        n_train = min(n_train, 2 * len(y) // 3)
        train, test = order[:n_train], order[n_train : n_train + MOST_TEST_ROWS]
        rows = Split(X[train], y[train], X[test], y[test])
    n_classes = 1 + rows.y_test.max()
    wrong = rng.random(len(rows.y)) < noise
    shift = rng.integers(1, n_classes, len(rows.y))
    return _standardized(rows._replace(y=np.where(wrong, (rows.y + shift) % n_classes, rows.y)))


def long_tailed(rows: Split) -> Split:
    """Thin the training classes geometrically, and the test classes to the rarest's size.

    The first class is left `IMBALANCE` times as many rows as the last, which are the first of each.
    """
    counts = np.bincount(rows.y)
    share = IMBALANCE ** (-np.arange(len(counts)) / (len(counts) - 1))
    kept = first_of_each(rows.y, np.round(counts.min() * share).astype(int))
    tested = first_of_each(rows.y_test, np.full(len(counts), np.bincount(rows.y_test).min()))
    return Split(rows.X[kept], rows.y[kept], rows.X_test[tested], rows.y_test[tested])


def first_of_each(y: Array, counts: Array) -> Array:
    """Return the rows of the first so many of each class."""
    return np.sort(np.concatenate([np.flatnonzero(y == k)[:n] for k, n in enumerate(counts)]))


OPENML_IMAGES = {
    "mnist": ("mnist_784", (28, 28)),
    "fashion_mnist": ("Fashion-MNIST", (28, 28)),
    "cifar10": ("CIFAR_10", (3, 32, 32)),
}


def images(name: str) -> tuple[Array, Array]:
    """Return the images of a set in `OPENML_IMAGES`, bytes, the 10,000 for tests last."""
    arrays = _from_folder(name)
    if arrays is not None:
        return tuple(np.concatenate([arrays[f"{a}_train"], arrays[f"{a}_test"]]) for a in "Xy")
    title, shape = OPENML_IMAGES[name]
    X, y = datasets.fetch_openml(title, version=1, return_X_y=True, as_frame=False)
    return X.reshape(-1, *shape).astype(np.uint8), y


def news20() -> tuple[Any, Array, Array]:
    """Return counts of words in the bodies of 18,846 messages, groups, and which are for tests."""
    arrays = _from_folder("news20_counts")
    if arrays is None:
        parts = [
            datasets.fetch_20newsgroups(subset=part, remove=("headers",))
            for part in ("train", "test")
        ]
        texts = [text for part in parts for text in part.data]
        y = np.concatenate([part.target for part in parts])
        is_test = np.arange(len(y)) >= len(parts[0].data)
        return CountVectorizer(min_df=2).fit_transform(texts).astype(float), y, is_test
    counts = (
        arrays["data"].astype(float), arrays["indices"].astype(np.int32), arrays["indptr"]
    )  # fmt: skip
    X = sp.csr_matrix(counts, shape=tuple(arrays["shape"]))
    return X, arrays["y"], arrays["is_test"].astype(bool)


def _standardized(rows: Split) -> Split:
    scaler = StandardScaler(with_mean=not sp.issparse(rows.X)).fit(rows.X)
    return rows._replace(X=scaler.transform(rows.X), X_test=scaler.transform(rows.X_test))


def _from_folder(name: str) -> dict[str, Array] | None:
    folder = os.environ.get("MGCE_DATA_DIR")
    return dict(np.load(Path(folder, f"{name}.npz"))) if folder else None


def _adult() -> tuple[Array, Array]:
    numbers, categories, y = _adult_columns()
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(categories)
    return np.hstack([numbers, one_hot]), y


def _adult_columns() -> tuple[Array, Array, Array]:
    """Return numbers, codes and labels."""
    arrays = _from_folder("adult")
    if arrays is not None:
        return arrays["X_num"], arrays["X_cat"], arrays["y"]
    frame, y = datasets.fetch_openml("adult", version=2, return_X_y=True)
    categories = OrdinalEncoder().fit_transform(frame.select_dtypes(exclude="number").astype(str))
    return frame.select_dtypes("number").to_numpy(), categories, y


def _letter() -> tuple[Array, Array]:
    arrays = _from_folder("letter")
    if arrays is not None:
        return arrays["X"].astype(float), arrays["y"]
    return datasets.fetch_openml("letter", version=1, return_X_y=True, as_frame=False)


def _covtype() -> tuple[Array, Array]:
    arrays = _from_folder("covtype_190k")
    if arrays is None:
        return datasets.fetch_covtype(return_X_y=True)
    dummies = [np.eye(size)[arrays[name]] for name, size in (("wilderness", 4), ("soil", 40))]
    return np.hstack([arrays["X_num"], *dummies]), arrays["y"]


def _a9a() -> tuple[Any, Array]:
    arrays = _from_folder("a9a")
    if arrays is None:
        return datasets.fetch_openml("a9a", version=1, return_X_y=True, as_frame=False)
    parts = [
        sp.csr_matrix(
            (arrays[f"{part}_data"].astype(float),
             arrays[f"{part}_indices"].astype(np.int32), arrays[f"{part}_indptr"]),
            shape=(len(arrays[f"{part}_y"]), 123),
        )
        for part in ("train", "test")
    ]  # fmt: skip
    return sp.vstack(parts, format="csr"), np.hstack([arrays["train_y"], arrays["test_y"]])


def _digits() -> tuple[Array, Array]:
    return datasets.load_digits(return_X_y=True)


def _training_images(name: str) -> tuple[Array, Array]:
    """Return the 60,000 training images, a row each."""
    X, y = images(name)
    return X[:60_000].reshape(60_000, -1).astype(float), y[:60_000]


def _pmlb(name: str, title: str) -> tuple[Array, Array]:
    """Return a set of the Penn ML Benchmark, or the one of OpenML that comes nearest."""
    arrays = _from_folder("pmlb_ten")
    if arrays is not None:
        return arrays[f"{name}_X"].astype(float), arrays[f"{name}_y"]
    return datasets.fetch_openml(title, version=1, return_X_y=True, as_frame=False)


def _labelme(rng: np.random.Generator) -> Split:
    """Images of eight scenes, 64 principal components; labels by majority of annotators."""
    arrays = labelme()
    votes = (arrays["answers"][:, :, np.newaxis] == np.arange(8)).sum(axis=1)
    majority = (votes + 0.5 * rng.random(votes.shape)).argmax(axis=1)  # ties are drawn
    X, X_test = components(arrays["X_train"], arrays["X_test"])
    return Split(X, majority, X_test, arrays["y_test"])


def labelme() -> dict[str, Array]:
    """Return image features, annotators' answers and right labels."""
    arrays = _from_folder("labelme_crowd")
    if arrays is None:
        raise FileNotFoundError("labelme is in no public loader: set MGCE_DATA_DIR.")
    return arrays


def components(*parts: Array) -> tuple[Array, ...]:
    """Return 64 principal components of the first part, of all parts."""
    found = PCA(64, random_state=0).fit(parts[0])
    return tuple(found.transform(part).astype(float) for part in parts)


LOADERS = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "digits": _digits,
    "letter": _letter,
    "adult": _adult,
    "a9a": _a9a,
    "covtype": _covtype,
    "mnist": lambda: _training_images("mnist"),
    "fashion_mnist": lambda: _training_images("fashion_mnist"),
    "pendigits": lambda: _pmlb("pendigits", "pendigits"),
    "magic": lambda: _pmlb("magic", "MagicTelescope"),
    "spambase": lambda: _pmlb("spambase", "spambase"),
    "waveform": lambda: _pmlb("waveform_21", "waveform-5000"),
    "nursery": lambda: _pmlb("nursery", "nursery"),
    "phoneme": lambda: _pmlb("phoneme", "phoneme"),
    "page_blocks": lambda: _pmlb("page_blocks", "page-blocks"),
    "krkopt": lambda: _pmlb("krkopt", "kropt"),
    "splice": lambda: _pmlb("splice", "splice"),
    "churn": lambda: _pmlb("churn", "churn"),
}

# Columns that are codes; True stands for all.
CODES = {"nursery": True, "krkopt": True, "splice": True, "churn": [0, 2]}


def columns(name: str) -> tuple[Array, Array, Array]:
    """Return columns with codes as numbers, labels, and the mask of the columns that are codes."""
    if name == "adult":
        numbers, categories, y = _adult_columns()
        is_code = np.arange(numbers.shape[1] + categories.shape[1]) >= numbers.shape[1]
        return np.hstack([numbers, categories]).astype(float), y, is_code
    X, y = LOADERS[name]()
    X = X.toarray() if sp.issparse(X) else np.asarray(X)
    is_code = np.zeros(X.shape[1], dtype=bool)
    is_code[CODES.get(name, [])] = True
    return X, y, is_code
