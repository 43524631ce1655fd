"""Contract of the callbacks of all libraries that train, search or boost."""

from __future__ import annotations

import copy
import logging
import pickle
import re
import time

import httpx
import pytest

from progressbar_tracker import ProgressBar, flush, track
from progressbar_tracker._sender import sender
from progressbar_tracker.integrations._training import Fit
from progressbar_tracker.testing import recording
from tests.support.fault_server import HANG, WRITE_KEY

STEP_COUNT = 5  # in an epoch


class FitContract:
    """Tests that each library runs with its own training.

    ``train()`` trains a tiny model for some epochs of ``STEP_COUNT`` steps. It calls ``in_step(number)`` in each step,
    from 1, which may raise, and stops after ``stop_after`` epochs through the library. ``expected_total()`` is the
    count of the item.
    """

    Callback: type
    raised: type[BaseException] = ValueError
    """The exception that the library raises for a ``ValueError`` in a step."""
    interrupted: type[BaseException] = KeyboardInterrupt
    inside: dict[str, str] = {}  # noqa: RUF012 - arguments of train() for a nested item
    metric_pattern = r"loss \d"

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        raise NotImplementedError

    def expected_total(self, epochs):
        return epochs

    def test_fit_succeeds_with_final_count_and_metric(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"))
        run = recorded["fit"]
        assert (run.status, run.completed, run.total) == ("succeeded", self.expected_total(2), self.expected_total(2))
        assert re.search(self.metric_pattern, run.description)
        assert {run.status for run in recorded} == {"succeeded"}

    def test_exception_in_step_is_raised_and_fails_item(self):
        def in_step(number):
            if number == 7:
                raise ValueError("bad batch")

        with recording() as recorded:
            with pytest.raises(self.raised, match="bad batch"):
                self.train(self.Callback(id="fit"), in_step=in_step)
        run = recorded["fit"]
        assert (run.status, run.error) == ("failed", "ValueError: bad batch")
        assert float(run.completed) == pytest.approx(self.expected_total(6 / STEP_COUNT))
        assert {run.status for run in recorded if run.id != "fit"} <= {"stopped"}

    def test_interrupt_fails_item_like_a_block(self):
        def in_step(number):
            if number == 7:
                raise KeyboardInterrupt

        with recording() as recorded:
            with pytest.raises(self.interrupted):
                self.train(self.Callback(id="fit"), in_step=in_step)
        assert (recorded["fit"].status, recorded["fit"].error) == ("failed", "KeyboardInterrupt")

    def test_fit_stopped_early_has_succeeded_with_note(self):
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

    def test_fit_after_failed_fit_is_new_run(self):
        def in_step(number):
            raise ValueError("at once")

        callback = self.Callback(id="fit")
        with recording() as recorded:
            with pytest.raises(self.raised, match="at once"):
                self.train(callback, in_step=in_step)
            self.train(callback)
        assert [run.status for run in recorded if run.id == "fit"] == ["failed", "succeeded"]

    def test_fit_without_name_is_named_after_model(self):
        with recording() as recorded:
            self.train(self.Callback())
        assert " of " in recorded.runs[0].title
        assert ".py" not in recorded.runs[0].title

    def test_training_without_server_is_silent(self, caplog, capsys):
        with caplog.at_level(logging.WARNING, "progressbar_tracker"):
            self.train(self.Callback(id="fit"))
        assert [record for record in caplog.records if record.name.startswith("progressbar_tracker")] == []
        assert "progressbar" not in capsys.readouterr().err

    def test_hanging_server_does_not_delay_training(self, faults, monkeypatch):
        monkeypatch.setattr(sender, "REQUEST_TIMEOUT", 90.0)  # longer than the training on a busy machine
        faults.default_fault = HANG
        client = ProgressBar(faults.url, WRITE_KEY, auto_detect=False)

        def in_step(number):
            if number == 3:
                faults.wait_for(lambda: faults.requests)

        started_at = time.monotonic()
        self.train(self.Callback(id="fit", client=client, interval=0.05), in_step=in_step)
        assert time.monotonic() - started_at < 60
        client.sender.close(0.0)
        client.close()

    def test_error_in_callback_is_logged_not_raised(self, monkeypatch, caplog):
        def broken(self, position, values=None):
            raise RuntimeError("out of order")

        monkeypatch.setattr(Fit, "set_position", broken)
        with recording() as recorded:
            self.train(self.Callback(id="fit"))
        assert recorded["fit"].status == "succeeded"
        assert "The training continues" in caplog.text

    def test_invalid_option_raises_in_constructor(self):
        with pytest.raises(TypeError, match="title must be a string"):
            self.Callback(title=7)
        with pytest.raises(ValueError, match="interval"):
            self.Callback(interval=-1)

    def test_callback_can_be_pickled_and_copied_during_fit(self):
        callback = self.Callback(id="fit")
        copies = []

        def in_step(number):
            copies.append((copy.deepcopy(callback._bars), pickle.loads(pickle.dumps(callback._bars))))

        with recording() as recorded:
            self.train(callback, in_step=in_step)
        assert [bars.is_running for pair in copies for bars in pair] == [False] * 2 * len(copies)
        assert recorded["fit"].status == "succeeded"

    def test_server_has_the_fit(self, server):
        key = server.create_key("write", "trainer")
        client = ProgressBar(server.url, key)
        self.train(self.Callback(id=f"{type(self).__name__}", title="A fit", keep=True, client=client))
        assert flush(10)
        client.close()
        items = httpx.get(f"{server.url}/progress", headers={"X-API-KEY": key}).json()
        (item,) = [entry for entry in items if entry["id"] == type(self).__name__]
        assert (item["status"], item["completed"], item["total"]) == (
            "succeeded",
            self.expected_total(2),
            self.expected_total(2),
        )
        assert re.search(self.metric_pattern, item["description"])

    def test_fit_in_loop_is_nested_in_bar_of_loop(self):
        with recording() as recorded:
            for _ in track(range(1), id="sweep"):
                self.train(self.Callback(id="fit"), **self.inside)
        assert recorded["fit"].parent == "sweep"


class BoostingContract(FitContract):
    """A step is a boosting round."""

    unit: str

    def expected_total(self, epochs):
        return epochs * STEP_COUNT

    def test_fit_moves_with_each_round(self):
        counts = []
        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=lambda _: counts.append(recorded["fit"].completed))
        assert counts == list(range(10))
        assert (recorded["fit"].total, recorded["fit"].unit) == (10, self.unit)
