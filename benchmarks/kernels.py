"""Time psi and p* against scikit-learn's softmax cross-entropy on the same array.

    python benchmarks/kernels.py            # half a minute
    python benchmarks/kernels.py --quick    # some seven seconds

Both compute a value and a gradient per row: ours psi(m) and p*, scikit-learn's
HalfMultinomialLoss logsumexp(m) - m_y and softmax(m) - onehot(y). Both write into arrays that
exist, use one thread, and are timed in turn, so that a disturbance of the machine meets both.
The margins are N(0, 3²), about a million numbers, C-ordered.

The table has a row for each number of classes: scikit-learn's nanoseconds for each number, and
the median of the ratios ours/theirs for each q. Below 1 we are faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn._loss import HalfMultinomialLoss

from mgce_sklearn.kernels import threshold_and_worst_case

CLASSES = (2, 3, 10, 26, 100, 1000)
Q = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def paired_times(
    n_classes: int, q: float, n_numbers: int, repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Time our pass and scikit-learn's in turn, in seconds."""
    rng = np.random.default_rng(0)
    n_rows = n_numbers // n_classes
    margins = 3 * rng.standard_normal((n_rows, n_classes))
    labels = rng.integers(0, n_classes, n_rows).astype(np.float64)
    loss = HalfMultinomialLoss(n_classes=n_classes)
    value, gradient = np.empty(n_rows), np.empty((n_rows, n_classes))

    def theirs() -> None:
        loss.loss_gradient(
            y_true=labels,
            raw_prediction=margins,
            loss_out=value,
            gradient_out=gradient,
            n_threads=1,
        )

    def ours() -> None:
        threshold_and_worst_case(margins, q, out=(value, gradient))

    ours()
    theirs()
    times = np.array([(seconds(ours), seconds(theirs)) for _ in range(repeats)])
    return times[:, 0], times[:, 1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer numbers and repeats")
    quick = parser.parse_args().quick
    n_numbers, repeats = (250_000, 15) if quick else (1_000_000, 41)
    print("ratio to HalfMultinomialLoss.loss_gradient, one thread")
    print("     K  sklearn ns " + "".join(f"  q={q:<4g}" for q in Q))
    for n_classes in CLASSES:
        measured = [paired_times(n_classes, q, n_numbers, repeats) for q in Q]
        nanoseconds = 1e9 * np.median([theirs for _, theirs in measured]) / n_numbers
        ratios = [np.median(ours / theirs) for ours, theirs in measured]
        print(f"{n_classes:6d}  {nanoseconds:10.1f} " + "".join(f"  {r:6.2f}" for r in ratios))


if __name__ == "__main__":
    main()
