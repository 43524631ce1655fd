"""rich's progress bars as items, and ``track()`` with bars of rich."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
import threading

import pytest
import rich
from rich.console import Console
from rich.progress import DownloadColumn, Progress

from progressbar_tracker.integrations.rich import mirror, track


def make_progress(*columns, **options):
    return Progress(*columns, console=Console(file=io.StringIO()), auto_refresh=False, **options)


def final_states(recorded):
    return {run.id: (run.status, run.completed, run.total, run.error) for run in recorded}


def test_task_is_shown_until_it_succeeds(recorder):
    with mirror(make_progress(), id="copy") as progress:
        task = progress.add_task("[red]Copying[/] rows", total=10)
        assert recorder["copy/0"].title == "Copying rows"
        progress.advance(task, 4)
        assert (recorder["copy/0"].status, recorder["copy/0"].completed) == ("running", 4)
        progress.update(task, completed=10)
        assert final_states(recorder) == {"copy/0": ("succeeded", 10, 10, None)}


def test_existing_and_own_tasks_are_shown(recorder):
    progress = make_progress()
    progress.add_task("before", total=1)
    with mirror(progress, id="x"):
        assert list(progress.track(range(3), description="own")) == [0, 1, 2]
        assert recorder["x/1"].status == "succeeded"
    assert recorder["x/0"].status == "stopped"


def test_removed_task_ends(recorder):
    with mirror(make_progress(), id="x") as progress:
        progress.remove_task(progress.add_task("half", total=2, completed=1))
        progress.remove_task(progress.add_task("whole", total=2, completed=2))
    assert [run.status for run in recorder] == ["stopped", "succeeded"]


def test_stopped_progress_ends_its_tasks(recorder):
    with mirror(make_progress(), id="x") as progress:
        progress.add_task("unfinished", total=2, completed=1)
        progress.add_task("without a total", total=None, completed=7)
    assert final_states(recorder) == {"x/0": ("stopped", 1, 2, None), "x/1": ("succeeded", 7, None, None)}


@pytest.mark.parametrize("inside", [False, True])
def test_exception_in_block_fails_tasks_with_text(recorder, inside):
    progress = make_progress()
    if not inside:
        mirror(progress, id="x")
    with pytest.raises(ValueError, match="bad row"), progress:
        if inside:
            mirror(progress, id="x")
        progress.add_task("one", total=2)
        raise ValueError("bad row")
    assert final_states(recorder) == {"x/0": ("failed", 0, 2, "ValueError: bad row")}


def test_block_in_except_clause_has_not_failed(recorder):
    try:
        raise KeyError("other")
    except KeyError:
        with mirror(make_progress(), id="x") as progress:
            progress.add_task("one", total=2)
    assert recorder["x/0"].status == "stopped"


def test_task_resumed_after_finish_is_separate_run(recorder):
    with mirror(make_progress(), id="x") as progress:
        task = progress.add_task("again", total=2)
        progress.advance(task, 2)
        progress.reset(task)
        assert [run.status for run in recorder] == ["succeeded", "running"]
        progress.advance(task, 2)
        assert recorder["x/0"].status == "succeeded"
        progress.update(task, total=5)
        assert [run.status for run in recorder] == ["succeeded", "succeeded", "running"]


def test_restarted_progress_shows_unfinished_tasks(recorder):
    progress = mirror(make_progress(), id="x")
    progress.add_task("one", total=2)
    progress.start()
    progress.stop()
    progress.start()
    assert [run.status for run in recorder] == ["stopped", "running"]


def test_freed_progress_ends_its_tasks(recorder):
    progress = mirror(make_progress(), id="x")  # a progress inside the user's Live is never stopped
    progress.advance(progress.add_task("done", total=1), 0.5)
    del progress
    gc.collect()
    assert final_states(recorder) == {"x/0": ("stopped", 0.5, 1, None)}


def test_task_has_the_duration_that_rich_measured(recorder):
    """The item is mirrored 100 s after the start of its task, and read 30 s after its end."""
    now = 0.0
    progress = Progress(disable=True, get_time=lambda: now)
    task = progress.add_task("rows", total=2)
    now = 100.0
    mirror(progress, id="job")
    progress.update(task, completed=2)
    now = 130.0
    assert recorder["job/0"].status == "succeeded"
    assert recorder["job/0"].duration_seconds == pytest.approx(70.0, abs=20)


def test_resumed_task_has_a_duration_of_its_own(recorder):
    now = 0.0
    progress = mirror(Progress(disable=True, get_time=lambda: now), id="job")
    task = progress.add_task("rows", total=2)
    progress.update(task, completed=2)
    now = 100.0
    progress.reset(task)
    progress.remove_task(task)
    assert [run.duration_seconds < 50 for run in recorder.runs] == [True, True]


def test_byte_columns_set_unit_to_bytes(recorder):
    for number, progress in enumerate([make_progress(DownloadColumn()), make_progress()]):
        mirror(progress, id=f"p{number}").add_task("one")
    assert [run.unit for run in recorder] == ["B", "it"]


def test_hostile_descriptions_become_clean_titles(recorder):
    with mirror(make_progress(disable=True), id="x") as progress:
        progress.add_task("[/nonsense] \x1b[31mred\a")
        progress.update(progress.add_task("late"), description="  [bold]later[/] \n on ")
    assert [run.title for run in recorder] == ["[/nonsense] red", "later on"]


def test_own_title_keeps_task_description(recorder):
    mirror(make_progress(), id="x", title="Nightly").add_task("[red]Copying")
    assert (recorder["x/0"].title, recorder["x/0"].description) == ("Nightly", "Copying")


def test_mirrored_progress_keeps_class(recorder):
    class CustomProgress(Progress):
        def add_task(self, *args, **options):
            return super().add_task("mine", total=3)

    progress = mirror(CustomProgress(disable=True), id="x")
    assert isinstance(progress, CustomProgress)
    progress.add_task("theirs")
    assert recorder["x/0"].title == "mine"


@pytest.mark.parametrize(
    ("make_invalid", "options", "error"),
    [
        (lambda: "no progress", {}, TypeError),
        (lambda: mirror(Progress()), {}, ValueError),
        (Progress, {"id": 5}, TypeError),
        (Progress, {"interval": 0}, ValueError),
        (Progress, {"colour": "red"}, TypeError),
    ],
)
def test_invalid_progress_is_refused_at_once(make_invalid, options, error):
    with pytest.raises(error):
        mirror(make_invalid(), **options)


def test_threads_can_add_tasks_concurrently(recorder):
    def work():
        for _ in range(20):
            progress.advance(progress.add_task("one", total=1))

    with mirror(make_progress(), id="x") as progress:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {run.status for run in recorder} == {"succeeded"}
    assert len({run.id for run in recorder}) == 80


# --- track() ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rich_console(monkeypatch):
    """rich's console as a terminal."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, legacy_windows=False)
    monkeypatch.setattr(rich, "_console", console)
    yield console.file
    assert not isinstance(sys.stdout, rich.file_proxy.FileProxy)


