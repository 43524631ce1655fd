"""The callbacks of XGBoost and LightGBM, with the real packages."""

from __future__ import annotations

import numpy as np
import pytest

from progressbar_tracker.testing import recording

from .callback_contract import STEP_COUNT, BoostingContract

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the packages
    pytest.mark.filterwarnings("error:::progressbar_tracker"),
]


def make_rows():
    x = np.arange(200.0).reshape(100, 2)
    return x, x.sum(1)


def make_objective(in_step):
    """Return an objective, which the libraries call in each round."""
    rounds = []

    def compute_gradient(predictions, data):
        rounds.append(1)
        in_step(len(rounds))
        return predictions - data.get_label(), np.ones(len(predictions))

    return compute_gradient


class TestXGBoost(BoostingContract):
    metric_pattern = r"^rows rmse \d|, rows rmse \d"
    unit = "rounds"

    @pytest.fixture(autouse=True)
    def import_library(self):
        self.library = pytest.importorskip("xgboost", reason="xgboost is not installed")
        from progressbar_tracker.integrations.xgboost import TrackCallback

        TestXGBoost.Callback = TrackCallback

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        xgboost = self.library

        class Stop(xgboost.callback.TrainingCallback):
            def after_iteration(self, model, epoch, evals_log):
                return stop_after is not None and epoch + 1 == stop_after * STEP_COUNT

        data = xgboost.DMatrix(make_rows()[0], label=make_rows()[1])
        return xgboost.train(
            {"nthread": 1}, data, num_boost_round=epochs * STEP_COUNT, evals=[(data, "rows")], verbose_eval=False,
            obj=make_objective(in_step), callbacks=[Stop(), callback],
        )  # fmt: skip

    def test_estimator_reports_its_fit(self):
        estimator = self.library.XGBRegressor(n_estimators=7, n_jobs=1, callbacks=[self.Callback(id="fit")])
        with recording() as recorded:
            estimator.fit(*make_rows())
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 7, 7)

    def test_cv_shows_the_mean_of_its_folds(self):
        data = self.library.DMatrix(make_rows()[0], label=make_rows()[1])
        with recording() as recorded:
            self.library.cv({"nthread": 1}, data, 4, nfold=2, callbacks=[self.Callback(id="cv")])
        assert (recorded["cv"].status, recorded["cv"].completed, recorded["cv"].total) == ("succeeded", 4, 4)
        assert "test rmse" in recorded["cv"].description

    def test_train_imported_before_has_no_total(self):
        data = self.library.DMatrix(make_rows()[0], label=make_rows()[1])
        self.Callback()
        with recording() as recorded:
            self.library.training.train.__wrapped__({}, data, 3, callbacks=[self.Callback(id="fit")])
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 3, None)

    def test_train_is_wrapped_once_under_all_names(self):
        self.Callback()
        self.Callback()
        assert self.library.train is self.library.training.train is self.library.sklearn.train
        assert not hasattr(self.library.train.__wrapped__, "__progressbar_tracker__")


class TestLightGBM(BoostingContract):
    metric_pattern = r"rows l2 \d"
    unit = "iterations"

    @pytest.fixture(autouse=True)
    def import_library(self):
        self.library = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
        from progressbar_tracker.integrations.lightgbm import TrackCallback

        TestLightGBM.Callback = TrackCallback

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        lightgbm = self.library

        def stop(env):
            if stop_after is not None and env.iteration + 1 == stop_after * STEP_COUNT:
                raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

        stop.order = 30  # of early stopping
        data = lightgbm.Dataset(*make_rows())
        parameters = {"objective": make_objective(in_step), "metric": "l2", "verbose": -1, "num_threads": 1}
        return lightgbm.train(
            parameters, data, num_boost_round=epochs * STEP_COUNT, valid_sets=[data], valid_names=["rows"],
            callbacks=[stop, callback],
        )  # fmt: skip

    def test_estimator_reports_its_fit(self):
        estimator = self.library.LGBMRegressor(n_estimators=7, n_jobs=1, verbose=-1)
        with recording() as recorded:
            estimator.fit(*make_rows(), callbacks=[self.Callback(id="fit")])
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 7, 7)

    def test_train_imported_before_ends_after_last_iteration(self):
        self.Callback()
        train = self.library.engine.train.__wrapped__
        with recording() as recorded:
            train({"verbose": -1}, self.library.Dataset(*make_rows()), 3, callbacks=[self.Callback(id="fit")])
        assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 3, 3)
