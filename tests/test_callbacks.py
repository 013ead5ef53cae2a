"""Callbacks of scikit-learn: what they are told, that they stop fits, and that processes exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from problems import load
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
from mgce_sklearn import search as search_module
from mgce_sklearn.callbacks import N_BAR_STEPS

ROOT = Path(__file__).parent.parent


def run(code, *words, timeout=60):
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=timeout,
        cwd=ROOT,
    )  # fmt: skip


WITHOUT_CALLBACKS = """
import sys
# These know callbacks, where there are any.
from sklearn import linear_model, model_selection, pipeline
sys.modules["sklearn.callback"] = None
from sklearn.datasets import load_iris
from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
X, y = load_iris(return_X_y=True)
model = MGCEClassifier().fit(X, y)
search = MGCEClassifierCV([0.3, 0.7], [0.1], cv=2, max_time=600).fit(X, y)
print(hasattr(model, "set_callbacks"), hasattr(search, "set_callbacks"), search.n_iter_ > 0)
try:
    model.fit(X, 0 * y)
except ValueError as error:
    print(error)
"""


def test_all_else_works_where_scikit_learn_has_no_callbacks():
    done = run(WITHOUT_CALLBACKS)
    assert done.stdout.splitlines()[0] == "False False True", done.stderr
    assert done.stdout.splitlines()[1].startswith("y must have at least 2 classes")


pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


class Notes:
    """A callback that notes the tasks which begin and end, and asks to stop if told so."""

    def __init__(self, stops=lambda context, fitted: False):
        self.stops, self.begun, self.ended, self.seen, self.most = stops, [], [], [], {}
        self.set_up = self.torn_down = 0

    def setup(self, estimator, context):
        self.set_up += 1

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)
        self.most[context.task_name] = context.max_subtasks

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.ended.append(context.task_name)
        if fitted_estimator is not None:
            self.seen.append((context.task_name, fitted_estimator, X, metadata))
        return self.stops(context, fitted_estimator)


class AutoPropagated(Notes):
    max_propagation_depth = None


@pytest.fixture
def wine():
    return load("wine")


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd", "cvxpy"])
def test_callbacks_see_every_step_and_a_classifier_ready_to_predict(wine, solver):
    if solver == "cvxpy":
        pytest.importorskip("cvxpy")
    X, y = wine
    notes, weights = Notes(), np.ones(len(y))
    how = {"solver": solver, "tol": 1e-3, "random_state": 0}
    clf = MGCEClassifier(0.3, **how).set_callbacks(notes).fit(X, y, weights)
    assert (notes.set_up, notes.torn_down) == (1, 1)
    assert sorted(notes.begun) == sorted(notes.ended)
    assert notes.begun[0] == notes.ended[-1] == "fit"
    # The gap is closed, and so is the way to it.
    assert notes.ended.count("share of the gap") == N_BAR_STEPS
    *steps, (last, fitted, *_) = notes.seen
    assert notes.ended.count("step") == len(steps)
    assert last == "fit"
    np.testing.assert_array_equal(fitted.coef_, clf.coef_)
    risks = []
    for name, fitted, rows, metadata in steps:
        assert name == "step"
        assert rows is X
        assert metadata == {"sample_weight": weights}
        assert fitted.predict(X).shape == y.shape
        sample = fitted.certificate(X, y)
        assert fitted.minimax_risk_ == pytest.approx(sample.minimax_risk, rel=1e-9)
        risks.append(fitted.minimax_risk_)
    assert risks == sorted(risks, reverse=True)
    assert steps[-2][1].n_iter_ == clf.n_iter_
    np.testing.assert_array_equal(steps[-1][1].coef_, clf.coef_)
    if solver == "interior_point":
        assert [fitted.n_iter_ for _, fitted, *_ in steps[:-1]] == list(range(clf.n_iter_ + 1))
    plain = MGCEClassifier(0.3, **how).fit(X, y, weights)
    np.testing.assert_array_equal(plain.coef_, clf.coef_)
    assert vars(clf).keys() == vars(plain).keys() | {"_skl_callbacks"}


def test_shares_of_the_gap_are_equal_on_a_logarithmic_scale(wine):
    """After each step as many have ended as the relative gap tells."""
    notes = Notes()
    clf = MGCEClassifier(tol=1e-6).set_callbacks(notes).fit(*wine)
    gaps = [fitted.dual_gap_ / fitted.minimax_risk_ for name, fitted, *_ in notes.seen[:-2]]
    after = "".join({"step": "|", "share of the gap": "."}.get(name, "") for name in notes.ended)
    told = np.cumsum([len(dots) for dots in after.split("|")[1:-1]])
    assert len(told) == len(gaps) == clf.n_iter_ + 1
    way = np.log(gaps[0] / np.array(gaps)) / np.log(gaps[0] / clf.tol)
    np.testing.assert_allclose(told, np.clip(np.floor(N_BAR_STEPS * way), 0, N_BAR_STEPS), atol=1)
    assert told[0] == 0 and told[-1] == N_BAR_STEPS
    assert np.count_nonzero(np.diff(told)) > 2


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs", "sgd"])
def test_a_callback_stops_a_fit(wine, solver):
    stops = lambda context, fitted: context.task_name == "step" and fitted.dual_gap_ < 0.1  # noqa: E731
    notes = Notes(stops)
    clf = MGCEClassifier(0.3, solver=solver, tol=1e-6).set_callbacks(notes)
    with pytest.warns(ConvergenceWarning, match="It was stopped by a callback before") as caught:
        clf.fit(*wine)
    assert caught[0].filename == __file__
    assert 1e-6 * clf.minimax_risk_ < clf.dual_gap_ < 0.1
    assert clf.minimax_risk_ >= MGCEClassifier(0.3, tol=1e-6).fit(*wine).minimax_risk_
    assert notes.torn_down == 1
    assert notes.ended[-1] == "fit"


def test_clones_have_the_same_callbacks(wine):
    notes = Notes()
    clone(MGCEClassifier().set_callbacks(notes)).fit(*wine)
    assert notes.ended[-1] == "fit"


class Refuses(Notes):
    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "step":
            raise RuntimeError("no step")


def test_an_error_of_a_callback_changes_nothing(wine):
    notes = Refuses()
    clf = MGCEClassifier(tol=0.1).fit(*wine).set_callbacks(notes)
    before = dict(vars(clf))
    with pytest.raises(RuntimeError, match="no step"):
        clf.fit(*wine)
    assert vars(clf) == before
    assert notes.torn_down == 1


def test_a_refused_fit_ends_its_callbacks_and_changes_nothing(wine):
    notes = Notes()
    clf = MGCEClassifier(q=2.0).set_callbacks(notes)
    before = dict(vars(clf))
    with pytest.raises(ValueError, match="q must be"):
        clf.fit(*wine)
    assert vars(clf) == before
    assert notes.torn_down == 1


GRID = {"qs": (0.3, 0.7), "lams": (0.1, 0.3), "cv": 3}


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize(("feature_map", "n_paths"), [(None, 6), (StandardScaler(), 3)])
def test_a_search_tells_of_every_path_and_of_the_fit_to_all_rows(
    wine, n_jobs, feature_map, n_paths
):
    notes, how = AutoPropagated(), {**GRID, "feature_map": feature_map}
    search = MGCEClassifierCV(**how, n_jobs=n_jobs).set_callbacks(notes).fit(*wine)
    assert (notes.set_up, notes.torn_down) == (1, 1)
    assert notes.ended.count("path") == n_paths
    assert notes.most["search"] == n_paths
    assert notes.begun[:2] == ["fit", "search"]
    # The fit to all rows is a task of both.
    assert notes.ended.count("fit") == 2
    assert notes.ended.count("steps") == 1
    assert sorted(notes.begun) == sorted(notes.ended)
    plain = MGCEClassifierCV(**how).fit(*wine)
    np.testing.assert_array_equal(plain.coef_, search.coef_)
    assert not hasattr(search.best_estimator_, "_skl_callbacks")
    assert vars(search.best_estimator_).keys() == vars(plain.best_estimator_).keys()


def test_folds_that_a_callback_left_out_have_no_score(wine):
    """With a feature map a job is a fold."""
    notes = Notes(lambda context, fitted: context.task_name == "path" and context.task_id == 1)
    search = MGCEClassifierCV(**{**GRID, "cv": 4}, feature_map=StandardScaler(), refit=False)
    whole = clone(search).fit(*wine).cv_results_
    with pytest.warns(ConvergenceWarning, match=r"compared on 2 of 4 folds\. "):
        cut = search.set_callbacks(notes).fit(*wine).cv_results_
    for i in range(4):
        expected = whole[f"split{i}_test_score"] if i < 2 else np.full(4, np.nan)
        np.testing.assert_array_equal(cut[f"split{i}_test_score"], expected)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_callback_stops_a_search(wine, n_jobs):
    notes = Notes(lambda context, fitted: context.task_name == "path" and context.task_id == 1)
    search = MGCEClassifierCV(**{**GRID, "cv": 10}, n_jobs=n_jobs).set_callbacks(notes)
    said = rf"compared on {1 if n_jobs is None else '[1-9]'} of 10 folds\. "
    with pytest.warns(ConvergenceWarning, match=said) as caught:
        search.fit(*wine)
    assert caught[0].filename == __file__
    assert notes.ended.count("path") == 2 if n_jobs is None else 2 <= notes.ended.count("path") < 20
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.score(*wine) > 0.9


class RefusesPaths(Notes):
    def on_fit_task_end(self, estimator, context):
        if context.task_name == "path":
            raise RuntimeError("no path")


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.filterwarnings("ignore:.*tasks:UserWarning:joblib")  # joblib's, that some were ended
def test_an_error_of_a_callback_ends_a_search_and_changes_nothing(wine, n_jobs):
    notes = RefusesPaths()
    search = MGCEClassifierCV(**GRID, n_jobs=n_jobs).set_callbacks(notes)
    before = dict(vars(search))
    with pytest.raises(RuntimeError, match="no path"):
        search.fit(*wine)
    assert vars(search) == before
    assert notes.torn_down == 1


def test_searches_of_scikit_learn_hand_their_callbacks_on(wine):
    notes = AutoPropagated()
    GridSearchCV(MGCEClassifier(tol=0.1), {"q": [0.3, 0.7]}, cv=2).set_callbacks(notes).fit(*wine)
    assert notes.set_up == notes.torn_down == 1
    assert notes.ended.count("steps") == 5
    assert sorted(notes.begun) == sorted(notes.ended)


def test_a_search_without_a_fit_to_all_rows_has_one_part(wine):
    notes = AutoPropagated()
    MGCEClassifierCV(**GRID, refit=False).set_callbacks(notes).fit(*wine)
    assert notes.ended[-2:] == ["search", "fit"]
    assert notes.ended.count("fit") == 1


def test_results_that_come_at_the_end_will_do(wine, monkeypatch):
    """Some of joblib's backends return lists alone."""

    def lists_alone(**how):
        if "return_as" in how:
            raise ValueError("Backend does not support return_as=generator")
        return parallel(**how)

    parallel = search_module.Parallel
    monkeypatch.setattr(search_module, "Parallel", lists_alone)
    notes = Notes()
    MGCEClassifierCV(**GRID).set_callbacks(notes).fit(*wine)
    assert notes.ended.count("path") == 6


