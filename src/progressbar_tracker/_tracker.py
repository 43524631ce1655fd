"""``track()``: wrap a loop, or use a block, and the server knows how far it is and how it ended.

A ``Tracker`` holds the user's iterable and nothing else that is large; what the sender reads is a ``Run``, which holds
counters and labels and never the user's data. Each iteration or block is a run of its own.

How a run ends, and what is known of it:

* a bare loop that comes to its end has *succeeded*; one that is left early is *stopped*, for nothing in Python tells
  ``break`` from an exception to a wrapper. It is raised to *failed* when the process then dies of an exception that
  passed through the loop's code;
* a block knows: *failed* with the exception's text, *stopped* when its loop was left early, else *succeeded*.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypedDict, TypeVar, cast, overload

from . import _runtime
from ._counting import Counter
from ._models import (
    DESCRIPTION_LENGTH,
    ERROR_LENGTH,
    GROUP_LENGTH,
    ID_LENGTH,
    NUMBER_LIMIT,
    TITLE_LENGTH,
    UNIT_LENGTH,
    WEIGHT_LIMIT,
    has_control,
    shown,
)
from ._reconcile import Snapshot
from ._sender import FIRST, Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
    from types import CodeType, FrameType, TracebackType
    from typing import Unpack

    from ._models import Number, Status

T = TypeVar("T")

INTERVAL: Final = 0.5  # seconds between two sends of an item, by default


class TrackOptions(TypedDict, total=False):
    """The keywords of ``track()``, but for ``client``."""

    id: str | None
    title: str | None
    description: str
    total: Number | None
    unit: str
    weight: int
    group: str | None
    keep: bool
    interval: float
    display: bool | None


class HasSender(Protocol):
    """A client that trackers can be bound to: ``ProgressBar`` or ``AsyncProgressBar``."""

    @property
    def sender(self) -> Sender:
        """The client's background sender."""


# Which run is the innermost one here: a bar that is made inside another's loop names it as its parent. A context
# variable keeps threads and asyncio tasks apart.
_current: ContextVar[Run | None] = ContextVar("progressbar_tracker_run", default=None)

_numbers = itertools.count(1)


class _Process:
    """A few characters that tell this process from others, made anew after a fork."""

    pid = 0
    token = ""

    @classmethod
    def name(cls) -> str:
        if cls.pid != os.getpid():
            cls.pid, cls.token = os.getpid(), os.urandom(3).hex()
        return f"{program()}-{cls.token}"


def program() -> str:
    """Return a short name of the running program: its script's, without the ending."""
    main = sys.argv[0] if sys.argv else ""
    stem = os.path.splitext(os.path.basename(main))[0]  # noqa: PTH119, PTH122 - on every short loop's way
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(main))  # noqa: PTH119, PTH120
    return {"": "python", "-c": "python", "ipykernel_launcher": "notebook"}.get(stem, stem)[:60]


