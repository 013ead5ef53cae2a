"""Error bounds against linear programs, and against what must hold whatever the data."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from problems import growth_by_linear_program, load, worst_case_by_linear_program
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, bounds
from mgce_sklearn.bounds import RULES, EmptySetError, mean_above
from mgce_sklearn.solvers import LBFGS, SolverResult, Status

TOL = 1e-4


def five_classes():
    X, y = make_classification(
        400, 8, n_informative=6, n_classes=5, n_clusters_per_class=1, random_state=0
    )
    return StandardScaler().fit_transform(X), y


def data(name):
    return five_classes() if name == "five_classes" else load(name)


def costs_of(model, X, rule):
    """Return the probability (K, n) that the rule errs at a row if its class is k."""
    if rule == "randomized":
        return 1.0 - model.predict_proba(X).T
    return (model.classes_[:, np.newaxis] != model.predict(X)).astype(float)


def errors(model, X, y, rule, weights=None):
    """Return the rule's error rate at known labels."""
    codes = np.searchsorted(model.classes_, y)
    cost = costs_of(model, X, rule)[codes, np.arange(len(y))]
    return np.average(cost, weights=weights)


def check_against_linear_programs(model, X, found, rule, weights=None):
    weights = np.ones(len(X)) if weights is None else weights
    costs = costs_of(model, X, rule)
    largest = worst_case_by_linear_program(X, weights, model.uncertainty_set_, costs)
    least = -worst_case_by_linear_program(X, weights, model.uncertainty_set_, -costs)
    slack = 1e-7  # of the linear program's own tolerances
    assert found.lower - slack <= least <= found.lower + TOL + slack
    assert found.upper - TOL - slack <= largest <= found.upper + slack
    assert found.status == "converged" and found.gap <= TOL


@pytest.mark.parametrize("q", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "five_classes"])
def test_bounds_are_those_of_linear_programs(name, rule, q):
    X, y = data(name)
    model = MGCEClassifier(q=q, lam=0.3).fit(X, y)
    check_against_linear_programs(model, X, model.error_bounds(X, rule, tol=TOL), rule)


@pytest.mark.parametrize("rule", RULES)
def test_bounds_on_all_of_digits(rule):
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X[:, X.std(axis=0) > 0])
    model = MGCEClassifier(lam=0.3).fit(X, y)
    check_against_linear_programs(model, X, model.error_bounds(X, rule, tol=TOL), rule)


def test_published_bounds_of_iris():
    X, y = load("iris")
    model = MGCEClassifier(q=0.7, lam=0.3).fit(X, y)
    randomized = model.error_bounds(X, "randomized", tol=TOL)
    deterministic = model.error_bounds(X, "deterministic", tol=TOL)
    found = [randomized.lower, randomized.upper, deterministic.lower, deterministic.upper]
    assert found == pytest.approx([0.0670, 0.1601, 0.0041, 0.2003], abs=2e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["breast_cancer", "wine", "five_classes"])
def test_rows_without_labels(name, rule):
    """Other rows than the fit's, weighted: their means differ, and so does the set."""
    X, y = data(name)
    model = MGCEClassifier(lam=4.0).fit(X[::2], y[::2])
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(X[1::2]))
    found = model.error_bounds(X[1::2], rule, sample_weight=weights, tol=TOL)
    check_against_linear_programs(model, X[1::2], found, rule, weights)


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "five_classes"])
def test_an_empty_set_says_how_much_lam_must_grow(name):
    X, y = data(name)
    lam = 0.2
    model = MGCEClassifier(lam=lam).fit(X[::2], y[::2])
    with pytest.raises(EmptySetError, match=r"lam must grow from 0\.2 to") as caught:
        model.error_bounds(X[1::2])
    held = X[1::2]
    growth = growth_by_linear_program(held, np.ones(len(held)), model.uncertainty_set_)
    assert growth > 1.0
    assert growth <= caught.value.growth * (1 + 1e-9) <= 1.011 * growth
    assert f"from 0.2 to {0.2 * caught.value.growth:.3g} to hold" in str(caught.value)
    for factor, empty in ((0.99, True), (1.02, False)):
        refitted = clone(model).set_params(lam=lam * growth * factor).fit(X[::2], y[::2])
        if empty:
            with pytest.raises(EmptySetError):
                refitted.error_bounds(held)
        else:
            assert refitted.error_bounds(held).upper <= 1.0


