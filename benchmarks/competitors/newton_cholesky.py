"""scikit-learn's newton-cholesky: cross-entropy with an L2 penalty, at the default C = 1.

It minimizes another problem and is here for reference: what a converged fit of multinomial
logistic regression costs by Newton's method. Its gaps are those of its own problem,

    P(W) = mean psi - <tau, W> + alpha/2 |W|²,     alpha = 1/(C n),
    D(p) = mean H(p) - |excess(p)|²/(2 alpha) <= min P     for any distributions p,

since <excess(p), W> + alpha/2 |W|² is least at W = -excess(p)/alpha.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from competitors.base import (
    Array,
    Attempt,
    Competitor,
    Look,
    Terms,
    Unable,
    with_more_iterations,
)
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers import LARGEST_SYSTEM
from mgce_sklearn.uncertainty import UncertaintySet

OWN_TOLERANCE = 1e-12  # it shall end by its iterations


def run(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run from scratch, from one step on."""
    if objective.potential.q != 0.0:
        raise Unable("knows q = 0 only.")
    if np.prod(objective.shape) > LARGEST_SYSTEM:
        raise Unable(f"is not asked for more than {LARGEST_SYSTEM} coefficients.")
    tau = objective.uncertainty.tau
    smooth = replace(objective, uncertainty=UncertaintySet(tau, np.zeros_like(tau)))

    def attempt(max_iter: int) -> Attempt:
        model = LogisticRegression(
            solver="newton-cholesky", l1_ratio=0.0, C=1.0, fit_intercept=False,
            tol=OWN_TOLERANCE, max_iter=max_iter,
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(objective.parts.like.X, objective.parts.together().labels.codes)
        seconds = time.perf_counter() - begin
        return Attempt(_ridge_look(smooth, model.coef_, seconds), model.n_iter_.max() < max_iter)

    return with_more_iterations(attempt, terms, first=1)


def _ridge_look(smooth: Objective, coef: Array, seconds: float) -> Look:
    alpha = 1.0 / smooth.parts.n_rows
    proba = smooth.parts.kept()
    value, excess = smooth.value_and_slope(coef, proba)
    value += 0.5 * alpha * np.vdot(coef, coef)
    entropy = smooth.mean_entropy(proba)
    dual_value = entropy - np.vdot(excess, excess) / (2.0 * alpha)
    return Look(seconds, float(value), float((value - dual_value) / value))


COMPETITOR = Competitor(
    "newton-cholesky", run, instead=lambda objective: "L2, C = 1", threaded=True
)
