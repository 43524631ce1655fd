"""The five fields of an item in part 1 of the protocol.

The explicit client writes these fields. A tracker writes them only if the server supports nothing newer. Such a server
replaces whole items and has no rate, so counts, rate and ETA are put into the description.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import (
    COMPLETION_TOLERANCE,
    MAX_DESCRIPTION_LENGTH,
    MAX_TITLE_LENGTH,
    check_id,
    check_text,
    check_value,
    check_weight,
    compute_fraction,
)
from progressbar_tracker._text import format_amount, format_clock

if TYPE_CHECKING:
    from progressbar_tracker._models import LegacyItem, Number, Op

MAX_RUNNING_VALUE: Final = 1 - 2 * COMPLETION_TOLERANCE  # part 1 treats 1.0 as the end
MAX_ETA_SECONDS: Final = 1e9  # 30 years; a longer ETA is left out


def build_legacy_item(item_id: object, title: object, description: object, value: object, weight: object) -> LegacyItem:
    """Check the five fields of part 1 and return them as a body.

    Raises:
        TypeError, ValueError: An argument is invalid; the message has its name and value.
    """
    return {
        "id": check_id(item_id, "item_id"),
        "title": check_text("title", title, MAX_TITLE_LENGTH),
        "description": check_text("description", description, MAX_DESCRIPTION_LENGTH, allow_newlines=True),
        "value": check_value(value),
        "weight": check_weight(weight),
    }


class LegacyState(NamedTuple):
    """The merged fields of a tracker's item on a server of part 1, which has no patch and no rate."""

    op: Op
    started_at: float  # monotonic seconds
    initial_completed: Number

    def to_item(self, now: float) -> LegacyItem:
        """Return the five fields. Without a description, counts, rate and ETA are written into it."""
        op = self.op
        completed, total, status = op.get("completed") or 0, op.get("total"), op.get("status", "running")
        description = op.get("description") or self._describe_counts(
            completed, total, now if status == "running" else None
        )
        if status in ("failed", "stopped"):
            description = f"{status}: {op.get('error') or description}"
        return {
            "id": op["id"],
            "title": op.get("title") or op["id"],
            "description": description[:MAX_DESCRIPTION_LENGTH],
            "value": 1.0
            if status == "succeeded"
            else min(compute_fraction(completed, total) or 0.0, MAX_RUNNING_VALUE),
            "weight": op.get("weight") or 0,
        }

    def _describe_counts(self, completed: Number, total: Number | None, now: float | None) -> str:
        if self.op.get("completed") is None:
            return ""
        unit = self.op.get("unit") or "it"
        of_total = "" if total is None or total <= 0 else f"/{format_amount(total, unit)}"
        parts = [f"{format_amount(completed, unit)}{of_total} {unit}"]
        elapsed = 0.0 if now is None else now - self.started_at
        rate = (completed - self.initial_completed) / elapsed if elapsed > 0 else 0.0
        if 0 < rate < math.inf:
            parts.append(f"{format_amount(float(f'{rate:.3g}'), unit)} {unit}/s")
            if total is not None and total > completed and (left := (total - completed) / rate) < MAX_ETA_SECONDS:
                parts.append(f"{format_clock(left)} left")
        return ", ".join(parts)
