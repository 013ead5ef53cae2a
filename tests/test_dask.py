"""Rows on a cluster: the same model as of rows in memory, lazy predictions, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from problems import load
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import StandardScaler

from mgce_sklearn import MGCEClassifier, RowBlocks
from mgce_sklearn.kernels.gram import GramSum
from mgce_sklearn.parts import LostRows, add

dask = pytest.importorskip("dask", reason="asks for the extra dask")
distributed = pytest.importorskip("distributed", reason="asks for the extra dask")
pd = pytest.importorskip("pandas")

import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402
from dask import delayed  # noqa: E402

from mgce_sklearn.dask import ClusterError, DaskMGCEClassifier, rounds  # noqa: E402
from mgce_sklearn.dask.blocks import block_of  # noqa: E402

EXACT = {"tol": 1e-9, "lam": 1.0}
NAMES = np.array(["setosa", "versicolor", "virginica"])


METHODS = [
    "predict", "predict_proba", "predict_log_proba", "predict_worst_case_proba",
    "decision_function",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def client():
    """Two workers in threads of this process, who speak by TCP: all that they get is pickled."""
    settings = {
        "distributed.scheduler.work-stealing": False,  # blocks stay where their rows are
        "distributed.worker.memory.pause": False,
        "dataframe.convert-string": True,
    }
    with (
        dask.config.set(settings),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                processes=False, n_workers=2, threads_per_worker=1, protocol="tcp://",
                host="127.0.0.1", dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):  # fmt: skip
            yield client


@cache
def iris():
    return load("iris")


@cache
def draws(n=300, d=3):
    """Return rows of two classes that overlap."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return X, (X[:, 0] + rng.normal(size=n) > 0.3).astype(int)


def cut(chunks, *arrays):
    """Return dask arrays in the same chunks of rows."""
    return [
        None if one is None else da.from_array(one, chunks=(chunks, *one.shape[1:]))
        for one in arrays
    ]


def listed(sizes, *arrays):
    """Return lists of delayed partitions of so many rows."""
    ends = np.cumsum(sizes)[:-1]
    return [[delayed(part) for part in np.split(one, ends)] for one in arrays]


def framed(X, npartitions=3, **columns):
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(**columns)
    frame = dd.from_pandas(frame, npartitions=npartitions, sort=False)
    return frame[[f"x{j}" for j in range(X.shape[1])]], frame


def computed(collection):
    """Return what a collection holds, an array or a frame."""
    if isinstance(collection, list):
        return np.concatenate(dask.compute(*collection))
    return collection.compute()


def check_same(local, far, X, rows, atol=1e-5):
    """Compare models of the same rows, in memory and on workers."""
    assert far.minimax_risk_ == pytest.approx(local.minimax_risk_, rel=max(1e-8, far.tol))
    assert 0.0 <= far.dual_gap_ <= 1.001 * far.tol * far.minimax_risk_
    assert far.solver_ == local.solver_
    assert far.classes_.tolist() == local.classes_.tolist()
    assert far.n_features_in_ == local.n_features_in_
    for name in ("tau", "half_width", "center"):
        one, other = (getattr(model.uncertainty_set_, name) for model in (local, far))
        np.testing.assert_allclose(other, one, rtol=10 * far.tol, atol=1e-12)
    proba = np.asarray(computed(far.predict_proba(X)))
    np.testing.assert_allclose(proba, local.predict_proba(rows), atol=atol)


def same_fit(X, y, chunks, weights=None, **how):
    """Fit rows in memory and in chunks, and compare; return both models and the chunks."""
    how = {**EXACT, **how}
    local = MGCEClassifier(**how).fit(X, y, weights)
    parts = cut(chunks, np.asarray(X), np.asarray(y), weights)
    far = DaskMGCEClassifier(**how).fit(*parts)
    check_same(local, far, parts[0], X)
    return local, far, parts


# Any partitions give the model of rows in memory


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("data", [iris, draws])
def test_interior_point(data, q):
    _, far, _ = same_fit(*data(), 40, q=q, solver="interior_point")
    assert far.solver_ == "interior_point"


@pytest.mark.parametrize(("data", "q"), [(iris, 0.0), (draws, 0.0), (draws, 0.5)])
def test_lbfgs(data, q):
    same_fit(*data(), 40, q=q, solver="lbfgs", lam=2.0)


def by_boolean_filter(X, y):
    rows, labels = cut(40, X, y)
    return rows[rows[:, 0] > -9], labels[rows[:, 0] > -9]


def frame_with_text(X, y):
    columns, frame = framed(X, 4, y=NAMES[y])
    assert frame.y.dtype == "string" or frame.y.dtype == "str"
    return columns, frame.y


def frame_with_categories(X, y):
    columns, frame = framed(X, 4, y=NAMES[y])
    return columns, frame.y.astype("category")


def frames_as_arrays(X, y):
    columns, frame = framed(X, 3, y=y)
    rows = columns.to_dask_array()
    assert np.isnan(rows.shape[0])
    return rows, frame.y.to_dask_array()


def sparse_frame(X, y):
    pieces = np.split(np.arange(len(X)), [50, 60])
    rows = [delayed(pd.DataFrame.sparse.from_spmatrix)(sp.csr_matrix(X[i])) for i in pieces]
    return rows, [delayed(y[i]) for i in pieces]


def sparse_blocks(X, y):
    rows, labels = cut(40, X, y)
    return rows.map_blocks(sp.csr_matrix), labels


def futures(X, y):
    client = distributed.get_client()
    parts = listed((70, 80), X, y)
    return [client.compute(one) for one in parts]


class COO:
    """Stands in for a matrix of the package sparse, of which Dask's sparse blocks often are."""

    def __init__(self, X):
        self.X, self.shape = X, X.shape

    def to_scipy_sparse(self):
        return sp.csr_matrix(self.X)


def of_another_package(X, y):
    rows, labels = listed((70, 0, 80), X, y)
    return [delayed(COO)(part) for part in rows], labels


def plain_lists(X, y):
    rows, labels = listed((70, 80), X, y)
    return [[delayed(list)(part) for part in parts] for parts in (rows, labels)]


def permuted(X, y):
    order = np.random.default_rng(0).permutation(len(X))
    return cut(40, X[order], y[order])


