"""Checks of data: numbers, weights, labels, margins, distributions and matrices."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import assert_all_finite, check_random_state, check_X_y, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.sparsefuncs import min_max_axis

from mgce_sklearn.arrays import is_tensor, namespace, on_host, two_class_margins
from mgce_sklearn.constraints import NOISE_MATRIX

Array = np.ndarray[Any, Any]

# Number of rows checked at a time, so that temporary arrays are small relative to X.
ROWS_AT_A_TIME = 8192

# Largest condition number of a noise matrix. Beyond it, rounding the matrix to six digits may
# change the whole inverse.
LARGEST_CONDITION = 1e6

# Rows of a noise matrix that differ by less count as equal: the difference may be rounding.
SMALLEST_DIFFERENCE = 1e-6

# The probabilities of a label may sum to 1 with this error, since they are typed or computed.
SUM_TOLERANCE = 1e-6

# Range of the sum of weights. Division by a smaller one overflows. A larger one may overflow if the
# weights are added in another order.
SMALLEST_SUM, LARGEST_SUM = 1e-300, 1e308


def check_numbers(name: str, values: Any, copy: bool = True) -> Array:
    """Return an array-like of any shape as a float64 array, copied if ``copy``.

    Raises
    ------
    ValueError
        If it cannot be converted to such an array.
    """
    try:
        return (np.array if copy else np.asarray)(on_host(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must have numbers only, and rows of equal length; got {values!r}."
        ) from None


def check_feature_range(
    feature_range: Any, X: Any, sample_weight: Array
) -> tuple[Array, Array] | None:
    """Return the range of the features as two float64 arrays (n_features,), or None for None.

    The ends are rounded to the precision of X. So the float32 number closest to 0.1 lies within a
    range that ends at 0.1.

    Raises
    ------
    ValueError
        If the range is invalid, or if a row of positive weight has a number outside.
    """
    precision = on_host(X[:1]).dtype if is_tensor(X) else X.dtype
    ends = ends_of_range(feature_range, X.shape[1], precision)
    if ends is not None:
        _check_within(*ends, on_host(X), sample_weight > 0.0)
    return ends


def ends_of_range(
    feature_range: Any, n_features: int, precision: np.dtype
) -> tuple[Array, Array] | None:
    """Return the range as `check_feature_range` does, without a check of the rows.

    Raises
    ------
    ValueError
        If the range is invalid.
    """
    if feature_range is None:
        return None
    low, high = (
        _range_end(f"feature_range[{i}]", end, n_features).astype(precision).astype(np.float64)
        for i, end in enumerate(feature_range)
    )
    if (low > high).any():
        column = int(np.argmax(low > high))
        raise ValueError(
            f"feature_range must have low <= high; column {column} has low={low[column]} and "
            f"high={high[column]}."
        )
    return low, high


def _range_end(name: str, end: Any, n_features: int) -> Array:
    numbers = check_numbers(name, end)
    if numbers.shape not in ((), (n_features,)):
        raise ValueError(
            f"{name} must be a number or an array of shape ({n_features},), one for each column of "
            f"X and none for the intercept; got shape {numbers.shape}."
        )
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"{name} must be finite; got {end!r}. For features without bounds use "
            "width='standard_error'."
        )
    return np.broadcast_to(numbers, n_features)


def _check_within(low: Array, high: Array, X: Any, used: Array) -> None:
    """Raise ValueError if a used row of X has a number outside the range of its column."""
    for start in range(0, X.shape[0], ROWS_AT_A_TIME):
        rows = start + np.flatnonzero(used[start : start + ROWS_AT_A_TIME])
        if not len(rows):
            continue
        least, most = _least_and_most(X[rows])
        outside = (least < low) | (most > high)
        if outside.any():
            j = int(np.argmax(outside))
            column = X[rows][:, [j]]
            column = (column.toarray() if sp.issparse(column) else column).ravel()
            row = int(np.argmax((column < low[j]) | (column > high[j])))
            raise ValueError(
                f"X must lie within feature_range; row {rows[row]}, column {j} has "
                f"{column[row]}, outside [{low[j]}, {high[j]}]. Widen the range, or clip X."
            )


def _least_and_most(X: Any) -> tuple[Array, Array]:
    """Return the smallest and the largest number of each column, dense or sparse."""
    return min_max_axis(X, axis=0) if sp.issparse(X) else (X.min(axis=0), X.max(axis=0))


def seed_of(random_state: Any) -> int:
    """Return a seed drawn from ``random_state``. For an integer it is the same at every call."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


@contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Restore an estimator's attributes if the body of the with statement raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_tensor(name: str, X: Any) -> Any:
    """Return a tensor of rows as float64 or float32.

    Raises
    ------
    TypeError
        If it is complex or sparse.
    ValueError
        If it does not have two dimensions, if it is empty, or if it contains NaN or inf. The first
        such number is named.
    """
    X = X.detach()
    if X.is_complex():
        raise TypeError(f"{name} must be real numbers; got {X.dtype}.")
    if X.layout != namespace(X).strided:
        raise TypeError(f"{name} must be dense; got {X.layout}. Try X.to_dense().")
    if X.dim() != 2:
        raise ValueError(
            f"{name} must have two dimensions, a row for each sample; got shape "
            f"{tuple(X.shape)}. Try X.flatten(start_dim=1)."
        )
    if 0 in X.shape:
        raise ValueError(
            f"{name} must have at least one row and one column; got shape {tuple(X.shape)}."
        )
    if not X.is_floating_point():
        X = X.double()
    elif X.element_size() < 4:
        X = X.float()
    finite = X.isfinite()
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite; row {row}, column {column} has {X[row, column].item()}. Drop "
            "such rows, or impute such numbers."
        )
    return X


def check_tensor_labels(y: Any, n_rows: int) -> Array:
    """Return labels as an array (n_rows,), checked as scikit-learn checks those of arrays."""
    return check_X_y(np.broadcast_to(0.0, (n_rows, 1)), on_host(y))[1]


def check_sample_weight(sample_weight: Any, n_rows: int, name: str = "sample_weight") -> Array:
    """Return weights as a float64 array (n_rows,): finite, non-negative, not all zero.

    Raises
    ------
    ValueError
        For the first row with an invalid weight, or if the sum of the weights is invalid.
    """
    if sample_weight is None:
        return np.broadcast_to(1.0, n_rows)  # one number in memory
    weights = check_row_weights(sample_weight, n_rows, name)
    with np.errstate(over="ignore"):
        check_total_weight(float(weights.sum()), name)
    return weights


def check_total_weight(total: float, name: str = "sample_weight") -> float:
    """Return the sum of non-negative weights.

    Raises
    ------
    ValueError
        If all weights are zero, or if the sum is too small or too large for a float64.
    """
    if total == 0.0:
        raise ValueError(f"{name} is zero for every row; at least one row needs a positive weight.")
    if not SMALLEST_SUM <= total <= LARGEST_SUM:
        raise ValueError(
            f"{name} must have a sum from 1e-300 to 1e308, since the sum counts as the number of "
            f"rows; got {total:g}. Divide or multiply all weights by one number."
        )
    return total


def check_row_weights(sample_weight: Any, n_rows: int, name: str = "sample_weight") -> Array:
    """Return weights as a float64 array (n_rows,): finite, non-negative, possibly all zero.

    Raises
    ------
    ValueError
        For the first row with an invalid weight.
    """
    weights = check_numbers(name, sample_weight, copy=False)
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.shape != (n_rows,):
        raise ValueError(
            f"{name} must have one weight per row of X, shape ({n_rows},); "
            f"got shape {weights.shape}."
        )
    invalid = ~(np.isfinite(weights) & (weights >= 0.0))
    if invalid.any():
        row = int(np.argmax(invalid))
        raise ValueError(
            f"{name} must be finite and non-negative; row {row} has {weights[row]}. "
            "Drop such rows or give them weight 0."
        )
    return weights


def check_classes(classes: Any, known: Array | None, begun: bool) -> Array:
    """Return the classes for `partial_fit`, sorted: ``classes``, or those ``known`` from a fit.

    Raises
    ------
    ValueError
        If there are fewer than two classes, if none are given at the first call, or if they
        differ from those of the first call of a stream that has ``begun``.
    """
    if classes is None:
        if known is None:
            raise ValueError(
                "classes must be given at the first call of partial_fit: all labels that can occur."
            )
        return known
    classes = distinct_labels("classes", classes)
    if len(classes) < 2:
        raise ValueError(f"classes must be at least 2 different labels; got {classes.tolist()}.")
    if begun and known is not None and not np.array_equal(classes, known):
        raise ValueError(
            f"classes must stay those of the first call, {known.tolist()}; got "
            f"{classes.tolist()}. Make a new estimator for other classes."
        )
    return classes


