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

from progressbar_tracker._config import PARENT
from progressbar_tracker._endings import is_stop, named_of
from progressbar_tracker._models import (
    DESCRIPTION_LENGTH,
    ERROR_LENGTH,
    GROUP_LENGTH,
    ID_LENGTH,
    TITLE_LENGTH,
    UNIT_LENGTH,
)
from progressbar_tracker._sender.snapshot import Setting, Snapshot
from progressbar_tracker._text import clean, count, script_path, whole

from .counter import LOCK_TIMEOUT, Counter, gil_enabled

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from progressbar_tracker._endings import Deaths
    from progressbar_tracker._models import Number, Status
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._terminal.display import Display

    from .deadline import Deadline

FIRST: Final = 0.05  # seconds a run lives before it is first sent; one that ends sooner costs no request

# Which run is the innermost one here: a bar that is made inside another's loop names it as its parent. A context
# variable keeps threads and asyncio tasks apart.
_current: ContextVar[Run | None] = ContextVar("progressbar_tracker_run", default=None)

_numbers = itertools.count(1)
_numbers_lock = threading.Lock()  # for Pythons without the GIL, where two threads may get the same number


def _next_number() -> int:
    if gil_enabled():
        return next(_numbers)
    locked = _numbers_lock.acquire(timeout=LOCK_TIMEOUT)
    try:
        return next(_numbers)
    finally:
        if locked:
            _numbers_lock.release()


# Each is called with every run that begins, in the program's thread: it has to be quick, to take no lock and not to
# raise. For whoever tells of runs besides the sender and the display.
observers: list[Callable[[Run], None]] = []


class _Process:
    """A few characters that tell this process from others, made anew after a fork."""

    pid = 0
    token = ""

    @classmethod
    def name(cls) -> str:
        if cls.pid != os.getpid():
            cls.pid, cls.token = os.getpid(), os.urandom(4).hex()
        return cls.token


def own_name() -> str:
    """Return a name that no other process has, and this one gives only once."""
    return f"{_Process.name()}-{_next_number()}"


def program() -> str:
    """Return a short name of the running program: its script's, without the ending."""
    main = script_path()
    stem = os.path.splitext(os.path.basename(main))[0]  # noqa: PTH119, PTH122 - on every short loop's way
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(main))  # noqa: PTH119, PTH120
    return {"": "python", "-": "python", "-c": "python", "ipykernel_launcher": "notebook"}.get(stem, clean(stem, 60))


def error_text(error: BaseException | str) -> str:
    """Return ``ValueError: what it says`` for an exception, as the last line of a traceback has it.

    Of a group it is that of its first failure, and how many others there are.

    >>> error_text(ValueError("bad row")), error_text(ExceptionGroup("", [ValueError("bad row"), OSError(), OSError()]))
    ('ValueError: bad row', 'ValueError: bad row (and 2 others)')
    """
    if isinstance(error, str):
        return clean(error, ERROR_LENGTH, lines=True)
    return _named_text(*named_of(error))


def _named_text(error: BaseException, others: int) -> str:
    note = f" (and {others} other{'s' if others > 1 else ''})" if others else ""
    text = clean(error, ERROR_LENGTH, lines=True).strip()
    name = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return clean(name, ERROR_LENGTH - len(note), lines=True) + note


def inherited_parent(item_id: str) -> str | None:
    """Return the item that encloses the whole process, as ``run --job`` and ``exec`` say in the environment."""
    named = clean(os.environ.get(PARENT), ID_LENGTH)
    return named if named and named != item_id else None


class Style(NamedTuple):
    """What is fixed when a tracker is made. Most bars of a program share one, so it is kept once."""

    unit: str
    group: str | None
    keep: bool
    interval: float
    part: str | None = None  # the name of one process's share of an item; None is the item itself
    notify: tuple[str, ...] = ()  # whom to tell of it
    deadline: Deadline | None = None


_styles: dict[Style, Style] = {}


