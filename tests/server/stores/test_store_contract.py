"""What every store does. A new one joins by a line in ``KINDS``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.models import (
    DeliveryStats,
    EndedRun,
    Notice,
    Part,
    Sample,
    SampledRun,
    SessionRecord,
    ShareRecord,
)
from progressbar_tracker.server.mutations import (
    AddHistory,
    AddNotice,
    AddSample,
    DropItem,
    DropKey,
    DropSession,
    DropShare,
    MarkNotice,
    Probe,
    SaveItem,
    SaveKey,
    SaveSession,
    SaveShare,
    ThinSamples,
    TouchKey,
    TouchSession,
    TrimHistory,
    TrimNotices,
)
from progressbar_tracker.server.stores.base import Store, StoreError
from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.items import make_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORE_KINDS: Final[dict[str, Callable[[pytest.FixtureRequest], Callable[[], Store]]]] = {
    "sqlite": lambda test: partial(SqliteStore, test.getfixturevalue("tmp_path") / "progress.db"),
    "postgres": lambda test: partial(PostgresStore, test.getfixturevalue("postgres_url")),
}


@pytest.fixture(params=STORE_KINDS)
def reopen(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """Open the store; called again, close it and open it anew."""
    opened: list[Store] = []
    open_it = STORE_KINDS[request.param](request)

    def again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(open_it())
        return opened[-1]

    yield again
    for store in opened:
        store.close()


def commit_writes(store: Store, *writes: object) -> None:
    store.commit(writes).result(10)


def test_a_new_store_is_empty(reopen: Callable[[], Store]) -> None:
    loaded = reopen().load()
    assert (loaded.items, loaded.keys, loaded.keys_rev, loaded.sessions) == ([], [], 0, [])


def test_an_item_comes_back_exactly_as_it_was(reopen: Callable[[], Store]) -> None:
    whole = make_item(
        "ü/😀 \u202e", title="t", value=0.1, completed=2**53, total=1e300, weight=-(2**53), status="failed",
        error="e\n", group="g", parent="p", meta={"a": "b"}, seq=2**53, heartbeat_timeout=1.5, ttl=0.0, ended_at=2.25,
        own=3, parts={"1": Part(2.5, 7)}, past=("x", "y"), born=4, rev=9, pace=0.5, pace_at=1.0, pace_n=3,
    )  # fmt: skip
    commit_writes(reopen(), SaveItem(whole))
    assert reopen().load().items == [whole]


def test_what_was_committed_survives_and_what_was_dropped_does_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveItem(make_item("a")), SaveItem(make_item("b")))
    commit_writes(store, DropItem("a"))
    assert [kept.id for kept in reopen().load().items] == ["b"]


def test_what_may_wait_is_written_before_closing_the_newest_only(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(100):
        store.enqueue([SaveItem(make_item("a", seq=n))])
    assert [kept.seq for kept in reopen().load().items] == [99]


def test_what_may_wait_is_written_without_being_asked(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.enqueue([SaveItem(make_item("a"))])
    assert store.flush(10)
    assert [kept.id for kept in store.load().items] == ["a"]


def test_a_state_that_waits_never_undoes_a_newer_commit(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    commit_writes(store, DropItem("a"))
    commit_writes(store, SaveItem(make_item("b", seq=2)))
    assert store.flush(10)
    assert [(kept.id, kept.seq) for kept in reopen().load().items] == [("b", 2)]


def test_many_waiters_are_all_answered(reopen: Callable[[], Store]) -> None:
    store = reopen()
    futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(300)]
    for future in futures:
        future.result(10)
    assert len(reopen().load().items) == 300


def test_the_history_is_newest_first_and_pages_hold_still(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(7):
        commit_writes(
            store, AddHistory(EndedRun(make_item(str(n), group="even" if n % 2 == 0 else "odd"), "succeeded", float(n)))
        )
    first = store.read_history(limit=3)
    commit_writes(store, AddHistory(EndedRun(make_item("new"), "failed", 9.0)))
    second = store.read_history(after=first[-1].n, limit=3)
    assert [row.item.id for row in (*first, *second)] == ["6", "5", "4", "3", "2", "1"]
    assert [row.item.id for row in store.read_history(group="odd")] == ["5", "3", "1"]
    assert [(row.item.id, row.status, row.ended_at) for row in store.read_history(status="failed")] == [
        ("new", "failed", 9)
    ]


def test_the_history_is_searched_in_ids_and_titles_and_by_item(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for item_id, title in (("a", "Straße"), ("b/STRASSE", ""), ("c", "100 % 'sure'"), ("c", "")):
        commit_writes(store, AddHistory(EndedRun(make_item(item_id, title=title), "succeeded", 1.0)))
    assert [row.item.id for row in store.read_history(text="strasse")] == ["b/STRASSE", "a"]
    assert [row.item.id for row in store.read_history(text="% 'S")] == ["c"]
    assert [row.item.title for row in store.read_history(item_id="c")] == ["", "100 % 'sure'"]
    assert store.read_history(item_id="c", text="sure", status="failed") == []


def test_the_history_can_be_trimmed(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(4):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), "stopped", float(n))))
    commit_writes(store, TrimHistory(2.0))
    assert [row.item.id for row in store.read_history()] == ["3", "2"]


def test_the_history_can_be_trimmed_of_one_end_and_not_of_the_others(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n, end in enumerate(["failed", "stopped", "failed", "stopped", "failed"]):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), end, float(n))))  # type: ignore[arg-type]
    commit_writes(store, TrimHistory(4.0, "failed"), TrimHistory(1.0, "stopped"))
    assert [row.item.id for row in store.read_history()] == ["4", "3", "1"]


def test_the_history_keeps_so_many_of_the_newest(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(5):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), "stopped", float(n))))
    commit_writes(store, TrimHistory(0.0, max_runs=2))
    assert [row.item.id for row in store.read_history()] == ["4", "3"]


def test_a_key_that_is_forgotten_is_gone_and_the_revision_grows(reopen: Callable[[], Store]) -> None:
    store = reopen()
    made = keys.new_key("write", "ci", 1.0).record
    commit_writes(store, SaveKey(made), SaveItem(make_item(owner_id=made.key_id, owner="ci")))
    rev = store.read_keys_rev()
    commit_writes(store, DropKey(made.key_id))
    assert store.read_keys()[0] == []
    assert store.read_keys_rev() > rev
    assert [one.owner for one in reopen().load().items] == ["ci"]


def test_commits_are_counted_with_what_they_hold(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveItem(make_item("a")), SaveItem(make_item("b")))
    commit_writes(store, SaveItem(make_item("c")))
    assert (store.commit_stats.sizes.count, store.commit_stats.sizes.sum) == (2, 3)
    assert (store.commit_stats.failures, store.commit_stats.is_failing, store.count_pending_writes()) == (0, False, 0)


def test_every_change_of_a_key_grows_the_revision_and_a_use_does_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    record = keys.new_key("write", "ci", 1.0, expires_at=99.5, group="g").record
    commit_writes(store, SaveKey(record))
    assert (store.read_keys(), store.read_keys_rev()) == (([record], 1), 1)
    commit_writes(store, TouchKey(record.key_id, 5.0))
    assert store.read_keys() == ([replace(record, last_used_at=5.0)], 1)
    rotated = keys.revoke_key(keys.rotate_key(record, 6.0).record, 7.0)
    commit_writes(store, SaveKey(rotated))
    assert reopen().read_keys() == ([rotated], 2)


def test_sessions_come_back_until_they_are_dropped(reopen: Callable[[], Store]) -> None:
    session = SessionRecord("hash", 1.0, 2.0, key_id="k", agent="Firefox")
    store = reopen()
    commit_writes(store, SaveSession(session), SaveSession(SessionRecord("other", 1.0, 2.0)))
    commit_writes(store, DropSession("other"))
    assert reopen().load().sessions == [session]


def test_when_a_session_was_seen_is_kept(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(
        store, SaveSession(SessionRecord("hash", 1.0, 9.0)), TouchSession("hash", 5.0), TouchSession("nobody", 5.0)
    )
    assert reopen().load().sessions == [SessionRecord("hash", 1.0, 9.0, 5.0)]


def test_shares_come_back_until_they_are_dropped(reopen: Callable[[], Store]) -> None:
    kept = ShareRecord(share_id="s", hash="h", created_at=1.0, item="a/b", expires_at=2.5)
    dropped = ShareRecord(share_id="t", hash="i", created_at=1.0, group="g")
    store = reopen()
    commit_writes(store, SaveShare(kept), SaveShare(dropped))
    commit_writes(store, DropShare("t"))
    assert reopen().load().shares == [kept]


def test_samples_are_kept_thinned_and_counted_for_what_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(
        store, *(AddSample("a", "r", Sample(float(n), n / 10, n)) for n in range(11)), SaveItem(make_item("a"))
    )
    commit_writes(store, ThinSamples("a", "r"), AddSample("b", "r", Sample(1.0, 0.5, None)))
    assert [one.at for one in store.read_samples("a", "r")] == [0, 2, 4, 6, 8, 10]
    assert store.read_samples("b", "r") == [Sample(1.0, 0.5, None)]
    assert store.read_samples("a", "other run") == []
    assert reopen().load().sampled_runs == [SampledRun("a", "r", 6, 0.0, 10.0)]


def test_many_samples_at_once_are_kept_to_the_last_bit(reopen: Callable[[], Store]) -> None:
    store = reopen()
    kept = [Sample(1.7e9 + n / 7, n / 1201, None if n % 3 else n / 11) for n in range(1201)]
    commit_writes(store, *(AddSample("a", "r", one) for one in kept))
    assert store.read_samples("a", "r") == kept


def test_the_history_takes_the_samples_along_when_it_forgets_a_run(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for run_id, ended_at in (("old", 1.0), ("new", 3.0)):
        commit_writes(store, AddSample("a", run_id, Sample(0.5, 0.5, None)))
        commit_writes(store, AddHistory(EndedRun(make_item("a", run_id=run_id), "succeeded", ended_at)))
    commit_writes(store, TrimHistory(2.0))
    assert (store.read_samples("a", "old"), len(store.read_samples("a", "new"))) == ([], 1)


def test_a_probe_writes_nothing_of_consequence(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, Probe(1e9))
    assert store.load().items == []


def test_a_closed_store_says_so_and_closing_twice_is_fine(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.close()
    store.close()
    with pytest.raises(StoreError):
        commit_writes(store, SaveItem(make_item()))


def make_notice(name: str = "n", **fields: object) -> Notice:
    return Notice(**{"notice_id": name, "channel": "phone", "item_id": "a", "run_id": "r", "event": "failed",
                     "at": 5.0, "body": '{"id": "a"}', "next_at": 5.0, **fields})  # fmt: skip


def test_a_notice_comes_back_exactly_as_it_was_when_it_is_due(reopen: Callable[[], Store]) -> None:
    made = make_notice(item_id="ü/😀", body='{"title": "\u202e"}', next_at=7.5, attempts=3)
    commit_writes(reopen(), AddNotice(made))
    store = reopen()
    assert store.read_due_notices(7.4, 10) == []
    assert store.read_due_notices(7.5, 10) == [made]


def test_a_notice_is_made_once_and_not_again_after_it_was_delivered(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, AddNotice(make_notice()), AddNotice(make_notice(at=6.0)))
    commit_writes(store, AddNotice(make_notice(at=7.0)))
    assert [found.at for found in store.read_due_notices(9.0, 10)] == [5.0]
    commit_writes(store, MarkNotice("n", 1, delivered_at=8.0))
    store.enqueue([AddNotice(make_notice())])
    assert store.flush(10)
    assert store.read_due_notices(1e9, 10) == []
    assert store.read_delivery_stats() == [DeliveryStats(channel="phone", delivered=1, delivered_at=8.0)]


def test_the_longest_due_notices_come_first_but_for_some_channels(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for name, channel, due in (("x", "a", 3.0), ("y", "b", 1.0), ("z", "a", 2.0), ("w", "c", 2.5)):
        commit_writes(store, AddNotice(make_notice(name, channel=channel, next_at=due)))
    assert [found.notice_id for found in store.read_due_notices(9.0, 3)] == ["y", "z", "w"]
    assert [found.notice_id for found in store.read_due_notices(9.0, 9, excluded_channels=["a", "none"])] == ["y", "w"]


def test_what_became_of_the_notices_is_told_by_channel(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for name, channel in (("1", "a"), ("2", "a"), ("3", "a"), ("4", "b")):
        commit_writes(store, AddNotice(make_notice(name, channel=channel, at=float(name))))
    commit_writes(store, MarkNotice("1", 0, delivered_at=8.0), MarkNotice("2", 9, error="gone for good"))
    commit_writes(store, MarkNotice("3", 2, next_at=20.0, error="it hangs"))
    assert store.read_delivery_stats() == [
        DeliveryStats(channel="a", waiting=1, delivered=1, given_up=1, delivered_at=8.0, error="it hangs"),
        DeliveryStats(channel="b", waiting=1),
    ]
    assert [(found.notice_id, found.attempts) for found in reopen().read_due_notices(20.0, 9)] == [("4", 0), ("3", 2)]


def test_notices_that_are_done_with_are_forgotten_by_age_and_by_number(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(6):
        commit_writes(store, AddNotice(make_notice(str(n), at=float(n))))
    commit_writes(store, *(MarkNotice(str(n), 0, delivered_at=9.0) for n in range(5)))
    commit_writes(store, TrimNotices(2.0, 100))
    assert [(found.delivered, found.waiting) for found in store.read_delivery_stats()] == [(3, 1)]
    commit_writes(store, TrimNotices(0.0, 2))
    assert [(found.delivered, found.waiting) for found in store.read_delivery_stats()] == [(2, 1)]


def test_the_outbox_takes_no_more_than_its_bound(reopen: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progressbar_tracker.server.stores.sqlite.rows.MAX_WAITING_NOTICES", 3)
    monkeypatch.setattr("progressbar_tracker.server.stores.postgres.rows.MAX_WAITING_NOTICES", 3)
    store = reopen()
    commit_writes(store, *(AddNotice(make_notice(str(n))) for n in range(5)))
    assert len(store.read_due_notices(9.0, 10)) == 3
    commit_writes(store, MarkNotice("0", 0, delivered_at=9.0), AddNotice(make_notice("5")))
    assert len(store.read_due_notices(9.0, 10)) == 3
