"""Derive events from items, and notices for channels from events. Pure: the clock is an argument.

The id of a notice is a hash of channel, run and event, so two servers that see the same event create one notice. Ends
and percentages are found when an item changes, and are written with the change. The other conditions change without a
write, so the leader polls for them. It reports a stalled item only after it has listened for the item's heartbeat
timeout: runs cannot reach a server during its own outage.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from progressbar_tracker._models import is_complete
from progressbar_tracker.server.models import Notice, optional_rfc3339, rfc3339
from progressbar_tracker.server.mutations import AddNotice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.items.conditions import Condition, Conditions
    from progressbar_tracker.server.items.serializer import ItemSerializer
    from progressbar_tracker.server.models import Item, ScheduleRecord

    from .channels import Channels

MISSED_EVENT: Final = "missed"
"""The event of a schedule whose item has not started in time."""

OVERDUE_NOTICE_MAX_AGE: Final = 6 * 86400.0
"""Seconds after which a stalled, late or stuck event is no longer reported: fewer than the outbox keeps messages."""

_encode = msgspec.json.Encoder().encode


def find_change_events(before: Item | None, after: Item | None, percents: Sequence[int]) -> list[str]:
    """Return the events of a change: the end of the run, or the percentages that it crossed.

    A run that starts beyond a percentage does not cross it. A run that ends reports only its end.

    Args:
        before: The item before the change; ``None`` for a new item.
        after: The item after the change; ``None`` for a deleted item.
        percents: Subscribed percentages, in rising order.
    """
    if after is None:
        return []
    is_same_run = before is not None and before.run_id == after.run_id
    if after.status != "running":
        return [] if is_same_run and before is not None and before.status == after.status else [after.status]
    if not percents or not is_same_run or before is None or not before.value < after.value:
        return []
    return [f"{percent}%" for percent in percents if _has_reached(after, percent) and not _has_reached(before, percent)]


def _has_reached(item: Item, percent: int) -> bool:
    if item.completed is None or item.total is None:
        return is_complete(item.value * 100, percent)
    return item.total > 0 and is_complete(item.completed * 100, item.total * percent)


def find_overdue_events(
    item: Item, now: float, since: float, conditions: Conditions
) -> tuple[list[tuple[str, str]], float | None]:
    """Return time-based events, each with a deduplication key.

    Args:
        item: The item.
        now: The current instant.
        since: The instant since which this server listens.
        conditions: Decides whether the item is stalled or late.

    Returns:
        The events, and the instant of the next check.
    """
    events, recheck_at = list[tuple[str, str]](), None
    if (
        conditions.is_late(item, now)
        and item.deadline_at is not None
        and now - item.deadline_at < OVERDUE_NOTICE_MAX_AGE
    ):
        events.append(("late", ""))
    limit = conditions.silence_limit(item)
    if limit is not None and conditions.is_stalled(item, now):
        due_at = item.updated_at + limit
        certain_at = max(due_at, since + limit)
        if now < certain_at:
            recheck_at = certain_at
        elif now - due_at < OVERDUE_NOTICE_MAX_AGE:
            events.append(("stalled", f"{item.updated_at:.3f}"))
    return events, recheck_at


def find_condition_event(
    item: Item, condition: Condition, now: float, conditions: Conditions
) -> tuple[str, str] | None:
    """Return the event of an item that is stuck or slower, with its deduplication key; ``None`` if it is too old.

    A stuck item has an event for each silence, and a slower one for each run.
    """
    if condition != "stuck":
        return condition, ""
    stuck_at = conditions.find_stuck_instant(item)
    if stuck_at is None or now - stuck_at >= OVERDUE_NOTICE_MAX_AGE:
        return None
    return "stuck", f"{conditions.find_progress_instant(item):.3f}"


def build_notices(
    channels: Channels, serializer: ItemSerializer, item: Item, events: Iterable[tuple[str, str]], now: float
) -> list[AddNotice]:
    """Return the outbox writes for the channels that subscribe to the events.

    Args:
        channels: All channels.
        serializer: Serializes the item into the message.
        item: The item of the events.
        events: Events, each with a deduplication key within the run.
        now: The current instant.
    """
    if not item.notify and not channels.has_wildcard:
        return []
    writes = list[AddNotice]()
    body = ""
    for channel in channels.all():
        if not channel.accepts(item):
            continue
        for event, key in events:
            if channel.wants(event):
                body = body or serializer.encode_item(item, now).decode()
                notice_id = make_notice_id(channel.name, item.id, item.run_id, event, key)
                notice = Notice(
                    notice_id=notice_id, channel=channel.name, item_id=item.id, run_id=item.run_id, event=event,
                    at=now, body=body, next_at=now,
                )  # fmt: skip
                writes.append(AddNotice(notice))
    return writes


def build_missed_notices(
    channels: Channels, schedule: ScheduleRecord, item: Item | None, expected_at: float, now: float
) -> list[AddNotice]:
    """Return the outbox writes for an expected start that was missed.

    The id of a notice does not depend on the item, so a decision that is made twice has one message.

    Args:
        channels: All channels.
        schedule: The schedule.
        item: The item with the latest run, if it is still listed.
        expected_at: The expected start.
        now: The current instant.
    """
    names = {*schedule.notify, *(() if item is None else item.notify)}
    group = schedule.group if item is None else item.group
    body = _encode({
        "id": schedule.id,
        "title": "" if item is None else item.title,
        "group": group,
        "owner": schedule.owner,
        "cron": schedule.cron,
        "every": schedule.every,
        "timezone": schedule.timezone,
        "grace": schedule.grace,
        "expected_at": rfc3339(expected_at),
        "started_at": optional_rfc3339(schedule.started_at or None),
    }).decode()  # fmt: skip
    return [
        AddNotice(
            Notice(
                notice_id=make_notice_id(channel.name, schedule.id, "", MISSED_EVENT, f"{expected_at:.0f}"),
                channel=channel.name, item_id=schedule.id, run_id="", event=MISSED_EVENT, at=now, body=body,
                next_at=now,
            )
        )
        for channel in channels.all()
        if MISSED_EVENT in channel.on and channel.accepts_names(names, group)
    ]  # fmt: skip


def make_notice_id(*parts: str) -> str:
    """Return a stable id. The parts are joined by NUL, which none of them can contain."""
    return f"msg_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


class OverdueWatch:
    """Finds stalled and late items.

    Args:
        now: The instant since which this server listens.
        conditions: Decides whether items are stalled or late.
    """

    def __init__(self, now: float, conditions: Conditions) -> None:
        self._conditions = conditions
        self._since = now
        self._recheck_at: dict[str, float] = {}
        self._was_leader = False

    def pause(self, now: float) -> None:
        """Restart the listening period: the server accepted no writes until now."""
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
        """Return items with their time-based events.

        Args:
            overdue_ids: Items that have just become stalled or late.
            get: Returns an item by its id.
            all_items: Returns all items; called when this server becomes the leader.
            now: The current instant.
            is_leader: Whether this server is the leader; no other server reports these events.
        """
        if not is_leader:
            self._was_leader = False
            self._recheck_at.clear()
            return []
        conditions = self._conditions
        due_ids = {item_id for item_id, at in self._recheck_at.items() if at <= now}.union(overdue_ids)
        if not self._was_leader:
            self._was_leader = True
            due_ids.update(
                item.id for item in all_items() if conditions.is_stalled(item, now) or conditions.is_late(item, now)
            )
        result = []
        for item_id in sorted(due_ids):
            self._recheck_at.pop(item_id, None)
            item = get(item_id)
            if item is None:
                continue
            events, recheck_at = find_overdue_events(item, now, self._since, conditions)
            if recheck_at is not None:
                self._recheck_at[item_id] = recheck_at
            if events:
                result.append((item, events))
        return result
