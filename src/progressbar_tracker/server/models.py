"""What the server remembers: the records that board, keys and sessions make and the stores keep.

All are immutable, so that the writer thread may encode a record at leisure while the board goes on with its successor.
Instants are seconds since the epoch.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from progressbar_tracker._models import KeyType, Number, Status  # noqa: TC001  # msgspec decodes into these

EndStatus: TypeAlias = Literal["succeeded", "failed", "stopped", "deleted"]


class Part(msgspec.Struct, frozen=True, gc=False):
    """One process's share of a run: its own count, and its own write counter."""

    completed: Number
    seq: int


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One item as it stands. A write replaces it; nothing in it is ever changed in place.

    It can be in no cycle, so Python need not look for one among a hundred thousand of them.

    Attributes:
        own: ``completed`` as told by writers that name no part.
        parts: The shares of the named parts of this run.
        past: The latest runs this item was taken from; they may not take it back.
        born: The revision of its creation: a stable order among items of the same instant.
        rev: The revision of its latest change.
        deadline_at: When it is late, if it runs still.
        notify: The channels that are told of it, by name.
        pace: Smoothed progress per second, in the unit of ``completed``, else in ``value``.
        pace_at: When it last moved, to the position ``pace_n``, ``pace_for`` seconds after the time before.
    """

    id: str
    owner_id: str
    owner: str
    run_id: str
    created_at: float
    updated_at: float
    ended_at: float | None = None
    title: str = ""
    description: str = ""
    value: float = 0.0
    completed: Number | None = None
    total: Number | None = None
    unit: str = ""
    weight: int = 0
    status: Status = "running"
    error: str | None = None
    group: str | None = None
    parent: str | None = None
    meta: dict[str, str] = {}
    seq: int = 0
    heartbeat_timeout: float | None = None
    deadline_at: float | None = None
    notify: tuple[str, ...] = ()
    ttl: float | None = None
    own: Number | None = None
    parts: dict[str, Part] = {}
    past: tuple[str, ...] = ()
    born: int = 0
    rev: int = 0
    pace: float | None = None
    pace_at: float = 0.0
    pace_n: Number | None = None
    pace_for: float = 0.0


_NO_PARTS: Final[dict[str, Part]] = {}


MAX_INTERNED_TEXTS: Final = 10_000
"""The most texts that are kept to be shared."""

_interned_texts: Final[dict[str, str]] = {}


def _intern_text(text: str) -> str:
    """Return the same text, as the object that others have already. Not ``sys.intern``, which may keep it for ever."""
    if len(_interned_texts) >= MAX_INTERNED_TEXTS:
        _interned_texts.clear()
    return _interned_texts.setdefault(text, text)


def intern_texts(item: Item) -> Item:
    """Return the same item, which shares with others what is the same text: a third of what an item takes."""
    return replace(
        item,
        owner_id=_intern_text(item.owner_id),
        owner=_intern_text(item.owner),
        unit=_intern_text(item.unit),
        status=_intern_text(item.status),
        group=None if item.group is None else _intern_text(item.group),
        meta={_intern_text(name): _intern_text(text) for name, text in item.meta.items()},
        notify=tuple(map(_intern_text, item.notify)),
        parts=item.parts or _NO_PARTS,
    )


class EndedRun(msgspec.Struct, frozen=True):
    """A run that left the board, for the history."""

    item: Item
    status: EndStatus
    ended_at: float


class Sample(msgspec.Struct, frozen=True):
    """How far a run was at an instant."""

    at: float
    value: float
    completed: Number | None


class SampledRun(msgspec.Struct, frozen=True):
    """How many samples there are of a run, and the instants of the first and the last."""

    id: str
    run_id: str
    count: int
    first_at: float
    last_at: float


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the server knows it: never the secret, only its hash.

    Attributes:
        key_id: The public identity; what owns items.
        hash: SHA-256 of the whole key, as hex.
        previous_hash: The hash before the latest rotation, good until ``previous_until``.
        group: The group of items written with this key that name none.
        imported: Came from the environment, in a form of its own.
    """

    key_id: str
    name: str
    type: KeyType
    hash: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    previous_hash: str | None = None
    previous_until: float | None = None
    last_used_at: float | None = None
    group: str | None = None
    imported: bool = False

    def __repr__(self) -> str:
        return f"KeyRecord(key_id={self.key_id!r}, name={self.name!r}, type={self.type!r})"


