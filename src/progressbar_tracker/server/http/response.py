"""An answer, as the routes make it."""

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
    """An answer. One that is a stream has no body but what the stream yields, until it ends."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON_CONTENT_TYPE
    headers: tuple[Header, ...] = ()
    stream: AsyncGenerator[bytes] | None = None


def json_response(document: object, status: int = 200, headers: Iterable[Header] = ()) -> Response:
    """Return an answer in JSON."""
    return Response(status, encode_json(document), headers=tuple(headers))


def json_stream_response(request: Request, pieces: Iterator[bytes], headers: Iterable[Header] = ()) -> Response:
    """Return an answer in JSON whose pieces are serialized as the client reads them.

    Args:
        request: The request; what the answer takes is charged to its client.
        pieces: The parts of the answer, at least one; a second one is there only if the answer is large.
        headers: Its headers.

    Raises:
        ProblemError: ``too-many-bytes``.
    """
    first = next(pieces)
    second = next(pieces, None)
    if second is None:
        return Response(200, first, headers=tuple(headers))
    request.reserve(2 * CHUNK_BYTES)
    return Response(200, headers=tuple(headers), stream=_chain_pieces(first, second, pieces))


async def _chain_pieces(first: bytes, second: bytes, others: Iterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    yield second
    for piece in others:
        yield piece


async def slice_body(body: bytes) -> AsyncGenerator[bytes]:
    """Yield a body in parts that are sent one by one."""
    view = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


def problem_response(problem: ProblemError) -> Response:
    """Return a problem as an answer."""
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
    """Send a browser on to a URL relative to the one it asked for."""
    return Response(303, b"", b"text/plain", ((b"location", location.encode()), *headers))


def relative_root(scope: Scope) -> str:
    """Return the way from the path that is asked for to the root, as a relative URL.

    It holds under any base path and behind any proxy.
    """
    path: str = scope["path"]
    return "../" * (path.count("/") - 1)
