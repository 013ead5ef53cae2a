r"""Concentration inequalities: how far a mean can be from that of a sample.

Two kinds are here. `hoeffding_deviation`, `bernstein_deviation` and `betting_deviation` need only
the mean and the variance of a sample. They are the half-widths of `uncertainty.Width`, and all of
them bound one side of one mean. `largest_mean` reads the numbers themselves, one after the other,
and is tighter. `confidence` uses it.

In both kinds "betting" means the following. Let Z >= 0 be independent numbers of mean :math:`\nu`,
and let the bet g in (0, 1) be fixed before they are seen. A capital of 1 is multiplied by
:math:`1 + g (Z_i / \nu - 1)` for every number. Its expectation stays 1, so by Markov's inequality
it reaches 1/p with a probability of at most p. The smaller :math:`\nu` is, the more a given sample
wins. Values of :math:`\nu` for which the sample would win 1/p or more are therefore excluded, with
a probability of error of at most p.

References
----------
.. [1] W. Hoeffding, "Probability Inequalities for Sums of Bounded Random Variables",
   J. Amer. Statist. Assoc. 58, 1963, Theorem 2.
.. [2] A. Maurer and M. Pontil, "Empirical Bernstein Bounds and Sample Variance
   Penalization", COLT 2009, Theorem 4.
.. [3] I. Waudby-Smith and A. Ramdas, "Estimating Means of Bounded Random Variables by
   Betting", J. R. Stat. Soc. B 86, 2024, section 4.
.. [4] X. Fan, I. Grama and Q. Liu, "Exponential Inequalities for Martingales with
   Applications", Electron. J. Probab. 20, 2015: the bound on the logarithm.
.. [5] V. Vovk and R. Wang, "E-values: Calibration, Combination and Applications", Ann.
   Statist. 49, 2021: means of capitals.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

Array = np.ndarray[Any, Any]

# The largest bet of `betting_deviation`. Even samples of the smallest variances repay it.
LARGEST_BET = 0.8

# The largest bet of a `Game`.
LARGEST_BET_OF_GAMES = 0.9


def hoeffding_deviation(length: Array, n: int, log_term: float) -> Array:
    r"""Return Hoeffding's bound on the distance of a mean from the sample's, to one side.

    .. math:: r \sqrt{L / (2n)}

    Parameters
    ----------
    length : ndarray
        Length r of the interval that holds the numbers.
    n : int
    log_term : float
        L = -ln p, with p the probability that the mean is further off.

    Notes
    -----
    A deviation of t or more to one side has a probability of at most
    :math:`\exp(-2 n t^2 / r^2)` [1]_.
    """
    return length * np.sqrt(log_term / (2.0 * n))


def bernstein_deviation(length: Array, variance: Array, n: int, log_term: float) -> Array:
    r"""Return the empirical Bernstein bound on the same distance, to one side.

    .. math:: \sqrt{2 V L / n} + 7 r L / (3(n - 1)), \qquad V = \sigma^2 n / (n - 1)

    Parameters
    ----------
    length : ndarray
        Length r of the interval that holds the numbers.
    variance : ndarray
        Variance :math:`\sigma^2` of the sample, by the mean over rows.
    n : int
        At least 2.
    log_term : float
        L = -ln(p/2), with p the probability that the mean is further off.

    Notes
    -----
    Consider numbers in [0, 1] of variance v. Their mean exceeds the sample's by more than
    :math:`\sqrt{2 v L / n} + L / (3n)` with a probability of at most :math:`e^{-L}`. And
    :math:`\sqrt v` exceeds :math:`\sqrt V` by more than :math:`\sqrt{2 L / (n - 1)}` with a
    probability of at most :math:`e^{-L}`. If neither happens, the mean is off by at most
    :math:`\sqrt{2 V L / n} + 2 L / \sqrt{n (n - 1)} + L / (3n)`. The last two terms add up to less
    than :math:`7 L / (3(n - 1))` [2]_. For an interval of length r, deviations and means are
    multiplied by r.
    """
    unbiased = variance * n / (n - 1)
    return np.sqrt(2.0 * unbiased * log_term / n) + 7.0 * length * log_term / (3.0 * (n - 1))


def betting_deviation(mean: Array, variance: Array, n: int, log_term: float) -> Array:
    r"""Return by how much, at most, the mean of non-negative numbers is below the sample's.

    Parameters
    ----------
    mean, variance : ndarrays
        Of the sample, the variance by the mean over rows.
    n : int
    log_term : float
        -ln p, with p the probability that the mean is further below.

    Notes
    -----
    The capital of the module's notes falls with :math:`\nu`. So :math:`\nu` is above the root of
    capital = b/p, except with a probability of at most p/b. With b bets it is above the largest of
    their roots, except with a probability of at most p.

    The logarithm of the capital is bounded by mean and variance alone. With
    :math:`\omega = -\ln(1 - g) - g`, :math:`\ln(1 + u) \ge u - \omega u^2 / g^2` for
    :math:`u \ge -g` [4]_. So the logarithm is at least n times
    :math:`g x - \omega (x^2 + s (1 + x)^2)`. Here :math:`x = \bar Z / \nu - 1`, and s is the
    variance over :math:`\bar Z^2`, both of the sample. Let x be the smallest number at which this
    is :math:`\ln(b/p) / n`. The result is then :math:`\bar Z x / (1 + x)`, and :math:`\bar Z` if
    there is no such x.
    """
    # Bets from the best for a standard deviation of twice the mean to the largest of use. Between
    # these no variance is served much worse by the nearest of powers of 2 than by its own.
    smallest = min(LARGEST_BET, 0.5 * np.sqrt(2.0 * log_term / n))
    n_bets = int(np.ceil(np.log2(LARGEST_BET / smallest))) + 1
    cost = (log_term + np.log(n_bets)) / n
    positive = np.where(mean > 0.0, mean, 1.0)
    ratio = variance / positive**2
    best: Array = np.full(mean.shape, np.inf)
    for bet in LARGEST_BET * 0.5 ** np.arange(n_bets):
        omega = -np.log1p(-bet) - bet
        a, b, c = omega * (1.0 + ratio), bet - 2.0 * omega * ratio, omega * ratio + cost
        square = b**2 - 4.0 * a * c
        solvable = (b > 0.0) & (square >= 0.0)
        # The smaller root without cancellation: both are positive.
        root = 2.0 * c / (b + np.sqrt(np.where(solvable, square, 0.0)))
        best = np.where(solvable, np.minimum(best, root), best)
    share = np.where(np.isinf(best), 1.0, best / (1.0 + np.where(np.isinf(best), 0.0, best)))
    return np.where(mean > 0.0, mean * share, 0.0)


class Game(NamedTuple):
    r"""Numbers, and a bet on how far they lie below an upper end.

    The unknown mean u is at most the mean of such numbers, plus ``shift``. So their distances
    :math:`Z \ge 0` from the upper end have a mean of at most ``top + shift - u``.

    Attributes
    ----------
    values : ndarray of shape (m,)
        The numbers.
    top : float
        Their upper end, which was fixed before they were seen.
    shift : float
        What is added to their mean.
    bet : float
        Share of the capital, in [0, 1), which was fixed before they were seen.
    """

    values: Array
    top: float
    shift: float
    bet: float

    @property
    def ceiling(self) -> float:
        """The largest u there can be, whatever the values."""
        return self.top + self.shift

    @property
    def depths(self) -> Array:
        """Distances of the values from the top; rounding may put some a little above it."""
        return np.maximum(self.top - self.values, 0.0)

    def log_capital(self, mean: float) -> float:
        """Return the logarithm of what a capital of 1 becomes if the unknown mean is this."""
        depths, room = self.depths, self.ceiling - mean
        if room <= 0.0:
            return np.inf if depths.any() else len(depths) * np.log1p(-self.bet)
        with np.errstate(over="ignore"):
            return float(np.log1p(self.bet * (depths / room - 1.0)).sum())


def best_bet(depths: Array, log_share: float) -> float:
    """Return the bet that suits distances like these.

    Parameters
    ----------
    depths : ndarray of shape (m,)
        Of numbers that were seen, from their upper end.
    log_share : float
        What every number that follows should add to the logarithm of the capital.

    Notes
    -----
    For small bets the logarithm of 1 + bet (Z / nu - 1) has a mean of about bet (mean / nu - 1)
    - bet^2 (deviation / mean)^2 / 2. The result is the bet by which this is ``log_share`` at the
    largest nu. A distance of 0 is added to those seen, so that few numbers do not make the bet
    large.
    """
    depths = np.append(depths, 0.0)
    deviation = float(depths.std())
    if deviation == 0.0:
        return 0.0  # nothing is won by numbers at the top
    largest = LARGEST_BET_OF_GAMES
    return min(largest, np.sqrt(2.0 * log_share) * float(depths.mean()) / deviation)


def largest_mean(played: list[list[Game]], delta: float) -> float:
    r"""Return an upper confidence bound on the unknown mean, by the mean of several capitals.

    Parameters
    ----------
    played : list of lists of Game
        Each list has the games of one capital, one after the other.
    delta : float
        Probability that the mean is larger than the bound.

    Notes
    -----
    The mean of the capitals has an expectation of at most 1, as each of them has [5]_. It grows
    with the supposed mean u. So u is below the point where it is 1/delta, except with a
    probability of at most delta (Markov's inequality).
    """
    games = [game for games in played for game in games]

    def surplus(mean: float) -> float:
        logs = [sum(game.log_capital(mean) for game in games) for games in played]
        # Only the sign matters. The root finder cannot work with infinity.
        return min(1.0, float(reduce(np.logaddexp, logs)) - np.log(len(played) / delta))

    # No capital is above 1 at the smallest of the games' own means (Jensen's inequality), unless
    # rounding makes that their ceiling.
    lowest = min(game.ceiling - float(game.depths.mean()) for game in games)
    highest = min(game.ceiling for game in games)
    found = surplus(lowest) < 0.0 < surplus(highest)
    return brentq(surplus, lowest, highest) if found else highest
