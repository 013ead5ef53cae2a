"""What every potential promises, to all solvers and to single ones."""

from __future__ import annotations

import numpy as np
import pytest
from problems import ALL_Q, ConicallyTempered, SmoothlyTempered, Tempered

from mgce_sklearn.design import Design
from mgce_sklearn.potentials import MaximumPotential, MGCEPotential

K, N = 4, 30

SHARP = {
    **{f"mgce {q}": MGCEPotential(q) for q in ALL_Q},
    "maximum": MaximumPotential(),
    "tempered": SmoothlyTempered(MGCEPotential(0.7)),
}
SMOOTHED = {name: SHARP[name].smoothed(0.2) for name in SHARP if name != "mgce 0.0"}
POTENTIALS = {
    **SHARP,
    **{f"smoothed {name}": potential for name, potential in SMOOTHED.items()},
    "tempered alone": Tempered(MGCEPotential(0.3)),
    "tempered cones": ConicallyTempered(MGCEPotential(0.7)),
}

# Above the conjugate of their entropy, which is that of the sharp potential.
ABOVE = {name for name in POTENTIALS if name.startswith("smoothed")} - {"smoothed maximum"}


@pytest.fixture
def margins():
    return 2.0 * np.random.default_rng(0).normal(size=(K, N))


def mean_products(proba, margins):
    return np.sum(proba * margins, axis=0)


@pytest.mark.parametrize("name", POTENTIALS)
def test_values_shift_with_the_margins_and_gradients_are_distributions(name, margins):
    potential = POTENTIALS[name]
    psi, proba = potential.value_and_gradient(margins)
    np.testing.assert_allclose(potential.value(margins), psi, rtol=1e-12)
    np.testing.assert_allclose(proba.sum(axis=0), 1.0, rtol=1e-12)
    assert proba.min() >= 0.0
    assert (psi >= margins.max(axis=0)).all()
    shifted, same = potential.value_and_gradient(margins + 3.0)
    np.testing.assert_allclose(shifted, psi + 3.0, rtol=1e-10)
    np.testing.assert_allclose(same, proba, atol=1e-9)


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_gradient_is_a_subgradient(name, margins):
    potential = POTENTIALS[name]
    psi, proba = potential.value_and_gradient(margins)
    rng = np.random.default_rng(1)
    for size in (1e-3, 0.1, 10.0):
        step = size * rng.normal(size=margins.shape)
        rise = potential.value(margins + step) - psi
        assert (rise >= mean_products(proba, step) - 1e-12).all()
        if potential.smooth:  # and the only one
            assert (rise <= mean_products(proba, step) + 50.0 * size**2).all()


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_entropy_is_what_psi_is_conjugate_to(name, margins):
    """psi(m) = max_p <p, m> + H(p), attained at the gradient."""
    potential = POTENTIALS[name]
    psi, worst_case = potential.value_and_gradient(margins)
    others = np.random.default_rng(1).dirichlet(np.ones(K), N).T
    corners = np.eye(K)[:, np.arange(N) % K]
    for proba in (others, corners, 0.5 * (others + worst_case), worst_case):
        at_most = mean_products(proba, margins) + potential.entropy(proba)
        assert (at_most <= psi + 1e-12).all()
    if name not in ABOVE:
        np.testing.assert_allclose(at_most, psi, rtol=1e-10)


@pytest.mark.parametrize("name", SMOOTHED)
def test_smoothed_ones_come_down_to_the_sharp_one(name, margins):
    potential = SHARP[name]
    distances = []
    for eps in (0.3, 0.1, 1e-2, 1e-3):
        smoothed = potential.smoothed(eps)
        assert smoothed.smooth
        distances.append(smoothed.value(margins) - potential.value(margins))
        assert (distances[-1] >= -1e-12).all()
    assert (np.diff(distances, axis=0) <= 1e-12).all()
    assert np.max(distances[0]) > 1e-3
    assert np.max(distances[-1]) <= 1e-3 * K / 0.1


def test_margins_that_tie_for_the_largest_share_its_probability():
    tied = np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 2.0]])
    _, proba = MaximumPotential().value_and_gradient(tied)
    np.testing.assert_array_equal(proba, [[0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])


def offering(method):
    return [name for name in POTENTIALS if hasattr(POTENTIALS[name], method)]


@pytest.mark.parametrize("name", offering("conic_program"))
def test_the_conic_program_has_the_value_and_its_multipliers_the_gradient(name, margins):
    cp = pytest.importorskip("cvxpy")
    potential = POTENTIALS[name]
    psi, constraints = potential.conic_program(cp, cp.Constant(margins))
    problem = cp.Problem(cp.Minimize(cp.sum(psi)), constraints)
    problem.solve(solver=cp.CLARABEL)
    expected, proba = potential.value_and_gradient(margins)
    np.testing.assert_allclose(psi.value.ravel(), expected, atol=1e-6)
    if constraints:
        multipliers = constraints[0].dual_value
        np.testing.assert_allclose(multipliers / multipliers.sum(axis=0), proba, atol=1e-4)


def rows_inside(potential, margins, proba=None, near=False, nu=0.05):
    """Return rows that have entered in two blocks."""
    design = Design(np.zeros((N, 1)), np.ones(N))
    rows = potential.interior_rows(design, K, N)
    for block in (slice(0, 11), slice(11, N)):
        known = None if proba is None else proba[:, block]
        rows.enter(block, margins[:, block], known, near, nu)
    return rows


def look(rows, margins):
    """Return what a row's elimination writes, and the sum of its products."""
    out = [np.empty((K * (K + 1) // 2, N)), np.empty((K, N)), np.empty((K, N))]
    rows.eliminate(0, N, margins, 0, *out)
    sums, moves = np.zeros(4), np.stack([margins, np.zeros_like(margins)])
    rows.follow(
        0, N, np.ones(N), 1, moves, 0.0, np.ones((1, 2)), np.zeros(2), np.empty((K, N)),
        np.zeros(2), sums,
    )  # fmt: skip
    return *out, sums[0]


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("name", offering("interior_rows"))
def test_rows_start_inside_their_constraints(name, near, margins):
    labels = np.eye(K)[:, np.arange(N) % K]
    rows = rows_inside(POTENTIALS[name], margins, labels if near else None, near)
    assert (rows.proba > 0.0).all()
    np.testing.assert_allclose(rows.proba.sum(axis=0), 1.0, rtol=1e-12)
    curvature, kappa, _, products = look(rows, margins)
    assert 0.0 < products / (N * rows.products) < 3.0
    k, other = np.triu_indices(K)
    C = np.zeros((N, K, K))
    C[:, k, other] = C[:, other, k] = curvature.T
    np.testing.assert_allclose(C.sum(axis=2), 0.0, atol=1e-10)
    assert np.linalg.eigvalsh(C).min() >= -1e-10
    np.testing.assert_allclose(kappa.sum(axis=0), 0.0, atol=1e-10)
