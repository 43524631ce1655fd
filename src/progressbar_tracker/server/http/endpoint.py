"""All methods of one path: the layer between ASGI and the routes.

It does what every route needs: identify and authorize the client, render problems, set headers, count and log.
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

from .compression import compress_response
from .request import SAFE_METHODS, Request
from .response import Response, problem_response, redirect, slice_body
from .return_path import build_sign_in_url

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
    b"worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
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
"""Headers of responses that do not set them."""
_CLOSE_HEADER: Final = (b"connection", b"close")

SEND_TIMEOUT: Final = 10.0
"""Seconds within which the client of a stream must read a sent chunk."""

ENDING_TIMEOUT: Final = 0.5
"""Seconds that a stream has to finish cleanly once its client is no longer authorized."""

PAGE_CHARGE_BYTES: Final = 512 * 1024
"""Charge of a page while it is rendered, in addition to its body if that is large."""

HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that accept any Host header."""

EXEMPT_PATHS: Final = HEALTH_PATHS | {"/login", "/auth/{token}"}
"""Paths that are exempt from the limit on unread bytes: health and sign-in. Their responses are small."""

_BODILESS_STATUSES: Final = frozenset({204, 304})
_HEADER_BREAK_PATTERN: Final = re.compile(rb"[\r\n\x00]")
"""Bytes that would end a header early."""


def _encode_headers(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


_ENCODED_DEFAULTS: Final = _encode_headers([*_SECURITY_HEADERS, *_DEFAULT_HEADERS])
"""Pre-encoded headers for responses that do not override :data:`_DEFAULT_HEADER_NAMES`."""
_DEFAULT_HEADER_NAMES: Final = frozenset(name for name, _ in _DEFAULT_HEADERS)
"""The headers that a response may override."""

ProblemRenderer: TypeAlias = "Callable[[Request, ProblemError], Response]"

_KNOWN_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER_LABEL: Final = "other"
"""Label for unknown methods and paths in metrics and in the log, to bound their cardinality."""


class Endpoint:
    """All methods of one path, as an ASGI application.

    Args:
        services: The services of the server.
        path: The path for metrics and the log: a template, as its parameters may be secrets.
        routes: The routes of the path; without any, every method is a 404.
        render_problem: Renders a problem as a page.
    """

    def __init__(self, services: Services, path: str, routes: Iterable[Route], render_problem: ProblemRenderer) -> None:
        self._services = services
        self._path = path
        self._routes = {route.method: route for route in routes}
        has_pages = not self._routes or any(route.is_page for route in self._routes.values())
        self._render_problem = render_problem if has_pages else _render_json_problem
        if "GET" in self._routes:
            self._routes.setdefault("HEAD", self._routes["GET"])
        self._allowed_methods = tuple(sorted(self._routes))
        # Complete in advance, so that a request looks its method up and nothing else.
        self._route_stats = {
            method: services.request_metrics.stats_of(method, path) for method in (*_KNOWN_METHODS, OTHER_LABEL)
        }
        self._is_access_logged = services.settings.access_log
        self._is_health = path in HEALTH_PATHS
        self._is_exempt = path in EXEMPT_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started_at = time.perf_counter()
        request = Request(self._services, scope, receive)
        REQUEST_ID.set(request.id)
        try:
            response = await self._build_response(request)
            seconds = time.perf_counter() - started_at
            (self._route_stats.get(scope["method"]) or self._route_stats[OTHER_LABEL]).record(response.status, seconds)
            if self._is_access_logged:
                self._log_access(request, response.status, seconds)
            if response.stream is not None and scope["method"] != "HEAD":
                await _send_stream(request, response, response.stream, receive, send)
            elif len(response.body) > CHUNK_BYTES and scope["method"] != "HEAD":
                await _send_stream(request, response, slice_body(response.body), receive, send)
            elif not _try_send_full(request, response):
                await _send_response(request, send, response)
        finally:
            if request.cleanups is not None:
                for cleanup in request.cleanups:
                    cleanup()

    async def _build_response(self, request: Request) -> Response:
        scope = request.scope
        route = self._routes.get(scope["method"])
        try:
            request.validate_head(any_host=self._is_health)
            if route is None:
                if not self._routes:
                    raise ProblemError("not-found", "there is nothing at this path")
                raise ProblemError(
                    "method-not-allowed", f"{scope['method']} does not fit this path", allow=self._allowed_methods
                )
            if route.action != "public":
                if self._services.cluster is None:
                    request.identify()
                else:
                    await _identify_in_cluster(request)
                if self._services.rate_limiter is not None and request.optional_principal is not None:
                    request.apply_rate_limit(self._services.rate_limiter)
                authorize(request.optional_principal, route.action)
                request.action = route.action
                if route.action == "manage" and route.method not in SAFE_METHODS:
                    await request.authorize_with_stored()
            if route.method in SAFE_METHODS and not self._is_exempt:
                response = await self._run_read_route(request, route)
            else:
                response = await route.function(request)
        except ProblemError as problem:
            if route is not None and route.is_page and problem.code == "unauthorized":
                return redirect(build_sign_in_url(scope))
            return self._render_problem(request, problem)
        except asyncio.CancelledError:
            if not self._services.is_stopping:
                raise
            # Cancelled by the shutdown, while it waited for the rest of a body or for the disk.
            return self._render_problem(request, ProblemError("unavailable", "the server is stopping", retry_after=1))
        except Exception:
            # Log the template: the path itself may contain a sign-in token.
            logger.exception("%s %s failed", scope["method"], self._path)
            return self._render_problem(request, ProblemError("internal-error", "the server failed; its log says why"))
        else:
            return response

    async def _run_read_route(self, request: Request, route: Route) -> Response:
        """Run a route that reads, unless the client leaves too many bytes unread."""
        budget = self._services.budget
        if budget.held_bytes:
            budget.admit(request.holder)
        if route.is_page:
            request.reserve(PAGE_CHARGE_BYTES)
        response = await route.function(request)
        request.reauthorize()  # the route may have waited for the store
        if len(response.body) > CHUNK_BYTES:
            request.reserve(len(response.body))
        return compress_response(request, response) if route.is_compressible else response

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
    """Identify the client; if its credential is unknown, reload the credentials that another server may have stored."""
    try:
        request.identify()
        is_known = request.optional_principal is not None and (
            request.optional_principal.id != GUEST_ID or request.get_session_cookie() is None
        )
    except ProblemError as problem:
        if problem.code != "unauthorized":
            raise
        is_known = False
    if not is_known and (
        request.get_session_cookie() is not None or request.headers.keys() & {b"x-api-key", b"authorization"}
    ):
        await request.services.reload_credentials()
        request.identify()


def _render_json_problem(_: Request, problem: ProblemError) -> Response:
    return problem_response(problem)


def _build_headers(request: Request, response: Response) -> list[Header]:
    """Return the default headers, and the response's own ones, which override them."""
    own_names = {name for name, _ in response.headers}
    defaults = [header for header in _DEFAULT_HEADERS if header[0] not in own_names] if own_names else _DEFAULT_HEADERS
    return [*_SECURITY_HEADERS, (b"x-request-id", request.id), *request.quota_headers, *response.headers, *defaults]


def _try_send_full(request: Request, response: Response) -> bool:
    """Send a response in one piece through the extension; return ``False`` if it has to go through ASGI."""
    if response.status in _BODILESS_STATUSES or request.scope["method"] == "HEAD" or request.services.is_draining:
        return False
    connection = _get_connection(request)
    if connection is None:
        return False
    headers = response.headers
    if not headers and not request.quota_headers:
        prefix = b"%bx-request-id: %b\r\n" % (_ENCODED_DEFAULTS, request.id)  # an update of an item
    elif any(_HEADER_BREAK_PATTERN.search(value) for _, value in headers):
        return False
    elif _DEFAULT_HEADER_NAMES.isdisjoint([name for name, _ in headers]):
        prefix = b"%b%bx-request-id: %b\r\n" % (
            _ENCODED_DEFAULTS,
            _encode_headers((*request.quota_headers, *headers)),
            request.id,
        )
    else:
        prefix = _encode_headers(_build_headers(request, response))
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (prefix, response.content_type, len(response.body))
    return connection.send_response(response.status, head, response.body, request.holder)


def _get_connection(request: Request) -> ResponseSender | None:
    extension = request.scope.get("extensions", {}).get(CONNECTION_EXTENSION)
    return None if extension is None else extension["connection"]


async def _send_response(request: Request, send: Send, response: Response) -> None:
    headers = _build_headers(request, response)
    if response.status not in _BODILESS_STATUSES:
        headers.append((b"content-type", response.content_type))
        if response.stream is None:  # else this answers HEAD, and the length of the stream is unknown
            headers.append((b"content-length", b"%d" % len(response.body)))
    if request.services.is_draining:
        headers.append(_CLOSE_HEADER)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.scope["method"] == "HEAD" else response.body})


