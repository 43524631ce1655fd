"""What the server asks of a store. Every implementation passes the one contract suite in ``tests/server/stores``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from progressbar_tracker.server.records import (
        EndStatus,
        Item,
        KeyRecord,
        Sample,
        Sampled,
        SessionRecord,
        ShareRecord,
        Write,
    )


class StoreError(Exception):
    """The store cannot do it now; the message is for the log."""


class Loaded(msgspec.Struct, frozen=True):
    """All hot state, as of one instant."""

    items: list[Item]
    keys: list[KeyRecord]
    keys_rev: int
    sessions: list[SessionRecord]
    sampled: list[Sampled]
    shares: list[ShareRecord]


class HistoryRow(msgspec.Struct, frozen=True):
    """A run of the history; ``n`` grows with every row and is the cursor."""

    n: int
    item: Item
    status: EndStatus
    ended_at: float


class Store(Protocol):
    """Persistence. ``commit`` and ``later`` may be called from any thread and never block on the disk."""

    def load(self) -> Loaded:
        """Return all hot state."""

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing; the future is done when it is on disk, or fails with :class:`StoreError`."""

    def later(self, writes: Sequence[Write]) -> None:
        """Write within half a second. A newer state of the same item replaces one that waits."""

    def flush(self, timeout: float) -> bool:
        """Write what waits now; say whether all of it was written within ``timeout`` seconds."""

    def keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys, and their revision."""

    def keys_rev(self) -> int:
        """Return the revision of the keys; it grows whenever anyone changes a key."""

    def history(
        self,
        *,
        group: str | None = None,
        status: EndStatus | None = None,
        item_id: str | None = None,
        text: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first. May block: use a thread.

        Args:
            group: Only those of a group.
            status: Only those that ended so.
            item_id: Only those of an item.
            text: Only those whose id or title has this text in it, in capitals or not.
            after: Begin after this row.
            limit: The most rows.
        """

    def samples(self, item_id: str, run_id: str) -> list[Sample]:
        """Return the samples of a run, oldest first. May block: use a thread."""

    def close(self) -> None:
        """Write what waits, then let go of everything. Idempotent."""
