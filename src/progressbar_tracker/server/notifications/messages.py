"""Render messages: a JSON body for webhooks, a title and text lines for other services. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import floor_percent, is_indeterminate
from progressbar_tracker._text import format_duration
from progressbar_tracker.server.items.serializer import item_url
from progressbar_tracker.server.models import Notice, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

TEST_EVENT: Final = "test"
"""Pseudo-event of a test message."""


class Message(NamedTuple):
    """A message as plain text."""

    title: str
    text: str


def render_webhook(notice: Notice, public_url: str = "") -> bytes:
    """Return the JSON body of a webhook: ``type``, ``timestamp``, and ``data`` with the item at that time.

    A percentage has the type ``item.reached`` and a field ``percent``. ``url``, the page of the item, is present if the
    public URL is known.
    """
    event = notice.event
    document: dict[str, object] = {"type": f"item.{event}", "timestamp": rfc3339(notice.at)}
    if event == TEST_EVENT:
        document["type"] = "channel.test"
    elif event.endswith("%"):
        document |= {"type": "item.reached", "percent": int(event[:-1])}
    if public_url:
        document["url"] = _page_url(notice, public_url)
    return json.dumps(document | {"data": json.loads(notice.body)}, ensure_ascii=False).encode()


def render_message(notice: Notice, public_url: str = "") -> Message:
    """Return title and text, with a link to the item's page if the public URL is known."""
    if notice.event == TEST_EVENT:
        return Message(f"A test of {notice.channel}", "Messages of the progress server arrive here.")
    item: Mapping[str, object] = json.loads(notice.body)
    name = " ".join(str(item.get("title") or item["id"]).split())
    lines = [
        str(item.get("error") or ""),
        str(item.get("description") or ""),
        _progress_line(item),
        _origin_line(item),
        _page_url(notice, public_url),
    ]
    return Message(
        f"{name} {_EVENT_PHRASES.get(notice.event, f'is at {notice.event}')}", "\n".join(filter(None, lines))
    )


def _page_url(notice: Notice, public_url: str) -> str:
    if not public_url:
        return ""
    return f"{public_url}/" if notice.event == TEST_EVENT else f"{public_url}/{item_url(notice.item_id)}"


_EVENT_PHRASES: Final = {
    "succeeded": "has succeeded", "failed": "has failed", "stopped": "was stopped", "late": "is late",
    "stalled": "gives no sign of life",
}  # fmt: skip


def _progress_line(item: Mapping[str, object]) -> str:
    value, completed, total, unit = item["value"], item.get("completed"), item.get("total"), item.get("unit") or ""
    assert isinstance(value, int | float)
    assert completed is None or isinstance(completed, int | float)
    assert total is None or isinstance(total, int | float)
    parts = [] if is_indeterminate(completed, total, str(item.get("status"))) else [f"{floor_percent(value)} %"]
    if completed is not None:
        parts.append(f"{completed:,}{f' of {total:,}' if total is not None and total > 0 else ''} {unit}".rstrip())
    started, ended = item.get("created_at"), item.get("ended_at") or item.get("updated_at")
    if isinstance(started, str) and isinstance(ended, str):
        seconds = int((datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())
        parts.append(f"after {format_duration(max(seconds, 0))}")
    if item.get("late") and item.get("deadline"):
        parts.append(f"its deadline was {item['deadline']}")
    return ", ".join(parts)


def _origin_line(item: Mapping[str, object]) -> str:
    meta = item.get("meta")
    host = meta.get("host") if isinstance(meta, dict) else None
    group = item.get("group")
    parts = [
        str(item["id"]),
        f"group {group}" if group else "",
        f"of {item.get('owner')}",
        f"on {host}" if host else "",
    ]
    return ", ".join(filter(None, parts))