def check_several(classes: Array) -> None:
    """Raise ValueError unless the training rows have at least two classes."""
    if len(classes) < 2:
        got = f"1 class ({classes.tolist()[0]!r})" if len(classes) else "no rows"
        raise ValueError(
            "y must have at least 2 classes among the rows with positive weight; got "
            f"{got}. Add rows of another class."
        )


def check_folds(folds: Sequence[Any]) -> None:
    """Raise ValueError if there are no folds."""
    if not folds:
        raise ValueError("cv must give at least one fold; got none. Try cv=5.")


def check_weight_of_portions(class_weight: Any) -> None:
    """Raise ValueError if class weights depend on all labels, which partial_fit does not have."""
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight={class_weight!r} needs all labels at once, which "
            "partial_fit does not have. Give factors as a dict."
        )


def check_label_array(name: str, labels: Any, warn: bool = False) -> tuple[Array, Array]:
    """Return labels as an array (n,), and the different ones, sorted.

    Nullable integers and booleans of pandas are converted to those of numpy. With ``warn`` a column
    (n, 1) raises a DataConversionWarning.

    Raises
    ------
    ValueError
        If they are not class labels, if one is missing, or if their types cannot be compared.
    """
    try:
        array = column_or_1d(np.asarray(on_host(labels)), warn=warn)
        assert_all_finite(array, input_name=name)
        classes = np.unique(array)
        # Repeated, since scikit-learn warns of a regression target if most labels occur once.
        check_classification_targets(np.repeat(classes, 3))
        return array, classes
    except (TypeError, ValueError) as error:
        raise _no_labels(name, labels, error) from None


def _no_labels(name: str, labels: Any, error: Any) -> ValueError:
    """Return the error for invalid labels. It names the first missing one, if any is missing."""
    listed = np.asarray(on_host(labels), dtype=object)
    absent = [is_missing(label) for label in np.atleast_1d(listed)] if listed.ndim else []
    if any(absent):
        row = absent.index(True)
        error = f"Row {row} has {listed[row]}: drop such rows, or name a class for them."
    shown = reprlib.repr(listed.tolist())
    return ValueError(f"{name} must be a list of labels of one type; got {shown}. ({error})")


def is_missing(label: Any) -> bool:
    """Tell whether a label is missing: None, NaN, or pandas' NA."""
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):  # a comparison with pandas' NA has no truth value
        return np.ndim(label) == 0


def distinct_labels(name: str, labels: Any) -> Array:
    """Return the different labels of a list, sorted; see `check_label_array`."""
    return check_label_array(name, labels)[1]


def check_labels(y: Array, classes: Array) -> Array:
    """Return the position (n,) of every label in ``classes``.

    Raises
    ------
    ValueError
        For the first label that is not among the classes.
    """
    try:
        codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        unknown = classes[codes] != y
    except TypeError:  # labels whose types cannot be compared
        unknown = np.ones(len(y), dtype=bool)
    if np.any(unknown):
        row = int(np.argmax(unknown))
        raise ValueError(
            f"y must hold labels among classes, {classes.tolist()}; row {row} has "
            f"{y.tolist()[row]!r}."
        )
    return codes


def check_margins(margins: Any, n_classes: int) -> Array:
    """Return margins as a floating-point array (n, n_classes).

    For two classes they may be a vector (n,): the margins of the second class less those of the
    first.

    Raises
    ------
    ValueError
        If the shape is wrong, or for the first row that contains NaN or +inf.
    """
    if getattr(margins, "dtype", None) not in (np.float32, np.float64):
        margins = check_numbers("margins", margins)
    if margins.ndim == 1 and n_classes == 2:
        margins = two_class_margins(margins, 1)
    check_columns(margins, n_classes)
    below_infinity = (margins < np.inf).all(axis=1)  # -inf is a class of probability 0
    if not below_infinity.all():
        row = int(np.argmin(below_infinity))
        raise ValueError(
            f"margins must not contain NaN or inf; row {row} has {margins[row].tolist()}."
        )
    return margins


