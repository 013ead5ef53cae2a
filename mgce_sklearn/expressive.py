"""Nonlinear features for linear models: random hidden units, and thresholds of columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
)
from sklearn.kernel_approximation import RBFSampler
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_array, check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import constraints
from mgce_sklearn.arrays import on_host

Array = np.ndarray[Any, Any]

NUMBERS = [np.float64, np.float32]

# Also for the named maps. Twice as many take twice as long, for up to .01 more in accuracy
# (benchmarks/README.md).
N_COMPONENTS = 500


class RandomReLUFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""One hidden layer of rectified linear units with random weights.

    .. math::

        z_j(x) = \max(0, \langle w_j, x \rangle + b_j), \qquad
        (w_j, b_j) \text{ uniform on the unit sphere of } \mathbb{R}^{d + 1} .

    Columns of X should have comparable spreads around 0: standardize first. A linear model of many
    such features comes near any continuous function.

    Parameters
    ----------
    n_components : int, default=500
        Number of units.
    random_state : int, RandomState instance or None, default=None
        Draws the weights. With an int they are the same in every fit to the same number of columns.

    Attributes
    ----------
    directions_ : ndarray of shape (`n_features_in_`, n_components)
        Weights w, a column for each unit.
    biases_ : ndarray of shape (n_components,)
        Weights b.
    n_features_in_ : int
        Number of columns of X seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X had string column names.

    See Also
    --------
    sklearn.kernel_approximation.RBFSampler : Random Fourier features.

    Notes
    -----
    ``fit`` uses only the number of columns, and no labels. The features of n rows are
    n · ``n_components`` numbers, in the precision of X. Sparse X is not made dense.

    `MGCEClassifier` does not depend on the scale of the features, so only the direction of the
    weights matters. With directions uniform on the sphere, units bend at a distance of about
    :math:`1/\sqrt d` from 0, near the middle of standardized rows. That was better than bends
    anywhere among the rows (``benchmarks/README.md``). If labels are wrong, many features need a
    larger ``lam``.

    References
    ----------
    .. [1] A. Rahimi and B. Recht, "Weighted Sums of Random Kitchen Sinks", NeurIPS 2008.
    .. [2] Y. Cho and L. Saul, "Kernel Methods for Deep Learning", NeurIPS 2009.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mgce_sklearn import MGCEClassifier, RandomReLUFeatures
    >>> X, y = make_moons(500, noise=0.1, random_state=0)
    >>> hidden = make_pipeline(StandardScaler(), RandomReLUFeatures(50, random_state=0))
    >>> models = [MGCEClassifier(feature_map=each).fit(X, y) for each in (None, hidden)]
    >>> [round(model.score(X, y), 2) for model in models]
    [0.88, 1.0]
    """

    def __init__(self, n_components: int = N_COMPONENTS, *, random_state: Any = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> RandomReLUFeatures:
        """Draw the weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers. Only the number of columns is used.
        y : None
            Ignored.

        Returns
        -------
        RandomReLUFeatures
            The fitted transformer.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used.
        """
        constraints.COUNT.check("n_components", self.n_components)
        X = validate_data(self, X, accept_sparse="csr", dtype=NUMBERS)
        rng = check_random_state(self.random_state)
        weights = rng.standard_normal((X.shape[1] + 1, self.n_components))
        weights /= np.linalg.norm(weights, axis=0)
        self.directions_, self.biases_ = weights[:-1], weights[-1]
        return self

    def transform(self, X: Any) -> Array:
        """Compute the units' outputs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            float32 if X is, and otherwise float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=NUMBERS, reset=False)
        units = safe_sparse_dot(X, self.directions_.astype(X.dtype), dense_output=True)
        units += self.biases_.astype(X.dtype)
        return np.maximum(units, 0.0, out=units)

    @property
    def _n_features_out(self) -> int:
        return len(self.biases_)


class ThresholdFeatures(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Indicators of columns below thresholds that a decision tree of each column chooses.

    .. math::

        z_{jt}(x) = \mathbb{1}\{x_j \le t\}, \qquad t \in T_j ,

    where :math:`T_j` are the splits of a tree fitted to column j and the labels. A linear model of
    these features is a sum of step functions of the columns, as in minimax risk classifiers [1]_.

    Parameters
    ----------
    max_thresholds : int, default=7
        Largest number of thresholds of a column. The tree has up to one more leaf.
    min_samples_leaf : int, default=5
        Least number of rows in each leaf of a tree.

    Attributes
    ----------
    columns_ : ndarray of shape (n_features_out,)
        Position in X of the column of each feature, ascending.
    thresholds_ : ndarray of shape (n_features_out,)
        Threshold of each feature, in units of its column: the middle between two neighboring values
        of the sample. Ascending for each column.
    n_features_in_ : int
        Number of columns of X seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X had string column names.

    Notes
    -----
    The fit is deterministic. An increasing transformation of a column, such as a change of units,
    does not change the features of the rows seen in ``fit``. A constant column has no thresholds.
    Each column is sorted, which takes n log n steps.

    The thresholds depend on the labels. In a `MGCEClassifier` of these features, the uncertainty
    set is then about features that were chosen by the same labels. ``minimax_risk_`` and
    `error_bounds` hold for all distributions of the set. But the distribution of the data is in it
    less often than if features had been fixed beforehand. Widths that hold with a probability, such
    as "betting", and `confidence_bound` are not valid, unless the thresholds were chosen by other
    rows.

    References
    ----------
    .. [1] S. Mazuelas, A. Zanoni and A. Perez, "Minimax Classification with 0-1 Loss and
       Performance Guarantees", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import ThresholdFeatures
    >>> X, y = load_iris(return_X_y=True)
    >>> thresholds = ThresholdFeatures(max_thresholds=1).fit(X, y)
    >>> thresholds.get_feature_names_out().tolist()
    ['x0<=5.45', 'x1<=3.3499999999999996', 'x2<=2.45', 'x3<=0.8']
    >>> thresholds.transform(X[-1:])
    array([[0., 1., 0., 0.]])
    """

    def __init__(self, max_thresholds: int = 7, *, min_samples_leaf: int = 5) -> None:
        self.max_thresholds = max_thresholds
        self.min_samples_leaf = min_samples_leaf

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any) -> ThresholdFeatures:
        """Choose the thresholds.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite numbers.
        y : array-like of shape (n_samples,)
            Labels of any dtype.

        Returns
        -------
        ThresholdFeatures
            The fitted transformer.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used.
        """
        for name in ("max_thresholds", "min_samples_leaf"):
            constraints.COUNT.check(name, getattr(self, name))
        X, y = validate_data(self, X, y, dtype=NUMBERS)
        check_classification_targets(y)
        thresholds = [self._thresholds_of(column, y) for column in X.T]
        self.columns_ = np.repeat(np.arange(len(thresholds)), [len(t) for t in thresholds])
        self.thresholds_ = np.concatenate(thresholds)
        return self

    def _thresholds_of(self, column: Array, y: Array) -> Array:
        """Return where a tree of one column splits it, ascending."""
        # The tree is fitted to ranks, because it would round the values to float32.
        values, ranks = np.unique(column.astype(np.float64), return_inverse=True)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=self.max_thresholds + 1,
            min_samples_leaf=self.min_samples_leaf,
            random_state=0,  # it decides only the order of columns, and there is one
        )
        splits = tree.fit(ranks[:, np.newaxis], y).tree_
        below = np.sort(splits.threshold[splits.feature == 0]).astype(int)
        lower, upper = values[below], values[below + 1]
        middle = lower / 2 + upper / 2
        return np.where((lower <= middle) & (middle < upper), middle, lower)

    def transform(self, X: Any) -> Array:
        """Compute the indicators.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            0 and 1, as float32 if X is float32.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=NUMBERS, reset=False)
        return (X[:, self.columns_] <= self.thresholds_).astype(X.dtype)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return names such as "x0<=1.5".

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns. None: those seen in ``fit``, or x0, x1, ...

        Returns
        -------
        ndarray of str objects
        """
        columns = super().get_feature_names_out(input_features)[self.columns_]
        pairs = zip(columns, self.thresholds_.tolist(), strict=True)
        return np.array([f"{column}<={threshold}" for column, threshold in pairs], dtype=object)


