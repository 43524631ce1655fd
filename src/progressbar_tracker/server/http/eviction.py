"""Which connection is closed when there are too many. Pure."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Final, Generic, Protocol, TypeVar

GRACE_SECONDS: Final = 1.0
"""A client has this long to send a request before its place may go to another client of its network."""


class Place(Protocol):
    """A connection that may be closed.

    Attributes:
        network: The network of its client.
        since: When its request began to arrive, or its latest response ended, in seconds.
    """

    network: str
    since: float


_P = TypeVar("_P", bound=Place)


class Places(Generic[_P]):
    """The connections that may be closed.

    Attributes:
        idle: The connections that wait for a request, in the order of their latest activity.
    """

    def __init__(self) -> None:
        self.idle: OrderedDict[_P, None] = OrderedDict()
        self._owing: dict[str, OrderedDict[_P, None]] = {}
        self._ranks: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)  # networks by their number
        self._most = 0

    def add_owing(self, place: _P) -> None:
        """Note that a client owes the rest of a body."""
        own = self._owing.setdefault(place.network, OrderedDict())
        if place in own:
            return
        self._ranks[len(own)].pop(place.network, None)
        own[place] = None
        self._ranks[len(own)][place.network] = None
        self._most = max(self._most, len(own))

    def remove_owing(self, place: _P) -> None:
        """Note that a client owes no body."""
        own = self._owing.get(place.network)
        if own is None or place not in own:
            return
        del self._ranks[len(own)][place.network]
        del own[place]
        if own:
            self._ranks[len(own)][place.network] = None
        else:
            del self._owing[place.network]
        while self._most and not self._ranks[self._most]:
            del self._ranks[self._most]
            self._most -= 1

    def remove(self, place: _P) -> None:
        """Forget a connection."""
        self.idle.pop(place, None)
        self.remove_owing(place)

    def evict(self, newcomer: _P, now: float) -> _P:
        """Return the connection to close, and forget it: an idle one, or one of the network that owes most bodies."""
        evicted = next(iter(self.idle), newcomer)
        if self._most and (evicted is newcomer or now - evicted.since < GRACE_SECONDS):
            network = next(iter(self._ranks[self._most]))
            owing = next(iter(self._owing[network]))
            if network != newcomer.network or now - owing.since >= GRACE_SECONDS:
                evicted = owing
        self.remove(evicted)
        return evicted
