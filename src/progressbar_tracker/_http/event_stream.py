"""Following a server's stream of changes: what is asked for, what the bytes say, and when to come back. No I/O."""

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

STREAM_READ_TIMEOUT: Final = 45.0  # seconds; a server that lives is heard every 15
INITIAL_RECONNECT_DELAY: Final = 2.0  # seconds at most before coming back, doubled with each failure
MAX_RECONNECT_DELAY: Final = 30.0


class EventStream:
    """One reader of the stream, through all its connections.

    Args:
        group: Only the items of a group.
        item_id: Only this item.
        random: Returns a number from 0 to 1: readers of a server that was away do not come back all at once.
        on_lost: Called each time a connection is lost, with the reason, or ``None`` where the server ended it.

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
        asked: dict[str, str] = {}
        if group is not None:
            asked["group"] = check_text("group", group, 200, min_length=1)
        if item_id is not None:
            asked["id"] = check_id(item_id)
        self.request = Request(
            "GET", f"api/v1/events?{urlencode(asked)}" if asked else "api/v1/events", limit=MAX_LIST_BYTES
        )
        self._random = random
        self._on_lost = on_lost
        self._last_event_id = ""  # the id of the latest event
        self._failures = 0
        self._buffer = b""

    @property
    def headers(self) -> dict[str, str]:
        """What the next request says beside the usual."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        return {**headers, "Last-Event-ID": self._last_event_id} if self._last_event_id else headers

    def accept_response(self, status: int, content_type: str) -> bool:
        """Take in the head of an answer; return whether it is a stream. If not, ``refused`` wants its body."""
        self._buffer = b""
        return status == 200 and content_type.partition(";")[0].strip() == "text/event-stream"

    def response_error(self, reply: Reply) -> ResponseError:
        """Return the error that an answer stands for which is no stream."""
        return (
            unexpected_reply_error(reply, self.request)
            if 200 <= reply.status < 300
            else error_from_reply(reply, self.request)
        )

    def feed(self, chunk: bytes) -> list[Change]:
        """Return what the next bytes of the stream complete.

        Raises:
            TransportError: It is no stream of this protocol.
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
            named = fields.get(b"id", b"").decode("ascii", "ignore")
            self._last_event_id = named if named.isprintable() and named else self._last_event_id  # it becomes a header
            name = fields.get(b"event", b"")
            if name in (b"snapshot", b"change"):
                changes.append(self._parse_change(name == b"snapshot", fields[b"data"]))
        return changes

    def next_delay(self, error: ProgressBarError | None) -> float:
        """Return the seconds after which to come back, when a connection has ended.

        Raises:
            ProgressBarError: ``error``, if coming back would not help, or if there never was an event.
        """
        final = isinstance(error, PermissionError | ItemNotFoundError | ValidationError)
        if error is not None and (final or not self._last_event_id):
            raise error
        if self._on_lost is not None:
            self._on_lost(error)
        longest = min(INITIAL_RECONNECT_DELAY * (1 << self._failures), MAX_RECONNECT_DELAY)
        self._failures = min(self._failures + 1, 10)
        asked = error.retry_after if isinstance(error, ResponseError) else None
        return max(longest * self._random(), asked or 0.0)

    def _parse_change(self, snapshot: bool, data: bytes) -> Change:
        try:
            told = json.loads(data)
            items, gone, ended = told["items"], told.get("gone", []), told.get("ended", [])
            lists = all(isinstance(part, list) for part in (items, gone, ended))
            if lists and all(isinstance(item, dict) for item in (*items, *ended)):
                return Change(
                    snapshot, cast("list[Item]", items), gone, cast("list[Item]", ended), int(told.get("rev", 0))
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
