"""atpbar: show each loop over ``atpbar()`` on the server.

    from progressbar_tracker.integrations.atpbar import install

    install()  # as run does

The name is the title. A bar without a name is named by its line: atpbar itself writes the whole iterable then.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

from progressbar_tracker._tracking.mirror import Reading
from progressbar_tracker._tracking.patches import call_safely

from ._hooked import HookedBars, clean_title, end_block
from ._stoppable import wrap_iterable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from progressbar_tracker._tracking.patches import Wrapper

__all__ = ["install", "uninstall"]

_bars = HookedBars("atpbar")


class _BarReader:
    """Reads a bar, held weakly.

    Attributes:
        is_complete: Whether its loop has reached its end. Until its first item, the bar has the count of a former loop.
    """

    __slots__ = ("_bar", "_former_count", "_title", "is_complete")

    def __init__(self, bar: Any) -> None:
        self._bar = weakref.ref(bar)
        self._former_count = bar._done
        self._title = "" if _is_generated(bar.name, bar.iterable) else clean_title(bar.name)
        self.is_complete = False

    def __call__(self) -> Reading | None:
        bar = self._bar()
        if bar is None:
            return None
        count = bar._done
        if count == self._former_count and not self.is_complete:
            count = 0
        return Reading(count, bar.len_, self._title, "", unit="it")


def _is_generated(name: str, iterable: object) -> bool:
    """Return whether a name is the ``repr()`` of the iterable. ``repr()`` may be slow, so the ends are compared."""
    brackets = name[:1] + name[-1:]
    return brackets in ("[]", "()", "{}", "<>") or (
        name.startswith(f"{type(iterable).__name__}(") and name.endswith(")")
    )


def _start_run(bar: Any, frame: FrameType) -> None:
    if _bars.patches.is_installed:
        run = _bars.start(bar, frame, _BarReader(bar))
        bar.iterable = wrap_iterable(run, bar.iterable)


def _end_run(bar: Any, error: BaseException | None) -> None:
    run = _bars.find_run(bar)
    if run is not None:
        if isinstance(run.read, _BarReader):
            run.read.is_complete = bar.loop_complete
        end_block(run, error, is_complete=bar.loop_complete)


def _wrap_report_last(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @contextlib.contextmanager
    def _report_last(self: Any) -> Iterator[None]:
        """Enclose the loop of a bar. An exception is GeneratorExit if the loop is left, or the iterable's own one."""
        with original(self):
            call_safely(_start_run, self, sys._getframe())
            try:
                yield
            except BaseException as error:
                call_safely(_end_run, self, error)
                raise
            call_safely(_end_run, self, None)

    return _report_last


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    from atpbar.main import Atpbar

    return {(Atpbar, "_report_last"): _wrap_report_last}


def install() -> None:
    """Show every new bar of atpbar in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new bars, and put back atpbar's own function. Idempotent."""
    _bars.uninstall()
