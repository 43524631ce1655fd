"""The cost of abusive clients: ``python tests/benchmarks/abuse.py [--quick] [--runs N] [--only NAME]``.

The server has 2,000 items and a history of 100,000 runs (``--runs``) of the largest size. A separate process makes each
load from many addresses of the loopback network. Meanwhile probes request ``/healthz``, write an item with ``PUT``, and
sign in with a key and with a password, four times a second, each over a new connection. The table has the server's
largest resident memory under each load and the 99th percentile of each probe's response times. The peer is the idle
server in the same run. 503 and 429 are valid responses to a password, and errors elsewhere.

Load, probes and server share the cores of the machine.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import multiprocessing
import os
import re
import resource
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from harness import ADMIN_KEY, parse_options, print_table

from progressbar_tracker._models import (
    MAX_DESCRIPTION_LENGTH,
    MAX_ERROR_LENGTH,
    MAX_GROUP_LENGTH,
    MAX_META_ENTRIES,
    MAX_META_LENGTH,
    MAX_TITLE_LENGTH,
)
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.stores.sqlite.files import connect
from progressbar_tracker.server.stores.sqlite.migrations import FILL_RUNS

ADMIN_PASSWORD = "the password of the benchmarks"
WIDE_CHARACTER = "\N{PILE OF POO}"  # four bytes of UTF-8
PROBE_INTERVAL_SECONDS = 0.25
TIMEOUT_SECONDS = 60.0


def largest_item(item_id, now):
    """Return an item whose texts are as long as the limits allow."""
    return Item(
        id=item_id, owner_id="someone", owner="ci", run_id="r" * 32, created_at=now - 100, updated_at=now, ended_at=now,
        title=WIDE_CHARACTER * MAX_TITLE_LENGTH,
        description=WIDE_CHARACTER * MAX_DESCRIPTION_LENGTH, error=WIDE_CHARACTER * MAX_ERROR_LENGTH,
        group=WIDE_CHARACTER * MAX_GROUP_LENGTH, value=0.5, completed=1, total=2, status="failed",
        meta={f"{n:02}" + WIDE_CHARACTER * (MAX_META_LENGTH - 2): WIDE_CHARACTER * MAX_META_LENGTH for n in
        range(MAX_META_ENTRIES)},
    )  # fmt: skip


def fill(path, items, runs):
    """Make a database with the largest items and runs."""
    database = connect(path)
    now = time.time()
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    encode = msgspec.json.Encoder().encode
    state = encode(largest_item("@id", now)).decode()
    database.execute("BEGIN")
    database.executemany(
        "INSERT INTO items (id, state) VALUES (?, ?)",
        ((name, state.replace("@id", name)) for name in (f"item-{n:06}" for n in range(items))),
    )
    database.execute(
        """
        WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < :runs)
        INSERT INTO history (id, title, "group", status, ended_at, state)
        SELECT 'run-' || n, :title, :group, 'failed', :now - :runs + n, replace(:state, '@id', 'run-' || n) FROM c
        """,
        {
            "runs": runs,
            "title": WIDE_CHARACTER * MAX_TITLE_LENGTH,
            "group": WIDE_CHARACTER * MAX_GROUP_LENGTH,
            "now": now,
            "state": state,
        },
    )
    database.execute(FILL_RUNS)
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def serve(database):
    """Run a server on a database; yield its address and process id."""
    environ = {
        "PROGRESSBAR_CONFIG": str(database.with_name("config.toml")),
        "PROGRESSBAR_DATABASE": str(database),
        "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
        "ADMIN_USERNAME": "admin",
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
    }
    command = [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--no-local-key"]
    with subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True) as started:
        try:
            for line in started.stdout:
                if match := re.match(r"Serving on http://([^:]+):(\d+) ", line):
                    yield (match[1], int(match[2])), started.pid
                    return
            raise SystemExit("the server ended before it was ready")
        finally:
            started.kill()


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


class Probe(threading.Thread):
    """Repeats one request, each time on a new connection, and records the response times."""

    def __init__(self, address, method, path, body=None, kind="application/json", expected=(200, 303)):
        super().__init__(daemon=True)
        self.address, self.request, self.expected = address, (method, path, body), expected
        self.headers = {"X-API-KEY": ADMIN_KEY} if kind == "application/json" else {}
        self.headers |= {"Content-Type": kind, "Origin": f"http://{address[0]}:{address[1]}"}
        self.seconds, self.errors, self.ended = [], collections.Counter(), threading.Event()

    def run(self):
        while not self.ended.wait(PROBE_INTERVAL_SECONDS):
            started = time.perf_counter()
            connection = http.client.HTTPConnection(*self.address, timeout=TIMEOUT_SECONDS)
            try:
                connection.request(*self.request, headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status not in self.expected:
                    self.errors[answer.status] += 1
            except OSError as error:
                self.errors[type(error).__name__] += 1
            finally:
                connection.close()
            self.seconds.append(time.perf_counter() - started)

    def summary(self):
        """Return the 99th percentile in milliseconds, and the errors."""
        ordered = sorted(self.seconds) or [float("nan")]
        figure = f"{1000 * ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]:,.0f}"
        return figure + (f" {dict(self.errors)}" if self.errors else "")


def open_socket(address, n=0):
    """Return a connection from one of many addresses of this machine."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT_SECONDS)
    client.bind((f"127.0.{1 + n // 250 % 250}.{1 + n % 250}", 0))
    client.connect(address)
    return client


