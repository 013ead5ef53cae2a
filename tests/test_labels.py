"""Labels that are distributions, against copies of rows, formulas written out and other solvers."""

import numpy as np
import pytest
import scipy.sparse as sp
from problems import columns_of, least_cross_entropy
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, ThresholdFeatures, mgce_path
from mgce_sklearn.calibration import TemperatureScaling
from mgce_sklearn.design import Design
from mgce_sklearn.kernels import reference
from mgce_sklearn.labels import HardLabels, SoftLabels
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers.row_moves import moved_by_rows
from mgce_sklearn.uncertainty import Moments

LOADERS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}


def soft(y, seed=0, sure=5):
    """Return distributions near the labels, the first rows sure."""
    rng = np.random.default_rng(seed)
    n_classes = y.max() + 1
    Y = 0.7 * np.eye(n_classes)[y] + 0.3 * rng.dirichlet(np.full(n_classes, 0.3), len(y))
    Y[:sure] = np.eye(n_classes)[y[:sure]]
    return Y


def copies(X, Y, weights):
    """Return a row, a label and a weight for every class that a row may have."""
    rows, codes = np.nonzero(Y)
    return X[rows], codes, weights[rows] * Y[rows, codes]


def moments_of(design, labels, n_classes):
    return Moments.of(RowsInMemory.of(design, labels), n_classes)


def as_given(X, kind):
    if kind == "tensor":
        return pytest.importorskip("torch", reason="needs PyTorch").tensor(X)
    return sp.csr_array(X) if kind == "sparse" else X


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("kind", ["dense", "sparse", "tensor"])
def test_one_hot_distributions_equal_labels(name, kind):
    X, y = LOADERS[name](return_X_y=True)
    X = as_given(X, kind)
    labels = MGCEClassifier(0.7, 0.3).fit(X, y)
    distributions = MGCEClassifier(0.7, 0.3).fit(X, np.eye(y.max() + 1)[y])
    np.testing.assert_allclose(distributions.coef_, labels.coef_, rtol=1e-9, atol=1e-12)
    assert distributions.minimax_risk_ == pytest.approx(labels.minimax_risk_, rel=1e-12)
    assert distributions.score(X, y) == labels.score(X, y)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["dense", "sparse", "tensor"])
@pytest.mark.parametrize("class_weight", [None, {0: 3.0}, "balanced"])
def test_a_distribution_equals_weighted_copies_of_its_row(q, kind, class_weight):
    X, y = load_wine(return_X_y=True)
    X[y == 1, 3] = 20.0  # constant within a class, for those rows that are sure of it
    Y, weights = soft(y), np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    options = {"q": q, "lam": 0.3, "tol": 1e-6, "class_weight": class_weight}
    once = MGCEClassifier(**options).fit(as_given(X, kind), Y, weights)
    rows, codes, row_weights = copies(X, Y, weights)
    often = MGCEClassifier(**options).fit(as_given(rows, kind), codes, row_weights)
    for name in ("tau", "half_width"):
        mine, theirs = (getattr(m.uncertainty_set_, name) for m in (once, often))
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-13)
    assert once.minimax_risk_ == pytest.approx(often.minimax_risk_, rel=1e-6)
    assert once.dual_gap_ <= 1e-6 * once.minimax_risk_


def test_means_and_deviations_are_those_of_draws():
    X, y = load_iris(return_X_y=True)
    Y, weights = soft(y), np.random.default_rng(1).uniform(0.5, 2.0, len(y))
    moments = moments_of(Design(X, weights), SoftLabels(Y.T), 3)
    center = moments.row_mean()
    moments = moments.about(np.append(center[:-1], 0.0))
    x = np.column_stack([X - center[:-1], np.ones(len(X))])
    share = weights / weights.sum()
    tau = np.einsum("i,ik,ij->kj", share, Y, x)
    np.testing.assert_allclose(moments.mean, tau, atol=1e-14)
    square = np.einsum("i,ik,ij->kj", share, Y, x**2)
    np.testing.assert_allclose(moments.variance(), square - tau**2, atol=1e-13)
    assert moments.n_rows == len(X)  # every row counts once
    assert moments.total_weight == pytest.approx(weights.sum())


