"""Repair an import in the child of a fork that a background thread of the parent had in progress.

Such a child inherits a partial module, and the module's lock stays locked: the first ``import`` of it in the child
hangs, in the program's own code as well. The background threads import HTTP and tqdm once, for a few tenths of a
second. Forks must not wait for that: they would hold the locks of ``logging`` and others, which an import may need. So
the child forgets the partial modules and imports them again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class _ImportGuard:
    """``with importing:`` around an import in a background thread."""

    def __init__(self) -> None:
        self._threads: list[int] = []  # the ident of a thread once for each nested block
        self._last_exit_at = 0.0  # monotonic seconds

    def __enter__(self) -> None:
        self._threads.append(threading.get_ident())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._last_exit_at = time.monotonic()
        self._threads.remove(threading.get_ident())

    def was_active_since(self, instant: float) -> bool:
        """Return whether a thread was importing at some time since a monotonic instant above 0."""
        return bool(self._threads) or self._last_exit_at >= instant

    def repair_after_fork(self) -> None:
        """Forget the modules that a thread of the parent was importing. Runs in the child."""
        lost_threads, self._threads = set(self._threads) - {threading.get_ident()}, []
        if not lost_threads:
            return
        # A module's lock has no public interface. An interpreter that stores it elsewhere gets no repair.
        bootstrap = sys.modules.get("_frozen_importlib") or sys.modules.get("importlib._bootstrap")
        locks = getattr(bootstrap, "_module_locks", None)
        if not isinstance(locks, dict):
            return
        for name, module in list(sys.modules.items()):
            if getattr(getattr(module, "__spec__", None), "_initializing", False):
                lock = locks[name]() if name in locks else None
                if lock is not None and getattr(lock, "owner", None) in lost_threads:
                    del sys.modules[name]
        for name, reference in list(locks.items()):
            lock = reference()
            if lock is not None and getattr(lock, "owner", None) in lost_threads:
                locks.pop(name, None)


importing = _ImportGuard()

_resets: list[Callable[[], object]] = []


def call_after_fork(reset: Callable[[], object]) -> None:
    """Register a function for every child of a fork that tracks. It runs before the senders are reset."""
    _resets.append(reset)


def reset_after_fork() -> None:
    """Call the registered functions in the child of a fork, and repair its imports."""
    for reset in _resets:
        reset()
    importing.repair_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=importing.repair_after_fork)
