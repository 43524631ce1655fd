"""The exchanges, driven without network and HTTP library."""

from __future__ import annotations

import json
import math
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker import (
    ConfigError,
    ConflictError,
    ItemExistsError,
    ItemNotFoundError,
    KeyInfo,
    PermissionError,
    RateLimitedError,
    ResponseError,
    ServerError,
    ValidationError,
)
from progressbar_tracker._http.credentials import (
    request_key_revocation,
    request_key_rotation,
    request_keys,
    request_new_key,
    request_new_ping_token,
    request_ping_token_revocation,
    request_ping_tokens,
    request_shares,
)
from progressbar_tracker._http.exchanges import ServerProtocol, request_batch, request_json, request_key_info
from progressbar_tracker._http.legacy import LegacyState, build_legacy_item
from progressbar_tracker._http.messages import (
    Reply,
    Request,
    check_key,
    encode_json,
    error_from_reply,
    parse_base_url,
    parse_json,
    parse_retry_after,
    quote_id,
)
from progressbar_tracker._http.schedules import request_schedules
from progressbar_tracker._models import FieldError, FieldTypeError
from tests.support.clock import ManualClock
from tests.support.hostile_ids import HOSTILE_IDS

GET_REQUEST = Request("GET", "progress")
POST_REQUEST = Request("POST", "progress", b"{}")
PUT_REQUEST = Request("PUT", "progress", b"{}")
V1_KEY_INFO = {"type": "write", "permissions": ["read", "create", "update_own", "delete_own"], "api": ["v1"]}
LEGACY_KEY_INFO = {"type": "write", "permissions": ["read", "create", "update_own", "delete_own"]}
HTML_PAGE = b"<!doctype html><title>Sign in to the airport</title>"


def make_reply(document=None, status=200, **headers):
    body = b"" if document is None else json.dumps(document).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, body)


def make_problem_reply(status, code="", detail="", **more):
    return make_reply({"type": f"/problems/{code}", "title": "t", "status": status, "detail": detail, **more}, status)


def make_html_reply(status=200):
    return Reply(status, {"content-type": "text/html"}, HTML_PAGE)


