"""Resource leaks of a server and a tracked program: ``python tests/benchmarks/soak.py [--minutes 30] [--quick]``.

A server process has a steady load: updates in batches, short items, viewers that connect and disconnect, pages, the
history, and keys and shares that are made and revoked. A tracked program starts and ends bars all the time. The table
has the resident memory, open files and threads of both. The verdict is the slope of a line through the last half, when
caches and the ring of the stream are full. Speed is not measured, so there is no peer. The exit code is 1 if a figure
grows.

``--chaos`` breaks servers instead, see ``tests/end_to_end/chaos.py``. Its verdict is that of the server that lives
through all rounds. Its connections to databases are no part of its files: their number has a limit, which is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from harness import ADMIN_KEY, parse_options, print_table, run_server
from viewers import cpu_seconds, server_pid

ITEM_COUNT = 100
VIEWER_COUNT = 10
PAGE_PATHS = ("", "items/item-1", "history", "static/board.js", "api/v1/items", "api/v1/history", "healthz", "progress")

# Growth that counts as a leak, over the last half: a fraction of the memory; a number of files and of threads.
MAX_GROWTH = 0.03
MAX_GROWTH_MB = 1.0

TABLE_HEADS = ("minute", "server MB", "files", "threads", "program MB", "files", "threads", "requests/s", "of a core")

TRACKED_PROGRAM = """
import itertools, os, threading, time
from progressbar_tracker import track

def work(name):
    for n in itertools.count():
        for step in track(range(200), id=f"{name}-{n % 10}", display=False):
            for row in track(range(20), display=False):
                time.sleep(0.0005)

for name in "abc":
    threading.Thread(target=work, args=(name,), daemon=True).start()
print("works", flush=True)
threading.Event().wait()
"""


class ProcessSample(NamedTuple):
    """A process at one instant; memory in MB."""

    memory: float
    files: int
    threads: int


def sample_process(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return ProcessSample(
        int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        int(re.search(r"Threads:\s+(\d+)", status)[1]),
    )


class Load:
    """The clients of the server, until ``done`` is set."""

    def __init__(self, url):
        self.url = url
        self.done = threading.Event()
        self.requests = 0
        self.failures = []
        with httpx.Client(base_url=url, headers={"X-API-KEY": ADMIN_KEY}) as http:
            put = [{"op": "put", "id": f"item-{k}", "run_id": "r", "total": 10**9} for k in range(ITEM_COUNT)]
            self._batch(http, put)
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,))
            for work in (self._update, self._begin_and_end, self._browse, self._change_keys, self._view)
        ]
        for thread in self._threads:
            thread.start()

    def close(self):
        self.done.set()
        for thread in self._threads:
            thread.join(30)

    def _guarded(self, work):
        with httpx.Client(base_url=self.url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20) as http:
            try:
                work(http)
            except Exception as error:
                self.failures.append(f"{work.__name__}: {error!r}")

    def _every(self, seconds):
        at = time.monotonic()
        for n in itertools.count():
            if self.done.wait(max(at - time.monotonic(), 0)):
                return
            yield n
            at = max(at + seconds, time.monotonic())

    def _batch(self, http, ops):
        http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
        self.requests += 1

    def _update(self, http):
        """Send 200 updates a second."""
        for n in self._every(0.1):
            some = [(n * 20 + k) % ITEM_COUNT for k in range(20)]
            self._batch(http, [{"op": "patch", "id": f"item-{k}", "seq": n, "completed": n} for k in some])

    def _begin_and_end(self, http):
        """Start ten items a second, let some fail, and delete each after ten seconds."""
        for n in self._every(0.5):
            ops = [{"op": "put", "id": f"short-{n}-{k}", "total": 10, "completed": 1} for k in range(5)]
            ops += [{"op": "patch", "id": f"short-{n - 10}-{k}", "status": "failed"} for k in range(2) if n >= 10]
            ops += [{"op": "delete", "id": f"short-{n - 20}-{k}"} for k in range(5) if n >= 20]
            self._batch(http, ops)

    def _browse(self, http):
        for n in self._every(0.25):
            http.get(f"/{PAGE_PATHS[n % len(PAGE_PATHS)]}").raise_for_status()
            self.requests += 1

    def _change_keys(self, http):
        for _ in self._every(5.0):
            key = http.post("/api/v1/keys", json={"type": "read", "name": "soak"}).raise_for_status().json()
            share = http.post("/api/v1/shares", json={"item": "item-1"}).raise_for_status().json()
            http.get(f"/{share['path']}").raise_for_status()
            http.delete(f"/api/v1/keys/{key['key_id']}").raise_for_status()
            http.delete(f"/api/v1/shares/{share['share_id']}").raise_for_status()
            self.requests += 5

    def _view(self, _http):
        async def all_of_them():
            await asyncio.gather(*(self._viewer(random.Random(n)) for n in range(VIEWER_COUNT)))

        asyncio.run(all_of_them())

    async def _viewer(self, choose):
        """Connect for half a second to ten seconds, repeatedly."""
        host, port = urlsplit(self.url).hostname, urlsplit(self.url).port
        request = f"GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nX-API-KEY: {ADMIN_KEY}\r\n\r\n".encode()
        while not self.done.is_set():
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                self.requests += 1
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(choose.uniform(0.5, 10.0)):
                        while await reader.read(1 << 16) and not self.done.is_set():
                            pass
            finally:
                writer.close()


def count_files(pid):
    """Return the open files of a process by kind, such as ``socket``, ``pipe`` or ``file``."""
    kinds = Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            kind, separator, _ = str(link.readlink()).partition(":")
            kinds[kind if separator and "/" not in kind else "file"] += 1
    return kinds


def fit_slope(points):
    """Return the rise of a line through points (time, value) from the first to the last."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    across = sum((x - middle_x) ** 2 for x, _ in points)
    rise = sum((x - middle_x) * (y - middle_y) for x, y in points) / across if across else 0.0
    return rise * (points[-1][0] - points[0][0])


