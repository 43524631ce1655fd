"""Items as the server serializes them, for tests of the scripts."""

from __future__ import annotations

from progressbar_tracker.server.items.serializer import ItemSerializer
from progressbar_tracker.server.models import Item, rfc3339

NOW = 1_796_000_000.0
"""The time of the tests, in seconds since the epoch."""

_ITEM_SERIALIZER = ItemSerializer()


def make_wire_item(item_id="a", **fields):
    """Return a running item that began an hour before :data:`NOW`.

    Args:
        item_id: Its id.
        **fields: Other fields. A number for an instant, such as ``ended_at``, is seconds before the time.
    """
    started_at = NOW - 3600
    item = Item(
        id=item_id, owner_id="", owner="ci", run_id="r", created_at=started_at, updated_at=NOW, seq=-1,
        started_at=started_at,
    )  # fmt: skip
    instants = {
        name: rfc3339(NOW - value)
        for name, value in fields.items()
        if isinstance(value, int | float) and (name.endswith("_at") or name == "deadline")
    }
    return {**_ITEM_SERIALIZER.serialize_item(item, NOW), **fields, **instants}
