"""Compilation of the kernels, and the one message a user sees about it.

Kernels are compiled the first time they are called and kept in numba's cache on disk,
so only the first fit after an installation waits. A user who waits is told why, once.
Where nothing can be kept, in a container perhaps, kernels are compiled in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core import event, sigutils
from numba.core.caching import FunctionCache

logger = logging.getLogger("mgce_sklearn")

PACKAGE = __name__.partition(".")[0]


class KernelCache(FunctionCache):
    """numba's cache of a function on disk, which is never in the way of the function.

    numba itself fails where a file of the cache cannot be read, was cut short or cannot be
    written. Processes that compile at the same time may also take the same name for different
    signatures, and would fail from then on: one's index leads to the other's code.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is kept for a signature, or None."""
        try:
            kept = super().load_overload(sig, target_context)
        except Exception:  # whatever numba meets in a damaged file
            with suppress(OSError):
                self.flush()
            return None
        args, _ = sigutils.normalize_signature(sig)
        return kept if kept is not None and kept.signature.args == args else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature, if that can be done."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            notice.tell_that_nothing_is_kept(error)


def jit(function: Callable[..., Any]) -> Any:
    """Return a function as a kernel.

    No fastmath: infinities and NaN have a meaning in every kernel. The numpy error model
    divides by zero without a branch, and a branch would keep loops from being vectorized.
    """
    kernel: Any = numba.njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # numba's, if there is no folder that can be written
        kernel._cache = KernelCache(function)
    return kernel


class CompilationNotice(event.Listener):
    """Tell the user once that kernels of this package are being compiled.

    numba announces ``numba:compile`` for real compilations only, not when a kernel is read
    from the cache, and for everybody's functions: those of others are not ours to report.
    """

    def __init__(self) -> None:
        self.given = False
        self.corrected = False

    def on_start(self, event: event.Event) -> None:
        """Say why the user waits, if it is for us and was not said before."""
        kernel = event.data["dispatcher"]
        # What numba generates, a constructor of a jitclass for one, belongs to no module.
        module = kernel.py_func.__module__ or ""
        if self.given or not module.startswith(PACKAGE + "."):
            return
        self.given = True
        if kernel.stats.cache_path is None:
            self.corrected = True
            logger.warning(
                "Compiling numerical kernels. This takes some seconds in every process, as no "
                "folder for numba's cache can be written. Set the environment variable "
                "NUMBA_CACHE_DIR to one that can, and it happens once."
            )
        else:
            logger.warning(
                "Compiling numerical kernels. This takes some seconds and happens once: "
                "they are kept in numba's cache on disk."
            )

    def on_end(self, event: event.Event) -> None:
        """Add nothing: the message was given at the start."""

    def tell_that_nothing_is_kept(self, error: Exception) -> None:
        """Take back that it happens once."""
        if not self.corrected:
            self.corrected = True
            logger.warning(
                "The kernels could not be written to numba's cache (%s), and every process will "
                "compile them. Set the environment variable NUMBA_CACHE_DIR to a folder that can "
                "be written and has room.",
                error,
            )


notice = CompilationNotice()
event.register("numba:compile", notice)
