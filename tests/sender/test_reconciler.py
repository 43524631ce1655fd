"""The reconciler alone, with instants from the test."""

from __future__ import annotations

import itertools
import random

import pytest

from progressbar_tracker._sender.backoff import BACKOFF_CAP, MAX_BATCH_SIZE
from progressbar_tracker._sender.reconciler import (
    HEARTBEAT_INTERVAL,
    MAX_RECREATIONS,
    PART_RETRY_TIMEOUT,
    RECREATION_DELAY,
    RECREATION_JITTER,
    SETTLE_DELAY,
    Reconciler,
)
from progressbar_tracker._sender.snapshot import StaticFields
from tests.support.tracking import FakeSource


def apply_statuses(reconciler, steps, now, *statuses):
    statuses = statuses or (200,) * len(steps)
    results = [{"id": step.op["id"], "status": status} for step, status in zip(steps, statuses, strict=True)]
    return apply_results(reconciler, steps, results, now)


def apply_results(reconciler, steps, results, now, **options):
    """Apply results and return the texts of the warnings."""
    reconciler.apply(steps, results, now, **options)
    return pop_warnings(reconciler)


def pop_warnings(reconciler):
    texts = [text for _, text in reconciler.warnings]
    reconciler.warnings.clear()
    return texts


def op_names(steps):
    return [step.op["op"] for step in steps]


@pytest.fixture
def reconciler():
    """A reconciler that waits the longest of each random delay."""
    return Reconciler(uniform=lambda low, high: high)


@pytest.fixture
def existing_source(reconciler):
    """A source whose item the server has since the instant 0."""
    source = FakeSource()
    reconciler.add(source, 0.0)
    apply_statuses(reconciler, reconciler.plan(0.0), 0.0)
    return source


def test_new_run_is_put_with_all_fields(reconciler):
    reconciler.add(FakeSource().at(3), 0.0)
    (step,) = reconciler.plan(0.0)
    assert step.op["op"] == "put"
    assert (step.op["completed"], step.op["total"], step.op["run_id"], step.op["seq"]) == (3, 10, "r1", 1)


def test_a_run_is_not_sent_before_its_delay(reconciler):
    reconciler.add(FakeSource(first_send_delay=0.5), 0.0)
    assert reconciler.plan(0.4) == []
    assert reconciler.get_wake_at() == 0.5
    assert op_names(reconciler.plan(0.5)) == ["put"]


def test_run_that_ends_before_its_first_send_is_elided(reconciler):
    source = FakeSource(first_send_delay=0.5)
    reconciler.add(source, 0.0)
    reconciler.mark_ended(source.at(10, "succeeded"), 0.125)
    assert reconciler.plan(0.6) == []
    assert len(reconciler) == 0
    assert reconciler.stats.elided == 1


@pytest.mark.parametrize(("status", "keep"), [("failed", False), ("succeeded", True), ("stopped", True)])
def test_short_run_that_stays_listed_is_sent(reconciler, status, keep):
    source = FakeSource(keep=keep, first_send_delay=0.5)
    reconciler.add(source, 0.0)
    reconciler.mark_ended(source.at(10, status), 0.125)
    steps = reconciler.plan(0.125)
    assert op_names(steps) == ["put"]
    apply_statuses(reconciler, steps, 0.25)
    assert len(reconciler) == 0


def test_only_changed_fields_are_patched_once_an_interval(reconciler, existing_source):
    existing_source.at(4)
    assert reconciler.plan(0.5) == []
    (step,) = reconciler.plan(1.0)
    assert {name: value for name, value in step.op.items() if name not in ("id", "run_id")} == {
        "op": "patch",
        "seq": 2,
        "completed": 4,
    }


