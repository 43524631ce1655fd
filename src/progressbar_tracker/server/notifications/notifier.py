"""Turn changes of the board into messages for the outbox."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from .channels import Channels
from .dispatcher import OutboxDispatcher
from .events import OverdueWatch, build_missed_notices, build_notices, find_change_events, find_condition_event
from .followers import build_push_notices, find_missed_ends
from .run_follower import RunFollower
from .web_push import WebPush

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.change import Change
    from progressbar_tracker.server.items.conditions import Condition
    from progressbar_tracker.server.items.serializer import ItemSerializer
    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.mutations import AddNotice
    from progressbar_tracker.server.schedules.monitor import MissedStart
    from progressbar_tracker.server.stores.base import Store

    from .followers import Followers
    from .web_push import HolderCheck
    from .webhooks import Webhooks

logger = logging.getLogger("progressbar_tracker.server.notifications.channels")

MAX_UNKNOWN_NAMES: Final = 1000
"""Unknown channel names to remember, so that each is logged once."""


class Notifier:
    """The notifications of one server.

    Args:
        path: The file of the channels; ``None`` for none.
        store: The store with the outbox.
        serializer: Serializes items into messages.
        subscriptions: The push subscriptions.
        get_holders: Returns what knows whether the holders of push subscriptions may read.
        end_subscription: Is called with the id and the endpoint of a push subscription that its push service has ended,
            from any thread.
        push_origins: Push services that may be in a private network.
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
        serializer: ItemSerializer,
        *,
        subscriptions: Followers,
        get_holders: Callable[[], HolderCheck],
        end_subscription: Callable[[str, str | None], object],
        push_origins: frozenset[str] = frozenset(),
        public_url: str = "",
        is_leader: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.channels = Channels(path)
        self._subscriptions = subscriptions

        def make_web_push(webhooks: Webhooks) -> WebPush:
            return WebPush(
                webhooks, subscriptions, get_holders, on_gone=end_subscription, public_url=public_url,
                private_origins=push_origins, clock=clock,
            )  # fmt: skip

        self.dispatcher = OutboxDispatcher(
            store, self.channels, public_url=public_url, is_leader=is_leader, clock=clock, web_push=make_web_push
        )
        self.run_follower = RunFollower(self.channels, self.dispatcher.kept, serializer)
        self._store = store
        self._serializer = serializer
        self._is_leader = is_leader
        self._clock = clock
        self._watch = OverdueWatch(clock(), serializer.conditions)
        self._unknown: set[str] = set()
        self._was_leader = False

    def notices_for(self, changes: Iterable[Change]) -> list[AddNotice]:
        """Return the outbox writes to commit together with changes of the board."""
        channels = self.channels
        writes: list[AddNotice] = []
        for change in changes:
            after = change.after
            if after is None:
                continue
            if len(self._subscriptions):
                writes += self._build_end_pushes(change.before, after)
            if after.notify:
                if change.durable:
                    self._warn_unknown_channels(after)
            elif not channels.has_wildcard:
                continue
            events = find_change_events(change.before, after, channels.percents)
            if events:
                writes += build_notices(
                    channels, self._serializer, after, [(event, "") for event in events], self._clock()
                )
        return writes

    def item_changed(self, before: Item | None, after: Item) -> None:
        """Report what other servers may not know, if this server is the leader.

        These are percentages that the progress of several servers crosses together, and the end of a run that another
        server stored before it learned of a subscription.
        """
        channels = self.channels
        if len(self._subscriptions) and after.status != "running" and self._is_leader():
            pushes = self._build_end_pushes(before, after)
            if pushes:
                self._store.enqueue(pushes)
        if (
            channels.percents
            and (after.notify or channels.has_wildcard)
            and after.status == "running"
            and self._is_leader()
        ):
            events = find_change_events(before, after, channels.percents)
            if events:
                self._store.enqueue(
                    build_notices(channels, self._serializer, after, [(event, "") for event in events], self._clock())
                )

    def refresh(self) -> None:
        """Reload the channels if their file has changed."""
        if self.channels.refresh():
            self._unknown.clear()
            self.dispatcher.start()

    def find_unknown_channels(self, names: Iterable[str]) -> list[str]:
        """Return the names that are of no channel. The file may have been changed a moment ago, so it is checked."""
        unknown = [name for name in names if self.channels.get(name) is None]
        if unknown:
            self.refresh()
        return [name for name in unknown if self.channels.get(name) is None]

    def sweep(self, board: Board, overdue_ids: Iterable[str], now: float) -> None:
        """Reload changed channels, and report stalled and late items.

        Args:
            board: All items.
            overdue_ids: Items that have just become stalled or late.
            now: The current instant.
        """
        self.refresh()
        self._catch_up(board, now)
        if not self._has_receivers:
            return
        if self._store.commit_stats.is_failing:
            self._watch.pause(now)
        writes = self.run_follower.sweep(board, now, is_leader=self._is_leader())
        for item, events in self._watch.poll(overdue_ids, board.get, board.snapshot, now, is_leader=self._is_leader()):
            writes += self._build_all(item, events, now)
        if writes:
            self._store.enqueue(writes)

    def report_conditions(self, found: Iterable[tuple[Item, Condition]], now: float) -> None:
        """Report items that have become stuck or slower.

        Args:
            found: The items, each with its condition.
            now: The current instant.
        """
        if not self._has_receivers:
            return
        writes: list[AddNotice] = []
        for item, condition in found:
            event = find_condition_event(item, condition, now, self._serializer.conditions)
            if event is not None:
                writes += self._build_all(item, [event], now)
        if writes:
            self._store.enqueue(writes)

    @property
    def _has_receivers(self) -> bool:
        return self.channels.has_channels or len(self._subscriptions) > 0

    def _build_all(self, item: Item, events: list[tuple[str, str]], now: float) -> list[AddNotice]:
        writes = build_notices(self.channels, self._serializer, item, events, now)
        if len(self._subscriptions):
            writes += build_push_notices(self._subscriptions.find(item), self._serializer, item, events, now)
        return writes

    def _build_end_pushes(self, before: Item | None, after: Item) -> list[AddNotice]:
        followers = self._subscriptions.find(after) if after.status != "running" else ()
        if not followers:
            return []
        events = [(event, "") for event in find_change_events(before, after, ())]
        return build_push_notices(followers, self._serializer, after, events, self._clock())

    def _catch_up(self, board: Board, now: float) -> None:
        """Report ends to new subscriptions, and to all of them when this server becomes the leader."""
        is_leader = self._is_leader()
        added = self._subscriptions.drain_added()
        if is_leader and not self._was_leader:
            added = self._subscriptions.all()
        self._was_leader = is_leader
        if added:
            self.dispatcher.start()
        if not added or not is_leader:
            return
        writes: list[AddNotice] = []
        for item, followers in find_missed_ends(added, self._subscriptions, board, now):
            writes += build_push_notices(followers, self._serializer, item, [(item.status, "")], now)
        if writes:
            self._store.enqueue(writes)

    def build_missed(
        self, missed: Iterable[MissedStart], get_item: Callable[[str], Item | None], now: float
    ) -> list[AddNotice]:
        """Return the outbox writes for expected starts that were missed.

        Args:
            missed: The starts.
            get_item: Returns the item of an id.
            now: The current instant.
        """
        if not self.channels.has_channels:
            return []
        return [
            write
            for schedule, expected_at in missed
            for write in build_missed_notices(self.channels, schedule, get_item(schedule.id), expected_at, now)
        ]

    def _warn_unknown_channels(self, item: Item) -> None:
        for name in item.notify:
            if self.channels.get(name) is None and name not in self._unknown and len(self._unknown) < MAX_UNKNOWN_NAMES:
                self._unknown.add(name)
                logger.warning("the item %r names the channel %r, which does not exist", item.id, name)
