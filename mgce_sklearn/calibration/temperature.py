"""Temperatures of given margins: the one of least loss, and the one that matches the accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar

Array = np.ndarray[Any, Any]
Link = Callable[[Array], Array]

COLDEST, HOTTEST = LIMITS = (1 / 20, 20.0)
LOSSES = ("auto", "log_loss", "brier")

# If a link gives exact zeros at all, it does so this far below the largest margin: the softmax
# gives 1e-87 there, and the rule 0 for all q > 1/200.
FAR_BELOW = 200.0


def named_loss(loss: str, link: Link, n_classes: int) -> str:
    """Return the name of the loss. For "auto" it depends on whether the link has exact zeros.

    ``link`` must be that of true labels. Noise would fill the zeros, and so change the loss.
    """
    if loss != "auto":
        return loss
    return "brier" if _has_zeros(link, n_classes) else "log_loss"


def _has_zeros(link: Link, n_classes: int) -> bool:
    margins = np.full((1, n_classes), -FAR_BELOW)
    margins[0, 0] = 0.0
    return bool((link(margins) == 0.0).any())


def temperature_of_least_loss(
    margins: Array, codes: Array, weights: Array, link: Link, loss: str
) -> float:
    """Return the temperature whose probabilities have the least mean loss.

    Parameters
    ----------
    margins : ndarray of shape (n, K)
    codes : ndarray of shape (n,)
        Positions of the labels.
    weights : ndarray of shape (n,)
        Positive.
    link : callable
        From margins to the probabilities of labels.
    loss : {"log_loss", "brier"}

    Returns
    -------
    float
        In [1/20, 20].
    """
    loss_of = {"log_loss": _log_losses, "brier": _brier_scores}[loss]
    weight_shares = weights / weights.sum()

    def mean_loss(temperature: float) -> float:
        return float(weight_shares @ loss_of(link(margins / temperature), codes))

    # The log loss of the softmax is convex in 1/T. Other losses may have several minima, above all
    # if the link has exact zeros: a grid finds the lowest valley, and the search begins there.
    grid = np.geomspace(*LIMITS, 25)
    values = [mean_loss(temperature) for temperature in grid]
    best = int(np.argmin(values))
    valley = np.log(grid[[max(best - 1, 0), min(best + 1, len(grid) - 1)]])
    # Losses at temperatures closer than 1e-8 differ by rounding alone, so a longer search would end
    # anywhere among them. With this tolerance, rows that are repeated lead to the same temperature,
    # to ten digits.
    found = minimize_scalar(
        lambda log: mean_loss(np.exp(log)),
        bounds=valley,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x) if found.fun < values[best] else grid[best])


def _log_losses(proba: Array, codes: Array) -> Array:
    likelihood = proba[np.arange(len(codes)), codes]
    return -np.log(np.maximum(likelihood, np.finfo(np.float64).tiny))


def _brier_scores(proba: Array, codes: Array) -> Array:
    return ((proba - np.eye(proba.shape[1])[codes]) ** 2).sum(axis=1)


def temperature_of_accuracy(margins: Array, codes: Array, weights: Array, link: Link) -> float:
    """Return the temperature at which the mean probability of the predicted class is its accuracy.

    Arguments are those of `temperature_of_least_loss`. Without label noise this probability is the
    confidence, which falls as the temperature rises, so there is at most one such temperature in
    [1/20, 20]. If there is none, the result is the end at which the two are closer.
    """
    predicted = margins.argmax(axis=1)
    rows = np.arange(len(margins))

    def excess(log_temperature: float) -> float:
        claimed = link(margins / np.exp(log_temperature))[rows, predicted]
        return float(weights @ (claimed - (predicted == codes)) / weights.sum())

    coldest, hottest = np.log(LIMITS)
    if excess(coldest) <= 0.0:
        return COLDEST
    if excess(hottest) >= 0.0:
        return HOTTEST
    return float(np.exp(brentq(excess, coldest, hottest, xtol=1e-12)))
