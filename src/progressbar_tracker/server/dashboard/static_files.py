"""The styles, scripts and icons of the pages, read once at import."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.http.response import Response
from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request

_CONTENT_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
STATIC_FILES: Final = {
    path.name: (path.read_bytes(), _CONTENT_TYPES[path.suffix])
    for path in sorted((Path(__file__).parent / "static").iterdir())
}
"""The names of static files to their bodies and content types."""

_FILE_ETAGS: Final = {
    name: b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode() for name, (body, _) in STATIC_FILES.items()
}


async def get_static_file(request: Request) -> Response:
    """``GET /static/{name}``."""
    file = STATIC_FILES.get(request.path_params["name"])
    if file is None:
        raise ProblemError("not-found", "there is no such file")
    body, content_type = file
    etag = _FILE_ETAGS[request.path_params["name"]]
    headers = ((b"etag", etag), (b"cache-control", b"no-cache"))
    if request.headers.get(b"if-none-match") == etag:
        return Response(304, headers=headers)
    return Response(200, body, content_type, headers)
