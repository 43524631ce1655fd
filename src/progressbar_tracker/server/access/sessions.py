"""Signing in to the dashboard: one-time links, sessions, and the administrator's password.

Links live in memory, sessions in the store as well; of both only the hash is kept. A session is a row on the server
and not a signed cookie, because only a row can be revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker.server.models import SessionRecord, digest
from progressbar_tracker.server.proxies import client_network
from progressbar_tracker.server.quota import Quota

from .devices import DeviceCookies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SESSION_COOKIE_PREFIX: Final = "pbt_session"
"""What the name of the session cookie begins with; see :func:`cookie_names`."""
MAX_SIGN_IN_ATTEMPTS: Final = 5
"""Wrong passwords within :data:`WINDOW` seconds from one address; the next one is not even looked at."""
ATTEMPT_WINDOW_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 1000
"""The most addresses whose attempts are counted."""
MAX_LINKS: Final = 100
"""The most one-time links that are good."""
MAX_SESSIONS: Final = 100
"""The most sessions of one identity."""
MAX_ENDED_SESSIONS: Final = 10_000
"""The most ended sessions that are remembered as such."""
LINK_CREDENTIAL: Final = "link"
"""The credential of a one-time link, where no password is set."""


def cookie_names(identity: str, base_path: str, prefix: str = SESSION_COOKIE_PREFIX) -> tuple[str, str]:
    """Return the names of a cookie of a server: over TLS without a base path, and else.

    Cookies know no ports, so each server on a host has a name of its own. Servers on one database share it.

    Args:
        identity: Of the database.
        base_path: Of the server.
        prefix: What the name begins with: of the session cookie.
    """
    name = f"{prefix}_{digest(f'{identity} {base_path}')[:8]}"
    return f"__Host-{name}", name


class SignInLinks:
    """One-time sign-in tokens. May be used from any thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._expires_at: dict[str, float] = {}

    def create(self, now: float) -> str:
        """Return a new token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._expires_at = {known: until for known, until in self._expires_at.items() if now < until}
            while len(self._expires_at) >= MAX_LINKS:
                del self._expires_at[next(iter(self._expires_at))]
            self._expires_at[digest(token)] = now + self._seconds
        return token

    def redeem(self, token: str, now: float) -> bool:
        """Say whether a token is good, and make it worthless."""
        with self._lock:
            until = self._expires_at.pop(digest(token), None)
        return until is not None and now < until


class Sessions:
    """The browsers that are signed in."""

    def __init__(self, seconds: float, known: Iterable[SessionRecord] = ()) -> None:
        self.max_age_seconds = seconds
        self._ended: dict[str, None] = {}
        self.replace_all(known)

    def replace_all(self, known: Iterable[SessionRecord]) -> None:
        """Take over what the store has now, but for sessions that have ended and could not be dropped there yet."""
        there = {record.hash: record for record in known}
        self._ended = {hash_: None for hash_ in self._ended if hash_ in there}
        self._records = {hash_: record for hash_, record in there.items() if hash_ not in self._ended}

    def begin(
        self,
        now: float,
        *,
        key_id: str | None = None,
        credential: str = LINK_CREDENTIAL,
        until: float = math.inf,
        agent: str = "",
    ) -> tuple[str, SessionRecord]:
        """Return the cookie of a new session, and the record to keep.

        Args:
            now: The instant.
            key_id: The key it stands for, if it was signed in with one.
            credential: See :class:`~.records.SessionRecord`.
            until: When it ends, at the latest.
            agent: What the browser calls itself.
        """
        cookie = secrets.token_urlsafe(32)
        record = SessionRecord(
            digest(cookie),
            now,
            min(now + self.max_age_seconds, until),
            key_id=key_id,
            agent=agent,
            credential=credential,
        )
        self._records[record.hash] = record
        return cookie, record

    def evict_oldest(self, key_id: str | None) -> list[SessionRecord]:
        """End the oldest sessions of an identity, so that one more may begin; return what to forget."""
        own = [record for record in self._records.values() if record.key_id == key_id]
        own.sort(key=lambda record: record.created_at)
        over = own[: max(len(own) - MAX_SESSIONS + 1, 0)]
        for record in over:
            self.drop(record)
        return over

    def find(self, cookie: str, now: float) -> SessionRecord | None:
        """Return the session of a cookie, if it is still going."""
        record = self._records.get(digest(cookie))
        return record if record is not None and now < record.expires_at else None

    def touch(self, record: SessionRecord, now: float) -> None:
        """Note that a session is used."""
        if record.hash in self._records:
            self._records[record.hash] = replace(record, seen_at=now)

    def all(self, now: float) -> list[SessionRecord]:
        """Return the sessions that are going, newest first."""
        going = [record for record in self._records.values() if now < record.expires_at]
        return sorted(going, key=lambda record: record.created_at, reverse=True)

    def get(self, session_id: str) -> SessionRecord | None:
        """Return a session by its public id."""
        return next((record for record in self._records.values() if record.session_id == session_id), None)

    def drop(self, record: SessionRecord) -> None:
        """End a session."""
        if self._records.pop(record.hash, None) is not None:
            self._ended[record.hash] = None
            if len(self._ended) > MAX_ENDED_SESSIONS:
                del self._ended[next(iter(self._ended))]

    def end(self, cookie: str) -> SessionRecord | None:
        """End the session of a cookie; return what to forget."""
        record = self._records.get(digest(cookie))
        if record is not None:
            self.drop(record)
        return record

    def limit_expiry(self, ends_at: Callable[[SessionRecord], float]) -> None:
        """Let each session end when its credential does, at the latest."""
        for record in list(self._records.values()):
            if (until := ends_at(record)) < record.expires_at:
                self._records[record.hash] = replace(record, expires_at=until)

    def retain(self, is_valid: Callable[[SessionRecord], bool]) -> list[SessionRecord]:
        """End the sessions that may not stay; return what to forget."""
        over = [record for record in self._records.values() if not is_valid(record)]
        for record in over:
            self.drop(record)
        return over

    def expire(self, now: float) -> list[SessionRecord]:
        """End the sessions whose time is over; return what to forget."""
        return self.retain(lambda record: now < record.expires_at)


class SignInAttempts:
    """Counts wrong attempts to sign in, per address, within a sliding minute.

    Who has an address of version 6 has 2**64 of them: they count as one.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def retry_after(self, address: str, now: float) -> int | None:
        """Return the whole seconds for which this address has to wait, or ``None``."""
        times = self._failures.get(client_network(address))
        while times and now - times[0] >= ATTEMPT_WINDOW_SECONDS:
            times.popleft()
        return (
            max(1, int(times[0] + ATTEMPT_WINDOW_SECONDS - now) + 1)
            if times and len(times) >= MAX_SIGN_IN_ATTEMPTS
            else None
        )

    def quota(self, address: str, now: float) -> Quota:
        """Return how many more attempts there may be from an address."""
        wait = self.retry_after(address, now)
        left = MAX_SIGN_IN_ATTEMPTS - len(self._failures.get(client_network(address), ()))
        return Quota("sign-in", MAX_SIGN_IN_ATTEMPTS, left, int(ATTEMPT_WINDOW_SECONDS), wait)

    def discard_latest(self, address: str) -> None:
        """Take back the latest attempt: it was not wrong."""
        times = self._failures.get(client_network(address))
        if times:
            times.pop()

    def record(self, address: str, now: float) -> None:
        """Note an attempt, as wrong until it is known to be right: a hundred at once must not all be looked at."""
        address = client_network(address)
        self._failures.setdefault(address, deque(maxlen=MAX_SIGN_IN_ATTEMPTS)).append(now)
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


