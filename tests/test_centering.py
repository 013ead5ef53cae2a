"""Features are those of x - c: neither units nor offsets of a column matter."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, UncertaintySet, lam_max, mgce_path
from mgce_sklearn.solvers import SOLVERS

LOADERS = {"iris": load_iris, "wine": load_wine, "breast_cancer": load_breast_cancer}


def raw(name):
    return LOADERS[name](return_X_y=True)


def years(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    year = rng.normal(2015.0, 4.0, n)
    return year[:, np.newaxis], year + rng.normal(size=n) > 2015.0


def test_a_column_far_from_zero_is_no_chance_classifier():
    X, y = years()
    accuracy = MGCEClassifier().fit(X, y).score(X, y)
    assert accuracy >= LogisticRegression().fit(X, y).score(X, y) - 0.005
    assert accuracy > 0.9


def test_digits_lost_in_the_rows_are_all_that_a_huge_offset_costs():
    X, y = raw("iris")
    near = MGCEClassifier(tol=1e-6).fit(X, y)
    far = MGCEClassifier(tol=1e-6).fit(X + 1e9, y)
    assert far.minimax_risk_ == pytest.approx(near.minimax_risk_, rel=2e-6)
    assert far.score(X + 1e9, y) == near.score(X, y)


# Relative gaps to which solvers are asked to go, sgd no further than it gets.
TOLS = {"interior_point": 1e-6, "lbfgs": 1e-4, "sgd": 1e-2, "cvxpy": 1e-5}

OFFSETS = st.floats(0.0, 6.0)  # powers of ten, in spreads
FACTORS = st.floats(-6.0, 6.0)


@st.composite
def changes(draw, n_columns):
    """Return a factor and an offset, in spreads, for each column."""
    powers = draw(st.lists(st.tuples(FACTORS, OFFSETS), min_size=n_columns, max_size=n_columns))
    signs = draw(
        st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=n_columns, max_size=n_columns)
    )
    factors, offsets = 10.0 ** np.array(powers).T
    return factors, np.array(signs) * offsets


def classes_of(y, n_classes):
    return np.minimum(y, n_classes - 1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("n_classes", [2, 3])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_units_and_offsets_do_not_matter(name, layout, n_classes, data):
    if name == "cvxpy":
        pytest.importorskip("cvxpy")
    X, y = raw("iris")
    y = classes_of(y, n_classes)
    factors, offsets = data.draw(changes(4))
    weights = np.random.default_rng(0).integers(1, 4, len(y)) if data.draw(st.booleans()) else None
    moved = layout((X + offsets * X.std(axis=0)) * factors)
    tol = TOLS.get(name, 1e-4)
    clf = MGCEClassifier(q=0.3, lam=0.3, solver=name, tol=tol, center=True, random_state=0)
    risk, proba = clf.fit(X, y, weights).minimax_risk_, clf.predict_proba(X)
    clf.fit(moved, y, weights)
    assert clf.minimax_risk_ == pytest.approx(risk, rel=tol)
    assert_allclose(clf.predict_proba(moved), proba, atol=max(1e-3, tol))


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data())
def test_portions_do_not_depend_on_units_and_offsets(layout, data):
    X, y = raw("iris")
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    factors, offsets = data.draw(changes(4))
    moved = (X + offsets * X.std(axis=0)) * factors
    one, other = (MGCEClassifier(center=True) for _ in range(2))
    for rows in np.array_split(np.arange(len(y)), 4):
        one.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        other.partial_fit(layout(moved[rows]), y[rows], classes=[0, 1, 2])
    # Products of sparse rows lose as many digits as offsets have.
    atol = 1e-6 if layout is np.asarray else 1e-3
    assert_allclose(other.predict_proba(layout(moved)), one.predict_proba(X), atol=atol)
    assert_allclose(other.coef_ * factors, one.coef_, rtol=100 * atol, atol=10 * atol)


@pytest.mark.parametrize("name", LOADERS)
def test_raw_columns_are_as_good_as_standardized_ones(name):
    X, y = raw(name)
    Z = StandardScaler().fit_transform(X)
    one, other = (MGCEClassifier(tol=1e-6).fit(rows, y) for rows in (X, Z))
    assert one.minimax_risk_ == pytest.approx(other.minimax_risk_, rel=1e-9)
    assert_allclose(one.predict_proba(X), other.predict_proba(Z), atol=1e-6)
    looser = MGCEClassifier(tol=1e-6, center=False).fit(X, y)
    assert one.minimax_risk_ < 0.7 * looser.minimax_risk_


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_coefficients_are_those_of_the_rows_as_given(dtype, n_classes):
    X, y = raw("wine")
    X, y = X.astype(dtype), classes_of(y, n_classes)
    clf = MGCEClassifier().fit(X, y)
    margins = X.astype(float) @ clf.coef_.T.astype(float) + clf.intercept_
    found = clf.decision_function(X)
    assert_allclose(found, margins[:, 0] if n_classes == 2 else margins, rtol=1e-3, atol=1e-4)
    assert_allclose(clf.uncertainty_set_.center[:-1], X.astype(float).mean(axis=0))
    assert clf.uncertainty_set_.center[-1] == 0.0
    one_hot = (y[:, np.newaxis] == clf.classes_).astype(float)
    tau = one_hot.T @ (X - X.astype(float).mean(axis=0)) / len(y)
    size = X.astype(float).std(axis=0)
    assert_allclose(clf.uncertainty_set_.tau[:, :-1] / size, tau / size, atol=1e-12)


def test_the_center_is_the_weighted_mean_class_weights_included():
    X, y = raw("iris")
    weights, factors = np.linspace(0.5, 2.0, len(y)), {0: 1.0, 1: 3.0, 2: 0.5}
    clf = MGCEClassifier(class_weight=factors).fit(X, y, weights)
    expected = np.average(X, axis=0, weights=weights * np.array([1.0, 3.0, 0.5])[y])
    assert_allclose(clf.uncertainty_set_.center[:-1], expected)


@pytest.mark.parametrize("power", [1.0, 3.0, 5.0])
def test_float32_far_from_zero_has_the_margins_of_float64(power):
    X, y = raw("iris")
    far = (X + 10.0**power * X.std(axis=0)).astype(np.float32)
    exact = far.astype(float)
    one, other = MGCEClassifier(tol=1e-6).fit(far, y), MGCEClassifier(tol=1e-6).fit(exact, y)
    assert one.coef_.dtype == (np.float32 if power == 1.0 else np.float64)
    assert one.minimax_risk_ == pytest.approx(other.minimax_risk_, rel=1e-5)
    assert_allclose(one.decision_function(far), other.decision_function(exact), atol=1e-3)


# --- cells that no row has shown


def dummies(n=3000, seed=0):
    """Return indicator columns, the last of which only class 1 has, seldom, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    X = (rng.random((n, 3)) < [0.5, 0.1, 0.9]).astype(float)
    rare = (rng.random(n) < 0.01) & (y == 1)
    return np.column_stack([X, rare]), y


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array, lambda X: X.astype(np.float32)])
@pytest.mark.parametrize("offset", [0.0, 5.0, -1e6])
def test_a_cell_never_seen_is_as_wide_as_one_observation(layout, offset):
    X, y = dummies()
    clf = MGCEClassifier(lam=1.0, center=True).fit(layout(X + offset), y)
    n, mean, share = len(y), X[:, 3].mean(), (y == 0).mean()
    variance = share * (1.0 - share) * mean**2 + 1.0 / n
    assert clf.uncertainty_set_.half_width[0, 3] == pytest.approx((variance / n) ** 0.5, rel=1e-5)
    # Within what may well be true: one row in n of class 0 that has the feature.
    off = abs(clf.uncertainty_set_.tau[0, 3] - (share * -mean + 1.0 / n))
    assert off <= clf.uncertainty_set_.half_width[0, 3] * 1.01


