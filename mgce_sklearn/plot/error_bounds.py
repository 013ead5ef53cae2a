"""Bounds on the error beside the error on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgce_sklearn import constraints, validation
from mgce_sklearn.bounds import RULES
from mgce_sklearn.plot import drawing
from mgce_sklearn.plot.models import as_list, classifier_of, rows_for_last_step, varied

Array = np.ndarray[Any, Any]

NAMES = {"deterministic": "predict", "randomized": "randomized rule"}
ERROR = "error, share of rows"
RISK = "minimax_risk_, bound on the loss"

# Where numbers are written, in points from a bar.
ABOVE, BELOW = 15.0, -15.0
Q_LABEL = "loss parameter q"


class ErrorBoundDisplay:
    """Bounds on the error over the uncertainty set, and the error on held-out rows.

    Two rules are judged. The deterministic rule is `predict`. The randomized rule draws its label
    from `predict_proba`, and ``minimax_risk_`` bounds its error from above. For one model the
    bounds are intervals. For several models that differ by lam or q they are bands along it.

    Parameters
    ----------
    minimax_risk : ndarray of shape (n_models,)
        ``minimax_risk_`` of each model.
    lower, upper : dict of str to ndarray of shape (n_models,)
        Bounds on the error of each rule, "deterministic" or "randomized".
    held_out : dict of str to ndarray of shape (n_models,), default=None
        Error of each rule on held-out rows.
    parameter : {"lam", "q"}, default=None
        What the models differ by. None: there is one model.
    values : ndarray of shape (n_models,), default=None
        The values of this parameter, ascending.
    width : str, default="standard_error"
        ``width`` of the models, which decides the unit of lam.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bound_artists_ : dict of str to artist
        The interval or the band of each rule.
    risk_artist_ : matplotlib Line2D
        ``minimax_risk_``.
    held_out_artists_ : dict of str to matplotlib Line2D
        The error of each rule on held-out rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifier
    >>> from mgce_sklearn.plot import ErrorBoundDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MGCEClassifier(q=0.7).fit(X[::2], y[::2])
    >>> display = ErrorBoundDisplay.from_estimator(model, X[::2], X_test=X[1::2], y_test=y[1::2])
    >>> print(f"{display.held_out['deterministic'][0]:.3f}")
    0.040
    """

    def __init__(
        self,
        minimax_risk: Array,
        lower: Mapping[str, Array],
        upper: Mapping[str, Array],
        *,
        held_out: Mapping[str, Array] | None = None,
        parameter: str | None = None,
        values: Array | None = None,
        width: Any = "standard_error",
    ) -> None:
        self.minimax_risk = minimax_risk
        self.lower = dict(lower)
        self.upper = dict(upper)
        self.held_out = dict(held_out or {})
        self.parameter = parameter
        self.values = np.array([]) if values is None else values
        self.width = width

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_test: Any = None,
        y_test: Any = None,
        rules: Sequence[str] = RULES,
        tol: float = 1e-3,
        ax: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ErrorBoundDisplay:
        """Compute the bounds of fitted models, and draw them.

        Parameters
        ----------
        estimator : estimator or sequence of estimator
            A fitted `MGCEClassifier`, or a pipeline or search that ends in one. Or several that
            differ by lam or by q.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to bound the error over, those of the fit. Labels are not needed. The bounds of
            other rows often do not exist: see `MGCEClassifier.error_bounds`.
        X_test : {array-like, sparse matrix} of shape (n_test, n_features), default=None
            Held-out rows.
        y_test : array-like of shape (n_test,), default=None
            Their labels.
        rules : sequence of {"deterministic", "randomized"}, default=both
            Whose error to bound.
        tol : float, default=1e-3
            How far a bound may be from the best one, in units of error.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        curve_kwargs : dict or list of dict, default=None
            Settings of the lines of all rules, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ErrorBoundDisplay

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        EmptySetError
            If no labels of X are consistent with the uncertainty set.
        TypeError, ValueError
            For an argument that cannot be used.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from mgce_sklearn import MGCEClassifier
        >>> from mgce_sklearn.plot import ErrorBoundDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> models = [MGCEClassifier(lam=lam).fit(X, y) for lam in (0.1, 0.3, 1.0)]
        >>> display = ErrorBoundDisplay.from_estimator(models, X, rules=["randomized"])
        >>> print(display.parameter, display.upper["randomized"].round(2))
        lam [0.09 0.17 0.32]
        """
        rules = _checked_rules(rules)
        if (X_test is None) != (y_test is None):
            raise ValueError(
                "X_test and y_test must be given together; got only "
                f"{'y_test' if X_test is None else 'X_test'}."
            )
        given = as_list(estimator)
        models = [classifier_of(each, "error_bounds") for each in given]
        parameter = varied(models)
        if parameter is not None:
            order = np.argsort([getattr(model, parameter) for model in models])
            given, models = [given[i] for i in order], [models[i] for i in order]
        bounds = {
            rule: [
                model.error_bounds(rows_for_last_step(each, X), rule, tol=tol)
                for each, model in zip(given, models, strict=True)
            ]
            for rule in rules
        }
        display = cls(
            np.array([model.minimax_risk_ for model in models]),
            {rule: np.array([bound.lower for bound in bounds[rule]]) for rule in rules},
            {rule: np.array([bound.upper for bound in bounds[rule]]) for rule in rules},
            held_out=None if X_test is None else _errors(given, rules, X_test, y_test),
            parameter=parameter,
            values=None if parameter is None else _values_of(models, parameter),
            width=models[0].width,
        )
        return display.plot(ax, curve_kwargs=curve_kwargs, despine=despine)

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> ErrorBoundDisplay:
        """Draw intervals for one model, and bands for several.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        name : list of str, default=None
            Other names for the rules, one for each.
        curve_kwargs : dict or list of dict, default=None
            Settings of the lines of all rules, or of each.
        despine : bool, default=False
            Whether to remove the upper and the right border.

        Returns
        -------
        ErrorBoundDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are more or fewer names or settings than rules.
        """
        names = drawing.each_name(name, [NAMES[rule] for rule in self.lower])
        given = drawing.each_settings(curve_kwargs, len(names))
        self.ax_ = drawing.axes_or_new(ax)
        self.figure_ = self.ax_.figure
        self.bound_artists_: dict[str, Any] = {}
        self.held_out_artists_: dict[str, Any] = {}
        single = self.parameter is None
        self.risk_artist_ = self._draw_risk_of_one() if single else self._draw_risk_along()
        draw = self._draw_interval if single else self._draw_band
        for i, (rule, name, own) in enumerate(zip(self.lower, names, given, strict=True)):
            draw(i, rule, name, drawing.with_settings(drawing.style(i), own))
        self._dress_intervals(names) if single else self._dress_bands()
        if despine:
            drawing.remove_spines(self.ax_)
        return self

    def _draw_interval(self, i: int, rule: str, name: str, settings: dict[str, Any]) -> None:
        """Draw the bounds of one model as a bar, and its error on held-out rows as a mark."""
        ends = [self.lower[rule][0], self.upper[rule][0]]
        bar = {"marker": "|", "markersize": 16, "markeredgewidth": 2, "linewidth": 3}
        (self.bound_artists_[rule],) = self.ax_.plot(
            ends, [-i, -i], **{**settings, **bar, "linestyle": "-", "label": f"bounds, {name}"}
        )
        for end in ends:
            self._write(end, -i, ABOVE)
        if rule in self.held_out:
            error = self.held_out[rule][0]
            (self.held_out_artists_[rule],) = self.ax_.plot(
                [error], [-i], "o", color="black", zorder=4, label=f"held-out error, {name}"
            )
            self._write(error, -i, BELOW)

    def _write(self, error: float, y: float, offset: float) -> None:
        """Write an error so many points above its place."""
        self.ax_.annotate(
            f"{error:.3f}",
            (error, y),
            (0.0, offset),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize="small",
        )

    def _draw_risk_of_one(self) -> Any:
        return self.ax_.axvline(self.minimax_risk[0], color="black", linestyle="--", label=RISK)

    def _dress_intervals(self, names: Sequence[str]) -> None:
        """Write on the axes what they show."""
        handles = [self.risk_artist_, *list(self.held_out_artists_.values())[:1]]
        labels = [f"{RISK}: {self.minimax_risk[0]:.3f}", "error on held-out rows"]
        # Opaque: the line of minimax_risk_ goes across the whole height.
        opaque = {"framealpha": 1.0, "edgecolor": "none", "fontsize": "small"}
        self.ax_.legend(handles, labels[: len(handles)], loc="upper left", **opaque)
        lines = [name.replace(" ", "\n") for name in names]
        self.ax_.set_yticks([-i for i in range(len(names))], lines)
        self.ax_.set(ylim=(0.5 - len(names), 0.9), xlabel=ERROR)
        self.ax_.margins(x=0.1)

    def _draw_band(self, i: int, rule: str, name: str, settings: dict[str, Any]) -> None:
        """Draw the bounds along the parameter as a band, and the errors on held-out rows."""
        color = settings["color"]
        band = self.ax_.fill_between(
            self.values,
            self.lower[rule],
            self.upper[rule],
            facecolor=(color, 0.13),
            edgecolor=color,
            linestyle=settings["linestyle"],
            linewidth=settings["linewidth"],
            label=f"bounds, {name}",
        )
        self.bound_artists_[rule] = band
        if rule in self.held_out:
            self.held_out_artists_[rule] = drawing.draw_curve(
                self.ax_,
                self.values,
                self.held_out[rule],
                **{**settings, "linewidth": 0.8, "label": f"held-out error, {name}"},
            )

    def _draw_risk_along(self) -> Any:
        how = {"color": "black", "linestyle": ":", "label": RISK}
        return self.ax_.plot(self.values, self.minimax_risk, **how)[0]

    def _dress_bands(self) -> None:
        """Write on the axes what they show."""
        along_lam = self.parameter == "lam"
        xlabel = drawing.lam_label(self.width) if along_lam else Q_LABEL
        self.ax_.set(xlabel=xlabel, ylabel=ERROR)
        if along_lam:
            self.ax_.set_xscale("log")
            drawing.plain_ticks(self.ax_.xaxis, self.values)
        drawing.legend_above_curves(self.ax_)

    def frame(self) -> Any:
        """Return the numbers, a row for each model.

        Returns
        -------
        pandas.DataFrame
            With columns ``lam`` or ``q`` if the models differ by it, ``minimax_risk``, and for each
            rule its ``_lower``, ``_upper`` and, if known, ``_held_out``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        columns = {} if self.parameter is None else {self.parameter: self.values}
        columns["minimax_risk"] = self.minimax_risk
        for rule in self.lower:
            columns |= {f"{rule}_lower": self.lower[rule], f"{rule}_upper": self.upper[rule]}
            if rule in self.held_out:
                columns[f"{rule}_held_out"] = self.held_out[rule]
        return drawing.frame_of(columns)


