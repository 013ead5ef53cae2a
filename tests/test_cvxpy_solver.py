"""The conic program against our own solver's certificate, and its manners."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from problems import ALL_Q, load, make_objective

from mgce_sklearn import MGCEClassifier
from mgce_sklearn.solvers import InteriorPoint, Status
from mgce_sklearn.solvers.cvxpy import ConicProgram


@pytest.fixture
def cvxpy():
    return pytest.importorskip("cvxpy")


@pytest.mark.usefixtures("cvxpy")
@pytest.mark.parametrize("q", ALL_Q)
@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_certified_and_within_the_interior_points_certificate(name, q):
    X, y = load(name)
    weights = 1.0 + np.arange(len(y)) % 3
    # In one of nine orders of breast_cancer's rows, the stored one for one, Clarabel gives up.
    order = np.random.default_rng(0).permutation(len(y))
    objective = make_objective(X[order], y[order], q, sample_weight=weights[order])
    result = ConicProgram().solve(objective)
    assert result.status is Status.CONVERGED
    assert result.relative_gap <= 1e-4
    assert result.value == pytest.approx(objective.value(result.coef), rel=1e-12)
    ours = InteriorPoint(tol=1e-7).solve(objective)
    assert ours.dual_value <= result.value
    assert result.dual_value <= ours.value
    assert result.value == pytest.approx(ours.value, rel=1e-6)


@pytest.mark.usefixtures("cvxpy")
@pytest.mark.filterwarnings("error")
def test_iteration_limit_is_a_status_and_the_bounds_hold():
    objective = make_objective(*load("wine"))
    result = ConicProgram(max_iter=4).solve(objective)
    assert result.status is Status.MAX_ITER
    assert result.n_iter == 4
    optimum = InteriorPoint(tol=1e-7).solve(objective)
    assert result.dual_value <= optimum.value
    assert result.value >= optimum.dual_value


def test_failure_of_the_conic_solver_is_a_status_and_the_bounds_hold(cvxpy, monkeypatch):
    def fail(self, **options):
        raise cvxpy.SolverError

    monkeypatch.setattr(cvxpy.Problem, "solve", fail)
    objective = make_objective(*load("wine"), q=0.5)
    result = ConicProgram().solve(objective)
    assert result.status is Status.STALLED
    assert not result.coef.any()
    assert result.value == pytest.approx((1 - 3**-0.5) / 0.5, rel=1e-12)
    assert 0 <= result.dual_value <= InteriorPoint(tol=1e-7).solve(objective).value


@pytest.mark.usefixtures("cvxpy")
def test_the_classifier_uses_it_by_name():
    X, y = load("iris")
    conic = MGCEClassifier(q=0.7, lam=0.3, solver="cvxpy").fit(X, y)
    assert conic.solver_ == "cvxpy"
    exact = MGCEClassifier(q=0.7, lam=0.3, tol=1e-8).fit(X, y)
    assert conic.minimax_risk_ == pytest.approx(exact.minimax_risk_, rel=1e-6)
    np.testing.assert_allclose(conic.predict_proba(X), exact.predict_proba(X), atol=1e-2)


def test_without_cvxpy_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(ImportError, match=r"needs cvxpy: pip install 'mgce_sklearn\[cvxpy\]'"):
        MGCEClassifier(solver="cvxpy").fit(*load("iris"))
