"""One HTTP connection: uvicorn's, with what it lacks.

The head of an answer and its body leave in one piece. uvicorn writes the two apart; each write is a system call, and
wakes the client. It also looks at each header of each answer, and arms a timer after it. So an application that has all
of an answer may hand it over as it is, by an extension of ASGI (:mod:`.extension`), and one timer serves all time-outs
of a connection. This bypass of uvicorn stays because it was measured: a PUT of one item, as a ratio to a bare Starlette
application, is 1.07 with it, 0.80 without the extension, and 0.65 without the joining transport either
(``tests/benchmarks/requests.py --rounds 6``).

Every client that reaches the port can open connections, so each is bounded: the size of a head, the time in which a
request has to arrive, how many requests are read ahead, how much of a response may be unread and for how long, and how
many connections there are.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from progressbar_tracker.server import capacity
from progressbar_tracker.server.budget import STRANGER, UNREAD_TIMEOUT
from progressbar_tracker.server.capacity import HEAD
from progressbar_tracker.server.proxies import network_of

from .eviction import Places
from .extension import COMPLETE, CONNECTION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from progressbar_tracker.server.budget import ByteBudget

PATIENCE: Final = 20.0
"""Seconds in which the head of a request has to come, and its body if that is small."""

PACE: Final = 1024.0
"""Bytes a second at which a body has to come, at the least."""

MOST: Final = 16 * 1024 * 1024
"""The most bytes of a request that are read, be it only to throw them away: what is refused is still being sent."""

FEED_BYTES: Final = 4096
"""How much of what arrives is parsed before the requests in it are answered: pipelined requests wait as bytes."""

HEADER_BYTES: Final = 160
"""About how much memory a header takes beside its text."""

MANY_HEADERS: Final = FEED_BYTES // HEADER_BYTES
"""A head with more headers is charged to its client, like one of more than :data:`FEED_BYTES`."""

QUEUED_REQUEST_BYTES: Final = 3072
"""About how much memory a pipelined request takes beside its head."""

_HEAD: Final = b"HTTP/1.1 "
_RESET: Final = struct.pack("ii", 1, 0)
"""With it, closing a socket discards what the system holds for it."""


class _HeadError(Exception):
    """A head that is refused, from inside the parser."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Connections:
    """What the connections of one server share.

    Args:
        budget: Charged with what clients leave unread.

    Attributes:
        places: The connections that may be closed to make room.
        idle: Those of them that wait for a request.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.places: Places[Connection] = Places()
        self.idle = self.places.idle


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, on a transport that holds a head back until its body comes.

    Attributes:
        since: When the present request began to come, or else the latest.
        holder: The client that unread bytes are charged to.
        network: The network of the other end.
    """

    def __init__(self, *arguments: Any, shared: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._shared = shared

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin."""
        self._joining = _Joining(transport, self.loop)
        # A response is unread, and the next one waits, as soon as the system does not take all of it.
        transport.set_write_buffer_limits(high=0)
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
        self._extensions: dict[str, dict[object, object]] = {CONNECTION: {"connection": self}}
        self._rest = b""  # received, and not parsed yet
        self._answered: RequestResponseCycle | None = None  # the request that is answered, if others wait behind it
        self.network = network_of("" if self.client is None else self.client[0])
        self._stranger = STRANGER + self.network
        self.holder = self._stranger
        self._head_charge = 0  # of the head that is arriving
        self._head_charges: dict[RequestResponseCycle, int] = {}  # of requests that are not answered yet
        self._rest_charge = 0
        self._is_owing = False  # the rest of a body
        self._is_deaf = False
        self._charged: tuple[str, int] | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._shared.idle[self] = None
        if len(self.connections) > capacity.connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer.cancel()
        self._extensions.clear()  # or it would take a collection to be rid of this
        self._rest = b""
        self._shared.places.remove(self)
        self._shared.budget.release(
            self._stranger, self._head_charge + self._rest_charge + sum(self._head_charges.values())
        )
        self._head_charge = self._rest_charge = 0
        self._head_charges.clear()
        # uvicorn tells the request that came last, and not those that came before it and are still answered.
        for cycle in (self._answered, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._answered = None
        super().connection_lost(exc)
        self._settle_unread()  # uvicorn resumes its own state only

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._owes:
            self._owes = True
            self.since = self.loop.time()
        if self._rest or len(data) > FEED_BYTES:
            self._rest += data
            self._feed_rest()
        else:
            self._feed(data)

    def _feed_rest(self) -> None:
        """Parse what has been received, as far as it is answered without a queue."""
        rest, done = self._rest, 0
        while done < len(rest) and not self.pipeline and not self.transport.is_closing():
            self._feed(rest[done : done + FEED_BYTES])
            done += FEED_BYTES
        self._rest = b"" if self.transport.is_closing() else rest[done:]
        if rest and not self._rest:
            self.since = self.loop.time()  # only now does the client owe us what is missing
        self._joining.hold_reading(hold=bool(self._rest), paused=self.flow.read_paused)
        self._charge_rest()

    def _feed(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._seen += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The server speaks nothing else. The request itself is answered, and nothing after it.
            self.cycle.keep_alive = False
            if (framing := _framing_of(self.cycle.scope["headers"])) is None:
                self._is_deaf = True
            else:
                self.parser = httptools.HttpRequestParser(_BodyCallbacks(self))
                self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
                body = data[upgrade.args[0] :]
                self._seen -= len(body)  # it is counted again
                self._feed(body)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, _HeadError) else HTTPStatus.BAD_REQUEST)
        else:
            if self._in_head and self._seen > HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._seen > MOST:
                self.transport.close()
            elif self._in_head and (self._seen or self.headers):
                if self in self._shared.idle:
                    self._shared.idle.move_to_end(self)
                if not self._charge_head():
                    self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
                elif self.url and data.endswith(b"\n") and self.parser.get_http_version().startswith("0"):
                    self._refuse(HTTPStatus.BAD_REQUEST)  # such a client sends no headers, and waits
        if not self._in_head and not self._is_owing and not self.transport.is_closing():
            self._is_owing = True
            self._shared.places.add_owing(self)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Have a request answered."""
        if self._seen > HEAD and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD:
            raise _HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise _HeadError(HTTPStatus.BAD_REQUEST)  # a proxy may see another end of this request
        former: RequestResponseCycle | None = self.cycle
        queued = 0 if former is None or former.response_complete else QUEUED_REQUEST_BYTES
        if (queued or self._seen > FEED_BYTES or len(self.headers) > MANY_HEADERS) and not self._charge_head(queued):
            raise _HeadError(HTTPStatus.SERVICE_UNAVAILABLE)
        super().on_headers_complete()
        if self.pipeline and self._answered is None:
            self._answered = former
        self._in_head = False
        self._shared.idle.pop(self, None)
        if self._head_charge:
            # The application has the head until it has answered.
            self._head_charges[self.cycle] = self._head_charge
            self._head_charge = 0
        # What follows a body in chunks would be added to the head: a key, an origin.
        self.headers = []

    def on_message_complete(self) -> None:
        """Note that all of a request is there."""
        if self.parser.should_upgrade() and _framing_of(self.cycle.scope["headers"]) is not None:
            return  # the parser says so of a request that asks for another protocol, before its body
        super().on_message_complete()
        self.scope[COMPLETE] = True  # type: ignore[typeddict-unknown-key]  # an extension of ours
        self._in_head = True
        self._owes = False
        if self._is_owing:
            self._is_owing = False
            self._shared.places.remove_owing(self)
        self._seen = 0

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it."""
        if self._head_charges:
            self._release_head(self._answered or self.cycle)
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
            super().on_response_complete()
            if self._rest:
                self._feed_rest()  # it may begin with the rest of the request that is answered now
            return
        self._answered = None
        if self.cycle.body:
            self.cycle.body = bytearray()  # it was answered unread
        # As uvicorn does it, but for the timer.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._shared.idle[self] = None
            self.flow.resume_reading()
            if not self._owes:
                self.since = self.loop.time()
            if self._rest:
                self._feed_rest()

    def _charge_head(self, queued_bytes: int = 0) -> bool:
        """Charge a head that is large or waits for its turn; return whether its client may have it."""
        more = self._seen + len(self.headers) * HEADER_BYTES + queued_bytes - self._head_charge
        if more < FEED_BYTES and not queued_bytes:
            return True
        self._head_charge += more
        if self._shared.budget.charge(self._stranger, more):
            return True
        self._shared.budget.refused += 1
        return False

    def _release_head(self, answered: RequestResponseCycle) -> None:
        """Forget the head of a request that is answered."""
        size = self._head_charges.pop(answered, 0)
        if not size:
            return
        self._shared.budget.release(self._stranger, size)
        former, answered.scope = answered.scope, {}  # type: ignore[typeddict-item]  # uvicorn reads it no more
        if self.scope is former:
            self.scope = answered.scope
            self.url = b""

    def _charge_rest(self) -> None:
        """Charge the received bytes that wait to be parsed."""
        more = len(self._rest) - self._rest_charge
        self._rest_charge += more
        if more < 0:
            self._shared.budget.release(self._stranger, -more)
        elif more and not self._shared.budget.charge(self._stranger, more):
            self._shared.budget.dropped += 1
            self.abort()

    def send_whole(self, status: int, head: bytes, body: bytes, holder: str, /) -> bool:
        """Send an answer in one piece; see :class:`~.extension.Sending`."""
        cycle: RequestResponseCycle = self.cycle
        # With requests that came before their turn, it is the one of the latest and not the one that is answered.
        if self.pipeline or not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        usual = self._usual
        if usual[0] is not cycle.default_headers:  # another list each second, with the date
            told = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
            usual = self._usual = (cycle.default_headers, told)
        self.holder = holder
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        self._joining.write_whole(b"".join((STATUS_LINE[status], usual[1], head, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def send_until_close(self) -> None:
        """Have the response that begins now end with its connection: HTTP/1.0 knows no chunks."""
        cycle: RequestResponseCycle = self.cycle
        cycle.chunked_encoding = False
        cycle.expected_content_length = _Endless()

    async def drain(self) -> None:
        """Return when the system has taken all that was sent."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Drop the connection at once, with all that the client has not been sent."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed already
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._joining.abort()

    def pause_writing(self) -> None:
        """Charge what the system did not take."""
        super().pause_writing()
        size = self._joining.unsent()
        self._charged = self.holder, size
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._look_unread, self._unread())
        if not self._shared.budget.charge(self.holder, size):
            self._shared.budget.dropped += 1
            self.loop.call_soon(self.abort)

    def resume_writing(self) -> None:
        """Go on: the system has taken all."""
        self._settle_unread()
        super().resume_writing()

    def _settle_unread(self) -> None:
        if self._charged is not None:
            self._shared.budget.release(*self._charged)
            self._charged = None
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _unread(self) -> int:
        """Return how many bytes the client has not acknowledged, those that the system holds among them."""
        return self._joining.unsent() + _queued(self.transport.get_extra_info("socket"))

    def _look_unread(self, before: int) -> None:
        """Drop a client that has read nothing since ``before`` bytes were unread."""
        unread = self._unread()
        if unread >= before:
            self._shared.budget.dropped += 1
            self.abort()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._look_unread, unread)

    @property
    def answering(self) -> bool:
        """Whether an answer is being made or sent."""
        # uvicorn's annotation leaves out that there is none at first.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _look(self) -> None:
        """Cut off who has owed us the rest of a request for too long, or has had nothing to ask for long enough."""
        if self._owes and not self._rest:
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
        """Close the connection that has the least claim to its place; it may be this one."""
        evicted = self._shared.places.evict(self, self.loop.time())
        if evicted.answering:
            evicted._refuse(HTTPStatus.SERVICE_UNAVAILABLE)  # noqa: SLF001  # its body did not come
        else:
            evicted.transport.close()

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


