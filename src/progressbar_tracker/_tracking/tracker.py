"""``track()``: report the progress and the end of a loop or a block to the server.

A ``Tracker`` holds the user's iterable and its current ``Run``. The sender reads the run, which never holds the user's
data. Each iteration or block is a run of its own.

The end of a run:

* A bare loop that reaches its end has *succeeded*. A loop that is left early is *stopped*, because a wrapper cannot
  distinguish ``break`` from an exception. It becomes *failed* if the process then dies of an exception that came
  through the loop's code.
* A block is *failed* with the text of its exception, *stopped* if its loop was left early, else *succeeded*.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar, cast, overload

from progressbar_tracker._models import format_value
from progressbar_tracker._text import clean_number

from .cell_errors import watch_cell
from .creation import create_run, select_display, select_stoppable
from .run import Run, format_error
from .run_options import DEFAULT_INTERVAL, RunOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
    from types import FrameType, TracebackType
    from typing import TextIO, Unpack

    from progressbar_tracker._models import Number, Status, StuckAfter

    from .creation import HasSender
    from .deadline import DeadlineLike
    from .share import Share
    from .stop import OnStop

    class TrackOptions(TypedDict, total=False):
        """The keywords of ``track()`` except ``client``."""

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
        stuck_after: StuckAfter
        interval: float
        display: bool | None
        stoppable: bool | None
        on_stop: OnStop


T = TypeVar("T")


class Tracker(Generic[T]):
    """An iterable and context manager that reports its progress. Made by ``track()``.

    A copy by ``copy``, ``deepcopy`` or ``pickle`` counts separately, reports nothing and has no effect on the original.

    Attributes:
        title: The name that is shown. ``None`` stands for the id, or for the place of the loop in the program.
        description: The present state as text; sent with the next update.
        total: The number of units; ``None`` if it is unknown. By default ``len()`` of the source, if it has one.
        weight: Items with a higher weight are shown first.
    """

    __slots__ = ("_iterable", "_run", "_unit_iterator")

    def __init__(self, iterable: Iterable[T] | AsyncIterable[T] | None, run: Run) -> None:
        self._iterable = iterable
        self._run = run
        self._unit_iterator: Iterator[bool] | None = None  # of the current run, for advance()

    @property
    def id(self) -> str:
        """The item's id."""
        return self._run.id

    @property
    def title(self) -> str | None:
        """The name that is shown, or ``None``."""
        return self._run.title

    @title.setter
    def title(self, title: str | None) -> None:
        self._run.title = title

    @property
    def description(self) -> str:
        """The present state as text."""
        return self._run.description

    @description.setter
    def description(self, description: str) -> None:
        self._run.description = description

    @property
    def total(self) -> Number | None:
        """The number of units, or ``None`` if it is unknown."""
        return self._run.source_length if self._run.total is None else self._run.total

    @total.setter
    def total(self, total: Number | None) -> None:
        self._run.total = total

    @property
    def weight(self) -> int:
        """Items with a higher weight are shown first."""
        return self._run.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self._run.weight = weight

    @property
    def completed(self) -> Number:
        """Units done in the latest run."""
        return self._run.position

    @property
    def status(self) -> Status | None:
        """The status of the latest run; ``None`` before the first."""
        return self._run.status

    @property
    def stop_requested(self) -> bool:
        """Whether the stop of the latest run was requested; only of a stoppable one."""
        return self._run.stop_requested

    def __repr__(self) -> str:
        return f"<Tracker {self.id!r}: {self.completed} of {self.total}, {self.status or 'not begun'}>"

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # raises what len() of the source raises

    def __bool__(self) -> bool:
        return True  # not len(): a tracker with an empty source is still a tracker

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this tracker has no iterable: use it in a with block, and advance() or update()")
        source = iter(cast("Iterable[T]", self._iterable))
        run = self._start_loop_run(_get_caller_frame())
        return run.wrap_iterator(source if run.stop is None else run.stop.wrap_iterator(source, run), run)

    def __aiter__(self) -> AsyncIterator[T]:
        if not hasattr(type(self._iterable), "__aiter__"):
            raise TypeError(f"async for needs an asynchronous iterable, not {format_value(self._iterable)}")
        source = aiter(cast("AsyncIterable[T]", self._iterable))
        run = self._start_loop_run(_get_caller_frame())
        iterator = run.wrap_async_iterator(source, run)
        if run.stop is not None:
            run.stop.watch(iterator)
        return iterator

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
        # For a tracker that was never closed: a loop's run lives on in its iterator, and a block holds its tracker.
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
        self._run.end_block(error)
        self._unit_iterator = None

    def advance(self, n: Number = 1) -> None:
        """Add ``n`` units. Exact from any number of threads, with the GIL and without it.

        Raises:
            TypeError: ``n`` is not a number.
        """
        # Counter.advance() inlined, to save a call: one step of a C iterator.
        if n == 1 and self._unit_iterator is not None:
            next(self._unit_iterator)
        else:
            self._advance(n)

    def _advance(self, n: Number) -> None:
        number = clean_number(n)
        if number is None:
            if isinstance(n, float):
                return  # NaN or out of bounds: not countable
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
        """Set the given values; ``None`` leaves a value unchanged.

        Args:
            completed: Units done, as an absolute number.
            total: The number of units.
            title: The name that is shown.
            description: The present state as text.
            weight: Items with a higher weight are shown first.

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
        """End the run as failed, with an exception or a text as the reason. The item stays listed."""
        self._ensure_started(_get_caller_frame()).end("failed", format_error(error))
        self._unit_iterator = None

    def close(self) -> None:
        """End the run unless it has ended: as stopped if its loop is incomplete, else as succeeded. Idempotent."""
        self._run.end_block()
        self._unit_iterator = None

    def write(self, text: object, *, file: TextIO | None = None, end: str = "\n") -> None:
        """Print a line above the bars, like ``print(text, end=end, file=file)``.

        ``print()`` itself does the same on a terminal, unless the variable ``PROGRESSBAR_PRINT_GUARD`` is ``0``.

        Args:
            text: A string, or an object for ``str()``.
            file: The stream; by default ``sys.stdout``.
            end: Appended to the text.
        """
        stream = sys.stdout if file is None else file
        if stream is None:  # as for print()
            return
        if self._run.display is None:
            stream.write(f"{text}{end}")
        else:
            self._run.display.write_text(f"{text}{end}", stream)

    def log(self, text: object) -> None:
        """Send lines to the server, which shows the last ones on the page of the run. Nothing is printed.

        The last 100 lines are kept, at most 64 KiB. Secrets are masked by their form, which can miss some. Reading them
        needs the permission ``read_tail``. The call is cheap, but not meant for every item of a fast loop.

        Args:
            text: One or more lines: a string, or an object for ``str()``.

        Example:
            >>> with track(total=2, id="import") as bar:
            ...     bar.log("skipped row 7: no date")
        """
        self._run.log(text)

    def share(self) -> Share:
        """Return a small handle by which other processes add to this bar, each with a part of its own.

        The call starts the bar. The bar ends in this process, with its loop or block.

        Example:
            >>> with track(total=4, id="shared", display=False) as bar:
            ...     handle = bar.share()  # pass it to another process, and there:
            ...     with handle.track(part="rows 0 to 3", display=False) as part:
            ...         part.advance(4)
        """
        from .share import Share

        run = self._ensure_started(_get_caller_frame())
        url = None if run.sender is None else run.sender.url
        return Share(url, run.id, run.pin_run_id(), active=run.sender is not None)

    def _start_loop_run(self, frame: FrameType) -> Run:
        """Return the run for a loop that starts now: that of the block around it, or a new one."""
        run = self._run
        if run.status != "running" or not run.in_block:
            run = self._start_run(frame, in_block=False)
        if run.total is None:
            try:
                run.source_length = len(self._iterable)  # type: ignore[arg-type]
            except (Exception, SystemExit):  # noqa: BLE001 - no length, or a __len__ that raises
                run.source_length = None
        return run

    def _ensure_started(self, frame: FrameType) -> Run:
        """Return the run, and start it first if needed: a tracker may be used without a loop or a block."""
        return self._run if self._run.status is not None else self._start_run(frame, in_block=True)

    def _start_run(self, frame: FrameType, *, in_block: bool) -> Run:
        run = self._run
        if run.status is not None:
            display = run.display
            self._run = run = run.create_successor()
            run.display = display
        run.start(frame, in_block=in_block)
        run.make_current()
        if "ipykernel" in sys.modules:
            watch_cell(run)
        if run.display is not None:
            run.display.add(run, quiet=run.sender is not None)  # the sender logs the same failures
        if run.sender is not None:
            run.sender.add(run)
        return run


class _DetachedTracker(Tracker[T]):
    """A copy of a tracker that counts separately, and is neither sent nor drawn."""

    __slots__ = ()

    def _start_run(self, frame: FrameType, *, in_block: bool) -> Run:  # noqa: ARG002 - the signature of Tracker
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
    run = Run(id, RunOptions().intern(), None)
    run.title, run.description, run.total, run.weight = labels
    run.status, run.error = status, error
    run.set(position)
    return _DetachedTracker(iterable, run)


def _get_caller_frame(depth: int = 1) -> FrameType:
    """Return the frame of the code that uses a tracker, to recognize that code in a traceback."""
    try:
        return sys._getframe(depth + 1)  # noqa: SLF001
    except ValueError:  # the caller is not Python code
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
    stuck_after: StuckAfter = "auto",
    interval: float = DEFAULT_INTERVAL,
    client: HasSender | None = None,
    display: bool | None = None,
    stoppable: bool | None = None,
    on_stop: OnStop = "end",
) -> Tracker[T] | Tracker[None]:
    """Wrap a loop, or make a block, whose progress is shown on the server.

    The item is created when the loop or the block starts, and updated at most once an ``interval``. When the run has
    ended, the item moves from the list to the history, unless the run failed or ``keep`` is set. None of this runs in
    the loop's thread or can raise there. Without a configured server only the terminal bar is shown.

    Args:
        iterable: The source of the loop, synchronous or asynchronous; ``None`` for ``advance()`` and ``update()``.
        id: The item's id; by default a unique one. A program that is started again with the same id takes the item
            over.
        title: The name that is shown; by default the id, or the place in the program.
        description: The present state as text.
        total: The number of units; by default ``len(iterable)``, if there is one. The run is complete at exactly
            ``total``, or within 1e-9 of it if ``total`` or the count is a float. With 0 no percentage is shown until
            the run ends.
        unit: The name of a unit, at most 20 characters; ``"B"`` for bytes.
        weight: Items with a higher weight are shown first.
        group: The heading under which the item is listed.
        keep: Leave the item listed after it has succeeded or stopped.
        notify: The channels that are notified when the run ends, or when the item is stalled or late: one name or up to
            8. The server's operator sets up channels.
        deadline: A running item is late after this instant, in local time if the ``datetime`` has no time zone. A
            ``timedelta`` or a number of seconds starts with each run.
        stuck_after: Seconds above 0 without progress after which a running item is stuck; ``None`` turns the detection
            off. By default the server derives the time from this run and its former runs. An item without a count needs
            a number here.
        interval: Least seconds between two sends, 0.05 to 3600.
        client: A ``ProgressBar`` whose server and key replace the configured ones.
        display: Draw a bar; by default if stderr is a terminal, or in a notebook.
        stoppable: Accept requests to stop the run, from the page, ``progressbar-tracker stop`` or a client. The loop
            ends before its next item, as if the source were exhausted, and the run as stopped. ``stop_requested`` of
            the tracker is then true. A block checks that itself. By default only an outermost loop under ``run
            --stoppable`` accepts them.
        on_stop: ``"raise"`` raises ``StopRequested`` instead of ending the loop, for code after the loop that would
            take a partial result for a complete one.

    Returns:
        A ``Tracker``: iterable, context manager, with ``advance()``, ``update()``, ``write()``, ``fail()`` and
        ``close()``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``interval``, ``notify``, ``deadline``, ``stuck_after`` or ``on_stop`` is out of range.

    Example:
        >>> sum(track([1, 2, 3], id="adding", display=False))
        6
        >>> with track(total=100, unit="B", display=False) as bar:
        ...     bar.advance(100)
        ...     bar.completed
        100
    """
    kind = type(iterable)  # as `for` does; an attribute of the object itself may run code of its own
    if not (iterable is None or hasattr(kind, "__iter__") or hasattr(kind, "__aiter__")):
        iter(cast("Iterable[T]", iterable))  # accepts an object with only __getitem__, else raises a clear error
    run = create_run(
        Run, id=id, title=title, description=description, total=total, unit=unit, weight=weight, group=group, keep=keep,
        notify=notify, deadline=deadline, stuck_after=stuck_after, interval=interval, client=client,
        stoppable=select_stoppable(stoppable, has_loop=iterable is not None), on_stop=on_stop,
    )  # fmt: skip
    run.display = select_display(display)
    return Tracker(cast("Iterable[T] | None", iterable), run)
