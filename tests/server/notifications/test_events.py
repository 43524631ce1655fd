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
from progressbar_tracker.server.models import Item, Notice, rfc3339
from progressbar_tracker.server.notifications.channels import Channels
from progressbar_tracker.server.notifications.events import (
    OVERDUE_NOTICE_MAX_AGE,
    OverdueWatch,
    build_notices,
    find_change_events,
    find_overdue_events,
)
from progressbar_tracker.server.notifications.messages import render_chat, render_message, render_webhook
from tests.support.boards import ITEM_SERIALIZER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from progressbar_tracker.server.notifications.chat_services import ChatText
    from progressbar_tracker.server.notifications.messages import Message

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
    writes = build_notices(
        load_channels(tmp_path, CHANNELS_FILE), ITEM_SERIALIZER, make_item(**fields), [(event, "")], 5.0
    )
    assert [write.notice.channel for write in writes] == names


def test_same_event_has_the_same_notice_id(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, CHANNELS_FILE)
    (first,) = build_notices(channels, ITEM_SERIALIZER, make_item(), [("failed", "")], 5.0)
    (second,) = build_notices(channels, ITEM_SERIALIZER, make_item(value=0.5), [("failed", "")], 6.0)
    (other_run,) = build_notices(channels, ITEM_SERIALIZER, make_item(run_id="r2"), [("failed", "")], 5.0)
    assert first.notice.notice_id == second.notice.notice_id != other_run.notice.notice_id


# Stalled and late items.

SECONDS_VALUES = st.floats(0, 1e6).map(lambda seconds: round(seconds, 3))


@given(updated=SECONDS_VALUES, timeout=SECONDS_VALUES, since=SECONDS_VALUES, now=SECONDS_VALUES)
def test_stalled_event_needs_a_full_listening_period(updated: float, timeout: float, since: float, now: float) -> None:
    stalled = make_item(updated_at=updated, heartbeat_timeout=timeout)
    events, recheck_at = find_overdue_events(stalled, now, since, ITEM_SERIALIZER.conditions)
    due_at, certain_at = updated + timeout, max(updated, since) + timeout
    assert bool(events) == (now >= certain_at and now - due_at < OVERDUE_NOTICE_MAX_AGE)
    assert (recheck_at is not None) == (due_at <= now < certain_at)


@given(deadline=SECONDS_VALUES, now=SECONDS_VALUES)
def test_late_event_starts_at_the_deadline_and_expires(deadline: float, now: float) -> None:
    events, _ = find_overdue_events(make_item(deadline_at=deadline), now, 0.0, ITEM_SERIALIZER.conditions)
    assert bool(events) == (0 <= now - deadline < OVERDUE_NOTICE_MAX_AGE)


def test_second_stall_of_a_run_is_another_event(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, '[channels.c]\nurl = "ntfy://t"\nall = true\n')
    ids = set()
    for updated in (10.0, 10.0, 90.0):
        stalled = make_item(updated_at=updated, heartbeat_timeout=5.0)
        (write,) = build_notices(
            channels,
            ITEM_SERIALIZER,
            stalled,
            find_overdue_events(stalled, 200.0, 0.0, ITEM_SERIALIZER.conditions)[0],
            200.0,
        )
        ids.add(write.notice.notice_id)
    assert len(ids) == 2


def poll_events(
    watch: OverdueWatch, item: Item, now: float, *, is_overdue: bool = True, is_leader: bool = True
) -> list[str]:
    result = watch.poll(["a"] if is_overdue else [], {"a": item}.get, lambda: [item], now, is_leader=is_leader)
    return [event for _, events in result for event, _ in events]


def test_stalled_period_starts_with_the_server() -> None:
    watch, stalled = OverdueWatch(1000.0, ITEM_SERIALIZER.conditions), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    assert poll_events(watch, stalled, 1000.0) == []
    assert poll_events(watch, stalled, 1059.0, is_overdue=False) == []
    assert poll_events(watch, stalled, 1060.0, is_overdue=False) == ["stalled"]
    assert poll_events(watch, stalled, 1061.0, is_overdue=False) == []


def test_item_that_returns_in_time_has_no_event() -> None:
    watch = OverdueWatch(1000.0, ITEM_SERIALIZER.conditions)
    assert poll_events(watch, make_item(updated_at=0.0, heartbeat_timeout=60.0), 1000.0) == []
    assert poll_events(watch, make_item(updated_at=1030.0, heartbeat_timeout=60.0), 1060.0, is_overdue=False) == []


def test_paused_watch_restarts_the_listening_period() -> None:
    watch, stalled = OverdueWatch(0.0, ITEM_SERIALIZER.conditions), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    watch.pause(50.0)
    assert poll_events(watch, stalled, 60.0) == []
    assert poll_events(watch, stalled, 110.0, is_overdue=False) == ["stalled"]


def test_new_leader_checks_all_items() -> None:
    watch, stalled = (
        OverdueWatch(0.0, ITEM_SERIALIZER.conditions),
        make_item(updated_at=0.0, heartbeat_timeout=60.0, deadline_at=70.0),
    )
    assert poll_events(watch, stalled, 100.0, is_leader=False) == []
    assert poll_events(watch, stalled, 101.0, is_overdue=False) == ["late", "stalled"]
    assert poll_events(watch, stalled, 102.0, is_overdue=False) == []


# Messages.


