"""Save a figure of this folder as a file: python docs/figures/save.py getting_started FILE.png."""

import runpy
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt

if __name__ == "__main__":
    name, target = sys.argv[1:]
    runpy.run_path(str(Path(__file__).parent / f"{name}.py"))
    plt.savefig(target, dpi=110)
