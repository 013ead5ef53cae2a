"""What the stochastic solver alone does, and its bookkeeping; see `test_solvers` for the rest."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
from problems import array_of, columns_of, load, make_objective

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
from mgce_sklearn.design import Design
from mgce_sklearn.solvers import SGD, InteriorPoint, Status, sgd
from mgce_sklearn.solvers.sgd import ROWS_PER_BATCH, _Batches, _Iteration

load_once = cache(load)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.7, 1.0])
def test_many_rows_are_certified(q):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 4))
    y = (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(5000, 3))).argmax(axis=1)
    result = SGD(tol=1e-3).solve(make_objective(X, y, q))
    assert result.status is Status.CONVERGED
    assert result.relative_gap <= 1e-3


@pytest.mark.parametrize("q", [0.7, 1.0])
def test_the_average_of_the_table_closes_more_of_the_gap_than_the_table(q, monkeypatch):
    objective = make_objective(*load_once("wine"), q)
    # Repairs start from the average as well. Labels in their place give a dual value of 0.
    labels = columns_of(objective, np.eye(3)[objective.parts.together().labels.codes].T)
    monkeypatch.setattr(sgd, "repaired", lambda objective, proba: labels)
    with_average = SGD(max_iter=200).solve(objective)
    monkeypatch.setattr(_Iteration, "average", lambda iteration: labels)
    without = SGD(max_iter=200).solve(objective)
    np.testing.assert_array_equal(with_average.coef, without.coef)
    assert with_average.relative_gap < without.relative_gap / 2.0


def test_averages_are_over_the_passes_since_the_last_one():
    objective = make_objective(*load_once("wine"), 1.0)
    iteration = _Iteration(objective, None, seed=0)
    for n_passes in (3, 2):
        tables = []
        for _ in range(n_passes):
            iteration.read_all()
            tables.append(array_of(objective, iteration.distributions(iteration.table.copy())))
        assert np.abs(tables[0] - tables[1]).max() > 1e-3
        average = array_of(objective, iteration.average())
        np.testing.assert_allclose(average, np.mean(tables, axis=0), atol=1e-12)


def test_rows_with_large_features_do_not_shorten_the_steps():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    y = (X[:, 0] + rng.normal(size=4000) > 0).astype(int)
    X[::500] *= 60.0
    objective = make_objective(X, y, 0.5)
    optimum = InteriorPoint(tol=1e-8).solve(objective)
    result = SGD(max_iter=100).solve(objective)
    assert result.value <= optimum.value * (1 + 1e-3)


def test_the_seed_decides_and_nothing_else():
    objective = make_objective(*load_once("iris"))
    one, again, other = (SGD(max_iter=20, seed=s).solve(objective).coef for s in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-6


@pytest.mark.parametrize("q", [0.9, 1.0])
def test_a_start_near_the_solution_does_not_shorten_the_steps(q):
    near = InteriorPoint(tol=1e-2).solve(make_objective(*load_once("wine"), q, lam=0.12)).coef
    objective = make_objective(*load_once("wine"), q, lam=0.1)
    iteration = _Iteration(objective, near, seed=0)
    first = iteration.step
    iteration.read_all()
    assert iteration.check() > objective.value(near)
    assert iteration.step == first
    assert iteration.check() > 0.0  # the same once more is no progress
    assert iteration.step == 0.5 * first
    result = SGD(max_iter=150).solve(objective, near)  # it stalled after 112, at twice the gap
    assert result.status is Status.MAX_ITER


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
    iteration.check()
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
    _, full = objective.value_and_slope(start / iteration.scale)
    np.testing.assert_allclose(np.mean(moves, axis=0), full / iteration.scale, atol=1e-12)


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


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_random_state_decides_the_order_of_rows():
    X, y = load("wine")

    def coefficients(random_state):
        short = MGCEClassifier(solver="sgd", max_iter=2, random_state=random_state)
        return short.fit(X, y).coef_

    np.testing.assert_array_equal(coefficients(1), coefficients(1))
    assert not np.array_equal(coefficients(1), coefficients(2))
    drawn = np.random.RandomState(1)
    assert not np.array_equal(coefficients(drawn), coefficients(drawn))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_random_state_decides_the_order_of_rows_in_folds():
    def risks(random_state):
        search = MGCEClassifierCV(
            [0.7], [0.1], cv=2, solver="sgd", max_iter=2, certify_scores=True, refit=False,
            random_state=random_state,
        )  # fmt: skip
        return search.fit(*load("wine")).cv_results_["mean_minimax_risk"]

    assert risks(1) == risks(1) and risks(1) != risks(2)
