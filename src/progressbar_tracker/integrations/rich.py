"""rich: show rich's progress bars on the server, and ``track()`` with bars that look like rich's.

    from rich.progress import Progress
    from progressbar_tracker.integrations.rich import mirror, track

    with mirror(Progress(), id="import") as progress:  # each task is an item: import/0, import/1, ...
        task = progress.add_task("Rows", total=1000)
        for row in range(1000):
            progress.advance(task)

    for row in track(range(1000), id="rows"):  # exact counts, and a bar that looks like rich's
        ...

The sender's thread reads a task. The task has *succeeded* when it is finished, or when the progress stops and the total
is unknown. It is *stopped* when the progress stops earlier, and *failed* when an exception leaves the block.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from ._packages import require_package

with require_package("rich"):
    from rich.errors import MarkupError
    from rich.progress import DownloadColumn, FileSizeColumn, Progress, TransferSpeedColumn
    from rich.text import Text

from progressbar_tracker._models import format_value
from progressbar_tracker._tracking import tracker
from progressbar_tracker._tracking.mirror import Reading, find_user_frame, start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._mirrored import make_mirror
from ._rich_display import select_display

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable
    from types import FrameType
    from typing import Unpack

    from rich.progress import Task, TaskID

    from progressbar_tracker._tracking.mirror import Mirror
    from progressbar_tracker._tracking.tracker import HasSender, Tracker, TrackOptions

    from ._mirrored import Labels

__all__ = ["mirror", "track"]

P = TypeVar("P", bound=Progress)
T = TypeVar("T")

_TASKS_ATTRIBUTE: Final = "_progressbar_tasks"
_RESET_METHOD: Final = "_reset"  # of rich's Task; private, but called rarely, unlike update()
_BYTE_COLUMNS: Final = (DownloadColumn, FileSizeColumn, TransferSpeedColumn)


class _TaskReader:
    """Reads a task. If its progress is garbage collected, the task has ended; its last count stays readable."""

    __slots__ = ("_description", "_has_own_title", "_progress", "_task", "_title", "_unit")

    def __init__(self, progress: Progress, task: Task, unit: str, *, has_own_title: bool) -> None:
        self._progress = weakref.ref(progress)
        self._task = task
        self._unit = unit
        self._has_own_title = has_own_title  # the user set a title; the task's title becomes the description
        self._description = self._title = ""

    def __call__(self) -> Reading:
        task = self._task
        if task.description is not self._description:
            self._description = task.description
            try:
                self._title = Text.from_markup(str(task.description)).plain
            except MarkupError:
                self._title = str(task.description)
        ended = task.finished_time is not None or self._progress() is None
        description = self._title if self._has_own_title else ""
        return Reading(task.completed, task.total, self._title, description, unit=self._unit, has_ended=ended)


class _TaskMirrors:
    """The items of a progress, and replacements for the methods that it calls once a task.

    The methods become attributes of the progress. A new ``__class__`` would be simpler, but makes each update 50 %
    slower: an object that changes its class loses the interpreter's fast attribute access.
    """

    def __init__(self, progress: Progress, labels: Labels, unit: str) -> None:
        self._progress = weakref.ref(progress)
        self._labels = labels
        self._unit = unit
        self._runs: dict[TaskID, Mirror] = {}
        self._outer_error_id = id(sys.exception())  # raised before, so not by the block
        for name in ("start", "stop", "add_task", "remove_task"):
            setattr(progress, name, getattr(self, name))
        setattr(progress, _TASKS_ATTRIBUTE, self)

    @property
    def progress(self) -> Progress:
        progress = self._progress()
        assert progress is not None  # only the progress calls these methods
        return progress

    def start(self) -> None:
        progress = self.progress
        type(progress).start(progress)
        for task in progress.tasks:
            self.mirror_task(task, sys._getframe(1))  # noqa: SLF001

    def stop(self) -> None:
        progress = self.progress
        try:
            type(progress).stop(progress)
        finally:
            self._end_runs(sys._getframe(1))  # noqa: SLF001

    def add_task(self, *args: Any, **options: Any) -> TaskID:
        progress = self.progress
        task_id = type(progress).add_task(progress, *args, **options)
        for task in progress.tasks:
            if task.id == task_id:
                self.mirror_task(task, sys._getframe(1))  # noqa: SLF001
        return task_id

    def remove_task(self, task_id: TaskID) -> None:
        progress = self.progress
        run = self._runs.pop(task_id, None)
        if run is not None and run.sample().status == "running":
            run.end("succeeded" if run.is_done else "stopped")
        type(progress).remove_task(progress, task_id)

    def mirror_task(self, task: Task, frame: FrameType) -> None:
        """Show a task, unless it is shown or finished already."""
        run = self._runs.get(task.id)
        progress = self._progress()
        if (run is not None and run.sample().status == "running") or task.finished or progress is None:
            return
        labels: Labels = {**self._labels}
        item_id = labels.get("id")
        if item_id is not None:
            labels["id"] = f"{item_id}/{task.id}"
        self._runs[task.id] = run = make_mirror(labels, title="task", unit=self._unit)
        self._hook_reset(task)
        start_mirror(
            run,
            find_user_frame(frame, "rich"),
            _TaskReader(progress, task, self._unit, has_own_title=run.has_own_title),
        )

    def _hook_reset(self, task: Task) -> None:
        """Detect a restart: ``Progress.reset()`` or a new total can make a finished task run again."""
        task_reference = weakref.ref(task)

        def reset() -> None:
            task = task_reference()
            assert task is not None
            run = self._runs.get(task.id)
            if run is not None:
                run.sample()  # the task may have finished after the last sample
            type(task)._reset(task)  # noqa: SLF001
            self.mirror_task(task, sys._getframe(1))  # noqa: SLF001

        setattr(task, _RESET_METHOD, reset)

    def _end_runs(self, frame: FrameType) -> None:
        """End the runs of a stopped progress. The calling frame and the current exception decide how."""
        error = sys.exception()
        if error is not None and id(error) == self._outer_error_id:
            error = None
        is_block_exit = frame.f_code.co_name == "__exit__"
        for run in list(self._runs.values()):  # other threads may add runs
            if run.status != "running":
                continue
            run.poll()
            if run.is_done or (error is None and run.total is None):
                run.end("succeeded")
            elif error is None:
                run.end("stopped")
            elif is_block_exit:
                run.end(*classify_error(error))
            else:
                run.abandon()  # in a finally or except clause: the exception may or may not end the program
        self._runs.clear()


def mirror(progress: P, *, unit: str | None = None, **labels: Unpack[Labels]) -> P:
    """Show the current and future tasks of a ``rich.progress.Progress`` on the server.

    Args:
        progress: The progress, before or after its start.
        unit: Unit of the tasks; by default ``"B"`` if a column shows bytes, else ``"it"``.
        **labels: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``, ``interval`` and
            ``client`` of ``track()``. An item's id is the ``id``, a slash and the task's number. The task's
            description is the default title.

    Returns:
        The progress.

    Raises:
        TypeError: ``progress`` is not a rich ``Progress``, or another argument has the wrong type.
        ValueError: ``progress`` is already shown, or another argument is out of range.

    Example:
        >>> with mirror(Progress(disable=True), id="copy") as progress:
        ...     task = progress.add_task("Copying", total=3)
        ...     progress.update(task, completed=3)
    """
    if not isinstance(progress, Progress):
        raise TypeError(f"progress must be a rich.progress.Progress, not {format_value(progress)}")
    if hasattr(progress, _TASKS_ATTRIBUTE):
        raise ValueError("progress is shown already")
    if unit is None:
        unit = "B" if any(isinstance(column, _BYTE_COLUMNS) for column in progress.columns) else "it"
    make_mirror(labels, title="", unit=unit)  # validates the labels
    tasks = _TaskMirrors(progress, labels, unit)
    for task in progress.tasks:
        tasks.mirror_task(task, sys._getframe(1))  # noqa: SLF001
    return progress


@overload
def track(
    iterable: Iterable[T] | AsyncIterable[T], *, client: HasSender | None = None, **options: Unpack[TrackOptions]
) -> Tracker[T]: ...
@overload
def track(
    iterable: None = None, *, client: HasSender | None = None, **options: Unpack[TrackOptions]
) -> Tracker[None]: ...
def track(iterable: Any = None, **options: Any) -> Any:
    """Return ``progressbar_tracker.track()`` with a terminal bar that looks like rich's.

    Args:
        iterable: The iterable of the loop, or nothing.
        **options: Options of ``progressbar_tracker.track()``. The bar is drawn on rich's console, by default only if
            that is a terminal.

    Raises:
        TypeError, ValueError: As in ``progressbar_tracker.track()``.

    Example:
        >>> sum(track([1, 2, 3], id="adding", display=False))
        6
    """
    display = options.pop("display", None)
    tracked = tracker.track(iterable, display=False, **options)
    tracked._run.display = select_display(display)  # noqa: SLF001
    return tracked
