"""One run of a tracked item, as the sender sees it.

A run ends once. Ordinary code ends it with certainty; a finalizer can only say that the loop was left, and the end is
*tentative* for a moment, until it is known whether the process dies of an exception that came through the loop's code.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._config import PARENT_VARIABLE
from progressbar_tracker._endings import get_primary_failure, is_stop
from progressbar_tracker._models import (
    DESCRIPTION_LENGTH,
    ERROR_LENGTH,
    GROUP_LENGTH,
    ID_LENGTH,
    TITLE_LENGTH,
    UNIT_LENGTH,
)
from progressbar_tracker._sender.snapshot import Snapshot, StaticFields
from progressbar_tracker._text import clean_int, clean_number, clean_text, get_script_path

from .counter import LOCK_TIMEOUT, Counter, is_gil_enabled

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from progressbar_tracker._endings import FatalErrors
    from progressbar_tracker._models import Number, Status
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._terminal.display import Display

    from .deadline import Deadline

MAX_FIRST_SEND_DELAY: Final = 0.05  # seconds a run lives before it is first sent; one that ends sooner costs no request

# Which run is the innermost one here: a bar that is made inside another's loop names it as its parent. A context
# variable keeps threads and asyncio tasks apart.
_current_run: ContextVar[Run | None] = ContextVar("progressbar_tracker_run", default=None)

_run_numbers = itertools.count(1)
_run_numbers_lock = threading.Lock()  # for Pythons without the GIL, where two threads may get the same number


def _take_run_number() -> int:
    if is_gil_enabled():
        return next(_run_numbers)
    locked = _run_numbers_lock.acquire(timeout=LOCK_TIMEOUT)
    try:
        return next(_run_numbers)
    finally:
        if locked:
            _run_numbers_lock.release()


# Each is called with every run that begins, in the program's thread: it has to be quick, to take no lock and not to
# raise. For whoever tells of runs besides the sender and the display.
start_observers: list[Callable[[Run], None]] = []


class _ProcessToken:
    """A few characters that tell this process from others, made anew after a fork."""

    pid = 0
    token = ""

    @classmethod
    def get(cls) -> str:
        if cls.pid != os.getpid():
            cls.pid, cls.token = os.getpid(), os.urandom(4).hex()
        return cls.token


def make_unique_name() -> str:
    """Return a name that no other process has, and this one gives only once."""
    return f"{_ProcessToken.get()}-{_take_run_number()}"


def get_program_name() -> str:
    """Return a short name of the running program: its script's, without the ending."""
    main = get_script_path()
    stem = os.path.splitext(os.path.basename(main))[0]  # noqa: PTH119, PTH122 - on every short loop's way
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(main))  # noqa: PTH119, PTH120
    return {"": "python", "-": "python", "-c": "python", "ipykernel_launcher": "notebook"}.get(
        stem, clean_text(stem, 60)
    )


def format_error(error: BaseException | str) -> str:
    """Return ``ValueError: what it says`` for an exception, as the last line of a traceback has it.

    Of a group it is that of its first failure, and how many others there are.

    >>> group = ExceptionGroup("", [ValueError("bad row"), OSError(), OSError()])
    >>> format_error(ValueError("bad row")), format_error(group)
    ('ValueError: bad row', 'ValueError: bad row (and 2 others)')
    """
    if isinstance(error, str):
        return clean_text(error, ERROR_LENGTH, allow_newlines=True)
    return _format_failure(*get_primary_failure(error))


def _format_failure(error: BaseException, others: int) -> str:
    note = f" (and {others} other{'s' if others > 1 else ''})" if others else ""
    text = clean_text(error, ERROR_LENGTH, allow_newlines=True).strip()
    name = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return clean_text(name, ERROR_LENGTH - len(note), allow_newlines=True) + note


def find_inherited_parent(item_id: str) -> str | None:
    """Return the item that encloses the whole process, as ``run --job`` and ``exec`` say in the environment."""
    named = clean_text(os.environ.get(PARENT_VARIABLE), ID_LENGTH)
    return named if named and named != item_id else None


class RunOptions(NamedTuple):
    """What is fixed when a tracker is made. Most bars of a program share one, so it is kept once."""

    unit: str
    group: str | None
    keep: bool
    interval: float
    part: str | None = None  # the name of one process's share of an item; None is the item itself
    notify: tuple[str, ...] = ()  # whom to tell of it
    deadline: Deadline | None = None


