"""Breaks servers again and again, and compares their state with the acknowledged writes after each fault.

``python tests/benchmarks/soak.py --chaos --minutes 60``

One server runs on a file, and two on a PostgreSQL primary and its standby, with the clients of ``crash.py`` and
``failover.py``: writers, streams, a tracked program, keys and shares that are revoked, and a webhook. Other viewers
connect to the streams and read nothing. The faults take turns:

* ``kill``: the server on the file is killed.
* ``disk full``: it cannot write for a second.
* ``clock jump``: the wall clocks of all servers move by up to two hours, forwards or backwards.
* ``primary``, ``stale``, ``pause``, ``lag``: the failovers of ``failover.py``.
* ``upgrade``: a server starts on a copy of the items in the schema before, on both databases.

A round fails if stored and acknowledged states differ. One server lives through all rounds, and its memory, files and
threads must not grow.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import socket
import sqlite3
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from progressbar_tracker.server.stores.postgres import schema
from progressbar_tracker.server.stores.postgres.store import MAX_READ_CONNECTIONS
from progressbar_tracker.server.stores.sqlite import files, migrations
from tests.end_to_end.crash import ADMIN_KEY, CrashTest, client, list_items, summarize
from tests.end_to_end.failover import FailoverTest
from tests.support.postgres import create_database, drop_database
from tests.support.server_process import ServerProcess
from tests.support.waiting import wait_until

FAILOVER_FAULTS = {"primary": "kill", "stale": "stale", "pause": "pause", "lag": "lag"}
FAULT_NAMES = ("kill", "disk full", "clock jump", *FAILOVER_FAULTS, "upgrade")

SLOW_VIEWER_COUNT = 3
"""Viewers of each server that read nothing."""

FULL_DISK_BYTES = 8192
"""The size that no file of a server may exceed while its disk is full."""

MAX_CLOCK_JUMP = 7200.0  # seconds

LISTENING_STATE = "0A"
"""Of a socket in ``/proc/net/tcp``."""

MAX_DATABASE_CONNECTIONS = MAX_READ_CONNECTIONS + 2
"""Of a server: the readers, the writer and the follower."""

CLOCK_VARIABLE = "CHAOS_CLOCK"

PATCHED_CLOCK = f"""
import os, time
_time, _path = time.time, os.environ.get("{CLOCK_VARIABLE}")
if _path:
    time.time = lambda: _time() + os.stat(_path).st_mtime - 1_000_000