WAYS = {
    "one partition": lambda X, y: cut(150, X, y),
    "a row each": lambda X, y: listed([1] * 40 + [110], X, y),
    "ragged": lambda X, y: cut((1, 70, 2, 77), X, y),
    "a class each": lambda X, y: cut(50, X, y),
    "empty ones": lambda X, y: listed((0, 60, 0, 90, 0), X, y),
    "columns too": lambda X, y: [da.from_array(X, chunks=(50, 3)), cut(50, y)[0]],
    "columns of unknown chunks": lambda X, y: [
        one[cut(50, X[:, 0])[0] > -9] for one in (da.from_array(X, chunks=(50, 3)), *cut(50, y))
    ],
    "others for labels": lambda X, y: [*cut((40, 110), X), *cut(70, y)],
    "permuted": permuted,
    "unknown": by_boolean_filter,
    "rows alone unknown": lambda X, y: [by_boolean_filter(X, y)[0], *cut(40, y)],
    "text in a frame": frame_with_text,
    "categories in a frame": frame_with_categories,
    "frames as arrays": frames_as_arrays,
    "sparse blocks": sparse_blocks,
    "sparse frames": sparse_frame,
    "of another package": of_another_package,
    "plain lists": plain_lists,
    "futures": futures,
    "a column of labels": lambda X, y: cut(50, X, y[:, np.newaxis]),
}


@cache
def of_iris(q, text=False):
    X, y = iris()
    return MGCEClassifier(q, **EXACT).fit(X, NAMES[y] if text else y)


@pytest.mark.parametrize("way", WAYS)
def test_any_partitions(way):
    q = (0.0, 0.5, 0.9, 1.0)[list(WAYS).index(way) % 4]
    X, y = iris()
    rows, labels = WAYS[way](X, y)
    far = DaskMGCEClassifier(q, **EXACT).fit(rows, labels)
    local = of_iris(q, text=way.endswith("in a frame"))
    if way == "permuted":
        X = rows.compute()
    if way == "sparse frames":
        rows = listed((70, 80), X)[0]
    check_same(local, far, rows, X)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_single_precision(form):
    X, y = iris()
    X = X.astype(np.float32)
    rows, labels = cut(40, X, y)
    far = DaskMGCEClassifier(0.9, **EXACT).fit(rows.map_blocks(form), labels)
    local = MGCEClassifier(0.9, **EXACT).fit(form(X), y)
    check_same(local, far, rows, X)
    assert far.coef_.dtype == local.coef_.dtype == np.float32
    for method in METHODS:  # of float64, whatever X is of
        lazy = getattr(far, method)(rows)
        check_meta(lazy, lazy.compute())


@pytest.mark.parametrize("labels", [NAMES, np.array([7, 3, 5]), NAMES.astype(object)], ids=str)
def test_labels_of_any_kind(labels):
    X, y = iris()
    local, far, parts = same_fit(X, labels[y], (50, 1, 99))
    assert far.classes_.tolist() == sorted(labels)
    assert far.predict(parts[0]).compute().tolist() == local.predict(X).tolist()


def test_truth_values():
    X, y = draws()
    local, far, parts = same_fit(X, y > 0, 100, q=0.9)
    assert far.classes_.dtype == far.predict(parts[0]).compute().dtype == bool
    assert far.score(*parts) == local.score(X, y > 0)


def weights_of(n, seed=1):
    weights = np.random.default_rng(seed).integers(3, size=n) * 0.7
    weights[40:80] = 0.0  # a partition, where these are of 40
    return weights


