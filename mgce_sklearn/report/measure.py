"""What is found of a table: models held against labels they have not seen, and what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEStackingClassifier
from mgce_sklearn.assessment import Assessment
from mgce_sklearn.bounds import RULES, ErrorBounds
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.commands import gathered_warnings
from mgce_sklearn.report.columns import names_out, preprocessing
from mgce_sklearn.report.table import Table

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
Say = Callable[[str], None]

SEED = 0

# Beyond so many rows there are fewer folds, all with the forest, q and lam that all rows chose, and
# the folds within a fit have processes of their own.
MANY_ROWS = 10_000
N_FOLDS = 5
N_FOLDS_OF_MANY = 3

# A label is doubtful to which the recipe gives less, out of fold.
DOUBT = 0.05

# Bounds that take longer are stopped: they are valid, and may be less tight.
BOUND_SECONDS = 30.0

# Differences of fewer standard errors are within chance.
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Bounded:
    """Bounds of a model's error over its uncertainty set, and the error on rows held out.

    Attributes
    ----------
    name : str
    lam : float
        Half-width of the set in standard errors.
    bounds : ErrorBounds
    held_out : float
        Error of the same rule on rows held out.
    """

    name: str
    lam: float
    bounds: ErrorBounds
    held_out: float


@dataclass(frozen=True)
class Coefficient:
    """A column's part in the linear model.

    Attributes
    ----------
    column : str
    favors, disfavors : str
        Classes whose margin it raises most, and lowers most, where its value is large.
    size : float
        Distance of the two coefficients.
    """

    column: str
    favors: str
    disfavors: str
    size: float


@dataclass(frozen=True)
class Doubt:
    """A row whose label is doubtful.

    Attributes
    ----------
    row : int
        Its number in the file, from 1.
    label, suggested : str
        The class given, and the most probable one.
    of_label, of_suggested : float
        Their probabilities out of fold, by the recipe.
    by_boosting : float
        The label's probability out of fold, by boosting.
    """

    row: int
    label: str
    suggested: str
    of_label: float
    of_suggested: float
    by_boosting: float


@dataclass(frozen=True)
class Findings:
    """All that a report is about.

    Attributes
    ----------
    table : Table
    many : bool
        Whether the rows are so many that less was done with each.
    recipe, linear, logistic, boosting : Assessment
    bounded : list of Bounded
    coefficients : list of Coefficient
        Those that are not 0, the largest first.
    n_coefficients : int
        Of all columns.
    doubts : list of Doubt
        The most doubtful first.
    remarks : list of str
        What fits warned of.
    seconds : float
    """

    table: Table
    many: bool
    recipe: Assessment
    linear: Assessment
    logistic: Assessment
    boosting: Assessment
    bounded: list[Bounded]
    coefficients: list[Coefficient]
    n_coefficients: int
    doubts: list[Doubt]
    remarks: list[str]
    seconds: float

    @property
    def n_folds(self) -> int:
        """Into how many parts rows were split."""
        return N_FOLDS_OF_MANY if self.many else N_FOLDS

    @property
    def most_frequent(self) -> Array:
        """Whether the label is the most frequent class, by row."""
        is_label = self.recipe.is_label
        return is_label[:, is_label.sum(axis=0).argmax()]

    @property
    def learns(self) -> bool:
        """Whether the recipe is more accurate than the most frequent class."""
        return compared(self.recipe.right, self.most_frequent) > 0

    @property
    def assessments(self) -> list[Assessment]:
        """All models, the recipe first."""
        return [self.recipe, self.linear, self.logistic, self.boosting]


def investigate(table: Table, say: Say) -> Findings:
    """Fit the models, hold every row out once, and look at what they say of the rows."""
    start = time.perf_counter()
    many = len(table.labels) > MANY_ROWS
    columns = preprocessing(table.features)
    # One thread for everybody: the times compare, and threads lose much where cores are busy.
    with gathered_warnings() as remarks, threadpool_limits(limits=1):
        recipe, linear, logistic, boosting = (
            assess(make_pipeline(clone(columns), classifier), table, many, say)
            for classifier in (
                MGCEStackingClassifier(
                    keep_base_margin=True, random_state=SEED, n_jobs=-1 if many else None
                ),
                MGCEClassifier(),
                LogisticRegression(max_iter=2000),
                HistGradientBoostingClassifier(random_state=SEED),
            )
        )
        bounded = [found for each in (recipe, linear) for found in bounds_of(each, table, say)]
    coefficients = coefficients_of(linear.model)
    return Findings(
        table=table,
        many=many,
        recipe=recipe,
        linear=linear,
        logistic=logistic,
        boosting=boosting,
        bounded=bounded,
        coefficients=[each for each in coefficients if each.size > 0.0],
        n_coefficients=len(coefficients),
        doubts=doubts_of(recipe, boosting, table.labels),
        remarks=remarks,
        seconds=time.perf_counter() - start,
    )


def assess(model: Pipeline, table: Table, many: bool, say: Say) -> Assessment:
    """Fit a model to all rows, and to all but each of the folds in turn."""
    n_folds = N_FOLDS_OF_MANY if many else N_FOLDS
    name, X, y = type(model[-1]).__name__, table.features, table.labels.to_numpy()
    say(f"{name}: fit to all {len(y)} rows")
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    proba = np.empty((len(y), len(model.classes_)))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=SEED)
    for i, (rest, held_out) in enumerate(folds.split(X, y), 1):
        say(f"{name}: rows held out, fold {i} of {n_folds}")
        # Classes have more rows than there are folds: all of them are in the rest.
        fold_model = (settled if many else clone)(model).fit(X.iloc[rest], y[rest])
        proba[held_out] = fold_model.predict_proba(X.iloc[held_out])
    return Assessment(model, proba, y[:, np.newaxis] == model.classes_, seconds)


def settled(model: Pipeline) -> Pipeline:
    """Return a pipeline to fit, with what the correction has chosen, if it is one."""
    columns, classifier = clone(model)
    fitted = model[-1]
    if isinstance(fitted, MGCEStackingClassifier):
        classifier.set_params(estimator=clone(fitted.estimator_), q=fitted.q_, lam=fitted.lam_)
    return make_pipeline(columns, classifier)


def bounds_of(found: Assessment, table: Table, say: Say) -> list[Bounded]:
    """Bound the errors of both rules of a model fitted to the table."""
    say(f"{found.name}: error bounds")
    rows, classifier = found.model[:-1].transform(table.features), found.model[-1]
    lam = getattr(classifier, "lam_", classifier.lam)  # chosen or given
    held_out = {
        "deterministic": 1.0 - found.accuracy,
        "randomized": 1.0 - float(found.of_label.mean()),
    }
    return [
        Bounded(
            found.name,
            lam,
            classifier.error_bounds(rows, rule, max_time=BOUND_SECONDS),
            held_out[rule],
        )
        for rule in RULES
    ]


def coefficients_of(model: Pipeline) -> list[Coefficient]:
    """Return a linear model's coefficients by name, the largest first."""
    coef, classes = model[-1].coef_, model.classes_
    if len(coef) == 1:  # those of the second class less those of the first
        coef = np.vstack([np.zeros_like(coef), coef])
    sizes = np.ptp(coef, axis=0)
    names = names_out(model[0])
    return [
        Coefficient(names[j], classes[coef[:, j].argmax()], classes[coef[:, j].argmin()], sizes[j])
        for j in np.argsort(-sizes, kind="stable")
    ]


def doubts_of(recipe: Assessment, boosting: Assessment, labels: pd.Series) -> list[Doubt]:
    """Return the rows whose label is doubtful, the lowest probabilities of it first.

    Of equal ones, such as 0, those come first to whose label boosting gives less.
    """
    of_label, by_boosting = recipe.of_label, boosting.of_label
    right, classes = recipe.right, recipe.model.classes_
    return [
        Doubt(
            row=labels.index[i],
            label=labels.iloc[i],
            suggested=classes[recipe.proba[i].argmax()],
            of_label=float(of_label[i]),
            of_suggested=float(recipe.proba[i].max()),
            by_boosting=float(by_boosting[i]),
        )
        for i in np.lexsort([by_boosting, of_label])
        if of_label[i] < DOUBT and not right[i]
    ]


def compared(values: Array, others: Array) -> int:
    """Return whether values are larger (1) or smaller (-1) than others by row, or neither (0)."""
    differences = values.astype(float) - others
    error = differences.std() / np.sqrt(len(differences))
    mean = differences.mean()
    return int(np.sign(mean)) if abs(mean) > STANDARD_ERRORS * error else 0
