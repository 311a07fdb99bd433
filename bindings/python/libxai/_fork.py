"""Processes made by fork: the threads of GNU OpenMP do not survive in them.

A child that inherits its parent's team waits for threads that are not there. So a process gives
its team back before it forks; parent and child each make a new one when they need it.
"""

from __future__ import annotations

import os
from typing import Any

from ._declarations import ffi

_PAUSE_HARD = 2  # omp_pause_hard of OpenMP 5.0


class Teams:
    """The team of the forking thread, and whether a child may have one of its own."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._returned = True
        self.usable = True
        os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def _before(self) -> None:
        try:
            self._returned = self._runtime.omp_pause_resource_all(_PAUSE_HARD) == 0
        except AttributeError:  # a runtime older than OpenMP 5.0
            self._returned = False

    def _in_child(self) -> None:
        self.usable = self.usable and self._returned


def _openmp() -> Any:
    """Return the GNU OpenMP that this process has loaded, or None."""
    try:
        return ffi.dlopen("libgomp.so.1", os.RTLD_NOLOAD | os.RTLD_LAZY)
    except (OSError, AttributeError):
        return None


_runtime = _openmp()
_teams = Teams(_runtime) if _runtime is not None and hasattr(os, "register_at_fork") else None


def threads_here(wanted: int) -> int:
    """Return the threads for a new session: one where a forked child must not have more."""
    return wanted if _teams is None or _teams.usable else 1
