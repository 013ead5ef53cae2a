"""Error bounds: the largest and the smallest expected cost of a rule over an uncertainty set.

The rule is given, and c_ik is the cost of its decision at row i if the class of that row is k. The
largest expected cost over all distributions of the set is

    U(c) = max_p mean_i <p_i, c_i>  subject to  |mean_i p_i ⊗ x_i - tau| <= half_width
         = min_W mean_i max_k (m_ik + c_ik) - <tau, W> + <half_width, |W|>,     m_i = W x_i.

This is the objective of a fit with another potential. The smallest expected cost is -U(-c).

Any W gives a valid bound. If a solver ends with a gap, the bound is looser, and still valid. Rows
need no labels: the set assumes that features are distributed as in these rows. For rows without
labels the set may be empty.

`confidence` has the bound for new data, which holds with a probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn import kernels
from mgce_sklearn.costs import RULES as RULES
from mgce_sklearn.costs import AgainstChance, Costs
from mgce_sklearn.feasibility import EmptySetError, Sample, solved
from mgce_sklearn.objective import margins_of
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import Columns, Kept, Part, Parts
from mgce_sklearn.solvers import Start, Status, Watch, deadline_in
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

# Prices of a limit that are tried first: none; that of a fit whose margins begin with the base's;
# and one beyond which the worst case rises, as a rule. And the most that are tried.
FIRST_PRICES = (0.0, 1.0, 2.0)
MOST_PRICES = 30

# A new price is no nearer to others than this share of the way between them.
INSIDE = 0.05


@dataclass(frozen=True)
class ErrorBounds(AgainstChance):
    """Least and largest expected cost of a rule over an uncertainty set.

    Attributes
    ----------
    lower, upper : float
        Every distribution of the set has an expected cost in [lower, upper]. For the default
        costs this is the error rate, in [0, 1], on labels as observed, wrong ones included. After
        a fit with a ``noise_matrix`` it is the error rate on true labels.
    rule : {"deterministic", "randomized"}
        "deterministic": the error of `predict`. "randomized": of a label drawn from
        `predict_proba`.
    gap : float
        How much tighter, at most, either bound could be, if the set is not empty.
    status : {"converged", "max_iter", "stalled", "stopped", "not_finite"}
        How the solver ended. "stopped" means that time was over. The bounds are valid in every
        case.
    chance : float
        Expected cost of guessing uniformly among equally frequent classes: 1 - 1/K for errors.
    quantity : {"error", "expected cost"}
        What is bounded. "expected cost" if a cost matrix was given.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> bounds = MGCEClassifier(q=0.7).fit(X, y).error_bounds(X)
    >>> print(f"{bounds.lower:.3f} <= error of {bounds.rule} rule <= {bounds.upper:.3f}")
    0.004 <= error of deterministic rule <= 0.200
    >>> bounds.informative
    True
    """

    lower: float
    upper: float
    rule: str
    gap: float
    status: str
    chance: float
    quantity: str = "error"

    def __str__(self) -> str:
        return self._remarked(
            f"{self.lower:.4f} <= {self.quantity} of the {self.rule} rule <= {self.upper:.4f} "
            f"(each within {self.gap:.1e}, {self.status})"
        )


class Limit(NamedTuple):
    """A further condition on distributions: the expectation of a loss has a ceiling.

    Attributes
    ----------
    loss : Columns
        Of each row by class (K, n).
    ceiling : float
    """

    loss: Columns
    ceiling: float

    def relaxed(self, costs: Columns, price: float) -> Columns:
        """Return costs (K, n) plus a price times the distance of the loss below its ceiling."""
        return partial(_relaxed, costs, self.loss, self.ceiling, price)


def _relaxed(costs: Columns, loss: Columns, ceiling: float, price: float, part: Part) -> Array:
    return costs(part) + price * (ceiling - loss(part))


def _above(columns: Columns, sign: float, constant: float, part: Part) -> Array:
    return constant + sign * columns(part)


class Judged(NamedTuple):
    """Rows, and a fitted rule whose decisions about them are to be bounded.

    Attributes
    ----------
    parts : Parts
        Rows, with or without known labels.
    costs : Costs
        Range of the costs, and the cost of guessing.
    scaled : Columns
        The costs (K, n) in [0, 1] of the decisions about these rows.
    fitted : Start
        Coefficients of the fit, and its worst case p* on the rows.
    rule : Columns
        The fitted rule h (K, n) on the rows.
    limit : Limit or None
        A further condition on distributions.
    """

    parts: Parts
    costs: Costs
    scaled: Columns
    fitted: Start
    rule: Columns
    limit: Limit | None


def judge(parts: Parts, coef: Array, costs_of: Any, q: float) -> tuple[Kept, Kept, Kept]:
    """Store worst case p*, rule h and scaled costs (K, n) of rows, in one pass.

    Parameters
    ----------
    parts : Parts
    coef : ndarray of shape (C, d)
    costs_of : callable
        Returns `Costs` of margins (n, K).
    q : float
    """
    names = parts.kept(), parts.kept(), parts.kept()
    parts.sum(partial(_judge, coef, costs_of, q, names))
    return names


def _judge(coef: Array, costs_of: Any, q: float, names: tuple[Kept, ...], part: Part) -> None:
    margins = margins_of(part, coef, None).T
    columns = kernels.worst_case(margins, q).T, kernels.rule(margins, q).T, costs_of(margins).scaled
    for name, array in zip(names, columns, strict=True):
        part.allotted(name, len(array))[:] = array


@one_blas_thread()
def error_bounds(
    judged: Judged,
    uncertainty: UncertaintySet,
    tol: float,
    max_time: float | None = None,
    verbose: int = 0,
) -> tuple[float, float, float, Status]:
    """Bound the expected cost of a rule over all distributions of a set.

    Parameters
    ----------
    judged : Judged
    uncertainty : UncertaintySet
        All K classes in it.
    tol : float
        Largest gap, as a share of the range of costs.
    max_time : float or None, default=None
        Seconds. The upper bound has half of them, and the lower bound what is left.
    verbose : int, default=0

    Returns
    -------
    lower, upper, gap : float
    status : Status

    Raises
    ------
    EmptySetError
        If no labeling of the rows is consistent with the set.
    ValueError
        If some are, but none of them satisfies the limit.
    """
    parts, costs, scaled, fitted, rule, limit = judged
    sample = Sample.of(parts, uncertainty)
    if sample.growth_for_sums() > 1.0:
        raise EmptySetError(sample.growth())
    fitted = fitted._replace(coef=fitted.coef[:, sample.seen])
    deadline, half = deadline_in(max_time), None if max_time is None else 0.5 * max_time
    _announce("upper bound is value - 1", verbose)
    watch = Watch(deadline_in(half))
    largest = _worst_case(sample, scaled, tol, fitted, watch, verbose, limit)
    # The worst case of the loss is a bad start for the best case. Coefficients are small there,
    # and distributions are more like the rule: it is right with these probabilities.
    _announce("lower bound is 2 - value", verbose)
    start = Start(0.0 * fitted.coef, rule)
    watch = Watch(deadline)
    gains = partial(_above, scaled, -1.0, 1.0)
    least = _worst_case(sample, gains, tol, start, watch, verbose, limit)
    # Rounding may swap the bounds if the means allow one expected cost only.
    ends = costs.unscaled(1.0 - least.value), costs.unscaled(largest.value)
    gap = (costs.largest - costs.least) * max(largest.gap, least.gap)
    status = largest.status if largest.status is not Status.CONVERGED else least.status
    return min(ends), max(ends), gap, status


class _Bounded(NamedTuple):
    """The largest expected cost at a price: an upper and a lower bound of it."""

    price: float
    value: float
    dual_value: float
    status: Status


class _WorstCase(NamedTuple):
    value: float
    gap: float
    status: Status


def _announce(what: str, verbose: int) -> None:
    if verbose:
        print(f"error_bounds: the {what}, of costs in [0, 1]", flush=True)


def _worst_case(
    sample: Sample,
    costs: Columns,
    tol: float,
    start: Start,
    watch: Watch,
    verbose: int,
    limit: Limit | None,
) -> _WorstCase:
    """Return an upper bound on U(c) for costs in [0, 1]."""
    priced = partial(_priced, sample, start=start, watch=watch, verbose=verbose)
    if limit is None:
        found = [priced(costs, 0.0, tol)]
        least = found[0].dual_value
    else:
        found, least = _over_prices(priced, costs, tol, limit, watch)
    best = min(found, key=lambda point: point.value)
    value = min(best.value, 2.0)
    gap, status = max(0.0, value - max(least, 1.0)), best.status  # costs are never negative
    if status is Status.CONVERGED and gap > tol:  # at its price, which is not the best
        status = Status.STOPPED if watch.out_of_time() else Status.MAX_ITER
    return _WorstCase(value - 1.0, gap, status)


def _over_prices(
    priced: Callable[[Columns, float, float], _Bounded],
    costs: Columns,
    tol: float,
    limit: Limit,
    watch: Watch,
) -> tuple[list[_Bounded], float]:
    """Return worst cases at some prices of the limit, and a lower bound on that at the best price.

    With a limit on E L the worst case is the minimum over prices a >= 0 of U(c + a (ceiling - L)),
    which is convex in a. The value at any price is a valid bound. The next price to try is where
    the minimum can be, as far as the bounds so far tell.
    """

    def at(price: float) -> _Bounded:
        return priced(limit.relaxed(costs, price), price, tol / 2.0)

    found = [at(price) for price in FIRST_PRICES]
    while True:
        best = min(point.value for point in found)
        if best < 1.0 - tol:  # costs are never negative
            raise ValueError(
                "X must have labelings that are consistent with the uncertainty set and whose base "
                "loss is as small as in the fit; it has none. Give the base margins that belong to "
                "X, or rows distributed like those of the fit."
            )
        price, least = least_of_convex(sorted(found))
        if best - least <= tol or len(found) == MOST_PRICES or watch.out_of_time():
            return found, least
        found.append(at(price))


def least_of_convex(points: list[Any]) -> tuple[float, float]:
    """Return where a convex function of prices >= 0 may be smallest, and a lower bound on it.

    Parameters
    ----------
    points : list of tuples (price, upper bound, lower bound, ...)
        Two or more, in the order of prices, the first being 0.

    Notes
    -----
    Take two points, and a line through the upper bound of the first and the lower bound of the
    second. Beyond the second point the function lies above this line.
    """
    at, upper, lower = np.array([point[:3] for point in points], dtype=np.float64).T
    forward = (lower[1:] - upper[:-1]) / np.diff(at)  # beyond the second of each pair
    backward = (upper[1:] - lower[:-1]) / np.diff(at)  # before the first
    last = len(at) - 1
    if forward[-1] < 0.0:
        return 2.0 * float(at[-1]), -np.inf
    best = float(at[-1]), float(lower[-1])
    for i in range(last):
        ends = at[i], at[i + 1]
        lines = [(lower[i], forward[i - 1], at[i])] if i > 0 else []
        lines += [(lower[i + 1], backward[i + 1], at[i + 1])] if i + 1 < last else []
        trial = [*ends, np.clip(_crossing(*lines), *ends)] if len(lines) == 2 else ends
        heights = [max(y + slope * (a - x) for y, slope, x in lines) for a in trial]
        j = int(np.argmin(heights))
        if heights[j] < best[1]:
            margin = INSIDE * (ends[1] - ends[0])
            best = float(np.clip(trial[j], ends[0] + margin, ends[1] - margin)), float(heights[j])
    return best


def _crossing(first: Any, second: Any) -> float:
    """Return where two lines (height, slope, place of that height) cross."""
    (y, slope, x), (other_y, other_slope, other_x) = first, second
    return (other_y - other_slope * other_x - y + slope * x) / ((slope - other_slope) or 1.0)


def _priced(
    sample: Sample,
    costs: Columns,
    price: float,
    tol: float,
    start: Start,
    watch: Watch,
    verbose: int,
) -> _Bounded:
    """Return 1 + U(c) with an upper and a lower bound."""
    # Costs in [1, 2], so that a gap relative to the value is an absolute one up to a factor 2.
    objective = sample.objective(partial(_above, costs, 1.0, 1.0))
    result = solved(objective, tol / 2.0, start, watch, verbose)
    if result.status is Status.EMPTY:
        raise EmptySetError(sample.growth())
    # Two bounds are known beforehand: the minimax risk, by the coefficients of the rule, and the
    # largest cost, by zeros. The solver may end with worse ones.
    value = min(result.value, objective.value(start.coef))
    return _Bounded(price, value, max(result.dual_value, objective.least_value), result.status)
