"""Each library whose bars ``run`` and ``integrations.install()`` show, by its real package."""

from __future__ import annotations

import contextvars
import importlib
import inspect
import io
import sys
import traceback

import alive_progress
import progressbar
import pytest
import tqdm

from progressbar_tracker.integrations import _hooked

from .libraries import BAR_LIBRARIES


@pytest.fixture(params=BAR_LIBRARIES, ids=lambda library: library.test_id)
def library(request):
    return request.param


@pytest.fixture
def work(library):
    """Draw a bar of the library off a terminal. The library's modules are imported."""
    work = importlib.import_module(f"{__package__}.programs.{library.program}").work

    def draw_bar(title, total, step=lambda item: None):
        # In a context of its own: a hook that fails leaves its bar as the parent of later ones.
        contextvars.copy_context().run(work, title, total, step, io.StringIO())

    draw_bar("first", 1)  # some libraries import their modules late
    return draw_bar


@pytest.fixture
def integration(library):
    integration = importlib.import_module(library.integration_name)
    yield integration
    integration.uninstall()


@pytest.fixture
def installed(work, integration):
    integration.install()


def leave_at_20(item):
    return item == 20


def fail_at_20(item):
    if item == 20:
        raise ValueError("no flour")


def test_finished_bar_has_succeeded(work, installed, recorder):
    work("Baking", 60)
    assert [(run.title, run.completed, run.total, run.unit, run.status) for run in recorder] == [
        ("Baking", 60, 60, "it", "succeeded")
    ]


def test_bar_that_is_left_is_stopped(work, installed, recorder):
    work("Baking", 60, leave_at_20)
    assert [(run.completed, run.total, run.status) for run in recorder] == [(20, 60, "stopped")]


def test_bar_whose_loop_fails_has_failed(library, work, installed, recorder):
    """A bar without a block is stopped until the process ends: its loop cannot distinguish an error from a break."""
    with pytest.raises(ValueError, match="no flour"):
        work("Baking", 60, fail_at_20)
    expected = ("failed", "ValueError: no flour") if library.has_block else ("stopped", None)
    assert [(run.completed, run.status, run.error) for run in recorder] == [(20, *expected)]


@pytest.mark.parametrize(
    "library", [library for library in BAR_LIBRARIES if library.can_nest], ids=lambda library: library.test_id
)
def test_inner_bar_has_the_outer_bar_as_parent(work, installed, recorder):
    work("Baking", 2, lambda item: work("Stirring", 3))
    outer, *inner = recorder
    assert (outer.title, outer.parent, outer.completed, outer.status) == ("Baking", None, 2, "succeeded")
    assert [(run.title, run.parent) for run in inner] == [("Stirring", outer.id)] * 2


def test_bar_after_another_has_no_parent(work, installed, recorder):
    work("Baking", 2)
    work("Stirring", 2)
    assert [run.parent for run in recorder] == [None, None]


def test_bar_without_a_title_is_named_by_its_line(work, installed, recorder, library):
    work("", 2)
    assert [run.title.partition(":")[0] for run in recorder] == [f"{library.program}.py"]


def test_title_has_no_escape_sequences(work, installed, recorder):
    work("\x1b[1mBaking\x1b[0m ", 2)
    assert [run.title for run in recorder] == ["Baking"]


@pytest.mark.parametrize("name", ["start_mirror", "end_block", "get_current_error"])
def test_error_of_a_hook_does_not_reach_the_program(work, installed, recorder, name, monkeypatch, integration):
    def fail(*args, **options):
        raise RuntimeError("a bug")

    for module in (_hooked, integration):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, fail)
    items = []
    work("Baking", 3, items.append)
    assert items == [0, 1, 2]


def find_patches(integration):
    """Return the replaced methods of an integration."""
    holder = getattr(integration, "_bars", None) or getattr(integration, "_hooks", None)
    return integration._patches if holder is None else holder.patches


def find_package(integration):
    """Return the top-level package whose methods an integration replaces."""
    integration.install()
    owner, _ = next(iter(find_patches(integration)._replaced))
    integration.uninstall()
    return getattr(owner, "__module__", owner.__name__).partition(".")[0]


def list_functions(package):
    """Return the members of all modules and classes of a package, by owner and name."""
    modules = [module for name, module in sys.modules.copy().items() if name.partition(".")[0] == package]
    classes = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    owners = [*modules, *(owner for owner in classes if owner.__module__.partition(".")[0] == package)]
    return {(owner, name): value for owner in owners for name, value in vars(owner).items() if inspect.isroutine(value)}


def test_uninstall_restores_every_function(work, integration, library):
    package = find_package(integration)
    before = list_functions(package)
    integration.install()
    assert list_functions(package) != before
    integration.install()
    integration.uninstall()
    assert list_functions(package) == before


def test_uninstalled_hooks_show_no_bar(work, installed, recorder, integration):
    integration.uninstall()
    work("Baking", 3)
    assert list(recorder) == []


def test_wrapped_hook_shows_no_bar_after_uninstall(work, installed, recorder, integration, monkeypatch):
    for (owner, name), (hook, _) in find_patches(integration)._replaced.copy().items():
        monkeypatch.setattr(owner, name, lambda *args, hook=hook, **options: hook(*args, **options))
    integration.uninstall()
    work("Baking", 3)
    assert list(recorder) == []
    monkeypatch.undo()
    integration.uninstall()


def test_unknown_version_of_a_library_is_left_unchanged(work, integration, library, monkeypatch):
    integration.install()
    (owner, name), *_ = list(find_patches(integration)._replaced)[-1:]
    integration.uninstall()
    package = find_package(integration)
    original = vars(owner)[name]
    monkeypatch.delattr(owner, name)
    before = list_functions(package)
    integration.install()
    assert list_functions(package) == before
    monkeypatch.setattr(owner, name, original, raising=False)


def open_alive_bar(stream):
    with alive_progress.alive_bar("sixty", file=stream):
        pass


def start_progress_bar(stream):
    progressbar.ProgressBar(max_value=-1, fd=stream).start()


def open_tqdm_bar(stream):
    tqdm.tqdm(range(3), file=stream, colours="red")


@pytest.mark.parametrize(
    ("integration", "call"),
    [
        ("progressbar_tracker.integrations.alive_progress", open_alive_bar),
        ("progressbar_tracker.integrations.progressbar2", start_progress_bar),
        ("progressbar_tracker.tqdm", open_tqdm_bar),
    ],
    ids=["alive-progress", "progressbar2", "tqdm"],
)
def test_traceback_of_the_library_has_no_line_of_the_hook(integration, call, recorder):
    def format_error():
        with pytest.raises(Exception) as caught:
            call(io.StringIO())
        return traceback.format_exception(caught.value)

    expected = format_error()
    module = importlib.import_module(integration)
    module.install()
    try:
        assert format_error() == expected
    finally:
        module.uninstall()
    assert list(recorder) == []
