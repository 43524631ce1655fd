"""The state of an item after a write of its run: of all fields or some, by the run itself or by one of its parts.

Pure, and independent of the board, which has decided that the write is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._models import MAX_META_ENTRIES, FieldError, Number, check_number, compute_fraction
from progressbar_tracker.server.models import Item, Part
from progressbar_tracker.server.problems import ProblemError, field_problem

from . import rate
from .fields import COPIED_FIELDS

if TYPE_CHECKING:
    from .validation import WriteFields

MAX_PARTS: Final = 1000
"""Maximum parts of one run."""


def apply_write(before: Item, fields: WriteFields, now: float, *, rev: int, overwrite: bool) -> Item:
    """Return the item after a write of its own run.

    Args:
        before: The item before it.
        fields: The checked fields.
        now: The instant, in seconds since the epoch.
        rev: The revision of the result.
        overwrite: Absent fields become blank, instead of staying unchanged.

    Raises:
        ProblemError: ``invalid-field``: too many parts or entries of meta, or a sum beyond the protocol's numbers.
    """
    # An overwrite is a merge into a blank item of the same run; the counts of the other parts stay.
    base = _blank_item(before, fields) if overwrite else before
    named: dict[str, object] = {name: value for name, value in fields.items() if name in COPIED_FIELDS}
    if "meta" in fields:
        named["meta"] = _merge_meta(base.meta, fields)
    if base.parts or fields.get("part") is not None:
        own, parts, seq = _apply_part(base, fields, overwrite=overwrite)
        completed = _sum_parts(own, parts)
    else:
        own = completed = fields.get("completed", base.own)
        parts, seq = base.parts, fields.get("seq", base.seq)
    total = fields.get("total", base.total)
    status = fields.get("status", base.status)
    derived = compute_fraction(completed, total, status)
    value = fields.get("value", base.value) if derived is None else derived
    position = value if completed is None else completed
    same = (before.completed is None) is (completed is None)
    smoothed_rate, rate_at, rate_position, rate_seconds = (
        rate.update_rate(before, position, now) if same else rate.new_rate(position, now)
    )
    return replace(
        base, own=own, parts=parts, seq=seq, completed=completed, value=value, status=status, updated_at=now,
        ended_at=None if status == "running" else now, smoothed_rate=smoothed_rate, rate_at=rate_at,
        rate_position=rate_position, rate_seconds=rate_seconds, rev=rev, **named,
    )  # fmt: skip


def last_seq(item: Item, part: str | None) -> int | None:
    """Return the newest ``seq`` of a run, or of one of its parts; ``None`` for a new part."""
    if part is None:
        return item.seq
    known = item.parts.get(part)
    return None if known is None else known.seq


def _blank_item(item: Item, fields: WriteFields) -> Item:
    """Return the same run without fields, except its rate and the counts of its parts."""
    return Item(
        id=item.id, owner_id=item.owner_id, owner=item.owner, run_id=item.run_id, created_at=item.created_at,
        updated_at=item.updated_at, seq=item.seq, smoothed_rate=item.smoothed_rate, rate_at=item.rate_at,
        rate_position=item.rate_position, rate_seconds=item.rate_seconds,
        own=item.own if fields.get("part") is not None else None, parts=item.parts, past=item.past, born=item.born,
        rev=item.rev,
    )  # fmt: skip


def _apply_part(base: Item, fields: WriteFields, *, overwrite: bool) -> tuple[Number | None, dict[str, Part], int]:
    """Return ``own, parts, seq`` after a write."""
    part, seq = fields.get("part"), fields.get("seq")
    if part is None:
        own = fields.get("completed", base.own)
        return own, base.parts, base.seq if seq is None else seq
    known = base.parts.get(part)
    if known is None and len(base.parts) >= MAX_PARTS:
        raise ProblemError("invalid-field", f"a run has at most {MAX_PARTS} parts", field="part")
    count = fields.get("completed")
    if count is None:
        count = 0 if overwrite or known is None or "completed" in fields else known.completed
    last = seq if seq is not None else -1 if known is None else known.seq
    return base.own, {**base.parts, part: Part(count, last)}, base.seq


def _sum_parts(own: Number | None, parts: dict[str, Part]) -> Number | None:
    if not parts:
        return own
    # A sum beyond 2**53 becomes a float, like every number of the protocol.
    try:
        return check_number("completed", sum((part.completed for part in parts.values()), own or 0))
    except FieldError as error:
        raise field_problem(error) from None


def _merge_meta(base: dict[str, str], fields: WriteFields) -> dict[str, str]:
    cleared = fields.get("meta_cleared", ())
    remaining = {} if "*" in cleared else {name: text for name, text in base.items() if name not in cleared}
    merged = remaining | (fields["meta"] or {})
    if len(merged) > MAX_META_ENTRIES:
        raise ProblemError(
            "invalid-field", f"meta must have at most {MAX_META_ENTRIES} entries, not {len(merged)}", field="meta"
        )
    return merged
