"""Thread pools for blocking work: one for each purpose, so that no purpose delays another.

A pool runs a few jobs at a time. Its queue is bounded, and the holders of waiting jobs take turns. If the task of a job
is cancelled, the job leaves the queue, or is interrupted if it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, TypeVar

from .threads import start_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

MAX_WAITING: Final = 64
"""The most jobs in the queue of a pool."""

MAX_WAITING_OF_HOLDER: Final = 8
"""The most jobs of one key or address in the queue."""

MAX_WAIT_SECONDS: Final = 10.0
"""The default of the seconds that a job waits for a thread."""

PRIORITY_WAIT_FACTOR: Final = 4.0
"""A job with priority waits this many times as long: on a slow machine, the running job takes long."""

MAX_SEARCHES: Final = 2
"""The most searches at a time."""

MAX_SHORT_JOBS: Final = 512
"""The most jobs in a queue if each takes milliseconds."""

MAX_SHORT_JOBS_OF_HOLDER: Final = 128
"""The most of them of one key or address: many people behind one address may open a link to a share."""

MAX_WAITING_PASSWORDS: Final = 4
"""The most passwords that wait for their verification."""

MAX_PASSWORD_WAIT: Final = 0.25
"""Seconds that a password waits for its verification; with the verification, less than half a second."""

INTERRUPT_INTERVAL: Final = 0.05
"""Seconds between two interrupts of a job. An interrupt has no effect before the job does something interruptible."""


class PoolFullError(Exception):
    """The queue is full, or the job has waited for too long."""


class CancelledWorkError(Exception):
    """The job was cancelled before it did anything."""


class Cancellation:
    """Interrupts one job, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interrupt: Callable[[], object] | None = None
        self._cancelled = False
        self._finished = threading.Event()

    @contextlib.contextmanager
    def allow_interrupt(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Let :meth:`cancel` call ``interrupt`` while the block runs, and never later.

        Raises:
            CancelledWorkError: The job is already cancelled.
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
        """Stop interrupting: the job has ended."""
        self._finished.set()

    def _interrupt_until_finished(self) -> None:
        while True:
            with self._lock:
                if self._interrupt is not None:
                    self._interrupt()
            if self._finished.wait(INTERRUPT_INTERVAL):
                return


class Pool:
    """Threads for one purpose, used on one event loop.

    Args:
        threads: The number of concurrent jobs.
        max_waiting: The most jobs in the queue. A job beyond it replaces the latest job of the holder with the most.
        max_waiting_of_holder: The most jobs of one holder in the queue.
        max_wait: The most seconds that a job waits.
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
        """The number of jobs in the queue."""
        return sum(map(len, self._queues.values()))

    async def run(
        self, work: Callable[[], T], holder: str, cancellation: Cancellation | None = None, *, priority: bool = False
    ) -> T:
        """Run ``work`` in a thread, and return its result.

        Args:
            work: The job.
            holder: The key or the address of the client.
            cancellation: Interrupts the job if this task is cancelled. Without one, the job runs to its end.
            priority: Take the next turn. If the queue is full, replace another holder's job.

        Raises:
            PoolFullError: The job was not started.
        """
        await self._acquire_thread(holder, priority=priority)

        def run() -> T:
            try:
                return work()
            finally:
                if cancellation is not None:
                    cancellation.finish()

        try:
            done = start_daemon_thread(run, name="progressbar-pool", on_end=self._release_thread)
        except RuntimeError as error:
            self._release_thread()
            raise PoolFullError("the system cannot start a thread") from error
        try:
            return await done
        except asyncio.CancelledError:
            if cancellation is not None:
                cancellation.cancel()
            raise

    async def _acquire_thread(self, holder: str, *, priority: bool) -> None:
        """Wait for a free thread.

        Raises:
            PoolFullError: No thread became free in time.
        """
        if self._free_threads:
            self._free_threads -= 1
            return
        queue = self._queues.get(holder, ())
        if len(queue) >= self._max_waiting_of_holder:
            raise PoolFullError("too many jobs of one holder wait")
        if self.waiting >= self._max_waiting:
            longest = max(reversed(list(self._queues.values())), key=len)
            if len(longest) <= len(queue) + 1 and not priority:
                raise PoolFullError("too many jobs wait")
            latest = longest.pop()
            if not latest.done():
                latest.set_exception(PoolFullError("another holder has fewer waiting jobs"))
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
                self._release_thread()  # the turn came in the same instant
            if isinstance(error, TimeoutError):
                raise PoolFullError("the job has waited for too long") from error
            raise

    def _remove_turn(self, holder: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(holder)
        if queue is not None:
            with contextlib.suppress(ValueError):
                queue.remove(turn)
            if not queue:
                del self._queues[holder]

    def _release_thread(self) -> None:
        """Pass the thread to the next holder, or make it free."""
        while self._queues:
            holder, queue = self._queues.popitem(last=False)
            turn = queue.popleft() if queue else None
            if queue:
                self._queues[holder] = queue  # behind the other holders
            if turn is not None and not turn.done():
                turn.set_result(None)
                return
        self._free_threads += 1


class Pools:
    """The pools of one server, by purpose.

    Attributes:
        search: Searches of the history for a text.
        history: Indexed reads of the history, the samples and the outbox.
        password: Verifications of passwords; known browsers go first.
        output: Masking of the output of programs.
    """

    def __init__(self) -> None:
        self.search = Pool(MAX_SEARCHES)
        self.history = Pool(2, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
        self.password = Pool(1, max_waiting=MAX_WAITING_PASSWORDS, max_waiting_of_holder=2, max_wait=MAX_PASSWORD_WAIT)
        self.output = Pool(1, max_waiting=MAX_SHORT_JOBS, max_waiting_of_holder=MAX_SHORT_JOBS_OF_HOLDER)
