"""A run that shows somebody else's bar: nothing is counted here, the other bar is read whenever the sender looks.

The other bar is never told of it, so it cannot be slowed or broken by it. It is read in the sender's thread through a
function, which holds it weakly; when it is gone, what was seen last is the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from progressbar_tracker._models import is_complete
from progressbar_tracker._text import clean_number

from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from progressbar_tracker._endings import FatalErrors
    from progressbar_tracker._models import Status
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._sender.snapshot import Snapshot

    from .run import RunOptions


class Reading(NamedTuple):
    """What another bar showed at one instant. A completed count that is no number leaves the last one."""

    completed: object
    total: object
    title: str | None
    description: str
    unit: str
    has_ended: bool = False  # nobody said how


class Mirror(Run):
    """The run of another bar.

    Args:
        id: The item's id, or ``None`` to have one made.
        options: What is fixed.
        sender: Who sends it, if anybody.

    Attributes:
        read: Returns the other bar's state, or ``None`` when it is gone. Called from the sender's thread; what it
            raises is taken as ``None``.
    """

    __slots__ = ("has_own_title", "left_early", "outer_error_id", "read")

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__(id, options, sender)
        self.read: Callable[[], Reading | None] | None = None
        self.has_own_title = False  # the title is the user's own, and stays
        self.left_early = False  # its loop was, in a block
        self.outer_error_id = 0  # the id() of what was being handled when it began, which is not its own error

    def poll(self) -> bool:
        """Read the other bar, and return whether it has ended. Takes no lock, for a finalizer may call it."""
        read = self.read
        return read is not None and self._apply_reading(read)

    def _apply_reading(self, read: Callable[[], Reading | None], *, is_final: bool = False) -> bool:
        try:
            reading = read()
        except Exception:  # noqa: BLE001 - it is read while others change it, and it is theirs: the next look may do
            return False
        if reading is None:
            return True
        completed = clean_number(reading.completed)
        total = None if reading.total is None else clean_number(reading.total)
        if self.read is not read and not is_final:
            return False  # another thread has ended the run since, with a later reading
        if completed is not None:
            self._base = completed
        self.total = total
        if not self.has_own_title and reading.title:
            self.title = reading.title
        self.description = reading.description
        if reading.unit != self.options.unit:
            self.options = self.options._replace(unit=reading.unit)
        return reading.has_ended

    def _poll_finally(self) -> None:
        read, self.read = self.read, None
        if read is not None:
            self._apply_reading(read, is_final=True)

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the other bar's state now: ``before`` itself where nothing has changed since."""
        if self.status == "running" and self.poll() and not self.in_block:
            self.abandon()
        return super().sample(before)

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run with what the other bar shows now, unless it has ended."""
        if self.status == "running":
            self._poll_finally()
            super().end(status, error)

    def abandon(self) -> None:
        """Nobody will end the run any more: it has succeeded if all is done, else it is left early."""
        if self.status != "running":
            return
        self._poll_finally()
        if self.is_done:
            self.end("succeeded")
        else:
            super().abandon()

    def finalize(self, fatal_errors: FatalErrors) -> None:
        """Settle the end, for the process ends now. What is done is done, whatever the process dies of."""
        if self.status == "running":
            self._poll_finally()
            if self.is_done:
                self.status = "succeeded"
        super().finalize(fatal_errors)

    @property
    def is_done(self) -> bool:
        """Whether all of a known total is done."""
        return self.total is not None and is_complete(self._base, self.total)


def start_mirror(
    run: Mirror, frame: FrameType, read: Callable[[], Reading | None], *, parent: Run | None = None
) -> None:
    """Show what ``read`` returns from now on.

    Args:
        run: A run that is not begun yet.
        frame: A frame of the user's code.
        read: See ``Mirror.read_metrics``. Called in the sender's thread: it takes no lock that anybody works under.
        parent: The run it is inside of, where that is another than this thread's.
    """
    run.read = read
    run.poll()
    run.start(frame, in_block=False)
    if parent is not None:
        run.parent = parent
    if run.sender is not None:
        run.sender.add(run)


def find_user_frame(frame: FrameType | None, *packages: str) -> FrameType:
    """Return the innermost frame that is neither of these packages' nor of this one's."""
    here = frame
    while here is not None and here.f_back is not None:
        if here.f_globals.get("__name__", "").partition(".")[0] not in (*packages, "progressbar_tracker"):
            break
        here = here.f_back
    assert here is not None
    return here
