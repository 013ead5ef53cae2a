"""scikit-learn's saga: multinomial L1 cross-entropy, the easiest of our problems."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from competitors.base import (
    Attempt,
    Competitor,
    Look,
    Terms,
    look_at,
    require_cross_entropy,
    with_more_iterations,
)
from mgce_sklearn.objective import Objective

FIRST_EPOCHS = 8
OWN_TOLERANCE = 1e-12  # it shall end by its iterations


def run(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run from scratch, as a warm start would lose saga's memory of gradients.

    scikit-learn minimizes C (sum of losses) + |W|_1, ours divided by the width.
    """
    require_cross_entropy(objective)
    design, width = objective.parts.like, objective.uncertainty.half_width.flat[0]

    def attempt(max_iter: int) -> Attempt:
        model = LogisticRegression(
            solver="saga", l1_ratio=1.0, C=1.0 / (design.n_rows * width), fit_intercept=False,
            tol=OWN_TOLERANCE, max_iter=max_iter, random_state=0,
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(design.X, objective.parts.together().labels.codes)
        seconds = time.perf_counter() - begin
        return Attempt(look_at(objective, model.coef_, seconds), model.n_iter_.max() < max_iter)

    return with_more_iterations(attempt, terms, FIRST_EPOCHS)


COMPETITOR = Competitor("saga", run)
