"""Seconds to a certified gap: our solvers at q, and scikit-learn's on L1 cross-entropy.

    OMP_NUM_THREADS=1 python benchmarks/solvers.py [--quick] [--data NAME ...] [--csv FILE]

All minimise mean psi - <tau, W> + width * |W| over the same rows with the same width for every
coefficient, the intercept's included: lam standard errors of a feature of unit size with
frequency 1/K. scikit-learn's solvers get q = 0, the easier problem, which is all they know. Values
and gaps are computed here, by the library's objective, from the coefficients that a competitor
has when it ends; scikit-learn's solvers run again and again from scratch, twice as long each time.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import datasets as real
import numpy as np
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mgce_sklearn.objective import Objective
from mgce_sklearn.problem import Problem
from mgce_sklearn.solvers import SOLVERS
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

LAM = 0.3
TARGET = 1e-4


def segment_like() -> tuple[Array, Array]:
    """Return 2310 rows, 19 ill-conditioned features and 7 classes."""
    X, y = make_classification(
        2310, 19, n_informative=8, n_redundant=9, n_classes=7, n_clusters_per_class=1,
        class_sep=1.5, random_state=0,
    )  # fmt: skip
    return X + 0.01 * np.random.default_rng(0).normal(size=X.shape), y


DATA = {
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: real.LOADERS["digits"](),
    "segment-like": segment_like,
    "letter": lambda: real.LOADERS["letter"](),
    "adult": lambda: real.LOADERS["adult"](),
    "covtype": lambda: real.LOADERS["covtype"](),
}


def objective_of(name: str, q: float) -> Objective:
    """Return the problem: standardised features, one width for every coefficient."""
    X, y = DATA[name]()
    X = StandardScaler().fit_transform(np.asarray(X, dtype=float))
    X = np.column_stack([X[:, X.std(axis=0) > 0], np.ones(len(X))])  # a penalised constant
    problem = Problem.from_labels(X, np.asarray(y), fit_intercept=False)
    objective = problem.objective(q, 1.0)
    width = LAM / np.sqrt(len(X) * len(problem.classes))
    tau = objective.uncertainty.tau
    return replace(objective, uncertainty=UncertaintySet(tau, np.full_like(tau, width)))


class Look(NamedTuple):
    """A competitor's state: seconds it ran, value reached, relative gap."""

    seconds: float
    value: float
    gap: float


def ours(solver: str, objective: Objective, tol: float, limit: float) -> Iterator[Look]:
    """Run one of the library's solvers; its own trace is of certified values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = SOLVERS[solver](tol=tol).solve(objective)
    for point in result.trace:
        yield Look(point.seconds, point.value, (point.value - point.dual_value) / point.value)


def scikit_learn(solver: str, objective: Objective, tol: float, limit: float) -> Iterator[Look]:
    """Run LogisticRegression from scratch for more and more iterations, and certify each run.

    Each look is a run of its own: saga would lose its memory of gradients in a warm start.
    """
    design, codes = objective.design, objective.codes
    width = objective.uncertainty.half_width.flat[0]
    seconds, max_iter = 0.0, 8
    while seconds < limit:
        model = LogisticRegression(
            l1_ratio=1.0, C=1.0 / (design.n_rows * width), solver=solver, tol=1e-12,
            fit_intercept=False, max_iter=max_iter, random_state=0,
        )  # fmt: skip
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(design.X, codes)
        seconds = time.perf_counter() - begin
        value, _, proba = objective.value_and_gradient(model.coef_)
        gap = (value - objective.dual_point(proba).value) / value
        yield Look(seconds, value, gap)
        if gap <= tol:
            return
        max_iter *= 2


@dataclass(frozen=True)
class Competitor:
    """A solver at a loss parameter."""

    solver: str
    q: float
    run: Any


def competitors(quick: bool) -> list[Competitor]:
    """Return who competes."""
    qs = (0.0, 0.7) if quick else (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    entries = [Competitor("interior_point", q, ours) for q in qs]
    entries += [] if quick else [Competitor("lbfgs", q, ours) for q in (0.0, 0.7)]
    return [*entries, Competitor("saga", 0.0, scikit_learn)]


def main() -> None:
    """Print a table, and write every look at a competitor as CSV where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sets, a few seconds each")
    parser.add_argument("--data", nargs="*", choices=DATA, help="sets; by default all")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for scikit-learn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", help="file for the gap against seconds")
    options = parser.parse_args()
    names = options.data or (["breast_cancer", "segment-like"] if options.quick else list(DATA))
    limit = 5.0 if options.quick else options.limit
    looks = []
    for solver in ("interior_point", "lbfgs"):  # load the compiled kernels
        SOLVERS[solver](tol=0.1).solve(objective_of("breast_cancer", 0.7))
    print(f"{'data':14s} {'solver':15s} {'q':>4s} {'s to 1e-4':>10s} {'gap at end':>11s} {'s':>7s}")
    for name in names:
        for entry in competitors(options.quick):
            objective = objective_of(name, entry.q)
            runs = []
            for _ in range(options.repeats if entry.run is ours else 1):
                runs.append(list(entry.run(entry.solver, objective, TARGET, limit)))
            runs.sort(key=lambda run: run[-1].seconds)
            median = runs[len(runs) // 2]
            reached = next((f"{at.seconds:.3f}" for at in median if at.gap <= TARGET), "-")
            end = median[-1]
            print(
                f"{name:14s} {entry.solver:15s} {entry.q:4g} {reached:>10s} {end.gap:11.1e} "
                f"{end.seconds:7.2f}",
                flush=True,
            )
            looks += [(name, entry.solver, entry.q, *look) for look in median]
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["data", "solver", "q", "seconds", "value", "relative_gap"])
            writer.writerows(looks)


if __name__ == "__main__":
    main()
