"""``exec``, and ``run --job``: any program as one item, and nothing else about it changed."""

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
from tests.support.cli import CLI_COMMAND, write_script
from tests.support.fault_server import HANG, WRITE_KEY, FaultServer
from tests.support.waiting import wait_until


class ExecResult:
    def __init__(self, code, out, err, run):
        self.code, self.out, self.err, self.run = code, out, err, run


@pytest.fixture
def run(capfdbinary):
    """Run a command line in this process, on real descriptors; return what it wrote and the one run it recorded."""

    def run(*arguments):
        with recording() as recorded:
            code = cli.run(list(arguments))
        (only,) = recorded
        return ExecResult(code, *capfdbinary.readouterr(), only)

    return run


def sh(text, *options):
    return ["exec", *options, "--", "sh", "-c", text]


def test_a_program_that_succeeds_is_an_item_that_succeeded(run):
    done = run(*sh("echo out; echo err >&2", "--id", "job", "--group", "nightly"))
    assert (done.code, done.out, done.err) == (0, b"out\n", b"err\n")
    assert (done.run.id, done.run.status, done.run.group) == ("job", "succeeded", "nightly")
    assert done.run.title == "sh -c 'echo out; echo err >&2'"
    assert done.run.description.startswith("exit code 0 after 0.")


def test_a_program_that_fails_tells_its_code_and_its_last_words(run):
    done = run(*sh("echo first >&2; printf '\\033[31mno such table\\033[0m\\n\\n' >&2; exit 3"))
    assert done.code == 3
    assert (done.run.status, done.run.error) == ("failed", "exit code 3: no such table")


@pytest.mark.parametrize("parse", [[], ["--parse"]])
def test_its_output_passes_byte_for_byte(run, tmp_path, parse):
    data = os.urandom(500_000)
    (tmp_path / "data").write_bytes(data)
    done = run(*sh(f"cat {tmp_path}/data; cat {tmp_path}/data >&2", *parse))
    assert (done.out, done.err) == (data, data)


def test_a_command_that_is_not_there_is_one_line_and_127(run):
    done = run("exec", "--id", "typo", "--", "no-such-command", "-x")
    assert (done.code, done.err) == (127, b"progressbar-tracker: no-such-command: command not found\n")
    assert (done.run.status, done.run.error) == ("failed", "no-such-command: command not found")


def test_a_file_that_cannot_be_executed_is_one_line_and_126(run, tmp_path):
    path = write_script(tmp_path, "echo no")
    done = run("exec", "--", str(path))
    assert (done.code, done.err) == (126, f"progressbar-tracker: {path}: Permission denied\n".encode())


def test_a_script_that_names_no_interpreter_is_a_shells(run, tmp_path):
    path = write_script(tmp_path, "echo $1 $#\n")
    path.chmod(0o755)
    assert run("exec", "--", str(path), "a b").out == b"a b 1\n"


def test_arguments_are_the_programs_own(run):
    code = "import sys; print(sys.argv[1:])"
    wanted = ["--id", "x", "--", "-h", "", "ü ", "--parse"]
    assert run("exec", sys.executable, "-c", code, *wanted).out == f"{wanted}\n".encode()


def test_how_it_ended_is_known_where_children_are_ignored(shell):
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *CLI_COMMAND, *sh("exit 3")], env=shell.environ, timeout=100)
    assert done.returncode == 3


def test_disabled_it_only_runs_the_program(shell):
    done = shell.run(*sh("exit 3", "--id", "disabled"), environ={"PROGRESSBAR_DISABLE": "1"})
    assert done.returncode == 3
    assert shell.item("disabled") is None


def test_what_the_shell_holds_open_for_it_is_open(shell):
    assert shell.bash("pbt exec -- cat <(echo held)").stdout == b"held\n"


def test_a_title_takes_the_commands_place(run):
    done = run(*sh("true", "--title", "Backup"))
    assert done.run.title == "Backup"
    assert "sh" not in done.run.description


def test_parse_moves_the_bar(run):
    done = run(*sh("for i in 1 2 3; do printf '\\r%d/4 [' $i; done; echo; echo out >&2", "--parse"))
    assert (done.run.completed, done.run.total, done.run.status) == (4, 4, "succeeded")
    done = run(*sh("echo ' 40%'; exit 1", "--parse"))
    assert (done.run.completed, done.run.total, done.run.status) == (40, 100, "failed")


def test_what_it_leaves_running_does_not_hold_us(run):
    done = run(*sh("sleep 300 & echo $! >&2"))  # the limit of the test is for the one that waits for it
    os.kill(int(done.err), signal.SIGKILL)
    assert done.code == 0


def test_what_it_leaves_talking_does_not_hold_us_either(run):
    done = run(*sh("(while :; do echo talk >&2; sleep 0.05; done) & echo $!; exit 4"))
    os.kill(int(done.out), signal.SIGKILL)
    assert done.code == 4


