"""How many servers a number of live bars needs: ``python tests/benchmarks/cells.py [--quick]``.

The costs of one server on an SQLite file are measured as CPU time of its process. They are those of a request, of a row
in it, of a published change, of a change to one more viewer, and of the maintenance of an idle item. The script also
measures the memory of an item and of a viewer, and the bytes on the wire. The peer of the request is a bare Starlette
application.

A simulation adds them up for 10,000 to 10,000,000 live bars. A cell takes what one server can take: the table shows how
many bars each of its limits allows, and how many cells there are by the lowest limit. Its assumptions are options:

* each bar reports every ``--interval`` seconds, in a request with ``--batch`` bars of the same program;
* there is one viewer for each ``--bars-per-viewer`` bars, who follows a group of ``--group`` bars;
* a server uses ``--cpu`` of one core, ``--memory`` GiB, ``--bandwidth`` Mbit/s, and has ``--items`` bars at most.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import math
import sys
import threading
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_server, start_process
from requests import PEER_PROGRAM
from viewers import cpu_seconds, resident_bytes, server_pid

LIVE_BARS = (10**4, 10**5, 10**6, 10**7)
GROUP_SIZE = 200
"""Items whose changes the measured viewers follow."""

update_numbers = itertools.count(1)
"""Each batch has a higher sequence number than any before: otherwise it changes nothing."""

REQUEST_HEADERS = {"X-API-KEY": ADMIN_KEY, "Content-Type": "application/json"}


class Costs(NamedTuple):
    """Measured costs of one server: seconds of CPU, and bytes."""

    request: float
    row: float
    publication: float  # of a change, if anyone follows it
    delivery: float  # of a change, to each viewer
    idle: float  # of an item, a second
    item_memory: float
    viewer_memory: float
    row_bytes: float  # received
    change_bytes: float  # sent to each viewer


class Limit(NamedTuple):
    """A limit of a cell."""

    name: str
    bars: float


def write_batches(url, size, count, ids):
    """Send batches of patches over one connection; return the bytes of the last one."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    for n in itertools.islice(update_numbers, count):
        ops = [
            {"op": "patch", "id": item_id, "seq": n, "completed": n, "description": f"step {n}"}
            for item_id in ids[:size]
        ]
        body = json.dumps({"ops": ops})
        connection.request("POST", "/api/v1/items:batch", body, REQUEST_HEADERS)
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            raise SystemExit(f"a batch was answered with {reply.status}")
    connection.close()
    return len(body)


def make_items(url, ids, group):
    with httpx.Client(base_url=url, headers=REQUEST_HEADERS, timeout=120) as client:
        for start in range(0, len(ids), 500):
            ops = [
                {
                    "op": "put",
                    "id": item_id,
                    "run_id": "r",
                    "total": 10**9,
                    "title": f"Encoding {item_id}",
                    "group": group,
                }
                for item_id in ids[start : start + 500]
            ]
            client.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()


def measure_cpu(pid, work):
    """Return the CPU seconds of a process during some work, and those until its next ticks."""
    before = cpu_seconds(pid)
    work()
    time.sleep(1.0)
    return cpu_seconds(pid) - before


class Viewers:
    """Streams that count their bytes and changes, in one thread each."""

    def __init__(self, url, count):
        self.bytes = self.changes = 0
        self._lock = threading.Lock()
        self._connections = []
        for _ in range(count):
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
            connection.request("GET", "/api/v1/events?group=measured", headers={"X-API-KEY": ADMIN_KEY})
            stream = connection.getresponse()
            while not stream.readline().startswith(b"data:"):
                pass
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        with contextlib.suppress(Exception):  # the socket is closed at the end
            for line in iter(stream.readline, b""):
                with self._lock:
                    self.bytes += len(line)
                    self.changes += line.count(b'"id":')

    def close(self):
        for connection in self._connections:
            connection.sock.close()


