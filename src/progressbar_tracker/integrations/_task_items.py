"""The items of the tasks that a queue or a workflow runs in this process, one for each attempt of a task.

A task is an item without a count. The bars that it tracks are nested in it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from progressbar_tracker._tracking.tracker import track

from ._training import log_errors

if TYPE_CHECKING:
    from progressbar_tracker._tracking.tracker import Tracker

    from ._mirrored import TaskLabels


class TaskItems:
    """The running items.

    Args:
        labels: Labels of each item.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """

    def __init__(self, labels: TaskLabels) -> None:
        self._labels = labels
        self._bars: dict[str, Tracker[None]] = {}
        self._lock = threading.Lock()
        track(display=False, **labels)  # invalid labels raise here, not in a task

    @log_errors
    def start(self, task_id: str, title: str) -> None:
        """Start the item of a task, unless it runs already."""
        with self._lock:
            if task_id in self._bars:
                return
            bar = self._bars[task_id] = track(id=task_id, title=title, display=False, **self._labels)
        bar.update(completed=0)

    @log_errors
    def end(self, task_id: str) -> None:
        """End an item as succeeded, if it runs."""
        if (bar := self._remove(task_id)) is not None:
            bar.close()

    @log_errors
    def stop(self, task_id: str) -> None:
        """End an item as stopped, if it runs."""
        if (bar := self._remove(task_id)) is not None:
            bar.__exit__(GeneratorExit, GeneratorExit(), None)

    @log_errors
    def fail(self, task_id: str, error: BaseException | str) -> None:
        """End an item by its exception, as a block would, if it runs."""
        bar = self._remove(task_id)
        if bar is not None and isinstance(error, BaseException):
            bar.__exit__(type(error), error, None)
        elif bar is not None:
            bar.fail(error)

    def _remove(self, task_id: str) -> Tracker[None] | None:
        with self._lock:
            return self._bars.pop(task_id, None)