def style(
    unit: str,
    group: str | None,
    keep: bool,
    interval: float,
    part: str | None = None,
    notify: tuple[str, ...] = (),
    deadline: Deadline | None = None,
) -> Style:
    """Return the one style with these values."""
    made = Style(unit, group, keep, interval, part, notify, deadline)
    if len(_styles) > 1000:  # a program that makes a new unit for each bar
        _styles.clear()
    return _styles.setdefault(made, made)


class Run(Counter):
    """One life of an item: counters, labels, and how it ended. What the sender samples; never the user's data.

    There may be 100,000 of them, so what can be shared or worked out is not stored.

    Args:
        id: The item's id, or ``None`` to have one made when it is first needed.
        style: What is fixed.
    """

    __slots__ = (
        "_id", "_number", "code", "description", "display", "error", "in_block", "length", "parent", "record",
        "run_name", "sender", "started_at", "status", "style", "tentative", "title", "total", "weight",
    )  # fmt: skip

    def __init__(self, id: str | None, style: Style, sender: Sender | None) -> None:
        super().__init__()
        self._id = id
        self._number = _next_number()
        self.style = style
        self.sender = sender
        self.title: str | None = None
        self.description = ""
        self.total: Number | None = None
        self.weight = 0
        self.length: int | None = None  # that of the source, where there is no total
        self.status: Status | None = None  # None: not begun
        self.error: str | None = None
        self.in_block = False
        self.tentative = False
        self.display: Display | None = None
        self.started_at = 0.0  # seconds since the epoch; kept for the terminal bar and for deadlines only
        self.code: CodeType | None = None
        self.parent: Run | None = None
        self.record: object = None  # the sender's own
        self.run_name: str | None = None  # of a run that has parts elsewhere, and of its parts

    def again(self) -> Run:
        """Return a new run of the same item with the same labels."""
        run = Run(self._id, self.style, self.sender)
        run.title, run.description, run.total, run.weight = self.title, self.description, self.total, self.weight
        run.run_name = self.run_name
        return run

    def detached(self) -> Run:
        """Return a run with the same labels in the same state, which is neither sent nor drawn."""
        run = Run(self.id, self.style, None)
        run.title, run.description, run.total, run.weight = self.title, self.description, self.total, self.weight
        run.length, run.status, run.error, run.run_name = self.length, self.status, self.error, self.run_name
        run.set(self.position)
        return run

    def name(self) -> str:
        """Fix the run's name, so that other processes can add to it, and return it."""
        self.run_name = self.run_id
        return self.run_name

    def begin(self, frame: FrameType, *, in_block: bool) -> None:
        """Begin now, in the code of ``frame``."""
        self.status = "running"
        self.in_block = in_block
        self.code = frame.f_code
        if self.style.deadline is not None:
            self.started_at = time.time()
        if self.title is None and self._id is None:
            self.title = f"{frame.f_code.co_filename.rpartition(os.sep)[2]}:{frame.f_lineno}"
        outer = _current.get()
        while outer is not None and outer.status != "running":
            outer = outer.parent
        self.parent = outer
        for observe in observers:
            observe(self)

    def enter(self) -> None:
        """From now on, a run that begins in this thread or task is an inner one of this."""
        _current.set(self)

    @property
    def id(self) -> str:
        """The item's id: the user's, or a readable one made when it is first needed."""
        if self._id is None:
            self._id = f"{program()}-{_Process.name()}-{self._number}"
        return self._id

    @property
    def run_id(self) -> str:
        """Tells this run from all others, of any process."""
        return self.run_name or f"{_Process.name()}-{self._number}"

    @property
    def part(self) -> str | None:
        """The name of one process's share of the item, or ``None`` for the item itself."""
        return self.style.part

    @property
    def interval(self) -> float:
        """Least seconds between two sends."""
        return self.style.interval

    @property
    def keep(self) -> bool:
        """Whether the item stays listed after its end."""
        return self.style.keep

    @property
    def inner(self) -> bool:
        """Whether it runs inside another run."""
        return self.parent is not None

    @property
    def patience(self) -> float:
        """Seconds before the first send: inner bars that live shorter than the interval cost no request."""
        return self.style.interval if self.parent is not None else min(FIRST, self.style.interval)

    @property
    def fleeting(self) -> bool:
        """Whether it has ended in a way that nobody needs to hear of if nobody heard of its beginning."""
        return self.status in ("succeeded", "stopped") and not self.style.keep and self.run_name is None

    def sample(self, before: Snapshot | None = None) -> Snapshot:
        """Return the state now: ``before`` itself where nothing has changed since."""
        # The status is read before the position: if the run ends in between, the next sample has both.
        status, error = self.status, self.error
        total = self.length if self.total is None else self.total
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
                if self.stands_at(told_position) or (completed := count(self.position)) is None:
                    return before
                return Snapshot(told_title, told_description, completed, told_total, told_weight, told_status, error)
        completed = count(self.position)
        return Snapshot(
            clean(title, TITLE_LENGTH),
            clean(description, DESCRIPTION_LENGTH, lines=True),
            0 if completed is None else completed,
            None if total is None else count(total),
            whole(weight),
            status or "running",
            None if error is None else clean(error, ERROR_LENGTH, lines=True),
        )

    def setting(self) -> Setting:
        """Return what is told once, when the item is made."""
        group, deadline = self.style.group, self.style.deadline
        return Setting(
            clean(self.style.unit, UNIT_LENGTH),
            None if group is None else clean(group, GROUP_LENGTH) or None,
            inherited_parent(self.id) if self.parent is None else self.parent.id,
            self.style.notify,
            None if deadline is None else deadline.told(self.started_at),
        )

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run, unless it has ended. Called by ordinary code in the program's thread."""
        if self.status == "running":
            self.error = error
            self.status = status
            if self.sender is not None:
                self.sender.marks.append(self)
                if self.style.part is not None or self.sender.last:
                    # The process may be ended without ceremony the moment its work is done, as a pool's workers are.
                    self.sender.settle()
            if self.display is not None:
                self.display.finish(self)

    def exhausted(self) -> None:
        """The loop came to its end. In a block that is not the end yet: the block may still raise."""
        if not self.in_block:
            self.end("succeeded")

    def released(self) -> None:
        """The loop let go. Called by a finalizer: attributes and one append, and no waiting for a lock."""
        if not self.in_block:
            self.abandoned()

    def abandoned(self) -> None:
        """Nobody will end the run any more. Called by finalizers, as ``released``."""
        if self.status == "running":
            self.tentative = True
            self.status = "stopped"
            if self.sender is not None:
                self.sender.marks.append(self)
            if self.display is not None:
                self.display.try_finish(self)

    def raised(self, error: BaseException) -> None:
        """An asynchronous source raised."""
        if self.in_block:
            return
        status, text = ending(error)
        # A cancellation may be that of one step, as by a timeout, after which the loop goes on. A loop that does not
        # go on lets go of its iterator.
        if status != "stopped":
            self.end(status, text)

    def conclude(self, fatal: Deaths) -> None:
        """Settle the end, for the process ends now; ``fatal`` is of the exception that it dies of."""
        if self.status == "running":
            self.tentative = True
            self.status = "stopped"
        if self.tentative and self.code is not None and (found := fatal.get(self.code)) is not None:
            self.error = _named_text(*found)
            self.status = "failed"
        self.tentative = False


def ending(error: BaseException) -> tuple[Status, str | None]:
    """Return how a block that was left by ``error`` has ended: a request to stop is no failure.

    >>> ending(ValueError("no")), ending(SystemExit(0)), ending(KeyboardInterrupt())
    (('failed', 'ValueError: no'), ('stopped', None), ('failed', 'KeyboardInterrupt'))
    """
    return ("stopped", None) if is_stop(error) else ("failed", error_text(error))