@pytest.mark.parametrize(
    ("how", "weighted"),
    [
        ({"q": 0.9}, True),
        ({"class_weight": "balanced"}, True),
        ({"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}, "q": 0.9}, False),
        ({"center": True, "q": 0.0}, True),
        ({"center": False}, False),
        ({"width": "std", "lam": 0.01}, True),
        ({"width": "hoeffding", "feature_range": (-4.0, 4.0)}, False),
        ({"width": "bernstein", "feature_range": ([-3, -3, -3, -4], 4.0), "q": 0.9}, False),
        ({"width": "betting"}, False),
        ({"width": np.full((3, 5), 0.03)}, True),
        ({"noise_matrix": 0.1, "lam": 2.0}, False),
        ({"lam": "feasible", "q": 0.9}, False),
        ({"fit_intercept": False, "q": 0.9}, True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "weights" * value,
)
def test_parameters(how, weighted):
    X, y = iris()
    local, far, parts = same_fit(X, y, 40, weights_of(150) if weighted else None, **how)
    assert far.n_features_in_ == 4
    assert far.score(*parts) == pytest.approx(local.score(X, y, *[weights_of(150)] * weighted))


def test_a_noise_matrix_and_the_least_lam():
    X, y = draws(100)
    how = {"noise_matrix": [[0.9, 0.1], [0.2, 0.8]], "lam": "feasible"}
    local, far, _ = same_fit(X, y, 30, **how)
    assert far._lam == pytest.approx(local._lam, rel=1e-6)


def test_columns_far_from_zero_are_centered():
    X, y = draws()
    _, far, _ = same_fit(1000.0 + X, y, 100, q=0.9)
    assert (np.abs(far.uncertainty_set_.center[:3] - 1000.0) < 1.0).all()


def distributions():
    X, y = iris()
    proba = np.random.default_rng(0).dirichlet(np.ones(3), size=150)
    return X, 0.2 * proba + 0.8 * np.eye(3)[y]


@pytest.mark.parametrize("class_weight", [None, {0: 1.0, 1: 2.0, 2: 0.5}, "balanced"])
def test_distributions(class_weight):
    X, Y = distributions()
    weights = weights_of(150)
    local, far, parts = same_fit(X, Y, 40, weights, class_weight=class_weight)
    assert far.score(*parts) == pytest.approx(local.score(X, Y, weights))


def test_distributions_in_a_frame():
    X, Y = distributions()
    named = pd.DataFrame(Y, columns=["b", "c", "a"])
    local = MGCEClassifier(**EXACT).fit(X, named)
    rows, frame = framed(X, 4, **named)
    labels = frame[["b", "c", "a"]]
    far = DaskMGCEClassifier(**EXACT).fit(rows, labels)
    check_same(local, far, rows, X)
    assert far.classes_.tolist() == ["a", "b", "c"]
    assert far.score(rows, labels) == pytest.approx(local.score(X, named))
    mine, theirs = far.certificate(rows, labels), local.certificate(X, named)
    assert mine.minimax_risk == pytest.approx(theirs.minimax_risk, rel=1e-9)
    # An array's columns are the classes of the fit.
    assert far.score(*cut(50, X, Y[:, [2, 0, 1]])) == pytest.approx(local.score(X, named))
    assert far.certificate(*cut(50, X, Y[:, [2, 0, 1]])) == pytest.approx(mine)


def test_what_was_seen_of_columns():
    X, y = iris()
    rows, frame = framed(X, y=y)
    far = DaskMGCEClassifier().fit(rows, frame.y)
    assert far.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3"]
    assert not hasattr(far.fit(*cut(50, X, y)), "feature_names_in_")
    assert far.n_features_in_ == 4


def test_warm_start():
    rows = cut(150, *draws())
    for solver, least in (("interior_point", 0), ("lbfgs", 1)):
        far = DaskMGCEClassifier(0.0, solver=solver, tol=1e-6, warm_start=True).fit(*rows)
        first, risk = far.n_iter_, far.minimax_risk_
        far.fit(*rows)
        assert far.n_iter_ <= first - least, solver
        assert far.minimax_risk_ == pytest.approx(risk, rel=1e-6)


def test_a_fit_that_ends_early():
    rows = cut(50, *iris())
    for limit in ({"max_iter": 1}, {"max_time": 1e-6}):
        with pytest.warns(ConvergenceWarning, match="ended at a relative duality gap") as caught:
            far = DaskMGCEClassifier(0.9, **EXACT, **limit).fit(*rows)
        assert caught[0].filename == __file__
        assert far.minimax_risk_ - far.dual_gap_ <= of_iris(0.9).minimax_risk_ <= far.minimax_risk_


def test_an_interrupt_ends_a_fit_that_loses_rows_just_then(monkeypatch):
    real, seen = rounds.Rounds._round, []

    def sabotaged(self, *args):
        seen.append(None)
        if len(seen) == 22:
            raise KeyboardInterrupt
        if len(seen) == 24:  # what certifies the latest coefficients has kept something
            raise LostRows
        return real(self, *args)

    X, y = iris()
    model = DaskMGCEClassifier(**EXACT)
    with monkeypatch.context() as patch:
        patch.setattr(rounds.Rounds, "_round", sabotaged)
        with pytest.raises(KeyboardInterrupt), pytest.warns(ConvergenceWarning, match="stopped"):
            model.fit(*cut(50, X, y))
    best = MGCEClassifier(**EXACT).fit(X, y).minimax_risk_
    assert len(seen) >= 24
    assert best * (1 - 1e-9) <= model.minimax_risk_ <= 1.2 * best
    assert model.minimax_risk_ - model.dual_gap_ <= best * (1 + 1e-9)


def test_sums_of_results_leave_these_as_they_are():
    """A worker may add up the same results again."""

    def result(number):
        gram = GramSum(1, 2)
        gram.add(np.ones((1, 3)), np.ones((2, 3)))
        return rounds._Result((number,), False, total=gram)

    results = [result(0), result(1)]
    for _ in range(2):
        total = rounds._combined(add, results).total
        np.testing.assert_array_equal(total.matrix(), np.full((2, 2), 6.0))


def test_features_that_say_nothing_are_told_of():
    X, _ = iris()
    with pytest.warns(UserWarning, match="coefficients of all features are zero") as caught:
        DaskMGCEClassifier(lam=1.0).fit(*cut(50, X, np.arange(150) % 3 > 0))
    assert caught[0].filename == __file__


def test_verbose(capsys):
    DaskMGCEClassifier(verbose=1).fit(*cut(50, *iris()))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "interior_point: 150 rows, 4 features, 3 classes, 15 coefficients, q = 0.5"
    told = [re.search(r"gap \S+  \d+ non-zero  (\d+) rounds, (\d+\.\d) MB sent$", s) for s in lines]
    assert all(told) and len(told) > 2
    rounds = [int(found[1]) for found in told]
    assert rounds == sorted(rounds) and rounds[-1] > rounds[0]
    assert 0.0 < float(told[-1][2]) < 1.0


# Classes that a worker does not have


SEEN = defaultdict(set)


def noting_block(number, feature_map, known, X, y, sample_weight):
    """Return the block of a partition, and note which labels there were where."""
    SEEN[distributed.get_worker().address] |= set(y.tolist())
    return block_of(number, feature_map, known, X, y, sample_weight)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9])
def test_workers_that_have_one_class_only(client, monkeypatch, q):
    """LightGBM's module for Dask predicts nonsense here, and says nothing."""
    X, y = draws()
    workers = sorted(client.scheduler_info()["workers"])
    parts = []
    for label, worker in enumerate(workers):
        own = X[y == label]
        for some in (own[:10], own[10:]):
            given = some, np.full(len(some), label)
            parts.append([client.scatter(one, workers=[worker], hash=False) for one in given])
    rows, labels = map(list, zip(*parts, strict=True))
    distributed.wait([*rows, *labels])
    where = client.who_has([*rows, *labels])
    assert [list(where[one.key]) for one in (*rows, *labels)] == [
        [worker] for worker in [*np.repeat(workers, 2)] * 2
    ]
    SEEN.clear()
    monkeypatch.setattr("mgce_sklearn.dask.classifier.block_of", noting_block)
    far = DaskMGCEClassifier(q, **EXACT).fit(rows, labels)
    assert dict(SEEN) == {worker: {label} for label, worker in enumerate(workers)}
    local = MGCEClassifier(q, **EXACT).fit(X, y)
    assert far.minimax_risk_ == pytest.approx(local.minimax_risk_, rel=1e-8)
    np.testing.assert_allclose(far.coef_, local.coef_, rtol=1e-3, atol=1e-5)
    assert far.score(*cut(100, X, y)) == local.score(X, y)


# Maps


def squares(X):
    X = np.asarray(X)
    return np.column_stack([X, X**2])


def test_a_function_of_rows():
    X, y = iris()
    local = MGCEClassifier(0.9, feature_map=squares, **EXACT).fit(X, y)
    rows, labels = listed((60, 0, 90), X, y)
    far = DaskMGCEClassifier(0.9, feature_map=squares, **EXACT).fit(rows, labels)
    assert far.coef_.shape == (3, 8)
    check_same(local, far, rows, X)
    np.testing.assert_array_equal(far.to_local().predict(X), local.predict(X))
    assert far.score(rows, labels) == local.score(X, y)
    mine, theirs = far.error_bounds(rows), local.error_bounds(X)
    assert mine.upper == pytest.approx(theirs.upper, abs=2e-3)
    mine = far.certificate(rows, labels).minimax_risk
    assert mine == pytest.approx(local.minimax_risk_, rel=1e-8)


def test_a_function_of_frames_with_text():
    X, y = iris()
    colors = np.where(X[:, 0] > 0, "red", "blue")
    rows, frame = framed(X[:, 1:], 3, color=colors, y=y)
    rows = frame[["x0", "x1", "x2", "color"]]

    def with_color(frame):
        return frame.assign(color=(frame.color == "red").astype(float)).to_numpy(dtype=float)

    local = MGCEClassifier(0.9, feature_map=with_color, **EXACT).fit(rows.compute(), y)
    far = DaskMGCEClassifier(0.9, feature_map=with_color, **EXACT).fit(rows, frame.y)
    check_same(local, far, rows, rows.compute())
    assert far.feature_names_in_.tolist() == local.feature_names_in_.tolist()


def test_a_network():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Dropout(0.9))
    network = network.double()
    X, y = iris()
    network.train()
    local = MGCEClassifier(0.5, feature_map=network, **EXACT).fit(X, y)
    rows, labels = cut(40, X, y)
    far = DaskMGCEClassifier(0.5, feature_map=network, **EXACT).fit(rows, labels)
    check_same(local, far, rows, X, atol=1e-4)
    assert network.training and network[2].training


UNPICKLED = []


class Counted:
    """A function that notes when it is unpickled."""

    def __call__(self, X):
        return np.asarray(X)

    def __setstate__(self, state):
        UNPICKLED.append(threading.get_ident())

    def __getstate__(self):
        return {"something": 1}


def test_a_model_goes_to_each_worker_once():
    X, y = iris()
    forms = cut(10, X, y), listed([10] * 15, X, y), (lambda c, f: (c, f.y))(*framed(X, 15, y=y))
    for rows, labels in forms:
        UNPICKLED.clear()
        far = DaskMGCEClassifier(feature_map=Counted()).fit(rows, labels)
        assert 1 <= len(UNPICKLED) <= 5, "a fit"
        UNPICKLED.clear()
        computed(far.predict(rows))
        assert 1 <= len(UNPICKLED) <= 5, "predictions"
        UNPICKLED.clear()
        far.score(rows, labels)
        assert 1 <= len(UNPICKLED) <= 5, "a score"


# What is computed of collections at once


@pytest.mark.parametrize(
    ("data", "how"),
    [(iris, {}), (draws, {"rule": "randomized", "cost": [[0.0, 3.0], [1.0, 0.5]]})],
)
def test_certificates_bounds_and_scores(data, how):
    X, y = data()
    weights = weights_of(len(y), seed=2)
    rows, labels, weighted = cut(40, X, y, weights)
    local = MGCEClassifier(0.9, lam=1.0).fit(X, y, weights)
    far = DaskMGCEClassifier(0.9, lam=1.0)
    vars(far).update(vars(local))  # the same coefficients, to the last digit
    for mine, theirs in (
        (far.certificate(rows, labels), local.certificate(X, y)),
        (far.certificate(rows, labels, weighted), local.certificate(X, y, weights)),
    ):
        assert mine.minimax_risk == pytest.approx(theirs.minimax_risk, rel=1e-9)
        assert mine.dual_gap == pytest.approx(theirs.dual_gap, rel=1e-6, abs=1e-12)
    assert far.score(rows, labels) == pytest.approx(local.score(X, y), rel=1e-12)
    assert far.score(rows, labels, weighted) == pytest.approx(local.score(X, y, weights), rel=1e-12)
    mine = far.error_bounds(rows, sample_weight=weighted, tol=1e-4, **how)
    theirs = local.error_bounds(X, sample_weight=weights, tol=1e-4, **how)
    for name in ("rule", "chance", "quantity", "status"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert mine.lower == pytest.approx(theirs.lower, abs=5e-4)
    assert mine.upper == pytest.approx(theirs.upper, abs=5e-4)


def test_certificates_and_bounds_without_an_intercept():
    X, y = draws()
    rows, labels = cut(100, X, y)
    far = DaskMGCEClassifier(0.9, fit_intercept=False).fit(rows, labels)
    local = far.to_local()
    theirs = local.certificate(X, y).minimax_risk
    assert far.certificate(rows, labels).minimax_risk == pytest.approx(theirs, rel=1e-9)
    assert far.error_bounds(rows).upper == pytest.approx(local.error_bounds(X).upper, abs=2e-3)


def test_bounds_in_little_time():
    far, rows = fitted("draws"), cut(100, draws()[0])[0]
    with pytest.warns(ConvergenceWarning, match="gap of the error bounds") as caught:
        bounds = far.error_bounds(rows, tol=1e-9, max_time=1e-6)
    assert caught[0].filename == __file__
    assert bounds.status == "stopped"
    assert 0.0 <= bounds.lower <= bounds.upper


def test_rows_in_memory():
    X, y = draws()
    far, weights = fitted("draws"), weights_of(300)
    local = far.to_local()
    assert far.certificate(X, y) == local.certificate(X, y)
    assert far.error_bounds(X) == local.error_bounds(X)
    assert far.score(X, y, weights) == local.score(X, y, weights)
    assert far.score(RowBlocks([(X, y)])) == local.score(X, y)
    new = np.random.default_rng(5).normal(size=(50, 3))
    assert far.confidence_bound(new) == local.confidence_bound(new)


def test_a_score_of_one_class_and_of_labels_that_the_fit_had_not():
    X, y = iris()
    far = DaskMGCEClassifier().fit(*cut(50, X, y))
    local = far.to_local()
    assert far.score(*cut(20, X[:50], y[:50])) == local.score(X[:50], y[:50])
    others = np.where(y == 2, 9, y)
    assert far.score(*cut(50, X, others)) == local.score(X, others) < 0.7


def test_a_score_of_partitions_without_rows():
    X, y = iris()
    far = DaskMGCEClassifier().fit(*cut(50, X, y))
    assert far.score(*listed((0, 60, 90), X, y)) == far.to_local().score(X, y)
    rows, frame = framed(X, 4, y=y)
    kept = frame.y < 2  # the last partition has none
    expected = far.to_local().score(X[y < 2], y[y < 2])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X has feature names")
        assert far.score(rows[kept], frame.y[kept]) == expected


# Lazy predictions


@cache
def fitted(name):
    X, y = {"iris": iris, "draws": draws, "text": iris}[name]()
    return DaskMGCEClassifier(0.9).fit(*cut(100, X, NAMES[y] if name == "text" else y))


CALLS = []


def called(X):
    CALLS.append(X.shape[0])
    return X


def close(found, expected):
    """Compare predictions, whose last digits depend on how many rows are multiplied at once."""
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(found, expected)


def check_meta(lazy, found):
    """Compare what a collection says of itself and what is computed of it."""
    assert lazy.dtype == found.dtype
    assert lazy.ndim == found.ndim
    for said, got in zip(lazy.shape, found.shape, strict=True):
        assert np.isnan(said) or said == got


PREDICTIONS = [
    *(("iris", method) for method in METHODS),
    *(("draws", method) for method in ("predict_proba", "decision_function")),
    ("text", "predict"),
]


@pytest.mark.parametrize(("name", "method"), PREDICTIONS)
def test_predictions_of_arrays(name, method):
    X, _ = draws() if name == "draws" else iris()
    far = fitted(name)
    expected = getattr(far.to_local(), method)(X)
    known = da.from_array(X, chunks=(70, 2))
    unknown = known[known[:, 0] > -9]
    empty = da.concatenate([known[:0], known, known[:0]])
    assert np.isnan(unknown.shape[0])
    for rows in (known, unknown, empty, empty[empty[:, 0] > -9], known.map_blocks(sp.csr_matrix)):
        CALLS.clear()
        lazy = getattr(far, method)(rows.map_blocks(called, meta=rows._meta))
        assert isinstance(lazy, da.Array) and not CALLS
        found = lazy.compute()
        assert CALLS
        close(found, expected)
        check_meta(lazy, found)
    nothing = getattr(far, method)(known[known[:, 0] > 99])
    assert nothing.compute().shape == (0, *expected.shape[1:])
    assert nothing.compute().dtype == lazy.dtype


@pytest.mark.parametrize(("name", "method"), PREDICTIONS)
def test_predictions_of_frames(name, method):
    X, _ = draws() if name == "draws" else iris()
    index = np.random.default_rng(0).permutation(len(X)) + 1000
    frame = pd.DataFrame(X, index=index, columns=[f"x{j}" for j in range(X.shape[1])])
    rows = dd.from_pandas(frame, npartitions=3, sort=False)
    far = fitted(name)
    expected = getattr(far.to_local(), method)(X)
    for some in (rows, rows[rows.x0 > frame.x0.iloc[:60].max()]):  # perhaps without the first
        kept = frame if some is rows else frame[frame.x0 > frame.x0.iloc[:60].max()]
        CALLS.clear()
        lazy = getattr(far, method)(some.map_partitions(called, meta=some._meta))
        assert not CALLS
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X has feature names")
            found = lazy.compute()
        assert CALLS
        close(found, expected[frame.index.isin(kept.index)])
        assert found.index.tolist() == kept.index.tolist()
        if expected.ndim == 1:
            assert isinstance(found, pd.Series) and isinstance(lazy, dd.Series)
            assert lazy.dtype == found.dtype
        else:
            assert list(lazy.columns) == found.columns.tolist() == far.classes_.tolist()
            assert lazy.dtypes.tolist() == found.dtypes.tolist()
        for part in lazy.to_delayed():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "X has feature names")
                piece = part.compute()
            assert type(piece) is type(lazy._meta)
            if expected.ndim == 1:
                assert piece.dtype == lazy.dtype
            else:
                assert piece.columns.tolist() == lazy.columns.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_predictions_of_lists_and_of_rows_in_memory(method):
    X, _ = iris()
    far = fitted("iris")
    expected = getattr(far.to_local(), method)(X)
    CALLS.clear()
    parts = [delayed(called)(part) for part in np.split(X, [0, 70])]
    lazy = getattr(far, method)(parts)
    assert isinstance(lazy, list) and not CALLS
    found = dask.compute(*lazy)
    assert [len(part) for part in found] == CALLS == [0, 70, 80] or sorted(CALLS) == [0, 70, 80]
    close(np.concatenate(found), expected)
    close(getattr(far, method)(X), expected)
    close(np.concatenate(list(getattr(far, method)(RowBlocks([X[:50], X[50:]])))), expected)


def test_predictions_need_no_client():
    X, _ = iris()
    far = fitted("iris")
    rows = da.from_array(X, chunks=50)
    with dask.config.set(scheduler="synchronous"):
        found = far.predict_proba(rows).compute()
    close(found, far.to_local().predict_proba(X))


def test_predictions_are_of_the_model_as_it_was():
    X, y = iris()
    rows, labels = cut(50, X, y)
    far = DaskMGCEClassifier().fit(rows, labels)
    lazy, expected = far.predict_proba(rows), far.to_local().predict_proba(X)
    far.fit(rows, (labels + 1) % 3)
    close(lazy.compute(), expected)


# The model


def test_an_ordinary_model():
    X, y = iris()
    far = DaskMGCEClassifier(0.9, lam=0.2, feature_map=squares).fit(*cut(50, X, y))
    local = far.to_local()
    assert type(local) is MGCEClassifier
    assert local.get_params() == far.get_params()
    assert "client" not in vars(local)
    np.testing.assert_array_equal(local.predict_proba(X), far.predict_proba(X))
    np.testing.assert_array_equal(clone(local).fit(X, y).predict(X), local.predict(X))
    assert local.minimax_risk_ == far.minimax_risk_
    with pytest.raises(NotFittedError):
        DaskMGCEClassifier().to_local().predict(X)


def test_parameters_and_copies(client):
    far = DaskMGCEClassifier(0.7, client=client)
    assert far.get_params() == MGCEClassifier(0.7).get_params()
    assert repr(far) == "DaskMGCEClassifier(q=0.7)"
    assert far.set_params(q=0.2).q == 0.2
    with pytest.raises(ValueError, match="Invalid parameter 'client'"):
        far.set_params(client=None)
    for other in (clone(far), copy.deepcopy(far), pickle.loads(pickle.dumps(far))):
        assert type(other) is DaskMGCEClassifier
        assert other.client is None and other.q == 0.2
    assert far.client is client


def noting(X):
    """Return rows as they are, and note where they were."""
    SEEN[distributed.get_worker().address] |= {len(X)}
    return X


def test_the_client_that_is_given(client):
    X, y = iris()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.Client(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None,
            set_as_default=False,
        ) as other:  # fmt: skip
            far = DaskMGCEClassifier(client=other, feature_map=noting)
            for method in (far.fit, far.score):
                SEEN.clear()
                method(*cut(50, X, y))
                assert SEEN.keys() == other.scheduler_info()["workers"].keys()


ELSEWHERE = """
import pickle, sys
import dask.array as da
with open(sys.argv[1], "rb") as file:
    model, X = pickle.load(file)
print(model.predict(X).tolist() == model.to_local().predict(X).tolist(), model.client)
try:
    model.fit(da.ones((4, 2)), da.arange(4))
except RuntimeError as error:
    print(error)
"""


def test_a_pickled_model_predicts_without_a_cluster_and_does_not_fit(tmp_path):
    X, y = iris()
    far = DaskMGCEClassifier().fit(*cut(50, X, y))
    (tmp_path / "model").write_bytes(pickle.dumps((far, X)))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, tmp_path / "model"], capture_output=True, text=True,
        timeout=60, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    same, error = done.stdout.splitlines()
    assert same == "True None", done.stderr
    assert error.startswith("client must be a distributed.Client, or one must have been made bef")


