"""A user's own table: read it, and say what is done to its columns and rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np

from mgce_sklearn.commands import UserMistake, check_installed, listed

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",;\t|"

# Rows by which the separator is told.
FIRST_ROWS = 50

# What may stand above the header: blank lines, and the one by which Excel names the separator.
PREFACE = re.compile(rf"(?:[{SEPARATORS} ]*\n|sep=(?P<separator>[^\"\n])\n)*", re.IGNORECASE)

# What stands for a missing number, in small letters.
NO_NUMBERS = ("?", "-", ".", "na", "n/a", "#n/a", "nan", "none", "null", "<na>")

COMMAS_FOR_POINTS = str.maketrans(",.", ".,")

# A column of numbers with more distinct values than this is a quantity, not a set of classes.
MOST_NUMERIC_CLASSES = 30

# Smaller classes cannot be split into folds within folds.
FEWEST_ROWS_OF_A_CLASS = 10


@dataclass(frozen=True)
class Column:
    """A column of the table as it came, and what becomes of it.

    Attributes
    ----------
    name : str
    is_numeric : bool
    n_missing, n_distinct : int
        Missing values, and different ones among the others.
    left_out : str
        Why the column is not learned from; "" if it is.
    """

    name: str
    is_numeric: bool
    n_missing: int
    n_distinct: int
    left_out: str


@dataclass(frozen=True)
class Table:
    """What can be learned from a file.

    Attributes
    ----------
    name, target : str
        Of the file and of the column of labels.
    words : DataFrame
        Every column as written, of the rows that have a usable label. The index counts the rows
        of the file from 1.
    features : DataFrame
        The columns learned from, of the same rows; numbers as such.
    labels : Series
        Classes as written, of the same rows.
    columns : list of Column
    notes : list of str
        What was done to columns and rows, a sentence each.
    """

    name: str
    target: str
    words: pd.DataFrame
    features: pd.DataFrame
    labels: pd.Series
    columns: list[Column]
    notes: list[str]


def read_table(path: Path, target: str | None) -> Table:
    """Read a table's usable columns and its labels.

    Raises
    ------
    UserMistake
        If the file or the column cannot be used.
    """
    words, decimal_commas = read_csv(path)
    if target is None or target not in words:
        raise _no_target(path, target, list(words))
    frame = with_numbers(words, decimal_commas)
    check_no_quantity(frame[target])
    # Columns first: a number for each row shows as one only while no row is left out.
    columns = [_column(frame[name]) for name in frame if name != target]
    used = [column.name for column in columns if not column.left_out]
    if not used:
        raise UserMistake("no column is left to learn from: add one whose values repeat")
    labels, notes = usable_labels(words[target])
    features = frame.loc[labels.index, used]
    return Table(
        name=path.name,
        target=target,
        words=words.loc[labels.index],
        features=features,
        labels=labels,
        columns=columns,
        notes=[
            *_notes_on_columns(columns),
            *notes,
            *_notes_on_copies(features.assign(**{target: labels})),
        ],
    )


def _no_target(path: Path, target: str | None, names: list[str]) -> UserMistake:
    """Return the mistake of a target that is no column, with the name that may be meant."""
    if target is None:
        lack = "needs the name of a target column"
    else:
        lack = f"has no column '{target}'"
        by_small_letters = {name.lower(): name for name in reversed(names)}
        near = get_close_matches(target.lower(), by_small_letters, n=1)
        lack += f" (did you mean '{by_small_letters[near[0]]}'?)" if near else ""
    return UserMistake(f"'{path}' {lack}; its columns are: {listed(names)}")


def _column(column: pd.Series) -> Column:
    return Column(
        name=column.name,
        is_numeric=is_numeric(column),
        n_missing=int(column.isna().sum()),
        n_distinct=column.nunique(),
        left_out=why_left_out(column),
    )


def read_csv(path: Path) -> tuple[pd.DataFrame, bool]:
    """Read a table of words, and tell whether commas may mark decimals: beside semicolons.

    Empty cells are missing. Spaces around words do not count.
    """
    check_installed("reading a table", "report", "pandas")
    import pandas as pd

    text, separator = _without_preface(_read_text(path))
    _, header = next(_rows(text, separator), (0, []))
    if not header:
        raise UserMistake(f"'{path}' is empty: it needs a header line and rows")
    try:
        cells = pd.read_csv(
            StringIO(text),
            sep=separator,
            header=None,
            names=range(len(header) + 1),  # one more, because rows may end with a separator
            index_col=False,
            dtype=str,
            na_filter=False,
            skipinitialspace=True,
        )
    except pd.errors.ParserError as error:
        raise _not_a_table(path, text, separator, str(error).strip()) from error
    cells = cells.apply(lambda column: column.str.strip())
    cells = cells.mask(cells == "").dropna(how="all")
    if cells.iloc[:, -1].notna().any():
        raise _not_a_table(path, text, separator, "a row is longer than the header")
    if len(cells) == 1:
        raise UserMistake(f"'{path}' has a header but no rows")
    return _with_names(path, cells.iloc[1:], cells.iloc[0]), separator == ";"


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserMistake(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserMistake(f"'{path}' is not text in UTF-8: save it as a UTF-8 CSV file")
    return text


def _without_preface(text: str) -> tuple[str, str]:
    """Return a table from its header on, with blank lines for those above it, and its separator."""
    preface = PREFACE.match(text)
    assert preface is not None  # it matches nothing, too
    text = "\n" * preface[0].count("\n") + text[preface.end() :]
    return text, preface["separator"] or max(SEPARATORS, key=lambda mark: _n_columns(text, mark))


def _n_columns(text: str, separator: str) -> int:
    """Return how many columns a table has by header and rows, if this separates them."""
    lengths = [len(row) for _, row in islice(_rows(text, separator), FIRST_ROWS)]
    return min(lengths[0], median_low(lengths)) if lengths else 0


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its last line."""
    reader = csv.reader(StringIO(text), delimiter=separator, skipinitialspace=True)
    with suppress(csv.Error):  # of a quote that does not end pandas tells
        for row in reader:
            if any(row):
                yield reader.line_num, row


