"""Kills a server repeatedly under load, and compares its state with the acknowledged writes.

``python tests/end_to_end/crash.py --rounds 50``

Several writers create, advance, end and delete items. One client makes, rotates and revokes keys and shares, a viewer
follows the stream, and a tracked program runs through all rounds. ``kill -9`` ends a server at a random moment, in some
rounds once more during its start. After the restart, the promises of the protocol have to hold:

* Creates, deletes, ends and changes of keys and shares are durable before their response: all of them are there, a
  deleted run is once in the history, and every row was sent by a client.
* Progress is acknowledged from memory and written within half a second: older progress is there. Younger progress may
  be lost, and is restored when its writer sends its state again, as every client does.
* During a viewer's connection, no run moves behind an acknowledged state, and none continues after an acknowledged end.
  (The stream shows a write while it is on its way to the disk, and retracts it if it is refused.)
* After the writers have caught up, the viewer and the list agree with the disk.
* ``PRAGMA integrity_check`` says ok (SQLite).

``--database`` is a file, or the URL of a PostgreSQL with several replicas on it, one of them a victim.
``--interrupt`` is a command that stops and restarts the database; then nothing may be lost.
``--postgres`` starts a PostgreSQL, and ``--postgres --interrupt crash`` crashes that instead of a server.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[2]))

from progressbar_tracker import ProgressBar
from progressbar_tracker.server.stores.sqlite.backup import create_backup
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.postgres import Cluster, create_database
from tests.support.server_process import ADMIN_KEY, ServerProcess

FLUSH_SECONDS = 0.5
"""Seconds within which acknowledged progress is on disk."""

SLACK_SECONDS = 0.5
"""Additional seconds for a busy machine."""

CONVERGENCE_SECONDS = 10.0
"""Seconds within which all servers and the viewer have to agree."""

MAX_STALE_SECONDS = 1.0
"""Age that a viewer's state may have: in flight, or between two ticks."""

ITEM_TOTAL = 1_000_000
BATCH_SIZE = 5
MARKER_GROUP = "tracked"


