"""What flows through is counted: ``cat`` with a bar.

As fast as a pipe and byte for byte: one buffer that is read into, written from and counted in, or on Linux, where only
bytes are counted, the kernel moves them and they are never seen here. What was read is written at once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import stat
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from .relay import wait_ready, write_all
from .supervisor import describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from progressbar_tracker._tracking.tracker import Tracker

BUFFER_BYTES: Final = 1 << 18  # bytes: beyond this nothing is gained, and the processor's cache is lost


class _ReadError(OSError):
    """The input cannot be read."""


class _InterruptedError(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_pipe(bar: Tracker[None], separator: bytes | None) -> int:
    """Copy stdin to stdout, and count into a bar what ``copy()`` counts.

    Returns:
        How to end: 0, or the negative number of the signal to die of, SIGPIPE where the reader has gone.

    Raises:
        OSError: It cannot be read or written, in words for a person.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise_interrupted)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (0, 1):
            msvcrt.setmode(descriptor, os.O_BINARY)
    code = 0
    with contextlib.suppress(SystemExit), bar:
        bar.share()  # told to the server however short it is
        try:
            copy_counted(0, 1, bar.advance, separator)
        except BrokenPipeError:
            code = -getattr(signal, "SIGPIPE", 0)
            raise SystemExit(0) from None  # the reader has seen enough: stopped, and no failure
        except _InterruptedError as interrupt:
            code = -interrupt.number
            bar.fail(describe_exit(code))
        except OSError as error:
            text = f"cannot {'read' if isinstance(error, _ReadError) else 'write'}: {error.strerror}"
            bar.fail(text)
            raise OSError(text) from None
        finally:
            # The neighbours are let go before the last state is sent, which may take a moment.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
    return code


def _raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _InterruptedError(number)


def copy_counted(source: int, target: int, count: Callable[[int], None], separator: bytes | None) -> None:
    """Copy one descriptor to another until its end.

    Args:
        source: Where to read.
        target: Where to write.
        count: Called with what each piece adds: separators, or bytes.
        separator: What ends a record, one byte; ``None`` counts bytes. A last record without one counts too.

    Raises:
        _ReadError: The source cannot be read.
        BrokenPipeError: Nobody reads the target any more.
        OSError: The target cannot be written.
    """
    if separator is None and _splice(source, target, count):
        return
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    whole = True
    while size := _read_into(source, view):
        write_all(target, view[:size])
        if separator is None:
            count(size)
            continue
        found = buffer.count(separator, 0, size)
        if found:
            count(found)
        whole = buffer[size - 1] == separator[0]
    if not whole:
        count(1)


def get_remaining_size(source: int) -> int | None:
    """Return how many bytes are left of a regular file, or ``None`` for anything else."""
    try:
        about = os.fstat(source)
        if not stat.S_ISREG(about.st_mode):
            return None
        return max(about.st_size - os.lseek(source, 0, os.SEEK_CUR), 0)
    except OSError:
        return None


def _read_into(source: int, view: memoryview) -> int:
    while True:
        try:
            if hasattr(os, "readv"):
                return os.readv(source, [view])
            data = os.read(source, len(view))
            view[: len(data)] = data
            return len(data)
        except BlockingIOError:
            wait_ready(source, selectors.EVENT_READ)
        except OSError as error:
            raise _ReadError(error.errno, error.strerror) from error


def _splice(source: int, target: int, count: Callable[[int], None]) -> bool:
    """Have the kernel move everything. Return false, with nothing lost, where it will not."""
    if not hasattr(os, "splice"):
        return False
    while True:
        try:
            moved = os.splice(source, target, BUFFER_BYTES)
        except BrokenPipeError:
            raise
        except OSError:
            return False  # neither is a pipe, one does not block, or is broken: reading and writing will tell
        if not moved:
            return True
        count(moved)
