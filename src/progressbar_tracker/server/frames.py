"""Frames: the changes of a tick as Server-Sent Events, encoded once for all subscribers with the same view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from .budget import CHUNK_BYTES
from .items.fields import PUBLIC_FIELDS, PUBLIC_GROUP_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .items.board import Board
    from .models import Item

MAX_CACHED_FRAMES: Final = 1000
"""The most views for which a tick caches its frame."""

ENTRY_BYTES: Final = 250
"""About the memory that an entry of a tick takes beside its JSON."""

encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, object]).decode


class View(NamedTuple):
    """The items that a subscriber sees: all, those of a group, or one.

    A public view, that of a share, has only :data:`PUBLIC_FIELDS` of each item, or :data:`PUBLIC_GROUP_FIELDS`.
    """

    group: str | None = None
    item: str | None = None
    is_public: bool = False

    def matches(self, item_id: str, group: str | None) -> bool:
        """Return whether the view shows an item of a group."""
        return (self.group is None or self.group == group) and (self.item is None or self.item == item_id)

    @property
    def transform(self) -> Callable[[bytes], bytes] | None:
        """The function that removes private fields from a serialized item or run; ``None`` if all are visible."""
        if not self.is_public:
            return None
        return _public_json if self.group is None else _public_group_json

    def list_items(self, board: Board) -> list[Item]:
        """Return the visible items, in the order of the list."""
        if self.item is None:
            return board.page(group=self.group)
        item = board.get(self.item)
        return [item] if item is not None and self.matches(item.id, item.group) else []

    def iter_items(self, board: Board) -> Iterator[Item]:
        """Yield the visible items: the order is that of now, each state is that of its iteration."""
        return board.iter_items([item.id for item in self.list_items(board)], group=self.group)


class ItemChange(NamedTuple):
    """An item that changed in a tick.

    Attributes:
        id: The id of the item.
        group: The current group.
        groups: The current and all former groups in this tick.
        json: The serialized item, or ``None`` if it left the board.
    """

    id: str
    group: str | None
    groups: set[str | None]
    json: bytes | None


class Tick:
    """The changes between two revisions of the board.

    Attributes:
        rev: The revision after the changes.
        changes: The items that changed.
        ended_runs: The runs that ended, each with the item and group of its view, and its JSON.
        size: About the bytes of memory that it takes, cached frames included.
    """

    def __init__(self, rev: int, changes: list[ItemChange], ended_runs: list[tuple[View, bytes]]) -> None:
        self.rev = rev
        self.changes = changes
        self.ended_runs = ended_runs
        self._frames: dict[View, bytes] = {}
        self.size = sum(ENTRY_BYTES + len(change.json or b"") for change in changes) + sum(
            ENTRY_BYTES + len(run) for _, run in ended_runs
        )

    def frame(self, view: View, epoch: str, time: str) -> bytes:
        """Return the event for a view, empty if the view shows no change. Equal views share the same bytes."""
        frame = self._frames.get(view)
        if frame is None:
            items, gone, transform = [], [], view.transform
            for change in self.changes:
                if change.json is not None and view.matches(change.id, change.group):
                    items.append(change.json if transform is None else transform(change.json))
                elif any(view.matches(change.id, group) for group in change.groups):
                    gone.append(encode(change.id))
            ended = self.visible_ended_runs(view)
            frame = b""
            if items or gone or ended:
                frame = encode_event(
                    "change",
                    b'{"rev":%d,"time":"%s","items":[%s],"gone":[%s],"ended":[%s]}'
                    % (self.rev, time.encode(), b",".join(items), b",".join(gone), b",".join(ended)),
                    epoch,
                    self.rev,
                )
            if len(self._frames) < MAX_CACHED_FRAMES:
                self._frames[view] = frame
                self.size += ENTRY_BYTES + len(frame)
        return frame

    def visible_ended_runs(self, view: View) -> list[bytes]:
        """Return the JSON of the ended runs that a view shows."""
        transform = view.transform
        return [
            run if transform is None else transform(run)
            for place, run in self.ended_runs
            if view.matches(place.item or "", place.group)
        ]


def public_view(item: Mapping[str, object]) -> dict[str, object]:
    """Return the public fields of an item or a run."""
    return {field: item[field] for field in PUBLIC_FIELDS}


def _public_json(json: bytes) -> bytes:
    return encode(public_view(_decode(json)))


def _public_group_json(json: bytes) -> bytes:
    item = _decode(json)
    return encode({field: item[field] for field in PUBLIC_GROUP_FIELDS})


def split_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield bytes in chunks of :data:`CHUNK_BYTES` at most."""
    for part in parts:
        for start in range(0, len(part), CHUNK_BYTES):
            yield part[start : start + CHUNK_BYTES]


def encode_event(name: str, data: bytes, epoch: str, rev: int) -> bytes:
    """Return a complete event."""
    return b"%s%s\n\n" % (event_prefix(name, epoch, rev), data)


def event_prefix(name: str, epoch: str, rev: int) -> bytes:
    """Return an event up to its data."""
    return b"id: %s-%d\nevent: %s\ndata: " % (epoch.encode(), rev, name.encode())
