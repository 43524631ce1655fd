"""``stop`` with a real server."""

from __future__ import annotations

import threading

import pytest

from progressbar_tracker import ProgressBar
from tests.support.waiting import wait_until


@pytest.fixture
def client(configured_server):
    with ProgressBar() as client:
        yield client


def create_item(client, item_id="job", **fields):
    client.create(item_id, "A job", "", 0.1)
    return client.patch(item_id, stoppable=True, **fields)


def test_stop_requests_the_end_of_the_run(client, command):
    create_item(client)
    done = command("stop", "job")
    name = client.get("job")["stop_requested_by"]
    assert (done.code, done.out) == (0, f"job  stop requested by {name}, waiting for the program\n")
    assert f"stop requested by {name}, waiting" in command("get", "job").out
    assert f"A job: stop requested by {name}, waiting" in command("ls").out
    assert command("stop", "job", "--json").json["stop_requested_by"] == name


def test_stop_of_another_run_is_an_error(client, command):
    item = create_item(client)
    assert command("stop", "job", "--run", "other").code == 1
    assert client.get("job")["stop_requested_at"] is None
    assert command("stop", "job", "--run", item["run_id"]).code == 0


@pytest.mark.parametrize("item_id", ["ended", "fixed", "missing"])
def test_stop_that_is_refused_is_an_error(client, command, item_id):
    create_item(client, "ended", status="failed")
    client.create("fixed", "", "", 0.1)
    done = command("stop", item_id)
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(("status", "code"), [("stopped", 0), ("succeeded", 0), ("failed", 5), ("deleted", 4)])
def test_stop_with_wait_exits_with_the_end_of_the_run(client, command, status, code):
    create_item(client)

    def end():
        wait_until(lambda: client.get("job")["stop_requested_at"] is not None)
        if status == "deleted":
            client.delete("job")
        else:
            client.patch("job", status=status)

    thread = threading.Thread(target=end)
    thread.start()
    done = command("stop", "job", "--wait")
    thread.join()
    assert done.code == code
    assert done.out.startswith(f"job  {status}")
    assert ("stop requested by" in done.out) is (status == "stopped")


def test_stop_gives_up_waiting_after_the_timeout(client, command):
    create_item(client)
    done = command("stop", "job", "--wait", "--timeout", "0.2s")
    assert (done.code, "not ended within" in done.err) == (124, True)


def test_stop_refuses_a_timeout_without_wait(configured_server, command):
    assert command("stop", "job", "--timeout", "5s").code == 2
