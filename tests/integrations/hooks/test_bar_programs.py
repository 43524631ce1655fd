"""An unchanged program of each library, plain and under ``run`` with a real server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pyte
import pytest

from tests.support.cli import CLI_COMMAND, CommandRunner
from tests.support.server import start_server
from tests.support.waiting import wait_until

from .libraries import BAR_LIBRARIES

RUNNER_PATH = Path(__file__).with_name("programs") / "run_bars.py"
PROGRAM_TIMEOUT = 100  # seconds
SCREEN_COLUMNS, SCREEN_ROWS = 100, 24

each_library = pytest.mark.parametrize("library", BAR_LIBRARIES, ids=lambda library: library.test_id)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("shell") / "progress.db") as server:
        shell = CommandRunner(server)
        yield shell
        shell.http.close()


class Program:
    """A program whose output goes to a terminal of its own, or to pipes."""

    def __init__(self, command, folder, environ, *, on_terminal):
        environ = {
            **environ,
            "TERM": "xterm",
            "COLUMNS": str(SCREEN_COLUMNS),
            "LINES": str(SCREEN_ROWS),
            "PYTHONHASHSEED": "0",
        }
        output, self._descriptor = pty.openpty() if on_terminal else os.pipe()
        if on_terminal:
            fcntl.ioctl(output, termios.TIOCSWINSZ, struct.pack("HHHH", SCREEN_ROWS, SCREEN_COLUMNS, 0, 0))
        # A pipe gets both streams: their order belongs to the output.
        self._process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env=environ, start_new_session=True,
            stdin=self._descriptor if on_terminal else subprocess.DEVNULL,
            stdout=self._descriptor, stderr=self._descriptor,
        )  # fmt: skip
        os.close(self._descriptor)
        self._chunks = []
        self._reader = threading.Thread(target=self._read, args=(output,))
        self._reader.start()

    def _read(self, output):
        with contextlib.suppress(OSError):  # the end of the terminal
            while chunk := os.read(output, 65536):
                self._chunks.append(chunk)
                # enlighten asks for the position of the cursor, and waits for the answer.
                for _ in range(chunk.count(b"\x1b[6n")):
                    os.write(output, b"\x1b[1;1R")
        os.close(output)

    def finish(self):
        code = self._process.wait(PROGRAM_TIMEOUT)
        self._reader.join(PROGRAM_TIMEOUT)
        return code, b"".join(self._chunks)


def run_plain(library, scenario, folder, **options):
    folder.mkdir()
    (folder / "gate").touch()
    command = [sys.executable, RUNNER_PATH, library.program, scenario]
    return Program(command, folder, os.environ, **options).finish()


def run_tracked(shell, library, scenario, folder, title, **options):
    """Run a program under ``run``. Its bar waits until the server has the item."""
    folder.mkdir()
    command = [*CLI_COMMAND, "run", RUNNER_PATH, library.program, scenario]
    former_ids = set(shell.items())
    program = Program(command, folder, shell.environ, **options)

    def list_new_items():
        return [item for item_id, item in shell.items().items() if item_id not in former_ids]

    wait_until(lambda: any(item["title"] == title for item in list_new_items()))
    (folder / "gate").touch()
    code, output = program.finish()
    return code, output, {item["title"]: item for item in list_new_items()}


def render_screen(output):
    screen = pyte.Screen(SCREEN_COLUMNS, SCREEN_ROWS)
    pyte.ByteStream(screen).feed(output)
    return screen.display


@each_library
@pytest.mark.parametrize(
    ("scenario", "on_terminal"),
    [
        pytest.param("complete", True, id="complete-terminal"),
        pytest.param("complete", False, id="complete-pipe"),
        pytest.param("leave", False, id="leave-pipe"),
        pytest.param("fail", True, id="fail-terminal"),
    ],
)
def test_program_is_shown_and_its_output_unchanged(shell, library, scenario, on_terminal, tmp_path):
    plain_code, plain_output = run_plain(library, scenario, tmp_path / "plain", on_terminal=on_terminal)
    code, output, items = run_tracked(
        shell, library, scenario, tmp_path / "tracked", "Baking", on_terminal=on_terminal
    )  # fmt: skip
    if on_terminal and library.has_draw_thread:
        assert (code, render_screen(output)) == (plain_code, render_screen(plain_output))
    else:
        assert (code, output) == (plain_code, plain_output)
    item = items["Baking"]
    completed, status, error = {
        "complete": (60, "succeeded", None),
        "leave": (20, "stopped", None),
        "fail": (20, "failed", "ValueError: no flour"),
    }[scenario]
    assert (item["completed"], item["total"], item["status"], item["error"]) == (completed, 60, status, error)


@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "pipe"])
@each_library
def test_output_is_unchanged_by_a_bar_at_exit(shell, library, on_terminal, tmp_path):
    """Finalizers of bars draw at exit, when hooks may be gone."""
    if library.package == "tqdm":
        pytest.skip("the hook closes tqdm's open bars at exit, because tqdm's finalizer crashes in Python 3.13.0")
    if on_terminal and (library.has_draw_thread or library.package == "enlighten"):
        pytest.skip("with a stopped clock, the library itself hangs at exit, or its thread draws different frames")
    plain = run_plain(library, "abandon", tmp_path / "plain", on_terminal=on_terminal)
    code, output, items = run_tracked(
        shell, library, "abandon", tmp_path / "tracked", "Baking", on_terminal=on_terminal
    )  # fmt: skip
    assert (code, output) == plain
    assert (items["Baking"]["completed"], items["Baking"]["status"]) == (20, "stopped")


@pytest.mark.parametrize(
    "library", [library for library in BAR_LIBRARIES if library.can_nest], ids=lambda library: library.test_id
)
def test_inner_bar_of_a_program_has_its_parent(shell, library, tmp_path):
    code, _, items = run_tracked(shell, library, "nest", tmp_path / "tracked", "Stirring", on_terminal=True)
    assert code == 0
    assert {title: (item["status"], item["completed"]) for title, item in items.items()} == {
        "Baking": ("succeeded", 3),
        "Stirring": ("succeeded", 30),
    }
    assert (items["Baking"]["parent"], items["Stirring"]["parent"]) == (None, items["Baking"]["id"])
