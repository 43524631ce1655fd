"""The calls for keys, shares and ping tokens, as exchanges. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exchanges import request_json, request_mapping, request_page
from .messages import Request, encode_json, quote_id

if TYPE_CHECKING:
    from .exchanges import Exchange


def request_keys() -> Exchange[list[dict[str, object]]]:
    """List the keys of a server, without their secrets."""
    return (yield from request_page("api/v1/keys", "keys"))[0]


def request_new_key(
    kind: str,
    name: str,
    expires_at: str | None = None,
    cell: str | None = None,
    *,
    reads_tails: bool = False,
) -> Exchange[dict[str, object]]:
    """Create a key; the result has the secret as ``key``. ``expires_at`` is an RFC 3339 instant."""
    return _create("api/v1/keys", type=kind, name=name, expires_at=expires_at, cell=cell, read_tail=reads_tails or None)


def request_key_revocation(key_id: str) -> Exchange[object]:
    """Revoke a key."""
    return _revoke("api/v1/keys", key_id)


def request_key_rotation(key_id: str) -> Exchange[dict[str, object]]:
    """Replace the secret of a key; the result has it as ``key``."""
    return request_mapping(Request("POST", f"api/v1/keys/{quote_id(key_id)}/rotate"))


def request_shares() -> Exchange[list[dict[str, object]]]:
    """List the shares of a server, without their links."""
    return (yield from request_page("api/v1/shares", "shares"))[0]


def request_new_share(item: str | None, group: str | None, expires_at: str | None) -> Exchange[dict[str, object]]:
    """Create a share of an item or a group; the result has its ``token``, ``path`` and ``badge``."""
    return _create("api/v1/shares", item=item, group=group, expires_at=expires_at)


def request_share_revocation(share_id: str) -> Exchange[object]:
    """Revoke a share."""
    return _revoke("api/v1/shares", share_id)


def request_ping_tokens() -> Exchange[list[dict[str, object]]]:
    """List the ping tokens of a server, without their secrets."""
    return (yield from request_page("api/v1/ping-tokens", "ping_tokens"))[0]


def request_new_ping_token(name: str, group: str, expires_at: str | None) -> Exchange[dict[str, object]]:
    """Create a ping token of a group; the result has its ``token`` and ``path``."""
    return _create("api/v1/ping-tokens", name=name, group=group, expires_at=expires_at)


def request_ping_token_revocation(token_id: str) -> Exchange[object]:
    """Revoke a ping token."""
    return _revoke("api/v1/ping-tokens", token_id)


def _create(path: str, **fields: object) -> Exchange[dict[str, object]]:
    body = {name: value for name, value in fields.items() if value is not None}
    return request_mapping(Request("POST", path, encode_json(body)))


def _revoke(path: str, record_id: str) -> Exchange[object]:
    return request_json(Request("DELETE", f"{path}/{quote_id(record_id)}"))
