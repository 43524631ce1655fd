"""``ProgressBar`` and ``AsyncProgressBar``: the explicit client of the published SDK.

Only the signatures and the documentation are here. ``_http.exchanges`` builds requests and interprets responses, and
``_http.transport`` sends them. The explicit client never hides an error.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Self, TypeVar, cast, overload

from . import _runtime
from ._errors import ProgressBarError, TrackingWarning
from ._log import WARNING, log
from ._text import clean_detail
from ._tracking.tracker import track

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Unpack

    import httpx

    from ._http.event_stream import EventStream
    from ._models import Change, Item, ItemWrite, KeyInfo
    from ._sender.sender import Sender
    from ._tracking.tracker import Tracker, TrackOptions

T = TypeVar("T")

DEFAULT_TIMEOUT = 10.0  # seconds
UNKNOWN_KEY_MESSAGE = "The permissions of the key are not known yet: %s"


def _warn_of_write(item: Item) -> Item:
    """Issue a warning for each part of a write that has no effect, and return the item without them."""
    notes = cast("dict[str, object]", item).pop("warnings", None)
    for note in notes if isinstance(notes, list) else ():
        if detail := clean_detail(note.get("detail")) if isinstance(note, dict) else "":
            warnings.warn(detail, TrackingWarning, stacklevel=3)
    return item


class _TrackingClient:
    """The trackers of a client and their background sender."""

    _sender: Sender

    @property
    def sender(self) -> Sender:
        """The background sender of the trackers of this client: ``stats()``, ``flush(timeout)``."""
        return self._sender

    @overload
    def track(self, iterable: Iterable[T] | AsyncIterable[T], **options: Unpack[TrackOptions]) -> Tracker[T]: ...
    @overload
    def track(self, iterable: None = None, **options: Unpack[TrackOptions]) -> Tracker[None]: ...
    def track(
        self, iterable: Iterable[T] | AsyncIterable[T] | None = None, **options: Unpack[TrackOptions]
    ) -> Tracker[T] | Tracker[None]:
        """Track with this client's server and key. The keywords are those of ``progressbar_tracker.track``."""
        return track(cast("Iterable[T]", iterable), client=self, **options)


