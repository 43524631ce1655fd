"""``exec`` and ``run --job``: any program as one item, otherwise unchanged."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from progressbar_tracker import cli
from progressbar_tracker.testing import recording
from tests.support.cli import CLI_COMMAND, PATIENT_CLI_COMMAND, write_script
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer
from tests.support.waiting import wait_until


class ExecResult:
    def __init__(self, code, out, err, run):
        self.code, self.out, self.err, self.run = code, out, err, run


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Run a command line in this process on real descriptors; return its output and its only recorded run."""

    monkeypatch.setenv("PROGRESSBAR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", WRITE_KEY)

    def run(*arguments):
        with recording() as recorded:
            code = cli.run_command_line(list(arguments))
        (only,) = recorded
        return ExecResult(code, *capfdbinary.readouterr(), only)

    return run


def sh(text, *options):
    return ["exec", *options, "--", "sh", "-c", text]


def test_exec_of_a_successful_program_ends_succeeded(run):
    done = run(*sh("echo out; echo err >&2", "--id", "job", "--group", "nightly"))
    assert (done.code, done.out, done.err) == (0, b"out\n", b"err\n")
    assert (done.run.id, done.run.status, done.run.group) == ("job", "succeeded", "nightly")
    assert done.run.title == "sh -c 'echo out; echo err >&2'"
    assert done.run.description.startswith("exit code 0 after 0.")


@pytest.mark.parametrize(("time", "seconds"), [("10m", 600.0), ("off", None)])
def test_exec_item_has_the_option_stuck_after(run, time, seconds):
    assert run(*sh("true", "--stuck-after", time)).run.stuck_after == seconds


def test_exec_duration_ends_with_the_program(run):
    """A process that it leaves behind writes for three more seconds."""
    done = run(*sh("(for n in $(seq 30); do echo x >&2; sleep 0.1; done) & sleep 0.1"))
    elapsed = float(re.search(r"after ([\d.]+) s", done.run.description)[1])
    assert done.run.duration_seconds == pytest.approx(elapsed, abs=2.0)


def test_exec_of_a_failed_program_has_its_code_and_last_line(run):
    done = run(*sh("echo first >&2; printf '\\033[31mno such table\\033[0m\\n\\n' >&2; exit 3"))
    assert done.code == 3
    assert (done.run.status, done.run.error) == ("failed", "exit code 3: no such table")


@pytest.mark.parametrize("parse", [[], ["--parse"]])
def test_exec_passes_the_output_unchanged(run, tmp_path, parse):
    data = os.urandom(500_000)
    (tmp_path / "data").write_bytes(data)
    done = run(*sh(f"cat {tmp_path}/data; cat {tmp_path}/data >&2", *parse))
    assert (done.out, done.err) == (data, data)


def test_exec_of_a_missing_command_exits_with_127(run):
    done = run("exec", "--id", "typo", "--", "no-such-command", "-x")
    assert (done.code, done.err) == (127, b"progressbar-tracker: no-such-command: command not found\n")
    assert (done.run.status, done.run.error) == ("failed", "no-such-command: command not found")


def test_exec_of_a_file_without_permission_exits_with_126(run, tmp_path):
    path = write_script(tmp_path, "echo no")
    done = run("exec", "--", str(path))
    assert (done.code, done.err) == (126, f"progressbar-tracker: {path}: Permission denied\n".encode())


def test_exec_runs_a_script_without_interpreter_in_a_shell(run, tmp_path):
    path = write_script(tmp_path, "echo $1 $#\n")
    path.chmod(0o755)
    assert run("exec", "--", str(path), "a b").out == b"a b 1\n"


def test_exec_passes_all_arguments_to_the_program(run):
    code = "import sys; print(sys.argv[1:])"
    arguments = ["--id", "x", "--", "-h", "", "ü ", "--parse"]
    assert run("exec", sys.executable, "-c", code, *arguments).out == f"{arguments}\n".encode()


def test_exec_knows_the_exit_code_with_ignored_sigchld(shell):
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *CLI_COMMAND, *sh("exit 3")], env=shell.environ, timeout=100)
    assert done.returncode == 3


def test_exec_when_disabled_only_runs_the_program(shell):
    done = shell.run(*sh("exit 3", "--id", "disabled"), environ={"PROGRESSBAR_DISABLE": "1"})
    assert done.returncode == 3
    assert shell.item("disabled") is None


def test_exec_passes_open_descriptors_to_the_program(shell):
    assert shell.bash("pbt exec -- cat <(echo held)").stdout == b"held\n"


def test_exec_title_replaces_the_command_line(run):
    done = run(*sh("true", "--title", "Backup"))
    assert done.run.title == "Backup"
    assert "sh" not in done.run.description


