"""Files larger than memory: seconds, memory and accuracy of classifiers that read Parquet in parts.

    python benchmarks/scale.py --folder DIR                 # 1e7 x 50 float32, 2 GB, K = 3
    python benchmarks/scale.py --folder DIR --quick         # 1e5 rows, under a minute
    python benchmarks/scale.py --folder DIR --only sgd xgboost
    python benchmarks/scale.py --folder DIR --grow          # time and memory by n, d, K and parts
    python benchmarks/scale.py --folder DIR --dask          # on workers of Dask, 1e6 rows

Rows are drawn block by block from a multinomial logistic model, and some labels then at random;
they are written once to the folder, and found there again. Each classifier has a process of its own
with two threads. Its seconds are those of the fit with all reading of files, without imports and
compilation of our kernels. Its peak is that of *anonymous* memory (RssAnon of Linux, asked for
every 50 ms, from imports to the last prediction): pages of mapped files do not count, because the
system may drop them. Accuracy and Brier score (summed over classes) are those on held-out rows;
that of the model the labels were drawn from is shown as "Bayes".

- mgce: `MGCEClassifier(q=0.5, tol=1e-3).fit` of `RowBlocks`: certified, in several passes.
- partial_fit: `MGCEClassifier.partial_fit`, one pass over `RowBlocks`, without a certificate.
- sgd: scikit-learn's ``SGDClassifier(loss="log_loss").partial_fit``, one pass over `RowBlocks`.
- lightgbm: ``lightgbm.Sequence`` over row groups, of which one at a time is decoded. LightGBM keeps
  a byte of every number in memory.
- xgboost: ``DataIter`` over `RowBlocks` and ``ExtMemQuantileDMatrix``, whose pages are files.

Boosters make ``--rounds``, 100 (10 if quick), with settings that are otherwise their own.

With ``--grow`` the first of them is fitted to files, and to arrays in memory, of other sizes; a
slope is that of the logarithm of seconds, or of peak memory above that of a fit of 2,000 rows,
against that of the size, by least squares.

With ``--dask`` `scale_dask.py` fits `DaskMGCEClassifier` to 1e6 rows (1e5 if quick) on one and two
workers of a `LocalCluster`, beside the fit in memory and the Dask estimators of LightGBM and
xgboost; kills a worker of each; has workers lack a class; and computes from rounds that were
measured what a fit on many machines would take.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Proba = Callable[[Array], Array]

ROWS, ROWS_QUICK, ROWS_HELD_OUT, ROWS_OF_WARM_UP = 10_000_000, 100_000, 100_000, 2_000
N_FEATURES, N_CLASSES = 50, 3
N_FILES, ROWS_PER_BLOCK = 8, 131072
SCALE, RANDOM_LABELS = 4.5, 0.08  # Bayes accuracy 0.82
ROUNDS, ROUNDS_QUICK, N_THREADS = 100, 10, 2
TOL = 1e-3
SECONDS_BETWEEN_LOOKS = 0.05


class Measured(NamedTuple):
    """One classifier."""

    seconds: float
    accuracy: float
    brier: float
    remark: str = ""


class Task(NamedTuple):
    """Where rows are, and how long to boost."""

    train: str
    held_out: str
    n_rounds: int


# Data


def coefficients(d: int = N_FEATURES, n_classes: int = N_CLASSES) -> Array:
    """Return those of the model (d, K) that labels are drawn from."""
    coef = np.random.default_rng(0).normal(size=(d, n_classes))
    return SCALE * coef / np.sqrt(d)


def draw(
    n: int, *seed: int, d: int = N_FEATURES, n_classes: int = N_CLASSES
) -> tuple[Array, Array]:
    """Return rows in float32, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.float32)
    y = np.argmax(X @ coefficients(d, n_classes) + rng.gumbel(size=(n, n_classes)), axis=1)
    at_random = rng.random(n) < RANDOM_LABELS
    y[at_random] = rng.integers(n_classes, size=int(at_random.sum()))
    return X, y.astype(np.int8)


