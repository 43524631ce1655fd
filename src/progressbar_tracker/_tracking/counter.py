"""Count a loop's items in C, and read the position from another thread.

No Python code runs per item. ``compress(source, repeat(True, maxsize))`` pulls an item, then one selector, both in C.
The ``repeat`` counts down; its ``__length_hint__``, read from the sender's thread, gives the exact number of items.
``iter()`` of an object that is chained behind the source is called once, at exhaustion: that distinguishes exhaustion
from ``break`` on the last item. A subclass of ``compress`` without a ``__next__`` keeps the C slot and gains a
finalizer, which shows that the loop released its iterator. The finalizer may run at any point and under any lock, so it
only sets flags and appends.

``advance()`` from several threads: ``next()`` of a C iterator is one step under the GIL, and so is ``deque.append``; an
addition to an attribute is not. A number other than 1 waits in a deque, which is folded when it is long.

Without the GIL (free-threaded CPython) a step of ``repeat`` is not atomic. A counter takes the lock at each
``advance()`` there, which is as exact, and slower. A loop's count is exact in both, because one thread at a time uses
an iterator; other threads only read it.

Lists have no faster path, although their iterators report how much is left. A list may grow or shrink during the loop,
and an exhausted iterator has released its list, so the number of items is lost. The path would save 4 of 7 ns an item,
and its last count would not be exact.

A counter never holds the user's data. No thread calls ``__length_hint__`` of the user's iterators, only of the
``repeat``.
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
        """Receives the end of a counted loop, in any thread and at any point."""

        def on_exhausted(self) -> None:
            """Process the exhaustion of the source. Called in the loop's own thread, as ordinary code."""

        def on_released(self) -> None:
            """Process the release of the iterator. Called by a finalizer: set flags and append, nothing else."""

    class AsyncLoopListener(LoopListener, Protocol):
        """A listener that also receives an exception of the source, which only an asynchronous loop can see."""

        def on_source_error(self, error: BaseException) -> None:
            """Process an exception of the source."""


T = TypeVar("T")

LOCK_TIMEOUT: Final = 1.0  # seconds
_MAX_STEPS: Final = sys.maxsize
_MAX_PENDING_DELTAS: Final = 1024  # the thread that adds one more folds them

# Guards folding and setting, which are rare. Module-wide, so that a counter stays small. Replaced after a fork.
# Re-entrant, because a signal handler or a finalizer may read a count in the middle of a step of the same thread.
_lock = threading.RLock()


def reset_lock() -> None:
    """Replace the lock in the child of a fork, which may lack the thread that held it."""
    global _lock
    _lock = threading.RLock()


call_after_fork(reset_lock)


def acquire_lock() -> _Lock:
    """Acquire and return the lock. If it is held longer than any live thread holds it, replace it."""
    lock = _lock
    while not lock.acquire(True, LOCK_TIMEOUT):
        if lock is _lock:
            reset_lock()
        lock = _lock
    return lock


def is_gil_enabled() -> bool:
    """Return whether one thread at a time runs Python code, so that a step of a C iterator is atomic."""
    return bool(getattr(sys, "_is_gil_enabled", _return_true)())


def _return_true() -> bool:
    return True


