"""Rows that are read block by block: the same fits as in memory, few passes, and nothing kept."""

from __future__ import annotations

import itertools
import time
import tracemalloc
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, RowBlocks, lam_max, mgce_path
from mgce_sklearn.block_parts import RowsInBlocks, Survey
from mgce_sklearn.design import Design, SelectedDesign
from mgce_sklearn.objective import normalized_columns
from mgce_sklearn.parts import LostRows
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import LBFGS, InteriorPoint, interior_point, newton
from mgce_sklearn.solvers.newton import RowSums
from mgce_sklearn.solvers.systems import Factored

N, D = 600, 4


def rows(seed=0, n=N):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D)) * [1.0, 5.0, 0.2, 1.0] + [0.0, 30.0, 0.0, -2.0]
    X[rng.random(X.shape) < 0.2] = 0.0
    noise = rng.gumbel(size=(n, 3))
    margins = np.column_stack([X[:, 0], 0.2 * X[:, 1] - 6.0, 4.0 * X[:, 2]])
    return X, np.array(["ash", "elm", "oak"])[(margins + noise).argmax(axis=1)]


X, Y = rows()
# Single rows, ragged ones, and rows sorted by class, so that most blocks lack one.
SPLITS = {
    "one": [N],
    "ragged": [1, 200, 3, 150, 246],
    "single": [1] * 20 + [N - 20],
    "by_class": [100] * 6,
}


def blocks_of(split, X=X, y=Y, weights=None):
    ends = np.cumsum([0, *split])
    pairs = itertools.pairwise(ends)
    parts = (X, y) if weights is None else (X, y, weights)
    return RowBlocks([tuple(part[a:b] for part in parts) for a, b in pairs])


def ordered(name):
    """Return rows in the order in which a split cuts them."""
    order = np.argsort(Y, kind="stable") if name == "by_class" else np.arange(N)
    return X[order], Y[order]


def both(name, storage=np.asarray, **options):
    """Return the problem of the rows in blocks, and in memory."""
    features, labels = ordered(name)
    features = storage(features)
    survey = Survey.of(blocks_of(SPLITS[name], features, labels))
    whole = Problem.from_labels(features, labels, **options)
    return Problem.from_blocks(survey, **options), whole


