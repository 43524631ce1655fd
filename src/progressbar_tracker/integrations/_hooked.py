"""Items of the bars that another library draws: how they start, how they end, and their titles.

A module for a library replaces few methods of it, which the library calls once a bar. No error of these hooks reaches
the program. The sender's thread reads the count where the library keeps it.

The end of a bar follows from its count and from the exception that is being handled:

* The total is reached or unknown: *succeeded*.
* The total is known and not reached: *stopped*.
* An exception leaves the block of the bar: *failed*, or *stopped* if it is a request to stop.
* A generator is released, or the bar is closed in a ``finally``: left early, as with ``track()``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from progressbar_tracker._log import DEBUG, log
from progressbar_tracker._text import clean_label
from progressbar_tracker._tracking.creation import create_run
from progressbar_tracker._tracking.mirror import Mirror, find_user_frame, start_mirror
from progressbar_tracker._tracking.nesting import PlacedMirror, has_open_bars
from progressbar_tracker._tracking.patches import Patches
from progressbar_tracker._tracking.run import classify_error

from ._enclosing_loops import add_open_bar, find_enclosing_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from types import FrameType

    from progressbar_tracker._tracking.mirror import Reading
    from progressbar_tracker._tracking.patches import Wrapper
    from progressbar_tracker._tracking.run import Run


def clean_title(text: object) -> str:
    r"""Return a label of a bar without escape sequences, surrounding spaces and a colon at the end.

    >>> clean_title("\x1b[1mLoading\x1b[0m : "), clean_title(None)
    ('Loading', '')
    """
    return "" if text is None else clean_label(text).removesuffix(":").rstrip()


class HookedBars:
    """The runs of a library's bars, which are held weakly, and the hooks that start and end them.

    Args:
        packages: The packages whose code does not count as the user's.
        runs: The mapping of bars to runs, if the bars allow no weak references.

    Attributes:
        patches: The hooks.
    """

    def __init__(self, *packages: str, runs: MutableMapping[Any, Mirror] | None = None) -> None:
        self._packages = (*packages, "contextlib")
        self._runs: MutableMapping[Any, Mirror] = WeakKeyDictionary() if runs is None else runs
        self.patches = Patches()

    def find_run(self, bar: object) -> Mirror | None:
        """Return the running run of a bar."""
        run = self._runs.get(bar)
        return run if run is not None and run.status == "running" else None

    def start(
        self,
        bar: object,
        frame: FrameType,
        read: Callable[[], Reading | None],
        *,
        unit: str = "it",
        is_current: bool = True,
        parent: Run | None = None,
    ) -> Mirror:
        """Show a bar that starts now.

        Args:
            bar: The object by which the other methods find the run.
            frame: A frame that the user's code has called.
            read: See ``Mirror.read``.
            unit: Unit of the counts.
            is_current: Make it the parent of the bars that start in its loop or block. A bar without these may be
                inside or beside other ones, see ``PlacedMirror``.
            parent: The enclosing run, if the library knows it.
        """
        is_certain = parent is not None or (is_current and not has_open_bars())
        run: Mirror = create_run(Mirror if is_certain else PlacedMirror, unit=unit)
        run.outer_error_id = id(sys.exception())
        frame = find_user_frame(frame, *self._packages)
        if isinstance(run, PlacedMirror):
            run.place(frame, enclosing_run=find_enclosing_bar(frame))
        start_mirror(run, frame, read, parent=parent)
        if is_current:
            enter(run)
        else:
            add_open_bar(run, frame)
        self._runs[bar] = run
        return run

    def install(self, list_hooks: Callable[[], Mapping[tuple[Any, str], Wrapper]]) -> None:
        """Replace the functions of a library: all of them, or none of a version that lacks one. Idempotent.

        Args:
            list_hooks: Returns the wrappers, see ``Patches.install``. It imports modules of the library.
        """
        try:
            wrappers = list_hooks()
            for owner, name in wrappers:
                vars(owner)[name]  # defined by the owner itself
        except Exception as error:  # noqa: BLE001 - tracking never hurts the tracked program
            log(DEBUG, "The bars of this version of %s are not shown: %r", self._packages[0], error)
        else:
            self.patches.install(wrappers)

    def uninstall(self) -> None:
        """Put back the original functions. Idempotent."""
        self.patches.uninstall()


def find_caller() -> FrameType:
    """Return the frame that has called the hooked function, for an observer."""
    return find_user_frame(sys._getframe(1))  # the frames in between are of this package


def enter(run: Mirror) -> None:
    """Make a run the parent of those that start in its loop or block, which begins now."""
    run.is_entered = True
    run.make_current()


def get_current_error(run: Mirror) -> BaseException | None:
    """Return the exception that is being handled, unless it was handled already when the run started."""
    error = sys.exception()
    return None if error is None or id(error) == run.outer_error_id else error


def end_block(run: Mirror, error: BaseException | None, *, is_complete: bool | None = None) -> None:
    """End the run of a block or loop.

    Args:
        run: A run that may have ended.
        error: The exception that leaves the block.
        is_complete: Whether all is done. By default the total decides; an unknown one is reached.
    """
    if run.status != "running":
        return
    if isinstance(error, GeneratorExit):
        run.abandon()
    elif error is not None:
        run.end(*classify_error(error))
    else:
        run.poll()
        if is_complete is None:
            is_complete = run.total is None or run.is_done
        run.end("succeeded" if is_complete else "stopped")


def end_explicitly(run: Mirror, *, is_complete: bool | None = None) -> None:
    """End the run of a bar that the program closes. In a ``finally``, the exception may end the program, or not."""
    if get_current_error(run) is None:
        end_block(run, None, is_complete=is_complete)
    else:
        run.abandon()
