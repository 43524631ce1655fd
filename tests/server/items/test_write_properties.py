"""Properties of writes that hold for every body, every order and every pair of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from progressbar_tracker import _models
from progressbar_tracker.server.access.authorization import Principal
from progressbar_tracker.server.api.items import _OP_FUNCTIONS
from progressbar_tracker.server.http.json_body import decode_object
from progressbar_tracker.server.items.validation import (
    InvalidOperation,
    parse_batch,
    parse_batch_fast,
    parse_legacy,
    parse_legacy_fast,
)
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.problems import ProblemError
from tests.support.boards import make_board, serialize_item
from tests.support.server import make_legacy_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.change import Change
    from tests.support.server import RunningServer

WRITE_PRINCIPAL: Final = Principal("me", "ci", "write")
WRITABLE_FIELDS: Final = set(_models.ItemWrite.__annotations__) | {"id", "op"}
READ_ONLY_FIELDS: Final = sorted(
    (set(Item.__struct_fields__) | set(_models.Item.__annotations__)) - WRITABLE_FIELDS
    | {"boot_id", "deleted", "key_id"}
)

Op = dict[str, Any]


def apply_op(board: Board, op: Op, now: float = 0.0) -> Change | None:
    """Apply an operation as a batch does; return ``None`` for a refused one."""
    raw = json.dumps({"ops": [op]}).encode()
    fast = parse_batch_fast(raw)
    (parsed,) = parse_batch(decode_object(raw)) if fast is None else fast
    if isinstance(parsed, InvalidOperation):
        return None
    try:
        return _OP_FUNCTIONS[parsed["op"]](board, WRITE_PRINCIPAL, parsed["id"], parsed, now)
    except ProblemError:
        return None


def board_state(board: Board) -> list[dict[str, object]]:
    return [asdict(item) for item in sorted(board.snapshot(), key=lambda item: item.id)]


def serialize_stable_fields(board: Board, item_id: str = "a") -> dict[str, object]:
    """Return an item's response without the fields that depend on the time."""
    item: dict[str, object] = dict(serialize_item(board.require(item_id), 0.0))
    return {name: item[name] for name in sorted(item.keys() & (WRITABLE_FIELDS | {"status", "value"}))}


texts = st.sampled_from(["", "x", "two\nlines", "ü😀"])
lines = st.sampled_from(["", "x", "ü😀"])
fields = st.fixed_dictionaries(
    {},
    optional={
        "title": lines | st.none(),
        "description": texts | st.none(),
        "value": st.floats(0, 1),
        "completed": st.none() | st.integers(0, 20),
        "total": st.none() | st.integers(0, 20),
        "unit": lines | st.none(),
        "weight": st.integers(-5, 5),
        "error": texts | st.none(),
        "group": lines | st.none(),
        "parent": lines | st.none(),
        "heartbeat_timeout": st.none() | st.integers(0, 9),
        "ttl": st.none() | st.integers(0, 9),
    },
)
entries = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]))
patches = st.builds(
    lambda some, meta: some if meta is None else {**some, "meta": meta},
    fields,
    st.none() | st.dictionaries(st.sampled_from("abc"), st.none() | st.sampled_from(["", "1", "2"])),
)
puts = st.builds(lambda some, meta: some if meta is None else {**some, "meta": meta}, fields, st.none() | entries)
junk = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just({"a": []})
injected = st.dictionaries(st.sampled_from(READ_ONLY_FIELDS), junk, min_size=1)
ops = st.builds(
    lambda name, some, seq, item_id: {"op": name, "id": item_id, **some, **({} if seq is None else {"seq": seq})},
    st.sampled_from(["put", "patch", "patch", "delete"]),
    puts,
    st.none() | st.integers(0, 9),
    st.sampled_from("ab"),
)


# Read-only fields


@given(st.lists(st.tuples(ops, injected), max_size=8))
def test_read_only_fields_change_nothing(steps: list[tuple[Op, Op]]) -> None:
    plain, attacked = make_board(), make_board()
    for now, (op, more) in enumerate(steps):
        assert (apply_op(plain, op, now) is None) is (apply_op(attacked, {**more, **op}, now) is None)
        assert board_state(plain) == board_state(attacked)
    assert plain.rev == attacked.rev