STORAGES = {
    "float64": np.asarray,
    "float32": lambda X: X.astype(np.float32),
    "sparse": sp.csr_array,
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_problem_in_blocks_is_that_of_the_whole(split, storage):
    blocks, whole = both(split, STORAGES[storage])
    assert list(blocks.classes) == list(whole.classes)
    assert blocks.moments.n_rows == N
    for name in ("mean", "constant", "differing", "low", "high", "center"):
        one, other = getattr(blocks.moments, name), getattr(whole.moments, name)
        # Sums of 600 numbers of size 30, in another order.
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    for name in ("deviation", "spread", "variance"):
        one, other = getattr(blocks.moments, name)(), getattr(whole.moments, name)()
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    objective, same = (problem.objective(0.6, 0.4) for problem in (blocks, whole))
    np.testing.assert_allclose(objective.parts.column_scale, same.parts.column_scale)
    coef = np.random.default_rng(1).normal(size=objective.shape) / same.parts.column_scale
    np.testing.assert_allclose(objective.value(coef), same.value(coef), rtol=1e-12)
    results = []
    for this in (objective, same):
        proba = this.parts.kept()
        slope = this.value_and_slope(coef, proba)[1]
        results.append((slope, *this.dual_point(proba)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(blocks.sketch, whole.sketch)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_any_split_takes_the_same_steps(q, storage):
    """Coefficients to rounding at equal numbers of steps, of two solvers."""
    start = np.full((3, D + 1), 0.01)
    for solver in (InteriorPoint(tol=0.0, max_iter=4), LBFGS(tol=0.0, max_iter=20)):
        for split in ("ragged", "single", "by_class"):
            features, labels = ordered(split)
            found, best = (
                solver.solve(problem.objective(q, 0.4), start)
                for problem in (
                    Problem.from_blocks(Survey.of(blocks_of(sizes, storage(features), labels)))
                    for sizes in (SPLITS[split], [N])
                )
            )
            np.testing.assert_allclose(found.coef, best.coef, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(found.value, best.value, rtol=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("split", SPLITS)
def test_solutions_are_those_in_memory(q, split):
    blocks, whole = (problem.objective(q, 0.4) for problem in both(split))
    found = InteriorPoint(tol=1e-6).solve(blocks)
    best = InteriorPoint(tol=1e-6).solve(whole)
    assert found.relative_gap <= 1e-6
    assert abs(found.value - best.value) <= 1e-6 * best.value
    # Its certificate, by the rows in memory.
    np.testing.assert_allclose(found.value, whole.value(found.coef), rtol=1e-12)


def test_passes_are_few_and_counted():
    problem, _ = both("ragged")
    reads = problem.parts.survey.reads
    # One that surveys, and one that takes moments; the ranges of constants take no more here.
    assert reads.n_passes == 2
    result = InteriorPoint(tol=1e-5).solve(problem.objective(0.5, 0.4))
    # The start is one; a step looks along three directions, and goes; zeros are tried at the end.
    assert reads.n_passes == 2 + 1 + 4 * result.n_iter + 1
    assert reads.n_bytes == reads.n_passes * X.nbytes


def test_the_number_of_threads_changes_no_bit():
    results = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads, user_api="blas"):
            results.append(MGCEClassifier(tol=1e-5).fit(blocks_of(SPLITS["ragged"])))
    for other in results[1:]:
        np.testing.assert_array_equal(other.coef_, results[0].coef_)
        assert other.minimax_risk_ == results[0].minimax_risk_


def losing(monkeypatch, number):
    """Have two blocks lose what is kept with their rows before a pass, as if read elsewhere."""
    over, passes = RowsInBlocks.over, []

    def lossy(self, *args, **options):
        passes.append(None)
        if len(passes) == number:
            for arrays in self.arrays[1:3]:
                arrays.clear()
                arrays.objects.clear()
                arrays.changed = -1
        return over(self, *args, **options)

    monkeypatch.setattr(RowsInBlocks, "over", lossy)
    return passes


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9])
# Before rows enter, before they arrive, along each of three directions, in the dual value; and in
# a later step.
@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 8, 14, 17])
def test_rows_that_were_lost_enter_again(q, number, monkeypatch):
    """On the central path of the present coefficients, at the present nu: within tol the same."""
    problem, _ = both("ragged")
    objective = problem.objective(q, 0.4)
    best = InteriorPoint(tol=1e-6).solve(objective)
    passes = losing(monkeypatch, number)
    found = InteriorPoint(tol=1e-6).solve(objective)
    assert len(passes) > number
    assert found.relative_gap <= 1e-6
    assert abs(found.value - best.value) <= 1e-6 * best.value
    assert found.n_iter <= best.n_iter + 4


def test_a_step_that_loses_rows_begins_again(monkeypatch):
    """Lost rows alone enter, at the present nu, and the equations are summed anew."""
    problem, _ = both("ragged")
    objective = problem.objective(0.5, 0.4)
    entered, told, real, over = [], [], newton._enter, RowsInBlocks.over

    def enter(*args):
        entered.append(args[6])
        return real(*args)

    def tell(self, term, *args, **options):
        told.append(term.func.__name__)
        return over(self, term, *args, **options)

    monkeypatch.setattr(newton, "_enter", enter)
    monkeypatch.setattr(RowsInBlocks, "over", tell)
    passes = losing(monkeypatch, 14)
    levels, advance = [], interior_point.advance
    monkeypatch.setattr(
        interior_point,
        "advance",
        lambda sums, *args: (advance(sums, *args), levels.append(sums.nu))[0],
    )
    InteriorPoint(tol=1e-6).solve(objective)
    assert len(passes) > 14
    lost = told.index("_if_lost")
    assert told[lost - 1 : lost + 2] == ["_follow", "_if_lost", "_assemble"]
    n_first = 1 + len(SPLITS["ragged"])  # with the sample, whose solution the fit starts from
    assert len(entered) == n_first + 2
    assert entered[-1] in levels


