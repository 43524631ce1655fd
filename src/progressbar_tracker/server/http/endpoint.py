"""All methods of one path: the thin layer between ASGI and the routes.

Everything that is true of every route is here: who asks, whether they may, how an error is told, what is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from typing import TYPE_CHECKING, Final, TypeAlias

from progressbar_tracker.server.access.authorization import GUEST_ID, authorize
from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.http.extension import CONNECTION_EXTENSION
from progressbar_tracker.server.logs import ACCESS_LOGGER, REQUEST_ID
from progressbar_tracker.server.problems import ProblemError

from .request import SAFE_METHODS, Request
from .response import Response, problem_response, redirect, relative_root, slice_body

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from progressbar_tracker.server.http.extension import ResponseSender
    from progressbar_tracker.server.services import Services

    from .response import Header
    from .route import Route

logger = logging.getLogger("progressbar_tracker.server")
_access_logger = logging.getLogger(ACCESS_LOGGER)

_CONTENT_SECURITY_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
_SECURITY_HEADERS: Final = [
    (b"content-security-policy", _CONTENT_SECURITY_POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_DEFAULT_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What holds for answers that do not say otherwise."""
_CLOSE_HEADER: Final = (b"connection", b"close")

SEND_TIMEOUT: Final = 10.0
"""Seconds in which the reader of a stream has to take what it is sent."""

ENDING_TIMEOUT: Final = 0.5
"""Seconds in which a stream may end in good order once its client is no longer authorized."""

PAGE_CHARGE_BYTES: Final = 512 * 1024
"""What a page is charged with while it is made, beside its body if that is large."""

HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""What is answered under any name."""

EXEMPT_PATHS: Final = HEALTH_PATHS | {"/login", "/auth/{token}"}
"""What is read whatever else clients leave unread: health, and what signs a browser in. Their answers are small."""

_BODILESS_STATUSES: Final = frozenset({204, 304})
_HEADER_BREAK_PATTERN: Final = re.compile(rb"[\r\n\x00]")
"""What ends a header before its end."""


def _encode_headers(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


_ENCODED_DEFAULTS: Final = _encode_headers([*_SECURITY_HEADERS, *_DEFAULT_HEADERS])
"""What the head of an answer begins with that says nothing of :data:`_DEFAULT_HEADER_NAMES` itself."""
_DEFAULT_HEADER_NAMES: Final = frozenset(name for name, _ in _DEFAULT_HEADERS)
"""The headers of which an answer may say so itself."""

ProblemRenderer: TypeAlias = "Callable[[Scope, ProblemError], Response]"

_KNOWN_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER_LABEL: Final = "other"
"""What stands for a method or a path that is none of ours, in metrics and in the log: nobody shall fill them."""


class Endpoint:
    """All methods of one path, as an ASGI application.

    Args:
        services: What the server consists of.
        path: The path as it is counted and logged: a template, for what stands in its places may be a secret.
        rows: Those of the path; without any, nothing is there.
        refused: Tells a problem on a page.
    """

    def __init__(self, services: Services, path: str, routes: Iterable[Route], render_problem: ProblemRenderer) -> None:
        self._services = services
        self._path = path
        self._routes = {row.method: row for row in routes}
        pages = not self._routes or any(row.is_page for row in self._routes.values())
        self._render_problem = render_problem if pages else _render_json_problem
        if "GET" in self._routes:
            self._routes.setdefault("HEAD", self._routes["GET"])
        self._allowed_methods = tuple(sorted(self._routes))
        # Found by the method alone when a request comes.
        self._route_stats = {
            method: services.request_metrics.stats_of(method, path) for method in (*_KNOWN_METHODS, OTHER_LABEL)
        }
        self._is_access_logged = services.settings.access_log
        self._is_health = path in HEALTH_PATHS
        self._is_exempt = path in EXEMPT_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        call = Request(self._services, scope, receive)
        REQUEST_ID.set(call.id)
        try:
            reply = await self._build_response(call)
            seconds = time.perf_counter() - begun
            (self._route_stats.get(scope["method"]) or self._route_stats[OTHER_LABEL]).record(reply.status, seconds)
            if self._is_access_logged:
                self._log_access(call, reply.status, seconds)
            if reply.stream is not None and scope["method"] != "HEAD":
                await _send_stream(call, reply, reply.stream, receive, send)
            elif len(reply.body) > CHUNK_BYTES and scope["method"] != "HEAD":
                await _send_stream(call, reply, slice_body(reply.body), receive, send)
            elif not _try_send_full(call, reply):
                await _send_response(call, send, reply)
        finally:
            if call.cleanups is not None:
                for end in call.cleanups:
                    end()

    async def _build_response(self, request: Request) -> Response:
        scope = request.scope
        row = self._routes.get(scope["method"])
        try:
            request.validate_head(any_host=self._is_health)
            if row is None:
                if not self._routes:
                    raise ProblemError("not-found", "there is nothing at this path")
                raise ProblemError(
                    "method-not-allowed", f"{scope['method']} does not fit this path", allow=self._allowed_methods
                )
            if row.action != "public":
                if self._services.cluster is None:
                    request.identify()
                else:
                    await _identify_in_cluster(request)
                if self._services.rate_limiter is not None and request.optional_principal is not None:
                    request.apply_rate_limit(self._services.rate_limiter)
                authorize(request.optional_principal, row.action)
                request.action = row.action
                if row.action == "manage" and row.method not in SAFE_METHODS:
                    await request.authorize_with_stored()
            if row.method in SAFE_METHODS and not self._is_exempt:
                reply = await self._run_read_route(request, row)
            else:
                reply = await row.function(request)
        except ProblemError as problem:
            if row is not None and row.is_page and problem.code == "unauthorized":
                return redirect(f"{relative_root(scope)}login")
            return self._render_problem(scope, problem)
        except asyncio.CancelledError:
            if not self._services.is_stopping:
                raise
            # The server waits no longer: for the rest of a body, or for the disk.
            return self._render_problem(scope, ProblemError("unavailable", "the server is stopping", retry_after=1))
        except Exception:
            # The path itself may hold a sign-in token.
            logger.exception("%s %s failed", scope["method"], self._path)
            return self._render_problem(scope, ProblemError("internal-error", "the server failed; its log says why"))
        else:
            return reply

    async def _run_read_route(self, request: Request, route: Route) -> Response:
        """Return what a client reads, if it reads what it was sent before."""
        budget = self._services.budget
        if budget.held_bytes:
            budget.admit(request.holder)
        if route.is_page:
            request.reserve(PAGE_CHARGE_BYTES)
        reply = await route.function(request)
        request.reauthorize()  # the route may have waited for the store
        if len(reply.body) > CHUNK_BYTES:
            request.reserve(len(reply.body))
        return reply

    def _log_access(self, request: Request, status: int, seconds: float) -> None:
        method = request.scope["method"]
        fields = {
            "method": method if method in self._route_stats else OTHER_LABEL,
            "route": self._path,
            "status": status,
            "ms": round(seconds * 1000, 3),
            "key_id": None if request.optional_principal is None else request.optional_principal.id,
        }
        _access_logger.info("request", extra={"fields": fields})


async def _identify_in_cluster(request: Request) -> None:
    """Find out who asks; where that is nobody known, after a look whether another server has let them in."""
    try:
        request.identify()
        known = request.optional_principal is not None and (
            request.optional_principal.id != GUEST_ID or request.get_session_cookie() is None
        )
    except ProblemError as problem:
        if problem.code != "unauthorized":
            raise
        known = False
    if not known and (
        request.get_session_cookie() is not None or request.headers.keys() & {b"x-api-key", b"authorization"}
    ):
        await request.services.reload_credentials()
        request.identify()


def _render_json_problem(_: Scope, problem: ProblemError) -> Response:
    return problem_response(problem)


def _build_headers(request: Request, response: Response) -> list[Header]:
    """Return the headers that every answer has, and those of its own."""
    own = {name for name, _ in response.headers}
    usual = [header for header in _DEFAULT_HEADERS if header[0] not in own] if own else _DEFAULT_HEADERS
    return [*_SECURITY_HEADERS, (b"x-request-id", request.id), *request.quota_headers, *response.headers, *usual]


def _try_send_full(request: Request, response: Response) -> bool:
    """Send an answer in one piece, if it has a body, and its own headers nothing that wants a look: nearly all."""
    if response.status in _BODILESS_STATUSES or request.scope["method"] == "HEAD" or request.services.is_stopping:
        return False
    connection = _get_connection(request)
    if connection is None:
        return False
    own = response.headers
    if not own and not request.quota_headers:
        begin = b"%bx-request-id: %b\r\n" % (_ENCODED_DEFAULTS, request.id)  # an update's
    elif any(_HEADER_BREAK_PATTERN.search(value) for _, value in own):
        return False
    elif _DEFAULT_HEADER_NAMES.isdisjoint([name for name, _ in own]):
        begin = b"%b%bx-request-id: %b\r\n" % (
            _ENCODED_DEFAULTS,
            _encode_headers((*request.quota_headers, *own)),
            request.id,
        )
    else:
        begin = _encode_headers(_build_headers(request, response))
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (begin, response.content_type, len(response.body))
    return connection.send_response(response.status, head, response.body, request.holder)


def _get_connection(request: Request) -> ResponseSender | None:
    extension = request.scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    return None if extension is None else extension["connection"]


async def _send_response(request: Request, send: Send, response: Response) -> None:
    """Send an answer, with the headers that every answer has."""
    headers = _build_headers(request, response)
    if response.status not in _BODILESS_STATUSES:
        headers.append((b"content-type", response.content_type))
        headers.append((b"content-length", b"%d" % len(response.body)))
    if request.services.is_stopping:
        headers.append(_CLOSE_HEADER)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.scope["method"] == "HEAD" else response.body})


async def _send_stream(
    request: Request, response: Response, stream: AsyncGenerator[bytes], receive: Receive, send: Send
) -> None:
    """Send a stream until it ends, its reader leaves, or reads nothing for :data:`SEND_TIMEOUT` seconds.

    What only shows something also ends within a second of its client's credential.
    """
    connection = _get_connection(request)
    headers = [*_build_headers(request, response), (b"content-type", response.content_type)]
    if response.stream is None:
        headers.append((b"content-length", b"%d" % len(response.body)))
    elif connection is not None and request.scope["http_version"] == "1.0":
        connection.send_until_close()
    if connection is not None:
        connection.holder = request.holder
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def pump() -> None:
        async for chunk in stream:
            async with asyncio.timeout(SEND_TIMEOUT):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # What comes next is not even serialized before this is on its way.
                if connection is not None:
                    await connection.drain()
            if len(chunk) >= CHUNK_BYTES // 2:
                await asyncio.sleep(0)  # others have their turns
        await send({"type": "http.response.body", "body": b""})

    tasks = [asyncio.create_task(left()), asyncio.create_task(pump())]
    is_read = request.scope["method"] in SAFE_METHODS
    watch = (
        request.services.responses.track(request.credential, request.is_still_authorized, end)
        if is_read
        else contextlib.nullcontext()
    )
    try:
        with watch:
            await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
            if over.done() and response.content_type.startswith(b"text/event-stream"):
                request.services.hub.wake()
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=ENDING_TIMEOUT)
    finally:
        completed = tasks[1].done()
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, TimeoutError):
                completed = False
            elif isinstance(done, Exception):
                logger.error("a stream failed", exc_info=done)
        await stream.aclose()
        if connection is not None and not completed and not request.services.is_stopping:
            connection.abort()
