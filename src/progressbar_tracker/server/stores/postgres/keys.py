"""Read and write keys for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import psycopg

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.mutations import SaveKey
from progressbar_tracker.server.stores.base import StoreError

from . import credential_rows, rows
from .schema import NOTIFY_CHANNEL, open_database

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker.server.models import KeyRecord

T = TypeVar("T")


class PostgresKeyStore:
    """The keys of a database.

    Args:
        url: The database.

    Raises:
        ConfigError: The database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._connection = open_database(url).connect()

    def read(self) -> tuple[list[KeyRecord], int]:
        """Return all keys and their revision."""
        credentials = _translate_errors(lambda: credential_rows.read_credentials(self._connection))
        return credentials.keys, credentials.rev

    def save(self, record: KeyRecord) -> None:
        """Add or replace a key, and notify the servers."""
        _translate_errors(lambda: self._save(record))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _save(self, record: KeyRecord) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            rows.execute_write(cursor, SaveKey(record))
            cursor.execute("UPDATE meta SET credentials_rev = credentials_rev + 1")
            rows.require_count(cursor, 1)
            cursor.execute(f"NOTIFY {NOTIFY_CHANNEL}")


def _translate_errors(action: Callable[[], T]) -> T:
    try:
        return action()
    except psycopg.Error as error:
        raise StoreError(summarize_error(error)) from error
