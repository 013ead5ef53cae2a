"""Design, uncertainty set and objective: definitions, derivatives, and the dual's promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ALL_Q, columns_of, load, make_objective

from mgce_sklearn.design import CompactDesign, Design
from mgce_sklearn.kernels.gram import GramSum
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.potentials import MaximumPotential, MGCEPotential
from mgce_sklearn.uncertainty import Moments, UncertaintySet

N, D, K = 40, 4, 3


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N, D)) * [1.0, 10.0, 0.1, 1.0]
    X[rng.random(X.shape) < 0.3] = 0.0
    weights = rng.integers(1, 4, N).astype(float)
    return X, rng.integers(0, K, N), weights


STORAGES = {
    "dense": lambda X: X,
    "fortran": np.asfortranarray,
    "float32": lambda X: X.astype(np.float32),
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("centered", [True, False])
def test_design_against_plain_matrices(data, storage, fit_intercept, centered, monkeypatch):
    """All rows, and a view of some, whose weights are shares in those of all."""
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)  # several blocks, a short last
    X, _, weights = data
    if storage == "float32":
        X = X.astype(np.float32).astype(float)
    center = np.linspace(-2.0, 3.0, X.shape[1]) * centered
    design = Design(STORAGES[storage](X), weights, fit_intercept)
    stored = np.column_stack([X, np.ones(N)]) if fit_intercept else X
    design = design.centered_at(np.append(center, 0.0)[: stored.shape[1]])
    full = np.column_stack([X - center, np.ones(N)]) if fit_intercept else X - center
    rng = np.random.default_rng(0)
    coef, rows = rng.normal(size=(K, full.shape[1])), rng.normal(size=(K, N))
    mean = weights / weights.sum()
    assert (design.n_rows, design.n_features) == full.shape
    np.testing.assert_allclose(design.margins(coef), coef @ full.T, atol=1e-12)
    np.testing.assert_allclose(design.adjoint(rows), (rows * mean) @ full, atol=1e-12)
    np.testing.assert_array_equal(design.features(), full.T)
    np.testing.assert_allclose(RowsInMemory.of(design).column_scale, np.sqrt(mean @ full**2))
    np.testing.assert_allclose(design.mean_square(), mean @ full**2)
    scale = np.linspace(0.5, 2.0, full.shape[1])
    np.testing.assert_allclose(design.squared_norms(scale), ((full / scale) ** 2).sum(axis=1))
    some = design.columns(np.array([2, 0]))
    np.testing.assert_array_equal(some.view(3, 9).features()[:2], full[3:9, [2, 0]].T)
    taken = design.view(2, 20).take(np.array([4, 2]))
    np.testing.assert_array_equal(taken.features(), full[[6, 4]].T)
    np.testing.assert_allclose(taken.weights, weights[[6, 4]] / weights[[6, 4]].sum())
    part = design.view(2, 20).view(1, 7)  # rows 3 to 9
    assert (part.n_rows, part.n_features) == (6, full.shape[1])
    assert part.total_weight == weights[3:9].sum()
    np.testing.assert_allclose(part.weights, mean[3:9])
    np.testing.assert_allclose(part.margins(coef), coef @ full[3:9].T, atol=1e-12)
    adjoint = (rows * mean)[:, 3:9] @ full[3:9]
    np.testing.assert_allclose(part.adjoint(rows[:, 3:9]), adjoint, atol=1e-12)
    np.testing.assert_array_equal(part.features(), full[3:9].T)
    np.testing.assert_allclose(part.mean_square(), mean[3:9] @ full[3:9] ** 2, atol=1e-12)


def moments_of(design, codes, n_classes):
    return Moments.of(RowsInMemory.of(design, HardLabels(codes)), n_classes)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_moments_about_any_point(data, storage, fit_intercept, offset, monkeypatch):
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)
    X, codes, weights = data
    X = STORAGES[storage](np.where(X == 0.0, 0.0, X + offset))
    full = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)
    full = np.column_stack([full, np.ones(N)]) if fit_intercept else full
    moments = moments_of(Design(X, weights, fit_intercept), codes, K)
    for center in (0.0 * full[0], full[:9].mean(axis=0)):
        about = moments.about(center)
        phi = np.einsum("ik,ij->ikj", np.eye(K)[codes], full - center)
        tau = np.average(phi, axis=0, weights=weights)
        variance = np.average((phi - tau) ** 2, axis=0, weights=weights)
        size = np.abs(full).max()
        np.testing.assert_allclose(about.mean, tau, rtol=1e-12, atol=1e-14 * size)
        np.testing.assert_allclose(about.variance(), variance, rtol=1e-9, atol=1e-15 * size**2)
        square = np.average((full - center) ** 2, axis=0, weights=weights)
        np.testing.assert_allclose(about.column_scale(), np.sqrt(square), rtol=1e-9)
    np.testing.assert_allclose(moments.row_mean(), np.average(full, axis=0, weights=weights))


def test_moments_keep_their_digits_at_large_offsets(data):
    """mean_square - mean² would be wrong by 5% at 1e7 spreads, and by everything at 1e9."""
    X, codes, weights = data
    shifted = np.round(X * 2**20) / 2**20  # so that adding the offset rounds nothing
    moments = [moments_of(Design(shifted + offset, weights), codes, K) for offset in (0.0, 2.0**30)]
    near, far = (part.about(part.row_mean() * [1, 1, 1, 1, 0]) for part in moments)
    np.testing.assert_allclose(far.mean, near.mean, atol=1e-6)
    np.testing.assert_allclose(far.variance(), near.variance(), rtol=1e-6)
    centered = near.classes.mean - near.classes.mean[0]
    np.testing.assert_allclose(far.classes.mean - far.classes.mean[0], centered, atol=1e-14)
    np.testing.assert_allclose(far.classes.variance, near.classes.variance, rtol=1e-12)


def test_uncertainty_set_from_its_definition(data):
    X, codes, weights = data
    design = Design(X, weights)
    uncertainty = UncertaintySet.from_sample(design, HardLabels(codes), K, lam=0.5)
    full = np.column_stack([X, np.ones(N)])
    phi = np.einsum("ik,ij->ikj", np.eye(K)[codes], full)
    n = weights.sum()
    mean = np.average(phi, axis=0, weights=weights)
    variance = np.average((phi - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(uncertainty.tau, mean, atol=1e-12)
    np.testing.assert_allclose(uncertainty.half_width, 0.5 * np.sqrt(variance / n), rtol=1e-9)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("constant", "center"), [(0.0, 0.0), (0.0, 0.5), (3.0, 0.0), (3.0, 0.5)])
def test_a_feature_constant_within_a_class_gets_a_pseudo_observation(
    data, storage, constant, center, monkeypatch
):
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)
    X, codes, weights = data
    X[codes == 1, 2] = constant
    X[np.flatnonzero(codes != 1)[:4], 2] = constant  # other classes have it, too
    X[:, 3] = 0.0
    design = Design(STORAGES[storage](X), weights).centered_at(np.array([0, 0, center, 0, 0.0]))
    uncertainty = UncertaintySet.from_sample(design, HardLabels(codes), K, lam=0.5)
    n, other = weights.sum(), X[:, 2] != constant
    share = weights[codes == 1].sum() / n
    distance = np.average((X[other, 2] - constant) ** 2, weights=weights[other])
    variance = share * (1.0 - share) * (constant - center) ** 2 + distance / n
    tolerance = 1e-6 if storage == "float32" else 1e-12
    found = uncertainty.half_width[:, 2]
    assert found[1] == pytest.approx(0.5 * np.sqrt(variance / n), rel=tolerance)
    assert not uncertainty.half_width[:, 3].any()
    phi = (codes == 0) * (X[:, 2] - center)  # varies within the class: nothing is added
    mean = np.average(phi, weights=weights)
    plain = np.sqrt(np.average((phi - mean) ** 2, weights=weights) / n)
    assert found[0] == pytest.approx(0.5 * plain, rel=tolerance)


def test_one_row_that_differs_makes_a_feature_vary():
    X = np.repeat([[5.0], [6.0], [7.0]], 5000, axis=0)
    codes = np.repeat([0, 1, 2], 5000)
    X[77], X[5077] = np.nextafter(5.0, 6.0), np.nextafter(6.0, 7.0)  # the first row is the origin
    moments = moments_of(Design(X, np.ones(15_000)), codes, 3)
    assert np.isnan(moments.constant[:2, 0]).all()
    assert moments.constant[2, 0] == 7.0
    assert moments.differing[2, 0] == 10_000.0


def test_a_class_without_rows_has_the_width_of_one_row_of_any():
    X, weights = np.array([[0.0], [2.0], [4.0]]), np.ones(3)
    moments = moments_of(Design(X, weights), np.array([0, 0, 1]), 3)
    for center, square in ((0.0, (4.0 + 16.0) / 2.0), (2.0, (4.0 + 0.0 + 4.0) / 3.0)):
        found = moments.about(np.array([center, 0.0])).deviation()[2]
        np.testing.assert_allclose(found, np.sqrt(np.array([square, 1.0]) / 3.0))


def test_a_class_of_nearly_all_the_weight_has_finite_widths():
    """1 less its share is rounding: the weight of the others is summed instead."""
    weights = np.array([1e-20, 1.0, 1.0, 1.0])
    design = Design(np.array([[0.1], [0.7], [0.7], [0.7]]), weights)
    assert weights[1:].sum() / weights.sum() == 1.0
    uncertainty = UncertaintySet.from_sample(design, HardLabels(np.array([0, 1, 1, 1])), 2, lam=0.3)
    assert np.isfinite(uncertainty.half_width).all()
    expected = 0.3 * np.sqrt(1e-20 / 3.0 / 3.0)
    assert uncertainty.half_width[1, -1] == pytest.approx(expected)


def test_binary_reduction_keeps_the_smaller_width():
    uncertainty = UncertaintySet(np.arange(6.0).reshape(2, 3), np.array([[1, 5, 2], [3, 4, 9.0]]))
    reduced = uncertainty.binary()
    np.testing.assert_array_equal(reduced.tau, [[3, 4, 5]])
    np.testing.assert_array_equal(reduced.half_width, [[1, 4, 2]])


def problems_of(data, q, eps):
    X, codes, weights = data
    potential = MGCEPotential(q).smoothed(eps) if eps else MGCEPotential(q)
    for labels in (codes, codes > 0):
        yield replace(make_objective(X, labels, q, 0.3, weights), potential=potential)


# Where the exact potential is twice differentiable at generic points.
SMOOTH = [(0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.5, 0.2), (0.7, 0.2), (1.0, 0.2)]


@pytest.mark.parametrize(("q", "eps"), SMOOTH)
def test_gradient_by_finite_differences(data, q, eps):
    for objective in problems_of(data, q, eps):
        rng = np.random.default_rng(1)
        coef = rng.normal(size=objective.shape) * 0.3
        direction = rng.normal(size=objective.shape) * 0.1
        h = 1e-5

        def smooth(coef, objective=objective):
            value = objective.value_and_slope(coef)[0]
            return value - np.vdot(objective.uncertainty.half_width, np.abs(coef))

        above, below = (smooth(coef + sign * h * direction) for sign in (1, -1))
        slope = np.vdot(objective.value_and_slope(coef)[1], direction)
        assert (above - below) / (2 * h) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 5), (4, 300), (1, 300)])
def test_gram_against_einsum(shape):
    """All three forms: pairs, one class, many features."""
    rng = np.random.default_rng(0)
    n_classes, d = shape
    features, rows = rng.normal(size=(d, 60)), rng.normal(size=(60, n_classes, n_classes))
    curvature = np.einsum("iab,icb->iac", rows, rows)
    k, other_k = np.triu_indices(n_classes)
    pairs = np.ascontiguousarray(curvature[:, k, other_k].T)
    gram = GramSum(n_classes, d)
    other = GramSum(n_classes, d)
    gram.add(pairs[:, :20], features[:, :20])
    gram.add(pairs[:, 20:35], features[:, 20:35])
    other.add(pairs[:, 35:], features[:, 35:])
    gram += other
    expected = np.einsum("ikl,ai,bi->kalb", curvature, features, features)
    np.testing.assert_allclose(gram.matrix(), expected.reshape(n_classes * d, -1), atol=1e-10)


def test_gram_takes_a_curvature_that_rounding_left_below_zero_for_zero():
    gram = GramSum(1, 2)
    gram.add(np.array([[-1e-18, 2.0]]), np.array([[1.0, 3.0], [1.0, 1.0]]))
    np.testing.assert_allclose(gram.matrix(), [[18.0, 6.0], [6.0, 2.0]])


@given(
    q=st.sampled_from(ALL_Q),
    lam=st.sampled_from([1e-3, 0.1, 1.0, 30.0]),
    n_classes=st.integers(2, 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_weak_duality_for_any_coefficients_and_any_distribution(q, lam, n_classes, seed):
    """Every dual value lies below every primal value, whatever the points."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, 3))
    y = np.arange(12) % n_classes
    objective = make_objective(X, y, q, lam, rng.integers(1, 4, 12))
    coef = rng.normal(size=objective.shape) * rng.choice([0.0, 0.1, 1.0, 10.0])
    proba = rng.dirichlet(np.full(n_classes, rng.choice([0.05, 1.0, 20.0])), 12).T
    point = objective.dual_point(columns_of(objective, proba))
    assert 0.0 <= point.shrink <= 1.0
    assert 0.0 <= point.value <= objective.value(coef) * (1 + 1e-12)


