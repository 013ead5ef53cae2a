"""Constraints on parameters. A value that breaks one raises an error of one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Constraint:
    """What a parameter must be.

    Attributes
    ----------
    types : tuple of type
        A value of another type raises a TypeError. True and False count as integers only if
        ``bool`` is listed.
    valid : callable
        Tells whether a value of these types is allowed. If not, it raises a ValueError.
    expected : str
        Completes the sentence "name must be ...".
    """

    types: tuple[type, ...]
    valid: Callable[[Any], bool]
    expected: str

    def check(self, name: str, value: Any) -> None:
        """Raise TypeError or ValueError if ``value`` breaks the constraint."""
        wrong_bool = isinstance(value, bool) and bool not in self.types
        if wrong_bool or not isinstance(value, self.types):
            raise TypeError(
                f"{name} must be {self.expected}; got {value!r} of type {type(value).__name__}."
            )
        if not self.valid(value):
            raise ValueError(f"{name} must be {self.expected}; got {value!r}.")


def _finite_positive(value: Any) -> bool:
    return math.isfinite(value) and value > 0


LOSS_PARAMETER = Constraint(
    (Real,), lambda q: 0 <= q <= 1, "a number in [0, 1] (0 is cross-entropy, 1 the 0-1 loss)"
)
# Far smaller half-widths are smaller than the rounding error of the means. With far larger ones all
# coefficients are 0.
HALF_WIDTH = Constraint(
    (Real,),
    lambda lam: 1e-6 <= lam <= 1e6,
    "a positive number of standard errors, from 1e-6 to 1e6 (try 0.1; a small one such as 1e-3 in "
    "place of 0)",
)
HALF_WIDTH_OR_FEASIBLE = Constraint(
    (Real, str),
    lambda lam: lam == "feasible" if isinstance(lam, str) else HALF_WIDTH.valid(lam),
    f"{HALF_WIDTH.expected}, or 'feasible'",
)
TOLERANCE = Constraint((Real,), _finite_positive, "a positive, finite number (try 1e-4)")
ITERATIONS = Constraint(
    (Integral, type(None)),
    lambda value: value is None or value >= 1,
    "a positive integer, or None for the solver's own limit",
)
TIME_LIMIT = Constraint(
    (Real, type(None)),
    lambda value: value is None or _finite_positive(value),
    "a positive, finite number of seconds, or None for no limit",
)
COUNT = Constraint((Integral,), lambda value: value >= 1, "a positive integer")
VERBOSITY = Constraint((Integral, bool), lambda value: value >= 0, "a non-negative integer")
PROBABILITY = Constraint((Real,), lambda value: 0 < value < 1, "a number in (0, 1) (try 0.05)")
RATE = Constraint((Real,), lambda value: 0 <= value <= 1, "a number in [0, 1]")
PAIR = Constraint(
    (tuple, list, np.ndarray, type(None)),
    lambda value: value is None or (np.iterable(value) and len(list(value)) == 2),
    "a pair (low, high) of numbers or arrays of shape (n_features,), or None",
)
LABEL_SMOOTHING = Constraint((Real,), lambda value: 0 <= value <= 1, "a number in [0, 1]")
FOCUSING = Constraint((Real,), lambda value: 0 <= value < np.inf, "a non-negative, finite number")
IGNORED = Constraint(
    (Integral,), lambda value: True, "an integer, a label (try -100 to ignore none)"
)
NOISE_MATRIX = Constraint(
    (Real, Iterable, type(None)),
    lambda value: 0 <= float(value) < 1 if isinstance(value, Real) else not isinstance(value, str),
    "a rate in [0, 1) of symmetric noise, a matrix of shape (n_classes, n_classes), or None",
)
SWITCH = Constraint((bool, np.bool_), lambda value: True, "True or False")
CENTER = Constraint(
    (bool, np.bool_, str),
    lambda value: not isinstance(value, str) or value == "auto",
    "'auto', True or False",
)


def one_of(names: Sequence[str]) -> Constraint:
    """Return the constraint that a value is one of these names."""
    return Constraint((str,), lambda value: value in names, "one of " + ", ".join(map(repr, names)))


REDUCTION = one_of(("mean", "sum", "none"))


def one_of_or_array(names: Sequence[str], what: str) -> Constraint:
    """Return the constraint that a value is one of these names, or an array of ``what``."""
    return Constraint(
        (str, Iterable),
        lambda value: not isinstance(value, str) or value in names,
        f"{one_of(names).expected}, or an array of {what}",
    )


def check_all(values: Mapping[str, Any], constraints: Mapping[str, Constraint]) -> None:
    """Check every value that has a constraint.

    Raises
    ------
    TypeError, ValueError
        For the first value that breaks its constraint.
    """
    for name, constraint in constraints.items():
        constraint.check(name, values[name])


def check_sequence(name: str, values: Any, constraint: Constraint) -> Array:
    """Return a sequence of numbers, each checked, as a float64 array (n,) with n > 0.

    Raises
    ------
    TypeError, ValueError
        For the first number that breaks the constraint, with its position.
    """
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(f"{name} must be a sequence of numbers; got {values!r}.")
    values = list(values)
    if not values:
        raise ValueError(f"{name} must have at least one number; got none.")
    for position, value in enumerate(values):
        constraint.check(f"{name}[{position}]", value)
    return np.array(values, dtype=np.float64)
