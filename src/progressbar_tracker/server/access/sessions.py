"""Sign in to the dashboard: one-time links, sessions, and the administrator's password.

Links are kept in memory, sessions also in the store; only their hashes are kept. A session is a row and not a signed
cookie, because only a row can be revoked.
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
"""The prefix of the session cookie's name; see :func:`cookie_names`."""
RETURN_COOKIE_PREFIX: Final = "pbt_next"
"""The prefix of the cookie with the page to return to after a sign-in with a link."""
MAX_SIGN_IN_ATTEMPTS: Final = 5
"""Wrong passwords from one address within :data:`ATTEMPT_WINDOW_SECONDS`; the next one is not verified."""
ATTEMPT_WINDOW_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 1000
"""The most addresses whose attempts are counted."""
MAX_LINKS: Final = 100
"""The most valid one-time links."""
MAX_SESSIONS: Final = 100
"""The most sessions of one identity."""
MAX_ENDED_SESSIONS: Final = 10_000
"""The most ended sessions that are remembered."""
LINK_CREDENTIAL: Final = "link"
"""The credential of sessions that one-time links began, if no password is set."""


def cookie_names(identity: str, base_path: str, prefix: str = SESSION_COOKIE_PREFIX) -> tuple[str, str]:
    """Return the names of a server's cookie: over TLS without a base path, and otherwise.

    Cookies ignore ports, so each server on a host needs its own name. Servers on one database share it.

    Args:
        identity: The id of the database.
        base_path: The base path of the server.
        prefix: The prefix of the name.
    """
    name = f"{prefix}_{digest(f'{identity} {base_path}')[:8]}"
    return f"__Host-{name}", name


class SignInLinks:
    """One-time sign-in tokens. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._expires_at: dict[str, float] = {}

    def create(self, now: float) -> str:
        """Return a new token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._expires_at = {token_hash: until for token_hash, until in self._expires_at.items() if now < until}
            while len(self._expires_at) >= MAX_LINKS:
                del self._expires_at[next(iter(self._expires_at))]
            self._expires_at[digest(token)] = now + self._seconds
        return token

    def redeem(self, token: str, now: float) -> bool:
        """Return whether a token is valid, and invalidate it."""
        with self._lock:
            until = self._expires_at.pop(digest(token), None)
        return until is not None and now < until


