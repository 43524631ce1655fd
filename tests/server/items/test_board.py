from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Change, Owner
from progressbar_tracker.server.items.expiry import STALE_ENTRIES
from progressbar_tracker.server.items.serializer import is_stalled, serialize_item
from progressbar_tracker.server.items.transition import MAX_PARTS
from progressbar_tracker.server.items.validation import WriteFields, parse_legacy, parse_write
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.mutations import AddHistory, DropItem, SaveItem
from progressbar_tracker.server.problems import ProblemError

OWNER_A = Owner("me", "ci")
OWNER_B = Owner("you", "ci")


def make_board(**options: object) -> Board:
    count = itertools.count(1)
    return Board(**{"max_items": 100, "new_run_id": lambda: f"made-{next(count)}", **options})


def problem_code(problem: pytest.ExceptionInfo[ProblemError]) -> str:
    return problem.value.code


def make_body(value: float = 0.5, item_id: str = "a", **fields: object) -> dict[str, object]:
    return {"id": item_id, "title": "t", "description": "d", "value": value, "weight": 1, **fields}


def item_after(change: Change) -> Item:
    assert change.after is not None
    return change.after


def make_started_board(**fields: object) -> Board:
    made = make_board()
    made.put("a", parse_write({"run_id": "r", **fields}, merge=False), OWNER_A, 0.0)
    return made


# Part 1 of the protocol


def test_created_item_is_running_with_its_own_run() -> None:
    change = make_board().create(parse_legacy(make_body()), OWNER_A, 10.0)
    item = item_after(change)
    assert (change.before, change.durable) == (None, True)
    assert (item.status, item.run_id, item.seq, item.owner, item.created_at) == ("running", "made-1", 0, "ci", 10.0)


def test_item_created_at_one_has_succeeded() -> None:
    item = item_after(make_board().create(parse_legacy(make_body(1.0)), OWNER_A, 10.0))
    assert (item.status, item.ended_at) == ("succeeded", 10.0)


def test_create_of_existing_id_is_refused() -> None:
    made = make_board()
    made.create(parse_legacy(make_body()), OWNER_A, 0.0)
    with pytest.raises(ProblemError) as problem:
        made.create(parse_legacy(make_body()), OWNER_A, 0.0)
    assert problem_code(problem) == "item-exists"


def test_update_replaces_only_four_fields() -> None:
    made = make_started_board(
        completed=1, total=4, unit="B", group="g", parent="p", meta={"host": "h"}, seq=7, ttl=5, heartbeat_timeout=9
    )
    before = made.require("a")
    item = item_after(made.update(parse_legacy(make_body(0.9)), 3.0))
    assert (item.title, item.description, item.value, item.weight) == ("t", "d", 0.9, 1)
    for field in set(Item.__struct_fields__) - {"title", "description", "value", "weight", "updated_at", "rev"}:
        assert getattr(item, field) == getattr(before, field), field


def test_update_to_one_ends_run_and_lower_value_revives_it() -> None:
    made = make_started_board()
    ended = made.update(parse_legacy(make_body(1)), 5.0)
    assert (item_after(ended).status, item_after(ended).ended_at, ended.durable) == ("succeeded", 5.0, True)
    again = made.update(parse_legacy(make_body(1)), 6.0)
    assert (item_after(again).ended_at, again.durable) == (5.0, False)
    revived = made.update(parse_legacy(make_body(0.5)), 7.0)
    assert (item_after(revived).status, item_after(revived).ended_at, revived.durable) == ("running", None, True)


def test_update_between_zero_and_one_is_not_durable() -> None:
    made = make_started_board()
    assert not made.update(parse_legacy(make_body(0.6)), 1.0).durable


def test_update_of_unknown_item_is_refused() -> None:
    with pytest.raises(ProblemError) as problem:
        make_board().update(parse_legacy(make_body()), 0.0)
    assert problem_code(problem) == "item-not-found"


@pytest.mark.parametrize("field", ["id", "title", "description", "value", "weight"])
def test_legacy_body_requires_all_five_fields(field: str) -> None:
    lacking = make_body()
    del lacking[field]
    with pytest.raises(ProblemError) as problem:
        parse_legacy(lacking)
    assert (problem.value.status, problem.value.field) == (422, field)


# Put, patch, delete


def test_put_without_run_id_gets_one_from_server() -> None:
    change = make_board().put("a", {}, OWNER_A, 0.0)
    assert (change.before, item_after(change).run_id, change.durable) == (None, "made-1", True)


