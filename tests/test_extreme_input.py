"""Numbers at the ends of what floats hold: right, or one sentence, and no warning of numpy's."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from mgce_sklearn import MGCEClassifier, mgce_path
from mgce_sklearn.objective import Objective


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def fitted(iris):
    return MGCEClassifier(tol=1e-6).fit(*iris)


@pytest.mark.parametrize("factor", [1e148, 1e-149, 1e37, 1e-40])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_units_that_floats_hold(iris, fitted, factor, dtype, layout):
    X, y = iris
    if dtype is np.float32 and not 1e-45 < factor < 1e38:
        pytest.skip("float32 does not hold such numbers")
    rows = layout((X * factor).astype(dtype))
    clf = MGCEClassifier(tol=1e-6, center=True).fit(rows, y)
    # 1e-40 is below float32's smallest normal number, and has lost some of its digits.
    assert clf.minimax_risk_ == pytest.approx(fitted.minimax_risk_, rel=1e-5)
    assert_allclose(clf.predict_proba(rows), fitted.predict_proba(X), atol=1e-2)
    assert clf.error_bounds(rows).upper == pytest.approx(fitted.error_bounds(X).upper, abs=2e-3)


@pytest.mark.parametrize("change", [1e160, 1e300, 1e-200, 1e-310, "outlier"])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_units_whose_squares_floats_do_not_hold(iris, fitted, change, layout):
    X, y = iris
    X = X.copy()
    if change == "outlier":
        X[17, 2] = 1e200
    else:
        X[:, 2] *= change
    message = r"X must have columns up to 1e\+150 in size, .* column 2 is from .* another unit"
    for method in (
        MGCEClassifier().fit,
        lambda X, y: MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2]),
        lambda X, y: mgce_path(X, y, [0.5], [0.1]),
        fitted.certificate,
        lambda X, y: fitted.error_bounds(X),
    ):
        with pytest.raises(ValueError, match=message):
            method(layout(X), y)


@pytest.mark.parametrize("weight", [2e-302, 1e-290, 1e290, 6e305])
def test_weights_that_floats_add(iris, weight):
    X, y = iris
    weights = np.full(len(y), weight)
    clf = MGCEClassifier(width="std", lam=0.02).fit(X, y, weights)
    one = MGCEClassifier(width="std", lam=0.02).fit(X, y)
    assert clf.minimax_risk_ == pytest.approx(one.minimax_risk_, rel=1e-4)
    assert clf.error_bounds(X, sample_weight=weights).upper < 0.5
    clf, one = (MGCEClassifier(width="std", lam=0.02) for _ in range(2))
    for rows in (slice(0, 150, 2), slice(1, 150, 2)):
        clf.partial_fit(X[rows], y[rows], [0, 1, 2], weights[rows])
        one.partial_fit(X[rows], y[rows], [0, 1, 2])
    assert_allclose(clf.coef_, one.coef_, rtol=1e-9)


@pytest.mark.parametrize("weights", [np.full(150, 1e308), np.full(150, 5e-324)])
def test_weights_whose_sum_floats_do_not_hold(iris, weights):
    X, y = iris
    message = "sample_weight must have a sum from 1e-300 to 1e308, .* by one number"
    for method in (MGCEClassifier().fit, MGCEClassifier().fit(X, y).certificate):
        with pytest.raises(ValueError, match=message):
            method(X, y, sample_weight=weights)


@pytest.mark.parametrize("weight", [1e50, 1e290])
@pytest.mark.parametrize("seed", [0, 5])
def test_more_rows_than_half_widths_can_show(iris, weight, seed):
    """The solver ends where its numbers do, with a gap or without, and what it has is a bound."""
    X, y = iris[0][::2], iris[1][::2]
    weights = weight * np.random.default_rng(seed).uniform(0.1, 3.0, len(y))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "solver=.* ended at a relative duality gap of")
        clf = MGCEClassifier(class_weight="balanced").fit(X, y, weights)
    assert 0.0 <= clf.dual_gap_ <= clf.minimax_risk_ <= (1.0 - 3.0**-0.5) / 0.5
    assert np.isfinite(clf.coef_).all()


@pytest.mark.parametrize(("weight", "factor"), [(1e290, 1e20), (1e300, 1e7), (1e-290, 1e-20)])
def test_class_weights_beyond_what_floats_hold(iris, weight, factor):
    X, y = iris
    clf = MGCEClassifier(class_weight=dict.fromkeys(range(3), factor))
    for method in (clf.fit, lambda X, y, w: clf.partial_fit(X, y, [0, 1, 2], w)):
        with pytest.raises(ValueError, match="sample_weight times class_weight must "):
            method(X, y, np.full(len(y), weight))


def test_weights_over_twenty_four_orders_of_magnitude(iris):
    X, y = iris
    weights = 10.0 ** np.random.default_rng(0).uniform(-12, 12, len(y))
    clf = MGCEClassifier().fit(X, y, weights)
    assert 0.0 <= clf.dual_gap_ <= 1e-4 * clf.minimax_risk_
    found = clf.error_bounds(X, sample_weight=weights)
    error = np.average(clf.predict(X) != y, weights=weights)
    assert found.lower <= error <= found.upper < 1e-3


@pytest.mark.parametrize("lam", [1e-6, 1e-4, 1e4, 1e6])
@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_any_width_has_valid_bounds(iris, lam, q):
    X, y = iris
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf = MGCEClassifier(q, lam).fit(X, y)
        found = clf.error_bounds(X)
    error = np.mean(clf.predict(X) != y)
    assert 0.0 <= found.lower <= error <= found.upper <= 1.0
    uniform = np.log(3.0) if q == 0.0 else (1.0 - 3.0**-q) / q
    assert 0.0 <= clf.minimax_risk_ <= uniform * (1.0 + 1e-12)
    assert 0.0 <= clf.dual_gap_ <= clf.minimax_risk_


def test_numbers_of_other_types(iris, fitted):
    X, y = iris
    half, three_tenths = Fraction(1, 2), Fraction(3, 10)
    for q, lam in ((half, three_tenths), (np.float32(0.5), np.float32(0.3)), (0.5, three_tenths)):
        clf = MGCEClassifier(q, lam, tol=Fraction(1, 10**6)).fit(X, y)
        assert clf.minimax_risk_ == pytest.approx(fitted.minimax_risk_, rel=1e-6)
        assert clf.partial_fit(X, y).predict(X).shape == y.shape
    path = mgce_path(X, y, [half], [three_tenths], tol=Fraction(1, 10**6))
    assert path.minimax_risks[0, 0] == pytest.approx(fitted.minimax_risk_, rel=1e-6)


def test_parameters_set_after_a_fit_wait_for_the_next(iris):
    X, y = iris
    clf = MGCEClassifier(0.5, 0.3).fit(X, y)
    before = clf.predict_proba(X), clf.predict_worst_case_proba(X)
    bounds, risk = clf.error_bounds(X, "randomized"), clf.certificate(X, y).minimax_risk
    margins = clf.decision_function(X)
    clf.set_params(q=1.0, fit_intercept=False)
    assert clf.certificate(X, y).minimax_risk == pytest.approx(risk, rel=1e-12)
    clf.set_params(center=False)
    assert_array_equal(clf.predict_proba(X), before[0])
    assert_array_equal(clf.predict_worst_case_proba(X), before[1])
    assert_array_equal(clf.margins_to_proba(margins), before[0])
    assert clf.error_bounds(X, "randomized") == bounds
    assert clf.minimax_risk_ == pytest.approx(risk, rel=1e-9)
    assert clf.fit(X, y).predict_proba(X) == pytest.approx(
        MGCEClassifier(1.0, 0.3, fit_intercept=False, center=False).fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5])
def test_lbfgs_closes_small_gaps_where_values_differ_by_rounding_alone(q):
    """The slopes at both ends of a step go on where values no longer tell which is the lower."""
    rng = np.random.default_rng(0)
    X, y, weights = rng.normal(size=(30, 10)), rng.integers(0, 3, 30), rng.integers(0, 4, 30)
    rows = np.repeat(np.arange(30), weights)
    clf = MGCEClassifier(q=q, solver="lbfgs", tol=1e-8)
    weighted = clf.fit(X, y, weights).predict_proba(X)  # a warning would be an error
    assert clf.dual_gap_ <= 1e-8 * clf.minimax_risk_
    assert_allclose(clf.fit(X[rows], y[rows]).predict_proba(X), weighted, atol=1e-6)


def test_a_risk_that_rounding_took_below_zero_is_zero(iris, monkeypatch):
    """That of coefficients as they are kept is computed after all others."""
    keep = MGCEClassifier._keep_coefficients

    def keep_and_round(*arguments):
        keep(*arguments)
        monkeypatch.setattr(Objective, "value", lambda *_: -7e-15)

    monkeypatch.setattr(MGCEClassifier, "_keep_coefficients", keep_and_round)
    X, y = iris
    clf = MGCEClassifier().fit(X.astype(np.float32), y)
    assert clf.minimax_risk_ == clf.dual_gap_ == 0.0
