"""Messages to the browsers that follow an item, a run or a group. Pure: the clock is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from progressbar_tracker.server.models import Item, Notice, PushSubscription
from progressbar_tracker.server.mutations import AddNotice

from .events import make_notice_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.serializer import ItemSerializer
    from progressbar_tracker.server.models import PushEvent

FOLLOWED_EVENTS: Final[dict[PushEvent, frozenset[str]]] = {
    "end": frozenset({"succeeded", "failed", "stopped"}),
    "failure": frozenset({"failed"}),
    "stuck": frozenset({"stuck", "stalled"}),
}
"""The events of an item for which each event of a subscription stands."""

CATCH_UP_SECONDS: Final = 600.0
"""Age of an end from which it is not reported any more to a subscription that this server has just learned of."""

CATCH_UP_TOLERANCE: Final = 5.0
"""Seconds by which a reported end may precede the subscription: a run may end while its reader subscribes."""


class Followers(Protocol):
    """The push subscriptions; see :class:`~.access.subscriptions.Subscriptions`."""

    def __len__(self) -> int: ...

    def find(self, item: Item, /) -> list[PushSubscription]:
        """Return the subscriptions that follow the run of an item, oldest first."""

    def get(self, subscription_id: str, /) -> PushSubscription | None:
        """Return a subscription by its id."""

    def all(self) -> list[PushSubscription]:
        """Return all subscriptions."""

    def drain_added(self) -> list[PushSubscription]:
        """Return the subscriptions that were added since the last call."""


def build_push_notices(
    followers: Sequence[PushSubscription],
    serializer: ItemSerializer,
    item: Item,
    events: Iterable[tuple[str, str]],
    now: float,
) -> list[AddNotice]:
    """Return the outbox writes for subscriptions to the run of an item. A browser gets each event once.

    Args:
        followers: The subscriptions.
        serializer: Serializes the item into the message.
        item: The item of the events.
        events: Events, each with a deduplication key within the run.
        now: The current instant.
    """
    writes, body = list[AddNotice](), ""
    for event, key in events:
        notified = set[tuple[str, str]]()
        for subscription in followers:
            browser = (subscription.holder, subscription.endpoint)
            if browser in notified or not any(event in FOLLOWED_EVENTS[name] for name in subscription.events):
                continue
            notified.add(browser)
            body = body or serializer.encode_item(item, now).decode()
            channel = subscription.channel
            notice = Notice(
                notice_id=make_notice_id(channel, item.id, item.run_id, event, key), channel=channel, item_id=item.id,
                run_id=item.run_id, event=event, at=now, body=body, next_at=now,
            )  # fmt: skip
            writes.append(AddNotice(notice))
    return writes


def find_missed_ends(
    added: Iterable[PushSubscription], followers: Followers, board: Board, now: float
) -> list[tuple[Item, list[PushSubscription]]]:
    """Return the ended items that may not have been reported to subscriptions, each with these subscriptions.

    Another server may have ended a run before it knew of a subscription that was acknowledged. The id of a notice
    depends on the event only, so an end that was reported already is not reported again.

    Args:
        added: Subscriptions that this server has just learned of.
        followers: All subscriptions.
        board: All items.
        now: The current instant.
    """
    items, groups = dict[str, Item](), set[str]()
    for subscription in added:
        item = None if subscription.item is None else board.get(subscription.item)
        if item is not None:
            items[item.id] = item
        elif subscription.group is not None:
            groups.add(subscription.group)
    if groups:
        items |= {item.id: item for item in board.snapshot() if item.group in groups}
    missed = [(item, [one for one in followers.find(item) if _is_missed(one, item, now)]) for item in items.values()]
    return [(item, found) for item, found in missed if found]


def _is_missed(subscription: PushSubscription, item: Item, now: float) -> bool:
    return item.ended_at is not None and item.ended_at >= max(
        subscription.created_at - CATCH_UP_TOLERANCE, now - CATCH_UP_SECONDS
    )
