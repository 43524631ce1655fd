"""Events of ends, percentages, stalled and late items, and their messages."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from progressbar_tracker._models import is_complete
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.notifications.channels import Channels
from progressbar_tracker.server.notifications.events import (
    OVERDUE_NOTICE_MAX_AGE,
    OverdueWatch,
    build_notices,
    find_change_events,
    find_overdue_events,
)
from progressbar_tracker.server.notifications.messages import render_message, render_webhook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

END_STATUSES = ("succeeded", "failed", "stopped")
PERCENT_LISTS = st.lists(st.integers(1, 99), unique=True).map(sorted)
VALUE_LISTS = st.lists(st.floats(0, 1), min_size=1)


def make_item(**fields: object) -> Item:
    return Item(**{"id": "a", "owner_id": "k", "owner": "ci", "run_id": "r", "created_at": 0.0, "updated_at": 0.0,
                   **fields})  # fmt: skip


def make_history(values: Sequence[float]) -> list[Item]:
    return [make_item(value=value) for value in values]


@given(VALUE_LISTS, PERCENT_LISTS)
def test_percentage_event_only_when_crossed(values: list[float], percents: list[int]) -> None:
    states = make_history(values)
    for before, after in pairwise(states):
        crossed = [p for p in percents if is_complete(after.value * 100, p) and not is_complete(before.value * 100, p)]
        assert find_change_events(before, after, percents) == [f"{p}%" for p in crossed]


@given(VALUE_LISTS.map(sorted), PERCENT_LISTS)
def test_rising_values_cross_each_percentage_once(values: list[float], percents: list[int]) -> None:
    states = make_history([0.0, *values])
    events = [e for before, after in pairwise(states) for e in find_change_events(before, after, percents)]
    assert events == [f"{p}%" for p in percents if is_complete(states[-1].value * 100, p)]


@given(st.floats(0, 1), PERCENT_LISTS)
def test_run_that_starts_beyond_a_percentage_crosses_none(value: float, percents: list[int]) -> None:
    assert find_change_events(None, make_item(value=value), percents) == []
    assert find_change_events(make_item(run_id="former"), make_item(value=value), percents) == []


@pytest.mark.parametrize("end", END_STATUSES)
def test_end_event_replaces_percentage_events(end: str) -> None:
    before, after = make_item(value=0.1), make_item(value=1.0, status=end)
    assert find_change_events(before, after, [25, 50]) == [end]
    assert find_change_events(after, replace(after, title="again"), [25]) == []
    assert find_change_events(None, after, [25]) == [end]
    assert find_change_events(replace(after, run_id="former"), after, []) == [end]


def test_deleted_item_has_no_event() -> None:
    assert find_change_events(make_item(status="failed"), None, [25]) == []


def load_channels(tmp_path: Path, text: str) -> Channels:
    (tmp_path / "c.toml").write_text(text)
    return Channels(tmp_path / "c.toml")


CHANNELS_FILE = """
[channels.named]
url = "ntfy://t"
[channels.grouped]
url = "ntfy://t"
groups = ["g"]
[channels.whole]
url = "ntfy://t"
all = true
on = ["failed", "25%"]
"""


@pytest.mark.parametrize(
    ("fields", "event", "names"),
    [
        ({}, "failed", ["whole"]),
        ({}, "succeeded", []),
        ({}, "25%", ["whole"]),
        ({"group": "g"}, "failed", ["grouped", "whole"]),
        ({"group": "other"}, "failed", ["whole"]),
        ({"notify": ("named", "unknown")}, "succeeded", ["named"]),
        ({"notify": ("named",), "group": "g"}, "late", ["grouped", "named"]),
        ({"notify": ("named",)}, "stopped", []),
        ({"notify": ("named",)}, "50%", []),
    ],
)
def test_notices_are_built_for_subscribed_channels(
    tmp_path: Path, fields: dict[str, object], event: str, names: list[str]
) -> None:
    writes = build_notices(load_channels(tmp_path, CHANNELS_FILE), make_item(**fields), [(event, "")], 5.0)
    assert [write.notice.channel for write in writes] == names


def test_same_event_has_the_same_notice_id(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, CHANNELS_FILE)
    (first,) = build_notices(channels, make_item(), [("failed", "")], 5.0)
    (second,) = build_notices(channels, make_item(value=0.5), [("failed", "")], 6.0)
    (other_run,) = build_notices(channels, make_item(run_id="r2"), [("failed", "")], 5.0)
    assert first.notice.notice_id == second.notice.notice_id != other_run.notice.notice_id


# Stalled and late items.

SECONDS_VALUES = st.floats(0, 1e6).map(lambda seconds: round(seconds, 3))


@given(updated=SECONDS_VALUES, timeout=SECONDS_VALUES, since=SECONDS_VALUES, now=SECONDS_VALUES)
def test_stalled_event_needs_a_full_listening_period(updated: float, timeout: float, since: float, now: float) -> None:
    stalled = make_item(updated_at=updated, heartbeat_timeout=timeout)
    events, recheck_at = find_overdue_events(stalled, now, since)
    due_at, certain_at = updated + timeout, max(updated, since) + timeout
    assert bool(events) == (now >= certain_at and now - due_at < OVERDUE_NOTICE_MAX_AGE)
    assert (recheck_at is not None) == (due_at <= now < certain_at)


@given(deadline=SECONDS_VALUES, now=SECONDS_VALUES)
def test_late_event_starts_at_the_deadline_and_expires(deadline: float, now: float) -> None:
    events, _ = find_overdue_events(make_item(deadline_at=deadline), now, 0.0)
    assert bool(events) == (0 <= now - deadline < OVERDUE_NOTICE_MAX_AGE)


def test_second_stall_of_a_run_is_another_event(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, '[channels.c]\nurl = "ntfy://t"\nall = true\n')
    ids = set()
    for updated in (10.0, 10.0, 90.0):
        stalled = make_item(updated_at=updated, heartbeat_timeout=5.0)
        (write,) = build_notices(channels, stalled, find_overdue_events(stalled, 200.0, 0.0)[0], 200.0)
        ids.add(write.notice.notice_id)
    assert len(ids) == 2


def poll_events(
    watch: OverdueWatch, item: Item, now: float, *, is_overdue: bool = True, is_leader: bool = True
) -> list[str]:
    result = watch.poll(["a"] if is_overdue else [], {"a": item}.get, lambda: [item], now, is_leader=is_leader)
    return [event for _, events in result for event, _ in events]


def test_stalled_period_starts_with_the_server() -> None:
    watch, stalled = OverdueWatch(1000.0), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    assert poll_events(watch, stalled, 1000.0) == []
    assert poll_events(watch, stalled, 1059.0, is_overdue=False) == []
    assert poll_events(watch, stalled, 1060.0, is_overdue=False) == ["stalled"]
    assert poll_events(watch, stalled, 1061.0, is_overdue=False) == []


def test_item_that_returns_in_time_has_no_event() -> None:
    watch = OverdueWatch(1000.0)
    assert poll_events(watch, make_item(updated_at=0.0, heartbeat_timeout=60.0), 1000.0) == []
    assert poll_events(watch, make_item(updated_at=1030.0, heartbeat_timeout=60.0), 1060.0, is_overdue=False) == []


def test_paused_watch_restarts_the_listening_period() -> None:
    watch, stalled = OverdueWatch(0.0), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    watch.pause(50.0)
    assert poll_events(watch, stalled, 60.0) == []
    assert poll_events(watch, stalled, 110.0, is_overdue=False) == ["stalled"]


def test_new_leader_checks_all_items() -> None:
    watch, stalled = OverdueWatch(0.0), make_item(updated_at=0.0, heartbeat_timeout=60.0, deadline_at=70.0)
    assert poll_events(watch, stalled, 100.0, is_leader=False) == []
    assert poll_events(watch, stalled, 101.0, is_overdue=False) == ["late", "stalled"]
    assert poll_events(watch, stalled, 102.0, is_overdue=False) == []


# Messages.


def test_webhook_body_contains_the_item(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, CHANNELS_FILE)
    (failed,) = build_notices(channels, make_item(title="ü", error="E"), [("failed", "")], 5.0)
    document = json.loads(render_webhook(failed.notice))
    assert (document["type"], document["timestamp"]) == ("item.failed", "1970-01-01T00:00:05.000Z")
    assert (document["data"]["id"], document["data"]["title"], document["data"]["error"]) == ("a", "ü", "E")
    (reached,) = build_notices(channels, make_item(), [("25%", "")], 5.0)
    document = json.loads(render_webhook(reached.notice))
    assert (document["type"], document["percent"]) == ("item.reached", 25)


@pytest.mark.parametrize(
    ("event", "title"),
    [("succeeded", "Import has succeeded"), ("stalled", "Import gives no sign of life"), ("25%", "Import is at 25%"),
     ("late", "Import is late"), ("failed", "Import has failed")],
)  # fmt: skip
def test_message_title_states_the_event(tmp_path: Path, event: str, title: str) -> None:
    channels = load_channels(tmp_path, CHANNELS_FILE.replace('"25%"]', '"25%", "succeeded", "stalled", "late"]'))
    item = make_item(title="Im\nport", value=0.25, completed=1000, total=4000, unit="rows", meta={"host": "box"},
               error="ValueError: no", updated_at=3725.0, group="g", deadline_at=5.0)  # fmt: skip
    writes = build_notices(channels, replace(item, title="Import"), [(event, "")], 4000.0)
    message = render_message(writes[-1].notice)
    assert message.title == title
    assert message.text.splitlines() == [
        "ValueError: no",
        "25 %, 1,000 of 4,000 rows, after 1 h 2 min, its deadline was 1970-01-01T00:00:05.000Z",
        "a, group g, of ci, on box",
    ]


def test_message_links_to_the_page_if_the_public_url_is_known(tmp_path: Path) -> None:
    (write,) = build_notices(load_channels(tmp_path, CHANNELS_FILE), make_item(id="a/b c"), [("failed", "")], 5.0)
    page = "https://progress.example/p/items/a%2Fb%20c"
    assert render_message(write.notice, "https://progress.example/p").text.splitlines()[-1] == page
    assert json.loads(render_webhook(write.notice, "https://progress.example/p"))["url"] == page
    assert "http" not in render_message(write.notice).text
    assert "url" not in json.loads(render_webhook(write.notice))


def test_title_cannot_add_lines_to_a_message(tmp_path: Path) -> None:
    (write,) = build_notices(
        load_channels(tmp_path, CHANNELS_FILE), make_item(title="a\r\nBcc: all"), [("failed", "")], 5.0
    )
    assert render_message(write.notice).title == "a Bcc: all has failed"
