"""The reconciler against a model of the server, with any order of work, faults and time; no sockets or threads."""

from __future__ import annotations

import itertools

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from progressbar_tracker._sender.backoff import MAX_BATCH_SIZE
from progressbar_tracker._sender.reconciler import Reconciler
from progressbar_tracker._sender.schedule import MIN_COMPACTION_SIZE, NO_BUCKET
from tests.support.fault_server import ProtocolModel
from tests.support.tracking import FakeSource

ITEM_IDS = st.sampled_from(["a", "b", "c"])


class ReconcilerMachine(RuleBasedStateMachine):
    """Programs start, advance and end runs; requests and responses get lost; items vanish and are taken over."""

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.reconciler = Reconciler(uniform=lambda low, high: high)
        self.server = ProtocolModel()
        self.sources = []
        self.seqs = {}  # by run: the latest one that was sent
        self.deleted = set()  # runs whose delete the server has confirmed
        self.newest_sent = {}  # by id: the newest run that the server has had

    @property
    def running_sources(self):
        return [source for source in self.sources if source.now.status == "running"]

    # Actions of a program

    @rule(item_id=ITEM_IDS, keep=st.booleans(), delay=st.sampled_from([0.0, 0.5]))
    def start(self, item_id, keep, delay):
        source = FakeSource(item_id, f"r{len(self.sources)}", keep=keep, first_send_delay=delay)
        self.sources.append(source)
        self.reconciler.add(source, self.now)

    @precondition(lambda self: self.running_sources)
    @rule(data=st.data(), steps=st.integers(1, 5))
    def advance(self, data, steps):
        source = data.draw(st.sampled_from(self.running_sources))
        source.at(source.now.completed + steps)

    @precondition(lambda self: self.running_sources)
    @rule(data=st.data(), status=st.sampled_from(["succeeded", "stopped", "failed"]))
    def end(self, data, status):
        source = data.draw(st.sampled_from(self.running_sources))
        source.is_tentative = status == "stopped"
        source.at(status=status, error="no" if status == "failed" else None)
        self.reconciler.mark_ended(source, self.now)

    @rule()
    def flush(self):
        self.reconciler.make_due(self.now)

    # Events outside the program

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 6.0, 20.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def delete_items(self):
        self.server.items.clear()

    @rule()
    def restart(self):
        self.server.restart()

    @precondition(lambda self: self.server.items)
    @rule(data=st.data())
    def take_over(self, data):
        self.server.items[data.draw(st.sampled_from(sorted(self.server.items)))]["run_id"] = "another's"

    @rule(postponed=st.sets(st.integers(0, 5)))
    def send(self, postponed):
        """The server responds, and postpones some of the operations."""
        steps = self.plan_steps()
        results = [
            {"id": step.op["id"], "status": 503} if number in postponed else self.server.apply_op(step.op)
            for number, step in enumerate(steps)
        ]
        self.apply(steps, results)

    @rule(arrives=st.booleans(), wait=st.sampled_from([None, 0.0, 5.0]), slower=st.booleans())
    def lose(self, arrives, wait, slower):
        """The request is lost, or its response."""
        steps = self.plan_steps()
        if steps:
            if arrives:
                for step in steps:
                    self.server.apply_op(step.op)
            self.reconciler.back_off(steps, self.now, "lost", retry_after=wait, slow_down=slower)

    @rule()
    def reject_as_too_large(self):
        steps = self.plan_steps()
        if len({step.record for step in steps}) > 1:
            self.reconciler.halve_batch(steps, "too large")
        else:
            self.apply(steps, [self.server.apply_op(step.op) for step in steps])

    def plan_steps(self):
        if self.now < self.reconciler.backoff.not_before:
            return []
        steps = self.reconciler.plan(self.now)
        self.check_order(steps)
        return steps

    def apply(self, steps, results):
        if steps:
            self.reconciler.apply(steps, results, self.now, boot_id=self.server.boot_id)
            for step, result in zip(steps, results, strict=True):
                if step.verb == "delete" and result["status"] in (200, 404) and step.record.is_forgotten:
                    self.deleted.add(step.op["run_id"])
                if step.verb == "put" and result["status"] in (200, 201):
                    self.newest_sent[step.op["id"]] = int(step.op["run_id"][1:])

    def check_order(self, steps):
        assert len(steps) <= MAX_BATCH_SIZE
        deleted_here = set()
        for step in steps:
            run = step.op["run_id"]
            assert run not in self.deleted, "a run is sent after its delete"
            assert run not in deleted_here, "a run is sent after its delete, in the same request"
            if step.verb == "delete":
                deleted_here.add(run)
                continue
            assert step.op["seq"] > self.seqs.get(run, 0), "seq does not grow"
            self.seqs[run] = step.op["seq"]
            if step.verb == "put":
                number, item_id = int(run[1:]), step.op["id"]
                assert number >= self.newest_sent.get(item_id, 0), "an older run replaces a newer one"

    # Invariants

    @invariant()
    def check_sources_tracked(self):
        records = self.reconciler._list_records()
        assert len(set(records)) == len(records)
        for record in records:
            assert record.source.record is record
            assert record.bucket != NO_BUCKET, "a run with work left is not scheduled"

    @invariant()
    def check_memory(self):
        schedule = self.reconciler._schedule
        assert schedule._size == sum(map(len, schedule._entries.values()))
        assert schedule._size <= max(MIN_COMPACTION_SIZE, 2 * len(self.reconciler)) + 1
        assert len(self.reconciler) <= len(self.sources)

    def teardown(self):
        """The faults stop: every run that is not dropped arrives unchanged."""
        known = {source for source in self.sources if source.record is not None}
        for _ in range(300):
            due = self.reconciler.get_wake_at()
            if due is None:
                break
            self.now = max(self.now + 0.05, due if due > 0 else 0.0)
            steps = self.plan_steps()
            self.apply(steps, [self.server.apply_op(step.op) for step in steps])
            if not steps and self.now > 1e4:
                break
        live = {source for source in known if source.record is not None}
        assert all(source.now.status == "running" for source in live), "an end was not sent"
        for source in live:
            item = self.server.items[source.id]
            assert (item["run_id"], item["completed"]) == (source.run_id, source.now.completed)
        sent = {op["run_id"] for op in self.server.ops}
        assert self.reconciler.stats.elided <= len({source.run_id for source in self.sources} - sent)


