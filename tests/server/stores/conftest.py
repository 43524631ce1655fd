from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.stores import STORE_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from progressbar_tracker.server.stores.base import Store


@pytest.fixture(params=STORE_KINDS)
def reopen(request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """Open the store; a further call closes and reopens it."""
    opened: list[Store] = []
    open_it = STORE_KINDS[request.param](request)

    def again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(open_it())
        return opened[-1]

    yield again
    for store in opened:
        store.close()
