"""Several servers on one PostgreSQL: ``python tests/benchmarks/replicas.py [--quick]``.

With 1, 2 and 4 servers on one database, each a real ``progressbar-tracker serve`` in a process of its own:

* *seen*: milliseconds from an update at the last server to its event on the stream of the first one, through the
  database, at 500 updates a second in batches, spread over the servers.
* *updates*: patches a second in batches of 200, over two connections to each server, in turn of 10,000 items; *rows* is
  the growth of the database's revision meanwhile: at most four states an item and second.
* *create*: items created one by one over 16 connections to each server, with a response after the commit.

The script starts a PostgreSQL with default durability in a temporary folder, or uses the one of
``PROGRESSBAR_TEST_POSTGRES_URL``. Servers, database and load share the machine's cores. So on two cores, more servers
add no speed: the figures show the overhead of several servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import httpx
import psycopg
import uvloop
from harness import ADMIN_KEY, parse_options, print_table, run_server
from requests import Load, encode_request, make_item

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.postgres import EXTERNAL_URL, Cluster, ExternalCluster, create_database, drop_database

ITEM_COUNT = 10_000  # items of each server's writers
BATCH_SIZE = 200
WRITES_PER_SECOND = 500


def open_client(url):
    return httpx.Client(base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=30)


def get_revision(database):
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT rev FROM progressbar_tracker.meta").fetchone()[0]


def make_items(url, ids):
    with open_client(url) as http:
        for n in range(0, len(ids), 500):
            ops = [{"op": "put", "id": item_id, "run_id": "r", "total": 10**9} for item_id in ids[n : n + 500]]
            http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()


def write(url, ids, rate, done):
    with open_client(url) as http:
        at = time.monotonic()
        for seq in itertools.count(1):
            now = f"{time.time():.4f}"
            ops = [
                {"op": "patch", "id": item_id, "seq": seq, "completed": seq, "description": now}
                for item_id in ids[: rate // 10]
            ]
            http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
            at += 0.1
            if done.wait(max(at - time.monotonic(), 0)):
                return


def view(url, marked, delays, ready, done):
    with (
        open_client(url) as http,
        http.stream("GET", "/api/v1/events", headers={"Accept": "text/event-stream"}) as reply,
    ):
        for line in reply.iter_lines():
            if line.startswith("data: "):
                now = time.time()
                for item in json.loads(line[6:]).get("items", ()):
                    if item["id"] == marked and item["description"] and ready.is_set():
                        delays.append(now - float(item["description"]))
                ready.set()
            if done.is_set():
                return


def make_patches(ids):
    """Return batches for two rounds over all items, so that each patch is a change."""
    for n in (1, 2):
        for start in range(0, len(ids), BATCH_SIZE):
            ops = [
                {"op": "patch", "id": item_id, "completed": n, "description": f"{n} done"}
                for item_id in ids[start : start + BATCH_SIZE]
            ]
            yield encode_request("POST", "/api/v1/items:batch", {"ops": ops})


def measure_delays(urls, ids, seconds):
    """Return the delays from the last server's writers to the first server's viewer."""
    delays, ready, done = [], threading.Event(), threading.Event()
    marked = ids[urls[-1]][0]
    threads = [threading.Thread(target=view, args=(urls[0], marked, delays, ready, done))]
    threads += [
        threading.Thread(target=write, args=(url, ids[url], WRITES_PER_SECOND // len(urls), done)) for url in urls
    ]
    for thread in threads:
        thread.start()
    ready.wait(30)
    time.sleep(seconds)
    done.set()
    for thread in threads:
        thread.join()
    return delays[1:] or delays


def measure_throughput(urls, requests, connections, seconds):
    """Return the responses a second of all servers together."""

    async def run():
        loads = [Load(requests(url)).run(url, connections, seconds) for url in urls]
        return sum(await asyncio.gather(*loads))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def measure(cluster, number, seconds):
    database = create_database(cluster)
    try:
        with contextlib.ExitStack() as stack:
            urls = [
                stack.enter_context(run_server(PROGRESSBAR_DATABASE=database, PROGRESSBAR_MAX_ITEMS="100000000"))
                for _ in range(number)
            ]
            ids = {url: [f"{place} {n}" for n in range(ITEM_COUNT)] for place, url in enumerate(urls)}
            for url in urls:
                make_items(url, ids[url])
            delays = measure_delays(urls, ids, seconds * 2)
            rounds = {url: list(make_patches(ids[url])) for url in urls}
            rev, started = get_revision(database), time.monotonic()
            rate = measure_throughput(urls, lambda url: itertools.cycle(rounds[url]), 2, seconds) * BATCH_SIZE
            rows = (get_revision(database) - rev) / (time.monotonic() - started)

            creates = (encode_request("POST", "/progress", make_item(f"new {n}")) for n in itertools.count())
            created = measure_throughput(urls, lambda _: creates, 16, seconds)
            cuts = statistics.quantiles(delays, n=100) if len(delays) > 1 else [float("nan")] * 99
            return [
                f"{number}", f"{cuts[49] * 1000:.0f}", f"{cuts[98] * 1000:.0f}", f"{rate:,.0f}", f"{rows:,.0f}",
                f"{created:,.0f}",
            ]  # fmt: skip
    finally:
        drop_database(cluster, database)


def main():
    quick = parse_options(__doc__).quick
    cluster = ExternalCluster(EXTERNAL_URL) if EXTERNAL_URL else Cluster(fsync="on", max_connections="100")
    try:
        rows = [measure(cluster, number, 1.0 if quick else 8.0) for number in ((1, 2) if quick else (1, 2, 4))]
    finally:
        cluster.remove()
    print_table(
        f"Servers on one PostgreSQL, {os.cpu_count()} cores for all",
        ["servers", "seen p50, ms", "seen p99, ms", "updates/s", "rows/s", "creates/s"],
        rows,
    )


if __name__ == "__main__":
    main()
