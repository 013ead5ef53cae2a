"""partial_fit, and certificates on request."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load

from mgce_sklearn import EmptySetError, MGCEClassifier
from mgce_sklearn.design import Design
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.stream import Stream
from mgce_sklearn.uncertainty import Moments


def sample(n=20_000, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    slopes = rng.normal(size=(6, n_classes))
    slopes[4:] = 0.0  # two features say nothing
    y = (X @ slopes + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    return X, y


def in_portions(clf, X, y, size, classes=None, **params):
    for start in range(0, len(y), size):
        rows = slice(start, start + size)
        clf.partial_fit(X[rows], y[rows], classes, **{k: v[rows] for k, v in params.items()})
    return clf


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_one_pass_comes_close_to_the_minimum(q, n_classes):
    X, y = sample(n_classes=n_classes)
    clf = in_portions(MGCEClassifier(q=q), X, y, 3000, np.unique(y))
    best = MGCEClassifier(q=q).fit(X, y)
    risk, gap = clf.certificate(X, y)
    assert best.minimax_risk_ - best.dual_gap_ <= risk <= 1.03 * best.minimax_risk_
    assert risk - gap <= best.minimax_risk_
    assert clf.score(X, y) >= best.score(X, y) - 0.01


def test_features_that_say_nothing_are_left_out():
    X, y = sample()
    clf = in_portions(MGCEClassifier(lam=3.0), X, y, 1000, np.unique(y))
    assert not clf.coef_[:, 4:].any()
    assert clf.coef_[:, :4].any(axis=0).all()


def test_uncertainty_set_is_that_of_all_rows():
    X, y = load("wine")
    order = np.random.default_rng(0).permutation(len(y))
    weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    clf = in_portions(
        MGCEClassifier(), X[order], y[order], 50, [2, 1, 0], sample_weight=weights[order]
    )
    whole = MGCEClassifier().fit(X, y, weights).uncertainty_set_
    np.testing.assert_allclose(clf.uncertainty_set_.tau, whole.tau, atol=1e-12)
    np.testing.assert_allclose(clf.uncertainty_set_.half_width, whole.half_width, atol=1e-12)


def moments_of(X, y, weights, n_classes=3):
    return Moments.of(RowsInMemory.of(Design(X, weights), HardLabels(y)), n_classes)


def test_moments_of_parts_join():
    X, y = load("iris")
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    whole = moments_of(X, y, weights)
    parts = [moments_of(X[s], y[s], weights[s]) for s in (slice(40), slice(40, None))]
    joined = Moments.none(3, 5).joined(parts[0]).joined(parts[1])
    assert joined.n_rows == len(y)
    for a, b in ((joined, whole), (joined.about(whole.row_mean()), whole.about(whole.row_mean()))):
        np.testing.assert_allclose(a.mean, b.mean, atol=1e-14)
        np.testing.assert_allclose(a.deviation(), b.deviation(), rtol=1e-12)
        np.testing.assert_allclose([a.low, a.high], [b.low, b.high])
    assert joined.concentration == pytest.approx(whole.concentration)
    size = RowsInMemory.of(Design(X, weights)).column_scale
    np.testing.assert_allclose(whole.column_scale(), size)


def test_units_of_the_features_do_not_matter():
    X, y = sample(3000)
    units = np.array([1e-3, 1.0, 1e4, 2.0, 1.0, 1e2])
    one = in_portions(MGCEClassifier(), X, y, 1000, np.unique(y))
    other = in_portions(MGCEClassifier(), X * units, y, 1000, np.unique(y))
    np.testing.assert_allclose(one.coef_, other.coef_ * units, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("make", [np.asarray, sp.csr_array, lambda X: X.astype(np.float32)])
def test_layouts_and_labels(make):
    X, y = load("breast_cancer")
    X = np.where(np.abs(X) > 0.5, X, 0.0)
    names = np.array(["benign", "malign"])[y]
    one = MGCEClassifier(center=True).partial_fit(X, y, classes=[0, 1])
    other = MGCEClassifier(center=True).partial_fit(make(X), names, classes=["malign", "benign"])
    assert other.coef_.dtype == make(X).dtype
    assert list(other.classes_) == ["benign", "malign"]
    np.testing.assert_allclose(other.coef_, one.coef_, atol=1e-4)
    assert (names == other.predict(make(X))).mean() > 0.9


def test_a_portion_may_lack_classes_and_weight():
    X, y = load("iris")
    clf = MGCEClassifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2])
    assert clf.predict(X[:50]).tolist() == [0] * 50
    with_zeros = MGCEClassifier().partial_fit(X, y, [0, 1, 2], (y < 2).astype(float))
    without = MGCEClassifier().partial_fit(X[y < 2], y[y < 2], [0, 1, 2])
    np.testing.assert_allclose(with_zeros.coef_, without.coef_)


def test_class_weights_as_factors():
    X, y = load("wine")
    factors = {0: 1.0, 1: 2.0, 2: 0.5}
    one = MGCEClassifier(class_weight=factors).partial_fit(X, y, [0, 1, 2])
    other = MGCEClassifier().partial_fit(X, y, [0, 1, 2], np.array([1.0, 2.0, 0.5])[y])
    plain = MGCEClassifier().partial_fit(X, y, [0, 1, 2])
    assert np.abs(one.coef_ - plain.coef_).max() > 1e-2
    np.testing.assert_allclose(one.coef_, other.coef_)


def test_no_bound_is_claimed_and_fit_forgets():
    X, y = load("wine")
    clf = MGCEClassifier().fit(X, y)
    coef = clf.coef_
    clf.partial_fit(X[:90], y[:90])  # the classes are those of the fit
    assert not hasattr(clf, "minimax_risk_")
    assert not hasattr(clf, "dual_gap_")
    assert clf.n_iter_ == 2
    alone = MGCEClassifier().partial_fit(X[:90], y[:90], classes=[0, 1, 2])
    np.testing.assert_array_equal(clf.coef_, alone.coef_)
    np.testing.assert_array_equal(clf.fit(X, y).coef_, coef)
    assert clf.partial_fit(X, y).n_iter_ == 3


@pytest.mark.parametrize("width", ["hoeffding", "bernstein", "betting", "std"])
def test_an_empty_set_of_portions_names_what_its_widths_are_made_of(width):
    """lam, if they are multiples of it; whatever else the last portion was read with."""
    X, y = load("wine")
    stream = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2])
    stream.set_params(width=width, lam=0.3).partial_fit(X, y)
    named = r"lam must grow from 0\.3 to" if width == "std" else "Half-widths .* times as large"
    with pytest.raises(EmptySetError, match=named):
        stream.error_bounds(X + 9.0)


def test_a_pickle_goes_on_where_it_stopped():
    X, y = load("wine")
    order = np.random.default_rng(0).permutation(len(y))
    X, y = X[order], y[order]
    clf = MGCEClassifier().partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    copy = pickle.loads(pickle.dumps(clf))
    rest = X[100:], y[100:]
    np.testing.assert_array_equal(copy.partial_fit(*rest).coef_, clf.partial_fit(*rest).coef_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "classes must be given at the first call"),
        ({"classes": [1]}, "at least 2 different labels"),
        ({"classes": [0, 1]}, r"labels among classes, \[0, 1\]; row \d+ has .*2"),
        ({"class_weight": "balanced"}, "needs all labels at once"),
        ({"sample_weight": [-1.0] * 178}, "non-negative"),
        ({"q": 2.0}, r"q must be a number in \[0, 1\]"),
    ],
)
def test_bad_first_portion(change, message):
    X, y = load("wine")
    arguments = {"classes": [0, 1, 2], "sample_weight": None}
    clf = MGCEClassifier()
    for name, value in change.items():
        if name in arguments:
            arguments[name] = value
        else:
            clf.set_params(**{name: value})
    before = dict(vars(clf))
    with pytest.raises((TypeError, ValueError), match=message):
        clf.partial_fit(X, y, **arguments)
    assert vars(clf) == before


def test_bad_later_portion_loses_nothing():
    X, y = load("wine")
    clf = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2])
    coef = clf.coef_
    for arguments, message in [
        ((X, y, [0, 1, 3]), "classes must stay those of the first call"),
        ((X[:, :5], y), "features"),
        ((X, y + 1), "labels among classes"),
        ((np.full_like(X, np.nan), y), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(*arguments)
    np.testing.assert_array_equal(clf.coef_, coef)
    again = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_array_equal(clf.partial_fit(X, y).coef_, again.partial_fit(X, y).coef_)


@pytest.mark.parametrize(("q", "close"), [(0.0, 1e-3), (0.5, 0.02), (0.9, 0.5)])
def test_certificate_of_a_fit(q, close):
    X, y = load("breast_cancer")
    clf = MGCEClassifier(q=q, lam=0.1, tol=1e-6).fit(X, y)
    risk, gap = clf.certificate(X, y)
    assert risk == pytest.approx(clf.minimax_risk_, rel=1e-9)
    # The worst case at given coefficients is a poor dual point where it jumps, near q = 1.
    assert clf.dual_gap_ - 1e-9 <= gap <= close * risk


def test_certificate_asks_for_the_same_classes():
    X, y = load("wine")
    clf = MGCEClassifier().fit(X, y)
    with pytest.raises(ValueError, match=r"classes of the fit, \[0, 1, 2\]; got \[0, 1\]"):
        clf.certificate(X[y < 2], y[y < 2])


def test_an_interrupted_portion_leaves_no_trace(monkeypatch):
    X, y = load("wine")
    clf = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2])
    expected = MGCEClassifier().partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y).coef_
    calls = []

    def interrupted(stream, half_width, compute=Stream._coef):
        calls.append(half_width)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(stream, half_width)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "_coef", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clf.partial_fit(X, y)
    np.testing.assert_array_equal(clf.partial_fit(X, y).coef_, expected)


@pytest.mark.parametrize("first", [True, False])
def test_the_intercept_may_not_come_and_go(first):
    X, y = load("breast_cancer")
    clf = MGCEClassifier(fit_intercept=first).partial_fit(X[:, :1], y, classes=[0, 1])
    clf.set_params(fit_intercept=not first)
    with pytest.raises(ValueError, match="fit_intercept must stay what it was"):
        clf.partial_fit(X[:, :1], y)
    clf.set_params(fit_intercept=first).partial_fit(X[:, :1], y)


def test_certificate_is_of_the_coefficients_whatever_the_parameters_say_now():
    X, y = load("breast_cancer")
    clf = MGCEClassifier(tol=1e-6).fit(X, y)
    clf.set_params(fit_intercept=False)
    assert clf.certificate(X, y).minimax_risk == pytest.approx(clf.minimax_risk_, rel=1e-9)


@pytest.mark.parametrize(
    ("classes", "y", "message"),
    [
        ([0, 1], np.array(["a", "b"] * 5, dtype=object), r"y must hold labels among .* 'a'"),
        (np.array(["a", "b"], dtype=object), np.arange(10) % 2, r"y must hold labels among .* 0"),
        (np.array([0, "a"], dtype=object), np.arange(10) % 2, "labels of one type"),
        ([0, 1, None], np.arange(10) % 2, "labels of one type"),
        ([0.0, 1.0, np.nan], np.arange(10) % 2, "labels of one type"),
        ([[0, 1], [2, 3]], np.arange(10) % 2, "labels of one type"),
        ([0.5, 1.5], np.arange(10) % 2, "labels of one type"),
        ({0, 1}, np.arange(10) % 2, "labels of one type"),
    ],
)
def test_labels_of_the_wrong_kind(classes, y, message):
    X = np.random.default_rng(0).normal(size=(10, 2))
    with pytest.raises(ValueError, match=message):
        MGCEClassifier().partial_fit(X, y, classes=classes)


def test_a_first_portion_of_one_class_has_wide_sets():
    rng = np.random.default_rng(0)
    for n in range(3, 40):
        X, weights = rng.normal(size=(n, 2)), rng.uniform(0.1, 3.0, n)
        clf = MGCEClassifier().partial_fit(X, np.zeros(n), [0, 1, 2], weights)
        widths = clf.uncertainty_set_.half_width[:, -1]
        np.testing.assert_allclose(widths, widths[1], rtol=1e-6)


def test_sums_of_gradients_move_with_the_center():
    """As if every step had been about the new center: g becomes g less the way times g_1."""
    rng = np.random.default_rng(0)
    steps, way = rng.normal(size=(20, 3, 5)), np.append(rng.normal(size=4), 0.0)
    stream = Stream(3, 5)

    def sums(g):
        return g.sum(axis=0), (g**2).sum(axis=0), (g * g[:, :, -1:]).sum(axis=0)

    stream._gradients, stream._squares, stream._products = sums(steps)
    stream._move(way)
    moved = sums(steps - way * steps[:, :, -1:])
    found = stream._gradients, stream._squares, stream._products
    for one, other in zip(found, moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_number_that_is_constant_in_each_portion_but_not_in_both():
    X, y = np.array([[1.0], [4.0], [2.0], [5.0]]), np.array([0, 1, 0, 1])
    whole = moments_of(X, y, np.ones(4), 2)
    parts = [moments_of(X[s], y[s], np.ones(2), 2) for s in (slice(2), slice(2, 4))]
    assert not np.isnan(parts[0].constant[:, 0]).any()
    joined = parts[0].joined(parts[1])
    assert np.isnan(joined.constant[:, 0]).all()
    np.testing.assert_allclose(joined.deviation(), whole.deviation(), rtol=1e-12)
