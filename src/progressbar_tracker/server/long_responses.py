"""The long responses that are being sent: each is ended once its client would no longer be authorized for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class _ActiveResponse(NamedTuple):
    is_still_authorized: Callable[[], bool]
    end: Callable[[], object]


class ActiveResponses:
    """The responses that are being sent."""

    def __init__(self) -> None:
        self._active: dict[Hashable, list[_ActiveResponse]] = {}

    @contextlib.contextmanager
    def track(
        self, credential: Hashable, is_still_authorized: Callable[[], bool], end: Callable[[], object]
    ) -> Iterator[None]:
        """Have a response ended by :meth:`check` as long as the context lasts.

        Args:
            credential: Responses with equal credentials are authorized alike.
            is_still_authorized: Whether the client is still authorized.
            end: Ends the response.
        """
        opened = _ActiveResponse(is_still_authorized, end)
        self._active.setdefault(credential, []).append(opened)
        try:
            yield
        finally:
            alike = self._active[credential]
            alike.remove(opened)
            if not alike:
                del self._active[credential]

    def end_unauthorized(self) -> None:
        """End the responses whose clients are no longer authorized. Costs one look a credential."""
        for alike in list(self._active.values()):
            if not alike[0].is_still_authorized():
                for opened in list(alike):
                    opened.end()