def test_the_optimum_is_another_solvers():
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    model = MGCEClassifier(0.0, 0.5, tol=1e-8).fit(X, Y)
    uncertainty = model.uncertainty_set_
    x = np.column_stack([X, np.ones(len(X))]) - uncertainty.center
    np.testing.assert_allclose(uncertainty.tau, Y.T @ x / len(x), atol=1e-12)
    best = least_cross_entropy(x, uncertainty)
    assert model.minimax_risk_ == pytest.approx(best, abs=1e-6)
    assert best >= model.minimax_risk_ - model.dual_gap_ - 1e-9


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_no_value_is_below_the_entropy_of_the_labels(q):
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    problem = Problem.from_labels(X, MGCEClassifier()._read(X, Y, reset=True)[1])
    objective = problem.objective(q, 0.1)
    entropy = reference.entropy(Y, q).mean()
    assert objective.least_value == pytest.approx(entropy)
    assert objective.least_value > 0.05
    assert objective.dual_point(columns_of(objective, Y.T)).value == pytest.approx(entropy)


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd"])
def test_every_solver_closes_the_gap(solver):
    X, y = load_wine(return_X_y=True)
    model = MGCEClassifier(0.5, 1.0, solver=solver, tol=1e-3).fit(X, soft(y))
    assert model.dual_gap_ <= 1e-3 * model.minimax_risk_


def test_sparse_rows_are_moved_toward_distributions():
    """A row at a time: the point is feasible, and no worse than one share for all rows."""
    rng = np.random.default_rng(0)
    X = sp.csr_array(np.where(rng.random((200, 300)) < 0.02, rng.random((200, 300)), 0.0))
    Y = rng.dirichlet(np.ones(3), 200)
    problem = Problem.from_labels(X, MGCEClassifier()._read(X, Y, reset=True)[1])
    objective = problem.objective(0.5, 0.3)
    proba = columns_of(objective, np.full((3, 200), 1.0 / 3.0))
    plain = objective.dual_point(proba)
    moved = objective.dual_point(moved_by_rows(objective, proba))
    assert plain.value < moved.value
    assert moved.shrink > 0.9


def test_a_frames_columns_are_the_classes():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    frame = pd.DataFrame(Y[:, [2, 0, 1]], columns=["c", "a", "b"])
    model = MGCEClassifier().fit(X, frame)
    assert model.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(model.coef_, MGCEClassifier().fit(X, Y).coef_, rtol=1e-9)
    predicted = model.predict(X)
    expected = np.mean([frame[label][i] for i, label in enumerate(predicted)])
    assert model.score(X, frame) == pytest.approx(expected)
    with pytest.raises(ValueError, match="the columns of y must be different labels"):
        MGCEClassifier().fit(X, frame.set_axis(["a", "a", "b"], axis=1))


def test_score_is_expected_accuracy():
    X, y = load_iris(return_X_y=True)
    Y, weights = soft(y), np.random.default_rng(0).uniform(size=len(y))
    model = MGCEClassifier().fit(X, Y)
    right = Y[np.arange(len(y)), model.predict(X)]
    assert model.score(X, Y) == pytest.approx(right.mean())
    assert model.score(X, Y, weights) == pytest.approx(weights @ right / weights.sum())


