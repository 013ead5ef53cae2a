"""Long fits: what they say on the way, their limits of time, and what Ctrl-C leaves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from problems import Tempered, load, make_objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, mgce_path
from mgce_sklearn import bounds as bounds_module
from mgce_sklearn import folds as folds_module
from mgce_sklearn import search as search_module
from mgce_sklearn.solvers import (
    SOLVERS,
    InteriorPoint,
    Interrupted,
    Progress,
    Status,
    Watch,
    deadline_in,
    interior_point,
    lbfgs,
    newton,
    sgd,
)
from mgce_sklearn.solvers.base import TracePoint

load = cache(load)
OWN = ("interior_point", "lbfgs", "sgd")


def solver_of(name, **settings):
    if name == "cvxpy":
        pytest.importorskip("cvxpy")
    return SOLVERS[name](**settings)


over_solvers = pytest.mark.parametrize("solver", SOLVERS)
over_own_solvers = pytest.mark.parametrize("solver", OWN)


@cache
def optimum(name, q):
    return InteriorPoint(tol=1e-8).solve(make_objective(*load(name), q)).value


@pytest.fixture
def wine():
    return load("wine")


# Limits of time.


@over_solvers
@pytest.mark.parametrize("q", [0.3, 0.7])
def test_a_deadline_is_a_status_and_the_bounds_hold(solver, q):
    objective = make_objective(*load("wine"), q)
    result = solver_of(solver, tol=1e-9).solve(objective, watch=Watch(deadline=time.monotonic()))
    assert (result.status, result.stopped_by) == (Status.STOPPED, "max_time")
    assert result.n_iter <= 1
    assert len(result.trace) == 1
    assert -np.inf < result.dual_value <= optimum("wine", q) <= result.value < np.inf
    assert result.value == pytest.approx(objective.value(result.coef), rel=1e-12)


@over_own_solvers
def test_a_deadline_on_the_way_ends_a_fit_soon(solver):
    objective = make_objective(*load("breast_cancer"), 0.7)
    SOLVERS[solver](max_iter=20).solve(objective)  # kernels are compiled
    begin = time.monotonic()
    settings = {"max_iter": 10**6} if solver != "interior_point" else {}
    result = SOLVERS[solver](tol=1e-15, **settings).solve(objective, watch=Watch(deadline_in(0.1)))
    assert time.monotonic() - begin < 5.0
    ended = (Status.STOPPED, Status.STALLED) if solver == "interior_point" else (Status.STOPPED,)
    assert result.status in ended
    assert result.dual_value <= optimum("breast_cancer", 0.7) * (1 + 1e-8)
    assert result.value < 0.9  # of zero coefficients it is 0.88


@over_own_solvers
def test_a_closed_gap_is_no_stop(solver):
    objective = make_objective(*load("wine"), 0.3)
    watch = Watch(deadline=time.monotonic(), listener=lambda progress: True)
    result = SOLVERS[solver](tol=1.0).solve(objective, watch=watch)
    assert (result.status, result.stopped_by) == (Status.CONVERGED, "")


@over_own_solvers
def test_a_listener_hears_of_every_point_and_stops_at_any(solver):
    heard = []

    def listener(progress):
        heard.append(progress.trace[-1])
        return len(heard) == 3

    objective = make_objective(*load("wine"), 0.3)
    result = SOLVERS[solver](tol=1e-15).solve(objective, watch=Watch(listener=listener))
    assert (result.status, result.stopped_by) == (Status.STOPPED, "a callback")
    assert tuple(heard) == result.trace


def test_max_time_of_a_fit_warns_of_the_gap_reached(wine):
    said = r"ended at a relative duality gap of (\S+) .* stopped by max_time before .* more time"
    with pytest.warns(ConvergenceWarning, match=said) as caught:
        clf = MGCEClassifier(max_time=1e-9).fit(*wine)
    assert len(caught) == 1  # nothing of coefficients that are 0 because none was found yet
    assert caught[0].filename == __file__
    gap = float(re.search(said, str(caught[0].message))[1])
    assert clf.dual_gap_ / clf.minimax_risk_ == pytest.approx(gap, rel=0.05)
    assert clf.minimax_risk_ - clf.dual_gap_ <= MGCEClassifier().fit(*wine).minimax_risk_
    assert clf.predict(wine[0]).shape == wine[1].shape


def test_max_time_that_suffices_changes_nothing(wine):
    plain, limited = MGCEClassifier().fit(*wine), MGCEClassifier(max_time=600.0).fit(*wine)
    np.testing.assert_array_equal(plain.coef_, limited.coef_)


def test_max_time_of_a_portion(wine):
    X, y = wine
    classes = np.unique(y)
    whole = MGCEClassifier().partial_fit(X, y, classes)
    limited = MGCEClassifier(max_time=1e-9)
    with pytest.warns(ConvergenceWarning, match="178 rows: the last 114 are included in means"):
        limited.partial_fit(X, y, classes)
    assert (limited.n_iter_, whole.n_iter_) == (1, 3)
    assert limited.coef_.any()
    np.testing.assert_array_equal(limited.uncertainty_set_.tau, whole.uncertainty_set_.tau)
    first = MGCEClassifier().partial_fit(X, y, classes).partial_fit(X[:64], y[:64])
    assert first.n_iter_ == 4


def test_max_time_of_a_path(wine):
    with pytest.warns(ConvergenceWarning) as caught:
        path = mgce_path(*wine, [0.3, 0.7], [0.1, 0.3], max_time=1e-9)
    late, gaps = sorted(str(warning.message) for warning in caught)[::-1]
    assert late.startswith("max_time=1e-09 was too short for (q=0.3, lam=0.1), (q=0.7, lam=0.1)")
    assert "at (q=0.3, lam=0.3). Raise max_iter or max_time" in gaps
    begun = np.array([[False, True], [False, False]])  # the largest lam comes first
    np.testing.assert_array_equal(np.isfinite(path.minimax_risks), begun)
    np.testing.assert_array_equal(np.isfinite(path.coefs).all(axis=(2, 3)), begun)
    np.testing.assert_array_equal(np.isfinite(path.seconds), begun)
    assert not path.converged.any()
    assert path.minimax_risks[0, 1] >= MGCEClassifier(0.3, 0.3).fit(*wine).minimax_risk_


def test_max_time_of_error_bounds(wine):
    X, y = wine
    clf = MGCEClassifier(lam=0.3).fit(X, y)
    bounds = clf.error_bounds(X)
    with pytest.warns(ConvergenceWarning, match="'stopped'.*allow more time"):
        quick = clf.error_bounds(X, max_time=1e-9)
    assert quick.status == "stopped"
    assert 0.0 <= quick.lower <= bounds.lower <= bounds.upper <= quick.upper <= 1.0
    with pytest.raises(ValueError, match="max_time must be"):
        clf.error_bounds(X, max_time=0)
    with pytest.raises(ValueError, match="verbose must be"):
        clf.error_bounds(X, verbose=-1)


def test_either_error_bound_gets_half_of_the_time(wine, monkeypatch):
    clf = MGCEClassifier(lam=0.3).fit(*wine)
    deadlines, worst_case = [], bounds_module._worst_case

    def noted(*problem):
        deadlines.extend(part.deadline for part in problem if isinstance(part, Watch))
        return worst_case(*problem)

    monkeypatch.setattr(bounds_module, "_worst_case", noted)
    begin = time.monotonic()
    clf.error_bounds(wine[0], max_time=100.0)
    assert [deadline - begin for deadline in deadlines] == pytest.approx([50.0, 100.0], abs=5.0)
    clf.error_bounds(wine[0])
    assert deadlines[2:] == [np.inf, np.inf]


# Numbers that are not finite.


@over_solvers
def test_input_that_is_not_finite_is_a_status(solver):
    X, y = load("wine")
    X = X.copy()
    X[3, 2] = np.nan
    result = solver_of(solver).solve(make_objective(X, y, 0.5))
    assert result.status is Status.NOT_FINITE
    assert result.n_iter == 0


class Breaks(Tempered):
    """A potential that has no value any more after some calls."""

    def value(self, margins):
        type(self).left -= 1
        return super().value(margins) * (1.0 if self.left > 0 else np.nan)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
@pytest.mark.parametrize("after", [0, 2])
def test_numbers_that_cease_to_be_finite_are_a_status(solver, after):
    objective = make_objective(*load("wine"), 0.3)
    Breaks.left = after + 1
    result = SOLVERS[solver](tol=1e-9).solve(
        replace(objective, potential=Breaks(objective.potential))
    )
    assert result.status is Status.NOT_FINITE
    assert np.isfinite(result.value) == (after > 0)
    assert len(result.trace) == after + 1


# What is said and noted on the way.


@over_solvers
def test_the_first_line_says_how_large_the_problem_is(solver, capsys):
    objective = make_objective(*load("wine"), 0.7)
    result = solver_of(solver, verbose=1, tol=1e-3).solve(objective)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{solver}: 178 rows, 13 features, 3 classes, 42 coefficients, q = 0.7"
    assert len(lines) == len(result.trace)
    for line, point in zip(lines, result.trace, strict=True):
        seconds, value, gap, n_nonzero = re.fullmatch(
            solver + r" +\d+ +(\S+) s  value (\S+)  gap (\S+)  (\d+) non-zero", line
        ).groups()
        assert float(seconds) == pytest.approx(point.seconds, abs=1e-3)
        assert float(value) == pytest.approx(point.value, abs=1e-9)
        assert float(gap) == pytest.approx(point.value - point.dual_value, rel=0.01)
        assert int(n_nonzero) == point.n_nonzero
    assert re.split(" +", lines[-1])[1] == str(result.n_iter)


def test_error_bounds_speak_too(wine, capsys):
    clf = MGCEClassifier(lam=0.3).fit(*wine)
    bounds = clf.error_bounds(wine[0], verbose=1)
    upper, lower = re.split("error_bounds: the lower", capsys.readouterr().out)
    assert upper.startswith("error_bounds: the upper bound is value - 1")
    assert lower.startswith(" bound is 2 - value")
    assert all(
        " 178 rows, 13 features, 3 classes, 42 coefficients\n" in said for said in (upper, lower)
    )
    values = [float(re.findall(r"value (\d\S+)", said)[-1]) for said in (upper, lower)]
    assert values[0] - 1.0 == pytest.approx(bounds.upper, abs=1e-3)
    assert 2.0 - values[1] == pytest.approx(bounds.lower, abs=1e-3)


@over_own_solvers
def test_the_trace_holds_steps_and_non_zeros(solver):
    objective = make_objective(*load("breast_cancer"), 0.3, lam=1.0)
    result = SOLVERS[solver](tol=1e-4).solve(objective)
    first, *points = result.trace
    assert result.trace[-1].n_nonzero == int((result.coef != 0.0).sum()) < result.coef.size
    assert 0 <= first.n_nonzero <= result.coef.size
    if solver == "interior_point":
        assert first.steps == ()
        assert all(len(point.steps) == 2 for point in points)
    assert all(step > 0.0 for point in points for step in point.steps)
    assert all(step <= 1.0 for point in points for step in point.steps if solver != "sgd")
    assert points[-1].steps


# Ctrl-C.

# Where each solver can be made to meet one, and how many calls later.
STEPS = {
    "interior_point": (interior_point, "advance"),
    "lbfgs": (lbfgs, "_step"),
    "sgd": (sgd._Iteration, "read_all"),
}


def interrupt(monkeypatch, solver, after):
    """Have the step after so many meet a KeyboardInterrupt."""
    owner, name = STEPS[solver]
    step, made = getattr(owner, name), []

    def interrupted(*args, **how):
        if len(made) == after:
            raise KeyboardInterrupt
        made.append(1)
        return step(*args, **how)

    monkeypatch.setattr(owner, name, interrupted)


@over_own_solvers
def test_an_interrupt_keeps_the_best_iterate_certified(solver, wine, monkeypatch):
    exact = MGCEClassifier(0.3, tol=1e-8).fit(*wine)
    interrupt(monkeypatch, solver, after=3)
    clf = MGCEClassifier(0.3, solver=solver)
    with (
        pytest.raises(KeyboardInterrupt) as error,
        pytest.warns(
            ConvergenceWarning, match="stopped by an interrupt before the gap was closed"
        ) as caught,
    ):
        clf.fit(*wine)
    assert error.type is KeyboardInterrupt  # a shell asks for no less
    assert caught[0].filename == __file__
    assert clf.n_iter_ == 3
    assert clf.solver_ == solver
    assert clf.coef_.any()
    assert clf.minimax_risk_ - clf.dual_gap_ <= exact.minimax_risk_ <= clf.minimax_risk_
    assert 1e-4 < clf.dual_gap_ / clf.minimax_risk_ < 1.0
    assert clf.score(*wine) > 0.9
    sample = clf.certificate(*wine)
    assert sample.minimax_risk == pytest.approx(clf.minimax_risk_, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_an_interrupt_goes_on_where_warnings_are_errors(wine, monkeypatch):
    interrupt(monkeypatch, "lbfgs", after=3)
    clf = MGCEClassifier(0.3, solver="lbfgs")
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*wine)
    assert clf.n_iter_ == 3


@over_own_solvers
def test_an_interrupt_before_the_first_iterate_changes_nothing(solver, wine, monkeypatch):
    clf = MGCEClassifier(0.3, solver=solver, tol=0.1).fit(*wine)
    before = dict(vars(clf))
    interrupt(monkeypatch, solver, after=0)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*wine)
    assert vars(clf) == before


def raise_interrupt(*args, **how):
    raise KeyboardInterrupt


def test_a_second_interrupt_ends_the_certificate_and_keeps_what_there_was(wine, monkeypatch):
    interrupt(monkeypatch, "lbfgs", after=13)
    monkeypatch.setattr(Progress, "_certify", raise_interrupt)
    clf = MGCEClassifier(0.3, solver="lbfgs")
    with pytest.raises(KeyboardInterrupt), pytest.warns(ConvergenceWarning):
        clf.fit(*wine)
    monkeypatch.undo()
    with pytest.warns(ConvergenceWarning, match="iteration limit"):
        ten = MGCEClassifier(0.3, solver="lbfgs", max_iter=10).fit(*wine)
    np.testing.assert_array_equal(clf.coef_, ten.coef_)
    assert clf.minimax_risk_ == ten.minimax_risk_


def test_a_second_interrupt_before_any_certificate_changes_nothing(wine, monkeypatch):
    interrupt(monkeypatch, "lbfgs", after=3)
    monkeypatch.setattr(Progress, "_certify", raise_interrupt)
    clf = MGCEClassifier(0.3, solver="lbfgs")
    before = dict(vars(clf))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*wine)
    assert vars(clf) == before


def test_an_interrupt_while_the_result_is_kept_changes_nothing(wine, monkeypatch):
    clf = MGCEClassifier(0.3, tol=0.1).fit(*wine)
    before = dict(vars(clf))
    monkeypatch.setattr(MGCEClassifier, "_keep_coefficients", raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*wine)
    assert vars(clf) == before


def test_an_interrupt_of_what_nobody_keeps_is_plain(wine, monkeypatch):
    interrupt(monkeypatch, "interior_point", after=3)
    with pytest.raises(KeyboardInterrupt) as error:
        mgce_path(*wine, [0.3], [0.1])
    assert error.type is KeyboardInterrupt
    search = MGCEClassifierCV([0.3], [0.1], cv=2, certify_scores=True)
    before = dict(vars(search))
    interrupt(monkeypatch, "interior_point", after=0)
    with pytest.raises(KeyboardInterrupt) as error:
        search.fit(*wine)
    assert error.type is KeyboardInterrupt
    assert vars(search) == before


def test_the_fit_to_all_rows_is_interrupted_with_the_search(wine, monkeypatch):
    search = MGCEClassifierCV([0.3], [0.1], cv=2)
    before = dict(vars(search))

    class Stumbles(MGCEClassifier):
        def fit(self, X, y, sample_weight=None):
            interrupt(monkeypatch, "interior_point", after=3)
            return super().fit(X, y, sample_weight)

    monkeypatch.setattr(search_module, "MGCEClassifier", Stumbles)
    with pytest.raises(KeyboardInterrupt), pytest.warns(ConvergenceWarning, match="interrupt"):
        search.fit(*wine)
    assert vars(search) == before


def test_threads_have_ended_their_work_before_the_certificate(monkeypatch):
    """Rows of which a thread is at work when the interrupt comes are not read meanwhile."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40_000, 4)), rng.integers(3, size=40_000)
    at_work, log, passes = set(), [], []
    assemble, certify = newton._assemble, Progress._certify

    def interrupted(along, gather, part):
        """Have the first thread of the third pass meet the interrupt, while the other goes on."""
        at_work.add(part.first_row)
        try:
            if part.first_row == 0:
                passes.append(len(at_work))
                if len(passes) == 3:
                    raise KeyboardInterrupt
            elif len(passes) >= 2:
                time.sleep(0.3)
            return assemble(along, gather, part)
        finally:
            at_work.remove(part.first_row)
            log.append((len(passes), part.first_row))

    def noted(*args):
        log.append("certificate" if not at_work else "too early")
        certify(*args)

    monkeypatch.setattr(newton, "_assemble", interrupted)
    monkeypatch.setattr(Progress, "_certify", noted)
    with threadpool_limits(2):
        objective = make_objective(X, y, 0.3)
        with pytest.raises(Interrupted) as error:
            InteriorPoint(tol=1e-9).solve(objective, watch=Watch(keeps=True))
    assert log[-3:] == [(3, 0), (3, 20_000), "certificate"]
    assert error.value.result.n_iter == 2
    assert isinstance(error.value.__cause__, KeyboardInterrupt)


