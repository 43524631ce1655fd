"""One contract for ``ProgressBar`` and ``AsyncProgressBar``: every test runs on both.

respx replaces the network in tests of requests and replies. Tests of connections use a real server on loopback.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import logging
import math
import pickle
import re
import socket
import ssl
import threading
import traceback

import httpx
import pytest
import respx

from progressbar_tracker import (
    AsyncProgressBar,
    ConfigError,
    ConflictError,
    ItemExistsError,
    ItemNotFoundError,
    KeyInfo,
    PermissionError,
    ProgressBar,
    ProgressBarError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TransportError,
    ValidationError,
    configure,
)
from progressbar_tracker._models import KEY_PERMISSIONS
from tests.support.connections import find_free_port
from tests.support.fault_server import HALF_RESPONSE, HANG, RESET, FaultServer
from tests.support.fault_server import make_response as scripted
from tests.support.hostile_ids import HOSTILE_IDS

SERVER_URL = "http://server:8989/sub/path/"
CLIENT_KEY = "very-secret-key-0123"
ITEM_DOCUMENT = {"id": "x", "title": "X", "description": "d", "value": 0.5, "weight": 0}
OK_RESPONSES = {
    "GET api/key-info": (200, {"type": "write", "permissions": list(KEY_PERMISSIONS["write"])}),
    "GET progress": (200, [ITEM_DOCUMENT]),
    "GET api/v1/items/x": (200, ITEM_DOCUMENT),
    "POST progress": (201, {}),
    "PUT progress": (200, {}),
    "DELETE progress?id=x": (200, {}),
    "POST api/v1/items/x:stop": (200, ITEM_DOCUMENT),
}
METHOD_ARGUMENTS = {
    "get_all": (),
    "get": ("x",),
    "create": ("x", "X", "d", 0.5),
    "update": ("x", "X", "d", 0.5),
    "delete": ("x",),
    "request_stop": ("x",),
}
PERMISSION_METHODS = ("is_admin", "is_read_only", "can_write", "can_delete")
ALL_METHODS = {**METHOD_ARGUMENTS, **dict.fromkeys(PERMISSION_METHODS, ())}


class ClientDriver:
    """Opens clients of one class, and calls both classes in the same way."""

    def __init__(self, kind):
        self.kind = kind
        self.is_async = kind is AsyncProgressBar
        self._runner = asyncio.Runner() if self.is_async else None
        self._opened = []

    def resolve(self, result):
        """Return the result of a call; await it if needed."""
        return self._runner.run(result) if self._runner is not None else result

    def open(self, url=SERVER_URL, key=CLIENT_KEY, *args, **options):
        """Return a client after the start of its block, with the key detected."""
        client = self.kind(url, key, *args, **options)
        self.resolve(client.__aenter__() if self.is_async else client.__enter__())
        driven_client = DrivenClient(self, client)
        self._opened.append(driven_client)
        return driven_client

    def transport(self, handler):
        """Return an httpx transport for this class."""
        return httpx.MockTransport(handler)

    def close(self):
        for driven_client in self._opened:
            driven_client.close()
        if self._runner is not None:
            self._runner.close()


class DrivenClient:
    """A client whose methods are called without ``await``."""

    def __init__(self, driver, client):
        self.driver = driver
        self.client = client

    def __getattr__(self, name):
        return lambda *args, **options: self.driver.resolve(getattr(self.client, name)(*args, **options))

    @property
    def key_info(self):
        return self.driver.resolve(self.client.key_info)

    def call(self, name):
        return getattr(self, name)(*ALL_METHODS[name])

    def exit(self, error=None):
        """Leave the block."""
        leave = self.client.__aexit__ if self.driver.is_async else self.client.__exit__
        return self.driver.resolve(leave(type(error) if error else None, error, None))


class FakeNetwork:
    """Replies by request line, relative to the base URL, and records the requests."""

    def __init__(self):
        self.answers = dict(OK_RESPONSES)
        self.default_response = None
        self.sent = []

    def serve(self, request):
        self.sent.append(request)
        response = self.default_response or self.answers.get(
            self.format_request_line(request), (404, {"type": "/problems/item-not-found"})
        )
        if isinstance(response, Exception):
            raise response
        status, content, *headers = response
        body = {"content": content} if isinstance(content, bytes) else {"json": content}
        return httpx.Response(status, headers=dict(*headers), **body)

    def set_key_type(self, key_type):
        self.answers["GET api/key-info"] = (200, {"type": key_type, "permissions": list(KEY_PERMISSIONS[key_type])})

    @staticmethod
    def format_request_line(request):
        assert str(request.url).startswith(SERVER_URL)
        return f"{request.method} {str(request.url).removeprefix(SERVER_URL)}"

    @property
    def request_lines(self):
        return [self.format_request_line(request) for request in self.sent]


@pytest.fixture(params=[ProgressBar, AsyncProgressBar], ids=lambda kind: kind.__name__)
def driver(request):
    """A driver with synchronous calls; the asynchronous client has its own event loop."""
    client_driver = ClientDriver(request.param)
    yield client_driver
    client_driver.close()


@pytest.fixture
def network():
    """A fake network that replaces HTTP."""
    network = FakeNetwork()
    with respx.mock(assert_all_called=False) as router:
        router.route().mock(side_effect=network.serve)
        yield network


@pytest.fixture
def pb(driver, network):
    """A client with a write key and cached permissions."""
    client = driver.open()
    assert network.request_lines == ["GET api/key-info"]
    network.sent.clear()
    return client


@pytest.fixture
def server():
    """A server with faults, without a client."""
    server = FaultServer()
    yield server
    server.close()


# ---------------------------------------------------------------- the two clients


def test_both_clients_have_same_names():
    def names(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(ProgressBar) == names(AsyncProgressBar)


@pytest.mark.parametrize("name", [*ALL_METHODS, "track", "close"])
def test_both_clients_have_same_arguments(name):
    def parameters(kind):
        return list(inspect.signature(getattr(kind, name)).parameters.values())

    assert parameters(ProgressBar) == parameters(AsyncProgressBar)


@pytest.mark.parametrize("kind", [ProgressBar, AsyncProgressBar])
def test_constructor_has_published_arguments(kind):
    parameters = inspect.signature(kind).parameters
    assert list(parameters) == ["api_url", "api_key", "auto_detect", "timeout", "transport"]
    assert parameters["auto_detect"].default is True
    assert {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY} == {"timeout", "transport"}


@pytest.mark.parametrize("name", ["create", "update"])
def test_methods_have_published_argument_names(name):
    parameters = inspect.signature(getattr(ProgressBar, name)).parameters
    assert list(parameters) == ["self", "item_id", "title", "description", "value", "weight"]
    assert parameters["weight"].default == 0


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("name", "arguments", "line", "body"),
    [
        ("get_all", (), "GET progress", None),
        ("get", ("x",), "GET api/v1/items/x", None),
        ("delete", ("x",), "DELETE progress?id=x", None),
        ("request_stop", ("x",), "POST api/v1/items/x:stop", "{}"),
        ("request_stop", ("x", "r"), "POST api/v1/items/x:stop", '{"run_id":"r"}'),
        (
            "create",
            ("x", "Ü", "a\nb", 0.25, -7),
            "POST progress",
            '{"id":"x","title":"Ü","description":"a\\nb","value":0.25,"weight":-7}',
        ),
        ("create", ("x", "", "", 0), "POST progress", '{"id":"x","title":"","description":"","value":0.0,"weight":0}'),
        (
            "update",
            ("x", "X", "d", 1),
            "PUT progress",
            '{"id":"x","title":"X","description":"d","value":1.0,"weight":0}',
        ),
    ],
)
def test_method_sends_exactly_one_request(pb, network, name, arguments, line, body):
    getattr(pb, name)(*arguments)
    assert network.request_lines == [line]
    (request,) = network.sent
    assert request.content.decode() == (body or "")
    assert request.headers["X-API-KEY"] == CLIENT_KEY
    assert request.headers["Accept"] == "application/json"
    assert request.headers.get("Content-Type") == (None if body is None else "application/json")


def test_every_argument_can_be_a_keyword(pb, network):
    pb.create(item_id="x", title="X", description="d", value=0.5, weight=100)
    pb.update(item_id="x", title="X", description="d", value=0.5, weight=100)
    assert [json.loads(request.content)["weight"] for request in network.sent] == [100, 100]


@pytest.mark.parametrize("url", ["http://server:8989/sub/path", SERVER_URL, " " + SERVER_URL, SERVER_URL + "/"])
def test_base_url_may_have_path_with_any_slash(driver, network, url):
    driver.open(url).get_all()
    assert network.request_lines == ["GET api/key-info", "GET progress"]


def test_base_url_needs_no_path(driver, network):
    seen = []

    def note(request):
        seen.append(str(request.url))
        return httpx.Response(200, json=[])

    driver.open("http://server:8989", auto_detect=False, transport=driver.transport(note)).get_all()
    assert seen == ["http://server:8989/progress"]


@pytest.mark.parametrize("item_id", HOSTILE_IDS)
def test_id_of_any_text_is_sent_unchanged(pb, network, item_id):
    network.default_response = (200, ITEM_DOCUMENT)
    pb.get(item_id)
    pb.delete(item_id)
    pb.create(item_id, "X", "d", 0.5)
    pb.update(item_id, "X", "d", 0.5)
    get, delete, create, update = network.sent
    assert get.url.path == "/sub/path/api/v1/items/" + item_id
    assert get.url.raw_path.count(b"/") == 6
    assert (get.url.query, get.url.fragment) == (b"", "")
    assert delete.url.path == "/sub/path/progress"
    assert dict(delete.url.params.multi_items()) == {"id": item_id}
    assert delete.url.fragment == ""
    assert [json.loads(request.content)["id"] for request in (create, update)] == [item_id] * 2


# ---------------------------------------------------------------- results


def test_get_all_returns_list_of_dictionaries(pb, network):
    items = [{**ITEM_DOCUMENT, "id": "ü😀", "value": 1.0, "extra": None}, ITEM_DOCUMENT]
    network.answers["GET progress"] = (200, items)
    assert pb.get_all() == items


def test_get_all_of_empty_server_is_empty_list(pb, network):
    network.answers["GET progress"] = (200, [])
    assert pb.get_all() == []


def test_get_returns_item(pb):
    assert pb.get("x") == ITEM_DOCUMENT


def test_request_stop_returns_item(pb):
    assert pb.request_stop("x", run_id=None) == ITEM_DOCUMENT


@pytest.mark.parametrize("code", ["run-ended", "run-superseded", "not-stoppable"])
def test_refused_stop_is_a_conflict(pb, network, code):
    network.answers["POST api/v1/items/x:stop"] = (409, {"type": f"/problems/{code}", "detail": "no"})
    with pytest.raises(ConflictError, match="no") as caught:
        pb.request_stop("x")
    assert caught.value.code == code


def test_read_key_sends_no_stop(driver, network):
    network.set_key_type("read")
    with pytest.raises(PermissionError, match="may not stop items"):
        driver.open().request_stop("x")
    assert network.request_lines == ["GET api/key-info"]


@pytest.mark.parametrize("name", ["create", "update"])
def test_write_returns_nothing(pb, name):
    assert pb.call(name) is None


def test_delete_of_item_returns_true(pb):
    assert pb.delete("x") is True


def test_delete_of_missing_item_returns_false(pb, network):
    network.answers["DELETE progress?id=x"] = (404, {"detail": "no such item"})
    assert pb.delete("x") is False


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("name", ["create", "update", "delete"])
def test_any_2xx_reply_to_write_is_success(pb, network, name, status):
    network.default_response = (status, b"")
    assert pb.call(name) in (None, True)


@pytest.mark.parametrize(
    ("key_type", "answers"),
    [
        ("read", [False, True, False, False]),
        ("write", [False, False, True, True]),
        ("admin", [True, False, True, True]),
    ],
)
def test_helpers_return_permissions_of_key(driver, network, key_type, answers):
    network.set_key_type(key_type)
    pb = driver.open()
    assert [pb.call(name) for name in PERMISSION_METHODS] == answers
    assert network.request_lines == ["GET api/key-info"]


def test_key_info_is_requested_once(driver, network):
    network.answers["GET api/key-info"] = (
        200,
        {"type": "read", "permissions": ["read"], "api": ["v1"], "server": {"version": "2.0", "boot_id": "b"}},
    )
    pb = driver.open()
    assert pb.key_info == KeyInfo("read", ("read",), ("v1",), "2.0", "b")
    assert pb.key_info.type == "read"
    assert network.request_lines == ["GET api/key-info"]


# ---------------------------------------------------------------- refusals of the server

ERROR_CLASSES = [
    (400, ValidationError),
    (401, PermissionError),
    (403, PermissionError),
    (413, ValidationError),
    (422, ValidationError),
    (418, ResponseError),
    (429, RateLimitedError),
    (500, ServerError),
    (503, ServerError),
    (507, RateLimitedError),
]


@pytest.mark.parametrize(("status", "kind"), ERROR_CLASSES)
@pytest.mark.parametrize("name", METHOD_ARGUMENTS)
def test_refusal_raises_error_with_all_details(pb, network, name, status, kind):
    document = {"type": "https://h/problems/some-code", "title": "T", "status": status, "detail": "Because."}
    network.default_response = (status, document, {"Retry-After": "7"})
    with pytest.raises(ProgressBarError, match="Because") as caught:
        pb.call(name)
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.code, error.detail, error.retry_after) == (status, "some-code", "Because.", 7.0)
    assert len(network.sent) == 1


@pytest.mark.parametrize(
    ("name", "status", "kind", "standard"),
    [
        ("create", 409, ItemExistsError, ValueError),
        ("create", 403, PermissionError, builtins.PermissionError),
        ("update", 404, ItemNotFoundError, ValueError),
        ("update", 403, PermissionError, builtins.PermissionError),
        ("update", 409, ConflictError, ProgressBarError),
        ("delete", 403, PermissionError, builtins.PermissionError),
        ("delete", 409, ConflictError, ProgressBarError),
        ("get", 404, ItemNotFoundError, ValueError),
        ("get_all", 401, PermissionError, builtins.PermissionError),
        ("get_all", 404, ItemNotFoundError, ValueError),
    ],
)
def test_builtin_names_catch_published_errors(pb, network, name, status, kind, standard):
    network.default_response = (
        status,
        {"type": "/problems/item-not-found" if status == 404 else "", "detail": "no"},
    )
    with pytest.raises(standard) as caught:
        pb.call(name)
    assert type(caught.value) is kind


def test_get_finds_item_on_legacy_server(pb, network):
    network.answers["GET api/v1/items/x"] = (404, b"404 page not found")
    assert pb.get("x") == ITEM_DOCUMENT
    assert network.request_lines == ["GET api/v1/items/x", "GET progress"]


@pytest.mark.parametrize("name", METHOD_ARGUMENTS)
def test_html_reply_error_questions_the_url(pb, network, name):
    network.default_response = (200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
    with pytest.raises(ResponseError, match="not from a progress server") as caught:
        pb.call(name)
    assert caught.value.code == "unexpected-answer"


@pytest.mark.parametrize("name", METHOD_ARGUMENTS)
def test_redirect_is_not_followed(pb, network, name):
    network.default_response = (307, b"", {"Location": "http://elsewhere/"})
    with pytest.raises(ResponseError, match="redirects to") as caught:
        pb.call(name)
    assert caught.value.status_code == 307
    assert len(network.sent) == 1


# ---------------------------------------------------------------- missing permissions


@pytest.mark.parametrize(
    ("key_type", "refused"),
    [("read", {"create", "update", "delete", "request_stop"}), ("write", set()), ("admin", set())],
)
def test_missing_permission_is_refused_before_request(driver, network, key_type, refused):
    network.set_key_type(key_type)
    pb = driver.open()
    for name in METHOD_ARGUMENTS:
        network.sent.clear()
        if name in refused:
            with pytest.raises(
                builtins.PermissionError, match=f"this {key_type} key may not {name.removeprefix('request_')} items"
            ) as caught:
                pb.call(name)
            assert isinstance(caught.value, PermissionError)
            assert caught.value.status_code == 403
        else:
            pb.call(name)
        assert bool(network.sent) == (name not in refused)


def test_key_without_read_permission_cannot_list(driver, network):
    network.answers["GET api/key-info"] = (200, {"type": "blind", "permissions": ["create"]})
    pb = driver.open()
    for name in ("get_all", "get"):
        with pytest.raises(PermissionError, match="read is needed"):
            pb.call(name)
    assert network.request_lines == ["GET api/key-info"]


# ---------------------------------------------------------------- auto_detect


def test_auto_detect_requests_key_info_first(driver, network):
    driver.open()
    assert network.request_lines == ["GET api/key-info"]


def test_first_call_detects_without_block(driver, network):
    client = driver.kind(SERVER_URL, CLIENT_KEY)
    driver.resolve(client.get_all())
    driver.resolve(client.close())
    assert network.request_lines == ["GET api/key-info", "GET progress"]


@pytest.mark.parametrize(
    "open_", [lambda driver: driver.open(SERVER_URL, CLIENT_KEY, False), lambda driver: driver.open(auto_detect=False)]
)
def test_without_auto_detect_server_decides(driver, network, open_):
    network.set_key_type("read")
    pb = open_(driver)
    assert network.request_lines == []
    for name in METHOD_ARGUMENTS:
        pb.call(name)
    assert network.request_lines == [line for line in OK_RESPONSES if "key-info" not in line]


@pytest.mark.parametrize("name", PERMISSION_METHODS)
def test_without_auto_detect_helper_requests_key_once(driver, network, name):
    pb = driver.open(auto_detect=False)
    pb.call(name)
    for other in PERMISSION_METHODS:
        pb.call(other)
    assert network.request_lines == ["GET api/key-info"]


def test_helper_does_not_enable_local_checks(driver, network):
    network.set_key_type("read")
    pb = driver.open(auto_detect=False)
    assert pb.is_read_only()
    pb.create("x", "X", "d", 0.5)
    assert network.request_lines == ["GET api/key-info", "POST progress"]


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (httpx.ConnectError("connection refused"), TransportError, "connection refused"),
        (httpx.ReadTimeout("timed out"), TransportError, "timed out"),
        ((401, {"detail": "the key is unknown"}), PermissionError, "the key is unknown"),
        ((503, {"detail": "starting up"}), ServerError, "starting up"),
        ((200, b"<html>"), ResponseError, "not from a progress server"),
    ],
    ids=["refused", "timed out", "401", "503", "page"],
)
@pytest.mark.parametrize("name", ["get_all", "is_admin"])
def test_failed_detection_is_logged_and_raised_by_call(driver, network, caplog, failure, kind, reason, name):
    network.default_response = failure
    pb = driver.open()
    (warning,) = [record for record in caplog.records if record.name == "progressbar_tracker"]
    assert warning.levelno == logging.WARNING
    assert reason in warning.getMessage()
    with pytest.raises(kind, match=reason):
        pb.call(name)


def test_server_that_starts_later_is_used(driver, network):
    network.default_response = httpx.ConnectError("refused")
    pb = driver.open()
    network.default_response = None
    assert pb.get_all() == [ITEM_DOCUMENT]
    assert pb.can_write()


# ---------------------------------------------------------------- invalid arguments

BAD_ITEMS = [
    ("item_id", "", ValueError),
    ("item_id", "x" * 201, ValueError),
    ("item_id", "a\x00b", ValueError),
    ("item_id", "a\nb", ValueError),
    ("item_id", "\ud800", ValueError),
    ("item_id", None, TypeError),
    ("item_id", 7, TypeError),
    ("item_id", b"x", TypeError),
]
BAD_FIELDS = [
    ("title", None, TypeError),
    ("title", 7, TypeError),
    ("title", "x" * 201, ValueError),
    ("title", "a\x1bb", ValueError),
    ("description", None, TypeError),
    ("description", "x" * 2001, ValueError),
    ("description", "a\x00b", ValueError),
    ("value", -0.1, ValueError),
    ("value", 1.0000001, ValueError),
    ("value", math.nan, ValueError),
    ("value", math.inf, ValueError),
    ("value", float("1e999"), ValueError),
    ("value", 10**400, ValueError),
    ("value", True, TypeError),
    ("value", "0.5", TypeError),
    ("value", None, TypeError),
    ("weight", True, TypeError),
    ("weight", 1.0, TypeError),
    ("weight", "1", TypeError),
    ("weight", None, TypeError),
    ("weight", 2**53 + 1, ValueError),
]


@pytest.mark.parametrize(("argument", "value", "kind"), BAD_ITEMS + BAD_FIELDS, ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize("name", ["create", "update"])
def test_invalid_argument_error_has_name_and_value(driver, network, name, argument, value, kind):
    pb = driver.open(auto_detect=False)
    arguments = {"item_id": "x", "title": "X", "description": "d", "value": 0.5, "weight": 0, argument: value}
    with pytest.raises(kind, match=f"^{argument} must ") as caught:
        getattr(pb, name)(**arguments)
    assert not isinstance(caught.value, ResponseError)
    assert repr(value)[:60] in str(caught.value)
    assert network.sent == []


@pytest.mark.parametrize(("argument", "value", "kind"), BAD_ITEMS, ids=lambda value: ascii(value)[:12])
@pytest.mark.parametrize("name", ["get", "delete"])
def test_invalid_id_error_has_name_and_value(driver, network, name, argument, value, kind):
    pb = driver.open(auto_detect=False)
    with pytest.raises(kind, match=f"^{argument} must ") as caught:
        getattr(pb, name)(value)
    assert repr(value)[:60] in str(caught.value)
    assert network.sent == []


def test_client_without_arguments_uses_the_configured_server():
    configure(url="http://configured:1", api_key="key")
    with ProgressBar(auto_detect=False) as pb:
        assert repr(pb) == "ProgressBar('http://configured:1/')"


def test_client_without_configuration_is_config_error():
    with pytest.raises(ConfigError, match="no server is configured"):
        ProgressBar()


@pytest.mark.parametrize("url", ["", "localhost:8989", "ftp://h", "http://", "http://h:x", "http://h/?q", None, 5])
def test_invalid_url_is_config_error_with_name(driver, url):
    with pytest.raises(ConfigError, match="api_url"):
        driver.open(url)


@pytest.mark.parametrize("key", ["", "  ", "se\ncret", "sécret", None, 5, b"secret"])
def test_invalid_key_is_config_error_without_key(driver, key):
    with pytest.raises(ConfigError, match="api_key") as caught:
        driver.open(SERVER_URL, key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 3601, True, None, "5", httpx.Timeout(5)])
def test_invalid_timeout_is_config_error(driver, timeout):
    with pytest.raises(ConfigError, match="timeout must be a number of seconds"):
        driver.open(timeout=timeout)


# ---------------------------------------------------------------- output and secrets


def test_client_prints_nothing(driver, network, capsys):
    pb = driver.open()
    for name in ALL_METHODS:
        pb.call(name)
    network.default_response = (500, {"detail": "no"})
    for name in METHOD_ARGUMENTS:
        with pytest.raises(ServerError):
            pb.call(name)
    network.default_response = httpx.ConnectError("refused")
    with pytest.raises(TransportError):
        driver.open().get_all()
    assert capsys.readouterr() == ("", "")


def test_repr_shows_url_but_not_key(pb):
    assert repr(pb.client) == f"{type(pb.client).__name__}({SERVER_URL!r})"
    assert CLIENT_KEY not in "".join(map(repr, vars(pb.client).values()))


@pytest.mark.parametrize("url", ["refused", "refusing"])
def test_key_is_not_in_log_error_or_traceback(driver, server, caplog, url):
    caplog.set_level(logging.DEBUG)
    server.default_fault = scripted(503, b'{"detail": "no"}')
    pb = driver.open(server.url if url == "refusing" else f"http://127.0.0.1:{find_free_port()}")
    with pytest.raises(ProgressBarError) as caught:
        pb.get_all()
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert CLIENT_KEY not in "".join(report.format())
    # Causes too: some libraries pickle them, such as dask after its import.
    error = caught.value
    while error is not None:
        assert CLIENT_KEY not in repr(pickle.dumps(error))
        assert CLIENT_KEY not in repr(vars(error))
        assert not isinstance(error, httpx.RequestError) or CLIENT_KEY not in repr(error.request.headers)
        error = error.__cause__ or error.__context__
    assert "key-info" in caplog.text
    assert CLIENT_KEY not in caplog.text


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "connect", "read"), [({}, 3.0, 10.0), ({"timeout": 0.5}, 0.5, 0.5), ({"timeout": 60}, 3.0, 60.0)]
)
def test_every_phase_of_request_has_timeout(driver, network, options, connect, read):
    pb = driver.open(**options)
    pb.get_all()
    for request in network.sent:
        seconds = request.extensions["timeout"]
        assert 0 < seconds["connect"] <= connect
        assert all(0 < seconds[phase] <= read for phase in ("read", "write", "pool"))


def test_transport_replaces_network(driver):
    seen = []

    def answer(request):
        seen.append(request.url.path)
        return httpx.Response(200, json=[ITEM_DOCUMENT])

    pb = driver.open("http://nowhere.invalid", auto_detect=False, transport=driver.transport(answer))
    assert pb.get_all() == [ITEM_DOCUMENT]
    assert seen == ["/progress"]


@pytest.mark.parametrize(
    ("url", "verified"), [("https://h", True), ("HTTPS://h", True), ("http://h", False), ("HTTP://h", False)]
)
def test_certificates_are_verified_except_for_plain_http(driver, network, monkeypatch, url, verified):
    verify_values = []

    def watched(verify=True):
        verify_values.append(verify)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(httpx, "create_ssl_context", watched)
    network.default_response = (200, [])
    driver.open(url, auto_detect=False).get_all()
    assert verify_values == [verified]


# ---------------------------------------------------------------- close


def test_close_is_idempotent(pb):
    pb.close()
    pb.close()


def test_unused_client_can_be_closed(driver):
    pb = driver.open(auto_detect=False)
    pb.close()


@pytest.mark.parametrize("name", METHOD_ARGUMENTS)
def test_closed_client_raises(pb, network, name):
    pb.close()
    with pytest.raises(RuntimeError, match="closed"):
        pb.call(name)
    assert network.sent == []


def test_key_info_stays_cached_after_close(pb):
    pb.close()
    assert pb.can_write()
    assert pb.key_info.type == "write"


@pytest.mark.parametrize("error", [None, ValueError("the program's own")])
def test_block_exit_closes_and_propagates_errors(pb, error):
    assert not pb.exit(error)
    with pytest.raises(RuntimeError, match="closed"):
        pb.get_all()


def test_block_returns_client(network):
    with ProgressBar(SERVER_URL, CLIENT_KEY) as pb:
        assert isinstance(pb, ProgressBar)

    async def main():
        async with AsyncProgressBar(SERVER_URL, CLIENT_KEY) as pb:
            assert isinstance(pb, AsyncProgressBar)

    asyncio.run(main())


# ---------------------------------------------------------------- on a real socket


def test_many_calls_share_one_connection(driver, server):
    pb = driver.open(server.url)
    for number in range(10):
        pb.create(f"item-{number}", "X", "d", 0.0)
        pb.update(f"item-{number}", "X", "d", 0.5)
        assert pb.delete(f"item-{number}") is True
    assert len(server.requests) == 31
    assert server.connections == 1


def test_unused_client_opens_no_connection(driver, server):
    driver.open(server.url, auto_detect=False).close()
    assert server.connections == 0


def test_threads_share_client(server):
    def work(number):
        for step in range(5):
            pb.create(f"{number}/{step}", "X", "d", 0.0)
            pb.update(f"{number}/{step}", "X", "d", step / 5)

    with ProgressBar(server.url, CLIENT_KEY, auto_detect=False) as pb:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.items) == 40
    assert {item["value"] for item in server.items.values()} == {0.0, 0.2, 0.4, 0.6, 0.8}
    assert server.connections <= 8


def test_tasks_share_async_client(server):
    async def work(pb, number):
        await pb.create(f"{number}", "X", "d", 0.0)
        await pb.update(f"{number}", "X", "d", 0.5)

    async def main():
        async with AsyncProgressBar(server.url, CLIENT_KEY, auto_detect=False) as pb:
            await asyncio.gather(*(work(pb, number) for number in range(20)))

    asyncio.run(main())
    assert [item["value"] for item in server.items.values()] == [0.5] * 20


def check_transport_error(call, method, url):
    with pytest.raises(TransportError) as caught:
        call()
    error = caught.value
    assert (error.method, error.url) == (method, url)
    assert str(error).startswith(f"no answer to {method} {url}: ")
    assert not re.search(r": $", str(error))
    assert isinstance(error.__cause__, Exception)


def test_missing_server_is_transport_error(driver):
    url = f"http://127.0.0.1:{find_free_port()}"
    pb = driver.open(url, auto_detect=False)
    check_transport_error(pb.get_all, "GET", f"{url}/progress")
    check_transport_error(lambda: pb.delete("private"), "DELETE", f"{url}/progress")


@pytest.mark.parametrize("fault", [RESET, HALF_RESPONSE, HANG], ids=lambda fault: fault.kind)
def test_incomplete_or_late_reply_is_transport_error(driver, server, fault):
    server.default_fault = fault
    pb = driver.open(server.url, auto_detect=False, timeout=0.2)
    check_transport_error(lambda: pb.call("create"), "POST", f"{server.url}/progress")


def test_reply_without_http_is_transport_error(driver):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example.org ESMTP ready\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        check_transport_error(driver.open(url, auto_detect=False).get_all, "GET", f"{url}/progress")
        thread.join()


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "xn--", "1.2.3.999"])
def test_unresolvable_host_is_transport_error(driver, host):
    pb = driver.open(f"http://{host}", auto_detect=False)
    check_transport_error(pb.get_all, "GET", f"http://{host}/progress")


def test_client_works_after_lost_reply(driver, server):
    pb = driver.open(server.url, auto_detect=False)
    server.script.append(RESET)
    with pytest.raises(TransportError):
        pb.call("create")
    pb.call("create")
    assert list(server.items) == ["x"]


def test_track_uses_server_of_client(driver, server):
    pb = driver.open(server.url)
    for _ in pb.client.track([1, 2, 3], id="job", title="A job", keep=True, display=False):
        pass
    assert pb.client.sender.flush(60)
    assert server.items["job"]["status"] == "succeeded"
    assert server.items["job"]["completed"] == 3
    assert {seen.headers["x-api-key"] for seen in server.requests} == {CLIENT_KEY}


def test_close_sends_pending_progress(driver, server):
    pb = driver.open(server.url)
    bar = pb.client.track(total=10, id="job", display=False)
    bar.advance(4)
    pb.close()
    assert server.items["job"]["completed"] == 4


def test_close_releases_every_connection(driver, server, monkeypatch):
    finished = threading.Semaphore(0)
    handler = server._server.RequestHandlerClass
    original_finish = handler.finish
    monkeypatch.setattr(handler, "finish", lambda self: (original_finish(self), finished.release()))
    pb = driver.open(server.url)
    with pb.client.track(total=10, id="job", display=False) as bar:
        bar.advance(4)
        assert pb.client.sender.flush(60)
    pb.close()
    assert server.connections > 0
    assert all(finished.acquire(timeout=100.0) for _ in range(server.connections))


def test_unsupported_environment_error_names_variable(monkeypatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with ProgressBar("http://server:8989", "key", auto_detect=False) as pb, pytest.raises(ConfigError, match="prox"):
        pb.get_all()
