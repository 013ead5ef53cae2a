"""Reliability diagrams: how often the predicted probabilities come true."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.transforms import Bbox
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn import constraints
from mgce_sklearn.metrics import Reliability, class_reliabilities, top_label_reliability
from mgce_sklearn.plot import drawing

REFERENCE = "calibrated"
COUNTS = "counts"

# Of the strip of counts, in inches. As a share of the Axes it would change as a layout makes room
# for it, and the layout would not settle.
HEIGHT, DISTANCE = 0.66, 0.16

TOP_LABEL = ("probability of the predicted class", "accuracy, share of rows")
PER_CLASS = ("predicted probability of the class", "rows of the class, share")


class ReliabilityDisplay:
    """Reliability diagram: predicted probabilities against how often they come true.

    Rows are gathered in bins of like probability. Each curve shows the mean probability of a bin
    and the share of its rows that turned out so. A strip below shows the number of rows in each
    bin. Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    curves : dict of str to Reliability
        The numbers of each curve, by its name.
    per_class : bool, default=False
        Whether a curve is of the probabilities of one class. If not, it is of the class that is
        predicted, the top label.

    Attributes
    ----------
    ax_, counts_ax_ : matplotlib Axes
        The diagram, and the strip of counts below it.
    figure_ : matplotlib Figure
    lines_, count_lines_ : list of matplotlib Line2D
        A line of each curve in the diagram, and in the strip.
    reference_line_ : matplotlib Line2D
        The diagonal, where a calibrated classifier is.

    See Also
    --------
    mgce_sklearn.metrics.expected_calibration_error : The number in the legend of a top label.
    sklearn.calibration.CalibrationDisplay : The same diagram for two classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> from mgce_sklearn.plot import ReliabilityDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MGCEClassifier().fit(X, y)
    >>> display = ReliabilityDisplay.from_estimator(model, X, y, n_bins=5)
    >>> int(display.curves["MGCEClassifier"].count.sum())
    150
    """

    def __init__(self, curves: Mapping[str, Reliability], *, per_class: bool = False) -> None:
        self.curves = dict(curves)
        self.per_class = per_class

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        per_class: bool = False,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ReliabilityDisplay:
        """Draw the diagram of one or several fitted classifiers.

        Parameters
        ----------
        estimator : estimator or dict of str to estimator
            A fitted classifier of any kind with ``predict_proba``; or several, by the names that
            the legend shows.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that the classifier has not seen, mostly.
        y : array-like of shape (n_samples,)
            Their labels.
        per_class : bool, default=False
            Whether to draw a curve for each class. If not, one of the class that is predicted.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of the same width, or of the same number of rows; see
            `mgce_sklearn.metrics.expected_calibration_error`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        name : str, default=None
            Name of a single classifier. None: that of its class, or with ``per_class`` none.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from mgce_sklearn import MGCEClassifier
        >>> from mgce_sklearn.plot import ReliabilityDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> models = {f"q={q:g}": MGCEClassifier(q=q).fit(X, y) for q in (0, 0.5)}
        >>> display = ReliabilityDisplay.from_estimator(models, X, y)
        >>> list(display.curves)
        ['q=0', 'q=0.5']
        """
        named = drawing.by_name if per_class else drawing.estimators_by_name
        models = named(estimator, name)
        labels = _shared_classes(models)
        return cls.from_predictions(
            y,
            {name: model.predict_proba(X) for name, model in models.items()},
            per_class=per_class,
            n_bins=n_bins,
            strategy=strategy,
            labels=labels,
            sample_weight=sample_weight,
            ax=ax,
            curve_kwargs=curve_kwargs,
            despine=despine,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        per_class: bool = False,
        n_bins: int = 15,
        strategy: str = "uniform",
        labels: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ReliabilityDisplay:
        """Draw the diagram of predicted probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels of any dtype.
        y_proba : array-like of shape (n_samples, n_classes), or dict of str to array-like
            Probabilities, columns in the sorted order of the labels; or a vector, those of the
            second of two classes. A dictionary has those of several classifiers, by name.
        per_class : bool, default=False
            Whether to draw a curve for each class. If not, one of the class that is predicted.
        n_bins : int, default=15
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of the same width, or of the same number of rows.
        labels : array-like of shape (n_classes,), default=None
            All classes, if ``y_true`` lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative.
        name : str, default=None
            Name of a single classifier in the legend.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used.

        Examples
        --------
        >>> from mgce_sklearn.plot import ReliabilityDisplay
        >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
        >>> labels = ["a", "a", "a", "b"]
        >>> display = ReliabilityDisplay.from_predictions(labels, y_proba, name="model")
        >>> print(display.curves["model"].accuracy)
        [0.5 1. ]
        """
        constraints.SWITCH.check("per_class", per_class)
        how = {
            "n_bins": n_bins,
            "strategy": strategy,
            "labels": labels,
            "sample_weight": sample_weight,
        }
        curves: dict[str, Reliability] = {}
        for model, proba in drawing.by_name(y_proba, name).items():
            if per_class:
                of_each = class_reliabilities(y_true, proba, **how)
                curves |= {_class_name(model, label): found for label, found in of_each.items()}
            else:
                curves[model] = top_label_reliability(y_true, proba, **how)
        display = cls(curves, per_class=per_class)
        return display.plot(ax, curve_kwargs=curve_kwargs, despine=despine)

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ReliabilityDisplay:
        """Draw the curves. Those of several displays go on the same Axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        name : str or list of str, default=None
            Other names for the curves, one for each.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ReliabilityDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are more or fewer names or settings than curves.
        """
        names = drawing.each_name(name, list(self.curves))
        given = drawing.each_settings(curve_kwargs, len(names))
        self.ax_ = drawing.axes_or_new(ax)
        self.figure_ = self.ax_.figure
        self.reference_line_ = _reference_line(self.ax_)
        self.counts_ax_ = _strip_below(self.ax_)
        self.lines_, self.count_lines_ = [], []
        for found, name, own in zip(self.curves.values(), names, given, strict=True):
            settings = drawing.with_settings(drawing.style(drawing.n_curves(self.ax_)), own)
            label = drawing.label_of(name, f"ECE {found.error:.3f}")
            line = drawing.draw_curve(
                self.ax_, found.confidence, found.accuracy, **{"label": label, **settings}
            )
            self.lines_.append(line)
            (count_line,) = self.counts_ax_.plot(
                found.confidence, found.count, **{**settings, "label": "_counts"}
            )
            self.count_lines_.append(count_line)
        self._dress(despine)
        return self

    def _dress(self, despine: bool) -> None:
        """Write on the axes what they show."""
        xlabel, ylabel = PER_CLASS if self.per_class else TOP_LABEL
        self.ax_.set(ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        self.ax_.tick_params(labelbottom=False)
        self.counts_ax_.set(xlabel=xlabel, ylabel="rows in bin")
        if self.per_class:  # most rows are not of a class, and make one bin far larger than others
            self.counts_ax_.set_yscale("log")
        else:
            self.counts_ax_.set_ylim(bottom=0.0)
        drawing.legend_inside_or_beside(self.ax_)
        if despine:
            drawing.remove_spines(self.ax_)
            drawing.remove_spines(self.counts_ax_)

    def frame(self) -> Any:
        """Return the numbers, a row for each bin of each curve.

        Returns
        -------
        pandas.DataFrame
            With columns ``curve``, ``confidence``, ``accuracy`` and ``count``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        found = list(self.curves.values())
        columns = {
            name: np.concatenate([getattr(each, name) for each in found])
            for name in ("confidence", "accuracy", "count")
        }
        names = np.repeat(list(self.curves), [len(each.count) for each in found])
        return drawing.frame_of({"curve": names, **columns})


