from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from progressbar_tracker import tqdm
from progressbar_tracker.integrations import transformers as integration
from progressbar_tracker.integrations.transformers import TrackCallback
from progressbar_tracker.testing import recording
from tests.support.connections import list_items, open_client
from tests.support.programs import ProgramRunner

from .callback_contract import STEP_COUNT, CallbackContract


class TinyModel(torch.nn.Module):
    def __init__(self, in_step=lambda number: None):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.in_step = in_step
        self.number = 0

    def forward(self, x, labels=None):
        if self.training:
            self.number += 1
            self.in_step(self.number)
        out = self.layer(x)
        return {"loss": out.square().mean() + 0.01, "logits": out}


class StopAfter(TrainerCallback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.epochs is not None and round(state.epoch) == self.epochs:
            control.should_training_stop = True


class RowStream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(make_rows())


def make_rows(batches=STEP_COUNT):
    return [{"x": torch.tensor([number / 100, 1.0]), "labels": torch.zeros(1)} for number in range(4 * batches)]


class TestTransformers(CallbackContract):
    Callback = TrackCallback
    inside = {"eval_strategy": "epoch"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def working_folder(self, tmp_path):
        """A temporary folder for checkpoints."""
        self.tmp_path = tmp_path

    def expected_total(self, epochs):
        return STEP_COUNT * epochs

    def trainer(self, model, *callbacks, data=None, **options):
        arguments = TrainingArguments(
            str(self.tmp_path / "out"),
            **{
                "per_device_train_batch_size": 4,
                "per_device_eval_batch_size": 4,
                "report_to": [],
                "disable_tqdm": True,
                "use_cpu": True,
                "logging_steps": 2,
                "save_strategy": "no",
                **options,
            },
        )
        return Trainer(
            model,
            arguments,
            train_dataset=make_rows() if data is None else data,
            eval_dataset=make_rows(3),
            callbacks=list(callbacks),
        )

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        trainer = self.trainer(TinyModel(in_step), callback, StopAfter(stop_after), num_train_epochs=epochs, **options)
        trainer.train()
        return trainer

    def test_current_phase_is_nested_item(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit", group="night", weight=3), eval_strategy="epoch")
        inside = [run for run in recorded if run.id == "fit/now"]
        assert [(run.title, run.parent, run.group, run.weight, run.status) for run in inside] == [
            ("Evaluation", "fit", "night", 3, "succeeded")
        ] * 2
        assert {(run.completed, run.total) for run in inside} == {(3, 3)}
        assert "eval_loss " in recorded["fit"].description
        assert "runtime" not in recorded["fit"].description

    def test_resumed_training_starts_at_its_step(self):
        self.train(self.Callback(), save_strategy="steps", save_steps=3)
        counts = []
        with recording() as recorded:
            trainer = self.trainer(
                TinyModel(lambda _: counts.append(recorded["fit"].completed)), self.Callback(id="fit")
            )
            trainer.args.num_train_epochs = 2
            trainer.train(resume_from_checkpoint=str(self.tmp_path / "out" / "checkpoint-6"))
        assert counts == [6, 7, 8, 9]
        assert (recorded["fit"].completed, recorded["fit"].total) == (10, 10)

    def test_unsized_stream_counts_steps(self):
        with recording() as recorded:
            self.trainer(TinyModel(), self.Callback(id="fit"), data=RowStream(), max_steps=7).train()
        run = recorded["fit"]
        assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 7, 7, "steps")

    def test_gradient_accumulation_counts_optimizer_steps(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit"), gradient_accumulation_steps=2)
        assert (recorded["fit"].completed, recorded["fit"].total) == (6, 6)

    def test_evaluate_and_predict_outside_training_are_separate(self):
        with recording() as recorded:
            trainer = self.trainer(TinyModel(), self.Callback(id="fit"))
            trainer.evaluate()
            trainer.predict(make_rows(2))
        assert [(run.id, run.status, run.completed, run.total) for run in recorded] == [
            ("fit/evaluation", "succeeded", 3, 3),
            ("fit/evaluation", "succeeded", 2, 2),
        ]
        assert "eval_loss" in recorded.runs[0].description

    def test_failed_evaluation_fails_training(self):
        def wrong(prediction):
            raise ValueError("wrong metric")

        with recording() as recorded:
            trainer = self.trainer(TinyModel(), self.Callback(id="fit"), eval_strategy="epoch")
            trainer.compute_metrics = wrong
            with pytest.raises(ValueError, match="wrong metric"):
                trainer.train()
            with pytest.raises(ValueError, match="wrong metric"):
                trainer.evaluate()
        assert [(run.id, run.status) for run in recorded] == [
            ("fit", "failed"),
            ("fit/now", "stopped"),
            ("fit/evaluation", "failed"),
        ]

    def test_only_first_process_reports(self, monkeypatch):
        monkeypatch.setattr(TrainingArguments, "process_index", 1)
        with recording() as recorded:
            trainer = self.trainer(TinyModel(), self.Callback(id="fit"), eval_strategy="epoch")
            trainer.is_world_process_zero = lambda: False
            trainer.train()
        assert not trainer.state.is_world_process_zero
        assert len(recorded) == 0


@pytest.fixture
def installed():
    """Record the runs of this process, with ``install()`` of the trainer and of tqdm."""
    tqdm.install()
    integration.install()
    with recording() as recorded:
        yield recorded
    integration.uninstall()
    tqdm.uninstall()


def make_trainer(folder, *, model=None, callbacks=(), **options):
    arguments = TrainingArguments(
        str(folder / "out"),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        num_train_epochs=1,
        **{"disable_tqdm": False, **options},
    )
    rows = {"train_dataset": make_rows(), "eval_dataset": make_rows(3)}
    return Trainer(model or TinyModel(), arguments, callbacks=list(callbacks), **rows)


def test_installed_hook_reports_training_once(installed, tmp_path, capsys):
    make_trainer(tmp_path, eval_strategy="epoch").train()
    run, inside = installed
    assert (run.title, run.status, run.completed, run.total) == ("Training of TinyModel", "succeeded", 5, 5)
    assert (inside.parent, inside.status, inside.completed, inside.total) == (run.id, "succeeded", 3, 3)


def test_installed_hook_reports_evaluation_once(installed, tmp_path, capsys):
    make_trainer(tmp_path).evaluate()
    (run,) = installed
    assert (run.title, run.status, run.completed) == ("Evaluation of TinyModel", "succeeded", 3)


def test_installed_hook_leaves_explicit_callbacks_alone(installed, tmp_path, capsys):
    make_trainer(tmp_path, callbacks=[TrackCallback(id="first")]).train()
    trainer = make_trainer(tmp_path)
    trainer.add_callback(TrackCallback(id="later"))
    trainer.train()
    assert [run.id for run in installed] == ["first", "later"]


def test_silent_trainer_is_not_reported(installed, tmp_path, capsys):
    make_trainer(tmp_path, disable_tqdm=True).train()
    assert len(installed) == 0


def test_uninstalled_hook_leaves_bars_of_tqdm(tmp_path, capsys):
    integration.install()
    integration.uninstall()
    tqdm.install()
    try:
        with recording() as recorded:
            make_trainer(tmp_path).train()
    finally:
        tqdm.uninstall()
    (run,) = recorded
    assert (run.completed, run.total, run.unit) == (5, 5, "it")


PLAIN_PROGRAM = """
import sys
from tests.integrations.trainers.test_transformers import TinyModel, make_trainer
from pathlib import Path

def in_step(number):
    if number == 3:
        raise OSError("disk full")

make_trainer(Path(sys.argv[1]), model=TinyModel(in_step)).train()
"""


def test_run_reports_failed_training_and_keeps_output(server, tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN_PROGRAM)
    runner = ProgramRunner(server, tmp_path)

    def run(*command):
        done = runner.run(sys.executable, *command, path, tmp_path, PYTHONPATH=str(Path(__file__).parents[3]))
        last_frame = done.stderr.rpartition("\r")[2]  # a fast machine draws fewer frames
        return done.returncode, done.stdout, re.sub(r"\d\d:\d\d|[\d.?]+ ?(it/s|s/it)", "", last_frame)

    assert run("-m", "progressbar_tracker", "run") == run()
    with open_client(server.url, runner.key) as http:
        (item,) = [item for item in list_items(http).values() if item["status"] == "failed" and item["unit"] == "steps"]
    assert (item["title"], item["total"], item["error"]) == ("Training of TinyModel", 5, "OSError: disk full")
