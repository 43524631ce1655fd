"""One HTTP connection: uvicorn's, with what it lacks.

The head of an answer and its body leave in one piece. uvicorn writes the two apart; each write is a system call, and
wakes the client: a fifth of what a small request costs. It also looks at each header of each answer, and arms a timer
after it. So an application that has all of an answer may hand it over as it is, by an extension of ASGI
(:mod:`.extension`), and the one timer of a connection sees to all of its time-outs.

And whoever reaches the port can open connections, so what one may take is bounded: the size of a head, the time in
which a request has to come, and how many connections there are.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from . import room
from .extension import COMPLETE, WHOLE
from .room import HEAD

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

PATIENCE: Final = 20.0
"""Seconds in which the head of a request has to come, and its body if that is small."""

PACE: Final = 1024.0
"""Bytes a second at which a body has to come, at the least."""

MOST: Final = 16 * 1024 * 1024
"""The most bytes of a request that are read, be it only to throw them away: what is refused is still being sent."""

_HEAD: Final = b"HTTP/1.1 "


class _TooLargeError(Exception):
    """A head that is too large, from inside the parser."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, on a transport that holds a head back until its body comes.

    Attributes:
        since: When the present request began to come, or else the latest.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin."""
        self._joining = _Joining(transport, self.loop)
        super().connection_made(self._joining)  # type: ignore[arg-type]  # all that uvicorn uses of one
        # Whoever listens to uvicorn's: a path may hold the token of a share, or one that signs in.
        self.access_log = False
        self._in_head = True
        self._seen = 0  # bytes of the present request
        # The other end owes us the rest of a request, and has since then. Who has just come owes us one.
        self._owes = True
        self.since = self.loop.time()
        self._timer = self.loop.call_later(PATIENCE, self._look)
        self._usual: tuple[object, bytes] = (None, b"")  # uvicorn's headers, and how they are sent
        self._extensions: dict[str, dict[object, object]] = {WHOLE: {"send": self._send_whole}}
        if len(self.connections) > room.connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer.cancel()
        self._extensions.clear()  # or it would take a collection to be rid of this
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._owes:
            self._owes = True
            self.since = self.loop.time()
        self._seen += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # We speak nothing else, and what follows is not for this parser. The request itself is answered.
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            large = isinstance(error.__context__, _TooLargeError)
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if large else HTTPStatus.BAD_REQUEST)
        else:
            if self._in_head and self._seen > HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._seen > MOST:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Have a request answered."""
        if self._seen > HEAD and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD:
            raise _TooLargeError
        super().on_headers_complete()
        self._in_head = False
        # What follows a body in chunks would be added to the head: a key, an origin.
        self.headers = []

    def on_message_complete(self) -> None:
        """Note that all of a request is there."""
        super().on_message_complete()
        self.scope[COMPLETE] = True  # type: ignore[typeddict-unknown-key]  # an extension of ours
        self._in_head = True
        self._owes = False
        self._seen = 0

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it."""
        if self.pipeline:
            super().on_response_complete()
            return
        # As uvicorn does it, but for the timer.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if not self._owes:
                self.since = self.loop.time()

    def _send_whole(self, status: int, head: bytes, body: bytes, /) -> bool:
        cycle: RequestResponseCycle = self.cycle
        # With requests that came before their turn, it is the one of the latest and not the one that is answered.
        if self.pipeline or not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        usual = self._usual
        if usual[0] is not cycle.default_headers:  # another list each second, with the date
            told = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
            usual = self._usual = (cycle.default_headers, told)
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        self._joining.write_whole(b"".join((STATUS_LINE[status], usual[1], head, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    @property
    def answering(self) -> bool:
        """Whether an answer is being made or sent."""
        # uvicorn's annotation leaves out that there is none at first.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _look(self) -> None:
        """Cut off who has owed us the rest of a request for too long, or has had nothing to ask for long enough."""
        if self._owes:
            left = self.since + PATIENCE - self.loop.time()
            if self.answering and not self._in_head:
                left += self._seen / PACE
        elif self.answering:
            left = PATIENCE
        else:
            left = self.since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            # Who owes us nothing may begin to at any time.
            self._timer = self.loop.call_later(min(left, PATIENCE), self._look)
        elif self._seen == 0:
            # A browser that connects in advance would take an answer for one to its first request.
            self.transport.close()
        elif not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _make_room(self) -> None:
        """Let the connection go that has been waiting for a request for the longest, or else this one."""
        waiting = [one for one in self.connections if isinstance(one, Connection) and not one.answering]
        min(waiting, key=lambda one: one.since, default=self).transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, unless an answer is on its way, and hang up."""
        if not (self.answering and self.cycle.response_started):
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                b"cache-control: no-store\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, text, len(text), text)
            )
        self.transport.close()


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

    def write_whole(self, data: bytes) -> None:
        """Write what nothing follows."""
        self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)
