"""The row elimination against the row's full linear system, solved densely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from problems import ALL_Q

from mgce_sklearn.interior_rows import ThresholdRows
from mgce_sklearn.kernels import barrier
from mgce_sklearn.potentials import MGCEPotential

K = 4
N = 9


class Point(NamedTuple):
    """What a `RowState` and the margins stand for, as the equations have it."""

    log_rule: np.ndarray
    slack: np.ndarray
    proba: np.ndarray
    edge: np.ndarray
    multiplier: np.ndarray
    spare: np.ndarray


def random_state(q, n=N, scale=1.0, log_rule=None):
    """Rows and their margins."""
    rng = np.random.default_rng(0)
    state = barrier.new_rows(K, n)
    if log_rule is None:
        log_rule = rng.uniform(-6, 1.4, (K, n))  # on the way h may exceed 1
    slack = scale * rng.uniform(0.1, 2, (K, n))
    state.distance[:] = barrier.nearer(slack, 2.0 ** (q * log_rule), q)
    for array in (state.proba, state.edge):
        array[:] = rng.uniform(0.1, 1, (K, n))
    state.multiplier[:] = rng.uniform(0.5, 2, n)
    state.spare[:] = scale * rng.uniform(0.1, 1, n)
    state.threshold[:] = rng.normal(size=n)
    return state, q_logarithm(log_rule, q) - slack + state.threshold


def both(distance, margins_less_psi, q):
    """Return s and c of distances, by `RowState`'s definition of these."""
    z = 1.0 + q * margins_less_psi
    inside = distance > 0.0
    slack = np.where(inside, distance, -distance - np.minimum(z, 0.0) / max(q, 1e-300))
    return slack, np.where(inside, np.maximum(z, 0.0) + q * distance, -q * distance)


def q_logarithm(log_rule, q):
    return np.log(2) * log_rule if q == 0 else np.expm1(q * np.log(2) * log_rule) / q


def point_of(state, margins, q):
    slack, c = both(state.distance.astype(float), margins - state.threshold, q)
    t = margins - state.threshold + slack
    log_rule = t / np.log(2) if q == 0.0 else np.log2(c) / q
    edge = state.edge.astype(float)
    return Point(log_rule, slack, state.proba, edge, state.multiplier, state.spare)


@pytest.mark.parametrize("q", ALL_Q)
def test_one_distance_and_the_margins_give_both_bounds(q):
    rng = np.random.default_rng(0)
    slack, c = 10.0 ** rng.uniform(-14, 1, (2, 1000))
    if q == 0.0:
        c[:] = 1.0
    margins_less_psi = (c - 1.0) / q - slack if q > 0.0 else rng.normal(size=1000)
    distance = barrier.nearer(slack, c, q)
    # z is a difference: its rounding shows in the larger of the two, and there alone.
    again = both(distance, margins_less_psi, q)
    np.testing.assert_allclose(again, [slack, c], rtol=1e-14, atol=1e-14 / max(q, 1e-2))
    smaller = [np.where(distance > 0, again[0], slack), np.where(distance > 0, c, again[1])]
    np.testing.assert_allclose(smaller, [slack, c], rtol=1e-14)


