"""Commit writes in groups: the queue and the thread that the writers of both stores share.

One thread owns the only connection that writes. A group holds everything that was submitted meanwhile, so a hundred
waiters share one fsync. Queued states are coalesced per item and join the next group, after the flush delay at the
latest. The thread survives a failed commit: it fails the waiters, keeps the queued states and retries them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from progressbar_tracker.server.counters import CommitStats
from progressbar_tracker.server.logs import log_event
from progressbar_tracker.server.mutations import (
    AddNotice,
    AddSample,
    DropItem,
    KeepMessage,
    MarkSchedules,
    SaveCurve,
    SaveItem,
    SaveTail,
    ThinSamples,
    TouchKey,
    TouchSchedule,
    TouchSession,
    TrimHistory,
    TrimNotices,
    TrimTails,
    Write,
)

from .base import ItemRow, StoreError, commit_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

logger = logging.getLogger("progressbar_tracker.server.store")

RETRY_DELAY: Final = 1.0
"""Seconds until queued writes that failed are retried."""

CLOSE_TIMEOUT: Final = 10.0
"""Seconds in which the last group must be written."""


class Waiter(msgspec.Struct, eq=False):
    """Writes that succeed or fail together, and the callback for their outcome."""

    writes: Sequence[Write]
    on_done: Callable[[Exception | None], object]


W = TypeVar("W", bound=Waiter)


class GroupResult(msgspec.Struct, Generic[W]):
    """The outcome of a group.

    Attributes:
        outcomes: Each waiter with its error, or with ``None`` if its writes are on disk.
        failed: Queued writes to retry, by their key in the queue.
        rev: The revision of the commit; as the next two, for a store with several servers.
        changed_ids: Items that the commit changed.
        stale_rows: Rows of items whose queued state was discarded as outdated.
    """

    outcomes: list[tuple[W, StoreError | None]]
    failed: dict[object, Write] = {}
    rev: int | None = None
    changed_ids: frozenset[str] = frozenset()
    stale_rows: Mapping[str, ItemRow] = {}

    def merge(self, part: GroupResult[W]) -> None:
        """Add the result of a part of the group."""
        self.outcomes += part.outcomes
        self.failed |= part.failed
        self.rev = self.rev if part.rev is None else part.rev
        self.changed_ids |= part.changed_ids
        self.stale_rows = {**self.stale_rows, **part.stale_rows}


class GroupWriter(ABC, Generic[W]):
    """Commits writes in groups. A subclass writes one group, and starts the thread at the end of its constructor.

    Args:
        flush_delay: Seconds that queued writes may wait.

    Attributes:
        commit_stats: Counters of the commits.
    """

    def __init__(self, flush_delay: float) -> None:
        self.commit_stats = CommitStats()
        self._flush_delay = flush_delay
        self._condition = threading.Condition()
        self._waiters: list[W] = []
        self._queue: dict[object, Write] = {}
        self._in_flight: dict[object, Write] = {}  # queued writes of the group that is being written
        self._flush_at: float | None = None
        self._is_retrying = self._is_closing = False
        self._thread = threading.Thread(target=self._run_loop, name="progressbar-store", daemon=True)

    def submit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group; see :class:`~.base.WriteQueue`."""
        with self._condition:
            is_closing = self._is_closing
            if not is_closing:
                self._waiters.append(self._admit(writes, on_done))
        if is_closing:
            on_done(StoreError("the store is closed"))

    def wake(self) -> None:
        """Start a group with the submitted writes."""
        with self._condition:
            self._condition.notify()

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing with the next group."""
        return commit_now(self, writes)

    def enqueue(self, writes: Iterable[Write]) -> None:
        """Write within the flush delay. A newer state of an item replaces an older one."""
        with self._condition:
            self._coalesce(self._queue, writes)
            if self._flush_at is None and self._queue:
                self._flush_at = time.monotonic() + self._flush_delay
                self._condition.notify()

    def flush(self, timeout: float) -> bool:
        """Write the queue now, by empty commits that take it along; return whether it is empty in time."""
        end = time.monotonic() + timeout
        try:
            while True:
                self.commit(()).result(max(end - time.monotonic(), 0.0))
                with self._condition:
                    if self._is_retrying or not self._queue:
                        return not self._queue
        except (StoreError, TimeoutError):
            return False

    def count_pending_writes(self) -> int:
        """Return how many writes wait for a commit."""
        with self._condition:
            return len(self._queue) + sum(len(waiter.writes) for waiter in self._waiters)

    def close(self) -> bool:
        """Write the queue, then stop; return whether the thread has ended."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._join(CLOSE_TIMEOUT)
        return not self._thread.is_alive()

    def _join(self, timeout: float) -> None:
        self._thread.join(timeout)

    @abstractmethod
    def _admit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object]) -> W:
        """Return a waiter, and take older states of its items from the queue. The lock is held."""

    @abstractmethod
    def _write_group(self, waiters: list[W], queued: dict[object, Write]) -> GroupResult[W]:
        """Write a group in one transaction; raise any exception if that fails."""

    @abstractmethod
    def _classify_failure(self, error: Exception) -> tuple[StoreError, bool]:
        """Return the error for the waiters, and whether each part of the group would fail alike."""

    @staticmethod
    def _coalesce(queue: dict[object, Write], writes: Iterable[Write]) -> None:
        """Add writes to a queue; each replaces an older one with the same key."""
        for write in writes:
            queue[write.item.id if isinstance(write, SaveItem) else get_queue_key(write)] = write

    def _split_queue(self) -> tuple[dict[object, Write], dict[object, Write]]:
        """Return the queued writes for the next group, and those for later ones."""
        return self._queue, {}

    def _run_loop(self) -> None:
        while True:
            with self._condition:
                while not (
                    self._waiters
                    or self._is_closing
                    or (self._flush_at is not None and self._flush_at <= time.monotonic())
                ):
                    self._condition.wait(
                        None if self._flush_at is None else max(0.0, self._flush_at - time.monotonic())
                    )
                waiters, self._waiters = self._waiters, []
                self._in_flight, self._queue = self._split_queue()
                self._flush_at = time.monotonic() if self._queue else None
                is_last = self._is_closing and not self._queue
                is_closing = self._is_closing
            result = self._commit_group(waiters, self._in_flight)
            self._finish_group(result)
            # Newest first: a rollback must find the state that its own change made.
            for waiter, error in reversed(result.outcomes):
                waiter.on_done(error)
            if is_last or (is_closing and result.failed):
                if result.failed:
                    logger.error("%d states could not be written before the end", len(result.failed))
                return

    def _commit_group(self, waiters: list[W], queued: dict[object, Write]) -> GroupResult[W]:
        size = len(queued) + sum(len(waiter.writes) for waiter in waiters)
        started_at = time.perf_counter()
        try:
            result = self._write_group(waiters, queued)
        except Exception as error:  # noqa: BLE001  # the thread must survive any error
            failure, is_common = self._classify_failure(error)
            if self.commit_stats.record(size, time.perf_counter() - started_at, failed=True):
                logger.error("the store fails: %s", failure)  # noqa: TRY400
        else:
            if size and self.commit_stats.record(size, time.perf_counter() - started_at, failed=False):
                log_event("the store works again")
            return result
        if is_common or len(waiters) + bool(queued) == 1:
            return GroupResult([(waiter, failure) for waiter in waiters], dict(queued))
        # Write each part alone, so that only the faulty one fails.
        result = GroupResult([], {})
        for waiter in waiters:
            result.merge(self._commit_group([waiter], {}))
        if queued:
            result.merge(self._commit_group([], queued))
        return result

    def _finish_group(self, result: GroupResult[W]) -> None:
        """Prepare the next group; the outcomes are reported afterwards."""
        with self._condition:
            self._in_flight = {}
            self._is_retrying = bool(result.failed)
            if result.failed:
                self._requeue(result.failed)

    def _requeue(self, failed: dict[object, Write]) -> None:
        """Put failed writes back into the queue, except for items with newer writes. The lock is held."""
        newer = {get_item_id(write) for waiter in self._waiters for write in waiter.writes}
        queue = {key: write for key, write in failed.items() if key not in newer}
        self._coalesce(queue, self._queue.values())
        self._queue = queue
        self._flush_at = time.monotonic() + RETRY_DELAY

    def _continue_later(self, write: Write, delay: float) -> None:
        """Queue a write that left work undone, unless a newer one with its key is queued."""
        with self._condition:
            self._queue.setdefault(get_queue_key(write), write)
            self._flush_at = min(self._flush_at or math.inf, time.monotonic() + delay)


