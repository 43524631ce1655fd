"""The items of rich's tasks: what they show, how they end, and their parents.

Nothing here imports rich: a program may use a copy of it, as pip does. The sender's thread reads a task, so its updates
cost nothing.

One progress may have tasks inside each other or beside each other, see ``PlacedMirror``. A program may show the first
by spaces before the description, as scikit-learn does.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._text import clean_label
from progressbar_tracker._tracking.mirror import Reading, find_user_frame, start_mirror
from progressbar_tracker._tracking.nesting import PlacedMirror
from progressbar_tracker._tracking.patches import call_safely
from progressbar_tracker._tracking.run import classify_error

from ._enclosing_loops import add_open_bar, find_enclosing_bar
from ._mirrored import make_run
from ._stoppable import allow_stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

    from progressbar_tracker._tracking.stop import StopSwitch

    from ._mirrored import Labels

TASKS_ATTRIBUTE: Final = "_progressbar_tasks"  # of a Progress
_RESET_METHOD: Final = "_reset"  # of rich's Task; private, but called rarely, unlike update()
_BYTE_COLUMN_NAMES: Final = frozenset({"DownloadColumn", "FileSizeColumn", "TransferSpeedColumn"})
_FILE_METHOD_NAMES: Final = frozenset({"open", "wrap_file"})  # of Progress: their tasks count bytes


class _TaskReader:
    """Reads a task. If its progress is garbage collected, the task has ended; its last count stays readable."""

    __slots__ = (
        "_can_hide",
        "_description",
        "_has_own_title",
        "_module",
        "_progress",
        "_title",
        "_title_format",
        "_unit",
        "stop",
        "task",
    )

    def __init__(self, tasks: TaskMirrors, progress: Any, task: Any, unit: str, *, has_own_title: bool) -> None:
        self._progress = weakref.ref(progress)
        self._module = tasks.module
        self._title_format = _find_title_format(progress)
        self._can_hide = not tasks.is_explicit
        self.task = task
        self._unit = unit
        self._has_own_title = has_own_title  # the user set a title; the task's title becomes the description
        self.stop: StopSwitch | None = None
        self._description: object = ""
        self._title = ""

    def __call__(self) -> Reading:
        task = self.task
        text = task.description if self._title_format is None else _format_title(self._title_format, task)
        if text is not self._description and text != self._description:
            self._description = text
            self._title = clean_label(parse_markup(self._module, str(text)))
        finished_time = task.finished_time
        is_stopped = self.stop is not None and self.stop.has_ended_loop
        ended = finished_time is not None or is_stopped or self._progress() is None
        return Reading(
            task.completed,
            task.total,
            self._title,
            self._title if self._has_own_title else "",
            unit=self._unit,
            has_ended=ended,
            seconds_since_end=0.0 if finished_time is None else compute_age(task) - finished_time,
            is_hidden=self._can_hide and not task.visible,
        )


def _find_title_format(progress: Any) -> str | None:
    """Return the first text column with a field of the task if no column shows the description."""
    formats = [column if isinstance(column, str) else getattr(column, "text_format", "") for column in progress.columns]
    if any("{task.description" in text for text in formats):
        return None
    return next((text for text in formats if "{task.fields[" in text), None)


def _format_title(title_format: str, task: Any) -> object:
    """Return the text of a column, as rich shows it; the description if code of the program would format a field."""
    try:
        if all(type(value) in (str, int, float) for value in list(task.fields.values())):
            return title_format.format(task=task).strip() or task.description
    except Exception:  # noqa: BLE001, S110 - a field is not set yet
        pass
    return task.description


def compute_age(task: Any) -> float:
    """Return the seconds since the start of a task, also after its end; 0 before its start."""
    return 0.0 if task.start_time is None else task.get_time() - task.start_time


def find_adding_frame(frame: FrameType | None, package: str) -> FrameType | None:
    """Return the innermost frame outside rich and these hooks."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not (name.startswith(f"{package}.") or _is_hook(frame)):
            return frame
        frame = frame.f_back
    return None


_HOOK_MODULE_NAMES: Final = (
    __name__,
    "progressbar_tracker._tracking.patches",
    "progressbar_tracker.integrations._rich_hooks",
    "progressbar_tracker.integrations.rich",
)


def parse_markup(module: ModuleType, text: str) -> str:
    """Return a text without the markup of a copy of rich."""
    try:
        return str(module.Text.from_markup(text).plain)
    except Exception:  # noqa: BLE001 - MarkupError: a text in brackets
        return text