LONG_FIT = """
import sys
import numpy as np
from mgce_sklearn import MGCEClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(2000, 30))
y = (X[:, :4] + rng.normal(size=(2000, 4))).argmax(axis=1)
model = MGCEClassifier(0.3, solver="sgd", tol=1e-14, max_iter=10**6, verbose=1)
try:
    model.fit(X, y)
except KeyboardInterrupt:
    print("kept", model.minimax_risk_ - model.dual_gap_ <= model.minimax_risk_, model.n_iter_ > 0)
    raise
"""


def test_a_real_interrupt_keeps_the_fit_and_ends_the_script():
    with subprocess.Popen(
        [sys.executable, "-c", LONG_FIT],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline().startswith("sgd: 2000 rows")
            assert process.stdout.readline().startswith("sgd ")
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out.splitlines()[-1] == "kept True True"
    assert "stopped by an interrupt" in errors
    assert process.returncode == -signal.SIGINT  # so that a shell's loop ends, too


# The search.


def stopping_after(monkeypatch, n_points):
    """Have time be up for the search after so many fits."""
    made = []

    def limit(name):
        points = getattr(folds_module, name)

        def limited(*problem, **how):
            for point in points(*problem, **how):
                if len(made) == n_points:
                    stopped = replace(point.result, status=Status.STOPPED)
                    yield point._replace(result=stopped)
                    return
                made.append(point)
                yield point

        monkeypatch.setattr(folds_module, name, limited)

    limit("solve_path")
    limit("estimates")


GRID = {"qs": (0.3, 0.7), "lams": (0.1, 0.3), "cv": 4}


@pytest.mark.parametrize("certify", [False, True])
def test_pairs_are_compared_on_the_folds_that_are_complete(wine, monkeypatch, certify):
    how = {**GRID, "scoring": "neg_brier_score", "certify_scores": certify}
    whole = MGCEClassifierCV(**how).fit(*wine).cv_results_
    stopping_after(monkeypatch, 11)  # of 4 a fold
    said = r"Pairs are compared on 2 of 4 folds\. Allow more time"
    with pytest.warns(ConvergenceWarning, match=said) as caught:
        search = MGCEClassifierCV(**how).fit(*wine)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    cut = search.cv_results_
    scores = np.array([cut[f"split{i}_test_score"] for i in range(4)])
    expected = np.array([whole[f"split{i}_test_score"] for i in range(4)])
    np.testing.assert_array_equal(scores[:2], expected[:2])
    assert np.isnan(scores[2]).sum() == 1
    assert np.isnan(scores[3]).all()
    np.testing.assert_allclose(cut["mean_test_score"], expected[:2].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cut["std_test_score"], expected[:2].std(axis=0), rtol=1e-9)
    assert np.isfinite(cut["mean_minimax_risk"]).all()
    assert not cut["converged"].any()
    assert search.best_score_ == cut["mean_test_score"].max()
    assert search.best_estimator_.score(*wine) > 0.9


@pytest.mark.parametrize("selection", ["best", "one_standard_error", "largest_q"])
def test_a_search_that_was_stopped_equals_one_on_the_complete_folds(monkeypatch, selection):
    X, y = load("diabetes")
    folds = list(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y))
    how = {"qs": (0.3, 0.7), "lams": (0.01, 0.1, 1.0, 3.0), "selection": selection, "tol": 1e-3}
    whole = MGCEClassifierCV(**how, cv=folds[:2]).fit(X, y)
    stopping_after(monkeypatch, 2 * 8 + 3)
    with pytest.warns(ConvergenceWarning, match="on 2 of 4 folds"):
        cut = MGCEClassifierCV(**how, cv=folds).fit(X, y)
    for name in ("mean_test_score", "std_test_score", "rank_test_score", "mean_minimax_risk"):
        np.testing.assert_allclose(cut.cv_results_[name], whole.cv_results_[name], rtol=1e-12)
    assert cut.best_params_ == whole.best_params_


