"""Ends credentials while requests are under way.

Run it with ``python -m tests.security.fuzz_credentials [--minutes N] [--seed S]``.

A real server is asked over sockets. Each round takes a route, a credential and a way in which it ends, and holds the
request at one point: in its head, after it, at a byte or a chunk of its body, in the store's work, in the queue of key
changes, or in the response. There the credential ends, the end is acknowledged, and the request goes on.

The oracle: what the server decides after the acknowledgement is refused and leaves no trace. A route that acts by its
head has decided once it has answered, and one whose commit is held has decided before. What is shown to a client, of a
stream too, ends within :data:`ENDING_SECONDS`. The next request with the credential is refused in any case.

With ``--postgres URL`` there are two servers on an empty database, and each credential ends at the other one. There,
changes of keys, sessions and shares are refused at once, and all else as soon as the server has heard of it.

The exit code is 1 if an unauthorized action was found; the rounds that lead to it are printed with their seed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.keys import credential_digest
from progressbar_tracker.server.mutations import SaveKey, SaveSession
from progressbar_tracker.server.routes import ROUTES
from tests.server.access.test_authorization import ACCESS_MATRIX, create_resources, fill_template, get_state
from tests.server.access.test_expired_credentials import (
    DECIDED_BY_HEAD,
    ENDING_KINDS,
    REQUEST_BODIES,
    STORE_READ_ROUTES,
    refusal_status,
)
from tests.support.clock import ManualClock
from tests.support.server import RunningServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.http.route import Route

ROUNDS_PER_SERVER: Final = 150
"""A server remembers at most 1,000 keys, and each round makes some."""

ENDING_SECONDS: Final = 3.0
TIMEOUT_SECONDS: Final = 30.0

PROTECTED_ROUTES: Final = [row for row in ROUTES if row.action != "public" and row.method != "HEAD"]
KEY_ROUTES: Final = [row for row in PROTECTED_ROUTES if row.method != "GET" and row.path.startswith("/api/v1/keys")]
STREAM_ROUTES: Final = [row for row in PROTECTED_ROUTES if row.path == "/api/v1/events"]


class UnauthorizedError(Exception):
    """The server did what the credential did not allow any more."""


class FuzzRound(NamedTuple):
    """One round: what is asked, how the credential ends, and where."""

    row: Route
    ending: str
    place: str
    chunked: bool
    at: float
    shared: bool

    def __str__(self) -> str:
        framing = "chunked" if self.chunked else "with a length"
        return f"{self.row.method} {self.row.path} {framing}: {self.ending} {self.place} (at {self.at:.3f})"


def draw_round(chance: random.Random, *, shared: bool) -> FuzzRound:
    """Return a round by chance."""
    places = ["in the head", "after the head", "in the body", "in the body", "in the body"]
    places += [] if shared else ["in the store", "in the queue", "in the response"]
    place = chance.choice(places)
    rows = {"in the store": STORE_READ_ROUTES, "in the queue": KEY_ROUTES, "in the response": STREAM_ROUTES}.get(
        place, PROTECTED_ROUTES
    )
    ending = chance.choice(ENDING_KINDS)
    if place == "in the queue" and "session" not in ending:
        ending = chance.choice(("expired", "demoted"))  # the others are changes of keys, and would wait in the queue
    elif place == "in the queue":
        ending = "session ended"
    return FuzzRound(chance.choice(rows), ending, place, chance.random() < 0.4, chance.random(), shared)


class EndingCredential:
    """An admin's credential at one server, which ends at another, or at the same."""

    def __init__(self, at: RunningServer, ends_at: RunningServer, ending: str) -> None:
        self._ends_at, self._ending = ends_at, ending
        self._admin = ends_at.client("admin")
        expires = at.clock() + 60 if ending == "expired" else None
        secret = at.background.create_key("admin", "victim", expires_at=expires)
        record = at.background.app.services.keyring.find(secret, at.clock())
        assert record is not None
        self.record = record
        self.headers = {"X-API-KEY": secret}
        if "session" in ending:
            cookie, self._session = at.background.app.services.sessions.begin(
                at.clock(), key_id=record.key_id, credential=credential_digest(record.type, record.hash)
            )
            at.background.store.commit([SaveSession(self._session)]).result(20)
            self.headers = {"Cookie": f"{at.cookie_name}={cookie}", "Sec-Fetch-Site": "same-origin"}
        if ends_at is not at:
            known = ends_at.background.app.services
            wait_until(lambda: known.keyring.get(record.key_id) is not None)
            if "session" in ending:
                wait_until(lambda: known.sessions.get(self._session.session_id) is not None)

    def end(self) -> None:
        """Return once the end is acknowledged."""
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
                with services.credentials.keyring_lock:  # or what the server has just read would take its place
                    services.store.commit([SaveKey(demoted)]).result(20)
                    services.keyring.add(demoted)
            case _:
                assert self._admin.delete(f"/api/v1/sessions/{self._session.session_id}").status_code == 200


