"""Requests to the APIs of chat services that can edit a message, and what their responses mean. Pure.

ntfy 2.16 edits a message if another one has the same ``sequence_id``, which the server chooses. So a repeated request
changes nothing. Slack has ``chat.update``, Discord ``PATCH`` of the message of a webhook, and Telegram
``editMessageText``. These have no idempotency key: a request that is repeated after an unknown outcome sends a second
message.

The texts of an item come from programs. So no service may read a mention or markup in them.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from .webhooks import DeliveryError, WebhookResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from .channels import Channel

MAX_CHAT_UNITS: Final = 2000
"""UTF-16 units of a message: what Discord accepts, the fewest of these services."""

MAX_URL_LENGTH: Final = 600
"""Of the link; a longer one is left out."""

MAX_NTFY_BYTES: Final = 4000
"""Of a text; ntfy makes an attachment of 4,096 bytes."""

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds for which a service can ask to wait. The longest delay of the outbox."""

DEFAULT_RETRY_AFTER: Final = 60.0
"""Seconds after a refusal for its rate that names no time."""


class MessageGoneError(Exception):
    """The service does not have the message any more, or does not let it be edited: a new one is needed."""


class ChatText(NamedTuple):
    """The text of a message.

    Attributes:
        urgency: 0 while the run is as expected, 1 at an event, 2 at a failure.
    """

    title: str
    text: str
    url: str = ""
    urgency: Literal[0, 1, 2] = 0


class ChatRequest(NamedTuple):
    """A request; the URL and the headers are secrets."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def hash_place(channel: Channel) -> str:
    """Return a hash of the room of a channel: the id of a message has no meaning in another one."""
    parts = urlsplit(channel.url)
    # The path of a Discord webhook ends with its token, which may be renewed.
    path = parts.path.strip("/").rpartition("/")[0] if channel.kind == "discord" else parts.path.strip("/")
    return hashlib.sha256("\0".join((channel.kind, parts.hostname or "", path, channel.to)).encode()).hexdigest()[:16]


def make_message_key(channel: str, item_id: str, run_id: str) -> str:
    """Return the id that a service accepts from its caller: the same for all states of a run."""
    return f"pbt-{hashlib.sha256(chr(0).join((channel, item_id, run_id)).encode()).hexdigest()[:32]}"


class MessageRef(NamedTuple):
    """A message.

    Attributes:
        key: See :func:`make_message_key`.
        message_id: The id of the service; ``""`` for a new message.
    """

    key: str
    message_id: str = ""


def build_request(channel: Channel, ref: MessageRef, text: ChatText) -> ChatRequest:
    """Return the request that sends a message, or that edits the one with an id."""
    return _REQUEST_BUILDERS[channel.kind](channel, ref, _shorten(text))


def read_response(channel: Channel, ref: MessageRef, response: WebhookResponse) -> str:
    """Return the id of the message; ``""`` if it cannot be edited.

    Raises:
        MessageGoneError: See there.
        DeliveryError: The service refused the request, or its response cannot be read. The text has no secret.
    """
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        document = {}
    if not isinstance(document, dict):
        document = {}
    if response.status == 429 or document.get("error") in ("ratelimited", "rate_limited"):
        raise DeliveryError(
            f"{channel.destination} wants fewer requests (429)", retry_after=_read_retry_after(response, document)
        )
    message_id = _RESPONSE_READERS[channel.kind](channel, ref, response.status, document)
    if message_id and not _ID_PATTERN.fullmatch(message_id):
        raise DeliveryError(f"{channel.destination} answered with an id that is not one")
    return message_id


def _shorten(text: ChatText) -> ChatText:
    title = _cut(text.title, 300)
    url = text.url if len(text.url) <= MAX_URL_LENGTH else ""
    return text._replace(title=title, text=_cut(text.text, MAX_CHAT_UNITS - 310 - len(url)), url=url)


def _cut(text: str, units: int) -> str:
    if len(text.encode("utf-16-le", "replace")) // 2 <= units:
        return text
    return text.encode("utf-16-le", "replace")[: max(units - 1, 0) * 2].decode("utf-16-le", "ignore") + "…"


def _read_retry_after(response: WebhookResponse, document: dict[str, Any]) -> float:
    parameters = document.get("parameters")
    found: list[object] = [response.headers.get("retry-after"), document.get("retry_after")]
    if isinstance(parameters, dict):
        found.append(parameters.get("retry_after"))
    texts = [str(value) for value in found if isinstance(value, str | int | float)]
    seconds = [float(text) for text in texts if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text)]
    return min(max(seconds, default=DEFAULT_RETRY_AFTER), MAX_RETRY_AFTER)


def _read_id(value: object) -> str:
    """Return an id of a response, a text or a number; ``""`` if it is neither."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _make_body(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode(errors="replace")


