"""The standard streams of a command line, which may be closed, full, broken or of another encoding.

Characters that the encoding lacks are replaced, so that a foreign title is no failure. A failed write is one error
without a traceback at exit. A write to a closed stream raises, instead of reaching a file that reuses its descriptor.
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
    """Replaces a stdout that was closed before the program started."""

    def write(self, text: str, /) -> int:
        if not text:
            return 0
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare_streams() -> None:
    """Make the streams accept any text. Idempotent."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one; not inherited
    if sys.stdout is None:
        sys.stdout = _ClosedStdout()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and getattr(sys.stdout, "errors", "") == "strict":
        reconfigure(errors="replace")


def is_stdout_closed() -> bool:
    """Return whether stdout was closed before the program started."""
    return isinstance(sys.stdout, _ClosedStdout)


def is_dumb_terminal() -> bool:
    """Return whether the terminal lacks colours and cursor movements."""
    return os.name == "posix" and os.environ.get("TERM", "dumb") in ("", "dumb")


def color_mode() -> bool | None:
    """Return ``False`` to forbid escape codes, or ``None`` to let click inspect the stream."""
    return False if is_dumb_terminal() or os.environ.get("NO_COLOR") else None


def supports_unicode() -> bool:
    """Return whether stdout encodes any text."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def can_encode(text: str) -> bool:
    """Return whether stdout encodes a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def ask_secret(text: str) -> str:
    """Prompt for a secret without echo; without a terminal read a line of stdin.

    Raises:
        EOFError: Stdin has ended.
        ClickException: Stdin is closed.
    """
    if _has_terminal():
        return str(click.prompt(text, hide_input=True, err=True)).strip()
    return read_secret()


def read_secret() -> str:
    """Return the first line of stdin as a secret.

    Raises:
        EOFError: Stdin has ended.
        ClickException: Stdin is closed.
    """
    if sys.stdin is None:
        raise click.ClickException("stdin is closed")
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip().removeprefix("\ufeff")


def _has_terminal() -> bool:
    try:
        if sys.platform == "win32":
            os.close(os.open("CONIN$", os.O_RDWR))
        else:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def print_error(text: str) -> None:
    """Write an error of one sentence to stderr; ignore a failing stderr."""
    print_note(f"{PROGRAM_NAME}: {text}")


def print_note(text: str) -> None:
    """Write a line to stderr; ignore a failing stderr."""
    try:
        click.echo(sanitize_line(text), err=True)
    except (OSError, ValueError):
        _redirect_to_null(sys.stderr)


def print_text(text: str) -> None:
    """Write lines of this program's own text to stderr; ignore a failing stderr."""
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):
        _redirect_to_null(sys.stderr)


def discard_output() -> None:
    """Redirect stdout to the null device: the interpreter would retry a failed flush at exit, and print an error."""
    _redirect_to_null(sys.stdout)


def _redirect_to_null(stream: object) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[attr-defined]  # AttributeError is suppressed
        os.close(null)
