"""The proximal operator of the weighted L1 norm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def soft_threshold(x: ArrayLike, width: ArrayLike) -> NDArray[Any]:
    """Compute argmin_w (w - x)²/2 + width |w|, which is sign(x) (|x| - width)_+.

    Parameters
    ----------
    x : array-like
    width : array-like, non-negative
        Of a shape that broadcasts with x.

    Returns
    -------
    ndarray
        Zero where |x| <= width; elsewhere x, moved towards zero by width.
    """
    return np.sign(x) * np.maximum(np.abs(x) - width, 0)
