"""What all displays share: Axes, styles that need no color to be told apart, names, and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D

Array = np.ndarray[Any, Any]

# The palette of Okabe and Ito, which color-blind readers can tell apart; without its yellow, which
# is too light for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v")
LINE_STYLES = ("-", "--", "-.", ":")
GRAY = "#767676"

# 600 pixels wide at 100 dots per inch.
SIZE = (6.0, 4.2)

UNITS = {"standard_error": "standard errors", "std": "standard deviations"}

# Height of an entry of a legend, as a share of that of the Axes.
ENTRY = 0.052

# More entries of a legend than this would cover the curves.
FEW = 6

# Names the artists that later calls on the same Axes look for.
CURVE = "curve"


def axes_or_new(ax: Any) -> Any:
    """Return the Axes given, or those of a new figure."""
    if ax is not None:
        return ax
    _, ax = pyplot.subplots(figsize=SIZE, dpi=100, layout="constrained")
    return ax


def remove_spines(ax: Any) -> None:
    """Remove the upper and the right border."""
    ax.spines[["top", "right"]].set_visible(False)


def style(index: int) -> dict[str, Any]:
    """Return color, marker and line style of the curve of this number."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": LINE_STYLES[index % len(LINE_STYLES)],
        "markersize": 4.5,
        "linewidth": 1.5,
    }


def n_curves(ax: Any) -> int:
    """Return how many curves displays have drawn on these Axes."""
    return sum(line.get_gid() == CURVE for line in ax.lines)


def draw_curve(ax: Any, x: Array, y: Array, **settings: Any) -> Line2D:
    """Draw one curve, and mark it as a display's."""
    (line,) = ax.plot(x, y, gid=CURVE, **settings)
    return line


def with_settings(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a user's settings of a line over the default ones, whichever alias they come by."""
    return {**default, **normalize_kwargs(dict(given), Line2D)}


def each_settings(curve_kwargs: Any, n: int) -> list[Mapping[str, Any]]:
    """Return a user's settings of each of n curves.

    Raises
    ------
    ValueError
        For a list of another length.
    """
    if curve_kwargs is None or isinstance(curve_kwargs, Mapping):
        return [curve_kwargs or {}] * n
    return _one_for_each("curve_kwargs", "a dictionary", list(curve_kwargs), n)


def each_name(name: Any, known: Sequence[str]) -> list[str]:
    """Return the names of curves: those given, or else those that are known.

    Raises
    ------
    ValueError
        If there are not as many as curves.
    """
    if name is None:
        return list(known)
    names = [name] if isinstance(name, str) else list(name)
    return _one_for_each("name", "a string", names, len(known))


def _one_for_each(what: str, kind: str, given: list[Any], n: int) -> list[Any]:
    if len(given) != n:
        raise ValueError(
            f"{what} must be {kind} for each of the {n} curves; got {len(given)} of them."
        )
    return given


def by_name(values: Any, name: str | None) -> dict[str, Any]:
    """Return a dictionary of models or predictions as it is, and a single one under its name.

    Raises
    ------
    ValueError
        If the dictionary is empty, or a name comes with it.
    """
    if not isinstance(values, Mapping):
        return {name or "": values}
    if not values or name is not None:
        raise ValueError(
            "name must be None, and the dictionary must have an entry, where a dictionary names "
            f"what is drawn; got name={name!r} and {len(values)} entries."
        )
    return {str(key): value for key, value in values.items()}


def estimators_by_name(estimator: Any, name: str | None) -> dict[str, Any]:
    """Return estimators under their names; a single one is named after its class."""
    if not isinstance(estimator, Mapping) and name is None:
        name = type(estimator).__name__
    return by_name(estimator, name)


def legend_inside_or_beside(ax: Any) -> None:
    """Make the legend: of few entries where the curves leave most room, of many at the right."""
    n_entries = len(ax.get_legend_handles_labels()[1])
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02)} if n_entries > FEW else {}
    ax.legend(**{"loc": "best", **beside}, frameon=False, fontsize="small")


def legend_above_curves(ax: Any) -> None:
    """Make the legend, in room that is made by a vertical axis from 0 to above the curves."""
    n_entries = len(ax.get_legend_handles_labels()[1])
    ax.set_ylim(0.0, ax.get_ylim()[1] / (1.0 - ENTRY * n_entries))
    ax.legend(loc="upper left", frameon=False, fontsize="small")


def label_of(name: str, remark: str) -> str:
    """Return a curve's entry in the legend: its name, if it has one, and a number."""
    return f"{name}: {remark}" if name else remark


def lam_label(width: Any = "standard_error") -> str:
    """Return the label of an axis of lam, with its unit if the ``width`` has one."""
    unit = UNITS.get(width) if isinstance(width, str) else None
    return f"half-width lam, {unit}" if unit else "half-width lam"


def plain_ticks(axis: Any, values: Array) -> None:
    """Have a logarithmic axis show its ticks as 0.03 rather than as a power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    decades = np.ptp(np.log10(values))
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.0 else (1.0, 3.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def frame_of(columns: Mapping[str, Any]) -> Any:
    """Return columns as a pandas DataFrame.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("frame() needs pandas: pip install 'mgce_sklearn[plot]'.") from error
    return pandas.DataFrame(dict(columns))