# Every process must exit. ProgressBar has a thread that waits for the end of a fit.

SCRIPT = """
import sys
import numpy as np
from sklearn.callback import ProgressBar
from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
rng = np.random.default_rng(0)
rows = 200_000 if sys.argv[1:] == ["interrupted"] else 300  # some 10 s, to be hit in them
X = rng.normal(size=(rows, 8))
y = (X[:, :3] + rng.normal(size=(rows, 3))).argmax(axis=1)
long = dict(solver="sgd", tol=1e-14, max_iter=10**6, verbose=1)
models = {
    "fit": MGCEClassifier(),
    "refused": MGCEClassifier(q=2.0),
    "stopped": MGCEClassifier(lam=0.1, max_time=0.2, **long),
    "interrupted": MGCEClassifier(lam=0.1, **long),
    "search": MGCEClassifierCV([0.3, 0.7], [0.1, 0.3], cv=3, n_jobs=2),
    "refused search": MGCEClassifierCV(lams=[-1.0]),
    "interrupted search": MGCEClassifierCV(
        np.linspace(0, 1, 30), n_jobs=2, certify_scores=True, **long
    ),
}
for name in sys.argv[1:]:
    print("begin", name, flush=True)
    model = models[name].set_callbacks(ProgressBar())
    try:
        model.fit(X, y)
    except ValueError as error:
        print("refused:", error)
    print("fitted" if hasattr(model, "coef_") else "not fitted")
"""


