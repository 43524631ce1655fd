"""Limits on the bytes and the long responses that the server holds for clients: in total, and for one client.

An unread response stays in memory, and so does the received part of a body. Both are charged to a *holder*: the
identity of a key, or the network of a client without one. Nothing here does I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from .problems import ProblemError

MAX_UNREAD_MEBIBYTES: Final = 64
"""The most mebibytes for all clients, unless the operator sets another limit."""

HOLDER_DIVISOR: Final = 4
"""One holder may use a limit divided by this number."""

ANONYMOUS_PREFIX: Final = "address "
"""The prefix of holders without a key. All of them together may have half of the budget."""

CHUNK_BYTES: Final = 64 * 1024
"""About the bytes of a large response that are serialized before its client has read the previous ones."""

MAX_EXPORTS: Final = 64
"""The most concurrent exports."""

UNREAD_TIMEOUT: Final = 10.0
"""Seconds in which a client must read some of an unread response."""

RETRY_AFTER: Final = 10
"""Seconds after which a rejected client should retry: unread responses are dropped by then."""


class ByteBudget:
    """Counts the bytes that are held for clients.

    Args:
        max_bytes: The most bytes for all holders.

    Attributes:
        held_bytes: The bytes that are held now.
        refused: The number of rejected requests.
        dropped: The number of connections that were closed because their client did not read.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.max_holder_bytes = max_bytes // HOLDER_DIVISOR
        self.held_bytes = self.refused = self.dropped = 0
        self._held: Counter[str] = Counter()
        self._anonymous_bytes = 0

    def charge(self, holder: str, size: int) -> bool:
        """Charge bytes that are already held, and return whether holder and server are within their limits."""
        self.held_bytes += size
        self._held[holder] += size
        if holder.startswith(ANONYMOUS_PREFIX):
            self._anonymous_bytes += size
            if self._anonymous_bytes > self.max_bytes // 2:
                return False
        return self.held_bytes <= self.max_bytes and self._held[holder] <= self.max_holder_bytes

    def release(self, holder: str, size: int) -> None:
        """Subtract bytes that were charged."""
        self.held_bytes -= size
        self._held[holder] -= size
        if holder.startswith(ANONYMOUS_PREFIX):
            self._anonymous_bytes -= size
        if not self._held[holder]:
            del self._held[holder]

    def admit(self, holder: str, size: int = 0) -> None:
        """Check that more bytes may be held.

        Args:
            holder: The client.
            size: The required bytes, as far as they are known.

        Raises:
            ProblemError: ``too-many-bytes``.
        """
        size = max(size, 1)
        if self._held[holder] + size > self.max_holder_bytes:
            why = "this client leaves too many responses unread"
        elif self.held_bytes + size > self.max_bytes or (
            holder.startswith(ANONYMOUS_PREFIX) and self._anonymous_bytes + size > self.max_bytes // 2
        ):
            why = "clients leave too many responses unread"
        else:
            return
        self.refused += 1
        raise ProblemError("too-many-bytes", why, retry_after=RETRY_AFTER)


class Slots:
    """Limits concurrent work of one kind.

    Args:
        name: The kind, in the plural.
        limit: The most slots for all holders.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._in_use: Counter[str] = Counter()

    @property
    def in_use(self) -> int:
        """The number of slots in use."""
        return self._in_use.total()

    def acquire(self, holder: str) -> None:
        """Take a slot.

        Raises:
            ProblemError: ``too-many-streams``.
        """
        holder_limit = max(self._limit // HOLDER_DIVISOR, 1)
        if self._in_use[holder] >= holder_limit:
            why = f"{holder_limit} {self._name} are running for this client, the limit for one"
        elif self.in_use >= self._limit:
            why = f"{self._limit} {self._name} are running, the limit of this server"
        else:
            self._in_use[holder] += 1
            return
        raise ProblemError("too-many-streams", why, retry_after=RETRY_AFTER)

    def release(self, holder: str) -> None:
        """Return a slot."""
        self._in_use[holder] -= 1
        if not self._in_use[holder]:
            del self._in_use[holder]