_ID_PATTERN: Final = re.compile(r"(\w{1,100}/)?[\w.-]{1,100}", re.ASCII)
_JSON_HEADERS: Final = {"content-type": "application/json; charset=utf-8"}


# ntfy


def _build_ntfy(channel: Channel, ref: MessageRef, text: ChatText) -> ChatRequest:
    parts = urlsplit(channel.url)
    document: dict[str, object] = {
        "topic": parts.path.strip("/"),
        "title": text.title,
        "message": (text.text or text.title).encode()[:MAX_NTFY_BYTES].decode(errors="ignore"),
        "priority": text.urgency + 2,
        "sequence_id": ref.key,
    }
    if text.url:
        document["click"] = text.url
    headers = _JSON_HEADERS | ({"authorization": f"Bearer {channel.token}"} if channel.token else {})
    return ChatRequest("POST", urlunsplit((parts.scheme, parts.netloc, "/", "", "")), headers, _make_body(document))


def _read_ntfy(channel: Channel, ref: MessageRef, status: int, document: dict[str, Any]) -> str:
    if status != 200:
        raise DeliveryError(f"{channel.destination} answered {status}")
    # A server before 2.16 publishes a message of its own for each state.
    return ref.key if document.get("sequence_id") == ref.key else ""


# Slack


def _build_slack(channel: Channel, ref: MessageRef, text: ChatText) -> ChatRequest:
    def escape(plain: str) -> str:
        return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    lines = [escape(text.title), escape(text.text), f"<{escape(text.url)}>" if text.url else ""]
    room, _, instant = ref.message_id.rpartition("/")
    # chat.update has no mrkdwn, so the message is a block of literal text. The text is for notifications only.
    elements: list[dict[str, str]] = [{"type": "text", "text": "\n".join(filter(None, (text.title, text.text)))}]
    if text.url:
        elements += [{"type": "text", "text": "\n"}, {"type": "link", "url": text.url}]
    block = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]}
    document: dict[str, object] = {
        "channel": room or channel.to, "text": "\n".join(filter(None, lines)), "blocks": [block], "parse": "none",
        "link_names": False,
    }  # fmt: skip
    document |= {"ts": instant} if ref.message_id else {"unfurl_links": False, "unfurl_media": False}
    method = "chat.update" if ref.message_id else "chat.postMessage"
    headers = _JSON_HEADERS | {"authorization": f"Bearer {channel.token}"}
    return ChatRequest("POST", f"{channel.url.rstrip('/')}/{method}", headers, _make_body(document))


_SLACK_GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
_SLACK_ENDED: Final = frozenset({"account_inactive", "token_revoked"})


def _read_slack(channel: Channel, ref: MessageRef, status: int, document: dict[str, Any]) -> str:
    if status == 200 and document.get("ok") is True:
        return f"{_read_id(document.get('channel')) or channel.to}/{_read_id(document.get('ts'))}"
    error = _name_error(document.get("error"))
    if ref.message_id and error in _SLACK_GONE:
        raise MessageGoneError
    raise DeliveryError(f"{channel.destination} answered {error or status}", is_gone=error in _SLACK_ENDED)


# Discord


_DISCORD_MARKUP: Final = re.compile(r"([\\*_~`|>#\[\]<@])")
_DISCORD_QUIET_FLAGS: Final = 4 | 4096
"""No preview of links, and no sound."""


