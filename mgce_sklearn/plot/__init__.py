"""Displays of classifiers, bounds, searches and fits, in scikit-learn's conventions.

A display keeps its numbers as attributes and returns them by ``frame()``. Its method ``plot`` draws
them, on Axes of yours if you give any.
"""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        "mgce_sklearn.plot needs matplotlib: pip install 'mgce_sklearn[plot]'."
    ) from error

from mgce_sklearn.plot.coefficients import CoefficientPathDisplay
from mgce_sklearn.plot.convergence import ConvergenceDisplay
from mgce_sklearn.plot.error_bounds import ErrorBoundDisplay
from mgce_sklearn.plot.link import LinkDisplay
from mgce_sklearn.plot.reliability import ReliabilityDisplay
from mgce_sklearn.plot.search import SearchDisplay

__all__ = [
    "CoefficientPathDisplay",
    "ConvergenceDisplay",
    "ErrorBoundDisplay",
    "LinkDisplay",
    "ReliabilityDisplay",
    "SearchDisplay",
]
