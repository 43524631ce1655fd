"""Requests a second: ``python tests/benchmarks/requests.py [--quick] [--rounds N] [--progressista PYTHON]``.

* ``PUT /progress`` of one existing item, over 32 connections and over one, kept alive.
* ``POST /api/v1/items:batch`` with 200 patches, over 4 connections, in items a second.
* ``POST /progress`` of new items, over 64 connections: each is on disk before its response.

The server is a real ``progressbar-tracker serve`` in a process of its own, with its database in a temporary folder.
This process makes the load, over bare sockets and with prepared requests, so that it measures the server and not a
client. Every response has to be a success.

The peer is a bare Starlette application on uvicorn (httptools, uvloop) in its own process. It reads the body of a
``PUT`` and answers two words, without keys, rules and storage. Each round measures both for a second, over the same
number of connections. The best of each is kept, because a shared machine is idle only in some seconds. The load takes a
core.

``--progressista`` names an interpreter with the package ``progressista``. Then the ``PUT`` of one item is also compared
with its ``POST``: with its storage, a thousand tasks and no viewers, on uvicorn with httptools and uvloop if it has
them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

import uvloop
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_rounds, run_server, start_process

PEER_PROGRAM = """
import socket, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def put(request):
    await request.body()
    return JSONResponse({"hello": "world"})

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(2048)
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/progress", put, methods=["PUT"])])
config = uvicorn.Config(app, http="httptools", loop="uvloop", log_config=None, access_log=False, lifespan="off")
uvicorn.Server(config).run(sockets=[listening])
"""


PROGRESSISTA_PROGRAM = """
import os, socket, sys, uvicorn
os.environ["PROGRESSISTA_STORAGE_PATH"] = os.path.join(sys.argv[1], "tasks.json")
from progressista.server import create_app

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(2048)
print("http://127.0.0.1:%d" % listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(create_app(), log_config=None, access_log=False)).run(sockets=[listening])
"""


def encode_request(method, path, document):
    body = json.dumps(document).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {ADMIN_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """Sends the next request when the previous response is complete."""

    def __init__(self, load):
        self.load = load
        self.data = b""
        self.response_size = 0  # bytes of the current response, known after its head

    def connection_made(self, transport):
        self.transport = transport
        transport.write(next(self.load.requests))

    def data_received(self, data):
        self.data += data
        if not self.response_size:
            head = self.data.find(b"\r\n\r\n")
            if head < 0:
                return
            lower = self.data[:head].lower()
            at = lower.index(b"content-length:") + 15
            self.response_size = head + 4 + int(lower[at:].split(b"\r\n", 1)[0])
        if len(self.data) >= self.response_size:
            if not self.data.startswith(b"HTTP/1.1 2"):
                self.load.failed(self.data)
            self.data, self.response_size = b"", 0
            self.load.answered += 1
            if self.load.running:
                self.transport.write(next(self.load.requests))
            else:
                self.transport.close()

    def connection_lost(self, error):
        self.load.open -= 1
        if self.load.running:
            self.load.failed(f"the connection was lost: {error}")
        elif not self.load.open:
            self.load.done.set_result(None)


class Load:
    def __init__(self, requests):
        self.requests = requests
        self.answered = self.open = 0
        self.running = True

    def record_failure(self, response):
        if not self.done.done():
            self.done.set_exception(SystemExit(f"not a success: {response!r}"))

    async def run(self, url, connections, seconds):
        """Return the responses a second."""
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        address = urlsplit(url)
        self.open = connections
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), address.hostname, address.port)
        before, started = self.answered, time.perf_counter()
        # A failure ends the wait early and is raised.
        await asyncio.wait([self.done], timeout=seconds)
        rate = (self.answered - before) / (time.perf_counter() - started)
        self.running = False
        await asyncio.wait_for(self.done, 30)
        return rate


def measure(url, requests, connections, seconds):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Load(requests).run(url, connections, seconds))


def make_item(item_id, value=0.5):
    return {"id": item_id, "title": "Encoding Video", "description": "half of it", "value": value, "weight": 100}


def make_batches(ids, size):
    """Yield patches that all differ, because an unchanged item is cheaper."""
    for n in itertools.count(1):
        ops = [{"op": "patch", "id": item_id, "completed": n, "description": f"{n} done"} for item_id in ids[:size]]
        yield encode_request("POST", "/api/v1/items:batch", {"ops": ops})


def get_document(url, path):
    request = urllib.request.Request(url + path, headers={"X-API-KEY": ADMIN_KEY})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


def compare_with_progressista(python, url, puts, number, seconds):
    """Compare an update of this server with one of progressista."""
    tasks = [
        encode_request("POST", "/progress", {"task_id": f"task {n}", "desc": "Encoding Video", "total": 1000, "n": n})
        for n in range(1000)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as folder,
        start_process([python, "-c", PROGRESSISTA_PROGRAM, folder], r"(http:\S+)") as match,
    ):
        load = itertools.cycle(tasks)
        if number > 1:
            measure(match[1], load, 8, 15.0)  # until the thousand tasks exist
        took = run_rounds(
            {
                "ours": lambda: measure(url, puts, 32, seconds),
                "theirs": lambda: measure(match[1], load, 32, seconds),
            },
            number,
            max,
        )
        with urllib.request.urlopen(f"{match[1]}/health") as reply:
            there = json.load(reply)["tasks"]
    ours, theirs = took["ours"], took["theirs"]
    print_table(
        f"An update of one item, 32 connections, a second; {there:,} tasks there",
        ["", "progressbar-tracker", "progressista", "ratio"],
        [["", f"{ours:,.0f}", f"{theirs:,.0f}", format_ratio(ours, theirs)]],
    )


def main():
    def more(parser):
        parser.add_argument("--progressista", help="a Python that has the package progressista")
        parser.add_argument("--rounds", type=int, default=24, help="more of them find more idle seconds")

    options = parse_options(__doc__, more)
    number, seconds = (1, 0.5) if options.quick else (options.rounds, 1.0)
    names = itertools.count()
    puts = itertools.cycle([encode_request("PUT", "/progress", make_item("one", n / 100)) for n in range(1, 99)])
    creates = (encode_request("POST", "/progress", make_item(f"new {n}")) for n in names)
    patches = itertools.cycle(list(itertools.islice(make_batches([f"patched {n}" for n in range(200)], 200), 50)))
    with (
        run_server(PROGRESSBAR_MAX_ITEMS="100000000") as url,
        start_process([sys.executable, "-c", PEER_PROGRAM], r"(http:\S+)") as match,
    ):
        peer = match[1]
        first = [encode_request("POST", "/progress", make_item("one"))]
        first += [encode_request("POST", "/progress", make_item(f"patched {n}")) for n in range(200)]
        for request in first:
            measure(url, itertools.chain([request], puts), 1, 0.0)
        measures = [
            ("PUT one item, 32 connections", puts, 32, 1),
            ("PUT one item, 1 connection", puts, 1, 1),
            ("batch of 200 patches, 4 connections, items", patches, 4, 200),
            ("durable create, 64 connections", creates, 64, 1),
        ]
        contenders = {}
        for name, requests, connections, _ in measures:
            contenders["ours", name] = lambda r=requests, c=connections: measure(url, r, c, seconds)
            contenders["peer", name] = lambda c=connections: measure(peer, puts, c, seconds)
        took = run_rounds(contenders, number, max)
        rows = []
        for name, _, _, each in measures:
            ours, theirs = took["ours", name] * each, took["peer", name]
            rows.append([name, f"{ours:,.0f}", f"{theirs:,.0f}", format_ratio(ours, theirs)])
        print_table("A second", ["measure", "progressbar-tracker", "bare Starlette PUT", "ratio"], rows)
        if options.progressista:
            compare_with_progressista(options.progressista, url, puts, number, seconds)
        else:
            print("\nprogressista was not measured: --progressista names a Python that has it.")
        listed = get_document(url, "/progress")
        created = sum(entry["id"].startswith("new ") for entry in listed)
        counts = {entry["completed"] for entry in listed if entry["id"].startswith("patched ")}
        print(f"\nThe list has {created:,} of {next(names):,} new items; patched items are at {sorted(counts)}.")


if __name__ == "__main__":
    main()
