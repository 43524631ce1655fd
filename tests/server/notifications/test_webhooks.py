"""Webhooks: signed as their receivers expect, sent to nobody else, and never waited for longer than is said."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from progressbar_tracker.server.notifications.channels import Channel
from progressbar_tracker.server.notifications.webhooks import DeliveryError, Webhooks, is_permitted, sign_headers
from tests.support.webhook_receiver import WebhookReceiver, make_response

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNING_KEY = bytes(range(24))
SIGNING_SECRET = "whsec_" + base64.b64encode(SIGNING_KEY).decode()


def make_channel(url: str, *, allow_private: bool = True, secret: bytes | None = SIGNING_KEY) -> Channel:
    return Channel(name="hook", kind="webhook", url=url, secret=secret, allow_private=allow_private)


def send_message(where: Channel, webhooks: Webhooks | None = None, at: int | None = None) -> None:
    at = int(time.time()) if at is None else at
    asyncio.run((webhooks or Webhooks(timeout=20)).send(where, "msg_1", at, b'{"type": "x"}'))


def get_delivery_error(where: Channel, webhooks: Webhooks | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as error:
        send_message(where, webhooks)
    return error.value


# Signatures.


def test_the_receivers_own_library_finds_the_signature_right(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url))
    (request,) = receiver.wait(1)
    assert request.line == "POST /hook HTTP/1.1"
    assert request.headers["webhook-id"] == "msg_1"
    assert Webhook(SIGNING_SECRET).verify(request.body, request.headers) == {"type": "x"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SIGNING_SECRET).verify(request.body + b" ", request.headers)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.binary(), st.binary(min_size=24))
def test_it_finds_every_signature_right(notice_id: str, body: bytes, key: bytes) -> None:
    headers = sign_headers(notice_id, int(time.time()), b'"%s"' % body.hex().encode(), key)
    Webhook(key).verify(b'"%s"' % body.hex().encode(), headers)


def test_without_a_secret_nothing_is_signed(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url, secret=None))
    (request,) = receiver.wait(1)
    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == "msg_1"


def test_a_name_and_a_password_in_the_address_are_sent_as_such(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url.replace("127", "me:p%40ss@127")))
    (request,) = receiver.wait(1)
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


# Answers.


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_success_is_one(receiver: WebhookReceiver, status: int) -> None:
    receiver.default_response = make_response(status, b"")
    send_message(make_channel(receiver.url))


@pytest.mark.parametrize("status", [100 + 200, 400, 404, 429, 500, 503])
def test_anything_else_is_none(receiver: WebhookReceiver, status: int) -> None:
    receiver.default_response = make_response(status)
    assert f"127.0.0.1 answered {status}" in str(get_delivery_error(make_channel(receiver.url)))


def test_a_receiver_that_is_gone_says_so(receiver: WebhookReceiver) -> None:
    receiver.default_response = make_response(410)
    assert get_delivery_error(make_channel(receiver.url)).is_gone


def test_redirects_lead_nowhere(receiver: WebhookReceiver) -> None:
    receiver.default_response = make_response(307, location="http://127.0.0.1:1/")
    assert "answered 307, and redirects are not followed" in str(get_delivery_error(make_channel(receiver.url)))
    assert len(receiver.received) == 1


@pytest.mark.parametrize("way", ["hang", "trickle"])
def test_who_does_not_answer_is_not_waited_for(receiver: WebhookReceiver, way: str) -> None:
    receiver.default_response = getattr(receiver, way)
    began = time.monotonic()
    assert "did not answer within" in str(get_delivery_error(make_channel(receiver.url), Webhooks(timeout=0.6)))
    assert time.monotonic() - began < 5


def test_an_answer_without_an_end_is_not_read(receiver: WebhookReceiver) -> None:
    receiver.default_response = receiver.flood
    send_message(make_channel(receiver.url))


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"\x00\xff\x1b[31mgarbage\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 99999 x\r\n\r\n"]
)
def test_garbage_is_no_answer_and_colours_no_terminal(receiver: WebhookReceiver, answer: bytes) -> None:
    receiver.default_response = answer
    why = str(get_delivery_error(make_channel(receiver.url)))
    assert why.isprintable()
    assert len(why) < 300


def test_nobody_there_is_said_so() -> None:
    why = str(get_delivery_error(make_channel("http://127.0.0.1:1/VerySecret?token=VerySecret")))
    assert why.startswith("127.0.0.1: ")
    assert "VerySecret" not in why


@pytest.mark.parametrize(("answer", "why"), [(make_response(200), "127.0.0.1: "), (None, "127.0.0.1")])
def test_tls_where_none_is_spoken_is_a_sentence(receiver: WebhookReceiver, answer: bytes | None, why: str) -> None:
    receiver.greeting = answer
    where = make_channel(receiver.url.replace("http", "https"))
    assert str(get_delivery_error(where, Webhooks(timeout=1))).startswith(why)


def test_a_name_that_nobody_has_is_said_so() -> None:
    async def none(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    why = str(get_delivery_error(make_channel("https://nobody.example/"), Webhooks(resolve=none)))
    assert why == "nobody.example: Name or service not known"


# Where they may lead.

PRIVATE_ADDRESSES = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "100.64.0.1",
           "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"]  # fmt: skip
FORBIDDEN_ADDRESSES = ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1",
"0.0.0.0",
         "::", "255.255.255.255", "240.0.0.1", "", "localhost", "1.2.3"]  # fmt: skip
PUBLIC_ADDRESSES = ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_a_private_address_takes_permission(address: str) -> None:
    assert (is_permitted(address, allow_private=False), is_permitted(address, allow_private=True)) == (False, True)


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_some_addresses_are_never_permitted(address: str) -> None:
    assert (is_permitted(address, allow_private=False), is_permitted(address, allow_private=True)) == (False, False)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_public_address_is_permitted(address: str) -> None:
    assert is_permitted(address, allow_private=False)


@given(st.ip_addresses())
def test_what_is_not_global_is_not_permitted(address: object) -> None:
    if not address.is_global:  # type: ignore[attr-defined]
        # But for those that stand for an address of the older protocol, which is judged in their place.
        mapped = is_permitted(str(address), allow_private=False)
        assert not mapped or str(address).startswith(("64:ff9b:", "2001:", "2002:", "::ffff:"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1", "[::ffff:7f00:1]"]
)
def test_this_machine_is_not_reached_by_whatever_name(receiver: WebhookReceiver, host: str) -> None:
    assert isinstance(
        get_delivery_error(make_channel(f"http://{host}:{receiver.port}/", allow_private=False)), DeliveryError
    )
    assert receiver.received == []


class RecordingTransport(httpx.AsyncBaseTransport):
    """Notes the requests that it is given."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(204)


