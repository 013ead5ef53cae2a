"""Parts of the rows: any split has the same sums, solutions and bounds as the whole."""

from __future__ import annotations

import gc
import pickle
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from joblib import Parallel, delayed, parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from problems import split
from threadpoolctl import ThreadpoolController

import mgce_sklearn
from mgce_sklearn import kernels
from mgce_sklearn.bounds import Costs, Judged, error_bounds
from mgce_sklearn.feasibility import Sample
from mgce_sklearn.parts import Held, Kept, LostRows, Part, Parts, RowsInMemory, add
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import (
    LBFGS,
    SOLVERS,
    InteriorPoint,
    Start,
    Status,
    certificate,
    interior_point,
    newton,
    preconditioner,
    systems,
)
from mgce_sklearn.solvers.repair import repair, repaired
from mgce_sklearn.solvers.row_moves import moved_by_rows
from mgce_sklearn.targets import Distributions
from mgce_sklearn.uncertainty import Moments

N, D, K = 60, 8, 3
CODES = np.sort(np.random.default_rng(3).permutation(np.arange(N) % K))  # most parts lack a class


def features(seed=0, n=N):
    """Return rows far from 0, with zeros, and a feature that is constant within a class."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D)) + rng.normal(size=(K, D))[np.sort(np.arange(n) % K)]
    X[rng.random(X.shape) < 0.4] = 0.0
    X[:, 1] = np.round(X[:, 1] + 50.0, 4)
    X[np.sort(np.arange(n) % K) == 1, 2] = 3.0
    return X


def tensor(X):
    return pytest.importorskip("torch").tensor(X)


STORED = {
    "double": np.asarray,
    "single": lambda X: X.astype(np.float32),
    "sparse": sp.csr_array,
    "tensor": tensor,
}
LABELS = ("classes", "distributions")
# Where parts end.
SPLITS = {"rows": list(range(1, N + 1)), "ragged": [1, 2, 9, 10, 41, 59, N], "classes": [20, 40, N]}

over_stored = pytest.mark.parametrize("stored", STORED)
over_labels = pytest.mark.parametrize("labels", LABELS)
over_splits = pytest.mark.parametrize("ends", SPLITS.values(), ids=SPLITS)


def problem_of(stored="double", labels="classes", based=False, n_classes=K, **options):
    """Return rows with weights, and base margins if they are ``based``."""
    rng = np.random.default_rng(1)
    codes = np.minimum(CODES, n_classes - 1)
    if labels == "classes":
        y = codes
    else:
        sure = np.arange(N) % 2 == 0
        drawn = rng.dirichlet(np.ones(n_classes), N)
        y = Distributions(
            np.where(sure[:, None], np.eye(n_classes)[codes], drawn), np.arange(n_classes)
        )
    base = 0.5 * rng.normal(size=(N, n_classes)) if based else None
    weights = rng.uniform(0.5, 3.0, N)
    return Problem.from_labels(STORED[stored](features()), y, weights, base_margin=base, **options)


def in_parts(problem, ends):
    """Return the same problem of rows in parts."""
    return replace(problem, parts=split(problem.objective(0.5, 1.0), ends).parts)


def beside(one, other):
    return np.concatenate([one, other], axis=-1)


def gathered(objective, columns):
    """Return columns of all parts as an ndarray (..., n)."""
    return objective.parts.over(lambda part: np.asarray(columns(part)), beside)


def assert_same(found, expected, tol):
    """Compare arrays by their size."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    finite = np.isfinite(expected)
    assert_array_equal(found[~finite], expected[~finite])
    size = np.abs(expected[finite]).max(initial=0.0)
    assert_allclose(found[finite], expected[finite], rtol=tol, atol=tol * size)


# Sums.


@over_stored
@over_labels
@over_splits
def test_moments_of_parts_are_those_of_the_whole(stored, labels, ends):
    problem = problem_of(stored, labels)
    whole, parts = (
        Moments.of(one.parts, K).about(problem.moments.center)
        for one in (problem, in_parts(problem, ends))
    )
    assert parts.n_rows == whole.n_rows == N
    assert parts.concentration == pytest.approx(whole.concentration, rel=1e-12)
    for name in ("constant", "differing", "low", "high", "origin"):
        assert_array_equal(np.isnan(getattr(parts, name)), np.isnan(getattr(whole, name)))
        assert_same(getattr(parts, name), getattr(whole, name), 1e-13)
    assert (whole.constant[1, 2] == 3.0) == (labels == "classes")
    for name in whole.classes._fields:
        assert_same(getattr(parts.classes, name), getattr(whole.classes, name), 1e-13)
    for name in ("variance", "deviation", "spread", "row_mean"):
        assert_same(getattr(parts, name)(), getattr(whole, name)(), 1e-13)


