"""MGCEClassifierCV: GridSearchCV's results, scikit-learn's checks, selection, and routing."""

from __future__ import annotations

import pickle
import warnings
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    FitFailedWarning,
    NotFittedError,
    UnsetMetadataPassedError,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.preprocessing import MaxAbsScaler, PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
from mgce_sklearn import folds as folds_module
from mgce_sklearn.cv_results import SELECTIONS

SMALL = {"qs": (0.0, 0.7), "lams": (0.3, 0.1), "cv": 3}
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


@parametrize_with_checks([MGCEClassifierCV(qs=(0.0, 0.7), lams=(0.1, 1.0), cv=2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    return load("wine")


@pytest.fixture(scope="module")
def diabetes():
    """A hard problem, where scores differ."""
    return load("diabetes")


@pytest.fixture(scope="module")
def fitted(wine):
    return MGCEClassifierCV(**SMALL).fit(*wine)


@pytest.mark.parametrize(
    ("qs", "scoring", "accuracy"),
    [((0.0,), "neg_log_loss", 1e-5), ((0.3, 0.7), None, 0.005), ((0.3,), "neg_brier_score", 1e-3)],
)
def test_equals_grid_search_on_the_same_folds(diabetes, qs, scoring, accuracy):
    X, y = diabetes
    lams = (0.1, 1.0, 0.3)
    options = {"cv": FOLDS, "scoring": scoring}
    ours = MGCEClassifierCV(qs, lams, **options, certify_scores=True, tol=1e-7).fit(X, y)
    classifier = MGCEClassifier(tol=1e-7)
    grid = {"q": list(qs), "lam": list(lams)}
    theirs = GridSearchCV(classifier, grid, **options).fit(X, y)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert theirs.cv_results_.keys() <= ours.cv_results_.keys()
    for name, column in theirs.cv_results_.items():
        if name.endswith("score"):
            atol = {"rank_test_score": 1}.get(name, accuracy)
            np.testing.assert_allclose(ours.cv_results_[name], column, atol=atol, err_msg=name)
        elif name.startswith("param_"):
            np.testing.assert_array_equal(ours.cv_results_[name], column)
    assert ours.n_splits_ == theirs.n_splits_
    assert ours.best_score_ == pytest.approx(theirs.best_score_, abs=accuracy)


def test_chosen_pair_is_refitted_to_all_rows(wine, fitted):
    X, y = wine
    results = fitted.cv_results_
    assert results["rank_test_score"][fitted.best_index_] == 1
    assert fitted.best_score_ == results["mean_test_score"].max()
    assert fitted.best_params_ == results["params"][fitted.best_index_]
    assert {"q": fitted.q_, "lam": fitted.lam_} == fitted.best_params_
    alone = MGCEClassifier(fitted.q_, fitted.lam_).fit(X, y)
    for name in ("coef_", "intercept_", "classes_", "minimax_risk_", "dual_gap_", "n_iter_"):
        np.testing.assert_array_equal(getattr(fitted, name), getattr(alone, name))
    assert fitted.solver_ == alone.solver_
    np.testing.assert_array_equal(fitted.uncertainty_set_.tau, alone.uncertainty_set_.tau)
    for method in (
        "predict",
        "predict_proba",
        "predict_log_proba",
        "predict_worst_case_proba",
        "decision_function",
    ):
        np.testing.assert_array_equal(getattr(fitted, method)(X), getattr(alone, method)(X))
    margins = fitted.decision_function(X) / 2
    proba = alone.margins_to_proba(margins)
    np.testing.assert_array_equal(fitted.margins_to_proba(margins), proba)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "lbfgs", "tol": 1e-2, "max_iter": 3000, "random_state": 7},
        {"fit_intercept": False, "class_weight": {0: 3.0, 1: 1.0, 2: 1.0, 3: 1.0}},
        {"center": False, "width": "std", "class_weight": "balanced"},
        {"width": "bernstein", "delta": 0.3, "feature_range": (-9.0, 9.0)},
        {"width": np.full((4, 11), 0.01)},
        {"feature_map": PolynomialFeatures(2)},
        {"feature_map": abs, "width": "betting"},
    ],
)
def test_every_setting_reaches_the_fits(diabetes, settings):
    X, y = diabetes
    lams, settings = [0.3, 3.0], {"tol": 1e-6, **settings}
    certified = {"cv": FOLDS, "certify_scores": True}
    ours = MGCEClassifierCV([0.3], lams, **certified, **settings).fit(X, y)
    theirs = GridSearchCV(MGCEClassifier(0.3, **settings), {"lam": lams}, cv=FOLDS).fit(X, y)
    for name in ("mean_test_score", "split1_test_score"):
        np.testing.assert_allclose(
            ours.cv_results_[name], theirs.cv_results_[name], rtol=0, atol=1.5 / len(y)
        )
    found, expected = (search.best_estimator_.get_params() for search in (ours, theirs))
    for name in settings.keys() - {"feature_map"}:
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-12)


