"""Seconds to a certified gap: our solvers and others, over data, q and lam.

    OMP_NUM_THREADS=1 python benchmarks/solvers.py --quick    # under a minute
    python benchmarks/solvers.py --data letter adult --csv looks.csv --figure looks.png

All minimize mean psi - <tau, W> + width * |W| over the same rows with the same width for every
coefficient, the intercept's included: lam standard errors of a feature of unit size with
frequency 1/K. Who knows cross-entropy only gets q = 0, the easiest problem; who minimizes
something else is marked with what, and judged by that. Competitors are a file each in
``benchmarks/competitors``. Values and gaps are computed by the library's objective from the
coefficients that they have when they end.

"by value" is the time at which the value was within 1e-4 of the highest lower bound that any
competitor found: what a solver without certificates would claim, if it knew. "x saga" is the
time to the certified gap as a multiple of saga's on the same data at q = 0 and the same lam,
and below the number shown where saga did not get there.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TextIO

import datasets as real
import numpy as np
import scipy.sparse as sp
from competitors import Competitor, Look, Terms, Unable, gather
from sklearn.datasets import make_classification
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mgce_sklearn.objective import Objective
from mgce_sklearn.problem import Problem
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

TARGET = 1e-4
QS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
LAMS = (0.05, 0.3, 3.0)
DRAWN_LAM = 0.3

QUICK = {"data": ["breast_cancer", "segment-like"], "qs": [0.0, 0.7, 1.0], "lams": [0.3]}
QUICK_LIMIT = 1.0


def segment_like() -> tuple[Array, Array]:
    """Return 2310 rows, 19 ill-conditioned features and 7 classes."""
    X, y = make_classification(
        2310, 19, n_informative=8, n_redundant=9, n_classes=7, n_clusters_per_class=1,
        class_sep=1.5, random_state=0,
    )  # fmt: skip
    return X + 0.01 * np.random.default_rng(0).normal(size=X.shape), y


DATA = {**real.LOADERS, "segment-like": segment_like}


@lru_cache(maxsize=1)
def problem_of(name: str) -> Problem:
    """Return standardized features, a constant one after them, and labels."""
    X, y = DATA[name]()
    X = StandardScaler().fit_transform(X.toarray() if sp.issparse(X) else X)
    X = np.column_stack([X[:, X.std(axis=0) > 0], np.ones(len(X))])  # a penalized constant
    return Problem.from_labels(X, np.asarray(y), fit_intercept=False)


def objective_of(name: str, q: float, lam: float, widths: str = "equal") -> Objective:
    """Return the objective, with one width for every coefficient or with standard errors."""
    problem = problem_of(name)
    objective = problem.objective(q, lam)
    if widths == "standard-errors":
        return objective
    tau = objective.uncertainty.tau
    width = lam / np.sqrt(problem.parts.n_rows * len(problem.classes))
    return replace(objective, uncertainty=UncertaintySet(tau, np.full_like(tau, width)))


@dataclass(frozen=True)
class Entry:
    """The median run of a competitor on a problem."""

    data: str
    solver: str
    instead: str
    threads: int
    q: float
    lam: float
    looks: list[Look]  # by seconds

    def seconds_to(self, gap: float) -> float:
        """Return the seconds to a certified gap, infinite if it was not reached."""
        return _first(self.looks, lambda look: look.gap <= gap)

    def seconds_near(self, bound: float, gap: float) -> float:
        """Return the seconds until the value was that close to a lower bound of the optimum."""
        return _first(self.looks, lambda look: look.value - bound <= gap * look.value)

    @property
    def lower_bound(self) -> float:
        """Return the highest dual value seen; none if it is that of another problem."""
        if self.instead:
            return -math.inf
        return max(look.value * (1.0 - look.gap) for look in self.looks)


def _first(looks: list[Look], condition: Any) -> float:
    return next((look.seconds for look in looks if condition(look)), math.inf)


def median_run(
    competitor: Competitor, objective: Objective, terms: Terms, repeats: int
) -> list[Look]:
    """Return the run of median seconds; runs are repeated while they take less than the limit."""
    runs: list[list[Look]] = []
    begin = time.perf_counter()
    while len(runs) < repeats and (not runs or time.perf_counter() - begin < terms.limit):
        runs.append(sorted(competitor.run(objective, terms)))
    key = [(_first(run, lambda look: look.gap <= terms.tol), run[-1].seconds) for run in runs]
    return runs[sorted(range(len(runs)), key=key.__getitem__)[len(runs) // 2]]


class Race:
    """Runs competitors over problems, and keeps who was left out and why.

    Parameters
    ----------
    competitors : list of Competitor
    options : argparse.Namespace
    """

    def __init__(self, competitors: list[Competitor], options: argparse.Namespace) -> None:
        self.competitors, self.options = competitors, options
        self.left_out: dict[str, None] = {}  # a set that remembers its order

    def problems(self) -> Iterator[list[Entry]]:
        """Yield the entries of one problem after another, q = 0 first."""
        for name in self.options.data:
            for lam in self.options.lams:
                for q in sorted(self.options.qs):
                    yield self._problem(name, q, lam)

    def _problem(self, name: str, q: float, lam: float) -> list[Entry]:
        objective = objective_of(name, q, lam, self.options.widths)
        entries = []
        for threads in self.options.threads:
            terms = Terms(lam, self.options.tol, self.options.limit, threads)
            with threadpool_limits(threads):
                for competitor in self.competitors:
                    if threads != self.options.threads[0] and not competitor.threaded:
                        continue
                    looks = self._looks(competitor, objective, terms)
                    if looks:
                        instead = competitor.instead(objective)
                        entries.append(
                            Entry(name, competitor.name, instead, threads, q, lam, looks)
                        )
        return entries

    def _looks(self, competitor: Competitor, objective: Objective, terms: Terms) -> list[Look]:
        try:
            return median_run(competitor, objective, terms, self.options.repeats)
        except Unable as reason:
            self.left_out[f"{competitor.name} {reason}"] = None
        except Exception as error:  # of somebody else's code; the others go on
            self.left_out[f"{competitor.name} failed: {type(error).__name__}: {error}"] = None
        return []

    def warm_up(self) -> None:
        """Compile and import what runs in this process, on the smallest data."""
        for name in ("iris", "breast_cancer"):
            for q in self.options.qs:
                objective, terms = objective_of(name, q, 0.3), Terms(0.3, 0.1, 1.0, 1)
                for competitor in self.competitors:
                    if not competitor.elsewhere:
                        self._looks(competitor, objective, terms)
        self.left_out.clear()


class Table:
    """Prints a line per entry.

    Parameters
    ----------
    targets : list of float
        Relative gaps, the first of them that of the comparison with saga.
    """

    def __init__(self, targets: list[float]) -> None:
        self.targets = targets
        self.saga: dict[tuple[str, float], Entry] = {}
        certified = "".join(f" {f's to {target:g}':>10s}" for target in targets)
        print(
            f"{'data':13s} {'solver':15s} {'instead':11s} {'threads':>7s} {'lam':>5s} {'q':>4s}"
            f"{certified} {'by value':>9s} {'best gap':>8s} {'at s':>7s} {'x saga':>8s}"
        )

    def show(self, entries: list[Entry]) -> None:
        """Print the entries of one problem."""
        bound = max((entry.lower_bound for entry in entries), default=-math.inf)
        for entry in entries:
            if entry.solver == "saga":
                self.saga[entry.data, entry.lam] = entry
        for entry in entries:
            certified = "".join(
                f" {_seconds(entry.seconds_to(target)):>10s}" for target in self.targets
            )
            by_value = math.inf if entry.instead else entry.seconds_near(bound, self.targets[0])
            best = min(entry.looks, key=lambda look: look.gap)
            print(
                f"{entry.data:13s} {entry.solver:15s} {entry.instead:11s} {entry.threads:7d} "
                f"{entry.lam:5g} {entry.q:4g}{certified} {_seconds(by_value):>9s} "
                f"{best.gap:8.1e} {best.seconds:7.2f} {self._ratio(entry):>8s}",
                flush=True,
            )

    def _ratio(self, entry: Entry) -> str:
        saga, seconds = self.saga.get((entry.data, entry.lam)), entry.seconds_to(self.targets[0])
        if saga is None or math.isinf(seconds):
            return "-"
        theirs = saga.seconds_to(self.targets[0])
        if math.isinf(theirs):  # it would have taken longer than it was given
            return f"<{seconds / saga.looks[-1].seconds:.2g}"
        return f"{seconds / theirs:.2g}"


def _seconds(seconds: float) -> str:
    return "-" if math.isinf(seconds) else f"{seconds:.3f}"


def write_looks(file: TextIO, entries: list[Entry]) -> None:
    """Append every look as a line of CSV."""
    rows = csv.writer(file)
    for entry in entries:
        row = (entry.data, entry.solver, entry.instead, entry.threads, entry.q, entry.lam)
        rows.writerows((*row, *look) for look in entry.looks)
    file.flush()


CSV_HEADER = "data,solver,instead,threads,q,lam,seconds,value,relative_gap\r\n"

# Ours are lines, as they are seen at every check; others are points, a run each.
STYLES = {
    "interior_point": {"linestyle": "-", "linewidth": 1.6},
    "lbfgs": {"linestyle": (0, (4, 2))},
    "sgd": {"linestyle": (0, (1, 1.5))},
    "saga": {"marker": "o"},
    "liblinear": {"marker": "s"},
    "skglm": {"marker": "D"},
    "newton-cholesky": {"marker": "^"},
    "clarabel": {"marker": "v"},
    "highs": {"marker": "P"},
    "mrcpy-cvx": {"marker": "X"},
    "mrcpy-adam": {"marker": "*"},
}
PANELS_IN_A_ROW = 3  # at most


def draw(entries: list[Entry], target: float, path: str) -> None:
    """Draw the best gap so far against seconds: a panel per set, colors q, styles solvers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(entry.data for entry in entries))
    lams = {entry.lam for entry in entries}
    lam = DRAWN_LAM if DRAWN_LAM in lams else min(lams)
    threads = min(entry.threads for entry in entries)
    drawn = [entry for entry in entries if (entry.lam, entry.threads) == (lam, threads)]
    n_columns = min(PANELS_IN_A_ROW, math.ceil(math.sqrt(len(names))))
    n_rows = -(-len(names) // n_columns)
    figure, grid = plt.subplots(
        n_rows, n_columns, squeeze=False, sharey=True, layout="constrained",
        figsize=(4.2 * n_columns + 1.8, 3.4 * n_rows),
    )  # fmt: skip
    for panel in grid.flat[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(grid.flat, names, strict=False):
        _draw_panel(panel, [entry for entry in drawn if entry.data == name], target)
        panel.set_title(name, loc="left", fontsize=11)
    cores = "one thread" if threads == 1 else f"{threads} threads"
    figure.supxlabel(f"seconds, {cores}, lam = {lam:g}", fontsize=10)
    figure.supylabel("relative duality gap", fontsize=10)
    _draw_legend(figure, drawn)
    figure.savefig(path, dpi=160)


def _color(q: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.92 * q)  # the end of the map is too light for a line


def _draw_panel(panel: Any, entries: list[Entry], target: float) -> None:
    panel.axhline(target, color="0.4", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    for entry in entries:
        seconds = [look.seconds for look in entry.looks]
        gaps = np.minimum.accumulate([look.gap for look in entry.looks])
        style = {"linewidth": 1.1, "markersize": 4.5, **STYLES.get(entry.solver, {"marker": "."})}
        panel.loglog(seconds, np.clip(gaps, 1e-2 * target, 1.0), color=_color(entry.q), **style)
    panel.set_ylim(0.7e-2 * target, 1.5)
    panel.grid(True, which="major", color="0.92")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=9)


def _draw_legend(figure: Any, entries: list[Entry]) -> None:
    from matplotlib.lines import Line2D

    def title(text: str) -> Line2D:
        return Line2D([], [], linestyle="none", label=text)

    insteads: dict[str, set[str]] = {}
    for entry in entries:
        insteads.setdefault(entry.solver, set()).add(entry.instead)
    handles = [title("color: q")]
    for q in sorted({entry.q for entry in entries}):
        handles.append(Line2D([], [], color=_color(q), linewidth=3, label=f"{q:g}"))
    handles += [title(""), title("line: solver")]
    for name, problems in insteads.items():
        others = ", ".join(sorted(problems - {""}))
        label = f"{name} ({others})" if others else name
        style = {"linewidth": 1.1, "markersize": 5, **STYLES.get(name, {"marker": "."})}
        handles.append(Line2D([], [], color="0.25", label=label, **style))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=9)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two sets, a second a run")
    parser.add_argument("--data", nargs="+", choices=DATA, help="by default all")
    parser.add_argument("--qs", nargs="+", type=float)
    parser.add_argument("--lams", nargs="+", type=float)
    parser.add_argument("--widths", choices=("equal", "standard-errors"), default="equal")
    parser.add_argument("--solvers", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--threads", nargs="+", type=int, help="of BLAS; by default 1 2")
    parser.add_argument("--tol", type=float, default=TARGET, help="relative gap to reach")
    parser.add_argument("--limit", type=float, help="seconds for a run; by default 60")
    parser.add_argument("--repeats", type=int, help="runs a median is taken of; by default 3")
    parser.add_argument("--mrcpy", metavar="PYTHON", help="an interpreter with MRCpy")
    parser.add_argument("--csv", help="file for the gap against seconds")
    parser.add_argument("--figure", help="file for a drawing of it, at one lam and one thread")
    options = parser.parse_args()
    every = {"data": list(DATA), "qs": list(QS), "lams": list(LAMS), "threads": [1, 2],
             "limit": 60.0, "repeats": 3}  # fmt: skip
    quick = {**QUICK, "threads": [1], "limit": QUICK_LIMIT, "repeats": 1}
    for name, value in (quick if options.quick else every).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    known = gather(options.mrcpy)
    unknown = set(options.solvers or ()) - set(known)
    if unknown:
        parser.error(f"no solver {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.competitors = [known[name] for name in options.solvers or known]
    return options


def main() -> None:
    """Print a table; write every look as CSV and draw it where asked to."""
    options = parse()
    race, entries = Race(options.competitors, options), []
    race.warm_up()
    table = Table(sorted({max(options.tol, TARGET), options.tol}, reverse=True))
    with ExitStack() as stack:
        file = stack.enter_context(open(options.csv, "w", newline="")) if options.csv else None
        if file:
            file.write(CSV_HEADER)
        for of_a_problem in race.problems():
            table.show(of_a_problem)
            entries += of_a_problem
            if file:
                write_looks(file, of_a_problem)
    if race.left_out:
        print("\nLeft out, somewhere or everywhere:")
        print("".join(f"  {sentence}\n" for sentence in race.left_out), end="")
    if options.figure and entries:
        draw(entries, table.targets[-1], options.figure)


if __name__ == "__main__":
    main()