class ProgressBar(_TrackingClient):
    """The client of one server with one key.

    Args:
        api_url: Base URL of the server; it may have a path. By default the server that ``track()`` uses.
        api_key: A read, write or admin key. Pass both or none of them.
        auto_detect: Request the permissions of the key at once, and refuse a forbidden call without a request. When
            false, only the server checks permissions.
        timeout: Seconds, more than 0, for a whole call: the connection and the complete response. Only the lookup of
            the host's name is not bounded by it.
        transport: An httpx transport in place of the network, for tests and unusual networks.

    Raises:
        ConfigError: The URL, the key or the timeout is invalid. A server without a response is logged here; the first
            call raises the error.

    The client has one connection pool; ``close()`` or a ``with`` block closes it. Safe to use from several threads.

    Example:
        >>> import httpx
        >>> reply = httpx.Response(200, json=[{"id": "video-001", "value": 0.5}])
        >>> network = httpx.MockTransport(lambda request: reply)
        >>> with ProgressBar("http://server:8989", "key", auto_detect=False, transport=network) as pb:
        ...     pb.get_all()[0]["value"]
        0.5
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        auto_detect: bool = True,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        from ._http.exchanges import ServerProtocol
        from ._http.transport import HttpTransport

        api_url, api_key = _runtime.find_server(api_url, api_key)
        self._transport = HttpTransport(api_url, api_key, timeout=timeout, transport=transport)
        self._protocol = ServerProtocol(auto_detect=auto_detect)
        self._sender = _runtime.create_sender(
            lambda: _runtime.HttpDelivery(self._transport, owns_transport=False), self._transport.url
        )
        if auto_detect:
            try:
                self._transport.run(self._protocol.key_info())
            except ProgressBarError as error:
                log(WARNING, UNKNOWN_KEY_MESSAGE, error)

    def get_all(self) -> list[Item]:
        """Return every item, the highest ``weight`` first.

        Raises:
            PermissionError: The key may not read.
            ResponseError: The server refused for another reason.
            TransportError: There was no usable response.
        """
        return self._transport.run(self._protocol.get_all())

    def get(self, item_id: str) -> Item:
        """Return the item with the id ``item_id``.

        Raises:
            ItemNotFoundError: There is no such item (a ``ValueError``).
            PermissionError, ResponseError, TransportError: As for ``get_all``.
        """
        return self._transport.run(self._protocol.get(item_id))

    def create(self, item_id: str, title: str, description: str, value: float, weight: int = 0) -> None:
        """Create an item.

        Args:
            item_id: A unique id of 1 to 200 characters, none of them a control character.
            title: The name that is shown, at most 200 characters.
            description: The present state as text, at most 2000 characters.
            value: The completed fraction, 0.0 to 1.0; a sum of fractions that is off by at most 1e-9 counts as 1.0.
            weight: Items with a higher weight are shown first; within +-2**53.

        Raises:
            ItemExistsError: The id is taken (a ``ValueError``).
            ValueError, TypeError: An argument is out of range or of the wrong type; nothing was sent.
            PermissionError, ResponseError, TransportError: As for ``get_all``.
        """
        self._transport.run(self._protocol.create(item_id, title, description, value, weight))

    def update(self, item_id: str, title: str, description: str, value: float, weight: int = 0) -> None:
        """Replace title, description, value and weight of an item. Arguments as for ``create``.

        A ``value`` of 1 ends the item as succeeded.

        Raises:
            ItemNotFoundError: There is no such item (a ``ValueError``).
            PermissionError: The key may not update, or the item belongs to another key.
            ValueError, TypeError, ResponseError, TransportError: As for ``create``.
        """
        self._transport.run(self._protocol.update(item_id, title, description, value, weight))

    def patch(self, item_id: str, **fields: Unpack[ItemWrite]) -> Item:
        """Change the given fields of an item; ``None`` clears a field. Return the item with all fields.

        A part that has no effect, such as an unknown channel in ``notify``, is a ``TrackingWarning``.

        Args:
            item_id: The id of an item.
            **fields: The fields of the protocol, such as ``completed``, ``total``, ``unit``, ``status``, ``group``,
                ``deadline``, ``notify``, ``heartbeat_timeout`` and ``stuck_after``. The OpenAPI document of the server
                describes their ranges.

        Raises:
            ItemNotFoundError: There is no such item, or the server implements only part 1 of the protocol.
            ValidationError: A field is out of range (a ``ValueError``).
            PermissionError: The key may not update, or the item belongs to another key.
            ValueError, TypeError, ResponseError, TransportError: As for ``create``.
        """
        return _warn_of_write(self._transport.run(self._protocol.patch(item_id, fields)))

    def request_stop(self, item_id: str, run_id: str | None = None) -> Item:
        """Request that the program stops a run, and return the item; repeated requests change nothing.

        A program stops only if its run is stoppable, as by ``track(..., stoppable=True)``, and when its loop asks for
        the next item. The request ends with the run.

        Args:
            item_id: The id of an item.
            run_id: Refuse the request if the item belongs to another run; by default the current run is stopped.

        Raises:
            ConflictError: The run has ended, is not stoppable, or is not that of the item.
            ItemNotFoundError: There is no such item, or the server has no stop requests.
            PermissionError: The key may not update, or the item belongs to another key.
            ValueError, TypeError, ResponseError, TransportError: As for ``create``.
        """
        return self._transport.run(self._protocol.request_stop(item_id, run_id))

    def delete(self, item_id: str) -> bool:
        """Delete an item. Return whether it existed; a missing item is not an error.

        Raises:
            PermissionError: The key may not delete, or the item belongs to another key.
            ValueError, TypeError, ResponseError, TransportError: As for ``create``.
        """
        return self._transport.run(self._protocol.delete(item_id))

    def is_admin(self) -> bool:
        """Return whether the key is an admin key; the first call may make a request."""
        return self._transport.run(self._protocol.is_admin())

    def is_read_only(self) -> bool:
        """Return whether the key is a read key; the first call may make a request."""
        return self._transport.run(self._protocol.is_read_only())

    def can_write(self) -> bool:
        """Return whether the key may create or update; the first call may make a request."""
        return self._transport.run(self._protocol.can_write())

    def can_delete(self) -> bool:
        """Return whether the key may delete; the first call may make a request."""
        return self._transport.run(self._protocol.can_delete())

    @property
    def key_info(self) -> KeyInfo:
        """The key's type and permissions and the server's version; requested once.

        Raises:
            PermissionError, ResponseError, TransportError: As for ``get_all``.
        """
        return self._transport.run(self._protocol.key_info())

    def watch(
        self,
        *,
        group: str | None = None,
        item_id: str | None = None,
        on_lost: Callable[[ProgressBarError | None], None] | None = None,
    ) -> Iterator[Change]:
        """Iterate over a snapshot of the items and then over the changes, at most twice a second, without an end.

        After the first event, the client reconnects a lost connection and resumes the stream.

        Args:
            group: Only the items of a group.
            item_id: Only this item.
            on_lost: Called after each lost connection with the error, or with ``None`` if the server ended the stream.

        Returns:
            An iterator of ``Change``: first a snapshot of all items, then the new, changed and removed ones. After a
            long break there is a snapshot again.

        Raises:
            PermissionError: The key may not read, or no longer.
            ItemNotFoundError: The server implements only part 1 of the protocol, which has no stream.
            ValueError, TypeError, ResponseError, TransportError: As for ``create``; the last two only before the
                first event.
        """
        import random

        from ._http.event_stream import EventStream

        return self._follow_changes(
            EventStream(group=group, item_id=item_id, random=random.SystemRandom().random, on_lost=on_lost)
        )

    def _follow_changes(self, stream: EventStream) -> Iterator[Change]:
        import time

        while True:
            reason: ProgressBarError | None = None
            try:
                yield from self._transport.follow(stream)
            except ProgressBarError as error:
                reason = error
            time.sleep(stream.next_delay(reason))

    def close(self) -> None:
        """Flush the trackers of this client, then close the connections. Idempotent."""
        self._sender.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ProgressBar({self._transport.url!r})"


class AsyncProgressBar(_TrackingClient):
    """``ProgressBar`` for asyncio and trio: the same arguments and the same methods, awaited.

    It may be used in one event loop after another. Each loop has its own connections, which are closed when it ends.
    A constructor cannot await, so the first call or ``async with`` requests the permissions of the key. ``key_info`` is
    awaited too: ``info = await pb.key_info``. Trackers have their own thread and connection, independent of
    ``transport``.

    Example:
        >>> import asyncio, httpx
        >>> network = httpx.MockTransport(lambda request: httpx.Response(200, json=[]))
        >>> async def main():
        ...     async with AsyncProgressBar("http://server:8989", "key", auto_detect=False, transport=network) as pb:
        ...         return await pb.get_all()
        >>> asyncio.run(main())
        []
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        auto_detect: bool = True,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        from ._http.exchanges import ServerProtocol
        from ._http.transport import AsyncHttpTransport, HttpTransport

        api_url, api_key = _runtime.find_server(api_url, api_key)
        self._transport = AsyncHttpTransport(api_url, api_key, timeout=timeout, transport=transport)
        self._protocol = ServerProtocol(auto_detect=auto_detect)
        self._tracking_transport = tracking = HttpTransport(api_url, api_key, timeout=DEFAULT_TIMEOUT)
        self._sender = _runtime.create_sender(
            lambda: _runtime.HttpDelivery(tracking, owns_transport=True), tracking.url
        )

    async def get_all(self) -> list[Item]:
        """As ``ProgressBar.get_all``."""
        return await self._transport.run(self._protocol.get_all())

    async def get(self, item_id: str) -> Item:
        """As ``ProgressBar.get``."""
        return await self._transport.run(self._protocol.get(item_id))

    async def create(self, item_id: str, title: str, description: str, value: float, weight: int = 0) -> None:
        """As ``ProgressBar.create``."""
        await self._transport.run(self._protocol.create(item_id, title, description, value, weight))

    async def update(self, item_id: str, title: str, description: str, value: float, weight: int = 0) -> None:
        """As ``ProgressBar.update``."""
        await self._transport.run(self._protocol.update(item_id, title, description, value, weight))

    async def patch(self, item_id: str, **fields: Unpack[ItemWrite]) -> Item:
        """As ``ProgressBar.patch``."""
        return _warn_of_write(await self._transport.run(self._protocol.patch(item_id, fields)))

    async def request_stop(self, item_id: str, run_id: str | None = None) -> Item:
        """As ``ProgressBar.request_stop``."""
        return await self._transport.run(self._protocol.request_stop(item_id, run_id))

    async def delete(self, item_id: str) -> bool:
        """As ``ProgressBar.delete``."""
        return await self._transport.run(self._protocol.delete(item_id))

    async def is_admin(self) -> bool:
        """As ``ProgressBar.is_admin``."""
        return await self._transport.run(self._protocol.is_admin())

    async def is_read_only(self) -> bool:
        """As ``ProgressBar.is_read_only``."""
        return await self._transport.run(self._protocol.is_read_only())

    async def can_write(self) -> bool:
        """As ``ProgressBar.can_write``."""
        return await self._transport.run(self._protocol.can_write())

    async def can_delete(self) -> bool:
        """As ``ProgressBar.can_delete``."""
        return await self._transport.run(self._protocol.can_delete())

    @property
    def key_info(self) -> Awaitable[KeyInfo]:
        """As ``ProgressBar.key_info``, awaited."""
        return self._transport.run(self._protocol.key_info())

    def watch(
        self,
        *,
        group: str | None = None,
        item_id: str | None = None,
        on_lost: Callable[[ProgressBarError | None], None] | None = None,
    ) -> AsyncIterator[Change]:
        """As ``ProgressBar.watch``, for ``async for``."""
        import random

        from ._http.event_stream import EventStream

        return self._follow_changes(
            EventStream(group=group, item_id=item_id, random=random.SystemRandom().random, on_lost=on_lost)
        )

    async def _follow_changes(self, stream: EventStream) -> AsyncIterator[Change]:
        import anyio

        while True:
            reason: ProgressBarError | None = None
            try:
                async with contextlib.aclosing(self._transport.follow(stream)) as changes:
                    async for change in changes:
                        yield change
            except ProgressBarError as error:
                reason = error
            await anyio.sleep(stream.next_delay(reason))

    async def close(self) -> None:
        """As ``ProgressBar.close``."""
        import anyio.to_thread

        await anyio.to_thread.run_sync(self._sender.close)
        self._tracking_transport.close()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        if self._protocol.auto_detect and self._protocol.key_info_cache is None:
            try:
                await self.key_info
            except ProgressBarError as error:
                log(WARNING, UNKNOWN_KEY_MESSAGE, error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncProgressBar({self._transport.url!r})"
