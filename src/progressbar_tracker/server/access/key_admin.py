"""Administer the keys of a database from the command line, with or without running servers.

A running server loads changed keys within half a second.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import FieldError, KeyType
from progressbar_tracker.server.mutations import SaveKey
from progressbar_tracker.server.settings import strip_password
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.open import require_postgres_driver
from progressbar_tracker.server.stores.reading import decode_text
from progressbar_tracker.server.stores.sqlite.files import connect
from progressbar_tracker.server.stores.sqlite.locks import open_alongside_server
from progressbar_tracker.server.stores.sqlite.rows import execute_write, read_keys, replace_vapid_keys

from . import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from progressbar_tracker.server.models import KeyRecord


class _KeyStore(Protocol):
    """The stored keys. Every method raises :class:`StoreError`."""

    def read(self) -> tuple[list[KeyRecord], int]: ...

    def save(self, record: KeyRecord) -> None: ...

    def replace_vapid_keys(self, replace: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int: ...

    def close(self) -> None: ...


class KeyAdmin:
    """The keys of a database.

    Args:
        database: The SQLite file, created if it does not exist; or the URL of a PostgreSQL database.
        now: Returns seconds since the epoch.

    Raises:
        ConfigError: The database cannot be used, in one sentence. Every method raises it, too.
    """

    def __init__(self, database: Path | str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._key_store: _KeyStore
        if isinstance(database, Path):
            self._display_name = str(database)
            self._key_store = _SqliteKeyStore(database)
        else:
            require_postgres_driver()
            from progressbar_tracker.server.stores.postgres.keys import PostgresKeyStore

            self._display_name = strip_password(database)
            self._key_store = PostgresKeyStore(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._key_store.close()

    def list(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        try:
            records, rev = self._key_store.read()
        except StoreError as error:
            raise self._config_error(error) from error
        return keys.Keyring(records, rev).all()

    def create(
        self,
        type: KeyType,
        name: str,
        *,
        expires_at: float | None = None,
        group: str | None = None,
        cell: str | None = None,
        reads_tails: bool = False,
    ) -> keys.NewKey:
        """Create a key; its secret cannot be read again.

        Args:
            type: ``"read"``, ``"write"`` or ``"admin"``.
            name: The display name.
            expires_at: Seconds since the epoch, or ``None``.
            group: The group given to an item whose write names no group.
            cell: The cell whose name a balancer finds in the key.
            reads_tails: Whether the key reads the output of runs.
        """
        try:
            created = keys.new_key(
                type, name, self._now(), expires_at=expires_at, group=group, cell=cell, reads_tails=reads_tails
            )
        except FieldError as error:
            raise ConfigError(str(error)) from error
        self._save(created.record)
        return created

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key at once."""
        record = keys.revoke_key(self._require(key_id), self._now())
        self._save(record)
        return record

    def rotate(self, key_id: str) -> keys.NewKey:
        """Replace the secret of a key; the old one works for another day."""
        record = self._require(key_id)
        if record.revoked_at is not None:
            raise ConfigError(f"the key {key_id} was revoked")
        created = keys.rotate_key(record, self._now())
        self._save(created.record)
        return created

    def rotate_push_key(self, rotate: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
        """Replace the key that signs messages to browsers; return the number of their subscriptions.

        Args:
            rotate: Returns the keys with the new one, from those that there are, the newest first.
        """

        def rotate_existing(private_keys: tuple[str, ...]) -> tuple[str, ...]:
            if not private_keys:
                raise ConfigError(
                    f"{self._display_name} has no key for messages to browsers yet: the first bell makes it"
                )
            return rotate(private_keys)

        try:
            return self._key_store.replace_vapid_keys(rotate_existing)
        except StoreError as error:
            raise self._config_error(error) from error

    def _require(self, key_id: str) -> KeyRecord:
        for record in self.list():
            if record.key_id == key_id:
                return record
        raise ConfigError(f"there is no key {key_id!r} in {self._display_name}")

    def _save(self, record: KeyRecord) -> None:
        try:
            self._key_store.save(record)
        except StoreError as error:
            raise self._config_error(error) from error

    def _config_error(self, error: Exception) -> ConfigError:
        return ConfigError(f"the database {self._display_name} cannot be used: {error}")


class _SqliteKeyStore:
    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(open_alongside_server(path))
            self._connection = connect(path)
            self._connection.text_factory = decode_text
            stack.callback(self._connection.close)
            self._close = stack.pop_all().close

    def read(self) -> tuple[list[KeyRecord], int]:
        try:
            return read_keys(self._connection)
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def save(self, record: KeyRecord) -> None:
        with self._transaction():
            execute_write(self._connection, SaveKey(record))

    def replace_vapid_keys(self, replace: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
        with self._transaction():
            return replace_vapid_keys(self._connection, replace)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._close()
