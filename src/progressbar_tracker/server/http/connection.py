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
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from progressbar_tracker.server import capacity
from progressbar_tracker.server.budget import ANONYMOUS_PREFIX, UNREAD_TIMEOUT
from progressbar_tracker.server.capacity import MAX_HEAD_BYTES
from progressbar_tracker.server.proxies import client_network

from .eviction import EvictionQueue
from .extension import CONNECTION_EXTENSION, REQUEST_COMPLETE_KEY
from .joining_transport import JoiningTransport, count_unacknowledged

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from progressbar_tracker.server.budget import ByteBudget

REQUEST_READ_TIMEOUT: Final = 20.0
"""Seconds in which the head of a request has to come, and its body if that is small."""

MIN_BODY_RATE: Final = 1024.0
"""Bytes a second at which a body has to come, at the least."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of a request that are read, be it only to throw them away: what is refused is still being sent."""

FEED_BYTES: Final = 4096
"""How much of what arrives is parsed before the requests in it are answered: pipelined requests wait as bytes."""

HEADER_OVERHEAD_BYTES: Final = 160
"""About how much memory a header takes beside its text."""

MAX_UNCHARGED_HEADERS: Final = FEED_BYTES // HEADER_OVERHEAD_BYTES
"""A head with more headers is charged to its client, like one of more than :data:`FEED_BYTES`."""

QUEUED_REQUEST_BYTES: Final = 3072
"""About how much memory a pipelined request takes beside its head."""

_LINGER_RESET: Final = struct.pack("ii", 1, 0)
"""With it, closing a socket discards what the system holds for it."""


