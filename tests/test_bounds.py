"""Error bounds against linear programs, and against what must hold whatever the data."""

from __future__ import annotations

import pickle
import warnings
from copy import copy, deepcopy
from functools import partial

import numpy as np
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

import mgce_sklearn
from mgce_sklearn import ConfidenceBound, MGCEClassifier, confidence, feasibility
from mgce_sklearn.bounds import RULES, EmptySetError
from mgce_sklearn.concentration import LARGEST_BET_OF_GAMES, Game, best_bet, largest_mean
from mgce_sklearn.design import Design
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.solvers import LBFGS, SolverResult, Status
from mgce_sklearn.uncertainty import Width

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
def test_bounds_on_digits(rule):
    X, y = (part[::3] for part in load_digits(return_X_y=True))
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
    assert f"from 0.2 to {0.2 * caught.value.growth:.3g}; or give rows" in str(caught.value)
    for factor, empty in ((0.99, True), (1.02, False)):
        refitted = clone(model).set_params(lam=lam * growth * factor).fit(X[::2], y[::2])
        if empty:
            with pytest.raises(EmptySetError):
                refitted.error_bounds(held)
        else:
            found = refitted.error_bounds(held, tol=TOL)
            check_against_linear_programs(refitted, held, found, "deterministic")


def halves(name):
    """Return rows and labels to fit, and others."""
    X, y = load(name)
    return X[::2], y[::2], X[1::2]


def middle():
    """Return the same where the mean of all rows is right, and those of classes are not."""
    X, y = np.array([[-1.0], [1.0]] * 20), np.array([0, 1] * 20)
    return X, y, 0.1 * X


@pytest.mark.parametrize(
    ("rows", "n_tried"), [(halves("iris"), 9), (halves("breast_cancer"), 1), (middle(), 3)]
)
def test_the_search_for_the_growth_tries_nothing_that_is_known(monkeypatch, rows, n_tried):
    """Nothing that sums over classes forbid, nor what earlier trials did, nor more than holds."""
    X, y, others = rows
    model = MGCEClassifier(lam=0.2).fit(X, y)
    least = growth_by_linear_program(others, np.ones(len(others)), model.uncertainty_set_)
    tried = []

    def holds(sample, growth, plain=feasibility.Sample._holds):
        found = plain(sample, growth)
        tried.append((growth, *found))
        return found

    monkeypatch.setattr(feasibility.Sample, "_holds", holds)
    with pytest.raises(EmptySetError):
        model.error_bounds(others)
    known, enough = 1.0, np.inf
    for growth, held, needed in tried:
        assert known < growth < enough
        if held:
            enough = growth
        else:
            assert growth < needed <= least * (1.0 + 1e-9)
            known = needed
    assert len(tried) == n_tried


def test_a_proof_that_a_set_is_empty_says_what_it_needs():
    """In one dimension all of it."""
    X, y, others = middle()
    uncertainty = MGCEClassifier(lam=0.2).fit(X, y).uncertainty_set_
    parts = RowsInMemory.of(Design(others, np.ones(len(others))))
    sample = feasibility.Sample.of(parts, uncertainty)
    held, needed = sample._holds(1.01)
    assert not held
    expected = growth_by_linear_program(others, np.ones(len(others)), uncertainty)
    assert needed == pytest.approx(expected, rel=1e-6)


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
        assert model.confidence_bound(rows).upper == 1.0


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
    """Lower bound <= training error <= upper bound (<= minimax risk of the randomized rule)."""
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
        assert error <= bound.upper + rounding
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
    monkeypatch.setattr(feasibility, "choose_solver", lambda objective: "lbfgs")
    monkeypatch.setattr(feasibility, "SOLVERS", {"lbfgs": partial(LBFGS, max_iter=3)})
    with pytest.warns(ConvergenceWarning, match="'max_iter'.*still valid"):
        found = model.error_bounds(X)
    assert found.status == "max_iter" and found.gap > 1e-3
    assert found.lower <= tight.lower and tight.upper <= found.upper
    assert found.upper - found.gap <= tight.upper + 1e-12


