"""``exec`` and ``track()`` in the environments of other systems, as programs and with a real server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from datetime import datetime

import pytest

from tests.support.cli import CommandRunner, write_script
from tests.support.programs import PATIENT_EXIT_PRELUDE
from tests.support.server import start_server
from tests.support.waiting import wait_until

SLURM_VARIABLES = {"SLURM_JOB_ID": "81", "SLURM_JOB_NAME": "nightly", "PROGRESSBAR_ENVIRONMENT": "1"}


@pytest.fixture
def shell(tmp_path):
    """The command line in processes, with a server."""
    with start_server(tmp_path / "progress.db") as server:
        runner = CommandRunner(server)
        yield runner
        runner.http.close()


def test_requeued_job_continues_its_item(shell):
    for restarts in ("0", "1"):
        done = shell.run("exec", "--", "false", environ={**SLURM_VARIABLES, "SLURM_RESTART_COUNT": restarts})
        assert done.returncode == 1
    (item,) = shell.items().values()
    assert item["id"].startswith("false-slurm-81-")
    assert (item["meta"]["slurm_name"], item["meta"]["slurm_restarts"]) == ("nightly", "1")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_equal_commands_at_the_same_time_have_items_of_their_own(shell):
    processes = [
        shell.start("exec", "--", "sh", "-c", "read line", environ=SLURM_VARIABLES, stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    wait_until(lambda: len(shell.items()) == 3)
    for process in processes:
        process.communicate(b"\n", timeout=60)
        assert process.returncode == 0


def test_end_of_the_job_is_the_deadline(shell):
    ends_at = int(time.time()) + 3600
    shell.run("exec", "--", "false", environ={**SLURM_VARIABLES, "SLURM_JOB_END_TIME": str(ends_at)})
    (item,) = shell.items().values()
    assert datetime.fromisoformat(item["deadline"]).timestamp() == ends_at


def test_option_overrides_the_end_of_the_job(shell):
    shell.run("exec", "--id", "own", "--deadline", "2099-01-01", "--", "false", environ={
        **SLURM_VARIABLES, "SLURM_JOB_END_TIME": str(int(time.time()) + 60)
    })  # fmt: skip
    assert shell.item("own")["deadline"].startswith(("2099-01-01", "2098-12-31"))


def test_items_of_a_program_name_the_job(shell, tmp_path):
    path = write_script(
        tmp_path,
        f"{PATIENT_EXIT_PRELUDE}from progressbar_tracker import track\n"
        "for _ in track(range(3), id='loop', keep=True): pass\n",
    )
    environ = {**shell.environ, "GITLAB_CI": "true", "CI_JOB_URL": "https://ci/1", "PROGRESSBAR_ENVIRONMENT": "1"}
    subprocess.run([sys.executable, path], env=environ, check=True, timeout=60)
    assert shell.item("loop")["meta"]["ci_url"] == "https://ci/1"


def test_exec_adds_a_line_to_the_summary_of_a_step(shell, tmp_path):
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "PROGRESSBAR_ENVIRONMENT": "1"}
    shell.run("exec", "--id", "a/b", "--title", "Build", "--", "false", environ=environ)
    line = (tmp_path / "summary").read_text()
    assert line.startswith(f"- [Build]({shell.url}/items/a%2Fb): **failed** after ")
    assert line.endswith(": exit code 1\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no systemd")
def test_exec_sends_its_status_to_systemd(shell, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(60)
        environ = {"NOTIFY_SOCKET": receiver.getsockname(), "PROGRESSBAR_ENVIRONMENT": "1"}
        shell.run("exec", "--title", "Build", "--", "true", environ=environ)
        assert receiver.recv(4096) == b"STATUS=Build"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no systemd")
def test_exec_sends_the_parsed_progress_to_systemd(shell, tmp_path):
    program = "for n in 10 20 30 40; do echo $n %; done; read line"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(60)
        environ = {"NOTIFY_SOCKET": receiver.getsockname(), "PROGRESSBAR_ENVIRONMENT": "1"}
        arguments = ("exec", "--parse", "--title", "Build", "--", "sh", "-c", program)
        process = shell.start(*arguments, environ=environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        while not receiver.recv(4096).startswith(b"STATUS=Build: 40 %"):
            pass
        process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
