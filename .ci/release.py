"""Install the wheel in dist/ into an empty environment of each declared Python, and use it.

The Pythons are those of setup.cfg's classifiers: python3.10 and so on, found on the PATH or among
pyenv's versions.

    python .ci/release.py
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Run outside the repository, so that only the wheel can be imported.
USE = """
import pickle, sys
from importlib.metadata import version
from importlib.resources import files
import mgce_sklearn
from mgce_sklearn import MGCEClassifier, MGCEClassifierCV, MGCEStackingClassifier
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

assert "site-packages" in mgce_sklearn.__file__, mgce_sklearn.__file__
assert version("mgce_sklearn") == mgce_sklearn.__version__
assert files("mgce_sklearn").joinpath("py.typed").is_file()
X, y = load_breast_cancer(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)
model = MGCEClassifier().fit(X, y)
lower, upper = (lambda bounds: (bounds.lower, bounds.upper))(model.error_bounds(X))
assert 0 <= lower <= 1 - model.score(X, y) <= upper <= 1
assert (pickle.loads(pickle.dumps(model)).predict(X_test) == model.predict(X_test)).all()
search = MGCEClassifierCV(qs=[0.5], lams=[0.1, 0.3], cv=3).fit(X, y)
stacked = MGCEStackingClassifier(cv=3, random_state=0).fit(X, y)
assert min(each.score(X_test, y_test) for each in (model, search, stacked)) > 0.93
print(f"Python {sys.version.split()[0]}: {model.score(X_test, y_test):.3f} right, dual gap "
      f"{model.dual_gap_:.0e}")
"""


def declared_pythons() -> list[str]:
    """Return the versions of setup.cfg's classifiers, such as "3.10"."""
    text = (ROOT / "setup.cfg").read_text("utf-8")
    return re.findall(r"Programming Language :: Python :: (3\.\d+)", text)


def interpreter(version: str) -> str | None:
    """Return an interpreter of a version, or None."""
    found = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    for candidate in filter(None, [found, *map(str, pyenv)]):
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return None


def check(python: str, wheel: Path) -> None:
    """Install a wheel into an environment of its own, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", f"{folder}/env"], check=True)
        own = f"{folder}/env/bin/python"
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([own, "-m", "pip", "install", *quiet, str(wheel)], check=True)
        subprocess.run([own, "-m", "pip", "check", *quiet[1:]], check=True, stdout=sys.stderr)
        subprocess.run([own, "-c", USE], check=True, cwd=folder)


def main() -> None:
    """Check the only wheel with every Python."""
    wheels = list((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"dist/ must hold one wheel; it holds {len(wheels)}. Run make release-check.")
    versions = declared_pythons()
    found = {version: interpreter(version) for version in versions}
    missing = [version for version, python in found.items() if python is None]
    if missing:
        sys.exit(f"Python {', '.join(missing)} must be installed: setup.cfg declares it.")
    for version in versions:
        check(found[version], wheels[0])


if __name__ == "__main__":
    main()
