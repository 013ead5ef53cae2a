"""MGCEStackingClassifier: a minimax linear model that corrects the margins of any classifier."""

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

from mgce_sklearn import constraints, validation
from mgce_sklearn.bounds import ErrorBounds
from mgce_sklearn.classifier import PARAMETERS as CLASSIFIER_PARAMETERS
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.confidence import ConfidenceBound
from mgce_sklearn.cv_results import SELECTIONS, chosen, joined
from mgce_sklearn.feature_maps import len_of
from mgce_sklearn.rule_bounds import CertifyMixin
from mgce_sklearn.search import MGCEClassifierCV
from mgce_sklearn.sketch import RowSketch, row_codes
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

# Added to probabilities before their logarithm is taken, so that a base with probabilities of 0 or
# 1 can be corrected.
FLOOR = 0.02

# The forests that are tried if no base is given. Small leaves are better if labels are correct,
# large ones if many are wrong.
N_TREES = 100
MIN_SAMPLES_LEAF = (1, 5, 20)

# Half-widths that are tried by default. The larger one is better if many labels are wrong.
LAMS = (1.0, 3.0)

# Folds of a search if the base needs none.
N_FOLDS = 5

# Parameters that are passed to the correction as they are.
PASSED_ON = ("feature_map", "solver", "tol", "max_iter", "feature_range", "random_state")

PARAMETERS = {
    **{name: constraint for name, constraint in CLASSIFIER_PARAMETERS.items() if name in PASSED_ON},
    "passthrough": constraints.SWITCH,
    "keep_base_margin": constraints.SWITCH,
    "selection": constraints.one_of(SELECTIONS),
    "verbose": constraints.VERBOSITY,
}

SCALE = constraints.Constraint(
    (Real,), lambda scale: np.isfinite(scale) and scale > 0, "a positive, finite number (try 1)"
)


