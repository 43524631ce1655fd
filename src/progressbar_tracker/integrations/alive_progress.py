"""alive-progress: show each ``alive_bar()`` and ``alive_it()`` on the server.

    from progressbar_tracker.integrations.alive_progress import install

    install()  # as run does

The title and the text of the bar are the title and the description of the item. A bar in manual mode without a total
counts percent. ``disable=True`` disables both displays.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._tracking.mirror import Reading
from progressbar_tracker._tracking.patches import call_safely, hide_frames

from ._hooked import HookedBars, clean_title, end_block
from ._stoppable import wrap_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from progressbar_tracker._tracking.patches import Wrapper

__all__ = ["install", "uninstall"]

_FUNCTION_NAME: Final = "__alive_bar"  # behind alive_bar() and alive_it(); programs may have imported these already

_bars = HookedBars("alive_progress")


class _HandleReader:
    """Reads the handle of a bar. It holds functions of the bar, which live as long as its block."""

    __slots__ = (
        "_get_count",
        "_is_percentage",
        "_state",
        "_text",
        "_text_cells",
        "_title",
        "_title_cells",
        "_total",
        "_unit",
    )

    def __init__(self, handle: Any, config: Any, total: int | None) -> None:
        self._get_count = handle._current
        self._is_percentage = config.manual and not total
        self._total = 100 if self._is_percentage else total or None  # 0 is an unknown total
        self._unit = "%" if self._is_percentage else getattr(config, "unit", "").strip() or "it"
        self._state = _find_state(self._get_count)
        self._title_cells = self._text_cells = None
        self._title = self._text = ""

    def __call__(self) -> Reading:
        count, state = self._get_count(), self._state
        if self._is_percentage:
            count *= 100
        title_cells, text_cells = getattr(state, "title", None), getattr(state, "text", None)
        if title_cells is not self._title_cells:
            self._title_cells, self._title = title_cells, clean_title(_join_cells(title_cells))
        if text_cells is not self._text_cells:
            self._text_cells, self._text = text_cells, clean_title(_join_cells(text_cells))
        return Reading(count, self._total, self._title, self._text, unit=self._unit)


def _find_state(get_count: Callable[[], object]) -> object:
    """Return the object of a bar with its title and its text: a closure has it, and no attribute."""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        cells: Any = get_count.__closure__
        names: Any = get_count.__code__.co_freevars
        return cells[names.index("run")].cell_contents
    return None


def _join_cells(cells: Any) -> str:
    """Return the text of the terminal's cells, which are nested; the second cell of a wide character is ``None``."""
    if isinstance(cells, tuple | list):
        return "".join(map(_join_cells, cells))
    return cells if isinstance(cells, str) else ""


def _start_run(
    frame: FrameType, adapter: object, bar: Any, config: Any, total: int | None = None, **_options: object
) -> None:
    if _bars.patches.is_installed and not config.disable:
        run = _bars.start(bar, frame, _HandleReader(bar, config, total))
        if adapter is not None:
            fields = vars(adapter)  # the adapter passes later attributes on to the bar
            fields["_it"] = wrap_iterator(run, fields["_it"])


def _find_adapter(frame: FrameType | None) -> object:
    """Return the object of ``alive_it()`` whose loop begins, or ``None`` in an unknown version of the library."""
    for _ in range(4):
        frame = None if frame is None else frame.f_back
        if frame is not None and frame.f_code.co_name == "__iter__":
            adapter = frame.f_locals.get("self")
            return adapter if "_it" in getattr(adapter, "__dict__", ()) else None
    return None


def _end_run(bar: Any, error: BaseException | None, *, is_complete: bool | None) -> None:
    run = _bars.find_run(bar)
    if run is not None:
        end_block(run, error, is_complete=is_complete)


def _wrap_bar(original: Callable[..., Any]) -> Callable[..., Any]:
    @contextlib.contextmanager
    def show_bar(is_loop: bool, *args: Any, **options: Any) -> Iterator[Any]:
        block = original(*args, **options)
        try:
            bar = block.__enter__()
        except BaseException as error:
            hide_frames(error, 2)  # of this function, and of contextlib below it
            raise
        frame = sys._getframe()
        adapter = _find_adapter(frame) if is_loop else None
        call_safely(_start_run, frame, adapter, bar, *args, **options)
        try:
            yield bar
        except BaseException as error:
            call_safely(_end_run, bar, error, is_complete=None)
            if not block.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            # A loop that ends without an exception has reached its end, whatever its total is.
            call_safely(_end_run, bar, None, is_complete=is_loop or None)
            block.__exit__(None, None, None)

    def open_bar(*args: Any, **options: Any) -> Any:
        return show_bar(sys._getframe(1).f_code.co_name == "alive_it", *args, **options)

    return open_bar


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    from alive_progress.core import progress

    return {(progress, _FUNCTION_NAME): _wrap_bar}


def install() -> None:
    """Show every new bar of alive-progress in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new bars, and put back alive-progress's own function. Idempotent."""
    _bars.uninstall()
