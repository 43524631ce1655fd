"""Serialization of items for responses: the stored fields, and those that follow from the time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.models import rfc3339

from . import rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from progressbar_tracker._models import Item as WireItem
    from progressbar_tracker.server.models import EndStatus, Item


_encode = msgspec.json.Encoder().encode


def item_url(item_id: str) -> str:
    """Return the URL of an item's page, relative to the board's.

    >>> item_url("a/b c"), item_url("..")
    ('items/a%2Fb%20c', 'items/?id=..')
    """
    # Browsers resolve dots in a path, encoded or not.
    return f"items/?id={item_id}" if item_id in (".", "..") else f"items/{quote(item_id, safe='')}"


def is_stalled(item: Item, now: float) -> bool:
    """Return whether a running item gave no sign of life for its ``heartbeat_timeout``."""
    return (
        item.status == "running"
        and item.heartbeat_timeout is not None
        and now >= item.updated_at + item.heartbeat_timeout
    )


def is_late(item: Item, now: float) -> bool:
    """Return whether an item is running and past its deadline."""
    return item.deadline_at is not None and item.status == "running" and now >= item.deadline_at


def serialize_run(item: Item, status: EndStatus, ended_at: float) -> dict[str, object]:
    """Return the JSON object of a run of the history: the item's fields, with the run's own end."""
    return {**serialize_item(item, ended_at), "status": status, "stalled": False, "late": False, "rate": None,
            "eta": None, "ended_at": rfc3339(ended_at)}  # fmt: skip


def serialize_item(item: Item, now: float) -> WireItem:
    """Return the JSON object of an item at the instant ``now``."""
    stalled = is_stalled(item, now)
    return {
        "id": item.id,
        "title": item.title,
        "description": item.description,
        "value": item.value,
        "completed": item.completed,
        "total": item.total,
        "unit": item.unit,
        "weight": item.weight,
        "status": item.status,
        "stalled": stalled,
        "late": is_late(item, now),
        "error": item.error,
        "group": item.group,
        "parent": item.parent,
        "meta": item.meta,
        # A stalled item has no meaningful rate or ETA.
        "rate": None if stalled else rate.rate(item, now),
        "eta": None if stalled else rate.eta(item, now),
        "owner": item.owner,
        "run_id": item.run_id,
        "seq": item.seq,
        "created_at": rfc3339(item.created_at),
        "updated_at": rfc3339(item.updated_at),
        "ended_at": None if item.ended_at is None else rfc3339(item.ended_at),
        "heartbeat_timeout": item.heartbeat_timeout,
        "deadline": None if item.deadline_at is None else rfc3339(item.deadline_at),
        "notify": list(item.notify),
        "ttl": item.ttl,
    }


def serialize_items(
    items: Iterable[Item],
    now: float,
    transform: Callable[[bytes], bytes] | None = None,
    *,
    prefix: bytes = b"[",
    suffix: bytes = b"]",
) -> Iterator[bytes]:
    """Serialize items as a JSON array, in pieces of about :data:`~.budget.CHUNK_BYTES`.

    Args:
        items: Consumed while the pieces are taken.
        now: The instant.
        transform: Applied to the JSON of each item.
        prefix: The bytes before the first item.
        suffix: The bytes after the last item.
    """
    parts, size, comma = [prefix], 0, b""
    for item in items:
        json = _encode(serialize_item(item, now))
        if transform is not None:
            json = transform(json)
        parts += (comma, json)
        comma, size = b",", size + len(json)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(suffix)
    yield b"".join(parts)
