"""A server without a socket, whose clocks and maintenance a test runs by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker.server.app import App, create_app
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.models import EndedRun
from progressbar_tracker.server.mutations import AddHistory
from progressbar_tracker.server.settings import DAY_SECONDS, RetentionPolicy, Settings
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.clock import START_TIME

if TYPE_CHECKING:
    from pathlib import Path

KEEP_SECONDS, HISTORY_SECONDS, GIVE_UP_SECONDS = DAY_SECONDS, 30 * DAY_SECONDS, 7200.0
TICK_SECONDS = 0.5
YEAR_SECONDS = 365 * DAY_SECONDS


class ServerClocks:
    """A wall clock that the test sets, and a monotonic clock that only advances."""

    def __init__(self) -> None:
        self.wall, self.counted = START_TIME, 1000.0

    def __call__(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.counted

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.counted += seconds


class OfflineServer:
    """A server without a socket; the test runs its maintenance."""

    def __init__(self, path: Path, ahead: float = 0.0, clock: ServerClocks | None = None) -> None:
        self.clock = clock or ServerClocks()
        self.clock.wall += ahead
        self.store = SqliteStore(path)
        settings = Settings(
            database=path,
            keep=RetentionPolicy(KEEP_SECONDS),
            history=RetentionPolicy(HISTORY_SECONDS),
            give_up=GIVE_UP_SECONDS,
            max_requests=5,
            port=0,
        )
        self.app: App = create_app(settings, self.store, clock=self.clock)
        self.services = self.app.services
        self.board = self.services.board
        # Without an event loop there are no streams.
        self.services.hub.notify = self.services.hub.wake = lambda: None  # type: ignore[method-assign]

    def sweep(self) -> None:
        self.app.maintenance.run_once()

    def advance(self, seconds: float) -> None:
        """Advance both clocks and run maintenance."""
        self.clock.advance(seconds)
        self.sweep()

    def stay_awake(self, seconds: float) -> None:
        """Advance in small steps: a large one is a suspended server, whose silence removes nothing at once."""
        for _ in range(int(seconds / 9) + 1):
            self.advance(9.0)

    def jump(self, seconds: float) -> None:
        self.clock.wall = max(self.clock.wall + seconds, 10 * YEAR_SECONDS)
        self.sweep()

    def put(self, item_id: str, **fields: object) -> None:
        change = self.board.put(item_id, dict(fields), Owner("k", "k"), self.clock())  # type: ignore[arg-type]
        self.store.enqueue(change.writes())

    def end_run(self, item_id: str) -> None:
        """End a run and move it to the history."""
        self.put(item_id, status="succeeded")
        item = self.board.require(item_id)
        self.board.delete(item_id, self.clock())
        self.store.commit([AddHistory(EndedRun(item, "succeeded", self.clock()))]).result(60)

    def history(self) -> set[str]:
        assert self.store.flush(60)
        return {row.item.id for row in self.store.read_history(limit=1000)}
