"""Items as the server stores them."""

from __future__ import annotations

from progressbar_tracker.server.models import Item


def make_item(item_id: str = "a", *, at: float = 1.0, **fields: object) -> Item:
    """Return an item of run ``r``, created and updated at ``at`` (seconds since the epoch)."""
    required = {"owner_id": "k", "owner": "ci", "run_id": "r"}
    instants = dict.fromkeys(("created_at", "started_at", "progressed_at", "updated_at"), at)
    return Item(**{"id": item_id, **required, **instants, **fields})