def test_an_empty_set_whose_sums_over_classes_would_fit():
    """Both classes' means are possible alone, and their sum is right, but not together."""
    X = np.array([[-1.0], [1.0]] * 20)
    y = np.array([0, 1] * 20)
    model = MGCEClassifier(lam=0.5).fit(X, y)
    middle = 0.1 * X  # the mean of all rows is the same, class means of -1/2 and 1/2 are not
    with pytest.raises(EmptySetError) as caught:
        model.error_bounds(middle)
    expected = growth_by_linear_program(middle, np.ones(len(X)), model.uncertainty_set_)
    assert caught.value.growth == pytest.approx(expected, rel=0.011)


@pytest.mark.parametrize("lam", [0.5, 0.01])
def test_an_empty_set_whose_sums_over_classes_are_equal(lam):
    """Without an intercept they may be so to the last digit."""
    X, y = np.array([[-1.0], [1.0]] * 20), np.array([0, 1] * 20)
    model = MGCEClassifier(lam=lam, fit_intercept=False).fit(X, y)
    assert model.uncertainty_set_.tau.sum() == 0.0
    with pytest.raises(EmptySetError) as caught:
        model.error_bounds(0.1 * X)
    expected = growth_by_linear_program(0.1 * X, np.ones(len(X)), model.uncertainty_set_)
    assert caught.value.growth == pytest.approx(expected, rel=0.011)


def test_an_empty_set_names_the_lam_of_the_fit():
    """Whatever the parameter has been set to since, and by portions too."""
    X, y = load("iris")
    fitted = MGCEClassifier(lam=0.2).fit(X[::2], y[::2]).set_params(lam=5.0, width="hoeffding")
    read = MGCEClassifier(lam=0.2).partial_fit(X[::2], y[::2], [0, 1, 2]).set_params(lam=5.0)
    for model in (fitted, read, pickle.loads(pickle.dumps(fitted))):
        with pytest.raises(EmptySetError, match=r"lam must grow from 0\.2 to"):
            model.error_bounds(X[1::2])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_feature_that_the_fit_saw(n_classes):
    """Nothing is constrained: every label may be wrong, or right."""
    X, y = load("iris")
    y = np.minimum(y, n_classes - 1)
    model = MGCEClassifier(fit_intercept=False).fit(np.zeros_like(X[::2]), y[::2])
    for rows in (X[1::2], sp.csr_array(X[1::2])):
        found = model.error_bounds(rows)
        assert [found.lower, found.upper, found.gap] == pytest.approx([0, 1, 0], abs=1e-12)
        assert model.certify(rows).upper == 1.0


def test_errors_of_empty_sets_come_back_from_workers():
    for error in (EmptySetError(2.5), EmptySetError(2.5, 0.1)):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.growth) == (str(error), error.growth)


def test_empty_sets_of_given_widths_name_the_factor_alone():
    X, y = load("iris")
    width = np.full((3, 5), 1e-3)
    model = MGCEClassifier(width=width).fit(X[::2], y[::2])
    with pytest.raises(EmptySetError, match=r"Half-widths .* times as large"):
        model.error_bounds(X[1::2])


small = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=small,
    n_classes=st.integers(2, 4),
    q=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]),
    lam=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    weighted=st.booleans(),
)
def test_order(seed, n_classes, q, lam, weighted):
    """Lower bound <= training error <= upper bound (<= minimax risk of the randomised rule)."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(12, 40)), int(rng.integers(1, 4))
    X = rng.normal(size=(n, d)) * 10.0 ** rng.integers(-2, 3, d)
    y = np.append(np.arange(n_classes), rng.integers(n_classes, size=n - n_classes))
    weights = rng.uniform(0.1, 3.0, n) if weighted else None
    with warnings.catch_warnings():  # the order holds whether or not a gap is closed
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MGCEClassifier(q=q, lam=lam).fit(X, y, weights)
        found = {rule: model.error_bounds(X, rule, weights) for rule in RULES}
    rounding = 1e-9
    for rule, bound in found.items():
        error = errors(model, X, y, rule, weights)
        assert 0.0 <= bound.lower <= error + rounding
        assert error <= bound.upper + rounding <= 1.0 + 2 * rounding
    assert found["randomized"].upper <= model.minimax_risk_ + rounding


def test_bounds_hold_whatever_the_gap():
    """One step of a solver: the bounds are wide, and valid."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    tight = model.error_bounds(X, tol=1e-6)
    loose = model.error_bounds(X, tol=0.5)
    assert loose.gap > tight.gap
    assert loose.lower <= tight.lower <= tight.upper <= loose.upper
    assert loose.upper - loose.gap <= tight.upper and loose.lower + loose.gap >= tight.lower


@pytest.mark.parametrize("rule", RULES)
def test_accuracy_beyond_rounding(rule):
    """No slack becomes so small that its inverse overflows; what is found is valid."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    expected = model.error_bounds(X, rule, tol=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.error_bounds(X, rule, tol=1e-15)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], abs=2e-7)


def test_an_open_gap_is_a_warning_and_a_status(monkeypatch):
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    tight = model.error_bounds(X)
    monkeypatch.setattr(bounds, "choose_solver", lambda objective: "lbfgs")
    monkeypatch.setattr(bounds, "SOLVERS", {"lbfgs": lambda tol: LBFGS(tol=tol, max_iter=3)})
    with pytest.warns(ConvergenceWarning, match="'max_iter'.*valid all the same"):
        found = model.error_bounds(X)
    assert found.status == "max_iter" and found.gap > 1e-3
    assert found.lower <= tight.lower and tight.upper <= found.upper
    assert found.upper - found.gap <= tight.upper + 1e-12


class Useless:
    """A solver that finds nothing."""

    def __init__(self, tol):
        pass

    def solve(self, objective, start=None):
        return SolverResult(np.zeros(objective.shape), 9.0, -np.inf, Status.STALLED, 0, ())


def test_bounds_of_a_solver_that_finds_nothing(monkeypatch):
    """The fit's coefficients bound its rule by the minimax risk, and costs by their extremes."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    monkeypatch.setattr(bounds, "SOLVERS", {"interior_point": Useless})
    with pytest.warns(ConvergenceWarning, match="'stalled'"):
        found = model.error_bounds(X, "randomized")
    assert found.upper <= model.minimax_risk_ + 1e-12 and found.lower >= 0.0
    assert found.status == "stalled" and found.gap <= 1.0
    with pytest.warns(ConvergenceWarning, match="'stalled'"):
        far = model.error_bounds(9.0 * X)
    assert (far.lower, far.upper, far.gap) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("fails", ["the first", "the second"])
