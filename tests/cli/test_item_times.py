"""How ``ls``, ``get`` and ``watch`` show the time of an item: pure rows, and commands against a real server."""

from __future__ import annotations

import os
import re
from datetime import UTC

import httpx
import pytest

from progressbar_tracker import Change, ProgressBar
from progressbar_tracker._http.exchanges import ServerProtocol
from progressbar_tracker._reader_clock import Clock
from progressbar_tracker.cli import connection
from progressbar_tracker.cli import items as item_commands
from progressbar_tracker.cli.table import (
    TABLE_HEADINGS,
    describe_item,
    find_clock_offset,
    format_item_row,
    has_status,
)
from progressbar_tracker.server.models import rfc3339
from tests.support.clock import ManualClock
from tests.support.connections import open_client
from tests.support.server import pass_time, start_server

NOON_SECONDS = 12 * 3600.0  # of 1 January 1970
LEGACY_ITEM = {"id": "job", "title": "A job", "description": "", "value": 0.42, "weight": 0}
TRAINING_ITEM = {
    **LEGACY_ITEM,
    "status": "running",
    "stalled": False,
    "late": False,
    "completed": 42,
    "total": 100,
    "unit": "steps",
    "started_at": rfc3339(NOON_SECONDS - 1200),
    "created_at": rfc3339(NOON_SECONDS - 60),
    "updated_at": rfc3339(NOON_SECONDS),
    "progressed_at": rfc3339(NOON_SECONDS - 360),
    "heartbeat_timeout": 30.0,
    "eta": 1860.0,
    "eta_low": 1500.0,
    "eta_high": 2820.0,
    "finish_at": rfc3339(NOON_SECONDS + 1860),
    "basis": "6 former runs",
    "stuck": False,
    "slower": False,
    "usual_gap_seconds": 2.1,
    "usual_duration_seconds": 1512.0,
    "estimated_total": None,
    "estimated_value": None,
}


@pytest.fixture(autouse=True)
def utc_terminal(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def build_row(item, now=NOON_SECONDS):
    """Return the cells of an item by the headings of the table."""
    return dict(zip(TABLE_HEADINGS, format_item_row(item, now, Clock(UTC)), strict=True))


def describe(item, now=NOON_SECONDS):
    return dict(describe_item(item, now, Clock(UTC)))


def test_row_has_the_short_estimate_and_the_last_progress():
    row = build_row(TRAINING_ITEM)
    assert (row["LEFT"], row["PROGRESS"], row["STATUS"]) == ("~30 min, 12:31", "6 min ago", "> running")


def test_row_of_a_stuck_item_names_the_usual_gap():
    row = build_row({**TRAINING_ITEM, "stuck": True, "eta": None, "finish_at": None})
    assert (row["STATUS"], row["LEFT"]) == ("! stuck", "")
    assert row["PROGRESS"] == "no progress for 6 min, usually every 2 s"


def test_row_of_a_stalled_item_has_its_last_sign_of_life():
    row = build_row({**TRAINING_ITEM, "stalled": True, "stuck": True}, NOON_SECONDS + 180)
    assert (row["STATUS"], row["PROGRESS"], row["LEFT"]) == ("? stalled", "last heard from 3 min ago", "")


def test_row_without_heartbeats_has_its_last_update():
    row = build_row({**TRAINING_ITEM, "heartbeat_timeout": None}, NOON_SECONDS + 18 * 60)
    assert row["PROGRESS"] == "no update for 18 min"


def test_row_of_a_slow_and_late_item_has_both_flags():
    assert build_row({**TRAINING_ITEM, "slower": True, "late": True})["STATUS"] == "> running, late, slower"


def test_row_marks_an_estimated_total():
    item = {**TRAINING_ITEM, "total": None, "value": 0.0, "estimated_total": 1187.4, "estimated_value": 0.0354}
    row = build_row(item)
    assert (row["DONE"], row["COUNT"]) == ("~3 %", "42 / ~1,200 steps")


def test_row_of_an_older_server_has_empty_columns():
    row = build_row(LEGACY_ITEM)
    assert list(row.values()) == ["> running", "42 %", "", "", "", "", "A job", "job"]
    assert build_row({**LEGACY_ITEM, "eta": 1860.0})["LEFT"] == "~31 min"


@pytest.mark.parametrize("field", [name for name in TRAINING_ITEM if name not in LEGACY_ITEM])
def test_row_without_one_field_is_a_row(field):
    item = {name: value for name, value in TRAINING_ITEM.items() if name != field}
    assert len(format_item_row(item, NOON_SECONDS, Clock())) == len(TABLE_HEADINGS)
    assert all(text for _, text in describe_item(item, NOON_SECONDS, Clock()))


def test_description_of_a_running_item_has_sentences():
    assert describe({**TRAINING_ITEM, "slower": True, "late": True, "deadline": rfc3339(NOON_SECONDS - 720)}) == {
        "alert": "slower than usual: ~50 min, usually 25 min; 12 min late",
        "count": "42 %, 42 / 100 steps",
        "progress": "6 min ago",
        "duration": "running for 20 min, usual duration 25 min",
        "estimate": "~30 min left, about 12:31 (12:25 to 12:47), from 6 former runs",
    }


def test_description_of_an_ended_item_has_its_duration():
    ended = {**TRAINING_ITEM, "status": "succeeded", "ended_at": rfc3339(NOON_SECONDS), "eta": None, "finish_at": None}
    assert describe(ended, NOON_SECONDS + 9999) == {
        "count": "42 %, 42 / 100 steps",
        "duration": "took 20 min, usual duration 25 min",
    }


def test_description_of_an_older_server_is_a_percentage():
    assert describe(LEGACY_ITEM) == {"count": "42 %"}


def test_description_has_no_control_characters():
    assert "\x1b" not in describe({**TRAINING_ITEM, "basis": "\x1b[2J"})["estimate"]


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("stuck", {"stuck": True}),
        ("slower", {"slower": True}),
        ("late", {"late": True}),
        ("stalled", {"stalled": True}),
    ],
)
def test_filter_of_a_state_selects_running_items(status, flags):
    assert has_status({**TRAINING_ITEM, **flags}, status)
    assert not has_status(TRAINING_ITEM, status)
    assert not has_status({**TRAINING_ITEM, **flags, "status": "failed"}, status)
    assert not has_status(LEGACY_ITEM, status)


