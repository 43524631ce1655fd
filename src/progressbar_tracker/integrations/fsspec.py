"""fsspec: a callback that reports the progress of a transfer, in bytes for one file, in files for many.

    import fsspec
    from progressbar_tracker.integrations.fsspec import TrackCallback

    fs = fsspec.filesystem("s3")
    with TrackCallback(id="backup") as callback:
        fs.put("photos/", "bucket/photos/", recursive=True, callback=callback)

The files of a transfer of many are nested items. Without a ``with`` block the item ends when the callback is garbage
collected, and its result is derived from the counts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("fsspec"):
    import fsspec

from progressbar_tracker._tracking.mirror import Reading, find_user_frame, start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._mirrored import make_mirror

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from progressbar_tracker._tracking.mirror import Mirror

    from ._mirrored import Labels

__all__ = ["TrackCallback"]


class _Counts:
    """The counts of a callback. A separate object, so that the callback can be freed before the last sample."""

    __slots__ = ("size", "unit", "value")

    def __init__(self) -> None:
        self.size: int | None = None
        self.value = 0
        self.unit = "B"

    def __call__(self) -> Reading:
        return Reading(self.value, self.size, None, "", unit=self.unit)


class TrackCallback(fsspec.Callback):
    """Reports the progress of a transfer.

    Args:
        **labels: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval`` and ``client`` of ``track()``. The default title is ``"Transfer"``; nested
            items have the names of their files.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> import os
        >>> fs = fsspec.filesystem("memory")
        >>> with TrackCallback(id="hello") as callback:
        ...     fs.pipe_file("/hello", b"world")
        ...     fs.get_file("/hello", os.devnull, callback=callback)
        >>> callback.value
        5
    """

    def __init__(self, **labels: Unpack[Labels]) -> None:
        self._counts = _Counts()  # first: fsspec replaces a missing attribute by a method that does nothing
        self._labels = labels
        self._parent_run: Mirror | None = None
        self._run = make_mirror(labels, title="Transfer")
        super().__init__()

    @property
    def size(self) -> int | None:
        """Total bytes or files; ``None`` if unknown."""
        return self._counts.size

    @size.setter
    def size(self, size: int | None) -> None:
        self._counts.size = size

    @property
    def value(self) -> int:
        """Completed bytes or files."""
        return self._counts.value

    @value.setter
    def value(self, value: int) -> None:
        self._counts.value = value

    def set_size(self, size: int | None) -> None:
        """Set the total. If the current transfer is complete, this starts the next one."""
        if self._run.status == "running":
            self._run.poll()
            if self._run.is_done:
                self._run.end("succeeded")
                self.value = 0
        self._start_run()
        super().set_size(size)

    def absolute_update(self, value: int) -> None:
        """Set the completed count."""
        self._start_run()
        super().absolute_update(value)

    def relative_update(self, inc: int = 1) -> None:
        """Increase the completed count."""
        self._start_run()
        super().relative_update(inc)

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> TrackCallback:  # noqa: ARG002 - fsspec's signature
        """Return the callback for one file of many."""
        self._counts.unit = "files"
        self._start_run()
        # The query of a URL is left out: it may be a signature.
        name = str(path_1).partition("?")[0].rstrip("/").rpartition("/")[2]
        labels: Labels = {**self._labels, "id": None, "title": name or "file", "keep": False}
        child = TrackCallback(**labels)
        child._parent_run = self._run
        return child

    def branch(self, path_1: str, path_2: str, kwargs: dict[str, Any]) -> None:
        """Support the file systems that do not call ``branched()``."""
        kwargs["callback"] = self.branched(path_1, path_2)

    def close(self) -> None:
        """Mark a running item as succeeded. Idempotent."""
        self._run.end("succeeded")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._run.end(*classify_error(error))
        self.close()

    def __del__(self) -> None:
        if "_run" in self.__dict__:
            self._run.abandon()

    def _start_run(self) -> None:
        if self._run.status == "running":
            return
        if self._run.status is not None:  # the callback is used again
            self._run = make_mirror(self._labels, title="Transfer")
        frame = find_user_frame(sys._getframe(2), "fsspec")
        start_mirror(self._run, frame, self._counts, parent=self._parent_run)
