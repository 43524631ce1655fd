"""The recorded duration of a run, although its server was away, restarted or slow, and its program suspended.

Program and server share a clock that a test sets forward: minutes pass at once, and the threads are real.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from typing import NamedTuple

import pytest

from progressbar_tracker import _runtime, track
from progressbar_tracker._http.transport import HttpTransport
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.sender import Sender
from tests.support.connections import find_free_port, list_history, list_items, open_client
from tests.support.programs import PROGRAM_TIMEOUT
from tests.support.server import start_server
from tests.support.waiting import wait_until

ROUNDING_SECONDS = 0.01
SET_TOLERANCE_SECONDS = 15.0
"""For clocks that a test sets forward by minutes: requests may take seconds on a busy machine."""
RUN_SECONDS = 600.0
OUTAGE_SECONDS = 200.0


class SharedClock:
    """The machine's monotonic clock, set forward by the test; on the server as the wall clock."""

    def __init__(self):
        self.offset = 0.0

    def __call__(self):
        return time.monotonic() + self.offset

    def read_wall(self):
        return time.time() + self.offset

    def advance(self, seconds):
        self.offset += seconds


class Site:
    """A server that the test stops and starts on one port, and the sender of a program."""

    def __init__(self, folder, monkeypatch):
        self.clock = SharedClock()
        self.seconds = []  # of each run
        self._database, self._port = folder / "progress.db", find_free_port()
        self.server = None
        self.start()
        self.key = self.server.create_key("write", "program")
        monkeypatch.setattr("progressbar_tracker._tracking.run.read_clock", self.clock)
        self.sender = Sender(self._connect, clock=self.clock, make_reconciler=lambda: Reconciler(uniform=pick_low))
        monkeypatch.setattr(_runtime, "get_sender_at", lambda url: self.sender)

    def _connect(self):
        return _runtime.HttpDelivery(HttpTransport(self.server.url, self.key, timeout=5.0), owns_transport=True)

    def start(self):
        self.server = start_server(self._database, clock=self.clock.read_wall, port=self._port)

    def stop(self):
        self.server.close()

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        self.sender.close(0.1)
        self.stop()

    @contextlib.contextmanager
    def track(self, **options):
        """Track a block, and measure its seconds: the clock never stands still."""
        with track(client=self, id="job", total=9, interval=0.05, display=False, **options) as bar:
            started_at = self.clock()
            yield bar
            self.seconds.append(self.clock() - started_at)

    def wait_for_item(self, completed=1):
        with open_client(self.server.url, self.key) as http:
            wait_until(lambda: list_items(http).get("job", {}).get("completed") == completed)

    def wait_for_failure(self):
        failed = self.sender.stats().failed
        wait_until(lambda: self.sender.stats().failed > failed)

    def wait_for_end(self):
        """Return the seconds of the run in the history."""
        with open_client(self.server.url, self.key) as http:
            wait_until(lambda: list_history(http))
            (run,) = list_history(http)
        return measure_seconds(run)


def pick_low(low, high):
    """Wait the shortest of each random delay."""
    return low


def measure_seconds(run):
    started_at, ended_at = (datetime.fromisoformat(run[name]) for name in ("started_at", "ended_at"))
    return (ended_at - started_at).total_seconds()


def about_set(seconds):
    return pytest.approx(seconds, abs=SET_TOLERANCE_SECONDS)


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch)
    yield site
    site.close()


def advance_in_steps(site, bar, seconds, *, online):
    """Let the program work for some seconds, and the sender notice it."""
    site.clock.advance(seconds)
    bar.advance()
    if online:
        assert site.sender.flush(60)
    else:
        site.wait_for_failure()


@pytest.mark.parametrize("online", [(True, True, True), (False, True, True), (True, False, True), (True, True, False),
                                    (False, False, True), (True, False, False), (False, False, False)])  # fmt: skip
def test_duration_is_correct_after_an_outage(site, online):
    """The server is away in some thirds of the run, and back after its end."""
    is_online = True
    with site.track() as bar:
        for third in online:
            if third is not is_online:
                (site.start if third else site.stop)()
                is_online = third
            advance_in_steps(site, bar, RUN_SECONDS / 3, online=third)
    site.clock.advance(OUTAGE_SECONDS)
    if not is_online:
        site.start()
    assert site.wait_for_end() == about_set(site.seconds[0])
    assert site.seconds[0] >= RUN_SECONDS


def test_run_ends_when_the_program_ends_it(site):
    """The record has the end of the run, and not its late delivery."""
    with site.track() as bar:
        advance_in_steps(site, bar, 50.0, online=True)
        site.stop()
        site.clock.advance(50.0)
        ended_at = site.clock.read_wall()
    site.clock.advance(600.0)
    site.start()
    assert site.wait_for_end() == about_set(site.seconds[0])
    with open_client(site.server.url, site.key) as http:
        (run,) = list_history(http)
    assert datetime.fromisoformat(run["ended_at"]).timestamp() == about_set(ended_at)


def test_restart_of_the_server_keeps_the_start(site):
    with site.track() as bar:
        advance_in_steps(site, bar, 300.0, online=True)
        site.restart()
        advance_in_steps(site, bar, 300.0, online=True)
    assert site.wait_for_end() == about_set(site.seconds[0])


