"""TemperatureScaling and PiecewiseTemperatureScaling, around any classifier with margins."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    clone,
    is_classifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.utils import get_tags, indexable
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn import constraints, validation
from mgce_sklearn.arrays import decision_values
from mgce_sklearn.calibration.classifiers import knows_noise, link_of, weight_parameter
from mgce_sklearn.calibration.temperature import (
    COLDEST,
    HOTTEST,
    LOSSES,
    Link,
    named_loss,
    temperature_of_accuracy,
    temperature_of_least_loss,
)
from mgce_sklearn.metrics import equal_mass_bins

Array = np.ndarray[Any, Any]
Constraints = dict[str, constraints.Constraint]

# Margins that differ by less than this, relative to their size, count as equal: they may differ by
# rounding alone, and the classifier's prediction may be rounded in another way.
ROUNDING = 1e-6


class _Tempered(ClassifierMixin, MetaEstimatorMixin, BaseEstimator, metaclass=ABCMeta):
    """A classifier whose margins are divided by temperatures, found on rows it has not seen."""

    _constraints: ClassVar[Constraints]

    @abstractmethod
    def _temperature_of(self, margins: Array) -> Array | float:
        """Return one temperature for all rows, or a column (n, 1) with one for each."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Tempered:
        """Fit the classifier, and find the temperatures on margins of rows it has not seen.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Anything that the classifier takes. If it is frozen, rows that its fit has not seen.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. They are used for the calibration, and for the classifier if its ``fit``
            takes weights.

        Returns
        -------
        object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be used, or if the classifier does not predict the
            class of the largest margin. The estimator stays as it was.

        Warns
        -----
        UserWarning
            If the temperature is at a limit, if the classifier takes no weights, or if the
            classifier has a noise matrix and the scaling has none.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> _Tempered:
        constraints.check_all(vars(self), self._constraints)
        if not (hasattr(self.estimator, "decision_function") and is_classifier(self.estimator)):
            raise TypeError(
                f"estimator must be a classifier with decision_function; got {self.estimator!r}. "
                "For a classifier with predict_proba alone, try sklearn's CalibratedClassifierCV."
            )
        y, present = validation.check_label_array("y", y, warn=True)
        X, y = indexable(X, y)
        weights = validation.check_sample_weight(sample_weight, len(y))
        used = weights > 0.0
        fit_params = {} if sample_weight is None else weight_parameter(self.estimator, weights)
        self._adopt(clone(self.estimator).fit(X, y, **fit_params), present)
        codes = validation.check_labels(y, self.classes_)
        observed = self._observed_link()
        margins = self._margins(X)
        self._check_predictions(margins, np.ravel(self.estimator_.predict(X)), used)
        if not isinstance(self.estimator, FrozenEstimator):
            margins = self._unseen_margins(X, y, used, fit_params)
        margins = margins[used].astype(np.float64)
        self._calibrate(margins, codes[used], weights[used], observed)
        self._warn_of_limit()
        return self

    def _adopt(self, fitted: Any, present: Array) -> None:
        """Store the fitted classifier, its classes, and the names and number of its features."""
        self.estimator_, self.classes_ = fitted, fitted.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        unlearned = np.setdiff1d(present, self.classes_)
        if len(unlearned) and not isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                "sample_weight must be positive in some row of every class; all rows of classes "
                f"{unlearned.tolist()} have weight 0. Drop these rows."
            )

    def _check_predictions(self, margins: Array, predicted: Array, used: Array) -> None:
        """Raise ValueError unless the classifier predicts the class of the largest margin."""
        size = abs(np.nan_to_num(margins, neginf=0.0)).max(axis=1)
        slack = ROUNDING * np.maximum(size, np.median(size))
        largest = margins >= (margins.max(axis=1) - slack)[:, np.newaxis]
        agrees = (largest & (predicted[:, np.newaxis] == self.classes_)).any(axis=1)
        others = np.flatnonzero(used & ~agrees)
        if len(others):
            row, names = others[0], self.classes_.tolist()
            raise ValueError(
                f"estimator must predict the class of the largest margin; in {len(others)} of "
                f"{used.sum()} rows it does not. In row {row} it predicts "
                f"{predicted.tolist()[row]!r}, and {names[margins[row].argmax()]!r} has the "
                "largest margin. For SVC set decision_function_shape='ovr' and break_ties=True. "
                "A classifier with a threshold goes around the scaling, not inside."
            )

    def _unseen_margins(self, X: Any, y: Array, used: Array, fit_params: dict[str, Array]) -> Array:
        """Return margins (n, K) of classifiers that have not seen the rows."""
        folds = list(check_cv(self.cv, y, classifier=True).split(X, y))
        validation.check_folds(folds)
        for i, (train, _) in enumerate(folds):
            learned = y[train][used[train]] if fit_params else y[train]
            missing = np.setdiff1d(self.classes_, learned)
            if len(missing):
                raise ValueError(
                    f"cv must leave rows of every class to fit to; fold {i} leaves none of "
                    f"{missing.tolist()}. Try fewer or shuffled folds, or calibrate a "
                    "FrozenEstimator on held-out rows."
                )
        margins = cross_val_predict(
            self.estimator, X, y, cv=folds, method="decision_function", params=fit_params
        )
        return validation.check_margins(margins, len(self.classes_))

    def _observed_link(self) -> Link:
        """Return the function from margins to probabilities of observed labels."""
        link = link_of(self.estimator_)
        if self.noise_matrix is not None:
            matrix = validation.check_noise_matrix(self.noise_matrix, len(self.classes_))
            return lambda margins: link(margins) @ matrix
        if knows_noise(self.estimator_):
            warnings.warn(
                f"The classifier has a noise_matrix, and {type(self).__name__} has none. Wrong "
                "labels will make its probabilities too low. Give both the same noise_matrix.",
                UserWarning,
                stacklevel=4,
            )
        return link

    def _calibrate(self, margins: Array, codes: Array, weights: Array, observed: Link) -> None:
        """Set ``temperature_`` and whatever else predictions need.

        All weights are positive. ``observed`` turns margins into probabilities of observed labels.
        """
        loss = named_loss(self.loss, link_of(self.estimator_), margins.shape[1])
        self.temperature_ = temperature_of_least_loss(margins, codes, weights, observed, loss)

    def _warn_of_limit(self) -> None:
        remedies = {
            COLDEST: "Almost every row is classified correctly: calibrate on more rows."
            if self.noise_matrix is None
            else "Labels agree with predictions as often as noise_matrix allows, or more often: is "
            "its noise too large?",
            HOTTEST: "The margins hardly depend on the labels, or are very large: regularize more.",
        }
        if self.temperature_ in remedies:
            warnings.warn(
                f"The temperature ended at its limit, {self.temperature_:g}. "
                + remedies[self.temperature_],
                UserWarning,
                stacklevel=4,
            )

    def _margins(self, X: Any) -> Array:
        """Return the classifier's own margins (n, K)."""
        check_is_fitted(self)
        return validation.check_margins(self.estimator_.decision_function(X), len(self.classes_))

    def _rescaled(self, X: Any) -> Array:
        """Return margins (n, K) divided by temperatures, in the precision of the margins."""
        margins = self._margins(X)
        return margins / np.asarray(self._temperature_of(margins), dtype=margins.dtype)

    def decision_function(self, X: Any) -> Array:
        """Compute the classifier's margins divided by the temperature.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, the margin of ``classes_[1]`` minus that of ``classes_[0]``.
        """
        return decision_values(self._rescaled(X))

    def predict(self, X: Any) -> Array:
        """Predict labels, as the classifier does.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels from ``classes_``.
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def predict_proba(self, X: Any) -> Array:
        """Compute calibrated probabilities: the classifier's link of margins / temperature.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1.
        """
        return self.margins_to_proba(self._rescaled(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            -inf where the probability is 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the probabilities that the classifier's link makes from given margins.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes
            In the form that `decision_function` returns. They are not divided by a temperature.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Each row sums to 1.
        """
        check_is_fitted(self)
        return link_of(self.estimator_)(validation.check_margins(margins, len(self.classes_)))


