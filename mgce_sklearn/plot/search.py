"""The grid of a search over q and lam."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from sklearn.utils.validation import check_is_fitted

from mgce_sklearn.plot import drawing
from mgce_sklearn.plot.models import last_step

Array = np.ndarray[Any, Any]

# What names a cell, and the parameter itself or that of a pipeline's step.
PARAMETERS = ("q", "lam")

# Of numbers in ten points at 600 pixels: how many fit beside each other, how many upright ones
# above each other, and how many lines.
MOST_ACROSS, MOST_UPRIGHT, MOST_LINES = 8, 9, 22

COLOR_MAP = "cividis"
CHOSEN_COLOR = "#D55E00"


class SearchDisplay:
    """Mean scores of a search over q × lam, the chosen cell marked.

    Parameters
    ----------
    qs : ndarray of shape (n_qs,)
        Loss parameters, ascending.
    lams : ndarray of shape (n_lams,)
        Half-widths, ascending.
    scores : ndarray of shape (n_qs, n_lams)
        Mean scores over the folds. NaN where there is none.
    chosen : tuple (q, lam), default=None
        The pair to mark.
    score_name : str, default="score"
        What the numbers are.
    width : str, default="standard_error"
        ``width`` of the classifiers, which decides the unit of lam.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib QuadMesh
        The colored cells.
    text_ : ndarray of shape (n_qs, n_lams) of matplotlib Text
        The numbers in the cells; None where there is none.
    chosen_patch_ : matplotlib Rectangle or None
        The border of the chosen cell.
    colorbar_ : matplotlib Colorbar or None

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mgce_sklearn import MGCEClassifierCV
    >>> from mgce_sklearn.plot import SearchDisplay
    >>> search = MGCEClassifierCV(qs=(0.0, 0.5), lams=(0.1, 1.0)).fit(*load_iris(return_X_y=True))
    >>> display = SearchDisplay.from_estimator(search)
    >>> display.scores.shape, display.chosen
    ((2, 2), (0.5, 0.1))
    """

    def __init__(
        self,
        qs: Array,
        lams: Array,
        scores: Array,
        *,
        chosen: tuple[float, float] | None = None,
        score_name: str = "score",
        width: Any = "standard_error",
    ) -> None:
        self.qs = qs
        self.lams = lams
        self.scores = scores
        self.chosen = chosen
        self.score_name = score_name
        self.width = width

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        score: str | None = None,
        name: str | None = None,
        ax: Any = None,
        despine: bool = False,
    ) -> SearchDisplay:
        """Draw the grid of a fitted search.

        Parameters
        ----------
        estimator : estimator
            A fitted `MGCEClassifierCV`, or a `~sklearn.model_selection.GridSearchCV` over ``q`` and
            ``lam``, of `MGCEClassifier` or of a pipeline that ends in it.
        score : str, default=None
            A column of ``cv_results_``. None: the mean test score that the search chose by.
        name : str, default=None
            What the scores are, such as "accuracy". None: what ``scoring`` says.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        despine : bool, default=False
            Whether to remove the borders.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        NotFittedError
            If the search is not fitted.
        TypeError, ValueError
            For an argument that cannot be used.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "cv_results_"):
            raise TypeError(
                "estimator must be a fitted search with cv_results_, such as MGCEClassifierCV or "
                f"GridSearchCV; got {type(estimator).__name__}."
            )
        searched = last_step(getattr(estimator, "estimator", estimator))
        return cls.from_cv_results(
            estimator.cv_results_,
            score=score or _score_column(estimator),
            best_index=getattr(estimator, "best_index_", None),
            width=getattr(searched, "width", "standard_error"),
            name=name or (_score_name(estimator) if score is None else None),
            ax=ax,
            despine=despine,
        )

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        *,
        score: str = "mean_test_score",
        best_index: int | None = None,
        width: Any = "standard_error",
        name: str | None = None,
        ax: Any = None,
        despine: bool = False,
    ) -> SearchDisplay:
        """Draw the grid of a search's results.

        Parameters
        ----------
        cv_results : dict of ndarray
            ``cv_results_`` of a search over ``q`` and ``lam``, or over those of a pipeline's step,
            such as ``mgceclassifier__q``.
        score : str, default="mean_test_score"
            The column to draw.
        best_index : int, default=None
            Position of the pair to mark. None: that of rank 1, if the scores have ranks.
        width : str, default="standard_error"
            ``width`` of the classifiers, which decides the unit of lam.
        name : str, default=None
            What the scores are, such as "accuracy". None: the name of the column.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        despine : bool, default=False
            Whether to remove the borders.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        ValueError
            If the results have no such score, if they are not of a search over q and lam, or if
            they have several rows for a pair.
        """
        if score not in cv_results:
            raise ValueError(
                f"score must be a column of cv_results; got {score!r}. Its means are "
                f"{sorted(key for key in cv_results if key.startswith('mean_'))}."
            )
        q, lam = (_values(cv_results, parameter) for parameter in PARAMETERS)
        (qs, i), (lams, j) = (np.unique(each, return_inverse=True) for each in (q, lam))
        _check_one_each(cv_results, i, j)
        scores = np.full((len(qs), len(lams)), np.nan)
        scores[i, j] = cv_results[score]
        best = _first_ranked(cv_results, score) if best_index is None else best_index
        display = cls(
            qs,
            lams,
            scores,
            chosen=None if best is None else (float(q[best]), float(lam[best])),
            score_name=name or _in_words(score),
            width=width,
        )
        return display.plot(ax, despine=despine)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
        colorbar: bool = True,
        despine: bool = False,
    ) -> SearchDisplay:
        """Draw the scores as a heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.
        name : str, default=None
            Another name for the scores.
        text_kwargs : dict, default=None
            Settings of the numbers in the cells.
        colorbar : bool, default=True
            Whether to draw the scale of the colors.
        despine : bool, default=False
            Whether to remove the borders.

        Returns
        -------
        SearchDisplay
            Itself.
        """
        self.ax_ = drawing.axes_or_new(ax)
        self.figure_ = self.ax_.figure
        # Cell (i, j) has its center at (j, i).
        edges = [np.arange(size + 1) - 0.5 for size in self.scores.T.shape]
        self.image_ = self.ax_.pcolormesh(
            *edges, np.ma.masked_invalid(self.scores), cmap=COLOR_MAP, edgecolor="white"
        )
        self.text_ = self._write(dict(text_kwargs or {}))
        self.chosen_patch_ = None if self.chosen is None else self._mark(*self.chosen)
        self.ax_.set_xticks(range(len(self.lams)), [f"{lam:g}" for lam in self.lams])
        self.ax_.set_yticks(range(len(self.qs)), [f"{q:g}" for q in self.qs])
        self.ax_.set(xlabel=drawing.lam_label(self.width), ylabel="loss parameter q")
        self.ax_.tick_params(length=0)
        self.colorbar_ = None
        if colorbar:
            label = name or self.score_name
            self.colorbar_ = self.figure_.colorbar(self.image_, ax=self.ax_, label=label)
        if despine:
            self.ax_.spines[:].set_visible(False)
        return self

    def _write(self, settings: dict[str, Any]) -> Array:
        """Write the numbers, light on dark cells and dark on light ones."""
        text = np.full(self.scores.shape, None, dtype=object)
        common = self._text_settings()
        for (i, j), score in np.ndenumerate(self.scores):
            if np.isfinite(score):
                red, green, blue, _ = self.image_.to_rgba(score)
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                own = {"color": "white" if dark else "black", **common, **settings}
                text[i, j] = self.ax_.text(j, i, f"{score:.3f}", ha="center", va="center", **own)
        return text

    def _text_settings(self) -> dict[str, Any]:
        """Return the size and direction in which numbers fit into the cells."""
        upright = len(self.lams) > MOST_ACROSS
        rows = len(self.qs) / (MOST_UPRIGHT if upright else MOST_LINES)
        return {"fontsize": 10.0 / max(1.0, rows), "rotation": 90 if upright else 0}

    def _mark(self, q: float, lam: float) -> Any:
        """Draw a border around the chosen cell."""
        corner = np.searchsorted(self.lams, lam) - 0.5, np.searchsorted(self.qs, q) - 0.5
        border = Rectangle(corner, 1, 1, fill=False, edgecolor=CHOSEN_COLOR, linewidth=3)
        return self.ax_.add_patch(border)

    def frame(self) -> Any:
        """Return the scores, a row for each q and a column for each lam.

        Returns
        -------
        pandas.DataFrame
            Its index is q, and its columns are lam.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        table = drawing.frame_of(dict(zip(self.lams.tolist(), self.scores.T, strict=True)))
        table.index = self.qs.tolist()
        return table.rename_axis(index="q", columns="lam")


def _values(cv_results: Mapping[str, Any], parameter: str) -> Array:
    """Return the values of q or lam, of the classifier itself or of a pipeline's step."""
    pattern = re.compile(rf"param_(?:.*__)?{parameter}")
    names = [key for key in cv_results if pattern.fullmatch(key)]
    if len(names) != 1:
        raise ValueError(
            f"cv_results must have one column param_{parameter}, or one that ends in "
            f"__{parameter}; got {names or 'none'}. Search over q and lam of one MGCEClassifier."
        )
    values = np.ma.getdata(cv_results[names[0]])
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        raise ValueError(f"{names[0]} must have numbers; got {values.tolist()!r}.") from None


