"""The page: one HTML file that needs no network, and in which nothing of a table can run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from mgce_sklearn import __version__
from mgce_sklearn.bounds import RULES
from mgce_sklearn.report import figures
from mgce_sklearn.report.columns import MISSING
from mgce_sklearn.report.measure import DOUBT, MANY_ROWS, N_FOLDS, Findings
from mgce_sklearn.report.table import Column
from mgce_sklearn.report.words import NAMES, verdict

N_DOUBTS = 25
N_COEFFICIENTS = 20
N_COLUMNS = 30
N_CLASSES = 30
LONGEST_CELL = 120


@dataclass(frozen=True)
class Printed:
    """How a page came to be.

    Attributes
    ----------
    arguments : sequence of str
        Of the command line.
    model : str
        Name of the file of the saved model, or of one to save it in.
    is_saved : bool
    """

    arguments: Sequence[str]
    model: str
    is_saved: bool


def page(found: Findings, printed: Printed) -> str:
    """Return the report as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    template = (files("mgce_sklearn.report") / "page.html").read_text("utf-8")
    table = found.table
    return environment.from_string(template).render(
        found=found,
        table=table,
        printed=printed,
        verdict=verdict(found),
        names=NAMES,
        classes=table.labels.value_counts().items(),
        n_classes=table.labels.nunique(),
        most_classes=N_CLASSES,
        shown_doubts=[(each, table.words.loc[each.row]) for each in found.doubts[:N_DOUBTS]],
        shown_columns=[name for name in table.words if name != table.target][:N_COLUMNS],
        shown_coefficients=found.coefficients[:N_COEFFICIENTS],
        uses=[(column, use_of(column, table.features)) for column in table.columns],
        reliability=figures.reliability(found),
        bounds=figures.bounds(found),
        rules=RULES,
        doubt=DOUBT,
        many_rows=MANY_ROWS,
        usual_folds=N_FOLDS,
        version=__version__,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        command=shlex.join(["python", "-m", "mgce_sklearn", *printed.arguments]),
    )


def cell(value: Any) -> str:
    """Return what a table's cell shows: its first letters, and nothing of what is missing."""
    text = "" if value is None or value != value else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


def use_of(column: Column, features: Any) -> str:
    """Return what became of a column."""
    if column.left_out:
        return f"left out: {column.left_out}"
    if not column.is_numeric:
        return "categories" + (f"; missing is one, “{MISSING}”" if column.n_missing else "")
    if not column.n_missing:
        return "a number"
    median = features[column.name].median()
    return f"a number; missing: filled with the median, {median:g}, and told by another column"
