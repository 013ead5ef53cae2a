"""MGCEBoostingClassifier: the loss as LightGBM's objective, and an estimator like the others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from problems import load
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import kernels
from mgce_sklearn.calibration import TemperatureScaling
from mgce_sklearn.kernels import reference

lightgbm = pytest.importorskip("lightgbm")

from mgce_sklearn import boosting  # noqa: E402
from mgce_sklearn.boosting import MGCEBoostingClassifier, ScoreLoss  # noqa: E402

# Quick, and with leaves of single rows: some data are small.
TREES = lightgbm.LGBMClassifier(
    n_estimators=30, learning_rate=0.5, num_leaves=8, min_child_samples=1, n_jobs=1,
    random_state=0, verbosity=-1,
)  # fmt: skip
STOPPED = MGCEBoostingClassifier(TREES, n_iter_no_change=5, random_state=0)
UNSTOPPED = MGCEBoostingClassifier(TREES, n_iter_no_change=None)
METHODS = (
    "predict", "predict_proba", "predict_log_proba", "predict_worst_case_proba",
    "decision_function",
)  # fmt: skip


def failing(estimator):
    """Name the checks that cannot pass, in LightGBM's own classifier as here."""
    reason = "LightGBM's bins, and the held-out rows, do not go by weights"
    return {f"check_sample_weight_equivalence_on_{X}_data": reason for X in ("dense", "sparse")}


@parametrize_with_checks([STOPPED, UNSTOPPED], expected_failed_checks=failing)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def wine():
    return load("wine")


@pytest.fixture(scope="module")
def two_classes():
    return make_classification(300, weights=[0.7], random_state=0)


@pytest.fixture(params=["wine", "two_classes"])
def data(request):
    return request.getfixturevalue(request.param)


def scores_and_labels(n_classes, n_rows=40):
    rng = np.random.default_rng(n_classes)
    shape = n_rows if n_classes == 2 else (n_rows, n_classes)
    return rng.normal(size=shape), rng.integers(n_classes, size=n_rows).astype(np.float32)


def wide(scores):
    return np.column_stack([0.0 * scores, scores]) if scores.ndim == 1 else scores


def loss_of_margins(q, scores, codes):
    margins = wide(scores)
    return reference.threshold(margins, q) - margins[np.arange(len(codes)), codes]


def loss_of_rule(q, scores, codes):
    h = reference.rule(wide(scores), q)[np.arange(len(codes)), codes]
    return (1.0 - h**q) / q if q > 0.0 else -np.log(h)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_metric_is_the_mean_loss_of_the_rule(q, n_classes):
    scores, labels = scores_and_labels(n_classes)
    weight = np.random.default_rng(0).uniform(size=len(labels))
    loss = loss_of_rule(q, 3.0 * scores, labels.astype(int))
    assert (loss == (1.0 / q if q else np.inf)).any() == (q > 0.0)
    for given in (None, weight):
        _, value, more_is_better = ScoreLoss(q).of_rule(labels, 3.0 * scores, given)
        assert value == pytest.approx(np.average(loss, weights=given), rel=1e-9)
        assert not more_is_better


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_gradient_is_that_of_the_weighted_loss(q, n_classes):
    scores, labels = scores_and_labels(n_classes, 12)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(labels))
    gradient, _ = ScoreLoss(q).gradient_and_hessian(labels, scores, weight)
    assert gradient.shape == scores.shape
    step, codes = 1e-6, labels.astype(int)
    for index in np.ndindex(scores.shape):
        ends = [scores.copy(), scores.copy()]
        ends[0][index] -= step
        ends[1][index] += step
        below, above = (weight @ loss_of_margins(q, end, codes) for end in ends)
        assert (above - below) / (2 * step) == pytest.approx(gradient[index], abs=1e-6)


def second_difference(q, margins, step=1e-3):
    low, middle, high = (kernels.threshold(wide(margins + s), q) for s in (-step, 0.0, step))
    return (high - 2 * middle + low) / step**2


