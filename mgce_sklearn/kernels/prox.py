"""The proximal operator of the weighted L1 norm."""

from __future__ import annotations

import numpy as np

from mgce_sklearn.arrays import Array, is_tensor, namespace


def soft_threshold(x: Array, width: Array) -> Array:
    """Compute argmin_w (w - x)²/2 + width |w|, which is sign(x) (|x| - width)_+.

    Parameters
    ----------
    x : array-like or Tensor
    width : array-like or Tensor, non-negative
        Of a shape that broadcasts with x.

    Returns
    -------
    ndarray or Tensor
        Zero where |x| <= width; elsewhere x, moved toward zero by width.
    """
    x = x if is_tensor(x) else np.asarray(x)
    return namespace(x).sign(x) * (abs(x) - width).clip(min=0)