def test_there_is_no_partial_fit():
    far = DaskMGCEClassifier()
    assert not hasattr(far, "partial_fit")
    with pytest.raises(AttributeError, match="to partial_fit of MGCEClassifier"):
        _ = far.partial_fit


def test_callbacks():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")

    class Stops:
        steps = 0

        def __init__(self):
            self.lock = threading.Lock()  # cannot be pickled

        def setup(self, estimator, context):
            pass

        teardown = setup

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **data):
            if context.task_name == "step":
                assert type(fitted_estimator) is DaskMGCEClassifier
                assert fitted_estimator.minimax_risk_ > 0.0
                self.steps += 1
            return context.task_name == "step" and self.steps == 2

    stops = Stops()
    rows, labels = cut(50, *iris())
    far = DaskMGCEClassifier(0.9, **EXACT).set_callbacks(stops)
    with pytest.warns(ConvergenceWarning, match="stopped by a callback") as caught:
        far.fit(rows, labels)
    assert caught[0].filename == __file__
    assert stops.steps >= 2 and far.dual_gap_ > 0.0
    # A callback stays here, whatever it holds.
    np.testing.assert_array_equal(far.predict(rows).compute(), far.predict(rows.compute()))
    assert 0.5 < far.score(rows, labels) <= 1.0


