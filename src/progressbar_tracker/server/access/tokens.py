"""Tokens in URLs: the secrets of shares and of pings.

Only the hash of a token is stored. So a token can be revoked and can expire, but it cannot be shown again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.models import digest

if TYPE_CHECKING:
    from collections.abc import Iterable


class TokenRecord(Protocol):
    """The stored fields of a token."""

    @property
    def id(self) -> str:
        """The public id."""

    @property
    def hash(self) -> str:
        """The hash of the token."""

    @property
    def created_at(self) -> float:
        """The instant of its creation."""

    @property
    def expires_at(self) -> float | None:
        """The instant at which it expires, or ``None``."""


RecordT = TypeVar("RecordT", bound=TokenRecord)


class TokenSecret(NamedTuple):
    """A new token, which is shown once, with its public id and its hash."""

    token: str
    id: str
    hash: str

    def __repr__(self) -> str:
        return f"TokenSecret(id={self.id!r})"


def new_token() -> TokenSecret:
    """Create a token of 256 random bits."""
    token = secrets.token_urlsafe(32)
    return TokenSecret(token, secrets.token_hex(4), digest(token))


def check_expiry(expires_at: float | None, now: float) -> float | None:
    """Return the instant at which a new credential expires, if it is in the future.

    Raises:
        FieldError: It has passed.
    """
    if expires_at is not None and not expires_at > now:
        raise FieldError("expires_at", "expires_at must be in the future")
    return expires_at


class Tokens(Generic[RecordT]):
    """The tokens of one kind, in memory."""

    def __init__(self, records: Iterable[RecordT] = ()) -> None:
        self.replace_all(records)

    def __len__(self) -> int:
        return len(self._by_hash)

    def replace_all(self, records: Iterable[RecordT]) -> None:
        """Replace all records by the stored ones."""
        self._by_hash = {record.hash: record for record in records}

    def add(self, record: RecordT) -> None:
        """Add a record."""
        self._by_hash[record.hash] = record

    def find(self, token: str) -> RecordT | None:
        """Return the record of a token, even if it has expired."""
        return self._by_hash.get(digest(token))

    def get(self, record_id: str) -> RecordT | None:
        """Return a record by its public id."""
        return next((record for record in self._by_hash.values() if record.id == record_id), None)

    def all(self) -> list[RecordT]:
        """Return all records, oldest first."""
        return sorted(self._by_hash.values(), key=lambda record: (record.created_at, record.id))

    def drop(self, record: RecordT) -> None:
        """End a token."""
        self._by_hash.pop(record.hash, None)

    def expire(self, now: float) -> list[RecordT]:
        """End the expired tokens, and return their records."""
        expired = [
            record for record in self._by_hash.values() if record.expires_at is not None and now >= record.expires_at
        ]
        for record in expired:
            self.drop(record)
        return expired
