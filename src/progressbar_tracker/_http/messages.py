"""Messages of the protocol: requests, replies, and the error that a reply stands for. No I/O."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import quote, urlsplit

from progressbar_tracker._errors import (
    FOREIGN_REPLY_CODE,
    ConfigError,
    ConflictError,
    ItemExistsError,
    ItemNotFoundError,
    PermissionError,
    RateLimitedError,
    ResponseError,
    ServerError,
    ValidationError,
)
from progressbar_tracker._models import format_value, has_control
from progressbar_tracker._text import clean_detail

from .foreign_replies import describe_foreign_document, describe_foreign_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER: Final = 300.0  # seconds; a longer Retry-After is cut
MAX_REPLY_BYTES: Final = 4 << 20  # ten times a batch of 500 results, each with a problem
MAX_LIST_BYTES: Final = 128 << 20  # more than twice 100,000 items of 500 bytes each


class Request(NamedTuple):
    """A request, relative to the server's base URL.

    Attributes:
        method: The HTTP method.
        path: Percent-encoded, without a leading slash.
        body: JSON as UTF-8.
        limit: Maximum size of the reply's body in bytes.
    """

    method: str
    path: str
    body: bytes | None = None
    limit: int = MAX_REPLY_BYTES


class Reply(NamedTuple):
    """A complete reply. The names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parse_base_url(api_url: object, name: str = "api_url") -> str:
    """Return a server's base URL with one final slash.

    Raises:
        ConfigError: The text is not an ``http`` or ``https`` URL with a host, or has a query, a fragment or a
            password.

    >>> parse_base_url("http://host:8989/sub")
    'http://host:8989/sub/'
    """
    if not isinstance(api_url, str):
        raise ConfigError(f"{name} must be a string such as 'http://localhost:8989', not {format_value(api_url)}")
    text = api_url.strip()
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - a property that raises for "http://host:port"
    except ValueError as error:
        raise ConfigError(f"{name} is not a URL: {format_value(api_url)} ({error})") from error
    if "@" in parts.netloc:
        raise ConfigError(f"{name} must not carry a user name or a password; pass the key separately")
    has_invalid_characters = has_control(text) or any(c.isspace() for c in text)
    if has_invalid_characters or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name} must be a URL such as 'http://localhost:8989', not {format_value(api_url)}")
    if "?" in text or "#" in text:
        raise ConfigError(f"{name} must have no query and no fragment: {format_value(api_url)}")
    return text.rstrip("/") + "/"


def check_key(api_key: object, name: str = "api_key") -> str:
    """Return ``api_key`` if an HTTP header can carry it. The error never shows it.

    Raises:
        ConfigError: The key is not a string, is empty, or has characters other than printable ASCII.
    """
    if not isinstance(api_key, str):
        raise ConfigError(f"{name} must be a string, not {type(api_key).__name__}")
    key = api_key.strip()
    if not key:
        raise ConfigError(f"{name} must not be empty")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{name} must consist of printable ASCII characters")
    return key


def quote_id(text: str) -> str:
    """Percent-encode an id for a path or a query, and its dots if a segment is ``.`` or ``..``."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if any(part in (".", "..") for part in text.split("/")) else quoted


def encode_json(document: object) -> bytes:
    """Return JSON as UTF-8. NaN and infinities raise ``ValueError``."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parse_retry_after(reply: Reply, now: float | None = None) -> float | None:
    """Return the seconds in ``Retry-After`` (a number or a date), from 0 to 300, or ``None``."""
    text = reply.headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError, TypeError, LookupError, OSError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else None


def error_from_reply(reply: Reply, request: Request) -> ResponseError:
    """Return the error for a reply that is not 2xx."""
    code = detail = field = ""
    try:
        problem = json.loads(reply.body)
        if isinstance(problem, dict):
            code = clean_detail(problem.get("type")).removeprefix("about:blank").rsplit("/", 1)[-1]
            detail = next(filter(None, (clean_detail(problem.get(name)) for name in ("detail", "error", "title"))), "")
            field = clean_detail(problem.get("field"))
    except (ValueError, RecursionError):
        text = clean_detail(reply.body[:300].decode("utf-8", "replace")).strip()
        detail = "" if text.startswith("<") else text
    status = reply.status
    path = request.path.partition("?")[0]
    foreign = describe_foreign_reply(reply, request)
    kind: type[ResponseError]
    if status in (401, 403):
        kind, reason = PermissionError, "the key is unknown, revoked or expired" if status == 401 else "not allowed"
    elif status == 404:
        kind, reason = ItemNotFoundError, "not found"
    elif status == 409:
        creating = request.method == "POST" and code not in ("run-superseded", "run-ended", "not-stoppable")
        kind, reason = (ItemExistsError if creating else ConflictError), "conflict"
    elif status in (400, 413, 422):
        kind, reason = ValidationError, "not accepted"
    elif status in (429, 507):
        kind, reason = RateLimitedError, "too much"
    elif status >= 500:
        kind, reason = ServerError, "the server failed"
    else:
        kind, reason = ResponseError, "refused"
    request_id = reply.headers.get("x-request-id", "")
    if len(request_id) > 128 or not (request_id.isascii() and request_id.isprintable()):
        request_id = ""
    # The server's log has details of a 5xx under this id.
    where = f", request {request_id}" if request_id and status >= 500 else ""
    message = f"{detail or reason} ({status} on {request.method} /{path}{where})"
    if foreign is not None:
        message, code, detail, field = foreign, FOREIGN_REPLY_CODE, "", ""
        if issubclass(kind, ItemNotFoundError | ItemExistsError | ConflictError):
            kind = ResponseError  # it says nothing about items
    if field and field not in detail:
        message = f"{field}: {message}"
    return kind(
        message,
        status_code=status,
        code=code,
        detail=detail,
        retry_after=parse_retry_after(reply),
        request_id=request_id,
    )


def unexpected_reply_error(reply: Reply, request: Request) -> ResponseError:
    """Return the error for a 2xx reply of another protocol, such as a proxy's page."""
    return ResponseError(describe_foreign_document(reply, request), status_code=reply.status, code=FOREIGN_REPLY_CODE)


def parse_json(reply: Reply, request: Request) -> object:
    """Return the JSON of a 2xx reply, or ``None`` for an empty body; raise the error of any other reply."""
    if not 200 <= reply.status < 300:
        raise error_from_reply(reply, request)
    if not reply.body:
        return None
    try:
        return cast("object", json.loads(reply.body))
    except (ValueError, RecursionError):
        raise unexpected_reply_error(reply, request) from None
