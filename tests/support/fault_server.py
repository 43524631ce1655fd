"""A loopback server with scripted faults and a small model of the protocol.

The next entry of the script, if any, decides how a request is treated. The server records all requests. A test waits
for a state instead of sleeping.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.support.connections import find_free_port

WRITE_KEY = "pbt_w_faultkey_0123456789"


class Fault(NamedTuple):
    """How the server treats one request.

    ``kind``: answer, hang, late (by ``delay`` seconds), silent (headers only), reset, half (of the body), lost (the
    request is applied, and the connection is reset before the response).
    """

    kind: str = "answer"
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: bytes | None = None
    delay: float = 1.0


NO_FAULT = None
HANG = Fault("hang")
LATE = Fault("late")
SILENT = Fault("silent")
RESET = Fault("reset")
HALF_RESPONSE = Fault("half")
LOST_RESPONSE = Fault("lost")


def make_response(status: int, body: bytes = b'{"title": "scripted"}', **headers: str) -> Fault:
    return Fault("answer", status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


class RecordedRequest(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    document: Any


class ProtocolModel:
    """The items and the history that the protocol would leave. No I/O."""

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy
        self.items: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.ops: list[dict[str, Any]] = []
        self.boot_id = "b1"

    def restart(self) -> None:
        """Forget all items and change the boot id, as a server with an empty database does."""
        self.items.clear()
        self.boot_id = f"b{int(self.boot_id[1:]) + 1}"

    def _apply(self, method: str, target: str, document: Any) -> tuple[int, bytes]:
        path = urlsplit(target).path
        if path == "/api/key-info":
            info: dict[str, Any] = {"type": "write", "permissions": ["read", "create", "update_own", "delete_own"]}
            if not self.legacy:
                info |= {"api": ["v1"], "server": {"version": "0", "boot_id": self.boot_id}}
            return 200, json.dumps(info).encode()
        if path == "/progress":
            return self._apply_legacy(method, target, document)
        if path == "/api/v1/items:batch" and not self.legacy:
            results = [self.apply_op(op) for op in document["ops"]]
            return 200, json.dumps({"results": results}).encode()
        return 404, b'{"title": "Not Found"}'

    def _apply_legacy(self, method: str, target: str, document: Any) -> tuple[int, bytes]:
        if method == "GET":
            return 200, json.dumps(list(self.items.values())).encode()
        item_id = document["id"] if document else parse_qs(urlsplit(target).query)["id"][0]
        self.ops.append({"op": method, **(document or {"id": item_id})})
        if method == "POST":
            if item_id in self.items:
                return 409, b"{}"
            self.items[item_id] = document
            return 201, b"{}"
        if item_id not in self.items:
            return 404, b"{}"
        if method == "PUT":
            self.items[item_id] = document
        else:
            self.history.append(self.items.pop(item_id))
        return 200, b"{}"

    def apply_op(self, op: dict[str, Any]) -> dict[str, Any]:
        self.ops.append(op)
        item_id, item = op["id"], self.items.get(op["id"])
        fields = {name: value for name, value in op.items() if name != "op"}
        if op["op"] == "put":
            if item is not None and item["run_id"] != op["run_id"]:
                self._archive(item_id, "stopped")
            if item is not None and item["run_id"] == op["run_id"] and op["seq"] <= item["seq"]:
                return {"id": item_id, "status": 200}
            self.items[item_id] = {"status": "running", **fields}
            return {"id": item_id, "status": 200 if item else 201}
        if item is None:
            return {"id": item_id, "status": 404, "problem": {"detail": "no such item"}}
        if item["run_id"] != op["run_id"]:
            return {"id": item_id, "status": 409, "problem": {"detail": "another run has taken the item over"}}
        if op["op"] == "delete":
            self._archive(item_id, "deleted")
        elif op["seq"] > item["seq"]:
            item |= fields
        return {"id": item_id, "status": 200}

    def _archive(self, item_id: str, status: str) -> None:
        item = self.items.pop(item_id)
        self.history.append(item if item["status"] != "running" else {**item, "status": status})


class FaultServer(ProtocolModel):
    """The protocol model on the loopback, with faults by ``script`` and the received ``requests``."""

    def __init__(self, *, legacy: bool = False) -> None:
        super().__init__(legacy=legacy)
        self.requests: list[RecordedRequest] = []
        self.script: deque[Fault | None] = deque()
        self.default_fault: Fault | None = None
        self.connections = 0
        self._condition = threading.Condition()
        self._release = threading.Event()
        self._open: set[socket.socket] = set()
        self._port = find_free_port()
        self.start()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; a restart uses the same port."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one(self) -> None:
                outer._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128
            is_stopped = False

            # Noted by the thread that accepts, which ends before the open connections are closed: none is missed.
            def process_request(self, request: Any, client_address: Any) -> None:
                outer.connections += 1
                outer._open.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request: Any) -> None:
                outer._open.discard(request)
                super().shutdown_request(request)

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections, close all open ones, and record no further request. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        with self._condition:
            self._server.is_stopped = True
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._release.set()
        self.stop()

    def wait_for(self, predicate: Any, timeout: float = 60.0) -> None:
        """Wait until ``predicate()`` is true; it is evaluated after each request.

        Raises:
            AssertionError: It is still false after ``timeout`` seconds.
        """
        with self._condition:
            if not self._condition.wait_for(predicate, timeout):
                msg = f"the state was not reached; items={self.items}, history={self.history}, ops={self.ops[-5:]}"
                raise AssertionError(msg)

    def last_run(self, item_id: str) -> dict[str, Any]:
        """Return the latest run of this id in the history."""
        return next(run for run in reversed(self.history) if run["id"] == item_id)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        document = json.loads(raw) if raw else None
        headers = {name.lower(): text for name, text in handler.headers.items()}
        with self._condition:
            if handler.server.is_stopped:  # type: ignore[attr-defined]
                handler.close_connection = True
                return
            self.requests.append(RecordedRequest(handler.command, handler.path, headers, document))
            fault = self.script.popleft() if self.script else self.default_fault
            if fault is None or fault.kind in ("late", "lost", "half", "silent"):
                status, body = self._apply(handler.command, handler.path, document)
                extra: dict[str, str] = {}
            else:
                status, body, extra = fault.status, fault.body or b"", fault.headers
            self._condition.notify_all()
        kind = "answer" if fault is None else fault.kind
        if kind == "hang":
            self._release.wait(100)
            handler.close_connection = True
            return
        if kind == "late":
            self._release.wait(fault.delay)
        if kind in ("reset", "lost"):
            handler.close_connection = True
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        handler.send_response(status)
        for name, text in {"Content-Type": "application/json", **extra}.items():
            handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if kind == "silent":
            handler.wfile.flush()
            self._release.wait(100)
            handler.close_connection = True
            return
        if kind == "half":
            handler.wfile.write(body[: len(body) // 2])
            handler.close_connection = True
            return
        handler.wfile.write(body)
