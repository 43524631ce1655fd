"""Changes of items with an unknown outcome: the store did not answer while the request waited.

Their commit still succeeds or fails later. Until then, no other change of these items is executed. If a client repeats
the request, it gets the response of the first one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.items.change import Change

MAX_REPEATABLE: Final = 1000
"""The most changes of unknown outcome that a client may repeat."""


class UnknownOutcomeError(ProblemError):
    """The outcome of a commit is unknown.

    Attributes:
        outcome: Resolves to ``None`` or to the error of the store; ``None`` if the outcome stays unknown.
    """

    def __init__(self, outcome: asyncio.Future[Exception | None] | None = None) -> None:
        super().__init__(
            "outcome-unknown",
            "the server's storage did not answer in time: whether this was written is not known yet; send it again",
            retry_after=5,
        )
        self.outcome = outcome


class UnknownOutcomes:
    """Tracks the changes with an unknown outcome, and those whose outcome was late."""

    def __init__(self) -> None:
        self._outcomes: dict[str, asyncio.Future[Exception | None]] = {}
        self._repeatable: dict[str, Change] = {}

    def record(self, changes: Sequence[Change], outcome: asyncio.Future[Exception | None] | None) -> None:
        """Track changes, and the future of their outcome."""
        for change in changes:
            self._repeatable.pop(change.id, None)
            self._repeatable[change.id] = change
            if outcome is not None:
                self._outcomes[change.id] = outcome
        while len(self._repeatable) > MAX_REPEATABLE:
            del self._repeatable[next(iter(self._repeatable))]
        if outcome is not None:
            outcome.add_done_callback(lambda _: self._forget_outcomes(changes))

    def _forget_outcomes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._outcomes.pop(change.id, None)

    def forget(self, changes: Sequence[Change]) -> None:
        """Stop tracking items: they have changed again, or were rolled back."""
        if self._repeatable:
            for change in changes:
                self._repeatable.pop(change.id, None)

    async def wait(self, ids: Iterable[str], seconds: float, reauthorize: Callable[[], object]) -> None:
        """Wait until the outcome of every change of some items is known.

        Args:
            ids: The items.
            seconds: The most seconds to wait.
            reauthorize: Is called after a wait. It raises if the client is no longer authorized.

        Raises:
            UnknownOutcomeError: An outcome is still unknown.
        """
        if not self._outcomes:
            return
        outcomes = {self._outcomes[item_id] for item_id in ids if item_id in self._outcomes}
        if outcomes:
            _, pending = await asyncio.wait(outcomes, timeout=seconds)
            if pending:
                raise UnknownOutcomeError(next(iter(pending)))
            reauthorize()

    def resolve_repeat(self, item_id: str, problem: ProblemError, is_repeat: Callable[[Change], bool]) -> Change:
        """Return the earlier change of unknown outcome that a client repeats.

        Args:
            item_id: The item.
            problem: The reason for which the repeated request is refused.
            is_repeat: Returns whether a change is the requested one.

        Raises:
            ProblemError: ``problem``, if there is no such change.
        """
        change = self._repeatable.get(item_id) if problem.code in {"item-not-found", "item-exists"} else None
        if change is None or not is_repeat(change):
            raise problem
        return change
