"""mgce_path: every point is the separate fit's, certified, and cheaper."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load, make_objective
from sklearn.exceptions import ConvergenceWarning

from mgce_sklearn import MGCEClassifier, lam_max, mgce_path
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.path import solve_path, widest_first
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers.settings import Settings
from mgce_sklearn.uncertainty import UncertaintySet

QS, LAMS = (0.7, 0.0, 1.0), (0.1, 1.0, 0.03, 0.3)


@pytest.fixture(scope="module")
def wine():
    return load("wine")


@pytest.fixture(scope="module")
def cancer():
    return load("breast_cancer")


@pytest.mark.parametrize("data", ["wine", "cancer"])
def test_every_point_is_the_separate_fit(data, request):
    X, y = request.getfixturevalue(data)
    path = mgce_path(X, y, QS, LAMS, tol=1e-6)
    np.testing.assert_array_equal(path.qs, QS)
    np.testing.assert_array_equal(path.lams, LAMS)
    assert path.converged.all()
    assert (path.dual_gaps >= 0).all()
    assert (path.dual_gaps <= 1e-6 * path.minimax_risks).all()
    for i, q in enumerate(QS):
        for j, lam in enumerate(LAMS):
            fit = MGCEClassifier(q, lam, tol=1e-6).fit(X, y)
            gap = path.dual_gaps[i, j] + fit.dual_gap_
            assert abs(path.minimax_risks[i, j] - fit.minimax_risk_) <= gap
            assert path.coefs[i, j].shape == fit.coef_.shape
            assert path.intercepts[i, j].shape == fit.intercept_.shape
            margins = X @ path.coefs[i, j].T + path.intercepts[i, j]
            ours = margins.ravel() if margins.shape[1] == 1 else margins
            if q < 1.0:  # at q = 1 a linear program, whose solution need not be unique
                np.testing.assert_allclose(ours, fit.decision_function(X), atol=0.05)
    np.testing.assert_array_equal(path.classes, fit.classes_)


def test_risks_are_those_of_the_coefficients_and_grow_with_lam(cancer):
    X, y = cancer
    path = mgce_path(X, y, QS, LAMS)
    for i, q in enumerate(QS):
        for j, lam in enumerate(LAMS):
            coef = np.column_stack([path.coefs[i, j], path.intercepts[i, j]])
            value = make_objective(X, y, q, lam).value(coef)
            assert path.minimax_risks[i, j] == pytest.approx(value, rel=1e-10)
    by_width = path.minimax_risks[:, np.argsort(LAMS)]
    assert (np.diff(by_width, axis=1) > 0).all()


def test_a_path_takes_fewer_iterations_than_separate_fits(cancer):
    X, y = cancer
    lams = np.geomspace(1.0, 0.1, 8)
    path = mgce_path(X, y, [0.7], lams)
    alone = [MGCEClassifier(0.7, lam).fit(X, y).n_iter_ for lam in lams]
    assert path.n_iters[0, 0] == alone[0]
    assert path.n_iters.sum() < 0.9 * sum(alone)
    assert (path.seconds > 0).all()


def test_order_of_the_widths_does_not_matter(wine):
    X, y = wine
    path = mgce_path(X, y, [0.5], LAMS)
    backwards = mgce_path(X, y, [0.5], LAMS[::-1])
    np.testing.assert_array_equal(path.minimax_risks, backwards.minimax_risks[:, ::-1])
    np.testing.assert_array_equal(path.n_iters, backwards.n_iters[:, ::-1])


def test_widths_are_taken_from_the_largest():
    lams = np.array([0.2, 0.5, 0.1, 0.4, 0.3, 0.3])
    assert widest_first(lams).tolist() == [1, 3, 4, 5, 0, 2]


@pytest.mark.parametrize("name", ["interior_point", "lbfgs"])
def test_any_order_of_widths_and_equal_ones_may_be_followed(wine, name):
    problem = Problem.from_labels(*wine)
    lams = [0.1, 0.3, 0.3, 0.2, 0.25, 0.1]
    points = list(solve_path(problem, 0.3, lams, Settings(name)))
    assert [point.lam for point in points] == lams
    assert all(point.converged for point in points)
    assert points[1].result.value == pytest.approx(points[2].result.value, rel=1e-4)


def test_weights_labels_and_storage(wine):
    X, y = wine
    names = np.array(["b", "c", "a"])[y]
    weights = np.arange(len(y)) % 3
    settings = {"class_weight": "balanced", "fit_intercept": False}
    path = mgce_path(
        sp.csc_array(X), names, [0.5], [0.1], sample_weight=weights, tol=1e-7, **settings
    )
    rows = np.repeat(np.arange(len(y)), weights)
    fit = MGCEClassifier(lam=0.1, tol=1e-7, **settings).fit(X[rows], names[rows])
    assert path.classes.tolist() == ["a", "b", "c"]
    assert not path.intercepts.any()
    assert path.minimax_risks[0, 0] == pytest.approx(fit.minimax_risk_, rel=2e-7)
    np.testing.assert_allclose(path.coefs[0, 0], fit.coef_, atol=1e-3)


def test_one_warning_names_the_points_that_missed(wine):
    X, y = wine
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = mgce_path(X, y, [0.5, 0.7], [0.3, 0.1], max_iter=3)
    assert not path.converged.all()
    (warning,) = caught
    assert warning.category is ConvergenceWarning
    assert warning.filename == __file__
    for i, q in enumerate([0.5, 0.7]):
        for j, lam in enumerate([0.3, 0.1]):
            named = f"(q={q:g}, lam={lam:g})" in str(warning.message)
            assert named == (not path.converged[i, j])
    exact = mgce_path(X, y, [0.5, 0.7], [0.3, 0.1], tol=1e-7).minimax_risks
    assert (path.minimax_risks - path.dual_gaps <= exact).all()
    assert (exact <= path.minimax_risks).all()


def test_a_widened_set_is_the_set_of_that_width(wine):
    X, y = wine
    design = make_objective(X, y).parts.like
    one = UncertaintySet.from_sample(design, HardLabels(y), 3, 1.0)
    for lam in (0.01, 3.0):
        direct = UncertaintySet.from_sample(design, HardLabels(y), 3, lam)
        np.testing.assert_array_equal(one.widened(lam).tau, direct.tau)
        np.testing.assert_allclose(one.widened(lam).half_width, direct.half_width, rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"qs": []}, ValueError, "qs must have at least one number"),
        ({"lams": ()}, ValueError, "lams must have at least one number"),
        ({"qs": 0.5}, TypeError, "qs must be a sequence of numbers; got 0.5"),
        ({"lams": "0.1"}, TypeError, "lams must be a sequence"),
        ({"qs": [0.5, 1.5]}, ValueError, r"qs\[1\] must be a number in \[0, 1\]"),
        ({"qs": [[0.5]]}, TypeError, r"qs\[0\] must be a number"),
        ({"lams": [0.1, 0.0]}, ValueError, r"lams\[1\] must be a positive"),
        ({"lams": [None]}, TypeError, r"lams\[0\] must be"),
        ({"solver": "newton"}, ValueError, "solver must be one of"),
        ({"tol": -1.0}, ValueError, "tol must be"),
        ({"fit_intercept": 1}, TypeError, "fit_intercept must be True or False"),
        ({"max_iter": 0}, ValueError, "max_iter must be"),
        ({"sample_weight": [1.0]}, ValueError, "one weight per row"),
        ({"y": np.zeros(178)}, ValueError, "at least 2 classes"),
        ({"X": np.full((178, 2), np.nan)}, ValueError, "NaN"),
    ],
)
def test_bad_input(wine, arguments, error, message):
    X, y = wine
    with pytest.raises(error, match=message):
        mgce_path(**{"X": X, "y": y, "qs": [0.5], "lams": [0.1], **arguments})


@pytest.mark.parametrize("data", ["wine", "cancer"])
@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_lam_max_is_where_the_last_coefficient_leaves(data, q, request):
    X, y = request.getfixturevalue(data)
    weights = 1.0 + np.arange(len(y)) % 3
    largest = lam_max(X, y, sample_weight=weights)
    at = [
        MGCEClassifier(q, largest * factor, tol=1e-7).fit(X, y, weights)
        for factor in (0.98, 1.0 + 1e-9)
    ]
    assert at[0].coef_.any() or at[0].intercept_.any()
    assert not at[1].coef_.any()
    assert not at[1].intercept_.any()


def test_lam_max_of_features_that_say_nothing():
    X = np.zeros((10, 2))
    assert lam_max(X, np.arange(10) % 2, fit_intercept=False) == 0.0


def test_chance_is_left_alone_where_nothing_depends_on_it():
    X, y = load("iris")
    state = np.random.RandomState(0)
    mgce_path(X, y, [0.5], [0.1, 0.3], random_state=state)
    assert state.randint(10**9) == np.random.RandomState(0).randint(10**9)
    one, other = (
        mgce_path(X, y, [0.5], [0.3], solver="sgd", tol=1e-2, random_state=seed) for seed in (0, 1)
    )
    assert np.abs(one.coefs - other.coefs).max() > 0.0


def test_a_start_that_leads_nowhere_is_given_up():
    """From the solution at lam = 1 the gap at 0.1 ends at 2e-4; from nothing it closes."""
    X = np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 1.0], [3.0, 2.0], [3.0, 3.0], [3.0, 4.0]])
    path = mgce_path(X, [1, 2, 1, 1, 2, 2], [0.0], [0.1, 1.0])
    assert path.converged.all()
    assert path.dual_gaps[0, 0] <= 1e-4 * path.minimax_risks[0, 0]
