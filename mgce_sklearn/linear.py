"""Linear margins: reads rows, and predicts from coefficients that were fitted to others.

`LinearMargins` is the part of `MGCEClassifier` that needs no labels: it checks X, computes the
margins W x + b, and turns them into classes and probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, wraps
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.metrics import accuracy_score
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import kernels, validation
from mgce_sklearn.arrays import (
    Array,
    decision_values,
    is_tensor,
    namespace,
    on_host,
    two_class_margins,
)
from mgce_sklearn.design import Design, centered_coefficients, products, raw_coefficients
from mgce_sklearn.feature_maps import apply_feature_map, fit_feature_map, len_of
from mgce_sklearn.row_blocks import RowBlock, RowBlocks, check_alone
from mgce_sklearn.targets import Distributions, read_labels
from mgce_sklearn.uncertainty import Moments, UncertaintySet

# Precisions of X that are not converted.
NUMBERS = [np.float64, np.float32]

# A column whose offset is more than so many of its standard deviations needs float64 coefficients:
# in float32 the rounding error of a margin would exceed 1e-5 of one standard deviation's share.
FAR = 100.0


def by_blocks(method: Any) -> Any:
    """Make a method of rows accept `RowBlocks`: it then yields the result of each block."""

    @wraps(method)
    def of_rows_or_blocks(self: Any, X: Any, base_margin: Any = None) -> Any:
        if not isinstance(X, RowBlocks):
            return method(self, X, base_margin)
        check_alone(base_margin=base_margin)
        check_is_fitted(self)
        each = _each_block(partial(method, self), self._check_columns, X)
        return (result for _, result in each)

    return of_rows_or_blocks


def _each_block(method: Any, check: Any, blocks: RowBlocks) -> Iterator[tuple[RowBlock, Any]]:
    """Yield each block with the method's result for its rows."""
    for block in blocks:
        check(block.X.shape[1], blocks.column_names)
        yield block, method(block)