class ExchangeDriver:
    """Runs an exchange with prepared replies and records the requests."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []

    def run(self, exchange):
        try:
            request = next(exchange)
            while True:
                self.requests.append(request)
                assert self.replies, f"unexpected request: {request}"
                request = exchange.send(self.replies.pop(0))
        except StopIteration as stop:
            assert not self.replies, f"unused replies: {self.replies}"
            return stop.value

    @property
    def request_lines(self):
        return [f"{request.method} {request.path}" for request in self.requests]

    @property
    def request_bodies(self):
        return [None if request.body is None else json.loads(request.body) for request in self.requests]


def run_exchange(exchange, *replies):
    return ExchangeDriver(*replies).run(exchange)


# ---------------------------------------------------------------- the base URL


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("http://h", "http://h/"),
        ("http://h/", "http://h/"),
        ("http://h//", "http://h/"),
        ("http://h:8989/sub", "http://h:8989/sub/"),
        ("https://h/a/b/", "https://h/a/b/"),
        ("  http://h \n", "http://h/"),
        ("HTTP://h", "HTTP://h/"),
        ("http://[::1]:8989", "http://[::1]:8989/"),
        ("http://bücher.example", "http://bücher.example/"),
        ("http://h/50%25", "http://h/50%25/"),
    ],
)
def test_base_url_ends_in_one_slash(given_url, used):
    assert parse_base_url(given_url) == used


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "/",
        "localhost:8989",
        "server",
        "//server",
        "ftp://h",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://:8989",
        "http://h:port",
        "http://h:99999",
        "http://[::1",
        "http://h/?",
        "http://h/?a=b",
        "http://h/#",
        "http://h/#top",
        "http://h/a b",
        "http://h\tx/",
        "http://h/a\nb",
        "http://h/\x00",
        "http://h/\x7f",
        "http://h/\ud800",
        None,
        5,
        b"http://h",
    ],
    ids=ascii,
)
def test_invalid_base_url_error_names_the_argument(url):
    with pytest.raises(ConfigError, match=r"^url ") as caught:
        parse_base_url(url, "url")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", ["http://user:secret@h", "http://secret@h/", "http://:secret@h"])
def test_base_url_with_password_is_refused_and_hidden(url):
    with pytest.raises(ConfigError) as caught:
        parse_base_url(url)
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("key", ["k", "readonly-key-123", "a b", "~!@#$%^&*()", " padded\n"])
def test_printable_key_is_stripped(key):
    assert check_key(key) == key.strip()


@pytest.mark.parametrize("key", ["", "  ", "se\ncret", "secr\r\nX-Admin: 1", "secret\x00", "sécret", "secret😀"])
def test_unprintable_key_is_refused_and_hidden(key):
    with pytest.raises(ConfigError, match=r"^api_key must ") as caught:
        check_key(key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("key", [None, 5, b"secret"])
def test_key_of_another_type_is_refused_and_hidden(key):
    with pytest.raises(ConfigError, match="api_key must be a string, not ") as caught:
        check_key(key)
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("item_id", HOSTILE_IDS)
def test_quoted_id_is_one_segment_and_decodes_to_id(item_id):
    text = quote_id(item_id)
    assert unquote(text) == item_id
    assert text.isascii()
    assert not set(text) & set("/?#&+ ;\\")
    assert text not in (".", "..")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_quoted_id_round_trips_in_query(item_id):
    query = urlsplit(f"http://h/progress?id={quote_id(item_id)}").query
    assert parse_qsl(query, keep_blank_values=True, strict_parsing=True) == [("id", item_id)]


def test_quoted_id_keeps_ordinary_dots():
    assert quote_id("model-v1.2.bin") == "model-v1.2.bin"


def test_body_is_compact_utf_8_json():
    assert encode_json({"title": "ü😀", "value": 0.5}) == '{"title":"ü😀","value":0.5}'.encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_non_finite_number_is_never_encoded(number):
    with pytest.raises(ValueError):
        encode_json({"value": number})


def test_legacy_item_has_protocol_fields():
    assert build_legacy_item("x", "X", "a\nb", 1, 7) == {
        "id": "x",
        "title": "X",
        "description": "a\nb",
        "value": 1.0,
        "weight": 7,
    }


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("item_id", ("", "t", "d", 0.5, 0)),
        ("title", ("x", "t" * 201, "d", 0.5, 0)),
        ("title", ("x", "a\nb", "d", 0.5, 0)),
        ("description", ("x", "t", "d" * 2001, 0.5, 0)),
        ("value", ("x", "t", "d", 1.5, 0)),
        ("weight", ("x", "t", "d", 0.5, 2**60)),
    ],
)
def test_legacy_item_error_names_the_field(argument, arguments):
    with pytest.raises(FieldError) as caught:
        build_legacy_item(*arguments)
    assert caught.value.field == argument


# ---------------------------------------------------------------- Retry-After

START_TIME = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("5", 5.0),
        (" 2.5 ", 2.5),
        ("-1", 0.0),
        ("300", 300.0),
        ("301", 300.0),
        ("1e999", 300.0),
        ("-inf", 0.0),
        ("9" * 400, 300.0),
        ("nan", None),
        ("", None),
        ("  ", None),
        ("soon", None),
        ("1 2", None),
        ("Wed, 99 Foo 2026 25:61:61 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        (formatdate(START_TIME + 30, usegmt=True), 30.0),
        (formatdate(START_TIME - 30, usegmt=True), 0.0),
        (formatdate(START_TIME + 86400, usegmt=True), 300.0),
    ],
)
def test_retry_after_is_from_0_to_300_seconds(text, seconds):
    assert parse_retry_after(Reply(503, {"retry-after": text}, b""), START_TIME) == seconds


def test_retry_after_without_header_is_none():
    assert parse_retry_after(Reply(503, {}, b"")) is None


@given(st.text())
def test_retry_after_of_any_text_is_bounded(text):
    seconds = parse_retry_after(Reply(503, {"retry-after": text}, b""), START_TIME)
    assert seconds is None or 0.0 <= seconds <= 300.0


# ---------------------------------------------------------------- errors

ERROR_CLASSES = [
    (400, ValidationError),
    (401, PermissionError),
    (403, PermissionError),
    (404, ItemNotFoundError),
    (405, ResponseError),
    (408, ResponseError),
    (413, ValidationError),
    (415, ResponseError),
    (418, ResponseError),
    (422, ValidationError),
    (429, RateLimitedError),
    (500, ServerError),
    (502, ServerError),
    (503, ServerError),
    (504, ServerError),
    (507, RateLimitedError),
    (599, ServerError),
    (301, ResponseError),
    (302, ResponseError),
    (304, ResponseError),
    (100, ResponseError),
]


@pytest.mark.parametrize(("status", "kind"), ERROR_CLASSES)
@pytest.mark.parametrize("request_", [GET_REQUEST, POST_REQUEST, PUT_REQUEST], ids=lambda request: request.method)
def test_status_selects_error_class(status, kind, request_):
    error = error_from_reply(Reply(status, {}, b""), request_)
    assert type(error) is kind
    assert error.status_code == status
    assert f"{request_.method} /progress" in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("request_", "code", "kind"),
    [
        (POST_REQUEST, "item-exists", ItemExistsError),
        (POST_REQUEST, "", ItemExistsError),
        (POST_REQUEST, "run-superseded", ConflictError),
        (POST_REQUEST, "run-ended", ConflictError),
        (PUT_REQUEST, "", ConflictError),
        (PUT_REQUEST, "run-superseded", ConflictError),
        (Request("DELETE", "progress?id=x"), "", ConflictError),
    ],
)
def test_conflict_on_create_only_is_item_exists(request_, code, kind):
    assert type(error_from_reply(make_problem_reply(409, code), request_)) is kind


@pytest.mark.parametrize(
    ("status", "message"), [(404, "gone (404 on GET /items/a)"), (500, "gone (500 on GET /items/a, request it-1)")]
)
def test_server_error_has_request_id(status, message):
    error = error_from_reply(Reply(status, {"x-request-id": "it-1"}, b'{"detail": "gone"}'), Request("GET", "items/a"))
    assert (error.request_id, str(error)) == ("it-1", message)


@pytest.mark.parametrize("given", ["", "x" * 129, "a\x1b[31m", "\xe4"])
def test_invalid_request_id_is_left_out(given):
    error = error_from_reply(Reply(500, {"x-request-id": given}, b""), Request("GET", "items/a"))
    assert (error.request_id, str(error)) == ("", "the server failed (500 on GET /items/a)")


def test_problem_sets_code_detail_and_retry_after():
    reply = make_problem_reply(429, "rate-limited", "Slow down.")
    error = error_from_reply(reply._replace(headers={"retry-after": "7"}), GET_REQUEST)
    assert (error.code, error.detail, error.retry_after) == ("rate-limited", "Slow down.", 7.0)
    assert str(error) == "Slow down. (429 on GET /progress)"


def test_problem_field_is_named_once():
    assert str(
        error_from_reply(make_problem_reply(422, detail="must be a number", field="value"), PUT_REQUEST)
    ).startswith("value: must be")
    assert str(
        error_from_reply(make_problem_reply(422, detail="value must be a number", field="value"), PUT_REQUEST)
    ).startswith("value must be")


def test_legacy_error_becomes_detail():
    assert (
        error_from_reply(make_reply({"error": "Item already exists"}, 409), POST_REQUEST).detail
        == "Item already exists"
    )


@pytest.mark.parametrize("document", [{"type": None, "detail": None, "field": None}, {}, None])
def test_empty_problem_uses_reason_of_status(document):
    error = error_from_reply(make_reply(document, 403), GET_REQUEST)
    assert (error.code, error.detail) == ("", "")
    assert str(error) == "not allowed (403 on GET /progress)"


def test_plain_text_reply_becomes_short_detail():
    error = error_from_reply(Reply(500, {}, b"  out of memory" + b"!" * 5000), GET_REQUEST)
    assert error.detail.startswith("out of memory!")
    assert len(error.detail) < 300


@pytest.mark.parametrize("status", [401, 404, 500, 502])
def test_html_page_never_becomes_message(status):
    error = error_from_reply(make_html_reply(status), GET_REQUEST)
    assert error.detail == ""
    assert "<" not in str(error)


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"[" * 100_000, b"{", b'{"detail": ' + b"9" * 5000 + b"}"])
def test_hostile_body_keeps_error_of_status(body):
    assert type(error_from_reply(Reply(503, {}, body), GET_REQUEST)) is ServerError


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_error_questions_the_url(status):
    error = error_from_reply(Reply(status, {"location": "http://elsewhere"}, HTML_PAGE), GET_REQUEST)
    assert type(error) is ResponseError
    assert error.code == "unexpected-answer"
    assert "is the URL right?" in str(error)


def test_error_hides_query_of_request():
    assert "?" not in str(error_from_reply(make_problem_reply(403), Request("DELETE", "progress?id=private")))


# ---------------------------------------------------------------- reading answers


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_empty_2xx_reply_is_success(status):
    assert parse_json(Reply(status, {}, b""), POST_REQUEST) is None


@pytest.mark.parametrize("body", [HTML_PAGE, b"ok", b"\xff", b"{", b"[" * 100_000])
def test_2xx_reply_without_json_questions_the_url(body):
    with pytest.raises(ResponseError, match="not from a progress server: is the URL right") as caught:
        parse_json(Reply(200, {"content-type": "text/html"}, body), POST_REQUEST)
    assert (caught.value.status_code, caught.value.code) == (200, "unexpected-answer")
    assert "text/html" in str(caught.value)


def test_request_json_returns_document():
    assert run_exchange(request_json(GET_REQUEST), make_reply({"a": 1})) == {"a": 1}


def test_key_info_of_v1_server_is_complete():
    document = {**V1_KEY_INFO, "server": {"version": "2.0.0", "boot_id": "b1"}, "limits": {"body": 65536}, "new": True}
    driver = ExchangeDriver(make_reply(document))
    assert driver.run(request_key_info()) == KeyInfo("write", tuple(V1_KEY_INFO["permissions"]), ("v1",), "2.0.0", "b1")
    assert driver.requests == [Request("GET", "api/key-info")]


def test_key_info_of_legacy_server_has_no_api():
    assert run_exchange(request_key_info(), make_reply(LEGACY_KEY_INFO)) == KeyInfo(
        "write", tuple(LEGACY_KEY_INFO["permissions"])
    )


@pytest.mark.parametrize("document", [[], {}, "x", None, {"type": "read"}, {"permissions": "read"}])
def test_key_info_without_permissions_is_unexpected(document):
    with pytest.raises(ResponseError) as caught:
        run_exchange(request_key_info(), make_reply(document))
    assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize(
    "more", [{"server": "x", "api": "v1"}, {"server": None, "api": None}, {"server": [], "api": {}}]
)
def test_key_info_ignores_invalid_additions(more):
    assert run_exchange(request_key_info(), make_reply({**LEGACY_KEY_INFO, **more})) == KeyInfo(
        "write", tuple(LEGACY_KEY_INFO["permissions"])
    )


# ---------------------------------------------------------------- the calls of a client


def test_key_info_is_requested_once():
    protocol = ServerProtocol()
    assert run_exchange(protocol.get_all(), make_reply(V1_KEY_INFO), make_reply([])) == []
    assert run_exchange(protocol.can_write()) is True
    assert run_exchange(protocol.key_info()) is protocol.key_info_cache


def test_failed_key_info_is_not_cached():
    protocol = ServerProtocol()
    with pytest.raises(ServerError):
        run_exchange(protocol.get_all(), make_problem_reply(500))
    assert run_exchange(protocol.get_all(), make_reply(V1_KEY_INFO), make_reply([])) == []


def test_without_auto_detect_call_is_first_request():
    driver = ExchangeDriver(make_reply([]))
    driver.run(ServerProtocol(auto_detect=False).get_all())
    assert driver.request_lines == ["GET progress"]


@pytest.mark.parametrize(
    ("call", "needed"),
    [
        (lambda protocol: protocol.get_all(), "read items: it has none, and read is needed"),
        (lambda protocol: protocol.get("x"), "read items: it has none, and read is needed"),
        (lambda protocol: protocol.create("x", "", "", 0, 0), "create items: it has none, and create is needed"),
        (
            lambda protocol: protocol.update("x", "", "", 0, 0),
            "update items: it has none, and update_own or update_all is need",
        ),
        (lambda protocol: protocol.delete("x"), "delete items: it has none, and delete_own or delete_all is needed"),
    ],
)
def test_missing_permission_is_refused_locally(call, needed):
    driver = ExchangeDriver(make_reply({"type": "odd", "permissions": ["none"]}))
    with pytest.raises(PermissionError, match=f"this odd key may not {needed}") as caught:
        driver.run(call(ServerProtocol()))
    assert (caught.value.status_code, caught.value.code) == (403, "forbidden")
    assert driver.request_lines == ["GET api/key-info"]


def test_error_names_a_key_without_permissions():
    with pytest.raises(PermissionError, match="it has no permissions"):
        run_exchange(ServerProtocol().get_all(), make_reply({"type": "read", "permissions": []}))


@pytest.mark.parametrize("document", [None, {}, "x", {"items": []}, [1], [{}, None]])
def test_item_list_of_wrong_shape_is_unexpected(document):
    with pytest.raises(ResponseError) as caught:
        run_exchange(ServerProtocol(auto_detect=False).get_all(), make_reply(document))
    assert caught.value.code == "unexpected-answer"


def test_get_requests_single_item():
    driver = ExchangeDriver(make_reply({"id": "a/b"}))
    assert driver.run(ServerProtocol(auto_detect=False).get("a/b")) == {"id": "a/b"}
    assert driver.request_lines == ["GET api/v1/items/a%2Fb"]


def test_get_missing_item_needs_one_request():
    driver = ExchangeDriver(make_problem_reply(404, "item-not-found", "no item"))
    with pytest.raises(ItemNotFoundError, match="no item with the id 'x'"):
        driver.run(ServerProtocol(auto_detect=False).get("x"))
    assert driver.request_lines == ["GET api/v1/items/x"]


def test_get_on_legacy_server_searches_list():
    driver = ExchangeDriver(make_html_reply(404), make_reply([{"id": "y"}, {"id": "x", "value": 0.5}]))
    assert driver.run(ServerProtocol(auto_detect=False).get("x")) == {"id": "x", "value": 0.5}
    assert driver.request_lines == ["GET api/v1/items/x", "GET progress"]


def test_get_missing_item_on_legacy_server_is_not_found():
    with pytest.raises(ItemNotFoundError) as caught:
        run_exchange(ServerProtocol(auto_detect=False).get("x"), make_html_reply(404), make_reply([{}, {"id": "y"}]))
    assert (caught.value.status_code, caught.value.code) == (404, "item-not-found")


@pytest.mark.parametrize("document", [None, [], "x"])
def test_item_of_wrong_shape_is_unexpected(document):
    with pytest.raises(ResponseError) as caught:
        run_exchange(ServerProtocol(auto_detect=False).get("x"), make_reply(document))
    assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize("item_id", [None, 5, "", "x" * 201, "a\x00"])
def test_invalid_id_is_refused_before_any_request(item_id):
    for call in (ServerProtocol().get, ServerProtocol().delete):
        driver = ExchangeDriver()
        with pytest.raises(FieldError, match="item_id"):
            driver.run(call(item_id))
        assert driver.requests == []


def test_invalid_field_is_refused_before_key_info():
    for call in (ServerProtocol().create, ServerProtocol().update):
        with pytest.raises(FieldTypeError, match=r"value must be a number, not '0\.5'"):
            run_exchange(call("x", "t", "d", "0.5", 0))


# ---------------------------------------------------------------- keys, shares, ping tokens and schedules


@pytest.mark.parametrize(
    ("exchange", "line", "body", "document", "result"),
    [
        (lambda: request_keys(), "GET api/v1/keys", None, {"keys": [{"key_id": "k"}]}, [{"key_id": "k"}]),
        (
            lambda: request_new_key("write", "ci", None),
            "POST api/v1/keys",
            {"type": "write", "name": "ci"},
            {"key": "s"},
            {"key": "s"},
        ),
        (
            lambda: request_new_key("read", "wall", "2030-01-01T00:00:00Z"),
            "POST api/v1/keys",
            {"type": "read", "name": "wall", "expires_at": "2030-01-01T00:00:00Z"},
            {"key": "s"},
            {"key": "s"},
        ),
        (lambda: request_key_revocation("a/b"), "DELETE api/v1/keys/a%2Fb", None, None, None),
        (lambda: request_key_rotation("a/b"), "POST api/v1/keys/a%2Fb/rotate", None, {"key": "s"}, {"key": "s"}),
        (
            lambda: request_new_ping_token("cron", "nightly", None),
            "POST api/v1/ping-tokens",
            {"name": "cron", "group": "nightly"},
            {"token": "s"},
            {"token": "s"},
        ),
        (lambda: request_ping_token_revocation("a/b"), "DELETE api/v1/ping-tokens/a%2Fb", None, None, None),
    ],
    ids=["list", "create", "create expiring", "revoke", "rotate", "create ping token", "revoke ping token"],
)
def test_key_administration_needs_one_request(exchange, line, body, document, result):
    driver = ExchangeDriver(make_reply(document))
    assert driver.run(exchange()) == result
    assert (driver.request_lines, driver.request_bodies) == ([line], [body])


@pytest.mark.parametrize(
    ("exchange", "name"),
    [
        (request_keys, "keys"),
        (request_shares, "shares"),
        (request_ping_tokens, "ping_tokens"),
        (request_schedules, "schedules"),
    ],
)
def test_list_of_wrong_shape_is_unexpected(exchange, name):
    for document in (None, [], "x", {name: None}, {name: ["x"]}, {"other": []}):
        with pytest.raises(ResponseError) as caught:
            run_exchange(exchange(), make_reply(document))
        assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize("exchange", [lambda: request_new_key("read", "wall", None), lambda: request_key_rotation("k")])
def test_new_key_of_wrong_shape_is_unexpected(exchange):
    with pytest.raises(ResponseError) as caught:
        run_exchange(exchange(), make_reply([]))
    assert caught.value.code == "unexpected-answer"


# ---------------------------------------------------------------- a tracker's operations


def put_op(item_id, **fields):
    state = {"title": item_id.upper(), "description": "", "completed": 0, "total": 10, "unit": "it", "weight": 0}
    return {"op": "put", "id": item_id, **state, "status": "running", "run_id": "r", "seq": 1, **fields}


def patch_op(item_id, **fields):
    return {"op": "patch", "id": item_id, "run_id": "r", "seq": 2, **fields}


def delete_op(item_id):
    return {"op": "delete", "id": item_id, "run_id": "r", "seq": 3}


def legacy_protocol():
    """Return a protocol after it has detected a server of part 1."""
    protocol = ServerProtocol()
    assert run_exchange(protocol.deliver([]), make_html_reply(404), make_reply(LEGACY_KEY_INFO)) == []
    return protocol


def test_operations_are_sent_in_one_batch():
    results = [{"id": "a", "status": 201}, {"id": "b", "status": 409, "problem": {"detail": "other run"}}]
    driver = ExchangeDriver(make_reply({"results": results}))
    ops = [put_op("a"), patch_op("b", completed=5)]
    assert driver.run(ServerProtocol().deliver(ops)) == results
    assert driver.request_lines == ["POST api/v1/items:batch"]
    assert driver.request_bodies == [{"ops": ops}]


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"results": []}, {"results": [{}]}, {"results": [5]}, {"results": [{"status": "201"}]}],
)
def test_batch_results_of_wrong_shape_are_unexpected(document):
    with pytest.raises(ResponseError) as caught:
        run_exchange(request_batch([put_op("a")]), make_reply(document))
    assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize("status", [400, 401, 403, 413, 429, 500, 503])
def test_refused_batch_is_not_sent_one_by_one(status):
    driver = ExchangeDriver(make_problem_reply(status))
    with pytest.raises(ResponseError) as caught:
        driver.run(ServerProtocol().deliver([put_op("a")]))
    assert caught.value.status_code == status
    assert driver.request_lines == ["POST api/v1/items:batch"]


def test_missing_item_requests_boot_id():
    protocol, results = ServerProtocol(), [{"id": "a", "status": 404}]
    assert protocol.boot_id == ""
    for boot_id in ("b1", "b2"):
        driver = ExchangeDriver(
            make_reply({"results": results}), make_reply({**V1_KEY_INFO, "server": {"boot_id": boot_id}})
        )
        assert driver.run(protocol.deliver([patch_op("a")])) == results
        assert protocol.boot_id == boot_id


@pytest.mark.parametrize("op", [delete_op("a"), patch_op("a", part="rows")], ids=["delete", "part"])
def test_missing_optional_item_requests_no_boot_id(op):
    driver = ExchangeDriver(make_reply({"results": [{"id": "a", "status": 404}]}))
    driver.run(ServerProtocol().deliver([op]))
    assert driver.request_lines == ["POST api/v1/items:batch"]


def test_failed_boot_id_request_keeps_batch_results():
    results = [{"id": "a", "status": 404}]
    protocol = ServerProtocol()
    assert (
        ExchangeDriver(make_reply({"results": results}), make_problem_reply(500)).run(protocol.deliver([patch_op("a")]))
        == results
    )
    assert protocol.boot_id == ""


@pytest.mark.parametrize("status", [404, 405])
def test_404_batch_of_v1_server_raises(status):
    driver = ExchangeDriver(make_problem_reply(status), make_reply(V1_KEY_INFO))
    with pytest.raises(ResponseError) as caught:
        driver.run(ServerProtocol().deliver([put_op("a")]))
    assert caught.value.status_code == status
    assert driver.request_lines == ["POST api/v1/items:batch", "GET api/key-info"]


@pytest.mark.parametrize("status", [404, 405])
def test_legacy_server_gets_operations_one_by_one(status):
    ops = [put_op("a", completed=1), patch_op("a", completed=5), delete_op("b")]
    driver = ExchangeDriver(
        make_html_reply(status), make_reply(LEGACY_KEY_INFO), make_reply(status=201), make_reply(), make_reply()
    )
    assert driver.run(ServerProtocol().deliver(ops)) == [
        {"id": "a", "status": 201},
        {"id": "a", "status": 200},
        {"id": "b", "status": 200},
    ]
    assert driver.request_lines == [
        "POST api/v1/items:batch",
        "GET api/key-info",
        "POST progress",
        "PUT progress",
        "DELETE progress?id=b",
    ]
    assert [body["value"] for body in driver.request_bodies[2:4]] == [0.1, 0.5]


def test_legacy_server_gets_only_one_batch_request():
    driver = ExchangeDriver(make_reply(status=201))
    driver.run(legacy_protocol().deliver([put_op("a")]))
    assert driver.request_lines == ["POST progress"]


def test_existing_item_is_adopted():
    driver = ExchangeDriver(make_reply({"error": "exists"}, 409), make_reply())
    assert driver.run(legacy_protocol().deliver([put_op("a", completed=3)])) == [{"id": "a", "status": 200}]
    assert driver.request_lines == ["POST progress", "PUT progress"]
    assert driver.request_bodies[0] == driver.request_bodies[1]


def test_item_of_another_owner_is_not_adopted():
    driver = ExchangeDriver(make_reply({"error": "exists"}, 409), make_reply({"error": "not yours"}, 403))
    results = driver.run(legacy_protocol().deliver([put_op("a")]))
    assert results == [{"id": "a", "status": 403, "problem": {"detail": "not yours"}}]


def test_legacy_write_repeats_earlier_fields():
    protocol = legacy_protocol()
    run_exchange(protocol.deliver([put_op("a", title="First", weight=7)]), make_reply(status=201))
    run_exchange(protocol.deliver([patch_op("a", completed=5)]), make_reply())
    driver = ExchangeDriver(make_reply())
    driver.run(protocol.deliver([patch_op("a", description="half")]))
    assert driver.request_bodies == [{"id": "a", "title": "First", "description": "half", "value": 0.5, "weight": 7}]


def test_legacy_speed_starts_with_the_first_count():
    clock = ManualClock(0.0)
    protocol = ServerProtocol(clock=clock)
    assert run_exchange(protocol.deliver([]), make_html_reply(404), make_reply(LEGACY_KEY_INFO)) == []
    run_exchange(protocol.deliver([put_op("a", completed=None)]), make_reply(status=201))
    clock.advance(60)
    run_exchange(protocol.deliver([patch_op("a", completed=2)]), make_reply())
    clock.advance(2)
    driver = ExchangeDriver(make_reply())
    driver.run(protocol.deliver([patch_op("a", completed=6)]))
    assert driver.request_bodies[0]["description"] == "6/10 it, 2 it/s, 00:02 left"


def test_deleted_item_state_is_dropped():
    protocol = legacy_protocol()
    run_exchange(protocol.deliver([put_op("a", title="First"), delete_op("a")]), make_reply(status=201), make_reply())
    driver = ExchangeDriver(make_reply())
    driver.run(protocol.deliver([patch_op("a", completed=5)]))
    assert driver.request_bodies[0]["title"] == "a"


def test_failed_operation_does_not_stop_others():
    replies = [
        make_problem_reply(500, detail="oops"),
        make_reply(status=201),
        make_problem_reply(404),
        make_problem_reply(503),
    ]
    results = run_exchange(
        legacy_protocol().deliver([put_op("a"), put_op("b"), delete_op("c"), patch_op("b")]), *replies
    )
    assert [result["status"] for result in results] == [500, 201, 404, 503]
    assert results[0]["problem"] == {"detail": "oops"}


@pytest.mark.parametrize("reply", [make_problem_reply(401), make_html_reply(302)], ids=["401", "302"])
def test_refused_key_or_redirect_stops_one_by_one(reply):
    driver = ExchangeDriver(reply)
    with pytest.raises(ResponseError):
        driver.run(legacy_protocol().deliver([put_op("a"), put_op("b")]))
    assert driver.request_lines == ["POST progress"]


@pytest.mark.parametrize(
    ("op", "description", "value"),
    [
        (put_op("a", completed=3), "3/10 it", 0.3),
        (put_op("a", completed=3, unit="B"), "3/10 B", 0.3),
        (put_op("a", completed=3, total=None), "3 it", 0.0),
        (put_op("a", completed=3, total=None, unit="files"), "3 files", 0.0),
        (put_op("a", completed=3, total=None, unit=None), "3 it", 0.0),
        ({"op": "put", "id": "a"}, "", 0.0),
        (put_op("a", completed=None), "", 0.0),
        (put_op("a", completed=3, description="now"), "now", 0.3),
        (put_op("a", completed=10), "10/10 it", 1 - 2e-9),
        (put_op("a", completed=10, status="succeeded"), "10/10 it", 1.0),
        (put_op("a", completed=3, total=None, status="succeeded"), "3 it", 1.0),
        (put_op("a", completed=3, status="stopped"), "stopped: 3/10 it", 0.3),
        (put_op("a", completed=10, status="stopped"), "stopped: 10/10 it", 1 - 2e-9),
        (put_op("a", completed=3, status="failed", error="ValueError: no"), "failed: ValueError: no", 0.3),
    ],
)
def test_legacy_state_has_value_1_only_after_success(op, description, value):
    state = LegacyState(op, 0.0, op.get("completed") or 0).to_item(0.0)
    assert (state["description"], state["value"]) == (description, value)


def test_legacy_state_of_long_failure_is_valid():
    state = LegacyState(put_op("a", status="failed", error="x" * 2000), 0.0, 0).to_item(0.0)
    assert build_legacy_item(*state.values()) == state


def test_legacy_description_has_counts_rate_and_eta():
    state = LegacyState(put_op("a", completed=120, total=1000), started_at=0.0, initial_completed=30)
    assert state.to_item(2.0)["description"] == "120/1000 it, 45 it/s, 00:19 left"
    assert LegacyState(put_op("a", completed=90, total=None), 0.0, 0).to_item(2.0)["description"] == "90 it, 45 it/s"
    assert (
        LegacyState(put_op("a", completed=9, status="stopped"), 0.0, 0).to_item(2.0)["description"]
        == "stopped: 9/10 it"
    )
