"""When maintenance removes ended items, silent items, runs of the history, and keys."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._tracking.deadline import parse_deadline
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Owner
from progressbar_tracker.server.items.expiry import STALE_ENTRIES, STARTUP_GRACE_SECONDS
from progressbar_tracker.server.items.validation import parse_write
from progressbar_tracker.server.maintenance import KEY_RETENTION, TRIM_INTERVAL
from progressbar_tracker.server.settings import DAY_SECONDS, RetentionPolicy, Settings
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import RunningServer

OWNER_A = Owner("me", "ci")
HOUR_SECONDS = 3600.0


def make_board(*items: tuple[str, dict[str, object]], **options: object) -> Board:
    numbers = itertools.count()
    board = Board(**{"max_items": 100, "new_run_id": lambda: f"run-{next(numbers)}", **options})
    for item_id, fields in items:
        board.put(item_id, parse_write(fields, merge=False), OWNER_A, 0.0)
    return board


def list_ids(board: Board) -> set[str]:
    return {item.id for item in board.snapshot()}


END_CASES = [(status, {"status": status}) for status in ("succeeded", "failed", "stopped")]


def test_ended_item_stays_by_default() -> None:
    board = make_board(*END_CASES)
    assert board.sweep(1000 * DAY_SECONDS) == []
    assert len(board) == 3


def test_ended_item_leaves_after_the_period_of_its_status() -> None:
    board = make_board(
        *END_CASES, keep=RetentionPolicy(2 * HOUR_SECONDS, {"succeeded": HOUR_SECONDS, "failed": math.inf})
    )
    board.sweep(0.0)
    (left,) = board.sweep(HOUR_SECONDS)
    assert left.ended_run is not None
    assert (left.id, left.ended_run.status, left.ended_run.ended_at) == ("succeeded", "succeeded", 0.0)
    assert [change.id for change in board.sweep(2 * HOUR_SECONDS)] == ["stopped"]
    assert board.sweep(1000 * DAY_SECONDS) == []
    assert list_ids(board) == {"failed"}


def test_ttl_of_an_item_overrides_the_setting() -> None:
    board = make_board(
        ("soon", {"status": "failed", "ttl": 5}),
        ("late", {"status": "failed", "ttl": 10 * HOUR_SECONDS}),
        keep=RetentionPolicy(HOUR_SECONDS),
    )
    assert [change.id for change in board.sweep(HOUR_SECONDS)] == ["soon"]
    assert [change.id for change in board.sweep(10 * HOUR_SECONDS)] == ["late"]


def test_running_item_stays_regardless_of_keep() -> None:
    board = make_board(("a", {}), keep=RetentionPolicy(0.0))
    board.sweep(DAY_SECONDS)
    assert list_ids(board) == {"a"}
    board.patch("a", parse_write({"status": "succeeded"}, merge=True), DAY_SECONDS)
    assert [change.id for change in board.sweep(DAY_SECONDS)] == ["a"]


def test_item_without_a_sign_of_life_is_given_up() -> None:
    board = make_board(("silent", {}), ("alive", {}), ("ended", {"status": "failed"}), give_up=DAY_SECONDS)
    board.sweep(0.0)
    board.patch("alive", {}, DAY_SECONDS / 2)
    (left,) = board.sweep(DAY_SECONDS)
    assert left.ended_run is not None
    assert (left.id, left.ended_run.status, left.event) == ("silent", "stopped", "item removed")
    assert [change.id for change in board.sweep(1.5 * DAY_SECONDS)] == ["alive"]
    assert list_ids(board) == {"ended"}


def test_new_run_gets_a_new_give_up_period() -> None:
    board = make_board(("a", {"run_id": "one", "status": "failed"}), give_up=DAY_SECONDS)
    board.sweep(0.0)
    board.put("a", parse_write({"run_id": "two"}, merge=False), OWNER_A, 10 * DAY_SECONDS)
    assert board.sweep(10.5 * DAY_SECONDS) == []
    assert [change.id for change in board.sweep(11 * DAY_SECONDS)] == ["a"]


def test_silence_while_the_server_was_down_does_not_count() -> None:
    before = make_board(("a", {}))
    board = make_board(items=before.snapshot(), give_up=DAY_SECONDS)
    assert board.sweep(2 * DAY_SECONDS) == []
    assert board.sweep(2 * DAY_SECONDS + STARTUP_GRACE_SECONDS - 1) == []
    assert [change.id for change in board.sweep(2 * DAY_SECONDS + STARTUP_GRACE_SECONDS)] == ["a"]


def test_only_the_leader_gives_items_up() -> None:
    board = make_board(("a", {}), give_up=DAY_SECONDS)
    board.sweep(0.0, expire=False)
    assert board.sweep(2 * DAY_SECONDS, expire=False) == []
    assert [change.id for change in board.sweep(2 * DAY_SECONDS)] == ["a"]


def test_deleted_items_leave_no_timers() -> None:
    board = make_board(
        ("stays", {"status": "failed"}), ("runs", {}), keep=RetentionPolicy(14 * DAY_SECONDS), give_up=14 * DAY_SECONDS
    )
    for n in range(5000):
        board.put(f"{n}", {}, OWNER_A, float(n))
        board.patch(f"{n}", parse_write({"status": "succeeded"}, merge=True), float(n))
        board.delete(f"{n}", float(n))
    assert len(board._timers._expiries) + len(board._timers._abandonments) < 2 * STALE_ENTRIES + 20
    board.sweep(0.0)
    assert {change.id for change in board.sweep(14 * DAY_SECONDS)} == {"stays", "runs"}


def test_history_keeps_each_status_for_its_period(make_server: Callable[..., RunningServer]) -> None:
    served = make_server(history=RetentionPolicy(DAY_SECONDS, {"failed": 10 * DAY_SECONDS}))
    http = served.client("write")
    for status in ("succeeded", "failed"):
        http.put(f"/api/v1/items/{status}", json={"status": status})
        http.delete(f"/api/v1/items/{status}")
    http.put("/api/v1/items/deleted", json={})
    http.delete("/api/v1/items/deleted")

    def statuses_in_history() -> set[str]:
        return {run["status"] for run in http.get("/api/v1/history").json()["items"]}

    assert statuses_in_history() == {"succeeded", "failed", "deleted"}
    served.clock.advance(DAY_SECONDS + TRIM_INTERVAL)
    wait_until(lambda: statuses_in_history() == {"failed"})
    served.clock.advance(10 * DAY_SECONDS)
    wait_until(lambda: not statuses_in_history())


def test_ended_key_is_deleted_and_its_items_keep_its_name(
    make_server: Callable[..., RunningServer],
) -> None:
    served = make_server()
    admin = served.client("admin")
    key = admin.post("/api/v1/keys", json={"type": "write", "name": "gone"}).json()
    served.client(key["key"]).put("/api/v1/items/a", json={})
    admin.delete(f"/api/v1/keys/{key['key_id']}")

    def names() -> set[str]:
        return {key["name"] for key in admin.get("/api/v1/keys").json()["keys"]}

    served.clock.advance(KEY_RETENTION - 2 * TRIM_INTERVAL)
    served.background.app.maintenance.run_once()
    served.background.store.flush(60)
    assert "gone" in names()
    assert key["key_id"] in served.background.app.services.credentials._touched_at
    served.clock.advance(3 * TRIM_INTERVAL)
    wait_until(lambda: "gone" not in names())
    assert names() == {"read", "write", "admin", "other"}
    assert key["key_id"] not in served.background.app.services.credentials._touched_at
    assert served.client("read").get("/api/v1/items/a").json()["owner"] == "gone"
    assert served.client(key["key"]).get("/progress").status_code == 401


# Settings


def test_retention_text_is_parsed_by_status() -> None:
    board = Settings.from_environ(
        {"PROGRESSBAR_KEEP": "succeeded=1h, failed=7d", "PROGRESSBAR_HISTORY": "30d,failed=forever"}, give_up="2w"
    )
    assert board.keep == RetentionPolicy(math.inf, {"succeeded": HOUR_SECONDS, "failed": 7 * DAY_SECONDS})
    assert board.history == RetentionPolicy(30 * DAY_SECONDS, {"failed": math.inf})
    assert board.give_up == 14 * DAY_SECONDS
    assert Settings.from_environ({}).history == RetentionPolicy(90 * DAY_SECONDS)
    named = Settings.from_environ({"PROGRESSBAR_HISTORY": "failed=1y"})
    assert named.history == RetentionPolicy(90 * DAY_SECONDS, {"failed": 365 * DAY_SECONDS})


@pytest.mark.parametrize("text", ["1h30m", "1.5h", "90min", "1h 30m"])
def test_period_has_the_form_of_a_deadline(text: str) -> None:
    settings = Settings.from_environ({"PROGRESSBAR_KEEP": text, "PROGRESSBAR_GIVE_UP": text})
    assert (settings.keep.default, settings.give_up, parse_deadline(text)) == (5400.0, 5400.0, 5400.0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KEEP", "7"), ("KEEP", "running=1h"), ("KEEP", "succeeded=soon"), ("KEEP", "-1d"), ("HISTORY", "1d=failed"),
        ("GIVE_UP", "1s"), ("GIVE_UP", "1h30"), ("GIVE_UP", "failed=1d"), ("METRICS_ITEMS", "-1"),
        ("METRICS_ITEMS", "all"), ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "loud"), ("ACCESS_LOG", "perhaps"),
    ],
)  # fmt: skip
def test_invalid_retention_text_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^PROGRESSBAR_{name} "):
        Settings.from_environ({f"PROGRESSBAR_{name}": text})
