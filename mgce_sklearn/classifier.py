"""MGCEClassifier: minimax generalized cross-entropy with linear margins."""

from __future__ import annotations

import warnings
from copy import copy, deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn import constraints, validation
from mgce_sklearn.arrays import Array, on_host
from mgce_sklearn.block_parts import Survey
from mgce_sklearn.callbacks import (
    WRAPPERS,
    CallbackSupportMixin,
    GapReport,
    Task,
    with_callbacks,
)
from mgce_sklearn.design import (
    Design,
)
from mgce_sklearn.feature_maps import (
    FEATURE_MAP,
    is_named,
    learns,
)
from mgce_sklearn.linear import LinearMargins
from mgce_sklearn.path import (
    SETTING_PARAMETERS,
    PathPoint,
    feasible_lam,
    objective_of,
    solve_path,
)
from mgce_sklearn.problem import Problem, UsedRows
from mgce_sklearn.row_blocks import RowBlocks, check_alone, refuse_blocks
from mgce_sklearn.rule_bounds import RuleBoundsMixin
from mgce_sklearn.solvers import (
    Interrupted,
    Progress,
    SolverResult,
    Status,
    Watch,
    certificate,
    deadline_in,
)
from mgce_sklearn.solvers.settings import Settings
from mgce_sklearn.stream import Stream
from mgce_sklearn.targets import Distributions
from mgce_sklearn.uncertainty import (
    PROBABLE_WIDTHS,
    WIDTHS,
    Width,
    n_coefficient_rows,
)

PARAMETERS = {
    "q": constraints.LOSS_PARAMETER,
    "lam": constraints.HALF_WIDTH_OR_FEASIBLE,
    "width": constraints.one_of_or_array(
        WIDTHS, "half-widths of shape (n_classes, n_features + fit_intercept)"
    ),
    "delta": constraints.PROBABILITY,
    "feature_range": constraints.PAIR,
    "warm_start": constraints.SWITCH,
    "feature_map": FEATURE_MAP,
    "noise_matrix": constraints.NOISE_MATRIX,
    **SETTING_PARAMETERS,
}


class Certificate(NamedTuple):
    """Minimax risk and duality gap, as `MGCEClassifier.certificate` returns them."""

    minimax_risk: float
    dual_gap: float


