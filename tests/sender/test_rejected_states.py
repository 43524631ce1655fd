"""One invalid state is dropped alone and counted. Reporting recovers from every other failure."""

from __future__ import annotations

import decimal
import errno
import fractions
import json
import math
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from progressbar_tracker import ConfigError, TransportError, configure, flush, track
from progressbar_tracker._http.exchanges import ServerProtocol
from progressbar_tracker._http.messages import Reply, Request, encode_json, error_from_reply
from progressbar_tracker._http.transport import HttpTransport
from progressbar_tracker._models import check_id, check_meta, check_number, check_text
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.sender import Sender
from progressbar_tracker._text import clean_detail, clean_int, clean_number, clean_text
from tests.support.fault_server import HALF_RESPONSE, LOST_RESPONSE, RESET, WRITE_KEY, make_response
from tests.support.tracking import FakeDelivery, FakeSource, accept_all


class HostileText(str):
    """A text whose methods raise."""

    __slots__ = ()

    def _fail(self, *args):
        raise RuntimeError("hostile")

    __str__ = __len__ = __repr__ = __getitem__ = __iter__ = isprintable = encode = strip = _fail
    __eq__ = _fail
    __hash__ = str.__hash__


class HostileInt(int):
    def _fail(self, *args):
        raise RuntimeError("hostile")

    __le__ = __ge__ = __lt__ = __gt__ = __eq__ = __float__ = __index__ = __str__ = __repr__ = __abs__ = _fail
    __hash__ = int.__hash__


class HostileFloat(float):
    def _fail(self, *args):
        raise RuntimeError("hostile")

    __le__ = __ge__ = __lt__ = __gt__ = __eq__ = __float__ = __str__ = __repr__ = __abs__ = _fail
    __hash__ = float.__hash__


class RaisingValue:
    def __init__(self, error):
        self._error = error

    def _fail(self, *args):
        raise self._error

    __str__ = __float__ = __int__ = __index__ = __len__ = __eq__ = __bool__ = _fail
    __hash__ = object.__hash__


HOSTILE_TEXTS = [
    "caf\udce9.py", "\ud800", "\x00", "\x1b]0;title\x07", "\u2028\u2029\ufeff\ufffe", "a" * 100_000, "", "😀" * 300,
    HostileText("hostile"), HostileText("\udcff"), b"bytes", 5, 10**5000, math.nan, object(), [1], {"a": {}}, {1}, None,
    RaisingValue(ValueError()), RaisingValue(OSError()), RaisingValue(RecursionError()), RaisingValue(UnicodeError()),
    RaisingValue(MemoryError()), RaisingValue(SystemExit()), RaisingValue(GeneratorExit()),
]  # fmt: skip
HOSTILE_NUMBERS = [
    0,
    -1,
    2**53 + 1,
    2**64,
    10**299,
    10**301,
    10**5000,
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    5e-324,
    1.5,
    True,
    fractions.Fraction(1, 3),
    fractions.Fraction(10**400),
    decimal.Decimal("0.1"),
    decimal.Decimal("sNaN"),
    1j,
    "7",
    "x",
    b"7",
    None,
    [],
    object(),
    HostileInt(7),
    HostileFloat(0.5),
    RaisingValue(ValueError()),
    RaisingValue(SystemExit()),
]


def describe_value(value):
    try:
        return type(value).__name__ if " at 0x" in repr(value) else repr(value)[:30]
    except BaseException:
        return type(value).__name__


@pytest.mark.parametrize("value", HOSTILE_TEXTS, ids=describe_value)
def test_clean_text_returns_a_valid_text(value):
    try:
        text = clean_text(value, 200)
    except (SystemExit, GeneratorExit):
        return  # raised in a program's thread; Reconciler.plan() handles the sender's thread
    assert type(text) is str
    check_text("title", text, 200)
    encode_json(text)


@pytest.mark.parametrize("value", HOSTILE_NUMBERS, ids=describe_value)
def test_clean_number_returns_a_valid_number(value):
    try:
        number = clean_number(value)
    except SystemExit:
        return
    if number is not None:
        assert type(number) in (int, float)
        assert check_number("completed", number) == number
        assert json.loads(encode_json(number)) == number
    assert type(clean_int(value)) is int


