"""The wall clock is set, forward and back, by seconds and by years, while a server runs."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.app import App, create_app
from progressbar_tracker.server.clock import JUMP_SECONDS, Jumps, SystemClock, monotonic_of
from progressbar_tracker.server.items.board import Owner
from progressbar_tracker.server.maintenance import KEYS, RARELY
from progressbar_tracker.server.models import AddHistory, Ended, MarkNotice, SaveKey
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.settings import DAY, Periods, Settings
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.server import NOW, Served, legacy

from .test_cluster import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEEP, HISTORY, GIVE_UP = DAY, 30 * DAY, 7200.0
TICK = 0.5
YEAR = 365 * DAY
JUMPS = (1.2, 30.0, 3600.0, 5 * 3600.0, DAY, 91 * DAY, YEAR, 20 * YEAR)


class TwoClocks:
    """A wall clock that is set by hand, and a monotonic one that goes on."""

    def __init__(self) -> None:
        self.wall, self.counted = NOW, 1000.0

    def __call__(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.counted

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.counted += seconds


class Bench:
    """A server without a socket, swept by hand."""

    def __init__(self, path: Path, ahead: float = 0.0) -> None:
        self.clock = TwoClocks()
        self.clock.wall += ahead
        self.store = SqliteStore(path, now=self.clock)
        settings = Settings(
            database=path, keep=Periods(KEEP), history=Periods(HISTORY), give_up=GIVE_UP, max_requests=5, port=0
        )
        self.app: App = create_app(settings, self.store, clock=self.clock)
        self.services = self.app.services
        self.board = self.services.board
        # Streams need a loop, and there are none here.
        self.services.hub.changed = self.services.hub.ring = lambda: None  # type: ignore[method-assign]

    def sweep(self) -> None:
        self.app.sweep.once()

    def pass_(self, seconds: float) -> None:
        """Let time pass; a program that runs gives a sign of life, and the server sweeps, all the while."""
        self.clock.pass_(seconds)
        self.sweep()

    def jump(self, seconds: float) -> None:
        self.clock.wall = max(self.clock.wall + seconds, 10 * YEAR)
        self.sweep()

    def put(self, item_id: str, **fields: object) -> None:
        change = self.board.put(item_id, dict(fields), Owner("k", "k"), self.clock())  # type: ignore[arg-type]
        self.store.later(change.writes())

    def remember(self, item_id: str) -> None:
        """Let a run end and go to the history."""
        self.put(item_id, status="succeeded")
        item = self.board.need(item_id)
        self.board.delete(item_id, self.clock())
        self.store.commit([AddHistory(Ended(item, "succeeded", self.clock()))]).result(10)

    def history(self) -> set[str]:
        assert self.store.flush(10)
        return {row.item.id for row in self.store.history(limit=1000)}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "progress.db")
    yield bench
    bench.store.close()


@pytest.mark.parametrize("seconds", [sign * jump for jump in JUMPS for sign in (1, -1)])
@pytest.mark.parametrize("back", [True, False], ids=["and back", "for good"])
def test_a_clock_that_is_set_deletes_and_ends_nothing(bench: Bench, seconds: float, back: bool) -> None:
    """91 days ahead for 1.2 s, five hours ahead for good: nothing leaves before its period has passed."""
    bench.remember("past")
    bench.put("ended", status="failed")
    bench.put("running", heartbeat_timeout=60.0)
    bench.pass_(700.0)  # programs have come back by now
    bench.board.patch("running", {}, bench.clock())
    bench.pass_(TICK)
    bench.jump(seconds)
    bench.pass_(1.2)
    if back:
        bench.jump(-seconds)
    bench.pass_(RARELY + 1)
    assert bench.history() == {"past"}
    assert bench.board.need("running").status == "running"
    assert bench.board.get("ended") is not None
    assert bench.board.need("running").updated_at == pytest.approx(bench.clock() - RARELY - 2.7, abs=3 * JUMP_SECONDS)
    for _ in range(3):
        bench.pass_(max(HISTORY, GIVE_UP) + 2 * DAY)
    assert bench.board.all() == []
    for _ in range(3):
        bench.pass_(HISTORY + 2 * DAY)
        assert bench.store.flush(10)
    assert bench.history() == set()


@pytest.mark.parametrize("seed", range(40))
def test_no_period_is_cut_short_however_the_clock_is_set(bench: Bench, seed: int) -> None:
    choose = random.Random(seed)
    ended: dict[str, float] = {}
    heard: dict[str, float] = {}
    remembered: dict[str, float] = {}
    slack = 4 * JUMP_SECONDS + 2 * TICK
    for n in range(60):
        now = bench.clock.monotonic()
        what = choose.random()
        if what < 0.15:
            bench.put(f"ended-{n}", status="succeeded")
            ended[f"ended-{n}"] = now
        elif what < 0.3:
            bench.put(f"running-{n}")
            heard[f"running-{n}"] = now
        elif what < 0.4:
            bench.remember(f"past-{n}")
            remembered[f"past-{n}"] = now
        elif what < 0.5 and heard:
            item_id = choose.choice(sorted(heard))
            if bench.board.get(item_id) is not None:
                bench.board.patch(item_id, {}, bench.clock())
                heard[item_id] = now
        elif what < 0.75:
            bench.pass_(choose.choice((TICK, 60.0, 3600.0, DAY)))
        else:
            bench.jump(choose.choice((1, -1)) * choose.choice(JUMPS))
            if choose.random() < 0.5:
                bench.pass_(choose.choice((TICK, 1.2)))
        bench.sweep()
        now = bench.clock.monotonic()
        there = {item.id for item in bench.board.all()}
        assert all(now - at >= KEEP - slack for item_id, at in ended.items() if item_id not in there)
        assert all(now - at >= GIVE_UP - slack for item_id, at in heard.items() if item_id not in there)
        past = bench.history()
        assert all(now - at >= HISTORY - slack for item_id, at in remembered.items() if item_id not in past)


@pytest.mark.parametrize("seed", range(40))
def test_what_has_expired_stays_so_however_the_clock_is_set(bench: Bench, seed: int) -> None:
    choose = random.Random(seed)
    services, clock = bench.services, bench.clock
    made, sessions = [], []
    for n in range(5):
        key = keys.new_key("read", str(n), clock(), expires_at=clock() + choose.choice((10.0, 3600.0, DAY, YEAR)))
        bench.store.commit([SaveKey(key.record)]).result(10)
        services.ring.add(key.record)
        made.append((key, clock.monotonic() + (key.record.expires_at or 0) - clock()))
        cookie, record = services.sessions.begin(clock(), until=clock() + choose.choice((10.0, 3600.0, DAY)))
        sessions.append((cookie, clock.monotonic() + record.expires_at - clock()))
    refused: set[str] = set()

    def works(secret: str) -> bool:
        try:
            services.identify(secret)
        except ProblemError:
            return False
        return True

    for _ in range(60):
        if choose.random() < 0.5:
            bench.pass_(choose.choice((TICK, 60.0, 3600.0, DAY)))
        else:
            bench.jump(choose.choice((1, -1)) * choose.choice(JUMPS))
        for key, end in made:
            let_in = works(key.secret)
            assert not (let_in and (key.secret in refused or clock.monotonic() >= end))
            refused |= set() if let_in else {key.secret}
        for cookie, end in sessions:
            let_in = services.session(cookie) is not None
            assert not (let_in and (cookie in refused or clock.monotonic() >= end))
            refused |= set() if let_in else {cookie}


@pytest.mark.parametrize("seconds", [sign * jump for jump in JUMPS for sign in (1, -1)])
def test_no_limit_is_longer_than_documented_when_the_clock_is_set(serve: Callable[..., Served], seconds: float) -> None:
    clock = TwoClocks()
    served = serve(max_requests=1)
    served.stop()
    served.clock = clock  # type: ignore[assignment]
    served.start()
    http, browser = served.client("write"), served.client()
    waits = []
    for _ in range(3):
        for _ in range(12):
            answer = http.get("/api/key-info")
            if answer.status_code == 429:
                waits.append(int(answer.headers["retry-after"]))
        for _ in range(7):
            answer = browser.post("/login", data={"key": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
            if answer.status_code == 429:
                waits.append(int(answer.headers["retry-after"]))
        clock.wall = max(clock.wall + seconds, YEAR)
    assert waits
    assert max(waits) <= 61
    clock.pass_(61.0)
    assert http.get("/api/key-info").status_code == 200
    answer = browser.post("/login", data={"key": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 403


def test_a_message_that_was_put_off_into_the_future_is_sent(store: SqliteStore) -> None:
    """The pause after a failure is an hour at most; what is due in 20 years was put off while the clock was ahead."""
    from progressbar_tracker.server.models import AddNotice, Notice

    notice = Notice("n", "hook", "a", "r", "failed", NOW, "{}", NOW)
    store.commit([AddNotice(notice), MarkNotice("n", 1, next_at=NOW + 20 * YEAR)]).result(10)
    assert [one.notice_id for one in store.notices(NOW, 10)] == ["n"]
    store.commit([MarkNotice("n", 1, next_at=NOW + 3000)]).result(10)
    assert store.notices(NOW, 10) == []


def test_items_of_the_future_do_not_stay_for_ever(serve: Callable[..., Served]) -> None:
    """A server that begins with a clock that is right again clamps what a clock ahead has stamped."""
    served = serve(keep=Periods(60.0), history=Periods(60.0))
    served.clock.now = NOW + YEAR
    http = served.client("write")
    http.post("/progress", json=legacy("ended", 1)).raise_for_status()
    http.put("/api/v1/items/run", json={"run_id": "r", "heartbeat_timeout": 10}).raise_for_status()
    served.stop()
    served.clock.now = NOW
    served.start()
    http = served.client("write")
    served.clock.pass_(70.0)
    until(lambda: [(one["id"], one["stalled"]) for one in http.get("/progress").json()] == [("run", True)])


def test_a_jump_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        bench.jump(91 * DAY)
        for _ in range(5):
            bench.pass_(TICK)
    assert [line for line in caplog.messages if "the clock was set" in line] == [
        "the clock was set forward by 7862400 s: what ends or is deleted after a period waits for another full period"
    ]


def test_small_steps_add_up_to_a_jump() -> None:
    clock = TwoClocks()
    jumps = Jumps(clock)
    found = []
    for _ in range(10):
        clock.wall += 0.9
        clock.pass_(TICK)
        found.append(jumps.look())
    assert sum(found) >= 9 - JUMP_SECONDS - 0.9
    assert not jumps.is_settled(KEYS)


def test_the_clock_of_the_machine_is_not_set_by_itself() -> None:
    clock = SystemClock()
    jumps = Jumps(clock)
    assert monotonic_of(clock)() <= monotonic_of(clock)()
    assert jumps.look() == 0.0
    assert jumps.is_settled(1e12)


def test_a_clock_that_is_wrong_at_the_start_deletes_no_history(tmp_path: Path) -> None:
    """NTP sets it a moment later."""
    first = Bench(tmp_path / "progress.db")
    first.remember("past")
    assert first.history() == {"past"}
    first.store.close()
    second = Bench(tmp_path / "progress.db", ahead=91 * DAY)
    second.pass_(TICK)
    second.jump(-91 * DAY)
    second.pass_(RARELY + 1)
    assert second.history() == {"past"}
    second.store.close()
