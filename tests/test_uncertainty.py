"""Rules of the half-widths: their formulas, their probability, and what a user gets wrong."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load
from scipy.optimize import brentq
from scipy.stats import binom, norm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.concentration import LARGEST_BET, betting_deviation
from mgce_sklearn.design import Design
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.uncertainty import PROBABLE_WIDTHS, WIDTHS, Moments, Width

# Those with a formula by component.
PROBABLE = ("hoeffding", "bernstein")


@pytest.fixture(scope="module")
def wine():
    """Standardized, with columns of either sign only, with zeros, and of zeros only."""
    X, y = load("wine")
    X = np.where(np.abs(X) > 0.3, X, 0.0)
    X[:, 0], X[:, 1], X[:, 2] = np.abs(X[:, 0]) + 1.0, -np.abs(X[:, 1]) - 2.0, 0.0
    return X, y


def components(X, y, center=0.0):
    """Return Phi (n, K, d) of x - center, the intercept's last."""
    features = np.column_stack([X - center, np.ones(len(X))]).astype(float)
    return np.eye(y.max() + 1)[y][:, :, None] * features[:, None]


def moments_of(X, y, weights=None):
    """Return the moments of rows of two classes."""
    design = Design(X, np.ones(len(y)) if weights is None else weights)
    return Moments.of(RowsInMemory.of(design, HardLabels(y)), 2)


def half_width(X, y, fit_intercept=True, sample_weight=None, lam=1.0, center=True, **rule):
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    design, width = Design(X, weights, fit_intercept), Width(**rule)
    moments = Moments.of(RowsInMemory.of(design, HardLabels(y)), y.max() + 1)
    moments = width.centered(moments, width.columns_to_center(design, moments, center))
    return width.half_width(moments, lam)


