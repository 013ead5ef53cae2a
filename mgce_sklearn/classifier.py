"""MGCEClassifier: minimax generalized cross-entropy with linear margins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import copy, deepcopy
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted, validate_data

from mgce_sklearn import bounds, kernels, validation
from mgce_sklearn.arrays import Array, is_tensor, namespace, on_host
from mgce_sklearn.block_parts import RowsInBlocks, Survey
from mgce_sklearn.bounds import Costs, EmptySetError, ErrorBounds, ErrorCertificate, Judged, Limit
from mgce_sklearn.callbacks import (
    WRAPPERS,
    CallbackSupportMixin,
    GapReport,
    Task,
    with_callbacks,
)
from mgce_sklearn.design import (
    Design,
    centered_coefficients,
    design_of,
    products,
    raw_coefficients,
)
from mgce_sklearn.feature_maps import (
    FEATURE_MAP,
    apply_feature_map,
    fit_feature_map,
    is_named,
    learns,
    len_of,
)
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import RowsInMemory, column_range, wider_range
from mgce_sklearn.path import (
    SETTING_PARAMETERS,
    PathPoint,
    Settings,
    feasible_lam,
    follow,
    objective_of,
)
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.problem import Problem, inverse_noise, weighted_by_class
from mgce_sklearn.row_blocks import RowBlock, RowBlocks, refuse_blocks
from mgce_sklearn.sketch import RowSketch
from mgce_sklearn.solvers import (
    Interrupted,
    Progress,
    SolverResult,
    Start,
    Status,
    Watch,
    certificate,
    deadline_in,
)
from mgce_sklearn.stream import Stream
from mgce_sklearn.targets import Distributions, encoded, read_labels
from mgce_sklearn.uncertainty import (
    PROBABLE_WIDTHS,
    WIDTHS,
    Moments,
    Width,
    check_magnitudes,
    n_coefficient_rows,
)

PARAMETERS = {
    "q": validation.LOSS_PARAMETER,
    "lam": validation.HALF_WIDTH_OR_FEASIBLE,
    "width": validation.one_of_or_array(
        WIDTHS, "half-widths of shape (n_classes, n_features + fit_intercept)"
    ),
    "delta": validation.PROBABILITY,
    "feature_range": validation.PAIR,
    "warm_start": validation.SWITCH,
    "feature_map": FEATURE_MAP,
    "noise_matrix": validation.NOISE_MATRIX,
    **SETTING_PARAMETERS,
}


# Precisions of X that are kept.
NUMBERS = [np.float64, np.float32]

# Columns further from 0 than so many of their spreads take float64 coefficients: margins in
# float32 would be off by more than 1e-5 of what a spread contributes.
FAR = 100.0

DECISION = validation.one_of(bounds.RULES)


def _check_alone(**given: Any) -> None:
    """Raise ValueError unless nothing is given beside `RowBlocks`."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name} must be None where X is RowBlocks, whose blocks bring labels and weights; "
                "give (X, y, sample_weight) in the blocks, or rows that fit in memory for anything "
                "else."
            )


def by_blocks(method: Any) -> Any:
    """Have a method of rows take `RowBlocks` too: what it returns of each comes one by one."""

    @wraps(method)
    def of_rows_or_blocks(self: Any, X: Any, base_margin: Any = None) -> Any:
        if not isinstance(X, RowBlocks):
            return method(self, X, base_margin)
        _check_alone(base_margin=base_margin)
        check_is_fitted(self)
        each = _each_block(partial(method, self), self._check_columns, X)
        return (found for _, found in each)

    return of_rows_or_blocks


def _each_block(method: Any, check: Any, blocks: RowBlocks) -> Iterator[tuple[RowBlock, Any]]:
    """Yield blocks, and what a method returns of their rows."""
    for block in blocks:
        check(block.X.shape[1], blocks.column_names)
        yield block, method(block)


class Certificate(NamedTuple):
    """What `MGCEClassifier.certificate` returns."""

    minimax_risk: float
    dual_gap: float


class MGCEClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Linear classifier that minimizes the worst-case generalized cross-entropy.

    Over all distributions whose feature means lie within ``half_width`` of the sample's, and
    whose features are distributed as in the sample, the classifier minimizes the largest
    expected loss :math:`\ell_q(h, y) = (1 - h_y^q)/q`. The loss runs from cross-entropy
    (q = 0) to the 0-1 loss of a randomized rule (q = 1), and the problem is convex:

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
    lam : float or "feasible", default=0.3
        Half-width of the uncertainty set in standard errors of the feature means. Larger
        values give sparser coefficients and a bound that holds for more distributions. It
        plays no part if ``width`` holds with a probability or is an array. "feasible" is for a
        ``noise_matrix``: 1, or 1.5 times the least lam whose set is not empty if that is more.
    fit_intercept : bool, default=True
        Whether to add a constant feature. It has a half-width like every other feature.
    center : "auto" or bool, default="auto"
        Which columns to center for the uncertainty set, whose means are those of x - c. With an
        intercept the linear model is the same, and the half-widths no longer grow with
        the offset of a column. c are the weighted means of the columns; for a ``width`` that holds
        with a probability, the middles of ``feature_range``. "auto" centers dense rows and
        tensors, and of sparse rows the columns that are not 0 in more than half of the rows (or,
        with a probability, whose range does not hold 0). Sparse rows are never made dense.
        Nothing is centered without an intercept.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        "interior_point" certifies every q, usually in five to thirty steps, and solves a system of
        the size of the coefficients in each: by a factor or, where that takes less time, by
        conjugate gradients. "lbfgs" needs memory for the margins only, and
        closes small gaps for q <= 1/2, where fits of equal problems agree to about 1e-6; above
        its gaps may end at 1e-3. "sgd" is soon near the solution for any q, whatever
        the number of coefficients, and slow to close the last of the gap. "cvxpy" states small
        problems to a conic solver, as an outside check, and needs the extra of that name.
        "auto" takes "interior_point" for up to 4,000 coefficients, and for more where X has no
        fewer rows than columns and, if it is sparse, all of its zeros would take a gigabyte at
        most; save for lam >= 1 with 400 or more at q <= 1/2. There it takes "lbfgs", and otherwise
        if q <= 1/2 or rows are fewer than coefficients; and "sgd" for what remains.
    tol : float, default=1e-4
        Relative duality gap at which to stop.
    max_iter : int or None, default=None
        Iteration limit. None: the solver's own (200 for "interior_point", 10,000 for "lbfgs",
        1,000 passes over the rows for "sgd", 200 for "cvxpy").
    max_time : float or None, default=None
        Seconds after which a fit, or a call of `partial_fit`, ends with what it has: after the
        step at work then, and after one at least. None: no limit.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class. "balanced": inverse to class frequencies.
    width : str or array-like, default="standard_error"
        Method of the half-widths. "standard_error": ``lam`` times the standard error of each
        feature mean. "std": ``lam`` times its standard deviation, however many the rows.
        "hoeffding", "bernstein" and "betting": so wide that all true means lie within with
        probability 1 - ``delta``, under the assumptions in the notes. "betting" is mostly the
        narrowest, save for features that vary as much as their range allows, or are seldom
        not zero; "bernstein" is the empirical inequality of the textbooks. All are many
        standard errors wide, and on some hundred rows may leave no coefficient but 0. An array of
        shape (n_classes, n_features + fit_intercept): the half-widths themselves, of the centered
        features and in their units, a row for each of the sorted classes, the intercept's column
        last; positive, or 0 for features that are constant in all rows.
    delta : float, default=0.05
        For "hoeffding", "bernstein" and "betting" the probability in (0, 1), over the sample,
        that some component of the true mean lies outside.
    feature_range : pair (low, high) or None, default=None
        For widths that hold with a probability, and for `certify`, the least and the largest
        value that features can take, known beforehand: numbers, or arrays of shape
        (n_features,). Rows of a fit outside are an error whatever the ``width``. None: the
        range of these rows.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit, if they fit.
    feature_map : str, transformer, torch.nn.Module, callable or None, default=None
        What makes the features of the linear model from X. "relu", "fourier" or "threshold" puts
        more features after the columns of X, so that fits stay free of units: 500
        `RandomReLUFeatures`, or 500 of scikit-learn's ``RBFSampler(gamma="scale")``, of
        standardized columns, or the `ThresholdFeatures`. A transformer of scikit-learn is
        cloned and fitted with the model, and takes X as it is. A network is taken as it is, and
        applied in evaluation mode to some rows at a time on the device of its parameters, where
        the fit then takes place; so is a function of rows that returns an array or a tensor
        (rows, features). Text, images or frames are as good an X as what the map takes.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        Probabilities by which labels became wrong: a row for each true class (sorted), a column for
        each observed one; or the rate of symmetric noise. The uncertainty set is then about the
        means of *true* labels, and so are ``minimax_risk_`` and `error_bounds`; see the notes.
        None: labels count as they come.
    random_state : int, RandomState instance or None, default=None
        Draws the features of "relu" and "fourier", and decides the order in which "sgd" reads the
        rows. Nothing else is left to chance.
    verbose : int, default=0
        Whether to print the size of the problem, and a line whenever the gap is checked: seconds,
        value, gap and the number of coefficients that are not 0.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients W of X as it is given; for two classes those of the second less those of the
        first. Of float32 X they are float32, or float64 where a column is far from 0 beside
        its spread or its unit is extreme.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Coefficients of the constant feature, X as it is given.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    minimax_risk_ : float
        Upper bound on the worst-case expected loss of the fitted rule over the uncertainty set,
        in units of :math:`\ell_q`, and so on the error there of labels drawn from
        `predict_proba` (for `predict` see `error_bounds`); at the optimum it is
        attained. Valid whether or not the solver converged. Not there after `partial_fit`. The
        set, and so the bound, is about labels as they come, wrong ones too; with a
        ``noise_matrix`` about true labels. What a ``base_margin`` makes of it is in the notes.
    dual_gap_ : float
        ``minimax_risk_ - dual_gap_ <= optimum <= minimax_risk_``.
    uncertainty_set_ : UncertaintySet
        ``tau`` and ``half_width`` of shape (n_classes, n_features), with a last column for
        the intercept if there is one, and ``center``, which says what the means are of: of
        onehot(y) ⊗ (x - center).
    n_iter_ : int
        Number of iterations; after `partial_fit` the number of its steps.
    trace_ : tuple of TracePoint
        The solver's history, a point whenever the gap was checked: ``seconds``, ``value``,
        ``dual_value``, ``n_nonzero``, ``steps`` and ``n_iter``. `ConvergenceDisplay` of
        `mgce_sklearn.plot` draws it. Not there after `partial_fit`.
    solver_ : str
        Name of the solver used; "partial_fit" after that.
    feature_map_ : object
        The map used, if there is a ``feature_map``: a transformer's fitted clone, or for a name a
        fitted pipeline. Either tells ``get_feature_names_out()``, a name for each column of
        ``coef_``.
    n_features_in_ : int
        Number of columns of X seen in ``fit``, before the ``feature_map``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, if X had string column names.

    Notes
    -----
    ``predict_proba`` returns the minimax rule h. For q > 0 it may be exactly 0 or 1: it is
    the decision that the worst distribution cannot exploit. ``predict_worst_case_proba``
    returns p*, the distribution that attains the worst case and that the convex loss is
    proper for. At q = 0 both are the softmax of the margins.

    A fit can be watched and stopped, and keeps what it has reached. ``max_time`` limits it, and a
    callback of scikit-learn (1.9 or later, ``set_callbacks``) may stop it after any step;
    ``ProgressBar`` shows how far the gap is closed, on a logarithmic scale. On Ctrl-C the best
    coefficients so far are certified in one pass over the rows and kept, and the
    KeyboardInterrupt goes on; a second Ctrl-C ends that pass, and what had been certified
    before it is kept. ``minimax_risk_`` and ``dual_gap_`` hold in all these cases, with a warning.

    A parameter that is set after a fit takes effect at the next. Until then predictions and
    bounds are those of the fit's ``q``. The exceptions are what `certificate` and `certify` take
    for the sets that they make: ``lam``, ``width``, ``delta``, ``feature_range``, ``center`` and
    ``class_weight`` as they are now.

    X may be a tensor of PyTorch, on a CPU or another device. The fit then takes place there, by the
    same objective and solvers ("interior_point" and "lbfgs"; "auto" chooses), in float64. Tensors
    on a CPU with more than 4,000 coefficients are solved as the arrays they share memory with.
    Margins and probabilities of tensors are tensors on their device. What is learned is in ndarrays
    all the same, so that a model fitted on one device predicts on any. `error_bounds`, `certify`
    and `partial_fit` bring tensors to the host.

    With a ``base_margin`` c the margins are :math:`W x + c`, and W is penalized as ever: toward
    what the base decides. The base's loss is :math:`L = \psi(c) - c_y`: that of its own rule,
    :math:`\ell_q`, where this gives y a probability, and more where it does not. ``minimax_risk_``
    then bounds the expected loss of the fitted rule for every distribution of the set whose
    expected L is at most the sample's mean, plus ``lam`` of its standard errors (deviations if
    ``width="std"``):

    .. math::

        E\, \ell_q(h, y) \le E\,[\psi(m) - m_y]
        \le \operatorname{mean} [\psi(m) - \psi(c)] - \langle \tau, W \rangle
        + \langle \lambda, |W| \rangle + E\, L .

    The variance of L counts one row more, of base margins 0, so that a base without an error is
    not taken for perfect. Margins of rows that the base was fitted to make L too small, and W too.
    Zeros are no base at all. Of probabilities p, ``np.log(p + 0.02)`` does well. Predictions and
    bounds ask for the base margins of their rows; `partial_fit` knows none.

    Features need no scaling. Widths by a method follow the scale of the features, and means are
    taken about the means of the columns. So a factor on a column, and a constant added to it,
    change neither predictions nor risk (a constant added to a sparse column may, since "auto"
    then centers it). A feature that is constant within a class gets the
    width of one pseudo-observation more, if widths are standard errors or deviations.

    With a ``feature_map``, what is bounded are the mapped features. The uncertainty set, widths and
    ``feature_range``, an end for each feature if they are arrays, are those of the features, and
    ``minimax_risk_`` and `error_bounds` hold for all distributions whose feature means lie within.
    A map that is fitted to labels, such as "threshold", leaves this true of the set, but the
    labels have chosen the set: data come from it less often than from one fixed beforehand.
    Widths that hold with a probability then do not, nor does `certify`, unless the map was
    fitted to other rows. Maps are fitted to all rows alike, whatever their weights.

    Named maps take what a fit without a map takes, except that "threshold" takes no sparse X; for
    that "relu" and "fourier" scale columns and do not center them, and after a fit to dense rows
    they take dense ones only. Tensors are brought to the host, and results are arrays.

    Labels may be distributions, shares of annotators' votes for example. A row then counts once,
    as if its label were drawn: as K copies of it, one a class, with these shares as weights.
    Half-widths follow, :math:`\sigma^2 = \operatorname{mean} Y x^2 - \tau^2`. Every column is a
    class, also one that is 0. ``class_weight`` multiplies the shares. `partial_fit`, `certificate`,
    `score`, `mgce_path` and `MGCEClassifierCV` take them too; a ``feature_map`` that learns from
    labels sees the most probable ones, and `mgce_sklearn.calibration` asks for labels.

    With a ``noise_matrix`` T the means of true labels are estimated by those of
    :math:`(T^{-1})_{\tilde y k} (x - c)`, :math:`\tilde y` the observed label [3]_:

    .. math:: \tau = T^{-\top} M_1, \qquad
              \sigma^2 = (T^{-1} \circ T^{-1})^\top M_2 - \tau^2,

    with the observed means and mean squares M1 and M2. Such means may be those of no labels at
    all: then the set is empty, and the error names the least ``lam`` at which it is not. That is a
    limit and no choice, since bounds just above it are narrow and mostly wrong. ``lam="feasible"``
    keeps away from it. Below ``lam=1`` no bound on the error of true labels is claimed. The matrix
    must be known: one that was estimated from the same rows makes the bounds those of a guess.
    ``class_weight``, distributions as labels, probable widths and `certify` are refused beside it.

    On text as tf-idf, with more columns than rows, accuracy is best long before the optimum: take
    ``q=0.5, lam=0.3, solver="sgd", max_iter=10``, and the warning of the open gap with it.

    The probability of "hoeffding", "bernstein" and "betting" rests on assumptions: rows are
    independent and identically distributed and count alike (different sample weights, or class
    weights, are an error), and the classes and the bounds ``feature_range`` of the features were
    fixed before the rows were seen. With None the sample's own range is taken for these bounds,
    and its middle for c, which is slightly optimistic; so is a transformer that was fitted to the
    same rows without their labels, such as a scaler, "relu" or "fourier". What holds with
    probability 1 - ``delta`` is that the true *means* of onehot(y) ⊗ (x - c) lie within
    ``half_width`` of the sample's. The set still fixes the distribution of x to the sample's, so
    ``minimax_risk_`` is no bound of that probability on the loss where x is new.

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

    _base_ceiling: float | None  # of the base's expected loss; None without a base

    # Calls between a user's and that of a method here: what a warning must skip.
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
        """Fit the coefficients and certify them.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Finite numbers. float32 is kept, and computed with in float64 by blocks. With a
            ``feature_map`` whatever that takes, here and in all other methods. `RowBlocks` may be
            more than memory holds, and bring labels and weights: then X is all that is given. A
            memory-mapped array is read where it lies, over and over.
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels of any dtype, at least two different ones; or distributions over the classes,
            rows of non-negative numbers that sum to 1 within 1e-6. The columns of a frame are the
            classes, those of an array 0 to n_classes - 1; in other methods ``classes_``.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. A weight of 2 equals the row twice, 0 the row left out.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Margins of another classifier, to which those of the features are added: a column for
            each of the sorted classes, or for two classes a vector, the second's less the
            first's. Of rows that it was not fitted to: see the notes. `MGCEStackingClassifier`
            sees to that.

        Returns
        -------
        MGCEClassifier
            The fitted classifier.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used. The estimator stays as it was.
        EmptySetError
            A ValueError: with a ``noise_matrix``, if no true labels have means within the set.
        KeyboardInterrupt
            On Ctrl-C. The estimator is fitted, with the best coefficients so far and a valid
            bound, or stays as it was if there are none yet.

        Warns
        -----
        ConvergenceWarning
            If the gap exceeds ``tol``, with the reason. ``minimax_risk_`` is a valid bound all the
            same.
        UserWarning
            If the coefficients of all features are zero though the classes' frequencies tell them
            apart (``lam`` is below `lam_max`): every row then gets the same prediction.
        """
        # Before `unchanged_on_error` notes the attributes: what callbacks end by is one of them.
        task = Task.of_fit(self, X, y, sample_weight, GapReport.N_PARTS)
        interrupted = None
        with validation.unchanged_on_error(self):
            try:
                self._fit(X, y, sample_weight, base_margin, task)
            except Interrupted as error:  # what was reached is adopted, and shall stay
                interrupted = error
        if interrupted is not None:
            try:
                self._warn_of_gap(interrupted.result, stacklevel=3)
            finally:
                raise interrupted.__cause__ or interrupted
        task.end(fitted=dict)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, base_margin: Any, task: Task) -> None:
        validation.check_all(vars(self), PARAMETERS)
        deadline = deadline_in(self.max_time)
        problem = self._problem_of(X, y, sample_weight, base_margin)
        settings, start = Settings.of(self), self._previous(problem)
        lam = self._lam_for(problem)
        report = GapReport(task, partial(self._ended_at, problem, lam))
        # A fit is a path of one point.
        for point in follow(
            problem, self.q, [lam], settings, start, Watch(deadline, report, keeps=True)
        ):
            self._adopt(problem, point)
        report.end()
        if not point.converged:
            self._warn_of_gap(point.result, stacklevel=4)
        if point.result.status is Status.STOPPED or problem.base_margin is not None:
            return  # zeros may be where it began, or all that a base is in want of
        if not self.coef_.any() and self._lam is not None and self._lam < problem.lam_max():
            warnings.warn(
                "The coefficients of all features are zero, so every row gets the same prediction: "
                f"at lam={self._lam:g} no feature tells the classes apart by more than its "
                "half-width. Try a smaller lam, other features, or more rows.",
                UserWarning,
                stacklevel=3 + WRAPPERS + self._calls,
            )

    def _problem_of(self, X: Any, y: Any, sample_weight: Any, base_margin: Any) -> Problem:
        """Return the problem of rows to learn from."""
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
            For what only rows in memory can have, or a block that cannot be used.
        """
        _check_alone(
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
            "minimax_risk_ is a valid bound all the same.",
            ConvergenceWarning,
            stacklevel=stacklevel + WRAPPERS + self._calls,
        )

    def _lam_for(self, problem: Problem) -> float:
        """Return lam as a number."""
        return feasible_lam(problem) if isinstance(self.lam, str) else float(self.lam)

    def _ended_at(self, problem: Problem, lam: float, progress: Progress) -> dict[str, Any]:
        """Return the attributes as if the fit had ended here."""
        result = progress.result(Status.STOPPED, progress.n_iter)
        point = PathPoint(lam, progress.objective, progress.solver.name, result, 0.0)
        return dict(vars(copy(self)._adopt(problem, point)))

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> MGCEClassifier:
        """Learn from one more portion of rows, in one pass and without keeping them.

        Portions are taken for new rows of one sample: its means, its widths, and n are those
        of all rows so far. No bound is known until `certificate` is asked for one.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features)
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels, all of them among ``classes``, or distributions over some of these.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur. Needed at the first call; after `fit` those of the fit
            serve, and the rest of its result is forgotten.
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
            If ``max_time`` did not suffice for steps on all rows. The others count in the means
            and widths.

        Notes
        -----
        Dual averaging with adaptive rates, in steps of at most 64 rows of a portion; zeros are
        exact. ``solver``, ``tol`` and ``warm_start`` play no part. On samples that take hundreds
        of steps one pass comes within a few per cent of the minimum; after some ten steps it
        may be far off, and `certificate` tells how far.
        """
        with validation.unchanged_on_error(self):
            return self._partial_fit(X, y, classes, sample_weight)

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> MGCEClassifier:
        refuse_blocks(X)
        validation.check_all(vars(self), PARAMETERS)
        validation.check_weight_of_portions(self.class_weight)
        # A copy: what is learned counts only if nothing fails on the way.
        stream = deepcopy(getattr(self, "_stream", None))
        known = getattr(self, "classes_", None)
        classes = validation.check_classes(classes, known, begun=stream is not None)
        deadline = deadline_in(self.max_time)
        if learns(self.feature_map):
            # Fitted to one portion it would be another map for the next.
            got = repr(self.feature_map) if is_named(self.feature_map) else "a transformer"
            raise ValueError(
                f"feature_map must be None or a function of rows for partial_fit; got {got}. "
                "Fit a transformer first, and give its method transform."
            )
        if isinstance(self.lam, str):
            raise ValueError(
                f"lam must be a number for partial_fit, which cannot look back; got {self.lam!r}. "
                "Try lam=1."
            )
        X, y = self._read(X, y, reset=stream is None, known=classes)
        X = on_host(X)
        _, labels = encoded(y, classes)
        inverse = inverse_noise(self.noise_matrix, self.class_weight, classes, labels.certain)
        sample_weight = validation.check_sample_weight(sample_weight, X.shape[0])
        ends = validation.check_feature_range(self.feature_range, X, sample_weight)
        width = self._width(ends)
        labels, sample_weight = weighted_by_class(self.class_weight, classes, labels, sample_weight)
        used = sample_weight > 0.0
        design = Design(X[used], sample_weight[used], self.fit_intercept)
        if stream is None:
            stream = Stream(len(classes), design.n_features, self.center, inverse)
        if not stream.has_inverse(inverse):
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
        coef = stream.read(
            design, labels.take(used), float(self.q), float(self.lam), width, deadline
        )
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
                f"max_time={self.max_time:g} did not suffice for steps on all {design.n_rows} "
                f"rows: the last {stream.n_skipped} count in means and widths alone. Allow more "
                "time, or give smaller portions.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def certificate(
        self, X: Any, y: Any = None, sample_weight: Any = None, base_margin: Any = None
    ) -> Certificate:
        """Compute the bound, and its distance from the best one, for a labeled sample.

        The uncertainty set is that of this sample, by the same ``width``: of the rows that
        `partial_fit` was given, for example, or of as many of them as fit in memory. The
        present coefficients are judged, and stay as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            Labels; every class must occur. Or distributions over the classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        Certificate
            ``minimax_risk``, a bound on the expected loss of the rule for every distribution of
            the set, and ``dual_gap``: no rule has a worst case below ``minimax_risk - dual_gap``.

        Raises
        ------
        TypeError, ValueError
            For a parameter or data that cannot be used, or if the classes are not those of the fit.
        """
        check_is_fitted(self)
        validation.check_all(vars(self), PARAMETERS)
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
        """Return the problem of other rows than those of the fit."""
        has_intercept = self._has_intercept()
        if isinstance(X, RowBlocks):
            self._check_columns(X.scan().n_features, X.feature_names)
            return self._problem_in_blocks(X, y, sample_weight, has_intercept, base_margin)
        X, y = self._read(X, y, reset=False, known=self.classes_)
        return self._problem(X, y, sample_weight, has_intercept, base_margin)

    def _read(
        self, X: Any, y: Any, reset: bool, known: Array | None = None
    ) -> tuple[Any, Array | Distributions]:
        """Return the features and the labels of rows, checked; with ``reset`` to learn from."""
        y = read_labels(y, known)
        certain = not isinstance(y, Distributions)
        if certain and self.feature_map is None and not is_tensor(X):
            return validate_data(self, X, y, accept_sparse="csr", dtype=NUMBERS, reset=reset)
        if certain:
            y = validation.check_tensor_labels(y, len_of(X))
        else:
            y.check_rows(len_of(X))
        if self.feature_map is not None and reset:
            labels = y if certain else y.most_probable()
            self.feature_map_ = fit_feature_map(self.feature_map, X, labels, self.random_state)
        return self._features(X, reset), y

    def _check_columns(self, n_features: int, names: Any) -> None:
        """Raise ValueError unless blocks have the columns of the fit, and their names if any."""
        if n_features != self.n_features_in_:
            raise ValueError(
                f"X must have the {self.n_features_in_} columns of the fit; got {n_features}."
            )
        known = getattr(self, "feature_names_in_", None)
        if known is not None and names is not None and list(known) != list(names):
            raise ValueError(
                f"X must have the columns of the fit in their order, {list(known)}; got "
                f"{list(names)}."
            )

    def _features(self, X: Any, reset: bool = False) -> Any:
        """Return what the linear model sees of rows: an ndarray, a CSR matrix or a tensor."""
        if isinstance(X, RowBlock):  # checked
            return X.X if self.feature_map is None else apply_feature_map(self.feature_map_, X.X)
        if self.feature_map is None and not is_tensor(X):
            return validate_data(self, X, accept_sparse="csr", dtype=NUMBERS, reset=reset)
        if self.feature_map is None:
            X = validation.check_tensor("X", X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X if self.feature_map is None else apply_feature_map(self.feature_map_, X)

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
        """Return the rule of the half-widths, with the checked range of the features."""
        if not isinstance(self.width, str):
            return Width(validation.check_numbers("width", self.width))
        if self.width in PROBABLE_WIDTHS and self.noise_matrix is not None:
            raise ValueError(
                f"noise_matrix must be None if width={self.width!r}, whose probability is that of "
                "labels as they come. Leave it out, or take width='standard_error'."
            )
        if self.width in PROBABLE_WIDTHS and self.class_weight is not None:
            raise ValueError(
                f"class_weight must be None if width={self.width!r}, whose probability is that of "
                f"rows that count alike; got {self.class_weight!r}. Leave it out, or take "
                "width='standard_error'."
            )
        return Width(self.width, float(self.delta), feature_range)

    @property
    def _fitted_q(self) -> float:
        """q of the fit, which the coefficients belong to, whatever the parameter says now."""
        return getattr(self, "_q", float(self.q))

    def _coefficients(self, center: Array | float) -> Array:
        """Return the coefficients of x - center, the intercepts' if there were any, (C, d)."""
        coef = np.asarray(self.coef_, dtype=np.float64)
        if self._has_intercept():
            coef = np.column_stack([coef, self.intercept_])
        return centered_coefficients(coef, center)

    def _has_intercept(self) -> bool:
        """Tell whether the present coefficients include one, whatever the parameter says now."""
        return self.uncertainty_set_.tau.shape[1] > self.coef_.shape[1]

    def _previous(self, problem: Problem) -> Array | None:
        """Return the coefficients to start from, in the solver's shape, or None."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        shape = n_coefficient_rows(len(problem.classes)), problem.parts.like.n_columns
        same = np.array_equal(self.classes_, problem.classes)
        if not same or self.coef_.shape != shape or self._has_intercept() != self.fit_intercept:
            return None
        return problem.parts.like.put(self._coefficients(problem.moments.center))

    def _adopt(self, problem: Problem, point: PathPoint) -> MGCEClassifier:
        """Take over a solution: coefficients of x as it is given, and the risk of these."""
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

    def _keep_coefficients(self, coef: Array, design: Design, moments: Moments) -> None:
        """Keep coefficients of x - center as those of x, in the precision of X if that will do."""
        self._precision = design.precision
        coef = raw_coefficients(coef, moments.center)
        size, limits = np.abs(coef[coef != 0.0]), np.finfo(design.precision)
        normal = (size >= limits.smallest_normal).all() and (size <= limits.max).all()
        will_do = normal and moments.offset() <= FAR
        self.coef_, self.intercept_ = design.split(
            coef.astype(design.precision if will_do else np.float64)
        )

    def _margins(self, X: Any, base_margin: Any = None) -> Array:
        """Return margins (n, K), in column order, which the kernels read without a copy."""
        X = self._checked(X)
        return self._upon(base_margin, self._margins_of(X))

    def _upon(self, base_margin: Any, margins: Array) -> Array:
        """Return margins (n, K) upon those of the base, if the fit had one."""
        self._check_based(base_margin)
        if base_margin is None:
            return margins
        base = validation.check_base_margin(base_margin, len(margins), len(self.classes_))
        if not is_tensor(margins):
            return np.asfortranarray(base) + margins
        arrays = namespace(margins)
        return margins + arrays.as_tensor(base, dtype=margins.dtype, device=margins.device)

    def _check_based(self, base_margin: Any) -> None:
        """Raise ValueError unless there is a base margin just where the fit had one."""
        has_base = self._base_ceiling is not None
        if has_base != (base_margin is not None):
            had, got = ("one", "none") if has_base else ("none", "one")
            raise ValueError(
                f"base_margin must be given where the fit had one, and only there; it had {had}, "
                f"and here is {got}."
            )

    def _checked(self, X: Any) -> Any:
        """Return the features of rows to predict."""
        check_is_fitted(self)
        return self._features(X)

    def _margins_of(self, X: Any) -> Array:
        if is_tensor(X):
            return self._tensor_margins_of(X)
        scores = products(X, self.coef_).T + self.intercept_[:, np.newaxis]
        if len(self.classes_) == 2:
            scores = np.vstack([np.zeros_like(scores), scores])
        return scores.T

    def _tensor_margins_of(self, X: Any) -> Any:
        arrays = namespace(X)
        if self.coef_.dtype == np.float64:  # of float32 rows: they are too far from 0 for less
            X = X.double()
        coef, intercept = (
            arrays.as_tensor(part, dtype=X.dtype, device=X.device)
            for part in (self.coef_, self.intercept_)
        )
        scores = X @ coef.T + intercept
        if len(self.classes_) == 2:
            scores = arrays.concatenate([arrays.zeros_like(scores), scores], axis=1)
        return scores

    @by_blocks
    def decision_function(self, X: Any, base_margin: Any = None) -> Array:
        """Compute margins, those of the base included.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ndarray or Tensor of shape (n_samples,) or (n_samples, n_classes)
            For two classes the margin of ``classes_[1]`` less that of ``classes_[0]``.
            Of `RowBlocks` an iterator: an array for each block, as it is read.
        """
        margins = self._margins(X, base_margin)
        if len(self.classes_) == 2:
            return margins[:, 1] - margins[:, 0]
        return margins if is_tensor(margins) else np.ascontiguousarray(margins)

    @by_blocks
    def predict(self, X: Any, base_margin: Any = None) -> Array:
        """Predict the class of largest margin, the most probable one under the rule.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ndarray of shape (n_samples,)
            Of `RowBlocks` an iterator: an array for each block, as it is read.
        """
        best = self._margins(X, base_margin).argmax(axis=1)
        return self.classes_[on_host(best)]

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, base_margin: Any = None
    ) -> float:
        """Compute the accuracy of `predict`, expected if labels are distributions.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        y : array-like or Tensor of shape (n_samples,) or (n_samples, n_classes)
            True labels, or distributions over the classes.
        sample_weight : array-like of shape (n_samples,), default=None
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        float
        """
        if isinstance(X, RowBlocks):
            return self._score_of_blocks(X, y, sample_weight, base_margin)
        labels = read_labels(y, getattr(self, "classes_", None))
        predicted = self.predict(X, base_margin)
        if not isinstance(labels, Distributions):
            return accuracy_score(on_host(y), predicted, sample_weight=sample_weight)
        labels.check_rows(len(predicted))
        return labels.expected_accuracy(predicted, sample_weight)

    def _score_of_blocks(
        self, blocks: RowBlocks, y: Any, sample_weight: Any, base_margin: Any
    ) -> float:
        _check_alone(y=y, sample_weight=sample_weight, base_margin=base_margin)
        check_is_fitted(self)
        right = total = 0.0
        for block, predicted in _each_block(self.predict, self._check_columns, blocks):
            if block.y is None:
                raise ValueError("X must have labels to score; these blocks have none.")
            if (block.y.dtype.kind in "US") != (self.classes_.dtype.kind in "USO"):
                raise ValueError(
                    f"X must have labels of the kind of the fit, {self.classes_.dtype}; these "
                    f"blocks have {block.y.dtype}."
                )
            ones = np.ones(len(predicted))
            weight = ones if block.sample_weight is None else block.sample_weight
            right += float(weight @ (predicted == block.y))
            total += float(weight.sum())
        if total == 0.0:
            raise ValueError("X must have rows of positive weight to score; all weights are 0.")
        return right / total

    @by_blocks
    def predict_proba(self, X: Any, base_margin: Any = None) -> Array:
        r"""Compute the minimax rule, :math:`h_k = (1 + q (m_k - \psi(m)))_+^{1/q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            Probabilities in [0, 1], exactly 0 for classes off the support when q > 0.
            Of `RowBlocks` an iterator: an array for each block, as it is read.
        """
        return self.margins_to_proba(self._margins(X, base_margin))

    def margins_to_proba(self, margins: Any) -> Array:
        r"""Compute the minimax rule of margins: the link of `predict_proba`.

        What rescales margins, as `mgce_sklearn.calibration` does, returns to probabilities
        through it.

        Parameters
        ----------
        margins : array-like or Tensor of shape (n_samples, n_classes) or (n_samples,)
            As `decision_function` returns them: a vector for two classes.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            :math:`h_k = (1 + q (m_k - \psi(m)))_+^{1/q}`.

        Raises
        ------
        TypeError, ValueError
            If the shape is another, or margins are no numbers: of an array with the first row
            that has NaN or +inf.
        """
        check_is_fitted(self)
        if not is_tensor(margins):
            margins = validation.check_margins(margins, len(self.classes_))
            return kernels.rule(margins, self._fitted_q)
        from mgce_sklearn.tensors.link import mgce_proba

        if margins.dim() == 1 and len(self.classes_) == 2:
            margins = namespace(margins).stack([namespace(margins).zeros_like(margins), margins], 1)
        validation.check_columns(margins, len(self.classes_))
        return mgce_proba(margins, self._fitted_q)

    @by_blocks
    def predict_log_proba(self, X: Any, base_margin: Any = None) -> Array:
        """Compute the logarithm of `predict_proba`; -inf where it is 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            Of `RowBlocks` an iterator: an array for each block, as it is read.
        """
        proba = self.predict_proba(X, base_margin)
        with np.errstate(divide="ignore"):
            return namespace(proba).log(proba)

    @by_blocks
    def predict_worst_case_proba(self, X: Any, base_margin: Any = None) -> Array:
        r"""Compute the worst-case distribution, :math:`p^*_k \propto h_k^{1-q}`.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ndarray or Tensor of shape (n_samples, n_classes)
            Probabilities on the support of the rule; uniform there at q = 1.
            Of `RowBlocks` an iterator: an array for each block, as it is read.
        """
        margins, q = self._margins(X, base_margin), self._fitted_q
        if not is_tensor(margins):
            return kernels.worst_case(margins, q)
        from mgce_sklearn.tensors.link import mgce_worst_case

        return mgce_worst_case(margins, q)

    def error_bounds(
        self,
        X: Any,
        rule: str = "deterministic",
        sample_weight: Any = None,
        tol: float = 1e-3,
        *,
        cost: Any = None,
        max_time: float | None = None,
        verbose: int = 0,
        base_margin: Any = None,
    ) -> ErrorBounds:
        r"""Bound the error of the fitted rule over the uncertainty set from both sides.

        Of all distributions whose features are distributed as in X, and whose means lie within
        ``uncertainty_set_``, the rule's error is at most ``upper`` and at least ``lower``:

        .. math::

            U(c) = \max_p \operatorname{mean}_i \langle p_i, c_i \rangle
            = \min_W \operatorname{mean}_i \max_k (m_{ik} + c_{ik}) - \langle \tau, W \rangle
            + \langle \lambda, |W| \rangle,

        with :math:`c_{ik}` the probability that the rule errs at row i if its class is k, and
        :math:`-U(-c)` for the other side. The training rows give the bounds that belong to
        ``minimax_risk_``; for the randomized rule they are never above it. If the fit had a
        ``base_margin``, distributions keep to its condition too: the base's expected loss L is no
        more than ``minimax_risk_`` allows. The bound is then that of costs
        :math:`c + a (\text{ceiling} - L)` at the best price a >= 0. The error is that of labels as
        they come, or with a ``noise_matrix`` of true ones.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows without labels: those of the fit, or others.
        rule : {"deterministic", "randomized"}, default="deterministic"
            "deterministic": the error of `predict`. "randomized": of a label drawn from
            `predict_proba`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. Give the fit's for its rows, class weights multiplied in.
        tol : float, default=1e-3
            Gap at which to stop, in units of error; with ``cost`` a share of its range.
        cost : array-like of shape (n_classes, n_classes), default=None
            Cost of deciding the column's class when the row's is true. None: 0 on the
            diagonal and 1 elsewhere, so that expected costs are errors.
        max_time : float or None, default=None
            Seconds after which the two bounds are what they are by then, half of them for the
            upper. To find by how much ``lam`` must grow, if the set is empty, is not limited.
        verbose : int, default=0
            Whether to print the size of the problem, and a line whenever the gap is checked.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ErrorBounds
            ``lower``, ``upper``, ``rule``, ``gap``, ``status`` and ``chance``. Both bounds are
            valid whatever the gap. An upper bound of ``chance`` or more says nothing.

        Raises
        ------
        EmptySetError
            A ValueError: no labels give the rows of X means within the set. It says by how much
            ``lam`` must grow. Rows other than the fit's have other means, so that half-widths
            of less than about two standard errors rarely suffice for them. Another ``lam`` takes
            another fit; ``uncertainty_set_.widened(factor)`` in place of ``uncertainty_set_``
            has the present rule judged over a wider set.
        TypeError, ValueError
            For an argument that cannot be used.

        Warns
        -----
        ConvergenceWarning
            If the gap exceeds ``tol``.

        References
        ----------
        .. [1] "Minimax Generalized Cross-Entropy", 2026.
        .. [2] S. Mazuelas, M. Romero and P. Grunwald, "Minimax Risk Classifiers with 0-1 Loss",
           J. Mach. Learn. Res. 24, 2023: upper and lower bounds of a given rule.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from mgce_sklearn import MGCEClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> bounds = MGCEClassifier(q=0.7, lam=0.3).fit(X, y).error_bounds(X, tol=1e-4)
        >>> print(f"{bounds.lower:.3f} <= error <= {bounds.upper:.3f}")
        0.004 <= error <= 0.200
        """
        DECISION.check("rule", rule)
        validation.TOLERANCE.check("tol", tol)
        validation.TIME_LIMIT.check("max_time", max_time)
        validation.VERBOSITY.check("verbose", verbose)
        check_is_fitted(self)
        validation.check_all(vars(self), PARAMETERS)
        judged = self._judged(X, rule, sample_weight, cost, base_margin)
        costs = judged.costs
        try:
            lower, upper, gap, status = bounds.error_bounds(
                judged, self.uncertainty_set_, float(tol), max_time, verbose
            )
        except EmptySetError as error:
            raise EmptySetError(error.growth, self._lam) from None
        if gap > tol * (costs.largest - costs.least):
            warnings.warn(
                f"The gap of the error bounds is {gap:.1e} (tol={tol:g}): the solver ended as "
                f"{status.name.lower()!r}. Both are valid all the same; raise lam for tighter "
                "ones, allow more time, or accept a larger tol.",
                ConvergenceWarning,
                stacklevel=2 + self._calls,
            )
        ended = status.name.lower()
        return ErrorBounds(lower, upper, rule, gap, ended, costs.chance, costs.quantity)

    def _judged(self, X: Any, rule: str, sample_weight: Any, cost: Any, base_margin: Any) -> Judged:
        """Return rows and how the rule decides them."""
        if isinstance(X, RowBlocks):
            return self._judged_blocks(X, rule, sample_weight, cost, base_margin)
        X = on_host(self._checked(X))
        margins, q = self._upon(base_margin, self._margins_of(X)), self._fitted_q
        limit = self._limit(base_margin, len(margins))
        sample_weight = validation.check_sample_weight(sample_weight, X.shape[0])
        used, rows = sample_weight > 0.0, None
        if not used.all():
            rows = np.flatnonzero(used)
            sample_weight, margins = sample_weight[rows], margins[rows]
            limit = None if limit is None else (limit[0][:, rows], limit[1])
        parts = RowsInMemory.of(design_of(X, rows, sample_weight, self._has_intercept()))
        check_magnitudes(*parts.over(column_range, wider_range))
        center = np.broadcast_to(self.uncertainty_set_.center, parts.n_features)
        parts = parts.centered_at(center)
        costs = self._costs(margins, rule, cost)
        worst, proba, scaled = map(
            parts.kept_array,
            (kernels.worst_case(margins, q).T, kernels.rule(margins, q).T, costs.scaled),
        )
        kept = None if limit is None else Limit(parts.kept_array(limit[0]), limit[1])
        fitted = Start(self._coefficients(center), worst)
        return Judged(parts, costs, scaled, fitted, proba, kept)

    def _judged_blocks(
        self, X: RowBlocks, rule: str, sample_weight: Any, cost: Any, base_margin: Any
    ) -> Judged:
        """Return the same of rows that are read block by block."""
        _check_alone(
            sample_weight=sample_weight, base_margin=base_margin, feature_map=self.feature_map
        )
        self._check_based(None)
        self._check_columns(X.scan().n_features, X.feature_names)
        survey = Survey.of(X)
        weights = validation.check_sample_weight(survey.weights, len(survey.weights))
        parts = RowsInBlocks.of(survey, None, weights, self._has_intercept())
        return self._judged_parts(parts, rule, cost)

    def _judged_parts(self, parts: Any, rule: str, cost: Any) -> Judged:
        """Return parts of unlabeled rows, and how the rule decides them."""
        check_magnitudes(*parts.over(column_range, wider_range))
        center = np.broadcast_to(self.uncertainty_set_.center, parts.n_features)
        parts, coef, q = parts.centered_at(center), self._coefficients(center), self._fitted_q
        if cost is not None:
            cost = validation.check_cost(cost, len(self.classes_))
        costs_of = partial(Costs.of, q=q, rule=rule, cost=cost)
        worst, proba, scaled = bounds.judge(parts, coef, costs_of, q)
        costs = costs_of(np.zeros((1, len(self.classes_))))
        return Judged(parts, costs, scaled, Start(coef, worst), proba, None)

    def certify(
        self,
        X: Any,
        delta: float = 0.05,
        rule: str = "deterministic",
        *,
        cost: Any = None,
        base_margin: Any = None,
    ) -> ErrorCertificate:
        r"""Bound the error on new data, with a probability, from held-out rows without labels.

        With probability 1 - ``delta`` the error on new data is at most

        .. math::

            -\langle \tau, W' \rangle + \langle \lambda_\delta, |W'| \rangle
            + \operatorname{mean}_X \max_k (m'_k + c_k) + \text{a concentration term},

        where :math:`c_k` is the probability that the fitted rule errs at a row if its class is
        k, and W' is chosen to make the sum small: for every row of X by others that were read
        before it, in an order drawn beforehand.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features)
            Held-out rows, two or more, which neither the fit nor any choice before it has seen.
            Labels are not needed. The more, the smaller the concentration term, and the better
            the choice of W': some hundred say little, and as many as the fit had are not too many.
        delta : float, default=0.05
            Probability in (0, 1) that the statement is wrong.
        rule : {"deterministic", "randomized"}, default="deterministic"
            "deterministic": the error of `predict`. "randomized": of a label drawn from
            `predict_proba`.
        cost : array-like of shape (n_classes, n_classes), default=None
            Cost of deciding the column's class when the row's is true. None: errors.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Of these rows, if the fit had one, as there.

        Returns
        -------
        ErrorCertificate
            ``upper``, ``rule``, ``delta``, the parts of the sum, and ``chance``: a bound of
            ``chance`` or more says nothing.

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used; if X are the rows of the fit, of which a sketch
            of 512 is kept, or plainly distributed unlike them; or if the fit weighted rows or
            classes differently.

        Notes
        -----
        The error is that on labels as they come, wrong ones too.

        What is random: the labeled rows of the fit, or of portions that were read once, and the
        rows of X. All are independent draws from one distribution, which is that of new data too.
        The statement is about the rule as fitted, and fails for at most a share ``delta`` of all
        such draws: half of it for the means to lie within :math:`\lambda_\delta`
        (``width="betting"``), half for the mean over X. ``q``, ``lam`` and ``width`` may have been
        chosen by the rows of the fit, not by those of X.

        What is assumed: the features of the fit lie within ``feature_range``, fixed before they
        were seen. Those of X and of new data need not: m' is taken of features clipped to it.
        A ``base_margin`` is that of a classifier to which the rows of X are new; it may have been
        fitted to those of the fit.
        With ``feature_range=None`` the range seen in the fit stands in for it, which is an
        assumption, slightly optimistic where extremes matter. A transformer, a scaler say, that
        was fitted to the same rows makes them depend on each other a little; one that was
        fitted to others, or to none, does not. A map that the labels of the fit have chosen, as
        for ``feature_map="threshold"``, voids the statement.

        However many the rows, the bound stays well above the error: means tell less than labels.
        Where labels of held-out rows are known, their error rate bounds the error more tightly.

        References
        ----------
        .. [1] S. Mazuelas, M. Romero and P. Grunwald, "Minimax Risk Classifiers with 0-1 Loss",
           J. Mach. Learn. Res. 24, 2023.
        .. [2] I. Waudby-Smith and A. Ramdas, "Estimating Means of Bounded Random Variables by
           Betting", J. R. Stat. Soc. B 86, 2024.
        .. [3] V. Vovk and R. Wang, "E-values: Calibration, Combination and Applications", Ann.
           Statist. 49, 2021.

        Examples
        --------
        >>> import numpy as np
        >>> from mgce_sklearn import MGCEClassifier
        >>> X = np.random.default_rng(0).uniform(-1, 1, (20_000, 2))
        >>> y = X @ [1, 1] > 0
        >>> model = MGCEClassifier(feature_range=(-1, 1)).fit(X[:10_000], y[:10_000])
        >>> print(model.certify(X[10_000:], delta=0.05).informative)
        True
        """
        DECISION.check("rule", rule)
        validation.PROBABILITY.check("delta", delta)
        X = on_host(self._checked(X))
        validation.check_all(vars(self), PARAMETERS)
        self._check_equal_weights()
        costs = self._costs(self._upon(base_margin, self._margins_of(X)), rule, cost)
        validation.check_several_rows(X)
        self._sketch.check_unseen(RowSketch.of(X))
        feature_range = validation.ends_of_range(self.feature_range, X.shape[1], self._precision)
        held_out = Design(X, np.broadcast_to(1.0, X.shape[0]), self._has_intercept())
        return bounds.certify(
            self._moments, feature_range, held_out, costs, rule, float(delta), self.center
        )

    @one_blas_thread()
    def _costs(self, margins: Array, rule: str, cost: Any) -> Costs:
        if cost is not None:
            cost = validation.check_cost(cost, len(self.classes_))
        return Costs.of(margins, self._fitted_q, rule, cost)

    def _limit(self, base_margin: Any, n_rows: int) -> tuple[Array, float] | None:
        """Return the base's loss (K, n) at rows and its ceiling, if the fit had a base."""
        if self._base_ceiling is None:
            return None
        base = validation.check_base_margin(base_margin, n_rows, len(self.classes_)).T
        return MGCEPotential(self._fitted_q).value(base) - base, self._base_ceiling

    def _check_equal_weights(self) -> None:
        """Raise ValueError unless a certificate may rest on the moments of the fit."""
        if self._moments.inverse is not None:
            raise ValueError(
                "certify must have a fit without noise_matrix: its probability is that of labels "
                "as they come. Fit without the matrix, or take error_bounds."
            )
        if self.class_weight is not None or not self._moments.equal_weights:
            raise ValueError(
                "certify must have a fit whose rows count alike, being draws from the distribution "
                "of new data; this one had sample or class weights. Fit without them."
            )