@pytest.mark.parametrize("value", HOSTILE_TEXTS, ids=describe_value)
@pytest.mark.parametrize("field", ["title", "description", "total", "weight", "error"])
def test_hostile_state_does_not_delay_other_items(faults, pb, field, value):
    with pb.track(total=2, id="other", keep=True) as other:
        with pb.track(total=2, id="bad", keep=True, interval=0.05) as bad:
            setattr(bad._run, field, value)
            other.advance(2)
        assert pb.sender.flush(60)
    assert pb.sender.flush(60)
    assert (faults.items["other"]["completed"], faults.items["other"]["status"]) == (2, "succeeded")
    assert pb.sender.stats().dropped + ("bad" in faults.items) >= 1


@pytest.mark.parametrize("value", HOSTILE_NUMBERS, ids=describe_value)
@pytest.mark.parametrize("field", ["total", "weight", "_base"])
def test_hostile_number_does_not_delay_other_items(faults, pb, field, value):
    with pb.track(total=2, id="other", keep=True) as other:
        bad = pb.track(total=2, id="bad", keep=True, interval=0.05)
        bad.advance(0)
        setattr(bad._run, field, value)
        bad._run.abandon()
        other.advance(2)
    assert pb.sender.flush(60)
    assert (faults.items["other"]["completed"], faults.items["other"]["status"]) == (2, "succeeded")


@pytest.mark.parametrize(
    "field",
    ["id", "run_id", "part", "interval", "keep", "is_tentative", "first_send_delay", "is_hidden", "is_skippable"],
)
@pytest.mark.parametrize("error", [ValueError, RecursionError, SystemExit])
def test_source_whose_attribute_raises_is_dropped_alone(field, error):
    class Bad(FakeSource):
        pass

    def fail(self):
        raise error

    setattr(Bad, field, property(fail, lambda self, value: None))
    reconciler = Reconciler()
    reconciler.add(FakeSource("good"), 0.0)
    reconciler.add(Bad("bad"), 0.0)
    ids = [step.op["id"] for now in (10.0, 20.0, 30.0) for step in reconciler.plan(now)]
    assert "good" in ids


@pytest.mark.parametrize("bad", ["\ud800", math.nan, 10**5000, {1}, object()], ids=describe_value)
def test_unserializable_operation_gets_a_local_422(bad):
    ops = [{"op": "put", "id": str(number), "run_id": "r", "seq": 1, "title": "t"} for number in range(3)]
    ops[1]["title"] = bad
    exchange = ServerProtocol().deliver(ops)
    request = next(exchange)
    assert [op["id"] for op in json.loads(request.body)["ops"]] == ["0", "2"]
    with pytest.raises(StopIteration) as stop:
        exchange.send(make_batch_reply([{"id": "0", "status": 201}, {"id": "2", "status": 200}]))
    assert [result["status"] for result in stop.value.value] == [201, 422, 200]


def test_only_unserializable_operations_make_no_request():
    exchange = ServerProtocol().deliver([{"op": "put", "id": "a", "title": math.nan}])
    with pytest.raises(StopIteration) as stop:
        next(exchange)
    assert [result["status"] for result in stop.value.value] == [422]


def make_batch_reply(results):
    return Reply(200, {}, json.dumps({"results": results}).encode())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_state_that_refuses_a_whole_batch_is_dropped_alone(status):
    delivered = set()

    def respond(ops):
        if any(op["id"] == "13" for op in ops):
            raise error_from_reply(Reply(status, {}, b"{}"), Request("POST", "batch"))
        delivered.update(op["id"] for op in ops)
        return accept_all(ops)

    sender = Sender(lambda: FakeDelivery(respond), clock=lambda: 1000.0)
    sender._worker.start = lambda **_: False
    for number in range(20):
        sender.add(FakeSource(str(number), keep=True))
    for _ in range(40):
        sender.step()
    assert delivered == {str(number) for number in range(20)} - {"13"}
    assert sender.stats().dropped == 1


# ---------------------------------------------------------------- transient failures


