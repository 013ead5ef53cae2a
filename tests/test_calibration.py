"""Temperature scaling: known temperatures, the model's own link, scikit-learn's conventions."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, kernels
from mgce_sklearn.calibration import PiecewiseTemperatureScaling, TemperatureScaling
from mgce_sklearn.kernels import reference
from mgce_sklearn.label_noise import (
    matrix_noise,
    pair_flip_transition,
    symmetric_noise,
    symmetric_transition,
)
from mgce_sklearn.metrics import expected_calibration_error

SCALINGS = [TemperatureScaling, PiecewiseTemperatureScaling]


# Most checks have few rows, or labels at random.
@pytest.mark.filterwarnings("ignore:The temperature ended at its limit")
@parametrize_with_checks(
    [scaling(model) for scaling in SCALINGS for model in (LogisticRegression(), MGCEClassifier())]
    + [scaling(LogisticRegression(), noise_matrix=0.1) for scaling in SCALINGS]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


class Scores(ClassifierMixin, BaseEstimator):
    """Takes rows for margins, times a factor; q names its link, None the softmax."""

    def __init__(self, factor=1.0, q=None):
        self.factor = factor
        self.q = q

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        margins = self.factor * np.asarray(X)
        return margins[:, 1] - margins[:, 0] if margins.shape[1] == 2 else margins

    def predict(self, X):
        return self.classes_[np.argmax(X, axis=1)]


class LinkedScores(Scores):
    def margins_to_proba(self, margins):
        return kernels.rule(margins, self.q)


def drawn(n, n_classes, q=0.0, scale=1.5, seed=0):
    """Return margins, and labels drawn from the link of them."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(scale=scale, size=(n, n_classes))
    below = np.cumsum(kernels.rule(margins, q), axis=1)[:, :-1]
    return margins, (rng.random((n, 1)) > below).sum(axis=1)


def noisy(load):
    """Return a real set with a fifth of the labels wrong, so that no temperature is at a limit."""
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), symmetric_noise(y, 0.2, random_state=0)


@pytest.fixture(scope="module")
def wine():
    return noisy(load_wine)


@pytest.fixture(scope="module")
def cancer():
    return noisy(load_breast_cancer)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_a_known_temperature_is_found(n_classes, factor):
    margins, y = drawn(20_000, n_classes)
    for model in (Scores(factor), LinkedScores(factor, q=0.0)):
        for loss in ("auto", "log_loss", "brier"):
            found = TemperatureScaling(model, loss=loss).fit(margins, y)
            assert found.temperature_ == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("q", [0.3, 0.5, 1.0])
def test_a_known_temperature_of_links_with_zeros(q):
    margins, y = drawn(20_000, 4, q, scale=0.7)
    found = TemperatureScaling(LinkedScores(3.0, q)).fit(margins, y)
    assert found.temperature_ == pytest.approx(3.0, rel=0.05)
    # another link finds another temperature
    assert TemperatureScaling(Scores(3.0)).fit(margins, y).temperature_ < 2.7


@pytest.mark.parametrize("model", [LogisticRegression(C=100.0, max_iter=5000), LinearSVC()])
def test_temperature_minimizes_the_log_loss_of_rows_not_seen(wine, model):
    X, y = wine
    found = TemperatureScaling(model, cv=3).fit(X, y)
    margins = cross_val_predict(model, X, y, cv=3, method="decision_function")
    best = minimize_scalar(
        lambda t: log_loss(y, softmax(margins / t, axis=1)), bounds=(0.05, 20), method="bounded"
    )
    assert found.temperature_ == pytest.approx(best.x, rel=1e-3)
    refitted = clone(model).fit(X, y)
    expected = softmax(refitted.decision_function(X) / found.temperature_, axis=1)
    np.testing.assert_allclose(found.predict_proba(X), expected, atol=1e-12)
    np.testing.assert_array_equal(found.predict(X), refitted.predict(X))
    np.testing.assert_allclose(
        found.decision_function(X), refitted.decision_function(X) / found.temperature_
    )


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_the_link_is_the_models_own_and_the_loss_follows_it(wine, q):
    X, y = wine
    model = MGCEClassifier(q=q)
    found = TemperatureScaling(model, cv=3).fit(X, y)
    margins = cross_val_predict(model, X, y, cv=3, method="decision_function")

    def loss(t):
        proba = reference.rule(margins / t, q)
        if q == 0.0:
            return -np.log(proba[np.arange(len(y)), y]).mean()
        return ((proba - np.eye(3)[y]) ** 2).sum(axis=1).mean()

    nearby = found.temperature_ * np.array([0.9, 0.99, 1.01, 1.1])
    assert loss(found.temperature_) < min(loss(t) for t in nearby)
    assert loss(found.temperature_) <= min(loss(t) for t in np.geomspace(0.05, 20, 50)) + 1e-12
    at_t = reference.rule(model.fit(X, y).decision_function(X) / found.temperature_, q)
    np.testing.assert_allclose(found.predict_proba(X), at_t, atol=1e-9)


