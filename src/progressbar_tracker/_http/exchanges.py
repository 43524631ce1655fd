"""The protocol in pure form: requests built, replies read, and the order in which one follows the other.

No I/O and no HTTP library. What a call has to say to the server, and what it makes of the answer, is a generator that
yields a ``Request``, is sent a ``Response`` and returns the result: an *exchange*. The synchronous and the asynchronous
shells drive the same exchanges, each with a loop of four lines, so neither repeats any logic.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import quote, urlsplit

from progressbar_tracker._errors import (
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
from progressbar_tracker._models import Item, KeyInfo, Op, OpResult, check_id, format_value, has_control
from progressbar_tracker._text import clean_detail

from .legacy import LegacyState, legacy_item

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence


T = TypeVar("T")

MAX_RETRY_AFTER: Final = 300.0  # seconds: no server may silence a client for longer by Retry-After


MAX_REPLY_BYTES: Final = 4 << 20  # bytes: 500 results of a batch, each with its problem, are a tenth of that
MAX_LIST_BYTES: Final = 128 << 20  # bytes: 100,000 items of 500 bytes each are less than half of that


class Request(NamedTuple):
    """A request, relative to the server's base URL; ``path`` is percent-encoded and has no leading slash.

    ``limit`` is how many bytes the body of the answer may have.
    """

    method: str
    path: str
    body: bytes | None = None
    limit: int = MAX_REPLY_BYTES


class Reply(NamedTuple):
    """A whole answer. The names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Exchange: TypeAlias = "Generator[Request, Reply, T]"


def base_url(api_url: object, name: str = "api_url") -> str:
    """Return a server's base URL with one final slash.

    Raises:
        ConfigError: It is not an ``http`` or ``https`` URL with a host, or it carries a query, a fragment or a
            password, none of which belongs there.

    >>> base_url("http://host:8989/sub")
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
        raise ConfigError(f"{name} must not carry a user name or a password; the key is an argument of its own")
    unfit = has_control(text) or any(c.isspace() for c in text)
    if unfit or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{name} must be a URL such as 'http://localhost:8989', not {format_value(api_url)}")
    if "?" in text or "#" in text:
        raise ConfigError(f"{name} must have no query and no fragment: {format_value(api_url)}")
    return text.rstrip("/") + "/"


def check_key(api_key: object, name: str = "api_key") -> str:
    """Return ``api_key`` if an HTTP header can carry it. The error never shows it.

    Raises:
        ConfigError: It is not a string, empty, or has characters other than printable ASCII.
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
    """Percent-encode an id for a path or a query. Dots too where a path would otherwise be shortened by them."""
    quoted = quote(text, safe="")
    return quoted.replace(".", "%2E") if any(part in (".", "..") for part in text.split("/")) else quoted


def encode_json(document: object) -> bytes:
    """Return JSON as UTF-8. NaN and infinities, which are not JSON, raise ``ValueError``."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def retry_after(reply: Reply, now: float | None = None) -> float | None:
    """Return how many seconds ``Retry-After`` asks for (a number or a date), from 0 to 300, or ``None``."""
    text = reply.headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        import time
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError, TypeError, LookupError, OSError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else None


def error_from_reply(reply: Reply, request: Request) -> ResponseError:
    """Return the error that a reply which is not 2xx stands for."""
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
    kind: type[ResponseError]
    if status in (401, 403):
        kind, reason = PermissionError, "the key is unknown, revoked or expired" if status == 401 else "not allowed"
    elif status == 404:
        kind, reason = ItemNotFoundError, "not found"
    elif status == 409:
        creating = request.method == "POST" and code not in ("run-superseded", "run-ended")
        kind, reason = (ItemExistsError if creating else ConflictError), "conflict"
    elif status in (400, 413, 422):
        kind, reason = ValidationError, "not accepted"
    elif status in (429, 507):
        kind, reason = RateLimitedError, "too much"
    elif status >= 500:
        kind, reason = ServerError, "the server failed"
    elif 300 <= status < 400:
        kind, reason, code = ResponseError, "redirected: is the URL right?", "unexpected-answer"
    else:
        kind, reason = ResponseError, "refused"
    path = request.path.partition("?")[0]
    request_id = reply.headers.get("x-request-id", "")
    if len(request_id) > 128 or not (request_id.isascii() and request_id.isprintable()):
        request_id = ""
    # Of what is the server's fault its log tells more.
    where = f", request {request_id}" if request_id and status >= 500 else ""
    message = f"{detail or reason} ({status} on {request.method} /{path}{where})"
    if field and field not in detail:
        message = f"{field}: {message}"
    return kind(
        message, status_code=status, code=code, detail=detail, retry_after=retry_after(reply), request_id=request_id
    )


def unexpected_reply(reply: Reply, request: Request) -> ResponseError:
    """Return the error for a 2xx answer that is not of this protocol: a proxy's page, most likely."""
    kind = clean_detail(reply.headers.get("content-type", "no content type"))[:100]
    message = f"{request.method} /{request.path.partition('?')[0]} was answered {reply.status} with {kind}, which is "
    return ResponseError(
        message + "not this protocol: is the URL that of a progress server?",
        status_code=reply.status,
        code="unexpected-answer",
    )


