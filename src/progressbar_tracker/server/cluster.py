"""One of several servers on one database: keeps its board in step with what the others write.

Each server judges what it is sent by its own board, at once, and what may wait is answered from memory as if it were
alone. What has to be durable is judged once more by the store, against what is stored. If that is no longer what the
board had, the board takes over what is stored and the request is judged anew: so two servers that are sent the same
create give one 201 and one 409. What a board refuses because of what it remembers may be true no longer either, and is
judged anew after a look at what is stored.

What viewers are told is what is stored, and nothing else: a second board, which only the follower writes, in the order
of the database. What the first board has judged may still come to nothing, and no bar is to be seen going backwards.
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
    from .models import SampledRun
    from .stores.base import Credentials, SharedStore

logger = logging.getLogger("progressbar_tracker.server")

T = TypeVar("T")

MAX_ATTEMPTS: Final = 10
"""How often a request is judged anew: each time another server was faster."""

READ_TIMEOUT: Final = 15.0
"""Seconds that a request waits for a database that is there and does not answer."""

RETRYABLE_CODES: Final = frozenset({"item-not-found", "item-exists", "run-superseded", "run-ended", "forbidden"})
"""The refusals that rest on what a board remembers."""


def _ignore(*_: object) -> None:
    """Do nothing: nobody follows yet."""


class Verdict(NamedTuple):
    """What a board made of a request.

    Attributes:
        changes: What it changed.
        problems: The problems, with the ids that they are about.
    """

    changes: Sequence[Change]
    problems: Sequence[tuple[str, ProblemError]] = ()


class ClusterSync:
    """Keeps a board in step.

    Args:
        store: The store that is shared.
        board: What is kept in step.

    Attributes:
        stored_board: The board of what is stored.
        rev: All that was written up to this revision of the database is on the board.
    """

    def __init__(self, store: SharedStore, board: Board) -> None:
        self._store = store
        self._board = board
        self._notify: Callable[[], object] = _ignore
        self._apply_credentials: Callable[[Credentials], object] = _ignore
        self._apply_samples: Callable[[Sequence[SampledRun]], object] = _ignore
        self._item_changed: Callable[[Item | None, Item], object] = _ignore
        self._loop: asyncio.AbstractEventLoop | None = None
        self._refresh_lock = asyncio.Lock()
        self._refresh_count = 0
        self.stored_board = Board(max_items=sys.maxsize, new_run_id=str, items=board.snapshot())
        self.rev = store.rev

    @property
    def is_leader(self) -> bool:
        """Whether this server is the one that sees to what happens by itself."""
        return self._store.is_leader

    def get_rev(self) -> int:
        """Return :attr:`rev`."""
        return self.rev

    def follow(
        self,
        *,
        notify: Callable[[], object],
        apply_credentials: Callable[[Credentials], object],
        apply_samples: Callable[[Sequence[SampledRun]], object],
        item_changed: Callable[[Item | None, Item], object] = _ignore,
    ) -> None:
        """Follow the database from now on, in the loop that runs.

        Args:
            notify: Told when there is something new to tell viewers.
            apply_credentials: Given who may do what, whenever anyone changes it; older news may come after newer.
            apply_samples: Given what was sampled so far, when this server begins to lead.
            item_changed: Given each item that is stored anew, as it was and as it is.
        """
        self._notify = notify
        self._apply_credentials = apply_credentials
        self._apply_samples = apply_samples
        self._item_changed = item_changed
        self._loop = asyncio.get_running_loop()
        self._store.follow(self._schedule_apply)

    def apply(self, batch: ChangeBatch) -> None:
        """Take over what was seen in the database."""
        rows = batch.rows
        if batch.full:
            there = {item.id for board in (self._board, self.stored_board) for item in board.snapshot()}
            rows = dict.fromkeys(there - rows.keys(), ItemRow(batch.rev or 0, None)) | dict(rows)
        for item_id, row in rows.items():
            self._apply_row(item_id, row)
            if not batch.out_of_order:
                if row.item is not None:
                    self._item_changed(self.stored_board.get(item_id), row.item)
                self.stored_board.replace(item_id, row.item)
        self.stored_board.drain_touched()  # which is for who takes samples, of the other board
        if batch.ended_runs:
            self.stored_board.record_ended_runs(batch.ended_runs)
        if batch.rev is not None:
            self.rev = batch.rev
            self._store.acknowledge(batch.rev)
        if batch.credentials is not None:
            self._apply_credentials(batch.credentials)
        if batch.sampled_runs is not None:
            self._apply_samples(batch.sampled_runs)
        if (rows and not batch.out_of_order) or batch.ended_runs:
            self._notify()

    async def fetch(self, ids: Iterable[str]) -> None:
        """Take over what is stored under ids now.

        Raises:
            ProblemError: ``unavailable``.
        """
        self.apply(ChangeBatch(await self._read(self._store.read_items, list(ids)), out_of_order=True))

    async def refresh(self) -> None:
        """Take over who may do what now. All who ask while a look is under way share the next one.

        Raises:
            ProblemError: ``unavailable``.
        """
        looks = self._refresh_count
        async with self._refresh_lock:
            if self._refresh_count == looks:  # or one has begun since, and that is soon enough
                self._refresh_count += 1
                self.apply(ChangeBatch(credentials=await self._read(self._store.read_credentials)))

    async def execute(
        self,
        decide: Callable[[], Verdict],
        persist_changes: Callable[[Sequence[Change]], Awaitable[None]],
        reauthorize: Callable[[], object],
    ) -> Verdict:
        """Have a request judged until what came of it is true for all servers.

        Args:
            decide: Judges the request by the board as it is; may be called again after its changes were undone.
            persist_changes: Keeps changes; undoes them if that fails.
            reauthorize: Called before ``decide`` is called again: the credential may have ended in the meantime.

        Returns:
            What came of it.

        Raises:
            ProblemError: ``unavailable``.
        """
        sure: set[str] = set()
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                reauthorize()
            judged = decide()
            doubtful = {
                item_id
                for item_id, problem in judged.problems
                if problem.code in RETRYABLE_CODES and item_id not in sure
            }
            if doubtful:
                self.rollback(judged.changes)
                await self.fetch(doubtful)
                sure |= doubtful
                continue
            try:
                await persist_changes(judged.changes)
            except OutdatedError as outdated:
                self.apply(ChangeBatch(outdated.rows, out_of_order=True))
                sure.clear()
                continue
            return judged
        raise ProblemError("unavailable", "other servers write the same items all the time", retry_after=1)

    def rollback(self, changes: Sequence[Change]) -> None:
        """Undo changes that were not kept."""
        for change in reversed(changes):
            self._board.rollback(change)

    def _apply_row(self, item_id: str, row: ItemRow) -> None:
        waiting = self._store.find_pending_base(item_id, row.rev)
        if waiting is True:
            return
        item = row.item
        if isinstance(waiting, Item) and item is not None:
            ours = self._board.get(item_id)
            if ours is not None and is_compatible(ours, item):
                item = three_way_merge(waiting, ours, item)
        self._board.replace(item_id, item)

    def _schedule_apply(self, batch: ChangeBatch) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._apply_safely, batch)

    def _apply_safely(self, batch: ChangeBatch) -> None:
        try:
            self.apply(batch)
        except Exception:
            logger.exception("what another server wrote could not be taken over")

    async def _read(self, read: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.wait_for(run_in_daemon_thread(lambda: read(*arguments)), READ_TIMEOUT)
        except (StoreError, TimeoutError) as error:
            logger.warning("the database cannot be read: %s", error)
            raise ProblemError("unavailable", "the database does not answer at the moment", retry_after=5) from error
