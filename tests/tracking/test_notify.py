"""``notify=`` and ``deadline=`` of ``track()``, of the drop-in and of the command line."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker import track
from progressbar_tracker._http.legacy import LegacyState
from progressbar_tracker._reader_clock import UTC_CLOCK
from progressbar_tracker._tracking.deadline import make_deadline, parse_deadline
from progressbar_tracker.cli.pipe import pipe
from progressbar_tracker.cli.table import format_item_row
from progressbar_tracker.testing import Recording, recording
from progressbar_tracker.tqdm import tqdm


def parse_timestamp(deadline: str | None) -> float:
    assert deadline is not None
    return datetime.fromisoformat(deadline).timestamp()


def record_loop(**options: object) -> Recording:
    with recording() as recorded:
        list(track([1], id="a", display=False, **options))
    return recorded


def test_run_without_options_has_no_channel_and_deadline() -> None:
    assert (record_loop()["a"].notify, record_loop()["a"].deadline) == ((), None)


@pytest.mark.parametrize(("notify", "names"), [("phone", ("phone",)), (["a", "b", "a"], ("a", "b")), ((), ())])
def test_notify_takes_one_channel_or_several(notify: object, names: tuple[str, ...]) -> None:
    assert record_loop(notify=notify)["a"].notify == names


@pytest.mark.parametrize("value", [5, [5], {"a": 1}, True, b"a"])
def test_notify_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="notify"):
        track([], notify=value)


@pytest.mark.parametrize("value", [[""], "a" * 65, "a\n", list("abcdefghi")])
def test_notify_with_an_invalid_name_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="notify"):
        track([], notify=value)


@pytest.mark.parametrize("duration", [90, 90.0, timedelta(seconds=90)])
def test_duration_starts_with_the_run(duration: object) -> None:
    with recording() as recorded:
        loop = track([1], id="a", display=False, deadline=duration)
        started_at = time.time()
        list(loop)
    assert started_at + 90 - 0.001 <= parse_timestamp(recorded["a"].deadline) <= time.time() + 90


def test_each_run_has_its_own_deadline() -> None:
    with recording() as recorded:
        loop = track([1], id="a", display=False, deadline=90)
        list(loop)
        list(loop)
    first, second = [parse_timestamp(run.deadline) for run in recorded.runs]
    assert second >= first


def test_instant_is_sent_unchanged() -> None:
    instant = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parse_timestamp(record_loop(deadline=instant)["a"].deadline) == instant.timestamp()


def test_instant_without_a_time_zone_is_local_time() -> None:
    instant = datetime(2031, 7, 2, 3, 4, 5)  # noqa: DTZ001
    assert parse_timestamp(record_loop(deadline=instant)["a"].deadline) == time.mktime(instant.timetuple())


@pytest.mark.parametrize("value", ["tomorrow", True, [], object(), 1j])
def test_deadline_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="deadline"):
        track([], deadline=value)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 1e12, timedelta(-1), datetime.min, datetime.max])  # noqa: DTZ901
def test_deadline_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="deadline"):
        track([], deadline=value)


@given(st.floats(0, 3e9) | st.datetimes(datetime(1970, 1, 3), datetime(2160, 1, 1)))  # noqa: DTZ001
def test_accepted_deadline_is_exact_to_the_millisecond(due: float | datetime) -> None:
    at = due.timestamp() if isinstance(due, datetime) else due
    assert parse_timestamp(make_deadline(due).to_rfc3339(0.0)) == pytest.approx(at, abs=0.0011)


def test_drop_in_takes_notify_and_deadline() -> None:
    with recording() as recorded:
        list(tqdm([1], id="a", notify="phone", deadline=60, disable=None))
    assert recorded["a"].notify == ("phone",)
    assert recorded["a"].deadline is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1h30m", 5400), ("1.5 h", 5400), ("2d", 172800), ("1w", 604800), ("1y", 31536000)],
)
def test_typed_duration_is_parsed(text: str, seconds: float) -> None:
    assert parse_deadline(text) == seconds


def test_typed_instant_is_parsed() -> None:
    assert parse_deadline(" 2031-01-02T03:04Z ") == datetime(2031, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1h-2m", "h", "1e3", "2031-13-01", "500y", "99999999999"])
def test_other_typed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time such as|deadline"):
        parse_deadline(text)


def test_command_line_validates_the_deadline() -> None:
    with recording() as recorded:
        result = CliRunner().invoke(pipe, ["--deadline", "soon"])
    assert result.exit_code == 2
    assert "neither a time such as 90s" in result.output
    assert len(recorded) == 0


def test_legacy_item_has_neither_notify_nor_deadline() -> None:
    op = {"op": "put", "id": "a", "title": "t", "completed": 1, "total": 2, "notify": ["x"], "deadline": "2031-01-01"}
    assert set(LegacyState(op, 0.0, 0).to_item(1.0)) == {"id", "title", "description", "value", "weight"}


def test_late_item_is_marked_in_the_list() -> None:
    item = {"id": "a", "title": "t", "value": 0.5, "status": "running", "late": True}
    assert format_item_row(item, 0.0, UTC_CLOCK)[0] == "> running, late"
    assert format_item_row({**item, "late": False}, 0.0, UTC_CLOCK)[0] == "> running"
    assert format_item_row({**item, "stalled": True}, 0.0, UTC_CLOCK)[0] == "? stalled, late"
