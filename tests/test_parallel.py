"""The hold on BLAS, in whichever thread; and how many threads share the rows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
from joblib import Parallel, delayed, parallel_config
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from threadpoolctl import ThreadpoolController

from mgce_sklearn import MGCEClassifier, lam_max, parallel
from mgce_sklearn.bounds import EmptySetError
from mgce_sklearn.design import Design
from mgce_sklearn.parallel import SMALLEST_SHARE, one_blas_thread, row_team

ROWS = 4 * SMALLEST_SHARE  # enough for as many threads as a test allows


@pytest.fixture
def blas():
    """BLAS on two threads. The main thread limits it, and threadpoolctl >= 3.8 obeys no other."""
    blas = ThreadpoolController().select(user_api="blas")
    with blas.limit(limits=2):
        # Some package may bring a library that was built for one thread.
        able = [one["filepath"] for one in blas.info() if one["num_threads"] == 2]
        yield blas.select(filepath=able)


def threads(blas):
    return {library["num_threads"] for library in blas.info()}


def in_thread(work):
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


@pytest.mark.parametrize("where", [in_thread, lambda work: work()], ids=["thread", "main"])
def test_blas_is_held_in_every_thread(blas, where):
    def held():
        with row_team(ROWS, 1) as team:
            return team.n_threads, [threads(blas), *team.run(lambda *_: threads(blas))]

    assert where(held) == (2, [{1}] * 3)
    assert threads(blas) == {2}


def fit_by(solver, X, y):
    MGCEClassifier(q=0.5, solver=solver, max_iter=3).fit(X, y)


def read_and_certify(X, y):
    MGCEClassifier(q=0.5).partial_fit(X, y, classes=np.unique(y)).certificate(X, y)


def bound(X, y):
    clf = MGCEClassifier(q=0.5, max_iter=3).fit(X, y)
    clf.error_bounds(X, "randomized")
    with pytest.raises(EmptySetError):
        clf.error_bounds(X[:50])


def bound_on_new_rows(X, y):
    even = np.arange(len(y)) % 2 == 0
    MGCEClassifier(q=0.5, max_iter=3).fit(X[even], y[even]).confidence_bound(X[~even])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "learn",
    [partial(fit_by, "interior_point"), partial(fit_by, "lbfgs"), partial(fit_by, "sgd"),
     read_and_certify, bound, bound_on_new_rows, lam_max],
    ids=[
        "interior_point",
        "lbfgs",
        "sgd",
        "partial_fit",
        "error_bounds",
        "confidence_bound",
        "lam_max",
    ],
)  # fmt: skip
def test_no_product_of_a_fit_in_a_thread_has_threads_of_its_own(blas, monkeypatch, learn):
    seen = []

    def spy_on(name):
        product = getattr(Design, name)

        def spied(*args):
            seen.append(threads(blas))
            return product(*args)

        monkeypatch.setattr(Design, name, spied)

    for name in ("margins", "adjoint", "features"):
        spy_on(name)
    X, y = load_digits(return_X_y=True)
    in_thread(lambda: learn(X[:200], y[:200]))
    assert seen
    assert seen == [{1}] * len(seen)
    assert threads(blas) == {2}


@pytest.mark.parametrize(("copies", "n_shares"), [(1, 1), (60, 2)])
def test_predictions_hold_blas_too_and_share_many_rows(blas, monkeypatch, copies, n_shares):
    X, y = load_digits(return_X_y=True)
    clf = MGCEClassifier(tol=0.1).fit(X[:200], y[:200])
    many, seen, multiply = np.tile(X, (copies, 1)), [], np.matmul

    def spied(*args, **options):
        seen.append(threads(blas))
        return multiply(*args, **options)

    monkeypatch.setattr(np, "matmul", spied)
    for method in (clf.predict, clf.predict_proba, clf.decision_function):
        seen.clear()
        found = in_thread(lambda method=method: method(many))
        assert seen == [{1}] * n_shares
        assert len(found) == len(many)
        assert_allclose(found[-len(X) :], method(sp.csr_array(X)), atol=1e-9)
    assert threads(blas) == {2}


def test_the_last_to_leave_gives_blas_its_threads_back_from_any_thread(blas):
    first, last = row_team(10, 2), row_team(10, 2)
    first.__enter__()
    in_thread(last.__enter__)
    first.__exit__(None, None, None)
    assert threads(blas) == {1}
    in_thread(lambda: last.__exit__(None, None, None))
    assert threads(blas) == {2}


def test_an_exception_leaves_no_hold(blas):
    def fail(start, stop):
        raise ZeroDivisionError

    def failing():
        with pytest.raises(ZeroDivisionError), row_team(ROWS, 1) as team:
            team.run(fail)
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError

    in_thread(failing)
    assert threads(blas) == {2}


def test_a_limit_of_others_that_ends_meanwhile_neither_ends_the_hold_nor_is_lost(blas):
    others = blas.limit(limits=1)
    with row_team(ROWS, 1) as team:
        others.restore_original_limits()
        assert team.run(lambda *_: threads(blas)) == [{1}]
    assert threads(blas) == {2}


def test_what_others_set_at_the_end_of_a_hold_stays(blas):
    with one_blas_thread():
        blas.limit(limits=3)
    assert threads(blas) == {3}


def test_others_can_limit_blas_after_a_fit(blas):
    """threadpoolctl >= 3.8 lets one thread do so, and it must not be ours for ever."""
    in_thread(lambda: one_blas_thread().__enter__())
    one_blas_thread().__exit__(None, None, None)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: blas.limit(limits=3)).result()
        assert threads(blas) == {3}


class LibraryOfThreads(threading.local):
    """A library in which a limit is the thread's, as MKL's or OpenMP's."""

    internal_api = "mkl"
    num_threads = 4

    def set_num_threads(self, n_threads):
        self.num_threads = n_threads

    def select(self, user_api):
        """Stand for the controller too."""
        return self

    @property
    def lib_controllers(self):
        return [self]


def test_where_limits_are_a_threads_every_thread_is_held_and_let_go(monkeypatch):
    library = LibraryOfThreads()
    monkeypatch.setattr(parallel, "ThreadpoolController", lambda: library)
    monkeypatch.setattr(parallel, "_blas_hold", parallel._BlasHold())

    def limit(*_):
        return library.num_threads

    with ThreadPoolExecutor(1) as other:
        with row_team(ROWS, 1) as team:
            assert team.n_threads == 4
            assert [limit(), *team.run(limit)] == [1] * 5
            assert other.submit(limit).result() == 4
            theirs = row_team(ROWS, 1)
            assert other.submit(theirs.__enter__).result().n_threads == 4
        assert (limit(), other.submit(limit).result()) == (4, 1)
        other.submit(theirs.__exit__, None, None, None).result()
        assert other.submit(limit).result() == 4


def test_fits_in_joblibs_processes_share_the_cores():
    def n_threads():
        with row_team(ROWS, 1) as team:
            return team.n_threads

    with parallel_config("loky", inner_max_num_threads=1):
        assert Parallel(n_jobs=2)(delayed(n_threads)() for _ in range(2)) == [1, 1]