class SessionRecord(msgspec.Struct, frozen=True):
    """A signed-in browser: the hash of its cookie, and its life.

    Attributes:
        key_id: The key it was signed in with, which it stands for as long as that works; ``None`` for the
            administrator's password and for one-time links.
        agent: What the browser called itself.
        credential: A digest of the credential that it was signed in with: it ends when that credential does. See
            :func:`credential_digest`; for the operator, :attr:`~.sessions.Password.fingerprint`.
    """

    hash: str
    created_at: float
    expires_at: float
    seen_at: float | None = None
    key_id: str | None = None
    agent: str = ""
    credential: str | None = None

    @property
    def session_id(self) -> str:
        """What it is called in the open; neither the cookie nor its hash can be had from it."""
        return self.hash[:16]

    def __repr__(self) -> str:
        return f"SessionRecord(expires_at={self.expires_at!r})"


class ShareRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A read-only link to a group or to an item: the hash of its token, and its life."""

    share_id: str
    hash: str
    created_at: float
    group: str | None = None
    item: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"ShareRecord(share_id={self.share_id!r}, group={self.group!r}, item={self.item!r})"


class Notice(msgspec.Struct, frozen=True):
    """A message about an event of a run, on its way to a channel.

    Attributes:
        notice_id: The same for the same channel, run and event, whoever makes it: so it is made once.
        at: When it happened.
        body: The item as it was told then, in JSON.
        attempts: How often it was sent in vain.
        next_at: When it is to be sent.
    """

    notice_id: str
    channel: str
    item_id: str
    run_id: str
    event: str
    at: float
    body: str
    next_at: float
    attempts: int = 0


NOTICE_COLUMNS: Final = ", ".join(Notice.__struct_fields__)
"""The columns of a notice, in the stores' words and in the order of its fields."""


class DeliveryStats(msgspec.Struct, frozen=True):
    """What became of the messages to a channel.

    Attributes:
        waiting: How many are still to be sent.
        given_up: How many of those that are remembered never will be.
        delivered_at: When the latest one was delivered.
        error: Why one could not be, the latest that is not delivered.
    """

    channel: str
    waiting: int = 0
    delivered: int = 0
    given_up: int = 0
    delivered_at: float | None = None
    error: str | None = None


MAX_RETRY_SECONDS: Final = 3600.0
"""The longest pause between two attempts at a message; what is due later was put off while the clock was ahead."""

MAX_WAITING_NOTICES: Final = 10_000
"""The most notices that wait in the outbox; what happens while it is full is not told."""


def rfc3339(instant: float) -> str:
    """Return an instant as RFC 3339 in UTC.

    >>> rfc3339(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    second, rest = divmod(round(instant * 1_000_000), 1_000_000)
    return f"{_format_second(second)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=4096)
def _format_second(second: int) -> str:
    # Every answer tells three instants or more, and most of them lie in the same few seconds.
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret as hex, which is all that is ever kept of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def credential_digest(type: KeyType, secret_hash: str) -> str:
    """Return what a session keeps of a key: with another secret or another type the key is another credential."""
    return digest(f"{type} {secret_hash}")


def serialize_key(key: KeyRecord) -> dict[str, object]:
    """Return a key as it is told to admins, over HTTP and by the command line alike: everything but its hashes."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "type": key.type,
        "group": key.group,
        "created_at": rfc3339(key.created_at),
        "expires_at": _optional_rfc3339(key.expires_at),
        "revoked_at": _optional_rfc3339(key.revoked_at),
        "previous_until": _optional_rfc3339(key.previous_until),
        "last_used_at": _optional_rfc3339(key.last_used_at),
    }


def _optional_rfc3339(instant: float | None) -> str | None:
    return None if instant is None else rfc3339(instant)