class PartialRequest:
    """A request that is sent in parts over a connection of its own."""

    def __init__(self, at: RunningServer, planned: FuzzRound, victim: EndingCredential, names: dict[str, str]) -> None:
        row = planned.row
        body = REQUEST_BODIES.get((row.method, row.path), ACCESS_MATRIX[row.method, row.path].body)
        path = fill_template(ACCESS_MATRIX[row.method, row.path].path, names)
        self.body = b"{}" if body is None else json.dumps(fill_template(body, names)).encode()
        self._credential = [f"{name}: {value}" for name, value in victim.headers.items()]
        framing = "Transfer-Encoding: chunked" if planned.chunked else f"Content-Length: {len(self.body)}"
        lines = [f"{row.method} {path} HTTP/1.1", "Host: localhost", *self._credential]
        if row.method == "GET":
            self.body = b""
        else:
            lines += ["Content-Type: application/json", "Expect: 100-continue", framing]
        self.head = "\r\n".join([*lines, "", ""]).encode()
        self._chunked = planned.chunked and bool(self.body)
        address = urlsplit(at.background.url)
        self._socket = socket.create_connection((address.hostname, address.port), TIMEOUT_SECONDS)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it may have been refused and cut off
            self._socket.sendall(data)

    def send_body(self, part: bytes, *, last: bool) -> None:
        if self._chunked:
            part = (b"%x\r\n%s\r\n" % (len(part), part) if part else b"") + (b"0\r\n\r\n" if last else b"")
        self.send(part)

    def status(self) -> int:
        """Return the status of the next response, and take its body if its length is known."""
        line, length = self._file.readline(), 0
        if not line:
            return 0
        while (header := self._file.readline().lower()) not in (b"\r\n", b""):
            if header.startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        self.response_bytes = self._file.read(length)
        return int(line.split()[1])

    def is_over_within(self, seconds: float) -> bool:
        """Say whether the response ends."""
        end = time.monotonic() + seconds
        self._socket.settimeout(0.2)
        while time.monotonic() < end:
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return True
            if not more or more.endswith(b"0\r\n\r\n"):
                return True
        return False

    def repeat(self) -> int:
        """Return the status of another request with the same credential."""
        lines = ["GET /api/v1/keys HTTP/1.1", "Host: localhost", "Connection: close", *self._credential, "", ""]
        with socket.create_connection(self._socket.getpeername(), TIMEOUT_SECONDS) as opened:
            opened.sendall("\r\n".join(lines).encode())
            said = b"".join(iter(lambda: opened.recv(65536), b""))
        return int(said.split()[1])

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class HeldStore:
    """Holds what a server does with its store until it may go on."""

    def __init__(self, served: RunningServer) -> None:
        self._store = served.background.store
        self.reached, self.released = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def hold_reads(self) -> Iterator[None]:
        """Hold reads of the history, of samples and of messages."""
        names = ("read_history", "read_samples", "read_delivery_stats")
        for name in names:
            setattr(self._store, name, self._holding(getattr(self._store, name)))
        try:
            yield
        finally:
            self.released.set()
            for name in names:
                delattr(self._store, name)

    @contextlib.contextmanager
    def hold_key_commit(self, wanted: str) -> Iterator[None]:
        """Hold the commit of a key of a name."""
        submit = self._store.submit

        def held(writes, done):
            if not any(isinstance(write, SaveKey) and write.key.name == wanted for write in writes):
                submit(writes, done)
                return
            self.reached.set()

            def later() -> None:
                self.released.wait(TIMEOUT_SECONDS)
                submit(writes, done)
                self._store.wake()

            threading.Thread(target=later, daemon=True).start()

        self._store.submit = held
        try:
            yield
        finally:
            self.released.set()
            del self._store.submit

    def _holding(self, work: Callable[..., object]) -> Callable[..., object]:
        def held(*arguments: object, **named: object) -> object:
            self.reached.set()
            self.released.wait(TIMEOUT_SECONDS)
            return work(*arguments, **named)

        return held


