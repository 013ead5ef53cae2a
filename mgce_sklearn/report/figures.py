"""The figures of the page, displays as SVG."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np

from mgce_sklearn.report.measure import Findings

# Inches; small, so that letters can be read on a phone.
SIZE = (4.6, 4.4)


def reliability(found: Findings) -> str:
    """Draw accuracy against confidence, a curve for each model."""
    from mgce_sklearn.plot import ReliabilityDisplay

    figure, axes = _axes()
    ReliabilityDisplay({each.name: each.calibration for each in found.assessments}).plot(
        axes, despine=True
    )
    return _source(figure)


def bounds(found: Findings) -> str:
    """Draw the bounds of the recipe's error, and its error on rows held out."""
    from mgce_sklearn.plot import ErrorBoundDisplay

    figure, axes = _axes()
    of_recipe = [each for each in found.bounded if each.name == found.recipe.name]
    ErrorBoundDisplay(
        np.array([found.recipe.model[-1].minimax_risk_]),
        {each.bounds.rule: np.array([each.bounds.lower]) for each in of_recipe},
        {each.bounds.rule: np.array([each.bounds.upper]) for each in of_recipe},
        held_out={each.bounds.rule: np.array([each.held_out]) for each in of_recipe},
    ).plot(axes, despine=True)
    return _source(figure)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _source(figure: Any) -> str:
    """Return a figure as the source of an image, which runs nothing and loads nothing."""
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"
