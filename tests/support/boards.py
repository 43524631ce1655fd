"""Boards with items of two owners."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Change, Owner
from progressbar_tracker.server.items.serializer import ItemSerializer
from progressbar_tracker.server.items.validation import parse_write

if TYPE_CHECKING:
    import pytest

    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.problems import ProblemError

ITEM_SERIALIZER = ItemSerializer()
serialize_item = ITEM_SERIALIZER.serialize_item
serialize_items = ITEM_SERIALIZER.serialize_items
is_stalled = ITEM_SERIALIZER.conditions.is_stalled

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
