"""The figures of the page, as SVG. Colors are told apart by color-blind readers too."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np

from mgce_sklearn.report.measure import Findings

# Okabe and Ito's, dark ones.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#7b3294")
MARKERS = ("o", "s", "^", "D")
GRAY = "#666666"

# Inches; small, so that letters can be read on a phone.
SIZE = (4.4, 4.0)


def reliability(found: Findings) -> str:
    """Draw accuracy against confidence, a curve for each model."""
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", zorder=0)
    for each, color, marker in zip(found.judged, COLORS, MARKERS, strict=True):
        bins = each.calibration
        axes.plot(bins.confidence, bins.accuracy, color=color, linewidth=1.5)
        axes.scatter(
            bins.confidence, bins.accuracy, 10 + 300 * bins.share, color=color, marker=marker,
            alpha=0.8, linewidth=0, label=f"{each.name}: ECE {bins.error:.3f}",
        )  # fmt: skip
    least = min(0.9, 1.0 / found.recipe.proba.shape[1])
    axes.set(
        xlabel="probability given to the predicted class",
        ylabel="share of predictions that are right",
        xlim=(least - 0.03, 1.03),
        ylim=(-0.03, 1.03),
    )
    for handle in _legend(figure, axes).legend_handles:
        handle.set_sizes([30])
    return _source(figure)


def bounds(found: Findings) -> str:
    """Draw the range of each error over the uncertainty set, and the error on rows held out."""
    figure, axes = _axes()
    heights = -np.arange(len(found.bounded))
    lower, upper, held_out = np.array(
        [[each.bounds.lower, each.bounds.upper, each.held_out] for each in found.bounded]
    ).T
    axes.hlines(heights, lower, upper, color=COLORS[0], linewidth=7, label="bounds over the set")
    axes.plot(held_out, heights, "D", color=COLORS[1], markersize=7, label="error on rows held out")
    chance = found.bounded[0].bounds.chance
    axes.axvline(chance, color=GRAY, linewidth=1, linestyle="--", label="error of guessing")
    names = [each.name.removesuffix("Classifier") for each in found.bounded]
    rules = [each.bounds.rule for each in found.bounded]
    axes.set_yticks(heights, [f"{name}\n{rule}" for name, rule in zip(names, rules, strict=True)])
    most = max(chance, upper.max(), held_out.max())
    axes.set(xlabel="error", xlim=(0, 1.05 * most), ylim=(heights[-1] - 0.6, 0.6))
    _legend(figure, axes)
    return _source(figure)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Any, axes: Any) -> Any:
    return figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", frameon=False)


def _source(figure: Any) -> str:
    """Return a figure as the source of an image, which runs nothing and loads nothing."""
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"