@pytest.mark.parametrize("storage", ["float64", "sparse"])
@pytest.mark.parametrize("number", [3, 12, 30, 110])
def test_lbfgs_begins_anew_where_it_was(number, storage, monkeypatch):
    problem, _ = both("ragged", STORAGES[storage])
    objective = problem.objective(0.3, 0.4)
    passes = losing(monkeypatch, -1)
    best = LBFGS(tol=1e-5).solve(objective)
    usual = len(passes)
    passes = losing(monkeypatch, number)
    found = LBFGS(tol=1e-5).solve(objective)
    assert usual > number
    assert len(passes) <= 1.5 * usual
    assert found.relative_gap <= 1e-5
    assert abs(found.value - best.value) <= 1e-5 * best.value


def test_what_cannot_enter_again_is_told(monkeypatch):
    """Costs of rows are kept beside them, and are not the solver's to make again."""
    model = MGCEClassifier().fit(X, Y)
    losing(monkeypatch, 6)
    with pytest.raises(LostRows, match="nothing under the name"):
        model.error_bounds(blocks_of(SPLITS["ragged"]))


def test_where_a_fit_may_end_no_pass_sums_equations():
    """As when rows are read in double precision at last; who goes on sums them then."""
    problem, _ = both("ragged")
    objective = problem.objective(0.5, 0.4)
    sums = RowSums(objective, Factored(objective))
    coef = np.zeros(objective.shape)
    sums.enter(coef, None, True, 0.01)
    assert sums.arrive(coef).assembled is not None
    expected = sums.assemble()
    sums.read(replace(objective), sums.form)
    assert sums.arrive(coef).assembled is None
    found = sums.assemble()
    np.testing.assert_allclose(found[0].gram.matrix(), expected[0].gram.matrix(), rtol=1e-12)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_what_a_pass_brings_is_about_distributions():
    """Between two steps multipliers sum to 1 but nearly, and dual points are of normalized ones."""
    problem, _ = both("ragged")
    objective = problem.objective(0.5, 0.4)
    sums = RowSums(objective, Factored(objective))
    coef = np.zeros(objective.shape)
    sums.enter(coef, None, True, 0.01)
    sums.arrive(coef)
    for arrays in objective.parts.arrays:
        arrays.objects[sums.rows.key].proba[:, ::2] *= 1.5
    sums._arrived = sums._pending = None
    expected = objective.excess(partial(normalized_columns, sums.p))
    np.testing.assert_allclose(sums.arrive(coef).excess, expected, rtol=1e-12)
    raw = objective.excess(sums.p)
    np.testing.assert_allclose(sums.assemble()[1], raw, rtol=1e-12)
    assert abs(raw - expected).max() > 0.01


def test_a_survey_takes_as_long_as_there_are_rows():
    """It once went through all pieces of its sample after every block."""
    seconds = []
    for n in (500, 4000):
        blocks = RowBlocks.from_memmap(*rows(0, n), rows_per_block=1)
        begin = time.perf_counter()
        blocks.scan()
        alone = time.perf_counter() - begin
        begin = time.perf_counter()
        Survey.of(blocks)
        seconds.append((time.perf_counter() - begin) / alone)
    assert seconds[1] < 3.0 * seconds[0]


