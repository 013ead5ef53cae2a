"""Workers that die, hang up or join while a fit is at work: the same model, or one clear error."""

import logging
import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

pytest.importorskip("dask.array")
pytest.importorskip("distributed")

import dask.array as da
from dask.delayed import delayed
from distributed import Client, LocalCluster
from sklearn.exceptions import ConvergenceWarning

from mgce_sklearn import MGCEClassifier
from mgce_sklearn import parts as parts_module
from mgce_sklearn.dask import ClusterError, DaskMGCEClassifier, rounds
from mgce_sklearn.dask.blocks import Order, Recipe, block_of
from mgce_sklearn.dask.partitions import partitions_of
from mgce_sklearn.dask.parts import RowsOnWorkers
from mgce_sklearn.dask.rounds import Rounds
from mgce_sklearn.design import WORKING_MEMORY
from mgce_sklearn.parts import LostRows, add, once
from mgce_sklearn.solvers import interior_point
from mgce_sklearn.solvers.systems import Conjugate

N, D, K, PARTS = 4_000, 6, 3, 8
TOL = 1e-8


def rows_of(number):
    rng = np.random.default_rng(number)
    X = rng.normal(size=(N // PARTS, D)) + 1.0
    scores = X @ np.random.default_rng(99).normal(size=(D, K))
    return X, np.array(list("abc"))[(scores + 2 * rng.gumbel(size=scores.shape)).argmax(axis=1)]


def in_memory():
    X, y = zip(*map(rows_of, range(PARTS)), strict=True)
    return np.concatenate(X), np.concatenate(y)


def lazy(read=rows_of):
    """Return partitions that a worker makes, and can make again."""
    parts = [delayed(read, pure=True)(number) for number in range(PARTS)]
    return [part[0] for part in parts], [part[1] for part in parts]


def new_cluster():
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def clusters():
    held = []
    yield held
    for cluster in held:
        cluster.close(timeout=10)


def connected(clusters):
    """Return a client with two workers. Now and then Dask does not start one again."""
    while True:
        if not clusters:
            clusters.append(new_cluster())
        client = Client(clusters[-1])
        try:
            client.wait_for_workers(2, timeout=10)
            return client
        except TimeoutError:
            client.close()
            clusters.pop().close(timeout=10)


@pytest.fixture
def client(clusters):
    with connected(clusters) as client:
        yield client


def pids(client):
    return list(client.run(os.getpid, on_error="ignore").values())


def kill(client, which):
    for pid in pids(client)[which]:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def in_round(monkeypatch):
    """Have something done before a round, once; or while it is computed, a moment later."""

    def prepare(number, action, later=None):
        real, seen, done = Rounds._round, [], []

        def sabotaged(self, *args):
            seen.append(None)
            if len(seen) == number:
                done.append(None)
                if later is None:
                    action()
                else:
                    threading.Timer(later, action).start()
            return real(self, *args)

        monkeypatch.setattr(Rounds, "_round", sabotaged)
        return done

    return prepare


REFERENCES = {}


def reference(**params):
    key = str(sorted(params.items()))
    if key not in REFERENCES:
        REFERENCES[key] = MGCEClassifier(**params).fit(*in_memory())
    return REFERENCES[key]


def check_equal(model, **params):
    expected = reference(**params)
    tol = params["tol"]
    np.testing.assert_allclose(model.minimax_risk_, expected.minimax_risk_, rtol=2 * tol)
    assert model.dual_gap_ <= tol * model.minimax_risk_
    X, _ = in_memory()
    atol = 10 * tol**0.5
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=atol)


INTERIOR = {"q": 0.5, "tol": TOL}
SHARP = {"q": 1.0, "tol": TOL}
FIRST_ORDER = {"q": 0.3, "tol": 1e-5, "solver": "lbfgs"}
FAULTS = [
    # The start, a look along a direction, a new point, late; and where lbfgs adds up an average.
    (INTERIOR, 3, slice(1), None),
    (INTERIOR, 11, slice(1), None),
    (INTERIOR, 14, slice(1), None),
    (INTERIOR, 15, slice(1), None),
    (INTERIOR, 16, slice(1), 0.002),
    (INTERIOR, 24, slice(2), None),
    (SHARP, 20, slice(1), 0.005),
    (FIRST_ORDER, 12, slice(1), None),
    (FIRST_ORDER, 41, slice(2), None),
]


@pytest.mark.parametrize("params, number, which, later", FAULTS)
def test_killed_workers_change_nothing(client, in_round, params, number, which, later):
    done = in_round(number, partial(kill, client, which), later)
    model = DaskMGCEClassifier(client=client, **params).fit(*lazy())
    assert done
    check_equal(model, **params)


@pytest.mark.parametrize("change", ["joins", "retires"])
def test_a_worker_that_joins_or_retires_changes_nothing(in_round, change):
    """Rows of one that retires move to another, and come without what was kept with them."""
    with new_cluster() as cluster, Client(cluster) as client:
        action = {
            "joins": lambda: cluster.scale(3),
            "retires": lambda: client.retire_workers(list(client.nthreads())[:1]),
        }[change]
        done = in_round(13, action)
        model = DaskMGCEClassifier(client=client, **INTERIOR).fit(*lazy())
    assert done
    check_equal(model, **INTERIOR)


@pytest.mark.parametrize("number", [None, 25])
def test_products_in_place_of_a_matrix(client, in_round, monkeypatch, number):
    """Conjugate gradients, with rows in single precision, and a worker that dies on the way."""
    formed = []

    def products(objective, tol):
        formed.append(Conjugate(objective))
        return formed[-1]

    monkeypatch.setattr(interior_point, "choose_form", products)
    monkeypatch.setattr(interior_point, "reconsidered", lambda form, objective: form)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8_000, 10)).astype(np.float32)
    y = (X[:, :3] + rng.gumbel(size=(8_000, 3))).argmax(axis=1)
    if number is not None:
        in_round(number, partial(kill, client, slice(1)))
    model = DaskMGCEClassifier(client=client, tol=1e-5)
    model.fit(da.from_array(X, chunks=(1_000, 10)), da.from_array(y, chunks=1_000))
    assert len(formed) >= (2 if number is None else 3)  # that of the sample, and anew after a loss
    assert all(form.n_products for form in formed[1:])
    expected = MGCEClassifier(tol=1e-6).fit(X, y)
    np.testing.assert_allclose(model.minimax_risk_, expected.minimax_risk_, rtol=2e-5)
    assert model.dual_gap_ <= 1e-5 * model.minimax_risk_


