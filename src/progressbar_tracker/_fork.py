"""What a fork cuts in half, and how the child mends it: an import that a thread of ours was in the middle of.

A child that is forked while another thread imports a module inherits that module half made, and its lock taken for
ever: the first ``import`` of it in the child hangs, in the program's own code as well. Our threads import HTTP and
tqdm, a few tenths of a second, once. To let forks wait for that would be worse: they would wait with the locks of
``logging`` and others in hand, which an import may want. So the child forgets what was half made, and imports anew.
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
    """``with importing:`` around an import in a thread of ours."""

    def __init__(self) -> None:
        self._threads: list[int] = []  # one entry for each that is in it, as often as it is
        self._last_exit_at = 0.0  # monotonic seconds

    def __enter__(self) -> None:
        self._threads.append(threading.get_ident())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._last_exit_at = time.monotonic()
        self._threads.remove(threading.get_ident())

    def was_active_since(self, instant: float) -> bool:
        """Say whether a thread was importing at some time since a monotonic instant, that is after 0."""
        return bool(self._threads) or self._last_exit_at >= instant

    def repair_after_fork(self) -> None:
        """Forget, in the child, the modules that only threads of the parent's could have completed."""
        lost, self._threads = set(self._threads) - {threading.get_ident()}, []
        if not lost:
            return
        # There is no public way to a module's lock. Where this is not how it is kept, nothing is mended.
        bootstrap = sys.modules.get("_frozen_importlib") or sys.modules.get("importlib._bootstrap")
        locks = getattr(bootstrap, "_module_locks", None)
        if not isinstance(locks, dict):
            return
        for name, module in list(sys.modules.items()):
            if getattr(getattr(module, "__spec__", None), "_initializing", False):
                lock = locks[name]() if name in locks else None
                if lock is not None and getattr(lock, "owner", None) in lost:
                    del sys.modules[name]
        for name, reference in list(locks.items()):
            lock = reference()
            if lock is not None and getattr(lock, "owner", None) in lost:
                locks.pop(name, None)


importing = _ImportGuard()

_resets: list[Callable[[], object]] = []


def call_after_fork(reset: Callable[[], object]) -> None:
    """Have a function called in every child of a fork that tracks, before anything else of ours is reset there."""
    _resets.append(reset)


def reset_after_fork() -> None:
    """Repair imports in a child of a fork, and call what was registered."""
    for reset in _resets:
        reset()
    importing.repair_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=importing.repair_after_fork)