@pytest.mark.parametrize("q", [0.0, 0.2, 0.4, 0.5])
def test_the_curvature_bounds_that_of_two_classes_up_to_one_half(q):
    differences = np.linspace(-4.0, 4.0, 401)
    _, hessian = ScoreLoss(q).gradient_and_hessian(np.zeros(401), differences, None)
    assert (second_difference(q, differences) <= hessian + 1e-6).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_step_of_two_classes_is_that_of_both_their_margins(n_classes):
    """A leaf moves by -sum gradient / sum hessian; of labels 0 and 1 alike in either form."""
    scores, labels = scores_and_labels(2)
    loss = ScoreLoss(0.7)
    gradient, hessian = loss.gradient_and_hessian(labels, scores, None)
    both, ones = loss.gradient_and_hessian(labels, wide(scores), None)
    steps = -both.sum(axis=0) / ones.sum(axis=0)
    assert -gradient.sum() / hessian.sum() == pytest.approx(steps[1] - steps[0], rel=1e-12)


def by_hand(q, trees, X, y):
    """Fit LightGBM's trees to residuals by the formulas of the reference."""

    def objective(labels, scores):
        margins = wide(scores)
        residuals = reference.worst_case(margins, q) - np.eye(margins.shape[1])[labels.astype(int)]
        if scores.ndim == 1:
            return residuals[:, 1], np.full(len(labels), 0.5)
        return residuals, np.ones_like(residuals)

    return clone(trees).set_params(objective=objective).fit(X, y)


@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_margins_are_sums_of_trees_grown_on_residuals(q, data):
    X, y = data
    model = clone(UNSTOPPED).set_params(q=q).fit(X, y)
    margins = by_hand(q, TREES, X, y).predict(X, raw_score=True)
    np.testing.assert_allclose(model.decision_function(X), margins, atol=1e-6)
    assert model.decision_function(X).shape == margins.shape
    assert model.n_iter_ == model.estimator_.n_iter_
    assert model.validation_loss_.shape == (0,)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_probabilities_are_those_of_the_margins(q, data):
    X, y = data
    names = np.array(["d", "a", "c"])[y]
    model = clone(UNSTOPPED).set_params(q=q).fit(X, names)
    scores = model.decision_function(X)
    margins = wide(scores)
    np.testing.assert_array_equal(model.classes_, np.unique(names))
    np.testing.assert_array_equal(model.predict(X), model.classes_[margins.argmax(axis=1)])
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba, reference.rule(margins, q), atol=1e-9)
    np.testing.assert_array_equal(model.margins_to_proba(scores), proba)
    np.testing.assert_array_equal(model.margins_to_proba(margins), proba)
    worst = model.predict_worst_case_proba(X)
    np.testing.assert_allclose(worst, reference.worst_case(margins, q), atol=1e-7)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(model.predict_log_proba(X), np.log(proba))


def test_a_changed_q_is_that_of_the_next_fit(wine):
    X, y = wine
    model = clone(UNSTOPPED).fit(X, y)
    before = [getattr(model, method)(X) for method in METHODS]
    model.set_params(q=0.1)
    for method, expected in zip(METHODS, before, strict=True):
        np.testing.assert_array_equal(getattr(model, method)(X), expected)


# --- early stopping ---------------------------------------------------------------------


def noisy(y, rate=0.3):
    rng = np.random.default_rng(0)
    return np.where(rng.random(len(y)) < rate, rng.permutation(y), y)


def test_rounds_end_where_the_held_out_loss_was_least(data):
    X, y = data[0], noisy(data[1])
    parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    model = clone(STOPPED).set_params(q=0.6).fit(parts[0], parts[2], X_val=parts[1], y_val=parts[3])
    losses = model.validation_loss_
    assert model.n_iter_ == 1 + np.argmin(losses)
    assert len(losses) == model.n_iter_ + 5 < 30
    scores = model.decision_function(parts[1])
    assert loss_of_rule(0.6, scores, parts[3]).mean() == pytest.approx(losses.min(), rel=1e-9)
    fewer = clone(TREES).set_params(n_estimators=model.n_iter_)
    as_many = MGCEBoostingClassifier(fewer, 0.6, n_iter_no_change=None).fit(parts[0], parts[2])
    np.testing.assert_allclose(as_many.decision_function(parts[1]), scores, atol=1e-9)