def newton_system(state, i, q, products):
    """Jacobian and right-hand side of one row's equations, from their text in `barrier`.

    Unknowns: dt, ds, dp, de (K each), dy, dzeta, dpsi. ``products`` are the values that the
    linearized products p s, e c and y zeta are to change by. At q = 0, e is no unknown.
    """
    t = slice(0, K), slice(K, 2 * K), slice(2 * K, 3 * K), slice(3 * K, 4 * K)
    dt, ds, dp, de = t
    dy, dzeta, dpsi = 4 * K, 4 * K + 1, 4 * K + 2
    size = 4 * K + 3
    h = 2.0 ** state.log_rule[:, i]
    c, g = h**q, h ** (1 - q)
    s, p, e = state.slack[:, i], state.proba[:, i], state.edge[:, i]
    y, zeta = state.multiplier[i], state.spare[i]
    eye = np.eye(K)
    rows = []

    def equation(count, right, **parts):
        block = np.zeros((count, size))
        for where, coefficients in parts.values():
            block[:, where] += coefficients
        rows.append((block, np.broadcast_to(right, count)))

    slope = (1 - q) * g / c  # dg/dt
    equation(
        K, p + e - y * g,
        a=(dt, eye * (y * slope)), b=(dy, g), c=(dp, -eye), d=(de, -eye),
    )  # fmt: skip
    equation(1, 1 - p.sum(), a=(dp, np.ones((1, K))))
    equation(1, 1 - h.sum() - zeta, a=(dt, g[None]), b=(dzeta, 1.0))
    # s = t - m + psi holds already; its change is for the margins' step, put in later.
    equation(K, 0.0, a=(ds, eye), b=(dt, -eye), c=(dpsi, -1.0))
    equation(K, products[0], a=(dp, eye * s), b=(ds, eye * p))
    equation(K, products[1], a=(de, eye * c), b=(dt, eye * (q * e)))
    equation(1, products[2], a=(dy, zeta), b=(dzeta, y))
    return np.vstack([b for b, _ in rows]), np.concatenate([r for _, r in rows])


MARGIN_ROWS = slice(K + 2, 2 * K + 2)  # of the equations: ds - dt - dpsi = -dm


def affine_products(state, i, q):
    c = 2.0 ** (q * state.log_rule[:, i])
    return (
        -state.proba[:, i] * state.slack[:, i],
        -state.edge[:, i] * c,
        -state.multiplier[i] * state.spare[i],
    )


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("first", [0, 1])
def test_elimination(q, first):
    state, margins = random_state(q)
    point = point_of(state, margins, q)
    n_pairs = (K - first) * (K - first + 1) // 2
    curvature = np.empty((n_pairs, N))
    kappa, center = np.empty((K, N)), np.empty((K, N))
    barrier.eliminate(state, 0, N, q, margins, first, curvature, kappa, center)
    for i in range(N):
        jacobian, right = newton_system(point, i, q, affine_products(point, i, q))
        expected_kappa = np.linalg.solve(jacobian, right)[2 * K : 3 * K]
        np.testing.assert_allclose(kappa[:, i], expected_kappa, rtol=1e-9, atol=1e-11)
        margin_steps = np.zeros((len(right), K))
        margin_steps[MARGIN_ROWS] = -np.eye(K)
        C = np.linalg.solve(jacobian, margin_steps)[2 * K : 3 * K]
        np.testing.assert_allclose(
            curvature[:, i], C[first:, first:][np.triu_indices(K - first)], atol=1e-11
        )
        np.testing.assert_allclose(C.sum(axis=1), 0.0, atol=1e-11)
        assert np.linalg.eigvalsh((C + C.T) / 2).min() >= -1e-11
        _, unit = newton_system(point, i, q, (np.ones(K), np.full(K, q), 1.0))
        _, none = newton_system(point, i, q, (np.zeros(K), np.zeros(K), 0.0))
        expected_center = np.linalg.solve(jacobian, unit - none)[2 * K : 3 * K]
        np.testing.assert_allclose(center[:, i], expected_center, rtol=1e-9, atol=1e-11)


def follow(state, margins, q, stages, margin_steps, nu=0.0, reach=(1.0, 1.0), lengths=(0.0, 0.0)):
    kappa, rates, sums = np.empty((K, N)), np.zeros(2), np.zeros(4)
    barrier.follow(
        state, 0, N, q, np.full(N, 1 / N), stages, np.stack([margins, *margin_steps]), nu,
        np.array([reach, reach]), np.array(lengths), kappa, rates, sums,
    )  # fmt: skip
    return kappa, rates, sums


