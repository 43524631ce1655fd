"""The badge of items with conditions and estimates."""

from __future__ import annotations

from typing import Any

import pytest

from progressbar_tracker._amounts import format_item_count, format_item_percent
from progressbar_tracker.server.dashboard.badge import build_group_badge, build_item_badge
from progressbar_tracker.server.items.serializer import ItemSerializer
from progressbar_tracker.server.models import Item

NOW = 1_000_000.0


def make_wire_item(**fields: Any) -> dict[str, object]:
    """Return a serialized item of 40 of 100 rows, with changed fields."""
    item = Item(
        id="a", owner_id="o", owner="ci", run_id="r", created_at=NOW - 600, started_at=NOW - 600, updated_at=NOW,
        progressed_at=NOW, completed=40, total=100, value=0.4, unit="rows",
    )  # fmt: skip
    return {**ItemSerializer().serialize_item(item, NOW), **fields}


@pytest.mark.parametrize("share", [-1.0, 1.5, 1e300, None, True, "x"])
def test_badge_ignores_an_invalid_estimated_share(share: object) -> None:
    item = make_wire_item(total=None, value=0.0, estimated_value=share, estimated_total=share)
    badge = build_item_badge("a", item)
    assert (badge.state, badge.width, badge.is_estimated) == ("40 rows", 0.0, False)
    assert (format_item_percent(item), format_item_count(item)) == ("", "40 rows")


def test_badge_with_a_known_total_ignores_an_estimated_share() -> None:
    assert build_item_badge("a", make_wire_item(estimated_value=0.9)).state == "40 %"


def test_badge_shows_conditions_and_estimates() -> None:
    items = [
        make_wire_item(stuck=True), make_wire_item(late=True), make_wire_item(slower=True),
        make_wire_item(total=None, value=0.0, estimated_value=0.4),
    ]  # fmt: skip
    badges = [build_item_badge("a", item) for item in items]
    assert [badge.state for badge in badges] == ["‖ stuck", "◷ 40 %, late", "▷ 40 %, slower", "~40 %"]
    assert len({badge.colour for badge in badges}) == 4
    assert (badges[3].width, [badge.is_estimated for badge in badges]) == (96.0, [False, False, False, True])
    assert build_group_badge("g", items).state == "4 running, 40 %, 1 stuck"
    assert build_group_badge("g", items[1:]).state == "3 running, 40 %, 1 late"


def test_badge_of_a_group_without_a_known_share_has_no_bar() -> None:
    badge = build_group_badge("g", [make_wire_item(total=None, value=0.0, estimated_value=0.4)])
    assert (badge.state, badge.width) == ("1 running, 0 %", 0)