def test_log_loss_of_a_zero_is_finite_and_its_own():
    margins, y = drawn(500, 3, q=1.0, scale=2.0)
    y[:20] = margins[:20].argmin(axis=1)  # labels on zeros
    auto = TemperatureScaling(LinkedScores(1.0, 1.0)).fit(margins, y)
    harsh = TemperatureScaling(LinkedScores(1.0, 1.0), loss="log_loss").fit(margins, y)
    assert np.isfinite(harsh.temperature_)
    assert harsh.temperature_ > 1.5 * auto.temperature_
    proba = harsh.predict_proba(margins)[np.arange(500), y]
    assert (proba[:20] > 0).mean() > 0.9
    assert np.isneginf(auto.predict_log_proba(margins)).any()
    np.testing.assert_allclose(np.exp(auto.predict_log_proba(margins)), auto.predict_proba(margins))


MODELS = [
    MGCEClassifier(q=0.0),
    MGCEClassifier(q=0.5),
    MGCEClassifier(q=1.0),
    LogisticRegression(),
    make_pipeline(StandardScaler(), MGCEClassifier(q=0.7)),
    GridSearchCV(MGCEClassifier(), {"q": [0.9]}, cv=2),
    GridSearchCV(make_pipeline(StandardScaler(), MGCEClassifier()),
                 {"mgceclassifier__q": [0.9]}, cv=2),
    make_pipeline(StandardScaler(), GridSearchCV(MGCEClassifier(), {"q": [0.9]}, cv=2)),
    MGCEClassifierCV(qs=[0.8], lams=[0.1], cv=2),
]  # fmt: skip


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("data", ["wine", "cancer"])
@pytest.mark.parametrize("model", MODELS)
def test_at_temperature_one_probabilities_are_the_models(scaling, data, model, request):
    X, y = request.getfixturevalue(data)
    fitted = clone(model).fit(X, y)
    found = scaling(FrozenEstimator(fitted)).fit(X[::2], y[::2])
    found.temperature_ = 1.0
    if scaling is PiecewiseTemperatureScaling:
        found.temperatures_ = np.ones_like(found.temperatures_)
    np.testing.assert_allclose(found.predict_proba(X), fitted.predict_proba(X), atol=1e-14)
    np.testing.assert_allclose(found.decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("model", [*MODELS, LinearSVC(), SVC()])
@pytest.mark.parametrize("data", ["wine", "cancer"])
def test_predictions_are_the_models(scaling, model, data, request):
    X, y = request.getfixturevalue(data)
    names = np.array([f"class {k}" for k in range(3)], dtype=object)
    found = scaling(model, cv=2).fit(X, names[y])
    fitted = clone(model).fit(X, names[y])
    np.testing.assert_array_equal(found.classes_, fitted.classes_)
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))
    assert found.score(X, names[y]) == fitted.score(X, names[y])
    proba = found.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    chosen = proba[np.arange(len(X)), np.searchsorted(names, found.predict(X))]
    np.testing.assert_allclose(chosen, proba.max(axis=1), atol=1e-9)
    np.testing.assert_allclose(found.margins_to_proba(found.decision_function(X)), proba)


def test_two_classes_are_margins_zero_and_d(cancer):
    X, y = cancer
    found = TemperatureScaling(LinearSVC()).fit(X, y)
    d = found.estimator_.decision_function(X) / found.temperature_
    assert found.decision_function(X).shape == (len(y),)
    np.testing.assert_allclose(found.predict_proba(X)[:, 1], expit(d), atol=1e-12)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("q", [None, 0.5])
def test_an_overconfident_model_is_put_right(scaling, q):
    X, y = make_classification(
        4000, 60, n_informative=12, n_classes=4, class_sep=0.7, flip_y=0.2, random_state=0
    )
    X = StandardScaler().fit_transform(X)
    fit, calibrate, judge = slice(400), slice(400, 2000), slice(2000, None)
    model = LogisticRegression(C=1.0) if q is None else MGCEClassifier(q=q, lam=0.1)
    few = model.fit(X[fit], y[fit])
    before = expected_calibration_error(y[judge], few.predict_proba(X[judge]))
    found = scaling(FrozenEstimator(few)).fit(X[calibrate], y[calibrate])
    after = expected_calibration_error(y[judge], found.predict_proba(X[judge]))
    assert found.temperature_ > 1.5
    assert before > 0.15
    assert after < 0.06
    crossed = scaling(model).fit(X[fit], y[fit])
    assert expected_calibration_error(y[judge], crossed.predict_proba(X[judge])) < before / 2