class Password:
    """The administrator's name and password, hashed with Argon2id.

    A verification costs a sixth of a second of a core on purpose, so it is for a pool of one thread.

    Args:
        username: The name.
        password: The password.
        salt: The same for all servers of a database and at every start, so that the hash is the same, too.

    Attributes:
        fingerprint: A digest that changes with the name or the password. Guessing a password by it costs an Argon2id
            hash for each guess.
        devices: The cookies of browsers that signed in with it.
    """

    def __init__(self, username: str, password: str, salt: str) -> None:
        from argon2 import PasswordHasher

        self._username = username
        self._hasher = PasswordHasher()
        self._hash = self._hasher.hash(password, salt=hashlib.sha256(salt.encode()).digest()[:16])
        self.fingerprint = digest(f"{username}\n{self._hash}")
        self.devices = DeviceCookies(hmac.digest(self._hash.encode(), b"devices", hashlib.sha256))

    def __repr__(self) -> str:
        return "Password()"

    def matches(self, username: str, password: str) -> bool:
        """Say whether these are the administrator's. Blocks."""
        right = self._verify(password)
        # Compared after the hash in any case: how long it takes does not tell which of the two was wrong.
        return hmac.compare_digest(username.encode(), self._username.encode()) and right

    def _verify(self, password: str) -> bool:
        from argon2.exceptions import VerificationError

        try:
            return self._hasher.verify(self._hash, password)
        except VerificationError:
            return False


def is_same_site(headers: Mapping[bytes, bytes]) -> bool | None:
    """Say whether a request comes from our own pages; ``None`` where the browser does not tell.

    Args:
        headers: Lower-case names to values.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in {b"same-origin", b"none"}
    origin = headers.get(b"origin")
    if origin is None:
        return None
    return origin.partition(b"://")[2] == headers.get(b"host") != b""