def test_a_sample_is_drawn_from_all_blocks(monkeypatch):
    monkeypatch.setattr("mgce_sklearn.block_parts.SAMPLED_ROWS", 500)
    features, labels = rows(1, 4000)
    weights = np.arange(4000.0) + 1.0
    problem = Problem.from_blocks(Survey.of(blocks_of([1000] * 4, features, labels, weights)))
    sample = problem.parts.sample.together()
    assert 500 < sample.n_rows <= 1000
    drawn = sample.design.sample_weight.astype(int) - 1  # a row is known by its weight
    np.testing.assert_array_equal(sample.design.X, features[drawn])
    assert (problem.classes[sample.labels.codes] == labels[drawn]).all()
    share = len(drawn) / 4000
    per_block = np.bincount(drawn // 1000, minlength=4) / 1000
    assert (abs(per_block - share) < 4.0 * np.sqrt(share / 1000)).all()


def test_a_start_from_a_sample_saves_steps(monkeypatch):
    """Means of labels are the sample's: those of all rows would be none that its rows can have."""
    monkeypatch.setattr("mgce_sklearn.block_parts.SAMPLED_ROWS", 400)
    features, labels = rows(2, 20_000)
    problem = Problem.from_blocks(Survey.of(blocks_of([5000] * 4, features, labels)))
    result = InteriorPoint(tol=1e-4).solve(problem.objective(0.5, 0.1))
    assert result.n_iter <= 6
    whole = Problem.from_labels(features, labels).objective(0.5, 0.1)
    assert abs(InteriorPoint(tol=1e-6).solve(whole).value - result.value) <= 1e-4 * result.value


def test_parts_know_their_place():
    problem, _ = both("ragged")
    places = problem.parts.over(lambda part: [part.first_row])
    assert places == [0, 1, 201, 204, 354]


class Watched:
    """Blocks that count how many of them are alive."""

    def __init__(self, n_blocks):
        self.n_blocks, self.alive, self.most = n_blocks, 0, 0

    def __iter__(self):
        for seed in range(self.n_blocks):
            features, labels = rows(seed, 50)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(features, self.forget)
            yield features, labels

    def forget(self):
        self.alive -= 1


@pytest.mark.parametrize("n_threads", [1, 2])
def test_features_stay_no_longer_than_a_pass_needs_them(n_threads):
    source = Watched(12)
    with threadpool_limits(n_threads, user_api="blas"):
        problem = Problem.from_blocks(Survey.of(RowBlocks(source)))
        source.most = 0
        InteriorPoint(tol=1e-4).solve(problem.objective(0.5, 0.4))
    # One a thread, one that waits, one that was just looked at, and one that is read.
    assert source.most <= n_threads + 3


def fitted(**options):
    return MGCEClassifier(tol=1e-6, **options).fit(blocks_of(SPLITS["ragged"]))


def test_a_classifier_of_blocks():
    model, same = fitted(), MGCEClassifier(tol=1e-6).fit(X, Y)
    np.testing.assert_allclose(model.coef_, same.coef_, atol=1e-3)
    assert abs(model.minimax_risk_ - same.minimax_risk_) <= 1e-6 * same.minimax_risk_
    assert model.n_features_in_ == D
    assert list(model.classes_) == ["ash", "elm", "oak"]
    assert not hasattr(model, "feature_names_in_")
    assert model.score(blocks_of(SPLITS["single"])) == model.score(X, Y)


@pytest.mark.parametrize(
    "method",
    [
        "predict",
        "predict_proba",
        "predict_log_proba",
        "predict_worst_case_proba",
        "decision_function",
    ],
)
def test_predictions_come_block_by_block(method):
    model = fitted()
    found = list(getattr(model, method)(RowBlocks.from_memmap(X, rows_per_block=250)))
    assert [len(part) for part in found] == [250, 250, 100]
    np.testing.assert_array_equal(np.concatenate(found), getattr(model, method)(X))


def test_bounds_and_certificates_of_blocks():
    model = fitted(q=0.7)
    blocks = blocks_of(SPLITS["ragged"])
    mine, same = model.certificate(blocks), model.certificate(X, Y)
    np.testing.assert_allclose(mine, same, rtol=1e-9, atol=1e-12)
    for rule in ("deterministic", "randomized"):
        mine, same = (model.error_bounds(given, rule, tol=1e-5) for given in (blocks, X))
        np.testing.assert_allclose([mine.lower, mine.upper], [same.lower, same.upper], atol=2e-5)
    cost = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [9.0, 1.0, 0.0]])
    mine, same = (model.error_bounds(given, cost=cost, tol=1e-5) for given in (blocks, X))
    np.testing.assert_allclose([mine.lower, mine.upper], [same.lower, same.upper], atol=2e-4)


def test_bounds_leave_out_what_no_row_of_the_fit_had():
    features = np.column_stack([X, np.zeros(N)])
    model = MGCEClassifier(tol=1e-6).fit(features, Y)
    features[::2, -1] = 1.0  # new to the model
    mine, same = (
        model.error_bounds(given, tol=1e-5)
        for given in (blocks_of(SPLITS["ragged"], features), features)
    )
    np.testing.assert_allclose([mine.lower, mine.upper], [same.lower, same.upper], atol=2e-5)


def test_rows_that_the_fit_has_seen_are_known_again():
    with pytest.raises(ValueError, match="X must be rows that the fit has not seen"):
        fitted().confidence_bound(X)