def test_without_a_complete_fold_the_pairs_that_it_has_are_compared(wine, monkeypatch):
    stopping_after(monkeypatch, 2)
    said = (
        r"compared on 1 of 4 folds, and have no score \(NaN\) at \(q=0.7, lam=0.1\), \(q=0.7, lam"
    )
    with pytest.warns(ConvergenceWarning, match=said):
        search = MGCEClassifierCV(**GRID, selection="one_standard_error").fit(*wine)
    assert search.q_ == 0.3
    np.testing.assert_array_equal(
        np.isfinite(search.cv_results_["mean_test_score"]), [True, False, True, False]
    )


@pytest.mark.parametrize("certify", [False, True])
def test_pairs_that_come_late_are_not_scored(wine, monkeypatch, certify):
    """Time is up while the first is scored, the widest of a path."""

    def score(estimator, X, y):
        late = time.monotonic() + 600.0
        monkeypatch.setattr(Watch, "seconds_left", property(lambda watch: watch.deadline - late))
        return 1.0

    grid = {**GRID, "certify_scores": certify, "refit": False, "max_time": 600.0}
    with pytest.warns(ConvergenceWarning, match="compared on 1 of 4 folds"):
        search = MGCEClassifierCV(**grid, scoring=score).fit(*wine)
    assert search.best_params_ == {"q": 0.3, "lam": 0.3}
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(4)]
    assert np.isfinite(scores).sum() == 1