def test_dual_point_is_feasible_and_as_large_as_can_be(data):
    X, codes, weights = data
    objective = make_objective(X, codes, 0.7, 0.3, weights)
    proba = np.random.default_rng(0).dirichlet(np.ones(K), N).T
    point = objective.dual_point(columns_of(objective, proba))
    labels = np.eye(K)[codes].T
    assert 0 < point.shrink < 1

    def worst(theta):
        between = columns_of(objective, labels + theta * (proba - labels))
        excess = np.abs(objective.excess(between))
        return np.max(excess / objective.uncertainty.half_width)

    assert worst(point.shrink) == pytest.approx(1.0, rel=1e-9)
    entropy = objective.potential.entropy(labels + point.shrink * (proba - labels))
    assert point.value == pytest.approx(objective.parts.like.weights @ entropy, rel=1e-12)
    for size in (0.5, 0.99, 1.01, 1.5):  # of the largest that is feasible
        between = labels + size * point.shrink * (proba - labels)
        near = objective.dual_point(columns_of(objective, between))
        assert near.shrink == pytest.approx(min(1.0, 1.0 / size), rel=1e-9)


def test_a_dual_point_need_not_be_a_distribution(data):
    """Solvers leave entries below 0 and rows that do not quite sum to 1."""
    X, codes, weights = data
    objective = make_objective(X, codes, 0.3, 30.0, weights)
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.full(K, 20.0), N).T
    proba[0, ::2] = 0.0
    rough = rng.uniform(0.9, 1.1, N) * proba
    rough[0, ::2] = -1e-2
    exact = objective.dual_point(columns_of(objective, proba / proba.sum(axis=0)))
    found = objective.dual_point(columns_of(objective, rough))
    assert found[:2] == pytest.approx(exact[:2], rel=1e-12)
    np.testing.assert_allclose(found.excess, exact.excess, rtol=0.0, atol=1e-12)