def head(method, path, *, key=ADMIN_KEY, more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {key}\r\n{more}\r\n".encode()


def hold_unread(path, number):
    """Make a load: requests whose responses are never read."""

    def load(address, seconds):
        held = []
        for n in range(number):
            with contextlib.suppress(OSError):
                held.append(open_socket(address, n))
                held[-1].sendall(head("GET", path))
        time.sleep(seconds)
        for each in held:
            each.close()

    return load


def hold_half_bodies(address, seconds):
    """Open requests without sending their body."""
    held = []
    for n in range(1000):
        with contextlib.suppress(OSError):
            held.append(open_socket(address, n))
            more = "Content-Type: application/json\r\nContent-Length: 60000\r\n"
            held[-1].sendall(head("PUT", "/api/v1/items/half", more=more) + b'{"description": "')
    time.sleep(seconds)
    for each in held:
        each.close()


def hold_idle(address, seconds):
    """Open as many connections as a process may, without sending data."""
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200, 15_000)
    held = []
    with contextlib.suppress(OSError):
        held.extend(open_socket(address, n) for n in range(most))
    time.sleep(seconds)
    for each in held:
        each.close()


def abandon(path, number):
    """Make a load: requests whose client resets the connection after a moment."""

    def load(address, seconds):
        ended = time.monotonic() + seconds
        for n in range(number):
            with contextlib.suppress(OSError):
                client = open_socket(address, n)
                client.sendall(head("GET", path))
                time.sleep(0.01)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        time.sleep(max(0.0, ended - time.monotonic()))

    return load


def guess_passwords(address, seconds):
    """Try 2,000 passwords from 400 addresses."""
    body = urlencode({"username": "admin", "password": "wrong"}).encode()
    request = (
        f"POST /login HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nOrigin: http://{address[0]}:{address[1]}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    held, selector = [], selectors.DefaultSelector()
    ended = time.monotonic() + seconds
    for n in range(2000):
        with contextlib.suppress(OSError):
            client = open_socket(address, n % 400)
            client.sendall(request)
            held.append(client)
            selector.register(client, selectors.EVENT_READ)
    while (left := ended - time.monotonic()) > 0:
        for ready, _ in selector.select(left):
            selector.unregister(ready.fileobj)
    for each in held:
        each.close()


ABUSE_LOADS = {
    "idle": lambda _, seconds: time.sleep(seconds),
    "20 unread exports, JSON": hold_unread("/api/v1/history.json", 20),
    "20 unread exports, CSV": hold_unread("/api/v1/history.csv", 20),
    "200 unread lists": hold_unread("/progress", 200),
    "200 unread lists with part 2": hold_unread("/api/v1/items?limit=1000", 200),
    "200 unread pages of history": hold_unread("/api/v1/history?limit=1000", 200),
    "200 unread streams": hold_unread("/api/v1/events", 200),
    "60 abandoned searches": abandon("/api/v1/history?q=nowhere", 60),
    "60 abandoned searches, pages": abandon("/history?q=nowhere", 60),
    "60 abandoned lists": abandon("/progress", 60),
    "2,000 passwords, 400 addresses": guess_passwords,
    "1,000 half bodies": hold_half_bodies,
    "idle connections, as many as may be": hold_idle,
}


def measure(address, pid, load, seconds):
    """Return a table row: memory, and the summary of each probe."""
    form = "application/x-www-form-urlencoded"
    credentials = {"username": "admin", "password": ADMIN_PASSWORD}
    probes = [
        Probe(address, "GET", "/healthz"),
        Probe(address, "PUT", "/api/v1/items/probe", json.dumps({"title": "probe"}), expected=(200, 201)),
        Probe(address, "POST", "/login", urlencode({"key": ADMIN_KEY}), form),
        Probe(address, "POST", "/login", urlencode(credentials), form, (200, 303, 429, 503)),
    ]
    largest = 0
    for probe in probes:
        probe.start()
    loader = multiprocessing.get_context("fork").Process(target=load, args=(address, seconds), daemon=True)
    loader.start()
    while loader.is_alive():
        largest = max(largest, resident_bytes(pid))
        loader.join(0.1)
    for probe in probes:
        probe.ended.set()
    for probe in probes:
        probe.join(TIMEOUT_SECONDS)
    return [f"{largest / 1e6:,.0f} MB", *(probe.summary() for probe in probes)]


def add_arguments(parser):
    parser.add_argument("--runs", type=int, help="runs of the history (default: 100,000)")
    parser.add_argument("--only", metavar="NAME", help="only loads whose name contains this")


def main():
    options = parse_options(__doc__, add_arguments)
    runs, items, seconds = options.runs or (200 if options.quick else 100_000), 50 if options.quick else 2000, 15.0
    if options.quick:
        seconds = 1.0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as name:
        database = Path(name) / "progress.db"
        fill(database, items, runs)
        rows = []
        for title, load in ABUSE_LOADS.items():
            if options.only and options.only not in title:
                continue
            with serve(database) as (address, pid):  # a new process for each load: memory never shrinks
                rows.append([title, *measure(address, pid, load, seconds)])
    heads = ["load", "largest RSS", "/healthz", "PUT", "sign-in, key", "sign-in, password"]
    print_table(f"{items:,} items and {runs:,} runs of the largest size; 99th percentiles in ms", heads, rows)


if __name__ == "__main__":
    main()
