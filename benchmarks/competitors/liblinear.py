"""scikit-learn's liblinear: Newton steps, each by coordinate descent, for L1 cross-entropy.

It is scikit-learn's only solver of Newton's type for this penalty, and knows two classes.
"""

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
    Unable,
    look_at,
    require_cross_entropy,
    with_more_iterations,
)
from mgce_sklearn.objective import Objective

OWN_TOLERANCE = 1e-12  # it shall end by its iterations


def run(objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run from scratch; the constant is a column of the design, so no intercept is added.

    Of two classes ours are the coefficients of the second, as liblinear's. It minimizes
    C (sum of losses) + |w|_1, ours divided by the width.
    """
    require_cross_entropy(objective)
    if objective.n_classes > 2:
        raise Unable("knows two classes only.")
    design, width = objective.parts.like, objective.uncertainty.half_width.flat[0]

    def attempt(max_iter: int) -> Attempt:
        model = LogisticRegression(
            solver="liblinear", l1_ratio=1.0, C=1.0 / (design.n_rows * width),
            fit_intercept=False, tol=OWN_TOLERANCE, max_iter=max_iter, random_state=0,
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(design.X, objective.parts.together().labels.codes)
        seconds = time.perf_counter() - begin
        return Attempt(look_at(objective, model.coef_, seconds), model.n_iter_.max() < max_iter)

    return with_more_iterations(attempt, terms, first=1)


COMPETITOR = Competitor("liblinear", run)