class LinearMargins:
    """Predictions of a fitted linear model; `MGCEClassifier` adds the fit."""

    q: float
    feature_map: Any
    feature_map_: Any
    random_state: Any
    coef_: Any
    intercept_: Array
    classes_: Array
    uncertainty_set_: UncertaintySet
    n_features_in_: int
    _moments: Moments

    # Upper bound of the base classifier's expected loss; None if the fit had no base_margin.
    _base_ceiling: float | None

    def _read(
        self, X: Any, y: Any, reset: bool, known: Array | None = None
    ) -> tuple[Any, Array | Distributions]:
        """Return checked features and labels. ``reset`` fits the feature map, for training rows."""
        y = read_labels(y, known)
        certain = not isinstance(y, Distributions)
        if certain and self.feature_map is None and not is_tensor(X):
            return validate_data(self, X, y, accept_sparse="csr", dtype=NUMBERS, reset=reset)
        if certain:
            y = validation.check_tensor_labels(y, len_of(X))
        else:
            y.check_rows(len_of(X))
        if self.feature_map is not None and reset:
            labels = y if certain else y.most_probable()
            self.feature_map_ = fit_feature_map(self.feature_map, X, labels, self.random_state)
        return self._features(X, reset), y

    def _check_columns(self, n_features: int, names: Any) -> None:
        """Raise ValueError unless blocks have the columns of the fit, and their names if any."""
        if n_features != self.n_features_in_:
            raise ValueError(
                f"X must have the {self.n_features_in_} columns of the fit; got {n_features}."
            )
        known = getattr(self, "feature_names_in_", None)
        if known is not None and names is not None and list(known) != list(names):
            raise ValueError(
                f"X must have the columns of the fit in their order, {list(known)}; got "
                f"{list(names)}."
            )

    def _features(self, X: Any, reset: bool = False) -> Any:
        """Return checked features of rows: an ndarray, a CSR matrix or a tensor."""
        if isinstance(X, RowBlock):  # checked
            return X.X if self.feature_map is None else apply_feature_map(self.feature_map_, X.X)
        if self.feature_map is None and not is_tensor(X):
            return validate_data(self, X, accept_sparse="csr", dtype=NUMBERS, reset=reset)
        if self.feature_map is None:
            X = validation.check_tensor("X", X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X if self.feature_map is None else apply_feature_map(self.feature_map_, X)

    @property
    def _fitted_q(self) -> float:
        """q of the fit. The parameter may have been set since, the coefficients have not."""
        return getattr(self, "_q", float(self.q))

    def _dense_coef(self) -> Array:
        return self.coef_.toarray() if sp.issparse(self.coef_) else self.coef_

    def _coefficients(self, center: Array | float) -> Array:
        """Return the coefficients of x - center, (C, d), the intercepts last if there are any."""
        coef = np.asarray(self._dense_coef(), dtype=np.float64)
        if self._has_intercept():
            coef = np.column_stack([coef, self.intercept_])
        return centered_coefficients(coef, center)

    def _has_intercept(self) -> bool:
        """Tell whether the fit had an intercept. The parameter may have been set since."""
        return self.uncertainty_set_.tau.shape[1] > self.coef_.shape[1]

    def _keep_coefficients(self, coef: Array, design: Design, moments: Moments) -> None:
        """Store coefficients of x - center as those of x, in the precision of X if that suffices.

        float32 suffices if no coefficient leaves its normal range, and no column is `FAR` from 0.
        """
        self._precision = design.precision.name  # text, which skops trusts
        coef = raw_coefficients(coef, moments.center)
        size, limits = np.abs(coef[coef != 0.0]), np.finfo(design.precision)
        normal = (size >= limits.smallest_normal).all() and (size <= limits.max).all()
        suffices = normal and moments.offset() <= FAR
        self.coef_, self.intercept_ = design.split(
            coef.astype(design.precision if suffices else np.float64)
        )

    def summary(self) -> Any:
        r"""List coefficients and feature means by class and feature.

        For two classes there is one coefficient for each feature, the second class's less the
        first's, and so the rows are those of ``classes_[1]``.

        Returns
        -------
        DataFrame
            A row for each class and feature, the intercept last, with the index levels "class" and
            "feature" and the columns

            - "coef": W, the change of the margin when the feature grows by 1;
            - "effect": the change of the margin when it grows by one standard deviation of the
              training rows, which can be compared between features;
            - "mean": :math:`\tau`, the mean of :math:`1[y = k] \, (x - c)`, in units of the
              feature;
            - "half_width": by how much that mean may differ within the uncertainty set, in the
              same units.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from mgce_sklearn import MGCEClassifier
        >>> X, y = load_iris(return_X_y=True, as_frame=True)  # doctest: +SKIP
        >>> frame = MGCEClassifier().fit(X, y).summary()  # doctest: +SKIP
        >>> frame.loc[2, "effect"].abs().idxmax()  # doctest: +SKIP
        'petal width (cm)'
        """
        check_is_fitted(self)
        return self._summary(self._coefficient_names())

    def _summary(self, names: Any) -> Any:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "summary returns a pandas DataFrame, and pandas is not installed: pip install "
                "pandas, or read coef_ and uncertainty_set_."
            ) from error
        coef = np.asarray(self._dense_coef(), dtype=np.float64)
        if self._has_intercept():
            coef, names = np.column_stack([coef, self.intercept_]), [*names, "(intercept)"]
        index = pd.MultiIndex.from_product(
            [self.classes_[-len(coef) :], names], names=["class", "feature"]
        )
        of_coefficients = self.uncertainty_set_.of_coefficients()
        columns = {
            "coef": coef,
            "effect": coef * self._moments.spread(),
            "mean": of_coefficients.tau,
            "half_width": of_coefficients.half_width,
        }
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index)

    def _coefficient_names(self) -> list[str]:
        """Return a name for each column of ``coef_``."""
        n_columns = self.coef_.shape[1]
        tell = getattr(getattr(self, "feature_map_", None), "get_feature_names_out", None)
        if self.feature_map is not None and tell is not None:
            return list(tell())
        known = getattr(self, "feature_names_in_", None)
        if self.feature_map is None and known is not None:
            return list(known)
        return [f"x{i}" for i in range(n_columns)]

    def sparsify(self) -> Any:
        """Convert ``coef_`` to a sparse matrix, which predicts the same.

        It takes less memory where most coefficients are 0, as they are at a large ``lam``. Call it
        after `fit`.

        Returns
        -------
        self
            The fitted estimator.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from mgce_sklearn import MGCEClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> model = MGCEClassifier(lam=3.0).fit(X, y).sparsify()
        >>> model.coef_.nnz < model.coef_.shape[0] * model.coef_.shape[1] / 2
        True
        """
        check_is_fitted(self)
        self.coef_ = sp.csr_matrix(self.coef_)
        return self

    def densify(self) -> Any:
        """Convert ``coef_`` back to an array, as `fit` returns it.

        Returns
        -------
        self
            The fitted estimator.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from mgce_sklearn import MGCEClassifier
        >>> model = MGCEClassifier().fit(*load_iris(return_X_y=True)).sparsify()
        >>> type(model.densify().coef_).__name__
        'ndarray'
        """
        check_is_fitted(self)
        self.coef_ = self._dense_coef()
        return self

    def _margins(self, X: Any, base_margin: Any = None) -> Array:
        """Return margins (n, K) in column order, which the kernels read without a copy."""
        X = self._checked(X)
        return self._with_base(base_margin, self._margins_of(X))

    def _with_base(self, base_margin: Any, margins: Array) -> Array:
        """Return margins (n, K) plus those of the base, if the fit had one."""
        self._check_based(base_margin)
        if base_margin is None:
            return margins
        base = validation.check_base_margin(base_margin, len(margins), len(self.classes_))
        if not is_tensor(margins):
            return np.asfortranarray(base) + margins
        arrays = namespace(margins)
        return margins + arrays.as_tensor(base, dtype=margins.dtype, device=margins.device)

    def _check_based(self, base_margin: Any) -> None:
        """Raise ValueError unless ``base_margin`` is given exactly if the fit had one."""
        has_base = self._base_ceiling is not None
        if has_base and base_margin is None:
            raise ValueError(
                "base_margin must be given, since the fit had one; got None. Give the base "
                "classifier's margins of these rows."
            )
        if not has_base and base_margin is not None:
            raise ValueError(
                "base_margin must be None, since the fit had none. Leave it out, or fit with the "
                "base classifier's margins."
            )

    def _checked(self, X: Any) -> Any:
        """Return the checked features of rows to predict."""
        check_is_fitted(self)
        return self._features(X)

    def _margins_of(self, X: Any) -> Array:
        """Return the linear margins (n, K) of checked features."""
        if is_tensor(X):
            return self._tensor_margins_of(X)
        if sp.issparse(self.coef_):
            scores = safe_sparse_dot(X, self.coef_.T, dense_output=True).T
        else:
            scores = products(X, self.coef_).T
        scores = scores + self.intercept_[:, np.newaxis]
        return (two_class_margins(scores[0], 0) if len(self.classes_) == 2 else scores).T

    def _tensor_margins_of(self, X: Any) -> Any:
        arrays = namespace(X)
        if self.coef_.dtype == np.float64:  # also of float32 rows, if they are `FAR` from 0
            X = X.double()
        coef, intercept = (
            arrays.as_tensor(part, dtype=X.dtype, device=X.device)
            for part in (self._dense_coef(), self.intercept_)
        )
        scores = X @ coef.T + intercept
        return two_class_margins(scores[:, 0], 1) if len(self.classes_) == 2 else scores

    @by_blocks
    def decision_function(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the margins of rows, including those of the base.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray or Tensor of shape (n_samples,) or (n_samples, n_classes)
            For two classes the margin of ``classes_[1]`` less that of ``classes_[0]``.
            For `RowBlocks` an iterator with an array for each block.
        """
        values = decision_values(self._margins(X, base_margin))
        return values if is_tensor(values) else np.ascontiguousarray(values)

    @by_blocks
    def predict(self, X: Any, base_margin: Any = None) -> Array:
        """Predict the class of largest margin, which is the most probable one.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples,)
            Class labels. For `RowBlocks` an iterator with an array for each block.
        """
        best = self._margins(X, base_margin).argmax(axis=1)
        return self.classes_[on_host(best)]

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, base_margin: Any = None
    ) -> float:
        """Compute the accuracy of `predict`; for labels that are distributions, its expectation.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict. `RowBlocks` bring their labels and weights.
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            True labels, or distributions over the classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        float
            Share of correct predictions, in [0, 1].
        """
        if isinstance(X, RowBlocks):
            return self._score_of_blocks(X, y, sample_weight, base_margin)
        labels = read_labels(y, getattr(self, "classes_", None))
        predicted = self.predict(X, base_margin)
        if not isinstance(labels, Distributions):
            return accuracy_score(on_host(y), predicted, sample_weight=sample_weight)
        labels.check_rows(len(predicted))
        return labels.expected_accuracy(predicted, sample_weight)

    def _score_of_blocks(
        self, blocks: RowBlocks, y: Any, sample_weight: Any, base_margin: Any
    ) -> float:
        check_alone(y=y, sample_weight=sample_weight, base_margin=base_margin)
        check_is_fitted(self)
        right = total = 0.0
        for block, predicted in _each_block(self.predict, self._check_columns, blocks):
            if block.y is None:
                raise ValueError("X must have labels to score; these blocks have none.")
            if (block.y.dtype.kind in "US") != (self.classes_.dtype.kind in "USO"):
                raise ValueError(
                    f"X must have labels of the kind of the fit, {self.classes_.dtype}; these "
                    f"blocks have {block.y.dtype}."
                )
            ones = np.ones(len(predicted))
            weight = ones if block.sample_weight is None else block.sample_weight
            right += float(weight @ (predicted == block.y))
            total += float(weight.sum())
        if total == 0.0:
            raise ValueError("X must have rows of positive weight to score; all weights are 0.")
        return right / total

    @by_blocks
    def predict_proba(self, X: Any, base_margin: Any = None) -> Array:
        r"""Compute probabilities: the minimax rule h.

        .. math:: h_k = (1 + q (m_k - \psi(m)))_+^{1/q}

        of margins m, the softmax for q = 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            Probabilities in [0, 1]. For q > 0 they may be exactly 0.
            For `RowBlocks` an iterator with an array for each block.
        """
        return self.margins_to_proba(self._margins(X, base_margin))

    def margins_to_proba(self, margins: Any) -> Array:
        r"""Compute probabilities from margins: the link function of `predict_proba`.

        `mgce_sklearn.calibration` rescales margins, and computes probabilities by this method.

        Parameters
        ----------
        margins : array-like or Tensor of shape (n_samples, n_classes) or (n_samples,)
            As `decision_function` returns them: a vector for two classes.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            :math:`h_k = (1 + q (m_k - \psi(m)))_+^{1/q}`.

        Raises
        ------
        TypeError, ValueError
            If the shape is another, or margins contain NaN or +inf. For an array the message names
            the first such row.
        """
        check_is_fitted(self)
        if not is_tensor(margins):
            margins = validation.check_margins(margins, len(self.classes_))
            return kernels.rule(margins, self._fitted_q)
        from mgce_sklearn.tensors.link import mgce_proba

        if margins.dim() == 1 and len(self.classes_) == 2:
            margins = two_class_margins(margins, 1)
        validation.check_columns(margins, len(self.classes_))
        return mgce_proba(margins, self._fitted_q)

    @by_blocks
    def predict_log_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the logarithm of `predict_proba`; -inf where it is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            For `RowBlocks` an iterator with an array for each block.
        """
        proba = self.predict_proba(X, base_margin)
        with np.errstate(divide="ignore"):
            return namespace(proba).log(proba)

    @by_blocks
    def predict_worst_case_proba(self, X: Any, base_margin: Any = None) -> Array:
        r"""Compute the worst-case distribution of labels, :math:`p^*_k \propto h_k^{1-q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows to predict.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            Probabilities, 0 where `predict_proba` is 0, and equal elsewhere if q = 1.
            For `RowBlocks` an iterator with an array for each block.
        """
        margins, q = self._margins(X, base_margin), self._fitted_q
        if not is_tensor(margins):
            return kernels.worst_case(margins, q)
        from mgce_sklearn.tensors.link import mgce_worst_case

        return mgce_worst_case(margins, q)
