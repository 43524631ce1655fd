"""Samples of progress: the sampling, and the limits in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.items import samples
from progressbar_tracker.server.items.samples import MAX_RUNS_PER_POLL, MAX_SAMPLES, Sampler
from progressbar_tracker.server.models import EndedRun, Item, Sample, SampledRun
from progressbar_tracker.server.mutations import AddHistory, AddSample, ThinSamples, TrimHistory
from progressbar_tracker.server.stores.sqlite import rows
from tests.support.items import make_item

if TYPE_CHECKING:
    from progressbar_tracker.server.stores.sqlite.store import SqliteStore
    from tests.support.server import FullDisk


def poll_samples(sampler: Sampler, now: float, *changed: Item, there: dict[str, Item] | None = None) -> list[object]:
    items = {item.id: item for item in changed} if there is None else there
    return sampler.poll([item.id for item in changed], items.get, now)


def test_changed_running_item_is_sampled() -> None:
    items = [make_item(str(n), value=n / 100, status="running" if n != 7 else "failed") for n in range(50)]
    sampler = poll_samples(Sampler(), 100.0, *items)
    assert sorted(int(write.id) for write in sampler) == [n for n in range(50) if n != 7]
    assert sampler[0] == AddSample("0", "r", Sample(100.0, 0.0, None))


def test_samples_keep_interval_and_new_run_restarts() -> None:
    sampler = Sampler()
    assert len(poll_samples(sampler, 0.0, make_item())) == 1
    assert poll_samples(sampler, 5.0, make_item()) == []
    assert len(poll_samples(sampler, 5.0, make_item(run_id="s"))) == 1
    assert len(poll_samples(sampler, 15.0, make_item(run_id="s"))) == 1


def test_early_change_is_sampled_when_due() -> None:
    sampler, there = Sampler(), {"a": make_item(value=0.1)}
    poll_samples(sampler, 0.0, there["a"])
    there["a"] = make_item(value=0.2)
    assert poll_samples(sampler, 5.0, there["a"]) == []
    assert sampler.poll([], there.get, 6.0) == []
    assert sampler.poll([], there.get, 7.5) == [AddSample("a", "r", Sample(7.5, 0.2, None))]
    assert [sampler.poll([], there.get, float(now)) for now in range(8, 100)] == [[]] * 92


def test_pause_adds_flat_sample() -> None:
    sampler, there = Sampler(), {"a": make_item(value=0.1)}
    poll_samples(sampler, 0.0, there["a"])
    sampler.poll([], there.get, 999.5)
    there["a"] = make_item(value=0.2)
    drawn = poll_samples(sampler, 1000.0, there["a"]) + sampler.poll([], there.get, 1000.5)
    assert drawn == [AddSample("a", "r", Sample(999.5, 0.1, None)), AddSample("a", "r", Sample(1000.5, 0.2, None))]


def test_long_run_doubles_interval_and_limits_samples() -> None:
    sampler, count = Sampler(), 0
    for second in range(0, 7 * 86400, 10):
        for write in poll_samples(sampler, float(second), make_item()):
            count = (count + 1) // 2 if isinstance(write, ThinSamples) else count + 1
        assert count <= MAX_SAMPLES
    assert count >= MAX_SAMPLES // 2


def test_many_due_runs_are_sampled_in_batches() -> None:
    there = {str(n): make_item(str(n)) for n in range(MAX_RUNS_PER_POLL + 10)}
    sampler = Sampler()
    assert len(sampler.poll(list(there), there.get, 0.0)) == MAX_RUNS_PER_POLL
    assert len(sampler.poll([], there.get, 0.5)) == 10


def test_restart_keeps_sample_interval() -> None:
    sampler = Sampler([SampledRun("a", "r", 200, 0.0, 199 * 40.0)])
    assert poll_samples(sampler, 199 * 40.0 + 10, make_item()) == []
    assert len(poll_samples(sampler, 199 * 40.0 + 40, make_item())) == 1


def test_clock_set_back_does_not_stop_sampling() -> None:
    sampler = Sampler()
    poll_samples(sampler, 1000.0, make_item())
    assert len(poll_samples(sampler, 10.0, make_item())) == 1


def test_removed_items_are_forgotten() -> None:
    sampler = Sampler()
    poll_samples(sampler, 0.0, *(make_item(str(n)) for n in range(50)))
    sampler.poll([str(n) for n in range(1, 50)], {"0": make_item("0")}.get, 1.0)
    assert set(sampler._runs) == {"0"}


# The store


def add_samples(store: SqliteStore, count: int, run_id: str = "r") -> None:
    store.commit([AddSample("a", run_id, Sample(float(n), n / count, n)) for n in range(count)]).result(60)


def test_ended_run_keeps_fewer_samples_until_trimmed(store: SqliteStore) -> None:
    add_samples(store, 250)
    add_samples(store, 3, "s")
    store.commit(
        [
            AddHistory(EndedRun(make_item(), "succeeded", 300.0)),
            AddHistory(EndedRun(make_item(run_id="s"), "failed", 500.0)),
        ]
    )
    store.flush(60)
    samples = store.read_samples("a", "r")
    assert len(samples) == 84 <= rows.MAX_ENDED_SAMPLES
    assert samples[0].at == 0.0
    store.commit([TrimHistory(400.0)]).result(60)
    assert store.read_samples("a", "r") == []
    assert len(store.read_samples("a", "s")) == 3


def test_full_disk_does_not_accumulate_samples(store: SqliteStore, disk: FullDisk) -> None:
    disk.full = True
    for n in range(100):
        store.enqueue([AddSample("a", "r", Sample(float(n), 0.0, None)), ThinSamples("a", "r")])
    assert not store.flush(10)
    assert len(store._writer._queue) <= 2
    disk.full = False
    assert store.flush(60)
    assert [item.at for item in store.read_samples("a", "r")] == [99.0]


def test_sampling_constants_are_consistent() -> None:
    assert samples.MIN_SAMPLE_INTERVAL * samples.MAX_SAMPLES < 3600