def test_put_replaces_fields_that_patch_keeps() -> None:
    made = make_started_board(title="t", total=5, group="g", meta={"a": "1"})
    item = item_after(made.patch("a", parse_write({"completed": 2}, merge=True), 1.0))
    assert (item.title, item.total, item.group, item.meta, item.value) == ("t", 5, "g", {"a": "1"}, 0.4)
    item = item_after(made.put("a", parse_write({"completed": 2, "run_id": "r"}, merge=False), OWNER_A, 1.0))
    assert (item.title, item.total, item.group, item.meta, item.value) == ("", None, None, {}, 0.0)


def test_patch_with_null_clears_fields() -> None:
    made = make_started_board(
        title="t", total=5, error="e", group="g", meta={"a": "1"}, ttl=4, weight=3, completed=1, unit="B"
    )
    nothing = dict.fromkeys(("title", "total", "error", "group", "meta", "ttl", "weight", "completed", "unit"))
    item = item_after(made.patch("a", parse_write(nothing, merge=True), 1.0))
    assert (item.title, item.total, item.error, item.group, item.meta, item.ttl) == ("", None, None, None, {}, None)
    assert (item.weight, item.completed, item.unit) == (0, None, "")


def test_patch_merges_meta_entry_by_entry() -> None:
    made = make_started_board(meta={"a": "1", "b": "2"})
    item = item_after(made.patch("a", parse_write({"meta": {"a": None, "c": "3"}}, merge=True), 1.0))
    assert item.meta == {"b": "2", "c": "3"}


def test_patch_cannot_grow_meta_beyond_limit() -> None:
    made = make_started_board(meta={str(n): "" for n in range(16)})
    with pytest.raises(ProblemError) as problem:
        made.patch("a", parse_write({"meta": {"one more": ""}}, merge=True), 1.0)
    assert problem.value.field == "meta"
    assert len(made.require("a").meta) == 16


def test_reaching_total_does_not_end_run() -> None:
    made = make_started_board(total=2)
    item = item_after(made.patch("a", {"completed": 2}, 1.0))
    assert (item.value, item.status, item.ended_at) == (1.0, "running", None)


def test_end_status_is_durable_and_sets_ended_at() -> None:
    change = make_started_board().patch(
        "a", parse_write({"status": "failed", "error": "ValueError: x"}, merge=True), 4.0
    )
    assert (item_after(change).status, item_after(change).ended_at, item_after(change).error) == (
        "failed",
        4.0,
        "ValueError: x",
    )
    assert change.durable


def test_ended_run_refuses_writes() -> None:
    made = make_started_board(status="succeeded")
    for write in ({}, {"run_id": "r", "seq": 9}, {"status": "running"}, {"status": "failed"}):
        with pytest.raises(ProblemError) as problem:
            made.patch("a", write, 1.0)
        assert problem_code(problem) == "run-ended"
    with pytest.raises(ProblemError) as problem:
        made.put("a", {"run_id": "r"}, OWNER_A, 1.0)
    assert problem_code(problem) == "run-ended"
    with pytest.raises(ProblemError) as problem:
        made.put("a", {}, OWNER_A, 1.0)
    assert problem_code(problem) == "run-ended"


def test_repeated_end_status_is_ignored() -> None:
    made = make_started_board(status="succeeded", seq=3)
    before = made.require("a")
    change = made.patch("a", {"run_id": "r", "seq": 4, "status": "succeeded"}, 9.0)
    assert (change.before, change.writes(), made.require("a")) == (before, [], before)


def test_old_write_to_ended_run_is_ignored() -> None:
    made = make_started_board(status="succeeded", seq=3)
    assert made.patch("a", {"run_id": "r", "seq": 2, "completed": 1}, 9.0).writes() == []


def test_old_seq_is_ignored_and_absent_seq_applied() -> None:
    made = make_started_board(seq=5, completed=5)
    assert made.patch("a", {"run_id": "r", "seq": 5, "completed": 1}, 1.0).writes() == []
    assert made.put("a", {"run_id": "r", "seq": 4, "completed": 1}, OWNER_A, 1.0).writes() == []
    assert item_after(made.patch("a", {"completed": 1}, 1.0)).completed == 1
    assert item_after(made.patch("a", {"seq": 6, "completed": 2}, 1.0)).seq == 6


def test_empty_patch_is_sign_of_life() -> None:
    made = make_started_board(heartbeat_timeout=10)
    assert item_after(made.patch("a", {"run_id": "r", "seq": 1}, 8.0)).updated_at == 8.0


