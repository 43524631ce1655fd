"""pandas: ``read_csv`` with a bar of bytes. The drop-in provides ``progress_apply`` and similar methods.

    from progressbar_tracker.integrations.pandas import read_csv

    table = read_csv("rows.csv.gz", id="rows")
    for chunk in read_csv("rows.csv", chunksize=100_000, id="rows"):
        ...

    from progressbar_tracker.tqdm import tqdm

    tqdm.pandas(desc="Squares")
    table.progress_apply(square, axis=1)

The bar counts bytes read, which are ahead of the rows returned. For a compressed file it counts compressed bytes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Self, cast, overload

from ._packages import require_package

with require_package("pandas"):
    import pandas as pd

from progressbar_tracker._tracking.mirror import start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._counted_file import CsvInput
from ._mirrored import make_mirror

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

    from progressbar_tracker._models import StuckAfter
    from progressbar_tracker._tracking.creation import HasSender
    from progressbar_tracker._tracking.deadline import DeadlineLike
    from progressbar_tracker._tracking.mirror import Mirror

    from ._counted_file import CsvSource
    from ._mirrored import Labels

__all__ = ["Chunks", "read_csv"]


class Chunks:
    """The chunks of a file, for one loop. In a ``with`` block the end of the loop is known exactly."""

    def __init__(self, reader: Any, source: CsvInput, run: Mirror) -> None:
        self._reader = reader
        self._source = source
        self._run = run

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Start the item and yield the chunks."""
        return self._iterate(sys._getframe(1))

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
        start_mirror(self._run, sys._getframe(1), self._source)
        self._run.in_block = True
        self._run.make_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run.end_block(error)
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
    stuck_after: StuckAfter = "auto",
    interval: float = 0.5,
    client: HasSender | None = None,
    **options: Any,
) -> pd.DataFrame | Chunks:
    r"""Return ``pandas.read_csv()`` with a bar of the bytes that were read.

    Args:
        source: A path, or a file opened for reading bytes. For a URL or a text file only rows are counted, without a
            total.
        chunksize: Rows of a chunk; by default the whole table is returned.
        id: The item's id; see ``track()`` for this and the following arguments.
        title: By default the file's name, or ``"read_csv"``.
        group: Heading on the dashboard.
        weight: Items with a higher weight are shown first.
        keep: Keep the item on the board after it has succeeded or stopped.
        notify: Names of the channels to notify.
        deadline: Instant after which the item is late.
        stuck_after: Seconds without progress after which the item is stuck.
        interval: Minimum seconds between two requests.
        client: A ``ProgressBar`` that replaces the configured server and key.
        **options: Options of ``pandas.read_csv()`` except ``iterator``.

    Returns:
        The table or, with a ``chunksize``, an iterable of tables.

    Raises:
        TypeError, ValueError: As in ``track()``, or ``iterator`` is set.
        Exception: ``pandas.read_csv()`` raised it.

    Example:
        >>> import io
        >>> len(read_csv(io.BytesIO(b"a,b\n1,2\n3,4\n"), id="rows"))
        2
    """
    if options.pop("iterator", False):
        raise ValueError("iterator is not supported: set chunksize")
    labels: Labels = {
        "id": id, "title": title, "group": group, "weight": weight, "keep": keep, "notify": notify,
        "deadline": deadline, "stuck_after": stuck_after, "interval": interval, "client": client,
    }  # fmt: skip
    name = getattr(source, "name", source)
    is_path = isinstance(name, str | os.PathLike) and "://" not in str(name)  # a URL may contain a secret
    run = make_mirror(labels, title=os.path.basename(os.fspath(cast("str", name))) if is_path else "read_csv")  # noqa: PTH119
    csv_input = CsvInput(source, options)
    if chunksize is None:
        start_mirror(run, sys._getframe(1), csv_input)
    try:
        table: Any = pd.read_csv(csv_input.file, chunksize=chunksize, **options)
    except BaseException as error:
        csv_input.close()
        run.end(*classify_error(error))
        raise
    if chunksize is not None:
        return Chunks(table, csv_input, run)
    csv_input.rows = len(table)
    csv_input.finish()
    csv_input.close()
    run.end("succeeded")
    return cast("pd.DataFrame", table)
