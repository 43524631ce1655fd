"""Serialization of a long list in pieces."""

from __future__ import annotations

import json

import pytest

from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from tests.support.boards import serialize_item, serialize_items


@pytest.mark.parametrize("count", [0, 1, 10, 1000])
def test_joined_pieces_equal_list(count: int) -> None:
    board = Board(max_items=1000, new_run_id=lambda: "r")
    for n in range(count):
        board.put(f"{n:05}", {"title": f"ü {n}"}, Owner("me", "ci"), 1.0)
    items = board.page()
    parts = list(serialize_items(items, 2.0, prefix=b'{"items":[', suffix=b"]}"))
    assert json.loads(b"".join(parts)) == {"items": [serialize_item(item, 2.0) for item in items]}
    assert (len(parts) > 1) is (count == 1000)
    assert max(map(len, parts)) < 2 * CHUNK_BYTES