def test_a_share_is_held_out_by_class(data):
    X, y = data[0], noisy(data[1])
    weight = np.random.default_rng(0).uniform(size=len(y))
    model = clone(STOPPED).set_params(validation_fraction=0.25).fit(X, y, weight)
    parts = train_test_split(
        X, y, weight, test_size=int(np.ceil(len(y) / 4)), stratify=y, random_state=0
    )
    given = clone(STOPPED).fit(*parts[::2], *parts[1::2])
    np.testing.assert_array_equal(model.validation_loss_, given.validation_loss_)
    np.testing.assert_array_equal(model.decision_function(X), given.decision_function(X))


def test_the_least_share_is_a_row_of_each_class():
    X, y = np.arange(60.0)[:, np.newaxis], np.repeat(np.arange(20), 3)
    model = clone(STOPPED).set_params(validation_fraction=0.01).fit(X, y)
    assert np.isfinite(model.validation_loss_).all()


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0}])
def test_class_weights_multiply_those_of_rows_held_out_ones_included(class_weight, data):
    X, y = data[0], noisy(data[1])
    parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    weighted = clone(STOPPED).set_params(class_weight=class_weight)
    weighted.fit(parts[0], parts[2], X_val=parts[1], y_val=parts[3])
    if class_weight == "balanced":
        class_weight = dict(enumerate(len(parts[2]) / (y.max() + 1) / np.bincount(parts[2])))
    weights = [compute_sample_weight({1: 1.0, 2: 1.0, **class_weight}, each) for each in parts[2:]]
    by_rows = clone(STOPPED).fit(parts[0], parts[2], weights[0], parts[1], parts[3], weights[1])
    np.testing.assert_allclose(weighted.validation_loss_, by_rows.validation_loss_, rtol=1e-6)
    unweighted = clone(STOPPED).fit(parts[0], parts[2], X_val=parts[1], y_val=parts[3])
    assert unweighted.validation_loss_[0] != pytest.approx(weighted.validation_loss_[0], rel=1e-3)


# --- among other estimators -------------------------------------------------------------


def test_it_pickles(data):
    X, y = data
    model = clone(STOPPED).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    for method in METHODS:
        np.testing.assert_array_equal(getattr(copy, method)(X), getattr(model, method)(X))
    np.testing.assert_array_equal(copy.fit(X, y).decision_function(X), model.decision_function(X))


def test_temperatures_go_through_its_link(data):
    X, y = data[0], noisy(data[1])
    model = clone(UNSTOPPED).set_params(q=0.8).fit(X[::2], y[::2])
    scaled = TemperatureScaling(FrozenEstimator(model)).fit(X[1::2], y[1::2])
    margins = wide(model.decision_function(X)) / scaled.temperature_
    np.testing.assert_allclose(scaled.predict_proba(X), reference.rule(margins, 0.8), atol=1e-9)


def test_a_search_reaches_the_trees(wine):
    X, y = wine
    grid = {"q": [0.5, 1.0], "estimator__num_leaves": [2, 4]}
    search = GridSearchCV(STOPPED, grid, cv=2).fit(X, y)
    best = search.best_estimator_
    assert best.estimator_.num_leaves == search.best_params_["estimator__num_leaves"]


def test_frames_bring_categories_missing_values_and_names():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    color, size = rng.integers(4, size=200), rng.normal(size=200)
    y = np.isin(color, [0, 2])  # no threshold on the codes tells this apart
    size[::7] = np.nan
    names = pandas.Categorical.from_codes(color, list("dacb"))
    X = pandas.DataFrame({"color": names, "size": size})
    stump = clone(TREES).set_params(
        num_leaves=2, n_estimators=1, min_data_per_group=1, cat_smooth=0
    )
    model = MGCEBoostingClassifier(stump, n_iter_no_change=None).fit(X, y)
    assert model.score(X, y) == 1.0
    assert model.feature_names_in_.tolist() == ["color", "size"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["size", "color"]])


