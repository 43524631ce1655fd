"""The contract of all stores. Add a new store to ``STORE_KINDS`` of :mod:`tests.support.stores`."""

from __future__ import annotations

import random
from array import array
from typing import TYPE_CHECKING, Literal

import pytest
from msgspec.structs import replace

from progressbar_tracker._estimate import Progress
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.items.curves import Curve, StoredCurve, encode_curve
from progressbar_tracker.server.models import (
    DeliveryStats,
    EndedRun,
    Notice,
    Part,
    PingTokenRecord,
    PushSubscription,
    Sample,
    SampledRun,
    ScheduleMark,
    SessionRecord,
    ShareRecord,
    StopRequest,
    StoredTail,
)
from progressbar_tracker.server.mutations import (
    AddHistory,
    AddNotice,
    AddSample,
    AddVapidKeys,
    DropItem,
    DropKey,
    DropPingToken,
    DropSchedule,
    DropSession,
    DropShare,
    DropSubscription,
    KeepMessage,
    KeptMessage,
    MarkNotice,
    MarkSchedules,
    Probe,
    SaveCurve,
    SaveItem,
    SaveKey,
    SavePingToken,
    SaveSchedule,
    SaveSession,
    SaveShare,
    SaveSubscription,
    SaveTail,
    ThinSamples,
    TouchKey,
    TouchSchedule,
    TouchSession,
    TrimHistory,
    TrimNotices,
    TrimTails,
)
from progressbar_tracker.server.stores.base import HistoryFilter, Store, StoreError
from progressbar_tracker.server.stores.reading import MIN_TAIL_SIZE
from tests.support.items import make_item
from tests.support.schedules import make_schedule
from tests.support.stores import commit_writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker.server.models import EndStatus


def test_new_store_is_empty(reopen: Callable[[], Store]) -> None:
    loaded = reopen().load()
    assert (loaded.items, loaded.keys, loaded.keys_rev, loaded.sessions) == ([], [], 0, [])


def test_item_is_loaded_exactly_as_saved(reopen: Callable[[], Store]) -> None:
    item = make_item(
        "ü/😀 \u202e", title="t", value=0.1, completed=2**53, total=1e300, weight=-(2**53), status="failed",
        error="e\n", group="g", parent="p", meta={"a": "b"}, seq=2**53, heartbeat_timeout=1.5, ttl=0.0, ended_at=2.25,
        own=3, parts={"1": Part(2.5, 7)}, past=("x", "y"), born=4, rev=9,
        progress=Progress(3, 1.0, 0.5), started_at=0.5, progressed_at=1.0, stuck_after=None,
        stoppable=True, stop_request=StopRequest(1.5, "ci"),
    )  # fmt: skip
    commit_writes(reopen(), SaveItem(item))
    assert reopen().load().items == [item]


def test_committed_items_survive_and_deleted_ones_do_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveItem(make_item("a")), SaveItem(make_item("b")))
    commit_writes(store, DropItem("a"))
    assert [item.id for item in reopen().load().items] == ["b"]


