"""``history``, and ``get`` for an item that has left the list, with a real server."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from progressbar_tracker.cli.history import parse_time
from progressbar_tracker.server.models import EndedRun
from progressbar_tracker.server.mutations import AddHistory
from tests.support.clock import START_TIME
from tests.support.items import make_item


def make_run(item_id, status, start, seconds, **fields):
    return EndedRun(make_item(item_id, at=START_TIME + start, **fields), status, START_TIME + start + seconds)


def add_runs(server, runs):
    server.store.commit([AddHistory(run) for run in runs]).result(60)


@pytest.fixture
def former_runs(configured_server):
    """A server whose history has a run of each end, an inner one, and two of one id."""
    nightly = {"title": "Import", "group": "nightly"}
    runs = [
        make_run("import", "succeeded", 0, 60, run_id="r1", **nightly),
        make_run("import", "failed", 86400, 60, run_id="r2", **nightly),
        make_run("backup", "stopped", 90000, 303, run_id="r3", title="Back up"),
        make_run("inner", "succeeded", 90001, 1, run_id="r4", parent="backup"),
    ]
    add_runs(configured_server, runs)
    return configured_server


def list_runs(command, *options):
    return [run["run_id"] for run in command("history", "--json", *options).json]


def test_history_lists_ended_runs_newest_first(former_runs, command):
    heading, *lines = command("history").out.splitlines()
    assert heading.split() == ["STATUS", "ENDED", "TOOK", "COUNT", "TITLE", "ID"]
    assert [line.split()[1] for line in lines] == ["stopped", "failed", "succeeded"]
    assert "5 min 3 s" in lines[0]
    assert [line.split()[-1] for line in lines] == ["backup", "import", "import"]


def test_history_of_an_id_names_its_runs(former_runs, command):
    heading, *lines = command("history", "import").out.splitlines()
    assert heading.split()[-1] == "RUN"
    assert [line.split()[-1] for line in lines] == ["r2", "r1"]
    assert command("get", "import", "--run", "r1").code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--status", "failed"], ["r2"]),
        (["--group", "nightly"], ["r2", "r1"]),
        (["--text", "back"], ["r3"]),
        (["--inner"], ["r4", "r3", "r2", "r1"]),
        (["inner"], ["r4"]),
        (["--limit", "1"], ["r3"]),
        (["--since", "2100-01-01"], []),
        (["--until", "2100-01-01T18:00"], ["r3", "r2", "r1"]),
        (["--since", "2000-01-01", "--until", "2000-01-01"], []),
    ],
    ids=" ".join,
)
def test_history_is_filtered(former_runs, command, options, expected):
    assert list_runs(command, *options) == expected


def test_history_dates_include_the_whole_day(former_runs, command):
    ended = command("history", "--json", "--status", "stopped").json[0]["ended_at"]
    day = re.match(r"\d+-\d\d-\d\d", ended)[0]
    assert "r3" in list_runs(command, "--until", day)


def test_age_is_an_instant_before_now():
    before = datetime.now().astimezone() - timedelta(hours=2)
    instant = parse_time("2h", is_end=False)
    assert before <= instant <= datetime.now().astimezone() - timedelta(hours=2)


def test_history_pages_until_the_limit(configured_server, command):
    description = "x" * 1900
    add_runs(
        configured_server,
        [make_run("job", "succeeded", n, 1, run_id=f"r{n}", description=description) for n in range(400)],
    )
    assert list_runs(command, "--limit", "399") == [f"r{n}" for n in range(399, 0, -1)]


def test_history_names_older_runs_on_stderr(former_runs, command):
    done = command("history", "--limit", "1")
    assert len(done.out.splitlines()) == 2
    assert "--limit" in done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["history"], "The history has no run yet.\n"),
        (["history", "job"], "The history has no run of job yet.\n"),
        (["history", "--status", "failed"], "No run matches.\n"),
    ],
    ids=" ".join,
)
def test_empty_history_writes_a_note_to_stderr(configured_server, command, arguments, text):
    done = command(*arguments)
    assert (done.code, done.out, done.err) == (0, "", text)


@pytest.mark.parametrize(
    ("options", "text"),
    [([], "The history has no run of my train yet."), (["--status", "failed"], "No run of my train matches.")],
)
def test_history_of_a_listed_item_names_its_status(configured_server, command, options, text):
    command("set", "my train", "0.5")
    note = "The item is still listed, as running: progressbar-tracker get 'my train' shows it."
    assert command("history", "my train", *options).err == f"{text} {note}\n"


@pytest.mark.parametrize("options", [["--since", "yesterday"], ["--status", "lost"], ["--limit", "0"]], ids=" ".join)
def test_history_with_an_invalid_option_names_it(command, options):
    done = command("history", *options)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert options[0] in done.err


def test_get_of_an_item_that_left_shows_its_last_run(former_runs, command):
    done = command("get", "import")
    lines = [line.split(maxsplit=1) for line in done.out.splitlines() if line]
    assert (done.code, ["status", "failed"] in lines) == (0, True)
    assert ["link", f"{former_runs.url}/items/import?run=r2"] in lines
    assert done.err == "The item has left the list: this is its last run.\n"
    assert command("get", "import", "--json").json["run_id"] == "r2"


def test_get_and_history_work_with_a_read_key(former_runs, command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_API_KEY", former_runs.create_key("read", "wall"))
    assert command("get", "import").code == command("history").code == 0
