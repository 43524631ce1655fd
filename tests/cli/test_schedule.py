"""``schedule`` with a real server."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.usefixtures("configured_server")


def test_schedule_is_set_listed_and_deleted(command):
    done = command(
        "schedule", "set", "a/b", "--cron", "0 3 * * *", "--timezone", "Europe/Paris", "--grace", "10m", "--notify",
        "phone", "--notify", "team",
    )  # fmt: skip
    assert done.code == 0
    assert re.fullmatch(r"a/b: expected (\w{3} )?\d\d:00 \(0 3 \* \* \* Europe/Paris, grace 10 min\)\n", done.out), (
        done.out
    )
    assert command("schedule", "set", "sync", "--every", "1h").code == 0
    listed = command("schedule", "ls")
    assert "0 3 * * * Europe/Paris" in listed.out
    assert "every 1 h" in listed.out
    first, second = command("schedule", "ls", "--json").json
    assert (first["id"], first["grace"], first["notify"], first["owner"]) == ("a/b", 600.0, ["phone", "team"], "me")
    assert (second["every"], second["grace"]) == (3600.0, 300.0)
    assert command("schedule", "ls", "--missed").err == "No start was missed.\n"
    assert command("schedule", "delete", "a/b", "sync").code == 0
    assert command("schedule", "ls").err == "There is no schedule.\n"


def test_schedules_fit_into_80_columns(command, monkeypatch):
    """Times are those of the terminal, and neither they nor the rule are cut."""
    monkeypatch.setattr("progressbar_tracker.cli.schedule.terminal_width", lambda: 80)
    command("schedule", "set", "nightly-backup", "--cron", "0 3 * * *", "--timezone", "Europe/Paris", "--grace", "10m")
    command("schedule", "set", "sync", "--every", "1h")
    lines = command("schedule", "ls").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ID", "EXPECTED", "STATE", "RULE", "GRACE", "OWNER"]
    assert re.search(r"nightly-backup  (\w{3} )?\d\d:00 +waiting +0 3 \* \* \* Europe/Paris  10 min", lines[1])


@pytest.mark.parametrize(("options", "message"), [
    (["--every", "10s"], "every must be 1 min to 366 days, in whole seconds, not 10 s"),
    (["--every", "1h", "--grace", "1s"], "grace must be 10 s to 7 days, in whole seconds, not 1 s"),
    (["--cron", "61 3 * * *"], "cron must be a cron expression, not '61 3 * * *': Bad minute"),
])  # fmt: skip
def test_refused_schedule_is_explained(command, options, message):
    assert message in command("schedule", "set", "job", *options).err


def test_schedule_is_printed_as_json(command):
    assert command("schedule", "set", "sync", "--every", "90m", "--json").json["every"] == 5400.0


@pytest.mark.parametrize("options", [
    [], ["--cron", "* * * * *", "--every", "1h"], ["--every", "soon"], ["--every", "1h", "--timezone", "UTC"],
])  # fmt: skip
def test_wrong_options_of_a_schedule_are_usage_errors(command, options):
    assert command("schedule", "set", "job", *options).code == 2


@pytest.mark.parametrize(
    "options", [["--cron", "* * *"], ["--every", "1s"], ["--cron", "* * * * *", "--timezone", "x"]]
)
def test_refused_schedule_is_one_line(command, options):
    done = command("schedule", "set", "job", *options)
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_unknown_schedule_is_one_line(command):
    done = command("schedule", "delete", "none")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_many_schedules_are_listed_page_by_page(command, monkeypatch):
    monkeypatch.setattr("progressbar_tracker._http.schedules.MAX_SCHEDULE_PAGE", 2)
    for name in "abcde":
        command("schedule", "set", f"{name}&1", "--every", "1h")
    assert [schedule["id"] for schedule in command("schedule", "ls", "--json").json] == [
        f"{name}&1" for name in "abcde"
    ]
