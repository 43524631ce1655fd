"""Keys: their format and lifecycle, and the lookup of a request's key.

A key has the format ``pbt_<r|w|a>_<8 characters of public id>_<43 characters of secret>``. Only its SHA-256 is stored.
In a deployment of cells, the public id begins with the name of the key's cell, ``c1-<8 characters>``: a balancer routes
by it, and the server does not read it.
The secret has 256 random bits, so a slow hash would add no protection and delay every request. Nothing here does I/O.
"""

from __future__ import annotations

import math
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from progressbar_tracker._models import (
    KEY_TYPES,
    MAX_GROUP_LENGTH,
    FieldError,
    KeyType,
    check_text,
    format_value,
)
from progressbar_tracker.server.models import KeyRecord, credential_digest, digest, optional_rfc3339, rfc3339

from .tokens import check_expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROTATION_GRACE_SECONDS: Final = 24 * 3600.0
"""Seconds for which the old secret of a rotated key works."""

MAX_KEYS: Final = 1000
"""The most keys, ended keys that are still listed included."""

NAME_LENGTH: Final = 100

CELL_PATTERN: Final = r"^[a-z0-9]{1,16}$"
"""The name of a cell: it stands in a key, in host names and in the configuration of a balancer."""

_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"


class NewKey(NamedTuple):
    """A new key: its record, and its secret, which is shown once."""

    record: KeyRecord
    secret: str

    def __repr__(self) -> str:
        return f"NewKey({self.record!r})"


def check_type(value: object) -> KeyType:
    """Return ``value`` if it is a type of key."""
    for name in KEY_TYPES:
        if value == name:
            return name
    raise FieldError("type", f"type must be one of {', '.join(KEY_TYPES)}, not {format_value(value)}")


def check_name(value: object) -> str:
    """Return ``value`` if it is a valid name of a key: 1 to 100 characters."""
    return check_text("name", value, NAME_LENGTH, min_length=1)


def check_cell(value: object) -> str:
    """Return ``value`` if it is a valid name of a cell: 1 to 16 lower-case letters and digits."""
    text = check_text("cell", value, 16, min_length=1)
    if not re.fullmatch(CELL_PATTERN, text):
        raise FieldError("cell", f"cell must be 1 to 16 lower-case letters and digits, not {format_value(value)}")
    return text


def new_key(
    type: KeyType,
    name: str,
    now: float,
    *,
    expires_at: float | None = None,
    group: str | None = None,
    cell: str | None = None,
    reads_tails: bool = False,
) -> NewKey:
    """Create a key.

    Args:
        type: ``"read"``, ``"write"`` or ``"admin"``.
        name: The display name; two keys with the same name are different owners.
        now: The current instant.
        expires_at: The instant at which the key expires, or ``None``.
        group: The group given to an item whose write names no group.
        cell: The cell whose name a balancer finds in the key.
        reads_tails: Whether the key reads the output of runs; an admin key always does.

    Raises:
        FieldError: A field breaks a rule.
    """
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    if cell is not None:
        key_id = f"{check_cell(cell)}-{key_id}"
    type = check_type(type)
    secret = _new_secret(type, key_id)
    record = KeyRecord(
        key_id=key_id,
        name=check_name(name),
        type=type,
        hash=digest(secret),
        created_at=now,
        expires_at=check_expiry(expires_at, now),
        group=None if group is None else check_text("group", group, MAX_GROUP_LENGTH) or None,
        reads_tails=reads_tails,
    )
    return NewKey(record, secret)


def rotate_key(record: KeyRecord, now: float) -> NewKey:
    """Replace the secret of a key; the old one works for another day, and the id stays."""
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
    """End a key and its old secret. The instant of an earlier revocation stays."""
    return record if record.revoked_at is not None else replace(record, revoked_at=now)


def import_key(secret: str, now: float, former: KeyRecord | None) -> KeyRecord:
    """Return the record of an admin key from the settings; it keeps the id of the key imported before."""
    if former is None:
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
        return KeyRecord(key_id=key_id, name="admin", type="admin", hash=digest(secret), created_at=now, imported=True)
    return replace(
        former, type="admin", hash=digest(secret), expires_at=None, previous_hash=None, previous_until=None,
        revoked_at=None,
    )  # fmt: skip


