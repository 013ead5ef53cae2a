"""Files larger than memory: seconds, memory and accuracy of classifiers that read Parquet in parts.

    python benchmarks/scale.py --folder DIR                 # 1e7 x 50 float32, 2 GB, K = 3
    python benchmarks/scale.py --folder DIR --quick         # 1e5 rows, under a minute
    python benchmarks/scale.py --folder DIR --only sgd xgboost

Rows are drawn block by block from a multinomial logistic model, and some labels then at random;
they are written once to the folder, and found there again. Each classifier has a process of its own
with two threads. Its seconds are those of the fit with all reading of files, without imports and
compilation of our kernels. Its peak is that of *anonymous* memory (RssAnon of Linux, asked for
every 50 ms, from imports to the last prediction): pages of mapped files do not count, because the
system may drop them. Accuracy and Brier score (summed over classes) are those on held-out rows;
that of the model the labels were drawn from is shown as "Bayes".

- partial_fit: `MGCEClassifier.partial_fit`, one pass over `RowBlocks`, without a certificate.
- sgd: scikit-learn's ``SGDClassifier(loss="log_loss").partial_fit``, one pass over `RowBlocks`.
- lightgbm: ``lightgbm.Sequence`` over row groups, of which one at a time is decoded. LightGBM keeps
  a byte of every number in memory.
- xgboost: ``DataIter`` over `RowBlocks` and ``ExtMemQuantileDMatrix``, whose pages are files.

Boosters make ``--rounds``, 100 (10 if quick), with settings that are otherwise their own.
"""

from __future__ import annotations

import argparse
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
SECONDS_BETWEEN_LOOKS = 0.05


class Measured(NamedTuple):
    """One classifier."""

    seconds: float
    accuracy: float
    brier: float


class Task(NamedTuple):
    """Where rows are, and how long to boost."""

    train: str
    held_out: str
    n_rounds: int


# Data


def coefficients() -> Array:
    """Return those of the model (d, K) that labels are drawn from."""
    coef = np.random.default_rng(0).normal(size=(N_FEATURES, N_CLASSES))
    return SCALE * coef / np.sqrt(N_FEATURES)


def draw(n: int, *seed: int) -> tuple[Array, Array]:
    """Return rows in float32, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, N_FEATURES), dtype=np.float32)
    y = np.argmax(X @ coefficients() + rng.gumbel(size=(n, N_CLASSES)), axis=1)
    at_random = rng.random(n) < RANDOM_LABELS
    y[at_random] = rng.integers(N_CLASSES, size=int(at_random.sum()))
    return X, y.astype(np.int8)


def write(path: Path, n: int, seed: int) -> None:
    """Write so many rows to a file, a block a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"x{j}" for j in range(N_FEATURES)]
    schema = pa.schema([(name, pa.float32()) for name in names] + [("y", pa.int8())])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, n, ROWS_PER_BLOCK):
            X, y = draw(min(ROWS_PER_BLOCK, n - start), seed, start)
            writer.write_table(pa.table([*np.ascontiguousarray(X.T), y], schema=schema))


def files_in(folder: Path, n: int) -> tuple[str, str]:
    """Return a folder with so many rows and a file of those held out, written unless there."""
    folder = folder / f"{n}x{N_FEATURES}"
    held_out = folder / "held_out.parquet"
    if not held_out.exists():  # it is written last
        (folder / "train").mkdir(parents=True, exist_ok=True)
        for i, rows in enumerate(np.array_split(np.arange(n), N_FILES)):
            write(folder / "train" / f"part-{i}.parquet", len(rows), seed=1 + i)
        write(held_out.with_suffix(".part"), ROWS_HELD_OUT, seed=0)
        held_out.with_suffix(".part").rename(held_out)
    return str(folder / "train"), str(held_out)


# Classifiers: each learns from a folder of files and returns its probabilities. One of ours that
# reads the rows several times belongs here too; what grows with n, d, K and parts, below.


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


FITS = {fit.__name__: fit for fit in (partial_fit, sgd, lightgbm, xgboost)}


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
    from mgce_sklearn import MGCEClassifier, RowBlocks

    warnings.simplefilter("ignore")
    if name == "partial_fit":
        model = MGCEClassifier().partial_fit(*draw(ROWS_OF_WARM_UP, 0), np.arange(N_CLASSES))
        model.predict_proba(draw(ROWS_OF_WARM_UP, 0)[0])
    (block,) = RowBlocks.from_parquet(task.held_out, "y")
    begin = time.perf_counter()
    proba = bayes if name == "Bayes" else FITS[name](task)
    seconds = time.perf_counter() - begin
    return Measured(seconds, *scores(np.asarray(proba(block.X)), block.y))


def anonymous_bytes(process: int) -> int:
    """Return what a process has of anonymous memory, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except ProcessLookupError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def fit_elsewhere(name: str, task: Task) -> tuple[Measured, int]:
    """Fit in a new process; return what it measures, and its peak of anonymous bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(N_THREADS)}
    command = [sys.executable, __file__, "--fit", name, *map(str, task)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise SystemExit(f"{name} failed.")
    return Measured(*json.loads(process.stdout.read())), peak


def main() -> None:
    """Print a line per classifier, or be the process of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where rows are kept, a temporary one if none")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, help="of boosting")
    parser.add_argument("--quick", action="store_true", help="1e5 rows, 10 rounds")
    parser.add_argument("--only", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        name, train, held_out, n_rounds = options.fit
        print(json.dumps(fit_here(name, Task(train, held_out, int(n_rounds)))))
        return
    n = ROWS_QUICK if options.quick else options.rows
    n_rounds = options.rounds or (ROUNDS_QUICK if options.quick else ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        begin = time.perf_counter()
        task = Task(*files_in(options.folder or Path(temporary), n), n_rounds)
        size = sum(path.stat().st_size for path in Path(task.train).iterdir())
        print(
            f"{n} rows, d = {N_FEATURES}, K = {N_CLASSES}: {size / 1e6:.0f} MB in {N_FILES} files, "
            f"ready in {time.perf_counter() - begin:.0f} s"
        )
        print(f"{'':12} {'seconds':>9} {'peak, MB':>9} {'accuracy':>9} {'Brier':>7}")
        for name in ("Bayes", *options.only):
            measured, peak = fit_elsewhere(name, task)
            print(
                f"{name:12} {measured.seconds:9.1f} {peak / 1e6:9.0f} {measured.accuracy:9.4f} "
                f"{measured.brier:7.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