# What is refused: one sentence, and the estimator stays as it was


def refused(error, message, fit, **how):
    """Check that a fit is refused, in a sentence, whether or not there was one before."""
    for far in (DaskMGCEClassifier(), copy.deepcopy(fitted("iris"))):
        for name, value in how.items():
            setattr(far, name, value)
        before = dict(vars(far))
        with pytest.raises(error, match=message) as raised:
            fit(far)
        assert "\n" not in str(raised.value)
        assert vars(far).keys() == before.keys()
        assert all(vars(far)[name] is value for name, value in before.items())


def of_arrays(**changes):
    """Return rows, labels and weights in partitions of 50, some of them changed."""
    X, y = iris()
    given = {"X": X, "y": y, "sample_weight": np.ones(150)}
    return {name: cut(50, one)[0] for name, one in given.items()} | changes


NOT_DASK = r"must be a dask array, a dask dataframe, or a list of delayed partitions; got a "


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"X": np.ones((150, 4))}, TypeError, "X " + NOT_DASK + "ndarray. Try dask.array.from_arr"),
        ({"X": [[1.0, 2.0]]}, TypeError, "X " + NOT_DASK + "list"),
        ({"X": []}, TypeError, "X " + NOT_DASK + "list"),
        ({"X": None}, TypeError, "X " + NOT_DASK + "NoneType"),
        ({"X": pd.DataFrame({"a": [1.0, 2.0]})}, TypeError, "X " + NOT_DASK + "DataFrame"),
        ({"X": RowBlocks([np.ones((3, 2))])}, TypeError, "X " + NOT_DASK + "RowBlocks"),
        ({"X": np.ones((150, 4)), "y": None}, TypeError, "X " + NOT_DASK),
        ({"y": np.zeros(150)}, TypeError, "y " + NOT_DASK + "ndarray"),
        ({"y": pd.Series(np.zeros(150))}, TypeError, "y " + NOT_DASK + "Series"),
        ({"sample_weight": np.ones(150)}, TypeError, "sample_weight " + NOT_DASK + "ndarray"),
        ({"sample_weight": 2.0}, TypeError, "sample_weight " + NOT_DASK + "float"),
        ({"y": None}, ValueError, "y must be given with X: labels in the partitions of X"),
        ({"X": da.ones((150, 4, 2))}, ValueError, "X must have two dimensions.*Array of 3"),
        ({"X": da.ones(150)}, ValueError, "X must have two dimensions.*Array of 1"),
        ({"y": da.ones((150, 2, 2))}, ValueError, "y must have one or two .*Array of 3"),
        ({"y": da.from_array(np.array(3.0))}, ValueError, "y must have one or two .*Array of 0"),
        ({"y": da.ones(149, chunks=50)}, ValueError, "y must have one entry per row of X, 150; g"),
        ({"X": da.full((150, 4), "a", chunks=50)}, ValueError, "Partition 0: X must be numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_what_is_no_collection_of_rows(changes, error, message):
    refused(error, message, lambda far: far.fit(**of_arrays(**changes)))


def test_frames_and_lists_that_do_not_fit():
    X, y = iris()
    rows, frame = framed(X, 3, y=y)
    refused(ValueError, "X must have two dimensions.*Series of 1",
            lambda f: f.fit(rows.x0, frame.y))  # fmt: skip
    refused(ValueError, "y must have the partitions of X, 3; got 2",
            lambda f: f.fit(rows, framed(X, 2, y=y)[1].y))  # fmt: skip
    lists = listed((60, 90), X, y)
    refused(ValueError, "y must have the partitions of X, 2; got 3",
            lambda f: f.fit(lists[0], listed((60, 30, 60), y)[0]))  # fmt: skip
    refused(TypeError, r"X must be a list of delayed partitions; got a single .*Try \[X\]",
            lambda f: f.fit(lists[0][0], lists[1]))  # fmt: skip
    refused(TypeError, "X must be a list of delayed partitions alone; got a ndarray too",
            lambda f: f.fit([lists[0][0], X], lists[1]))  # fmt: skip
    other = dd.from_pandas(frame.compute().set_index(np.arange(150)[::-1]), 3, sort=False)
    refused(ValueError, "Partition 0: y must have the index of X, row by row",
            lambda f: f.fit(rows, other.y))  # fmt: skip
    refused(ValueError, "Partition 0: sample_weight must have the index of X",
            lambda f: f.fit(rows, frame.y, other.x0 * 0 + 1))  # fmt: skip


def changed(X=None, y=None, w=None, first=None):
    """Fit four partitions, the last of them changed; of all only the first may be else."""
    rows, labels = iris()
    sizes = np.cumsum([30, 40, 40])
    parts = [np.split(one, sizes) for one in (rows, labels, np.ones(150))]
    parts = [list(part) for part in zip(*parts, strict=True)]
    for i, change in enumerate((X, y, w)):
        if change is not None:
            parts[3][i] = change(parts[3][i])
    parts = [tuple(map(delayed, part)) for part in parts]
    return lambda far: far.fit(*map(list, zip(*parts, strict=True)))


def put(value):
    def change(array):
        array = np.array(array, dtype=object if value is None else None)
        array[(7, 1) if array.ndim == 2 else 7] = value
        return array

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": put(np.nan)}, "Partition 3: X must be finite; row 7, column 1 has nan"),
        ({"X": put(-np.inf)}, "Partition 3: X must be finite; row 7, column 1 has -inf"),
        ({"X": lambda X: sp.csr_matrix(put(np.inf)(X))}, "Partition 3: X must be finite; row 7, c"),
        ({"X": lambda X: X[:, :3]}, "Partition 3: the number of columns of X .* partitions, 4; g"),
        ({"X": lambda X: X.astype(np.float32)}, "Partition 3: the dtype of X must be the same in "),
        ({"X": sp.csr_matrix}, "Partition 3: the storage of X .*'dense'; got 'sparse'"),
        ({"X": lambda X: X[1:]}, "Partition 3: y must have one entry per row of X, 39; got .*40"),
        ({"X": lambda X: X[:0]}, "Partition 3: y must have one entry per row of X, 0; got .*40"),
        ({"X": lambda X: X[:, 0]}, r"Partition 3: X must have two dimensions.*shape \(40,\)"),
        ({"X": lambda X: 3.0}, r"Partition 3: X must have two dimensions.*float of shape \(\)"),
        ({"X": lambda X: X[:, :0]}, "Partition 3: X must be numbers, in at least one column"),
        ({"y": lambda y: y[1:]}, "Partition 3: y must have one entry per row of X, 40; got .*39"),
        ({"y": lambda y: NAMES[y]}, "Partition 3: the kind of labels .*'numbers'; got 'strings'"),
        ({"y": put(None)}, "Partition 3: y must be a list of labels of one type.*Row 7 has None"),
        ({"y": lambda y: put(np.nan)(1.0 * y)}, "Partition 3: y must be .*Row 7 has nan"),
        ({"y": lambda y: put(pd.NA)(NAMES[y].astype(object))}, "Partition 3: y .*Row 7 has <NA>"),
        ({"y": lambda y: y + 0.5}, "Partition 3: y must be a list of labels"),
        ({"y": lambda y: np.eye(3)[y]}, "Partition 3: the kind of labels .*'distributions over"),
        ({"y": lambda y: 2 * np.eye(3)[y]}, "Partition 3: y must have distributions in its rows"),
        ({"w": put(-1.0)}, "Partition 3: sample_weight must be finite and non-neg.*row 7 has -1"),
        ({"w": put(np.nan)}, "Partition 3: sample_weight must be finite .*row 7 has nan"),
        ({"w": lambda w: w[2:]}, "Partition 3: sample_weight must have one entry.* 40; got .*38"),
        ({"w": lambda w: 1.0}, "Partition 3: sample_weight must have one entry per row of X, 40"),
    ],
    ids=lambda value: value[13:60] if isinstance(value, str) else "-",
)  # fmt: skip
def test_a_partition_that_cannot_be_used(change, message):
    refused(ValueError, message, changed(**change))


