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

from progressbar_tracker.server.access.authorization import GUEST, authorize
from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.http.extension import CONNECTION
from progressbar_tracker.server.logs import ACCESS, REQUEST
from progressbar_tracker.server.problems import ProblemError

from .request import SAFE_METHODS, Call
from .response import Reply, redirect, refusal, slices, up

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from progressbar_tracker.server.http.extension import Sending
    from progressbar_tracker.server.services import Services

    from .response import Header
    from .route import Row

logger = logging.getLogger("progressbar_tracker.server")
_access = logging.getLogger(ACCESS)

_CSP: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
_ALWAYS: Final = [
    (b"content-security-policy", _CSP),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_USUALLY: Final = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What holds for answers that do not say otherwise."""
_CLOSE: Final = (b"connection", b"close")

SEND: Final = 10.0
"""Seconds in which the reader of a stream has to take what it is sent."""

ENDING_TIMEOUT: Final = 0.5
"""Seconds in which a stream may end in good order once its client is no longer authorized."""

PAGE_BYTES: Final = 512 * 1024
"""What a page is charged with while it is made, beside its body if that is large."""

HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""What is answered under any name."""

EXEMPT_PATHS: Final = HEALTH_PATHS | {"/login", "/auth/{token}"}
"""What is read whatever else clients leave unread: health, and what signs a browser in. Their answers are small."""

_BODILESS: Final = frozenset({204, 304})
_BREAKING: Final = re.compile(rb"[\r\n\x00]")
"""What ends a header before its end."""


def _joined(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


_PLAIN: Final = _joined([*_ALWAYS, *_USUALLY])
"""What the head of an answer begins with that says nothing of :data:`_NAMES` itself."""
_NAMES: Final = frozenset(name for name, _ in _USUALLY)
"""The headers of which an answer may say so itself."""

Refusing: TypeAlias = "Callable[[Scope, ProblemError], Reply]"

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER: Final = "other"
"""What stands for a method or a path that is none of ours, in metrics and in the log: nobody shall fill them."""


class Endpoint:
    """All methods of one path, as an ASGI application.

    Args:
        services: What the server consists of.
        path: The path as it is counted and logged: a template, for what stands in its places may be a secret.
        rows: Those of the path; without any, nothing is there.
        refused: Tells a problem on a page.
    """

    def __init__(self, services: Services, path: str, rows: Iterable[Row], refused: Refusing) -> None:
        self._services = services
        self._path = path
        self._rows = {row.method: row for row in rows}
        pages = not self._rows or any(row.page for row in self._rows.values())
        self._refused = refused if pages else _refused
        if "GET" in self._rows:
            self._rows.setdefault("HEAD", self._rows["GET"])
        self._allow = tuple(sorted(self._rows))
        # Found by the method alone when a request comes.
        self._answers = {method: services.measures.of(method, path) for method in (*_METHODS, OTHER)}
        self._access = services.settings.access_log
        self._is_health = path in HEALTH_PATHS
        self._is_exempt = path in EXEMPT_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        call = Call(self._services, scope, receive)
        REQUEST.set(call.id)
        try:
            reply = await self._reply(call)
            seconds = time.perf_counter() - begun
            (self._answers.get(scope["method"]) or self._answers[OTHER]).note(reply.status, seconds)
            if self._access:
                self._log(call, reply.status, seconds)
            if reply.stream is not None and scope["method"] != "HEAD":
                await _stream(call, reply, reply.stream, receive, send)
            elif len(reply.body) > CHUNK_BYTES and scope["method"] != "HEAD":
                await _stream(call, reply, slices(reply.body), receive, send)
            elif not _sent_whole(call, reply):
                await _respond(call, send, reply)
        finally:
            if call.at_end is not None:
                for end in call.at_end:
                    end()

    async def _reply(self, call: Call) -> Reply:
        scope = call.scope
        row = self._rows.get(scope["method"])
        try:
            call.check(any_host=self._is_health)
            if row is None:
                if not self._rows:
                    raise ProblemError("not-found", "there is nothing at this path")
                raise ProblemError("method-not-allowed", f"{scope['method']} does not fit this path", allow=self._allow)
            if row.action != "public":
                if self._services.replica is None:
                    call.identify()
                else:
                    await _identify_anywhere(call)
                if self._services.allowance is not None and call.principal is not None:
                    call.count(self._services.allowance)
                authorize(call.principal, row.action)
                call.action = row.action
                if row.action == "manage" and row.method not in SAFE_METHODS:
                    await call.authorize_with_stored()
            if row.method in SAFE_METHODS and not self._is_exempt:
                reply = await self._read(call, row)
            else:
                reply = await row.route(call)
        except ProblemError as problem:
            if row is not None and row.page and problem.code == "unauthorized":
                return redirect(f"{up(scope)}login")
            return self._refused(scope, problem)
        except asyncio.CancelledError:
            if not self._services.stopping:
                raise
            # The server waits no longer: for the rest of a body, or for the disk.
            return self._refused(scope, ProblemError("unavailable", "the server is stopping", retry_after=1))
        except Exception:
            # The path itself may hold a sign-in token.
            logger.exception("%s %s failed", scope["method"], self._path)
            return self._refused(scope, ProblemError("internal", "the server failed; its log says why"))
        else:
            return reply

    async def _read(self, call: Call, row: Row) -> Reply:
        """Return what a client reads, if it reads what it was sent before."""
        budget = self._services.budget
        if budget.held_bytes:
            budget.admit(call.holder)
        if row.page:
            call.reserve(PAGE_BYTES)
        reply = await row.route(call)
        call.reauthorize()  # the route may have waited for the store
        if len(reply.body) > CHUNK_BYTES:
            call.reserve(len(reply.body))
        return reply

    def _log(self, call: Call, status: int, seconds: float) -> None:
        method = call.scope["method"]
        fields = {
            "method": method if method in self._answers else OTHER,
            "route": self._path,
            "status": status,
            "ms": round(seconds * 1000, 3),
            "key_id": None if call.principal is None else call.principal.id,
        }
        _access.info("request", extra={"fields": fields})


async def _identify_anywhere(call: Call) -> None:
    """Find out who asks; where that is nobody known, after a look whether another server has let them in."""
    try:
        call.identify()
        known = call.principal is not None and (call.principal.id != GUEST or call.cookie() is None)
    except ProblemError as problem:
        if problem.code != "unauthorized":
            raise
        known = False
    if not known and (call.cookie() is not None or call.headers.keys() & {b"x-api-key", b"authorization"}):
        await call.services.look_again()
        call.identify()


def _refused(_: Scope, problem: ProblemError) -> Reply:
    return refusal(problem)


def _headers(call: Call, reply: Reply) -> list[Header]:
    """Return the headers that every answer has, and those of its own."""
    own = {name for name, _ in reply.headers}
    usual = [header for header in _USUALLY if header[0] not in own] if own else _USUALLY
    return [*_ALWAYS, (b"x-request-id", call.id), *call.left, *reply.headers, *usual]


def _sent_whole(call: Call, reply: Reply) -> bool:
    """Send an answer in one piece, if it has a body, and its own headers nothing that wants a look: nearly all."""
    if reply.status in _BODILESS or call.scope["method"] == "HEAD" or call.services.stopping:
        return False
    connection = _connection(call)
    if connection is None:
        return False
    own = reply.headers
    if not own and not call.left:
        begin = b"%bx-request-id: %b\r\n" % (_PLAIN, call.id)  # an update's
    elif any(_BREAKING.search(value) for _, value in own):
        return False
    elif _NAMES.isdisjoint([name for name, _ in own]):
        begin = b"%b%bx-request-id: %b\r\n" % (_PLAIN, _joined((*call.left, *own)), call.id)
    else:
        begin = _joined(_headers(call, reply))
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (begin, reply.type, len(reply.body))
    return connection.send_whole(reply.status, head, reply.body, call.holder)


def _connection(call: Call) -> Sending | None:
    extension = call.scope.get("extensions", {}).get(CONNECTION)
    return None if extension is None else extension["connection"]


async def _respond(call: Call, send: Send, reply: Reply) -> None:
    """Send an answer, with the headers that every answer has."""
    headers = _headers(call, reply)
    if reply.status not in _BODILESS:
        headers.append((b"content-type", reply.type))
        headers.append((b"content-length", b"%d" % len(reply.body)))
    if call.services.stopping:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if call.scope["method"] == "HEAD" else reply.body})


