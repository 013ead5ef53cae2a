"""Every solver against the conic program, its own certificate, and the design's numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from problems import ALL_Q, REAL_SETS, conic_optimum, load, make_objective

from mgce_sklearn.parallel import SMALLEST_SHARE, RowTeam, row_team
from mgce_sklearn.solvers import (
    LBFGS,
    SOLVERS,
    InteriorPoint,
    Status,
    certificate,
    choose_solver,
    lbfgs,
)
from mgce_sklearn.solvers.lbfgs import _Memory
from mgce_sklearn.solvers.repair import repair

load_once = cache(load)


@cache
def conic(name, q):
    pytest.importorskip("cvxpy")
    return conic_optimum(*load_once(name), q, lam=0.3)


@cache
def certified(name, q, lam=0.3):
    """A solution to 1e-8, for comparisons that need no outside oracle."""
    return InteriorPoint(tol=1e-8).solve(make_objective(*load_once(name), q, lam))


# Of design and paper: optimal values on standardised iris, lam = 0.3.
PUBLISHED = {1.0: 0.156045294, 0.7: 0.188724203, 0.5: 0.218235667, 0.0: 0.327778038}


@pytest.mark.parametrize("solver", [InteriorPoint(), InteriorPoint(tol=1e-6), LBFGS()])
@pytest.mark.parametrize("q", PUBLISHED)
def test_published_optimum_is_within_the_gap(solver, q):
    result = solver.solve(make_objective(*load_once("iris"), q))
    rounding = 1e-9  # of the nine digits published
    assert result.value >= PUBLISHED[q] - 2e-8 - rounding  # the conic solver's own accuracy
    assert result.dual_value <= PUBLISHED[q] + rounding
    assert abs(result.value - PUBLISHED[q]) <= result.gap + 2e-8


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("name", REAL_SETS)
def test_interior_point_certifies_and_agrees_with_the_conic_program(name, q):
    oracle, accuracy = conic(name, q)
    for tol in (1e-4, 1e-6):
        result = InteriorPoint(tol=tol).solve(make_objective(*load_once(name), q))
        assert result.status is Status.CONVERGED
        assert 0 <= result.relative_gap <= tol
        assert result.dual_value - accuracy <= oracle <= result.value + accuracy


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("name", REAL_SETS)
def test_lbfgs_reaches_the_same_value(name, q):
    result = LBFGS().solve(make_objective(*load_once(name), q))
    assert result.value <= certified(name, q).value * (1 + 1e-4)
    assert result.dual_value <= certified(name, q).value * (1 + 1e-9)
    if q <= 0.5:  # where nothing is smoothed, the gap closes as well
        assert result.status is Status.CONVERGED


@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("lam", [1e-3, 0.05, 3.0, 100.0])
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_small_and_large_widths(name, lam, q):
    objective = make_objective(*load_once(name), q, lam)
    # At lam = 1e-3 widths are 1e-5: in double precision q = 1 ends at gaps of about 1e-6.
    result = InteriorPoint(tol=1e-6 if lam > 1e-3 else 1e-5).solve(objective)
    assert result.status is Status.CONVERGED
    if lam == 100.0:
        assert not result.coef.any()


@pytest.mark.parametrize("name", SOLVERS)
def test_value_is_that_of_the_coefficients(name):
    objective = make_objective(*load_once("wine"), 0.7)
    result = SOLVERS[name](tol=1e-3).solve(objective)
    assert result.value == pytest.approx(objective.value(result.coef), rel=1e-12)
    values = [point.value for point in result.trace]
    duals = [point.dual_value for point in result.trace]
    assert values == sorted(values, reverse=True)
    assert duals == sorted(duals)
    assert all(a.seconds <= b.seconds for a, b in pairwise(result.trace))
    assert result.n_iter > 0
    assert result.gap == result.value - result.dual_value
    assert result.relative_gap == result.gap / result.value


@pytest.mark.parametrize("name", SOLVERS)
def test_iteration_limit_is_a_status_and_the_bounds_hold(name):
    objective = make_objective(*load_once("wine"), 0.7)
    result = SOLVERS[name](tol=1e-6, max_iter=3).solve(objective)
    assert result.status is Status.MAX_ITER
    assert result.n_iter == 3
    optimum = certified("wine", 0.7).value
    assert result.dual_value <= optimum <= result.value
    assert result.relative_gap > 1e-6


def test_lbfgs_counts_iterations_over_all_stages_of_the_smoothing():
    objective = make_objective(*load_once("iris"), 1.0)
    needed = LBFGS().solve(objective).n_iter
    result = LBFGS(max_iter=needed - 1).solve(objective)
    assert result.status is Status.MAX_ITER
    assert result.n_iter == needed - 1


def test_lbfgs_that_closes_the_gap_at_the_iteration_limit_has_converged():
    objective = make_objective(*load_once("iris"), 0.3, lam=1.0)
    for limit in range(8, 20):
        result = LBFGS(tol=0.03, max_iter=limit).solve(objective)
        assert (result.status is Status.CONVERGED) == (result.relative_gap <= 0.03)
    assert result.status is Status.CONVERGED


@pytest.mark.parametrize("part", ["repair", "average"])
def test_lbfgs_closes_more_of_the_gap_with_averages_and_repairs(part, monkeypatch):
    objective = make_objective(*load_once("wine"), 0.9)
    with_all = LBFGS(tol=1e-5).solve(objective)
    if part == "repair":
        monkeypatch.setattr(lbfgs, "repaired", lambda objective, proba: proba)
    else:  # the average of the first alone
        monkeypatch.setattr(lbfgs._Average, "add", lambda average, proba: None)
    without = LBFGS(tol=1e-5).solve(objective)
    assert with_all.coef == pytest.approx(without.coef, abs=1e-3)
    assert with_all.relative_gap < without.relative_gap / 1.5


@pytest.mark.parametrize("name", ["wine", "iris"])
def test_a_certificate_of_coefficients_is_repaired(name):
    objective = make_objective(*load_once(name), 0.0)
    coef = InteriorPoint(tol=1e-4).solve(objective).coef
    value, dual_value = certificate(objective, coef)
    _, _, proba = objective.value_and_gradient(coef)
    assert value == objective.value(coef)
    assert value - dual_value < 0.5 * (value - objective.dual_point(proba).value)
    assert dual_value <= certified(name, 0.0).value


def test_lbfgs_memory_maps_the_last_change_to_the_last_step():
    rng = np.random.default_rng(0)
    memory, root = _Memory(), rng.normal(size=(6, 6))
    for step in rng.normal(size=(4, 2, 3)):
        memory.add(step, (root @ root.T @ step.ravel()).reshape(2, 3))
    assert len(memory.pairs) == 4
    step, change, _ = memory.pairs[-1]
    np.testing.assert_allclose(memory.inverse_hessian_product(change), step)
    one, other = rng.normal(size=(2, 2, 3))  # and is symmetric
    there = np.vdot(one, memory.inverse_hessian_product(other))
    assert there == pytest.approx(np.vdot(other, memory.inverse_hessian_product(one)))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
def test_warm_start_at_the_solution_is_short(name, q):
    objective = make_objective(*load_once("breast_cancer"), q)
    cold = SOLVERS[name](tol=1e-4).solve(objective)
    warm = SOLVERS[name](tol=1e-4).solve(objective, start=cold.coef)
    assert warm.value <= cold.value * (1 + 1e-4)
    assert warm.n_iter <= cold.n_iter


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0])
def test_coefficients_are_exactly_zero_where_the_optimum_has_them_at_zero(q):
    coef = InteriorPoint().solve(make_objective(*load_once("breast_cancer"), q, 1.0)).coef
    optimum = certified("breast_cancer", q, 1.0).coef
    assert np.mean(coef == 0.0) > 0.3
    assert not coef[np.abs(optimum) < 1e-9].any()
    assert coef[np.abs(optimum) > 1e-2].all()


@pytest.mark.parametrize("q", ALL_Q)
def test_hard_columns(q):
    """Constant, duplicated and zero columns, more features than rows, separable classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 40))
    X[:, 3] = 0.0
    X[:, 4] = 5.0
    X[:, 5] = X[:, 6]
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
    objective = make_objective(X, y, q, lam=0.2)
    result = InteriorPoint(tol=1e-6).solve(objective)
    assert result.status is Status.CONVERGED
    assert not result.coef[:, 3].any()