class TrackedItem:
    """An item as its writer knows it: its acknowledged states and its pending write."""

    def __init__(self, item_id, choose, *, long=False):
        self.id = item_id
        self.run_id = secrets.token_hex(4)
        self.created = False
        self.seq = 0  # of the latest acknowledged write
        self.durable = 0  # of the latest durable write
        self.progress = deque(maxlen=2000)  # (at, seq) of progress since then
        self.ended = None
        self.gone = None
        self.pending = None
        self.acknowledgements = deque(maxlen=50)  # (at, seq, end) of each response
        steps = [("advance", None)] * (5000 if long else choose.randint(0, 12))
        fate = choose.random()
        if fate < 0.25:
            steps.append(("end", "succeeded"))
        elif fate < 0.35:
            steps.append(("end", "failed"))
        if fate < 0.15 or fate > 0.5:
            steps.append(("delete", None))
        self._plan = iter([("put", None), *steps])

    def next(self):
        """Return the pending write or the next one; ``None`` at the end of the plan."""
        if self.pending is None:
            step, status = next(self._plan, (None, None))
            write = {"id": self.id, "run_id": self.run_id}
            if step == "put":
                self.pending = {**write, "op": "put", "seq": 0, "completed": 0, "total": ITEM_TOTAL}
            elif step == "delete":
                self.pending = {**write, "op": "delete"}
            elif step is not None:
                state = {"seq": self.seq + 1, "completed": self.seq + 1}
                self.pending = {**write, **state, "op": "patch", **({"status": status} if status else {})}
        return self.pending

    def full_state(self):
        """Return the state that a client sends after a restart."""
        position = {"seq": self.seq, "completed": self.seq, "total": ITEM_TOTAL}
        return {"id": self.id, "run_id": self.run_id, "op": "put", **position}

    def acknowledge(self, at):
        """Record the response to the pending write; return the name of its counter."""
        write, self.pending = self.pending, None
        if write["op"] == "delete":
            self.gone = self.ended or "deleted"
            return "deletes"
        self.seq = write["seq"]
        self.acknowledgements.append((at, self.seq, write.get("status")))
        if write["op"] == "put" or "status" in write:
            self.created, self.durable, self.ended = True, self.seq, write.get("status")
            self.progress.clear()
            return "ends" if self.ended else "creates"
        self.progress.append((at, self.seq))
        return "progress"

    def min_durable_count(self, until):
        """Return the count that has to be on disk after a kill at ``until``."""
        return max([self.durable, *(seq for at, seq in self.progress if at + FLUSH_SECONDS + SLACK_SECONDS <= until)])

    def acknowledged_state(self, at):
        """Return the acknowledged count and end at an instant."""
        states = [(seq, end) for time, seq, end in list(self.acknowledgements) if time <= at]
        return states[-1] if states else (0, None)

    def find_faults(self, item, runs, until):
        """Yield each fault of its state on the server.

        Args:
            item: The listed item, or ``None``.
            runs: Its rows of the history.
            until: The instant at which its writer's server was killed; infinity without a kill.
        """
        op = self.pending["op"] if self.pending else None
        may_end = self.pending.get("status") if self.pending else None
        if len(runs) > 1:
            yield f"is {len(runs)} times in the history"
        if runs and item:
            yield "is listed and in the history"
        if runs and not (self.gone or op == "delete"):
            yield "is in the history without a delete"
        if runs and runs[0]["status"] != (self.gone or self.ended or "deleted"):
            yield f"is {runs[0]['status']} in the history instead of {self.gone or self.ended or 'deleted'}"
        if not self.created:
            if item and op != "put":
                yield "is listed without a create"
        elif self.gone:
            if item:
                yield "is listed after its delete"
            if not runs:
                yield "was deleted, and is not in the history"
        elif item is None:
            if not runs:
                yield "was created, and is nowhere"
        elif item["run_id"] != self.run_id:
            yield "belongs to another run"
        else:
            max_seq = self.pending["seq"] if op == "patch" else self.seq
            if not self.min_durable_count(until) <= item["seq"] <= max_seq:
                yield f"is at {item['seq']}, which is not from {self.min_durable_count(until)} to {max_seq}"
            if item["completed"] != item["seq"]:
                yield f"has {item['completed']} of the write {item['seq']}"
            if item["status"] not in {self.ended or "running", may_end or self.ended or "running"}:
                yield f"is {item['status']} instead of {self.ended or 'running'}"


