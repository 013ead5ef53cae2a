"""How seconds and memory of a fit grow with the number of rows.

    OMP_NUM_THREADS=1 python benchmarks/growth.py            # 1e4 to 1e6 rows, some minutes
    OMP_NUM_THREADS=1 python benchmarks/growth.py --quick    # up to 1e5, under a minute

Rows are drawn from a multinomial logistic model with d = 20 features and K = 5 classes, and
fitted by `MGCEClassifier(q=0.7, lam=0.3)`. Every size has a process of its own, since a process
knows only the highest peak of its memory. What it had before the fit, X among it, is subtracted
from the peak, and the rest is shown in arrays of (n, K) float64 numbers. Compilation takes more
memory than a fit of few rows; a process of its own has it done before the first that is measured.

The slope is that of log seconds against log n between the first and the last size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LARGEST_QUICK = 100_000
N_FEATURES, N_CLASSES = 20, 5
Q, LAM = 0.7, 0.3
ROWS_AT_A_TIME = 10_000
WARM_UP_ROWS = 1000

# The unit of ru_maxrss: bytes on macOS, kilobytes elsewhere.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Growth(NamedTuple):
    """One fit."""

    n: int
    seconds: float
    n_iter: int
    relative_gap: float
    extra_bytes: int


def synthetic(n: int) -> tuple[Array, Array]:
    """Draw rows block by block, so that X and y are all that memory has held."""
    rng = np.random.default_rng(0)
    coef = rng.normal(size=(N_FEATURES, N_CLASSES)) / np.sqrt(N_FEATURES)
    X, y = np.empty((n, N_FEATURES)), np.empty(n, dtype=np.int64)
    for start in range(0, n, ROWS_AT_A_TIME):
        block = X[start : start + ROWS_AT_A_TIME]
        block[:] = rng.normal(size=block.shape)
        noise = rng.gumbel(size=(len(block), N_CLASSES))
        y[start : start + len(block)] = np.argmax(2.0 * block @ coef + noise, axis=1)
    return X, y


def peak() -> int:
    """Return the most bytes that this process has held."""
    return RSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fit_once(n: int, solver: str, tol: float) -> Growth:
    """Fit in this process, after a small fit that loads the compiled kernels."""
    from mgce_sklearn import MGCEClassifier

    warnings.simplefilter("ignore")  # whether it converged, the gap tells
    model = MGCEClassifier(q=Q, lam=LAM, solver=solver, tol=tol)
    model.fit(*synthetic(WARM_UP_ROWS))
    X, y = synthetic(n)
    before, begin = peak(), time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - begin
    relative_gap = model.dual_gap_ / model.minimax_risk_
    return Growth(n, seconds, int(model.n_iter_), float(relative_gap), peak() - before)


def fit_elsewhere(n: int, solver: str, tol: float) -> Growth:
    """Fit in a new process."""
    command = [sys.executable, __file__, "--size", str(n), "--solver", solver, "--tol", str(tol)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Growth(*json.loads(done.stdout))


def main() -> None:
    """Print a line per size and the slope, or be the process of one size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="up to 1e5 rows")
    parser.add_argument("--solver", default="interior_point")
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=1, help="processes a median is taken of")
    parser.add_argument("--size", type=int, help="fit so many rows here, and print JSON")
    options = parser.parse_args()
    if options.size:
        print(json.dumps(fit_once(options.size, options.solver, options.tol)))
        return
    fits = []
    fit_elsewhere(WARM_UP_ROWS, options.solver, options.tol)
    print(f"{options.solver}, q = {Q:g}, lam = {LAM:g}, d = {N_FEATURES}, K = {N_CLASSES}")
    print("        n   seconds  iterations      gap     MiB  arrays (n, K)")
    for n in SIZES:
        if options.quick and n > LARGEST_QUICK:
            break
        runs = [fit_elsewhere(n, options.solver, options.tol) for _ in range(options.repeats)]
        fit = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        fits.append(fit)
        print(
            f"{n:9d} {fit.seconds:9.2f} {fit.n_iter:11d} {fit.relative_gap:8.1e} "
            f"{fit.extra_bytes / 2**20:7.0f} {fit.extra_bytes / (8 * n * N_CLASSES):14.1f}",
            flush=True,
        )
    first, last = fits[0], fits[-1]
    slope = np.log(last.seconds / first.seconds) / np.log(last.n / first.n)
    print(f"slope from {first.n:.0e} to {last.n:.0e} rows: {slope:.2f}")


if __name__ == "__main__":
    main()
