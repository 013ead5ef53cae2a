"""Time the linear model on random Fourier features: numpy's arrays against tensors.

    python benchmarks/tensors.py                     # 10,000 × 500 on a CPU, some minutes
    python benchmarks/tensors.py --quick             # 2,000 × 100, under a minute
    python benchmarks/tensors.py --device cuda       # 100,000 × 2,000 there
    python benchmarks/tensors.py --device cuda --compare --max-time 120

Covertype (`benchmarks/datasets.py`) through a network of one cosine layer as ``feature_map``, and
`MGCEClassifier` by the solver named. On a CPU, and on a device with ``--compare``, the same
features are fitted with numpy's arrays as well, in turn and on one thread (on a device all of the
host's), and the last columns say how far the two fits are apart.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import datasets
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mgce_sklearn import MGCEClassifier

BANDWIDTH = 0.1
SIZES = {"cpu": (10_000, 500), "cuda": (100_000, 2_000)}


class RandomFourier(torch.nn.Module):
    """Features sqrt(2/D) cos(x A + b) of the kernel exp(-gamma |x - y|²)."""

    def __init__(self, n_inputs: int, n_features: int, gamma: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(n_inputs, n_features, generator=generator, dtype=torch.float64)
        phases = 2.0 * math.pi * torch.rand(n_features, generator=generator, dtype=torch.float64)
        self.register_buffer("directions", math.sqrt(2.0 * gamma) * directions)
        self.register_buffer("phases", phases)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the features of rows."""
        scale = math.sqrt(2.0 / len(self.phases))
        return scale * torch.cos(rows @ self.directions + self.phases)


def fit(model: MGCEClassifier, X: object, y: np.ndarray) -> tuple[MGCEClassifier, float]:
    """Fit, and return the model and the seconds."""
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the table has the gap
        model.fit(X, y)
    return model, time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--solvers", nargs="+", default=["interior_point", "lbfgs"])
    parser.add_argument("--q", nargs="+", type=float, default=[0.0, 0.5, 0.7])
    parser.add_argument("--compare", action="store_true", help="with numpy, if on a device")
    parser.add_argument("--max-time", type=float, help="seconds a fit")
    parser.add_argument("--lam", type=float, default=0.3)
    parser.add_argument("--tol", type=float, default=1e-3)
    options = parser.parse_args()
    n_rows, n_features = (2_000, 100) if options.quick else SIZES[options.device]
    rows = datasets.split("covtype", n_rows, noise=0.0, seed=0)
    network = RandomFourier(rows.X.shape[1], n_features, BANDWIDTH / rows.X.shape[1])
    network.to(options.device)
    compared = options.device == "cpu" or options.compare
    n_threads = 1 if options.device == "cpu" else None
    print(f"{len(rows.X)} rows, {n_features} features, {len(np.unique(rows.y))} classes")
    print(
        f"{'solver':14} {'q':>4} {'tensors, s':>10} {'numpy, s':>9} {'gap':>8} {'risk':>7} "
        f"{'test acc.':>9} {'|risk diff.|':>12} {'|proba diff.|':>13}"
    )
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    with threadpool_limits(n_threads):
        for solver in options.solvers:
            for q in options.q:
                model = MGCEClassifier(
                    q, options.lam, solver=solver, tol=options.tol, max_time=options.max_time
                )
                tensors = model.set_params(feature_map=network)
                tensors, seconds = fit(tensors, torch.tensor(rows.X), rows.y)
                line = f"{solver:14} {q:4.1f} {seconds:10.2f} "
                ours = np.nan, np.nan, np.nan
                if compared:
                    mine = clone(model).set_params(feature_map=None)
                    features = network(torch.tensor(rows.X, device=options.device)).cpu().numpy()
                    mine, own_seconds = fit(mine, features, rows.y)
                    difference = mine.predict_proba(features) - np.asarray(
                        tensors.predict_proba(torch.tensor(rows.X)).cpu()
                    )
                    apart = abs(mine.minimax_risk_ - tensors.minimax_risk_)
                    ours = own_seconds, apart, np.abs(difference).max()
                gap = tensors.dual_gap_ / tensors.minimax_risk_
                accuracy = tensors.score(torch.tensor(rows.X_test), rows.y_test)
                print(
                    f"{line}{ours[0]:9.2f} {gap:8.1e} {tensors.minimax_risk_:7.4f} "
                    f"{accuracy:9.4f} {ours[1]:12.1e} {ours[2]:13.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
