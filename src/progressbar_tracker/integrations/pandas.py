"""pandas: ``read_csv`` with a bar of bytes. ``progress_apply`` and its like come with the drop-in.

    from progressbar_tracker.integrations.pandas import read_csv

    table = read_csv("rows.csv.gz", id="rows")
    for chunk in read_csv("rows.csv", chunksize=100_000, id="rows"):
        ...

    from progressbar_tracker.tqdm import tqdm

    tqdm.pandas(desc="Squares")  # and then
    table.progress_apply(square, axis=1)

The bar is that of the bytes that were read, which are some ahead of the rows that were returned. A compressed file is
counted as it is on the disk.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Self, cast, overload

try:
    import pandas as pd
except ModuleNotFoundError as error:
    if error.name != "pandas":
        raise
    raise ImportError("pandas is not installed: pip install pandas", name="pandas") from error

from progressbar_tracker._tracking.mirror import start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._counted_file import CsvInput
from ._mirrored import make_mirror

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

    from progressbar_tracker._tracking.deadline import DeadlineLike
    from progressbar_tracker._tracking.mirror import Mirror
    from progressbar_tracker._tracking.tracker import HasSender

    from ._counted_file import CsvSource
    from ._mirrored import Labels

__all__ = ["Chunks", "read_csv"]


class Chunks:
    """The chunks of a file: for one loop, which may stand in a ``with`` block, and then its end is known exactly."""

    def __init__(self, reader: Any, source: CsvInput, run: Mirror) -> None:
        self._reader = reader
        self._source = source
        self._run = run

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Give one chunk after the other."""
        return self._iterate(sys._getframe(1))  # noqa: SLF001

    def _iterate(self, frame: FrameType) -> Iterator[pd.DataFrame]:
        run, source = self._run, self._source
        if run.status is None:
            start_mirror(run, frame, source)
        try:
            for chunk in self._reader:
                source.rows += len(chunk)
                yield chunk
        except GeneratorExit:
            run.left_early = True
            if not run.in_block:
                run.abandon()
            raise
        except BaseException as error:
            run.end(*classify_error(error))
            raise
        else:
            source.finish()
            run.end("succeeded")
        finally:
            self.close()

    def __enter__(self) -> Self:
        start_mirror(self._run, sys._getframe(1), self._source)  # noqa: SLF001
        self._run.in_block = True
        self._run.make_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._run.end(*classify_error(error))
        self._run.end("stopped" if self._run.left_early else "succeeded")
        self.close()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._reader.close()
        self._source.close()


@overload
def read_csv(source: CsvSource, *, chunksize: int, client: HasSender | None = None, **options: Any) -> Chunks: ...
@overload
def read_csv(
    source: CsvSource, *, chunksize: None = None, client: HasSender | None = None, **options: Any
) -> pd.DataFrame: ...
def read_csv(
    source: CsvSource,
    *,
    chunksize: int | None = None,
    id: str | None = None,
    title: str | None = None,
    group: str | None = None,
    weight: int = 0,
    keep: bool = False,
    notify: str | Sequence[str] | None = None,
    deadline: DeadlineLike | None = None,
    interval: float = 0.5,
    client: HasSender | None = None,
    **options: Any,
) -> pd.DataFrame | Chunks:
    r"""Return ``pandas.read_csv()`` with a bar of the bytes that were read.

    Args:
        source: A path, or a file that is open for reading bytes. Of an address or a file of text only rows are
            counted, and there is no total.
        chunksize: Rows of a chunk; without it the whole is returned.
        id: As ``track()`` has it, and so the following.
        title: By default the file's name, or ``"read_csv"``.
        group: A heading to sort under.
        weight: Higher is shown first.
        keep: Leave the item listed after it has succeeded or stopped.
        notify: Whom to tell of it.
        deadline: When it is late.
        interval: Least seconds between two sends.
        client: A client of your own.
        **options: Those of ``pandas.read_csv()``, but for ``iterator``.

    Returns:
        The table or, with a ``chunksize``, an iterable of tables.

    Raises:
        TypeError, ValueError: As ``track()``; ``iterator`` is set.
        Exception: What ``pandas.read_csv()`` raises.

    Example:
        >>> import io
        >>> len(read_csv(io.BytesIO(b"a,b\n1,2\n3,4\n"), id="rows"))
        2
    """
    if options.pop("iterator", False):
        raise ValueError("iterator is not supported: set chunksize")
    labels: Labels = {
        "id": id, "title": title, "group": group, "weight": weight, "keep": keep, "notify": notify,
        "deadline": deadline, "interval": interval, "client": client,
    }  # fmt: skip
    name = getattr(source, "name", source)
    plain = isinstance(name, str | os.PathLike) and "://" not in str(name)  # an address may hold a secret
    run = make_mirror(labels, title=os.path.basename(os.fspath(cast("str", name))) if plain else "read_csv")  # noqa: PTH119
    given = CsvInput(source, options)
    if chunksize is None:
        start_mirror(run, sys._getframe(1), given)  # noqa: SLF001
    try:
        read: Any = pd.read_csv(given.file, chunksize=chunksize, **options)
    except BaseException as error:
        given.close()
        run.end(*classify_error(error))
        raise
    if chunksize is not None:
        return Chunks(read, given, run)
    given.rows = len(read)
    given.finish()
    given.close()
    run.end("succeeded")
    return cast("pd.DataFrame", read)