class FakeResolver:
    """Resolves a name to other addresses each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.queries: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.queries.append((host, port))
        return self.answers.pop(0)


def test_the_connection_is_made_to_the_address_that_was_judged() -> None:
    names, seen = FakeResolver(["1.1.1.1"], ["127.0.0.1"]), RecordingTransport()
    send_message(
        make_channel("https://hooks.example.org/a?b=c", allow_private=False), Webhooks(resolve=names, transport=seen)
    )
    (request,) = seen.requests
    assert str(request.url) == "https://1.1.1.1/a?b=c"
    assert request.headers["host"] == "hooks.example.org"
    assert request.extensions["sni_hostname"] == "hooks.example.org"
    assert names.queries == [("hooks.example.org", 443)]


def test_a_name_that_becomes_a_private_one_is_refused_then() -> None:
    names, seen = FakeResolver(["1.1.1.1"], ["127.0.0.1"]), RecordingTransport()
    webhooks, where = Webhooks(resolve=names, transport=seen), make_channel("https://h.example/", allow_private=False)
    send_message(where, webhooks)
    assert "h.example is 127.0.0.1, which a webhook may not lead to" in str(get_delivery_error(where, webhooks))
    assert len(seen.requests) == 1


def test_one_private_address_among_others_is_enough_to_refuse() -> None:
    names, seen = FakeResolver(["1.1.1.1", "10.0.0.1"]), RecordingTransport()
    where = make_channel("https://h.example/", allow_private=False)
    assert "h.example is 10.0.0.1" in str(get_delivery_error(where, Webhooks(resolve=names, transport=seen)))
    assert seen.requests == []


def test_a_name_is_resolved_once_and_what_it_stood_for_is_reached(receiver: WebhookReceiver) -> None:
    names = FakeResolver(["127.0.0.1"])
    send_message(make_channel(f"http://bücher.example:{receiver.port}/x"), Webhooks(resolve=names, timeout=20))
    (request,) = receiver.wait(1)
    assert request.headers["host"] == f"xn--bcher-kva.example:{receiver.port}"
    assert names.queries == [("xn--bcher-kva.example", receiver.port)]


def test_where_one_address_is_dead_the_next_is_tried(receiver: WebhookReceiver) -> None:
    send_message(
        make_channel(f"http://h.example:{receiver.port}/"),
        Webhooks(resolve=FakeResolver(["127.0.0.2", "127.0.0.1"]), timeout=20),
    )
    assert len(receiver.wait(1)) == 1


def test_proxies_of_the_environment_are_not_used(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    send_message(make_channel(receiver.url))
    assert len(receiver.wait(1)) == 1
