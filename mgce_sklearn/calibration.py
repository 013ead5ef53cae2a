"""Temperatures that make a classifier as sure as it is right, through its own link.

Margins are divided by a temperature T and returned to probabilities by the link that the classifier
itself uses. The order of the classes in a row stays, and with it the prediction. The softmax of
logarithms of probabilities, a common substitute for margins, would not do: probabilities of 0 have
no logarithm, and the softmax is not the link of a rule that has them.
"""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import softmax
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    clone,
    is_classifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    check_cv,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags, indexable
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from mgce_sklearn import constraints, validation
from mgce_sklearn.metrics import equal_mass_bins

Array = np.ndarray[Any, Any]
Link = Callable[[Array], Array]
Constraints = dict[str, constraints.Constraint]

COLDEST, HOTTEST = LIMITS = (1 / 20, 20.0)
LOSSES = ("auto", "log_loss", "brier")

# A class so far below the largest margin has probability 0 if anything has: the softmax gives it
# 1e-87, the rule of q > 0 nothing as soon as q > 1/200.
FAR_BELOW = 200.0

# Margins as near to one another as this, in proportion, are a tie: rounding decides it, and the
# classifier may round otherwise on its way to a prediction.
ROUNDING = 1e-6


class _Tempered(ClassifierMixin, MetaEstimatorMixin, BaseEstimator, metaclass=ABCMeta):
    """A classifier whose margins are divided by temperatures found on rows it has not seen."""

    _constraints: ClassVar[Constraints]

    @abstractmethod
    def _temperature_of(self, margins: Array) -> Array | float:
        """Return the temperature of all rows, or a column (n, 1) of theirs."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Tempered:
        """Fit the classifier, and find temperatures on margins of rows it has not seen.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Whatever the classifier takes. If it is frozen, rows that its fit has not seen.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative; for the calibration, and for the classifier if its ``fit`` takes weights.

        Returns
        -------
        object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used, or if the classifier predicts another class
            than that of the largest margin. The estimator stays as it was.

        Warns
        -----
        UserWarning
            If the temperature ends at a limit, if the classifier takes no weights, or if it knows
            a noise matrix and the scaling none.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> _Tempered:
        constraints.check_all(vars(self), self._constraints)
        if not (hasattr(self.estimator, "decision_function") and is_classifier(self.estimator)):
            raise TypeError(
                f"estimator must be a classifier with decision_function; got {self.estimator!r}. "
                "For one that has predict_proba alone, try sklearn's CalibratedClassifierCV."
            )
        y, present = validation.check_label_array("y", y, warn=True)
        X, y = indexable(X, y)
        weights = validation.check_sample_weight(sample_weight, len(y))
        used = weights > 0.0
        fit_params = {} if sample_weight is None else _weights_for(self.estimator, weights)
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
        """Keep a classifier fitted to the classes present, and what it knows of features."""
        self.estimator_, self.classes_ = fitted, fitted.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        unlearned = np.setdiff1d(present, self.classes_)
        if len(unlearned) and not isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                f"sample_weight must leave every class of y some weight; {unlearned.tolist()} have "
                "none. Drop their rows."
            )

    def _check_predictions(self, margins: Array, predicted: Array, used: Array) -> None:
        """Raise ValueError unless the classifier predicts the class of largest margin."""
        size = abs(np.nan_to_num(margins, neginf=0.0)).max(axis=1)
        slack = ROUNDING * np.maximum(size, np.median(size))
        largest = margins >= (margins.max(axis=1) - slack)[:, np.newaxis]
        agrees = (largest & (predicted[:, np.newaxis] == self.classes_)).any(axis=1)
        others = np.flatnonzero(used & ~agrees)
        if len(others):
            row, names = others[0], self.classes_.tolist()
            raise ValueError(
                f"estimator must predict the class of largest margin; in {len(others)} of "
                f"{used.sum()} rows it does not: for row {row} it predicts "
                f"{predicted.tolist()[row]!r}, and {names[margins[row].argmax()]!r} has the "
                "largest margin. For SVC set decision_function_shape='ovr' and break_ties=True; "
                "set a threshold around the scaling, not inside."
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
                    f"{missing.tolist()}. Take fewer or shuffled folds, or calibrate a "
                    "FrozenEstimator on rows of its own."
                )
        margins = cross_val_predict(
            self.estimator, X, y, cv=folds, method="decision_function", params=fit_params
        )
        return validation.check_margins(margins, len(self.classes_))

    def _observed_link(self) -> Link:
        """Return the function from margins to probabilities of labels as they come."""
        link = _link_of(self.estimator_)
        if self.noise_matrix is not None:
            matrix = validation.check_noise_matrix(self.noise_matrix, len(self.classes_))
            return lambda margins: link(margins) @ matrix
        if _knows_noise(self.estimator_):
            warnings.warn(
                f"The classifier has a noise_matrix, and {type(self).__name__} none: wrong labels "
                "will make it less sure than it is right. Give both the same noise_matrix.",
                UserWarning,
                stacklevel=4,
            )
        return link

    def _calibrate(self, margins: Array, codes: Array, weights: Array, observed: Link) -> None:
        """Find ``temperature_`` and whatever else is needed; all weights are positive.

        ``observed`` makes probabilities of labels as they come from margins.
        """
        loss = _named_loss(self.loss, _link_of(self.estimator_), margins.shape[1])
        self.temperature_ = _temperature_of_least_loss(margins, codes, weights, observed, loss)

    def _warn_of_limit(self) -> None:
        remedies = {
            COLDEST: "Almost every row is classified rightly; calibrate on more rows."
            if self.noise_matrix is None
            else "Labels agree with predictions as often as noise_matrix allows, or more; does it "
            "say too much noise?",
            HOTTEST: "The margins tell next to nothing of the labels, or are huge; regularize "
            "more.",
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
        """Return margins divided by temperatures, (n, K) in the precision of the margins."""
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
            For two classes the margin of ``classes_[1]`` less that of ``classes_[0]``.
        """
        margins = self._rescaled(X)
        return margins[:, 1] - margins[:, 0] if len(self.classes_) == 2 else margins

    def predict(self, X: Any) -> Array:
        """Predict as the classifier does.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
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
        """
        return self.margins_to_proba(self._rescaled(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`; -inf where it is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the classifier's link of margins as `decision_function` returns them.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return _link_of(self.estimator_)(validation.check_margins(margins, len(self.classes_)))


class TemperatureScaling(_Tempered):
    r"""Divide a classifier's margins by the temperature of least loss on unseen rows.

    Probabilities are

    .. math:: \operatorname{link}(m(x) / T),

    with the link of the classifier itself: what its method ``margins_to_proba`` computes, as
    that of `MGCEClassifier` does, or the softmax if it has none, which is logistic regression's
    link. Predictions do not change.

    Parameters
    ----------
    estimator : classifier with ``decision_function``
        Pipelines and searches included. It must predict the class of largest margin: for
        `~sklearn.svm.SVC` set ``decision_function_shape="ovr"`` and ``break_ties=True``, and set
        a threshold around the scaling, not inside. For two classes a vector d stands for
        margins (0, d). A fitted classifier in a `~sklearn.frozen.FrozenEstimator` is used as it is.
    cv : int, cross-validation generator, iterable or None, default=5
        As in scikit-learn, with each row in one test part; for groups give the splits. Not used
        if the classifier is frozen.
    loss : {"auto", "log_loss", "brier"}, default="auto"
        What the temperature minimizes. "auto": the log loss if the link has no exact zeros (the
        softmax; q = 0), else the Brier score, because a single label on a zero makes the log
        loss infinite. With "log_loss" a probability of 0 counts as the smallest normal float.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        How labels get wrong, where that is known: row k has the probabilities of the labels seen
        where the true one is ``classes_[k]``. A number in [0, 1) is the rate of symmetric noise,
        `~mgce_sklearn.label_noise.symmetric_transition`. See the notes. None: labels are right.

    Attributes
    ----------
    temperature_ : float
        In [1/20, 20]. Above 1 the classifier was too sure, below 1 not sure enough.
    estimator_ : classifier
        Fitted to all rows, or the frozen one.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in ``fit``, if the classifier tells.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if the classifier tells.

    Notes
    -----
    Margins to calibrate on come from `~sklearn.model_selection.cross_val_predict`, after which the
    classifier is fitted to all rows. A frozen classifier is calibrated on the rows given to
    ``fit``, which its own fit must not have seen. A search is repeated in every fold, and the link
    is that of the one on all rows.

    In pipelines, as in searches, the link is that of the final classifier. A classifier whose
    ``predict_proba`` is not the softmax of its margins, and that has no ``margins_to_proba``, is
    given the softmax all the same: at T = 1 its probabilities are then not its own.

    With a ``noise_matrix`` N, labels are judged against what noise makes of the probabilities,
    :math:`\operatorname{link}(m(x) / T) N`, by the same loss, and `predict_proba` is about true
    labels. Without it, temperatures fitted to wrong labels make a classifier less sure than it is
    right. N needs no inverse, but rows that differ. Where the classifier has a parameter of that
    name, give both the same matrix.

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

    With a fifth of the labels wrong, what it thinks of its accuracy, and what that is:

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

    Adaptive piecewise temperature scaling, named with the generative cross-entropy in [1]_. The
    exact rule published there is not known to us; this is our reading of it:

    1. The temperature of all rows is found as in `TemperatureScaling`.
    2. Rows are sorted by confidence, the largest probability at T = 1, and cut into pieces that
       hold the same weight.
    3. A piece's own temperature is that at which its mean confidence equals its accuracy,
       or the nearer end of [1/20, 20] if there is none.
    4. On the scale of log T it is drawn to the temperature of all rows, and keeps a weight of
       n / (n + ``min_samples_per_piece``), with n the weight of the piece's rows.

    A new row's piece is looked up by its confidence at T = 1. Predictions do not change.

    Parameters
    ----------
    estimator : classifier with ``decision_function``
        As in `TemperatureScaling`.
    cv : int, cross-validation generator, iterable or None, default=5
        As in `TemperatureScaling`.
    loss : {"auto", "log_loss", "brier"}, default="auto"
        What the temperature of all rows minimizes, as in `TemperatureScaling`.
    n_pieces : int, default=20
        Most pieces. They are fewer if one would hold less than ``min_samples_per_piece``.
    min_samples_per_piece : int, default=50
        Least weight of a piece, if there is more than one; the number of rows without weights.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        How labels get wrong, as in `TemperatureScaling`. In step 3, both are then about observed
        labels: confidence is the probability that the predicted class is seen, and accuracy how
        often it is.

    Attributes
    ----------
    temperatures_ : ndarray of shape (n_pieces,)
        The pieces' temperatures, by increasing confidence; in [1/20, 20].
    edges_ : ndarray of shape (n_pieces - 1,)
        Largest confidence of each piece but the last, to which it belongs.
    temperature_ : float
        The temperature of all rows.
    estimator_ : classifier
        Fitted to all rows, or the frozen one.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen in ``fit``, if the classifier tells.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if the classifier tells.

    Notes
    -----
    Rows of equal confidence are in one piece. Confidence after scaling need not grow with
    confidence before it, where one piece is followed by another of higher temperature.

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
        confidence = _link_of(self.estimator_)(margins).max(axis=1)
        pieces = self._pieces(confidence, weights)
        edges, temperatures = [], []
        for piece in np.unique(pieces):
            rows = pieces == piece
            mass = weights[rows]
            own = _temperature_of_accuracy(margins[rows], codes[rows], mass, observed)
            kept = mass.sum() / (mass.sum() + self.min_samples_per_piece)
            temperatures.append(own**kept * self.temperature_ ** (1.0 - kept))
            edges.append(confidence[rows].max())
        self.temperatures_, self.edges_ = np.array(temperatures), np.array(edges[:-1])

    def _pieces(self, confidence: Array, weights: Array) -> Array:
        """Return the piece of each row: as many as hold enough weight each."""
        for n_pieces in range(self.n_pieces, 1, -1):
            pieces = equal_mass_bins(confidence, weights, n_pieces)
            mass: Array = np.bincount(pieces, weights)
            if mass[mass > 0.0].min() >= self.min_samples_per_piece:
                return pieces
        return np.zeros(len(confidence), dtype=int)

    def _temperature_of(self, margins: Array) -> Array:
        confidence = _link_of(self.estimator_)(margins).max(axis=1)
        return self.temperatures_[np.searchsorted(self.edges_, confidence), np.newaxis]


def _link_of(estimator: Any) -> Link:
    """Return the function from margins (n, K) to probabilities that a fitted classifier uses.

    In pipelines and searches the final classifier counts.
    """
    links = (getattr(each, "margins_to_proba", None) for each in _to_final(estimator))
    return next(filter(None, links), partial(softmax, axis=1))


def _to_final(estimator: Any) -> Iterator[Any]:
    """Yield a fitted classifier, and what pipelines and searches take margins from, to the last."""
    while estimator is not None:
        yield estimator
        if isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            estimator = getattr(estimator, "best_estimator_", None)


def _knows_noise(estimator: Any) -> bool:
    matrices = (getattr(each, "noise_matrix", None) for each in _to_final(estimator))
    return any(matrix is not None for matrix in matrices)


def _named_loss(loss: str, link: Link, n_classes: int) -> str:
    """Return the loss by name, that of "auto" by the link of true labels.

    Noise would fill its zeros, and with them go by chance from one loss to the other.
    """
    if loss != "auto":
        return loss
    return "brier" if _has_zeros(link, n_classes) else "log_loss"


def _temperature_of_least_loss(
    margins: Array, codes: Array, weights: Array, link: Link, loss: str
) -> float:
    """Return the temperature in [1/20, 20] whose probabilities have the least mean loss."""
    loss_of = {"log_loss": _log_losses, "brier": _brier_scores}[loss]
    shares = weights / weights.sum()

    def mean_loss(temperature: float) -> float:
        return float(shares @ loss_of(link(margins / temperature), codes))

    # The log loss of the softmax is convex in 1/T. Other losses may have several minima, above all
    # where the link has exact zeros: a grid finds the lowest valley before it is searched.
    grid = np.geomspace(*LIMITS, 25)
    values = [mean_loss(temperature) for temperature in grid]
    best = int(np.argmin(values))
    valley = np.log(grid[[max(best - 1, 0), min(best + 1, len(grid) - 1)]])
    # Nearer than 1e-8 values differ by rounding alone, and a search that went on would end anywhere
    # there. A parabola through points further apart is the same to ten digits for rows repeated.
    found = minimize_scalar(
        lambda log: mean_loss(np.exp(log)),
        bounds=valley,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x) if found.fun < values[best] else grid[best])


