"""The styles, scripts and icons of the pages, read and compressed once at import.

Pages use URLs with the digest of all files, which browsers keep for a year. A script imports others by relative URLs,
so that one digest stands for the whole set. The same files without a digest are checked at each use.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker.server.http.compression import accepts_gzip, compress_body
from progressbar_tracker.server.http.response import Header, Response
from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request

_CONTENT_TYPES: Final = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".ico": b"image/x-icon",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".webmanifest": b"application/manifest+json",
}
_COMPRESSED_SUFFIXES: Final = _CONTENT_TYPES.keys() - {".png", ".ico"}

BEST_LEVEL: Final = 9
"""The level of compression. All files take some milliseconds, once."""

MAX_DIGEST_LENGTH: Final = 12
"""Hexadecimal digits of a digest in a URL."""

_IMPORT_PATTERN: Final = re.compile(r"""^(?:import|export)\b[^;"']*["']\./([\w.-]+\.js)["']""", re.MULTILINE)

_IMMUTABLE_POLICY: Final = b"public, max-age=31536000, immutable"
REVALIDATED_POLICY: Final = b"no-cache"
"""Browsers ask at each use whether the file has changed."""
_ONE_DAY_POLICY: Final = b"public, max-age=86400"


class StaticFile(NamedTuple):
    """A file as it is served.

    Attributes:
        body: The content.
        content_type: The media type.
        etag: The ETag without its quotes.
        compressed: The content in the gzip format; ``None`` if that is not smaller.
    """

    body: bytes
    content_type: bytes
    etag: bytes
    compressed: bytes | None


def prepare_file(name: str, body: bytes) -> StaticFile:
    """Return a file as it is served."""
    suffix = PurePath(name).suffix
    compressed = compress_body(body, BEST_LEVEL) if suffix in _COMPRESSED_SUFFIXES else body
    etag = hashlib.sha256(body).hexdigest()[:16].encode()
    return StaticFile(body, _CONTENT_TYPES[suffix], etag, compressed if len(compressed) < len(body) else None)


STATIC_FILES: Final = {
    path.name: prepare_file(path.name, path.read_bytes())
    for path in sorted((Path(__file__).parent / "static").iterdir())
}
"""The static files by name."""

STATIC_DIGEST: Final = hashlib.sha256(
    b"".join(b"%s %s\n" % (name.encode(), file.etag) for name, file in STATIC_FILES.items())
).hexdigest()[:MAX_DIGEST_LENGTH]
"""The digest of all files, which stands in their URLs."""


@cache
def find_imports(name: str) -> tuple[str, ...]:
    """Return the modules that a module imports, directly or not, without the module."""
    found: list[str] = []
    pending = [name]
    while pending:
        text = STATIC_FILES[pending.pop(0)].body.decode()
        for imported in _IMPORT_PATTERN.findall(text):
            if imported != name and imported not in found:
                found.append(imported)
                pending.append(imported)
    return tuple(found)


async def get_immutable_file(request: Request) -> Response:
    """``GET /static/{digest}/{name}``. With another digest, from a page of another version, nothing may be kept."""
    is_current = request.path_params["digest"] == STATIC_DIGEST
    return _serve_file(request, request.path_params["name"], _IMMUTABLE_POLICY if is_current else REVALIDATED_POLICY)


async def get_static_file(request: Request) -> Response:
    """``GET /static/{name}``."""
    return _serve_file(request, request.path_params["name"], REVALIDATED_POLICY)


async def get_favicon(request: Request) -> Response:
    """``GET /favicon.ico``, for programs that do not read the page."""
    return _serve_file(request, "favicon.ico", _ONE_DAY_POLICY)


async def get_manifest(request: Request) -> Response:
    """``GET /manifest.webmanifest``, at the root: its URLs are relative to it."""
    return _serve_file(request, "manifest.webmanifest", REVALIDATED_POLICY)


async def get_service_worker(request: Request) -> Response:
    """``GET /sw.js``, at the root: a service worker controls only the paths below its own folder."""
    return _serve_file(request, "service_worker.js", REVALIDATED_POLICY)


def _serve_file(request: Request, name: str, cache_policy: bytes) -> Response:
    file = STATIC_FILES.get(name)
    if file is None:
        raise ProblemError("not-found", "there is no such file")
    return serve_file(request, file, cache_policy)


def serve_file(request: Request, file: StaticFile, cache_policy: bytes) -> Response:
    """Return a file, compressed for clients that accept that, or 304 if the client has it.

    Args:
        request: The request.
        file: The file.
        cache_policy: The ``Cache-Control`` of the response.
    """
    headers: list[Header] = [(b"cache-control", cache_policy)]
    body, etag, encoding = file.body, b'"%s"' % file.etag, None
    if file.compressed is not None:
        headers.append((b"vary", b"accept-encoding"))
        if accepts_gzip(request.headers.get(b"accept-encoding", b"")):
            body, etag, encoding = file.compressed, b'"%s-gzip"' % file.etag, b"gzip"
    headers.append((b"etag", etag))
    if request.matches_etag(etag):
        return Response(304, headers=tuple(headers))
    if encoding is not None:
        headers.append((b"content-encoding", encoding))
    return Response(200, body, file.content_type, tuple(headers))
