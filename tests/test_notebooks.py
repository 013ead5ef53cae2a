"""Notebooks: they run from top to bottom, and say what they said when they were stored."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from documents import assert_printed

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict]:
    notebook = json.loads(path.read_text("utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict) -> str:
    return "".join("".join(output.get("text", [])) for output in cell["outputs"])


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_stored_outputs_are_those_of_a_whole_run(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        kinds = {output.get("name", output["output_type"]) for output in cell["outputs"]}
        assert kinds <= {"stdout", "display_data"}


@each_notebook
def test_stored_numbers_are_those_of_a_fresh_run(path):
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