def test_filter_of_a_status_treats_an_absent_one_as_running():
    assert has_status(LEGACY_ITEM, "running")
    assert not has_status(LEGACY_ITEM, "failed")


def test_clock_offset_comes_from_the_estimates():
    assert find_clock_offset([TRAINING_ITEM], NOON_SECONDS - 100) == 100.0
    assert find_clock_offset([TRAINING_ITEM], NOON_SECONDS + 100) == -100.0
    assert find_clock_offset([TRAINING_ITEM], NOON_SECONDS + 1) == 0.0


def test_clock_offset_without_estimates_is_of_the_last_write():
    item = {**TRAINING_ITEM, "eta": None}
    assert (find_clock_offset([item], NOON_SECONDS - 100), find_clock_offset([item], NOON_SECONDS + 100)) == (
        100.0,
        0.0,
    )
    assert find_clock_offset([LEGACY_ITEM], NOON_SECONDS) == 0.0


def test_ls_filters_by_status(configured_server, command):
    command("set", "a", "0.5")
    command("set", "b", "1")
    done = command("ls", "--json", "--status", "succeeded")
    assert [item["id"] for item in done.json] == ["b"]
    both = command("ls", "--json", "--status", "succeeded", "--status", "running")
    assert len(both.json) == 2


def test_ls_without_a_match_names_the_filter(configured_server, command):
    command("set", "a", "0.5")
    done = command("ls", "--status", "stuck", "--status", "late")
    assert (done.code, done.out, done.err) == (0, "", "No item is stuck or late.\n")


def test_ls_of_an_unknown_status_is_wrong_usage(command):
    assert command("ls", "--status", "lost").code == 2


def test_get_begins_with_the_times(configured_server, command, monkeypatch):
    def get_training_item(*_):
        yield from ()
        return {**TRAINING_ITEM, "stuck": True}

    monkeypatch.setattr(ServerProtocol, "get", get_training_item)
    monkeypatch.setattr(item_commands.time, "time", lambda: NOON_SECONDS)
    lines = command("get", "job").out.splitlines()
    assert lines[0].split(maxsplit=1) == ["alert", "no progress for 6 min, usually every 2 s"]
    assert "started_at" in {line.split()[0] for line in lines if line}


