"""``ls``, ``get``, ``set``, ``rm`` and ``watch`` with a real server."""

from __future__ import annotations

import os
import shutil

import pytest

from progressbar_tracker import Change, ProgressBar, TransportError
from progressbar_tracker.cli import items


def test_set_creates_an_item_that_ls_shows(configured_server, command):
    assert command("set", "job", "0.42", "--title", "A job", "--description", "going on").code == 0
    done = command("ls")
    heading, line = done.out.splitlines()
    assert heading.split() == ["STATUS", "DONE", "COUNT", "LEFT", "TITLE", "ID"]
    assert "running" in line
    assert "42 %" in line
    assert "A job: going on" in line
    assert line.endswith("job")


def test_set_keeps_omitted_fields(configured_server, command):
    command("set", "job", "0.5", "--title", "A job", "--description", "first", "--weight", "7")
    command("set", "job", "--description", "second")
    item = command("get", "job", "--json").json
    assert (item["title"], item["description"], item["value"], item["weight"]) == ("A job", "second", 0.5, 7)


def test_set_to_one_ends_the_item(configured_server, command):
    command("set", "job", "0.5")
    command("set", "job", "1")
    assert command("get", "job", "--json").json["status"] == "succeeded"


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
    assert [line.split()[:4] for line in done.out.splitlines()] == [
        [">", "running", "10", "%"],
        [">", "running", "50", "%"],
        ["-", "gone", "job"],
    ]


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

    monkeypatch.setattr(items.time, "sleep", stop)
    try:
        done = command("watch")
    finally:
        server.close()
    assert (done.code, done.out.split()[:4]) == (0, [">", "running", "50", "%"])


def test_watch_keeps_the_start_of_an_outage(monkeypatch):
    item_list = items._ItemList()
    now = iter([100.0, 103.0])
    monkeypatch.setattr(items.time, "monotonic", lambda: next(now))
    item_list.record_outage(None)
    item_list.record_outage(TransportError("no answer", method="GET", url="u"))
    assert item_list.outage == (100.0, "no answer")
    item_list.apply(Change(True, [], [], [], 1))
    assert item_list.outage is None


def test_version_is_that_of_the_package(command):
    import importlib.metadata

    expected = importlib.metadata.version("progressbar-tracker") + "\n"
    assert command("version").out == command("--version").out == expected
