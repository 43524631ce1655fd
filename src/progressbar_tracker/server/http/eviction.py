"""Choose the connection to close when there are too many. Pure."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Final, Generic, Protocol, TypeVar

GRACE_SECONDS: Final = 1.0
"""Time that a client has to send a request before another client of its network may replace it."""


class Evictable(Protocol):
    """A connection that may be closed.

    Attributes:
        network: The network of its client.
        since: When its request began to arrive, or its latest response ended, in seconds.
    """

    network: str
    since: float


_P = TypeVar("_P", bound=Evictable)


class EvictionQueue(Generic[_P]):
    """The connections that may be closed.

    Attributes:
        idle: Connections that wait for a request, in the order of their latest activity.
    """

    def __init__(self) -> None:
        self.idle: OrderedDict[_P, None] = OrderedDict()
        self._incomplete: dict[str, OrderedDict[_P, None]] = {}
        # Networks by their number of incomplete bodies.
        self._networks_by_count: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._max_count = 0

    def mark_incomplete(self, connection: _P) -> None:
        """Record that the body of a request is incomplete."""
        own = self._incomplete.setdefault(connection.network, OrderedDict())
        if connection in own:
            return
        self._networks_by_count[len(own)].pop(connection.network, None)
        own[connection] = None
        self._networks_by_count[len(own)][connection.network] = None
        self._max_count = max(self._max_count, len(own))

    def mark_complete(self, connection: _P) -> None:
        """Record that no body is incomplete."""
        own = self._incomplete.get(connection.network)
        if own is None or connection not in own:
            return
        del self._networks_by_count[len(own)][connection.network]
        del own[connection]
        if own:
            self._networks_by_count[len(own)][connection.network] = None
        else:
            del self._incomplete[connection.network]
        while self._max_count and not self._networks_by_count[self._max_count]:
            del self._networks_by_count[self._max_count]
            self._max_count -= 1

    def remove(self, connection: _P) -> None:
        """Remove a closed connection; no effect if it is unknown."""
        self.idle.pop(connection, None)
        self.mark_complete(connection)

    def evict(self, newcomer: _P, now: float) -> _P:
        """Remove and return the connection to close: an idle one, or one of the network with most incomplete bodies."""
        evicted = next(iter(self.idle), newcomer)
        if self._max_count and (evicted is newcomer or now - evicted.since < GRACE_SECONDS):
            network = next(iter(self._networks_by_count[self._max_count]))
            candidate = next(iter(self._incomplete[network]))
            if network != newcomer.network or now - candidate.since >= GRACE_SECONDS:
                evicted = candidate
        self.remove(evicted)
        return evicted
