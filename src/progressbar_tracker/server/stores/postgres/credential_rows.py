"""Read keys, sessions, shares, subscriptions and ping tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from progressbar_tracker.server.models import KeyRecord, PingTokenRecord, PushSubscription, SessionRecord, ShareRecord
from progressbar_tracker.server.stores.base import Credentials
from progressbar_tracker.server.stores.reading import convert_record, parse_record, parse_rows

if TYPE_CHECKING:
    from .database import Connection


def read_credentials(connection: Connection) -> Credentials:
    """Return all credentials, in one transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (rev,) = connection.execute("SELECT credentials_rev FROM meta").fetchone() or (0,)
        result = connection.execute("SELECT kind, id, state, used_at FROM credentials").fetchall()
    keys, sessions, shares = list[KeyRecord](), list[SessionRecord](), list[ShareRecord]()
    subscriptions, vapid_keys = list[PushSubscription](), tuple[str, ...]()
    ping_tokens = list[PingTokenRecord]()
    for kind, name, state, used_at in result:
        match kind:
            case "key":
                keys += parse_rows("keys", [(name, state, used_at)], _parse_key)
            case "session":
                sessions += parse_rows("sessions", [(name, state, used_at)], _parse_session)
            case "share":
                shares += parse_rows("shares", [(name, state)], lambda _, text: parse_record(ShareRecord, text))
            case "subscription":
                subscriptions += parse_rows(
                    "subscriptions", [(name, state)], lambda _, text: parse_record(PushSubscription, text)
                )
            case "secret" if name == "vapid":
                vapid_keys = tuple(str(state).split())
            case "ping":
                ping_tokens += parse_rows(
                    "ping_tokens", [(name, state)], lambda _, text: parse_record(PingTokenRecord, text)
                )
    return Credentials(int(rev), keys, sessions, shares, subscriptions, vapid_keys, ping_tokens)


def is_secret_retired(connection: Connection, secret_hash: str) -> bool:
    """Return whether a secret once belonged to a key, and no longer does."""
    return connection.execute("SELECT FROM ended_secrets WHERE hash = %s", [secret_hash]).fetchone() is not None


def _parse_key(_: str, state: str, used_at: float | None) -> KeyRecord:
    return convert_record(KeyRecord, msgspec.json.decode(state, type=dict[str, object]) | {"last_used_at": used_at})


def _parse_session(_: str, state: str, used_at: float | None) -> SessionRecord:
    return convert_record(SessionRecord, msgspec.json.decode(state, type=dict[str, object]) | {"seen_at": used_at})