def test_run_without_a_count_sends_it_when_it_is_known(reconciler):
    source = FakeSource()
    source.now = source.now._replace(total=None, is_counted=False)
    reconciler.add(source, 0.0)
    (step,) = steps = reconciler.plan(0.0)
    assert step.op["completed"] is None
    apply_statuses(reconciler, steps, 0.0)
    source.now = source.now._replace(total=45.6, is_counted=True, unit="MB")
    (step,) = reconciler.plan(1.0)
    assert (step.op["completed"], step.op["total"], step.op["unit"]) == (0, 45.6, "MB")


def test_unchanged_run_sends_only_heartbeats(reconciler, existing_source):
    assert reconciler.plan(HEARTBEAT_INTERVAL - 1) == []
    (step,) = reconciler.plan(HEARTBEAT_INTERVAL)
    assert set(step.op) == {"op", "id", "run_id", "seq"}


@pytest.mark.parametrize(
    ("stuck_after", "interval"), [(8.0, 2.0), (0.5, 1.0), (3600.0, HEARTBEAT_INTERVAL), (None, HEARTBEAT_INTERVAL)]
)
def test_heartbeats_follow_a_short_stuck_after(reconciler, stuck_after, interval):
    source = FakeSource()
    source.get_static_fields = lambda: StaticFields("it", None, None, stuck_after=stuck_after)
    reconciler.add(source, 0.0)
    apply_statuses(reconciler, reconciler.plan(0.0), 0.0)
    assert reconciler.plan(interval - 0.5) == []
    assert op_names(reconciler.plan(interval + 1.0)) == ["patch"]


def test_end_state_and_delete_are_first_in_one_request(reconciler, existing_source):
    other = FakeSource("b")
    reconciler.add(other, 0.0)
    reconciler.mark_ended(existing_source.at(10, "succeeded"), 0.125)
    steps = reconciler.plan(0.125)
    assert [(step.op["id"], step.op["op"]) for step in steps] == [("a", "patch"), ("a", "delete"), ("b", "put")]
    apply_statuses(reconciler, steps, 0.25)
    assert len(reconciler) == 1


def test_a_failed_run_stays_listed(reconciler, existing_source):
    reconciler.mark_ended(existing_source.at(4, "failed", "ValueError: no"), 0.125)
    steps = reconciler.plan(0.125)
    assert op_names(steps) == ["patch"]
    assert steps[0].op["error"] == "ValueError: no"


def test_tentative_end_is_delayed(reconciler, existing_source):
    existing_source.is_tentative = True
    reconciler.mark_ended(existing_source.at(4, "stopped"), 0.125)
    assert reconciler.plan(0.125) == []
    assert op_names(reconciler.plan(0.125 + SETTLE_DELAY)) == ["patch", "delete"]


def test_lost_response_leads_to_a_new_sample(reconciler, existing_source):
    reconciler.back_off(reconciler.plan(1.0) or _plan_update(reconciler, existing_source, 4, 1.0), 1.0, "reset")
    existing_source.at(7)
    (step,) = reconciler.plan(reconciler.backoff.not_before)
    assert step.op["completed"] == 7
    assert step.op["seq"] > 2


def _plan_update(reconciler, source, completed, now):
    source.at(completed)
    reconciler.make_due(now)
    return reconciler.plan(now)


def test_backoff_doubles_to_its_cap_until_a_success(reconciler, existing_source):
    waits, now = [], 1.0
    for number in range(12):
        steps = _plan_update(reconciler, existing_source, number, now)
        reconciler.back_off(steps, now, "away")
        waits.append(reconciler.backoff.not_before - now)
        now = reconciler.backoff.not_before
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == waits[-1] == BACKOFF_CAP
    apply_statuses(reconciler, _plan_update(reconciler, existing_source, 99, now), now)
    assert reconciler.backoff.not_before == 0.0


def test_retry_after_is_the_minimum_delay(reconciler, existing_source):
    reconciler.back_off(_plan_update(reconciler, existing_source, 1, 1.0), 1.0, "429", retry_after=30.0)
    assert reconciler.backoff.not_before == 31.0