def _check_one_each(cv_results: Mapping[str, Any], i: Array, j: Array) -> None:
    """Raise ValueError if a pair of q and lam has several rows."""
    if len(set(zip(i.tolist(), j.tolist(), strict=True))) == len(i):
        return
    others = sorted(
        key
        for key in cv_results
        if key.startswith("param_") and not re.fullmatch(r"param_(?:.*__)?(?:q|lam)", key)
    )
    raise ValueError(
        "cv_results must have one row for each pair of q and lam; got several, which differ by "
        f"{', '.join(others) or 'nothing'}. Keep the rows of one value of what differs."
    )


def _first_ranked(cv_results: Mapping[str, Any], score: str) -> int | None:
    """Return the position of rank 1, None if the score has no ranks."""
    ranks = cv_results.get(re.sub("^mean_", "rank_", score))
    return None if ranks is None or not score.startswith("mean_") else int(np.argmin(ranks))


def _score_column(search: Any) -> str:
    """Return the column that a search chose by; with several scores it is that of ``refit``."""
    several = getattr(search, "multimetric_", False)
    named = several and isinstance(search.refit, str)
    if several and not named:
        raise ValueError(
            "score must be given for a search with several scores and no name in refit; its means "
            f"are {sorted(key for key in search.cv_results_ if key.startswith('mean_test_'))}."
        )
    return f"mean_test_{search.refit}" if named else "mean_test_score"


def _score_name(search: Any) -> str | None:
    """Return what a search's scores are, if a string says so."""
    if getattr(search, "multimetric_", False):
        return None
    scoring = search.scoring
    name = "accuracy" if scoring is None else scoring
    return f"{name}, mean over the folds" if isinstance(name, str) else None


def _in_words(score: str) -> str:
    return score.replace("_", " ")
