"""What competitors share: the terms of a run, what is seen of it, and runs from scratch.

A competitor is asked for coefficients only. Its values and gaps are computed here, by the
library's objective, whatever it says of itself; seconds are those of its own work alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.objective import Objective

Array = np.ndarray[Any, Any]

# Runs after the first that met the target, each halving the range that its effort is known to.
REFINEMENTS = 2

# A last run that would take less than this many times the one before is not worth it.
LEAST_GROWTH = 1.25


class Look(NamedTuple):
    """A competitor's state: seconds it ran, value reached, relative gap."""

    seconds: float
    value: float
    gap: float


class Terms(NamedTuple):
    """What every competitor is given beside the objective."""

    lam: float
    tol: float  # relative gap to reach
    limit: float  # seconds a run may take
    threads: int


class Unable(Exception):
    """A competitor cannot run here. The message is a short sentence that says why."""


def _the_problem_itself(objective: Objective) -> str:
    return ""


@dataclass(frozen=True)
class Competitor:
    """Who competes.

    Parameters
    ----------
    name : str
    run : callable
        Yields looks in order of effort. Raises `Unable` before the first if the objective is
        not one that it can minimize.
    instead : callable
        The name of the problem that it minimizes instead, by which its gaps are judged; empty
        if it minimizes the objective itself.
    threaded : bool
        Whether a second thread could help.
    elsewhere : bool
        Whether it runs in a process of its own, where nothing stays warm.
    """

    name: str
    run: Callable[[Objective, Terms], Iterator[Look]]
    instead: Callable[[Objective], str] = _the_problem_itself
    threaded: bool = False
    elsewhere: bool = False


def look_at(objective: Objective, coef: Array, seconds: float, proba: Any = None) -> Look:
    """Certify coefficients, with the worst case at them or a better dual candidate, a term."""
    worst_case = objective.parts.kept()
    value, _ = objective.value_and_slope(coef, worst_case)
    candidates = [worst_case]
    if proba is not None:
        candidates.append(proba)
    dual_value = max(objective.dual_point(candidate).value for candidate in candidates)
    return Look(seconds, value, (value - dual_value) / value)


def require_cross_entropy(objective: Objective) -> None:
    """Refuse all but q = 0 with one width for every coefficient."""
    if objective.potential.q != 0.0:
        raise Unable("knows q = 0 only.")
    if np.ptp(objective.uncertainty.half_width) > 0.0:
        raise Unable("knows one width for all coefficients only.")


class Attempt(NamedTuple):
    """A run from scratch: what it reached, and whether more effort could change it."""

    look: Look
    ended: bool  # by its own rule, not by the effort allowed


def with_more_iterations(
    attempt: Callable[[int], Attempt], terms: Terms, first: int
) -> Iterator[Look]:
    """Run from scratch with twice the iterations each time, until the gap or time is reached.

    Solvers that cannot be interrupted are judged by what they have when they end. Doubling
    finds the iterations needed to a factor of two; bisections narrow that down.
    """
    low, high = 0, first
    look, ended = attempt(high)
    yield look
    while look.gap > terms.tol:
        growth = min(2.0, terms.limit / max(look.seconds, 1e-9))
        if ended or growth < LEAST_GROWTH:
            return
        low, high = high, int(np.ceil(growth * high))
        look, ended = attempt(high)
        yield look
    for _ in range(REFINEMENTS):
        middle = (low + high) // 2
        if not low < middle < high:
            return
        look, _ = attempt(middle)
        yield look
        low, high = (low, middle) if look.gap <= terms.tol else (middle, high)


def with_smaller_tolerances(
    attempt: Callable[[float], Look], terms: Terms, tolerances: Sequence[float]
) -> Iterator[Look]:
    """Run from scratch at smaller tolerances of its own, until the gap or time is reached."""
    for tolerance in tolerances:
        look = attempt(tolerance)
        yield look
        if look.gap <= terms.tol or look.seconds > terms.limit:
            return