@pytest.mark.parametrize("q", [None, 0.0, 0.5])
@pytest.mark.parametrize("least", [1, 100])
def test_pieces_match_confidence_and_accuracy(q, least):
    margins, y = drawn(2000, 3, q or 0.0, scale=0.9, seed=1)
    model = (Scores(2.5) if q is None else LinkedScores(2.5, q)).fit(margins, y)
    found = PiecewiseTemperatureScaling(
        FrozenEstimator(model), n_pieces=10, min_samples_per_piece=least
    ).fit(margins, y)
    scaled = TemperatureScaling(FrozenEstimator(model)).fit(margins, y)
    assert found.temperature_ == scaled.temperature_

    def link(m):
        return softmax(m, axis=1) if q is None else kernels.rule(m, q)

    confidence = link(2.5 * margins).max(axis=1)
    distinct = confidence < 1.0  # equal confidences make one piece
    assert distinct.all() or q
    order = np.argsort(confidence)
    right = margins.argmax(axis=1) == y
    pieces = np.searchsorted(found.edges_, confidence)
    if distinct.all():
        np.testing.assert_array_equal(np.bincount(pieces), 200)
        np.testing.assert_array_equal(found.edges_, confidence[order][199:-1:200])
    clipped = 0
    for b, temperature in enumerate(found.temperatures_):
        rows = pieces == b
        kept = rows.sum() / (rows.sum() + least)
        logs = np.log([temperature, found.temperature_])
        own = np.exp((logs[0] - (1 - kept) * logs[1]) / kept)
        mean = link(2.5 * margins[rows] / own).max(axis=1).mean()
        if np.isclose(own, 20.0) or np.isclose(own, 0.05):
            clipped += 1
            assert np.sign(mean - right[rows].mean()) == np.sign(own - 1.0)
        else:
            assert mean == pytest.approx(right[rows].mean(), abs=1e-9)
        proba = found.predict_proba(margins[rows])
        np.testing.assert_allclose(proba, link(2.5 * margins[rows] / temperature), atol=1e-9)
    assert clipped < len(found.temperatures_) / 2


@pytest.mark.parametrize(
    ("n", "least", "expected"),
    [(1000, 50, 20), (500, 50, 10), (230, 50, 4), (90, 50, 1), (30, 50, 1), (1000, 1, 20),
     (100, 7, 14)],
)  # fmt: skip
def test_pieces_are_fewer_where_rows_are_few(n, least, expected):
    margins, y = drawn(n, 3)
    model = FrozenEstimator(Scores(2.0).fit(margins, y))
    found = PiecewiseTemperatureScaling(model, min_samples_per_piece=least).fit(margins, y)
    assert found.temperatures_.shape == (expected,)
    assert found.edges_.shape == (expected - 1,)


def test_pieces_without_a_root_end_at_a_limit():
    margins = np.tile([[1.0, 0.0, 0.0]], (400, 1)) * np.linspace(1, 2, 400)[:, None]
    y = np.zeros(400, dtype=int)
    y[:200] = np.arange(200) % 2 + 1  # below all wrong, above all right
    model = Scores().fit(margins, y)
    found = PiecewiseTemperatureScaling(
        FrozenEstimator(model), n_pieces=2, min_samples_per_piece=1
    ).fit(margins, y)
    kept = 200 / 201
    expected = np.array([20.0, 0.05]) ** kept * found.temperature_ ** (1 - kept)
    np.testing.assert_allclose(found.temperatures_, expected)
    assert found.edges_ == [softmax(margins[199]).max()]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("q", [None, 0.7])
def test_weight_two_is_the_row_twice_and_zero_the_row_left_out(scaling, q):
    margins, y = drawn(600, 3, q or 0.0)
    margins = np.round(margins, 1)  # ties of confidence
    model = (Scores(2.0) if q is None else LinkedScores(2.0, q)).fit(margins, y)
    weights = np.arange(600) % 3
    rows = np.repeat(np.arange(600), weights)
    weighted = scaling(FrozenEstimator(model)).fit(margins, y, sample_weight=weights)
    repeated = scaling(FrozenEstimator(model)).fit(margins[rows], y[rows])
    proba = repeated.predict_proba(margins)
    np.testing.assert_allclose(weighted.predict_proba(margins), proba, rtol=1e-6, atol=1e-9)
    plain = scaling(FrozenEstimator(model)).fit(margins, y)
    assert abs(plain.predict_proba(margins) - proba).max() > 1e-3


@pytest.mark.parametrize("total", [2e-300, 9e307])
def test_weights_whose_sum_floats_just_hold(total):
    margins, y = drawn(600, 3)
    scaling = TemperatureScaling(FrozenEstimator(Scores(2.0).fit(margins, y)))
    expected = scaling.fit(margins, y).temperature_
    found = scaling.fit(margins, y, sample_weight=np.full(600, total / 600)).temperature_
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2),
    ],
)
def test_weights_reach_the_classifier(wine, model):
    X, y = wine
    weights = np.where(y < 2, 5.0, 0.1)
    found = TemperatureScaling(model, cv=2).fit(X, y, sample_weight=weights)
    last = found.estimator_
    last = getattr(last, "best_estimator_", last)
    if hasattr(last, "steps"):
        last, X = last[-1], StandardScaler().fit(X).transform(X)
        assert abs(last.coef_ - LogisticRegression().fit(X, y).coef_).max() > 0.01
    else:
        expected = LogisticRegression().fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(last.coef_, expected.coef_, atol=1e-10)


