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
        costs that is the error rate, in [0, 1]: on labels as they come, wrong ones too, or after a
        fit with a ``noise_matrix`` on true ones.
    rule : {"deterministic", "randomized"}
        Whose error: that of `predict`, or of a label drawn from `predict_proba`.
    gap : float
        By how much, at most, either bound could be tighter, if the set holds something.
    status : {"converged", "max_iter", "stalled", "stopped", "not_finite"}
        How the solver ended, "stopped" for want of time. The bounds are valid in every case.
    chance : float
        Expected cost of guessing uniformly among equally frequent classes: 1 - 1/K for errors.
    quantity : {"error", "expected cost"}
        What is bounded: the latter if a cost matrix was given.
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
    """A condition more on distributions: a loss whose expectation has a ceiling.

    Attributes
    ----------
    loss : Columns
        Of each row by class (K, n).
    ceiling : float
    """

    loss: Columns
    ceiling: float

    def relaxed(self, costs: Columns, price: float) -> Columns:
        """Return costs (K, n) with what the loss leaves below the ceiling added, at a price."""
        return partial(_relaxed, costs, self.loss, self.ceiling, price)


def _relaxed(costs: Columns, loss: Columns, ceiling: float, price: float, part: Part) -> Array:
    return costs(part) + price * (ceiling - loss(part))


def _above(columns: Columns, sign: float, constant: float, part: Part) -> Array:
    return constant + sign * columns(part)


class Judged(NamedTuple):
    """Rows, and how the rule that is judged decides them.

    Attributes
    ----------
    parts : Parts
        Rows, with or without known labels.
    costs : Costs
    scaled : Columns
        The costs (K, n) in [0, 1] of these rows.
    fitted : Start
        Coefficients of the fit, and its worst case on the rows.
    rule : Columns
        The fit's rule (K, n) on the rows.
    limit : Limit or None
        What distributions keep to beside the set.
    """

    parts: Parts
    costs: Costs
    scaled: Columns
    fitted: Start
    rule: Columns
    limit: Limit | None


def judge(parts: Parts, coef: Array, costs_of: Any, q: float) -> tuple[Kept, Kept, Kept]:
    """Keep worst case, rule and scaled costs (K, n) of rows, in one pass.

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
    """Bound the expected costs of a rule over all distributions of a set.

    Parameters
    ----------
    judged : Judged
    uncertainty : UncertaintySet
        All K classes in it.
    tol : float
        Largest gap, as a share of the range of costs.
    max_time : float or None, default=None
        Seconds: half of them, and what it leaves, for either side.
    verbose : int, default=0

    Returns
    -------
    lower, upper, gap : float
    status : Status

    Raises
    ------
    EmptySetError
        If no distribution has these features and means.
    ValueError
        If none of those that do keeps to the limit.
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
    # The best case is no worst case of the loss: its coefficients are small, and its
    # distributions more like the rule, which on these rows is right with such probabilities.
    _announce("lower bound is 2 - value", verbose)
    start = Start(0.0 * fitted.coef, rule)
    watch = Watch(deadline)
    gains = partial(_above, scaled, -1.0, 1.0)
    least = _worst_case(sample, gains, tol, start, watch, verbose, limit)
    # Rounding may swap them where the means leave one cost only.
    ends = costs.unscaled(1.0 - least.value), costs.unscaled(largest.value)
    gap = (costs.largest - costs.least) * max(largest.gap, least.gap)
    status = largest.status if largest.status is not Status.CONVERGED else least.status
    return min(ends), max(ends), gap, status


class _Bounded(NamedTuple):
    """The worst case at a price, from both sides."""

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
    return _WorstCase(value - 1.0, max(0.0, value - least), best.status)


def _over_prices(
    priced: Callable[[Columns, float, float], _Bounded],
    costs: Columns,
    tol: float,
    limit: Limit,
    watch: Watch,
) -> tuple[list[_Bounded], float]:
    """Return worst cases at some prices of the limit, and a lower bound on that at the best price.

    With a limit on E L the worst case is the least over prices a >= 0 of U(c + a (ceiling - L)),
    which is convex in a. Each is a valid bound. The next price is where the least can be, by the
    bounds so far.
    """

    def at(price: float) -> _Bounded:
        return priced(limit.relaxed(costs, price), price, tol / 2.0)

    found = [at(price) for price in FIRST_PRICES]
    while True:
        best = min(point.value for point in found)
        if best < 1.0 - tol:  # below what any cost is
            raise ValueError(
                "X must be able to have a base loss as small as that of the fit; no labels give "
                "its rows means within the uncertainty set and such a loss. Give the base margins "
                "that belong to X, or rows distributed like those of the fit."
            )
        price, least = least_of_convex(sorted(found))
        if best - least <= tol or len(found) == MOST_PRICES or watch.out_of_time():
            return found, least
        found.append(at(price))


def least_of_convex(points: list[Any]) -> tuple[float, float]:
    """Return where a convex function of prices >= 0 may be least, and a bound below its minimum.

    Parameters
    ----------
    points : list of tuples (price, upper bound, lower bound, ...)
        Two or more, in the order of prices, the first being 0.

    Notes
    -----
    A line through two points, above the one that is further off and below the nearer one, lies
    below the function beyond the nearer one.
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
    """Return 1 + U(c), from both sides."""
    # Costs in [1, 2], so that a gap relative to the value is an absolute one up to a factor 2.
    objective = sample.objective(partial(_above, costs, 1.0, 1.0))
    result = solved(objective, tol / 2.0, start, watch, verbose)
    if result.status is Status.EMPTY:
        raise EmptySetError(sample.growth())
    # The coefficients of the rule bound its worst case by its minimax risk, zeros by the largest
    # cost. No solver need find better ones.
    value = min(result.value, objective.value(start.coef))
    return _Bounded(price, value, max(result.dual_value, objective.least_value), result.status)
