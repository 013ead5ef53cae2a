"""Scores of cross-validation as `cv_results_`, and the pair that they choose."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning

from mgce_sklearn.callbacks import WRAPPERS
from mgce_sklearn.path import (
    as_text,
)

Array = np.ndarray[Any, Any]

# Selections among the pairs near the best score: each chooses the pair of the largest parameter.
LARGEST = {"one_standard_error": "lam", "largest_q": "q"}
SELECTIONS = ("best", *LARGEST)


class Scores(NamedTuple):
    """Numbers of one fit in one fold, or arrays (n_folds, n_candidates) of them."""

    test_score: Any
    fit_time: Any = 0.0
    score_time: Any = 0.0
    minimax_risk: Any = np.nan
    converged: Any = np.nan  # 1 or 0; NaN if there is no fit
    reached: Any = 1.0  # 0 if the fit was stopped, or not started

    @property
    def counted(self) -> Array:
        """Mask of the scores that count.

        Those are the folds in which all pairs were scored. If there is none, all scores count.
        """
        reached = self.reached == 1.0
        complete = reached.all(axis=1, keepdims=True)
        return reached & complete if complete.any() else reached

    def over_folds(self) -> Scores:
        """Return the arrays with the scores that do not count masked."""
        mask = np.ma.nomask if self.counted.all() else ~self.counted
        return Scores(*(np.ma.array(numbers, mask=mask) for numbers in self))


def warn_of_the_rest(candidates: list[dict[str, float]], scores: Scores) -> None:
    """If the search was stopped, warn of the pairs and folds that were not scored."""
    if scores.reached.all():
        return
    counted = scores.counted
    n_folds, n_complete = len(counted), int(counted.all(axis=1).sum())
    rest = [candidates[i] for i in np.flatnonzero(~counted.any(axis=0))]
    without = as_text([(pair["q"], pair["lam"]) for pair in rest])
    warnings.warn(
        f"The search was stopped before every fold was scored. Pairs are compared on "
        f"{max(n_complete, 1)} of {n_folds} folds"
        + (f", and have no score (NaN) at {without}" if without else "")
        + ". Allow more time (max_time), or try fewer pairs.",
        ConvergenceWarning,
        stacklevel=4 + WRAPPERS,
    )


def warn_of_no_score(means: Array) -> None:
    """If mean scores are not finite, warn once."""
    if not np.isfinite(means).all():
        warnings.warn(
            f"Mean test scores are not finite: {means}. NaN ranks last; if all are NaN, the first "
            "pair is chosen. A fold may lack a class: use fewer or stratified folds.",
            UserWarning,
            stacklevel=4 + WRAPPERS,
        )


def results_of(candidates: list[dict[str, float]], scores: Scores) -> dict[str, Any]:
    """Return scores in the form of ``GridSearchCV``, one entry for each pair."""
    counted = scores.over_folds()
    mean = _mean(counted.test_score)
    with np.errstate(invalid="ignore"):  # an infinite mean has no deviations
        deviation = _deviation(counted.test_score)
    return {
        "mean_fit_time": _mean(counted.fit_time),
        "std_fit_time": _deviation(counted.fit_time),
        "mean_score_time": _mean(counted.score_time),
        "std_score_time": _deviation(counted.score_time),
        **{f"param_{k}": np.ma.array([pair[k] for pair in candidates]) for k in ("lam", "q")},
        "params": candidates,
        **{f"split{i}_test_score": fold for i, fold in enumerate(scores.test_score)},
        "mean_test_score": mean,
        "std_test_score": deviation,
        "rank_test_score": _ranks(mean),
        "mean_minimax_risk": _mean(counted.minimax_risk),
        "converged": (scores.converged == 1.0).all(axis=0),
    }


def _ranks(means: Array) -> Array:
    """Return ranks from 1 on. NaN ranks last."""
    return rankdata(-np.nan_to_num(means, nan=-np.inf), "min").astype(np.int32)


def joined(results: Sequence[Mapping[str, Any]], name: str, values: Sequence[float]) -> dict:
    """Join the results of searches that differ by one more parameter, on the same folds.

    Parameters
    ----------
    results : sequence of Mapping
        Each as `MGCEClassifierCV.cv_results_`.
    name : str
        The parameter by which the searches differ.
    values : sequence of float
        Its value in each search.

    Returns
    -------
    dict
        As `MGCEClassifierCV.cv_results_`, with the parameter as one more column.
    """
    whole = {
        key: np.ma.concatenate([part[key] for part in results])
        if key.startswith("param_")
        else np.concatenate([part[key] for part in results])
        for key in results[0]
        if key != "params"
    }
    sizes = [len(part["params"]) for part in results]
    whole[f"param_{name}"] = np.ma.array(np.repeat(values, sizes))
    pairs = zip(results, values, strict=True)
    whole["params"] = [
        {**params, name: value} for part, value in pairs for params in part["params"]
    ]
    whole["rank_test_score"] = _ranks(whole["mean_test_score"])
    return whole


def chosen(results: Mapping[str, Any], selection: str, n_folds: int) -> int:
    """Return the position in the results of the candidate that ``selection`` chooses."""
    best = int(results["rank_test_score"].argmin())
    if selection in LARGEST:
        return _largest_near(results, LARGEST[selection], best, n_folds)
    return best


def _mean(over_folds: Any) -> Array:
    """Return means over folds that count, NaN where there are none."""
    return over_folds.mean(axis=0).filled(np.nan)


def _deviation(over_folds: Any) -> Array:
    return over_folds.std(axis=0).filled(np.nan)


def _largest_near(results: Mapping, name: str, best: int, n_folds: int) -> int:
    """Return the position of a candidate within one standard error of the best score.

    It is the one with the largest parameter ``name``; among equal ones, with the best score.
    """
    mean = results["mean_test_score"]
    # The standard error divides squares by n (n - 1). The stored deviation has divided by n.
    error = results["std_test_score"][best] / np.sqrt(max(n_folds - 1, 1))
    near = mean >= mean[best] - error
    near[best] = True  # also where the score is NaN
    values = np.asarray(results[f"param_{name}"])
    largest = near & (values == values[near].max())
    return int(np.argmax(np.where(largest, mean, -np.inf)))
