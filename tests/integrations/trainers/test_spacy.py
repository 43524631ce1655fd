"""The logger for spaCy, with the real package."""

from __future__ import annotations

import doctest
import io

import spacy
from spacy.training import Example
from spacy.training.loop import train

from progressbar_tracker.integrations import spacy as integration
from progressbar_tracker.integrations.spacy import TrackLogger, make_logger
from progressbar_tracker.testing import recording
from tests.integrations.callback_contract import STEP_COUNT, FitContract

TRAINING_CONFIG = """
[nlp]
lang = "en"
pipeline = ["tagger", "constant"]

[components]

[components.tagger]
factory = "tagger"

[components.constant]
factory = "tests_constant"

[corpora]

[corpora.train]
@readers = "tests.rows"

[corpora.dev]
@readers = "tests.rows"

[training]
dev_corpus = "corpora.dev"
train_corpus = "corpora.train"
max_epochs = 0
eval_frequency = 1

[training.batcher]
@batchers = "spacy.batch_by_sequence.v1"
size = 1

[training.logger]
@loggers = "tests.logger"

[training.before_update]
@callbacks = "tests.before_update"

[training.score_weights]
tag_acc = 0.0
constant = 1.0
"""


class Constant:
    """A component with a constant score, so that the patience counts from the first step."""

    def __call__(self, doc):
        return doc

    def score(self, examples, **options):
        return {"constant": 0.5}


@spacy.language.Language.factory("tests_constant")
def make_constant(nlp, name):
    return Constant()


@spacy.registry.readers("tests.rows")
def make_reader():
    def read(nlp):
        doc = nlp.make_doc("cats sleep")
        yield Example.from_dict(doc, {"tags": ["N", "V"]})

    return read


def run_training(logger, *, max_steps, patience=0, before_update=lambda step: None, stdout=None):
    spacy.registry.loggers("tests.logger")(lambda: logger)
    spacy.registry.callbacks("tests.before_update")(lambda: lambda nlp, arguments: before_update(arguments["step"]))
    config = spacy.util.load_config_from_str(
        TRAINING_CONFIG, overrides={"training.max_steps": max_steps, "training.patience": patience}
    )
    spacy.util.fix_random_seed(0)
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    nlp.initialize(lambda: list(make_reader()(nlp)))
    train(nlp, None, stdout=stdout or io.StringIO(), stderr=io.StringIO())


class TestSpacy(FitContract):
    """The training calls a function before each step."""

    Callback = TrackLogger
    metric_pattern = r"score 0\.5, tagger loss \d"

    def expected_total(self, epochs):
        return epochs * STEP_COUNT

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        patience = 0 if stop_after is None else stop_after * STEP_COUNT - 1
        run_training(
            callback,
            max_steps=epochs * STEP_COUNT - 1,
            patience=patience,
            before_update=lambda step: in_step(step + 1),
        )

    def test_fit_moves_with_each_step(self):
        counts = []
        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=lambda _: counts.append(recorded["fit"].completed))
        assert counts == list(range(10))

    def test_console_is_that_of_spacy(self):
        def read_lines(logger):
            stdout = io.StringIO()
            run_training(logger, max_steps=3, stdout=stdout)
            return stdout.getvalue()

        plain = spacy.registry.loggers.get("spacy.ConsoleLogger.v3")
        assert read_lines(self.Callback(id="fit")) == read_lines(plain())
        assert "SCORE" not in read_lines(self.Callback(id="fit", console=False))

    def test_training_within_except_block_succeeds(self):
        with recording() as recorded:
            try:
                raise OSError("no saved model")
            except OSError:
                self.train(self.Callback(id="fit"))
        assert recorded["fit"].status == "succeeded"

    def test_training_without_limit_has_no_total(self):
        with recording() as recorded:
            run_training(self.Callback(id="fit"), max_steps=0, patience=4)
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 5, None)


def test_title_names_components():
    with recording() as recorded:
        run_training(TrackLogger(), max_steps=1)
    assert recorded.runs[0].title == "Training of tagger, constant"


def test_logger_is_registered_for_configurations():
    assert spacy.registry.loggers.get("progressbar_tracker.TrackLogger.v1") is make_logger


def test_docstring_examples_pass():
    assert doctest.testmod(integration).failed == 0