def _values_of(models: Sequence[Any], parameter: str) -> Array:
    return np.array([getattr(model, parameter) for model in models], float)


def _checked_rules(rules: Any) -> list[str]:
    """Return rules as a list.

    Raises
    ------
    TypeError, ValueError
        If there is none, or one that is unknown or there twice.
    """
    found = [rules] if isinstance(rules, str) else list(rules)
    for rule in found:
        constraints.one_of(RULES).check("rules", rule)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"rules must be one or both of {list(RULES)}; got {found}.")
    return found


def _errors(estimators: Sequence[Any], rules: Sequence[str], X: Any, y: Any) -> dict[str, Array]:
    """Return the errors of rules on held-out rows, an array of one for each model."""
    y, _ = validation.check_label_array("y_test", y)
    judge = {"deterministic": _error_of_predict, "randomized": _error_of_draws}
    return {rule: np.array([judge[rule](each, X, y) for each in estimators]) for rule in rules}


def _error_of_predict(estimator: Any, X: Any, y: Array) -> float:
    return float(np.mean(estimator.predict(X) != y))


def _error_of_draws(estimator: Any, X: Any, y: Array) -> float:
    """Return the probability that a label drawn from predict_proba is wrong."""
    right = y[:, np.newaxis] == estimator.classes_
    return float(1.0 - np.mean(np.sum(estimator.predict_proba(X), axis=1, where=right)))
