"""One run of a tracked item, as the sender samples it.

A run ends once. Ordinary code ends it with certainty. A finalizer only shows that the loop was left: that end is
*tentative* for a moment, because the process may be dying of an exception that came through the loop's code.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from progressbar_tracker._clock import read_clock
from progressbar_tracker._config import PARENT_VARIABLE
from progressbar_tracker._endings import get_primary_failure, is_stop
from progressbar_tracker._fork import importing
from progressbar_tracker._models import (
    MAX_DESCRIPTION_LENGTH,
    MAX_ERROR_LENGTH,
    MAX_GROUP_LENGTH,
    MAX_ID_LENGTH,
    MAX_TAIL_BYTES,
    MAX_TITLE_LENGTH,
    MAX_UNIT_LENGTH,
    is_complete,
)
from progressbar_tracker._sender.snapshot import Snapshot, StaticFields
from progressbar_tracker._text import clean_int, clean_number, clean_text

from .counter import Counter
from .places import describe_place
from .run_names import ProcessToken, get_program_name, take_run_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from progressbar_tracker._endings import FatalErrors
    from progressbar_tracker._models import Number, Status
    from progressbar_tracker._output_tail import OutputTail
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._terminal.display import Display

    from .run_options import RunOptions
    from .stop import OnStop, StopSwitch

MIN_REPORTED_SECONDS: Final = 1.0  # a run of this length is sent, even if it ended before its first send
MAX_FIRST_SEND_DELAY: Final = 0.05  # seconds; a run that ends sooner costs no request

# The innermost run: a bar that is made inside the loop of another one has that as its parent. A context variable keeps
# threads and asyncio tasks apart.
_current_run: ContextVar[Run | None] = ContextVar("progressbar_tracker_run", default=None)

# Called with every run that starts, in the program's thread: an observer must be quick, take no lock and not raise.
start_observers: list[Callable[[Run], None]] = []


def find_current_run() -> Run | None:
    """Return the innermost running run of this thread or task."""
    run = _current_run.get()
    while run is not None and not run.is_running():
        run = run.parent
    return run


def format_error(error: BaseException | str) -> str:
    """Return the last line of a traceback for an exception.

    For a group it is the line of its first failure, with the number of the others.

    >>> group = ExceptionGroup("", [ValueError("bad row"), OSError(), OSError()])
    >>> format_error(ValueError("bad row")), format_error(group)
    ('ValueError: bad row', 'ValueError: bad row (and 2 others)')
    """
    if isinstance(error, str):
        return clean_text(error, MAX_ERROR_LENGTH, allow_newlines=True)
    return _format_failure(*get_primary_failure(error))


def _format_failure(error: BaseException, others: int) -> str:
    note = f" (and {others} other{'s' if others > 1 else ''})" if others else ""
    text = clean_text(error, MAX_ERROR_LENGTH, allow_newlines=True).strip()
    name = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return clean_text(name, MAX_ERROR_LENGTH - len(note), allow_newlines=True) + note


def find_inherited_parent(item_id: str) -> str | None:
    """Return the item that encloses the process, which ``run --job`` and ``exec`` put into the environment."""
    parent = clean_text(os.environ.get(PARENT_VARIABLE), MAX_ID_LENGTH)
    return parent if parent and parent != item_id else None


def make_switch(on_stop: OnStop) -> StopSwitch:
    """Return the switch of a stoppable run; few programs have one, so that its module is imported here."""
    from .stop import StopSwitch

    return StopSwitch(on_stop)


class Run(Counter):
    """One run of an item: counters, labels and the end state. It never holds the user's data.

    A program may have 100,000 runs, so values that can be shared or derived are not stored.

    Args:
        id: The item's id, or ``None`` to have one generated at its first use.
        options: The options that do not change.
        sender: The sender, or ``None`` if the run is not sent.
    """

    __slots__ = (
        "_id",
        "_number",
        "caller_code",
        "description",
        "display",
        "ended_at",
        "error",
        "in_block",
        "is_tentative",
        "options",
        "parent",
        "pinned_run_id",
        "record",
        "sender",
        "source_length",
        "started_at",
        "status",
        "stop",
        "tail",
        "title",
        "total",
        "weight",
    )  # fmt: skip

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__()
        self._id = id
        self._number = take_run_number()
        self.options = options
        self.sender = sender
        self.title: str | None = None
        self.description = ""
        self.total: Number | None = None
        self.weight = 0
        self.source_length: int | None = None  # used if there is no total
        self.status: Status | None = None  # None: not started
        self.error: str | None = None
        self.in_block = False
        self.is_tentative = False
        self.display: Display | None = None
        self.started_at = 0.0  # seconds of read_clock(), as the end
        self.ended_at: float | None = None
        self.caller_code: CodeType | None = None
        self.parent: Run | None = None
        self.record: object = None  # the reconciler's book-keeping
        self.stop: StopSwitch | None = None  # of a stoppable run that has started
        self.tail: OutputTail | None = None  # the output of a program, or the lines of log()
        self.pinned_run_id: str | None = None  # of a run that has parts in other processes, and of these parts

    def create_successor(self) -> Run:
        """Return a new run of the same item with the same labels."""
        return self._copy_labels(Run(self._id, self.options, self.sender))

    def create_detached(self) -> Run:
        """Return a run with the same labels and state that is neither sent nor drawn."""
        run = self._copy_labels(Run(self.id, self.options, None))
        run.source_length, run.status, run.error = self.source_length, self.status, self.error
        run.set(self.position)
        return run

    def _copy_labels(self, run: Run) -> Run:
        run.title, run.description, run.total, run.weight = self.title, self.description, self.total, self.weight
        run.pinned_run_id = self.pinned_run_id
        return run

    def pin_run_id(self) -> str:
        """Fix and return the id of the run, so that other processes can add parts to it."""
        self.pinned_run_id = self.run_id
        return self.pinned_run_id

    def start(self, frame: FrameType, *, in_block: bool, age_seconds: float = 0.0) -> None:
        """Start in the code of ``frame``: now, or ``age_seconds`` ago."""
        self.started_at = read_clock() - age_seconds
        self.status = "running"
        self.in_block = in_block
        self.caller_code = frame.f_code
        if self.title is None and self._id is None:
            self.title = describe_place(frame)
        self.parent = find_current_run()
        if self.options.stoppable or (self.options.stoppable is None and self.parent is None):
            self.stop = make_switch(self.options.on_stop)
        for observe in start_observers:
            observe(self)

    def is_running(self) -> bool:
        """Return whether the run has started and not ended."""
        return self.status == "running"

    def make_current(self) -> None:
        """Make this run the parent of the runs that start in this thread or task."""
        _current_run.set(self)

    @property
    def id(self) -> str:
        """The item's id: the user's, or a readable one that is generated at its first use."""
        if self._id is None:
            self._id = f"{get_program_name()}-{ProcessToken.get()}-{self._number}"
        return self._id

    @property
    def is_anonymous(self) -> bool:
        """Whether the item has no id yet. Short loops never need one."""
        return self._id is None

    @property
    def run_id(self) -> str:
        """Unique to this run, in any process."""
        return self.pinned_run_id or f"{ProcessToken.get()}-{self._number}"

    @property
    def page_url(self) -> str | None:
        """The page of the item or, after the end, of the run. ``None`` until the sender has found its server."""
        server_url = None if self.sender is None else self.sender.server_url
        if server_url is None:
            return None
        with importing:
            from urllib.parse import quote
        # Browsers resolve dots in a path, encoded or not.
        page = f"?id={self.id}" if self.id in (".", "..") else quote(self.id, safe="")
        run = "" if self.status == "running" else f"{'&' if '?' in page else '?'}run={quote(self.run_id, safe='')}"
        return f"{server_url.rstrip('/')}/items/{page}{run}"

    @property
    def part(self) -> str | None:
        """The name of this process's part of the item, or ``None`` for the item itself."""
        return self.options.part

    @property
    def interval(self) -> float:
        """Least seconds between two sends."""
        return self.options.interval

    @property
    def keep(self) -> bool:
        """Whether the item stays listed after its end."""
        return self.options.keep

    @property
    def is_nested(self) -> bool:
        """Whether it runs inside another run."""
        return self.parent is not None

    @property
    def first_send_delay(self) -> float:
        """Seconds from the start to the first send: inner bars that end within an interval cost no request."""
        return self.options.interval if self.parent is not None else min(MAX_FIRST_SEND_DELAY, self.options.interval)

    @property
    def is_hidden(self) -> bool:
        """Whether the run is not sent for now, because the program does not show it either."""
        return False

    @property
    def is_skippable(self) -> bool:
        """Whether an ended run that was never sent can be skipped. A longer one is sent after an outage."""
        if self.status not in ("succeeded", "stopped") or self.options.keep or self.pinned_run_id is not None:
            return False
        if self.tail is not None:
            return False
        shortest = max(self.first_send_delay, MIN_REPORTED_SECONDS)
        return self.ended_at is None or self.ended_at - self.started_at < shortest

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the state now, or ``before`` itself if it is unchanged."""
        # The status is read before the position: if the run ends between the two, the next sample has both.
        status, error = self.status, self.error
        total = self.source_length if self.total is None else self.total
        title = self._id if self.title is None else self.title
        description, weight = self.description, self.weight
        # The common case: at most the position has changed, and the texts are clean already.
        if before is not None:
            old_title, old_description, old_position, old_total, old_weight, old_status, _, _, _ = before
            if (
                title is old_title
                and description is old_description
                and total is old_total
                and weight is old_weight
                and status == old_status
            ):
                if self.is_at(old_position) or (completed := clean_number(self.position)) is None:
                    return before
                return Snapshot(old_title, old_description, completed, old_total, old_weight, old_status, error)
        completed = clean_number(self.position)
        return Snapshot(
            clean_text(title, MAX_TITLE_LENGTH),
            clean_text(description, MAX_DESCRIPTION_LENGTH, allow_newlines=True),
            0 if completed is None else completed,
            None if total is None else clean_number(total),
            clean_int(weight),
            status or "running",
            None if error is None else clean_text(error, MAX_ERROR_LENGTH, allow_newlines=True),
        )

    def get_static_fields(self) -> StaticFields:
        """Return the fields that are sent once, with the creation of the item."""
        group, deadline = self.options.group, self.options.deadline
        return StaticFields(
            clean_text(self.options.unit, MAX_UNIT_LENGTH),
            None if group is None else clean_text(group, MAX_GROUP_LENGTH) or None,
            find_inherited_parent(self.id) if self.parent is None else self.parent.id,
            self.options.notify,
            None if deadline is None else deadline.to_rfc3339(time.time() - (read_clock() - self.started_at)),
            self.options.stuck_after,
            self.stop is not None,
        )

    def log(self, text: object) -> None:
        """Add lines to the output tail of the run, until it ends. A part of another process's run has none."""
        if self.sender is None or self.options.part is not None or self.status not in (None, "running"):
            return
        if self.tail is None:
            with importing:
                from .tail import try_make_tail
            self.tail = try_make_tail("The lines of log()")
        if self.tail is not None:
            self.tail.add_line(clean_text(text, MAX_TAIL_BYTES, allow_newlines=True))

    def record_end(self, seconds_ago: float = 0.0) -> None:
        """Record the end at this instant, or ``seconds_ago``, unless it is recorded. The status may follow later."""
        if self.ended_at is None:
            self.ended_at = read_clock() - seconds_ago

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run, unless it has ended. For ordinary code in the program's thread."""
        if self.status == "running":
            if self.ended_at is None:
                self.ended_at = read_clock()
            if status == "succeeded" and self.stop is not None and self._has_stopped(self.stop):
                status = "stopped"
            self.error = error
            self.status = status
            if self.sender is not None:
                self.sender.ended_sources.append(self)
                if self.options.part is not None or self.sender.is_exiting:
                    # The process may be killed the moment its work is done, as the workers of a pool are.
                    self.sender.flush_if_online()
            if self.display is not None:
                self.display.finish(self)

    def _has_stopped(self, stop: StopSwitch) -> bool:
        """Return whether the program has ended the run early on request: by its loop, or without one."""
        if stop.has_loop or stop.requested_by is None:
            return stop.has_ended_loop
        total = self.source_length if self.total is None else self.total
        return total is None or not is_complete(self.position, total)

    @property
    def stop_requested(self) -> bool:
        """Whether the stop of the run was requested."""
        return self.stop is not None and self.stop.requested_by is not None

    def receive_stop(self, requested_by: str) -> None:
        """Stop the run if it is stoppable and has not ended. Called in the sender's thread."""
        if self.stop is not None and self.status == "running":
            self.stop.request(requested_by, self.id)

    def end_block(self, error: BaseException | None = None) -> None:
        """End the run of a block: by its error, or else as stopped if its loop is unfinished."""
        if error is not None:
            self.end(*classify_error(error))
        else:
            self.end("stopped" if self.has_unfinished_loop else "succeeded")

    def on_exhausted(self) -> None:
        """End the run as succeeded after its loop, unless it is in a block, which may still raise."""
        if not self.in_block:
            self.end("succeeded")

    def on_released(self) -> None:
        """Abandon the run of a loop. For finalizers, see ``abandon``."""
        if not self.in_block:
            self.abandon()

    def abandon(self) -> None:
        """End the run tentatively as stopped. For finalizers: sets attributes, appends once, waits for no lock."""
        if self.status == "running":
            self.record_end()
            self.is_tentative = True
            self.status = "stopped"
            if self.sender is not None:
                self.sender.ended_sources.append(self)
            if self.display is not None:
                self.display.try_finish(self)

    def on_source_error(self, error: BaseException) -> None:
        """End the run with an exception of its source, unless that is a stop or the run is in a block."""
        if self.in_block:
            return
        status, text = classify_error(error)
        # A cancellation may concern one step, as by a timeout, and the loop continues. Otherwise the loop releases its
        # iterator.
        if status != "stopped":
            self.end(status, text)

    def settle(self, fatal_errors: FatalErrors) -> None:
        """Make a tentative end final, because the notebook cell that it belongs to has ended.

        Args:
            fatal_errors: As in ``finalize()``, of the exception that ended the cell. A run whose code is not among them
                may continue in another cell, unless its loop was left.
        """
        is_open = self.is_tentative or (self.status == "running" and not self.in_block)
        failure = None if self.caller_code is None else fatal_errors.get(self.caller_code)
        if is_open and failure is not None:
            self.record_end()
            self.error = _format_failure(*failure)
            self.status = "failed"
            self.is_tentative = False
            if self.sender is not None:
                self.sender.ended_sources.append(self)
        if self.status != "running" and self.display is not None:
            self.display.settle(self)

    def finalize(self, fatal_errors: FatalErrors) -> None:
        """Make the end state final, because the process ends now.

        Args:
            fatal_errors: The failure of each code object that a fatal exception came through; empty without one.
        """
        if self.status == "running":
            self.record_end()
            self.is_tentative = True
            self.status = "stopped"
        if self.is_tentative and self.caller_code is not None:
            failure = fatal_errors.get(self.caller_code)
            if failure is not None:
                self.error = _format_failure(*failure)
                self.status = "failed"
        self.is_tentative = False


def classify_error(error: BaseException) -> tuple[Status, str | None]:
    """Return the status and error text of a block that was left by ``error``. A request to stop is not a failure.

    >>> classify_error(ValueError("no")), classify_error(SystemExit(0)), classify_error(KeyboardInterrupt())
    (('failed', 'ValueError: no'), ('stopped', None), ('failed', 'KeyboardInterrupt'))
    """
    return ("stopped", None) if is_stop(error) else ("failed", format_error(error))
