"""The hub: what changes on the board, at most twice a second, as Server-Sent Events that all viewers share.

A change of the board rings the hub. At the next *tick* each changed item is encoded once, and the ticks are kept in a
ring. A subscriber is a place in that ring and has no queue of its own: it takes the frames that come after its place,
each encoded once for all who see the same, and one who has fallen behind the ring is given everything anew. So a
viewer costs a few bytes, and one who reads slowly costs nobody anything.

A snapshot that is large is serialized in pieces, as its reader takes them, from the board as it is by then. What has
changed meanwhile follows as one event of the latest states, so that no bar goes backwards. Of a large event of a tick a
reader keeps only its place: when the ring forgets the tick, the stream ends.

Ids of events are ``epoch-rev``: the server's boot id, and the board's revision. With ``Last-Event-ID`` a subscriber
goes on where it was, as long as the ring goes back so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from . import capacity
from .budget import CHUNK_BYTES
from .items.serializer import serialize_item, serialize_items, serialize_run
from .models import rfc3339
from .problems import ProblemError
from .quota import Quota

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from .items.board import Board
    from .models import Item

TICK_INTERVAL: Final = 0.5
"""Least seconds between two ticks."""

COALESCE_SECONDS: Final = 0.02
"""Seconds that the first change after a pause waits for others."""

MAX_TICKS: Final = 256
"""How many ticks are kept."""

MAX_RING_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of ticks that are kept: of many items that all move, a snapshot tells the same in less."""

MAX_TICK_BYTES: Final = 4 * 1024 * 1024
"""The most bytes of one tick: of more, subscribers are given a snapshot, which is not kept in memory."""

HEARTBEAT_INTERVAL: Final = 15.0
"""Seconds of silence after which a subscriber is told that the connection lives."""

MAX_STREAM_AGE: Final = 1800.0
"""Seconds after which a stream ends, so that none lives for ever; its reader comes back."""

RETRY_MILLISECONDS: Final = 2000
"""Milliseconds after which a reader comes back; when the server stops, each is given a time of its own up to this."""

MAX_STREAMS: Final = 5000
"""The most streams at a time, where the process may have as many; half of them for one key or link."""

ADDRESS_FRACTION: Final = 4
"""Of the streams that are opened without a key, the network of one client may have this fraction, a quarter."""

PUBLIC_FIELDS: Final = (
    "id", "title", "description", "value", "completed", "total", "unit", "weight", "status", "stalled", "late", "error",
    "rate", "eta", "deadline", "created_at", "updated_at", "ended_at",
)  # fmt: skip
"""The fields of an item that a share shows: not the owner, the host or the command."""

MAX_CACHED_FRAMES: Final = 1000
"""The most views for which the frame of a tick is kept for whoever sees the same."""

ENTRY_BYTES: Final = 250
"""About how many bytes of memory an entry of a tick takes beside its JSON."""

