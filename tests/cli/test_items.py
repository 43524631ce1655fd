"""``ls``, ``get``, ``set``, ``rm`` and ``watch`` with a real server."""

from __future__ import annotations

import os
import shutil
import time
from types import SimpleNamespace

import pytest

from progressbar_tracker import Change, ProgressBar, TransportError
from progressbar_tracker.cli import watch as watch_commands


def test_set_creates_an_item_that_ls_shows(configured_server, command):
    assert command("set", "job", "0.42", "--title", "A job", "--description", "going on").code == 0
    done = command("ls")
    heading, line = done.out.splitlines()
    assert heading.split() == ["STATUS", "DONE", "COUNT", "RATE", "LEFT", "PROGRESS", "TITLE", "ID"]
    assert "running" in line
    assert "42 %" in line
    assert "A job: going on" in line
    assert line.endswith("job")


def test_set_keeps_omitted_fields(configured_server, command):
    command("set", "job", "0.5", "--title", "A job", "--description", "first", "--weight", "7")
    command("set", "job", "--description", "second")
    item = command("get", "job", "--json").json
    assert (item["title"], item["description"], item["value"], item["weight"]) == ("A job", "second", 0.5, 7)


@pytest.mark.parametrize(("time", "seconds"), [("90s", 90.0), ("off", None)])
def test_set_changes_stuck_after(configured_server, command, time, seconds):
    assert command("set", "job", "0.5", "--stuck-after", "1h").code == 0
    assert command("set", "job", "--stuck-after", time).code == 0
    item = command("get", "job", "--json").json
    assert (item["value"], item["stuck_after"]) == (0.5, seconds)
    assert f"stuck_after {seconds or 'off'}" in " ".join(command("get", "job").out.split())


def test_set_refuses_a_stuck_after_of_zero(configured_server, command):
    done = command("set", "job", "0.5", "--stuck-after", "0")
    assert (done.code, command("ls", "--json").json) == (2, [])


def test_set_to_one_ends_the_item(configured_server, command):
    command("set", "job", "0.5")
    command("set", "job", "1")
    assert command("get", "job", "--json").json["status"] == "succeeded"


def test_set_changes_count_unit_and_group(configured_server, command):
    assert command("set", "job", "--completed", "3", "--total", "12", "--unit", "files", "--group", "nightly").code == 0
    item = command("get", "job", "--json").json
    assert (item["completed"], item["total"], item["unit"], item["group"]) == (3, 12, "files", "nightly")
    assert item["value"] == 0.25
    assert "3 / 12 files" in command("ls").out
    command("set", "job", "--group", "", "--description", "half way")
    item = command("get", "job", "--json").json
    assert (item["group"], item["description"], item["completed"]) == (None, "half way", 3)


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        (["--status", "succeeded"], "succeeded", None),
        (["--status", "stopped"], "stopped", None),
        (["--status", "failed"], "failed", None),
        (["--error", "no space left"], "failed", "no space left"),
        (["0.7", "--status", "stopped"], "stopped", None),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_new", [True, False])
def test_set_ends_an_item(configured_server, command, options, status, error, is_new):
    if not is_new:
        command("set", "job", "0.5")
    assert command("set", "job", *options).code == 0
    item = command("get", "job", "--json").json
    assert (item["status"], item["error"]) == (status, error)


@pytest.mark.parametrize(
    "options",
    [
        ["--status", "lost"], ["--status", "stopped", "--error", "x"], ["0.5", "--completed", "3"],
        ["1", "--status", "failed"],
    ],
    ids=str,
)  # fmt: skip
def test_set_refuses_contradictions(configured_server, command, options):
    done = command("set", "job", *options)
    assert (done.code, done.err.count("\n"), command("ls", "--json").json) == (2, 1, [])


def test_set_of_an_ended_run_says_that_it_has_ended(configured_server, command):
    command("set", "job", "--status", "failed")
    done = command("set", "job", "--completed", "3")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "has failed" in done.err


