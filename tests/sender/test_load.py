"""A server that asks for fewer requests, and very many bars."""

from __future__ import annotations

import email.utils
import tracemalloc

import pytest

from progressbar_tracker import RateLimitedError
from progressbar_tracker._http.messages import Reply, parse_retry_after
from progressbar_tracker._sender.backoff import MAX_BATCH_SIZE
from progressbar_tracker._sender.reconciler import MAX_RUNS_PER_PLAN, Reconciler
from progressbar_tracker._sender.sender import Sender
from tests.support.tracking import FakeDelivery, FakeSource

START_TIME = 1_800_000_000.0  # a wall clock


def make_reply(text):
    return Reply(429, {"retry-after": text}, b"")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        (email.utils.formatdate(START_TIME + 30, usegmt=True), 30.0),
        (email.utils.formatdate(START_TIME - 30, usegmt=True), 0.0),
        ("-7", 0.0),
        ("86400", 300.0),
        ("1e400", 300.0),
        ("inf", 300.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_parsed_in_every_form_and_bounded(text, seconds):
    assert parse_retry_after(make_reply(text), START_TIME) == seconds


def count_requests(seconds, retry_after):
    """Return the number of requests in some seconds to a server that always responds with 429."""
    now, requests = 0.0, []

    def respond(ops):
        requests.append(ops)
        raise RateLimitedError("busy", status_code=429, retry_after=retry_after)

    sender = Sender(
        lambda: FakeDelivery(respond),
        clock=lambda: now,
        make_reconciler=lambda: Reconciler(uniform=lambda low, high: low),
    )
    sender._worker._start_failures = 99  # no thread starts
    for number in range(20):
        sender.add(FakeSource(f"i{number}"))
    while now < seconds:
        sender.step()
        now += 0.1
    return len(requests)


def test_retry_after_delays_all_requests():
    assert count_requests(4.9, 5.0) == 1
    assert count_requests(29.9, 5.0) == 6


def test_huge_retry_after_delays_requests_by_five_minutes():
    assert count_requests(299, parse_retry_after(make_reply("86400"))) == 1
    assert count_requests(301, parse_retry_after(make_reply("86400"))) == 2


class CountingSource(FakeSource):
    """Counts its samples."""

    sample_count = 0

    def sample(self, before=None):
        CountingSource.sample_count += 1
        return super().sample()


def test_hundred_thousand_live_items_are_sampled_in_slices():
    CountingSource.sample_count = 0
    reconciler, now = Reconciler(), 0.0
    for number in range(100_000):
        reconciler.add(CountingSource(f"i{number}"), now)
    assert len(reconciler) == 100_000
    max_samples = 0
    for _ in range(400):
        count_before = CountingSource.sample_count
        steps = reconciler.plan(now)
        max_samples = max(max_samples, CountingSource.sample_count - count_before)
        assert len(steps) <= MAX_BATCH_SIZE
        reconciler.apply(steps, [{"id": step.op["id"], "status": 201} for step in steps], now)
    assert CountingSource.sample_count >= 100_000
    assert 0 < max_samples <= MAX_RUNS_PER_PLAN <= 2000
    # The next sampling is spread out too, although nothing has changed.
    now, max_samples = 1000.0, 0
    for _ in range(400):
        count_before = CountingSource.sample_count
        steps = reconciler.plan(now)
        max_samples = max(max_samples, CountingSource.sample_count - count_before)
        reconciler.apply(steps, [{"id": step.op["id"], "status": 200} for step in steps], now)
    assert max_samples <= MAX_RUNS_PER_PLAN


def test_record_of_an_item_takes_few_bytes():
    sources = [FakeSource(f"i{number}") for number in range(20_000)]
    for source in sources:
        source.record = None  # the attribute must exist before the measurement
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        reconciler = Reconciler()
        for source in sources:
            reconciler.add(source, 0.0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / len(sources) < 400


def test_outage_with_many_items_takes_no_memory():
    reconciler, now = Reconciler(uniform=lambda low, high: high), 0.0
    sources = [FakeSource(f"i{number}") for number in range(2000)]
    for source in sources:
        reconciler.add(source, now)
    sizes = []
    for round_ in range(200):
        for source in sources[round_::50]:
            source.at(round_)
        reconciler.back_off(reconciler.plan(now), now, "away")
        now = reconciler.backoff.not_before
        sizes.append(reconciler._schedule._size)
    assert len(reconciler) == 2000
    assert max(sizes) <= 2 * 2000 + 1