def test_weights_count_in_every_fold_and_in_the_loss(wine):
    X, y = wine
    weights = np.where(y == 2, 3.0, np.where(X[:, 0] > 0, 2.0, 0.2))
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    found = TemperatureScaling(LogisticRegression(), cv=folds).fit(X, y, sample_weight=weights)
    margins = np.empty((len(y), 3))
    for train, test in folds:
        model = LogisticRegression().fit(X[train], y[train], sample_weight=weights[train])
        margins[test] = model.decision_function(X[test])
    best = minimize_scalar(
        lambda t: log_loss(y, softmax(margins / t, axis=1), sample_weight=weights),
        bounds=(0.05, 20),
        method="bounded",
    )
    assert found.temperature_ == pytest.approx(best.x, rel=1e-4)


def test_weights_that_a_classifier_cannot_take_are_mentioned():
    margins, y = drawn(300, 3)
    with pytest.warns(UserWarning, match="Scores takes no sample_weight") as caught:
        TemperatureScaling(Scores(2.0)).fit(margins, y, sample_weight=np.ones(300))
    assert caught[0].filename == __file__


def test_weights_with_metadata_routing(wine):
    X, y = wine
    with config_context(enable_metadata_routing=True):
        inner = LogisticRegression().set_fit_request(sample_weight=True)
        model = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), inner)
        found = TemperatureScaling(model, cv=2).fit(X, y, sample_weight=1.0 + (y < 2))
    plain = TemperatureScaling(model, cv=2).fit(X, y)
    assert found.temperature_ != plain.temperature_


@pytest.mark.parametrize("scaling", SCALINGS)
def test_whatever_the_classifier_takes(scaling, wine):
    X, y = wine
    sparse = scaling(LogisticRegression(), cv=2).fit(sp.csr_matrix(X), y)
    dense = scaling(LogisticRegression(), cv=2).fit(X, y)
    np.testing.assert_allclose(
        sparse.predict_proba(sp.csc_array(X)), dense.predict_proba(X), atol=1e-5
    )
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(13)])
    names = pd.Series(y).map(lambda k: f"wine {k}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # names of columns get through everywhere
        named = scaling(LogisticRegression(), cv=2).fit(frame, names)
        np.testing.assert_allclose(named.predict_proba(frame), dense.predict_proba(X))
    assert list(named.feature_names_in_) == list(frame.columns)
    assert named.n_features_in_ == 13
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict_proba(frame[frame.columns[::-1]])


def test_text():
    words = ["good fine", "bad awful", "fine good nice", "awful bad poor"] * 10
    y = ["+", "-"] * 20
    with pytest.warns(UserWarning, match="limit, 0.05"):
        model = TemperatureScaling(make_pipeline(CountVectorizer(), LinearSVC())).fit(words, y)
    assert not hasattr(model, "n_features_in_")
    assert model.predict_proba(["good nice"])[0, 0] > 0.9


def test_searches_outside(wine):
    X, y = wine
    model = make_pipeline(StandardScaler(), TemperatureScaling(MGCEClassifier(), cv=2))
    name = "temperaturescaling__estimator__q"
    search = GridSearchCV(model, {name: [0.0, 0.5]}, cv=2, scoring="accuracy").fit(X, y)
    assert search.best_score_ > 0.5
    assert search.best_estimator_[-1].estimator_.q == search.best_params_[name]


def test_nested_scalings_multiply():
    margins, y = drawn(5000, 3)
    inner = TemperatureScaling(Scores(3.0)).fit(margins, y)
    outer = TemperatureScaling(FrozenEstimator(inner)).fit(margins, y)
    assert outer.temperature_ == pytest.approx(1.0, abs=1e-6)
    linked = TemperatureScaling(TemperatureScaling(LinkedScores(3.0, 0.5))).fit(margins, y)
    np.testing.assert_allclose(
        linked.predict_proba(margins), reference.rule(linked.decision_function(margins), 0.5)
    )


def test_float32_is_kept(wine):
    X, y = wine
    for scaling in SCALINGS:
        found = scaling(MGCEClassifier(), cv=2).fit(X.astype(np.float32), y)
        assert found.predict_proba(X.astype(np.float32)).dtype == np.float32
        assert found.decision_function(X.astype(np.float32)).dtype == np.float32


def test_any_cv(wine):
    X, y = wine
    folds = list(LeaveOneGroupOut().split(X, y, np.arange(len(y)) % 3))
    shuffled = KFold(3, shuffle=True, random_state=0)
    found = []
    for cv, splits in (
        (3, StratifiedKFold(3)),
        (None, StratifiedKFold(5)),
        (shuffled, shuffled),
        (folds, folds),
        (iter(folds), folds),
    ):
        margins = cross_val_predict(
            LogisticRegression(), X, y, cv=splits, method="decision_function"
        )
        expected = TemperatureScaling(FrozenEstimator(Scores().fit(margins, y))).fit(margins, y)
        found.append(TemperatureScaling(LogisticRegression(), cv=cv).fit(X, y).temperature_)
        assert found[-1] == pytest.approx(expected.temperature_, rel=1e-9)
    assert len(np.unique(np.round(found, 6))) == 4  # two of the five are the same folds


def test_frozen_classifiers_stay_and_may_know_more_classes(wine):
    X, y = wine
    fitted = LogisticRegression().fit(X, y)
    few = y < 2
    found = TemperatureScaling(FrozenEstimator(fitted), cv="unused").fit(X[few], y[few])
    assert found.estimator_.estimator is fitted
    assert found.predict_proba(X).shape == (len(y), 3)
    with pytest.raises(ValueError, match="y must hold labels among classes"):
        TemperatureScaling(FrozenEstimator(fitted)).fit(X, y + 5)
    with pytest.raises(NotFittedError):
        TemperatureScaling(FrozenEstimator(LogisticRegression())).fit(X, y)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_limits_are_mentioned(scaling):
    margins, y = drawn(300, 3)
    right, random = margins.argmax(axis=1), np.random.default_rng(1).permutation(y)
    with pytest.warns(UserWarning, match="limit, 0.05. Almost every row") as caught:
        cold = scaling(Scores(0.01)).fit(margins, right)
    assert cold.temperature_ == 0.05
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="limit, 20. The margins hardly"):
        hot = scaling(Scores(100.0)).fit(margins, random)
    assert hot.temperature_ == 20.0