def json_of(reply: Reply, request: Request) -> object:
    """Return the JSON of a 2xx reply, and raise what any other stands for."""
    if not 200 <= reply.status < 300:
        raise error_from_reply(reply, request)
    if not reply.body:
        return None
    try:
        return cast("object", json.loads(reply.body))
    except (ValueError, RecursionError):
        raise unexpected_reply(reply, request) from None


def request_json(request: Request) -> Exchange[object]:
    """Send one request and return the JSON of its answer."""
    reply = yield request
    return json_of(reply, request)


def request_key_info() -> Exchange[KeyInfo]:
    """Ask what the key may do, and what the server speaks."""
    request = Request("GET", "api/key-info")
    reply = yield request
    document = json_of(reply, request)
    permissions = document.get("permissions") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(permissions, list):
        raise unexpected_reply(reply, request)
    server, api = document.get("server"), document.get("api")
    about = server if isinstance(server, dict) else {}
    return KeyInfo(
        clean_detail(document.get("type")) or "unknown",
        tuple(filter(None, map(clean_detail, permissions))),
        tuple(filter(None, map(clean_detail, api))) if isinstance(api, list) else (),
        clean_detail(about.get("version")),
        clean_detail(about.get("boot_id")),
    )


def _require_mapping(document: object, reply: Reply, request: Request) -> dict[str, object]:
    if not isinstance(document, dict):
        raise unexpected_reply(reply, request)
    return document


def request_keys() -> Exchange[list[dict[str, object]]]:
    """List the keys of a server, without their secrets."""
    request = Request("GET", "api/v1/keys", limit=MAX_LIST_BYTES)
    reply = yield request
    keys = _require_mapping(json_of(reply, request), reply, request).get("keys")
    if not isinstance(keys, list):
        raise unexpected_reply(reply, request)
    return keys


def request_new_key(kind: str, name: str, expires_at: str | None) -> Exchange[dict[str, object]]:
    """Make a key; the answer has the secret as ``key``. ``expires_at`` is an RFC 3339 instant."""
    body = {"type": kind, "name": name, **({} if expires_at is None else {"expires_at": expires_at})}
    request = Request("POST", "api/v1/keys", encode_json(body))
    reply = yield request
    return _require_mapping(json_of(reply, request), reply, request)


def request_revocation(key_id: str) -> Exchange[object]:
    """Make a key invalid."""
    return (yield from request_json(Request("DELETE", f"api/v1/keys/{quote_id(key_id)}")))


def request_rotation(key_id: str) -> Exchange[dict[str, object]]:
    """Give a key a new secret; the answer has it as ``key``."""
    request = Request("POST", f"api/v1/keys/{quote_id(key_id)}/rotate")
    reply = yield request
    return _require_mapping(json_of(reply, request), reply, request)


def request_batch(ops: Sequence[Op]) -> Exchange[list[OpResult]]:
    """Send many operations at once and return one result for each.

    An operation that is no JSON is not sent, and its result is a 422 of our own: the others are not held up by it.
    """
    try:
        body, fit = encode_json({"ops": ops}), ops
    except Exception:
        unfit = {index: result for index, op in enumerate(ops) if (result := _encoding_failure(op)) is not None}
        if not unfit:  # a want of memory, for example
            raise
        fit = [op for index, op in enumerate(ops) if index not in unfit]
        answered = iter((yield from request_batch(fit)) if fit else ())
        return [unfit[index] if index in unfit else next(answered) for index in range(len(ops))]
    request = Request("POST", "api/v1/items:batch", body)
    reply = yield request
    document = json_of(reply, request)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != len(fit) or not all(_is_result(result) for result in results):
        raise unexpected_reply(reply, request)
    return cast("list[OpResult]", results)


