"""Counting that costs next to nothing: the position is kept by C and read from another thread.

No Python code runs per item. ``compress(source, repeat(True, maxsize))`` pulls a datum, then one selector, both in C;
the ``repeat`` counts down, and ``length_hint`` of it, read from the sender's thread, is the exact number handed out.
An object chained behind the source is asked for its iterator once, at true exhaustion, which tells that from ``break``
on the last item. A subclass of ``compress`` without a ``__next__`` keeps the C slot and gains a finalizer, which tells
that the loop let go of the iterator: it may run anywhere and under anybody's lock, so it only sets flags and appends.

``advance()`` from several threads: ``next()`` of a C iterator is one step under the GIL, and so is ``deque.append``; a
sum in an attribute is not. What ``advance`` is given other than 1 waits in a deque, folded when it is read or long.

Without the GIL (free-threaded CPython) a step of ``repeat`` is not atomic. A counter that is made there takes the lock
with every ``advance``, which is as exact, and slower. A loop's count is exact in both, for a loop's iterator belongs to
one thread at a time, as any iterator does; from another thread it is only read.

There is no second, faster path for lists and the like, whose own iterators the sender could ask how much is left. What
such an iterator has handed out is its length at the beginning less what is left; but a list may grow or shrink during
the loop, and an iterator that is exhausted has let go of its list, so nothing tells afterwards how many there were. It
would save 4 ns an item of 7, for an end that is not exact.

A counter never holds the user's data, and the user's iterators are never asked for their ``__length_hint__`` from
another thread. The length hint is that of our own ``repeat``.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from itertools import chain, compress, repeat
from typing import TYPE_CHECKING, Any, Final, Generic, Never, Protocol, Self, SupportsIndex, TypeVar, cast

from progressbar_tracker._fork import call_after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from progressbar_tracker._models import Number

    class _Lock(Protocol):
        def release(self) -> None: ...

    class LoopListener(Protocol):
        """Who wants to know of the end of a counted loop. Both calls may come from any thread, at any point."""

        def on_exhausted(self) -> None:
            """The source has nothing left. Called in the loop's own thread, as ordinary code."""

        def on_released(self) -> None:
            """The loop let go of its iterator. Called by a finalizer: set flags and append, nothing else."""

    class AsyncLoopListener(LoopListener, Protocol):
        """A watcher that also hears of an exception of the source, which only an asynchronous loop can see."""

        def on_source_error(self, error: BaseException) -> None:
            """The source raised."""


T = TypeVar("T")

LOCK_TIMEOUT: Final = 1.0  # seconds
_MAX_STEPS: Final = sys.maxsize
_MAX_PENDING_DELTAS: Final = 1024  # deltas waiting; more are folded by the thread that adds one

# Guards folding and setting, which are rare. Module-wide, so that a counter stays small. Replaced after a fork.
# Re-entrant, for a signal handler or a finalizer may read a count in the middle of a step of the same thread.
_lock = threading.RLock()


def reset_lock() -> None:
    """Replace the lock in the child of a fork, where the thread that held it may not exist."""
    global _lock
    _lock = threading.RLock()


call_after_fork(reset_lock)


def _acquire_lock() -> _Lock:
    """Take the lock and return it. A lock that is held for so long that its holder must be gone is replaced."""
    lock = _lock
    while not lock.acquire(True, LOCK_TIMEOUT):
        if lock is _lock:
            reset_lock()
        lock = _lock
    return lock


def is_gil_enabled() -> bool:
    """Say whether one thread at a time runs Python code, so that a step of a C iterator is atomic."""
    return bool(getattr(sys, "_is_gil_enabled", _return_true)())


def _return_true() -> bool:
    return True