def print_row(cells):
    """Print a row and flush it, so that half an hour shows progress."""
    print("  ".join(cell.rjust(len(head)) for cell, head in zip(cells, TABLE_HEADS, strict=True)), flush=True)


def main():
    def more(parser):
        parser.add_argument("--minutes", type=float, default=30.0)
        parser.add_argument("--chaos", action="store_true", help="kills, failovers and other faults, with a check each")
        parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the faults of --chaos")

    options = parse_options(__doc__, more)
    seconds = 10.0 if options.quick else options.minutes * 60
    if options.chaos:
        sys.exit(break_servers(seconds, options.seed, quick=options.quick))
    every = max(seconds / 30, 0.5)
    samples = {"server": [], "program": []}
    print_row(TABLE_HEADS)
    # Public reading, so that pages need no session.
    with run_server(PROGRESSBAR_PUBLIC_READ="1") as url:
        server = server_pid()
        load = Load(url)
        program = subprocess.Popen(
            [sys.executable, "-c", TRACKED_PROGRAM],
            env={**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": ADMIN_KEY},
            stdout=subprocess.PIPE,
        )
        try:
            program.stdout.readline()
            started, cpu, requests = time.monotonic(), cpu_seconds(server), load.requests
            for n in itertools.count(1):
                time.sleep(max(started + n * every - time.monotonic(), 0))
                now = time.monotonic() - started
                for name, pid in (("server", server), ("program", program.pid)):
                    samples[name].append((now, sample_process(pid)))
                used, cpu = (cpu_seconds(server) - cpu) / every, cpu_seconds(server)
                rate, requests = (load.requests - requests) / every, load.requests
                cells = [
                    f"{memory:.1f} {files} {threads}" for memory, files, threads in (s[-1][1] for s in samples.values())
                ]
                print_row([f"{now / 60:.1f}", *" ".join(cells).split(), f"{rate:.0f}", f"{used:.0%}"])
                if load.failures or program.poll() is not None or now >= seconds:
                    break
        finally:
            program.kill()
            program.communicate()
            load.close()
    sys.exit(print_verdict(samples, load.failures, quick=options.quick))


def break_servers(seconds, seed, *, quick):
    """Run the chaos, print its counts, and return the exit code."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.end_to_end.chaos import run_chaos

    print(f"seed {seed}", flush=True)
    samples = []

    def sample(at, pid, database_connections):
        taken = sample_process(pid)
        samples.append((at, taken._replace(files=taken.files - database_connections)))
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(count_files(pid).items()))
        print(f"open files of the lasting server: {kinds}; {database_connections} of them to databases", flush=True)

    with tempfile.TemporaryDirectory(prefix="progressbar-chaos-") as folder:
        counts, faults = run_chaos(Path(folder), seconds, seed, sample=sample, say=lambda text: print(text, flush=True))
    for name, count in sorted(counts.items()):
        print(f"{name:44} {count:>9,}")
    print(f"{len(faults)} faults")
    return print_verdict({"lasting server": samples}, faults, quick=quick)


def print_verdict(samples, failures, *, quick):
    """Print the slope of each figure, and return the exit code."""
    grows = False
    rows = []
    for process, points in samples.items():
        settled = points[len(points) // 2 :]
        for figure, allowed in (
            ("memory", MAX_GROWTH * settled[0][1].memory),
            ("files", MAX_GROWTH_MB),
            ("threads", MAX_GROWTH_MB),
        ):
            slope = fit_slope([(at, getattr(sample, figure)) for at, sample in settled])
            grows = grows or slope > allowed
            verdict = "too short" if quick else "grows" if slope > allowed else "steady"
            rows.append([f"{process}, {figure}", f"{slope:+.2f}", f"{allowed:.2f}", verdict])
    print_table("over the last half", ["figure", "slope", "allowed", "verdict"], rows)
    for text in failures:
        print(f"FAULT: {text}")
    return 1 if failures or (grows and not quick) else 0


if __name__ == "__main__":
    main()
