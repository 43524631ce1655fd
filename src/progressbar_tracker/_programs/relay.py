"""Relays the output of a program to stdout or stderr, and passes it to observers.

The output is relayed unchanged and at once through a pipe. If the target is a terminal, the relay uses a
pseudo-terminal, so that the program draws as usual. It translates no output, because the real terminal does.

A pager reads keys from the terminal on its stderr. When a program sets that terminal to single-key mode, keys from the
real terminal are forwarded to it until it resets the mode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_BYTES: Final = 65536
# After the program's end a process that it left behind may hold the stream open. Reading stops after this silence,
# and in any case after DRAIN_TIMEOUT.
QUIET_TIMEOUT: Final = 0.1  # seconds
DRAIN_TIMEOUT: Final = 1.0  # seconds
TERMINAL_POLL_INTERVAL: Final = 0.1  # seconds between checks of the terminal's mode, which has no change event


class Relay:
    """Relays one stream of a program in a thread.

    Args:
        target: Descriptor to write to, 1 or 2.
        observers: Called with each chunk after it was written.
    """

    def __init__(self, target: int, observers: Sequence[Callable[[bytes], None]]) -> None:
        self._target = target
        self._observers = observers
        self._is_terminal = False
        self._source, self.child_descriptor = self._open_pair()
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="progressbar-relay", daemon=True)

    def _open_pair(self) -> tuple[int, int]:
        if os.isatty(self._target) and hasattr(os, "openpty"):
            with contextlib.suppress(OSError):  # none is left, or the container has none
                source, child = os.openpty()
                self._source, self._is_terminal = source, True
                self._copy_terminal_mode(child)
                self.resize()
                return source, child
        return os.pipe()

    def _copy_terminal_mode(self, child: int) -> None:
        """Copy the target's modes, except output processing and echo, which would be applied twice."""
        import termios

        with contextlib.suppress(OSError, termios.error):
            attributes = termios.tcgetattr(self._target)
            attributes[1] &= ~termios.OPOST
            attributes[3] = (attributes[3] | termios.ICANON) & ~termios.ECHO
            termios.tcsetattr(child, termios.TCSANOW, attributes)

    def resize(self) -> bool:
        """Copy the target's size to the pseudo-terminal. Return whether there is one."""
        if not self._is_terminal:
            return False
        import termios

        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(self._source, termios.tcgetwinsize(self._target))
        return True

    def start(self) -> None:
        """Start the thread. The program must have been started with ``child_descriptor``."""
        os.close(self.child_descriptor)
        self._thread.start()

    def close(self) -> None:
        """Close all descriptors of a relay that was never started."""
        for descriptor in (self._source, self.child_descriptor, self._stop_reader, self._stop_writer):
            os.close(descriptor)

    def finish(self) -> None:
        """Wait until the output is relayed, after the program has ended."""
        os.close(self._stop_writer)
        # On Windows a process that the program left behind may hold the stream open: the thread ends with this process.
        self._thread.join(DRAIN_TIMEOUT if sys.platform == "win32" else None)
        os.close(self._stop_reader)

    def _run(self) -> None:
        if sys.platform == "win32":  # its selectors know sockets only
            while self._relay_chunk():
                pass
            os.close(self._source)
            return
        keyboard = _Keyboard(self._source) if self._is_terminal and self._target == 2 else None
        with open_selector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            deadline: float | None = None
            while deadline is None or time.monotonic() < deadline:
                timeout = None if keyboard is None else TERMINAL_POLL_INTERVAL
                ready = {key.fd for key, _ in selector.select(timeout if deadline is None else QUIET_TIMEOUT)}
                if self._source in ready:
                    if not self._relay_chunk():
                        break
                elif deadline is not None:
                    break
                if self._stop_reader in ready:
                    selector.unregister(self._stop_reader)
                    deadline = time.monotonic() + DRAIN_TIMEOUT
                elif keyboard is not None:
                    keyboard.forward_input(ready)
                    keyboard.update(selector)
            if keyboard is not None:
                keyboard.release(selector)
        # A leftover process that still writes now gets EPIPE or EIO.
        self._is_terminal = False
        os.close(self._source)

    def _relay_chunk(self) -> bool:
        try:
            data = os.read(self._source, CHUNK_BYTES)
            write_all(self._target, data)
        except OSError:
            return False  # end of file of a terminal, or the reader of our stream is gone
        for observe in self._observers:
            with contextlib.suppress(Exception):  # an observer must never stop the relay
                observe(data)
        return bool(data)


class _Keyboard:
    """Forwards keys from the real terminal to the pseudo-terminal of a program."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._terminal: int | None = None
        self._saved_attributes: list[int | list[bytes | int]] = []

    def update(self, selector: selectors.BaseSelector) -> None:
        """Start or stop forwarding, according to the mode of the program's terminal."""
        import termios

        try:
            is_single_key = not termios.tcgetattr(self._master)[3] & termios.ICANON
            if is_single_key and self._terminal is None and in_foreground():
                self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
                self._saved_attributes = termios.tcgetattr(self._terminal)
                selector.register(self._terminal, selectors.EVENT_READ)
                attributes = termios.tcgetattr(self._terminal)
                attributes[3] &= ~(termios.ICANON | termios.ECHO)
                attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, attributes)
            elif not is_single_key:
                self.release(selector)
        except (OSError, termios.error):
            self.release(selector)

    def forward_input(self, ready: set[int]) -> None:
        """Forward the keys that were typed."""
        if self._terminal in ready:
            os.write(self._master, os.read(self._terminal, CHUNK_BYTES))

    def release(self, selector: selectors.BaseSelector) -> None:
        """Restore the mode of the real terminal. Idempotent."""
        import termios

        if self._terminal is not None:
            with contextlib.suppress(KeyError):  # the registration has failed
                selector.unregister(self._terminal)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._saved_attributes)
            os.close(self._terminal)
            self._terminal = None


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    if sys.platform == "win32":
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def in_foreground() -> bool:
    """Return whether this process group receives Ctrl-C from the terminal."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def write_all(target: int, data: bytes | memoryview) -> None:
    """Write all data, and wait if the descriptor is non-blocking.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
        OSError: The write failed otherwise.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            wait_ready(target, selectors.EVENT_WRITE)
        except OSError as error:
            if sys.platform == "win32" and error.errno == errno.EINVAL:  # a pipe without a reader
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            raise


def wait_ready(descriptor: int, event: int) -> None:
    """Wait until a non-blocking descriptor is readable or writable."""
    with open_selector() as selector:
        selector.register(descriptor, event)
        selector.select()


def open_selector() -> selectors.BaseSelector:
    """Return a selector for pipes and terminals. The kqueue of macOS refuses terminals."""
    return selectors.SelectSelector() if sys.platform == "darwin" else selectors.DefaultSelector()
