"""The link: from margins to the rule and to the worst case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot

from mgce_sklearn import constraints, kernels, validation
from mgce_sklearn.plot import drawing

Array = np.ndarray[Any, Any]

TITLES = ("rule h, predict_proba", "worst case p*")

# A marker on every so manieth of the margins, so that markers stay apart.
MARKED = 25

SEVERAL = constraints.Constraint(
    constraints.COUNT.types, lambda value: value >= 2, "an integer of at least 2"
)


class LinkDisplay:
    """The minimax rule and the worst case against the margin, for several q.

    The margin is that of one class, while the margins of all others are 0. Shown are the
    probability that the rule h gives this class, and its probability under the worst case p*. At
    q = 0 both are the softmax. For larger q the rule is exactly 0 or 1 beyond some margin.

    Parameters
    ----------
    qs : sequence of float
        Loss parameters in [0, 1].
    n_classes : int, default=2
        Number of classes, at least 2.
    margins : array-like of shape (n_margins,), default=None
        Margins of the class. None: 201 of them from -4 to 4.

    Attributes
    ----------
    rule, worst_case : ndarray of shape (n_qs, n_margins)
        Probabilities of the class.
    ax_ : ndarray of two matplotlib Axes
        For the rule and for the worst case.
    figure_ : matplotlib Figure
    rule_lines_, worst_case_lines_ : list of matplotlib Line2D
        A line for each q.

    Raises
    ------
    TypeError, ValueError
        For an argument that cannot be used.

    Examples
    --------
    >>> from mgce_sklearn.plot import LinkDisplay
    >>> display = LinkDisplay([0, 0.5, 1], margins=[-1, 0, 1]).plot()
    >>> print(display.rule.round(2))
    [[0.27 0.5  0.73]
     [0.17 0.5  0.83]
     [0.   0.5  1.  ]]
    """

    def __init__(self, qs: Sequence[float], n_classes: int = 2, *, margins: Any = None) -> None:
        SEVERAL.check("n_classes", n_classes)
        self.qs = constraints.check_sequence("qs", qs, constraints.LOSS_PARAMETER)
        self.n_classes = n_classes
        self.margins = np.linspace(-4.0, 4.0, 201) if margins is None else _checked(margins)
        rows = np.zeros((len(self.margins), n_classes))
        rows[:, 0] = self.margins
        self.rule, self.worst_case = (
            np.array([link(rows, float(q))[:, 0] for q in self.qs])
            for link in (kernels.rule, kernels.worst_case)
        )

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        curve_kwargs: Any = None,
        despine: bool = False,
    ) -> LinkDisplay:
        """Draw the rule and the worst case side by side.

        Parameters
        ----------
        ax : sequence of two matplotlib Axes, default=None
            Where to draw the rule and the worst case. None: a new figure.
        name : list of str, default=None
            Names in the legend, one for each q. None: "q = ...".
        curve_kwargs : dict or list of dict, default=None
            Settings of all lines, or of those of each q.
        despine : bool, default=False
            Whether to remove the upper and the right borders.

        Returns
        -------
        LinkDisplay
            Itself.

        Raises
        ------
        ValueError
            If there are not two Axes, or not as many names or settings as q.
        """
        names = drawing.each_name(name, [f"q = {q:g}" for q in self.qs])
        given = drawing.each_settings(curve_kwargs, len(names))
        self.ax_ = _two_axes(ax)
        self.figure_ = self.ax_[0].figure
        settings = [
            {
                **drawing.with_settings({**drawing.style(i), "markevery": (4 * i, MARKED)}, own),
                "label": name,
            }
            for i, (name, own) in enumerate(zip(names, given, strict=True))
        ]
        self.rule_lines_, self.worst_case_lines_ = (
            [
                drawing.draw_curve(panel, self.margins, values, **each)
                for values, each in zip(probabilities, settings, strict=True)
            ]
            for panel, probabilities in zip(self.ax_, (self.rule, self.worst_case), strict=True)
        )
        for panel, title in zip(self.ax_, TITLES, strict=True):
            panel.set(title=title, ylim=(-0.03, 1.03), xlabel=self._xlabel())
            if despine:
                drawing.remove_spines(panel)
        self.ax_[0].set_ylabel("probability of the class")
        self.ax_[0].legend(loc="upper left", frameon=False, fontsize="small")
        return self

    def _xlabel(self) -> str:
        other = "the other is" if self.n_classes == 2 else f"the {self.n_classes - 1} others are"
        return f"margin ({other} 0)"

    def frame(self) -> Any:
        """Return the numbers, a row for each q and margin.

        Returns
        -------
        pandas.DataFrame
            With columns ``q``, ``margin``, ``rule`` and ``worst_case``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return drawing.frame_of(
            {
                "q": np.repeat(self.qs, len(self.margins)),
                "margin": np.tile(self.margins, len(self.qs)),
                "rule": self.rule.ravel(),
                "worst_case": self.worst_case.ravel(),
            }
        )


def _checked(margins: Any) -> Array:
    """Return margins as finite numbers, a vector."""
    found = validation.check_numbers("margins", margins)
    if found.ndim != 1 or len(found) == 0 or not np.isfinite(found).all():
        raise ValueError(
            f"margins must be a vector of finite numbers; got shape {found.shape}"
            f"{'' if np.isfinite(found).all() else ' with NaN or infinity'}."
        )
    return found


def _two_axes(ax: Any) -> Array:
    """Return two Axes, of a new figure if none are given."""
    if ax is None:
        _, ax = pyplot.subplots(
            1, 2, figsize=(6.0, 3.4), dpi=100, layout="constrained", sharey=True
        )
    axes = np.array(ax, dtype=object).ravel()
    if len(axes) != 2:
        raise ValueError(
            "ax must be two Axes, for the rule and for the worst case, as from "
            f"pyplot.subplots(1, 2); got {len(axes)}."
        )
    return axes
