"""The terminal bars of ``integrations.rich``: drawn by rich in the display thread.

One live display of rich at a time shows all running bars. It stays on the screen after the last bar has ended.
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
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
from rich.text import Text

from progressbar_tracker import _runtime
from progressbar_tracker._clock import read_clock
from progressbar_tracker._log import DEBUG, log
from progressbar_tracker._terminal.bars import ERROR_WIDTH
from progressbar_tracker._terminal.display import Display
from progressbar_tracker._terminal.pace import Pace
from progressbar_tracker._text import truncate

if TYPE_CHECKING:
    from rich.progress import Task

    from progressbar_tracker._sender.snapshot import Snapshot
    from progressbar_tracker._terminal.display import Bar, DisplayedRun


class _TimeLeftColumn(ProgressColumn):
    """Shows the estimated time left, in the look of rich's column, and the elapsed time after the end."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time of a task."""
        if task.finished:
            return Text(_format_seconds(task.finished_time or 0.0), style="progress.elapsed")
        seconds: float | None = task.fields["seconds_left"]
        unknown = "" if task.total is None else "-:--:--"
        return Text(unknown if seconds is None else _format_seconds(seconds), style="progress.remaining")


def _format_seconds(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole:02}"


class _Bar:
    """One run as a task of rich."""

    def __init__(self, display: RichDisplay, stream: object, run: DisplayedRun) -> None:
        self.stream = stream
        self._display = display
        self._leave = not run.is_nested
        self._pace = Pace(run.started_at)
        self._task = display.progress.add_task(escape(run.sample().title), total=None, seconds_left=None)
        display.bars += 1

    def draw(self, snapshot: Snapshot) -> None:
        text = f"{snapshot.title}: {snapshot.description}" if snapshot.description else snapshot.title
        label = escape(text)
        if snapshot.status == "failed":
            label = f"[red]{label} {escape(truncate(snapshot.error or 'failed', ERROR_WIDTH))}[/]"
        total = snapshot.total if (snapshot.total or 0) > 0 else None  # rich shows 0 of 0 as 100 %
        now = read_clock()
        self._pace.update(snapshot.completed, now)
        self._display.progress.update(
            self._task,
            completed=snapshot.completed,
            total=total,
            description=label,
            seconds_left=self._pace.estimate_seconds_left(total, now),
        )

    def end(self, snapshot: Snapshot) -> None:
        self._display.bars -= 1
        self.draw(snapshot)
        if not self._leave:
            self._display.progress.remove_task(self._task)
        if self._display.bars == 0:
            self._display.progress.stop()


class RichDisplay(Display):
    """Draws runs with rich, on rich's console. Other output of the program appears above the bars."""

    progress: Progress
    bars = 0
    _uses_cells = False  # rich has outputs of its own

    def reset(self) -> None:
        """Forget all bars in the child of a fork: no thread draws them there, and the locks may be held."""
        super().reset()
        if self.bars:
            for name in ("stdout", "stderr"):
                with contextlib.suppress(AttributeError):
                    setattr(sys, name, getattr(sys, name).rich_proxied_file)
        self.bars = 0

    def try_finish(self, run: DisplayedRun) -> None:
        """Do nothing in a finalizer: rich may need a lock that is held. The display thread draws the end soon."""

    def _current_stream(self) -> object:
        return get_console()

    def _draw_terminals(self) -> BaseException | None:
        try:
            if self.bars:
                self.progress.refresh()
        except BaseException as error:  # noqa: BLE001 - a lost console must not stop the display thread
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
                _TimeLeftColumn(),
                console=get_console(),
                auto_refresh=False,  # the display thread refreshes
            )
            try:
                self.progress.start()
            except Exception as error:  # noqa: BLE001 - the console is closed or, up to rich 14.0, in use by a live display
                log(DEBUG, "rich's console cannot be drawn on: %r", error)
                self.progress = Progress(disable=True)
        return _Bar(self, stream, run)


@functools.cache
def _get_display() -> RichDisplay:
    display = RichDisplay()
    _runtime.get_display()  # registers its exit hook first, so that it runs last
    atexit.register(display.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=display.reset)
    return display


def select_display(is_enabled: bool | None) -> RichDisplay | None:
    """Return the display if it is enabled; ``None`` enables it if rich's console is a terminal."""
    if is_enabled is None:
        is_enabled = not _runtime.is_disabled() and get_console().is_terminal
    return _get_display() if is_enabled else None
