"""Compilation of the kernels, and the one message about it.

Kernels are compiled when they are first called, and stored in numba's cache on disk. So only the
first fit after an installation waits. A warning says why, once. If the cache cannot be written,
for example in a container, kernels are compiled in memory.
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
    """numba's cache of a function on disk, whose errors do not stop the function.

    numba itself raises an error if a file of the cache cannot be read, was truncated or cannot be
    written. And if processes compile at the same time, they may use the same file name for
    different signatures. The index of one then leads to the code of the other, which fails from
    then on.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored code of a signature, or None."""
        try:
            kept = super().load_overload(sig, target_context)
        except Exception:  # any error can result from a damaged file
            with suppress(OSError):
                self.flush()
            return None
        args, _ = sigutils.normalize_signature(sig)
        return kept if kept is not None and kept.signature.args == args else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the code of a signature, if possible."""
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
    """Warn once that kernels of this package are being compiled.

    numba sends the event ``numba:compile`` for real compilations only, not when a kernel is read
    from the cache. It sends the event for functions of all packages; those of others are ignored.
    """

    def __init__(self) -> None:
        self.given = False
        self.corrected = False

    def on_start(self, event: event.Event) -> None:
        """Warn, if the function is one of this package and no warning was given before."""
        kernel = event.data["dispatcher"]
        # Functions that numba generates, such as constructors of jitclasses, have no module.
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
        """Do nothing: the warning was given at the start."""

    def tell_that_nothing_is_kept(self, error: Exception) -> None:
        """Warn that kernels are not stored, so that every process compiles them."""
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
