"""Changes of items whose outcome is not known: the store did not answer for as long as a request waits.

They happen still, or fail. Until that is known, no other change of these items is judged. A client that sends the same
request again is then answered as if the first one had been.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker.server.items.change import Change

MAX_REPEATABLE: Final = 1000
"""The most changes of unknown outcome that are remembered, so that a client may send them again."""


class UnknownOutcomeError(ProblemError):
    """Whether something was written is not known.

    Attributes:
        outcome: Done when it is known, with what the store failed with; ``None`` if it will not be.
    """

    def __init__(self, outcome: asyncio.Future[Exception | None] | None = None) -> None:
        super().__init__(
            "outcome-unknown",
            "the server's storage did not answer in time: whether this was written is not known yet; send it again",
            retry_after=5,
        )
        self.outcome = outcome


class UnknownOutcomes:
    """The changes of one server whose outcome is not known, or was not known in time."""

    def __init__(self) -> None:
        self._outcomes: dict[str, asyncio.Future[Exception | None]] = {}
        self._repeatable: dict[str, Change] = {}

    def record(self, changes: Sequence[Change], outcome: asyncio.Future[Exception | None] | None) -> None:
        """Note changes, and what tells their outcome in the end."""
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
        """Forget what was not known of items: they have changed again, or it was undone."""
        if self._repeatable:
            for change in changes:
                self._repeatable.pop(change.id, None)

    async def wait(self, ids: Iterable[str], seconds: float, reauthorize: Callable[[], object]) -> None:
        """Wait until the outcome of every change of some items is known.

        Args:
            ids: The items.
            seconds: How long, at most.
            reauthorize: Called after a wait; raises if the client may no longer do it.

        Raises:
            UnknownOutcomeError: It is still not known.
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
        """Return the change that a client asks for again because its outcome was not known in time.

        Args:
            item_id: The item.
            problem: Why the request is refused.
            is_repeat: Whether a change is the one that is asked for.

        Raises:
            ProblemError: ``problem``, if there is no such change.
        """
        known = self._repeatable.get(item_id) if problem.code in {"item-not-found", "item-exists"} else None
        if known is None or not is_repeat(known):
            raise problem
        return known
