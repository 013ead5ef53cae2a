"""Runs of the papers' experiments: their plan, their record, where they resume, their table."""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from published import NOISE, published
from sklearn.frozen import FrozenEstimator
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

from mgce_sklearn.calibration import PiecewiseTemperatureScaling
from mgce_sklearn.metrics import expected_calibration_error, static_calibration_error
from mgce_sklearn.torch import (
    GCELoss,
    GenerativeCrossEntropyLoss,
    MGCELoss,
    MGCENetClassifier,
)

Array = np.ndarray[Any, Any]

BETAS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 11.0)
LOSSES = {
    "MGCE": MGCELoss,
    "GCE": GCELoss,
    "CE": MGCELoss,
    "MAE": MGCELoss,
    "GenCE": GenerativeCrossEntropyLoss,
}
FIXED_Q = {"CE": 0.0, "MAE": 1.0, "GenCE": 0.0}
CALIBRATED = "+ATS"
EPOCHS = 150
BATCH = 128
MOMENTUM = 0.9
LARGEST_NORM = 5.0  # of the gradient
LEAST_PROBABILITY = 1e-6  # counted in the log loss, where the rule gives less


@dataclass(frozen=True)
class Run:
    """One network to train."""

    data: str
    method: str
    q: float
    lam: float
    noise: float
    seed: int
    epochs: int


@dataclass(frozen=True)
class Measured:
    """What a trained network is worth; accuracies and errors are shares in [0, 1]."""

    validation_accuracy: float
    accuracy: float
    calibration_error: float
    static_calibration_error: float
    log_loss: float
    brier: float
    seconds: float


class Trained(NamedTuple):
    """A network, rows (X, y) to choose by, clean ones to judge by, seconds that training took."""

    network: MGCENetClassifier
    validation: tuple[Any, Array]
    test: tuple[Any, Array]
    seconds: float


COLUMNS = [field.name for kind in (Run, Measured) for field in fields(kind)]


def candidates(method: str, betas: Iterable[float] = BETAS) -> list[tuple[str, float]]:
    """Return losses (name, q) of which validation chooses one.

    MGCE at beta = 1 is the convex MAE, and is trained once under that name.
    """
    if method in FIXED_Q:
        return [(method, FIXED_Q[method])]
    qs = [round(1.0 / beta, 6) for beta in betas]
    if method == "MGCE":
        return [("MAE", q) if q == 1.0 else ("MGCE", q) for q in qs]
    return [(method, q) for q in qs]


def settings_of(method: str, options: argparse.Namespace) -> list[tuple[str, float, float]]:
    """Return all (name, q, lam) that a method may be trained with."""
    losses = candidates(method, options.betas)
    return [(loss, q, lam) for loss, q in losses for lam in options.lams]


def plan(options: argparse.Namespace, epochs: int) -> list[Run]:
    """Return the runs in the order asked for, each once; short ones where there is a choice."""
    runs = [
        Run(data, loss, q, lam, noise, seed, epochs)
        for data in options.datasets
        for seed in options.seeds
        for noise in options.noise
        for method in options.methods
        for loss, q, lam in settings_of(method, options)
        if epochs == options.epochs or len(settings_of(method, options)) > 1
    ]
    return list(dict.fromkeys(runs))


def finalists(record: Record, options: argparse.Namespace) -> list[Run]:
    """Return the runs of the plan that have the best short run of a method, at full length."""
    runs = [
        run
        for data in options.datasets
        for noise in options.noise
        for method in options.methods
        for run, _ in choices(record, data, method, noise, options)
    ]
    return list(dict.fromkeys(runs))


class Record:
    """A CSV file with a row a run, to which rows are added as soon as they are measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Run, Measured] = {}
        if path.exists():
            with path.open(newline="") as file:
                self.rows = dict(_parsed(row) for row in csv.DictReader(file))

    def check_writable(self) -> None:
        """End the program unless rows can be written, before there is one to lose."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("a").close()
        except OSError as error:
            raise SystemExit(f"--csv must be a file that can be written; {error}.") from None

    def add(self, run: Run, measured: Measured) -> None:
        """Write a row."""
        self.rows[run] = measured
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            numbers = [float(f"{number:.6g}") for number in astuple(measured)]
            writer.writerow([*astuple(run), *numbers])