def clean(value: object, limit: int, *, lines: bool = False) -> str:
    r"""Return a text that the server takes, whatever comes: too long is cut, control characters become spaces.

    >>> clean("a\x00b" + "c" * 10, 6)
    'a bcc…'
    """
    try:
        text = value if isinstance(value, str) else "" if value is None else str(value)
    except Exception as error:  # noqa: BLE001 - a user's __str__ may raise whatever it likes
        text = f"<{type(value).__name__}: str() raised {type(error).__name__}>"
    if has_control(text):
        allowed = "\n\t" if lines else ""
        text = "".join(" " if has_control(c) and c not in allowed else c for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def count(value: object) -> Number | None:
    """Return a number that the server takes, or ``None``."""
    if isinstance(value, int | float):
        return value if -NUMBER_LIMIT <= value <= NUMBER_LIMIT else None
    try:  # numpy's and decimal's numbers, for example
        number = float(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - see clean()
        return None
    return number if -NUMBER_LIMIT <= number <= NUMBER_LIMIT else None


def whole(value: object) -> int:
    """Return an int that the server takes, or 0."""
    return value if isinstance(value, int) and abs(value) <= WEIGHT_LIMIT else 0


def error_text(error: BaseException | str) -> str:
    """Return ``ValueError: what it says`` for an exception, as the last line of a traceback has it."""
    if isinstance(error, str):
        return clean(error, ERROR_LENGTH, lines=True)
    text = clean(error, ERROR_LENGTH, lines=True).strip()
    return clean(f"{type(error).__name__}: {text}" if text else type(error).__name__, ERROR_LENGTH, lines=True)


class Label:
    """What is said about a tracker's runs besides their position. Plain attributes, read by the sender."""

    __slots__ = ("description", "group", "id", "interval", "keep", "title", "total", "unit", "weight")

    id: str | None
    title: str | None
    description: str
    total: Number | None
    unit: str
    weight: int
    group: str | None
    keep: bool
    interval: float


class Run:
    """One life of an item: what the sender samples and what the counting tells of the end."""

    __slots__ = (
        "__weakref__",
        "_id",
        "_lineno",
        "_run_id",
        "code",
        "counter",
        "error",
        "in_block",
        "label",
        "parent",
        "sender",
        "shown",
        "started_at",
        "status",
        "tentative",
        "total",
    )  # fmt: skip

    def __init__(self, label: Label, sender: Sender | None, frame: FrameType, *, in_block: bool) -> None:
        self.label = label
        self.sender = sender
        self.counter = Counter()
        self.status: Status = "running"
        self.error: str | None = None
        self.total: int | None = None  # the source's length, unless the label has a total
        self.in_block = in_block
        self.tentative = False
        self.shown = False
        self.started_at = time.time()
        self.code: CodeType = frame.f_code
        self._lineno = frame.f_lineno
        self._id: str | None = label.id
        self._run_id: str | None = None
        outer = _current.get()
        while outer is not None and outer.status != "running":
            outer = outer.parent
        self.parent: Run | None = outer
        _current.set(self)

    @property
    def id(self) -> str:
        """The item's id: the user's, or a readable one made when it is first needed."""
        if self._id is None:
            self._id = f"{_Process.name()}-{next(_numbers)}"
        return self._id

    @property
    def run_id(self) -> str:
        """A random name of this run."""
        if self._run_id is None:
            self._run_id = os.urandom(8).hex()
        return self._run_id

    @property
    def interval(self) -> float:
        """Least seconds between two sends."""
        return self.label.interval

    @property
    def keep(self) -> bool:
        """Whether the item stays listed after its end."""
        return self.label.keep

    @property
    def inner(self) -> bool:
        """Whether it runs inside another run."""
        return self.parent is not None

    @property
    def patience(self) -> float:
        """Seconds before the first send: inner bars that live shorter than the interval cost no request."""
        return self.label.interval if self.parent is not None else min(FIRST, self.label.interval)

    def sample(self) -> Snapshot:
        """Return the state now."""
        label = self.label
        # The status is read before the position: if the run ends in between, the next sample has both.
        status, error = self.status, self.error
        completed = count(self.counter.position)
        total = label.total if label.total is not None else self.total
        title = label.title
        if title is None:
            title = label.id or f"{os.path.basename(self.code.co_filename)}:{self._lineno}"  # noqa: PTH119
        return Snapshot(
            clean(title, TITLE_LENGTH),
            clean(label.description, DESCRIPTION_LENGTH, lines=True),
            0 if completed is None else completed,
            None if total is None else count(total),
            clean(label.unit, UNIT_LENGTH),
            whole(label.weight),
            clean(label.group, GROUP_LENGTH) or None if label.group is not None else None,
            self.parent.id if self.parent is not None else None,
            status,
            error,
        )

    def end(self, status: Status, error: str | None = None) -> None:
        """End the run, unless it has ended. Called by ordinary code in the program's thread."""
        if self.status == "running":
            self.error = error
            self.status = status
            if self.sender is not None:
                self.sender.marks.append(self)
            if self.shown:
                _runtime.display().finish(self)

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
            if self.shown:
                _runtime.display().try_finish(self)

    def raised(self, error: BaseException) -> None:
        """An asynchronous source raised."""
        if not self.in_block:
            status, text = ending(error)
            self.end(status, text)

    def conclude(self, dying: BaseException | None) -> None:
        """Settle the end, for the process ends now."""
        if self.status == "running":
            self.tentative = True
            self.status = "stopped"
        if self.tentative and dying is not None and passed_through(dying, self.code):
            self.error = error_text(dying)
            self.status = "failed"
        self.tentative = False


def passed_through(error: BaseException, code: CodeType) -> bool:
    """Say whether an exception, or one that it was raised in the handling of, came through a frame of ``code``."""
    chain: BaseException | None = error
    for _ in range(20):
        if chain is None:
            return False
        step = chain.__traceback__
        while step is not None:
            if step.tb_frame.f_code is code:
                return True
            step = step.tb_next
        chain = chain.__cause__ or chain.__context__
    return False


def ending(error: BaseException) -> tuple[Status, str | None]:
    """Return how a block that was left by ``error`` has ended: a request to stop is no failure.

    >>> ending(ValueError("no")), ending(SystemExit(0)), ending(KeyboardInterrupt())
    (('failed', 'ValueError: no'), ('stopped', None), ('failed', 'KeyboardInterrupt'))
    """
    if isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "stopped", None
    if type(error).__name__ == "CancelledError" and type(error).__module__.partition(".")[0] == "asyncio":
        return "stopped", None
    return "failed", error_text(error)


class Tracker(Generic[T]):
    """An iterable and a context manager that reports how far it is. Made by ``track()``.

    Attributes:
        title: What to call it. ``None`` stands for the id, or where the loop is.
        description: Its state in words; sent with the next update.
        total: Units in all; ``None`` where that is not known. Taken from ``len()`` where the source has one.
        weight: Higher is shown first.
    """

    __slots__ = ("_display", "_iterable", "_label", "_ones", "_run", "_sender")

    def __init__(
        self,
        iterable: Iterable[T] | AsyncIterable[T] | None,
        sender: Sender | None,
        label: Label,
        *,
        display: bool | None,
    ) -> None:
        self._iterable = iterable
        self._label = label
        self._sender = sender
        self._display = display
        self._run: Run | None = None
        self._ones: Iterator[bool] | None = None  # the running counter's, for advance()

    @property
    def id(self) -> str | None:
        """The item's id; ``None`` where it is made when the first run begins."""
        return self._label.id if self._run is None else self._run.id

    @property
    def title(self) -> str | None:
        """What to call it."""
        return self._label.title

    @title.setter
    def title(self, title: str | None) -> None:
        self._label.title = title

    @property
    def description(self) -> str:
        """Its state in words."""
        return self._label.description

    @description.setter
    def description(self, description: str) -> None:
        self._label.description = description

    @property
    def total(self) -> Number | None:
        """Units in all."""
        if self._label.total is None and self._run is not None:
            return self._run.total
        return self._label.total

    @total.setter
    def total(self, total: Number | None) -> None:
        self._label.total = total

    @property
    def weight(self) -> int:
        """Higher is shown first."""
        return self._label.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self._label.weight = weight

    @property
    def completed(self) -> Number:
        """Units done so far in the latest run."""
        return 0 if self._run is None else self._run.counter.position

    def __repr__(self) -> str:
        status = "not begun" if self._run is None else self._run.status
        return f"<Tracker {self.id!r}: {self.completed} of {self.total}, {status}>"

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # raises what len() of the source raises

    def __bool__(self) -> bool:
        return True  # not that of len(): an empty source is no missing tracker

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this tracker has no iterable: use it in a with block, and advance() or update()")
        source = iter(cast("Iterable[T]", self._iterable))
        run = self._looping(sys._getframe(1))  # noqa: SLF001 - the loop's code, to recognise it in a traceback
        return run.counter.loop(source, run) if run is not None else source

    def __aiter__(self) -> AsyncIterator[T]:
        if self._iterable is None or not hasattr(self._iterable, "__aiter__"):
            raise TypeError(f"async for needs an asynchronous iterable, not {shown(self._iterable)}")
        source = aiter(cast("AsyncIterable[T]", self._iterable))
        run = self._looping(sys._getframe(1))  # noqa: SLF001
        return run.counter.aloop(source, run) if run is not None else source

    def __del__(self) -> None:
        # Used by hand and never closed. A loop's run lives on in its iterator, a block holds its tracker.
        run = getattr(self, "_run", None)
        if run is not None and run.in_block:
            run.abandoned()

    def __enter__(self) -> Self:
        if self._run is not None and self._run.status == "running":
            raise RuntimeError(f"the tracker {self.id!r} is running already")
        self._begin(sys._getframe(1), in_block=True)  # noqa: SLF001
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self._run
        if run is None:
            return
        if error is not None:
            run.end(*ending(error))
        else:
            run.end("stopped" if run.counter.looping and not run.counter.complete else "succeeded")
        self._ones = None

    def advance(self, n: Number = 1) -> None:
        """Add ``n`` units to what is done. Exact from any number of threads.

        Raises:
            TypeError: ``n`` is not a number.
        """
        # Counter.advance() once more, for a call less: one step of a C iterator.
        if n == 1 and self._ones is not None:
            next(self._ones)
        else:
            self._advance(n)

    def _advance(self, n: Number) -> None:
        if count(n) is None:
            if isinstance(n, float):
                return  # NaN or beyond all bounds: there is nothing sensible to count
            raise TypeError(f"n must be a number, not {shown(n)}")
        run = self._running(sys._getframe(2))  # noqa: SLF001
        if run is not None:
            run.counter.advance(n)
            self._ones = run.counter.ones

    def update(
        self,
        *,
        completed: Number | None = None,
        total: Number | None = None,
        title: str | None = None,
        description: str | None = None,
        weight: int | None = None,
    ) -> None:
        """Set what is given, and leave the rest.

        Args:
            completed: Units done, as an absolute number.
            total: Units in all.
            title: What to call it.
            description: Its state in words.
            weight: Higher is shown first.

        Raises:
            TypeError: ``completed`` is not a number.
        """
        if completed is not None and count(completed) is None and not isinstance(completed, float):
            raise TypeError(f"completed must be a number, not {shown(completed)}")
        label = self._label
        if total is not None:
            label.total = total
        if title is not None:
            label.title = title
        if description is not None:
            label.description = description
        if weight is not None:
            label.weight = weight
        run = self._running(sys._getframe(1))  # noqa: SLF001
        if run is not None and completed is not None and count(completed) is not None:
            run.counter.set(completed)

    def fail(self, error: BaseException | str) -> None:
        """End the run as failed, with an exception or a text as the reason. It stays listed."""
        run = self._running(sys._getframe(1))  # noqa: SLF001
        if run is not None:
            run.end("failed", error_text(error))
            self._ones = None

    def close(self) -> None:
        """End the run if it has not ended: stopped when its loop is not through, else succeeded. Idempotent."""
        if self._run is not None:
            looping = self._run.counter.looping and not self._run.counter.complete
            self._run.end("stopped" if looping else "succeeded")
            self._ones = None

    def _looping(self, frame: FrameType) -> Run | None:
        """Return the run that a loop beginning now belongs to."""
        run = self._run
        if run is None or run.status != "running" or not run.in_block:
            run = self._begin(frame, in_block=False)
        if run is not None and self._label.total is None:
            try:
                run.total = len(self._iterable)  # type: ignore[arg-type]
            except Exception:  # noqa: BLE001 - no length, or a length that fails: then there is none
                run.total = None
        return run

    def _running(self, frame: FrameType) -> Run | None:
        """Return the run, begun now if there is none: a tracker may be used without a loop and a block."""
        if self._run is not None:
            return self._run
        return self._begin(frame, in_block=True)

    def _begin(self, frame: FrameType, *, in_block: bool) -> Run | None:
        sender, display = self._sender, self._display
        if sender is None and display is False:
            return None
        self._run = run = Run(self._label, sender, frame, in_block=in_block)
        if display is None:
            stderr = sys.stderr
            display = stderr is not None and stderr.isatty()
        if display:
            run.shown = True
            _runtime.display().add(run)
        if sender is not None:
            sender.add(run)
        return run


@overload
def track(
    iterable: Iterable[T] | AsyncIterable[T], *, client: HasSender | None = None, **options: Unpack[TrackOptions]
) -> Tracker[T]: ...
@overload
def track(
    iterable: None = None, *, client: HasSender | None = None, **options: Unpack[TrackOptions]
) -> Tracker[None]: ...
def track(
    iterable: Iterable[T] | AsyncIterable[T] | None = None,
    *,
    id: str | None = None,
    title: str | None = None,
    description: str = "",
    total: Number | None = None,
    unit: str = "it",
    weight: int = 0,
    group: str | None = None,
    keep: bool = False,
    interval: float = INTERVAL,
    client: HasSender | None = None,
    display: bool | None = None,
) -> Tracker[T] | Tracker[None]:
    """Wrap a loop, or make a block, whose progress is shown on the server.

    The item is created when the loop or the block begins, updated at most once an ``interval``, and gets its end state;
    then it leaves the list for the history, unless it failed or ``keep`` is set. Nothing of this is done in the loop's
    thread, and nothing of it can raise there. Without a configured server only the terminal bar is shown.

    Args:
        iterable: What to loop over, synchronous or asynchronous; or nothing, for ``advance()`` and ``update()``.
        id: The item's id. The same program started again with the same id takes the item over. Without one a unique
            id is made.
        title: What to call it; by default the id, or the place in the program.
        description: Its state in words.
        total: Units in all; by default ``len(iterable)`` where there is one.
        unit: What is counted, at most 20 characters; ``"B"`` for bytes.
        weight: Higher is shown first.
        group: A heading to sort under.
        keep: Leave the item listed after it has succeeded or stopped.
        interval: Least seconds between two sends, 0.05 to 3600.
        client: A ``ProgressBar`` whose server and key to use in place of the configured ones.
        display: Draw a terminal bar; by default when stderr is a terminal.

    Returns:
        A ``Tracker``: iterable, context manager, with ``advance()``, ``update()``, ``fail()`` and ``close()``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``interval`` is out of range.

    Example:
        >>> sum(track([1, 2, 3], id="adding", display=False))
        6
        >>> with track(total=100, unit="B", display=False) as bar:
        ...     bar.advance(100)
        ...     bar.completed
        100
    """
    if not (iterable is None or hasattr(iterable, "__iter__") or hasattr(iterable, "__aiter__")):
        iter(cast("Iterable[T]", iterable))  # it also takes what has only __getitem__, and says what it will not take
    label = Label()
    label.id = None if id is None else tidy_id(id)
    label.title = title
    label.description = description
    label.total = total
    label.unit = unit
    label.weight = weight
    label.group = group
    label.keep = keep
    label.interval = interval
    if title.__class__ is not str and title is not None:
        raise TypeError(f"title must be a string, not {shown(title)}")
    if description.__class__ is not str or unit.__class__ is not str:
        raise TypeError(f"description and unit must be strings, not {shown(description)} and {shown(unit)}")
    if group.__class__ is not str and group is not None:
        raise TypeError(f"group must be a string, not {shown(group)}")
    if total is not None and count(total) is None and not isinstance(total, float):
        raise TypeError(f"total must be a number, not {shown(total)}")
    if weight.__class__ is not int:
        raise TypeError(f"weight must be an int, not {shown(weight)}")
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {shown(interval)}")
    if not 0.05 <= interval <= 3600:
        raise ValueError(f"interval must be from 0.05 to 3600 seconds, not {shown(interval)}")
    if _runtime.disabled():
        sender, display = None, bool(display)
    else:
        sender = _runtime.sender() if client is None else client.sender
    return Tracker(cast("Iterable[T] | None", iterable), sender, label, display=display)


def tidy_id(value: object) -> str:
    """Return an id that the server takes. One that is too long keeps its beginning and gets a digest of the whole."""
    if not isinstance(value, str):
        raise TypeError(f"id must be a string, not {shown(value)}")
    if not value:
        raise ValueError("id must not be empty; leave it out to have one made")
    if len(value) > ID_LENGTH:
        import hashlib

        digest = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
        value = f"{value[: ID_LENGTH - 17]}-{digest}"
    return clean(value, ID_LENGTH)
