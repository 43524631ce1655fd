"""Invalid input: every route refuses it with a problem."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from progressbar_tracker._models import MAX_BATCH_BYTES, MAX_BODY_BYTES
from progressbar_tracker.server.http.request import Request
from progressbar_tracker.server.problems import PROBLEM_CODES, ProblemError
from progressbar_tracker.server.routes import ROUTES
from tests.support.server import RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ITEM_PATH: Final = "/api/v1/items/kept"
BODY_PATHS: Final = {
    ("POST", "/progress"): "/progress",
    ("PUT", "/progress"): "/progress",
    ("PUT", "/api/v1/items/{id:path}"): ITEM_PATH,
    ("PATCH", "/api/v1/items/{id:path}"): ITEM_PATH,
    ("POST", "/api/v1/items:batch"): "/api/v1/items:batch",
    ("POST", "/api/v1/items/{id:path}:stop"): f"{ITEM_PATH}:stop",
    ("POST", "/api/v1/keys"): "/api/v1/keys",
    ("POST", "/api/v1/shares"): "/api/v1/shares",
    ("POST", "/api/v1/push/subscriptions"): "/api/v1/push/subscriptions",
    ("PATCH", "/api/v1/push/subscriptions/{subscription_id}"): "/api/v1/push/subscriptions/none",
    ("PUT", "/api/v1/schedules/{id:path}"): "/api/v1/schedules/kept",
    ("POST", "/api/v1/ping-tokens"): "/api/v1/ping-tokens",
}
BODYLESS_PATHS: Final = {
    "/api/v1/keys/{key_id}/rotate", "/api/v1/channels/{name}/test", "/login", "/logout",
    "/ping/{token}/{slug}", "/ping/{token}/{slug}/{signal}",  # any body is the output of a program
}  # fmt: skip
"""Paths whose writes take no JSON."""

INVALID_JSON: Final = {
    "nothing": b"",
    "cut off": b'{"id": "a"',
    "no JSON": b"id=a&value=1",
    "invalid UTF-8": b'{"id": "\xff\xfe"}',
    "invalid UTF-8 in a field": b'{"title": "\xc3"}',
    "a BOM": b"\xef\xbb\xbf{}",
    "two documents": b"{}{}",
    "nested deeply": b"[" * 30_000,
    "nested deeply in objects": b'{"a":' * 10_000,
    "a huge int": b'{"value": 1' + b"0" * 6_000 + b"}",
    "a null byte": b'{"id": "\x00"}',
}
NON_OBJECT_JSON: Final = {"a list": b"[]", "a number": b"1", "null": b"null", "a text": b'"a"', "true": b"true"}

INVALID_FIELDS: Final = [
    ("title", b"1"), ("title", b'"a\\u0000b"'), ("title", b'"\\u001b[31m"'), ("title", b'"\\ud800"'),
    ("title", b'"%s"' % (b"x" * 201)), ("title", b"[]"), ("description", b'"%s"' % (b"x" * 2001)),
    ("description", b"{}"), ("description", b'"\\u0007"'), ("value", b"NaN"), ("value", b"Infinity"), ("value", b"-1"),
    ("value", b"1e999"), ("value", b"1.0000001"), ("value", b"true"), ("value", b'"0.5"'), ("value", b"null"),
    ("value", b"123456789012345678901234567890"), ("weight", b"1.5"), ("weight", b"true"), ("weight", b'"1"'),
    ("weight", b"9007199254740993"), ("weight", b"-123456789012345678901234567890"), ("weight", b"1e999"),
]  # fmt: skip
INVALID_V1_FIELDS: Final = [
    ("completed", b"1e999"), ("completed", b'"1"'), ("completed", b"false"), ("completed", b"-1e301"),
    ("total", b"NaN"), ("total", b"[]"), ("unit", b'"%s"' % (b"x" * 21)), ("unit", b"1"), ("status", b'"done"'),
    ("status", b"null"), ("status", b"[]"), ("status", b"{}"), ("error", b"1"), ("group", b'"\\ud800"'),
    ("group", b"{}"), ("parent", b'"%s"' % (b"x" * 201)), ("meta", b"[]"), ("meta", b'{"a": 1}'),
    ("meta", b'{"a": {"b": null}}'), ("meta", b'{"\\u0000": "x"}'), ("meta", b'"x"'), ("run_id", b'""'),
    ("short_runs", b"-1"), ("short_runs", b"1.0"), ("short_runs", b"null"),
    ("run_id", b"null"), ("run_id", b"7"), ("seq", b"-1"), ("seq", b"1.0"), ("seq", b"null"), ("seq", b"true"),
    ("seq", b"99999999999999999999"), ("part", b'"%s"' % (b"x" * 65)), ("part", b"0"), ("ttl", b"-1"),
    ("ttl", b'"1"'), ("heartbeat_timeout", b"1e999"), ("heartbeat_timeout", b"true"),
]  # fmt: skip


@pytest.fixture(scope="module")
def http(module_server: RunningServer) -> Iterator[httpx.Client]:
    """A client with an admin key, and an item that no test changes."""
    client = module_server.client("admin")
    created = client.put(ITEM_PATH, json={"title": "kept", "run_id": "r", "completed": 1, "total": 2, "seq": 5})
    assert created.status_code == 201
    return client


def check_problem(reply: httpx.Response, code: str, field: str | None = None) -> None:
    assert reply.headers["Content-Type"] == "application/problem+json"
    document = reply.json()
    assert document["type"] == f"/problems/{code}", document
    assert document["status"] == reply.status_code == PROBLEM_CODES[code][0]
    assert document["title"]
    assert document["detail"]
    assert document.get("field") == field


def send_unchanged(
    http: httpx.Client, route: tuple[str, str], body: bytes, kind: str = "application/json"
) -> httpx.Response:
    before = http.get("/progress").json()
    reply = http.request(route[0], BODY_PATHS[route], content=body, headers={"Content-Type": kind})
    assert http.get("/progress").json() == before
    return reply


def test_every_route_with_body_is_tested() -> None:
    tried = {
        (row.method, row.path)
        for row in ROUTES
        if row.method in {"POST", "PUT", "PATCH"} and row.path not in BODYLESS_PATHS
    }
    assert tried == set(BODY_PATHS)


@pytest.mark.parametrize("route", BODY_PATHS, ids=" ".join)
@pytest.mark.parametrize("name", INVALID_JSON)
def test_invalid_json_is_refused(http: httpx.Client, route: tuple[str, str], name: str) -> None:
    check_problem(send_unchanged(http, route, INVALID_JSON[name]), "malformed-json")


@pytest.mark.parametrize("route", BODY_PATHS, ids=" ".join)
@pytest.mark.parametrize("name", NON_OBJECT_JSON)
def test_json_without_object_is_refused(http: httpx.Client, route: tuple[str, str], name: str) -> None:
    check_problem(send_unchanged(http, route, NON_OBJECT_JSON[name]), "bad-request")


@pytest.mark.parametrize("route", BODY_PATHS, ids=" ".join)
def test_other_content_type_is_refused(http: httpx.Client, route: tuple[str, str]) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"):
        check_problem(send_unchanged(http, route, b"{}", kind), "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", ""])
def test_json_content_types_are_accepted(http: httpx.Client, kind: str) -> None:
    assert http.patch(ITEM_PATH, content=b"{}", headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("route", BODY_PATHS, ids=" ".join)
def test_too_large_body_is_refused_with_and_without_length(http: httpx.Client, route: tuple[str, str]) -> None:
    limit = MAX_BATCH_BYTES if "batch" in route[1] else MAX_BODY_BYTES
    check_problem(send_unchanged(http, route, b" " * (limit + 1)), "body-too-large")
    chunks = (b" " * 65_536 for _ in range(160))
    reply = http.request(route[0], BODY_PATHS[route], content=chunks)
    check_problem(reply, "body-too-large")


def test_body_is_read_only_up_to_limit(module_server: RunningServer) -> None:
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    call = Request(module_server.background.app.services, {"type": "http", "headers": []}, receive)
    with pytest.raises(ProblemError, match="bytes at most"):
        asyncio.run(call.read_json())
    assert taken == MAX_BODY_BYTES // 1000 + 1


def test_body_at_limit_is_accepted(http: httpx.Client) -> None:
    assert http.patch(ITEM_PATH, content=b"{}".ljust(MAX_BODY_BYTES)).status_code == 200


@pytest.mark.parametrize(("field", "value"), INVALID_FIELDS, ids=lambda part: str(part)[:24])
def test_legacy_route_names_invalid_field(http: httpx.Client, field: str, value: bytes) -> None:
    for method in ("POST", "PUT"):
        body = {name: msgspec.json.encode(usual) for name, usual in make_legacy_item("new").items()} | {field: value}
        raw = b"{" + b",".join(b'"%s":%s' % (name.encode(), text) for name, text in body.items()) + b"}"
        check_problem(send_unchanged(http, (method, "/progress"), raw), "invalid-field", field)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(("field", "value"), INVALID_FIELDS + INVALID_V1_FIELDS, ids=lambda part: str(part)[:24])
def test_item_route_names_invalid_field(http: httpx.Client, method: str, field: str, value: bytes) -> None:
    reply = send_unchanged(http, (method, "/api/v1/items/{id:path}"), b'{"%s":%s}' % (field.encode(), value))
    check_problem(reply, "invalid-field", field)
    op = b'{"ops":[{"op":"%s","id":"kept","%s":%s}]}' % (method.lower().encode(), field.encode(), value)
    reply = send_unchanged(http, ("POST", "/api/v1/items:batch"), op)
    (result,) = reply.json()["results"]
    assert (result["status"], result["problem"]["field"]) == (422, field)


@pytest.mark.parametrize("item_id", ["", "x" * 201, "a\nb", "\x00", "\x7f", "\x85"])
def test_invalid_id_is_refused_everywhere(http: httpx.Client, item_id: str) -> None:
    check_problem(http.post("/progress", json=make_legacy_item(item_id)), "invalid-field", "id")
    check_problem(http.put("/progress", json=make_legacy_item(item_id)), "invalid-field", "id")
    check_problem(http.delete("/progress", params={"id": item_id}), "invalid-field", "id")
    path = "/api/v1/items/" + "".join(f"%{byte:02X}" for byte in item_id.encode())
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        check_problem(http.request(method, path, json={}), "invalid-field", "id")
    (result,) = http.post("/api/v1/items:batch", json={"ops": [{"op": "put", "id": item_id}]}).json()["results"]
    assert result["problem"]["field"] == "id"


def test_surrogate_in_id_is_refused(http: httpx.Client) -> None:
    for body in (b'{"id":"\\ud800","title":"","description":"","value":0,"weight":0}',):
        check_problem(send_unchanged(http, ("POST", "/progress"), body), "invalid-field", "id")
    reply = send_unchanged(http, ("POST", "/api/v1/items:batch"), b'{"ops":[{"op":"put","id":"\\ud800"}]}')
    assert reply.json()["results"][0]["problem"]["field"] == "id"


@pytest.mark.parametrize("path", ["%FF", "%C3", "%ED%A0%80", "%zz", "a%", "%2"])
def test_undecodable_path_is_refused(http: httpx.Client, module_server: RunningServer, path: str) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        status, body = send_raw(module_server, method, f"/api/v1/items/{path}", b"{}")
        assert (status, body["type"]) == (400, "/problems/bad-request")
    for target in (f"/progress?id={path}", f"/progress?{path}=x"):
        assert send_raw(module_server, "DELETE", target, b"")[0] in {400, 422}


def send_raw(served: RunningServer, method: str, target: str, body: bytes) -> tuple[int, dict[str, object]]:
    """Send a raw request target, which clients would normalize."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", served.background.port, timeout=10)
    connection.putrequest(method, target, skip_accept_encoding=True)
    connection.putheader("X-API-KEY", served.keys["admin"])
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    reply = connection.getresponse()
    document = msgspec.json.decode(reply.read())
    connection.close()
    return reply.status, document