def test_an_interrupt_keeps_the_best(client, in_round):
    def interrupt():
        raise KeyboardInterrupt

    in_round(24, interrupt)
    model = DaskMGCEClassifier(client=client, **INTERIOR)
    with pytest.raises(KeyboardInterrupt), pytest.warns(ConvergenceWarning, match="stopped"):
        model.fit(*lazy())
    best = reference(**INTERIOR).minimax_risk_
    assert best * (1 - TOL) <= model.minimax_risk_ <= 1.2 * best
    assert model.minimax_risk_ - model.dual_gap_ <= best * (1 + TOL)


def test_killed_workers_change_no_bounds(client, in_round):
    model = DaskMGCEClassifier(client=client, **INTERIOR).fit(*lazy())
    X, y = in_memory()
    local = model.to_local()
    done = in_round(30, partial(kill, client, slice(1)))
    bounds = model.error_bounds(lazy()[0], tol=1e-4)
    assert done
    expected = local.error_bounds(X, tol=1e-4)
    ends, expected = ((b.lower, b.upper) for b in (bounds, expected))
    np.testing.assert_allclose(ends, expected, atol=1e-4)
    done = in_round(7, partial(kill, client, slice(1)))
    certificate = model.certificate(*lazy())
    assert done
    np.testing.assert_allclose(certificate, local.certificate(X, y), atol=1e-9)


