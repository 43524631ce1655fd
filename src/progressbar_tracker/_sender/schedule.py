"""The book-keeping of runs, and who is due when. Made for 100,000 of them: what each costs is counted in bytes."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .snapshot import Snapshot, Source

URGENT_DUE: Final = -math.inf  # due before everything that has an instant
NEVER_SYNCED: Final = -math.inf
BUCKETS_PER_SECOND: Final = 32  # of the agenda in a second
URGENT_BUCKET: Final = -(2**62)
NO_BUCKET: Final = -(2**63)
MIN_COMPACTION_SIZE: Final = 1000  # entries of the agenda below which stale ones do no harm


class Record:
    """The book-keeping of one run. All instants are monotonic seconds."""

    __slots__ = (
        "acknowledged",
        "answered_at",
        "bucket",
        "create_sent",
        "ended_at",
        "hold_until",
        "recreations",
        "seq",
        "source",
        "synced_at",
    )

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.seq = 0
        self.bucket = NO_BUCKET  # where in the agenda it stands
        self.acknowledged: Snapshot | None = None  # None: the server does not have it
        self.create_sent = False  # a create was sent, and may have arrived
        self.hold_until = now  # the back-off of this item alone
        self.answered_at = now  # the server's latest answer about it
        self.synced_at = NEVER_SYNCED  # the latest instant whose state the server is known to have
        self.ended_at: float | None = None
        self.recreations = 0

    @property
    def is_forgotten(self) -> bool:
        """Whether there is nothing more to do about it."""
        return self.source.record is not self


class Schedule:
    """Who is due when, in grains of a 32nd of a second. An entry costs a place in a queue: there may be 100,000.

    A record stands where its ``grain`` says; any other entry of it is stale, and passed over.
    """

    def __init__(self) -> None:
        self._buckets: list[int] = []  # a heap of those that have a queue
        self._entries: dict[int, deque[Record]] = {}
        self._size = 0  # entries, stale ones included
        self._max_size = MIN_COMPACTION_SIZE

    def put(self, record: Record, due: float) -> None:
        """Let ``record`` be due at the instant ``due``, and at no other."""
        if self._size >= self._max_size:
            self._compact()
        self._size += 1
        grain = URGENT_BUCKET if due == URGENT_DUE else math.ceil(due * BUCKETS_PER_SECOND)
        entries = self._entries.get(grain)
        if entries is None:
            entries = self._entries[grain] = deque()
            heapq.heappush(self._buckets, grain)
        record.bucket = grain
        entries.append(record)

    def pop_due(self, now: float) -> Record | None:
        """Take out a record that is due, the earliest first, or return ``None``."""
        while self._buckets and self._buckets[0] <= now * BUCKETS_PER_SECOND:
            grain = self._buckets[0]
            entries = self._entries[grain]
            while entries:
                record = entries.popleft()
                self._size -= 1
                if record.bucket == grain and not record.is_forgotten:
                    record.bucket = NO_BUCKET
                    return record
            del self._entries[heapq.heappop(self._buckets)]
        return None

    def _compact(self) -> None:
        """Take the stale entries out: a program that flushes all the time puts its runs forward all the time."""
        for grain, entries in list(self._entries.items()):
            self._entries[grain] = deque(dict.fromkeys(r for r in entries if r.bucket == grain and not r.is_forgotten))
            if not self._entries[grain]:
                del self._entries[grain]
        self._buckets = sorted(self._entries)
        self._size = sum(map(len, self._entries.values()))
        self._max_size = max(MIN_COMPACTION_SIZE, 2 * self._size)

    def peek(self) -> float | None:
        """Return the instant at which a record is due, or ``None``; it may be that of a stale entry."""
        if not self._buckets:
            return None
        return URGENT_DUE if self._buckets[0] == URGENT_BUCKET else self._buckets[0] / BUCKETS_PER_SECOND