class GroupCommitStore:
    """The write methods of a store: those of its writer itself, so that a write passes through no further call."""

    def __init__(self, writer: GroupWriter[Any]) -> None:
        self.commit_stats = writer.commit_stats
        self.submit = writer.submit
        self.wake = writer.wake
        self.commit = writer.commit
        self.enqueue = writer.enqueue
        self.flush = writer.flush
        self.count_pending_writes = writer.count_pending_writes


def get_queue_key(write: Write) -> object:
    """Return the key of a write in the queue. Few keys bound what waits for a full disk."""
    match write:
        case AddSample(id=item_id) | ThinSamples(id=item_id):
            return type(write), item_id
        case SaveCurve(id=item_id, run_id=run_id) | SaveTail(id=item_id, run_id=run_id):
            return type(write), item_id, run_id
        case TouchKey(key_id=credential_id) | TouchSession(hash=credential_id):
            return type(write), credential_id
        case TrimHistory(status=status, max_runs=max_runs):
            return TrimHistory, status, max_runs
        case TrimTails(owner_id=owner_id):
            return TrimTails, owner_id
        case AddNotice(notice):
            return AddNotice, notice.notice_id
        case KeepMessage(message):
            return KeepMessage, message.channel, message.item_id, message.run_id
        case TouchSchedule(id=schedule_id):
            return TouchSchedule, schedule_id
        case TrimNotices() | MarkSchedules():
            return type(write)
    return get_item_id(write) or object()


def get_item_id(write: Write) -> str | None:
    """Return the item whose state a write changes."""
    match write:
        case SaveItem(item):
            return item.id
        case DropItem(item_id):
            return item_id
    return None
