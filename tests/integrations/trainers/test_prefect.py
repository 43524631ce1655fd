"""The hooks for Prefect, with the real package and its temporary server."""

from __future__ import annotations

import asyncio
import doctest
import os
import tempfile

import pytest

# Read by the import of Prefect: its files stay out of the home folder, and its server sends no statistics.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

from prefect import flow, task
from prefect.testing.utilities import prefect_test_harness

from progressbar_tracker import track
from progressbar_tracker.integrations import prefect as integration
from progressbar_tracker.integrations.prefect import flow_hooks, task_hooks
from progressbar_tracker.testing import recording


@pytest.fixture(scope="module", autouse=True)
def prefect_server():
    """A server of Prefect with an empty database."""
    with prefect_test_harness(server_startup_timeout=100):
        yield


def list_states(recorded):
    return [(run.title, run.status, run.error) for run in recorded]


def test_flow_its_tasks_and_their_bars_are_nested_items():
    @task(**task_hooks(weight=3))
    def count():
        for _ in track(range(3), id="rows", display=False):
            pass

    @flow(**flow_hooks(group="night"))
    def night():
        count()

    with recording() as recorded:
        night()
    of_flow, of_task, rows = recorded
    assert list_states(recorded) == [
        ("night", "succeeded", None),
        ("count", "succeeded", None),
        ("rows", "succeeded", None),
    ]
    assert (of_flow.parent, of_task.parent, rows.parent) == (None, of_flow.id, of_task.id)
    assert (of_flow.group, of_task.weight) == ("night", 3)


def test_failed_task_fails_items_with_text():
    @task(**task_hooks())
    def count():
        raise ValueError("bad row")

    @flow(**flow_hooks())
    def night():
        count()

    with recording() as recorded:
        with pytest.raises(ValueError, match="bad row"):
            night()
    assert list_states(recorded) == [
        ("night", "failed", "ValueError: bad row"),
        ("count", "failed", "ValueError: bad row"),
    ]


def test_retry_is_part_of_the_same_run():
    attempts = []

    @task(retries=1, **task_hooks())
    def count():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("once")

    with recording() as recorded:
        count()
    assert (len(attempts), list_states(recorded)) == (2, [("count", "succeeded", None)])


def test_asynchronous_task_is_an_item():
    @task(**task_hooks())
    async def count():
        pass

    with recording() as recorded:
        asyncio.run(count())
    assert list_states(recorded) == [("count", "succeeded", None)]


def test_mapped_tasks_are_an_item_each():
    @task(**task_hooks())
    def count(number):
        return number

    @flow
    def night():
        return [future.result() for future in count.map([1, 2, 3])]

    with recording() as recorded:
        assert night() == [1, 2, 3]
    assert list_states(recorded) == [("count", "succeeded", None)] * 3
    assert len({run.id for run in recorded}) == 3


def test_invalid_label_raises_at_once():
    with pytest.raises(TypeError, match="group must be a string"):
        task_hooks(group=5)


def test_docstring_examples_pass():
    assert doctest.testmod(integration).failed == 0
