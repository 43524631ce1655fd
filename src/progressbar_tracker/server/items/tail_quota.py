"""The quota of stored output tails: of a key, and of all keys.

A store sums the tails of a key up only after the key has written a part of its quota since the last time, so that a
write stays cheap. A key may exceed its quota by that part, on each server. The tails of all keys are summed up by the
maintenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.mutations import TrimTails

if TYPE_CHECKING:
    from .change import Change

MAX_KEY_TAIL_BYTES: Final = 64 * 1024 * 1024
"""Of the stored tails of a key, which are compressed."""

MAX_TAIL_STORE_BYTES: Final = 1024 * 1024 * 1024
"""Of the stored tails of all keys."""

CHECK_BYTES: Final = MAX_KEY_TAIL_BYTES // 16
"""Bytes of output that a key writes between two checks of its quota."""


class TailQuota:
    """Decides when the quota of a key is checked."""

    def __init__(self) -> None:
        self._unchecked_bytes: dict[str, int] = {}

    def check(self, change: Change) -> TrimTails | None:
        """Return the write that enforces the quota with the tail of a change, if it is due: at first, and then."""
        if change.tail is None or change.after is None:
            return None
        owner_id = change.after.owner_id
        size = self._unchecked_bytes.get(owner_id, CHECK_BYTES) + len(change.tail.text)
        is_due = size >= CHECK_BYTES
        self._unchecked_bytes[owner_id] = 0 if is_due else size
        return TrimTails(owner_id, MAX_KEY_TAIL_BYTES) if is_due else None