def check_base_margin(base_margin: Any, n_rows: int, n_classes: int) -> Array:
    """Return base margins as a float64 array (n_rows, n_classes).

    For two classes they may be a vector (n_rows,): the margins of the second class less those of
    the first.

    Raises
    ------
    ValueError
        If the shape is wrong, or for the first row that is not finite.
    """
    margins = check_numbers("base_margin", base_margin, copy=False)
    if margins.ndim == 1 and n_classes == 2:
        margins = two_class_margins(margins, 1)
    if margins.shape != (n_rows, n_classes):
        vector = f", or ({n_rows},)" if n_classes == 2 else ""
        raise ValueError(
            f"base_margin must have a row for each row of X and a column for each class, shape "
            f"({n_rows}, {n_classes}){vector}; got shape {margins.shape}."
        )
    finite = np.isfinite(margins).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(
            f"base_margin must be finite; row {row} has {margins[row].tolist()}. For probabilities "
            "that may be 0 use np.log(proba + 0.02)."
        )
    return margins


def check_columns(margins: Any, n_classes: int) -> None:
    """Raise ValueError unless margins, an array or a tensor, have the shape (n, n_classes)."""
    if margins.ndim != 2 or margins.shape[1] != n_classes:
        raise ValueError(
            f"margins must have a column for each class, shape (n, {n_classes})"
            f"{' or (n,)' if n_classes == 2 else ''}; got shape {tuple(margins.shape)}."
        )


def check_proba(name: str, proba: Any) -> Array:
    """Return distributions as a float64 array (n, K) with n > 0 and K > 1.

    Raises
    ------
    ValueError
        If the shape is wrong, or for the first row that is not a distribution.
    """
    proba = check_numbers(name, proba)
    if proba.ndim != 2 or proba.shape[0] == 0 or proba.shape[1] < 2:
        raise ValueError(
            f"{name} must have rows, and a column for each of at least 2 classes; got shape "
            f"{proba.shape}."
        )
    valid = ((proba >= 0.0) & (proba <= 1.0)).all(axis=1)
    if valid.all():
        valid = abs(proba.sum(axis=1) - 1.0) < _rounding(proba)
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(
            f"{name} must have probabilities in [0, 1] that sum to 1 in every row; row {row} has "
            f"{proba[row].tolist()}."
        )
    return proba


def _rounding(proba: Array) -> float:
    """Return how far from 1 the sum of rounded probabilities may be.

    Half precision rounds each number, and so the sum, by up to 2**-11 of it; bfloat16 by up to
    2**-8. numpy has no bfloat16, so such numbers mostly come as float32. They are recognized by
    their significands, which have 8 bits.
    """
    of_bfloat16 = not (np.frexp(proba)[0] * 2**8 % 1.0).any()
    return 2**-7 if of_bfloat16 else 1e-3


def symmetric_matrix(n_classes: int, rate: float) -> Array:
    """Return the noise matrix (n_classes, n_classes) of symmetric label noise of a rate."""
    same = np.eye(n_classes)
    return (1.0 - rate) * same + rate / (n_classes - 1) * (1.0 - same)


def has_columns(y: Any) -> bool:
    """Tell whether a target has several columns: distributions over classes, and not labels."""
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # rows of different lengths
        return False
    return len(shape) == 2 and shape[1] > 1


def check_distributions(name: str, Y: Any, n_rows: int | None = None) -> Array:
    """Return distributions as labels: a float64 array (n, K), with rows rescaled to sum to 1.

    Raises
    ------
    ValueError
        If the shape is wrong, or for the first row that has a negative number, or a sum that
        differs from 1 by more than `SUM_TOLERANCE`.
    """
    Y = check_numbers(name, Y)
    if Y.ndim != 2 or Y.shape[1] < 2 or n_rows not in (None, len(Y)):
        raise ValueError(
            f"{name} must have a row for each row of X, and a column for each of at least 2 "
            f"classes; got shape {Y.shape}{'' if n_rows is None else f' for {n_rows} rows'}."
        )
    totals = Y.sum(axis=1)
    valid = (Y >= 0.0).all(axis=1) & (abs(totals - 1.0) <= SUM_TOLERANCE)
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(
            f"{name} must have distributions in its rows if it has several columns: non-negative "
            f"numbers that sum to 1; row {row} has {reprlib.repr(Y[row].tolist())}, which sum to "
            f"{totals[row]:g}. Divide counts by their sum, or give one label for each row."
        )
    return Y / totals[:, np.newaxis]