def sums_of(objective):
    """Return what solvers and bounds ask of the rows of an objective, by name."""
    rng, like = np.random.default_rng(2), objective.parts.like
    n_classes = objective.n_classes
    coef = like.put(0.1 * rng.normal(size=objective.shape))
    given = like.put(rng.dirichlet(np.full(n_classes, 5.0), N).T.copy())
    columns, worst = objective.parts.kept_array(given), objective.parts.kept()
    value, slope = objective.value_and_slope(coef, worst)
    point, near = objective.dual_point(columns), repair(objective, columns)
    free = replace(objective, labeled=False)
    anchor = free.dual_point(partial(at_labels, n_classes))
    return {
        "columns": gathered(objective, columns),
        "column scale": objective.parts.column_scale,
        "value": objective.value(coef),
        "value with slope": value,
        "slope": slope,
        "worst case": gathered(objective, worst),
        "excess": objective.excess(columns),
        "mean entropy": objective.mean_entropy(columns),
        "least value": objective.least_value,
        "dual value": point.value,
        "shrink": point.shrink,
        "excess of the dual point": point.excess,
        "least value without labels": free.least_value,
        "dual value by an anchor": free.dual_point(columns, anchor).value,
        "certificate": certificate(objective, coef),
        "a repair": gathered(objective, near),
        "repairs": gathered(objective, repaired(objective, columns)),
        **(
            {"moved": gathered(objective, moved_by_rows(objective, columns))} if like.sparse else {}
        ),
    }


def at_labels(n_classes, part):
    columns = part.design.zeros(n_classes, part.n_rows)
    part.labels.add_to(columns, 1.0)
    return columns


@over_stored
@over_labels
@over_splits
@pytest.mark.parametrize("based", [False, True])
@pytest.mark.parametrize("n_classes", [2, K])
def test_sums_over_parts_are_those_over_the_whole(stored, labels, ends, based, n_classes):
    objective = problem_of(stored, labels, based, n_classes).objective(0.7, 1.0)
    assert (objective.offsets is not None) == based
    whole, parts = sums_of(objective), sums_of(split(objective, ends))
    assert 0.0 < whole["shrink"] < 1.0
    for name, expected in whole.items():
        assert_same(parts[name], expected, 1e-11)


@over_stored
@over_splits
def test_problems_of_parts_are_those_of_the_whole(stored, ends):
    """What is known of rows beside their moments."""
    whole = problem_of(stored, based=True)
    parts = in_parts(whole, ends)
    assert parts.lam_max() == pytest.approx(whole.lam_max(), rel=1e-11)
    assert parts.base_ceiling(0.7, 1.0) == pytest.approx(whole.base_ceiling(0.7, 1.0), rel=1e-12)
    offsets = [one.objective(0.7, 1.0).offsets for one in (whole, parts)]
    assert_same(gathered(parts, offsets[1]), gathered(whole, offsets[0]), 1e-12)
    assert all(map(np.array_equal, parts.sketch, whole.sketch))
    assert whole.sketch.counts.sum() == N


@over_splits
@pytest.mark.parametrize("stored", ["double", "single", "sparse"])
def test_rows_in_single_precision_are_in_the_same_parts(stored, ends):
    objective = problem_of(stored).objective(0.7, 1.0)
    coef = 0.1 * np.random.default_rng(0).normal(size=objective.shape)
    parts = split(objective, ends)
    rounded = replace(parts, parts=parts.parts.compact())
    assert rounded.parts.like.rows is not None
    assert rounded.parts.over(lambda part: (part.n_rows,)) == (N,)
    assert rounded.parts.over(lambda part: [part.n_rows]) == list(np.diff([0, *ends]))
    assert_array_equal(rounded.parts.column_scale, parts.parts.column_scale)
    assert rounded.value(coef) == pytest.approx(objective.value(coef), rel=1e-6)
    proba = rounded.parts.kept()
    _, slope = rounded.value_and_slope(coef, proba)
    assert_same(slope, objective.value_and_slope(coef)[1], 1e-5)
    assert gathered(parts, proba).shape == (K, N)  # names of the one are names of the other


