"""The fitted minimax classifier within a pipeline or a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

Array = np.ndarray[Any, Any]


def chosen(estimator: Any) -> Any:
    """Return what a search has fitted to all rows, and any other estimator as it is."""
    return getattr(estimator, "best_estimator_", estimator)


def last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, and any other estimator as it is."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def classifier_of(estimator: Any, attribute: str) -> Any:
    """Return the fitted classifier that ends a search or a pipeline.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If it lacks an attribute that fits of `MGCEClassifier` have.
    """
    model = last_step(chosen(estimator))
    check_is_fitted(model)
    if not hasattr(model, attribute):
        raise TypeError(
            f"estimator must be a fitted MGCEClassifier, or a pipeline or search that ends in one, "
            f"with {attribute}; got {type(model).__name__}, which has none."
        )
    return model


def rows_for_last_step(estimator: Any, X: Any) -> Any:
    """Return rows as the last step of a pipeline takes them."""
    model = chosen(estimator)
    return model[:-1].transform(X) if isinstance(model, Pipeline) and len(model) > 1 else X


def as_list(estimator: Any) -> list[Any]:
    """Return the estimators of a sequence, or the one estimator, as a list.

    Raises
    ------
    ValueError
        If there is none.
    """
    several = isinstance(estimator, Sequence) and not isinstance(estimator, Pipeline)
    models = list(estimator) if several else [estimator]
    if not models:
        raise ValueError("estimator must be one fitted estimator or several; got an empty list.")
    return models


def varied(models: Sequence[Any]) -> str | None:
    """Return which parameter several models differ by, lam or q; None for a single model.

    Raises
    ------
    ValueError
        If it is neither or both, or if two models share a value.
    """
    if len(models) == 1:
        return None
    values = {name: [getattr(model, name) for model in models] for name in ("lam", "q")}
    differing = [name for name, given in values.items() if len(set(given)) > 1]
    if len(differing) != 1 or len(set(values[differing[0]])) < len(models):
        raise ValueError(
            "Several estimators must differ by lam or by q, one of them, each with a value of its "
            f"own; got lam={values['lam']} and q={values['q']}."
        )
    return differing[0]
