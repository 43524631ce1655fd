"""Three-way merge of an item that two servers on one database have written at the same time.

Each server validates writes against its board in memory, which may be a quarter of a second behind. Its write is based
on a state that it saw, ``base``. If the store has another state by then, both descendants of ``base`` are merged where
that makes sense. Otherwise the write is refused: an item begins once, and a run ends once. Pure: a store calls this in
the middle of a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from progressbar_tracker._models import compute_fraction

from .fields import COPIED_FIELDS

if TYPE_CHECKING:
    from progressbar_tracker.server.models import Item, Part

T = TypeVar("T")

_MERGED_FIELDS: Final = (*COPIED_FIELDS, "meta", "own", "status", "ended_at", "value", "stop_request")
"""Fields merged independently; the side that changed a field wins."""


def is_compatible(before: Item | None, stored: Item | None) -> bool:
    """Return whether a change made to ``before`` can be merged: both items have the same run and status.

    >>> is_compatible(None, None)
    True
    """
    if before is None or stored is None:
        return before is stored
    return before.run_id == stored.run_id and before.status == stored.status


def three_way_merge(base: Item, local: Item, stored: Item) -> Item:
    """Return the merge of two descendants of ``base`` within one run.

    The side that changed a field wins. If both changed it, the newer ``seq`` wins, and the local side if they are
    equal. Each part's count is the one with its newer ``seq``.

    Args:
        base: The common ancestor, as the local server saw it.
        local: The state on the local server.
        stored: The state in the database.
    """
    if stored == base:
        return local  # no other server has written: nearly always, and in a twentieth of the time
    prefer_stored = stored.seq > local.seq
    named: dict[str, object] = {
        name: _merge_field(getattr(base, name), getattr(local, name), getattr(stored, name), prefer_stored)
        for name in _MERGED_FIELDS
    }
    parts = stored.parts if local.parts == base.parts else _merge_parts(base.parts, local.parts, stored.parts)
    measured, other = (local, stored) if local.progress.at >= stored.progress.at else (stored, local)
    progress = measured.progress
    if other.progress.idle_since > progress.idle_since:
        progress = progress._replace(idle_since=other.progress.idle_since)
    named.update(
        parts=parts, seq=max(local.seq, stored.seq), updated_at=max(local.updated_at, stored.updated_at),
        started_at=min(local.started_at, stored.started_at), progress=progress,
        progressed_at=max(local.progressed_at, stored.progressed_at),
    )  # fmt: skip
    merged = replace(stored, **named)
    completed = merged.own if not parts else sum((part.completed for part in parts.values()), merged.own or 0)
    if completed is not None and abs(completed) > 2**53:
        completed = float(completed)  # like every number of the protocol
    value = compute_fraction(completed, merged.total, merged.status)
    return replace(merged, completed=completed, value=merged.value if value is None else value)


def _merge_field(base: T, local: T, stored: T, prefer_stored: bool) -> T:
    if local == base:
        return stored
    if stored == base or not prefer_stored:
        return local
    return stored


def _merge_parts(base: dict[str, Part], local: dict[str, Part], stored: dict[str, Part]) -> dict[str, Part]:
    merged = dict(stored)
    for name, part in local.items():
        other = stored.get(name)
        if other is None or part.seq > other.seq or (part.seq == other.seq and part != base.get(name)):
            merged[name] = part
    return merged
