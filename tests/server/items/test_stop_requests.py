"""Requests to stop a run, on the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.merge import three_way_merge
from progressbar_tracker.server.models import StopRequest
from progressbar_tracker.server.problems import ProblemError
from tests.support.items import make_item

if TYPE_CHECKING:
    from progressbar_tracker.server.items.validation import WriteFields

ITEM_OWNER = Owner("id", "name")


@pytest.fixture
def board() -> Board:
    board = Board(max_items=9, new_run_id=lambda: "generated")
    board.put("a", {"run_id": "r", "stoppable": True, "completed": 1}, ITEM_OWNER, 1.0)
    return board


def test_first_request_stays_when_it_is_repeated(board: Board) -> None:
    board.request_stop("a", "first", 2.0)
    change = board.request_stop("a", "second", 3.0, run_id="r")
    assert change.after is not None
    assert change.after.stop_request == StopRequest(2.0, "first")
    assert change.durable  # it waits for the commit of the first one


def test_request_is_no_sign_of_life(board: Board) -> None:
    before = board.require("a")
    after = board.request_stop("a", "ci", 9.0).after
    assert after is not None
    assert (after.updated_at, after.progress) == (before.updated_at, before.progress)
    assert after.rev > before.rev


@pytest.mark.parametrize("write", [
    {"run_id": "r", "stoppable": True, "completed": 2}, {"run_id": "r", "stoppable": True, "total": 9},
])  # fmt: skip
def test_request_survives_the_writes_of_its_run(board: Board, write: WriteFields) -> None:
    board.request_stop("a", "ci", 2.0)
    board.patch("a", write, 3.0)
    board.put("a", write, ITEM_OWNER, 4.0)
    assert board.require("a").stop_request == StopRequest(2.0, "ci")


def test_request_ends_with_its_run(board: Board) -> None:
    board.request_stop("a", "ci", 2.0)
    change = board.put("a", {"run_id": "next", "stoppable": True}, ITEM_OWNER, 3.0)
    assert board.require("a").stop_request is None
    assert change.ended_run is not None
    assert change.ended_run.item.stop_request == StopRequest(2.0, "ci")


def test_request_ends_when_part_1_revives_the_run(board: Board) -> None:
    board.request_stop("a", "ci", 2.0)
    board.patch("a", {"status": "stopped", "completed": None}, 3.0)
    assert board.require("a").stop_request is not None
    board.update({"id": "a", "title": "", "description": "", "value": 0.1, "weight": 0}, 4.0)
    assert board.require("a").stop_request is None


@pytest.mark.parametrize(("run_id", "fields", "code"), [
    ("other", {}, "run-superseded"), (None, {"status": "failed"}, "run-ended"), ("r", {"stoppable": False},
    "not-stoppable"), ("r", {"stoppable": None}, "not-stoppable"),
])  # fmt: skip
def test_other_run_is_refused(board: Board, run_id: str | None, fields: WriteFields, code: str) -> None:
    board.patch("a", {name: value or False for name, value in fields.items()}, 2.0)  # type: ignore[arg-type]
    with pytest.raises(ProblemError) as caught:
        board.request_stop("a", "ci", 3.0, run_id=run_id)
    assert (caught.value.code, board.require("a").stop_request) == (code, None)


def test_clock_set_back_moves_a_request_out_of_the_future(board: Board) -> None:
    board.request_stop("a", "ci", 100.0)
    board.set_clock(50.0, -50.0, 50.0)
    assert board.require("a").stop_request == StopRequest(50.0, "ci")


@pytest.mark.parametrize("is_local", [True, False])
def test_merge_keeps_request_of_either_server(is_local: bool) -> None:
    base = make_item("a", stoppable=True, completed=1)
    requested = replace(base, stop_request=StopRequest(2.0, "ci"))
    moved = replace(base, completed=5, own=5, seq=7)
    local, stored = (requested, moved) if is_local else (moved, requested)
    merged = three_way_merge(base, local, stored)
    assert (merged.stop_request, merged.completed) == (StopRequest(2.0, "ci"), 5)
