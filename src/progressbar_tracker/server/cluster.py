"""Synchronizes the board of one server with other servers on the same database.

Each server validates writes against its in-memory board at once. Non-durable writes are acknowledged from memory. The
store validates durable writes again, against the stored states. If a stored state differs from the board's, the board
takes the stored one and the request is executed again. So of two identical creates on two servers, one gets 201 and the
other 409. A refusal of a board may be outdated, too: the request is executed again after reading the stored states.

Viewers see stored states only, on a second board, which only the follower updates, in the order of the database.
Changes of the first board may still be rolled back, and no bar may move backwards.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from .items.board import Board
from .items.merge import is_compatible, three_way_merge
from .models import Item
from .problems import ProblemError
from .stores.base import ChangeBatch, ItemRow, OutdatedError, StoreError
from .threads import run_in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from .items.change import Change
    from .items.curves import StoredCurve
    from .models import SampledRun, ScheduleRecord
    from .stores.base import Credentials, SharedStore

logger = logging.getLogger("progressbar_tracker.server")

T = TypeVar("T")

MAX_ATTEMPTS: Final = 10
"""The most executions of a request; each time another server changed the same items first."""

READ_TIMEOUT: Final = 15.0
"""Seconds that a request waits for a database that accepts connections but does not answer."""

RETRYABLE_CODES: Final = frozenset(
    {"item-not-found", "item-exists", "run-superseded", "run-ended", "not-stoppable", "forbidden"}
)
"""The refusals that depend on the in-memory state of the board."""


def _ignore(*_: object) -> None:
    pass


class Verdict(NamedTuple):
    """The result of a request on the board.

    Attributes:
        changes: The changes.
        problems: The refusals, each with the id of its item.
    """

    changes: Sequence[Change]
    problems: Sequence[tuple[str, ProblemError]] = ()


class ClusterSync:
    """Synchronizes a board with a shared store.

    Args:
        store: The shared store.
        board: The board that executes requests.

    Attributes:
        stored_board: The board with the stored items.
        rev: The revision of the database that :attr:`stored_board` has reached: it has no change of a later one.
        epoch: The sequence of revisions that ``rev`` belongs to. It changes in a failover.
    """

    def __init__(self, store: SharedStore, board: Board) -> None:
        self._store = store
        self._board = board
        self._notify: Callable[[], object] = _ignore
        self._apply_credentials: Callable[[Credentials], object] = _ignore
        self._apply_samples: Callable[[Sequence[SampledRun]], object] = _ignore
        self._apply_curves: Callable[[Sequence[StoredCurve]], object] = _ignore
        self._apply_schedules: Callable[[ChangeBatch], object] = _ignore
        self._item_changed: Callable[[Item | None, Item], object] = _ignore
        self._restart: Callable[[str, Credentials], object] = _ignore
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refresh_lock = asyncio.Lock()
        self._refresh_count = 0
        self.stored_board = Board(
            max_items=sys.maxsize, new_run_id=str, items=board.snapshot(), conditions=board.conditions
        )
        self.rev = store.rev
        self.epoch = store.epoch

    @property
    def is_leader(self) -> bool:
        """Whether this server runs background maintenance for all servers on the database."""
        return self._store.is_leader

    def get_rev(self) -> int:
        """Return :attr:`rev`; for callers that need a function."""
        return self.rev

    def follow(
        self,
        *,
        notify: Callable[[], object],
        apply_credentials: Callable[[Credentials], object],
        apply_samples: Callable[[Sequence[SampledRun]], object],
        apply_curves: Callable[[Sequence[StoredCurve]], object],
        apply_schedules: Callable[[ChangeBatch], object] = _ignore,
        item_changed: Callable[[Item | None, Item], object] = _ignore,
        restart: Callable[[str, Credentials], object] = _ignore,
    ) -> None:
        """Follow the database from now on, in the running event loop.

        Args:
            notify: Called when the stored board has changed.
            apply_credentials: Receives all credentials after each change, sometimes out of order.
            apply_samples: Receives the runs with samples when this server becomes the leader.
            apply_curves: Receives the curves of running items at that moment.
            apply_schedules: Receives changed schedules, and the mark of their monitor when this server becomes the
                leader.
            item_changed: Receives each newly stored item: its previous and its current state.
            restart: Receives the new epoch and all credentials if the database has lost its latest changes.
        """
        self._notify = notify
        self._apply_credentials = apply_credentials
        self._apply_samples = apply_samples
        self._apply_curves = apply_curves
        self._apply_schedules = apply_schedules
        self._item_changed = item_changed
        self._restart = restart
        self._loop = asyncio.get_running_loop()
        self._store.follow(self._schedule_apply)

    def apply(self, batch: ChangeBatch) -> None:
        """Apply changes from the database to both boards."""
        rows = batch.rows
        if batch.full:
            known_ids = {item.id for board in (self._board, self.stored_board) for item in board.snapshot()}
            rows = dict.fromkeys(known_ids - rows.keys(), ItemRow(batch.rev or 0, None)) | dict(rows)
        for item_id, row in rows.items():
            self._apply_row(item_id, row)
            if not batch.out_of_order:
                if row.item is not None:
                    self._item_changed(self.stored_board.get(item_id), row.item)
                self.stored_board.replace(item_id, row.item)
        self.stored_board.drain_touched()  # samples are taken from the other board
        if batch.ended_runs:
            # A run may have come and gone between two reads. A client that arrives from another server may show it.
            self.stored_board.republish_states([run.item for run in batch.ended_runs])
            self.stored_board.record_ended_runs(batch.ended_runs)
        if batch.rev is not None:
            self.rev = batch.rev
            self._store.acknowledge(batch.rev)
        if batch.epoch is not None and batch.credentials is not None:
            self.epoch = batch.epoch
            self._restart(batch.epoch, batch.credentials)
        elif batch.credentials is not None:
            self._apply_credentials(batch.credentials)
        if batch.sampled_runs is not None:
            self._apply_samples(batch.sampled_runs)
        if batch.curves is not None:
            self._apply_curves(batch.curves)
        if batch.schedules or batch.all_schedules or batch.schedule_mark is not None:
            self._apply_schedules(batch)
        if (rows and not batch.out_of_order) or batch.ended_runs:
            self._notify()

    async def fetch(self, ids: Iterable[str]) -> None:
        """Apply the stored states of some items.

        Raises:
            ProblemError: ``unavailable``.
        """
        self.apply(ChangeBatch(await self._read(self._store.read_items, list(ids)), out_of_order=True))

    async def read_schedule(self, schedule_id: str) -> ScheduleRecord | None:
        """Return the stored schedule of an id.

        Raises:
            ProblemError: ``unavailable``.
        """
        records = await self._read(self._store.read_schedules, [schedule_id])
        return records[0] if records else None

    async def refresh(self) -> None:
        """Apply the stored credentials. Concurrent calls share the next read.

        Raises:
            ProblemError: ``unavailable``.
        """
        refresh_count = self._refresh_count
        async with self._refresh_lock:
            if self._refresh_count == refresh_count:  # otherwise a read has begun since this call
                self._refresh_count += 1
                self.apply(ChangeBatch(credentials=await self._read(self._store.read_credentials)))

    async def execute(
        self,
        decide: Callable[[], Verdict],
        persist_changes: Callable[[Sequence[Change]], Awaitable[None]],
        reauthorize: Callable[[], object],
    ) -> Verdict:
        """Execute a request until its result is valid for all servers.

        Args:
            decide: Applies the request to the board; is called again after a rollback.
            persist_changes: Persists changes, or rolls them back if that fails.
            reauthorize: Is called before ``decide`` is called again. It raises if the credential has ended meanwhile.

        Returns:
            The result on the board.

        Raises:
            ProblemError: ``unavailable``.
        """
        verified_ids: set[str] = set()
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                reauthorize()
            verdict = decide()
            unverified_ids = {
                item_id
                for item_id, problem in verdict.problems
                if problem.code in RETRYABLE_CODES and item_id not in verified_ids
            }
            if unverified_ids:
                self.rollback(verdict.changes)
                await self.fetch(unverified_ids)
                verified_ids |= unverified_ids
                continue
            try:
                await persist_changes(verdict.changes)
            except OutdatedError as outdated:
                self.apply(ChangeBatch(outdated.rows, out_of_order=True))
                verified_ids.clear()
                continue
            return verdict
        raise ProblemError("unavailable", "other servers write to the same items all the time", retry_after=1)

    def rollback(self, changes: Sequence[Change]) -> None:
        """Undo changes that were not persisted, and publish the stored states: a list may have shown the others."""
        for change in reversed(changes):
            self._board.rollback(change)
        states = [change.after or change.before for change in changes]
        self.stored_board.republish_states([state for state in states if state is not None])
        self._notify()

    def _apply_row(self, item_id: str, row: ItemRow) -> None:
        pending_base = self._store.find_pending_base(item_id, row.rev)
        if pending_base is True:
            return
        item = row.item
        if isinstance(pending_base, Item) and item is not None:
            current = self._board.get(item_id)
            if current is not None and is_compatible(current, item):
                item = three_way_merge(pending_base, current, item)
        self._board.replace(item_id, item)

    def _schedule_apply(self, batch: ChangeBatch) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._apply_safely, batch)

    def _apply_safely(self, batch: ChangeBatch) -> None:
        try:
            self.apply(batch)
        except Exception:
            logger.exception("changes of another server could not be applied")

    async def _read(self, read: Callable[..., T], *arguments: object) -> T:
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                while True:
                    timeline = self._store.timeline
                    result = await run_in_daemon_thread(lambda: read(*arguments))
                    if timeline == self._store.timeline:  # otherwise the result may be that of a former primary
                        return result
        except (StoreError, TimeoutError) as error:
            logger.warning("the database cannot be read: %s", error)
            raise ProblemError("unavailable", "the database does not answer at the moment", retry_after=5) from error
