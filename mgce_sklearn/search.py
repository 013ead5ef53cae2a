"""MGCEClassifierCV: q and lam chosen by cross-validation."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from functools import partial, update_wrapper
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import validation
from mgce_sklearn.arrays import on_host
from mgce_sklearn.callbacks import WRAPPERS, CallbackSupportMixin, Task, with_callbacks
from mgce_sklearn.classifier import PARAMETERS as CLASSIFIER_PARAMETERS
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.feature_maps import KeptFeatures, len_of, rows_of
from mgce_sklearn.path import (
    PathPoint,
    Settings,
    estimates,
    follow,
    named,
    warn_of_gaps,
    widest_first,
)
from mgce_sklearn.problem import Problem, inverse_noise
from mgce_sklearn.row_blocks import refuse_blocks
from mgce_sklearn.solvers import Status, Watch, deadline_in
from mgce_sklearn.targets import Distributions, encoded, read_labels
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]

# What is largest in the pair that is chosen near the best score.
LARGEST = {"one_standard_error": "lam", "largest_q": "q"}
SELECTIONS = ("best", *LARGEST)

# What scorers ask of a classifier.
PREDICTIONS = ("predict", "predict_proba", "predict_log_proba", "decision_function")

# Of max_time, what is kept for the fit of the chosen pair to all rows.
REFIT_SHARE = 0.2

# Parameters of the classifier that are parameters of the search, and mean the same.
HANDED_ON = (
    "fit_intercept",
    "center",
    "solver",
    "tol",
    "max_iter",
    "class_weight",
    "width",
    "delta",
    "feature_range",
    "feature_map",
    "noise_matrix",
    "random_state",
)

ERROR_SCORE = validation.Constraint(
    (Real, str),
    lambda value: not isinstance(value, str) or value == "raise",
    "'raise' or a number (try nan)",
)

PARAMETERS = {
    "certify_scores": validation.SWITCH,
    "refit": validation.SWITCH,
    "selection": validation.one_of(SELECTIONS),
    "error_score": ERROR_SCORE,
    "max_time": validation.TIME_LIMIT,
    "verbose": validation.VERBOSITY,
    **{name: constraint for name, constraint in CLASSIFIER_PARAMETERS.items() if name in HANDED_ON},
}


Labeling = Array | Distributions


class MGCEClassifierCV(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""`MGCEClassifier` with q and lam chosen by cross-validation.

    In every fold all pairs are scored by fits that come near the optimum, at a fraction of the cost
    of certified ones. The pair of the best mean score is fitted to all rows, and certified.

    Parameters
    ----------
    qs : sequence of float, default=(0.0, 0.25, 0.5, 0.75)
        Loss parameters to try, in [0, 1].
    lams : sequence of float, default=(0.03, 0.1, 0.3, 1.0)
        Half-widths to try, in standard errors of the feature means.
    cv : int, cross-validation generator, iterable or None, default=None
        As in scikit-learn. None: 5 stratified folds.
    scoring : str, callable or None, default=None
        A scorer's name, or a callable ``scorer(estimator, X, y)``. None: accuracy; expected
        accuracy if labels are distributions, and beside a ``noise_matrix`` the mean of its
        inverse at observed and predicted labels, which is on average the accuracy on true ones.
        A scorer that is named sees labels as they come. For probabilities
        that are exactly 0 when q > 0, "neg_brier_score" says more than
        "neg_log_loss".
    n_jobs : int or None, default=None
        Number of processes. Each limits its own threads to its share of the cores.
    refit : bool, default=True
        Whether to fit the chosen pair to all rows. Without it there are no predictions.
    certify_scores : bool, default=False
        Whether fits in folds are certified like the refit, by ``solver`` to ``tol``, so that scores
        are those of `~sklearn.model_selection.GridSearchCV`. If not, each of them is L-BFGS from
        zero until steps gain less than 1e-5, whatever ``solver``, ``tol`` and ``max_iter``; see
        the notes.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    center : "auto" or bool, default="auto"
        Which columns to center, as in `MGCEClassifier`; in every fold about its own means.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        Of the refit and of certified scores, as in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which these stop.
    max_iter : int or None, default=None
        Iteration limit of each of these. None: the solver's own.
    max_time : float or None, default=None
        Seconds for the whole search, a fifth of which is kept for the fit to all rows. What
        was not scored by then is NaN; see the notes. None: no limit.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class, "balanced" within each fold.
    width, delta, feature_range
        Method of the half-widths, as in `MGCEClassifier`; in every fold of its own rows. Where
        ``width`` does not depend on ``lam``, one of ``lams`` is enough.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        What makes the features of the linear model from X, or "relu", "fourier" or "threshold", as
        in `MGCEClassifier`. A transformer, or the map of a name, is fitted to the training rows
        of each fold, once for all pairs, and again for the refit.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        By which labels became wrong, as in `MGCEClassifier`. A pair whose set is empty in a fold
        has failed there.
    selection : {"best", "one_standard_error", "largest_q"}, default="best"
        "best": the best mean score. The others look at the pairs whose mean score is within one
        standard error of it. "one_standard_error": the one of largest lam, whose bound holds for
        more distributions. "largest_q": the one of largest q, for labels that may be wrong: where
        scores cannot tell, the loss that such labels move least; see the notes. Among equal ones
        the better score.
    error_score : "raise" or float, default=np.nan
        The score of a fit or a scorer that raises in a fold, as in
        `~sklearn.model_selection.GridSearchCV`: a fold may lack a class that the scorer asks for.
        "raise": the error itself. Pairs whose mean is NaN rank last; if all are, the first is
        chosen.
    random_state : int, RandomState instance or None, default=None
        Handed to the classifier.
    verbose : int, default=0
        1: messages of joblib. 2 or more: the solvers' too.

    Attributes
    ----------
    q_, lam_ : float
        The chosen pair.
    cv_results_ : dict of ndarray
        As in `~sklearn.model_selection.GridSearchCV`, with ``param_q``, ``param_lam``,
        ``params``, ``split0_test_score``..., ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, times to fit and to score in seconds, and two columns more:
        ``mean_minimax_risk`` over the folds, in units of :math:`\ell_q` (comparable between
        lam, not between q), and ``converged``, whether every fold's gap is within ``tol``. Where
        a fit failed, or was stopped or not begun for want of time, they are NaN and False.
        Without ``certify_scores`` a minimax risk is a valid bound of the fit that was scored,
        somewhat above the least one, and ``converged`` is False: no gap is computed.
    best_index_ : int
        Position of the chosen pair in ``cv_results_``.
    best_params_ : dict
        The chosen pair as ``{"lam": ..., "q": ...}``.
    best_score_ : float
        Its mean score.
    best_estimator_ : MGCEClassifier
        The chosen pair fitted to all rows. Present if ``refit``.
    scorer_ : callable
        The scorer used.
    n_splits_ : int
        Number of folds.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    Notes
    -----
    With ``certify_scores``, scores are those of `~sklearn.model_selection.GridSearchCV` over
    `MGCEClassifier` on the same folds, to the accuracy that ``tol`` certifies; all widths of a q
    are fitted as one path, which costs a fraction of separate fits.

    Without it they differ by what L-BFGS leaves to the optimum when a step gains less than 1e-5, or
    after 200 gradients: on eleven data sets by .0009 in accuracy on average, and the certified
    accuracy of the pair chosen was at most .0035 below the best (``benchmarks/search.py``). The
    score of a pair depends on no other pair. Beyond q = 0.9 a slightly smoothed loss is
    minimized. A scorer that looks at more than predictions and probabilities should ask for
    certified fits: others have the trivial ``dual_gap_``, and "approximate" for ``solver_``. The
    rows of a fold are in memory twice while it is scored.

    Scores near the optimum are no guide to text, where accuracy is best long before it: there take
    `~sklearn.model_selection.GridSearchCV` over ``MGCEClassifier(solver="sgd", max_iter=10)``.

    For labels that may be wrong, ``selection="largest_q"`` goes with qs up to 1 and lams up to 10,
    and with accuracy as the score: log loss and Brier score on wrong labels reward fitting them.

    Folds and, without a ``feature_map``, q are run in parallel.

    Folds are taken one after the other. If ``max_time`` ends before the last, or a callback stops
    the search, pairs are compared on the folds in which all of them have been scored, and all
    means are over these. Where not even the first is complete, those pairs are compared that it
    has. The chosen pair is then fitted to all rows in the time that is left, and may end with an
    open gap and a valid bound.

    Callbacks of scikit-learn (1.9 or later, ``set_callbacks``) are told of every q in every fold,
    with a ``feature_map`` of every fold, and of the fit to all rows.

    With metadata routing enabled, ``groups`` goes to a splitter, and ``sample_weight`` and
    others to a scorer, that asks for them; weights are used in fitting in any case. Without
    routing, ``groups`` goes to the splitter and ``sample_weight`` to fits and scorer.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.
    .. [2] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and Regression
       Trees", 1984, section 3.4.3: the rule of one standard error.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> search = MGCEClassifierCV(qs=(0.0, 0.5), lams=(0.1, 1.0)).fit(X, y)
    >>> print(search.q_, search.lam_, round(search.best_score_, 3))
    0.5 0.1 0.98
    """

    def __init__(
        self,
        qs: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
        lams: Sequence[float] = (0.03, 0.1, 0.3, 1.0),
        *,
        cv: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool = True,
        certify_scores: bool = False,
        fit_intercept: bool = True,
        center: Any = "auto",
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int | None = None,
        max_time: float | None = None,
        class_weight: Any = None,
        width: Any = "standard_error",
        delta: float = 0.05,
        feature_range: Any = None,
        feature_map: Any = None,
        noise_matrix: Any = None,
        selection: str = "best",
        error_score: Any = np.nan,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.qs = qs
        self.lams = lams
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.certify_scores = certify_scores
        self.fit_intercept = fit_intercept
        self.center = center
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.max_time = max_time
        self.class_weight = class_weight
        self.width = width
        self.delta = delta
        self.feature_range = feature_range
        self.feature_map = feature_map
        self.noise_matrix = noise_matrix
        self.selection = selection
        self.error_score = error_score
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        base_margin: Any = None,
        **params: Any,
    ) -> MGCEClassifierCV:
        """Score every pair of q and lam, choose one, and fit it to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers; with a ``feature_map`` whatever that takes, here and elsewhere.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones; or distributions, as in
            `MGCEClassifier.fit`. Folds are then stratified by the most probable class.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Margins of another classifier, to which those of the features are added, as in
            `MGCEClassifier`: of rows that it was not fitted to.
        **params : dict
            ``groups`` for the splitter; with metadata routing whatever splitter and scorer
            ask for.

        Returns
        -------
        MGCEClassifierCV
            The fitted search.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used, if every fit fails, or if time sufficed for
            none. The estimator stays as it was.
        KeyboardInterrupt
            On Ctrl-C. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If the gap of the refit exceeds ``tol``; once for certified scores, naming the pairs
            whose gap does so in a fold; and once, if the search was stopped, saying on how many
            folds pairs are compared and naming those without a score.
        FitFailedWarning, UserWarning
            Once each, if fits or scores failed, with the first error; and if mean scores are not
            finite.
        """
        # Before `unchanged_on_error` notes the attributes: what callbacks end by is one of them.
        task = Task.of_fit(self, X, y, sample_weight, n_parts=1 + (self.refit is not False))
        with validation.unchanged_on_error(self):
            self._fit(X, y, sample_weight, base_margin, params, task)
        task.end(fitted=dict)
        return self

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        base_margin: Any,
        params: Params,
        task: Task,
    ) -> None:
        validation.check_all(vars(self), PARAMETERS)
        deadline = deadline_in(self.max_time)
        qs = validation.check_sequence("qs", self.qs, validation.LOSS_PARAMETER)
        lams = validation.check_sequence("lams", self.lams, validation.HALF_WIDTH)
        rows, labels = self._read(X, y)
        self.scorer_ = self._scorer_of(labels)
        if sample_weight is not None:
            sample_weight = validation.check_sample_weight(sample_weight, len(labels))
        if base_margin is not None:
            n_classes = len(encoded(labels)[0])
            base_margin = validation.check_base_margin(base_margin, len(labels), n_classes)
        params = {"sample_weight": sample_weight, **params}
        kept = REFIT_SHARE * (self.max_time or 0.0) if self.refit else 0.0
        watch = Watch(deadline - kept)
        data = (rows, labels, sample_weight, base_margin)
        candidates, scores = self._evaluate(qs, lams, data, params, watch, task)
        self.cv_results_ = _results(candidates, scores)
        _warn_of_the_rest(candidates, scores)
        _warn_of_no_score(self.cv_results_["mean_test_score"][scores.counted.any(axis=0)])
        if self.certify_scores:
            missed = [candidates[i] for i in np.flatnonzero((scores.converged == 0.0).any(axis=0))]
            pairs = [(pair["q"], pair["lam"]) for pair in missed]
            warn_of_gaps(pairs, self.tol, stacklevel=3 + WRAPPERS)
        self._select(n_folds=int(scores.counted.sum(axis=0).max()))
        if self.refit:
            based = {} if base_margin is None else {"base_margin": base_margin}
            self._refit((X, labels, sample_weight), based, deadline, task)

    def _refit(
        self, data: tuple[Any, ...], based: dict[str, Any], deadline: float, task: Task
    ) -> None:
        """Fit the chosen pair to all rows, in the time that is left."""
        classifier = self._candidate(**self.best_params_)
        if self.max_time is not None:
            # One step is always made.
            classifier.set_params(max_time=max(Watch(deadline).seconds_left, 1e-9))
        self.best_estimator_ = classifier
        with task.handed_to(classifier, "refit"):
            # X as it came: the names of its columns are the classifier's to remember.
            classifier.fit(*data, **based)
        classifier.set_params(max_time=self.max_time)

    def _read(self, X: Any, y: Any) -> tuple[Any, Labeling]:
        """Return rows that can be split, and their labels; raw ones if a feature map takes them."""
        refuse_blocks(X)
        labels = read_labels(y)
        how = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        if isinstance(labels, Distributions):
            labels.check_rows(len_of(X))
            if self.feature_map is None:
                return validate_data(self, on_host(X), **how), labels
        elif self.feature_map is None:
            return validate_data(self, on_host(X), labels, **how)
        else:
            labels = validation.check_tensor_labels(labels, len_of(X))
        validate_data(self, X, skip_check_array=True)
        return indexable(X)[0], labels

    def _evaluate(
        self,
        qs: Array,
        lams: Array,
        data: tuple[Any, Labeling, Any, Any],
        params: Params,
        watch: Watch,
        task: Task,
    ) -> tuple[list[dict[str, float]], _Scores]:
        """Return the pairs of the grid, and their scores in every fold, as far as time allows."""
        X, y, *_ = data
        split_params, score_params = self._route("fit", params, without_routing=["groups"])
        strata = y.most_probable() if isinstance(y, Distributions) else y
        splits = list(check_cv(self.cv, strata, classifier=True).split(X, strata, **split_params))
        validation.check_folds(splits)
        self.n_splits_ = len(splits)
        scoring = (self.scorer_, score_params, self.error_score)
        # A feature map is fitted once in a fold; otherwise every q of a fold has a job.
        parts = [qs] if self.feature_map is not None else np.split(qs, len(qs))
        how = (self._candidate(), self.certify_scores, watch)
        jobs = (
            delayed(_score_fold)(*how, part, lams, *split, *data, *scoring)
            for split in splits
            for part in parts
        )
        trials = self._run(jobs, task.part("search", len(splits) * len(parts)))
        n_trials = len(splits) * len(qs) * len(lams)
        trials += [_NOT_REACHED] * (n_trials - len(trials))
        _tell_failures(trials, self.error_score)
        # ParameterGrid sorts names, so that lam varies slower than q.
        candidates = list(ParameterGrid({"q": qs.tolist(), "lam": lams.tolist()}))
        numbers = np.array([trial.scores for trial in trials], dtype=np.float64)
        by_fold = numbers.reshape(len(splits), len(qs), len(lams), -1).transpose(3, 0, 2, 1)
        return candidates, _Scores(*by_fold.reshape(-1, len(splits), len(candidates)))

    def _run(self, jobs: Iterator[Any], task: Task) -> list[_Trial]:
        """Run jobs, a part of the task each, until a callback stops it; return their trials.

        Those that have begun then are waited for.
        """
        stopped = threading.Event()
        wanted = itertools.takewhile(lambda job: not stopped.is_set(), jobs)
        run = _one_by_one(self.n_jobs, self.verbose)
        trials: list[_Trial] = []
        # Closed by whatever error: that ends what still runs.
        with closing(result for result in run(wanted)) as results:
            for result in results:
                trials += result
                if task.part("path").end():
                    stopped.set()
        task.end()
        return trials

    def _candidate(self, **params: Any) -> MGCEClassifier:
        handed_on = {name: getattr(self, name) for name in HANDED_ON}
        return MGCEClassifier(**params, **handed_on, verbose=max(0, self.verbose - 1))

    def _scorer(self) -> Any:
        if not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)):
            raise TypeError(
                f"scoring must be a scorer's name, a callable or None; got {self.scoring!r}. "
                "For several scores use GridSearchCV over MGCEClassifier."
            )
        if isinstance(self.scoring, str) and self.scoring not in get_scorer_names():
            raise ValueError(
                f"scoring must be a scorer's name; got {self.scoring!r}. "
                "sklearn.metrics.get_scorer_names() lists them."
            )
        return check_scoring(MGCEClassifier(), scoring=self.scoring or "accuracy")

    def _scorer_of(self, labels: Labeling) -> Any:
        """Return what pairs are compared by: accuracy, if nothing else is asked for."""
        scorer = self._scorer()
        if isinstance(labels, Distributions):
            if self.scoring is not None:
                raise ValueError(
                    f"scoring must be None if y is distributions, for expected accuracy; got "
                    f"{self.scoring!r}. Or give the most probable labels as y."
                )
            return _expected_accuracy
        if self.noise_matrix is None or self.scoring is not None:
            return scorer
        classes, coded = encoded(labels)
        inverse = inverse_noise(self.noise_matrix, self.class_weight, classes, coded.certain)
        return scorer if inverse is None else _AccuracyOfTrueLabels(inverse, classes)

    def _route(self, caller: str, params: Params, without_routing: list[str]) -> tuple[Any, Any]:
        """Return the parameters for the splitter and those for the scorer.

        ``sample_weight`` and those named ``without_routing`` are taken without routing too.
        """
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, caller, **params)
            return routed["splitter"].get("split", {}), routed["scorer"]["score"]
        unknown = sorted(params.keys() - {"sample_weight", *without_routing})
        if unknown:
            raise TypeError(
                f"{caller} takes {', '.join(unknown)} only with metadata routing: call "
                "sklearn.set_config(enable_metadata_routing=True) and request it."
            )
        params = {name: value for name, value in params.items() if value is not None}
        split_params = {"groups": params.pop("groups", None)}
        return split_params, params

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell which metadata goes where.

        Returns
        -------
        MetadataRouter
            ``fit`` feeds itself, ``cv.split`` and the scorer; ``score`` feeds the scorer.
        """
        scoring = MethodMapping().add(caller="fit", callee="score")
        scoring.add(caller="score", callee="score")
        splitting = MethodMapping().add(caller="fit", callee="split")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=check_cv(self.cv), method_mapping=splitting)
            .add(scorer=self._scorer(), method_mapping=scoring)
        )

    def _select(self, n_folds: int) -> None:
        """Choose a pair from the results over so many folds."""
        results = self.cv_results_
        self.best_index_ = best = chosen(results, self.selection, n_folds)
        self.best_params_ = results["params"][best]
        self.best_score_ = float(results["mean_test_score"][best])
        self.q_, self.lam_ = self.best_params_["q"], self.best_params_["lam"]

    def _best(self) -> MGCEClassifier:
        check_is_fitted(self)
        if not self.refit:
            raise AttributeError(
                "This MGCEClassifierCV was fitted with refit=False and has chosen q_ and lam_ "
                "only. Set refit=True for coefficients and predictions."
            )
        return self.best_estimator_

    def score(self, X: Any, y: Any = None, base_margin: Any = None, **params: Any) -> float:
        """Score the chosen classifier by ``scoring``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one.
        **params : dict
            ``sample_weight`` for the scorer; with metadata routing whatever it asks for.

        Returns
        -------
        float
        """
        refuse_blocks(X)
        _, score_params = self._route("score", params, without_routing=[])
        return self._scorer()(_given(self._best(), base_margin), X, y, **score_params)

    def decision_function(self, X: Any, base_margin: Any = None) -> Array:
        """Compute margins; see `MGCEClassifier.decision_function`."""
        return self._best().decision_function(X, base_margin)

    def predict(self, X: Any, base_margin: Any = None) -> Array:
        """Predict the class of largest margin; see `MGCEClassifier.predict`."""
        return self._best().predict(X, base_margin)

    def predict_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the minimax rule; see `MGCEClassifier.predict_proba`."""
        return self._best().predict_proba(X, base_margin)

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the rule of margins; see `MGCEClassifier.margins_to_proba`."""
        return self._best().margins_to_proba(margins)

    def predict_log_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the rule's logarithm; see `MGCEClassifier.predict_log_proba`."""
        return self._best().predict_log_proba(X, base_margin)

    def predict_worst_case_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the worst case; see `MGCEClassifier.predict_worst_case_proba`."""
        return self._best().predict_worst_case_proba(X, base_margin)

    @property
    def coef_(self) -> Array:
        """Coefficients of the chosen classifier, (1, n_features) or (n_classes, n_features)."""
        return self._best().coef_

    @property
    def intercept_(self) -> Array:
        """Coefficients of its constant feature, (1,) or (n_classes,)."""
        return self._best().intercept_

    @property
    def classes_(self) -> Array:
        """Class labels, (n_classes,)."""
        return self._best().classes_

    @property
    def minimax_risk_(self) -> float:
        """Worst-case expected loss of the chosen classifier; see `MGCEClassifier`."""
        return self._best().minimax_risk_

    @property
    def dual_gap_(self) -> float:
        """At least the distance of ``minimax_risk_`` from the optimum."""
        return self._best().dual_gap_

    @property
    def uncertainty_set_(self) -> UncertaintySet:
        """Uncertainty set of the chosen classifier."""
        return self._best().uncertainty_set_

    @property
    def n_iter_(self) -> int:
        """Iterations of the chosen classifier's own fit."""
        return self._best().n_iter_

    @property
    def solver_(self) -> str:
        """Name of the solver used."""
        return self._best().solver_


