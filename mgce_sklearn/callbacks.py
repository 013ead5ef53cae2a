"""Callbacks of scikit-learn (1.9 or later): when they are called during a fit, and stop it.

A fit is a tree of tasks. Callbacks are called when each task begins and ends. Before scikit-learn
1.9 there are no callbacks, and this module does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from mgce_sklearn.solvers import Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    # Number of calls that the decorator adds, for the stacklevel of warnings.
    WRAPPERS = 1
except ImportError:
    WRAPPERS = 0

    class _NoContext:
        """The context of a task when there are no callbacks."""

        def subcontext(self, **how: Any) -> _NoContext:
            return self

        def call_on_fit_task_begin(self, **data: Any) -> None:
            """Do nothing."""

        def call_on_fit_task_end(self, **data: Any) -> bool:
            return False

        def propagate_callback_context(self, estimator: Any) -> Any:
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replaces the class of scikit-learn."""

        def _init_callback_context(self, **how: Any) -> _NoContext:
            return _NoContext()

    def with_callbacks(method: Any) -> Any:
        """Return the method unchanged."""
        return method


# A progress bar shows the way to a closed gap in this number of equal steps.
N_BAR_STEPS = 25


class Task:
    """A task of a fit. Callbacks are called when it begins and when it ends.

    Parameters
    ----------
    context : CallbackContext
        The context of scikit-learn.
    data : dict
        Arguments of callbacks: estimator, X, y and metadata.
    """

    def __init__(self, context: Any, data: dict[str, Any]) -> None:
        self._context, self._data = context, data
        context.call_on_fit_task_begin(**data)

    @classmethod
    def of_fit(cls, estimator: Any, X: Any, y: Any, sample_weight: Any, n_parts: int) -> Task:
        """Begin a fit with at most ``n_parts`` parts, in a method decorated by `with_callbacks`.

        This sets an attribute of the estimator, which the decorator needs at the end of the fit. So
        it must not be removed before.
        """
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        return cls(estimator._init_callback_context(max_subtasks=n_parts), data)

    def part(self, name: str, n_parts: int | None = 0) -> Task:
        """Begin a part of this task, with at most ``n_parts`` parts. None: unknown."""
        return Task(self._context.subcontext(task_name=name, max_subtasks=n_parts), self._data)

    @contextmanager
    def handed_to(self, estimator: Any, name: str) -> Iterator[None]:
        """Return a context for a part that is the fit of another estimator."""
        context = self._context.subcontext(task_name=name)
        with context.propagate_callback_context(estimator):
            part = Task(context, self._data)
            yield
        part.end()

    def end(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """End the task. Return whether a callback requests to stop.

        ``fitted`` returns the attributes that the estimator would have if its fit ended here.
        """
        return bool(
            self._context.call_on_fit_task_end(**self._data, reconstruction_attributes=fitted)
        )


class GapReport:
    """Calls callbacks at every step of a solver, and as the gap closes.

    A fit has one part for all its steps, whose number is unknown, and `N_BAR_STEPS` more parts:
    equal steps from the first relative gap to ``tol``, on a logarithmic scale. So a progress bar of
    the fit shows how far the gap is closed.

    Parameters
    ----------
    fit : Task
        With `N_PARTS` parts.
    fitted : callable
        Returns the attributes that the estimator would have if its fit ended at a `Progress`.
    """

    N_PARTS = 1 + N_BAR_STEPS

    def __init__(self, fit: Task, fitted: Callable[[Progress], dict[str, Any]]) -> None:
        self._fit, self._fitted = fit, fitted
        self._steps = fit.part("steps", n_parts=None)
        self._step = self._steps.part("step")
        self._first_gap, self._done = math.inf, 0

    def __call__(self, progress: Progress) -> bool:
        """End a step and begin the next. Return whether a callback requests to stop."""
        stops = [self._step.end(lambda: self._fitted(progress))]
        while self._done < math.floor(N_BAR_STEPS * self._way(progress)):
            self._done += 1
            stops.append(self._fit.part("share of the gap").end())
        self._step = self._steps.part("step")
        return any(stops)

    def _way(self, progress: Progress) -> float:
        """Return the fraction of the way to a closed gap, from 0 to 1."""
        if not math.isfinite(progress.gap):
            return 0.0
        if progress.gap <= progress.tol * progress.value:
            return 1.0
        gap = progress.gap / progress.value
        if self._first_gap == math.inf:
            self._first_gap = gap
        return math.log(self._first_gap / gap) / math.log(self._first_gap / progress.tol)

    def end(self) -> None:
        """End the last step, with the attributes of the estimator, and the part of all steps."""
        self._step.end(fitted=dict)
        self._steps.end()
