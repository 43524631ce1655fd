"""How an item is told on the wire, now that it is ``now``: what is stored of it, and what follows from the time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from . import pace
from .records import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker._models import Item as WireItem

    from .records import EndStatus, Item


SLICE: Final = 500
"""How many items are spelled out until others have their turn: some milliseconds' work."""

_encode = msgspec.json.Encoder().encode


def item_url(item_id: str) -> str:
    """Return the URL of an item's page, relative to the board's.

    >>> item_url("a/b c"), item_url("..")
    ('items/a%2Fb%20c', 'items/?id=..')
    """
    # Browsers take dots for a place in the path, encoded or not.
    return f"items/?id={item_id}" if item_id in (".", "..") else f"items/{quote(item_id, safe='')}"


def stalled(item: Item, now: float) -> bool:
    """Say whether a running item has given no sign of life for its ``heartbeat_timeout``."""
    return (
        item.status == "running"
        and item.heartbeat_timeout is not None
        and now >= item.updated_at + item.heartbeat_timeout
    )


def late(item: Item, now: float) -> bool:
    """Say whether an item runs still, and its deadline has passed."""
    return item.deadline_at is not None and item.status == "running" and now >= item.deadline_at


def told_run(item: Item, status: EndStatus, ended_at: float) -> dict[str, object]:
    """Return a run of the history as it is told on the wire: the item's fields, with the end that it came to."""
    return {**told(item, ended_at), "status": status, "stalled": False, "late": False, "rate": None,
            "eta": None, "ended_at": rfc3339(ended_at)}  # fmt: skip


def told(item: Item, now: float) -> WireItem:
    """Return an item as it is told on the wire."""
    silent = stalled(item, now)
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
        "stalled": silent,
        "late": late(item, now),
        "error": item.error,
        "group": item.group,
        "parent": item.parent,
        "meta": item.meta,
        # Of who gives no sign of life nobody knows how fast it goes.
        "rate": None if silent else pace.rate(item, now),
        "eta": None if silent else pace.eta(item, now),
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


async def spelled(items: Sequence[Item], now: float, change: Callable[[bytes], bytes] | None = None) -> bytes:
    """Return items as a JSON array. A hundred thousand take seconds, in which others have their turns.

    Args:
        items: As they were at one instant; what becomes of them meanwhile does not show.
        now: That instant.
        change: What is to be done to the JSON of each.
    """
    told_items: list[bytes] = []
    for start in range(0, len(items), SLICE):
        if start:
            await asyncio.sleep(0)
        some = [_encode(told(item, now)) for item in items[start : start + SLICE]]
        told_items += some if change is None else map(change, some)
    return b"[%s]" % b",".join(told_items)