@pytest.mark.parametrize("value", [0.0, 0.1, 2015.0, -1e12])
@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
def test_constant_columns_have_no_coefficient(value, layout):
    X, y = raw("iris")
    constant = np.full(len(y), value)
    constant[::3] = np.nextafter(value, 1e300) if value else value  # rounding, no information
    with_constant = np.column_stack([X, constant])
    for solver in ("interior_point", "lbfgs", "sgd"):
        clf = MGCEClassifier(solver=solver, tol=1e-2, center=True, random_state=0)
        clf.fit(layout(with_constant), y)
        assert not clf.coef_[:, 4].any()
        assert not clf.uncertainty_set_.half_width[:, 4].any()
    one = MGCEClassifier(center=True, tol=1e-6).fit(layout(with_constant), y)
    assert one.minimax_risk_ == pytest.approx(
        MGCEClassifier(tol=1e-6).fit(X, y).minimax_risk_, rel=1e-9
    )
    # New rows may have another number there: it says nothing of them.
    with_constant[:, 4] += 1.0
    assert one.error_bounds(layout(with_constant)).upper < 0.5
    assert_allclose(one.predict_proba(layout(with_constant)), one.predict_proba(
        layout(with_constant - [0, 0, 0, 0, 1.0])))  # fmt: skip


