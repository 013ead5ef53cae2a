"""Models in files: what they are made of, and predictions of a saved one for a new table."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline

from mgce_sklearn import MGCEStackingClassifier
from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.commands import UserMistake, check_installed, listed
from mgce_sklearn.report.columns import TableColumns, category_name
from mgce_sklearn.report.table import read_csv, with_numbers
from mgce_sklearn.sketch import RowSketch
from mgce_sklearn.solvers.base import TracePoint
from mgce_sklearn.uncertainty import ClassMoments, Moments, UncertaintySet

if TYPE_CHECKING:
    import pandas as pd

# What skops is to trust beyond what it trusts of itself: our types, and two that forests need.
TRUSTED = [
    *(
        f"{kind.__module__}.{kind.__name__}"
        for kind in (
            ClassMoments,
            MGCEClassifier,
            MGCEStackingClassifier,
            Moments,
            RowSketch,
            TableColumns,
            TracePoint,
            UncertaintySet,
            category_name,
        )
    ),
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
]


def save(model: Pipeline, path: Path) -> None:
    """Write a fitted pipeline to a file.

    Raises
    ------
    UserMistake
        If the file cannot be written.
    """
    import skops.io

    try:
        skops.io.dump(model, path, compression=zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise UserMistake(f"cannot write a model to '{path}': {error.strerror}") from error


def load(path: Path) -> Pipeline:
    """Read a pipeline that `save` wrote, and nothing that has other types.

    Raises
    ------
    UserMistake
        If the file cannot be read, or is no such model.
    """
    check_installed("a saved model", "report", "skops")
    import skops.io

    try:
        foreign = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED)
        model = None if foreign else skops.io.load(path, trusted=TRUSTED)
    except OSError as error:
        raise UserMistake(f"cannot read '{path}': {error.strerror}") from error
    except Exception as error:  # a file may be damaged in many ways
        raise UserMistake(
            f"'{path}' is not a model that --save wrote with these versions: {type(error).__name__}"
        ) from error
    if foreign:
        raise UserMistake(
            f"'{path}' is not loaded, because it has types that --save does not write: "
            f"{listed(sorted(foreign))}"
        )
    if not (isinstance(model, Pipeline) and isinstance(model[0], Pipeline)):
        raise UserMistake(f"'{path}' holds a {type(model).__name__}, and not what --save writes")
    return model


def read_rows(path: str | Path, model: Pipeline) -> pd.DataFrame:
    """Read a table as a saved model expects it: its columns of numbers as such, others as written.

    Raises
    ------
    UserMistake
        If the table cannot be read.
    """
    words, decimal_commas = read_csv(Path(path))
    # A column of text may have but numbers in these rows: it stays as it is written.
    return words.assign(**_only(with_numbers(words, decimal_commas), model[0][0].numbers))


def predictions(model: Pipeline, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Predict the rows of a table; return a row for each, and the columns that were not used.

    Raises
    ------
    UserMistake
        If the table cannot be read, or is not like the one of the fit.
    """
    import pandas as pd

    table = read_rows(path, model)
    try:
        labels, proba = model.predict(table), model.predict_proba(table)
    except ValueError as error:
        raise UserMistake(f"'{path}' is not like the table of the fit: {error}") from error
    found = pd.DataFrame(proba, table.index, [f"probability of {name}" for name in model.classes_])
    found.insert(0, "prediction", labels)
    columns: TableColumns = model[0][0]
    used = {*columns.numbers, *columns.words}
    return found.rename_axis("row"), [name for name in table if name not in used]


def _only(frame: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    return {name: frame[name] for name in names if name in frame}
