"""The line about a failure on stderr: where it is shown, once for a tree of processes, and harmless for the program."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from progressbar_tracker import _log
from progressbar_tracker._terminal import failure_lines
from progressbar_tracker._terminal.failure_lines import FailureLines, Reporter, SharedClaims, identify_stderr
from tests.end_to_end.test_failure_lines import run_on_terminal
from tests.support.connections import find_free_port
from tests.terminal.test_display_failures import DESCRIPTOR_CASES, OBJECT_CASES, find_differences

LINE_START = "progressbar-tracker: "

WAIT_FOR_REPORT = """
import time
from progressbar_tracker import _runtime, track
def wait_for_report():
    sender = _runtime.get_sender()
    end = time.monotonic() + 60
    while not sender._failures._logged_at and time.monotonic() < end:
        time.sleep(0.01)
"""

POOL_PROGRAM = (
    WAIT_FOR_REPORT
    + """
import os
for number in range(4):
    if os.fork() == 0:
        bar = track(total=1, id=str(number), display=False)
        bar.advance()
        wait_for_report()
        raise SystemExit
for number in range(4):
    os.wait()
"""
)

BAR_PROGRAM = (
    WAIT_FOR_REPORT
    + """
with track(total=10, id="outer", display=True) as outer, track(total=10, id="inner", display=True) as inner:
    for number in range(10):
        outer.advance()
        inner.advance()
        time.sleep(0.2)
        if number == 5:
            wait_for_report()
"""
)

PLAIN_PROGRAM = (
    WAIT_FOR_REPORT
    + """
bar = track(total=1, id="plain", display=False)
bar.advance()
wait_for_report()
"""
)


@pytest.fixture
def environ():
    """An environment whose server is down."""
    return {
        **os.environ,
        "PROGRESSBAR_URL": f"http://127.0.0.1:{find_free_port()}",
        "PROGRESSBAR_API_KEY": "key",
        "PYTHONWARNINGS": "error::UserWarning",
    }


def read_screen(output):
    """Return the lines of a terminal after all output: carriage returns and upward movements are applied."""
    rows, row, column = [""], 0, 0
    position = 0
    while position < len(output):
        if output.startswith("\x1b[A", position):
            row, position = max(row - 1, 0), position + 3
            continue
        character, position = output[position], position + 1
        if character == "\n":
            row += 1
            if row == len(rows):
                rows.append("")
        elif character == "\r":
            column = 0
        else:
            line = rows[row].ljust(column)
            rows[row] = line[:column] + character + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in rows if line.strip()]


def run_in_pipe(program, environ):
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=100, check=True
    ).stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_workers_print_one_line(environ):
    code, output = run_on_terminal([sys.executable, "-c", POOL_PROGRAM], environ)
    assert code == 0
    assert output.count(LINE_START) == 1


SPAWN_PROGRAM = f"""
import subprocess, sys
plain = {PLAIN_PROGRAM!r} + "sys.stdin.read()"
children = [subprocess.Popen([sys.executable, "-c", "import sys" + plain], stdin=subprocess.PIPE) for _ in range(3)]
{PLAIN_PROGRAM}
for child in children:
    child.communicate(timeout=100)
"""
"""Programs of one job that all have a failure before the first one ends."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_programs_of_a_job_print_one_line(environ):
    code, output = run_on_terminal([sys.executable, "-c", SPAWN_PROGRAM], environ)
    assert code == 0
    assert output.count(LINE_START) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_another_job_in_the_terminal_has_its_own_line(environ):
    program = SPAWN_PROGRAM.replace("stdin=subprocess.PIPE)", "stdin=subprocess.PIPE, process_group=0)")
    code, output = run_on_terminal([sys.executable, "-c", program], environ)
    assert code == 0
    assert output.count(LINE_START) == 4


def test_line_leaves_bars_whole(environ):
    code, output = run_on_terminal([sys.executable, "-c", BAR_PROGRAM], environ)
    assert code == 0
    line, bar = read_screen(output)
    assert line.startswith(LINE_START)
    assert line.endswith("(run 'progressbar-tracker doctor')")
    assert bar.startswith("outer: 100%")


