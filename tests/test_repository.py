"""Promises of the repository: import directions, a lean import, and documents that are true."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import mgce_sklearn

ROOT = Path(__file__).parent.parent
OPTIONAL = (
    "cleanlab",
    "cvxpy",
    "dask",
    "distributed",
    "jinja2",
    "lightgbm",
    "matplotlib",
    "pandas",
    "pyarrow",
    "skops",
    "skorch",
    "torch",
)


def test_arrows_point_down_only(capsys):
    cli = pytest.importorskip("importlinter.cli")
    failed = cli.lint_imports(config_filename=str(ROOT / "setup.cfg"), no_cache=True)
    assert not failed, capsys.readouterr().out


WITHOUT_OPTIONAL = f"""
import sys

class Absent:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from mgce_sklearn import MGCEClassifier
MGCEClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
"""

# scikit-learn itself imports pandas where it is installed.
ADDED_TO_SKLEARN = f"""
import sys, sklearn.base
before = set(sys.modules)
import mgce_sklearn
print(*(sys.modules.keys() - before) & set({OPTIONAL}))
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_core_works_without_optional_packages():
    run(WITHOUT_OPTIONAL)


def test_import_loads_nothing_optional():
    assert run(ADDED_TO_SKLEARN).split() == []


def test_extras_have_code_behind_them():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    code = "\n".join(path.read_text("utf-8") for path in ROOT.glob("mgce_sklearn/**/*.py"))
    extras = {
        extra: set(re.findall(r"^\w+", lines, re.M)) - {"mgce_sklearn"}  # one extra in another
        for extra, lines in setup["options.extras_require"].items()
        if not extra.startswith(("docs", "release", "test"))
    }
    assert extras["torch"] == {"skorch", "torch"}
    packages = {package for extra in extras.values() for package in extra}
    assert packages == set(OPTIONAL)
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", code, re.M))
    assert packages <= imported
    # Nobody would look for a part of one extra in another.
    assert [a for a in extras for b in extras if a != b and extras[a] <= extras[b]] == []


def test_other_files_repeat_version_and_requirements():
    """No tool reads setup.cfg for a citation or a conda package."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    required = setup["options"]["install_requires"].split()
    recipe = (ROOT / ".ci/conda/meta.yaml").read_text("utf-8")
    runs = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    assert re.findall(r"- (\w[\w-]*) >=(.*)", runs)[1:] == [
        tuple(requirement.split(">=")) for requirement in required
    ]
    assert f"- python {setup['options']['python_requires']}" in runs
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {mgce_sklearn.__version__}\n" in citation
    minors = re.findall(r"Python :: 3\.(\d+)", setup["metadata"]["classifiers"])
    assert f">=3.{min(map(int, minors))}" == setup["options"]["python_requires"]


def python_blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text("utf-8"), re.M | re.S)


def test_examples_of_the_readme_run(tmp_path, monkeypatch):
    for extra in ("torch", "skorch", "pandas", "pyarrow"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)  # some write files
    blocks = python_blocks("README.md")
    assert blocks
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    fitted = namespace["model"]
    assert 0.0 < fitted.minimax_risk_ - fitted.dual_gap_ <= fitted.minimax_risk_ < 1.0


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_files_named_in_documents_exist(name):
    text = (ROOT / name).read_text("utf-8")
    named = re.findall(r"`((?:mgce_sklearn|tests|benchmarks|notebooks)/[\w/.]*)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_reading_order_names_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    modules = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("mgce_sklearn/**/*.py")]
    assert [module for module in modules if f"`{module}`" not in text] == []


def text_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_path_of_a_particular_machine():
    machine = re.compile(rb"(?<![\w.>])/(?:home|root|work|Users|mnt|tmp)/\w")
    found = [path for path in text_files() if machine.search(path.read_bytes())]
    assert found == []
