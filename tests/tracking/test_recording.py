"""``progressbar_tracker.testing``, by which users test their own programs."""

from __future__ import annotations

import threading

import pytest

from progressbar_tracker import ProgressBar, track
from progressbar_tracker.testing import recording


def test_a_loop_is_recorded_with_its_end_and_its_count():
    with recording() as recorded:
        for _ in track([1, 2, 3], id="job", title="A job", unit="rows", group="night"):
            pass
    run = recorded["job"]
    assert (run.status, run.completed, run.total) == ("succeeded", 3, 3)
    assert (run.title, run.unit, run.group, run.keep) == ("A job", "rows", "night", False)


def test_intermediate_state_is_recorded():
    with recording() as recorded, track(total=4, id="job") as bar:
        bar.advance(2)
        assert (recorded["job"].status, recorded["job"].completed) == ("running", 2)


def test_a_failure_is_recorded_with_its_text():
    with recording() as recorded, pytest.raises(ValueError, match="bad row"):
        with track(total=4, id="job"):
            raise ValueError("bad row")
    assert (recorded["job"].status, recorded["job"].error) == ("failed", "ValueError: bad row")


def test_each_run_is_recorded_and_the_id_gives_the_newest():
    with recording() as recorded:
        for rows in ([1], [1, 2]):
            for _ in track(rows, id="job"):
                pass
    assert [run.completed for run in recorded] == [1, 2]
    assert recorded["job"].completed == 2
    assert len({run.run_id for run in recorded}) == len(recorded) == 2


def test_unknown_id_raises_with_the_tracked_ids():
    with recording() as recorded:
        list(track([1], id="job"))
    assert "other" not in recorded
    with pytest.raises(KeyError, match=r"other.*job"):
        recorded["other"]


def test_parents_and_parts_are_recorded():
    with recording() as recorded:
        for _ in track([1], id="outer"):
            list(track([1], id="inner"))
        with track(total=2, id="shared") as bar:
            list(bar.share().track([1, 2], part="rows"))
    assert recorded["inner"].parent == "outer"
    assert [(run.id, run.part, run.completed) for run in recorded if run.part] == [("shared", "rows", 2)]


def test_no_thread_is_started_and_nothing_is_sent():
    thread_count = threading.active_count()
    with recording():
        list(track(range(1000), id="job", keep=True))
        assert threading.active_count() == thread_count


def test_recording_restores_the_configured_server(faults, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_URL", faults.url)
    monkeypatch.setenv("PROGRESSBAR_API_KEY", "key")
    with recording() as recorded:
        list(track([1], id="recorded", keep=True))
    list(track([1], id="sent", keep=True))
    faults.wait_for(lambda: "sent" in faults.items)
    assert "recorded" in recorded
    assert "recorded" not in faults.items


def test_recording_can_be_the_client():
    with recording() as recorded:
        pass
    list(track([1], id="job", client=recorded))
    assert "job" in recorded


def test_recording_does_not_affect_an_explicit_client(faults):
    with ProgressBar(faults.url, "key", auto_detect=False) as pb:
        with recording() as recorded:
            list(pb.track([1], id="job", keep=True))
        assert pb.sender.flush(60)
    assert "job" in faults.items
    assert len(recorded) == 0