def test_patch_and_delete_of_another_run_are_refused() -> None:
    made = make_started_board()
    for attempt in (lambda: made.patch("a", {"run_id": "x"}, 1.0), lambda: made.delete("a", 1.0, run_id="x")):
        with pytest.raises(ProblemError) as problem:
            attempt()
        assert problem_code(problem) == "run-superseded"


def test_put_of_another_run_takes_over_and_stops_old_run() -> None:
    made = make_started_board(title="old", group="g", seq=9)
    change = made.put("a", {"run_id": "new", "title": "new"}, OWNER_A, 7.0)
    item = item_after(change)
    assert change.before is not None
    assert (change.durable, item.run_id, item.seq, item.created_at) == (True, "new", 0, 7.0)
    assert (item.title, item.group) == ("new", None)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.item.title, change.ended_run.ended_at) == ("stopped", "old", 7.0)


def test_takeover_of_ended_run_keeps_its_end() -> None:
    made = make_started_board(status="failed")
    change = made.put("a", {"run_id": "new"}, OWNER_A, 7.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.ended_at) == ("failed", 0.0)


def test_superseded_run_cannot_take_item_back() -> None:
    made = make_started_board()
    made.put("a", {"run_id": "new"}, OWNER_A, 1.0)
    with pytest.raises(ProblemError) as problem:
        made.put("a", {"run_id": "r"}, OWNER_A, 2.0)
    assert problem_code(problem) == "run-superseded"
    made.delete("a", 3.0)
    assert made.put("a", {"run_id": "r"}, OWNER_A, 4.0).before is None


def test_delete_records_deleted_run_or_its_own_end() -> None:
    made = make_started_board()
    change = made.delete("a", 2.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.durable, made.get("a")) == ("deleted", True, None)
    assert [type(write) for write in change.writes()] == [AddHistory, DropItem]
    made = make_started_board(status="stopped")
    change = made.delete("a", 2.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.ended_at) == ("stopped", 0.0)


# Parts


def test_completed_is_sum_of_parts() -> None:
    made = make_started_board(total=100)
    made.put("a", {"run_id": "r", "part": "1", "completed": 10, "total": 100}, OWNER_A, 1.0)
    made.patch("a", {"part": "2", "completed": 5}, 1.0)
    item = item_after(made.patch("a", {"part": "1", "completed": 20}, 1.0))
    assert (item.completed, item.value) == (25, 0.25)


def test_each_part_has_its_own_seq() -> None:
    made = make_started_board()
    made.patch("a", {"part": "1", "completed": 10, "seq": 50}, 1.0)
    assert item_after(made.patch("a", {"part": "2", "completed": 1, "seq": 1}, 1.0)).completed == 11
    assert made.patch("a", {"part": "1", "completed": 5, "seq": 50}, 1.0).writes() == []
    assert item_after(made.patch("a", {"completed": 100, "seq": 1}, 1.0)).completed == 111


def test_part_joining_by_put_keeps_other_counts() -> None:
    made = make_started_board()
    made.put("a", {"run_id": "r", "part": "1", "completed": 10}, OWNER_A, 1.0)
    assert item_after(made.put("a", {"run_id": "r", "part": "2", "completed": 3}, OWNER_A, 1.0)).completed == 13


def test_new_run_begins_without_parts() -> None:
    made = make_started_board()
    made.patch("a", {"part": "1", "completed": 10}, 1.0)
    assert item_after(made.put("a", {"run_id": "new"}, OWNER_A, 1.0)).completed is None


def test_parts_beyond_limit_are_refused() -> None:
    made = make_started_board()
    for n in range(MAX_PARTS):
        made.patch("a", {"part": str(n), "completed": 2**53}, 1.0)
    assert made.require("a").completed == float(MAX_PARTS * 2**53)
    with pytest.raises(ProblemError) as problem:
        made.patch("a", {"part": "more", "completed": 1}, 1.0)
    assert (problem_code(problem), problem.value.field) == ("invalid-field", "part")
    made.patch("a", {"part": "0", "completed": 1}, 1.0)


# Owners