@pytest.fixture
def rich():
    pytest.importorskip("rich", reason="ProgressBar is made of rich")


def test_a_process_with_progress_bars_of_fits_exits(rich):
    done = run(SCRIPT, "fit", "refused", "stopped")
    assert done.returncode == 0, done.stderr
    _, fit, refused, stopped = done.stdout.split("begin ")
    assert "MGCEClassifier - fit" in fit and "100%" in fit
    assert fit.endswith("fitted\n") and stopped.endswith("fitted\n")
    assert "refused: q must be" in refused and refused.endswith("not fitted\n")
    assert "stopped by max_time" in done.stderr


def test_a_process_with_progress_bars_of_searches_exits(rich):
    done = run(SCRIPT, "search", "refused search")
    assert done.returncode == 0, done.stderr
    _, search, refused = done.stdout.split("begin ")
    bars = ("MGCEClassifierCV - search", "MGCEClassifierCV - refit", "MGCEClassifier - steps")
    assert all(bar in search for bar in bars)
    assert "100%" in search and search.endswith("fitted\n")
    assert "refused: lams[0] must be" in refused and refused.endswith("not fitted\n")


@pytest.mark.parametrize("how", ["interrupted", "interrupted search"])
def test_an_interrupted_process_with_a_progress_bar_exits(rich, how):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        try:
            first = "sgd " if how == "interrupted" else "begin"
            while not process.stdout.readline().startswith(first):
                pass
            threading.Event().wait(0.2 if how == "interrupted" else 2.0)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert ("stopped by an interrupt" in errors) == (how == "interrupted")