def _not_a_table(path: Path, text: str, separator: str, otherwise: str) -> UserMistake:
    """Return the mistake that names the first row longer than the header, or says otherwise."""
    rows = _rows(text, separator)
    _, header = next(rows)
    for line, row in rows:
        if any(row[len(header) :]):
            otherwise = (
                f"line {line} has {len(row)} cells and the header {len(header)}, so quote cells "
                f"that contain '{separator}', or name every column"
            )
            break
    return UserMistake(f"'{path}' is not a table: {otherwise}")


def _with_names(path: Path, frame: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Return columns under their names; one without a name is numbered if anything is in it."""
    kept = names.notna() | frame.notna().any()
    numbered = [f"column {i + 1}" for i in range(len(names))]
    frame = frame.loc[:, kept].set_axis(names.where(names.notna(), numbered)[kept], axis=1)
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserMistake(f"'{path}' has two columns '{twice[0]}': give each a name of its own")
    return frame


def with_numbers(words: pd.DataFrame, decimal_commas: bool) -> pd.DataFrame:
    """Return columns of numbers as such: by the decimal mark that makes more of them."""
    marks = ".," if decimal_commas else "."
    frames = [words.apply(_numbers_or_words, args=(mark,)) for mark in marks]
    return max(frames, key=lambda frame: sum(is_numeric(frame[name]) for name in frame))


def _numbers_or_words(column: pd.Series, mark: str) -> pd.Series:
    """Return a column as numbers if its words are, but for those that stand for none."""
    import pandas as pd

    words = column.mask(column.str.lower().isin(NO_NUMBERS))
    if mark == ",":
        words = words.str.translate(COMMAS_FOR_POINTS)  # and points are no numbers
    numbers = pd.to_numeric(words, errors="coerce")
    if words.isna().all() or numbers.count() < words.count():
        return column
    return numbers.where(np.isfinite(numbers))


def check_no_quantity(column: pd.Series) -> None:
    """Raise `UserMistake` if a target has too many numbers to be a class."""
    if is_numeric(column) and column.nunique() > MOST_NUMERIC_CLASSES:
        raise UserMistake(
            f"'{column.name}' has {column.nunique()} distinct numbers, and this is a classifier: "
            "choose a column of classes, or cut the numbers into a few (pandas.cut)"
        )


def why_left_out(column: pd.Series) -> str:
    """Return why a column cannot tell rows apart without naming them, or "" if it can."""
    if column.nunique(dropna=False) <= 1:
        return "constant"
    if _numbers_rows(column):
        return "a number for each row"
    if not is_numeric(column) and 2 * column.nunique() > column.count():
        return "text that hardly repeats, such as names, dates, numbers with units or free text"
    return ""


def _notes_on_columns(columns: list[Column]) -> list[str]:
    left_out: dict[str, list[str]] = {}
    for column in columns:
        left_out.setdefault(column.left_out, []).append(column.name)
    left_out.pop("", None)
    notes = [f"left out, {reason}: {listed(names)}" for reason, names in left_out.items()]
    missing = [c for c in columns if c.n_missing and not c.left_out]
    if missing:
        notes.append(
            "missing values, by column (numbers: filled with the median, and a column that says "
            "so; text: a category of its own): "
            + listed([f"{column.name} ({column.n_missing})" for column in missing])
        )
    return notes


def _notes_on_copies(rows: pd.DataFrame) -> list[str]:
    """Say how many rows could be held out while a copy of them is learned from."""
    copies = int(rows.duplicated().sum())
    if copies == 0:
        return []
    return [f"rows that repeat an earlier one in all columns that are used: {copies} (kept)"]


def usable_labels(column: pd.Series) -> tuple[pd.Series, list[str]]:
    """Return labels that are neither missing nor of too small a class, and what was left out."""
    labels = column.dropna()
    notes = []
    if len(labels) < len(column):
        notes.append(f"left out, '{column.name}' is missing: {len(column) - len(labels)} rows")
    counts = labels.value_counts()
    small = counts[counts < FEWEST_ROWS_OF_A_CLASS]
    if len(counts) - len(small) < 2:
        raise UserMistake(
            f"'{column.name}' needs two classes of at least {FEWEST_ROWS_OF_A_CLASS} rows each "
            f"and has {len(counts) - len(small)}: choose another column or add rows"
        )
    if len(small):
        named = listed([f"{name} ({count})" for name, count in small.items()])
        notes.append(f"left out, classes of fewer than {FEWEST_ROWS_OF_A_CLASS} rows: {named}")
    return labels[~labels.isin(small.index)], notes


def is_numeric(column: pd.Series) -> bool:
    """Tell whether a column holds numbers."""
    return column.dtype.kind in "iuf"


def _numbers_rows(column: pd.Series) -> bool:
    """Whether these are whole numbers, all different and without holes."""
    return (
        column.dtype.kind in "iu"
        and column.is_unique
        and int(column.max()) - int(column.min()) == len(column) - 1
    )