def test_pickle_and_clone(wine):
    X, y = wine
    for scaling in SCALINGS:
        found = scaling(MGCEClassifier(q=0.5), cv=2).fit(X, y)
        again = pickle.loads(pickle.dumps(found))
        np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
        assert str(clone(found)) == str(found)


BAD_PARAMETERS = [
    ({"estimator": GaussianNB()}, TypeError, "classifier with decision_function; got GaussianNB"),
    ({"estimator": make_pipeline(KNeighborsClassifier())}, TypeError, "CalibratedClassifierCV"),
    ({"estimator": None}, TypeError, "decision_function; got None"),
    ({"estimator": IsolationForest()}, TypeError, "must be a classifier.*got IsolationForest"),
    ({"loss": "hinge"}, ValueError, "loss must be one of 'auto', 'log_loss', 'brier'"),
    ({"loss": None}, TypeError, "loss must be"),
    ({"n_pieces": 0}, ValueError, "n_pieces must be a positive integer"),
    ({"n_pieces": 2.0}, TypeError, "n_pieces must be"),
    ({"min_samples_per_piece": -1}, ValueError, "min_samples_per_piece must be"),
    ({"cv": 1}, ValueError, "k-fold"),
    ({"cv": "five"}, ValueError, "cv"),
    ({"cv": []}, ValueError, "cv must give at least one fold"),
    ({"cv": KFold(2)}, ValueError, r"every class.*fold 0 leaves none of \[0\]"),
    ({"cv": [(np.arange(178), np.arange(100))]}, ValueError, "partitions"),
]


@pytest.mark.parametrize(("parameters", "error", "message"), BAD_PARAMETERS)
def test_bad_parameters(wine, parameters, error, message):
    order = np.argsort(wine[1])
    X, y = wine[0][order], wine[1][order]
    model = PiecewiseTemperatureScaling(**{"estimator": LogisticRegression(), **parameters})
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert vars(model).keys() == model.get_params(deep=False).keys()


def _with(array, value):
    array = array.copy()
    array[5, 2] = value
    return array


BAD_DATA = [
    (lambda X, y: (_with(X, np.nan), y, None), "NaN"),
    (lambda X, y: (_with(X, np.inf), y, None), "infinity"),
    (lambda X, y: (X[:0], y[:0], None), "0 sample"),
    (lambda X, y: (X, y[:-1], None), "inconsistent numbers of samples"),
    (lambda X, y: (X, y + 0.5, None), "continuous"),
    (lambda X, y: (X, np.zeros(len(y)), None), "class"),
    (lambda X, y: (X, [None, *y[1:]], None), r"list of labels.*\(Row 0 has None: drop such rows"),
    (lambda X, y: (X, np.array(["a", *y[1:]], dtype=object), None), "labels of one type"),
    (lambda X, y: (X, np.where(np.arange(len(y)) == 7, 99, y), None), r"none of \[99\]"),
    (lambda X, y: (X, y, -np.ones(len(y))), "non-negative; row 0 has -1.0"),
    (lambda X, y: (X, y, np.full(len(y), np.nan)), "finite and non-negative"),
    (lambda X, y: (X, y, np.ones(3)), "one weight per row"),
]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("spoil", "message"), BAD_DATA)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_bad_data_raises_and_loses_nothing(wine, scaling, spoil, message):
    X, y = wine
    found = scaling(LogisticRegression(), cv=2).fit(X, y)
    before = found.predict_proba(X)
    bad_X, bad_y, weights = spoil(X, y)
    with pytest.raises(ValueError, match=message):
        found.fit(bad_X, bad_y, sample_weight=weights)
    np.testing.assert_array_equal(found.predict_proba(X), before)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_bad_prediction_input(wine, scaling):
    X, y = wine
    methods = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
    for method in methods:
        with pytest.raises(NotFittedError):
            getattr(scaling(LogisticRegression()), method)(X)
    found = scaling(LogisticRegression(), cv=2).fit(X, y)
    for method in methods:
        with pytest.raises(ValueError, match="X has 5 features"):
            getattr(found, method)(X[:, :5])
    with pytest.raises(ValueError, match=r"shape \(n, 3\); got shape \(2, 5\)"):
        found.margins_to_proba(np.ones((2, 5)))