def test_close_writes_the_newest_queued_state(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(100):
        store.enqueue([SaveItem(make_item("a", seq=n))])
    assert [item.seq for item in reopen().load().items] == [99]


def test_flush_writes_queued_states(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.enqueue([SaveItem(make_item("a"))])
    assert store.flush(60)
    assert [item.id for item in store.load().items] == ["a"]


def test_queued_state_never_undoes_a_newer_commit(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.enqueue([SaveItem(make_item("a", seq=1)), SaveItem(make_item("b", seq=1))])
    commit_writes(store, DropItem("a"))
    commit_writes(store, SaveItem(make_item("b", seq=2)))
    assert store.flush(60)
    assert [(item.id, item.seq) for item in reopen().load().items] == [("b", 2)]


def test_many_waiters_are_all_completed(reopen: Callable[[], Store]) -> None:
    store = reopen()
    futures = [store.commit([SaveItem(make_item(str(n)))]) for n in range(300)]
    for future in futures:
        future.result(60)
    assert len(reopen().load().items) == 300


def test_history_is_newest_first_with_stable_pages(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(7):
        commit_writes(
            store, AddHistory(EndedRun(make_item(str(n), group="even" if n % 2 == 0 else "odd"), "succeeded", float(n)))
        )
    first = store.read_history(limit=3)
    commit_writes(store, AddHistory(EndedRun(make_item("new"), "failed", 9.0)))
    second = store.read_history(after=first[-1].n, limit=3)
    assert [row.item.id for row in (*first, *second)] == ["6", "5", "4", "3", "2", "1"]
    assert [row.item.id for row in store.read_history(HistoryFilter(group="odd"))] == ["5", "3", "1"]
    assert [(row.item.id, row.status, row.ended_at) for row in store.read_history(HistoryFilter(status="failed"))] == [
        ("new", "failed", 9)
    ]


def test_history_search_matches_ids_and_titles(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for item_id, title in (("a", "Straße"), ("b/STRASSE", ""), ("c", "100 % 'sure'"), ("c", "")):
        commit_writes(store, AddHistory(EndedRun(make_item(item_id, title=title), "succeeded", 1.0)))
    assert [row.item.id for row in store.read_history(HistoryFilter(text="strasse"))] == ["b/STRASSE", "a"]
    assert [row.item.id for row in store.read_history(HistoryFilter(text="% 'S"))] == ["c"]
    assert [row.item.title for row in store.read_history(HistoryFilter(id="c"))] == ["", "100 % 'sure'"]
    assert store.read_history(HistoryFilter(id="c", text="sure", status="failed")) == []


def test_history_trim_deletes_old_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(4):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), "stopped", float(n))))
    commit_writes(store, TrimHistory(2.0))
    assert [row.item.id for row in store.read_history()] == ["3", "2"]


def test_history_trim_by_status_keeps_other_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n, end in enumerate(["failed", "stopped", "failed", "stopped", "failed"]):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), end, float(n))))  # type: ignore[arg-type]
    commit_writes(store, TrimHistory(4.0, "failed"), TrimHistory(1.0, "stopped"))
    assert [row.item.id for row in store.read_history()] == ["4", "3", "1"]


