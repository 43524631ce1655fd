"""The merge of two servers' changes to one item, and the conflicts of a group of writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from progressbar_tracker._estimate import Progress
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.merge import is_compatible, three_way_merge
from progressbar_tracker.server.items.validation import parse_write
from progressbar_tracker.server.models import EndedRun, Item, Part
from progressbar_tracker.server.mutations import AddHistory, DropItem, SaveItem
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.postgres.conflicts import ConflictResolver

if TYPE_CHECKING:
    from progressbar_tracker.server.items.change import Change

BASE_ITEM = Item(
    id="a", owner_id="k", owner="ci", run_id="r", created_at=1.0, updated_at=1.0, title="t", own=5, completed=5
)


def change_item(item: Item = BASE_ITEM, **fields: object) -> Item:
    return replace(item, **fields)


# Three-way merge


def test_merge_keeps_changes_of_either_side() -> None:
    both = three_way_merge(
        BASE_ITEM, change_item(description="ours", seq=3), change_item(title="theirs", seq=9, weight=2)
    )
    assert (both.title, both.description, both.weight, both.seq) == ("theirs", "ours", 2, 9)


@pytest.mark.parametrize(("ours", "theirs", "stays"), [(3, 9, "theirs"), (9, 3, "ours"), (3, 3, "ours")])
def test_merge_of_conflicting_changes_keeps_newer_write(ours: int, theirs: int, stays: str) -> None:
    assert (
        three_way_merge(BASE_ITEM, change_item(title="ours", seq=ours), change_item(title="theirs", seq=theirs)).title
        == stays
    )


def test_merge_sums_newest_count_of_each_part() -> None:
    base = change_item(own=None, parts={"1": Part(1, 1)}, completed=1, total=100)
    ours = change_item(base, parts={"1": Part(4, 4), "2": Part(10, 1)}, completed=14)
    theirs = change_item(base, parts={"1": Part(3, 3), "3": Part(20, 1)}, completed=23)
    both = three_way_merge(base, ours, theirs)
    assert (both.completed, both.value) == (34, 0.34)


def test_merge_keeps_stored_owner_and_creation() -> None:
    assert (
        three_way_merge(BASE_ITEM, change_item(owner_id="x", title="new"), change_item(created_at=0.5)).owner_id == "k"
    )
    assert three_way_merge(BASE_ITEM, change_item(title="new"), change_item(created_at=0.5)).created_at == 0.5


def test_merge_has_earliest_start_and_latest_progress() -> None:
    base = change_item(started_at=50.0, progressed_at=60.0, progress=Progress(5, 60.0, idle_since=60.0))
    ours = change_item(base, started_at=48.0, progressed_at=70.0, progress=Progress(6, 70.0, idle_since=70.0), own=6)
    theirs = change_item(base, started_at=49.0, progressed_at=75.0, progress=Progress(5, 60.0, idle_since=75.0))
    for both in (three_way_merge(base, ours, theirs), three_way_merge(base, theirs, ours)):
        assert (both.started_at, both.progressed_at, both.completed) == (48.0, 75.0, 6)
        assert both.progress == Progress(6, 70.0, idle_since=75.0)


def test_merge_keeps_the_changed_limit() -> None:
    limited, automatic = change_item(stuck_after=60.0), change_item(description="other")
    assert three_way_merge(BASE_ITEM, limited, automatic).stuck_after == 60.0
    assert three_way_merge(BASE_ITEM, automatic, limited).stuck_after == 60.0
    assert three_way_merge(limited, change_item(stuck_after=None), change_item(limited, title="x")).stuck_after is None


def test_change_is_compatible_only_within_run() -> None:
    assert is_compatible(None, None)
    assert not is_compatible(None, BASE_ITEM)
    assert not is_compatible(BASE_ITEM, None)
    assert not is_compatible(BASE_ITEM, change_item(run_id="other"))
    assert not is_compatible(BASE_ITEM, change_item(status="failed", ended_at=2.0))
    assert is_compatible(BASE_ITEM, change_item(title="other"))


# Groups of writes


def test_second_of_two_creates_is_outdated() -> None:
    ledger = ConflictResolver({})
    assert ledger.apply_writes([SaveItem(BASE_ITEM, None)]) == set()
    assert ledger.apply_writes([SaveItem(change_item(run_id="other"), None)]) == {"a"}
    assert ledger.changed_items == {"a": BASE_ITEM}


def test_group_of_writes_is_atomic() -> None:
    ledger = ConflictResolver({"b": change_item(id="b")})
    assert ledger.apply_writes([SaveItem(BASE_ITEM, None), SaveItem(change_item(id="b", run_id="new"), None)]) == {"b"}
    assert (ledger.changed_items, ledger.ended_runs) == ({}, [])


def test_ended_run_includes_stored_changes() -> None:
    stored = change_item(description="from elsewhere", own=9, completed=9, seq=9)
    ledger = ConflictResolver({"a": stored})
    assert ledger.apply_writes([AddHistory(EndedRun(BASE_ITEM, "deleted", 2.0)), DropItem("a", BASE_ITEM)]) == set()
    assert ledger.ended_runs == [EndedRun(stored, "deleted", 2.0)]
    assert ledger.changed_items == {"a": None}


def test_queued_state_of_ended_run_is_dropped() -> None:
    ended = change_item(status="failed", ended_at=2.0)
    ledger = ConflictResolver({"a": ended})
    ledger.apply_queued(SaveItem(change_item(own=6, completed=6), BASE_ITEM))
    assert (ledger.changed_items, ledger.stale_ids) == ({}, {"a"})


# Two servers


ITEM_OWNER = Owner("k", "ci")


class BoardReplica:
    """A board that writes to and reads from the shared store on demand."""

    def __init__(self) -> None:
        self.board = Board(max_items=10, new_run_id=lambda: "made", track_changes=False)
        self.base: Item | None = None
        self.dirty = False

    def patch(self, part: str, seq: int, completed: int) -> None:
        fields = parse_write({"part": part, "seq": seq, "completed": completed, "run_id": "r"}, merge=True)
        try:
            change: Change = self.board.patch("a", fields, 2.0)
        except ProblemError:
            return
        if not self.dirty and change.after is not change.before:
            self.base, self.dirty = change.before, True

    def flush(self, stored: dict[str, Item]) -> None:
        if self.dirty:
            ledger = ConflictResolver(dict(stored))
            ledger.apply_queued(SaveItem(self.board.require("a"), self.base))
            stored |= {item_id: item for item_id, item in ledger.changed_items.items() if item is not None}
            self.dirty = False
        self.read(stored)

    def read(self, stored: dict[str, Item]) -> None:
        item = stored["a"]
        if self.dirty:
            assert self.base is not None
            item = three_way_merge(self.base, self.board.require("a"), item)
        self.board.replace("a", item)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("patch"), st.integers(0, 1), st.sampled_from(["x", "y", "z"]), st.integers(0, 100)),
            st.tuples(st.sampled_from(["flush", "read"]), st.integers(0, 1)),
        ),
        max_size=40,
    )
)
def test_two_servers_converge_to_sum_of_newest_parts(steps: list) -> None:
    servers = [BoardReplica(), BoardReplica()]
    first = servers[0].board.put("a", parse_write({"run_id": "r"}, merge=False), ITEM_OWNER, 1.0).after
    assert first is not None
    stored = {"a": first}
    servers[1].board.replace("a", first)
    newest: dict[str, tuple[int, int]] = {}
    for seq, step in enumerate(steps):
        server = servers[step[1]]
        match step:
            case ("patch", _, part, completed):
                server.patch(part, seq, completed)
                newest[part] = (seq, completed)
            case ("flush", _):
                server.flush(stored)
            case ("read", _):
                server.read(stored)
    for server in (*servers, *servers):
        server.flush(stored)
    wanted = sum(completed for _, completed in newest.values()) if newest else None
    assert [server.board.require("a").completed for server in servers] == [wanted, wanted]
    assert stored["a"].completed == wanted
