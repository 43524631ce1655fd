"""Template values for keys, shares, ping tokens, sessions and channels, for the administrator's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.access.keys import is_usable
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import rfc3339

if TYPE_CHECKING:
    from progressbar_tracker.server.access.keys import Keyring
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.models import DeliveryStats, KeyRecord, PingTokenRecord, SessionRecord, ShareRecord
    from progressbar_tracker.server.notifications.channels import Channel


def present_key(key: KeyRecord, now: float) -> dict[str, object]:
    """Return the template values of a key."""
    has_previous = key.previous_until is not None and now < key.previous_until
    return {
        "id": key.key_id,
        "name": key.name,
        "type": key.type,
        "group": key.group or "",
        "is_usable": is_usable(key, now),
        "created": format_time(key.created_at),
        "last_used": format_time(key.last_used_at),
        "expires": format_time(key.expires_at),
        "revoked": format_time(key.revoked_at),
        "previous_until": format_time(key.previous_until) if has_previous else None,
    }


def present_share(share: ShareRecord) -> dict[str, object]:
    """Return the template values of a share."""
    return {
        "id": share.share_id,
        "kind": "group" if share.item is None else "item",
        "name": share.group if share.item is None else share.item,
        "url": None if share.item is None else item_url(share.item),
        "created": format_time(share.created_at),
        "expires": format_time(share.expires_at),
    }


def present_ping_token(token: PingTokenRecord) -> dict[str, object]:
    """Return the template values of a ping token."""
    return {
        "id": token.id,
        "name": token.name,
        "group": token.group,
        "created": format_time(token.created_at),
        "expires": format_time(token.expires_at),
    }


def present_session(session: SessionRecord, current: SessionRecord | None, keyring: Keyring) -> dict[str, object]:
    """Return the template values of a session."""
    key = None if session.key_id is None else keyring.get(session.key_id)
    return {
        "id": session.session_id,
        "browser": describe_browser(session.agent),
        "agent": session.agent,
        "key": None if key is None else key.name,
        "is_current": current is not None and current.hash == session.hash,
        "created": format_time(session.created_at),
        "last_seen": format_time(session.seen_at or session.created_at),
        "expires": format_time(session.expires_at),
    }


def present_channel(channel: Channel, stats: DeliveryStats, is_disabled: bool) -> dict[str, object]:
    """Return the template values of a channel."""
    scope = "all items" if channel.all else ", ".join(f"the group {group}" for group in sorted(channel.groups))
    return {
        "name": channel.name,
        "kind": channel.kind,
        "destination": channel.destination,
        "events": ", ".join(channel.events),
        "scope": scope or "items that name it",
        "is_disabled": is_disabled,
        "waiting": stats.waiting,
        "given_up": stats.given_up,
        "delivered": stats.delivered,
        "last_delivered": format_time(stats.delivered_at),
        "error": stats.error or "",
    }


def describe_browser(agent: str) -> str:
    """Return the browser and system of a User-Agent header in a few words.

    >>> describe_browser("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0")
    'Firefox on Linux'
    >>> describe_browser("curl/8.5.0"), describe_browser("")
    ('curl/8.5.0', 'unknown')
    """
    name = next((name for mark, name in _BROWSER_MARKS if mark in agent), None)
    system = next((name for mark, name in _SYSTEM_MARKS if mark in agent), None)
    if name is None:
        return agent.partition(" ")[0][:40] or "unknown"
    return name if system is None else f"{name} on {system}"


# The order matters: a User-Agent header contains the marks of later entries too.
_BROWSER_MARKS: Final = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox"), ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"), ("Safari/", "Safari"),
)  # fmt: skip
_SYSTEM_MARKS: Final = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "Mac"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip


def list_groups(board: Board) -> list[str]:
    """Return the names of the groups of the listed items, for the suggestions of a form."""
    return sorted({item.group for item in board.snapshot() if item.group is not None})


def format_time(at: float | None) -> tuple[str, str] | None:
    """Return an instant in RFC 3339 and in a short form in UTC.

    >>> format_time(0.0)
    ('1970-01-01T00:00:00.000Z', '1970-01-01 00:00 UTC')
    """
    return None if at is None else (rfc3339(at), f"{rfc3339(at)[:16].replace('T', ' ')} UTC")