def write(path: Path, n: int, seed: int, d: int = N_FEATURES, n_classes: int = N_CLASSES) -> None:
    """Write so many rows to a file, a block a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"x{j}" for j in range(d)]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("y", pa.int8())])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, n, ROWS_PER_BLOCK):
            rows = min(ROWS_PER_BLOCK, n - start)
            X, y = draw(rows, seed, start, d=d, n_classes=n_classes)
            writer.write_table(pa.table([*np.ascontiguousarray(X.T), y], schema=schema))


def files_in(
    folder: Path, n: int, d: int = N_FEATURES, n_classes: int = N_CLASSES
) -> tuple[str, str]:
    """Return a folder with so many rows and a file of those held out, written unless there."""
    folder = folder / (f"{n}x{d}" + (f"x{n_classes}" if n_classes != N_CLASSES else ""))
    held_out = folder / "held_out.parquet"
    if not held_out.exists():  # it is written last
        (folder / "train").mkdir(parents=True, exist_ok=True)
        for i, rows in enumerate(np.array_split(np.arange(n), N_FILES)):
            write(folder / "train" / f"part-{i}.parquet", len(rows), 1 + i, d, n_classes)
        write(held_out.with_suffix(".part"), ROWS_HELD_OUT, 0, d, n_classes)
        held_out.with_suffix(".part").rename(held_out)
    return str(folder / "train"), str(held_out)


# Classifiers: each learns from a folder of files; returns its probabilities, and a remark perhaps.


def mgce(task: Task) -> tuple[Proba, str]:
    """Fit ours with a certificate."""
    from mgce_sklearn import RowBlocks

    return certified(RowBlocks.from_parquet(task.train, "y"))


def certified(*rows: Any) -> tuple[Proba, str]:
    """Fit ours to blocks, or to features and labels, and tell of the certificate."""
    from mgce_sklearn import MGCEClassifier

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        model = MGCEClassifier(q=0.5, tol=TOL, verbose=1).fit(*rows)
    *_, passes = output.getvalue().strip().splitlines()[-1].split("non-zero")
    gap = model.dual_gap_ / model.minimax_risk_
    return model.predict_proba, f"gap {gap:.0e}, {model.n_iter_} steps, {passes.strip()}"


def partial_fit(task: Task) -> Proba:
    """Fit ours in one pass."""
    from mgce_sklearn import MGCEClassifier, RowBlocks

    model = MGCEClassifier()
    for block in RowBlocks.from_parquet(task.train, "y"):
        model.partial_fit(block.X, block.y, classes=np.arange(N_CLASSES))
    return model.predict_proba


def sgd(task: Task) -> Proba:
    """Fit scikit-learn's in one pass."""
    from sklearn.linear_model import SGDClassifier

    from mgce_sklearn import RowBlocks

    model = SGDClassifier(loss="log_loss", random_state=0)
    for block in RowBlocks.from_parquet(task.train, "y"):
        model.partial_fit(block.X, block.y, classes=np.arange(N_CLASSES))
    return model.predict_proba


def lightgbm(task: Task) -> Proba:
    """Boost, reading row groups."""
    import lightgbm
    import pyarrow.parquet as pq

    class RowGroups(lightgbm.Sequence):
        """Rows of a file. LightGBM asks for a sample one by one, in order, and then for all."""

        batch_size = ROWS_PER_BLOCK

        def __init__(self, path: Path) -> None:
            self._file = pq.ParquetFile(path, pre_buffer=False)
            meta = self._file.metadata
            sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
            self._starts = np.cumsum([0, *sizes]).tolist()
            self._held: tuple[int, Array] | None = None

        def _group(self, i: int) -> Array:
            if self._held is None or self._held[0] != i:
                self._held = None
                table = self._file.read_row_group(i).drop_columns("y").combine_chunks()
                self._held = i, table.to_batches()[0].to_tensor().to_numpy()
            return self._held[1]

        def __getitem__(self, rows: Any) -> Array:
            if not isinstance(rows, slice):
                i = bisect_right(self._starts, rows) - 1
                return self._group(i)[rows - self._starts[i]].astype(np.float64)
            return np.concatenate(list(self._pieces(rows.start, min(rows.stop, len(self)))))

        def _pieces(self, start: int, stop: int) -> Iterator[Array]:
            while start < stop:
                i = bisect_right(self._starts, start) - 1
                end = min(stop, self._starts[i + 1])
                yield self._group(i)[start - self._starts[i] : end - self._starts[i]]
                start = end

        def __len__(self) -> int:
            return self._starts[-1]

    paths = sorted(Path(task.train).glob("*.parquet"))
    y = np.concatenate([pq.read_table(path, columns=["y"])["y"].to_numpy() for path in paths])
    settings = {
        "objective": "multiclass", "num_class": N_CLASSES, "num_threads": N_THREADS, "verbose": -1,
    }  # fmt: skip
    rows = lightgbm.Dataset([RowGroups(path) for path in paths], label=y, params=settings)
    return lightgbm.train(settings, rows, task.n_rounds).predict