class Writer:
    """Creates, advances, ends and deletes items, one after another or in batches.

    Args:
        name: The prefix of its items' ids.
        choose: The source of randomness.
        width: Number of items at a time; more than one makes batches.
        calm: Mostly advance, with pauses.
    """

    def __init__(self, name, choose, width, *, calm=False):
        self.bars = {}  # items that may be listed or have to be checked
        self.counts = Counter()
        self.begun = threading.Event()
        self.killed_at = float("inf")
        self._name = name
        self._choose = choose
        self._width = width
        self._is_calm = calm
        self._working = []
        self._numbers = itertools.count()

    def work(self, url, over):
        """Write until ``over`` is set or the server is down."""
        with client(url) as http:
            while not over.is_set():
                try:
                    self._step(http, over)
                except httpx.TransportError:
                    return

    def _step(self, http, over):
        self._working = [bar for bar in self._working if bar.next() is not None]
        while len(self._working) < self._width:
            bar = TrackedItem(f"{self._name}-{next(self._numbers)}", self._choose, long=self._is_calm)
            self.bars[bar.id] = bar
            bar.next()
            self._working.append(bar)
        if not self.send(http, self._working) or self._is_calm:
            over.wait(0.02)

    def send(self, http, bars):
        """Send the pending writes; return whether the server took them."""
        if self._width == 1:
            (bar,) = bars
            statuses = [send_write(http, bar.pending)]
        else:
            reply = http.post("/api/v1/items:batch", json={"ops": [bar.pending for bar in bars]})
            statuses = [result["status"] for result in reply.json()["results"]] if reply.is_success else None
            if statuses is None:
                assert reply.status_code == 503, reply.text
                return False
        for bar, status in zip(bars, statuses, strict=True):
            if status == 503:
                return False
            # 404: the first attempt deleted the item, and only its response was lost.
            assert status in (200, 201) or (status == 404 and bar.pending["op"] == "delete"), (bar.pending, status)
            self.counts[bar.acknowledge(time.monotonic())] += 1
        self.begun.set()
        return True

    def resend(self, http):
        """Send pending writes again, and each state that may be lost."""
        for bar in self.bars.values():
            deadline = time.monotonic() + CONVERGENCE_SECONDS
            while bar.pending is not None:
                status = send_write(http, bar.pending)
                if status in (200, 201) or (status == 404 and bar.pending["op"] == "delete"):
                    self.counts[bar.acknowledge(time.monotonic())] += 1
                else:
                    assert status == 503, (bar.pending, status)
                    assert time.monotonic() < deadline, "the server still refuses writes"
                    time.sleep(0.05)
            if bar.created and not bar.gone and not bar.ended and bar.progress:
                assert send_write(http, bar.full_state()) == 200, bar.id
                bar.progress.clear()


def send_write(http, write):
    """Send one write in a request of its own; return the status of the response."""
    body = {name: value for name, value in write.items() if name not in ("op", "id")}
    if write["op"] == "delete":
        return http.delete(f"/api/v1/items/{write['id']}", params=body).status_code
    return http.request(write["op"].upper(), f"/api/v1/items/{write['id']}", json=body).status_code


KEY_NAME = "of the test"


class CredentialWriter:
    """Makes, rotates and revokes keys and shares."""

    def __init__(self, choose):
        self.checks = []  # (path, key, valid statuses) of this round's changes
        self.counts = Counter()
        self._choose = choose

    def work(self, url, over):
        with client(url) as http:
            for n in itertools.count():
                with contextlib.suppress(httpx.TransportError, _UnavailableError):
                    (self._key if n % 3 else self._share)(http)
                if over.wait(0.01):
                    return
                with contextlib.suppress(httpx.TransportError):
                    http.get("/healthz")
                    continue
                return

    def _key(self, http):
        key = self._record("keys", http.post("/api/v1/keys", json={"type": "read", "name": KEY_NAME}))
        index = len(self.checks)
        self.checks.append(("/api/key-info", key["key"], {200}))
        action = self._choose.random()
        if action < 0.4:
            rotated = self._record("rotations", http.post(f"/api/v1/keys/{key['key_id']}/rotate"))
            self.checks.append(("/api/key-info", rotated["key"], {200}))
        elif action < 0.8:
            self.checks[index] = ("/api/key-info", key["key"], {200, 401})  # until the response
            self._record("revocations", http.delete(f"/api/v1/keys/{key['key_id']}"))
            self.checks[index] = ("/api/key-info", key["key"], {401})

    def _share(self, http):
        share = self._record("shares", http.post("/api/v1/shares", json={"group": "any"}))
        index = len(self.checks)
        self.checks.append((f"/{share['path']}", None, {200}))
        if self._choose.random() < 0.5:
            self.checks[index] = (f"/{share['path']}", None, {200, 404})
            self._record("shares revoked", http.delete(f"/api/v1/shares/{share['share_id']}"))
            self.checks[index] = (f"/{share['path']}", None, {404})

    def _record(self, name, reply):
        if reply.status_code == 503:
            raise _UnavailableError
        reply.raise_for_status()
        self.counts[name] += 1
        return reply.json()

    def find_faults(self, http):
        for path, key, valid_statuses in self.checks:
            status = http.get(path, headers={} if key is None else {"X-API-KEY": key}).status_code
            if status not in valid_statuses:
                yield f"{path.partition('/s/')[0] or 'a share'} answers {status} instead of {sorted(valid_statuses)}"

    def revoke_all(self, http):
        """Revoke the keys and shares that are left, because a server has at most 1,000 of each."""
        for key in http.get("/api/v1/keys").raise_for_status().json()["keys"]:
            if key["name"] == KEY_NAME:
                self._record("revocations", http.delete(f"/api/v1/keys/{key['key_id']}"))
        for share in http.get("/api/v1/shares").raise_for_status().json()["shares"]:
            self._record("shares revoked", http.delete(f"/api/v1/shares/{share['share_id']}"))