def _expected_accuracy(
    fitted: MGCEClassifier, X: Any, y: Distributions, sample_weight: Array | None = None
) -> float:
    return fitted.score(X, y, sample_weight)


class _AccuracyOfTrueLabels(NamedTuple):
    """Mean of (T^-1) at observed and predicted labels: the accuracy on true ones, unbiased."""

    inverse: Array
    classes: Array

    def __call__(
        self, fitted: MGCEClassifier, X: Any, y: Array, sample_weight: Array | None = None
    ) -> float:
        observed = validation.check_labels(np.asarray(y), self.classes)
        predicted = validation.check_labels(fitted.predict(X), self.classes)
        return float(np.average(self.inverse[observed, predicted], weights=sample_weight))


class _Scores(NamedTuple):
    """Numbers of one fit in one fold, or arrays (n_folds, n_candidates) of them."""

    test_score: Any
    fit_time: Any = 0.0
    score_time: Any = 0.0
    minimax_risk: Any = np.nan
    converged: Any = np.nan  # 1 or 0; NaN if there is no fit
    reached: Any = 1.0  # 0 if it was stopped, or not begun

    @property
    def counted(self) -> Array:
        """Which of the arrays count: folds that all were scored in, or, without any, all scores."""
        reached = self.reached == 1.0
        complete = reached.all(axis=1, keepdims=True)
        return reached & complete if complete.any() else reached

    def over_folds(self) -> _Scores:
        """Return the same with the arrays masked where they do not count."""
        mask = np.ma.nomask if self.counted.all() else ~self.counted
        return _Scores(*(np.ma.array(numbers, mask=mask) for numbers in self))


