"""Shares: links that show a group or an item without a key.

The link contains the token, and only its hash is stored. So a share can be revoked and can expire, but its link cannot
be shown again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import MAX_GROUP_LENGTH, FieldError, check_id, check_text
from progressbar_tracker.server.models import ShareRecord, digest

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_SHARES: Final = 1000
"""The most shares."""


class NewShare(NamedTuple):
    """A new share: its record, and its token, which is shown once."""

    record: ShareRecord
    token: str

    def __repr__(self) -> str:
        return f"NewShare({self.record!r})"


def new_share(now: float, *, group: object = None, item: object = None, expires_at: float | None = None) -> NewShare:
    """Create a share of either a group or an item.

    Args:
        now: The current instant.
        group: The name of a group.
        item: The id of an item; it need not exist yet.
        expires_at: The instant at which the share expires, or ``None``.

    Raises:
        FieldError: A field breaks a rule.
    """
    if (group is None) is (item is None):
        raise FieldError("item", "a share is of either an item or a group: name one of the two")
    if expires_at is not None and not expires_at > now:
        raise FieldError("expires_at", "expires_at must be in the future")
    token = secrets.token_urlsafe(32)
    record = ShareRecord(
        share_id=secrets.token_hex(4),
        hash=digest(token),
        created_at=now,
        group=None if group is None else check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
        item=None if item is None else check_id(item, "item"),
        expires_at=expires_at,
    )
    return NewShare(record, token)


class Shares:
    """The shares of the server, in memory."""

    def __init__(self, records: Iterable[ShareRecord] = ()) -> None:
        self.replace_all(records)

    def replace_all(self, records: Iterable[ShareRecord]) -> None:
        """Replace all shares by the stored ones."""
        self._by_hash = {record.hash: record for record in records}

    def add(self, record: ShareRecord) -> None:
        """Add a share."""
        self._by_hash[record.hash] = record

    def find(self, token: str, now: float) -> ShareRecord | None:
        """Return the valid share of a token."""
        record = self._by_hash.get(digest(token))
        return record if record is not None and (record.expires_at is None or now < record.expires_at) else None

    def get(self, share_id: str) -> ShareRecord | None:
        """Return a share by its public id."""
        return next((record for record in self._by_hash.values() if record.share_id == share_id), None)

    def __len__(self) -> int:
        return len(self._by_hash)

    def all(self) -> list[ShareRecord]:
        """Return all shares, oldest first."""
        return sorted(self._by_hash.values(), key=lambda record: (record.created_at, record.share_id))

    def drop(self, record: ShareRecord) -> None:
        """End a share."""
        self._by_hash.pop(record.hash, None)

    def expire(self, now: float) -> list[ShareRecord]:
        """End the expired shares, and return them."""
        expired = [
            record for record in self._by_hash.values() if record.expires_at is not None and now >= record.expires_at
        ]
        for record in expired:
            self.drop(record)
        return expired
