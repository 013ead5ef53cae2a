"""MGCEBoostingClassifier: LightGBM's trees with the MGCE loss. It needs the extra `boosting`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from lightgbm import LGBMClassifier, early_stopping
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import constraints, kernels, validation
from mgce_sklearn.arrays import two_class_margins
from mgce_sklearn.kernels.link import subtract_labels
from mgce_sklearn.problem import class_factors

Array = np.ndarray[Any, Any]

# Number of rounds if no LGBMClassifier is given. Early stopping ends most fits sooner.
N_ROUNDS = 1000

METRIC = "loss of the rule"

PARAMETERS = {
    "q": constraints.LOSS_PARAMETER,
    "validation_fraction": constraints.Constraint(
        (Real,), lambda share: 0 < share <= 0.5, "a fraction in (0, 0.5] (try 0.1)"
    ),
    "n_iter_no_change": constraints.Constraint(
        (Integral, type(None)),
        lambda rounds: rounds is None or rounds >= 1,
        "a positive integer, or None for no early stopping",
    ),
}


@dataclass(frozen=True)
class ScoreLoss:
    """The loss of raw scores, in the form that LightGBM takes.

    Scores are margins (n, K). For two classes they are a vector d (n,), which stands for margins
    (0, d).

    Parameters
    ----------
    q : float
        Loss parameter in [0, 1].
    """

    q: float

    def gradient_and_hessian(
        self, labels: Array, scores: Array, weight: Array | None
    ) -> tuple[Array, Array]:
        """Return the weighted p* - onehot(y), and constants in place of second derivatives.

        Second derivatives of psi are 0 inside the support at q = 1, and unbounded at its edge for
        q > 1/2, so no step can be scaled by them. With the constant 1, the value of a leaf is the
        learning rate times the mean of its residuals. For two classes the constant is 1/2, because
        d moves by the steps of both margins.
        """
        _, residuals = self._rows(labels, scores)
        curvature = 1.0
        if scores.ndim == 1:
            residuals, curvature = residuals[:, 1], 0.5
        weight = np.ones(len(labels)) if weight is None else weight
        weight = weight.reshape(-1, *[1] * (scores.ndim - 1))
        return weight * residuals, np.broadcast_to(curvature * weight, scores.shape)

    def of_rule(
        self, labels: Array, scores: Array, weight: Array | None
    ) -> tuple[str, float, bool]:
        """Return a name, the mean of (1 - h_y^q)/q, and False because larger is not better.

        Since h_y^q = (1 + q (m_y - psi))_+, this is the loss psi - m_y, but at most 1/q.
        """
        largest = 1.0 / self.q if self.q > 0.0 else np.inf
        loss = np.minimum(self._rows(labels, scores)[0], largest)
        return METRIC, float(np.average(loss, weights=weight)), False

    def _rows(self, labels: Array, scores: Array) -> tuple[Array, Array]:
        """Return the loss (n,) and its gradient (n, K)."""
        margins = as_margins(scores)
        loss, residuals = kernels.threshold_and_worst_case(margins, self.q)
        subtract_labels(margins, labels.astype(np.int64), loss, residuals)
        return loss, residuals


def as_margins(scores: Array) -> Array:
    """Return margins (n, K) from raw scores. For two classes these are a vector."""
    if scores.ndim == 1:
        scores = two_class_margins(scores, 1)
    return np.ascontiguousarray(scores, dtype=np.float64)


class LabeledRows(NamedTuple):
    """Rows, the positions of their classes, and their weights."""

    X: Any
    codes: Array
    weight: Array


class MGCEBoostingClassifier(ClassifierMixin, BaseEstimator):
    r"""Gradient boosted trees of LightGBM, trained by minimax generalized cross-entropy.

    .. math::

        \min_m \; \operatorname{mean}_i \psi(m(x_i)) - m_{y_i}(x_i),
        \qquad \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1,

    over margins m(x) that are sums of trees. Every round adds a tree for each class, or for two
    classes one tree for the difference of the margins. Trees are fitted to the residuals
    :math:`\text{onehot}(y) - p^*`. The fit ends when the mean of :math:`(1 - h_y^q)/q` over
    held-out rows stops falling. Labels of held-out rows may be wrong, too: none adds more than 1/q.

    Parameters
    ----------
    estimator : LGBMClassifier or None, default=None
        The trees: their number, size, learning rate and all other parameters of LightGBM, except
        ``objective``. It is cloned, and fitted to labels 0 to K - 1. None: at most 1000 rounds, and
        otherwise LightGBM's defaults. If many labels are wrong, leaves with more rows work better:
        try ``min_child_samples=60``.
    q : float, default=0.7
        Loss parameter in [0, 1]. Larger values resist wrong labels more.
    class_weight : dict, "balanced" or None, default=None
        Factor of each class on the weights of its rows, as in `MGCEClassifier`.
    validation_fraction : float, default=0.1
        Share of the rows, in (0, 0.5], that `fit` holds out for early stopping, stratified by
        class, with at least one row of each class. Ignored if `fit` is given ``X_val``.
    n_iter_no_change : int or None, default=25
        The fit ends after this many rounds without a smaller loss. Predictions use the rounds up
        to the best one. None: no early stopping, and no rows are held out.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of held-out rows, and of the default trees.

    Attributes
    ----------
    estimator_ : LGBMClassifier
        The fitted trees. Its ``predict_proba`` does not belong to this loss: do not use it.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_iter_ : int
        Number of rounds that predictions use.
    validation_loss_ : ndarray of shape (n_rounds,)
        Mean of :math:`(1 - h_y^q)/q` over held-out rows after each round. Empty if no rows were
        held out.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X had string column names.

    Notes
    -----
    Use this classifier if labels are wrong. If all labels are correct, LightGBM's own cross-entropy
    has better probabilities.

    There is no ``minimax_risk_``. An uncertainty set is about the means of fixed features, and
    trees are not fixed features. So this classifier has the loss of the minimax classifiers, but
    not their bounds.

    LightGBM divides by second derivatives of the loss. Here they are replaced by a constant, 1 for
    each margin, because the curvature of the loss is 0 almost everywhere at q = 1, and unbounded
    for q > 1/2. So ``min_child_weight`` is a sum of row weights (half of it for two classes), and
    ``learning_rate`` is the length of a step in units of margins. In these units, the rule gives
    probability 1 to a class whose margin is 1/q above the others.

    Examples
    --------
    >>> from lightgbm import LGBMClassifier
    >>> from sklearn.datasets import load_digits
    >>> from mgce_sklearn.boosting import MGCEBoostingClassifier
    >>> from mgce_sklearn.label_noise import symmetric_noise
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = symmetric_noise(y[:1200], 0.4, random_state=0)
    >>> trees = LGBMClassifier(min_child_samples=60, n_jobs=1, verbosity=-1)
    >>> model = MGCEBoostingClassifier(trees, random_state=0).fit(X[:1200], noisy)
    >>> print(f"{model.score(X[1200:], y[1200:]):.2f}")
    0.85
    """

    def __init__(
        self,
        estimator: Any = None,
        q: float = 0.7,
        *,
        class_weight: Any = None,
        validation_fraction: float = 0.1,
        n_iter_no_change: Any = 25,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.q = q
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self._base()).input_tags
        return tags

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MGCEBoostingClassifier:
        """Grow trees until the loss of held-out rows stops falling.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Anything that LightGBM takes, including missing values and categories of a frame.
        y : array-like of shape (n_samples,)
            Labels of any dtype, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        X_val : {array-like, sparse matrix, frame} of shape (n_held_out, n_features), default=None
            Held-out rows for early stopping. None: a share of X, see ``validation_fraction``.
        y_val : array-like of shape (n_held_out,), default=None
            Labels of ``X_val``. All of them must occur in y.
        sample_weight_val : array-like of shape (n_held_out,), default=None
            Weights of ``X_val``.

        Returns
        -------
        MGCEBoostingClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be used. The estimator stays as it was.

        Warns
        -----
        UserWarning
            If no tree could be split.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, sample_weight_val: Any
    ) -> MGCEBoostingClassifier:
        constraints.check_all(vars(self), PARAMETERS)
        base = self._checked_base()
        _check_pair(X_val, y_val, sample_weight_val, self.n_iter_no_change)
        y, self.classes_ = validation.check_label_array("y", y, warn=True)
        rows = self._labeled(X, y, sample_weight, "sample_weight", reset=True)
        totals = np.bincount(rows.codes, rows.weight)
        validation.check_several(self.classes_[totals > 0.0])
        factors = class_factors(self.class_weight, self.classes_, totals)
        held_out = None
        if X_val is not None:
            y_val = validation.check_label_array("y_val", y_val, warn=True)[0]
            held_out = self._labeled(X_val, y_val, sample_weight_val, "sample_weight_val", False)
        elif self.n_iter_no_change is not None:
            rows, held_out = self._split(rows)
        return self._grow(base, rows, held_out, factors)

    def _labeled(self, X: Any, y: Array, weight: Any, name: str, reset: bool) -> LabeledRows:
        """Return labeled rows, checked."""
        X = self._read(X, reset)
        check_consistent_length(X, y)
        codes = validation.check_labels(y, self.classes_)
        return LabeledRows(X, codes, validation.check_sample_weight(weight, len(y), name))

    def _read(self, X: Any, reset: bool) -> Any:
        """Return rows, checked. Frames stay as they are, since LightGBM reads their categories."""
        return validate_data(
            self, X, reset=reset, skip_check_array=hasattr(X, "columns"),
            accept_sparse=("csr", "csc"), ensure_all_finite=False,
        )  # fmt: skip

    def _split(self, rows: LabeledRows) -> tuple[LabeledRows, LabeledRows]:
        """Return the rows to learn from and those held out."""
        counts = np.bincount(rows.codes)
        if counts.min() < 2:
            raise ValueError(
                "y must have at least 2 rows of every class, as one is held out; got 1 of "
                f"{self.classes_[counts < 2].tolist()[0]!r}. Give X_val and y_val, or set "
                "n_iter_no_change=None."
            )
        parts = train_test_split(
            *rows, stratify=rows.codes, random_state=check_random_state(self.random_state),
            test_size=max(ceil(self.validation_fraction * len(rows.codes)), len(counts)),
        )  # fmt: skip
        learned_from, held_out = LabeledRows(*parts[::2]), LabeledRows(*parts[1::2])
        validation.check_sample_weight(
            held_out.weight, len(held_out.codes), "sample_weight of the held-out rows"
        )
        return learned_from, held_out

    def _grow(
        self, base: Any, rows: LabeledRows, held_out: LabeledRows | None, factors: Array
    ) -> MGCEBoostingClassifier:
        loss = ScoreLoss(float(self.q))
        options: dict[str, Any] = {}
        if held_out is not None:
            options = {
                "eval_X": held_out.X, "eval_y": held_out.codes, "eval_metric": loss.of_rule,
                "eval_sample_weight": [factors[held_out.codes] * held_out.weight],
                "callbacks": [early_stopping(self.n_iter_no_change, verbose=False)],
            }  # fmt: skip
        trees = clone(base).set_params(
            objective=loss.gradient_and_hessian, metric="None", feature_pre_filter=False
        )
        trees.fit(rows.X, rows.codes, factors[rows.codes] * rows.weight, **options)
        if not trees.booster_.feature_importance().any():
            warnings.warn(
                "No tree could be split, so all margins are 0. LightGBM needs "
                f"min_child_samples={trees.min_child_samples} rows in every leaf. Try a smaller "
                "number, or check whether features have different values.",
                UserWarning,
                stacklevel=4,
            )
        losses = [each[METRIC] for each in trees.evals_result_.values()]
        self.validation_loss_ = np.array(losses[0] if losses else [])
        self.n_iter_ = trees.n_iter_  # LightGBM has dropped those after the best
        self.estimator_, self._fitted_q = trees, loss.q
        return self

    def _base(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        return LGBMClassifier(n_estimators=N_ROUNDS, random_state=self.random_state, verbosity=-1)

    def _checked_base(self) -> Any:
        """Return the trees to fit, or raise an error if they are not LightGBM's."""
        base = self._base()
        if not isinstance(base, LGBMClassifier):
            raise TypeError(f"estimator must be an LGBMClassifier or None; got {base!r}.")
        if base.objective is not None:
            raise ValueError(
                "estimator must not have an objective, because the objective is the MGCE loss; got "
                f"{base.objective!r}. Leave it out."
            )
        return base

    def _margins(self, X: Any) -> Array:
        """Return margins (n, K)."""
        return as_margins(self.decision_function(X))

    def decision_function(self, X: Any) -> Array:
        """Compute the margins, which are the raw scores of the trees.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, the margin of ``classes_[1]`` minus that of ``classes_[0]``.
        """
        check_is_fitted(self)
        return self.estimator_.predict(self._read(X, reset=False), raw_score=True)

    def predict(self, X: Any) -> Array:
        """Predict the class of the largest margin, which is the most probable one under the rule.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        best = self._margins(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Array:
        r"""Compute the minimax rule, :math:`h_k = (1 + q (m_k - \psi(m)))_+^{1/q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in [0, 1], exactly 0 for classes off the support when q > 0.
        """
        return self.margins_to_proba(self._margins(X))

    def margins_to_proba(self, margins: Any) -> Array:
        r"""Compute the rule for given margins, for example scaled ones.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes) or (n_samples,)
            In the form that `decision_function` returns. For two classes it may be a vector.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            What `predict_proba` returns for rows with these margins.

        Raises
        ------
        ValueError
            If the shape is wrong, or margins contain NaN or +inf.
        """
        check_is_fitted(self)
        margins = validation.check_margins(margins, len(self.classes_))
        return kernels.rule(margins, self._fitted_q)

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            -inf where the probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict_worst_case_proba(self, X: Any) -> Array:
        r"""Compute the worst-case distribution, :math:`p^*_k \propto h_k^{1-q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1. Probabilities are 0 off the support of the rule, and uniform on it
            at q = 1.
        """
        margins = self._margins(X)
        return kernels.worst_case(margins, self._fitted_q)


def _check_pair(X_val: Any, y_val: Any, weight: Any, n_iter_no_change: int | None) -> None:
    """Raise ValueError unless held-out rows have labels, and early stopping uses them."""
    if (X_val is None) != (y_val is None):
        raise ValueError(
            "X_val and y_val must be given together, or neither; got "
            f"{'y_val' if X_val is None else 'X_val'} alone."
        )
    if X_val is None and weight is not None:
        raise ValueError("sample_weight_val must be None if X_val is None; got weights.")
    if X_val is not None and n_iter_no_change is None:
        raise ValueError(
            "n_iter_no_change must be a positive integer if X_val is given; got None, with which "
            "there is no early stopping. Try 25, or leave X_val out."
        )
