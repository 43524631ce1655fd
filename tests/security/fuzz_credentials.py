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
import random
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker.server.mutations import SaveSession
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import (
    ACCESS_MATRIX,
    DECIDED_BY_HEAD,
    ENDING_KINDS,
    REQUEST_BODIES,
    STORE_READ_ROUTES,
    EndingCredential,
    HeldStore,
    SplitRequest,
    create_resources,
    get_state,
    refusal_status,
)
from tests.support.clock import ManualClock
from tests.support.server import RunningServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

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
    victim = EndingCredential(at, planned.ending, ends_at)
    request = SplitRequest(at, row, victim.headers, names, chunked=planned.chunked)
    held = HeldStore(at)

    def end() -> object:
        victim.end()
        if ends_at is not at and not (row.action == "manage" and row.method != "GET"):
            wait_until(lambda: get_list_status(at, victim) != 200)
        return get_checked_state(at, victim)

    try:
        if place == "in the response":
            request.send(request.head)
            if request.read_status() != 200:
                raise UnauthorizedError("a good credential was refused")
            end()
            demoted = planned.ending == "demoted"
            if not demoted and not ends_within(request, ENDING_SECONDS):
                raise UnauthorizedError("the stream went on")
        elif place == "in the store":
            with held.hold_reads():
                request.send(request.head)
                if not held.reached.wait(TIMEOUT_SECONDS):
                    raise TimeoutError("the store was not asked")
                end()
                held.released.set()
                check_outcome(planned, request.read_status(), request, None)
        elif place == "in the queue":
            with held.hold_key_commit("holds"):
                holds = threading.Thread(target=lambda: at.client("admin").post(
                    "/api/v1/keys", json={"type": "read", "name": "holds"}
                ))  # fmt: skip
                holds.start()
                held.reached.wait(TIMEOUT_SECONDS)
                request.send(request.head)
                request.read_status()
                request.send_body(request.body, last=True)
                at.client().get("/healthz")  # it is asked after the request
                end()
                held.released.set()
                status = request.read_status()
                holds.join(TIMEOUT_SECONDS)
                check_outcome(planned, status, request, None)
        else:
            play_parts(planned, request, end, lambda: get_checked_state(at, victim))
        again = get_list_status(at, victim)
        if again not in ({403} if planned.ending == "demoted" else {401}) and ends_at is at:
            raise UnauthorizedError(f"the next request was answered with {again}")
    finally:
        held.released.set()
        request.close()


def get_list_status(at: RunningServer, victim: EndingCredential) -> int:
    """Return the status of another request with the credential."""
    with at.client(**victim.headers) as http:
        return http.get("/api/v1/keys").status_code


def ends_within(request: SplitRequest, seconds: float) -> bool:
    """Return whether the response to ``request`` ends in time."""
    end = time.monotonic() + seconds
    request.socket.settimeout(0.2)
    while time.monotonic() < end:
        try:
            chunk = request.socket.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            return True
        if not chunk or chunk.endswith(b"0\r\n\r\n"):
            return True
    return False


def play_parts(
    planned: FuzzRound, request: SplitRequest, end: Callable[[], object], state_now: Callable[[], object]
) -> None:
    """Send head and body in parts, and end the credential between two of them."""
    row, key = planned.row, (planned.row.method, planned.row.path)
    if planned.place == "in the head":
        cut = 1 + int(planned.at * (len(request.head) - 2))
        request.send(request.head[:cut])
        before = end()
        request.send(request.head[cut:])
        status = request.read_status()
        # Each operation of a batch is refused by itself. One of several servers looks at what is stored after the body.
        if status == 100 and (refusal_status(row, planned.ending) == 200 or planned.shared):
            request.send_body(request.body, last=True)
            status = request.read_status()
        if status == 100:
            raise UnauthorizedError("the body was asked for")
        check_outcome(planned, status, request, before, state_now)
        return
    request.send(request.head)
    first = request.read_status()
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
    check_outcome(planned, request.read_status(), request, before, state_now)


def check_outcome(
    planned: FuzzRound,
    status: int,
    request: SplitRequest,
    before: object,
    state_now: Callable[[], object] | None = None,
) -> None:
    """Compare what came of a request that was decided after the end of its credential with what should have.

    Raises:
        UnauthorizedError: It is more than it should be.
    """
    wanted = refusal_status(planned.row, planned.ending)
    if status not in {wanted, 0}:  # 0: the connection was cut
        raise UnauthorizedError(f"answered with {status} instead of {wanted}: {request.response_body[:200]!r}")
    if state_now is not None and state_now() != before:
        raise UnauthorizedError("it was refused, and left a trace")
    if wanted == 200 and b'"status":2' in re.sub(rb"\s", b"", request.response_body):
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
