"""A local push service, and the browsers that subscribe at it: they decrypt messages and verify signatures."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, NamedTuple

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid.jwt import decode as verify_token

from progressbar_tracker.server.notifications.dispatcher import PUSH_LABEL
from tests.support.webhook_receiver import ReceivedRequest, WebhookReceiver

if TYPE_CHECKING:
    import httpx

    from tests.support.server import RunningServer


def encode_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class PushMessage(NamedTuple):
    """A decrypted message with the headers of its request, and the verified claims of its signature."""

    document: dict[str, object]
    headers: dict[str, str]
    claims: dict[str, object]
    public_key: str


class Browser:
    """A browser that is subscribed at a push service.

    Args:
        origin: The origin of the push service.
    """

    def __init__(self, origin: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)
        self.path = f"/push/{secrets.token_urlsafe(12)}"
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.fields = {
            "endpoint": f"{origin}{self.path}", "p256dh": encode_base64(point), "auth": encode_base64(self._auth),
        }  # fmt: skip

    def decrypt(self, body: bytes) -> bytes:
        return http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth, version="aes128gcm")


class PushService(WebhookReceiver):
    """A push service of scripted responses; by default it accepts each message."""

    def __init__(self) -> None:
        super().__init__()
        self.origin = f"http://127.0.0.1:{self.port}"
        self._browsers: dict[str, Browser] = {}

    def subscribe(self) -> Browser:
        """Return a browser that is newly subscribed."""
        browser = Browser(self.origin)
        self._browsers[browser.path] = browser
        return browser

    def wait_for_messages(self, count: int) -> list[PushMessage]:
        """Wait until ``count`` messages have arrived; return all of them, decrypted and verified."""
        return [self._open(request) for request in self.wait(count, 60.0)]

    def list_messages(self, browser: Browser) -> list[PushMessage]:
        """Return the messages to a browser that have arrived."""
        return [self._open(request) for request in list(self.received) if request.line.split()[1] == browser.path]

    def _open(self, request: ReceivedRequest) -> PushMessage:
        method, path, _ = request.line.split()
        assert method == "POST"
        assert request.headers["content-encoding"] == "aes128gcm"
        assert len(request.body) <= 4096
        scheme, _, parameters = request.headers["authorization"].partition(" ")
        assert scheme == "vapid"
        values = dict(part.split("=", 1) for part in parameters.split(","))
        claims = verify_token(values["t"], values["k"])
        assert claims["aud"] == self.origin
        document = json.loads(self._browsers[path].decrypt(request.body))
        return PushMessage(document, request.headers, claims, values["k"])


def follow(
    served: RunningServer,
    browser: Browser,
    key: str | httpx.Client = "read",
    events: tuple[str, ...] = ("end",),
    **subject: str,
) -> dict[str, object]:
    """Subscribe a browser to an item, a run or a group, with a key or a signed-in client; return the subscription."""
    client = served.client(key) if isinstance(key, str) else key
    assert client.get("/api/v1/push/key").status_code == 200
    reply = client.post("/api/v1/push/subscriptions", json={**browser.fields, "events": list(events), **subject})
    assert reply.status_code in (200, 201), reply.text
    result: dict[str, object] = reply.json()
    return result


def put_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    assert served.client("write").put(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).is_success


def patch_item(served: RunningServer, item_id: str = "a", **fields: object) -> None:
    assert served.client("write").patch(f"/api/v1/items/{item_id}", json={"run_id": "r", **fields}).is_success


def list_own(client: httpx.Client) -> list[dict[str, object]]:
    result: list[dict[str, object]] = client.get("/api/v1/push/subscriptions").json()["subscriptions"]
    return result


def get_counts(served: RunningServer) -> tuple[int, int, int]:
    """Return the delivered messages, the failed attempts, and the abandoned messages."""
    counts = served.background.app.services.notifier.dispatcher.counts.get(PUSH_LABEL)
    return (0, 0, 0) if counts is None else (counts.delivered, counts.failed, counts.given_up)
