"""Kernels and numba's cache: none, a damaged one, and several processes that fill one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import mgce_sklearn

PACKAGE = Path(mgce_sklearn.__file__).parent

FIRST_KERNEL = """
import logging
logging.basicConfig(format="%(name)s: %(message)s")
import numpy as np
from mgce_sklearn import kernels
kernels.entropy(np.full((2, 3), 1 / 3), 0.5)
"""

SEARCH = """
import json
import numpy as np
from mgce_sklearn import MGCEClassifierCV
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
for n_jobs in (2, 1):
    fitted = MGCEClassifierCV(qs=(0.5,), lams=(0.3,), cv=2, solver="lbfgs", n_jobs=n_jobs)
    fitted.fit(X, y)
    print(json.dumps([fitted.coef_.tolist(), fitted.cv_results_["mean_test_score"].tolist()]))
"""


def run(code, folder, **environment):
    """Run code in a process of its own, and return what it printed and what we logged."""
    unset = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    inherited = {key: value for key, value in os.environ.items() if key not in unset}
    # A program given as text looks for modules where it runs before it looks anywhere else.
    path = os.pathsep.join([str(folder), str(PACKAGE.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "mgce_sklearn: " in line]


def without_cache(folder):
    """Return an environment in which no folder of a cache can be made, not even by root.

    Where ``__pycache__`` would be are files, as is what is named as the cache, and the home.
    """
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for inner in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
        (inner / "__pycache__").touch()
    file = str(copy / "__init__.py")
    return {"NUMBA_CACHE_DIR": file, "HOME": file}


def test_without_a_cache_kernels_are_compiled_in_memory_and_the_message_says_what_to_do(tmp_path):
    environment = without_cache(tmp_path)
    for _ in range(2):
        _, (message,) = run(FIRST_KERNEL, tmp_path, **environment)
        assert "in every process" in message
        assert "NUMBA_CACHE_DIR" in message


def test_a_cache_that_takes_no_files_is_done_without_and_the_message_taken_back(tmp_path):
    """As on a full disk: the folder can be made, and what is written does not fit."""
    # After the imports, of which SciPy 1.12 makes a file.
    full = "import mgce_sklearn, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    _, (first, second) = run(full + FIRST_KERNEL, tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert "happens once" in first
    assert "NUMBA_CACHE_DIR" in second


def test_processes_that_compile_at_the_same_time_give_the_same_search(tmp_path):
    printed, _ = run(SEARCH, tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    at_once, alone = printed.splitlines()
    assert at_once == alone
    assert list(tmp_path.glob("kernels_*/*.nbc"))


KERNEL = """
from mgce_sklearn.kernels.compilation import jit

@jit
def first(x):
    return x[0]
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A function that loads a kernel, as a new process would, with its cache in a folder."""
    path = tmp_path / "one_kernel.py"
    path.write_text(KERNEL)

    def load(folder):
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / folder))
        spec = importlib.util.spec_from_file_location("one_kernel", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.first

    return load


def was_kept(kernel):
    return sum(kernel.stats.cache_hits.values()) == 1


ROW = np.array([2.5, 1.0])


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"not a pickle"])
def test_a_damaged_file_of_the_cache_is_replaced(load, tmp_path, ending, content):
    load("cache")(ROW)
    (damaged,) = tmp_path.glob(f"cache/*/*{ending}")
    damaged.write_bytes(content)
    kernel = load("cache")
    assert kernel(ROW) == 2.5
    assert not was_kept(kernel)
    kernel = load("cache")
    assert kernel(ROW) == 2.5
    assert was_kept(kernel)


def test_code_that_another_process_kept_for_another_signature_is_not_taken(load, tmp_path):
    """Both call their file the first, and the index of the last to write stays."""
    load("theirs")(ROW.astype(np.float32))
    load("cache")(ROW)
    (theirs,) = tmp_path.glob("theirs/*/*.nbc")
    (ours,) = tmp_path.glob("cache/*/*.nbc")
    shutil.copy(theirs, ours)
    kernel = load("cache")
    assert kernel(ROW) == 2.5
    assert not was_kept(kernel)
    kernel = load("cache")
    assert kernel(ROW) == 2.5
    assert was_kept(kernel)
