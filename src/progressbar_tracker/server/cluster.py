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
from .items.merge import fits, merged
from .models import Item
from .problems import ProblemError
from .stores.base import OutdatedError, Row, Seen, StoreError
from .threads import aside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from .items.board import Change
    from .models import Sampled
    from .stores.base import Credentials, SharedStore

logger = logging.getLogger("progressbar_tracker.server")

T = TypeVar("T")

TRIES: Final = 10
"""How often a request is judged anew: each time another server was faster."""

WAIT: Final = 15.0
"""Seconds that a request waits for a database that is there and does not answer."""

DOUBTFUL: Final = frozenset({"item-not-found", "item-exists", "other-run", "ended", "forbidden"})
"""The refusals that rest on what a board remembers."""


def _nothing(*_: object) -> None:
    """Do nothing: nobody follows yet."""


class Judged(NamedTuple):
    """What a board made of a request.

    Attributes:
        changes: What it changed.
        refused: The problems, with the ids that they are about.
    """

    changes: Sequence[Change]
    refused: Sequence[tuple[str, ProblemError]] = ()


class Replica:
    """Keeps a board in step.

    Args:
        store: The store that is shared.
        board: What is kept in step.

    Attributes:
        stored: The board of what is stored.
        rev: All that was written up to this revision of the database is on the board.
    """

    def __init__(self, store: SharedStore, board: Board) -> None:
        self._store = store
        self._board = board
        self._changed: Callable[[], object] = _nothing
        self._take_credentials: Callable[[Credentials], object] = _nothing
        self._take_samples: Callable[[Sequence[Sampled]], object] = _nothing
        self._moved: Callable[[Item | None, Item], object] = _nothing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking = asyncio.Lock()
        self._looks = 0
        self.stored = Board(max_items=sys.maxsize, new_run_id=str, items=board.all())
        self.rev = store.rev

    @property
    def leading(self) -> bool:
        """Whether this server is the one that sees to what happens by itself."""
        return self._store.leading

    def stamp(self) -> int:
        """Return :attr:`rev`."""
        return self.rev

    def follow(
        self,
        *,
        changed: Callable[[], object],
        take_credentials: Callable[[Credentials], object],
        take_samples: Callable[[Sequence[Sampled]], object],
        moved: Callable[[Item | None, Item], object] = _nothing,
    ) -> None:
        """Follow the database from now on, in the loop that runs.

        Args:
            changed: Told when there is something new to tell viewers.
            take_credentials: Given who may do what, whenever anyone changes it; older news may come after newer.
            take_samples: Given what was sampled so far, when this server begins to lead.
            moved: Given each item that is stored anew, as it was and as it is.
        """
        self._changed = changed
        self._take_credentials = take_credentials
        self._take_samples = take_samples
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._store.follow(self._tell)

    def take(self, seen: Seen) -> None:
        """Take over what was seen in the database."""
        rows = seen.rows
        if seen.whole:
            there = {item.id for board in (self._board, self.stored) for item in board.all()}
            rows = dict.fromkeys(there - rows.keys(), Row(seen.rev or 0, None)) | dict(rows)
        for item_id, row in rows.items():
            self._adopt(item_id, row)
            if not seen.aside:
                if row.item is not None:
                    self._moved(self.stored.get(item_id), row.item)
                self.stored.adopt(item_id, row.item)
        self.stored.touched()  # which is for who takes samples, of the other board
        if seen.ended:
            self.stored.tell_ended(seen.ended)
        if seen.rev is not None:
            self.rev = seen.rev
            self._store.told(seen.rev)
        if seen.credentials is not None:
            self._take_credentials(seen.credentials)
        if seen.sampled is not None:
            self._take_samples(seen.sampled)
        if (rows and not seen.aside) or seen.ended:
            self._changed()

    async def fetch(self, ids: Iterable[str]) -> None:
        """Take over what is stored under ids now.

        Raises:
            ProblemError: ``unavailable``.
        """
        self.take(Seen(await self._read(self._store.read, list(ids)), aside=True))

    async def look(self) -> None:
        """Take over who may do what now. All who ask while a look is under way share the next one.

        Raises:
            ProblemError: ``unavailable``.
        """
        looks = self._looks
        async with self._looking:
            if self._looks == looks:  # or one has begun since, and that is soon enough
                self._looks += 1
                self.take(Seen(credentials=await self._read(self._store.credentials)))

    async def carry_out(
        self,
        judge: Callable[[], Judged],
        settle: Callable[[Sequence[Change]], Awaitable[None]],
        reauthorize: Callable[[], object],
    ) -> Judged:
        """Have a request judged until what came of it is true for all servers.

        Args:
            judge: Judges the request by the board as it is; may be called again after its changes were undone.
            settle: Keeps changes; undoes them if that fails.
            reauthorize: Called before ``judge`` is called again: the credential may have ended in the meantime.

        Returns:
            What came of it.

        Raises:
            ProblemError: ``unavailable``.
        """
        sure: set[str] = set()
        for attempt in range(TRIES):
            if attempt:
                reauthorize()
            judged = judge()
            doubtful = {
                item_id for item_id, problem in judged.refused if problem.code in DOUBTFUL and item_id not in sure
            }
            if doubtful:
                self.undo(judged.changes)
                await self.fetch(doubtful)
                sure |= doubtful
                continue
            try:
                await settle(judged.changes)
            except OutdatedError as outdated:
                self.take(Seen(outdated.rows, aside=True))
                sure.clear()
                continue
            return judged
        raise ProblemError("unavailable", "other servers write the same items all the time", retry_after=1)

    def undo(self, changes: Sequence[Change]) -> None:
        """Undo changes that were not kept."""
        for change in reversed(changes):
            self._board.restore(change)

    def _adopt(self, item_id: str, row: Row) -> None:
        waiting = self._store.waiting(item_id, row.rev)
        if waiting is True:
            return
        item = row.item
        if isinstance(waiting, Item) and item is not None:
            ours = self._board.get(item_id)
            if ours is not None and fits(ours, item):
                item = merged(waiting, ours, item)
        self._board.adopt(item_id, item)

    def _tell(self, seen: Seen) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_safely, seen)

    def _take_safely(self, seen: Seen) -> None:
        try:
            self.take(seen)
        except Exception:
            logger.exception("what another server wrote could not be taken over")

    async def _read(self, read: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.wait_for(aside(lambda: read(*arguments)), WAIT)
        except (StoreError, TimeoutError) as error:
            logger.warning("the database cannot be read: %s", error)
            raise ProblemError("unavailable", "the database does not answer at the moment", retry_after=5) from error