class TemperatureScaling(_Tempered):
    r"""Divide a classifier's margins by the temperature T of least loss on unseen rows.

    Probabilities are

    .. math:: \operatorname{link}(m(x) / T),

    where the link is the classifier's own: its method ``margins_to_proba``, which
    `MGCEClassifier` has, or the softmax if there is no such method. (The softmax is the link of
    logistic regression.) Predictions do not change.

    Parameters
    ----------
    estimator : classifier with ``decision_function``
        It may be a pipeline or a search. It must predict the class of the largest margin: for
        `~sklearn.svm.SVC` set ``decision_function_shape="ovr"`` and ``break_ties=True``; a
        classifier with a threshold goes around the scaling, not inside. For two classes, a vector
        d stands for margins (0, d). A fitted classifier in a
        `~sklearn.frozen.FrozenEstimator` is not fitted again.
    cv : int, cross-validation generator, iterable or None, default=5
        As in scikit-learn. Each row must be in exactly one test part. For groups, pass an iterable
        of splits. Ignored if the classifier is frozen.
    loss : {"auto", "log_loss", "brier"}, default="auto"
        What the temperature minimizes. "auto": the log loss if the link has no exact zeros (the
        softmax; q = 0), and otherwise the Brier score, because one label whose probability is 0
        makes the log loss infinite. With "log_loss", a probability of 0 counts as the smallest
        normal float.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        How often labels are wrong, if that is known: row k has the probabilities of the observed
        labels of rows whose true label is ``classes_[k]``. A number in [0, 1) is the rate of
        symmetric noise, `~mgce_sklearn.label_noise.symmetric_transition`. See the notes. None:
        labels are correct.

    Attributes
    ----------
    temperature_ : float
        In [1/20, 20]. Above 1 the classifier was overconfident, below 1 underconfident.
    estimator_ : classifier
        Fitted to all rows, or the frozen one.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in ``fit``, if the classifier has this attribute.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if the classifier has this attribute.

    Notes
    -----
    *Rows.* The margins to calibrate on come from `~sklearn.model_selection.cross_val_predict`.
    Then the classifier is fitted to all rows. A frozen classifier is calibrated on the rows given
    to ``fit``, which its own fit must not have seen. A search is repeated in every fold; the link
    is that of the search on all rows.

    *Link.* In pipelines and searches the link is that of the final classifier. If a classifier has
    no ``margins_to_proba``, the softmax is used, even if its ``predict_proba`` is not the softmax
    of its margins. Then even at T = 1 the probabilities differ from the classifier's own.

    *Noise.* With a ``noise_matrix`` N, the loss compares the labels with the probabilities of
    observed labels, :math:`\operatorname{link}(m(x) / T) N`, while `predict_proba` is about true
    labels. Without it, temperatures fitted to wrong labels make the classifier underconfident. N
    must have rows that differ, but need not be invertible. If the classifier also has a parameter
    ``noise_matrix``, give both the same matrix.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, equation (9).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.svm import LinearSVC
    >>> from mgce_sklearn.calibration import TemperatureScaling
    >>> X, y = load_digits(return_X_y=True)
    >>> model = TemperatureScaling(LinearSVC(C=0.01)).fit(X / 16, y)
    >>> print(model.temperature_ < 1, model.predict_proba(X / 16).shape)
    True (1797, 10)

    With a fifth of the labels wrong, its mean confidence, and its accuracy on true labels:

    >>> from mgce_sklearn.label_noise import symmetric_noise
    >>> noisy = symmetric_noise(y, 0.2, random_state=0)
    >>> for noise_matrix in (None, 0.2):
    ...     model = TemperatureScaling(LinearSVC(C=0.01), noise_matrix=noise_matrix)
    ...     confidence = model.fit(X / 16, noisy).predict_proba(X / 16).max(axis=1).mean()
    ...     print(f"{confidence:.2f} {model.score(X / 16, y):.2f}")
    0.68 0.94
    0.92 0.94
    """

    _constraints: ClassVar[Constraints] = {
        "loss": constraints.one_of(LOSSES),
        "noise_matrix": constraints.NOISE_MATRIX,
    }

    def __init__(
        self, estimator: Any, *, cv: Any = 5, loss: str = "auto", noise_matrix: Any = None
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.loss = loss
        self.noise_matrix = noise_matrix

    def _temperature_of(self, margins: Array) -> float:
        return self.temperature_


class PiecewiseTemperatureScaling(_Tempered):
    r"""Divide a classifier's margins by a temperature that depends on its confidence.

    This is adaptive piecewise temperature scaling, which [1]_ uses with generative cross-entropy.
    The exact method published there is not known to us; this is our reading of it:

    1. One temperature for all rows is found as in `TemperatureScaling`.
    2. Rows are sorted by confidence, the largest probability at T = 1, and cut into pieces of equal
       weight.
    3. The own temperature of a piece is the one at which its mean confidence equals its accuracy.
       If there is none in [1/20, 20], it is the nearer end.
    4. The temperature of the piece is a weighted mean, of log T, of its own temperature and that
       of all rows. The own temperature has weight n / (n + ``min_samples_per_piece``), where n is
       the weight of the piece's rows.

    The piece of a new row is found by its confidence at T = 1. Predictions do not change.

    Parameters
    ----------
    estimator : classifier with ``decision_function``
        As in `TemperatureScaling`.
    cv : int, cross-validation generator, iterable or None, default=5
        As in `TemperatureScaling`.
    loss : {"auto", "log_loss", "brier"}, default="auto"
        What the temperature of all rows minimizes, as in `TemperatureScaling`.
    n_pieces : int, default=20
        Largest number of pieces. There are fewer if a piece would hold less than
        ``min_samples_per_piece``.
    min_samples_per_piece : int, default=50
        Smallest weight of a piece if there are several. Without weights, this is a number of rows.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        How often labels are wrong, as in `TemperatureScaling`. In step 3, confidence and accuracy
        are then about observed labels: the probability that the predicted class is observed, and
        how often it is.

    Attributes
    ----------
    temperatures_ : ndarray of shape (n_pieces,)
        Temperatures of the pieces, by increasing confidence; in [1/20, 20].
    edges_ : ndarray of shape (n_pieces - 1,)
        Largest confidence of each piece except the last. A row at an edge is in the lower piece.
    temperature_ : float
        The temperature of all rows.
    estimator_ : classifier
        Fitted to all rows, or the frozen one.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in ``fit``, if the classifier has this attribute.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if the classifier has this attribute.

    Notes
    -----
    Rows of equal confidence are in one piece. If a piece has a higher temperature than the piece
    below it, a row with more confidence before scaling may have less after it.

    References
    ----------
    .. [1] "Generative Cross-Entropy", arXiv 2604.06689.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.svm import LinearSVC
    >>> from mgce_sklearn.calibration import PiecewiseTemperatureScaling
    >>> X, y = load_digits(return_X_y=True)
    >>> model = PiecewiseTemperatureScaling(LinearSVC(C=0.01), n_pieces=4).fit(X / 16, y)
    >>> print(model.temperatures_.shape, model.edges_.shape)
    (4,) (3,)
    """

    _constraints: ClassVar[Constraints] = {
        "loss": constraints.one_of(LOSSES),
        "n_pieces": constraints.COUNT,
        "min_samples_per_piece": constraints.COUNT,
        "noise_matrix": constraints.NOISE_MATRIX,
    }

    def __init__(
        self,
        estimator: Any,
        *,
        cv: Any = 5,
        loss: str = "auto",
        n_pieces: int = 20,
        min_samples_per_piece: int = 50,
        noise_matrix: Any = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.loss = loss
        self.n_pieces = n_pieces
        self.min_samples_per_piece = min_samples_per_piece
        self.noise_matrix = noise_matrix

    def _calibrate(self, margins: Array, codes: Array, weights: Array, observed: Link) -> None:
        super()._calibrate(margins, codes, weights, observed)
        confidence = link_of(self.estimator_)(margins).max(axis=1)
        pieces = self._pieces(confidence, weights)
        edges, temperatures = [], []
        for piece in np.unique(pieces):
            rows = pieces == piece
            own = temperature_of_accuracy(margins[rows], codes[rows], weights[rows], observed)
            total = weights[rows].sum()
            share_of_own = total / (total + self.min_samples_per_piece)
            temperatures.append(own**share_of_own * self.temperature_ ** (1.0 - share_of_own))
            edges.append(confidence[rows].max())
        self.temperatures_, self.edges_ = np.array(temperatures), np.array(edges[:-1])

    def _pieces(self, confidence: Array, weights: Array) -> Array:
        """Return the piece of each row, with as many pieces as have enough weight."""
        for n_pieces in range(self.n_pieces, 1, -1):
            pieces = equal_mass_bins(confidence, weights, n_pieces)
            mass: Array = np.bincount(pieces, weights)
            if mass[mass > 0.0].min() >= self.min_samples_per_piece:
                return pieces
        return np.zeros(len(confidence), dtype=int)

    def _temperature_of(self, margins: Array) -> Array:
        confidence = link_of(self.estimator_)(margins).max(axis=1)
        return self.temperatures_[np.searchsorted(self.edges_, confidence), np.newaxis]