class _Trial(NamedTuple):
    """What came of one fit in one fold, and the errors on the way."""

    scores: _Scores
    fit_error: str = ""
    score_error: str = ""


_NOT_REACHED = _Trial(_Scores(np.nan, reached=0.0))


class _Scoring(NamedTuple):
    """How to score on a fold's test rows, and what failures count as."""

    score: Callable[[MGCEClassifier], Any]
    error_score: Any

    def scored(self, fitted: MGCEClassifier, point: PathPoint) -> _Trial:
        """Return what a fit scores."""
        score, error = self.error_score, ""
        begin = time.perf_counter()
        try:
            score = self.score(fitted)
        except Exception as raised:
            error = self.in_words(raised)
        seconds = time.perf_counter() - begin
        if not isinstance(score, Real):
            raise TypeError(f"scoring must return a number; got {score!r}.")
        numbers = (score, point.seconds, seconds, fitted.minimax_risk_, point.converged)
        return _Trial(_Scores(*numbers), score_error=error)

    def failed(self, error: Exception) -> _Trial:
        """Return what a fit scores that raised an error."""
        return _Trial(_Scores(self.error_score), fit_error=self.in_words(error))

    def in_words(self, error: Exception) -> str:
        """Return an error as text, or raise it if it shall not count as a score."""
        if isinstance(self.error_score, str):
            raise error
        return f"{type(error).__name__}: {error}"


