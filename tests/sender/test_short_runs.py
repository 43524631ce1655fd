"""The count of inner runs that were too short to be sent: by whom it is sent, and when."""

from __future__ import annotations

import pytest

from progressbar_tracker._sender.reconciler import Reconciler
from tests.support.tracking import FakeSource


def apply(reconciler, steps, now, status=200):
    reconciler.apply(steps, [{"id": step.op["id"], "status": status} for step in steps], now)


def list_counts(steps):
    return [step.op.get("short_runs") for step in steps]


@pytest.fixture
def reconciler():
    return Reconciler(uniform=lambda low, high: high)


@pytest.fixture
def outer(reconciler):
    """A run whose item the server has."""
    source = FakeSource("outer")
    reconciler.add(source, 0.0)
    apply(reconciler, reconciler.plan(0.0), 0.0)
    return source


def run_inner(reconciler, outer, number, *, status="succeeded", is_seen=False):
    """Begin and end an inner run, which the sender has seen while it was running or not."""
    inner = FakeSource(f"inner-{number}", first_send_delay=1.0)
    inner.parent = outer
    if not is_seen:
        inner.at(1, status)
    reconciler.add(inner, 0.0)
    if is_seen:
        reconciler.mark_ended(inner.at(1, status), 0.1)


@pytest.mark.parametrize("is_seen", [True, False])
def test_short_inner_runs_are_counted_by_their_parent(reconciler, outer, is_seen):
    for number in range(3):
        run_inner(reconciler, outer, number, is_seen=is_seen)
    reconciler.plan(0.5)
    (step,) = reconciler.plan(1.0)
    assert (step.op["op"], step.op["id"], step.op["short_runs"]) == ("patch", "outer", 3)
    assert reconciler.stats.elided == 3


def test_count_is_sent_once(reconciler, outer):
    run_inner(reconciler, outer, 1)
    apply(reconciler, reconciler.plan(1.0), 1.0)
    assert reconciler.plan(2.0) == []
    outer.at(5)
    assert list_counts(reconciler.plan(3.0)) == [None]


def test_count_is_absolute(reconciler, outer):
    run_inner(reconciler, outer, 1)
    apply(reconciler, reconciler.plan(1.0), 1.0)
    run_inner(reconciler, outer, 2)
    assert list_counts(reconciler.plan(2.0)) == [2]


def test_count_after_a_lost_response_is_sent_again(reconciler, outer):
    run_inner(reconciler, outer, 1)
    reconciler.back_off(reconciler.plan(1.0), 1.0, "no answer")
    assert list_counts(reconciler.plan(5.0)) == [1]


def test_count_is_sent_with_a_new_create(reconciler, outer):
    run_inner(reconciler, outer, 1)
    apply(reconciler, reconciler.plan(1.0), 1.0)
    outer.at(5)
    apply(reconciler, reconciler.plan(2.0), 2.0, status=404)
    (step,) = reconciler.plan(10.0)
    assert (step.op["op"], step.op["short_runs"]) == ("put", 1)


def test_count_is_sent_with_the_end(reconciler, outer):
    run_inner(reconciler, outer, 1, is_seen=True)
    reconciler.mark_ended(outer.at(10, "succeeded"), 0.2)
    end, delete = reconciler.plan(0.2)
    assert (end.op["status"], end.op["short_runs"], delete.op["op"]) == ("succeeded", 1, "delete")


def test_inner_run_that_is_sent_is_not_counted(reconciler, outer):
    run_inner(reconciler, outer, 1, status="failed", is_seen=True)
    assert [(step.op["id"], step.op.get("short_runs")) for step in reconciler.plan(0.2)] == [("inner-1", None)]
    assert list_counts(reconciler.plan(1.0)) == []


def test_server_of_part_1_gets_no_count(reconciler, outer):
    reconciler.unbatched = True
    run_inner(reconciler, outer, 1)
    assert reconciler.plan(1.0) == []


def test_short_run_without_a_tracked_parent_is_not_counted(reconciler):
    run_inner(reconciler, None, 1)
    run_inner(reconciler, FakeSource("never added"), 2)
    assert (reconciler.stats.elided, reconciler.plan(5.0)) == (2, [])


def test_ended_parents_are_forgotten(reconciler, outer):
    run_inner(reconciler, outer, 1)
    reconciler.mark_ended(outer.at(10, "succeeded"), 0.2)
    apply(reconciler, reconciler.plan(0.2), 0.2)
    assert len(reconciler) == 0
    assert vars(reconciler._short_runs) == {"_counts": {}, "_acknowledged": {}}


def test_short_run_without_an_id_is_counted_without_making_one(reconciler, outer):
    class AnonymousSource(FakeSource):
        is_anonymous = True

        @property
        def id(self):
            raise AssertionError("an id was generated")

        @id.setter
        def id(self, value):
            pass

    inner = AnonymousSource().at(1, "succeeded")
    inner.parent = outer
    reconciler.add(inner, 0.0)
    (step,) = reconciler.plan(1.0)
    assert (step.op["short_runs"], reconciler.stats.elided) == (1, 1)