def about(low, high, center):
    """Return the ends of the range of x - c, the intercept's last, and c: its middle or 0."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    middle = (low + high) / 2 if center else np.zeros(len(low))
    return np.append(low - middle, 1.0), np.append(high - middle, 1.0), middle


def fitted_width(X, y, sample_weight=None, **parameters):
    clf = MGCEClassifier(**parameters).fit(X, y, sample_weight)
    return clf.uncertainty_set_.half_width


def by_formula(kind, phi, low, high, delta):
    """Compute widths row by row and component by component, from what the theorems say."""
    n, n_classes, d = phi.shape
    out = np.empty((n_classes, d))
    for k in range(n_classes):
        for j in range(d):
            length = max(high[j], 0.0) - min(low[j], 0.0)
            share = delta / (n_classes * d)
            if kind == "hoeffding":  # 2 exp(-2 n t^2 / length^2) = share
                out[k, j] = length * (np.log(2 / share) / (2 * n)) ** 0.5
                assert 2 * np.exp(-2 * n * (out[k, j] / (length or 1)) ** 2) == pytest.approx(
                    share if length else 2
                )
            else:
                one_side = share / 2
                variance = np.var(phi[:, k, j], ddof=1)
                out[k, j] = (
                    np.sqrt(2 * variance * np.log(2 / one_side) / n)
                    + length * 7 * np.log(2 / one_side) / (n - 1) / 3
                )
    return out


@pytest.mark.parametrize("kind", PROBABLE)
@pytest.mark.parametrize("delta", [0.05, 1e-6, 0.9])
@pytest.mark.parametrize("center", [True, False])
def test_probable_widths_against_their_formulas(wine, kind, delta, center):
    X, y = wine
    low, high, middle = about(X.min(axis=0), X.max(axis=0), center)
    expected = by_formula(kind, components(X, y, middle), low, high, delta)
    found = half_width(X, y, kind=kind, delta=delta, center=center)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert not expected[:, 2].any()
    assert (np.delete(expected, 2, axis=1) > 0).all()
    np.testing.assert_array_equal(
        fitted_width(X, y, width=kind, delta=delta, lam=7.0, center=center),  # lam is ignored
        found,
    )


@pytest.mark.parametrize("kind", PROBABLE)
@pytest.mark.parametrize(
    "feature_range", [(-9, 9.0), (0.0 - 9, [9.0] * 13), (np.linspace(-9, -6, 13), np.full(13, 8))]
)
def test_feature_range_as_numbers_and_arrays(wine, kind, feature_range):
    X, y = wine
    low, high, middle = about(*(np.broadcast_to(end, 13) for end in feature_range), center=True)
    expected = by_formula(kind, components(X, y, middle), low, high, 0.05)
    np.testing.assert_allclose(
        fitted_width(X, y, width=kind, feature_range=feature_range), expected, rtol=1e-9
    )


def test_without_intercept_there_are_fewer_components(wine):
    X, y = wine
    low, high = np.full(13, -9.0), np.full(13, 9.0)
    for kind in PROBABLE:
        expected = by_formula(kind, components(X, y)[:, :, :-1], low, high, 0.05)
        found = fitted_width(X, y, width=kind, feature_range=(-9, 9), fit_intercept=False)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_std_is_the_standard_error_of_one_row(wine):
    X, y = wine
    phi = components(X, y, X.mean(axis=0))
    found = half_width(X, y, kind="std", lam=0.3)
    varies = phi.std(axis=0) > 0
    np.testing.assert_allclose(found[varies], 0.3 * phi.std(axis=0)[varies], rtol=1e-9)
    one = MGCEClassifier(width="std", lam=0.05, tol=1e-7).fit(X, y)
    other = MGCEClassifier(lam=0.05 * len(y) ** 0.5, tol=1e-7).fit(X, y)
    assert one.minimax_risk_ == pytest.approx(other.minimax_risk_, rel=1e-6)
    weights = np.linspace(0.1, 2.0, len(y))
    np.testing.assert_allclose(
        fitted_width(X, y, weights, width="std", lam=0.05),
        fitted_width(X, y, weights, lam=0.05 * weights.sum() ** 0.5),
    )


@pytest.mark.parametrize("kind", PROBABLE_WIDTHS)
def test_widths_shrink_with_more_risk_and_more_rows(wine, kind):
    X, y = wine
    used = np.delete(np.arange(14), 2)
    widths = [half_width(X, y, kind=kind, delta=delta)[:, used] for delta in (1e-9, 0.01, 0.99)]
    assert (np.diff(widths, axis=0) < 0).all()
    stacked = [np.tile(np.arange(len(y)), times) for times in (1, 2, 10, 1000)]
    widths = np.array([half_width(X[rows], y[rows], kind=kind)[:, used] for rows in stacked])
    assert (np.diff(widths, axis=0) < 0).all()
    assert np.isfinite(half_width(X, y, kind=kind, delta=5e-324)).all()


def test_bernstein_is_narrower_where_features_vary_little_within_their_range():
    rng = np.random.default_rng(0)
    X, y = rng.normal(scale=0.05, size=(2000, 3)).clip(-1, 1), rng.integers(0, 2, 2000)
    bernstein, hoeffding = (half_width(X, y, kind=k, feature_range=([-1] * 3, [1] * 3))
                            for k in ("bernstein", "hoeffding"))  # fmt: skip
    assert (bernstein[:, :3] < 0.5 * hoeffding[:, :3]).all()
    assert (bernstein[:, 3] > hoeffding[:, 3]).all()  # onehot(y) has the largest variance


def draws(rng, n, times):
    """Yield rows whose means are known: x of -1 or 2, and y by a coin whose bias x decides."""
    for _ in range(times):
        high = rng.random(n) < 0.3
        yield np.where(high, 2.0, -1.0)[:, None], (rng.random(n) < np.where(high, 0.9, 0.4)) * 1


TRUE_MEANS = np.array(
    [[0.3 * 0.1 * 2.0 - 0.7 * 0.6, 0.3 * 0.1 + 0.7 * 0.6],
     [0.3 * 0.9 * 2.0 - 0.7 * 0.4, 0.3 * 0.9 + 0.7 * 0.4]]
)  # fmt: skip


def share_of_misses(kind, n, delta, factors):
    """Return how often, in 2,000 samples, some mean is off by more than factor × width."""
    rule = Width(kind, delta, (np.array([-1.0]), np.array([2.0])))
    missed = []
    for X, y in draws(np.random.default_rng(0), n, 2000):
        moments = moments_of(X, y)
        off = np.abs(moments.mean - TRUE_MEANS) / rule.half_width(moments, lam=1.0)
        missed.append(off.max() > factors)
    return np.mean(missed, axis=0)


@pytest.mark.parametrize("kind", PROBABLE_WIDTHS)
@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_true_means_lie_within_as_often_as_promised(kind, delta):
    for n in (5, 30):
        assert share_of_misses(kind, n, delta, 1.0) <= delta


@pytest.mark.parametrize("kind", PROBABLE_WIDTHS)
def test_the_promise_is_not_kept_by_far_smaller_widths(kind):
    """The union and the theorems give away a factor of two or so, and no more."""
    kept, broken = share_of_misses(kind, 1000, 0.2, np.array([1.0, 0.4]))
    assert kept <= 0.2 < broken


@pytest.mark.parametrize(("kind", "most"), [("hoeffding", 1.35), ("bernstein", 1.45)])
def test_widths_of_a_fair_coin_are_near_the_exact_quantile(kind, most):
    """Hoeffding's variance is at most that of a fair coin: here nothing else is given away."""
    n, delta = 200_000, 0.05
    y = np.arange(n) % 2
    (width, same) = half_width(np.zeros((n, 0)), y, kind=kind, delta=delta)[:, 0]
    assert width == same
    # Two components and two sides, a quarter of delta for each.
    quantile = binom.isf(delta / 4, n, 0.5) / n - 0.5
    assert quantile < width < most * quantile
    # What one component promises it keeps, and would not with half the width.
    assert 2 * binom.sf(n * (0.5 + width), n, 0.5) <= delta / 2
    assert 2 * binom.sf(n * (0.5 + 0.5 * width), n, 0.5) > delta


