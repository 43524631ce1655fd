"""Copies stdin to stdout and counts: ``cat`` with a bar.

The copy is exact and as fast as a pipe. One buffer serves for reading, writing and counting. On Linux the kernel moves
the data (``splice``) if only bytes are counted. Data is written as soon as it is read.
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

BUFFER_BYTES: Final = 1 << 18  # a larger buffer is not faster and does not fit the processor's cache


class _ReadError(OSError):
    """The input cannot be read."""


class _InterruptedError(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_pipe(bar: Tracker[None], separator: bytes | None) -> int:
    """Copy stdin to stdout and advance a bar by the bytes or records, as ``copy_counted()``.

    Returns:
        0, or the negative number of the signal to exit by: SIGPIPE if the reader has closed the pipe.

    Raises:
        OSError: A read or write failed; the message is written for the user.
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
        bar.share()  # short runs are sent too
        try:
            copy_counted(0, 1, bar.advance, separator)
        except BrokenPipeError:
            code = -getattr(signal, "SIGPIPE", 0)
            raise SystemExit(0) from None  # the reader closed the pipe: stopped, not failed
        except _InterruptedError as interrupt:
            code = -interrupt.number
            bar.fail(describe_exit(code))
        except OSError as error:
            text = f"cannot {'read' if isinstance(error, _ReadError) else 'write'}: {error.strerror}"
            bar.fail(text)
            raise OSError(text) from None
        finally:
            # Release the neighbours in the pipeline first: sending the last state may take a moment.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
    return code


def _raise_interrupted(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _InterruptedError(number)


def copy_counted(source: int, target: int, count: Callable[[int], None], separator: bytes | None) -> None:
    """Copy one descriptor to another until end of file.

    Args:
        source: Descriptor to read.
        target: Descriptor to write.
        count: Called with the number of bytes or records in each chunk.
        separator: One byte that ends a record; ``None`` counts bytes. A last record without it counts too.

    Raises:
        _ReadError: Reading the source failed.
        BrokenPipeError: The reader closed the target.
        OSError: Writing the target failed.
    """
    if separator is None and _splice(source, target, count):
        return
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    ends_with_separator = True
    while size := _read_into(source, view):
        write_all(target, view[:size])
        if separator is None:
            count(size)
            continue
        records = buffer.count(separator, 0, size)
        if records:
            count(records)
        ends_with_separator = buffer[size - 1] == separator[0]
    if not ends_with_separator:
        count(1)


def get_remaining_size(source: int) -> int | None:
    """Return the unread bytes of a regular file, or ``None`` for any other descriptor."""
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            return None
        return max(status.st_size - os.lseek(source, 0, os.SEEK_CUR), 0)
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
    """Let the kernel move the rest. Return false, without data loss, if it does not support these descriptors."""
    if not hasattr(os, "splice"):
        return False
    while True:
        try:
            size = os.splice(source, target, BUFFER_BYTES)
        except BrokenPipeError:
            raise
        except OSError:
            return False  # no pipe, non-blocking or broken: read and write report the cause
        if not size:
            return True
        count(size)
