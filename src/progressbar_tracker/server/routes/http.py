"""A request and its answer, as the routes see them: the thin layer over ASGI.

Everything that is true of every route is here: who asks, whether they may, how much body is read, how an error is told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from progressbar_tracker._models import BODY_BYTES, FieldError, check_id, check_text
from progressbar_tracker.server.auth import GUEST, Action, Principal, authorize
from progressbar_tracker.server.extension import WHOLE
from progressbar_tracker.server.logs import ACCESS, REQUEST, bits, request_id
from progressbar_tracker.server.problems import ProblemError, missing, of_field
from progressbar_tracker.server.sessions import COOKIE, same_site

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from progressbar_tracker.server.allowance import Allowance
    from progressbar_tracker.server.extension import SendWhole

    from .contract import About
    from .services import Services

logger = logging.getLogger("progressbar_tracker.server")
_access = logging.getLogger(ACCESS)

_JSON: Final = b"application/json"
_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode

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
_WWW_AUTHENTICATE: Final = (b"www-authenticate", b'ApiKey realm="progressbar-tracker", header="X-API-KEY"')

TEXT_LENGTH: Final = 200
"""The most characters of a text that a query looks for."""

SEND: Final = 10.0
"""Seconds in which the reader of a stream has to take what it is sent."""

_BODILESS: Final = frozenset({204, 304})
_SAFE: Final = frozenset({"GET", "HEAD"})
_ONCE: Final = (
    b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization", b"content-type", b"content-encoding",
    b"transfer-encoding",
)  # fmt: skip
"""The headers by which something is decided: a proxy that reads the first and we the last might decide differently."""
_BREAKING: Final = re.compile(rb"[\r\n\x00]")
"""What ends a header before its end."""
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

Header: TypeAlias = tuple[bytes, bytes]


def _joined(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


_PLAIN: Final = _joined([*_ALWAYS, *_USUALLY])
"""What the head of an answer begins with that has no headers of its own."""


class Reply(msgspec.Struct, frozen=True):
    """An answer. One that is a stream has no body but what the stream yields, until it ends."""

    status: int = 200
    body: bytes = b""
    type: bytes = _JSON
    headers: tuple[Header, ...] = ()
    stream: AsyncGenerator[bytes] | None = None


def answer(document: object, status: int = 200, headers: Iterable[Header] = ()) -> Reply:
    """Return an answer in JSON."""
    return Reply(status, encode(document), headers=tuple(headers))


class Call:
    """One request.

    Attributes:
        services: What the server consists of.
        headers: Lower-case names to values; of a repeated one, the last.
        id: What the request is called in the log and in its answer.
        principal: Who asks; ``None`` on public routes.
        left: What is left of the requests of who asks, as headers, where they are counted.
        path: The parts of the path that vary, not yet decoded.
    """

    __slots__ = ("_receive", "headers", "id", "left", "path", "principal", "scope", "services")

    def __init__(self, services: Services, scope: Scope, receive: Receive) -> None:
        self.services = services
        self.scope = scope
        self._receive = receive
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id")
        self.id = b"%016x" % bits(64) if given is None else request_id(given)
        self.principal: Principal | None = None
        self.left: tuple[Header, ...] = ()
        self.path: Mapping[str, str] = scope.get("path_params", {})

    @property
    def asker(self) -> Principal:
        """Who asks, on a route that is not public."""
        assert self.principal is not None
        return self.principal

    @property
    def address(self) -> str:
        """The address of the other end of the connection. No header is believed here."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def secure(self) -> bool:
        """Whether a browser came by TLS, by its own word or a proxy's: a lie about that harms who tells it."""
        return (
            self.scope["scheme"] == "https"
            or self.headers.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower() == b"https"
            or self.headers.get(b"origin", b"").startswith(b"https://")
        )

    def check(self) -> None:
        """Return if the head of the request is in order.

        Raises:
            ProblemError: ``bad-request``.
        """
        if len(self.scope["headers"]) != len(self.headers):
            names = [name for name, _ in self.scope["headers"]]
            for name in _ONCE:
                if names.count(name) > 1:
                    raise ProblemError("bad-request", f"the request has more than one {name.decode()} header")

    def item_id(self) -> str:
        """Return the id in the path.

        Raises:
            ProblemError: ``bad-request`` for broken escapes, ``invalid-field`` for what is no id.
        """
        return checked_id(decoded(self.path["id"].encode("latin-1")))

    def query(self) -> dict[str, str]:
        """Return the query; of a repeated name, the last.

        Raises:
            ProblemError: ``bad-request``.
        """
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        if _BROKEN_ESCAPE.search(raw):
            raise ProblemError("bad-request", "the query has a % that is not followed by two hex digits")
        try:
            return dict(parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=50))
        except ValueError:
            raise ProblemError("bad-request", "the query is not valid percent-encoded UTF-8") from None

    async def read(self, limit: int) -> bytes:
        """Return the body.

        Raises:
            ProblemError: ``body-too-large``; no more than the limit is ever held. ``unsupported-media-type`` or
                ``bad-request`` for what is compressed.
        """
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise ProblemError("bad-request", "the body may be sent in chunks, and in no other Transfer-Encoding")
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError("unsupported-media-type", "send the body as it is, with no Content-Encoding")
        told = self.headers.get(b"content-length", b"")
        if told.isdigit() and int(told[:20]) > limit:
            raise _too_large(limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            chunks, size = [body], len(body)
            while message.get("more_body") and size <= limit:
                message = await self._receive()
                chunk = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
            body = b"".join(chunks)
        if message["type"] == "http.disconnect":
            raise ProblemError("bad-request", "the body ended early")
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def json(self, limit: int = BODY_BYTES) -> dict[str, object]:
        """Return the body, a JSON object.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large``, ``malformed-json`` or ``bad-request``.
        """
        return decoded_object(await self.raw_json(limit))

    async def raw_json(self, limit: int = BODY_BYTES) -> bytes:
        """Return the body, which is said to be JSON.

        Raises:
            ProblemError: ``unsupported-media-type`` or ``body-too-large``.
        """
        kind = self.headers.get(b"content-type")
        if kind and kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
            raise ProblemError("unsupported-media-type", "send the body as application/json")
        return await self.read(limit)

    async def form(self) -> dict[str, str]:
        """Return the body, an HTML form.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large`` or ``bad-request``.
        """
        kind = self.headers.get(b"content-type", b"")
        if kind.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
            raise ProblemError("unsupported-media-type", "send the body as application/x-www-form-urlencoded")
        body = await self.read(BODY_BYTES)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20))
        except ValueError:
            raise ProblemError("bad-request", "the form is not valid UTF-8") from None

    def cookie(self) -> str | None:
        """Return the session cookie, if one came along."""
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                return value
        return None

    def count(self, allowance: Allowance) -> None:
        """Count this request among those of who asks.

        Raises:
            ProblemError: ``rate-limited``.
        """
        who = self.address if self.asker.id == GUEST else self.asker.id
        self.left = allowance.take(who, self.services.clock()).headers()

    def may_go_on(self) -> bool:
        """Say whether who asks could ask again now: the key or the session is still good."""
        try:
            self.identify()
        except ProblemError:
            return False
        return self.principal is not None

    def identify(self) -> None:
        """Find out who asks.

        Raises:
            ProblemError: ``unauthorized`` for a key that does not work; ``forbidden`` for another site's request.
        """
        secret = self.headers.get(b"x-api-key")
        if secret is None:
            scheme, _, bearer = self.headers.get(b"authorization", b"").partition(b" ")
            secret = bearer.strip() if scheme.lower() == b"bearer" else None
        if secret is not None:
            self.principal = self.services.identify(secret.decode("latin-1"))
            return
        cookie = self.cookie()
        principal = None if cookie is None else self.services.signed_in(cookie)
        if principal is None:
            self.principal = Principal(GUEST, GUEST, "read") if self.services.settings.public_read else None
            return
        # A browser sends the cookie along whoever wrote the page; a key it does not.
        if self.scope["method"] not in _SAFE and not same_site(self.headers):
            raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
        self.principal = principal


