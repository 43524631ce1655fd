"""The callback of CatBoost, with the real package."""

from __future__ import annotations

import doctest

import catboost
import numpy as np
import pytest

from progressbar_tracker.integrations import catboost as integration
from progressbar_tracker.integrations.catboost import TrackCallback
from progressbar_tracker.testing import recording
from tests.integrations.callback_contract import STEP_COUNT, BoostingContract


def make_rows():
    x = np.arange(200.0).reshape(100, 2)
    return x, x.sum(1)


def make_model(**options):
    return catboost.CatBoostRegressor(**options, verbose=0, thread_count=1, allow_writing_files=False)


class TestCatBoost(BoostingContract):
    Callback = TrackCallback
    metric_pattern = r"^learn RMSE \d|, learn RMSE \d"
    unit = "iterations"
    raised = interrupted = catboost.CatBoostError

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        class StepCallback:
            def after_iteration(self, info):
                in_step(info.iteration)
                return True

        class StopCallback:
            def after_iteration(self, info):
                return stop_after is None or info.iteration < stop_after * STEP_COUNT

        callbacks = [StepCallback(), callback, StopCallback()]
        make_model(iterations=epochs * STEP_COUNT).fit(*make_rows(), callbacks=callbacks)

    @pytest.mark.parametrize("name", ["iterations", "n_estimators", "num_trees", "num_boost_round"])
    def test_total_is_known_by_each_name(self, name):
        with recording() as recorded:
            make_model(**{name: 4}).fit(*make_rows(), callbacks=[self.Callback(id="fit")])
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 4, 4)
        assert recorded["fit"].title == "fit"

    def test_error_of_catboost_within_except_block_is_shown(self):
        with recording() as recorded:
            try:
                raise OSError("no saved model")
            except OSError:
                with pytest.raises(catboost.CatBoostError):
                    make_model(iterations=4).fit(make_rows()[0], [1.0], callbacks=[self.Callback(id="fit")])
        assert recorded["fit"].error.startswith("CatBoostError: ")

    def test_evaluation_set_is_shown(self):
        with recording() as recorded:
            make_model(iterations=4).fit(*make_rows(), eval_set=make_rows(), callbacks=[self.Callback(id="fit")])
        assert "validation RMSE" in recorded["fit"].description


def test_docstring_examples_pass():
    assert doctest.testmod(integration).failed == 0
