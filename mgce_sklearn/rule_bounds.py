"""Bounds on the error of a fitted rule: `error_bounds` and `confidence_bound` of the classifier.

`bounds` and `confidence` have the mathematics. Here arguments are checked, and rows and costs are
made from what the fit has left.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn import bounds, confidence, constraints, kernels, validation
from mgce_sklearn.arrays import Array, on_host
from mgce_sklearn.block_parts import RowsInBlocks, Survey
from mgce_sklearn.bounds import EmptySetError, ErrorBounds, Judged, Limit
from mgce_sklearn.confidence import ConfidenceBound
from mgce_sklearn.costs import RULES, Costs
from mgce_sklearn.design import Design, design_of
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import RowsInMemory, column_range, wider_range
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.row_blocks import RowBlocks, check_alone
from mgce_sklearn.sketch import RowSketch
from mgce_sklearn.solvers import Start
from mgce_sklearn.uncertainty import Moments, UncertaintySet, check_magnitudes

RULE = constraints.one_of(RULES)


class CertifyMixin:
    """The old name of the method `confidence_bound`."""

    confidence_bound: Any

    def certify(self, *args: Any, **kwargs: Any) -> ConfidenceBound:
        """Call `confidence_bound`: this is its deprecated name.

        Parameters
        ----------
        *args, **kwargs
            As in `confidence_bound`.

        Returns
        -------
        ConfidenceBound

        Warns
        -----
        FutureWarning
            Always.
        """
        warnings.warn(
            "certify is deprecated; call confidence_bound, which takes the same arguments.",
            FutureWarning,
            stacklevel=2,
        )
        return self.confidence_bound(*args, **kwargs)


class RuleBoundsMixin(CertifyMixin):
    """Bounds on the error of a fitted rule, for a classifier with linear margins."""

    # What the classifier provides.
    center: Any
    class_weight: Any
    classes_: Array
    feature_map: Any
    feature_range: Any
    uncertainty_set_: UncertaintySet
    _base_ceiling: float | None
    _calls: int
    _fitted_q: Any
    _lam: float | None
    _moments: Moments
    _precision: Any
    _sketch: RowSketch
    _check_based: Any
    _check_columns: Any
    _check_parameters: Any
    _checked: Any
    _coefficients: Any
    _has_intercept: Any
    _margins_of: Any
    _with_base: Any

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

        Consider all distributions whose features are distributed as in X, and whose means lie
        within ``uncertainty_set_``. The error of the rule is at most ``upper`` and at least
        ``lower`` for each of them:

        .. math::

            U(c) = \max_p \operatorname{mean}_i \langle p_i, c_i \rangle
            = \min_W \operatorname{mean}_i \max_k (m_{ik} + c_{ik}) - \langle \tau, W \rangle
            + \langle \lambda, |W| \rangle,

        with :math:`c_{ik}` the probability that the rule errs at row i if its class is k. The lower
        bound is :math:`-U(-c)`. For the training rows these are the bounds that correspond to
        ``minimax_risk_``: the upper bound of the randomized rule is never above it.

        The error is that on labels as observed, wrong ones included. With a ``noise_matrix`` it is
        that on true labels.

        If the fit had a ``base_margin``, distributions satisfy its condition too: the base's
        expected loss L is no more than ``minimax_risk_`` allows. The bound is then that of costs
        :math:`c + a (\text{ceiling} - L)` at the best price a >= 0.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features), or RowBlocks
            Rows without labels: those of the fit, or others.
        rule : {"deterministic", "randomized"}, default="deterministic"
            "deterministic": the error of `predict`. "randomized": of a label drawn from
            `predict_proba`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative. For the rows of the fit give the weights of the fit, multiplied by those
            of the classes.
        tol : float, default=1e-3
            Gap at which to stop, in units of error. With ``cost`` it is a share of its range.
        cost : array-like of shape (n_classes, n_classes), default=None
            Cost of deciding the column's class when the row's is true. None: 0 on the
            diagonal and 1 elsewhere, so that expected costs are errors.
        max_time : float or None, default=None
            Time limit in seconds, half of it for the upper bound. When it is over, the bounds are
            the best ones found so far. If the set is empty, the search for how much ``lam`` must
            grow is not limited.
        verbose : int, default=0
            Whether to print the size of the problem, and a line whenever the gap is checked.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows, in the format of `fit`. Required if the fit had any.

        Returns
        -------
        ErrorBounds
            ``lower``, ``upper``, ``rule``, ``gap``, ``status`` and ``chance``. Both bounds are
            valid for any gap. An upper bound of ``chance`` or more is vacuous.

        Raises
        ------
        EmptySetError
            A ValueError, if no labeling of X is consistent with the uncertainty set. The message
            names the ``lam`` that would do. The means of other rows than the fit's are different,
            and half-widths of less than about two standard errors rarely suffice for them.
            Another ``lam`` takes another fit. To bound the present rule over a wider set, replace
            ``uncertainty_set_`` with ``uncertainty_set_.widened(factor)``.
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
        RULE.check("rule", rule)
        constraints.TOLERANCE.check("tol", tol)
        constraints.TIME_LIMIT.check("max_time", max_time)
        constraints.VERBOSITY.check("verbose", verbose)
        check_is_fitted(self)
        self._check_parameters()
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
                f"{status.name.lower()!r}. Both bounds are still valid. For tighter ones raise lam "
                "or allow more time; or accept a larger tol.",
                ConvergenceWarning,
                stacklevel=2 + self._calls,
            )
        ended = status.name.lower()
        return ErrorBounds(lower, upper, rule, gap, ended, costs.chance, costs.quantity)

    def _judged(self, X: Any, rule: str, sample_weight: Any, cost: Any, base_margin: Any) -> Judged:
        """Return the rows, and the costs of the rule's decisions about them."""
        if isinstance(X, RowBlocks):
            return self._judged_blocks(X, rule, sample_weight, cost, base_margin)
        X = on_host(self._checked(X))
        margins, q = self._with_base(base_margin, self._margins_of(X)), self._fitted_q
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
        """Return the same for rows that are read block by block."""
        check_alone(
            sample_weight=sample_weight, base_margin=base_margin, feature_map=self.feature_map
        )
        self._check_based(None)
        self._check_columns(X.scan().n_features, X.feature_names)
        survey = Survey.of(X)
        weights = validation.check_sample_weight(survey.weights, len(survey.weights))
        parts = RowsInBlocks.of(survey, None, weights, self._has_intercept())
        return self._judged_parts(parts, rule, cost)

    def _judged_parts(self, parts: Any, rule: str, cost: Any) -> Judged:
        """Return the same for unlabeled rows in parts."""
        check_magnitudes(*parts.over(column_range, wider_range))
        center = np.broadcast_to(self.uncertainty_set_.center, parts.n_features)
        parts, coef, q = parts.centered_at(center), self._coefficients(center), self._fitted_q
        if cost is not None:
            cost = validation.check_cost(cost, len(self.classes_))
        costs_of = partial(Costs.of, q=q, rule=rule, cost=cost)
        worst, proba, scaled = bounds.judge(parts, coef, costs_of, q)
        costs = costs_of(np.zeros((1, len(self.classes_))))
        return Judged(parts, costs, scaled, Start(coef, worst), proba, None)

    def confidence_bound(
        self,
        X: Any,
        delta: float = 0.05,
        rule: str = "deterministic",
        *,
        cost: Any = None,
        base_margin: Any = None,
    ) -> ConfidenceBound:
        r"""Bound the error on new data with a probability, from held-out rows without labels.

        With probability 1 - ``delta`` the error on new data is at most

        .. math::

            -\langle \tau, W' \rangle + \langle \lambda_\delta, |W'| \rangle
            + \operatorname{mean}_X \max_k (m'_k + c_k) + \text{a concentration term},

        where :math:`c_k` is the probability that the fitted rule errs at a row if its class is k.
        W' is chosen to make the sum small. For every row of X the choice depends only on rows that
        were read before it, in an order drawn beforehand.

        Parameters
        ----------
        X : {array-like, sparse matrix, Tensor} of shape (n_samples, n_features)
            Held-out rows, two or more, which neither the fit nor any choice before it has used.
            Labels are not needed. More rows make the concentration term smaller and the choice of
            W' better. With a few hundred the bound is often vacuous. As many as the fit had are
            not too many.
        delta : float, default=0.05
            Probability in (0, 1) that the bound does not hold.
        rule : {"deterministic", "randomized"}, default="deterministic"
            "deterministic": the error of `predict`. "randomized": of a label drawn from
            `predict_proba`.
        cost : array-like of shape (n_classes, n_classes), default=None
            Cost of deciding the column's class when the row's is true. None: 0 on the diagonal
            and 1 elsewhere, so that the bound is one on the error.
        base_margin : array-like of shape (n_samples, n_classes), default=None
            Base margins of these rows, in the format of `fit`. Required if the fit had any.

        Returns
        -------
        ConfidenceBound
            ``upper``, ``rule``, ``delta``, the parts of the sum, and ``chance``. A bound of
            ``chance`` or more is vacuous.

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used. Also if X has rows of the fit (a sketch of 512 of
            them is stored), if X is clearly distributed unlike them, or if the fit had different
            weights of rows or classes.

        Notes
        -----
        The error is that on labels as observed, wrong ones included.

        What is random: the labeled rows of the fit (or of the portions of `partial_fit`), and the
        rows of X. All of them are independent draws from one distribution, which is also that of
        new data. The bound is about the rule as fitted. It fails for at most a share ``delta`` of
        all such draws. Half of that is for the means, which must lie within :math:`\lambda_\delta`
        (``width="betting"``), and half is for the mean over X. ``q``, ``lam`` and ``width`` may
        have been chosen by the rows of the fit, but not by those of X.

        What is assumed: the features of the fit lie within ``feature_range``, which was fixed
        before the rows were seen. Features of X and of new data may lie outside, because m' is
        computed from features clipped to this range. With ``feature_range=None`` the range seen in
        the fit is used instead. That is an assumption, and slightly optimistic where extremes
        matter.

        A ``base_margin`` comes from a classifier that was not fitted to the rows of X. It may have
        been fitted to those of the fit.

        A transformer that was fitted to the rows of the fit, such as a scaler, makes these rows
        slightly dependent on each other. One that was fitted to other rows, or to none, does not.
        A feature map that was chosen by the labels of the fit, as by ``feature_map="threshold"``,
        makes the bound invalid.

        The bound stays well above the error for any number of rows, because means contain less
        information than labels. If labels of held-out rows are known, their error rate bounds the
        error more tightly.

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
        >>> print(model.confidence_bound(X[10_000:], delta=0.05).informative)
        True
        """
        RULE.check("rule", rule)
        constraints.PROBABILITY.check("delta", delta)
        X = on_host(self._checked(X))
        self._check_parameters()
        self._check_equal_weights()
        costs = self._costs(self._with_base(base_margin, self._margins_of(X)), rule, cost)
        validation.check_several_rows(X)
        self._sketch.check_unseen(RowSketch.of(X))
        feature_range = validation.ends_of_range(
            self.feature_range, X.shape[1], np.dtype(self._precision)
        )
        held_out = Design(X, np.broadcast_to(1.0, X.shape[0]), self._has_intercept())
        return confidence.confidence_bound(
            self._moments, feature_range, held_out, costs, rule, float(delta), self.center
        )

    @one_blas_thread()
    def _costs(self, margins: Array, rule: str, cost: Any) -> Costs:
        """Return the costs of the fitted rule at margins (n, K)."""
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
        """Raise ValueError unless a confidence bound may rest on the moments of the fit."""
        if self._moments.inverse is not None:
            raise ValueError(
                "noise_matrix must be None in the fit for confidence_bound, whose probability is "
                "about labels as observed. Fit without the matrix, or use error_bounds."
            )
        if self.class_weight is not None or not self._moments.equal_weights:
            raise ValueError(
                "Rows must have equal weights in the fit for confidence_bound, because they are "
                "draws from the distribution of new data; this fit had sample or class weights. "
                "Fit without them."
            )