def test_a_program_killed_by_a_signal_takes_us_with_it(shell):
    done = shell.run(*sh("kill -KILL $$", "--id", "killed"))
    assert done.returncode == -signal.SIGKILL
    assert shell.item("killed")["error"] == "killed by SIGKILL"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_us_alone_is_the_programs(shell, number):
    # No terminal sent it, for there is none: a session of its own.
    name = number.name.removeprefix("SIG")
    # What it waits for holds nothing: a signal that comes before it has become a sleep is lost.
    text = f"trap 'echo caught {name}; kill $!; exit 9' {name}; sleep 30 >&- 2>&- & echo ready; wait"
    with shell.start(*sh(text), stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"caught {name}\n".encode()
        assert process.wait(20) == 9


def test_what_nohup_ignores_stays_ignored(shell):
    done = shell.bash("trap '' HUP INT; pbt exec -- sh -c 'kill -HUP $$; kill -INT $$; echo alive'")
    assert done.stdout == b"alive\n"


def test_the_item_tells_where_it_runs_and_bars_inside_are_under_it(shell, tmp_path):
    path = write_script(
        tmp_path, "from progressbar_tracker import track\nfor _ in track([1], id='inner', keep=True): pass"
    )
    assert shell.run("exec", "--id", "outer", "--", sys.executable, path).returncode == 0
    outer, inner = shell.item("outer"), shell.item("inner")
    assert inner is None or inner["parent"] == "outer"
    assert outer["meta"]["command"] == f"{sys.executable} {path}"[:200]
    assert outer["meta"]["pid"].isdecimal()


@pytest.mark.parametrize("server", ["refuses", "hangs"])
def test_a_server_that_is_away_changes_nothing(server):
    hung = FaultServer() if server == "hangs" else None
    if hung is not None:
        hung.default_fault = HANG
    url = hung.url if hung is not None else "http://127.0.0.1:1"
    environ = {**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": WRITE_KEY}
    began = time.monotonic()
    done = subprocess.run(
        [*CLI_COMMAND, *sh("echo out; echo err >&2; exit 5")], env=environ, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")
    assert time.monotonic() - began < 40
    if hung is not None:
        hung.close()


class Terminal:
    """A process on a terminal that it controls, as one in a window."""

    def __init__(self, environ, *command):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environ)
        termios.tcsetwinsize(self.master, (33, 77))  # before the command has got so far as to look
        self.output = b""

    def read_until(self, text, timeout=100):
        deadline = time.monotonic() + timeout
        while text not in self.output:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"waited in vain for {text!r}: {self.output!r}"
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


def test_on_a_terminal_stderr_stays_one(shell):
    # One write for each line: what goes to stdout meanwhile comes in between. And past sys.stderr, which a handler may
    # find in the middle of a write.
    code = (
        "import os, signal, time\n"
        "def say(word): os.write(2, f'{word} {os.isatty(2)} {tuple(os.get_terminal_size(2))}\\n'.encode())\n"
        "def resized(*_):\n  if os.get_terminal_size(2) == (100, 40): say('now'); os._exit(3)\n"
        "signal.signal(signal.SIGWINCH, resized); say('ready')\n"
        "while True: time.sleep(0.1)"
    )
    terminal = Terminal(shell.environ, *CLI_COMMAND, "exec", "--id", "screen", "--", sys.executable, "-c", code)
    terminal.read_until(b"ready True (77, 33)\r\n")  # one carriage return: translated once
    termios.tcsetwinsize(terminal.master, (40, 100))
    terminal.read_until(b"now ")
    assert terminal.wait() == 3
    assert shell.item("screen")["error"] == "exit code 3: now True (100, 40)"


def test_a_pager_gets_its_keys_from_the_terminal_that_is_its_stderr(shell):
    code = (
        "import os, tty, termios; before = termios.tcgetattr(2); tty.setcbreak(2); print('ready', flush=True)\n"
        "print('key', os.read(2, 1)); termios.tcsetattr(2, termios.TCSADRAIN, before)"
    )
    terminal = Terminal(shell.environ, *CLI_COMMAND, "exec", "--", sys.executable, "-c", code)
    terminal.read_until(b"ready")
    terminal.write(b"k")
    terminal.read_until(b"key b'k'\r\n")
    cooked = termios.ICANON | termios.ECHO
    wait_until(lambda: termios.tcgetattr(terminal.master)[3] & cooked == cooked)
    assert terminal.wait() == 0


def test_ctrl_c_on_a_terminal_is_the_programs_to_answer(shell):
    text = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"
    terminal = Terminal(shell.environ, *CLI_COMMAND, *sh(text, "--id", "interrupted"))
    terminal.read_until(b"ready")
    terminal.write(b"\x03")
    terminal.read_until(b"caught")
    assert terminal.output.count(b"caught") == 1
    assert terminal.wait() == 7
    assert shell.item("interrupted")["status"] == "failed"


def test_ctrl_z_stops_all_and_fg_goes_on(shell):
    text = "echo pid $$ ready; read x; echo got $x"
    terminal = Terminal({**shell.environ, "PS1": "$ "}, "/bin/bash", "--norc", "--noprofile", "-i")
    terminal.write(f"'{sys.executable}' -m progressbar_tracker exec --id paused -- sh -c '{text}'\n".encode())
    terminal.read_until(b" ready\r\n")
    stat = Path("/proc", re.search(rb"pid (\d+) ready", terminal.output)[1].decode(), "stat")
    terminal.write(b"\x1a")
    terminal.read_until(b"Stopped")
    wait_until(lambda: " T " in stat.read_text())  # until then it may still read what is typed
    terminal.output = terminal.output.partition(b"Stopped")[2]
    terminal.read_until(b"$ ")
    terminal.output = b""
    terminal.write(b"fg\n")
    terminal.read_until(b"echo got $x'\r\n")  # the shell says what goes on, with the terminal in order again
    terminal.write(b"word\n")
    terminal.read_until(b"got word")
    terminal.write(b"exit 0\n")
    terminal.wait()
    wait_until(lambda: (shell.item("paused") or {}).get("status") == "succeeded")
