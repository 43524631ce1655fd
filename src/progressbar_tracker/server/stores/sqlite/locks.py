"""Lock a database file: one server at a time, on a file with one name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from progressbar_tracker._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

LOCK_TIMEOUT: Final = 0.5
"""Seconds to wait for a lock: a command of the command line holds it briefly while it opens the file."""

REMOTE_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs",
    "fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "prl_fs",
    "smb2", "smb3", "smbfs", "vboxsf",
})  # fmt: skip
"""File systems that other machines may write to, without respect for locks of this machine."""

_held_locks: dict[tuple[int, int], FileLock] = {}
"""The locks of this process, by device and inode of the database."""


class FileLock:
    """Locks out a second server, by ``flock`` on the database and on a lock file beside it, or as Windows locks it.

    Both locks end with the process. The lock on the database holds for all its names: symbolic links, hard links and
    bind mounts. It does not prevent two servers in sequence under two names, so :func:`check_single_name` refuses a
    file with several names. The lock file covers the moment in which :func:`~.backup.restore_backup` replaces the
    database. It also locks out servers of older versions, which use only this lock.

    POSIX drops all ``fcntl`` locks of a process on a file when the process closes any descriptor of it. SQLite relies
    on these locks. So the descriptor is opened before SQLite opens the file, and closed after SQLite has closed it.

    Only Linux separates ``flock`` from ``fcntl`` locks. On other systems, the lock file is the only lock.

    Args:
        database: The database file.
        create: Create the file and its folder if they do not exist.

    Raises:
        ConfigError: A server runs on this file, it is not a file, it has several names, or its file system does not
            support the locks.

    Attributes:
        path: The lock file.
        handle: The descriptor of the database; -1 without one.
    """

    def __init__(self, database: Path, *, create: bool = True) -> None:
        self._identity: tuple[int, int] | None = None
        self.real_path = real = Path(os.path.realpath(database))
        self.path = path = real.with_name(real.name + ".lock")
        self.handle = self._lock_handle = -1
        try:
            if real.exists() and not real.is_file():
                raise ConfigError(f"the database {database} cannot be used: it is not a file")
            real.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._refuse_held(database)
            self._lock_handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self._acquire(self._lock_handle, database)
            _check_lock_support(self._lock_handle, path, database)
            if sys.platform == "linux" and (create or real.exists()):
                self._lock_database(database)
            check_single_name(database)
        except OSError as error:
            self.release()
            name = error.filename or database
            raise ConfigError(f"the database {database} cannot be used: {error.strerror} ({name})") from error
        except ConfigError:
            self.release()
            raise

    def _refuse_held(self, database: Path) -> None:
        """Refuse a file that this process has locked: opening and closing it would drop the locks of SQLite."""
        with contextlib.suppress(FileNotFoundError):
            if get_file_identity(self.real_path.stat()) in _held_locks:
                raise ConfigError(f"a server is running on the database {database} already")

    def _lock_database(self, database: Path) -> None:
        # Create the file before SQLite does: only the owner may read it, and SQLite gives its other files that mode.
        self.handle = os.open(self.real_path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
        status = os.fstat(self.handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the database {database} cannot be used: it is not a file")
        self._acquire(self.handle, database)
        if get_file_identity(self.real_path.stat()) != get_file_identity(status):
            raise ConfigError(f"the database {database} was replaced while it was opened: start again")
        self._identity = get_file_identity(status)
        _held_locks[self._identity] = self

    def _acquire(self, handle: int, database: Path) -> None:
        until = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                if sys.platform == "win32":
                    import msvcrt

                    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # the first byte, which the file need not have
                else:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}:
                    raise ConfigError(_format_lock_error(database, f"it refuses flock: {error.strerror}")) from error
                if time.monotonic() >= until:
                    raise ConfigError(f"a server is running on the database {database} already") from error
                time.sleep(LOCK_TIMEOUT / 10)
            else:
                return

    def release(self) -> None:
        """Release both locks."""
        if self._identity is not None:
            _held_locks.pop(self._identity, None)
            self._identity = None
        for handle in (self.handle, self._lock_handle):
            if handle >= 0:
                if sys.platform == "win32":
                    import msvcrt

                    with contextlib.suppress(OSError):  # not locked; closing it would unlock it at some later time
                        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
                os.close(handle)
        self.handle = self._lock_handle = -1


def _release_locks() -> None:
    """Close the descriptors in a forked child, which would otherwise hold the locks."""
    for lock in list(_held_locks.values()):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_locks)


def get_file_identity(status: os.stat_result) -> tuple[int, int]:
    """Return device and inode, which are unique while the file is open."""
    return status.st_dev, status.st_ino


def _check_lock_support(handle: int, path: Path, database: Path) -> None:
    """Check that ``flock`` works on the file system, independently of ``fcntl`` locks.

    Args:
        handle: The locked descriptor of ``path``.
        path: The lock file.
        database: The database, for the message.

    Raises:
        ConfigError: Another machine may write there, or ``flock`` has no effect or uses ``fcntl`` locks.
    """
    if sys.platform != "linux":
        return
    kind = get_file_system(handle)
    if kind in REMOTE_FILE_SYSTEMS:
        raise ConfigError(_format_lock_error(database, f"{kind} is shared with other machines"))
    second = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
        else:
            raise ConfigError(_format_lock_error(database, "flock has no effect there"))
        try:
            fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(_format_lock_error(database, "flock and fcntl locks are the same there")) from error
    finally:
        os.close(second)


def _format_lock_error(database: Path, reason: str) -> str:
    return (
        f"the database {database} cannot be used: its file system does not keep a second server out ({reason}); "
        "put it on a local disk, or use PostgreSQL"
    )


def get_file_system(handle: int, mounts: str | None = None) -> str:
    """Return the type of the file system of an open file; ``""`` if it is unknown.

    Args:
        handle: A descriptor of the file.
        mounts: The text of ``/proc/self/mountinfo``; read by default.
    """
    try:
        text = Path("/proc/self/mountinfo").read_text("utf-8", "replace") if mounts is None else mounts
    except OSError:
        return ""
    mount = _get_mount_id(handle)
    for line in text.splitlines():
        fields, _, kind = line.partition(" - ")
        if mount is not None and fields.split(" ", 1)[0] == mount:
            return kind.split(" ", 1)[0]
    return ""


def _get_mount_id(handle: int) -> str | None:
    """Return the id of the mount of an open file, or ``None`` if it is unknown."""
    try:
        flags = Path(f"/proc/self/fdinfo/{handle}").read_text("ascii")
    except OSError:
        return None
    match = re.search(r"^mnt_id:\s*(\d+)$", flags, re.MULTILINE)
    return None if match is None else match[1]


def check_single_name(path: Path) -> None:
    """Check that a database has one name, or does not exist.

    The log and the index of SQLite (``-wal``, ``-shm``) belong to a name, not to the file. Under a second name, commits
    that only the log contains are missing, and a revoked key works again.

    A symbolic link is not a second name, because SQLite resolves it.

    Raises:
        ConfigError: The file has hard links, or is itself a mount point.
    """
    real = Path(os.path.realpath(path))
    if not real.exists():
        return
    if real.stat().st_nlink > 1:
        raise ConfigError(
            f"the database {path} cannot be used: the file has several names (hard links), and the latest commits "
            "are in the -wal file beside one of them: keep the name that the server used, and remove the others"
        )
    if _is_mount_point(real):
        raise ConfigError(
            f"the database {path} cannot be used: the file itself is a mount point, and the latest commits would "
            "stay outside of it, in the -wal file beside it: mount the folder, not the file"
        )


def _is_mount_point(real: Path) -> bool:
    """Return whether the file itself, not its folder, is a mount point."""
    if sys.platform != "linux":
        return False
    with contextlib.ExitStack() as stack:
        mounts = []
        for path in (real, real.parent):
            # Closing an O_PATH descriptor does not drop the locks of SQLite.
            handle = os.open(path, os.O_PATH)
            stack.callback(os.close, handle)
            mounts.append(_get_mount_id(handle))
    return mounts[0] != mounts[1]


@contextlib.contextmanager
def open_alongside_server(path: Path, *, is_copy: bool = False) -> Iterator[None]:
    """Permit access beside a running server, under the name that the server uses.

    The log of SQLite belongs to a name. Access through another name would miss the log and damage the file. Hard links
    that were made while the server runs are harmless under the name that it uses.

    Args:
        path: The database.
        is_copy: Accept a file with several names: a copy is complete without a log.

    Raises:
        ConfigError: A server runs on this file under another name, or on an earlier file at this path. Or no server
            runs, and the file has several names.
    """
    real = Path(os.path.realpath(path))
    if sys.platform != "linux" or (real.exists() and not real.is_file()):
        if not is_copy:
            check_single_name(path)
        yield
        return
    # If the server's file was moved away, SQLite would create a new one, and delete the log of the server.
    own = _held_locks.get(get_file_identity(real.stat())) if real.exists() else None
    if own is not None:
        _check_served_path(path, is_served=True, is_lock_held=own.real_path == real)
        yield
        return
    with contextlib.ExitStack() as stack:
        served = _is_locked(real, stack)
        beside = _is_locked(real.with_name(real.name + ".lock"), stack)
        if served != beside:
            # A starting server may hold only one of its locks.
            time.sleep(LOCK_TIMEOUT / 10)
            served = _is_locked(real, stack)
            beside = _is_locked(real.with_name(real.name + ".lock"), stack)
        # If the lock file was removed, the log still shows that a server runs.
        _check_served_path(
            path, is_served=served, is_lock_held=beside or (served and real.with_name(real.name + "-wal").exists())
        )
        if not (beside or is_copy):
            check_single_name(path)
        yield


def _check_served_path(path: Path, *, is_served: bool, is_lock_held: bool) -> None:
    if is_served and not is_lock_held:
        raise ConfigError(f"a server is running on the database {path} under another name: use that one")
    if is_lock_held and not is_served:
        raise ConfigError(
            f"a server is running on a file that is no longer at {path}, and writes nothing: "
            "stop it, or put the file back"
        )


def _is_locked(path: Path, stack: contextlib.ExitStack) -> bool:
    """Return whether a server has locked a file. The stack closes the descriptor, after that of SQLite."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False
