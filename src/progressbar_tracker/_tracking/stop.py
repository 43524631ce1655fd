"""End a loop before its next item, because the stop of its run was requested.

A loop that is never stopped must not pay for it. A *gate* stands between a loop and its source: a subclass of ``chain``
without a ``__next__``, so that a step stays in C. The sender's thread closes a gate by replacing its class with one
whose ``__next__`` ends the loop. Every step of the iterators around the gate looks up its class, and so notices that.
An asynchronous iterator is closed in the same way, and has no gate.

The closed gate runs in the loop's own thread. It closes a generator, as ``break`` and the release of the loop do, and
leaves every other source as it is. A step of a source that waits is not interrupted.
"""

from __future__ import annotations

import weakref
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from progressbar_tracker._errors import StopRequested
from progressbar_tracker._log import INFO, log

from .counter import CopiedAsSource, CountedAsyncIterator, SourceIterable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from .run import Run

OnStop: TypeAlias = Literal["end", "raise"]

T = TypeVar("T")


class StopSwitch:
    """The stop of one run: whether it is requested, and the loops that it ends.

    Args:
        on_stop: Whether a loop ends as if its source were exhausted, or raises ``StopRequested``.

    Attributes:
        requested_by: The name of the requester; ``None`` until the stop is requested.
        has_ended_loop: A loop was ended.
        has_loop: A loop was started.
    """

    __slots__ = ("_callbacks", "_gates", "has_ended_loop", "has_loop", "on_stop", "requested_by")

    def __init__(self, on_stop: OnStop = "end") -> None:
        self.on_stop = on_stop
        self.requested_by: str | None = None
        self.has_ended_loop = False
        self.has_loop = False
        self._callbacks: list[Callable[[], None]] = []
        self._gates: list[weakref.ref[_Gate | CountedAsyncIterator[Any]]] = []

    def request(self, name: str, item_id: str) -> None:
        """Close the gates of all loops, of those that start later too. Idempotent; called in the sender's thread."""
        if self.requested_by is not None:
            return
        self.requested_by = name
        log(INFO, "The stop of item %r was requested by %s", item_id, name)
        for reference in list(self._gates):
            if (gate := reference()) is not None:
                _close(gate)
        self._run_callbacks()

    def call_on_request(self, callback: Callable[[], None]) -> None:
        """Call a function once with the request: in the sender's thread, or now if the stop is requested already."""
        self._callbacks.append(callback)
        if self.requested_by is not None:  # after the append: the other thread sets it before it takes the callbacks
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.pop()
            except IndexError:  # another thread has taken it
                return
            callback()

    def wrap_iterator(self, source: Iterator[T], run: Run) -> Iterator[T]:
        """Return an iterator that ends when the stop is requested."""
        gate = _Gate(source, run)
        self.watch(gate)
        return gate

    def watch(self, gate: _Gate | CountedAsyncIterator[Any]) -> None:
        """End the loop over ``gate`` when the stop is requested."""
        self.has_loop = True
        self._gates.append(weakref.ref(gate, self._gates.remove))
        if self.requested_by is not None:  # after the append: the other thread sets it before it reads the list
            _close(gate)

    def bind(self, gate: Iterator[Any], run: Run) -> None:
        """End the loop over a gate of ``make_gate()``."""
        if isinstance(gate, _Gate):
            gate.bind(run)
            self.watch(gate)

    def make_stoppable(self, source: Iterable[T], run: Run) -> _StoppableIterable:
        """Return an iterable like ``source``, whose loops end when the stop is requested."""
        if hasattr(type(source), "__aiter__"):
            return _StoppableAsyncIterable(source, run)
        return (_SizedIterable if hasattr(type(source), "__len__") else _StoppableIterable)(source, run)

    def end_loop(self, run: Run) -> None:
        """Record that a loop has ended, in its own thread.

        Raises:
            StopRequested: The loop raises it, instead of ending.
        """
        self.has_ended_loop = True
        if self.on_stop == "raise":
            if run.has_unfinished_loop:  # the loop is counted here; every item that was handed out is done
                run.is_exhausted = True
                run.on_exhausted()
            raise StopRequested(f"the stop of item {run.id!r} was requested by {self.requested_by}")


