"""The table of all routes. What is not in it does not exist; what is in it has an action that somebody must be allowed.

The first match wins, so the narrow rows stand before the wide ones.
"""

from __future__ import annotations

from typing import Final

from . import (
    admin_pages,
    events,
    health,
    history,
    history_page,
    item_page,
    items,
    keys,
    legacy,
    pages,
    sessions,
    shares,
)
from .http import Row

TABLE: Final[tuple[Row, ...]] = (
    Row("GET", "/progress", "read", legacy.listed),
    Row("POST", "/progress", "create", legacy.create),
    Row("PUT", "/progress", "update", legacy.update),
    Row("DELETE", "/progress", "delete", legacy.delete),
    Row("GET", "/api/key-info", "any", keys.info),
    Row("POST", "/api/v1/items:batch", "any", items.batch),
    Row("GET", "/api/v1/items", "read", items.listed),
    Row("GET", "/api/v1/items/{id:path}", "read", items.one),
    Row("PUT", "/api/v1/items/{id:path}", "update", items.put),
    Row("PATCH", "/api/v1/items/{id:path}", "update", items.patch),
    Row("DELETE", "/api/v1/items/{id:path}", "delete", items.delete),
    Row("GET", "/api/v1/events", "read", events.stream),
    Row("GET", "/api/v1/history", "read", history.listed),
    Row("GET", "/api/v1/history.csv", "read", history.as_csv),
    Row("GET", "/api/v1/history.json", "read", history.as_json),
    Row("GET", "/api/v1/keys", "manage", keys.listed),
    Row("POST", "/api/v1/keys", "manage", keys.create),
    Row("DELETE", "/api/v1/keys/{key_id}", "manage", keys.revoke),
    Row("POST", "/api/v1/keys/{key_id}/rotate", "manage", keys.rotate),
    Row("GET", "/api/v1/sessions", "manage", sessions.listed),
    Row("DELETE", "/api/v1/sessions/{session_id}", "manage", sessions.revoke),
    Row("GET", "/api/v1/shares", "manage", shares.listed),
    Row("POST", "/api/v1/shares", "manage", shares.create),
    Row("DELETE", "/api/v1/shares/{share_id}", "manage", shares.revoke),
    Row("GET", "/s/{token}", "public", shares.seen, page=True),
    Row("GET", "/s/{token}/events", "public", shares.stream),
    Row("GET", "/badge/{token}.svg", "public", shares.badge),
    Row("GET", "/healthz", "public", health.alive),
    Row("GET", "/readyz", "public", health.ready),
    Row("GET", "/", "read", pages.home, page=True),
    Row("GET", "/items/{id:path}", "read", item_page.item, page=True),
    Row("GET", "/history", "read", history_page.history, page=True),
    Row("GET", "/keys", "manage", admin_pages.keys, page=True),
    Row("GET", "/login", "public", pages.login, page=True),
    Row("POST", "/login", "public", pages.sign_in, page=True),
    Row("POST", "/logout", "public", pages.sign_out, page=True),
    Row("GET", "/auth/{token}", "public", pages.redeem, page=True),
    Row("HEAD", "/auth/{token}", "public", pages.peek),
    Row("GET", "/static/{name}", "public", pages.file),
)
