"""Luigi: each task that runs is an item.

    from progressbar_tracker.integrations.luigi import track_tasks

    track_tasks(group="luigi")  # before luigi.build() or luigi.run()

The item has luigi's id of the task, which is the same in each run of the workflow. A failed task fails it with the text
of the exception. The bars that the task tracks are nested in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("luigi"):
    import luigi

from progressbar_tracker._runtime import flush

from ._task_items import TaskItems

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from ._mirrored import TaskLabels

__all__ = ["track_tasks", "untrack_tasks"]

EXIT_FLUSH_TIMEOUT = 1.0  # seconds; a worker process of luigi ends without Python's exit functions

_handlers: dict[str, Callable[..., None]] = {}


def track_tasks(**labels: Unpack[TaskLabels]) -> None:
    """Report the tasks that this process and its worker processes run. A second call replaces the first.

    Args:
        **labels: ``group``, ``weight``, ``keep``, ``notify``, ``deadline``, ``stuck_after``, ``interval``
            and ``client`` of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> track_tasks(group="luigi")
        >>> untrack_tasks()
    """
    items = TaskItems(labels)
    main_process = os.getpid()

    def flush_worker() -> None:
        if os.getpid() != main_process:
            flush(EXIT_FLUSH_TIMEOUT)

    def start_task(task: Any) -> None:
        items.start(task.task_id, task.task_family)

    def end_task(task: Any) -> None:
        items.end(task.task_id)
        flush_worker()

    def fail_task(task: Any, error: BaseException) -> None:
        items.fail(task.task_id, error)
        flush_worker()

    def fail_lost_task(task: Any, error: str) -> None:
        items.start(task.task_id, task.task_family)  # its process has not reported the end
        items.fail(task.task_id, error)

    untrack_tasks()
    _handlers.update({
        luigi.Event.START: start_task, luigi.Event.SUCCESS: end_task, luigi.Event.FAILURE: fail_task,
        luigi.Event.PROCESS_FAILURE: fail_lost_task, luigi.Event.TIMEOUT: fail_lost_task,
    })  # fmt: skip
    for event, handler in _handlers.items():
        luigi.Task.event_handler(event)(handler)


def untrack_tasks() -> None:
    """Report no more tasks. Idempotent."""
    for event, handler in _handlers.items():
        luigi.Task.remove_event_handler(event, handler)
    _handlers.clear()
