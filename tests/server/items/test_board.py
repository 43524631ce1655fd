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
    board = make_board()
    board.put("a", parse_write({"run_id": "r", **fields}, merge=False), OWNER_A, 0.0)
    return board


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
    board = make_board()
    board.create(parse_legacy(make_body()), OWNER_A, 0.0)
    with pytest.raises(ProblemError) as problem:
        board.create(parse_legacy(make_body()), OWNER_A, 0.0)
    assert problem_code(problem) == "item-exists"


def test_update_replaces_only_four_fields() -> None:
    board = make_started_board(
        completed=1, total=4, unit="B", group="g", parent="p", meta={"host": "h"}, seq=7, ttl=5, heartbeat_timeout=9
    )
    before = board.require("a")
    item = item_after(board.update(parse_legacy(make_body(0.9)), 3.0))
    assert (item.title, item.description, item.value, item.weight) == ("t", "d", 0.9, 1)
    for field in set(Item.__struct_fields__) - {"title", "description", "value", "weight", "updated_at", "rev"}:
        assert getattr(item, field) == getattr(before, field), field


def test_update_to_one_ends_run_and_lower_value_revives_it() -> None:
    board = make_started_board()
    ended = board.update(parse_legacy(make_body(1)), 5.0)
    assert (item_after(ended).status, item_after(ended).ended_at, ended.durable) == ("succeeded", 5.0, True)
    again = board.update(parse_legacy(make_body(1)), 6.0)
    assert (item_after(again).ended_at, again.durable) == (5.0, False)
    revived = board.update(parse_legacy(make_body(0.5)), 7.0)
    assert (item_after(revived).status, item_after(revived).ended_at, revived.durable) == ("running", None, True)


def test_update_between_zero_and_one_is_not_durable() -> None:
    board = make_started_board()
    assert not board.update(parse_legacy(make_body(0.6)), 1.0).durable


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
    board = make_started_board(title="t", total=5, group="g", meta={"a": "1"})
    item = item_after(board.patch("a", parse_write({"completed": 2}, merge=True), 1.0))
    assert (item.title, item.total, item.group, item.meta, item.value) == ("t", 5, "g", {"a": "1"}, 0.4)
    item = item_after(board.put("a", parse_write({"completed": 2, "run_id": "r"}, merge=False), OWNER_A, 1.0))
    assert (item.title, item.total, item.group, item.meta, item.value) == ("", None, None, {}, 0.0)


def test_patch_with_null_clears_fields() -> None:
    board = make_started_board(
        title="t", total=5, error="e", group="g", meta={"a": "1"}, ttl=4, weight=3, completed=1, unit="B"
    )
    nothing = dict.fromkeys(("title", "total", "error", "group", "meta", "ttl", "weight", "completed", "unit"))
    item = item_after(board.patch("a", parse_write(nothing, merge=True), 1.0))
    assert (item.title, item.total, item.error, item.group, item.meta, item.ttl) == ("", None, None, None, {}, None)
    assert (item.weight, item.completed, item.unit) == (0, None, "")


def test_patch_merges_meta_entry_by_entry() -> None:
    board = make_started_board(meta={"a": "1", "b": "2"})
    item = item_after(board.patch("a", parse_write({"meta": {"a": None, "c": "3"}}, merge=True), 1.0))
    assert item.meta == {"b": "2", "c": "3"}


def test_patch_cannot_grow_meta_beyond_limit() -> None:
    board = make_started_board(meta={str(n): "" for n in range(16)})
    with pytest.raises(ProblemError) as problem:
        board.patch("a", parse_write({"meta": {"one more": ""}}, merge=True), 1.0)
    assert problem.value.field == "meta"
    assert len(board.require("a").meta) == 16


def test_reaching_total_does_not_end_run() -> None:
    board = make_started_board(total=2)
    item = item_after(board.patch("a", {"completed": 2}, 1.0))
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
    board = make_started_board(status="succeeded")
    for write in ({}, {"run_id": "r", "seq": 9}, {"status": "running"}, {"status": "failed"}):
        with pytest.raises(ProblemError) as problem:
            board.patch("a", write, 1.0)
        assert problem_code(problem) == "run-ended"
    with pytest.raises(ProblemError) as problem:
        board.put("a", {"run_id": "r"}, OWNER_A, 1.0)
    assert problem_code(problem) == "run-ended"
    with pytest.raises(ProblemError) as problem:
        board.put("a", {}, OWNER_A, 1.0)
    assert problem_code(problem) == "run-ended"