def test_rows_may_be_changed_in_parts_too():
    """Their columns, and a center in memory."""
    objective = problem_of().objective(0.7, 1.0)
    parts = split(objective, SPLITS["ragged"]).parts
    assert parts.like.center is not None
    for change in (RowsInMemory.centered_in_memory, lambda one: one.columns(np.array([3, 0]))):
        expected, found = (change(one) for one in (objective.parts, parts))
        assert_array_equal(
            found.over(lambda part: part.design.features(), beside),
            expected.over(lambda part: part.design.features(), beside),
        )
        assert_allclose(found.over(lambda part: part.design.weights.sum()), 1.0)
        assert_allclose(found.column_scale, expected.column_scale, rtol=1e-12)


def test_blocks_of_a_part_are_all_of_its_rows(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.design.ROWS_AT_A_TIME", 7)
    objective = problem_of().objective(0.7, 1.0)
    numbers = objective.parts.kept_array(np.arange(float(N)))
    part = objective.parts.together().view(3, 50).of_its_own(2, 40)
    assert (part.n_rows, part.first_row) == (38, 5)
    for blocks, size in ((part.blocks(), 7), (part.blocks_of(11), 11), (part.blocks_of(38), 38)):
        assert [block.n_rows for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert_array_equal(np.hstack([numbers(block) for block in blocks]), np.arange(5.0, 43.0))
        assert [block.first_row for block in blocks] == [5 + size * i for i in range(len(blocks))]
        assert_array_equal(
            np.hstack([block.design.features() for block in blocks]),
            objective.parts.like.features()[:, 5:43],
        )
        assert_array_equal(np.hstack([block.labels.codes for block in blocks]), CODES[5:43])
    assert part.blocks_of(11) is part.blocks_of(11)


# Solutions.


def by_form(name, monkeypatch):
    """Let all steps solve by products, or by a factor."""
    form = systems.Conjugate if name == "conjugate" else systems.Factored
    monkeypatch.setattr(interior_point, "choose_form", lambda objective, tol: form(objective))
    monkeypatch.setattr(interior_point, "reconsidered", lambda form, objective: form)


@over_stored
@over_splits
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("q", [0.3, 0.9])
@pytest.mark.parametrize(
    "solver", [InteriorPoint(1e-12, max_iter=5), LBFGS(1e-12, max_iter=15)], ids=lambda s: s.name
)
def test_as_many_steps_end_at_the_same_coefficients(solver, q, stored, ends, labels, monkeypatch):
    by_form("factored", monkeypatch)
    objective = problem_of(stored, labels, based=labels == "classes").objective(q, 0.5)
    whole, parts = (solver.solve(one) for one in (objective, split(objective, ends)))
    assert whole.n_iter == parts.n_iter == solver.max_iter
    assert whole.status is parts.status is Status.MAX_ITER
    assert np.abs(np.asarray(whole.coef)).max() > 0.05
    assert_same(parts.coef, whole.coef, 1e-10)
    assert parts.value == pytest.approx(whole.value, rel=1e-11)
    assert parts.dual_value == pytest.approx(whole.dual_value, rel=1e-10)


@pytest.mark.parametrize("stored", ["double", "single", "sparse"])
@over_splits
@pytest.mark.parametrize("q", [0.3, 0.9])
@pytest.mark.parametrize("sampled", [30, N])
@pytest.mark.parametrize("room", [True, False])
def test_so_do_steps_by_products(q, stored, ends, sampled, room, monkeypatch):
    """Rows in single precision, and a sample of them that is the same in any parts."""
    by_form("conjugate", monkeypatch)
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", sampled)
    monkeypatch.setattr(systems, "SINGLE_FROM", 0)
    # Else rounding decides after which product a residual is small enough.
    monkeypatch.setattr(newton, "ACCURACY", 1e-3)
    if not room:
        monkeypatch.setattr(Parts, "working_memory", 0)
    objective = problem_of(stored).objective(q, 0.5)
    solver = InteriorPoint(1e-12, max_iter=3)
    whole, parts = (solver.solve(one) for one in (objective, split(objective, ends)))
    assert whole.n_iter == parts.n_iter == 3
    assert_same(parts.coef, whole.coef, 1e-3)
    assert parts.value == pytest.approx(whole.value, rel=1e-4)


@pytest.mark.parametrize("by_class", [False, True])
@over_splits
def test_the_same_rows_are_drawn_in_any_parts(by_class, ends, monkeypatch):
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", 30)
    objective, found = problem_of().objective(0.5, 0.5), []
    weights = np.random.default_rng(0).uniform(0.1, 1.0, (K, N)).astype(np.float32)
    for one in (objective, split(objective, ends)):
        source = systems.Conjugate(one)
        kept, total = one.parts.kept_array(weights), np.ones(one.shape)
        drawn = preconditioner._sample(source, kept, total, 1, by_class)
        found.append(gathered(one, drawn))
    assert found[0].shape == (K if by_class else 1, N)
    assert 15 < np.count_nonzero(found[0][0]) < 45
    assert_allclose(found[1], found[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("stored", "ends"), [("double", "rows"), *((stored, "ragged") for stored in STORED)]
)
@pytest.mark.parametrize("q", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("n_classes", [2, K])
def test_solutions_of_parts_are_within_the_tolerance_of_the_whole(stored, ends, q, n_classes):
    objective = problem_of(stored, n_classes=n_classes).objective(q, 1.0)
    whole = InteriorPoint(tol=1e-6).solve(objective)
    for solver in (InteriorPoint(tol=1e-4), LBFGS(tol=1e-2, max_iter=2000)):
        parts = solver.solve(split(objective, SPLITS[ends]))
        assert parts.status is Status.CONVERGED
        assert whole.dual_value <= parts.value <= whole.value * (1.0 + solver.tol)
        assert parts.dual_value <= whole.value
        assert objective.value(parts.coef) == pytest.approx(parts.value, rel=1e-11)


def bounds_of(parts, problem, coef, q=0.5):
    """Return the error bounds of a rule over parts of unlabeled rows."""
    margins = (coef @ parts.like.features()).T
    costs, uncertainty = Costs.of(margins, q, "randomized"), problem.uncertainty(1.0)
    fitted = Start(coef, parts.kept_array(kernels.worst_case(margins, q).T))
    rule, scaled = (parts.kept_array(a) for a in (kernels.rule(margins, q).T, costs.scaled))
    return error_bounds(Judged(parts, costs, scaled, fitted, rule, None), uncertainty, 1e-6)


@over_splits
@pytest.mark.parametrize("stored", ["double", "sparse"])
def test_error_bounds_of_parts_are_those_of_the_whole(stored, ends):
    problem = problem_of(stored)
    coef = InteriorPoint().solve(problem.objective(0.5, 1.0)).coef
    whole, parts = (
        bounds_of(one.parts, problem, coef) for one in (problem, in_parts(problem, ends))
    )
    assert whole[3] is parts[3] is Status.CONVERGED
    assert 0.0 < whole[0] < whole[1] - 0.01
    assert parts[:2] == pytest.approx(whole[:2], abs=2e-6)


@over_splits
def test_growth_of_an_empty_set_is_the_same_in_parts(ends):
    problem = problem_of()
    moved = replace(problem, parts=problem.parts.centered_at(1.3 * problem.moments.center))
    needed = [
        Sample.of(one.parts, problem.uncertainty(0.3)).growth()
        for one in (moved, in_parts(moved, ends))
    ]
    assert needed[0] > 1.1
    assert needed[1] == pytest.approx(needed[0], rel=1e-6)


# Threads.


@pytest.fixture
def some_threads(monkeypatch):
    """Three threads, for however few rows: sums of two parts have no order."""
    monkeypatch.setattr("mgce_sklearn.parallel.SMALLEST_SHARE", 10)
    with ThreadpoolController().select(user_api="blas").limit(limits=3):
        yield


@pytest.mark.parametrize("form", ["factored", "conjugate"])
@pytest.mark.parametrize("stored", ["double", "single", "sparse"])
def test_three_threads_find_the_same_bits_whenever_they_are_asked(
    stored, form, some_threads, monkeypatch
):
    by_form(form, monkeypatch)
    monkeypatch.setattr(systems, "SINGLE_FROM", 0)
    names, plain = set(), Part.blocks

    def noted(part, width=1):
        names.add(threading.current_thread().name)
        return plain(part, width)

    monkeypatch.setattr(Part, "blocks", noted)
    objective = problem_of(stored).objective(0.7, 0.5)
    with objective.opened() as opened:
        assert opened.parts.over(lambda part: [part.n_rows]) == 3 * [N // 3]
    for solver in (InteriorPoint(1e-5), LBFGS(1e-5, max_iter=60)):
        names.clear()
        one, again = (solver.solve(objective) for _ in range(2))
        # Each fit has threads of its own, and before these rows are read in the caller's.
        assert len(names) >= 6
        assert_array_equal(one.coef, again.coef)
        assert (one.value, one.dual_value, one.n_iter) == (
            again.value, again.dual_value, again.n_iter
        )  # fmt: skip
        lines = ([point._replace(seconds=0.0) for point in each.trace] for each in (one, again))
        assert next(lines) == next(lines)


def test_parts_are_combined_in_the_order_of_the_rows(some_threads):
    """Whichever thread ends first."""
    last_ended = threading.Event()

    def late(part):
        if part.first_row == 0:
            assert last_ended.wait(10.0)
        elif part.first_row == 40:
            last_ended.set()
        return [part.first_row]

    with problem_of().objective(0.5, 1.0).opened() as objective:
        assert objective.parts.over(late) == [0, 20, 40]
        # What is kept within is there for all rows.
        assert gathered(
            objective, objective.parts.keep(lambda part: part.design.weights)
        ).shape == (N,)


def shares_of(objective):
    with objective.opened() as opened:
        return opened.parts.over(lambda part: [part.n_rows])


def test_rows_have_as_many_parts_as_threads_are_allowed(some_threads, monkeypatch):
    objective = problem_of().objective(0.5, 1.0)
    assert shares_of(objective) == 3 * [N // 3]
    with ThreadpoolController().limit(limits=1):
        assert shares_of(objective) == [N]
    # A context within is the same threads.
    with objective.opened() as opened, opened.opened() as again:
        assert again.parts is opened.parts
    monkeypatch.setattr("mgce_sklearn.parallel.SMALLEST_SHARE", 10**6)
    assert shares_of(objective) == [N]


def shares_in_a_process():
    from mgce_sklearn import parallel

    parallel.SMALLEST_SHARE = 10
    return shares_of(problem_of().objective(0.5, 1.0))


def test_workers_of_joblib_have_the_threads_that_it_gives_them():
    with parallel_config("loky", inner_max_num_threads=1):
        assert Parallel(n_jobs=2)(delayed(shares_in_a_process)() for _ in range(2)) == [[N]] * 2


# Terms and names.


class FarRows(RowsInMemory):
    """Rows whose terms come from afar, pickled, and what they return goes back like that.

    Terms are small beside a number a row.
    """

    def over(self, term, combine=add, features=True):
        sent = pickle.dumps((term, combine))
        assert len(sent) < 8 * self.n_rows
        SENT.append(len(sent))
        term, combine = pickle.loads(sent)
        return super().over(lambda part: pickle.loads(pickle.dumps(term(part))), combine, features)


SENT = []


def far(problem, ends):
    parts = in_parts(problem, ends).parts
    return replace(problem, parts=FarRows(parts.whole, parts.shares, parts.team))


def large_problem(stored="double", n=4000):
    X = features(n=n)
    y = np.random.default_rng(0).integers(K, size=n)
    return Problem.from_labels(STORED[stored](X), y, base_margin=0.1 * np.eye(K)[y])


def split_in_three(problem):
    n = problem.parts.n_rows
    return [n // 5, n // 2, n]


@pytest.fixture
def sent():
    SENT.clear()
    return SENT


@pytest.mark.parametrize(
    ("solver", "form", "stored"),
    [
        (InteriorPoint(1e-4), "factored", "double"),
        (InteriorPoint(1e-4), "factored", "sparse"),
        (InteriorPoint(1e-4), "factored", "tensor"),
        (InteriorPoint(1e-4), "conjugate", "double"),
        (InteriorPoint(1e-4), "conjugate", "sparse"),
        (LBFGS(1e-4, max_iter=40), "", "double"),
        (LBFGS(1e-4, max_iter=40), "", "sparse"),
        (LBFGS(1e-4, max_iter=40), "", "tensor"),
    ],
)
def test_terms_of_a_fit_can_be_sent(solver, form, stored, sent, monkeypatch):
    by_form(form, monkeypatch)
    monkeypatch.setattr(preconditioner, "SAMPLED_ROWS", 1000)
    problem = large_problem(stored)
    expected = solver.solve(split(problem.objective(0.7, 1.0), split_in_three(problem)))
    objective = far(problem, split_in_three(problem)).objective(0.7, 1.0)
    sent.clear()
    found = solver.solve(objective)
    assert len(sent) > 3 * found.n_iter
    assert_array_equal(found.coef, expected.coef)
    assert found.dual_value == expected.dual_value


def test_terms_of_repairs_moves_and_bounds_can_be_sent(sent):
    for stored in ("double", "sparse"):
        problem = large_problem(stored)
        objective = far(problem, split_in_three(problem)).objective(0.5, 1.0)
        rng = np.random.default_rng(0)
        columns = objective.parts.kept_array(rng.dirichlet(np.ones(K), 4000).T.copy())
        sent.clear()
        points = [repaired(objective, columns), columns]
        if stored == "sparse":
            points.append(moved_by_rows(objective, columns))
        assert all(np.isfinite(objective.dual_point(point).value) for point in points)
        assert np.isfinite(certificate(objective, np.zeros(objective.shape))).all()
        assert len(sent) > 10
    sent.clear()
    problem = large_problem()
    distant = far(problem, split_in_three(problem))
    assert Moments.of(distant.parts, K).n_rows == 4000
    assert distant.lam_max() == pytest.approx(problem.lam_max(), rel=1e-12)
    assert distant.sketch.counts.sum() == problem.sketch.counts.sum()
    lower, upper, _, _ = bounds_of(distant.parts, problem, COEF)
    assert 0.0 <= lower <= upper <= 1.0
    assert len(sent) > 50


COEF = np.random.default_rng(5).normal(size=(K, D + 1))


def kept_by(parts):
    """Return what rows have arrays of, in all parts."""
    return {key for part in (parts.whole, *parts.shares) for key in part.arrays}


@pytest.mark.parametrize("in_shares", [False, True])
@pytest.mark.parametrize("form", ["factored", "conjugate"])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_fit_leaves_no_arrays_with_the_rows(name, form, in_shares, monkeypatch):
    if name == "cvxpy":
        pytest.importorskip("cvxpy")
    by_form(form, monkeypatch)
    objective = problem_of("sparse", based=True).objective(0.5, 1.0)
    if in_shares and name not in ("sgd", "cvxpy"):  # which want all rows together
        objective = split(objective, SPLITS["ragged"])
    before = kept_by(objective.parts)
    assert objective.offsets.key in before
    # The base margins that offsets are made of went with the problem.
    assert before == {objective.offsets.key} or in_shares
    result = SOLVERS[name](tol=1e-2, max_iter=30).solve(objective)
    certificate(objective, result.coef)
    gc.collect()
    assert kept_by(objective.parts) == before


def hold(name, part):
    part.arrays[name.key] = "any object"


def test_names_die_with_those_who_hold_them():
    objective = split(problem_of().objective(0.5, 1.0), SPLITS["ragged"])
    parts = objective.parts
    name, state = parts.kept_array(np.ones((K, N))), parts.held()
    parts.over(partial(hold, state))
    assert kept_by(parts) == {name.key, state.key}
    borrowed = pickle.loads(pickle.dumps(name))
    assert isinstance(borrowed, Kept) and borrowed.key == name.key
    assert isinstance(pickle.loads(pickle.dumps(state)), Held)
    assert_array_equal(gathered(objective, borrowed), np.ones((K, N)))
    del borrowed
    assert kept_by(parts) == {name.key, state.key}
    columns = partial(objective.excess, name)  # a term holds its names
    del name
    assert np.isfinite(columns()).all()
    del columns, state
    assert kept_by(parts) == set()
    assert parts.whole.arrays == {}


def grow(name, part):
    columns = name(part)
    columns += 1.0


@pytest.mark.parametrize("width", [1, 5_000])  # as whole parts, and as many blocks
def test_what_is_changed_is_changed_once(width):
    """A pass may be repeated where parts are lost on the way."""
    objective = split(problem_of().objective(0.5, 1.0), SPLITS["ragged"])
    parts = objective.parts
    name = parts.kept_array(np.zeros((K, N)))
    real, told = type(parts).over, []

    def twice(self, term, *args, **options):
        told.append(term)
        real(self, term, *args, **options)
        return real(self, term, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(parts), "over", twice)
        parts.change(partial(grow, name), width)
    assert_array_equal(gathered(objective, name), np.ones((K, N)))
    parts.over(pickle.loads(pickle.dumps(told[0])))
    assert_array_equal(gathered(objective, name), np.ones((K, N)))
    parts.change(partial(grow, name), width)
    assert_array_equal(gathered(objective, name), 2.0 * np.ones((K, N)))


@pytest.mark.parametrize("stored", ["double", "sparse"])
@pytest.mark.parametrize(
    "solver", [InteriorPoint(1e-4), LBFGS(1e-3, max_iter=60)], ids=["interior_point", "lbfgs"]
)
def test_a_pass_that_is_repeated_changes_nothing(solver, stored, monkeypatch):
    """Whoever loses parts on the way repeats passes over others, which have been there before."""
    objective = problem_of(stored).objective(0.5, 0.3)
    expected = solver.solve(objective)
    real = RowsInMemory.over

    def twice(self, *args, **options):
        real(self, *args, **options)
        return real(self, *args, **options)

    monkeypatch.setattr(RowsInMemory, "over", twice)
    found = solver.solve(objective)
    assert_array_equal(found.coef, expected.coef)
    assert found.value == expected.value
    assert found.dual_value == expected.dual_value
    assert found.n_iter == expected.n_iter


def test_rows_moved_twice_are_moved_once(monkeypatch):
    rare = sp.random_array((N, 20), density=0.1, random_state=0, format="csr")
    objective = Problem.from_labels(rare, CODES).objective(0.5, 0.3)
    uniform = objective.parts.kept_array(np.full((K, N), 1.0 / K))
    expected = gathered(objective, moved_by_rows(objective, uniform))
    assert 0.01 < np.mean(expected != 1.0 / K) < 1.0
    real = RowsInMemory.over

    def twice(self, *args, **options):
        real(self, *args, **options)
        return real(self, *args, **options)

    monkeypatch.setattr(RowsInMemory, "over", twice)
    assert_array_equal(gathered(objective, moved_by_rows(objective, uniform)), expected)


def test_rows_without_what_is_asked_for_say_so():
    objective = split(problem_of().objective(0.5, 1.0), SPLITS["ragged"])
    parts = objective.parts
    name, state = parts.kept_array(np.zeros((K, N))), parts.held()
    first, _ = parts.shares[:2]
    del first.arrays[name.key]
    with pytest.raises(LostRows):
        parts.over(name, np.hstack)
    with pytest.raises(LostRows):
        parts.over(state, np.hstack)


# Who may know how rows are stored.

PACKAGE = Path(mgce_sklearn.__file__).parent
ABOVE = ("objective", "problem", "path", "bounds", "feasibility", "stream", "uncertainty")
OF_STORAGE = re.compile(r"\bis_tensor\b|\bissparse\b|\[:, rows\]|\brows\.start\b|\bslice\(")

# With the reason why it may.
ALLOWED = {
    ("newton.py", "place = slice(block.start, block.stop)"): "a part's state, told its own rows",
    ("preconditioner.py", "places = [slice(*pair) for pair in itertools.pairwise(ends)]"): (
        "coefficients, not rows"
    ),
    (
        "preconditioner.py",
        "gathered.append((features.T[rows], curvature(block)[:, rows] * factor[rows]))",
    ): "a term, which leaves out rows that were not drawn",
    (
        "sgd.py",
        "margins = margins + objective.offsets(objective.parts.together())[:, rows]",
    ): "batches are rows by position",
}


def test_nothing_above_the_door_asks_how_rows_are_stored():
    files = [PACKAGE / f"{name}.py" for name in ABOVE] + sorted(PACKAGE.glob("solvers/*.py"))
    assert len(files) > 15
    found = {
        (file.name, line.strip())
        for file in files
        for line in file.read_text("utf-8").splitlines()
        if OF_STORAGE.search(line)
    }
    assert found == set(ALLOWED)