async def _send_stream(
    request: Request, response: Response, stream: AsyncGenerator[bytes], receive: Receive, send: Send
) -> None:
    """Send a stream until it ends, its client disconnects, or reads nothing for :data:`SEND_TIMEOUT` seconds.

    The stream of a safe method also ends within a second after its client's credential has ended.
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
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    async def wait_for_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def send_chunks() -> None:
        async for chunk in stream:
            async with asyncio.timeout(SEND_TIMEOUT):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # Serialize the next chunk only when the socket has taken this one.
                if connection is not None:
                    await connection.drain()
            if len(chunk) >= CHUNK_BYTES // 2:
                await asyncio.sleep(0)  # let other tasks run
        await send({"type": "http.response.body", "body": b""})

    tasks = [asyncio.create_task(wait_for_disconnect()), asyncio.create_task(send_chunks())]
    watch = (
        request.services.responses.track(request.credential, request.is_still_authorized, end)
        if request.scope["method"] in SAFE_METHODS
        else contextlib.nullcontext()
    )
    try:
        with watch:
            await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and response.content_type.startswith(b"text/event-stream"):
                request.services.hub.wake()
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=ENDING_TIMEOUT)
    finally:
        is_complete = tasks[1].done()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, TimeoutError):
                is_complete = False
            elif isinstance(result, Exception):
                logger.error("a stream failed", exc_info=result)
        await stream.aclose()
        if connection is not None and not is_complete and not request.services.is_stopping:
            connection.abort()
