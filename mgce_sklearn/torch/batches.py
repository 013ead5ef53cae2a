"""Batches of rows: slices of arrays and tensors, or PyTorch's `DataLoader` for other data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Tensor
from torch.utils.data import DataLoader, Subset

Array = np.ndarray[Any, Any]


def batches(dataset: Any, batch_size: int = 1, shuffle: bool = False, **options: Any) -> Any:
    """Return an iterable over batches (X, y).

    Batches are slices where these are the same as the batches of a `DataLoader`. A `DataLoader`
    fetches and collates rows one by one. For small networks this may take longer than the step that
    learns from them.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        It is sliced if it is skorch's `Dataset` of arrays and tensors, or a subset of one.
    batch_size : int, default=1
        Number of rows.
    shuffle : bool, default=False
        Whether to draw a new order for every pass, from PyTorch's default generator.
    **options
        Other options of `DataLoader`. If there are any, a `DataLoader` is returned.

    Returns
    -------
    TensorBatches or DataLoader

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.dataset import Dataset
    >>> from mgce_sklearn.torch.batches import batches
    >>> [list(y) for X, y in batches(Dataset(np.eye(3), np.arange(3)), batch_size=2)]
    [[np.int64(0), np.int64(1)], [np.int64(2)]]
    """
    whole = dataset
    while isinstance(whole, Subset):
        whole = whole.dataset
    # A subclass may transform its rows.
    if options or type(whole) is not Dataset or not (_sliced(whole.X) and _sliced(whole.y)):
        return DataLoader(dataset, batch_size, shuffle, **options)
    return TensorBatches(dataset, batch_size, shuffle)


class TensorBatches:
    """Batches (X, y) of a skorch `Dataset` of arrays and tensors, or of a subset of one."""

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        n_rows = len(self.dataset)
        order = (torch.randperm(n_rows) if self.shuffle else torch.arange(n_rows)).numpy()
        whole: Any = self.dataset
        while isinstance(whole, Subset):
            whole, order = whole.dataset, np.asarray(whole.indices)[order]
        for start in range(0, n_rows, self.batch_size):
            rows = order[start : start + self.batch_size]
            yield take(whole.X, rows), take(whole.y, rows)


def take(data: Any, rows: Array) -> Any:
    """Return rows by number, of an array, a tensor or a mapping of these. None stays None."""
    if isinstance(data, Mapping):
        return {name: take(part, rows) for name, part in data.items()}
    if isinstance(data, Tensor):
        return data[torch.from_numpy(rows).to(data.device)]
    return None if data is None else data[rows]


def _sliced(data: Any) -> bool:
    """Return whether `take` can take rows of the data."""
    if isinstance(data, Mapping):
        return all(map(_sliced, data.values()))
    return data is None or isinstance(data, np.ndarray | Tensor)