class Useless:
    """A solver that finds nothing."""

    def __init__(self, **settings):
        pass

    def solve(self, objective, start=None, watch=None):
        return SolverResult(np.zeros(objective.shape), 9.0, -np.inf, Status.STALLED, 0, ())


def test_bounds_of_a_solver_that_finds_nothing(monkeypatch):
    """The fit's coefficients bound its rule by the minimax risk, and costs by their extremes."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    monkeypatch.setattr(feasibility, "SOLVERS", {"interior_point": Useless})
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
    solvers = [Useless, feasibility.SOLVERS["interior_point"]]
    order = iter(solvers if fails == "the first" else solvers[::-1])
    made = {"interior_point": lambda **how: next(order)(**how)}
    monkeypatch.setattr(feasibility, "SOLVERS", made)
    with pytest.warns(ConvergenceWarning, match="'stalled'"):
        assert model.error_bounds(X).status == "stalled"


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_first_order_solvers_bound_too(monkeypatch, solver):
    """What "auto" takes beyond 4,000 coefficients: tight bounds, whose gap stays open."""
    X, y = load("wine")
    model = MGCEClassifier(lam=0.3).fit(X, y)
    tight = model.error_bounds(X, tol=1e-5)
    monkeypatch.setattr(feasibility, "choose_solver", lambda objective: solver)
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


@pytest.mark.parametrize("seed", range(30))
def test_the_lower_bound_is_not_above_the_upper(seed):
    """Costs that do not depend on the class leave one number, found from both sides."""
    rng = np.random.default_rng(seed)
    n_classes, n = int(rng.integers(2, 5)), int(rng.integers(6, 40))
    y = np.append(np.arange(n_classes), rng.integers(n_classes, size=n - n_classes))
    X = rng.normal(size=(n, 2))
    model = MGCEClassifier(lam=0.01).fit(X, y)
    found = model.error_bounds(X, cost=np.tile(rng.normal(size=n_classes), (n_classes, 1)))
    assert found.lower <= found.upper <= found.lower + 2.0 * found.gap + 1e-12


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
    single = MGCEClassifier(lam=0.5).fit(X.astype(np.float32), y)
    found = single.error_bounds(X.astype(np.float32), tol=1e-5)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], abs=1e-4)


def test_names_of_columns_are_known_again():
    pd = pytest.importorskip("pandas")
    X, y = load("wine")
    expected = MGCEClassifier(lam=0.5).fit(X, y).error_bounds(X, tol=1e-6)
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    named = MGCEClassifier(lam=0.5).fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = named.error_bounds(frame, tol=1e-6)
    assert [found.lower, found.upper] == pytest.approx([expected.lower, expected.upper], abs=1e-6)


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
    assert found.informative and "vacuous" not in str(found)
    assert f"{found.lower:.4f} <= error of the deterministic rule <= {found.upper:.4f}" in str(
        found
    )
    wide = MGCEClassifier(lam=8.0).fit(X, y).error_bounds(X)
    assert wide.upper >= 2 / 3 and not wide.informative
    assert "vacuous: guessing has 0.6667" in str(wide)
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
    for method in (model.error_bounds, model.confidence_bound):
        with pytest.raises(error, match=message):
            method(X[1::2])


def test_bounds_need_a_fit():
    for method in ("error_bounds", "confidence_bound"):
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
    """Nearly as tight as with coefficients found on all held-out rows, by HiGHS' dual."""
    model, held_out = certified
    found = model.confidence_bound(held_out, delta=0.1, rule=rule)
    assert found.upper == pytest.approx(
        found.means_term + found.rows_term + found.concentration, abs=1e-12
    )
    assert found.concentration > 0.0 and found.informative and found.delta == 0.1
    X, y = mixture(100_000, np.random.default_rng(1))
    assert errors(model, X, y, rule) < found.upper
    wide = clone(model).set_params(width="betting", delta=0.05)
    wide.fit(*mixture(5000, np.random.default_rng(0)))
    least = worst_case_by_linear_program(
        held_out, np.ones(len(held_out)), wide.uncertainty_set_, costs_of(model, held_out, rule)
    )
    assert least - 0.02 <= found.means_term + found.rows_term <= least + 0.05