def is_usable(record: KeyRecord, now: float) -> bool:
    """Return whether a key works at an instant."""
    return record.revoked_at is None and (record.expires_at is None or now < record.expires_at)


def key_ended_at(record: KeyRecord) -> float:
    """Return the instant at which a key ends; infinite if none is known."""
    ends = [instant for instant in (record.revoked_at, record.expires_at) if instant is not None]
    return min(ends, default=math.inf)


def compute_credential_end(record: KeyRecord | None, credential: str | None) -> float:
    """Return the instant at which a credential of a key ends.

    Args:
        record: The key; ``None`` if it was deleted.
        credential: See :func:`~.models.credential_digest`.

    Returns:
        The instant; infinite if none is known, minus infinity if the key does not have this credential.
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
    """Return the log event for a change of a key."""
    if before is None:
        return "key created"
    if after.revoked_at is not None and before.revoked_at is None:
        return "key revoked"
    return None if after.hash == before.hash else "key rotated"


def serialize_key(key: KeyRecord) -> dict[str, object]:
    """Return a key without its hashes, for the HTTP API and the command line."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "type": key.type,
        "group": key.group,
        "read_tail": key.type == "admin" or key.reads_tails,
        "created_at": rfc3339(key.created_at),
        "expires_at": optional_rfc3339(key.expires_at),
        "revoked_at": optional_rfc3339(key.revoked_at),
        "previous_until": optional_rfc3339(key.previous_until),
        "last_used_at": optional_rfc3339(key.last_used_at),
    }


class Keyring:
    """The keys of the server, in memory.

    Args:
        records: The keys.
        rev: See :attr:`rev`.
        on_event: Receives later changes: an event of two words, and the key.

    Attributes:
        rev: The revision of the stored keys that the keyring shows.
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
        self._on_event = on_event  # set last: the initial keys are not events

    def replace_all(self, records: Iterable[KeyRecord], rev: int) -> None:
        """Replace all keys by the stored ones."""
        before = self._records
        self.rev = rev
        self._records = {record.key_id: record for record in records}
        self._by_hash: dict[str, tuple[KeyRecord, float]] = {}
        for record in self._records.values():
            self._index_secrets(record)
            if self._on_event is not None and (event := _key_event(before.get(record.key_id), record)) is not None:
                self._on_event(event, record)

    def add(self, record: KeyRecord) -> None:
        """Add or replace a key."""
        self.replace_all([*self._records.values(), record], self.rev)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key_id: str) -> KeyRecord | None:
        """Return a key by its public id."""
        return self._records.get(key_id)

    def find_cell(self, now: float) -> str:
        """Return the cell of the newest usable key with one; ``""`` without any. A server belongs to one cell."""
        cells = (record.key_id.rpartition("-")[0] for record in reversed(self.all()) if is_usable(record, now))
        return next(filter(None, cells), "")

    def all(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        return sorted(self._records.values(), key=lambda record: (record.created_at, record.key_id))

    def find(self, secret: str, now: float) -> KeyRecord | None:
        """Return the key of a secret, also if the key has ended; ``None`` if there is none."""
        # A lookup by hash leaks nothing useful through its duration: no client can choose a hash byte by byte.
        entry = self._by_hash.get(digest(secret))
        return None if entry is None or now >= entry[1] else entry[0]

    def find_any(self, secret: str) -> KeyRecord | None:
        """Return the key that has or had a secret, even if both have ended."""
        entry = self._by_hash.get(digest(secret))
        return None if entry is None else entry[0]

    def _index_secrets(self, record: KeyRecord) -> None:
        if record.previous_hash is not None and record.previous_until is not None:
            self._by_hash[record.previous_hash] = record, record.previous_until
        self._by_hash[record.hash] = record, math.inf

    def is_last_admin(self, key_id: str, now: float) -> bool:
        """Return whether no usable admin key would remain without this one."""
        record = self._records.get(key_id)
        if record is None or record.type != "admin" or not is_usable(record, now):
            return False
        return not any(
            other.type == "admin" and is_usable(other, now) and other.key_id != key_id
            for other in self._records.values()
        )
