"""Requests to chat services, and the meaning of their responses."""

from __future__ import annotations

import json

import pytest

from progressbar_tracker.server.notifications import chat_services
from progressbar_tracker.server.notifications.channels import Channel
from progressbar_tracker.server.notifications.chat_services import (
    ChatText,
    MessageGoneError,
    MessageRef,
    build_request,
    hash_place,
    make_message_key,
    read_response,
)
from progressbar_tracker.server.notifications.webhooks import DeliveryError, WebhookResponse

CHAT_CHANNELS = {
    "ntfy": Channel(name="c", kind="ntfy", url="https://ntfy.example.org/topic"),
    "slack": Channel(name="c", kind="slack", url="https://slack.com/api", token="xoxb-1", to="C1"),
    "discord": Channel(name="c", kind="discord", url="https://discord.com/api/webhooks/1/Token?thread_id=7"),
    "telegram": Channel(name="c", kind="telegram", url="https://api.telegram.org", token="1:a", to="-100"),
}
CHAT_TEXT = ChatText("Import is running", "40 %", "https://p.example.org/items/a?run=r")


def respond(status: int, document: object, **headers: str) -> WebhookResponse:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return WebhookResponse(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


@pytest.mark.parametrize(
    ("kind", "message_id", "method", "url"),
    [
        ("ntfy", "", "POST", "https://ntfy.example.org/"),
        ("slack", "", "POST", "https://slack.com/api/chat.postMessage"),
        ("slack", "C1/15.2", "POST", "https://slack.com/api/chat.update"),
        ("discord", "", "POST", "https://discord.com/api/webhooks/1/Token?thread_id=7&wait=true"),
        ("discord", "9", "PATCH", "https://discord.com/api/webhooks/1/Token/messages/9?thread_id=7"),
        ("telegram", "", "POST", "https://api.telegram.org/bot1:a/sendMessage"),
        ("telegram", "9", "POST", "https://api.telegram.org/bot1:a/editMessageText"),
    ],
)
def test_request_is_that_of_the_documented_api(kind: str, message_id: str, method: str, url: str) -> None:
    request = build_request(CHAT_CHANNELS[kind], MessageRef("pbt-1", message_id), CHAT_TEXT)
    assert (request.method, request.url) == (method, url)


@pytest.mark.parametrize("kind", CHAT_CHANNELS)
def test_key_is_the_same_for_all_states_of_a_run(kind: str) -> None:
    keys = {make_message_key(kind, "a", run_id) for run_id in ("r", "r", "s")}
    assert len(keys) == 2
    assert all(len(key) <= 64 and key.replace("-", "").isalnum() for key in keys)


@pytest.mark.parametrize("kind", CHAT_CHANNELS)
def test_expected_state_makes_no_sound(kind: str) -> None:
    def encode(urgency: int) -> dict[str, object]:
        body: dict[str, object] = json.loads(
            build_request(CHAT_CHANNELS[kind], MessageRef("k"), CHAT_TEXT._replace(urgency=urgency)).body
        )
        return body

    assert {
        "ntfy": lambda body: body["priority"] < 3,
        "slack": lambda _: True,  # a new message is as loud as the room
        "discord": lambda body: body["flags"] & 4096,
        "telegram": lambda body: body["disable_notification"],
    }[kind](encode(0))
    assert encode(2).get("priority", 4) == 4
    assert not encode(2).get("disable_notification", False)
    assert not int(str(encode(2).get("flags", 0))) & 4096


@pytest.mark.parametrize("kind", CHAT_CHANNELS)
@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (respond(429, {}, retry_after="30"), 30.0),
        (respond(429, {"retry_after": 0.65}), 0.65),
        (respond(429, {"parameters": {"retry_after": 7}}), 7.0),
        (respond(429, {"retry_after": 2.5}, retry_after="3"), 3.0),
        (respond(429, b"no JSON"), chat_services.DEFAULT_RETRY_AFTER),
        (respond(429, {}, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), chat_services.DEFAULT_RETRY_AFTER),
        (respond(429, {}, retry_after="1" * 400), chat_services.DEFAULT_RETRY_AFTER),
        (respond(429, {"retry_after": 10**8}), chat_services.MAX_RETRY_AFTER),
    ],
)
def test_refusal_for_the_rate_names_the_pause(kind: str, response: WebhookResponse, seconds: float) -> None:
    with pytest.raises(DeliveryError) as error:
        read_response(CHAT_CHANNELS[kind], MessageRef("k"), response)
    assert error.value.retry_after == seconds


