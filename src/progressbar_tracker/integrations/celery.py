"""Celery: each task that a worker runs is an item.

    from progressbar_tracker.integrations.celery import track_tasks

    track_tasks(group="celery")  # in the module of the app

The item has the id of the task and the name of its function. A failed attempt fails it with the text of the exception.
A task that is retried, ignored or rejected stops it. The bars that the task tracks are nested in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("celery"):
    from celery import signals

from progressbar_tracker._runtime import flush

from ._task_items import TaskItems

if TYPE_CHECKING:
    from typing import Unpack

    from ._mirrored import TaskLabels

__all__ = ["track_tasks", "untrack_tasks"]

SIGNAL_NAMES = ("task_prerun", "task_failure", "task_postrun", "worker_process_shutdown")
EXIT_FLUSH_TIMEOUT = 1.0  # seconds; a worker process ends without Python's exit functions


def track_tasks(*names: str, **labels: Unpack[TaskLabels]) -> None:
    """Report the tasks that this process and its worker processes run. A second call replaces the first.

    Args:
        *names: The names of the tasks to report; without names all are.
        **labels: ``group``, ``weight``, ``keep``, ``notify``, ``deadline``, ``stuck_after``, ``interval``
            and ``client`` of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> track_tasks("shop.tasks.send_mails", group="celery")
        >>> untrack_tasks()
    """
    items = TaskItems(labels)

    def start_task(task_id: str, task: Any, **_: object) -> None:
        if not names or task.name in names:
            items.start(task_id, task.name)

    def fail_task(task_id: str, exception: BaseException, **_: object) -> None:
        items.fail(task_id, exception)

    def end_task(task_id: str, state: str | None = None, **_: object) -> None:
        if state == "SUCCESS":
            items.end(task_id)
        else:
            items.stop(task_id)

    def flush_items(**_: object) -> None:
        flush(EXIT_FLUSH_TIMEOUT)

    untrack_tasks()
    for name, receiver in zip(SIGNAL_NAMES, (start_task, fail_task, end_task, flush_items), strict=True):
        getattr(signals, name).connect(receiver, weak=False, dispatch_uid=f"{__name__}.{name}")


def untrack_tasks() -> None:
    """Report no more tasks. Idempotent."""
    for name in SIGNAL_NAMES:
        getattr(signals, name).disconnect(dispatch_uid=f"{__name__}.{name}")