Route: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Row(msgspec.Struct, frozen=True):
    """One row of the table of routes.

    Attributes:
        method: The HTTP method. HEAD comes with GET.
        path: In Starlette's notation.
        action: What the request wants, at least; a route that finds an item asks again with its owner.
        route: What answers.
        page: For people: who is not signed in is sent to the sign-in page, and a browser is told on a page what is
            wrong.
        about: What it says of itself.
    """

    method: str
    path: str
    action: Action
    route: Route
    page: bool = False
    about: About | None = None


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = time.perf_counter()
        call = Call(self._services, scope, receive)
        REQUEST.set(call.id)
        reply = await self._reply(call)
        seconds = time.perf_counter() - begun
        (self._answers.get(scope["method"]) or self._answers[OTHER]).note(reply.status, seconds)
        if self._access:
            self._log(call, reply.status, seconds)
        if reply.stream is not None and scope["method"] != "HEAD":
            await _stream(call, reply, reply.stream, receive, send)
        elif not _sent_whole(call, reply):
            await _respond(call, send, reply)

    async def _reply(self, call: Call) -> Reply:
        scope = call.scope
        row = self._rows.get(scope["method"])
        try:
            call.check()
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
            return await row.route(call)
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


def _headers(call: Call, reply: Reply) -> list[Header]:
    """Return the headers that every answer has, and those of its own."""
    own = {name for name, _ in reply.headers}
    usual = [header for header in _USUALLY if header[0] not in own] if own else _USUALLY
    return [*_ALWAYS, (b"x-request-id", call.id), *call.left, *reply.headers, *usual]