async def _stream(call: Call, reply: Reply, stream: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
    """Send a stream until it ends, its reader leaves, or reads nothing for :data:`SEND` seconds.

    What only shows something also ends within a second of its client's credential.
    """
    connection = _connection(call)
    headers = [*_headers(call, reply), (b"content-type", reply.type)]
    if reply.stream is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
    elif connection is not None and call.scope["http_version"] == "1.0":
        connection.send_until_close()
    if connection is not None:
        connection.holder = call.holder
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def pump() -> None:
        async for chunk in stream:
            async with asyncio.timeout(SEND):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # What comes next is not even serialized before this is on its way.
                if connection is not None:
                    await connection.drain()
            if len(chunk) >= CHUNK_BYTES // 2:
                await asyncio.sleep(0)  # others have their turns
        await send({"type": "http.response.body", "body": b""})

    tasks = [asyncio.create_task(left()), asyncio.create_task(pump())]
    is_read = call.scope["method"] in SAFE_METHODS
    watch = (
        call.services.responses.sending(call.credential, call.may_go_on, end) if is_read else contextlib.nullcontext()
    )
    try:
        with watch:
            await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
            if over.done() and reply.type.startswith(b"text/event-stream"):
                call.services.hub.ring()
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
        if connection is not None and not completed and not call.services.stopping:
            connection.abort()