def test_the_status_is_that_of_the_side_that_fails(monkeypatch, fails):
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    solvers = [Useless, bounds.SOLVERS["interior_point"]]
    order = iter(solvers if fails == "the first" else solvers[::-1])
    monkeypatch.setattr(bounds, "SOLVERS", {"interior_point": lambda tol: next(order)(tol)})
    with pytest.warns(ConvergenceWarning, match="'stalled'"):
        assert model.error_bounds(X).status == "stalled"


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_first_order_solvers_bound_too(monkeypatch, solver):
    """What "auto" takes beyond 4,000 coefficients: tight bounds, whose gap stays open."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    tight = model.error_bounds(X, tol=1e-5)
    monkeypatch.setattr(bounds, "choose_solver", lambda objective: solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.error_bounds(X, tol=1e-2)
    assert tight.lower - 1e-2 <= found.lower <= tight.lower + 1e-5
    assert tight.upper - 1e-5 <= found.upper <= tight.upper + 1e-2
    assert found.upper - found.gap <= tight.upper + 1e-5
    assert found.lower + found.gap >= tight.lower - 1e-5


def test_a_cost_matrix():
    """Costs of any scale and sign; those of errors are the default."""
    X, y = data("five_classes")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    rng = np.random.default_rng(0)
    cost = 10.0 * rng.normal(size=(5, 5))
    for rule in RULES:
        found = model.error_bounds(X, rule, cost=cost, tol=TOL)
        if rule == "randomized":
            costs = cost @ model.predict_proba(X).T
        else:
            costs = cost[:, model.predict(X)]
        ones, spread = np.ones(len(X)), np.ptp(cost)
        largest = worst_case_by_linear_program(X, ones, model.uncertainty_set_, costs)
        least = -worst_case_by_linear_program(X, ones, model.uncertainty_set_, -costs)
        assert largest <= found.upper + 1e-6 and found.upper <= largest + TOL * spread
        assert found.lower <= least + 1e-6 and least - TOL * spread <= found.lower
        assert found.gap <= TOL * spread
        assert found.chance == pytest.approx(cost.mean())
        assert f" <= expected cost of the {rule} rule <= " in str(found)
        plain = model.error_bounds(X, rule)
        same = model.error_bounds(X, rule, cost=7.0 * (1.0 - np.eye(5)) - 2.0)
        assert [same.lower, same.upper] == pytest.approx(
            [7.0 * plain.lower - 2.0, 7.0 * plain.upper - 2.0], abs=1e-9
        )
        assert same.gap == pytest.approx(7.0 * plain.gap, rel=1e-6)


def test_equal_costs_are_known():
    X, y = load("iris")
    found = MGCEClassifier().fit(X, y).error_bounds(X, cost=np.full((3, 3), 2.5))
    assert (found.lower, found.upper, found.gap) == (2.5, 2.5, 0.0)


def test_weights_are_copies_of_rows():
    X, y = load("wine")
    model = MGCEClassifier(lam=0.5).fit(X, y)
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    model.fit(X, y, weights)
    weighted = model.error_bounds(X, sample_weight=weights, tol=1e-6)
    copied = model.error_bounds(np.repeat(X, weights, axis=0), tol=1e-6)
    assert [weighted.lower, weighted.upper] == pytest.approx([copied.lower, copied.upper], abs=2e-6)


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
def test_kinds_of_input(name):
    X, y = load(name)
    X[np.abs(X) < 0.3] = 0.0
    model = MGCEClassifier(lam=0.5).fit(X, y)
    expected = model.error_bounds(X, tol=1e-6)
    for other in (sp.csr_array(X), sp.csc_matrix(X), X.tolist()):
        found = model.error_bounds(other, tol=1e-6)
        assert [found.lower, found.upper] == pytest.approx(
            [expected.lower, expected.upper], abs=1e-6
        )
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    named = MGCEClassifier(lam=0.5).fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = named.error_bounds(frame, tol=1e-6)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], abs=1e-6)
    single = MGCEClassifier(lam=0.5).fit(X.astype(np.float32), y)
    found = single.error_bounds(X.astype(np.float32), tol=1e-5)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], abs=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_twenty_six_classes(rule):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(26, 6))
    y = np.arange(520) % 26
    X = 2.0 * centers[y] + rng.normal(size=(520, 6))
    model = MGCEClassifier(lam=0.5).fit(X, y)
    check_against_linear_programs(model, X, model.error_bounds(X, rule, tol=TOL), rule)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_without_an_intercept(fit_intercept):
    X, y = load("breast_cancer")
    model = MGCEClassifier(lam=0.5, fit_intercept=fit_intercept).fit(X + 0.3, y)
    found = model.error_bounds(X + 0.3, "randomized", tol=TOL)
    check_against_linear_programs(model, X + 0.3, found, "randomized")


def test_features_that_the_fit_never_saw_constrain_nothing():
    """A pixel that was always dark has half-width 0; elsewhere it may be lit."""
    X, y = load("wine")
    dark = np.column_stack([X, np.zeros(len(X))])
    lit = np.column_stack([X, np.ones(len(X))])
    expected = MGCEClassifier(lam=0.5).fit(X, y).error_bounds(X)
    model = MGCEClassifier(lam=0.5).fit(dark, y)
    assert model.uncertainty_set_.half_width[:, -2].max() == 0.0
    for rows in (dark, lit, sp.csr_array(lit)):
        found = model.error_bounds(rows)
        assert [found.lower, found.upper] == pytest.approx(
            [expected.lower, expected.upper], abs=1e-3
        )


def test_after_partial_fit_and_after_pickling():
    X, y = load("wine")
    stream = MGCEClassifier(lam=3.0).partial_fit(X, y, classes=np.unique(y))
    found = stream.error_bounds(X, tol=TOL)
    check_against_linear_programs(stream, X, found, "deterministic")
    assert pickle.loads(pickle.dumps(stream)).error_bounds(X, tol=TOL) == found


def test_what_a_user_reads():
    X, y = load("iris")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    found = model.error_bounds(X)
    assert found.informative and "says nothing" not in str(found)
    assert f"{found.lower:.4f} <= error of the deterministic rule <= {found.upper:.4f}" in str(
        found
    )
    wide = MGCEClassifier(lam=8.0).fit(X, y).error_bounds(X)
    assert wide.upper >= 2 / 3 and not wide.informative
    assert "says nothing: guessing has 0.6667" in str(wide)
    with pytest.raises(AttributeError):
        found.lower = 0.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rule": "median"}, ValueError, "rule must be one of 'deterministic', 'randomized'"),
        ({"rule": None}, TypeError, "rule must be"),
        ({"tol": 0.0}, ValueError, "tol must be a positive"),
        ({"cost": np.ones((2, 3))}, ValueError, r"cost must .*shape \(3, 3\); got shape \(2, 3\)"),
        ({"cost": np.full((3, 3), np.nan)}, ValueError, "cost must be finite"),
        ({"cost": [["a"] * 3] * 3}, ValueError, "cost must have numbers"),
        ({"cost": 1e308 * (1.0 - 2.0 * np.eye(3))}, ValueError, "cost must be finite"),
        ({"sample_weight": -np.ones(150)}, ValueError, "sample_weight must be finite and non-neg"),
        ({"sample_weight": np.zeros(150)}, ValueError, "sample_weight is zero for every row"),
        ({"sample_weight": np.ones(3)}, ValueError, "one weight per row"),
        ({"X": np.ones((4, 2))}, ValueError, "features"),
        ({"X": np.full((4, 4), np.nan)}, ValueError, "NaN"),
        ({"X": np.empty((0, 4))}, ValueError, "0 sample"),
    ],
)
def test_wrong_arguments_of_error_bounds(arguments, error, message):
    X, y = load("iris")
    model = MGCEClassifier().fit(X, y)
    with pytest.raises(error, match=message):
        model.error_bounds(**{"X": X, **arguments})


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"q": 5}, ValueError, "q must be"),
        ({"q": "a"}, TypeError, "q must be"),
        ({"feature_range": 3}, TypeError, "feature_range must be a pair"),
    ],
)
def test_parameters_set_since_the_fit(parameters, error, message):
    X, y = load("iris")
    model = MGCEClassifier().fit(X[::2], y[::2]).set_params(**parameters)
    for method in (model.error_bounds, model.certify):
        with pytest.raises(error, match=message):
            method(X[1::2])


def test_bounds_need_a_fit():
    for method in ("error_bounds", "certify"):
        with pytest.raises(NotFittedError):
            getattr(MGCEClassifier(), method)(np.ones((2, 2)))


# --- with high probability -----------------------------------------------------------------


def mixture(n, rng):
    """Three clipped Gaussians with features in [-4, 4], and their labels."""
    y = rng.integers(3, size=n)
    centers = np.array([[-1.5, 0.0], [1.5, 0.0], [0.0, 2.0]])
    return np.clip(centers[y] + rng.normal(size=(n, 2)), -4.0, 4.0), y


@pytest.fixture(scope="module")
def certified():
    rng = np.random.default_rng(0)
    X, y = mixture(5000, rng)
    return MGCEClassifier(feature_range=(-4, 4)).fit(X, y), mixture(3000, rng)[0]


@pytest.mark.parametrize("rule", RULES)
def test_a_certificate_is_the_sum_of_its_parts(certified, rule):
    """Recomputed from its definition, with the coefficients found anew by HiGHS' dual."""
    model, held_out = certified
    found = model.certify(held_out, delta=0.1, rule=rule)
    assert found.upper == pytest.approx(
        found.means_term + found.rows_term + found.concentration, abs=1e-12
    )
    assert found.concentration > 0.0 and found.informative and found.delta == 0.1
    X, y = mixture(100_000, np.random.default_rng(1))
    assert errors(model, X, y, rule) < found.upper
    # No coefficients do better on the training rows than those that solve the problem with
    # the half-widths alone; the penalty on the range of the margins costs little.
    wide = clone(model).set_params(width="betting", delta=0.05)
    X, y = mixture(5000, np.random.default_rng(0))
    wide.fit(X, y)
    least = worst_case_by_linear_program(
        X, np.ones(len(X)), wide.uncertainty_set_, costs_of(model, X, rule)
    )
    assert least - 0.03 <= found.means_term + found.rows_term <= least + 0.05


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("sparse", "scale"), [(False, 1.0), (True, 1.0), (False, 20.0)])
def test_a_certificate_with_given_coefficients(monkeypatch, rule, sparse, scale):
    """Every term from its definition, for coefficients that are not the best."""
    rng = np.random.default_rng(0)
    delta, low, high = 0.1, np.array([-4.0, -4.5]), np.array([5.0, 4.0])
    X, y = mixture(2000, rng)
    held_out = mixture(1000, rng)[0]
    held_out[:50] *= 3.0  # beyond the range, some of them
    kind = sp.csr_array if sparse else np.asarray
    model = MGCEClassifier(feature_range=(low, high)).fit(kind(X), y)
    betting = MGCEClassifier(feature_range=(low, high), width="betting", delta=delta / 2)
    means = betting.fit(X, y).uncertainty_set_
    coef = scale * np.array([[-0.16, -0.11, 0.08], [0.16, -0.1, 0.07], [0.01, 0.22, -0.15]])
    monkeypatch.setattr(bounds, "_coefficients", lambda *arguments: coef)
    found = model.certify(kind(held_out), delta=delta, rule=rule)

    def largest_margins(rows):
        features = np.column_stack([np.clip(rows, low, high), np.ones(len(rows))])
        return np.max(coef @ features.T + costs_of(model, rows, rule), axis=0)

    corners = np.array([[a, b, 1.0] for a in (low[0], high[0]) for b in (low[1], high[1])])
    top = 1.0 + np.max(coef @ corners.T)
    means_term = np.sum(means.half_width * np.abs(coef)) - np.sum(means.tau * coef)
    values = largest_margins(held_out)
    above = mean_above(values, top, delta / 2, largest_margins(X))
    assert found.means_term == pytest.approx(means_term, abs=1e-10)
    assert found.rows_term == pytest.approx(values.mean(), abs=1e-10)
    assert found.concentration == pytest.approx(above - values.mean(), abs=1e-9)
    assert found.upper == pytest.approx(min(1.0, means_term + above), abs=1e-9)
    assert (means_term + above > 1.0) == (scale > 1.0)