def test_defaults_learn(wine, monkeypatch):
    monkeypatch.setattr(boosting, "N_ROUNDS", 20)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # threads of LightGBM
    model = MGCEBoostingClassifier(random_state=0)
    assert model.fit(*wine).score(*wine) > 0.9


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"q": 2}, ValueError, "q must be a number in"),
        ({"estimator": DecisionTreeClassifier()}, TypeError, "an LGBMClassifier or None; got Dec"),
        (
            {"estimator": lightgbm.LGBMClassifier(objective="multiclass")},
            ValueError,
            "must not have an objective.*got 'multiclass'",
        ),
        ({"validation_fraction": 0.7}, ValueError, r"a fraction in \(0, 0.5\].*; got 0.7"),
        ({"n_iter_no_change": 0}, ValueError, "a positive integer, or None"),
        ({"class_weight": "even"}, ValueError, "class_weight must be a dict .* got 'even'"),
    ],
)
def test_bad_parameters_get_one_sentence_and_lose_nothing(params, error, message, wine):
    model = clone(STOPPED).fit(*wine)
    before = model.predict_proba(wine[0])
    with pytest.raises(error, match=message):
        model.set_params(**params).fit(wine[0][:, :3], wine[1])
    np.testing.assert_array_equal(model.predict_proba(wine[0]), before)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ({"X_val": [[0.0]]}, "given together, or neither; got X_val alone"),
        ({"y_val": [0]}, "given together, or neither; got y_val alone"),
        ({"sample_weight_val": [1.0]}, "sample_weight_val must be None if X_val is None"),
        ({"X_val": [[0.0]], "y_val": [7]}, "row 0 has 7"),
        ({"X_val": [[0.0, 1.0]], "y_val": [1]}, "2 features, but .* expecting 1"),
        ({"X_val": [[0.0]], "y_val": [1], "sample_weight_val": [-1]}, "sample_weight_val must be"),
    ],
)
def test_bad_held_out_rows_get_one_sentence(held_out, message):
    X, y = np.arange(10.0)[:, np.newaxis], np.arange(10) % 2
    with pytest.raises(ValueError, match=message):
        clone(STOPPED).fit(X, y, **held_out)


def test_held_out_rows_without_use_are_refused():
    X, y = np.arange(10.0)[:, np.newaxis], np.arange(10) % 2
    with pytest.raises(ValueError, match="n_iter_no_change must be a positive integer if X_val"):
        clone(UNSTOPPED).fit(X, y, X_val=X, y_val=y)


def test_a_class_of_one_row_cannot_be_held_out():
    X, y = np.arange(10.0)[:, np.newaxis], np.array(["a"] * 9 + ["b"])
    with pytest.raises(ValueError, match=r"at least 2 rows of every class.* got 1 of 'b'"):
        clone(STOPPED).fit(X, y)
    assert clone(UNSTOPPED).fit(X, y).classes_.tolist() == ["a", "b"]


@pytest.mark.parametrize("model", [UNSTOPPED, STOPPED])
def test_a_forest_of_stumps_without_a_split_is_told(model):
    X, y = np.ones((10, 2)), np.arange(10) % 2
    with pytest.warns(UserWarning, match="No tree could be split.*min_child_samples=1 rows"):
        model = clone(model).fit(X, y)
    assert (model.predict_proba(X) == 0.5).all()


def test_weightless_held_out_rows_are_refused():
    X, y = np.arange(20.0)[:, np.newaxis], np.arange(20) % 2
    weight = np.zeros(20)
    weight[:2] = 1.0
    with pytest.raises(ValueError, match="sample_weight of the held-out rows is zero for every"):
        clone(STOPPED).set_params(random_state=1).fit(X, y, weight)
