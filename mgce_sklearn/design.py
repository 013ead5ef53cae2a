"""The design: rows of features behind one interface, dense or sparse.

Only this module knows how X is stored. Rows in a tensor have a design of their own,
`tensors.design`. Other modules ask a design for margins (x times coefficients), for adjoints (sums
over rows of a number of the row, times x and its weight share), or for the features themselves.
They get float64 for any storage. Arrays that belong to the rows are made by the design too, so that
they are on the same device.

A design may be some of the rows of a larger one, a `view`. Its weights are then shares of the
whole, so that sums over views are means over all rows. Every method computes for all rows of its
design at once. Callers with many rows take views of a few at a time (`parts`).

The intercept is a feature like the others. It is constant 1 and last, and never stored.

Features may be those of x - center. Dense rows are centered in float64: for float32 rows far from
0, a shift of the products instead would leave only rounding. Sparse rows are not changed, and the
products are shifted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp

from mgce_sklearn.arrays import LARGEST_SYSTEM, Array, is_tensor, on_host
from mgce_sklearn.kernels import barrier, sides
from mgce_sklearn.kernels.gram import GramSum
from mgce_sklearn.labels import Labels
from mgce_sklearn.parallel import RowTeam, row_team
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.sketch import RowSketch

# Rows taken at a time: small beside X, large beside the cost of a call.
ROWS_AT_A_TIME = 8192

# Numbers that a block of rows has in an array (K, rows), of which there may be a dozen.
NUMBERS_AT_A_TIME = 2**15

# Numbers of a block's features: few enough for the second-level cache, because they are read twice,
# for the margins and for the sums.
CACHED_FEATURES = 2**16

# Two products with so many numbers of X take as long as the potential of one margin. Measured:
# between 2 with 26 classes and 17 with two.
FEATURES_PER_MARGIN = 8

# Up to so many multiplications BLAS uses one thread by itself, and to limit it would take longer.
SMALL_PRODUCT = 2**13

# Sums of weights in two orders of addition may differ by this share.
ROUNDING = 1e-12

# Bytes that a solver may store beside the rows to save time. More is computed again.
WORKING_MEMORY = 2**30

ALL_ROWS = slice(None)


class Block(NamedTuple):
    """Features of some rows, for code that reads them more than once.

    Attributes
    ----------
    features : ndarray of shape (d, rows)
        In float64 as they are, or in float32 in units of ``scale``.
    scale : ndarray of shape (d,) or None
    """

    features: Array
    scale: Array | None = None

    def margins(self, coefs: Array) -> Array:
        """Compute x Wᵀ (..., C, rows), in float64, for coefficients (..., C, d)."""
        if self.scale is None:
            return coefs @ self.features
        flat = (coefs * self.scale).astype(self.features.dtype).reshape(-1, len(self.scale))
        return (flat @ self.features).astype(np.float64).reshape(*coefs.shape[:-1], -1)

    def adjoint(self, rows_by_class: Array) -> Array:
        """Compute the sum over rows of r_i ⊗ x_i (C, d)."""
        if self.scale is None:
            return rows_by_class @ self.features.T
        return (rows_by_class.astype(self.features.dtype) @ self.features.T) * self.scale


@dataclass(frozen=True)
class Design:
    """Rows of features with weights.

    Parameters
    ----------
    X : ndarray or scipy.sparse CSR of shape (n, d - fit_intercept), float64 or float32
    sample_weight : ndarray of shape (n,)
        Positive. A weight of 2 means the same as the row twice.
    fit_intercept : bool
        Whether a constant feature 1 follows the columns of X.
    center : ndarray of shape (d - fit_intercept,), default=None
        Subtracted from every row of X. None: nothing.
    shares : ndarray of shape (n,), default=None
        Weights of a mean over all rows, if these are only some of them. None: these are all.
    """

    X: Any
    sample_weight: Array
    fit_intercept: bool = True
    center: Array | None = None
    shares: Array | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows stored."""
        return int(self.X.shape[0])

    @property
    def n_columns(self) -> int:
        """Number of features without the intercept's constant."""
        return int(self.X.shape[1])

    @property
    def n_features(self) -> int:
        """Number of features d, the intercept's constant included."""
        return self.n_columns + self.fit_intercept

    @property
    def sparse(self) -> bool:
        """Whether zeros are not stored."""
        return sp.issparse(self.X)

    @cached_property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.sample_weight.sum())

    @cached_property
    def weights(self) -> Array:
        """Weights of a mean over all rows: those of all sum to 1."""
        return self.sample_weight / self.total_weight if self.shares is None else self.shares

    def view(self, start: int, stop: int) -> Design:
        """Return rows ``start`` to ``stop``, with their shares in the weight of all rows."""
        rows = slice(start, stop)
        return type(self)(
            _rows(self.X, start, stop), self.sample_weight[rows], self.fit_intercept, self.center,
            self.weights[rows],
        )  # fmt: skip

    def take(self, rows: Array) -> Design:
        """Return some of the rows, by position, as a design of their own."""
        return self._with(X=self.X[rows], sample_weight=self.sample_weight[rows], shares=None)

    def _with(self, **changes: Any) -> Design:
        """Return the same rows with some changes."""
        return replace(self, **changes)

    def columns(self, columns: Array) -> Design:
        """Return some of the columns of X, by position, and the intercept as it was."""
        center = None if self.center is None else self.center[columns]
        return self._with(X=self.X[:, columns], center=center)

    def clipped(self, low: Array, high: Array) -> Design:
        """Return rows clipped to a range (d,). Zeros that are not stored stay zeros."""
        low, high = low[: self.n_columns], high[: self.n_columns]
        if not self.sparse:
            return self._with(X=np.clip(self.X, low, high))
        X = self.X
        numbers = np.clip(X.data, low[X.indices], high[X.indices])
        return self._with(X=sp.csr_array((numbers, X.indices, X.indptr), X.shape))

    def centered_at(self, center: Array) -> Design:
        """Return the same rows less ``center`` (d,), whose last entry is 0 with an intercept."""
        center = center[: self.n_columns]
        return self._with(center=self.put(center) if center.any() else None)

    def centered_in_memory(self) -> Design:
        """Return the same rows; the center of dense ones is subtracted in a copy."""
        if self.center is None or self.sparse:
            return self
        return self._with(X=self.X - self.center, center=None)

    def center_point(self) -> Array:
        """Return what is subtracted from every feature (d,), 0 from the intercept's constant."""
        point = np.zeros(self.n_features)
        if self.center is not None:
            point[: self.n_columns] = self.fetch(self.center)
        return point

    def potential(self, q: float) -> MGCEPotential:
        """Return the MGCE potential for arrays like those of the rows."""
        return MGCEPotential(q)

    def on_host(self) -> Design:
        """Return the same rows in numpy's arrays."""
        return self

    # The module with the functions of the arrays, their device, whether they are numpy's, and
    # whether `compact` saves time.
    namespace: ClassVar[Any] = np
    device: ClassVar[str] = "cpu"
    is_numpy: ClassVar[bool] = True
    has_single: ClassVar[bool] = True
    scale: ClassVar[Any] = None

    # Whether views share memory with the rows, so that many of them may be kept.
    views_are_free: ClassVar[bool] = True

    @property
    def precision(self) -> np.dtype:
        """The type of the numbers of X."""
        return self.X.dtype

    def empty(self, *shape: int) -> Array:
        """Return an array to be written to, on the device of the rows."""
        return np.empty(shape)

    def zeros(self, *shape: int) -> Array:
        """Return zeros, on the device of the rows."""
        return np.zeros(shape)

    def put(self, array: Array) -> Array:
        """Return numbers as float64, on the device of the rows."""
        return array

    def put_codes(self, codes: Array) -> Array:
        """Return classes as indices, on the device of the rows."""
        return codes

    def fetch(self, array: Array) -> Array:
        """Return coefficients as an ndarray."""
        return array

    def team(self, width: int) -> AbstractContextManager[RowTeam]:
        """Give threads for arrays of so many numbers a row."""
        return row_team(self.n_rows, width)

    def rows_at_a_time(self, width: int = 1) -> int:
        """Return how many rows a block has if code makes ``width`` numbers for each."""
        return min(ROWS_AT_A_TIME, max(1, NUMBERS_AT_A_TIME // width))

    @property
    def rows_in_cache(self) -> int:
        """Number of rows whose features fit in the cache."""
        return min(max(CACHED_FEATURES // self.n_features, 256), 1024)

    @property
    def barrier(self) -> Any:
        """The module with the row elimination of the interior point method."""
        return barrier

    def gram(self, n_classes: int) -> GramSum:
        """Return an empty sum of C_i ⊗ x_i x_iᵀ over rows."""
        return GramSum(n_classes, self.n_features)

    @property
    def _stored(self) -> Any:
        """Rows in float64: centered if they are dense, as stored if sparse."""
        if self.center is None or self.sparse:
            return self.X.astype(np.float64, copy=False)
        return np.subtract(self.X, self.center, dtype=np.float64)

    @property
    def _shift(self) -> Array | None:
        """What must be subtracted in products of `_stored`: the center of sparse rows."""
        return self.center if self.sparse else None

    def margins(self, coef: Array) -> Array:
        """Compute x Wᵀ.

        Parameters
        ----------
        coef : ndarray of shape (C, d)

        Returns
        -------
        ndarray of shape (C, n)
            Class-major, as the kernels read them.
        """
        slopes = coef[:, : self.n_columns]
        # A sparse block must stand on the left for the product to be an ndarray.
        out = (self._stored @ slopes.T).T if self.sparse else slopes @ self._stored.T
        if self.fit_intercept:
            out += coef[:, -1:]
        if self._shift is not None:
            out -= (slopes @ self._shift)[:, np.newaxis]
        return out

    def adjoint(self, rows_by_class: Array) -> Array:
        """Compute the contribution of these rows to the weighted mean of r_i ⊗ x_i.

        Parameters
        ----------
        rows_by_class : ndarray of shape (C, n)

        Returns
        -------
        ndarray of shape (C, d)
        """
        weighted = rows_by_class * self.weights
        out = np.empty((len(rows_by_class), self.n_features))
        out[:, : self.n_columns] = weighted @ self._stored
        if self._shift is not None or self.fit_intercept:
            totals = weighted.sum(axis=1)
        if self._shift is not None:
            out[:, : self.n_columns] -= np.outer(totals, self._shift)
        if self.fit_intercept:
            out[:, -1] = totals
        return out

    def sides(self, rows: Array, shares: Array) -> tuple[Array, Array]:
        """Return the positive and the negative part of the mean of share_i r_i ⊗ x_i, sparse rows.

        The mean is their difference. Centered columns and the intercept's constant are not 0 in any
        row. They are left out: both parts are 0 there.

        Parameters
        ----------
        rows : ndarray of shape (n, C)
        shares : ndarray of shape (n,)

        Returns
        -------
        raising, lowering : ndarrays of shape (d, C), at least 0
        """
        raising, lowering = np.zeros((2, self.n_features, rows.shape[1]))
        X, weights = self.X, self.weights * shares
        sides.add_sides(X.indptr, X.indices, X.data, rows, weights, raising, lowering)
        if self.center is not None:
            centered = np.flatnonzero(self.center)
            raising[centered] = lowering[centered] = 0.0
        return raising, lowering

    def largest_share(self, rows: Array, shares: Array) -> Array:
        """Return for each sparse row the largest |share| (n,) of coordinates that it pushes.

        Parameters
        ----------
        rows : ndarray of shape (n, C)
        shares : ndarray of shape (d, C)
            Positive for coordinates of the mean of r_i ⊗ x_i that rows raise, and negative for
            coordinates that they lower.
        """
        out, X = np.empty(self.n_rows), self.X
        sides.largest_share(X.indptr, X.indices, X.data, rows, shares, out)
        return out

    def split(self, coef: Array) -> tuple[Array, Array]:
        """Return the coefficients (..., d) of X's columns and those of the intercept, or zeros.

        Returns
        -------
        slopes : ndarray of shape (..., d - fit_intercept)
        intercepts : ndarray of shape (...)
        """
        n_columns = self.X.shape[1]
        intercepts = coef[..., -1] if self.fit_intercept else np.zeros(coef.shape[:-1], coef.dtype)
        return np.ascontiguousarray(coef[..., :n_columns]), np.ascontiguousarray(intercepts)

    def sketch(self) -> RowSketch:
        """Return the sketch by which rows are recognized later."""
        return RowSketch.of(self.X)

    def origin(self) -> Array:
        """Return a point (d,) near the rows: differences from it lose no digits.

        It is 0 for sparse rows, because zeros that are not stored cannot be shifted.
        """
        origin = np.zeros(self.n_features)
        if not self.sparse:
            origin[: self.n_columns] = self.fetch(self.X[0])
        return origin

    def class_moments(
        self, labels: Labels, n_classes: int, origin: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Compute weights, means, variances and support class by class.

        They are those of x as stored, for any center. Variances are mean squares of x minus the
        mean of the class. A difference of mean squares would be only rounding where means are
        large.

        Parameters
        ----------
        labels : Labels
            Of the rows. A distribution counts as copies of its row.
        n_classes : int
        origin : ndarray of shape (d,)
            The point that means are relative to.

        Returns
        -------
        weight : ndarray of shape (n_classes,)
            Sum of the weights of a class' rows.
        mean, variance : ndarrays of shape (n_classes, d)
            0 for a class without rows.
        support : ndarray of shape (n_classes, d)
            Sum of the weights where the feature is not 0.
        """
        block, weights, codes = self._copied(labels)
        one_hot = sp.csr_array(
            (weights, codes, np.arange(len(codes) + 1)), shape=(len(codes), n_classes)
        ).T
        weight = np.bincount(codes, weights, n_classes)
        moments = np.zeros((3, n_classes, self.n_features))
        if self.fit_intercept:
            moments[0, weight > 0.0, -1] = 1.0
            moments[2, :, -1] = weight
        mean, variance, support = moments[:, :, : self.n_columns]
        share = np.where(weight > 0.0, weight, 1.0)[:, np.newaxis]
        block = block.astype(np.float64)
        if sp.issparse(block):
            block.eliminate_zeros()
            mean[:] = (one_hot @ block).toarray() / share
            support[:] = (one_hot @ (block != 0.0)).toarray()
            block.data -= mean[np.repeat(codes, np.diff(block.indptr)), block.indices]
            not_stored = weight[:, np.newaxis] - support
            not_stored[not_stored <= ROUNDING * share] = 0.0
            variance[:] = ((one_hot @ block.power(2)).toarray() + not_stored * mean**2) / share
        else:
            support[:] = one_hot @ (block != 0.0)
            block -= origin[: self.n_columns]
            mean[:] = one_hot @ block / share
            block -= mean[codes]
            variance[:] = one_hot @ np.square(block, out=block) / share
        return weight, *moments

    def _copied(self, labels: Labels) -> tuple[Any, Array, Array]:
        """Return rows as stored, weights and classes, with a copy of a row for each class."""
        copies = labels.copies()
        if copies is None:
            return self.X, self.sample_weight, labels.codes
        positions = self.put_codes(copies.positions)
        weights = self.sample_weight[positions] * self.put(copies.shares)
        return self.X[positions], weights, self.put_codes(copies.codes)

    def differing(self, labels: Labels, values: Array) -> tuple[Array, Array]:
        """Compute the weight of rows whose feature differs from a given number.

        Parameters
        ----------
        labels : Labels
        values : ndarray of shape (n_classes, d)
            A number for each class and feature of x as stored. NaN: there is none.

        Returns
        -------
        own, total : ndarrays of shape (n_classes, d)
            Over the rows of the class, and over all rows.
        """
        own, total = np.zeros((2, *values.shape))
        weights = on_host(self.sample_weight)
        for k, value in enumerate(values):
            columns = np.flatnonzero(~np.isnan(value))
            if len(columns):
                differs = self._numbers(ALL_ROWS, columns) != value[columns]
                total[k, columns] = weights @ differs
                own[k, columns] = (labels.share(k) * weights) @ differs
        return own, total

    def _numbers(self, rows: Any, columns: Array) -> Array:
        """Return some columns of rows as stored, dense."""
        block = self.X[rows][:, columns]
        return block.toarray() if sp.issparse(block) else on_host(block)

    def first_rows(self, labels: Labels, n_classes: int) -> Array:
        """Return a row of each class as stored (n_classes, d), NaN for a class without rows."""
        out = np.full((n_classes, self.n_features), np.nan)
        present, rows = labels.first_rows()
        out[present, : self.n_columns] = self._numbers(rows, np.arange(self.n_columns))
        return out

    def column_range(self) -> tuple[Array, Array]:
        """Return the least and the largest value (d,) of each feature, zeros not stored included.

        It is not computed together with `class_moments`: a block is larger than the cache, so that
        one pass for both would be no faster, and a step of a stream needs no range.
        """
        ends = np.ones((2, self.n_features))
        for end, value in zip(ends, (self.X.min(axis=0), self.X.max(axis=0)), strict=True):
            end[: self.n_columns] = _dense(value)
        return ends[0], ends[1]

    def features(self, out: Array | None = None) -> Array:
        """Return the rows as a dense float64 array (d, n), written to ``out`` (d, n) if given."""
        if out is None:
            out = np.empty((self.n_features, self.n_rows))
        block = (self.X.toarray() if self.sparse else self.X).T
        center = 0.0 if self.center is None else self.center[:, np.newaxis]
        np.subtract(block, center, out=out[: self.n_columns])
        if self.fit_intercept:
            out[-1] = 1.0
        return out

    def buffer(self, n_rows: int) -> Array | None:
        """Return memory to which `block` may write so many rows; None if it does not write."""
        return self.empty(self.n_features, n_rows)

    def block(self, out: Array | None = None) -> Block:
        """Return the rows for code that reads them more than once; ``out`` as in `features`."""
        return Block(self.features(out))

    def compact(self, scale: Array) -> Design:
        """Return the same rows in single precision, in units of ``scale`` (d,).

        Sparse rows are returned unchanged if there is no memory for all their zeros.
        """
        fits = 4 * self.n_rows * self.n_features <= WORKING_MEMORY
        if self.sparse and not fits:
            return self
        rows = CompactDesign.of(self, scale)
        return rows.kept() if fits else rows

    def _squares(self) -> tuple[Any, Array]:
        """Return the squares of the rows as the sum of an array (n, d) and one of every row (d,).

        The second has the square of the center of sparse rows, which is what zeros contribute. The
        first has the differences of stored numbers from it.
        """
        zero = np.zeros(self.n_columns)
        if not self.sparse:
            return self._stored**2, zero
        if self._shift is None:
            return self._stored.power(2), zero
        at_zero, squares = self._shift**2, self._stored.copy()
        squares.data = (squares.data - self._shift[squares.indices]) ** 2 - at_zero[squares.indices]
        return squares, at_zero

    def squared_norms(self, scale: Array) -> Array:
        """Return |x_i / scale|² of every row (n,)."""
        weight = scale[: self.n_columns] ** -2
        squares, at_zero = self._squares()
        own = 1.0 / scale[-1] ** 2 if self.fit_intercept else 0.0
        return squares @ weight + (at_zero @ weight + own)

    def mean_square(self) -> Array:
        """Return the contribution of these rows to the mean square of each feature (d,)."""
        squares, at_zero = self._squares()
        total = self.weights.sum()
        out = np.full(self.n_features, total)
        out[: self.n_columns] = self.weights @ squares + total * at_zero
        return out


def _of_a_copy(name: str) -> Any:
    def method(self: SelectedDesign, *args: Any) -> Any:
        return getattr(self.view_as_copy(), name)(*args)

    method.__doc__ = getattr(Design, name).__doc__
    return method


@dataclass(frozen=True)
class SelectedDesign(Design):
    """Some rows of a dense X that is too large to copy. Only views of a few rows are copies.

    Attributes
    ----------
    positions : ndarray of shape (n,)
        Which rows of X they are.
    """

    positions: Array = field(default=None)  # required
    views_are_free: ClassVar[bool] = False

    @property
    def n_rows(self) -> int:
        """Number of rows selected."""
        return len(self.positions)

    def view(self, start: int, stop: int) -> Design:
        """Return rows ``start`` to ``stop``, with their shares in the weight of all rows."""
        rows = slice(start, stop)
        weights = self.sample_weight[rows], self.fit_intercept, self.center, self.weights[rows]
        if stop - start > ROWS_AT_A_TIME:
            return SelectedDesign(self.X, *weights, self.positions[rows])
        return Design(self.X[self.positions[rows]], *weights)

    def view_as_copy(self) -> Design:
        """Return all rows selected, copied."""
        weights = self.sample_weight, self.fit_intercept, self.center, self.weights
        return Design(self.X[self.positions], *weights)

    def take(self, rows: Array) -> Design:
        """Return some of the rows, by position, as a design of their own."""
        X = self.X[self.positions[rows]]
        return Design(X, self.sample_weight[rows], self.fit_intercept, self.center)

    def origin(self) -> Array:
        """Return a point (d,) near the rows, from which their differences are exact."""
        return self.view(0, 1).origin()

    # These are computed from a copy of all rows.
    margins = _of_a_copy("margins")
    adjoint = _of_a_copy("adjoint")
    class_moments = _of_a_copy("class_moments")
    column_range = _of_a_copy("column_range")
    squared_norms = _of_a_copy("squared_norms")
    mean_square = _of_a_copy("mean_square")
    features = _of_a_copy("features")
    sketch = _of_a_copy("sketch")
    clipped = _of_a_copy("clipped")
    columns = _of_a_copy("columns")

    def _numbers(self, rows: Any, columns: Array) -> Array:
        return self.X[self.positions[rows]][:, columns]

    def centered_in_memory(self) -> Design:
        """Return itself: there may be no memory for a copy."""
        return self

    def compact(self, scale: Array) -> Design:
        """Return itself, for the same reason."""
        return self


@dataclass(frozen=True)
class CompactDesign(Design):
    """Rows in single precision: centered, in units of a scale, the constant 1 last.

    They are for solvers that read rows many times, and take half of the bytes. Coefficients,
    margins and means are in float64 and in the units of `Design`. Sums over blocks are in float64.

    Attributes
    ----------
    scale : ndarray of shape (d,)
    rows : ndarray of shape (n, d), float32, or None
        None: computed whenever they are read. `kept` stores them.
    """

    scale: Array = field(default=None)  # type: ignore[misc]  # required
    rows: Array | None = None

    @classmethod
    def of(cls, design: Design, scale: Array) -> CompactDesign:
        """Return the rows of a design."""
        return cls(
            design.X, design.sample_weight, design.fit_intercept, design.center, design.weights,
            scale,
        )  # fmt: skip

    def kept(self) -> CompactDesign:
        """Return the same rows, stored in memory."""
        rows = np.empty((self.n_rows, self.n_features), np.float32)
        size = self.rows_at_a_time()
        for start in range(0, self.n_rows, size):
            stop = min(start + size, self.n_rows)
            rows[start:stop] = self.view(start, stop).single()
        return replace(self, rows=rows)

    def view(self, start: int, stop: int) -> CompactDesign:
        """Return rows ``start`` to ``stop``, with their shares in the weight of all rows."""
        rows = slice(start, stop)
        return CompactDesign(
            _rows(self.X, start, stop), self.sample_weight[rows], self.fit_intercept, self.center,
            self.weights[rows], self.scale, None if self.rows is None else self.rows[rows],
        )  # fmt: skip

    def _with(self, **changes: Any) -> Design:
        """Return the same rows with some changes, in double precision."""
        plain = Design(self.X, self.sample_weight, self.fit_intercept, self.center, self.shares)
        return replace(plain, **changes)

    def compact(self, scale: Array) -> Design:
        """Return itself."""
        return self

    def buffer(self, n_rows: int) -> Array | None:
        """Return None: rows are not written to memory of the caller."""
        return None

    def block(self, out: Array | None = None) -> Block:
        """Return the rows for code that reads them more than once."""
        return Block(self.single().T, self.scale)

    def features(self, out: Array | None = None) -> Array:
        """Return the rows as a dense float64 array (d, n)."""
        if out is None:
            out = np.empty((self.n_features, self.n_rows))
        return np.multiply(self.single().T, self.scale[:, None], out=out)

    def margins(self, coef: Array) -> Array:
        """Compute x Wᵀ (C, n)."""
        scaled = (coef * self.scale).astype(np.float32)
        return (scaled @ self.single().T).astype(np.float64)

    def adjoint(self, rows_by_class: Array) -> Array:
        """Compute the contribution of these rows to the weighted mean of r_i ⊗ x_i (C, d)."""
        weighted = (rows_by_class * self.weights).astype(np.float32)
        return (weighted @ self.single()) * self.scale

    def single(self) -> Array:
        """Return the rows (n, d)."""
        if self.rows is not None:
            return self.rows
        stored = self._stored
        if self.sparse:
            stored = stored.toarray() - (0.0 if self.center is None else self.center)
        out = np.empty((self.n_rows, self.n_features), np.float32)
        np.divide(stored, self.scale[: self.n_columns], out=out[:, : self.n_columns])
        if self.fit_intercept:
            out[:, -1] = 1.0
        return out


def design_of(
    X: Any,
    rows: Array | None,
    sample_weight: Array,
    fit_intercept: bool,
    n_coefficients: int = 0,
) -> Design:
    """Return the design of some rows (None: all), in numpy's arrays or in tensors.

    Tensors on the host are read as arrays, without a copy, if there are too many coefficients to
    factor a system: conjugate gradients are implemented for arrays only.
    """
    if is_tensor(X) and X.device.type == "cpu" and n_coefficients > LARGEST_SYSTEM:
        X = on_host(X)
    if not is_tensor(X):
        return _selected(X, rows, sample_weight, fit_intercept)
    from mgce_sklearn.tensors.design import TensorDesign  # X is a tensor, so torch is loaded

    return TensorDesign.of(X if rows is None else X[rows], sample_weight, fit_intercept)


def _selected(X: Any, rows: Array | None, sample_weight: Array, fit_intercept: bool) -> Design:
    """Return some rows, by position, of an ndarray or a CSR matrix; None: all.

    They are copied, unless X is mapped from a file or larger than what a solver may store.
    """
    if rows is None:
        return Design(X, sample_weight, fit_intercept)
    if sp.issparse(X) or not (_is_mapped(X) or X.nbytes > WORKING_MEMORY):
        return Design(X[rows], sample_weight, fit_intercept)
    return SelectedDesign(X, sample_weight, fit_intercept, positions=rows)


def _is_mapped(X: Array) -> bool:
    """Tell whether an array is mapped from a file."""
    base: Any = X
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base is not None


def products(X: Any, coef: Array) -> Array:
    """Compute x Wᵀ (n, C) for every row as stored, in its precision.

    Many dense rows are divided among threads, each with one BLAS thread, as in a fit.
    """
    if sp.issparse(X) or X.size * len(coef) < SMALL_PRODUCT:
        return X @ coef.T
    out = np.empty((len(X), len(coef)), np.result_type(X, coef))

    def share(start: int, stop: int) -> None:
        np.matmul(X[start:stop], coef.T, out=out[start:stop])

    with row_team(len(X), X.shape[1] // FEATURES_PER_MARGIN) as team:
        team.run(share)
    return out


def raw_coefficients(coef: Array, center: Array | float) -> Array:
    """Return the coefficients (..., d) of x from those of x - center; the intercept changes."""
    return _moved(coef, -np.asarray(center)) if np.any(center) else coef


def centered_coefficients(coef: Array, center: Array | float) -> Array:
    """Return the coefficients (..., d) of x - center from those of x."""
    return _moved(coef, np.asarray(center)) if np.any(center) else coef


def _moved(coef: Array, step: Array) -> Array:
    coef = coef.copy()
    coef[..., -1] += coef @ step  # the intercept's center is 0
    return coef


def _rows(X: Any, start: int, stop: int) -> Any:
    """Return some rows without a copy of their numbers."""
    if not sp.issparse(X):
        return X[start:stop]
    first, last = X.indptr[start], X.indptr[stop]
    pointers = X.indptr[start : stop + 1] - first
    rows = sp.csr_array((stop - start, X.shape[1]), dtype=X.dtype)
    # The constructor would copy them.
    rows.data, rows.indices, rows.indptr = X.data[first:last], X.indices[first:last], pointers
    return rows


def _dense(row: Any) -> Array:
    """Return an ndarray (d,) of a row, dense or sparse."""
    return row.toarray().ravel() if sp.issparse(row) else row
