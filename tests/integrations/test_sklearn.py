"""The callback of scikit-learn, with the real package."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from progressbar_tracker.testing import recording

from .callback_contract import STEP_COUNT, FitContract

pytest.importorskip("sklearn", reason="sklearn is not installed")

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from progressbar_tracker.integrations.sklearn import TrackCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the package
    pytest.mark.filterwarnings("error:::progressbar_tracker"),
]


def make_rows():
    x = np.linspace(0, 1, 80).reshape(40, 2)
    return x, np.arange(40) % 2


class StepClassifier(ClassifierMixin, BaseEstimator):
    """Calls a function in each fit."""

    calls: list = []  # noqa: RUF012 - of the class: the search clones the estimator

    def __init__(self, number=0):
        self.number = number

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        in_step, numbers = self.calls
        numbers.append(len(numbers) + 1)
        in_step(numbers[-1])
        return self

    def predict(self, x):
        return np.zeros(len(x), int)


class TestSearch(FitContract):
    """A step is a fit."""

    Callback = TrackCallback
    metric_pattern = ""

    def expected_total(self, epochs):
        return epochs * STEP_COUNT

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        StepClassifier.calls = [in_step, []]
        search = GridSearchCV(
            StepClassifier(), {"number": list(range(epochs))}, cv=STEP_COUNT, refit=False, error_score="raise"
        )
        search.set_callbacks(callback).fit(*make_rows())

    def test_fit_stopped_early_has_succeeded_with_note(self):
        estimator = LogisticRegression(max_iter=1000).set_callbacks(self.Callback(id="fit"))
        with recording() as recorded:
            estimator.fit(*make_rows())
        run = recorded["fit"]
        assert (run.status, run.unit, run.total) == ("succeeded", "steps", 1001)
        assert 0 < run.completed < 1001
        assert run.description == "stopped early"

    def test_callback_can_be_pickled_and_copied_during_fit(self):
        callback = self.Callback(id="fit")
        copies = []
        with recording() as recorded:
            self.train(
                callback,
                in_step=lambda _: copies.append((copy.deepcopy(callback), pickle.loads(pickle.dumps(callback)))),
            )
        assert (recorded["fit"].status, len(recorded), len(copies)) == ("succeeded", 1, 10)


def test_search_counts_fits_and_refit():
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1, 10]}, cv=4)
    with recording() as recorded:
        search.set_callbacks(TrackCallback()).fit(*make_rows())
    (run,) = recorded
    assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 13, 13, "fits")
    assert run.title == "Fit of GridSearchCV"


def test_fit_within_except_block_succeeds():
    with recording() as recorded:
        try:
            raise OSError("no saved model")
        except OSError:
            GridSearchCV(LogisticRegression(), {"C": [1]}, cv=2).set_callbacks(TrackCallback(id="search")).fit(
                *make_rows()
            )
    assert (recorded["search"].status, recorded["search"].completed) == ("succeeded", 3)


def test_fit_whose_error_becomes_a_score_is_counted():
    def in_step(number):
        if number == 1:
            raise ValueError("bad fold")

    StepClassifier.calls = [in_step, []]
    search = GridSearchCV(StepClassifier(), {"number": [1, 2]}, cv=2, refit=False)
    with recording() as recorded:
        search.set_callbacks(TrackCallback(id="search")).fit(*make_rows())
    assert (recorded["search"].status, recorded["search"].completed, recorded["search"].total) == ("succeeded", 4, 4)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_fits_in_parallel_are_counted(backend):
    import joblib

    search = RandomizedSearchCV(LogisticRegression(), {"C": [0.1, 1, 10]}, n_iter=3, cv=4, n_jobs=2)
    with recording() as recorded, joblib.parallel_config(backend):
        search.set_callbacks(TrackCallback(id="search")).fit(*make_rows())
    assert (recorded["search"].status, recorded["search"].completed, recorded["search"].total) == ("succeeded", 13, 13)
    assert len(recorded) == 1


def test_pipeline_counts_its_steps():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    with recording() as recorded:
        pipeline.set_callbacks(TrackCallback(id="fit")).fit(*make_rows())
    assert (recorded["fit"].status, recorded["fit"].completed, recorded["fit"].total) == ("succeeded", 2, 2)


def test_search_with_inner_estimators_counts_only_its_fits():
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=2)
    with recording() as recorded:
        search.set_callbacks(TrackCallback(id="search")).fit(*make_rows())
    assert (recorded["search"].completed, recorded["search"].total) == (5, 5)


def test_callback_of_inner_estimator_reports_each_of_its_fits():
    estimator = LogisticRegression().set_callbacks(TrackCallback(id="fit"))
    with recording() as recorded:
        GridSearchCV(estimator, {"C": [1, 2]}, cv=2, error_score="raise").fit(*make_rows())
    assert [run.status for run in recorded] == ["succeeded"] * 5


def test_halving_search_adds_its_rounds_to_total():
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    search = HalvingGridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2, min_resources=20, factor=2)
    with recording() as recorded:
        search.set_callbacks(TrackCallback(id="search")).fit(*make_rows())
    run = recorded["search"]
    assert (run.status, run.completed) == ("succeeded", run.total)
    assert run.completed > 5
