"""One HTTP connection: uvicorn's, except that the head of an answer and its body leave in one piece.

uvicorn writes the two apart. Each write is a system call, and wakes the client: a fifth of what a small request costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

_HEAD = b"HTTP/1.1 "


class Connection(HttpToolsProtocol):
    """uvicorn's protocol on a transport that holds a head back until its body comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin."""
        super().connection_made(_Joining(transport, self.loop))  # type: ignore[arg-type]  # all that uvicorn uses of one


class _Joining:
    """A transport, as far as uvicorn uses it."""

    __slots__ = ("_held", "_loop", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        held = self._held
        if held is not None:
            self._held = None
            # Only ever two at once: more would reach the transport too late for it to say that its reader is slow.
            self._transport.write(held + data)
        elif data.startswith(_HEAD):
            self._held = data
            # A stream may have nothing to say for a while, and its head is to be seen.
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)
