"""Open the store that a setting names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from progressbar_tracker._errors import ConfigError

from .sqlite.store import SqliteStore

if TYPE_CHECKING:
    from .base import Store


def open_store(database: Path | str) -> Store:
    """Return the store of a file or of a URL.

    Args:
        database: A file, or a ``postgresql://`` URL.

    Raises:
        ConfigError: The database cannot be used, in one sentence.
    """
    if isinstance(database, Path):
        return SqliteStore(database)
    require_postgres_driver()
    from .postgres import PostgresStore

    return PostgresStore(database)


def require_postgres_driver() -> None:
    """Check that the driver is installed.

    Raises:
        ConfigError: It is missing; the message contains the command that installs it.
    """
    try:
        import psycopg  # noqa: F401
        import psycopg_pool  # noqa: F401
    except ImportError as error:
        raise ConfigError("a PostgreSQL database needs its driver: pip install 'psycopg[binary,pool]'") from error
