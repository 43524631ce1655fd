"""A transport that sends the head of a response together with its body.

uvicorn writes the two separately; each write is a system call and wakes the client.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    import socket

_RESPONSE_HEAD_PREFIX: Final = b"HTTP/1.1 "


class JoiningTransport:
    """The part of a transport that uvicorn uses, with a head held back until its body follows.

    Args:
        transport: The transport that is written to.
        loop: Flushes a head that is still alone in the next turn.
    """

    __slots__ = (
        "_held_head",
        "_is_reading_held",
        "_loop",
        "_transport",
        "abort",
        "count_unsent",
        "get_extra_info",
        "is_closing",
        "pause_reading",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held_head: bytes | None = None
        self._is_reading_held = False
        self.abort = transport.abort
        self.count_unsent = transport.get_write_buffer_size
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading

    def write(self, data: bytes) -> None:
        """Write the data; hold it back if it is the head of a response."""
        held = self._held_head
        if held is not None:
            self._held_head = None
            # Join only two: with more, the transport would notice a slow reader too late.
            self._send(held + data)
        elif data.startswith(_RESPONSE_HEAD_PREFIX):
            self._held_head = data
            # The first event of a stream may take a while, but its head must arrive.
            self._loop.call_soon(self._flush)
        else:
            self._send(data)

    def resume_reading(self) -> None:
        """Read on, unless bytes wait to be parsed."""
        if not self._is_reading_held:
            self._transport.resume_reading()

    def hold_reading(self, *, hold: bool, paused: bool) -> None:
        """Stop or resume reading for the parser.

        Args:
            hold: Whether bytes wait to be parsed.
            paused: Whether uvicorn has paused reading.
        """
        if hold is self._is_reading_held:
            return
        self._is_reading_held = hold
        if not paused and not self.is_closing():
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def write_response(self, data: bytes) -> None:
        """Write a complete response at once."""
        self._flush()
        self._send(data)

    def close(self) -> None:
        """Flush a head that is held back, and close the transport."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held_head is not None:
            held, self._held_head = self._held_head, None
            self._send(held)

    def _send(self, data: bytes) -> None:
        if not self.is_closing():  # the connection may have been aborted in this turn of the loop
            self._transport.write(data)


def count_unacknowledged(client_socket: socket.socket | None) -> int:
    """Return how many bytes in the socket's send buffer are not acknowledged; 0 where the system cannot report it."""
    if client_socket is None or sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        return int(struct.unpack("i", fcntl.ioctl(client_socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):  # closed already
        return 0
