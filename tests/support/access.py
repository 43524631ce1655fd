"""Every route with the access that each kind of key has, and credentials that end while a request is in flight."""

from __future__ import annotations

import inspect
import json
import threading
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.dashboard.static_files import STATIC_DIGEST
from progressbar_tracker.server.models import credential_digest
from progressbar_tracker.server.mutations import SaveKey, SaveSession
from progressbar_tracker.server.routes import ROUTES
from tests.support.connections import RawConnection, encode_request
from tests.support.server import make_legacy_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import httpx

    from progressbar_tracker.server.http.route import Route
    from progressbar_tracker.server.models import KeyRecord
    from progressbar_tracker.server.mutations import Write
    from tests.support.server import RunningServer

HOLD_SECONDS: Final = 30.0

PRINCIPAL_NAMES: Final = ("guest", "unknown", "revoked", "expired", "share", "read", "own", "other", "admin")
"""``guest`` sends no key, ``share`` a share's token as a key. ``own`` (the owner) and ``other`` are write keys."""

KEYLESS_STATUSES: Final = dict.fromkeys(("guest", "unknown", "revoked", "expired", "share"), 401)


class Expected(NamedTuple):
    """The path and body of a request, and the status for each principal."""

    path: str
    body: dict[str, object] | None
    statuses: dict[str, int]


def for_everyone(status: int) -> dict[str, int]:
    return dict.fromkeys(PRINCIPAL_NAMES, status)


def for_key_holders(status: int) -> dict[str, int]:
    return KEYLESS_STATUSES | dict.fromkeys(("read", "own", "other", "admin"), status)


def for_writers(status: int) -> dict[str, int]:
    return for_key_holders(status) | {"read": 403}


OWNER_STATUSES: Final = for_writers(200) | {"other": 403}
ADMIN_STATUSES: Final = for_key_holders(403) | {"admin": 200}
PAGE_STATUSES: Final = for_key_holders(200) | dict.fromkeys(KEYLESS_STATUSES, 303)

PUSH_FIELDS: Final = {
    "endpoint": "https://push.example.org/{new}",
    "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "auth": "BTBZMqHH6r4Tts7J_aSIgg",
}
"""The browser of the example in RFC 8291."""

