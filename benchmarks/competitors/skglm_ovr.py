"""skglm: L1 logistic regression by proximal Newton and working sets, one class against the rest.

With two classes that is the objective itself. With more it is K problems in place of one, for
reference: value and gap are sums over these problems.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from competitors.base import (
    Competitor,
    Look,
    Terms,
    Unable,
    look_at,
    require_cross_entropy,
    with_smaller_tolerances,
)
from mgce_sklearn.labels import HardLabels
from mgce_sklearn.objective import Objective
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.uncertainty import UncertaintySet

OWN_TOLERANCES = tuple(10.0**-k for k in range(2, 11))
MOST_WORKING_SETS = 200


def run(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run from scratch at smaller tolerances; its loss is a mean like ours, so alpha = width."""
    require_cross_entropy(objective)
    estimator = _estimator()
    problems = against_the_rest(objective)
    width = objective.uncertainty.half_width.flat[0]
    features = np.asfortranarray(objective.parts.like.X)  # it reads columns

    def attempt(tolerance: float) -> Look:
        looks = []
        for problem in problems:
            model = estimator(
                alpha=width, fit_intercept=False, tol=tolerance, max_iter=MOST_WORKING_SETS
            )
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(features, problem.parts.together().labels.codes)
            looks.append(look_at(problem, model.coef_, time.perf_counter() - begin))
        return _sum_of(looks)

    return with_smaller_tolerances(attempt, terms, OWN_TOLERANCES)


def against_the_rest(objective: Objective) -> list[Objective]:
    """Return the binary problems of each class, or the objective if it is one."""
    if objective.n_classes == 2:
        return [objective]
    tau, half_width = objective.uncertainty.tau, objective.uncertainty.half_width
    return [
        replace(
            objective,
            parts=_one_against_others(objective.parts, k),
            uncertainty=UncertaintySet(tau[k : k + 1], half_width[k : k + 1]),
            n_classes=2,
        )
        for k in range(objective.n_classes)
    ]


def _one_against_others(parts: RowsInMemory, k: int) -> RowsInMemory:
    codes = parts.together().labels.codes == k
    return RowsInMemory.of(parts.like, HardLabels(codes.astype(int)))


def _sum_of(looks: list[Look]) -> Look:
    value = sum(look.value for look in looks)
    gap = sum(look.gap * look.value for look in looks)
    return Look(sum(look.seconds for look in looks), value, gap / value)


@lru_cache(maxsize=1)
def _estimator() -> Any:
    """Import skglm and have it compiled, which every process does again."""
    try:
        from skglm import SparseLogisticRegression
    except ImportError:
        raise Unable("is not installed: pip install skglm.") from None
    rng = np.random.default_rng(0)
    features = np.asfortranarray(rng.normal(size=(20, 2)))
    labels = (features[:, 0] + rng.normal(size=20) > 0.0).astype(int)
    # So small that coefficients differ from zero: some of its code runs for those only.
    SparseLogisticRegression(alpha=1e-3, fit_intercept=False).fit(features, labels)
    return SparseLogisticRegression


def _problem(objective: Objective) -> str:
    return "" if objective.n_classes == 2 else "one-vs-rest"


COMPETITOR = Competitor("skglm", run, instead=_problem)
