"""The standard streams of a command line, which may be closed, full, gone or of another encoding.

What cannot be encoded is replaced: a foreign title is no reason to fail. What cannot be written is one error, and not a
traceback at exit. A closed stream raises when it is written to, instead of taking the descriptor of the next file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Final

import click

from progressbar_tracker._text import sanitize_line

PROGRAM_NAME: Final = "progressbar-tracker"


class _ClosedStdout(io.TextIOBase):
    """Stands for a stdout that was closed before the program began."""

    def write(self, text: str, /) -> int:
        if not text:
            return 0
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare_streams() -> None:
    """Make the streams fit for writing any text. Idempotent."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one; not inherited
    if sys.stdout is None:
        sys.stdout = _ClosedStdout()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and getattr(sys.stdout, "errors", "") == "strict":
        reconfigure(errors="replace")


def is_stdout_closed() -> bool:
    """Return whether stdout was closed before the program began."""
    return isinstance(sys.stdout, _ClosedStdout)


def is_dumb_terminal() -> bool:
    """Return whether the terminal is one without colours and cursor movements."""
    return os.name == "posix" and os.environ.get("TERM", "dumb") in ("", "dumb")


def color_mode() -> bool | None:
    """Return ``False`` where no escape codes are to be written, else ``None`` for what the stream is good for."""
    return False if is_dumb_terminal() or os.environ.get("NO_COLOR") else None


def supports_unicode() -> bool:
    """Return whether stdout takes any text."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def ask_secret(text: str) -> str:
    """Ask for a secret without echo; without a terminal it is a line of stdin.

    Raises:
        EOFError: Stdin has ended.
        ClickException: Stdin is closed.
    """
    if _has_terminal():
        return str(click.prompt(text, hide_input=True, err=True)).strip()
    if sys.stdin is None:
        raise click.ClickException("stdin is closed")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip().removeprefix("\ufeff")


def _has_terminal() -> bool:
    if os.name != "posix":
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def print_error(text: str) -> None:
    """Write to stderr, if that is possible, what went wrong, in one sentence."""
    print_note(f"{PROGRAM_NAME}: {text}")


def print_note(text: str) -> None:
    """Write a line to stderr, if that is possible."""
    try:
        click.echo(sanitize_line(text), err=True)
    except (OSError, ValueError):
        _redirect_to_null(sys.stderr)


def discard_output() -> None:
    """Let go of what stdout did not take: the interpreter would write it again at exit, and complain."""
    _redirect_to_null(sys.stdout)


def _redirect_to_null(stream: object) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]  # what has none is suppressed
        os.close(nowhere)
