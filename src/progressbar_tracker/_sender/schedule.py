"""The book-keeping of runs, and when each is due. Built for 100,000 runs: every byte of a record counts."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .snapshot import Snapshot, Source

URGENT_DUE: Final = -math.inf  # before every instant
NEVER_SYNCED: Final = -math.inf
BUCKETS_PER_SECOND: Final = 32
URGENT_BUCKET: Final = -(2**62)
NO_BUCKET: Final = -(2**63)
HEARTBEAT_INTERVAL: Final = 15.0  # seconds without a change after which a live run sends a heartbeat
MIN_COMPACTION_SIZE: Final = 1000  # entries below which stale ones are not removed


class Record:
    """The book-keeping of one run. All instants are monotonic seconds."""

    __slots__ = (
        "acknowledged",
        "answered_at",
        "bucket",
        "create_sent",
        "ended_at",
        "heartbeat_interval",
        "hold_until",
        "recreations",
        "seq",
        "source",
        "synced_at",
        "tail_due",
        "tail_version",
    )

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.seq = 0
        self.bucket = NO_BUCKET  # its valid entry in the schedule
        self.acknowledged: Snapshot | None = None  # None: the server does not have the item
        self.create_sent = False  # a create was sent and may have arrived
        self.hold_until = now  # the back-off of this item alone
        self.answered_at = now  # of the latest response about it
        self.synced_at = NEVER_SYNCED  # the latest instant whose state the server has
        self.ended_at: float | None = None
        self.recreations = 0
        self.tail_version = 0  # of the output tail that the server has
        self.tail_due = now
        self.heartbeat_interval = HEARTBEAT_INTERVAL  # shorter for a run with a short limit of its own

    @property
    def is_forgotten(self) -> bool:
        """Whether the run has dropped this record or replaced it by a newer one."""
        return self.source.record is not self


class Schedule:
    """A timer wheel with buckets of a 32nd of a second. An entry costs one place in a queue.

    The valid entry of a record is the one in its ``bucket``. Its other entries are stale, and skipped.
    """

    def __init__(self) -> None:
        self._buckets: list[int] = []  # a heap of the buckets that have a queue
        self._entries: dict[int, deque[Record]] = {}
        self._size = 0  # entries, stale ones included
        self._max_size = MIN_COMPACTION_SIZE

    def put(self, record: Record, due: float) -> None:
        """Schedule ``record`` at the instant ``due``, in place of any earlier entry."""
        if self._size >= self._max_size:
            self._compact()
        self._size += 1
        bucket = URGENT_BUCKET if due == URGENT_DUE else math.ceil(due * BUCKETS_PER_SECOND)
        entries = self._entries.get(bucket)
        if entries is None:
            entries = self._entries[bucket] = deque()
            heapq.heappush(self._buckets, bucket)
        record.bucket = bucket
        entries.append(record)

    def pop_due(self, now: float) -> Record | None:
        """Remove and return the record that is due first, or return ``None`` if none is due."""
        while self._buckets and self._buckets[0] <= now * BUCKETS_PER_SECOND:
            bucket = self._buckets[0]
            entries = self._entries[bucket]
            while entries:
                record = entries.popleft()
                self._size -= 1
                if record.bucket == bucket and not record.is_forgotten:
                    record.bucket = NO_BUCKET
                    return record
            del self._entries[heapq.heappop(self._buckets)]
        return None

    def _compact(self) -> None:
        """Remove the stale entries. A program that flushes very often reschedules its runs as often."""
        for bucket, entries in list(self._entries.items()):
            valid = deque(dict.fromkeys(r for r in entries if r.bucket == bucket and not r.is_forgotten))
            if valid:
                self._entries[bucket] = valid
            else:
                del self._entries[bucket]
        self._buckets = sorted(self._entries)
        self._size = sum(map(len, self._entries.values()))
        self._max_size = max(MIN_COMPACTION_SIZE, 2 * self._size)

    def peek(self) -> float | None:
        """Return the earliest instant of an entry, perhaps a stale one, or ``None``."""
        if not self._buckets:
            return None
        return URGENT_DUE if self._buckets[0] == URGENT_BUCKET else self._buckets[0] / BUCKETS_PER_SECOND