def test_program_of_run_writes_to_the_stderr_of_the_command(environ):
    code = """
import os
from progressbar_tracker._terminal.failure_lines import Reporter, identify_stderr
os.environ.update(Reporter(identify_stderr()).to_environ())
"""
    assert run_in_pipe(code + PLAIN_PROGRAM, environ).count(LINE_START) == 1


def test_captured_stderr_in_a_program_of_run_stays_empty(environ):
    """The program may parse what its own children write."""
    assert run_in_pipe(PLAIN_PROGRAM, {**environ, **Reporter((1, 1)).to_environ()}) == ""


def test_failure_that_the_command_covers_is_not_repeated(environ):
    code, output = run_on_terminal(
        [sys.executable, "-c", PLAIN_PROGRAM], {**environ, **Reporter(None, covers_server=True).to_environ()}
    )
    assert (code, output) == (0, "")


@pytest.mark.parametrize("kind", [*DESCRIPTOR_CASES, *OBJECT_CASES])
def test_broken_stderr_does_not_affect_a_command(tmp_path, environ, kind):
    cases = [
        {"stderr": kind, "scenario": program, "reports": True, "environ": dict(environ)}
        for program in ("default", "die")
    ]
    assert find_differences(tmp_path, cases) == []


@pytest.mark.parametrize("text", ["", "x", "1:2:3", "a:b", "1:", ":1", "9" * 30 + ":1 server", "server 5:x"])
def test_invalid_reporter_variable_is_harmless(text):
    reporter = Reporter.from_environ({"PROGRESSBAR_REPORTER": text})
    assert reporter.covers_server == ("server" in text)
    assert reporter.stderr is None or len(reporter.stderr) == 2


def test_reporter_survives_its_variable():
    for reporter in (Reporter(), Reporter((5, 6)), Reporter(None, covers_server=True), Reporter((0, 1), True)):
        assert Reporter.from_environ(reporter.to_environ()) == reporter


def test_claim_is_given_once():
    claims = SharedClaims()
    assert [claims.claim("once"), claims.claim("once"), claims.claim("other")] == [True, False, True]


def test_claim_of_a_child_holds_in_its_parent():
    claims = SharedClaims()
    claims.share()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if claims.claim("of the child") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not claims.claim("of the child")
    assert claims.claim("of the parent")


def detach_logger(monkeypatch):
    """Return the package's logger without handlers on its way to the root; pytest adds its own before a test."""
    logger = logging.getLogger("progressbar_tracker")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    return logger


def test_destination_of_a_program_without_logging(monkeypatch):
    detach_logger(monkeypatch)
    assert _log.find_destination() is None


def test_destination_of_a_program_with_logging(monkeypatch, tmp_path):
    bare_logger = detach_logger(monkeypatch)
    handler = logging.FileHandler(tmp_path / "log")
    bare_logger.addHandler(handler)
    assert _log.find_destination() == "elsewhere"
    handler.close()


def test_destination_of_a_handler_on_stderr(monkeypatch):
    bare_logger = detach_logger(monkeypatch)
    bare_logger.addHandler(handler := logging.StreamHandler(sys.stderr))
    assert _log.find_destination() == "stderr"
    handler.setLevel(logging.ERROR)
    assert _log.find_destination() == "elsewhere"


def test_muted_logger_is_no_missing_configuration(monkeypatch):
    bare_logger = detach_logger(monkeypatch)
    bare_logger.setLevel(logging.CRITICAL)
    try:
        assert _log.find_destination() == "muted"
    finally:
        bare_logger.setLevel(logging.NOTSET)


def test_line_is_one_line_of_limited_length(monkeypatch):
    written = []
    monkeypatch.setattr(failure_lines, "write_to_stderr", written.append)
    monkeypatch.setattr(failure_lines, "claims", SharedClaims())
    lines = FailureLines(lambda: pytest.fail("no terminal"), Reporter())
    lines.is_command = True
    lines.show("long", "a\n\x1b[2Jb" + "c" * 5000, is_of_configured_server=True)
    (line,) = written
    assert line.isprintable()
    assert len(line) <= failure_lines.MAX_LINE_LENGTH


def test_closed_stderr_has_no_identity(monkeypatch):
    monkeypatch.setattr(failure_lines, "STDERR_DESCRIPTOR", 10**6)
    assert identify_stderr() is None
