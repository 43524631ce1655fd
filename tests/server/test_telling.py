"""A long list on its way to JSON."""

from __future__ import annotations

import asyncio
import json

from progressbar_tracker.server.board import Board, Owner
from progressbar_tracker.server.live import Hub, View
from progressbar_tracker.server.telling import SLICE, spelled, told


def filled(count: int) -> Board:
    board = Board(max_items=count, new_run_id=lambda: "r")
    for n in range(count):
        board.put(f"{n:05}", {"title": f"ü {n}"}, Owner("me", "ci"), 1.0)
    return board


def test_others_have_their_turn_while_a_long_list_is_spelled_out() -> None:
    items = filled(3 * SLICE + 1).listed()

    async def main() -> tuple[bytes, int]:
        turns = 0
        spelling = asyncio.ensure_future(spelled(items, 2.0))
        while not spelling.done():
            await asyncio.sleep(0)
            turns += 1
        return spelling.result(), turns

    listed, turns = asyncio.run(main())
    assert json.loads(listed) == [told(item, 2.0) for item in items]
    assert turns >= 4
    assert asyncio.run(spelled([], 2.0)) == b"[]"


def test_who_comes_while_everything_is_spelled_out_is_given_the_same_and_then_what_has_changed() -> None:
    board = filled(6 * SLICE)

    async def main() -> list[bytes]:
        hub = Hub(board, epoch="e", clock=lambda: 2.0)
        streams = [hub.events(View(), None, lambda: True) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        frames = [asyncio.ensure_future(anext(stream)) for stream in streams]
        for _ in range(3):
            await asyncio.sleep(0)  # it has begun, and is not done
        board.patch("00000", {"title": "new"}, 2.0)
        hub.tick()
        first, second = await asyncio.gather(*frames)
        assert first is second
        changes = [await anext(stream) for stream in streams]
        for stream in streams:
            await stream.aclose()
        return [first, *changes]

    snapshot, *changes = asyncio.run(main())
    assert len(json.loads(snapshot.split(b"data: ")[1])["items"]) == 6 * SLICE
    for change in changes:
        assert [item["title"] for item in json.loads(change.split(b"data: ")[1])["items"]] == ["new"]