def test_items_of_owner_beyond_limit_are_refused() -> None:
    made = make_board(max_items=2)
    made.put("a", {}, OWNER_A, 0.0)
    made.create(parse_legacy(make_body(item_id="b")), OWNER_A, 0.0)
    for attempt in (
        lambda: made.put("c", {}, OWNER_A, 0.0),
        lambda: made.create(parse_legacy(make_body(item_id="c")), OWNER_A, 0.0),
    ):
        with pytest.raises(ProblemError) as problem:
            attempt()
        assert (problem_code(problem), problem.value.status) == ("too-many-items", 429)
    made.put("c", {}, OWNER_B, 0.0)
    made.put("a", {"run_id": "next"}, OWNER_A, 0.0)
    made.delete("a", 0.0)
    made.put("d", {}, OWNER_A, 0.0)


def test_takeover_moves_item_to_new_owners_quota() -> None:
    made = make_board(max_items=1)
    made.put("a", {"run_id": "r"}, OWNER_A, 0.0)
    made.put("a", {"run_id": "s"}, OWNER_B, 0.0)
    made.put("b", {}, OWNER_A, 0.0)
    with pytest.raises(ProblemError):
        made.put("c", {}, OWNER_B, 0.0)


# Undoing


def test_rollback_undoes_change() -> None:
    made = make_board(max_items=1)
    made.rollback(made.put("a", {}, OWNER_A, 0.0))
    assert made.get("a") is None
    change = made.put("b", {}, OWNER_A, 0.0)
    made.rollback(made.delete("b", 1.0))
    assert made.get("b") is change.after


def test_rollback_keeps_newer_change() -> None:
    made = make_board()
    change = made.put("a", {}, OWNER_A, 0.0)
    newer = item_after(made.patch("a", {"title": "newer"}, 1.0))
    assert made.rollback(change) is newer


# Time


def test_silent_item_is_stalled_until_next_write() -> None:
    made = make_started_board(heartbeat_timeout=10)
    assert not is_stalled(made.require("a"), 9.9)
    assert is_stalled(made.require("a"), 10.0)
    made.patch("a", {}, 11.0)
    assert not is_stalled(made.require("a"), 11.0)
    made.patch("a", {"status": "succeeded"}, 12.0)
    assert not is_stalled(made.require("a"), 99.0)


def test_each_stall_is_a_new_revision() -> None:
    made = make_started_board(heartbeat_timeout=10)
    made.patch("a", {}, 5.0)
    rev = made.rev
    made.sweep(10.0)
    assert made.rev == rev
    made.sweep(15.0)
    assert made.rev == rev + 1
    made.patch("a", {}, 16.0)
    rev = made.rev
    made.sweep(26.0)
    assert made.rev == rev + 1


def test_shorter_heartbeat_timeout_applies_at_once() -> None:
    made = make_started_board(heartbeat_timeout=1000)
    made.patch("a", {"heartbeat_timeout": 1}, 1.0)
    rev = made.rev
    made.sweep(2.0)
    assert made.rev == rev + 1


def test_ended_item_expires_with_its_end() -> None:
    made = make_started_board(ttl=30, status="failed")
    assert made.sweep(29.0) == []
    (change,) = made.sweep(30.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, made.get("a"), change.durable) == ("failed", None, False)


def test_expiry_counts_from_end_not_creation() -> None:
    made = make_started_board(ttl=30)
    made.patch("a", {"status": "succeeded"}, 100.0)
    assert made.sweep(129.0) == []
    assert len(made.sweep(130.0)) == 1


def test_revived_item_does_not_expire() -> None:
    made = make_started_board(ttl=30)
    made.update(parse_legacy(make_body(1)), 0.0)
    made.update(parse_legacy(make_body(0.5)), 1.0)
    assert made.sweep(100.0) == []


def test_loaded_items_expire_and_stall() -> None:
    made = make_started_board(ttl=30, status="failed")
    later = make_board(items=[made.require("a")])
    assert len(later.sweep(30.0)) == 1
    assert later.rev > made.rev


def test_list_is_sorted_by_weight_then_age() -> None:
    made = make_board()
    for item_id, weight in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        made.put(item_id, {"weight": weight}, OWNER_A, 0.0)
    assert [item.id for item in made.page()] == ["b", "d", "a", "c"]


# Rate and time left


def test_rate_is_smoothed_and_gives_eta() -> None:
    made = make_started_board(completed=0, total=100)
    made.patch("a", {"completed": 10}, 1.0)
    told_ = serialize_item(made.require("a"), 1.0)
    assert (told_["rate"], told_["eta"]) == (10.0, 9.0)
    made.patch("a", {"completed": 11}, 2.0)
    rate = serialize_item(made.require("a"), 2.0)["rate"]
    assert rate is not None
    assert 9.0 < rate < 10.0


