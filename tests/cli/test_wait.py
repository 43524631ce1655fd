"""``wait``: the exit code says how runs ended, whatever happens to items and server meanwhile."""

from __future__ import annotations

import random

import pytest

from progressbar_tracker import Change, ProgressBar
from progressbar_tracker.cli.wait import MAX_LOOKUPS, UnknownEndError, Waiting
from tests.support.connections import find_free_port
from tests.support.server import start_server


@pytest.fixture
def client(configured_server):
    with ProgressBar(configured_server.url, configured_server.create_key("admin", "a")) as client:
        yield client


@pytest.fixture
def after_snapshot(monkeypatch):
    """Call functions as soon as the command has the first snapshot of the board."""
    watch, steps = ProgressBar.watch, []

    def watch_and_act(client, **options):
        changes = watch(client, **options)
        yield next(changes)
        while steps:
            steps.pop(0)()
        yield from changes

    monkeypatch.setattr(ProgressBar, "watch", watch_and_act)
    return steps.append


RUN_ENDS = {
    "succeeded": (0, lambda client: client.patch("job", status="succeeded")),
    "stopped": (3, lambda client: client.patch("job", status="stopped")),
    "deleted": (4, lambda client: client.delete("job")),
    "failed": (5, lambda client: client.patch("job", status="failed", error="ValueError: bad row")),
}


@pytest.mark.parametrize("end", RUN_ENDS)
def test_exit_code_is_the_end_of_the_run(client, after_snapshot, command, end):
    code, act = RUN_ENDS[end]
    client.create("job", "Job", "", 0.1)
    after_snapshot(lambda: act(client))
    done = command("wait", "job", "--timeout", "100")
    assert (done.code, done.err) == (code, "")
    assert done.out.startswith(f"job  {end} after ")


@pytest.mark.parametrize("end", RUN_ENDS)
def test_run_that_has_ended_counts(client, command, end):
    code, act = RUN_ENDS[end]
    client.create("job", "Job", "", 0.1)
    act(client)
    assert command("wait", "job").code == code


def test_highest_code_of_several_ids_counts(client, command):
    for item_id, status in (("a", "succeeded"), ("b", "failed"), ("c", "stopped")):
        client.create(item_id, item_id, "", 0.1)
        client.patch(item_id, status=status)
    done = command("wait", "a", "b", "c", "--json")
    assert (done.code, [run["status"] for run in done.json]) == (5, ["succeeded", "failed", "stopped"])
    assert command("wait", "a", "c").code == 3


def test_timeout_is_124_and_names_the_running_items(client, command):
    client.create("a", "a", "", 1.0)
    client.create("b", "b", "", 0.1)
    done = command("wait", "a", "b", "--timeout", "0.1")
    assert (done.code, done.err) == (124, "progressbar-tracker: not ended within 0.1 s: b\n")


def test_unknown_item_is_an_error(configured_server, command):
    done = command("wait", "nope")
    assert (done.code, done.out) == (1, "")
    assert done.err == "progressbar-tracker: there is no item with the id 'nope' (--appear waits for it)\n"


def test_appear_waits_until_the_item_begins(client, after_snapshot, command):
    def begin_and_end():
        client.create("job", "Job", "", 0.1)
        client.patch("job", status="stopped")

    after_snapshot(begin_and_end)
    assert command("wait", "job", "--appear").code == 3


def test_appear_with_a_timeout_ends(configured_server, command):
    assert command("wait", "job", "--appear", "--timeout", "0.1").code == 124


@pytest.mark.parametrize("end", RUN_ENDS)
def test_end_during_a_restart_of_the_server_counts(tmp_path, monkeypatch, command, after_snapshot, end):
    monkeypatch.setattr(random, "random", lambda: 0.0)  # no delay before the next connection
    code, act = RUN_ENDS[end]
    database, port = tmp_path / "progress.db", find_free_port()
    servers = [start_server(database, port=port)]
    key = servers[0].create_key("write", "me")
    monkeypatch.setenv("PROGRESSBAR_URL", servers[0].url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", key)

    def restart_and_end():
        servers[0].close()
        servers.append(start_server(database, port=port))
        with ProgressBar(servers[1].url, key) as client:
            act(client)

    with ProgressBar(servers[0].url, key) as client:
        client.create("job", "Job", "", 0.1)
    after_snapshot(restart_and_end)
    try:
        assert command("wait", "job", "--timeout", "100").code == code
    finally:
        for server in servers:
            server.close()


def test_run_that_another_run_replaces_is_awaited():
    waiting = Waiting(["job"])
    waiting.apply(Change(True, [{"id": "job", "status": "running", "run_id": "r1"}], [], [], 1))
    waiting.apply(Change(False, [{"id": "job", "status": "running", "run_id": "r2"}], [], [], 2))
    assert (waiting.missing, waiting.get_run_id("job")) == ({"job"}, "r1")
    ended = {"id": "job", "status": "stopped", "run_id": "r1"}
    assert waiting.apply(Change(False, [], [], [ended], 3)) == ["job"]
    assert waiting.is_over


def test_end_that_is_committed_after_the_change_is_awaited():
    waiting = Waiting(["job"])
    waiting.apply(Change(True, [{"id": "job", "status": "running", "run_id": "r1"}], [], [], 1))
    waiting.apply(Change(True, [], [], [], 2))
    assert not waiting.resolve("job", None, appear=False)
    assert waiting.missing == {"job"}
    assert waiting.resolve("job", {"id": "job", "status": "deleted", "run_id": "r1"}, appear=False)
    assert waiting.is_over


def test_end_that_the_history_never_has_is_an_error():
    waiting = Waiting(["job"], {"job": "r1"})
    with pytest.raises(UnknownEndError, match="does not have its end"):
        for _ in range(MAX_LOOKUPS + 1):
            waiting.resolve("job", None, appear=False)


def test_read_key_may_wait(client, configured_server, command, monkeypatch):
    client.create("job", "Job", "", 1.0)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", configured_server.create_key("read", "wall"))
    assert command("wait", "job").code == 0


def test_unreachable_server_at_the_start_is_an_error(command, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    done = command("wait", "job")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "http://127.0.0.1:1" in done.err


def test_server_without_a_stream_is_an_error(command, monkeypatch):
    from tests.support.fault_server import WRITE_KEY, FaultServer

    server = FaultServer(legacy=True)
    monkeypatch.setenv("PROGRESSBAR_URL", server.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)
    try:
        done = command("wait", "job")
    finally:
        server.close()
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "event stream" in done.err


@pytest.mark.parametrize("options", [[], ["job", "--timeout", "soon"]], ids=str)
def test_wrong_usage_is_2(command, options):
    assert command("wait", *options).code == 2