INVALID_QUERIES: Final = [
    "limit=0", "limit=x", "limit=-1", "limit=99999999999999999999", "limit=%FF", "limit=²", "after=x",
    "after=%F0%9F", "after=AAAA", "after=" + "9" * 400, "status=done",
]  # fmt: skip


@pytest.mark.parametrize("query", INVALID_QUERIES)
@pytest.mark.parametrize("path", ["/api/v1/items", "/api/v1/history"])
def test_invalid_query_is_refused(http: httpx.Client, path: str, query: str) -> None:
    assert http.get(f"{path}?{query}").status_code in {400, 422}


@pytest.mark.parametrize(
    ("ops", "field"), [(None, "ops"), ({}, "ops"), ("put", "ops"), ([{"op": "put", "id": "x"}] * 501, "ops")]
)
def test_invalid_batch_is_refused(http: httpx.Client, ops: object, field: str) -> None:
    check_problem(
        send_unchanged(http, ("POST", "/api/v1/items:batch"), msgspec.json.encode({"ops": ops})), "invalid-field", field
    )


@pytest.mark.parametrize(
    "op", [None, 1, "put", [], {}, {"op": "put"}, {"op": "post", "id": "x"}, {"op": ["put"], "id": "x"},
           {"op": "put", "id": 1}, {"op": "put", "id": {"x": "y"}}, {"op": "delete", "id": "kept", "run_id": 7}]
)  # fmt: skip
def test_invalid_operation_does_not_affect_others(http: httpx.Client, op: object) -> None:
    reply = http.post("/api/v1/items:batch", json={"ops": [op, {"op": "patch", "id": "kept"}]})
    first, second = reply.json()["results"]
    assert (first["status"], second["status"]) == (422, 200)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "n"}, "type"), ({"type": "write"}, "name"), ({"type": "root", "name": "n"}, "type"),
        ({"type": ["write"], "name": "n"}, "type"), ({"type": "write", "name": 1}, "name"),
        ({"type": "write", "name": ""}, "name"), ({"type": "write", "name": "n", "group": 1}, "group"),
        ({"type": "write", "name": "n", "expires_at": "tomorrow"}, "expires_at"),
        ({"type": "write", "name": "n", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"type": "write", "name": "n", "expires_at": 1e12}, "expires_at"),
        ({"type": "write", "name": "n", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"type": "write", "name": "n", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
    ],
)  # fmt: skip
def test_invalid_key_is_not_created(http: httpx.Client, body: dict[str, object], field: str) -> None:
    check_problem(http.post("/api/v1/keys", json=body), "invalid-field", field)