def test_weights_come_with_the_blocks():
    rng = np.random.default_rng(3)
    weights = rng.integers(0, 3, N).astype(float)
    weights[1:201] = 0.0  # a block without any
    blocks = blocks_of(SPLITS["ragged"], weights=weights)
    model = MGCEClassifier(tol=1e-7).fit(blocks)
    same = MGCEClassifier(tol=1e-7).fit(X, Y, weights)
    np.testing.assert_allclose(model.coef_, same.coef_, atol=2e-3)
    np.testing.assert_allclose(model.minimax_risk_, same.minimax_risk_, rtol=1e-7)
    balanced = MGCEClassifier(class_weight="balanced", tol=1e-7)
    np.testing.assert_allclose(
        balanced.fit(blocks).minimax_risk_, balanced.fit(X, Y, weights).minimax_risk_, rtol=1e-7
    )
    accuracy = model.score(blocks)
    assert accuracy == pytest.approx(model.score(X, Y, weights), rel=1e-12)


@pytest.mark.parametrize("width", ["std", "hoeffding", "bernstein", "betting"])
def test_widths_of_blocks(width):
    options = {"width": width, "lam": 0.05, "delta": 0.1}
    model = MGCEClassifier(**options).fit(blocks_of(SPLITS["ragged"]))
    same = MGCEClassifier(**options).fit(X, Y)
    ours, theirs = model.uncertainty_set_, same.uncertainty_set_
    np.testing.assert_allclose(ours.half_width, theirs.half_width, rtol=1e-10)


def test_constants_within_a_class_are_found_over_blocks():
    """A feature that one class never has, and one that never changes."""
    features = np.column_stack([X, (Y == "elm") * X[:, 0], np.full(N, 7.0)])
    model = MGCEClassifier().fit(blocks_of(SPLITS["ragged"], features))
    same = MGCEClassifier().fit(features, Y)
    ours, theirs = model.uncertainty_set_, same.uncertainty_set_
    np.testing.assert_allclose(ours.half_width, theirs.half_width, rtol=1e-10)


def test_names_of_columns():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = MGCEClassifier().fit(blocks_of(SPLITS["ragged"], frame))
    assert list(model.feature_names_in_) == list("abcd")
    model.predict(frame)  # no warning of names that are missing
    turned = blocks_of(SPLITS["ragged"], frame[list("dcba")])
    with pytest.raises(ValueError, match="X must have the columns of the fit in their order"):
        model.certificate(turned)
    model = MGCEClassifier().fit(blocks_of(SPLITS["ragged"], frame))
    for method in (model.predict, model.score):  # of blocks that nobody has read yet
        turned = blocks_of(SPLITS["ragged"], frame[list("dcba")])
        with pytest.raises(ValueError, match="X must have the columns of the fit in their order"):
            list(method(turned))
    with pytest.raises(ValueError, match="X must have the 4 columns of the fit; got 3"):
        list(model.predict(RowBlocks.from_memmap(X[:, :3])))
    model.fit(blocks_of(SPLITS["ragged"]))
    assert not hasattr(model, "feature_names_in_")


class Changing:
    """Blocks that are others from some pass on."""

    def __init__(self, change, from_pass):
        self.change, self.from_pass, self.n_passes = change, from_pass, 0

    def __iter__(self):
        self.n_passes += 1
        changed = self.n_passes > self.from_pass
        for block, (a, b) in enumerate([(0, 200), (200, 400), (400, 600)]):
            given = X[a:b].copy(), Y[a:b]
            if changed and block == 1:
                given = self.change(*given)
            if given is not None:
                yield given


def with_nan(X, y):
    X[3, 1] = np.nan
    return X, y


def unchanged(X, y):
    return X, y


class Interrupted(Changing):
    """Blocks at one of which somebody presses Ctrl-C."""

    def __iter__(self):
        for given in super().__iter__():
            if self.n_passes == self.from_pass:
                raise KeyboardInterrupt
            yield given


