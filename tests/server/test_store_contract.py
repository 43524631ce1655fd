"""What every store does. A new one joins by a line in ``KINDS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from progressbar_tracker.server import keys
from progressbar_tracker.server.records import (
    AddHistory,
    DropItem,
    DropSession,
    Ended,
    Item,
    Part,
    Probe,
    SaveItem,
    SaveKey,
    SaveSession,
    SessionRecord,
    TouchKey,
    TrimHistory,
)
from progressbar_tracker.server.stores.base import Store, StoreError
from progressbar_tracker.server.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KINDS: Final[dict[str, Callable[[Path], Store]]] = {"sqlite": lambda folder: SqliteStore(folder / "progress.db")}


@pytest.fixture(params=KINDS)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the store; called again, close it and open it anew."""
    opened: list[Store] = []

    def again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(KINDS[request.param](tmp_path))
        return opened[-1]

    yield again
    for store in opened:
        store.close()


def item(item_id: str = "a", **fields: object) -> Item:
    return Item(**{"id": item_id, "owner_id": "k", "owner": "ci", "run_id": "r", "created_at": 1.0, "updated_at": 1.0,
                   **fields})  # fmt: skip


def wait(store: Store, *writes: object) -> None:
    store.commit(writes).result(10)


def test_a_new_store_is_empty(reopen: Callable[[], Store]) -> None:
    loaded = reopen().load()
    assert (loaded.items, loaded.keys, loaded.keys_rev, loaded.sessions) == ([], [], 0, [])


def test_an_item_comes_back_exactly_as_it_was(reopen: Callable[[], Store]) -> None:
    whole = item(
        "ü/😀 \u202e", title="t", value=0.1, completed=2**53, total=1e300, weight=-(2**53), status="failed",
        error="e\n", group="g", parent="p", meta={"a": "b"}, seq=2**53, heartbeat_timeout=1.5, ttl=0.0, ended_at=2.25,
        own=3, parts={"1": Part(2.5, 7)}, past=("x", "y"), born=4, rev=9, pace=0.5, pace_at=1.0, pace_n=3,
    )  # fmt: skip
    wait(reopen(), SaveItem(whole))
    assert reopen().load().items == [whole]


def test_what_was_committed_survives_and_what_was_dropped_does_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    wait(store, SaveItem(item("a")), SaveItem(item("b")))
    wait(store, DropItem("a"))
    assert [kept.id for kept in reopen().load().items] == ["b"]


def test_what_may_wait_is_written_before_closing_the_newest_only(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(100):
        store.later([SaveItem(item("a", seq=n))])
    assert [kept.seq for kept in reopen().load().items] == [99]


def test_what_may_wait_is_written_without_being_asked(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.later([SaveItem(item("a"))])
    assert store.flush(10)
    assert [kept.id for kept in store.load().items] == ["a"]


def test_a_state_that_waits_never_undoes_a_newer_commit(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.later([SaveItem(item("a", seq=1)), SaveItem(item("b", seq=1))])
    wait(store, DropItem("a"))
    wait(store, SaveItem(item("b", seq=2)))
    assert store.flush(10)
    assert [(kept.id, kept.seq) for kept in reopen().load().items] == [("b", 2)]


def test_many_waiters_are_all_answered(reopen: Callable[[], Store]) -> None:
    store = reopen()
    futures = [store.commit([SaveItem(item(str(n)))]) for n in range(300)]
    for future in futures:
        future.result(10)
    assert len(reopen().load().items) == 300


def test_the_history_is_newest_first_and_pages_hold_still(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(7):
        wait(store, AddHistory(Ended(item(str(n), group="even" if n % 2 == 0 else "odd"), "succeeded", float(n))))
    first = store.history(limit=3)
    wait(store, AddHistory(Ended(item("new"), "failed", 9.0)))
    second = store.history(after=first[-1].n, limit=3)
    assert [row.item.id for row in (*first, *second)] == ["6", "5", "4", "3", "2", "1"]
    assert [row.item.id for row in store.history(group="odd")] == ["5", "3", "1"]
    assert [(row.item.id, row.status, row.ended_at) for row in store.history(status="failed")] == [("new", "failed", 9)]


def test_the_history_can_be_trimmed(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(4):
        wait(store, AddHistory(Ended(item(str(n)), "stopped", float(n))))
    wait(store, TrimHistory(2.0))
    assert [row.item.id for row in store.history()] == ["3", "2"]


def test_every_change_of_a_key_grows_the_revision_and_a_use_does_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    record = keys.new_key("write", "ci", 1.0, expires_at=99.5, group="g").record
    wait(store, SaveKey(record))
    assert (store.keys(), store.keys_rev()) == (([record], 1), 1)
    wait(store, TouchKey(record.key_id, 5.0))
    assert store.keys() == ([replace(record, last_used_at=5.0)], 1)
    rotated = keys.revoked(keys.rotated(record, 6.0).record, 7.0)
    wait(store, SaveKey(rotated))
    assert reopen().keys() == ([rotated], 2)


def test_sessions_come_back_until_they_are_dropped(reopen: Callable[[], Store]) -> None:
    session = SessionRecord("hash", 1.0, 2.0)
    store = reopen()
    wait(store, SaveSession(session), SaveSession(SessionRecord("other", 1.0, 2.0)))
    wait(store, DropSession("other"))
    assert reopen().load().sessions == [session]


def test_a_probe_writes_nothing_of_consequence(reopen: Callable[[], Store]) -> None:
    store = reopen()
    wait(store, Probe(1e9))
    assert store.load().items == []


def test_a_closed_store_says_so_and_closing_twice_is_fine(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.close()
    store.close()
    with pytest.raises(StoreError):
        wait(store, SaveItem(item()))