def test_vanished_item_is_created_again_with_all_fields(reconciler, existing_source):
    apply_statuses(reconciler, _plan_update(reconciler, existing_source, 4, 1.0), 1.0, 404)
    assert reconciler.plan(1.0) == []  # other clients have lost their items at the same instant
    (step,) = reconciler.plan(1.0 + RECREATION_JITTER)
    assert (step.op["op"], step.op["completed"], step.op["title"]) == ("put", 4, "title")


def test_end_of_a_vanished_item_creates_it_again_at_once(reconciler, existing_source):
    reconciler.mark_ended(existing_source.at(4, "failed", "ValueError: no"), 1.0)
    apply_statuses(reconciler, reconciler.plan(1.0), 1.0, 404)
    assert op_names(reconciler.plan(1.0)) == ["put"]


def test_items_lost_by_any_restart_are_created_again(reconciler, existing_source):
    now = 1.0
    for life in range(5 * MAX_RECREATIONS):
        steps = _plan_update(reconciler, existing_source, life + 1, now)
        warnings = apply_results(reconciler, steps, [{"id": "a", "status": 404}], now, boot_id=f"b{life}")
        steps = reconciler.plan(now + RECREATION_JITTER)
        assert (warnings, op_names(steps)) == ([], ["put"])
        apply_statuses(reconciler, steps, now + RECREATION_JITTER)
        now += 1.0


def test_many_lost_items_are_created_again_in_random_batches():
    chances = iter(number / 1000 for number in range(1000))
    reconciler = Reconciler(uniform=lambda low, high: low + (high - low) * next(chances))
    sources = [FakeSource(f"i{number}") for number in range(300)]
    for source in sources:
        reconciler.add(source, 0.0)
    apply_statuses(reconciler, reconciler.plan(0.0), 0.0)
    for source in sources:
        source.at(1)
    steps = reconciler.plan(1.0)
    apply_results(reconciler, steps, [{"id": step.op["id"], "status": 404} for step in steps], 1.0, boot_id="b2")
    sizes = []
    for tick in range(1, 6):
        steps = reconciler.plan(1.0 + tick / 10)
        sizes.append(len(steps))
        apply_statuses(reconciler, steps, 1.0 + tick / 10)
    assert sum(sizes) == 300
    assert sum(size > 0 for size in sizes) >= 2
    assert max(sizes) > 1


def test_repeatedly_deleted_item_stays_deleted(reconciler, existing_source):
    created, warnings, now = [], [], 1.0
    while existing_source.record is not None:
        steps = _plan_update(reconciler, existing_source, existing_source.now.completed + 1, now)
        assert op_names(steps) == ["patch"]
        warnings += apply_results(reconciler, steps, [{"id": "a", "status": 404}], now, boot_id="b")
        while existing_source.record is not None and not (steps := reconciler.plan(now)):
            now += 0.25
        if existing_source.record is not None:
            created.append(now)
            apply_statuses(reconciler, steps, now)
    assert len(created) == MAX_RECREATIONS
    assert all(after - before >= RECREATION_DELAY for before, after in itertools.pairwise(created))
    assert len(warnings) == 1


def test_global_random_generator_is_not_used():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    reconciler = Reconciler()
    reconciler.add(FakeSource(), 0.0)
    reconciler.back_off(reconciler.plan(0.0), 0.0, "away")
    assert random.random() == expected


def test_item_that_keeps_vanishing_is_dropped_with_one_warning(reconciler, existing_source):
    now = 1.0
    warnings = []
    for number in range(MAX_RECREATIONS + 1):
        warnings += apply_statuses(reconciler, _plan_update(reconciler, existing_source, number + 1, now), now, 404)
        steps = reconciler.plan(now + RECREATION_DELAY)
        apply_statuses(reconciler, steps, now + RECREATION_DELAY)
        now += 2 * RECREATION_DELAY
    assert len(warnings) == 1
    assert "vanishing" in warnings[0]
    assert len(reconciler) == 0