def measure_costs(quick):
    """Return the costs of a server, and the ratio of its request to the peer's."""
    requests, rounds, few, many = (200, 20, 1, 5) if quick else (4000, 200, 1, 50)
    items = 2000 if quick else 50_000
    ids = [f"job-{n:06}" for n in range(GROUP_SIZE)]
    with run_server(PROGRESSBAR_MAX_ITEMS="1000000") as url:
        pid = server_pid()
        make_items(url, ids, "measured")
        write_batches(url, 1, requests // 10, ids)  # the first requests are slower
        single = measure_cpu(pid, lambda: write_batches(url, 1, requests, ids)) / requests
        sizes = []
        batch = measure_cpu(pid, lambda: sizes.append(write_batches(url, GROUP_SIZE, requests // 10, ids)))
        row = max((batch / (requests // 10) - single) / (GROUP_SIZE - 1), 1e-9)

        def write_ticks():
            for _ in range(rounds):
                write_batches(url, GROUP_SIZE, 1, ids)
                time.sleep(0.05)

        by_viewers, memory = {}, {}
        for count in (0, few, many):
            viewers = Viewers(url, count)
            memory[count] = resident_bytes(pid)
            by_viewers[count] = measure_cpu(pid, write_ticks)
            changes, received = viewers.changes, viewers.bytes
            viewers.close()
        published = max(changes / many, 1)
        delivery = max(by_viewers[many] - by_viewers[few], 0) / (many - few) / published
        publication = max(by_viewers[few] - by_viewers[0] - few * delivery * published, 0) / published
        viewer_memory = (memory[many] - memory[0]) * 2**20 / many
        before = resident_bytes(pid)
        idle_before = measure_cpu(pid, lambda: time.sleep(1 if quick else 10))
        make_items(url, [f"idle-{n:06}" for n in range(items)], "idle")
        time.sleep(1 if quick else 40)  # the first look at new items
        item_memory = (resident_bytes(pid) - before) * 2**20 / items
        idle = measure_cpu(pid, lambda: time.sleep(1 if quick else 10)) - idle_before
    peer = measure_peer(requests)
    costs = Costs(
        request=max(single - row, 1e-9), row=row, publication=publication, delivery=delivery,
        idle=max(idle, 0) / (2 if quick else 11) / items, item_memory=max(item_memory, 1),
        viewer_memory=max(viewer_memory, 1),
        row_bytes=sizes[-1] / GROUP_SIZE, change_bytes=max(received, 1) / max(changes, 1),
    )  # fmt: skip
    return costs, single, peer


def measure_peer(count):
    """Return the CPU seconds of a request to a bare Starlette application."""
    with start_process([sys.executable, "-c", PEER_PROGRAM], r"(http://\S+)") as match:
        pid = server_pid()
        connection = http.client.HTTPConnection(urlsplit(match[1]).netloc, timeout=120)

        def put():
            for _ in range(count):
                connection.request("PUT", "/progress", b"{}", REQUEST_HEADERS)
                connection.getresponse().read()

        put()
        return measure_cpu(pid, put) / count


def find_limits(costs, options):
    """Return the limits of a cell, in live bars."""
    viewers = 1 / options.bars_per_viewer
    deliveries = viewers * options.group / options.interval  # changes to viewers a second, for each bar
    cpu = (
        (costs.request / options.batch + costs.row + costs.publication) / options.interval
        + deliveries * costs.delivery
        + costs.idle
    )
    memory = costs.item_memory + viewers * costs.viewer_memory
    received = (costs.row_bytes + 400 / options.batch) / options.interval  # the head of a request has about 400 bytes
    return [
        Limit("CPU", options.cpu / cpu),
        Limit("memory", options.memory * 2**30 / memory),
        Limit("bandwidth out", options.bandwidth * 125_000 / (deliveries * costs.change_bytes)),
        Limit("bandwidth in", options.bandwidth * 125_000 / received),
        Limit("items of a server", options.items),
    ]


def format_number(number):
    return f"{number:,.0f}" if number >= 10 else f"{number:,.2f}"


def simulate(costs, options):
    """Return a row for each number of live bars."""
    limits = {limit.name: limit.bars for limit in find_limits(costs, options)}
    lowest = min(limits, key=limits.get)
    for bars in LIVE_BARS:
        cells = math.ceil(bars / limits[lowest])
        shares = {name: bars / allowed for name, allowed in limits.items()}
        yield [
            f"{bars:,}", format_number(bars / options.interval), format_number(cells),
            format_number(shares["CPU"] * options.cpu), f"{shares['memory'] * options.memory:,.1f} GiB",
            f"{shares['bandwidth in'] * options.bandwidth:,.1f} Mbit/s",
            f"{shares['bandwidth out'] * options.bandwidth:,.1f} Mbit/s", lowest,
        ]  # fmt: skip


def main():
    def add_options(parser):
        parser.add_argument("--interval", type=float, default=10.0, help="seconds between two reports of a bar")
        parser.add_argument("--batch", type=float, default=1.0, help="bars of a program, in one request")
        parser.add_argument("--bars-per-viewer", type=float, default=100.0)
        parser.add_argument("--group", type=float, default=100.0, help="bars that a viewer follows")
        parser.add_argument("--cpu", type=float, default=0.5, help="share of a core")
        parser.add_argument("--memory", type=float, default=4.0, help="GiB")
        parser.add_argument("--bandwidth", type=float, default=500.0, help="Mbit/s")
        parser.add_argument("--items", type=float, default=100_000, help="bars of a server: it starts in seconds")

    options = parse_options(__doc__, add_options)
    costs, single, peer = measure_costs(options.quick)
    print_table(
        "Costs of one server",
        ["what", "cost", f"ratio to a request of bare Starlette ({peer * 1e6:.0f} us)"],
        [
            ["request with one row", f"{single * 1e6:.1f} us", format_ratio(single, peer)],
            ["row of a request", f"{costs.row * 1e6:.1f} us", format_ratio(costs.row, peer)],
            ["change published", f"{costs.publication * 1e6:.1f} us", format_ratio(costs.publication, peer)],
            ["change to a viewer", f"{costs.delivery * 1e6:.1f} us", format_ratio(costs.delivery, peer)],
            ["idle item, a second", f"{costs.idle * 1e6:.2f} us", format_ratio(costs.idle, peer)],
            ["memory of an item", f"{costs.item_memory:,.0f} bytes", ""],
            ["memory of a viewer", f"{costs.viewer_memory:,.0f} bytes", ""],
            ["row on the wire", f"{costs.row_bytes:,.0f} bytes", ""],
            ["change on the wire, for each viewer", f"{costs.change_bytes:,.0f} bytes", ""],
        ],
    )
    print_table(
        "The limits of a cell with one server",
        ["limit", "live bars"],
        [
            [limit.name, f"{limit.bars:,.0f}"]
            for limit in sorted(find_limits(costs, options), key=lambda limit: limit.bars)
        ],
    )
    heads = ["live bars", "reports/s", "cells", "cores", "memory", "in", "out", "limit"]
    print_table("The servers", heads, list(simulate(costs, options)))


if __name__ == "__main__":
    main()
