"""An asynchronous loop."""

import asyncio
from collections.abc import AsyncIterator

from progressbar_tracker import track


async def pages() -> AsyncIterator[int]:
    for number in range(20):
        await asyncio.sleep(0.02)
        yield number


async def main() -> None:
    async for _page in track(pages(), id="example-async", title="Pages", unit="pages", total=20):
        pass


asyncio.run(main())
