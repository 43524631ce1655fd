"""Webhooks: signatures, permitted addresses, and failures within the timeout."""

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


def send_message(channel: Channel, webhooks: Webhooks | None = None, at: int | None = None) -> None:
    at = int(time.time()) if at is None else at
    asyncio.run((webhooks or Webhooks(timeout=20)).send(channel, "msg_1", at, b'{"type": "x"}'))


def get_delivery_error(channel: Channel, webhooks: Webhooks | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as error:
        send_message(channel, webhooks)
    return error.value


# Signatures.


def test_signature_is_valid_for_the_reference_library(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url))
    (request,) = receiver.wait(1)
    assert request.line == "POST /hook HTTP/1.1"
    assert request.headers["webhook-id"] == "msg_1"
    assert Webhook(SIGNING_SECRET).verify(request.body, request.headers) == {"type": "x"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SIGNING_SECRET).verify(request.body + b" ", request.headers)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.binary(), st.binary(min_size=24))
def test_signature_of_any_message_is_valid(notice_id: str, body: bytes, key: bytes) -> None:
    headers = sign_headers(notice_id, int(time.time()), b'"%s"' % body.hex().encode(), key)
    Webhook(key).verify(b'"%s"' % body.hex().encode(), headers)


def test_webhook_without_secret_is_not_signed(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url, secret=None))
    (request,) = receiver.wait(1)
    assert "webhook-signature" not in request.headers
    assert request.headers["webhook-id"] == "msg_1"


def test_userinfo_of_the_url_becomes_basic_auth(receiver: WebhookReceiver) -> None:
    send_message(make_channel(receiver.url.replace("127", "me:p%40ss@127")))
    (request,) = receiver.wait(1)
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


# Responses.


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_status_delivers_the_message(receiver: WebhookReceiver, status: int) -> None:
    receiver.default_response = make_response(status, b"")
    send_message(make_channel(receiver.url))


@pytest.mark.parametrize("status", [100 + 200, 400, 404, 429, 500, 503])
def test_error_status_fails_the_delivery(receiver: WebhookReceiver, status: int) -> None:
    receiver.default_response = make_response(status)
    assert f"127.0.0.1 answered {status}" in str(get_delivery_error(make_channel(receiver.url)))


def test_status_410_unsubscribes_the_receiver(receiver: WebhookReceiver) -> None:
    receiver.default_response = make_response(410)
    assert get_delivery_error(make_channel(receiver.url)).is_gone


def test_redirect_is_not_followed(receiver: WebhookReceiver) -> None:
    receiver.default_response = make_response(307, location="http://127.0.0.1:1/")
    assert "answered 307, and redirects are not followed" in str(get_delivery_error(make_channel(receiver.url)))
    assert len(receiver.received) == 1


@pytest.mark.parametrize("way", ["hang", "trickle"])
def test_slow_receiver_times_out(receiver: WebhookReceiver, way: str) -> None:
    receiver.default_response = getattr(receiver, way)
    started_at = time.monotonic()
    assert "did not answer within" in str(get_delivery_error(make_channel(receiver.url), Webhooks(timeout=0.6)))
    assert time.monotonic() - started_at < 30


def test_endless_response_body_is_not_read(receiver: WebhookReceiver) -> None:
    receiver.default_response = receiver.flood
    send_message(make_channel(receiver.url))


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"\x00\xff\x1b[31mgarbage\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 99999 x\r\n\r\n"]
)
def test_garbage_response_error_is_printable(receiver: WebhookReceiver, answer: bytes) -> None:
    receiver.default_response = answer
    message = str(get_delivery_error(make_channel(receiver.url)))
    assert message.isprintable()
    assert len(message) < 300


def test_refused_connection_error_contains_no_secret() -> None:
    message = str(get_delivery_error(make_channel("http://127.0.0.1:1/VerySecret?token=VerySecret")))
    assert message.startswith("127.0.0.1: ")
    assert "VerySecret" not in message


@pytest.mark.parametrize(("answer", "prefix"), [(make_response(200), "127.0.0.1: "), (None, "127.0.0.1")])
def test_tls_to_a_plain_port_error_is_one_sentence(
    receiver: WebhookReceiver, answer: bytes | None, prefix: str
) -> None:
    receiver.greeting = answer
    channel = make_channel(receiver.url.replace("http", "https"))
    assert str(get_delivery_error(channel, Webhooks(timeout=1))).startswith(prefix)


