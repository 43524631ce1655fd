"""When the output tail of a run is read and sent: less often the longer it is, and within the size of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .schedule import Record

TAIL_INTERVAL: Final = 2.0  # seconds between two tails of a run, and more for long ones
TAIL_BYTES_PER_SECOND: Final = 16 * 1024  # of one run
MAX_PLANNED_TAIL_BYTES: Final = 256 * 1024  # of a batch, which has at most 1 MiB


class TailBudget:
    """The bytes of tails in the batch that is planned."""

    def __init__(self) -> None:
        self._planned_bytes = 0

    def start_plan(self) -> None:
        """Begin the next batch."""
        self._planned_bytes = 0

    @property
    def is_spent(self) -> bool:
        """Whether the batch has as much output as it may have."""
        return self._planned_bytes > MAX_PLANNED_TAIL_BYTES

    def read(self, record: Record, now: float, *, is_running: bool) -> str | None:
        """Return the output tail of a run if the server lacks it, and it is due or the last one."""
        tail = record.source.tail
        if tail is None or (is_running and now < record.tail_due):
            return None
        text = tail.read()
        if tail.version == record.tail_version:
            return None
        size = len(text.encode())
        self._planned_bytes += size
        record.tail_due = now + max(TAIL_INTERVAL, size / TAIL_BYTES_PER_SECOND)
        return text