class MGCEStackingClassifier(CertifyMixin, ClassifierMixin, BaseEstimator):
    r"""Correct any classifier, the base, by a minimax linear model that is added to its margins.

    .. math:: m(x) = \text{scale} \cdot \log(p(x) + 0.02) + W x

    Here p are the probabilities of the base, ``estimator``. W is fitted to out-of-fold
    probabilities, and penalized toward 0, where the base decides alone. `predict_proba` is the
    minimax rule of the margins m. It resists wrong labels, without knowing how many there are.

    Parameters
    ----------
    estimator : classifier, list of classifiers or None, default=None
        The base. It must have ``predict_proba`` or ``decision_function``; the values of
        ``decision_function`` replace :math:`\log(p + 0.02)` if there is no ``predict_proba``. The
        base is cloned, and fitted to labels 0 to K - 1. A ``FrozenEstimator`` is not fitted again,
        as with ``cv="prefit"``. From a list, the classifier of best out-of-fold accuracy is
        chosen. None: the best of three `~sklearn.ensemble.ExtraTreesClassifier` of 100 trees, with
        ``min_samples_leaf`` 1, 5 and 20.
    q : float or sequence of float, default=1.0
        Loss parameter in [0, 1], as in `MGCEClassifier`. From a sequence one value is chosen, see
        ``selection``.
    lam : float or sequence of float, default=(1.0, 3.0)
        Half-width of the uncertainty set, in standard errors of the feature means. From a sequence
        one value is chosen.
    scale : float or sequence of float, default=1.0
        Factor on the margins of the base. From a sequence one value is chosen.
    cv : int, cross-validation generator, iterable or "prefit", default=5
        Folds of the base's predictions, and of the search. Each row must be in one test part. An
        int: stratified folds. "prefit": the base is fitted already, to other rows than those given
        to `fit`. A search then has 5 folds.
    passthrough : bool, default=True
        Whether W multiplies X, transformed by ``feature_map`` if that is given. If False, W
        multiplies the margins of the base alone. Use this if the base takes an X that a linear
        model does not, such as text, categories or missing values. A ``feature_map`` that is a
        transformer is another way.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        Transforms X before W multiplies it, as in `MGCEClassifier`.
    selection : {"largest_q", "best", "one_standard_error"}, default="largest_q"
        How q, lam and scale are chosen if any of them is a sequence: from accuracies in
        cross-validation of the correction, as in `MGCEClassifierCV`.
    n_jobs : int or None, default=None
        Number of processes, for the folds of the base and of the search.
    keep_base_margin : bool, default=False
        Whether to store the base's margins of the rows of the fit. `error_bounds` needs them for
        these rows. Otherwise nothing is stored whose size grows with the number of rows.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        As in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which the solver of the correction stops.
    max_iter : int or None, default=None
        Iteration limit of the solver. None: the solver's own.
    feature_range : pair (low, high) or None, default=None
        Least and largest value of the features, known beforehand, for `confidence_bound`.
    random_state : int, RandomState instance or None, default=None
        Seed, passed to the correction and to the default forests.
    verbose : int, default=0
        As in `MGCEClassifier`, and for a search as in `MGCEClassifierCV`.

    Attributes
    ----------
    estimator_ : classifier
        The base, fitted to all rows, or as it was given if it was fitted already.
    estimator_scores_ : ndarray of shape (n_estimators,)
        Out-of-fold accuracy on the labels given, for the classifier or for each of the list. Not
        present if the base was fitted already.
    correction_ : MGCEClassifier
        The linear model with coefficients W. Its ``base_margin`` is ``scale_`` times the base's
        margins.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    q_, lam_, scale_ : float
        The values that were given or chosen.
    minimax_risk_ : float
        Upper bound on the expected loss of the corrected rule, if feature means are in
        ``uncertainty_set_`` and the base's loss is within ``lam`` standard errors of its
        out-of-fold loss. See the notes of `MGCEClassifier`. It is about the labels given, wrong
        ones included.
    dual_gap_ : float
        Upper bound on the distance of ``minimax_risk_`` from its optimum.
    uncertainty_set_ : UncertaintySet
        Uncertainty set of the features that W multiplies.
    coef_, intercept_ : ndarray
        W, as in `MGCEClassifier`.
    cv_results_ : dict of ndarray
        As in `MGCEClassifierCV`, with ``param_scale`` beside ``param_q`` and ``param_lam``. Present
        if q, lam or scale had several values.
    base_margin_ : ndarray of shape (n_samples, n_classes)
        Out-of-fold margins of the rows of the fit, before scaling. Present if
        ``keep_base_margin=True``.
    n_features_in_ : int
        Number of columns of X, if X has columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X had string column names.

    Notes
    -----
    *Search.* Cross-validation of the correction uses the base's out-of-fold margins. The base is
    not fitted again, so the search costs little. But each of these margins comes from a base that
    has seen labels of other folds. So scores are slightly too high, equally for all candidates.

    *Wrong labels.* If many labels are wrong, W may fit them with ``lam=1`` alone. Around boosted
    trees this cost up to .09 of accuracy on ten classes. A search over a few half-widths costs
    little compared with the folds of the base. A search over ``scale`` too, such as
    ``(0.5, 1, 2)``, may gain some accuracy, but makes probabilities underconfident
    (``benchmarks/README.md``).

    *Missing classes.* A class that does not occur in the training part of a fold has margin
    :math:`\log 0.02` there.

    *Weights.* ``sample_weight`` is passed to the correction, and to the base if its ``fit`` takes
    weights. With metadata routing enabled, base and splitter get the metadata that they request.

    *Bounds* are about the corrected rule. On the rows of the fit they use the out-of-fold margins,
    which the correction was fitted to. On held-out rows they use the base that was fitted to all
    rows: `error_bounds` assumes that its loss is no larger than out of fold. `confidence_bound`
    assumes nothing about the base.

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
        """Fit the base, in folds and to all rows, and then the correction.

        Parameters
        ----------
        X : array-like, sparse matrix, frame or list of n_samples rows
            Anything that the base takes. Finite numbers if ``passthrough=True`` and there is no
            ``feature_map``.
        y : array-like of shape (n_samples,)
            Labels of any dtype, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Every class must have a row of positive weight.
        **params : dict
            ``groups`` for the splitter. With metadata routing, anything that the base and the
            splitter request.

        Returns
        -------
        MGCEStackingClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data cannot be used. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            As in `MGCEClassifier` and `MGCEClassifierCV`.
        UserWarning
            If there are weights and the base takes none.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight, params)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]
    ) -> MGCEStackingClassifier:
        constraints.check_all(vars(self), PARAMETERS)
        grid, bases = self._grid(), self._checked_bases()
        y, classes = validation.check_label_array("y", y, warn=True)
        X = self._read(X, reset=True)
        check_consistent_length(X, y)
        if sample_weight is not None:
            sample_weight = validation.check_sample_weight(sample_weight, len(y))
            _check_weights_of_classes(y, classes, sample_weight)
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
        self._store(X, margins, prefit)
        return self

    def _grid(self) -> dict[str, Array]:
        """Return the values to try of q, lam and scale."""
        allowed = {**CLASSIFIER_PARAMETERS, "lam": constraints.HALF_WIDTH, "scale": SCALE}
        return {
            name: constraints.check_sequence(name, value, allowed[name])
            if np.iterable(value)
            else _single(name, value, allowed[name])
            for name, value in (("q", self.q), ("lam", self.lam), ("scale", self.scale))
        }

    def _read(self, X: Any, reset: bool) -> Any:
        """Return X as it is, after a check that it is numeric if W multiplies it."""
        if not self.passthrough and self.feature_map is not None:
            raise ValueError(
                "feature_map must be None for passthrough=False, because W does not multiply X "
                f"then; got {self.feature_map!r}. Set passthrough=True."
            )
        X = indexable(X)[0]
        if self.passthrough and self.feature_map is None:
            self._check_numbers(X)
        if reset or _is_table(X):  # anything else is for the base to check
            validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _check_numbers(self, X: Any) -> None:
        """Raise ValueError unless X has finite numbers, as a linear model needs."""
        try:
            check_array(X, accept_sparse="csr", estimator=self)
        except ValueError as error:
            if not _is_table(X):
                raise
            raise ValueError(
                "X must be rows of finite numbers for passthrough=True without a feature_map: "
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
        """Return the classifiers to choose the base from, or raise an error if one is unusable."""
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
                "estimator must be one classifier if it is fitted already, and at least one "
                f"otherwise; got {self.estimator!r}."
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
        """Return the name of the base of best accuracy, the first if several have it."""
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
                f"fit takes {', '.join(unknown)} only with metadata routing. Call "
                "sklearn.set_config(enable_metadata_routing=True) and request it."
            )
        if sample_weight is None or self._is_prefit():
            return {name: {} for name in bases}, params
        found: dict[str, Mapping[str, Any]] = {}
        for name, base in bases.items():
            found[name] = _weights_for(base, sample_weight)
        return found, params

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata `fit` uses and passes on.

        Returns
        -------
        MetadataRouter
            ``fit`` uses metadata itself, and passes it to ``fit`` of the base and to ``cv.split``.
            The bases of a list are named ``estimator_0`` and so on.
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
            # A class that a base has not seen gets probability 0, for which there is a margin too.
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
                f"estimator must have the classes of y, {self.classes_.tolist()}, or their "
                f"positions 0 to {len(positions) - 1}; it has {known.tolist()}."
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
        """Choose q, lam and scale, store them, and return q and lam."""
        self.__dict__.pop("cv_results_", None)
        best = {name: float(values[0]) for name, values in grid.items()}
        if any(len(values) > 1 for values in grid.values()):
            search = self._correction(
                MGCEClassifierCV, qs=grid["q"], lams=grid["lam"], cv=folds, refit=False,
                n_jobs=self.n_jobs,
            )  # fmt: skip
            # The search uses weights itself. With routing, its scorer would have to request them.
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
        passed_on = {name: getattr(self, name) for name in PASSED_ON}
        return kind(**passed_on, **params, verbose=self.verbose)

    def _store(self, X: Any, margins: Array, prefit: bool) -> None:
        """Store what rows of the fit are recognized by, and their margins if requested."""
        for name in ("base_margin_", "_row_codes"):
            self.__dict__.pop(name, None)
        numbers = _numbers_of(X)
        self._prefit, self._uses_X = prefit, self.passthrough
        self._sketch = RowSketch.of(numbers)
        if self.keep_base_margin:
            self.base_margin_, self._row_codes = margins, np.concatenate(list(row_codes(numbers)))

    def _inputs(self, X: Any) -> tuple[Any, Array]:
        """Return the features that W multiplies, and the scaled base margins, of new rows."""
        X = self._read(X, reset=False)
        margins = self._margins_of(self.estimator_, X)
        return (X if self._uses_X else margins), self.scale_ * margins

    def _corrected(self, method: str, X: Any) -> Array:
        """Return what a method of the correction returns for new rows."""
        check_is_fitted(self)
        return getattr(self.correction_, method)(*self._inputs(X))

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
            Held-out rows; or all rows of the fit in their order, whose out-of-fold margins must
            have been stored by ``keep_base_margin=True``.
        rule : {"deterministic", "randomized"}, default="deterministic"
            "deterministic": the error of `predict`. "randomized": that of a label drawn from
            `predict_proba`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        tol : float, default=1e-3
            Gap between the bounds at which to stop, in units of error. With ``cost``, a share of
            the range of the costs.
        **options : dict
            ``cost``, ``max_time`` and ``verbose`` of `MGCEClassifier.error_bounds`.

        Returns
        -------
        ErrorBounds
            See `MGCEClassifier.error_bounds`.

        Raises
        ------
        EmptySetError
            If no labeling of X is consistent with the uncertainty set.
        TypeError, ValueError
            If an argument cannot be used, or if X are rows of the fit whose margins were not
            stored.
        """
        features, margins = self._inputs_as_in_fit(X)
        return self.correction_.error_bounds(
            features, rule, sample_weight, tol, **options, base_margin=margins
        )

    def _inputs_as_in_fit(self, X: Any) -> tuple[Any, Array]:
        """Return `_inputs`; for the rows of the fit, those that the correction was fitted to."""
        check_is_fitted(self)
        numbers = _numbers_of(X)
        if self._prefit or not self._sketch.has_seen(RowSketch.of(numbers)):
            return self._inputs(X)
        if not hasattr(self, "base_margin_"):
            raise ValueError(
                "X must not be rows of the fit, because their out-of-fold margins were not stored. "
                "Fit with keep_base_margin=True, or give held-out rows."
            )
        if not np.array_equal(np.concatenate(list(row_codes(numbers))), self._row_codes):
            raise ValueError(
                "X must be all rows of the fit in their order, or held-out rows; got some of the "
                "rows of the fit, or another order. Give the X of fit."
            )
        features = self._read(X, reset=False) if self._uses_X else self.base_margin_
        return features, self.scale_ * self.base_margin_

    def confidence_bound(
        self, X: Any, delta: float = 0.05, rule: str = "deterministic", *, cost: Any = None
    ) -> ConfidenceBound:
        """Bound the error on new data with a probability; see `MGCEClassifier.confidence_bound`.

        Parameters
        ----------
        X : rows as in `fit`
            Held-out rows, two or more, new to base and correction.
        delta : float, default=0.05
        rule : {"deterministic", "randomized"}, default="deterministic"
        cost : array-like of shape (n_classes, n_classes), default=None

        Returns
        -------
        ConfidenceBound

        Raises
        ------
        TypeError, ValueError
            As there; and for ``passthrough=False`` unless the base was given fitted: the means are
            then those of margins out of fold, of other bases than the one that predicts.
        """
        check_is_fitted(self)
        if not (self._uses_X or self._prefit):
            raise ValueError(
                "passthrough must be True in the fit for confidence_bound; with passthrough=False "
                "the uncertainty set is about out-of-fold margins, which new rows do not have. Set "
                "passthrough=True, or give a base that is fitted to other rows."
            )
        self._sketch.check_unseen(RowSketch.of(_numbers_of(X)))
        features, margins = self._inputs(X)
        return self.correction_.confidence_bound(
            features, delta, rule, cost=cost, base_margin=margins
        )

    def summary(self) -> Any:
        """List the correction's coefficients and means by class and feature.

        See `MGCEClassifier.summary`. Without ``passthrough`` the features are the base's margins.
        """
        check_is_fitted(self)
        if not self._uses_X:
            return self.correction_._summary([f"margin of {label}" for label in self.classes_])
        if self.feature_map is not None:
            return self.correction_.summary()
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{i}" for i in range(self.n_features_in_)] if names is None else list(names)
        return self.correction_._summary(names)

    @property
    def coef_(self) -> Array:
        """Coefficients W of the correction, (1, n_features) or (n_classes, n_features)."""
        return self.correction_.coef_

    @property
    def intercept_(self) -> Array:
        """Coefficients of the constant feature of the correction, (1,) or (n_classes,)."""
        return self.correction_.intercept_

    @property
    def minimax_risk_(self) -> float:
        """Upper bound on the expected loss of the corrected rule, in units of the loss."""
        return self.correction_.minimax_risk_

    @property
    def dual_gap_(self) -> float:
        """Upper bound on the distance of ``minimax_risk_`` from the optimum."""
        return self.correction_.dual_gap_

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the correction's solver."""
        return self.correction_.n_iter_

    @property
    def uncertainty_set_(self) -> UncertaintySet:
        """Uncertainty set of the correction."""
        return self.correction_.uncertainty_set_


