"""Compilation of the kernels, and the one message a user sees about it.

Kernels are compiled the first time they are called and kept in numba's cache on disk,
so only the first fit after an installation waits. A user who waits is told why, once.
"""

from __future__ import annotations

import logging

import numba
from numba.core import event

logger = logging.getLogger("mgce_sklearn")

PACKAGE = __name__.partition(".")[0]

# No fastmath: infinities and NaN have a meaning in every kernel. The numpy error model
# divides by zero without a branch, and a branch would keep loops from being vectorised.
jit = numba.njit(cache=True, nogil=True, error_model="numpy")


class CompilationNotice(event.Listener):
    """Tell the user once that kernels of this package are being compiled.

    numba announces ``numba:compile`` for real compilations only, not when a kernel is read
    from the cache, and for everybody's functions: those of others are not ours to report.
    """

    def __init__(self) -> None:
        self.given = False

    def on_start(self, event: event.Event) -> None:
        """Say why the user waits, if it is for us and was not said before."""
        # What numba generates, a constructor of a jitclass for one, belongs to no module.
        module = event.data["dispatcher"].py_func.__module__ or ""
        if not self.given and module.startswith(PACKAGE + "."):
            self.given = True
            logger.warning(
                "Compiling numerical kernels. This takes some seconds and happens once: "
                "they are kept in numba's cache on disk."
            )

    def on_end(self, event: event.Event) -> None:
        """Add nothing: the message was given at the start."""


notice = CompilationNotice()
event.register("numba:compile", notice)
