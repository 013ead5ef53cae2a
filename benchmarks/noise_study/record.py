"""What was measured, setting by setting, in a file that grows."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Key(NamedTuple):
    """What is measured at once: a method on a split of a set with labels of a kind."""

    seed: int
    data: str
    labels: str
    method: str


@dataclass(frozen=True)
class Row:
    """One setting of a method: what noisy validation rows and clean test rows say.

    ``_t`` is after a temperature chosen on the validation rows, ``_n`` after one that knows the
    noise. ``lower`` and ``upper`` are the bounds of the error, where they were computed.
    """

    seed: int
    data: str
    labels: str
    method: str
    setting: str
    n_valid: int
    valid_accuracy: float
    valid_brier: float
    accuracy: float
    brier: float
    ece: float
    worst_recall: float
    brier_t: float
    ece_t: float
    brier_n: float
    ece_n: float
    seconds: float
    lower: float = np.nan
    upper: float = np.nan

    @property
    def key(self) -> Key:
        """What this is a setting of."""
        return Key(self.seed, self.data, self.labels, self.method)

    def value(self, name: str) -> float:
        """Return a number of the setting, as in "q=1 lam=3", or NaN."""
        values = dict(part.split("=") for part in self.setting.split())
        return float(values.get(name, np.nan))


KINDS = {"str": str, "int": int, "float": float}


class Record:
    """Rows of a file, by what they are settings of.

    Parameters
    ----------
    path : Path
        Made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, list[Row]] = {}
        if path.exists():
            with path.open(newline="") as file:
                self._keep(_parsed(row) for row in csv.DictReader(file))

    def _keep(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.setdefault(row.key, []).append(row)

    def add(self, rows: list[Row]) -> None:
        """Write rows."""
        self._keep(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(field.name for field in fields(Row))
            writer.writerows(_written(row) for row in rows)


def _written(row: Row) -> list[str]:
    return [_text(value) for value in asdict(row).values()]


def _text(value: str | int | float) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:.4g}"


def _parsed(row: dict[str, str]) -> Row:
    kinds = {field.name: KINDS[str(field.type)] for field in fields(Row)}
    return Row(**{name: kinds[name](text or "nan") for name, text in row.items()})


def best(rows: list[Row]) -> Row:
    """Return the setting of best accuracy on the validation rows, of equal ones the first."""
    return max(rows, key=lambda row: row.valid_accuracy)


def largest_q(rows: list[Row]) -> Row:
    """Return the setting of largest q within one standard error of the best accuracy."""
    top = best(rows)
    error = np.sqrt(top.valid_accuracy * (1.0 - top.valid_accuracy) / top.n_valid)
    near = [row for row in rows if row.valid_accuracy >= top.valid_accuracy - error]
    return max(near, key=lambda row: (row.value("q"), row.valid_accuracy))


def chosen(rows: list[Row]) -> Row:
    """Return the setting that the study goes by: `largest_q` where q is to choose, else `best`."""
    has_q = len({row.value("q") for row in rows if not np.isnan(row.value("q"))}) > 1
    return largest_q(rows) if has_q else best(rows)