def test_get_shows_measures_in_their_units(configured_server, command, monkeypatch):
    def get_measured_item(*_):
        yield from ()
        return {**TRAINING_ITEM, "usual_gap_seconds": 0.559457540512085, "estimated_value": 1 / 3, "ttl": 90.0}

    monkeypatch.setattr(ServerProtocol, "get", get_measured_item)
    fields = dict(re.split("  +", line) for line in command("get", "job").out.splitlines() if line)
    assert [fields[name] for name in ("usual_gap_seconds", "eta", "eta_high")] == ["0.56 s", "31 min", "47 min"]
    assert (fields["estimated_value"], fields["ttl"]) == ("0.333333", "90.0")


def test_watch_lines_are_not_repeated_while_time_passes(configured_server, command, monkeypatch):
    now = iter(NOON_SECONDS + 600.0 * n for n in range(99))
    monkeypatch.setattr(item_commands.time, "time", lambda: next(now))

    def watch(client, **options):
        yield Change(True, [TRAINING_ITEM], [], [], 1)
        yield Change(False, [TRAINING_ITEM], [], [], 2)
        yield Change(False, [{**TRAINING_ITEM, "stuck": True}], [], [], 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "watch", watch)
    assert [line.split()[1] for line in command("watch").out.splitlines()] == ["running", "stuck"]


def test_ls_of_a_legacy_server_lists_the_items(command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    reply = httpx.MockTransport(lambda request: httpx.Response(200, json=[LEGACY_ITEM]))
    monkeypatch.setattr(
        connection, "ProgressBar", lambda url, key, **options: ProgressBar(url, key, transport=reply, **options)
    )
    assert command("ls").out.splitlines()[1].split() == [">", "running", "42", "%", "A", "job", "job"]


@pytest.fixture
def timed_server(tmp_path, monkeypatch):
    """A server and its clock, which is also the clock of the commands."""
    clock = ManualClock()
    with start_server(tmp_path / "progress.db", clock=clock) as server:
        monkeypatch.setenv("PROGRESSBAR_URL", server.url)
        monkeypatch.setenv("PROGRESSBAR_API_KEY", server.create_key("write", "me"))
        monkeypatch.setattr(item_commands.time, "time", clock)
        yield server, clock


def write_item(server, item_id, **fields):
    with open_client(server.url, os.environ["PROGRESSBAR_API_KEY"]) as http:
        http.put(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).raise_for_status()


def test_get_of_a_server_counts_from_the_start_of_the_run(timed_server, command):
    server, clock = timed_server
    write_item(server, "job", completed=1, total=10, age_seconds=600)
    clock.advance(60)
    assert ["duration", "running for 11 min"] in [
        re.split("  +", line) for line in command("get", "job").out.splitlines()
    ]


def test_ls_of_a_server_has_the_estimate(timed_server, command):
    server, clock = timed_server
    write_item(server, "job", completed=100, total=1000, seq=1)
    clock.advance(600)
    write_item(server, "job", completed=200, total=1000, seq=2)
    _, line = command("ls").out.splitlines()
    assert re.search(r"200 / 1,000  0.17 it/s  ~1 h \d+ min, (\w+ )?\d\d:\d\d  0 s ago", line)
    assert re.search(r"estimate +~1 h \d+ min left, about .*\), from this run", command("get", "job").out)


def test_ls_with_a_wrong_clock_uses_the_clock_of_the_server(timed_server, command, monkeypatch):
    server, clock = timed_server
    write_item(server, "job", completed=100, total=1000, seq=1)
    clock.advance(600)
    write_item(server, "job", completed=200, total=1000, seq=2)
    expected = command("ls").out
    monkeypatch.setattr(item_commands.time, "time", lambda: clock.now + 5000)
    assert command("ls").out == expected


def test_ls_of_a_server_has_the_last_update_without_heartbeats(timed_server, command):
    server, clock = timed_server
    write_item(server, "job", value=0.3)
    clock.advance(18 * 60)
    assert "no update for 18 min" in command("ls").out


def test_ls_of_a_server_selects_stuck_items(timed_server, command):
    server, clock = timed_server
    write_item(server, "hung", completed=1, total=10, stuck_after=300)
    write_item(server, "fine", completed=1, total=10)
    pass_time(server, clock, 360)
    _, line = command("ls", "--status", "stuck").out.splitlines()
    assert line.split()[:2] == ["!", "stuck"]
    assert "no progress for 6 min" in line
