"""Run blocking work in daemon threads.

The process waits for the threads of an executor when it ends. A name server or a mail server may hang for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def start_daemon_thread(
    work: Callable[[], T], *, name: str = "progressbar-worker", on_end: Callable[[], object] = lambda: None
) -> asyncio.Future[T]:
    """Start work in a thread of its own, and return a future of its result or exception.

    Args:
        work: The work.
        name: The name of the thread.
        on_end: Is called on the event loop when the work has ended, even if the future was cancelled.

    Raises:
        RuntimeError: The system cannot start a thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def end(set_outcome: Callable[[], object]) -> None:
        on_end()
        if not done.done():
            set_outcome()

    def run() -> None:
        set_outcome: Callable[[], object]
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - the future raises it
            failure = error
            set_outcome = lambda: done.set_exception(failure)  # noqa: E731
        else:
            set_outcome = lambda: done.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(end, set_outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Wait for the result of work in a thread of its own."""
    return await start_daemon_thread(work)
