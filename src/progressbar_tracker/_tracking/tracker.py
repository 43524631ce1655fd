"""``track()``: wrap a loop, or use a block, and the server knows how far it is and how it ended.

A ``Tracker`` holds the user's iterable and its current ``Run``; the run is what the sender reads, and it never holds
the user's data. Each iteration or block is a run of its own.

How a run ends, and what is known of it:

* a bare loop that comes to its end has *succeeded*; one that is left early is *stopped*, for nothing in Python tells
  ``break`` from an exception to a wrapper. It is raised to *failed* when the process then dies of an exception that
  passed through the loop's code;
* a block knows: *failed* with the exception's text, *stopped* when its loop was left early, else *succeeded*.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypedDict, TypeVar, cast, overload

from progressbar_tracker import _runtime
from progressbar_tracker._models import ID_LENGTH, check_notify, format_value
from progressbar_tracker._terminal.display import are_bars_disabled
from progressbar_tracker._text import clean_number, clean_text

from .deadline import make_deadline
from .run import Run, classify_error, format_error, intern_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
    from types import FrameType, TracebackType
    from typing import Unpack

    from progressbar_tracker._models import Number, Status
    from progressbar_tracker._sender.sender import Sender
    from progressbar_tracker._terminal.display import Display

    from .deadline import DeadlineLike
    from .share import Share

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
        notify: str | Sequence[str] | None
        deadline: DeadlineLike | None
        interval: float
        display: bool | None

    class HasSender(Protocol):
        """A client that trackers can be bound to: ``ProgressBar`` or ``AsyncProgressBar``."""

        @property
        def sender(self) -> Sender:
            """The client's background sender."""


T = TypeVar("T")
R = TypeVar("R", bound=Run)

DEFAULT_INTERVAL: Final = 0.5  # seconds between two sends of an item, by default


