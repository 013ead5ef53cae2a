"""A user's own table: read it, say what was done to its columns, and make a sample of it."""

from __future__ import annotations

from pathlib import Path
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

# A column of numbers with more distinct values than this is a quantity, not a set of classes.
MOST_NUMERIC_CLASSES = 30

# Smaller classes cannot be split three ways for a search and held out as well.
FEWEST_ROWS_OF_A_CLASS = 10

# Categories of a column that are rarer share one column; they could not be learnt apart.
RAREST_CATEGORY = 0.01

MISSING = "(missing)"


def sample_from_csv(path: Path, target: str | None) -> Sample:
    """Read a table and hold out rows; what is done to it is printed.

    Raises
    ------
    UserMistake
        If the file or the column cannot be used.
    """
    frame = read_csv(path)
    if target is None or target not in frame:
        lack = f"has no column '{target}'" if target else "needs the name of a target column"
        raise UserMistake(f"'{path}' {lack}; its columns are: {', '.join(frame.columns)}")
    print(f"{path.name}: {len(frame)} rows, {frame.shape[1]} columns, target '{target}'")
    # Columns first: a number for each row shows as one only while no row is left out.
    features = usable_columns(frame.drop(columns=target))
    labels = usable_labels(frame[target])
    features = features.loc[labels.index]
    return Sample.split(path.name, preprocessing(features), features, labels.to_numpy())


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table with a header, separated by commas, semicolons or tabs."""
    try:
        import pandas as pd
    except ModuleNotFoundError as missing:
        raise UserMistake(
            "reading a table needs pandas: pip install 'mgce_sklearn[demo]'"
        ) from missing
    try:
        with path.open(encoding="utf-8") as lines:
            header = lines.readline()
        frame = pd.read_csv(
            path,
            sep=max(",;\t", key=header.count),
            na_values="?",
            skipinitialspace=True,
            low_memory=False,  # one type for a whole column, however long
        )
    except OSError as error:
        raise UserMistake(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserMistake(f"'{path}' is not text in UTF-8: save it as a UTF-8 CSV file") from error
    except pd.errors.EmptyDataError as error:
        raise UserMistake(f"'{path}' is empty: it needs a header line and rows") from error
    except pd.errors.ParserError as error:
        raise UserMistake(f"'{path}' is not a table: {str(error).strip()}") from error
    if frame.empty:
        raise UserMistake(f"'{path}' has a header but no rows")
    return frame.rename(columns=lambda name: str(name).strip())


def usable_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns that can tell rows apart without naming them; missing text named."""
    frame = frame.replace([np.inf, -np.inf], np.nan)
    for reason, test in (
        ("constant", _is_constant),
        ("a number for each row", _numbers_rows),
        ("text that hardly repeats, such as names, dates or free text", _hardly_repeats),
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
    text = frame[[name for name in frame if not _is_numeric(frame[name])]]
    return frame.assign(**text.astype(object).where(text.notna(), MISSING).astype(str))


def usable_labels(column: pd.Series) -> pd.Series:
    """Return the labels, without missing ones and those of classes that are too small."""
    if _is_numeric(column) and column.nunique() > MOST_NUMERIC_CLASSES:
        raise UserMistake(
            f"'{column.name}' has {column.nunique()} distinct numbers, and this is a classifier: "
            "choose a column of classes, or cut the numbers into a few (pandas.cut)"
        )
    known = column.dropna()
    if len(known) < len(column):
        print(f"left out, '{column.name}' is missing: {len(column) - len(known)} rows")
    # Missing values had made floats of integers; convert_dtypes takes that back.
    labels = known.convert_dtypes()
    labels = labels.astype(int if labels.dtype.kind in "iu" else str)
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
    """Return the transformer from columns to standardised numbers and indicators."""
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
