"""The tool ``wait_for``: the wait of the command ``wait`` for one item, bounded, with progress notifications.

A task follows the items; the wait itself reads from a stream, so that its cancellation ends both at once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, cast

import anyio
import click

from progressbar_tracker._errors import ItemNotFoundError, ProgressBarError
from progressbar_tracker.cli.wait import LOOKUP_RETRY_SECONDS, NO_STREAM_MESSAGE, TRANSIENT_ERRORS, Waiting

from .results import read_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from progressbar_tracker._models import Change

    from .connection import Session
    from .results import StatusWord

Outcome: TypeAlias = "StatusWord | Literal['timeout']"

NOTICE_SECONDS: Final = 10.0
"""Seconds between two progress notifications without a change. Many clients end a call without any after a minute."""


class WaitEnd(NamedTuple):
    """The end of a wait.

    Attributes:
        outcome: How the run ended, the condition that ended the wait, or ``timeout``.
        item: The run or the item; ``None`` if it has not appeared.
    """

    outcome: Outcome
    item: Mapping[str, object] | None


class ItemWait:
    """A wait for the end of an item's run.

    Args:
        session: The server.
        item_id: The item.
        seconds: The longest wait.
        appear: Also wait for an item that does not exist yet.
        ignore_stuck: Wait on while the run is stuck or stalled.
        report: Called with the wait at each change, and every ten seconds.

    Attributes:
        item: The item in its latest state; ``None`` before it appears.
        is_connected: False from the loss of the connection to the next change: the state may be older.
    """

    def __init__(
        self,
        session: Session,
        item_id: str,
        *,
        seconds: float,
        appear: bool,
        ignore_stuck: bool,
        report: Callable[[ItemWait], Awaitable[None]],
    ) -> None:
        self._session = session
        self._item_id = item_id
        self._appear = appear
        self._ignore_stuck = ignore_stuck
        self._report = report
        self._waiting = Waiting([item_id])
        self.item: Mapping[str, object] | None = None
        self.is_connected = True
        self._started_at = anyio.current_time()
        self._end_at = self._started_at + seconds

    @property
    def waited_seconds(self) -> float:
        """The seconds since the start."""
        return anyio.current_time() - self._started_at

    async def run(self) -> WaitEnd:
        """Wait.

        Raises:
            ProgressBarError, ClickException: The server refused or did not answer, or there is no such item.
        """
        send, receive = anyio.create_memory_object_stream["Change | Exception"](1)
        end: WaitEnd | None = None
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(self._follow, send)
            try:
                end = await self._await_end(receive)
            except (ProgressBarError, click.ClickException) as error:
                failure = error  # a task group would wrap it
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert end is not None
        return end

    async def _follow(self, send: MemoryObjectSendStream[Change | Exception]) -> None:
        watch = self._session.client.watch(item_id=self._item_id, on_lost=self._record_loss)
        # A generator; if it were only dropped, its connection would stay open for a while.
        async with send, contextlib.aclosing(cast("AsyncGenerator[Change, None]", watch)) as changes:
            try:
                async for change in changes:
                    await send.send(change)
            except ItemNotFoundError:
                await send.send(click.ClickException(NO_STREAM_MESSAGE))
            except ProgressBarError as error:
                await send.send(error)

    async def _await_end(self, receive: MemoryObjectReceiveStream[Change | Exception]) -> WaitEnd:
        while True:
            left = self._end_at - anyio.current_time()
            if left <= 0:
                return WaitEnd("timeout", self.item)
            with anyio.move_on_after(min(left, LOOKUP_RETRY_SECONDS if self._waiting.missing else NOTICE_SECONDS)):
                self._apply(await receive.receive())
            if self._item_id in self._waiting.missing:
                await self._ask_history()
            if self._waiting.is_over:
                run = self._waiting.ended[self._item_id]
                return WaitEnd(read_status(run), run)
            if self.item is not None and not self._ignore_stuck:
                status = read_status(self.item)
                if status in ("stuck", "stalled"):
                    return WaitEnd(status, self.item)
            await self._report(self)

    def _record_loss(self, _: ProgressBarError | None) -> None:
        self.is_connected = False

    def _apply(self, change: Change | Exception) -> None:
        if isinstance(change, Exception):
            raise change
        self.is_connected = True
        self._waiting.apply(change)
        self.item = next((item for item in change.items if item["id"] == self._item_id), self.item)

    async def _ask_history(self) -> None:
        # After a transient error the run is still missing, and asked for again.
        with contextlib.suppress(*TRANSIENT_ERRORS), anyio.CancelScope(deadline=self._end_at):
            run = await self._session.run(self._waiting.request_end(self._item_id))
            self._waiting.resolve(self._item_id, run, appear=self._appear)
