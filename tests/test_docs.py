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
    "mgce_sklearn.boosting",
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
    for extra in ("dask", "lightgbm", "matplotlib", "pandas", "pyarrow", "skorch"):
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


def public_names() -> list[tuple[str, str]]:
    modules = [importlib.import_module(module) for module in PUBLIC]
    return [
        (module.__name__, name)
        for module in modules
        for name in getattr(module, "__all__", None) or defined_in(module)
        if not name.startswith("_")
    ]


def defined_in(module) -> list[str]:
    return [
        name
        for name, found in vars(module).items()
        if getattr(found, "__module__", None) == module.__name__
    ]