def test_margins_of_pairs_of_classes_are_refused():
    X, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match=r"column for each class.*got shape \(1797, 45\)"):
        TemperatureScaling(SVC(decision_function_shape="ovo"), cv=2).fit(X, y)


def crowded():
    """Six classes that overlap, where one-vs-one votes tie."""
    return make_classification(
        1000, 20, n_informative=8, n_classes=6, flip_y=0.2, class_sep=0.7, random_state=0
    )


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("wrap", [clone, lambda svc: make_pipeline(StandardScaler(), svc)])
def test_margins_of_pairs_are_refused_where_pairs_are_as_many_as_classes(scaling, wrap, wine):
    X, y = wine
    found = scaling(wrap(SVC(decision_function_shape="ovr", break_ties=True)), cv=2).fit(X, y)
    chosen = found.classes_[found.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(chosen, found.predict(X))
    before = found.predict_proba(X)
    pairs = wrap(SVC(decision_function_shape="ovo"))
    found.set_params(estimator=pairs)
    with pytest.raises(ValueError, match=r"class of the largest margin.*'ovr' and break_ties=True"):
        found.fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), before)
    with pytest.raises(ValueError, match="class of the largest margin"):
        scaling(FrozenEstimator(pairs.fit(X, y))).fit(X, y)


def test_predictions_by_votes_are_refused_and_the_remedy_helps():
    X, y = crowded()
    votes = SVC().fit(X, y)
    n_other = np.sum(votes.predict(X) != votes.decision_function(X).argmax(axis=1))
    with pytest.raises(ValueError, match=rf"in {n_other} of 1000 rows it does not"):
        TemperatureScaling(SVC(), cv=2).fit(X, y)
    TemperatureScaling(SVC(break_ties=True), cv=2).fit(X, y)


def test_a_threshold_goes_around_the_scaling(cancer):
    X, y = cancer
    with pytest.raises(ValueError, match=r"largest margin.*threshold goes around"):
        TemperatureScaling(FixedThresholdClassifier(LogisticRegression(), threshold=0.9)).fit(X, y)
    scaled = TemperatureScaling(LogisticRegression())
    outside = FixedThresholdClassifier(scaled, threshold=0.9).fit(X, y)
    sure = outside.estimator_.predict_proba(X)[:, 1] >= 0.9
    np.testing.assert_array_equal(outside.predict(X), sure)
    assert (outside.predict(X) != outside.estimator_.predict(X)).any()


class OtherPredictions(Scores):
    """Predicts what it is told, whatever the margins."""

    def __init__(self, predictions):
        super().__init__()
        self.predictions = predictions

    def predict(self, X):
        return self.predictions


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize(("apart", "agrees"), [(0.0, True), (1e-9, True), (1e-3, False)])
def test_margins_tie_to_rounding(n_classes, size, apart, agrees):
    margins, y = drawn(300, n_classes)
    near = slice(100)
    margins[near, 0] = margins[near].max(axis=1)
    margins[near, 1] = margins[near, 0] - apart
    predictions = margins.argmax(axis=1)
    predictions[near] = 1
    model = FrozenEstimator(OtherPredictions(predictions).fit(margins, y))
    if agrees:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of margins that are tiny, or huge
            TemperatureScaling(model).fit(size * margins, y)
    else:
        with pytest.raises(ValueError, match="in 100 of 300 rows it does not"):
            TemperatureScaling(model).fit(size * margins, y)


def test_one_other_prediction_counts_unless_its_row_does_not():
    margins, y = drawn(300, 3)
    for wrong in ((margins[7].argmax() + 1) % 3, 99):
        predictions = margins.argmax(axis=1)
        predictions[7] = wrong
        model = FrozenEstimator(OtherPredictions(predictions).fit(margins, y))
        with pytest.raises(ValueError, match=rf"in 1 of 300 rows.*row 7 it predicts {wrong}"):
            TemperatureScaling(model).fit(margins, y)
        TemperatureScaling(model).fit(margins, y, sample_weight=np.arange(300) != 7)