class _Fold(NamedTuple):
    """Rows to learn from, and the classifier that has read them: the pattern of all others."""

    pattern: MGCEClassifier
    problem: Problem
    certify: bool
    watch: Watch

    @classmethod
    def read(cls, classifier: MGCEClassifier, certify: bool, watch: Watch, *rows: Any) -> _Fold:
        """Fit the feature map, if there is one, and make the rows ready for every q and lam."""
        X, y, sample_weight, base_margin = rows
        X, y = classifier._read(X, y, reset=True)
        problem = classifier._problem(X, y, sample_weight, classifier.fit_intercept, base_margin)
        return cls(classifier, problem, certify, watch)

    def to_predict(self, X: Any) -> _Fold:
        """Return the same fold, whose classifiers share the features of the rows X."""
        pattern = copy(self.pattern)
        if pattern.feature_map is not None:
            pattern.feature_map_ = KeptFeatures(pattern.feature_map_, X)
        return self._replace(pattern=pattern)

    def fits(
        self, q: float, lams: Array
    ) -> Iterator[tuple[int, tuple[MGCEClassifier, PathPoint] | Exception]]:
        """Yield positions in ``lams``, each with the fit or with its error, while there is time.

        A path begins anew after an error.
        """
        left = widest_first(lams)
        while len(left) and not self.watch.out_of_time():
            try:
                for point in self._points(q, lams[left]):
                    if point.result.status is Status.STOPPED:
                        return
                    fitted = copy(self.pattern).set_params(q=q, lam=point.lam)
                    yield int(left[0]), (fitted._adopt(self.problem, point), point)
                    left = left[1:]
            except Exception as error:
                yield int(left[0]), error
                left = left[1:]

    def _points(self, q: float, lams: Array) -> Iterator[PathPoint]:
        if self.certify:
            settings = Settings.of(self.pattern)
            return follow(self.problem, q, lams, settings, watch=self.watch)
        return estimates(self.problem, q, lams, self.watch)


