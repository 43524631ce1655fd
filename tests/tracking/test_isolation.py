"""A broken network, thread or value affects neither the loop nor the end of the program."""

from __future__ import annotations

import ctypes
import json
import logging
import socket
import threading

import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker._http.exchanges import ServerProtocol
from progressbar_tracker._sender.reconciler import MAX_ITEMS, Reconciler
from progressbar_tracker._sender.sender import Sender
from progressbar_tracker._sender.worker import MAX_START_FAILURES, Worker
from tests.http.test_exchanges import make_reply
from tests.support.fault_server import HALF_RESPONSE, SILENT, WRITE_KEY, make_response
from tests.support.tracking import FakeDelivery, FakeSource, accept_all, check_loop_and_close, fail_all, run_loop
from tests.support.waiting import wait_until


@pytest.fixture
def unresponsive_address():
    """A port whose backlog accepts connections without a server behind it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def hanging_dns(monkeypatch):
    """Name servers that respond only after the test."""
    test_ended, original = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if host == "server.example":
            assert threading.current_thread().name == "progressbar-sender"
            test_ended.wait(60)
            raise socket.gaierror("no answer")
        return original(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield "http://server.example"
    test_ended.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unresponsive_server_delays_neither_loop_nor_exit(unresponsive_address, scheme):
    check_loop_and_close(ProgressBar(f"{scheme}://{unresponsive_address}", WRITE_KEY, auto_detect=False))


def test_hanging_name_servers_delay_only_the_senders_thread(hanging_dns):
    check_loop_and_close(ProgressBar(hanging_dns, WRITE_KEY, auto_detect=False))


def test_tls_to_a_plain_port_is_a_counted_failure(faults):
    pb = ProgressBar(faults.url.replace("http:", "https:"), WRITE_KEY, auto_detect=False)
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    wait_until(lambda: pb.sender.stats().failed)
    assert isinstance(pb.sender.stats().last_error, str)
    assert pb.sender.flush(0.1) is False
    pb.close()


@pytest.mark.parametrize("fault", [SILENT, HALF_RESPONSE], ids=["headers and then silence", "half a body"])
def test_truncated_response_delays_neither_loop_nor_exit(faults, pb, fault):
    faults.default_fault = fault
    check_loop_and_close(pb)


def test_bar_does_no_io_in_the_programs_thread(pb, monkeypatch):
    program, calls, original_gethostname = threading.current_thread(), [], socket.gethostname

    class WatchedSocket(socket.socket):
        def __init__(self, *args, **kwargs):
            if threading.current_thread() is program:
                calls.append("socket")
            super().__init__(*args, **kwargs)

    def gethostname():
        if threading.current_thread() is program:
            calls.append("gethostname")
        return original_gethostname()

    monkeypatch.setattr(socket, "socket", WatchedSocket)
    monkeypatch.setattr(socket, "gethostname", gethostname)
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
        bar.description = "half"
    assert calls == []
    assert pb.sender.flush(60)


class UnprintableValue:
    def __str__(self):
        raise ValueError("never")

    def __float__(self):
        raise RuntimeError("never")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("total", UnprintableValue(), id="hostile total"),
        pytest.param("description", UnprintableValue(), id="hostile description"),
        pytest.param("title", UnprintableValue(), id="hostile title"),
        pytest.param("weight", UnprintableValue(), id="hostile weight"),
        pytest.param("total", 1j, id="complex total"),
        pytest.param("total", float("nan"), id="nan total"),
        pytest.param("total", 10**400, id="huge total"),
        pytest.param("description", b"\xff", id="bytes"),
        pytest.param("weight", 2**80, id="huge weight"),
        pytest.param("title", "\ud800", id="surrogate"),
    ],
)
def test_value_that_json_lacks_is_sent_as_a_valid_one(faults, pb, field, value):
    with pb.track(total=3, id="job", keep=True) as bar:
        setattr(bar, field, value)
        bar.advance(2)
    assert pb.sender.flush(60)
    assert (faults.items["job"]["status"], faults.items["job"]["completed"]) == ("succeeded", 2)


# The thread


def kill_thread(thread):
    """Inject an exception into a thread, as debuggers and stop buttons do."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def test_killed_senders_thread_continues_with_its_runs(faults, pb, monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.worker.STEP_RETRY_DELAY", 0.01)
    with pb.track(total=10, id="job", keep=True, interval=0.05) as bar:
        faults.wait_for(lambda: "job" in faults.items)
        kill_thread(pb.sender._worker.thread)
        bar.advance(7)
        faults.wait_for(lambda: faults.items["job"]["completed"] == 7)
    assert pb.sender.flush(60)


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError, RecursionError, SystemExit, GeneratorExit])
def test_step_that_raises_is_always_called_again(kind, caplog):
    """The worker waits longer each time, and logs the first failure and then one a minute."""
    tries, recovered = [], threading.Event()

    def step():
        tries.append(1)
        if len(tries) <= 20:
            raise kind
        recovered.set()

    worker = Worker("test", step, lambda: True)
    assert worker.start()
    while not recovered.is_set():
        worker.wake()
        recovered.wait(0.01)
    worker.stop(5)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(tries) >= 21
    assert errors[0].exc_info[0] is kind
    assert len(errors) == 1 + 20 - 6  # from the seventh on the pause is a minute, which the test cuts short


