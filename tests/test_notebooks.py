"""Notebooks: they run from top to bottom, and say what they said when they were stored."""

import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
from documents import assert_printed

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# What a notebook needs beside the core and matplotlib.
NEEDED = {
    "01_quickstart": ["pandas"],
    "04_networks": ["skorch", "torch"],
    "05_large_data": ["pandas", "pyarrow"],
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict]:
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict) -> str:
    return "".join("".join(output.get("text", [])) for output in cell["outputs"])


@pytest.fixture
def its_packages(path):
    """Skip a notebook whose packages are missing. One sets torch's threads, for this test alone."""
    found = {name: pytest.importorskip(name) for name in NEEDED.get(path.stem, ())}
    threads = found["torch"].get_num_threads() if "torch" in found else None
    yield
    if threads:
        found["torch"].set_num_threads(threads)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_notebooks_import_only_what_they_are_skipped_without():
    core = {"matplotlib", "mgce_sklearn", "numpy", "sklearn", *sys.stdlib_module_names}
    for path in NOTEBOOKS:
        source = "\n".join("".join(cell["source"]) for cell in code_cells(path))
        imported = set(re.findall(r"^ *(?:import|from) (\w+)", source, re.M))
        assert imported - core <= set(NEEDED.get(path.stem, ())), path.stem


@each_notebook
def test_stored_outputs_are_those_of_a_whole_run(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        kinds = {output.get("name", output["output_type"]) for output in cell["outputs"]}
        assert kinds <= {"stdout", "display_data"}


@each_notebook
def test_stored_numbers_are_those_of_a_fresh_run(path, its_packages):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    namespace: dict = {"__name__": "__main__"}
    for cell in code_cells(path):
        fresh = io.StringIO()
        with contextlib.redirect_stdout(fresh):
            exec(compile("".join(cell["source"]), path.name, "exec"), namespace)
        assert_printed(fresh.getvalue(), printed(cell))
        drawn = any("image/png" in output.get("data", {}) for output in cell["outputs"])
        assert drawn == bool(pyplot.get_fignums())
        pyplot.close("all")