class Tracker(Generic[T]):
    """An iterable and a context manager that reports how far it is. Made by ``track()``.

    A copy of it, by ``copy``, ``deepcopy`` or ``pickle``, is a handle that has no effect on the original: it counts for
    itself and reports nothing.

    Attributes:
        title: What to call it. ``None`` stands for the id, or where the loop is.
        description: Its state in words; sent with the next update.
        total: Units in all; ``None`` where that is not known. Taken from ``len()`` where the source has one.
        weight: Higher is shown first.
    """

    __slots__ = ("_iterable", "_run", "_unit_iterator")

    def __init__(self, iterable: Iterable[T] | AsyncIterable[T] | None, run: Run) -> None:
        self._iterable = iterable
        self._run = run
        self._unit_iterator: Iterator[bool] | None = None  # the running counter's, for advance()

    @property
    def id(self) -> str:
        """The item's id."""
        return self._run.id

    @property
    def title(self) -> str | None:
        """What to call it."""
        return self._run.title

    @title.setter
    def title(self, title: str | None) -> None:
        self._run.title = title

    @property
    def description(self) -> str:
        """Its state in words."""
        return self._run.description

    @description.setter
    def description(self, description: str) -> None:
        self._run.description = description

    @property
    def total(self) -> Number | None:
        """Units in all."""
        return self._run.source_length if self._run.total is None else self._run.total

    @total.setter
    def total(self, total: Number | None) -> None:
        self._run.total = total

    @property
    def weight(self) -> int:
        """Higher is shown first."""
        return self._run.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self._run.weight = weight

    @property
    def completed(self) -> Number:
        """Units done so far in the latest run."""
        return self._run.position

    @property
    def status(self) -> Status | None:
        """How the latest run is doing or has ended; ``None`` before the first."""
        return self._run.status

    def __repr__(self) -> str:
        return f"<Tracker {self.id!r}: {self.completed} of {self.total}, {self.status or 'not begun'}>"

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # raises what len() of the source raises

    def __bool__(self) -> bool:
        return True  # not that of len(): an empty source is no missing tracker

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this tracker has no iterable: use it in a with block, and advance() or update()")
        source = iter(cast("Iterable[T]", self._iterable))
        run = self._start_loop_run(_get_caller_frame())
        return run.wrap_iterator(source, run)

    def __aiter__(self) -> AsyncIterator[T]:
        if not hasattr(type(self._iterable), "__aiter__"):
            raise TypeError(f"async for needs an asynchronous iterable, not {format_value(self._iterable)}")
        source = aiter(cast("AsyncIterable[T]", self._iterable))
        run = self._start_loop_run(_get_caller_frame())
        return run.wrap_async_iterator(source, run)

    def __copy__(self) -> Tracker[T]:
        return _DetachedTracker(self._iterable, self._run.create_detached())

    def __deepcopy__(self, memo: dict[int, Any]) -> Tracker[T]:
        from copy import deepcopy

        return _DetachedTracker(deepcopy(self._iterable, memo), self._run.create_detached())

    def __reduce__(self) -> tuple[Any, ...]:
        run = self._run
        labels = (run.title, run.description, self.total, run.weight)
        return _rebuild_tracker, (self._iterable, run.id, labels, run.position, run.status, run.error)

    def __del__(self) -> None:
        # Used by hand and never closed. A loop's run lives on in its iterator, a block holds its tracker.
        run = getattr(self, "_run", None)
        if run is not None and run.in_block:
            run.abandon()

    def __enter__(self) -> Self:
        if self._run.status == "running":
            raise RuntimeError(f"the tracker {self.id!r} is running already")
        self._start_run(_get_caller_frame(), in_block=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self._run
        if error is not None:
            run.end(*classify_error(error))
        else:
            run.end("stopped" if run.has_loop and not run.is_exhausted else "succeeded")
        self._unit_iterator = None

    def advance(self, n: Number = 1) -> None:
        """Add ``n`` units to what is done. Exact from any number of threads, with the GIL and without it.

        Raises:
            TypeError: ``n`` is not a number.
        """
        # Counter.advance() once more, for a call less: one step of a C iterator.
        if n == 1 and self._unit_iterator is not None:
            next(self._unit_iterator)
        else:
            self._advance(n)

    def _advance(self, n: Number) -> None:
        number = clean_number(n)
        if number is None:
            if isinstance(n, float):
                return  # NaN or beyond all bounds: there is nothing sensible to count
            raise TypeError(f"n must be a number, not {format_value(n)}")
        run = self._ensure_started(_get_caller_frame(2))
        run.advance(number)
        self._unit_iterator = run.unit_iterator

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
        position = None if completed is None else clean_number(completed)
        if completed is not None and position is None and not isinstance(completed, float):
            raise TypeError(f"completed must be a number, not {format_value(completed)}")
        run = self._ensure_started(_get_caller_frame())
        if total is not None:
            run.total = total
        if title is not None:
            run.title = title
        if description is not None:
            run.description = description
        if weight is not None:
            run.weight = weight
        if position is not None:
            run.set(position)

    def fail(self, error: BaseException | str) -> None:
        """End the run as failed, with an exception or a text as the reason. It stays listed."""
        self._ensure_started(_get_caller_frame()).end("failed", format_error(error))
        self._unit_iterator = None

    def close(self) -> None:
        """End the run if it has not ended: stopped when its loop is not through, else succeeded. Idempotent."""
        run = self._run
        run.end("stopped" if run.has_loop and not run.is_exhausted else "succeeded")
        self._unit_iterator = None

    def share(self) -> Share:
        """Return a small handle with which other processes add to this bar, each with a part of its own.

        The bar is begun by this, and ends here: when its loop or block does.

        Example:
            >>> with track(total=4, id="shared", display=False) as bar:
            ...     handle = bar.share()  # give it to a process, and there:
            ...     with handle.track(part="rows 0 to 3", display=False) as part:
            ...         part.advance(4)
        """
        from .share import Share

        run = self._ensure_started(_get_caller_frame())
        url = None if run.sender is None else run.sender.url
        return Share(url, run.id, run.pin_run_id(), active=run.sender is not None)

    def _start_loop_run(self, frame: FrameType) -> Run:
        """Return the run that a loop beginning now belongs to."""
        run = self._run
        if run.status != "running" or not run.in_block:
            run = self._start_run(frame, in_block=False)
        if run.total is None:
            try:
                run.source_length = len(self._iterable)  # type: ignore[arg-type]
            except (Exception, SystemExit):  # noqa: BLE001 - no length, or a length that fails: then there is none
                run.source_length = None
        return run

    def _ensure_started(self, frame: FrameType) -> Run:
        """Return the run, begun now if it was not: a tracker may be used without a loop and a block."""
        return self._run if self._run.status is not None else self._start_run(frame, in_block=True)

    def _start_run(self, frame: FrameType, *, in_block: bool) -> Run:
        run = self._run
        if run.status is not None:
            display = run.display
            self._run = run = run.create_successor()
            run.display = display
        run.start(frame, in_block=in_block)
        run.make_current()
        if run.display is not None:
            run.started_at = time.time()
            run.display.add(run, quiet=run.sender is not None)  # which has the same to say
        if run.sender is not None:
            run.sender.add(run)
        return run


class _DetachedTracker(Tracker[T]):
    """A copy of a tracker: it counts for itself, and is neither sent nor drawn."""

    __slots__ = ()

    def _start_run(self, frame: FrameType, *, in_block: bool) -> Run:  # noqa: ARG002 - as the tracker has it
        if self._run.status is not None:
            self._run = self._run.create_successor()
        self._run.status = "running"
        self._run.in_block = in_block
        return self._run


def _rebuild_tracker(
    iterable: Iterable[T] | AsyncIterable[T] | None,
    id: str,
    labels: tuple[str | None, str, Number | None, int],
    position: Number,
    status: Status | None,
    error: str | None,
) -> Tracker[T]:
    run = Run(id, intern_options("it", None, False, DEFAULT_INTERVAL), None)
    run.title, run.description, run.total, run.weight = labels
    run.status, run.error = status, error
    run.set(position)
    return _DetachedTracker(iterable, run)


def _get_caller_frame(depth: int = 1) -> FrameType:
    """Return the frame of the code that uses a tracker, to recognise it in a traceback."""
    try:
        return sys._getframe(depth + 1)  # noqa: SLF001
    except ValueError:  # it is no Python code
        return sys._getframe(1)  # noqa: SLF001


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
    notify: str | Sequence[str] | None = None,
    deadline: DeadlineLike | None = None,
    interval: float = DEFAULT_INTERVAL,
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
        total: Units in all; by default ``len(iterable)`` where there is one. All is done at ``total`` exactly, or
            within 1e-9 of it if it or the count is a float. Of 0 no percentage is shown until the run ends.
        unit: What is counted, at most 20 characters; ``"B"`` for bytes.
        weight: Higher is shown first.
        group: A heading to sort under.
        keep: Leave the item listed after it has succeeded or stopped.
        notify: Whom to tell how it ends, and when it is stalled or late: the name of a channel that the server's
            operator has set up, or several of them, at most 8.
        deadline: When it is late, if it runs still: an instant, in local time where the ``datetime`` names no zone; or
            how long each run may take, as a ``timedelta`` or in seconds.
        interval: Least seconds between two sends, 0.05 to 3600.
        client: A ``ProgressBar`` whose server and key to use in place of the configured ones.
        display: Draw a terminal bar; by default when stderr is a terminal.

    Returns:
        A ``Tracker``: iterable, context manager, with ``advance()``, ``update()``, ``fail()`` and ``close()``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``interval``, ``notify`` or ``deadline`` is out of range.

    Example:
        >>> sum(track([1, 2, 3], id="adding", display=False))
        6
        >>> with track(total=100, unit="B", display=False) as bar:
        ...     bar.advance(100)
        ...     bar.completed
        100
    """
    kind = type(iterable)  # for is satisfied with nothing else, and asking the object may run code of its own
    if not (iterable is None or hasattr(kind, "__iter__") or hasattr(kind, "__aiter__")):
        iter(cast("Iterable[T]", iterable))  # it also takes what has only __getitem__, and says what it will not take
    run = create_run(
        Run, id=id, title=title, description=description, total=total, unit=unit, weight=weight, group=group, keep=keep,
        notify=notify, deadline=deadline, interval=interval, client=client,
    )  # fmt: skip
    run.display = select_display(display)
    return Tracker(cast("Iterable[T] | None", iterable), run)


def create_run(
    run_class: type[R],
    *,
    id: str | None = None,
    title: str | None = None,
    weight: int = 0,
    group: str | None = None,
    keep: bool = False,
    notify: str | Sequence[str] | None = None,
    deadline: DeadlineLike | None = None,
    client: HasSender | None = None,
    unit: str = "it",
    description: str = "",
    total: Number | None = None,
    interval: float = DEFAULT_INTERVAL,
) -> R:
    """Return a new run with the labels of ``track()``, which has their meaning.

    Raises:
        TypeError, ValueError: An argument is not what ``track()`` takes.
    """
    if title.__class__ is not str and title is not None:
        raise TypeError(f"title must be a string, not {format_value(title)}")
    if description.__class__ is not str or unit.__class__ is not str:
        raise TypeError(
            f"description and unit must be strings, not {format_value(description)} and {format_value(unit)}"
        )
    if group.__class__ is not str and group is not None:
        raise TypeError(f"group must be a string, not {format_value(group)}")
    if total is not None and clean_number(total) is None and not isinstance(total, float):
        raise TypeError(f"total must be a number, not {format_value(total)}")
    if weight.__class__ is not int:
        raise TypeError(f"weight must be an int, not {format_value(weight)}")
    sender = None if _runtime.is_disabled() else _runtime.get_sender() if client is None else client.sender
    told = () if notify is None else check_notify([notify] if isinstance(notify, str) else notify)
    due = None if deadline is None else make_deadline(deadline)
    fixed = intern_options(unit, group, keep, check_interval(interval), None, told, due)
    run = run_class(None if id is None else normalize_id(id), fixed, sender)
    run.title, run.description, run.total, run.weight = title, description, total, weight
    return run


def check_interval(interval: object) -> float:
    if isinstance(interval, bool) or not isinstance(interval, int | float):
        raise TypeError(f"interval must be a number of seconds, not {format_value(interval)}")
    if not 0.05 <= interval <= 3600:
        raise ValueError(f"interval must be from 0.05 to 3600 seconds, not {format_value(interval)}")
    return float(interval)


def select_display(display: bool | None) -> Display | None:
    if display is None:
        display = not _runtime.is_disabled() and not are_bars_disabled(os.environ) and _is_stderr_terminal()
    return _runtime.get_display() if display else None


def _is_stderr_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except (Exception, SystemExit):  # noqa: BLE001 - there is none, it is closed, or a stand-in without the method
        return False


def normalize_id(value: object) -> str:
    """Return an id that the server takes. One that is too long keeps its beginning and gets a digest of the whole."""
    if not isinstance(value, str):
        raise TypeError(f"id must be a string, not {format_value(value)}")
    value = str.__str__(value)  # without the methods of a subclass
    if not value:
        raise ValueError("id must not be empty; leave it out to have one made")
    if len(value) > ID_LENGTH:
        with contextlib.suppress(ImportError, OSError):  # without a free descriptor it is only cut
            import hashlib

            digest = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
            value = f"{value[: ID_LENGTH - 17]}-{digest}"
    return clean_text(value, ID_LENGTH)
