"""MGCEClassifierCV: q and lam are chosen by cross-validation."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import constraints, validation
from mgce_sklearn.arrays import on_host
from mgce_sklearn.callbacks import WRAPPERS, CallbackSupportMixin, Task, with_callbacks
from mgce_sklearn.classifier import PARAMETERS as CLASSIFIER_PARAMETERS
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.cv_results import (
    SELECTIONS,
    Scores,
    chosen,
    results_of,
    warn_of_no_score,
    warn_of_the_rest,
)
from mgce_sklearn.feature_maps import len_of
from mgce_sklearn.folds import (
    NOT_REACHED,
    Trial,
    score_fold,
    tell_failures,
    with_base_margin,
)
from mgce_sklearn.path import (
    warn_of_gaps,
)
from mgce_sklearn.problem import inverse_noise
from mgce_sklearn.row_blocks import refuse_blocks
from mgce_sklearn.solvers import Watch, deadline_in
from mgce_sklearn.targets import Distributions, encoded, read_labels
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]
Params = Mapping[str, Any]


# Part of max_time that is reserved for the fit of the chosen pair to all rows.
REFIT_SHARE = 0.2

# Parameters of the search that are passed on to the classifier.
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

ERROR_SCORE = constraints.Constraint(
    (Real, str),
    lambda value: not isinstance(value, str) or value == "raise",
    "'raise' or a number (try nan)",
)

PARAMETERS = {
    "certify_scores": constraints.SWITCH,
    "refit": constraints.SWITCH,
    "selection": constraints.one_of(SELECTIONS),
    "error_score": ERROR_SCORE,
    "max_time": constraints.TIME_LIMIT,
    "verbose": constraints.VERBOSITY,
    **{name: constraint for name, constraint in CLASSIFIER_PARAMETERS.items() if name in HANDED_ON},
}


Labeling = Array | Distributions


class MGCEClassifierCV(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""`MGCEClassifier` with q and lam chosen by cross-validation.

    In every fold, each pair of q and lam is scored by an approximate fit, at a fraction of the cost
    of a fit whose duality gap is computed. The pair with the best mean score is fitted to all
    rows, to the gap ``tol``.

    Parameters
    ----------
    qs : sequence of float, default=(0.0, 0.25, 0.5, 0.75)
        Loss parameters to try, in [0, 1].
    lams : sequence of float, default=(0.03, 0.1, 0.3, 1.0)
        Half-widths to try, in standard errors of the feature means.
    cv : int, cross-validation generator, iterable or None, default=None
        As in scikit-learn. None: 5 stratified folds.
    scoring : str, callable or None, default=None
        Name of a scorer, or a callable ``scorer(estimator, X, y)``. Named scorers use the labels as
        observed. None:

        - accuracy, or expected accuracy if labels are distributions;
        - with a ``noise_matrix`` T, the mean of :math:`T^{-1}` at observed and predicted labels. It
          is an unbiased estimate of the accuracy on true labels.

        If q > 0, probabilities may be exactly 0, and these dominate "neg_log_loss". Use
        "neg_brier_score" instead.
    n_jobs : int or None, default=None
        Number of processes. Each limits its own threads to its share of the cores.
    refit : bool, default=True
        Whether to fit the chosen pair to all rows. Without this fit there are no predictions.
    certify_scores : bool, default=False
        Whether the fits in folds are solved by ``solver`` to the duality gap ``tol``, as the refit
        is. Scores are then those of `~sklearn.model_selection.GridSearchCV`. If False, each of
        these fits is L-BFGS from zero until a step gains less than 1e-5; ``solver``, ``tol`` and
        ``max_iter`` are ignored for them. See the notes.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    center : "auto" or bool, default="auto"
        Which columns to center, as in `MGCEClassifier`. Each fold uses the means of its own rows.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        Solver of the refit, and of the fits in folds if ``certify_scores``, as in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which these fits stop.
    max_iter : int or None, default=None
        Iteration limit of each of these fits. None: the solver's own.
    max_time : float or None, default=None
        Time limit in seconds for the whole search. A fifth of it is reserved for the fit to all
        rows. Pairs that were not scored in time have the score NaN; see the notes. None: no limit.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class. "balanced" is computed within each fold.
    width : str or array-like, default="standard_error"
        Method of the half-widths, as in `MGCEClassifier`, computed in each fold from its own rows.
        If it does not depend on ``lam``, one value in ``lams`` is enough.
    delta : float, default=0.05
        As in `MGCEClassifier`.
    feature_range : pair (low, high) or None, default=None
        As in `MGCEClassifier`.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        Transforms X before the linear model, as in `MGCEClassifier`. A transformer or a named map
        is fitted to the training rows of each fold, once for all pairs, and once more for
        the refit.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        Probabilities by which labels became wrong, as in `MGCEClassifier`. If the uncertainty set
        of a pair is empty in a fold, this counts as a failed fit.
    selection : {"best", "one_standard_error", "largest_q"}, default="best"
        Which pair is chosen. The second and third choose among the pairs whose mean score is within
        one standard error of the best one. Among equal values the better score decides.

        - "best": the pair with the best mean score.
        - "one_standard_error": the pair with the largest lam, whose bound holds for more
          distributions.
        - "largest_q": the pair with the largest q. Use it if labels may be wrong: where scores do
          not decide, it chooses the loss that wrong labels change least. See the notes.
    error_score : "raise" or float, default=np.nan
        Score of a pair in a fold if the fit or the scorer raises an error, as in
        `~sklearn.model_selection.GridSearchCV`. For example, a fold may lack a class that the
        scorer requires. "raise": the error is raised. Pairs with the mean score NaN rank last. If
        all are NaN, the first pair is chosen.
    random_state : int, RandomState instance or None, default=None
        As in `MGCEClassifier`.
    verbose : int, default=0
        1: messages of joblib. 2 or more: also those of the solvers.

    Attributes
    ----------
    q_, lam_ : float
        The chosen pair.
    cv_results_ : dict of ndarray
        As in `~sklearn.model_selection.GridSearchCV`, with ``param_q``, ``param_lam``,
        ``params``, ``split0_test_score``..., ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, and times of fits and scores in seconds. There are two more columns:

        - ``mean_minimax_risk``: the mean of ``minimax_risk_`` over the folds, in units of
          :math:`\ell_q`. It can be compared between lams, but not between qs. Without
          ``certify_scores`` it is a valid bound for the fits that were scored, somewhat above the
          minimum.
        - ``converged``: whether the gap is within ``tol`` in every fold. Without
          ``certify_scores`` it is False, since no gap is computed.

        They are NaN and False where a fit failed, was stopped, or was not started in time.
    best_index_ : int
        Position of the chosen pair in ``cv_results_``.
    best_params_ : dict
        The chosen pair as ``{"lam": ..., "q": ...}``.
    best_score_ : float
        Mean score of the chosen pair.
    best_estimator_ : MGCEClassifier
        The chosen pair fitted to all rows. Present if ``refit``.
    scorer_ : callable
        The scorer used.
    n_splits_ : int
        Number of folds.
    n_features_in_ : int
        Number of columns of X seen in ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    See Also
    --------
    MGCEClassifier : The classifier of one pair.
    mgce_path : Solutions over a grid, without scores.

    Notes
    -----
    **Scores with** ``certify_scores`` are those of `~sklearn.model_selection.GridSearchCV` over
    `MGCEClassifier` on the same folds, up to the gap ``tol``. All lams of a q are solved as one
    path, which costs a fraction of separate fits.

    **Scores without** ``certify_scores`` differ from these, since L-BFGS stops before the optimum:
    when a step gains less than 1e-5, or after 200 gradients. On eleven data sets the mean
    difference in accuracy was .0009. The certified accuracy of the chosen pair was at most .0035
    below the best (``benchmarks/search.py``). The score of a pair does not depend on other pairs.
    For q > 0.9 a slightly smoothed loss is minimized. A scorer that uses more than predictions and
    probabilities requires ``certify_scores=True``, because other fits have the trivial
    ``dual_gap_`` and the value "approximate" in ``solver_``. While a fold is scored, its rows are
    in memory twice.

    **Text.** For tf-idf features, accuracy is best long before the optimum, so scores near the
    optimum are misleading. Use `~sklearn.model_selection.GridSearchCV` over
    ``MGCEClassifier(solver="sgd", max_iter=10)``.

    **Wrong labels.** Combine ``selection="largest_q"`` with qs up to 1, lams up to 10, and accuracy
    as the score. Log loss and Brier score on wrong labels favor models that fit them.

    **Parallel fits.** With ``n_jobs``, folds run in parallel. Without a ``feature_map`` so do the
    values of q within a fold.

    **Time limit.** Folds are processed one after the other. If ``max_time`` ends before the last
    fold, or if a callback stops the search, pairs are compared on the folds in which all of them
    were scored, and all means are over these folds. If not even the first fold is complete, the
    pairs that were scored in it are compared. The chosen pair is then fitted to all rows in
    the remaining time. That fit may end with a gap above ``tol``; its bound is still valid.

    **Callbacks** of scikit-learn (1.9 or later, ``set_callbacks``) are called for every q in every
    fold (with a ``feature_map`` for every fold), and for the fit to all rows.

    **Metadata.** With metadata routing enabled, ``groups`` is passed to a splitter, and
    ``sample_weight`` and other metadata to a scorer, if they request it. Fits use
    ``sample_weight`` in any case. Without routing, ``groups`` is passed to the splitter, and
    ``sample_weight`` to fits and scorer.

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
            Finite numbers. With a ``feature_map``, whatever the map accepts, here and in all other
            methods.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones; or distributions, as in
            `MGCEClassifier.fit`. Folds are then stratified by the most probable class.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Margins of another classifier, to which those of the features are added, as in
            `MGCEClassifier`. The rows must be rows that this classifier was not fitted to.
        **params : dict
            ``groups`` for the splitter. With metadata routing, all metadata that splitter and
            scorer request.

        Returns
        -------
        MGCEClassifierCV
            The fitted search.

        Raises
        ------
        TypeError, ValueError
            For an invalid parameter or invalid data, if every fit fails, or if ``max_time`` is too
            short for one score. The estimator stays as it was.
        KeyboardInterrupt
            On Ctrl-C. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If the gap of the refit exceeds ``tol``. With ``certify_scores``, one warning names the
            pairs whose gap exceeds ``tol`` in a fold. If the search was stopped, one warning names
            the number of folds on which pairs are compared, and the pairs without a score.
        FitFailedWarning
            One, if fits failed, with the first error.
        UserWarning
            One, if scores failed, with the first error, and one, if mean scores are not finite.
        """
        # Before `unchanged_on_error` copies the attributes: callbacks need one that the task sets.
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
        constraints.check_all(vars(self), PARAMETERS)
        deadline = deadline_in(self.max_time)
        qs = constraints.check_sequence("qs", self.qs, constraints.LOSS_PARAMETER)
        lams = constraints.check_sequence("lams", self.lams, constraints.HALF_WIDTH)
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
        self.cv_results_ = results_of(candidates, scores)
        warn_of_the_rest(candidates, scores)
        warn_of_no_score(self.cv_results_["mean_test_score"][scores.counted.any(axis=0)])
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
            # A fit takes one step even if no time is left.
            classifier.set_params(max_time=max(Watch(deadline).seconds_left, 1e-9))
        self.best_estimator_ = classifier
        with task.handed_to(classifier, "refit"):
            # X as given, so that the classifier stores the names of its columns.
            classifier.fit(*data, **based)
        classifier.set_params(max_time=self.max_time)

    def _read(self, X: Any, y: Any) -> tuple[Any, Labeling]:
        """Return rows that can be split, and their labels. Rows for a feature map are unchecked."""
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
    ) -> tuple[list[dict[str, float]], Scores]:
        """Return the pairs of the grid, and their scores in every fold that time allows."""
        X, y, *_ = data
        split_params, score_params = self._route("fit", params, without_routing=["groups"])
        strata = y.most_probable() if isinstance(y, Distributions) else y
        splits = list(check_cv(self.cv, strata, classifier=True).split(X, strata, **split_params))
        validation.check_folds(splits)
        self.n_splits_ = len(splits)
        scoring = (self.scorer_, score_params, self.error_score)
        # A feature map is fitted once in each fold. Without one, every q of a fold is a job.
        parts = [qs] if self.feature_map is not None else np.split(qs, len(qs))
        how = (self._candidate(), self.certify_scores, watch)
        jobs = (
            delayed(score_fold)(*how, part, lams, *split, *data, *scoring)
            for split in splits
            for part in parts
        )
        trials = self._run(jobs, task.part("search", len(splits) * len(parts)))
        n_trials = len(splits) * len(qs) * len(lams)
        trials += [NOT_REACHED] * (n_trials - len(trials))
        tell_failures(trials, self.error_score)
        # ParameterGrid sorts parameters by name, so lam varies more slowly than q.
        candidates = list(ParameterGrid({"q": qs.tolist(), "lam": lams.tolist()}))
        numbers = np.array([trial.scores for trial in trials], dtype=np.float64)
        by_fold = numbers.reshape(len(splits), len(qs), len(lams), -1).transpose(3, 0, 2, 1)
        return candidates, Scores(*by_fold.reshape(-1, len(splits), len(candidates)))

    def _run(self, jobs: Iterator[Any], task: Task) -> list[Trial]:
        """Run jobs, each a part of the task, until a callback stops it. Return their trials.

        Jobs that are running when it stops are completed.
        """
        stopped = threading.Event()
        wanted = itertools.takewhile(lambda job: not stopped.is_set(), jobs)
        run = _one_by_one(self.n_jobs, self.verbose)
        trials: list[Trial] = []
        # Closed on any error, which ends the jobs that are still running.
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
                "For several scorers use GridSearchCV over MGCEClassifier."
            )
        if isinstance(self.scoring, str) and self.scoring not in get_scorer_names():
            raise ValueError(
                f"scoring must be a scorer's name; got {self.scoring!r}. "
                "sklearn.metrics.get_scorer_names() lists them."
            )
        return check_scoring(MGCEClassifier(), scoring=self.scoring or "accuracy")

    def _scorer_of(self, labels: Labeling) -> Any:
        """Return the scorer by which pairs are compared. The default is accuracy."""
        scorer = self._scorer()
        if isinstance(labels, Distributions):
            if self.scoring is not None:
                raise ValueError(
                    f"scoring must be None if y is distributions; got {self.scoring!r}. With None "
                    "the score is expected accuracy. For others give the most probable labels as y."
                )
            return _expected_accuracy
        if self.noise_matrix is None or self.scoring is not None:
            return scorer
        classes, coded = encoded(labels)
        inverse = inverse_noise(self.noise_matrix, self.class_weight, classes, coded.certain)
        return scorer if inverse is None else _AccuracyOfTrueLabels(inverse, classes)

    def _route(self, caller: str, params: Params, without_routing: list[str]) -> tuple[Any, Any]:
        """Return the parameters for the splitter and those for the scorer.

        Without metadata routing, only ``sample_weight`` and ``without_routing`` are allowed.
        """
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, caller, **params)
            return routed["splitter"].get("split", {}), routed["scorer"]["score"]
        unknown = sorted(params.keys() - {"sample_weight", *without_routing})
        if unknown:
            raise TypeError(
                f"{caller} takes {', '.join(unknown)} only with metadata routing. Call "
                "sklearn.set_config(enable_metadata_routing=True) and request it."
            )
        params = {name: value for name, value in params.items() if value is not None}
        split_params = {"groups": params.pop("groups", None)}
        return split_params, params

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata is passed to which object.

        Returns
        -------
        MetadataRouter
            ``fit`` uses metadata itself and passes it to ``cv.split`` and the scorer. ``score``
            passes it to the scorer.
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
        """Choose a pair from the results over ``n_folds`` folds."""
        results = self.cv_results_
        self.best_index_ = best = chosen(results, self.selection, n_folds)
        self.best_params_ = results["params"][best]
        self.best_score_ = float(results["mean_test_score"][best])
        self.q_, self.lam_ = self.best_params_["q"], self.best_params_["lam"]

    def _best(self) -> MGCEClassifier:
        check_is_fitted(self)
        if not self.refit:
            raise AttributeError(
                "This MGCEClassifierCV was fitted with refit=False: it has q_ and lam_, but no "
                "coefficients. Set refit=True and fit again to get predictions."
            )
        return self.best_estimator_

    def score(self, X: Any, y: Any = None, base_margin: Any = None, **params: Any) -> float:
        """Score the chosen classifier by ``scoring``.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict.
        y : array-like of shape (n_samples,)
            Their labels.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.
        **params : dict
            ``sample_weight`` for the scorer. With metadata routing, all metadata that it requests.

        Returns
        -------
        float
            The score.
        """
        refuse_blocks(X)
        _, score_params = self._route("score", params, without_routing=[])
        return self._scorer()(with_base_margin(self._best(), base_margin), X, y, **score_params)

    def decision_function(self, X: Any, base_margin: Any = None) -> Array:
        """Compute margins, as `MGCEClassifier.decision_function` does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        return self._best().decision_function(X, base_margin)

    def predict(self, X: Any, base_margin: Any = None) -> Array:
        """Predict the class of the largest margin, as `MGCEClassifier.predict` does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._best().predict(X, base_margin)

    def predict_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the minimax rule h, as `MGCEClassifier.predict_proba` does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._best().predict_proba(X, base_margin)

    def margins_to_proba(self, margins: Any) -> Array:
        """Compute the rule h from margins, as `MGCEClassifier.margins_to_proba` does.

        Parameters
        ----------
        margins : array-like of shape (n_samples, n_classes), or (n_samples,) for two classes

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._best().margins_to_proba(margins)

    def predict_log_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute log h, as `MGCEClassifier.predict_log_proba` does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._best().predict_log_proba(X, base_margin)

    def predict_worst_case_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the worst case p*, as `MGCEClassifier.predict_worst_case_proba` does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._best().predict_worst_case_proba(X, base_margin)

    def summary(self) -> Any:
        """List coefficients and means by class and feature; see `MGCEClassifier.summary`."""
        return self._best().summary()

    @property
    def coef_(self) -> Array:
        """Coefficients of the chosen classifier, (1, n_features) or (n_classes, n_features)."""
        return self._best().coef_

    @property
    def intercept_(self) -> Array:
        """Coefficients of the constant feature, (1,) or (n_classes,)."""
        return self._best().intercept_

    @property
    def classes_(self) -> Array:
        """Class labels, (n_classes,)."""
        return self._best().classes_

    @property
    def minimax_risk_(self) -> float:
        """Bound on the expected loss of the chosen classifier, as in `MGCEClassifier`."""
        return self._best().minimax_risk_

    @property
    def dual_gap_(self) -> float:
        """Upper bound on the distance of ``minimax_risk_`` from the optimum."""
        return self._best().dual_gap_

    @property
    def uncertainty_set_(self) -> UncertaintySet:
        """Uncertainty set of the chosen classifier."""
        return self._best().uncertainty_set_

    @property
    def n_iter_(self) -> int:
        """Number of iterations of the fit to all rows."""
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
    """Mean of T^-1 at observed and predicted labels: an unbiased estimate of the true accuracy."""

    inverse: Array
    classes: Array

    def __call__(
        self, fitted: MGCEClassifier, X: Any, y: Array, sample_weight: Array | None = None
    ) -> float:
        observed = validation.check_labels(np.asarray(y), self.classes)
        predicted = validation.check_labels(fitted.predict(X), self.classes)
        return float(np.average(self.inverse[observed, predicted], weights=sample_weight))


def _one_by_one(n_jobs: int | None, verbose: int) -> Parallel:
    """Return a `Parallel` that yields results in order while others are computed, if it can.

    With an older joblib, or with some third-party backends, all results come at the end.
    """
    try:
        return Parallel(n_jobs=n_jobs, verbose=verbose, return_as="generator")
    except (TypeError, ValueError):
        return Parallel(n_jobs=n_jobs, verbose=verbose)