def test_repeated_end_status_is_ignored() -> None:
    board = make_started_board(status="succeeded", seq=3)
    before = board.require("a")
    change = board.patch("a", {"run_id": "r", "seq": 4, "status": "succeeded"}, 9.0)
    assert (change.before, change.writes(), board.require("a")) == (before, [], before)


def test_old_write_to_ended_run_is_ignored() -> None:
    board = make_started_board(status="succeeded", seq=3)
    assert board.patch("a", {"run_id": "r", "seq": 2, "completed": 1}, 9.0).writes() == []


def test_old_seq_is_ignored_and_absent_seq_applied() -> None:
    board = make_started_board(seq=5, completed=5)
    assert board.patch("a", {"run_id": "r", "seq": 5, "completed": 1}, 1.0).writes() == []
    assert board.put("a", {"run_id": "r", "seq": 4, "completed": 1}, OWNER_A, 1.0).writes() == []
    assert item_after(board.patch("a", {"completed": 1}, 1.0)).completed == 1
    assert item_after(board.patch("a", {"seq": 6, "completed": 2}, 1.0)).seq == 6


def test_empty_patch_is_sign_of_life() -> None:
    board = make_started_board(heartbeat_timeout=10)
    assert item_after(board.patch("a", {"run_id": "r", "seq": 1}, 8.0)).updated_at == 8.0


def test_patch_and_delete_of_another_run_are_refused() -> None:
    board = make_started_board()
    for attempt in (lambda: board.patch("a", {"run_id": "x"}, 1.0), lambda: board.delete("a", 1.0, run_id="x")):
        with pytest.raises(ProblemError) as problem:
            attempt()
        assert problem_code(problem) == "run-superseded"


def test_put_of_another_run_takes_over_and_stops_old_run() -> None:
    board = make_started_board(title="old", group="g", seq=9)
    change = board.put("a", {"run_id": "new", "title": "new"}, OWNER_A, 7.0)
    item = item_after(change)
    assert change.before is not None
    assert (change.durable, item.run_id, item.seq, item.created_at) == (True, "new", 0, 7.0)
    assert (item.title, item.group) == ("new", None)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.item.title, change.ended_run.ended_at) == ("stopped", "old", 7.0)


def test_takeover_of_ended_run_keeps_its_end() -> None:
    board = make_started_board(status="failed")
    change = board.put("a", {"run_id": "new"}, OWNER_A, 7.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.ended_at) == ("failed", 0.0)


def test_superseded_run_cannot_take_item_back() -> None:
    board = make_started_board()
    board.put("a", {"run_id": "new"}, OWNER_A, 1.0)
    with pytest.raises(ProblemError) as problem:
        board.put("a", {"run_id": "r"}, OWNER_A, 2.0)
    assert problem_code(problem) == "run-superseded"
    board.delete("a", 3.0)
    assert board.put("a", {"run_id": "r"}, OWNER_A, 4.0).before is None


def test_delete_records_deleted_run_or_its_own_end() -> None:
    board = make_started_board()
    change = board.delete("a", 2.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.durable, board.get("a")) == ("deleted", True, None)
    assert [type(write) for write in change.writes()] == [AddHistory, DropItem]
    board = make_started_board(status="stopped")
    change = board.delete("a", 2.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, change.ended_run.ended_at) == ("stopped", 0.0)


# Parts


def test_completed_is_sum_of_parts() -> None:
    board = make_started_board(total=100)
    board.put("a", {"run_id": "r", "part": "1", "completed": 10, "total": 100}, OWNER_A, 1.0)
    board.patch("a", {"part": "2", "completed": 5}, 1.0)
    item = item_after(board.patch("a", {"part": "1", "completed": 20}, 1.0))
    assert (item.completed, item.value) == (25, 0.25)


def test_each_part_has_its_own_seq() -> None:
    board = make_started_board()
    board.patch("a", {"part": "1", "completed": 10, "seq": 50}, 1.0)
    assert item_after(board.patch("a", {"part": "2", "completed": 1, "seq": 1}, 1.0)).completed == 11
    assert board.patch("a", {"part": "1", "completed": 5, "seq": 50}, 1.0).writes() == []
    assert item_after(board.patch("a", {"completed": 100, "seq": 1}, 1.0)).completed == 111


def test_part_joining_by_put_keeps_other_counts() -> None:
    board = make_started_board()
    board.put("a", {"run_id": "r", "part": "1", "completed": 10}, OWNER_A, 1.0)
    assert item_after(board.put("a", {"run_id": "r", "part": "2", "completed": 3}, OWNER_A, 1.0)).completed == 13