def test_history_trim_by_number_keeps_the_newest(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(5):
        commit_writes(store, AddHistory(EndedRun(make_item(str(n)), "stopped", float(n))))
    commit_writes(store, TrimHistory(0.0, max_runs=2))
    assert [row.item.id for row in store.read_history()] == ["4", "3"]


def test_deleted_key_increments_the_revision(reopen: Callable[[], Store]) -> None:
    store = reopen()
    record = keys.new_key("write", "ci", 1.0).record
    commit_writes(store, SaveKey(record), SaveItem(make_item(owner_id=record.key_id, owner="ci")))
    rev = store.read_keys_rev()
    commit_writes(store, DropKey(record.key_id))
    assert store.read_keys()[0] == []
    assert store.read_keys_rev() > rev
    assert [item.owner for item in reopen().load().items] == ["ci"]


def test_commit_stats_count_commits_and_writes(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveItem(make_item("a")), SaveItem(make_item("b")))
    commit_writes(store, SaveItem(make_item("c")))
    assert (store.commit_stats.sizes.count, store.commit_stats.sizes.sum) == (2, 3)
    assert (store.commit_stats.failures, store.commit_stats.is_failing, store.count_pending_writes()) == (0, False, 0)


def test_key_change_increments_the_revision_and_use_does_not(reopen: Callable[[], Store]) -> None:
    store = reopen()
    record = keys.new_key("write", "ci", 1.0, expires_at=99.5, group="g").record
    commit_writes(store, SaveKey(record))
    assert (store.read_keys(), store.read_keys_rev()) == (([record], 1), 1)
    commit_writes(store, TouchKey(record.key_id, 5.0))
    assert store.read_keys() == ([replace(record, last_used_at=5.0)], 1)
    rotated = keys.revoke_key(keys.rotate_key(record, 6.0).record, 7.0)
    commit_writes(store, SaveKey(rotated))
    assert reopen().read_keys() == ([rotated], 2)


def test_sessions_are_loaded_until_deleted(reopen: Callable[[], Store]) -> None:
    session = SessionRecord("hash", 1.0, 2.0, key_id="k", agent="Firefox")
    store = reopen()
    commit_writes(store, SaveSession(session), SaveSession(SessionRecord("other", 1.0, 2.0)))
    commit_writes(store, DropSession("other"))
    assert reopen().load().sessions == [session]


def test_last_use_of_a_session_is_stored(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(
        store, SaveSession(SessionRecord("hash", 1.0, 9.0)), TouchSession("hash", 5.0), TouchSession("nobody", 5.0)
    )
    assert reopen().load().sessions == [SessionRecord("hash", 1.0, 9.0, 5.0)]


def test_shares_are_loaded_until_deleted(reopen: Callable[[], Store]) -> None:
    kept = ShareRecord(share_id="s", hash="h", created_at=1.0, item="a/b", expires_at=2.5)
    dropped = ShareRecord(share_id="t", hash="i", created_at=1.0, group="g")
    store = reopen()
    commit_writes(store, SaveShare(kept), SaveShare(dropped))
    commit_writes(store, DropShare("t"))
    assert reopen().load().shares == [kept]


def test_ping_tokens_are_loaded_until_deleted(reopen: Callable[[], Store]) -> None:
    kept = PingTokenRecord(token_id="s", hash="h", name="n", group="g", created_at=1.0, expires_at=2.5)
    dropped = PingTokenRecord(token_id="t", hash="i", name="n", group="g", created_at=1.0)
    store = reopen()
    commit_writes(store, SavePingToken(kept), SavePingToken(dropped))
    commit_writes(store, DropPingToken("t"))
    assert reopen().load().ping_tokens == [kept]


def test_schedules_are_loaded_until_deleted(reopen: Callable[[], Store]) -> None:
    kept = make_schedule("ü/😀", cron="0 3 * * *", timezone="Europe/Paris", notify=("a", "b"), started_at=1.5)
    store = reopen()
    commit_writes(store, SaveSchedule(kept), SaveSchedule(make_schedule("b", every=60.0)))
    commit_writes(store, DropSchedule("b"), DropSchedule("none"))
    assert reopen().load().schedules == [kept]


def test_new_definition_of_a_schedule_keeps_its_starts(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(
        store, SaveSchedule(make_schedule("a")), TouchSchedule("a", 5.0, 4.0), TouchSchedule("none", 1.0, 1.0)
    )
    commit_writes(store, SaveSchedule(make_schedule("a", every=60.0)))
    assert reopen().load().schedules == [make_schedule("a", every=60.0, started_at=5.0, missed_at=4.0)]


def test_queued_starts_of_a_schedule_are_coalesced(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveSchedule(make_schedule("a")))
    for number in range(10):
        store.enqueue([TouchSchedule("a", float(number), 0.0), MarkSchedules(ScheduleMark(float(number)))])
    assert store.count_pending_writes() <= 4
    assert store.flush(10)
    assert [schedule.started_at for schedule in reopen().load().schedules] == [9.0]


def test_push_subscriptions_are_loaded_until_deleted(reopen: Callable[[], Store]) -> None:
    kept = PushSubscription(
        subscription_id="s", endpoint="https://p/1", p256dh="k", auth="a", events=("end", "stuck"), created_at=1.5,
        owner_id="operator", session="hash", item="a/b", run_id="r",
    )  # fmt: skip
    dropped = replace(kept, subscription_id="t", session=None, key_id="k", credential="c", item=None, group="g")
    store = reopen()
    assert (store.load().subscriptions, store.load().vapid_keys) == ([], ())
    waiting = make_notice("n", channel="push:t")
    commit_writes(store, SaveSubscription(dropped), SaveSubscription(replace(kept, events=("end",))))
    commit_writes(store, SaveSubscription(kept), AddVapidKeys(("new", "old")), AddNotice(waiting))
    assert len(reopen().load().subscriptions) == 2
    commit_writes(reopen(), DropSubscription("t"))
    store = reopen()
    assert (store.load().subscriptions, store.load().vapid_keys) == ([kept], ("new", "old"))
    assert store.read_due_notices(1e12, 9) == []
    assert [(stats.channel, stats.given_up) for stats in store.read_delivery_stats()] == [("push:t", 1)]


def test_samples_are_stored_thinned_and_counted(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(
        store, *(AddSample("a", "r", Sample(float(n), n / 10, n)) for n in range(11)), SaveItem(make_item("a"))
    )
    commit_writes(store, ThinSamples("a", "r"), AddSample("b", "r", Sample(1.0, 0.5, None)))
    assert [sample.at for sample in store.read_samples("a", "r")] == [0, 2, 4, 6, 8, 10]
    assert store.read_samples("b", "r") == [Sample(1.0, 0.5, None)]
    assert store.read_samples("a", "other run") == []
    assert reopen().load().sampled_runs == [SampledRun("a", "r", 6, 0.0, 10.0)]


def test_many_samples_in_one_commit_are_stored_exactly(reopen: Callable[[], Store]) -> None:
    store = reopen()
    samples = [Sample(1.7e9 + n / 7, n / 1201, None if n % 3 else n / 11) for n in range(1201)]
    commit_writes(store, *(AddSample("a", "r", sample) for sample in samples))
    assert store.read_samples("a", "r") == samples


def test_history_trim_deletes_samples_of_its_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for run_id, ended_at in (("old", 1.0), ("new", 3.0)):
        commit_writes(store, AddSample("a", run_id, Sample(0.5, 0.5, None)))
        commit_writes(store, AddHistory(EndedRun(make_item("a", run_id=run_id), "succeeded", ended_at)))
    commit_writes(store, TrimHistory(2.0))
    assert (store.read_samples("a", "old"), len(store.read_samples("a", "new"))) == ([], 1)


def make_curve(*positions: float, step: float = 0.5) -> Curve:
    return Curve(step, array("f", positions))


def save_curve(item_id: str, run_id: str, curve: Curve) -> SaveCurve:
    return SaveCurve(item_id, run_id, encode_curve(curve))


def add_run(item_id: str, ended_at: float, status: EndStatus = "succeeded", run_id: str | None = None) -> AddHistory:
    return AddHistory(EndedRun(make_item(item_id, run_id=run_id or f"r{ended_at:g}"), status, ended_at))


def list_former_ends(
    store: Store, keys: list[str], by: Literal["id", "pattern"], **limit: int
) -> dict[str, list[float]]:
    found = store.read_former_runs(keys, by=by, **limit)
    return {key: [former.ended_at for former in runs] for key, runs in found.items()}


def test_newest_curve_of_each_run_is_stored(reopen: Callable[[], Store]) -> None:
    store = reopen()
    curves = {(f"ü/{n}", "r"): make_curve(*map(float, range(n % 128 + 1)), step=1 / 3) for n in range(700)}
    commit_writes(store, *(save_curve(*key, make_curve(0.0)) for key in curves))
    commit_writes(store, *(save_curve(*key, curve) for key, curve in curves.items()))
    assert reopen().read_curves([*curves, ("a", "r"), ("ü/1", "other")]) == curves


def test_queued_curves_of_two_runs_are_both_stored(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.enqueue([save_curve("a", run_id, make_curve(1.0)) for run_id in ("r", "s")])
    assert store.flush(60)
    assert len(store.read_curves([("a", "r"), ("a", "s")])) == 2


def test_curves_of_running_items_are_loaded(reopen: Callable[[], Store]) -> None:
    store = reopen()
    curve = make_curve(0.0, 1.0)
    items = [make_item("a"), make_item("b", status="succeeded", ended_at=2.0), make_item("c", run_id="new")]
    commit_writes(store, *map(SaveItem, items), *(save_curve(name, "r", curve) for name in "abcd"))
    assert reopen().load().curves == [StoredCurve("a", "r", curve)]


def test_history_trim_deletes_curves_of_its_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for run_id, ended_at in (("old", 1.0), ("new", 3.0)):
        commit_writes(store, save_curve("a", run_id, make_curve(1.0)), add_run("a", ended_at, run_id=run_id))
    commit_writes(store, TrimHistory(2.0))
    assert list(store.read_curves([("a", "old"), ("a", "new")])) == [("a", "new")]


def test_newest_tail_of_each_run_is_stored(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, SaveTail("ü/1", "r", StoredTail(1.0, "old")), SaveTail("ü/1", "s", StoredTail(1.5, "other")))
    commit_writes(store, SaveTail("ü/1", "r", StoredTail(2.5, "é\n" * 20_000)))
    store = reopen()
    assert store.read_tail("ü/1", "r") == StoredTail(2.5, "é\n" * 20_000)
    assert store.read_tail("ü/1", "s") == StoredTail(1.5, "other")
    assert store.read_tail("ü/1", "x") is None


def test_history_trim_deletes_tails_of_its_runs(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for run_id, ended_at in (("old", 1.0), ("new", 3.0)):
        commit_writes(store, SaveTail("a", run_id, StoredTail(1.0, "text")), add_run("a", ended_at, run_id=run_id))
    commit_writes(store, TrimHistory(2.0))
    assert [store.read_tail("a", run_id) is None for run_id in ("old", "new")] == [True, False]


def save_tail(run_id: str, at: float, owner_id: str, size: int = 1) -> SaveTail:
    text = random.Random(run_id).randbytes(size).hex()
    return SaveTail("a", run_id, StoredTail(at, text), owner_id)


def list_tails(store: Store, *run_ids: str) -> list[str]:
    return [run_id for run_id in run_ids if store.read_tail("a", run_id) is not None]


def test_trim_deletes_the_oldest_tails_of_a_key(reopen: Callable[[], Store]) -> None:
    store = reopen()
    tails = [save_tail(f"r{n}", float(n), "k") for n in range(8)]
    commit_writes(store, *tails, save_tail("other", 0.0, "other"), TrimTails("k", 5 * MIN_TAIL_SIZE))
    assert list_tails(store, *(f"r{n}" for n in range(8)), "other") == ["r4", "r5", "r6", "r7", "other"]


def test_trim_of_all_keys_deletes_the_oldest_tails(reopen: Callable[[], Store]) -> None:
    store = reopen()
    tails = [save_tail(f"r{n}", float(n), f"k{n % 3}") for n in range(8)]
    commit_writes(store, *tails, TrimTails(None, 5 * MIN_TAIL_SIZE))
    assert list_tails(store, *(f"r{n}" for n in range(8))) == ["r4", "r5", "r6", "r7"]


def test_trim_below_the_quota_deletes_no_tail(reopen: Callable[[], Store]) -> None:
    store = reopen()
    tails = [save_tail(f"r{n}", float(n), "k") for n in range(12)]
    commit_writes(store, *tails, TrimTails("k", 12 * MIN_TAIL_SIZE), TrimTails(None, 12 * MIN_TAIL_SIZE))
    assert len(list_tails(store, *(f"r{n}" for n in range(12)))) == 12
    commit_writes(store, TrimTails("k", 12 * MIN_TAIL_SIZE - 1))
    assert list_tails(store, "r0", "r1") == ["r1"]


def test_replaced_tail_counts_once_and_for_its_new_key(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for at in range(5):
        commit_writes(store, save_tail("r", float(at), "k", 10_000))
    commit_writes(store, save_tail("r", 9.0, "new", 10_000), TrimTails("k", 1), TrimTails("new", 30_000))
    assert list_tails(store, "r") == ["r"]


def test_permission_to_read_tails_is_stored(reopen: Callable[[], Store]) -> None:
    records = [keys.new_key("read", "n", 1.0, reads_tails=reads_tails).record for reads_tails in (False, True)]
    commit_writes(reopen(), *map(SaveKey, records))
    assert {key.key_id: key.reads_tails for key in reopen().read_keys()[0]} == {
        record.key_id: record.reads_tails for record in records
    }


def test_former_runs_are_the_newest_successful_ones(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, *(add_run("a", float(n), "failed" if n % 5 == 0 else "succeeded") for n in range(30)))
    commit_writes(store, add_run("b", 40.0), add_run("c", 41.0, "stopped"))
    newest = [float(n) for n in range(29, 0, -1) if n % 5][:16]
    assert list_former_ends(store, ["a", "b", "c", "d"], "id") == {"a": newest, "b": [40.0]}
    assert list_former_ends(store, ["a", "a"], "id", limit=2) == {"a": [29.0, 28.0]}
    assert list_former_ends(store, [], "id") == {}


def test_former_runs_are_found_by_pattern(reopen: Callable[[], Store]) -> None:
    store = reopen()
    names = ("nightly-2026-11-27", "nightly-2026-11-28", "nightly-x", "夜-2026-11-28", "nightly-*")
    commit_writes(store, *(add_run(name, float(n)) for n, name in enumerate(names)))
    assert list_former_ends(store, ["nightly-*", "夜-*", "nightly-x"], "pattern") == {
        "nightly-*": [1.0, 0.0],
        "夜-*": [3.0],
    }


def test_former_run_has_its_item_and_its_curve(reopen: Callable[[], Store]) -> None:
    store = reopen()
    curve = make_curve(0.0, 5.0, 9.0)
    item = make_item("a", completed=9, total=10, unit="file", status="succeeded")
    commit_writes(store, AddHistory(EndedRun(item, "succeeded", 8.0)), save_curve("a", "r", curve), add_run("a", 9.0))
    with_curve, without = store.read_former_runs(["a"], by="id")["a"][::-1]
    assert (with_curve.item, with_curve.ended_at, with_curve.curve) == (item, 8.0, curve)
    assert without.curve is None


def test_probe_changes_no_items(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, Probe(1e9))
    assert store.load().items == []


def test_closed_store_refuses_commits_and_closes_twice(reopen: Callable[[], Store]) -> None:
    store = reopen()
    store.close()
    store.close()
    with pytest.raises(StoreError):
        commit_writes(store, SaveItem(make_item()))


def make_message(run_id: str = "r", **fields: object) -> KeptMessage:
    return KeptMessage(**{"channel": "chat", "item_id": "a", "run_id": run_id, "place": "p", "message_id": "C1/2.5",
                          "at": 5.0, **fields})  # fmt: skip


def test_kept_message_of_each_run_is_stored(reopen: Callable[[], Store]) -> None:
    latest = make_message(message_id="", at=6.0, is_final=True)
    commit_writes(reopen(), KeepMessage(make_message()), KeepMessage(make_message("s")), KeepMessage(latest))
    store = reopen()
    assert store.read_kept_message("chat", "a", "r") == latest
    assert store.read_kept_message("chat", "a", "s") == make_message("s")
    assert store.read_kept_message("other", "a", "r") is None


def test_trim_deletes_the_oldest_kept_messages(reopen: Callable[[], Store]) -> None:
    store = reopen()

    def list_kept() -> list[int]:
        return [number for number in range(5) if store.read_kept_message("chat", "a", str(number))]

    commit_writes(store, *(KeepMessage(make_message(str(number), at=float(number))) for number in range(5)))
    commit_writes(store, TrimNotices(2.0, 100))
    assert list_kept() == [2, 3, 4]
    commit_writes(store, TrimNotices(0.0, 2))
    assert list_kept() == [3, 4]


def make_notice(name: str = "n", **fields: object) -> Notice:
    return Notice(**{"notice_id": name, "channel": "phone", "item_id": "a", "run_id": "r", "event": "failed",
                     "at": 5.0, "body": '{"id": "a"}', "next_at": 5.0, **fields})  # fmt: skip


def test_due_notice_is_read_exactly_as_added(reopen: Callable[[], Store]) -> None:
    notice = make_notice(item_id="ü/😀", body='{"title": "\u202e"}', next_at=7.5, attempts=3)
    commit_writes(reopen(), AddNotice(notice))
    store = reopen()
    assert store.read_due_notices(7.4, 10) == []
    assert store.read_due_notices(7.5, 10) == [notice]


def test_notice_is_added_once_even_after_delivery(reopen: Callable[[], Store]) -> None:
    store = reopen()
    commit_writes(store, AddNotice(make_notice()), AddNotice(make_notice(at=6.0)))
    commit_writes(store, AddNotice(make_notice(at=7.0)))
    assert [notice.at for notice in store.read_due_notices(9.0, 10)] == [5.0]
    commit_writes(store, MarkNotice("n", 1, delivered_at=8.0))
    store.enqueue([AddNotice(make_notice())])
    assert store.flush(60)
    assert store.read_due_notices(1e9, 10) == []
    assert store.read_delivery_stats() == [DeliveryStats(channel="phone", delivered=1, delivered_at=8.0)]


def test_due_notices_are_ordered_and_exclude_channels(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for name, channel, due in (("x", "a", 3.0), ("y", "b", 1.0), ("z", "a", 2.0), ("w", "c", 2.5)):
        commit_writes(store, AddNotice(make_notice(name, channel=channel, next_at=due)))
    assert [notice.notice_id for notice in store.read_due_notices(9.0, 3)] == ["y", "z", "w"]
    assert [notice.notice_id for notice in store.read_due_notices(9.0, 9, excluded_channels=["a", "none"])] == [
        "y",
        "w",
    ]


def test_delivery_stats_are_grouped_by_channel(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for name, channel in (("1", "a"), ("2", "a"), ("3", "a"), ("4", "b")):
        commit_writes(store, AddNotice(make_notice(name, channel=channel, at=float(name))))
    commit_writes(store, MarkNotice("1", 0, delivered_at=8.0), MarkNotice("2", 9, error="gone for good"))
    commit_writes(store, MarkNotice("3", 2, next_at=20.0, error="it hangs"))
    assert store.read_delivery_stats() == [
        DeliveryStats(channel="a", waiting=1, delivered=1, given_up=1, delivered_at=8.0, error="it hangs"),
        DeliveryStats(channel="b", waiting=1),
    ]
    assert [(notice.notice_id, notice.attempts) for notice in reopen().read_due_notices(20.0, 9)] == [
        ("4", 0),
        ("3", 2),
    ]


def test_done_notices_are_trimmed_by_age_and_number(reopen: Callable[[], Store]) -> None:
    store = reopen()
    for n in range(6):
        commit_writes(store, AddNotice(make_notice(str(n), at=float(n))))
    commit_writes(store, *(MarkNotice(str(n), 0, delivered_at=9.0) for n in range(5)))
    commit_writes(store, TrimNotices(2.0, 100))
    assert [(stats.delivered, stats.waiting) for stats in store.read_delivery_stats()] == [(3, 1)]
    commit_writes(store, TrimNotices(0.0, 2))
    assert [(stats.delivered, stats.waiting) for stats in store.read_delivery_stats()] == [(2, 1)]


def test_outbox_is_bounded(reopen: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progressbar_tracker.server.models.MAX_WAITING_NOTICES", 3)
    store = reopen()
    commit_writes(store, *(AddNotice(make_notice(str(n))) for n in range(5)))
    assert len(store.read_due_notices(9.0, 10)) == 3
    commit_writes(store, MarkNotice("0", 0, delivered_at=9.0), AddNotice(make_notice("5")))
    assert len(store.read_due_notices(9.0, 10)) == 3
