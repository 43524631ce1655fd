"""Dramatiq: each message that a worker processes is an item.

    from progressbar_tracker.integrations.dramatiq import TrackMiddleware

    broker.add_middleware(TrackMiddleware(group="dramatiq"))

The item has the id of the message and the name of its actor. A failed attempt fails it with the text of the exception,
and a retry runs it again. A skipped message stops it. The bars that the actor tracks are nested in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._packages import require_package

with require_package("dramatiq"):
    import dramatiq

from dramatiq.errors import RateLimitExceeded, Retry

from ._task_items import TaskItems

if TYPE_CHECKING:
    from typing import Unpack

    from ._mirrored import TaskLabels

__all__ = ["TrackMiddleware"]


class TrackMiddleware(dramatiq.Middleware):
    """Reports the messages of its broker.

    Args:
        *names: The names of the actors to report; without names all are.
        **labels: ``group``, ``weight``, ``keep``, ``notify``, ``deadline``, ``stuck_after``, ``interval``
            and ``client`` of ``track()``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> from dramatiq.brokers.stub import StubBroker
        >>> StubBroker().add_middleware(TrackMiddleware(group="dramatiq"))
    """

    def __init__(self, *names: str, **labels: Unpack[TaskLabels]) -> None:
        self._names = names
        self._items = TaskItems(labels)

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Start the item; Dramatiq calls this and the following methods."""
        if not self._names or message.actor_name in self._names:
            self._items.start(message.message_id, message.actor_name)

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """End the item."""
        if exception is None:
            self._items.end(message.message_id)
        elif isinstance(exception, Retry | RateLimitExceeded):  # requested by the actor
            self._items.stop(message.message_id)
        else:
            self._items.fail(message.message_id, exception)

    def after_skip_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Stop the item."""
        self._items.stop(message.message_id)
