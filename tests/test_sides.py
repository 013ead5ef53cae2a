"""Dual points of sparse rows, moved toward their labels one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ALL_Q, array_of, columns_of, make_objective, of_design

from mgce_sklearn.design import Design
from mgce_sklearn.kernels import reference, sides
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.objective import Objective
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.solvers import LBFGS, SGD, InteriorPoint, Status, base, certificate
from mgce_sklearn.solvers.base import Progress
from mgce_sklearn.solvers.row_moves import ROUNDS, moved_by_rows, row_thetas
from mgce_sklearn.uncertainty import UncertaintySet

N, D = 60, 25
KINDS = ("plain", "weights", "no intercept", "two classes", "centered", "single precision")


def sparse_rows(rng, n=N, d=D, density=0.2):
    X = rng.normal(size=(n, d))
    X[rng.random(X.shape) > density] = 0.0
    return X


def sparse_objective(kind, rng, q=0.5, lam=0.3):
    """Return an objective, and its features (n, d) as a dense array of what it says they are."""
    X, n_classes = sparse_rows(rng), 2 if kind == "two classes" else 4
    X = X.astype(np.float32).astype(float) if kind == "single precision" else X
    codes = np.arange(N) % n_classes
    weights = rng.integers(1, 5, N).astype(float) if kind == "weights" else np.ones(N)
    stored = sp.csr_array(X.astype(np.float32) if kind == "single precision" else X)
    design = Design(stored, weights, fit_intercept=kind != "no intercept")
    if kind == "centered":
        center = np.zeros(D + 1)
        center[[2, 5]] = 0.7, -0.2
        design = design.centered_at(center)
        X = X - center[:D]
    uncertainty = UncertaintySet.from_sample(design, HardLabels(codes), n_classes, lam)
    uncertainty = uncertainty.binary() if n_classes == 2 else uncertainty
    parts = RowsInMemory.of(design, HardLabels(codes))
    objective = Objective(MGCEPotential(q), parts, uncertainty, n_classes)
    return objective, np.column_stack([X, np.ones(N)]) if design.fit_intercept else X


def some_distributions(rng, objective):
    return rng.dirichlet(np.full(objective.n_classes, 0.3), objective.parts.n_rows).T.copy()


def codes_of(objective):
    return objective.parts.together().labels.codes


def by_definition(objective, features, proba):
    """Return the point (K, n) that rows moved one by one, and then all alike, arrive at."""
    labels = np.eye(objective.n_classes)[codes_of(objective)].T
    away, width = (proba - labels)[objective.first_class :], objective.uncertainty.half_width
    counted = (objective.parts.like.center_point() == 0.0) & (np.arange(features.shape[1]) < D)
    theta = np.ones(N)
    for _ in range(ROUNDS):
        parts = np.einsum("i,ki,ij->kij", objective.parts.like.weights * theta, away, features)
        up, down = parts.clip(min=0.0).sum(axis=1), (-parts).clip(min=0.0).sum(axis=1)
        lowered = np.zeros(N)
        for k, j in np.argwhere(np.abs(up - down) > width):
            if not counted[j]:
                continue
            if up[k, j] > down[k, j]:
                offending, share = parts[k, :, j] > 0, 1 - (width[k, j] + down[k, j]) / up[k, j]
            else:
                offending, share = parts[k, :, j] < 0, 1 - (width[k, j] + up[k, j]) / down[k, j]
            lowered[offending] = np.maximum(lowered[offending], share)
        theta *= 1.0 - lowered
    excess = np.abs((away * theta * objective.parts.like.weights) @ features)
    for_all = min(1.0, np.min(width / excess))
    return labels + theta * for_all * (proba - labels)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("precision", [np.float64, np.float32])
def test_sides_and_shares_against_the_reference(index, precision):
    rng = np.random.default_rng(0)
    X = sp.csr_array(sparse_rows(rng).astype(precision))
    parts = X.indptr.astype(index), X.indices.astype(index), X.data
    rows, weights = rng.normal(size=(N, 3)), rng.random(N)
    shares = np.where(rng.random((D, 3)) < 0.3, rng.uniform(-1.0, 1.0, (D, 3)), 0.0)
    up, down = np.ones((2, D, 3))
    sides.add_sides(*parts, rows, weights, up, down)
    expected = reference.sides(X.toarray(), rows, weights)
    np.testing.assert_allclose([up - 1.0, down - 1.0], expected, rtol=1e-12, atol=1e-14)
    largest = np.empty(N)
    sides.largest_share(*parts, rows, shares, largest)
    expected = reference.largest_share(X.toarray(), rows, shares)
    np.testing.assert_array_equal(largest, expected)
    assert 0 < (largest > 0).sum() < N


@pytest.mark.parametrize("kind", KINDS)
def test_rows_move_as_defined_to_a_feasible_point(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    objective, features = sparse_objective(kind, rng)
    proba = some_distributions(rng, objective)
    before = objective.dual_point(columns_of(objective, proba))
    scaled = columns_of(objective, 1.1 * proba)  # need not sum to 1
    found = objective.dual_point(moved_by_rows(objective, scaled))
    moved = by_definition(objective, features, proba)
    weights, first = objective.parts.like.weights, objective.first_class
    excess = (moved[first:] * weights) @ features - objective.uncertainty.tau
    np.testing.assert_allclose(found.excess, excess, rtol=0.0, atol=1e-12)
    assert np.max(np.abs(excess) / objective.uncertainty.half_width) <= 1.0 + 1e-9
    value = weights @ objective.potential.entropy(moved)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.value > 1.05 * before.value


@given(
    kind=st.sampled_from(KINDS),
    q=st.sampled_from(ALL_Q),
    lam=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_its_value_is_a_lower_bound(kind, q, lam, seed):
    rng = np.random.default_rng(seed)
    objective, _ = sparse_objective(kind, rng, q, lam)
    proba = some_distributions(rng, objective)
    coef = rng.normal(size=objective.shape) * rng.choice([0.0, 0.1, 1.0])
    moved = moved_by_rows(objective, columns_of(objective, proba))
    columns = array_of(objective, moved)
    assert columns.min() >= 0.0
    np.testing.assert_allclose(columns.sum(axis=0), 1.0)
    assert 0.0 <= objective.dual_point(moved).value <= objective.value(coef) * (1 + 1e-12)


def one_row_alone():
    """Return an objective with a column that one row has, of next to no width, and uniform p."""
    rng = np.random.default_rng(0)
    X = np.column_stack([sparse_rows(rng, n=400, d=3, density=0.5), np.zeros(400)])
    X[7, 3] = 1.0
    objective = make_objective(sp.csr_array(X), rng.integers(0, 3, 400), 0.5, 30.0)
    width = objective.uncertainty.half_width.copy()
    width[:, 3] = 1e-6
    uncertainty = replace(objective.uncertainty, half_width=width)
    objective = replace(objective, uncertainty=uncertainty)
    return objective, columns_of(objective, np.full((3, 400), 1.0 / 3.0))


def test_a_column_of_one_row_costs_that_row_alone():
    objective, proba = one_row_alone()
    without = objective.mean_entropy(proba)
    assert objective.dual_point(proba).value < 0.01 * without
    point = objective.dual_point(moved_by_rows(objective, proba))
    assert 0.99 * without <= point.value < without
    way, rows = objective.parts.held(), objective.parts.together()
    rows.hold(way, 1.0 / 3.0 - np.eye(3)[codes_of(objective)])
    thetas = array_of(objective, row_thetas(objective, way))
    assert thetas[7] < 0.01
    np.testing.assert_array_equal(np.delete(thetas, 7), 1.0)


def test_certificates_of_given_coefficients_move_rows(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.solvers.repair.MOST_COEFFICIENTS", 0)
    objective, proba = one_row_alone()
    by_one_theta = objective.dual_point(proba).value
    value, dual_value = certificate(objective, np.zeros(objective.shape))
    assert dual_value > 10.0 * by_one_theta
    assert dual_value <= value


def progress_at(gap_in_tol, objective, proba):
    """Return the progress of a fit whose gap is so many tol, with ``proba`` offered."""
    progress = Progress(LBFGS(tol=1e-3), objective)
    progress.offer_p(proba)
    progress.coef, progress.value = np.zeros(objective.shape), 1.0
    progress.dual_value = 1.0 - 1e-3 * gap_in_tol
    return progress


def test_rows_are_moved_where_that_may_close_the_gap_or_when_a_fit_ends(monkeypatch):
    objective, proba = one_row_alone()
    moves = []

    def noted(objective, proba):
        moves.append(proba)
        return moved_by_rows(objective, proba)

    monkeypatch.setattr(base, "moved_by_rows", noted)
    for gap_in_tol, expected in ((0.9, 0), (0.9 * base.REACH, 1), (1.1 * base.REACH, 0)):
        moves.clear()
        progress = progress_at(gap_in_tol, objective, proba)
        progress.record()
        assert len(moves) == expected
        progress.result(Status.MAX_ITER if gap_in_tol > 1.0 else Status.CONVERGED, 1)
        assert len(moves) == (gap_in_tol > 1.0)
    labels = np.eye(3)[codes_of(objective)].T
    moved = array_of(objective, moved_by_rows(objective, proba))
    moved[:, 7] = labels[:, 7] + 2.0 * (moved - labels)[:, 7]
    earlier = columns_of(objective, moved)
    between = columns_of(objective, 0.5 * (array_of(objective, proba) + labels))
    candidates = [earlier, proba, between]
    values = [objective.dual_point(candidate).value for candidate in candidates]
    assert values == sorted(values, reverse=True)
    progress = Progress(LBFGS(), objective)
    for candidate in candidates:
        progress.offer_p(candidate)
        if candidate is earlier:
            progress.record()  # whatever was better then, the last check is what is left
    moves.clear()
    assert progress.result(Status.STALLED, 1).dual_value > values[0]
    assert moves[0] is proba and len(moves) == 1


def test_a_fit_whose_gap_its_last_move_closes_has_converged():
    objective, proba = one_row_alone()
    moved = objective.dual_point(moved_by_rows(objective, proba)).value
    for factor, status in ((1.001, Status.CONVERGED), (1.1, Status.MAX_ITER)):
        progress = Progress(LBFGS(tol=1e-2), objective)
        progress.offer_p(proba)
        progress.coef, progress.value = np.zeros(objective.shape), factor * moved
        assert progress.result(Status.MAX_ITER, 1).status is status


@pytest.mark.parametrize("solver", [LBFGS, SGD, InteriorPoint])
def test_no_row_of_a_dense_array_is_moved_alone(solver, monkeypatch):
    monkeypatch.setattr(base, "moved_by_rows", None)
    objective, features = sparse_objective("plain", np.random.default_rng(0))
    dense = of_design(objective, replace(objective.parts.like, X=features[:, :D]))
    solver(max_iter=2).solve(dense)
    with pytest.raises(TypeError):
        solver(max_iter=2).solve(objective)


def test_a_sparse_fit_ends_with_a_higher_bound_than_a_dense_one(monkeypatch):
    """They take the same steps. Of many coefficients there is no repair either."""
    monkeypatch.setattr("mgce_sklearn.solvers.repair.MOST_COEFFICIENTS", 0)
    objective, features = sparse_objective("plain", np.random.default_rng(0), lam=0.1)
    dense = of_design(objective, replace(objective.parts.like, X=features[:, :D]))
    ended, beside = (SGD(max_iter=5).solve(problem) for problem in (objective, dense))
    np.testing.assert_allclose(ended.coef, beside.coef, atol=1e-9)
    assert ended.dual_value > 1.2 * beside.dual_value