ReconcilerMachine.TestCase.settings = hypothesis.settings(max_examples=80, stateful_step_count=30, deadline=None)
TestReconcilerModel = ReconcilerMachine.TestCase


def test_late_end_does_not_replace_a_newer_run():
    reconciler, server = Reconciler(uniform=lambda low, high: high), ProtocolModel()
    first, second = FakeSource(run_id="r1", keep=True), FakeSource(run_id="r2", keep=True)
    reconciler.add(first, 0.0)
    reconciler.apply(reconciler.plan(0.0), [{"id": "a", "status": 503}], 0.0)  # postponed for seconds
    reconciler.mark_ended(first.at(10, "succeeded"), 1.0)
    reconciler.add(second, 1.0)
    for now in (1.0, 2.0, 20.0):
        steps = reconciler.plan(now)
        reconciler.apply(steps, [server.apply_op(step.op) for step in steps], now)
    assert server.items["a"]["run_id"] == "r2"


def test_older_run_is_sent_first_in_any_schedule_order():
    reconciler = Reconciler(uniform=lambda low, high: high)
    first, second = FakeSource(run_id="r1", keep=True), FakeSource(run_id="r2", keep=True)
    reconciler.add(first, 0.0)
    reconciler.back_off(reconciler.plan(0.0), 0.0, "away")
    reconciler.mark_ended(first.at(10, "succeeded"), 1.0)
    reconciler.add(second, 1.0)
    steps = reconciler.plan(1.0)
    reconciler.reschedule(reversed(steps), 1.0)
    assert [step.op["run_id"] for step in reconciler.plan(1.0)] == ["r1", "r2"]


def test_delete_after_a_postponed_create_is_sent_again():
    reconciler, server = Reconciler(uniform=lambda low, high: high), ProtocolModel()
    source = FakeSource()
    reconciler.add(source, 0.0)
    reconciler.back_off(reconciler.plan(0.0), 0.0, "away")
    reconciler.mark_ended(source.at(10, "succeeded"), 1.0)
    steps = reconciler.plan(1.0)
    assert [step.verb for step in steps] == ["put", "delete"]
    reconciler.apply(steps, [{"id": "a", "status": 503}, server.apply_op(steps[1].op)], 1.0)
    steps = reconciler.plan(20.0)
    reconciler.apply(steps, [server.apply_op(step.op) for step in steps], 20.0)
    assert [(run["id"], run["status"]) for run in server.history] == [("a", "succeeded")]


def test_unserializable_run_is_dropped_with_a_warning():
    class BrokenSource(FakeSource):
        def sample(self, before=None):
            raise TypeError("no number")

    reconciler = Reconciler()
    reconciler.add(BrokenSource("broken"), 0.0)
    reconciler.add(FakeSource("sound"), 0.0)
    assert [step.op["id"] for step in reconciler.plan(0.0)] == ["sound"]
    assert "no number" in reconciler.warnings[0][1]
    assert len(reconciler) == 1


def test_flush_at_every_step_of_a_slow_bar_is_bounded():
    reconciler = Reconciler()
    source = FakeSource()
    source.interval = 3600.0
    reconciler.add(source, 0.0)
    for number in range(20_000):
        reconciler.make_due(float(number))
        steps = reconciler.plan(float(number))
        reconciler.apply(steps, [{"id": "a", "status": 200}] * len(steps), float(number))
    assert len(reconciler._schedule._entries) <= MIN_COMPACTION_SIZE + 1


def test_heartbeat_timeout_exceeds_a_long_interval():
    reconciler = Reconciler()
    source = FakeSource()
    source.interval = 600.0
    reconciler.add(source, 0.0)
    (step,) = reconciler.plan(0.0)
    assert step.op["heartbeat_timeout"] > 2 * 600


def test_429_doubles_intervals_that_recover_by_the_minute():
    reconciler, source = Reconciler(uniform=lambda low, high: 0.0), FakeSource()
    reconciler.add(source, 0.0)
    reconciler.back_off(reconciler.plan(0.0), 0.0, "429", retry_after=0.0, slow_down=True)
    now, sent = 0.0, []
    for number in range(60 * 32 * 8):
        now = number / 32
        steps = reconciler.plan(now)
        if steps:
            sent.append(now)
            reconciler.apply(steps, [{"id": "a", "status": 200}], now)
        source.at(number)
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert gaps[0] == 2.0
    assert gaps[-1] == 1.0
    assert gaps == sorted(gaps, reverse=True)
