"""Who should use this, on which table, with which settings: our methods and their rivals.

    python benchmarks/noise.py --quick                              # one set, under a minute
    MGCE_DATA_DIR=DIR python benchmarks/noise.py --jobs 2           # hours; start it again to go on
    python benchmarks/noise.py --table mine.csv --target label      # your own table
    python benchmarks/noise.py --report                             # tables of the record
    python benchmarks/noise.py --report --draw benchmarks/results   # and its figures

Seventeen sets of at most 3,000 labeled rows, a quarter of them for validation, and 5,000 clean
test rows; labels clean, symmetrically wrong, wrong in pairs, wrong where a forest is in doubt, or
a crowd's. Every method tries at most eight settings, and no more after 60 seconds; the setting is
chosen by accuracy on validation rows, whose labels are as wrong as the others': the best one, and
for ours the largest q within one standard error of it. See `noise_study` for the parts.

Every setting is a row of a CSV file as soon as its method is through, and what is there is not
computed again. One thread a process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from noise_study import report
from noise_study.methods import METHODS, ONLY, Cell, Fitted
from noise_study.record import Key, Record, Row, chosen
from noise_study.tables import SETS, Table, from_csv, labels_of, split, table
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from threadpoolctl import threadpool_limits

from mgce_sklearn.calibration import TemperatureScaling
from mgce_sklearn.metrics import expected_calibration_error

Array = np.ndarray[Any, Any]

RECORD = Path(__file__).parent / "results" / "noise.csv"
SECONDS = 60.0
BOUNDED = ("MGCE linear", "MGCE relu", "MGCE forest", "MGCE extra trees", "MGCE stacking")
QUICK_SETS = ("breast_cancer",)
QUICK_LABELS = ("clean", "symmetric .4")
QUICK_METHODS = (
    "MGCE stacking",
    "MGCE linear",
    "LR linear",
    "RandomForest",
    "HistGradientBoosting",
)


class Known(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose margins are known; rows are their positions."""

    def __init__(self, margins: Any, link: Any) -> None:
        self.margins = margins
        self.link = link
        self.classes_ = np.arange(margins.shape[1])

    def fit(self, X: Any, y: Any) -> Known:
        """Do nothing."""
        return self

    def decision_function(self, X: Any) -> Array:
        """Return margins of the rows at the positions X."""
        return self.margins[np.ravel(X)]

    def predict(self, X: Any) -> Array:
        """Return the class of largest margin."""
        return self.decision_function(X).argmax(axis=1)

    def margins_to_proba(self, margins: Array) -> Array:
        """Return the link's probabilities."""
        return self.link(margins)