def test_parameters_of_the_classifier_are_those_of_the_search():
    """Or the search decides them itself, or they say how a single fit begins."""
    ours, theirs = MGCEClassifierCV().get_params(), MGCEClassifier().get_params()
    assert theirs.keys() - ours.keys() == {"q", "lam", "warm_start"}
    shared = theirs.keys() & ours.keys()
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


class Counting(StandardScaler):
    """A scaler that counts, over all clones, what it is asked to do."""

    calls: ClassVar[list] = []

    def fit(self, X, y=None):
        self.calls.append(("fit", len(X)))
        assert len(y) == len(X)
        return super().fit(X)

    def transform(self, X):
        self.calls.append(("transform", len(X)))
        return super().transform(X)


@pytest.mark.parametrize("certify_scores", [False, True])
def test_feature_map_is_fitted_once_a_fold(wine, certify_scores):
    X, y = wine
    Counting.calls.clear()
    search = MGCEClassifierCV(**SMALL, feature_map=Counting(), certify_scores=certify_scores)
    search.fit(X, y)
    rows = [len(part) for train, test in StratifiedKFold(3).split(X, y) for part in (train, test)]
    expected = []
    for train, test in zip(rows[::2], rows[1::2], strict=True):
        expected += [("fit", train), ("transform", train), ("transform", test)]
    assert Counting.calls == [*expected, ("fit", len(y)), ("transform", len(y))]
    plain = MGCEClassifierCV(**SMALL, certify_scores=certify_scores).fit(X, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


def test_a_scorer_gets_raw_rows_and_what_the_map_has_learned(wine):
    X, y = wine
    seen = []

    def look(estimator, rows, labels):
        assert rows.shape[1] == 13
        seen.append(estimator.feature_map_.n_components_)
        margins = estimator.decision_function(rows)
        np.testing.assert_allclose(estimator.decision_function(rows[:3]), margins[:3])
        copied = pickle.loads(pickle.dumps(estimator))
        return copied.score(rows, labels)

    search = MGCEClassifierCV(**SMALL, feature_map=PCA(5), scoring=look).fit(X, y)
    assert seen == 12 * [5]
    plain = clone(search).set_params(scoring=None).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    assert search.n_features_in_ == 13
    assert search.coef_.shape == (3, 5)


@pytest.mark.parametrize("kind", ["list", "frame", "matrix"])
def test_what_the_map_takes_is_good_enough(kind):
    words = [f"{a} {b}" for a in ("red", "green") for b in ("apple", "pear", "plum")] * 5
    y = np.array([text[0] for text in words])
    X, feature_map = words, CountVectorizer()
    if kind == "frame":
        pd = pytest.importorskip("pandas")
        X = pd.DataFrame({"text": words, "length": list(map(len, words))})
        feature_map = make_column_transformer((CountVectorizer(), "text"))
    if kind == "matrix":
        X, feature_map = sp.bsr_array(CountVectorizer().fit_transform(words)), MaxAbsScaler()
    search = MGCEClassifierCV([0.5], [0.1, 0.3], cv=3, feature_map=feature_map, n_jobs=2)
    search.fit(X, y)
    assert search.best_score_ == 1.0
    assert search.predict(X).tolist() == y.tolist()
    if kind == "frame":
        assert search.feature_names_in_.tolist() == ["text", "length"]


def test_networks_are_feature_maps(wine):
    torch = pytest.importorskip("torch")
    X, y = wine
    X = StandardScaler().fit_transform(X)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(13, 20), torch.nn.ReLU()).double()
    with torch.no_grad():
        features = network(torch.tensor(X)).numpy()
    found = MGCEClassifierCV(**SMALL, feature_map=network).fit(torch.tensor(X), torch.tensor(y))
    expected = MGCEClassifierCV(**SMALL).fit(features, y)
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
    np.testing.assert_allclose(
        found.cv_results_["mean_minimax_risk"], expected.cv_results_["mean_minimax_risk"], rtol=1e-3
    )


