"""Turn changes of the board into messages for the outbox."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from .channels import Channels
from .dispatcher import OutboxDispatcher
from .events import OverdueWatch, build_notices, find_change_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.change import Change
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.mutations import AddNotice
    from progressbar_tracker.server.stores.base import Store

logger = logging.getLogger("progressbar_tracker.server.notifications.channels")

MAX_UNKNOWN_NAMES: Final = 1000
"""Unknown channel names to remember, so that each is logged once."""


class Notifier:
    """The notifications of one server.

    Args:
        path: The file of the channels; ``None`` for none.
        store: The store with the outbox.
        public_url: Base URL for links; ``""`` if unknown.
        is_leader: Whether this server runs background maintenance.
        clock: Seconds since the epoch.

    Raises:
        ConfigError: The file is invalid.

    Attributes:
        dispatcher: Delivers the messages and counts the results.
    """

    def __init__(
        self,
        path: Path | None,
        store: Store,
        *,
        public_url: str = "",
        is_leader: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.channels = Channels(path)
        self.dispatcher = OutboxDispatcher(
            store, self.channels, public_url=public_url, is_leader=is_leader, clock=clock
        )
        self._store = store
        self._is_leader = is_leader
        self._clock = clock
        self._watch = OverdueWatch(clock())
        self._unknown: set[str] = set()

    def notices_for(self, changes: Iterable[Change]) -> list[AddNotice]:
        """Return the outbox writes to commit together with changes of the board."""
        channels = self.channels
        writes: list[AddNotice] = []
        for change in changes:
            after = change.after
            if after is None:
                continue
            if after.notify:
                if change.durable:
                    self._warn_unknown_channels(after)
            elif not channels.has_wildcard:
                continue
            events = find_change_events(change.before, after, channels.percents)
            if events:
                writes += build_notices(channels, after, [(event, "") for event in events], self._clock())
        return writes

    def item_changed(self, before: Item | None, after: Item) -> None:
        """Report percentages that the progress of several servers crosses together, if this server is the leader."""
        channels = self.channels
        if (
            channels.percents
            and (after.notify or channels.has_wildcard)
            and after.status == "running"
            and self._is_leader()
        ):
            events = find_change_events(before, after, channels.percents)
            if events:
                self._store.enqueue(build_notices(channels, after, [(event, "") for event in events], self._clock()))

    def refresh(self) -> None:
        """Reload the channels if their file has changed."""
        if self.channels.refresh():
            self._unknown.clear()
            self.dispatcher.start()

    def sweep(self, board: Board, overdue_ids: Iterable[str], now: float) -> None:
        """Reload changed channels, and report stalled and late items.

        Args:
            board: All items.
            overdue_ids: Items that have just become stalled or late.
            now: The current instant.
        """
        self.refresh()
        if not self.channels.has_channels:
            return
        if self._store.commit_stats.is_failing:
            self._watch.pause(now)
        writes: list[AddNotice] = []
        for item, events in self._watch.poll(overdue_ids, board.get, board.snapshot, now, is_leader=self._is_leader()):
            writes += build_notices(self.channels, item, events, now)
        if writes:
            self._store.enqueue(writes)

    def _warn_unknown_channels(self, item: Item) -> None:
        for name in item.notify:
            if self.channels.get(name) is None and name not in self._unknown and len(self._unknown) < MAX_UNKNOWN_NAMES:
                self._unknown.add(name)
                logger.warning("the item %r names the channel %r, which does not exist", item.id, name)