def _has_zeros(link: Link, n_classes: int) -> bool:
    margins = np.full((1, n_classes), -FAR_BELOW)
    margins[0, 0] = 0.0
    return bool((link(margins) == 0.0).any())


def _log_losses(proba: Array, codes: Array) -> Array:
    likelihood = proba[np.arange(len(codes)), codes]
    return -np.log(np.maximum(likelihood, np.finfo(np.float64).tiny))


def _brier_scores(proba: Array, codes: Array) -> Array:
    return ((proba - np.eye(proba.shape[1])[codes]) ** 2).sum(axis=1)


def _temperature_of_accuracy(margins: Array, codes: Array, weights: Array, link: Link) -> float:
    """Return the temperature in [1/20, 20] at which labels are predicted as often as is claimed.

    Without noise the claim is the confidence, which falls as the temperature rises, so that there
    is at most one. If there is none, it is the end at which the claim is nearer to the truth.
    """
    predicted = margins.argmax(axis=1)
    rows = np.arange(len(margins))

    def excess(log_temperature: float) -> float:
        claimed = link(margins / np.exp(log_temperature))[rows, predicted]
        return float(weights @ (claimed - (predicted == codes)) / weights.sum())

    coldest, hottest = np.log(LIMITS)
    if excess(coldest) <= 0.0:
        return COLDEST
    if excess(hottest) >= 0.0:
        return HOTTEST
    return float(np.exp(brentq(excess, coldest, hottest, xtol=1e-12)))


def _weights_for(estimator: Any, weights: Array) -> dict[str, Array]:
    """Return weights under the name by which the classifier's ``fit`` takes them, if it does."""
    if isinstance(estimator, FrozenEstimator):
        return {}
    # With metadata routing it is for the user to request them.
    routed = get_config()["enable_metadata_routing"]
    name = "sample_weight" if routed else _weight_name(estimator)
    if name is None:
        warnings.warn(
            f"{type(estimator).__name__} takes no sample_weight in fit: the weights count in its "
            "calibration alone. Enable metadata routing if a step inside it takes them.",
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