def test_columns_of_frames_in_another_order():
    X, y = iris()
    frame = pd.DataFrame(X, columns=list("abcd"))
    for other, message in (
        (frame[list("bacd")], r"Partition 1: the names of columns .*\('a', 'b', 'c', 'd'\); got"),
        (frame.astype(np.float32), "Partition 1: the dtype of X .*'float64'; got 'float32'"),
    ):
        rows, labels = [delayed(frame[:80]), delayed(other[80:])], listed((80, 70), y)[0]
        refused(ValueError, message, lambda far, r=rows, b=labels: far.fit(r, b))


def test_partitions_that_were_cancelled(client):
    X, y = (one.persist() for one in cut(50, *iris()))
    distributed.wait([X, y])
    client.cancel([X, y])
    with pytest.raises(ClusterError, match="were cancelled, or they belong to another client"):
        DaskMGCEClassifier().fit(X, y)


def test_several_partitions_that_cannot_be_used():
    X, y = iris()
    rows = cut(30, np.full_like(X, np.nan))[0]
    refused(
        ValueError, r"Partition 0: X must be finite.*\(4 more partitions cannot be used.\)",
        lambda far: far.fit(rows, *cut(30, y)),
    )  # fmt: skip


def all_weights(value):
    return lambda far: far.fit(**of_arrays(sample_weight=da.full(150, value, chunks=50)))


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda f: f.fit(**of_arrays(y=da.zeros(150, chunks=50))), "y must have at least 2 class"),
        (
            lambda f: f.fit(*cut(50, *iris()), da.from_array((iris()[1] == 1) * 1.0, chunks=50)),
            r"y must have at least 2 classes among the rows with positive weight; got 1 class \(1",
        ),
        (all_weights(0.0), "sample_weight is zero for every row"),
        (all_weights(1e307), "sample_weight must have a sum from 1e-300 to 1e308"),
        (lambda f: f.fit(*cut(50, iris()[0][:0], iris()[1][:0])), "X must have rows; all partit"),
        (lambda f: f.fit(*by_boolean_filter(0 * iris()[0] - 99, iris()[1])), "X must have rows"),
    ],
    ids=["one class", "one of weight", "zero", "large", "none", "filtered"],
)  # fmt: skip
def test_rows_that_are_not_enough(fit, message):
    refused(ValueError, message, fit)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"feature_map": "relu"}, "feature_map must be None or a function of rows.*'relu'"),
        ({"feature_map": StandardScaler()}, "feature_map must be None .*a transformer. Fit a tran"),
        ({"solver": "sgd"}, "solver"),
        ({"solver": "cvxpy"}, "solver"),
        ({"q": 2.0}, "q must be"),
        ({"lam": -1.0}, "lam must be"),
        ({"class_weight": {0: -1.0}}, "class_weight must be positive for every class"),
        ({"class_weight": "fair"}, "class_weight must be a dict"),
        ({"class_weight": "balanced", "noise_matrix": 0.1}, "class_weight must be None beside"),
        ({"class_weight": "balanced", "width": "betting"}, "class_weight must be None if width"),
        ({"feature_range": (-1.0, 1.0)}, "feature_range must contain all rows"),
        ({"width": np.ones((2, 2))}, "width must"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, value.values()))[:30],
)
def test_parameters_that_cannot_be_used(how, message):
    refused(ValueError, message, lambda far: far.fit(**of_arrays()), **how)


