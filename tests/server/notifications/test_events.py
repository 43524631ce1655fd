"""What is told and what is not: the laws of ends, percentages, silence and lateness."""

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
    events_of_change,
    overdue_events,
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
def test_a_percentage_is_told_when_it_is_crossed_and_only_then(values: list[float], percents: list[int]) -> None:
    states = make_history(values)
    for before, after in pairwise(states):
        crossed = [p for p in percents if is_complete(after.value * 100, p) and not is_complete(before.value * 100, p)]
        assert events_of_change(before, after, percents) == [f"{p}%" for p in crossed]


@given(VALUE_LISTS.map(sorted), PERCENT_LISTS)
def test_who_only_goes_on_crosses_each_once(values: list[float], percents: list[int]) -> None:
    states = make_history([0.0, *values])
    told = [e for before, after in pairwise(states) for e in events_of_change(before, after, percents)]
    assert told == [f"{p}%" for p in percents if is_complete(states[-1].value * 100, p)]


@given(st.floats(0, 1), PERCENT_LISTS)
def test_a_run_that_begins_beyond_a_percentage_has_not_crossed_it(value: float, percents: list[int]) -> None:
    assert events_of_change(None, make_item(value=value), percents) == []
    assert events_of_change(make_item(run_id="former"), make_item(value=value), percents) == []


@pytest.mark.parametrize("end", END_STATUSES)
def test_an_end_is_told_and_nothing_that_was_crossed_with_it(end: str) -> None:
    before, after = make_item(value=0.1), make_item(value=1.0, status=end)
    assert events_of_change(before, after, [25, 50]) == [end]
    assert events_of_change(after, replace(after, title="again"), [25]) == []
    assert events_of_change(None, after, [25]) == [end]
    assert events_of_change(replace(after, run_id="former"), after, []) == [end]


def test_what_goes_is_not_told_again() -> None:
    assert events_of_change(make_item(status="failed"), None, [25]) == []


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
def test_who_is_told_of_what(tmp_path: Path, fields: dict[str, object], event: str, names: list[str]) -> None:
    made = build_notices(load_channels(tmp_path, CHANNELS_FILE), make_item(**fields), [(event, "")], 5.0)
    assert [write.notice.channel for write in made] == names


def test_the_same_event_has_the_same_id_whoever_tells_it_and_whenever(tmp_path: Path) -> None:
    known = load_channels(tmp_path, CHANNELS_FILE)
    (one,) = build_notices(known, make_item(), [("failed", "")], 5.0)
    (other,) = build_notices(known, make_item(value=0.5), [("failed", "")], 6.0)
    (another,) = build_notices(known, make_item(run_id="r2"), [("failed", "")], 5.0)
    assert one.notice.notice_id == other.notice.notice_id != another.notice.notice_id


# Silence and lateness.

SECONDS_VALUES = st.floats(0, 1e6).map(lambda seconds: round(seconds, 3))


@given(updated=SECONDS_VALUES, timeout=SECONDS_VALUES, since=SECONDS_VALUES, now=SECONDS_VALUES)
def test_silence_is_told_once_it_lasts_and_the_server_has_listened_as_long(
    updated: float, timeout: float, since: float, now: float
) -> None:
    silent = make_item(updated_at=updated, heartbeat_timeout=timeout)
    events, again = overdue_events(silent, now, since)
    due, sure = updated + timeout, max(updated, since) + timeout
    assert bool(events) == (now >= sure and now - due < OVERDUE_NOTICE_MAX_AGE)
    assert (again is not None) == (due <= now < sure)


@given(deadline=SECONDS_VALUES, now=SECONDS_VALUES)
def test_lateness_is_told_from_the_deadline_on_while_it_is_news(deadline: float, now: float) -> None:
    events, _ = overdue_events(make_item(deadline_at=deadline), now, 0.0)
    assert bool(events) == (0 <= now - deadline < OVERDUE_NOTICE_MAX_AGE)


def test_another_silence_of_the_same_run_is_another_event(tmp_path: Path) -> None:
    known = load_channels(tmp_path, '[channels.c]\nurl = "ntfy://t"\nall = true\n')
    ids = set()
    for updated in (10.0, 10.0, 90.0):
        silent = make_item(updated_at=updated, heartbeat_timeout=5.0)
        (write,) = build_notices(known, silent, overdue_events(silent, 200.0, 0.0)[0], 200.0)
        ids.add(write.notice.notice_id)
    assert len(ids) == 2


def poll_events(watch: OverdueWatch, one: Item, now: float, *, fallen: bool = True, leads: bool = True) -> list[str]:
    found = watch.poll(["a"] if fallen else [], {"a": one}.get, lambda: [one], now, is_leader=leads)
    return [event for _, events in found for event, _ in events]