def turns(n, order):
    """Return the rows seen and the rows that follow: an eighth, a quarter and a half of n."""
    return [(order[:m], order[m : 2 * m]) for m in (n // 8, n // 4, n // 2)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("sparse", "scale"), [(False, 1.0), (True, 1.0), (False, 20.0)])
def test_a_certificate_with_given_coefficients(monkeypatch, rule, sparse, scale):
    """Every term from its definition, for coefficients that are not the best."""
    rng = np.random.default_rng(0)
    n, delta, low, high = 1000, 0.1, np.array([-4.0, -4.5]), np.array([5.0, 4.0])
    X, y = mixture(2000, rng)
    held_out = mixture(n, rng)[0]
    held_out[:50] *= 3.0  # beyond the range, some of them
    kind = sp.csr_array if sparse else np.asarray
    model = MGCEClassifier(feature_range=(low, high)).fit(kind(X), y)
    betting = MGCEClassifier(feature_range=(low, high), width="betting", delta=delta / 2)
    means = betting.fit(kind(X), y).uncertainty_set_
    center = np.zeros(2) if sparse else (low + high) / 2.0  # of sparse columns the range holds 0
    assert means.center.tolist() == [*center, 0.0]
    coef = scale * np.array([[-0.16, -0.11, 0.08], [0.16, -0.1, 0.07], [0.01, 0.22, -0.15]])
    monkeypatch.setattr(confidence, "_coefficients", lambda *arguments: coef)
    found = model.confidence_bound(kind(held_out), delta=delta, rule=rule)

    features = np.column_stack([np.clip(held_out, low, high) - center, np.ones(n)])
    values = np.max(coef @ features.T + costs_of(model, held_out, rule), axis=0)
    corners = np.array([[a, b, 1.0] for a in (low[0], high[0]) for b in (low[1], high[1])])
    corners[:, :2] -= center
    top = 1.0 + np.max(coef @ corners.T)
    means_term = np.sum(means.half_width * np.abs(coef)) - np.sum(means.tau * coef)
    total = found.means_term + found.rows_term + found.concentration
    order = np.random.default_rng(0).permutation(n)
    capitals, rows_read = [], []
    for rows in (order, order[::-1]):
        capital = 1.0
        for seen, following in turns(n, rows):
            bet = best_bet(top - values[seen], np.log(2.0 / delta) / n)
            ratios = (top - values[following]) / (top + means_term - total)
            capital *= np.prod(1.0 - bet + bet * ratios)
            rows_read.extend(following)
        capitals.append(capital)
    assert np.mean(capitals) == pytest.approx(2.0 / delta, rel=1e-6)
    assert found.means_term == pytest.approx(means_term, abs=1e-10)
    assert found.rows_term == pytest.approx(values[rows_read].mean(), abs=1e-10)
    assert found.upper == pytest.approx(min(1.0, total), abs=1e-12)
    assert (total > 1.0) == (scale > 1.0)


def test_coefficients_of_a_certificate_are_small_where_rows_are_few(certified):
    """By their range, which costs where few rows are to come, and by what few rows mislead."""
    model, held_out = certified
    width = Width("betting", 0.05, (np.full(2, -4.0), np.full(2, 4.0)))
    training = confidence.Training.of(model._moments, width)
    costs = costs_of(model, held_out, "deterministic")

    def size(copies, share):
        design = Design(np.tile(held_out, (copies, 1)), np.ones(copies * len(held_out)))
        coef = confidence._coefficients(training, design, np.tile(costs, copies), share)
        return np.abs(coef[:, :-1]).sum()

    assert size(copies=1, share=0.03) < size(copies=1, share=0.003)
    assert size(copies=1, share=0.003) < size(copies=4, share=0.003)


def test_rows_that_follow_have_no_part_in_the_choice(monkeypatch, certified):
    """Coefficients and bets are those of rows read before: what chance says rests on it."""
    model, held_out = certified
    choices = {}

    def recorded(training, rows, costs, share, plain=confidence._coefficients):
        coef = plain(training, rows, costs, share)
        choices[name].append((len(costs.T), coef))
        return coef

    monkeypatch.setattr(confidence, "_coefficients", recorded)
    order = np.random.default_rng(0).permutation(len(held_out))
    changed = held_out.copy()
    later = order[len(order) // 4 :]  # of which the first two turns see nothing
    changed[later] = held_out[later[::-1]]
    for name, rows in (("as drawn", held_out), ("changed", changed)):
        choices[name] = []
        model.confidence_bound(rows)
    sizes = [size for size, _ in choices["as drawn"]]
    assert sizes == [len(order) // 8, len(order) // 4, len(order) // 2] * 2
    same = [
        np.array_equal(coef, other)
        for (_, coef), (_, other) in zip(choices["as drawn"], choices["changed"], strict=True)
    ]
    assert same == [True, True, False, False, False, False]


def test_the_order_of_the_rows_is_none_that_a_user_has_made(certified):
    """Sorted rows would choose for others that are unlike them."""
    model, held_out = certified
    expected = model.confidence_bound(held_out)
    by_feature = held_out[held_out[:, 0].argsort()]
    assert model.confidence_bound(by_feature).upper == pytest.approx(expected.upper, abs=0.02)


def test_more_rows_and_more_doubt_make_certificates_tighter(certified):
    model, held_out = certified
    loose = model.confidence_bound(held_out[:300])
    tight = model.confidence_bound(held_out)
    assert tight.concentration < loose.concentration and tight.upper < loose.upper
    uppers = [model.confidence_bound(held_out, delta=delta).upper for delta in (0.001, 0.05, 0.5)]
    assert uppers == sorted(uppers, reverse=True)


def test_a_certificate_with_costs(certified):
    model, held_out = certified
    plain = model.confidence_bound(held_out)
    found = model.confidence_bound(held_out, cost=5.0 * (1.0 - np.eye(3)) + 1.0)
    assert found.upper == pytest.approx(5.0 * plain.upper + 1.0, rel=1e-9)
    assert found.chance == pytest.approx(5.0 * 2 / 3 + 1.0)
    assert str(found).startswith("expected cost of the deterministic rule on new data <= ")
    assert str(plain).startswith("error of the")
    total = found.means_term + found.rows_term + found.concentration
    assert found.upper == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_rows_beyond_the_range_are_clipped_not_refused(certified, kind):
    model, held_out = certified
    far = held_out.copy()
    far[0] = [100.0, -100.0]
    near = held_out.copy()
    near[0] = [4.0, -4.0]
    assert model.predict(far[:1]) == model.predict(near[:1])
    assert model.confidence_bound(kind(far)) == model.confidence_bound(kind(near))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_certificates_do_not_depend_on_offsets(certified, kind):
    """Rows are clipped as they come, and ranges are of x - c."""
    model, held_out = certified
    X, y = mixture(5000, np.random.default_rng(0))
    held_out = held_out.copy()
    held_out[:30] *= 2.0  # beyond the range, some of them
    moved = MGCEClassifier(feature_range=(-104, -96)).fit(kind(X - 100.0), y)
    found = moved.confidence_bound(kind(held_out - 100.0))
    assert found.upper == pytest.approx(model.confidence_bound(held_out).upper, abs=1e-6)


def test_rows_of_another_distribution_may_prove_that_they_are(certified):
    model, held_out = certified
    with pytest.raises(ValueError, match="X must be distributed like the rows of the fit"):
        model.confidence_bound(held_out + 2.0)


def test_zeros_beyond_the_range_are_clipped_too():
    """Sparse rows have zeros where those of the fit had none."""
    rng = np.random.default_rng(0)
    X, y = mixture(2000, rng)
    model = MGCEClassifier(feature_range=(1.0, 9.0)).fit(X + 5.0, y)
    held_out = mixture(1000, rng)[0] + 5.0
    held_out[::40, 0] = 0.0
    found = model.confidence_bound(sp.csr_array(held_out))
    assert found.upper == pytest.approx(model.confidence_bound(held_out).upper, abs=0.02)


def test_certificates_of_sparse_rows_and_frames(certified):
    model, held_out = certified
    expected = model.confidence_bound(held_out)
    found = model.confidence_bound(sp.csr_array(held_out)).upper
    assert found == pytest.approx(expected.upper, abs=1e-9)
    assert model.confidence_bound(held_out.tolist()) == expected


def test_few_rows_say_nothing():
    rng = np.random.default_rng(0)
    X, y = mixture(20, rng)
    model = MGCEClassifier().fit(X, y)
    for n in (2, 3, 20):
        found = model.confidence_bound(mixture(n, rng)[0])
        assert not found.informative and found.upper == 1.0
        assert "vacuous: guessing has 0.6667" in str(found)


def test_rows_of_the_fit_are_refused():
    rng = np.random.default_rng(0)
    X, y = mixture(200, rng)
    model = MGCEClassifier().fit(X, y)
    for seen in (X, X[:150], X[::-1], np.vstack([X[:60], mixture(140, rng)[0]]), X + 0.0):
        with pytest.raises(
            ValueError, match=r"not seen; of \d+ rows compared, \d+ are rows of the fit"
        ):
            model.confidence_bound(seen)
    # A row or two may coincide, as they do where features have few values.
    model.confidence_bound(np.vstack([X[:2], mixture(100, rng)[0]]))
    coarse = MGCEClassifier().fit(np.round(X / 4.0), y)
    coarse.confidence_bound(np.round(mixture(200, rng)[0] / 4.0))
    with pytest.raises(ValueError, match="of 200 rows compared, 200"):
        coarse.confidence_bound(np.round(X / 4.0))
    with pytest.raises(ValueError, match="has not seen"):
        MGCEClassifier().fit(sp.csr_array(X), y).confidence_bound(X)


def test_the_old_name_of_the_confidence_bound_warns(certified):
    model, held_out = certified
    with pytest.warns(FutureWarning, match="certify is deprecated; call confidence_bound"):
        found = model.certify(held_out, 0.1, rule="randomized")
    assert found == model.confidence_bound(held_out, 0.1, rule="randomized")
    assert isinstance(found, ConfidenceBound)
    with pytest.warns(FutureWarning, match="ErrorCertificate is deprecated; its name is Conf"):
        assert mgce_sklearn.ErrorCertificate is ConfidenceBound
    with pytest.raises(AttributeError, match="no attribute 'Certainty'"):
        _ = mgce_sklearn.Certainty


def test_what_a_confidence_bound_needs(certified):
    _, held_out = certified
    rng = np.random.default_rng(0)
    X, y = mixture(100, rng)
    weighted = MGCEClassifier().fit(X, y, rng.uniform(1, 2, 100))
    balanced = MGCEClassifier(class_weight="balanced").fit(X, y)
    portions = MGCEClassifier().partial_fit(X[:50], y[:50], [0, 1, 2])
    portions.partial_fit(X[50:], y[50:], sample_weight=np.full(50, 2.0))
    for model in (weighted, balanced, portions):
        with pytest.raises(ValueError, match="Rows must have equal weights in the fit"):
            model.confidence_bound(held_out)


def test_weights_that_are_equal_are_none(certified):
    _, held_out = certified
    X, y = mixture(2000, np.random.default_rng(3))
    model = MGCEClassifier(width="std")  # of which a weight of 2 makes no other
    once = model.fit(X, y).confidence_bound(held_out)
    twice = model.fit(X, y, np.full(2000, 2.0)).confidence_bound(held_out)
    assert once.upper < 0.9
    assert twice.upper == pytest.approx(once.upper, abs=1e-9)


def test_confidence_bounds_after_pickling_and_of_copies(certified):
    model, held_out = certified
    expected = model.confidence_bound(held_out)
    for other in (pickle.loads(pickle.dumps(model)), deepcopy(model), copy(model)):
        assert other.confidence_bound(held_out) == expected
        with pytest.raises(ValueError, match="has not seen"):
            other.confidence_bound(mixture(5000, np.random.default_rng(0))[0])


def test_confidence_bounds_after_portions(certified):
    """Of the same rows: the same means and range, and the rule as it is then."""
    model, held_out = certified
    X, y = mixture(5000, np.random.default_rng(0))
    portions = clone(model)
    for rows in (slice(0, 1000), slice(1000, 5000)):
        portions.partial_fit(X[rows], y[rows], [0, 1, 2])
    portions.coef_, portions.intercept_ = model.coef_, model.intercept_
    assert portions.confidence_bound(held_out).upper == pytest.approx(
        model.confidence_bound(held_out).upper, abs=1e-6
    )
    for seen in (X, X[:500], X[4000:]):
        with pytest.raises(ValueError, match="has not seen"):
            portions.confidence_bound(seen)


@pytest.mark.parametrize("portions", [False, True])
def test_a_range_set_since_that_the_rows_of_the_fit_were_not_in(certified, portions):
    _, held_out = certified
    X, y = mixture(500, np.random.default_rng(3))
    model = MGCEClassifier()
    model = model.partial_fit(X, y, [0, 1, 2]) if portions else model.fit(X, y)
    for feature_range, message in (((-1, 1), "must contain all rows"), ((3, 2), "low <= high")):
        with pytest.raises(ValueError, match=message):
            model.set_params(feature_range=feature_range).confidence_bound(held_out)


def test_a_range_is_rounded_as_the_rows_of_the_fit_were():
    """0.1 in single precision is a little more than 0.1."""
    rng = np.random.default_rng(0)
    X, held_out = rng.choice([-0.1, 0.0, 0.05, 0.1], (2, 400, 2))
    model = MGCEClassifier(feature_range=(-0.1, 0.1)).fit(X.astype(np.float32), X[:, 0] > 0.0)
    assert float(np.float32(0.1)) > 0.1
    assert model.confidence_bound(held_out).upper < 1.0


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
        ({"X": np.ones((1, 2))}, ValueError, "X must have at least 2 rows.*got 1"),
    ],
)
def test_wrong_arguments_of_confidence_bounds(certified, arguments, error, message):
    model, held_out = certified
    with pytest.raises(error, match=message):
        model.confidence_bound(**{"X": held_out, **arguments})


def played_on(values, top, delta):
    """Return the games of two orders, each bet chosen by the rows before."""
    n, order = len(values), np.arange(len(values))
    share = np.log(1.0 / delta) / n
    return [
        [
            Game(values[following], top, 0.0, best_bet(top - values[seen], share))
            for seen, following in turns(n, rows)
        ]
        for rows in (order, order[::-1])
    ]


def test_the_mean_is_below_its_bound_as_often_as_claimed():
    """Skewed values with a known mean: violated by at most delta, and not for want of tightness."""
    rng = np.random.default_rng(0)
    delta, n_draws, m = 0.2, 2000, 64
    draws = 1.0 - rng.exponential(0.3, (n_draws, m))  # at most 1, with mean 0.7
    found = np.array([largest_mean(played_on(draw, 1.0, delta), delta) for draw in draws])
    violated = np.mean(found < 0.7)
    assert 0.02 < violated <= delta + 3 * np.sqrt(delta * (1 - delta) / n_draws)
    assert np.mean(found) - 0.7 < 2.0 * 0.3 / np.sqrt(m)  # two standard errors


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0])
def test_the_bet_is_about_the_best(scale):
    """No other gives a bound on the mean of rows like these that is much closer to it."""
    rng = np.random.default_rng(0)
    n, delta = 400, 0.1
    seen, values = 1.0 - scale * rng.exponential(1.0, (2, n))

    def margin(bet):
        return largest_mean([[Game(values, 1.0, 0.0, bet)]], delta) - values.mean()

    bet = best_bet(1.0 - seen, np.log(1.0 / delta) / n)
    assert margin(bet) <= 1.02 * min(map(margin, np.geomspace(1e-3, 0.99, 50)))


