"""One fold of a search: every pair of q and lam, fitted to its training rows and scored."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial, update_wrapper
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import FitFailedWarning

from mgce_sklearn import validation
from mgce_sklearn.callbacks import WRAPPERS
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.cv_results import Scores
from mgce_sklearn.feature_maps import KeptFeatures, rows_of
from mgce_sklearn.path import (
    PathPoint,
    estimates,
    solve_path,
    widest_first,
)
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import Status, Watch
from mgce_sklearn.solvers.settings import Settings
from mgce_sklearn.targets import Distributions

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]
Labeling = Array | Distributions

# Methods of a classifier that scorers call.
PREDICTIONS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


class Trial(NamedTuple):
    """The scores of one fit in one fold, and its errors."""

    scores: Scores
    fit_error: str = ""
    score_error: str = ""


NOT_REACHED = Trial(Scores(np.nan, reached=0.0))


class Scoring(NamedTuple):
    """The scorer on the test rows of a fold, and the score of a failure."""

    score: Callable[[MGCEClassifier], Any]
    error_score: Any

    def scored(self, fitted: MGCEClassifier, point: PathPoint) -> Trial:
        """Return the trial of a fit."""
        score, error = self.error_score, ""
        begin = time.perf_counter()
        try:
            score = self.score(fitted)
        except Exception as raised:
            error = self.in_words(raised)
        seconds = time.perf_counter() - begin
        if not isinstance(score, Real):
            raise TypeError(f"scoring must return a number; got {score!r}.")
        numbers = (score, point.seconds, seconds, fitted.minimax_risk_, point.converged)
        return Trial(Scores(*numbers), score_error=error)

    def failed(self, error: Exception) -> Trial:
        """Return the trial of a fit that raised an error."""
        return Trial(Scores(self.error_score), fit_error=self.in_words(error))

    def in_words(self, error: Exception) -> str:
        """Return an error as text, or raise it if ``error_score`` is "raise"."""
        if isinstance(self.error_score, str):
            raise error
        return f"{type(error).__name__}: {error}"


class Fold(NamedTuple):
    """The training rows of a fold, and a classifier that has read them.

    The classifiers of all pairs are copies of this one, the pattern.
    """

    pattern: MGCEClassifier
    problem: Problem
    certify: bool
    watch: Watch

    @classmethod
    def read(cls, classifier: MGCEClassifier, certify: bool, watch: Watch, *rows: Any) -> Fold:
        """Fit the feature map, if there is one, and prepare the rows for every q and lam."""
        X, y, sample_weight, base_margin = rows
        X, y = classifier._read(X, y, reset=True)
        problem = classifier._problem(X, y, sample_weight, classifier.fit_intercept, base_margin)
        return cls(classifier, problem, certify, watch)

    def to_predict(self, X: Any) -> Fold:
        """Return the fold with the features of the rows X computed once for all classifiers."""
        pattern = copy(self.pattern)
        if pattern.feature_map is not None:
            pattern.feature_map_ = KeptFeatures(pattern.feature_map_, X)
        return self._replace(pattern=pattern)

    def fits(
        self, q: float, lams: Array
    ) -> Iterator[tuple[int, tuple[MGCEClassifier, PathPoint] | Exception]]:
        """Yield positions in ``lams``, each with its fit or its error, until time is up.

        After an error a new path begins with the remaining lams.
        """
        left = widest_first(lams)
        while len(left) and not self.watch.out_of_time():
            try:
                for point in self._points(q, lams[left]):
                    if point.result.status is Status.STOPPED:
                        return
                    fitted = copy(self.pattern).set_params(q=q, lam=point.lam)
                    yield int(left[0]), (fitted._adopt(self.problem, point), point)
                    left = left[1:]
            except Exception as error:
                yield int(left[0]), error
                left = left[1:]

    def _points(self, q: float, lams: Array) -> Iterator[PathPoint]:
        if self.certify:
            settings = Settings.of(
                self.pattern, partial(validation.seed_of, self.pattern.random_state)
            )
            return solve_path(self.problem, q, lams, settings, watch=self.watch)
        return estimates(self.problem, q, lams, self.watch)


def score_fold(
    classifier: MGCEClassifier,
    certify: bool,
    watch: Watch,
    qs: Array,
    lams: Array,
    train: Array,
    test: Array,
    X: Any,
    y: Labeling,
    sample_weight: Array | None,
    base_margin: Array | None,
    scorer: Any,
    score_params: Params,
    error_score: Any,
) -> list[Trial]:
    """Fit the training rows of a fold for every q and lam, and score on its test rows."""
    n_trials = len(qs) * len(lams)
    if watch.out_of_time():
        return [NOT_REACHED] * n_trials
    weights = None if sample_weight is None else sample_weight[train]
    base, base_test = _of_classes(base_margin, y, train, test)
    rows = rows_of(X, train), y[train], weights, base
    X_test, y_test, params = rows_of(X, test), y[test], _rows_of(score_params, test, len(y))

    def score(fitted: MGCEClassifier) -> Any:
        return scorer(with_base_margin(fitted, base_test), X_test, y_test, **params)

    scoring = Scoring(score, error_score)
    try:
        fold = Fold.read(classifier, certify, watch, *rows)
    except Exception as error:
        return [scoring.failed(error)] * n_trials
    fold = fold.to_predict(X_test)
    return [trial for q in qs for trial in _score_path(fold, float(q), lams, scoring)]


def _of_classes(base_margin: Array | None, y: Labeling, *parts: Array) -> list[Array | None]:
    """Return the base margins of parts of the rows, for the classes of the first part."""
    if base_margin is None:
        return [None for _ in parts]
    if isinstance(y, Distributions):  # every column is a class
        return [base_margin[part] for part in parts]
    known = np.searchsorted(np.unique(y), np.unique(y[parts[0]]))
    return [base_margin[part][:, known] for part in parts]


def with_base_margin(fitted: MGCEClassifier, base_margin: Any) -> MGCEClassifier:
    """Return a classifier that uses these base margins in every prediction.

    Scorers pass only the rows.
    """
    if base_margin is None:
        return fitted
    given = copy(fitted)
    for name in PREDICTIONS:
        method = getattr(fitted, name)
        setattr(given, name, update_wrapper(partial(method, base_margin=base_margin), method))
    return given


def _score_path(fold: Fold, q: float, lams: Array, scoring: Scoring) -> list[Trial]:
    trials = {
        j: scoring.failed(fit) if isinstance(fit, Exception) else scoring.scored(*fit)
        for j, fit in fold.fits(q, lams)
    }
    return [trials.get(j, NOT_REACHED) for j in range(len(lams))]


def _rows_of(params: Params, rows: Array, n_rows: int) -> Params:
    """Return the parameters; those with one entry per row are restricted to the given rows."""
    return {
        name: np.asarray(value)[rows] if np.shape(value)[:1] == (n_rows,) else value
        for name, value in params.items()
    }


def tell_failures(trials: list[Trial], error_score: Any) -> None:
    """Warn of failed fits and scores. Raise ValueError if all fits failed, or none was made."""
    trials = [trial for trial in trials if trial.scores.reached]
    if not trials:
        raise ValueError(
            "max_time must suffice for a score; the time ended, or a callback stopped the search, "
            "before the first score. Allow more time, or give fewer rows."
        )
    for what, category, errors in (
        ("fits", FitFailedWarning, [trial.fit_error for trial in trials if trial.fit_error]),
        ("scores", UserWarning, [trial.score_error for trial in trials if trial.score_error]),
    ):
        if what == "fits" and len(errors) == len(trials):
            raise ValueError(f"All {len(trials)} fits failed, the first with {errors[0]}")
        if errors:
            warnings.warn(
                f"{len(errors)} of {len(trials)} {what} failed and count as {error_score}; "
                f"error_score='raise' raises the error. The first with {errors[0]}",
                category,
                stacklevel=5 + WRAPPERS,
            )
