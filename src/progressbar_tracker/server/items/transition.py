"""The state of an item after a write of its run: of all fields or some, by the run itself or by one of its parts.

Pure, and independent of the board, which has decided that the write is allowed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._estimate import Progress, start_progress, update_progress
from progressbar_tracker._models import MAX_META_ENTRIES, FieldError, Number, check_number, compute_fraction
from progressbar_tracker.server.models import NO_PROGRESS, Item, Part
from progressbar_tracker.server.problems import ProblemError, field_problem

from .fields import COPIED_FIELDS

if TYPE_CHECKING:
    from .validation import WriteFields

MAX_PARTS: Final = 1000
"""Maximum parts of one run."""

MAX_ALIVE_SECONDS: Final = 30.0
"""Maximum seconds between two signs of life in which a run counts as alive, without a ``stuck_after``: a third of that.

A suspended machine alone therefore never reaches a limit, and a run with few signs of life still does.
"""


def apply_write(
    before: Item, fields: WriteFields, now: float, *, rev: int, overwrite: bool, listening_since: float = -math.inf
) -> Item:
    """Return the item after a write of its own run.

    Args:
        before: The item before it.
        fields: The checked fields.
        now: The instant, in seconds since the epoch.
        rev: The revision of the result.
        overwrite: Absent fields become blank, instead of staying unchanged.
        listening_since: The instant since which runs could reach this server.

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
    started_at = find_start(before, fields, now, is_end=status != "running")
    ended_at = None if status == "running" else _find_end(started_at, fields, now)
    has_progress = (
        completed != before.completed
        or (derived is None and value != before.value)
        or (parts is not before.parts and _is_part_moved(before, fields["part"], parts))
        or (completed is None and "description" in fields and fields["description"] != before.description)
    )
    progressed_at = now if has_progress else before.progressed_at
    return replace(
        base, own=own, parts=parts, seq=seq, completed=completed, value=value, status=status, updated_at=now,
        ended_at=ended_at, started_at=started_at,
        # The progress of a run that has ended is not later than its end, though it may have arrived later.
        progressed_at=progressed_at if ended_at is None else min(progressed_at, ended_at), rev=rev,
        progress=measure_progress(
            before, completed, value, started_at, now, has_progress=has_progress, listening_since=listening_since
        ), **named,
    )  # fmt: skip


def find_start(before: Item, fields: WriteFields, now: float, *, is_end: bool = False) -> float:
    """Return the start of a run after a write: the age that it reports may only move it to an earlier instant.

    Args:
        before: The item before the write.
        fields: The checked fields.
        now: The instant.
        is_end: The write ends the run, which has lasted at least for the duration that it reports.
    """
    age = fields.get("age_seconds")
    duration = fields.get("duration_seconds") if is_end else None
    if duration is not None and (age is None or duration > age):
        age = duration
    return before.started_at if age is None else min(before.started_at, now - age)


def _is_part_moved(before: Item, part: str | None, parts: dict[str, Part]) -> bool:
    """Return whether the count of a part has changed, though perhaps not the sum of all parts."""
    if part is None:
        return False
    known = before.parts.get(part)
    return parts[part].completed != (0 if known is None else known.completed)


def measure_progress(
    before: Item,
    completed: Number | None,
    value: float,
    started_at: float,
    now: float,
    *,
    has_progress: bool,
    listening_since: float = -math.inf,
) -> Progress:
    """Return the progress of an item after a write at the instant ``now``.

    Args:
        before: The item before the write.
        completed: Its new count.
        value: Its new value.
        started_at: Its new start.
        now: The instant.
        has_progress: Whether the write reports progress, which an item without a count does by its description.
        listening_since: The instant since which runs could reach this server.
    """
    position = value if completed is None else completed
    if before.progress is NO_PROGRESS:
        return start_progress(position, now, started_at)
    if (before.completed is None) is not (completed is None):
        return start_progress(position, now)
    timeout, seen_at, known = before.heartbeat_timeout, before.updated_at, before.progress
    silence = math.inf if timeout is None else timeout / 2
    silent = now - seen_at
    if 0 < silent <= silence:
        if seen_at < listening_since:
            alive = 0.0  # the run could not reach this server
        elif timeout is None and has_progress:
            alive = silent  # such a run reports progress and nothing else
        else:
            alive = before.stuck_after / 3 if before.stuck_after else MAX_ALIVE_SECONDS
        if silent > alive:
            # The machine was perhaps suspended: the speed includes that time, but the idle time does not.
            known = known._replace(idle_since=min(known.idle_since + silent - alive, now))
    progress = update_progress(known, position, now, seen_at, silence)
    return progress._replace(idle_since=now) if has_progress and progress.idle_since < now else progress


def _find_end(started_at: float, fields: WriteFields, now: float) -> float:
    """Return the end of a run, which may have waited for the server; never later than now."""
    duration = fields.get("duration_seconds")
    return now if duration is None else min(started_at + duration, now)


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
        updated_at=item.updated_at, seq=item.seq, started_at=item.started_at, progressed_at=item.progressed_at,
        progress=item.progress,
        own=item.own if fields.get("part") is not None else None, parts=item.parts, past=item.past, born=item.born,
        rev=item.rev, stop_request=item.stop_request,
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
