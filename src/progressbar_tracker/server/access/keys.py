"""Keys: their form, their life, and finding the one that a request carries.

A key reads ``pbt_<r|w|a>_<8 characters of public id>_<43 characters of secret>``. Only its SHA-256 is kept: the secret
has 256 bits of its own, so a slow hash would protect nothing and cost every request. Nothing here does I/O.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from progressbar_tracker._models import (
    GROUP_LENGTH,
    KEY_TYPES,
    FieldError,
    KeyType,
    check_text,
    format_value,
)
from progressbar_tracker.server.models import KeyRecord, credential_digest, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROTATION_GRACE_SECONDS: Final = 24 * 3600.0
"""Seconds for which the old secret of a rotated key still works."""

MAX_KEYS: Final = 1000
"""The most keys, those that have ended and are remembered among them."""

NAME_LENGTH: Final = 100

_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"


class NewKey(NamedTuple):
    """A key just made: the record to keep and the secret to show once."""

    record: KeyRecord
    secret: str

    def __repr__(self) -> str:
        return f"NewKey({self.record!r})"


def check_type(value: object) -> KeyType:
    """Return ``value`` if it is the name of a type of key."""
    for name in KEY_TYPES:
        if value == name:
            return name
    raise FieldError("type", f"type must be one of {', '.join(KEY_TYPES)}, not {format_value(value)}")


def check_name(value: object) -> str:
    """Return ``value`` if it can be a key's name: 1 to 100 characters."""
    return check_text("name", value, NAME_LENGTH, min_length=1)


def new_key(
    type: KeyType, name: str, now: float, *, expires_at: float | None = None, group: str | None = None
) -> NewKey:
    """Make a key.

    Args:
        type: ``"read"``, ``"write"`` or ``"admin"``.
        name: For people; two keys of one name are two owners all the same.
        now: The instant, seconds since the epoch.
        expires_at: When it stops working, or ``None``.
        group: The group of items that are written with it and name none.

    Raises:
        FieldError: A field breaks a rule.
    """
    if expires_at is not None and not expires_at > now:
        raise FieldError("expires_at", "expires_at must be in the future")
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    type = check_type(type)
    secret = _new_secret(type, key_id)
    record = KeyRecord(
        key_id=key_id,
        name=check_name(name),
        type=type,
        hash=digest(secret),
        created_at=now,
        expires_at=expires_at,
        group=None if group is None else check_text("group", group, GROUP_LENGTH) or None,
    )
    return NewKey(record, secret)


def rotate_key(record: KeyRecord, now: float) -> NewKey:
    """Give a key a new secret; the old one works for a day more, the identity stays."""
    secret = _new_secret(record.type, record.key_id)
    return NewKey(
        replace(
            record,
            hash=digest(secret),
            previous_hash=record.hash,
            previous_until=now + ROTATION_GRACE_SECONDS,
            imported=False,
        ),
        secret,
    )


def revoke_key(record: KeyRecord, now: float) -> KeyRecord:
    """End a key, the old secret of a rotation included. A key that is revoked already keeps its instant."""
    return record if record.revoked_at is not None else replace(record, revoked_at=now)


def import_key(secret: str, now: float, former: KeyRecord | None) -> KeyRecord:
    """Return the record of an admin key that came from outside, in the identity of the one imported before."""
    if former is None:
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
        return KeyRecord(key_id=key_id, name="admin", type="admin", hash=digest(secret), created_at=now, imported=True)
    return replace(
        former, type="admin", hash=digest(secret), expires_at=None, previous_hash=None, previous_until=None,
        revoked_at=None,
    )  # fmt: skip


def is_usable(record: KeyRecord, now: float) -> bool:
    """Say whether a key works at an instant."""
    return record.revoked_at is None and (record.expires_at is None or now < record.expires_at)


def key_ended_at(record: KeyRecord) -> float:
    """Return the instant from which on a key works no more; infinite as long as none is known."""
    ends = [instant for instant in (record.revoked_at, record.expires_at) if instant is not None]
    return min(ends, default=math.inf)


