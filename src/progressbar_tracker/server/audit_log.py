"""Log changes of items, keys, sessions and shares: one line for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import logs
from .mutations import DropSession, DropShare, SaveSession, SaveShare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .items.change import Change
    from .models import KeyRecord
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


def log_key_event(event: str, record: KeyRecord) -> None:
    """Log that a key was created, rotated or revoked."""
    logs.log_event(event, key_id=record.key_id, name=record.name, type=record.type)


def log_credential_writes(writes: Sequence[Write]) -> None:
    """Log the sessions and shares that begin or end with some mutations."""
    for write in writes:
        match write:
            case SaveSession(session):
                logs.log_event("session started", session_id=session.session_id, key_id=session.key_id)
            case DropSession(hash_):
                logs.log_event("session ended", session_id=hash_[:16])
            case SaveShare(share):
                logs.log_event("share created", share_id=share.share_id, item=share.item, group=share.group)
            case DropShare(share_id):
                logs.log_event("share ended", share_id=share_id)