def get_checked_state(served: RunningServer, victim: EndingCredential) -> object:
    """Return what a request may change; the victim itself ends, and its server may hear of that at any time."""
    listed, ring, shares, sessions = get_state(served)
    key_id = victim.record.key_id
    others = [session for session in sessions if session.key_id != key_id]
    return listed, [key for key in ring if key[0] != key_id], shares, others


def play_round(planned: FuzzRound, at: RunningServer, ends_at: RunningServer) -> None:
    """Play a round.

    Raises:
        UnauthorizedError: The server did what it should have refused.
    """
    row, place = planned.row, planned.place
    expected = ACCESS_MATRIX[row.method, row.path]
    with at.client() as http:
        names = create_resources(at, http, (expected.path, REQUEST_BODIES.get((row.method, row.path), expected.body)))
    session = at.background.app.services.sessions.get(names.get("{session_id}", ""))
    if session is not None:
        at.background.store.commit([SaveSession(session)]).result(20)  # or a look at what is stored would end it
    victim = EndingCredential(at, ends_at, planned.ending)
    request = PartialRequest(at, planned, victim, names)
    held = HeldStore(at)

    def end() -> object:
        victim.end()
        if ends_at is not at and not (row.action == "manage" and row.method != "GET"):
            wait_until(lambda: has_observed_end(at, victim))
        return get_checked_state(at, victim)

    try:
        if place == "in the response":
            request.send(request.head)
            if request.status() != 200:
                raise UnauthorizedError("a good credential was refused")
            end()
            demoted = planned.ending == "demoted"
            if not demoted and not request.is_over_within(ENDING_SECONDS):
                raise UnauthorizedError("the stream went on")
        elif place == "in the store":
            with held.hold_reads():
                request.send(request.head)
                if not held.reached.wait(TIMEOUT_SECONDS):
                    raise TimeoutError("the store was not asked")
                end()
                held.released.set()
                check_outcome(planned, request.status(), request, None)
        elif place == "in the queue":
            with held.hold_key_commit("holds"):
                holds = threading.Thread(target=lambda: at.client("admin").post(
                    "/api/v1/keys", json={"type": "read", "name": "holds"}
                ))  # fmt: skip
                holds.start()
                held.reached.wait(TIMEOUT_SECONDS)
                request.send(request.head)
                request.status()
                request.send_body(request.body, last=True)
                at.client().get("/healthz")  # it is asked after the request
                end()
                held.released.set()
                status = request.status()
                holds.join(TIMEOUT_SECONDS)
                check_outcome(planned, status, request, None)
        else:
            play_parts(planned, request, end, lambda: get_checked_state(at, victim))
        again = request.repeat()
        if again not in ({403} if planned.ending == "demoted" else {401}) and ends_at is at:
            raise UnauthorizedError(f"the next request was answered with {again}")
    finally:
        held.released.set()
        request.close()


def has_observed_end(at: RunningServer, victim: EndingCredential) -> bool:
    """Say whether a server has heard of the end of a credential."""
    with at.client(**victim.headers) as http:
        return http.get("/api/v1/keys").status_code != 200