def _encoding_failure(op: Op) -> OpResult | None:
    """Return the result of an operation that is no JSON, or ``None`` for one that is."""
    try:
        encode_json(op)
    except MemoryError:
        return None
    except Exception as error:  # noqa: BLE001 - of whatever a program has made its bar of
        return {"id": op["id"], "status": 422, "problem": {"detail": f"it is no JSON: {format_value(error, 200)}"}}
    return None


def _is_result(result: object) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("problem"), dict | None):
        return False
    status = result.get("status")
    return isinstance(status, int) and 200 <= status < 600


def _is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _is_missing(op: Op, result: OpResult) -> bool:
    # Not a delete, which has what it wanted, and not a part, whose item may not be there yet.
    return result["status"] in (404, 410) and op["op"] != "delete" and "part" not in op


def _request_single(item_id: str, request: Request) -> Exchange[OpResult]:
    """Send one operation by itself and return what a batch would have said of it."""
    reply = yield request
    if 200 <= reply.status < 300:
        return {"id": item_id, "status": reply.status}
    error = error_from_reply(reply, request)
    if reply.status == 401 or 300 <= reply.status < 400 or _is_transient(reply.status):
        raise error
    return {"id": item_id, "status": reply.status, "problem": {"detail": error.detail or str(error)}}


