"""Read and write keys for the command line, also those of Web Push."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import psycopg

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.mutations import SaveKey
from progressbar_tracker.server.stores.base import StoreError

from . import credential_rows, rows
from .schema import NOTIFY_CHANNEL, open_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.models import KeyRecord

    from .rows import Cursor

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

    def replace_vapid_keys(self, replace: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
        """Replace the keys of Web Push, and notify the servers; return the number of push subscriptions."""
        return _translate_errors(lambda: self._replace_vapid_keys(replace))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _save(self, record: KeyRecord) -> None:
        with self._change() as cursor:
            rows.execute_write(cursor, SaveKey(record))

    def _replace_vapid_keys(self, replace: Callable[[tuple[str, ...]], tuple[str, ...]]) -> int:
        with self._change() as cursor:
            query = "SELECT state FROM credentials WHERE kind = 'secret' AND id = 'vapid' FOR UPDATE"
            (text,) = cursor.execute(query).fetchone() or ("",)
            cursor.execute(
                "UPDATE credentials SET state = %s WHERE kind = 'secret' AND id = 'vapid'",
                [" ".join(replace(tuple(str(text).split())))],
            )
            (count,) = cursor.execute("SELECT count(*) FROM credentials WHERE kind = 'subscription'").fetchone() or (0,)
        return int(count)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Cursor]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            yield cursor
            cursor.execute("UPDATE meta SET credentials_rev = credentials_rev + 1")
            rows.require_count(cursor, 1)
            cursor.execute(f"NOTIFY {NOTIFY_CHANNEL}")


def _translate_errors(action: Callable[[], T]) -> T:
    try:
        return action()
    except psycopg.Error as error:
        raise StoreError(summarize_error(error)) from error
