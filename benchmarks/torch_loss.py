"""Time MGCELoss against PyTorch's cross-entropy and entmax's bisection, forward and backward.

    python benchmarks/torch_loss.py                    # a minute
    python benchmarks/torch_loss.py --quick            # ten seconds
    python benchmarks/torch_loss.py --device cuda      # where there is one
    python benchmarks/torch_loss.py --device cuda --compile

All take the same margins, N(0, 3²), and the same labels: `torch.nn.functional.cross_entropy`,
`MGCELoss(q)` and `entmax.entmax_bisect_loss(alpha=1 + q)` with its own 50 bisections. Every
round times each once, in turn, so that a disturbance of the machine meets all; on a CPU one thread.
A line has the median of cross-entropy's time, and the medians of the ratios to it. Of entmax the
ratio is entmax / MGCELoss: above 1 we are faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from entmax import entmax_bisect_loss
from torch.nn.functional import cross_entropy

from mgce_sklearn.torch import MGCELoss

SHAPES = {
    "cpu": ((128, 10), (128, 26), (10_000, 10), (10_000, 100), (1_000, 1_000), (64, 50_000)),
    "cuda": (
        (128, 10),
        (128, 1_000),
        (10_000, 100),
        *((4_096, k) for k in (1_000, 10_000, 50_000)),
    ),
}
ENTMAX_REPEATS = 3  # of bisection, which takes no other time than the time before
Q = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def seconds(work: Callable[[], object], device: str) -> float:
    """Time one call, and what it leaves to do on the device."""
    start = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounds(
    shape: tuple[int, int],
    dtype: torch.dtype,
    parameters: tuple[float, ...],
    device: str,
    repeats: int,
    compiled: bool,
) -> tuple[float, dict[float, tuple[float, float]]]:
    """Return cross-entropy's seconds, and for each q MGCELoss / it and entmax / MGCELoss."""
    generator = torch.Generator().manual_seed(0)
    margins = (3.0 * torch.randn(shape, generator=generator)).to(device, dtype).requires_grad_()
    labels = torch.randint(shape[1], shape[:1], generator=generator).to(device)

    def pass_of(loss: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def work() -> None:
            margins.grad = None
            loss(margins, labels).mean().backward()

        return work

    def of_entmax(q: float) -> Callable[..., torch.Tensor]:
        return lambda margins, labels: entmax_bisect_loss(margins, labels, alpha=1.0 + q)

    plain = pass_of(cross_entropy)
    losses = {q: MGCELoss(q) for q in parameters}
    if compiled:
        losses = {q: torch.compile(loss) for q, loss in losses.items()}
    works = {q: (pass_of(losses[q]), pass_of(of_entmax(q)) if q > 0.0 else None) for q in losses}
    for ours, theirs in works.values():  # kernels are compiled, memory is taken
        ours()
        if theirs is not None:
            theirs()
    plain()
    baseline, ratios = [], {q: ([], []) for q in parameters}
    for repeat in range(repeats):
        baseline.append(seconds(plain, device))
        for q, (ours, theirs) in works.items():
            own = seconds(ours, device)
            ratios[q][0].append(own / baseline[-1])
            if repeat < ENTMAX_REPEATS:
                ratios[q][1].append(seconds(theirs, device) / own if theirs else np.nan)
    medians = {q: (np.median(a), np.median(b)) for q, (a, b) in ratios.items()}
    return float(np.median(baseline)), medians


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer shapes and repeats")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="MGCELoss under torch.compile")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shapes = SHAPES[options.device][1:4] if options.quick else SHAPES[options.device]
    parameters = (0.3, 0.7) if options.quick else Q
    repeats = 5 if options.quick else options.repeats
    precisions = ["float32", "float64"] if options.device == "cpu" else list(PRECISIONS)
    header = "  ".join(f"{f'q = {q:g}':>11}" for q in parameters)
    print("MGCELoss / cross-entropy (entmax / MGCELoss), forward and backward")
    print(f"{'precision':9} {'rows':>6} {'classes':>7} {'c.-e., ms':>9}  {header}")
    for name in options.precisions or precisions:
        for shape in shapes:
            baseline, medians = rounds(
                shape, PRECISIONS[name], parameters, options.device, repeats, options.compile
            )
            cells = "  ".join(
                f"{ours:5.2f}" + (f" ({theirs:3.0f})" if theirs == theirs else " " * 6)
                for ours, theirs in medians.values()
            )
            print(
                f"{name:9} {shape[0]:6d} {shape[1]:7d} {1e3 * baseline:9.3f}  {cells}", flush=True
            )


if __name__ == "__main__":
    main()
