"""End credentials while requests are in flight.

Run it with ``python -m tests.security.fuzz_credentials [--minutes N] [--seed S]``.

A real server gets requests over sockets. Each round draws a route, a credential and the way it ends. It holds the
request at one point: in the head, after it, in the body, in a read of the store, in the queue of key changes, or in the
response. There the credential ends, the server acknowledges the end, and the request continues.

The oracle: a request that is decided after the acknowledgement is refused and changes nothing. A route that acts on its
head has decided when it responds. Long responses and streams end within :data:`ENDING_SECONDS`. The next request with
the credential is always refused.

With ``--postgres URL`` there are two servers on an empty database, and each credential ends at the other one. Changes
of keys, sessions and shares are refused at once, all other requests as soon as the server has observed the end.

The exit code is 1 if an unauthorized action was found. The last rounds are printed with their seed.
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
    READER_WRITES,
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
"""A server keeps at most 1,000 keys, and each round creates some."""

ENDING_SECONDS: Final = 3.0
TIMEOUT_SECONDS: Final = 30.0

PROTECTED_ROUTES: Final = [row for row in ROUTES if row.action != "public" and row.method != "HEAD"]
KEY_ROUTES: Final = [row for row in PROTECTED_ROUTES if row.method != "GET" and row.path.startswith("/api/v1/keys")]
STREAM_ROUTES: Final = [row for row in PROTECTED_ROUTES if row.path == "/api/v1/events"]


class UnauthorizedError(Exception):
    """The server acted on a credential that had ended."""


class FuzzRound(NamedTuple):
    """One round: the request, how its credential ends, and at which point."""

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
    """Return a random round."""
    places = ["in the head", "after the head", "in the body", "in the body", "in the body"]
    places += [] if shared else ["in the store", "in the queue", "in the response"]
    place = chance.choice(places)
    rows = {"in the store": STORE_READ_ROUTES, "in the queue": KEY_ROUTES, "in the response": STREAM_ROUTES}.get(
        place, PROTECTED_ROUTES
    )
    ending = chance.choice(ENDING_KINDS)
    if place == "in the queue" and "session" not in ending:
        ending = chance.choice(("expired", "demoted"))  # other endings are key changes and would wait in the queue
    elif place == "in the queue":
        ending = "session ended"
    row = chance.choice(rows)
    if ending == "demoted" and (row.method, row.path) in READER_WRITES:
        ending = "expired"  # a demoted key may make this write
    return FuzzRound(row, ending, place, chance.random() < 0.4, chance.random(), shared)


def get_checked_state(served: RunningServer, victim: EndingCredential) -> object:
    """Return the state without the victim, which a server may see end at any time."""
    listed, schedules, ping_tokens, ring, shares, sessions, followers = get_state(served)
    key_id = victim.record.key_id
    other_sessions = [session for session in sessions if session.key_id != key_id]
    other_followers = [follower for follower in followers if follower[0] != key_id]
    other_keys = [key for key in ring if key[0] != key_id]
    return listed, schedules, ping_tokens, other_keys, shares, other_sessions, other_followers


def play_round(planned: FuzzRound, at: RunningServer, ends_at: RunningServer) -> None:
    """Play a round.

    Raises:
        UnauthorizedError: The server accepted a request that it should have refused.
    """
    row, place = planned.row, planned.place
    expected = ACCESS_MATRIX[row.method, row.path]
    with at.client() as http:
        names = create_resources(at, http, (expected.path, REQUEST_BODIES.get((row.method, row.path), expected.body)))
    session = at.background.app.services.sessions.get(names.get("{session_id}", ""))
    if session is not None:
        at.background.store.commit([SaveSession(session)]).result(
            20
        )  # otherwise a reload of the stored sessions would end it
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
                raise UnauthorizedError("a valid credential was refused")
            end()
            demoted = planned.ending == "demoted"
            if not demoted and not ends_within(request, ENDING_SECONDS):
                raise UnauthorizedError("the stream continued")
        elif place == "in the store":
            with held.hold_reads():
                request.send(request.head)
                if not held.reached.wait(TIMEOUT_SECONDS):
                    raise TimeoutError("the request did not reach the store")
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
                at.client().get("/healthz")  # the server reads it after the request
                end()
                held.released.set()
                status = request.read_status()
                holds.join(TIMEOUT_SECONDS)
                check_outcome(planned, status, request, None)
        else:
            play_parts(planned, request, end, lambda: get_checked_state(at, victim))
        again = get_list_status(at, victim)
        if again not in ({403} if planned.ending == "demoted" else {401}) and ends_at is at:
            raise UnauthorizedError(f"the status of the next request is {again}")
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
        # A batch refuses each operation separately. One of several servers checks the store after the body only.
        if status == 100 and (refusal_status(row, planned.ending) == 200 or planned.shared):
            request.send_body(request.body, last=True)
            status = request.read_status()
        if status == 100:
            raise UnauthorizedError("the server asked for the body")
        check_outcome(planned, status, request, before, state_now)
        return
    request.send(request.head)
    first = request.read_status()
    if row.method == "GET" or key in DECIDED_BY_HEAD:
        if first not in {200, 404}:
            raise UnauthorizedError(f"a valid credential was refused with {first}")
        end()
        return
    if first != 100:
        raise UnauthorizedError(f"the server did not wait for the body: {first}")
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
    """Check the response to a request that was decided after its credential had ended.

    Raises:
        UnauthorizedError: The request was accepted or changed something.
    """
    wanted = refusal_status(planned.row, planned.ending)
    if status not in {wanted, 0}:  # 0: the connection was closed
        raise UnauthorizedError(f"the status is {status} instead of {wanted}: {request.response_body[:200]!r}")
    if state_now is not None and state_now() != before:
        raise UnauthorizedError("the request was refused, but changed something")
    if wanted == 200 and b'"status":2' in re.sub(rb"\s", b"", request.response_body):
        raise UnauthorizedError("an operation of a batch was executed")


def run_rounds(
    seconds: float, seed: int, postgres: str | None = None, print_line: Callable[[str], object] = print
) -> int:
    """Play rounds for ``seconds``; return their number.

    Raises:
        UnauthorizedError: The message has the seed and the last rounds.
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
        print_line(f"{played} rounds")
    return played


def main() -> int:
    """Run the fuzzer with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--postgres", metavar="URL")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    try:
        played = run_rounds(options.minutes * 60, options.seed, options.postgres)
    except UnauthorizedError as error:
        print(f"UNAUTHORIZED\n{error}")
        return 1
    print(f"{played} rounds, no unauthorized action")
    return 0


if __name__ == "__main__":
    sys.exit(main())