def _parsed(row: dict[str, str]) -> tuple[Run, Measured]:
    kinds = {"data": str, "method": str, "seed": int, "epochs": int}
    values = {name: kinds.get(name, float)(text) for name, text in row.items()}
    return (
        Run(**{field.name: values[field.name] for field in fields(Run)}),
        Measured(**{field.name: values[field.name] for field in fields(Measured)}),
    )


def classifier(run: Run, module: Callable[..., nn.Module], **settings: Any) -> MGCENetClassifier:
    """Return a network to train with a run's loss by SGD, its gradient clipped."""
    return MGCENetClassifier(
        module,
        q=run.q,
        lam=run.lam,
        criterion=LOSSES[run.method],
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        optimizer__fused=True,
        gradient_clip=LARGEST_NORM,
        batch_size=BATCH,
        max_epochs=run.epochs,
        random_state=run.seed,
        **settings,
    )


def settle_process() -> None:
    """Set what makes PyTorch fast in a process among several."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # momentum of units that are off
    torch.backends.cudnn.benchmark = True  # images are of one size


def carry_out(
    options: argparse.Namespace,
    train: Callable[[Run], Trained],
    calibrated: Collection[str] = (),
) -> None:
    """Train what is not on record yet, write it down run by run, and print the table.

    Networks for the sets ``calibrated`` have a second row, after piecewise temperature scaling.
    """
    record = Record(options.csv)
    learn = partial(_train_all, train, record, options.jobs, calibrated)
    if not options.print_only:
        record.check_writable()
        if options.pilot_epochs is not None:
            learn(plan(options, options.pilot_epochs))
            learn(finalists(record, options))
        else:
            learn(plan(options, options.epochs))
    print("\n".join(table(record, options, calibrated)))


def _train_all(
    train: Callable[[Run], Trained],
    record: Record,
    jobs: int,
    calibrated: Collection[str],
    runs: list[Run],
) -> None:
    todo = [run for run in runs if run not in record.rows]
    print(f"{len(runs) - len(todo)} of {len(runs)} runs are on record.", flush=True)
    started = time.perf_counter()
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    results = parallel(delayed(_measured)(run, train, run.data in calibrated) for run in todo)
    for done, rows in enumerate(results, start=1):
        for run, measured in rows:
            record.add(run, measured)
        print(
            f"{done} of {len(todo)} after {time.perf_counter() - started:.0f} s: {run}, "
            f"accuracy {measured.accuracy:.4f} in {measured.seconds:.1f} s",
            flush=True,
        )


def _measured(
    run: Run, train: Callable[[Run], Trained], calibrated: bool
) -> list[tuple[Run, Measured]]:
    """Train, and return rows for the record: the run's own last, which completes it.

    Sets to calibrate have as many test rows of every class, so validation rows are weighted alike.
    """
    trained = train(run)
    rows = [(run, measure(trained.network, trained))]
    if calibrated:
        X, y = trained.validation
        model = PiecewiseTemperatureScaling(FrozenEstimator(trained.network))
        model.fit(X, y, sample_weight=compute_sample_weight("balanced", y))
        after = replace(run, method=run.method + CALIBRATED)
        rows.insert(0, (after, measure(model, trained)))
    return rows


def measure(model: Any, trained: Trained) -> Measured:
    """Judge a model by its own probabilities."""
    X, y = trained.test
    proba = model.predict_proba(X).astype(np.float64)
    likelihood = proba[np.arange(len(y)), y]
    return Measured(
        validation_accuracy=float(model.score(*trained.validation)),
        accuracy=float(model.score(X, y)),
        calibration_error=expected_calibration_error(y, proba),
        static_calibration_error=static_calibration_error(y, proba),
        log_loss=float(-np.log(np.maximum(likelihood, LEAST_PROBABILITY)).mean()),
        brier=float((np.square(proba).sum(axis=1) - 2.0 * likelihood + 1.0).mean()),
        seconds=trained.seconds,
    )


@dataclass(frozen=True)
class Cell:
    """A method at a noise: its chosen runs, one a seed, and among how many each was chosen."""

    runs: list[Run]
    measured: list[Measured]
    n_candidates: list[int]

    def percent(self, name: str) -> tuple[float, float]:
        """Return mean and standard deviation (n - 1) of a share, in percent."""
        values = [100.0 * getattr(measured, name) for measured in self.measured]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def choices(
    record: Record, data: str, method: str, noise: float, options: argparse.Namespace
) -> list[tuple[Run, int]]:
    """Return for each seed the run of best validation accuracy, and among how many it was chosen.

    With ``pilot_epochs`` short runs decide, whatever else is on record. Without a choice there is
    nothing to decide.
    """
    name = method.removesuffix(CALIBRATED)
    suffix = method[len(name) :]
    settings = settings_of(name, options)
    judged_after = options.epochs if len(settings) == 1 else options.pilot_epochs or options.epochs
    out = []
    for seed in options.seeds:
        runs = [
            Run(data, loss + suffix, q, lam, noise, seed, judged_after) for loss, q, lam in settings
        ]
        known = [run for run in runs if run in record.rows]
        if known:
            best = max(known, key=lambda run: record.rows[run].validation_accuracy)
            out.append((replace(best, epochs=options.epochs), len(known)))
        elif len(runs) == 1:
            out.append((runs[0], 1))
    return out


def chosen(
    record: Record, data: str, method: str, noise: float, options: argparse.Namespace
) -> Cell:
    """Return those of the `choices` that are on record."""
    cell = Cell([], [], [])
    for run, n_candidates in choices(record, data, method, noise, options):
        if run in record.rows:
            cell.runs.append(run)
            cell.measured.append(record.rows[run])
            cell.n_candidates.append(n_candidates)
    return cell


HEADER = (
    "| data | noise | method | seeds | accuracy % | published | difference / their deviation "
    "| ECE % | published | SCE % | log loss | Brier | beta, lam (chosen among) |"
)


def table(
    record: Record, options: argparse.Namespace, calibrated: Collection[str] = ()
) -> list[str]:
    """Return the lines of a table in Markdown: what is on record beside what was published."""
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for data in options.datasets:
        methods = list(options.methods)
        if data in calibrated:
            methods += [method + CALIBRATED for method in methods]
        for noise in options.noise:
            for method in methods:
                cell = chosen(record, data, method, noise, options)
                if cell.runs:
                    lines.append(_line(data, method, noise, cell))
    return lines


def _line(data: str, method: str, noise: float, cell: Cell) -> str:
    mean, deviation = cell.percent("accuracy")
    theirs = published(data, method, noise)
    accuracy = f"{theirs.accuracy:.2f} ± {theirs.deviation:.2f}" if theirs else ""
    difference = f"{(mean - theirs.accuracy) / theirs.deviation:+.1f}" if theirs else ""
    calibration = f"{theirs.calibration:.2f}" if theirs else ""
    columns = [
        data,
        f"{noise:g}",
        method,
        str(len(cell.runs)),
        f"{mean:.2f}" if np.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}",
        accuracy,
        difference,
        f"{cell.percent('calibration_error')[0]:.2f}",
        calibration,
        f"{cell.percent('static_calibration_error')[0]:.2f}",
        f"{np.mean([measured.log_loss for measured in cell.measured]):.3f}",
        f"{np.mean([measured.brier for measured in cell.measured]):.3f}",
        "; ".join(map(_settings, cell.runs, cell.n_candidates)),
    ]
    return "| " + " | ".join(columns) + " |"


def _settings(run: Run, n_candidates: int) -> str:
    beta = "∞" if run.q == 0.0 else f"{1.0 / run.q:.3g}"
    return f"{beta}, {run.lam:g} ({n_candidates})"


def common_parser(description: str, sets: Collection[str], csv: Path) -> argparse.ArgumentParser:
    """Return a parser of the options that the scripts share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of data instead of the public loaders")
    parser.add_argument("--datasets", nargs="+", choices=sets, default=list(sets)[:1])
    parser.add_argument("--methods", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--noise", nargs="+", type=float, default=list(NOISE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--betas", nargs="+", type=float, default=list(BETAS), help="grid of 1/q")
    parser.add_argument("--lams", nargs="+", type=float, default=[0.0], help="grid of L1 weights")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument(
        "--pilot-epochs", type=int, help="choose q and lam after so many, train the choice in full"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--csv", type=Path, default=csv, help="the record, also of earlier runs")
    parser.add_argument("--print-only", action="store_true", help="train nothing, print the table")
    parser.add_argument("--quick", action="store_true", help="a small part, nothing kept")
    return parser


def settled(options: argparse.Namespace, **quick: Any) -> argparse.Namespace:
    """Put ``quick`` and a temporary record in place if asked; name the folder of data."""
    if options.quick:
        vars(options).update(quick, csv=Path(tempfile.mkdtemp(), "quick.csv"))
    if options.data is not None:
        if not options.data.is_dir():
            raise SystemExit(f"--data must be a folder; got {options.data}.")
        os.environ["MGCE_DATA_DIR"] = str(options.data)
    return options