def read_no_more(rows):
    raise AssertionError("Time is up.")


@pytest.mark.parametrize("feature_map", [None, read_no_more])
def test_a_search_without_a_score_is_refused(wine, feature_map):
    search = MGCEClassifierCV(**GRID, feature_map=feature_map, max_time=1e-9)
    before = dict(vars(search))
    with pytest.raises(ValueError, match="max_time must suffice for a score; the time ended"):
        search.fit(*wine)
    assert vars(search) == before


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_max_time_of_a_search_that_suffices_changes_nothing(wine, n_jobs):
    plain = MGCEClassifierCV(**GRID).fit(*wine)
    limited = MGCEClassifierCV(**GRID, max_time=600.0, n_jobs=n_jobs).fit(*wine)
    for name in ("mean_test_score", "rank_test_score", "mean_minimax_risk", "converged"):
        np.testing.assert_array_equal(plain.cv_results_[name], limited.cv_results_[name])
    np.testing.assert_array_equal(plain.coef_, limited.coef_)
    assert limited.best_estimator_.max_time == 600.0


def test_the_fit_to_all_rows_gets_the_time_that_is_left(wine, monkeypatch):
    limits = []

    class Notes(MGCEClassifier):
        def fit(self, X, y, sample_weight=None):
            limits.append(self.max_time)
            return super().fit(X, y, sample_weight)

    monkeypatch.setattr(search_module, "MGCEClassifier", Notes)
    begin = time.monotonic()
    MGCEClassifierCV([0.3], [0.1], cv=2, max_time=60.0).fit(*wine)
    assert 60.0 - (time.monotonic() - begin) <= limits[0] < 60.0


