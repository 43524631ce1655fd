"""An HTTP connection: uvicorn's protocol with limits, and with responses that are sent in one piece.

uvicorn writes the head and the body of a response separately, validates each header, and arms a timer after each
response. Here, a transport joins head and body (:mod:`.joining_transport`), an ASGI extension sends a complete response
as it is (:mod:`.extension`), and one timer serves all timeouts of a connection. Measured with
``tests/benchmarks/requests.py --rounds 6``: a PUT of one item, as a ratio to a bare Starlette application, is 1.07,
0.80 without the extension, and 0.65 without the joining transport too.

Every client that reaches the port can open connections. So there are limits on the size of a head, the time that a
request takes to arrive, the requests read ahead, the unread bytes of responses and their age, and the connections.
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
"""Seconds within which the head of a request, and a small body, must arrive."""

MIN_BODY_RATE: Final = 1024.0
"""The slowest rate, in bytes a second, at which a body may arrive."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""The most bytes read of a request. Clients keep sending the body of a refused one, and it is discarded."""

FEED_BYTES: Final = 4096
"""Bytes parsed before the requests in them are answered: pipelined requests wait as bytes."""

HEADER_OVERHEAD_BYTES: Final = 160
"""Approximate memory of a header in addition to its text."""

MAX_UNCHARGED_HEADERS: Final = FEED_BYTES // HEADER_OVERHEAD_BYTES
"""A head with more headers is charged to its client, as is one of more than :data:`FEED_BYTES`."""

QUEUED_REQUEST_BYTES: Final = 3072
"""Approximate memory of a pipelined request in addition to its head."""

_LINGER_RESET: Final = struct.pack("ii", 1, 0)
"""Socket option: discard the unsent bytes when the socket is closed."""


class _HeadError(Exception):
    """Refuses a head from inside the parser."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class ConnectionRegistry:
    """The state that the connections of one server share.

    Args:
        budget: Charged with the bytes that clients leave unread.

    Attributes:
        evictable: The connections that may be evicted.
        idle: Those that wait for a request.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.evictable: EvictionQueue[Connection] = EvictionQueue()
        self.idle = self.evictable.idle