def step_by_dense_solve(state, q, stages, margin_steps, nu, reach):
    """The direction of every row: dt, ds, dp, de, dy, dzeta, dpsi in columns."""
    out = []
    for i in range(N):
        c = 2.0 ** (q * state.log_rule[:, i])
        s, p, e = state.slack[:, i], state.proba[:, i], state.edge[:, i]
        y, zeta = state.multiplier[i], state.spare[i]
        products = affine_products(state, i, q)

        def solve(products, dm, i=i):
            jacobian, right = newton_system(state, i, q, products)
            right[MARGIN_ROWS] -= dm
            return np.linalg.solve(jacobian, right)

        def split(step):
            return [step[j * K : (j + 1) * K] for j in range(4)] + list(step[4 * K : 4 * K + 2])

        step = solve(products, margin_steps[0, :, i])
        if stages > 1:
            dt, ds, dp, de, dy, dzeta = split(step)
            products = [
                products[0] + nu - dp * ds,
                products[1] + q * nu - de * q * dt,
                products[2] + nu - dy * dzeta,
            ]
            step = solve(products, margin_steps[1, :, i])
        if stages > 2:
            dt, ds, dp, de, dy, dzeta = split(step)

            def pull(product, target):
                pulled = np.clip(product, 0.1 * target, 10 * target) - product
                return np.maximum(pulled, -10 * target)

            a, b = reach
            products[0] += pull((p + b * dp) * (s + a * ds), nu)
            products[1] += pull((e + b * de) * (c + a * q * dt), q * nu)
            products[2] += pull((y + b * dy) * (zeta + a * dzeta), nu)
            step = solve(products, margin_steps[2, :, i])
        out.append(step)
    return np.array(out).T


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_directions_rates_and_moves(q, stages):
    rng = np.random.default_rng(1)
    margin_steps = rng.normal(size=(3, K, N)) * 0.1
    nu, reach = 0.2, (0.7, 0.9)
    state, margins = random_state(q)
    point = point_of(state, margins, q)
    step = step_by_dense_solve(point, q, stages, margin_steps, nu, reach)
    dt, ds, dp, de = (step[j * K : (j + 1) * K] for j in range(4))
    dy, dzeta, dpsi = step[4 * K :]
    _, rates, sums = follow(state, margins, q, stages, margin_steps, nu, reach)

    c = 2.0 ** (q * point.log_rule)
    room = np.maximum(1 - np.log(2) * point.log_rule, 0.5)
    ratios = [-ds / point.slack, -q * dt / c, -dzeta / point.spare, dt / c / room]
    primal = max(0.0, *(np.max(r) for r in ratios))
    ratios = [-dp / point.proba, -de / point.edge, -dy / point.multiplier]
    dual = max(0.0, *(np.max(r) for r in ratios))
    np.testing.assert_allclose(rates, [primal, dual], rtol=1e-9)

    def total(a, b):
        products = ((point.proba + b * dp) * (point.slack + a * ds)).sum(axis=0)
        products += (point.multiplier + b * dy) * (point.spare + a * dzeta)
        if q > 0:
            products += ((point.edge + b * de) * (c + a * q * dt)).sum(axis=0) / q
        return products.mean()

    for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.8)):
        assert sums @ (1, a, b, a * b) == pytest.approx(total(a, b), rel=1e-9)

    a, b = 0.2 / max(1, primal), 0.3 / max(1, dual)
    moved, _ = random_state(q)
    follow(moved, margins, q, stages, margin_steps, nu, reach, (a, b))
    np.testing.assert_allclose(moved.proba, state.proba + b * dp, atol=1e-10)
    np.testing.assert_allclose(moved.multiplier, state.multiplier + b * dy, atol=1e-10)
    np.testing.assert_allclose(moved.spare, state.spare + a * dzeta, atol=1e-10)
    np.testing.assert_allclose(moved.threshold, state.threshold + a * dpsi, atol=1e-10)
    # What is stored in single precision.
    distance = barrier.nearer(point.slack + a * ds, c + a * q * dt, q)
    np.testing.assert_allclose(moved.distance, distance, rtol=1e-7)
    np.testing.assert_allclose(moved.edge, point.edge + b * de, rtol=1e-7)
    # It tells s and c apart from rounding: at the new margins both are what they should be.
    after = point_of(moved, margins + a * margin_steps[stages - 1], q)
    np.testing.assert_allclose(after.slack, point.slack + a * ds, rtol=1e-7)
    np.testing.assert_allclose(2.0 ** (q * after.log_rule), c + a * q * dt, rtol=1e-7)