def check_soft_labels(name: str, Y: Any, known: Array | None = None) -> tuple[Array, Array]:
    """Return distributions (n, K), and the classes (K,) of their columns in sorted order.

    The columns of a frame are named by their classes. ``known`` classes without a column have
    probability 0. The columns of an array are the known classes, or 0 to K - 1.

    Raises
    ------
    ValueError
        If rows are not distributions, or if columns do not match the known classes.
    """
    proba = check_distributions(name, Y)
    if not hasattr(Y, "columns"):
        classes = np.arange(proba.shape[1]) if known is None else known
        if len(classes) != proba.shape[1]:
            raise ValueError(
                f"{name} must have a column for each class, {classes.tolist()}; got "
                f"{proba.shape[1]} columns. To leave classes out, give a DataFrame whose columns "
                "are named by the classes."
            )
        return proba, classes
    named, present = check_label_array(f"the columns of {name}", Y.columns)
    classes = present if known is None else known
    if len(present) < len(named) or not np.isin(named, classes).all():
        raise ValueError(
            f"the columns of {name} must be different labels"
            f"{'' if known is None else f' among classes, {known.tolist()}'}; got "
            f"{named.tolist()}."
        )
    ordered = np.zeros((len(proba), len(classes)))
    ordered[:, np.searchsorted(classes, named)] = proba
    return ordered, classes


def check_noise_matrix(noise_matrix: Any, n_classes: int) -> Array:
    """Return a noise matrix, or that of a rate of symmetric noise: float64 (n_classes, n_classes).

    The row of a true class has the probabilities of its observed labels. Rows whose sum is 1 to
    three digits are rescaled to sum to 1.

    Raises
    ------
    TypeError, ValueError
        If it is neither a rate nor a noise matrix, or if observed labels do not depend on true
        classes.
    """
    NOISE_MATRIX.check("noise_matrix", noise_matrix)
    if isinstance(noise_matrix, Real):
        matrix = symmetric_matrix(n_classes, float(noise_matrix))
    else:
        matrix = check_transition("noise_matrix", noise_matrix, n_classes)
    if np.ptp(matrix, axis=0).max() < SMALLEST_DIFFERENCE:
        raise ValueError(
            f"noise_matrix must have rows that differ; got {noise_matrix!r} for {n_classes} "
            "classes, whose rows are all equal. Then observed labels do not depend on true classes."
        )
    return matrix


def check_transition(name: str, transition: Any, n_classes: int) -> Array:
    """Return a matrix (n_classes, n_classes) of distributions, with rows rescaled to sum to 1.

    Raises
    ------
    ValueError
        If the shape is wrong, or for the first row that is not a distribution.
    """
    matrix = check_proba(name, transition)
    if matrix.shape != (n_classes, n_classes):
        raise ValueError(
            f"{name} must have a row and a column for each class, shape {(n_classes, n_classes)}; "
            f"got shape {matrix.shape}. If y lacks classes, give all of them by the parameter "
            "classes, where there is one."
        )
    return matrix / matrix.sum(axis=1, keepdims=True)


def check_invertible(matrix: Array) -> Array:
    """Return the inverse of a noise matrix.

    Raises
    ------
    ValueError
        If it has no inverse, or one that depends on the last digits of the matrix.
    """
    condition = np.linalg.cond(matrix)
    if not condition <= LARGEST_CONDITION:
        raise ValueError(
            "noise_matrix must have an accurate inverse, which requires a condition number of at "
            f"most {LARGEST_CONDITION:g}; got {condition:.2g}. Classes with nearly equal rows "
            "cannot be distinguished: merge them."
        )
    return np.linalg.inv(matrix)


def check_cost(cost: Any, n_classes: int) -> Array:
    """Return a cost matrix as a float64 array (n_classes, n_classes).

    Raises
    ------
    ValueError
        If it has another shape, or contains a number that is not finite.
    """
    matrix = check_numbers("cost", cost)
    if matrix.shape != (n_classes, n_classes):
        raise ValueError(
            f"cost must have a row for each true class and a column for each predicted one, shape "
            f"{(n_classes, n_classes)}; got shape {matrix.shape}."
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.abs(matrix).sum())  # sums and differences, too
    if not finite:
        raise ValueError(f"cost must be finite; got {cost!r}.")
    return matrix


def check_several_rows(X: Any) -> None:
    """Raise ValueError unless X has at least two rows."""
    if X.shape[0] < 2:
        raise ValueError(
            f"X must have at least 2 rows, since some are used to choose the bound and the others "
            f"to compute it; got {X.shape[0]}. Hold out as many as you can."
        )
