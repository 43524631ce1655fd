"""Celery, Dramatiq and Luigi, with the real packages and workers in this process."""

from __future__ import annotations

import logging

import pytest

from progressbar_tracker import track
from progressbar_tracker.testing import recording
from tests.support.connections import list_items, open_client
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the packages
    pytest.mark.filterwarnings("error:::progressbar_tracker"),
]


def count_rows(broken=False):
    """The work of each task: a loop with a bar."""
    for row in track(range(3), id="rows", display=False):
        if broken and row == 1:
            raise ValueError("bad row")


def list_states(recorded):
    return [(run.title, run.status, run.error) for run in recorded if run.id != "rows"]


@pytest.fixture(autouse=True)
def kept_logging():
    """Put back the loggers: the libraries configure logging for the whole process, and disable those of others."""
    names = [name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
    loggers = [logging.root, *map(logging.getLogger, names)]
    states = [(logger.handlers[:], logger.level, logger.propagate, logger.disabled) for logger in loggers]
    yield
    for logger, (handlers, level, propagate, disabled) in zip(loggers, states, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagate, disabled


class QueueContract:
    """Tests that each library runs with its own worker.

    ``run_task()`` runs a task named ``count`` to its end, with ``count_rows()`` in it, and returns the recorded runs.
    """

    def run_task(self, *, broken=False, **labels):
        raise NotImplementedError

    def test_task_is_item_with_its_name_and_labels(self):
        recorded = self.run_task(group="queue", weight=3)
        ((title, status, error),) = list_states(recorded)
        assert (title.rpartition(".")[2], status, error) == ("count", "succeeded", None)
        run = next(run for run in recorded if run.id != "rows")
        assert (run.group, run.weight, run.total) == ("queue", 3, None)

    def test_bar_of_task_is_nested_in_its_item(self):
        recorded = self.run_task()
        task = next(run for run in recorded if run.id != "rows")
        assert (recorded["rows"].status, recorded["rows"].parent) == ("succeeded", task.id)

    def test_failed_task_fails_item_with_text(self):
        ((_, status, error),) = list_states(self.run_task(broken=True))
        assert (status, error) == ("failed", "ValueError: bad row")

    def test_invalid_label_raises_at_once(self):
        with pytest.raises(TypeError, match="group must be a string"):
            self.run_task(group=5)


class TestCelery(QueueContract):
    @pytest.fixture(autouse=True)
    def make_app(self):
        celery = pytest.importorskip("celery", reason="celery is not installed")
        from progressbar_tracker.integrations import celery as integration

        self.integration = integration
        self.app = celery.Celery("shop", set_as_current=False)
        yield
        integration.untrack_tasks()

    def run_task(self, *names, broken=False, **labels):
        @self.app.task(name="shop.count")
        def count():
            count_rows(broken)

        self.integration.track_tasks(*names, **labels)
        with recording() as recorded:
            count.apply()
        return recorded

    def test_item_has_id_of_task(self):
        @self.app.task
        def count():
            pass

        self.integration.track_tasks()
        with recording() as recorded:
            result = count.apply()
        assert [run.id for run in recorded] == [result.id]

    def test_ignored_task_is_stopped(self):
        from celery.exceptions import Ignore

        @self.app.task
        def count():
            raise Ignore

        self.integration.track_tasks()
        with recording() as recorded:
            count.apply()
        assert [status for _, status, _ in list_states(recorded)] == ["stopped"]

    def test_other_names_are_not_reported(self):
        assert list_states(self.run_task("shop.other")) == []
        assert len(list_states(self.run_task("shop.count"))) == 1

    def test_second_call_replaces_the_first(self):
        self.integration.track_tasks(group="first")
        assert [run.group for run in self.run_task(group="second") if run.id != "rows"] == ["second"]

    def test_untracked_tasks_are_not_reported(self):
        @self.app.task
        def count():
            pass

        self.integration.track_tasks()
        self.integration.untrack_tasks()
        with recording() as recorded:
            count.apply()
        assert len(recorded) == 0


def test_tasks_of_celerys_worker_are_reported():
    """Celery has one worker in a process, for one app: the tasks of this test have one, too."""
    celery = pytest.importorskip("celery", reason="celery is not installed")
    from celery.contrib.testing.worker import start_worker

    from progressbar_tracker.integrations.celery import track_tasks, untrack_tasks

    app = celery.Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)

    @app.task(name="good")
    def good():
        count_rows()

    @app.task(name="broken")
    def broken():
        count_rows(broken=True)

    @app.task(name="retried", bind=True, max_retries=1)
    def retried(task):
        if task.request.retries == 0:
            raise task.retry(countdown=0)

    track_tasks()
    try:
        with recording() as recorded, start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=60):
            for task in (good, broken, retried):
                task.delay()
            wait_until(lambda: [state[1] for state in list_states(recorded)].count("succeeded") == 2)
    finally:
        untrack_tasks()
    assert sorted(list_states(recorded), key=str) == [
        ("broken", "failed", "ValueError: bad row"),
        ("good", "succeeded", None),
        ("retried", "stopped", None),
        ("retried", "succeeded", None),
    ]
    assert len({run.id for run in recorded if run.title == "retried"}) == 1