def test_coefficients_of_a_certificate_weigh_the_range_where_rows_are_few(certified):
    """Few held-out rows: the range of the margins is what the bound on their mean costs."""
    model, held_out = certified
    few, many = held_out[:40], held_out

    def spread(rows):
        found = model.certify(rows)
        return abs(found.means_term)

    assert spread(few) < spread(many)


def test_more_rows_and_more_doubt_make_certificates_tighter(certified):
    model, held_out = certified
    loose = model.certify(held_out[:300])
    tight = model.certify(held_out)
    assert tight.concentration < loose.concentration and tight.upper < loose.upper
    uppers = [model.certify(held_out, delta=delta).upper for delta in (0.001, 0.05, 0.5)]
    assert uppers == sorted(uppers, reverse=True)


def test_a_certificate_with_costs(certified):
    model, held_out = certified
    plain = model.certify(held_out)
    found = model.certify(held_out, cost=5.0 * (1.0 - np.eye(3)) + 1.0)
    assert found.upper == pytest.approx(5.0 * plain.upper + 1.0, rel=1e-9)
    assert found.chance == pytest.approx(5.0 * 2 / 3 + 1.0)
    assert str(found).startswith("expected cost of the deterministic rule on new data <= ")
    assert str(plain).startswith("error of the")
    total = found.means_term + found.rows_term + found.concentration
    assert found.upper == pytest.approx(total, rel=1e-12)


