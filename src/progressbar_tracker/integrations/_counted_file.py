"""Counts the bytes that pandas reads from a file. For ``integrations.pandas``."""

from __future__ import annotations

import io
import os
from typing import IO, Any, Final, TypeAlias

from progressbar_tracker._tracking.mirror import Reading

CsvSource: TypeAlias = "str | os.PathLike[str] | IO[bytes] | IO[str]"

COMPRESSION_BY_SUFFIX: Final = {
    ".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip", ".tar": "tar", ".tar.gz": "tar",
    ".tar.bz2": "tar", ".tar.xz": "tar",
}  # fmt: skip
BUFFER_BYTES: Final = 1 << 16


class _CountedFile(io.RawIOBase):
    """A file that records its position. Its close leaves the underlying file open."""

    def __init__(self, raw: io.RawIOBase, position: int) -> None:
        self._raw = raw
        self.position = position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self.position += count or 0
        return count

    def seekable(self) -> bool:
        return self._raw.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = self._raw.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        return self._raw.tell()


class CsvInput:
    """The input of pandas, with its progress in bytes, or in rows if the bytes cannot be counted.

    Args:
        source: The user's path or file.
        options: Options for pandas. The compression is added if it follows from the name.
    """

    def __init__(self, source: CsvSource, options: dict[str, Any]) -> None:
        self.file: Any = source
        self.size: int | None = None
        self.rows = 0
        self._counted_file: _CountedFile | None = None
        self._opened_file: IO[bytes] | None = None
        self._is_partial = options.get("nrows") is not None
        raw: Any = source
        if isinstance(source, os.PathLike) or (isinstance(source, str) and "://" not in source):
            path = os.path.expanduser(os.fspath(source))  # noqa: PTH111 - like pandas
            if options.get("compression", "infer") == "infer":
                endings = (ending for ending in COMPRESSION_BY_SUFFIX if path.lower().endswith(ending))
                options["compression"] = COMPRESSION_BY_SUFFIX.get(max(endings, key=len, default=""))
            self._opened_file = raw = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed by close()
        if not hasattr(raw, "readinto"):
            return
        position = 0
        if isinstance(raw, io.FileIO | io.BufferedReader):
            self.size = os.fstat(raw.fileno()).st_size or None  # a pipe has size 0
        elif isinstance(raw, io.BytesIO):
            self.size = raw.getbuffer().nbytes
        if self.size is not None:
            position = raw.tell()
        self._counted_file = _CountedFile(raw, position)
        self.file = io.BufferedReader(self._counted_file, BUFFER_BYTES)

    def __call__(self) -> Reading:
        if self._counted_file is None:
            return Reading(self.rows, None, None, "", unit="rows")
        return Reading(self._counted_file.position, self.size, None, "", unit="B")

    def finish(self) -> None:
        """Set the position to the size after the last row: some bytes of an archive are never read."""
        if self._counted_file is not None and self.size is not None and not self._is_partial:
            self._counted_file.position = self.size

    def close(self) -> None:
        """Close the file if this object opened it."""
        if self._opened_file is not None:
            self._opened_file.close()
