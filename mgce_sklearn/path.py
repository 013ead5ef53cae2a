r"""Paths: solutions over a grid of q and lam, each started from its neighbor.

Solutions of neighboring lams are close to each other, so each is a good start for the next
smaller lam. Moments of the rows are computed once for the whole grid: the half-widths of all lams
are multiples of one array.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_X_y

from mgce_sklearn import constraints, validation
from mgce_sklearn.design import raw_coefficients
from mgce_sklearn.feasibility import EmptySetError, Sample
from mgce_sklearn.objective import DualPoint, Objective
from mgce_sklearn.problem import Problem
from mgce_sklearn.row_blocks import refuse_blocks
from mgce_sklearn.solvers import (
    SOLVERS,
    UNWATCHED,
    Interrupted,
    SolverResult,
    Status,
    Watch,
    deadline_in,
)
from mgce_sklearn.solvers.approximate import approximate
from mgce_sklearn.solvers.settings import Settings
from mgce_sklearn.targets import Distributions, read_labels
from mgce_sklearn.uncertainty import n_coefficient_rows

Array = np.ndarray[Any, Any]

# `estimates` stop at this gain or after so many gradients, and smooth the potential from this q on,
# by so much. These values came nearest to certified scores at their cost (benchmarks/README.md).
LEAST_GAIN = 1e-5
MOST_GRADIENTS = 200
LARGEST_SHARP_Q = 0.9
SMOOTHING = 0.03

# A feasible point is searched for in a set whose half-widths are smaller by this factor first.
NARROWER = 0.9

# At the smallest feasible lam, a set contains little more than one distribution, most likely a
# wrong one. At 1.5 times that lam true errors were within the bounds in 10 of 12 cases, at 1.01
# times in none.
ROOM = 1.5

# Constraints on the parameters that classifier, path and search share.
SETTING_PARAMETERS = {
    "fit_intercept": constraints.SWITCH,
    "center": constraints.CENTER,
    "solver": constraints.one_of(["auto", *SOLVERS]),
    "tol": constraints.TOLERANCE,
    "max_iter": constraints.ITERATIONS,
    "max_time": constraints.TIME_LIMIT,
    "verbose": constraints.VERBOSITY,
}


class PathPoint(NamedTuple):
    """One solution of a path."""

    lam: float
    objective: Objective
    solver: str
    result: SolverResult
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether the relative duality gap is within the tolerance."""
        return self.result.status is Status.CONVERGED


def solve_path(
    problem: Problem,
    q: float,
    lams: Sequence[float] | Array,
    settings: Settings,
    start: Array | None = None,
    watch: Watch = UNWATCHED,
) -> Iterator[PathPoint]:
    """Solve for every lam in the given order, each from the solution before it.

    Parameters
    ----------
    problem : Problem
    q : float in [0, 1]
    lams : sequence of float
        In the order of `widest_first` each start is close to the next solution.
    settings : Settings
    start : ndarray of shape (C, d), default=None
        Coefficients to start the first from.
    watch : Watch
        What may stop a solver. The iterator continues after a point that was stopped.

    Yields
    ------
    PathPoint

    Raises
    ------
    Interrupted
        On Ctrl-C, if ``watch`` keeps what was reached. The point that was reached is yielded first.
    """
    for lam in map(float, lams):
        begin = time.perf_counter()
        objective = objective_of(problem, q, lam)
        name, solver = settings.solver_for(objective)
        try:
            result = solver.solve(objective, start, watch=watch)
            if start is not None and result.status is Status.STALLED:
                # If features nearly separate a few rows, the neighbor's solution may be too close
                # to the boundary to move from.
                from_zero = solver.solve(objective, watch=watch)
                result = min(result, from_zero, key=lambda result: result.gap)
        except Interrupted as interrupted:
            seconds = time.perf_counter() - begin
            yield PathPoint(lam, objective, name, interrupted.result, seconds)
            raise
        seconds = time.perf_counter() - begin
        yield PathPoint(lam, objective, name, result, seconds)
        start = result.coef


def estimates(
    problem: Problem, q: float, lams: Sequence[float] | Array, watch: Watch = UNWATCHED
) -> Iterator[PathPoint]:
    """Approximate the solution for every lam, each from zero: enough to compare scores.

    No gap is computed, so no point counts as converged. Values are still valid upper bounds.
    Points do not depend on each other.

    Parameters
    ----------
    problem : Problem
    q : float in [0, 1]
    lams : sequence of float
    watch : Watch
        Only its deadline is used. The iterator continues after a point that was stopped.

    Yields
    ------
    PathPoint
    """
    parts = problem.parts.centered_in_memory()
    for lam in map(float, lams):
        begin = time.perf_counter()
        objective = objective_of(problem, q, lam)
        smooth = replace(objective, parts=parts, potential=_smoothed(objective.potential))
        coef, n_gradients = approximate(smooth, LEAST_GAIN, MOST_GRADIENTS, watch.out_of_time)
        # Its threads end with the context; the objective that is given away needs new ones.
        with objective.opened() as opened:
            value = opened.possible(opened.value(coef))
        bounds = value, objective.least_value
        status = Status.STOPPED if watch.out_of_time() else Status.STALLED
        result = SolverResult(coef, *bounds, status, n_gradients, trace=())
        yield PathPoint(lam, objective, "approximate", result, time.perf_counter() - begin)