class TestDramatiq(QueueContract):
    @pytest.fixture(autouse=True)
    def import_library(self):
        self.library = pytest.importorskip("dramatiq", reason="dramatiq is not installed")

    def run_task(self, *names, broken=False, error=None, attempts=1, **labels):
        from dramatiq.brokers.stub import StubBroker

        from progressbar_tracker.integrations.dramatiq import TrackMiddleware

        broker = StubBroker()
        broker.add_middleware(TrackMiddleware(*names, **labels))
        broker.emit_after("process_boot")
        calls = []

        @self.library.actor(broker=broker, actor_name="count", max_retries=attempts - 1, min_backoff=1, max_backoff=1)
        def count():
            calls.append(1)
            if error is not None and len(calls) < attempts:
                raise error
            count_rows(broken)

        worker = self.library.Worker(broker, worker_timeout=10)
        with recording() as recorded:
            worker.start()
            try:
                count.send()
                broker.join("default", fail_fast=False, timeout=60_000)
                worker.join()
            finally:
                worker.stop()
        broker.close()
        return recorded

    def test_retry_after_failure_runs_item_again(self):
        recorded = self.run_task(error=ValueError("once"), attempts=2)
        assert [(status, error) for _, status, error in list_states(recorded)] == [
            ("failed", "ValueError: once"),
            ("succeeded", None),
        ]
        assert len({run.id for run in recorded if run.id != "rows"}) == 1

    def test_requested_retry_stops_item(self):
        recorded = self.run_task(error=self.library.errors.Retry(), attempts=2)
        assert [status for _, status, _ in list_states(recorded)] == ["stopped", "succeeded"]

    def test_other_actors_are_not_reported(self):
        assert list_states(self.run_task("other")) == []


class TestLuigi(QueueContract):
    @pytest.fixture(autouse=True)
    def import_library(self):
        self.library = pytest.importorskip("luigi", reason="luigi is not installed")
        from progressbar_tracker.integrations import luigi as integration

        self.integration = integration
        yield
        integration.untrack_tasks()

    def run_task(self, *, broken=False, **labels):
        class count(self.library.Task):  # noqa: N801 - its name is the title
            done = False

            def run(self):
                count_rows(broken)
                self.done = True

            def complete(self):
                return self.done

        self.integration.track_tasks(**labels)
        with recording() as recorded:
            self.library.build([count()], local_scheduler=True, log_level="CRITICAL")
        return recorded

    def test_item_has_stable_id_of_task(self):
        first, second = (next(run.id for run in self.run_task() if run.id != "rows") for _ in range(2))
        assert first == second
        assert first.startswith("count_")

    def test_task_of_killed_process_is_failed(self):
        self.integration.track_tasks()
        task = self.library.Task()
        with recording() as recorded:
            task.trigger_event(self.library.Event.PROCESS_FAILURE, task, "process died unexpectedly with exit code -9")
        assert [(status, error) for _, status, error in list_states(recorded)] == [
            ("failed", "process died unexpectedly with exit code -9")
        ]

    def test_untracked_tasks_are_not_reported(self):
        self.integration.track_tasks()
        self.integration.untrack_tasks()
        task = self.library.Task()
        with recording() as recorded:
            task.trigger_event(self.library.Event.START, task)
        assert len(recorded) == 0


def test_tasks_of_luigis_worker_processes_are_reported(programs):
    pytest.importorskip("luigi", reason="luigi is not installed")
    done = programs.run_python("""
import warnings
warnings.simplefilter("ignore")  # of luigi
import luigi, pathlib
from progressbar_tracker.integrations.luigi import track_tasks

class Part(luigi.Task):
    number = luigi.IntParameter()

    def run(self):
        pathlib.Path(self.output().path).write_text("done")

    def output(self):
        return luigi.LocalTarget(f"{pathlib.Path(__file__).parent}/part-{self.number}.txt")

if __name__ == "__main__":
    track_tasks(keep=True)
    luigi.build([Part(1), Part(2)], workers=2, local_scheduler=True, log_level="CRITICAL")
""")
    assert done.returncode == 0, done.stderr
    with open_client(programs.environ["PROGRESSBAR_URL"], programs.key) as http:
        items = list_items(http)
    assert [(item["title"], item["status"]) for item in items.values()] == [("Part", "succeeded")] * 2
