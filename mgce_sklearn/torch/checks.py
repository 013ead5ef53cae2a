"""Checks of the tensors that losses take: class weights, noise matrices, targets, row weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgce_sklearn.arrays import on_host
from mgce_sklearn.tensors.link import values_of
from mgce_sklearn.validation import check_invertible, check_noise_matrix


def class_weight_tensor(weight: Any) -> Tensor:
    """Return class weights as a tensor (K,).

    Raises
    ------
    ValueError
        If they are not a vector of non-negative, finite numbers.
    """
    try:
        factors = torch.as_tensor(weight)
        values = torch.func.debug_unwrap(factors)
        valid = factors.dim() == 1 and bool((values >= 0.0).all() & values.isfinite().all())
    except (TypeError, ValueError, RuntimeError):  # not an array of numbers
        valid = False
    if not valid:
        raise ValueError(
            f"weight must have a non-negative, finite number for each class; got {weight!r}."
        )
    return factors


def noise_correction(noise_matrix: Any) -> Tensor:
    """Return the inverse of a noise matrix (K, K), in the precision of a tensor.

    Raises
    ------
    TypeError, ValueError
        If it is no noise matrix, or has no inverse.
    """
    shape = tuple(np.shape(noise_matrix))
    if len(shape) != 2:
        raise ValueError(
            f"noise_matrix must be of shape (n_classes, n_classes); got shape {shape}. For a rate "
            "use label_noise.symmetric_transition(n_classes, rate)."
        )
    matrix = check_noise_matrix(on_host(noise_matrix), shape[0])
    inverse = torch.as_tensor(check_invertible(matrix))
    if not isinstance(noise_matrix, Tensor):
        return inverse
    return inverse.to(noise_matrix.device, torch.promote_types(noise_matrix.dtype, torch.float32))


def check_same_device(name: str, other: Tensor | None, margins: Tensor) -> None:
    """Raise TypeError or ValueError unless ``other`` is None, or a tensor beside the margins."""
    if other is None:
        return
    if not isinstance(other, Tensor):
        raise TypeError(
            f"{name} must be a tensor; got {type(other).__name__}. Try torch.as_tensor({name})."
        )
    if other.device != margins.device:
        raise ValueError(
            f"{name} must be on the device of the margins, {margins.device}; got "
            f"{other.device}. Try .to(margins.device)."
        )


def check_label_values(labels: Tensor, n_classes: int, ignore_index: int) -> None:
    """Raise ValueError unless all labels are classes, or the ignored label."""
    valid = ((labels >= 0) & (labels < n_classes)) | (labels == ignore_index)
    if not bool(valid.all()):
        raise ValueError(
            f"target must be labels 0 to {n_classes - 1}, or ignore_index={ignore_index}; got "
            f"{labels[~valid][0].item()}. Try sklearn.preprocessing.LabelEncoder."
        )


def check_target(target: Any, margins: Tensor) -> bool:
    """Return whether a target has labels, not distributions.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor, or has another shape or device than the margins require.
    """
    if not isinstance(target, Tensor) or target.is_complex():
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(
            "target must be a tensor, of integers for labels, or of floating-point numbers for "
            f"distributions; got {kind}. Try torch.as_tensor(target)."
        )
    check_same_device("target", target, margins)
    labeled = not target.is_floating_point()
    expected = margins.shape[:-1] if labeled else margins.shape
    if target.shape != expected:
        what = "labels (integers)" if labeled else "distributions (floating point)"
        raise ValueError(
            f"target must have shape {tuple(expected)} if it has {what}, for margins of shape "
            f"{tuple(margins.shape)}; got {tuple(target.shape)}. The classes are the last "
            "dimension of the margins."
        )
    if not (labeled or _all_non_negative(target)):
        raise ValueError(
            "target must have non-negative numbers if it has distributions; got a negative number "
            "or NaN."
        )
    return labeled


def check_row_weight(sample_weight: Tensor, loss: Tensor) -> None:
    """Raise ValueError unless there is a non-negative weight for each row."""
    if sample_weight.shape != loss.shape:
        raise ValueError(
            f"sample_weight must have shape {tuple(loss.shape)}, a number for each row; got "
            f"{tuple(sample_weight.shape)}."
        )
    if not _all_non_negative(sample_weight):
        raise ValueError("sample_weight must be non-negative; got a negative number or NaN.")


def _all_non_negative(numbers: Tensor) -> bool:
    """Return False if a number is negative or NaN. It is True if values cannot be read now."""
    values = values_of(numbers)
    return values is None or bool((values >= 0.0).all())