def test_units_of_the_features_do_not_matter():
    X, y = load_once("wine")
    units = 10.0 ** np.linspace(-6, 6, X.shape[1])
    result = InteriorPoint(tol=1e-6).solve(make_objective(X, y))
    scaled = InteriorPoint(tol=1e-6).solve(make_objective(X * units, y))
    assert scaled.n_iter == result.n_iter
    assert scaled.value == pytest.approx(result.value, rel=1e-9)
    np.testing.assert_allclose(scaled.coef[:, :-1] * units, result.coef[:, :-1], atol=1e-5)


@pytest.mark.parametrize("q", ALL_Q)
def test_one_vector_for_two_classes_equals_two_rows(q):
    X, y = load_once("breast_cancer")
    one = InteriorPoint(tol=1e-7).solve(make_objective(X, y, q))
    two = InteriorPoint(tol=1e-7).solve(make_objective(X, y, q, reduce=False))
    assert one.coef.shape == (1, 31)
    assert two.coef.shape == (2, 31)
    assert abs(one.value - two.value) <= one.gap + two.gap + 1e-12


def test_auto_chooses_by_size_and_by_penalty():
    def choice(n, d, q, lam=0.3):
        rng = np.random.default_rng(0)
        return choose_solver(make_objective(rng.normal(size=(n, d)), np.arange(n) % 3, q, lam))

    assert choose_solver(make_objective(*load_once("iris"))) == "interior_point"
    assert choice(30, 150, q=0.5) == "interior_point"
    assert choice(30, 150, q=0.5, lam=2.0) == "lbfgs"
    assert choice(30, 150, q=0.7, lam=2.0) == "interior_point"
    assert choice(30, 50, q=0.5, lam=2.0) == "interior_point"
    assert choice(20, 3000, q=0.7) == "lbfgs"
    assert choice(20, 3000, q=0.5) == "lbfgs"
    assert choice(5000, 1400, q=0.7) == "sgd"
    assert choice(5000, 1400, q=0.5) == "lbfgs"