class TaskMirrors:
    """The items of one progress.

    Args:
        module: ``rich.progress``, or a copy of it.
        progress: The progress. It holds this object, and not the other way round.
        labels: The user's labels.
        unit: Unit of the tasks; by default bytes if a column shows these.
        is_enabled: Returns whether new items are shown; ``None`` if the program itself has asked for them.

    Attributes:
        module: As above.
        is_explicit: Whether the program itself has asked for the items.
    """

    def __init__(
        self,
        module: ModuleType,
        progress: Any,
        labels: Labels,
        unit: str | None = None,
        *,
        is_enabled: Callable[[], bool] | None = None,
    ) -> None:
        self._progress = weakref.ref(progress)
        self.module = module
        self._package = module.__name__.rpartition(".")[0]
        self._labels = labels
        self.unit = unit or find_unit(progress)
        self.is_explicit = is_enabled is None
        self._is_enabled = is_enabled or (lambda: True)
        self._runs: dict[int, PlacedMirror] = {}  # the latest one of each task
        self._outer_error_id = id(sys.exception())  # raised before, so not by the block
        setattr(progress, TASKS_ATTRIBUTE, self)

    def mirror_tasks(self, frame: FrameType) -> None:
        """Show the tasks that are neither shown nor finished."""
        progress = self._progress()
        for task in () if progress is None else progress.tasks:
            self.mirror_task(task, frame, age_seconds=compute_age(task))

    def mirror_new_task(self, task_id: int, frame: FrameType) -> None:
        """Show a task that was just added."""
        progress = self._progress()
        # By the private mapping if there is one: a search in the list takes long with many tasks.
        task = getattr(progress, "_tasks", {}).get(task_id)
        if task is None and progress is not None:
            task = next((task for task in reversed(progress.tasks) if task.id == task_id), None)
        if task is not None:
            self.mirror_task(task, frame)

    def mirror_task(self, task: Any, frame: FrameType, *, age_seconds: float = 0.0) -> None:
        """Show a task that has run for some seconds, unless it is shown or finished already."""
        previous = self._runs.get(task.id)
        progress = self._progress()
        if (previous is not None and previous.sample().status == "running") or task.finished or progress is None:
            return
        if not self._is_enabled():
            return
        labels: Labels = {**self._labels}
        item_id = labels.get("id")
        if item_id is not None:
            labels["id"] = f"{item_id}/{task.id}"
        elif previous is not None:
            labels["id"] = previous.id  # a task that starts again stays one item
        adding_frame = find_adding_frame(frame, self._package) or frame
        method_names = _list_method_names(frame, adding_frame)
        unit = self.unit if method_names.isdisjoint(_FILE_METHOD_NAMES) else "B"
        run = make_run(PlacedMirror, labels, title="task" if self.is_explicit else None, unit=unit)
        if previous is not None and not self.is_explicit:
            run.title = previous.title
        self._runs[task.id] = run
        self._hook_reset(task)
        text = str(task.description)
        run.place(adding_frame, indent=len(text) - len(text.lstrip()), enclosing_run=find_enclosing_bar(adding_frame))
        run.is_entered = "track" in method_names  # a loop of rich
        add_open_bar(run, adding_frame)
        start_mirror(
            run,
            find_user_frame(adding_frame, self._package.partition(".")[0]),
            _TaskReader(self, progress, task, unit, has_own_title=run.has_own_title),
            age_seconds=age_seconds,
        )
        run.make_current()

    def _hook_reset(self, task: Any) -> None:
        """Detect a restart: ``Progress.reset()`` or a new total can make a finished task run again."""
        task_reference = weakref.ref(task)

        def reset() -> None:
            task = task_reference()
            assert task is not None
            run = self._runs.get(task.id)
            if run is not None:
                call_safely(_end_finished_run, run)
            type(task)._reset(task)
            call_safely(self.mirror_task, task, sys._getframe(1))

        setattr(task, _RESET_METHOD, reset)

    def find_loop_run(self, task_id: int) -> PlacedMirror | None:
        """Return the run of a task whose loop begins, which ends with the loop if that is stopped."""
        run = self._runs.get(task_id)
        if run is not None and isinstance(run.read, _TaskReader) and (stop := allow_stop(run)) is not None:
            run.read.stop = stop
        return run

    def end_task(self, task_id: int, frame: FrameType) -> None:
        """End the run of a task that the program removes."""
        run = self._runs.pop(task_id, None)
        if run is not None:
            self._end_run(run, frame)

    def end_tasks(self, frame: FrameType) -> None:
        """End the runs of a stopped progress. The calling frame and the current exception decide how."""
        for run in list(self._runs.values()):  # other threads may add runs
            self._end_run(run, frame)

    def _end_run(self, run: PlacedMirror, frame: FrameType) -> None:
        if run.status != "running":
            return
        error = sys.exception()
        if error is not None and id(error) == self._outer_error_id:
            error = None
        run.poll()
        if run.is_done or (error is None and run.total is None):
            run.end("succeeded")
        elif error is None:
            run.end("stopped")
        elif isinstance(error, GeneratorExit) or not _is_block_exit(frame):
            # A loop that is left early, or a finally or except clause: the exception may or may not end the program.
            run.abandon()
        else:
            run.end(*classify_error(error))

    def release(self) -> None:
        """End the runs, because the program shows the progress itself."""
        for run in self._runs.values():
            run.end("succeeded" if run.is_done else "stopped")


def _end_finished_run(run: PlacedMirror) -> None:
    """Sample a task that may have finished after the last sample. Its new total is that of its next run."""
    total = run.total
    run.sample()
    if run.status == "succeeded" and run.total is not None:
        run.total = total if total is not None and total <= run.position else run.position


def _is_block_exit(frame: FrameType | None) -> bool:
    """Return whether the end of a block has called ``stop``, perhaps that of a subclass."""
    while frame is not None and (frame.f_code.co_name == "stop" or _is_hook(frame)):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "__exit__"


def _is_hook(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _HOOK_MODULE_NAMES


def _list_method_names(frame: FrameType | None, adding_frame: FrameType) -> set[str]:
    """Return the names of rich's functions through which the program adds a task."""
    names = set()
    while frame is not None and frame is not adding_frame:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return names


def find_unit(progress: Any) -> str:
    """Return the unit of the tasks: bytes if a column shows these."""
    return "B" if any(type(column).__name__ in _BYTE_COLUMN_NAMES for column in progress.columns) else "it"