def test_a_partition_that_fails_keeps_its_error():
    def fails(X):
        raise OverflowError("mine")

    rows, labels = cut(50, *iris())
    lazy = rows.map_blocks(fails, meta=rows._meta)
    refused(OverflowError, "^mine$", lambda far: far.fit(lazy, labels))


def test_maps_that_cannot_be_used():
    for function, message in (
        (lambda X: X[:3], "Partition 0: feature_map must return a row for each row of X, 50; got"),
        (lambda X: np.log(X - 9), "Partition 0: .*features from feature_map"),
    ):
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refused(ValueError, message, lambda far: far.fit(**of_arrays()), feature_map=function)


def test_clients_that_cannot_be_used(client):
    given = of_arrays()
    refused(TypeError, "client must be a distributed.Client; got 'tcp://1.2.3.4:5'",
            lambda far: far.fit(**given), client="tcp://1.2.3.4:5")  # fmt: skip
    other = distributed.Client(client.scheduler.address, set_as_default=False)
    other.close()
    refused(ClusterError, "scheduler cannot be reached .*the client is closed.*Connect a new",
            lambda far: far.fit(**given), client=other)  # fmt: skip
    address = client.scheduler.address

    async def asynchronously():
        async with distributed.Client(address, set_as_default=False, asynchronous=True) as other:
            refused(TypeError, "client must be synchronous; got an asynchronous one.*to_thread",
                    lambda far: far.fit(**given), client=other)  # fmt: skip

    asyncio.run(asynchronously())