def test_new_run_begins_without_parts() -> None:
    board = make_started_board()
    board.patch("a", {"part": "1", "completed": 10}, 1.0)
    assert item_after(board.put("a", {"run_id": "new"}, OWNER_A, 1.0)).completed is None


def test_parts_beyond_limit_are_refused() -> None:
    board = make_started_board()
    for n in range(MAX_PARTS):
        board.patch("a", {"part": str(n), "completed": 2**53}, 1.0)
    assert board.require("a").completed == float(MAX_PARTS * 2**53)
    with pytest.raises(ProblemError) as problem:
        board.patch("a", {"part": "more", "completed": 1}, 1.0)
    assert (problem_code(problem), problem.value.field) == ("invalid-field", "part")
    board.patch("a", {"part": "0", "completed": 1}, 1.0)


# Owners


def test_items_of_owner_beyond_limit_are_refused() -> None:
    board = make_board(max_items=2)
    board.put("a", {}, OWNER_A, 0.0)
    board.create(parse_legacy(make_body(item_id="b")), OWNER_A, 0.0)
    for attempt in (
        lambda: board.put("c", {}, OWNER_A, 0.0),
        lambda: board.create(parse_legacy(make_body(item_id="c")), OWNER_A, 0.0),
    ):
        with pytest.raises(ProblemError) as problem:
            attempt()
        assert (problem_code(problem), problem.value.status) == ("too-many-items", 429)
    board.put("c", {}, OWNER_B, 0.0)
    board.put("a", {"run_id": "next"}, OWNER_A, 0.0)
    board.delete("a", 0.0)
    board.put("d", {}, OWNER_A, 0.0)


def test_takeover_moves_item_to_new_owners_quota() -> None:
    board = make_board(max_items=1)
    board.put("a", {"run_id": "r"}, OWNER_A, 0.0)
    board.put("a", {"run_id": "s"}, OWNER_B, 0.0)
    board.put("b", {}, OWNER_A, 0.0)
    with pytest.raises(ProblemError):
        board.put("c", {}, OWNER_B, 0.0)


# Rollback


def test_rollback_undoes_change() -> None:
    board = make_board(max_items=1)
    board.rollback(board.put("a", {}, OWNER_A, 0.0))
    assert board.get("a") is None
    change = board.put("b", {}, OWNER_A, 0.0)
    board.rollback(board.delete("b", 1.0))
    assert board.get("b") is change.after


def test_rollback_keeps_newer_change() -> None:
    board = make_board()
    change = board.put("a", {}, OWNER_A, 0.0)
    newer = item_after(board.patch("a", {"title": "newer"}, 1.0))
    assert board.rollback(change) is newer


# Time


def test_silent_item_is_stalled_until_next_write() -> None:
    board = make_started_board(heartbeat_timeout=10)
    assert not is_stalled(board.require("a"), 9.9)
    assert is_stalled(board.require("a"), 10.0)
    board.patch("a", {}, 11.0)
    assert not is_stalled(board.require("a"), 11.0)
    board.patch("a", {"status": "succeeded"}, 12.0)
    assert not is_stalled(board.require("a"), 99.0)


def test_each_stall_is_a_new_revision() -> None:
    board = make_started_board(heartbeat_timeout=10)
    board.patch("a", {}, 5.0)
    rev = board.rev
    board.sweep(10.0)
    assert board.rev == rev
    board.sweep(15.0)
    assert board.rev == rev + 1
    board.patch("a", {}, 16.0)
    rev = board.rev
    board.sweep(26.0)
    assert board.rev == rev + 1


def test_shorter_heartbeat_timeout_applies_at_once() -> None:
    board = make_started_board(heartbeat_timeout=1000)
    board.patch("a", {"heartbeat_timeout": 1}, 1.0)
    rev = board.rev
    board.sweep(2.0)
    assert board.rev == rev + 1


def test_ended_item_expires_with_its_end() -> None:
    board = make_started_board(ttl=30, status="failed")
    assert board.sweep(29.0) == []
    (change,) = board.sweep(30.0)
    assert change.ended_run is not None
    assert (change.ended_run.status, board.get("a"), change.durable) == ("failed", None, False)


def test_expiry_counts_from_end_not_creation() -> None:
    board = make_started_board(ttl=30)
    board.patch("a", {"status": "succeeded"}, 100.0)
    assert board.sweep(129.0) == []
    assert len(board.sweep(130.0)) == 1


