"""A request, as the routes see it: who asks, how much body is read, and what is read out of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from progressbar_tracker._models import BODY_BYTES, FieldError, check_id, check_text
from progressbar_tracker.server.access.authorization import GUEST_ID, Principal, authorize
from progressbar_tracker.server.access.sessions import is_same_site
from progressbar_tracker.server.budget import ANONYMOUS_PREFIX
from progressbar_tracker.server.http.extension import REQUEST_COMPLETE_KEY
from progressbar_tracker.server.logs import choose_request_id, random_bits
from progressbar_tracker.server.problems import ProblemError, field_problem, missing_field
from progressbar_tracker.server.proxies import Origin, client_network

from .response import JSON_CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from starlette.types import Message, Receive, Scope

    from progressbar_tracker.server.access.authorization import Action
    from progressbar_tracker.server.access.rate_limit import RateLimiter
    from progressbar_tracker.server.services import Services

    from .response import Header

_decode = msgspec.json.Decoder().decode

MAX_TEXT_LENGTH: Final = 200
"""The most characters of a text that a query looks for."""

RESERVE_STEP_BYTES: Final = 4096
"""How much more of a body has come when its client is charged with it again."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_HTTP_VERSIONS: Final = frozenset({"1.1", "1.0"})
_UNIQUE_HEADERS: Final = (
    b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization", b"content-type", b"content-encoding",
    b"transfer-encoding",
)  # fmt: skip
"""The headers by which something is decided: a proxy that reads the first and we the last might decide differently."""
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Request:
    """One request.

    Attributes:
        services: What the server consists of.
        headers: Lower-case names to values; of a repeated one, the last.
        id: What the request is called in the log and in its answer.
        optional_principal: Who asks; ``None`` on public routes.
        quota_headers: What is left of the requests of who asks, as headers, where they are counted.
        path_params: The parts of the path that vary, not yet decoded.
        action: The action of the route, ``"public"`` until the endpoint has authorized it.
        cleanups: Called when the response has been sent, or could not be.
        is_granted: For public routes: whether the token in the path is still valid; set by the route that checks it.
    """

    __slots__ = (
        "_body",
        "_is_complete",
        "_origin",
        "_receive",
        "action",
        "cleanups",
        "headers",
        "id",
        "is_granted",
        "optional_principal",
        "path_params",
        "quota_headers",
        "scope",
        "services",
    )  # fmt: skip

    def __init__(self, services: Services, scope: Scope, receive: Receive) -> None:
        self.services = services
        self.scope = scope
        self._receive = receive
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id")
        self.id = b"%016x" % random_bits(64) if given is None else choose_request_id(given)
        self.optional_principal: Principal | None = None
        self.quota_headers: tuple[Header, ...] = ()
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        self.action: Action = "public"
        self.is_granted: Callable[[], bool] | None = None
        self.cleanups: list[Callable[[], object]] | None = None
        self._is_complete = REQUEST_COMPLETE_KEY in scope
        self._origin: Origin | None = None
        self._body: bytes | None = None

    @property
    def principal(self) -> Principal:
        """Who asks, on a route that is not public."""
        assert self.optional_principal is not None
        return self.optional_principal

    @property
    def origin(self) -> Origin:
        """Where the request comes from; headers are believed from trusted proxies only."""
        if self._origin is None:
            client = self.scope.get("client")
            self._origin = self.services.proxies.find_origin(client[0] if client else "", self.scope["headers"])
        return self._origin

    @property
    def address(self) -> str:
        """The address of the client."""
        return self.origin.address

    @property
    def holder(self) -> str:
        """What limits count by: the identity of a key or a session, else the network that the client is in."""
        principal = self.optional_principal
        if principal is None or principal.id == GUEST_ID:
            return f"{ANONYMOUS_PREFIX}{client_network(self.address)}"
        return principal.id

    @property
    def credential(self) -> Hashable:
        """What the request is authorized by, and for what."""
        if self.is_granted is not None:
            return self.path_params.get("token")
        headers = self.headers
        return self.action, headers.get(b"x-api-key"), headers.get(b"authorization"), headers.get(b"cookie")

    @property
    def is_secure(self) -> bool:
        """Whether a browser came by TLS: by a trusted proxy's word, or by its own, a lie in which harms only itself."""
        return (
            self.scope["scheme"] == "https"
            or self.origin.scheme == "https"
            or self.headers.get(b"origin", b"").startswith(b"https://")
        )

    def add_cleanup(self, callback: Callable[[], object]) -> None:
        """Have something called when the response has been sent, or could not be."""
        if self.cleanups is None:
            self.cleanups = []
        self.cleanups.append(callback)

    def reserve(self, size: int) -> None:
        """Charge bytes to the client until the response has been sent.

        Raises:
            ProblemError: ``too-many-bytes``.
        """
        holder, budget = self.holder, self.services.budget
        budget.admit(holder, size)
        budget.charge(holder, size)
        self.add_cleanup(lambda: budget.release(holder, size))

    def validate_head(self, *, any_host: bool = False) -> None:
        """Return if the head of the request is in order.

        Args:
            any_host: Whether the request may be for any host. Balancers ask for the health of a server by its address.

        Raises:
            ProblemError: ``bad-request`` or ``misdirected``.
        """
        if len(self.scope["headers"]) != len(self.headers):
            names = [name for name, _ in self.scope["headers"]]
            for name in _UNIQUE_HEADERS:
                if names.count(name) > 1:
                    raise ProblemError("bad-request", f"the request has more than one {name.decode()} header")
        version, host = self.scope["http_version"], self.headers.get(b"host")
        if version not in _HTTP_VERSIONS:
            raise ProblemError("bad-request", "the server speaks HTTP/1.1 and HTTP/1.0")
        if not any_host or (not host and version != "1.0"):
            self.services.hosts.check(host)

    def parse_item_id(self) -> str:
        """Return the id in the path.

        Raises:
            ProblemError: ``bad-request`` for broken escapes, ``invalid-field`` for what is no id.
        """
        return validate_id(decode_path_part(self.path_params["id"].encode("latin-1")))

    def parse_query(self) -> dict[str, str]:
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

    async def read_body(self, limit: int) -> bytes:
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
            raise _too_large_problem(limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if not self._is_complete:
            self.reauthorize()
        if message.get("more_body"):
            body, message = await self._read_remaining(body, limit)
        if message["type"] == "http.disconnect":
            raise ProblemError("bad-request", "the body ended early")
        if len(body) > limit:
            raise _too_large_problem(limit)
        return body

    async def _read_remaining(self, body: bytes, limit: int) -> tuple[bytes, Message]:
        received, reserved = bytearray(body), 0
        while True:
            # A client may send all but the last byte of many bodies, and wait.
            if len(received) - reserved >= RESERVE_STEP_BYTES:
                self.reserve(len(received) - reserved)
                reserved = len(received)
            message = await self._receive()
            self.reauthorize()
            received += message.get("body", b"")
            if not message.get("more_body") or len(received) > limit:
                return bytes(received), message

    async def read_json(self, limit: int = BODY_BYTES) -> dict[str, object]:
        """Return the body, a JSON object.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large``, ``malformed-json`` or ``bad-request``.
        """
        return decode_object(await self.read_raw_json(limit))

    async def read_raw_json(self, limit: int = BODY_BYTES) -> bytes:
        """Return the body, which is said to be JSON.

        Raises:
            ProblemError: ``unsupported-media-type`` or ``body-too-large``.
        """
        kind = self.headers.get(b"content-type")
        if kind and kind != JSON_CONTENT_TYPE and kind.partition(b";")[0].strip().lower() != JSON_CONTENT_TYPE:
            raise ProblemError("unsupported-media-type", "send the body as application/json")
        return await self.read_body(limit)

    async def read_form(self) -> dict[str, str]:
        """Return the body, an HTML form.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large`` or ``bad-request``.
        """
        kind = self.headers.get(b"content-type", b"")
        if kind.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
            raise ProblemError("unsupported-media-type", "send the body as application/x-www-form-urlencoded")
        body = await self.read_body(BODY_BYTES)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20))
        except ValueError:
            raise ProblemError("bad-request", "the form is not valid UTF-8") from None

    def get_session_cookie(self) -> str | None:
        """Return the session cookie, if one came along."""
        return self._get_cookie(self.services.cookie_names)

    def find_device(self) -> str | None:
        """Return the id of a browser that the administrator has signed in with before."""
        password, cookie = self.services.password, self._get_cookie(self.services.device_cookie_names)
        return None if password is None or cookie is None else password.devices.verify(cookie, self.services.clock())

    def _get_cookie(self, names: tuple[str, str]) -> str | None:
        found = self.parse_cookies()
        secure, plain = names
        return found.get(secure, found.get(plain))

    def parse_cookies(self) -> dict[str, str]:
        """Return the cookies that came along; of a repeated name the first, which has the longest path."""
        found: dict[str, str] = {}
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            found.setdefault(name, value)
        return found

    async def wait_for_disconnect(self) -> None:
        """Return once the client has disconnected. To be called when the body is read; what is left of it is lost."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def apply_rate_limit(self, limiter: RateLimiter) -> None:
        """Count this request among those of who asks.

        Raises:
            ProblemError: ``rate-limited``.
        """
        self.quota_headers = limiter.acquire(self.holder, self.services.monotonic()).headers()

    def reauthorize(self) -> None:
        """Identify the client and authorize the action of the route again: time has passed since the head was read.

        Raises:
            ProblemError: ``unauthorized`` or ``forbidden``; ``not-found`` for a token in the path.
        """
        if self.is_granted is not None and not self.is_granted():
            raise ProblemError("not-found", "there is nothing at this path")
        if self.action != "public":
            self.identify()
            authorize(self.optional_principal, self.action)

    def is_still_authorized(self) -> bool:
        """Say whether the same request of the same client would be authorized now."""
        before = self.optional_principal
        try:
            self.reauthorize()
        except ProblemError:
            return False
        # A client that was signed in does not become a guest in the middle of an answer.
        return before is None or (self.optional_principal is not None and self.optional_principal.id == before.id)

    async def authorize_with_stored(self) -> None:
        """Read the body, then authorize by the credentials as they are stored now.

        For changes of keys, sessions and shares: another server or the command line may have ended the credential a
        moment ago, and nothing else that is done with it would last beyond it.

        Raises:
            ProblemError: As :meth:`read` and :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        self._body = await self.read_body(BODY_BYTES)
        await self.reauthorize_with_stored()

    async def reauthorize_with_stored(self) -> None:
        """Authorize by the credentials as they are stored now.

        Raises:
            ProblemError: As :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        if not await self.services.reload_credentials():
            self.services.credentials.refresh_keys()
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
            self.optional_principal = self.services.credentials.identify(secret.decode("latin-1"))
            return
        cookie = self.get_session_cookie()
        principal = None if cookie is None else self.services.credentials.identify_session(cookie)
        if principal is None:
            self.optional_principal = (
                Principal(GUEST_ID, GUEST_ID, "read") if self.services.settings.public_read else None
            )
            return
        # A browser sends the cookie along whoever wrote the page; a key it does not.
        if self.scope["method"] not in SAFE_METHODS and not is_same_site(self.headers):
            raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
        self.optional_principal = principal


def decode_path_part(raw: bytes) -> str:
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


def validate_id(value: object) -> str:
    """Return ``value`` if it can be an item's id.

    Raises:
        ProblemError: ``invalid-field``.
    """
    if value is None:
        raise missing_field("id")
    try:
        return check_id(value)
    except FieldError as error:
        raise field_problem(error) from None


def get_query_text(query: Mapping[str, str], name: str) -> str | None:
    """Return what a query looks for, a text as there may be one in a field; ``None`` if it does not say.

    Raises:
        ProblemError: ``invalid-field``.
    """
    try:
        return check_text(name, query[name], MAX_TEXT_LENGTH) if name in query else None
    except FieldError as error:
        raise field_problem(error) from None


def decode_json(body: bytes) -> object:
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


def decode_object(body: bytes) -> dict[str, object]:
    """Return what a body says, if it is a JSON object.

    Raises:
        ProblemError: ``malformed-json`` or ``bad-request``.
    """
    document = decode_json(body)
    if not isinstance(document, dict):
        raise ProblemError("bad-request", "the body must be a JSON object")
    return document


def _too_large_problem(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"the body may have {limit} bytes at most")