def test_a_map_that_fails_is_a_fit_that_fails(wine):
    X, y = wine

    def few(rows):
        if len(rows) == 50:
            raise ArithmeticError("too few")
        return rows

    search = MGCEClassifierCV(**SMALL, feature_map=few, error_score=-1.0, refit=False)
    folds = [(EVEN, ODD), (EVEN[-50:], ODD)]
    with pytest.warns(FitFailedWarning, match=r"4 of 8 fits failed .* ArithmeticError: too few"):
        search.set_params(cv=folds).fit(X, y)
    assert (search.cv_results_["split1_test_score"] == -1.0).all()
    assert (search.cv_results_["split0_test_score"] > 0.5).all()


def test_mean_minimax_risk_is_that_of_the_folds(wine):
    X, y = wine
    search = MGCEClassifierCV(**SMALL, certify_scores=True).fit(X, y)
    folds = StratifiedKFold(3).split(X, y)
    risks = [MGCEClassifier(0.7, 0.3).fit(X[rows], y[rows]).minimax_risk_ for rows, _ in folds]
    position = search.cv_results_["params"].index({"q": 0.7, "lam": 0.3})
    found = search.cv_results_["mean_minimax_risk"][position]
    assert found == pytest.approx(np.mean(risks), rel=2e-4)
    assert search.cv_results_["converged"].all()


@pytest.mark.parametrize("q", [0.0, 0.5, 0.75, 1.0])
def test_scores_that_are_not_certified_say_so_and_bound_all_the_same(diabetes, q):
    X, y = diabetes
    seen = []
    split = np.arange(0, 300), np.arange(300, len(y))

    def keep(estimator, X, y):
        seen.append(estimator)
        return estimator.score(X, y)

    search = MGCEClassifierCV([q], [0.1], cv=[split], scoring=keep).fit(X, y)
    (scored,) = seen
    value, _ = scored.certificate(X[split[0]], y[split[0]])
    assert scored.minimax_risk_ == pytest.approx(value, rel=1e-9)
    assert search.cv_results_["mean_minimax_risk"][0] == scored.minimax_risk_
    least = MGCEClassifier(q, 0.1).fit(X[split[0]], y[split[0]])
    optimum = least.minimax_risk_ - least.dual_gap_
    assert scored.minimax_risk_ - scored.dual_gap_ <= optimum <= scored.minimax_risk_
    assert value - optimum < 0.02 * optimum
    assert not search.cv_results_["converged"].any()  # no gap was computed
    # The refit is certified.
    assert search.dual_gap_ <= 1e-4 * search.minimax_risk_


def test_scores_are_near_certified_ones(diabetes):
    grid = ([0.0, 0.5, 0.75, 1.0], [0.03, 0.1, 0.3, 1.0])
    fast, certified = (
        MGCEClassifierCV(*grid, cv=FOLDS, refit=False, certify_scores=certify).fit(*diabetes)
        for certify in (False, True)
    )
    scores = certified.cv_results_["mean_test_score"]
    np.testing.assert_allclose(fast.cv_results_["mean_test_score"], scores, atol=0.02)
    assert scores[fast.best_index_] >= certified.best_score_ - 0.01


def test_a_score_depends_on_no_other_pair_and_not_on_the_solver(diabetes):
    X, y = diabetes
    options = {"cv": FOLDS, "scoring": "neg_brier_score", "refit": False}
    grid = MGCEClassifierCV([0.0, 0.75], [1.0, 0.03, 0.3], **options).fit(X, y)
    alone = MGCEClassifierCV([0.75], [0.3], **options)
    position = grid.cv_results_["params"].index({"q": 0.75, "lam": 0.3})
    for settings in ({}, {"solver": "sgd", "tol": 0.1, "max_iter": 1}):
        score = clone(alone).set_params(**settings).fit(X, y).best_score_
        assert score == grid.cv_results_["mean_test_score"][position]


