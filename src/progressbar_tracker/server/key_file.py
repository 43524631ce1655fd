"""The keys of a database file, for the command line: works whether or not a server runs on the file.

A running server notices the changed revision of the keys within half a second.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Self

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import FieldError, KeyType

from . import keys
from .records import KeyRecord, SaveKey
from .stores.files import connect
from .stores.sqlite import perform, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class KeyFile:
    """The keys in a database file.

    Args:
        path: The database; made where it is not there.
        now: Seconds since the epoch.

    Raises:
        ConfigError: The file cannot be used, in one sentence; from every method too.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._connection = connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def list(self) -> list[KeyRecord]:
        """Return all keys, oldest first."""
        try:
            records, rev = read_keys(self._connection)
        except sqlite3.Error as error:
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
        raise ConfigError(f"there is no key {key_id!r} in {self._path}")

    def _save(self, record: KeyRecord) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            perform(self._connection, SaveKey(record))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> ConfigError:
        return ConfigError(f"the database {self._path} cannot be used: {error}")