@pytest.mark.parametrize(("log_rule", "scale", "length"), [(None, 100.0, 0.1), (1.3, 1.0, 10.0)])
def test_the_primal_rate_limits_the_growth_of_the_rule(log_rule, scale, length):
    """log h stays below 1, or grows by no more than 1/2 where it is near that or above."""
    log_rules = None if log_rule is None else np.full((K, N), log_rule)
    state, margins = random_state(0.0, scale=scale, log_rule=log_rules)
    point = point_of(state, margins, 0.0)
    margin_steps = length * np.random.default_rng(1).normal(size=(3, K, N))
    step = step_by_dense_solve(point, 0.0, 1, margin_steps, 0.0, (1.0, 1.0))
    growth = np.max(step[:K] / np.maximum(1 - np.log(2) * point.log_rule, 0.5))
    others = max(np.max(-step[K : 2 * K] / point.slack), np.max(-step[4 * K + 1] / point.spare))
    _, rates, _ = follow(state, margins, 0.0, 1, margin_steps)
    assert rates[0] == pytest.approx(max(growth, others), rel=1e-9)
    assert (growth > others) == (log_rule is None)


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("stages", [1, 2])
def test_next_correction_is_the_change_of_kappa(q, stages):
    """kappa + its increments gives the next direction's dp at equal margin steps."""
    margin_steps = np.zeros((3, K, N))
    nu, reach = 0.2, (0.7, 0.9)
    state, margins = random_state(q)
    point = point_of(state, margins, q)
    increment, _, _ = follow(state, margins, q, stages, margin_steps, nu, reach)
    now = step_by_dense_solve(point, q, stages, margin_steps, nu, reach)[2 * K : 3 * K]
    after = step_by_dense_solve(point, q, stages + 1, margin_steps, nu, reach)[2 * K : 3 * K]
    expected = after - now
    if stages == 1:  # its nu is left out, and comes as kappa_center
        center = np.empty((K, N))
        barrier.eliminate(state, 0, N, q, margins, 0, np.empty((10, N)), np.empty((K, N)), center)
        expected = expected - nu * center
    np.testing.assert_allclose(increment, expected, rtol=1e-8, atol=1e-10)


def test_rows_in_pieces_equal_the_whole():
    """Blocks that begin anywhere, with more rows than are treated together."""
    n, q, nu, reach = 600, 0.7, 0.2, np.array([[0.7, 0.9], [0.6, 0.8]])
    rng = np.random.default_rng(0)
    weights, margins = rng.random(n), 0.1 * rng.normal(size=(4, K, n))
    margins[0] = random_state(q, n)[1]

    def everything(pieces):
        """Every result, with sums and rates over the pieces and the rest side by side."""
        (state, _), written = random_state(q, n), []
        rates, sums, no_step, step = np.zeros(2), np.zeros(4), np.zeros(2), np.array([1e-3, 2e-3])
        for start, stop in pieces:
            size = stop - start
            curvature, kappas = np.empty((10, size)), np.empty((4, K, size))
            part = np.ascontiguousarray(margins[:, :, start:stop])
            barrier.eliminate(state, start, stop, q, part[0], 0, curvature, kappas[0], kappas[1])
            for stages, kappa in ((1, kappas[2]), (3, kappas[3])):
                barrier.follow(
                    state, start, stop, q, weights, stages, part,
                    nu, reach, no_step, kappa, rates, sums,
                )  # fmt: skip
            barrier.follow(
                state, start, stop, q, weights, 3, part,
                nu, reach, step, kappas[3].copy(), rates, sums,
            )  # fmt: skip
            written.append(np.vstack([curvature, kappas.reshape(4 * K, size)]))
        return np.hstack(written), rates, sums, *state

    whole = everything([(0, n)])
    for pieces in ([(0, 40), (40, 330), (330, n)], [(i, i + 1) for i in range(n)]):
        for one, other in zip(whole, everything(pieces), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-12)


def products_of(state, margins, q):
    """Return p s, e c / q and y zeta, and sum p and sum h + zeta."""
    point = point_of(state, margins, q)
    h = 2.0**point.log_rule
    products = [point.proba * point.slack, (point.multiplier * point.spare)[None]]
    if q > 0.0:
        products.append(point.edge * h**q / q)
    return np.concatenate(products), point.proba.sum(axis=0), h.sum(axis=0) + point.spare