def test_bets_of_rows_that_say_little():
    assert best_bet(np.zeros(5), 0.1) == 0.0
    assert best_bet(np.ones(5), 10.0) == LARGEST_BET_OF_GAMES
    assert best_bet(np.ones(1), 1e-3) < best_bet(np.ones(100), 1e-3)


def test_games_at_several_ceilings():
    """The bound is no larger than any ceiling, and what one game lacks another may have."""
    rng = np.random.default_rng(0)
    high = Game(1.0 - rng.exponential(0.3, 500), 1.0, 0.5, 0.2)
    low = Game(np.full(500, 0.2), 0.2, 0.1, 0.0)  # depths of 0
    assert largest_mean([[low]], 0.1) == pytest.approx(0.3)
    assert largest_mean([[high, low]], 0.1) == pytest.approx(0.3)
    alone = largest_mean([[high]], 0.1)
    assert 1.2 < alone < 1.3
    assert largest_mean([[high, high]], 0.1) < alone
    assert largest_mean([[high], [high]], 0.1) == pytest.approx(alone, abs=1e-9)


def test_the_mean_of_values_at_the_top():
    assert largest_mean([[Game(np.ones(5), 1.0, 0.0, 0.9)]], 0.1) == 1.0
    found = largest_mean([[Game(np.zeros(5), 1.0, 0.0, 0.9)]], 0.1)
    assert (0.1 + 0.9 / (1.0 - found)) ** 5 == pytest.approx(10.0)


