"""What holds for the callback of every training library, whatever its hooks are called."""

from __future__ import annotations

import copy
import logging
import pickle
import re
import time

import httpx
import pytest

from progressbar_tracker import ProgressBar, flush, track
from progressbar_tracker.integrations._training import Fit
from progressbar_tracker.testing import recording
from tests.support.fault_server import HANG, WRITE_KEY

STEP_COUNT = 5  # in an epoch


class CallbackContract:
    """Subclasses say how one trains.

    ``train()`` fits a tiny model for some epochs of ``STEPS`` steps. It calls ``in_step(number)`` in each step, from 1,
    which may raise, and stops after ``stop_after`` epochs by the library's means. ``whole()`` is what the item
    counts.
    """

    Callback: type
    interrupted: type[BaseException] = KeyboardInterrupt
    inside: dict[str, str] = {}  # noqa: RUF012 - what train() needs for an item inside

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        raise NotImplementedError

    def expected_total(self, epochs):
        return epochs

    def test_a_fit_counts_to_its_end_and_succeeds_with_its_loss(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"))
        run = recorded["fit"]
        assert (run.status, run.completed, run.total) == ("succeeded", self.expected_total(2), self.expected_total(2))
        assert re.search(r"loss \d", run.description)
        assert {run.status for run in recorded} == {"succeeded"}

    def test_it_moves_with_each_step(self):
        seen = []
        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=lambda _: seen.append(float(recorded["fit"].completed)))
        assert seen == pytest.approx([self.expected_total(step / STEP_COUNT) for step in range(2 * STEP_COUNT)])

    def test_what_goes_on_now_is_an_item_inside(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit", group="night", weight=3))
        inside = recorded["fit/now"]
        assert (inside.parent, inside.group, inside.weight) == ("fit", "night", 3)
        assert (inside.completed, inside.total) == (STEP_COUNT, STEP_COUNT)

    def test_an_exception_in_a_step_passes_and_fails_the_item_with_its_text(self):
        def in_step(number):
            if number == 7:
                raise ValueError("bad batch")

        with recording() as recorded:
            with pytest.raises(ValueError, match="bad batch"):
                self.train(self.Callback(id="fit"), in_step=in_step)
        run = recorded["fit"]
        assert (run.status, run.error) == ("failed", "ValueError: bad batch")
        assert float(run.completed) == pytest.approx(self.expected_total(6 / STEP_COUNT))
        assert {one.status for one in recorded if one.id != "fit"} <= {"stopped"}

    def test_an_interrupt_fails_the_item_as_it_fails_a_block(self):
        def in_step(number):
            if number == 7:
                raise KeyboardInterrupt

        with recording() as recorded:
            with pytest.raises(self.interrupted):
                self.train(self.Callback(id="fit"), in_step=in_step)
        assert (recorded["fit"].status, recorded["fit"].error) == ("failed", "KeyboardInterrupt")

    def test_a_fit_that_is_stopped_early_has_succeeded_and_says_so(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"), epochs=4, stop_after=2)
        run = recorded["fit"]
        assert (run.status, run.completed, run.total) == ("succeeded", self.expected_total(2), self.expected_total(4))
        assert run.description.startswith("stopped early, ")

    def test_two_fits_with_one_callback_are_two_runs(self):
        callback = self.Callback(id="fit")
        with recording() as recorded:
            self.train(callback)
            self.train(callback, epochs=3)
        runs = [run for run in recorded if run.id == "fit"]
        assert [(run.status, run.completed) for run in runs] == [
            ("succeeded", self.expected_total(2)),
            ("succeeded", self.expected_total(3)),
        ]

    def test_a_fit_after_a_failed_one_starts_anew(self):
        def in_step(number):
            raise ValueError("at once")

        callback = self.Callback(id="fit")
        with recording() as recorded:
            with pytest.raises(ValueError, match="at once"):
                self.train(callback, in_step=in_step)
            self.train(callback)
        assert [run.status for run in recorded if run.id == "fit"] == ["failed", "succeeded"]

    def test_a_fit_within_a_loop_is_inside_the_loop(self):
        with recording() as recorded:
            for _ in track(range(1), id="sweep"):
                self.train(self.Callback(id="fit"), **self.inside)
        assert (recorded["fit"].parent, recorded["fit/now"].parent) == ("sweep", "fit")

    def test_other_open_bars_do_not_take_its_place_as_the_parent(self):
        opened = []

        def in_step(number):
            if number == 1:
                opened.append(track(total=1, id="open"))
                opened[0].update(completed=0)

        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=in_step, **self.inside)
        assert recorded["open"].parent == "fit"
        assert {run.parent for run in recorded if run.id == "fit/now"} == {"fit"}

    def test_without_a_name_it_is_called_after_the_model(self):
        with recording() as recorded:
            self.train(self.Callback())
        assert " of " in recorded.runs[0].title
        assert ".py" not in recorded.runs[0].title

    def test_without_a_server_the_training_is_as_ever_and_nothing_is_said(self, caplog, capsys):
        with caplog.at_level(logging.WARNING, "progressbar_tracker"):
            self.train(self.Callback(id="fit"))
        assert [record for record in caplog.records if record.name.startswith("progressbar_tracker")] == []
        assert "progressbar" not in capsys.readouterr().err

    def test_a_server_that_hangs_does_not_hold_the_training_up(self, faults):
        faults.script.extend([HANG] * 20)
        client = ProgressBar(faults.url, WRITE_KEY, auto_detect=False)
        begun = time.monotonic()
        self.train(self.Callback(id="fit", client=client, interval=0.05), in_step=lambda _: time.sleep(0.05))
        assert time.monotonic() - begun < 4  # a request is given up after five seconds
        client.sender.close(0.0)
        client.close()

    def test_what_goes_wrong_in_it_is_logged_and_kept_from_the_training(self, monkeypatch, caplog):
        def broken(self, position, values=None):
            raise RuntimeError("out of order")

        monkeypatch.setattr(Fit, "set_position", broken)
        with recording() as recorded:
            self.train(self.Callback(id="fit"))
        assert recorded["fit"].status == "succeeded"
        assert "The training goes on" in caplog.text

    def test_a_wrong_option_is_told_when_the_callback_is_made(self):
        with pytest.raises(TypeError, match="title must be a string"):
            self.Callback(title=7)
        with pytest.raises(ValueError, match="interval"):
            self.Callback(interval=-1)

    def test_it_can_be_pickled_and_copied_in_the_middle_of_a_fit(self):
        callback = self.Callback(id="fit")
        copies = []

        def in_step(number):
            copies.append((copy.deepcopy(callback._bars), pickle.loads(pickle.dumps(callback._bars))))

        with recording() as recorded:
            self.train(callback, in_step=in_step)
        assert [bars.running for pair in copies for bars in pair] == [False] * 2 * len(copies)
        assert recorded["fit"].status == "succeeded"

    def test_a_real_server_has_the_fit(self, server):
        key = server.create_key("write", "trainer")
        client = ProgressBar(server.url, key)
        self.train(self.Callback(id=f"{type(self).__name__}", title="A fit", keep=True, client=client))
        assert flush(10)
        client.close()
        items = httpx.get(f"{server.url}/progress", headers={"X-API-KEY": key}).json()
        (item,) = [one for one in items if one["id"] == type(self).__name__]
        assert (item["status"], item["completed"], item["total"]) == (
            "succeeded",
            self.expected_total(2),
            self.expected_total(2),
        )
        assert "loss" in item["description"]
