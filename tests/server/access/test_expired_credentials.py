"""A credential that ends while a request is under way: every row of the table of routes, at every point of waiting."""

from __future__ import annotations

import re
import socket
import threading
from itertools import product
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.models import credential_digest
from progressbar_tracker.server.mutations import SaveKey
from progressbar_tracker.server.routes import ROUTES
from tests.support.clock import ManualClock
from tests.support.server import RunningServer

from .test_authorization import ACCESS_MATRIX, create_resources, fill_template, get_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.http.route import Route
    from progressbar_tracker.server.models import KeyRecord

ENDING_KINDS: Final = ("revoked", "rotated", "expired", "demoted", "session ended", "key of the session revoked")
"""How a credential ends. ``rotated`` is the old secret of a rotation, once its overlap is over."""

DECIDED_BY_HEAD: Final = frozenset({
    ("DELETE", "/progress"),
    ("DELETE", "/api/v1/items/{id:path}"),
})  # fmt: skip
"""The rows that change something and read no body: they act in the turn of the loop in which they are authorized."""

REQUEST_BODIES: Final = {("POST", "/api/v1/items:batch"): {"ops": [{"op": "put", "id": "{new}"}]}}
"""In place of the body in the matrix, which has no effect."""

WRITE_ROUTES: Final = [row for row in ROUTES if row.method not in {"GET", "HEAD"} and row.action != "public"]
READ_ROUTES: Final = [row for row in ROUTES if row.method == "GET" and row.action != "public"]


def route_name(row: Route) -> str:
    return f"{row.method} {row.path}"


@pytest.fixture(scope="module")
def ending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of the file."""
    served = RunningServer(tmp_path_factory.mktemp("ending"), ManualClock())
    served.keys["own"] = served.keys["write"]
    yield served
    served.stop()


class Credential:
    """An admin's credential, and the way in which it ends."""

    def __init__(self, served: RunningServer, ending: str) -> None:
        self._served, self._ending = served, ending
        self._admin = served.client("admin")
        expires = served.clock() + 60 if ending == "expired" else None
        secret = served.background.create_key("admin", "ends", expires_at=expires)
        record = served.background.app.services.keyring.find(secret, served.clock())
        assert record is not None
        self.record: KeyRecord = record
        self.headers = {"X-API-KEY": secret}
        if "session" in ending:
            cookie, self.session = served.background.app.services.sessions.begin(
                served.clock(), key_id=record.key_id, credential=credential_digest(record.type, record.hash)
            )
            self.headers = {"Cookie": f"{served.cookie_name}={cookie}", "Sec-Fetch-Site": "same-origin"}

    def end(self) -> None:
        """Return when the end of the credential has been acknowledged."""
        key = f"/api/v1/keys/{self.record.key_id}"
        match self._ending:
            case "revoked" | "key of the session revoked":
                assert self._admin.delete(key).status_code == 200
            case "rotated":
                assert self._admin.post(f"{key}/rotate").status_code == 200
                self._served.clock.advance(keys.ROTATION_GRACE_SECONDS + 1)
            case "expired":
                self._served.clock.advance(61)
            case "demoted":
                demoted = replace(self.record, type="read")
                services = self._served.background.app.services
                with services.credentials.keyring_lock:  # or what the server has just read would take its place
                    services.store.commit([SaveKey(demoted)]).result(20)
                    services.keyring.add(demoted)
            case "session ended":
                assert self._admin.delete(f"/api/v1/sessions/{self.session.session_id}").status_code == 200


def refusal_status(row: Route, ending: str) -> int:
    if ending != "demoted":
        return 303 if row.is_page else 401
    return 200 if row.action in {"read", "any"} else 403


class PendingRequest:
    """A request of which head and body are sent apart."""

    def __init__(
        self, served: RunningServer, row: Route, credential: Credential, names: dict[str, str] | None = None
    ) -> None:
        expected = ACCESS_MATRIX[row.method, row.path]
        body = REQUEST_BODIES.get((row.method, row.path), expected.body)
        if names is None:
            with served.client() as http:
                names = create_resources(served, http, (expected.path, body))
        path, body = fill_template(expected.path, names), fill_template(body, names)
        self.body = b"{}" if body is None else re.sub("'", '"', str(body)).encode()
        address = urlsplit(served.background.url)
        self._socket = socket.create_connection((address.hostname, address.port), 30)
        lines = [f"{row.method} {path} HTTP/1.1", "Host: localhost", "Expect: 100-continue"]
        lines += [f"{name}: {value}" for name, value in credential.headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}", "", ""]
        self.send("\r\n".join(lines).encode())

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def status(self) -> int:
        """Return the next status: 100 once the route waits for the body."""
        said = b""
        while b"\r\n" not in said:
            said += self._socket.recv(1)
        while not said.endswith(b"\r\n\r\n"):
            said += self._socket.recv(1)
        return int(said.split()[1])

    def final_status(self) -> int:
        """Return the status of the answer: a route that looks whether the client is there asks for its body, too."""
        status = self.status()
        return self.status() if status == 100 else status

    def close(self) -> None:
        self._socket.close()