@given(injected, st.sampled_from([0.0, 0.5, 1.0]))
def test_legacy_body_has_only_five_fields(more: Op, value: float) -> None:
    more |= {"status": "failed", "group": "g", "owner": "x", "run_id": "x", "seq": 9, "completed": 3}
    raw = json.dumps({**more, **make_legacy_item("a", value)}).encode()
    assert (parse_legacy_fast(raw) or parse_legacy(decode_object(raw))) == make_legacy_item("a", value)


def test_no_route_writes_read_only_fields(module_server: RunningServer) -> None:
    http = module_server.client("write")
    wrong = dict.fromkeys(READ_ONLY_FIELDS, "injected")
    http.post("/progress", json={**wrong, **make_legacy_item("l")})
    http.put("/progress", json={**wrong, **make_legacy_item("l", 0.6)})
    http.put("/api/v1/items/p", json={**wrong, "total": 2})
    http.patch("/api/v1/items/p", json={**wrong, "completed": 1})
    http.post("/api/v1/items:batch", json={"ops": [{**wrong, "op": name, "id": "b"} for name in ("put", "patch")]})
    found = http.get("/api/v1/items").json()["items"]
    assert {"l", "p", "b"} <= {item["id"] for item in found}
    assert "injected" not in json.dumps(found)
    assert {item["owner"] for item in found} == {"write"}
    services = module_server.background.app.services
    assert "injected" not in json.dumps([asdict(item) for item in services.board.snapshot()], default=str)


# PATCH and PUT


FIELD_DEFAULTS: Final = {"title": "", "description": "", "unit": "", "meta": {}}


