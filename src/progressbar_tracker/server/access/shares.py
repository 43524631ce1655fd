"""Shares: links that show a group or an item to whoever has them, and nothing else.

The token is in the link and only its hash is kept, so a share can be revoked and expires, but never be shown again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import GROUP_LENGTH, FieldError, check_id, check_text
from progressbar_tracker.server.models import ShareRecord, digest

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_SHARES: Final = 1000
"""The most shares."""


class NewShare(NamedTuple):
    """A share just made: the record to keep and the token to show once."""

    record: ShareRecord
    token: str

    def __repr__(self) -> str:
        return f"NewShare({self.record!r})"


def new_share(now: float, *, group: object = None, item: object = None, expires_at: float | None = None) -> NewShare:
    """Make a share of either a group or an item.

    Args:
        now: The instant, seconds since the epoch.
        group: The name of a group.
        item: The id of an item; it need not be there yet.
        expires_at: When it ends, or ``None``.

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
        group=None if group is None else check_text("group", group, GROUP_LENGTH, min_length=1),
        item=None if item is None else check_id(item, "item"),
        expires_at=expires_at,
    )
    return NewShare(record, token)


class Shares:
    """The shares of the server, in memory."""

    def __init__(self, known: Iterable[ShareRecord] = ()) -> None:
        self.replace_all(known)

    def replace_all(self, known: Iterable[ShareRecord]) -> None:
        """Take over what the store has now."""
        self._by_hash = {record.hash: record for record in known}

    def add(self, record: ShareRecord) -> None:
        """Add a share."""
        self._by_hash[record.hash] = record

    def find(self, token: str, now: float) -> ShareRecord | None:
        """Return the share of a token, if it is still good."""
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
        """End the shares whose time is over; return what to forget."""
        over = [one for one in self._by_hash.values() if one.expires_at is not None and now >= one.expires_at]
        for record in over:
            self.drop(record)
        return over
