"""Shows on stderr why progress is not reported: the one exception to the rule that the library never prints.

A line is shown in these cases, once for each cause:

* A program has not configured logging, and its stderr is a terminal.
* The program was started by ``progressbar-tracker run``, and its stderr is that of the command.
* The process is one of the commands ``exec``, ``pipe`` and ``run --job``.

The processes of a job share their claims, so that a pool or a nested command shows one line and not one for each
process: by names on Linux, and between forked processes everywhere by a page of memory. The line goes
through the display if stderr is a terminal: bars stay intact. Otherwise it is one write to the descriptor, only if that
is ready. Nothing here raises.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from progressbar_tracker._claims import claim_name
from progressbar_tracker._config import REPORTER_VARIABLE
from progressbar_tracker._fork import importing
from progressbar_tracker._log import find_destination
from progressbar_tracker._text import sanitize_line, truncate

from .screen import STDERR_DESCRIPTOR, is_stderr_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .display import Display

LINE_PREFIX: Final = "progressbar-tracker: "
MAX_LINE_LENGTH: Final = 800  # characters; a pipe accepts up to 4096 bytes as a whole
READY_TIMEOUT: Final = 0.1  # seconds for stderr to become ready
PAGE_BYTES: Final = 4096
SLOT_BYTES: Final = 4
CLAIM_SECONDS: Final = 0.02  # for the claims of other processes at the same moment
MAX_NAMES: Final = 8  # each is an open socket
COVERS_SERVER_WORD: Final = "server"


class Reporter(NamedTuple):
    """The command that started this program, as its environment describes it.

    Attributes:
        stderr: Device and inode of the command's stderr, if the program shows its failures there.
        covers_server: The command itself shows failures of the configured server.
    """

    stderr: tuple[int, int] | None = None
    covers_server: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variable; anything invalid means no command.

        >>> Reporter.from_environ({"PROGRESSBAR_REPORTER": "26:5 server"})
        Reporter(stderr=(26, 5), covers_server=True)
        """
        words = environ.get(REPORTER_VARIABLE, "").split()
        pairs = [word.split(":") for word in words if ":" in word]
        numbers = [int(text) for pair in pairs[:1] for text in pair if text.isascii() and text.isdecimal()]
        return cls((numbers[0], numbers[1]) if len(numbers) == 2 else None, COVERS_SERVER_WORD in words)

    def to_environ(self) -> dict[str, str]:
        """Return the variable for a program."""
        words = [] if self.stderr is None else [f"{self.stderr[0]}:{self.stderr[1]}"]
        return {REPORTER_VARIABLE: " ".join([*words, *([COVERS_SERVER_WORD] if self.covers_server else [])])}


def identify_stderr() -> tuple[int, int] | None:
    """Return device and inode of stderr, or ``None`` if it is closed."""
    try:
        status = os.fstat(STDERR_DESCRIPTOR)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class SharedClaims:
    """Which causes have a line already, in this process and in the others of its job that write to the same stderr."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._name_count = 0
        self._page: Any = None  # shared memory: for each cause the process with its line

    def share(self) -> None:
        """Share the claims with a child process that is about to be forked."""
        if self._page is None:
            with contextlib.suppress(Exception):  # no memory, no file descriptor for the import
                with importing:
                    import mmap

                self._page = mmap.mmap(-1, PAGE_BYTES)

    def claim(self, cause: str) -> bool:
        """Return whether this process is the first with a cause."""
        if cause in self._claimed:
            return False
        self._claimed.add(cause)
        # A process group is a job of the shell: another job in the same terminal has a line of its own.
        if self._name_count < MAX_NAMES:
            self._name_count += 1
            if not claim_name(f"failure {identify_stderr()} {_get_process_group()} {cause}"):
                return False
        page = self._page
        if page is None:
            return True
        # Each process writes its id, waits for the others, and reads: the last one has written what all read.
        start = hash(cause) % (PAGE_BYTES // SLOT_BYTES) * SLOT_BYTES
        slot, me = slice(start, start + SLOT_BYTES), os.getpid().to_bytes(SLOT_BYTES, "little")
        if any(page[slot]):
            return False
        page[slot] = me
        time.sleep(CLAIM_SECONDS)
        return bool(page[slot] == me)


def _get_process_group() -> int:
    return os.getpgrp() if hasattr(os, "getpgrp") else 0


claims: Final = SharedClaims()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=claims.share)


class FailureLines:
    """The lines of one process.

    Args:
        get_display: Returns the display of the process.
        reporter: The command that started the program.

    Attributes:
        is_command: This process is a command that shows each failure, on a terminal or not.
        covers_server: A failure of the configured server has its line already.
    """

    def __init__(self, get_display: Callable[[], Display], reporter: Reporter) -> None:
        self._get_display = get_display
        self._reporter = reporter
        self.is_command = False
        self.covers_server = reporter.covers_server

    def show(self, cause: str, text: str, *, is_of_configured_server: bool) -> None:
        """Show a failure if it is the first of its cause and has to be shown here.

        Args:
            cause: Failures with the same cause have one line.
            text: A sentence.
            is_of_configured_server: It is about the server of the environment or the config file.
        """
        with contextlib.suppress(Exception):
            if (is_of_configured_server and self.covers_server) or not self._is_shown() or not claims.claim(cause):
                return
            line = truncate(LINE_PREFIX + sanitize_line(text), MAX_LINE_LENGTH)
            if is_stderr_terminal():
                self._get_display().write_line(line)
            else:
                write_to_stderr(line)

    def _is_shown(self) -> bool:
        if self.is_command:
            return True
        destination = find_destination()
        if self._reporter.stderr is not None and identify_stderr() == self._reporter.stderr:
            return destination != "stderr"
        return destination is None and is_stderr_terminal()


def write_to_stderr(line: str) -> None:
    """Write a line to the descriptor of stderr if that is ready within a moment. A rest is lost."""
    data = f"{line}\n".encode(errors="backslashreplace")
    with contextlib.suppress(OSError, ValueError, ImportError):
        with importing:
            import select
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(STDERR_DESCRIPTOR, select.POLLOUT)
            ready = poll.poll(READY_TIMEOUT * 1000)
            # Without a reader, the write would raise SIGPIPE, which may end the program.
            if not ready or ready[0][1] & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                return
        os.write(STDERR_DESCRIPTOR, data)
