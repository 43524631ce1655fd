"""Prefect: each run of a task or of a flow is an item.

    from progressbar_tracker.integrations.prefect import flow_hooks, task_hooks

    task_with_item = task(**task_hooks(group="prefect"))  # a decorator
    flow_with_item = flow(**flow_hooks(group="prefect"))

The item has the id of the run and the name of the task or the flow. A run that fails or crashes fails it with the text
of the exception, and a cancelled flow stops it. A retry is a part of the same run. The bars that the run tracks are
nested in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from ._packages import require_package

with require_package("prefect"):
    import prefect  # noqa: F401 - the error names the package

from ._task_items import TaskItems

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from ._mirrored import TaskLabels

    Hook = Callable[..., None]

__all__ = ["flow_hooks", "task_hooks"]

MESSAGE_PREFIXES = ("Task run encountered an exception ", "Flow run encountered an exception: ")


class TaskHooks(TypedDict):
    """Arguments of ``task()``."""

    on_running: list[Hook]
    on_completion: list[Hook]
    on_failure: list[Hook]


class FlowHooks(TaskHooks):
    """Arguments of ``flow()``."""

    on_crashed: list[Hook]
    on_cancellation: list[Hook]


def task_hooks(**labels: Unpack[TaskLabels]) -> TaskHooks:
    """Return the hooks that report each run of a task.

    Args:
        **labels: ``group``, ``weight``, ``keep``, ``notify``, ``deadline``, ``stuck_after``, ``interval``
            and ``client`` of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> from prefect import task
        >>> @task(**task_hooks(group="prefect"))
        ... def import_rows() -> None: ...
    """
    hooks = flow_hooks(**labels)
    return {name: hooks[name] for name in ("on_running", "on_completion", "on_failure")}  # type: ignore[return-value]


def flow_hooks(**labels: Unpack[TaskLabels]) -> FlowHooks:
    """Return the hooks that report each run of a flow.

    Args:
        **labels: As in ``task_hooks()``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> from prefect import flow
        >>> @flow(**flow_hooks(group="prefect"))
        ... def night() -> None: ...
    """
    items = TaskItems(labels)

    def start_item(source: Any, run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's signature
        items.start(str(run.id), source.name)

    def end_item(source: Any, run: Any, state: Any) -> None:  # noqa: ARG001
        items.end(str(run.id))

    def fail_item(source: Any, run: Any, state: Any) -> None:  # noqa: ARG001
        items.fail(str(run.id), _read_error(state))

    def stop_item(source: Any, run: Any, state: Any) -> None:  # noqa: ARG001
        items.stop(str(run.id))

    return {
        "on_running": [start_item], "on_completion": [end_item], "on_failure": [fail_item], "on_crashed": [fail_item],
        "on_cancellation": [stop_item],
    }  # fmt: skip


def _read_error(state: Any) -> str:
    text = state.message or state.name
    for prefix in MESSAGE_PREFIXES:
        text = text.removeprefix(prefix)
    return str(text)