def _score_fold(
    classifier: MGCEClassifier,
    certify: bool,
    watch: Watch,
    qs: Array,
    lams: Array,
    train: Array,
    test: Array,
    X: Any,
    y: Labeling,
    sample_weight: Array | None,
    base_margin: Array | None,
    scorer: Any,
    score_params: Params,
    error_score: Any,
) -> list[_Trial]:
    """Fit a fold's training rows for every q and lam in time, and score on its test rows."""
    n_trials = len(qs) * len(lams)
    if watch.out_of_time():
        return [_NOT_REACHED] * n_trials
    weights = None if sample_weight is None else sample_weight[train]
    base, base_test = _of_classes(base_margin, y, train, test)
    rows = rows_of(X, train), y[train], weights, base
    X_test, y_test, params = rows_of(X, test), y[test], _rows_of(score_params, test, len(y))

    def score(fitted: MGCEClassifier) -> Any:
        return scorer(_given(fitted, base_test), X_test, y_test, **params)

    scoring = _Scoring(score, error_score)
    try:
        fold = _Fold.read(classifier, certify, watch, *rows)
    except Exception as error:
        return [scoring.failed(error)] * n_trials
    fold = fold.to_predict(X_test)
    return [trial for q in qs for trial in _score_path(fold, float(q), lams, scoring)]