def test_revived_item_does_not_expire() -> None:
    board = make_started_board(ttl=30)
    board.update(parse_legacy(make_body(1)), 0.0)
    board.update(parse_legacy(make_body(0.5)), 1.0)
    assert board.sweep(100.0) == []


def test_loaded_items_expire_and_stall() -> None:
    board = make_started_board(ttl=30, status="failed")
    later = make_board(items=[board.require("a")])
    assert len(later.sweep(30.0)) == 1
    assert later.rev > board.rev


def test_list_is_sorted_by_weight_then_age() -> None:
    board = make_board()
    for item_id, weight in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        board.put(item_id, {"weight": weight}, OWNER_A, 0.0)
    assert [item.id for item in board.page()] == ["b", "d", "a", "c"]


# Rate and ETA


def test_rate_is_smoothed_and_gives_eta() -> None:
    board = make_started_board(completed=0, total=100)
    board.patch("a", {"completed": 10}, 1.0)
    item = serialize_item(board.require("a"), 1.0)
    assert (item["rate"], item["eta"]) == (10.0, 9.0)
    board.patch("a", {"completed": 11}, 2.0)
    rate = serialize_item(board.require("a"), 2.0)["rate"]
    assert rate is not None
    assert 9.0 < rate < 10.0


def test_item_without_count_has_eta_but_no_rate() -> None:
    board = make_board()
    board.create(parse_legacy(make_body(0.0)), OWNER_A, 0.0)
    board.update(parse_legacy(make_body(0.25)), 10.0)
    item = serialize_item(board.require("a"), 10.0)
    assert (item["rate"], item["eta"]) == (None, 30.0)


def test_rate_ignores_signs_of_life_between_steps() -> None:
    board = make_started_board(completed=0, total=4)
    for minute in range(1, 30):
        board.patch("a", {"completed": minute // 10}, 60.0 * minute)
    item = serialize_item(board.require("a"), 1740.0)
    assert (item["rate"], item["eta"]) == (1 / 600, 1200.0)


def test_eta_grows_without_progress() -> None:
    board = make_started_board(completed=0, total=4)
    board.patch("a", {"completed": 1}, 600.0)
    left = [serialize_item(board.require("a"), 600.0 + waited)["eta"] for waited in (0, 600, 1200, 6000)]
    assert left == pytest.approx([1800.0, 1800.0, 3600.0, 18000.0])
    board.patch("a", {"description": "still there"}, 6600.0)
    assert serialize_item(board.require("a"), 6600.0)["eta"] == pytest.approx(18000.0)


def test_short_pause_keeps_rate() -> None:
    board = make_started_board(completed=0, total=100)
    board.patch("a", {"completed": 10}, 1.0)
    assert [serialize_item(board.require("a"), at)["eta"] for at in (1.0, 16.0, 31.0)] == [9.0, 9.0, 18.0]
    assert serialize_item(board.require("a"), 31.0)["rate"] == 5.0


def test_stalled_item_has_no_rate_or_eta() -> None:
    board = make_started_board(completed=0, total=100, heartbeat_timeout=5)
    board.patch("a", {"completed": 10}, 1.0)
    item = serialize_item(board.require("a"), 6.0)
    assert (item["stalled"], item["rate"], item["eta"]) == (True, None, None)


def test_ended_item_has_no_rate_or_eta() -> None:
    board = make_started_board(completed=0, total=100)
    board.patch("a", {"completed": 10}, 1.0)
    board.patch("a", {"status": "stopped"}, 2.0)
    assert serialize_item(board.require("a"), 2.0)["rate"] is None
    assert serialize_item(board.require("a"), 2.0)["eta"] is None


@given(st.lists(st.tuples(st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53), st.floats(-10, 1e9))))
def test_rate_and_eta_are_finite_and_not_negative(steps: list[tuple[float, float]]) -> None:
    board = make_started_board(total=1000)
    now = 0.0
    for completed, elapsed in steps:
        now += elapsed
        board.patch("a", {"completed": completed}, now)
        item = serialize_item(board.require("a"), now)
        for number in (item["rate"], item["eta"]):
            assert number is None or (number >= 0 and math.isfinite(number))
        assert 0 <= item["value"] <= 1


# Order of writes


@given(st.permutations(range(1, 8)), st.data())
def test_newest_write_wins_in_any_order(order: list[int], data: st.DataObject) -> None:
    board = make_started_board()
    repeated = order + data.draw(st.lists(st.sampled_from(order)))
    for seq in repeated:
        board.patch("a", {"run_id": "r", "seq": seq, "completed": seq * 10}, float(seq))
    assert (board.require("a").completed, board.require("a").seq) == (70, 7)


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
    """The title, a field beyond progress, makes the other board skip the early exit."""
    fast, full = (make_started_board(total=total, heartbeat_timeout=5) for _ in range(2))
    now = 0.0
    for fields, elapsed in patches:
        now += elapsed
        fast.patch("a", fields, now)
        full.patch("a", {**fields, "title": ""}, now)
        assert repr(fast.require("a")) == repr(full.require("a"))
    assert (fast.rev, fast.drain_changes().groups) == (full.rev, full.drain_changes().groups)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=40))
