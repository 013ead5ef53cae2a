"""Memory that a fit takes beside X, in arrays of a float64 number per row and class."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from problems import make_objective
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.parallel import row_team
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
    proba, coef = np.full((n_classes, n), 1.0 / n_classes), np.ones(objective.shape)

    def certify(team):
        objective.value(coef, team)
        objective.dual_point(proba, team)
        objective.dual_point(repair(objective, proba, team), team)

    with threadpool_limits(1), row_team(n, n_classes) as team:
        certify(team)
        assert arrays_at_the_peak(lambda: certify(team), n, n_classes) < 0.25