@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("feature_map", [None, StandardScaler()])
def test_a_fifth_of_the_time_is_kept_for_the_fit_to_all_rows(certify, feature_map):
    """A search whose scores would take far longer ends in time, with a model."""
    X, y = load("breast_cancer")
    how = {"certify_scores": certify, "feature_map": feature_map}
    MGCEClassifierCV([0.5], [0.1, 0.2, 0.3], cv=2, **how).fit(X, y)  # kernels are compiled
    begin = time.monotonic()
    search = MGCEClassifierCV(
        np.linspace(0.1, 0.9, 9), np.logspace(-2, 0, 30), tol=1e-7, max_time=2.0, **how
    )
    with pytest.warns(ConvergenceWarning, match="Pairs are compared on"):
        search.fit(X, y)
    assert time.monotonic() - begin < 10.0
    assert search.best_estimator_.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (0.0, 0),  # each is better than the one before
        (0.01, 2),  # by less than a hundredth since the third
        (0.6, 3),
    ],
)
def test_steps_that_gain_next_to_nothing_can_count_as_idle(gain, expected):
    progress = Progress(InteriorPoint(), make_objective(*load("iris")))
    assert progress.iterations_since_better(gain) == 0
    for gap in (1.0, 0.5, 0.4, 0.399, 0.398):
        progress.trace.append(TracePoint(0.0, 1.0, 1.0 - gap, 0))
    assert progress.iterations_since_better(gain) == expected
    progress.trace.append(progress.trace[-1])
    assert progress.iterations_since_better(gain) == expected + 1


def test_a_value_that_is_computed_again_is_no_less_than_labels_allow(monkeypatch):
    progress = Progress(InteriorPoint(), make_objective(*load("iris")))
    progress.working = replace(progress.objective, parts=progress.objective.parts.compact())
    assert progress.rounded
    monkeypatch.setattr(type(progress.objective), "value", lambda *_: -7e-15)
    assert progress.result(Status.MAX_ITER, 1).value == 0.0
