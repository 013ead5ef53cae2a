"""Coefficients near the optimum, soon and without a certificate."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from problems import ALL_Q, columns_of, load, make_objective
from scipy.optimize import approx_fprime

from mgce_sklearn.design import Design
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.path import estimates
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import InteriorPoint, Status, Watch
from mgce_sklearn.solvers import approximate as module
from mgce_sklearn.solvers.approximate import approximate


def steps(objective, most_gradients=50, least_gain=0.0):
    """Return the coefficients after so many gradients, or when steps gain little."""
    return approximate(objective, least_gain, most_gradients)[0]


@pytest.fixture(scope="module", params=["wine", "breast_cancer", "diabetes"])
def data(request):
    return load(request.param)


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("lam", [0.1, 1.0])
def test_value_is_near_the_optimum_and_above_it(data, q, lam):
    (point,) = estimates(Problem.from_labels(*data), q, [lam])
    exact = InteriorPoint(tol=1e-6).solve(point.objective)
    assert point.result.value >= exact.dual_value
    assert point.result.value - exact.value < 0.03
    assert point.result.value == pytest.approx(point.objective.value(point.result.coef), rel=1e-12)
    assert point.result.dual_value == 0.0
    assert point.result.status is Status.STALLED
    assert not point.converged


def test_more_gradients_come_closer_until_little_is_left():
    objective = make_objective(*load("wine"), q=0.3)
    values = [objective.value(steps(objective, n)) for n in (2, 10, 50, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(InteriorPoint(tol=1e-9).solve(objective).value, rel=1e-6)


def test_gradients_are_as_many_as_asked_for(monkeypatch):
    objective = make_objective(*load("wine"), q=1.0)
    counted, evaluate = [], Objective.value_and_slope
    monkeypatch.setattr(
        Objective,
        "value_and_slope",
        lambda *arguments: counted.append(1) or evaluate(*arguments),
    )
    _, told = approximate(objective, 0.0, 50)
    assert 50 <= len(counted) < 75
    assert told == len(counted)


def test_the_slope_is_that_of_the_function_where_both_parts_are_positive(monkeypatch):
    given = []
    monkeypatch.setattr(
        module,
        "fmin_l_bfgs_b",
        lambda f, x, **_: given.append((f, x)) or (x, None, {"funcalls": 0}),
    )
    objective = make_objective(*load("wine"), q=0.3)
    steps(objective)
    ((function, zero),) = given
    parts = np.random.default_rng(0).uniform(0.1, 1.0, zero.shape)
    slope = approx_fprime(parts, lambda parts: function(parts)[0], 1e-7)
    np.testing.assert_allclose(function(parts)[1], slope, atol=1e-5)
    parts[len(parts) // 2 :] = 0.0
    coef = parts[: len(parts) // 2].reshape(objective.shape) / objective.parts.column_scale
    assert function(parts)[0] == pytest.approx(objective.value(coef), rel=1e-12)


def test_a_step_that_gains_little_is_the_last():
    objective = make_objective(*load("diabetes"), q=0.3)
    exact = InteriorPoint(tol=1e-9).solve(objective).value
    runs = [approximate(objective, gain, 1000) for gain in (1e-3, 1e-5, 1e-7)]
    counts = [count for _, count in runs]
    assert counts == sorted(counts)
    assert counts[0] < 30 < counts[-1] < 200
    for gain, (coef, _) in zip((1e-3, 1e-5, 1e-7), runs, strict=True):
        assert gain / 100 < objective.value(coef) - exact < 100 * gain


def test_it_ends_after_the_step_at_which_it_is_asked_to():
    objective = make_objective(*load("wine"), q=0.3)
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 3

    coef, count = approximate(objective, 0.0, 50, stop)
    assert len(asked) == 3
    assert 3 < count < 8
    assert objective.value(steps(objective, 50)) < objective.value(coef)
    assert objective.value(coef) < objective.value(np.zeros_like(coef))


def test_the_objective_of_an_estimate_outlives_the_threads_that_found_it(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.parallel.SMALLEST_SHARE", 10)
    monkeypatch.setattr("mgce_sklearn.design.row_team", lambda *size: closing(RowTeam(*size, 2)))
    (point,) = estimates(Problem.from_labels(*load("wine")), 1.0, [1.0])
    with point.objective.opened() as objective:
        assert objective.value(point.result.coef) == pytest.approx(point.result.value)


def test_estimates_are_stopped_when_time_is_up():
    X, y = load("wine")
    late = Watch(deadline=time.monotonic())
    points = list(estimates(Problem.from_labels(X, y), 0.3, [1.0, 0.1], late))
    assert [point.result.status for point in points] == [Status.STOPPED] * 2
    whole = list(estimates(Problem.from_labels(X, y), 0.3, [1.0, 0.1], Watch(late.deadline + 600)))
    for stopped, point in zip(points, whole, strict=True):
        assert point.result.status is Status.STALLED
        assert stopped.result.n_iter < 5 < point.result.n_iter
        assert stopped.result.value > point.result.value


def test_zeros_are_exact_and_those_of_the_optimum():
    objective = make_objective(*load("breast_cancer"), q=0.3, lam=3.0)
    coef = steps(objective, 1000)
    exact = InteriorPoint(tol=1e-9).solve(objective).coef
    expected = abs(exact) > 1e-6
    np.testing.assert_array_equal(coef != 0.0, expected)
    assert 0 < expected.sum() < expected.size
    assert not steps(make_objective(*load("breast_cancer"), lam=1e4)).any()


@pytest.mark.parametrize("q", [0.0, 0.75, 1.0])
def test_units_of_the_features_do_not_matter(q):
    X, y = load("wine")
    units = 2.0 ** np.arange(-18, 21, 3)  # exact: at q = 1 the gradient jumps, and rounding tells
    coef, scaled = (steps(make_objective(rows, y, q)) for rows in (X, X * units))
    np.testing.assert_allclose(scaled[:, :-1] * units, coef[:, :-1], atol=1e-6)


STORED = {
    "sparse": sp.csr_array,
    "single precision": lambda X: X.astype(np.float32),
    "tensor": lambda X: pytest.importorskip("torch").tensor(X),
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("q", [0.3, 1.0])
def test_rows_may_be_stored_in_any_way(stored, q):
    X, y = load("diabetes")
    (found,), (expected,) = (
        estimates(Problem.from_labels(rows, y, center=True), q, [0.1])
        for rows in (STORED[stored](X), X)
    )
    assert found.result.value == pytest.approx(expected.result.value, rel=2e-3)
    assert type(found.result.coef) is type(found.objective.uncertainty.tau)


def test_weights_count():
    X, y = load("wine")
    weights = 1 + np.arange(len(y)) % 3
    weighted = steps(make_objective(X, y, 0.3, sample_weight=weights))
    repeated = make_objective(X.repeat(weights, axis=0), y.repeat(weights), 0.3)
    np.testing.assert_allclose(weighted, steps(repeated), atol=1e-6)


def test_any_potential_will_do():
    """Not smooth ones are taken as they are."""
    objective = make_objective(*load("wine"), q=1.0)
    sharp = objective.value(steps(objective, 200))
    assert sharp - InteriorPoint(tol=1e-6).solve(objective).value < 0.02
    offsets = columns_of(objective, np.zeros((3, objective.parts.n_rows)))
    shifted = replace(objective, offsets=offsets)
    np.testing.assert_array_equal(steps(shifted, 20), steps(objective, 20))


def test_rows_are_centered_in_memory_only_where_that_is_a_product_less():
    X, y = load("wine")
    center = np.append(np.arange(13.0), 0.0)
    dense = Design(X, np.ones(len(y))).centered_at(center)
    copy = dense.centered_in_memory()
    coef = np.random.default_rng(0).normal(size=(2, 14))
    np.testing.assert_allclose(copy.margins(coef), dense.margins(coef), rtol=1e-12)
    assert copy.center is None
    assert copy.centered_in_memory() is copy
    sparse = Design(sp.csr_array(X), np.ones(len(y))).centered_at(center)
    assert sparse.centered_in_memory() is sparse


@pytest.mark.parametrize("seed", range(5))
def test_rows_in_another_order_give_the_same_coefficients(seed):
    """Of more features than rows, where steps turn errors of rounding into 1e-9 to 1e-7."""
    rng = np.random.default_rng(seed)
    X, y = rng.uniform(size=(15, 30)), np.arange(15) % 3
    found = steps(make_objective(X, y, q=0.5, lam=0.1), 40)
    order = rng.permutation(15)
    again = steps(make_objective(X[order], y[order], q=0.5, lam=0.1), 40)
    np.testing.assert_allclose(again, found, rtol=1e-12, atol=1e-12 * np.abs(found).max())