MAX_CACHED_SNAPSHOTS: Final = 100
"""The most snapshots that are kept for who comes next."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, object]).decode


class View(NamedTuple):
    """What a subscriber sees: all items, or those of a group, or one.

    With ``is_public``, of each no more than :data:`PUBLIC_FIELDS`: who has a link is nobody we know.
    """

    group: str | None = None
    item: str | None = None
    is_public: bool = False

    def matches(self, item_id: str, group: str | None) -> bool:
        """Say whether it sees an item."""
        return (self.group is None or self.group == group) and (self.item is None or self.item == item_id)

    def list_items(self, board: Board) -> list[Item]:
        """Return what it sees of a board, in the order of the list."""
        if self.item is None:
            return board.page(group=self.group)
        item = board.get(self.item)
        return [item] if item is not None and self.matches(item.id, item.group) else []

    def iter_items(self, board: Board) -> Iterator[Item]:
        """Yield what it sees, in the order that the list has now, each item as it is when it is asked for."""
        return board.iter_items([item.id for item in self.list_items(board)], group=self.group)


class _ItemChange(NamedTuple):
    """One item that changed in a tick: the groups it is and was in, and its JSON, or ``None`` if it is gone."""

    id: str
    group: str | None
    groups: set[str | None]
    json: bytes | None


class _Tick:
    """What happened up to a revision of the board, since the tick before; ``size`` is what it takes, in bytes."""

    def __init__(self, rev: int, changes: list[_ItemChange], ended_runs: list[tuple[View, bytes]]) -> None:
        self.rev = rev
        self.changes = changes
        self.ended_runs = ended_runs
        self._frames: dict[View, bytes] = {}
        self.size = sum(ENTRY_BYTES + len(one.json or b"") for one in changes) + sum(
            ENTRY_BYTES + len(run) for _, run in ended_runs
        )

    def frame(self, view: View, epoch: str, time: str) -> bytes:
        """Return the event for a view, the same bytes for all who see the same; empty if nothing is seen."""
        known = self._frames.get(view)
        if known is None:
            items, gone = [], []
            for one in self.changes:
                if one.json is not None and view.matches(one.id, one.group):
                    items.append(_public_json(one.json) if view.is_public else one.json)
                elif any(view.matches(one.id, group) for group in one.groups):
                    gone.append(_encode(one.id))
            ended = [
                _public_json(run) if view.is_public else run
                for where, run in self.ended_runs
                if view.matches(where.item or "", where.group)
            ]
            known = b""
            if items or gone or ended:
                known = _encode_event(
                    "change",
                    b'{"rev":%d,"time":"%s","items":[%s],"gone":[%s],"ended":[%s]}'
                    % (self.rev, time.encode(), b",".join(items), b",".join(gone), b",".join(ended)),
                    epoch,
                    self.rev,
                )
            if len(self._frames) < MAX_CACHED_FRAMES:
                self._frames[view] = known
                self.size += ENTRY_BYTES + len(known)
        return known


class _Snapshot(NamedTuple):
    """All that a view sees: as of which place in the ring, and which revision of the board."""

    position: int
    rev: int
    stored_rev: int
    frame: bytes


class Hub:
    """Tells subscribers what changes.

    Args:
        board: What is watched.
        epoch: Tells this life of the server from its others.
        clock: Seconds since the epoch.
        stamp: Returns the revision up to which all is on the board, where that is not the board's own: of a database
            that other servers write to. A change of the board's own is then not yet in it, and is told twice rather
            than never.

    Attributes:
        stream_count: How many there are now.
        streams_opened: How many there were ever.
        events_sent: How many events they were sent.
    """

    def __init__(
        self, board: Board, *, epoch: str, clock: Callable[[], float], get_rev: Callable[[], int] | None = None
    ) -> None:
        self._board = board
        self._get_rev: Callable[[], int] = (lambda: board.rev) if get_rev is None else get_rev
        self._resend_same_rev = get_rev is not None
        self._epoch = epoch
        self._clock = clock
        self._ring: deque[_Tick] = deque()
        self._tick_count = 0  # ticks ever
        self._oldest_rev = self._get_rev()  # from here on the ring knows all
        self._snapshots: dict[View, _Snapshot] = {}
        self._wakeup = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last_tick_at = float("-inf")
        self.stream_count = self.streams_opened = self.events_sent = 0
        self._streams_by_holder: Counter[str] = Counter()
        self.closed = False

    def notify(self) -> None:
        """Note that the board has changed: a tick follows, at once after a pause, else half a second after the last."""
        if self._timer is None and not self.closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(
                max(loop.time() + COALESCE_SECONDS, self._last_tick_at + TICK_INTERVAL), self._run_tick
            )

    def wake(self) -> None:
        """Let every subscriber look whether it may go on: a key or a session has changed."""
        bell, self._wakeup = self._wakeup, asyncio.Event()
        bell.set()

    def admit(self, holder: str, *, address: str | None = None) -> None:
        """Return if there is room for another stream.

        Args:
            holder: The key, the share or whatever else it is opened with: none may keep all others out.
            address: The network of a client without a key, which may not keep out those of other networks either.

        Raises:
            ProblemError: ``too-many-streams``.
        """
        most = min(MAX_STREAMS, capacity.max_streams())
        own = max(most // ADDRESS_FRACTION, 1)
        if address is not None and self._streams_by_holder[address] >= own:
            why = (
                f"{self._streams_by_holder[address]} streams are open from this network, the most "
                f"there may be without a key"
            )
            quota = Quota("streams", own, 0, reset=30, unit="concurrent-requests")
            raise ProblemError("too-many-streams", why, retry_after=30, quota=quota)
        if self.stream_count >= most:
            raise ProblemError(
                "too-many-streams", f"{most} streams are open, the most there may be", retry_after=30,
                quota=self.quota(holder, reset=30),
            )  # fmt: skip
        if self._streams_by_holder[holder] >= max(most // 2, 1):
            why = (
                f"{self._streams_by_holder[holder]} streams are open with this key or link, the "
                f"most there may be with one"
            )
            raise ProblemError("too-many-streams", why, retry_after=30, quota=self.quota(holder, reset=30))

    def quota(self, holder: str, *, reset: int | None = None) -> Quota:
        """Return how many more streams a holder may have, besides the one that is asked for."""
        most = min(MAX_STREAMS, capacity.max_streams())
        own = max(most // 2, 1)
        left = min(most - self.stream_count, own - self._streams_by_holder[holder]) - 1
        return Quota("streams", own, left, reset=reset, unit="concurrent-requests")

    def close(self) -> None:
        """End all streams: the server stops."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.wake()

    def tick(self) -> None:
        """Make frames of what has changed, and wake who waits for them."""
        news = self._board.drain_changes()
        if not news.groups and not news.ended_runs:
            return
        self._snapshots.clear()
        if self.stream_count == 0:
            # Nobody to encode for. Who comes back with an id from before this is given everything.
            self._ring.clear()
            self._oldest_rev = self._get_rev()
            return
        now = self._clock()
        changed: list[_ItemChange] = []
        ended: list[tuple[View, bytes]] = []
        size = 0
        for item_id, groups in news.groups.items():
            item = self._board.get(item_id)
            json = None if item is None else _encode(serialize_item(item, now))
            changed.append(_ItemChange(item_id, None if item is None else item.group, groups, json))
            size += len(json or b"")
            if size > MAX_TICK_BYTES:
                break
        for run in news.ended_runs:
            if size > MAX_TICK_BYTES:
                break
            json = _encode(serialize_run(run.item, run.status, run.ended_at))
            ended.append((View(run.item.group, run.item.id), json))
            size += len(json)
        self._tick_count += 1
        if size > MAX_TICK_BYTES:
            self._ring.clear()
            self._oldest_rev = self._get_rev()
        else:
            self._ring.append(_Tick(self._get_rev(), changed, ended))
            self._trim()
        self.wake()

    def _trim(self) -> None:
        """Forget the oldest ticks, but never the latest: whoever keeps up waits for it."""
        ring = self._ring
        size = sum(tick.size for tick in ring)  # some have become larger since: with each frame
        while len(ring) > MAX_TICKS or (size > MAX_RING_BYTES and len(ring) > 1):
            gone = ring.popleft()
            size -= gone.size
            self._oldest_rev = gone.rev

    async def events(
        self,
        view: View,
        last_event_id: str | None,
        is_still_authorized: Callable[[], bool],
        holder: str = "",
        address: str | None = None,
    ) -> AsyncGenerator[bytes]:
        """Yield events until the stream has lived long enough, may not go on, or the server stops.

        A large event is yielded in parts.

        Args:
            view: What is seen.
            last_event_id: Where the subscriber was, if it comes back.
            is_still_authorized: Whether its key or session is still good; asked at every change and beat.
            holder: As for :meth:`admit`.
            address: As for :meth:`admit`.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_STREAM_AGE
        with self._count_stream((holder,) if address is None else (holder, address)):
            place = self._find_position(last_event_id)
            yield b"retry: %d\n\n" % RETRY_MILLISECONDS
            while not self.closed and is_still_authorized() and loop.time() < end:
                bell = self._wakeup
                if place is None or place < self._tick_count - len(self._ring):
                    place, first, others = self._make_snapshot(view)
                    self.events_sent += 1
                    yield first
                    while others is not None:
                        for piece in others:
                            yield piece
                            if self._is_expired(end):
                                return
                        # What has changed since the snapshot began, in the latest states.
                        place, others = self._catch_up(view, place)
                elif place < self._tick_count:
                    time, start = rfc3339(self._clock()), 0
                    part = self._frame_chunk(view, place, time, start)
                    self.events_sent += bool(part)
                    while part:
                        yield part
                        if len(part) < CHUNK_BYTES:
                            break
                        start += CHUNK_BYTES
                        part = self._frame_chunk(view, place, time, start)
                    if part is None:
                        return  # the reader is too slow: it comes back, and is given a snapshot
                    place += 1
                elif not await _wait_for_event(bell, HEARTBEAT_INTERVAL):
                    self.events_sent += 1
                    yield _encode_event(
                        "hb", b'{"time":"%s"}' % rfc3339(self._clock()).encode(), self._epoch, self._get_rev()
                    )
            if self.closed:
                # The next process is there soon, and shall not be met by all of them at once.
                yield b"retry: %d\n\n" % random.randint(RETRY_MILLISECONDS // 4, RETRY_MILLISECONDS)  # noqa: S311

    def _is_expired(self, end: float) -> bool:
        return self.closed or asyncio.get_running_loop().time() >= end

    def _run_tick(self) -> None:
        self._timer = None
        self._last_tick_at = asyncio.get_running_loop().time()
        self.tick()

    @contextlib.contextmanager
    def _count_stream(self, holders: Sequence[str]) -> Iterator[None]:
        if self.stream_count == 0:
            self.tick()  # what nobody saw is not to be told
        self.stream_count += 1
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

    def _find_position(self, last_event_id: str | None) -> int | None:
        """Return the place in the ring after what a subscriber has seen; ``None`` if the ring does not know."""
        epoch, _, rev = (last_event_id or "").rpartition("-")
        if epoch != self._epoch or not (rev.isascii() and rev.isdigit()) or len(rev) > 18:
            return None
        seen = int(rev)
        if not self._oldest_rev <= seen <= self._get_rev():
            return None
        later = sum(1 for tick in self._ring if tick.rev > seen or (self._resend_same_rev and tick.rev == seen))
        return self._tick_count - later

    def _frame_chunk(self, view: View, position: int, time: str, start: int) -> bytes | None:
        """Return a part of the event of a tick, empty at its end; ``None`` if the ring has forgotten the tick."""
        if position < self._tick_count - len(self._ring):
            return None
        return self._ring[position - self._tick_count].frame(view, self._epoch, time)[start : start + CHUNK_BYTES]

    def _make_snapshot(self, view: View) -> tuple[int, bytes, Iterator[bytes] | None]:
        """Return the place in the ring that follows a snapshot, its first part, and the others of a large one."""
        known = self._snapshots.get(view)
        rev, stamp, now = self._board.rev, self._get_rev(), self._clock()
        if known is not None and (known.rev, known.stored_rev) == (rev, stamp):
            return known.position, known.frame, None
        place = self._tick_count
        begin = b'%s{"rev":%d,"time":"%s","items":[' % (
            _event_prefix("snapshot", self._epoch, stamp), stamp, rfc3339(now).encode(),
        )  # fmt: skip
        parts = serialize_items(
            view.iter_items(self._board), now, _public_json if view.is_public else None, prefix=begin, suffix=b"]}\n\n"
        )
        first = next(parts)
        second = next(parts, None)
        if second is not None:
            return place, first, chain((second,), parts)
        if len(self._snapshots) >= MAX_CACHED_SNAPSHOTS:
            self._snapshots.clear()
        self._snapshots[view] = _Snapshot(place, rev, stamp, first)
        return place, first, None

    def _catch_up(self, view: View, position: int) -> tuple[int, Iterator[bytes] | None]:
        """Return one event for all ticks from a place on, with the states of now, and the place that follows them.

        There is no event if there is nothing to catch up with, or the ring does not go back so far.
        """
        made = self._tick_count
        if not made - len(self._ring) <= position < made:
            return position, None
        changed: dict[str, set[str | None]] = {}
        ended: list[bytes] = []
        for tick in islice(self._ring, position - made + len(self._ring), None):
            for one in tick.changes:
                changed.setdefault(one.id, set()).update(one.groups)
            ended += [run for where, run in tick.ended_runs if view.matches(where.item or "", where.group)]
        board, now, stamp = self._board, self._clock(), self._get_rev()
        seen: list[str] = []
        gone: list[bytes] = []
        for item_id, groups in changed.items():
            item = board.get(item_id)
            if item is not None and view.matches(item_id, item.group):
                seen.append(item_id)
            elif any(view.matches(item_id, group) for group in groups):
                gone.append(_encode(item_id))
        begin = b'%s{"rev":%d,"time":"%s","gone":[%s],"ended":[%s],"items":[' % (
            _event_prefix("change", self._epoch, stamp), stamp, rfc3339(now).encode(), b",".join(gone),
            b",".join(map(_public_json, ended) if view.is_public else ended),
        )  # fmt: skip
        items = board.iter_items(seen, group=view.group)
        return made, _split_chunks(
            serialize_items(items, now, _public_json if view.is_public else None, prefix=begin, suffix=b"]}\n\n")
        )


def public_view(item: Mapping[str, object]) -> dict[str, object]:
    """Return what a share shows of an item, or of a run."""
    return {field: item[field] for field in PUBLIC_FIELDS}


def _public_json(json: bytes) -> bytes:
    return _encode(public_view(_decode(json)))


async def _wait_for_event(wakeup: asyncio.Event, seconds: float) -> bool:
    try:
        # Not wait_for: Python 3.11's forgets that it was cancelled when the bell has rung in the same instant, and a
        # stream whose reader has left would go on for as long as streams may live.
        async with asyncio.timeout(seconds):
            await wakeup.wait()
    except TimeoutError:
        return False
    return True


def _split_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), CHUNK_BYTES):
            yield part[start : start + CHUNK_BYTES]


def _encode_event(name: str, data: bytes, epoch: str, rev: int) -> bytes:
    return b"%s%s\n\n" % (_event_prefix(name, epoch, rev), data)


def _event_prefix(name: str, epoch: str, rev: int) -> bytes:
    return b"id: %s-%d\nevent: %s\ndata: " % (epoch.encode(), rev, name.encode())
