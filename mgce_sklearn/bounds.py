r"""Error bounds: how wrong a given rule can be over an uncertainty set.

For costs c_ik of deciding row i by the rule if its class is k, the largest expected cost of
all distributions of the set is

    U(c) = max_p mean_i <p_i, c_i>  subject to  |mean_i p_i ⊗ x_i - tau| <= half_width
         = min_W mean_i max_k (m_ik + c_ik) - <tau, W> + <half_width, |W|>,     m_i = W x_i,

the objective of a fit with another potential, and -U(-c) is the least. Any W gives a valid
bound, so what a solver leaves open lies on the safe side. Rows need no labels: they are where
features are distributed as the set says. Without labels the set may hold nothing at all.

The same inequality holds for the expectation over new data, with W fixed by other rows, if
half-widths hold with a probability and the mean over rows is replaced with an upper confidence
bound: see `certify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from mgce_sklearn import kernels
from mgce_sklearn.arrays import inner
from mgce_sklearn.design import Design
from mgce_sklearn.feasibility import EmptySetError, Sample, solved
from mgce_sklearn.objective import margins_of
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import Columns, Kept, Part, Parts, RowsInMemory
from mgce_sklearn.solvers import (
    Start,
    Status,
    Watch,
    deadline_in,
)
from mgce_sklearn.uncertainty import Moments, UncertaintySet, Width

Array = np.ndarray[Any, Any]

RULES = ("deterministic", "randomized")

# Prices of a limit that are tried first: none; that of a fit whose margins begin with the base's;
# and one beyond which the worst case rises, as a rule. And the most that are tried.
FIRST_PRICES = (0.0, 1.0, 2.0)
MOST_PRICES = 30

# A new price is no nearer to others than this share of the way between them.
INSIDE = 0.05

# Gap to which the coefficients of a certificate are found, as a share of the range of costs.
CERTIFY_TOL = 1e-3

# One in so many held-out rows is read before the first bet of a certificate.
FIRST_SHARE = 8

# What rows that choose coefficients may mislead by, in standard errors of each mean. Bounds
# were about the same with 0.5 and 1, and larger with 0.3 and 2 where held-out rows were few.
CAUTION = 0.7

# Share of the capital that is bet at most.
LARGEST_BET = 0.9


class _AgainstChance:
    """What an upper bound says beside guessing."""

    upper: float
    chance: float

    @property
    def informative(self) -> bool:
        """Whether the upper bound is below ``chance``."""
        return self.upper < self.chance

    def _remarked(self, text: str) -> str:
        if self.informative:
            return text
        return f"{text}; this says nothing: guessing has {self.chance:.4f}"


@dataclass(frozen=True)
class ErrorBounds(_AgainstChance):
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


@dataclass(frozen=True)
class ErrorCertificate(_AgainstChance):
    """Upper bound on the expected cost of a rule on new data, with a probability.

    Attributes
    ----------
    upper : float
        With probability 1 - delta over training and held-out rows, the expected cost on new
        rows of the same distribution, with labels as they come, is at most this.
    rule : {"deterministic", "randomized"}
    delta : float
        Probability that the statement is wrong, given a ``feature_range`` fixed beforehand.
    means_term : float
        Part of ``upper`` that comes from the means and their half-widths: the mean over held-out
        rows of -<tau, W'> + <half_width, |W'|>, each with the W' chosen before it was read.
    rows_term : float
        Part that comes from the rows themselves, mean max_k (m'_k + c_k).
    concentration : float
        What is added because they are a sample.
    chance : float
        Expected cost of guessing uniformly among equally frequent classes: 1 - 1/K for errors.
    quantity : {"error", "expected cost"}
        What is bounded: the latter if a cost matrix was given.

    Notes
    -----
    ``upper`` is the sum of the three parts, or the largest cost where that is smaller.
    """

    upper: float
    rule: str
    delta: float
    means_term: float
    rows_term: float
    concentration: float
    chance: float
    quantity: str = "error"

    def __str__(self) -> str:
        return self._remarked(
            f"{self.quantity} of the {self.rule} rule on new data <= {self.upper:.4f} "
            f"with probability {1.0 - self.delta:g}"
        )


class Costs(NamedTuple):
    """Costs of a rule, moved and scaled into [0, 1].

    Attributes
    ----------
    scaled : ndarray of shape (K, n)
        Expected cost of each row's decision by class.
    least, largest : float
        The costs that 0 and 1 stand for.
    chance : float
        Cost of guessing uniformly among equally frequent classes.
    quantity : {"error", "expected cost"}
    """

    scaled: Array
    least: float
    largest: float
    chance: float
    quantity: str

    @classmethod
    def of(cls, margins: Array, q: float, rule: str, cost: Array | None = None) -> Costs:
        """Return the costs of a rule of `RULES` at margins (n, K).

        ``cost`` is a matrix (K, K) of what deciding the column's class costs if the row's is
        true. None: errors.
        """
        matrix: Array = 1.0 - np.eye(margins.shape[1]) if cost is None else cost
        if rule == "deterministic":
            expected = matrix[:, margins.argmax(axis=1)]
        else:
            expected = matrix @ kernels.rule(margins, q).T
        least, largest = float(matrix.min()), float(matrix.max())
        scaled = (expected - least) / ((largest - least) or 1.0)
        quantity = "error" if cost is None else "expected cost"
        return cls(np.clip(scaled, 0.0, 1.0), least, largest, float(matrix.mean()), quantity)

    def unscaled(self, value: float) -> float:
        """Return the cost that a value in [0, 1] stands for."""
        return self.least + (self.largest - self.least) * value


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


class Training(NamedTuple):
    """What a fit leaves for certificates of its rule.

    Attributes
    ----------
    uncertainty : UncertaintySet
        Holds the true means, but for the probability of its half-widths.
    deviation : ndarray of shape (d,)
        Standard deviations of the features.
    low, high : ndarrays of shape (d,)
        Range of the features x - c, with c the center of the set.
    """

    uncertainty: UncertaintySet
    deviation: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, moments: Moments, width: Width) -> Training:
        """Return what the moments of the rows, and a rule of half-widths, say."""
        uncertainty = UncertaintySet.from_moments(moments, 1.0, width)
        return cls(uncertainty, moments.spread(), *width.range_of(moments))

    def stored_range(self) -> tuple[Array, Array]:
        """Return the range (d,) of the features x as they are stored."""
        center = self.uncertainty.center
        return self.low + center, self.high + center


class Game(NamedTuple):
    """Rows on which it is bet that their expected cost is less than supposed.

    Attributes
    ----------
    values : ndarray of shape (m,)
        max_k (m'_k + c_k) of each row.
    top : float
        What the values cannot exceed.
    means_term : float
        -<tau, W'> + <half_width, |W'|>: the expected cost exceeds that of the values by at most so
        much.
    bet : float
        Share of the capital, in [0, 1), fixed before these rows were seen.
    """

    values: Array
    top: float
    means_term: float
    bet: float

    @property
    def ceiling(self) -> float:
        """What no expected cost exceeds, whatever the values."""
        return self.top + self.means_term

    @property
    def depths(self) -> Array:
        """How far the values lie below the top; rounding may leave some a little above it."""
        return np.maximum(self.top - self.values, 0.0)

    def log_capital(self, cost: float) -> float:
        """Return what a capital of 1 becomes, as a logarithm, if the expected cost is this."""
        depths, room = self.depths, self.ceiling - cost
        if room <= 0.0:
            return np.inf if depths.any() else len(depths) * np.log1p(-self.bet)
        with np.errstate(over="ignore"):
            return float(np.log1p(self.bet * (depths / room - 1.0)).sum())


@one_blas_thread()
def certify(
    moments: Moments,
    feature_range: tuple[Array, Array] | None,
    held_out: Design,
    costs: Costs,
    rule: str,
    delta: float,
    center: Any,
) -> ErrorCertificate:
    r"""Bound the expected cost of a rule on new data.

    Parameters
    ----------
    moments : Moments
        Of the rows of the fit.
    feature_range : pair of ndarrays of shape (d - fit_intercept,), or None
        Known beforehand. None: that of the rows of the fit.
    held_out : Design
        Rows without labels, two or more, independent of those of the fit.
    costs : Costs
        Of the rule on the held-out rows.
    rule : {"deterministic", "randomized"}
    delta : float
    center : "auto" or bool
        Which columns to center, about the middle of their range.

    Returns
    -------
    ErrorCertificate

    Raises
    ------
    ValueError
        If the rows are not distributed like those of the fit, but for a probability of delta.

    Notes
    -----
    Let f be the features clipped to their range, which is that of the means' half-widths, and
    (x, y) a new pair. With probability 1 - delta/2 over the rows of the fit, for all W' at once,

        E c_y(x) <= E max_k (m'_k + c_k(x)) - <tau, W'> + <half_width, |W'|>,      m' = W' f,

    since c_y = (m'_y + c_y) - m'_y. Say that the expected cost is u. The value max_k (m'_k + c_k)
    of a held-out row keeps below the largest it can be within the features' range by Z >= 0. The
    mean of Z is at most :math:`\nu`: that largest value, plus the last two terms, less u. So a
    capital that is multiplied by :math:`1 - \gamma + \gamma Z / \nu`, row by row, has an
    expectation of at most 1, where W' and the bet :math:`\gamma` may depend on all rows before.
    The held-out rows are read in a random order, and W' is renewed whenever their number has
    doubled. A second capital reads them in the reverse order. The mean of both has an expectation
    of at most 1 as well, and so is 2/delta or more with a probability of at most delta/2 (Markov).
    It grows with u, whence u is below the point where it is 2/delta, but for that probability.

    References
    ----------
    .. [1] I. Waudby-Smith and A. Ramdas, "Estimating Means of Bounded Random Variables by
       Betting", J. R. Stat. Soc. B 86, 2024, section 4: the capital.
    .. [2] V. Vovk and R. Wang, "E-values: Calibration, Combination and Applications", Ann.
       Statist. 49, 2021: means of capitals.
    """
    width = Width("betting", delta / 2.0, feature_range)
    moments = width.centered(moments, width.columns_to_center(held_out, moments, center))
    training, held_out = Training.of(moments, width), held_out.centered_at(moments.center)
    order = np.random.default_rng(0).permutation(held_out.n_rows)
    played = [
        [_game(training, held_out, costs.scaled, delta / 2.0, *turn) for turn in _turns(rows)]
        for rows in (order, order[::-1])
    ]
    games = [game for games in played for game in games]
    sizes = [len(game.values) for game in games]
    means_term = float(np.average([game.means_term for game in games], weights=sizes))
    rows_term = float(np.concatenate([game.values for game in games]).mean())
    largest = largest_cost(played, delta / 2.0)
    if largest < 0.0:  # below what any cost is
        raise ValueError(
            "X must be distributed like the rows of the fit; with probability "
            f"{1.0 - delta:g} no labels give such rows means within the half-widths. Hold out "
            "rows of the same sample, and transform them alike."
        )
    scale = costs.largest - costs.least
    return ErrorCertificate(
        upper=costs.unscaled(min(largest, 1.0)),
        rule=rule,
        delta=delta,
        means_term=scale * means_term,
        rows_term=costs.unscaled(rows_term),
        concentration=scale * (largest - means_term - rows_term),
        chance=costs.chance,
        quantity=costs.quantity,
    )


def _turns(order: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the rows read so far and those that follow, until there are as many of these."""
    n_seen = max(1, len(order) // FIRST_SHARE)
    while n_seen < len(order):
        yield order[:n_seen], order[n_seen : 2 * n_seen]
        n_seen *= 2


def _game(
    training: Training, held_out: Design, costs: Array, delta: float, seen: Array, rows: Array
) -> Game:
    """Choose W' and the bet by the rows seen, for the rows that follow."""
    log_share = np.log(1.0 / delta) / held_out.n_rows
    coef = _coefficients(training, held_out.take(seen), costs[:, seen], log_share)
    half_width, tau = training.uncertainty.half_width, training.uncertainty.tau
    means_term = inner(half_width, np.abs(coef)) - inner(tau, coef)
    top = 1.0 + float(np.maximum(coef * training.low, coef * training.high).sum(axis=1).max())
    values = _largest_margins(training, held_out, coef, costs)
    game = Game(values[seen], top, means_term, bet=0.0)
    return game._replace(values=values[rows], bet=best_bet(game.depths, log_share))


def _coefficients(training: Training, seen: Design, costs: Array, log_share: float) -> Array:
    """Minimize the bound over W' (K, d) on some rows, for others that are like them.

    The range of the margins is penalized with what it costs where it is the range, not the
    variance, that decides how well the mean over rows is known; and deviations with what the rows
    may mislead by.
    """
    wider = training.uncertainty.half_width + (
        log_share * (training.high - training.low)
        + CAUTION / np.sqrt(seen.n_rows) * training.deviation
    )
    parts = RowsInMemory.of(seen.clipped(*training.stored_range()))
    sample = Sample.of(parts, replace(training.uncertainty, half_width=wider))
    objective = sample.objective_about_tau(parts.kept_array(1.0 + costs))
    coef = np.zeros(wider.shape)
    coef[:, sample.seen] = solved(objective, CERTIFY_TOL).coef
    return coef


def _largest_margins(training: Training, design: Design, coef: Array, costs: Array) -> Array:
    """Return max_k (m'_k + c_k) (n,) with features clipped to the range of training."""
    parts = RowsInMemory.of(design)
    term = partial(_largest_margin, training.low, training.high, coef, parts.kept_array(costs))
    return parts.keep(term, design.n_features + len(coef))(parts.together())


def _largest_margin(low: Array, high: Array, coef: Array, costs: Columns, part: Part) -> Array:
    features = part.design.features()
    np.clip(features, low[:, None], high[:, None], out=features)
    return np.max(coef @ features + costs(part), axis=0)


def best_bet(depths: Array, log_share: float) -> float:
    """Return the bet that suits numbers like these, if a row shall win ``log_share``.

    For small bets the logarithm of 1 + bet (Z / nu - 1) has a mean of about bet (mean / nu - 1)
    - bet^2 (deviation / mean)^2 / 2. The bet is that by which this is ``log_share`` at the largest
    nu. One depth of 0 beside those seen keeps few rows from raising it.
    """
    depths = np.append(depths, 0.0)
    deviation = float(depths.std())
    if deviation == 0.0:
        return 0.0  # nothing is won by rows at the top
    return min(LARGEST_BET, np.sqrt(2.0 * log_share) * float(depths.mean()) / deviation)


def largest_cost(played: list[list[Game]], delta: float) -> float:
    """Return an upper confidence bound on the expected cost by the mean of some capitals.

    Parameters
    ----------
    played : list of lists of Game
        Each list has games of one capital, one after the other.
    delta : float
        Probability that the expected cost is larger than the bound.
    """
    games = [game for games in played for game in games]

    def surplus(cost: float) -> float:
        logs = [sum(game.log_capital(cost) for game in games) for games in played]
        # The sign alone tells; infinity is none that a root is found with.
        return min(1.0, float(reduce(np.logaddexp, logs)) - np.log(len(played) / delta))

    # At the least of what the games find themselves no capital is above 1 (Jensen), unless
    # rounding makes that their ceiling.
    lowest = min(game.ceiling - float(game.depths.mean()) for game in games)
    highest = min(game.ceiling for game in games)
    found = surplus(lowest) < 0.0 < surplus(highest)
    return brentq(surplus, lowest, highest) if found else highest
