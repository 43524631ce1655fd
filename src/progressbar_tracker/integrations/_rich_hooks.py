"""Shows every new task of ``rich.progress``, or of a copy of it in another package.

``Progress.start`` is not replaced: subclasses override it and call it in their own order. A progress that starts again
is recognized by its live display.
"""

from __future__ import annotations

import sys
from operator import length_hint
from typing import TYPE_CHECKING, Any

from progressbar_tracker._runtime import are_loops_stoppable
from progressbar_tracker._tracking.hidden_bars import is_hidden
from progressbar_tracker._tracking.patches import Patches, call_safely

from ._rich_tasks import TASKS_ATTRIBUTE, TaskMirrors, find_adding_frame
from ._stoppable import wrap_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class RichHooks:
    """The hooks of one module.

    Args:
        module_name: ``rich.progress``, or the name of its copy.

    Attributes:
        patches: The replaced methods.
    """

    def __init__(self, module_name: str) -> None:
        self._module_name = module_name
        self.patches = Patches()

    def install(self) -> None:
        """Show the new tasks of every progress. Idempotent. The program has imported the module."""
        module = sys.modules[self._module_name]
        call_before, call_after = self.patches.call_before, self.patches.call_after
        self.patches.install(
            {
                **({(module.Progress, "track"): _wrap_track} if self._module_name == "rich.progress" else {}),
                (module.Progress, "add_task"): call_after(self._on_add_task),
                (module.Progress, "remove_task"): call_before(self._on_remove_task),
                (module.Progress, "stop"): call_before(self._on_stop),
                (module.Live, "start"): call_after(self._on_live_start),
            }
        )

    def uninstall(self) -> None:
        """Show no new tasks. Idempotent."""
        self.patches.uninstall()

    def _on_add_task(self, task_id: int, progress: Any, /, *_args: object, **_options: object) -> None:
        tasks = find_tasks(progress)
        if progress.disable or (tasks is not None and tasks.is_explicit):
            return
        frame = sys._getframe(1)
        if is_hidden(frame, "rich"):
            return
        if tasks is None:
            if _is_drawn_for_another(find_adding_frame(frame, self._module_name.rpartition(".")[0])):
                return
            module = sys.modules[self._module_name]
            tasks = TaskMirrors(module, progress, {}, is_enabled=lambda: self.patches.is_installed)
        tasks.mirror_new_task(task_id, frame)

    def _on_remove_task(self, progress: Any, /, task_id: int) -> None:
        tasks = find_tasks(progress)
        if tasks is not None and not tasks.is_explicit:
            tasks.end_task(task_id, sys._getframe(1))

    def _on_stop(self, progress: Any, /) -> None:
        tasks = find_tasks(progress)
        if tasks is not None and not tasks.is_explicit:
            tasks.end_tasks(sys._getframe(1))

    def _on_live_start(self, _result: object, live: Any, /, *_args: object, **_options: object) -> None:
        """Show the unfinished tasks of a progress that starts again."""
        tasks = find_tasks(getattr(getattr(live, "_get_renderable", None), "__self__", None))
        if tasks is not None and not tasks.is_explicit:
            tasks.mirror_tasks(sys._getframe(1))


class _LoopSource:
    """The source of a loop of rich, whose run is known when the loop begins."""

    def __init__(self, progress: Any, source: Any) -> None:
        self._progress = progress
        self._source = source

    def __length_hint__(self) -> int:
        return length_hint(self._source)

    def __iter__(self) -> Iterator[Any]:
        source = iter(self._source)
        task_id = sys._getframe(1).f_locals.get("task_id")  # the generator of rich
        wrapped: Iterator[Any] | None = call_safely(self._wrap, task_id, source)
        return source if wrapped is None else wrapped

    def _wrap(self, task_id: Any, source: Iterator[Any]) -> Iterator[Any]:
        tasks = find_tasks(self._progress)
        run = None if tasks is None else tasks.find_loop_run(task_id)
        return wrap_iterator(run, source)


def _wrap_track(original: Callable[..., Any]) -> Callable[..., Any]:
    def track(self: Any, sequence: Any, *args: Any, **options: Any) -> Any:
        source = _LoopSource(self, sequence) if are_loops_stoppable() else sequence
        return original(self, source, *args, **options)

    return track


def find_tasks(progress: object) -> TaskMirrors | None:
    """Return the items of a progress, or ``None``."""
    # Not by __dict__: CPython makes all later attribute accesses of such an object slower.
    tasks = getattr(progress, TASKS_ATTRIBUTE, None)
    return tasks if isinstance(tasks, TaskMirrors) else None


def _is_drawn_for_another(frame: FrameType | None) -> bool:
    """Return whether a bar that is shown already draws itself with rich: that of ``tqdm.rich``, or one of ours."""
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    return name == "tqdm.rich" or name.partition(".")[0] == "progressbar_tracker"
