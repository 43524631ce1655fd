from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from progressbar_tracker import integrations
from progressbar_tracker.testing import recording
from tests.support.connections import list_items, open_client
from tests.support.programs import ProgramRunner

from .callback_contract import STEP_COUNT, CallbackContract

LIGHTNING_PACKAGE = os.environ.get("LIGHTNING_PACKAGE", "lightning.pytorch")
pl = importlib.import_module(LIGHTNING_PACKAGE)

from progressbar_tracker.integrations import lightning as integration  # noqa: E402
from progressbar_tracker.integrations.lightning import TrackCallback  # noqa: E402 - it is of the package imported before


class TinyModel(pl.LightningModule):
    def __init__(self, in_step=lambda number: None):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.in_step = in_step
        self.number = 0

    def training_step(self, batch, batch_idx):
        self.number += 1
        self.in_step(self.number)
        loss = self.layer(batch[0]).square().mean() + 0.01
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.layer(batch[0]).square().mean() + 0.01)

    def test_step(self, batch, batch_idx):
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        return self.layer(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class StopAfter(pl.Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 == self.epochs:
            trainer.should_stop = True


def make_rows(batches=STEP_COUNT):
    return DataLoader(TensorDataset(torch.linspace(0, 1, 8 * batches).reshape(-1, 2)), batch_size=4)


class RowStream(IterableDataset):
    def __iter__(self):
        return iter(torch.ones(4 * STEP_COUNT, 1, 2))


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """A temporary working folder for checkpoints."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("working_folder")
class TestLightning(CallbackContract):
    Callback = TrackCallback
    interrupted = (SystemExit, KeyboardInterrupt)

    def trainer(self, *callbacks, **options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        return pl.Trainer(callbacks=list(callbacks), **{"enable_checkpointing": False, **quiet, **options})

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        trainer = self.trainer(callback, StopAfter(stop_after), max_epochs=epochs, **options)
        trainer.fit(TinyModel(in_step), make_rows())
        return trainer

    def test_callback_class_is_of_imported_package(self):
        assert issubclass(TrackCallback, pl.Callback)

    def test_resumed_fit_starts_at_its_epoch(self, tmp_path):
        trainer = self.train(self.Callback())
        trainer.save_checkpoint(tmp_path / "two.ckpt")
        states = []
        with recording() as recorded:
            model = TinyModel(lambda _: states.append((recorded["fit"].completed, recorded["fit/now"].title)))
            resumed = self.trainer(self.Callback(id="fit"), max_epochs=4)
            resumed.fit(model, make_rows(), ckpt_path=tmp_path / "two.ckpt")
        assert states[0] == (2, "Epoch 3")
        assert len(states) == 2 * STEP_COUNT
        assert recorded["fit"].completed == 4

    def test_fit_resumed_within_epoch_starts_at_its_step(self, tmp_path):
        saved = pl.callbacks.ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=STEP_COUNT + 2)
        self.trainer(saved, max_epochs=2, enable_checkpointing=True).fit(TinyModel(), make_rows())
        states = []
        with recording() as recorded:
            model = TinyModel(
                lambda _: states.append((float(recorded["fit"].completed), recorded["fit/now"].completed))
            )
            resumed = self.trainer(self.Callback(id="fit"), max_epochs=3)
            resumed.fit(model, make_rows(), ckpt_path=tmp_path / "middle.ckpt")
        assert states[0] == (pytest.approx(1.4), 2)
        assert (recorded["fit"].completed, recorded["fit"].total) == (3, 3)

    def test_fit_limited_by_steps_counts_steps(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"), epochs=-1, max_steps=7)
        run = recorded["fit"]
        assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 7, 7, "steps")
        assert "stopped early" not in run.description

    def test_total_is_limited_by_steps(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"), epochs=10, max_steps=7)
        run = recorded["fit"]
        assert (run.status, float(run.completed), run.total) == ("succeeded", pytest.approx(1.4), 1.4)
        assert "stopped early" not in run.description

    def test_unsized_source_has_no_total(self):
        totals = set()
        with recording() as recorded:
            trainer = self.trainer(self.Callback(id="fit"), max_epochs=2)
            model = TinyModel(lambda _: totals.add((recorded["fit"].total, recorded["fit/now"].total)))
            trainer.fit(model, DataLoader(RowStream(), batch_size=4))
        assert totals == {(2, None)}
        assert (recorded["fit"].status, recorded["fit"].completed) == ("succeeded", 2)

    def test_unlimited_fit_has_no_total(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"), epochs=-1, stop_after=3)
        run = recorded["fit"]
        assert (run.status, run.completed, run.total) == ("succeeded", 3, None)

    def test_validations_are_nested_and_do_not_hide_training(self):
        states = []

        class RecordingCallback(pl.Callback):
            def on_validation_batch_end(self, *args):
                states.append((recorded["fit/now"].title, recorded["fit/now"].completed, recorded["fit/now"].total))

            def on_train_batch_end(self, *args):
                states.append((recorded["fit/now"].title, recorded["fit/now"].completed, recorded["fit/now"].total))

        with recording() as recorded:
            trainer = self.trainer(
                self.Callback(id="fit"), RecordingCallback(), max_epochs=1, val_check_interval=2, num_sanity_val_steps=1
            )
            trainer.fit(TinyModel(), make_rows(), [make_rows(1), make_rows(2)])
        sanity = [("Validation", 1, 2), ("Validation", 2, 2)]
        validation = [("Validation", number, 3) for number in (1, 2, 3)]
        steps = [("Epoch 1", number, STEP_COUNT) for number in range(1, STEP_COUNT + 1)]
        assert states == [*sanity, *steps[:2], *validation, *steps[2:4], *validation, steps[4]]
        assert "val_loss" in recorded["fit"].description
        assert len(recorded) == 2

    def test_failure_in_sanity_check_fails_fit(self):
        class FailingModel(TinyModel):
            def validation_step(self, batch, batch_idx):
                raise ValueError("wrong shape")

        with recording() as recorded:
            with pytest.raises(ValueError, match="wrong shape"):
                self.trainer(self.Callback(id="fit"), max_epochs=1).fit(FailingModel(), make_rows(), make_rows())
        assert (recorded["fit"].status, recorded["fit"].error) == ("failed", "ValueError: wrong shape")

    def test_validate_test_and_predict_are_separate(self):
        with recording() as recorded:
            trainer = self.trainer(self.Callback(id="fit", title="Night"))
            trainer.validate(TinyModel(), make_rows(), verbose=False)
            trainer.test(TinyModel(), make_rows(), verbose=False)
            trainer.predict(TinyModel(), make_rows())
        assert [(run.id, run.title, run.status, run.completed, run.total) for run in recorded] == [
            ("fit/validation", "Night, validation", "succeeded", STEP_COUNT, STEP_COUNT),
            ("fit/test", "Night, test", "succeeded", STEP_COUNT, STEP_COUNT),
            ("fit/prediction", "Night, prediction", "succeeded", STEP_COUNT, STEP_COUNT),
        ]
        assert "val_loss" in recorded["fit/test"].description

    def test_only_first_process_reports(self, monkeypatch):
        monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
        with recording() as recorded:
            self.train(self.Callback(id="fit"))
        assert len(recorded) == 0

    def test_callback_works_if_imported_before_package(self, tmp_path):
        code = (
            "from progressbar_tracker.integrations.lightning import TrackCallback\n"
            f"import {LIGHTNING_PACKAGE} as pl\n"
            "trainer = pl.Trainer(callbacks=[TrackCallback()], logger=False, accelerator='cpu')\n"
            "print(len(trainer.callbacks))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


BAR_CLASSES = {"tqdm": pl.callbacks.TQDMProgressBar, "rich": pl.callbacks.RichProgressBar}


@pytest.fixture(params=BAR_CLASSES)
def make_trainer(request, working_folder):
    """Make trainers with each bar of Lightning."""

    def make(*callbacks, **options):
        quiet = {"logger": False, "enable_model_summary": False, "accelerator": "cpu", "enable_checkpointing": False}
        return pl.Trainer(callbacks=[BAR_CLASSES[request.param](), *callbacks], **{**quiet, "max_epochs": 2, **options})

    return make


@pytest.fixture
def installed():
    """Record the runs of this process, with ``install()`` of all libraries."""
    integrations.install()
    integration.install()
    with recording() as recorded:
        yield recorded
    integrations.uninstall()


def test_installed_hook_reports_fit_once(installed, make_trainer, capsys):
    make_trainer().fit(TinyModel(), make_rows(), make_rows(3))
    assert [(run.title, run.status) for run in installed if run.parent is None] == [("Fit of TinyModel", "succeeded")]
    assert (installed.runs[0].completed, installed.runs[0].total, len(installed)) == (2, 2, 2)


def test_installed_hook_reports_stages(installed, make_trainer, capsys):
    trainer = make_trainer()
    trainer.validate(TinyModel(), make_rows(), verbose=False)
    trainer.predict(TinyModel(), make_rows())
    assert [run.title for run in installed] == ["Validation of TinyModel", "Prediction of TinyModel"]


def test_installed_hook_leaves_explicit_callback_alone(installed, make_trainer, capsys):
    make_trainer(TrackCallback(id="fit")).fit(TinyModel(), make_rows())
    assert [run.id for run in installed] == ["fit", "fit/now"]


def test_installed_hook_reports_exception(installed, make_trainer, capsys):
    def in_step(number):
        raise ValueError("bad batch")

    with pytest.raises(ValueError, match="bad batch"):
        make_trainer().fit(TinyModel(in_step), make_rows())
    assert (installed.runs[0].status, installed.runs[0].error) == ("failed", "ValueError: bad batch")


def test_silent_trainer_is_not_reported(installed, working_folder):
    trainer = pl.Trainer(enable_progress_bar=False, logger=False, accelerator="cpu", max_epochs=1)
    trainer.fit(TinyModel(), make_rows())
    assert len(installed) == 0


def test_uninstalled_hook_leaves_trainer_unchanged(make_trainer):
    integration.install()
    integration.uninstall()
    assert not any(isinstance(each, TrackCallback) for each in make_trainer().callbacks)


PLAIN_PROGRAM = """
from tests.integrations.trainers.test_lightning import TinyModel, make_rows, pl
pl.seed_everything(1)
trainer = pl.Trainer(logger=False, accelerator="cpu", max_epochs=2, enable_checkpointing=False)
def in_step(number):
    if number == 8:
        raise OSError("disk full")

trainer.fit(TinyModel(in_step), make_rows())
"""


def test_run_reports_failed_fit_and_keeps_output(server, tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN_PROGRAM)
    runner = ProgramRunner(server, tmp_path)

    def run(*command):
        done = runner.run(sys.executable, *command, path, PYTHONPATH=str(Path(__file__).parents[3]))
        return done.returncode, *(
            re.sub(r"[\d-]:?[\d-]{2}:[\d-]{2}|[\d.]+ ?it/s|[━╸╺ ]+", "", each) for each in (done.stdout, done.stderr)
        )

    assert run("-m", "progressbar_tracker", "run") == run()
    with open_client(server.url, runner.key) as http:
        (item,) = [item for item in list_items(http).values() if item["error"] == "OSError: disk full"]
    assert (item["title"], item["status"], item["total"]) == ("Fit of TinyModel", "failed", 2)