def _weights_for(base: Any, sample_weight: Array) -> dict[str, Array]:
    """Return weights as parameters of a base's ``fit``; none, with a warning, if it has none."""
    if has_fit_parameter(base, "sample_weight"):
        return {"sample_weight": sample_weight}
    warnings.warn(
        f"{type(base).__name__}.fit takes no sample_weight, so weights are used for the correction "
        "alone.",
        UserWarning,
        stacklevel=5,
    )
    return {}


def _check_weights_of_classes(y: Array, classes: Array, sample_weight: Array) -> None:
    """Raise ValueError unless every class has a row of positive weight."""
    without = np.setdiff1d(classes, y[sample_weight > 0.0])
    if len(without):
        raise ValueError(
            f"sample_weight must be positive in some row of every class; it is 0 in all rows of "
            f"{without.tolist()[0]!r}. Leave that class out."
        )


def _single(name: str, value: Any, constraint: constraints.Constraint) -> Array:
    constraint.check(name, value)
    return np.array([value], dtype=np.float64)


def _is_table(X: Any) -> bool:
    """Return whether X has two dimensions, rows and columns."""
    return len(getattr(X, "shape", np.shape(X))) == 2


def _method(base: Any) -> str:
    """Return the name of the method that gives margins, or "" if there is none."""
    names = ("predict_proba", "decision_function")
    return next((name for name in names if hasattr(base, name)), "")


def _numbers_of(X: Any) -> Any:
    """Return numbers (n, d) by which rows of any kind are recognized: equal for equal rows."""
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