def bets_for(n, log_term):
    """Return halves of the largest bet, down to half of the best at the largest variance."""
    bets = [LARGEST_BET]
    while bets[-1] > 0.5 * np.sqrt(2.0 * log_term / n):
        bets.append(bets[-1] / 2.0)
    return np.array(bets)


def deviation_by_capital(z, log_term):
    """Return how far below the sample's the mean of z >= 0 may be for all bets to fail.

    The capital itself, without a bound on its logarithm.
    """
    bets = bets_for(len(z), log_term)[:, None]
    wanted = log_term + np.log(len(bets))

    def surplus(nu):
        return np.log1p(bets * (z / nu - 1.0)).sum(axis=1).max() - wanted

    if not z.any():
        return 0.0
    return z.mean() - brentq(surplus, 1e-9 * z.mean(), z.mean())


def test_the_logarithm_that_betting_rests_on():
    """log(1 + u) >= u - omega u^2 / bet^2 for u >= -bet, with equality there."""
    for bet in (1e-3, 0.1, 0.5, LARGEST_BET):
        omega = -np.log1p(-bet) - bet
        u = np.append(np.linspace(-bet, 2.0, 10_001), np.geomspace(2.0, 1e6))
        assert (np.log1p(u) - u + omega * (u / bet) ** 2 >= -1e-15).all()
        assert np.log1p(-bet) + bet + omega == pytest.approx(0.0, abs=1e-15)


VARIABLES = {
    "coin": (lambda rng, size: (rng.random(size) < 0.5) * 1.0, 0.5, 0.5),
    "rare": (lambda rng, size: (rng.random(size) < 0.05) * 1.0, 0.05, (0.05 * 0.95) ** 0.5),
    "usual": (lambda rng, size: (rng.random(size) < 0.95) * 1.0, 0.95, (0.05 * 0.95) ** 0.5),
    "long tail": (lambda rng, size: rng.exponential(2.0, size), 2.0, 2.0),
}


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("delta", [1e-9, 0.01, 0.5])
def test_betting_wins_what_it_says(name, delta):
    """At the bound the capital of some bet, exactly, is what its share of delta asks for."""
    draw, _, _ = VARIABLES[name]
    rng, log_term = np.random.default_rng(0), -np.log(delta)
    for n in (30, 300, 3000, 100_000):
        z = draw(rng, n)
        found = betting_deviation(z.mean(), z.var(), n, log_term)
        exact = deviation_by_capital(z, log_term)
        assert exact <= found * (1.0 + 1e-9)
        if n == 100_000 and delta > 1e-9:  # where the bound on the logarithm costs little
            assert found <= 1.15 * exact


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("n", [30, 3000])
def test_one_component_keeps_the_promise_of_betting(name, n):
    """The mean is above the sample's less the deviation, and that is no large one."""
    draw, mean, sigma = VARIABLES[name]
    z, delta = draw(np.random.default_rng(0), (1000, n)), 0.05
    deviation = betting_deviation(z.mean(axis=1), z.var(axis=1), n, -np.log(delta))
    assert np.mean(z.mean(axis=1) - deviation > mean) <= delta
    assert (deviation >= 0.0).all() and (deviation <= z.mean(axis=1)).all()
    if n == 3000:
        assert np.median(deviation) < 2.3 * norm.isf(delta) * sigma / np.sqrt(n)


