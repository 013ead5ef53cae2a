"""What was found, in sentences of plain English and rows of numbers."""

from __future__ import annotations

from mgce_sklearn.assessment import Assessment
from mgce_sklearn.report.measure import DOUBT, Findings, compared

NAMES = {
    "MGCEStackingClassifier": "the minimax correction of a forest",
    "MGCEClassifier": "the minimax linear model",
    "LogisticRegression": "logistic regression",
    "HistGradientBoostingClassifier": "gradient boosting",
}

ACCURATE = {
    1: "is more accurate than",
    0: "is about as accurate as",
    -1: "is less accurate than",
}
PROBABLE = {1: "worse probabilities", 0: "probabilities about as good", -1: "better probabilities"}


def verdict(found: Findings) -> str:
    """Return one sentence: how the recipe does beside the better rival, and doubtful labels."""
    recipe, rival = found.recipe, min(found.logistic, found.boosting, key=lambda each: each.brier)
    if not found.learns:
        return (
            f"On rows held out, {NAMES[recipe.name]} ({_scores(recipe)}) is no more accurate than "
            f"the most frequent class ({found.most_frequent.mean():.1%}), so its doubts about "
            f"labels are not reliable; {NAMES[rival.name]} has {_scores(rival)}."
        )
    return (
        f"On rows held out, {NAMES[recipe.name]} ({_scores(recipe)}) "
        f"{ACCURATE[compared(recipe.right, rival.right)]} {NAMES[rival.name]} "
        f"({_scores(rival)}) and has {PROBABLE[compared(recipe.squares, rival.squares)]}, and "
        f"{_doubtful(found)}."
    )


def _scores(found: Assessment) -> str:
    return f"{found.accuracy:.1%} right, Brier score {found.brier:.3f}"


def _doubtful(found: Findings) -> str:
    n_rows, n_doubtful = len(found.table.labels), len(found.doubts)
    if n_doubtful == 0:
        return f"gives no label a probability below {DOUBT:.0%}"
    have = "has" if n_doubtful == 1 else "have"
    return (
        f"{n_doubtful:,} of {n_rows:,} rows {have} a label to which it gives a probability below "
        f"{DOUBT:.0%}"
    )


def summary(found: Findings) -> str:
    """Return the report for a terminal."""
    table = found.table
    lines = [
        f"{table.name}: {len(table.words)} rows and {table.features.shape[1]} columns to learn "
        f"from, target '{table.target}'",
        *table.notes,
        "",
        f"{'each row held out once, ' + str(found.n_folds) + ' folds':<32}"
        "accuracy   Brier     ECE  fit, s",
        *(
            f"{each.name:<32}{each.accuracy:8.1%}{each.brier:8.3f}{each.calibration.error:8.3f}"
            f"{each.seconds:8.2f}"
            for each in found.assessments
        ),
        f"{'always the most frequent class':<32}{found.most_frequent.mean():8.1%}",
        "",
        *(f"{each.name}, over its uncertainty set: {each.bounds}" for each in found.bounded),
        *(f"note: {remark}" for remark in found.remarks),
        "",
        verdict(found),
    ]
    return "\n".join(lines)
