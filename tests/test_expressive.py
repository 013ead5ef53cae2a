"""Random hidden units, thresholds of columns, and the feature maps that have names."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from mgce_sklearn import (
    MGCEClassifier,
    MGCEClassifierCV,
    RandomReLUFeatures,
    ThresholdFeatures,
    expressive,
)
from mgce_sklearn.expressive import NAMED, named_map

X, Y = load_wine(return_X_y=True)
RELU = RandomReLUFeatures(20, random_state=0)
TAKING_SPARSE = ("relu", "fourier")


IN_PORTIONS = "a map that is fitted takes no portions of rows"
ALIKE = "maps are fitted to all rows alike"
RAW = "X with a map may be anything that has a length"
WITH_A_MAP = {
    "check_fit_score_takes_y": IN_PORTIONS,
    "check_n_features_in_after_fitting": IN_PORTIONS,
    "check_estimators_partial_fit_n_features": IN_PORTIONS,
    "check_sample_weight_equivalence_on_dense_data": ALIKE,
    "check_sample_weight_equivalence_on_sparse_data": ALIKE,
    "check_sample_weights_not_an_array": RAW,
    "check_classifier_data_not_an_array": RAW,
    "check_fit2d_predict1d": RAW,
}


@parametrize_with_checks(
    [
        RandomReLUFeatures(20),
        ThresholdFeatures(),
        MGCEClassifier(feature_map="relu", random_state=0),
    ],
    expected_failed_checks=lambda estimator: WITH_A_MAP if hasattr(estimator, "q") else {},
)
def test_scikit_learn_conventions(estimator, check, few):
    check(estimator)


@pytest.fixture
def few(monkeypatch):
    """A few random features in named maps, so that fits are fast."""
    monkeypatch.setattr(expressive, "N_COMPONENTS", 30)


def classifier(feature_map, **settings):
    return MGCEClassifier(feature_map=feature_map, random_state=0, **{"tol": 1e-7, **settings})


# Random units.


def test_units_are_the_formula_written_out():
    fitted = clone(RELU).fit(X)
    for row, units in zip(X[:5], fitted.transform(X[:5]), strict=True):
        for j, unit in enumerate(units):
            margin = sum(row[i] * fitted.directions_[i, j] for i in range(13)) + fitted.biases_[j]
            assert unit == pytest.approx(max(0.0, margin), rel=1e-12, abs=1e-12)
    sparse = fitted.transform(sp.csr_array(X))
    assert isinstance(sparse, np.ndarray)
    np.testing.assert_allclose(sparse, fitted.transform(X), rtol=1e-12, atol=1e-10)


def test_weights_are_uniform_on_the_sphere():
    fitted = RandomReLUFeatures(20_000, random_state=0).fit(X[:, :3])
    weights = np.vstack([fitted.directions_, fitted.biases_])
    np.testing.assert_allclose((weights**2).sum(axis=0), 1.0)
    np.testing.assert_allclose(weights.mean(axis=1), 0.0, atol=0.02)
    np.testing.assert_allclose(weights @ weights.T / 20_000, np.eye(4) / 4, atol=0.01)
    # The square of a coordinate on the sphere in four dimensions has variance 1/16.
    np.testing.assert_allclose((weights**2).var(axis=1), 1 / 16, atol=0.003)


def test_units_are_drawn_by_the_seed():
    first, again = (clone(RELU).fit_transform(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, RandomReLUFeatures(20, random_state=1).fit_transform(X))
    assert RELU.fit(X).get_feature_names_out()[-1] == "randomrelufeatures19"


@pytest.mark.parametrize("transformer", [RELU, ThresholdFeatures()])
def test_precision_of_rows_is_that_of_features(transformer):
    fitted = clone(transformer).fit(X, Y)
    single = fitted.transform(X.astype(np.float32))
    assert fitted.transform(X).dtype == np.float64
    assert single.dtype == clone(transformer).fit_transform(X.astype(np.float32), Y).dtype
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, fitted.transform(X), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("transformer", "error", "words"),
    [
        (RandomReLUFeatures(0), ValueError, "n_components must be a positive integer; got 0"),
        (RandomReLUFeatures(1.5), TypeError, "n_components must be a positive integer; got 1.5"),
        (ThresholdFeatures(0), ValueError, "max_thresholds must be a positive integer; got 0"),
        (ThresholdFeatures(min_samples_leaf=0.1), TypeError, "min_samples_leaf must be a positive"),
    ],
)
def test_bad_parameters(transformer, error, words):
    with pytest.raises(error, match=words):
        transformer.fit(X, Y)
    assert not hasattr(transformer, "n_features_in_")


# Thresholds.


def test_thresholds_are_those_of_trees_of_single_columns():
    fitted = ThresholdFeatures(4, min_samples_leaf=7).fit(X, Y)
    for j in range(13):
        tree = DecisionTreeClassifier(max_leaf_nodes=5, min_samples_leaf=7).fit(X[:, [j]], Y).tree_
        expected = np.sort(tree.threshold[tree.children_left >= 0])
        np.testing.assert_allclose(fitted.thresholds_[fitted.columns_ == j], expected, rtol=1e-6)
    expected = [X[:, j] <= t for j, t in zip(fitted.columns_, fitted.thresholds_, strict=True)]
    np.testing.assert_array_equal(fitted.transform(X), np.transpose(expected))
    assert fitted.transform(X).shape == (178, len(fitted.get_feature_names_out()))


@pytest.mark.parametrize(
    "change",
    [
        lambda column: 1e-200 * column,
        lambda column: column + 2.0**30,  # in float32 all of them would be one
        np.exp,
    ],
)
def test_increasing_transformations_leave_features_alone(change):
    columns = load_iris().data
    labels = load_iris().target
    plain = ThresholdFeatures().fit_transform(columns, labels)
    np.testing.assert_array_equal(ThresholdFeatures().fit_transform(change(columns), labels), plain)


def test_a_threshold_between_neighbors_in_floating_point_tells_them_apart():
    low, high = 1.0, np.nextafter(1.0, 2.0)
    for a, b in ((low, high), (-high, -low)):
        column = np.repeat([a, b], 6)[:, np.newaxis]
        features = ThresholdFeatures().fit_transform(column, np.repeat([0, 1], 6))
        np.testing.assert_array_equal(features[:, 0], np.repeat([1.0, 0.0], 6))


def test_columns_without_a_place_to_split_have_no_thresholds():
    rows = np.column_stack([np.ones(12), np.repeat([0.0, 1.0], 6), np.repeat([0.0, 1.0], [4, 8])])
    fitted = ThresholdFeatures().fit(rows, np.repeat(["a", "b"], 6))
    assert fitted.get_feature_names_out().tolist() == ["x1<=0.5"]
    assert fitted.get_feature_names_out(["p", "q", "r"]).tolist() == ["q<=0.5"]
    assert ThresholdFeatures().fit_transform(rows[:, :1], np.repeat([0, 1], 6)).shape == (12, 0)


# Maps by name.


@pytest.mark.parametrize("name", NAMED)
def test_a_fit_is_free_of_units_and_offsets(name, few):
    units, offsets = np.geomspace(1e-6, 1e6, 13), np.linspace(-20.0, 20.0, 13) * X.std(axis=0)
    plain = classifier(name).fit(X, Y)
    moved = classifier(name).fit(units * (X + offsets), Y)
    proba = plain.predict_proba(X)
    np.testing.assert_allclose(moved.predict_proba(units * (X + offsets)), proba, atol=1e-5)
    assert moved.minimax_risk_ == pytest.approx(plain.minimax_risk_, rel=1e-6)
    assert plain.coef_.shape[1] == len(plain.feature_map_.get_feature_names_out()) > 13 + 20


@pytest.mark.parametrize("name", NAMED)
def test_columns_come_first_and_features_of_standardized_ones_follow(name, few):
    rows = X * np.geomspace(1e-6, 1e6, 13)
    features = named_map(name, rows, 0).fit_transform(rows, Y)
    np.testing.assert_array_equal(features[:, :13], rows)
    names = classifier(name).fit(rows, Y).feature_map_.get_feature_names_out()
    assert names[:2].tolist() == ["columns__x0", "columns__x1"]
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    beside = {
        "relu": RandomReLUFeatures(30, random_state=0),
        "fourier": expressive.RBFSampler(gamma=1 / 13, n_components=30, random_state=0),
        "threshold": ThresholdFeatures(),
    }[name]
    expected = beside.fit_transform(rows if name == "threshold" else standard, Y)
    np.testing.assert_allclose(features[:, 13:], expected, atol=1e-10)


def test_columns_that_do_not_vary_leave_the_kernel_alone():
    padded = np.column_stack([X, np.full((178, 13), 7.0)])
    for rows in (X, padded):
        waves = named_map("fourier", rows, 0).fit(rows)[-1].transformer_list[-1][1][-1]
        assert waves.random_weights_.std() == pytest.approx(np.sqrt(2 / 13), rel=0.02)


@pytest.mark.parametrize("name", TAKING_SPARSE)
def test_sparse_rows_are_scaled_and_not_centered(name, few):
    counts = np.round(X / X.std(axis=0)) * (np.random.default_rng(0).random(X.shape) < 0.3)
    fitted = classifier(name).fit(sp.coo_array(counts), Y)
    features = fitted.feature_map_.transform(sp.csr_array(counts))
    assert sp.issparse(features)
    np.testing.assert_array_equal(features[:, :13].toarray(), counts)
    np.testing.assert_allclose(
        fitted.predict_proba(sp.csc_array(counts)), fitted.predict_proba(counts), atol=1e-12
    )
    units = np.geomspace(1e-3, 1e3, 13)
    scaled = classifier(name).fit(sp.csr_array(counts * units), Y)
    proba = scaled.predict_proba(counts * units)
    np.testing.assert_allclose(proba, fitted.predict_proba(counts), atol=1e-5)


@pytest.mark.parametrize("name", NAMED)
def test_maps_of_dense_rows_take_no_sparse_ones(name, few):
    fitted = classifier(name, tol=1e-2).fit(X, Y)
    with pytest.raises(TypeError, match="Sparse data was passed for X, but dense data is required"):
        fitted.predict(sp.csr_array(X))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_are_refused_as_without_a_map(name, bad, few):
    rows = X.copy()
    rows[3, 2] = bad
    with pytest.raises(ValueError) as without:
        MGCEClassifier().fit(rows, Y)
    model = classifier(name, tol=1e-2)
    for call in (lambda: model.fit(rows, Y), lambda: model.fit(X, Y).predict(rows)):
        with pytest.raises(ValueError) as refused:
            call()
        assert str(refused.value) == str(without.value)


@pytest.mark.parametrize("name", NAMED)
def test_far_numbers_are_refused_as_without_a_map(name, few):
    with pytest.raises(ValueError, match=r"X must have columns up to 1e\+150 in size"):
        classifier(name).fit(X * 1e200, Y)


@pytest.mark.parametrize("name", NAMED)
def test_a_single_column_and_columns_that_do_not_vary(name, few):
    rows = np.column_stack([X[:, 12], np.ones(178)])
    scores = [
        classifier(name, tol=1e-4).fit(part, Y).score(part, Y) for part in (rows[:, :1], rows)
    ]
    assert min(scores) > MGCEClassifier().fit(rows, Y).score(rows, Y) > 0.6


@pytest.mark.parametrize("name", NAMED)
def test_frames_lists_and_single_precision(name, few):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(13)])
    fitted = classifier(name, tol=1e-4).fit(frame, Y)
    names = fitted.feature_map_.get_feature_names_out()
    assert names[0] == "columns__c0"
    assert name != "threshold" or names[-1].startswith("threshold__c12<=")
    assert fitted.feature_names_in_[12] == "c12"
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame.rename(columns={"c0": "other"}))
    proba = fitted.predict_proba(frame)
    plain = classifier(name, tol=1e-4).fit(X, Y)
    listed = classifier(name, tol=1e-4).fit(X.tolist(), Y.tolist())
    np.testing.assert_array_equal(listed.predict_proba(X.tolist()), plain.predict_proba(X))
    np.testing.assert_allclose(plain.predict_proba(X), proba, atol=1e-9)
    with config_context(transform_output="pandas"):
        framed = classifier(name, tol=1e-4).fit(frame, Y)
        np.testing.assert_allclose(framed.predict_proba(frame), proba, atol=1e-9)
    single = classifier(name, tol=1e-4).fit(X.astype(np.float32), Y)
    assert single.feature_map_.transform(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(single.predict_proba(X.astype(np.float32)), proba, atol=0.01)


@pytest.mark.parametrize("name", TAKING_SPARSE)
def test_seed_of_the_classifier_draws_the_features(name, few):
    first, again, other, left = (
        MGCEClassifier(tol=1e-2, feature_map=name, random_state=seed).fit(X, Y).coef_
        for seed in (0, 0, 1, None)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, left)


def test_tensors_are_brought_to_the_host(few):
    torch = pytest.importorskip("torch")
    rows = torch.tensor(X, requires_grad=True)
    fitted = classifier("relu", tol=1e-4).fit(rows, torch.tensor(Y))
    proba = fitted.predict_proba(rows)
    assert isinstance(proba, np.ndarray)
    np.testing.assert_array_equal(proba, classifier("relu", tol=1e-4).fit(X, Y).predict_proba(X))


def test_portions_are_refused_a_map_that_is_fitted():
    with pytest.raises(ValueError, match="None or a function of rows for partial_fit; got 'relu'"):
        classifier("relu").partial_fit(X, Y, classes=[0, 1, 2])


@pytest.mark.parametrize("estimator", [MGCEClassifier, MGCEClassifierCV])
def test_unknown_names_are_told_the_known_ones(estimator):
    words = "feature_map must be 'relu', 'fourier', 'threshold', a transformer.*got 'rely'"
    with pytest.raises(ValueError, match=words):
        estimator(feature_map="rely").fit(X, Y)


@pytest.mark.parametrize("name", NAMED)
def test_searches_take_names(name, few):
    grid, settings = [0.1, 1.0], {"feature_map": name, "tol": 1e-5, "random_state": 0}
    ours = MGCEClassifierCV([0.3], grid, cv=3, certify_scores=True, **settings).fit(X, Y)
    theirs = GridSearchCV(MGCEClassifier(0.3, **settings), {"lam": grid}, cv=3).fit(X, Y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=0.006
    )
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert clone(ours).feature_map == name


def test_names_can_be_searched():
    rows = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    search = GridSearchCV(
        MGCEClassifier(tol=1e-2, random_state=0), {"feature_map": [None, "threshold"]}, cv=2
    ).fit(rows, (abs(rows) > 0.5).sum(axis=1))
    assert search.best_params_ == {"feature_map": "threshold"}
    assert search.best_score_ > 0.9


def test_the_default_is_500_features():
    assert RandomReLUFeatures().n_components == 500
    for name in TAKING_SPARSE:
        assert len(named_map(name, X, 0).fit(X, Y).get_feature_names_out()) == 13 + 500