def objective_of(problem: Problem, q: float, lam: float) -> Objective:
    """Return the objective; with a noise matrix also a feasible point of its dual.

    Raises
    ------
    EmptySetError
        With a noise matrix, if no labeling of X is consistent with the uncertainty set.
    """
    objective = problem.objective(float(q), lam)
    if objective.labeled:
        return objective
    if lam not in problem.anchors:
        problem.anchors[lam] = anchor_of(problem, lam)
    return replace(objective, anchor=problem.anchors[lam])


def anchor_of(problem: Problem, lam: float) -> DualPoint:
    """Return a dual point of the uncertainty set of ``lam``, by its means alone.

    Entropies are at least 0, so 0 is a valid dual value. If a set of somewhat smaller half-widths
    is not empty, the point is from that set. Other points can then be moved toward it.

    Raises
    ------
    EmptySetError
        If the set is empty, with the smallest ``lam`` for which it is not.
    """
    width = problem.width.factor(lam)
    if width is not None and width <= problem.largest_empty[0]:
        largest, growth = problem.largest_empty
        raise EmptySetError(growth * largest / width, width, of_fit=True)
    sample = Sample.of(problem.parts.on_host(), problem.uncertainty(lam))
    for growth in (NARROWER, 1.0):
        excess = sample.feasible_excess(growth)
        if excess is not None:
            rows = excess[-n_coefficient_rows(len(excess)) :]
            return DualPoint(0.0, 1.0, problem.parts.like.put(rows))
    growth = sample.growth()
    if width is not None:
        problem.largest_empty[:] = width, growth
    raise EmptySetError(growth, width, of_fit=True)


def feasible_lam(problem: Problem) -> float:
    """Return what lam="feasible" stands for.

    That is 1, or `ROOM` times the smallest lam whose set is not empty if that is larger.
    """
    if problem.moments.inverse is None or problem.width.factor(1.0) is None:
        return 1.0
    sample = Sample.of(problem.parts.on_host(), problem.uncertainty(1.0))
    if sample.feasible_excess(1.0 / ROOM) is not None:
        return 1.0
    return max(1.0, ROOM * sample.growth(1.0 / ROOM))


def _smoothed(potential: Any) -> Any:
    """Return a potential with a continuous gradient, which that of q = 1 is not."""
    return potential.smoothed(SMOOTHING) if potential.q > LARGEST_SHARP_Q else potential


def widest_first(lams: Array) -> Array:
    """Return the positions of the lams from the largest to the smallest."""
    return np.argsort(-lams, kind="stable")


def as_text(points: Iterable[tuple[float, float]]) -> str:
    """Return points (q, lam) as text."""
    return ", ".join(f"(q={q:g}, lam={lam:g})" for q, lam in points)


def warn_of_gaps(points: Sequence[tuple[float, float]], tol: float, stacklevel: int) -> None:
    """Name the points (q, lam) whose gap stayed above tol in one warning, if there are any."""
    if points:
        warnings.warn(
            f"The relative duality gap stayed above tol={tol:g} at {as_text(points)}. Raise "
            "max_iter or max_time, leave out small lams, accept a larger tol, or try "
            "solver='interior_point'. Every minimax risk is still a valid bound.",
            ConvergenceWarning,
            stacklevel=stacklevel + 1,
        )