class Sessions:
    """The sessions of signed-in browsers, in memory."""

    def __init__(self, seconds: float, records: Iterable[SessionRecord] = ()) -> None:
        self.max_age_seconds = seconds
        self._ended: dict[str, None] = {}
        self.replace_all(records)

    def replace_all(self, records: Iterable[SessionRecord]) -> None:
        """Replace all sessions by the stored ones, except ended sessions that are not dropped there yet."""
        stored = {record.hash: record for record in records}
        self._ended = {hash_: None for hash_ in self._ended if hash_ in stored}
        self._records = {hash_: record for hash_, record in stored.items() if hash_ not in self._ended}

    def begin(
        self,
        now: float,
        *,
        key_id: str | None = None,
        credential: str = LINK_CREDENTIAL,
        until: float = math.inf,
        agent: str = "",
    ) -> tuple[str, SessionRecord]:
        """Return the cookie and the record of a new session.

        Args:
            now: The current instant.
            key_id: The key that signed in, if any.
            credential: See :class:`~.models.SessionRecord`.
            until: The latest end.
            agent: The user agent of the browser.
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
        """End the oldest sessions of an identity to make room for a new one, and return them."""
        own = [record for record in self._records.values() if record.key_id == key_id]
        own.sort(key=lambda record: record.created_at)
        oldest = own[: max(len(own) - MAX_SESSIONS + 1, 0)]
        for record in oldest:
            self.drop(record)
        return oldest

    def find(self, cookie: str, now: float) -> SessionRecord | None:
        """Return the live session of a cookie."""
        record = self._records.get(digest(cookie))
        return record if record is not None and now < record.expires_at else None

    def find_by_hash(self, hash_: str) -> SessionRecord | None:
        """Return the session of a hash, also if it has expired."""
        return self._records.get(hash_)

    def touch(self, record: SessionRecord, now: float) -> None:
        """Record that a session was used."""
        if record.hash in self._records:
            self._records[record.hash] = replace(record, seen_at=now)

    def all(self, now: float) -> list[SessionRecord]:
        """Return the live sessions, newest first."""
        live = [record for record in self._records.values() if now < record.expires_at]
        return sorted(live, key=lambda record: record.created_at, reverse=True)

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
        """End the session of a cookie, and return it."""
        record = self._records.get(digest(cookie))
        if record is not None:
            self.drop(record)
        return record

    def limit_expiry(self, ends_at: Callable[[SessionRecord], float]) -> None:
        """Shorten each session to the end of its credential."""
        for record in list(self._records.values()):
            if (until := ends_at(record)) < record.expires_at:
                self._records[record.hash] = replace(record, expires_at=until)

    def retain(self, is_valid: Callable[[SessionRecord], bool]) -> list[SessionRecord]:
        """End the sessions that are not valid, and return them."""
        ended = [record for record in self._records.values() if not is_valid(record)]
        for record in ended:
            self.drop(record)
        return ended

    def expire(self, now: float) -> list[SessionRecord]:
        """End the expired sessions, and return them."""
        return self.retain(lambda record: now < record.expires_at)


class SignInAttempts:
    """Counts wrong attempts to sign in, by address, within a sliding minute.

    The addresses of an IPv6 network count as one: a client has 2**64 of them.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def retry_after(self, address: str, now: float) -> int | None:
        """Return the whole seconds that an address must wait, or ``None``."""
        times = self._failures.get(client_network(address))
        while times and now - times[0] >= ATTEMPT_WINDOW_SECONDS:
            times.popleft()
        return (
            max(1, int(times[0] + ATTEMPT_WINDOW_SECONDS - now) + 1)
            if times and len(times) >= MAX_SIGN_IN_ATTEMPTS
            else None
        )

    def quota(self, address: str, now: float) -> Quota:
        """Return the remaining attempts of an address."""
        wait = self.retry_after(address, now)
        left = MAX_SIGN_IN_ATTEMPTS - len(self._failures.get(client_network(address), ()))
        return Quota("sign-in", MAX_SIGN_IN_ATTEMPTS, left, int(ATTEMPT_WINDOW_SECONDS), wait)

    def discard_latest(self, address: str) -> None:
        """Remove the latest attempt: it was right."""
        times = self._failures.get(client_network(address))
        if times:
            times.pop()

    def record(self, address: str, now: float) -> None:
        """Count an attempt before it is verified: a hundred concurrent ones must not all be verified."""
        address = client_network(address)
        self._failures.setdefault(address, deque(maxlen=MAX_SIGN_IN_ATTEMPTS)).append(now)
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


class Password:
    """The administrator's name and password, hashed with Argon2id.

    A verification takes a sixth of a second of CPU time on purpose, so it runs in a pool of one thread.

    Args:
        username: The name.
        password: The password.
        salt: The same for all servers on a database and at every start, to get the same hash.

    Attributes:
        fingerprint: A digest that changes with the name or the password. Each guess of a password by the fingerprint
            costs an Argon2id hash.
        devices: The cookies of browsers in which the administrator signed in.
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
        """Return whether name and password are the administrator's. Blocks."""
        is_right = self._verify(password)
        # Compared after the hash in any case, so that the duration does not leak which of the two was wrong.
        return hmac.compare_digest(username.encode(), self._username.encode()) and is_right

    def _verify(self, password: str) -> bool:
        from argon2.exceptions import VerificationError

        try:
            return self._hasher.verify(self._hash, password)
        except VerificationError:
            return False


def is_same_site(headers: Mapping[bytes, bytes]) -> bool | None:
    """Return whether a request comes from our own pages; ``None`` if the browser sends no origin.

    Args:
        headers: Values by lower-case names.
    """
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in {b"same-origin", b"none"}
    origin = headers.get(b"origin")
    if origin is None:
        return None
    return origin.partition(b"://")[2] == headers.get(b"host") != b""