def _of_classes(base_margin: Array | None, y: Labeling, *parts: Array) -> list[Array | None]:
    """Return the base margins of parts of the rows, for the classes in the first of them."""
    if base_margin is None:
        return [None for _ in parts]
    if isinstance(y, Distributions):  # every column is a class
        return [base_margin[part] for part in parts]
    known = np.searchsorted(np.unique(y), np.unique(y[parts[0]]))
    return [base_margin[part][:, known] for part in parts]


def _given(fitted: MGCEClassifier, base_margin: Any) -> MGCEClassifier:
    """Return a classifier that takes these base margins for whatever rows it is to predict.

    Scorers hand over rows alone.
    """
    if base_margin is None:
        return fitted
    given = copy(fitted)
    for name in PREDICTIONS:
        method = getattr(fitted, name)
        setattr(given, name, update_wrapper(partial(method, base_margin=base_margin), method))
    return given


def _score_path(fold: _Fold, q: float, lams: Array, scoring: _Scoring) -> list[_Trial]:
    trials = {
        j: scoring.failed(fit) if isinstance(fit, Exception) else scoring.scored(*fit)
        for j, fit in fold.fits(q, lams)
    }
    return [trials.get(j, _NOT_REACHED) for j in range(len(lams))]


def _one_by_one(n_jobs: int | None, verbose: int) -> Parallel:
    """Return what runs jobs and gives their results as they come, in order, if it can.

    An older joblib, or one of the backends that others add to it, may give them at the end alone.
    """
    try:
        return Parallel(n_jobs=n_jobs, verbose=verbose, return_as="generator")
    except (TypeError, ValueError):
        return Parallel(n_jobs=n_jobs, verbose=verbose)


