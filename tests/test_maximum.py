"""The row elimination of the largest margin against the row's full linear system."""

from __future__ import annotations

import numpy as np
import pytest

from mgce_sklearn.kernels import maximum

K = 4
N = 9


@pytest.fixture
def point():
    """Rows inside their constraints whose p does not sum to 1 yet, and their margins."""
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(K, N))
    threshold = margins.max(axis=0) + rng.uniform(0.1, 1.0, N)
    return maximum.MaximumState(rng.uniform(0.1, 1.0, (K, N)), threshold), margins


def newton_step(state, margins, i, target, step):
    """Solve the row's equations for dp (K), ds (K), dt at once.

    ``target`` is what the linearized products p s are to become, ``step`` that of the margins.
    """
    p, s = state.proba[:, i], state.threshold[i] - margins[:, i]
    system, right = np.zeros((2 * K + 1, 2 * K + 1)), np.zeros(2 * K + 1)
    system[:K, :K], system[:K, K : 2 * K] = np.diag(s), np.diag(p)
    right[:K] = target - p * s
    system[K : 2 * K, K : 2 * K], system[K : 2 * K, -1] = np.eye(K), -1.0  # ds - dt = -dm
    right[K : 2 * K] = -step
    system[-1, :K], right[-1] = 1.0, 1.0 - p.sum()
    solution = np.linalg.solve(system, right)
    return solution[:K], solution[K : 2 * K], solution[-1]


@pytest.mark.parametrize("first", [0, 1])
def test_elimination_is_that_of_the_full_system(point, first):
    state, margins = point
    n_pairs = (K - first) * (K - first + 1) // 2
    curvature, kappa, center = np.empty((n_pairs, N)), np.empty((K, N)), np.empty((K, N))
    maximum.eliminate(state, 0, N, margins, first, curvature, kappa, center)
    for i in range(N):
        affine = newton_step(state, margins, i, 0.0, np.zeros(K))[0]
        np.testing.assert_allclose(kappa[:, i], affine, atol=1e-12)
        centered = newton_step(state, margins, i, 0.3, np.zeros(K))[0]
        np.testing.assert_allclose(kappa[:, i] + 0.3 * center[:, i], centered, atol=1e-12)
        moved = [newton_step(state, margins, i, 0.0, unit)[0] - affine for unit in np.eye(K)]
        upper = np.triu_indices(K - first)
        expected = np.transpose(moved)[first:, first:][upper]
        np.testing.assert_allclose(curvature[:, i], expected, atol=1e-12)


def staged_step(state, margins, i, steps, stages, nu, reach):
    """Return dp, ds, dt of a row after predictor, corrector and centrality corrector."""
    p, s = state.proba[:, i], state.threshold[i] - margins[:, i]
    target, dp, ds = np.zeros(K), np.zeros(K), np.zeros(K)
    for stage in range(stages):
        if stage == 1:
            target = target + nu - dp * ds
        elif stage >= 2:
            product = (p + reach[stage - 2, 1] * dp) * (s + reach[stage - 2, 0] * ds)
            pull = np.clip(product, 0.1 * nu, 10 * nu) - product
            target = target + np.maximum(pull, -10 * nu)
        dp, ds, dt = newton_step(state, margins, i, target, steps[stage][:, i])
    return dp, ds, dt


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_following_a_direction(point, stages):
    state, margins = point
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(5, K, N))
    weights, nu = rng.uniform(0.5, 2.0, N), 0.2
    reach = np.array([[0.9, 0.7], [0.8, 0.6], [0.5, 0.9], [0.3, 1.0]])
    found = [staged_step(state, margins, i, steps, stages, nu, reach) for i in range(N)]
    dp, ds = (np.transpose([row[part] for row in found]) for part in (0, 1))
    dt = np.array([row[2] for row in found])
    p, s = state.proba.copy(), state.threshold - margins

    rates, sums, kappa = np.zeros(2), np.zeros(4), np.empty((K, N))
    direction = np.concatenate([margins[np.newaxis], steps])
    maximum.follow(
        state, 0, N, weights, stages, direction, nu, reach, np.zeros(2), kappa, rates, sums
    )
    np.testing.assert_allclose(rates, [np.max(-ds / s), np.max(-dp / p)], rtol=1e-10)
    expected = [np.sum(weights * part) for part in (p * s, p * ds, dp * s, dp * ds)]
    np.testing.assert_allclose(sums, expected, rtol=1e-10)
    np.testing.assert_array_equal(state.proba, p)

    # What the next stage's corrector adds, without its nu.
    if stages == 1:
        added = -dp * ds
    else:
        product = (p + reach[stages - 2, 1] * dp) * (s + reach[stages - 2, 0] * ds)
        added = np.maximum(np.clip(product, 0.1 * nu, 10 * nu) - product, -10 * nu)
    for i in range(N):
        with_it = newton_step(state, margins, i, added[:, i], np.zeros(K))[0]
        without = newton_step(state, margins, i, 0.0, np.zeros(K))[0]
        np.testing.assert_allclose(kappa[:, i], with_it - without, atol=1e-10)

    lengths = np.array([0.5, 0.25])
    before = state.threshold.copy()
    maximum.follow(state, 0, N, weights, stages, direction, nu, reach, lengths, kappa, rates, sums)
    np.testing.assert_allclose(state.threshold, before + 0.5 * dt, rtol=1e-10)
    np.testing.assert_allclose(state.proba, p + 0.25 * dp, rtol=1e-9, atol=1e-12)


def test_blocks_of_rows_are_treated_alike():
    """More rows than lanes, with a rest, and a range that does not start at 0."""
    rng = np.random.default_rng(0)
    n = 2 * maximum.lanes_of(K) + 7
    margins = rng.normal(size=(K, n))
    state = maximum.MaximumState(rng.uniform(0.1, 1.0, (K, n)), margins.max(axis=0) + 0.5)
    out = [np.empty((10, n)), np.empty((K, n)), np.empty((K, n))]
    maximum.eliminate(state, 0, n, margins, 0, *out)
    part = [array[:, 5:].copy() for array in out]
    for array in part:
        array[:] = np.nan
    maximum.eliminate(state, 5, n, margins[:, 5:].copy(), 0, *part)
    for whole, rest in zip(out, part, strict=True):
        np.testing.assert_allclose(rest, whole[:, 5:], rtol=1e-12)
