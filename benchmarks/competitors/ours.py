"""The library's solvers, whichever its table names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np

from competitors.base import Competitor, Look, Terms, Unable
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers import (
    LARGEST_SYSTEM,
    SOLVERS,
    ConicProgram,
    InteriorPoint,
    Watch,
    deadline_in,
)


def run(solver: str, objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run once: a solver's trace is of values and dual values of the objective itself."""
    if SOLVERS[solver] is InteriorPoint and np.prod(objective.shape) > LARGEST_SYSTEM:
        raise Unable(f"is not asked for more than {LARGEST_SYSTEM} coefficients.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        watch = Watch(deadline_in(terms.limit))
        trace = SOLVERS[solver](tol=terms.tol).solve(objective, watch=watch).trace
    for point in trace:
        yield Look(point.seconds, point.value, (point.value - point.dual_value) / point.value)


def competitors() -> list[Competitor]:
    """Return the library's solvers."""
    return [
        Competitor(name, partial(run, name), threaded=True)
        for name, solver in SOLVERS.items()
        if solver is not ConicProgram  # it competes as clarabel
    ]
