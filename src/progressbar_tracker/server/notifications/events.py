"""What is to be told, and to whom: pure, for who asks passes the clock.

A notice's id follows from channel, run and event, so two servers that see the same thing make one notice of it. Ends
and percentages are seen where an item changes, and are written with the change. Silence and lateness come about by
nobody writing, and are looked for by the server that leads: not before it has listened itself for as long, or all that
could not reach a server that was away would be told as silent when it comes back.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from progressbar_tracker._models import is_complete
from progressbar_tracker.server.items.serializer import is_late, is_stalled, serialize_item
from progressbar_tracker.server.models import Notice
from progressbar_tracker.server.mutations import AddNotice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.models import Item

    from .channels import Channels

OVERDUE_NOTICE_MAX_AGE: Final = 6 * 86400.0
"""Seconds after which nobody needs to hear any more that an item fell silent or became late.

Less than for how long the outbox remembers that it was told.
"""

_encode = msgspec.json.Encoder().encode


def events_of_change(before: Item | None, after: Item | None, percents: Sequence[int]) -> list[str]:
    """Return the events that a change of an item is: its end, or percentages that it has crossed.

    A run that begins beyond a percentage has not crossed it, and of one that ends only the end is news.

    Args:
        before: The item as it was; ``None`` if there was none.
        after: The item as it is; ``None`` if it is gone.
        percents: The percentages of interest, in rising order.
    """
    if after is None:
        return []
    same = before is not None and before.run_id == after.run_id
    if after.status != "running":
        return [] if same and before is not None and before.status == after.status else [after.status]
    if not percents or not same or before is None or not before.value < after.value:
        return []
    return [f"{percent}%" for percent in percents if _has_reached(after, percent) and not _has_reached(before, percent)]


def _has_reached(item: Item, percent: int) -> bool:
    if item.completed is None or item.total is None:
        return is_complete(item.value * 100, percent)
    return item.total > 0 and is_complete(item.completed * 100, item.total * percent)


def overdue_events(item: Item, now: float, since: float) -> tuple[list[tuple[str, str]], float | None]:
    """Return what an item is by nobody's doing, each with what tells it from the same thing at another time.

    Args:
        item: The item.
        now: The instant.
        since: Since when this server has listened.

    Returns:
        The events, and when to look again.
    """
    found, again = list[tuple[str, str]](), None
    if is_late(item, now) and item.deadline_at is not None and now - item.deadline_at < OVERDUE_NOTICE_MAX_AGE:
        found.append(("late", ""))
    if is_stalled(item, now) and item.heartbeat_timeout is not None:
        due = item.updated_at + item.heartbeat_timeout
        sure = max(due, since + item.heartbeat_timeout)
        if now < sure:
            again = sure
        elif now - due < OVERDUE_NOTICE_MAX_AGE:
            found.append(("stalled", f"{item.updated_at:.3f}"))
    return found, again


def build_notices(channels: Channels, item: Item, events: Iterable[tuple[str, str]], now: float) -> list[AddNotice]:
    """Return what is to be put into the outbox.

    Args:
        channels: All channels.
        item: What it is about.
        events: What has happened, each with what tells it from the same thing at another time of the same run.
        now: The instant.
    """
    if not item.notify and not channels.has_wildcard:
        return []
    writes = list[AddNotice]()
    body = ""
    for channel in channels.all():
        if not channel.accepts(item):
            continue
        for event, mark in events:
            if event in channel.on or (event.endswith("%") and int(event[:-1]) in channel.percents):
                body = body or _encode(serialize_item(item, now)).decode()
                notice_id = make_notice_id(channel.name, item.id, item.run_id, event, mark)
                notice = Notice(
                    notice_id=notice_id, channel=channel.name, item_id=item.id, run_id=item.run_id, event=event,
                    at=now, body=body, next_at=now,
                )  # fmt: skip
                writes.append(AddNotice(notice))
    return writes


def make_notice_id(*parts: str) -> str:
    """Return the id of what is told by these parts, none of which can hold the character that joins them."""
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


class OverdueWatch:
    """Looks for silence and lateness.

    Args:
        now: Since when this server listens.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._recheck_at: dict[str, float] = {}
        self._was_leader = False

    def pause(self, now: float) -> None:
        """Note that until now nobody could be heard."""
        self._since = now

    def poll(
        self,
        overdue_ids: Iterable[str],
        get: Callable[[str], Item | None],
        all_items: Callable[[], Iterable[Item]],
        now: float,
        *,
        is_leader: bool,
    ) -> list[tuple[Item, list[tuple[str, str]]]]:
        """Return the items of which there is something to tell.

        Args:
            overdue_ids: The ids of those that have fallen silent or become late just now.
            get: Returns an item.
            all_items: Returns all items; for who begins to lead.
            now: The instant.
            is_leader: Whether it is for this server to tell.
        """
        if not is_leader:
            self._was_leader = False
            self._recheck_at.clear()
            return []
        looked = {item_id for item_id, at in self._recheck_at.items() if at <= now}.union(overdue_ids)
        if not self._was_leader:
            self._was_leader = True
            looked.update(item.id for item in all_items() if is_stalled(item, now) or is_late(item, now))
        found = []
        for item_id in sorted(looked):
            self._recheck_at.pop(item_id, None)
            item = get(item_id)
            if item is None:
                continue
            events, again = overdue_events(item, now, self._since)
            if again is not None:
                self._recheck_at[item_id] = again
            if events:
                found.append((item, events))
        return found
