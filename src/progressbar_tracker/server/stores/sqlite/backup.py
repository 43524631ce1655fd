"""Copies of a database file: taken while a server runs on it, and put in its place while none does.

A copy is made under another name, checked, and then renamed: what has the name of a copy is whole. It is one file, in
which everything is that was committed when it was begun.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from progressbar_tracker._errors import ConfigError

from .files import BUSY_TIMEOUT, check_compatibility, check_schema, connect, harden_connection, read_version
from .locks import FileLock, check_single_name, open_alongside_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMPANION_SUFFIXES: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; with another database there, it would be taken for that one's."""


class CopySummary(NamedTuple):
    """What a copy holds.

    Attributes:
        items: How many items.
        runs: How many runs of the history.
        keys: How many keys.
        previous_path: Where the file is kept that was there before a :func:`restore`.
    """

    items: int
    runs: int
    keys: int
    previous_path: Path | None = None


def create_backup(database: Path, target: Path, *, replace: bool = False) -> CopySummary:
    """Copy a database into a file of its own, whether or not a server runs on it.

    Args:
        database: The database; it may be of an older schema, which the copy then has too.
        target: The file to make; only its owner may read it.
        replace: Take the place of a file that is there.

    Raises:
        ConfigError: It cannot be done, in one sentence; ``target`` is then as it was.
    """
    _check_target(database, target, replace=replace)
    with _open_source(database, "database") as source, _make_temporary(target) as part:
        found = _copy_database(source, part, target)
        if target.exists() and not replace:
            raise ConfigError(f"there is a file {target} already")
        _install_file(part, target)
    return found


def restore_backup(source: Path, database: Path, *, now: Callable[[], float] = time.time) -> CopySummary:
    """Put a copy in the place of a database, led forward to this version's schema; the copy stays as it is.

    The file that was there is kept beside it, with the time in its name.

    Args:
        source: The copy.
        database: The database; it need not be there.
        now: Seconds since the epoch.

    Raises:
        ConfigError: It cannot be done, in one sentence: a server runs on the database, or the copy is damaged, of
            another program or of a newer version. The database is then as it was.
    """
    if database.exists() and source.exists() and database.samefile(source):
        raise ConfigError(f"the copy {source} is the database itself")
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(_open_source(source, "copy", is_copy=True))
        if opened.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            check_single_name(source)  # no copy of backup: a server wrote to it, and its log may be elsewhere
        check_schema(opened, source, read_version(opened))
        lock = FileLock(database, create=False)
        stack.callback(lock.release)
        part = stack.enter_context(_make_temporary(database))
        found = _copy_database(opened, part, database)
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as made:
            harden_connection(made)
            check_schema(made, source, read_version(made))  # another program may have changed the source meanwhile
        connect(part).close()
        _match_owner(database, part, lock.path)
        former = _keep_previous(database, now())
        _install_file(part, database)
    return found._replace(previous_path=former)


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
    """Open a database of ours that is there, without changing it.

    Raises:
        ConfigError: It is none, or cannot be read, then or later.
    """
    if not path.is_file():
        raise ConfigError(f"there is no {kind} {path}")
    try:
        # What may be written is opened for writing: else SQLite could not read what a server is writing.
        address = f"file:{quote(str(path.absolute()))}?mode=rw"
        with (
            open_alongside_server(path, is_copy=is_copy),
            contextlib.closing(
                sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
            ) as connection,
        ):
            harden_connection(connection)
            version = read_version(connection)
            check_compatibility(connection, path, version)
            if version == 0:
                raise ConfigError(f"the {kind} {path} is empty")
            yield connection
    except sqlite3.Error as error:
        raise ConfigError(f"the {kind} {path} cannot be copied: {error}") from error


@contextlib.contextmanager
def _make_temporary(target: Path) -> Iterator[Path]:
    """Make an empty file beside a target, with a name that nobody uses; what is left of it at the end is removed."""
    part = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield part
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        for name in (part, *(_companion_path(part, end) for end in COMPANION_SUFFIXES)):
            with contextlib.suppress(OSError):
                name.unlink()


def _copy_database(source: sqlite3.Connection, part: Path, target: Path) -> CopySummary:
    """Copy what is committed now into an empty file, and see that all of it is there."""
    source.execute("VACUUM INTO ?", (str(part),))
    with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
        harden_connection(copy)
        (said,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise ConfigError(f"the copy for {target} is damaged, and was not kept: {said}")
        counts = [copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("items", "history", "keys")]  # noqa: S608
    return CopySummary(*counts)


def _match_owner(database: Path, *made: Path) -> None:
    """Give what root has made to whom the database belongs, or else its folder: a server does not run as root."""
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = (database if database.exists() else database.parent).stat()
        for path in made:
            os.chown(path, owner.st_uid, owner.st_gid)


def _keep_previous(database: Path, now: float) -> Path | None:
    """Give a database another name, beside the one it has; return that."""
    if not database.exists():
        return None
    name = f"{database.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    aside, again = database.with_name(name), 1
    while aside.exists():
        again += 1
        aside = database.with_name(f"{name}-{again}")
    # By second names and not by new ones: whenever the machine may stop, what was there is whole under one of them.
    for end in ("", *COMPANION_SUFFIXES):
        there = _companion_path(database, end)
        if there.exists():
            try:
                _companion_path(aside, end).hardlink_to(there)
            except OSError:
                there.rename(_companion_path(aside, end))
    for end in COMPANION_SUFFIXES:
        _companion_path(database, end).unlink(missing_ok=True)
    return aside


def _install_file(part: Path, target: Path) -> None:
    """Give a finished file its name, on disk."""
    _sync_file(part, os.O_RDWR)
    part.replace(target)
    if sys.platform != "win32":
        _sync_file(part.parent, os.O_RDONLY)


def _sync_file(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _companion_path(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