def _standardized(dense: bool, features: Any) -> Pipeline:
    # Squares of numbers up to 1 do not overflow.
    return make_pipeline(MaxAbsScaler(), StandardScaler(with_mean=dense), features)


def _relu(dense: bool, random_state: Any) -> Any:
    return _standardized(dense, RandomReLUFeatures(N_COMPONENTS, random_state=random_state))


def _fourier(dense: bool, random_state: Any) -> Any:
    # "scale" is one over the number of columns that vary, once they are standardized.
    waves = RBFSampler(gamma="scale", n_components=N_COMPONENTS, random_state=random_state)
    return _standardized(dense, waves)


def _threshold(dense: bool, random_state: Any) -> Any:
    return ThresholdFeatures()


# Features to put beside the columns of X: functions that make them for dense or for sparse rows.
NAMED: dict[str, Callable[[bool, Any], Any]] = {
    "relu": _relu,
    "fourier": _fourier,
    "threshold": _threshold,
}


def named_map(name: str, X: Any, random_state: Any) -> Pipeline:
    """Return the map of a name in `NAMED` for rows such as X: their columns, then its features.

    For the features, dense rows are centered. Sparse rows are not, so that they stay sparse. So a
    map made for dense rows does not accept sparse ones.
    """
    dense = name == "threshold" or not sp.issparse(X)
    numbers = FunctionTransformer(
        _numbers, kw_args={"sparse": not dense}, feature_names_out="one-to-one"
    )
    beside = NAMED[name](dense, random_state)
    return make_pipeline(numbers, FeatureUnion([("columns", "passthrough"), (name, beside)]))


def _numbers(X: Any, sparse: bool) -> Any:
    """Return rows as a fit without a map would read them, with the same errors."""
    return check_array(
        on_host(X), accept_sparse="csr" if sparse else False, dtype=NUMBERS,
        estimator="MGCEClassifier", input_name="X",
    )  # fmt: skip
