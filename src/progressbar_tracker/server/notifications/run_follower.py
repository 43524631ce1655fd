"""Choose the running items whose messages are edited, and offer their states. Runs on the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.models import Notice
from progressbar_tracker.server.mutations import AddNotice

from .events import make_notice_id
from .messages import LOST_EVENT, PROGRESS_EVENT

if TYPE_CHECKING:
    from progressbar_tracker.server.items.board import Board
    from progressbar_tracker.server.items.serializer import ItemSerializer
    from progressbar_tracker.server.models import Item

    from .channels import Channel, Channels
    from .kept_messages import KeptMessages

SWEEPS_PER_SCAN: Final = 4
"""Sweeps of the board between two searches for running items."""


class RunFollower:
    """Chooses the running items whose messages are edited, and offers their states.

    Args:
        channels: All channels.
        kept: Gets the offers.
        serializer: Serializes the items.
    """

    def __init__(self, channels: Channels, kept: KeptMessages, serializer: ItemSerializer) -> None:
        self._channels = channels
        self._kept = kept
        self._serializer = serializer
        self._followed: dict[str, dict[tuple[str, str], Item]] = {}
        self._sweep_count = 0

    def sweep(self, board: Board, now: float, *, is_leader: bool) -> list[AddNotice]:
        """Offer the states that are due; return the outbox writes for runs that are not followed to their end.

        Args:
            board: All items.
            now: The current instant.
            is_leader: Whether this server sends.
        """
        channels = self._channels.kept if is_leader else []
        if not channels:
            if self._followed:
                self._followed.clear()
                self._kept.clear_offers()
            return []
        if self._sweep_count % SWEEPS_PER_SCAN == 0:
            running = [item for item in board.snapshot() if item.status == "running"]
        else:
            running = None
        self._sweep_count += 1
        writes: list[AddNotice] = []
        for channel in channels:
            before = self._followed.get(channel.name, {})
            items = self._choose(channel, running, now) if running is not None else _refresh(channel, board, before)
            followed = self._followed[channel.name] = {(item.id, item.run_id): item for item in items}
            writes += self._build_lost(channel, board, before, followed, now)
            self._kept.offer(
                channel.name,
                [
                    self._build_notice(channel, item, PROGRESS_EVENT, now)
                    for item in items
                    if self._kept.is_due(channel, item.id, item.run_id)
                ],
            )
        for name in self._followed.keys() - {channel.name for channel in channels}:
            del self._followed[name]
        return writes

    def _choose(self, channel: Channel, running: list[Item], now: float) -> list[Item]:
        """Return the accepted items that have run longest; stalled ones come last."""
        conditions = self._serializer.conditions
        accepted = [item for item in running if channel.accepts(item)]
        accepted.sort(key=lambda item: (conditions.is_stalled(item, now), item.started_at or 0.0, item.id))
        return accepted[: channel.max_runs]

    def _build_lost(
        self,
        channel: Channel,
        board: Board,
        before: dict[tuple[str, str], Item],
        followed: dict[tuple[str, str], Item],
        now: float,
    ) -> list[AddNotice]:
        writes = []
        for (item_id, run_id), item in before.items():
            if (item_id, run_id) not in followed:
                current = board.get(item_id)
                if current is None or current.run_id != run_id or not channel.accepts(current):
                    writes.append(AddNotice(self._build_notice(channel, item, LOST_EVENT, now)))
        return writes

    def _build_notice(self, channel: Channel, item: Item, event: str, now: float) -> Notice:
        return Notice(
            notice_id=make_notice_id(channel.name, item.id, item.run_id, event, ""), channel=channel.name,
            item_id=item.id, run_id=item.run_id, event=event, at=now,
            body=self._serializer.encode_item(item, now).decode(), next_at=now,
        )  # fmt: skip


def _refresh(channel: Channel, board: Board, before: dict[tuple[str, str], Item]) -> list[Item]:
    found = [item for item_id, _ in before if (item := board.get(item_id)) is not None]
    return [
        item
        for item in found
        if item.status == "running" and (item.id, item.run_id) in before and channel.accepts(item)
    ]