def temperature(fitted: Fitted, y: Array, transition: Array | None) -> float:
    """Return the temperature that the validation rows choose."""
    model = TemperatureScaling(
        FrozenEstimator(Known(fitted.margins[0], fitted.link)), noise_matrix=transition
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of temperatures at their limits
        return float(model.fit(np.arange(len(y))[:, np.newaxis], y).temperature_)


def brier(proba: Array, y: Array) -> float:
    """Return the mean over rows of the sum over classes."""
    return float(np.square(proba - np.eye(proba.shape[1])[y]).sum(axis=1).mean())


def judged(fitted: Fitted, rows: Table) -> dict[str, Any]:
    """Return what validation rows and test rows say of a model."""
    valid, test = (fitted.link(margins) for margins in fitted.margins)
    y_valid, y = rows.y[1:]
    right = fitted.margins[1].argmax(axis=1) == y
    out = {
        "n_valid": len(y_valid),
        "valid_accuracy": float((fitted.margins[0].argmax(axis=1) == y_valid).mean()),
        "valid_brier": brier(valid, y_valid),
        "accuracy": float(right.mean()),
        "brier": brier(test, y),
        "ece": expected_calibration_error(y, test),
        "worst_recall": min(float(right[y == k].mean()) for k in range(rows.n_classes)),
    }
    for suffix, transition in (("t", None), ("n", rows.transition)):
        proba = fitted.link(fitted.margins[1] / temperature(fitted, y_valid, transition))
        out[f"brier_{suffix}"] = brier(proba, y)
        out[f"ece_{suffix}"] = expected_calibration_error(y, proba)
    return out


def measured(cell: Cell, key: Key) -> list[Row]:
    """Return a row for each setting of a method, within its seconds."""
    rows, models = [], []
    cell.spent = 0.0
    begin = last = time.perf_counter()
    for setting, fitted in METHODS[key.method](cell):
        seconds = time.perf_counter() - last + cell.spent
        models.append(fitted)
        rows.append(Row(*key, setting, **judged(fitted, cell.table), seconds=seconds))
        cell.spent, last = 0.0, time.perf_counter()
        if last - begin > SECONDS:
            break
    return _bounded(rows, models) if key.method in BOUNDED else rows


def measured_or_told(cell: Cell, key: Key) -> list[Row]:
    """Return what a method has, and of one that fails nothing: it is told, and not on record."""
    try:
        return measured(cell, key)
    except Exception as error:
        print(f"{key} failed: {type(error).__name__}: {error}", flush=True)
        return []


def _bounded(rows: list[Row], models: list[Fitted]) -> list[Row]:
    """Add the bounds of the setting that is chosen."""
    position = rows.index(chosen(rows))
    bounds = models[position].bounds()
    fields = vars(rows[position]) | {"lower": bounds.lower, "upper": bounds.upper}
    return [*rows[:position], Row(**fields), *rows[position + 1 :]]


def of_cell(rows: Table, keys: list[Key]) -> list[list[Row]]:
    """Return the rows of several methods on one table."""
    cell = Cell(rows, keys[0].seed)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [measured_or_told(cell, key) for key in keys]
    return [rows for rows in found if rows]


def of_set(name: str, labels: str, seed: int, keys: list[Key]) -> list[list[Row]]:
    """Return the rows of several methods on one split of a set."""
    return of_cell(table(name, labels, seed), keys)


def todo(options: argparse.Namespace, record: Record) -> Iterator[tuple[str, str, int, list[Key]]]:
    """Return what is not on record: seeds outermost, then kinds of labels."""
    for seed in range(options.seeds):
        for place in range(5):
            for name in options.data:
                kinds = labels_of(name)
                if place >= len(kinds) or kinds[place] not in options.labels:
                    continue
                methods = [each for each in options.methods if name in ONLY.get(each, SETS)]
                keys = [Key(seed, name, kinds[place], method) for method in methods]
                missing = [key for key in keys if key not in record.rows]
                if missing:
                    yield name, kinds[place], seed, missing


def carry_out(options: argparse.Namespace, record: Record) -> None:
    """Compute what is not on record, until the time is up."""
    begin = time.perf_counter()
    cells = list(todo(options, record))
    within = (
        delayed(of_set)(*cell)
        for cell in cells
        if time.perf_counter() - begin < 60.0 * options.minutes
    )
    parallel = Parallel(options.jobs, return_as="generator_unordered", pre_dispatch=options.jobs)
    for done, found in enumerate(parallel(within), start=1):
        for rows in found:
            record.add(rows)
        where = ", ".join(map(str, found[0][0].key[:3])) if found else "nothing"
        minutes = (time.perf_counter() - begin) / 60.0
        print(f"{done} of {len(cells)} after {minutes:.1f} min: {where}", flush=True)


def on_own_table(options: argparse.Namespace) -> None:
    """Print every method on a table from a file, its labels as they are and with wrong ones."""
    X, y, codes = from_csv(options.table, options.target)
    methods = [name for name in options.methods if not name.startswith("|") and name not in ONLY]
    for labels in ("clean", "symmetric .2", "symmetric .4"):
        keys = [Key(0, options.table.stem, labels, method) for method in methods]
        found = of_cell(split(X, y, codes, labels, seed=0), keys)
        title = "as they are" if labels == "clean" else f"made wrong, {labels}"
        report.print_one_table(title, {rows[0].method: rows for rows in found})


def main() -> None:
    """Compute what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = (*labels_of("adult"), "crowd")
    parser.add_argument("--quick", action="store_true", help="a small part, nothing kept")
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--labels", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--minutes", type=float, default=np.inf, help="start nothing after these")
    parser.add_argument("--csv", type=Path, default=RECORD, help="the record, also of earlier runs")
    parser.add_argument("--report", action="store_true", help="compute nothing, print the tables")
    parser.add_argument("--draw", type=Path, help="a folder for figures of the record")
    parser.add_argument("--table", type=Path, help="a CSV file of yours in place of the sets")
    parser.add_argument("--target", help="its column of labels")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(
            data=QUICK_SETS, labels=QUICK_LABELS, methods=QUICK_METHODS, seeds=1,
            csv=Path(tempfile.mkdtemp(), "quick.csv"),
        )  # fmt: skip
    if options.draw is not None and not options.draw.is_dir():
        parser.error(f"--draw must be a folder that exists; got {options.draw}.")
    if options.table is not None:
        return on_own_table(options)
    record = Record(options.csv)
    if not options.report:
        carry_out(options, record)
    report.print_report(record)
    if options.draw is not None:
        print(*report.draw(record, options.draw), sep="\n")
    return None


if __name__ == "__main__":
    main()
