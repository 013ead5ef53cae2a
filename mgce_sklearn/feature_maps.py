"""Feature maps: they transform X before the linear model.

A transformer of scikit-learn, or a map given by its name, is fitted together with the model.
Networks and functions are used as they are, and applied to some rows at a time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_array

from mgce_sklearn.arrays import Array, is_tensor, namespace
from mgce_sklearn.constraints import Constraint
from mgce_sklearn.expressive import NAMED, named_map
from mgce_sklearn.validation import check_tensor

FEATURE_MAP = Constraint(
    (object,),
    lambda value: (
        value in NAMED
        if isinstance(value, str)
        else not isinstance(value, type)
        and (value is None or callable(value) or hasattr(value, "transform"))
    ),
    f"{', '.join(map(repr, NAMED))}, a transformer, a torch.nn.Module, a function of rows, or "
    "None; an instance, not a class",
)

# Number of rows for one call of a network or a function.
ROWS_AT_A_TIME = 4096

# Held while a network is in evaluation mode.
_MODES = threading.RLock()


def is_named(feature_map: Any) -> bool:
    """Tell whether a map is given by its name."""
    return isinstance(feature_map, str)


def learns(feature_map: Any) -> bool:
    """Tell whether a map is fitted with the model."""
    return is_named(feature_map) or hasattr(feature_map, "transform")


def fit_feature_map(feature_map: Any, X: Any, y: Any, random_state: Any) -> Any:
    """Return the map to use: fitted, if it is a transformer's clone or has a name."""
    if not learns(feature_map):
        return feature_map
    named = is_named(feature_map)
    return (named_map(feature_map, X, random_state) if named else clone(feature_map)).fit(X, y)


def apply_feature_map(feature_map: Any, X: Any) -> Any:
    """Return the features of rows: an ndarray, a CSR matrix, or a tensor on a network's device.

    Raises
    ------
    TypeError, ValueError
        If they are not an array of one number for every row and feature.
    """
    if hasattr(feature_map, "transform"):
        features = feature_map.transform(X)
    elif _is_module(feature_map):
        features = _of_network(feature_map, X)
    else:
        features = _in_batches(feature_map, X)
    if is_tensor(features):
        features = check_tensor("features from feature_map", features)
    else:
        features = check_array(
            features, accept_sparse="csr", dtype=[np.float64, np.float32],
            input_name="features from feature_map",
        )  # fmt: skip
    if features.shape[0] != len_of(X):
        raise ValueError(
            f"feature_map must return a row for each row of X, {len_of(X)}; got "
            f"{features.shape[0]}."
        )
    return features


def len_of(X: Any) -> int:
    """Return the number of rows of an array, a frame, a sparse matrix or a list."""
    return X.shape[0] if hasattr(X, "shape") else len(X)


def rows_of(X: Any, rows: Array) -> Any:
    """Return some rows, by position, of an array, a frame, a CSR matrix, a tensor or a list."""
    if hasattr(X, "shape"):
        return X.iloc[rows] if hasattr(X, "iloc") else X[rows]
    return [X[row] for row in rows]


class KeptFeatures:
    """A fitted feature map that stores the features of rows which many models predict.

    Parameters
    ----------
    feature_map : object
    X : rows
        Their features are computed once, at the first call of `transform`.
    """

    def __init__(self, feature_map: Any, X: Any) -> None:
        self.feature_map = feature_map
        self._rows, self._kept = X, None

    def transform(self, X: Any) -> Any:
        """Return the features of rows."""
        if X is not self._rows:
            return apply_feature_map(self.feature_map, X)
        if self._kept is None:
            self._kept = apply_feature_map(self.feature_map, X)
        return self._kept

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the map: a scorer may read it."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.feature_map, name)


def _is_module(feature_map: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(feature_map, torch.nn.Module)


def _in_batches(function: Callable[[Any], Any], X: Any) -> Any:
    X = X if hasattr(X, "shape") else np.asarray(X)
    rows = X.iloc if hasattr(X, "iloc") else X
    n_rows = X.shape[0]
    starts = range(0, max(n_rows, 1), ROWS_AT_A_TIME)
    with _without_gradients():
        parts = [function(rows[start : start + ROWS_AT_A_TIME]) for start in starts]
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concatenate(parts)


def _of_network(network: Any, X: Any) -> Any:
    """Return the network's outputs, computed where its parameters are, in evaluation mode."""
    torch = sys.modules["torch"]
    own = next(iter([*network.parameters(), *network.buffers()]), None)

    def outputs(rows: Any) -> Any:
        rows = rows if is_tensor(rows) else torch.as_tensor(np.asarray(rows))
        if own is not None:
            # Integers are not converted: an embedding needs them.
            dtype = own.dtype if rows.is_floating_point() else rows.dtype
            rows = rows.to(own.device, dtype)
        features = network(rows)
        if not is_tensor(features):
            raise TypeError(
                f"feature_map must return a tensor; got {type(features).__name__}. Give a function "
                "that takes the features out of it."
            )
        return features.flatten(start_dim=1) if features.dim() > 2 else features

    with _evaluating(network):
        return _in_batches(outputs, X)


def _without_gradients() -> AbstractContextManager[Any]:
    """Record no gradients of networks inside a function, if torch is loaded."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.no_grad()


@contextmanager
def _evaluating(network: Any) -> Iterator[None]:
    """Switch to evaluation mode, without dropout and the like, and restore all modes at the end.

    Only one thread at a time does so. Otherwise the first one to end would switch dropout on for
    the others.
    """
    with _MODES:
        before = {part: part.training for part in network.modules()}
        network.eval()
        try:
            yield
        finally:
            for part, training in before.items():
                part.training = training