def test_threads_give_the_same_solution():
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 3))
    y = (X @ [1.0, -1.0, 0.5] + rng.normal(size=len(X)) > 0).astype(int)
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            results.append(InteriorPoint(tol=1e-6).solve(make_objective(X, y)))
    one, two = results
    assert one.n_iter == two.n_iter
    assert [point.value for point in one.trace] == pytest.approx(
        [point.value for point in two.trace], rel=1e-9
    )


def test_a_team_has_as_many_threads_as_are_allowed_and_worthwhile():
    from threadpoolctl import ThreadpoolController

    rows = 4 * SMALLEST_SHARE
    with ThreadpoolController().select(user_api="blas").limit(limits=2):
        with row_team(rows, 1) as team:
            assert team.n_threads == 2
            assert team.run(lambda start, stop: (start, stop)) == [
                (0, rows // 2),
                (rows // 2, rows),
            ]
        with row_team(SMALLEST_SHARE, 1) as team:
            assert team.run(lambda start, stop: (start, stop)) == [(0, SMALLEST_SHARE)]


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"cvxpy"}))  # which cannot be given a start
@pytest.mark.parametrize("q", [0.0, 0.3, 0.7])
def test_a_neighbouring_problem_is_solved_from_the_last_one(name, q):
    X, y = load_once("breast_cancer")
    solver = SOLVERS[name](tol=1e-3)
    first = solver.solve(make_objective(X, y, q, 0.3), restartable=True)
    objective = make_objective(X, y, q, 0.25)
    cold, warm = solver.solve(objective), solver.solve(objective, start=first)
    assert warm.value <= cold.value * (1 + 1e-3)
    assert warm.n_iter < cold.n_iter
    again = solver.solve(objective, start=first)  # the first result was not used up
    assert again.value == warm.value
    other_loss = make_objective(X, y, q + 0.1, 0.25)  # only the coefficients fit
    from_coef = solver.solve(other_loss, start=first.coef)
    assert solver.solve(other_loss, start=first).value == from_coef.value
    fewer_rows = make_objective(X[:400], y[:400], q, 0.25)  # here too
    assert solver.solve(fewer_rows, start=first).relative_gap <= 1e-2


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_a_start_between_two_neighbours_keeps_what_holds_for_both(q):
    X, y = load_once("wine")
    solver = InteriorPoint()
    wide, narrow = (
        solver.solve(make_objective(X, y, q, lam), restartable=True) for lam in (0.4, 0.1)
    )
    objective = make_objective(X, y, q, 0.2)
    between = narrow.restart.between(wide.restart, 1 / 3, objective)
    rows, point = between.at(objective, objective.uncertainty.half_width)
    state = rows.state
    assert all((array > 0).all() for array in (rows.proba, state.multiplier, state.spare, *point))
    np.testing.assert_allclose(rows.proba.sum(axis=0), 1.0, rtol=1e-9)

    def bounds(rows, point):  # s and c
        margins = objective.margins(point.plus - point.minus)
        return np.array(rows.bounds(margins, slice(None)))

    low, high = (bounds(kept.rows, kept.point) for kept in (narrow.restart, wide.restart))
    assert (low > 0).all() and (high > 0).all()
    single = 2e-7  # the precision of one of the two
    np.testing.assert_allclose(bounds(rows, point), low * 2 / 3 + high / 3, rtol=single)

    def residual(rows, point):  # of u = half_width + g and v = half_width - g
        return point.upper - point.lower - 2.0 * objective.excess(rows.proba)

    low, high = (residual(kept.rows, kept.point) for kept in (narrow.restart, wide.restart))
    np.testing.assert_allclose(residual(rows, point), low * 2 / 3 + high / 3, atol=1e-9)
    mixed = solver.solve(objective, start=replace(narrow, restart=between))
    assert mixed.n_iter < solver.solve(objective, start=wide).n_iter


