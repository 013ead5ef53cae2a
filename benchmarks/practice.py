"""How wide the bounds of the error are on real tables, and how often they hold it.

    MGCE_DATA_DIR=DIR python benchmarks/practice.py --jobs 2      # half an hour
    python benchmarks/practice.py --quick                         # under a minute

The sets of `noise.py` with up to 2,250 training rows; labels clean, symmetrically wrong (.2) and
wrong in pairs (.3). `error_bounds` of the rows of the fit, for the error of `predict`, beside the
error on up to 5,000 test rows. A bound is of labels as they come: where those of training are
wrong, those of test rows are made wrong alike. With the noise matrix it is of right labels, and is
judged on them. Medians over sets' draws of bounds and error, and how often the error was within.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from noise_study.tables import SETS, Table, table
from threadpoolctl import threadpool_limits

from mgce_sklearn import EmptySetError, MGCEClassifier, MGCEStackingClassifier
from mgce_sklearn.label_noise import matrix_noise

Array = np.ndarray[Any, Any]

LABELS = ("clean", "symmetric .2", "pair .3")
TOL = 1e-2
SECONDS = 20.0


class Outcome(NamedTuple):
    """The error on test rows and its bounds; NaN where no distribution is in the set."""

    error: float
    lower: float
    upper: float

    @property
    def inside(self) -> bool:
        """Whether the error is within the bounds."""
        return self.lower <= self.error <= self.upper


def linear(lam: Any) -> Callable[[Table], Any]:
    """Return what fits MGCEClassifier() with a lam."""
    return lambda rows: MGCEClassifier(lam=lam, tol=TOL)


def with_matrix(lam: Any) -> Callable[[Table], Any]:
    """Return what fits MGCEClassifier() with a lam and the noise matrix."""
    return lambda rows: MGCEClassifier(lam=lam, noise_matrix=rows.transition, tol=TOL)


def stacked(rows: Table) -> Any:
    """Return MGCEStackingClassifier as it comes."""
    return MGCEStackingClassifier(tol=TOL, keep_base_margin=True, random_state=0)


MODELS: dict[str, Callable[[Table], Any]] = {
    "linear, lam = .3": linear(0.3),
    "linear, lam = 1": linear(1.0),
    "forest corrected": stacked,
    "matrix, lam = 1": with_matrix(1.0),
    "matrix, feasible": with_matrix("feasible"),
}


def outcome(name: str, labels: str, seed: int, model: str) -> Outcome:
    """Fit, bound, and judge on the labels that the bound is of."""
    rows = table(name, labels, seed)
    y_test = rows.y[2]
    if "matrix" not in model:
        y_test = matrix_noise(
            y_test, rows.transition, classes=np.arange(rows.n_classes), random_state=seed
        )
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = MODELS[model](rows).fit(rows.X[0], rows.y[0])
            bounds = fitted.error_bounds(rows.X[0], tol=TOL, max_time=SECONDS)
        except EmptySetError:
            return Outcome(np.nan, np.nan, np.nan)
        return Outcome(1.0 - fitted.score(rows.X[2], y_test), bounds.lower, bounds.upper)


def summary(outcomes: list[Outcome]) -> str:
    """Return medians of bounds and error, how often it is inside, and how many sets are empty."""
    there = [each for each in outcomes if not np.isnan(each.error)]
    empty = f", {len(outcomes) - len(there)} empty" if len(there) < len(outcomes) else ""
    if not there:
        return f"empty in {len(outcomes)}"
    error, lower, upper = np.median(there, axis=0)
    inside = sum(each.inside for each in there)
    return f"{error:.3f} in {lower:.3f}-{upper:.3f}; {inside} of {len(there)}{empty}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a set, a seed")
    parser.add_argument(
        "--data", nargs="+", choices=SETS, default=[x for x in SETS if x != "labelme"]
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    options = parser.parse_args()
    names, seeds = (["breast_cancer"], 1) if options.quick else (options.data, options.seeds)
    print(
        f"| set | labels | {' | '.join(options.models)} |\n"
        + "|---" * (2 + len(options.models))
        + "|"
    )
    found: dict[tuple[str, str], list[Outcome]] = {}
    for name in names:
        for labels in LABELS:
            models = [
                model for model in options.models if labels != "clean" or "matrix" not in model
            ]
            cells = [(model, seed) for model in models for seed in range(seeds)]
            outcomes = Parallel(options.jobs)(
                delayed(outcome)(name, labels, seed, model) for model, seed in cells
            )
            texts = dict.fromkeys(options.models, "")
            for model in models:
                mine = [
                    each for cell, each in zip(cells, outcomes, strict=True) if cell[0] == model
                ]
                texts[model] = summary(mine)
                found.setdefault((labels, model), []).extend(mine)
            print(f"| {name} | {labels} | {' | '.join(texts.values())} |", flush=True)
    print("\n| labels | model | inside | empty | median width |\n" + "|---" * 5 + "|")
    for (labels, model), outcomes in found.items():
        there = [each for each in outcomes if not np.isnan(each.error)]
        inside = sum(each.inside for each in there)
        width = np.median([each.upper - each.lower for each in there]) if there else np.nan
        print(
            f"| {labels} | {model} | {inside} of {len(there)} | {len(outcomes) - len(there)} "
            f"| {width:.3f} |"
        )


if __name__ == "__main__":
    main()