def test_set_with_a_value_names_a_new_run(configured_server, command):
    command("set", "job", "1")
    done = command("set", "job", "0.5")
    assert (done.code, done.err) == (0, "The item had ended as succeeded: this is a new run.\n")
    assert command("set", "job", "0.6").err == ""


def test_set_changes_the_deadline(configured_server, command):
    assert command("set", "job", "0.5", "--deadline", "2099-01-31T18:00:00+00:00").code == 0
    assert command("get", "job", "--json").json["deadline"].startswith("2099-01-31T18:00:00")


def test_set_reports_an_unknown_channel(configured_server, command):
    done = command("set", "job", "0.5", "--notify", "phone")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "phone" in done.err
    assert "Warning" not in done.err


def test_ls_json_is_the_servers_list(configured_server, command):
    command("set", "a", "0.1")
    command("set", "b", "0.2", "--weight", "5")
    assert [item["id"] for item in command("ls", "--json").json] == ["b", "a"]


def test_ls_without_items_writes_a_note_to_stderr(configured_server, command):
    done = command("ls")
    assert (done.code, done.out, done.err) == (0, "", "Nothing is running.\n")


def test_get_shows_all_fields(configured_server, command):
    command("set", "job", "0.5", "--title", "A job")
    done = command("get", "job")
    assert ["title", "A", "job"] in [line.split() for line in done.out.splitlines()]


@pytest.mark.parametrize("keep", [True, False], ids=["listed", "left"])
def test_get_says_how_many_inner_bars_were_too_short(configured_server, command, keep):
    with ProgressBar(configured_server.url, configured_server.create_key("write", "a")) as pb:
        for _ in pb.track(range(5), id="job", keep=keep):
            pb.sender.flush(60)
            for _ in pb.track(range(2), interval=60):
                pass
    assert command("get", "job", "--json").json["short_runs"] == 5
    assert ["inner", "bars", "5"] in [line.split()[:3] for line in command("get", "job").out.splitlines()]


def test_rm_deletes_items_and_names_missing_ones(configured_server, command):
    command("set", "a", "0.5")
    done = command("rm", "a", "b")
    assert (done.code, done.err) == (1, "progressbar-tracker: there is no item with the id b\n")
    assert command("ls", "--json").json == []


def test_ls_through_a_pipe_has_no_colours(configured_server, command):
    command("set", "job", "1")
    assert "\x1b" not in command("ls").out


def test_ls_keeps_a_hostile_title_on_one_line(configured_server, command):
    title = "a‮b" + "日本語" * 10
    command("set", "job", "0.5", "--title", title)
    lines = command("ls").out.splitlines()
    assert len(lines) == 2
    assert "‮" not in lines[1]


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_ls_in_a_terminal_has_whole_ids(configured_server, command, monkeypatch, columns):
    ids = ["nightly-import-europe-2026", "x" * 120]
    for item_id in ids:
        command("set", item_id, "0.5", "--title", "A title that is long enough to be cut " * 3)
    monkeypatch.setattr("progressbar_tracker.cli.items.terminal_width", lambda: columns)
    heading, *lines = command("ls").out.splitlines()
    assert "TITLE" in heading.split() or columns == 50
    assert [line.split()[-1] for line in lines] == ids
    assert len(lines[0]) <= columns


