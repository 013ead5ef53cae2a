"""The stochastic solver against the interior point method, and its bookkeeping."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
from problems import ALL_Q, REAL_SETS, load, make_objective

from mgce_sklearn.design import Design
from mgce_sklearn.solvers import SGD, InteriorPoint, Status, sgd
from mgce_sklearn.solvers.sgd import ROWS_PER_BATCH, _Batches, _Iteration

load_once = cache(load)


@cache
def certified(name, q):
    return InteriorPoint(tol=1e-8).solve(make_objective(*load_once(name), q))


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("name", REAL_SETS)
def test_value_comes_close_and_the_bounds_hold(name, q):
    optimum = certified(name, q)
    result = SGD().solve(make_objective(*load_once(name), q))
    # Near q = 1 the gradient jumps, and steps must shrink. 200 rows of digits have widths
    # that differ by orders of magnitude.
    close = (1e-3 if q < 0.9 else 3e-3) * (5 if name == "digits" else 1)
    assert result.value <= optimum.value * (1 + close)
    assert result.value >= optimum.dual_value
    assert result.dual_value <= optimum.value
    assert result.dual_value >= optimum.value * (1 - 20 * close)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.7, 1.0])
def test_many_rows_are_certified(q):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 4))
    y = (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(5000, 3))).argmax(axis=1)
    result = SGD(tol=1e-3).solve(make_objective(X, y, q))
    assert result.status is Status.CONVERGED
    assert result.relative_gap <= 1e-3


def test_rows_with_large_features_do_not_shorten_the_steps():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    y = (X[:, 0] + rng.normal(size=4000) > 0).astype(int)
    X[::500] *= 60.0
    objective = make_objective(X, y, 0.5)
    optimum = InteriorPoint(tol=1e-8).solve(objective)
    result = SGD(max_iter=100).solve(objective)
    assert result.value <= optimum.value * (1 + 1e-3)


def test_zeros_are_those_of_the_optimum():
    objective = make_objective(*load_once("wine"), 0.3)
    coef = InteriorPoint(tol=1e-8).solve(objective).coef
    assert 0.2 < np.mean(coef == 0.0) < 0.8
    np.testing.assert_array_equal(SGD(tol=1e-5).solve(objective).coef == 0.0, coef == 0.0)


def test_the_seed_decides_and_nothing_else():
    objective = make_objective(*load_once("iris"))
    one, again, other = (SGD(max_iter=20, seed=s).solve(objective).coef for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-6


@pytest.mark.parametrize("q", [0.3, 1.0])
def test_sparse_rows_give_the_same_steps(q):
    X, y = load_once("breast_cancer")
    X = np.where(np.abs(X) > 0.5, X, 0.0)
    dense, sparse = (
        SGD(max_iter=10).solve(make_objective(rows, y, q)) for rows in (X, sp.csr_array(X))
    )
    np.testing.assert_allclose(dense.coef, sparse.coef, atol=1e-9)


def test_weights_count_as_rows():
    X, y = load_once("iris")
    weights = np.random.default_rng(0).integers(1, 4, len(y))
    weighted = SGD(tol=1e-3).solve(make_objective(X, y, 0.5, sample_weight=weights))
    repeated = InteriorPoint(tol=1e-8).solve(
        make_objective(np.repeat(X, weights, axis=0), np.repeat(y, weights), 0.5)
    )
    assert weighted.dual_value <= repeated.value <= weighted.value * (1 + 1e-12)
    assert weighted.relative_gap <= 1e-3


def test_a_gap_out_of_reach_ends_in_a_named_status(monkeypatch):
    monkeypatch.setattr(sgd, "SHORTEST_STEP", 0.5)
    result = SGD(tol=1e-12).solve(make_objective(*load_once("iris"), 1.0))
    assert result.status is Status.STALLED
    assert result.n_iter < SGD.max_iter


def test_batches_read_every_row_as_often_as_its_rate_says():
    rng = np.random.default_rng(0)
    sizes = rng.exponential(size=20 * ROWS_PER_BATCH) ** 3
    batches = _Batches(sizes, rng)
    reads = np.zeros(len(sizes))
    for batch in range(batches.count):
        rows = batches.rows(batch)
        assert len(np.unique(rows)) == len(rows)
        reads[rows] += 1.0
    assert reads.max() > 5
    np.testing.assert_allclose(reads / batches.count, batches.rates)
    assert batches.largest_size < sizes.max() / 3


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_the_gradient_is_kept_up_to_date(name):
    iteration = _Iteration(make_objective(*load_once(name), 0.7), None, seed=0)
    iteration.read_all()
    kept = iteration.gradient
    iteration.look()
    assert np.abs(kept).max() > 1e-3
    np.testing.assert_allclose(iteration.gradient, kept, atol=1e-12)


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_steps_are_unbiased(name):
    """Over all batches, the mean move without the prox is that of the full gradient."""
    objective = make_objective(*load_once(name), 0.5)
    iteration = _Iteration(objective, np.full(objective.shape, 0.1), seed=0)
    iteration.half_width = np.zeros_like(iteration.half_width)
    iteration.table[:] = 1.0 / objective.n_classes
    iteration.gradient = iteration._excess()
    start, table, gradient = iteration.scaled, iteration.table.copy(), iteration.gradient.copy()
    moves = []
    for batch in range(iteration.batches.count):
        iteration.scaled, iteration.table, iteration.gradient = start, table.copy(), gradient.copy()
        iteration._read(iteration.batches.rows(batch))
        moves.append((iteration.scaled - start) / -iteration.step)
    _, full, _ = objective.value_and_gradient(start / iteration.scale)
    np.testing.assert_allclose(np.mean(moves, axis=0), full / iteration.scale, atol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_columns_that_say_nothing(value, fit_intercept):
    X, y = np.full((10, 3), value), np.arange(10) % 2
    result = SGD(max_iter=10).solve(make_objective(X, y, 0.5, fit_intercept=fit_intercept))
    assert result.value == pytest.approx(2.0 * (1.0 - 0.5**0.5))
    assert not result.coef.any()


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("store", [np.asarray, sp.csr_array])
def test_squared_norms_are_in_units_of_the_scale(store, fit_intercept):
    X = np.array([[3.0, 0.0], [1.0, 2.0], [0.0, 5.0]])
    design = Design(store(X), np.ones(3), fit_intercept)
    scale = np.array([2.0, 0.5, 1.0][: design.n_features])
    expected = ((X / [2.0, 0.5]) ** 2).sum(axis=1) + fit_intercept
    np.testing.assert_allclose(design.squared_norms(scale), expected)


def test_steps_respect_the_largest_curvature_of_the_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 1)) + 0.1 * rng.normal(size=(20_000, 8))  # nearly one direction
    objective = make_objective(X, np.arange(20_000) % 2, fit_intercept=False)
    iteration = _Iteration(objective, None, seed=0)
    scaled = X / iteration.scale
    largest = np.linalg.eigvalsh(scaled.T @ scaled / len(X))[-1]
    assert iteration._largest_curvature() == pytest.approx(largest, rel=1e-3)
    assert 0.5 / largest < iteration.unit_step < 1.0 / largest
