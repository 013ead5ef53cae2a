"""What solvers ask of arrays, whether numpy's or torch's: the functions that both have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

# An ndarray, or a tensor where the rows are tensors: no type of both is known to type checkers.
# Modules whose arrays are numpy's alone say so with an alias of their own.
Array = Any

# To factor a (C d, C d) matrix takes about 1 s at this size.
LARGEST_SYSTEM = 4000


def is_tensor(array: Any) -> bool:
    """Tell whether an array is a tensor, without an import of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def on_host(array: Any) -> Any:
    """Return a tensor as an ndarray, and everything else as it is."""
    if not is_tensor(array):
        return array
    # numpy has no bfloat16, and every number of it is one of float32.
    array = array.float() if array.dtype == namespace(array).bfloat16 else array
    return array.detach().cpu().numpy()


def namespace(array: Any) -> Any:
    """Return the module of an array's functions, of which those of both libraries are called."""
    return sys.modules["torch"] if is_tensor(array) else np


def positions_of(array: Any) -> Any:
    """Return 0 to len(array) - 1, where the array is."""
    arrays = namespace(array)
    return np.arange(len(array)) if arrays is np else arrays.arange(len(array), device=array.device)


def two_class_margins(difference: Any, axis: int) -> Any:
    """Return margins (0, d) of two classes, whose difference d is the second's less the first's.

    The classes are along a new ``axis`` of the result.
    """
    arrays = namespace(difference)
    return arrays.stack([arrays.zeros_like(difference), difference], axis)


def decision_values(margins: Any) -> Any:
    """Return margins (n, K), or (n,) of two classes: the second's less the first's."""
    return margins[:, 1] - margins[:, 0] if margins.shape[1] == 2 else margins


def inner(a: Any, b: Any) -> float:
    """Return the sum of products."""
    return float((a * b).sum())


def norm(a: Any) -> float:
    """Return the square root of the sum of squares."""
    return inner(a, a) ** 0.5


def set_diagonal(matrix: Any, value: Any) -> None:
    """Write the diagonal of a square matrix, contiguous in memory."""
    matrix.reshape(-1)[:: len(matrix) + 1] = value


def cholesky(matrix: Any) -> Callable[[Any], Any]:
    """Factor a symmetric matrix; return the function that solves for a right side (n,).

    Raises
    ------
    LinAlgError
        If the matrix is not positive definite.
    """
    if not is_tensor(matrix):
        factor = cho_factor(matrix, check_finite=False)
        return lambda right: cho_solve(factor, right, check_finite=False)
    torch = namespace(matrix)
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise LinAlgError("the matrix is not positive definite")
    return lambda right: torch.cholesky_solve(right[:, None], lower)[:, 0]
