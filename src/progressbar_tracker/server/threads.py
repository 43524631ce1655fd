"""Doing what blocks in a thread that nobody waits for.

Threads of a pool are waited for at the end of a process, and a name server or a mail server may hang for a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Return what ``work`` returns, or raise what it raises; called in a thread of its own."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def land(land_it: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if done.done() else land_it())

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
            land(lambda: done.set_exception(failure))
        else:
            land(lambda: done.set_result(result))

    threading.Thread(target=run, name="progressbar-aside", daemon=True).start()
    return await done