def test_labels_in_pandas_own_types(wine):
    pd = pytest.importorskip("pandas")
    X, y = wine
    plain = TemperatureScaling(LogisticRegression(), cv=2).fit(X, y)
    for labels in (pd.Series(y, dtype="Int64"), pd.DataFrame({"y": y})["y"], pd.Categorical(y)):
        found = TemperatureScaling(LogisticRegression(), cv=2).fit(X, labels)
        assert found.predict(X).dtype.kind == "i"
        np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))
    truths = TemperatureScaling(LogisticRegression()).fit(X, pd.Series(y > 0, dtype="boolean"))
    assert truths.classes_.dtype == bool
    strings = pd.Series(y).map(lambda k: f"wine {k}").astype("string")
    named = TemperatureScaling(LogisticRegression(), cv=2).fit(X, strings)
    np.testing.assert_array_equal(named.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match=r"list of labels.*\(Row 3 has <NA>: drop such rows"):
        named.fit(X, strings.mask(np.arange(len(y)) == 3))


def test_classes_without_weight(wine):
    X, y = wine
    model = MGCEClassifier()
    with pytest.raises(ValueError, match=r"every class; all rows of classes \[2\] have weight 0"):
        TemperatureScaling(model).fit(X, y, sample_weight=y < 2)
    fitted = FrozenEstimator(model.fit(X, y))
    TemperatureScaling(fitted).fit(X, y, sample_weight=y < 2)
    # The first fold tests all rows of class 2 that have weight.
    tested = np.where(y == 2, np.arange(len(y)) % 2 == 0, np.arange(len(y)) % 3 == 0)
    folds = [(np.flatnonzero(~tested), np.flatnonzero(tested))]
    folds.append(folds[0][::-1])
    weights = np.where(y == 2, tested, 1.0)
    with pytest.raises(ValueError, match=r"fold 0 leaves none of \[2\]"):
        TemperatureScaling(MGCEClassifier(), cv=folds).fit(X, y, sample_weight=weights)


LOPSIDED = np.array([[0.9, 0.1, 0.0, 0.0], [0.3, 0.6, 0.1, 0.0], [0.0, 0.0, 1.0, 0.0],
                     [0.2, 0.2, 0.2, 0.4]])  # fmt: skip
NOISES = {
    "symmetric": symmetric_transition(4, 0.3),
    "pair": pair_flip_transition(4, 0.3),
    "lopsided": LOPSIDED,
}


