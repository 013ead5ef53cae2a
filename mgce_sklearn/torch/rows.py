"""Checks of the rows, labels and weights that a network is given.

X may be an array, a tensor, a mapping of these, or a data set. skorch passes nothing but X and y to
its batches, so rows that have weights travel as a mapping of the rows and their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from skorch.dataset import get_len
from skorch.utils import data_from_dataset, is_dataset
from torch import Tensor

from mgce_sklearn import validation
from mgce_sklearn.torch.batches import take

Array = np.ndarray[Any, Any]

# Keys of the mapping of rows that have weights.
ROWS, WEIGHTS = "rows of MGCENetClassifier", "weights of MGCENetClassifier"

NO_ROWS = "X must have rows; got none."


def with_weights(X: Any, sample_weight: Array | None) -> Any:
    """Return the mapping of rows and their weights; the rows alone if there are no weights."""
    return X if sample_weight is None else {ROWS: X, WEIGHTS: sample_weight}


def without_weights(X: Any) -> Any:
    """Return the rows of what `with_weights` returns."""
    return X[ROWS] if isinstance(X, Mapping) and ROWS in X else X


def weights_of(X: Any) -> Any:
    """Return the weights of what `with_weights` returns, None if there are none."""
    return X[WEIGHTS] if isinstance(X, Mapping) and WEIGHTS in X else None


def check_rows(
    net: Any, X: Any, y: Any, sample_weight: Any, known: Array | None, reset: bool
) -> tuple[Any, Array, Array | None, Array | None]:
    """Return features, labels or distributions, weights or None, and classes if they are known.

    Rows of weight 0 are left out of all of them.

    Parameters
    ----------
    net : estimator
        Its ``noise_matrix`` is read. Its ``n_features_in_`` and ``feature_names_in_`` are set or
        compared, see `check_features`.
    X, y, sample_weight : object
        As `MGCENetClassifier.fit` takes them.
    known : ndarray of shape (K,), or None
        Classes that are known beforehand.
    reset : bool
        Whether the network forgets the features of an earlier fit.

    Raises
    ------
    TypeError, ValueError
        If X, y or the weights cannot be used, or do not belong together.
    """
    X = check_features(net, X, reset or not hasattr(net, "n_features_in_"))
    y, classes = check_target(X, y, known)
    if y.ndim == 2 and net.noise_matrix is not None:
        raise ValueError(
            "y must be labels if noise_matrix is given: the matrix is about labels, not about "
            f"distributions; got shape {y.shape}. Drop one of the two."
        )
    n_rows = get_len(X)
    if n_rows == 0:
        raise ValueError(NO_ROWS)
    if len(y) != n_rows:
        raise ValueError(
            f"y must have a label for each row of X, {n_rows} of them; got {len(y)}. "
            "Found input variables with inconsistent numbers of samples."
        )
    if sample_weight is None:
        return X, y, None, classes
    if is_dataset(X):
        raise ValueError(
            "sample_weight must be None if X is a Dataset, because the batches of a Dataset have "
            "no place for weights. Give X as arrays or tensors."
        )
    weights = validation.check_sample_weight(sample_weight, n_rows)
    used = np.flatnonzero(weights)
    if len(used) < n_rows:
        X, y, weights = take(X, used), y[used], weights[used]
    return X, y, weights, classes


def check_features(net: Any, X: Any, reset: bool) -> Any:
    """Return X, checked: a finite float array if it is array-like, otherwise as it is.

    Mappings and data sets are not looked into. ``reset`` sets ``n_features_in_`` and
    ``feature_names_in_`` of the network; without it, X is compared with them.
    """
    if reset:
        for name in ("n_features_in_", "feature_names_in_"):
            vars(net).pop(name, None)
    if is_dataset(X) or (isinstance(X, Mapping) and not sp.issparse(X)):
        return X
    if isinstance(X, Tensor):
        return _check_tensor(net, X, reset)
    kind = {"dtype": [np.float64, np.float32], "allow_nd": True}
    if not (reset or hasattr(net, "n_features_in_")):  # the fit had a mapping or a data set
        return check_array(X, **kind)
    return validate_data(net, X, reset=reset, **kind)


def _check_tensor(net: Any, X: Tensor, reset: bool) -> Tensor:
    if X.layout != torch.strided:
        raise TypeError(f"X must be dense; got {X.layout}. Try X.to_dense().")
    if X.dim() < 2 or len(X) == 0:
        raise ValueError(f"X must have rows, and at least two dimensions; got {tuple(X.shape)}.")
    if not bool(torch.isfinite(X).all()):
        raise ValueError("X must be finite; got NaN or inf. Try a SimpleImputer.")
    if reset:
        net.n_features_in_ = X.shape[1]
    elif X.shape[1] != getattr(net, "n_features_in_", X.shape[1]):
        raise ValueError(
            f"X must have the {net.n_features_in_} features of the fit; got {X.shape[1]}."
        )
    return X


def check_target(X: Any, y: Any, known: Array | None) -> tuple[Array, Array | None]:
    """Return labels (n,) or distributions (n, K), and all classes if they are known.

    If y is None, the labels are those of X, which must be a data set. The classes are None if only
    the labels in y tell them.
    """
    if y is None and is_dataset(X):
        y = _target_of(X)
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    if validation.has_columns(y):
        return validation.check_soft_labels("y", y, known)
    return validation.check_label_array("y", y, warn=True)[0], known


def _target_of(dataset: Any) -> Any:
    """Return the labels of a data set: its attribute ``targets``, or what skorch finds."""
    targets = getattr(dataset, "targets", None)
    if targets is not None:
        return targets
    try:
        return data_from_dataset(dataset)[1]
    except AttributeError:
        raise ValueError(
            "y must be given if X is a Dataset without an attribute targets or y. Pass the labels "
            "of its rows as y."
        ) from None
