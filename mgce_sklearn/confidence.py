r"""The confidence bound: an upper bound on the expected cost of a rule on new data.

It holds with a probability of 1 - delta, over labeled rows of a fit and held-out rows without
labels. It rests on the inequality of `bounds`,

    E c_y(x) <= E max_k (m'_k + c_k(x)) - <tau, W'> + <half_width, |W'|>,     m' = W' x.

This holds for any W' that was fixed beforehand, if half-widths hold with a probability. What
remains is an upper confidence bound on the first expectation, by `concentration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.arrays import inner
from mgce_sklearn.concentration import Game, best_bet, largest_mean
from mgce_sklearn.costs import AgainstChance, Costs
from mgce_sklearn.design import Design
from mgce_sklearn.feasibility import Sample, solved
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import Columns, Part, RowsInMemory
from mgce_sklearn.uncertainty import Moments, UncertaintySet, Width

Array = np.ndarray[Any, Any]

# Gap to which the coefficients W' are found, as a share of the range of costs.
COEFFICIENTS_TOL = 1e-3

# One in so many held-out rows is read before the first bet.
FIRST_SHARE = 8

# By how much rows that choose coefficients may mislead, in standard errors of each mean. Bounds
# were about the same with 0.5 and 1, and larger with 0.3 and 2 where held-out rows were few.
CAUTION = 0.7


@dataclass(frozen=True)
class ConfidenceBound(AgainstChance):
    """Upper bound on the expected cost of a rule on new data, with a probability.

    Attributes
    ----------
    upper : float
        Upper bound on the expected cost on new rows of the same distribution, whose labels are
        wrong as often as those of the fit. It holds with probability 1 - delta over training and
        held-out rows.
    rule : {"deterministic", "randomized"}
    delta : float
        Probability that the bound does not hold, given a ``feature_range`` fixed beforehand.
    means_term : float
        Part of ``upper`` that comes from the means and their half-widths: the mean over held-out
        rows of ``-<tau, W'> + <half_width, |W'|>``, each with the W' chosen before it was read.
    rows_term : float
        Part that comes from the rows themselves, mean max_k (m'_k + c_k).
    concentration : float
        Part that is added because the held-out rows are a sample.
    chance : float
        Expected cost of guessing uniformly among equally frequent classes: 1 - 1/K for errors.
    quantity : {"error", "expected cost"}
        What is bounded. "expected cost" if a cost matrix was given.

    Notes
    -----
    ``upper`` is the sum of the three parts, or the largest cost if that is smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from mgce_sklearn import MGCEClassifier
    >>> X = np.random.default_rng(0).uniform(-1, 1, (8_000, 2))
    >>> y = X.sum(axis=1) > 0
    >>> model = MGCEClassifier(feature_range=(-1, 1)).fit(X[:4_000], y[:4_000])
    >>> bound = model.confidence_bound(X[4_000:], delta=0.05)
    >>> bound.informative, bool(bound.upper >= 1 - model.score(X[4_000:], y[4_000:]))
    (True, True)
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


class Training(NamedTuple):
    """What is needed of the rows of a fit.

    Attributes
    ----------
    uncertainty : UncertaintySet
        Holds the true means, with the probability that its half-widths claim.
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
        """Compute it from the moments of the rows and a method of half-widths."""
        uncertainty = UncertaintySet.from_moments(moments, 1.0, width)
        return cls(uncertainty, moments.spread(), *width.range_of(moments))

    def stored_range(self) -> tuple[Array, Array]:
        """Return the range (d,) of the features x as they are stored."""
        center = self.uncertainty.center
        return self.low + center, self.high + center


@one_blas_thread()
def confidence_bound(
    moments: Moments,
    feature_range: tuple[Array, Array] | None,
    held_out: Design,
    costs: Costs,
    rule: str,
    delta: float,
    center: Any,
) -> ConfidenceBound:
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
    ConfidenceBound

    Raises
    ------
    ValueError
        If the rows are not distributed like those of the fit, except with a probability of delta.

    Notes
    -----
    Let f be the features clipped to the range that the half-widths rest on, and (x, y) a new pair.
    The half-widths hold with probability 1 - delta/2 over the rows of the fit. Then, for all W' at
    once,

        E c_y(x) <= E max_k (m'_k + c_k(x)) - <tau, W'> + <half_width, |W'|>,      m' = W' f,

    because c_y = (m'_y + c_y) - m'_y.

    The values max_k (m'_k + c_k) of held-out rows have an upper end, the largest value that is
    possible within the range of the features. They are the numbers of a `concentration.Game`,
    whose shift is the last two terms. The W' and the bet of a game may depend on all rows that
    were read before. The held-out rows are read in a random order, and a new game begins whenever
    their number has doubled. A second capital is played on the rows in reverse order. The mean of
    the two capitals gives a bound that fails with a probability of at most delta/2.

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
    means_term = float(np.average([game.shift for game in games], weights=sizes))
    rows_term = float(np.concatenate([game.values for game in games]).mean())
    largest = largest_mean(played, delta / 2.0)
    if largest < 0.0:  # costs are never negative
        raise ValueError(
            "X must be distributed like the rows of the fit. With probability "
            f"{1.0 - delta:g} it is not: no labels give such rows means within the half-widths. "
            "Hold out rows of the same sample, and transform them alike."
        )
    scale = costs.largest - costs.least
    return ConfidenceBound(
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
    """Yield the rows read so far, and as many that follow (fewer at the end)."""
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
    shift = inner(half_width, np.abs(coef)) - inner(tau, coef)
    top = 1.0 + float(np.maximum(coef * training.low, coef * training.high).sum(axis=1).max())
    values = _largest_margins(training, held_out, coef, costs)
    game = Game(values[seen], top, shift, bet=0.0)
    return game._replace(values=values[rows], bet=best_bet(game.depths, log_share))


def _coefficients(training: Training, seen: Design, costs: Array, log_share: float) -> Array:
    """Minimize the bound over W' (K, d) on some rows, for other rows of the same distribution.

    Half-widths are enlarged for this, by two terms. The first is a multiple of the range of the
    features: where the range decides how well the mean over rows is known, and not the variance,
    this is what the range of the margins costs. The second is a multiple of their standard
    deviation, because means over few rows mislead.
    """
    wider = training.uncertainty.half_width + (
        log_share * (training.high - training.low)
        + CAUTION / np.sqrt(seen.n_rows) * training.deviation
    )
    parts = RowsInMemory.of(seen.clipped(*training.stored_range()))
    sample = Sample.of(parts, replace(training.uncertainty, half_width=wider))
    objective = sample.objective_about_tau(parts.kept_array(1.0 + costs))
    coef = np.zeros(wider.shape)
    coef[:, sample.seen] = solved(objective, COEFFICIENTS_TOL).coef
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