def test_betting_takes_the_larger_of_both_sides(wine):
    """Against the capital of every component, at either end of a range that is not its own."""
    X, y = wine
    low, high = np.full(13, -9.0), np.linspace(6.0, 12.0, 13)
    found = half_width(X, y, kind="betting", delta=0.1, feature_range=(low, high))
    low, high, middle = about(low, high, center=True)
    phi, log_term = components(X, y, middle), np.log(2 * 42 / 0.1)
    low[-1] = 0.0
    for k in range(3):
        for j in range(14):
            sides = high[j] - phi[:, k, j], phi[:, k, j] - low[j]
            expected = max(
                betting_deviation(side.mean(), side.var(), len(y), log_term) for side in sides
            )
            assert found[k, j] == pytest.approx(expected, rel=1e-9)
            assert found[k, j] >= max(deviation_by_capital(side, log_term) for side in sides)


def test_betting_on_a_feature_of_one_sign(wine):
    """A component is 0 for other classes: the range holds 0 whether or not the feature's does."""
    X, y = np.full((100, 2), [5.0, -5.0]), np.zeros(100, dtype=int)
    y[:30] = 1
    given, wider = (
        half_width(X, y, kind="betting", feature_range=ends, center=False)
        for ends in (([5.0, -5.0], [5.0, -5.0]), ([0.0, -5.0], [5.0, 0.0]))
    )
    np.testing.assert_array_equal(given, wider)
    scale = np.array([5.0, 5.0, 1.0])
    np.testing.assert_allclose(given, scale * given[:, -1:])


def test_a_component_that_no_bet_decides_has_the_width_of_its_mean():
    """Variance and cost too large for any bet: a mean of Z >= 0 is above 0, and that is all."""
    assert betting_deviation(np.float64(0.5), np.float64(0.25), 1, 30.0) == 0.5
    assert betting_deviation(np.float64(0.0), np.float64(0.0), 10, 3.0) == 0.0


def test_a_class_never_seen_has_the_width_of_the_range():
    """V = 0: what is left is 7 r L / (3 (n - 1)), and L = ln(4 N / delta)."""
    X, y = np.full((100, 1), 5.0), np.zeros(100, dtype=int)
    moments = moments_of(X, y)
    width = Width("bernstein", 0.05).half_width(moments, 1.0)[1]
    np.testing.assert_allclose(width, 7 * np.array([5.0, 1.0]) * np.log(16 / 0.05) / (3 * 99))


@pytest.mark.parametrize("kind", WIDTHS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_layouts_have_the_same_widths(wine, kind, fit_intercept, monkeypatch):
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)
    X, y = wine
    dense = half_width(X, y, fit_intercept, kind=kind)
    for layout in (sp.csr_array, sp.csr_matrix):
        sparse = half_width(layout(X), y, fit_intercept, kind=kind)
        np.testing.assert_allclose(sparse, dense, rtol=1e-12)
    single = half_width(X.astype(np.float32), y, fit_intercept, kind=kind)
    np.testing.assert_allclose(single, dense, rtol=1e-5)
    single = half_width(sp.csr_array(X.astype(np.float32)), y, fit_intercept, kind=kind)
    np.testing.assert_allclose(single, dense, rtol=1e-5)


