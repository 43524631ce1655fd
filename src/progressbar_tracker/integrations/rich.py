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
    from rich.progress import Progress

from progressbar_tracker._models import format_value
from progressbar_tracker._text import clean_label
from progressbar_tracker._tracking import tracker
from progressbar_tracker._tracking.patches import call_safely

from ._mirrored import make_mirror
from ._rich_display import select_display
from ._rich_hooks import RichHooks, find_tasks
from ._rich_tasks import TaskMirrors, parse_markup

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable
    from typing import Unpack

    from rich.progress import TaskID

    from progressbar_tracker._tracking.creation import HasSender
    from progressbar_tracker._tracking.tracker import Tracker, TrackOptions

    from ._mirrored import Labels

__all__ = ["install", "mirror", "track", "uninstall"]

P = TypeVar("P", bound=Progress)
T = TypeVar("T")

_RICH_PROGRESS: Final = sys.modules[Progress.__module__]
_hooks = RichHooks(Progress.__module__)


def install() -> None:
    """Show every new task of rich in this process, tasks of libraries included.

    The function replaces methods of rich's classes. A disabled progress is not shown. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    _hooks.install()


def uninstall() -> None:
    """Stop showing new tasks. Idempotent.

    Tasks that are shown already stay on the server; their result is then derived from their counts.

    Example:
        >>> uninstall()
    """
    _hooks.uninstall()


class _Methods:
    """Replacements for the methods that a progress calls once a task.

    The methods become attributes of the progress. A new ``__class__`` would be simpler, but makes each update 50 %
    slower: an object that changes its class loses the interpreter's fast attribute access.
    """

    def __init__(self, progress: Progress, tasks: TaskMirrors) -> None:
        self._progress = weakref.ref(progress)
        self._tasks = tasks
        for name in ("start", "stop", "add_task", "remove_task"):
            setattr(progress, name, getattr(self, name))

    @property
    def progress(self) -> Progress:
        progress = self._progress()
        assert progress is not None  # only the progress calls these methods
        return progress

    def start(self) -> None:
        progress = self.progress
        type(progress).start(progress)
        call_safely(self._tasks.mirror_tasks, sys._getframe(1))

    def stop(self) -> None:
        progress = self.progress
        try:
            type(progress).stop(progress)
        finally:
            call_safely(self._tasks.end_tasks, sys._getframe(1))

    def add_task(self, *args: Any, **options: Any) -> TaskID:
        progress = self.progress
        task_id = type(progress).add_task(progress, *args, **options)
        call_safely(self._tasks.mirror_new_task, task_id, sys._getframe(1))
        return task_id

    def remove_task(self, task_id: TaskID) -> None:
        call_safely(self._tasks.end_task, task_id, sys._getframe(1))
        progress = self.progress
        type(progress).remove_task(progress, task_id)


def mirror(progress: P, *, unit: str | None = None, **labels: Unpack[Labels]) -> P:
    """Show the current and future tasks of a ``rich.progress.Progress`` on the server.

    Args:
        progress: The progress, before or after its start.
        unit: Unit of the tasks; by default ``"B"`` if a column shows bytes, else ``"it"``.
        **labels: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval`` and ``client`` of ``track()``. An item's id is the ``id``, a slash and the
            task's number. The task's description is the default title.

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
    installed = find_tasks(progress)
    if installed is not None and installed.is_explicit:
        raise ValueError("progress is shown already")
    make_mirror(labels, title="", unit=unit or "it")  # validates the labels
    if installed is not None:
        installed.release()
    tasks = TaskMirrors(_RICH_PROGRESS, progress, labels, unit)
    _Methods(progress, tasks)
    tasks.mirror_tasks(sys._getframe(1))
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
        **options: Options of ``progressbar_tracker.track()``. Without a ``title`` the ``description`` is the title, as
            in ``rich.progress.track()``. The bar is drawn on rich's console, by default only if that is a terminal.

    Raises:
        TypeError, ValueError: As in ``progressbar_tracker.track()``.

    Example:
        >>> sum(track([1, 2, 3], description="Adding", display=False))
        6
    """
    display = options.pop("display", None)
    description = options.get("description")
    if isinstance(description, str) and options.get("title") is None:
        options["title"] = clean_label(parse_markup(_RICH_PROGRESS, description)) or None
        del options["description"]
    tracked = tracker.track(iterable, display=False, **options)
    tracked._run.display = select_display(display)
    return tracked
