"""Bars of Ray's workers, with a stand-in for ``ray.experimental.tqdm_ray`` of Ray 2.60.

A worker prints the state of its bar as a line of JSON with a magic token, at most once a second. The driver draws it.
"""

from __future__ import annotations

import copy
import gc
import io
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tqdm.std import tqdm as std_tqdm

from progressbar_tracker import tqdm as dropin
from progressbar_tracker.integrations import _ray


class WorkerBar:
    """As in Ray: a loop prints its first state only, because a second has not passed."""

    states: list = []  # noqa: RUF012 - printed ones

    def __init__(self, iterable=None, desc=None, total=None, unit=None):
        self._iterable, self._desc, self._unit = iterable, desc or "", unit or "it"
        self._total = len(iterable) if total is None and iterable is not None else total
        self._x, self._closed, self._is_printed = 0, False, False

    def update(self, n=1):
        self._x += n
        self._dump_state()

    def close(self):
        self._closed = True
        self._dump_state(force=True)

    def _dump_state(self, *, force=False):
        if force or not self._is_printed:
            self._is_printed = True
            state = {
                "__magic_token__": "__ray_tqdm_magic_token__",
                "x": self._x,
                "desc": self._desc,
                "pid": os.getpid(),
            }
            self.states.append(json.dumps({**state, "total": self._total, "closed": self._closed}))

    def __iter__(self):
        for item in iter(self._iterable):
            self.update(1)
            yield item


class DriverBar:
    """The bar of tqdm that the driver draws. The name of a worker's process is in color."""

    def __init__(self, state):
        title = state["desc"] if state["pid"] == os.getpid() else f"\x1b[2m\x1b[36m(pid=7) \x1b[0m{state['desc']}"
        self.bar = std_tqdm(desc=title, total=state["total"], file=io.StringIO(), unit_scale=True)
        self.bar.update(state["x"])


@pytest.fixture
def ray(monkeypatch):
    """The module with hooks, and the driver of a cluster that it has started."""
    worker_bar = type("tqdm", (WorkerBar,), {**vars(WorkerBar), "states": []})
    driver_bar = type("_Bar", (DriverBar,), dict(vars(DriverBar)))
    worker = SimpleNamespace(_global_node=SimpleNamespace(head=True))
    root, module = ModuleType("ray"), ModuleType(_ray.MODULE_NAME)
    root._private = SimpleNamespace(worker=worker)
    module.tqdm, module._Bar, module.node = worker_bar, driver_bar, worker._global_node
    monkeypatch.setitem(sys.modules, "ray", root)
    monkeypatch.setitem(sys.modules, _ray.MODULE_NAME, module)
    monkeypatch.setenv("PYTHONPATH", str(Path("package", "_programs", "bootstrap")))
    dropin.install()
    _ray.install()
    yield module
    _ray.uninstall()
    dropin.uninstall()


def list_states(recorded):
    return [(run.title, run.status, run.completed, run.total) for run in recorded]


def draw(ray, *, pid):
    """Draw the last printed state, as the driver does."""
    return ray._Bar({**json.loads(ray.tqdm.states[-1]), "pid": pid})


def test_loop_of_a_worker_has_its_own_count_and_end(ray, recorder):
    for _ in ray.tqdm(range(40), desc="task 0"):
        pass
    gc.collect()
    assert json.loads(ray.tqdm.states[-1])["x"] == 1  # all that the driver knows
    assert list_states(recorder) == [("task 0", "succeeded", 40, 40)]


def test_loop_of_a_worker_that_is_left_is_stopped(ray, recorder):
    for number in ray.tqdm(range(40), desc="task 0"):
        if number == 20:
            break
    gc.collect()
    assert list_states(recorder) == [("task 0", "stopped", 21, 40)]


def test_closed_bar_of_a_worker_has_succeeded(ray, recorder):
    bar = ray.tqdm(total=40, desc="task 0")
    bar.update(21)
    bar.close()
    assert list_states(recorder) == [("task 0", "succeeded", 21, 40)]


@pytest.mark.parametrize("pid", [os.getpid(), 7], ids=["own", "worker"])
def test_drawn_bar_of_a_shown_process_is_not_shown_again(ray, recorder, pid):
    bar = ray.tqdm(total=40, desc="task 0")
    bar.update()
    drawn = draw(ray, pid=pid)
    assert drawn.bar.n == 1
    assert [run.title for run in recorder] == ["task 0"]
    std_tqdm(total=1, desc="another", file=io.StringIO())
    assert [run.title for run in recorder] == ["task 0", "another"]


@pytest.mark.parametrize("cause", ["cluster", "run"])
def test_drawn_bar_of_an_unknown_worker_has_a_clean_title(ray, recorder, cause, monkeypatch):
    if cause == "cluster":  # it was running already
        ray.node.head = False
    else:  # the program has called install(): the workers do not inherit that
        monkeypatch.setenv("PYTHONPATH", "")
    bar = ray.tqdm(total=40, desc="task 0")
    bar.update(21)
    drawn = draw(ray, pid=7)
    assert list_states(recorder)[-1] == ("(pid=7) task 0", "running", 21, 40)
    drawn.bar.close()


def test_states_that_a_worker_prints_are_unchanged(ray, recorder):
    def print_states(*, is_installed):
        if not is_installed:
            _ray.uninstall()
        ray.tqdm.states.clear()
        bar = ray.tqdm(range(3), desc="task 0", unit="rows")
        list(bar)
        bar.close()
        return copy.copy(ray.tqdm.states)

    assert print_states(is_installed=True) == print_states(is_installed=False)


def test_uninstall_of_ray_restores_its_methods(ray):
    hooks = ray.tqdm.__init__, ray.tqdm.close, ray._Bar.__init__
    _ray.uninstall()
    originals = ray.tqdm.__init__, ray.tqdm.close, ray._Bar.__init__
    assert originals == (WorkerBar.__init__, WorkerBar.close, DriverBar.__init__)
    assert not set(hooks) & set(originals)


def test_changed_attributes_of_ray_do_not_reach_the_program(ray, recorder, monkeypatch):
    monkeypatch.setattr(_ray, "_BarReader", None)
    monkeypatch.delattr(sys.modules["ray"], "_private")
    assert list(ray.tqdm(range(3))) == [0, 1, 2]
    assert draw(ray, pid=7).bar.n == 1
