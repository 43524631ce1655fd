"""fsspec: a callback that tells how far a transfer is, of one file in bytes, of many in files.

    import fsspec
    from progressbar_tracker.integrations.fsspec import TrackCallback

    fs = fsspec.filesystem("s3")
    with TrackCallback(id="backup") as callback:
        fs.put("photos/", "bucket/photos/", recursive=True, callback=callback)

The files of a transfer of many are items inside it. Without a ``with`` it ends when the callback is let go of, and how
is then known from the counts only.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

try:
    import fsspec
except ModuleNotFoundError as error:
    if error.name != "fsspec":
        raise
    raise ImportError("fsspec is not installed: pip install fsspec", name="fsspec") from error

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
    """What a callback was told. Apart from it, so that it can be let go of while this is still to be read."""

    __slots__ = ("size", "unit", "value")

    def __init__(self) -> None:
        self.size: int | None = None
        self.value = 0
        self.unit = "B"

    def __call__(self) -> Reading:
        return Reading(self.value, self.size, None, "", unit=self.unit)


class TrackCallback(fsspec.Callback):
    """Tells how far the transfer is that it is given to.

    Args:
        **labels: ``id``, ``title``, ``group``, ``weight``, ``keep``,
            ``notify``, ``deadline``, ``interval`` and ``client``, as ``track()`` has
            them. Without a title it is ``"Transfer"``; the items inside have the names of their files.

    Raises:
        TypeError, ValueError: As ``track()``.

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
        self._counts = _Counts()  # first of all: what is missing is taken for a method that does nothing
        self._labels = labels
        self._parent_run: Mirror | None = None
        self._run = make_mirror(labels, title="Transfer")
        super().__init__()

    @property
    def size(self) -> int | None:
        """Bytes or files in all; ``None`` where that is not known."""
        return self._counts.size

    @size.setter
    def size(self, size: int | None) -> None:
        self._counts.size = size

    @property
    def value(self) -> int:
        """Bytes or files done."""
        return self._counts.value

    @value.setter
    def value(self, value: int) -> None:
        self._counts.value = value

    def set_size(self, size: int | None) -> None:
        """Take the size in. The next one, after all is done, is that of another transfer."""
        if self._run.status == "running":
            self._run.poll()
            if self._run.is_done:
                self._run.end("succeeded")
                self.value = 0
        self._start_run()
        super().set_size(size)

    def absolute_update(self, value: int) -> None:
        """Set what is done."""
        self._start_run()
        super().absolute_update(value)

    def relative_update(self, inc: int = 1) -> None:
        """Add to what is done."""
        self._start_run()
        super().relative_update(inc)

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> TrackCallback:  # noqa: ARG002 - as fsspec calls it
        """Return the callback of one file of many."""
        self._counts.unit = "files"
        self._start_run()
        # Of an address all behind the name is left out: it may be a signature.
        name = str(path_1).partition("?")[0].rstrip("/").rpartition("/")[2]
        labels: Labels = {**self._labels, "id": None, "title": name or "file", "keep": False}
        child = TrackCallback(**labels)
        child._parent_run = self._run
        return child

    def branch(self, path_1: str, path_2: str, kwargs: dict[str, Any]) -> None:
        """Do the same for those that know no ``branched()``."""
        kwargs["callback"] = self.branched(path_1, path_2)

    def close(self) -> None:
        """End with success, if it has begun and not ended. Idempotent."""
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
        if self._run.status is not None:  # it is used once more
            self._run = make_mirror(self._labels, title="Transfer")
        frame = find_user_frame(sys._getframe(2), "fsspec")  # noqa: SLF001
        start_mirror(self._run, frame, self._counts, parent=self._parent_run)
