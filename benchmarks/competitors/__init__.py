"""Who competes: a file each, and the same protocol for all (`competitors.base`)."""

from __future__ import annotations

from competitors import (
    conic,
    liblinear,
    mrcpy,
    newton_cholesky,
    ours,
    saga,
    skglm_ovr,
)
from competitors.base import Competitor, Look, Terms, Unable


def gather(mrcpy_python: str | None) -> dict[str, Competitor]:
    """Return all competitors by name, in the order of the table.

    saga is first: its seconds are the unit of the others.

    Parameters
    ----------
    mrcpy_python : str or None
        The interpreter of an environment that has MRCpy.
    """
    every = [
        saga.COMPETITOR,
        *ours.competitors(),
        liblinear.COMPETITOR,
        skglm_ovr.COMPETITOR,
        newton_cholesky.COMPETITOR,
        *conic.COMPETITORS,
        *mrcpy.competitors(mrcpy_python),
    ]
    return {competitor.name: competitor for competitor in every}


__all__ = ["Competitor", "Look", "Terms", "Unable", "gather"]