@pytest.mark.parametrize("arguments", [["get", "nope"], ["rm", "nope"]])
def test_missing_item_is_one_line_and_exit_code_1(configured_server, command, arguments):
    done = command(*arguments)
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("progressbar-tracker: there is no item with the id")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["set", "job", "1.5"], "value"),
        (["set", "x" * 201, "0.5"], "item_id"),
        (["set", "job", "0.5", "--title", "x" * 201], "title"),
    ],
)
def test_invalid_value_is_named_in_one_line(configured_server, command, arguments, field):
    done = command(*arguments)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert field in done.err


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["ls", "--nope"], ["set"], ["set", "job", "half"], ["rm"], ["keys", "create"], ["watch", "x"]],
)
def test_wrong_usage_is_one_line_and_exit_code_2(command, arguments):
    done = command(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert "--help" in done.err


def test_ls_without_configuration_says_how_to_configure(command):
    done = command("ls")
    assert done.code == 1
    assert "PROGRESSBAR_URL" in done.err
    assert "login" in done.err


def test_invalid_setting_is_named(monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_URL", "server:8989")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    done = command("ls")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "PROGRESSBAR_URL" in done.err


def test_unreachable_server_is_one_line(monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    done = command("ls")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "http://127.0.0.1:1" in done.err
    assert done.err.endswith("(run 'progressbar-tracker doctor')\n")


def test_refused_key_is_one_line_without_the_key(server, monkeypatch, command):
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "wrong-key-for-the-test")
    done = command("ls")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "wrong-key" not in done.err


def test_watch_through_a_pipe_prints_a_line_for_each_change(configured_server, command, monkeypatch):
    watch = ProgressBar.watch
    with ProgressBar(configured_server.url, configured_server.create_key("admin", "a")) as pb:
        pb.create("job", "Job", "", 0.1)

        def watch_with_changes(client, **options):
            changes = watch(client, **options)
            yield next(changes)
            pb.update("job", "Job", "", 0.5)
            yield next(changes)
            pb.delete("job")
            yield next(changes)
            raise KeyboardInterrupt

        monkeypatch.setattr(ProgressBar, "watch", watch_with_changes)
        done = command("watch")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[:4] for line in lines[:-1]] == [[">", "running", "10", "%"], [">", "running", "50", "%"]]
    assert lines[-1][:3] == [".", "deleted", "after"]


def test_watch_restores_the_terminal(configured_server, command, monkeypatch):
    command("set", "job", "0.5", "--title", "A job")
    sizes = iter([os.terminal_size((80, 24))])

    def get_terminal_size():
        if (size := next(sizes, None)) is None:
            raise KeyboardInterrupt
        return size

    with monkeypatch.context() as patched:  # only during the command, because pytest reads the size as well
        patched.setattr("sys.stdout.isatty", lambda: True, raising=False)
        patched.setattr(shutil, "get_terminal_size", get_terminal_size)
        done = command("watch")
    assert done.code == 0
    assert done.out.startswith("\x1b[?1049h")
    assert "A job" in done.out
    assert done.out.endswith("\x1b[?1049l")


def test_watch_without_a_stream_polls_the_list(command, monkeypatch):
    from tests.support.fault_server import WRITE_KEY, FaultServer

    server = FaultServer(legacy=True)
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)
    assert command("set", "job", "0.5", "--title", "A job").code == 0

    def stop(seconds):
        raise KeyboardInterrupt

    # Not time.sleep itself: a thread of an earlier command may still follow its server.
    monkeypatch.setattr(watch_commands, "time", SimpleNamespace(**{**vars(time), "sleep": stop}))
    try:
        done = command("watch")
    finally:
        server.close()
    assert (done.code, done.out.split()[:4]) == (0, [">", "running", "50", "%"])


def test_watch_keeps_the_start_of_an_outage(monkeypatch):
    item_list = watch_commands.ItemList()
    now = iter([100.0, 103.0])
    monkeypatch.setattr(watch_commands.time, "monotonic", lambda: next(now))
    item_list.record_outage(None)
    item_list.record_outage(TransportError("no answer", method="GET", url="u"))
    assert item_list.outage == (100.0, "no answer")
    item_list.apply(Change(True, [], [], [], 1))
    assert item_list.outage is None


def test_version_is_that_of_the_package(command):
    import importlib.metadata

    expected = importlib.metadata.version("progressbar-tracker") + "\n"
    assert command("version").out == command("--version").out == expected
