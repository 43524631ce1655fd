"""The former runs of an item: their selection, their statistics and the cache."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.items import former_run_cache
from progressbar_tracker.server.items.curves import Curve, encode_curve
from progressbar_tracker.server.items.former_run_cache import FormerRunCache, load_batch
from progressbar_tracker.server.items.former_runs import (
    FormerRunRow,
    build_former_runs,
    resample,
    select_former_runs,
    select_runs,
)
from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import AddHistory, SaveCurve
from tests.support.clock import ManualClock
from tests.support.items import make_item

if TYPE_CHECKING:
    from collections.abc import Iterable

    from progressbar_tracker._former_runs import FormerRuns
    from progressbar_tracker.server.stores.sqlite.store import SqliteStore

RUN_START = 1_000_000.0


def make_run(
    item_id: str = "a",
    run_id: str = "old",
    *,
    ended_at: float = RUN_START - 1000,
    seconds: float = 100.0,
    **fields: object,
) -> Item:
    """Return an item whose run has succeeded."""
    started_at = ended_at - seconds
    defaults = {
        "run_id": run_id, "status": "succeeded", "started_at": started_at, "ended_at": ended_at,
        "created_at": started_at, "updated_at": ended_at, "progressed_at": ended_at, "completed": 50, "total": 50,
    }  # fmt: skip
    return make_item(item_id, **defaults | fields)


class CachedBoard:
    """A cache with its board and a store."""

    def __init__(self, store: SqliteStore, *items: Item) -> None:
        self.clock = ManualClock(RUN_START)
        self.store = store
        self.items = {item.id: item for item in items}
        self.cache = FormerRunCache(self.items.get, self.clock, self.clock, items)

    def add_history(self, *items: Item, curve: Curve | None = None) -> None:
        """Move ended runs to the history."""
        writes: list[object] = []
        for item in items:
            assert item.ended_at is not None
            writes.append(AddHistory(EndedRun(item, "succeeded", item.ended_at)))
            if curve is not None:
                writes.append(SaveCurve(item.id, item.run_id, encode_curve(curve)))
        self.store.commit(writes).result(60)

    def put(self, *items: Item) -> None:
        """Change items of the board."""
        self.items |= {item.id: item for item in items}
        self.cache.poll([item.id for item in items])

    def start(self, item_id: str = "a", **fields: object) -> Item:
        """Start a run."""
        item = make_item(
            item_id, at=RUN_START - 100, started_at=RUN_START - 100, **{"completed": 1, "total": 50} | fields
        )
        self.put(item)
        return item

    def load(self) -> list[str]:
        """Load all that is missing and due; return the items whose estimate changed."""
        changed = []
        while (batch := self.cache.take_batch()) is not None:
            changed += self.cache.finish_batch(batch, load_batch(self.store, batch, self.clock()))
        return changed

    def find(self, item: Item) -> FormerRuns | None:
        """Return the former runs of an item after loading them."""
        self.cache.get(item)
        self.load()
        return self.cache.get(item)


@pytest.fixture
def board(store: SqliteStore) -> CachedBoard:
    """An empty board and an empty store."""
    return CachedBoard(store)


# Selection


def make_row(run_id: str, ended_at: float, **fields: object) -> FormerRunRow:
    return FormerRunRow(make_run(run_id=run_id, ended_at=ended_at, **fields), ended_at, None)


def test_newest_runs_are_selected_once() -> None:
    rows = [make_row(f"r{n % 30}", RUN_START + n % 30) for n in range(60)]
    assert [row.item.run_id for row in select_runs(rows, "")] == [f"r{n}" for n in range(29, 13, -1)]


def test_unusable_runs_are_not_selected() -> None:
    rows = [
        make_row("good", 1000.0, unit="row"), make_row("other unit", 1000.0, unit="file"),
        make_row("no time", 1000.0, unit="row", seconds=0.0), make_row("own", 1000.0, unit="row"),
    ]  # fmt: skip
    assert [row.item.run_id for row in select_runs(rows, "row", excluded=("a", "own"))] == ["good"]
    assert len(select_runs(rows, None)) == 3


def test_curve_is_resampled_to_its_end() -> None:
    positions = resample(Curve(10.0, [0.0, 10.0, 20.0]), 40.0, 100.0)
    assert (len(positions), positions[0], positions[-1]) == (65, 0.0, 100.0)
    assert [positions[16], positions[32], positions[48]] == pytest.approx([10.0, 20.0, 60.0])


def test_curve_longer_than_its_run_is_cut() -> None:
    assert resample(Curve(1.0, [float(n) for n in range(128)]), 64.0, 64.0) == [float(n) for n in range(65)]


def test_statistics_use_duration_total_and_curve() -> None:
    slow_start = Curve(25.0, [0.0, 0.0, 0.0, 25.0, 50.0])
    rows = [row._replace(curve=slow_start) for row in (make_row("r", RUN_START), make_row("s", RUN_START))]
    former = build_former_runs(rows, is_count=True)
    assert former is not None
    assert (former.count, former.usual_total) == (2, 50)
    assert former.usual_duration == pytest.approx(100.0)
    assert build_former_runs([], is_count=True) is None


def test_positions_of_another_kind_are_not_used() -> None:
    former = build_former_runs([make_row("r", RUN_START)], is_count=False)
    assert former is not None
    assert (former.count, former.usual_total) == (1, None)


# The cache


def test_former_runs_of_the_id_are_loaded_once(board: CachedBoard) -> None:
    board.add_history(*(make_run(run_id=str(n), ended_at=RUN_START - 1000 - n) for n in range(4)))
    item = board.start()
    assert board.cache.get(item) is None
    assert board.load() == ["a"]
    former = board.cache.get(item)
    assert former is not None
    assert former.count == 4
    assert board.cache.take_batch() is None
    assert board.cache.get(item) is former


def test_item_without_former_runs_is_asked_for_once(board: CachedBoard) -> None:
    item = board.start()
    assert board.find(item) is None
    assert board.cache.take_batch() is None
    assert len(board.cache) == 1


def test_pattern_is_used_below_three_runs_of_the_id(board: CachedBoard) -> None:
    board.add_history(*(make_run(f"night-2026-11-{n}", str(n), ended_at=RUN_START - n) for n in range(10, 16)))
    board.add_history(*(make_run("night-2026-11-28", str(n), ended_at=RUN_START - 90 - n) for n in range(2)))
    few, many = board.find(board.start("night-2026-11-28")), board.find(board.start("night-2026-11-29"))
    assert few is not None
    assert few.count == 8
    assert many is few  # the statistics of a pattern are shared
    board.add_history(
        make_run("night-2026-11-30", "0"), make_run("night-2026-11-30", "1"), make_run("night-2026-11-30")
    )
    exact = board.find(board.start("night-2026-11-30"))
    assert exact is not None
    assert exact.count == 3


def test_id_of_old_version_keeps_its_few_runs(board: CachedBoard) -> None:
    board.add_history(make_run("night-2026-11-28"))
    board.store._write_connection.execute("UPDATE history SET pattern = NULL")
    former = board.find(board.start("night-2026-11-28"))
    assert former is not None
    assert former.count == 1


def test_succeeded_item_on_the_board_is_a_former_run(store: SqliteStore) -> None:
    ended = [make_run(f"night-2026-10-{n}", ended_at=RUN_START - 9000 - n) for n in range(10, 14)]
    board = CachedBoard(store, *ended, make_run("other-2026-10-10"), make_run("night-2026-10-01", status="failed"))
    board.cache.poll([])
    former = board.find(board.start("night-2026-11-28"))
    assert former is not None
    assert former.count == 4


def test_end_of_a_run_updates_the_former_runs_of_its_pattern(board: CachedBoard) -> None:
    board.add_history(make_run("night-2026-11-01"))
    board.start("night-2026-11-02")
    item = board.start("night-2026-11-03")
    assert board.find(item).count == 1
    board.put(make_run("night-2026-11-02", "r", ended_at=RUN_START))
    assert board.find(item).count == 1  # the row and the curve are perhaps not yet stored
    board.clock.now += former_run_cache.MIN_RELOAD_INTERVAL
    board.store.commit([SaveCurve("night-2026-11-02", "r", encode_curve(Curve(1.0, [0.0, 1.0])))]).result(60)
    assert board.find(item).count == 2
    del board.items["night-2026-11-02"]
    board.add_history(make_run("night-2026-11-02", "r", ended_at=RUN_START))
    board.cache.poll(["night-2026-11-02"])
    board.clock.now += former_run_cache.MIN_RELOAD_INTERVAL
    assert board.find(item).count == 2


def test_end_during_a_load_is_not_lost(board: CachedBoard) -> None:
    item = board.start("night-2026-11-03")
    board.cache.get(item)
    batch = board.cache.take_batch()
    loaded = load_batch(board.store, batch, board.clock())
    board.put(make_run("night-2026-11-02", ended_at=RUN_START))
    board.cache.finish_batch(batch, loaded)
    assert board.cache.get(item) is None
    board.clock.now += former_run_cache.MIN_RELOAD_INTERVAL
    assert board.load() == ["night-2026-11-03"]


def test_takeover_loads_the_run_before(board: CachedBoard) -> None:
    assert board.find(board.start(run_id="first")) is None
    item = board.start(run_id="second", created_at=RUN_START)
    assert board.find(item) is None
    board.add_history(make_run(run_id="first"))  # committed after the second run had begun
    board.clock.now += 2 * former_run_cache.COMMIT_DELAY
    former = board.find(item)
    assert former is not None
    assert former.count == 1


def test_missing_curve_of_a_recent_run_is_loaded_later(board: CachedBoard) -> None:
    run = make_run(ended_at=RUN_START - 1)
    board.add_history(run)
    item = board.start()
    first = board.find(item)
    board.store.commit([SaveCurve("a", "old", encode_curve(Curve(25.0, [0.0, 0.0, 0.0, 25.0])))]).result(60)
    board.clock.now += former_run_cache.MIN_RELOAD_INTERVAL
    second = board.find(item)
    assert second is not first
    board.clock.now += 3600
    assert board.find(item) is second


def test_other_unit_of_an_item_loads_again(board: CachedBoard) -> None:
    board.add_history(make_run(unit="file"))
    assert board.find(board.start(unit="row")) is None
    assert board.find(board.start(unit="file")) is not None


def test_run_without_a_count_uses_runs_of_any_unit(board: CachedBoard) -> None:
    board.add_history(make_run(unit="MB"))
    assert board.find(board.start(completed=None, total=None, unit="")) is not None
    assert board.find(board.start(unit="")) is None


def test_ended_and_removed_items_leave_the_cache(board: CachedBoard) -> None:
    board.find(board.start())
    board.find(board.start("b"))
    board.put(make_run(run_id="r"))
    del board.items["b"]
    board.cache.poll(["b"])
    assert len(board.cache) == 0
    assert board.cache.take_batch() is None


def test_cache_is_bounded_and_keeps_used_items(board: CachedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_run_cache, "MAX_CACHED_ITEMS", 5)
    used = board.start("used")
    for n in range(20):
        board.find(board.start(str(n)))
        board.find(used)
    assert len(board.cache) == 5
    assert board.cache.take_batch() is None


def test_large_board_is_loaded_in_batches(board: CachedBoard) -> None:
    items = [board.start(str(n)) for n in range(250)]
    for item in items:
        board.cache.get(item)
    batch = board.cache.take_batch()
    assert batch is not None
    assert len(batch.items) == former_run_cache.MAX_BATCH_ITEMS
    assert board.cache.take_batch() is None
    board.cache.finish_batch(batch, load_batch(board.store, batch, RUN_START))
    board.load()
    assert len(board.cache) == 250


def test_waiting_items_are_visited_a_few_times_each(store: SqliteStore) -> None:
    """Items that wait for the end of a delay lie before those that are missing, and do not slow down their batches."""
    count, visits = 2000, 0

    def get_item(item_id: str) -> Item | None:
        nonlocal visits
        visits += 1
        return items.get(item_id)

    clock = ManualClock(RUN_START)
    items = {str(n): make_item(str(n), at=RUN_START) for n in range(2 * count)}
    cache = FormerRunCache(get_item, clock, clock)

    def load(wanted: Iterable[Item]) -> None:
        for item in wanted:
            cache.get(item)
        while (batch := cache.take_batch()) is not None:
            cache.finish_batch(batch, load_batch(store, batch, clock()))

    recent, missing = list(items.values())[:count], list(items.values())[count:]
    load(recent)
    visits = 0
    load([*recent, *missing])
    assert visits <= 4 * len(items)
    clock.now += former_run_cache.MIN_RELOAD_INTERVAL
    visits = 0
    load(items.values())
    assert visits <= 4 * len(items)


def test_index_of_ended_items_is_bounded(board: CachedBoard) -> None:
    board.put(*(make_run(f"night-{n}", ended_at=RUN_START - n) for n in range(10_000, 10_100)))
    listed = board.cache.list_ended("night-*")
    assert max(item.ended_at for item in listed) == RUN_START - 10_000
    assert len(listed) <= 2 * 16


def test_failing_store_is_logged_once_and_retried(board: CachedBoard, caplog: pytest.LogCaptureFixture) -> None:
    board.add_history(make_run())
    item = board.start()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            board.cache.get(item)
            batch = board.cache.take_batch()
            assert batch is not None
            board.cache.fail_batch(batch, OSError("no disk"))
            assert board.cache.take_batch() is None
            board.clock.now += former_run_cache.RETRY_DELAY
    assert [line for line in caplog.messages if "no disk" in line] == [
        "former runs cannot be read, so each run is estimated from itself alone: no disk"
    ]
    assert board.find(item) is not None


def test_listed_runs_are_those_of_the_estimate(board: CachedBoard) -> None:
    board.add_history(*(make_run(f"night-2026-11-{n}", ended_at=RUN_START - n) for n in range(29, 9, -1)))
    item = board.start("night-2026-11-28")
    rows = select_former_runs(board.store, item.id, item)
    assert [row.ended_at for row in rows] == [RUN_START - n for n in range(10, 26)]
    former = board.find(item)
    assert former is not None
    assert former.count == len(rows)
    assert select_former_runs(board.store, "nothing", None) == []
