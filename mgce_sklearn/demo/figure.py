"""The figure of the demonstration: the search, the calibration and the bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline

from mgce_sklearn.assessment import Assessment
from mgce_sklearn.commands import UserMistake, check_writable
from mgce_sklearn.demo.sample import Sample
from mgce_sklearn.demo.study import Search


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
    check_writable("a figure", path)


class DemoFigure:
    """Three panels side by side, each drawn by a method of its own."""

    def __init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(15.5, 4.9), dpi=130, layout="constrained")
        # Figures of their own, so that the strip below one panel takes no room from the others.
        grid = self.figure.add_gridspec(1, 3)
        self.left, self.middle, self.right = (
            self.figure.add_subfigure(grid[0, i]).subplots() for i in range(3)
        )

    def save(self, path: Path) -> None:
        """Write the figure, in the format of the file's name."""
        try:
            self.figure.savefig(path)
        except OSError as error:
            raise UserMistake(f"cannot write a figure to '{path}': {error.strerror}") from error

    def draw_search(self, search: Search, title: str) -> None:
        """Draw the accuracies of a search as a map over q and lam."""
        from mgce_sklearn.plot import SearchDisplay

        SearchDisplay(
            np.array(search.qs),
            np.array(search.lams),
            search.accuracy,
            chosen=(search.q, search.lam),
            score_name="accuracy, mean over the folds",
        ).plot(self.left, despine=True)
        self.left.set_title(f"Cross-validated accuracy\n{title}", loc="left")

    def draw_reliability(self, theirs: Assessment, ours: Assessment, title: str) -> None:
        """Draw accuracy against confidence, and the rows there are of each."""
        from mgce_sklearn.plot import ReliabilityDisplay

        curves = {assessment.name: assessment.calibration for assessment in (theirs, ours)}
        ReliabilityDisplay(curves).plot(self.middle, despine=True)
        self.middle.set_title(f"Are the probabilities right?\n{title}", loc="left")

    def draw_bounds(self, sample: Sample, along_lam: list[Pipeline], title: str) -> None:
        """Draw the bounds on the errors of models along lam, and the errors held out."""
        from mgce_sklearn.plot import ErrorBoundDisplay

        ErrorBoundDisplay.from_estimator(
            along_lam, sample.X_train, X_test=sample.X_test, y_test=sample.y_test,
            ax=self.right, despine=True,
        )  # fmt: skip
        self.right.set_title(
            f"How wide must the set be for its bounds to hold?\n{title}", loc="left"
        )