"""
"""A ``sitecustomize`` whose clock is ahead by the seconds that the time of a file is past a million."""


class ChaosTest:
    """Servers on both kinds of databases, and their clients.

    Args:
        folder: For temporary files.
        stack: Stops everything at its end.
        seed: Of the random choices; the timing still varies.
    """

    def __init__(self, folder, stack, *, seed):
        self.counts = Counter()
        self._folder = folder
        self._choose = random.Random(seed)
        self._clock = folder / "clock"
        self._clock.touch()
        os.utime(self._clock, (1_000_000, 1_000_000))
        patched = folder / "patched"
        patched.mkdir()
        (patched / "sitecustomize.py").write_text(PATCHED_CLOCK)
        self._turn = {"kill": 0, "interrupt": 1}  # CrashTest kills in even rounds, and interrupts in odd ones
        self._number = 0
        self._interruption = self._move_clock
        self._viewers = []
        stack.callback(lambda: [viewer.close() for viewer in self._viewers])
        folders = os.pathsep.join(filter(None, (str(patched), os.environ.get("PYTHONPATH"))))
        # Until the end: a thread that reads the environment while a variable is removed raises KeyError.
        for name, text in (("PYTHONPATH", folders), (CLOCK_VARIABLE, str(self._clock))):
            stack.callback(self._set_variable, name, os.environ.get(name))
            os.environ[name] = text
        (folder / "file").mkdir()
        self._crash = CrashTest(
            folder / "file", folder / "progress.db", seed=seed, interrupt=lambda: self._interruption()
        )
        stack.callback(self._crash.stop)
        (folder / "shared").mkdir()
        self._failover = FailoverTest(folder / "shared", stack, seed=seed)

    @staticmethod
    def _set_variable(name, text):
        if text is None:
            del os.environ[name]
        else:
            os.environ[name] = text

    @property
    def faults(self):
        return [*self._crash.faults, *self._failover.faults]

    @property
    def lasting_pid(self):
        """The server that lives through all rounds."""
        return self._failover.servers[1].process.pid

    def run_round(self, fault):
        """Break something, and check all states."""
        self._open_viewers()
        self.counts[f"rounds of {fault}"] += 1
        match fault:
            case "kill":
                self._run_crash_round("kill")
            case "disk full":
                self._interruption = self._fill_disk
                self._run_crash_round("interrupt")
            case "clock jump":
                self._interruption = self._move_clock
                self._run_crash_round("interrupt")
            case "upgrade":
                self._check_upgrades()
            case _:
                self._failover.run_round(FAILOVER_FAULTS[fault])
                self._delete_items()

    def _run_crash_round(self, kind):
        self._crash.run_round(self._turn[kind])
        self._turn[kind] += 2

    def _fill_disk(self):
        pid = self._crash.servers[0].process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, hard))
        try:
            with client(self._crash.servers[0].url) as http:
                wait_until(lambda: http.get("/readyz").status_code == 503)
            time.sleep(1.0)
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        with client(self._crash.servers[0].url) as http:
            wait_until(lambda: http.get("/readyz").status_code == 200)

    def _move_clock(self):
        offset = 1_000_000 + self._choose.uniform(-MAX_CLOCK_JUMP, MAX_CLOCK_JUMP)
        os.utime(self._clock, (offset, offset))

    def _delete_items(self):
        """Empty the shared board, so that its size does not change from round to round."""
        with client(self._failover.servers[0].url) as http:
            ids = [item_id for item_id in list_items(http) if item_id != "probe"]
            for start in range(0, len(ids), 500):
                ops = [{"op": "delete", "id": item_id} for item_id in ids[start : start + 500]]
                http.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
            self.counts["deleted leftovers"] += len(ids)

    def settle(self):
        """Wait until the lasting server has no client but the viewer of ``failover.py``, so that its files compare.

        Returns:
            Its connections to databases: the pool of readers grows to its limit when several need one at once.
        """
        self._close_viewers()
        port = urlsplit(self._failover.servers[1].url).port
        wait_until(lambda: sum(own == port for own, _ in list_connections(self.lasting_pid)) <= 1, 60.0)
        databases = {urlsplit(cluster.url).port for cluster in (self._failover._primary, self._failover._standby)}
        used = sum(peer in databases for _, peer in list_connections(self.lasting_pid))
        if used > MAX_DATABASE_CONNECTIONS:
            self._failover.faults.append(f"a server has {used} connections to its database")
        return used

    def _close_viewers(self):
        for viewer in self._viewers:
            viewer.close()
        self._viewers.clear()

    def _open_viewers(self):
        """Connect viewers that read nothing, in place of those that their server has cut off."""
        self._close_viewers()
        for server in (*self._crash.servers, *self._failover.servers):
            address = urlsplit(server.url)
            for _ in range(SLOW_VIEWER_COUNT):
                viewer = socket.create_connection((address.hostname, address.port), timeout=20)
                request = f"GET /api/v1/events HTTP/1.1\r\nHost: {address.hostname}\r\nX-API-KEY: {ADMIN_KEY}\r\n\r\n"
                viewer.sendall(request.encode())
                self._viewers.append(viewer)
                self.counts["slow viewers"] += 1

    def _check_upgrades(self):
        """Compare the items of servers that start on a copy in the schema before."""
        self._number += 1
        path = self._folder / f"former-{self._number}.db"
        with contextlib.closing(sqlite3.connect(self._folder / "progress.db")) as connection:
            states = connection.execute("SELECT id, state FROM items").fetchall()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            files.migrate(connection, path, migrations.MIGRATIONS[:-1])
            connection.executemany("INSERT INTO items (id, state) VALUES (?, ?)", states)
        self._check_upgrade("the file", str(path), states)
        for file in self._folder.glob(f"{path.name}*"):
            file.unlink()

        primary = self._failover._primary
        states = self._failover._execute(primary, "SELECT id, state FROM items")
        url = create_database(primary)
        newest = schema.MIGRATIONS
        schema.MIGRATIONS = newest[:-1]
        try:
            schema.open_database(url)
        finally:
            schema.MIGRATIONS = newest
        with psycopg.connect(url, options="-c search_path=progressbar_tracker") as connection:
            has_rev = connection.execute(
                "SELECT FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'rev'"
            ).fetchall()
            names, values = ("id, state, rev", "%s, %s, 1") if has_rev else ("id, state", "%s, %s")
            connection.cursor().executemany(f"INSERT INTO items ({names}) VALUES ({values})", states)
        try:
            self._check_upgrade("PostgreSQL", url, states)
        finally:
            drop_database(primary, url)

    def _check_upgrade(self, name, database, states):
        server = ServerProcess(self._folder, PROGRESSBAR_DATABASE=database, PROGRESSBAR_MAX_ITEMS="1000000")
        try:
            with client(server.url) as http:
                shown = summarize(list_items(http).values())
        finally:
            server.close()
        stored = summarize(json.loads(state) for _, state in states)
        self.counts["upgraded items"] += len(stored)
        if shown != stored:
            self._crash.faults.append(f"{len(shown)} of {len(stored)} items of {name} are left after an upgrade")

    def read_log(self):
        """Return the last lines of the server on the file."""
        log = self._crash.servers[0]._stderr
        if log.closed:
            return "(it has ended)"
        log.seek(0)
        return "".join(log.readlines()[-40:])

    def close(self):
        """Stop the clients of the file after a last check."""
        self._crash.close()
        for lane, counts in (("file", self._crash.counts), ("shared", self._failover.summarize())):
            self.counts += Counter({f"{lane}: {name}": number for name, number in counts.items()})


def list_connections(pid):
    """Return the ports of both ends, its own first, of each open TCP connection of a process."""
    ends = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, own, peer, state, *_, inode = line.split()[:10]
        if state != LISTENING_STATE:
            ends[f"socket:[{inode}]"] = tuple(int(address.rpartition(":")[2], 16) for address in (own, peer))
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            targets.append(str(link.readlink()))
    return [ends[target] for target in targets if target in ends]


def run_chaos(folder, seconds, seed, *, sample, say):
    """Run rounds for some seconds, or until the first fault.

    Args:
        folder: For temporary files.
        seconds: The duration.
        seed: Of the random choices.
        sample: Called after each round in a quiet moment, with the seconds, the process of the server that lives
            through all rounds, and the number of its connections to databases.
        say: Called with a line about each round.

    Returns:
        The counts and the faults.
    """
    choose, faults = random.Random(seed), []
    with contextlib.ExitStack() as stack:
        chaos = ChaosTest(folder, stack, seed=seed)
        started = time.monotonic()
        rounds = 0
        while time.monotonic() < started + seconds and not chaos.faults:
            if not faults:
                faults = choose.sample(FAULT_NAMES, len(FAULT_NAMES))
            fault = faults.pop()
            begun = time.monotonic()
            try:
                chaos.run_round(fault)
            except BaseException:
                say(f"round {rounds + 1}, {fault}, failed; the server on the file wrote:\n{chaos.read_log()}")
                raise
            rounds += 1
            sample(time.monotonic() - started, chaos.lasting_pid, chaos.settle())
            say(f"round {rounds}, {fault}: {time.monotonic() - begun:.0f} s, {len(chaos.faults)} faults")
        if not chaos.faults:
            chaos.close()
        return chaos.counts, chaos.faults
