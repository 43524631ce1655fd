"""A run that shows a bar of another library: it is read at each sample, and not counted here.

The other bar does not know of its mirror, so it is neither slowed nor broken by it. The sender's thread reads it
through a function that holds it weakly. When the bar is gone, its last state stays.
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

    from .run_options import RunOptions


class Reading(NamedTuple):
    """The state of another bar at one instant. If ``completed`` is not a number, the last count stays.

    Attributes:
        has_ended: The bar has ended in an unknown way.
        seconds_since_end: The age of that end, if the bar knows it.
        is_hidden: The program does not show the bar for now.
    """

    completed: object
    total: object
    title: str | None
    description: str
    unit: str
    has_ended: bool = False
    seconds_since_end: float = 0.0
    is_hidden: bool = False


class Mirror(Run):
    """The run of another bar.

    Args:
        id: The item's id, or ``None`` to have one made.
        options: The options that do not change.
        sender: The sender, or ``None`` if the run is not sent.

    Attributes:
        is_entered: The bar has a loop or block: the bars in it are certainly inside it.
        read: Returns the other bar's state, or ``None`` when it is gone. Called from the sender's thread. After an
            exception the last state stays.
    """

    __slots__ = ("_is_hidden", "has_own_title", "is_entered", "left_early", "outer_error_id", "read")

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__(id, options, sender)
        self.read: Callable[[], Reading | None] | None = None
        self._is_hidden = False
        self.is_entered = False
        self.has_own_title = False  # the user's title, which stays
        self.left_early = False  # the loop in its block
        self.outer_error_id = 0  # id() of the exception that was being handled at the start: not an error of this run

    def poll(self) -> bool:
        """Read the other bar, and return whether it has ended. Takes no lock, because a finalizer may call it."""
        read = self.read
        return read is not None and self._apply_reading(read)

    def _apply_reading(self, read: Callable[[], Reading | None], *, is_final: bool = False) -> bool:
        try:
            reading = read()
        except Exception:  # noqa: BLE001 - other threads change it meanwhile: the next read may succeed
            return False
        if reading is None:
            return True
        completed = clean_number(reading.completed)
        total = None if reading.total is None else clean_number(reading.total)
        if self.read is not read and not is_final:
            return False  # another thread has ended the run meanwhile, with a later reading
        if completed is not None:
            self._base = completed
        self.total = total
        if not self.has_own_title and reading.title:
            self.title = reading.title
        self.description = reading.description
        self._is_hidden = reading.is_hidden
        if reading.unit != self.options.unit:
            self.options = self.options._replace(unit=reading.unit)
        if reading.has_ended and self.status == "running" and not self.in_block:
            self.record_end(max(reading.seconds_since_end, 0.0))
        return reading.has_ended

    def _poll_finally(self) -> None:
        read, self.read = self.read, None
        if read is not None:
            self._apply_reading(read, is_final=True)

    def is_running(self) -> bool:
        """Return whether the run and the other bar have not ended."""
        if self.status == "running" and self.poll() and not self.in_block:
            self.abandon()
        return self.status == "running"

    @property
    def is_hidden(self) -> bool:
        """Whether the program does not show the other bar for now."""
        return self._is_hidden

    @property
    def is_skippable(self) -> bool:
        """Whether an ended run that was never sent can be skipped: always if the program has not shown it either."""
        return super().is_skippable or (self._is_hidden and self.status != "running")

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the other bar's state now, or ``before`` itself if it is unchanged."""
        self.is_running()
        return super().sample(before)

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run with the present state of the other bar, unless it has ended."""
        if self.status == "running":
            self._poll_finally()
            super().end(status, error)

    def abandon(self) -> None:
        """End the run without a known outcome: succeeded if its total is reached, else left early."""
        if self.status != "running":
            return
        self._poll_finally()
        if self.is_done:
            self.end("succeeded")
        else:
            super().abandon()

    def finalize(self, fatal_errors: FatalErrors) -> None:
        """Make the end state final, because the process ends now. A completed run has succeeded in any case."""
        if self.status == "running":
            self._poll_finally()
            if self.is_done:
                self.record_end()
                self.status = "succeeded"
        super().finalize(fatal_errors)

    @property
    def has_unfinished_loop(self) -> bool:
        """Whether its loop was left early, as the other bar shows or as it was counted here."""
        return self.left_early or super().has_unfinished_loop

    @property
    def is_done(self) -> bool:
        """Whether a known total is reached."""
        return self.total is not None and is_complete(self._base, self.total)


def start_mirror(
    run: Mirror,
    frame: FrameType,
    read: Callable[[], Reading | None],
    *,
    parent: Run | None = None,
    age_seconds: float = 0.0,
) -> None:
    """Start a run that shows the results of ``read``.

    Args:
        run: A run that is not started yet.
        frame: A frame of the user's code.
        read: See ``Mirror.read``. Called in the sender's thread: it must not wait for a lock of the program.
        parent: The enclosing run, if it is not the current one of this thread.
        age_seconds: Time since the start of the other bar.
    """
    run.read = read
    run.poll()
    run.start(frame, in_block=False, age_seconds=max(age_seconds, 0.0))
    if parent is not None:
        run.parent = parent
    if run.sender is not None:
        run.sender.add(run)


def find_user_frame(frame: FrameType | None, *packages: str) -> FrameType:
    """Return the innermost frame outside ``packages`` and this package."""
    while frame is not None and frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in (*packages, "progressbar_tracker"):
            break
        frame = frame.f_back
    assert frame is not None
    return frame
