"""The run of a loop over a tqdm bar. Most attributes are set when one of them is first needed.

A program may have thousands of inner loops that end within milliseconds and are never sent. The program's thread
records only what no other thread can find out later: the start, the place and the parent. The first access to any other
attribute sets the rest, usually in the sender's thread. A short loop ends before that.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._clock import read_clock

from .counter import Counter, acquire_lock
from .mirror import Mirror
from .places import describe_place, is_program_file
from .run import MIN_REPORTED_SECONDS, Run, find_current_run
from .run_options import RunOptions
from .tqdm_reader import BarReader

if TYPE_CHECKING:
    from types import FrameType

    from progressbar_tracker._models import Status
    from progressbar_tracker._sender.sender import Sender

_DEFAULT_OPTIONS: Final = RunOptions().intern()


class LoopMirror(Mirror):
    """The run of a bar that has its own loop, and no options of ours.

    Args:
        bar: The bar, which is held weakly.
        frame: The frame of the user's code that creates it.
        sender: The sender.
    """

    __slots__ = ("_bar", "_is_complete", "_place")

    def __init__(self, bar: Any, frame: FrameType, sender: Sender) -> None:  # not super's: that is the cost to avoid
        now = read_clock()
        self.started_at = now - max(time.time() - bar.start_t, 0.0)
        self._bar = weakref.ref(bar)
        self._is_complete = False
        self.options = _DEFAULT_OPTIONS
        self.sender = sender
        self.status = "running"
        self.ended_at = None
        self.in_block = self.is_tentative = self.is_entered = False
        self.outer_error_id = id(sys.exception())
        self.record = None
        self.caller_code = code = frame.f_code
        # Not the frame: it would hold the user's data.
        self._place = (code.co_filename, frame.f_lineno)
        self.title = None if is_program_file(code.co_filename) else describe_place(frame)
        self.parent = find_current_run()

    if not TYPE_CHECKING:  # it would turn off the checks of attributes

        def __getattr__(self, name: str) -> Any:  # called for an attribute that is not set
            if name not in _LATE_ATTRIBUTES:
                raise AttributeError(name)
            self._complete()
            return getattr(self, name)

    def _complete(self) -> None:
        lock = acquire_lock()
        try:
            if self._is_complete:
                return
            complete = Mirror(None, self.options, self.sender)
            for name in _LATE_ATTRIBUTES:
                try:
                    object.__getattribute__(self, name)
                except AttributeError:
                    setattr(self, name, getattr(complete, name))
            if self.title is None:
                path, line = self._place
                self.title = f"{path.rpartition(os.sep)[2]}:{line}"
            bar = self._bar()
            if bar is not None:
                self.read = BarReader(bar, has_own_title=False)
            self._is_complete = True
        finally:
            lock.release()
        self.poll()

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run. A short one that was not read yet stays incomplete, because it is skipped."""
        if status != "succeeded" or self.status != "running" or not self._try_end_incomplete():
            super().end(status, error)

    def _try_end_incomplete(self) -> bool:
        lock = acquire_lock()
        try:
            ended_at = read_clock()
            if self._is_complete or ended_at - self.started_at >= MIN_REPORTED_SECONDS:
                return False
            self.ended_at, self.status = ended_at, "succeeded"
            return True
        finally:
            lock.release()

    @property
    def is_anonymous(self) -> bool:
        """Whether the item has no id yet."""
        return not self._is_complete or super().is_anonymous

    @property
    def is_skippable(self) -> bool:
        """Whether an ended run that was never sent can be skipped."""
        return super().is_skippable if self._is_complete else self.status == "succeeded"


_EARLY_ATTRIBUTES: Final = {
    "caller_code", "ended_at", "in_block", "is_entered", "is_tentative", "options", "outer_error_id", "parent",
    "record", "sender", "started_at", "status", "title",
}  # fmt: skip
_LATE_ATTRIBUTES: Final = frozenset(
    name for kind in (Counter, Run, Mirror) for name in kind.__slots__ if name not in _EARLY_ATTRIBUTES
)