def test_rows_beyond_the_range_are_clipped_not_refused(certified):
    model, held_out = certified
    far = held_out.copy()
    far[0] = [100.0, -100.0]
    near = held_out.copy()
    near[0] = [4.0, -4.0]
    if model.predict(far[:1]) == model.predict(near[:1]):
        assert model.certify(far) == model.certify(near)
    assert model.certify(far).upper <= 1.0


def test_certificates_of_sparse_rows_and_frames(certified):
    model, held_out = certified
    expected = model.certify(held_out)
    assert model.certify(sp.csr_array(held_out)).upper == pytest.approx(expected.upper, abs=1e-9)
    assert model.certify(held_out.tolist()) == expected


def test_few_rows_say_nothing():
    rng = np.random.default_rng(0)
    X, y = mixture(20, rng)
    found = MGCEClassifier().fit(X, y).certify(mixture(20, rng)[0])
    assert not found.informative and found.upper <= 1.0
    assert "says nothing: guessing has 0.6667" in str(found)


def test_rows_of_the_fit_are_refused():
    rng = np.random.default_rng(0)
    X, y = mixture(200, rng)
    model = MGCEClassifier().fit(X, y)
    for seen in (X, X[:150], X[::-1], np.vstack([X[:60], mixture(140, rng)[0]]), X + 0.0):
        with pytest.raises(ValueError, match=r"rows that the fit has not seen; \d+ of \d+ are"):
            model.certify(seen)
    # A row or two may coincide, as they do where features have few values.
    model.certify(np.vstack([X[:2], mixture(100, rng)[0]]))
    coarse = MGCEClassifier().fit(np.round(X / 4.0), y)
    coarse.certify(np.round(mixture(200, rng)[0] / 4.0))
    with pytest.raises(ValueError, match="200 of 200"):
        coarse.certify(np.round(X / 4.0))
    with pytest.raises(ValueError, match="has not seen"):
        MGCEClassifier().fit(sp.csr_array(X), y).certify(X)
    zeros = np.where(np.abs(X) < 1.0, 0.0, X)
    with pytest.raises(ValueError, match="has not seen"):
        MGCEClassifier().fit(zeros, y).certify(np.where(zeros == 0.0, -0.0, zeros)[::-1])


