"""The background sender against a misbehaving server, which the program must not notice."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker._sender.reconciler import MAX_RECREATIONS, Reconciler
from progressbar_tracker._sender.sender import Sender, _FlushRequest
from tests.support.connections import find_free_port
from tests.support.fault_server import HALF_RESPONSE, HANG, LOST_RESPONSE, RESET, WRITE_KEY, make_response
from tests.support.tracking import FakeDelivery, FakeSource, check_loop_and_close, fail_all, run_loop
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "fault",
    [HANG, RESET, HALF_RESPONSE, LOST_RESPONSE, make_response(500), make_response(503, Retry_After="2"),
    make_response(429, Retry_After="5"), make_response(302),
     make_response(200, b"<html>hotel</html>", Content_Type="text/html")],
    ids=["hang", "reset", "half", "lost", "500", "503", "429", "302", "portal"],
)  # fmt: skip
def test_misbehaving_server_neither_breaks_nor_slows_the_loop(faults, pb, fault):
    faults.default_fault = fault
    check_loop_and_close(pb)


def test_refused_connection_neither_breaks_nor_slows_the_loop():
    check_loop_and_close(ProgressBar(f"http://127.0.0.1:{find_free_port()}", WRITE_KEY, auto_detect=False))


def test_sender_that_takes_a_run_from_its_queue_is_busy(monkeypatch):
    """Else a flush, and the end of the program, would not wait for that run."""
    sender = Sender(lambda: None)
    add, busy = sender._reconciler.add, []

    def observe(source, now):
        busy.append(sender.is_busy)
        add(source, now)

    monkeypatch.setattr(sender._reconciler, "add", observe)
    sender._added_sources.append(FakeSource("a"))
    sender._drain_inputs(0.0)
    assert busy == [True]
    sender._reconciler.forget_all()
    assert not sender.is_busy


def test_last_state_is_sent_when_the_server_is_back(faults, pb):
    faults.script.extend([make_response(500), RESET, HALF_RESPONSE])
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(10)
    faults.wait_for(lambda: faults.items.get("job", {}).get("status") == "succeeded")
    assert faults.items["job"]["completed"] == 10


GATEWAY_ERROR = make_response(502, b"<html><h1>502 Bad Gateway</h1></html>", Content_Type="text/html")


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "refused"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "removed"])
def test_each_end_is_sent_until_a_restarting_server_takes_it(faults, pb, keep, applied):
    """A proxy answers for servers that restart one after the other, sometimes after they have applied the request."""
    lost = LOST_RESPONSE if applied else GATEWAY_ERROR
    faults.script.extend(
        [GATEWAY_ERROR, None, lost, make_response(503), None, GATEWAY_ERROR, lost, None, GATEWAY_ERROR]
    )
    ids = [f"loop {n}" for n in range(6)]
    for item_id in ids:
        with pb.track(total=10, id=item_id, keep=keep) as bar:
            bar.advance(10)
            faults.wait_for(lambda item_id=item_id: item_id in faults.items)
    if keep:
        faults.wait_for(lambda: {item["status"] for item in faults.items.values()} == {"succeeded"})
        assert sorted(faults.items) == ids
    else:
        faults.wait_for(lambda: {run["id"] for run in faults.history} == set(ids) and not faults.items)
        assert {run["status"] for run in faults.history} == {"succeeded"}


def test_each_retry_of_a_request_has_its_own_age(faults, pb):
    faults.script.extend([make_response(503), make_response(503)])
    started_at = time.monotonic()
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance()
        arrivals = []
        for count in (1, 2, 3):
            faults.wait_for(lambda count=count: len(faults.requests) >= count)
            arrivals.append(time.monotonic() - started_at)
    ages = [request.document["ops"][0]["age_seconds"] for request in faults.requests[:3]]
    assert ages == sorted(set(ages))
    assert all(age <= arrival < age + 5 for age, arrival in zip(ages, arrivals, strict=True))  # a busy machine is late


def test_create_with_a_lost_response_makes_one_item(faults, pb):
    faults.script.append(LOST_RESPONSE)
    with pb.track(total=10, id="job") as bar:
        faults.wait_for(lambda: "job" in faults.items)
        bar.advance(10)
    faults.wait_for(lambda: faults.history)
    assert [(run["id"], run["status"]) for run in faults.history] == [("job", "succeeded")]
    assert len({op["run_id"] for op in faults.ops}) == 1


def test_wiped_server_gets_the_item_again(faults, pb):
    with pb.track(total=10, id="job", interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        faults.items.clear()
        bar.advance(3)
        faults.wait_for(lambda: faults.items.get("job", {}).get("completed") == 3)


def test_server_that_restarts_often_gets_the_item_each_time(faults, pb, caplog, monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.reconciler.RECREATION_JITTER", 0.01)
    with pb.track(total=10, id="job", interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        for number in range(1, MAX_RECREATIONS + 3):
            faults.restart()
            bar.advance()
            faults.wait_for(lambda number=number: faults.items.get("job", {}).get("completed") == number)
    assert pb.sender.flush(60)
    assert caplog.records == []


def test_item_taken_over_is_left_to_the_other_run(faults, pb, caplog):
    with pb.track(total=10, id="job", interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        faults.items["job"]["run_id"] = "another"
        bar.advance(3)
        faults.wait_for(lambda: faults.ops[-1]["op"] == "patch")
    assert pb.sender.flush(60)
    assert faults.items["job"]["run_id"] == "another"
    assert [record.levelname for record in caplog.records if "job" in record.message] == ["WARNING"]


def test_one_connection_serves_many_updates(faults, pb):
    with pb.track(total=10, id="job", interval=0.05) as bar:
        for number in range(5):
            bar.advance()
            faults.wait_for(lambda number=number: faults.items.get("job", {}).get("completed") == number + 1)
    assert pb.sender.flush(60)
    assert faults.connections == 1


def test_many_bars_are_sent_in_one_request(faults, pb):
    bars = [pb.track(total=1, id=f"job{number}", keep=True) for number in range(200)]
    for bar in bars:
        bar.advance()
        bar.close()
    assert pb.sender.flush(60)
    assert len(faults.items) == 200
    assert len(faults.requests) <= 2


def test_no_request_of_the_sender_is_logged_by_httpx(faults, pb, caplog):
    caplog.set_level(logging.DEBUG)
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    assert pb.sender.flush(60)
    assert [record for record in caplog.records if record.name.startswith("httpx")] == []


def test_idle_thread_ends_and_starts_again(faults, pb, monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.worker.IDLE_TIMEOUT", 0.1)
    for number in range(2):
        with pb.track(total=1, id=f"job{number}", keep=True) as bar:
            bar.advance()
        assert pb.sender.flush(60)
        thread = next(thread for thread in threading.enumerate() if thread.name == "progressbar-sender")
        thread.join(60)
        assert not thread.is_alive()
    assert len(faults.items) == 2


def test_loop_without_threads_runs_with_a_warning(faults, pb, monkeypatch, caplog):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    _, items = run_loop(pb)
    assert items == list(range(10))
    assert any("no thread can be started" in record.message for record in caplog.records)


def test_flush_without_a_thread_sends_in_the_calling_thread(faults, pb, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("progressbar_tracker._sender.worker.Worker.start", lambda self, **_: False)
        with pb.track(total=1, id="job", keep=True) as bar:
            bar.advance()
        assert pb.sender.flush(60)
    assert faults.items["job"]["status"] == "succeeded"


def test_flush_returns_false_when_the_server_is_away():
    pb = ProgressBar(f"http://127.0.0.1:{find_free_port()}", WRITE_KEY, auto_detect=False)
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    wait_until(lambda: pb.sender.stats().failed)
    assert pb.sender.flush(0.1) is False
    assert "Connection refused" in pb.sender.stats().last_error
    pb.close()


def test_second_close_is_harmless(faults, pb):
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    assert pb.sender.close(5)
    assert pb.sender.close(5)
    assert faults.items["job"]["status"] == "succeeded"


def test_hour_of_outage_logs_one_line(caplog):
    """The test calls the steps with its own clock, so no time passes."""
    now = 0.0
    sender = Sender(
        lambda: FakeDelivery(fail_all),
        clock=lambda: now,
        make_reconciler=lambda: Reconciler(uniform=lambda low, high: high),
    )
    sender._worker._start_failures = 99  # no thread starts
    source = FakeSource()
    sender.add(source)
    while now < 3600:
        delay = sender.step()
        source.at(int(now))
        now += max(delay or 0.0, 0.1)
    assert len(caplog.records) == 1
    assert sender.stats().requests < 80
    assert len(sender._reconciler) == 1


def test_recovery_is_logged_once(faults, pb, caplog):
    caplog.set_level(logging.INFO, "progressbar_tracker")
    faults.script.append(make_response(500))
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    assert pb.sender.flush(60)
    levels = [record.levelname for record in caplog.records if record.name == "progressbar_tracker"]
    assert levels == ["WARNING", "INFO"]


def test_flush_covers_a_run_that_was_added_just_before(faults, pb):
    """The run and the flush are added while the sender drains its input, after it has counted the runs."""
    sender, source = pb.sender, FakeSource(keep=True)
    flush = _FlushRequest(None, is_final=False)

    class Interleaved(deque):
        def __len__(self):
            counted = super().__len__()
            if not sender._flushes and flush.requested_at is None and not super().__contains__(source):
                self.append(source)
                sender._flushes.append(flush)
            return counted

    sender._added_sources = Interleaved()
    sender._drain_inputs(0.0)
    assert flush.requested_at is None
    sender._drain_inputs(1.0)
    assert source.record is not None
    assert flush.requested_at == 1.0
