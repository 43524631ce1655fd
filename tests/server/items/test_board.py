"""The rules of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.items.transition import MAX_PARTS
from progressbar_tracker.server.items.validation import WriteFields, parse_legacy, parse_write
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.mutations import AddHistory, DropItem, SaveItem
from progressbar_tracker.server.problems import ProblemError
from tests.support.boards import OWNER_A, OWNER_B, item_after, make_board, make_body, make_started_board, problem_code

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.change import Change

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


def test_list_is_sorted_by_weight_then_age() -> None:
    board = make_board()
    for item_id, weight in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        board.put(item_id, {"weight": weight}, OWNER_A, 0.0)
    assert [item.id for item in board.page()] == ["b", "d", "a", "c"]


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


def test_list_is_complete_after_the_clock_was_set_back() -> None:
    """Items that were created after the new instant begin before it, so their places in the list change."""
    board = make_board()
    for n, item_id in enumerate("cab"):
        board.put(item_id, {"run_id": "r"}, OWNER_A, 100.0 + n)
    board.set_clock(50.0, -53.0, 50.0)
    assert [item.id for item in board.page()] == ["c", "a", "b"]
    board.delete("a", 51.0)
    board.put("d", {"run_id": "r"}, OWNER_A, 52.0)
    assert [item.id for item in board.page()] == ["c", "b", "d"]
