"""The log lines of a server."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from typing import TYPE_CHECKING

from _pytest.logging import LogCaptureHandler  # the class has no public name
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server import logs
from tests.support.clock import ManualClock
from tests.support.server import RunningServer, make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from tests.support.server import FullDisk

HOSTILE_TEXTS = st.text(st.characters() | st.sampled_from("\n\r\x00\x1b\x7f\x85\u2028\u202e\ud800"), max_size=30)


@contextlib.contextmanager
def capture_logs(log_format: logs.LogFormat, level: logs.LogLevel | None = "info") -> Iterator[io.StringIO]:
    """Capture all log lines of this process, and restore the configuration afterwards."""
    names = (None, "progressbar_tracker", "uvicorn", logs.ACCESS_LOGGER)
    before = {name: logging.getLogger(name).level for name in names}
    stream = io.StringIO()
    root = logging.getLogger()
    # pytest adds captured lines to its report, and a worker cannot send a lone surrogate to the main process.
    captures = [one for one in root.handlers if isinstance(one, LogCaptureHandler)]
    for one in captures:
        root.removeHandler(one)
    handler = logs.configure(log_format, level, stream)
    try:
        yield stream
    finally:
        handler.close()
        root.removeHandler(handler)
        for one in captures:
            root.addHandler(one)
        for name, was in before.items():
            logging.getLogger(name).setLevel(was)


def parse_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def event_messages(stream: io.StringIO) -> list[str]:
    return [str(line["message"]) for line in parse_lines(stream) if line["logger"] == logs.EVENT_LOGGER]


def test_each_change_of_state_logs_a_line_with_fields(make_server: Callable[..., RunningServer]) -> None:
    with capture_logs("json") as stream:
        served = make_server()
        http, admin = served.client("write", **{"X-Request-ID": "first"}), served.client("admin")
        stream.truncate(stream.seek(0))
        http.put("/api/v1/items/a", json={"run_id": "one", "heartbeat_timeout": 5})
        http.patch("/api/v1/items/a", json={"value": 0.5})
        http.put("/api/v1/items/a", json={"run_id": "two"})
        http.patch("/api/v1/items/a", json={"status": "failed", "error": "SecretError: hunter2"})
        http.delete("/api/v1/items/a")
        key = admin.post("/api/v1/keys", json={"type": "read", "name": "eve"}).json()
        admin.post(f"/api/v1/keys/{key['key_id']}/rotate")
        admin.delete(f"/api/v1/keys/{key['key_id']}")
        share = admin.post("/api/v1/shares", json={"item": "a"}).json()
        admin.delete(f"/api/v1/shares/{share['share_id']}")
        browser = served.browser()
        browser.post("/logout")
        served.client().post("/login", data={"key": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
        assert event_messages(stream) == [
            "item created", "item taken over", "item ended", "item removed", "key created", "key rotated",
            "key revoked", "share created", "share ended", "session started", "session ended", "sign-in refused",
        ]  # fmt: skip
    first = parse_lines(stream)[0]
    assert {"item": "a", "run_id": "one", "status": "running", "request_id": "first", "level": "info"}.items() <= (
        first.items()
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(first["ts"]))
    for secret in (key["key"], "hunter2", *served.keys.values(), share["token"]):
        assert secret not in stream.getvalue()


def test_stalled_item_logs_a_line(make_server: Callable[..., RunningServer]) -> None:
    served = make_server()
    served.client("write").put("/api/v1/items/a", json={"heartbeat_timeout": 5})
    with capture_logs("json") as stream:
        served.clock.advance(6)
        while "item stalled" not in event_messages(stream):  # maintenance runs twice a second
            pass


def test_store_failure_and_recovery_log_two_lines(make_server: Callable[..., RunningServer], disk: FullDisk) -> None:
    served = make_server()
    http = served.client("write")
    with capture_logs("json") as stream:
        disk.full = True
        for n in range(3):
            assert http.post("/progress", json=make_legacy_item(str(n))).status_code == 503
        disk.full = False
        assert http.post("/progress", json=make_legacy_item("b")).status_code == 201
    messages = [str(line["message"]) for line in parse_lines(stream) if str(line["message"]).startswith("the store ")]
    assert messages == ["the store fails: database or disk is full", "the store works again"]


def test_new_leader_logs_a_line(postgres_url: str, tmp_path: Path) -> None:
    with capture_logs("json") as stream:
        served = RunningServer(tmp_path, ManualClock(), database=postgres_url)
        while "leadership gained" not in event_messages(stream):  # pytest-timeout ends an endless loop
            pass
        served.stop()
    assert event_messages(stream)[-1] == "leadership lost"


def test_requests_are_not_logged_by_default(module_server: RunningServer) -> None:
    with capture_logs("json") as stream:
        module_server.client("read").get("/progress")
    assert parse_lines(stream) == []


def test_access_log_omits_possible_secrets(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(access_log=True)
    with capture_logs("json") as stream:
        http = served.client("write", **{"X-Request-ID": "it"})
        http.get("/progress", params={"q": "hidden"})
        for path in ("/s/hidden", "/badge/hidden.svg", "/auth/hidden", "/auth/hidden/", "/api/v1/keys/hidden"):
            http.get(path)
        lines = parse_lines(stream)
    assert "hidden" not in stream.getvalue()
    assert [line["route"] for line in lines] == [
        "/progress", "/s/{token}", "/badge/{token}.svg", "/auth/{token}", "other", "/api/v1/keys/{key_id}",
    ]  # fmt: skip
    first = lines[0]
    assert (first["method"], first["status"], first["request_id"]) == ("GET", 200, "it")
    assert first["key_id"] == served.keys["write"].split("_")[2]
    assert isinstance(first["ms"], float)


def test_error_in_a_request_logs_its_id(
    make_server: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_server()
    monkeypatch.setattr(served.background.app.services.board, "page", lambda **_: 1 / 0)
    with capture_logs("json") as stream:
        response = served.client("read").get("/progress")
    (line,) = parse_lines(stream)
    assert (response.status_code, line["level"], line["request_id"]) == (500, "error", response.headers["x-request-id"])
    assert "ZeroDivisionError" in str(line["error"])


@given(HOSTILE_TEXTS, HOSTILE_TEXTS)
def test_user_text_cannot_break_a_json_line(text: str, name: str) -> None:
    with capture_logs("json") as stream:
        logs.log_event("key created", name=text, **{f"f{name}": name})
        logging.getLogger("uvicorn.error").warning("it said %s", text)
        _log_exception(text)
    output = stream.getvalue()
    assert output.isascii()
    assert not set(map(chr, [*range(10), *range(11, 32), 127])) & set(output)
    one, two, three = parse_lines(stream)
    assert one["name"] == text
    assert two["message"] == f"it said {text}"
    assert three["level"] == "error"


@given(HOSTILE_TEXTS)
def test_user_text_cannot_break_a_text_line(text: str) -> None:
    with capture_logs("text") as stream:
        logs.log_event("key created", name=text)
        logging.getLogger("uvicorn.error").warning("it said %s", text)
        _log_exception(text)
    first, second, third, *rest = stream.getvalue().split("\n")
    assert all(line.isprintable() for line in (first, second, third, *rest))
    assert all(" " in line[:30] for line in (first, second, third))
    assert all(line.startswith("  | ") for line in rest if line)


def _log_exception(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger(logs.EVENT_LOGGER).exception("it failed")


def test_flood_of_one_kind_logs_a_few_lines_and_a_count() -> None:
    clock, stream = ManualClock(), io.StringIO()
    handler = logs.RateLimitedOutput(stream, clock=clock)
    for kind in ("item created", "item ended"):
        for _ in range(1000):
            handler.handle(logging.LogRecord("a", logging.INFO, "", 0, kind, (), None))
    handler.handle(logging.LogRecord("a", logging.ERROR, "", 0, "another", (), None))
    clock.advance(2)
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "item created", (), None))
    handler.close()
    lines = stream.getvalue().splitlines()
    assert lines.count("item created") == logs.MAX_LINES_PER_SECOND + 1
    assert lines.count("another") == 1
    assert lines.count("980 more: item created") == lines.count("980 more: item ended") == 1


def test_suppressed_change_of_state_is_counted() -> None:
    with capture_logs("json") as stream:
        for n in range(100):
            logs.log_event("item created", item=str(n))
    messages = event_messages(stream)
    assert messages[:-1] == ["item created"] * logs.MAX_LINES_PER_SECOND
    assert messages[-1] == "80 more: item created"


def test_suppressed_count_is_logged_after_the_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RATE_WINDOW", 0.01)
    stream = io.StringIO()
    handler = logs.RateLimitedOutput(stream, clock=ManualClock())
    for _ in range(50):
        handler.handle(logging.LogRecord("a", logging.INFO, "", 0, "item created", (), None))
    while "30 more: item created" not in stream.getvalue():
        pass
    handler.close()


def test_default_level_is_warning_for_text_and_info_for_json() -> None:
    for log_format, line_count in (("text", 1), ("json", 2)):
        with capture_logs(log_format, None) as stream:  # type: ignore[arg-type]
            logs.log_event("key created")
            logging.getLogger(logs.EVENT_LOGGER).warning("look")
            logging.getLogger("httpx").info("POST https://hooks.example.org/secret")
        assert stream.getvalue().count("\n") == line_count
