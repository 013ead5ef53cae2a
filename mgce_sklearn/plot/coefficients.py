"""Coefficients along lam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from mgce_sklearn import constraints
from mgce_sklearn.plot import drawing
from mgce_sklearn.plot.models import as_list, chosen, classifier_of, varied

Array = np.ndarray[Any, Any]

SIGNED = "coefficient, margin per unit of the feature"
LARGEST = "largest |coefficient| of any class,\nmargin per unit of the feature"

# Names are so far apart at least, in the height of the Axes.
SPACING = 0.055


class CoefficientPathDisplay:
    """Coefficients of the features against lam.

    The axis of lam is logarithmic and descends, so that coefficients grow toward the right. There
    the features of the largest coefficients are named.

    Parameters
    ----------
    lams : ndarray of shape (n_lams,)
        Half-widths, ascending.
    coefs : ndarray of shape (n_lams, n_features)
        A coefficient of each feature for each of these.
    feature_names : sequence of str
        Names of the features.
    quantity : str, default="coefficient, margin per unit of the feature"
        What the coefficients are, for the axis.
    width : str, default="standard_error"
        ``width`` of the classifiers, which decides the unit of lam.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        A line for each feature.
    named_ : list of int
        Positions of the features that are named, the largest first.
    text_ : list of matplotlib Annotation
        Their names.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from mgce_sklearn import mgce_path
    >>> from mgce_sklearn.plot import CoefficientPathDisplay
    >>> data = load_breast_cancer()
    >>> path = mgce_path(data.data, data.target, qs=[0.5], lams=[0.3, 1.0, 3.0])
    >>> display = CoefficientPathDisplay.from_path(path, feature_names=data.feature_names)
    >>> display.coefs.shape
    (3, 30)
    """

    def __init__(
        self,
        lams: Array,
        coefs: Array,
        feature_names: Sequence[str],
        *,
        quantity: str = SIGNED,
        width: Any = "standard_error",
    ) -> None:
        self.lams = lams
        self.coefs = coefs
        self.feature_names = list(map(str, feature_names))
        if len(self.feature_names) != coefs.shape[1]:
            raise ValueError(
                f"feature_names must have a name for each of the {coefs.shape[1]} features; got "
                f"{len(self.feature_names)}."
            )
        self.quantity = quantity
        self.width = width

    @classmethod
    def from_path(
        cls,
        path: Any,
        *,
        q: float | None = None,
        label: Any = None,
        feature_names: Sequence[str] | None = None,
        n_named: int = 6,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> CoefficientPathDisplay:
        """Draw the coefficients of `mgce_sklearn.mgce_path` at one q.

        Parameters
        ----------
        path : MGCEPath
            What `mgce_path` returned. Points that time did not suffice for are left out.
        q : float, default=None
            One of its ``qs``. None: the only one.
        label : object, default=None
            The class whose coefficients to draw. None: for two classes those of the second less
            those of the first; for more classes the largest absolute value over the classes.
        feature_names : sequence of str, default=None
            Names of the features. None: x0, x1 and so on.
        n_named : int, default=6
            How many features to name.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        CoefficientPathDisplay

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used.
        """
        at = _position("q", q, path.qs)
        solved = np.flatnonzero(np.isfinite(path.minimax_risks[at]))
        order = solved[np.argsort(path.lams[solved])]
        coefs, quantity = _of_class(path.coefs[at, order], path.classes, label)
        names = _numbered(coefs.shape[1]) if feature_names is None else feature_names
        display = cls(path.lams[order], coefs, names, quantity=quantity)
        return display.plot(ax, n_named=n_named, curve_kwargs=curve_kwargs, despine=despine)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        label: Any = None,
        feature_names: Sequence[str] | None = None,
        n_named: int = 6,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> CoefficientPathDisplay:
        """Draw the coefficients of fitted models that differ by lam.

        Parameters
        ----------
        estimator : sequence of estimator
            Fitted `MGCEClassifier`, or pipelines that end in one, with the same features and
            classes, each with a ``lam`` of its own.
        label : object, default=None
            The class whose coefficients to draw, as in `from_path`.
        feature_names : sequence of str, default=None
            Names of the features. None: those that the models know, or else x0, x1 and so on.
        n_named : int, default=6
            How many features to name.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        CoefficientPathDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError, ValueError
            For an argument that cannot be used.
        """
        given = as_list(estimator)
        models = [classifier_of(each, "coef_") for each in given]
        if varied(models) != "lam":
            raise ValueError(
                "estimator must be several fitted estimators that differ by lam; got "
                f"{len(models)} with lam={[model.lam for model in models]}."
            )
        if len({model.coef_.shape for model in models}) > 1:
            raise ValueError(
                "Estimators must have the same features and classes; got coef_ of shapes "
                f"{sorted({model.coef_.shape for model in models})}."
            )
        lams = np.array([model.lam for model in models], float)
        order = np.argsort(lams)
        coefs = np.array([model.coef_ for model in models])[order]
        coefs, quantity = _of_class(coefs, models[0].classes_, label)
        names = _known_names(given[0]) if feature_names is None else feature_names
        display = cls(lams[order], coefs, names, quantity=quantity, width=models[0].width)
        return display.plot(ax, n_named=n_named, curve_kwargs=curve_kwargs, despine=despine)

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        n_named: int = 6,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> CoefficientPathDisplay:
        """Draw a line for each feature, and name the largest at the right edge.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        name : list of str, default=None
            Other names for the features, one for each.
        n_named : int, default=6
            How many features to name.
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        CoefficientPathDisplay
            Itself.

        Raises
        ------
        TypeError, ValueError
            For an argument that cannot be used.
        """
        constraints.COUNT.check("n_named", n_named)
        names = drawing.each_name(name, self.feature_names)
        given = drawing.each_settings(curve_kwargs, len(names))
        self.ax_ = drawing.axes_or_new(ax)
        self.figure_ = self.ax_.figure
        self.named_ = [int(j) for j in np.argsort(-np.abs(self.coefs[0]))[:n_named]]
        settings = self._settings()
        self.lines_ = [
            drawing.draw_curve(
                self.ax_,
                self.lams,
                values,
                **{"label": name, **drawing.with_settings(default, own)},
            )
            for values, default, own, name in zip(self.coefs.T, settings, given, names, strict=True)
        ]
        self.ax_.set(xscale="log", xlabel=drawing.lam_label(self.width), ylabel=self.quantity)
        self.ax_.set_xlim(self.lams.max(), self.lams.min())
        drawing.plain_ticks(self.ax_.xaxis, self.lams)
        self.ax_.axhline(0.0, color=drawing.GRAY, linewidth=0.8, zorder=0)
        self.text_ = [
            self._write(names[j], float(self.coefs[0, j]), height, self.lines_[j].get_color())
            for j, height in zip(self.named_, self._heights(), strict=True)
        ]
        if despine:
            drawing.remove_spines(self.ax_)
        return self

    def _settings(self) -> list[dict[str, Any]]:
        """Return the style of each line: gray for features that are not named."""
        settings = [{"color": "#b8b8b8", "linewidth": 0.8} for _ in self.feature_names]
        for rank, j in enumerate(self.named_):
            settings[j] = {**drawing.style(rank), "marker": "", "zorder": 3}
        return settings

    def _heights(self) -> Array:
        """Return where the names go, as shares of the height, none on top of another."""
        low, high = self.ax_.get_ylim()
        wanted = (self.coefs[0, self.named_] - low) / (high - low)
        order = np.argsort(wanted)
        wanted[order] = _apart(wanted[order])
        return wanted

    def _write(self, name: str, value: float, height: float, color: Any) -> Any:
        """Write a name beside the right end of its line."""
        return self.ax_.annotate(
            name,
            (self.lams[0], value),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize="small",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkB": 0},
            annotation_clip=False,
        )

    def frame(self) -> Any:
        """Return the coefficients, a row for each lam and a column for each feature.

        Returns
        -------
        pandas.DataFrame
            Its index is lam, and its columns are the names of the features.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        # Names may be there twice, so that columns are numbered first.
        table = drawing.frame_of({str(j): values for j, values in enumerate(self.coefs.T)})
        table.index, table.columns = self.lams.tolist(), self.feature_names
        return table.rename_axis(index="lam")


