"""Chat services on real sockets, which behave as the documentation of their APIs says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from tests.support.webhook_receiver import ReceivedRequest, WebhookReceiver, make_response

if TYPE_CHECKING:
    from collections.abc import Callable


def make_json(status: int, document: object, **headers: str) -> bytes:
    return make_response(status, json.dumps(document).encode(), **headers)


class ChatService(WebhookReceiver):
    """A service with rooms of messages that can be edited and deleted.

    Attributes:
        messages: The states of each message by its id, in the order of the first ones.
        deleted: The ids of deleted messages.
        has_hung: Requests that were executed and not answered, because ``is_hanging`` was set.
    """

    kind: ClassVar[str]
    too_many: ClassVar[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, list[str]] = {}
        self.deleted: set[str] = set()
        self.is_hanging = False
        self.on_request: Callable[[ReceivedRequest], object] = lambda _: None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def fields(self) -> str:
        """The lines of the channel file."""
        raise NotImplementedError

    def respond(self, request: ReceivedRequest):
        self.on_request(request)
        response = self.execute(request, json.loads(request.body))
        return self.hang if self.is_hanging else response

    def execute(self, request: ReceivedRequest, document: dict[str, object]) -> bytes:
        raise NotImplementedError

    def add(self, text: str) -> str:
        message_id = str(1000 + len(self.messages))
        self.messages[message_id] = [text]
        return message_id

    def edit(self, message_id: str, text: str) -> bool:
        if message_id not in self.messages or message_id in self.deleted:
            return False
        self.messages[message_id].append(text)
        return True

    def wait_for(self, condition: Callable[[list[list[str]]], object]) -> list[list[str]]:
        """Wait until a condition of all states of all messages is true; return them."""
        with self._condition:
            assert self._condition.wait_for(lambda: condition(list(self.messages.values())), 60.0), self.messages
            return [list(states) for states in self.messages.values()]

    def wait_for_text(self, text: str, count: int = 1) -> list[list[str]]:
        """Wait until the latest states of ``count`` messages contain a text."""
        return self.wait_for(lambda found: sum(text in states[-1] for states in found) >= count)


class Ntfy(ChatService):
    """ntfy 2.16: a message with the sequence id of another one replaces it."""

    kind = "ntfy"
    too_many = make_json(429, {"code": 42901, "http": 429, "error": "limit reached: too many requests"})
    knows_sequences = True

    @property
    def fields(self) -> str:
        return f'url = "{self.origin}/a-secret-topic"\ntoken = "tk_VerySecret"'

    def execute(self, request: ReceivedRequest, document: dict[str, object]) -> bytes:
        assert request.line == "POST / HTTP/1.1"
        assert request.headers["authorization"] == "Bearer tk_VerySecret"
        assert document["topic"] == "a-secret-topic"
        text = f"{document['title']}\n{document['message']}\n{document.get('click', '')}"
        sequence = str(document["sequence_id"]) if self.knows_sequences else ""
        if sequence in self.messages:
            self.messages[sequence].append(text)
        elif sequence:
            self.messages[sequence] = [text]
        else:
            self.add(text)
        return make_json(200, {"id": "x", "event": "message", **({"sequence_id": sequence} if sequence else {})})


class Slack(ChatService):
    """Slack: ``chat.postMessage`` and ``chat.update``."""

    kind = "slack"
    too_many = make_json(429, {"ok": False, "error": "ratelimited"}, retry_after="30")

    @property
    def fields(self) -> str:
        return f'url = "{self.origin}/api"\ntoken = "xoxb-VerySecret"\nto = "#progress"'

    def execute(self, request: ReceivedRequest, document: dict[str, object]) -> bytes:
        assert request.headers["authorization"] == "Bearer xoxb-VerySecret"
        method = request.line.split()[1]
        text = str(document["text"])
        if method == "/api/chat.postMessage":
            assert document["channel"] == "#progress"
            return make_json(200, {"ok": True, "channel": "C024BE91L", "ts": f"1503435956.{self.add(text)}"})
        assert method == "/api/chat.update"
        if document["channel"] != "C024BE91L":  # a name is not accepted here
            return make_json(200, {"ok": False, "error": "channel_not_found"})
        if not self.edit(str(document["ts"]).partition(".")[2], text):
            return make_json(200, {"ok": False, "error": "message_not_found"})
        return make_json(200, {"ok": True, "channel": "C024BE91L", "ts": document["ts"], "text": text})


class Discord(ChatService):
    """Discord: a webhook, whose messages can be edited if it is asked to wait for their ids."""

    kind = "discord"
    too_many = make_json(429, {"message": "You are being rate limited.", "retry_after": 30.0, "global": False})

    @property
    def fields(self) -> str:
        return f'url = "{self.origin}/api/webhooks/223704706495545344/VerySecret"'

    def execute(self, request: ReceivedRequest, document: dict[str, object]) -> bytes:
        method, target, _ = request.line.split()
        parts = urlsplit(target)
        assert document["allowed_mentions"] == {"parse": []}
        text = str(document["content"])
        if len(text) > 2000:
            return make_json(400, {"code": 50035, "message": "Invalid Form Body"})
        base = "/api/webhooks/223704706495545344/VerySecret"
        if method == "POST":
            assert (parts.path, parts.query) == (base, "wait=true")
            return make_json(200, {"id": self.add(text), "content": text})
        assert method == "PATCH"
        assert parts.path.startswith(f"{base}/messages/")
        message_id = parts.path.rpartition("/")[2]
        if not self.edit(message_id, text):
            return make_json(404, {"message": "Unknown Message", "code": 10008})
        return make_json(200, {"id": message_id, "content": text})


class Telegram(ChatService):
    """Telegram: ``sendMessage`` and ``editMessageText`` of a bot."""

    kind = "telegram"
    too_many = make_json(
        429, {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 30}}
    )

    @property
    def fields(self) -> str:
        return f'url = "{self.origin}"\ntoken = "110201543:VerySecret"\nto = "-1001234567890"'

    def execute(self, request: ReceivedRequest, document: dict[str, object]) -> bytes:
        method = request.line.split()[1].rpartition("/")[2]
        assert request.line.split()[1] == f"/bot110201543:VerySecret/{method}"
        assert document["chat_id"] == "-1001234567890"
        text = str(document["text"])
        if method == "sendMessage":
            return make_json(200, {"ok": True, "result": {"message_id": int(self.add(text)), "text": text}})
        assert method == "editMessageText"
        message_id = str(document["message_id"])
        if self.messages.get(message_id, [""])[-1] == text and message_id not in self.deleted:
            return self._refuse("message is not modified: specified new message content is exactly the same")
        if not self.edit(message_id, text):
            return self._refuse("message to edit not found")
        return make_json(200, {"ok": True, "result": {"message_id": int(message_id), "text": text}})

    def _refuse(self, reason: str) -> bytes:
        return make_json(400, {"ok": False, "error_code": 400, "description": f"Bad Request: {reason}"})


CHAT_SERVICES = {service.kind: service for service in (Ntfy, Slack, Discord, Telegram)}
