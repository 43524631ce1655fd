"""A subscription to the server's change events: its request, the parser, and the reconnect delay. No I/O."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlencode

from progressbar_tracker._errors import (
    ItemNotFoundError,
    PermissionError,
    ResponseError,
    TransportError,
    ValidationError,
)
from progressbar_tracker._models import Change, check_id, check_text

from .messages import MAX_LIST_BYTES, Reply, Request, error_from_reply, unexpected_reply_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._errors import ProgressBarError
    from progressbar_tracker._models import Item

STREAM_READ_TIMEOUT: Final = 45.0  # seconds; the server sends a heartbeat every 15
INITIAL_RECONNECT_DELAY: Final = 2.0  # seconds at most; doubled after each failure
MAX_RECONNECT_DELAY: Final = 30.0  # seconds


class EventStream:
    """A subscription that outlives its connections.

    Args:
        group: Only the items of this group.
        item_id: Only this item.
        random: Returns a number from 0 to 1. It spreads the reconnects of many clients after an outage.
        on_lost: Called each time a connection is lost, with the reason, or ``None`` if the server ended it.

    Raises:
        ValueError, TypeError: An argument is out of range or of the wrong type.
    """

    def __init__(
        self,
        *,
        group: str | None,
        item_id: str | None,
        random: Callable[[], float],
        on_lost: Callable[[ProgressBarError | None], None] | None = None,
    ) -> None:
        query: dict[str, str] = {}
        if group is not None:
            query["group"] = check_text("group", group, 200, min_length=1)
        if item_id is not None:
            query["id"] = check_id(item_id)
        self.request = Request(
            "GET", f"api/v1/events?{urlencode(query)}" if query else "api/v1/events", limit=MAX_LIST_BYTES
        )
        self._random = random
        self._on_lost = on_lost
        self._last_event_id = ""
        self._failures = 0
        self._buffer = b""

    @property
    def headers(self) -> dict[str, str]:
        """Additional headers of the next request."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        return {**headers, "Last-Event-ID": self._last_event_id} if self._last_event_id else headers

    def accept_response(self, status: int, content_type: str) -> bool:
        """Return whether the head of a reply starts a stream. If not, pass the reply to ``response_error``."""
        self._buffer = b""
        return status == 200 and content_type.partition(";")[0].strip() == "text/event-stream"

    def response_error(self, reply: Reply) -> ResponseError:
        """Return the error for a reply that is not a stream."""
        return (
            unexpected_reply_error(reply, self.request)
            if 200 <= reply.status < 300
            else error_from_reply(reply, self.request)
        )

    def feed(self, chunk: bytes) -> list[Change]:
        """Return the changes that these bytes complete.

        Raises:
            TransportError: The bytes are not of this protocol, or an event is too large.
        """
        self._buffer += chunk
        if len(self._buffer) > MAX_LIST_BYTES:
            raise self._stream_error(f"an event has more than {MAX_LIST_BYTES >> 20} MiB")
        *blocks, self._buffer = self._buffer.replace(b"\r\n", b"\n").split(b"\n\n")
        changes = []
        for block in blocks:
            fields = dict(_parse_field(line) for line in block.split(b"\n"))
            if b"data" not in fields:
                continue
            self._failures = 0
            event_id = fields.get(b"id", b"").decode("ascii", "ignore")
            if event_id and event_id.isprintable():  # it becomes a header
                self._last_event_id = event_id
            name = fields.get(b"event", b"")
            if name in (b"snapshot", b"change"):
                changes.append(self._parse_change(name == b"snapshot", fields[b"data"]))
        return changes

    def next_delay(self, error: ProgressBarError | None) -> float:
        """Return the seconds to wait before the next connection.

        Raises:
            ProgressBarError: ``error``, if a retry cannot help or no event ever arrived.
        """
        is_permanent = isinstance(error, PermissionError | ItemNotFoundError | ValidationError)
        if error is not None and (is_permanent or not self._last_event_id):
            raise error
        if self._on_lost is not None:
            self._on_lost(error)
        max_delay = min(INITIAL_RECONNECT_DELAY * (1 << self._failures), MAX_RECONNECT_DELAY)
        self._failures = min(self._failures + 1, 10)
        retry_after = error.retry_after if isinstance(error, ResponseError) else None
        return max(max_delay * self._random(), retry_after or 0.0)

    def _parse_change(self, snapshot: bool, data: bytes) -> Change:
        try:
            event = json.loads(data)
            items, gone, ended = event["items"], event.get("gone", []), event.get("ended", [])
            are_lists = all(isinstance(part, list) for part in (items, gone, ended))
            if are_lists and all(isinstance(item["id"], str) for item in (*items, *ended)):
                return Change(
                    snapshot, cast("list[Item]", items), gone, cast("list[Item]", ended), int(event.get("rev", 0))
                )
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            pass
        raise self._stream_error("an event is not of this protocol")

    def _stream_error(self, reason: str) -> TransportError:
        path = self.request.path.partition("?")[0]
        return TransportError(f"the stream of GET /{path} cannot be read: {reason}", method="GET", url=path)


def _parse_field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