@dataclass(frozen=True)
class MGCEPath:
    r"""Solutions over a grid of q and lam, in the order in which they were asked for.

    Attributes
    ----------
    qs : ndarray of shape (n_q,)
        Loss parameters.
    lams : ndarray of shape (n_lam,)
        Half-widths in standard errors.
    classes : ndarray of shape (n_classes,)
        Class labels.
    coefs : ndarray of shape (n_q, n_lam, C, n_features)
        Coefficients. C is n_classes, or 1 for two classes: then they are those of the second
        class less those of the first, as in scikit-learn.
    intercepts : ndarray of shape (n_q, n_lam, C)
        Coefficients of the constant feature.
    minimax_risks : ndarray of shape (n_q, n_lam)
        Upper bounds on the worst-case expected losses, in units of :math:`\ell_q`, valid at every
        point: on labels as observed, or with a ``noise_matrix`` on true ones.
    dual_gaps : ndarray of shape (n_q, n_lam)
        ``minimax_risks - dual_gaps <= optimum <= minimax_risks``.
    n_iters : ndarray of shape (n_q, n_lam)
        Iterations.
    converged : ndarray of shape (n_q, n_lam)
        Whether the relative gap is within ``tol``. Points that ``max_time`` left out are False
        here, have 0 iterations, and are NaN in the other arrays.
    seconds : ndarray of shape (n_q, n_lam)
        Time of each point, starting from its neighbor's solution.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import mgce_path
    >>> path = mgce_path(*load_iris(return_X_y=True), qs=[0.5, 1.0], lams=[0.1, 0.3, 1.0])
    >>> path.coefs.shape, path.minimax_risks.shape, bool(path.converged.all())
    ((2, 3, 3, 4), (2, 3), True)
    """

    qs: Array
    lams: Array
    classes: Array
    coefs: Array
    intercepts: Array
    minimax_risks: Array
    dual_gaps: Array
    n_iters: Array
    converged: Array
    seconds: Array


