"""The long responses in flight: end each one when its client is no longer authorized for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class _ActiveResponse(NamedTuple):
    is_still_authorized: Callable[[], bool]
    end: Callable[[], object]


class ActiveResponses:
    """Tracks the long responses in flight."""

    def __init__(self) -> None:
        self._active: dict[Hashable, list[_ActiveResponse]] = {}

    @contextlib.contextmanager
    def track(
        self, credential: Hashable, is_still_authorized: Callable[[], bool], end: Callable[[], object]
    ) -> Iterator[None]:
        """Let :meth:`end_unauthorized` end a response while the context lasts.

        Args:
            credential: Responses with equal credentials have equal authorization.
            is_still_authorized: Returns whether the client is still authorized.
            end: Ends the response.
        """
        response = _ActiveResponse(is_still_authorized, end)
        self._active.setdefault(credential, []).append(response)
        try:
            yield
        finally:
            responses = self._active[credential]
            responses.remove(response)
            if not responses:
                del self._active[credential]

    def end_unauthorized(self) -> None:
        """End the responses of unauthorized clients. Costs one check for each credential."""
        for responses in list(self._active.values()):
            if not responses[0].is_still_authorized():
                for response in list(responses):
                    response.end()