def test_scorers_get_a_complete_classifier(wine):
    X, y = wine
    seen = []

    def keep(estimator, X, y):
        seen.append(estimator)
        return 0.0

    MGCEClassifierCV([0.5], [0.1, 0.3], cv=FOLDS, scoring=keep, refit=False).fit(X, y)
    alone = MGCEClassifier(0.5, 0.3).fit(X, y)
    assert len(seen) == 6
    assert [estimator.lam for estimator in seen] == 3 * [0.3, 0.1]
    assert [estimator.solver_ for estimator in seen] == 6 * ["approximate"]
    assert all(vars(estimator).keys() == vars(alone).keys() for estimator in seen)


def test_processes_give_the_same(wine, fitted):
    parallel = MGCEClassifierCV(**SMALL, n_jobs=2).fit(*wine)
    for name in ("mean_test_score", "mean_minimax_risk", "param_q"):
        np.testing.assert_allclose(parallel.cv_results_[name], fitted.cv_results_[name], rtol=1e-6)


def test_without_refit_there_is_a_choice_and_nothing_else(wine):
    search = MGCEClassifierCV(**SMALL, refit=False).fit(*wine)
    assert search.best_params_ == {"q": search.q_, "lam": search.lam_}
    assert not hasattr(search, "coef_")
    with pytest.raises(AttributeError, match="Set refit=True"):
        search.predict(wine[0])


class Prescribed:
    """A scorer that gives every pair and fold the score that a table has for it."""

    def __init__(self, scores):
        self.scores, self.calls = scores, {}

    def __call__(self, estimator, X, y):
        pair = estimator.q, estimator.lam
        fold = self.calls[pair] = self.calls.get(pair, -1) + 1
        return self.scores[pair][fold]


def test_near_the_best_the_widest_or_the_largest_q_then_the_better(wine):
    scores = {
        (0.0, 0.1): [0.8, 0.9, 1.0],  # best: mean 0.9, standard error 0.1 / sqrt(3) = 0.0577
        (0.5, 0.1): [0.8, 0.8, 0.8],
        (0.0, 0.5): [0.8, 0.85, 0.9],  # near: 0.85
        (0.5, 0.5): [0.86, 0.86, 0.86],  # near, as wide, and better
        (0.0, 2.0): [0.84, 0.84, 0.84],  # wider, and 0.0023 too low
        (0.5, 2.0): [0.1, 0.1, 0.1],
    }

    def chosen(selection):
        search = MGCEClassifierCV(
            (0.0, 0.5), (0.1, 0.5, 2.0), cv=3, scoring=Prescribed(scores), selection=selection
        ).fit(*wine)
        return search.q_, search.lam_, search.best_score_

    assert chosen("best") == (0.0, 0.1, pytest.approx(0.9))
    assert chosen("one_standard_error") == (0.5, 0.5, pytest.approx(0.86))
    assert chosen("largest_q") == (0.5, 0.5, pytest.approx(0.86))
    scores[0.0, 2.0] = [0.85, 0.85, 0.84]
    assert chosen("one_standard_error") == (0.0, 2.0, pytest.approx(2.54 / 3))
    assert chosen("largest_q") == (0.5, 0.5, pytest.approx(0.86))
    scores[0.5, 0.1] = [0.88, 0.87, 0.86]  # as large a q, and better
    assert chosen("largest_q") == (0.5, 0.1, pytest.approx(0.87))
    scores[0.5, 0.1] = scores[0.5, 0.5] = [0.84, 0.84, 0.84]  # too low, both
    assert chosen("largest_q") == (0.0, 0.1, pytest.approx(0.9))


