"""How many bytes the server holds for its clients, and how many long responses: in all, and for one client.

A response that its client does not read stays in memory. So does the part of a body that has been received. Both are
charged to a *holder*: the identity of a key, or the network of a client without one. Nothing here does I/O.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from .problems import ProblemError

MAX_UNREAD_MEBIBYTES: Final = 64
"""How much is held for all clients, unless the operator sets another limit."""

HOLDER_FRACTION: Final = 4
"""One holder has at most this fraction, a quarter."""

ANONYMOUS_PREFIX: Final = "address "
"""What the holder of a client without a key begins with. All of them together have half of the budget."""

CHUNK_BYTES: Final = 64 * 1024
"""About how much of a large response is serialized before its client has taken what came before."""

MAX_EXPORTS: Final = 64
"""The most exports at a time."""

UNREAD_TIMEOUT: Final = 10.0
"""Seconds in which a client that leaves a response unread has to read some of it."""

RETRY_AFTER: Final = 10
"""Seconds after which a refused client should try again: unread responses are dropped by then."""


class ByteBudget:
    """The bytes that are held for clients.

    Args:
        max_bytes: The most for all holders.

    Attributes:
        held_bytes: How many are held now.
        refused: How many requests were refused.
        dropped: How many connections were closed because their client did not read.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.max_holder_bytes = max_bytes // HOLDER_FRACTION
        self.held_bytes = self.refused = self.dropped = 0
        self._held: Counter[str] = Counter()
        self._anonymous_bytes = 0

    def charge(self, holder: str, size: int) -> bool:
        """Charge bytes that are held already; return whether the holder and the server are within their limits."""
        self.held_bytes += size
        self._held[holder] += size
        if holder.startswith(ANONYMOUS_PREFIX):
            self._anonymous_bytes += size
            if self._anonymous_bytes > self.max_bytes // 2:
                return False
        return self.held_bytes <= self.max_bytes and self._held[holder] <= self.max_holder_bytes

    def release(self, holder: str, size: int) -> None:
        """Take back what was charged."""
        self.held_bytes -= size
        self._held[holder] -= size
        if holder.startswith(ANONYMOUS_PREFIX):
            self._anonymous_bytes -= size
        if not self._held[holder]:
            del self._held[holder]

    def admit(self, holder: str, size: int = 0) -> None:
        """Return if more bytes may be held.

        Args:
            holder: The client.
            size: The bytes that are known to be needed.

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
    """How many of a thing there are at a time.

    Args:
        name: What they are, in the plural.
        most: The most for all holders.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._in_use: Counter[str] = Counter()

    @property
    def in_use(self) -> int:
        """How many there are now."""
        return self._in_use.total()

    def acquire(self, holder: str) -> None:
        """Take one.

        Raises:
            ProblemError: ``too-many-streams``.
        """
        own = max(self._limit // HOLDER_FRACTION, 1)
        if self._in_use[holder] >= own:
            why = f"{own} {self._name} are under way for this client, the most there may be for one"
        elif self.in_use >= self._limit:
            why = f"{self._limit} {self._name} are under way, the most there may be"
        else:
            self._in_use[holder] += 1
            return
        raise ProblemError("too-many-streams", why, retry_after=RETRY_AFTER)

    def release(self, holder: str) -> None:
        """Give one back."""
        self._in_use[holder] -= 1
        if not self._in_use[holder]:
            del self._in_use[holder]