def test_zeros_that_are_not_stored_count_for_the_range():
    X = sp.csr_array([[2.0, -3.0, 0.0, 1.0], [4.0, 0.0, 0.0, 2.0]])
    low, high = Design(X, np.ones(2)).column_range()
    np.testing.assert_array_equal(low, [2.0, -3.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(high, [4.0, 0.0, 0.0, 2.0, 1.0])


@pytest.mark.parametrize("kind", PROBABLE_WIDTHS)
def test_equal_weights_count_rows(wine, kind):
    X, y = wine
    plain = fitted_width(X, y, width=kind)
    for weight in (2.0, 0.1, 1e200):
        found = half_width(X, y, sample_weight=np.full(len(y), weight), kind=kind)
        np.testing.assert_allclose(found, plain, rtol=1e-12)
    some = np.arange(len(y)) % 4 > 0
    np.testing.assert_allclose(
        fitted_width(X, y, 3.0 * some, width=kind), fitted_width(X[some], y[some], width=kind)
    )


@pytest.mark.parametrize("kind", PROBABLE_WIDTHS)
def test_rows_that_do_not_count_alike_have_no_probability(wine, kind):
    X, y = wine
    weights = np.ones(len(y))
    weights[17] = 1.01
    clf = MGCEClassifier(width=kind)
    message = f"sample_weight must be the same for all rows if width='{kind}'"
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y, weights)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X, y, [0, 1, 2], weights)
    clf.partial_fit(X, y, [0, 1, 2])
    with pytest.raises(ValueError, match=message):  # a portion of equal weights, and another
        clf.partial_fit(X, y, sample_weight=np.full(len(y), 2.0))
    with pytest.raises(ValueError, match=message):
        clf.certificate(X, y, weights)
    clf.partial_fit(X, y)
    for class_weight in ("balanced", {0: 1.0, 1: 1.0, 2: 1.0}):
        clf = MGCEClassifier(width=kind, class_weight=class_weight)
        with pytest.raises(ValueError, match=f"class_weight must be None if width='{kind}'"):
            clf.fit(X, y)
    with pytest.raises(ValueError, match=f"class_weight must be None if width='{kind}'"):
        clf.partial_fit(X, y, [0, 1, 2])
    for other in ("standard_error", "std", np.ones((3, 14))):
        MGCEClassifier(width=other, class_weight="balanced").fit(X, y, weights)


def test_one_other_weight_in_many_portions_is_found():
    def joined(odd):
        moments = Moments.none(2, 2)
        for i in range(2000):
            weights = np.full(10, 0.1)
            weights[0] *= odd if i == 1000 else 1.0
            moments = moments.joined(moments_of(np.ones((10, 1)), codes, weights))
        return moments

    codes = np.arange(10) % 2
    assert joined(1.0).n_rows == 20_000
    assert np.isfinite(Width("hoeffding").half_width(joined(1.0), 1.0)).all()
    with pytest.raises(ValueError, match="sample_weight must be the same"):
        Width("hoeffding").half_width(joined(1.1), 1.0)


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("width", [*WIDTHS, "array"])
def test_portions_have_the_widths_of_all_rows(wine, width, layout):
    X, y = wine
    width = np.linspace(0.01, 0.1, 42).reshape(3, 14) if width == "array" else width
    order = np.random.default_rng(0).permutation(len(y))
    whole = MGCEClassifier(width=width, center=True).fit(X, y)
    clf = MGCEClassifier(width=width, center=True)
    for rows in np.array_split(order, 5):
        clf.partial_fit(layout(X[rows]), y[rows], classes=[0, 1, 2])
    found, expected = clf.uncertainty_set_.half_width, whole.uncertainty_set_.half_width
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(clf.uncertainty_set_.tau, whole.uncertainty_set_.tau, atol=1e-12)
    np.testing.assert_allclose(clf.uncertainty_set_.center, whole.uncertainty_set_.center)
    risk, gap = clf.certificate(X, y)
    assert whole.minimax_risk_ - whole.dual_gap_ <= risk
    assert risk - gap <= whole.minimax_risk_


def test_what_is_learned_from_portions_depends_on_the_width(wine):
    X, y = wine
    one = MGCEClassifier(width="std", lam=0.02).partial_fit(X, y, [0, 1, 2])
    other = MGCEClassifier(lam=0.02 * len(y) ** 0.5).partial_fit(X, y, [0, 1, 2])
    np.testing.assert_allclose(one.coef_, other.coef_, atol=1e-9)
    wide = MGCEClassifier(width=np.full((3, 14), 9.0)).partial_fit(X, y, [0, 1, 2])
    assert one.coef_.any() and not wide.coef_.any()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("width", [*WIDTHS, "array"])