@pytest.mark.parametrize(("late", "arrives"), [(PART_RETRY_TIMEOUT - 1, True), (PART_RETRY_TIMEOUT + 1, False)])
def test_ended_part_waits_a_bounded_time_for_its_item(reconciler, late, arrives):
    part = FakeSource(part="rows")
    reconciler.add(part, 0.0)
    reconciler.mark_ended(part.at(100, "succeeded"), 0.0)
    now, sent = 0.0, None
    while part.record is not None and now < 3 * PART_RETRY_TIMEOUT:
        for step in reconciler.plan(now):
            exists = now >= late
            apply_statuses(reconciler, [step], now, 200 if exists else 404)
            sent = step.op["completed"] if exists else sent
        now += 0.25
    assert part.record is None
    assert sent == (100 if arrives else None)


def test_item_taken_over_is_dropped_with_one_warning(reconciler, existing_source):
    warnings = apply_statuses(reconciler, _plan_update(reconciler, existing_source, 4, 1.0), 1.0, 409)
    assert len(warnings) == 1
    assert reconciler.plan(100.0) == []


@pytest.mark.parametrize("status", [400, 403, 422])
def test_refused_item_is_dropped_alone(reconciler, existing_source, status):
    other = FakeSource("b")
    reconciler.add(other, 1.0)
    steps = _plan_update(reconciler, existing_source, 4, 1.0)
    assert len(apply_statuses(reconciler, steps, 1.0, status, 201)) == 1
    assert [step.op["id"] for step in _plan_update(reconciler, other, 5, 2.0)] == ["b"]


def test_server_error_for_an_item_delays_it_alone(reconciler, existing_source):
    other = FakeSource("b")
    reconciler.add(other, 1.0)
    apply_statuses(reconciler, _plan_update(reconciler, existing_source, 4, 1.0), 1.0, 500, 201)
    existing_source.at(5)
    other.at(5)
    steps = reconciler.plan(2.5)
    assert [step.op["id"] for step in steps] == ["b"]
    apply_statuses(reconciler, steps, 2.5)
    assert [step.op["id"] for step in reconciler.plan(1.0 + 1.5 * RECREATION_DELAY)] == ["a"]


def test_delete_of_a_missing_item_is_a_success(reconciler, existing_source):
    reconciler.mark_ended(existing_source.at(10, "succeeded"), 0.125)
    apply_statuses(reconciler, reconciler.plan(0.125), 0.125, 200, 404)
    assert len(reconciler) == 0


def test_reused_id_before_its_delete_is_sent_in_order(reconciler, existing_source):
    reconciler.mark_ended(existing_source.at(10, "succeeded"), 0.125)
    reconciler.add(FakeSource(run_id="r2"), 0.25)
    steps = reconciler.plan(0.25)
    assert [(step.op["op"], step.op["run_id"]) for step in steps] == [
        ("patch", "r1"),
        ("delete", "r1"),
        ("put", "r2"),
    ]


def test_thousand_short_runs_of_one_id_are_elided(reconciler):
    for number in range(1000):
        source = FakeSource(run_id=f"r{number}", first_send_delay=0.5)
        reconciler.add(source, 0.0)
        reconciler.mark_ended(source.at(10, "succeeded"), 0.0)
    assert reconciler.plan(1.0) == []
    assert reconciler.stats.elided == 1000


def test_two_live_runs_of_an_id_warn_and_the_newer_wins(reconciler, existing_source):
    reconciler.add(FakeSource(run_id="r2"), 0.25)
    (warning,) = pop_warnings(reconciler)
    assert "twice" in warning
    assert [step.op["run_id"] for step in reconciler.plan(0.25)] == ["r2"]


