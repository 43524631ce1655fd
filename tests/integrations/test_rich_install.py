"""Every new task of rich, without a change of the program."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import subprocess
import sys
import threading
import warnings

import pytest
import rich.progress
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress, TextColumn
from tqdm.std import tqdm

from progressbar_tracker import tqdm as dropin
from progressbar_tracker.integrations import _pip, _rich_tasks
from progressbar_tracker.integrations.rich import install, mirror, track, uninstall
from tests.support.programs import run_program

HOOKED_METHODS = [(Progress, "add_task"), (Progress, "remove_task"), (Progress, "stop"), (rich.progress.Live, "start")]


@pytest.fixture(autouse=True)
def installed():
    install()
    yield
    uninstall()


def make_progress(*columns, **options):
    return Progress(*columns, console=Console(file=io.StringIO()), auto_refresh=False, **options)


def list_states(recorded):
    return [(run.title, run.status, run.completed, run.total) for run in recorded]


def list_parents(recorded):
    titles = {run.id: run.title for run in recorded}
    return {run.title: titles.get(run.parent) for run in recorded}


def send_first(recorded):
    """Do what the sender does at the first send of the runs."""
    return recorded.runs


def test_install_shows_tasks_with_their_ends(recorder):
    with make_progress() as progress:
        progress.advance(progress.add_task("[red]whole[/] ", total=2), 2)
        progress.advance(progress.add_task("half", total=2))
        progress.advance(progress.add_task("without a total", total=None), 7)
    assert list_states(recorder) == [
        ("whole", "succeeded", 2, 2), ("half", "stopped", 1, 2), ("without a total", "succeeded", 7, None),
    ]  # fmt: skip


def test_install_shows_error_of_the_block(recorder):
    with pytest.raises(ValueError, match="bad row"), make_progress() as progress:
        progress.add_task("rows", total=2)
        raise ValueError("bad row")
    assert [(run.status, run.error) for run in recorder] == [("failed", "ValueError: bad row")]


@pytest.mark.parametrize(("last", "status"), [(2, "succeeded"), (1, "stopped")])
def test_install_shows_function_track(recorder, last, status):
    console = Console(file=io.StringIO())
    for number in rich.progress.track(range(3), description="[b]rows", console=console):
        if number == last and status == "stopped":
            break
    gc.collect()
    assert [(run.title, run.status, run.total) for run in recorder] == [("rows", status, 3)]


def test_install_shows_file_in_bytes(recorder, tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(b"x" * 100)
    with make_progress() as progress, progress.open(path, "rb") as file, path.open("rb") as other:
        file.read()
        progress.wrap_file(other, total=100).read(40)
    assert [(run.unit, run.completed, run.status) for run in recorder] == [
        ("B", 100, "succeeded"), ("B", 40, "stopped"),
    ]  # fmt: skip


def test_install_ignores_disabled_progress(recorder):
    with make_progress(disable=True) as progress:
        progress.add_task("quiet", total=2)
    assert len(recorder) == 0


def test_install_shows_progress_made_before(recorder):
    uninstall()
    progress = make_progress()
    progress.add_task("earlier", total=1)
    install()
    progress.add_task("later", total=1)
    assert [run.title for run in recorder] == ["later"]


def test_uninstall_restores_every_method(recorder):
    uninstall()
    originals = [vars(owner)[name] for owner, name in HOOKED_METHODS]
    install()
    install()
    assert all(
        vars(owner)[name] is not original for (owner, name), original in zip(HOOKED_METHODS, originals, strict=True)
    )
    uninstall()
    uninstall()
    assert all(vars(owner)[name] is original for (owner, name), original in zip(HOOKED_METHODS, originals, strict=True))


def test_uninstall_keeps_shown_task_and_ignores_new_one(recorder):
    progress = make_progress()
    task = progress.add_task("shown", total=2)
    uninstall()
    progress.add_task("new", total=2)
    progress.advance(task, 2)
    progress.reset(task)
    progress.stop()
    assert list_states(recorder) == [("shown", "succeeded", 2, 2)]


def test_hidden_task_is_not_sent_until_it_is_visible(recorder):
    progress = make_progress()
    task = progress.add_task("validation", total=2, visible=False)
    source = recorder.sender.sources[0]
    source.sample()
    assert source.is_hidden
    progress.update(task, visible=True)
    source.sample()
    assert not source.is_hidden


def test_failed_task_that_was_never_visible_is_skipped(recorder):
    with pytest.raises(ValueError, match="bad"), make_progress() as progress:
        progress.add_task("validation", visible=False)
        raise ValueError("bad")
    assert recorder.sender.sources[0].is_skippable


def test_subclass_with_own_start_and_stop_is_shown(recorder):
    class CustomProgress(Progress):
        """As in Lightning: the base class is started twice."""

        def start(self):
            super().start()
            super().start()

        def stop(self):
            super().stop()

    with CustomProgress(console=Console(file=io.StringIO()), auto_refresh=False) as progress:
        progress.advance(progress.add_task("rows", total=2), 1)
    with pytest.raises(KeyError), progress:
        progress.add_task("columns", total=2)
        raise KeyError
    assert list_states(recorder)[0] == ("rows", "stopped", 1, 2)
    assert recorder.runs[-1].status == "failed"


def test_progress_that_starts_again_continues_its_items(recorder):
    progress = make_progress()
    task = progress.add_task("rows", total=2)
    progress.start()
    progress.stop()
    progress.start()
    progress.advance(task, 2)
    progress.stop()
    assert list_states(recorder) == [("rows", "stopped", 0, 2), ("rows", "succeeded", 2, 2)]
    assert len({run.id for run in recorder}) == 1


def test_reset_task_is_a_new_run_of_its_item(recorder):
    progress = make_progress()
    task = progress.add_task("", total=2)
    progress.advance(task, 2)
    progress.reset(task)
    progress.advance(task, 1)
    assert [(run.status, run.completed) for run in recorder] == [("succeeded", 2), ("running", 1)]
    assert len({run.id for run in recorder}) == len({run.title for run in recorder}) == 1


def test_removed_task_ends_by_its_count(recorder):
    progress = make_progress()
    progress.remove_task(progress.add_task("half", total=2, completed=1))
    progress.remove_task(task_id=progress.add_task("whole", total=2, completed=2))
    progress.remove_task(progress.add_task("no total", total=None))
    assert [run.status for run in recorder] == ["stopped", "succeeded", "succeeded"]


def test_live_group_shows_each_progress(recorder):
    one, two = make_progress(), make_progress()
    with Live(Group(one, two), console=Console(file=io.StringIO()), auto_refresh=False):
        one.advance(one.add_task("one", total=1))
        two.add_task("two", total=1)
    assert [(run.title, run.status) for run in recorder] == [("one", "succeeded"), ("two", "running")]
    del one, two
    gc.collect()
    assert [run.status for run in recorder] == ["succeeded", "stopped"]


def test_transient_progress_is_shown(recorder):
    with make_progress(transient=True) as progress:
        list(progress.track(range(3), description="rows"))
    assert list_states(recorder) == [("rows", "succeeded", 3, 3)]


def test_explicit_mirror_replaces_shown_tasks(recorder):
    progress = make_progress()
    task = progress.add_task("rows", total=2)
    mirror(progress, id="mine")
    progress.add_task("columns", total=2)
    progress.advance(task, 2)
    progress.stop()
    assert [(run.id, run.status) for run in recorder][1:] == [("mine/0", "succeeded"), ("mine/1", "stopped")]
    assert recorder.runs[0].status == "stopped"


def test_own_display_is_not_shown_twice(recorder, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, legacy_windows=False)
    monkeypatch.setattr(rich, "_console", console)
    list(track(range(3), id="rows"))
    assert "rows" in console.file.getvalue()
    assert [run.id for run in recorder] == ["rows"]


def test_bar_of_tqdm_rich_is_shown_once(recorder, monkeypatch):
    from tqdm.rich import tqdm as tqdm_rich

    dropin.install()
    try:
        with warnings.catch_warnings(action="ignore"):
            list(tqdm_rich(range(3), desc="rows", options={"console": Console(file=io.StringIO())}))
    finally:
        dropin.uninstall()
    assert list_states(recorder) == [("rows", "succeeded", 3, 3)]


def test_copy_of_rich_in_pip_is_shown(recorder):
    module = importlib.import_module("pip._vendor.rich.progress")
    console = importlib.import_module("pip._vendor.rich.console").Console(file=io.StringIO())
    _pip.install()
    try:
        with module.Progress(module.DownloadColumn(), console=console) as progress:
            progress.advance(progress.add_task("[red]wheel", total=7), 7)
    finally:
        _pip.uninstall()
    assert [(run.title, run.status, run.unit) for run in recorder] == [("wheel", "succeeded", "B")]


def test_broken_hook_does_not_reach_the_program(recorder, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("of the hook")

    for name in ("mirror_new_task", "end_task", "end_tasks", "mirror_tasks"):
        monkeypatch.setattr(_rich_tasks.TaskMirrors, name, fail)
    with make_progress() as progress:
        task = progress.add_task("rows", total=2)
        progress.advance(task)
        progress.remove_task(task)
    assert len(recorder) == 0


def test_threads_can_add_tasks_concurrently(recorder):
    def work():
        for _ in range(20):
            progress.advance(progress.add_task("one", total=1))

    with make_progress() as progress:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({run.id for run in recorder}) == 80
    assert {(run.status, run.parent) for run in recorder} == {("succeeded", None)}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_forked_child_does_not_end_the_parents_item(recorder):
    program = """