def test_two_fits_at_once_do_not_disturb_each_other(client):
    def fit(params, models):
        models.append(DaskMGCEClassifier(client=client, **params).fit(*lazy()))

    found = {0: [], 1: []}
    threads = [
        threading.Thread(target=fit, args=(params, found[i]))
        for i, params in enumerate([INTERIOR, FIRST_ORDER])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    check_equal(found[0][0], **INTERIOR)
    check_equal(found[1][0], **FIRST_ORDER)


def draws(number):
    """Return other rows whenever it is asked, as a reader without a seed does."""
    X, y = rows_of(number)
    return X + np.random.default_rng().normal(scale=1e-9, size=X.shape), y


def test_rows_that_change_are_refused(client, in_round):
    in_round(12, partial(kill, client, slice(1)))
    model = DaskMGCEClassifier(client=client)
    with pytest.raises(ValueError, match=r"Partition \d must have the same rows whenever"):
        model.fit(*lazy(draws))
    assert not hasattr(model, "coef_")


def test_scattered_rows_that_are_lost_are_told(client, in_round):
    """Nobody can compute them again: an error, not a wait for ever."""
    X, y = zip(*map(rows_of, range(PARTS)), strict=True)
    X, y = client.scatter(list(X)), client.scatter(list(y))
    in_round(12, partial(kill, client, slice(2)))
    begin = time.monotonic()
    with pytest.raises(ClusterError, match=r"in place of scattered data"):
        DaskMGCEClassifier(client=client).fit(X, y)
    assert time.monotonic() - begin < 60


def test_a_partition_that_kills_workers_is_told(client):
    with pytest.raises(ClusterError, match="Several workers died"):
        DaskMGCEClassifier(client=client).fit(*lazy(deadly))


def absent(number):
    if number == 2:
        raise FileNotFoundError("part-2.parquet")
    return rows_of(number)


def test_what_a_reader_raises_is_told_as_it_is(client):
    with pytest.raises(FileNotFoundError, match=r"part-2.parquet"):
        DaskMGCEClassifier(client=client).fit(*lazy(absent))


def deadly(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows_of(number)


def test_nothing_is_left_on_workers(client):
    DaskMGCEClassifier(client=client).fit(*lazy())
    for _ in range(50):
        left = client.run(lambda dask_worker: len(dask_worker.data))
        if not any(left.values()):
            return
        time.sleep(0.1)
    raise AssertionError(left)


@pytest.mark.parametrize("end", ["client", "scheduler", "workers"])
def test_who_goes_for_good_is_told(end, in_round, monkeypatch):
    monkeypatch.setattr(rounds, "PATIENCE", 3.0)
    with new_cluster() as cluster, Client(cluster) as client:
        action = {
            "client": client.close,
            "scheduler": partial(cluster.close, timeout=5),
            "workers": partial(cluster.scale, 0),
        }[end]
        in_round(12, action, 0.001)
        begin, model = time.monotonic(), DaskMGCEClassifier(client=client)
        sentence = "No worker has accepted tasks" if end == "workers" else "scheduler cannot be"
        with pytest.raises(ClusterError, match=sentence):
            model.fit(*lazy())
        assert time.monotonic() - begin < 40
        assert not hasattr(model, "coef_")


# Rounds themselves


def slow_count(seconds, part):
    time.sleep(seconds)
    return float(part.n_rows)


def weigh(part):
    return part.design.weights.copy()


def grow(kept, part):
    kept(part)[:] += 1.0


def largest(kept, part):
    return float(kept(part).max())


def threads_of(part):
    from threadpoolctl import threadpool_info

    return max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")


def parts_of(client, n_parts=PARTS):
    X, y = in_memory()
    chunks = N // n_parts
    cells = partitions_of(da.from_array(X, chunks=(chunks, D)), da.from_array(y, chunks=chunks))
    brought = DaskMGCEClassifier(client=client)._loaded(cells, None)
    return RowsOnWorkers.of(*brought, fit_intercept=True)


def test_each_block_counts_once_if_its_worker_dies_on_the_way(client):
    parts = parts_of(client)
    threading.Timer(0.6, partial(kill, client, slice(1))).start()
    assert parts.over(partial(slow_count, 0.3)) == N
    assert parts.over(partial(slow_count, 0.0)) == N


def test_a_change_is_made_once(client):
    """Half of the blocks are lost: they have nothing left; the others changed once."""
    parts = parts_of(client)
    kept = parts.keep(weigh)
    once_more = once(partial(grow, kept))
    parts.over(once_more)
    parts.over(once_more)
    assert parts.over(partial(largest, kept), max) == 1.0 + 1.0 / N
    os.kill(client.run(os.getpid)[parts.rounds._placement[0][0]], signal.SIGKILL)
    with pytest.raises(LostRows):
        parts.over(partial(largest, kept), max)
    kept = parts.keep(weigh)
    assert parts.over(partial(largest, kept), max) == 1.0 / N


def test_tasks_take_one_thread(client):
    parts = parts_of(client)
    before = client.run(threading.active_count)
    assert parts.over(threads_of, max) == 1
    for _ in range(5):
        parts.over(partial(slow_count, 0.0))
    after = client.run(threading.active_count)
    assert sum(after.values()) <= sum(before.values()) + 2  # Dask's own threads for spilling


def test_a_round_that_an_idle_worker_took_is_repeated_by_who_was_meant(client, monkeypatch):
    """Its copies of the blocks have nothing that was kept; who was meant still has it."""
    parts = parts_of(client)
    kept = parts.keep(weigh)
    plan = parts.rounds._placement
    first, second = client.nthreads()
    other = {first: second, second: first}
    submit, pinned = Client.submit, []

    def steal(self, function, *args, workers=None, allow_other_workers=False, **options):
        if allow_other_workers:  # as the scheduler may read it
            workers = [other[workers[0]]]
        elif workers is not None:
            pinned.append(workers[0])
        return submit(self, function, *args, workers=workers, **options)

    monkeypatch.setattr(Client, "submit", steal)
    assert parts.over(partial(largest, kept), max) == 1.0 / N
    parts.over(once(partial(grow, kept)))
    assert parts.over(partial(largest, kept), max) == 1.0 + 1.0 / N
    assert pinned == 3 * [worker for worker, _ in plan]
    assert parts.rounds._losses == 0


def test_copies_that_missed_a_round_are_not_trusted(client):
    """Both workers hold every block, and what was kept with it; one of them did not see it grow."""
    parts = parts_of(client)
    rounds = parts.rounds
    client.replicate(rounds._futures)
    keep, kept = parts.keep, []

    def by(homes):
        rounds._homes, rounds._placement = dict(homes), None

    first, second = (dict.fromkeys(range(PARTS), worker) for worker in client.nthreads())
    for homes in (first, second):
        by(homes)
        kept = kept or [keep(weigh)]
        parts.over(partial(parts_module._keep, weigh, kept[0], 1))
    parts.over(once(partial(grow, kept[0])))
    assert parts.over(partial(largest, kept[0]), max) == 1.0 + 1.0 / N
    by(first)
    with pytest.raises(LostRows):
        parts.over(partial(largest, kept[0]), max)


def test_a_sum_without_some_block_is_asked_for_again(client, monkeypatch):
    parts, real, results = parts_of(client), Rounds._round, []

    def short(self, *args):
        result = real(self, *args)
        results.append(result)
        return result._replace(numbers=result.numbers[1:]) if len(results) == 1 else result

    monkeypatch.setattr(Rounds, "_round", short)
    assert parts.over(partial(slow_count, 0.0)) == N
    assert len(results) == 2


@pytest.mark.parametrize(
    ("every", "message"), [(1, "in each of 3 attempts"), (2, "were lost 21 times in one fit")]
)
def test_rows_that_are_lost_over_and_over_end_a_fit(client, monkeypatch, every, message):
    """As where Dask has no memory for them: an error, and no attempt without an end."""
    real, seen = Rounds._round, []

    def lossy(self, *args):
        seen.append(None)
        return real(self, *args)._replace(lost=bool(self.live) and len(seen) % every == 0)

    monkeypatch.setattr(Rounds, "_round", lossy)
    with pytest.raises(ClusterError, match=message):
        DaskMGCEClassifier(client=client).fit(*lazy())


def test_what_workers_have_together(client):
    parts = parts_of(client)
    n_workers = len(parts.rounds._placement)
    assert parts.at_once == n_workers
    assert parts.working_memory == n_workers * WORKING_MEMORY


def test_large_orders_and_results_are_counted(client):
    parts = parts_of(client, n_parts=2)
    before = parts.rounds.n_bytes
    heavy = np.ones(2**17)
    total = parts.over(partial(give, heavy))
    np.testing.assert_array_equal(total, 2.0 * heavy)
    n_tasks = len(parts.rounds._placement)
    assert parts.rounds.n_bytes - before >= 2 * n_tasks * heavy.nbytes


def give(array, part):
    return array


# Blocks, without workers


def order(number, completed, term, live=()):
    recipe = Recipe(0, np.array(["a", "b", "c"]), None, float(N), True)
    return Order(number, completed, frozenset(live), recipe, term, add)


class Name:
    """A name of what is kept, without an owner."""

    def __init__(self, key):
        self.key = key


def keep(key, part):
    part.allotted(Name(key), 1)[:] = 1.0


def read(key, part):
    return part.arrays[key].sum()


def test_a_copy_of_a_block_begins_without_what_was_kept():
    block = block_of(0, None, None, *rows_of(0), None)
    block.run(order(1, -1, partial(keep, 5), [5]), 0)
    assert block.run(order(2, 1, partial(read, 5), [5]), 0) == N // PARTS
    copy = pickle.loads(pickle.dumps(block))
    with pytest.raises(LostRows):
        copy.run(order(3, 2, partial(read, 5), [5]), 0)
    np.testing.assert_array_equal(copy.rows.X, block.rows.X)


def test_what_missed_a_round_is_not_trusted():
    """As of a copy that was left behind on another worker."""
    block = block_of(0, None, None, *rows_of(0), None)
    block.run(order(1, -1, partial(keep, 5), [5]), 0)
    assert block.run(order(2, 0, partial(read, 5), [5]), 0) > 0  # round 1 was not completed
    with pytest.raises(LostRows):
        block.run(order(4, 3, partial(read, 5), [5]), 0)


def test_a_round_that_comes_late_changes_nothing():
    block = block_of(0, None, None, *rows_of(0), None)
    block.run(order(5, 4, partial(keep, 5), [5]), 0)
    with pytest.raises(LostRows, match="late"):
        block.run(order(4, 3, partial(keep, 6), [5, 6]), 0)
    assert block.run(order(6, 5, partial(read, 5), [5]), 0) > 0


def test_what_nobody_needs_is_forgotten():
    block = block_of(0, None, None, *rows_of(0), None)
    block.run(order(1, -1, partial(keep, 5), [5]), 0)
    block.run(order(2, 1, partial(keep, 6), [6]), 0)
    assert set(block._state.arrays) == {6}


class Worker:
    """One with a pool of threads."""

    def __init__(self, pool):
        self.executors = {"default": pool}


def where(part):
    return [(part.first_row, threading.get_ident())]


@pytest.mark.parametrize("busy", [False, True])
def test_shares_are_for_idle_threads_of_the_worker(busy, monkeypatch):
    """Where none is idle the task computes them itself: nobody waits for a thread that waits."""
    blocks = [block_of(i, None, None, *rows_of(i), None) for i in range(4)]
    asked = [rounds._BlockId(i, i * N // PARTS, 0) for i in range(4)]
    shares = rounds._cut_evenly(list(zip(asked, blocks, strict=True)), 2)
    assert [len(share) for share in shares] == [2, 2]
    free = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        if busy:
            pool.submit(free.wait)
        monkeypatch.setattr(rounds, "get_worker", lambda: Worker(pool))
        first, second = rounds._run_in_threads(order(1, -1, where), shares)
        free.set()
    here = threading.get_ident()
    assert [row for row, _ in first + second] == [i * N // PARTS for i in range(4)]
    assert {thread for _, thread in first} == {here}
    assert ({thread for _, thread in second} == {here}) == busy