@pytest.mark.parametrize("n_classes", [2, 3])
def test_repair_moves_a_point_back_that_misses_its_constraints_by_little(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y, weights = rng.integers(0, n_classes, 300) * (X[:, 0] < 1), rng.integers(1, 4, 300)
    objective = make_objective(X, y, 0.3, 0.3, weights)
    optimum = InteriorPoint(tol=1e-8).solve(objective)
    _, proba, _ = objective.potential.curvature(objective.margins(optimum.coef))
    noise = 1e-2 * rng.normal(size=proba.shape) * proba
    proba = proba + noise - proba * noise.sum(axis=0)
    team = RowTeam(300, SMALLEST_SHARE, 2)
    shrunk = objective.dual_point(proba.copy())
    repaired = objective.dual_point(repair(objective, proba, team))
    team.close()
    assert shrunk.shrink < 1 - 1e-3
    assert repaired.shrink > 1 - 1e-8
    assert shrunk.value < repaired.value <= optimum.value


def test_fits_in_several_threads_leave_blas_its_threads():
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")

    def threads():
        return [pool["num_threads"] for pool in blas.info()]

    with blas.limit(limits=2):
        before, single = threads(), [1] * len(blas.info())
        assert before != single
        first, second = row_team(10, 2), row_team(10, 2)
        first.__enter__()
        second.__enter__()
        assert threads() == single
        first.__exit__(None, None, None)
        assert threads() == single
        second.__exit__(None, None, None)
        assert threads() == before


@pytest.mark.parametrize(("q", "lam"), [(0.7, 1.0), (1.0, 0.05), (1.0, 0.3)])
def test_exact_zeros_do_not_take_the_gap_out_of_tol(q, lam):
    result = InteriorPoint(tol=0.1).solve(make_objective(*load_once("breast_cancer"), q, lam))
    assert result.status is Status.CONVERGED
    assert result.relative_gap <= 0.1


def test_units_of_the_features_do_not_decide_what_is_zero():
    X, y = load_once("wine")
    units = 10.0 ** np.linspace(-6, 6, X.shape[1])
    # At a loose tolerance: a tight one separates zeros from the others in any units.
    result = InteriorPoint(tol=1e-3).solve(make_objective(X, y))
    scaled = InteriorPoint(tol=1e-3).solve(make_objective(X * units, y))
    assert (result.coef == 0).any()
    np.testing.assert_array_equal(scaled.coef == 0, result.coef == 0)
