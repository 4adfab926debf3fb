"""Numba's compiler, with a cache that needs neither a writable home folder nor a writable package."""

from collections.abc import Callable
from typing import Any

import numba

from data_prep.storage.paths import private_folder


def njit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator that compiles a function at its first call, without the GIL, and caches the machine code.

    Numba stores the code beside the source or in the user's cache folder, or in $NUMBA_CACHE_DIR if that is set. Where
    none of them can be written, as in many containers, it is stored in this user's temporary folder.

    Args:
      options: further options of `numba.njit`.
    """

    def compile_cached(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        numba.config.CACHE_DIR = str(private_folder() / "numba")
        return numba.njit(cache=True, nogil=True, **options)(function)

    return compile_cached
