"""Functions of arrays that solvers need, for ndarrays and for tensors of PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

# An ndarray, or a tensor if the rows are tensors. Type checkers know no common type of both.
# Modules that use only ndarrays define an alias of their own.
Array = Any

# Factoring a (C d, C d) matrix takes about 1 s at this number of coefficients C d.
LARGEST_SYSTEM = 4000


def is_tensor(array: Any) -> bool:
    """Tell whether an array is a tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def on_host(array: Any) -> Any:
    """Return a tensor as an ndarray, and everything else unchanged."""
    if not is_tensor(array):
        return array
    # numpy has no bfloat16. float32 represents its numbers exactly.
    array = array.float() if array.dtype == namespace(array).bfloat16 else array
    return array.detach().cpu().numpy()


def namespace(array: Any) -> Any:
    """Return numpy or torch. Only functions that both modules have are called."""
    return sys.modules["torch"] if is_tensor(array) else np


def positions_of(array: Any) -> Any:
    """Return 0 to len(array) - 1, on the device of the array."""
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
    """Return the inner product of two arrays."""
    return float((a * b).sum())


def norm(a: Any) -> float:
    """Return the Euclidean norm of an array."""
    return inner(a, a) ** 0.5


def set_diagonal(matrix: Any, value: Any) -> None:
    """Set the diagonal of a square matrix that is contiguous in memory."""
    matrix.reshape(-1)[:: len(matrix) + 1] = value


def cholesky(matrix: Any) -> Callable[[Any], Any]:
    """Factor a symmetric matrix. Return a function that solves for a right side (n,).

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
