"""Programs whose last lines a real server stores: ``exec``, ``run`` and ``log()``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.cli import PATIENT_CLI_COMMAND
from tests.support.programs import PATIENT_EXIT_PRELUDE
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

OUTPUT_SCRIPT = r"""
printf 'start\r\n'; printf '10 %%\r20 %%\r'; printf 'oops password=hunter2\n' >&2; printf 'key %s\n' "$SERVICE_TOKEN"
printf 'no end'
exit 3
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.close()


def make_environ(server):
    return {**os.environ, "PROGRESSBAR_URL": server.url, "PROGRESSBAR_API_KEY": ADMIN_KEY, "SERVICE_TOKEN": "abc-def-1"}


def run(server, *arguments):
    return subprocess.run(
        [*PATIENT_CLI_COMMAND, *arguments], env=make_environ(server), capture_output=True, timeout=120, check=False
    )


def read_tail(server, item_id):
    with server.http() as http:
        reply = http.get(f"/api/v1/tails/{item_id}")
        return reply.json()["tail"] if reply.status_code == 200 else None


def test_exec_passes_the_output_through_and_sends_its_last_lines(server):
    done = run(server, "exec", "--id", "job", "--tail", "sh", "-c", OUTPUT_SCRIPT)
    assert done.returncode == 3
    assert done.stdout == b"start\r\n10 %\r20 %\rkey abc-def-1\nno end"
    assert done.stderr == b"oops password=hunter2\n"
    lines = read_tail(server, "job").split("\n")
    assert sorted(lines) == sorted(["start", "key ***", "no end", "oops password=***"])


def test_exec_sends_the_given_number_of_lines(server):
    run(server, "exec", "--id", "few", "--tail=2", "--", "seq", "100")
    assert read_tail(server, "few") == "99\n100"


def test_exec_without_the_option_sends_no_output(server):
    run(server, "exec", "--id", "none", "sh", "-c", "echo text; sleep 1; exit 1")
    assert read_tail(server, "none") == ""


def test_run_sends_the_output_of_its_job(server, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "import sys; print('out'); print('Bearer abcdefgh', file=sys.stderr); sys.exit('--tail' in sys.argv)"
    )
    done = run(server, "run", "--id", "python", "--tail", str(script), "--tail")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"out\n", b"Bearer abcdefgh\n")
    assert sorted(read_tail(server, "python").split("\n")) == ["Bearer ***", "out"]


def test_tail_grows_while_the_program_runs(server):
    code = PATIENT_EXIT_PRELUDE + "from progressbar_tracker import track\nwith track(total=1, id='live') as bar:\n"
    code += " bar.log('first')\n input()\n bar.log('second')\n input()\n bar.fail('end')"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=make_environ(server), stdin=subprocess.PIPE, text=True
    ) as program:
        wait_until(lambda: read_tail(server, "live") == "first", timeout=60)
        program.stdin.write("\n")
        program.stdin.flush()
        wait_until(lambda: read_tail(server, "live") == "first\nsecond", timeout=60)
        program.communicate("\n", timeout=60)


def test_flood_of_output_is_complete_on_stdout(server):
    done = run(server, "exec", "--id", "flood", "--tail", "--", "seq", "300000")
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert read_tail(server, "flood").split("\n")[-1] == "300000"


@pytest.mark.parametrize("count", ["0", "1001", "x", "-1", ""])
def test_invalid_number_of_lines_is_refused(server, count):
    done = run(server, "exec", f"--tail={count}", "true")
    assert (done.returncode, b"from 1 to 1000" in done.stderr) == (2, True)


