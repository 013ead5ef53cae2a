"""What a study found, in words and numbers on the terminal."""

from __future__ import annotations

import numpy as np

from mgce_sklearn.assessment import N_BINS
from mgce_sklearn.bounds import ErrorBounds
from mgce_sklearn.demo.sample import Sample
from mgce_sklearn.demo.study import Choice, Search


def print_preamble(seconds: float) -> None:
    """Say what the numbers below are."""
    print(
        f"kernels ready after {seconds:.1f} s; times below are of one thread\n"
        "Brier: mean squared distance of the probabilities from the label's indicator\n"
        f"ECE: expected calibration error, mean |confidence - accuracy| over {N_BINS} bins\n"
        "minimax_risk_: bounds the error of labels drawn from predict_proba, where feature means\n"
        "lie within lam standard errors of those learned from, wrong labels included: the set"
    )


def print_sample(sample: Sample) -> None:
    """Say what is learned from what."""
    classes = np.unique(sample.y_train)
    names = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
    print(f"\n{sample.title}\n{'-' * len(sample.title)}")
    print(
        f"{len(sample.y_train)} rows to learn from, {len(sample.y_test)} held out, "
        f"{sample.X_train.shape[1]} columns, {len(classes)} classes: {names}"
    )


def print_search(search: Search) -> None:
    """Print the table of cross-validated accuracies."""
    print(f"\ncross-validated accuracy, MGCEClassifierCV in {search.seconds:.1f} s")
    print("   q \\ lam" + "".join(f"{lam:>8g}" for lam in search.lams))
    for q, row in zip(search.qs, search.accuracy, strict=True):
        print(f"{q:>10g}" + "".join(f"{value:>8.3f}" for value in row))
    print(f"best: q={search.q:g}, lam={search.lam:g}")


def print_comparison(assessments: list[Choice], bounds: list[ErrorBounds]) -> None:
    """Print a line for each model, and the certificate and error bounds of the last."""
    names = [f"{a.name}, {a.choice}" for a in assessments]
    width = max(map(len, names))
    print(f"\n{'on the rows held out':<{width}}  accuracy   Brier     ECE  fit, s")
    for name, a in zip(names, assessments, strict=True):
        print(
            f"{name:<{width}}  {a.accuracy:8.3f}{a.brier:8.3f}{a.calibration.error:8.3f}"
            f"{a.seconds:8.2f}"
        )
    _print_certificate(assessments[-1], bounds)


def _print_certificate(assessment: Choice, bounds: list[ErrorBounds]) -> None:
    """Print the bracket of the optimum, error bounds, and the errors that they are about."""
    fitted = assessment.classifier
    risk, gap = fitted.minimax_risk_, fitted.dual_gap_
    print(f"\ncertificate of {assessment.name}, {fitted.n_iter_} steps of {fitted.solver_}:")
    print(f"  {risk - gap:.6f} = dual value <= optimum <= minimax_risk_ = {risk:.6f}")
    for bound in bounds:
        print(f"  over the set: {bound}")
    print(
        f"  held out: {assessment.drawn_error:.3f} of labels drawn from predict_proba are wrong, "
        f"{1.0 - assessment.accuracy:.3f} of those of predict"
    )
