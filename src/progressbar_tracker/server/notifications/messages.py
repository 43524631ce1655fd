"""Render messages: a JSON body for webhooks, a title and text lines for other services. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._models import floor_percent, is_indeterminate
from progressbar_tracker._phrases import (
    format_basis,
    format_estimate,
    format_estimated_total,
    format_silence,
    format_slowness,
    format_stop,
    get_start,
    read_instant,
)
from progressbar_tracker._text import EMOJI_JOINERS, format_duration, remove_hidden
from progressbar_tracker.server.items.serializer import item_url, run_url
from progressbar_tracker.server.models import Notice, rfc3339

from .chat_services import ChatText
from .events import MISSED_EVENT

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TEXT_LINES: Final = 10
MAX_TEXT_LENGTH: Final = 1000
"""The lines and characters of an output tail in a text."""

TEST_EVENT: Final = "test"
"""Pseudo-event of a test message."""

PROGRESS_EVENT: Final = "progress"
"""Pseudo-event of a running item: a message shows its current state."""

LOST_EVENT: Final = "lost"
"""Pseudo-event of a run that was deleted, replaced by another one, or moved out of the groups of its channel."""

BAR_CELLS: Final = 20


class Message(NamedTuple):
    """A message as plain text."""

    title: str
    text: str


def render_webhook(notice: Notice, public_url: str = "", tail: str = "") -> bytes:
    """Return the JSON body of a webhook: ``type``, ``timestamp``, and ``data`` with the item at that time.

    The data of a missed start is its schedule. A percentage has the type ``item.reached`` and a field ``percent``.
    ``url``, the page of the run, is present if the public URL is known, and ``tail``, the last lines of the output, if
    the channel gets them.
    """
    event = notice.event
    document: dict[str, object] = {"type": f"item.{event}", "timestamp": rfc3339(notice.at)}
    if event == TEST_EVENT:
        document["type"] = "channel.test"
    elif event.endswith("%"):
        document |= {"type": "item.reached", "percent": int(event[:-1])}
    if public_url:
        document["url"] = _page_url(notice, public_url)
    if tail:
        document["tail"] = tail
    return json.dumps(document | {"data": json.loads(notice.body)}, ensure_ascii=False).encode()


def render_message(notice: Notice, public_url: str = "", tail: str = "") -> Message:
    """Return title and text, with the end of the output and a link to the run's page if the public URL is known."""
    title, lines = _render_lines(notice, tail)
    return Message(_clean(title), "\n".join(filter(None, [*map(_clean, lines), _page_url(notice, public_url)])))


def render_chat(notice: Notice, public_url: str = "", tail: str = "") -> ChatText:
    """Return the text of a message that is edited: with a bar, and with the state instead of an event."""
    title, lines = _render_lines(notice, tail)
    if notice.event not in (TEST_EVENT, MISSED_EVENT):
        lines = [_render_bar(json.loads(notice.body)), *lines]
    is_expected = notice.event in (PROGRESS_EVENT, LOST_EVENT)
    return ChatText(
        _clean(title), _clean("\n".join(filter(None, lines))), _page_url(notice, public_url),
        urgency=0 if is_expected else 2 if notice.event == "failed" else 1,
    )  # fmt: skip


def _clean(text: str) -> str:
    """Return a text without characters that hide or reorder what stands around them."""
    return remove_hidden(text, keep=f"\n\t{EMOJI_JOINERS}")


def _render_bar(item: Mapping[str, object]) -> str:
    value, completed, total = item["value"], item.get("completed"), item.get("total")
    assert isinstance(value, int | float)
    assert completed is None or isinstance(completed, int | float)
    assert total is None or isinstance(total, int | float)
    if is_indeterminate(completed, total, str(item.get("status"))):
        return ""
    cells = min(max(int(value * BAR_CELLS), 0), BAR_CELLS)
    return "▓" * cells + "░" * (BAR_CELLS - cells)


def _render_lines(notice: Notice, tail: str) -> tuple[str, list[str]]:
    if notice.event == TEST_EVENT:
        return f"A test of {notice.channel}", ["Messages of the progress server arrive here."]
    item: Mapping[str, object] = json.loads(notice.body)
    if notice.event == MISSED_EVENT:
        return _render_missed(item)
    name = " ".join(str(item.get("title") or item["id"]).split())
    estimate = format_estimate(item, notice.at)
    lines = [
        str(item.get("error") or format_stop(item)),
        str(item.get("description") or ""),
        _progress_line(item, notice.at),
        ", ".join(filter(None, (estimate, format_basis(item) if estimate else ""))),
        _origin_line(item),
        "\n".join(tail.split("\n")[-MAX_TEXT_LINES:])[-MAX_TEXT_LENGTH:],
    ]
    return f"{name} {_phrase_event(notice.event, item, notice.at)}", lines