def _tell_failures(trials: list[_Trial], error_score: Any) -> None:
    """Warn of fits and scores that failed; raise ValueError if all fits did, or none was made."""
    trials = [trial for trial in trials if trial.scores.reached]
    if not trials:
        raise ValueError(
            "max_time must suffice for a score; it ended, or a callback stopped the search, before "
            "the first. Allow more time, or give fewer rows."
        )
    for what, category, errors in (
        ("fits", FitFailedWarning, [trial.fit_error for trial in trials if trial.fit_error]),
        ("scores", UserWarning, [trial.score_error for trial in trials if trial.score_error]),
    ):
        if what == "fits" and len(errors) == len(trials):
            raise ValueError(f"All {len(trials)} fits failed, the first with {errors[0]}")
        if errors:
            warnings.warn(
                f"{len(errors)} of {len(trials)} {what} failed and count as {error_score}; "
                f"error_score='raise' shows where. The first with {errors[0]}",
                category,
                stacklevel=5 + WRAPPERS,
            )


def _warn_of_the_rest(candidates: list[dict[str, float]], scores: _Scores) -> None:
    """Say what was not scored before the search was stopped, if it was."""
    if scores.reached.all():
        return
    counted = scores.counted
    n_folds, n_complete = len(counted), int(counted.all(axis=1).sum())
    rest = [candidates[i] for i in np.flatnonzero(~counted.any(axis=0))]
    without = named([(pair["q"], pair["lam"]) for pair in rest])
    warnings.warn(
        f"The search was stopped before every fold was scored. Pairs are compared on "
        f"{max(n_complete, 1)} of {n_folds} folds"
        + (f", and have no score (NaN) at {without}" if without else "")
        + ". Allow more time (max_time), or try fewer pairs.",
        ConvergenceWarning,
        stacklevel=4 + WRAPPERS,
    )