def assert_central(state, margins, q, nu):
    """Every product is near nu, every row inside and on its equations."""
    products, total, rules = products_of(state, margins, q)
    # What is stored in single precision is known to a part of itself.
    np.testing.assert_allclose(products / nu, 1.0, atol=barrier.CENTERED + 1e-3)
    np.testing.assert_allclose(total, 1.0, atol=1e-9)
    # In units of the products too.
    np.testing.assert_allclose(
        state.multiplier * (rules - 1.0) / nu, 0.0, atol=barrier.CENTERED + 2e-6 / nu
    )
    positive = (state.proba, state.multiplier, state.spare, *([state.edge] if q > 0.0 else []))
    assert all((array > 0.0).all() for array in positive)
    slack, c = both(state.distance.astype(float), margins - state.threshold, q)
    assert (slack > 0.0).all()
    assert (c > 0.0).all()


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("spread", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("nu", [1.0, 1e-2, 1e-4, 1e-6])
def test_rows_enter_on_the_central_path(q, n_classes, spread, nu):
    """Where rows are put at the start, by both implementations."""
    rng = np.random.default_rng(0)
    margins = spread * rng.normal(size=(n_classes, 320))  # more than are treated together
    rows = ThresholdRows(MGCEPotential(q), barrier.new_rows(n_classes, 320))
    for part in (slice(0, 20), slice(20, 320)):
        rows.enter(part, margins[:, part], None, False, nu)
    assert_central(rows.state, margins, q, nu)

    torch = pytest.importorskip("torch")
    from mgce_sklearn.tensors.barrier import TensorBarrier
    from mgce_sklearn.tensors.potentials import TensorMGCEPotential

    tensors = TensorBarrier(torch.device("cpu"))
    others = ThresholdRows(TensorMGCEPotential(q), tensors.new_rows(n_classes, 320), tensors)
    others.enter(slice(0, 320), torch.tensor(margins), None, False, nu)
    other = barrier.RowState(*map(np.asarray, others.state))
    assert_central(other, margins, q, nu)
    # The central path is one point: the two are as near to each other as to it.
    np.testing.assert_allclose(rows.state.proba, other.proba, rtol=0.25)
    np.testing.assert_allclose(rows.state.threshold, other.threshold, atol=0.25 * nu + 1e-6)


@pytest.mark.parametrize("kind", ["arrays", "tensors"])
@pytest.mark.parametrize("q", ALL_Q)
def test_rows_beside_it_have_no_part_in_where_a_row_enters(q, kind):
    """All at once, or one by one: rows that take few of Newton's steps, and many."""
    n, entered = 90, []
    margins = 10.0 ** np.linspace(-3, 2, n) * np.random.default_rng(0).normal(size=(K, n))
    for pieces in ([(0, n)], [(i, i + 1) for i in range(n)]):
        if kind == "arrays":
            rows, put = ThresholdRows(MGCEPotential(q), barrier.new_rows(K, n)), np.asarray
        else:
            torch = pytest.importorskip("torch")
            from mgce_sklearn.tensors.barrier import TensorBarrier
            from mgce_sklearn.tensors.potentials import TensorMGCEPotential

            tensors, put = TensorBarrier(torch.device("cpu")), torch.tensor
            rows = ThresholdRows(TensorMGCEPotential(q), tensors.new_rows(K, n), tensors)
        for start, stop in pieces:
            rows.enter(slice(start, stop), put(margins[:, start:stop]), None, True, 1e-3)
        entered.append(list(map(np.asarray, rows.state)))
    for together, alone in zip(*entered, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("q", ALL_Q)
def test_rows_are_centered_from_anywhere_inside(q):
    state, margins = random_state(q)
    before = [array.copy() for array in state]
    barrier.center(state, 2, 7, q, np.ascontiguousarray(margins[:, 2:7]), 0.05)
    for array, unchanged in zip(state, before, strict=True):
        outside = np.r_[0:2, 7:N]
        np.testing.assert_array_equal(array[..., outside], unchanged[..., outside])
    centered = barrier.RowState(*(array[..., 2:7] for array in state))
    assert_central(centered, margins[:, 2:7], q, 0.05)