def test_pause_that_is_no_number_is_the_default() -> None:
    nested = b'{"retry_after": %s}' % (b"[" * 900 + b"]" * 900)
    with pytest.raises(DeliveryError) as error:
        read_response(CHAT_CHANNELS["discord"], MessageRef("k"), respond(429, nested, retry_after="-1"))
    assert error.value.retry_after == chat_services.DEFAULT_RETRY_AFTER


@pytest.mark.parametrize("kind", CHAT_CHANNELS)
@pytest.mark.parametrize(
    "response",
    [
        respond(500, b""), respond(200, b"<html>"), respond(200, b"["  * 100_000), respond(200, [1]), respond(302, {}),
        respond(200, {"ok": True, "id": "a\n/../b", "channel": "C", "ts": "x y", "result": {"message_id": "no"}}),
        respond(200, {"id": "1" * 5000, "ok": True, "ts": 1, "channel": "1" * 5000}),
        respond(200, {"id": True, "ok": True, "ts": True, "result": {"message_id": True}}),
        respond(200, b'{"ok": true, "id": %s, "ts": %s, "result": %s}' % ((b"[" * 900 + b"]" * 900,) * 3)),
    ],
)  # fmt: skip
def test_unreadable_response_is_an_error(kind: str, response: WebhookResponse) -> None:
    """A response of 200 without the sequence means that this ntfy cannot edit."""
    if kind == "ntfy" and response.status == 200:
        assert read_response(CHAT_CHANNELS[kind], MessageRef("k"), response) == ""
        return
    with pytest.raises(DeliveryError) as error:
        read_response(CHAT_CHANNELS[kind], MessageRef("k"), response)
    assert not error.value.is_gone


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("slack", respond(200, {"ok": False, "error": "message_not_found"})),
        ("slack", respond(200, {"ok": False, "error": "edit_window_closed"})),
        ("slack", respond(200, {"ok": False, "error": "cant_update_message"})),
        ("discord", respond(404, {"code": 10008, "message": "Unknown Message"})),
        ("telegram", respond(400, {"ok": False, "description": "Bad Request: message to edit not found"})),
        ("telegram", respond(400, {"ok": False, "description": "Bad Request: MESSAGE_ID_INVALID"})),
        ("telegram", respond(400, {"ok": False, "description": "Bad Request: message can't be edited"})),
    ],
)
def test_message_that_is_gone_needs_a_new_one(kind: str, response: WebhookResponse) -> None:
    with pytest.raises(MessageGoneError):
        read_response(CHAT_CHANNELS[kind], MessageRef("k", "9"), response)
    with pytest.raises(DeliveryError):
        read_response(CHAT_CHANNELS[kind], MessageRef("k"), response)


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("slack", respond(200, {"ok": False, "error": "token_revoked"})),
        ("discord", respond(404, {"code": 10015})),
        ("telegram", respond(403, {"ok": False, "description": "Forbidden: bot was blocked by the user"})),
    ],
)
def test_destination_that_has_ended_is_gone(kind: str, response: WebhookResponse) -> None:
    with pytest.raises(DeliveryError) as error:
        read_response(CHAT_CHANNELS[kind], MessageRef("k", "9"), response)
    assert error.value.is_gone


def test_error_of_a_service_shows_a_code_only() -> None:
    with pytest.raises(DeliveryError) as error:
        read_response(CHAT_CHANNELS["slack"], MessageRef("k"), respond(200, {"ok": False, "error": "<b>x</b> secret"}))
    assert str(error.value) == "slack.com answered 200"


def test_place_does_not_depend_on_secrets() -> None:
    slack, discord = CHAT_CHANNELS["slack"], CHAT_CHANNELS["discord"]
    other = Channel(name="c", kind="slack", url=slack.url, token="xoxb-2", to="C1")
    assert hash_place(slack) == hash_place(other)
    renewed = Channel(name="c", kind="discord", url="https://discord.com/api/webhooks/1/Renewed?thread_id=7")
    assert hash_place(discord) == hash_place(renewed)
    moved = Channel(name="c", kind="slack", url=slack.url, token="xoxb-1", to="C2")
    assert hash_place(slack) != hash_place(moved)


@pytest.mark.parametrize("kind", CHAT_CHANNELS)
def test_link_that_is_too_long_is_left_out(kind: str) -> None:
    text = ChatText("t" * 300, "*" * 5000, "https://p.example.org/" + "a" * 2400)
    document = json.loads(build_request(CHAT_CHANNELS[kind], MessageRef("k"), text).body)
    content = document.get("text") or document.get("content") or document["message"]
    assert "https" not in content
    assert len(content) <= 2000
    assert len(content.encode()) < 4096