class _Gate(CopiedAsSource, chain):  # type: ignore[type-arg]  # a plain class when it runs
    """Passes on the items of a source, in C."""

    __slots__ = ("__weakref__", "_run", "_source")

    _run: Run | None

    def __new__(cls, source: Iterator[Any], run: Run | None) -> Self:
        self = super().__new__(cls, SourceIterable(source))
        self._source, self._run = source, run
        return self

    def bind(self, run: Run) -> None:
        """Set the run of a gate that was made without one."""
        self._run = run


class _ClosedGate(_Gate):
    """The class of a gate after the request."""

    __slots__ = ()

    def __next__(self) -> Any:
        source, run = self._source, self._run
        if run is not None and run.stop is not None:
            # A generator, of Python or of a compiler. Another thread may be in the middle of a step of it.
            if hasattr(type(source), "send") and not getattr(source, "gi_running", False):
                source.close()  # type: ignore[attr-defined]  # of a generator
            run.stop.end_loop(run)
        raise StopIteration


class _ClosedAsyncIterator(CountedAsyncIterator[T]):
    """The class of an asynchronous iterator after the request."""

    __slots__ = ()

    async def __anext__(self) -> T:
        run: Any = self._listener
        await _close_generator(self._source)
        run.stop.end_loop(run)
        self._counter.is_exhausted = True
        run.on_exhausted()
        raise StopAsyncIteration


async def _close_generator(source: Any) -> None:
    """Close a source that is an asynchronous generator, unless another task is in the middle of a step of it."""
    if hasattr(type(source), "athrow") and not getattr(source, "ag_running", False):
        await source.aclose()


def _close(gate: _Gate | CountedAsyncIterator[Any]) -> None:
    gate.__class__ = _ClosedGate if isinstance(gate, _Gate) else _ClosedAsyncIterator


def make_gate(source: Iterator[Any]) -> Iterator[Any]:
    """Return an iterator like ``source`` for a loop whose run is not known yet, see ``StopSwitch.bind()``."""
    return _Gate(source, None)


def is_gate(source: object) -> bool:
    """Return whether a loop over an iterator can be ended already."""
    return isinstance(source, _Gate)


def unwrap_iterable(source: Any) -> Any:
    """Return the iterable inside one of ``StopSwitch.make_stoppable()``, or ``source`` itself."""
    return source.unwrap() if isinstance(source, _StoppableIterable) else source


class _StoppableIterable:
    """The iterable of another library's bar, whose loops end when the stop is requested. Otherwise like its source."""

    __slots__ = ("_run", "_source")

    def __init__(self, source: Any, run: Run) -> None:
        self._source = source
        self._run = run

    def __iter__(self) -> Iterator[Any]:
        stop = self._run.stop
        iterator = iter(self._source)
        return iterator if stop is None else stop.wrap_iterator(iterator, self._run)

    def unwrap(self) -> Any:
        """Return the source."""
        return self._source

    def __reversed__(self) -> Any:
        return reversed(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _return_source, (self._source,)


class _SizedIterable(_StoppableIterable):
    __slots__ = ()

    def __len__(self) -> int:
        return len(self._source)


class _StoppableAsyncIterable(_StoppableIterable):
    """The same for ``async for``. A step costs little beside an ``await``."""

    __slots__ = ("_iterator",)

    def __init__(self, source: Any, run: Run) -> None:
        super().__init__(source, run)
        self._iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        self._iterator = aiter(self._source)
        if self._run.stop is not None:
            self._run.stop.has_loop = True
        return self

    async def __anext__(self) -> Any:
        iterator: Any = self._source if self._iterator is None else self._iterator
        stop = self._run.stop
        if stop is None or stop.requested_by is None:
            return await anext(iterator)
        await _close_generator(iterator)
        stop.end_loop(self._run)
        raise StopAsyncIteration


def _return_source(source: T) -> T:
    return source