def test_collections_that_a_model_cannot_judge():
    X, y = iris()
    rows, frame = framed(X, 3, y=y)
    far = DaskMGCEClassifier().fit(rows, frame.y)
    before = dict(vars(far))
    calls = {
        "predict": far.predict, "score": lambda X: far.score(X, frame.y),
        "certificate": lambda X: far.certificate(X, frame.y), "bounds": far.error_bounds,
        **{name: getattr(far, name) for name in METHODS},
    }  # fmt: skip
    three = rows[["x0", "x1", "x2"]]
    three = three.map_partitions(called, meta=three._meta)
    CALLS.clear()
    for call in calls.values():
        with pytest.raises(ValueError, match="X must have the 4 columns of the fit; got 3"):
            call(three)
        assert not CALLS  # before anything is computed
        with pytest.raises(ValueError, match="X must have the 4 columns of the fit; got 5"):
            call(da.ones((150, 5), chunks=50))
        with pytest.raises(ValueError, match="X must have the columns of the fit in their order"):
            call(rows[["x1", "x0", "x2", "x3"]])
        with pytest.raises(ValueError, match=r"X must have two dimensions.*Series of 1"):
            call(rows.x0)
        with pytest.raises(ValueError, match=r"X must have two dimensions.*Array of 3"):
            call(da.ones((150, 4, 2)))
    with pytest.raises(TypeError, match=r"X must be rows in memory here; got a dask Array"):
        far.confidence_bound(cut(50, X)[0])
    with_nan = X.copy()
    with_nan[75, 0] = np.nan
    for name in ("score", "certificate"):
        with pytest.raises(ValueError, match="y must be given with X"):
            getattr(far, name)(rows)
        for wrong, message in (
            ((rows, frame.y[frame.y > 0]), "Partition 0: y must have one entry per row of X, 50;"),
            (listed((50, 100), with_nan, y), "Partition 1: X must be finite; row 25, column 0 has"),
            (listed((50, 100), X[:, :3], y), "X must have the 4 columns of the fit; got 3"),
            (listed((50, 100), X, y, 0.0 * y), "sample_weight is zero for every row"),
        ):
            with pytest.raises(ValueError, match=message) as raised:
                getattr(far, name)(*wrong)
            assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r"y must have the classes of the fit.*; got \[0, 1\]"):
        far.certificate(*cut(50, X[:100], y[:100]))
    with pytest.raises(ValueError, match="Partition 0: y must have labels of the kind of the fit"):
        far.score(*cut(50, X, NAMES[y]))
    for name in ("certificate", "score"):
        with pytest.raises(TypeError, match="y must be a dask array"):
            getattr(far, name)(rows, y)
    assert vars(far) == before


def test_models_that_are_not_fitted():
    rows, labels = cut(50, *iris())
    far = DaskMGCEClassifier()
    calls = [
        lambda: far.score(rows, labels), lambda: far.certificate(rows, labels),
        lambda: far.error_bounds(rows),
        *(lambda name=name: getattr(far, name)(rows) for name in METHODS),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
