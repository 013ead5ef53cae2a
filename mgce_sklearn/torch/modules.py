"""The network itself: made with the sizes that it takes, and checked before it learns."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from fnmatch import fnmatchcase
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

MODULE = (
    "a class, an instance or a function that makes a torch.nn.Module, from features (n, d) to "
    "margins (n, n_classes)"
)

# Where a size comes from, for the error if it is not known.
UNKNOWN_SIZE = {
    "n_features": "fit takes from X, if X is an array or a tensor. Set module__n_features",
    "n_classes": "fit takes from y. Set classes, or module__n_classes",
}


def made_module(module: Any, options: dict[str, Any], sizes: dict[str, int]) -> nn.Module:
    """Return a new module.

    Parameters
    ----------
    module : class, function or instance
        What makes the module, or the module to copy.
    options : dict
        Arguments that the user set. An instance is copied if there are none, and otherwise its
        class makes another.
    sizes : dict
        Those of ``n_features`` and ``n_classes`` that are known. They are passed if ``module``
        takes them and the user did not set them.

    Raises
    ------
    TypeError
        If ``module`` makes no module.
    ValueError
        If it needs a size that is not known.
    """
    if isinstance(module, nn.Module) and not options:
        return deepcopy(module)  # every fit starts from the user's
    make = type(module) if isinstance(module, nn.Module) else module
    if not callable(make) or (isinstance(make, type) and not issubclass(make, nn.Module)):
        raise TypeError(f"module must be {MODULE}; got {make!r}.")
    made = make(**_sizes_to_pass(make, options, sizes), **options)
    if not isinstance(made, nn.Module):
        raise TypeError(f"module must be {MODULE}; {make!r} returned {made!r}.")
    return made


def _sizes_to_pass(make: Any, options: dict[str, Any], sizes: dict[str, int]) -> dict[str, int]:
    """Return the sizes that are arguments of ``make`` and that the user did not set."""
    arguments = signature(make).parameters
    names = [name for name in UNKNOWN_SIZE if name in arguments and name not in options]
    for name in names:
        if name not in sizes and arguments[name].default is Parameter.empty:
            raise ValueError(f"module needs {name}, which {UNKNOWN_SIZE[name]}.")
    return {name: sizes[name] for name in names if name in sizes}


def check_device(device: Any) -> None:
    """Raise ValueError unless PyTorch can compute on the device."""
    try:
        torch.empty(0, device=device)
    except Exception as error:  # PyTorch has another type for every reason
        raise ValueError(
            f"device={device!r} is not available to PyTorch on this machine. Try device='cpu'."
        ) from error


def check_precision(module: nn.Module, device_type: str) -> None:
    """Raise ValueError for double precision on Apple's GPUs, which cannot compute in it."""
    parts = (*module.parameters(), *module.buffers())
    if device_type == "mps" and any(part.dtype == torch.float64 for part in parts):
        raise ValueError(
            "module must be of single precision, because device='mps' cannot compute in double; "
            "got torch.float64. Try module.float(), or device='cpu'."
        )


def check_output(margins: Any, n_classes: int) -> None:
    """Raise ValueError unless a module's output is margins (n, n_classes)."""
    if not isinstance(margins, Tensor) or margins.dim() != 2 or margins.shape[1] != n_classes:
        came = tuple(margins.shape) if isinstance(margins, Tensor) else type(margins).__name__
        raise ValueError(
            f"module must return margins of shape (n, {n_classes}), a column for each class; got "
            f"{came}. Give its last layer {n_classes} outputs."
        )


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the floating-point type of the module's parameters."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def cast(x: Any, dtype: torch.dtype) -> Any:
    """Return floating-point tensors as ``dtype``; tensors of integers stay as they are."""
    if isinstance(x, Mapping):
        return {name: cast(part, dtype) for name, part in x.items()}
    if isinstance(x, Tensor) and x.is_floating_point() and x.dtype != dtype:
        return x.to(dtype)
    return x


def penalized_parameters(module: nn.Module, patterns: Any) -> list[nn.Parameter]:
    """Return the trained parameters whose name matches a pattern, or one of several."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return [
        parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and any(fnmatchcase(name, each) for each in patterns)
    ]