def _sent_whole(call: Call, reply: Reply) -> bool:
    """Send an answer in one piece, if it has a body, and its own headers nothing that wants a look: nearly all."""
    if reply.status in _BODILESS or call.scope["method"] == "HEAD" or call.services.stopping:
        return False
    extension = call.scope.get("extensions", {}).get(WHOLE)
    if extension is None:
        return False
    if reply.headers:
        if any(_BREAKING.search(value) for _, value in reply.headers):
            return False
        begin = _joined(_headers(call, reply))
    else:
        begin = b"%b%bx-request-id: %b\r\n" % (_PLAIN, _joined(call.left), call.id)
    send_whole: SendWhole = extension["send"]
    head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (begin, reply.type, len(reply.body))
    return send_whole(reply.status, head, reply.body)


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
    """Send a stream until it ends, its reader leaves, or reads nothing for :data:`SEND` seconds."""
    headers = [*_headers(call, reply), (b"content-type", reply.type)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def pump() -> None:
        async for chunk in stream:
            async with asyncio.timeout(SEND):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    tasks = [asyncio.create_task(left()), asyncio.create_task(pump())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception) and not isinstance(done, TimeoutError):
                logger.error("a stream failed", exc_info=done)
        await stream.aclose()


def refusal(problem: ProblemError) -> Reply:
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
    return Reply(problem.status, encode(problem.document()), b"application/problem+json", tuple(headers))


def _refused(_: Scope, problem: ProblemError) -> Reply:
    return refusal(problem)


def redirect(location: str, headers: Iterable[Header] = ()) -> Reply:
    """Send a browser on to a URL relative to the one it asked for."""
    return Reply(303, b"", b"text/plain", ((b"location", location.encode()), *headers))


def up(scope: Scope) -> str:
    """Return the way from the path that is asked for to the root, as a relative URL.

    It holds under any base path and behind any proxy.
    """
    path: str = scope["path"]
    return "../" * (path.count("/") - 1)


def decoded(raw: bytes) -> str:
    """Return a percent-encoded part of a path as text.

    Raises:
        ProblemError: ``bad-request``: a broken escape, or not UTF-8.
    """
    if _BROKEN_ESCAPE.search(raw):
        raise ProblemError("bad-request", "the path has a % that is not followed by two hex digits")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise ProblemError("bad-request", "the path is not valid UTF-8") from None


def checked_id(value: object) -> str:
    """Return ``value`` if it can be an item's id.

    Raises:
        ProblemError: ``invalid-field``.
    """
    if value is None:
        raise missing("id")
    try:
        return check_id(value)
    except FieldError as error:
        raise of_field(error) from None


def checked_text(query: Mapping[str, str], name: str) -> str | None:
    """Return what a query looks for, a text as there may be one in a field; ``None`` if it does not say.

    Raises:
        ProblemError: ``invalid-field``.
    """
    try:
        return check_text(name, query[name], TEXT_LENGTH) if name in query else None
    except FieldError as error:
        raise of_field(error) from None


def decoded_json(body: bytes) -> object:
    """Return what a body says.

    Raises:
        ProblemError: ``malformed-json``.
    """
    try:
        return _decode(body)
    except RecursionError:
        raise ProblemError("malformed-json", "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # NaN, 1e999 and lone surrogates stop msgspec without a word about the field. The lenient parser lets them through
    # to the field's own check, which names it.
    try:
        document: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise ProblemError("malformed-json", "the body is not valid JSON in UTF-8") from None
    return document


def decoded_object(body: bytes) -> dict[str, object]:
    """Return what a body says, if it is a JSON object.

    Raises:
        ProblemError: ``malformed-json`` or ``bad-request``.
    """
    document = decoded_json(body)
    if not isinstance(document, dict):
        raise ProblemError("bad-request", "the body must be a JSON object")
    return document


def _too_large(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"the body may have {limit} bytes at most")
