"""When the output tail of a run is sent: as a whole, rarely, and with the end."""

from __future__ import annotations

import pytest

from progressbar_tracker import track
from progressbar_tracker._output_tail import OutputTail
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.tail_budget import MAX_PLANNED_TAIL_BYTES
from progressbar_tracker.testing import recording
from progressbar_tracker.tqdm import tqdm
from tests.support.tracking import FakeSource

TAIL_REFUSAL = {"id": "a", "status": 422, "problem": {"field": "tail", "detail": "too long"}}


def make_source(*lines, item_id="a"):
    source = FakeSource(item_id, keep=True)
    source.tail = OutputTail()
    for line in lines:
        source.tail.add_line(line)
    return source


def send(reconciler, now, *results):
    """Send what is due, and return the operations. Each result stands for one of them; by default they succeed."""
    steps = reconciler.plan(now)
    answers = results or [{"id": step.op["id"], "status": 200} for step in steps]
    reconciler.apply(steps, answers, now)
    return [step.op for step in steps]


def start(*sources):
    reconciler = Reconciler(uniform=lambda low, high: low)
    for source in sources:
        reconciler.add(source, 0.0)
    return reconciler


def test_tail_is_sent_with_the_item_and_only_once():
    source = make_source("one", "two")
    reconciler = start(source)
    (op,) = send(reconciler, 0.0)
    assert (op["op"], op["tail"]) == ("put", "one\ntwo")
    assert send(reconciler, 5.0) == []
    (op,) = send(reconciler, 20.0)  # a heartbeat
    assert "tail" not in op


def test_new_lines_are_sent_every_two_seconds_at_most():
    source = make_source("one")
    reconciler = start(source)
    send(reconciler, 0.0)
    source.tail.add_line("two")
    assert send(reconciler, 1.0) == []
    (op,) = send(reconciler, 2.0)
    assert (op["op"], op["tail"]) == ("patch", "one\ntwo")


def test_progress_is_sent_without_the_tail_meanwhile():
    source = make_source("one")
    reconciler = start(source)
    send(reconciler, 0.0)
    source.tail.add_line("two")
    source.at(5)
    (op,) = send(reconciler, 1.0)
    assert (op["completed"], "tail" in op) == (5, False)


def test_last_lines_are_sent_with_the_end():
    source = make_source("one")
    reconciler = start(source)
    send(reconciler, 0.0)
    source.tail.add_line("two")
    source.at(status="failed", error="no")
    reconciler.mark_ended(source, 0.5)
    (op,) = send(reconciler, 0.5)
    assert (op["status"], op["tail"]) == ("failed", "one\ntwo")


def test_tail_is_sent_again_after_a_failure_and_a_new_creation():
    source = make_source("one")
    reconciler = start(source)
    reconciler.back_off(reconciler.plan(0.0), 0.0, "away")
    (op,) = send(reconciler, 30.0)
    assert op["tail"] == "one"
    source.at(1)
    send(reconciler, 40.0, {"id": "a", "status": 404})
    (op,) = send(reconciler, 41.0)
    assert (op["op"], op["tail"]) == ("put", "one")


def test_refused_tail_does_not_end_the_reporting_of_its_run():
    source = make_source("one")
    reconciler = start(source)
    send(reconciler, 0.0, TAIL_REFUSAL)
    (op,) = send(reconciler, 1.0)
    assert (op["op"], "tail" in op) == ("put", False)
    assert reconciler.warnings == [("refused-tail", "the output of item 'a' was refused (422): too long")]


def test_request_refused_for_its_size_is_sent_without_the_tail():
    source = make_source("one")
    reconciler = start(source)
    reconciler.halve_batch(reconciler.plan(0.0), "too large")
    (op,) = send(reconciler, 1.0)
    assert (op["op"], "tail" in op) == ("put", False)


def test_batch_has_few_long_tails():
    lines = ["x" * 1900] * 33
    sources = [make_source(*lines, item_id=str(n)) for n in range(20)]
    reconciler = start(*sources)
    sent = []
    while ops := send(reconciler, 0.0):
        assert sum(len(op["tail"]) for op in ops) < MAX_PLANNED_TAIL_BYTES + 65536
        sent += [op["id"] for op in ops]
    assert sorted(sent, key=int) == [str(n) for n in range(20)]


def test_server_of_part_1_gets_no_tail():
    reconciler = start(make_source("one"))
    reconciler.unbatched = True
    (op,) = send(reconciler, 0.0)
    assert "tail" not in op


def read_tail(recorded):
    (source,) = recorded.sender.sources
    return None if source.tail is None else source.tail.read()


def test_log_of_a_bar_is_the_tail_of_its_run():
    with recording() as recorded, track(total=1, id="a") as bar:
        bar.log("row 7: \x1b[31mno date\x1b[0m\nDB_PASSWORD=hunter2")
        bar.log(ValueError("bad row"))
    assert read_tail(recorded) == "row 7: no date\nDB_PASSWORD=***\nbad row"
    assert not recorded.sender.sources[0].is_skippable


def test_log_of_the_drop_in_is_the_tail_of_its_run():
    with recording() as recorded:
        for number in (bar := tqdm(range(3), disable=None)):
            bar.log(f"item {number}")
    assert read_tail(recorded) == "item 0\nitem 1\nitem 2"


def test_loop_without_log_has_no_tail():
    with recording() as recorded:
        for _ in track(range(3), id="a"):
            pass
    assert read_tail(recorded) is None


def test_log_after_the_end_is_ignored():
    with recording() as recorded:
        with track(total=1, id="a") as bar:
            bar.log("in time")
        bar.log("late")
    assert read_tail(recorded) == "in time"


def test_log_without_a_server_does_nothing(monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_DISABLED", "1")
    with track(total=1, id="a") as bar:
        bar.log("text")


def test_log_masks_values_and_the_pattern_of_the_environment(monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "abc-def-ghi")
    monkeypatch.setenv("PROGRESSBAR_MASK", r"\d{4}-\d{4}")
    with recording() as recorded, track(total=1, id="a") as bar:
        bar.log("card 1234-5678, abc-def-ghi")
    assert read_tail(recorded) == "card ***, ***"


def test_invalid_pattern_sends_nothing_instead_of_unmasked_text(monkeypatch, caplog):
    monkeypatch.setenv("PROGRESSBAR_MASK", "(")
    with recording() as recorded, track(total=1, id="a") as bar:
        bar.log("text")
    assert read_tail(recorded) is None
    assert "The lines of log() are not sent: PROGRESSBAR_MASK is invalid" in caplog.text


class RaisingText:
    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [None, 5, RaisingText(), "\ud800", "a" * 10**6, "\n" * 10**6, b"\xff"])
def test_log_takes_any_object(value):
    with recording() as recorded, track(total=1, id="a") as bar:
        bar.log(value)
        bar.log("end")
    assert read_tail(recorded).split("\n")[-1] == "end"
