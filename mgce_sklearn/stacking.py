"""MGCEStackingClassifier: a minimax correction of any classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.utils import check_array, check_consistent_length, get_tags, indexable, murmurhash3_32
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from mgce_sklearn import validation
from mgce_sklearn.bounds import ErrorBounds, ErrorCertificate
from mgce_sklearn.classifier import PARAMETERS as CLASSIFIER_PARAMETERS
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.feature_maps import len_of
from mgce_sklearn.search import SELECTIONS, MGCEClassifierCV, chosen, joined
from mgce_sklearn.sketch import RowSketch, row_codes
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

# Added to probabilities before their logarithm is taken: a base that is sure can be corrected.
FLOOR = 0.02

# Of the forests that are tried where no base is given: small leaves serve right labels, large ones
# wrong labels.
N_TREES = 100
MIN_SAMPLES_LEAF = (1, 5, 20)

# Half-widths that are tried by default: the larger one serves where many labels are wrong.
LAMS = (1.0, 3.0)

# Folds of a search where the base needs none.
N_FOLDS = 5

# Parameters of the correction that are parameters here, and mean the same.
HANDED_ON = ("feature_map", "solver", "tol", "max_iter", "feature_range", "random_state")

PARAMETERS = {
    **{name: constraint for name, constraint in CLASSIFIER_PARAMETERS.items() if name in HANDED_ON},
    "passthrough": validation.SWITCH,
    "keep_base_margin": validation.SWITCH,
    "selection": validation.one_of(SELECTIONS),
    "verbose": validation.VERBOSITY,
}

SCALE = validation.Constraint(
    (Real,), lambda scale: np.isfinite(scale) and scale > 0, "a positive, finite number (try 1)"
)


class MGCEStackingClassifier(ClassifierMixin, BaseEstimator):
    r"""Any classifier, corrected by a minimax linear model that begins with its margins.

    .. math:: m(x) = \text{scale} \cdot \log(p(x) + 0.02) + W x

    with p the probabilities of ``estimator``, out of fold where W is fitted, and W penalized
    toward 0, so toward what the base decides. `predict_proba` is the minimax rule of these margins:
    it resists wrong labels, and need not be told how many there are.

    Parameters
    ----------
    estimator : classifier, list of classifiers or None, default=None
        The base, with ``predict_proba`` or, where there is none, ``decision_function``, whose
        values then stand in for :math:`\log(p + 0.02)`. It is cloned, and fitted to labels
        0 to K - 1. A ``FrozenEstimator`` is taken as it is, as for ``cv="prefit"``. Of a list the
        one of best accuracy out of fold. None: of three
        `~sklearn.ensemble.ExtraTreesClassifier` of 100 trees, with ``min_samples_leaf`` 1, 5
        and 20.
    q : float or sequence of float, default=1.0
        Loss parameter in [0, 1], as in `MGCEClassifier`. Several: see ``selection``.
    lam : float or sequence of float, default=(1.0, 3.0)
        Half-widths in standard errors of the feature means; or several.
    scale : float or sequence of float, default=1.0
        Factor on the base's margins; or several.
    cv : int, cross-validation generator, iterable or "prefit", default=5
        Folds that every row is in once: of the base's predictions, and of the search. An int:
        stratified. "prefit": the base is fitted already, and to other rows than those of the fit,
        which it must not have seen. A search then takes 5 folds.
    passthrough : bool, default=True
        Whether W acts on X, or on what ``feature_map`` makes of it. If not, it acts on the base's
        margins alone: for X that the base takes and a linear model does not, such as text,
        categories or missing values. A transformer as ``feature_map`` is the other way.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        What makes the features that W acts on from X, as in `MGCEClassifier`.
    selection : {"largest_q", "best", "one_standard_error"}, default="largest_q"
        How q, lam and scale are chosen, if any is a sequence: by accuracy in cross-validation of
        the correction, as in `MGCEClassifierCV`.
    n_jobs : int or None, default=None
        Number of processes, for folds of the base and of the search.
    keep_base_margin : bool, default=False
        Whether to keep the base's margins of the rows of the fit, which `error_bounds` needs for
        these rows. Otherwise nothing as long as they are is kept.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        As in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which the correction stops.
    max_iter : int or None, default=None
        Its iteration limit. None: the solver's own.
    feature_range : pair (low, high) or None, default=None
        Least and largest value of the features, known beforehand, for `certify`.
    random_state : int, RandomState instance or None, default=None
        Handed to the correction and to the default forests.
    verbose : int, default=0
        As in `MGCEClassifier`; for a search as in `MGCEClassifierCV`.

    Attributes
    ----------
    estimator_ : classifier
        The base, fitted to all rows, or as it was given.
    estimator_scores_ : ndarray of shape (n_estimators,)
        Accuracy out of fold, on labels as they come, of the classifier given, or of each of the
        list. Not present if it came fitted.
    correction_ : MGCEClassifier
        What has W, and takes ``scale_`` times the base's margins as ``base_margin``.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    q_, lam_, scale_ : float
        What was given or chosen.
    minimax_risk_ : float
        Upper bound on the expected loss of the corrected rule where means lie within
        ``uncertainty_set_`` and the base's out-of-fold loss within ``lam`` standard errors of what
        it was: see the notes of `MGCEClassifier`. It is about labels as they come.
    dual_gap_ : float
        At least its distance from the least such bound.
    uncertainty_set_ : UncertaintySet
        Of the features that W acts on.
    coef_, intercept_ : ndarray
        W, as in `MGCEClassifier`.
    cv_results_ : dict of ndarray
        As in `MGCEClassifierCV`, with ``param_scale`` beside ``param_q`` and ``param_lam``. Present
        if there was anything to choose.
    base_margin_ : ndarray of shape (n_samples, n_classes)
        Margins of the rows of the fit before scaling, out of fold. Present if
        ``keep_base_margin``.
    n_features_in_ : int
        Number of columns of X, where it has columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X had string column names.

    Notes
    -----
    In cross-validation of the correction the base's margins are those out of fold, of bases that
    have seen the labels of other folds: fits in folds cost little beside the base, but scores are
    a little too good, for all candidates alike.

    Where many labels are wrong, ``lam=1`` alone may let W follow them, which around boosted trees
    cost up to .09 of accuracy on ten classes. A search over a few costs little beside the folds of
    a base. One over ``scale`` too, as ``(0.5, 1, 2)``, may bring some accuracy, and probabilities
    that are less sure than right (``benchmarks/README.md``).

    A class that the base has not seen in a fold has margin :math:`\log 0.02` there.

    ``sample_weight`` goes to the correction, and to the base if its ``fit`` takes it. With metadata
    routing enabled base and splitter get what they ask for.

    Bounds are about the corrected rule. On the rows of the fit it is the one of the margins that
    the fit saw. On rows held out the base is the one fitted to all rows, and `error_bounds` takes
    it that its loss is no larger than out of fold. `certify` takes nothing for granted of the base.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from mgce_sklearn import MGCEStackingClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
    >>> model = MGCEStackingClassifier(forest, keep_base_margin=True).fit(X, y)
    >>> print(f"{model.minimax_risk_:.2f}, {model.error_bounds(X).upper:.2f}")
    0.08, 0.10
    """

    def __init__(
        self,
        estimator: Any = None,
        q: Any = 1.0,
        lam: Any = LAMS,
        scale: Any = 1.0,
        *,
        cv: Any = 5,
        passthrough: bool = True,
        feature_map: Any = None,
        selection: str = "largest_q",
        n_jobs: int | None = None,
        keep_base_margin: bool = False,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int | None = None,
        feature_range: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.q = q
        self.lam = lam
        self.scale = scale
        self.cv = cv
        self.passthrough = passthrough
        self.feature_map = feature_map
        self.selection = selection
        self.n_jobs = n_jobs
        self.keep_base_margin = keep_base_margin
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.feature_range = feature_range
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        bases = [get_tags(base).input_tags for base in self._bases().values()]
        free = not self.passthrough
        tags.input_tags.sparse = all(base.sparse for base in bases)
        tags.input_tags.allow_nan = free and all(base.allow_nan for base in bases)
        tags.input_tags.categorical = free and all(base.categorical for base in bases)
        return tags

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, **params: Any
    ) -> MGCEStackingClassifier:
        """Fit the base, out of fold and to all rows, and the correction.

        Parameters
        ----------
        X : array-like, sparse matrix, frame or list of n_samples rows
            What the base takes; numbers, if W acts on X.
        y : array-like of shape (n_samples,)
            Labels of any dtype, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Every class needs a row that counts.
        **params : dict
            ``groups`` for the splitter; with metadata routing whatever base and splitter ask for.

        Returns
        -------
        MGCEStackingClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            As `MGCEClassifier` and `MGCEClassifierCV`.
        UserWarning
            If the base takes no weights.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight, params)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]
    ) -> MGCEStackingClassifier:
        validation.check_all(vars(self), PARAMETERS)
        grid, bases = self._grid(), self._checked_bases()
        y, classes = validation.check_label_array("y", y, warn=True)
        X = self._read(X, reset=True)
        check_consistent_length(X, y)
        if sample_weight is not None:
            sample_weight = validation.check_sample_weight(sample_weight, len(y))
            _check_counted(y, classes, sample_weight)
        validation.check_several(classes)
        codes = np.searchsorted(classes, y)
        fit_params, split_params = self._route(bases, sample_weight, params)
        prefit = self._is_prefit()
        cv = N_FOLDS if prefit and isinstance(self.cv, str) else self.cv
        folds = list(check_cv(cv, codes, classifier=True).split(X, codes, **split_params))
        validation.check_folds(folds)
        self.classes_ = classes
        self.__dict__.pop("estimator_scores_", None)
        if prefit:
            (self.estimator_,) = bases.values()
            margins = self._margins_of(self.estimator_, X)
        else:
            found = {
                name: self._unseen_margins(base, X, codes, folds, fit_params[name])
                for name, base in bases.items()
            }
            name = self._best(found, codes, sample_weight)
            self.estimator_ = clone(bases[name]).fit(X, codes, **fit_params[name])
            margins = found[name]
        features = X if self.passthrough else margins
        pair = self._choose(grid, features, y, sample_weight, margins, folds)
        self.correction_ = self._correction(MGCEClassifier, **pair).fit(
            features, y, sample_weight, self.scale_ * margins
        )
        self._keep(X, margins, prefit)
        return self

    def _grid(self) -> dict[str, Array]:
        """Return the numbers to try of q, lam and scale."""
        constraints = {**CLASSIFIER_PARAMETERS, "lam": validation.HALF_WIDTH, "scale": SCALE}
        return {
            name: validation.check_sequence(name, value, constraints[name])
            if np.iterable(value)
            else _single(name, value, constraints[name])
            for name, value in (("q", self.q), ("lam", self.lam), ("scale", self.scale))
        }

    def _read(self, X: Any, reset: bool) -> Any:
        """Return rows as they came, or checked if W acts on their numbers."""
        if not self.passthrough and self.feature_map is not None:
            raise ValueError(
                f"feature_map must be None for passthrough=False, which shows no X to W; got "
                f"{self.feature_map!r}. Set passthrough=True."
            )
        X = indexable(X)[0]
        if self.passthrough and self.feature_map is None:
            self._check_numbers(X)
        if reset or _is_table(X):  # what else X may be the base tells
            validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _check_numbers(self, X: Any) -> None:
        """Raise ValueError unless X are rows that a linear model takes."""
        try:
            check_array(X, accept_sparse="csr", estimator=self)
        except ValueError as error:
            if not _is_table(X):
                raise
            raise ValueError(
                f"X must be rows of finite numbers for passthrough=True without a feature_map: "
                f"{str(error).splitlines()[0]} Try passthrough=False, or a transformer as "
                "feature_map."
            ) from None

    def _bases(self) -> dict[str, Any]:
        """Return the classifiers to choose the base from, by the names of their metadata."""
        bases = self.estimator
        if bases is None:
            bases = [
                ExtraTreesClassifier(N_TREES, min_samples_leaf=leaf, random_state=self.random_state)
                for leaf in MIN_SAMPLES_LEAF
            ]
        if not isinstance(bases, (list, tuple)):
            return {"estimator": bases}
        return {f"estimator_{i}": base for i, base in enumerate(bases)}

    def _checked_bases(self) -> dict[str, Any]:
        """Return the classifiers to choose the base from, if all of them have margins."""
        bases = self._bases()
        for base in bases.values():
            if not (hasattr(base, "fit") and is_classifier(base) and _method(base)):
                raise TypeError(
                    "estimator must be a classifier with predict_proba or decision_function, or a "
                    f"list of such; got {base!r}."
                )
        frozen = any(isinstance(base, FrozenEstimator) for base in bases.values())
        if not bases or (len(bases) > 1 and (frozen or self._is_prefit())):
            raise ValueError(
                "estimator must be one classifier if it is fitted already, and one or more to fit "
                f"if not; got {self.estimator!r}."
            )
        return bases

    def _is_prefit(self) -> bool:
        if isinstance(self.cv, str) and self.cv != "prefit":
            raise ValueError(
                f"cv must be a number of folds, a splitter, an iterable or 'prefit'; got "
                f"{self.cv!r}."
            )
        return isinstance(self.cv, str) or isinstance(self.estimator, FrozenEstimator)

    def _best(self, margins: dict[str, Array], codes: Array, sample_weight: Any) -> str:
        """Return the name of the base of best accuracy, of equal ones the first."""
        right = np.array([each.argmax(axis=1) == codes for each in margins.values()])
        self.estimator_scores_ = np.average(right, axis=1, weights=sample_weight)
        return list(margins)[int(self.estimator_scores_.argmax())]

    def _route(
        self, bases: dict[str, Any], sample_weight: Any, params: dict[str, Any]
    ) -> tuple[dict[str, Mapping[str, Any]], Mapping[str, Any]]:
        """Return the parameters for the fit of each base, and those for the splitter."""
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            return {name: routed[name].fit for name in bases}, routed.splitter.split
        unknown = sorted(params.keys() - {"groups"})
        if unknown:
            raise TypeError(
                f"fit takes {', '.join(unknown)} only with metadata routing: call "
                "sklearn.set_config(enable_metadata_routing=True) and request it."
            )
        if sample_weight is None or self._is_prefit():
            return {name: {} for name in bases}, params
        found: dict[str, Mapping[str, Any]] = {}
        for name, base in bases.items():
            found[name] = _weights_for(base, sample_weight)
        return found, params

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell which metadata goes where.

        Returns
        -------
        MetadataRouter
            ``fit`` feeds itself, the base and ``cv.split``. Of a list of bases the names are
            ``estimator_0`` and so on.
        """
        cv = N_FOLDS if isinstance(self.cv, str) else self.cv
        fitting = MethodMapping().add(caller="fit", callee="fit")
        splitting = MethodMapping().add(caller="fit", callee="split")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(method_mapping=fitting, **self._bases())
            .add(splitter=check_cv(cv), method_mapping=splitting)
        )

    def _unseen_margins(
        self, base: Any, X: Any, codes: Array, folds: Any, fit_params: Mapping[str, Any]
    ) -> Array:
        """Return margins (n, K) of bases that have not seen the rows."""
        with warnings.catch_warnings():
            # A class that a fold's base has not seen has probability 0, and a margin all the same.
            warnings.filterwarnings("ignore", "Number of classes in training fold")
            found = cross_val_predict(
                base, X, codes, cv=folds, n_jobs=self.n_jobs, method=_method(base),
                params=dict(fit_params),
            )  # fmt: skip
        return self._as_margins(base, found)

    def _margins_of(self, fitted: Any, X: Any) -> Array:
        """Return a base's margins (n, K), with classes in the order of ``classes_``."""
        known = np.asarray(fitted.classes_)
        positions = np.arange(len(self.classes_))
        if not (np.array_equal(known, self.classes_) or np.array_equal(known, positions)):
            raise ValueError(
                f"estimator must know the classes of y, {self.classes_.tolist()}, or be fitted to "
                f"their positions; it has {known.tolist()}."
            )
        return self._as_margins(fitted, getattr(fitted, _method(fitted))(X))

    def _as_margins(self, base: Any, found: Any) -> Array:
        found = np.asarray(found, dtype=np.float64)
        if _method(base) == "predict_proba":
            found = np.log(found + FLOOR)
        return validation.check_base_margin(found, len(found), len(self.classes_))

    def _choose(
        self,
        grid: dict[str, Array],
        features: Any,
        y: Array,
        sample_weight: Any,
        margins: Array,
        folds: Any,
    ) -> dict[str, float]:
        """Set what is chosen of q, lam and scale; return q and lam."""
        self.__dict__.pop("cv_results_", None)
        best = {name: float(values[0]) for name, values in grid.items()}
        if any(len(values) > 1 for values in grid.values()):
            search = self._correction(
                MGCEClassifierCV, qs=grid["q"], lams=grid["lam"], cv=folds, refit=False,
                n_jobs=self.n_jobs,
            )  # fmt: skip
            # Weights are the search's own: its scorer has been asked for nothing.
            with config_context(enable_metadata_routing=False):
                found = [
                    search.fit(features, y, sample_weight, scale * margins).cv_results_
                    for scale in grid["scale"]
                ]
            self.cv_results_ = joined(found, "scale", grid["scale"].tolist())
            best = self.cv_results_["params"][chosen(self.cv_results_, self.selection, len(folds))]
        self.q_, self.lam_, self.scale_ = best["q"], best["lam"], best["scale"]
        return {"q": self.q_, "lam": self.lam_}

    def _correction(self, kind: Any, **params: Any) -> Any:
        handed_on = {name: getattr(self, name) for name in HANDED_ON}
        return kind(**handed_on, **params, verbose=self.verbose)

    def _keep(self, X: Any, margins: Array, prefit: bool) -> None:
        """Keep what rows of the fit are known by, and their margins if asked."""
        for name in ("base_margin_", "_row_codes"):
            self.__dict__.pop(name, None)
        numbers = _numbers_of(X)
        self._prefit, self._sees_X = prefit, self.passthrough
        self._sketch = RowSketch.of(numbers)
        if self.keep_base_margin:
            self.base_margin_, self._row_codes = margins, np.concatenate(list(row_codes(numbers)))

    def _parts(self, X: Any) -> tuple[Any, Array]:
        """Return the features of new rows, and their base margins."""
        X = self._read(X, reset=False)
        margins = self._margins_of(self.estimator_, X)
        return (X if self._sees_X else margins), self.scale_ * margins

    def _corrected(self, method: str, X: Any) -> Array:
        """Return what a method of the correction makes of new rows."""
        check_is_fitted(self)
        return getattr(self.correction_, method)(*self._parts(X))

    def decision_function(self, X: Any) -> Array:
        """Compute the corrected margins; see `MGCEClassifier.decision_function`."""
        return self._corrected("decision_function", X)

    def predict(self, X: Any) -> Array:
        """Predict the class of largest margin; see `MGCEClassifier.predict`."""
        return self._corrected("predict", X)

    def predict_proba(self, X: Any) -> Array:
        """Compute the minimax rule; see `MGCEClassifier.predict_proba`."""
        return self._corrected("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the rule's logarithm; see `MGCEClassifier.predict_log_proba`."""
        return self._corrected("predict_log_proba", X)

    def predict_worst_case_proba(self, X: Any) -> Array:
        """Compute the worst case; see `MGCEClassifier.predict_worst_case_proba`."""
        return self._corrected("predict_worst_case_proba", X)

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the rule of margins; see `MGCEClassifier.margins_to_proba`."""
        check_is_fitted(self)
        return self.correction_.margins_to_proba(margins)

    def error_bounds(
        self,
        X: Any,
        rule: str = "deterministic",
        sample_weight: Any = None,
        tol: float = 1e-3,
        **options: Any,
    ) -> ErrorBounds:
        """Bound the error of the corrected rule; see `MGCEClassifier.error_bounds`.

        Parameters
        ----------
        X : rows as in `fit`
            Rows of the fit must be all of them, in their order; their margins are those out of
            fold, which ``keep_base_margin=True`` keeps.
        rule : {"deterministic", "randomized"}, default="deterministic"
        sample_weight : array-like of shape (n_samples,), default=None
        tol : float, default=1e-3
        **options : dict
            ``cost``, ``max_time`` and ``verbose`` of `MGCEClassifier.error_bounds`.

        Returns
        -------
        ErrorBounds

        Raises
        ------
        EmptySetError
            If no labels give the rows of X means within the set.
        TypeError, ValueError
            For an argument that cannot be used; or for rows of the fit whose margins were not kept.
        """
        features, margins = self._parts_as_in_fit(X)
        return self.correction_.error_bounds(
            features, rule, sample_weight, tol, **options, base_margin=margins
        )

    def _parts_as_in_fit(self, X: Any) -> tuple[Any, Array]:
        """Return features and base margins, of rows of the fit those that it saw."""
        check_is_fitted(self)
        numbers = _numbers_of(X)
        if self._prefit or not self._sketch.has_seen(RowSketch.of(numbers)):
            return self._parts(X)
        if not hasattr(self, "base_margin_"):
            raise ValueError(
                "X are rows of the fit, whose base margins were out of fold and are gone: fit with "
                "keep_base_margin=True, or give rows held out."
            )
        if not np.array_equal(np.concatenate(list(row_codes(numbers))), self._row_codes):
            raise ValueError(
                "X must be all rows of the fit in their order, or rows held out; got a part of "
                "them, or another order. Give the X of fit."
            )
        features = self._read(X, reset=False) if self._sees_X else self.base_margin_
        return features, self.scale_ * self.base_margin_

    def certify(
        self, X: Any, delta: float = 0.05, rule: str = "deterministic", *, cost: Any = None
    ) -> ErrorCertificate:
        """Bound the error on new data, with a probability; see `MGCEClassifier.certify`.

        Parameters
        ----------
        X : rows as in `fit`
            Held-out rows, two or more, new to base and correction.
        delta : float, default=0.05
        rule : {"deterministic", "randomized"}, default="deterministic"
        cost : array-like of shape (n_classes, n_classes), default=None

        Returns
        -------
        ErrorCertificate

        Raises
        ------
        TypeError, ValueError
            As there; and for ``passthrough=False`` unless the base was given fitted: the means are
            then those of margins out of fold, of other bases than the one that predicts.
        """
        check_is_fitted(self)
        if not (self._sees_X or self._prefit):
            raise ValueError(
                "certify must have means of features that new rows have too, and with "
                "passthrough=False they are of margins out of fold. Set passthrough=True, or give "
                "a base that is fitted to other rows."
            )
        self._sketch.check_unseen(RowSketch.of(_numbers_of(X)))
        features, margins = self._parts(X)
        return self.correction_.certify(features, delta, rule, cost=cost, base_margin=margins)

    @property
    def coef_(self) -> Array:
        """Coefficients W of the correction, (1, n_features) or (n_classes, n_features)."""
        return self.correction_.coef_

    @property
    def intercept_(self) -> Array:
        """Coefficients of its constant feature, (1,) or (n_classes,)."""
        return self.correction_.intercept_

    @property
    def minimax_risk_(self) -> float:
        """Worst-case expected loss of the corrected rule, in units of its loss."""
        return self.correction_.minimax_risk_

    @property
    def dual_gap_(self) -> float:
        """At least the distance of ``minimax_risk_`` from the optimum."""
        return self.correction_.dual_gap_

    @property
    def n_iter_(self) -> int:
        """Iterations of the correction's fit."""
        return self.correction_.n_iter_

    @property
    def uncertainty_set_(self) -> UncertaintySet:
        """Uncertainty set of the correction."""
        return self.correction_.uncertainty_set_


def _weights_for(base: Any, sample_weight: Array) -> dict[str, Array]:
    """Return the parameters of a base's fit, weights if it takes them."""
    if has_fit_parameter(base, "sample_weight"):
        return {"sample_weight": sample_weight}
    warnings.warn(
        f"{type(base).__name__}.fit takes no sample_weight: weights count in the correction alone.",
        UserWarning,
        stacklevel=5,
    )
    return {}


def _check_counted(y: Array, classes: Array, sample_weight: Array) -> None:
    """Raise ValueError unless every class has a row of positive weight."""
    without = np.setdiff1d(classes, y[sample_weight > 0.0])
    if len(without):
        raise ValueError(
            f"sample_weight must be positive in some row of every class; it is 0 in all rows of "
            f"{without.tolist()[0]!r}. Leave that class out."
        )


def _single(name: str, value: Any, constraint: validation.Constraint) -> Array:
    constraint.check(name, value)
    return np.array([value], dtype=np.float64)


def _is_table(X: Any) -> bool:
    """Tell whether rows have columns."""
    return len(getattr(X, "shape", np.shape(X))) == 2


def _method(base: Any) -> str:
    """Return the name of the method that margins are made of, or "" if there is none."""
    names = ("predict_proba", "decision_function")
    return next((name for name in names if hasattr(base, name)), "")


def _numbers_of(X: Any) -> Any:
    """Return numbers (n, d) that stand for rows of anything: the same for the same row."""
    if sp.issparse(X):
        return sp.csr_matrix(X)
    table = np.asarray(X)
    table = table.reshape(len_of(X), -1)
    if table.dtype.kind in "biuf":
        return table.astype(np.float64)
    return np.column_stack([_hashed(column) for column in table.T])


def _hashed(column: Array) -> Array:
    """Return a hash of the text of each entry."""
    texts, positions = np.unique(column.astype(str), return_inverse=True)
    hashes = [murmurhash3_32(text, positive=True) for text in texts.tolist()]
    return np.array(hashes, dtype=np.float64)[positions]
