"""How a solver closed the duality gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgce_sklearn import constraints
from mgce_sklearn.plot import drawing
from mgce_sklearn.plot.models import classifier_of
from mgce_sklearn.solvers.base import TracePoint

Array = np.ndarray[Any, Any]

AGAINST = ("seconds", "steps")
XLABELS = {"seconds": "time since the solver began, seconds", "steps": "steps of the solver"}
COLUMNS = ("seconds", "n_iter", "value", "dual_value", "n_nonzero")


class ConvergenceDisplay:
    """The relative duality gap of fits against seconds or steps.

    The relative gap is (value - dual value) / value. The optimum lies between these two, so the gap
    is the largest share by which the value can still fall. A fit has converged when the gap is at
    most ``tol``.

    Parameters
    ----------
    traces : dict of str to sequence of TracePoint
        The history of each fit, ``trace_`` of a fitted `MGCEClassifier`, by name.
    tol : float, default=None
        The gap at which the fits were to stop, drawn as a line.

    Attributes
    ----------
    gaps : dict of str to ndarray
        Relative gaps whenever they were checked. They are infinite until the solver has a dual
        value.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        A line for each fit.
    tol_line_ : matplotlib Line2D or None
        The line at ``tol``.

    Raises
    ------
    ValueError
        If a history is empty.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> from mgce_sklearn.plot import ConvergenceDisplay
    >>> model = MGCEClassifier(tol=1e-4).fit(*load_iris(return_X_y=True))
    >>> display = ConvergenceDisplay.from_estimator(model)
    >>> bool(display.gaps["MGCEClassifier"][-1] <= 1e-4)
    True
    """

    def __init__(
        self, traces: Mapping[str, Sequence[TracePoint]], *, tol: float | None = None
    ) -> None:
        self.traces = {name: tuple(trace) for name, trace in traces.items()}
        for name, trace in self.traces.items():
            if not trace:
                raise ValueError(
                    f"trace_ of {name!r} must have a point; got none, as after a search's fit "
                    "without certificate. Fit the estimator itself."
                )
        self.tol = tol
        self.gaps = {name: _relative_gaps(trace) for name, trace in self.traces.items()}

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        against: str = "seconds",
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ConvergenceDisplay:
        """Draw how fits of `MGCEClassifier` have converged.

        Parameters
        ----------
        estimator : estimator or dict of str to estimator
            A fitted `MGCEClassifier`, or a pipeline or search that ends in one; or several, by the
            names that the legend shows.
        against : {"seconds", "steps"}, default="seconds"
            What the horizontal axis shows.
        name : str, default=None
            Name of a single estimator. None: that of its class.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ConvergenceDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError, ValueError
            For an argument that cannot be used.
        """
        models = {
            name: classifier_of(each, "trace_")
            for name, each in drawing.estimators_by_name(estimator, name).items()
        }
        tols = {model.tol for model in models.values()}
        display = cls(
            {name: model.trace_ for name, model in models.items()},
            tol=tols.pop() if len(tols) == 1 else None,
        )
        return display.plot(ax, against=against, curve_kwargs=curve_kwargs, despine=despine)

    def plot(
        self,
        ax: Any = None,
        *,
        against: str = "seconds",
        name: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ConvergenceDisplay:
        """Draw the gaps on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        against : {"seconds", "steps"}, default="seconds"
            What the horizontal axis shows.
        name : str or list of str, default=None
            Other names for the curves, one for each.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ConvergenceDisplay
            Itself.

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used.
        """
        constraints.one_of(AGAINST).check("against", against)
        names = drawing.each_name(name, list(self.traces))
        given = drawing.each_settings(curve_kwargs, len(names))
        self.ax_ = drawing.axes_or_new(ax)
        self.figure_ = self.ax_.figure
        self.lines_ = []
        field = "n_iter" if against == "steps" else "seconds"
        for trace, gaps, name, own in zip(
            self.traces.values(), self.gaps.values(), names, given, strict=True
        ):
            # Until there is a dual value the gap is infinite, and after it is closed it may be 0.
            shown = np.isfinite(gaps) & (gaps > 0.0)
            x = np.array([getattr(point, field) for point in trace])
            settings = drawing.with_settings(drawing.style(drawing.n_curves(self.ax_)), own)
            self.lines_.append(
                drawing.draw_curve(self.ax_, x[shown], gaps[shown], **{"label": name, **settings})
            )
        self.tol_line_ = None if self.tol is None else self._draw_tol()
        if against == "steps":
            self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.set(yscale="log", xlabel=XLABELS[against], ylabel="duality gap, share of value")
        self.ax_.legend(frameon=False, fontsize="small")
        if despine:
            drawing.remove_spines(self.ax_)
        return self

    def _draw_tol(self) -> Any:
        return self.ax_.axhline(
            self.tol, color=drawing.GRAY, linewidth=1, linestyle=":", label=f"tol = {self.tol:g}"
        )

    def frame(self) -> Any:
        """Return the numbers, a row for each check of the gap.

        Returns
        -------
        pandas.DataFrame
            With columns ``fit``, ``seconds``, ``n_iter``, ``value``, ``dual_value``, ``n_nonzero``
            and ``relative_gap``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        points = [point for trace in self.traces.values() for point in trace]
        return drawing.frame_of(
            {
                "fit": np.repeat(list(self.traces), [len(each) for each in self.traces.values()]),
                **{name: [getattr(point, name) for point in points] for name in COLUMNS},
                "relative_gap": np.concatenate(list(self.gaps.values())),
            }
        )


def _relative_gaps(trace: Sequence[TracePoint]) -> Array:
    """Return (value - dual value) / value; rounding leaves none below 0."""
    return np.array([max(0.0, point.value - point.dual_value) / point.value for point in trace])