def _render_missed(schedule: Mapping[str, object]) -> tuple[str, list[str]]:
    name = " ".join(str(schedule.get("title") or schedule["id"]).split())
    every = schedule.get("every")
    rule = (
        f"cron {schedule['cron']}, {schedule['timezone']}"
        if every is None
        else f"every {format_duration(float(str(every)))}"
    )
    started_at = schedule.get("started_at")
    lines = [
        f"expected at {schedule['expected_at']} ({rule})",
        f"started last at {started_at}" if started_at else "",
        str(schedule["id"]),
    ]
    return f"{name} has not started", lines


MAX_PUSH_BYTES: Final = 3993
"""The most bytes of a push message: push services accept 4,096 bytes with the encryption."""

MAX_PUSH_URL_LENGTH: Final = 1200
"""The most characters of a URL with its run id; a longer one leaves it out. An item's URL has 2,406 at most."""


def render_push(notice: Notice, *, is_key_former: bool = False) -> bytes:
    """Return the JSON body of a push message, for the service worker: title, text, and the page of the run.

    ``tag`` is the same for all messages of an item, so that a later one replaces an earlier one.

    Args:
        notice: The message.
        is_key_former: Whether the browser subscribed with a former key of the server: it subscribes again.
    """
    message = render_message(notice)
    url = run_url(notice.item_id, notice.run_id)
    document = {
        "id": notice.notice_id,
        "event": notice.event,
        "at": notice.at,
        "tag": f"item-{hashlib.sha256(notice.item_id.encode()).hexdigest()[:16]}",
        "url": url if len(url) <= MAX_PUSH_URL_LENGTH else item_url(notice.item_id),
        "title": message.title[:250],
        "text": "",
    }
    if is_key_former:
        document["renew"] = True
    room = MAX_PUSH_BYTES - len(_encode_push(document))
    # In JSON, a line break or a quotation mark takes two bytes.
    text = message.text.encode()[: max(room, 0)].decode(errors="ignore")
    while text and len(json.dumps(text, ensure_ascii=False).encode()) - 2 > room:
        text = text[: len(text) * 9 // 10]
    document["text"] = text
    return _encode_push(document)


def _encode_push(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _phrase_event(event: str, item: Mapping[str, object], at: float) -> str:
    if event == PROGRESS_EVENT:
        event = next((flag for flag in ("stalled", "stuck", "late", "slower") if item.get(flag)), "running")
    if event == "stuck":
        silence = format_silence({**item, "stuck": True, "stalled": False}, at)
        return f"has made {silence or 'no progress'}"
    if event == "slower":
        return f"is {format_slowness({**item, 'slower': True}, at) or 'slower than usual'}"
    return _EVENT_PHRASES.get(event, f"is at {event}")


def _page_url(notice: Notice, public_url: str) -> str:
    if not public_url:
        return ""
    if notice.event == TEST_EVENT:
        return f"{public_url}/"
    if notice.event == MISSED_EVENT:
        return f"{public_url}/schedules"
    return f"{public_url}/{run_url(notice.item_id, notice.run_id)}"


_EVENT_PHRASES: Final = {
    "succeeded": "has succeeded", "failed": "has failed", "stopped": "was stopped", "late": "is late",
    "stalled": "gives no sign of life", "running": "is running", LOST_EVENT: "is not followed any more",
}  # fmt: skip


def _progress_line(item: Mapping[str, object], at: float) -> str:
    value, completed, total, unit = item["value"], item.get("completed"), item.get("total"), item.get("unit") or ""
    assert isinstance(value, int | float)
    assert completed is None or isinstance(completed, int | float)
    assert total is None or isinstance(total, int | float)
    parts = [] if is_indeterminate(completed, total, str(item.get("status"))) else [f"{floor_percent(value)} %"]
    if completed is not None:
        parts.append(f"{completed:,}{f' of {total:,}' if total is not None and total > 0 else ''} {unit}".rstrip())
    if item.get("status") == "running" and (estimated_total := format_estimated_total(item)):
        parts.append(estimated_total)
    started_at, ended_at = get_start(item), read_instant(item, "ended_at")
    if ended_at is None:
        ended_at = read_instant(item, "updated_at") if item.get("stalled") else at
    if started_at is not None and ended_at is not None:
        parts.append(f"after {format_duration(max(ended_at - started_at, 0.0))}")
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