class ServerProtocol:
    """What one client knows of its key, and its calls as exchanges.

    Args:
        auto_detect: Check permissions here, before anything is sent. When false the server is the judge, and the
            helpers look the key up when first asked.
        clock: Monotonic seconds.
    """

    def __init__(self, *, auto_detect: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.auto_detect = auto_detect
        self.key_info_cache: KeyInfo | None = None
        self._clock = clock
        self._legacy_states: dict[str, LegacyState] | None = None  # a tracker's items, on a server without part 2

    @property
    def unbatched(self) -> bool:
        """Whether a tracker's operations travel in a request each."""
        return self._legacy_states is not None

    @property
    def boot_id(self) -> str:
        """Which life of the server answered when it was last asked, or ``""``; see ``deliver``."""
        return "" if self.key_info_cache is None else self.key_info_cache.boot_id

    def key_info(self) -> Exchange[KeyInfo]:
        """What the key is and may do; asked once."""
        if self.key_info_cache is None:
            self.key_info_cache = yield from request_key_info()
        return self.key_info_cache

    def get_all(self) -> Exchange[list[Item]]:
        """Every item, highest weight first."""
        yield from self._require_permission("read items", "read")
        return (yield from self._list_items())

    def get(self, item_id: str) -> Exchange[Item]:
        """One item by its id."""
        check_id(item_id, "item_id")
        yield from self._require_permission("read items", "read")
        request = Request("GET", f"api/v1/items/{quote_id(item_id)}")
        reply = yield request
        if reply.status not in (404, 405):
            document = json_of(reply, request)
            if not isinstance(document, dict):
                raise unexpected_reply(reply, request)
            return cast("Item", document)
        missing = error_from_reply(reply, request)
        if missing.code != "item-not-found":  # a 1.0.0 server does not know the route: look the item up in the list
            for item in (yield from self._list_items()):
                if item.get("id") == item_id:
                    return item
        raise ItemNotFoundError(
            f"there is no item with the id {format_value(item_id)}",
            status_code=404,
            code="item-not-found",
            detail=missing.detail,
        )

    def create(self, item_id: str, title: str, description: str, value: float, weight: int) -> Exchange[None]:
        """A new item."""
        body = encode_json(legacy_item(item_id, title, description, value, weight))
        yield from self._require_permission("create items", "create")
        yield from request_json(Request("POST", "progress", body))

    def update(self, item_id: str, title: str, description: str, value: float, weight: int) -> Exchange[None]:
        """New values for an item that exists."""
        body = encode_json(legacy_item(item_id, title, description, value, weight))
        yield from self._require_permission("update items", "update_own", "update_all")
        yield from request_json(Request("PUT", "progress", body))

    def delete(self, item_id: str) -> Exchange[bool]:
        """Remove an item; false where there was none."""
        check_id(item_id, "item_id")
        yield from self._require_permission("delete items", "delete_own", "delete_all")
        try:
            yield from request_json(Request("DELETE", f"progress?id={quote_id(item_id)}"))
        except ItemNotFoundError:
            return False
        return True

    def is_admin(self) -> Exchange[bool]:
        """Whether it is an admin key."""
        return (yield from self.key_info()).type == "admin"

    def is_read_only(self) -> Exchange[bool]:
        """Whether it is a read key."""
        return (yield from self.key_info()).type == "read"

    def can_write(self) -> Exchange[bool]:
        """Whether it may create or update."""
        info = yield from self.key_info()
        return any(name in info.permissions for name in ("create", "update_own", "update_all"))

    def can_delete(self) -> Exchange[bool]:
        """Whether it may delete."""
        info = yield from self.key_info()
        return any(name in info.permissions for name in ("delete_own", "delete_all"))

    def deliver(self, ops: Sequence[Op]) -> Exchange[list[OpResult]]:
        """Carry out a tracker's operations: as one batch, or one by one where the server speaks part 1 only.

        Where an item has vanished, the server is asked which life of it this is, for ``epoch``.
        """
        if self._legacy_states is None:
            try:
                answered = yield from request_batch(ops)
            except ResponseError as error:
                if error.status_code not in (404, 405):
                    raise
                if "v1" in (yield from self.key_info()).api:
                    raise
            else:
                if any(map(_is_missing, ops, answered)):
                    with contextlib.suppress(ResponseError):  # the batch was answered, and that is what counts
                        self.key_info_cache = yield from request_key_info()
                return answered
            self._legacy_states = {}
        results: list[OpResult] = []
        trouble: ResponseError | None = None
        for op in ops:
            if trouble is None or trouble.status_code not in (408, 429, 503):  # else it has to be left in peace
                try:
                    results.append((yield from self._deliver_unbatched(op, self._legacy_states)))
                    continue
                except ResponseError as error:
                    if not _is_transient(error.status_code):
                        raise
                    trouble = error
            detail = trouble.detail or str(trouble)
            results.append({"id": op["id"], "status": trouble.status_code, "problem": {"detail": detail}})
        if trouble is not None and all(_is_transient(result["status"]) for result in results):
            raise trouble
        return results

    def _deliver_unbatched(self, op: Op, states: dict[str, LegacyState]) -> Exchange[OpResult]:
        # Part 1 replaces whole items, so what earlier operations said is kept and merged here.
        item_id = op["id"]
        if op["op"] == "delete":
            states.pop(item_id, None)
            request = Request("DELETE", f"progress?id={quote_id(item_id)}")
            return (yield from _request_single(item_id, request))
        now, known = self._clock(), states.get(item_id)
        if known is None or op["op"] == "put":
            known = LegacyState(op, now, op.get("completed") or 0)
        else:
            known = known._replace(op=cast("Op", {**known.op, **op}))
        try:
            body = encode_json(known.to_item(now))
        except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
            return {"id": item_id, "status": 422, "problem": {"detail": f"it is no JSON: {format_value(error, 200)}"}}
        states[item_id] = known
        if op["op"] == "patch":
            return (yield from _request_single(item_id, Request("PUT", "progress", body)))
        result = yield from _request_single(item_id, Request("POST", "progress", body))
        if result["status"] == 409:  # an earlier run's leftovers, or our own create whose answer was lost: adopt it
            result = yield from _request_single(item_id, Request("PUT", "progress", body))
        return result

    def _list_items(self) -> Exchange[list[Item]]:
        request = Request("GET", "progress", limit=MAX_LIST_BYTES)
        reply = yield request
        document = json_of(reply, request)
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise unexpected_reply(reply, request)
        return cast("list[Item]", document)

    def _require_permission(self, action: str, *permissions: str) -> Exchange[None]:
        if not self.auto_detect:
            return
        info = yield from self.key_info()
        if not any(name in info.permissions for name in permissions):
            raise PermissionError(
                f"this {info.type} key may not {action}: it has {', '.join(info.permissions) or 'no permissions'}, "
                f"and {' or '.join(permissions)} is needed",
                status_code=403,
                code="forbidden",
            )
