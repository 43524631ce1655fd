"""What leaves by itself, and when: ended items, silent ones, the history, keys."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.items.board import Board, Owner
from progressbar_tracker.server.items.expiry import AWAKE, UNTRUE
from progressbar_tracker.server.items.validation import read_write
from progressbar_tracker.server.maintenance import KEYS, RARELY
from progressbar_tracker.server.settings import DAY, Periods, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import Served

ME = Owner("me", "ci")
HOUR = 3600.0


def board(*items: tuple[str, dict[str, object]], **options: object) -> Board:
    numbers = itertools.count()
    made = Board(**{"max_items": 100, "new_run_id": lambda: f"run-{next(numbers)}", **options})
    for item_id, fields in items:
        made.put(item_id, read_write(fields, merge=False), ME, 0.0)
    return made


def ids(made: Board) -> set[str]:
    return {item.id for item in made.all()}


ENDED = [(status, {"status": status}) for status in ("succeeded", "failed", "stopped")]


def test_without_a_word_what_has_ended_stays() -> None:
    made = board(*ENDED)
    assert made.sweep(1000 * DAY) == []
    assert len(made) == 3


def test_what_has_ended_leaves_when_its_end_says_so_and_keeps_that_end() -> None:
    made = board(*ENDED, keep=Periods(2 * HOUR, {"succeeded": HOUR, "failed": math.inf}))
    made.sweep(0.0)
    (left,) = made.sweep(HOUR)
    assert left.ended is not None
    assert (left.id, left.ended.status, left.ended.ended_at) == ("succeeded", "succeeded", 0.0)
    assert [change.id for change in made.sweep(2 * HOUR)] == ["stopped"]
    assert made.sweep(1000 * DAY) == []
    assert ids(made) == {"failed"}


def test_an_items_own_ttl_goes_before_what_is_set_for_all() -> None:
    made = board(
        ("soon", {"status": "failed", "ttl": 5}), ("late", {"status": "failed", "ttl": 10 * HOUR}), keep=Periods(HOUR)
    )
    assert [change.id for change in made.sweep(HOUR)] == ["soon"]
    assert [change.id for change in made.sweep(10 * HOUR)] == ["late"]


def test_what_runs_stays_however_short_ended_items_are_kept() -> None:
    made = board(("a", {}), keep=Periods(0.0))
    made.sweep(DAY)
    assert ids(made) == {"a"}
    made.patch("a", read_write({"status": "succeeded"}, merge=True), DAY)
    assert [change.id for change in made.sweep(DAY)] == ["a"]


def test_who_has_been_silent_for_too_long_is_given_up_and_who_gives_a_sign_is_not() -> None:
    made = board(("silent", {}), ("alive", {}), ("ended", {"status": "failed"}), give_up=DAY)
    made.sweep(0.0)
    made.patch("alive", {}, DAY / 2)
    (left,) = made.sweep(DAY)
    assert left.ended is not None
    assert (left.id, left.ended.status, left.event) == ("silent", "stopped", "item removed")
    assert [change.id for change in made.sweep(1.5 * DAY)] == ["alive"]
    assert ids(made) == {"ended"}


def test_a_run_that_begins_anew_is_watched_anew() -> None:
    made = board(("a", {"run_id": "one", "status": "failed"}), give_up=DAY)
    made.sweep(0.0)
    made.put("a", read_write({"run_id": "two"}, merge=False), ME, 10 * DAY)
    assert made.sweep(10.5 * DAY) == []
    assert [change.id for change in made.sweep(11 * DAY)] == ["a"]


def test_nobody_is_given_up_for_a_silence_while_the_server_was_away() -> None:
    before = board(("a", {}))
    made = board(items=before.all(), give_up=DAY)
    assert made.sweep(2 * DAY) == []
    assert made.sweep(2 * DAY + AWAKE - 1) == []
    assert [change.id for change in made.sweep(2 * DAY + AWAKE)] == ["a"]


def test_another_server_than_the_one_that_leads_gives_nobody_up() -> None:
    made = board(("a", {}), give_up=DAY)
    made.sweep(0.0, expire=False)
    assert made.sweep(2 * DAY, expire=False) == []
    assert [change.id for change in made.sweep(2 * DAY)] == ["a"]


def test_what_comes_and_goes_leaves_nothing_behind_that_waits_for_weeks() -> None:
    made = board(("stays", {"status": "failed"}), ("runs", {}), keep=Periods(14 * DAY), give_up=14 * DAY)
    for n in range(5000):
        made.put(f"{n}", {}, ME, float(n))
        made.patch(f"{n}", read_write({"status": "succeeded"}, merge=True), float(n))
        made.delete(f"{n}", float(n))
    assert len(made._schedule._expiries) + len(made._schedule._abandoned) < 2 * UNTRUE + 20
    made.sweep(0.0)
    assert {change.id for change in made.sweep(14 * DAY)} == {"stays", "runs"}


def wait_for(happened: Callable[[], object]) -> None:
    """The server sweeps by itself, twice a second; pytest-timeout ends what never comes to be."""
    while not happened():
        pass


def test_each_end_is_remembered_for_as_long_as_it_was_said(serve: Callable[..., Served]) -> None:
    served = serve(history=Periods(DAY, {"failed": 10 * DAY}))
    http = served.client("write")
    for status in ("succeeded", "failed"):
        http.put(f"/api/v1/items/{status}", json={"status": status})
        http.delete(f"/api/v1/items/{status}")
    http.put("/api/v1/items/deleted", json={})
    http.delete("/api/v1/items/deleted")

    def remembered() -> set[str]:
        return {run["status"] for run in http.get("/api/v1/history").json()["items"]}

    assert remembered() == {"succeeded", "failed", "deleted"}
    served.clock.pass_(DAY + RARELY)
    wait_for(lambda: remembered() == {"failed"})
    served.clock.pass_(10 * DAY)
    wait_for(lambda: not remembered())


def test_a_key_that_has_ended_is_forgotten_in_the_end_and_its_items_still_name_it(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    admin = served.client("admin")
    made = admin.post("/api/v1/keys", json={"type": "write", "name": "gone"}).json()
    served.client(made["key"]).put("/api/v1/items/a", json={})
    admin.delete(f"/api/v1/keys/{made['key_id']}")

    def names() -> set[str]:
        return {key["name"] for key in admin.get("/api/v1/keys").json()["keys"]}

    served.clock.pass_(KEYS - 2 * RARELY)
    served.server.app.sweep.once()
    served.server.store.flush(10)
    assert "gone" in names()
    assert made["key_id"] in served.server.app.services._touched
    served.clock.pass_(3 * RARELY)
    wait_for(lambda: "gone" not in names())
    assert names() == {"read", "write", "admin", "other"}
    assert made["key_id"] not in served.server.app.services._touched
    assert served.client("read").get("/api/v1/items/a").json()["owner"] == "gone"
    assert served.client(made["key"]).get("/progress").status_code == 401


# The settings


def test_periods_are_read_by_status() -> None:
    made = Settings.from_environ(
        {"PROGRESSBAR_KEEP": "succeeded=1h, failed=7d", "PROGRESSBAR_HISTORY": "30d,failed=forever"}, give_up="2w"
    )
    assert made.keep == Periods(math.inf, {"succeeded": HOUR, "failed": 7 * DAY})
    assert made.history == Periods(30 * DAY, {"failed": math.inf})
    assert made.give_up == 14 * DAY
    assert Settings.from_environ({}).history == Periods(90 * DAY)
    named = Settings.from_environ({"PROGRESSBAR_HISTORY": "failed=1y"})
    assert named.history == Periods(90 * DAY, {"failed": 365 * DAY})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KEEP", "7"), ("KEEP", "running=1h"), ("KEEP", "succeeded=soon"), ("KEEP", "-1d"), ("HISTORY", "1d=failed"),
        ("GIVE_UP", "1s"), ("GIVE_UP", "failed=1d"), ("METRICS_ITEMS", "-1"), ("METRICS_ITEMS", "all"),
        ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "loud"), ("ACCESS_LOG", "perhaps"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^PROGRESSBAR_{name} "):
        Settings.from_environ({f"PROGRESSBAR_{name}": text})
