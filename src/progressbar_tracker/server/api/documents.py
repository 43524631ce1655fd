"""The OpenAPI document: ``/openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.response import Reply, encode

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call

CACHE_HEADERS: Final = ((b"cache-control", b"max-age=300"),)


async def openapi(call: Call) -> Reply:
    """``GET /openapi.json``."""
    return Reply(200, encode(call.services.openapi()), headers=CACHE_HEADERS)
