"""The order of the list while items come, change and leave."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.index import ItemIndex, sort_key
from progressbar_tracker.server.problems import ProblemError

BOARD_OPS = st.tuples(
    st.sampled_from(["put", "patch", "delete", "restore", "adopt"]),
    st.sampled_from("abcdef"),
    st.fixed_dictionaries(
        {},
        optional={
            "weight": st.integers(-1, 1),
            "group": st.sampled_from(["g", "h", None]),
            "status": st.sampled_from(["running", "failed"]),
            "run_id": st.sampled_from("rstuvw"),
        },
    ),
)


@given(st.lists(BOARD_OPS, max_size=40), st.integers(1, 4))
def test_pages_equal_sorted_items(ops: list[tuple[str, str, dict[str, object]]], limit: int) -> None:
    count = itertools.count()
    board = Board(max_items=100, new_run_id=lambda: str(next(count)))
    for now, (name, item_id, fields) in enumerate(ops):
        try:
            if name == "put":
                board.put(item_id, fields, Owner("me", "ci"), now)
            elif name == "patch":
                board.patch(item_id, {key: value for key, value in fields.items() if key != "run_id"}, now)
            elif name == "delete":
                board.delete(item_id, now)
            elif name == "restore":
                board.rollback(board.delete(item_id, now))
            else:
                board.replace(item_id, None)
        except ProblemError:
            pass
    everything = sorted(board.snapshot(), key=sort_key)
    for group, status in itertools.product([None, "g", "h", "none"], [None, "running", "failed", "stopped"]):
        wanted = [
            item
            for item in everything
            if (group is None or item.group == group) and (status is None or item.status == status)
        ]
        assert board.page(group=group, status=status) == wanted
        pages, after = [], None
        while page := board.page(group=group, status=status, after=after, limit=limit):
            pages += page
            after = sort_key(page[-1])
        assert pages == wanted
    rebuilt = ItemIndex(everything)
    assert list(rebuilt.iter_ids()) == list(board._index.iter_ids())
    assert rebuilt._partitions == board._index._partitions
