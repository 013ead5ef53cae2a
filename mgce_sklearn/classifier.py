"""MGCEClassifier: minimax generalised cross-entropy with linear margins."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import kernels, validation
from mgce_sklearn.design import Design
from mgce_sklearn.objective import Objective
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.solvers import SOLVERS, SolverResult, Status, choose_solver
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]


class MGCEClassifier(ClassifierMixin, BaseEstimator):
    r"""Linear classifier that minimises the worst-case generalised cross-entropy.

    Over all distributions whose feature means lie within ``half_width`` of the sample's, and
    whose features are distributed as in the sample, the classifier minimises the largest
    expected loss :math:`\ell_q(h, y) = (1 - h_y^q)/q`. The loss runs from cross-entropy
    (q = 0) to the 0-1 loss of a randomised rule (q = 1), and the problem is convex:

    .. math::

        \min_W \; \operatorname{mean}_i \psi(W x_i) - \langle \tau, W \rangle
        + \langle \lambda, |W| \rangle,
        \qquad \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1 .

    The solver stops at a certified relative duality gap, and the minimum is a bound: the
    expected loss of the fitted rule, hence the error of the rule that draws its prediction
    from ``predict_proba``, is at most ``minimax_risk_`` for every distribution of the set.

    Parameters
    ----------
    q : float, default=0.5
        Loss parameter in [0, 1]. Larger values resist wrong labels more, and underfit more
        where linear margins express little.
    lam : float, default=0.1
        Half-width of the uncertainty set in standard errors of the feature means. Larger
        values give sparser coefficients and a bound that holds for more distributions.
    fit_intercept : bool, default=True
        Whether to add a constant feature. It has a half-width like every other feature.
    solver : {"auto", "interior_point", "lbfgs"}, default="auto"
        "interior_point" certifies every q in some ten to thirty steps, and solves a system of
        the size of the coefficients in each. "lbfgs" needs memory for the margins only.
        "auto" takes the first for up to 4,000 coefficients, else the second.
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int or None, default=None
        Iteration limit. None: the solver's own (100 for "interior_point", 10,000 for "lbfgs").
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class. "balanced": inverse to class frequencies.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit, if they fit.
    random_state : int, RandomState instance or None, default=None
        Not used by the present solvers, which are deterministic.
    verbose : int, default=0
        Whether to print a line per iteration.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients W; for two classes those of the second less those of the first.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Coefficients of the constant feature.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    minimax_risk_ : float
        Worst-case expected loss of the fitted rule over the uncertainty set, in units of
        :math:`\ell_q`. An upper bound on the rule's error there; valid whether or not the
        solver converged.
    dual_gap_ : float
        ``minimax_risk_ - dual_gap_ <= optimum <= minimax_risk_``.
    uncertainty_set_ : UncertaintySet
        ``tau`` and ``half_width`` of shape (n_classes, n_features), with a last column for
        the intercept if there is one.
    n_iter_ : int
        Number of iterations.
    solver_ : str
        Name of the solver used.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had string column names.

    Notes
    -----
    ``predict_proba`` returns the minimax rule h. For q > 0 it may be exactly 0 or 1: it is
    the decision that the worst distribution cannot exploit. ``predict_worst_case_proba``
    returns p*, the distribution that attains the worst case and that the convex loss is
    proper for. At q = 0 both are the softmax of the margins.

    Widths follow the scale of the features, so rescaling a column changes neither
    predictions nor risk. A feature never seen with a class gets the width of one
    pseudo-observation.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.
    .. [2] S. Mazuelas, A. Zanoni and A. Perez, "Minimax Classification with 0-1 Loss and
       Performance Guarantees", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mgce_sklearn import MGCEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MGCEClassifier(q=0.7, lam=0.3)).fit(X, y)
    >>> print(f"{model.score(X, y):.2f}, {model[-1].minimax_risk_:.3f}")
    0.97, 0.189
    """

    def __init__(
        self,
        q: float = 0.5,
        lam: float = 0.1,
        *,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int | None = None,
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.q = q
        self.lam = lam
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MGCEClassifier:
        """Fit the coefficients and certify them.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite numbers. float32 is kept, and computed with in float64 by blocks.
        y : array-like of shape (n_samples,)
            Labels of any dtype, at least two different ones.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. A weight of 2 equals the row twice, 0 the row left out.

        Returns
        -------
        MGCEClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If the gap exceeds ``tol``. ``minimax_risk_`` is a valid bound all the same.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y, sample_weight)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> MGCEClassifier:
        self._check_parameters()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], multi_output=False
        )
        check_classification_targets(y)
        sample_weight = validation.check_sample_weight(sample_weight, X.shape[0])
        used = sample_weight > 0.0
        if not used.all():
            X, y, sample_weight = X[used], y[used], sample_weight[used]
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y must have at least 2 classes among the rows with positive weight; got 1 "
                f"class ({classes[0]!r}). Add rows of another class."
            )
        sample_weight = (
            sample_weight * _class_factors(self.class_weight, classes, codes, sample_weight)[codes]
        )
        design = Design(X, sample_weight, bool(self.fit_intercept))
        uncertainty = UncertaintySet.from_sample(design, codes, len(classes), float(self.lam))
        objective = Objective(
            potential=MGCEPotential(float(self.q)),
            design=design,
            codes=codes,
            uncertainty=uncertainty.binary() if len(classes) == 2 else uncertainty,
            n_classes=len(classes),
        )
        name = choose_solver(objective) if self.solver == "auto" else self.solver
        settings = {"tol": self.tol, "verbose": int(self.verbose)}
        if self.max_iter is not None:
            settings["max_iter"] = self.max_iter
        solver = SOLVERS[name](**settings)
        result = solver.solve(objective, start=self._previous(classes, objective.shape))
        self._store(objective, result)
        self.classes_, self.uncertainty_set_, self.solver_ = classes, uncertainty, name
        if result.status is not Status.CONVERGED:
            warnings.warn(
                f"solver={name!r} ended at a relative duality gap of {result.relative_gap:.1e} "
                f"(tol={self.tol:g}). {result.status.value} minimax_risk_ is a valid bound all "
                "the same.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _check_parameters(self) -> None:
        rules = {
            "q": validation.LOSS_PARAMETER,
            "lam": validation.HALF_WIDTH,
            "fit_intercept": validation.SWITCH,
            "solver": validation.one_of(["auto", *SOLVERS]),
            "tol": validation.TOLERANCE,
            "max_iter": validation.ITERATIONS,
            "warm_start": validation.SWITCH,
            "verbose": validation.VERBOSITY,
        }
        for name, rule in rules.items():
            rule.check(name, getattr(self, name))

    def _previous(self, classes: Array, shape: tuple[int, int]) -> Array | None:
        """Return the coefficients to start from, in the solver's shape, or None."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        previous = np.asarray(self.coef_, dtype=np.float64)
        if self.fit_intercept:
            previous = np.column_stack([previous, self.intercept_])
        fits = previous.shape == shape and np.array_equal(self.classes_, classes)
        return previous if fits else None

    def _store(self, objective: Objective, result: SolverResult) -> None:
        """Store coefficients in the precision of X, and the risk of what is stored."""
        coef = result.coef.astype(objective.design.X.dtype)
        risk = result.value
        if coef.dtype != np.float64:
            risk = objective.value(coef.astype(np.float64))
        n_features = objective.design.X.shape[1]
        self.coef_ = np.ascontiguousarray(coef[:, :n_features])
        self.intercept_ = np.zeros(len(coef), coef.dtype)
        if objective.design.fit_intercept:
            self.intercept_[:] = coef[:, -1]
        self.minimax_risk_ = risk
        self.dual_gap_ = max(0.0, risk - result.dual_value)
        self.n_iter_ = result.n_iter

    def _margins(self, X: Any) -> Array:
        """Return margins (n, K), in column order, which the kernels read without a copy."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        # ndarray on the left keeps sparse products dense and of shape (C, n).
        scores = (X @ self.coef_.T).T + self.intercept_[:, np.newaxis]
        if len(self.classes_) == 2:
            scores = np.vstack([np.zeros_like(scores), scores])
        return scores.T

    def decision_function(self, X: Any) -> Array:
        """Compute margins.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the margin of ``classes_[1]`` less that of ``classes_[0]``.
        """
        margins = self._margins(X)
        return margins[:, 1] if len(self.classes_) == 2 else np.ascontiguousarray(margins)

    def predict(self, X: Any) -> Array:
        """Predict the class of largest margin, the most probable one under the rule.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        best = self._margins(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Array:
        r"""Compute the minimax rule, :math:`h_k = (1 + q (m_k - \psi(m)))_+^{1/q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in [0, 1], exactly 0 for classes off the support when q > 0.
        """
        return kernels.rule(self._margins(X), float(self.q))

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithm of `predict_proba`; -inf where it is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict_worst_case_proba(self, X: Any) -> Array:
        r"""Compute the worst-case distribution, :math:`p^*_k \propto h_k^{1-q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities on the support of the rule; uniform there at q = 1.
        """
        return kernels.worst_case(self._margins(X), float(self.q))


def _class_factors(class_weight: Any, classes: Array, codes: Array, sample_weight: Array) -> Array:
    """Return a factor (K,) on the weights of each class.

    "Balanced" counts weights rather than rows, so that a weight of 2 still equals two rows.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        totals = np.bincount(codes, sample_weight, len(classes))
        return sample_weight.sum() / (len(classes) * totals)
    factors = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    if not (np.isfinite(factors).all() and (factors > 0.0).all()):
        raise ValueError(
            f"class_weight must be positive for every class; got {class_weight!r}. "
            "Leave out the rows of a class that should not count."
        )
    return factors
