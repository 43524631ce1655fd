"""``mcp`` as a process: its errors, its streams, and its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.support.cli import write_script
from tests.support.connections import find_free_port
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer, make_response

pytest.importorskip("mcp", reason="needs the package mcp: install .[mcp]")

from tests.support.agents import start_agent

INITIALIZE_PARAMETERS = {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory):
    with start_agent(tmp_path_factory.mktemp("agent")) as agent:
        yield agent


@pytest.fixture
def agent(shared_agent):
    """An agent without a configuration."""
    shared_agent.remove_configuration()
    return shared_agent


def get_error(reply):
    """Return the text of a tool error, which is one line and has no result."""
    assert reply.is_error
    assert reply.content == {}
    assert len(reply.text.splitlines()) == 1
    return reply.text


# ---------------------------------------------------------------- tool errors


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("list_items", {}), ("get_item", {"id": "job"}), ("get_run", {"id": "job", "run_id": "r"}), ("history", {}),
        ("wait_for", {"id": "job"}), ("stop", {"id": "job"}),
    ],
    ids=str,
)  # fmt: skip
def test_each_tool_without_a_configuration_says_how_to_log_in(agent, tool, arguments):
    assert "progressbar-tracker login URL" in get_error(agent.call(tool, **arguments))


def test_configuration_that_is_written_later_is_used(agent, server):
    get_error(agent.call("list_items"))
    agent.configure(server.url, server.create_key("read", "agent"))
    assert agent.call("list_items").content["items"] == []


def test_wrong_key_is_named_as_the_cause_and_not_shown(agent, server):
    agent.configure(server.url, "pbt_r_wrong_key_0123456789")
    error = get_error(agent.call("list_items"))
    assert "401" in error
    assert "pbt_r_wrong" not in error + agent.log


@pytest.mark.parametrize("tool", ["list_items", "wait_for"])
def test_server_without_an_answer_is_named(agent, tool):
    url = f"http://127.0.0.1:{find_free_port()}"
    agent.configure(url, "key")
    arguments = {"id": "job"} if tool == "wait_for" else {}
    assert f"no answer to GET {url}" in get_error(agent.call(tool, **arguments))


def test_invalid_url_is_named_with_its_place(agent):
    agent.configure("ftp://server", "key")
    assert "config.toml: url must" in get_error(agent.call("list_items"))


def test_unknown_id_and_run_are_named(agent, server):
    agent.configure(server.url, server.create_key("read", "agent"))
    assert get_error(agent.call("get_item", id="nope")) == "there is no item with the id 'nope'"
    assert get_error(agent.call("get_run", id="nope", run_id="r")) == "'nope' has no run 'r'"
    assert "appear=true" in get_error(agent.call("wait_for", id="nope"))


@pytest.mark.parametrize(
    ("tool", "arguments", "name"),
    [
        ("list_items", {"limit": 0}, "limit"),
        ("list_items", {"status": ["lost"]}, "status"),
        ("list_items", {"state": "failed"}, "state"),
        ("get_item", {}, "id"),
        ("get_item", {"id": ""}, "id"),
        ("get_item", {"id": r"a\x00b"}, "id"),
        ("history", {"since": "yesterday-ish"}, "since"),
        ("history", {"limit": 10_000}, "limit"),
        ("wait_for", {"id": "job", "timeout_seconds": 1e9}, "timeout_seconds"),
        ("wait_for", {"id": r"a\x00b"}, "id"),
    ],
    ids=str,
)
def test_invalid_argument_is_named(agent, server, tool, arguments, name):
    agent.configure(server.url, server.create_key("read", "agent"))
    assert name in re.split(r"\W+", get_error(agent.call(tool, **arguments)))


def test_unknown_tool_is_an_error(agent):
    assert "'shell'" in get_error(agent.call("shell"))


def test_key_that_a_server_repeats_is_not_shown(agent):
    server = FaultServer()
    try:
        server.default_fault = make_response(400, json.dumps({"title": "x", "detail": f"bad {WRITE_KEY}"}).encode())
        agent.configure(server.url, WRITE_KEY)
        assert "bad <key>" in get_error(agent.call("list_items"))
    finally:
        server.close()
    assert WRITE_KEY not in agent.log


def test_wait_without_an_event_stream_is_an_error(agent):
    server = FaultServer(legacy=True)
    try:
        agent.configure(server.url, WRITE_KEY)
        assert "event stream" in get_error(agent.call("wait_for", id="job"))
    finally:
        server.close()


def test_wait_at_a_server_that_hangs_ends_at_its_timeout(agent):
    server = FaultServer()
    try:
        server.default_fault = HANG
        agent.configure(server.url, WRITE_KEY)
        reply = agent.call("wait_for", id="job", timeout_seconds=0.5)
    finally:
        server.close()
    assert reply.content["outcome"] == "timeout"


# ---------------------------------------------------------------- streams and the end


class RawProcess:
    """The command with pipes, without a client."""

    def __init__(self, shell):
        self.process = shell.start(
            "mcp", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._next_id = 0

    def send(self, method, **params):
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            self._next_id += 1
            message["id"] = self._next_id
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self._next_id

    def initialize(self):
        self.send("initialize", **INITIALIZE_PARAMETERS)
        reply = self.read()
        self.send("notifications/initialized")
        return reply

    def read(self):
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def raw(shell):
    raw = RawProcess(shell)
    with raw.process:
        yield raw
        raw.process.kill()


def test_stdin_that_ends_ends_the_process(raw):
    out, err = raw.process.communicate(timeout=100)
    assert (raw.process.returncode, out, err) == (0, "", "")


def start_raw_wait(raw, shell):
    raw.initialize()
    shell.http.put("/api/v1/items/raw", json={"value": 0.5}).raise_for_status()
    request_id = raw.send("tools/call", name="wait_for", arguments={"id": "raw"}, _meta={"progressToken": "t"})
    assert raw.read()["method"] == "notifications/progress"
    return request_id


def test_stdin_that_ends_during_a_wait_ends_the_process(raw, shell):
    start_raw_wait(raw, shell)
    out, err = raw.process.communicate(timeout=100)
    assert (raw.process.returncode, err) == (0, "")
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())


def test_stdout_has_messages_only_and_stderr_the_errors(raw):
    raw.initialize()
    raw.send("tools/call", name="get_item", arguments={"id": "nope"})
    assert raw.read()["result"]["isError"]
    out, err = raw.process.communicate(timeout=100)
    assert (out, err) == ("", "progressbar-tracker: a tool failed: there is no item with the id 'nope'\n")


def test_malformed_line_leaves_the_process_serving(raw):
    raw.process.stdin.write("not json\n")
    assert raw.initialize()["result"]["serverInfo"]["name"] == "progressbar-tracker"


def test_stdout_without_a_reader_ends_the_process(raw):
    raw.initialize()
    raw.process.stdout.close()
    raw.send("tools/list")
    raw.process.stdin.close()
    assert raw.process.wait(timeout=100) == 0
    assert raw.process.stderr.read() == ""


def test_interrupt_ends_the_process(raw, shell):
    start_raw_wait(raw, shell)
    raw.process.send_signal(signal.SIGINT)
    assert raw.process.wait(timeout=100) == -signal.SIGINT
    assert raw.process.stderr.read() == ""


@pytest.mark.parametrize("redirection", ["<&-", ">&-"])
def test_closed_stream_is_an_error(shell, redirection):
    done = shell.bash(f"pbt mcp {redirection}")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"closed" in done.stderr


# ---------------------------------------------------------------- the extra


def test_command_without_the_package_says_how_to_install_it(command, monkeypatch):
    monkeypatch.delitem(sys.modules, "progressbar_tracker.cli.mcp.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    done = command("mcp")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "pip install '.[mcp]'" in done.err


def test_no_other_command_imports_the_package(tmp_path):
    script = write_script(
        tmp_path,
        "import sys\n"
        "from progressbar_tracker.cli import run_command_line\n"
        "assert run_command_line(['mcp', '--help']) == 0\n"
        "print(sorted({'mcp', 'mcp_types', 'pydantic', 'anyio'} & set(sys.modules)))\n",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