_interned_options: dict[RunOptions, RunOptions] = {}


def intern_options(
    unit: str,
    group: str | None,
    keep: bool,
    interval: float,
    part: str | None = None,
    notify: tuple[str, ...] = (),
    deadline: Deadline | None = None,
) -> RunOptions:
    """Return the one style with these values."""
    made = RunOptions(unit, group, keep, interval, part, notify, deadline)
    if len(_interned_options) > 1000:  # a program that makes a new unit for each bar
        _interned_options.clear()
    return _interned_options.setdefault(made, made)


class Run(Counter):
    """One life of an item: counters, labels, and how it ended. What the sender samples; never the user's data.

    There may be 100,000 of them, so what can be shared or worked out is not stored.

    Args:
        id: The item's id, or ``None`` to have one made when it is first needed.
        options: What is fixed.
    """

    __slots__ = (
        "_id",
        "_number",
        "caller_code",
        "description",
        "display",
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
        "title",
        "total",
        "weight",
    )  # fmt: skip

    def __init__(self, id: str | None, options: RunOptions, sender: Sender | None) -> None:
        super().__init__()
        self._id = id
        self._number = _take_run_number()
        self.options = options
        self.sender = sender
        self.title: str | None = None
        self.description = ""
        self.total: Number | None = None
        self.weight = 0
        self.source_length: int | None = None  # that of the source, where there is no total
        self.status: Status | None = None  # None: not begun
        self.error: str | None = None
        self.in_block = False
        self.is_tentative = False
        self.display: Display | None = None
        self.started_at = 0.0  # seconds since the epoch; kept for the terminal bar and for deadlines only
        self.caller_code: CodeType | None = None
        self.parent: Run | None = None
        self.record: object = None  # the sender's own
        self.pinned_run_id: str | None = None  # of a run that has parts elsewhere, and of its parts

    def create_successor(self) -> Run:
        """Return a new run of the same item with the same labels."""
        run = Run(self._id, self.options, self.sender)
        run.title, run.description, run.total, run.weight = self.title, self.description, self.total, self.weight
        run.pinned_run_id = self.pinned_run_id
        return run

    def create_detached(self) -> Run:
        """Return a run with the same labels in the same state, which is neither sent nor drawn."""
        run = Run(self.id, self.options, None)
        run.title, run.description, run.total, run.weight = self.title, self.description, self.total, self.weight
        run.source_length, run.status, run.error, run.pinned_run_id = (
            self.source_length,
            self.status,
            self.error,
            self.pinned_run_id,
        )
        run.set(self.position)
        return run

    def pin_run_id(self) -> str:
        """Fix the run's name, so that other processes can add to it, and return it."""
        self.pinned_run_id = self.run_id
        return self.pinned_run_id

    def start(self, frame: FrameType, *, in_block: bool) -> None:
        """Begin now, in the code of ``frame``."""
        self.status = "running"
        self.in_block = in_block
        self.caller_code = frame.f_code
        if self.options.deadline is not None:
            self.started_at = time.time()
        if self.title is None and self._id is None:
            self.title = f"{frame.f_code.co_filename.rpartition(os.sep)[2]}:{frame.f_lineno}"
        outer = _current_run.get()
        while outer is not None and outer.status != "running":
            outer = outer.parent
        self.parent = outer
        for observe in start_observers:
            observe(self)

    def make_current(self) -> None:
        """From now on, a run that begins in this thread or task is an inner one of this."""
        _current_run.set(self)

    @property
    def id(self) -> str:
        """The item's id: the user's, or a readable one made when it is first needed."""
        if self._id is None:
            self._id = f"{get_program_name()}-{_ProcessToken.get()}-{self._number}"
        return self._id

    @property
    def run_id(self) -> str:
        """Tells this run from all others, of any process."""
        return self.pinned_run_id or f"{_ProcessToken.get()}-{self._number}"

    @property
    def part(self) -> str | None:
        """The name of one process's share of the item, or ``None`` for the item itself."""
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
        """Seconds before the first send: inner bars that live shorter than the interval cost no request."""
        return self.options.interval if self.parent is not None else min(MAX_FIRST_SEND_DELAY, self.options.interval)

    @property
    def is_skippable(self) -> bool:
        """Whether it has ended in a way that nobody needs to hear of if nobody heard of its beginning."""
        return self.status in ("succeeded", "stopped") and not self.options.keep and self.pinned_run_id is None

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the state now: ``before`` itself where nothing has changed since."""
        # The status is read before the position: if the run ends in between, the next sample has both.
        status, error = self.status, self.error
        total = self.source_length if self.total is None else self.total
        title = self._id if self.title is None else self.title
        description, weight = self.description, self.weight
        # Nearly always nothing but the position has moved, or not even that: then no text is looked at again.
        if before is not None:
            told_title, told_description, told_position, told_total, told_weight, told_status, _ = before
            if (
                title is told_title
                and description is told_description
                and total is told_total
                and weight is told_weight
                and status == told_status
            ):
                if self.is_at(told_position) or (completed := clean_number(self.position)) is None:
                    return before
                return Snapshot(told_title, told_description, completed, told_total, told_weight, told_status, error)
        completed = clean_number(self.position)
        return Snapshot(
            clean_text(title, TITLE_LENGTH),
            clean_text(description, DESCRIPTION_LENGTH, allow_newlines=True),
            0 if completed is None else completed,
            None if total is None else clean_number(total),
            clean_int(weight),
            status or "running",
            None if error is None else clean_text(error, ERROR_LENGTH, allow_newlines=True),
        )

    def get_static_fields(self) -> StaticFields:
        """Return what is told once, when the item is made."""
        group, deadline = self.options.group, self.options.deadline
        return StaticFields(
            clean_text(self.options.unit, UNIT_LENGTH),
            None if group is None else clean_text(group, GROUP_LENGTH) or None,
            find_inherited_parent(self.id) if self.parent is None else self.parent.id,
            self.options.notify,
            None if deadline is None else deadline.to_rfc3339(self.started_at),
        )

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run, unless it has ended. Called by ordinary code in the program's thread."""
        if self.status == "running":
            self.error = error
            self.status = status
            if self.sender is not None:
                self.sender.ended_sources.append(self)
                if self.options.part is not None or self.sender.is_exiting:
                    # The process may be ended without ceremony the moment its work is done, as a pool's workers are.
                    self.sender.flush_if_online()
            if self.display is not None:
                self.display.finish(self)

    def on_exhausted(self) -> None:
        """The loop came to its end. In a block that is not the end yet: the block may still raise."""
        if not self.in_block:
            self.end("succeeded")

    def on_released(self) -> None:
        """The loop let go. Called by a finalizer: attributes and one append, and no waiting for a lock."""
        if not self.in_block:
            self.abandon()

    def abandon(self) -> None:
        """Nobody will end the run any more. Called by finalizers, as ``released``."""
        if self.status == "running":
            self.is_tentative = True
            self.status = "stopped"
            if self.sender is not None:
                self.sender.ended_sources.append(self)
            if self.display is not None:
                self.display.try_finish(self)

    def on_source_error(self, error: BaseException) -> None:
        """An asynchronous source raised."""
        if self.in_block:
            return
        status, text = classify_error(error)
        # A cancellation may be that of one step, as by a timeout, after which the loop goes on. A loop that does not
        # go on lets go of its iterator.
        if status != "stopped":
            self.end(status, text)

    def finalize(self, fatal_errors: FatalErrors) -> None:
        """Settle the end, for the process ends now; ``fatal_errors`` is of the exception that it dies of."""
        if self.status == "running":
            self.is_tentative = True
            self.status = "stopped"
        if (
            self.is_tentative
            and self.caller_code is not None
            and (found := fatal_errors.get(self.caller_code)) is not None
        ):
            self.error = _format_failure(*found)
            self.status = "failed"
        self.is_tentative = False


def classify_error(error: BaseException) -> tuple[Status, str | None]:
    """Return how a block that was left by ``error`` has ended: a request to stop is no failure.

    >>> classify_error(ValueError("no")), classify_error(SystemExit(0)), classify_error(KeyboardInterrupt())
    (('failed', 'ValueError: no'), ('stopped', None), ('failed', 'KeyboardInterrupt'))
    """
    return ("stopped", None) if is_stop(error) else ("failed", format_error(error))
