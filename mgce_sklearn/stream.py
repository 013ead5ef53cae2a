"""A stream: labeled rows that come in portions, are read once, and are not stored.

Only sums are stored: the moments for the uncertainty set, and for the coefficients the sums S of
gradients and G of squared gradients, over steps of a few rows. Dual averaging with adaptive rates
(Duchi, Hazan and Singer 2011) gives

    W = -rate / r * soft_threshold(S, T half_width) / sqrt(G),

with T the sum of the weights of all steps and r the root mean square of the features. Weights are
divided by their sum over the first portion, so that squares do not overflow. A coefficient
is exactly 0 while the mean gradient S / T is within its half-width.

Features are those of x - c, where the center c is the mean of all rows so far. It changes with
every portion. When c moves by s, the gradient g of a feature changes by -s g_1, where g_1 is
the gradient of the intercept. To update G, sums of g g_1 are stored too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgce_sklearn.design import Design
from mgce_sklearn.kernels import soft_threshold
from mgce_sklearn.labels import Labels
from mgce_sklearn.objective import Objective
from mgce_sklearn.parallel import one_blas_thread
from mgce_sklearn.parts import RowsInMemory
from mgce_sklearn.potentials import MGCEPotential
from mgce_sklearn.sketch import RowSketch
from mgce_sklearn.uncertainty import (
    STANDARD_ERROR,
    Moments,
    UncertaintySet,
    Width,
    n_coefficient_rows,
)

Array = np.ndarray[Any, Any]

ROWS_PER_STEP = 64

# After one pass over letter, adult, covtype and digits, values were lower with 0.3 than with
# 1 and 3, except for letter at q = 0.
RATE = 0.3


@dataclass
class Stream:
    """The sums over all rows so far.

    Parameters
    ----------
    n_classes : int
    n_features : int
        With the intercept's constant feature, if there is one.
    center : "auto" or bool
        Which columns to center, as given with the first portion.
    inverse : ndarray of shape (n_classes, n_classes) or None
        Inverse of the noise matrix; see `Moments`.
    """

    n_classes: int
    n_features: int
    center: Any = "auto"
    inverse: Array | None = None
    moments: Moments = field(init=False)
    sketch: RowSketch = field(default=RowSketch.none(), init=False)
    centered: Array | None = field(default=None, init=False)
    n_steps: int = field(default=0, init=False)
    n_skipped: int = field(default=0, init=False)  # rows of the last portion without a step

    def __post_init__(self) -> None:
        self.moments = Moments.none(self.n_classes, self.n_features).unmixed(self.inverse)
        shape = (n_coefficient_rows(self.n_classes), self.n_features)
        self._gradients, self._squares, self._products = np.zeros((3, *shape))
        self._weight, self._unit = 0.0, 1.0

    def uncertainty(self, lam: float, width: Width = STANDARD_ERROR) -> UncertaintySet:
        """Return the uncertainty set of all rows so far, all classes in it."""
        return UncertaintySet.from_moments(self.moments, lam, width)

    def has_inverse(self, inverse: Array | None) -> bool:
        """Tell whether the noise matrix has this inverse. None: whether there is no matrix."""
        if self.inverse is None or inverse is None:
            return self.inverse is inverse
        return np.array_equal(self.inverse, inverse)

    @one_blas_thread()
    def read(
        self,
        design: Design,
        labels: Labels,
        q: float,
        lam: float,
        width: Width = STANDARD_ERROR,
        deadline: float = np.inf,
    ) -> Array:
        """Learn from a portion of rows, and return the coefficients (C, d) for x - c.

        After the ``deadline``, on the clock of `time.monotonic`, no step is made, except the first.
        """
        self.sketch = self.sketch.joined(design.sketch())
        portion = Moments.of(RowsInMemory.of(design, labels), self.n_classes)
        portion = portion.unmixed(self.inverse)
        if self.centered is None:
            self.centered = width.columns_to_center(design, portion, self.center)
            self._unit = design.total_weight
        before = self.moments.center
        self.moments = width.centered(self.moments.joined(portion), self.centered)
        self._move(self.moments.center - before)
        design = design.centered_at(self.moments.center)
        half_width = self.uncertainty(lam, width).of_coefficients().half_width
        coef = self._coef(half_width)
        for start in range(0, design.n_rows, ROWS_PER_STEP):
            rows = np.arange(start, min(start + ROWS_PER_STEP, design.n_rows))
            batch = design.take(rows)
            mean = batch.adjoint(self._columns(labels.take(rows), len(rows)))
            step = Objective(
                MGCEPotential(q), RowsInMemory.of(batch),
                UncertaintySet(mean[-len(coef) :], half_width), self.n_classes, labeled=False,
            )  # fmt: skip
            _, gradient = step.value_and_slope(coef)
            weight = batch.total_weight / self._unit
            gradient *= weight
            self._gradients += gradient
            self._squares += gradient**2
            self._products += gradient * gradient[:, -1:]
            self._weight += weight
            self.n_steps += 1
            coef = self._coef(half_width)
            self.n_skipped = design.n_rows - (start + len(rows))
            if time.monotonic() >= deadline:
                break
        return coef

    def _columns(self, labels: Labels, n_rows: int) -> Array:
        """Return unbiased estimates (K, n_rows) of the true labels, one-hot without noise."""
        columns = np.zeros((self.n_classes, n_rows))
        labels.add_to(columns, 1.0)
        return columns if self.inverse is None else self.inverse.T @ columns

    def _move(self, shift: Array) -> None:
        """Change the sums of gradients for a center that moved by ``shift`` (d,)."""
        squares = self._squares[:, -1:].copy()  # of the intercept, which does not change
        self._gradients -= shift * self._gradients[:, -1:]
        self._squares += shift * (shift * squares - 2.0 * self._products)
        self._squares.clip(min=0.0, out=self._squares)
        self._products -= shift * squares

    def _coef(self, half_width: Array) -> Array:
        size = np.sqrt(self._squares) * self.moments.column_scale()
        excess = soft_threshold(self._gradients, self._weight * half_width)
        return np.divide(-RATE * excess, size, out=np.zeros_like(size), where=size > 0.0)