def test_a_batch_has_at_most_five_hundred_operations(reconciler):
    for number in range(2 * MAX_BATCH_SIZE):
        reconciler.add(FakeSource(f"i{number}"), 0.0)
    first = reconciler.plan(0.0)
    assert len(first) <= MAX_BATCH_SIZE
    apply_statuses(reconciler, first, 0.0)
    sent = len(first)
    while steps := reconciler.plan(0.0):
        apply_statuses(reconciler, steps, 0.0)
        sent += len(steps)
    assert sent == 2 * MAX_BATCH_SIZE


def test_too_large_batch_is_halved_down_to_the_item(reconciler):
    for number in range(4):
        reconciler.add(FakeSource(f"i{number}"), 0.0)
    steps = reconciler.plan(0.0)
    warnings = []
    sizes = []
    while steps:
        sizes.append(len(steps))
        reconciler.halve_batch(steps, "too large")
        warnings += pop_warnings(reconciler)
        steps = reconciler.plan(0.0)
    assert sizes[0] == 4
    assert len(warnings) == 4
    assert len(reconciler) == 0


def test_runs_beyond_the_limit_are_counted_as_dropped():
    reconciler = Reconciler(max_items=2)
    for number in range(5):
        reconciler.add(FakeSource(f"i{number}"), 0.0)
    assert len(reconciler) == 2
    assert reconciler.stats.dropped == 3


def test_flush_is_behind_until_its_state_is_acknowledged(reconciler, existing_source):
    existing_source.at(4)
    assert reconciler.is_behind(0.5)
    reconciler.make_due(0.5)
    steps = reconciler.plan(0.5)
    assert reconciler.is_behind(0.5)
    apply_statuses(reconciler, steps, 0.6)
    assert not reconciler.is_behind(0.5)


def test_hidden_run_is_first_sent_when_it_is_visible(reconciler):
    source = FakeSource("hidden")
    source.is_hidden = True
    reconciler.add(source, 0.0)
    assert reconciler.plan(1.0) == []
    assert not reconciler.is_behind(1.0)  # a flush does not wait for it
    source.is_hidden = False
    assert [step.verb for step in reconciler.plan(3.0)] == ["put"]
    source.is_hidden = True
    assert [step.verb for step in reconciler.plan(5.0)] == ["put"]  # no response yet: it may exist


def test_hidden_run_that_ends_is_elided(reconciler):
    source = FakeSource("hidden")
    source.is_hidden = True
    reconciler.add(source, 0.0)
    reconciler.plan(1.0)
    reconciler.mark_ended(source.at(1, "succeeded"), 2.0)
    assert reconciler.plan(3.0) == []
    assert reconciler.stats.elided == 1


def test_final_flush_retries_a_postponed_item_once(reconciler, existing_source):
    (step,) = _plan_update(reconciler, existing_source, 3, 1.0)
    reconciler.apply([step], [{"id": "a", "status": 503}], 1.0)
    reconciler.mark_ended(existing_source.at(10, "succeeded"), 1.1)
    reconciler.make_due(1.2)
    assert reconciler.plan(1.2) == []
    reconciler.make_due(1.2, is_final=True)
    patch, delete = reconciler.plan(1.2)
    assert (patch.op["completed"], delete.verb) == (10, "delete")
    reconciler.apply([patch, delete], [{"id": "a", "status": 503}, {"id": "a", "status": 404}], 1.2)
    assert reconciler.plan(1.3) == []  # once


def test_memory_is_constant_during_an_outage(reconciler, existing_source):
    now = 1.0
    for number in range(2000):
        reconciler.back_off(_plan_update(reconciler, existing_source, number, now), now, "away")
        now = reconciler.backoff.not_before
    assert len(reconciler) == 1
    assert sum(map(len, reconciler._schedule._entries.values())) < 10


def test_reconciler_without_runs_has_no_wake_time(reconciler, existing_source):
    reconciler.mark_ended(existing_source.at(10, "succeeded"), 0.125)
    reconciler.make_due(0.25)
    apply_statuses(reconciler, reconciler.plan(0.25), 0.25)
    assert reconciler.get_wake_at() is None
