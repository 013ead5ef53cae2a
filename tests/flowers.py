"""A table with everything that needs care, but easy to learn from."""

from pathlib import Path
from typing import Any

import numpy as np

N_ROWS = 240


def flowers() -> Any:
    """Three classes told by two columns, among columns that need care."""
    import pandas as pd

    random = np.random.default_rng(0)
    codes = np.arange(N_ROWS) % 3
    frame = pd.DataFrame(
        {
            "row": np.arange(N_ROWS) + 7,
            "height": random.normal(size=N_ROWS) + 2.0 * codes,
            "color": np.array(["red", "green", "blue"])[codes],
            "site": "north",
            "note": [f"seen by {i}" for i in range(N_ROWS)],
            "wild": random.random(N_ROWS) < 0.5,
            "species": np.array(["daisy", "iris", "rose"])[codes],
        }
    )
    frame.loc[::6, "height"] = np.nan
    frame.loc[::8, "color"] = None
    frame.loc[5, "height"] = np.inf
    frame.loc[:3, "species"] = None
    frame.loc[4:6, "species"] = "thistle"
    return frame


def write_flowers(path: Path) -> Path:
    flowers().to_csv(path, index=False)
    return path
