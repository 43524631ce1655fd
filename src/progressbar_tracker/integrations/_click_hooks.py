"""Shows every new bar of ``click``, or of a copy of it in another package."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from progressbar_tracker._log import DEBUG, log
from progressbar_tracker._tracking.mirror import Reading

from ._hooked import HookedBars, clean_title, end_block, find_caller, get_current_error
from ._stoppable import wrap_iterator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker._tracking.patches import Wrapper


class _BarReader:
    """Reads a bar, held weakly."""

    __slots__ = ("_bar", "_label", "_title")

    def __init__(self, bar: object) -> None:
        self._bar = weakref.ref(bar)
        self._label: object = None
        self._title = ""

    def __call__(self) -> Reading | None:
        bar: Any = self._bar()
        if bar is None:
            return None
        if bar.label is not self._label:
            self._label, self._title = bar.label, clean_title(bar.label)
        # Steps below update_min_steps wait in an attribute of their own.
        return Reading(bar.pos + bar._completed_intervals, bar.length, self._title, "", unit="it")


class _LoopListener:
    """Ignores the end of a loop: the block ends the run."""

    __slots__ = ()

    def on_exhausted(self) -> None:
        """Do nothing."""

    def on_released(self) -> None:
        """Do nothing."""


class ClickHooks:
    """The hooks of one module.

    Args:
        module_name: ``click._termui_impl``, or the name of its copy. The program has imported it.
    """

    def __init__(self, module_name: str) -> None:
        self._module_name = module_name
        self.bars = HookedBars(module_name.partition(".")[0])

    def install(self) -> None:
        """Show every new bar. Idempotent."""
        self.bars.install(self._list_hooks)

    def _list_hooks(self) -> dict[tuple[Any, str], Wrapper]:
        bar_class = sys.modules[self._module_name].ProgressBar
        return {
            (bar_class, "__enter__"): self.bars.patches.call_before(self._start_run),
            (bar_class, "generator"): self._wrap_generator,
            (bar_class, "__exit__"): self.bars.patches.call_before(self._end_run),
        }

    def _start_run(self, bar: Any, /) -> None:
        if not getattr(bar, "hidden", False) and self.bars.find_run(bar) is None:
            self.bars.start(bar, find_caller(), _BarReader(bar))

    def _wrap_generator(self, original: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def generator(bar: Any) -> Iterator[Any]:
            return self._count_loop(bar, original(bar))

        return generator

    def _count_loop(self, bar: Any, loop: Iterator[Any]) -> Iterator[Any]:
        """Return an iterator that counts a loop which click does not count."""
        try:
            run = self.bars.find_run(bar)
            bar.iter = wrap_iterator(run, bar.iter)  # before the loop's first step
            return loop if run is None or _is_counting(bar) else run.wrap_iterator(loop, _LoopListener())
        except Exception as error:  # noqa: BLE001 - tracking never hurts the tracked program
            log(DEBUG, "A loop of click is not counted: %r", error)
            return loop

    def _end_run(self, bar: Any, /, *_error: object) -> None:
        run = self.bars.find_run(bar)
        if run is not None:
            run.poll()
            end_block(run, get_current_error(run), is_complete=bar.finished or run.is_exhausted or run.is_done)


def _is_counting(bar: Any) -> bool:
    return bool(bar._is_atty) if hasattr(bar, "_is_atty") else not bar.is_hidden
