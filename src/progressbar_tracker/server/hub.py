"""The hub: publish the changes of the board, at most twice a second, as Server-Sent Events for all subscribers.

A change of the board notifies the hub. The next *tick* encodes each changed item once. The hub keeps the latest ticks
in a ring. A subscriber is a position in that ring and has no queue of its own: it reads the frames after its position.
A subscriber that has fallen behind the ring gets a new snapshot. So a subscriber costs a few bytes, and a slow one does
not delay the others.

A large snapshot is serialized in chunks while its client reads them, from the board of that moment. The changes since
its beginning follow as one event of the latest states, so that no bar moves backwards. For a large event of a tick, a
stream keeps only its offset. The stream ends if the ring drops the tick meanwhile.

Event ids are ``epoch-rev``: the epoch of the server or its database, and a revision of the board. A subscriber that
sends ``Last-Event-ID`` resumes there if the ring still has that revision. So an id promises that its client has all
changes up to the revision: an event that does not carry the pending changes has the id of the latest tick.

A response with a list of items carries such an id, too: its client reads the list first, compressed, and then the
changes. So the board keeps its changes for :data:`HANDOVER_SECONDS` after a list, not encoded. The first subscriber
gets them as one event of the latest states.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from . import capacity
from .budget import CHUNK_BYTES
from .frames import ItemChange, Tick, View, encode, encode_event, event_prefix, split_chunks
from .models import rfc3339
from .problems import ProblemError
from .quota import Quota

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from .items.board import Board
    from .items.change import PendingChanges
    from .items.serializer import ItemSerializer

_system_random: Final = random.SystemRandom()  # the global state belongs to the program that runs this server

TICK_INTERVAL: Final = 0.5
"""The fewest seconds between two ticks."""

COALESCE_SECONDS: Final = 0.02
"""Seconds between the first change after a pause and its tick, to collect more changes."""

MAX_TICKS: Final = 256
"""The most ticks in the ring."""

MAX_RING_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of ticks in the ring: if many items change all the time, a snapshot is smaller."""

MAX_TICK_BYTES: Final = 4 * 1024 * 1024
"""The most bytes of a tick. Instead of a larger one, subscribers get a snapshot, which is not kept in memory."""

HEARTBEAT_INTERVAL: Final = 15.0
"""Seconds without an event after which a subscriber gets a heartbeat."""

HANDOVER_SECONDS: Final = 30.0
"""Seconds after a list of items within which its client resumes from there, although there is no other subscriber."""

MAX_KEPT_CHANGES: Final = 10_000
"""The most changed items that are kept for the client of a list; more are larger than :data:`MAX_TICK_BYTES`."""

MAX_KEPT_RUNS: Final = 1000
"""The most ended runs that are kept for the client of a list."""

MAX_STREAM_AGE: Final = 1800.0
"""Seconds after which a stream ends; its client reconnects."""

RETRY_MILLISECONDS: Final = 2000
"""Milliseconds until a client reconnects. When the server stops, each client gets a random delay up to this."""

MAX_STREAMS: Final = 5000
"""The most open streams, if the process may have as many; one key or link may have half of them."""

ADDRESS_DIVISOR: Final = 4
"""Without a key, the network of a client may open the limit of streams divided by this number."""

MAX_CACHED_SNAPSHOTS: Final = 100
"""The most snapshots that are cached for further subscribers."""


class _Snapshot(NamedTuple):
    """The snapshot of a view, as of a position in the ring and a revision of the board."""

    position: int
    rev: int
    stored_rev: int
    frame: bytes


