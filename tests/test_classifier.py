"""MGCEClassifier: scikit-learn's checks, invariances, labels, and what a user gets wrong."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load
from scipy.special import softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, lam_max, mgce_path
from mgce_sklearn.kernels import reference

TIGHT = {"tol": 1e-7}
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


@parametrize_with_checks(
    [
        MGCEClassifier(),
        MGCEClassifier(q=0.0),
        MGCEClassifier(q=1.0),
        MGCEClassifier(center=True),
        MGCEClassifier(center=False),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    return load("wine")


@pytest.fixture(scope="module")
def cancer():
    return load("breast_cancer")


@pytest.fixture(scope="module")
def diabetes():
    """A hard problem, where scores differ."""
    return load("diabetes")


def assert_same_fit(a, b, X):
    np.testing.assert_allclose(a.minimax_risk_, b.minimax_risk_, rtol=2e-7)
    np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
def test_attributes(wine, q):
    X, y = wine
    clf = MGCEClassifier(q=q).fit(X, y)
    assert clf.coef_.shape == (3, 13)
    assert clf.intercept_.shape == (3,)
    assert clf.solver_ == "interior_point"
    assert clf.n_features_in_ == 13
    assert clf.n_iter_ > 0
    assert 0 <= clf.dual_gap_ <= 1e-4 * clf.minimax_risk_
    assert clf.uncertainty_set_.tau.shape == clf.uncertainty_set_.half_width.shape == (3, 14)
    margins = clf.decision_function(X)
    np.testing.assert_allclose(margins, X @ clf.coef_.T + clf.intercept_, atol=1e-12)
    np.testing.assert_allclose(clf.predict_proba(X), reference.rule(margins, q), atol=1e-9)
    worst_case = reference.worst_case(margins, q)
    np.testing.assert_allclose(clf.predict_worst_case_proba(X), worst_case, atol=1e-7)
    np.testing.assert_array_equal(clf.predict(X), margins.argmax(axis=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_risk_is_the_objective_written_out(wine, dtype):
    """R(W) from the definitions alone, and the worst-case error bound that it is."""
    X, y = wine[0].astype(dtype), wine[1]
    clf = MGCEClassifier(q=0.7, lam=0.3).fit(X, y)
    center = X.astype(float).mean(axis=0)
    features = np.column_stack([X - center, np.ones(len(X))])
    coef = np.column_stack([clf.coef_, clf.intercept_]).astype(float)
    coef[:, -1] += coef[:, :-1] @ center
    one_hot = (y[:, None] == clf.classes_).astype(float)
    tau = one_hot.T @ features / len(X)
    sigma = np.sqrt(one_hot.T @ features**2 / len(X) - tau**2)
    width = 0.3 * sigma / np.sqrt(len(X))
    np.testing.assert_allclose(clf.uncertainty_set_.tau, tau, atol=1e-12)
    np.testing.assert_allclose(clf.uncertainty_set_.half_width, width, rtol=1e-9)
    risk = reference.threshold(features @ coef.T, 0.7).mean()
    risk += -(tau * coef).sum() + (width * np.abs(coef)).sum()
    assert clf.minimax_risk_ == pytest.approx(risk, rel=1e-10)
    error_of_randomized_rule = np.mean(1 - (clf.predict_proba(X) * one_hot).sum(axis=1))
    assert error_of_randomized_rule <= clf.minimax_risk_


@pytest.mark.parametrize(("near", "end"), [(5e-324, 0.0), (1e-12, 0.0), (1 - 1e-16, 1.0)])
def test_the_ends_of_q_are_approached_smoothly(wine, near, end):
    clf, limit = (MGCEClassifier(q=q, tol=1e-6).fit(*wine) for q in (near, end))
    assert clf.minimax_risk_ == pytest.approx(limit.minimax_risk_, rel=2e-6)


def test_q_zero_is_softmax_and_near_logistic_regression(wine):
    X, y = wine
    clf = MGCEClassifier(q=0.0, lam=1e-2).fit(X, y)
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(proba, softmax(clf.decision_function(X), axis=1), atol=1e-12)
    np.testing.assert_allclose(proba, clf.predict_worst_case_proba(X), atol=1e-12)
    assert clf.score(X, y) == LogisticRegression(C=100).fit(X, y).score(X, y) == 1.0


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("data", ["wine", "cancer"])
def test_weight_two_is_the_row_twice_and_zero_the_row_left_out(data, q, request):
    X, y = request.getfixturevalue(data)
    weights = np.arange(len(y)) % 3
    # At q = 1 rounding ends gaps near 1e-7, on whichever side of it.
    tol = 1e-6 if q == 1.0 else TIGHT["tol"]
    weighted = MGCEClassifier(q=q, tol=tol).fit(X, y, sample_weight=weights)
    rows = np.repeat(np.arange(len(y)), weights)
    stacked = MGCEClassifier(q=q, tol=tol).fit(X[rows], y[rows])
    assert_same_fit(weighted, stacked, X)
    assert weighted.n_iter_ == stacked.n_iter_


def test_balanced_weights_count_weights(cancer):
    X, y = cancer
    weights = 1 + np.arange(len(y)) % 2
    rows = np.repeat(np.arange(len(y)), weights)
    weighted = MGCEClassifier(class_weight="balanced", **TIGHT).fit(X, y, sample_weight=weights)
    stacked = MGCEClassifier(class_weight="balanced", **TIGHT).fit(X[rows], y[rows])
    assert_same_fit(weighted, stacked, X)
    totals = np.bincount(y[rows])
    factors = {k: len(rows) / (2 * totals[k]) for k in (0, 1)}
    by_hand = MGCEClassifier(class_weight=factors, **TIGHT).fit(X, y, sample_weight=weights)
    assert_same_fit(weighted, by_hand, X)
    unweighted = MGCEClassifier(**TIGHT).fit(X, y)
    assert abs(unweighted.minimax_risk_ - weighted.minimax_risk_) > 1e-3


@pytest.mark.parametrize("data", ["wine", "cancer"])
def test_units_of_the_features_do_not_matter(data, request):
    X, y = request.getfixturevalue(data)
    units = 10.0 ** np.linspace(-4, 4, X.shape[1])
    clf = MGCEClassifier(**TIGHT).fit(X, y)
    scaled = MGCEClassifier(**TIGHT).fit(X * units, y)
    np.testing.assert_allclose(scaled.minimax_risk_, clf.minimax_risk_, rtol=2e-7)
    np.testing.assert_allclose(scaled.predict_proba(X * units), clf.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(
    "labels",
    [
        [30, 10, 20],
        ["b", "a", "c"],
        np.array(["yes", "no", "maybe"], dtype=object),
        [2.0, 1.0, 0.0],
        np.array([7, -3, 200], dtype=np.int16),
    ],
)
def test_relabeling_permutes_the_result(wine, labels):
    X, y = wine
    labels = np.asarray(labels)
    plain = MGCEClassifier(**TIGHT).fit(X, y)
    renamed = MGCEClassifier(**TIGHT).fit(X, labels[y])
    order = np.argsort(labels)
    np.testing.assert_array_equal(renamed.classes_, labels[order])
    np.testing.assert_array_equal(renamed.predict(X), labels[plain.predict(X)])
    np.testing.assert_allclose(
        renamed.predict_proba(X), plain.predict_proba(X)[:, order], atol=1e-4
    )
    assert renamed.minimax_risk_ == pytest.approx(plain.minimax_risk_, rel=2e-7)


def test_boolean_labels(cancer):
    X, y = cancer
    clf = MGCEClassifier().fit(X, y == 1)
    assert clf.predict(X).dtype == bool
    assert clf.score(X, y == 1) > 0.95


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_array, sp.coo_array])
def test_sparse_equals_dense(wine, layout):
    X, y = wine
    X = np.where(np.abs(X) > 0.5, X, 0.0)
    dense = MGCEClassifier(q=0.7).fit(X, y)
    sparse = MGCEClassifier(q=0.7).fit(layout(X), y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-8)
    np.testing.assert_allclose(sparse.predict_proba(layout(X)), dense.predict_proba(X), atol=1e-8)


def test_float32_is_kept_and_its_risk_is_that_of_the_stored_coefficients(wine):
    X, y = wine
    X = X.astype(np.float32)
    clf = MGCEClassifier(q=0.7).fit(X, y)
    for array in (clf.coef_, clf.intercept_, clf.predict_proba(X), clf.decision_function(X)):
        assert array.dtype == np.float32
    exact = MGCEClassifier(q=0.7).fit(X.astype(float), y)
    assert clf.minimax_risk_ == pytest.approx(exact.minimax_risk_, rel=1e-5)
    assert clf.minimax_risk_ >= exact.minimax_risk_ - exact.dual_gap_


def test_read_only_and_fortran_arrays(wine):
    X, y = wine
    fortran = np.asfortranarray(X)
    for array in (X.copy(), fortran):
        array.flags.writeable = False
        clf = MGCEClassifier().fit(array, y)
        np.testing.assert_allclose(clf.coef_, MGCEClassifier().fit(X, y).coef_, atol=1e-9)


def test_without_intercept(cancer):
    X, y = cancer
    clf = MGCEClassifier(fit_intercept=False).fit(X, y)
    assert clf.intercept_ == [0.0]
    assert clf.uncertainty_set_.tau.shape == (2, 30)
    shifted = MGCEClassifier(fit_intercept=False).fit(X + 1.0, y)
    assert abs(clf.minimax_risk_ - shifted.minimax_risk_) > 1e-6


def test_data_frames_and_names(wine):
    pd = pytest.importorskip("pandas")
    X, y = wine
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(13)])
    clf = MGCEClassifier().fit(frame, pd.Series(y).map({0: "a", 1: "b", 2: "c"}))
    assert list(clf.feature_names_in_) == list(frame.columns)
    assert set(clf.predict(frame)) == {"a", "b", "c"}
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame[frame.columns[::-1]])


def test_search_over_a_pipeline(diabetes):
    X, y = diabetes
    model = make_pipeline(StandardScaler(), MGCEClassifier())
    grid = {"mgceclassifier__q": [0.0, 0.7], "mgceclassifier__lam": [0.05, 30.0]}
    search = GridSearchCV(model, grid, cv=FOLDS).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    for parameters, score in zip(search.cv_results_["params"], scores, strict=True):
        pair = {name.removeprefix("mgceclassifier__"): value for name, value in parameters.items()}
        alone = make_pipeline(StandardScaler(), MGCEClassifier(**pair))
        assert score == cross_val_score(alone, X, y, cv=FOLDS).mean()
        if score == scores.max():
            assert search.best_estimator_[-1].get_params().items() >= pair.items()
    assert len(set(scores)) > 2


def test_routed_weights_reach_fit_and_score(diabetes):
    X, y = diabetes
    weights = np.where(X[:, 2] > 0, 20.0, 0.1)

    def by_hand(in_fit, in_score):
        for train, test in FOLDS.split(X, y):
            clf = MGCEClassifier().fit(X[train], y[train], weights[train] if in_fit else None)
            yield clf.score(X[test], y[test], weights[test] if in_score else None)

    found = [list(by_hand(False, False))]
    with config_context(enable_metadata_routing=True):
        for in_fit, in_score in ((True, False), (False, True), (True, True)):
            clf = MGCEClassifier().set_fit_request(sample_weight=in_fit)
            clf.set_score_request(sample_weight=in_score)
            scores = cross_val_score(clf, X, y, params={"sample_weight": weights}, cv=FOLDS)
            np.testing.assert_array_equal(scores, list(by_hand(in_fit, in_score)))
            found.append(scores.tolist())
    assert len(np.unique(found, axis=0)) == 4


def test_pickle_and_clone(wine):
    X, y = wine
    clf = MGCEClassifier(q=0.3, lam=0.2, tol=1e-5).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert clone(clf).get_params() == clf.get_params()


def test_warm_start(cancer):
    X, y = cancer
    clf = MGCEClassifier(lam=0.3, solver="lbfgs", q=0.3, tol=1e-3, warm_start=True).fit(X, y)
    cold = clf.n_iter_
    clf.set_params(lam=0.29).fit(X, y)
    assert clf.n_iter_ < cold
    clf.fit(X, y + 5)  # other labels: the old coefficients are not used
    assert clf.n_iter_ == clone(clf).fit(X, y + 5).n_iter_
    clf.fit(X[:, :5], y)  # other features: they do not fit
    assert clf.coef_.shape == (1, 5)


def test_warm_start_takes_the_intercept_too(cancer):
    X, y = cancer[0] + 3.0, cancer[1]
    clf = MGCEClassifier(q=0.3, solver="lbfgs", tol=1e-3, warm_start=True).fit(X, y)
    risk = clf.minimax_risk_
    with pytest.warns(ConvergenceWarning):
        clf.set_params(max_iter=1, tol=1e-9).fit(X, y)
    assert clf.minimax_risk_ <= risk


def test_convergence_warning_says_what_to_do_and_the_bound_holds(wine):
    X, y = wine
    exact = MGCEClassifier(q=0.7, **TIGHT).fit(X, y)
    message = r"relative duality gap of (\S+) .*Raise max_iter"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        clf = MGCEClassifier(q=0.7, max_iter=3).fit(X, y)
    said = float(re.search(message, str(caught[0].message))[1])
    assert clf.dual_gap_ / clf.minimax_risk_ == pytest.approx(said, rel=0.05)
    assert clf.minimax_risk_ - clf.dual_gap_ <= exact.minimax_risk_ <= clf.minimax_risk_


def test_log_probabilities(cancer):
    X, y = cancer
    clf = MGCEClassifier(q=0.7).fit(X, y)
    proba = clf.predict_proba(X)
    assert (proba == 0).any()
    np.testing.assert_array_equal(np.isneginf(clf.predict_log_proba(X)), proba == 0)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("data", ["wine", "cancer"])
def test_the_link_returns_margins_to_probabilities(data, q, request):
    X, y = request.getfixturevalue(data)
    clf = MGCEClassifier(q=q).fit(X, y)
    margins = clf.decision_function(X)
    proba = clf.predict_proba(X)
    np.testing.assert_allclose(clf.margins_to_proba(margins), proba, atol=1e-14)
    if data == "cancer":
        both = np.column_stack([np.zeros_like(margins), margins])
        np.testing.assert_allclose(clf.margins_to_proba(both), proba, atol=1e-14)
    hot = reference.rule((both if data == "cancer" else margins) / 3, q)
    np.testing.assert_allclose(clf.margins_to_proba((margins / 3).tolist()), hot, atol=1e-9)


def test_margins_without_probabilities(wine):
    with pytest.raises(NotFittedError):
        MGCEClassifier().margins_to_proba(np.ones((2, 3)))
    clf = MGCEClassifier().fit(*wine)
    np.testing.assert_array_equal(clf.margins_to_proba([[0.0, -np.inf, -np.inf]]), [[1, 0, 0]])
    for margins, message in [
        (np.ones(3), r"shape \(n, 3\); got shape \(3,\)"),
        (np.ones((4, 2)), r"shape \(n, 3\); got shape \(4, 2\)"),
        ([[0, 1, 2], [0, np.nan, 1]], "row 1 has"),
        ([[np.inf, 0, 1]], "row 0 has"),
        (["a", "b", "c"], "margins must have numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            clf.margins_to_proba(margins)


def test_verbose_prints_the_size_and_one_line_per_iteration(wine, capsys):
    clf = MGCEClassifier(verbose=1).fit(*wine)
    assert len(capsys.readouterr().out.splitlines()) == 1 + clf.n_iter_ + 1


BAD_PARAMETERS = [
    ({"q": 1.5}, ValueError, r"q must be a number in \[0, 1\].*got 1.5"),
    ({"q": -0.1}, ValueError, "q must be"),
    ({"q": float("nan")}, ValueError, "q must be"),
    ({"q": "0.5"}, TypeError, "q must be a number.*str"),
    ({"q": None}, TypeError, "q must be"),
    ({"q": True}, TypeError, "q must be"),
    ({"lam": 0}, ValueError, "lam must be a positive.*1e-3"),
    ({"lam": -1.0}, ValueError, "lam must be"),
    ({"lam": float("inf")}, ValueError, "lam must be"),
    ({"lam": [0.1]}, TypeError, "lam must be"),
    ({"solver": "newton"}, ValueError, "solver must be one of 'auto', 'interior_point'"),
    ({"solver": 3}, TypeError, "solver must be"),
    ({"tol": 0.0}, ValueError, "tol must be"),
    ({"max_iter": 0}, ValueError, "max_iter must be"),
    ({"max_iter": 2.5}, TypeError, "max_iter must be"),
    ({"max_time": 0}, ValueError, "max_time must be a positive, finite number of seconds, or None"),
    ({"max_time": float("inf")}, ValueError, "max_time must be"),
    ({"max_time": "1 h"}, TypeError, "max_time must be"),
    ({"fit_intercept": "yes"}, TypeError, "fit_intercept must be True or False"),
    ({"verbose": -1}, ValueError, "verbose must be"),
    ({"class_weight": {0: 0.0}}, ValueError, "class_weight must be positive"),
    ({"class_weight": "even"}, ValueError, "class_weight"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), BAD_PARAMETERS)
def test_bad_parameters(wine, parameters, error, message):
    clf = MGCEClassifier(**parameters)
    with pytest.raises(error, match=message):
        clf.fit(*wine)
    assert not any(name.endswith("_") and not name.startswith("_") for name in vars(clf))


def _with(array, value):
    array = array.copy()
    array[5, 2] = value
    return array


BAD_DATA = [
    (lambda X, y: (_with(X, np.nan), y, None), "NaN"),
    (lambda X, y: (_with(X, np.inf), y, None), "infinity"),
    (lambda X, y: (X, np.zeros(len(y)), None), "at least 2 classes.*got 1 class"),
    (lambda X, y: (X[:0], y[:0], None), "0 sample"),
    (lambda X, y: (X, y[:-1], None), "inconsistent numbers of samples"),
    (lambda X, y: (X[:, 0], y, None), "2D array"),
    (lambda X, y: (np.full(X.shape, "a"), y, None), "could not convert"),
    (lambda X, y: (X, y + 0.5 * np.arange(len(y)), None), "continuous"),
    (lambda X, y: (X, np.where(y == 0, np.nan, y), None), "has nan: drop such rows"),
    (lambda X, y: (X, y, -np.ones(len(y))), "non-negative; row 0 has -1.0"),
    (lambda X, y: (X, y, np.zeros(len(y))), "zero for every row"),
    (lambda X, y: (X, y, np.full(len(y), np.nan)), "finite and non-negative"),
    (lambda X, y: (X, y, np.ones(3)), r"one weight per row of X, shape \(178,\); got shape \(3,\)"),
    (lambda X, y: (X, y, (y == 1).astype(float)), "at least 2 classes among the rows"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_DATA)
def test_bad_data_raises_and_loses_nothing(wine, spoil, message):
    X, y = wine
    bad_X, bad_y, weights = spoil(X, y)
    fresh = MGCEClassifier()
    with pytest.raises(ValueError, match=message):
        fresh.fit(bad_X, bad_y, sample_weight=weights)
    assert vars(fresh) == MGCEClassifier().get_params()
    fitted = MGCEClassifier().fit(X, y)
    before = fitted.predict_proba(X)
    with pytest.raises(ValueError, match=message):
        fitted.fit(bad_X, bad_y, sample_weight=weights)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_labels_that_are_missing_are_named_by_their_row(wine, missing):
    X, y = wine
    names = np.array(["a", "b", "c"], dtype=object)[y]
    fitted = MGCEClassifier().fit(X, names)
    names[3] = missing
    for method in (
        MGCEClassifier().fit,
        MGCEClassifier(feature_map=StandardScaler()).fit,
        lambda X, y: MGCEClassifier().partial_fit(X, y, classes=["a", "b", "c"]),
        fitted.certificate,
        MGCEClassifierCV().fit,
        lambda X, y: mgce_path(X, y, [0.5], [0.1]),
        lam_max,
    ):
        with pytest.raises(ValueError, match=f"Row 3 has {missing}: drop such rows, or name a"):
            method(X, names)


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "predict_worst_case_proba", "decision_function"],
)
def test_bad_prediction_input(wine, method):
    X, y = wine
    with pytest.raises(NotFittedError):
        getattr(MGCEClassifier(), method)(X)
    clf = MGCEClassifier().fit(X, y)
    with pytest.raises(ValueError, match="X has 5 features, but MGCEClassifier is expecting 13"):
        getattr(clf, method)(X[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        getattr(clf, method)(_with(X, np.nan))


def test_a_class_never_seen_with_a_feature_keeps_its_probability_off_zero():
    """A dummy variable that only one class has: without a width its rows would be certain."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = np.column_stack([rng.normal(size=(300, 2)), (y == 0) & (rng.random(300) < 0.1)])
    clf = MGCEClassifier(q=0.0, lam=1.0, tol=1e-6).fit(X, y)
    assert (clf.uncertainty_set_.half_width > 0).all()
    proba = clf.predict_proba(X[X[:, 2] == 1])
    assert (proba[:, 0] > 0.5).all()
    assert (proba[:, 1:] > 1e-4).all()