@pytest.mark.parametrize("n", [100, 10_000, 100_000])
def test_the_mean_of_values_nearly_all_at_the_top(n):
    """What the mean can be may be closer to the top than any number."""
    values = np.ones(n)
    values[0] = 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = largest_mean([[Game(values, 1.0, 0.0, 0.9)]], 0.05)
    assert found == 1.0


def test_values_closer_to_the_top_than_the_ceiling_is_known():
    """What is left between it and the mean is nothing."""
    values = 1.0 - np.array([0.0, 1e-16, 3e-16, 0.0])
    assert largest_mean([[Game(values, 1.0, 1.0, 0.5)]], 0.1) == 2.0


def test_values_that_rounding_puts_above_the_top():
    values = 1.0 + 1e-16 * np.array([-2.0, 2.0, 2.0, -2.0, 0.0])
    assert values.max() > 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = largest_mean([[Game(values, 1.0, 0.0, 0.5)]], 0.1)
    assert found == pytest.approx(1.0, abs=1e-15)


def test_bounds_of_binary_rows_agree_with_all_coefficients():
    """One row of coefficients for two classes, on rows whose means differ from the fit's."""
    X, y = load("breast_cancer")
    model = MGCEClassifier(lam=5.0).fit(X[::2], y[::2])
    found = model.error_bounds(X[1::2], "randomized", tol=TOL)
    check_against_linear_programs(model, X[1::2], found, "randomized")
    assert_allclose(found.chance, 0.5)