class _UnavailableError(Exception):
    """The server refused a write with 503."""


class Viewer:
    """Follows the stream of a random server, resumes it after a disconnect, and keeps its items."""

    def __init__(self, urls, choose, bars):
        self.items = {}
        self.faults = []
        self._bars = bars
        self.counts = Counter()
        self._urls = urls
        self._choose = choose
        self._last = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def start(self):
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self):
        self._stopped.set()

    def find_faults(self, listed):
        """Yield each difference from a list."""
        with self._lock:
            shown, listed = summarize(self.items.values()), summarize(listed.values())
        for item_id in shown.keys() | listed.keys():
            if shown.get(item_id) != listed.get(item_id):
                yield f"{item_id} is shown as {shown.get(item_id)}, and is {listed.get(item_id)}"

    def _follow(self):
        while not self._stopped.is_set():
            headers = {"Last-Event-ID": self._last} if self._last else {}
            with client(self._choose.choice(self._urls())) as http, contextlib.suppress(httpx.TransportError):
                with http.stream("GET", "/api/v1/events", headers=headers, timeout=20) as reply:
                    if reply.status_code == 200:
                        self.counts["connections"] += 1
                        self._read(reply)
            self._stopped.wait(0.05)

    def _read(self, reply):
        latest, fields = {}, {}  # within this connection
        for line in reply.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                self.counts[fields["event"]] += 1
                if fields["event"] != "hb":
                    self.apply_event(fields["event"], json.loads(fields["data"]), latest)
                self._last, fields = fields["id"], {}
            if self._stopped.is_set():
                return

    def apply_event(self, event, data, latest):
        """Apply an event; ``latest`` has the connection's last state of each item."""
        bars = self._bars()
        for item in data["items"]:
            former, bar = latest.get(item["id"]), bars.get(item["id"])
            if former and bar and former["run_id"] == item["run_id"]:
                seq, end = bar.acknowledged_state(time.monotonic() - MAX_STALE_SECONDS)
                if item["seq"] < min(seq, former["seq"]):
                    self.faults.append(f"{bar.id} went back from {former['seq']} to {item['seq']}, and was at {seq}")
                if end and former["status"] == end != item["status"]:
                    self.faults.append(f"{bar.id} was {end}, and is {item['status']}")
            latest[item["id"]] = item
        with self._lock:
            if event == "snapshot":
                self.items = {}
            self.items |= {item["id"]: item for item in data["items"]}
            for item_id in data.get("gone", ()):
                self.items.pop(item_id, None)


def client(url):
    return httpx.Client(base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20)


def summarize(items):
    """Return a comparable state of each item, without the item of the tracked program, which never rests."""
    return {item["id"]: (item["run_id"], item["seq"], item["status"]) for item in items if item["id"] != MARKER_GROUP}


def list_items(http):
    """Return all listed items by id, page by page."""
    path, items = "/api/v1/items?limit=10000", {}
    while path:
        reply = http.get(path).raise_for_status()
        items |= {item["id"]: item for item in reply.json()["items"]}
        path = reply.url.join(reply.links["next"]["url"]) if "next" in reply.links else None
    return items


