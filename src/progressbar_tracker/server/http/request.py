"""A request, as the routes see it: who asks, how much body is read, and what is read out of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from progressbar_tracker._models import BODY_BYTES, FieldError, check_id, check_text
from progressbar_tracker.server.access.authorization import GUEST, Principal, authorize
from progressbar_tracker.server.access.sessions import same_site
from progressbar_tracker.server.budget import STRANGER
from progressbar_tracker.server.http.extension import COMPLETE
from progressbar_tracker.server.logs import bits, request_id
from progressbar_tracker.server.problems import ProblemError, missing, of_field
from progressbar_tracker.server.proxies import Origin, network_of

from .response import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from starlette.types import Message, Receive, Scope

    from progressbar_tracker.server.access.authorization import Action
    from progressbar_tracker.server.access.rate_limit import Allowance
    from progressbar_tracker.server.services import Services

    from .response import Header

_decode = msgspec.json.Decoder().decode

TEXT_LENGTH: Final = 200
"""The most characters of a text that a query looks for."""

RESERVED_BYTES: Final = 4096
"""How much more of a body has come when its client is charged with it again."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_VERSIONS: Final = frozenset({"1.1", "1.0"})
_ONCE: Final = (
    b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization", b"content-type", b"content-encoding",
    b"transfer-encoding",
)  # fmt: skip
"""The headers by which something is decided: a proxy that reads the first and we the last might decide differently."""
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Call:
    """One request.

    Attributes:
        services: What the server consists of.
        headers: Lower-case names to values; of a repeated one, the last.
        id: What the request is called in the log and in its answer.
        principal: Who asks; ``None`` on public routes.
        left: What is left of the requests of who asks, as headers, where they are counted.
        path: The parts of the path that vary, not yet decoded.
        action: The action of the route, ``"public"`` until the endpoint has authorized it.
        at_end: Called when the response has been sent, or could not be.
        is_granted: For public routes: whether the token in the path is still valid; set by the route that checks it.
    """

    __slots__ = (
        "_body", "_complete", "_origin", "_receive", "action", "at_end", "headers", "id", "is_granted", "left", "path",
        "principal", "scope", "services",
    )  # fmt: skip

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
        self.action: Action = "public"
        self.is_granted: Callable[[], bool] | None = None
        self.at_end: list[Callable[[], object]] | None = None
        self._complete = COMPLETE in scope
        self._origin: Origin | None = None
        self._body: bytes | None = None

    @property
    def asker(self) -> Principal:
        """Who asks, on a route that is not public."""
        assert self.principal is not None
        return self.principal

    @property
    def origin(self) -> Origin:
        """Where the request comes from; headers are believed from trusted proxies only."""
        if self._origin is None:
            client = self.scope.get("client")
            self._origin = self.services.proxies.origin(client[0] if client else "", self.scope["headers"])
        return self._origin

    @property
    def address(self) -> str:
        """The address of the client."""
        return self.origin.address

    @property
    def holder(self) -> str:
        """What limits count by: the identity of a key or a session, else the network that the client is in."""
        principal = self.principal
        if principal is None or principal.id == GUEST:
            return f"{STRANGER}{network_of(self.address)}"
        return principal.id

    @property
    def credential(self) -> Hashable:
        """What the request is authorized by, and for what."""
        if self.is_granted is not None:
            return self.path.get("token")
        headers = self.headers
        return self.action, headers.get(b"x-api-key"), headers.get(b"authorization"), headers.get(b"cookie")

    @property
    def secure(self) -> bool:
        """Whether a browser came by TLS: by a trusted proxy's word, or by its own, a lie in which harms only itself."""
        return (
            self.scope["scheme"] == "https"
            or self.origin.scheme == "https"
            or self.headers.get(b"origin", b"").startswith(b"https://")
        )

    def finally_(self, call: Callable[[], object]) -> None:
        """Have something called when the response has been sent, or could not be."""
        if self.at_end is None:
            self.at_end = []
        self.at_end.append(call)

    def reserve(self, size: int) -> None:
        """Charge bytes to the client until the response has been sent.

        Raises:
            ProblemError: ``too-many-bytes``.
        """
        holder, budget = self.holder, self.services.budget
        budget.admit(holder, size)
        budget.charge(holder, size)
        self.finally_(lambda: budget.release(holder, size))

    def check(self, *, any_host: bool = False) -> None:
        """Return if the head of the request is in order.

        Args:
            any_host: Whether the request may be for any host. Balancers ask for the health of a server by its address.

        Raises:
            ProblemError: ``bad-request`` or ``misdirected``.
        """
        if len(self.scope["headers"]) != len(self.headers):
            names = [name for name, _ in self.scope["headers"]]
            for name in _ONCE:
                if names.count(name) > 1:
                    raise ProblemError("bad-request", f"the request has more than one {name.decode()} header")
        version, host = self.scope["http_version"], self.headers.get(b"host")
        if version not in _VERSIONS:
            raise ProblemError("bad-request", "the server speaks HTTP/1.1 and HTTP/1.0")
        if not any_host or (not host and version != "1.0"):
            self.services.hosts.check(host)

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

        The client decides how long its body takes, so the request is authorized again with every part of the body that
        had to be waited for. A route takes :attr:`asker` after this, never before.

        Raises:
            ProblemError: ``body-too-large``; no more than the limit is ever held. ``unsupported-media-type`` or
                ``bad-request`` for what is compressed. ``unauthorized`` or ``forbidden`` if the credential ended.
        """
        if self._body is not None:
            return self._body
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise ProblemError("bad-request", "the body may be sent in chunks, and in no other Transfer-Encoding")
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError("unsupported-media-type", "send the body as it is, with no Content-Encoding")
        told = self.headers.get(b"content-length", b"")
        if told.isdigit() and int(told[:20]) > limit:
            raise _too_large(limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if not self._complete:
            self.reauthorize()
        if message.get("more_body"):
            body, message = await self._read_on(body, limit)
        if message["type"] == "http.disconnect":
            raise ProblemError("bad-request", "the body ended early")
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _read_on(self, body: bytes, limit: int) -> tuple[bytes, Message]:
        received, reserved = bytearray(body), 0
        while True:
            # A client may send all but the last byte of many bodies, and wait.
            if len(received) - reserved >= RESERVED_BYTES:
                self.reserve(len(received) - reserved)
                reserved = len(received)
            message = await self._receive()
            self.reauthorize()
            received += message.get("body", b"")
            if not message.get("more_body") or len(received) > limit:
                return bytes(received), message

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
        if kind and kind != JSON and kind.partition(b";")[0].strip().lower() != JSON:
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
        return self._cookie_of(self.services.cookie_names)

    def device(self) -> str | None:
        """Return the id of a browser that the administrator has signed in with before."""
        password, cookie = self.services.password, self._cookie_of(self.services.device_cookie_names)
        return None if password is None or cookie is None else password.devices.find(cookie, self.services.clock())

    def _cookie_of(self, names: tuple[str, str]) -> str | None:
        found = self.cookies()
        secure, plain = names
        return found.get(secure, found.get(plain))

    def cookies(self) -> dict[str, str]:
        """Return the cookies that came along; of a repeated name the first, which has the longest path."""
        found: dict[str, str] = {}
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            found.setdefault(name, value)
        return found

    async def disconnected(self) -> None:
        """Return once the client has disconnected. To be called when the body is read; what is left of it is lost."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def count(self, allowance: Allowance) -> None:
        """Count this request among those of who asks.

        Raises:
            ProblemError: ``rate-limited``.
        """
        self.left = allowance.take(self.holder, self.services.monotonic()).headers()

    def reauthorize(self) -> None:
        """Identify the client and authorize the action of the route again: time has passed since the head was read.

        Raises:
            ProblemError: ``unauthorized`` or ``forbidden``; ``not-found`` for a token in the path.
        """
        if self.is_granted is not None and not self.is_granted():
            raise ProblemError("not-found", "there is nothing at this path")
        if self.action != "public":
            self.identify()
            authorize(self.principal, self.action)

    def may_go_on(self) -> bool:
        """Say whether the same request of the same client would be authorized now."""
        before = self.principal
        try:
            self.reauthorize()
        except ProblemError:
            return False
        # A client that was signed in does not become a guest in the middle of an answer.
        return before is None or (self.principal is not None and self.principal.id == before.id)

    async def authorize_with_stored(self) -> None:
        """Read the body, then authorize by the credentials as they are stored now.

        For changes of keys, sessions and shares: another server or the command line may have ended the credential a
        moment ago, and nothing else that is done with it would last beyond it.

        Raises:
            ProblemError: As :meth:`read` and :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        self._body = await self.read(BODY_BYTES)
        await self.reauthorize_with_stored()

    async def reauthorize_with_stored(self) -> None:
        """Authorize by the credentials as they are stored now.

        Raises:
            ProblemError: As :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        if not await self.services.look_again():
            self.services.refresh_keys()
        self.reauthorize()

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
        if self.scope["method"] not in SAFE_METHODS and not same_site(self.headers):
            raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
        self.principal = principal


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
