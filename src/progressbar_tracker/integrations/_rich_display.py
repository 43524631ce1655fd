"""The terminal bars of ``integrations.rich``: our display's thread and life, with rich's look.

One live display of rich's at a time shows all bars that run; when the last has ended it is left on the screen.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING, Any

from rich import get_console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from progressbar_tracker import _runtime
from progressbar_tracker._display import Display
from progressbar_tracker._log import DEBUG, log

if TYPE_CHECKING:
    from progressbar_tracker._display import Shown
    from progressbar_tracker._models import Number
    from progressbar_tracker._snapshot import Snapshot


class _Bar:
    """What the display asks of a tqdm bar, done by a task of rich's."""

    def __init__(self, display: RichDisplay, snapshot: Snapshot, *, leave: bool) -> None:
        self._display = display
        self._leave = leave
        self._postfix = ""
        self._closed = False
        self.n: Number = 0
        self.total = snapshot.total
        self.desc = snapshot.title
        self.colour = ""
        self.start_t = 0.0
        self._task = display.progress.add_task(escape(self.desc), total=self._known_total())
        display.bars += 1

    def _known_total(self) -> Number | None:
        return self.total if self.total is not None and self.total > 0 else None  # rich takes 0 of 0 for all

    def update(self, n: Number) -> None:
        self.n += n
        self.refresh()

    def set_postfix_str(self, text: str, refresh: bool) -> None:  # noqa: ARG002 - as tqdm has it
        self._postfix = text

    def refresh(self) -> None:
        text = " ".join(filter(None, (escape(self.desc), escape(self._postfix))))
        label = f"[{self.colour}]{text}[/]" if self.colour else text
        self._display.progress.update(self._task, completed=self.n, total=self._known_total(), description=label)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.refresh()
        if not self._leave:
            self._display.progress.remove_task(self._task)
        self._display.bars -= 1
        if self._display.bars == 0:
            self._display.progress.stop()
        else:
            self._display.progress.refresh()


class RichDisplay(Display):
    """Draws the runs that are given to it with rich, on rich's own console: what is printed meanwhile goes above."""

    progress: Progress
    bars = 0

    def reset(self) -> None:
        """Start empty in the child of a fork, where nobody draws what the parent began, and its locks may be taken."""
        super().reset()
        if self.bars:
            for name in ("stdout", "stderr"):
                with contextlib.suppress(AttributeError):
                    setattr(sys, name, getattr(sys, name).rich_proxied_file)
        self.bars = 0

    def finish(self, shown: Shown) -> None:
        """Draw the last frame of a run that has ended."""
        try:
            super().finish(shown)
        except Exception as error:  # noqa: BLE001 - a console that is gone is no reason for the loop to fail
            log(DEBUG, "rich cannot draw: %r", error)

    def try_finish(self, shown: Shown) -> None:
        """Do nothing in a finalizer: which locks rich needs is its own affair. The thread will draw it soon."""

    def step(self) -> float | None:
        """Draw one frame of all."""
        delay = super().step()
        with self._lock:
            if self.bars:
                self.progress.refresh()
        return delay

    def _open(self, shown: Shown, snapshot: Snapshot) -> Any:
        if self.bars == 0:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(show_speed=True),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=get_console(),
                auto_refresh=False,  # the display's thread does it
            )
            try:
                self.progress.start()
            except Exception as error:  # noqa: BLE001 - it is gone, or, up to rich 14.0, taken by a live display
                log(DEBUG, "rich's console cannot be drawn on: %r", error)
                self.progress = Progress(disable=True)
        return _Bar(self, snapshot, leave=not shown.inner)


@functools.cache
def _display() -> RichDisplay:
    made = RichDisplay()
    _runtime.display()  # its hook at the end of the process is to be there first, and so to come last
    atexit.register(made.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.reset)
    return made


def display_of(wanted: bool | None) -> RichDisplay | None:
    """Return the display if it is wanted: by default if rich's console is a terminal."""
    if wanted is None:
        wanted = not _runtime.disabled() and get_console().is_terminal
    return _display() if wanted else None