class Counter:
    """How far one run is.

    >>> counter = Counter()
    >>> counter.advance(); counter.advance(2.5); counter.position
    3.5
    """

    __slots__ = ("_base", "_deltas", "_needs_lock", "_yielded", "is_exhausted", "unit_iterator")

    def __init__(self) -> None:
        self._base: Number = 0
        self._deltas: deque[Number] | None = None
        self._yielded: repeat[bool] | None = None
        self.unit_iterator: repeat[bool] | None = None  # one step of it is one unit, from any thread
        self.is_exhausted = False  # the source of the latest loop is exhausted
        self._needs_lock = not is_gil_enabled()  # a step of a C iterator is not atomic then

    @property
    def has_loop(self) -> bool:
        """Whether a loop was begun over this counter."""
        return self._yielded is not None

    @property
    def position(self) -> Number:
        """Units done. Of a loop, the item that is being worked on, or was when the loop was left, does not count."""
        # Reading changes nothing, so it may interrupt a step. list() of a deque is one step of C.
        lock = _acquire_lock()
        try:
            position, deltas, ones, handed = self._base, self._deltas, self.unit_iterator, self._yielded
            if deltas:
                position += sum(list(deltas))
            if ones is not None:
                position += _MAX_STEPS - ones.__length_hint__()
            return position if handed is None else position + self._loop_count()
        finally:
            lock.release()

    def is_at(self, position: Number) -> bool:
        """Say whether it stands at ``position`` for certain. No lock, which costs as much as all the rest.

        For the sender, which asks ten thousand runs every second whether they have moved since.
        """
        if self._deltas is not None:
            return False  # they may be being folded, and are in neither place
        now, ones = self._base, self.unit_iterator
        if ones is not None:
            now += _MAX_STEPS - ones.__length_hint__()
        # A loop that begins anew in this moment may be counted twice. That is never where it stood before.
        return (now if self._yielded is None else now + self._loop_count()) == position

    def advance(self, n: Number = 1) -> None:
        """Add ``n`` units. Exact from any number of threads."""
        # The path of n == 1 is hot: no lock, no attribute that two threads could write at once.
        if n == 1 and self.unit_iterator is not None:
            next(self.unit_iterator)
        else:
            self._add(n)

    def _add(self, n: Number) -> None:
        lock = _acquire_lock()
        try:
            if n == 1 and not self._needs_lock:
                if self.unit_iterator is None:
                    self.unit_iterator = repeat(True, _MAX_STEPS)
                next(self.unit_iterator)
                return
            if self._deltas is None:
                self._deltas = deque()
            self._deltas.append(n)
            if len(self._deltas) > _MAX_PENDING_DELTAS:
                self._fold(self._deltas)
        finally:
            lock.release()

    def set(self, position: Number) -> None:
        """Make the position an absolute value; what is added later is added to it."""
        lock = _acquire_lock()
        try:
            step = position - self.position
            self._base += step
        finally:
            lock.release()

    def _fold(self, deltas: deque[Number]) -> None:
        # Under the lock. popleft() takes each delta exactly once, also while others append; the sum is added in one
        # statement, which no signal handler can come in between.
        total: Number = 0
        with contextlib.suppress(IndexError):  # a signal handler has folded the rest
            for _ in range(len(deltas)):
                total += deltas.popleft()
        self._base += total

    def _loop_count(self) -> int:
        if self._yielded is None:
            return 0
        handed = _MAX_STEPS - self._yielded.__length_hint__()
        return handed if self.is_exhausted or handed == 0 else handed - 1

    def wrap_iterator(self, source: Iterable[T], listener: LoopListener) -> Iterator[T]:
        """Return a fresh iterator that counts here what ``source`` gives, and tells ``listener`` of its end.

        ``iter()`` is not called on an iterator: ``for`` does not do so either, and ``__next__`` is all it needs.
        """
        iterator = cast("Iterator[T]", source) if hasattr(type(source), "__next__") else iter(source)
        return _CountedIterator(iterator, _EndIterable(self, listener), self._start_loop(), listener)

    def _start_loop(self) -> repeat[bool]:
        lock = _acquire_lock()
        try:
            self._base += self._loop_count()
            self._yielded = handed = repeat(True, _MAX_STEPS)
            self.is_exhausted = False
        finally:
            lock.release()
        return handed

    def wrap_async_iterator(self, source: AsyncIterator[T], listener: AsyncLoopListener) -> AsyncIterator[T]:
        """The same for an asynchronous iterator, where a step of Python is lost in the cost of awaiting."""
        return _CountedAsyncIterator(self, source, self._start_loop(), listener)


class _EndIterable:
    """Chained behind the source: ``iter()`` of it is the sign that the source is exhausted."""

    __slots__ = ("_counter", "_listener")

    def __init__(self, counter: Counter, listener: LoopListener) -> None:
        self._counter = counter
        self._listener = listener

    def __iter__(self) -> Iterator[Never]:
        self._counter.is_exhausted = True
        self._listener.on_exhausted()
        return iter(())


class _SourceIterable:
    """Chained in front of the end: ``iter()`` of it is the source itself, as it is."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator: Iterator[object] = iterator

    def __iter__(self) -> Iterator[object]:
        return self._iterator


class _CountedIterator(compress, Generic[T]):  # type: ignore[type-arg]  # a plain class when it runs
    __slots__ = ("_listener", "_source")

    _source: Iterator[T]
    _listener: LoopListener

    def __new__(
        cls, source: Iterator[T], end: _EndIterable, selectors: Iterable[bool], listener: LoopListener
    ) -> _CountedIterator[T]:
        self = super().__new__(cls, chain(_SourceIterable(source), end), selectors)
        self._source = source
        self._listener = listener
        return self

    # A copy counts nothing and ends nothing: it is a copy of the source, if that can be copied.

    def __copy__(self) -> Iterator[T]:
        from copy import copy

        return copy(self._source)

    def __deepcopy__(self, memo: dict[int, Any]) -> Iterator[T]:
        from copy import deepcopy

        return deepcopy(self._source, memo)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        return self._source.__reduce_ex__(protocol)

    def __del__(self) -> None:
        self._listener.on_released()


class _CountedAsyncIterator(Generic[T]):
    """Counts what an asynchronous iterator gives.

    It is no asynchronous generator: one that is cancelled or raises is over, and one step of it has to end before the
    next one begins. A source may go on after either, and several tasks may share it.
    """

    __slots__ = ("__weakref__", "_counter", "_listener", "_source", "_yielded")

    def __init__(
        self, counter: Counter, source: AsyncIterator[T], yielded: repeat[bool], listener: AsyncLoopListener
    ) -> None:
        self._counter = counter
        self._source = source
        self._yielded = yielded
        self._listener = listener

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            item = await anext(self._source)
        except StopAsyncIteration:
            self._counter.is_exhausted = True
            self._listener.on_exhausted()
            raise
        except BaseException as error:
            self._listener.on_source_error(error)
            raise
        next(self._yielded)
        return item

    def __del__(self) -> None:
        watcher = getattr(self, "_listener", None)
        if watcher is not None:
            watcher.on_released()