def test_searches_take_distributions():
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    grid = GridSearchCV(
        MGCEClassifier(), {"q": [0.0, 1.0]}, cv=KFold(3, shuffle=True, random_state=0)
    )
    assert 0.5 < grid.fit(X, Y).best_score_ < 0.9
    search = MGCEClassifierCV([0.5], [0.1], cv=3, certify_scores=True).fit(X, Y)
    folds = search.cv_results_["split0_test_score"], search.cv_results_["split1_test_score"]
    splits = list(StratifiedKFold(3).split(X, Y.argmax(axis=1)))
    for score, (train, test) in zip(folds, splits, strict=False):
        expected = MGCEClassifier(0.5, 0.1).fit(X[train], Y[train]).score(X[test], Y[test])
        assert score[0] == pytest.approx(expected, abs=1e-12)
    assert search.score(X, y) > 0.8
    with pytest.raises(ValueError, match="scoring must be None if y is distributions"):
        MGCEClassifierCV(scoring="neg_log_loss").fit(X, Y)
    path = mgce_path(X, Y, [0.5], [0.3])
    assert path.minimax_risks[0, 0] == pytest.approx(
        MGCEClassifier(0.5, 0.3).fit(X, Y).minimax_risk_, rel=1e-4
    )
    assert np.isfinite(cross_val_score(MGCEClassifier(), X, Y, cv=3)).all()


def test_portions_count_as_one_sample():
    X, y = load_wine(return_X_y=True)
    Y = soft(y)
    model = MGCEClassifier(lam=0.1).partial_fit(X[::2], Y[::2], classes=[0, 1, 2])
    model.partial_fit(X[1::2], Y[1::2])
    whole = MGCEClassifier(lam=0.1).fit(X, Y)
    for name in ("tau", "half_width"):
        mine, theirs = (getattr(m.uncertainty_set_, name) for m in (model, whole))
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-14)
    value, gap = whole.certificate(X, Y)
    assert value == pytest.approx(whole.minimax_risk_)
    assert gap <= 1e-3
    named = MGCEClassifier().partial_fit(X[::2], Y[::2], classes=["a", "b", "c"])
    assert named.score(X, Y) == pytest.approx(
        MGCEClassifier().partial_fit(X[::2], Y[::2], classes=[0, 1, 2]).score(X, Y)
    )
    with pytest.raises(ValueError, match="y must have a column for each class"):
        MGCEClassifier().partial_fit(X, Y, classes=["a", "b"])


def test_a_step_of_a_stream_is_that_of_copies():
    X, y = load_iris(return_X_y=True)
    Y = soft(y)[:60:10]
    rows, codes, weights = copies(X[:60:10], Y, np.ones(6))
    once = MGCEClassifier(lam=1e-6).partial_fit(X[:60:10], Y, classes=[0, 1, 2])
    often = MGCEClassifier(lam=1e-6).partial_fit(rows, codes, [0, 1, 2], weights)
    np.testing.assert_allclose(once.coef_, often.coef_, rtol=1e-9, atol=1e-12)


def test_maps_fitted_to_labels_see_the_most_probable():
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    model = MGCEClassifier(feature_map=ThresholdFeatures()).fit(X, Y)
    expected = ThresholdFeatures().fit(X, Y.argmax(axis=1))
    np.testing.assert_array_equal(model.feature_map_.transform(X), expected.transform(X))


def test_a_column_is_labels():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = MGCEClassifier().fit(X, y[:, None])
    np.testing.assert_array_equal(model.coef_, MGCEClassifier().fit(X, y).coef_)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda Y: 2 * Y, r"row 0 has \[2\.0, 0\.0, 0\.0\], which sum to 2\. Divide"),
        (lambda Y: np.where(np.arange(150)[:, None] == 7, np.nan, Y), "row 7 has"),
        (lambda Y: Y * [[1.0, 1.0, -1.0]], "row .* has"),
        (lambda Y: Y[:-1], "a distribution for each row of X, 150; got 149"),
        (lambda Y: np.eye(3)[np.zeros(150, int)], "at least 2 classes"),
        (lambda Y: Y * (1.0 + 2e-6), "sum to 1"),
    ],
)
def test_what_is_no_distribution_gets_a_sentence(change, words):
    X, y = load_iris(return_X_y=True)
    model = MGCEClassifier().fit(X, y)
    before = model.coef_
    with pytest.raises(ValueError, match=words):
        model.fit(X, change(soft(y)))
    assert model.coef_ is before