def _warn_of_no_score(means: Array) -> None:
    if not np.isfinite(means).all():
        warnings.warn(
            f"Mean test scores are not finite: {means}. NaN ranks last; if there is nothing else, "
            "the first pair is chosen. Often a fold lacks a class: take fewer or stratified folds.",
            UserWarning,
            stacklevel=4 + WRAPPERS,
        )


def _rows_of(params: Params, rows: Array, n_rows: int) -> Params:
    """Return the parameters with those that have an entry per row cut to the given rows."""
    return {
        name: np.asarray(value)[rows] if np.shape(value)[:1] == (n_rows,) else value
        for name, value in params.items()
    }


def _results(candidates: list[dict[str, float]], scores: _Scores) -> dict[str, Any]:
    """Arrange scores as ``GridSearchCV`` does, one entry for each of its candidates."""
    counted = scores.over_folds()
    mean = _mean(counted.test_score)
    with np.errstate(invalid="ignore"):  # an infinite mean has no deviations
        deviation = _deviation(counted.test_score)
    return {
        "mean_fit_time": _mean(counted.fit_time),
        "std_fit_time": _deviation(counted.fit_time),
        "mean_score_time": _mean(counted.score_time),
        "std_score_time": _deviation(counted.score_time),
        **{f"param_{k}": np.ma.array([pair[k] for pair in candidates]) for k in ("lam", "q")},
        "params": candidates,
        **{f"split{i}_test_score": fold for i, fold in enumerate(scores.test_score)},
        "mean_test_score": mean,
        "std_test_score": deviation,
        "rank_test_score": _ranks(mean),
        "mean_minimax_risk": _mean(counted.minimax_risk),
        "converged": (scores.converged == 1.0).all(axis=0),
    }


def _ranks(means: Array) -> Array:
    """Return ranks from 1 on; a score that is not a number ranks last."""
    return rankdata(-np.nan_to_num(means, nan=-np.inf), "min").astype(np.int32)


def joined(results: Sequence[Mapping[str, Any]], name: str, values: Sequence[float]) -> dict:
    """Return the results of searches on the same folds as one, over a parameter more.

    Parameters
    ----------
    results : sequence of Mapping
        As `MGCEClassifierCV.cv_results_`.
    name : str
        The parameter that they differ by.
    values : sequence of float
        Its value in each.
    """
    whole = {
        key: np.ma.concatenate([part[key] for part in results])
        if key.startswith("param_")
        else np.concatenate([part[key] for part in results])
        for key in results[0]
        if key != "params"
    }
    sizes = [len(part["params"]) for part in results]
    whole[f"param_{name}"] = np.ma.array(np.repeat(values, sizes))
    pairs = zip(results, values, strict=True)
    whole["params"] = [
        {**params, name: value} for part, value in pairs for params in part["params"]
    ]
    whole["rank_test_score"] = _ranks(whole["mean_test_score"])
    return whole


def chosen(results: Mapping[str, Any], selection: str, n_folds: int) -> int:
    """Return the position of what a rule of `SELECTIONS` chooses from results."""
    best = int(results["rank_test_score"].argmin())
    if selection in LARGEST:
        return _largest_near(results, LARGEST[selection], best, n_folds)
    return best


def _mean(over_folds: Any) -> Array:
    """Return the means of masked numbers, NaN where there are none."""
    return over_folds.mean(axis=0).filled(np.nan)


def _deviation(over_folds: Any) -> Array:
    return over_folds.std(axis=0).filled(np.nan)


def _largest_near(results: Mapping, name: str, best: int, n_folds: int) -> int:
    """Return the position of a pair within one standard error of the best score.

    It is that of the largest parameter of that name, then the best score.
    """
    mean = results["mean_test_score"]
    # The stored deviation divides by n; the error of a mean has n (n - 1) under the root.
    error = results["std_test_score"][best] / np.sqrt(max(n_folds - 1, 1))
    near = mean >= mean[best] - error
    near[best] = True  # where there is no number to compare with, too
    values = np.asarray(results[f"param_{name}"])
    largest = near & (values == values[near].max())
    return int(np.argmax(np.where(largest, mean, -np.inf)))
