"""fastprogress: show each ``progress_bar()`` and ``master_bar()`` on the server, with those of fastai.

    from progressbar_tracker.integrations.fastprogress import install

    install()  # as run does

A bar has its master bar as parent, and its comment as description. A loop is counted as by ``track()``, because the
library keeps only the counts that it draws. A program that calls ``update()`` itself is shown as often as it is drawn.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from progressbar_tracker._log import DEBUG, log
from progressbar_tracker._tracking.mirror import Reading

from ._hooked import HookedBars, clean_title, end_block, find_caller, get_current_error
from ._stoppable import wrap_iterable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from progressbar_tracker._tracking.mirror import Mirror
    from progressbar_tracker._tracking.patches import Wrapper

__all__ = ["install", "uninstall"]

_bars = HookedBars("fastprogress", "fastai", "fastcore")


class _BarReader:
    """Reads a bar, held weakly.

    Attributes:
        is_loop: Whether the run counts the items itself.
        is_complete: Whether the program has ended the bar at its last item.
    """

    __slots__ = ("_bar", "is_complete", "is_loop")

    def __init__(self, bar: Any, *, is_loop: bool) -> None:
        self._bar = weakref.ref(bar)
        self.is_loop = is_loop
        self.is_complete = False

    def __call__(self) -> Reading | None:
        bar = self._bar()
        if bar is None:
            return None
        # last_v is None after the end: the last count stays.
        count = 0 if self.is_loop else bar.total if self.is_complete else bar.last_v
        title = clean_title(getattr(bar, "prefix", ""))
        return Reading(count, bar.total, title, clean_title(getattr(bar, "comment", "")), unit="it")


def _start(bar: Any, frame: FrameType, *, is_loop: bool) -> Mirror | None:
    if not _bars.patches.is_installed or _bars.find_run(bar) is not None:
        return None
    master = getattr(bar, "parent", None)
    parent = None if master is None else _bars.find_run(master.main_bar)
    return _bars.start(bar, frame, _BarReader(bar, is_loop=is_loop), is_current=is_loop, parent=parent)


def _start_run(bar: Any, /) -> None:
    _start(bar, find_caller(), is_loop=False)


def _count_loop(bar: Any, loop: Iterator[Any], frame: FrameType) -> Iterator[Any]:
    """Return an iterator that counts a loop, and ends the run of its bar."""
    try:
        run = _start(bar, frame, is_loop=True)
        if run is not None:
            bar.gen = wrap_iterable(run, bar.gen)  # before the loop's first step
        return loop if run is None else run.wrap_iterator(loop, run)
    except Exception as error:  # noqa: BLE001 - tracking never hurts the tracked program
        log(DEBUG, "A loop of fastprogress is not counted: %r", error)
        return loop


def _end_run(bar: Any, /) -> None:
    """End the run of a bar that the program updates itself. A loop ends its run when its source is exhausted."""
    run = _bars.find_run(bar)
    if run is not None and not run.has_unfinished_loop:
        run.poll()
        # Programs update a master bar with the index of an item, from 0: one more step completes it.
        is_complete = run.total is None or run.position >= run.total - 1
        error = get_current_error(run)
        if isinstance(run.read, _BarReader):
            run.read.is_complete = is_complete and error is None and run.total is not None
        end_block(run, error, is_complete=is_complete)


def _end_master_run(master: Any, /) -> None:
    _end_run(master.main_bar)


def _interrupt_run(bar: Any, /) -> None:
    run = _bars.find_run(bar)
    if run is not None:
        end_block(run, sys.exception())


def _wrap_iter(original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807 - shown in tracebacks
        return _count_loop(self, original(self), sys._getframe(1))

    return __iter__


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    from fastprogress.fastprogress import MasterBar, NBMasterBar, ProgressBar

    call_before = _bars.patches.call_before
    return {
        (ProgressBar, "__iter__"): _wrap_iter,
        (ProgressBar, "on_iter_begin"): call_before(_start_run),
        (ProgressBar, "on_iter_end"): call_before(_end_run),
        (ProgressBar, "on_interrupt"): call_before(_interrupt_run),
        (MasterBar, "on_iter_end"): call_before(_end_master_run),
        (NBMasterBar, "on_iter_end"): call_before(_end_master_run),
    }


def install() -> None:
    """Show every new bar of fastprogress in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new bars, and put back fastprogress's own functions. Idempotent."""
    _bars.uninstall()