def play_parts(
    planned: FuzzRound, request: PartialRequest, end: Callable[[], object], state_now: Callable[[], object]
) -> None:
    """Send head and body in parts, and end the credential between two of them."""
    row, key = planned.row, (planned.row.method, planned.row.path)
    if planned.place == "in the head":
        cut = 1 + int(planned.at * (len(request.head) - 2))
        request.send(request.head[:cut])
        before = end()
        request.send(request.head[cut:])
        status = request.status()
        # Each operation of a batch is refused by itself. One of several servers looks at what is stored after the body.
        if status == 100 and (refusal_status(row, planned.ending) == 200 or planned.shared):
            request.send_body(request.body, last=True)
            status = request.status()
        if status == 100:
            raise UnauthorizedError("the body was asked for")
        check_outcome(planned, status, request, before, state_now)
        return
    request.send(request.head)
    first = request.status()
    if row.method == "GET" or key in DECIDED_BY_HEAD:
        if first not in {200, 404}:
            raise UnauthorizedError(f"a good credential was refused with {first}")
        end()
        return
    if first != 100:
        raise UnauthorizedError(f"the body was not waited for: {first}")
    cut = 0 if planned.place == "after the head" else int(planned.at * len(request.body))
    for start in range(0, cut, 7):
        request.send_body(request.body[start : min(start + 7, cut)], last=False)
    before = end()
    request.send_body(request.body[cut:], last=True)
    check_outcome(planned, request.status(), request, before, state_now)


def check_outcome(
    planned: FuzzRound,
    status: int,
    request: PartialRequest,
    before: object,
    state_now: Callable[[], object] | None = None,
) -> None:
    """Compare what came of a request that was decided after the end of its credential with what should have.

    Raises:
        UnauthorizedError: It is more than it should be.
    """
    wanted = refusal_status(planned.row, planned.ending)
    if status not in {wanted, 0}:  # 0: the connection was cut
        raise UnauthorizedError(f"answered with {status} instead of {wanted}: {request.response_bytes[:200]!r}")
    if state_now is not None and state_now() != before:
        raise UnauthorizedError("it was refused, and left a trace")
    if wanted == 200 and b'"status":2' in re.sub(rb"\s", b"", request.response_bytes):
        raise UnauthorizedError("an operation of a batch was carried out")


def run_rounds(seconds: float, seed: int, postgres: str | None = None, say: Callable[[str], object] = print) -> int:
    """Play rounds for some time; return how many were played.

    Raises:
        UnauthorizedError: With the seed and the round in its text.
    """
    end, played, epoch = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        chance = random.Random(f"{seed}-{epoch}")
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            clock = ManualClock(time.time())
            at = RunningServer(Path(folder), clock, database=postgres)
            stack.callback(at.stop)
            ends_at = at
            if postgres is not None:
                ends_at = RunningServer(Path(folder), clock, database=postgres, keys=at.keys)
                stack.callback(ends_at.stop)
            at.keys["own"] = at.keys["write"]
            history: list[str] = []
            for n in range(ROUNDS_PER_SERVER):
                planned = draw_round(chance, shared=postgres is not None)
                history.append(f"{seed}-{epoch} round {n}: {planned}")
                try:
                    play_round(planned, at, ends_at)
                except UnauthorizedError as error:
                    raise UnauthorizedError("\n".join([*history[-5:], str(error)])) from None
                for client in at.clients + ends_at.clients:
                    client.close()
                at.clients, ends_at.clients = [], []
                played += 1
                if time.monotonic() > end:
                    break
        epoch += 1
        say(f"{played} rounds")
    return played


def main() -> int:
    """Fuzz as the command line says."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options.add_argument("--postgres", metavar="URL")
    given = options.parse_args()
    print(f"seed {given.seed}")
    try:
        played = run_rounds(given.minutes * 60, given.seed, given.postgres)
    except UnauthorizedError as error:
        print(f"UNAUTHORIZED\n{error}")
        return 1
    print(f"{played} rounds, no unauthorized action")
    return 0


if __name__ == "__main__":
    sys.exit(main())