def test_what_a_certificate_needs():
    rng = np.random.default_rng(0)
    X, y = mixture(100, rng)
    held_out = mixture(50, rng)[0]
    model = MGCEClassifier().fit(X, y)
    for kept in (pickle.loads(pickle.dumps(model)), MGCEClassifier().partial_fit(X, y, [0, 1, 2])):
        with pytest.raises(ValueError, match="rows of the fit, which partial_fit, copies"):
            kept.certify(held_out)
    assert model.certify(held_out).upper <= 1.0
    weighted = MGCEClassifier().fit(X, y, rng.uniform(1, 2, 100))
    balanced = MGCEClassifier(class_weight="balanced").fit(X, y)
    for model in (weighted, balanced):
        with pytest.raises(ValueError, match="rows count alike"):
            model.certify(held_out)
    twice = MGCEClassifier().fit(X, y, np.full(100, 2.0)).certify(held_out)
    once = MGCEClassifier().fit(X, y).certify(held_out)
    assert twice.upper == pytest.approx(once.upper, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"delta": 0.0}, ValueError, r"delta must be a number in \(0, 1\)"),
        ({"delta": 1.0}, ValueError, "delta must be"),
        ({"delta": "5%"}, TypeError, "delta must be"),
        ({"rule": "median"}, ValueError, "rule must be one of"),
        ({"cost": np.ones(3)}, ValueError, "cost must"),
        ({"X": np.ones((4, 3))}, ValueError, "features"),
        ({"X": np.full((4, 2), np.inf)}, ValueError, "infinity"),
    ],
)
def test_wrong_arguments_of_certify(certified, arguments, error, message):
    model, held_out = certified
    with pytest.raises(error, match=message):
        model.certify(**{"X": held_out, **arguments})


