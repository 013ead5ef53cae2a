"""The figure of the demonstration: the search, the calibration and the bound."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from mgce_sklearn.classifier import MGCEClassifier
from mgce_sklearn.demo import UserMistake
from mgce_sklearn.demo.study import Assessment, Search

Array = np.ndarray[Any, Any]

LAM_LABEL = "lam, half-width in standard errors"
BLUE, ORANGE, GRAY = "#1f5fa8", "#d9772b", "#8a8a8a"


def check_path(path: Path) -> None:
    """Raise `UserMistake` before the work starts if the figure could not be saved."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as missing:
        raise UserMistake(
            f"the figure needs {missing.name}: pip install 'mgce_sklearn[plot]'"
        ) from missing
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in formats:
        raise UserMistake(
            f"cannot write a figure to '{path}': end its name with one of .{', .'.join(formats)}"
        )
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserMistake(
            f"cannot write a figure to '{path}': name a file in a folder that exists and that "
            "you may write to"
        )


class DemoFigure:
    """Three panels side by side, each drawn by a method of its own."""

    def __init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(15.5, 4.9), dpi=130, layout="constrained")
        self.left, self.middle, self.right = self.figure.subplots(1, 3)
        for axes in self.figure.axes:
            axes.spines[["top", "right"]].set_visible(False)

    def save(self, path: Path) -> None:
        """Write the figure, in the format of the file's name."""
        try:
            self.figure.savefig(path)
        except OSError as error:
            raise UserMistake(f"cannot write a figure to '{path}': {error.strerror}") from error

    def draw_search(self, search: Search, title: str) -> None:
        """Draw the accuracies of a search as a map over q and lam."""
        from matplotlib.patches import Rectangle

        axes = self.left
        axes.set_title(f"Cross-validated accuracy\n{title}", loc="left")
        # Cell (i, j) has its center at (j, i).
        edges = [np.arange(size + 1) - 0.5 for size in search.accuracy.T.shape]
        axes.pcolormesh(*edges, search.accuracy, cmap="Blues", edgecolor="white", linewidth=2)
        middle = (search.accuracy.min() + search.accuracy.max()) / 2
        for (i, j), value in np.ndenumerate(search.accuracy):
            color = "white" if value > middle else "black"
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=color)
        corner = search.lams.index(search.lam) - 0.5, search.qs.index(search.q) - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=3))
        axes.set_xticks(range(len(search.lams)), [f"{lam:g}" for lam in search.lams])
        axes.set_yticks(range(len(search.qs)), [f"{q:g}" for q in search.qs])
        axes.set(xlabel=LAM_LABEL, ylabel="q, from cross-entropy (0) to 0-1 loss (1)")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    def draw_reliability(self, theirs: Assessment, ours: Assessment, title: str) -> None:
        """Draw accuracy against confidence, the size of a mark being the share of rows."""
        axes = self.middle
        axes.set_title(f"Are the probabilities right?\n{title}", loc="left")
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle="--", zorder=0)
        for assessment, color in ((theirs, ORANGE), (ours, BLUE)):
            bins = assessment.calibration
            axes.plot(bins.confidence, bins.accuracy, color=color, linewidth=1.5)
            axes.scatter(
                bins.confidence,
                bins.accuracy,
                s=12 + 900 * bins.share,
                color=color,
                alpha=0.75,
                linewidth=0,
                label=f"{assessment.name}: ECE {bins.error:.3f}",
            )
        axes.set(
            xlabel="probability given to the predicted class",
            ylabel="share of predictions that are right",
            xlim=(0, 1.04),
            ylim=(0, 1.04),
        )
        for handle in axes.legend(loc="lower right", frameon=False).legend_handles:
            handle.set_sizes([40])

    def draw_bound(self, lams: Array, along_lam: list[Assessment], title: str) -> None:
        """Draw the minimax risk and the held-out errors of models along lam."""
        axes = self.right
        axes.set_title(f"How wide must the set be for its bound to hold?\n{title}", loc="left")
        risk = [assessment.classifier.minimax_risk_ for assessment in along_lam]
        drawn = [assessment.drawn_error for assessment in along_lam]
        error = [1.0 - assessment.accuracy for assessment in along_lam]
        for values, color, style, label in (
            (risk, BLUE, "-", "minimax_risk_, from the training rows"),
            (drawn, BLUE, ":", "held out: error of labels drawn from predict_proba"),
            (error, ORANGE, "-", "held out: error of predict"),
        ):
            axes.plot(lams, values, style, color=color, marker="o", markersize=4, label=label)
        default = MGCEClassifier().lam
        axes.axvline(default, ymax=0.75, color=GRAY, linewidth=1, linestyle="--", zorder=0)
        axes.annotate(" default", (default, 0), (0, 4), textcoords="offset points", color=GRAY)
        axes.set(xscale="log", xlabel=LAM_LABEL, ylim=(0, 1.15 * max(risk + drawn)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend(loc="upper left", frameon=False)
