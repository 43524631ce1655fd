"""Ping tokens: secrets in the URLs of pings, which report starts and ends of the items of one group and nothing else.

As for shares, only the hash of a token is stored.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import MAX_GROUP_LENGTH, FieldError, check_text
from progressbar_tracker.server.models import PingTokenRecord, digest

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PING_TOKENS: Final = 1000
"""The most ping tokens."""

MAX_NAME_LENGTH: Final = 100

PINGS_PER_SECOND: Final = 5
"""The average number of pings a second of a token; ten seconds' worth may arrive at once."""


class NewPingToken(NamedTuple):
    """A new ping token: its record, and the token, which is shown once."""

    record: PingTokenRecord
    token: str

    def __repr__(self) -> str:
        return f"NewPingToken({self.record!r})"


def new_ping_token(now: float, *, name: object, group: object, expires_at: float | None = None) -> NewPingToken:
    """Create a ping token of a group.

    Args:
        now: The current instant.
        name: Its display name, 1 to 100 characters: the owner of the runs that it reports.
        group: The group whose items it reports.
        expires_at: The instant at which it expires, or ``None``.

    Raises:
        FieldError: A field breaks a rule.
    """
    if expires_at is not None and not expires_at > now:
        raise FieldError("expires_at", "expires_at must be in the future")
    token = secrets.token_urlsafe(32)
    record = PingTokenRecord(
        token_id=secrets.token_hex(4),
        hash=digest(token),
        name=check_text("name", name, MAX_NAME_LENGTH, min_length=1),
        group=check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
        created_at=now,
        expires_at=expires_at,
    )
    return NewPingToken(record, token)


class PingTokens:
    """The ping tokens of the server, in memory."""

    def __init__(self, records: Iterable[PingTokenRecord] = ()) -> None:
        self.replace_all(records)

    def __len__(self) -> int:
        return len(self._by_hash)

    def replace_all(self, records: Iterable[PingTokenRecord]) -> None:
        """Replace all tokens by the stored ones."""
        self._by_hash = {record.hash: record for record in records}

    def add(self, record: PingTokenRecord) -> None:
        """Add a token."""
        self._by_hash[record.hash] = record

    def find(self, token: str) -> PingTokenRecord | None:
        """Return the record of a token, even if it has expired."""
        return self._by_hash.get(digest(token))

    def get(self, token_id: str) -> PingTokenRecord | None:
        """Return a record by its public id."""
        return next((record for record in self._by_hash.values() if record.token_id == token_id), None)

    def all(self) -> list[PingTokenRecord]:
        """Return all records, oldest first."""
        return sorted(self._by_hash.values(), key=lambda record: (record.created_at, record.token_id))

    def drop(self, record: PingTokenRecord) -> None:
        """End a token."""
        self._by_hash.pop(record.hash, None)
