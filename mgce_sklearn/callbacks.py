"""Callbacks of scikit-learn, from 1.9 on: what they are told of a fit, and how they stop it.

A fit is a tree of tasks, and callbacks are told when each begins and ends. Before 1.9 there are
none, and what is here tells nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from mgce_sklearn.solvers import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    # Calls between a method with callbacks and whoever calls it: what a warning must skip.
    WRAPPERS = 1
except ImportError:
    WRAPPERS = 0

    class _NoContext:
        """The context of a task when there are no callbacks."""

        def subcontext(self, **how: Any) -> _NoContext:
            return self

        def call_on_fit_task_begin(self, **data: Any) -> None:
            """Tell nobody."""

        def call_on_fit_task_end(self, **data: Any) -> bool:
            return False

        def propagate_callback_context(self, estimator: Any) -> Any:
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's."""

        def _init_callback_context(self, **how: Any) -> _NoContext:
            return _NoContext()

    def with_callbacks(method: Any) -> Any:
        """Return a method as it is."""
        return method


# Equal shares of the way to a closed gap: what a progress bar moves by.
SHARES = 25


class Task:
    """A task of a fit. Callbacks are told that it begins, and when it ends.

    Parameters
    ----------
    context : CallbackContext
    data : dict
        What they are told besides: estimator, X, y and metadata.
    """

    def __init__(self, context: Any, data: dict[str, Any]) -> None:
        self._context, self._data = context, data
        context.call_on_fit_task_begin(**data)

    @classmethod
    def of_fit(cls, estimator: Any, X: Any, y: Any, sample_weight: Any, n_parts: int) -> Task:
        """Begin the fit of an estimator, a method ``with_callbacks``, of so many parts at most.

        Callbacks end by what this leaves on the estimator: nobody may take that away before.
        """
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        return cls(estimator._init_callback_context(max_subtasks=n_parts), data)

    def part(self, name: str, n_parts: int | None = 0) -> Task:
        """Begin a part of this task, of so many parts at most; None: nobody knows how many."""
        return Task(self._context.subcontext(task_name=name, max_subtasks=n_parts), self._data)

    @contextmanager
    def handed_to(self, estimator: Any, name: str) -> Iterator[None]:
        """Begin a part that is the fit of another estimator, and end it."""
        context = self._context.subcontext(task_name=name)
        with context.propagate_callback_context(estimator):
            part = Task(context, self._data)
            yield
        part.end()

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """End the task; return whether a callback asks to stop.

        ``fitted`` returns the attributes of the estimator as if its fit had ended here.
        """
        return bool(
            self._context.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted)
        )


class GapReport:
    """Tells callbacks of every step of a solver, and of the way that the gap has gone.

    A fit has a part for all its steps, of which nobody knows how many they will be, and `SHARES`
    others: equal shares of the way from the first relative gap to ``tol``, on a logarithmic scale.
    So a progress bar of the fit shows how far the gap is closed.

    Parameters
    ----------
    fit : Task
        With `N_PARTS` parts.
    fitted : callable
        Returns the attributes of the estimator as if its fit had ended at a `Progress`.
    """

    N_PARTS = 1 + SHARES

    def __init__(self, fit: Task, fitted: Callable[[Progress], dict[str, Any]]) -> None:
        self._fit, self._fitted = fit, fitted
        self._steps = fit.part("steps", n_parts=None)
        self._step = self._steps.part("step")
        self._first_gap, self._done = math.inf, 0

    def __call__(self, progress: Progress) -> bool:
        """End a step and begin the next; return whether a callback asks to stop."""
        asked = [self._step.end(lambda: self._fitted(progress))]
        while self._done < math.floor(SHARES * self._way(progress)):
            self._done += 1
            asked.append(self._fit.part("share of the gap").end())
        self._step = self._steps.part("step")
        return any(asked)

    def _way(self, progress: Progress) -> float:
        """Return how much of the way is gone, from 0 to 1."""
        if not math.isfinite(progress.gap):
            return 0.0
        if progress.gap <= progress.tol * progress.value:
            return 1.0
        gap = progress.gap / progress.value
        if self._first_gap == math.inf:
            self._first_gap = gap
        return math.log(self._first_gap / gap) / math.log(self._first_gap / progress.tol)

    def end(self) -> None:
        """End the steps, the last with the estimator as it is: that the solver ends shows late."""
        self._step.end(fitted=dict)
        self._steps.end()