def test_thread_whose_log_handler_raises_continues(monkeypatch):
    class RaisingHandler(logging.Handler):
        def emit(self, record):
            raise OSError(28, "No space left on device")

    tries, recovered = [], threading.Event()

    def step():
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError
        recovered.set()

    monkeypatch.setattr("progressbar_tracker._sender.worker.STEP_RETRY_DELAY", 0.01)
    logger, handler = logging.getLogger("progressbar_tracker"), RaisingHandler()
    logger.addHandler(handler)
    try:
        worker = Worker("test", step, lambda: True)
        assert worker.start()
        assert recovered.wait(60)
        worker.stop(5)
    finally:
        logger.removeHandler(handler)


def test_thread_stopped_after_its_last_step_ends_at_once(monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.worker.IDLE_POLL_DELAY", 30.0)
    monkeypatch.setattr("progressbar_tracker._sender.worker.IDLE_TIMEOUT", 30.0)
    stepped = threading.Event()
    worker = Worker("test", stepped.set, lambda: False)
    assert worker.start()
    thread = worker.thread
    assert stepped.wait(60)
    worker.stop(20)
    assert not thread.is_alive()


def test_delivery_with_an_unexpected_error_loses_no_record(faults, pb, monkeypatch, caplog):
    monkeypatch.setattr("progressbar_tracker._sender.worker.STEP_RETRY_DELAY", 0.01)
    monkeypatch.setattr("progressbar_tracker._sender.backoff.BACKOFF_BASE", 0.01)
    deliver, failures = ServerProtocol.deliver, []

    def fail_twice(self, ops):
        if len(failures) < 2:
            failures.append(1)
            raise ZeroDivisionError("a bug")
        return deliver(self, ops)

    monkeypatch.setattr(ServerProtocol, "deliver", fail_twice)
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(7)
    faults.wait_for(lambda: faults.items.get("job", {}).get("status") == "succeeded")
    assert faults.items["job"]["completed"] == 7
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ZeroDivisionError('a bug')" in caplog.text


def test_flush_and_close_of_a_broken_sender_return_false(pb, monkeypatch, caplog):
    monkeypatch.setattr(Sender, "step", lambda self: 1 / 0)
    pb.sender._worker._step = pb.sender.step
    pb.sender._worker._start_failures = MAX_START_FAILURES
    with pb.track(total=10, id="job") as bar:
        bar.advance(7)
    assert pb.sender.flush(0.2) is False
    assert pb.sender.close(0.2) is False
    assert "division by zero" in caplog.text


def test_missing_thread_is_logged_once_for_many_bars(pb, monkeypatch, caplog):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for number in range(5):
            assert list(pb.track(range(3), id=f"job{number}")) == [0, 1, 2]
    assert len([record for record in caplog.records if "no thread can be started" in record.message]) == 1


def test_input_of_a_hanging_thread_is_bounded(monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.sender.MAX_ITEMS", 100)
    sender = Sender(lambda: None)
    monkeypatch.setattr(sender._worker, "start", lambda **_: False)
    for number in range(1000):
        source = FakeSource(f"i{number}")
        sender.add(source)
        sender.ended_sources.append(source)
    assert (len(sender._added_sources), len(sender.ended_sources)) == (100, 100)
    assert sender.stats().dropped == 900


def test_flushes_that_timed_out_are_forgotten():
    sender = Sender(lambda: FakeDelivery(fail_all))
    sender.add(FakeSource())
    for _ in range(20):
        assert sender.flush(0.001) is False
    sender.step()
    assert len(sender._pending_flushes) + len(sender._flushes) <= 1
    sender.close(0.01)


def test_part_waits_for_a_sender_that_still_imports(monkeypatch):
    monkeypatch.setattr("progressbar_tracker._sender.sender.EXIT_TIMEOUT", 0.01)
    timed_out, sent = threading.Event(), []

    def respond(ops):
        sent.extend(ops)
        return accept_all(ops)

    def connect():
        assert timed_out.wait(60)  # a busy machine may import for longer than EXIT_TIMEOUT
        return FakeDelivery(respond)

    sender = Sender(connect)
    flush = sender.flush

    def note_end(timeout):
        reached = flush(timeout)
        timed_out.set()
        return reached

    monkeypatch.setattr(sender, "flush", note_end)
    sender.add(FakeSource(keep=True).at(3, "succeeded"))
    assert sender.flush_if_online() is True
    assert sent[0]["completed"] == 3
    sender.close(1.0)


def test_on_error_that_raises_is_ignored():
    errors = []

    def on_error(error):
        errors.append(str(error))
        raise ValueError("no")

    sender = Sender(lambda: FakeDelivery(fail_all), on_error=on_error, clock=lambda: 1.0)
    sender._worker._start_failures = MAX_START_FAILURES
    sender.add(FakeSource())
    sender.step()
    assert errors == ["no answer"]


@pytest.mark.parametrize(
    "results",
    [
        [{"id": "a", "status": 422, "problem": "text"}],
        [{"id": "a", "status": "200"}],
        [{"id": "a"}],
        [None],
        [],
        [{"id": "a", "status": 200}] * 2,
    ],
)
def test_batch_response_outside_the_protocol_is_a_failure(faults, pb, caplog, results):
    faults.default_fault = make_response(200, json.dumps({"results": results}).encode())
    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(7)
    assert pb.sender.flush(0.4) is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not from a progress server" in caplog.text


def test_busy_1_0_0_server_gets_no_further_request():
    protocol = ServerProtocol()
    protocol._legacy_states = {}
    ops = [{"op": "put", "id": f"i{number}", "run_id": "r", "seq": 1, "title": "t"} for number in range(5)]
    exchange = protocol.deliver(ops)
    requests = [next(exchange)]
    requests.append(exchange.send(make_reply(status=201)))
    with pytest.raises(StopIteration) as stop:
        exchange.send(make_reply(status=429))
    assert len(requests) == 2
    assert [result["status"] for result in stop.value.value] == [201, 429, 429, 429, 429]


def test_normal_operation_logs_nothing_above_debug(faults, pb, caplog):
    caplog.set_level(logging.INFO, "progressbar_tracker")
    run_loop(pb, keep=True)
    assert pb.sender.flush(60)
    assert caplog.records == []


def test_runs_beyond_the_limit_are_not_tracked(faults):
    sender = Sender(lambda: None, make_reconciler=lambda: Reconciler(max_items=3))
    for number in range(10):
        sender._reconciler.add(FakeSource(f"i{number}"), 0.0)
    assert (len(sender._reconciler), sender.stats().dropped) == (3, 7)
    assert MAX_ITEMS == 100_000