def test_server_that_lost_the_item_gets_the_start_again(site):
    with site.track() as bar:
        started_at = site.clock()
        advance_in_steps(site, bar, 300.0, online=True)
        with open_client(site.server.url, site.server.create_key("admin", "admin")) as http:
            http.delete("/api/v1/items/job").raise_for_status()
        deleted_after = site.clock() - started_at
        advance_in_steps(site, bar, 300.0, online=True)
        site.wait_for_item(2)
    with open_client(site.server.url, site.key) as http:
        wait_until(lambda: len(list_history(http)) == 2)
        assert [measure_seconds(run) for run in list_history(http)] == [
            about_set(site.seconds[0]),
            about_set(deleted_after),
        ]


def test_failed_and_kept_runs_have_a_duration(site):
    with site.track(keep=True) as bar:
        advance_in_steps(site, bar, 300.0, online=True)
        site.stop()
        site.clock.advance(50.0)
        seconds = site.clock() - bar._run.started_at
        bar.fail("no disk")
    site.clock.advance(OUTAGE_SECONDS)
    site.start()
    with open_client(site.server.url, site.key) as http:
        wait_until(lambda: list_items(http)["job"]["status"] == "failed")
        assert measure_seconds(list_items(http)["job"]) == about_set(seconds)


def test_late_part_does_not_move_the_start(site):
    with site.track(keep=True) as bar:
        handle = bar.share()
        assert site.sender.flush(60)
        site.clock.advance(300.0)
        with handle.track(part="rows", display=False) as part:
            part.advance(9)
            site.clock.advance(50.0)
        site.clock.advance(50.0)
    assert site.sender.flush(60)
    with open_client(site.server.url, site.key) as http:
        item = list_items(http)["job"]
    assert (item["completed"], measure_seconds(item)) == (9, about_set(site.seconds[0]))
    assert site.seconds[0] >= 400.0


def test_next_run_of_an_item_has_its_own_start(site):
    for seconds in (200.0, 50.0):
        with site.track() as bar:
            advance_in_steps(site, bar, seconds, online=True)
    assert site.sender.flush(60)
    with open_client(site.server.url, site.key) as http:
        wait_until(lambda: len(list_history(http)) == 2)
        assert [measure_seconds(run) for run in list_history(http)] == [
            about_set(site.seconds[1]),
            about_set(site.seconds[0]),
        ]


# Real time. Each program prints the seconds of its run, as measured from inside and from outside of it.

LOOP_PROGRAM = """
import time
from progressbar_tracker import track, flush
started_at = time.monotonic()
begun_at = None
for _ in track(range(10), id="job", display=False, interval=0.05):
    begun_at = begun_at or time.monotonic()
    print("step", flush=True)
    time.sleep(0.2)
    least = time.monotonic() - begun_at
print(least, time.monotonic() - started_at, flush=True)
assert flush(60)
"""


class Bounds(NamedTuple):
    """The least and the most seconds of a run."""

    least: float
    most: float

    def check(self, seconds):
        assert self.least - ROUNDING_SECONDS <= seconds <= self.most + ROUNDING_SECONDS


def start_loop(url, key, code=LOOP_PROGRAM):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": key},
        stdout=subprocess.PIPE,
        text=True,
    )


def read_bounds(program):
    """Return what the program has measured, for each run."""
    out, _ = program.communicate(timeout=PROGRAM_TIMEOUT)
    assert program.returncode == 0
    return [Bounds(*map(float, line.split())) for line in out.splitlines() if line != "step"]


def get_run_seconds(server, item_id="job"):
    (run,) = [run for run in server.history() if run["id"] == item_id]
    return measure_seconds(run)


def test_server_that_starts_late_records_the_whole_run(tmp_path):
    port = find_free_port()
    with start_server(tmp_path / "progress.db", port=port) as server:
        url, key = server.url, server.create_key("write", "program")
    program = start_loop(url, key)
    for _ in range(6):
        program.stdout.readline()
    with start_server(tmp_path / "progress.db", port=port) as server:
        (bounds,) = read_bounds(program)
        with open_client(server.url, key) as http:
            (run,) = list_history(http)
    bounds.check(measure_seconds(run))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the system cannot stop a process")
def test_suspended_program_has_a_run_that_includes_the_pause(server):
    program = start_loop(server.url, server.keys["write"])
    for _ in range(5):
        program.stdout.readline()
    program.send_signal(signal.SIGSTOP)
    threading.Event().wait(2.0)  # the pause is the subject of the test
    program.send_signal(signal.SIGCONT)
    (bounds,) = read_bounds(program)
    assert bounds.least > 3.5
    bounds.check(get_run_seconds(server))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_child_measures_only_its_own_run(server):
    code = """
import os, time
from progressbar_tracker import track, flush
started_at = time.monotonic()
with track(total=1, id="parent", display=False, interval=0.05) as bar:
    begun_at = time.monotonic()
    bar.advance(0)
    time.sleep(1.5)
    child = os.fork()
    if not child:
        started_at = time.monotonic()
        begun_at = None
        for _ in track(range(3), id="child", display=False, interval=0.05):
            begun_at = begun_at or time.monotonic()
            time.sleep(0.1)
            least = time.monotonic() - begun_at
        print(least, time.monotonic() - started_at, flush=True)
        flush(60)
        os._exit(0)
    os.waitpid(child, 0)
    least = time.monotonic() - begun_at
print(least, time.monotonic() - started_at, flush=True)
assert flush(60)
"""
    child_bounds, parent_bounds = read_bounds(start_loop(server.url, server.keys["write"], code))
    child_bounds.check(get_run_seconds(server, "child"))
    parent_bounds.check(get_run_seconds(server, "parent"))
