"""The callback of Optuna, with the real package."""

from __future__ import annotations

import re
import sys

import pytest

from progressbar_tracker.testing import recording
from tests.support.connections import list_items, open_client
from tests.support.programs import PATIENT_EXIT_PRELUDE

from .callback_contract import STEP_COUNT, FitContract

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from progressbar_tracker import integrations  # noqa: E402
from progressbar_tracker.integrations.optuna import TrackCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the package
    pytest.mark.filterwarnings("error:::progressbar_tracker"),
]


@pytest.fixture(autouse=True)
def quiet():
    """Keep Optuna's log lines out of the output."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(level)


def run_study(objective, *, directions=("minimize",), **options):
    study = optuna.create_study(directions=list(directions), sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, **options)
    return study


class TestOptuna(FitContract):
    """A step is a trial."""

    Callback = TrackCallback
    metric_pattern = r"best \d"

    def expected_total(self, epochs):
        return epochs * STEP_COUNT

    def train(self, callback, epochs=2, in_step=lambda number: None, stop_after=None, **options):
        def objective(trial):
            in_step(trial.number + 1)
            return trial.suggest_float("x", 0, 1)

        def stop(study, trial):
            if stop_after is not None and trial.number + 1 == stop_after * STEP_COUNT:
                study.stop()

        run_study(objective, n_trials=epochs * STEP_COUNT, callbacks=[callback, stop])


def test_pruned_and_caught_trials_count_and_are_shown():
    def objective(trial):
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number in (2, 3):
            raise ValueError("bad trial")
        return 0.5

    with recording() as recorded:
        run_study(objective, n_trials=5, catch=ValueError, callbacks=[TrackCallback(id="study")])
    run = recorded["study"]
    assert (run.status, run.completed, run.total, run.unit) == ("succeeded", 5, 5, "trials")
    assert run.description == "best 0.5, pruned 1, failed 2"


def test_study_that_ends_by_timeout_succeeds_without_total():
    with recording() as recorded:
        study = run_study(lambda trial: 1.0, timeout=0.3, callbacks=[TrackCallback(id="study")])
    run = recorded["study"]
    assert (run.status, run.completed, run.total) == ("succeeded", len(study.trials), None)


def test_timeout_before_last_trial_has_succeeded_early():
    with recording() as recorded:
        run_study(lambda trial: 1.0, n_trials=10**6, timeout=0.3, callbacks=[TrackCallback(id="study")])
    run = recorded["study"]
    assert (run.status, run.total) == ("succeeded", 10**6)
    assert run.description.startswith("stopped early, best 1")


def test_trials_in_threads_are_all_counted():
    with recording() as recorded:
        run_study(lambda trial: 1.0, n_trials=40, n_jobs=4, callbacks=[TrackCallback(id="study")])
    assert (recorded["study"].status, recorded["study"].completed) == ("succeeded", 40)


def test_failed_trial_in_thread_fails_study():
    def objective(trial):
        raise ValueError("bad trial")

    with recording() as recorded:
        with pytest.raises(ValueError, match="bad trial"):
            run_study(objective, n_trials=4, n_jobs=2, callbacks=[TrackCallback(id="study")])
    assert (recorded["study"].status, recorded["study"].error) == ("failed", "ValueError: bad trial")


def test_study_of_several_objectives_has_no_best_value():
    with recording() as recorded:
        run_study(
            lambda trial: (1.0, 2.0),
            directions=("minimize", "maximize"),
            n_trials=3,
            callbacks=[TrackCallback(id="study")],
        )
    assert (recorded["study"].status, recorded["study"].description) == ("succeeded", "")


def test_title_is_name_of_study_or_of_objective():
    def accuracy(trial):
        return 1.0

    with recording() as recorded:
        run_study(accuracy, n_trials=1, callbacks=[TrackCallback()])
        optuna.create_study(study_name="night").optimize(accuracy, n_trials=1, callbacks=[TrackCallback()])
    assert [run.title for run in recorded] == ["Trials of accuracy", "Trials of night"]


def test_study_without_callback_is_not_reported():
    TrackCallback()
    with recording() as recorded:
        run_study(lambda trial: 1.0, n_trials=2)
    assert len(recorded) == 0


@pytest.fixture
def installed(recorder, capsys):
    """Record the runs of this process, with ``install()`` of all libraries."""
    integrations.install()
    yield recorder
    integrations.uninstall()


def test_installed_hook_reports_study_with_bar_once(installed):
    def accuracy(trial):
        return 0.5

    run_study(accuracy, n_trials=3, show_progress_bar=True)
    (run,) = installed
    assert (run.title, run.status, run.completed, run.total) == ("Trials of accuracy", "succeeded", 3, 3)
    assert run.description == "best 0.5"


def test_installed_hook_counts_trials_of_timeout(installed):
    study = run_study(lambda trial: 1.0, timeout=0.3, show_progress_bar=True)
    (run,) = installed
    assert (run.status, run.completed, run.total, run.unit) == ("succeeded", len(study.trials), None, "trials")


def test_installed_hook_reports_failed_study(installed):
    def objective(trial):
        if trial.number == 2:
            raise ValueError("bad trial")
        return 1.0

    with pytest.raises(ValueError, match="bad trial"):
        run_study(objective, n_trials=4, show_progress_bar=True)
    (run,) = installed
    assert (run.status, run.error, run.completed) == ("failed", "ValueError: bad trial", 2)


def test_installed_hook_leaves_explicit_callback_alone(installed):
    run_study(lambda trial: 1.0, n_trials=2, show_progress_bar=True, callbacks=[TrackCallback(id="study")])
    assert [run.id for run in installed] == ["study"]


def test_installed_hook_leaves_study_without_bar_alone(installed):
    run_study(lambda trial: 1.0, n_trials=2)
    assert len(installed) == 0


def test_run_keeps_output_of_failed_study(programs, tmp_path):
    path = tmp_path / "search.py"
    path.write_text(f"""{PATIENT_EXIT_PRELUDE}
import optuna

def objective(trial):
    if trial.number == 2:
        raise ValueError("bad trial")
    return 1.0

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
optuna.create_study().optimize(objective, n_trials=4, show_progress_bar=True)
""")

    def run(*command):
        done = programs.run(sys.executable, *command, path)
        last_frame = done.stderr[done.stderr.rindex("Best trial") :]  # a fast machine draws fewer frames
        return done.returncode, done.stdout, re.sub(r"\d\d:\d\d|[\d.?]+ ?(it/s|s/it)", "", last_frame)

    assert run("-m", "progressbar_tracker", "run") == run()
    with open_client(programs.environ["PROGRESSBAR_URL"], programs.key) as http:
        (item,) = list_items(http).values()
    assert (item["status"], item["error"], item["completed"]) == ("failed", "ValueError: bad trial", 2)
