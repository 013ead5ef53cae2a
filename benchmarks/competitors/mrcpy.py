"""MRCpy's CMRC, in an environment of its own: q = 1 (its 0-1 loss) and q = 0 (its log loss).

It fits with a fixed marginal of x and widths lam * std / sqrt(n) of its feature map. With three
classes or more that is our problem with widths in standard errors (``--widths
standard-errors``). With two its map is x for one class and -x for the other: in our
coefficients the same problem with half its widths. Whatever its widths, it is judged by them.

It gives no certificate, and at q = 1 the worst case at given coefficients is a poor one, however
good they are. So its gaps are to the lower bound that our interior point method finds.

Its releases need not agree with the scikit-learn that the library uses: version 3.0.0 fails
with scikit-learn 1.9 and runs with 1.5. So it has an interpreter of its own, ``--mrcpy PYTHON``:

    python -m venv mrcpy && mrcpy/bin/pip install MRCpy 'scikit-learn<1.6'

Seconds are those of its ``fit`` alone, without starting the interpreter.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from competitors.base import (
    Array,
    Attempt,
    Competitor,
    Look,
    Terms,
    Unable,
    with_more_iterations,
)
from mgce_sklearn.objective import Objective
from mgce_sklearn.solvers import InteriorPoint
from mgce_sklearn.uncertainty import UncertaintySet

LOSSES = {0.0: "log", 1.0: "0-1"}
FIRST_ITERATIONS = 1000
REFERENCE_TOLERANCE = 1e-7
STARTING = 60.0  # seconds for the interpreter to start and import

# Its statement has a constraint for every row and set of classes.
MOST_CONSTRAINTS = 100_000


def run(python: str | None, solver: str, objective: Objective, terms: Terms) -> Iterator[Look]:
    """Run CMRC with one of its solvers; adam from scratch with more and more iterations."""
    if python is None:
        raise Unable("needs --mrcpy PYTHON, an interpreter with MRCpy.")
    if objective.potential.q not in LOSSES:
        raise Unable("knows q = 0 and q = 1 only.")
    if objective.parts.n_rows * 2**objective.n_classes > MOST_CONSTRAINTS:
        raise Unable(f"is not asked for more than {MOST_CONSTRAINTS} constraints (n 2^K).")
    attempt = partial(_attempt, python, solver, objective, terms)
    if solver == "cvx":
        return iter([attempt(0).look])
    return with_more_iterations(attempt, terms, FIRST_ITERATIONS)


def _attempt(
    python: str, solver: str, objective: Objective, terms: Terms, max_iters: int
) -> Attempt:
    fitted = _fit_elsewhere(python, solver, objective, terms, max_iters)
    shape = objective.shape
    coef, half_width = fitted["mu"].reshape(shape), fitted["half_width"].reshape(shape)
    if objective.n_classes == 2:  # margins (x mu, -x mu), and ours is the second less the first
        coef, half_width = -2.0 * coef, 0.5 * half_width
    widths = UncertaintySet(objective.uncertainty.tau, half_width)
    own = replace(objective, uncertainty=widths)
    value, bound = own.value(coef), InteriorPoint(tol=REFERENCE_TOLERANCE).solve(own).dual_value
    return Attempt(Look(float(fitted["seconds"]), value, (value - bound) / value), ended=False)


def _fit_elsewhere(
    python: str, solver: str, objective: Objective, terms: Terms, max_iters: int
) -> dict[str, Array]:
    """Write the data, run `mrcpy_fit.py` in the other environment, and read what it wrote."""
    loss = LOSSES[objective.potential.q]
    with tempfile.TemporaryDirectory() as folder:
        data, answer = Path(folder, "data.npz"), Path(folder, "answer.npz")
        np.savez(data, X=objective.parts.like.X, y=objective.parts.together().labels.codes)
        script = Path(__file__).with_name("mrcpy_fit.py")
        words = [data, answer, loss, solver, terms.lam, max_iters]
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        } | {"OMP_NUM_THREADS": str(terms.threads)}
        try:
            done = subprocess.run(
                [python, str(script), *map(str, words)],
                env=environment, capture_output=True, text=True, timeout=STARTING + terms.limit,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unable(f"took more than the limit of {terms.limit:g} s.") from None
        except OSError as error:
            raise Unable(f"has no interpreter: {error}.") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Unable(f"failed: {last}")
        with np.load(answer) as arrays:
            return dict(arrays)


def _problem(objective: Objective) -> str:
    in_standard_errors = np.ptp(objective.uncertainty.half_width) > 0.0
    return "" if in_standard_errors and objective.n_classes > 2 else "own widths"


def competitors(python: str | None) -> list[Competitor]:
    """Return MRCpy's exact solver and its default one, run by an interpreter or by none."""
    return [
        Competitor(
            f"mrcpy-{solver}", partial(run, python, solver), instead=_problem, elsewhere=True
        )
        for solver in ("cvx", "adam")
    ]
