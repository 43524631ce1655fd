"""The book-keeping of runs, and who is due when. Made for 100,000 of them: what each costs is counted in bytes."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .snapshot import Snapshot, Source

URGENT: Final = -math.inf  # due before everything that has an instant
FAR_BACK: Final = -math.inf
GRAINS: Final = 32  # of the agenda in a second
FIRST_GRAIN: Final = -(2**62)
GONE: Final = -(2**63)
SWEEP: Final = 1000  # entries of the agenda below which stale ones do no harm


class Record:
    """The book-keeping of one run. All instants are monotonic seconds."""

    __slots__ = (
        "acked",
        "ended_at",
        "grain",
        "heard_at",
        "hold_until",
        "revivals",
        "seq",
        "source",
        "synced_at",
        "tried",
    )

    def __init__(self, source: Source, now: float) -> None:
        self.source = source
        self.seq = 0
        self.grain = GONE  # where in the agenda it stands
        self.acked: Snapshot | None = None  # None: the server does not have it
        self.tried = False  # a create was sent, and may have arrived
        self.hold_until = now  # the back-off of this item alone
        self.heard_at = now  # the server's latest answer about it
        self.synced_at = FAR_BACK  # the latest instant whose state the server is known to have
        self.ended_at: float | None = None
        self.revivals = 0

    @property
    def gone(self) -> bool:
        """Whether there is nothing more to do about it."""
        return self.source.record is not self


class Agenda:
    """Who is due when, in grains of a 32nd of a second. An entry costs a place in a queue: there may be 100,000.

    A record stands where its ``grain`` says; any other entry of it is stale, and passed over.
    """

    def __init__(self) -> None:
        self._grains: list[int] = []  # a heap of those that have a queue
        self._due: dict[int, deque[Record]] = {}
        self._size = 0  # entries, stale ones included
        self._bound = SWEEP

    def put(self, record: Record, due: float) -> None:
        """Let ``record`` be due at the instant ``due``, and at no other."""
        if self._size >= self._bound:
            self._sweep()
        self._size += 1
        grain = FIRST_GRAIN if due == URGENT else math.ceil(due * GRAINS)
        entries = self._due.get(grain)
        if entries is None:
            entries = self._due[grain] = deque()
            heapq.heappush(self._grains, grain)
        record.grain = grain
        entries.append(record)

    def take(self, now: float) -> Record | None:
        """Take out a record that is due, the earliest first, or return ``None``."""
        while self._grains and self._grains[0] <= now * GRAINS:
            grain = self._grains[0]
            entries = self._due[grain]
            while entries:
                record = entries.popleft()
                self._size -= 1
                if record.grain == grain and not record.gone:
                    record.grain = GONE
                    return record
            del self._due[heapq.heappop(self._grains)]
        return None

    def _sweep(self) -> None:
        """Take the stale entries out: a program that flushes all the time puts its runs forward all the time."""
        for grain, entries in list(self._due.items()):
            self._due[grain] = deque(dict.fromkeys(r for r in entries if r.grain == grain and not r.gone))
            if not self._due[grain]:
                del self._due[grain]
        self._grains = sorted(self._due)
        self._size = sum(map(len, self._due.values()))
        self._bound = max(SWEEP, 2 * self._size)

    def next(self) -> float | None:
        """Return the instant at which a record is due, or ``None``; it may be that of a stale entry."""
        if not self._grains:
            return None
        return URGENT if self._grains[0] == FIRST_GRAIN else self._grains[0] / GRAINS
