"""Memory: what a fit takes beside X, and what it leaves behind."""

from __future__ import annotations

import gc
import pickle
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest
import scipy.sparse as sp
from problems import columns_of, make_objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import PolynomialFeatures
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier, MGCEClassifierCV
from mgce_sklearn.calibration import PiecewiseTemperatureScaling, TemperatureScaling
from mgce_sklearn.solvers.repair import repair

N_FEATURES = 3


def problem(n, n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES))
    coef = rng.normal(size=(N_FEATURES, n_classes))
    return X, np.argmax(X @ coef + rng.gumbel(size=(n, n_classes)), axis=1)


def arrays_at_the_peak(work, n, n_classes):
    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak / (8 * n * n_classes)


# Two arrays are the rows' state; a few numbers per row count for more where classes are few.
@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(("n", "n_classes", "most"), [(400_000, 5, 3.0), (150_000, 20, 2.5)])
def test_a_fit_takes_less_than_three_arrays_beside_the_features(n, n_classes, most, warm_start):
    model = MGCEClassifier(solver="interior_point", max_iter=1, warm_start=warm_start)
    # Threads have a block each, and the first fit what is compiled and imported.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*problem(1000, n_classes))
        X, y = problem(n, n_classes)
        assert arrays_at_the_peak(lambda: model.fit(X, y), n, n_classes) < most


def test_value_certificate_and_repair_take_blocks_of_rows():
    n, n_classes = 200_000, 5
    objective = make_objective(*problem(n, n_classes))
    proba = columns_of(objective, np.full((n_classes, n), 1.0 / n_classes))
    coef = np.ones(objective.shape)

    def certify(objective):
        objective.value(coef)
        objective.dual_point(proba)
        objective.dual_point(repair(objective, proba))

    with threadpool_limits(1), objective.opened() as objective:
        certify(objective)
        assert arrays_at_the_peak(lambda: certify(objective), n, n_classes) < 0.25


class InPortions(MGCEClassifier):
    """Fits by portions."""

    def fit(self, X, y):
        for part in np.array_split(np.arange(len(y)), 3):
            self.partial_fit(X[part], y[part], classes=np.unique(y))
        return self


MODELS = {
    "interior_point": lambda: MGCEClassifier(solver="interior_point"),
    "warm_start": lambda: MGCEClassifier(solver="interior_point", warm_start=True),
    "lbfgs": lambda: MGCEClassifier(solver="lbfgs", tol=1e-2),
    "sgd": lambda: MGCEClassifier(solver="sgd", tol=1e-1),
    "betting": lambda: MGCEClassifier(width="betting", feature_range=(-9, 9)),
    "balanced": lambda: MGCEClassifier(class_weight="balanced"),
    "feature_map": lambda: MGCEClassifier(feature_map=PolynomialFeatures(2)),
    "relu": lambda: MGCEClassifier(feature_map="relu", tol=1e-1),
    "threshold": lambda: MGCEClassifier(feature_map="threshold"),
    "function": lambda: MGCEClassifier(feature_map=abs),
    "portions": InPortions,
    "search": lambda: MGCEClassifierCV(qs=(0.0, 0.7), lams=(0.1, 1.0), cv=3),
    "temperature": lambda: TemperatureScaling(MGCEClassifier(), cv=2),
    "temperatures": lambda: PiecewiseTemperatureScaling(MGCEClassifier(), cv=2),
}
STORED = {
    "arrays": np.asarray,
    "single precision": lambda X: X.astype(np.float32),
    "sparse": sp.csr_array,
    "sparse, by columns": sp.csc_array,
    "lists": np.ndarray.tolist,
}


def left_by(fit, stored, n):
    """Return what a fit leaves: the number of bytes of its pickle, and whether rows are held."""
    X, y = problem(n, 3)
    X = stored(X)
    given = [weakref.ref(part) for part in (X, y) if not isinstance(part, list)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fit(X, y)
    del X, y
    gc.collect()
    return len(pickle.dumps(model)), any(part() is not None for part in given)


def check_nothing_is_left(fit, stored=np.asarray):
    """Rows must be free to go, and no array in the model may be as long as they are."""
    few, many = 1000, 4000
    size, held = left_by(fit, stored, few)
    larger, also_held = left_by(fit, stored, many)
    assert not held and not also_held
    assert larger - size < (many - few) // 8  # not even a bit of every row


@pytest.mark.parametrize("name", MODELS)
def test_a_model_holds_no_rows(name):
    check_nothing_is_left(lambda X, y: MODELS[name]().fit(X, y))


@pytest.mark.parametrize("name", STORED)
def test_nor_in_any_layout(name):
    check_nothing_is_left(lambda X, y: MGCEClassifier().fit(X, y), STORED[name])


def test_nor_those_of_an_earlier_fit_or_of_what_it_was_asked():
    def fit(X, y):
        model = MGCEClassifier(feature_range=(-9, 9)).partial_fit(X, y, [0, 1, 2])
        model.fit(X, y, np.ones(len(y))).error_bounds(X)
        model.confidence_bound(X + 0.01)
        return model

    check_nothing_is_left(fit)


@pytest.mark.parametrize("solver", ["interior_point", "lbfgs"])
@pytest.mark.parametrize("mapped", [False, True])
def test_nor_those_in_tensors(solver, mapped):
    torch = pytest.importorskip("torch")
    feature_map = torch.nn.Linear(N_FEATURES, 5).double() if mapped else None
    model = MGCEClassifier(solver=solver, tol=1e-2, feature_map=feature_map)
    check_nothing_is_left(model.fit, torch.tensor)


def test_nor_do_networks():
    """Their history has a line for every batch: one here, however many the rows."""
    torch = pytest.importorskip("torch")
    net = pytest.importorskip("mgce_sklearn.torch").MGCENetClassifier
    model = net(torch.nn.Linear(N_FEATURES, 3), max_epochs=2, batch_size=10_000, verbose=0)
    check_nothing_is_left(model.fit, lambda X: X.astype(np.float32))