def test_read_only_fields_are_ignored(http: httpx.Client) -> None:
    before = http.get(ITEM_PATH).json()
    names = "owner owner_id created_at ended_at rate eta stalled born rev past parts own pace unheard_of"
    injected = dict.fromkeys(names.split(), "injected")
    after = http.patch(ITEM_PATH, json=injected).json()
    assert {**after, "updated_at": before["updated_at"]} == before


def test_write_is_validated_before_it_is_authorized(http: httpx.Client, module_server: RunningServer) -> None:
    other = module_server.client("other")
    for value, status in ((2, 422), (0.5, 403)):
        assert other.patch(ITEM_PATH, json={"value": value}).status_code == status
        op = {"op": "patch", "id": "kept", "value": value}
        (result,) = other.post("/api/v1/items:batch", json={"ops": [op]}).json()["results"]
        assert (result["id"], result["status"]) == ("kept", status)


def test_id_in_body_must_equal_path(http: httpx.Client) -> None:
    check_problem(http.patch(ITEM_PATH, json={"id": "another"}), "invalid-field", "id")
    assert http.patch(ITEM_PATH, json={"id": "kept"}).status_code == 200


def test_unknown_path_is_problem(http: httpx.Client) -> None:
    for path in ("/nothing", "/progress/", "/api/v1", "/api/v1/items/../../x", "/static/", "/%FF"):
        check_problem(http.get(path), "not-found")


def test_wrong_method_lists_allowed_ones(http: httpx.Client) -> None:
    reply = http.patch("/progress")
    check_problem(reply, "method-not-allowed")
    assert reply.headers["Allow"] == "DELETE, GET, HEAD, POST, PUT"


def test_head_response_has_no_body(http: httpx.Client) -> None:
    reply = http.head("/progress")
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 2


def test_internal_error_hides_details(
    http: httpx.Client, module_server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(module_server.background.app.services.board, "page", fail)
    reply = http.get("/progress")
    check_problem(reply, "internal-error")
    assert "inside" not in reply.text
    assert "the inside" in caplog.text
    assert module_server.keys["admin"] not in caplog.text