def test_item_without_count_has_eta_but_no_rate() -> None:
    made = make_board()
    made.create(parse_legacy(make_body(0.0)), OWNER_A, 0.0)
    made.update(parse_legacy(make_body(0.25)), 10.0)
    told_ = serialize_item(made.require("a"), 10.0)
    assert (told_["rate"], told_["eta"]) == (None, 30.0)


def test_rate_ignores_signs_of_life_between_steps() -> None:
    made = make_started_board(completed=0, total=4)
    for minute in range(1, 30):
        made.patch("a", {"completed": minute // 10}, 60.0 * minute)
    told_ = serialize_item(made.require("a"), 1740.0)
    assert (told_["rate"], told_["eta"]) == (1 / 600, 1200.0)


def test_eta_grows_without_progress() -> None:
    made = make_started_board(completed=0, total=4)
    made.patch("a", {"completed": 1}, 600.0)
    left = [serialize_item(made.require("a"), 600.0 + waited)["eta"] for waited in (0, 600, 1200, 6000)]
    assert left == pytest.approx([1800.0, 1800.0, 3600.0, 18000.0])
    made.patch("a", {"description": "still there"}, 6600.0)
    assert serialize_item(made.require("a"), 6600.0)["eta"] == pytest.approx(18000.0)


def test_short_pause_keeps_rate() -> None:
    made = make_started_board(completed=0, total=100)
    made.patch("a", {"completed": 10}, 1.0)
    assert [serialize_item(made.require("a"), at)["eta"] for at in (1.0, 16.0, 31.0)] == [9.0, 9.0, 18.0]
    assert serialize_item(made.require("a"), 31.0)["rate"] == 5.0


def test_stalled_item_has_no_rate_or_eta() -> None:
    made = make_started_board(completed=0, total=100, heartbeat_timeout=5)
    made.patch("a", {"completed": 10}, 1.0)
    told_ = serialize_item(made.require("a"), 6.0)
    assert (told_["stalled"], told_["rate"], told_["eta"]) == (True, None, None)


def test_ended_item_has_no_rate_or_eta() -> None:
    made = make_started_board(completed=0, total=100)
    made.patch("a", {"completed": 10}, 1.0)
    made.patch("a", {"status": "stopped"}, 2.0)
    assert serialize_item(made.require("a"), 2.0)["rate"] is None
    assert serialize_item(made.require("a"), 2.0)["eta"] is None


@given(st.lists(st.tuples(st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53), st.floats(-10, 1e9))))
def test_rate_and_eta_are_finite_and_not_negative(steps: list[tuple[float, float]]) -> None:
    made = make_started_board(total=1000)
    now = 0.0
    for completed, elapsed in steps:
        now += elapsed
        made.patch("a", {"completed": completed}, now)
        item = serialize_item(made.require("a"), now)
        for number in (item["rate"], item["eta"]):
            assert number is None or (number >= 0 and math.isfinite(number))
        assert 0 <= item["value"] <= 1


# Whatever the order


@given(st.permutations(range(1, 8)), st.data())
def test_newest_write_wins_in_any_order(order: list[int], data: st.DataObject) -> None:
    made = make_started_board()
    repeated = order + data.draw(st.lists(st.sampled_from(order)))
    for seq in repeated:
        made.patch("a", {"run_id": "r", "seq": seq, "completed": seq * 10}, float(seq))
    assert (made.require("a").completed, made.require("a").seq) == (70, 7)


PROGRESS_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "run_id": st.just("r"),
        "seq": st.integers(0, 9),
        "completed": st.none() | st.integers(-5, 20) | st.floats(-1e300, 1e300),
        "description": st.sampled_from(["", "x"]),
    },
)


@example(10, [({"completed": -0.0}, 1.0), ({}, 1.0)])
@given(
    st.sampled_from([None, 0, 10, 2.5]), st.lists(st.tuples(PROGRESS_FIELDS, st.sampled_from([-1.0, 0.0, 0.1, 60.0])))
)
def test_fast_and_full_patch_have_same_result(total: float | None, patches: list[tuple[WriteFields, float]]) -> None:
    short, long = (
        make_started_board(total=total, heartbeat_timeout=5),
        make_started_board(total=total, heartbeat_timeout=5),
    )
    now = 0.0
    for fields, elapsed in patches:
        now += elapsed
        short.patch("a", fields, now)
        long._apply(long.require("a"), fields, now, overwrite=False)
        assert repr(short.require("a")) == repr(long.require("a"))
    assert (short.rev, short.drain_changes().groups) == (long.rev, long.drain_changes().groups)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=40))
