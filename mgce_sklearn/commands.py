"""What the commands of the command line have in common: mistakes, warnings, and paths to write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning


class UserMistake(Exception):
    """Something only the user can put right; the message is one sentence that says how."""


def check_writable(what: str, path: Path) -> None:
    """Raise `UserMistake` before the work starts if a file could not be written."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserMistake(
            f"cannot write {what} to '{path}': name a file in a folder that exists and that "
            "you may write to"
        )


def check_installed(purpose: str, extra: str, *packages: str) -> None:
    """Raise `UserMistake` if a package of an extra cannot be found."""
    for package in packages:
        if find_spec(package) is None:
            raise UserMistake(f"{purpose} needs {package}: pip install 'mgce_sklearn[{extra}]'")


def listed(names: list[str]) -> str:
    """Join names with commas, twenty at most."""
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


@contextmanager
def gathered_warnings() -> Iterator[list[str]]:
    """Yield a list that has, at the end, one sentence for each kind of warning."""
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield sentences
    for category in dict.fromkeys(warning.category for warning in caught):
        messages = [str(warning.message) for warning in caught if warning.category is category]
        more = f" (and {len(messages) - 1} more such)" if len(messages) > 1 else ""
        sentences.append(f"{messages[0]}{more}")