def test_sums_within_rounding_of_one_are_distributions():
    X, y = load_iris(return_X_y=True)
    Y = soft(y)
    rounded = MGCEClassifier().fit(X, Y * (1.0 + 5e-7))
    np.testing.assert_allclose(rounded.coef_, MGCEClassifier().fit(X, Y).coef_, rtol=1e-6)


def test_temperatures_ask_for_labels():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="y must be"):
        TemperatureScaling(MGCEClassifier()).fit(X, soft(y))


def test_labels_of_rows_by_position():
    labels = SoftLabels(np.array([[0.2, 1.0, 0.0], [0.8, 0.0, 1.0]]))
    assert labels.take(np.array([2, 0])).proba.tolist() == [[0.0, 0.2], [1.0, 0.8]]
    assert labels.share(1).tolist() == [0.8, 0.0, 1.0]
    positions, codes, shares = labels.take(slice(0, 2)).copies()
    assert positions.tolist() == [0, 0, 1]
    assert codes.tolist() == [0, 1, 0]
    assert shares.tolist() == [0.2, 0.8, 1.0]
    present, rows = labels.first_rows()
    assert (present.tolist(), rows.tolist()) == ([0, 1], [0, 0])
    columns = np.zeros((2, 3))
    certain = HardLabels(np.array([1, 1, 0]))
    certain.add_to(columns, np.array([1.0, 2.0, 3.0]))
    assert columns.tolist() == [[0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]
    part = certain.take(slice(1, 3))
    part.add_to(columns[:, 1:], 2.0)
    assert columns.tolist() == [[0.0, 0.0, 5.0], [1.0, 4.0, 0.0]]
    assert part.share(0).tolist() == [False, True]
    labels.take(slice(1, 3)).add_to(columns[:, 1:], np.array([10.0, 20.0]))
    assert columns.tolist() == [[0.0, 10.0, 5.0], [1.0, 4.0, 20.0]]


@pytest.mark.parametrize("q", [0.0, 0.7])
def test_base_margins_of_distributions_are_those_of_copies(q):
    X, y = load_wine(return_X_y=True)
    Y, weights = soft(y), np.ones(len(y))
    base = np.random.default_rng(2).normal(size=Y.shape)
    rows, codes, row_weights = copies(np.column_stack([X, base]), Y, weights)
    once = MGCEClassifier(q, 0.3, tol=1e-6).fit(X, Y, base_margin=base)
    often = MGCEClassifier(q, 0.3, tol=1e-6)
    often.fit(rows[:, :13], codes, row_weights, base_margin=rows[:, 13:])
    assert once.minimax_risk_ == pytest.approx(often.minimax_risk_, rel=1e-6)
    assert once.dual_gap_ <= 1e-6 * once.minimax_risk_
    plain = MGCEClassifier(q, 0.3).fit(X, Y)
    assert abs(once.minimax_risk_ - plain.minimax_risk_) > 1e-3
    assert once.score(X, Y, base_margin=base) < plain.score(X, Y) + 0.05


def test_a_constant_of_a_class_is_looked_for_in_the_rows_that_may_have_it():
    """The first row has another number, and is of another class for sure."""
    X, y = load_wine(return_X_y=True)
    X[y == 1, 3] = 20.0
    Y = np.eye(3)[y]
    mixed = np.flatnonzero(y != 1)[::3]
    Y[mixed] = [0.6, 0.0, 0.4]
    rows, codes, weights = copies(X, Y, np.ones(len(y)))
    once = moments_of(Design(X, np.ones(len(y))), SoftLabels(Y.T), 3)
    often = moments_of(Design(rows, weights), HardLabels(codes), 3)
    assert once.constant[1, 3] == 20.0
    np.testing.assert_array_equal(np.isnan(once.constant), np.isnan(often.constant))
    np.testing.assert_allclose(once.deviation(), often.deviation(), rtol=1e-10)