class Hub:
    """Publishes changes of a board to subscribers.

    Args:
        board: The board.
        serializer: Serializes the items.
        epoch: The first part of event ids.
        clock: Returns seconds since the epoch.
        get_rev: Returns the revision of the database that the board has reached, if other servers write to it, too.
            The board has exactly the changes up to it, and a client of another server may resume after any of them.
            A run that becomes stalled changes no revision: ticks of the same one are published again.
        monotonic: Returns seconds that no change of the clock affects.

    Attributes:
        stream_count: The number of open streams.
        streams_opened: The number of streams ever opened.
        events_sent: The number of events sent.
        closed: The server is stopping.
    """

    def __init__(
        self,
        board: Board,
        serializer: ItemSerializer,
        *,
        epoch: str,
        clock: Callable[[], float],
        get_rev: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._serializer = serializer
        self._get_rev: Callable[[], int] = (lambda: board.rev) if get_rev is None else get_rev
        self._resend_same_rev = get_rev is not None
        self._epoch = epoch
        self._clock = clock
        self._monotonic = monotonic
        self._handover_until = float("-inf")
        self._ring: deque[Tick] = deque()
        self._tick_count = 0  # since the start
        self._oldest_rev = self._get_rev()  # the ring has all later changes
        self._drained_rev = self._oldest_rev  # the pending changes are later
        self._snapshots: dict[View, _Snapshot] = {}
        self._wakeup = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last_tick_at = float("-inf")
        self.stream_count = self.streams_opened = self.events_sent = 0
        self._streams_by_holder: Counter[str] = Counter()
        self.closed = False

    def notify(self) -> None:
        """Schedule a tick: soon after a pause, otherwise half a second after the last one."""
        if self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(
                max(loop.time() + COALESCE_SECONDS, self._last_tick_at + TICK_INTERVAL), self._run_tick
            )

    def wake(self) -> None:
        """Wake every stream, to check its authorization or to send a tick."""
        wakeup, self._wakeup = self._wakeup, asyncio.Event()
        wakeup.set()

    def admit(self, holder: str, *, address: str | None = None) -> None:
        """Check that there is capacity for another stream.

        Args:
            holder: The key or the share that opens the stream. No holder may take all streams.
            address: The network of a client without a key. No network may take all of those streams.

        Raises:
            ProblemError: ``too-many-streams``.
        """
        limit = min(MAX_STREAMS, capacity.max_streams())
        address_limit = max(limit // ADDRESS_DIVISOR, 1)
        if address is not None and self._streams_by_holder[address] >= address_limit:
            why = f"{self._streams_by_holder[address]} streams are open from this network, the limit without a key"
            quota = Quota("streams", address_limit, 0, reset=30, unit="concurrent-requests")
        elif self.stream_count >= limit:
            why = f"{limit} streams are open, the limit of this server"
            quota = self.quota(holder, reset=30)
        elif self._streams_by_holder[holder] >= max(limit // 2, 1):
            why = f"{self._streams_by_holder[holder]} streams are open with this key or link, the limit for one"
            quota = self.quota(holder, reset=30)
        else:
            return
        raise ProblemError("too-many-streams", why, retry_after=30, quota=quota)

    def quota(self, holder: str, *, reset: int | None = None) -> Quota:
        """Return how many more streams a holder may open, the requested one excluded."""
        limit = min(MAX_STREAMS, capacity.max_streams())
        holder_limit = max(limit // 2, 1)
        remaining = min(limit - self.stream_count, holder_limit - self._streams_by_holder[holder]) - 1
        return Quota("streams", holder_limit, remaining, reset=reset, unit="concurrent-requests")

    def restart(self, epoch: str) -> None:
        """Send a snapshot to each stream, because the database has lost revisions; ids of ``epoch`` follow."""
        self._epoch = epoch
        self._drain_changes()
        self._snapshots.clear()
        self._clear_ring()
        self._tick_count += 1  # of which the ring has nothing: every stream has fallen behind it
        self.wake()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.wake()

    @property
    def event_id(self) -> str:
        """The id of an event that a stream would send now, without the pending changes."""
        return f"{self._epoch}-{self._published_rev}"

    @property
    def _published_rev(self) -> int:
        """The revision up to which no change is pending."""
        return self._drained_rev if any(self._board.count_changes()) else self._get_rev()

    def begin_handover(self) -> str:
        """Return the event id of a list that is read now; its client resumes from there within half a minute."""
        if not self._keeps_changes():
            self._drop_changes()
        elif self.stream_count == 0:
            self._encode_changes()  # those since a former list; the client of this one knows them
        self._handover_until = self._monotonic() + HANDOVER_SECONDS
        return self.event_id

    def _keeps_changes(self) -> bool:
        return self.stream_count > 0 or self._monotonic() < self._handover_until

    def _drop_changes(self) -> None:
        """Skip encoding the pending changes. A client that reconnects with an older id gets a snapshot."""
        pending = self._drain_changes()
        if pending.groups or pending.ended_runs:
            self._snapshots.clear()
            self._clear_ring()

    def _drain_changes(self) -> PendingChanges:
        self._drained_rev = self._get_rev()
        return self._board.drain_changes()

    def _clear_ring(self) -> None:
        self._ring.clear()
        self._oldest_rev = self._get_rev()

    def tick(self) -> None:
        """Encode the pending changes for the streams. Without a stream, keep or drop them."""
        if self.stream_count == 0:
            item_count, run_count = self._board.count_changes()
            if not self._keeps_changes() or item_count > MAX_KEPT_CHANGES or run_count > MAX_KEPT_RUNS:
                self._drop_changes()
        else:
            self._encode_changes()

    def _encode_changes(self) -> None:
        pending = self._drain_changes()
        if not pending.groups and not pending.ended_runs:
            return
        self._snapshots.clear()
        now = self._clock()
        changes: list[ItemChange] = []
        ended: list[tuple[View, bytes]] = []
        size = 0
        for item_id, groups in pending.groups.items():
            item = self._board.get(item_id)
            json = None if item is None else self._serializer.encode_item(item, now)
            changes.append(ItemChange(item_id, None if item is None else item.group, groups, json))
            size += len(json or b"")
            if size > MAX_TICK_BYTES:
                break
        for run in pending.ended_runs:
            if size > MAX_TICK_BYTES:
                break
            json = encode(self._serializer.serialize_run(run.item, run.status, run.ended_at))
            ended.append((View(run.item.group, run.item.id), json))
            size += len(json)
        self._tick_count += 1
        if size > MAX_TICK_BYTES:
            self._clear_ring()
        else:
            self._ring.append(Tick(self._get_rev(), changes, ended))
            self._trim()
        self.wake()

    def _trim(self) -> None:
        """Drop the oldest ticks, but never the latest: current subscribers wait for it."""
        ring = self._ring
        size = sum(tick.size for tick in ring)  # ticks grow with each cached frame
        while len(ring) > MAX_TICKS or (size > MAX_RING_BYTES and len(ring) > 1):
            dropped = ring.popleft()
            size -= dropped.size
            self._oldest_rev = dropped.rev

    async def events(
        self,
        view: View,
        last_event_id: str | None,
        is_still_authorized: Callable[[], bool],
        holder: str = "",
        address: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """Yield events until the stream is too old or no longer authorized, or the server stops.

        A large event is yielded in chunks.

        Args:
            view: The visible items.
            last_event_id: The id of the last event that a reconnecting client received.
            is_still_authorized: Is called at every change and every heartbeat.
            holder: See :meth:`admit`.
            address: See :meth:`admit`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_STREAM_AGE
        with self._count_stream((holder,) if address is None else (holder, address)):
            position, known_rev = self._find_position(last_event_id)
            is_resumed = position is not None
            yield b"retry: %d\n\n" % RETRY_MILLISECONDS
            while not self.closed and is_still_authorized() and loop.time() < end:
                wakeup = self._wakeup
                if position is None or position < self._tick_count - len(self._ring):
                    known_rev = self._get_rev()
                    position, first, others = self._make_snapshot(view)
                    self.events_sent += 1
                    yield first
                    while others is not None:
                        for chunk in others:
                            yield chunk
                            if self._is_expired(end):
                                return
                        # The changes since the snapshot began, in the latest states.
                        known_rev = max(known_rev, self._published_rev)
                        position, others = self._catch_up(view, position, known_rev)
                elif position < self._tick_count:
                    time, start = rfc3339(self._clock()), 0
                    part = self._frame_chunk(view, position, time, start)
                    self.events_sent += bool(part)
                    is_resumed = is_resumed and not part
                    while part:
                        yield part
                        if len(part) < CHUNK_BYTES:
                            break
                        start += CHUNK_BYTES
                        part = self._frame_chunk(view, position, time, start)
                    if part is None:
                        return  # the client is too slow: it reconnects and gets a snapshot
                    position += 1
                elif is_resumed or not await _wait_for_event(wakeup, HEARTBEAT_INTERVAL):
                    # A client that resumes learns at once that it is up to date, and what time it is.
                    is_resumed = False
                    self.events_sent += 1
                    known_rev = max(known_rev, self._published_rev)
                    yield encode_event("hb", b'{"time":"%s"}' % rfc3339(self._clock()).encode(), self._epoch, known_rev)
            if self.closed:
                # The next process starts soon. A random delay spreads the clients that reconnect to it.
                yield b"retry: %d\n\n" % _system_random.randint(RETRY_MILLISECONDS // 4, RETRY_MILLISECONDS)

    def _is_expired(self, end: float) -> bool:
        return self.closed or asyncio.get_running_loop().time() >= end

    def _run_tick(self) -> None:
        self._timer = None
        self._last_tick_at = asyncio.get_running_loop().time()
        self.tick()

    @contextlib.contextmanager
    def _count_stream(self, holders: Sequence[str]) -> Iterator[None]:
        if not self._keeps_changes():
            self._drop_changes()  # from before the first subscriber
        self.stream_count += 1
        if self.stream_count == 1:
            self.tick()  # encodes the changes since a list
        self.streams_opened += 1
        self._streams_by_holder.update(holders)
        try:
            yield
        finally:
            self.stream_count -= 1
            for holder in holders:
                self._streams_by_holder[holder] -= 1
                if not self._streams_by_holder[holder]:
                    del self._streams_by_holder[holder]

    def _find_position(self, last_event_id: str | None) -> tuple[int | None, int]:
        """Return the position in the ring after an event, and its revision; ``None`` if the ring does not have it."""
        epoch, _, rev_text = (last_event_id or "").rpartition("-")
        if epoch != self._epoch or not (rev_text.isascii() and rev_text.isdigit()) or len(rev_text) > 18:
            return None, 0
        rev = int(rev_text)
        if not self._oldest_rev <= rev <= self._get_rev():
            return None, 0
        later = sum(1 for tick in self._ring if tick.rev > rev or (self._resend_same_rev and tick.rev == rev))
        return self._tick_count - later, rev

    def _frame_chunk(self, view: View, position: int, time: str, start: int) -> bytes | None:
        """Return a chunk of a tick's event, empty at its end; ``None`` if the ring dropped the tick."""
        if position < self._tick_count - len(self._ring):
            return None
        return self._ring[position - self._tick_count].frame(view, self._epoch, time)[start : start + CHUNK_BYTES]

    def _make_snapshot(self, view: View) -> tuple[int, bytes, Iterator[bytes] | None]:
        """Return the position after a snapshot, its first chunk, and the other chunks of a large one."""
        cached = self._snapshots.get(view)
        rev, stored_rev, now = self._board.rev, self._get_rev(), self._clock()
        if cached is not None and (cached.rev, cached.stored_rev) == (rev, stored_rev):
            return cached.position, cached.frame, None
        position = self._tick_count
        prefix = b'%s{"rev":%d,"time":"%s","items":[' % (
            event_prefix("snapshot", self._epoch, stored_rev), stored_rev, rfc3339(now).encode(),
        )  # fmt: skip
        chunks = self._serializer.serialize_items(
            view.iter_items(self._board), now, view.transform, prefix=prefix, suffix=b"]}\n\n"
        )
        first = next(chunks)
        second = next(chunks, None)
        if second is not None:
            return position, first, chain((second,), chunks)
        if len(self._snapshots) >= MAX_CACHED_SNAPSHOTS:
            self._snapshots.clear()
        self._snapshots[view] = _Snapshot(position, rev, stored_rev, first)
        return position, first, None

    def _catch_up(self, view: View, position: int, rev: int) -> tuple[int, Iterator[bytes] | None]:
        """Return the position after all ticks, and one event for them with the current states.

        There is no event if there are no new ticks, or if the ring dropped some of them.

        Args:
            view: The visible items.
            position: The position that the client has reached.
            rev: The revision of the event.
        """
        tick_count = self._tick_count
        if not tick_count - len(self._ring) <= position < tick_count:
            return position, None
        changed: dict[str, set[str | None]] = {}
        ended: list[bytes] = []
        for tick in islice(self._ring, position - tick_count + len(self._ring), None):
            for change in tick.changes:
                changed.setdefault(change.id, set()).update(change.groups)
            ended += tick.visible_ended_runs(view)
        board, now = self._board, self._clock()
        visible_ids: list[str] = []
        gone: list[bytes] = []
        for item_id, groups in changed.items():
            item = board.get(item_id)
            if item is not None and view.matches(item_id, item.group):
                visible_ids.append(item_id)
            elif any(view.matches(item_id, group) for group in groups):
                gone.append(encode(item_id))
        prefix = b'%s{"rev":%d,"time":"%s","gone":[%s],"ended":[%s],"items":[' % (
            event_prefix("change", self._epoch, rev), rev, rfc3339(now).encode(), b",".join(gone),
            b",".join(ended),
        )  # fmt: skip
        items = board.iter_items(visible_ids, group=view.group)
        return tick_count, split_chunks(
            self._serializer.serialize_items(items, now, view.transform, prefix=prefix, suffix=b"]}\n\n")
        )


async def _wait_for_event(wakeup: asyncio.Event, seconds: float) -> bool:
    try:
        # Not wait_for: that of Python 3.11 loses a cancellation in the instant in which the event is set. A stream
        # whose client has disconnected would stay open until its maximum age.
        async with asyncio.timeout(seconds):
            await wakeup.wait()
    except TimeoutError:
        return False
    return True