def merge_patch(document: object, patch: object) -> object:
    """Merge as RFC 7396 describes."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


@given(puts, st.lists(patches, max_size=4))
def test_patch_follows_rfc_7396(first: Op, later: list[Op]) -> None:
    board = make_board()
    apply_op(board, {"op": "put", "id": "a", **first})
    for patch in later:
        before = serialize_stable_fields(board)
        assert apply_op(board, {"op": "patch", "id": "a", **patch}) is not None
        expected: Any = merge_patch(before, patch)
        now = serialize_stable_fields(board)
        for name in before.keys() - {"value", "seq", "status"}:
            # An empty text means null where null is allowed.
            wanted = expected.get(name, FIELD_DEFAULTS.get(name))
            assert now[name] == (wanted or None if name in {"error", "group", "parent"} else wanted), name


@given(puts, patches, st.integers(1, 9))
def test_repeated_seq_does_nothing(first: Op, patch: Op, seq: int) -> None:
    board = make_board()
    apply_op(board, {"op": "put", "id": "a", "run_id": "r", **first})
    patch = {"op": "patch", "id": "a", "run_id": "r", **patch, "seq": seq}
    once = apply_op(board, patch, 1.0)
    rev, state = board.rev, board_state(board)
    assert once is not None
    for late in (patch, {**patch, "seq": seq - 1}, {**patch, "title": "other"}):
        again = apply_op(board, late, 2.0)
        assert again is not None
        assert (again.after is again.before, again.writes(), again.durable) == (True, [], False)
        assert (board.rev, board_state(board)) == (rev, state)


@given(puts, puts | patches, st.sampled_from(["put", "patch"]), st.sampled_from([None, "r"]))
def test_write_is_idempotent(first: Op, write: Op, name: str, run_id: str | None) -> None:
    board = make_board()
    apply_op(board, {"op": "put", "id": "a", "run_id": "r", **first})
    write = {"op": name, "id": "a", **write, **({} if run_id is None else {"run_id": run_id})}
    once = apply_op(board, write)
    state = serialize_stable_fields(board)
    twice = apply_op(board, write)
    assert (once is None) is (twice is None)
    assert serialize_stable_fields(board) == state


@given(puts, st.sampled_from(["succeeded", "failed", "stopped"]))
def test_repeated_end_is_one_end(first: Op, status: str) -> None:
    board = make_board()
    put = {"op": "put", "id": "a", "run_id": "r", **first, "status": status}
    once, state = apply_op(board, put, 1.0), board_state(board)
    twice = apply_op(board, put, 2.0)
    assert once is not None
    assert twice is not None
    assert (twice.ended_run, board.require("a").ended_at) == (None, 1.0)
    assert [one | {"updated_at": 0, "rev": 0} for one in board_state(board)] == [
        one | {"updated_at": 0, "rev": 0} for one in state
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(ops, min_size=1, max_size=6))
def test_batch_equals_single_operations(module_server: RunningServer, some: list[Op]) -> None:
    http = module_server.client("write") if len(module_server.clients) < 3 else module_server.clients[-1]
    some = [{"op": "put", "id": "a"}, *some]
    try:
        batch = http.post("/api/v1/items:batch", json={"ops": [{**op, "id": f"x{op['id']}"} for op in some]}).json()
        single = []
        for op in some:
            body = {name: value for name, value in op.items() if name not in {"op", "id"}}
            reply = http.request(op["op"], f"/api/v1/items/y{op['id']}", json=body if op["op"] != "delete" else None)
            single.append(reply.status_code)
        assert [result["status"] for result in batch["results"]] == single
        listed = http.get("/api/v1/items").json()["items"]
        found: dict[str, dict[str, object]] = {item["id"]: item for item in listed}
        for name in "ab":
            one, other = found.get(f"x{name}"), found.get(f"y{name}")
            assert (one is None) is (other is None)
            if one is not None and other is not None:
                apart = {"id", "run_id"}
                assert {k: v for k, v in one.items() if k not in apart} == {
                    k: v for k, v in other.items() if k not in apart
                }
    finally:
        clear = [{"op": "delete", "id": f"{side}{name}"} for side in "xy" for name in "ab"]
        http.post("/api/v1/items:batch", json={"ops": clear})


INITIAL_OPS: dict[str, list[Op]] = {
    "running": [],
    "with a total": [{"total": 4, "completed": 1}],
    "a value": [{"value": 0.25}],
    "ended": [{"status": "failed", "error": "disk full"}],
    "of parts": [{"part": "p", "seq": 1, "completed": 2}],
    "expected to be heard": [{"heartbeat_timeout": 5}],
}
STEP_FIELDS: list[Op] = [
    {}, {"completed": 3}, {"completed": 3, "seq": 2}, {"completed": 3, "seq": 0}, {"completed": 3, "run_id": "r"},
    {"completed": 3, "run_id": "another"}, {"completed": None}, {"description": "half"}, {"description": "two\nlines"},
    {"description": None}, {"description": "\a"}, {"seq": 2.0}, {"seq": None}, {"run_id": None}, {"completed": 2**60},
]  # fmt: skip


@pytest.mark.parametrize("step", STEP_FIELDS, ids=repr)
@pytest.mark.parametrize("beginning", INITIAL_OPS)
def test_progress_in_batch_equals_single_patch(module_server: RunningServer, beginning: str, step: Op) -> None:
    http = module_server.client("write")
    try:
        for name in ("batched", "alone"):
            http.put(f"/api/v1/items/{name}", json={"run_id": "r", "seq": 0}).raise_for_status()
            for write in INITIAL_OPS[beginning]:
                http.patch(f"/api/v1/items/{name}", json=write).raise_for_status()
        op = {"op": "patch", "id": "batched", **step}
        (batched,) = http.post("/api/v1/items:batch", json={"ops": [op]}).json()["results"]
        alone = http.patch("/api/v1/items/alone", json=step)
        assert batched["status"] == alone.status_code
        if alone.status_code != 200:
            assert batched["problem"]["type"] == alone.json()["type"]
        one, other = (http.get(f"/api/v1/items/{name}").json() for name in ("batched", "alone"))
        assert {**one, "id": ""} == {**other, "id": ""}
    finally:
        http.close()
        clear = [{"op": "delete", "id": name} for name in ("batched", "alone")]
        module_server.client("write").post("/api/v1/items:batch", json={"ops": clear})


# Parts


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["", "1", "2", "3"]), st.integers(0, 6)), st.integers(0, 2**50), min_size=1
    ),
    st.data(),
)
def test_parts_sum_exactly_in_any_order_with_repeats(counts: dict[tuple[str, int], int], data: st.DataObject) -> None:
    writes = data.draw(st.permutations(list(counts)))
    writes += data.draw(st.lists(st.sampled_from(writes)))
    board = make_board()
    apply_op(board, {"op": "put", "id": "a", "run_id": "r"})
    for part, seq in writes:
        named = {"part": part} if part else {}
        apply_op(board, {"op": "patch", "id": "a", "run_id": "r", "seq": seq, "completed": counts[part, seq], **named})
    newest = {part: max(seq for name, seq in counts if name == part) for part, _ in counts}
    # The PUT started the run's own counter at 0, so a write with seq 0 is not new.
    wanted = [counts[part, seq] for part, seq in newest.items() if part or seq]
    assert board.require("a").completed == (sum(wanted) if wanted else None)


# Ends and runs


@given(st.sampled_from(["succeeded", "failed", "stopped"]), st.lists(st.tuples(ops, st.booleans()), max_size=8))
def test_end_is_final_for_run(status: str, later: list[tuple[Op, bool]]) -> None:
    board = make_board()
    apply_op(board, {"op": "put", "id": "a", "run_id": "r", "completed": 3, "total": 7})
    apply_op(board, {"op": "patch", "id": "a", "run_id": "r", "status": status}, 1.0)
    state = serialize_stable_fields(board)
    for now, (op, revives) in enumerate(later, 2):
        if op["op"] != "delete":
            again = {"status": "running"} if revives else {}
            apply_op(board, {**op, **again, "id": "a", "run_id": "r"}, now)
            assert {**serialize_stable_fields(board), "seq": 0} == {**state, "seq": 0}
            assert board.require("a").ended_at == 1.0


RUN_OPS: Final = {
    "one": [
        {"op": "put", "total": 10, "description": "one", "meta": {"host": "one"}},
        {"op": "patch", "completed": 4},
        {"op": "patch", "part": "p", "completed": 2},
        {"op": "patch", "status": "succeeded"},
    ],
    "two": [
        {"op": "put", "total": 20, "title": "two"},
        {"op": "patch", "completed": 5, "group": "two"},
        {"op": "patch", "error": "two", "status": "failed"},
    ],
}


def apply_steps(board: Board, steps: Sequence[tuple[str, int]]) -> list[Change | None]:
    return [
        apply_op(board, {**RUN_OPS[run][number], "id": "a", "run_id": run, "seq": number + 1}, float(now))
        for now, (run, number) in enumerate(steps)
    ]


def interleavings(first: list[tuple[str, int]], second: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    if not first or not second:
        return [first + second]
    return [[first[0], *rest] for rest in interleavings(first[1:], second)] + [
        [second[0], *rest] for rest in interleavings(first, second[1:])
    ]


def test_interleaved_runs_leave_one_complete_run() -> None:
    steps = {run: [(run, number) for number in range(len(writes))] for run, writes in RUN_OPS.items()}
    alone = {}
    for run in RUN_OPS:
        board = make_board()
        assert None not in apply_steps(board, steps[run])
        alone[run] = serialize_stable_fields(board)
    both = interleavings(steps["one"], steps["two"])
    assert len(both) == 35
    for order in both:
        board = make_board()
        changes = apply_steps(board, order)
        # The later run has the item. The other moved to the history once, with its own writes only.
        winner = max(RUN_OPS, key=lambda run: order.index((run, 0)))
        assert serialize_stable_fields(board) == alone[winner], order
        gone = [change.ended_run for change in changes if change is not None and change.ended_run is not None]
        (ended,) = gone
        assert ended.item.run_id != winner
        own = [step for step in order[: order.index((winner, 0))] if step[0] != winner]
        apart = make_board()
        apply_steps(apart, own)
        assert {**asdict(ended.item), "rev": 0} == {**asdict(apart.require("a")), "rev": 0, "born": ended.item.born} | {
            name: getattr(ended.item, name) for name in ("updated_at", "created_at", "ended_at", "started_at",
                                                         "progressed_at", "progress")
        }  # fmt: skip


@given(st.data())
def test_superseded_run_changes_nothing(data: st.DataObject) -> None:
    board = make_board()
    apply_steps(board, [("one", 0), ("one", 1), ("two", 0)])
    state = board_state(board)
    for step in data.draw(st.lists(st.sampled_from([("one", number) for number in range(4)]))):
        assert apply_steps(board, [step]) == [None]
        assert board_state(board) == state
    apply_op(board, {"op": "delete", "id": "a", "run_id": "one"})
    assert board_state(board) == state