def test_one_split_has_no_error_and_a_score_that_is_no_number_ranks_last(wine):
    scores = {(0.0, 0.1): [np.nan], (0.5, 0.1): [0.2], (0.0, 1.0): [0.1], (0.5, 1.0): [0.2]}
    search = MGCEClassifierCV(
        (0.0, 0.5),
        (0.1, 1.0),
        cv=ShuffleSplit(1, random_state=0),
        scoring=Prescribed(scores),
        selection="one_standard_error",
    )
    with pytest.warns(UserWarning, match=r"not finite: \[nan 0.2 0.1 0.2\]. NaN ranks last"):
        search.fit(*wine)
    assert search.cv_results_["rank_test_score"].tolist() == [4, 1, 3, 1]
    assert (search.q_, search.lam_) == (0.5, 1.0)


EVEN, ODD = np.arange(0, 178, 2), np.arange(1, 178, 2)
HALVES = [(EVEN, ODD), (ODD, EVEN)]


def refuses_wide(estimator, X, y):
    if estimator.lam == 3.0:
        raise ArithmeticError("too wide")
    return estimator.score(X, y)


# What goes wrong: a fold beside the two halves, and a scorer.
FAILURES = {
    "no row of a class is tested": (lambda y: (y < 3, y < 2), "neg_log_loss"),
    "no row of a class is learned from": (lambda y: (y < 2, y < 3), "neg_log_loss"),
    "which accuracy does not mind": (lambda y: (y < 2, y > 0), "accuracy"),
    "one class is learned from": (lambda y: (y == 1, y < 2), "accuracy"),
    "nothing is learned from": (lambda y: (y > 5, y < 2), "accuracy"),
    "nothing is tested": (lambda y: (y < 2, y > 5), "accuracy"),
    "some pairs are not scored": (lambda y: (y < 2, y < 2), refuses_wide),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("error_score", [np.nan, -7.0])
def test_failures_count_as_in_grid_search(wine, name, error_score):
    X, y = wine
    fold, scoring = FAILURES[name]
    cv = [*HALVES, tuple(map(np.flatnonzero, fold(y)))]
    options = {"cv": cv, "scoring": scoring, "error_score": error_score}
    ours = MGCEClassifierCV([0.0, 0.3], [3.0, 1.0], tol=1e-7, certify_scores=True, **options)
    theirs = GridSearchCV(MGCEClassifier(tol=1e-7), {"q": [0.0, 0.3], "lam": [3.0, 1.0]}, **options)
    categories = []
    for search in (ours, theirs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search.fit(X, y)
        categories.append({warning.category for warning in caught})
        if search is ours:
            assert len(caught) <= 2
            assert {warning.filename for warning in caught} <= {__file__}
    assert categories[0] == categories[1]
    for column in ("mean_test_score", "std_test_score", "split2_test_score", "rank_test_score"):
        found, expected = (search.cv_results_[column] for search in (ours, theirs))
        np.testing.assert_allclose(found, expected, atol=5e-3, err_msg=column)
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, atol=5e-3)
    assert ours.best_estimator_.get_params() == theirs.best_estimator_.get_params()
    no_fit = name in ("one class is learned from", "nothing is learned from")
    assert np.isnan(ours.cv_results_["mean_minimax_risk"]).all() == no_fit
    assert ours.cv_results_["converged"].all() != no_fit


@pytest.mark.parametrize("name", [name for name in FAILURES if "accuracy" not in name])
def test_errors_are_raised_on_request(wine, name):
    X, y = wine
    fold, scoring = FAILURES[name]
    cv = [*HALVES, tuple(map(np.flatnonzero, fold(y)))]
    search = MGCEClassifierCV([0.0], [1.0, 3.0], cv=cv, scoring=scoring, error_score="raise")
    theirs = GridSearchCV(MGCEClassifier(), {"lam": [1.0, 3.0]}, cv=cv, scoring=scoring)
    before = dict(vars(search))
    with pytest.raises(Exception) as ours:
        search.fit(X, y)
    with pytest.raises(ours.type):
        theirs.set_params(error_score="raise").fit(X, y)
    assert "failed" not in str(ours.value)
    assert vars(search) == before


def test_warnings_of_failures_name_the_first(wine):
    X, y = wine
    one_class = (np.flatnonzero(y == 1), np.flatnonzero(y < 2))
    search = MGCEClassifierCV([0.0], [1.0, 3.0], cv=[*HALVES, one_class], error_score=0)
    with pytest.warns(
        FitFailedWarning, match=r"2 of 6 fits failed and count as 0.*got 1 class \(1"
    ):
        search.fit(X, y)
    search = MGCEClassifierCV([0.0], [1.0, 3.0], cv=3, scoring=refuses_wide, error_score=0)
    with pytest.warns(UserWarning, match="3 of 6 scores failed.*ArithmeticError: too wide"):
        search.fit(X, y)
    search.set_params(cv=[one_class])
    before = dict(vars(search))
    with pytest.raises(ValueError, match=r"All 2 fits failed, the first with ValueError: y must"):
        search.fit(X, y)
    assert vars(search) == before


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_first_pair_is_chosen_where_no_score_is_a_number(wine, selection):
    search = MGCEClassifierCV([0.7, 0.0], [0.1, 1.0], cv=3, selection=selection)
    search.set_params(scoring=lambda estimator, X, y: np.nan)
    with pytest.warns(UserWarning, match="if all are NaN, the first pair is chosen"):
        search.fit(*wine)
    assert search.best_index_ == 0
    assert (search.q_, search.lam_) == (0.7, 0.1)
    assert np.isnan(search.best_score_)


@pytest.mark.parametrize(("name", "certify"), [("solve_path", True), ("estimates", False)])
def test_a_fit_that_fails_leaves_its_neighbors(wine, monkeypatch, name, certify):
    lams = [0.1, 1.0, 0.3, 3.0]
    plain = MGCEClassifierCV(
        [0.3], lams, cv=3, scoring="neg_brier_score", tol=1e-7, certify_scores=certify
    ).fit(*wine)
    points = getattr(folds_module, name)

    def stumble(*problem, **how):
        for point in points(*problem, **how):
            if point.lam == 1.0:
                raise MemoryError("no room")
            yield point

    monkeypatch.setattr(folds_module, name, stumble)
    with (
        pytest.warns(FitFailedWarning, match=r"3 of 12 fits failed .* MemoryError: no room"),
        pytest.warns(UserWarning, match="not finite"),
    ):
        found = clone(plain).fit(*wine)
    expected = plain.cv_results_["mean_test_score"].copy()
    expected[1] = np.nan
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected, atol=1e-4)