def test_adding_a_constant_to_all_margins_of_a_row_changes_nothing(data):
    X, codes, weights = data
    objective = make_objective(X, codes, 0.7, 0.0, weights)  # no penalty: exactly invariant
    coef = np.random.default_rng(0).normal(size=objective.shape)
    shift = np.random.default_rng(1).normal(size=objective.shape[1])
    assert objective.value(coef + shift) == pytest.approx(objective.value(coef), rel=1e-11)


def test_rounding_takes_no_value_below_the_least_that_labels_allow(data):
    """Without labels such a value says that no distribution is feasible, and stays."""
    objective = make_objective(data[0], data[1], q=0.5)
    assert objective.possible(-7e-15) == objective.least_value == 0.0
    assert objective.possible(0.3) == 0.3
    assert replace(objective, labeled=False).possible(-7e-15) == -7e-15


@pytest.mark.parametrize("q", ALL_Q)
def test_value_at_zero_is_the_entropy_of_the_uniform_distribution(data, q):
    for objective in problems_of(data, q, 0.0):
        k = objective.n_classes
        expected = np.log(k) if q == 0 else (1 - k**-q) / q
        assert objective.value(np.zeros(objective.shape)) == pytest.approx(expected, rel=1e-12)


def test_dual_points_without_labels_move_to_an_anchor_as_far_as_they_must():
    """The mixture is feasible, touches a bound, and has the value that is returned."""
    X, y = load("iris")
    labeled = make_objective(X, y, lam=1.0)
    rng = np.random.default_rng(0)
    offsets = rng.uniform(1.0, 2.0, (3, len(y)))
    kept = columns_of(labeled, offsets)
    objective = replace(labeled, potential=MaximumPotential(), labeled=False, offsets=kept)
    width = objective.uncertainty.half_width
    labels, other = np.eye(3)[y].T, rng.dirichlet(np.ones(3), len(y)).T
    far = columns_of(objective, other)
    anchor = objective.dual_point(columns_of(objective, 0.99 * labels + 0.01 * other))
    assert np.isfinite(anchor.value) and 0.0 < objective.depth(anchor) < 1.0
    assert objective.depth(anchor) == pytest.approx(1.0 - np.max(np.abs(anchor.excess) / width))
    assert objective.dual_point(far).value == -np.inf
    found = objective.dual_point(far, anchor=anchor)
    way = objective.excess(far) - anchor.excess
    theta = np.vdot(found.excess - anchor.excess, way) / np.vdot(way, way)
    mixed = (1.0 - theta) * (0.99 * labels + 0.01 * other) + theta * other
    assert 0.0 < theta < 1.0
    excess = objective.excess(columns_of(objective, mixed))
    assert np.max(np.abs(excess) / width) == pytest.approx(1.0)
    np.testing.assert_allclose(found.excess, excess, atol=1e-12)
    assert found.value == pytest.approx(np.mean(np.sum(mixed * offsets, axis=0)), rel=1e-12)
    assert objective.least_value == pytest.approx(offsets.min(axis=0).mean())