def test_the_mean_is_below_its_bound_as_often_as_claimed():
    """Skewed values with a known mean: violated by at most delta, and not for want of tightness."""
    rng = np.random.default_rng(0)
    delta, n_draws, m = 0.2, 2000, 60

    def draw(size):
        return 1.0 - rng.exponential(0.3, size)  # at most 1, with mean 0.7

    guide = draw(200)
    found = np.array([mean_above(draw(m), 1.0, delta, guide) for _ in range(n_draws)])
    violated = np.mean(found < 0.7)
    assert 0.02 < violated <= delta + 3 * np.sqrt(delta * (1 - delta) / n_draws)
    assert np.mean(found) - 0.7 < 2.0 * 0.3 / np.sqrt(m)  # two standard errors


def test_the_bound_on_the_mean_is_where_one_bet_wins_what_it_must():
    """The capital there, at a bet that the guide alone decides."""
    rng = np.random.default_rng(0)
    delta, bets = 0.1, bounds.BETS[:, np.newaxis]
    chosen = {}
    for sigma in (0.05, 0.5):
        guide = 1.0 - rng.exponential(sigma, 500) - 0.2
        for scale in (0.05, 0.3, 1.0):
            values = 1.0 - scale * rng.exponential(1.0, 80)
            nu = 1.0 - mean_above(values, 1.0, delta, guide)
            log_capital = np.log1p(bets * ((1.0 - values) / nu - 1.0)).sum(axis=1)
            miss = np.abs(log_capital - np.log(1.0 / delta))
            assert miss.min() < 1e-6
            chosen.setdefault(sigma, set()).add(int(miss.argmin()))
    assert all(len(bet) == 1 for bet in chosen.values())
    assert chosen[0.05] != chosen[0.5]


def test_the_mean_of_values_at_the_top():
    assert mean_above(np.ones(5), 1.0, 0.1, np.ones(5)) == 1.0
    assert mean_above(np.zeros(5), 1.0, 0.1, np.ones(5)) <= 1.0


@pytest.mark.parametrize("n", [100, 10_000, 100_000])
def test_the_mean_of_values_nearly_all_at_the_top(n):
    """The ratio of the sample's mean to the bound may be larger than any number."""
    values = np.ones(n)
    values[0] = 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values.mean() <= mean_above(values, 1.0, 0.05, values) <= 1.0


def test_values_that_rounding_puts_above_the_top():
    values = 1.0 + 1e-16 * np.array([-2.0, 2.0, 2.0, -2.0, 0.0])
    assert values.max() > 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_above(values, 1.0, 0.1, values) == pytest.approx(1.0, abs=1e-15)


def test_bounds_of_binary_rows_agree_with_all_coefficients():
    """One row of coefficients for two classes, on rows whose means differ from the fit's."""
    X, y = load("breast_cancer")
    model = MGCEClassifier(lam=5.0).fit(X[::2], y[::2])
    found = model.error_bounds(X[1::2], "randomized", tol=TOL)
    check_against_linear_programs(model, X[1::2], found, "randomized")
    assert_allclose(found.chance, 0.5)