def test_ctrl_c_while_blocks_are_read_keeps_what_was_reached():
    model = MGCEClassifier(tol=1e-9)
    warned = pytest.warns(ConvergenceWarning, match="stopped by an interrupt")
    with warned, pytest.raises(KeyboardInterrupt):
        model.fit(RowBlocks(Interrupted(unchanged, 9)))
    optimum = MGCEClassifier(tol=1e-9).fit(X, Y).minimax_risk_
    assert model.minimax_risk_ - model.dual_gap_ <= optimum <= model.minimax_risk_
    early = MGCEClassifier()
    with pytest.raises(KeyboardInterrupt):
        early.fit(RowBlocks(Interrupted(unchanged, 2)))
    with pytest.raises(NotFittedError):
        early.predict(X)


CHANGES = {
    "number": (lambda X, y: (X + 1.0, y), "Block 1: its numbers"),
    "NaN": (with_nan, "Block 1: X must be finite; row 3, column 1 has nan"),
    "labels": (lambda X, y: (X, y[::-1]), "Block 1: its numbers, labels"),
    "rows": (lambda X, y: (X[:9], y[:9]), "Block 1: it has 9 rows, and had 200"),
    "columns": (lambda X, y: (X[:, :2], y), "Block 1: the number of columns"),
    "dtype": (lambda X, y: (X.astype(np.float32), y), "Block 1: the dtype of X"),
    "end": (lambda X, y: None, "Block 1: its numbers|Block 2: the pass ended"),
}


@pytest.mark.parametrize("from_pass", [1, 2, 4])
@pytest.mark.parametrize("change", CHANGES)
def test_blocks_that_change_on_the_way_fit_nothing(change, from_pass):
    function, message = CHANGES[change]
    source = Changing(function, from_pass)
    model = MGCEClassifier()
    with pytest.raises(ValueError, match=message):
        model.fit(RowBlocks(source))
    assert source.n_passes == from_pass + 1
    with pytest.raises(NotFittedError):
        model.predict(X)
    kept = model.fit(X, Y).coef_
    with pytest.raises(ValueError, match=message):
        model.fit(RowBlocks(Changing(function, from_pass)))
    assert model.coef_ is kept