def test_after_a_start_silence_counts_from_the_start() -> None:
    watch, silent = OverdueWatch(1000.0), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    assert poll_events(watch, silent, 1000.0) == []
    assert poll_events(watch, silent, 1059.0, fallen=False) == []
    assert poll_events(watch, silent, 1060.0, fallen=False) == ["stalled"]
    assert poll_events(watch, silent, 1061.0, fallen=False) == []


def test_who_came_back_in_time_is_not_told_of() -> None:
    watch = OverdueWatch(1000.0)
    assert poll_events(watch, make_item(updated_at=0.0, heartbeat_timeout=60.0), 1000.0) == []
    assert poll_events(watch, make_item(updated_at=1030.0, heartbeat_timeout=60.0), 1060.0, fallen=False) == []


def test_while_nobody_could_be_heard_nobody_is_silent() -> None:
    watch, silent = OverdueWatch(0.0), make_item(updated_at=0.0, heartbeat_timeout=60.0)
    watch.pause(50.0)
    assert poll_events(watch, silent, 60.0) == []
    assert poll_events(watch, silent, 110.0, fallen=False) == ["stalled"]


def test_who_begins_to_lead_looks_at_everything() -> None:
    watch, silent = OverdueWatch(0.0), make_item(updated_at=0.0, heartbeat_timeout=60.0, deadline_at=70.0)
    assert poll_events(watch, silent, 100.0, leads=False) == []
    assert poll_events(watch, silent, 101.0, fallen=False) == ["late", "stalled"]
    assert poll_events(watch, silent, 102.0, fallen=False) == []


# What is said.


def test_a_message_for_programs_holds_the_item(tmp_path: Path) -> None:
    known = load_channels(tmp_path, CHANNELS_FILE)
    (failed,) = build_notices(known, make_item(title="ü", error="E"), [("failed", "")], 5.0)
    document = json.loads(render_webhook(failed.notice))
    assert (document["type"], document["timestamp"]) == ("item.failed", "1970-01-01T00:00:05.000Z")
    assert (document["data"]["id"], document["data"]["title"], document["data"]["error"]) == ("a", "ü", "E")
    (reached,) = build_notices(known, make_item(), [("25%", "")], 5.0)
    document = json.loads(render_webhook(reached.notice))
    assert (document["type"], document["percent"]) == ("item.reached", 25)


@pytest.mark.parametrize(
    ("event", "title"),
    [("succeeded", "Import has succeeded"), ("stalled", "Import gives no sign of life"), ("25%", "Import is at 25%"),
     ("late", "Import is late"), ("failed", "Import has failed")],
)  # fmt: skip
def test_a_message_for_people_begins_with_what_happened(tmp_path: Path, event: str, title: str) -> None:
    known = load_channels(tmp_path, CHANNELS_FILE.replace('"25%"]', '"25%", "succeeded", "stalled", "late"]'))
    one = make_item(title="Im\nport", value=0.25, completed=1000, total=4000, unit="rows", meta={"host": "box"},
               error="ValueError: no", updated_at=3725.0, group="g", deadline_at=5.0)  # fmt: skip
    made = build_notices(known, replace(one, title="Import"), [(event, "")], 4000.0)
    told = render_message(made[-1].notice)
    assert told.title == title
    assert told.text.splitlines() == [
        "ValueError: no",
        "25 %, 1,000 of 4,000 rows, after 1 h 2 min, its deadline was 1970-01-01T00:00:05.000Z",
        "a, group g, of ci, on box",
    ]


def test_a_message_links_to_the_page_where_the_server_knows_how_people_come_by(tmp_path: Path) -> None:
    (made,) = build_notices(load_channels(tmp_path, CHANNELS_FILE), make_item(id="a/b c"), [("failed", "")], 5.0)
    page = "https://progress.example/p/items/a%2Fb%20c"
    assert render_message(made.notice, "https://progress.example/p").text.splitlines()[-1] == page
    assert json.loads(render_webhook(made.notice, "https://progress.example/p"))["url"] == page
    assert "http" not in render_message(made.notice).text
    assert "url" not in json.loads(render_webhook(made.notice))


def test_a_title_cannot_break_the_line_that_it_stands_on(tmp_path: Path) -> None:
    (made,) = build_notices(
        load_channels(tmp_path, CHANNELS_FILE), make_item(title="a\r\nBcc: all"), [("failed", "")], 5.0
    )
    assert render_message(made.notice).title == "a Bcc: all has failed"