def test_exec_masks_secrets_in_the_command_line(run, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "value-of-the-token")
    done = run("exec", "--", "true", "value-of-the-token", "--password=hunter2", "https://ci:hunter2@host/", "kept")
    assert done.run.title == "true *** --password=*** https://***@host/ kept"


def test_exec_sends_no_secret_of_the_command_line(shell):
    assert shell.run("exec", "--id", "masked", "--", "true", "--password=hunter2").returncode == 0
    assert shell.item("masked")["meta"]["command"] == "true --password=***"
    assert "hunter2" not in str(shell.item("masked"))


def test_exec_with_an_invalid_mask_shows_the_name_only(run, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_MASK", "(")
    assert run("exec", "--", "true", "--password=hunter2").run.title == "true"


def test_exec_parse_moves_the_bar(run):
    done = run(*sh("for i in 1 2 3; do printf '\\r%d/4 [' $i; done; echo; echo out >&2", "--parse"))
    assert (done.run.completed, done.run.total, done.run.status) == (4, 4, "succeeded")
    done = run(*sh('for i in 20 30 40; do echo " $i%"; done; exit 1', "--parse"))
    assert (done.run.completed, done.run.total, done.run.status) == (40, 100, "failed")


def test_exec_parse_without_a_rise_has_no_total(run):
    done = run(*sh("echo ' 40%'; echo ' 40%'; exit 1", "--parse"))
    assert (done.run.completed, done.run.total) == (0, None)


def test_exec_parse_sends_the_unit(run):
    done = run(*sh("for i in 1.5 3.0; do printf '\\r%s/4.5 MB ' $i; done; exit 1", "--parse"))
    assert (done.run.completed, done.run.total, done.run.unit) == (3, 4.5, "MB")


def test_exec_parse_counts_from_the_first_reading(shell, tmp_path):
    """Before it, the server has no count, so that the speed is not measured from the start of the program."""
    # A pipe for each step: a reader that opens a pipe again may meet the writer of the step before, and read its end.
    for name in ("go", "end"):
        os.mkfifo(tmp_path / name)
    text = f"echo ready; read go <{tmp_path}/go; printf '\\r1/4 [\\r2/4 [\\r3/4 ['; read end <{tmp_path}/end"
    with shell.start(*sh(text, "--id", "late", "--parse"), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: shell.item("late") is not None)
        before = shell.item("late")
        (tmp_path / "go").write_text("go\n")
        wait_until(lambda: shell.item("late")["completed"] is not None)
        counted = shell.item("late")
        (tmp_path / "end").write_text("end\n")
        assert process.wait(60) == 0
    assert (before["completed"], before["total"]) == (None, None)
    assert (counted["completed"], counted["total"]) == (3, 4)
    assert counted["started_at"] <= before["started_at"]


def test_exec_does_not_wait_for_background_processes(run):
    done = run(*sh("sleep 300 & echo $! >&2"))  # longer than the test's timeout
    os.kill(int(done.err), signal.SIGKILL)
    assert done.code == 0


def test_exec_does_not_wait_for_a_writing_background_process(run):
    done = run(*sh("(while :; do echo talk >&2; sleep 0.05; done) & echo $!; exit 4"))
    os.kill(int(done.out), signal.SIGKILL)
    assert done.code == 4


def test_exec_ends_by_the_signal_that_killed_the_program(shell):
    done = shell.run(*sh("kill -KILL $$", "--id", "killed"))
    assert done.returncode == -signal.SIGKILL
    assert shell.item("killed")["error"] == "killed by SIGKILL"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_exec_forwards_its_signals_to_the_program(shell, number):
    # The session of its own has no terminal that could send the signal to the whole group.
    name = number.name.removeprefix("SIG")
    # The sleep holds no pipe open, because a kill before its exec is lost.
    text = f"trap 'echo caught {name}; kill $!; exit 9' {name}; sleep 30 >&- 2>&- & echo ready; wait"
    with shell.start(*sh(text), stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"caught {name}\n".encode()
        assert process.wait(60) == 9


def test_exec_keeps_ignored_signals_ignored(shell):
    done = shell.bash("trap '' HUP INT; pbt exec -- sh -c 'kill -HUP $$; kill -INT $$; echo alive'")
    assert done.stdout == b"alive\n"


def test_exec_item_has_metadata_and_is_the_parent_of_bars(shell, tmp_path):
    path = write_script(
        tmp_path, "from progressbar_tracker import track\nfor _ in track([1], id='inner', keep=True): pass"
    )
    assert shell.run("exec", "--id", "outer", "--", sys.executable, path).returncode == 0
    outer, inner = shell.item("outer"), shell.item("inner")
    assert inner is None or inner["parent"] == "outer"
    assert outer["meta"]["command"] == f"{sys.executable} {path}"[:200]
    assert outer["meta"]["pid"].isdecimal()


@pytest.mark.parametrize("server", ["refuses", "hangs"])
def test_exec_without_a_server_keeps_output_and_exit_code(server):
    hung = FaultServer() if server == "hangs" else None
    if hung is not None:
        hung.default_fault = HANG
    url = hung.url if hung is not None else "http://127.0.0.1:1"
    environ = {**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    started = time.monotonic()
    done = subprocess.run(
        [*CLI_COMMAND, *sh("echo out; echo err >&2; exit 5")], env=environ, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (5, b"out\n")
    line, failure = done.stderr.splitlines()
    assert (line, failure[:21]) == (b"err", b"progressbar-tracker: ")
    assert time.monotonic() - started < 40
    if hung is not None:
        hung.close()


class Terminal:
    """A process with a controlling terminal, as in a window."""

    def __init__(self, environ, *command):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environ)
        termios.tcsetwinsize(self.master, (33, 77))  # before the command reads the size
        self.output = b""

    def read_until(self, text, timeout=100):
        deadline = time.monotonic() + timeout
        while text not in self.output:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"timeout before {text!r}: {self.output!r}"
            try:
                self.output += os.read(self.master, 10_000)
            except OSError:
                assert text in self.output
                return

    def write(self, text):
        os.write(self.master, text)

    def wait(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


def test_exec_on_a_terminal_keeps_stderr_a_terminal(shell):
    # One write for each line, because output to stdout may come in between. Not by sys.stderr, because a signal handler
    # may interrupt one of its writes.
    code = (
        "import os, signal, time\n"
        "def report(word): os.write(2, f'{word} {os.isatty(2)} {tuple(os.get_terminal_size(2))}\\n'.encode())\n"
        "def resized(*_):\n  if os.get_terminal_size(2) == (100, 40): report('now'); os._exit(3)\n"
        "signal.signal(signal.SIGWINCH, resized); report('ready')\n"
        "while True: time.sleep(0.1)"
    )
    terminal = Terminal(shell.environ, *PATIENT_CLI_COMMAND, "exec", "--id", "screen", "--", sys.executable, "-c", code)
    terminal.read_until(b"ready True (77, 33)\r\n")  # one carriage return: translated once
    termios.tcsetwinsize(terminal.master, (40, 100))
    terminal.read_until(b"now ")
    assert terminal.wait() == 3
    assert shell.item("screen")["error"] == "exit code 3: now True (100, 40)"


def test_exec_pager_reads_keys_from_its_stderr(shell):
    code = (
        "import os, tty, termios; before = termios.tcgetattr(2); tty.setcbreak(2); print('ready', flush=True)\n"
        "print('key', os.read(2, 1)); termios.tcsetattr(2, termios.TCSADRAIN, before)"
    )
    terminal = Terminal(shell.environ, *PATIENT_CLI_COMMAND, "exec", "--", sys.executable, "-c", code)
    terminal.read_until(b"ready")
    terminal.write(b"k")
    terminal.read_until(b"key b'k'\r\n")
    cooked = termios.ICANON | termios.ECHO
    wait_until(lambda: termios.tcgetattr(terminal.master)[3] & cooked == cooked)
    assert terminal.wait() == 0


def test_exec_ctrl_c_reaches_the_program_once(shell):
    text = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"
    terminal = Terminal(shell.environ, *PATIENT_CLI_COMMAND, *sh(text, "--id", "interrupted"))
    terminal.read_until(b"ready")
    terminal.write(b"\x03")
    terminal.read_until(b"caught")
    assert terminal.output.count(b"caught") == 1
    assert terminal.wait() == 7
    assert shell.item("interrupted")["status"] == "failed"


def test_exec_ctrl_z_stops_and_fg_resumes(shell):
    text = "echo pid $$ ready; read x; echo got $x"
    terminal = Terminal({**shell.environ, "PS1": "$ "}, "/bin/bash", "--norc", "--noprofile", "-i")
    terminal.write(f"'{sys.executable}' -m progressbar_tracker exec --id paused -- sh -c '{text}'\n".encode())
    terminal.read_until(b" ready\r\n")
    stat = Path("/proc", re.search(rb"pid (\d+) ready", terminal.output)[1].decode(), "stat")
    terminal.write(b"\x1a")
    terminal.read_until(b"Stopped")
    wait_until(lambda: " T " in stat.read_text())  # until it is stopped, it may read the typed text
    terminal.output = terminal.output.partition(b"Stopped")[2]
    terminal.read_until(b"$ ")
    terminal.output = b""
    terminal.write(b"fg\n")
    terminal.read_until(b"echo got $x'\r\n")  # the shell names the resumed job, after it has restored the terminal
    terminal.write(b"word\n")
    terminal.read_until(b"got word")
    terminal.write(b"exit 0\n")
    terminal.wait()
    wait_until(lambda: (shell.item("paused") or {}).get("status") == "succeeded")