def test_gaps_are_named_of_fits_alone(wine):
    X, y = wine
    one_class = (np.flatnonzero(y == 1), np.flatnonzero(y < 2))
    options = {"max_iter": 2, "refit": False, "certify_scores": True}
    search = MGCEClassifierCV([0.7], [0.3, 30.0], cv=[*HALVES, one_class], **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y)
    assert not search.cv_results_["converged"].any()
    (message,) = (str(w.message) for w in caught if w.category is ConvergenceWarning)
    assert "(q=0.7, lam=0.3)." in message
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        clone(search).set_params(certify_scores=False, cv=HALVES).fit(X, y)


def test_groups_go_to_the_splitter(wine):
    X, y = wine
    groups = np.arange(len(y)) % 4
    search = MGCEClassifierCV([0.5], [0.1, 0.3], cv=LeaveOneGroupOut()).fit(X, y, groups=groups)
    assert search.n_splits_ == 4
    position = search.cv_results_["params"].index({"q": 0.5, "lam": 0.1})
    out = groups == 2
    score = MGCEClassifier(0.5, 0.1).fit(X[~out], y[~out]).score(X[out], y[out])
    assert search.cv_results_["split2_test_score"][position] == pytest.approx(score, abs=0.03)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        clone(search).fit(X, y)


def test_weights_count_in_fits_and_scores(diabetes):
    X, y = diabetes
    weights = 1.0 + np.arange(len(y)) % 3
    train, test = np.arange(0, 300), np.arange(300, len(y))
    options = {"scoring": "neg_log_loss", "tol": 1e-7, "certify_scores": True}
    search = MGCEClassifierCV([0.0], [0.3], cv=[(train, test)], **options)
    search.fit(X, y, sample_weight=weights)
    clf = MGCEClassifier(0.0, 0.3, tol=1e-7).fit(X[train], y[train], weights[train])
    scorer = get_scorer("neg_log_loss")
    expected = scorer(clf, X[test], y[test], sample_weight=weights[test])
    assert search.best_score_ == pytest.approx(expected, abs=1e-5)
    assert abs(expected - scorer(clf, X[test], y[test])) > 1e-3
    final = search.score(X, y, sample_weight=weights)
    best = search.best_estimator_
    assert final == pytest.approx(scorer(best, X, y, sample_weight=weights), abs=1e-12)
    alone = MGCEClassifier(0.0, 0.3, tol=1e-7).fit(X, y, weights)
    np.testing.assert_array_equal(search.coef_, alone.coef_)


