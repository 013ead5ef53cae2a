"""The commands: a report of a table, and predictions of a saved model."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgce_sklearn.commands import UserMistake, check_installed, check_writable, listed
from mgce_sklearn.report.measure import Findings, Say, investigate
from mgce_sklearn.report.page import Printed, page
from mgce_sklearn.report.saved import load, predictions, save
from mgce_sklearn.report.table import read_table
from mgce_sklearn.report.words import summary

MODEL = Path("model.skops")


@dataclass(frozen=True)
class Task:
    """What to report on, and where to.

    Attributes
    ----------
    table : Path
    target : str or None
        Name of a column; without one the mistake names all columns.
    page, model : Path or None
        Files to write, if any.
    arguments : sequence of str
        Of the command line, for the page.
    """

    table: Path
    target: str | None
    page: Path | None
    model: Path | None
    arguments: Sequence[str]


def report(task: Task) -> None:
    """Print a summary of a table, and write the page and the model that are asked for.

    Raises
    ------
    UserMistake
        Before the first fit, if anything cannot be read or written.
    """
    if task.page:
        check_installed("the page", "report", "jinja2", "matplotlib")
        check_output("the page", task.page, task.table)
    if task.model:
        check_installed("saving a model", "report", "skops")
        check_output("the model", task.model, task.table, task.page)
    table = read_table(task.table, task.target)
    found = investigate(table, progress())
    try:
        _write_files(task, found)
    finally:  # words after files, because their reader may have seen enough
        print(summary(found))
    for what, path in (("report", task.page), ("model", task.model)):
        if path:
            print(f"{what}: {path}")


def _write_files(task: Task, found: Findings) -> None:
    if task.model:
        save(found.recipe.model, task.model)
    if task.page:
        printed = Printed(task.arguments, (task.model or MODEL).name, task.model is not None)
        _write("the page", task.page, page(found, printed))


def predict(model: Path, table: Path, out: Path) -> None:
    """Write a saved model's predictions for the rows of a table, with probabilities.

    Raises
    ------
    UserMistake
        If anything cannot be read or written.
    """
    check_output("the predictions", out, table, model)
    found, unused = predictions(load(model), table)
    if unused:
        print(f"columns that the model does not use: {listed(unused)}")
    _write("the predictions", out, found.to_csv())
    print(f"predictions of {len(found)} rows: {out}")


def progress() -> Say:
    """Return a function that prints a line on stderr, with the seconds since now."""
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - start:7.1f} s  {text}", file=sys.stderr, flush=True)

    return say


def check_output(what: str, path: Path, *others: Path | None) -> None:
    """Raise `UserMistake` if a file cannot be written, or is one of the others."""
    check_writable(what, path)
    if any(other and path.resolve() == other.resolve() for other in others):
        raise UserMistake(f"cannot write {what} to '{path}', which is another file of this command")


def _write(what: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UserMistake(f"cannot write {what} to '{path}': {error.strerror}") from error