class _HeadError(Exception):
    """A head that is refused, from inside the parser."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class ConnectionRegistry:
    """What the connections of one server share.

    Args:
        budget: Charged with what clients leave unread.

    Attributes:
        places: The connections that may be closed to make room.
        idle: Those of them that wait for a request.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.places: EvictionQueue[Connection] = EvictionQueue()
        self.idle = self.places.idle


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, on a transport that holds a head back until its body comes.

    Attributes:
        since: When the present request began to come, or else the latest.
        holder: The client that unread bytes are charged to.
        network: The network of the other end.
    """

    def __init__(self, *arguments: Any, registry: ConnectionRegistry, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._registry = registry

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Begin."""
        self._joining_transport = JoiningTransport(transport, self.loop)
        # A response is unread, and the next one waits, as soon as the system does not take all of it.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(self._joining_transport)  # type: ignore[arg-type]  # all that uvicorn uses of one
        # Whoever listens to uvicorn's: a path may hold the token of a share, or one that signs in.
        self.access_log = False
        self._is_reading_head = True
        self._received_bytes = 0  # bytes of the present request
        # The other end owes us the rest of a request, and has since then. Who has just come owes us one.
        self._is_request_incomplete = True
        self.since = self.loop.time()
        self._timer = self.loop.call_later(REQUEST_READ_TIMEOUT, self._check_timeout)
        self._encoded_defaults: tuple[object, bytes] = (None, b"")  # uvicorn's headers, and how they are sent
        self._extensions: dict[str, dict[object, object]] = {CONNECTION_EXTENSION: {"connection": self}}
        self._unparsed = b""  # received, and not parsed yet
        self._answered_cycle: RequestResponseCycle | None = (
            None  # the request that is answered, if others wait behind it
        )
        self.network = client_network("" if self.client is None else self.client[0])
        self._network_holder = ANONYMOUS_PREFIX + self.network
        self.holder = self._network_holder
        self._head_charge = 0  # of the head that is arriving
        self._head_charges: dict[RequestResponseCycle, int] = {}  # of requests that are not answered yet
        self._unparsed_charge = 0
        self._is_body_incomplete = False  # the rest of a body
        self._is_input_ignored = False
        self._unread_charge: tuple[str, int] | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._registry.idle[self] = None
        if len(self.connections) > capacity.max_connections():
            self._evict_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer.cancel()
        self._extensions.clear()  # or it would take a collection to be rid of this
        self._unparsed = b""
        self._registry.places.remove(self)
        self._registry.budget.release(
            self._network_holder, self._head_charge + self._unparsed_charge + sum(self._head_charges.values())
        )
        self._head_charge = self._unparsed_charge = 0
        self._head_charges.clear()
        # uvicorn tells the request that came last, and not those that came before it and are still answered.
        for cycle in (self._answered_cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._answered_cycle = None
        super().connection_lost(exc)
        self._release_unread()  # uvicorn resumes its own state only

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._is_request_incomplete:
            self._is_request_incomplete = True
            self.since = self.loop.time()
        if self._unparsed or len(data) > FEED_BYTES:
            self._unparsed += data
            self._feed_unparsed()
        else:
            self._feed(data)

    def _feed_unparsed(self) -> None:
        """Parse what has been received, as far as it is answered without a queue."""
        rest, done = self._unparsed, 0
        while done < len(rest) and not self.pipeline and not self.transport.is_closing():
            self._feed(rest[done : done + FEED_BYTES])
            done += FEED_BYTES
        self._unparsed = b"" if self.transport.is_closing() else rest[done:]
        if rest and not self._unparsed:
            self.since = self.loop.time()  # only now does the client owe us what is missing
        self._joining_transport.hold_reading(hold=bool(self._unparsed), paused=self.flow.read_paused)
        self._charge_unparsed()

    def _feed(self, data: bytes) -> None:
        if self._is_input_ignored:
            return
        self._received_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The server speaks nothing else. The request itself is answered, and nothing after it.
            self.cycle.keep_alive = False
            if (framing := _find_framing_header(self.cycle.scope["headers"])) is None:
                self._is_input_ignored = True
            else:
                self.parser = httptools.HttpRequestParser(_BodyCallbacks(self))
                self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
                body = data[upgrade.args[0] :]
                self._received_bytes -= len(body)  # it is counted again
                self._feed(body)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.status if isinstance(cause, _HeadError) else HTTPStatus.BAD_REQUEST)
        else:
            if self._is_reading_head and self._received_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._received_bytes > MAX_REQUEST_BYTES:
                self.transport.close()
            elif self._is_reading_head and (self._received_bytes or self.headers):
                if self in self._registry.idle:
                    self._registry.idle.move_to_end(self)
                if not self._charge_head():
                    self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
                elif self.url and data.endswith(b"\n") and self.parser.get_http_version().startswith("0"):
                    self._refuse(HTTPStatus.BAD_REQUEST)  # such a client sends no headers, and waits
        if not self._is_reading_head and not self._is_body_incomplete and not self.transport.is_closing():
            self._is_body_incomplete = True
            self._registry.places.mark_incomplete(self)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._is_reading_head = True

    def on_headers_complete(self) -> None:
        """Have a request answered."""
        if (
            self._received_bytes > MAX_HEAD_BYTES
            and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            raise _HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise _HeadError(HTTPStatus.BAD_REQUEST)  # a proxy may see another end of this request
        former: RequestResponseCycle | None = self.cycle
        queued = 0 if former is None or former.response_complete else QUEUED_REQUEST_BYTES
        if (
            queued or self._received_bytes > FEED_BYTES or len(self.headers) > MAX_UNCHARGED_HEADERS
        ) and not self._charge_head(queued):
            raise _HeadError(HTTPStatus.SERVICE_UNAVAILABLE)
        super().on_headers_complete()
        if self.pipeline and self._answered_cycle is None:
            self._answered_cycle = former
        self._is_reading_head = False
        self._registry.idle.pop(self, None)
        if self._head_charge:
            # The application has the head until it has answered.
            self._head_charges[self.cycle] = self._head_charge
            self._head_charge = 0
        # What follows a body in chunks would be added to the head: a key, an origin.
        self.headers = []

    def on_message_complete(self) -> None:
        """Note that all of a request is there."""
        if self.parser.should_upgrade() and _find_framing_header(self.cycle.scope["headers"]) is not None:
            return  # the parser says so of a request that asks for another protocol, before its body
        super().on_message_complete()
        self.scope[REQUEST_COMPLETE_KEY] = True  # type: ignore[typeddict-unknown-key]  # an extension of ours
        self._is_reading_head = True
        self._is_request_incomplete = False
        if self._is_body_incomplete:
            self._is_body_incomplete = False
            self._registry.places.mark_complete(self)
        self._received_bytes = 0

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it."""
        if self._head_charges:
            self._release_head(self._answered_cycle or self.cycle)
        if self.pipeline:
            self._answered_cycle = self.pipeline[-1][0]
            super().on_response_complete()
            if self._unparsed:
                self._feed_unparsed()  # it may begin with the rest of the request that is answered now
            return
        self._answered_cycle = None
        if self.cycle.body:
            self.cycle.body = bytearray()  # it was answered unread
        # As uvicorn does it, but for the timer.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._registry.idle[self] = None
            self.flow.resume_reading()
            if not self._is_request_incomplete:
                self.since = self.loop.time()
            if self._unparsed:
                self._feed_unparsed()

    def _charge_head(self, queued_bytes: int = 0) -> bool:
        """Charge a head that is large or waits for its turn; return whether its client may have it."""
        more = self._received_bytes + len(self.headers) * HEADER_OVERHEAD_BYTES + queued_bytes - self._head_charge
        if more < FEED_BYTES and not queued_bytes:
            return True
        self._head_charge += more
        if self._registry.budget.charge(self._network_holder, more):
            return True
        self._registry.budget.refused += 1
        return False

    def _release_head(self, answered: RequestResponseCycle) -> None:
        """Forget the head of a request that is answered."""
        size = self._head_charges.pop(answered, 0)
        if not size:
            return
        self._registry.budget.release(self._network_holder, size)
        former, answered.scope = answered.scope, {}  # type: ignore[typeddict-item]  # uvicorn reads it no more
        if self.scope is former:
            self.scope = answered.scope
            self.url = b""

    def _charge_unparsed(self) -> None:
        """Charge the received bytes that wait to be parsed."""
        more = len(self._unparsed) - self._unparsed_charge
        self._unparsed_charge += more
        if more < 0:
            self._registry.budget.release(self._network_holder, -more)
        elif more and not self._registry.budget.charge(self._network_holder, more):
            self._registry.budget.dropped += 1
            self.abort()

    def send_response(self, status: int, head: bytes, body: bytes, holder: str, /) -> bool:
        """Send an answer in one piece; see :class:`~.extension.ResponseSender`."""
        cycle: RequestResponseCycle = self.cycle
        # With requests that came before their turn, it is the one of the latest and not the one that is answered.
        if self.pipeline or not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        usual = self._encoded_defaults
        if usual[0] is not cycle.default_headers:  # another list each second, with the date
            told = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
            usual = self._encoded_defaults = (cycle.default_headers, told)
        self.holder = holder
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        self._joining_transport.write_response(b"".join((STATUS_LINE[status], usual[1], head, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def send_until_close(self) -> None:
        """Have the response that begins now end with its connection: HTTP/1.0 knows no chunks."""
        cycle: RequestResponseCycle = self.cycle
        cycle.chunked_encoding = False
        cycle.expected_content_length = _UnboundedLength()

    async def drain(self) -> None:
        """Return when the system has taken all that was sent."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Drop the connection at once, with all that the client has not been sent."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed already
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._joining_transport.abort()

    def pause_writing(self) -> None:
        """Charge what the system did not take."""
        super().pause_writing()
        size = self._joining_transport.count_unsent()
        self._unread_charge = self.holder, size
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._check_unread, self._count_unread())
        if not self._registry.budget.charge(self.holder, size):
            self._registry.budget.dropped += 1
            self.loop.call_soon(self.abort)

    def resume_writing(self) -> None:
        """Go on: the system has taken all."""
        self._release_unread()
        super().resume_writing()

    def _release_unread(self) -> None:
        if self._unread_charge is not None:
            self._registry.budget.release(*self._unread_charge)
            self._unread_charge = None
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _count_unread(self) -> int:
        """Return how many bytes the client has not acknowledged, those that the system holds among them."""
        return self._joining_transport.count_unsent() + count_unacknowledged(self.transport.get_extra_info("socket"))

    def _check_unread(self, before: int) -> None:
        """Drop a client that has read nothing since ``before`` bytes were unread."""
        unread = self._count_unread()
        if unread >= before:
            self._registry.budget.dropped += 1
            self.abort()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._check_unread, unread)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is being made or sent."""
        # uvicorn's annotation leaves out that there is none at first.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _check_timeout(self) -> None:
        """Cut off who has owed us the rest of a request for too long, or has had nothing to ask for long enough."""
        if self._is_request_incomplete and not self._unparsed:
            left = self.since + REQUEST_READ_TIMEOUT - self.loop.time()
            if self.is_answering and not self._is_reading_head:
                left += self._received_bytes / MIN_BODY_RATE
        elif self.is_answering:
            left = REQUEST_READ_TIMEOUT
        else:
            left = self.since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            # Who owes us nothing may begin to at any time.
            self._timer = self.loop.call_later(min(left, REQUEST_READ_TIMEOUT), self._check_timeout)
        elif self._received_bytes == 0:
            # A browser that connects in advance would take an answer for one to its first request.
            self.transport.close()
        elif not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _evict_connection(self) -> None:
        """Close the connection that has the least claim to its place; it may be this one."""
        evicted = self._registry.places.evict(self, self.loop.time())
        if evicted.is_answering:
            evicted._refuse(HTTPStatus.SERVICE_UNAVAILABLE)  # noqa: SLF001  # its body did not come
        else:
            evicted.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, unless an answer is on its way, and hang up."""
        if not (self.is_answering and self.cycle.response_started):
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                b"cache-control: no-store\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, text, len(text), text)
            )
        self.transport.close()


class _UnboundedLength(int):
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
        self._connection._is_input_ignored = True  # noqa: SLF001 - one class in two parts
        self._connection.on_message_complete()


def _find_framing_header(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the header by which the end of a body is found, or ``None`` where there is no body."""
    found = dict(headers)
    if b"transfer-encoding" in found:
        return b"transfer-encoding: " + found[b"transfer-encoding"]
    if found.get(b"content-length", b"0").strip(b" 0"):
        return b"content-length: " + found[b"content-length"]
    return None
