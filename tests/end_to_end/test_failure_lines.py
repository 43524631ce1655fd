"""No failure is silent: for each failure and each way to track, the exit code and the one line that names the cause."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import subprocess
import sys
import threading
from typing import NamedTuple

import pytest

from tests.support.fault_server import HANG, NO_FAULT, make_response
from tests.support.waiting import wait_until

SECRET_KEY = "pbt_w_very_secret_0123456789"
LINE_PREFIX = "progressbar-tracker: "
PROGRAM_TIMEOUT = 100

HTML_PAGE = b"<!doctype html><title>Welcome</title>"


class Failure(NamedTuple):
    """A failure, and words of the line about it, with alternatives after ``|``.

    ``is_silent_for_library``: it is no failure for a program that only uses the library.
    """

    words: str
    environ: dict[str, str] = {}  # noqa: RUF012 - never changed
    config: str | None = None
    fault: object = None
    result: dict[str, object] | None = None
    is_silent_for_library: bool = False
    starts_well: bool = False


def problem(status, detail):
    return {"status": status, "problem": {"type": "/problems/x", "status": status, "detail": detail}}


FAILURES_BY_NAME = {
    "server down": Failure("Connection refused", {"PROGRESSBAR_URL": "{closed}"}),
    "wrong key": Failure("refuses the key", fault=make_response(401, b'{"title": "x", "detail": "unknown key"}')),
    "key revoked later": Failure(
        "refuses the key", fault=make_response(401, b'{"title": "x", "detail": "revoked"}'), starts_well=True
    ),
    "url without scheme": Failure("PROGRESSBAR_URL must be a URL", {"PROGRESSBAR_URL": "server:8989"}),
    "url without key": Failure("there is no key for", {"PROGRESSBAR_API_KEY": ""}),
    "invalid toml": Failure(
        "is not valid TOML", {"PROGRESSBAR_URL": "", "PROGRESSBAR_API_KEY": ""}, config="url = http:"
    ),
    "no configuration": Failure(
        "no server is configured", {"PROGRESSBAR_URL": "", "PROGRESSBAR_API_KEY": ""}, is_silent_for_library=True
    ),
    "html 404": Failure("not from a progress server", fault=make_response(404, HTML_PAGE, Content_Type="text/html")),
    "html 502": Failure("a proxy answers", fault=make_response(502, HTML_PAGE, Content_Type="text/html")),
    "sign-in page": Failure(
        "redirects to https://portal.example",
        fault=make_response(302, HTML_PAGE, Location="https://portal.example/?t=1"),
    ),
    "json api that repeats the key": Failure(
        "not from a progress server", fault=make_response(404, b'{"message": "no route for %s"}' % SECRET_KEY.encode())
    ),
    # Which of the two comes first depends on the time that the machine needs for the start.
    "no answer": Failure("did not reach the server in time|no answer to POST", fault=HANG),
    "forbidden item": Failure("was refused (403): not your item", result=problem(403, "not your item")),
    "item of another run": Failure("another run", result=problem(409, "another run has taken it over")),
    "quota": Failure("(429): too many items", result=problem(429, "too many items")),
    "unknown channel": Failure(
        "this server has no channel 'phone'",
        result={
            "status": 201,
            "warnings": [{"code": "unknown-channel", "detail": "this server has no channel 'phone'"}],
        },
    ),
}

# The program ends when the failure is known. A machine under load may need longer than a program's end waits.
WAIT_FOR_REPORT = """
import time
from progressbar_tracker import _runtime, flush
sender = _runtime.get_sender()
end = time.monotonic() + 60
while time.monotonic() < end and not ({hangs} or sender._failures._logged_at or sender._reconciler.disabled_reason):
    if flush(0.1) and not {starts_well}:
        break
raise SystemExit(3)
"""

TRACK_PROGRAM = """
from progressbar_tracker import flush, track
bar = track(total=2, id="job", keep=True, notify="phone", display=False)
bar.advance()
if {starts_well}:
    assert flush(60)
bar.advance()
bar.close()
"""

LOGGING_PRELUDE = "import logging; logging.basicConfig(format='%(levelname)s %(name)s %(message)s')\n"

TQDM_PROGRAM = """
import io, time
from tqdm import tqdm
bar = tqdm(total=2, file=io.StringIO())
time.sleep(0.1)  # short bars are not sent
bar.update(1)
if {starts_well}:
    from progressbar_tracker import flush
    assert flush(60)