def test_track_counts_exactly_and_leaves_bar_on_screen(recorder, rich_console):
    assert list(track(range(3), id="rows", title="The rows")) == [0, 1, 2]
    assert final_states(recorder) == {"rows": ("succeeded", 3, 3, None)}
    assert "The rows" in rich_console.getvalue()
    assert "100%" in rich_console.getvalue()
    assert rich_console.getvalue().endswith("\x1b[?25h")  # the cursor is visible again


def test_track_shows_the_estimated_time_left(recorder, rich_console, monkeypatch):
    with track(total=100, id="rows") as bar:
        for second in range(1, 51):
            now = bar._run.started_at + second
            monkeypatch.setattr("progressbar_tracker.integrations._rich_display.read_clock", lambda now=now: now)
            bar.update(completed=second)
            bar._run.display.draw_frame()
    assert re.search(r"50%.* 0:00:(49|50)", rich_console.getvalue())


def test_failed_block_shows_error_on_screen(recorder, rich_console):
    with pytest.raises(ValueError, match="bad"), track(total=5, id="rows [b]") as bar:
        bar.advance(2)
        raise ValueError("bad [/row]")
    assert final_states(recorder) == {"rows [b]": ("failed", 2, 5, "ValueError: bad [/row]")}
    assert "rows [b] ValueError: bad [/row]" in rich_console.getvalue()


def test_no_bar_is_drawn_without_terminal(recorder, capsys):
    assert list(track([1], id="rows")) == [1]
    assert list(track([1], id="rows", display=False)) == [1]
    assert capsys.readouterr() == ("", "")


def test_track_works_inside_a_progress(recorder, rich_console, caplog):
    with Progress() as progress:
        progress.add_task("theirs")
        assert list(track(range(3), id="rows")) == [0, 1, 2]
    assert recorder["rows"].status == "succeeded"
    assert list(track(range(3), id="later")) == [0, 1, 2]
    assert "later" in rich_console.getvalue()
    assert caplog.text == ""


def test_lost_console_does_not_raise(recorder, rich_console):
    rich.get_console().file.close()
    assert list(track(range(3), id="rows")) == [0, 1, 2]
    assert recorder["rows"].status == "succeeded"
    monkeyed = rich.get_console()
    monkeyed.file = io.StringIO()  # lets the display release its resources
    monkeyed._buffer.clear()


def test_bar_left_early_is_drawn_below_output():
    program = """
import rich
from rich.console import Console
rich._console = Console(force_terminal=True, width=60, color_system=None)
from progressbar_tracker.integrations.rich import track
for i in track(range(4), title="Left early"):
    print(f"item {i}")  # one write: the display thread writes too
    if i == 2:
        break
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "item 1" in done.stdout
    assert " 50% " in done.stdout.rpartition("Left early")[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_prints_without_parents_bars():
    program = """
import os
import sys
import rich
from rich.console import Console
rich._console = Console(force_terminal=True, width=60, color_system=None)
from progressbar_tracker.integrations.rich import track
from progressbar_tracker.integrations._rich_display import select_display
with track(total=2, title="Inner and outer") as outer:
    select_display(True).draw_frame()
    for i in track(range(2), title="Inner"):
        select_display(True).draw_frame()
        child = os.fork()
        if child == 0:
            # In one piece, for the parent goes on drawing; print() without a buffer writes word by word.
            sys.stdout.write(f"child {i}\\n")
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        outer.advance()
"""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "child 0\n" in done.stdout
    assert "child 1\n" in done.stdout
    last = done.stdout.rpartition("Inner and outer")[2]
    assert "100%" in last
    assert "Inner" not in last  # the nested bar is removed, as on the terminal


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ({"description": "[red]Copying[/] rows "}, ("Copying rows", "")),
        ({"description": "now", "title": "Copying"}, ("Copying", "now")),
        ({"description": "", "id": "rows"}, ("rows", "")),
    ],
)
def test_track_description_is_the_title(recorder, labels, shown):
    list(track([1], display=False, **labels))
    assert [(run.title, run.description) for run in recorder] == [shown]


def test_track_accepts_only_options_of_track():
    with pytest.raises(TypeError):
        track(5)
    with pytest.raises(TypeError, match="colour"):
        track([1], colour="red")
