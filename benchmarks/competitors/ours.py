"""The library's solvers, whichever its table names."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from competitors.base import Competitor, Look, Terms, Unable
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers import LARGEST_SYSTEM, SOLVERS, ConicProgram, InteriorPoint, TracePoint
from mgce_sklearn.solvers.base import Progress


class _TimeUp(Exception):
    """The limit has passed; the trace is what was reached."""

    def __init__(self, trace: list[TracePoint]) -> None:
        self.trace = trace


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End a solver that is still at work after so many seconds.

    The library's solvers have limits of iterations only. All report to a `Progress` whenever
    they check the gap, so that is where the clock is looked at.
    """
    record, begin = Progress.record, time.perf_counter()

    def timed_record(progress: Progress) -> bool:
        done = record(progress)
        if not done and time.perf_counter() - begin > seconds:
            raise _TimeUp(progress.trace)
        return done

    Progress.record = timed_record
    try:
        yield
    finally:
        Progress.record = record


def run(solver: str, objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run once: a solver's trace is of values and dual values of the objective itself."""
    if SOLVERS[solver] is InteriorPoint and np.prod(objective.shape) > LARGEST_SYSTEM:
        raise Unable(f"is not asked for more than {LARGEST_SYSTEM} coefficients.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _time_limit(terms.limit):
                trace = SOLVERS[solver](tol=terms.tol).solve(objective).trace
        except _TimeUp as time_up:
            trace = time_up.trace
    for point in trace:
        yield Look(point.seconds, point.value, (point.value - point.dual_value) / point.value)


def competitors() -> list[Competitor]:
    """Return the library's solvers."""
    return [
        Competitor(name, partial(run, name), threaded=True)
        for name, solver in SOLVERS.items()
        if solver is not ConicProgram  # it competes as clarabel
    ]
