"""The calls of the protocol as exchanges: the order in which requests and replies follow each other. No I/O.

An *exchange* is a generator that yields a ``Request``, receives a ``Reply`` and returns the result. The synchronous
and the asynchronous transport drive the same exchanges, so neither repeats any logic.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from progressbar_tracker._errors import FOREIGN_REPLY_CODE, ItemNotFoundError, PermissionError, ResponseError
from progressbar_tracker._models import Item, ItemWrite, KeyInfo, Op, OpResult, check_id, format_value
from progressbar_tracker._text import clean_detail

from .legacy import LegacyState, build_legacy_item
from .messages import (
    MAX_LIST_BYTES,
    Reply,
    Request,
    encode_json,
    error_from_reply,
    parse_json,
    quote_id,
    unexpected_reply_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

MAX_HISTORY_PAGE: Final = 1000  # runs of one page

T = TypeVar("T")

Exchange: TypeAlias = "Generator[Request, Reply, T]"


def request_json(request: Request) -> Exchange[object]:
    """Send one request and return the JSON of its reply."""
    reply = yield request
    return parse_json(reply, request)


def request_key_info() -> Exchange[KeyInfo]:
    """Request the key's permissions and the server's protocol versions."""
    request = Request("GET", "api/key-info")
    reply = yield request
    document = parse_json(reply, request)
    permissions = document.get("permissions") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(permissions, list):
        raise unexpected_reply_error(reply, request)
    server, api = document.get("server"), document.get("api")
    server_info = server if isinstance(server, dict) else {}
    return KeyInfo(
        clean_detail(document.get("type")) or "unknown",
        tuple(filter(None, map(clean_detail, permissions))),
        tuple(filter(None, map(clean_detail, api))) if isinstance(api, list) else (),
        clean_detail(server_info.get("version")),
        clean_detail(server_info.get("boot_id")),
    )


def request_mapping(request: Request) -> Exchange[dict[str, object]]:
    """Send one request and return the JSON object of its reply."""
    return _parse_mapping((yield request), request)


def _parse_mapping(reply: Reply, request: Request) -> dict[str, object]:
    document = parse_json(reply, request)
    if not isinstance(document, dict):
        raise unexpected_reply_error(reply, request)
    return document


def request_page(path: str, name: str) -> Exchange[tuple[list[dict[str, object]], str]]:
    """Return the objects of a list, and the value of ``after`` for its next page; "" if there is none.

    Args:
        path: The path, with its query.
        name: The field of the reply that has the list.
    """
    request = Request("GET", path, limit=MAX_LIST_BYTES)
    reply = yield request
    rows = _parse_mapping(reply, request).get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise unexpected_reply_error(reply, request)
    link = urlsplit(reply.headers.get("link", "").partition(">")[0].removeprefix("<"))
    return rows, next((value for name, value in parse_qsl(link.query) if name == "after"), "")


def request_rows(
    path: str, name: str, criteria: Mapping[str, str], limit: int, page_size: int
) -> Exchange[tuple[list[dict[str, object]], bool]]:
    """Return the objects of a list, page by page, and whether there are others.

    Args:
        path: The path, without a query.
        name: The field of a reply that has the list.
        criteria: Names to values of the query.
        limit: The maximum number of objects.
        page_size: The maximum number of objects in one page.
    """
    rows, after = list[dict[str, object]](), ""
    while True:
        query = {**criteria, "limit": str(min(limit - len(rows), page_size)), **({"after": after} if after else {})}
        page, after = yield from request_page(f"{path}?{urlencode(query)}", name)
        rows += page
        if not after or not page or len(rows) >= limit:
            return rows[:limit], bool(after)


def request_run(item_id: str, run_id: str) -> Exchange[dict[str, object] | None]:
    """Return the newest run of the history with an id and a run id; ``None`` if there is none."""
    check_id(item_id, "item_id")
    check_id(run_id, "run_id")
    path = f"api/v1/history?limit=1&id={quote_id(item_id)}&run_id={quote_id(run_id)}"
    runs, _ = yield from request_page(path, "items")
    # A server of an earlier version ignores the run id.
    return next((run for run in runs if run.get("run_id") == run_id), None)


def request_last_run(item_id: str) -> Exchange[dict[str, object] | None]:
    """Return the latest run of an id that the history has; ``None`` if there is none."""
    check_id(item_id, "item_id")
    runs, _ = yield from request_history({"id": item_id}, 1)
    return next((run for run in runs if run.get("id") == item_id), None)


def request_history(criteria: Mapping[str, str], limit: int) -> Exchange[tuple[list[dict[str, object]], bool]]:
    """Return runs of the history, newest first, and whether there are others.

    Args:
        criteria: Names to values of the query, such as ``id``, ``group``, ``status``, ``since``, ``until`` and ``q``.
        limit: The maximum number of runs; more than a page are requested page by page.
    """
    return (yield from request_rows("api/v1/history", "items", criteria, limit, MAX_HISTORY_PAGE))


def request_statistics(item_id: str) -> Exchange[dict[str, object]]:
    """Return the statistics of the runs of an id; empty from a server of an earlier version."""
    request = Request("GET", f"api/v1/history:statistics?id={quote_id(item_id)}")
    reply = yield request
    if reply.status in (404, 405):
        return {}
    return _parse_mapping(reply, request)


def request_tail(item_id: str, run_id: str) -> Exchange[str]:
    """Return the last lines of the output of a run; empty if there is none, or the key may not read it."""
    check_id(item_id, "item_id")
    info = yield from request_key_info()
    if "read_tail" not in info.permissions:
        return ""
    request = Request("GET", f"api/v1/tails/{quote_id(item_id)}?run_id={quote_id(run_id)}")
    reply = yield request
    if reply.status in (403, 404, 405):
        return ""
    tail = _parse_mapping(reply, request).get("tail")
    return tail if isinstance(tail, str) else ""


def request_batch(ops: Sequence[Op]) -> Exchange[list[OpResult]]:
    """Send operations in one request and return one result for each.

    An operation that cannot be serialized gets a local 422 result; the others are sent.
    """
    try:
        body, valid_ops = encode_json({"ops": ops}), ops
    except Exception:
        failures = {index: result for index, op in enumerate(ops) if (result := _encoding_failure(op)) is not None}
        if not failures:  # such as a MemoryError
            raise
        valid_ops = [op for index, op in enumerate(ops) if index not in failures]
        valid_results = iter((yield from request_batch(valid_ops)) if valid_ops else ())
        return [failures[index] if index in failures else next(valid_results) for index in range(len(ops))]
    request = Request("POST", "api/v1/items:batch", body)
    reply = yield request
    document = parse_json(reply, request)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != len(valid_ops) or not all(map(_is_result, results)):
        raise unexpected_reply_error(reply, request)
    return cast("list[OpResult]", results)


def _encoding_failure(op: Op) -> OpResult | None:
    """Return the result of an operation that cannot be serialized, or ``None``."""
    try:
        encode_json(op)
    except MemoryError:
        return None
    except Exception as error:  # noqa: BLE001 - a program may pass any object
        return _encoding_error(op["id"], error)
    return None


def _encoding_error(item_id: str, error: Exception) -> OpResult:
    detail = f"not serializable as JSON: {format_value(error, 200)}"
    return {"id": item_id, "status": 422, "problem": {"detail": detail}}


def _is_result(result: object) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("problem"), dict | None):
        return False
    status = result.get("status")
    return isinstance(status, int) and 200 <= status < 600


def _is_transient(status: int) -> bool:
    return status in (408, 429) or status >= 500


def _is_missing(op: Op, result: OpResult) -> bool:
    # A delete has succeeded if the item is gone. The item of a part may not exist yet.
    return result["status"] in (404, 410) and op["op"] != "delete" and "part" not in op


def _request_single(item_id: str, request: Request) -> Exchange[OpResult]:
    """Send one operation in its own request and return its result in the form of a batch."""
    reply = yield request
    if 200 <= reply.status < 300:
        return {"id": item_id, "status": reply.status}
    error = error_from_reply(reply, request)
    if (
        error.code == FOREIGN_REPLY_CODE
        or reply.status == 401
        or 300 <= reply.status < 400
        or _is_transient(reply.status)
    ):
        raise error
    return {"id": item_id, "status": reply.status, "problem": {"detail": error.detail or str(error)}}


class ServerProtocol:
    """The calls of one client as exchanges, with a cache of its key's permissions.

    Args:
        auto_detect: Check permissions before a request is sent. If false, only the server checks them, and the
            helpers request the key's permissions on first use.
        clock: Monotonic seconds.
    """

    def __init__(self, *, auto_detect: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.auto_detect = auto_detect
        self.key_info_cache: KeyInfo | None = None
        self._clock = clock
        self._legacy_states: dict[str, LegacyState] | None = None  # only on a server of part 1

    @property
    def unbatched(self) -> bool:
        """Whether each operation of a tracker is sent in its own request."""
        return self._legacy_states is not None

    @property
    def boot_id(self) -> str:
        """The server's boot id in the latest key info, or ``""``; see ``deliver``."""
        return "" if self.key_info_cache is None else self.key_info_cache.boot_id

    def key_info(self) -> Exchange[KeyInfo]:
        """Return type and permissions of the key, from the cache after the first request."""
        if self.key_info_cache is None:
            self.key_info_cache = yield from request_key_info()
        return self.key_info_cache

    def get_all(self) -> Exchange[list[Item]]:
        """Return all items, highest weight first."""
        yield from self._require_permission("read items", "read")
        return (yield from self._list_items())

    def get(self, item_id: str) -> Exchange[Item]:
        """Return an item by its id."""
        check_id(item_id, "item_id")
        yield from self._require_permission("read items", "read")
        request = Request("GET", f"api/v1/items/{quote_id(item_id)}")
        reply = yield request
        if reply.status not in (404, 405):
            return cast("Item", _parse_mapping(reply, request))
        missing = error_from_reply(reply, request)
        if missing.code != "item-not-found":  # a 1.0.0 server has no such route: search the list
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
        body = encode_json(build_legacy_item(item_id, title, description, value, weight))
        yield from self._require_permission("create items", "create")
        yield from request_json(Request("POST", "progress", body))

    def update(self, item_id: str, title: str, description: str, value: float, weight: int) -> Exchange[None]:
        body = encode_json(build_legacy_item(item_id, title, description, value, weight))
        yield from self._require_permission("update items", "update_own", "update_all")
        yield from request_json(Request("PUT", "progress", body))

    def patch(self, item_id: str, fields: ItemWrite) -> Exchange[Item]:
        """Change some fields of an item and return the item. Servers of part 1 have no such request."""
        check_id(item_id, "item_id")
        request = Request("PATCH", f"api/v1/items/{quote_id(item_id)}", encode_json(fields))
        yield from self._require_permission("update items", "update_own", "update_all")
        return cast("Item", (yield from request_mapping(request)))

    def request_stop(self, item_id: str, run_id: str | None) -> Exchange[Item]:
        """Request the end of the current run, or of ``run_id`` if that is the current one, and return the item."""
        check_id(item_id, "item_id")
        body = encode_json({} if run_id is None else {"run_id": check_id(run_id, "run_id")})
        request = Request("POST", f"api/v1/items/{quote_id(item_id)}:stop", body)
        yield from self._require_permission("stop items", "update_own", "update_all")
        return cast("Item", (yield from request_mapping(request)))

    def delete(self, item_id: str) -> Exchange[bool]:
        """Delete an item; return false if it did not exist."""
        check_id(item_id, "item_id")
        yield from self._require_permission("delete items", "delete_own", "delete_all")
        try:
            yield from request_json(Request("DELETE", f"progress?id={quote_id(item_id)}"))
        except ItemNotFoundError:
            return False
        return True

    def is_admin(self) -> Exchange[bool]:
        """Return whether the key is an admin key."""
        return (yield from self.key_info()).type == "admin"

    def is_read_only(self) -> Exchange[bool]:
        """Return whether the key is a read key."""
        return (yield from self.key_info()).type == "read"

    def can_write(self) -> Exchange[bool]:
        """Return whether the key may create or update items."""
        info = yield from self.key_info()
        return any(name in info.permissions for name in ("create", "update_own", "update_all"))

    def can_delete(self) -> Exchange[bool]:
        """Return whether the key may delete items."""
        info = yield from self.key_info()
        return any(name in info.permissions for name in ("delete_own", "delete_all"))

    def deliver(self, ops: Sequence[Op]) -> Exchange[list[OpResult]]:
        """Send a tracker's operations: in one batch, or one by one if the server supports only part 1.

        If an item is missing, request the server's boot id: a new one means that the server restarted.
        """
        if self._legacy_states is None:
            try:
                results = yield from request_batch(ops)
            except ResponseError as error:
                if error.status_code not in (404, 405):
                    raise
                if "v1" in (yield from self.key_info()).api:
                    raise
            else:
                if any(map(_is_missing, ops, results)):
                    with contextlib.suppress(ResponseError):  # the batch has its results already
                        self.key_info_cache = yield from request_key_info()
                return results
            self._legacy_states = {}
        return (yield from self._deliver_one_by_one(ops, self._legacy_states))

    def _deliver_one_by_one(self, ops: Sequence[Op], states: dict[str, LegacyState]) -> Exchange[list[OpResult]]:
        results: list[OpResult] = []
        failure: ResponseError | None = None
        for op in ops:
            if failure is None or failure.status_code not in (408, 429, 503):  # an overloaded server gets no more
                try:
                    results.append((yield from self._deliver_unbatched(op, states)))
                    continue
                except ResponseError as error:
                    if not _is_transient(error.status_code):
                        raise
                    failure = error
            detail = failure.detail or str(failure)
            results.append({"id": op["id"], "status": failure.status_code, "problem": {"detail": detail}})
        if failure is not None and all(_is_transient(result["status"]) for result in results):
            raise failure
        return results

    def _deliver_unbatched(self, op: Op, states: dict[str, LegacyState]) -> Exchange[OpResult]:
        # A write of part 1 replaces the item, so the fields of earlier operations are merged here.
        item_id = op["id"]
        if op["op"] == "delete":
            states.pop(item_id, None)
            request = Request("DELETE", f"progress?id={quote_id(item_id)}")
            return (yield from _request_single(item_id, request))
        now, state = self._clock(), states.get(item_id)
        if state is None or op["op"] == "put":
            state = LegacyState(op, now, op.get("completed") or 0)
        else:
            merged = cast("Op", {**state.op, **op})
            completed = merged.get("completed")
            is_first_count = state.op.get("completed") is None and completed is not None
            # The speed is measured from the first count on.
            state = LegacyState(merged, now, completed or 0) if is_first_count else state._replace(op=merged)
        try:
            body = encode_json(state.to_item(now))
        except (ArithmeticError, TypeError, ValueError, RecursionError) as error:
            return _encoding_error(item_id, error)
        states[item_id] = state
        if op["op"] == "patch":
            return (yield from _request_single(item_id, Request("PUT", "progress", body)))
        result = yield from _request_single(item_id, Request("POST", "progress", body))
        if result["status"] == 409:  # left by an earlier run, or the reply to our create was lost: adopt the item
            result = yield from _request_single(item_id, Request("PUT", "progress", body))
        return result

    def _list_items(self) -> Exchange[list[Item]]:
        request = Request("GET", "progress", limit=MAX_LIST_BYTES)
        reply = yield request
        document = parse_json(reply, request)
        if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
            raise unexpected_reply_error(reply, request)
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
