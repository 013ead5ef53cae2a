"""How long a user waits before the first result: import, first fit, first compilation.

    python benchmarks/startup.py [--repeats 5]

Each number is the median over new processes. The first fit is of iris at the defaults, in a
process of its own: with kernels in numba's cache, and with an empty cache, which is what the
first fit after an installation meets (one process; compilation is long and varies little).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from statistics import median

IMPORT = """
from time import perf_counter
start = perf_counter()
import mgce_sklearn
print(perf_counter() - start)
"""

FIRST_FIT = """
from time import perf_counter
from sklearn.datasets import load_iris
from mgce_sklearn import MGCEClassifier
X, y = load_iris(return_X_y=True)
start = perf_counter()
MGCEClassifier().fit(X, y).predict_proba(X)
print(perf_counter() - start)
"""


def seconds(code: str, cache: str) -> float:
    """Run code that prints seconds in a new process, with numba's cache in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", code]
    # stderr is left out: the notice that kernels are being compiled is expected here.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="processes a median is taken of")
    repeats = range(parser.parse_args().repeats)
    with tempfile.TemporaryDirectory() as cache:
        cold = seconds(FIRST_FIT, cache)
        warm = median(seconds(FIRST_FIT, cache) for _ in repeats)
        imported = median(seconds(IMPORT, cache) for _ in repeats)
    print(f"import mgce_sklearn                {imported:6.2f} s")
    print(f"first fit, kernels in the cache    {warm:6.2f} s")
    print(f"first fit, empty cache             {cold:6.2f} s")


if __name__ == "__main__":
    main()