import io, os
from progressbar_tracker.integrations.rich import install
from progressbar_tracker.testing import recording
from rich.console import Console
from rich.progress import Progress
install()
with recording() as recorded:
    with Progress(console=Console(file=io.StringIO()), auto_refresh=False) as progress:
        task = progress.add_task("rows", total=2)
        child = os.fork()
        if child == 0:
            progress.stop()
            progress.add_task("of the child", total=1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert recorded.runs[0].status == "running"
        progress.advance(task, 2)
    print([(run.title, run.status) for run in recorded])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[('rows', 'succeeded')]\n")


# --- parents ----------------------------------------------------------------------------------------------------------


def test_task_of_a_waiting_task_is_inside_it(recorder):
    with make_progress() as progress:
        epochs = progress.add_task("epochs", total=2)
        for epoch in range(2):
            batches = progress.add_task(f"epoch {epoch}", total=2)
            progress.advance(batches)
            send_first(recorder)
            progress.advance(batches)
            progress.advance(epochs)
    assert list_parents(recorder) == {"epochs": None, "epoch 0": "epochs", "epoch 1": "epochs"}


def test_task_in_a_loop_after_another_task_is_inside_it(recorder):
    with make_progress() as progress:
        files = progress.add_task("files", total=2)
        for number in range(2):
            rows = progress.add_task(f"file {number}", total=2)
            progress.advance(rows, 2)
            progress.advance(files)
    assert list_parents(recorder) == {"files": None, "file 0": "files", "file 1": "files"}


def test_tasks_added_by_one_function_can_be_nested(recorder):
    """As in Lightning: callbacks add the tasks, and one method calls ``add_task``."""

    def add(title):
        return progress.add_task(title, total=2)

    def start_epoch():
        return add("epoch")

    def start_validation():
        return add("validation")

    with make_progress() as progress:
        start_epoch()
        progress.advance(start_validation())
        send_first(recorder)
    assert list_parents(recorder) == {"epoch": None, "validation": "epoch"}


def test_new_total_of_a_finished_task_keeps_the_former_one(recorder):
    with make_progress() as progress:
        task = progress.add_task("search", total=20)
        progress.update(task, completed=20)
        progress.update(task, completed=1, total=1)
    assert [(run.status, run.completed, run.total) for run in recorder] == [("succeeded", 20, 20), ("succeeded", 1, 1)]


def test_task_in_the_loop_of_track_is_inside_it(recorder):
    with make_progress() as progress:
        for _ in progress.track(range(2), description="epochs"):
            progress.add_task("batches", total=2)
            send_first(recorder)
        progress.add_task("after", total=2)
    assert list_parents(recorder) == {"epochs": None, "batches": "epochs", "after": None}


def test_tasks_that_move_together_are_siblings(recorder):
    with make_progress() as progress:
        one = progress.add_task("one", total=2)
        two = progress.add_task("two", total=2)
        for task in (one, two):
            progress.advance(task)
    assert list_parents(recorder) == {"one": None, "two": None}


def test_tasks_of_one_line_are_siblings(recorder):
    with make_progress() as progress:
        tasks = [progress.add_task(f"file {number}", total=2) for number in range(3)]
        progress.advance(tasks[2])
        send_first(recorder)
    assert set(list_parents(recorder).values()) == {None}


def test_task_that_does_not_move_is_no_inner_task(recorder):
    with make_progress() as progress:
        progress.add_task("first stage", total=2)
        progress.add_task("second stage", total=2)
        send_first(recorder)
    assert list_parents(recorder) == {"first stage": None, "second stage": None}


def test_indented_task_is_inside_the_task_above_it(recorder):
    """As the progress bars of scikit-learn, which a thread of its own adds."""
    with make_progress() as progress:
        for title in ("search", "  candidate 0", "    fit 0", "  candidate 1"):
            if title == "  candidate 1":
                progress.update(1, completed=1)
                progress.update(2, completed=1)
            progress.add_task(title, total=1)
        send_first(recorder)
    assert list_parents(recorder) == {
        "search": None, "candidate 0": "search", "fit 0": "candidate 0", "candidate 1": "search",
    }  # fmt: skip


def test_indented_task_below_two_is_inside_their_parent(recorder):
    with make_progress() as progress:
        for title in ("search", "  candidate 0", "  candidate 1", "    fit 0"):
            progress.add_task(title, total=1)
    assert list_parents(recorder)["fit 0"] == "search"


def test_bar_of_another_library_is_inside_the_running_task(recorder, monkeypatch):
    dropin.install()
    try:
        with make_progress() as progress:
            task = progress.add_task("epochs", total=1)
            for _ in tqdm(range(2), desc="batches", file=io.StringIO()):
                progress.advance(progress.add_task("rows", total=1))
            progress.advance(task)
            list(tqdm(range(2), desc="after", file=io.StringIO()))
    finally:
        dropin.uninstall()
    assert list_parents(recorder) == {"epochs": None, "batches": "epochs", "rows": "batches", "after": None}


def test_tasks_of_asyncio_tasks_are_siblings(recorder):
    async def download(progress, name):
        task = progress.add_task(name, total=2)
        progress.advance(task)
        await asyncio.sleep(0)
        send_first(recorder)

    async def main():
        with make_progress() as progress:
            await asyncio.gather(download(progress, "one"), download(progress, "two"))

    asyncio.run(main())
    assert list_parents(recorder) == {"one": None, "two": None}


@pytest.mark.parametrize(
    ("column", "fields", "title"),
    [
        ("[blue]{task.fields[name]}", {"name": "rows.csv"}, "rows.csv"),
        ("{task.description} {task.fields[name]}", {"name": "rows.csv"}, "download"),
        ("{task.fields[name]}", {"name": object()}, "download"),
        ("{task.fields[missing]}", {"name": "rows.csv"}, "download"),
        ("{task.percentage}", {"name": "rows.csv"}, "download"),
    ],
)
def test_task_is_called_by_what_the_columns_show(recorder, column, fields, title):
    with make_progress(TextColumn(column)) as progress:
        progress.add_task("download", total=1, visible=False, **fields)
        progress.update(0, completed=1)
    assert [run.title for run in recorder] == [title]


def test_hooks_import_no_module_of_rich():
    program = """
import sys
import rich.progress
before = set(sys.modules)
from progressbar_tracker.integrations import install
install()
print([name for name in set(sys.modules) - before if name.partition(".")[0] == "rich"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_untitled_task_is_called_by_its_line(recorder):
    with make_progress(TextColumn("rows")) as progress:
        progress.add_task("  ", total=1)
    assert recorder.runs[0].title.startswith("test_rich_install.py:")


def test_progress_bars_of_scikit_learn_are_nested(recorder, capsys):
    pytest.importorskip("sklearn.callback")
    from sklearn.callback import ProgressBar
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None))
    search.fit([[0.0], [1.0], [2.0], [3.0]] * 3, [0, 0, 1, 1] * 3)
    parents = list_parents(recorder)
    root = "GridSearchCV - fit"
    assert parents[root] is None
    assert parents["GridSearchCV - search #0"] == root
    fits = [title for title in parents if "candidate-split-evaluation" in title]
    assert len(fits) == 4
    assert {parents[title] for title in fits} == {"GridSearchCV - search #0"}
    assert {run.status for run in recorder} == {"succeeded"}


def test_short_inner_tasks_cost_no_request(faults, tmp_path):
    """The outer task pauses until it is on the server; 22 short tasks run inside it then."""
    program = """
import io
from progressbar_tracker.integrations.rich import install
from rich.console import Console
from rich.progress import Progress
install()
with Progress(console=Console(file=io.StringIO()), auto_refresh=False) as progress:
    outer = progress.add_task("search", total=22)
    if not flush(60): sys.exit(1)
    for number in range(22):
        progress.advance(progress.add_task(f"  fit {number}", total=1))
        progress.advance(outer)
"""
    assert run_program(faults.url, program, tmp_path) == (0, "", "")
    assert {op["title"] for op in faults.ops if op["op"] == "put"} == {"search"}
    assert max(op.get("short_runs", 0) for op in faults.ops) == 22