def test_get_shows_the_output_to_a_key_with_permission(server):
    run(server, "exec", "--id", "shown", "--tail", "sh", "-c", r"printf 'one\ttwo\nlast\n'; exit 1")
    assert (
        run(server, "get", "shown")
        .stdout.decode()
        .endswith("\noutput (secrets are masked by their form, which can miss some):\none     two\nlast\n")
    )
    with server.http() as http:
        key = http.post("/api/v1/keys", json={"type": "read", "name": "reader"}).json()["key"]
    environ = make_environ(server) | {"PROGRESSBAR_API_KEY": key}
    done = subprocess.run(
        [*PATIENT_CLI_COMMAND, "get", "shown"], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert "shown" in done.stdout
    assert "one     two" not in done.stdout


def test_keys_create_gives_the_permission(server):
    done = run(server, "keys", "create", "--type", "read", "--name", "n", "--read-tail", "--url", server.url)
    with server.http() as http:
        key = done.stdout.decode().strip()
        permissions = http.get("/api/key-info", headers={"X-API-KEY": key}).json()["permissions"]
    assert permissions == ["read", "read_tail"]


def test_exec_masks_the_last_line_of_stderr_in_its_error(server):
    script = "echo 'login with password=hunter2 and '$SERVICE_TOKEN >&2; exit 1"
    done = run(server, "exec", "--id", "masked", "sh", "-c", script)
    assert done.stderr.startswith(b"login with password=hunter2 and abc-def-1\n")
    with server.http() as http:
        item = http.get("/api/v1/items/masked").json()
    assert item["error"] == "exit code 1: login with password=*** and ***"


def test_invalid_mask_sends_no_text_of_the_output(server):
    environ = {**make_environ(server), "PROGRESSBAR_MASK": "("}
    done = subprocess.run(
        [*PATIENT_CLI_COMMAND, "exec", "--id", "unmasked", "sh", "-c", "echo text-of-stderr >&2; exit 3"],
        env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    with server.http() as http:
        item = http.get("/api/v1/items/unmasked").json()
    assert (done.returncode, item["error"]) == (3, "exit code 3")
    assert "PROGRESSBAR_MASK" in done.stderr


def test_acknowledged_tail_survives_kill_of_the_server(tmp_path):
    server = ServerProcess(tmp_path)
    try:
        with server.http() as http:
            body = {"run_id": "r", "tail": "kept\nlast"}
            assert http.put("/api/v1/items/killed", json=body).status_code == 201
            server.stop(signal.SIGKILL)
        server.start()
        assert read_tail(server, "killed") == "kept\nlast"
    finally:
        server.close()


def test_tail_continues_after_kill_of_the_server(tmp_path):
    server = ServerProcess(tmp_path)
    script = "echo one; read x; echo two; read x; exit 1"
    command = [*PATIENT_CLI_COMMAND, "exec", "--id", "long", "--tail", "sh", "-c", script]
    try:
        with subprocess.Popen(command, env=make_environ(server), stdin=subprocess.PIPE) as program:
            wait_until(lambda: read_tail(server, "long") == "one", timeout=60)
            server.stop(signal.SIGKILL)
            program.stdin.write(b"\n")
            program.stdin.flush()
            server.start()
            wait_until(lambda: read_tail(server, "long") == "one\ntwo", timeout=60)
            program.communicate(b"\n", timeout=60)
    finally:
        server.close()


def test_tail_stays_after_kill_of_the_supervisor(server):
    command = [*PATIENT_CLI_COMMAND, "exec", "--id", "orphan", "--tail", "sh", "-c", "echo one; read x"]
    with subprocess.Popen(command, env=make_environ(server), stdin=subprocess.PIPE) as program:
        wait_until(lambda: read_tail(server, "orphan") == "one", timeout=60)
        program.kill()
        program.wait(60)
    assert read_tail(server, "orphan") == "one"


def test_last_lines_of_a_killed_program_are_sent(server):
    done = run(server, "exec", "--id", "victim", "--tail", "sh", "-c", "echo one; printf 'half a line'; kill -9 $$")
    assert done.returncode == -signal.SIGKILL
    assert read_tail(server, "victim") == "one\nhalf a line"
