"""The creation of a run: the arguments of ``track()``, checked, and what the process adds to them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TypeVar

from progressbar_tracker import _runtime
from progressbar_tracker._models import check_notify, format_value
from progressbar_tracker._terminal.cell import find_cell
from progressbar_tracker._terminal.display import are_bars_disabled
from progressbar_tracker._terminal.screen import is_stderr_terminal
from progressbar_tracker._text import clean_number

from .deadline import make_deadline
from .run import Run
from .run_names import normalize_id
from .run_options import DEFAULT_INTERVAL, RunOptions
from .stuck_after import check_stuck_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker._models import Number, StuckAfter
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._terminal.display import Display

    from .deadline import DeadlineLike
    from .stop import OnStop

    class HasSender(Protocol):
        """A client that trackers can be bound to: ``ProgressBar`` or ``AsyncProgressBar``."""

        @property
        def sender(self) -> Sender:
            """The client's background sender."""


R = TypeVar("R", bound=Run)


def create_run(
    run_class: type[R],
    *,
    id: str | None = None,
    title: str | None = None,
    weight: int = 0,
    group: str | None = None,
    keep: bool = False,
    notify: str | Sequence[str] | None = None,
    deadline: DeadlineLike | None = None,
    stuck_after: StuckAfter = "auto",
    client: HasSender | None = None,
    unit: str = "it",
    description: str = "",
    total: Number | None = None,
    interval: float = DEFAULT_INTERVAL,
    stoppable: bool | None = False,
    on_stop: OnStop = "end",
) -> R:
    """Validate the arguments of ``track()`` and return a new run with them.

    Here ``stoppable=None`` means: if it is an outermost run.

    Raises:
        TypeError, ValueError: As ``track()``.
    """
    if title.__class__ is not str and title is not None:
        raise TypeError(f"title must be a string, not {format_value(title)}")
    if description.__class__ is not str or unit.__class__ is not str:
        raise TypeError(
            f"description and unit must be strings, not {format_value(description)} and {format_value(unit)}"
        )
    if group.__class__ is not str and group is not None:
        raise TypeError(f"group must be a string, not {format_value(group)}")
    if total is not None and clean_number(total) is None and not isinstance(total, float):
        raise TypeError(f"total must be a number, not {format_value(total)}")
    if weight.__class__ is not int:
        raise TypeError(f"weight must be an int, not {format_value(weight)}")
    if on_stop not in ("end", "raise"):
        raise ValueError(f"on_stop must be 'end' or 'raise', not {format_value(on_stop)}")
    sender = find_default_sender() if client is None else None if _runtime.is_disabled() else client.sender
    channels = () if notify is None else check_notify([notify] if isinstance(notify, str) else notify)
    due = None if deadline is None else make_deadline(deadline)
    silence = stuck_after if stuck_after == "auto" else check_stuck_after(stuck_after)
    options = RunOptions(unit, group, keep, check_interval(interval), None, channels, due, silence, stoppable, on_stop)
    run = run_class(None if id is None else normalize_id(id), options.intern(), sender)
    run.title, run.description, run.total, run.weight = title, description, total, weight
    return run


def select_stoppable(stoppable: bool | None, *, has_loop: bool) -> bool | None:
    """Return the argument of ``create_run()`` for that of ``track()``.

    Args:
        stoppable: The argument of ``track()``.
        has_loop: The run has a loop that can be ended, also if the program does not know of requests.
    """
    if stoppable is None:
        return None if has_loop and _runtime.are_loops_stoppable() else False
    if stoppable.__class__ is not bool:
        raise TypeError(f"stoppable must be True, False or None, not {format_value(stoppable)}")
    return stoppable


def find_default_sender() -> Sender | None:
    """Return the sender of the configured server, or ``None`` if tracking is turned off."""
    return None if _runtime.is_disabled() else _runtime.get_sender()


def check_interval(interval: object) -> float:
    """Return ``interval`` as a float if it is a number of seconds from 0.05 to 3600."""
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {format_value(interval)}")
    if not 0.05 <= interval <= 3600:
        raise ValueError(f"interval must be from 0.05 to 3600 seconds, not {format_value(interval)}")
    return float(interval)


def select_display(display: bool | None) -> Display | None:
    """Return the display, or ``None`` if no bar is to be drawn. ``None`` draws on a terminal and in a notebook."""
    if display is None:
        is_shown = is_stderr_terminal() or find_cell() is not None
        display = is_shown and not _runtime.is_disabled() and not are_bars_disabled(os.environ)
    return _runtime.get_display() if display else None
