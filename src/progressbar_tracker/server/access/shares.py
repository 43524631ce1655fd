"""Shares: links that show a group or an item without a key."""

from __future__ import annotations

from typing import Final

from progressbar_tracker._models import MAX_GROUP_LENGTH, FieldError, check_id, check_text
from progressbar_tracker.server.models import ShareRecord

from .tokens import check_expiry, new_token

MAX_SHARES: Final = 1000
"""The most shares."""


def new_share(
    now: float, *, group: object = None, item: object = None, expires_at: float | None = None
) -> tuple[ShareRecord, str]:
    """Create a share of either a group or an item.

    Args:
        now: The current instant.
        group: The name of a group.
        item: The id of an item; it need not exist yet.
        expires_at: The instant at which the share expires, or ``None``.

    Returns:
        The record of the share, and its token.

    Raises:
        FieldError: A field breaks a rule.
    """
    if (group is None) is (item is None):
        raise FieldError("item", "a share is of either an item or a group: name one of the two")
    token = new_token()
    record = ShareRecord(
        share_id=token.id,
        hash=token.hash,
        created_at=now,
        group=None if group is None else check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
        item=None if item is None else check_id(item, "item"),
        expires_at=check_expiry(expires_at, now),
    )
    return record, token.token
