"""Loops and blocks of ``track()`` against a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import threading

import pytest

from progressbar_tracker import Tracker, configure, flush, track
from tests.support.fault_server import make_response


def wait_for_end(faults, item_id="job"):
    faults.wait_for(lambda: any(run["id"] == item_id for run in faults.history))
    return faults.last_run(item_id)


def wait_for_status(faults, status, item_id="job"):
    faults.wait_for(lambda: faults.items.get(item_id, {}).get("status") == status)
    return faults.items[item_id]


def test_item_exists_while_the_loop_runs(faults, pb):
    for number in pb.track(range(10), id="job", title="A job"):
        if number == 4:
            assert pb.sender.flush(60)
            item = faults.items["job"]
    assert (item["title"], item["completed"], item["total"], item["status"]) == ("A job", 4, 10, "running")


def test_exhausted_loop_has_succeeded_and_leaves_the_list(faults, pb):
    for number in pb.track(range(10), id="job"):
        if number == 0:
            pb.sender.flush(60)
    run = wait_for_end(faults)
    assert (run["status"], run["completed"]) == ("succeeded", 10)
    assert faults.items == {}


def test_keep_leaves_a_finished_item_listed(faults, pb):
    for _ in pb.track(range(10), id="job", keep=True):
        pass
    assert wait_for_status(faults, "succeeded")["completed"] == 10


def test_loop_left_early_is_stopped_with_its_count(faults, pb):
    for number in pb.track(range(10), id="job"):
        pb.sender.flush(60)
        if number == 3:
            break
    run = wait_for_end(faults)
    assert (run["status"], run["completed"], run.get("error")) == ("stopped", 3, None)


def test_block_that_raises_is_failed_and_stays_listed(faults, pb):
    with pytest.raises(ValueError, match="bad row 3"):
        with pb.track(total=10, id="job") as bar:
            bar.advance(3)
            raise ValueError("bad row 3")
    item = wait_for_status(faults, "failed")
    assert (item["completed"], item["error"]) == (3, "ValueError: bad row 3")


def test_loop_in_a_block_that_raises_is_failed(faults, pb):
    with pytest.raises(KeyError):
        with pb.track([1, 2, 3], id="job") as bar:
            for number in bar:
                if number == 2:
                    raise KeyError("two")
    assert wait_for_status(faults, "failed")["error"] == "KeyError: 'two'"


def test_loop_in_a_block_left_by_break_is_stopped(faults, pb):
    with pb.track([1, 2, 3], id="job", keep=True) as bar:
        for number in bar:
            if number == 2:
                break
    assert wait_for_status(faults, "stopped")["completed"] == 1


def test_advance_and_update_change_the_item(faults, pb):
    with pb.track(total=100, id="job", unit="B", keep=True) as bar:
        bar.advance(10)
        bar.advance()
        bar.update(completed=50, total=200, description="half")
        bar.advance(1.5)
        bar.weight = 7
        bar.title = "Renamed"
    item = wait_for_status(faults, "succeeded")
    assert item["completed"] == 51.5
    assert (item["total"], item["unit"], item["weight"]) == (200, "B", 7)
    assert (item["title"], item["description"]) == ("Renamed", "half")


def test_tracker_without_loop_or_block_ends_with_close(faults, pb):
    bar = pb.track(total=3, id="job", keep=True)
    bar.advance(3)
    bar.close()
    bar.close()
    assert wait_for_status(faults, "succeeded")["completed"] == 3


def test_tracker_dropped_without_close_is_stopped(faults, pb):
    bar = pb.track(total=3, id="job", keep=True)
    bar.advance()
    del bar
    assert wait_for_status(faults, "stopped")["completed"] == 1


def test_fail_ends_the_run_with_a_text(faults, pb):
    with pb.track(total=3, id="job") as bar:
        bar.advance()
        bar.fail("disk full")
    assert wait_for_status(faults, "failed")["error"] == "disk full"


def test_many_steps_are_sent_exactly_in_few_requests(faults, pb):
    with pb.track(total=20_000, id="job", keep=True) as bar:
        for _ in range(20_000):
            bar.advance()
    assert pb.sender.flush(60)
    assert faults.items["job"]["completed"] == 20_000
    assert len(faults.requests) <= 3


def test_async_loop_is_tracked(faults, pb):
    async def source():
        for number in range(5):
            yield number

    async def main():
        return [number async for number in pb.track(source(), id="job", total=5, keep=True)]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert wait_for_status(faults, "succeeded")["completed"] == 5


def test_async_source_that_raises_is_failed_with_its_text(faults, pb):
    async def source():
        yield 1
        raise OSError("line dropped")

    async def main():
        async for _ in pb.track(source(), id="job"):
            pass

    with pytest.raises(OSError, match="line dropped"):
        asyncio.run(main())
    assert wait_for_status(faults, "failed")["error"] == "OSError: line dropped"


def test_run_without_an_id_gets_a_readable_one(faults, pb):
    for _ in range(2):
        for _ in pb.track([1], keep=True):
            pass
    faults.wait_for(lambda: len(faults.items) == 2)
    assert all("-" in item_id and len(item_id) < 80 for item_id in faults.items)
    assert {item["title"] for item in faults.items.values()} == {
        f"test_tracker.py:{item['title'].partition(':')[2]}" for item in faults.items.values()
    }


def test_a_bar_inside_another_names_its_parent(faults, pb):
    for _ in pb.track([1], id="outer", keep=True):
        for _ in pb.track([1], id="inner", keep=True):
            pass
    faults.wait_for(lambda: len(faults.items) == 2)
    assert faults.items["inner"]["parent"] == "outer"
    assert faults.items["outer"].get("parent") is None


def test_a_bar_after_another_has_no_parent(faults, pb):
    for item_id in ("first", "second"):
        for _ in pb.track([1, 2], id=item_id, keep=True):
            break
    faults.wait_for(lambda: len(faults.items) == 2)
    assert faults.items["second"].get("parent") is None


def test_tracker_can_be_iterated_again_as_a_new_run(faults, pb):
    tracker = pb.track([1, 2, 3], id="job", keep=True)
    assert list(tracker) == list(tracker) == [1, 2, 3]
    assert wait_for_status(faults, "succeeded")["completed"] == 3


def test_len_is_that_of_the_source_but_truth_is_not():
    assert len(track([1, 2, 3])) == 3
    assert bool(track([]))
    with pytest.raises(TypeError):
        len(track(iter([])))


def test_iteration_without_an_iterable_names_the_with_block():
    with pytest.raises(TypeError, match="with block"):
        iter(track(total=3))


def test_invalid_text_is_cleaned_and_sent(faults, pb):
    class Unprintable:
        def __str__(self):
            raise RuntimeError

    with pb.track(total=1, id="x" * 300 + "\x00", title="a\x1b[31mb\ud800", keep=True) as bar:
        bar.description = "y" * 5000
    faults.wait_for(lambda: faults.items)
    (item,) = faults.items.values()
    assert len(item["id"]) == 200
    assert item["title"] == "ab\ufffd"
    assert len(item["description"]) == 2000
    with pb.track(total=1, id="odd", keep=True) as bar:
        bar.description = Unprintable()
        bar.total = "many"
        bar.weight = 1.5
    assert "str() raised" in wait_for_status(faults, "succeeded", "odd")["description"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"id": 5}, "id"),
        ({"id": ""}, "id"),
        ({"title": 5}, "title"),
        ({"weight": True}, "weight"),
        ({"weight": 1.0}, "weight"),
        ({"interval": 0}, "interval"),
        ({"interval": "fast"}, "interval"),
        ({"total": "ten"}, "total"),
    ],
)
def test_invalid_argument_raises_at_once_with_its_name(arguments, name):
    with pytest.raises((TypeError, ValueError), match=name):
        track([1], **arguments)


def test_non_iterable_is_refused_at_once():
    with pytest.raises(TypeError, match="int"):
        track(5)


def test_advance_by_a_non_number_raises_type_error(pb):
    with pb.track(total=3, id="job") as bar, pytest.raises(TypeError, match="n must be a number"):
        bar.advance("one")


def test_numbers_of_other_types_are_counted(faults, pb):
    from decimal import Decimal

    with pb.track(total=10, id="job", keep=True) as bar:
        bar.advance(Decimal("1.5"))
        bar.advance(2.5)
        bar.advance(True)
        bar.weight = True
    item = wait_for_status(faults, "succeeded")
    assert (item["completed"], item["weight"], item["weight"] is True) == (5, 1, False)


def test_advance_from_eight_threads_is_exact_on_the_server(faults, pb):
    with pb.track(total=8000, id="job", keep=True) as bar:
        threads = [threading.Thread(target=lambda: [bar.advance() for _ in range(1000)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wait_for_status(faults, "succeeded")["completed"] == 8000


def test_unused_tracker_does_no_io(faults, pb):
    tracker = pb.track(range(3), id="job")
    assert isinstance(tracker, Tracker)
    assert pb.sender.flush(1)
    assert faults.requests == []


def test_legacy_server_gets_counts_in_the_description(old_server):
    from progressbar_tracker import ProgressBar
    from tests.support.fault_server import WRITE_KEY

    with ProgressBar(old_server.url, WRITE_KEY, auto_detect=False) as pb:
        with pytest.raises(ValueError, match="bad row"):
            with pb.track(total=10, id="job") as bar:
                bar.advance(4)
                pb.sender.flush(60)
                running = dict(old_server.items["job"])
                raise ValueError("bad row")
        pb.sender.flush(60)
    assert (running["description"], running["value"]) == ("4/10 it", 0.4)
    assert old_server.items["job"]["description"] == "failed: ValueError: bad row"


def test_missing_server_is_logged_once_with_its_variable(caplog):
    caplog.set_level("INFO", "progressbar_tracker")
    for _ in range(2):
        with track(total=1, id="job", keep=True) as bar:
            bar.advance()
        flush(20)
    lines = [record.message for record in caplog.records if "PROGRESSBAR_URL" in record.message]
    assert len(lines) == 1


def test_disable_turns_tracking_off(faults, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", faults.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    monkeypatch.setenv("PROGRESSBAR_DISABLE", "1")
    assert list(track([1, 2, 3], keep=True)) == [1, 2, 3]
    with track(total=1, keep=True) as bar:
        bar.advance()
    assert flush(20)
    assert faults.requests == []


def test_the_environment_configures_the_server(faults, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", faults.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "from-the-environment")
    for _ in track([1], id="job", keep=True):
        pass
    assert flush(20)
    assert faults.requests[0].headers["x-api-key"] == "from-the-environment"
    assert wait_for_status(faults, "succeeded")


def test_invalid_setting_is_logged_with_its_source(monkeypatch, caplog):
    monkeypatch.setenv("PROGRESSBAR_URL", "server:8989")
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    for _ in track([1], id="job", keep=True):
        pass
    flush(20)
    (record,) = caplog.records
    assert "PROGRESSBAR_URL must be a URL" in record.message
    assert "server:8989" in record.message


def test_on_error_gets_each_failure_and_may_raise(faults, pb):
    errors = []

    def callback(error):
        errors.append(error)
        raise RuntimeError("the callback is broken")

    configure(on_error=callback)
    faults.script.append(make_response(503))
    with pb.track(total=1, id="job", keep=True) as bar:
        bar.advance()
    assert pb.sender.flush(60)
    assert [type(error).__name__ for error in errors] == ["ServerError"]
    assert faults.items["job"]["status"] == "succeeded"


def test_refused_key_is_one_warning_without_the_key(faults, pb, caplog):
    faults.default_fault = make_response(401, b'{"detail": "unknown key"}')
    for number in range(3):
        for _ in pb.track([1], id=f"job{number}", keep=True):
            pass
        pb.sender.flush(60)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "(given in code)" in warnings[0].message
    assert "faultkey" not in caplog.text
    assert len(faults.requests) == 1