def test_metadata_routing(diabetes):
    X, y = diabetes
    weights, groups = 1.0 + np.arange(len(y)) % 3, np.arange(len(y)) % 4
    plain = MGCEClassifierCV([0.0], [0.3], cv=GroupKFold(3))
    without = plain.fit(X, y, sample_weight=weights, groups=groups).best_score_
    with config_context(enable_metadata_routing=True):
        # Whether scorers start out undecided depends on scikit-learn's version.
        undecided = get_scorer("accuracy").set_score_request(sample_weight=None)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            clone(plain).set_params(scoring=undecided).fit(
                X, y, sample_weight=weights, groups=groups
            )
        scores = {}
        for asks in (True, False):
            scorer = get_scorer("accuracy").set_score_request(sample_weight=asks)
            search = clone(plain).set_params(scoring=scorer)
            scores[asks] = search.fit(X, y, sample_weight=weights, groups=groups).best_score_
        assert scores[True] == without != scores[False]
        with pytest.raises(TypeError, match="unexpected argument"):
            plain.fit(X, y, color=groups)
        # In its turn it is routed to.
        search = MGCEClassifierCV([0.0], [0.3], cv=3, scoring=scorer)
        search.set_fit_request(sample_weight=True)
        nested = cross_val_score(search, X, y, params={"sample_weight": weights}, cv=3)
    assert nested.shape == (3,)


def test_a_scorer_may_ask_for_metadata_of_its_own(wine):
    X, y = wine

    def mean_cost(y_true, y_pred, cost):
        return np.mean(cost * (y_true != y_pred))

    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(mean_cost, greater_is_better=False).set_score_request(cost=True)
        search = MGCEClassifierCV([0.5], [3.0], cv=FOLDS, scoring=scorer)
        ones = search.fit(X, y, cost=np.ones(len(y))).best_score_
        tens = search.fit(X, y, cost=np.full(len(y), 10.0)).best_score_
        assert tens == pytest.approx(10 * ones)
        assert ones < 0
        assert search.score(X, y, cost=np.zeros(len(y))) == 0


def test_other_metadata_needs_routing(wine):
    X, y = wine
    with pytest.raises(TypeError, match=r"fit takes color only with metadata routing"):
        MGCEClassifierCV(**SMALL).fit(X, y, color=y)


def test_sparse_frames_strings_and_pickle(wine, fitted):
    X, y = wine
    pd = pytest.importorskip("pandas")
    names = np.array(["c", "a", "b"])
    sparse = MGCEClassifierCV(**SMALL).fit(sp.csc_array(X), y)
    np.testing.assert_allclose(
        sparse.cv_results_["mean_test_score"], fitted.cv_results_["mean_test_score"]
    )
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    search = MGCEClassifierCV(**SMALL).fit(frame, pd.Series(names[y]))
    assert search.feature_names_in_.tolist() == frame.columns.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(search.predict(frame)) == {"a", "b", "c"}
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(frame), search.predict_proba(frame))


def test_one_warning_names_the_pairs_that_missed(wine):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"max_iter": 4, "refit": False, "certify_scores": True}
        search = MGCEClassifierCV([0.7], [0.1, 0.3], cv=3, **options).fit(*wine)
    assert not search.cv_results_["converged"].any()
    (warning,) = caught
    assert warning.category is ConvergenceWarning
    assert warning.filename == __file__
    assert "(q=0.7, lam=0.1), (q=0.7, lam=0.3)" in str(warning.message)


