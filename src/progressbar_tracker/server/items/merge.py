"""What becomes of a write when another server has written the same item in the meantime.

Several servers on one database each judge what they are sent by the board that they have in memory, which may be a
quarter of a second behind. What they keep rests on a state that was seen, ``base``. If that is no longer what is
stored, the two descendants of ``base`` are merged where that means something, and refused where it does not: an item
begins once, a run ends once. Pure: called by a store in the middle of a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from progressbar_tracker._models import compute_fraction

from .fields import COPIED_FIELDS

if TYPE_CHECKING:
    from progressbar_tracker.server.models import Item, Part

T = TypeVar("T")

_MERGED_FIELDS: Final = (*COPIED_FIELDS, "meta", "own", "status", "ended_at", "value")
"""Fields merged independently; the side that changed a field wins."""


def is_compatible(before: Item | None, stored: Item | None) -> bool:
    """Say whether a change of ``before`` may be made of what is stored: the same run, and neither ended nor revived.

    >>> is_compatible(None, None)
    True
    """
    if before is None or stored is None:
        return before is stored
    return before.run_id == stored.run_id and before.status == stored.status


def three_way_merge(base: Item, ours: Item, stored: Item) -> Item:
    """Return one item of two that have come from ``base`` within one run.

    What only one of them has changed is as that one has it. Of what both have changed, the one with the newer ``seq``
    has it, and ours if that tells nothing. Each part's count is the one with its newer ``seq``.

    Args:
        base: What both have come from, as ours saw it.
        ours: What this server has made of it.
        stored: What others have made of it.
    """
    if stored == base:
        return ours  # nobody else has written: nearly always, and in a twentieth of the time
    theirs_first = stored.seq > ours.seq
    named: dict[str, object] = {
        name: _merge_field(getattr(base, name), getattr(ours, name), getattr(stored, name), theirs_first)
        for name in _MERGED_FIELDS
    }
    parts = stored.parts if ours.parts == base.parts else _merge_parts(base.parts, ours.parts, stored.parts)
    paced = ours if ours.pace_at >= stored.pace_at else stored
    named.update(
        parts=parts, seq=max(ours.seq, stored.seq), updated_at=max(ours.updated_at, stored.updated_at),
        pace=paced.pace, pace_at=paced.pace_at, pace_n=paced.pace_n, pace_for=paced.pace_for,
    )  # fmt: skip
    both = replace(stored, **named)
    completed = both.own if not parts else sum((part.completed for part in parts.values()), both.own or 0)
    if completed is not None and abs(completed) > 2**53:
        completed = float(completed)  # as every number of the protocol
    value = compute_fraction(completed, both.total, both.status)
    return replace(both, completed=completed, value=both.value if value is None else value)


def _merge_field(base: T, ours: T, stored: T, theirs_first: bool) -> T:
    if ours == base:
        return stored
    if stored == base or not theirs_first:
        return ours
    return stored


def _merge_parts(base: dict[str, Part], ours: dict[str, Part], stored: dict[str, Part]) -> dict[str, Part]:
    both = dict(stored)
    for name, part in ours.items():
        other = stored.get(name)
        if other is None or part.seq > other.seq or (part.seq == other.seq and part != base.get(name)):
            both[name] = part
    return both
