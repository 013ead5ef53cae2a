"""Real data, objectives built from it, and the conic program as an outside oracle."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from mgce_sklearn.design import Design
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import RowTeam
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.uncertainty import UncertaintySet

ALL_Q = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True)
class Tempered:
    """T psi(m / T): a legal potential that offers nothing beyond the protocol.

    At W = T V the objective is T times that of the base at V, and so is the optimum.
    """

    base: Any
    T: float = 2.0

    @property
    def smooth(self):
        return self.base.smooth

    def value(self, margins):
        return self.T * self.base.value(margins / self.T)

    def value_and_gradient(self, margins):
        psi, proba = self.base.value_and_gradient(margins / self.T)
        return self.T * psi, proba

    def entropy(self, proba):
        return self.T * self.base.entropy(proba)


class SmoothlyTempered(Tempered):
    """The same, which "lbfgs" can smooth."""

    def smoothed(self, eps):
        return Tempered(self.base.smoothed(eps), self.T)


class ConicallyTempered(Tempered):
    """The same, which "cvxpy" can state."""

    def conic_program(self, cp, margins):
        psi, constraints = self.base.conic_program(cp, margins / self.T)
        return self.T * psi, constraints


def load(name):
    """Return standardized features and integer labels of a real data set.

    ``digits`` is cut to 200 rows, which the conic solver still does in seconds;
    ``diabetes`` is scikit-learn's regression set with the quarters of its target as classes.
    """
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":
        X, y = X[:200], y[:200]
    if name == "diabetes":
        y = np.searchsorted(np.quantile(y, [0.25, 0.5, 0.75]), y)
    return StandardScaler().fit_transform(X), y


REAL_SETS = ("iris", "wine", "breast_cancer", "diabetes", "digits")


def make_objective(X, y, q=0.7, lam=0.3, sample_weight=None, fit_intercept=True, reduce=True):
    """Build the objective as the classifier does; ``reduce=False`` keeps both of two classes."""
    classes, codes = np.unique(y, return_inverse=True)
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    design = Design(X, weights, fit_intercept)
    uncertainty = UncertaintySet.from_sample(design, HardLabels(codes), len(classes), lam)
    if len(classes) == 2 and reduce:
        uncertainty = uncertainty.binary()
    parts = RowsInMemory.of(design, HardLabels(codes))
    return Objective(MGCEPotential(q), parts, uncertainty, len(classes))


def columns_of(objective, array):
    """Return an array (K, n) as the columns that objectives and solvers take."""
    return objective.parts.kept_array(array)


def array_of(objective, columns):
    """Return columns as an array (K, n)."""
    return columns(objective.parts.together())


def value_slope_and_proba(objective, coef):
    """Return R(W), the gradient (C, d) of its smooth part, and the worst case (K, n)."""
    proba = objective.parts.kept()
    return *objective.value_and_slope(coef, proba), array_of(objective, proba)


def split(objective, ends, team=None):
    """Return the same objective of rows in parts, which end there, for a team or one thread."""
    parts, bounds = objective.parts, [0, *ends]
    assert bounds[-1] == parts.n_rows
    shares = tuple(parts.whole.of_its_own(*pair) for pair in itertools.pairwise(bounds))
    team = RowTeam(parts.n_rows, 1, 1) if team is None else team
    return replace(objective, parts=replace(parts, shares=shares, team=team))


def of_design(objective, design):
    """Return the same objective of other rows with the same labels."""
    labels = objective.parts.together().labels
    return replace(objective, parts=RowsInMemory.of(design, labels))


def conic_optimum(X, y, q, lam):
    """Solve the problem as written on paper, both classes kept, by Clarabel.

    The widths are computed here from their definition, without the library. Returns the
    optimal value, and the accuracy that the solver claims for it.
    """
    import cvxpy as cp

    n = len(y)
    features = np.column_stack([X, np.ones(n)])
    one_hot = (np.asarray(y)[:, None] == np.unique(y)).astype(float)
    n_classes = one_hot.shape[1]
    tau = one_hot.T @ features / n
    variance = one_hot.T @ features**2 / n - tau**2
    for k, rows in enumerate(one_hot.T > 0):
        # Where a feature is constant within a class, one row of those that have another number.
        for j in np.flatnonzero(np.ptp(features[rows], axis=0) == 0):
            distance = features[:, j] - features[rows, j][0]
            if distance.any():
                variance[k, j] += np.mean(distance[distance != 0] ** 2) / n
    width = lam * np.sqrt(variance.clip(min=0)) / np.sqrt(n)

    coef = cp.Variable((n_classes, features.shape[1]))
    margins = features @ coef.T
    constraints = []
    if q == 0.0:
        mean_psi = cp.sum(cp.log_sum_exp(margins, axis=1)) / n
    else:
        psi, rule = cp.Variable((n, 1)), cp.Variable((n, n_classes), nonneg=True)
        mean_psi = cp.sum(psi) / n
        z = 1 + q * (margins - psi @ np.ones((1, n_classes)))
        constraints = [cp.sum(rule, axis=1) <= 1]
        if q == 1.0:
            constraints.append(rule >= z)
        elif q == 0.5:  # a sum of squares: second-order cones are solved more accurately
            constraints = [rule >= z, cp.norm(rule, 2, axis=1) <= 1]
        else:  # rule^q >= c >= z: a power cone
            c = cp.Variable((n, n_classes), nonneg=True)
            flat = [cp.vec(a, order="C") for a in (rule, c)]
            ones = np.ones(n * n_classes)
            constraints += [c >= z, cp.PowCone3D(flat[0], ones, flat[1], q * ones)]
    linear = -cp.sum(cp.multiply(tau, coef)) + cp.sum(cp.multiply(width, cp.abs(coef)))
    problem = cp.Problem(cp.Minimize(mean_psi + linear), constraints)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        value = problem.solve(solver=cp.CLARABEL)
    return value, value * (1e-6 if problem.status == cp.OPTIMAL else 1e-5)


def worst_case_by_linear_program(X, weights, uncertainty, costs):
    """Maximize the expected costs (K, n) over the set by HiGHS; None if the set is empty.

    The intercept's constant is added here if the set has a column for it.
    """
    n_classes, n = costs.shape
    program = _means_program(X, weights, uncertainty, n_classes)
    tau, width = uncertainty.tau.ravel(), uncertainty.half_width.ravel()
    share = weights / weights.sum()
    result = linprog(
        -(costs * share).ravel(),
        A_ub=sp.vstack([program, -program]),
        b_ub=np.concatenate([tau + width, width - tau]),
        A_eq=sp.hstack([sp.eye(n)] * n_classes).tocsr(),
        b_eq=np.ones(n),
        method="highs-ipm",
    )
    assert result.status in (0, 2), result.message
    return -result.fun if result.status == 0 else None


def growth_by_linear_program(X, weights, uncertainty):
    """Minimize the factor on the half-widths with which the set holds something, by HiGHS."""
    n_classes, n = len(uncertainty.tau), len(X)
    program = _means_program(X, weights, uncertainty, n_classes)
    tau, width = uncertainty.tau.ravel(), uncertainty.half_width.ravel()[:, np.newaxis]
    result = linprog(
        np.append(np.zeros(n * n_classes), 1.0),
        A_ub=sp.vstack([sp.hstack([program, -width]), sp.hstack([-program, -width])]).tocsr(),
        b_ub=np.concatenate([tau, -tau]),
        A_eq=sp.hstack([sp.eye(n)] * n_classes + [sp.csr_array((n, 1))]).tocsr(),
        b_eq=np.ones(n),
        method="highs",
    )
    assert result.status == 0, result.message
    return result.fun


def _means_program(X, weights, uncertainty, n_classes):
    """Return the matrix that takes p (K n) to the means of onehot ⊗ x (K d)."""
    center = np.broadcast_to(uncertainty.center, uncertainty.tau.shape[1])[: X.shape[1]]
    features = X - center
    if uncertainty.tau.shape[1] > X.shape[1]:
        features = np.column_stack([features, np.ones(len(X))])
    scaled = features * (weights / weights.sum())[:, np.newaxis]
    return sp.block_diag([scaled.T] * n_classes).tocsr()


def least_cross_entropy(x, uncertainty):
    """Return the minimum of R at q = 0 over W (K, d), by scipy with W = U - V.

    Parameters
    ----------
    x : ndarray of shape (n, d)
        Rows less the center, the intercept's constant last.
    uncertainty : UncertaintySet
    """
    tau, width = uncertainty.tau, uncertainty.half_width

    def value_and_gradient(parts):
        plus, minus = np.split(parts, 2)
        coef = (plus - minus).reshape(tau.shape)
        psi = logsumexp(x @ coef.T, axis=1)
        slope = np.exp(x @ coef.T - psi[:, None]).T @ x / len(x) - tau
        value = psi.mean() - np.vdot(tau, coef) + width.ravel() @ (plus + minus)
        return value, np.concatenate([(width + slope).ravel(), (width - slope).ravel()])

    return minimize(
        value_and_gradient, np.zeros(2 * tau.size), jac=True, method="L-BFGS-B",
        bounds=[(0, None)] * (2 * tau.size),
        options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-10},
    ).fun  # fmt: skip
