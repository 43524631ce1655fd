"""What the server asks of a store. Every implementation passes ``tests/server/stores/test_store_contract.py``."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from progressbar_tracker.server.counters import CommitStats
    from progressbar_tracker.server.models import (
        DeliveryStats,
        EndedRun,
        EndStatus,
        Item,
        KeyRecord,
        Notice,
        Sample,
        SampledRun,
        SessionRecord,
        ShareRecord,
    )
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.pools import Cancellation


class StoreError(Exception):
    """The store cannot do it now; the message is for the log.

    Attributes:
        is_rolled_back: Nothing was written, and nothing will be. Else nobody knows.
        detail: Why, for clients; ``None`` where the log alone says it.
    """

    def __init__(self, message: str, *, is_rolled_back: bool = True, detail: str | None = None) -> None:
        super().__init__(message)
        self.is_rolled_back = is_rolled_back
        self.detail = detail


class OutdatedError(StoreError):
    """Another server was faster: the writes rest on states that are no longer true, and none of them was made.

    Attributes:
        rows: What is there instead, by id.
    """

    def __init__(self, rows: Mapping[str, ItemRow]) -> None:
        super().__init__(f"{len(rows)} items have changed in the meantime")
        self.rows = rows


class StoredState(msgspec.Struct, frozen=True):
    """All hot state, as of one instant."""

    items: list[Item]
    keys: list[KeyRecord]
    keys_rev: int
    sessions: list[SessionRecord]
    sampled_runs: list[SampledRun]
    shares: list[ShareRecord]


class ItemRow(msgspec.Struct, frozen=True):
    """What is stored under an id: the item, or ``None`` if it is gone, and the revision at which that came to be."""

    rev: int
    item: Item | None


class Credentials(msgspec.Struct, frozen=True):
    """Who may do what, as of one instant."""

    rev: int
    keys: list[KeyRecord]
    sessions: list[SessionRecord]
    shares: list[ShareRecord]


class ChangeBatch(msgspec.Struct, frozen=True):
    """What was found in a database that others write to.

    Attributes:
        rows: Items that have changed, by id.
        ended_runs: Runs that went to the history.
        rev: All up to this revision has been told with this; ``None`` if there is more.
        credentials: All of them, if any has changed.
        full: These are all items that there are.
        sampled_runs: What was sampled so far, told to the server that begins to lead.
        out_of_order: Read beside the order of all that is told, and possibly newer than what is told next.
    """

    rows: Mapping[str, ItemRow] = {}
    ended_runs: Sequence[EndedRun] = ()
    rev: int | None = None
    credentials: Credentials | None = None
    full: bool = False
    sampled_runs: Sequence[SampledRun] | None = None
    out_of_order: bool = False


class HistoryRow(msgspec.Struct, frozen=True):
    """A run of the history; ``n`` grows with every row and is the cursor."""

    n: int
    item: Item
    status: EndStatus
    ended_at: float


class WriteQueue(Protocol):
    """What commits in groups. All of this may be called from any thread and never blocks on the disk."""

    def submit(self, writes: Sequence[Write], on_done: Callable[[Exception | None], object], /) -> None:
        """Write all or nothing with the next group.

        Args:
            writes: What is to be written. The group waits for :meth:`wake`, or for whatever else begins one.
            on_done: Called once, from any thread: when it is on disk, or with the :class:`StoreError` that it failed
                with. It must not raise.
        """

    def wake(self) -> None:
        """Begin with what was submitted."""


def commit_now(store: WriteQueue, writes: Sequence[Write]) -> Future[None]:
    """Have writes committed now; return a future that is done when they are on disk, for a thread to wait for."""
    future: Future[None] = Future()
    # Whoever waits may go away; the write happens all the same, and its future must still take the outcome.
    future.set_running_or_notify_cancel()

    def done(error: Exception | None) -> None:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    store.submit(writes, done)
    store.wake()
    return future


class Store(WriteQueue, Protocol):
    """Persistence. ``commit`` and ``enqueue`` may be called from any thread and never block on the disk."""

    @property
    def commit_stats(self) -> CommitStats:
        """What is counted of the commits."""

    def count_pending_writes(self) -> int:
        """Return how many writes wait for a commit."""

    @property
    def durability_error(self) -> StoreError | None:
        """Why no write would be found again after a restart, as of the latest commit; ``None`` if each would."""

    @property
    def shared(self) -> SharedStore | None:
        """The store itself, if other servers may write to it, too."""

    def load(self) -> StoredState:
        """Return all hot state."""

    def commit(self, writes: Sequence[Write]) -> Future[None]:
        """Write all or nothing; the future is done when it is on disk, or fails with :class:`StoreError`."""

    def enqueue(self, writes: Sequence[Write]) -> None:
        """Write within half a second. A newer state of the same item replaces one that waits."""

    def flush(self, timeout: float) -> bool:
        """Write what waits now; say whether all of it was written within ``timeout`` seconds."""

    @property
    def database_id(self) -> str:
        """What tells this database from any other: 12 characters or more."""

    def is_secret_retired(self, secret_hash: str) -> bool:
        """Say whether a secret was one of a key, and is one no more: it was replaced, or its key is forgotten."""

    def read_keys(self) -> tuple[list[KeyRecord], int]:
        """Return all keys, and their revision."""

    def read_keys_rev(self) -> int:
        """Return the revision of the keys; it grows whenever anyone changes a key."""

    def read_history(
        self,
        *,
        group: str | None = None,
        status: EndStatus | None = None,
        item_id: str | None = None,
        text: str | None = None,
        after: int | None = None,
        limit: int = 100,
        cancellation: Cancellation | None = None,
    ) -> list[HistoryRow]:
        """Return runs that left the board, newest first. May block: use a thread.

        Args:
            group: Only those of a group.
            status: Only those that ended so.
            item_id: Only those of an item.
            text: Only those whose id or title has this text in it, in capitals or not.
            after: Begin after this row.
            limit: The most rows.
            cancellation: Interrupts it; it then fails with :class:`StoreError`.
        """

    def read_samples(self, item_id: str, run_id: str, *, cancellation: Cancellation | None = None) -> list[Sample]:
        """Return the samples of a run, oldest first. May block: use a thread."""

    def read_due_notices(self, now: float, limit: int, *, excluded_channels: Collection[str] = ()) -> list[Notice]:
        """Return the notices that are to be sent now, the longest due first. May block: use a thread.

        Args:
            now: The instant.
            limit: The most of them.
            excluded_channels: Not those for these channels.
        """

    def read_delivery_stats(self) -> list[DeliveryStats]:
        """Return what became of the notices to each channel, as far as is remembered. May block: use a thread."""

    def close(self) -> None:
        """Write what waits, then let go of everything. Idempotent."""


class SharedStore(Store, Protocol):
    """A store to which other servers write, too.

    Attributes:
        epoch: Tells this database from any other, and from itself before it was restored.
        rev: The revision of which all was that was loaded.
    """

    epoch: str
    rev: int

    @property
    def is_leader(self) -> bool:
        """Whether this server is the one that sees to what happens by itself."""

    @property
    def credentials_rev(self) -> int:
        """The newest revision of the credentials that was written here: one that was read before is no news."""

    @property
    def confirmed_at(self) -> float:
        """Since when the credentials that were told may have changed, by :func:`~.clock.read_monotonic`."""

    def abandon(self) -> None:
        """Let everything fail that waits for the database, and try nothing again: the server has to end."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other servers that start at the same time from doing the same thing."""

    def follow(self, publish: Callable[[ChangeBatch], None]) -> None:
        """Tell from now on what becomes of the database, whoever writes it; called from any thread."""

    def read_items(self, ids: Iterable[str]) -> dict[str, ItemRow]:
        """Return what is stored under ids now; what was never there has revision 0. May block: use a thread."""

    def read_credentials(self) -> Credentials:
        """Return who may do what now. May block: use a thread."""

    def find_pending_base(self, item_id: str, rev: int) -> Item | bool:
        """Say what of this server's own is not yet in the row of an item at a revision.

        Returns:
            ``False``: nothing. ``True``: something that must not be undone by that row. An item: states that may wait,
            and this is what the oldest of them was made of.
        """

    def acknowledge(self, rev: int) -> None:
        """Note that all up to a revision has been taken over."""
