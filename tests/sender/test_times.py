"""The age and the duration of a run in each operation, on a clock of the test."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import pytest

from progressbar_tracker import ServerError, TransportError, track
from progressbar_tracker import _clock as clocks
from progressbar_tracker._http.legacy import LegacyState
from progressbar_tracker._models import MAX_AGE_SECONDS
from progressbar_tracker._sender.backoff import BACKOFF_CAP
from progressbar_tracker._sender.reconciler import HEARTBEAT_INTERVAL, SETTLE_DELAY, Reconciler
from progressbar_tracker._sender.sender import Sender
from progressbar_tracker._tracking.mirror import Mirror, Reading, start_mirror
from progressbar_tracker._tracking.run_options import RunOptions
from progressbar_tracker._tracking.share import Share
from tests.support.tracking import FakeDelivery, accept_all

START_TIME = 1000.0


class Machine:
    """A program with its sender, whose thread is this test. All operations of an attempt are in ``attempts``."""

    def __init__(self, monkeypatch):
        self.now = START_TIME
        self.attempts = []
        self.respond = accept_all
        self.sender = Sender(
            lambda: None,
            clock=self.read_clock,
            make_reconciler=lambda: Reconciler(uniform=lambda low, high: high),
        )
        self.sender._worker._start_failures = 99  # no thread starts
        self.sender._delivery = FakeDelivery(self._deliver)  # it has connected
        monkeypatch.setattr(self.sender, "add", self._add)
        monkeypatch.setattr("progressbar_tracker._tracking.run.read_clock", self.read_clock)
        monkeypatch.setattr("progressbar_tracker._runtime.get_sender_at", lambda url: self.sender)

    def read_clock(self):
        return self.now

    def _add(self, source):
        Sender.add(self.sender, source)
        self.sender._drain_inputs(self.now)  # as the thread does within milliseconds

    def _deliver(self, ops):
        self.attempts.append([dict(op) for op in ops])
        return self.respond(ops)

    def track(self, iterable=None, **options):
        return track(iterable, client=self, display=False, **options)

    def step_at(self, seconds):
        """Let the sender work at some seconds after the start."""
        self.now = START_TIME + seconds
        self.sender.step()
        return self.attempts[-1] if self.attempts else []


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def refuse_all(ops):
    raise ServerError("away", status_code=503)


def lose_all(ops):
    raise TransportError("no answer", method="POST", url="http://away/")


def refuse_each(ops):
    return [{"id": op["id"], "status": 503} for op in ops]


def get_times(ops):
    return [(op["op"], op.get("age_seconds"), op.get("duration_seconds")) for op in ops]


def test_put_has_the_age_of_the_run_when_it_is_sent(machine):
    bar = machine.track(id="a")
    bar.advance()
    assert get_times(machine.step_at(3.25)) == [("put", 3.25, None)]


@pytest.mark.parametrize("fail", [refuse_all, lose_all, refuse_each])
def test_each_attempt_has_its_own_age(machine, fail):
    bar = machine.track(id="a")
    bar.advance()
    machine.respond = fail
    instants = [1.0, 1.0 + BACKOFF_CAP, 1.0 + 2 * BACKOFF_CAP]
    for seconds in instants:
        machine.step_at(seconds)
    machine.respond = accept_all
    machine.step_at(instants[-1] + BACKOFF_CAP)
    ages = [op["age_seconds"] for ops in machine.attempts for op in ops]
    assert ages == [*instants, instants[-1] + BACKOFF_CAP]


def test_heartbeat_has_an_age(machine):
    bar = machine.track(id="a")
    bar.advance()
    machine.step_at(1.0)
    assert get_times(machine.step_at(2.0 + HEARTBEAT_INTERVAL)) == [("patch", 2.0 + HEARTBEAT_INTERVAL, None)]


def test_batch_is_measured_at_one_instant(machine):
    bars = [machine.track(id=f"i{number}") for number in range(3)]
    for number, bar in enumerate(bars):
        machine.now = START_TIME + number
        bar.advance()
    assert [op["age_seconds"] for op in machine.step_at(10.0)] == [10.0, 9.0, 8.0]


def test_duration_ends_when_the_program_ends_the_run(machine):
    with machine.track(id="a", keep=True) as bar:
        bar.advance()
        machine.step_at(1.0)
        machine.now = START_TIME + 5.0
    assert get_times(machine.step_at(100.0)) == [("patch", 100.0, 5.0)]


def test_run_that_ended_in_an_outage_is_put_with_its_duration(machine):
    machine.respond = lose_all
    with machine.track(id="a", keep=True) as bar:
        bar.advance()
        machine.step_at(1.0)
        machine.now = START_TIME + 5.0
    machine.respond = accept_all
    assert get_times(machine.step_at(200.0)) == [("put", 200.0, 5.0)]


def test_delete_right_after_the_end_has_no_times(machine):
    with machine.track(id="a") as bar:
        bar.advance()
        machine.step_at(1.0)
        machine.now = START_TIME + 2.0
    assert get_times(machine.step_at(2.5)) == [("patch", 2.5, 2.0), ("delete", None, None)]


def test_tentative_end_is_the_instant_at_which_the_loop_was_left(machine):
    for _ in machine.track(range(9), id="a"):
        machine.step_at(1.0)
        machine.now = START_TIME + 4.0
        break
    machine.step_at(4.0)
    assert get_times(machine.step_at(6.0 + SETTLE_DELAY)) == [
        ("patch", 6.0 + SETTLE_DELAY, 4.0),
        ("delete", None, None),
    ]


def test_final_failure_keeps_the_instant_of_the_tentative_end(machine):
    tracker = machine.track(range(9), id="a")
    for _ in tracker:
        machine.now = START_TIME + 4.0
        break
    machine.now = START_TIME + 9.0
    run = tracker._run
    run.finalize({run.caller_code: (ValueError("bad row"), 0)})
    assert get_times(machine.step_at(10.0)) == [("put", 10.0, 4.0)]


def test_run_that_the_exit_ends_lasts_until_the_exit(machine):
    bar = machine.track(id="a", keep=True)
    bar.advance()
    machine.now = START_TIME + 7.0
    bar._run.finalize({})
    assert get_times(machine.step_at(8.0)) == [("put", 8.0, 7.0)]


def test_superseded_run_keeps_its_own_times(machine):
    tracker = machine.track(range(1), id="a", keep=True)
    for _ in tracker:
        machine.step_at(1.0)
        machine.now = START_TIME + 2.0
    machine.now = START_TIME + 3.0
    for _ in tracker:
        assert get_times(machine.step_at(4.0)) == [("patch", 4.0, 2.0), ("put", 1.0, None)]


def test_part_has_an_age_and_no_duration(machine):
    machine.now = START_TIME + 3.0
    with Share("http://away/", "a", "r1").track(part="rows") as part:
        part.advance()
        assert get_times(machine.step_at(5.0)) == [("patch", 2.0, None)]
        part.advance()
        machine.now = START_TIME + 6.0
        machine.sender.flush_if_online = lambda: True
    assert get_times(machine.step_at(7.0)) == [("patch", 4.0, None)]


def test_elided_run_makes_no_request(machine):
    list(machine.track(range(3), id="a"))
    assert machine.step_at(1.0) == []


def fail_once(ops):
    raise TransportError("the server is away")


@pytest.mark.parametrize("id", ["a", None])
@pytest.mark.parametrize("is_loop_first_seen_after_its_end", [False, True])
def test_run_within_an_outage_is_sent_after_it(machine, monkeypatch, id, is_loop_first_seen_after_its_end):
    """It is no short run, although it ends before its first send."""
    machine.track(id="other").advance()
    machine.respond = fail_once
    machine.step_at(1.0)
    if is_loop_first_seen_after_its_end:  # the sender's thread waits for a response meanwhile
        monkeypatch.setattr(machine.sender, "add", lambda source: Sender.add(machine.sender, source))
    bar = machine.track(range(3), id=id)
    for step in bar:
        machine.now = START_TIME + 1.0 + step
    machine.respond = accept_all
    sent = [op for op in machine.step_at(30.0) if op["id"] == bar.id]
    assert [op["op"] for op in sent] == ["put", "delete"]
    assert (sent[0]["status"], sent[0]["completed"], sent[0]["duration_seconds"]) == ("succeeded", 3, 2.0)


def test_failed_run_within_an_outage_precedes_the_next(machine):
    machine.track(id="other").advance()
    machine.respond = fail_once
    machine.step_at(1.0)
    bar = machine.track(total=3, id="a")
    with contextlib.suppress(ValueError), bar:
        raise ValueError("bad row")
    machine.now = START_TIME + 3.0
    with machine.track(total=3, id="a") as bar:
        bar.advance()
        machine.respond = accept_all
        sent = [op for op in machine.step_at(30.0) if op["id"] == "a"]
    assert [(op["op"], op.get("status")) for op in sent] == [("put", "failed"), ("put", None)]


def test_times_are_rounded_to_milliseconds(machine):
    bar = machine.track(id="a")
    bar.advance()
    assert get_times(machine.step_at(2.00049)) == [("put", 2.0, None)]


def test_clock_that_was_set_back_gives_the_age_zero(machine):
    bar = machine.track(id="a")
    bar.advance()
    bar._run.started_at += 100.0
    assert get_times(machine.step_at(1.0)) == [("put", 0.0, None)]


def test_age_never_exceeds_the_bound_of_the_server(machine):
    bar = machine.track(id="a")
    bar.advance()
    assert get_times(machine.step_at(2 * MAX_AGE_SECONDS)) == [("put", MAX_AGE_SECONDS, None)]


def test_mirrored_bar_ends_when_it_says_so(machine):
    reading = Reading(1, 2, "bar", "", "it")
    run = Mirror("a", RunOptions(keep=True), machine.sender)
    start_mirror(run, SimpleNamespace(f_code=None), lambda: reading, age_seconds=10.0)
    machine.step_at(1.0)
    reading = reading._replace(has_ended=True, seconds_since_end=3.0)
    machine.step_at(20.0)
    assert get_times(machine.step_at(20.0 + 2 * SETTLE_DELAY)) == [("patch", 31.0, 27.0)]


def test_mirrored_bar_in_a_block_ends_with_the_block(machine):
    reading = Reading(1, 2, "bar", "", "it", has_ended=True, seconds_since_end=3.0)
    run = Mirror("a", RunOptions(keep=True), machine.sender)
    start_mirror(run, SimpleNamespace(f_code=None), lambda: reading)
    run.in_block = True
    machine.step_at(5.0)
    run.end_block()
    assert get_times(machine.step_at(6.0)) == [("patch", 6.0, 5.0)]


def test_legacy_item_has_no_times():
    op = {"op": "put", "id": "a", "completed": 1, "total": 2, "age_seconds": 1.0, "duration_seconds": 1.0}
    assert set(LegacyState(op, 0.0, 0).to_item(1.0)) == {"id", "title", "description", "value", "weight"}


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the system has no such clock")
def test_clock_counts_suspended_time():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clocks.read_clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_clock_of_a_system_without_boot_time_is_monotonic(monkeypatch):
    monkeypatch.delattr(clocks.time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(clocks.sys, "platform", "win32")
    assert clocks.select_clock() is time.monotonic


def test_clock_that_the_kernel_refuses_is_replaced(monkeypatch):
    def refuse(number):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(clocks.time, "clock_gettime", refuse)
    assert clocks.select_clock() is time.monotonic
