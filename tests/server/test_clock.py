"""A running server whose wall clock is set forward and back, by seconds and by years."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.access import keys
from progressbar_tracker.server.clock import JUMP_SECONDS, ClockJumpDetector, SystemClock, get_monotonic
from progressbar_tracker.server.items.expiry import STARTUP_GRACE_SECONDS
from progressbar_tracker.server.maintenance import KEY_RETENTION, TRIM_INTERVAL
from progressbar_tracker.server.mutations import MarkNotice, SaveKey
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.settings import DAY_SECONDS, RetentionPolicy
from tests.support.clock import START_TIME
from tests.support.offline_server import (
    GIVE_UP_SECONDS,
    HISTORY_SECONDS,
    KEEP_SECONDS,
    TICK_SECONDS,
    YEAR_SECONDS,
    OfflineServer,
    ServerClocks,
)
from tests.support.server import RunningServer, make_legacy_item
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from progressbar_tracker.server.stores.sqlite.store import SqliteStore

CLOCK_JUMPS = (1.2, 30.0, 3600.0, 5 * 3600.0, DAY_SECONDS, 91 * DAY_SECONDS, YEAR_SECONDS, 20 * YEAR_SECONDS)


@pytest.fixture
def offline_server(tmp_path: Path) -> Iterator[OfflineServer]:
    """A server without a socket."""
    bench = OfflineServer(tmp_path / "progress.db")
    yield bench
    bench.store.close()


@pytest.mark.parametrize("seconds", [sign * jump for jump in CLOCK_JUMPS for sign in (1, -1)])
@pytest.mark.parametrize("back", [True, False], ids=["and back", "for good"])
def test_clock_set_deletes_and_ends_nothing(offline_server: OfflineServer, seconds: float, back: bool) -> None:
    """For example 91 days forward for 1.2 s, or five hours forward for good: each period passes in full."""
    offline_server.end_run("past")
    offline_server.put("ended", status="failed")
    offline_server.put("running", heartbeat_timeout=60.0)
    offline_server.advance(700.0)  # longer than the grace period after a start
    offline_server.board.patch("running", {}, offline_server.clock())
    offline_server.advance(TICK_SECONDS)
    offline_server.jump(seconds)
    offline_server.advance(1.2)
    if back:
        offline_server.jump(-seconds)
    offline_server.advance(TRIM_INTERVAL + 1)
    assert offline_server.history() == {"past"}
    assert offline_server.board.require("running").status == "running"
    assert offline_server.board.get("ended") is not None
    assert offline_server.board.require("running").updated_at == pytest.approx(
        offline_server.clock() - TRIM_INTERVAL - 2.7, abs=3 * JUMP_SECONDS
    )
    for _ in range(3):
        offline_server.advance(max(HISTORY_SECONDS, GIVE_UP_SECONDS) + 2 * DAY_SECONDS)
    offline_server.stay_awake(STARTUP_GRACE_SECONDS)
    assert offline_server.board.snapshot() == []
    for _ in range(3):
        offline_server.advance(HISTORY_SECONDS + 2 * DAY_SECONDS)
        assert offline_server.store.flush(60)
    assert offline_server.history() == set()


@pytest.mark.parametrize("seed", range(40))
def test_clock_set_at_random_never_shortens_a_period(offline_server: OfflineServer, seed: int) -> None:
    choose = random.Random(seed)
    ended: dict[str, float] = {}
    reported_at: dict[str, float] = {}
    history_since: dict[str, float] = {}
    slack = 4 * JUMP_SECONDS + 2 * TICK_SECONDS
    for n in range(60):
        now = offline_server.clock.monotonic()
        chance = choose.random()
        if chance < 0.15:
            offline_server.put(f"ended-{n}", status="succeeded")
            ended[f"ended-{n}"] = now
        elif chance < 0.3:
            offline_server.put(f"running-{n}")
            reported_at[f"running-{n}"] = now
        elif chance < 0.4:
            offline_server.end_run(f"past-{n}")
            history_since[f"past-{n}"] = now
        elif chance < 0.5 and reported_at:
            item_id = choose.choice(sorted(reported_at))
            if offline_server.board.get(item_id) is not None:
                offline_server.board.patch(item_id, {}, offline_server.clock())
                reported_at[item_id] = now
        elif chance < 0.75:
            offline_server.advance(choose.choice((TICK_SECONDS, 60.0, 3600.0, DAY_SECONDS)))
        else:
            offline_server.jump(choose.choice((1, -1)) * choose.choice(CLOCK_JUMPS))
            if choose.random() < 0.5:
                offline_server.advance(choose.choice((TICK_SECONDS, 1.2)))
        offline_server.sweep()
        now = offline_server.clock.monotonic()
        present_ids = {item.id for item in offline_server.board.snapshot()}
        assert all(now - at >= KEEP_SECONDS - slack for item_id, at in ended.items() if item_id not in present_ids)
        assert all(
            now - at >= GIVE_UP_SECONDS - slack for item_id, at in reported_at.items() if item_id not in present_ids
        )
        past = offline_server.history()
        assert all(now - at >= HISTORY_SECONDS - slack for item_id, at in history_since.items() if item_id not in past)


@pytest.mark.parametrize("seed", range(40))
def test_expired_credential_stays_expired_if_the_clock_is_set(offline_server: OfflineServer, seed: int) -> None:
    choose = random.Random(seed)
    services, clock = offline_server.services, offline_server.clock
    credentials, sessions = [], []
    for n in range(5):
        key = keys.new_key(
            "read", str(n), clock(), expires_at=clock() + choose.choice((10.0, 3600.0, DAY_SECONDS, YEAR_SECONDS))
        )
        offline_server.store.commit([SaveKey(key.record)]).result(60)
        services.keyring.add(key.record)
        credentials.append((key, clock.monotonic() + (key.record.expires_at or 0) - clock()))
        cookie, record = services.sessions.begin(clock(), until=clock() + choose.choice((10.0, 3600.0, DAY_SECONDS)))
        sessions.append((cookie, clock.monotonic() + record.expires_at - clock()))
    refused: set[str] = set()

    def works(secret: str) -> bool:
        try:
            services.credentials.identify(secret)
        except ProblemError:
            return False
        return True

    for _ in range(60):
        if choose.random() < 0.5:
            offline_server.advance(choose.choice((TICK_SECONDS, 60.0, 3600.0, DAY_SECONDS)))
        else:
            offline_server.jump(choose.choice((1, -1)) * choose.choice(CLOCK_JUMPS))
        for key, end in credentials:
            let_in = works(key.secret)
            assert not (let_in and (key.secret in refused or clock.monotonic() >= end))
            refused |= set() if let_in else {key.secret}
        for cookie, end in sessions:
            let_in = services.credentials.find_session(cookie) is not None
            assert not (let_in and (cookie in refused or clock.monotonic() >= end))
            refused |= set() if let_in else {cookie}


@pytest.mark.parametrize("seconds", [sign * jump for jump in CLOCK_JUMPS for sign in (1, -1)])
def test_clock_set_never_extends_a_rate_limit(make_server: Callable[..., RunningServer], seconds: float) -> None:
    clock = ServerClocks()
    served = make_server(max_requests=1)
    served.stop()
    served.clock = clock  # type: ignore[assignment]
    served.start()
    http, browser = served.client("write"), served.client()
    waits = []
    for _ in range(3):
        for _ in range(12):
            response = http.get("/api/key-info")
            if response.status_code == 429:
                waits.append(int(response.headers["retry-after"]))
        for _ in range(7):
            response = browser.post("/login", data={"key": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
            if response.status_code == 429:
                waits.append(int(response.headers["retry-after"]))
        clock.wall = max(clock.wall + seconds, YEAR_SECONDS)
    assert waits
    assert max(waits) <= 61
    clock.advance(61.0)
    assert http.get("/api/key-info").status_code == 200
    response = browser.post("/login", data={"key": "wrong"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert response.status_code == 403


def test_message_scheduled_by_a_wrong_clock_is_sent(store: SqliteStore) -> None:
    """A retry is at most an hour away. One that is due in 20 years was scheduled while the clock was ahead."""
    from progressbar_tracker.server.models import Notice
    from progressbar_tracker.server.mutations import AddNotice

    notice = Notice("n", "hook", "a", "r", "failed", START_TIME, "{}", START_TIME)
    store.commit([AddNotice(notice), MarkNotice("n", 1, next_at=START_TIME + 20 * YEAR_SECONDS)]).result(60)
    assert [notice.notice_id for notice in store.read_due_notices(START_TIME, 10)] == ["n"]
    store.commit([MarkNotice("n", 1, next_at=START_TIME + 3000)]).result(60)
    assert store.read_due_notices(START_TIME, 10) == []


def test_items_of_the_future_expire(make_server: Callable[..., RunningServer]) -> None:
    """A server that starts with a correct clock limits timestamps that were written while the clock was ahead."""
    served = make_server(keep=RetentionPolicy(60.0), history=RetentionPolicy(60.0))
    served.clock.now = START_TIME + YEAR_SECONDS
    http = served.client("write")
    http.post("/progress", json=make_legacy_item("ended", 1)).raise_for_status()
    http.put("/api/v1/items/run", json={"run_id": "r", "heartbeat_timeout": 10}).raise_for_status()
    served.stop()
    served.clock.now = START_TIME
    served.start()
    http = served.client("write")
    served.clock.advance(70.0)
    wait_until(lambda: [(item["id"], item["stalled"]) for item in http.get("/progress").json()] == [("run", True)])


def test_clock_jump_is_logged_once(offline_server: OfflineServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        offline_server.jump(91 * DAY_SECONDS)
        for _ in range(5):
            offline_server.advance(TICK_SECONDS)
    assert [line for line in caplog.messages if "the clock was set" in line] == [
        "the clock was set forward by 7862400 s: what ends or is deleted after a period waits for another full period"
    ]


@pytest.mark.parametrize("seconds", [2.2, -2.2, 3600.0, -3600.0])
def test_clock_set_is_noticed_before_the_next_request(offline_server: OfflineServer, seconds: float) -> None:
    offline_server.put("running", age_seconds=100.0)
    offline_server.advance(TICK_SECONDS)
    offline_server.clock.advance(0.4)
    offline_server.clock.wall += seconds
    now = offline_server.services.now()
    assert now - offline_server.board.require("running").started_at == pytest.approx(100.9, abs=0.01)


def test_small_clock_steps_add_up_to_a_jump() -> None:
    clock = ServerClocks()
    jumps = ClockJumpDetector(clock)
    steps = []
    for _ in range(10):
        clock.wall += 0.9
        clock.advance(TICK_SECONDS)
        steps.append(jumps.poll())
    assert sum(steps) >= 9 - JUMP_SECONDS - 0.9
    assert not jumps.is_settled(KEY_RETENTION)


def test_system_clock_reports_no_jump() -> None:
    clock = SystemClock()
    jumps = ClockJumpDetector(clock)
    assert get_monotonic(clock)() <= get_monotonic(clock)()
    assert jumps.poll() == 0.0
    assert jumps.is_settled(1e12)


def test_clock_wrong_at_the_start_deletes_no_history(tmp_path: Path) -> None:
    """NTP corrects the clock a moment after the start."""
    first = OfflineServer(tmp_path / "progress.db")
    first.end_run("past")
    assert first.history() == {"past"}
    first.store.close()
    second = OfflineServer(tmp_path / "progress.db", ahead=91 * DAY_SECONDS)
    second.advance(TICK_SECONDS)
    second.jump(-91 * DAY_SECONDS)
    second.advance(TRIM_INTERVAL + 1)
    assert second.history() == {"past"}
    second.store.close()
