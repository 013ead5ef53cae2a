"""From a table's columns to standardized numbers and indicators, as a transformer that is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn.report.table import is_numeric

if TYPE_CHECKING:
    import pandas as pd

# Categories of a column that are rarer share one column; they could not be learned apart.
RAREST_CATEGORY = 0.01

MISSING = "(missing)"


class TableColumns(TransformerMixin, BaseEstimator):
    """Columns of a table by name: numbers in units of the column's own, all others as text.

    Other columns are ignored, and the order of columns does not matter. Missing text is
    a category, "(missing)".

    Parameters
    ----------
    numbers : list of str
        Names of columns of numbers. Each is divided by the power of two above its largest
        absolute value, so that no square of a number overflows or vanishes, and nothing is rounded.
    words : list of str
        Names of the others.

    Attributes
    ----------
    exponents_ : list of int
        Of these powers of two.
    """

    def __init__(self, numbers: list[str], words: list[str]) -> None:
        self.numbers = numbers
        self.words = words

    def fit(self, X: pd.DataFrame, y: Any = None) -> TableColumns:
        """Find the units of columns of numbers.

        Raises
        ------
        ValueError
            If a column is not there, or a column of numbers has something else.
        """
        largest = [self._numbers_of(X, name).abs().max() for name in self.numbers]
        self.exponents_ = np.frexp(np.nan_to_num(largest))[1].tolist()
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the columns by name, of rows whose numbers are finite or missing.

        Raises
        ------
        ValueError
            As `fit`.
        """
        import pandas as pd

        check_is_fitted(self)
        self._check_names(X)
        units = zip(self.numbers, self.exponents_, strict=True)
        columns = {name: np.ldexp(self._numbers_of(X, name), -unit) for name, unit in units}
        columns |= {name: _text(X[name]) for name in self.words}
        return pd.DataFrame(columns, index=X.index)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return the names of the columns."""
        return np.array([*self.numbers, *self.words], dtype=object)

    def _check_names(self, X: Any) -> None:
        names = getattr(X, "columns", ())
        lacking = [name for name in (*self.numbers, *self.words) if name not in names]
        if lacking:
            raise ValueError(
                f"X must be a table with the columns of the fit; it lacks {', '.join(lacking)}."
            )

    def _numbers_of(self, X: pd.DataFrame, name: str) -> pd.Series:
        import pandas as pd

        self._check_names(X)
        numbers = pd.to_numeric(X[name], errors="coerce").astype(float)
        wrong = X[name][numbers.isna() & X[name].notna()]
        if len(wrong):
            raise ValueError(
                f"column '{name}' must hold numbers or nothing, as in the fit; got "
                f"'{wrong.iloc[0]}' in row {wrong.index[0]}."
            )
        return numbers.where(np.isfinite(numbers))


def _text(column: pd.Series) -> pd.Series:
    cells = column.astype(object)
    return cells.where(cells.notna(), MISSING).astype(str).astype(object)


def preprocessing(features: pd.DataFrame) -> Pipeline:
    """Return the unfitted transformer of a table's columns to (n, d) numbers."""
    numeric = [name for name in features if is_numeric(features[name])]
    text = [name for name in features if name not in numeric]
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
    )
    indicators = OneHotEncoder(
        min_frequency=RAREST_CATEGORY,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
        feature_name_combiner=category_name,
    )
    return make_pipeline(
        TableColumns(numeric, text),
        ColumnTransformer([("numbers", numbers, numeric), ("words", indicators, text)]),
    )


def category_name(column: str, category: Any) -> str:
    """Return the name of an indicator."""
    return f"{column} = {'(rare)' if category == 'infrequent_sklearn' else category}"


def names_out(fitted: Pipeline) -> list[str]:
    """Return a readable name for each column that `preprocessing` makes."""
    names = [name.partition("__") for name in fitted[-1].get_feature_names_out()]
    return [_readable(kind, name) for kind, _, name in names]


def _readable(kind: str, name: str) -> str:
    column = name.removeprefix("missingindicator_")
    return name if kind == "words" or column == name else f"{column} is missing"
