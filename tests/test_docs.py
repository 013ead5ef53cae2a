"""The pages of docs/ are true: their blocks run, and print what stands below them."""

import contextlib
import importlib
import inspect
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from documents import assert_printed

DOCS = Path(__file__).parent.parent / "docs"
PUBLIC = (
    "mgce_sklearn",
    "mgce_sklearn.calibration",
    "mgce_sklearn.dask",
    "mgce_sklearn.label_noise",
    "mgce_sklearn.metrics",
    "mgce_sklearn.plot",
    "mgce_sklearn.solvers",
    "mgce_sklearn.torch",
)

# Code of other libraries stands in {code-block}, which is shown and not run.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$"
    r"(?:\s*^```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    code: str
    printed: str | None


def blocks_of(page: Path) -> list[Block]:
    return [Block(match["code"], match["printed"]) for match in BLOCK.finditer(page.read_text())]


PAGES = [page for page in sorted(DOCS.glob("*.md")) if blocks_of(page)]


def run(page: Path, scope: dict) -> None:
    for block in blocks_of(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, page.name, "exec"), scope)
        if block.printed is not None:
            assert_printed(printed.getvalue(), block.printed)


def close_cluster(scope: dict) -> None:
    for name in ("client", "cluster"):
        if name in scope:
            scope[name].close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_pages_run(page, tmp_path, monkeypatch):
    for extra in ("cleanlab", "dask", "lightgbm", "matplotlib", "pandas", "pyarrow", "skorch"):
        pytest.importorskip(extra)
    pyplot = importlib.import_module("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)  # some write files
    scope: dict = {"__name__": "__main__"}
    try:
        run(page, scope)
    finally:
        pyplot.close("all")
        close_cluster(scope)


def test_every_block_of_code_is_run_or_marked():
    """A fence that names Python otherwise would be passed over."""
    for page in DOCS.glob("*.md"):
        fences = re.findall(r"^ *`{3,}(?:python|py|pycon)\b.*$", page.read_text(), re.M)
        assert len(fences) == len(blocks_of(page)), page.name


def members(module_name: str) -> list[str]:
    """Return the public names of a module: what it lists, or the functions and classes it has."""
    module = importlib.import_module(module_name)
    own = [name for name, found in vars(module).items() if is_code_of(module_name, found)]
    listed = getattr(module, "__all__", own)
    return [name for name in listed if not name.startswith("_") and callable_in(module, name)]


def is_code_of(module_name: str, found) -> bool:
    return getattr(found, "__module__", None) == module_name


def callable_in(module, name: str) -> bool:
    return inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))


@pytest.mark.parametrize("module_name", PUBLIC)
def test_public_names_have_an_example_and_a_page(module_name):
    pytest.importorskip("dask")
    pytest.importorskip("matplotlib")
    pytest.importorskip("skorch")
    reference = (DOCS / "api" / "index.rst").read_text("utf-8")
    module = importlib.import_module(module_name)
    names = members(module_name)
    assert names
    assert [name for name in names if ">>>" not in (getattr(module, name).__doc__ or "")] == []
    prefix = module_name.removeprefix("mgce_sklearn").removeprefix(".")
    entries = [f"   {prefix}.{name}\n" if prefix else f"   {name}\n" for name in names]
    assert [entry.strip() for entry in entries if entry not in reference] == []