def test_the_first_pass_names_the_block():
    with pytest.raises(ValueError, match="Block 1: X must be finite"):
        MGCEClassifier().fit(RowBlocks(Changing(with_nan, 0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: MGCEClassifier().fit(b, Y), "y must be None where X is RowBlocks"),
        (lambda b: MGCEClassifier().fit(b, None, np.ones(N)), "sample_weight must be None"),
        (lambda b: MGCEClassifier(noise_matrix=0.1).fit(b), "noise_matrix must be None"),
        (lambda b: MGCEClassifier(feature_map="relu").fit(b), "feature_map must be None"),
        (lambda b: MGCEClassifier().fit(b, None, None, np.ones((N, 3))), "base_margin must be"),
        (lambda b: MGCEClassifier(solver="sgd").fit(b), "requires rows in memory"),
        (lambda b: MGCEClassifier().partial_fit(b), "got RowBlocks, which this method"),
        (lambda b: MGCEClassifierCV().fit(b), "got RowBlocks, which this method does not read"),
        (lambda b: MGCEClassifierCV(cv=2).fit(X, Y).score(b), "got RowBlocks, which this method"),
        (lambda b: mgce_path(b, None, [0.5], [0.1]), "got RowBlocks, which this method"),
        (lambda b: np.asarray(b), "got RowBlocks, which this method does not read"),
        (lambda b: lam_max(b, Y), "got RowBlocks, which this method does not read"),
        (lambda b: fitted().confidence_bound(b), "got RowBlocks, which this method does not read"),
        (lambda b: fitted().predict(b, np.ones((N, 3))), "base_margin must be None"),
        (lambda b: fitted().score(b, Y), "y must be None where X is RowBlocks"),
        (lambda b: fitted().error_bounds(b, sample_weight=np.ones(N)), "sample_weight must be"),
    ],
)
def test_what_blocks_are_not_for(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(blocks_of(SPLITS["ragged"]))


def test_labels_are_needed_to_learn():
    unlabeled = RowBlocks.from_memmap(X)
    with pytest.raises(ValueError, match="X must have labels if it is RowBlocks to fit to"):
        MGCEClassifier().fit(unlabeled)
    with pytest.raises(ValueError, match="X must have labels to score"):
        fitted().score(unlabeled)
    with pytest.raises(ValueError, match="at least 2 classes"):
        MGCEClassifier().fit(RowBlocks.from_memmap(X, np.zeros(N)))


def test_a_range_that_rows_leave():
    model = MGCEClassifier(feature_range=(-3.0, 60.0))
    with pytest.raises(ValueError, match="feature_range"):
        model.fit(blocks_of(SPLITS["ragged"]))


def test_scores_of_other_labels_and_of_no_weights():
    model = fitted()
    with pytest.raises(ValueError, match="X must have labels of the kind of the fit"):
        model.score(blocks_of(SPLITS["ragged"], y=np.zeros(N)))
    with pytest.raises(ValueError, match="X must have rows of positive weight to score"):
        model.score(blocks_of(SPLITS["ragged"], weights=np.zeros(N)))


def test_bounds_of_a_feature_map_need_rows_in_memory():
    model = MGCEClassifier(feature_map="relu", random_state=0).fit(X[:100], Y[:100])
    assert len(list(model.predict(blocks_of(SPLITS["ragged"])))) == 5
    with pytest.raises(ValueError, match="feature_map must be None where X is RowBlocks"):
        model.error_bounds(blocks_of(SPLITS["ragged"]))


def test_threads_have_ended_when_a_pass_is_left():
    problem, _ = both("ragged")
    running = []

    def term(part):
        running.append(part)
        time.sleep(0.05)
        running.remove(part)
        if part.first_row == 201:
            raise KeyboardInterrupt

    with threadpool_limits(2, user_api="blas"), problem.parts.opened(1) as parts:
        with pytest.raises(KeyboardInterrupt):
            parts.over(term)
        assert not running


def test_verbose_tells_of_passes(capsys):
    MGCEClassifier(verbose=1).fit(blocks_of(SPLITS["ragged"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("interior_point: 600 rows, 4 features, 3 classes")
    assert "3 passes, " in lines[1]
    assert lines[-1].endswith("MB/s")


def test_all_rows_selected_are_those_of_the_views():
    """What is asked of a large selection as a whole is about its rows, and no others."""
    features, positions = np.random.default_rng(0).normal(size=(9000, 3)), np.arange(1, 9000, 2)
    weights = np.arange(4500.0) + 1.0
    selection = SelectedDesign(features, weights, positions=positions)
    plain = Design(features[positions], weights)
    coef = np.ones((2, 4))
    np.testing.assert_array_equal(selection.margins(coef), plain.margins(coef))
    np.testing.assert_array_equal(selection.column_range(), plain.column_range())
    np.testing.assert_array_equal(selection.features(), plain.features())
    np.testing.assert_array_equal(
        selection.adjoint(np.ones((1, 4500))), plain.adjoint(np.ones((1, 4500)))
    )
    np.testing.assert_array_equal(selection.sketch(), plain.sketch())


def test_views_of_sparse_rows_are_no_copies():
    dense = np.random.default_rng(0).normal(size=(100, 20)).clip(min=0.5) - 0.5
    design = Design(sp.csr_array(dense), np.ones(100))
    view = design.view(30, 60)
    assert np.shares_memory(view.X.data, design.X.data)
    assert np.shares_memory(view.X.indices, design.X.indices)
    np.testing.assert_array_equal(view.X.toarray(), design.X.toarray()[30:60])


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd", "cvxpy"])
def test_rows_of_weight_0_of_a_file_are_not_copied(tmp_path, solver):
    if solver == "cvxpy":
        pytest.importorskip("cvxpy")
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", dtype=float, mode="r", shape=X.shape)
    weights = np.random.default_rng(0).integers(0, 3, N).astype(float)
    model = MGCEClassifier(solver=solver, random_state=0)
    found, best = (model.fit(given, Y, weights).coef_ for given in (mapped, X))
    np.testing.assert_array_equal(found, best)


def test_a_large_file_with_weights_takes_no_memory(tmp_path):
    rng, n = np.random.default_rng(0), 200_000
    features = rng.normal(size=(n, 20)).astype(np.float32)
    features.tofile(tmp_path / "X")
    y = features[:, 0] + rng.normal(size=n) > 0.0
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=features.shape)
    tracemalloc.start()
    Problem.from_labels(mapped, y, np.where(rng.random(n) < 0.1, 0.0, 1.0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < features.nbytes
