"""A hostile server cannot control the terminal of a command: its text stays on one line."""

from __future__ import annotations

import json
import random
import threading
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.cli.conftest import command  # noqa: F401  # a fixture

HOSTILE_TEXT = "\x1b[31mred\x1b]0;title\x07\r\nspoofed: line \u202egnp.exe\x9b31m\x7f\u2028"
HOSTILE_ITEM = dict.fromkeys(("id", "title", "description", "unit", "error", "owner", "group", "run_id"), HOSTILE_TEXT)
HOSTILE_ITEM |= {
    "value": 0.5,
    "weight": 0,
    "status": "running",
    "meta": {HOSTILE_TEXT: HOSTILE_TEXT},
    "created_at": HOSTILE_TEXT,
    "updated_at": HOSTILE_TEXT,
}
HOSTILE_KEY = dict.fromkeys(
    ("key_id", "key", "name", "type", "group", "created_at", "expires_at", "last_used_at"), HOSTILE_TEXT
)
HOSTILE_SHARE = dict.fromkeys(
    ("share_id", "item", "group", "created_at", "expires_at", "token", "path", "badge"), HOSTILE_TEXT
)
HOSTILE_PING_TOKEN = dict.fromkeys(
    ("token_id", "name", "group", "created_at", "expires_at", "token", "path"), HOSTILE_TEXT
)
HOSTILE_SCHEDULE = dict.fromkeys(("id", "cron", "timezone", "owner", "next_at", "started_at", "grace"), HOSTILE_TEXT)
HOSTILE_RUN = {**HOSTILE_ITEM, "id": "x", "run_id": "y", "status": "failed", "ended_at": HOSTILE_TEXT}
HOSTILE_KEY_INFO = {
    "type": "write",
    "permissions": ["read"],
    "api": ["v1"],
    "server": {"version": HOSTILE_TEXT, "boot_id": HOSTILE_TEXT},
}

COMMAND_LINES = [["ls"], ["ls", "--json"], ["get", "x"], ["get", "x", "--json"], ["set", "x", "0.5"], ["rm", "x"],
            ["get", "x", "--run", "y"], ["history"], ["history", "x"], ["history", "--json"],
            ["wait", "x"], ["wait", "x", "--json"], ["watch"], ["set", "x", "--status", "failed"],
            ["shares", "list", "--url", "URL"], ["shares", "list", "--json", "--url", "URL"],
            ["shares", "create", "--item", "x", "--url", "URL"], ["shares", "revoke", "x", "--url", "URL"],
            ["ping-tokens", "list", "--url", "URL"], ["ping-tokens", "list", "--json", "--url", "URL"],
            ["ping-tokens", "create", "--name", "n", "--group", "g", "--url", "URL"],
            ["ping-tokens", "revoke", "x", "--url", "URL"], ["schedule", "ls"], ["schedule", "ls", "--json"],
            ["schedule", "set", "x", "--every", "1h"], ["schedule", "delete", "x"],
            ["doctor"], ["doctor", "--json"], ["keys", "list", "--url", "URL"],
            ["keys", "list", "--json", "--url", "URL"],
            ["keys", "create", "--type", "read", "--name", "n", "--url", "URL"],
            ["keys", "rotate", "x", "--url", "URL"], ["keys", "revoke", "x", "--url", "URL"]]  # fmt: skip


class HostileResponder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Do not log."""

    def respond(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status = 200
        if self.server.refuses:
            status = 403
            document = {
                "type": "/problems/forbidden",
                "title": HOSTILE_TEXT,
                "status": 403,
                "detail": HOSTILE_TEXT,
                "field": HOSTILE_TEXT,
            }
        elif "key-info" in self.path:
            document = HOSTILE_KEY_INFO
        elif "/events" in self.path:
            self.respond_with_events()
            return
        elif "/history?" in self.path:
            document = {"items": [HOSTILE_RUN]}
        elif "/shares" in self.path:
            document = {"shares": [HOSTILE_SHARE]} if self.command == "GET" else HOSTILE_SHARE
        elif "/ping-tokens" in self.path:
            document = {"ping_tokens": [HOSTILE_PING_TOKEN]} if self.command == "GET" else HOSTILE_PING_TOKEN
        elif "/schedules" in self.path:
            document = {"schedules": [HOSTILE_SCHEDULE]} if self.command == "GET" else HOSTILE_SCHEDULE
        elif "/keys" in self.path:
            document = {"keys": [HOSTILE_KEY]} if self.command == "GET" else HOSTILE_KEY
        else:
            document = (
                HOSTILE_ITEM
                if "/items/" in self.path
                else {"items": [HOSTILE_ITEM], "rev": 1}
                if "v1" in self.path
                else [HOSTILE_ITEM]
            )
        self.send(status, "application/json", json.dumps(document).encode())

    def respond_with_events(self):
        """Send a hostile item, and then its end; further connections are refused, which ends the stream."""
        if "Last-Event-ID" in self.headers:
            document = {"type": "/problems/forbidden", "title": HOSTILE_TEXT, "status": 403, "detail": HOSTILE_TEXT}
            self.send(403, "application/problem+json", json.dumps(document).encode())
            return
        item = {**HOSTILE_ITEM, "run_id": "y"}
        events = (
            ("snapshot", {"items": [item, {**item, "id": "x"}], "rev": 1}),
            (
                "change",
                {"items": [], "gone": [HOSTILE_TEXT, "x"], "ended": [{**HOSTILE_RUN, "id": HOSTILE_TEXT}, HOSTILE_RUN]},
            ),
        )
        body = "".join(f"id: {n}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for n, (name, data) in enumerate(events))
        self.send(200, "text/event-stream", body.encode())

    def send(self, status, content_type, body):
        self.send_response(status, "Fine\x1b[31m")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-ID", "\x1b[31mred")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = respond  # noqa: N815


@pytest.fixture(scope="module")
def hostile_server():
    """A server whose responses are full of control characters."""
    with ThreadingHTTPServer(("127.0.0.1", 0), HostileResponder) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("refuses", [False, True], ids=["answers", "refuses"])
@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=" ".join)
def test_server_text_cannot_control_the_terminal(
    hostile_server, command, monkeypatch, arguments, refuses  # noqa: F811
):  # fmt: skip
    hostile_server.refuses = refuses
    url = f"http://127.0.0.1:{hostile_server.server_port}"
    monkeypatch.setenv("PROGRESSBAR_URL", url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "k" * 24)
    monkeypatch.setattr(random, "random", lambda: 0.0)  # no delay before the next connection
    result = command(*[url if argument == "URL" else argument for argument in arguments])
    output = result.out + result.err
    assert [c for c in output if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}] == []
    assert not any(line.lstrip().startswith("spoofed") for line in output.splitlines())
