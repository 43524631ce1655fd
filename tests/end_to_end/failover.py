"""Fails a PostgreSQL primary over under load, and compares what is left with what was acknowledged.

``python tests/end_to_end/failover.py --rounds 20``

Two servers use a primary and its standby, by a URL with both hosts. Writers create, advance, end and delete items at
both servers, and repeat a write until it is acknowledged. Viewers follow the streams, and a webhook receives a message
for each end. Each round has one fault:

* ``kill``: the primary is killed, and the standby promoted.
* ``stale``: the former primary comes back and takes writes, while all connections break and a server restarts.
* ``pause``: a server is suspended during the failover, while the other one writes past its revision.
* ``lag``: the standby is asynchronous and lacks the latest commits.
* ``pooler``: each host is a pgbouncer in session mode; otherwise as ``stale``.

Afterwards the servers and viewers have to agree with the new primary. With a synchronous standby nothing acknowledged
may be lost. After ``lag`` the losses are counted, and not a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.end_to_end.crash import CONVERGENCE_SECONDS, History, Viewer, client, list_items, send_write, summarize
from tests.support.pgbouncer import Pgbouncer
from tests.support.postgres import Cluster, create_database
from tests.support.server_process import ServerProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver

FAULT_NAMES = ("kill", "stale", "pause", "lag", "pooler")

WRITE_SECONDS = 60.0
"""Seconds until a writer gives a write up."""

REQUEST_SECONDS = 20.0
"""Seconds for one request: a suspended server does not answer."""


class Writer:
    """Creates items, and ends or deletes them, at a server or at the other one if that fails.

    Args:
        name: The prefix of its items' ids.
        urls: The servers, the preferred one first.
    """

    def __init__(self, name, urls):
        self.created, self.ended, self.deleted = set(), set(), set()
        self.refused = Counter()  # statuses of writes on items that are no longer there
        self.counts = Counter()
        self._name = name
        self._urls = itertools.cycle(urls)
        self._numbers = itertools.count()

    def work(self, over):
        """Write until ``over`` is set; each write that has begun is acknowledged or refused at the end."""
        with contextlib.ExitStack() as stack:
            clients = {}
            while not over.is_set():
                item_id = f"{self._name}-{next(self._numbers)}"
                write = {"id": item_id, "run_id": "r"}
                if not self._send(stack, clients, {**write, "op": "put", "seq": 0, "completed": 0, "total": 100}):
                    continue
                self.created.add(item_id)
                if not self._send(stack, clients, {**write, "op": "patch", "seq": 1, "completed": 50}):
                    continue
                number = int(item_id.rpartition("-")[2])
                end = {**write, "op": "patch", "seq": 2, "completed": 100, "status": "succeeded"}
                if number % 4 == 0 or not self._send(stack, clients, end):
                    continue
                self.ended.add(item_id)
                if number % 4 == 1 and self._send(stack, clients, {**write, "op": "delete"}):
                    self.deleted.add(item_id)

    def _send(self, stack, clients, write):
        deadline = time.monotonic() + WRITE_SECONDS
        attempts = 0
        url = next(self._urls)
        while True:
            attempts += 1
            if url not in clients:
                clients[url] = stack.enter_context(client(url))
                clients[url].timeout = httpx.Timeout(REQUEST_SECONDS)
            with contextlib.suppress(httpx.TransportError):
                status = send_write(clients[url], write)
                if status in (200, 201) or (write["op"] == "delete" and status == 404 and attempts > 1):
                    self.counts["acknowledged writes"] += 1
                    return True
                if status != 503:
                    self.refused[f"{write['op']} {status}"] += 1
                    return False
            self.counts["repeated writes"] += 1
            assert time.monotonic() < deadline, f"{write} is not acknowledged"
            url = next(self._urls)
            time.sleep(0.05)


class FailoverTest:
    """Two servers on a primary and its standby, and their clients.

    Args:
        folder: For temporary files.
        stack: Stops everything at its end.
        seed: Of the random choices; the timing still varies.
        pooled: The servers reach both hosts through poolers.
        longest: Maximum of seconds under load before a fault.
    """

    def __init__(self, folder, stack, *, seed, pooled=False, longest=1.5):
        self.faults = []
        self.counts = Counter()
        self.outages = []
        self._choose = random.Random(seed)
        self._longest = longest
        self._stack = stack
        self._receiver = self._stack.enter_context(WebhookReceiver())
        self._primary = self._start_cluster(None)
        self._database = urlsplit(create_database(self._primary)).path
        self._standby = self._start_cluster(self._primary)
        hosts = [self._primary.url, self._standby.url]
        if pooled:
            hosts = [self._stack.enter_context(Pgbouncer(url, "session")).url for url in hosts]
        authorities = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in hosts)
        channels = folder / "channels.toml"
        channels.write_text(
            f'[channels.hook]\nurl = "{self._receiver.url}"\non = ["succeeded"]\nall = true\nallow_private = true\n'
        )
        environ = {
            "PROGRESSBAR_DATABASE": f"postgresql://postgres@{authorities}{self._database}",
            "PROGRESSBAR_MAX_ITEMS": "1000000", "PROGRESSBAR_CHANNELS": str(channels),
        }  # fmt: skip
        self.servers = []
        for _ in range(2):
            self.servers.append(ServerProcess(folder, 3600.0, **environ))
            self._stack.callback(self.servers[-1].close)
        urls = [server.url for server in self.servers]
        self._writers = [Writer(f"w{n}", urls[n % 2 :] + urls[: n % 2]) for n in range(4)]
        self._viewers = [Viewer(lambda url=url: [url], random.Random(f"{seed} {url}"), dict) for url in urls]
        for viewer in self._viewers:
            viewer.start()
            self._stack.callback(viewer.close)
        self._history = History()

    def _start_cluster(self, primary):
        cluster = Cluster(primary)
        self._stack.callback(cluster.remove)
        return cluster

    def run_round(self, fault):
        """Load, fail over and check; a new standby follows the new primary."""
        former, promoted = self._primary, self._standby
        is_synchronous = fault != "lag"
        if is_synchronous:
            self._execute(former, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            self._execute(former, "SELECT pg_reload_conf()")
            wait_until(lambda: self._read(former, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))
        over = threading.Event()
        with ThreadPoolExecutor(len(self._writers)) as pool:
            working = [pool.submit(writer.work, over) for writer in self._writers]
            try:
                time.sleep(self._choose.uniform(0.3, self._longest))
                self._fail_over(fault, former, promoted)
                self._wait_for_write()
                time.sleep(self._choose.uniform(0.3, self._longest))
            finally:
                over.set()
            for done in working:
                done.result(WRITE_SECONDS * 2)
        self.counts[f"rounds of {fault}"] += 1
        self._primary, self._standby = promoted, former
        self._check(is_synchronous=is_synchronous)
        former.follow(promoted)

    def _fail_over(self, fault, former, promoted):
        paused = self.servers[1].process if fault == "pause" else None
        if paused is not None:
            paused.send_signal(signal.SIGSTOP)
        if fault == "lag":
            for (sender,) in self._execute(former, "SELECT pid FROM pg_stat_replication"):
                os.kill(sender, signal.SIGSTOP)
            time.sleep(1.0)
        former.kill()
        promoted.promote()
        if paused is not None:
            self._wait_for_write(self.servers[:1])
            time.sleep(self._choose.uniform(0.3, 1.0))
            paused.send_signal(signal.SIGCONT)
        if fault in ("stale", "pooler"):
            former.start()
            self._execute(former, "ALTER SYSTEM RESET synchronous_standby_names")
            self._execute(former, "SELECT pg_reload_conf()")
            for _ in range(3):
                time.sleep(0.3)
                self._execute(
                    promoted,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'progressbar%'",
                )
            self.servers[0].stop(signal.SIGKILL)
            wait_until(self._start_server)

    def _start_server(self):
        """Start the stopped server; return whether a pooler, which refuses logins for a second, has let it."""
        with contextlib.suppress(AssertionError):
            self.servers[0].start()
            return True
        return False

    def _wait_for_write(self, servers=None):
        """Wait until each server takes a durable write."""
        started = time.monotonic()
        for server in servers or self.servers:
            with client(server.url) as http:

                def takes_write(http=http):
                    with contextlib.suppress(httpx.TransportError):
                        body = {"op": "put", "id": "probe", "run_id": str(time.monotonic_ns())}
                        return send_write(http, body) in (200, 201)
                    return False

                wait_until(takes_write, 60.0, 0.02)
        self.outages.append(time.monotonic() - started)

    def _execute(self, cluster, statement):
        url = urlsplit(cluster.url)._replace(path=self._database).geturl()
        with psycopg.connect(url, autocommit=True, options="-c search_path=progressbar_tracker") as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _read(self, cluster, statement):
        ((value,),) = self._execute(cluster, statement)
        return value

    def _check(self, *, is_synchronous):
        """Compare all views with the database, and the database with the acknowledged writes."""
        deadline = time.monotonic() + 3 * CONVERGENCE_SECONDS
        while (faults := list(self._find_differences())) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.faults += faults[:20]
        losses = Counter(dict(self._count_losses()))
        self.counts += Counter(
            {f"{name}{'' if is_synchronous else ' (asynchronous)'}": n for name, n in losses.items()}
        )
        if is_synchronous:
            self.faults += [f"{number} {name}" for name, number in losses.items() if number and name.startswith("lost")]
        self.faults += [f"{number} {name}" for name, number in losses.items() if number and name.startswith("doubled")]

    def _find_differences(self):
        stored = summarize(
            json.loads(state)
            for (state,) in self._execute(self._primary, "SELECT state FROM items WHERE state IS NOT NULL")
        )
        for n, server in enumerate(self.servers, 1):
            with client(server.url) as http:
                yield from compare_views(f"server {n}", summarize(list_items(http).values()), stored)
        for n, viewer in enumerate(self._viewers, 1):
            yield from compare_views(f"viewer {n}", summarize(viewer.items.values()), stored)

    def _count_losses(self):
        stored = {
            item["id"]: item["status"]
            for (state,) in self._execute(self._primary, "SELECT state FROM items WHERE state IS NOT NULL")
            for item in [json.loads(state)]
        }
        with client(self.servers[0].url) as http:
            self._history = History()
            runs = self._history.read(http)
        created, ended, deleted = (
            set().union(*(getattr(writer, name) for writer in self._writers))
            for name in ("created", "ended", "deleted")
        )
        yield "lost creates", len(created - stored.keys() - runs.keys())
        yield "lost ends", sum(stored.get(name, "succeeded") != "succeeded" for name in ended - deleted)
        yield "lost deletes", sum(name in stored for name in deleted)
        yield "lost runs of the history", len((deleted & created) - stored.keys() - runs.keys())
        yield "doubled runs of the history", sum(len(rows) > 1 for name, rows in runs.items() if name != "probe")
        kept = ended & (runs.keys() | {name for name, status in stored.items() if status == "succeeded"})
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: kept <= self._count_messages().keys(), 3 * CONVERGENCE_SECONDS, 0.1)
        messages = self._count_messages()
        yield "lost messages", len(ended - messages.keys())
        # Messages are delivered at least once: a failover loses the note that one has arrived.
        self.counts["messages sent twice"] = sum(number > 1 for number in messages.values())
        self.counts["messages"] = messages.total()
        # A loss is counted once.
        for writer in self._writers:
            writer.created &= stored.keys() | runs.keys()
            writer.deleted &= runs.keys() - stored.keys()
            writer.ended = {
                name for name in writer.ended & messages.keys() if stored.get(name, "succeeded") == "succeeded"
            }

    def _count_messages(self):
        documents = (json.loads(request.body) for request in list(self._receiver.received))
        return Counter(document["data"]["id"] for document in documents if document["data"]["id"] != "probe")

    def summarize(self):
        """Return all counts."""
        counts = Counter(self.counts)
        for writer in self._writers:
            counts += writer.counts
            counts += Counter({f"refused: {name}": number for name, number in writer.refused.items()})
        return counts


def compare_views(name, shown, stored):
    """Yield each difference between the items of a server or viewer and those of the database."""
    for kind, ids in (
        ("phantom items", shown.keys() - stored.keys()),
        ("missing items", stored.keys() - shown.keys()),
        ("outdated items", {item_id for item_id in shown.keys() & stored.keys() if shown[item_id] != stored[item_id]}),
    ):
        if ids:
            yield f"{name} has {len(ids)} {kind}, such as {min(ids)}"


def run_rounds(folder, faults, *, say=lambda _: None, **options):
    """Run a round of each fault, until one has a fault; return the harness."""
    with contextlib.ExitStack() as stack:
        harness = FailoverTest(folder, stack, **options)
        for number, fault in enumerate(faults, 1):
            harness.run_round(fault)
            say(f"round {number}, {fault}: {len(harness.faults)} faults, {dict(harness.summarize())}")
            if harness.faults:
                break
    return harness


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds without and with poolers, in total")
    parser.add_argument("--faults", nargs="+", choices=FAULT_NAMES, default=FAULT_NAMES)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    rounds = list(itertools.islice(itertools.cycle(options.faults), options.rounds))
    total, faults, outages = Counter(), [], []
    for pooled in (False, True):
        chosen = [fault for fault in rounds if (fault == "pooler") is pooled]
        if not chosen or faults:
            continue
        with tempfile.TemporaryDirectory(prefix="progressbar-failover-") as folder:
            harness = run_rounds(
                Path(folder), chosen, seed=options.seed, pooled=pooled, say=lambda text: print(text, flush=True)
            )
        total += harness.summarize()
        faults += harness.faults
        outages += harness.outages
    print(f"\n{len(rounds)} rounds in {time.monotonic() - started:.0f} s")
    for name, count in sorted(total.items()):
        print(f"{name:44} {count:>9,}")
    print(f"{'until all servers take writes, the slowest':44} {max(outages):>8.2f}s")
    for fault in faults:
        print(f"FAULT: {fault}")
    print("nothing acknowledged was lost with a synchronous standby" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
