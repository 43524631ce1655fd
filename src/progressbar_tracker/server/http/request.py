"""A request as the routes see it: identify and authorize its client, and read and parse its parts within limits."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from progressbar_tracker._models import MAX_BODY_BYTES, FieldError, check_id, check_text
from progressbar_tracker.server.access.authorization import GUEST_ID, Principal, authorize
from progressbar_tracker.server.access.sessions import is_same_site
from progressbar_tracker.server.budget import ANONYMOUS_PREFIX
from progressbar_tracker.server.http.extension import REQUEST_COMPLETE_KEY
from progressbar_tracker.server.logs import choose_request_id, random_bits
from progressbar_tracker.server.problems import ProblemError, field_problem, missing_field
from progressbar_tracker.server.proxies import Origin, client_network

from .json_body import decode_object
from .response import JSON_CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from starlette.types import Message, Receive, Scope

    from progressbar_tracker.server.access.authorization import Action
    from progressbar_tracker.server.access.rate_limit import RateLimiter
    from progressbar_tracker.server.services import Services

    from .response import Header


MAX_TEXT_LENGTH: Final = 200
"""The most characters of a search text."""

MAX_QUERY_FIELDS: Final = 60
"""The most names of a query, repeated ones included."""

RESERVE_STEP_BYTES: Final = 4096
"""Bytes of a body that arrive between two charges to its client."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_HTTP_VERSIONS: Final = frozenset({"1.1", "1.0"})
_UNIQUE_HEADERS: Final = (
    b"host", b"origin", b"sec-fetch-site", b"x-api-key", b"authorization", b"content-type", b"content-encoding",
    b"transfer-encoding",
)  # fmt: skip
"""Security-relevant headers. Duplicates are rejected, because a proxy may use a different one."""
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Request:
    """One request.

    Attributes:
        services: The services of the server.
        headers: Lower-case names to values; the last one of repeated headers.
        id: The id of the request in the log and in its response.
        optional_principal: The identity of the client; ``None`` on public routes.
        quota_headers: Headers with the remaining requests of the client, if a rate limit applies.
        path_params: The parameters of the path, not decoded yet.
        action: The action of the route, ``"public"`` until the endpoint has authorized it.
        cleanups: Called when sending the response has succeeded or failed.
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
        requested_id = self.headers.get(b"x-request-id")
        self.id = b"%016x" % random_bits(64) if requested_id is None else choose_request_id(requested_id)
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
        """The identity of the client, on a route that is not public."""
        assert self.optional_principal is not None
        return self.optional_principal

    @property
    def origin(self) -> Origin:
        """The address and scheme of the client; forwarding headers count from trusted proxies only."""
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
        """The client that limits apply to: the id of a key or a session, else the network of the address."""
        principal = self.optional_principal
        if principal is None or principal.id == GUEST_ID:
            return f"{ANONYMOUS_PREFIX}{client_network(self.address)}"
        return principal.id

    @property
    def credential(self) -> Hashable:
        """The key of this authorization: the credential and the action."""
        if self.is_granted is not None:
            return self.path_params.get("token")
        headers = self.headers
        return self.action, headers.get(b"x-api-key"), headers.get(b"authorization"), headers.get(b"cookie")

    @property
    def is_secure(self) -> bool:
        """Whether the browser uses TLS, according to a trusted proxy or to itself; a false Origin harms only itself."""
        return (
            self.scope["scheme"] == "https"
            or self.origin.scheme == "https"
            or self.headers.get(b"origin", b"").startswith(b"https://")
        )

    def add_cleanup(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when sending the response has succeeded or failed."""
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
        """Validate the version, the host, and the uniqueness of headers.

        Args:
            any_host: Whether any host is allowed. Balancers check the health of a server by its address.

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

    def matches_etag(self, etag: bytes) -> bool:
        """Return whether ``If-None-Match`` names an ETag, weak or strong, so that the response is a 304."""
        known = {tag.strip().removeprefix(b"W/") for tag in self.headers.get(b"if-none-match", b"").split(b",")}
        return bool({etag.removeprefix(b"W/"), b"*"} & known)

    def parse_item_id(self) -> str:
        """Return the id in the path.

        Raises:
            ProblemError: ``bad-request`` for broken escapes, ``invalid-field`` for an invalid id.
        """
        return validate_id(decode_path_part(self.path_params["id"].encode("latin-1")))

    def parse_path_text(self, name: str) -> str:
        """Return a decoded parameter of the path.

        Raises:
            ProblemError: ``bad-request``.
        """
        return decode_path_part(self.path_params[name].encode("latin-1"))

    def parse_query(self) -> dict[str, str]:
        """Return the query; the last value of repeated names.

        Raises:
            ProblemError: ``bad-request``.
        """
        return dict(self._parse_query_pairs())

    def parse_query_values(self, name: str) -> list[str]:
        """Return all values of a name of the query.

        Raises:
            ProblemError: ``bad-request``.
        """
        return [value for key, value in self._parse_query_pairs() if key == name]

    def _parse_query_pairs(self) -> list[tuple[str, str]]:
        raw: bytes = self.scope["query_string"]
        if not raw:
            return []
        if _BROKEN_ESCAPE.search(raw):
            raise ProblemError("bad-request", "the query has a % that is not followed by two hex digits")
        try:
            return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise ProblemError("bad-request", "the query is not valid percent-encoded UTF-8") from None

    async def read_body(self, limit: int) -> bytes:
        """Return the body.

        The client decides how long its body takes, so every part that arrives later authorizes the request again. A
        route reads :attr:`principal` after this call, never before.

        Raises:
            ProblemError: ``body-too-large``; at most the limit is buffered. ``unsupported-media-type`` or
                ``bad-request`` for an encoded body. ``unauthorized`` or ``forbidden`` if the credential has ended.
        """
        if self._body is not None:
            return self._body
        if self.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise ProblemError("bad-request", "the body may be sent in chunks, and in no other Transfer-Encoding")
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError("unsupported-media-type", "send the body as it is, with no Content-Encoding")
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > limit:
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
            # Charged while it arrives: a client may send all but the last byte of many bodies, and wait.
            if len(received) - reserved >= RESERVE_STEP_BYTES:
                self.reserve(len(received) - reserved)
                reserved = len(received)
            message = await self._receive()
            self.reauthorize()
            received += message.get("body", b"")
            if not message.get("more_body") or len(received) > limit:
                return bytes(received), message

    async def read_json(self, limit: int = MAX_BODY_BYTES) -> dict[str, object]:
        """Return the body, a JSON object.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large``, ``malformed-json`` or ``bad-request``.
        """
        return decode_object(await self.read_raw_json(limit))

    async def read_raw_json(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """Return the body if its media type is JSON.

        Raises:
            ProblemError: ``unsupported-media-type`` or ``body-too-large``.
        """
        media_type = self.headers.get(b"content-type")
        if (
            media_type
            and media_type != JSON_CONTENT_TYPE
            and media_type.partition(b";")[0].strip().lower() != JSON_CONTENT_TYPE
        ):
            raise ProblemError("unsupported-media-type", "send the body as application/json")
        return await self.read_body(limit)

    async def read_form(self) -> dict[str, str]:
        """Return the fields of an HTML form.

        Raises:
            ProblemError: ``unsupported-media-type``, ``body-too-large`` or ``bad-request``.
        """
        media_type = self.headers.get(b"content-type", b"")
        if media_type.partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
            raise ProblemError("unsupported-media-type", "send the body as application/x-www-form-urlencoded")
        body = await self.read_body(MAX_BODY_BYTES)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=20))
        except ValueError:
            raise ProblemError("bad-request", "the form is not valid UTF-8") from None

    def get_session_cookie(self) -> str | None:
        """Return the session cookie, if there is one."""
        return self._get_cookie(self.services.cookie_names)

    def find_device(self) -> str | None:
        """Return the id of the browser if the administrator has signed in with it before."""
        password, cookie = self.services.password, self._get_cookie(self.services.device_cookie_names)
        return None if password is None or cookie is None else password.devices.verify(cookie, self.services.clock())

    def _get_cookie(self, names: tuple[str, str]) -> str | None:
        cookies = self.parse_cookies()
        secure, plain = names
        return cookies.get(secure, cookies.get(plain))

    def parse_cookies(self) -> dict[str, str]:
        """Return the cookies; the first one of repeated names, which has the longest path."""
        cookies: dict[str, str] = {}
        for pair in self.headers.get(b"cookie", b"").decode("latin-1").split(";"):
            name, _, value = pair.strip().partition("=")
            cookies.setdefault(name, value)
        return cookies

    async def wait_for_disconnect(self) -> None:
        """Return when the client has disconnected. Call it after the body is read; a rest of the body is discarded."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def apply_rate_limit(self, limiter: RateLimiter) -> None:
        """Count this request towards the rate limit of its client.

        Raises:
            ProblemError: ``rate-limited``.
        """
        self.quota_headers = limiter.acquire(self.holder, self.services.monotonic()).headers()

    def reauthorize(self) -> None:
        """Identify the client and authorize the action of the route again, because time has passed.

        Raises:
            ProblemError: ``unauthorized`` or ``forbidden``; ``not-found`` for a token in the path.
        """
        if self.is_granted is not None and not self.is_granted():
            raise ProblemError("not-found", "there is nothing at this path")
        if self.action != "public":
            self.identify()
            authorize(self.optional_principal, self.action)

    def is_still_authorized(self) -> bool:
        """Return whether the same request of the same client would be authorized now."""
        before = self.optional_principal
        try:
            self.reauthorize()
        except ProblemError:
            return False
        # A signed-in client does not become a guest in the middle of a response.
        return before is None or (self.optional_principal is not None and self.optional_principal.id == before.id)

    async def authorize_with_stored(self) -> None:
        """Read the body, then authorize by the credentials as they are stored now.

        Needed for changes of keys, sessions and shares, as their effects outlast the credential, which another server
        or the command line may have just ended.

        Raises:
            ProblemError: As :meth:`read_body` and :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        self._body = await self.read_body(MAX_BODY_BYTES)
        await self.reauthorize_with_stored()

    async def reauthorize_with_stored(self) -> None:
        """Authorize by the credentials as they are stored now.

        Raises:
            ProblemError: As :meth:`reauthorize`; ``unavailable`` if the store cannot be read.
        """
        if not await self.services.reload_credentials():
            self.services.credentials.refresh_keys()
        self.reauthorize()

    def get_key_secret(self) -> str | None:
        """Return the secret of the key that the request sends, if it sends one."""
        secret = self.headers.get(b"x-api-key")
        if secret is None:
            scheme, _, bearer = self.headers.get(b"authorization", b"").partition(b" ")
            secret = bearer.strip() if scheme.lower() == b"bearer" else None
        return None if secret is None else secret.decode("latin-1")

    def identify(self) -> None:
        """Set the principal from the key or the session cookie.

        Raises:
            ProblemError: ``unauthorized`` for an invalid key; ``forbidden`` for a request from another site.
        """
        secret = self.get_key_secret()
        if secret is not None:
            self.optional_principal = self.services.credentials.identify(secret)
            return
        cookie = self.get_session_cookie()
        principal = None if cookie is None else self.services.credentials.identify_session(cookie)
        if principal is None:
            self.optional_principal = (
                Principal(GUEST_ID, GUEST_ID, "read") if self.services.settings.public_read else None
            )
            return
        # A browser sends the cookie, unlike a key, with requests of any site.
        if self.scope["method"] not in SAFE_METHODS and not is_same_site(self.headers):
            raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
        self.optional_principal = principal

    def identify_viewer(self) -> None:
        """Set the principal of a public page from the session cookie, for its header; never authorizes an action."""
        cookie = self.get_session_cookie()
        if self.optional_principal is None and cookie is not None:
            with contextlib.suppress(ProblemError):
                self.optional_principal = self.services.credentials.identify_session(cookie)


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
    """Return ``value`` if it is a valid item id.

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
    """Return a search text of a query, validated like an item's text; ``None`` if it is missing.

    Raises:
        ProblemError: ``invalid-field``.
    """
    try:
        return check_text(name, query[name], MAX_TEXT_LENGTH) if name in query else None
    except FieldError as error:
        raise field_problem(error) from None


def _too_large_problem(limit: int) -> ProblemError:
    return ProblemError("body-too-large", f"the body may have {limit} bytes at most")