# Placeholders: {id} is an item of the key "own", {ended} one that has left the board, {new} a free id. {schedule} is a
# schedule of the key "own". {ping} is a ping token, {ping_id} its id, and {pinged} an id that it may ping.
# {key_id} is a new key, {share} the token of a share of the item, and {share_id} its id. {subscription_id} is a push
# subscription of the key "admin".
ACCESS_MATRIX: Final = {
    ("GET", "/progress"): Expected("/progress", None, for_key_holders(200)),
    ("POST", "/progress"): Expected("/progress", make_legacy_item("{new}"), for_writers(201)),
    ("PUT", "/progress"): Expected("/progress", make_legacy_item("{id}"), OWNER_STATUSES),
    ("DELETE", "/progress"): Expected("/progress?id={id}", None, OWNER_STATUSES),
    ("GET", "/api/key-info"): Expected("/api/key-info", None, for_key_holders(200)),
    ("POST", "/api/v1/items:batch"): Expected("/api/v1/items:batch", {"ops": []}, for_key_holders(200)),
    ("POST", "/api/v1/items/{id:path}:stop"): Expected("/api/v1/items/{id}:stop", {"run_id": "r"}, OWNER_STATUSES),
    ("GET", "/api/v1/items"): Expected("/api/v1/items", None, for_key_holders(200)),
    ("GET", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", None, for_key_holders(200)),
    ("PUT", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", {"run_id": "taken over"}, OWNER_STATUSES),
    ("PATCH", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", {"completed": 1}, OWNER_STATUSES),
    ("DELETE", "/api/v1/items/{id:path}"): Expected("/api/v1/items/{id}", None, OWNER_STATUSES),
    ("GET", "/api/v1/schedules"): Expected("/api/v1/schedules", None, for_key_holders(200)),
    ("GET", "/api/v1/schedules/{id:path}"): Expected("/api/v1/schedules/{schedule}", None, for_key_holders(200)),
    ("PUT", "/api/v1/schedules/{id:path}"): Expected("/api/v1/schedules/{schedule}", {"every": 60}, OWNER_STATUSES),
    ("DELETE", "/api/v1/schedules/{id:path}"): Expected("/api/v1/schedules/{schedule}", None, OWNER_STATUSES),
    ("GET", "/api/v1/events"): Expected("/api/v1/events", None, for_key_holders(200)),
    ("GET", "/api/v1/history"): Expected("/api/v1/history", None, for_key_holders(200)),
    ("GET", "/api/v1/history.csv"): Expected("/api/v1/history.csv", None, for_key_holders(200)),
    ("GET", "/api/v1/history.json"): Expected("/api/v1/history.json", None, for_key_holders(200)),
    ("GET", "/api/v1/history:recent"): Expected("/api/v1/history:recent?id={id}", None, for_key_holders(200)),
    ("GET", "/api/v1/history:statistics"): Expected("/api/v1/history:statistics?id={id}", None, for_key_holders(200)),
    ("GET", "/api/v1/timeline"): Expected("/api/v1/timeline", None, for_key_holders(200)),
    ("GET", "/api/v1/curves"): Expected("/api/v1/curves?id={id}", None, for_key_holders(200)),
    ("GET", "/api/v1/tails/{id:path}"): Expected("/api/v1/tails/{id}", None, ADMIN_STATUSES),
    ("GET", "/api/v1/keys"): Expected("/api/v1/keys", None, ADMIN_STATUSES),
    ("POST", "/api/v1/keys"): Expected("/api/v1/keys", {"type": "read", "name": "n"}, ADMIN_STATUSES | {"admin": 201}),
    ("DELETE", "/api/v1/keys/{key_id}"): Expected("/api/v1/keys/{key_id}", None, ADMIN_STATUSES),
    ("POST", "/api/v1/keys/{key_id}/rotate"): Expected("/api/v1/keys/{key_id}/rotate", None, ADMIN_STATUSES),
    ("GET", "/api/v1/sessions"): Expected("/api/v1/sessions", None, ADMIN_STATUSES),
    ("DELETE", "/api/v1/sessions/{session_id}"): Expected("/api/v1/sessions/{session_id}", None, ADMIN_STATUSES),
    ("GET", "/api/v1/shares"): Expected("/api/v1/shares", None, ADMIN_STATUSES),
    ("POST", "/api/v1/shares"): Expected("/api/v1/shares", {"item": "{id}"}, ADMIN_STATUSES | {"admin": 201}),
    ("DELETE", "/api/v1/shares/{share_id}"): Expected("/api/v1/shares/{share_id}", None, ADMIN_STATUSES),
    ("GET", "/api/v1/push/key"): Expected("/api/v1/push/key", None, for_key_holders(200)),
    ("GET", "/api/v1/push/subscriptions"): Expected("/api/v1/push/subscriptions", None, for_key_holders(200)),
    ("POST", "/api/v1/push/subscriptions"): Expected(
        "/api/v1/push/subscriptions", {**PUSH_FIELDS, "events": ["end"], "item": "{id}"}, for_key_holders(201)
    ),
    ("PATCH", "/api/v1/push/subscriptions/{subscription_id}"): Expected(
        "/api/v1/push/subscriptions/{subscription_id}", PUSH_FIELDS, for_key_holders(404) | {"admin": 200}
    ),
    ("DELETE", "/api/v1/push/subscriptions/{subscription_id}"): Expected(
        "/api/v1/push/subscriptions/{subscription_id}", None, for_key_holders(404) | {"admin": 200}
    ),
    ("GET", "/api/v1/ping-tokens"): Expected("/api/v1/ping-tokens", None, ADMIN_STATUSES),
    ("POST", "/api/v1/ping-tokens"): Expected(
        "/api/v1/ping-tokens", {"name": "n", "group": "g"}, ADMIN_STATUSES | {"admin": 201}
    ),
    ("DELETE", "/api/v1/ping-tokens/{token_id}"): Expected("/api/v1/ping-tokens/{ping_id}", None, ADMIN_STATUSES),
    ("GET", "/ping/{token}/{slug}"): Expected("/ping/{ping}/{pinged}", None, for_everyone(200)),
    ("POST", "/ping/{token}/{slug}"): Expected("/ping/{ping}/{pinged}", None, for_everyone(200)),
    ("GET", "/ping/{token}/{slug}/{signal}"): Expected("/ping/{ping}/{pinged}/start", None, for_everyone(200)),
    ("POST", "/ping/{token}/{slug}/{signal}"): Expected("/ping/{ping}/{pinged}/start", None, for_everyone(200)),
    ("GET", "/api/v1/channels"): Expected("/api/v1/channels", None, ADMIN_STATUSES),
    ("POST", "/api/v1/channels/{name}/test"): Expected(
        "/api/v1/channels/none/test", None, ADMIN_STATUSES | {"admin": 404}
    ),
    ("GET", "/s/{token}"): Expected("/s/{share}", None, for_everyone(200)),
    ("GET", "/s/{token}/items"): Expected("/s/{share}/items", None, for_everyone(200)),
    ("GET", "/s/{token}/history"): Expected("/s/{share}/history", None, for_everyone(200)),
    ("GET", "/s/{token}/events"): Expected("/s/{share}/events", None, for_everyone(200)),
    ("GET", "/s/{token}/today"): Expected("/s/{share}/today", None, for_everyone(404)),
    ("GET", "/s/{token}/timeline"): Expected("/s/{share}/timeline", None, for_everyone(404)),
    ("GET", "/badge/{token}.svg"): Expected("/badge/{share}.svg", None, for_everyone(200)),
    ("GET", "/healthz"): Expected("/healthz", None, for_everyone(200)),
    ("GET", "/readyz"): Expected("/readyz", None, for_everyone(200)),
    ("GET", "/metrics"): Expected("/metrics", None, for_key_holders(200)),
    ("GET", "/openapi.json"): Expected("/openapi.json", None, for_everyone(200)),
    ("GET", "/docs"): Expected("/docs", None, for_everyone(200)),
    ("GET", "/problems/{code}"): Expected("/problems/internal-error", None, for_everyone(200)),
    ("GET", "/handbook"): Expected("/handbook", None, for_everyone(200)),
    ("GET", "/handbook/search.json"): Expected("/handbook/search.json", None, for_everyone(200)),
    ("GET", "/handbook/images/{name}"): Expected("/handbook/images/none.png", None, for_everyone(404)),
    ("GET", "/handbook/{part}/{page}"): Expected("/handbook/reference/errors", None, for_everyone(200)),
    ("GET", "/"): Expected("/", None, PAGE_STATUSES),
    ("GET", "/items/{id:path}"): Expected("/items/{ended}", None, PAGE_STATUSES),
    ("GET", "/today"): Expected("/today", None, PAGE_STATUSES),
    ("GET", "/schedules"): Expected("/schedules", None, PAGE_STATUSES),
    ("GET", "/history"): Expected("/history", None, PAGE_STATUSES),
    ("GET", "/keys"): Expected("/keys", None, ADMIN_STATUSES | dict.fromkeys(KEYLESS_STATUSES, 303)),
    ("GET", "/channels"): Expected("/channels", None, ADMIN_STATUSES | dict.fromkeys(KEYLESS_STATUSES, 303)),
    ("GET", "/login"): Expected("/login", None, for_everyone(200)),
    ("POST", "/login"): Expected("/login", None, for_everyone(415)),
    ("POST", "/logout"): Expected("/logout", None, for_everyone(303)),
    ("GET", "/auth/{token}"): Expected("/auth/guessed", None, for_everyone(403)),
    ("HEAD", "/auth/{token}"): Expected("/auth/guessed", None, for_everyone(200)),
    ("GET", "/static/{digest}/{name}"): Expected(f"/static/{STATIC_DIGEST}/app.css", None, for_everyone(200)),
    ("GET", "/static/{name}"): Expected("/static/app.css", None, for_everyone(200)),
    ("GET", "/favicon.ico"): Expected("/favicon.ico", None, for_everyone(200)),
    ("GET", "/manifest.webmanifest"): Expected("/manifest.webmanifest", None, for_everyone(200)),
    ("GET", "/sw.js"): Expected("/sw.js", None, for_everyone(200)),
}

_item_numbers = count()


def create_resources(served: RunningServer, http: httpx.Client, template: object) -> dict[str, str]:
    """Create the item, key, share and session that ``template`` names; return the values of its placeholders."""
    number = next(_item_numbers)
    names = {"{id}": f"item-{number}", "{new}": f"new-{number}", "{ended}": f"ended-{number}"}
    admin = {"X-API-KEY": served.keys["admin"]}
    if "{id}" in str(template) or "{share" in str(template):
        headers = {"X-API-KEY": served.keys["own"]}
        body = {"run_id": "r", "stoppable": True}
        assert http.put(f"/api/v1/items/{names['{id}']}", json=body, headers=headers).status_code == 201
    if "{ended}" in str(template):
        path = f"/api/v1/items/{names['{ended}']}"
        assert http.put(path, json={"status": "failed"}, headers=admin).status_code == 201
        assert http.delete(path, headers=admin).status_code == 200
    if "{key_id}" in str(template):
        key = http.post("/api/v1/keys", json={"type": "write", "name": "n"}, headers=admin).json()
        names["{key_id}"] = key["key_id"]
    if "{share" in str(template):
        share = http.post("/api/v1/shares", json={"item": names["{id}"]}, headers=admin).json()
        names |= {"{share}": share["token"], "{share_id}": share["share_id"]}
    if "{schedule}" in str(template):
        names["{schedule}"] = f"schedule-{number}"
        path, headers = f"/api/v1/schedules/{names['{schedule}']}", {"X-API-KEY": served.keys["own"]}
        assert http.put(path, json={"cron": "0 3 * * *"}, headers=headers).status_code == 201
    if "{subscription_id}" in str(template):
        body = {**PUSH_FIELDS, "endpoint": f"https://push.example.org/{number}", "events": ["end"], "item": "a"}
        subscription = http.post("/api/v1/push/subscriptions", json=body, headers=admin).json()
        names["{subscription_id}"] = subscription["subscription_id"]
    if "{ping" in str(template):
        group = f"group-{number}"
        token = http.post("/api/v1/ping-tokens", json={"name": "n", "group": group}, headers=admin).json()
        names |= {"{ping}": token["token"], "{ping_id}": token["token_id"], "{pinged}": f"pinged-{number}"}
        path = f"/api/v1/schedules/{names['{pinged}']}"
        assert http.put(path, json={"every": 60, "group": group}, headers=admin).status_code == 201
    if "{session_id}" in str(template):
        names["{session_id}"] = served.background.app.services.sessions.begin(served.clock())[1].session_id
    return names


def fill_template(template: object, names: dict[str, str]) -> object:
    """Replace placeholders in a text and in the values of a dictionary."""
    if isinstance(template, dict):
        return {name: fill_template(value, names) for name, value in template.items()}
    if isinstance(template, str):
        for name, value in names.items():
            template = template.replace(name, value)
    return template


def get_state(served: RunningServer) -> object:
    """Return what a request can change: items, schedules, ping tokens, keys, shares, sessions, followers.

    The starts and misses of schedules are not part of it: the monitor notes those of earlier requests later.
    """
    services = served.background.app.services
    ring = [(key.key_id, key.hash, key.revoked_at) for key in services.keyring.all()]
    return (
        services.board.page(),
        [replace(record, started_at=0.0, missed_at=0.0) for record in services.schedules.all()],
        services.credentials.ping_tokens.all(),
        ring,
        services.shares.all(),
        services.sessions.all(served.clock()),
        sorted(
            (record.owner_id, record.subscription_id, record.endpoint)
            for record in services.credentials.subscriptions.all()
        ),
    )


ENDING_KINDS: Final = ("revoked", "rotated", "expired", "demoted", "session ended", "key of the session revoked")
"""How a credential ends. ``rotated`` is the old secret of a rotation, once its overlap is over."""

DECIDED_BY_HEAD: Final = frozenset({
    ("DELETE", "/progress"),
    ("DELETE", "/api/v1/items/{id:path}"),
    ("DELETE", "/api/v1/schedules/{id:path}"),
})  # fmt: skip
"""Writes without a body: the server acts in the event-loop turn that authorizes them."""

REQUEST_BODIES: Final = {("POST", "/api/v1/items:batch"): {"ops": [{"op": "put", "id": "{new}"}]}}
"""Bodies that change something, where the body in the matrix has no effect."""

WRITE_ROUTES: Final = [row for row in ROUTES if row.method not in {"GET", "HEAD"} and row.action != "public"]
READ_ROUTES: Final = [row for row in ROUTES if row.method == "GET" and row.action != "public"]

STORE_READ_ROUTES: Final = [
    row for row in READ_ROUTES
    if row.path.startswith("/api/v1/history")
    or row.path in {"/items/{id:path}", "/channels", "/api/v1/channels", "/api/v1/timeline", "/api/v1/curves",
        "/api/v1/tails/{id:path}"}
]  # fmt: skip
"""Routes that wait for the store before they respond."""


READER_WRITES: Final = {
    ("POST", "/api/v1/push/subscriptions"): 201, ("PATCH", "/api/v1/push/subscriptions/{subscription_id}"): 404,
    ("DELETE", "/api/v1/push/subscriptions/{subscription_id}"): 404,
}  # fmt: skip
"""Writes that a read key may make, with their status for a demoted key."""


def refusal_status(row: Route, ending: str) -> int:
    """Return the status for a credential that has ended in this way; a demoted key still reads."""
    if ending != "demoted":
        return 303 if row.is_page else 401
    if (row.method, row.path) in READER_WRITES:
        return READER_WRITES[row.method, row.path]
    return 200 if row.action in {"read", "any"} else 403


class EndingCredential:
    """An admin's credential that ends on command.

    Args:
        served: The server that creates the credential.
        ending: One of :data:`ENDING_KINDS`.
        ends_at: The server at which it ends; by default the same.
    """

    def __init__(self, served: RunningServer, ending: str, ends_at: RunningServer | None = None) -> None:
        self._ends_at, self._ending = ends_at or served, ending
        self._admin = self._ends_at.client("admin")
        services = served.background.app.services
        expires = served.clock() + 60 if ending == "expired" else None
        secret = served.background.create_key("admin", "ends", expires_at=expires)
        record = services.keyring.find(secret, served.clock())
        assert record is not None
        self.record: KeyRecord = record
        self.headers = {"X-API-KEY": secret}
        if "session" in ending:
            cookie, self._session = services.sessions.begin(
                served.clock(), key_id=record.key_id, credential=credential_digest(record.type, record.hash)
            )
            served.background.store.commit([SaveSession(self._session)]).result(60)
            self.headers = {"Cookie": f"{served.cookie_name}={cookie}", "Sec-Fetch-Site": "same-origin"}
        if self._ends_at is not served:
            known = self._ends_at.background.app.services
            wait_until(lambda: known.keyring.get(record.key_id) is not None)
            if "session" in ending:
                wait_until(lambda: known.sessions.get(self._session.session_id) is not None)

    def end(self) -> None:
        """Return when the server has acknowledged the end."""
        path, clock = f"/api/v1/keys/{self.record.key_id}", self._ends_at.clock
        match self._ending:
            case "revoked" | "key of the session revoked":
                assert self._admin.delete(path).status_code == 200
            case "rotated":
                assert self._admin.post(f"{path}/rotate").status_code == 200
                clock.advance(keys.ROTATION_GRACE_SECONDS + 1)
            case "expired":
                clock.advance(61)
            case "demoted":
                demoted = replace(self.record, type="read")
                services = self._ends_at.background.app.services
                # Without the lock, a reload of the stored keys would overwrite it.
                with services.credentials.keyring_lock:
                    services.store.commit([SaveKey(demoted)]).result(60)
                    services.keyring.add(demoted)
            case _:
                assert self._admin.delete(f"/api/v1/sessions/{self._session.session_id}").status_code == 200


class SplitRequest(RawConnection):
    """A request to a route that sends its head, and its body in parts. A GET request has no body.

    Args:
        served: The server.
        row: The route.
        headers: The credential.
        names: The values of the placeholders in the route's template; by default of new resources.
        chunked: Whether the body is chunked instead of having a length.
    """

    def __init__(
        self, served: RunningServer, row: Route, headers: dict[str, str], names: dict[str, str] | None = None,
        *, chunked: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(served.url, timeout=30.0)
        expected = ACCESS_MATRIX[row.method, row.path]
        body = REQUEST_BODIES.get((row.method, row.path), expected.body)
        if names is None:
            with served.client() as http:
                names = create_resources(served, http, (expected.path, body))
        lines = [f"{name}: {value}" for name, value in headers.items()]
        self.body = b""
        if row.method != "GET":
            self.body = b"{}" if body is None else json.dumps(fill_template(body, names)).encode()
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(self.body)}"
            lines += ["Content-Type: application/json", "Expect: 100-continue", framing]
        self.head = encode_request(row.method, str(fill_template(expected.path, names)), *lines)
        self.response_body = b""
        self._chunked = chunked and bool(self.body)
        self._file = self.socket.makefile("rb")

    def send_body(self, part: bytes, *, last: bool) -> None:
        """Send a part of the body, as a chunk if the body is chunked."""
        if self._chunked:
            part = (b"%x\r\n%s\r\n" % (len(part), part) if part else b"") + (b"0\r\n\r\n" if last else b"")
        self.send(part)

    def read_status(self) -> int:
        """Return the status of the next response, and read its body if its length is known; 0 if none comes.

        The status is 100 when the route waits for the body.
        """
        line, length = self._file.readline(), 0
        if not line:
            return 0
        while (header := self._file.readline().lower()) not in (b"\r\n", b""):
            if header.startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        self.response_body = self._file.read(length)
        return int(line.split()[1])

    def close(self) -> None:
        self._file.close()
        super().close()


class HeldStore:
    """Makes work of a server's store wait until ``released`` is set; ``reached`` is set when the first work waits."""

    def __init__(self, served: RunningServer) -> None:
        self._store = served.background.store
        self.reached, self.released = threading.Event(), threading.Event()

    @contextmanager
    def hold_reads(self) -> Iterator[None]:
        """Hold what requests read of the history, of curves, of samples and of delivery statistics.

        Reads of the server's own work pass: those of the dispatcher, and others that nothing can cancel.
        """
        names = (
            "read_history", "read_timeline", "read_recent_runs", "read_curves", "read_samples", "read_delivery_stats",
            "read_tail",
        )  # fmt: skip
        for name in names:
            setattr(self._store, name, self._hold_read(getattr(self._store, name)))
        try:
            yield
        finally:
            self.released.set()
            for name in names:
                delattr(self._store, name)

    @contextmanager
    def hold_key_commit(self, key_name: str) -> Iterator[None]:
        """Hold the commit of the key with this name."""
        submit = self._store.submit

        def submit_later(writes: Sequence[Write], done: Callable[..., object]) -> None:
            self.released.wait(HOLD_SECONDS)
            submit(writes, done)
            self._store.wake()

        def hold(writes: Sequence[Write], done: Callable[..., object]) -> None:
            if not any(isinstance(write, SaveKey) and write.key.name == key_name for write in writes):
                submit(writes, done)
                return
            self.reached.set()
            threading.Thread(target=submit_later, args=(writes, done), daemon=True).start()

        self._store.submit = hold
        try:
            yield
        finally:
            self.released.set()
            self._store.submit = submit

    def _hold_read(self, read: Callable[..., object]) -> Callable[..., object]:
        is_cancellable = "cancellation" in inspect.signature(read).parameters

        def held(*arguments: object, **named: object) -> object:
            is_dispatcher = threading.current_thread().name == "progressbar-dispatcher"
            if not is_dispatcher and ("cancellation" in named or not is_cancellable):
                self.reached.set()
                self.released.wait(HOLD_SECONDS)
            return read(*arguments, **named)

        return held
