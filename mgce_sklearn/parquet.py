"""Rows of Parquet files as arrays, read block by block, any number of times."""

from __future__ import annotations

import glob
import os
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgce_sklearn.parallel import one_blas_thread

Array = np.ndarray[Any, Any]

# Features, labels and weights.
Block = tuple[Array, Array | None, Array | None]

# Numbers decoded at a time. Transposing is faster for arrays that fit in a processor's cache.
NUMBERS_AT_A_TIME = 2**19

# Bytes of a column read at a time. Without a limit, pyarrow reads a whole row group.
BUFFER_SIZE = 2**16


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises
    ------
    ImportError
        If they are not installed: ``pip install 'mgce_sklearn[parquet]'``.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "RowBlocks.from_parquet needs pyarrow: pip install 'mgce_sklearn[parquet]'."
        ) from None
    return pyarrow, pyarrow.parquet


@dataclass(frozen=True)
class ParquetRows:
    """Rows of Parquet files. Every iteration reads the files again, in blocks (X, y, weight).

    Attributes
    ----------
    files : tuple of str
        Names of the files.
    feature_names : tuple of str
        Columns of X, in this order.
    target, sample_weight : str or None
        Columns of labels and of weights.
    dtype : dtype
        Precision of X: float32 or float64.
    rows_per_block : int
        Number of rows of every block except the last. It does not depend on the row groups of the
        files.
    """

    files: tuple[str, ...]
    feature_names: tuple[str, ...]
    target: str | None
    sample_weight: str | None
    dtype: np.dtype
    rows_per_block: int

    @classmethod
    def open(
        cls,
        path: Any,
        target: str | None,
        columns: Iterable[str] | None,
        sample_weight: str | None,
        rows_per_block: int,
    ) -> ParquetRows:
        """Find the files, and check that all of them have the columns.

        Raises
        ------
        ImportError, TypeError, ValueError
            If pyarrow is not installed, or if a file or a column is missing or has a wrong type.
        """
        files = find_files(path)
        schemas = [_schema(file) for file in files]
        special = [name for name in (target, sample_weight) if name is not None]
        names = _default_columns(schemas[0], special) if columns is None else _listed(columns)
        _check_choice(names, special)
        numbers = [name for name in (*names, sample_weight) if name is not None]
        for file, schema in zip(files, schemas, strict=True):
            _check_present(file, schema, [*names, *special])
            _check_numbers(file, schema, numbers)
            _check_labels(file, schema, target)
        _check_one_kind(files, schemas, target)
        dtype = _dtype(schema.field(name).type for schema in schemas for name in names)
        return cls(files, names, target, sample_weight, dtype, rows_per_block)

    def __iter__(self) -> Iterator[Block]:
        number, n, X = 0, 0, self._empty()
        parts: list[tuple[Array | None, Array | None]] = []
        for batch in self._batches():
            while len(batch):
                piece = batch.slice(0, self.rows_per_block - n)
                batch = batch.slice(len(piece))
                self._check_nulls(piece, number)
                X[n : n + len(piece)] = self._features(piece)
                parts.append((self._labels(piece), self._weights(piece)))
                n += len(piece)
                if n == self.rows_per_block:
                    yield _block(X, parts)
                    number, n, X, parts = number + 1, 0, self._empty(), []
        if n:
            yield _block(X[:n], parts)

    def _empty(self) -> Array:
        return np.empty((self.rows_per_block, len(self.feature_names)), self.dtype)

    def _batches(self) -> Iterator[Any]:
        """Yield small record batches of all files."""
        arrow, parquet = import_pyarrow()
        columns = [*self.feature_names, *self._special()]
        size = min(self.rows_per_block, max(1024, NUMBERS_AT_A_TIME // len(columns)))
        with one_blas_thread() as n_threads:  # the number that joblib and threadpoolctl set
            threads = min(n_threads, arrow.cpu_count()) > 1
        for name in self.files:
            with parquet.ParquetFile(name, pre_buffer=False, buffer_size=BUFFER_SIZE) as file:
                yield from file.iter_batches(size, None, columns, threads)

    def _special(self) -> list[str]:
        return [name for name in (self.target, self.sample_weight) if name is not None]

    def _check_nulls(self, piece: Any, number: int) -> None:
        columns = zip(piece.schema.names, piece.columns, strict=True)
        empty = [name for name, column in columns if column.null_count]
        if empty:
            raise ValueError(
                f"Block {number}: columns must have a value in every row; {_quoted(empty)} "
                "lacks some. Impute the values, or drop such rows, before writing the files."
            )

    def _features(self, piece: Any) -> Array:
        arrow, _ = import_pyarrow()
        wanted = arrow.from_numpy_dtype(self.dtype)
        columns = [
            column if column.type == wanted else column.cast(wanted, safe=False)
            for column in piece.select(self.feature_names).columns
        ]
        return arrow.RecordBatch.from_arrays(columns, self.feature_names).to_tensor().to_numpy()

    def _labels(self, piece: Any) -> Array | None:
        """Return labels as an ndarray. Equal strings are converted only once."""
        if self.target is None:
            return None
        arrow, _ = import_pyarrow()
        labels = piece.column(self.target)
        if arrow.types.is_primitive(labels.type):
            return labels.to_numpy(zero_copy_only=False)
        if not arrow.types.is_dictionary(labels.type):
            labels = labels.dictionary_encode()
        return np.asarray(labels.dictionary.to_pylist())[labels.indices.to_numpy()]

    def _weights(self, piece: Any) -> Array | None:
        if self.sample_weight is None:
            return None
        return piece.column(self.sample_weight).cast("float64", safe=False).to_numpy()


def _block(X: Array, parts: list[tuple[Array | None, Array | None]]) -> Block:
    """Return rows with their labels and weights, which are joined from parts."""
    y, weight = (
        None if arrays[0] is None else np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    return X, y, weight


def find_files(path: Any) -> tuple[str, ...]:
    """Return the sorted names of the files of a path, a folder, a glob, or a list of paths.

    Raises
    ------
    TypeError, ValueError
        If the path is invalid, or if there are no files.
    """
    if not isinstance(path, (str, os.PathLike)) and not np.iterable(path):
        raise TypeError(
            "path must be a Parquet file, a folder of such files, a glob, or a list of paths; got "
            f"{path!r}."
        )
    files = _matching(path) if isinstance(path, (str, os.PathLike)) else list(map(os.fspath, path))
    missing = [file for file in files if not os.path.isfile(file)]
    if missing or not files:
        raise ValueError(
            f"path must lead to Parquet files; there are none at {missing[0] if missing else path}."
            " In a folder, files that end in .parquet are read. For files in subfolders try a glob "
            "such as 'folder/**/*.parquet'."
        )
    return tuple(sorted(files))


def _matching(path: str | os.PathLike[str]) -> list[str]:
    name = os.fspath(path)
    if os.path.isdir(name):
        name = os.path.join(glob.escape(name), "*.parquet")
    return [name] if os.path.isfile(name) else glob.glob(name, recursive=True)


def _schema(file: str) -> Any:
    arrow, parquet = import_pyarrow()
    try:
        return parquet.read_schema(file)
    except arrow.ArrowException as error:
        raise ValueError(f"{file} must be a Parquet file; pyarrow raised: {error}") from None


def _default_columns(schema: Any, special: list[str]) -> tuple[str, ...]:
    """Return all names except those of labels, of weights, and of the index of pandas."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return tuple(name for name in schema.names if name not in special and name not in index)


def _listed(columns: Any) -> tuple[str, ...]:
    if isinstance(columns, str) or not np.iterable(columns):
        raise TypeError(f"columns must be a list of names, or None for all; got {columns!r}.")
    return tuple(columns)


def _check_choice(names: tuple[str, ...], special: list[str]) -> None:
    """Raise ValueError unless X has columns, and every column has only one use."""
    every = [*names, *special]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice or not names:
        raise ValueError(
            "columns must have at least one name, and every name must occur once in columns, "
            f"target and sample_weight; got {_quoted(twice or names)}"
            f"{' more than once' if twice else ''}."
        )


def _check_present(file: str, schema: Any, names: list[str]) -> None:
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise ValueError(
            f"{file} must have the columns {_quoted(missing)}; it has {_quoted(schema.names)}."
        )


def _check_numbers(file: str, schema: Any, names: list[str]) -> None:
    other = [name for name in names if not _is_number(schema.field(name).type)]
    if other:
        raise ValueError(
            f"{file} must have numbers in the columns of X and in weights; {_quoted(other)} have "
            f"other types, the first {schema.field(other[0]).type}. Encode text as numbers, or "
            "leave it out of columns."
        )


def _check_labels(file: str, schema: Any, target: str | None) -> None:
    if target is not None and import_pyarrow()[0].types.is_nested(schema.field(target).type):
        raise ValueError(
            f"{file} must have one label for each row in {target!r}; got "
            f"{schema.field(target).type}. Name a column of numbers or strings."
        )


def _check_one_kind(files: Iterable[str], schemas: list[Any], target: str | None) -> None:
    """Raise ValueError if labels are numbers in one file and strings in another."""
    if target is None:
        return
    are_numbers = [_holds_numbers(schema.field(target).type) for schema in schemas]
    if len(set(are_numbers)) > 1:
        strange = list(files)[are_numbers.index(not are_numbers[0])]
        raise ValueError(
            f"labels must be of one kind in all files; {target!r} of {strange} is "
            f"{'numbers' if not are_numbers[0] else 'strings'}, unlike in the first file. "
            "Write all files with one type of labels."
        )


def _holds_numbers(kind: Any) -> bool:
    types = import_pyarrow()[0].types
    return _is_number(kind.value_type if types.is_dictionary(kind) else kind)


def _is_number(kind: Any) -> bool:
    types = import_pyarrow()[0].types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _dtype(kinds: Iterable[Any]) -> np.dtype:
    """Return float32 if it represents all numbers of these types, and float64 if not.

    scikit-learn treats the columns of a frame in the same way.
    """
    common = np.result_type(*{kind.to_pandas_dtype() for kind in kinds})
    return np.dtype(np.float32 if common == np.float32 else np.float64)


def _quoted(names: Iterable[str]) -> str:
    return reprlib.repr(list(names))
