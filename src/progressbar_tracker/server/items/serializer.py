"""Serialization of items for responses: the stored fields, and those that follow from the time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from progressbar_tracker._estimate import current_rate
from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.models import rfc3339

from .conditions import Conditions
from .fields import WIRE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from progressbar_tracker._models import Item as WireItem
    from progressbar_tracker.server.models import EndStatus, Item


_encode = msgspec.json.Encoder().encode


def item_url(item_id: str) -> str:
    """Return the URL of an item's page, relative to the board's.

    >>> item_url("a/b c"), item_url("..")
    ('items/a%2Fb%20c', 'items/?id=..')
    """
    # Browsers resolve dots in a path, encoded or not.
    return f"items/?id={item_id}" if item_id in (".", "..") else f"items/{quote(item_id, safe='')}"


def run_url(item_id: str, run_id: str) -> str:
    """Return the URL of the page of a run, relative to the board's.

    >>> run_url("a/b", "x y&z"), run_url("..", "r")
    ('items/a%2Fb?run=x%20y%26z', 'items/?id=..&run=r')
    """
    url = item_url(item_id)
    return f"{url}{'&' if '?' in url else '?'}run={quote(run_id, safe='')}"


_format_constant = lru_cache(maxsize=20_000)(rfc3339)
"""Formats instants that an item keeps for its whole life."""

_WireItem = msgspec.defstruct("_WireItem", [(name, object) for name in WIRE_FIELDS], gc=False)
"""The JSON object of an item. A list of 1,000 items takes half the time of dictionaries."""


class ItemSerializer:
    """Serializes items: the stored fields, and those that follow from the time and from former runs.

    Args:
        conditions: Decides whether items are stalled, late or stuck, and forecasts their ends.
    """

    def __init__(self, conditions: Conditions | None = None) -> None:
        self.conditions: Final = Conditions() if conditions is None else conditions

    def serialize_run(self, item: Item, status: EndStatus, ended_at: float) -> dict[str, object]:
        """Return the JSON object of a run of the history: the item's fields, with the run's own end."""
        return {**self.serialize_item(item, ended_at), "status": status, **_ENDED_FIELDS, "ended_at": rfc3339(ended_at)}

    def serialize_item(self, item: Item, now: float) -> WireItem:
        """Return the JSON object of an item at the instant ``now``."""
        wire: WireItem = msgspec.to_builtins(self._build_wire_item(item, now))
        return wire

    def encode_item(self, item: Item, now: float) -> bytes:
        """Return the JSON of an item at the instant ``now``."""
        return _encode(self._build_wire_item(item, now))

    def _build_wire_item(self, item: Item, now: float) -> object:
        conditions, progress, updated_at = self.conditions, item.progress, item.updated_at
        stalled = conditions.is_stalled(item, now)
        stuck = conditions.is_stuck(item, now)
        # A stalled or stuck item has no meaningful rate or ETA.
        is_moving = item.status == "running" and not stalled
        forecast = conditions.forecaster.get(item, now) if is_moving else None
        eta = eta_low = eta_high = finish_at = basis = estimated_total = estimated_value = usual_duration = None
        slower = False
        if forecast is not None:
            finish, low, high, _, former_count, slower, estimated_total, estimated_value, usual_duration = forecast
            if stuck:
                estimated_total = estimated_value = None
            else:
                eta = finish - now if finish > now else 0.0
                eta_low = low - now if low > now else 0.0
                eta_high = high - now if high > now else 0.0
                finish_at = rfc3339(min(finish, MAX_FINISH_AT))
                basis = format_basis(former_count) if former_count else "this run"
        updated, progressed_at = rfc3339(updated_at), item.progressed_at
        inner = conditions.inner_progress.get(item.id)
        if inner is not None and progressed_at < inner.progressed_at <= now:
            progressed_at = inner.progressed_at  # never later than the end of a former run, which ``now`` is then
        stop_request = item.stop_request
        # In the order of ITEM_FIELDS: names would cost three times as much as the whole call.
        return _WireItem(
            item.id, item.title, item.description, item.value, item.completed, item.total, item.unit, item.weight,
            item.status, stalled, conditions.is_late(item, now), stuck, slower, item.error,
            item.group, item.parent, item.meta,
            current_rate(progress, now) if is_moving and not stuck and item.completed is not None else None,
            eta, eta_low, eta_high, finish_at, basis, estimated_total, estimated_value,
            (progress.at - item.started_at - progress.paused) / progress.steps if progress.steps else None,
            usual_duration, item.owner, item.run_id, item.seq, item.short_runs, _format_constant(item.created_at),
            _format_constant(item.started_at),
            updated if progressed_at == updated_at else rfc3339(progressed_at), updated,
            None if item.ended_at is None else rfc3339(item.ended_at), item.heartbeat_timeout,
            None if item.deadline_at is None else rfc3339(item.deadline_at), [*item.notify], item.stuck_after,
            item.ttl, item.stoppable, None if stop_request is None else rfc3339(stop_request.at),
            None if stop_request is None else stop_request.by,
        )  # fmt: skip

    def serialize_items(
        self,
        items: Iterable[Item],
        now: float,
        transform: Callable[[bytes], bytes] | None = None,
        *,
        prefix: bytes = b"[",
        suffix: bytes = b"]",
    ) -> Iterator[bytes]:
        """Serialize items as a JSON array, in pieces of about :data:`~.budget.CHUNK_BYTES`.

        Args:
            items: Consumed while the pieces are taken.
            now: The instant.
            transform: Applied to the JSON of each item.
            prefix: The bytes before the first item.
            suffix: The bytes after the last item.
        """
        parts, size, comma = [prefix], 0, b""
        for item in items:
            json = _encode(self._build_wire_item(item, now))
            if transform is not None:
                json = transform(json)
            parts += (comma, json)
            comma, size = b",", size + len(json)
            if size >= CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        parts.append(suffix)
        yield b"".join(parts)


ESTIMATE_FIELDS: Final = (
    "rate", "eta", "eta_low", "eta_high", "finish_at", "basis", "estimated_total", "estimated_value",
    "usual_duration_seconds",
)  # fmt: skip
"""The fields that only a running item has; null for a run of the history."""

_ENDED_FIELDS: Final = {
    "stalled": False, "late": False, "stuck": False, "slower": False, **dict.fromkeys(ESTIMATE_FIELDS),
}  # fmt: skip

MAX_FINISH_AT: Final = 253_370_764_800.0
"""The year 9999: responses show a year of four digits."""


def format_basis(former_count: int) -> str:
    """Return the basis of a forecast.

    >>> format_basis(0), format_basis(1), format_basis(6)
    ('this run', '1 former run', '6 former runs')
    """
    return "this run" if not former_count else f"{former_count} former run{'s' if former_count > 1 else ''}"
