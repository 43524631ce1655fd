"""The fields ``deadline`` and ``notify``: their validation, and when an item is late."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from progressbar_tracker.server.items.validation import parse_write, parse_write_fast
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError
from tests.support.boards import OWNER_A, make_board, serialize_item

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board

DUE_AT = 1000.0


def parse_fields(**body: object) -> dict[str, object]:
    return parse_write(body, merge=True)


def make_running_board(deadline: float | None = DUE_AT, **body: object) -> Board:
    board = make_board()
    named = {} if deadline is None else {"deadline": rfc3339(deadline)}
    board.put("a", parse_fields(run_id="r", **named, **body), OWNER_A, 0.0)
    return board


def is_late(board: Board, now: float) -> bool:
    return serialize_item(board.require("a"), now)["late"]


def test_item_is_late_from_deadline_on() -> None:
    board = make_running_board()
    assert [is_late(board, now) for now in (0.0, DUE_AT - 0.01, DUE_AT, DUE_AT + 1e6)] == [False, False, True, True]
    assert serialize_item(board.require("a"), 0.0)["deadline"] == rfc3339(DUE_AT)


def test_item_without_deadline_is_never_late() -> None:
    assert not is_late(make_running_board(None), 1e12)


@pytest.mark.parametrize("end", ["succeeded", "failed", "stopped"])
def test_ended_item_is_not_late(end: str) -> None:
    board = make_running_board()
    board.patch("a", parse_fields(status=end), DUE_AT + 5)
    assert not is_late(board, DUE_AT + 6)


def test_item_with_heartbeats_is_late_but_not_stalled() -> None:
    board = make_running_board(heartbeat_timeout=10)
    board.patch("a", parse_fields(), DUE_AT + 1)
    wire = serialize_item(board.require("a"), DUE_AT + 2)
    assert (wire["late"], wire["stalled"]) == (True, False)


def test_passed_deadline_is_published_without_write() -> None:
    board = make_running_board()
    board.drain_changes()
    board.sweep(DUE_AT - 1)
    assert not board.drain_changes().groups
    board.sweep(DUE_AT)
    assert set(board.drain_changes().groups) == {"a"}
    assert board.drain_overdue() == [("a", "late")]
    board.sweep(DUE_AT + 1)
    assert not board.drain_changes().groups
    assert board.drain_overdue() == []


def test_moved_deadline_replaces_old_one() -> None:
    board = make_running_board()
    board.patch("a", parse_fields(deadline=rfc3339(DUE_AT + 50)), 1.0)
    board.sweep(DUE_AT)
    assert board.drain_overdue() == []
    board.sweep(DUE_AT + 50)
    assert board.drain_overdue() == [("a", "late")]


def test_cleared_deadline_has_no_effect() -> None:
    board = make_running_board()
    board.patch("a", parse_fields(deadline=None), 1.0)
    board.sweep(DUE_AT)
    assert board.drain_overdue() == []
    assert serialize_item(board.require("a"), DUE_AT)["deadline"] is None


def test_progress_keeps_deadline_and_channels() -> None:
    board = make_running_board(notify=["phone"])
    board.patch("a", {"run_id": "r", "seq": 1, "completed": 3}, 1.0)
    wire = serialize_item(board.require("a"), DUE_AT)
    assert (wire["late"], wire["notify"], wire["completed"]) == (True, ["phone"], 3)


def test_new_run_inherits_no_deadline_or_channels() -> None:
    board = make_running_board(notify=["phone"])
    board.put("a", parse_fields(run_id="other"), OWNER_A, 1.0)
    wire = serialize_item(board.require("a"), DUE_AT)
    assert (wire["deadline"], wire["notify"]) == (None, [])


@pytest.mark.parametrize(
    "instant",
    ["soon", "", 5, 1e3, True, [], "2026-01-01T00:00:00", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00",
     "2026-13-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "2" * 400],
)  # fmt: skip
def test_invalid_deadline_is_refused_by_name(instant: object) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_fields(deadline=instant)
    assert refused.value.field == "deadline"


@pytest.mark.parametrize("names", ["phone", 5, {}, [5], [""], ["a" * 65], ["a\n"], [None], list("abcdefghi")])
def test_invalid_notify_is_refused_by_name(names: object) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_fields(notify=names)
    assert refused.value.field == "notify"


def test_repeated_channel_is_stored_once() -> None:
    assert parse_fields(notify=["a", "b", "a"])["notify"] == ("a", "b")
    assert parse_fields(notify=None)["notify"] == ()


@pytest.mark.parametrize("body", [b'{"deadline": null}', b'{"notify": null}', b'{"notify": ["a"]}'])
def test_fast_reader_rejects_deadline_and_notify(body: bytes) -> None:
    assert parse_write_fast(body) is None


@pytest.mark.parametrize(
    "instant",
    ["1970-01-01T07:59:59+08:00", "1969-12-31T23:59:59Z", "9998-12-31T16:00:00-08:00", "9999-01-01T00:00:00Z",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_instant_outside_utc_years_is_refused(instant: str) -> None:
    with pytest.raises(ProblemError, match="from 1970 to 9998 in UTC"):
        parse_fields(deadline=instant)


@pytest.mark.parametrize("instant", ["1969-12-31T16:00:00-08:00", "9999-01-01T07:59:59.999+08:00"])
def test_instant_inside_utc_years_is_valid_with_any_offset(instant: str) -> None:
    at = parse_fields(deadline=instant)["deadline_at"]
    assert parse_fields(deadline=rfc3339(at))["deadline_at"] == pytest.approx(at, abs=0.0011)


@example(datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=8))))
@given(st.datetimes(timezones=st.timezones()))
def test_valid_instant_is_serialized(instant: object) -> None:
    try:
        at = parse_fields(deadline=instant.isoformat())["deadline_at"]  # type: ignore[attr-defined]
    except ProblemError:
        return
    assert parse_fields(deadline=rfc3339(at))["deadline_at"] == pytest.approx(at, abs=0.0011)