def _class_name(model: str, label: Any) -> str:
    return f"{model}, class {label}" if model else f"class {label}"


def _shared_classes(models: Mapping[str, Any]) -> Any:
    """Return the classes of several classifiers.

    Raises
    ------
    NotFittedError
        If one is not fitted.
    TypeError
        If one predicts no probabilities.
    ValueError
        If their classes differ.
    """
    classes = None
    for model in models.values():
        check_is_fitted(model)
        if not hasattr(model, "predict_proba"):
            raise TypeError(
                "estimator must be a classifier with predict_proba; got "
                f"{type(model).__name__}, which has none."
            )
        classes = model.classes_ if classes is None else classes
        if not np.array_equal(classes, model.classes_):
            raise ValueError(
                "Estimators must have the same classes to be compared; got "
                f"{classes.tolist()} and {model.classes_.tolist()}."
            )
    return classes


def _reference_line(ax: Any) -> Any:
    """Return the diagonal, drawn once."""
    for line in ax.lines:
        if line.get_label() == REFERENCE:
            return line
    (line,) = ax.plot(
        [0, 1], [0, 1], color=drawing.GRAY, linewidth=1, linestyle=":", label=REFERENCE, zorder=0
    )
    return line


def _strip_below(ax: Any) -> Any:
    """Return the Axes of counts below, made once."""
    for strip in ax.child_axes:
        if strip.get_label() == COUNTS:
            return strip
    strip = ax.inset_axes((0.0, 0.0, 1.0, 1.0), sharex=ax, label=COUNTS)
    strip.set_axes_locator(partial(_place_below, ax))
    return strip


def _place_below(ax: Any, strip: Any, renderer: Any) -> Bbox:
    """Return where the strip is, in shares of the figure."""
    above = ax.get_position()
    inches = ax.figure.bbox.height / ax.figure.dpi
    top = above.y0 - DISTANCE / inches
    return Bbox.from_extents(above.x0, top - HEIGHT / inches, above.x1, top)