def test_certificate_of_a_fit_has_its_width(wine, width, n_classes):
    X, y = wine[0], np.minimum(wine[1], n_classes - 1)
    width = np.linspace(0.01, 0.1, 14 * n_classes).reshape(-1, 14) if width == "array" else width
    clf = MGCEClassifier(width=width, feature_range=(-9.0, 9.0), tol=1e-6).fit(X, y)
    assert clf.certificate(X, y).minimax_risk == pytest.approx(clf.minimax_risk_, rel=1e-9)
    assert 0.0 <= clf.dual_gap_ <= 1e-6 * clf.minimax_risk_


def test_wider_sets_have_a_larger_risk(wine):
    X, y = wine
    risks = [MGCEClassifier(width=np.full((3, 14), w)).fit(X, y).minimax_risk_
             for w in (1e-3, 0.01, 0.1, 9.0)]  # fmt: skip
    assert (np.diff(risks) > 0).all()
    assert risks[-1] == pytest.approx((1 - 3**-0.5) / 0.5)  # that of the uniform rule


def test_half_widths_as_lists_are_taken_as_they_are(wine):
    X, y = wine
    width = np.linspace(0.01, 0.2, 42).reshape(3, 14)
    width[:, 2] = 0.0  # the feature that is always 0
    for lam in (0.1, 1.0):
        np.testing.assert_array_equal(fitted_width(X, y, width=width.tolist(), lam=lam), width)
    clf = MGCEClassifier(width=width).fit(X, y)
    width[0, 0] = 7.0
    assert clf.uncertainty_set_.half_width[0, 0] == 0.01
    assert clf.width is width


def _with(value, k=1, j=5):
    array = np.full((3, 14), 0.1)
    array[k, j] = value
    return array


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"width": "hoefding"}, ValueError, "width must be one of 'standard_error', 'std'.*array"),
        ({"width": 0.1}, TypeError, "width must be one of .*got 0.1 of type float"),
        ({"width": None}, TypeError, "width must be one of"),
        ({"width": True}, TypeError, "width must be one of"),
        ({"width": [["a"] * 14] * 3}, ValueError, "width must have numbers only"),
        ({"width": [[0.1], [0.1, 0.2]]}, ValueError, "width must have numbers only, and rows"),
        ({"width": {"std"}}, ValueError, "width must have numbers only"),
        ({"width": np.ones((3, 13))}, ValueError, r"shape \(3, 14\); got shape \(3, 13\)"),
        ({"width": np.ones((1, 14))}, ValueError, r"shape \(3, 14\); got shape \(1, 14\)"),
        ({"width": [0.1] * 14}, ValueError, r"shape \(3, 14\); got shape \(14,\)"),
        ({"width": np.array(0.1)}, ValueError, r"shape \(3, 14\); got shape \(\)"),
        ({"width": _with(0.0)}, ValueError, "row 1, column 5 has 0.0. Try a small positive number"),
        ({"width": _with(-1.0)}, ValueError, "row 1, column 5 has -1.0"),
        ({"width": _with(np.nan)}, ValueError, "row 1, column 5 has nan"),
        ({"width": _with(np.inf)}, ValueError, "row 1, column 5 has inf"),
        ({"width": _with(-1.0, 0, 2)}, ValueError, "row 0, column 2 has -1.0"),
        ({"width": _with(np.nan, 0, 2)}, ValueError, "row 0, column 2 has nan"),
        ({"delta": 0.0}, ValueError, r"delta must be a number in \(0, 1\).*got 0.0"),
        ({"delta": 1}, ValueError, "delta must be"),
        ({"delta": np.nan}, ValueError, "delta must be"),
        ({"delta": "0.05"}, TypeError, "delta must be"),
        ({"feature_range": 3.0}, TypeError, "feature_range must be a pair"),
        ({"feature_range": "ab"}, TypeError, "feature_range must be a pair"),
        ({"feature_range": np.array(3.0)}, ValueError, "feature_range must be a pair"),
        ({"feature_range": (1, 2, 3)}, ValueError, r"feature_range must be a pair \(low, high\)"),
        ({"feature_range": ("a", 9)}, ValueError, r"feature_range\[0\] must have numbers only"),
        ({"feature_range": (-9, [9] * 14)}, ValueError, r"\[1\].* shape \(13,\).*got shape \(14,"),
        ({"feature_range": (-9, np.inf)}, ValueError, r"feature_range\[1\] must be finite"),
        ({"feature_range": (9, -9)}, ValueError, "low <= high; column 0 has low=9.0 and high=-9.0"),
    ],
)
def test_what_is_no_width(wine, parameters, error, message):
    X, y = wine
    clf = MGCEClassifier(**parameters)
    for method in (clf.fit, lambda X, y: clf.partial_fit(X, y, [0, 1, 2])):
        with pytest.raises(error, match=message):
            method(X, y)
        assert not hasattr(clf, "coef_")
    fitted = MGCEClassifier().fit(X, y).set_params(**parameters)
    with pytest.raises(error, match=message):
        fitted.certificate(X, y)


