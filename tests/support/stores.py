"""The kinds of stores. All pass one contract suite."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.stores.postgres import PostgresStore
from progressbar_tracker.server.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from progressbar_tracker.server.stores.base import Store

STORE_KINDS: Final[dict[str, Callable[[pytest.FixtureRequest], Callable[[], Store]]]] = {
    "sqlite": lambda test: partial(SqliteStore, test.getfixturevalue("tmp_path") / "progress.db"),
    "postgres": lambda test: partial(PostgresStore, test.getfixturevalue("postgres_url")),
}


def commit_writes(store: Store, *writes: object) -> None:
    """Commit writes, and wait until they are on disk."""
    store.commit(writes).result(60)
