"""A user's own table: read it, say what was done to its columns, and make a sample of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mgce_sklearn.demo import UserMistake
from mgce_sklearn.demo.sample import Sample

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

# Smaller classes cannot be split three ways for a search and held out as well.
FEWEST_ROWS_OF_A_CLASS = 10

# Categories of a column that are rarer share one column; they could not be learned apart.
RAREST_CATEGORY = 0.01

MISSING = "(missing)"


def sample_from_csv(path: Path, target: str | None) -> Sample:
    """Read a table and hold out rows; see `labeled_columns`."""
    features, labels = labeled_columns(path, target)
    return Sample.split(path.name, preprocessing(features), features, labels.to_numpy())


def labeled_columns(path: Path, target: str | None) -> tuple[pd.DataFrame, pd.Series]:
    """Read a table's usable columns and its labels; what is done to it is printed.

    Raises
    ------
    UserMistake
        If the file or the column cannot be used.
    """
    words, decimal_commas = read_csv(path)
    if target is None or target not in words:
        lack = f"has no column '{target}'" if target else "needs the name of a target column"
        raise UserMistake(f"'{path}' {lack}; its columns are: {_listed(list(words))}")
    print(f"{path.name}: {len(words)} rows, {words.shape[1]} columns, target '{target}'")
    frame = with_numbers(words, decimal_commas)
    check_no_quantity(frame[target])
    # Columns first: a number for each row shows as one only while no row is left out.
    features = usable_columns(frame.drop(columns=target))
    labels = usable_labels(words[target])
    return features.loc[labels.index], labels


def read_csv(path: Path) -> tuple[pd.DataFrame, bool]:
    """Read a table of words, and tell whether commas may mark decimals: beside semicolons.

    Empty cells are missing. Spaces around words do not count.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as missing:
        raise UserMistake(
            "reading a table needs pandas: pip install 'mgce_sklearn[plot]'"
        ) from missing
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
    return max(frames, key=lambda frame: sum(_is_numeric(frame[name]) for name in frame))


def _numbers_or_words(column: pd.Series, mark: str) -> pd.Series:
    """Return a column as numbers if its words are, but for those that stand for none."""
    import pandas as pd

    words = column.mask(column.str.lower().isin(NO_NUMBERS))
    if mark == ",":
        words = words.str.translate(COMMAS_FOR_POINTS)  # and points are no numbers
    numbers = pd.to_numeric(words, errors="coerce")
    return numbers if words.notna().any() and numbers.count() == words.count() else column


def check_no_quantity(column: pd.Series) -> None:
    """Raise `UserMistake` if a target has too many numbers to be a class."""
    if _is_numeric(column) and column.nunique() > MOST_NUMERIC_CLASSES:
        raise UserMistake(
            f"'{column.name}' has {column.nunique()} distinct numbers, and this is a classifier: "
            "choose a column of classes, or cut the numbers into a few (pandas.cut)"
        )


def usable_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns that can tell rows apart without naming them; missing text named.

    Numbers are in units of the column's own, so that no square of theirs overflows or vanishes.
    """
    frame = frame.replace([np.inf, -np.inf], np.nan)
    for reason, test in (
        ("constant", _is_constant),
        ("a number for each row", _numbers_rows),
        (
            "text that hardly repeats, such as names, dates, numbers with units or free text",
            _hardly_repeats,
        ),
    ):
        names = [name for name in frame if test(frame[name])]
        _print_named(f"left out, {reason}", names)
        frame = frame.drop(columns=names)
    if frame.shape[1] == 0:
        raise UserMistake("no column is left to learn from: add one whose values repeat")
    missing = frame.isna().sum()
    _print_named(
        "missing values, by column (numbers: filled with the median, and a column that says so; "
        "text: a category of its own)",
        [f"{name} ({count})" for name, count in missing[missing > 0].items()],
    )
    return frame.apply(
        lambda column: _in_own_units(column) if _is_numeric(column) else column.fillna(MISSING)
    )


def usable_labels(column: pd.Series) -> pd.Series:
    """Return the labels, without missing ones and those of classes that are too small."""
    labels = column.dropna()
    if len(labels) < len(column):
        print(f"left out, '{column.name}' is missing: {len(column) - len(labels)} rows")
    counts = labels.value_counts()
    small = counts[counts < FEWEST_ROWS_OF_A_CLASS]
    if len(counts) - len(small) < 2:
        raise UserMistake(
            f"'{column.name}' needs two classes of at least {FEWEST_ROWS_OF_A_CLASS} rows each "
            f"and has {len(counts) - len(small)}: choose another column or add rows"
        )
    _print_named(
        f"left out, classes of fewer than {FEWEST_ROWS_OF_A_CLASS} rows",
        [f"{name} ({count})" for name, count in small.items()],
    )
    return labels[~labels.isin(small.index)]


def preprocessing(frame: pd.DataFrame) -> Any:
    """Return the transformer from columns to standardized numbers and indicators."""
    numeric = [name for name in frame if _is_numeric(frame[name])]
    text = [name for name in frame if name not in numeric]
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    indicators = OneHotEncoder(
        min_frequency=RAREST_CATEGORY, handle_unknown="infrequent_if_exist", sparse_output=False
    )
    return make_column_transformer((numbers, numeric), (indicators, text))


def _is_numeric(column: pd.Series) -> bool:
    return column.dtype.kind in "iuf"


def _in_own_units(column: pd.Series) -> pd.Series:
    """Return numbers divided by the power of two above the largest, which rounds nothing."""
    _, exponent = np.frexp(column.abs().max())
    return np.ldexp(column.astype(float), -exponent)


def _is_constant(column: pd.Series) -> bool:
    return column.nunique(dropna=False) <= 1


def _numbers_rows(column: pd.Series) -> bool:
    """Whether these are whole numbers, all different and without holes."""
    return (
        column.dtype.kind in "iu"
        and column.is_unique
        and int(column.max()) - int(column.min()) == len(column) - 1
    )


def _hardly_repeats(column: pd.Series) -> bool:
    return not _is_numeric(column) and 2 * column.nunique() > column.count()


def _print_named(what: str, names: list[str]) -> None:
    if names:
        print(f"{what}: {_listed(names)}")


def _listed(names: list[str]) -> str:
    """Join names with commas, twenty at most."""
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more