def test_parts_sum_newest_counts(writes: list[tuple[str, int]]) -> None:
    board = make_started_board()
    for part, seq in writes:
        board.patch("a", {"part": part, "seq": seq, "completed": seq * 7}, 0.0)
    newest = {part: max(seq for name, seq in writes if name == part) for part, _ in writes}
    assert (board.require("a").completed or 0) == sum(seq * 7 for seq in newest.values())


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


def perform_op(board: Board, op: tuple[str, str, float, WriteFields], now: float) -> list[Change]:
    name, item_id, value, fields = op
    match name:
        case "create":
            return [board.create(parse_legacy(make_body(value, item_id)), OWNER_A, now)]
        case "update":
            return [board.update(parse_legacy(make_body(value, item_id)), now)]
        case "put":
            return [board.put(item_id, fields, OWNER_A, now)]
        case "patch":
            return [board.patch(item_id, fields, now)]
        case "delete":
            return [board.delete(item_id, now, run_id=fields.get("run_id"))]
    return board.sweep(now)


@settings(max_examples=150)
@given(st.lists(BOARD_OPS, max_size=40))
def test_persisted_writes_rebuild_the_board(ops: list[tuple[str, str, float, WriteFields]]) -> None:
    board = make_board(max_items=2)
    stored: dict[str, Item] = {}
    for step, op in enumerate(ops):
        rev, before = board.rev, board.page()
        try:
            changes = perform_op(board, op, float(step))
        except ProblemError:
            assert board.page() == before
            continue
        assert board.rev >= rev
        for write in (write for change in changes for write in change.writes()):
            if isinstance(write, SaveItem):
                stored[write.item.id] = write.item
            elif isinstance(write, DropItem):
                del stored[write.id]
        assert sorted(stored) == sorted(item.id for item in board.page())
        for item in board.page():
            assert stored[item.id] is item
            assert (item.status == "running") is (item.ended_at is None)
    for item_id in list(stored):
        board.delete(item_id, 0.0)
    board.put("x", {}, OWNER_A, 0.0)
    board.put("y", {}, OWNER_A, 0.0)


# Timers


@pytest.mark.parametrize("heap", ["_expiries", "_heartbeats", "_deadlines", "_abandonments"])
def test_postponed_timers_do_not_grow_heap(heap: str) -> None:
    board = make_board(give_up=1e9)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        board.put(new, {"heartbeat_timeout": 1e9, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        board.patch(new, {"status": "stopped", "ttl": 1e9}, 0.0)
        board.delete(new, 0.0)
        board.put("a", {"heartbeat_timeout": 1e9 - number, "deadline_at": 1e9 + number}, OWNER_A, 0.0)
        board.create(parse_legacy(make_body(1.0, "b")), OWNER_A, 0.0) if number == 0 else board.update(
            parse_legacy(make_body(number % 2, "b")), float(number)
        )
    assert len(getattr(board._timers, heap)) <= 2 * len(board) + STALE_ENTRIES
    assert len(board._timers.watched_ids) <= 2 * len(board) + STALE_ENTRIES


def test_compaction_keeps_due_timers() -> None:
    board = make_board()
    board.put("ended", {"status": "failed", "ttl": 50.0}, OWNER_A, 0.0)
    board.put("silent", {"heartbeat_timeout": 60.0}, OWNER_A, 0.0)
    for number in range(3 * STALE_ENTRIES):
        new = f"new {number}"
        board.put(new, {"status": "failed", "ttl": 1e9}, OWNER_A, 0.0)
        board.delete(new, 0.0)
        board.put(new, {"heartbeat_timeout": 1e9}, OWNER_A, 0.0)
        board.delete(new, 0.0)
    assert [change.id for change in board.sweep(50.0)] == ["ended"]
    board.patch("silent", {}, 55.0)
    rev = board.rev
    board.sweep(114.0)
    assert board.rev == rev
    board.sweep(115.0)
    assert board.rev > rev