def test_every_row_that_changes_something_is_known_here() -> None:
    """A new route is in the test below by itself; one that acts by its head has to be named."""
    assert {(row.method, row.path) for row in WRITE_ROUTES} >= DECIDED_BY_HEAD | REQUEST_BODIES.keys()


@pytest.mark.parametrize(
    ("row", "how"), list(product(WRITE_ROUTES, ENDING_KINDS)), ids=lambda value: getattr(value, "path", value)
)
def test_write_whose_credential_ends_during_the_body_is_refused(ending: RunningServer, row: Route, how: str) -> None:
    credential = Credential(ending, how)
    asking = PendingRequest(ending, row, credential)
    try:
        first = asking.status()
        assert (first != 100) is ((row.method, row.path) in DECIDED_BY_HEAD)
        credential.end()
        before = get_state(ending)
        if first == 100:
            for byte in asking.body[:-1]:
                asking.send(bytes([byte]))
            asking.send(asking.body[-1:])
            assert asking.status() == refusal_status(row, how)
        assert get_state(ending) == before
    finally:
        asking.close()


class HeldReads:
    """Makes the reads of a store wait."""

    def __init__(self, served: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        store = served.background.store
        for name in ("read_history", "read_samples", "read_delivery_stats"):
            monkeypatch.setattr(store, name, self._holding(getattr(store, name)))

    def _holding(self, read: Callable[..., object]) -> Callable[..., object]:
        def held(*arguments: object, **named: object) -> object:
            self.reached.set()
            assert self.released.wait(30)
            return read(*arguments, **named)

        return held


STORE_READ_ROUTES: Final = [
    row for row in READ_ROUTES
    if "history" in row.path or row.path in {"/", "/items/{id:path}", "/channels", "/api/v1/channels"}
]  # fmt: skip
"""The rows that wait for the store before they answer."""


@pytest.mark.parametrize(
    ("row", "how"), list(product(STORE_READ_ROUTES, ENDING_KINDS)), ids=lambda value: getattr(value, "path", value)
)
def test_read_whose_credential_ends_during_the_search_shows_nothing(
    ending: RunningServer, monkeypatch: pytest.MonkeyPatch, row: Route, how: str
) -> None:
    credential = Credential(ending, how)
    held = HeldReads(ending, monkeypatch)
    asking = PendingRequest(ending, row, credential)
    assert held.reached.wait(20)
    credential.end()
    held.released.set()
    assert asking.final_status() == refusal_status(row, how)
    asking.close()


@pytest.mark.parametrize("row", READ_ROUTES, ids=route_name)
def test_read_that_waits_for_the_store_is_known_here(
    ending: RunningServer, monkeypatch: pytest.MonkeyPatch, row: Route
) -> None:
    held = HeldReads(ending, monkeypatch)
    asking = PendingRequest(ending, row, Credential(ending, "revoked"))
    if row in STORE_READ_ROUTES:
        assert held.reached.wait(20)
        held.released.set()
        asking.status()
    else:
        asking.status()
        assert not held.reached.is_set()
    asking.close()


@pytest.mark.parametrize("path", ["/s/{token}", "/badge/{token}.svg"])
def test_share_that_is_revoked_during_the_search_shows_nothing(
    ending: RunningServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    admin = ending.client("admin")
    made = admin.post("/api/v1/shares", json={"group": "g"}).json()
    held = HeldReads(ending, monkeypatch)
    status: list[int] = []
    asking = threading.Thread(
        target=lambda: status.append(ending.client().get(path.replace("{token}", made["token"])).status_code)
    )
    asking.start()
    assert held.reached.wait(20)
    assert admin.delete(f"/api/v1/shares/{made['share_id']}").status_code == 200
    held.released.set()
    asking.join(20)
    assert status == [404]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_change_of_a_key_that_waits_for_another_is_authorized_after_it(
    ending: RunningServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Changes of keys are carried out one at a time, and each may take as long as the disk does."""
    services = ending.background.app.services
    reached, go = threading.Event(), threading.Event()
    submit = services.store.submit

    def slow(writes, done):
        if any(isinstance(write, SaveKey) and write.key.name == "slow" for write in writes):
            reached.set()
            threading.Thread(target=lambda: (go.wait(30), submit(writes, done), services.store.wake())).start()
        else:
            submit(writes, done)

    monkeypatch.setattr(services.store, "submit", slow)
    names = create_resources(ending, ending.client(), "{key_id}")
    credential = Credential(ending, "expired")
    first = threading.Thread(
        target=lambda: ending.client("admin").post("/api/v1/keys", json={"type": "read", "name": "slow"})
    )
    first.start()
    assert reached.wait(20)
    row = next(row for row in WRITE_ROUTES if row.method == method and row.path.startswith("/api/v1/keys"))
    queued = PendingRequest(ending, row, credential, names)
    assert queued.status() == 100
    queued.send(queued.body)
    assert ending.client().get("/healthz").status_code == 200  # which comes after it
    credential.end()
    count = len(services.keyring)
    go.set()
    assert queued.status() == 401
    first.join(20)
    assert len(services.keyring) == count + 1
    queued.close()
