"""Hide the background threads from a fork: repair the child's imports, and ignore the interpreter's warning.

A background thread of the parent may have an import in progress. The child inherits a partial module then, and the
module's lock stays locked: the first ``import`` of it in the child hangs, in the program's own code as well. The
background threads import HTTP and tqdm once, for a few tenths of a second. Forks must not wait for that: they would
hold the locks of ``logging`` and others, which an import may need. So the child forgets the partial modules and imports
them again.

Python 3.12 and later warn of a fork while threads run. Python 3.15 raises the warning if warnings are errors, although
the child runs. The background threads of this package are safe in a fork, so the program must not notice them.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence
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
        lost_threads: set[int | None] = {*self._threads, *_find_lazy_threads()} - {threading.get_ident()}
        self._threads = []
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


_background_threads: list[threading.Thread] = []

_WARNING_FILTER: Final = (
    "ignore", re.compile(r"This process \(pid=\d+\) is multi-threaded, use of fork"), DeprecationWarning, None, 0
)  # fmt: skip


def add_background_thread(thread: threading.Thread) -> None:
    """Let no fork warn of a thread. It must hold no lock that a child needs."""
    import warnings  # noqa: F401 - loaded here, because no fork should import it

    _background_threads.append(thread)
    for other in list(_background_threads):
        if not other.is_alive():
            with contextlib.suppress(ValueError):  # another thread has removed it
                _background_threads.remove(other)


def _find_lazy_threads() -> list[int | None]:
    """Return the idents of the background threads if they import anywhere: when a lazy import is used (Python 3.15)."""
    get_mode = getattr(sys, "get_lazy_imports", None)
    return [thread.ident for thread in _background_threads] if get_mode and get_mode() == "all" else []


def _filter_fork_warning() -> None:
    """Ignore the warning of this fork if the background threads are its only reason. Runs before each fork."""
    if not _background_threads:
        return
    _remove_warning_filter()
    background_threads = sum(thread.is_alive() for thread in list(_background_threads))
    if background_threads and _count_threads() == background_threads + 1:
        # filterwarnings() would also let each warning of the program be shown once more.
        _get_warning_filters().insert(0, _WARNING_FILTER)


def _count_threads() -> int:
    """Count the threads of the process as Python does for its warning: all those that the system knows."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib is not loaded
    except OSError:
        return threading.active_count()


def _get_warning_filters() -> MutableSequence[object]:
    import warnings

    return cast("MutableSequence[object]", warnings.filters)  # a list; its type hides that


def _remove_warning_filter() -> None:
    with contextlib.suppress(ValueError):
        _get_warning_filters().remove(_WARNING_FILTER)


def _reset_child() -> None:
    importing.repair_after_fork()
    if _background_threads:
        _remove_warning_filter()
        _background_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_child)
    if sys.version_info >= (3, 12):
        os.register_at_fork(before=_filter_fork_warning)
