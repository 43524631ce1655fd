"""The keys of a database, for the command line: works whether or not servers run on it.

A running server notices the changed revision of the keys within half a second.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import FieldError, KeyType
from progressbar_tracker.server.models import KeyRecord, SaveKey
from progressbar_tracker.server.settings import without_password
from progressbar_tracker.server.stores.base import StoreError
from progressbar_tracker.server.stores.open import needs_postgres
from progressbar_tracker.server.stores.reading import text_of
from progressbar_tracker.server.stores.sqlite.files import connect
from progressbar_tracker.server.stores.sqlite.locks import opened_beside
from progressbar_tracker.server.stores.sqlite.rows import perform, read_keys

from . import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class _Access(Protocol):
    """The keys where they are kept. Every method raises :class:`StoreError`."""

    def read(self) -> tuple[list[KeyRecord], int]: ...

    def save(self, record: KeyRecord) -> None: ...

    def close(self) -> None: ...


class KeyFile:
    """The keys in a database.

    Args:
        database: The file, made where it is not there; or the URL of a PostgreSQL database.
        now: Seconds since the epoch.

    Raises:
        ConfigError: The database cannot be used, in one sentence; from every method too.
    """

    def __init__(self, database: Path | str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._access: _Access
        if isinstance(database, Path):
            self._shown = str(database)
            self._access = _File(database)
        else:
            needs_postgres()
            from progressbar_tracker.server.stores.postgres.keys import PostgresKeys

            self._shown = without_password(database)
            self._access = PostgresKeys(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._access.close()

    def list(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        try:
            records, rev = self._access.read()
        except StoreError as error:
            raise self._cannot(error) from error
        return keys.Keyring(records, rev).all()

    def create(
        self, type: KeyType, name: str, *, expires_at: float | None = None, group: str | None = None
    ) -> keys.NewKey:
        """Make a key; its ``secret`` is told this once.

        Args:
            type: ``"read"``, ``"write"`` or ``"admin"``.
            name: For people.
            expires_at: Seconds since the epoch, or ``None``.
            group: The group of items written with it that name none.
        """
        try:
            made = keys.new_key(type, name, self._now(), expires_at=expires_at, group=group)
        except FieldError as error:
            raise ConfigError(str(error)) from error
        self._save(made.record)
        return made

    def revoke(self, key_id: str) -> KeyRecord:
        """End a key, at once."""
        record = keys.revoked(self._need(key_id), self._now())
        self._save(record)
        return record

    def rotate(self, key_id: str) -> keys.NewKey:
        """Give a key a new secret; the old one works for a day more."""
        record = self._need(key_id)
        if record.revoked_at is not None:
            raise ConfigError(f"the key {key_id} was revoked")
        made = keys.rotated(record, self._now())
        self._save(made.record)
        return made

    def _need(self, key_id: str) -> KeyRecord:
        for record in self.list():
            if record.key_id == key_id:
                return record
        raise ConfigError(f"there is no key {key_id!r} in {self._shown}")

    def _save(self, record: KeyRecord) -> None:
        try:
            self._access.save(record)
        except StoreError as error:
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> ConfigError:
        return ConfigError(f"the database {self._shown} cannot be used: {error}")


class _File:
    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(opened_beside(path))
            self._connection = connect(path)
            self._connection.text_factory = text_of
            stack.callback(self._connection.close)
            self._close = stack.pop_all().close

    def read(self) -> tuple[list[KeyRecord], int]:
        try:
            return read_keys(self._connection)
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def save(self, record: KeyRecord) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            perform(self._connection, SaveKey(record))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise StoreError(str(error)) from error

    def close(self) -> None:
        self._close()
