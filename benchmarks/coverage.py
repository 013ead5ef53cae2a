"""How often quoted bounds are violated by the true error, and how wide they are.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py            # 500 draws, some 30 minutes
    OMP_NUM_THREADS=1 python benchmarks/coverage.py --quick    # 12 draws, under a minute

Training rows are drawn anew from a known distribution, a classifier is fitted to each draw, and
what it says of its error is held against the truth, the error rate on a hundred thousand other
rows of the distribution. All features are bounded, and `feature_range` is what bounds them.

A bound that holds with probability 1 - delta must be violated in a share of at most delta of the
draws; the table shows the share with its 95% interval (Clopper and Pearson). Bounds over the set
of some standard errors claim no probability for new data, and how often they are violated is what
the table is for. "margin" is the mean distance between the bound and the true error.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import beta

from mgce_sklearn import MGCEClassifier

Array = np.ndarray[Any, Any]
Draw = Callable[[int, np.random.Generator], tuple[Array, Array]]

DELTA = 0.05
SIZES = (100, 1000)
N_HELD_OUT = 1000
N_TEST = 100_000
N_MEANS = 2_000_000
ROWS_AT_A_TIME = 100_000


def _clipped(X: Array, bound: float) -> Array:
    return np.clip(X, -bound, bound)


def gaussians(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Three Gaussians in four dimensions, clipped at 4."""
    centers = np.array([[1.5, 0, 0, 0], [-0.75, 1.3, 0, 0], [-0.75, -1.3, 0, 0]])
    y = rng.integers(3, size=n)
    return _clipped(centers[y] + rng.normal(size=(n, 4)), 4.0), y


