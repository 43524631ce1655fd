"""enlighten: show each counter with its total on the server, also where there is no terminal.

    from progressbar_tracker.integrations.enlighten import install

    install()  # as run does

The description is the title, and the unit is taken over. Subcounters belong to their counter. Programs need not close a
counter: a complete one has ended when it has not changed for ten seconds.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._tracking.mirror import Reading
from progressbar_tracker._tracking.patches import call_safely

from ._hooked import HookedBars, clean_title, end_block, end_explicitly, enter, find_caller, get_current_error
from ._stoppable import allow_stop, wrap_iterable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from progressbar_tracker._tracking.mirror import Mirror
    from progressbar_tracker._tracking.patches import Wrapper
    from progressbar_tracker._tracking.stop import StopSwitch

__all__ = ["install", "uninstall"]

COMPLETE_SECONDS: Final = 10.0
"""Seconds without a change after which a complete counter has ended: its total may still rise before."""

_runs: dict[Any, Mirror] = {}  # counters allow no weak references; their manager holds them, too
_bars = HookedBars("enlighten", runs=_runs)


class _CounterReader:
    """Reads a counter."""

    __slots__ = ("_counter", "_desc", "_title", "stop")

    def __init__(self, counter: Any) -> None:
        self._counter = counter
        self._desc: object = None
        self._title = ""
        self.stop: StopSwitch | None = None

    def __call__(self) -> Reading:
        counter = self._counter
        if counter.desc is not self._desc:
            self._desc, self._title = counter.desc, clean_title(counter.desc)
        count, total = counter.count, counter.total
        now = time.time()
        idle_seconds = now - getattr(counter, "_count_updated", now)  # enlighten 1.10 keeps no time
        has_ended = bool(total) and count >= total and idle_seconds > COMPLETE_SECONDS
        if self.stop is not None and self.stop.has_ended_loop:
            has_ended, idle_seconds = True, 0.0
        unit = clean_title(counter.unit) or "it"
        return Reading(count, total, self._title, "", unit, has_ended, idle_seconds)


def _start_run(counter: Any, /, *_args: object, **_options: object) -> None:
    from enlighten._counter import Counter

    if not isinstance(counter, Counter):
        return
    stream = counter.manager.stream
    if not counter.enabled and hasattr(stream, "isatty") and stream.isatty():
        return  # disabled by the program; without a terminal enlighten disables all counters
    for other, run in list(_runs.items()):
        if run.status != "running":
            _runs.pop(other, None)
    _bars.start(counter, find_caller(), _CounterReader(counter), is_current=False)


def _enter(counter: Any, /, *_iterables: object) -> None:
    """Make a counter the parent of those that start in its block or loop."""
    run = _bars.find_run(counter)
    if run is not None:
        enter(run)


def _open_loop(counter: Any, iterables: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the iterables of a loop that begins."""
    _enter(counter)
    run = _bars.find_run(counter)
    if (stop := allow_stop(run)) is None:
        return iterables
    if run is not None and isinstance(run.read, _CounterReader):
        run.read.stop = stop
    return tuple(wrap_iterable(run, iterable) for iterable in iterables)


def _wrap_call(original: Callable[..., Any]) -> Callable[..., Any]:
    def __call__(self: Any, *iterables: Any) -> Any:  # noqa: N807 - shown in tracebacks
        if _bars.patches.is_installed:
            iterables = call_safely(_open_loop, self, iterables) or iterables
        return original(self, *iterables)

    return __call__


def _end_run(counter: Any, frame: FrameType) -> None:
    run = _bars.find_run(counter)
    _runs.pop(counter, None)
    if run is None:
        return
    if frame.f_code.co_name == "__exit__" and frame.f_globals.get("__name__", "").startswith("enlighten."):
        end_block(run, get_current_error(run))
    else:
        end_explicitly(run)


def _on_remove(_manager: Any, /, counter: Any) -> None:
    """End the run of a counter that closes. ``close`` itself is not hooked: it warns with the line of its caller."""
    frame: FrameType | None = find_caller()
    while frame is not None and frame.f_code.co_name == "close":
        frame = frame.f_back
    if frame is not None:
        _end_run(counter, frame)


def _on_stop(manager: Any, /) -> None:
    frame = find_caller()
    for counter in list(_runs):
        if counter.manager is manager:
            _end_run(counter, frame)


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    from enlighten._basecounter import BaseCounter, PrintableCounter
    from enlighten._basemanager import BaseManager
    from enlighten._manager import Manager

    call_before = _bars.patches.call_before
    hooks = {
        (BaseManager, "_add_counter"): _bars.patches.call_after(_start_run),
        (BaseManager, "remove"): call_before(_on_remove),
        (BaseCounter, "__call__"): _wrap_call,
        (PrintableCounter, "__enter__"): call_before(_enter),
        (Manager, "stop"): call_before(_on_stop),
    }
    notebook = sys.modules.get("enlighten._notebook_manager")  # imported in notebooks only
    if notebook is not None:
        hooks[notebook.NotebookManager, "stop"] = call_before(_on_stop)
    return hooks


def install() -> None:
    """Show every new counter of enlighten in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new counters, and put back enlighten's own functions. Idempotent."""
    _bars.uninstall()
