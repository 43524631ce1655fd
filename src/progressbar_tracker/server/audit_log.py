"""Log changes of items, schedules, keys, sessions and shares: one line for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import logs
from .mutations import (
    DropPingToken,
    DropSession,
    DropShare,
    DropSubscription,
    SavePingToken,
    SaveSession,
    SaveShare,
    SaveSubscription,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .items.change import Change
    from .models import KeyRecord, ScheduleRecord
    from .mutations import Write


def log_item_changes(changes: Sequence[Change]) -> None:
    """Log the changes that have an event; an update of progress has none."""
    if not logs.are_events_logged():
        return
    for change in changes:
        item = change.after or change.before
        if change.event is not None and item is not None:
            status = item.status if change.ended_run is None or change.after is not None else change.ended_run.status
            logs.log_event(change.event, item=item.id, run_id=item.run_id, status=status, key_id=item.owner_id)


def log_stop_request(item_id: str, run_id: str | None, requested_by: str, key_id: str, outcome: str) -> None:
    """Log a request to stop a run.

    Args:
        item_id: The item.
        run_id: The run; ``None`` for the current one of an unknown item.
        requested_by: The name of the key or the operator.
        key_id: Its id.
        outcome: ``accepted``, or the code of the problem.
    """
    logs.log_event(
        "stop requested", item=item_id, run_id=run_id, requested_by=requested_by, key_id=key_id, outcome=outcome
    )


def log_schedule(event: str, schedule: ScheduleRecord, key_id: str) -> None:
    """Log that a schedule was set or deleted, with the id of the key."""
    logs.log_event(
        event, item=schedule.id, cron=schedule.cron, every=schedule.every, timezone=schedule.timezone, key_id=key_id
    )


def log_key_event(event: str, record: KeyRecord) -> None:
    """Log that a key was created, rotated or revoked."""
    logs.log_event(event, key_id=record.key_id, name=record.name, type=record.type)


def log_credential_writes(writes: Sequence[Write]) -> None:
    """Log the sessions, shares and subscriptions that begin or end with some mutations."""
    for write in writes:
        match write:
            case SaveSession(session):
                logs.log_event("session started", session_id=session.session_id, key_id=session.key_id)
            case DropSession(hash_):
                logs.log_event("session ended", session_id=hash_[:16])
            case SaveShare(share):
                logs.log_event("share created", share_id=share.share_id, item=share.item, group=share.group)
            case SavePingToken(token):
                logs.log_event("ping token created", token_id=token.token_id, name=token.name, group=token.group)
            case DropPingToken(token_id):
                logs.log_event("ping token ended", token_id=token_id)
            case DropShare(share_id):
                logs.log_event("share ended", share_id=share_id)
            case SaveSubscription(subscription):
                logs.log_event(
                    "subscription created", subscription_id=subscription.subscription_id, item=subscription.item,
                    group=subscription.group, key_id=subscription.owner_id,
                )  # fmt: skip
            case DropSubscription(subscription_id, _):
                logs.log_event("subscription ended", subscription_id=subscription_id)