# --- which columns are centered


def year_and_dummies(n=600):
    rng = np.random.default_rng(0)
    X, y = years(n)
    flags = (rng.random((n, 5)) < 0.1).astype(float)
    return np.column_stack([X, flags]), y


def test_sparse_columns_that_are_seldom_zero_are_centered():
    X, y = year_and_dummies()
    clf = MGCEClassifier().fit(sp.csr_array(X), y)
    assert clf.uncertainty_set_.center[0] == pytest.approx(X[:, 0].mean())
    assert not clf.uncertainty_set_.center[1:].any()
    assert clf.score(sp.csr_array(X), y) > 0.9
    halves = np.zeros((600, 2))
    halves[:300, 0], halves[:301, 1] = 5.0, 5.0
    center = MGCEClassifier().fit(sp.csr_array(halves + 0.0), y).uncertainty_set_.center
    assert_allclose(center, [0.0, halves[:, 1].mean(), 0.0])


@pytest.mark.parametrize("center", [True, False])
def test_dense_and_sparse_agree_for_equal_settings(center):
    X, y = year_and_dummies()
    clf = MGCEClassifier(center=center, tol=1e-7)
    dense, sparse = MGCEClassifier(center=center, tol=1e-7).fit(X, y), clf.fit(sp.csr_array(X), y)
    assert sparse.minimax_risk_ == pytest.approx(dense.minimax_risk_, rel=2e-7)
    assert_allclose(sparse.predict_proba(sp.csr_array(X)), dense.predict_proba(X), atol=1e-5)
    assert dense.uncertainty_set_.center.any() == center
    bounds = dense.error_bounds(X, tol=1e-4), sparse.error_bounds(sp.csr_array(X), tol=1e-4)
    assert bounds[0].upper == pytest.approx(bounds[1].upper, abs=1e-4)


