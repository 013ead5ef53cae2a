"""Whether an uncertainty set is empty, and otherwise some distribution in it.

For the labeled rows whose means the set is about it is never empty: their own labels are such a
distribution. For rows without labels, and for labels that are known to be wrong, it may be empty.
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

# The factor by which an empty set must grow is computed to this accuracy.
GROWTH_ACCURACY = 0.01


class EmptySetError(ValueError):
    """The uncertainty set is empty: no labeling of the rows is consistent with it.

    Attributes
    ----------
    growth : float
        Factor on the half-widths with which the set is not empty. It is the smallest such factor,
        to one per cent, unless the solver cannot decide.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import EmptySetError, MGCEClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MGCEClassifier(lam=0.1).fit(X, y)
    >>> try:
    ...     model.error_bounds(X[:100])  # one class is missing
    ... except EmptySetError as error:
    ...     print(error.growth > 1)
    True
    """

    def __init__(self, growth: float, lam: float | None = None, of_fit: bool = False) -> None:
        self.growth, self._lam, self._of_fit = growth, lam, of_fit
        if lam is None:
            remedy = f"Half-widths {growth:.3g} times as large would do"
        else:
            remedy = f"lam must grow from {lam:g} to {growth * lam:.3g}"
        super().__init__(self._words().format(remedy=remedy))

    def _words(self) -> str:
        if self._of_fit:
            return (
                "lam must be large enough for some true labels to be consistent with the observed "
                "ones and noise_matrix; at this lam the uncertainty set is empty. {remedy}, and "
                "further for bounds that are useful: lam='feasible' is large enough."
            )
        return (
            "X must have labelings that are consistent with the uncertainty set, with means within "
            "half_width of tau; it has none. {remedy}; or give rows distributed like those of the "
            "fit."
        )

    def __reduce__(self) -> Any:
        """Pickle the arguments: errors come back from other processes that way."""
        return type(self), (self.growth, self._lam, self._of_fit)


class Sample(NamedTuple):
    """Rows without labels, and the uncertainty set of a fit, for the features it constrains.

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

        The set does not constrain them: their half-widths are 0 because no row had them.
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

        For any labels, the means of onehot(y) ⊗ x sum over classes to the mean of x.
        """
        surplus = np.abs(self.mean() - self.uncertainty.tau.sum(axis=0))
        return float(np.max(surplus / self.uncertainty.half_width.sum(axis=0), initial=0.0))

    def growth(self, least: float = 1.0) -> float:
        """Return the smallest factor on the half-widths with which the set is not empty.

        With the factor ``least`` it is empty.
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
        """Tell whether the grown set is not empty, and a lower bound on the growth it needs."""
        result = self._looked_into(growth)
        if result.status is not Status.EMPTY:
            return bool(np.isfinite(result.dual_value)), growth
        penalty = np.vdot(growth * self.uncertainty.half_width, np.abs(result.coef))
        return False, growth * (1.0 + (1.0 - result.value) / float(penalty))

    def _looked_into(self, growth: float) -> SolverResult:
        """Return the worst case of costs that all are 1, over the grown set.

        Its value is 1, unless some W proves that the set is empty.
        """
        uncertainty = self.uncertainty.widened(growth)
        equal = partial(_constant, len(uncertainty.tau))
        return solved(self._worst_case(uncertainty, equal), tol=1.0)

    def feasible_excess(self, growth: float) -> Array | None:
        """Return mean p_i ⊗ x_i - tau (K, d) of some p in the grown set, if any is found.

        It has all features, with 0 for those that were zero in every row.
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
    """Return the solution by the solver that suits; without features, coefficients of shape 0."""
    if objective.shape[1] == 0:  # nothing is constrained
        coef = np.zeros(objective.shape)
        value = objective.value(coef)
        return SolverResult(coef, value, value, Status.CONVERGED, 0, ())
    solver = SOLVERS[choose_solver(objective)](tol=tol, verbose=verbose)
    return solver.solve(objective, start, watch=watch)
