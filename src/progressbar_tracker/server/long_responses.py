"""The long responses that are being sent: each is ended once its client would no longer be authorized for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class _Open(NamedTuple):
    may_go_on: Callable[[], bool]
    end: Callable[[], object]


class Responses:
    """The responses that are being sent."""

    def __init__(self) -> None:
        self._open: dict[Hashable, list[_Open]] = {}

    @contextlib.contextmanager
    def sending(self, credential: Hashable, may_go_on: Callable[[], bool], end: Callable[[], object]) -> Iterator[None]:
        """Have a response ended by :meth:`check` as long as the context lasts.

        Args:
            credential: Responses with equal credentials are authorized alike.
            may_go_on: Whether the client is still authorized.
            end: Ends the response.
        """
        opened = _Open(may_go_on, end)
        self._open.setdefault(credential, []).append(opened)
        try:
            yield
        finally:
            alike = self._open[credential]
            alike.remove(opened)
            if not alike:
                del self._open[credential]

    def check(self) -> None:
        """End the responses whose clients are no longer authorized. Costs one look a credential."""
        for alike in list(self._open.values()):
            if not alike[0].may_go_on():
                for opened in list(alike):
                    opened.end()