def test_always_zero_feature_has_zero_coefficient(wine):
    X, y = wine
    X = np.column_stack([X, np.zeros(len(X))])
    clf = MGCEClassifier(**TIGHT).fit(X, y)
    assert not clf.coef_[:, -1].any()
    without = MGCEClassifier(**TIGHT).fit(*wine)
    assert clf.minimax_risk_ == pytest.approx(without.minimax_risk_, rel=2e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_matrix])
def test_sparse_coefficients_predict_the_same(n_classes, layout):
    X, y = load("iris")
    X, y = layout(X[y < n_classes]), y[y < n_classes]
    model = MGCEClassifier(lam=2.0).fit(X, y)
    coef, proba = model.coef_, model.predict_proba(X)
    bounds, certificate = model.error_bounds(X), model.certificate(X, y)
    assert 0 < np.count_nonzero(coef) < coef.size
    assert model.sparsify() is model and model.sparsify().coef_.nnz == np.count_nonzero(coef)
    np.testing.assert_allclose(model.predict_proba(X), proba, atol=1e-13)
    np.testing.assert_allclose(model.error_bounds(X).upper, bounds.upper, rtol=1e-12)
    np.testing.assert_allclose(model.certificate(X, y), certificate, rtol=1e-12)
    warm = copy.deepcopy(model).set_params(warm_start=True).fit(X, y)
    assert warm.n_iter_ <= model.n_iter_ and isinstance(warm.coef_, np.ndarray)
    np.testing.assert_array_equal(model.densify().coef_, coef)
    np.testing.assert_array_equal(model.densify().coef_, coef)


def test_what_is_not_fitted_has_no_coefficients_to_convert():
    for convert in (MGCEClassifier().sparsify, MGCEClassifier().densify):
        with pytest.raises(NotFittedError):
            convert()