@pytest.fixture
def fast_timers(monkeypatch):
    """Shorten all delays of the sender."""
    for name in (
        "backoff.BACKOFF_BASE",
        "sender.WRONG_SERVER_DELAY",
        "sender.KEY_POLL_INTERVAL",
        "worker.STEP_RETRY_DELAY",
    ):
        monkeypatch.setattr(f"progressbar_tracker._sender.{name}", 0.01)


@pytest.mark.parametrize(
    "error",
    [
        httpx.InvalidURL("Invalid port: ':'"),
        UnicodeError("label empty"),
        UnicodeEncodeError("idna", "x", 0, 1, "label too long"),
        ssl.SSLError("[X509] no certificate or crl found"),
        FileNotFoundError(2, "SSL_CERT_FILE"),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
        OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
        MemoryError(),
        RecursionError(),
        RuntimeError("patched"),
        ImportError("socksio"),
        ConfigError("http_proxy"),
        TransportError("away"),
        KeyError("x"),
        AssertionError(),
        StopIteration(),
        SystemExit(1),
        BaseException("odd"),
        GeneratorExit(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["open", "run"])
@pytest.mark.usefixtures("fast_timers")
def test_reporting_recovers_from_any_error(faults, pb, monkeypatch, error, where):
    original, failures_left = getattr(HttpTransport, where), [0] * 5

    def fail(self, *args, **options):
        if failures_left:
            failures_left.pop()
            raise error
        return original(self, *args, **options)

    monkeypatch.setattr(HttpTransport, where, fail)
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(7)
    faults.wait_for(lambda: faults.items.get("job", {}).get("status") == "succeeded")
    assert faults.items["job"]["completed"] == 7
    assert pb.sender.flush(60)


INVALID_REPLIES = {
    "half json": b'{"results": [{"id": "job", "sta',
    "no json": b"OK",
    "nothing": b"",
    "null": b"null",
    "wrong type": b'{"results": {"id": 1}}',
    "no result": b'{"results": []}',
    "too many": b'{"results": [{"id": "job", "status": 200}, {"id": "job", "status": 200}]}',
    "status text": b'{"results": [{"id": "job", "status": "200"}]}',
    "status null": b'{"results": [{"id": "job", "status": null}]}',
    "status 0": b'{"results": [{"id": "job", "status": 0}]}',
    "status huge": b'{"results": [{"id": "job", "status": 1' + b"0" * 5000 + b"}]}",
    "status -1": b'{"results": [{"id": "job", "status": -1}]}',
    "status 102": b'{"results": [{"id": "job", "status": 102}]}',
    "nested": b'{"results": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"results": [{"id": "\xff"}]}',
    "UTF-16": '{"results": []}'.encode("utf-16"),
    "large": b"[" + b"1," * 3_000_000 + b"1]",
}


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299, 500, 502, 503, 504, 507, 408, 425, 301, 302, 407, 418])
@pytest.mark.usefixtures("fast_timers")
def test_reporting_recovers_from_any_status(faults, pb, status):
    faults.script.extend([make_response(status, b"" if status == 204 else b"<html>", Content_Type="text/html")] * 3)
    check_recovery(faults, pb)


@pytest.mark.parametrize("body", INVALID_REPLIES.values(), ids=INVALID_REPLIES)
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.usefixtures("fast_timers")
def test_reporting_recovers_from_any_body(faults, pb, status, body):
    faults.script.extend([make_response(status, body)] * 3)
    check_recovery(faults, pb)


@pytest.mark.parametrize(
    "value", ["-5", "-inf", "nan", "0", "1e-400", "x" * 1000, "Thu, 01 Jan 1970 00:00:00 GMT", "\x7f"]
)
@pytest.mark.usefixtures("fast_timers")
def test_reporting_recovers_from_any_retry_after(faults, pb, value):
    faults.script.extend([make_response(503, b"{}", Retry_After=value)] * 3)
    check_recovery(faults, pb)


@pytest.mark.parametrize("fault", [RESET, HALF_RESPONSE, LOST_RESPONSE], ids=["reset", "half", "lost"])
@pytest.mark.usefixtures("fast_timers")
def test_reporting_recovers_from_a_broken_connection(faults, pb, fault):
    faults.script.extend([fault] * 5)
    check_recovery(faults, pb)