def _build_discord(channel: Channel, ref: MessageRef, text: ChatText) -> ChatRequest:
    # Escapes count as characters.
    title, url = _cut(_DISCORD_MARKUP.sub(r"\\\1", text.title), 600), f"<{text.url}>" if text.url else ""
    plain = _cut(_DISCORD_MARKUP.sub(r"\\\1", text.text), MAX_CHAT_UNITS - 602 - len(url))
    lines = [title, plain, url]
    document: dict[str, object] = {
        "content": "\n".join(filter(None, lines)),
        "allowed_mentions": {"parse": []},
        "flags": 4 if ref.message_id or text.urgency else _DISCORD_QUIET_FLAGS,
    }
    parts = urlsplit(channel.url)
    path = parts.path.rstrip("/")
    # A webhook of a thread has a query.
    if ref.message_id:
        path = f"{path}/messages/{quote(ref.message_id, safe='')}"
        query = parts.query
    else:
        query = "&".join(filter(None, (parts.query, "wait=true")))
    url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    return ChatRequest("PATCH" if ref.message_id else "POST", url, _JSON_HEADERS, _make_body(document))


_UNKNOWN_MESSAGE: Final = 10008
_UNKNOWN_WEBHOOK: Final = 10015


def _read_discord(channel: Channel, ref: MessageRef, status: int, document: dict[str, Any]) -> str:
    if status == 200 and (message_id := _read_id(document.get("id"))):
        return message_id
    code = document.get("code")
    if ref.message_id and status == 404 and code == _UNKNOWN_MESSAGE:
        raise MessageGoneError
    reason = f"{status}, code {code}" if isinstance(code, int) else str(status)
    raise DeliveryError(f"{channel.destination} answered {reason}", is_gone=code == _UNKNOWN_WEBHOOK)


# Telegram


_NO_MENTION: Final = "@\u2060"
"""An invisible character keeps a text with an at sign from being a mention."""


def _build_telegram(channel: Channel, ref: MessageRef, text: ChatText) -> ChatRequest:
    plain = "\n".join(filter(None, (text.title, text.text))).replace("@", _NO_MENTION)
    document: dict[str, object] = {
        "chat_id": channel.to,
        "text": "\n".join(filter(None, (plain, text.url))),
        "link_preview_options": {"is_disabled": True},
    }
    if ref.message_id:
        document["message_id"] = int(ref.message_id)
    elif not text.urgency:
        document["disable_notification"] = True
    method = "editMessageText" if ref.message_id else "sendMessage"
    url = f"{channel.url.rstrip('/')}/bot{quote(channel.token, safe=':')}/{method}"
    return ChatRequest("POST", url, _JSON_HEADERS, _make_body(document))


_TELEGRAM_GONE: Final = ("message to edit not found", "message can't be edited", "message_id_invalid")


def _read_telegram(channel: Channel, ref: MessageRef, status: int, document: dict[str, Any]) -> str:
    result = document.get("result")
    if status == 200 and document.get("ok") is True:
        found = _read_id(result.get("message_id")) if isinstance(result, dict) else ""
        return found if re.fullmatch(r"\d+", found, re.ASCII) else ref.message_id or "?"
    description = str(document.get("description") or "").lower()
    if ref.message_id and status == 400:
        if "message is not modified" in description:
            return ref.message_id
        if any(reason in description for reason in _TELEGRAM_GONE):
            raise MessageGoneError
    is_gone = status == 403 and ("blocked" in description or "kicked" in description)
    raise DeliveryError(f"{channel.destination} answered {status}", is_gone=is_gone)


def _name_error(error: object) -> str:
    """Return the code of an error, if it has the form of one: a response is not shown as it is."""
    return error if isinstance(error, str) and re.fullmatch(r"[a-z_]{1,60}", error) else ""


_REQUEST_BUILDERS: Final[dict[str, Callable[[Channel, MessageRef, ChatText], ChatRequest]]] = {
    "ntfy": _build_ntfy, "slack": _build_slack, "discord": _build_discord, "telegram": _build_telegram,
}  # fmt: skip
_RESPONSE_READERS: Final[dict[str, Callable[[Channel, MessageRef, int, dict[str, Any]], str]]] = {
    "ntfy": _read_ntfy, "slack": _read_slack, "discord": _read_discord, "telegram": _read_telegram,
}  # fmt: skip
