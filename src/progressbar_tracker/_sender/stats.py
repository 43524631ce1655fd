"""The counts of a sender since its start."""

from __future__ import annotations


class Stats:
    """Counts since the start of a sender.

    Attributes:
        sent: Operations that the server acknowledged.
        coalesced: States that got no response and were replaced by a newer one.
        elided: Runs that began and ended without a request.
        dropped: Runs not tracked because there were too many, and runs given up.
        failed: Requests without a usable response.
        requests: Requests made.
        last_error: The latest failure as text, or ``None``.
    """

    __slots__ = ("coalesced", "dropped", "elided", "failed", "last_error", "requests", "sent")

    def __init__(self) -> None:
        self.sent = self.coalesced = self.elided = self.dropped = self.failed = self.requests = 0
        self.last_error: str | None = None

    def __repr__(self) -> str:
        return f"Stats({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"