def test_sparse_rows_are_not_made_dense(monkeypatch):
    """A dense copy of these rows would take 8 GB; blocks of some rows do not."""
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(10_000, size=20_000), rng.integers(100_000, size=20_000)
    X = sp.csr_array((rng.random(20_000), (rows, columns)), shape=(10_000, 100_000))
    year = sp.csr_array(rng.normal(2015.0, 4.0, (10_000, 1)))
    X = sp.csr_array(sp.hstack([X, year]))
    y = (year.toarray()[:, 0] > 2015.0).astype(int)
    clf = MGCEClassifier(solver="lbfgs", max_iter=5, lam=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(X, y)
    assert clf.score(X, y) > 0.9
    assert np.flatnonzero(clf.uncertainty_set_.center).tolist() == [100_000]


@pytest.mark.parametrize("center", ["auto", True])
def test_nothing_is_centered_without_an_intercept(center):
    X, y = raw("iris")
    clf = MGCEClassifier(fit_intercept=False, center=center).fit(X, y)
    assert not clf.uncertainty_set_.center.any()
    same = MGCEClassifier(fit_intercept=False, center=False).fit(X, y)
    assert clf.minimax_risk_ == same.minimax_risk_


@pytest.mark.parametrize("width", ["hoeffding", "bernstein", "betting"])
def test_where_a_probability_is_claimed_the_rows_do_not_choose_the_center(width):
    X, y = raw("iris")
    low, high = np.zeros(4), np.array([10.0, 5.0, 8.0, 3.0])
    clf = MGCEClassifier(width=width, feature_range=(low, high))
    centers = [
        clf.fit(X[rows], y[rows]).uncertainty_set_.center for rows in (slice(None), slice(9, 140))
    ]
    assert_array_equal(centers[0], [5.0, 2.5, 4.0, 1.5, 0.0])
    assert_array_equal(centers[1], centers[0])
    sparse = clf.fit(sp.csr_array(X), y).uncertainty_set_.center
    assert not sparse.any()  # the range holds 0, whatever the rows
    clf.set_params(feature_range=([1.0, 0.0, 0.0, 0.0], high))
    assert_array_equal(clf.fit(sp.csr_array(X), y).uncertainty_set_.center, [5.5, 0, 0, 0, 0])
    seen = MGCEClassifier(width=width).fit(X, y).uncertainty_set_.center
    assert_allclose(seen[:-1], (X.min(axis=0) + X.max(axis=0)) / 2.0)


def test_given_half_widths_are_of_centered_features():
    X, y = raw("iris")
    width = MGCEClassifier(lam=0.3).fit(X, y).uncertainty_set_.half_width
    one = MGCEClassifier(width=width, tol=1e-6).fit(X, y)
    other = MGCEClassifier(width=width, tol=1e-6).fit(X + 100.0, y)
    assert other.minimax_risk_ == pytest.approx(one.minimax_risk_, rel=2e-6)


# --- what is done with the center after the fit


def test_error_bounds_of_other_rows_are_about_the_center_of_the_fit():
    X, y = raw("wine")
    train, held = np.arange(0, len(y), 2), np.arange(1, len(y), 2)
    far = X + 1e3 * X.std(axis=0)
    one, other = (MGCEClassifier(lam=4.0, tol=1e-6).fit(Z[train], y[train]) for Z in (X, far))
    found = [clf.error_bounds(Z[held], tol=1e-5) for clf, Z in ((one, X), (other, far))]
    assert found[0].upper == pytest.approx(found[1].upper, abs=2e-5)
    assert found[0].lower == pytest.approx(found[1].lower, abs=2e-5)
    widened = replace(one.uncertainty_set_, half_width=2.0 * one.uncertainty_set_.half_width)
    assert_array_equal(one.uncertainty_set_.widened(2.0).half_width, widened.half_width)
    assert_array_equal(one.uncertainty_set_.widened(2.0).center, widened.center)


def test_a_certificate_is_about_the_center_of_its_own_sample():
    X, y = raw("wine")
    clf = MGCEClassifier(tol=1e-7).fit(X, y)
    assert clf.certificate(X, y).minimax_risk == pytest.approx(clf.minimax_risk_, rel=1e-9)
    some = np.arange(0, len(y), 2)
    best = MGCEClassifier(tol=1e-7).fit(X[some], y[some])
    risk, gap = clf.certificate(X[some], y[some])
    assert risk - gap <= best.minimax_risk_ <= risk


def test_a_set_without_a_center_is_about_zero():
    """As fits of a version without centers have left it in pickles."""
    X, y = raw("iris")
    clf = MGCEClassifier(center=False, lam=4.0).fit(X, y)
    expected = clf.error_bounds(X)
    old = object.__new__(UncertaintySet)
    for name in ("tau", "half_width"):
        object.__setattr__(old, name, getattr(clf.uncertainty_set_, name))
    clf.uncertainty_set_ = pickle.loads(pickle.dumps(old))
    assert clf.uncertainty_set_.center == 0.0
    assert clf.error_bounds(X) == expected
    assert clf.uncertainty_set_.widened(2.0).center == 0.0


def test_a_start_from_before_is_moved_to_the_new_center():
    X, y = raw("wine")
    clf = MGCEClassifier(warm_start=True, solver="lbfgs", q=0.3, lam=1.0, tol=1e-6).fit(X, y)
    first, coef, intercept = clf.n_iter_, clf.coef_, clf.intercept_
    clf.fit(X + 10.0, y)
    clf.coef_, clf.intercept_ = coef, intercept - 10.0 * coef.sum(axis=1)
    assert clf.fit(X + 10.0, y).n_iter_ < 0.5 * first


def test_tensors_are_centered_alike():
    torch = pytest.importorskip("torch")
    X, y = raw("wine")
    one = MGCEClassifier(tol=1e-7).fit(X, y)
    for dtype, rel in ((torch.float64, 2e-7), (torch.float32, 1e-5)):
        rows = torch.tensor(X, dtype=dtype)
        other = MGCEClassifier(tol=1e-7).fit(rows, y)
        assert other.minimax_risk_ == pytest.approx(one.minimax_risk_, rel=rel)
        assert_allclose(other.predict_proba(rows), one.predict_proba(X), atol=1e-3)
        assert_allclose(other.uncertainty_set_.center, one.uncertainty_set_.center, rtol=1e-6)
    assert other.coef_.dtype == np.float32
    far = torch.tensor(X + 1e3 * X.std(axis=0), dtype=torch.float32)
    margins = MGCEClassifier(tol=1e-7).fit(far, y).decision_function(far)
    exact = MGCEClassifier(tol=1e-7).fit(far.double(), y).decision_function(far.double())
    assert_allclose(margins, exact, atol=1e-4)


def test_paths_and_searches_center_as_fits_do():
    X, y = raw("wine")
    for center in (True, False):
        path = mgce_path(X, y, [0.5], [0.3], center=center, tol=1e-7)
        clf = MGCEClassifier(0.5, 0.3, center=center, tol=1e-7).fit(X, y)
        assert path.minimax_risks[0, 0] == pytest.approx(clf.minimax_risk_, rel=2e-7)
        assert_allclose(path.coefs[0, 0] * X.std(axis=0), clf.coef_ * X.std(axis=0), atol=1e-4)
        assert_allclose(path.intercepts[0, 0], clf.intercept_, rtol=1e-3, atol=1e-3)
        search = MGCEClassifierCV([0.5], [0.3], cv=2, center=center, tol=1e-7).fit(X, y)
        assert search.minimax_risk_ == pytest.approx(clf.minimax_risk_, rel=2e-7)
    assert lam_max(X + 50.0, y) == pytest.approx(lam_max(X, y), rel=1e-9)
    assert lam_max(X + 50.0, y, center=False) < 0.5 * lam_max(X, y, center=False)


def test_partial_fit_keeps_the_choice_of_its_first_call():
    X, y = year_and_dummies()
    clf = MGCEClassifier().partial_fit(sp.csr_array(X[:300]), y[:300], classes=[False, True])
    clf.partial_fit(X[300:], y[300:])  # dense rows, later
    assert clf.uncertainty_set_.center[0] == pytest.approx(X[:, 0].mean())
    assert not clf.uncertainty_set_.center[1:].any()
    with pytest.raises(ValueError, match="center must stay what it was at the first call"):
        clf.set_params(center=True).partial_fit(X, y)
    clf.set_params(center="auto").partial_fit(X, y)


@pytest.mark.parametrize(
    ("center", "error"), [("mean", ValueError), (None, TypeError), (1, TypeError)]
)
def test_what_is_no_choice_of_columns(center, error):
    X, y = raw("iris")
    with pytest.raises(error, match="center must be 'auto', True or False"):
        MGCEClassifier(center=center).fit(X, y)
    with pytest.raises(error, match="center must be 'auto', True or False"):
        mgce_path(X, y, [0.5], [0.1], center=center)


# --- when no feature says anything


def noise():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 2)), (rng.random(300) < 0.2).astype(int)


def test_one_warning_when_every_row_gets_the_same_prediction():
    X, y = noise()
    with pytest.warns(UserWarning, match="every row gets the same prediction: at lam=3") as caught:
        clf = MGCEClassifier(lam=3.0).fit(X, y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not clf.coef_.any() and clf.intercept_.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MGCEClassifier(lam=1e3).fit(X, y)  # above lam_max: nothing but zeros was asked for
        MGCEClassifier(lam=0.01).fit(X, y)
        mgce_path(X, y, [0.5], [3.0])
        MGCEClassifierCV([0.5], [3.0, 0.01], refit=False).fit(X, y)
