"""Fit MRCpy's CMRC once, in the environment that has it, when `mrcpy.py` asks.

It takes six words: data and answer, both .npz files, loss, solver, lam and max_iters.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from MRCpy import CMRC


def main() -> None:
    """Read the data, fit, and write seconds, coefficients and half-widths."""
    data, answer, loss, solver, lam, max_iters = sys.argv[1:]
    arrays = np.load(data)
    model = CMRC(
        loss=loss, solver=solver, s=float(lam), max_iters=int(max_iters) or None,
        fit_intercept=False, random_state=0,
    )  # fmt: skip
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    model.fit(arrays["X"], arrays["y"])
    seconds = time.perf_counter() - begin
    np.savez(answer, seconds=seconds, mu=model.mu_, half_width=model.lambda_)


if __name__ == "__main__":
    main()