def test_parts_sum_newest_counts(writes: list[tuple[str, int]]) -> None:
    made = make_started_board()
    for part, seq in writes:
        made.patch("a", {"part": part, "seq": seq, "completed": seq * 7}, 0.0)
    newest = {part: max(seq for name, seq in writes if name == part) for part, _ in writes}
    assert (made.require("a").completed or 0) == sum(seq * 7 for seq in newest.values())


BOARD_OPS = st.tuples(
    st.sampled_from(["create", "update", "put", "patch", "delete", "sweep"]),
    st.sampled_from("ab"),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.fixed_dictionaries(
        {},
        optional={
            "run_id": st.sampled_from(["r", "s"]),
            "seq": st.integers(0, 5),
            "status": st.sampled_from(["running", "succeeded", "failed", "stopped"]),
            "ttl": st.sampled_from([0, 5]),
            "heartbeat_timeout": st.sampled_from([0, 5]),
            "part": st.sampled_from(["1", "2"]),
            "completed": st.integers(0, 9),
        },
    ),
)


def _perform(made: Board, op: tuple[str, str, float, WriteFields], now: float) -> list[Change]:
    name, item_id, value, fields = op
    match name:
        case "create":
            return [made.create(parse_legacy(make_body(value, item_id)), OWNER_A, now)]
        case "update":
            return [made.update(parse_legacy(make_body(value, item_id)), now)]
        case "put":
            return [made.put(item_id, fields, OWNER_A, now)]
        case "patch":
            return [made.patch(item_id, fields, now)]
        case "delete":
            return [made.delete(item_id, now, run_id=fields.get("run_id"))]
    return made.sweep(now)


@settings(max_examples=150)
@given(st.lists(BOARD_OPS, max_size=40))
def test_persisted_writes_rebuild_the_board(ops: list[tuple[str, str, float, WriteFields]]) -> None:
    made = make_board(max_items=2)
    kept: dict[str, Item] = {}
    for step, op in enumerate(ops):
        rev, before = made.rev, made.page()
        try:
            changes = _perform(made, op, float(step))
        except ProblemError:
            assert made.page() == before
            continue
        assert made.rev >= rev
        for write in (write for change in changes for write in change.writes()):
            if isinstance(write, SaveItem):
                kept[write.item.id] = write.item
            elif isinstance(write, DropItem):
                del kept[write.id]
        assert sorted(kept) == sorted(item.id for item in made.page())
        for item in made.page():
            assert kept[item.id] is item
            assert (item.status == "running") is (item.ended_at is None)
    for item_id in list(kept):
        made.delete(item_id, 0.0)
    made.put("x", {}, OWNER_A, 0.0)
    made.put("y", {}, OWNER_A, 0.0)


# What is due, and may never be


@pytest.mark.parametrize("heap", ["_expiries", "_heartbeats", "_deadlines", "_abandonments"])
def test_postponed_timers_do_not_grow_heap(heap: str) -> None:
    made = make_board(give_up=1e9)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        made.put(new, {"heartbeat_timeout": 1e9, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        made.patch(new, {"status": "stopped", "ttl": 1e9}, 0.0)
        made.delete(new, 0.0)
        made.put("a", {"heartbeat_timeout": 1e9 - number, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        made.create(parse_legacy(make_body(1.0, "b")), OWNER_A, 0.0) if number == 0 else made.update(
            parse_legacy(make_body(number % 2, "b")), float(number)
        )
    assert len(getattr(made._timers, heap)) <= 2 * len(made) + STALE_ENTRIES
    assert len(made._timers.watched_ids) <= 2 * len(made) + STALE_ENTRIES


def test_compaction_keeps_due_timers() -> None:
    made = make_board()
    made.put("ended", {"status": "failed", "ttl": 50.0}, OWNER_A, 0.0)
    made.put("silent", {"heartbeat_timeout": 60.0}, OWNER_A, 0.0)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        made.put(new, {"status": "failed", "ttl": 1e9}, OWNER_A, 0.0)
        made.delete(new, 0.0)
        made.put(new, {"heartbeat_timeout": 1e9}, OWNER_A, 0.0)
        made.delete(new, 0.0)
    assert [change.id for change in made.sweep(50.0)] == ["ended"]
    made.patch("silent", {}, 55.0)
    rev = made.rev
    made.sweep(114.0)
    assert made.rev == rev
    made.sweep(115.0)
    assert made.rev > rev