def check_recovery(faults, pb):
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(7)
    faults.wait_for(lambda: faults.items.get("job", {}).get("status") == "succeeded")
    assert faults.items["job"]["completed"] == 7
    assert pb.sender.flush(60)
    assert pb.sender.stats().dropped == 0


# ---------------------------------------------------------------- the program's environment

TRACKED_PROGRAM = """
import os, socket, sys
from progressbar_tracker import _runtime, flush, stats, track
{prelude}
for _ in track(range(3), keep=True): pass
with track(total=2, id="named", keep=True) as bar: bar.advance(2)
assert flush(20), stats()
assert stats().dropped == 0, stats()
"""


@pytest.mark.parametrize(
    "prelude",
    [
        "",
        "sys.argv = ['/x/caf\\udce9.py']",
        "sys.argv = []",
        "sys.argv = [None]",
        "sys.argv = [b'caf\\xe9']",
        "sys.argv = None",
        "del sys.argv",
        "sys.argv = ['\\x00\\x1b[31m' * 1000]",
        "socket.gethostname = lambda: 'h\\udce9'",
        "socket.gethostname = lambda: 1 / 0 if False else (_ for _ in ()).throw(OSError(24, 'EMFILE'))",
        "socket.gethostname = lambda: '\\x00' * 1000",
        "os.environ['PROGRESSBAR_PARENT'] = '\\udcff\\x1b'",
        "os.environ['PROGRESSBAR_PARENT'] = 'p' * 5000",
        "_runtime.set_meta(job='\\udcff' * 500, **{'n' * 500: 'x', '': 'y'})",
    ],
)
def test_program_in_any_environment_is_reported(faults, tmp_path, prelude):
    check_program(faults, tmp_path / "job.py", prelude)