UNITS = {
    "one": 1.0,
    "tiny": 1e-30,
    "huge": 1e30,
    "mixed": 10.0 ** np.array([-30.0, -8.0, 3.0, 30.0]),
}


@pytest.mark.parametrize("storage", ["dense", "float32", "csr_array"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("center", [0.0, 1e5])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kept", [True, False])
def test_compact_rows_are_the_same_in_single_precision(
    data, storage, fit_intercept, center, unit, kept, monkeypatch
):
    """Against plain matrices, in units of the features' size."""
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)
    if not kept:
        monkeypatch.setattr("mgce_sklearn.design.WORKING_MEMORY", 0)
    X, _, weights = data
    if storage == "csr_array":
        center /= 1e3  # the size of sparse columns is a difference of squares
    X = (X + center) * UNITS[unit]
    if storage == "float32":
        X = X.astype(np.float32).astype(float)
    point = X.mean(axis=0) * bool(center)
    constant = np.ones((N, 1))[:, : int(fit_intercept)]
    full = np.column_stack([X - point, constant])
    mean = weights / weights.sum()
    size = np.sqrt(mean @ full**2)
    design = Design(STORAGES[storage](X), weights, fit_intercept)
    parts = RowsInMemory.of(design.centered_at(np.append(point, 0.0)[: full.shape[1]]))
    rounded = parts.compact()
    compact = rounded.like
    # Sparse rows without room stay as they are.
    assert isinstance(compact, CompactDesign) == (kept or storage != "csr_array")
    assert rounded.compact() is rounded
    assert (rounded is parts) == (compact is parts.like)
    assert (getattr(compact, "rows", None) is not None) == kept
    rng = np.random.default_rng(0)
    coef, by_class = rng.normal(size=(K, full.shape[1])) / size, rng.normal(size=(K, N))

    def assert_near(actual, expected, unit=1.0):
        assert actual.dtype == np.float64
        np.testing.assert_allclose(actual / unit, expected / unit, atol=3e-6)

    assert_near(rounded.column_scale, size, size)
    assert_near(compact.margins(coef), coef @ full.T)
    some = compact.view(2, 30).view(1, 18)  # rows 3 to 20
    np.testing.assert_allclose(some.weights, mean[3:20])
    assert_near(some.margins(coef), coef @ full[3:20].T)
    assert_near(compact.adjoint(by_class), (by_class * mean) @ full, size)
    part = (by_class * mean)[:, 3:20]
    assert_near(some.adjoint(by_class[:, 3:20]), part @ full[3:20], size)
    assert_near(some.features(), full[3:20].T, size[:, None])
    out = np.empty((full.shape[1], 17))
    assert some.features(out) is out
    assert_near(out, full[3:20].T, size[:, None])
    block = some.block(compact.buffer(17))
    assert_near(block.margins(coef), coef @ full[3:20].T)
    several = np.stack([coef, -coef])
    assert_near(block.margins(several), several @ full[3:20].T)
    sums = block.adjoint(by_class[:, 3:20])
    np.testing.assert_allclose(sums / size, by_class[:, 3:20] @ full[3:20] / size, atol=3e-5)
    if isinstance(compact, CompactDesign):
        assert block.features.dtype == np.float32
        np.testing.assert_allclose(block.scale, size)


def test_compact_rows_of_a_column_of_zeros_are_zeros(data):
    X, _, weights = data
    X[:, 1] = 0.0
    parts = RowsInMemory.of(Design(X, weights)).compact()
    np.testing.assert_array_equal(parts.like.block().features[1], 0.0)
    assert parts.column_scale[1] == 1.0


def test_designs_made_of_a_compact_one_have_rows_of_their_own(data):
    X, _, weights = data
    compact = RowsInMemory.of(Design(X, weights, True)).compact().like
    assert compact.rows is not None
    coef = np.random.default_rng(0).normal(size=(K, D + 1))
    full = np.column_stack([X, np.ones(N)])
    chosen, moved = np.arange(3, 30, 2), np.append(X.mean(axis=0), 0.0)
    for design, expected in (
        (compact.take(chosen), full[chosen]),
        (compact.centered_at(moved), full - moved),
    ):
        np.testing.assert_allclose(design.margins(coef), coef @ expected.T, atol=1e-5)
    columns = [2, 0, D]
    part = compact.columns(np.array([2, 0])).margins(coef[:, columns])
    np.testing.assert_allclose(part, coef[:, columns] @ full[:, columns].T, atol=1e-5)