def xgboost(task: Task) -> Proba:
    """Boost, with pages in files beside the rows."""
    import xgboost

    from mgce_sklearn import RowBlocks

    class Blocks(xgboost.DataIter):
        """The blocks, as often as they are asked for."""

        def __init__(self, cache: str) -> None:
            self._blocks = RowBlocks.from_parquet(task.train, "y")
            self.reset()
            super().__init__(cache_prefix=cache)

        def reset(self) -> None:
            self._pass = iter(self._blocks)

        def next(self, input_data: Callable[..., Any]) -> bool:
            block = next(self._pass, None)
            if block is not None:
                input_data(data=block.X, label=block.y)
            return block is not None

    settings = {"objective": "multi:softprob", "num_class": N_CLASSES, "nthread": N_THREADS}
    with tempfile.TemporaryDirectory(dir=Path(task.train).parent) as folder:
        rows = xgboost.ExtMemQuantileDMatrix(
            Blocks(os.path.join(folder, "pages")), nthread=N_THREADS
        )
        model = xgboost.train({**settings, "tree_method": "hist"}, rows, task.n_rounds)
        del rows
    return model.inplace_predict


FITS = {fit.__name__: fit for fit in (mgce, partial_fit, sgd, lightgbm, xgboost)}


# Measuring


def scores(proba: Array, y: Array) -> tuple[float, float]:
    """Return accuracy, and the Brier score summed over classes."""
    differences = proba - np.eye(N_CLASSES)[y]
    accuracy = (proba.argmax(axis=1) == y).mean()
    return float(accuracy), float((differences**2).sum(axis=1).mean())


def bayes(X: Array) -> Array:
    """Return the probabilities of the model that labels were drawn from."""
    from scipy.special import softmax

    proba = softmax(X @ coefficients(), axis=1)
    return (1.0 - RANDOM_LABELS) * proba + RANDOM_LABELS / N_CLASSES


def fit_here(name: str, task: Task) -> Measured:
    """Fit in this process."""
    from mgce_sklearn import RowBlocks

    warnings.simplefilter("ignore")
    if name in ("mgce", "partial_fit"):
        warm_up(N_FEATURES, N_CLASSES)
    (block,) = RowBlocks.from_parquet(task.held_out, "y")
    begin = time.perf_counter()
    found = bayes if name == "Bayes" else FITS[name](task)
    seconds = time.perf_counter() - begin
    proba, remark = found if isinstance(found, tuple) else (found, "")
    return Measured(seconds, *scores(np.asarray(proba(block.X)), block.y), remark)


def warm_up(d: int, n_classes: int) -> None:
    """Compile our kernels, or load them."""
    from mgce_sklearn import MGCEClassifier, RowBlocks

    X, y = draw(ROWS_OF_WARM_UP, 0, d=d, n_classes=n_classes)
    MGCEClassifier(q=0.5).fit(RowBlocks.from_memmap(X, y)).predict_proba(X)
    MGCEClassifier(q=0.5).fit(X, y)
    MGCEClassifier().partial_fit(X, y, np.arange(n_classes)).predict_proba(X)


def anonymous_bytes(process: int) -> int:
    """Return what a process has of anonymous memory, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except ProcessLookupError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def fit_elsewhere(*what: Any) -> tuple[Measured, int]:
    """Fit in a new process; return what it measures, and its peak of anonymous bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(N_THREADS)}
    command = [sys.executable, __file__, "--fit", *map(str, what)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, what))} failed.")
    return Measured(*json.loads(process.stdout.read())), peak


# Growth


class Size(NamedTuple):
    """What a fit is made of."""

    n: int
    d: int = N_FEATURES
    n_classes: int = N_CLASSES
    rows_per_block: int = ROWS_PER_BLOCK


# Sizes whose other parts stay, and where rows are.
GROWTH = {
    "n, files": ("files", [Size(n) for n in (100_000, 1_000_000, 10_000_000)]),
    "n, memory": ("memory", [Size(n) for n in (100_000, 1_000_000, 10_000_000)]),
    "d, files": ("files", [Size(200_000, d=d) for d in (25, 50, 100, 200)]),
    "K, files": ("files", [Size(200_000, n_classes=k) for k in (3, 6, 12, 24)]),
    "parts, files": (
        "files", [Size(1_000_000, rows_per_block=b) for b in (262_144, 65_536, 16_384, 4_096)],
    ),
}  # fmt: skip
GROWTH_QUICK = {
    "n, files": ("files", [Size(n) for n in (20_000, 100_000)]),
    "parts, files": ("files", [Size(100_000, rows_per_block=b) for b in (65_536, 4_096)]),
}
NOTHING = Size(2_000)


