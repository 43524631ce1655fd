"""progressbar2: show each ``progressbar.ProgressBar`` on the server, with those of ``progressbar.progressbar()``.

    from progressbar_tracker.integrations.progressbar2 import install

    install()  # as run does

The title is the prefix, the label in a ``MultiBar``, or the text in front of the other widgets. The library draws a bar
that is closed as full; here it keeps its own count if it was left early.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from progressbar_tracker._runtime import are_loops_stoppable
from progressbar_tracker._tracking.mirror import Reading
from progressbar_tracker._tracking.patches import call_safely, hide_frames

from ._hooked import HookedBars, clean_title, end_block, end_explicitly, find_caller, get_current_error
from ._stoppable import allow_stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from progressbar_tracker._tracking.patches import Wrapper

__all__ = ["install", "uninstall"]

_LOOP_METHODS: Final = frozenset({"_iter_python", "__iter__", "__next__", "_fast_begin", "_fast_end"})
"""The methods that start a bar for a loop, and finish it at the end of the loop."""

_bars = HookedBars("progressbar", "python_utils")
_blocks: WeakSet[Any] = WeakSet()  # bars whose block has not ended


class _BarReader:
    """Reads a bar, held weakly.

    Attributes:
        final_count: The count at the end: the library sets its own one to the total then.
        is_complete: Whether the loop has reached its end; ``None`` without a loop, or before its end.
    """

    __slots__ = ("_bar", "_prefix", "_unit", "final_count", "is_complete")

    def __init__(self, bar: Any, prefix: str) -> None:
        from progressbar.bar import DataTransferBar

        self._bar = weakref.ref(bar)
        self._prefix = prefix  # the bar forgets it when it starts
        self._unit = "B" if isinstance(bar, DataTransferBar) else str(getattr(bar, "unit", "it"))
        self.final_count: float | None = None
        self.is_complete: bool | None = None

    def __call__(self) -> Reading | None:
        bar = self._bar()
        if bar is None:
            return None
        count = bar.value - bar.min_value if self.final_count is None else self.final_count
        return Reading(count, _get_total(bar), self._make_title(bar), "", unit=self._unit)

    def _make_title(self, bar: Any) -> str:
        title = self._prefix
        if "{" in title:
            with contextlib.suppress(Exception):  # a template of the library, whose values may be missing yet
                title = title.format(**bar.data())
        return clean_title(title) or clean_title(getattr(bar, "label", ""))


def _get_total(bar: Any) -> float | None:
    total = bar.max_value
    return total - bar.min_value if isinstance(total, int | float) else None


def _find_prefix(bar: Any) -> str:
    """Return the text in front of the bar: its prefix, or the texts before the other widgets."""
    if getattr(bar, "prefix", None):
        return str(bar.prefix)
    texts = []
    for widget in bar.widgets or ():
        if not isinstance(widget, str):
            break
        texts.append(widget)
    title = "".join(texts)
    return title if any(character.isalpha() for character in title) else ""


def _is_within_a_step(bar: Any) -> bool:
    """Return whether one more step completes the bar: programs update it with the index of an item, from 0."""
    total = _get_total(bar)
    last_step = bar.value - (bar.previous_value or 0)
    return total is None or total - (bar.value - bar.min_value) <= max(last_step, 1)


def _start_run(bar: Any, prefix: str | None) -> None:
    frame = find_caller()
    if _bars.patches.is_installed and bar.start_time is not None and _bars.find_run(bar) is None:
        is_loop = _find_library_caller(frame) in _LOOP_METHODS
        run = _bars.start(bar, frame, _BarReader(bar, prefix or ""), is_current=is_loop or bar in _blocks)
        gate = getattr(bar, "_iterable", None)
        if is_loop and gate is not None and (stop := allow_stop(run)) is not None:
            stop.bind(gate, run)


def _open_loop(_result: object, bar: Any, /, *_iterable: object) -> None:
    """Put a gate before the source of a loop. The bar starts later, when the loop has taken the source already."""
    if are_loops_stoppable() and bar._iterable is not None:
        from progressbar_tracker._tracking.stop import make_gate

        bar._iterable = make_gate(bar._iterable)


def _open_block(bar: Any, /) -> None:
    _blocks.add(bar)


def _end_run(bar: Any, end: str = "", dirty: bool = False) -> None:  # noqa: ARG001 - the signature of finish()
    """End the run of a bar that finishes, in the way that the caller shows."""
    frame = find_caller()
    run = _bars.find_run(bar)
    reader = None if run is None else run.read
    if run is None or not isinstance(reader, _BarReader):
        return
    while frame.f_code.co_name == "finish" and frame.f_back is not None:  # the method of a subclass
        frame = frame.f_back
    caller = _find_library_caller(frame)
    if caller == "__del__":
        run.abandon()
    elif caller in _LOOP_METHODS and not dirty:
        reader.final_count = _count_loop(bar, frame)
        reader.is_complete = True
        if bar not in _blocks:
            end_block(run, None, is_complete=True)
    elif caller and dirty:  # the loop was left
        reader.final_count = bar.value - bar.min_value
        reader.is_complete = False
        if bar not in _blocks:
            run.abandon()
    elif dirty or get_current_error(run) is not None:
        end_explicitly(run)
    else:
        reader.final_count = _get_total(bar)
        end_explicitly(run, is_complete=True)


def _find_library_caller(frame: FrameType) -> str:
    """Return the name of the library's function of a frame, or ``""`` if the function is not the library's."""
    return frame.f_code.co_name if frame.f_globals.get("__name__", "").startswith("progressbar.") else ""


def _count_loop(bar: Any, frame: FrameType) -> float:
    """Return the items of a loop that has reached its end. The bar counts an item when the next one is taken."""
    is_empty = frame.f_code.co_name == "_iter_python" and "item" not in frame.f_locals
    return 0 if is_empty else bar.value - bar.min_value + 1


def _end_block(bar: Any, _kind: object, error: BaseException | None, _traceback: object, /) -> None:
    """End the run of a block, before the library fills the bar."""
    _blocks.discard(bar)
    run = _bars.find_run(bar)
    reader = None if run is None else run.read
    if run is None or not isinstance(reader, _BarReader):
        return
    if reader.is_complete is None and error is None and _is_within_a_step(bar):
        reader.final_count = _get_total(bar)
    end_block(run, error, is_complete=reader.is_complete)


def _end_empty_loop(bar: Any) -> None:
    """End the run of a loop without items: the library starts such a bar when it finishes it."""
    run = _bars.find_run(bar)
    if run is not None and bar not in _blocks:
        end_block(run, None, is_complete=True)


def _wrap_start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(self: Any, *args: Any, **options: Any) -> Any:
        prefix = call_safely(_find_prefix, self)
        try:
            result = original(self, *args, **options)
        except BaseException as error:
            hide_frames(error)
            raise
        call_safely(_start_run, self, prefix)
        return result

    return start


def _wrap_finish(original: Callable[..., Any]) -> Callable[..., Any]:
    def finish(self: Any, *args: Any, **options: Any) -> Any:
        call_safely(_end_run, self, *args, **options)
        try:
            result = original(self, *args, **options)
        except BaseException as error:
            hide_frames(error)
            raise
        call_safely(_end_empty_loop, self)
        return result

    return finish


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    from progressbar.bar import ProgressBar

    return {
        (ProgressBar, "start"): _wrap_start,
        (ProgressBar, "finish"): _wrap_finish,
        (ProgressBar, "__call__"): _bars.patches.call_after(_open_loop),
        (ProgressBar, "__enter__"): _bars.patches.call_before(_open_block),
        (ProgressBar, "__exit__"): _bars.patches.call_before(_end_block),
    }


def install() -> None:
    """Show every new bar of progressbar2 in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new bars, and put back progressbar2's own functions. Idempotent."""
    _bars.uninstall()
