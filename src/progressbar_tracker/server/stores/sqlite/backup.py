"""Back up a database while a server runs on it, and restore it while none runs.

A copy gets its name only after it was checked, so a file with the name of a copy is complete. It is a single file with
all commits up to the start of the copy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._errors import ConfigError

from .files import check_schema, connect, harden_connection, open_existing, read_version
from .locks import FileLock, check_single_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMPANION_SUFFIXES: Final = ("-wal", "-shm", "-journal")
"""Files of SQLite beside a database. SQLite would apply them to another database with its name."""


class CopySummary(NamedTuple):
    """The number of records in a copy.

    Attributes:
        runs: Runs of the history.
        previous_path: The former database, which :func:`restore_backup` keeps.
    """

    items: int
    runs: int
    keys: int
    previous_path: Path | None = None


def create_backup(database: Path, target: Path, *, replace: bool = False) -> CopySummary:
    """Copy a database into a single file. A server may run on it.

    Args:
        database: The database. The copy has the same schema version, even an older one.
        target: The new file; only its owner may read it.
        replace: Replace an existing file.

    Raises:
        ConfigError: The copy failed; ``target`` is unchanged. The message is one sentence.
    """
    _check_target(database, target, replace=replace)
    with _open_source(database, "database") as source, _make_temporary(target) as part:
        summary = _copy_database(source, part, target)
        if target.exists() and not replace:
            raise ConfigError(f"there is a file {target} already")
        _install_file(part, target)
    return summary


def restore_backup(source: Path, database: Path, *, now: Callable[[], float] = time.time) -> CopySummary:
    """Replace a database by a copy, migrated to the newest schema. The copy itself does not change.

    The former file is kept beside the database, with the time in its name.

    Args:
        source: The copy.
        database: The database; may be missing.
        now: Seconds since the epoch.

    Raises:
        ConfigError: A server runs on the database, or the copy is damaged, of another program or of a newer version;
            in one sentence. The database is unchanged.
    """
    if database.exists() and source.exists() and database.samefile(source):
        raise ConfigError(f"the copy {source} is the database itself")
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(_open_source(source, "copy", is_copy=True))
        if opened.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            check_single_name(source)  # a server wrote to this file, so its log may have another name
        check_schema(opened, source, read_version(opened))
        lock = FileLock(database, create=False)
        stack.callback(lock.release)
        part = stack.enter_context(_make_temporary(database))
        summary = _copy_database(opened, part, database)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
            harden_connection(copy)
            check_schema(copy, source, read_version(copy))  # another program may have changed the source meanwhile
        connect(part).close()
        _match_owner(database, part, lock.path)
        former = _keep_previous(database, now())
        _install_file(part, database)
    return summary._replace(previous_path=former)


def _check_target(database: Path, target: Path, *, replace: bool) -> None:
    if target.is_dir():
        raise ConfigError(f"{target} is a folder: name a file in it")
    if not target.exists():
        return
    if database.exists() and target.samefile(database):
        raise ConfigError(f"{target} is the database itself")
    if not replace:
        raise ConfigError(f"there is a file {target} already")
    if any(_companion_path(target, end).exists() for end in COMPANION_SUFFIXES):
        raise ConfigError(f"{target} is a database that is in use")


@contextlib.contextmanager
def _open_source(path: Path, kind: str, *, is_copy: bool = False) -> Iterator[sqlite3.Connection]:
    """Open an existing database of this program, without changing it.

    Raises:
        ConfigError: The database is missing, foreign or empty, or cannot be read, now or during the copy.
    """
    if not path.is_file():
        raise ConfigError(f"there is no {kind} {path}")
    try:
        with open_existing(path, is_copy=is_copy) as connection:
            if read_version(connection) == 0:
                raise ConfigError(f"the {kind} {path} is empty")
            yield connection
    except sqlite3.Error as error:
        raise ConfigError(f"the {kind} {path} cannot be copied: {error}") from error


@contextlib.contextmanager
def _make_temporary(target: Path) -> Iterator[Path]:
    """Create an empty file with a unique name beside a target, and remove it at the end if it still exists."""
    part = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield part
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        for path in (part, *(_companion_path(part, end) for end in COMPANION_SUFFIXES)):
            with contextlib.suppress(OSError):
                path.unlink()


def _copy_database(source: sqlite3.Connection, part: Path, target: Path) -> CopySummary:
    """Copy all current commits into an empty file, and check its integrity."""
    source.execute("VACUUM INTO ?", (str(part),))
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
        harden_connection(copy)
        (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise ConfigError(f"the copy for {target} is damaged, and was not kept: {verdict}")
        counts = [copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("items", "history", "keys")]
    return CopySummary(*counts)


def _match_owner(database: Path, *created: Path) -> None:
    """Change the owner of files that root created to that of the database or its folder: servers do not run as root."""
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = (database if database.exists() else database.parent).stat()
        for path in created:
            os.chown(path, owner.st_uid, owner.st_gid)


def _keep_previous(database: Path, now: float) -> Path | None:
    """Link a database and its companions to names with the time; return the new name of the database."""
    if not database.exists():
        return None
    name = f"{database.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    previous, number = database.with_name(name), 1
    while previous.exists():
        number += 1
        previous = database.with_name(f"{name}-{number}")
    # Link instead of rename: if the machine stops at any point, one name still has the complete database.
    for end in ("", *COMPANION_SUFFIXES):
        path = _companion_path(database, end)
        if path.exists():
            try:
                _companion_path(previous, end).hardlink_to(path)
            except OSError:
                path.rename(_companion_path(previous, end))
    for end in COMPANION_SUFFIXES:
        _companion_path(database, end).unlink(missing_ok=True)
    return previous


def _install_file(part: Path, target: Path) -> None:
    """Rename a finished file to its target, durably."""
    _sync_file(part, os.O_RDWR)
    part.replace(target)
    if sys.platform != "win32":
        _sync_file(part.parent, os.O_RDONLY)


def _sync_file(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
        if sys.platform == "darwin":
            import fcntl

            with contextlib.suppress(OSError):  # a file system without it
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # fsync() leaves data in the cache of the disk
    finally:
        os.close(handle)


def _companion_path(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