@pytest.mark.skipif(sys.platform == "win32" or sys.platform == "darwin", reason="there are no such file names")
def test_script_with_a_non_utf8_name_is_reported(faults, tmp_path):
    check_program(faults, os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.py"), "")


def check_program(faults, path, prelude):
    Path(path).write_text(TRACKED_PROGRAM.format(prelude=prelude))
    environ = {**os.environ, "PROGRESSBAR_URL": faults.url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    result = subprocess.run([sys.executable, path], env=environ, capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(faults.items) == 2
    for item in faults.items.values():
        check_id(item["id"])
        check_text("title", item["title"], 200)
        check_meta(item["meta"])


# ---------------------------------------------------------------- settings and keys that change


@pytest.fixture
def configured_environment(faults, monkeypatch):
    """The environment names the server with faults."""
    monkeypatch.setenv("PROGRESSBAR_URL", faults.url)
    monkeypatch.setattr("progressbar_tracker._sender.sender.KEY_POLL_INTERVAL", 0.02)
    monkeypatch.setattr("progressbar_tracker._sender.backoff.BACKOFF_BASE", 0.01)
    configure()
    yield monkeypatch
    flush(5)
    configure()


def sent_keys(faults):
    return [request.headers["x-api-key"] for request in faults.requests]


class KeyServer:
    """Restricts the fault server to one key."""

    def __init__(self, faults, key):
        self.key = key
        serve = faults._serve

        def check_key(handler):
            if handler.headers["X-API-KEY"] != self.key:
                faults.script.append(make_response(401, b'{"type": "/problems/unauthorized", "detail": "unknown key"}'))
            serve(handler)

        faults._serve = check_key


KEY_SOURCES = ["file", "variable", "config"]


def set_key(source, key, faults, tmp_path, monkeypatch):
    """Write a key to its source, and return the description of that source in a log line."""
    if source == "file":
        path = tmp_path / "key"
        monkeypatch.setenv("PROGRESSBAR_API_KEY_FILE", str(path))
        path.write_text(key + "\n")
        return f"the file {path}, which PROGRESSBAR_API_KEY_FILE names"
    if source == "variable":
        monkeypatch.setenv("PROGRESSBAR_API_KEY", key)
        return "PROGRESSBAR_API_KEY"
    path = tmp_path / "config.toml"
    monkeypatch.setenv("PROGRESSBAR_CONFIG", str(path))
    path.write_text(f'url = "{faults.url}"\napi_key = "{key}"\n')
    return f"the config file {path}"


@pytest.mark.parametrize("source", KEY_SOURCES)
def test_rotated_key_is_read_again_at_once(faults, configured_environment, tmp_path, caplog, source):
    server = KeyServer(faults, "old")
    set_key(source, "old", faults, tmp_path, configured_environment)
    with track(total=3, id="job", keep=True, interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        set_key(source, "new", faults, tmp_path, configured_environment)
        server.key = "new"
        bar.advance(3)
        faults.wait_for(lambda: faults.items["job"]["completed"] == 3)
    assert flush(20)
    assert sent_keys(faults).count("old") == 2
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.parametrize("source", KEY_SOURCES)
def test_refused_key_is_replaced_when_its_source_changes(faults, configured_environment, tmp_path, caplog, source):
    server = KeyServer(faults, "new")
    description = set_key(source, "old", faults, tmp_path, configured_environment)
    with track(total=3, id="job", keep=True, interval=0.05) as bar:
        bar.advance(1)
        assert not flush(20)
        set_key(source, "wrong too", faults, tmp_path, configured_environment)
        assert not flush(20)
        set_key(source, "new", faults, tmp_path, configured_environment)
        faults.wait_for(lambda: faults.items.get("job", {}).get("completed") == 1)
        server.key = "newer"
        set_key(source, "newer", faults, tmp_path, configured_environment)
        bar.advance(2)
    faults.wait_for(lambda: faults.items["job"]["status"] == "succeeded")
    assert flush(20)
    keys = sent_keys(faults)
    assert (keys.count("old"), keys.count("wrong too")) == (1, 1)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert f"({description})" in warnings[0]


def test_missing_key_file_is_read_when_it_is_back(faults, configured_environment, tmp_path):
    server = KeyServer(faults, "old")
    set_key("file", "old", faults, tmp_path, configured_environment)
    with track(total=3, id="job", keep=True, interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        (tmp_path / "key").unlink()
        server.key = "new"
        bar.advance(3)
        assert not flush(20)
        (tmp_path / "key").write_text("")
        assert not flush(20)
        set_key("file", "new", faults, tmp_path, configured_environment)
        faults.wait_for(lambda: faults.items["job"]["completed"] == 3)
    assert flush(20)


def test_key_is_never_sent_to_another_server(faults, configured_environment, tmp_path):
    KeyServer(faults, "right")
    set_key("config", "wrong", faults, tmp_path, configured_environment)
    configured_environment.delenv("PROGRESSBAR_URL")
    with track(total=3, id="job", keep=True) as bar:
        bar.advance(3)
        assert not flush(20)
        (tmp_path / "config.toml").write_text('url = "http://127.0.0.1:9"\napi_key = "right"\n')
        assert not flush(20)
    assert not flush(20)
    assert set(sent_keys(faults)) == {"wrong"}


def test_corrected_setting_is_read_again(faults, configured_environment, caplog):
    configured_environment.setenv("PROGRESSBAR_API_KEY_FILE", "/nonexistent/key")
    with track(total=3, id="job", keep=True) as bar:
        bar.advance(3)
        assert not flush(20)
    configured_environment.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)
    assert flush(20)
    assert faults.items["job"]["completed"] == 3
    assert [record.levelname for record in caplog.records if record.levelno >= 30] == ["WARNING"]


def test_key_invalid_in_a_header_is_logged_by_its_source(faults, configured_environment, caplog):
    configured_environment.setenv("PROGRESSBAR_API_KEY", "clé")
    with track(total=3, id="job", keep=True) as bar:
        bar.advance(3)
    assert not flush(20)
    assert "Progress is not reported: PROGRESSBAR_API_KEY must consist" in caplog.text
    assert "clé" not in caplog.text


@pytest.mark.parametrize(
    "value", [None, 5, {"a": 1}, ["x"], "a\x1b[2J\nb", "\ud800", "x" * 10_000, "fine"], ids=describe_value
)
def test_clean_detail_returns_one_bounded_line(value):
    text = clean_detail(value)
    assert text.isprintable()
    assert len(text) <= 1000