def heavy_tails(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two classes of Student's t with two degrees of freedom, clipped at 20."""
    y = rng.integers(2, size=n)
    return _clipped(np.where(y == 1, 1.0, -1.0)[:, None] + rng.standard_t(2, (n, 3)), 20.0), y


def imbalanced(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """One row in ten of the second class, Gaussian features clipped at 5."""
    y = (rng.random(n) < 0.1).astype(int)
    return _clipped(1.5 * y[:, None] + rng.normal(size=(n, 3)), 5.0), y


def wrong_labels(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Replace a label in five of the three Gaussians by one at random.

    The error is that with respect to such labels: bounds speak of the labels that were learned.
    """
    X, y = gaussians(n, rng)
    replaced = rng.random(n) < 0.2
    return X, np.where(replaced, rng.integers(3, size=n), y)


def curved(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Uniform features in [-1, 1]², labels by a ring that no linear margin can follow."""
    X = rng.uniform(-1.0, 1.0, (n, 2))
    inside = np.hypot(X[:, 0] - 0.3, X[:, 1]) < 0.8
    return X, (inside ^ (rng.random(n) < 0.1)).astype(int)


class Distribution(NamedTuple):
    """A distribution that rows can be drawn from, and the bound of its features."""

    draw: Draw
    bound: float


DISTRIBUTIONS = {
    "gaussians": Distribution(gaussians, 4.0),
    "heavy tails": Distribution(heavy_tails, 20.0),
    "imbalanced": Distribution(imbalanced, 5.0),
    "wrong labels": Distribution(wrong_labels, 4.0),
    "curved": Distribution(curved, 1.0),
}


class Truth(NamedTuple):
    """What is known of a distribution to far more digits than a sample tells."""

    X: Array
    y: Array
    means: Array  # of onehot(y) ⊗ (x, 1), (K, d + 1)


def truth_of(distribution: Distribution) -> Truth:
    """Draw the rows that errors are measured on, and many more for the means."""
    rng = np.random.default_rng(2**32 - 1)
    X, y = distribution.draw(N_TEST, rng)
    means = 0.0
    for _ in range(N_MEANS // ROWS_AT_A_TIME):
        rows, labels = distribution.draw(ROWS_AT_A_TIME, rng)
        features = np.column_stack([rows, np.ones(len(rows))])
        means = means + np.eye(labels.max() + 1)[labels].T @ features / N_MEANS
    return Truth(X, y, means)


class Said(NamedTuple):
    """One statement about one draw."""

    statement: str
    violated: bool
    bound: float
    truth: float


def statements(distribution: Distribution, truth: Truth, n: int, seed: int) -> list[Said]:
    """Fit to one draw, and return everything that is said of it."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng([seed, n])
    X, y = distribution.draw(n, rng)
    if len(np.unique(y)) < len(truth.means):  # a draw without one of the classes says nothing
        return []
    held_out, _ = distribution.draw(N_HELD_OUT, rng)
    feature_range = (-distribution.bound, distribution.bound)
    return [
        *_of_the_set(X, y, truth),
        *_of_the_means(X, y, truth, feature_range),
        *_of_new_data(X, y, truth, held_out, feature_range),
    ]


def _errors(model: MGCEClassifier, truth: Truth) -> dict[str, float]:
    """Return the true error of both rules."""
    proba = model.predict_proba(truth.X)
    return {
        "deterministic": float(np.mean(model.predict(truth.X) != truth.y)),
        "randomized": float(np.mean(1.0 - proba[np.arange(len(proba)), truth.y])),
    }


def _of_the_set(X: Array, y: Array, truth: Truth) -> Iterator[Said]:
    """No probability is claimed: bounds over the set of lam standard errors."""
    for lam in (0.1, 1.0):
        model = MGCEClassifier(lam=lam).fit(X, y)
        error = _errors(model, truth)
        risk = float(model.minimax_risk_)
        yield Said(
            f"minimax_risk_, lam={lam:g}", error["randomized"] > risk, risk, error["randomized"]
        )
        for rule, true_error in error.items():
            found = model.error_bounds(X, rule)
            yield Said(
                f"{rule} upper, lam={lam:g}", true_error > found.upper, found.upper, true_error
            )
            yield Said(
                f"{rule} lower, lam={lam:g}", true_error < found.lower, found.lower, true_error
            )


def _of_the_means(
    X: Array, y: Array, truth: Truth, feature_range: tuple[float, float]
) -> Iterator[Said]:
    """With probability 1 - delta the true means lie within the widths."""
    for width in ("hoeffding", "bernstein", "betting"):
        model = MGCEClassifier(width=width, delta=DELTA, feature_range=feature_range).fit(X, y)
        found = model.uncertainty_set_
        share = float(np.max(np.abs(truth.means - found.tau) / found.half_width))
        yield Said(f"means within {width} widths", share > 1.0, 1.0, share)
        error = _errors(model, truth)["deterministic"]
        bounds = model.error_bounds(X)
        yield Said(f"deterministic upper, {width}", error > bounds.upper, bounds.upper, error)


def _of_new_data(
    X: Array, y: Array, truth: Truth, held_out: Array, feature_range: tuple[float, float]
) -> Iterator[Said]:
    """With probability 1 - delta the error on new data is below the confidence bound."""
    model = MGCEClassifier(lam=0.1, feature_range=feature_range).fit(X, y)
    for rule, error in _errors(model, truth).items():
        found = model.confidence_bound(held_out, DELTA, rule)
        yield Said(f"{rule} confidence_bound", error > found.upper, found.upper, error)
    seen = MGCEClassifier(lam=0.1).fit(X, y).confidence_bound(held_out, DELTA)
    error = _errors(model, truth)["deterministic"]
    name = "deterministic confidence_bound, range of the data"
    yield Said(name, error > seen.upper, seen.upper, error)


# Statements that claim a probability, by how their names begin or end.
CLAIMED = ("means within", "confidence_bound")


def _interval(n_violated: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, n_violated, n - n_violated + 1) if n_violated else 0.0
    high = beta.ppf(0.975, n_violated + 1, n - n_violated) if n_violated < n else 1.0
    return float(low), float(high)


def main() -> None:
    """Print a table per distribution and number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="12 draws")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--csv", help="write the table there too")
    options = parser.parse_args()
    draws = 12 if options.quick else options.draws
    begin, lines = time.perf_counter(), []
    print(f"{draws} draws, delta = {DELTA:g}, {N_HELD_OUT} held-out rows")
    for name, distribution in DISTRIBUTIONS.items():
        truth = truth_of(distribution)
        for n in SIZES:
            said = Parallel(n_jobs=options.jobs)(
                delayed(statements)(distribution, truth, n, seed) for seed in range(draws)
            )
            lines += _table(name, n, said)
    claimed = [line for line in lines if line["claimed"]]
    above = [line for line in claimed if line["low"] > DELTA]
    print(
        f"{len(claimed)} statements claim a probability; the interval of {len(above)} lies above "
        f"delta. {time.perf_counter() - begin:.0f} s"
    )
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
    sys.exit(bool(above))


def _table(name: str, n: int, said: list[list[Said]]) -> list[dict[str, Any]]:
    """Print and return what was said of all draws, a line per statement."""
    kept = [draw for draw in said if draw]
    print(f"\n{name}, n = {n} ({len(kept)} draws with all classes)")
    print("statement".ljust(42), "violated  95% interval      bound   truth margin")
    lines = []
    for of_draws in zip(*kept, strict=True):
        statement = of_draws[0].statement
        n_violated = sum(one.violated for one in of_draws)
        low, high = _interval(n_violated, len(kept))
        bound = float(np.mean([one.bound for one in of_draws]))
        truth = float(np.mean([one.truth for one in of_draws]))
        claimed = any(word in statement for word in CLAIMED)
        print(
            f"{statement:42s} {n_violated / len(kept):8.3f} [{low:.3f}, {high:.3f}] "
            f"{bound:7.3f} {truth:7.3f} {bound - truth:+.3f}{'  <= delta' if claimed else ''}"
        )
        lines.append(
            {
                "distribution": name, "n": n, "statement": statement, "draws": len(kept),
                "violated": n_violated, "low": low, "high": high, "bound": bound,
                "truth": truth, "claimed": claimed,
            }
        )  # fmt: skip
    sys.stdout.flush()
    return lines


if __name__ == "__main__":
    main()
