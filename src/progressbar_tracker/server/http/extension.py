"""The ASGI extension of a connection: send a response in one piece, wait for unread bytes, abort."""

from __future__ import annotations

from typing import Final, Protocol

CONNECTION_EXTENSION: Final = "progressbar_tracker.connection"
"""The extension's name in a scope. Its value is a dictionary whose ``connection`` is a :class:`ResponseSender`."""

REQUEST_COMPLETE_KEY: Final = "progressbar_tracker.complete"
"""A key of a scope, present if the whole request had arrived before the application was called."""


class ResponseSender(Protocol):
    """Sends responses, and accounts for their unread bytes.

    Attributes:
        holder: The client that unread bytes are charged to.
    """

    holder: str

    def send_response(self, status: int, head: bytes, body: bytes, holder: str, /) -> bool:
        """Send a response that has a body.

        Args:
            status: The HTTP status.
            head: The encoded headers, each with its line end, including ``Content-Length``.
            body: The body.
            holder: The client that the bytes are charged to until it has read them.

        Returns:
            Whether it was sent. If not, because it must be the last one on the connection or the connection cannot
            take it now, send it through ASGI.
        """

    def send_until_close(self) -> None:
        """End the response that begins now by closing the connection, as HTTP/1.0 has no chunks."""

    async def drain(self) -> None:
        """Return when the socket has taken all sent bytes."""

    def abort(self) -> None:
        """Reset the connection at once, and discard unsent bytes."""