class MGCEClassifier(
    RuleBoundsMixin, CallbackSupportMixin, LinearMargins, ClassifierMixin, BaseEstimator
):
    r"""Linear classifier that minimizes the worst-case generalized cross-entropy.

    The worst case is over an *uncertainty set*: all distributions whose feature means, class by
    class, lie within ``half_width`` of the sample's, and whose features are distributed as in the
    sample. The loss is the generalized cross-entropy :math:`\ell_q(h, y) = (1 - h_y^q)/q`. It runs
    from cross-entropy (q = 0) to the 0-1 loss of a randomized rule (q = 1). The problem is convex
    for every q:

    .. math::

        \min_W \; \operatorname{mean}_i \psi(W x_i) - \langle \tau, W \rangle
        + \langle \lambda, |W| \rangle,
        \qquad \sum_k \bigl(1 + q (m_k - \psi(m))\bigr)_+^{1/q} = 1 .

    The solver stops when the relative duality gap is at most ``tol``. The minimum is a bound: for
    every distribution of the set the expected loss of the fitted rule is at most
    ``minimax_risk_``. So is the error of a prediction that is drawn from ``predict_proba``.

    Parameters
    ----------
    q : float, default=0.5
        Loss parameter in [0, 1]. Larger values resist wrong labels more. They underfit more where
        a linear model cannot separate the classes.
    lam : float or "feasible", default=0.3
        Half-width of the uncertainty set in standard errors of the feature means. Larger
        values give sparser coefficients, and a larger bound that holds for more distributions.
        Ignored if ``width`` is an array or holds with a probability ("hoeffding", "bernstein",
        "betting"). "feasible" is for a ``noise_matrix``: it stands for 1, or for 1.5 times the
        smallest lam whose set is not empty if that is larger.
    fit_intercept : bool, default=True
        Whether to add a constant feature. It has a half-width like every other feature.
    center : "auto" or bool, default="auto"
        Which columns to center for the uncertainty set, which is about the means of x - c. With an
        intercept, centering does not change the linear model; it makes the half-widths independent
        of the offset of a column. c are the weighted means of the columns, or the middles of
        ``feature_range`` for a ``width`` that holds with a probability. "auto" centers all columns
        of dense rows and tensors. Of sparse rows it centers the columns that are nonzero in more
        than half of the rows (or, for a width that holds with a probability, those whose range
        excludes 0). Sparse rows are never made dense. Nothing is centered without an intercept.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        - "interior_point" closes the gap for every q, usually in five to thirty steps. Each step
          solves a linear system of the size of the coefficients, by a factorization or, where that
          is faster, by conjugate gradients.
        - "lbfgs" needs memory for the margins only. It closes small gaps for q <= 1/2, where
          repeated fits of the same problem agree to about 1e-6. For larger q the gap may end
          at 1e-3.
        - "sgd" comes near the solution quickly for any q and any number of coefficients, and
          closes the last of the gap slowly.
        - "cvxpy" passes small problems to a conic solver, as an independent check. It needs the
          extra ``cvxpy``.
        - "auto" chooses "interior_point" for up to 4,000 coefficients. It also chooses it for more
          coefficients if X has at least as many rows as columns (and, if it is sparse, would take
          at most a gigabyte as a dense array), except for lam >= 1 with 400 coefficients or more
          at q <= 1/2, where it chooses "lbfgs". Otherwise it chooses "lbfgs" if q <= 1/2 or if
          there are fewer rows than coefficients, and "sgd" if not.
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int or None, default=None
        Iteration limit. None: the solver's own (200 for "interior_point", 10,000 for "lbfgs",
        1,000 passes over the rows for "sgd", 200 for "cvxpy").
    max_time : float or None, default=None
        Time limit in seconds for a fit, or for one call of `partial_fit`. A step that has begun is
        completed, and at least one step is made. None: no limit.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class. "balanced": inversely proportional to class
        frequencies.
    width : str or array-like, default="standard_error"
        How half-widths are computed.

        - "standard_error": ``lam`` times the standard error of each feature mean.
        - "std": ``lam`` times the standard deviation of each feature, independent of the number of
          rows.
        - "hoeffding", "bernstein" and "betting": so large that all true means lie within the set
          with probability 1 - ``delta``, under the assumptions in the notes. "betting" is usually
          the smallest, except for features that vary as much as their range allows, or are
          seldom nonzero. "bernstein" is the empirical Bernstein inequality. All three are many
          standard errors large. With a few hundred rows all coefficients may be 0.
        - An array of shape (n_classes, n_features + fit_intercept): the half-widths themselves,
          in units of the centered features. A row for each of the sorted classes; the intercept's
          column is last. Positive, or 0 for features that are constant in all rows.
    delta : float, default=0.05
        For "hoeffding", "bernstein" and "betting": the probability in (0, 1), over the sample,
        that at least one true mean lies outside the set.
    feature_range : pair (low, high) or None, default=None
        The smallest and largest values that features can take, known beforehand: numbers, or
        arrays of shape (n_features,). Used by widths that hold with a probability, and by
        `confidence_bound`. Training rows outside the range are an error for every ``width``. None:
        the range of the training rows.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit, if they have the right shape.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        Transforms X before the linear model.

        - "relu", "fourier" or "threshold" add features after the columns of X: 500
          `RandomReLUFeatures` of standardized columns, 500 of scikit-learn's
          ``RBFSampler(gamma="scale")`` of standardized columns, or `ThresholdFeatures`. The fit
          stays independent of the units of X.
        - A scikit-learn transformer is cloned and fitted with the model. It receives X as given.
        - A network is used as it is, in evaluation mode, on some rows at a time on the device of
          its parameters. The fit then takes place on that device.
        - A function of rows returns an array or a tensor of shape (rows, features).

        X may be whatever the map accepts, for example text, images or frames.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        Probabilities by which labels became wrong: a row for each true class (sorted), a column for
        each observed class; or the rate of symmetric noise. The uncertainty set is then about the
        means of *true* labels, and so are ``minimax_risk_`` and `error_bounds`; see the notes.
        None: labels are used as observed.
    random_state : int, RandomState instance or None, default=None
        Draws the features of "relu" and "fourier", and the order in which "sgd" reads the
        rows. Everything else is deterministic.
    verbose : int, default=0
        Whether to print the size of the problem, and a line each time the gap is computed: seconds,
        value, gap and the number of nonzero coefficients.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients W for X as given. For two classes there is one row: the coefficients of the
        second class less those of the first. For float32 X they are float32, except if a column
        is far from 0 relative to its spread, or its unit is extreme; then they are float64.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Coefficients of the constant feature, for X as given.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    minimax_risk_ : float
        Upper bound on the expected loss of the fitted rule for every distribution of the
        uncertainty set, in units of :math:`\ell_q`. It also bounds the error of labels drawn from
        `predict_proba` (for `predict` see `error_bounds`). At the optimum it is attained. It is
        valid whether or not the solver converged. Not available after `partial_fit`. The set, and
        so the bound, is about labels as observed, wrong ones included; with a ``noise_matrix``
        about true labels. For fits with a ``base_margin`` see the notes.
    dual_gap_ : float
        ``minimax_risk_ - dual_gap_ <= optimum <= minimax_risk_``.
    uncertainty_set_ : UncertaintySet
        ``tau`` and ``half_width`` of shape (n_classes, n_features), with a last column for
        the intercept if there is one, and ``center`` c: the means are those of
        onehot(y) ⊗ (x - c).
    n_iter_ : int
        Number of iterations; after `partial_fit` the number of its steps.
    trace_ : tuple of TracePoint
        The solver's history, a point whenever the gap was checked: ``seconds``, ``value``,
        ``dual_value``, ``n_nonzero``, ``steps`` and ``n_iter``. `ConvergenceDisplay` of
        `mgce_sklearn.plot` draws it. Not available after `partial_fit`.
    solver_ : str
        Name of the solver used; "partial_fit" after `partial_fit`.
    feature_map_ : object
        The fitted map, if there is a ``feature_map``: a clone of a transformer, or for a name a
        pipeline. Both have ``get_feature_names_out()``, a name for each column of
        ``coef_``.
    n_features_in_ : int
        Number of columns of X seen in ``fit``, before the ``feature_map``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    Notes
    -----
    **Probabilities.** ``predict_proba`` returns the minimax rule h, the randomized decision that
    the worst distribution cannot exploit. For q > 0 it may be exactly 0 or 1.
    ``predict_worst_case_proba`` returns p*, the distribution that attains the worst case. The
    convex loss is proper for p*. At q = 0 both are the softmax of the margins.

    **Long fits.** A fit can be watched and stopped, and keeps its best coefficients. ``max_time``
    limits it. A scikit-learn callback (1.9 or later, ``set_callbacks``) may stop it after any step;
    ``ProgressBar`` shows the gap on a logarithmic scale. On Ctrl-C the best coefficients so far are
    certified in one pass over the rows and stored, and then KeyboardInterrupt is raised. A second
    Ctrl-C ends that pass, and the last certified coefficients are stored. In all these
    cases ``minimax_risk_`` and ``dual_gap_`` are valid, and a warning is issued.

    **Parameters that are set after a fit** take effect at the next fit. Until then predictions and
    bounds use the ``q`` of the fit. The exceptions are `certificate` and `confidence_bound`, which
    compute new sets: they use ``lam``, ``width``, ``delta``, ``feature_range``, ``center`` and
    ``class_weight`` as they are now.

    **Tensors.** X may be a PyTorch tensor on any device. The fit then takes place on that device
    in float64, with the same objective and the solvers "interior_point" and "lbfgs"; "auto" chooses
    between them. For tensors on a CPU with more than 4,000 coefficients the fit uses the arrays
    that share their memory. Margins and probabilities of tensors are tensors on their device.
    Fitted attributes are ndarrays, so a model fitted on one device predicts on any.
    `error_bounds`, `confidence_bound` and `partial_fit` copy tensors to the host.

    **Base margins.** With a ``base_margin`` c the margins are :math:`W x + c`. W is penalized
    toward 0, and so toward the base's decision. The base's loss is :math:`L = \psi(c) - c_y`. It
    equals :math:`\ell_q` of the base's rule if this gives y a positive probability, and exceeds it
    otherwise. ``minimax_risk_`` then bounds the expected loss of the fitted rule for every
    distribution of the set whose expected L is at most the sample's mean plus ``lam`` of its
    standard errors (standard deviations if ``width="std"``):

    .. math::

        E\, \ell_q(h, y) \le E\,[\psi(m) - m_y]
        \le \operatorname{mean} [\psi(m) - \psi(c)] - \langle \tau, W \rangle
        + \langle \lambda, |W| \rangle + E\, L .

    The variance of L includes one additional row with base margins 0, so that a base without an
    error in the sample is not taken for perfect. Base margins must be those of rows that the base
    was not fitted to; otherwise L and W are too small. Base margins of zeros equal no base.
    For probabilities p, ``np.log(p + 0.02)`` is a good base margin. Predictions and bounds need
    the base margins of their rows. `partial_fit` accepts none.

    **Scaling.** Features need no scaling. Half-widths scale with the features, and means are
    taken about the column means. So neither a factor on a column nor a constant added to it changes
    predictions or risk. The exception is a constant added to a sparse column, which "auto" may then
    center. A feature that is constant within a class gets the width of one additional
    pseudo-observation, if widths are standard errors or deviations.

    **Feature maps.** With a ``feature_map``, the uncertainty set, the widths and
    ``feature_range`` are those of the mapped features, and ``minimax_risk_`` and `error_bounds`
    hold for all distributions whose mapped features have means within the set. A map that is
    fitted to labels, such as "threshold", leaves the bounds valid for the set. But the labels have
    chosen the set, so the true distribution lies in it less often than in a set that was
    fixed beforehand. Widths that hold with a probability, and `confidence_bound`, then lose their
    probability, unless the map was fitted to other rows. Maps are fitted without sample weights.
    Named maps accept sparse X, except "threshold". For sparse X "relu" and "fourier" scale columns
    and do not center them; after a fit to dense rows they accept dense rows only. Named maps copy
    tensors to the host and return arrays.

    **Distributions as labels.** Labels may be distributions, for example shares of annotators'
    votes. Such a row counts once, as if its label were drawn: as K copies with these shares as
    weights. Half-widths follow, :math:`\sigma^2 = \operatorname{mean} Y x^2 - \tau^2`. Every
    column is a class, even if it is 0 in all rows. ``class_weight`` multiplies the shares.
    `partial_fit`, `certificate`, `score`, `mgce_path` and `MGCEClassifierCV` accept distributions
    too. A ``feature_map`` that is fitted to labels receives the most probable ones.
    `mgce_sklearn.calibration` requires labels.

    **Known label noise.** With a ``noise_matrix`` T the means of true labels are estimated by those
    of :math:`(T^{-1})_{\tilde y k} (x - c)`, with the observed label :math:`\tilde y` [3]_:

    .. math:: \tau = T^{-\top} M_1, \qquad
              \sigma^2 = (T^{-1} \circ T^{-1})^\top M_2 - \tau^2,

    where M1 and M2 are the observed means and mean squares. It may happen that no labeling of X
    is consistent with such means. Then the set is empty, and the error names the smallest ``lam``
    for which it is not. That value is a limit and not a recommendation: bounds just above it are
    narrow and mostly wrong. ``lam="feasible"`` stays away from it. Below ``lam=1`` no bound on
    the error of true labels is claimed. The matrix must be known. If it was estimated from
    the same rows, the bounds are not valid for true labels. ``class_weight``, distributions as
    labels, widths that hold with a probability and `confidence_bound` cannot be combined with it.

    **Text.** For tf-idf features with more columns than rows, accuracy is best long before the
    optimum. Use ``q=0.5, lam=0.3, solver="sgd", max_iter=10`` and expect a warning that the gap is
    open.

    **Widths that hold with a probability** make assumptions. Rows are
    independent and identically distributed, and have equal weights (different sample weights or
    class weights are an error). The classes and the ``feature_range`` were fixed before the rows
    were seen. With None the sample's own range and its middle are used, which is slightly
    optimistic. So is a transformer that was fitted to the same rows without their labels, such as a
    scaler, "relu" or "fourier". What holds with probability 1 - ``delta`` is that the true *means*
    of onehot(y) ⊗ (x - c) lie within ``half_width`` of the sample's. The set still fixes the
    distribution of x to the sample's. So ``minimax_risk_`` does not bound the loss on new x with
    that probability; `confidence_bound` does.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.
    .. [2] S. Mazuelas, A. Zanoni and A. Perez, "Minimax Classification with 0-1 Loss and
       Performance Guarantees", NeurIPS 2020.
    .. [3] N. Natarajan, I. Dhillon, P. Ravikumar and A. Tewari, "Learning with Noisy Labels",
       NeurIPS 2013, Lemma 1: losses corrected by the inverse.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MGCEClassifier(q=0.7, lam=0.3).fit(X, y)
    >>> print(f"{model.score(X, y):.2f}, {model.minimax_risk_:.3f}")
    0.96, 0.189
    """

    # Number of calls between the user's and a method here, for the stacklevel of warnings.
    _calls = 0

    def __init__(
        self,
        q: float = 0.5,
        lam: float = 0.3,
        *,
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
        warm_start: bool = False,
        feature_map: Any = None,
        noise_matrix: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.q = q
        self.lam = lam
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
        self.warm_start = warm_start
        self.feature_map = feature_map
        self.noise_matrix = noise_matrix
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, base_margin: Any = None
    ) -> MGCEClassifier:
        """Fit the coefficients, and compute ``minimax_risk_`` and ``dual_gap_``.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Finite numbers. float32 is not copied; computations are in float64 by blocks. With a
            ``feature_map``, whatever the map accepts, here and in all other methods. `RowBlocks`
            may exceed memory. They bring labels and weights, so X is the only argument. A
            memory-mapped array is read from its file in every pass.
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones; or distributions over the classes,
            rows of non-negative numbers that sum to 1 within 1e-6. The columns of a frame are the
            classes, those of an array 0 to n_classes - 1; in other methods ``classes_``.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. A weight of 2 is equivalent to the row twice, 0 to leaving it out.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Margins of another classifier, to which the linear margins are added: a column for
            each of the sorted classes, or for two classes a vector, the second's less the
            first's. They must come from a classifier that was not fitted to these rows; see the
            notes. `MGCEStackingClassifier` computes such margins.

        Returns
        -------
        MGCEClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            For an invalid parameter or invalid data. The estimator is unchanged.
        EmptySetError
            A ValueError: with a ``noise_matrix``, if no labeling of X is consistent with the
            uncertainty set.
        KeyboardInterrupt
            On Ctrl-C. The estimator is then fitted, with the best coefficients so far and a valid
            bound. It is unchanged if there are none yet.

        Warns
        -----
        ConvergenceWarning
            If the gap exceeds ``tol``, with the reason. ``minimax_risk_`` is still a valid bound.
        UserWarning
            If the coefficients of all features are zero although ``lam`` is below `lam_max`: only
            the intercept is nonzero, and every row gets the same prediction.
        """
        # Made before `unchanged_on_error`, which would otherwise remove the callbacks' attribute.
        task = Task.of_fit(self, X, y, sample_weight, GapReport.N_PARTS)
        interrupted = None
        with validation.unchanged_on_error(self):
            try:
                self._fit(X, y, sample_weight, base_margin, task)
            except Interrupted as error:  # the best coefficients are stored, and not rolled back
                interrupted = error
        if interrupted is not None:
            try:
                self._warn_of_gap(interrupted.result, stacklevel=3)
            finally:
                raise interrupted.__cause__ or interrupted
        task.end(fitted=dict)
        return self

    def _check_parameters(self) -> None:
        constraints.check_all(vars(self), PARAMETERS)

    def _fit(self, X: Any, y: Any, sample_weight: Any, base_margin: Any, task: Task) -> None:
        self._check_parameters()
        deadline = deadline_in(self.max_time)
        problem = self._problem_of(X, y, sample_weight, base_margin)
        settings = Settings.of(self, partial(validation.seed_of, self.random_state))
        start = self._previous(problem)
        lam = self._lam_for(problem)
        report = GapReport(task, partial(self._ended_at, problem, lam))
        # A fit is a path of one point.
        for point in solve_path(
            problem, self.q, [lam], settings, start, Watch(deadline, report, keeps=True)
        ):
            self._adopt(problem, point)
        report.end()
        if not point.converged:
            self._warn_of_gap(point.result, stacklevel=4)
        if point.result.status is Status.STOPPED or problem.base_margin is not None:
            return  # zeros may be the start, or the best correction of a base
        if not self.coef_.any() and self._lam is not None and self._lam < problem.lam_max():
            warnings.warn(
                "The coefficients of all features are zero, so every row gets the same prediction: "
                f"at lam={self._lam:g} no feature tells the classes apart by more than its "
                "half-width. Try a smaller lam, other features, or more rows.",
                UserWarning,
                stacklevel=3 + WRAPPERS + self._calls,
            )

    def _problem_of(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        """Return the problem of the training rows."""
        if isinstance(X, RowBlocks):
            problem = self._problem_in_blocks(X, y, sample_weight, self.fit_intercept, base_margin)
            names = X.feature_names
            self.__dict__.pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = np.asarray(names, dtype=object)
            return problem
        X, y = self._read(X, y, reset=True)
        return self._problem(X, y, sample_weight, self.fit_intercept, base_margin)

    def _problem_in_blocks(
        self, X: RowBlocks, y: Any, sample_weight: Any, fit_intercept: bool, base_margin: Any
    ) -> Problem:
        """Return the problem of rows that are read block by block.

        Raises
        ------
        ValueError
            For arguments that need rows in memory, or an invalid block.
        """
        check_alone(
            y=y,
            sample_weight=sample_weight,
            base_margin=base_margin,
            feature_map=self.feature_map,
            noise_matrix=self.noise_matrix,
        )
        survey = Survey.of(X)
        ends = validation.ends_of_range(self.feature_range, X.n_features, X.dtype)
        width = self._width(ends)
        return Problem.from_blocks(survey, self.class_weight, fit_intercept, width, self.center)

    def _warn_of_gap(self, result: SolverResult, stacklevel: int) -> None:
        warnings.warn(
            f"solver={self.solver_!r} ended at a relative duality gap of "
            f"{result.relative_gap:.1e} (tol={self.tol:g}). {result.reason} "
            "minimax_risk_ is still a valid bound.",
            ConvergenceWarning,
            stacklevel=stacklevel + WRAPPERS + self._calls,
        )

    def _lam_for(self, problem: Problem) -> float:
        """Return lam as a number."""
        return feasible_lam(problem) if isinstance(self.lam, str) else float(self.lam)

    def _ended_at(self, problem: Problem, lam: float, progress: Progress) -> dict[str, Any]:
        """Return the attributes that a fit ended here would have."""
        result = progress.result(Status.STOPPED, progress.n_iter)
        point = PathPoint(lam, progress.objective, progress.solver.name, result, 0.0)
        return dict(vars(copy(self)._adopt(problem, point)))

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> MGCEClassifier:
        """Learn from one more portion of rows, in one pass and without storing them.

        All portions together are one sample: means, half-widths and n are those of all rows so
        far. No bound is available until `certificate` computes one.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features)
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels, all of them in ``classes``, or distributions over some of these.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur. Required at the first call. After `fit` the classes of the
            fit are used; its coefficients are not.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.

        Returns
        -------
        MGCEClassifier
            The classifier after these rows.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used. The estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            If ``max_time`` was too short for steps on all rows. The remaining rows are included
            in means and half-widths.

        Notes
        -----
        Dual averaging with adaptive rates, in steps of at most 64 rows of a portion. Zero
        coefficients are exactly 0. ``solver``, ``tol`` and ``warm_start`` are ignored. After
        hundreds of steps the value is within a few percent of the minimum. After ten steps it may
        be far from it; `certificate` computes how far.
        """
        with validation.unchanged_on_error(self):
            return self._partial_fit(X, y, classes, sample_weight)

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> MGCEClassifier:
        refuse_blocks(X)
        self._check_parameters()
        validation.check_weight_of_portions(self.class_weight)
        # A copy, so that an error below leaves the estimator unchanged.
        stream = deepcopy(getattr(self, "_stream", None))
        known = getattr(self, "classes_", None)
        classes = validation.check_classes(classes, known, begun=stream is not None)
        deadline = deadline_in(self.max_time)
        if learns(self.feature_map):
            # Fitted to each portion it would be a different map every time.
            got = repr(self.feature_map) if is_named(self.feature_map) else "a transformer"
            raise ValueError(
                f"feature_map must be None or a function of rows for partial_fit; got {got}. "
                "Fit a transformer first, and give its method transform."
            )
        if isinstance(self.lam, str):
            raise ValueError(
                "lam must be a number for partial_fit, which does not store the rows that "
                f"{self.lam!r} needs; got {self.lam!r}. Try lam=1."
            )
        X, y = self._read(X, y, reset=stream is None, known=classes)
        X = on_host(X)
        sample_weight = validation.check_sample_weight(sample_weight, X.shape[0])
        width = self._width(validation.check_feature_range(self.feature_range, X, sample_weight))
        used = UsedRows.of(y, sample_weight, self.class_weight, self.noise_matrix, classes)
        design = Design(X[used.rows], used.weights, self.fit_intercept)
        if stream is None:
            stream = Stream(len(classes), design.n_features, self.center, used.inverse)
        if not stream.has_inverse(used.inverse):
            raise ValueError(
                "noise_matrix must stay what it was at the first call of partial_fit; got "
                f"{self.noise_matrix!r}. Make a new estimator, or call fit."
            )
        if stream.center != self.center:
            raise ValueError(
                f"center must stay what it was at the first call of partial_fit, "
                f"{stream.center!r}; got {self.center!r}. Make a new estimator, or call fit."
            )
        if stream.n_features != design.n_features:
            raise ValueError(
                f"fit_intercept must stay what it was at the first call of partial_fit; got "
                f"{self.fit_intercept}. Make a new estimator, or call fit."
            )
        coef = stream.read(design, used.labels, float(self.q), float(self.lam), width, deadline)
        for name in ("minimax_risk_", "dual_gap_", "trace_"):
            self.__dict__.pop(name, None)
        self._stream, self._base_ceiling = stream, None
        self._keep_coefficients(coef, design, stream.moments)
        self.classes_, self.solver_, self.n_iter_ = classes, "partial_fit", stream.n_steps
        self._q = float(self.q)
        self.uncertainty_set_ = stream.uncertainty(float(self.lam), width)
        self._lam = width.factor(float(self.lam))
        self._moments, self._sketch = stream.moments, stream.sketch
        if stream.n_skipped:
            warnings.warn(
                f"max_time={self.max_time:g} was too short for steps on all {design.n_rows} rows: "
                f"the last {stream.n_skipped} are included in means and half-widths only. Allow "
                "more time, or give smaller portions.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def certificate(
        self, X: Any, y: Any = None, sample_weight: Any = None, base_margin: Any = None
    ) -> Certificate:
        """Compute the minimax risk and the duality gap of the coefficients for a labeled sample.

        The uncertainty set is that of this sample, with the parameter ``width``. Use it
        after `partial_fit`, for all of its rows or as many of them as fit in memory. The
        coefficients are not changed.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels; every class must occur. Or distributions over the classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            The base classifier's margins of these rows. Required if the fit had a ``base_margin``.

        Returns
        -------
        Certificate
            ``minimax_risk``, a bound on the expected loss of the fitted rule for every distribution
            of the set, and ``dual_gap``: the worst case of every rule is at least
            ``minimax_risk - dual_gap``.

        Raises
        ------
        TypeError, ValueError
            For an invalid parameter or invalid data, or if the classes are not those of the fit.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from mgce_sklearn import MGCEClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> model = MGCEClassifier(lam=1.0)
        >>> for start in range(0, len(X), 600):
        ...     rows = slice(start, start + 600)
        ...     model.partial_fit(X[rows], y[rows], classes=range(10))
        MGCEClassifier(lam=1.0)
        ...
        >>> risk, gap = model.certificate(X, y)
        >>> 0 < gap < risk < 1
        True
        """
        check_is_fitted(self)
        self._check_parameters()
        self._check_based(base_margin)
        problem = self._problem_of_others(X, y, sample_weight, base_margin)
        if not np.array_equal(problem.classes, self.classes_):
            raise ValueError(
                f"y must have the classes of the fit, {self.classes_.tolist()}; got "
                f"{problem.classes.tolist()}."
            )
        coef = problem.parts.like.put(self._coefficients(problem.moments.center))
        objective = objective_of(problem, self._fitted_q, self._lam_for(problem))
        value, dual_value = certificate(objective, coef)
        return Certificate(value, max(0.0, value - dual_value))

    def _problem_of_others(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        """Return the problem of rows to judge the coefficients by."""
        has_intercept = self._has_intercept()
        if isinstance(X, RowBlocks):
            self._check_columns(X.scan().n_features, X.feature_names)
            return self._problem_in_blocks(X, y, sample_weight, has_intercept, base_margin)
        X, y = self._read(X, y, reset=False, known=self.classes_)
        return self._problem(X, y, sample_weight, has_intercept, base_margin)

    def _problem(
        self,
        X: Any,
        y: Array | Distributions,
        sample_weight: Any,
        fit_intercept: bool,
        base_margin: Any = None,
    ) -> Problem:
        sample_weight = validation.check_sample_weight(sample_weight, X.shape[0])
        ends = validation.check_feature_range(self.feature_range, X, sample_weight)
        width = self._width(ends)
        return Problem.from_labels(
            X, y, sample_weight, self.class_weight, fit_intercept, width, self.center,
            self.noise_matrix, base_margin,
        )  # fmt: skip

    def _width(self, feature_range: tuple[Array, Array] | None) -> Width:
        """Return the method of the half-widths, with the checked range of the features."""
        if not isinstance(self.width, str):
            return Width(validation.check_numbers("width", self.width))
        if self.width in PROBABLE_WIDTHS and self.noise_matrix is not None:
            raise ValueError(
                f"noise_matrix must be None if width={self.width!r}, whose probability is about "
                "labels as observed. Leave it out, or use width='standard_error'."
            )
        if self.width in PROBABLE_WIDTHS and self.class_weight is not None:
            raise ValueError(
                f"class_weight must be None if width={self.width!r}, whose probability requires "
                f"rows of equal weight; got {self.class_weight!r}. Leave it out, or use "
                "width='standard_error'."
            )
        return Width(self.width, float(self.delta), feature_range)

    def _previous(self, problem: Problem) -> Array | None:
        """Return the coefficients for a warm start, in the solver's shape, or None."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        shape = n_coefficient_rows(len(problem.classes)), problem.parts.like.n_columns
        same = np.array_equal(self.classes_, problem.classes)
        if not same or self.coef_.shape != shape or self._has_intercept() != self.fit_intercept:
            return None
        return problem.parts.like.put(self._coefficients(problem.moments.center))

    def _adopt(self, problem: Problem, point: PathPoint) -> MGCEClassifier:
        """Store a solution: coefficients of x as given, and the risk of exactly these."""
        design = problem.parts.like
        coef = design.fetch(point.result.coef)
        self.uncertainty_set_ = problem.uncertainty(point.lam)
        self._keep_coefficients(coef, design, problem.moments)
        kept = self._coefficients(problem.moments.center)
        risk = point.result.value
        if not np.array_equal(kept, coef):
            with point.objective.opened() as objective:
                risk = objective.possible(objective.value(design.put(kept)))
        self.minimax_risk_ = risk
        self.dual_gap_ = max(0.0, risk - point.result.dual_value)
        self.n_iter_, self.trace_ = point.result.n_iter, point.result.trace
        self.classes_, self.solver_ = problem.classes, point.solver
        self._q = float(self.q)
        self._lam = problem.width.factor(point.lam)
        self._moments, self._sketch = problem.moments, problem.sketch
        self._base_ceiling = problem.base_ceiling(self._q, point.lam)
        if self.feature_map is None:
            self.n_features_in_ = design.n_columns
        self.__dict__.pop("_stream", None)
        return self
