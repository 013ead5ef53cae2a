"""Whether an uncertainty set holds anything, and some distribution that it holds.

Labels of the rows whose means the set is about are such a distribution. Rows without labels, and
labels that are known to be wrong, may leave it empty.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mgce_sklearn.objective import Objective, mean_of
from mgce_sklearn.parts import Columns, Part, Parts
from mgce_sklearn.potentials import MaximumPotential
from mgce_sklearn.solvers import (
    SOLVERS,
    UNWATCHED,
    SolverResult,
    Start,
    Status,
    Watch,
    choose_solver,
)
from mgce_sklearn.uncertainty import UncertaintySet

Array = np.ndarray[Any, Any]

# The factor by which an empty set must grow is found to this accuracy.
GROWTH_ACCURACY = 0.01


class EmptySetError(ValueError):
    """No distribution has these features and means within the half-widths.

    Attributes
    ----------
    growth : float
        Factor on the half-widths with which the set holds something: the least, to one per
        cent, wherever the solver decides.
    """

    def __init__(self, growth: float, lam: float | None = None, of_fit: bool = False) -> None:
        self.growth, self._lam, self._of_fit = growth, lam, of_fit
        if lam is None:
            remedy = f"Half-widths {growth:.3g} times as large would hold some"
        else:
            remedy = f"lam must grow from {lam:g} to {growth * lam:.3g} to hold some"
        super().__init__(self._words().format(remedy=remedy))

    def _words(self) -> str:
        if self._of_fit:
            return (
                "lam must be large enough for some true labels to have means within half_width of "
                "what noise_matrix makes of the observed ones. {remedy}, and more for bounds that "
                "mean anything: lam='feasible' takes enough."
            )
        return (
            "X must be able to have means within the uncertainty set: no labels give its rows "
            "means within half_width of tau. {remedy}; or take rows distributed like those of "
            "the fit."
        )

    def __reduce__(self) -> Any:
        """Pickle what the message is made of: workers hand errors back that way."""
        return type(self), (self.growth, self._lam, self._of_fit)


class Sample(NamedTuple):
    """Rows without labels, and the uncertainty set of a fit, for features that it constrains.

    Attributes
    ----------
    parts : Parts
    uncertainty : UncertaintySet
    seen : ndarray of shape (d,)
        Which features are left.
    """

    parts: Parts
    uncertainty: UncertaintySet
    seen: Array

    @classmethod
    def of(cls, parts: Parts, uncertainty: UncertaintySet) -> Sample:
        """Leave out the features that were zero in every row of the fit.

        Of these the set says nothing: their half-widths are 0 because no row showed them.
        """
        seen: Array = np.any(uncertainty.half_width > 0.0, axis=0)
        if seen.all():
            return cls(parts, uncertainty, seen)
        columns = np.flatnonzero(seen[: parts.like.n_columns])
        return cls(parts.columns(columns), uncertainty.columns(seen), seen)

    def objective(self, costs: Columns) -> Objective:
        """Return the problem of the worst case for costs (K, n)."""
        return self._worst_case(self.uncertainty.of_coefficients(self.mean()), costs)

    def objective_about_tau(self, costs: Columns) -> Objective:
        """Return the problem of the worst case for costs (K, n), whatever the rows' own mean."""
        return self._worst_case(self.uncertainty, costs)

    def _worst_case(self, uncertainty: UncertaintySet, costs: Columns) -> Objective:
        return Objective(
            potential=MaximumPotential(),
            parts=self.parts,
            uncertainty=uncertainty,
            n_classes=len(self.uncertainty.tau),
            labeled=False,
            offsets=self.parts.keep(costs, features=False),
        )

    def mean(self) -> Array:
        """Return the mean of the features (d,)."""
        return self.parts.sum(partial(mean_of, partial(_constant, 1), 0))[0]

    def growth_for_sums(self) -> float:
        """Return the factor that the half-widths need for the sums over classes alone.

        Over classes the means of onehot(y) ⊗ x sum to the mean of x, whatever the labels.
        """
        surplus = np.abs(self.mean() - self.uncertainty.tau.sum(axis=0))
        return float(np.max(surplus / self.uncertainty.half_width.sum(axis=0), initial=0.0))

    def growth(self, least: float = 1.0) -> float:
        """Return the factor on the half-widths from which on the set is not empty.

        ``least`` is a factor with which it is.
        """
        low, high = max(least, self.growth_for_sums()), np.inf
        step = GROWTH_ACCURACY
        while high > (1.0 + GROWTH_ACCURACY) * low:
            trial = low * (1.0 + step) if np.isinf(high) else np.sqrt(low * high)
            holds, needed = self._holds(trial)
            low, high = (low, trial) if holds else (max(needed, trial), high)
            step *= 2.0
        return high

    def _holds(self, growth: float) -> tuple[bool, float]:
        """Tell whether the set holds something if it grows, and what growth it needs at least."""
        result = self._looked_into(growth)
        if result.status is not Status.EMPTY:
            return bool(np.isfinite(result.dual_value)), growth
        penalty = np.vdot(growth * self.uncertainty.half_width, np.abs(result.coef))
        return False, growth * (1.0 + (1.0 - result.value) / float(penalty))

    def _looked_into(self, growth: float) -> SolverResult:
        """Return the worst case of equal costs over the grown set.

        With equal costs for all the value is theirs, unless some W proves the set empty.
        """
        uncertainty = self.uncertainty.widened(growth)
        equal = partial(_constant, len(uncertainty.tau))
        return solved(self._worst_case(uncertainty, equal), tol=1.0)

    def feasible_excess(self, growth: float) -> Array | None:
        """Return mean p_i ⊗ x_i - tau (K, d) of some p that the grown set holds, if any is found.

        Of all features; 0 for those that were zero in every row.
        """
        point = self._looked_into(growth).anchor
        if point is None:
            return None
        excess = np.zeros((len(point.excess), len(self.seen)))
        excess[:, self.seen] = point.excess
        return excess


def _constant(n_classes: int, part: Part) -> Array:
    return np.ones((n_classes, part.n_rows))


def solved(
    objective: Objective,
    tol: float,
    start: Start | None = None,
    watch: Watch = UNWATCHED,
    verbose: int = 0,
) -> SolverResult:
    """Return the solution by the solver that suits, with zeros if there is nothing to choose."""
    if objective.shape[1] == 0:  # nothing is constrained, and there is nothing to choose
        coef = np.zeros(objective.shape)
        value = objective.value(coef)
        return SolverResult(coef, value, value, Status.CONVERGED, 0, ())
    solver = SOLVERS[choose_solver(objective)](tol=tol, verbose=verbose)
    return solver.solve(objective, start, watch=watch)