def test_unknown_host_error_names_the_host() -> None:
    async def none(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    message = str(get_delivery_error(make_channel("https://nobody.example/"), Webhooks(resolve=none)))
    assert message == "nobody.example: Name or service not known"


# Permitted addresses.

PRIVATE_ADDRESSES = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "100.64.0.1",
           "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::"]  # fmt: skip
FORBIDDEN_ADDRESSES = ["169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1",
"0.0.0.0",
         "::", "255.255.255.255", "240.0.0.1", "", "localhost", "1.2.3"]  # fmt: skip
PUBLIC_ADDRESSES = ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_address_is_permitted_only_on_request(address: str) -> None:
    assert (is_permitted(address, allow_private=False), is_permitted(address, allow_private=True)) == (False, True)


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_forbidden_address_is_never_permitted(address: str) -> None:
    assert (is_permitted(address, allow_private=False), is_permitted(address, allow_private=True)) == (False, False)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_address_is_permitted(address: str) -> None:
    assert is_permitted(address, allow_private=False)


@given(st.ip_addresses())
def test_address_that_is_not_global_is_not_permitted(address: object) -> None:
    if not address.is_global:  # type: ignore[attr-defined]
        # For these prefixes, the embedded IPv4 address decides.
        permitted = is_permitted(str(address), allow_private=False)
        assert not permitted or str(address).startswith(("64:ff9b:", "2001:", "2002:", "::ffff:"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1", "[::ffff:7f00:1]"]
)
def test_no_spelling_of_this_machine_is_permitted(receiver: WebhookReceiver, host: str) -> None:
    assert isinstance(
        get_delivery_error(make_channel(f"http://{host}:{receiver.port}/", allow_private=False)), DeliveryError
    )
    assert receiver.received == []


class RecordingTransport(httpx.AsyncBaseTransport):
    """Records requests, and answers 204."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(204)


class FakeResolver:
    """Returns the next answer for each query."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.queries: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.queries.append((host, port))
        return self.answers.pop(0)


def test_connection_uses_the_checked_address() -> None:
    resolver, transport = FakeResolver(["1.1.1.1"], ["127.0.0.1"]), RecordingTransport()
    send_message(
        make_channel("https://hooks.example.org/a?b=c", allow_private=False),
        Webhooks(resolve=resolver, transport=transport),
    )
    (request,) = transport.requests
    assert str(request.url) == "https://1.1.1.1/a?b=c"
    assert request.headers["host"] == "hooks.example.org"
    assert request.extensions["sni_hostname"] == "hooks.example.org"
    assert resolver.queries == [("hooks.example.org", 443)]


def test_rebound_host_name_is_refused() -> None:
    resolver, transport = FakeResolver(["1.1.1.1"], ["127.0.0.1"]), RecordingTransport()
    webhooks, channel = (
        Webhooks(resolve=resolver, transport=transport),
        make_channel("https://h.example/", allow_private=False),
    )
    send_message(channel, webhooks)
    assert "h.example is 127.0.0.1, which a webhook may not lead to" in str(get_delivery_error(channel, webhooks))
    assert len(transport.requests) == 1


def test_one_private_address_refuses_the_host() -> None:
    resolver, transport = FakeResolver(["1.1.1.1", "10.0.0.1"]), RecordingTransport()
    channel = make_channel("https://h.example/", allow_private=False)
    assert "h.example is 10.0.0.1" in str(get_delivery_error(channel, Webhooks(resolve=resolver, transport=transport)))
    assert transport.requests == []


def test_host_name_is_resolved_once_per_attempt(receiver: WebhookReceiver) -> None:
    resolver = FakeResolver(["127.0.0.1"])
    send_message(make_channel(f"http://bücher.example:{receiver.port}/x"), Webhooks(resolve=resolver, timeout=20))
    (request,) = receiver.wait(1)
    assert request.headers["host"] == f"xn--bcher-kva.example:{receiver.port}"
    assert resolver.queries == [("xn--bcher-kva.example", receiver.port)]


def test_next_address_is_tried_after_a_failed_connection(receiver: WebhookReceiver) -> None:
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
