"""Time MGCELoss against PyTorch's cross-entropy and entmax's bisection, forward and backward.

    python benchmarks/torch_loss.py                    # a minute
    python benchmarks/torch_loss.py --quick            # ten seconds
    python benchmarks/torch_loss.py --device cuda      # where there is one
    python benchmarks/torch_loss.py --device cuda --graph
    python benchmarks/torch_loss.py --device cuda --compile --q 0.7

All take the same margins, N(0, 3²), and the same labels: `torch.nn.functional.cross_entropy`,
`MGCELoss(q)` and `entmax.entmax_bisect_loss(alpha=1 + q)` with its own 50 bisections. Every
round times each once, in turn, so that a disturbance of the machine meets all; on a CPU one thread.
A line has the median of cross-entropy's time, and the medians of the ratios to it. Of entmax the
ratio is entmax / MGCELoss: above 1 we are faster.

On a GPU a time is the host's, from the first call to the end of the last operation. With
``--graph`` the first two are captured as graphs, and a time is the GPU's own, of one of ten
replays, with a copy of the margins beside them: that reads and writes as much as a loss must. With
``--compile`` the first two are compiled.
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
REPLAYS = 10
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


def captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Return what a call does on a GPU, as one graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # memory is taken outside of the graph
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def seconds_of_replay(graph: torch.cuda.CUDAGraph) -> float:
    """Time a replay on the GPU's own clock."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    stop.record()
    stop.synchronize()
    return 1e-3 * start.elapsed_time(stop) / REPLAYS


def problem(
    shape: tuple[int, int], dtype: torch.dtype, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return margins and labels."""
    generator = torch.Generator().manual_seed(0)
    margins = (3.0 * torch.randn(shape, generator=generator)).to(device, dtype).requires_grad_()
    return margins, torch.randint(shape[1], shape[:1], generator=generator).to(device)


def replays(
    shape: tuple[int, int], dtype: torch.dtype, parameters: tuple[float, ...], repeats: int
) -> tuple[float, float, dict[float, float]]:
    """Return a GPU's own seconds of cross-entropy, a copy / it, and for each q MGCELoss / it."""
    margins, labels = problem(shape, dtype, "cuda")
    copy = torch.empty_like(margins, requires_grad=False)

    def graph_of(loss: Callable[..., torch.Tensor]) -> torch.cuda.CUDAGraph:
        def work() -> None:
            torch.autograd.grad(loss(margins, labels), margins)

        work()  # programs are compiled
        return captured(work)

    graphs = {q: graph_of(MGCELoss(q)) for q in parameters}
    graphs.update(plain=graph_of(cross_entropy), copy=captured(lambda: copy.copy_(margins)))
    taken = {name: [] for name in graphs}
    for _ in range(repeats):
        for name, graph in graphs.items():
            taken[name].append(seconds_of_replay(graph))
    baseline = np.array(taken["plain"])
    ratios = {name: float(np.median(each / baseline)) for name, each in taken.items()}
    return float(np.median(baseline)), ratios["copy"], {q: ratios[q] for q in parameters}


def rounds(
    shape: tuple[int, int],
    dtype: torch.dtype,
    parameters: tuple[float, ...],
    device: str,
    repeats: int,
    compiled: bool,
) -> tuple[float, dict[float, tuple[float, float]]]:
    """Return cross-entropy's seconds, and for each q MGCELoss / it and entmax / MGCELoss."""
    margins, labels = problem(shape, dtype, device)

    def pass_of(loss: Callable[..., torch.Tensor]) -> Callable[[], None]:
        def work() -> None:
            margins.grad = None
            loss(margins, labels).mean().backward()

        return work

    def of_entmax(q: float) -> Callable[..., torch.Tensor]:
        return lambda margins, labels: entmax_bisect_loss(margins, labels, alpha=1.0 + q)

    plain = pass_of(torch.compile(cross_entropy) if compiled else cross_entropy)
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
    parser.add_argument("--graph", action="store_true", help="a GPU's own time, without the host's")
    parser.add_argument("--compile", action="store_true", help="losses under torch.compile")
    parser.add_argument("--q", nargs="+", type=float)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shapes = SHAPES[options.device][1:4] if options.quick else SHAPES[options.device]
    parameters = tuple(options.q or ((0.3, 0.7) if options.quick else Q))
    repeats = 5 if options.quick else options.repeats
    precisions = ["float32", "float64"] if options.device == "cpu" else list(PRECISIONS)
    header = "  ".join(f"{f'q = {q:g}':>11}" for q in parameters)
    beside = "" if options.graph else " (entmax / MGCELoss)"
    print(f"MGCELoss / cross-entropy{beside}, forward and backward")
    copy_header = f"{'copy':>5}  " if options.graph else ""
    print(f"{'precision':9} {'rows':>6} {'classes':>7} {'c.-e., ms':>9}  {copy_header}{header}")
    for name in options.precisions or precisions:
        for shape in shapes:
            if options.graph:
                baseline, copy, medians = replays(shape, PRECISIONS[name], parameters, repeats)
                cells = [f"{copy:5.2f}", *(f"{ours:11.2f}" for ours in medians.values())]
            else:
                baseline, pairs = rounds(
                    shape, PRECISIONS[name], parameters, options.device, repeats, options.compile
                )
                cells = [
                    f"{ours:5.2f}" + (f" ({theirs:3.0f})" if theirs == theirs else " " * 6)
                    for ours, theirs in pairs.values()
                ]
            line = f"{name:9} {shape[0]:6d} {shape[1]:7d} {1e3 * baseline:9.3f}  "
            print(line + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