class Connection(HttpToolsProtocol):
    """uvicorn's protocol on a joining transport.

    Attributes:
        since: The loop time at which the latest request began to arrive, or the latest response ended.
        holder: The client that unread bytes are charged to.
        network: The network of the client.
    """

    def __init__(self, *arguments: Any, registry: ConnectionRegistry, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._registry = registry

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Start the timer, and evict a connection if there are too many."""
        self._joining_transport = JoiningTransport(transport, self.loop)
        # Pause as soon as the socket does not take all of a response.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(self._joining_transport)  # type: ignore[arg-type]  # it has all that uvicorn uses
        # Disable uvicorn's access log: paths can contain share and sign-in tokens.
        self.access_log = False
        self._is_reading_head = True
        self._received_bytes = 0  # bytes of the current request
        # True while a request is incomplete; `since` is when it started. A new connection awaits its first request.
        self._is_request_incomplete = True
        self.since = self.loop.time()
        self._timer = self.loop.call_later(REQUEST_READ_TIMEOUT, self._check_timeout)
        self._encoded_defaults: tuple[object, bytes] = (None, b"")  # uvicorn's header list, and its encoding
        self._extensions: dict[str, dict[object, object]] = {CONNECTION_EXTENSION: {"connection": self}}
        self._unparsed = b""  # received, but not parsed yet
        # The request that is being answered if others are queued behind it.
        self._answered_cycle: RequestResponseCycle | None = None
        self.network = client_network("" if self.client is None else self.client[0])
        self._network_holder = ANONYMOUS_PREFIX + self.network
        self.holder = self._network_holder
        self._head_charge = 0  # for the head that is arriving
        self._head_charges: dict[RequestResponseCycle, int] = {}  # for requests that are not answered yet
        self._unparsed_charge = 0
        self._is_body_incomplete = False
        self._is_input_ignored = False
        self._unread_charge: tuple[str, int] | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._registry.idle[self] = None
        if len(self.connections) > capacity.max_connections():
            self._evict_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all charges, and wake the requests that are still being answered."""
        self._timer.cancel()
        self._extensions.clear()  # break the reference cycle, so that this is freed without a GC pass
        self._unparsed = b""
        self._registry.evictable.remove(self)
        self._registry.budget.release(
            self._network_holder, self._head_charge + self._unparsed_charge + sum(self._head_charges.values())
        )
        self._head_charge = self._unparsed_charge = 0
        self._head_charges.clear()
        # uvicorn notifies only the latest request, and not earlier ones that are still being answered.
        for cycle in (self._answered_cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        self._answered_cycle = None
        super().connection_lost(exc)
        self._release_unread()  # uvicorn resumes only its own state

    def data_received(self, data: bytes) -> None:
        """Parse the data, or queue it behind bytes that are not parsed yet."""
        if not self._is_request_incomplete:
            self._is_request_incomplete = True
            self.since = self.loop.time()
        if self._unparsed or len(data) > FEED_BYTES:
            self._unparsed += data
            self._feed_unparsed()
        else:
            self._feed(data)

    def _feed_unparsed(self) -> None:
        """Parse received bytes until a request has to be queued."""
        rest, done = self._unparsed, 0
        while done < len(rest) and not self.pipeline and not self.transport.is_closing():
            self._feed(rest[done : done + FEED_BYTES])
            done += FEED_BYTES
        self._unparsed = b"" if self.transport.is_closing() else rest[done:]
        if rest and not self._unparsed:
            self.since = self.loop.time()  # the client is only now responsible for the missing rest
        self._joining_transport.hold_reading(hold=bool(self._unparsed), paused=self.flow.read_paused)
        self._charge_unparsed()

    def _feed(self, data: bytes) -> None:
        if self._is_input_ignored:
            return
        self._received_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is supported. The request is answered, and later input ignored.
            self.cycle.keep_alive = False
            if (framing := _find_framing_header(self.cycle.scope["headers"])) is None:
                self._is_input_ignored = True
            else:
                self.parser = httptools.HttpRequestParser(_BodyCallbacks(self))
                self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
                body = data[upgrade.args[0] :]
                self._received_bytes -= len(body)  # it is counted again below
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
                    self._refuse(HTTPStatus.BAD_REQUEST)  # an HTTP/0.9 client sends no headers and waits
        if not self._is_reading_head and not self._is_body_incomplete and not self.transport.is_closing():
            self._is_body_incomplete = True
            self._registry.evictable.mark_incomplete(self)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._is_reading_head = True

    def on_headers_complete(self) -> None:
        """Validate the head, charge it, and start the application."""
        if (
            self._received_bytes > MAX_HEAD_BYTES
            and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES
        ):
            raise _HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise _HeadError(HTTPStatus.BAD_REQUEST)  # a proxy may see another end of the request
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
            # The application holds the head until the response is complete.
            self._head_charges[self.cycle] = self._head_charge
            self._head_charge = 0
        # Otherwise trailers of a chunked body, such as a key or an origin, would be added to the head.
        self.headers = []

    def on_message_complete(self) -> None:
        """Mark the request as complete."""
        if self.parser.should_upgrade() and _find_framing_header(self.cycle.scope["headers"]) is not None:
            return  # the parser reports an upgrade request as complete before its body
        super().on_message_complete()
        self.scope[REQUEST_COMPLETE_KEY] = True  # type: ignore[typeddict-unknown-key]  # our extension
        self._is_reading_head = True
        self._is_request_incomplete = False
        if self._is_body_incomplete:
            self._is_body_incomplete = False
            self._registry.evictable.mark_complete(self)
        self._received_bytes = 0

    def on_response_complete(self) -> None:
        """Start the next queued request, or wait for one."""
        if self._head_charges:
            self._release_head(self._answered_cycle or self.cycle)
        if self.pipeline:
            self._answered_cycle = self.pipeline[-1][0]
            super().on_response_complete()
            if self._unparsed:
                self._feed_unparsed()  # it may begin with the rest of the request that is answered next
            return
        self._answered_cycle = None
        if self.cycle.body:
            self.cycle.body = bytearray()  # the application did not read it
        # As in uvicorn, but without its timer.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._registry.idle[self] = None
            self.flow.resume_reading()
            if not self._is_request_incomplete:
                self.since = self.loop.time()
            if self._unparsed:
                self._feed_unparsed()

    def _charge_head(self, queued_bytes: int = 0) -> bool:
        """Charge a large or queued head; return whether the budget of the client allows it."""
        more = self._received_bytes + len(self.headers) * HEADER_OVERHEAD_BYTES + queued_bytes - self._head_charge
        if more < FEED_BYTES and not queued_bytes:
            return True
        self._head_charge += more
        if self._registry.budget.charge(self._network_holder, more):
            return True
        self._registry.budget.refused += 1
        return False

    def _release_head(self, answered: RequestResponseCycle) -> None:
        """Release the head of an answered request."""
        size = self._head_charges.pop(answered, 0)
        if not size:
            return
        self._registry.budget.release(self._network_holder, size)
        former, answered.scope = answered.scope, {}  # type: ignore[typeddict-item]  # uvicorn no longer reads it
        if self.scope is former:
            self.scope = answered.scope
            self.url = b""

    def _charge_unparsed(self) -> None:
        """Charge the received bytes that are not parsed yet."""
        more = len(self._unparsed) - self._unparsed_charge
        self._unparsed_charge += more
        if more < 0:
            self._registry.budget.release(self._network_holder, -more)
        elif more and not self._registry.budget.charge(self._network_holder, more):
            self._registry.budget.dropped += 1
            self.abort()

    def send_response(self, status: int, head: bytes, body: bytes, holder: str, /) -> bool:
        """Send a response in one piece; see :class:`~.extension.ResponseSender`."""
        cycle: RequestResponseCycle = self.cycle
        # With a pipeline, `cycle` is the latest request and not the one that is answered.
        if self.pipeline or not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        defaults = self._encoded_defaults
        if defaults[0] is not cycle.default_headers:  # a new list each second, with the date
            encoded = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
            defaults = self._encoded_defaults = (cycle.default_headers, encoded)
        self.holder = holder
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        self._joining_transport.write_response(b"".join((STATUS_LINE[status], defaults[1], head, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    def send_until_close(self) -> None:
        """End the response that begins now by closing the connection, as HTTP/1.0 has no chunks."""
        cycle: RequestResponseCycle = self.cycle
        cycle.chunked_encoding = False
        cycle.expected_content_length = _UnboundedLength()

    async def drain(self) -> None:
        """Return when the socket has taken all sent bytes."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Reset the connection at once, and discard unsent bytes."""
        connection_socket = self.transport.get_extra_info("socket")
        if connection_socket is not None:
            with contextlib.suppress(OSError, ValueError):  # closed already
                connection_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._joining_transport.abort()

    def pause_writing(self) -> None:
        """Charge the bytes that the socket did not take."""
        super().pause_writing()
        size = self._joining_transport.count_unsent()
        self._unread_charge = self.holder, size
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._check_unread, self._count_unread())
        if not self._registry.budget.charge(self.holder, size):
            self._registry.budget.dropped += 1
            self.loop.call_soon(self.abort)

    def resume_writing(self) -> None:
        """Release the charge: the socket has taken all bytes."""
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
        """Return how many sent bytes the client has not acknowledged, including those in the socket's buffer."""
        return self._joining_transport.count_unsent() + count_unacknowledged(self.transport.get_extra_info("socket"))

    def _check_unread(self, before: int) -> None:
        """Abort the connection if at least ``before`` bytes are still unread, as at the last check."""
        unread = self._count_unread()
        if unread >= before:
            self._registry.budget.dropped += 1
            self.abort()
        else:
            self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT, self._check_unread, unread)

    @property
    def is_answering(self) -> bool:
        """Whether a response is being built or sent."""
        # uvicorn's annotation omits the initial None.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _check_timeout(self) -> None:
        """Close the connection if its request takes too long to arrive, or if it has been idle for too long."""
        if self._is_request_incomplete and not self._unparsed:
            left = self.since + REQUEST_READ_TIMEOUT - self.loop.time()
            if self.is_answering and not self._is_reading_head:
                left += self._received_bytes / MIN_BODY_RATE
        elif self.is_answering:
            left = REQUEST_READ_TIMEOUT
        else:
            left = self.since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            # A request may begin at any time, so check again within its timeout.
            self._timer = self.loop.call_later(min(left, REQUEST_READ_TIMEOUT), self._check_timeout)
        elif self._received_bytes == 0:
            # No response: a browser that connects in advance would take it for the one to its first request.
            self.transport.close()
        elif not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _evict_connection(self) -> None:
        """Close the connection that is evicted first; it may be this one."""
        evicted = self._registry.evictable.evict(self, self.loop.time())
        if evicted.is_answering:
            evicted._refuse(HTTPStatus.SERVICE_UNAVAILABLE)  # noqa: SLF001  # its body did not arrive
        else:
            evicted.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Send the status unless a response has started, and close the connection."""
        if not (self.is_answering and self.cycle.response_started):
            text = status.phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                b"cache-control: no-store\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, text, len(text), text)
            )
        self.transport.close()


class _UnboundedLength(int):
    """A content length for uvicorn that is never exceeded or missed, for a response that ends with its connection."""

    def __lt__(self, _other: object) -> bool:
        return False

    def __isub__(self, _other: object) -> Self:
        return self

    def __ne__(self, _other: object) -> bool:
        return False

    __hash__ = int.__hash__


class _BodyCallbacks:
    """Parser callbacks for the body of an upgrade request, which the parser of its head leaves out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.on_body = connection.on_body

    def on_message_complete(self) -> None:
        self._connection._is_input_ignored = True  # noqa: SLF001 - a part of the connection
        self._connection.on_message_complete()


def _find_framing_header(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the header that determines the end of the body; ``None`` without a body."""
    by_name = dict(headers)
    if b"transfer-encoding" in by_name:
        return b"transfer-encoding: " + by_name[b"transfer-encoding"]
    if by_name.get(b"content-length", b"0").strip(b" 0"):
        return b"content-length: " + by_name[b"content-length"]
    return None
