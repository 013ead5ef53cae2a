"""`Parts` whose rows are on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from mgce_sklearn import validation
from mgce_sklearn.arrays import Array
from mgce_sklearn.dask.blocks import Recipe, Summary
from mgce_sklearn.dask.rounds import Rounds
from mgce_sklearn.design import WORKING_MEMORY, Design
from mgce_sklearn.labels import HardLabels, Labels, SoftLabels
from mgce_sklearn.parts import Name, Part, Parts, RowsInMemory, Term, add
from mgce_sklearn.problem import class_factors

# Most rows of the sample, and most numbers in them. A fit starts from the solution of the sample.
SAMPLED_ROWS, SAMPLED_NUMBERS = 2**15, 2**24

# Numbers of recipes.
_numbers = count()


class Totals:
    """What the summaries of all blocks add up to.

    Parameters
    ----------
    summaries : list of Summary

    Attributes
    ----------
    classes : ndarray of shape (K,)
        Labels, sorted.
    totals : ndarray of shape (K,)
        Sum of the weights of each class.
    weight : float
        Sum of all weights.
    certain : bool
        Whether every label is one class, not a distribution.
    n_rows : int
        Number of rows of positive weight.
    n_columns : int
        Number of columns, after a feature map if there is one.
    dtype : dtype
        Type of the numbers of X.
    names : tuple of str, or None
        Names of the columns.
    """

    def __init__(self, summaries: list[Summary]) -> None:
        used = [each for each in summaries if each.n_rows]
        likeness: Any = next(each.likeness for each in summaries if each.likeness is not None)
        self.n_rows = sum(each.n_rows for each in used)
        self.n_columns, self.names = likeness.n_columns, likeness.names
        self.dtype = np.dtype(likeness.dtype)
        self.certain = not likeness.labels.startswith("distributions")
        self.classes = np.unique(np.concatenate([each.classes for each in used] or [[]]))
        self.totals = np.zeros(len(self.classes))
        for each in used:
            self.totals[np.searchsorted(self.classes, each.classes)] += each.totals
        self.weight = sum(each.weight for each in used)


@dataclass(frozen=True)
class RowsOnWorkers(Parts):
    """Rows in blocks on workers.

    Parameters
    ----------
    rounds : Rounds
        What computes terms of all blocks.
    recipe : Recipe
        How blocks become parts.
    drawn : tuple
        Features, labels and weights of a sample of the rows.
    total : int
        Number of rows.
    soft : bool
        Whether labels are distributions.
    """

    rounds: Rounds
    recipe: Recipe
    drawn: tuple[Any, Labels | None, Array]
    total: int
    soft: bool = False
    reading_costs: ClassVar[bool] = True  # a round does, whatever it reads
    latency: ClassVar[float] = 0.02

    @classmethod
    def of(
        cls,
        rounds: Rounds,
        totals: Totals,
        fit_intercept: bool,
        class_weight: Any = None,
        labeled: bool = True,
    ) -> RowsOnWorkers:
        """Return the rows of all blocks. Features are not centered.

        Raises
        ------
        ValueError
            If weights, labels or class weights cannot be used.
        """
        classes: Any = None
        factors: Any = None
        weight = validation.check_total_weight(totals.weight)
        if labeled:
            classes = totals.classes
            validation.check_several(classes[totals.totals > 0.0])
        if labeled and class_weight is not None:
            factors = class_factors(class_weight, classes, totals.totals)
            name = "sample_weight times class_weight"
            weight = validation.check_total_weight(float(factors @ totals.totals), name)
        recipe = Recipe(next(_numbers), classes, factors, weight, fit_intercept)
        n_sampled = min(SAMPLED_ROWS, max(256, SAMPLED_NUMBERS // totals.n_columns))
        term = partial(_draw, min(1.0, n_sampled / totals.n_rows))
        drawn = rounds.sum(term, _concatenated, recipe)
        return cls(rounds, recipe, drawn, totals.n_rows, labeled and not totals.certain)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.total

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return self.recipe.total_weight

    @property
    def certain(self) -> bool:
        """Whether every label is one class, not a distribution."""
        return not self.soft

    @property
    def told(self) -> str:
        """Number of rounds, and bytes sent, for the lines of ``verbose``."""
        return f"  {self.rounds.n_rounds} rounds, {self.rounds.n_bytes / 1e6:.1f} MB sent"

    @cached_property
    def sample(self) -> RowsInMemory:
        """A sample of the rows, in the client's memory."""
        X, labels, weights = self.drawn
        recipe = replace(self.recipe, stores_single=True)
        return RowsInMemory.of(recipe.design(X, weights), labels)

    @property
    def like(self) -> Design:
        """The design of the sample."""
        return self.sample.like

    @property
    def has_single(self) -> bool:  # type: ignore[override]
        """Whether `compact` would save time."""
        return self.like.has_single

    @property
    def at_once(self) -> int:  # type: ignore[override]
        """Number of blocks that are read at the same time."""
        return self.rounds.n_threads

    @property
    def working_memory(self) -> int:  # type: ignore[override]
        """Bytes that workers together may keep beside the rows to save time."""
        return WORKING_MEMORY * self.rounds.n_workers

    def over(
        self, term: Term, combine: Callable[[Any, Any], Any] = add, features: bool = True
    ) -> Any:
        """Combine the values of a term for every part; see `Parts.over`.

        Raises
        ------
        LostRows
            If the term needs arrays that were kept with rows that a worker lost.
        ClusterError
            If workers, or the scheduler, have gone.
        """
        return self.rounds.sum(term, combine, self.recipe)

    @contextmanager
    def opened(self, width: int) -> Iterator[RowsOnWorkers]:
        """Return the same rows: nothing is opened, because workers have their own threads."""
        yield self

    def named(self, kind: type[Name]) -> Name:
        """Return a new name for arrays that stay with the blocks.

        When the name is gone, workers forget its arrays in the next round.
        """
        name = kind(self.rounds.live.discard)
        self.rounds.live.add(name.key)
        return name

    def together(self) -> Part:
        """Raise TypeError: the rows are never all in one memory."""
        raise TypeError("rows on workers are never all in one memory")

    def _with(self, **changes: Any) -> RowsOnWorkers:
        recipe = replace(self.recipe, number=next(_numbers), **changes)
        return replace(self, recipe=recipe)

    def compact(self) -> RowsOnWorkers:
        """Return the same rows in single precision, for computations that need no more.

        Sparse rows stay as they are if a dense copy does not fit in memory.
        """
        fits = 4 * self.n_rows * self.n_features <= self.working_memory
        if self.recipe.unit is not None or (self.like.sparse and not fits):
            return self
        other = self._with(unit=self.column_scale, stores_single=fits)
        vars(other)["column_scale"] = self.column_scale
        return other

    def columns(self, columns: Array) -> RowsOnWorkers:
        """Return the same rows with some of their columns. The intercept stays."""
        return self._with(chosen=columns)

    def centered_at(self, center: Array) -> RowsOnWorkers:
        """Return the same rows minus ``center`` (d,). With an intercept, its last entry is 0."""
        return self._with(center=center)


def _draw(fraction: float, part: Part) -> tuple[Any, Labels | None, Array]:
    """Return a random fraction of the rows, as they are stored. This is a term."""
    draws = np.random.default_rng((0, part.first_row)).random(part.n_rows)
    rows = np.flatnonzero(draws < fraction)
    labels = None if part.labels is None else part.labels.take(rows)
    return part.design.X[rows], labels, part.design.sample_weight[rows]


def _concatenated(
    one: tuple[Any, Any, Array], other: tuple[Any, Any, Array]
) -> tuple[Any, Any, Array]:
    (X, labels, weights), (more, more_labels, more_weights) = one, other
    X = sp.vstack([X, more], format="csr") if sp.issparse(X) else np.concatenate([X, more])
    if isinstance(labels, HardLabels):
        labels = HardLabels(np.append(labels.codes, more_labels.codes))
    elif isinstance(labels, SoftLabels):
        labels = SoftLabels(np.hstack([labels.proba, more_labels.proba]))
    return X, labels, np.append(weights, more_weights)