def test_labels_of_other_shapes_and_types(wine, fitted):
    X, y = wine
    pd = pytest.importorskip("pandas")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        column = MGCEClassifierCV(**SMALL).fit(X, pd.DataFrame({"y": y}))
    assert [warning.category for warning in caught] == [DataConversionWarning]
    nullable = MGCEClassifierCV(**SMALL).fit(X, pd.Series(y, dtype="Int64"))
    for search in (column, nullable):
        assert search.classes_.dtype.kind == "i"
        np.testing.assert_array_equal(search.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(ValueError, match=r"\(Row 1 has <NA>: drop such rows"):
        nullable.fit(X, pd.Series(y, dtype="Int64").mask(np.arange(len(y)) == 1))


def test_tensors(wine):
    torch = pytest.importorskip("torch")
    X, y = wine
    rounded = torch.tensor(X).bfloat16()
    found = MGCEClassifierCV(**SMALL).fit(rounded, torch.tensor(y))
    expected = MGCEClassifierCV(**SMALL).fit(rounded.float().numpy(), y)
    for name in ("mean_test_score", "mean_minimax_risk"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"qs": ()}, ValueError, "qs must have at least one number"),
        ({"qs": (0.5, -0.1)}, ValueError, r"qs\[1\] must be a number in \[0, 1\].*got -0.1"),
        ({"lams": 0.1}, TypeError, "lams must be a sequence of numbers"),
        ({"lams": (0,)}, ValueError, r"lams\[0\] must be a positive"),
        ({"selection": "widest"}, ValueError, "one of 'best', 'one_standard_error', 'largest_q'"),
        ({"certify_scores": 1}, TypeError, "certify_scores must be True or False"),
        ({"width": "narrow"}, ValueError, "width must be one of"),
        ({"delta": 2}, ValueError, "delta must be a number"),
        ({"feature_range": 3}, TypeError, "feature_range must be a pair"),
        ({"feature_map": StandardScaler}, ValueError, "an instance, not a class"),
        ({"refit": "accuracy"}, TypeError, "refit must be True or False"),
        ({"solver": "newton"}, ValueError, "solver must be one of"),
        ({"scoring": "goodness"}, ValueError, "scorer's name; got 'goodness'.*lists them"),
        ({"scoring": accuracy_score}, ValueError, "metric function rather than a scorer"),
        ({"scoring": ["accuracy"]}, TypeError, "scoring must be a scorer's name"),
        ({"scoring": lambda e, X, y: None}, TypeError, "scoring must return a number; got None"),
        ({"cv": 1}, ValueError, "n_splits=1"),
        ({"cv": "five"}, ValueError, "cv"),
        ({"cv": [(EVEN, EVEN + 2)]}, IndexError, "out of bounds"),
        ({"cv": [(EVEN + 2, EVEN)]}, IndexError, "out of bounds"),
        ({"cv": []}, ValueError, "cv must give at least one fold; got none"),
        ({"error_score": "ignore"}, ValueError, "error_score must be 'raise' or a number"),
        ({"error_score": None}, TypeError, "error_score must be 'raise' or a number"),
    ],
)
def test_bad_parameters(wine, parameters, error, message):
    search = MGCEClassifierCV(**{**SMALL, **parameters})
    before = dict(vars(search))
    with pytest.raises(error, match=message):
        search.fit(*wine)
    assert vars(search) == before


def test_bad_data(wine, fitted):
    X, y = wine
    search = MGCEClassifierCV(**SMALL)
    with pytest.raises(ValueError, match="at least 2 classes"):
        search.fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match=r"non-negative; row 0 has -1\.0"):
        search.fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match="n_splits=3 cannot be greater than the number of members"):
        search.fit(X[[0, 1, 60, 61]], y[[0, 1, 60, 61]])
    with pytest.raises(ValueError, match=r"list of labels.*\(Row 0 has None: drop such rows"):
        search.fit(X, [None, *y[1:]])
    with pytest.raises(ValueError, match=r"requires y to be passed|y should be a 1d array"):
        search.fit(X, None)
    few = np.r_[0:20, 60:80, 130:132]
    with pytest.warns(UserWarning, match="least populated class in y has only 2 members"):
        search.fit(X[few], y[few])
    with pytest.raises(NotFittedError):
        MGCEClassifierCV().predict(X)
    with pytest.raises(ValueError, match="X has 5 features"):
        fitted.predict(X[:, :5])
