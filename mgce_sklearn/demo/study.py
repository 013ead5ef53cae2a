"""What is done with a sample: fits, searches, and measurements on the rows held out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from mgce_sklearn.assessment import Assessment
from mgce_sklearn.bounds import RULES, ErrorBounds
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.commands import gathered_warnings
from mgce_sklearn.demo.sample import Sample
from mgce_sklearn.search import MGCEClassifierCV

Array = np.ndarray[Any, Any]

QS = (0.0, 0.3, 0.5, 0.7, 1.0)
LAMS = (0.03, 0.1, 0.3, 1.0)
PATH_LAMS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CS = (0.001, 0.01, 0.1, 1.0, 10.0)
N_FOLDS = 3


@dataclass(frozen=True)
class Choice(Assessment):
    """A model and how it does on held-out rows.

    Attributes
    ----------
    choice : str
        How its parameters were chosen, "default" or "searched".
    """

    choice: str

    @property
    def name(self) -> str:
        """The classifier with the parameters that a search chooses."""
        shown = [name for name in ("C", "q", "lam") if hasattr(self.classifier, name)]
        values = ", ".join(f"{name}={getattr(self.classifier, name):g}" for name in shown)
        return f"{type(self.classifier).__name__}({values})"


def assess(choice: str, classifier: Any, sample: Sample) -> Choice:
    """Fit to the training rows, and measure on the rows held out."""
    model = make_pipeline(clone(sample.preprocessing), classifier)
    start = time.perf_counter()
    model.fit(sample.X_train, sample.y_train)
    seconds = time.perf_counter() - start
    is_label = sample.y_test[:, np.newaxis] == model.classes_
    return Choice(model, model.predict_proba(sample.X_test), is_label, seconds, choice)


def error_bounds(assessment: Choice, sample: Sample) -> list[ErrorBounds]:
    """Return the bounds of both rules for the rows learned from."""
    rows = assessment.model[:-1].transform(sample.X_train)
    return [assessment.classifier.error_bounds(rows, rule) for rule in RULES]


def search(classifier: Any, grid: dict[str, Sequence[float]], sample: Sample) -> GridSearchCV:
    """Cross-validate the accuracy of a classifier over a grid of its parameters."""
    pipeline = Pipeline([("columns", clone(sample.preprocessing)), ("model", classifier)])
    prefixed = {f"model__{name}": values for name, values in grid.items()}
    found = GridSearchCV(pipeline, prefixed, cv=N_FOLDS, refit=False)
    return found.fit(sample.X_train, sample.y_train)


def best(found: GridSearchCV) -> dict[str, float]:
    """Return the parameters of highest cross-validated accuracy."""
    return {name.removeprefix("model__"): value for name, value in found.best_params_.items()}


def logistic_regression(sample: Sample) -> Choice:
    """Assess logistic regression at the C that the same kind of search prefers."""
    model = LogisticRegression(max_iter=2000)
    c = best(search(model, {"C": CS}, sample))["C"]
    return assess("searched", model.set_params(C=c), sample)


@dataclass(frozen=True)
class Search:
    """Cross-validated accuracy over q × lam.

    Attributes
    ----------
    qs, lams : tuple of float
    accuracy : ndarray of shape (len(qs), len(lams))
    q, lam : float
        Where it is highest.
    seconds : float
    """

    qs: tuple[float, ...]
    lams: tuple[float, ...]
    accuracy: Array
    q: float
    lam: float
    seconds: float


def search_q_and_lam(sample: Sample) -> Search:
    """Run the library's own search over the two parameters that matter."""
    start = time.perf_counter()
    found = MGCEClassifierCV(
        QS, LAMS, cv=N_FOLDS, feature_map=clone(sample.preprocessing), refit=False
    )
    found.fit(sample.X_train, sample.y_train)
    # Grids are run through in the order of names, the last name fastest.
    accuracy = found.cv_results_["mean_test_score"].reshape(len(LAMS), len(QS)).T
    seconds = time.perf_counter() - start
    return Search(QS, LAMS, accuracy, found.q_, found.lam_, seconds)


def path_over_lam(sample: Sample) -> list[Pipeline]:
    """Return models fitted over a range of half-widths, at the default q."""
    models = [
        make_pipeline(clone(sample.preprocessing), MGCEClassifier(lam=lam)) for lam in PATH_LAMS
    ]
    return [model.fit(sample.X_train, sample.y_train) for model in models]


def warm_up() -> float:
    """Fit toy problems, so that no measured fit waits for a kernel; return the seconds."""
    start = time.perf_counter()
    X, y = load_iris(return_X_y=True)
    for rows in (y < 2, y < 3):
        for q in QS:
            model = MGCEClassifier(q=q).fit(X[rows], y[rows])
            model.predict_proba(X)
            model.error_bounds(X[rows])
    return time.perf_counter() - start


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Print each kind of warning once, as a note, in place of a line per occurrence."""
    with gathered_warnings() as notes:
        yield
    for note in notes:
        print(f"note: {note}")