@pytest.mark.parametrize("matrix", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_a_known_temperature_is_found_through_known_noise(matrix, q):
    margins, y = drawn(20_000, 4, q, scale=0.7 if q else 1.5)
    noisy = matrix_noise(y, matrix, random_state=0)
    found = TemperatureScaling(LinkedScores(3.0, q), noise_matrix=matrix).fit(margins, noisy)
    assert found.temperature_ == pytest.approx(3.0, rel=0.05)
    assert TemperatureScaling(LinkedScores(3.0, q)).fit(margins, noisy).temperature_ > 3.6


@pytest.mark.parametrize("matrix", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("q", [0.0, 0.5])
def test_observed_labels_are_judged_against_what_noise_makes_of_probabilities(matrix, q):
    margins, y = drawn(400, 4, q, seed=3)
    y, weights = matrix_noise(y, matrix, random_state=0), np.arange(400) % 3

    def loss(t):
        proba = reference.rule(2.0 * margins / t, q)
        seen = np.transpose([sum(proba[:, k] * matrix[k, j] for k in range(4)) for j in range(4)])
        if q == 0.0:
            return weights @ -np.log([row[label] for row, label in zip(seen, y, strict=True)])
        return sum(weights @ (seen[:, j] - (y == j)) ** 2 for j in range(4))

    model = FrozenEstimator(LinkedScores(2.0, q).fit(margins, range(4)))
    scaling = TemperatureScaling(model, noise_matrix=matrix)
    found = scaling.fit(margins, y, sample_weight=weights).temperature_
    best = minimize_scalar(loss, bounds=(0.5 * found, 2.0 * found), method="bounded",
                           options={"xatol": 1e-6})  # fmt: skip
    assert 0.05 < found < 20.0
    assert found == pytest.approx(best.x, rel=1e-4)
    for elsewhere in np.geomspace(0.05, 20.0, 15):
        assert loss(found) < loss(elsewhere) + 1e-9


def test_noise_does_not_choose_the_loss():
    """Noise fills the zeros of the link; the loss stays the one for a link with zeros."""
    margins, y = drawn(2000, 4, 1.0, scale=1.0)
    y = symmetric_noise(y, 0.2, random_state=0)
    model = LinkedScores(1.0, 1.0)
    auto, brier, log = (
        TemperatureScaling(model, loss=loss, noise_matrix=0.3).fit(margins, y).temperature_
        for loss in ("auto", "brier", "log_loss")
    )
    assert auto == brier
    assert abs(log / brier - 1.0) > 0.01


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_rate_is_the_symmetric_matrix_and_none_the_identity(scaling, wine):
    X, y = wine
    proba = [
        scaling(LogisticRegression(), cv=3, noise_matrix=noise_matrix).fit(X, y).predict_proba(X)
        for noise_matrix in (0.15, symmetric_transition(3, 0.15).tolist(), None, np.eye(3), 0)
    ]
    np.testing.assert_allclose(proba[0], proba[1], rtol=1e-9)
    np.testing.assert_allclose(proba[3], proba[2], rtol=1e-9)
    np.testing.assert_array_equal(proba[3], proba[4])
    assert abs(proba[0] - proba[2]).max() > 0.02


@pytest.mark.parametrize("matrix", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("q", [0.0, 0.5])
def test_pieces_see_the_predicted_class_as_often_as_noise_makes_of_it(matrix, q):
    margins, y = drawn(4000, 4, q, scale=0.7, seed=1)
    y = matrix_noise(y, matrix, random_state=0)
    model = FrozenEstimator(LinkedScores(2.5, q).fit(margins, range(4)))
    found = PiecewiseTemperatureScaling(
        model, n_pieces=5, min_samples_per_piece=1, noise_matrix=matrix
    ).fit(margins, y)
    plain = TemperatureScaling(model, noise_matrix=matrix).fit(margins, y)
    assert found.temperature_ == plain.temperature_
    pieces = np.searchsorted(found.edges_, kernels.rule(2.5 * margins, q).max(axis=1))
    predicted, inside = margins.argmax(axis=1), 0
    for b, temperature in enumerate(found.temperatures_):
        rows = np.flatnonzero(pieces == b)
        kept = len(rows) / (len(rows) + 1)
        own = (temperature / found.temperature_ ** (1 - kept)) ** (1 / kept)
        if 0.051 < own < 19.9:
            inside += 1
            proba = reference.rule(2.5 * margins[rows] / own, q)
            seen = [p @ matrix[:, k] for p, k in zip(proba, predicted[rows], strict=True)]
            assert np.mean(seen) == pytest.approx(np.mean(predicted[rows] == y[rows]), abs=1e-8)
    assert inside > len(found.temperatures_) / 2


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("model", [LogisticRegression(C=0.01), MGCEClassifier(q=0.5)])
def test_probabilities_are_about_true_labels(scaling, model):
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    train = np.arange(len(y)) % 2 == 0
    noisy = symmetric_noise(y[train], 0.4, random_state=0)

    def error(**known):
        found = scaling(model, cv=3, **known).fit(X[train], noisy)
        return expected_calibration_error(y[~train], found.predict_proba(X[~train]))

    assert error() > 0.25
    assert error(noise_matrix=0.4) < 0.08


class Knowing(LinkedScores):
    """Takes a noise matrix."""

    def __init__(self, factor=1.0, q=0.0, noise_matrix=None):
        super().__init__(factor, q)
        self.noise_matrix = noise_matrix


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("noise_matrix", [0.2, symmetric_transition(3, 0.2)])
def test_a_scaling_that_knows_less_than_its_classifier_warns(scaling, noise_matrix):
    margins, y = drawn(300, 3)
    y = symmetric_noise(y, 0.2, random_state=0)
    inner = Knowing(noise_matrix=noise_matrix)
    for model in (
        inner,
        make_pipeline("passthrough", inner),
        FrozenEstimator(clone(inner).fit(margins, y)),
        GridSearchCV(make_pipeline(inner), {"knowing__noise_matrix": [noise_matrix]}, cv=2),
    ):
        with pytest.warns(UserWarning, match=f"{scaling.__name__} has none.*the same") as caught:
            scaling(model, cv=2).fit(margins, y)
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            scaling(model, cv=2, noise_matrix=noise_matrix).fit(margins, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scaling(Knowing(), cv=2).fit(margins, y)


def test_too_much_noise_ends_at_the_limit_and_the_warning_says_so():
    margins, y = drawn(300, 3, scale=3.0)
    y = np.where(margins.max(axis=1) > 1.0, margins.argmax(axis=1), y)
    with pytest.warns(UserWarning, match="limit, 0.05.*is its noise too large"):
        TemperatureScaling(Scores(), noise_matrix=0.5).fit(margins, y)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    ("noise_matrix", "error", "message"),
    [
        ("symmetric", ValueError, r"noise_matrix must be a rate in \[0, 1\).*got 'symmetric'"),
        (1.0, ValueError, r"noise_matrix must be a rate in \[0, 1\).*got 1.0"),
        (True, TypeError, "noise_matrix must be a rate.*got True of type bool"),
        (np.eye(4), ValueError, r"each class, shape \(3, 3\); got shape \(4, 4\)"),
        (2 / 3, ValueError, "noise_matrix must have rows that differ.*got 0.666"),
    ],
)
def test_bad_noise_matrices_lose_nothing(wine, scaling, noise_matrix, error, message):
    X, y = wine
    found = scaling(LogisticRegression(), cv=2).fit(X, y)
    before = found.predict_proba(X)
    with pytest.raises(error, match=message):
        found.set_params(noise_matrix=noise_matrix).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), before)
