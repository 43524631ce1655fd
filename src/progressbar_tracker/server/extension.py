"""What a connection offers an application beyond ASGI: to take an answer in one piece."""

from __future__ import annotations

from typing import Final, Protocol

WHOLE: Final = "progressbar_tracker.whole"
"""The extension's name in a scope; it stands for a dictionary in which ``send`` is a :class:`SendWhole`."""


COMPLETE: Final = "progressbar_tracker.complete"
"""A key of a scope. It is there when the whole request had been received before the application was called."""


class SendWhole(Protocol):
    """Sends an answer in one piece."""

    def __call__(self, status: int, head: bytes, body: bytes, /) -> bool:
        """Send an answer that has a body.

        Args:
            status: Its status.
            head: Its headers, checked and joined, each with its end of line, and ``Content-Length`` among them.
            body: Its body.

        Returns:
            Whether it was sent. It is not where it has to be the last on its connection, or where that cannot take it
            now: then it is to be sent as usual.
        """
