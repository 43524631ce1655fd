"""The responses that routes return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from progressbar_tracker.server.budget import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from starlette.types import Scope

    from progressbar_tracker.server.problems import ProblemError

    from .request import Request

JSON_CONTENT_TYPE: Final = b"application/json"
encode_json = msgspec.json.Encoder().encode

_WWW_AUTHENTICATE: Final = (b"www-authenticate", b'ApiKey realm="progressbar-tracker", header="X-API-KEY"')

Header: TypeAlias = tuple[bytes, bytes]


class Response(msgspec.Struct, frozen=True):
    """A response. With a stream, the body is what the stream yields until it ends."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON_CONTENT_TYPE
    headers: tuple[Header, ...] = ()
    stream: AsyncGenerator[bytes] | None = None


def json_response(document: object, status: int = 200, headers: Iterable[Header] = ()) -> Response:
    """Serialize a document as JSON."""
    return Response(status, encode_json(document), headers=tuple(headers))


def json_stream_response(request: Request, pieces: Iterator[bytes], headers: Iterable[Header] = ()) -> Response:
    """Return a JSON response whose pieces are serialized as the client reads them.

    Args:
        request: The request, whose client is charged with the buffered bytes.
        pieces: The parts of the body, at least one. Only a large response has more than one.
        headers: The headers of the response.

    Raises:
        ProblemError: ``too-many-bytes``.
    """
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        return Response(200, first, headers=tuple(headers))
    request.reserve(2 * CHUNK_BYTES)
    return Response(200, headers=tuple(headers), stream=_chain_pieces(first, second, pieces))


async def _chain_pieces(first: bytes, second: bytes, rest: Iterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    yield second
    for piece in rest:
        yield piece


async def slice_body(body: bytes) -> AsyncGenerator[bytes]:
    """Yield a body in chunks of ``CHUNK_BYTES``."""
    view = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


def problem_response(problem: ProblemError) -> Response:
    """Return a problem as ``application/problem+json``."""
    headers: list[Header] = []
    if problem.code == "unauthorized":
        headers.append(_WWW_AUTHENTICATE)
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after))
    if problem.quota is not None:
        headers += problem.quota.headers()
    if problem.allow:
        headers.append((b"allow", ", ".join(problem.allow).encode()))
    return Response(problem.status, encode_json(problem.document()), b"application/problem+json", tuple(headers))


def redirect(location: str, headers: Iterable[Header] = ()) -> Response:
    """Redirect a browser to a URL relative to the requested one."""
    return Response(303, b"", b"text/plain", ((b"location", location.encode()), *headers))


def relative_root(scope: Scope) -> str:
    """Return the relative URL from the requested path to the root; it is valid under any base path and proxy."""
    path: str = scope["path"]
    return "../" * (path.count("/") - 1)