bar.update(1)
bar.close()
"""

COMMAND_PROGRAM = """
import sys
from progressbar_tracker import _runtime
from progressbar_tracker._sender import sender
from progressbar_tracker.cli import run_command_line
_runtime.EXIT_TIMEOUT = sender.EXIT_TIMEOUT = {seconds}
sys.exit(run_command_line())
"""


class World:
    """A failure set up, and programs in it."""

    def __init__(self, name, faults, folder):
        failure = FAILURES_BY_NAME[name]
        self.name = name
        self.failure, self.faults, self.folder = failure, faults, folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = folder / "config.toml"
        if failure.config is not None:
            config.write_text(failure.config)
        if failure.starts_well:
            faults.script.append(NO_FAULT)
        faults.default_fault = failure.fault
        if failure.result is not None:
            faults.apply_op = lambda op: {"id": op["id"], **failure.result}
        self.environ = {
            **os.environ,
            "PROGRESSBAR_URL": faults.url,
            "PROGRESSBAR_API_KEY": SECRET_KEY,
            "PROGRESSBAR_CONFIG": str(config),
            "PYTHONWARNINGS": "error",
            **{variable: text.format(closed=closed) for variable, text in failure.environ.items()},
        }

    def write_program(self, text):
        path = self.folder / "program.py"
        hangs = self.failure.fault is HANG
        values = {"starts_well": self.failure.starts_well, "hangs": hangs}
        path.write_text(text.format(**values) + WAIT_FOR_REPORT.format(**values))
        return path

    def command(self, *arguments):
        """Return a command line whose end is patient on a busy machine, unless the server never takes the state."""
        path = self.folder / "command.py"
        seconds = {"no answer": 1.5, "quota": 20.0}.get(self.name, 90.0)
        path.write_text(COMMAND_PROGRAM.format(seconds=seconds))
        return [sys.executable, str(path), *map(str, arguments)]

    def run(self, command, stdin=b""):
        """Return the exit code and what was written to stderr; stdin ends when the first request has arrived."""
        process = subprocess.Popen(
            command, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.stdin.write(stdin)
            process.stdin.flush()
            if self.failure.starts_well:
                wait_until(lambda: self.faults.requests or process.poll() is not None)
            process.stdin.close()
            process.stdin = None
            _, errors = process.communicate(timeout=PROGRAM_TIMEOUT)
        finally:
            process.kill()
        return process.returncode, errors.decode()

    def run_on_terminal(self, command):
        return run_on_terminal(command, self.environ)


def run_on_terminal(command, environ):
    """Return the exit code and the output of a program whose stdout and stderr are a terminal."""
    controller, terminal = pty.openpty()
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # the end of the terminal
            while chunk := os.read(controller, 65536):
                chunks.append(chunk)

    process = subprocess.Popen(command, env=environ, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(PROGRAM_TIMEOUT)
    finally:
        process.kill()
    reader.join(PROGRAM_TIMEOUT)
    os.close(controller)
    return code, b"".join(chunks).decode()


@pytest.fixture(params=FAILURES_BY_NAME)
def world(request, faults, tmp_path):
    return World(request.param, faults, tmp_path)


def check_one_line(world, output, prefix=LINE_PREFIX):
    lines = output.replace("\r", "").splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith(prefix)
    assert any(words in lines[0] for words in world.failure.words.split("|")), lines[0]
    assert SECRET_KEY not in output


def test_track_on_a_terminal_prints_one_line(world):
    code, output = world.run_on_terminal([sys.executable, world.write_program(TRACK_PROGRAM)])
    assert code == 3
    if world.failure.is_silent_for_library:
        assert output == ""
    else:
        check_one_line(world, output)


def test_track_with_logging_logs_one_warning(world):
    code, output = world.run_on_terminal([sys.executable, world.write_program(LOGGING_PRELUDE + TRACK_PROGRAM)])
    assert code == 3
    if world.failure.is_silent_for_library:
        assert output == ""
    else:
        check_one_line(world, output, "WARNING progressbar_tracker ")


@pytest.mark.parametrize("world", ["server down", "wrong key", "html 404", "quota"], indirect=True)
def test_track_in_a_pipe_prints_nothing(world):
    code, output = world.run([sys.executable, world.write_program(TRACK_PROGRAM)])
    assert (code, output) == (3, "")


def test_run_prints_one_line(world):
    if world.failure.words.startswith("this server has no channel"):
        pytest.skip("without --job no channel is notified")
    code, output = world.run(world.command("run", world.write_program(TQDM_PROGRAM)))
    assert code == 3
    check_one_line(world, output)


def test_exec_prints_one_line(world):
    code, output = world.run(world.command("exec", "--notify", "phone", "--", "sh", "-c", "cat; exit 3"))
    assert code == 3
    check_one_line(world, output)


def test_pipe_prints_one_line(world):
    code, output = world.run(world.command("pipe", "--notify", "phone"), b"one\n")
    assert code == 0
    check_one_line(world, output)


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("exec", "127.0.0.1:9102"),
        ("run", "127.0.0.1:9102"),
        ("run --job", "127.0.0.1:9102"),
        ("pipe", "127.0.0.1:9102"),
        ("exec", ""),
        ("exec", "http://me:secret@host"),
    ],
)
def test_invalid_url_option_prints_one_line_and_runs_the_job(faults, tmp_path, command, url):
    """The configured server is valid, and is sent nothing."""
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\nfrom progressbar_tracker import track\nfor _ in track([1], display=False): pass\n"
        "sys.exit(3 if sys.stdin.read() == 'in' else 9)\n"
    )
    program = {
        "exec": ["--", sys.executable, script], "run": [script], "run --job": [script], "pipe": [],
    }[command]  # fmt: skip
    environ = {**os.environ, "PROGRESSBAR_URL": faults.url, "PROGRESSBAR_API_KEY": SECRET_KEY}
    done = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", *command.split(), "--url", url, *program],
        env=environ, input=b"in", capture_output=True, timeout=PROGRAM_TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == ((0, b"in") if command == "pipe" else (3, b""))
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"{LINE_PREFIX}Progress is not reported: --url ")
    assert ("secret" in line, faults.requests) == (False, [])


@pytest.mark.parametrize("command", ["exec", "run", "pipe"])
def test_unknown_option_is_wrong_usage(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", command, "--urll", "http://host", "--", "touch", tmp_path / "x"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=PROGRAM_TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, list(tmp_path.glob("x"))) == (2, [])