def test_webhook_body_contains_the_item(tmp_path: Path) -> None:
    channels = load_channels(tmp_path, CHANNELS_FILE)
    (failed,) = build_notices(channels, ITEM_SERIALIZER, make_item(title="ü", error="E"), [("failed", "")], 5.0)
    document = json.loads(render_webhook(failed.notice))
    assert (document["type"], document["timestamp"]) == ("item.failed", "1970-01-01T00:00:05.000Z")
    assert (document["data"]["id"], document["data"]["title"], document["data"]["error"]) == ("a", "ü", "E")
    (reached,) = build_notices(channels, ITEM_SERIALIZER, make_item(), [("25%", "")], 5.0)
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
    writes = build_notices(channels, ITEM_SERIALIZER, replace(item, title="Import"), [(event, "")], 4000.0)
    message = render_message(writes[-1].notice)
    assert message.title == title
    assert message.text.splitlines() == [
        "ValueError: no",
        "25 %, 1,000 of 4,000 rows, after 1 h 7 min, its deadline was 1970-01-01T00:00:05.000Z",
        "a, group g, of ci, on box",
    ]


def make_notice(event: str, **fields: object) -> Notice:
    """Return a notice at the instant 3,600 of an item with the new fields of its JSON."""
    body = {
        "id": "a",
        "title": "train",
        "owner": "ci",
        "value": 0.5,
        "status": "running",
        "started_at": rfc3339(1800.0),
        **fields,
    }
    return Notice(
        notice_id="n", channel="c", item_id="a", run_id="r", event=event, at=3600.0, body=json.dumps(body), next_at=0.0
    )


@pytest.mark.parametrize("render", [render_message, render_chat])
def test_text_of_an_item_cannot_reorder_a_message(render: Callable[[Notice], Message | ChatText]) -> None:
    reversing = "\u202edeliaf sah\u2066\u200b"
    message = render(
        make_notice("failed", title=reversing, description=reversing, owner=reversing, error="a\n👩\u200d🚀")
    )
    assert message.title == "deliaf sah has failed"
    assert "a\n👩\u200d🚀\ndeliaf sah\n" in message.text
    assert "of deliaf sah" in message.text


def test_message_of_a_stuck_item_names_the_usual_gap() -> None:
    stuck = {"stuck": True, "progressed_at": rfc3339(3240.0), "updated_at": rfc3339(3599.0), "usual_gap_seconds": 2.1}
    assert render_message(make_notice("stuck", **stuck)).title == (
        "train has made no progress for 6 min, usually every 2 s"
    )
    assert render_message(make_notice("stuck")).title == "train has made no progress"


def test_message_of_a_slower_item_compares_the_durations() -> None:
    slower = {"slower": True, "usual_duration_seconds": 1500.0, "eta": 600.0, "finish_at": rfc3339(4200.0)}
    assert render_message(make_notice("slower", **slower)).title == (
        "train is slower than usual: ~40 min, usually 25 min"
    )
    assert render_message(make_notice("slower")).title == "train is slower than usual"


def test_message_has_the_estimate_in_utc() -> None:
    estimate = {"eta": 1860.0, "eta_low": 1500.0, "eta_high": 2820.0, "finish_at": rfc3339(5460.0)}
    for event in ("50%", "late", "slower"):
        lines = render_message(make_notice(event, **estimate, basis="6 former runs")).text.splitlines()
        assert lines[:2] == [
            "50 %, after 30 min",
            "~30 min left, about 01:31 UTC (01:25 to 01:47 UTC), from 6 former runs",
        ]


def test_message_has_the_estimated_total() -> None:
    estimated = {"completed": 500, "total": None, "unit": "rows", "estimated_total": 1187.4}
    text = render_message(make_notice("stuck", **estimated)).text
    assert text.startswith("500 rows, about 1,200 rows in total, estimated, after 30 min")


def test_text_message_has_the_end_of_the_output() -> None:
    tail = "\n".join(f"line {number}" for number in range(100))
    text = render_message(make_notice("failed", status="failed"), "https://host", tail).text
    assert "\nline 90\n" in text
    assert "line 89" not in text
    assert len(render_message(make_notice("failed"), tail="x" * 60_000).text) < 2000


def test_message_without_an_estimate_has_no_basis() -> None:
    assert "from" not in render_message(make_notice("failed", status="failed", basis="6 former runs")).text


@pytest.mark.parametrize(
    ("item_id", "run_id", "path"),
    [("a/b c", "r", "a%2Fb%20c?run=r"), ("..", "r/1&x", "?id=..&run=r%2F1%26x"), ("x.y", ".", "x.y?run=.")],
)
def test_message_links_to_the_run_if_the_public_url_is_known(
    tmp_path: Path, item_id: str, run_id: str, path: str
) -> None:
    item = make_item(id=item_id, run_id=run_id)
    (write,) = build_notices(load_channels(tmp_path, CHANNELS_FILE), ITEM_SERIALIZER, item, [("failed", "")], 5.0)
    page = f"https://progress.example/p/items/{path}"
    assert render_message(write.notice, "https://progress.example/p").text.splitlines()[-1] == page
    assert json.loads(render_webhook(write.notice, "https://progress.example/p"))["url"] == page
    assert "http" not in render_message(write.notice).text
    assert "url" not in json.loads(render_webhook(write.notice))


def test_title_cannot_add_lines_to_a_message(tmp_path: Path) -> None:
    (write,) = build_notices(
        load_channels(tmp_path, CHANNELS_FILE), ITEM_SERIALIZER, make_item(title="a\r\nBcc: all"), [("failed", "")], 5.0
    )
    assert render_message(write.notice).title == "a Bcc: all has failed"