def mgce_path(
    X: Any,
    y: Any,
    qs: Sequence[float],
    lams: Sequence[float],
    *,
    sample_weight: Any = None,
    fit_intercept: bool = True,
    center: Any = "auto",
    solver: str = "auto",
    tol: float = 1e-4,
    max_iter: int | None = None,
    max_time: float | None = None,
    class_weight: Any = None,
    noise_matrix: Any = None,
    random_state: Any = None,
    verbose: int = 0,
    base_margin: Any = None,
) -> MGCEPath:
    r"""Fit `MGCEClassifier`'s coefficients for every q and lam of a grid, and certify each.

    .. math::

        \min_W \; \operatorname{mean}_i \psi_q(W x_i) - \langle \tau, W \rangle
        + \text{lam} \, \langle \sigma / \sqrt n, |W| \rangle

    For each q the widths are taken from the largest down, each solution being the start of the
    next.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Finite numbers. float32 is computed with in float64 by blocks.
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any dtype, at least two different ones; or distributions, as in
        `MGCEClassifier.fit`.
    qs : sequence of float
        Loss parameters in [0, 1].
    lams : sequence of float
        Half-widths of the uncertainty set, in standard errors of the feature means, in any
        order.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative. A weight of 2 equals the row twice, 0 the row left out.
    fit_intercept : bool, default=True
        Whether to add a constant feature.
    center : "auto" or bool, default="auto"
        Which columns to center, as in `MGCEClassifier`.
    solver : {"auto", "interior_point", "lbfgs", "sgd", "cvxpy"}, default="auto"
        As in `MGCEClassifier`.
    tol : float, default=1e-4
        Relative duality gap at which a point is solved.
    max_iter : int or None, default=None
        Iteration limit for each point. None: the solver's own.
    max_time : float or None, default=None
        Time limit in seconds for the whole grid, one q after the other. The point that is running
        then is stopped, with a valid bound. Points that were not started are NaN.
    class_weight : dict, "balanced" or None, default=None
        Factors on ``sample_weight`` by class.
    noise_matrix : float, array-like of shape (n_classes, n_classes) or None, default=None
        Probabilities by which labels became wrong, as in `MGCEClassifier`.
    random_state : int, RandomState instance or None, default=None
        Draws the order in which "sgd" reads the rows.
    verbose : int, default=0
        Whether to print the size of each problem and a line whenever the gap is checked.
    base_margin : array-like of shape (n_samples, n_classes), default=None
        Margins of another classifier, to which those of the features are added; see the notes of
        `MGCEClassifier`.

    Returns
    -------
    MGCEPath
        Coefficients, risks and gaps, in the order of ``qs`` and ``lams``.

    Raises
    ------
    TypeError, ValueError
        For a parameter or data that cannot be used.
    EmptySetError
        With a ``noise_matrix``, if the set of the smallest lam is empty.

    Warns
    -----
    ConvergenceWarning
        One that names the points whose gap exceeds ``tol``, and one that names the points that
        ``max_time`` left out.

    References
    ----------
    .. [1] "Minimax Generalized Cross-Entropy", 2026.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import mgce_path
    >>> X, y = load_iris(return_X_y=True)
    >>> path = mgce_path(X, y, qs=[0.5, 1.0], lams=[0.1, 0.3])
    >>> path.coefs.shape
    (2, 2, 3, 4)
    >>> print(path.minimax_risks.round(3))
    [[0.115 0.218]
     [0.083 0.156]]
    """
    settings = Settings(solver, tol, max_iter, verbose)
    others = {"fit_intercept": fit_intercept, "center": center, "max_time": max_time}
    constraints.check_all({**settings._asdict(), **others}, SETTING_PARAMETERS)
    settings = settings._replace(draw_seed=partial(validation.seed_of, random_state))
    watch = Watch(deadline_in(max_time))
    all_q = constraints.check_sequence("qs", qs, constraints.LOSS_PARAMETER)
    all_lam = constraints.check_sequence("lams", lams, constraints.HALF_WIDTH)
    X, y = _labeled_rows(X, y)
    problem = Problem.from_labels(
        X,
        y,
        sample_weight,
        class_weight,
        fit_intercept,
        center=center,
        noise_matrix=noise_matrix,
        base_margin=base_margin,
    )
    path = _collect(problem, all_q, all_lam, settings, watch)
    begun = ~np.isnan(path.seconds)
    missed = [(all_q[i], all_lam[j]) for i, j in np.argwhere(begun & ~path.converged)]
    warn_of_gaps(missed, tol, stacklevel=2)
    if not begun.all():
        late = as_text([(all_q[i], all_lam[j]) for i, j in np.argwhere(~begun)])
        warnings.warn(
            f"max_time={max_time:g} was too short for {late}, which are NaN. Allow more time, or "
            "ask for fewer points.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return path


def lam_max(
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    fit_intercept: bool = True,
    center: Any = "auto",
    class_weight: Any = None,
) -> float:
    r"""Compute the smallest lam at which every coefficient is zero: the start of a path.

    .. math:: \text{lam}_{\max} = \sqrt n \max_{k, j}
              \frac{|\operatorname{mean}_i (1/K - 1[y_i = k]) (x_{ij} - c_j)|}{\sigma_{kj}}

    with the means c of the columns. It is the same for every q. For two classes the smaller of
    the two half-widths counts.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Labels of any dtype, at least two different ones.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative. A weight of 2 equals the row twice, 0 the row left out.
    fit_intercept : bool, default=True
        Whether there is a constant feature. It often decides where classes are imbalanced.
    center : "auto" or bool, default="auto"
        Which columns to center, as in `MGCEClassifier`.
    class_weight : dict, "balanced" or None, default=None

    Returns
    -------
    float
        In standard errors, as ``lam``.

    Raises
    ------
    ValueError
        For data that cannot be used.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import lam_max
    >>> print(f"{lam_max(*load_iris(return_X_y=True)):.1f}")
    8.6
    """
    X, y = _labeled_rows(X, y)
    constraints.CENTER.check("center", center)
    problem = Problem.from_labels(X, y, sample_weight, class_weight, fit_intercept, center=center)
    return problem.lam_max()


def _labeled_rows(X: Any, y: Any) -> tuple[Any, Array | Distributions]:
    """Return features and labels, checked."""
    refuse_blocks(X)
    y = read_labels(y)
    how: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
    if isinstance(y, Distributions):
        X = check_array(X, **how)
        y.check_rows(X.shape[0])
        return X, y
    return check_X_y(X, y, **how)


def _collect(
    problem: Problem, qs: Array, lams: Array, settings: Settings, watch: Watch
) -> MGCEPath:
    """Solve the grid, as far as time allows, and put every number in its place."""
    n_classes = len(problem.classes)
    grid = (len(qs), len(lams))
    shape = n_coefficient_rows(n_classes), problem.parts.n_features
    coefs = np.full((*grid, *shape), np.nan)
    risks, gaps, seconds = np.full((3, *grid), np.nan)
    n_iters, converged = np.zeros(grid, int), np.zeros(grid, bool)
    for i, j, point in _points(problem, qs, lams, settings, watch):
        coefs[i, j] = point.result.coef
        risks[i, j], gaps[i, j] = point.result.value, point.result.gap
        n_iters[i, j], converged[i, j] = point.result.n_iter, point.converged
        seconds[i, j] = point.seconds
    coefs = raw_coefficients(coefs, problem.moments.center)
    slopes, intercepts = problem.parts.like.split(coefs)
    return MGCEPath(
        qs, lams, problem.classes, slopes, intercepts, risks, gaps, n_iters, converged, seconds
    )


def _points(
    problem: Problem, qs: Array, lams: Array, settings: Settings, watch: Watch
) -> Iterator[tuple[int, int, PathPoint]]:
    """Yield positions in the grid and the solutions there, until one was stopped."""
    order = widest_first(lams)
    for i, q in enumerate(qs):
        points = solve_path(problem, q, lams[order], settings, watch=watch)
        for j, point in zip(order, points, strict=True):
            yield i, j, point
            if point.result.status is Status.STOPPED:
                return