def test_bernstein_needs_two_rows():
    clf = MGCEClassifier(width="bernstein")
    with pytest.raises(ValueError, match="at least 2 rows to estimate a variance; got 1"):
        clf.partial_fit([[1.0]], [0], classes=[0, 1])
    MGCEClassifier(width="hoeffding").partial_fit([[1.0]], [0], classes=[0, 1])


@pytest.mark.parametrize("layout", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("width", [*WIDTHS, np.ones((3, 14))])
def test_data_outside_their_range(wine, width, layout, monkeypatch):
    monkeypatch.setattr("mgce_sklearn.validation.ROWS_AT_A_TIME", 7)
    X, y = wine[0].copy(), wine[1]
    clf = MGCEClassifier(width=width, feature_range=(-9.0, [9.0] * 13))
    clf.fit(layout(X), y)
    for value in (9.5, -9.5):
        X[30, 4] = value
        message = f"row 30, column 4 has {value}, outside \\[-9.0, 9.0\\]"
        with pytest.raises(ValueError, match=message):
            clf.fit(layout(X), y)
        with pytest.raises(ValueError, match=message):
            clf.certificate(layout(X), y)
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(layout(X), y)
    clf.fit(layout(X), y, np.arange(len(y)) != 30)  # a row that does not count
    X[31, 4] = 9.5
    with pytest.raises(ValueError, match="row 31, column 4"):
        clf.fit(layout(X), y, np.arange(len(y)) != 30)


def test_zeros_not_stored_may_be_outside(wine):
    X, y = sp.csr_array(np.where(wine[0] == 0.0, 0.0, 1.5)), wine[1]
    column = np.argmax((wine[0] == 0.0).any(axis=0))
    row = np.argmax(wine[0][:, column] == 0.0)
    message = f"row {row}, column {column} has 0.0, outside .1.0, 2.0."
    with pytest.raises(ValueError, match=message):
        MGCEClassifier(feature_range=(1.0, 2.0)).fit(X, y)


def test_a_range_is_rounded_as_the_data_are():
    X = np.array([[0.1], [0.3], [0.2], [0.3]], dtype=np.float32)
    assert np.float64(X.max()) > 0.3
    MGCEClassifier(width="hoeffding", feature_range=(0.1, 0.3)).fit(X, [0, 1, 0, 1])


def test_a_range_narrower_than_what_was_read(wine):
    X, y = wine
    clf = MGCEClassifier(width="hoeffding", feature_range=(-9.0, 9.0))
    clf.partial_fit(X, y, classes=[0, 1, 2]).set_params(feature_range=(-2.0, 2.0))
    message = r"contain all rows so far; column 0 was from .* to .*, beyond \[-2.0, 2.0\]"
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(np.clip(X, -2.0, 2.0), y)


def test_search_and_clone(wine):
    X, y = wine
    clf = MGCEClassifier(width=_with(0.2), delta=0.1, feature_range=(-9, [9] * 13))
    params = clone(clf).get_params()
    np.testing.assert_array_equal(params["width"], clf.width)
    assert params["feature_range"] == clf.feature_range
    assert "delta=0.1" in repr(clf)
    grid = {"width": [*WIDTHS, np.full((3, 14), 0.01)]}
    search = GridSearchCV(MGCEClassifier(q=0.2), grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.9
    assert len(search.cv_results_["mean_test_score"]) == 1 + len(WIDTHS)