def credential_ends_at(record: KeyRecord | None, credential: str | None) -> float:
    """Return the instant at which a credential of this key ends.

    Args:
        record: The key as it is now; ``None`` if it is forgotten.
        credential: See :func:`~.records.credential_digest`.

    Returns:
        The instant, infinite if none is known; minus infinity if the key has no such credential (any more).
    """
    if record is None or record.revoked_at is not None:
        return -math.inf
    until = math.inf if record.expires_at is None else record.expires_at
    if credential == credential_digest(record.type, record.hash):
        return until
    if record.previous_hash is not None and credential == credential_digest(record.type, record.previous_hash):
        return until if record.previous_until is None else min(until, record.previous_until)
    return -math.inf


def _new_secret(type: KeyType, key_id: str) -> str:
    return f"pbt_{type[0]}_{key_id}_{secrets.token_urlsafe(32)}"


def _key_event(before: KeyRecord | None, after: KeyRecord) -> str | None:
    """Return what has become of a key, in two words for the log."""
    if before is None:
        return "key made"
    if after.revoked_at is not None and before.revoked_at is None:
        return "key revoked"
    return None if after.hash == before.hash else "key rotated"


class Keyring:
    """The keys of the server, in memory.

    Args:
        records: The keys.
        rev: See below.
        tell: Told what becomes of a key from then on, in two words.

    Attributes:
        rev: The revision of the keys in the store that this ring shows.
    """

    def __init__(
        self,
        records: Iterable[KeyRecord] = (),
        rev: int = 0,
        *,
        on_event: Callable[[str, KeyRecord], object] = lambda _event, _record: None,
    ) -> None:
        self._on_event: Callable[[str, KeyRecord], object] | None = None
        self._records: dict[str, KeyRecord] = {}
        self.replace_all(records, rev)
        self._on_event = on_event  # of what was there already nobody is to be told

    def replace_all(self, records: Iterable[KeyRecord], rev: int) -> None:
        """Take over what the store has now."""
        before = self._records
        self.rev = rev
        self._records = {record.key_id: record for record in records}
        self._by_hash: dict[str, tuple[KeyRecord, float]] = {}
        for record in self._records.values():
            self._index_secrets(record)
            if self._on_event is not None and (event := _key_event(before.get(record.key_id), record)) is not None:
                self._on_event(event, record)

    def add(self, record: KeyRecord) -> None:
        """Add a key, or replace it."""
        self.replace_all([*self._records.values(), record], self.rev)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key_id: str) -> KeyRecord | None:
        """Return a key by its public id."""
        return self._records.get(key_id)

    def all(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        return sorted(self._records.values(), key=lambda record: (record.created_at, record.key_id))

    def find(self, secret: str, now: float) -> KeyRecord | None:
        """Return the key that a secret belongs to, whether it is still usable or not, or ``None``."""
        # Looked up by its hash and not compared with one: how long that takes tells nothing that would help, for nobody
        # can steer a hash byte by byte.
        found = self._by_hash.get(digest(secret))
        return None if found is None or now >= found[1] else found[0]

    def find_any(self, secret: str) -> KeyRecord | None:
        """Return the key that has or had a secret, though neither may work any more."""
        found = self._by_hash.get(digest(secret))
        return None if found is None else found[0]

    def _index_secrets(self, record: KeyRecord) -> None:
        if record.previous_hash is not None and record.previous_until is not None:
            self._by_hash[record.previous_hash] = record, record.previous_until
        self._by_hash[record.hash] = record, math.inf

    def is_last_admin(self, key_id: str, now: float) -> bool:
        """Say whether no usable admin key would be left without this one."""
        record = self._records.get(key_id)
        if record is None or record.type != "admin" or not is_usable(record, now):
            return False
        return not any(
            other.type == "admin" and is_usable(other, now) and other.key_id != key_id
            for other in self._records.values()
        )