def _apart(heights: Array) -> Array:
    """Return ascending heights at least `SPACING` apart, none above the top."""
    apart = heights.copy()
    for i in range(1, len(apart)):
        apart[i] = max(apart[i], apart[i - 1] + SPACING)
    ceiling = 1.0
    for i in reversed(range(len(apart))):
        apart[i] = min(apart[i], ceiling)
        ceiling = apart[i] - SPACING
    return apart


def _position(name: str, value: Any, values: Array) -> int:
    """Return where a value is; of a single value it need not be said.

    Raises
    ------
    ValueError
        If it is not there, or must be said.
    """
    if value is None and len(values) == 1:
        return 0
    at = np.flatnonzero(values == value)
    if len(at) == 0:
        raise ValueError(f"{name} must be one of {values.tolist()}; got {value!r}.")
    return int(at[0])


def _of_class(coefs: Array, classes: Array, label: Any) -> tuple[Array, str]:
    """Return one coefficient for each feature, of (n_lams, C, n_features), and what it is."""
    if coefs.shape[1] == 1:
        if label is None:
            return coefs[:, 0], SIGNED
        sign = (-1.0, 1.0)[_position("label", label, classes)]
        return sign * coefs[:, 0], SIGNED
    if label is None:
        return np.abs(coefs).max(axis=1), LARGEST
    return coefs[:, _position("label", label, classes)], SIGNED


def _known_names(estimator: Any) -> list[str]:
    """Return the names of a fitted model's features, as far as it knows them."""
    model = classifier_of(estimator, "coef_")
    for step in (getattr(model, "feature_map_", None), _steps_before(estimator)):
        if step is not None and hasattr(step, "get_feature_names_out"):
            return list(step.get_feature_names_out())
    n_features = model.coef_.shape[1]
    return list(getattr(model, "feature_names_in_", _numbered(n_features)))


def _steps_before(estimator: Any) -> Any:
    model = chosen(estimator)
    return model[:-1] if isinstance(model, Pipeline) and len(model) > 1 else None


def _numbered(n_features: int) -> list[str]:
    return [f"x{j}" for j in range(n_features)]