class Counter:
    """The position of one run.

    >>> counter = Counter()
    >>> counter.advance(); counter.advance(2.5); counter.position
    3.5
    """

    __slots__ = ("_base", "_deltas", "_needs_lock", "_yielded", "is_exhausted", "unit_iterator")

    def __init__(self) -> None:
        self._base: Number = 0
        self._deltas: deque[Number] | None = None
        self._yielded: repeat[bool] | None = None
        self.unit_iterator: repeat[bool] | None = None  # one step is one unit, from any thread
        self.is_exhausted = False  # of the source of the latest loop
        self._needs_lock = not is_gil_enabled()  # a step of a C iterator is not atomic then

    @property
    def has_unfinished_loop(self) -> bool:
        """Whether a loop was started over this counter, and its source is not exhausted."""
        return self._yielded is not None and not self.is_exhausted

    @property
    def position(self) -> Number:
        """Units done. The current item of a loop, or the one at which it was left, does not count."""
        # Reading changes nothing, so it may interrupt a step. list() of a deque is one step of C.
        lock = acquire_lock()
        try:
            position, deltas, units, yielded = self._base, self._deltas, self.unit_iterator, self._yielded
            if deltas:
                position += sum(list(deltas))
            if units is not None:
                position += _MAX_STEPS - units.__length_hint__()
            return position if yielded is None else position + self._loop_count()
        finally:
            lock.release()

    def is_at(self, position: Number) -> bool:
        """Return True only if the position equals ``position``; False may also mean unknown.

        No lock is taken: it would double the cost.

        For the sender, which checks ten thousand runs a second for movement.
        """
        if self._deltas is not None:
            return False  # during a fold, a popped delta is neither in the deltas nor in the base
        now, units = self._base, self.unit_iterator
        if units is not None:
            now += _MAX_STEPS - units.__length_hint__()
        # A loop that starts again at this moment may be counted twice. The sum never equals the earlier position.
        return (now if self._yielded is None else now + self._loop_count()) == position

    def advance(self, n: Number = 1) -> None:
        """Add ``n`` units. Exact from any number of threads."""
        # The path of n == 1 is hot: no lock, and no attribute that two threads could write at once.
        if n == 1 and self.unit_iterator is not None:
            next(self.unit_iterator)
        else:
            self._add(n)

    def _add(self, n: Number) -> None:
        lock = acquire_lock()
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
        """Replace the position by an absolute value."""
        lock = acquire_lock()
        try:
            delta = position - self.position
            self._base += delta
        finally:
            lock.release()

    def _fold(self, deltas: deque[Number]) -> None:
        # Under the lock. popleft() takes each delta exactly once, also while other threads append. The sum is added in
        # one statement, which no signal handler can interrupt.
        total: Number = 0
        with contextlib.suppress(IndexError):  # a signal handler has folded the rest
            for _ in range(len(deltas)):
                total += deltas.popleft()
        self._base += total

    def _loop_count(self) -> int:
        if self._yielded is None:
            return 0
        count = _MAX_STEPS - self._yielded.__length_hint__()
        return count if self.is_exhausted or count == 0 else count - 1

    def wrap_iterator(self, source: Iterable[T], listener: LoopListener) -> Iterator[T]:
        """Return a new iterator that counts the items of ``source`` and notifies ``listener`` of its end.

        ``iter()`` is not called on an iterator: ``__next__`` is enough, as for ``for``.
        """
        iterator = cast("Iterator[T]", source) if hasattr(type(source), "__next__") else iter(source)
        return _CountedIterator(iterator, _EndIterable(self, listener), self._start_loop(), listener)

    def _start_loop(self) -> repeat[bool]:
        lock = acquire_lock()
        try:
            self._base += self._loop_count()
            self._yielded = yielded = repeat(True, _MAX_STEPS)
            self.is_exhausted = False
        finally:
            lock.release()
        return yielded

    def wrap_async_iterator(self, source: AsyncIterator[T], listener: AsyncLoopListener) -> CountedAsyncIterator[T]:
        """Wrap an asynchronous iterator, in Python: a step costs little beside an ``await``."""
        return CountedAsyncIterator(self, source, self._start_loop(), listener)


class _EndIterable:
    """Chained behind the source: ``iter()`` of it shows that the source is exhausted."""

    __slots__ = ("_counter", "_listener")

    def __init__(self, counter: Counter, listener: LoopListener) -> None:
        self._counter = counter
        self._listener = listener

    def __iter__(self) -> Iterator[Never]:
        self._counter.is_exhausted = True
        self._listener.on_exhausted()
        return iter(())


class SourceIterable:
    """Chained in front of the end: ``iter()`` of it returns the source unchanged."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[T]) -> None:
        self._iterator: Iterator[object] = iterator

    def __iter__(self) -> Iterator[object]:
        return self._iterator


class CopiedAsSource:
    """A copy is a copy of the source, if that can be copied. It neither counts nor ends the run."""

    __slots__ = ()

    _source: Iterator[object]

    def __copy__(self) -> Iterator[object]:
        from copy import copy

        return copy(self._source)

    def __deepcopy__(self, memo: dict[int, Any]) -> Iterator[object]:
        from copy import deepcopy

        return deepcopy(self._source, memo)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        return self._source.__reduce_ex__(protocol)


class _CountedIterator(CopiedAsSource, compress, Generic[T]):  # type: ignore[type-arg]  # a plain class when it runs
    __slots__ = ("_listener", "_source")

    _listener: LoopListener

    def __new__(
        cls, source: Iterator[T], end: _EndIterable, selectors: Iterable[bool], listener: LoopListener
    ) -> _CountedIterator[T]:
        self = super().__new__(cls, chain(SourceIterable(source), end), selectors)
        self._source = source
        self._listener = listener
        return self

    def __del__(self) -> None:
        self._listener.on_released()


class CountedAsyncIterator(Generic[T]):
    """Counts the items of an asynchronous iterator.

    It is not an asynchronous generator: that is finished by a cancellation or an exception, and one step has to end
    before the next. A source may continue after both, and several tasks may share it.
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
        listener = getattr(self, "_listener", None)
        if listener is not None:
            listener.on_released()