class History:
    """The rows of the history by the item's id, read incrementally."""

    def __init__(self):
        self.runs = {}
        self._newest = []

    def read(self, http):
        path, fresh = "/api/v1/history?limit=1000", []
        while path:
            reply = http.get(path).raise_for_status()
            rows = reply.json()["items"]
            known = [n for n, row in enumerate(rows) if (row["id"], row["run_id"]) in self._newest]
            fresh += rows[: known[0]] if known else rows
            path = reply.url.join(reply.links["next"]["url"]) if "next" in reply.links and not known else None
        if fresh:
            self._newest = [(row["id"], row["run_id"]) for row in fresh[:20]] + self._newest[:20]
        for row in fresh:
            rows = self.runs.setdefault(row["id"], [])
            rows.append(row)
        return self.runs


class CrashTest:
    """Servers on one database, and their clients.

    Args:
        folder: For temporary files.
        database: A file, or the URL of a PostgreSQL.
        seed: Of the random choices; the timing still varies.
        replicas: Number of servers; more than one needs PostgreSQL.
        writers: Number of writers.
        interrupt: Stops and restarts the database; replaces the kill in every second round.
        longest: Maximum of seconds under load before a kill.
    """

    def __init__(self, folder, database, *, seed, replicas=1, writers=6, interrupt=None, longest=1.2):
        self.database = str(database)
        self.faults = []
        self.counts = Counter()
        self.starts, self.lost = [], [0.0]
        self._folder = folder
        self._choose = random.Random(seed)
        self._interrupt = interrupt
        self._longest = longest
        self._sqlite = "://" not in self.database
        assert self._sqlite is (replicas == 1)
        self._history = History()
        settings = {"PROGRESSBAR_DATABASE": self.database, "PROGRESSBAR_MAX_ITEMS": "1000000"}
        self.servers = [ServerProcess(folder, 3600.0, **settings) for _ in range(replicas)]
        self._writers = [
            Writer(f"w{n}", random.Random(f"{seed} {n}"), BATCH_SIZE if n % 2 else 1, calm=n == writers - 1)
            for n in range(writers)
        ]
        self._keeper = CredentialWriter(random.Random(f"{seed} keeper"))
        self._viewer = Viewer(
            lambda: [server.url for server in self.servers],
            random.Random(f"{seed} viewer"),
            lambda: {name: bar for writer in self._writers for name, bar in list(writer.bars.items())},
        )
        self._viewer.start()
        self._bar_client = ProgressBar(self.servers[0].url, ADMIN_KEY)
        self._bar = self._bar_client.track(id=MARKER_GROUP, keep=True, interval=0.05, display=False)
        self._stopped = threading.Event()
        self._program = threading.Thread(target=self._run_program, daemon=True)
        self._program.start()

    def _run_program(self):
        while not self._stopped.wait(0.001):
            self._bar.advance()

    def run_round(self, number):
        """Load, kill, restart and check.

        Every third round has no durable writes, because their commits would also flush the progress of other items.
        """
        interrupt = self._interrupt is not None and number % 2 == 1
        calm = number % 3 == 2
        writers = self._writers[-1:] if calm else self._writers
        over = threading.Event()
        urls = [server.url for server in self.servers]
        self._keeper.checks = []
        with ThreadPoolExecutor(len(self._writers) + 1) as pool:
            using = [self._choose.randrange(len(urls)) for _ in writers]
            for writer in writers:
                writer.begun.clear()
            working = [pool.submit(writer.work, urls[n], over) for writer, n in zip(writers, using, strict=True)]
            if not calm:
                working.append(pool.submit(self._keeper.work, self._choose.choice(urls), over))
            try:
                for writer in writers:
                    assert writer.begun.wait(CONVERGENCE_SECONDS * 2), "no server answers"
                time.sleep(self._choose.uniform(0.0, self._longest))
                if interrupt:
                    self._interrupt()
                    self.counts["interruptions"] += 1
                    time.sleep(1.0)
                    victim = None
                else:
                    victim = self._choose.randrange(len(urls))
                    killed_at = time.monotonic()
                    self.servers[victim].stop(signal.SIGKILL)
                    self.counts["kills"] += 1
                    time.sleep(0.0 if self._sqlite else self._choose.uniform(0.0, 0.5))
            finally:
                over.set()
            for done in working:
                done.result(30)
        for writer, n in zip(writers, using, strict=True):
            writer.killed_at = killed_at if n == victim else float("inf")
        if victim is not None:
            self._start(self.servers[victim])
        with client(self._choose.choice(self.servers).url) as http:
            self._collect_faults(lambda: [*self._check_restart(http)])
            self._count_lost_updates(http)
            for writer in self._writers:
                writer.resend(http)
                writer.killed_at = float("inf")
            self._collect_faults(
                lambda: [*self._check_restart(http), *self._check_convergence(http)], CONVERGENCE_SECONDS
            )
            self._keeper.checks = []
            with contextlib.suppress(httpx.TransportError, _UnavailableError):
                self._keeper.revoke_all(http)
        for writer in self._writers:
            # Deleted items were checked, and close() checks them again.
            writer.bars = {name: bar for name, bar in writer.bars.items() if not bar.gone or bar in writer._working}

    def _start(self, server):
        if self._choose.random() < 0.25:
            server.launch()
            time.sleep(self._choose.uniform(0.0, 0.8))
            server.stop(signal.SIGKILL)
            self.counts["kills while starting"] += 1
        started = time.monotonic()
        server.start()
        self.starts.append(time.monotonic() - started)

    def _collect_faults(self, find_faults, timeout=None):
        """Record faults; with several servers or a timeout, only those that remain at the deadline."""
        deadline = time.monotonic() + ((0.0 if self._sqlite else CONVERGENCE_SECONDS) if timeout is None else timeout)
        while (faults := find_faults()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.faults += faults[:20]

    def _check_restart(self, http):
        items, runs = list_items(http), self._history.read(http)
        for writer in self._writers:
            for bar in writer.bars.values():
                for fault in bar.find_faults(items.get(bar.id), runs.get(bar.id, []), writer.killed_at):
                    yield f"{bar.id} {fault}"
        bars = {name for writer in self._writers for name in writer.bars} | {MARKER_GROUP}
        for name in items.keys() - bars:
            yield f"{name} was never created, or returned after its delete"
        yield from self._keeper.find_faults(http)
        yield from self._viewer.faults

    def _count_lost_updates(self, http):
        items = list_items(http)
        for writer in self._writers:
            for bar in writer.bars.values():
                lost = [at for at, seq in bar.progress if bar.id in items and seq > items[bar.id]["seq"]]
                if lost:
                    self.counts["progress that had to be sent again"] += len(lost)
                    if writer.killed_at < float("inf"):
                        self.lost.append(writer.killed_at - lost[0])

    def _check_convergence(self, http):
        items = list_items(http)
        yield from self._viewer.find_faults(items)
        for server in self.servers if len(self.servers) > 1 else ():
            with client(server.url) as other:
                if summarize(list_items(other).values()) != summarize(items.values()):
                    yield f"{server.url} lists other states"
        if self._sqlite:
            yield from self._check_disk(items)

    def _check_disk(self, items):
        connection = sqlite3.connect(self.database)
        integrity = connection.execute("PRAGMA integrity_check").fetchall()
        connection.close()
        if integrity != [("ok",)]:
            yield f"the file is damaged: {integrity}"
        self.counts["integrity checks"] += 1
        copy = Path(tempfile.mkdtemp(dir=self._folder)) / "copy.db"
        create_backup(Path(self.database), copy)
        store = SqliteStore(copy)
        stored = {
            item.id: (item.run_id, item.seq, item.status) for item in store.load().items if item.id != MARKER_GROUP
        }
        store.close()
        for file in copy.parent.iterdir():
            file.unlink()
        listed = summarize(items.values())
        if stored != listed:
            names = [name for name in stored.keys() | listed.keys() if stored.get(name) != listed.get(name)]
            yield (
                f"{names[0]} is on disk {stored.get(names[0])}, and listed {listed.get(names[0])}; {len(names)} differ"
            )

    def close(self):
        """Stop everything after a last check."""
        self._stopped.set()
        self._program.join()
        self._bar.close()
        if not self._bar_client.sender.flush(60.0 + 3 * CONVERGENCE_SECONDS):  # its longest backoff is a minute
            self.faults.append("the end of the tracked program was not delivered")
        self._bar_client.close()
        self._viewer.close()
        with client(self.servers[0].url) as http:
            tracked = http.get(f"/api/v1/items/{MARKER_GROUP}").json()
            if (tracked.get("completed"), tracked.get("status")) != (self._bar.completed, "succeeded"):
                self.faults.append(f"the tracked program made {self._bar.completed}, and is listed as {tracked}")
            history = History().read(http)
            for item_id, rows in history.items():
                if len(rows) != 1 or len(self._history.runs.get(item_id, [])) != 1:
                    self.faults.append(f"{item_id} is {len(rows)} times in the history")
            for item_id in self._history.runs.keys() - history.keys():
                self.faults.append(f"{item_id} has left the history")
        self.stop()
        for each in (*self._writers, self._keeper):
            self.counts += each.counts
        self.counts += Counter({f"stream: {name}s": count for name, count in self._viewer.counts.items()})

    def stop(self):
        """Stop the servers without checks."""
        self._stopped.set()
        self._viewer.close()
        for server in self.servers:
            server.close()


def run_rounds(folder, database, rounds, *, say=lambda _: None, **options):
    """Run rounds until the first fault; return the harness with its counts and faults."""
    harness = CrashTest(folder, database, **options)
    try:
        for number in range(rounds):
            harness.run_round(number)
            say(f"round {number + 1}: {len(harness.faults)} faults, {dict(harness.counts)}")
            if harness.faults:
                break
        harness.close()
    finally:
        harness.stop()
    return harness


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--database", metavar="FILE-OR-URL", help="default: a temporary file")
    parser.add_argument("--postgres", action="store_true", help="start a PostgreSQL and use it")
    parser.add_argument("--replicas", type=int, help="number of servers (1 on SQLite, otherwise 2)")
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--interrupt", metavar="COMMAND", help="command that stops and restarts the database")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="progressbar-crash-"))
        database = options.database or str(Path(folder) / "progress.db")
        interrupt = None
        if options.postgres:
            cluster = Cluster(fsync="on")
            stack.callback(cluster.remove)
            database, interrupt = create_database(cluster), cluster.interrupt if options.interrupt else None
        elif options.interrupt:
            interrupt = partial(subprocess.run, options.interrupt, shell=True, check=True)
        harness = run_rounds(
            Path(folder),
            database,
            options.rounds,
            say=lambda text: print(text, flush=True),
            seed=options.seed,
            replicas=options.replicas or (2 if "://" in database else 1),
            writers=options.writers,
            interrupt=interrupt,
        )
    print(f"\n{options.rounds} rounds in {time.monotonic() - started:.0f} s")
    for name, count in sorted(harness.counts.items()):
        print(f"{name:36} {count:>9,}")
    print(f"{'oldest progress sent again':36} {max(harness.lost):>8.2f}s")
    if harness.starts:
        print(f"{'start after a kill, the slowest':36} {max(harness.starts):>8.2f}s")
    for fault in harness.faults:
        print(f"FAULT: {fault}")
    print("nothing was lost" if not harness.faults else f"{len(harness.faults)} faults")
    return 1 if harness.faults else 0


if __name__ == "__main__":
    sys.exit(main())
