"""A terminal emulator for the output of this process: a pseudo-terminal, whose output a screen of pyte shows."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap

import pyte

from progressbar_tracker import _runtime
from progressbar_tracker._terminal.display import Display

SCREEN_COLUMNS, SCREEN_ROWS = 60, 12
MAX_WAIT_SECONDS = 30


class PseudoTerminal:
    """The standard output and error on a terminal, and a display that draws when the test says so."""

    def __init__(self, monkeypatch):
        self._master, self.descriptor = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", SCREEN_ROWS, SCREEN_COLUMNS, 0, 0))
        self._streams = []
        self.stdout, self.stderr = self.open_stream(), self.open_stream()
        self.display = self._open_display()
        self.replace_streams(monkeypatch)
        monkeypatch.setattr(_runtime, "_display", self.display)
        self._screen = pyte.Screen(SCREEN_COLUMNS, SCREEN_ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._marks = 0
        self.output = b""

    def replace_streams(self, monkeypatch):
        monkeypatch.setattr("sys.stdout", self.stdout)
        monkeypatch.setattr("sys.stderr", self.stderr)

    def open_stream(self):
        raw = io.FileIO(os.dup(self.descriptor), "w")
        stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", line_buffering=True)
        self._streams.append(stream)
        return stream

    def _open_display(self):
        display = Display()
        display._worker.start = lambda *, quiet=False: True  # no thread: a request for a frame draws it
        display._worker.wake = display.draw_frame
        return display

    def draw(self):
        self.display.draw_frame()

    def read(self):
        """Read all output that was written until now."""
        self._marks += 1
        mark = b"\x1b]2;mark %d\x07" % self._marks
        os.write(self.descriptor, mark)
        new = b""
        while mark not in new:
            assert select.select([self._master], [], [], MAX_WAIT_SECONDS)[0], "the terminal is silent"
            new += os.read(self._master, 65536)
        new = new.replace(mark, b"")
        self.output += new
        self._stream.feed(new)
        return new

    @property
    def lines(self):
        """The lines on the screen, without empty ones at the end."""
        self.read()
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n").split("\n")

    @property
    def cursor(self):
        self.read()
        return self._screen.cursor.y, self._screen.cursor.x

    def type(self, text):
        os.write(self._master, text.encode())

    def close(self):
        for stream in self._streams:
            stream.close()
        for descriptor in (self._master, self.descriptor):
            os.close(descriptor)


def run_on_terminal(code, *, typed="", interrupt_at=None, **environ):
    """Run a program with a terminal of its own, and return its output.

    Args:
        code: The program.
        typed: Text that is typed at once.
        interrupt_at: Output at which Ctrl-C is typed.
        environ: Variables of the program.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", **environ}, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    os.write(master, typed.encode())
    output = b""
    with contextlib.suppress(OSError):  # the end of the terminal
        while chunk := os.read(master, 65536):
            output += chunk
            if interrupt_at is not None and interrupt_at in output:
                os.write(master, b"\x03")
                interrupt_at = None
    process.wait()
    os.close(master)
    return output.decode().replace("\r\n", "\n")
