"""What calibration reads from a classifier: its link, its noise matrix, and whether it is weighted.

In pipelines and searches these are those of the final classifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from mgce_sklearn.calibration.temperature import Link

Array = np.ndarray[Any, Any]


def link_of(estimator: Any) -> Link:
    """Return the function from margins (n, K) to probabilities that a fitted classifier uses."""
    links = (getattr(each, "margins_to_proba", None) for each in _to_final(estimator))
    return next(filter(None, links), partial(softmax, axis=1))


def knows_noise(estimator: Any) -> bool:
    """Return whether a fitted classifier has a noise matrix."""
    matrices = (getattr(each, "noise_matrix", None) for each in _to_final(estimator))
    return any(matrix is not None for matrix in matrices)


def _to_final(estimator: Any) -> Iterator[Any]:
    """Yield a fitted classifier, then the ones inside it, down to the final classifier."""
    while estimator is not None:
        yield estimator
        if isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            estimator = getattr(estimator, "best_estimator_", None)


def weight_parameter(estimator: Any, weights: Array) -> dict[str, Array]:
    """Return the weights by the name that the classifier's ``fit`` has for them.

    Warns
    -----
    UserWarning
        If ``fit`` takes no weights; then there is no such name.
    """
    if isinstance(estimator, FrozenEstimator):
        return {}
    # With metadata routing users request weights themselves.
    routed = get_config()["enable_metadata_routing"]
    name = "sample_weight" if routed else _weight_name(estimator)
    if name is None:
        warnings.warn(
            f"{type(estimator).__name__} takes no sample_weight in fit, so the weights are used "
            "for the calibration alone. If a step inside takes weights, enable metadata routing.",
            UserWarning,
            stacklevel=4,
        )
        return {}
    return {name: weights}


def _weight_name(estimator: Any) -> str | None:
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        name = _weight_name(last)
        return name and f"{step}__{name}"
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        return _weight_name(estimator.estimator)
    return None
