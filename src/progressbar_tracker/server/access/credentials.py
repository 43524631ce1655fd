"""The credentials in force: load keys, sessions and shares, check their age, and let them expire."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.audit_log import log_credential_writes, log_key_event
from progressbar_tracker.server.clock import ClockJumpDetector, get_monotonic, read_monotonic
from progressbar_tracker.server.mutations import DropSession, DropSubscription, SaveKey, TouchKey, TouchSession
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from . import authorization
from .keys import Keyring, compute_credential_end
from .sessions import Sessions
from .tokens import RecordT, Tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from progressbar_tracker.server.hub import Hub
    from progressbar_tracker.server.models import KeyRecord, PushSubscription, SessionRecord
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.settings import Settings
    from progressbar_tracker.server.stores.base import Credentials, Store, StoredState

    from .authorization import Principal
    from .subscriptions import Subscriptions

logger = logging.getLogger("progressbar_tracker.server")

TOUCH_INTERVAL: Final = 60.0
"""Seconds between two records of when a key or a session was last used."""

SAVE_KEY_TIMEOUT: Final = 10.0
"""Seconds to wait until a key is on disk at the start."""

MAX_EXPIRED_CREDENTIALS: Final = 100_000
"""The most credentials that are remembered as expired."""


class CredentialCache:
    """The keys, sessions and shares of a store, in memory.

    Args:
        stored: The state that was loaded from the store.
        store: Persists when credentials are used, and which sessions end.
        settings: The settings of the server.
        subscriptions: The push subscriptions, which end with their session or key.
        operator_credential: The credential of sessions that were signed in by password or link.
        hub: Its streams check their authorization after each change of credentials.
        commit: Waits until mutations are on disk.
        clock: Returns seconds since the epoch.

    Attributes:
        vapid_keys: The private keys that sign Web Push messages, the newest first; empty until the first subscription.
        keyring_lock: Held from reading or writing the stored keys until the keyring shows them. Without it, an older
            read could replace another thread's change.
    """

    def __init__(
        self,
        stored: StoredState,
        store: Store,
        settings: Settings,
        *,
        subscriptions: Subscriptions,
        operator_credential: str,
        hub: Hub,
        commit: Callable[[Sequence[Write]], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self.keyring = Keyring(stored.keys, stored.keys_rev, on_event=log_key_event)
        self.keyring_lock = threading.Lock()
        self.sessions = Sessions(settings.session_seconds, stored.sessions)
        self.shares = Tokens(stored.shares)
        self.subscriptions = subscriptions
        self.vapid_keys = stored.vapid_keys
        self.ping_tokens = Tokens(stored.ping_tokens)
        self._store = store
        self._max_age = settings.credential_age
        self._operator_credential = operator_credential
        self._hub = hub
        self._commit = commit
        self._clock = clock
        self._monotonic = get_monotonic(clock)
        self._clock_jumps = ClockJumpDetector(clock)
        self._expired: set[tuple[str, float]] = set()
        self._was_stale = False
        self._touched_at: dict[str, float] = {}

    def identify(self, secret: str) -> Principal:
        """Return the principal of a key, and record its use.

        Raises:
            ProblemError: ``unauthorized`` or ``unavailable``.
        """
        self.check_age()
        now = self.secure_now()
        try:
            principal = authorization.identify(self.keyring, secret, now)
        except ProblemError:
            self._record_expired_key(secret, now)
            # The command line may have created the key a moment ago.
            if not self.refresh_keys():
                raise
            principal = authorization.identify(self.keyring, secret, now)
        if self._expired and self._is_key_expired(principal.id):
            raise ProblemError("unauthorized", "the key has expired")
        if self._monotonic() - self._touched_at.get(principal.id, -math.inf) >= TOUCH_INTERVAL:
            self._touched_at[principal.id] = self._monotonic()
            self._store.enqueue([TouchKey(principal.id, self._clock())])
        return principal

    def find_session(self, cookie: str) -> SessionRecord | None:
        """Return the live session of a cookie, and record its use.

        Raises:
            ProblemError: ``unavailable``.
        """
        self.check_age()
        now = self._clock()
        record = self.sessions.find(cookie, -math.inf)
        if record is None or self.is_expired(record.hash, record.expires_at):
            return None
        if abs(now - (record.seen_at or 0.0)) >= TOUCH_INTERVAL:
            self.sessions.touch(record, now)
            self._store.enqueue([TouchSession(record.hash, now)])
        return record

    def identify_session(self, cookie: str) -> Principal | None:
        """Return the principal of a cookie's session, and record its use.

        Raises:
            ProblemError: ``unavailable``.
        """
        record = self.find_session(cookie)
        if record is None or (record.key_id is not None and self._is_key_expired(record.key_id)):
            return None
        return authorization.make_session_principal(self.keyring, record, self.secure_now(), self._operator_credential)

    def find_token(self, tokens: Tokens[RecordT], token: str) -> RecordT | None:
        """Return the record of a token that has not expired.

        Raises:
            ProblemError: ``unavailable``.
        """
        self.check_age()
        record = tokens.find(token)
        return None if record is None or self.is_expired(record.id, record.expires_at) else record

    async def end_session(self, record: SessionRecord) -> None:
        """End a session at once, and wait until that is on disk.

        Raises:
            ProblemError: ``unavailable``: the session has ended, but this is not on disk yet.
        """
        self.sessions.drop(record)
        self._hub.wake()
        writes: list[Write] = [DropSession(record.hash), *self.drop_ended_subscriptions()]
        try:
            await self._commit(writes)
        except BaseException as error:
            self._store.enqueue(writes)
            if isinstance(error, ProblemError):
                raise ProblemError(
                    "unavailable",
                    "the session has ended, but the server could not write this to its disk: it tries again, and if "
                    "it is restarted before it succeeds, the session continues",
                    retry_after=5,
                ) from error
            raise

    def end_stale_sessions(self) -> None:
        """At the start, end the sessions whose credential ended while no server ran."""
        now = self._clock()
        self._drop_sessions(
            lambda record: (
                authorization.make_session_principal(self.keyring, record, now, self._operator_credential) is not None
            )
        )
        self.apply_key_changes()

    def apply_key_changes(self) -> None:
        """End the sessions of ended keys, and let every stream check its authorization."""
        now = self._clock()
        self.sessions.limit_expiry(
            lambda record: (
                math.inf
                if record.key_id is None
                else compute_credential_end(self.keyring.get(record.key_id), record.credential)
            )
        )
        self._drop_sessions(lambda record: now < record.expires_at)
        if writes := self.drop_ended_subscriptions():
            self._store.enqueue(writes)
        # Drop deleted keys: over the years there may be a million.
        self._touched_at = {
            key_id: at for key_id, at in self._touched_at.items() if self.keyring.get(key_id) is not None
        }
        self._hub.wake()

    def save_key(self, record: KeyRecord) -> None:
        """Persist a key and add it to the keyring. Blocks.

        Raises:
            StoreError: The store cannot write the key.
        """
        with self.keyring_lock:
            self._store.commit([SaveKey(record)]).result(SAVE_KEY_TIMEOUT)
            self.keyring.add(record)

    def load(self) -> None:
        """Load the credentials of a shared database before the first request.

        Raises:
            StoreError: The database does not answer.
        """
        shared = self._store.shared
        if shared is not None:
            self.replace_all(shared.read_credentials())

    def replace_all(self, credentials: Credentials, *, is_restart: bool = False) -> None:
        """Replace all credentials by those of a shared database, unless these are outdated.

        Args:
            credentials: The credentials of the database.
            is_restart: The database has lost its latest changes, so that an older revision is not outdated.
        """
        shared = self._store.shared
        assert shared is not None
        with self.keyring_lock:
            # Another read, or a write of another thread, may have overtaken this one while it waited for the lock.
            # A revoked key must not come back, and a new key must stay.
            if not is_restart and credentials.rev < max(self.keyring.rev, shared.credentials_rev):
                return
            self.keyring.replace_all(credentials.keys, credentials.rev)
        self.sessions.replace_all(credentials.sessions)
        self.shares.replace_all(credentials.shares)
        self.subscriptions.replace_all(credentials.subscriptions)
        self.vapid_keys = credentials.vapid_keys
        self.ping_tokens.replace_all(credentials.ping_tokens)
        self.apply_key_changes()

    def refresh_keys(self) -> bool:
        """Load the keys of the store if they have changed, and return whether they had.

        The check reads one row of a small table. It costs less than the request that causes it, so a flood of unknown
        keys gains nothing.
        """
        if self._store.shared is not None:
            return False  # a shared store reports each change
        # The read runs on the event loop: it takes microseconds. With a pause between read and replacement, a key that
        # is revoked meanwhile could come back.
        with self.keyring_lock:
            try:
                if self._store.read_keys_rev() == self.keyring.rev:
                    return False
                self.keyring.replace_all(*self._store.read_keys())
                self.vapid_keys = self._store.read_vapid_keys() or self.vapid_keys
            except StoreError as error:
                logger.warning("the keys could not be read: %s", error)
                return False
        self.apply_key_changes()
        return True

    def has_ended(self, subscription: PushSubscription) -> bool:
        """Return whether the session or key of a push subscription has ended, or may not read items. Thread-safe."""
        now = self.secure_now()
        if subscription.session is None:
            record = None if subscription.key_id is None else self.keyring.get(subscription.key_id)
            if record is None or now >= compute_credential_end(record, subscription.credential):
                return True
            principal = authorization.Principal(record.key_id, record.name, record.type)
        else:
            session = self.sessions.find_by_hash(subscription.session)
            if session is None or now >= session.expires_at:
                return True
            found = authorization.make_session_principal(self.keyring, session, now, self._operator_credential)
            if found is None:
                return True
            principal = found
        return authorization.find_scope(principal, "read") != "all"

    def drop_ended_subscriptions(self) -> list[Write]:
        """End the push subscriptions whose session or key has ended, and return the writes that delete them."""
        ended = self.subscriptions.retain(lambda record: not self.has_ended(record)) if len(self.subscriptions) else []
        writes: list[Write] = [DropSubscription(record.subscription_id) for record in ended]
        log_credential_writes(writes)
        return writes

    def end_subscription(self, subscription_id: str, endpoint: str | None = None) -> None:
        """End a push subscription that its push service does not know any more. Thread-safe.

        Args:
            subscription_id: The subscription.
            endpoint: The endpoint that has ended; a subscription that has got another one stays.
        """
        record = self.subscriptions.get(subscription_id)
        if record is not None and endpoint not in (None, record.endpoint):
            return
        self.subscriptions.drop(subscription_id)
        writes = [DropSubscription(subscription_id, endpoint)]
        log_credential_writes(writes)
        self._store.enqueue(writes)

    @property
    def vapid_key(self) -> str | None:
        """The newest private key of Web Push, with which browsers subscribe; ``None`` if there is none yet."""
        return self.vapid_keys[0] if self.vapid_keys else None

    def adopt_vapid_key(self, private_key: str) -> str:
        """Return the key that signs Web Push messages: a new one, unless another server has stored its own first."""
        self.vapid_keys = self.vapid_keys or (private_key,)
        return self.vapid_keys[0]

    def check_age(self) -> None:
        """Reject a request while the credentials are stale: the database does not answer.

        Raises:
            ProblemError: ``unavailable``.
        """
        if self.is_stale:
            raise ProblemError(
                "unavailable",
                "the database does not answer, and whether this credential still works is not known until it does",
                retry_after=5,
            )

    def poll_staleness(self) -> None:
        """Let every stream check its authorization when the credentials become stale or current."""
        if self.is_stale is not self._was_stale:
            self._was_stale = not self._was_stale
            if self._was_stale:
                logger.error("the database does not answer: no credential is accepted until it does")
            self._hub.wake()

    def secure_now(self) -> float:
        """Return the current instant; it is not earlier after the clock was set back."""
        return self._clock_jumps.latest_now()

    def is_expired(self, credential_id: str, expires_at: float | None) -> bool:
        """Return whether a credential has expired. A credential that has expired once stays expired."""
        if expires_at is None:
            return False
        if (credential_id, expires_at) not in self._expired:
            if self.secure_now() < expires_at:
                return False
            if len(self._expired) >= MAX_EXPIRED_CREDENTIALS:
                self._expired.clear()
            self._expired.add((credential_id, expires_at))
        return True

    @property
    def is_stale(self) -> bool:
        """Whether the database does not answer, so that no credential is accepted."""
        shared = self._store.shared
        return shared is not None and read_monotonic() - shared.confirmed_at > self._max_age

    def _record_expired_key(self, secret: str, now: float) -> None:
        if (record := self.keyring.find(secret, now)) is not None:
            self.is_expired(record.key_id, record.expires_at)

    def _is_key_expired(self, key_id: str) -> bool:
        record = self.keyring.get(key_id)
        return record is not None and self.is_expired(key_id, record.expires_at)

    def _drop_sessions(self, is_valid: Callable[[SessionRecord], bool]) -> None:
        writes = [DropSession(record.hash) for record in self.sessions.retain(is_valid)]
        if writes:
            log_credential_writes(writes)
            self._store.enqueue(writes)
