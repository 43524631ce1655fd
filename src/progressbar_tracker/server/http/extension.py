"""What a connection offers an application beyond ASGI: to take an answer in one piece, and to say what is unread."""

from __future__ import annotations

from typing import Final, Protocol

CONNECTION_EXTENSION: Final = "progressbar_tracker.connection"
"""The extension's name in a scope; it stands for a dictionary in which ``connection`` is a :class:`ResponseSender`."""

REQUEST_COMPLETE_KEY: Final = "progressbar_tracker.complete"
"""A key of a scope. It is there when the whole request had been received before the application was called."""


class ResponseSender(Protocol):
    """Sends answers, of which the client may leave some unread.

    Attributes:
        holder: The client that unread bytes are charged to.
    """

    holder: str

    def send_response(self, status: int, head: bytes, body: bytes, holder: str, /) -> bool:
        """Send an answer that has a body.

        Args:
            status: Its status.
            head: Its headers, checked and joined, each with its end of line, and ``Content-Length`` among them.
            body: Its body.
            holder: The client that the bytes are charged to until it has read them.

        Returns:
            Whether it was sent. It is not where it has to be the last on its connection, or where that cannot take it
            now: then it is to be sent as usual.
        """

    def send_until_close(self) -> None:
        """Have the response that begins now end with its connection: HTTP/1.0 knows no chunks."""

    async def drain(self) -> None:
        """Return when the system has taken all that was sent."""

    def abort(self) -> None:
        """Drop the connection at once, with all that the client has not been sent."""
