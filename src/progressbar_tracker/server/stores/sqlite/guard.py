"""Check that a database is still the file at its path: a restarted server must find acknowledged writes there.

SQLite does not notice if its open file is deleted, replaced or overwritten. Each commit compares the identity
(``st_dev``, ``st_ino``) of the database, its log and its index with the open files. The log must hold the frames that
the index names. The database may change by checkpoints only, which the index counts.
(The layout of log and index: https://sqlite.org/walformat.html.)

This module never opens the database: POSIX drops the locks of SQLite when any descriptor of the file is closed.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from .locks import get_file_identity

if TYPE_CHECKING:
    from pathlib import Path

FINGERPRINT_BYTES: Final = 65_536
"""Length of the compared start of the database: each commit changes it."""

READ_TRIES: Final = 5
"""Attempts to read an index while another process changes it."""

_INDEX_HEADER: Final = struct.Struct("=IIIBBHII8s8s8s")
_WAL_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24


class _WalIndex(NamedTuple):
    """The log as its index describes it: its frames, its salt, and how many frames are in the database."""

    page_bytes: int
    frames: int
    checksum: bytes
    salt: bytes
    checkpointed: int
    attempted: int

    @property
    def log_bytes(self) -> int:
        """Minimum size of the log."""
        return _WAL_HEADER_BYTES + self.frames * (self.page_bytes + _FRAME_HEADER_BYTES) if self.frames else 0


class FileGuard:
    """Watches the files of one open database. Not thread-safe.

    Args:
        path: The configured path; may be a symbolic link.
        real: The resolved path, which the paths of log and index extend.
        handle: A descriptor of the database that stays open as long as the guard; -1 for none.
    """

    def __init__(self, path: Path, real: Path, handle: int) -> None:
        self._path = path
        self.log_path = real.with_name(real.name + "-wal")
        self._index_path = real.with_name(real.name + "-shm")
        self._handle = handle
        self._log_handle = os.open(self.log_path, os.O_RDONLY)
        self._index_handle = os.open(self._index_path, os.O_RDONLY)
        status = path.stat()
        self._identities = [
            get_file_identity(status), get_file_identity(os.fstat(self._log_handle)),
            get_file_identity(os.fstat(self._index_handle)),
        ]  # fmt: skip
        self._last_stat = status.st_mtime_ns, status.st_size
        self._fingerprint = self._read_fingerprint()
        index = self._read_index()
        self._checkpoint_progress = None if index is None else (index.salt, index.attempted, index.checkpointed)

    def find_fault(self) -> str | None:
        """Return why a commit would not reach the file at the path, or ``None`` if it would."""
        paths = self._path, self.log_path, self._index_path
        for path, identity in zip(paths, self._identities, strict=True):
            try:
                status = path.stat()
            except OSError as error:
                return f"{path} is gone ({error.strerror})"
            if get_file_identity(status) != identity:
                return f"{path} is another file now"
        if not self._is_log_intact():
            return f"{self.log_path} was truncated or overwritten by another program"
        if self._is_overwritten():
            return f"{self._path} was overwritten by another program"
        return None

    def is_moved(self) -> bool:
        """Return whether the open files are intact, so that a fault is only their location."""
        return self._is_log_intact() and not self._is_overwritten()

    def is_own_log(self) -> bool:
        """Return whether the log at its path is the open one."""
        try:
            return get_file_identity(self.log_path.stat()) == self._identities[1]
        except OSError:
            return False

    def close(self) -> None:
        """Close log and index, after SQLite has closed them."""
        os.close(self._log_handle)
        os.close(self._index_handle)

    def _is_log_intact(self) -> bool:
        index = self._read_index()
        for _ in range(READ_TRIES):
            if index is None or not index.frames or self._has_frames(index):
                return True
            before, index = index, self._read_index()
            if before == index:
                return False
        return True

    def _has_frames(self, index: _WalIndex) -> bool:
        if os.fstat(self._log_handle).st_size < index.log_bytes:
            return False
        if os.pread(self._log_handle, 8, 16) != index.salt:
            return False
        last = index.log_bytes - index.page_bytes - _FRAME_HEADER_BYTES
        return os.pread(self._log_handle, 16, last + 8) == index.salt + index.checksum

    def _is_overwritten(self) -> bool:
        if self._handle < 0:
            return False
        index, status = self._read_index(), os.fstat(self._handle)
        if index is None:
            return False
        progress, stat = (index.salt, index.attempted, index.checkpointed), (status.st_mtime_ns, status.st_size)
        if stat == self._last_stat:
            self._checkpoint_progress = progress
            return False
        had_checkpoint = progress != self._checkpoint_progress or index.checkpointed < index.attempted
        fingerprint = self._read_fingerprint()
        is_only_touched = fingerprint == self._fingerprint and status.st_size == self._last_stat[1]
        if not (had_checkpoint or is_only_touched):
            return True
        self._last_stat, self._checkpoint_progress, self._fingerprint = stat, progress, fingerprint
        return False

    def _read_fingerprint(self) -> int:
        return zlib.crc32(os.pread(self._handle, FINGERPRINT_BYTES, 0)) if self._handle >= 0 else 0

    def _read_index(self) -> _WalIndex | None:
        for _ in range(READ_TRIES):
            raw = os.pread(self._index_handle, 136, 0)
            if len(raw) < 136:
                return None
            if raw[:48] == raw[48:96]:
                return _parse_index(raw)
        return None


def _parse_index(raw: bytes) -> _WalIndex | None:
    _, _, _, ready, _, page_bytes, frames, _, checksum, salt, _ = _INDEX_HEADER.unpack_from(raw)
    if not ready:
        return None
    (checkpointed,), (attempted,) = struct.unpack_from("=I", raw, 96), struct.unpack_from("=I", raw, 128)
    # Pages of 64 KiB do not fit into the field, and are written as 1.
    size = (page_bytes & 0xFE00) + ((page_bytes & 1) << 16)
    stored = struct.pack(">II", *struct.unpack("=II", checksum))
    return _WalIndex(size, frames, stored, salt, checkpointed, attempted)