def grown(where: str, train: str, *size: int) -> Measured:
    """Fit ours to rows of a size; the accuracy is that on some of them."""
    from mgce_sklearn import RowBlocks

    warnings.simplefilter("ignore")
    n, d, n_classes, rows_per_block = size
    warm_up(d, n_classes)
    begin = time.perf_counter()
    if where == "files":
        _, remark = certified(RowBlocks.from_parquet(train, "y", rows_per_block=rows_per_block))
    else:
        X, y = np.empty((n, d), np.float32), np.empty(n, np.int8)
        for start in range(0, n, ROWS_PER_BLOCK):
            rows = slice(start, min(start + ROWS_PER_BLOCK, n))
            X[rows], y[rows] = draw(rows.stop - start, 1, start, d=d, n_classes=n_classes)
        begin = time.perf_counter()
        _, remark = certified(X, y)
    return Measured(time.perf_counter() - begin, np.nan, np.nan, remark)


def slope(sizes: list[float], amounts: list[float]) -> float:
    """Return the exponent of a power law, by least squares of logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(amounts, 1e-9)), 1)[0])


def grow(folder: Path, growth: dict[str, tuple[str, list[Size]]]) -> None:
    """Print a line per size, and slopes."""
    train, _ = files_in(folder, NOTHING.n)
    _, least = fit_elsewhere("grow-files", train, *NOTHING)
    above = f"peak - {least / 1e6:.0f}, MB"
    print(f"{'':13} {'size':>9} {'seconds':>8} {'a step':>8} {above:>15}")
    for name, (where, sizes) in growth.items():
        key = {"n": 0, "d": 1, "K": 2, "parts": 3}[name.partition(",")[0]]
        seconds, per_step, memory = [], [], []
        for size in sizes:
            train = files_in(folder, *size[:3])[0] if where == "files" else "-"
            measured, peak = fit_elsewhere(f"grow-{where}", train, *size)
            steps = int(measured.remark.partition(", ")[2].partition(" ")[0])
            seconds.append(measured.seconds)
            per_step.append(measured.seconds / (steps + 1))
            memory.append((peak - least) / 1e6)
            print(
                f"{name:13} {size[key]:9d} {seconds[-1]:8.2f} {per_step[-1]:8.3f} "
                f"{memory[-1]:15.0f}  {measured.remark}",
                flush=True,
            )
        amounts = [float(size[key]) for size in sizes]
        slopes = " ".join(f"{slope(amounts, one):8.2f}" for one in (seconds, per_step))
        print(f"{name:13} {'slope':>9} {slopes} {slope(amounts, memory):15.2f}", flush=True)


def main() -> None:
    """Print a line per classifier, or be the process of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where rows are kept, a temporary one if none")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, help="of boosting")
    parser.add_argument("--quick", action="store_true", help="1e5 rows, 10 rounds")
    parser.add_argument("--only", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--grow", nargs="*", choices=GROWTH, help="fits of many sizes instead")
    parser.add_argument("--dask", action="store_true", help="on workers of Dask instead")
    parser.add_argument("--fit", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit and options.fit[0].startswith("grow-"):
        where, train, *size = options.fit
        print(json.dumps(grown(where.removeprefix("grow-"), train, *map(int, size))))
        return
    if options.fit:
        name, train, held_out, n_rounds = options.fit
        print(json.dumps(fit_here(name, Task(train, held_out, int(n_rounds)))))
        return
    n = ROWS_QUICK if options.quick else options.rows or ROWS
    n_rounds = options.rounds or (ROUNDS_QUICK if options.quick else ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        if options.grow is not None:
            growth = GROWTH_QUICK if options.quick else GROWTH
            chosen = {name: growth[name] for name in options.grow or growth}
            grow(options.folder or Path(temporary), chosen)
            return
        if options.dask:
            import scale_dask  # which imports this module

            scale_dask.main(
                options.folder or Path(temporary), options.rows, n_rounds, options.quick
            )
            return
        begin = time.perf_counter()
        task = Task(*files_in(options.folder or Path(temporary), n), n_rounds)
        size = sum(path.stat().st_size for path in Path(task.train).iterdir())
        print(
            f"{n} rows, d = {N_FEATURES}, K = {N_CLASSES}: {size / 1e6:.0f} MB in {N_FILES} files, "
            f"ready in {time.perf_counter() - begin:.0f} s"
        )
        print(f"{'':12} {'seconds':>9} {'peak, MB':>9} {'accuracy':>9} {'Brier':>7}")
        for name in ("Bayes", *options.only):
            measured, peak = fit_elsewhere(name, *task)
            print(
                f"{name:12} {measured.seconds:9.1f} {peak / 1e6:9.0f} {measured.accuracy:9.4f} "
                f"{measured.brier:7.4f}  {measured.remark}",
                flush=True,
            )


if __name__ == "__main__":
    main()
