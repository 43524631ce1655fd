"""The OpenAPI document: ``/openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.response import Response, encode_json

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request

CACHE_HEADERS: Final = ((b"cache-control", b"max-age=300"),)


async def get_openapi(request: Request) -> Response:
    """``GET /openapi.json``."""
    return Response(200, encode_json(request.services.openapi()), headers=CACHE_HEADERS)