class _Endless(int):
    """The length of a response that ends with its connection, as uvicorn reckons with it: never exceeded or missed."""

    def __lt__(self, _other: object) -> bool:
        return False

    def __isub__(self, _other: object) -> Self:
        return self

    def __ne__(self, _other: object) -> bool:
        return False

    __hash__ = int.__hash__


class _BodyCallbacks:
    """Takes the body of a request that asks for another protocol, which the parser of its head leaves out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.on_body = connection.on_body

    def on_message_complete(self) -> None:
        self._connection._is_deaf = True  # noqa: SLF001 - one class in two parts
        self._connection.on_message_complete()


def _framing_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the header by which the end of a body is found, or ``None`` where there is no body."""
    found = dict(headers)
    if b"transfer-encoding" in found:
        return b"transfer-encoding: " + found[b"transfer-encoding"]
    if found.get(b"content-length", b"0").strip(b" 0"):
        return b"content-length: " + found[b"content-length"]
    return None


class _Joining:
    """A transport, as far as uvicorn uses it."""

    __slots__ = (
        "_held", "_holds_reading", "_loop", "_transport", "abort", "get_extra_info", "is_closing", "pause_reading",
        "unsent",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        self._holds_reading = False
        self.abort = transport.abort
        self.unsent = transport.get_write_buffer_size
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading

    def write(self, data: bytes) -> None:
        held = self._held
        if held is not None:
            self._held = None
            # Only ever two at once: more would reach the transport too late for it to say that its reader is slow.
            self._send(held + data)
        elif data.startswith(_HEAD):
            self._held = data
            # A stream may have nothing to say for a while, and its head is to be seen.
            self._loop.call_soon(self._flush)
        else:
            self._send(data)

    def resume_reading(self) -> None:
        """Read on, unless what was read before waits to be parsed."""
        if not self._holds_reading:
            self._transport.resume_reading()

    def hold_reading(self, *, hold: bool, paused: bool) -> None:
        """Read nothing while ``hold``.

        Args:
            hold: Whether bytes wait to be parsed.
            paused: Whether uvicorn wants nothing to be read.
        """
        if hold is self._holds_reading:
            return
        self._holds_reading = hold
        if not paused and not self.is_closing():
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def write_whole(self, data: bytes) -> None:
        """Write what nothing follows."""
        self._flush()
        self._send(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._send(held)

    def _send(self, data: bytes) -> None:
        if not self.is_closing():  # it may have been dropped in this turn of the loop
            self._transport.write(data)


def _queued(opened: socket.socket | None) -> int:
    """Return how many bytes the system holds for a socket that the other end has not acknowledged."""
    if opened is None or sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        return int(struct.unpack("i", fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except (OSError, ValueError):  # it is closed already
        return 0
