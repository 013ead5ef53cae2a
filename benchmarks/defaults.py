"""What q and lam do for a user: the measurement behind the defaults.

    python benchmarks/defaults.py            # some minutes
    python benchmarks/defaults.py --quick    # under a minute: fewer sets, rows, splits

For every set, share of wrong training labels and seed, the grid q × lam is fitted to noisy
rows and judged on clean ones by accuracy of `predict`, log loss of the worst-case
distribution, and expected calibration error (15 bins) of the rule. The same grid is
cross-validated on the noisy rows, as a user would have to, and judged by the pair it chooses.

MGCE_DATA_DIR, where set, is the folder to read sets from; see datasets.py.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from datasets import Split, split

from mgce_sklearn import MGCEClassifierCV, kernels, mgce_path
from mgce_sklearn.metrics import expected_calibration_error

Array = np.ndarray[Any, Any]

QS = (0.0, 0.25, 0.5, 0.75, 1.0)
LAMS = (0.01, 0.03, 0.1, 0.3, 1.0)
NOISE = (0.0, 0.2, 0.4)
SETS = ("adult", "a9a", "digits", "covtype", "letter", "labelme")
FOLDS = 3
TOL = 1e-3  # enough: at 1e-5 accuracies differ by at most 0.002, log loss and ECE by 0.007


GRIDS = {
    "all of the above": (QS, LAMS),
    "lam=0.1, q of four": ((0.0, 0.25, 0.5, 0.75), (0.1,)),
    "q=0.5, every lam": ((0.5,), LAMS),
    "q of four, lam 0.03 to 1": ((0.0, 0.25, 0.5, 0.75), (0.03, 0.1, 0.3, 1.0)),
    "q of three, lam 0.03 to 0.3": ((0.0, 0.25, 0.5), (0.03, 0.1, 0.3)),
    "q of three, lam 0.1 to 1": ((0.0, 0.25, 0.5), (0.1, 0.3, 1.0)),
}


class Measured(NamedTuple):
    """One case; arrays are (len(QS), len(LAMS))."""

    accuracy: Array
    log_loss: Array
    calibration_error: Array
    cv_accuracy: Array
    cv_error: Array  # standard error of cv_accuracy


def judge(margins: Array, q: float, y: Array) -> tuple[float, float, float]:
    """Return accuracy, log loss of the worst case (probabilities floored at 1e-6), and ECE."""
    if margins.shape[1] == 1:
        margins = np.hstack([np.zeros_like(margins), margins])
    n_classes = margins.shape[1]
    likelihood = kernels.worst_case(margins, q)[np.arange(len(y)), y]
    return (
        np.mean(margins.argmax(axis=1) == y),
        -np.log(np.maximum(likelihood, 1e-6)).mean(),
        expected_calibration_error(y, kernels.rule(margins, q), labels=np.arange(n_classes)),
    )


def measure(rows: Split) -> Measured:
    """Fit and judge the grid, and cross-validate it on the training rows."""
    path = mgce_path(rows.X, rows.y, QS, LAMS, tol=TOL)
    judged = np.empty((3, len(QS), len(LAMS)))
    for i, j in np.ndindex(judged.shape[1:]):
        margins = rows.X_test @ path.coefs[i, j].T + path.intercepts[i, j]
        judged[:, i, j] = judge(margins, QS[i], rows.y_test)
    search = MGCEClassifierCV(QS, LAMS, cv=FOLDS, refit=False, certify_scores=True, tol=TOL).fit(
        rows.X, rows.y
    )
    columns = (search.cv_results_[name] for name in ("mean_test_score", "std_test_score"))
    mean, std = (column.reshape(len(LAMS), len(QS)).T for column in columns)
    return Measured(*judged, mean, std / np.sqrt(FOLDS - 1))


def choose(case: Measured, qs: tuple, lams: tuple, one_standard_error: bool) -> tuple[int, int]:
    """Return the position of the pair that `MGCEClassifierCV` takes from a part of the grid."""
    inside = np.isin(QS, qs)[:, np.newaxis] & np.isin(LAMS, lams)
    score = np.where(inside, case.cv_accuracy, -np.inf)
    if one_standard_error:
        best = np.unravel_index(score.argmax(), score.shape)
        near = score >= score[best] - case.cv_error[best]
        widest = np.flatnonzero(near.any(axis=0)).max()
        return int(score[:, widest].argmax()), int(widest)
    j, i = np.unravel_index(score.T.argmax(), score.T.shape)  # of equals, the smaller lam
    return int(i), int(j)


def print_grid(title: str, table: Array) -> None:
    """Print a table over q and lam."""
    print(f"\n{title}\n")
    print("| q | " + " | ".join(f"lam={lam:g}" for lam in LAMS) + " |")
    print("|---" * (len(LAMS) + 1) + "|")
    for q, row in zip(QS, table, strict=True):
        print(f"| {q:g} | " + " | ".join(f"{number:.3f}" for number in row) + " |")


def print_grids(cases: list[Measured]) -> None:
    """Print the means over cases."""
    mean = Measured(*np.mean(cases, axis=0))
    print_grid("Accuracy", mean.accuracy)
    print_grid("Log loss of the worst case", mean.log_loss)
    print_grid("ECE of the rule", mean.calibration_error)


def print_choices(cases: dict[tuple[str, float], list[Measured]]) -> None:
    """Print what the search chooses from each grid, and what that is worth."""
    print("\nWhat cross-validation on noisy rows chooses: accuracy / ECE on clean rows\n")
    shares = sorted({noise for _, noise in cases})
    print("| grid | rule | " + " | ".join(f"noise {noise:g}" for noise in shares) + " |")
    print("|---" * (len(shares) + 2) + "|")
    for name, grid in GRIDS.items():
        for one_standard_error in (False, True):
            cells = []
            for share in shares:
                numbers = [
                    (case.accuracy[pair], case.calibration_error[pair])
                    for (_, noise), measured in cases.items()
                    if noise == share
                    for case in measured
                    for pair in [choose(case, *grid, one_standard_error)]
                ]
                cells.append("{:.4f} / {:.3f}".format(*np.mean(numbers, axis=0)))
            rule = "one standard error" if one_standard_error else "best"
            print(f"| {name} | {rule} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sets, rows, splits")
    parser.add_argument("--seeds", type=int, default=3, help="splits to average over")
    arguments = parser.parse_args()
    sets, shares, n_train, seeds = SETS, NOISE, 4000, arguments.seeds
    if arguments.quick:
        sets, shares, n_train, seeds = ("adult", "digits"), (0.0, 0.4), 500, 1
    cases = {}
    for name in sets:
        for noise in shares:
            rows = (split(name, n_train, noise, seed) for seed in range(seeds))
            cases[name, noise] = [measure(each) for each in rows]
            print(f"\n### {name}, {noise:.0%} of training labels wrong", flush=True)
            print_grids(cases[name, noise])
    for noise in shares:
        print(f"\n### Mean over the sets, {noise:.0%} of training labels wrong")
        print_grids([case for name in sets for case in cases[name, noise]])
    print_choices(cases)


if __name__ == "__main__":
    main()
