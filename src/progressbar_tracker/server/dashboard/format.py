"""The state of an item as the badge shows it; ``format.js`` has the same rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_ICONS: Final = {
    "running": "▶", "slower": "▷", "stuck": "‖", "stalled": "!", "late": "◷", "succeeded": "✓", "failed": "✕",
    "stopped": "■", "deleted": "∅",
}  # fmt: skip

CONDITION_STATES: Final = ("stuck", "stalled", "late", "slower")
"""The conditions that a page shows as the state of a running item; the first one wins."""


def get_state(item: Mapping[str, object]) -> str:
    """Return the state that a page shows: the status, or a condition of a running item.

    >>> get_state({"status": "running", "slower": True}), get_state({"status": "failed", "slower": True})
    ('slower', 'failed')
    """
    status = str(item["status"])
    if status != "running":
        return status
    return next((state for state in CONDITION_STATES if item.get(state)), status)
