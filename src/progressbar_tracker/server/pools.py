"""Pools of threads for blocking work: one for each purpose, so that no purpose holds up another.

A pool runs a few jobs at a time. What waits is bounded, the holders of waiting jobs take turns, and a job of which the
task is cancelled leaves the queue, or is interrupted if it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

MAX_WAITING: Final = 64
"""The most jobs that wait for a thread of a pool."""

MAX_WAITING_OF_HOLDER: Final = 8
"""The most of them that are of one key or address."""

MAX_WAIT_SECONDS: Final = 10.0
"""How long a job waits for a thread, by default."""

PRIORITY_WAIT_FACTOR: Final = 4.0
"""How many times as long a job waits whose turn is the next: a slow machine takes long for the one that runs."""

MAX_SEARCHES: Final = 2
"""The most searches at a time."""

MAX_SHORT_JOBS: Final = 512
"""The most short jobs, of milliseconds, that wait for a thread of a pool."""

MAX_SHORT_JOBS_OF_HOLDER: Final = 128
"""The most of them that are of one key or address: many people behind one address may open a link to a share."""

MAX_WAITING_PASSWORDS: Final = 4
"""The most passwords that wait for their verification."""

MAX_PASSWORD_WAIT: Final = 0.25
"""Seconds that a password waits for its verification; with the verification, less than half a second."""

INTERRUPT_INTERVAL: Final = 0.05
"""Seconds between two interrupts of a job: one that comes before the job has anything to interrupt has no effect."""


class PoolFullError(Exception):
    """Too many jobs wait, or this one has waited for too long."""


class CancelledWorkError(Exception):
    """The job was cancelled before it began to do anything."""


class Cancellation:
    """Interrupts one job, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None
        self._cancelled = False
        self._finished = threading.Event()

    @contextlib.contextmanager
    def allow_interrupt(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Let :meth:`cancel` call ``interrupt`` while the block runs, and never after.

        Raises:
            CancelledWorkError: It is cancelled already.
        """
        with self._lock:
            if self._cancelled:
                raise CancelledWorkError
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._interrupt = None

    def cancel(self) -> None:
        """Interrupt the job until it ends. Does not block."""
        self._cancelled = True
        threading.Thread(target=self._interrupt_until_finished, name="progressbar-interrupt", daemon=True).start()

    def finish(self) -> None:
        """Note that the job has ended."""
        self._finished.set()

    def _interrupt_until_finished(self) -> None:
        while True:
            with self._lock:
                if self._interrupt is not None:
                    self._interrupt()
            if self._finished.wait(INTERRUPT_INTERVAL):
                return


class Pool:
    """Threads for one purpose. To be used on one event loop.

    Args:
        threads: How many jobs run at a time.
        max_waiting: The most jobs that wait; one more takes the place of the latest of the holder with the most.
        max_waiting_of_holder: The most that wait of one holder.
        max_wait: Seconds that a job waits.
    """

    def __init__(
        self,
        threads: int,
        *,
        max_waiting: int = MAX_WAITING,
        max_waiting_of_holder: int = MAX_WAITING_OF_HOLDER,
        max_wait: float = MAX_WAIT_SECONDS,
    ) -> None:
        self._free_threads = threads
        self._max_waiting = max_waiting
        self._max_waiting_of_holder = max_waiting_of_holder
        self._max_wait = max_wait
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return sum(map(len, self._queues.values()))

    async def run(
        self, work: Callable[[], T], holder: str, cancellation: Cancellation | None = None, *, priority: bool = False
    ) -> T:
        """Return what ``work`` returns, or raise what it raises; called in a thread.

        Args:
            work: The job.
            holder: The key or the address that it is for.
            cancellation: Interrupts the job if this task is cancelled. Without one, it runs to its end.
            priority: The next turn is this holder's, and if the pool is full, another's job goes.

        Raises:
            PoolFullError: It has not begun.
        """
        await self._acquire_thread(holder, priority=priority)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def land(set_outcome: Callable[[], object]) -> None:
            self._release_thread()
            if not done.done():
                set_outcome()

        def run() -> None:
            set_outcome: Callable[[], object]
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                failure = error
                set_outcome = lambda: done.set_exception(failure)  # noqa: E731
            else:
                set_outcome = lambda: done.set_result(result)  # noqa: E731
            if cancellation is not None:
                cancellation.finish()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(land, set_outcome)

        try:
            # Not of an executor: its threads are waited for at the end of the process.
            threading.Thread(target=run, name="progressbar-pool", daemon=True).start()
        except RuntimeError as error:
            self._release_thread()
            raise PoolFullError("no thread can be started") from error
        try:
            return await done
        except asyncio.CancelledError:
            if cancellation is not None:
                cancellation.cancel()
            raise

    async def _acquire_thread(self, holder: str, *, priority: bool) -> None:
        """Wait for a thread.

        Raises:
            PoolFullError: There is none to be had in time.
        """
        if self._free_threads:
            self._free_threads -= 1
            return
        queue = self._queues.get(holder, ())
        if len(queue) >= self._max_waiting_of_holder:
            raise PoolFullError("too much of one holder waits")
        if self.waiting >= self._max_waiting:
            longest = max(reversed(list(self._queues.values())), key=len)
            if len(longest) <= len(queue) + 1 and not priority:
                raise PoolFullError("too much waits")
            latest = longest.pop()
            if not latest.done():
                latest.set_exception(PoolFullError("another holder has less than this one"))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(holder, deque()).append(turn)
        if priority:
            self._queues.move_to_end(holder, last=False)
        try:
            async with asyncio.timeout(self._max_wait * PRIORITY_WAIT_FACTOR if priority else self._max_wait):
                await turn
        except BaseException as error:
            self._remove_turn(holder, turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release_thread()  # it was this one's turn in the same instant
            if isinstance(error, TimeoutError):
                raise PoolFullError("it has waited for too long") from error
            raise

    def _remove_turn(self, holder: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(holder)
        if queue is not None:
            with contextlib.suppress(ValueError):
                queue.remove(turn)
            if not queue:
                del self._queues[holder]

    def _release_thread(self) -> None:
        """Give the thread to the next holder, or back."""
        while self._queues:
            holder, queue = self._queues.popitem(last=False)
            turn = queue.popleft() if queue else None
            if queue:
                self._queues[holder] = queue  # behind all others
            if turn is not None and not turn.done():
                turn.set_result(None)
                return
        self._free_threads += 1


class Pools:
    """The pools of one server, by purpose.

    Attributes:
        search: Searches of the history for a text.
        history: Indexed reads of the history, the samples and the outbox.
        pages: Pages with thousands of items.
        password: Verifications of passwords; known browsers go first.
    """

    def __init__(self) -> None:
        self.search = Pool(MAX_SEARCHES)
        self.history = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.pages = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.password = Pool(1, max_waiting=MAX_WAITING_PASSWORDS, max_waiting_of_holder=2, max_wait=MAX_PASSWORD_WAIT)
