"""MGCEClassifierCV: q and lam chosen by cross-validation along warm-started paths."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import validation
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.path import SETTING_RULES, Settings, follow, from_the_largest, warn_of_gaps
from mgce_sklearn.problem import Problem
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

SELECTIONS = ("best", "one_standard_error")


class MGCEClassifierCV(ClassifierMixin, BaseEstimator):
    r"""`MGCEClassifier` with q and lam chosen by cross-validation.

    In every fold and for every q, all widths are fitted as one path from the largest to the
    smallest, which costs a fraction of separate fits; folds and q run in parallel. The pair
    of the best mean score is fitted to all rows.

    Parameters
    ----------
    qs : sequence of float, default=(0.0, 0.25, 0.5, 0.75)
        Loss parameters to try, in [0, 1].
    lams : sequence of float, default=(0.03, 0.1, 0.3, 1.0)
        Half-widths to try, in standard errors of the feature means.
    cv : int, cross-validation generator, iterable or None, default=None
        As in scikit-learn. None: 5 stratified folds.
    scoring : str, callable or None, default=None
        A scorer's name, or a callable ``scorer(estimator, X, y)``. None: accuracy. For
        probabilities that are exactly 0 when q > 0, "neg_brier_score" says more than
        "neg_log_loss".
    n_jobs : int or None, default=None
        Number of processes. Each limits its own threads to its share of the cores.
    refit : bool, default=True
        Whether to fit the chosen pair to all rows. Without it there are no predictions.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    solver : {"auto", "interior_point", "lbfgs", "cvxpy"}, default="auto"
        As in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int or None, default=None
        Iteration limit of each fit. None: the solver's own.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class, "balanced" within each fold.
    selection : {"best", "one_standard_error"}, default="best"
        "best": the best mean score. "one_standard_error": of the pairs whose mean score is
        within one standard error of it, the one of largest lam, whose bound holds for more
        distributions; among equal lam the better score.
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
        lam, not between q), and ``converged``, whether every fold's gap is within ``tol``.
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
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had string column names.

    Notes
    -----
    Scores are those of `~sklearn.model_selection.GridSearchCV` over `MGCEClassifier` on the
    same folds, to the accuracy that ``tol`` certifies.

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
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mgce_sklearn import MGCEClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> search = MGCEClassifierCV(qs=(0.0, 0.5), lams=(0.1, 1.0)).fit(X, y)
    >>> print(search.q_, search.lam_, round(search.best_score_, 3))
    0.5 0.1 0.973
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
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int | None = None,
        class_weight: Any = None,
        selection: str = "best",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.qs = qs
        self.lams = lams
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.selection = selection
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> MGCEClassifierCV:
        """Score every pair of q and lam, choose one, and fit it to all rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers.
        y : array-like of shape (n_samples,)
            Labels of any dtype, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
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
            For a parameter or data that cannot be used. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            Once, naming the pairs whose gap exceeds ``tol`` in a fold.
        """
        with validation.unchanged_on_error(self):
            return self._fit(X, y, sample_weight, params)

    def _fit(self, X: Any, y: Any, sample_weight: Any, params: Mapping) -> MGCEClassifierCV:
        rules = {
            "refit": validation.SWITCH,
            "selection": validation.one_of(SELECTIONS),
            **SETTING_RULES,
        }
        validation.check_all(vars(self), rules)
        qs = validation.check_sequence("qs", self.qs, validation.LOSS_PARAMETER)
        lams = validation.check_sequence("lams", self.lams, validation.HALF_WIDTH)
        self.scorer_ = self._scorer()
        rows, labels = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], multi_output=False
        )
        if sample_weight is not None:
            sample_weight = validation.check_sample_weight(sample_weight, len(labels))
        # What is wrong with the data is said before it is split.
        Problem.from_labels(rows, labels, sample_weight, self.class_weight, self.fit_intercept)
        split_params, score_params = self._route("fit", sample_weight=sample_weight, **params)
        cv = check_cv(self.cv, labels, classifier=True)
        folds = list(cv.split(rows, labels, **split_params))
        self.n_splits_ = len(folds)
        scored = Parallel(n_jobs=self.n_jobs, verbose=self.verbose)(
            delayed(_score_path)(
                self._candidate(q, verbose=max(0, self.verbose - 1)),
                lams, rows, labels, sample_weight, train, test, self.scorer_, score_params,
            )
            for train, test in folds
            for q in qs
        )  # fmt: skip
        self.cv_results_ = _results(qs, lams, scored, self.n_splits_)
        missed = self.cv_results_["params"][~self.cv_results_["converged"]]
        warn_of_gaps([(pair["q"], pair["lam"]) for pair in missed], self.tol, stacklevel=3)
        self._select()
        if self.refit:
            self.best_estimator_ = self._candidate(self.q_, self.lam_)
            self.best_estimator_.fit(X, y, sample_weight)
        return self

    def _candidate(self, q: float, lam: float = 1.0, verbose: int | None = None) -> MGCEClassifier:
        """Return the classifier of a pair, not fitted."""
        return MGCEClassifier(
            float(q),
            lam,
            fit_intercept=self.fit_intercept,
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            class_weight=self.class_weight,
            random_state=self.random_state,
            verbose=self.verbose if verbose is None else verbose,
        )

