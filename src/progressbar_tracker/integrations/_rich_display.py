"""The terminal bars of ``integrations.rich``: our display's thread and life, with rich's look.

One live display of rich's at a time shows all bars that run; when the last has ended it is left on the screen.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING

from rich import get_console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from progressbar_tracker import _runtime
from progressbar_tracker._log import DEBUG, log
from progressbar_tracker._terminal.display import ERROR_WIDTH, Display
from progressbar_tracker._text import truncate

if TYPE_CHECKING:
    from progressbar_tracker._sender.snapshot import Snapshot
    from progressbar_tracker._terminal.display import Bar, DisplayedRun


class _Bar:
    """One run as a task of rich's."""

    def __init__(self, display: RichDisplay, stream: object, title: str, *, leave: bool) -> None:
        self.stream = stream
        self._display = display
        self._leave = leave
        self._task = display.progress.add_task(escape(title), total=None)
        display.bars += 1

    def draw(self, snapshot: Snapshot) -> None:
        text = f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title
        label = escape(text)
        if snapshot.status == "failed":
            label = f"[red]{label} {escape(truncate(snapshot.error or 'failed', ERROR_WIDTH))}[/]"
        total = (
            snapshot.total if snapshot.total is not None and snapshot.total > 0 else None
        )  # rich takes 0 of 0 for all
        self._display.progress.update(self._task, completed=snapshot.completed, total=total, description=label)

    def end(self, snapshot: Snapshot) -> None:
        self._display.bars -= 1
        self.draw(snapshot)
        if not self._leave:
            self._display.progress.remove_task(self._task)
        if self._display.bars == 0:
            self._display.progress.stop()


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

    def try_finish(self, run: DisplayedRun) -> None:
        """Do nothing in a finalizer: which locks rich needs is its own affair. The thread will draw it soon."""

    def _current_stream(self) -> object:
        return get_console()

    def _draw_terminals(self) -> BaseException | None:
        try:
            if self.bars:
                self.progress.refresh()
        except BaseException as error:  # noqa: BLE001 - a console that is gone is no reason for the loop to fail
            self._disable_stream(self.progress.console)
            return error
        return None

    def _disable_stream(self, stream: object) -> None:
        super()._disable_stream(stream)
        if self.bars:
            self.bars = 0
            with contextlib.suppress(Exception):
                self.progress.stop()

    def _open_bar(self, run: DisplayedRun, stream: object) -> Bar:
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
        return _Bar(self, stream, run.sample().title, leave=not run.is_nested)


@functools.cache
def _get_display() -> RichDisplay:
    made = RichDisplay()
    _runtime.get_display()  # its hook at the end of the process is to be there first, and so to come last
    atexit.register(made.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.reset)
    return made


def select_display(wanted: bool | None) -> RichDisplay | None:
    """Return the display if it is wanted: by default if rich's console is a terminal."""
    if wanted is None:
        wanted = not _runtime.is_disabled() and get_console().is_terminal
    return _get_display() if wanted else None
