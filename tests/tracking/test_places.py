"""The default title of a bar: the program's line, and the library that makes the bar."""

from __future__ import annotations

import concurrent.futures
import importlib
import io
import os
import sys
from pathlib import Path

import pytest
from tqdm.std import tqdm

from progressbar_tracker import track
from progressbar_tracker._tracking.places import _find_package
from progressbar_tracker.tqdm import install, uninstall

LIBRARY_SOURCE = """
from tqdm.std import tqdm

def fit(file):
    for _ in tqdm(range(3), file=file):
        pass

def call(function):
    return function()
"""


@pytest.fixture(autouse=True)
def installed():
    install()
    yield
    uninstall()


@pytest.fixture(params=["optimizer.py", "optimizer/__init__.py"])
def library(request, tmp_path, monkeypatch):
    """A module of an installed package that makes a bar."""
    path = tmp_path / "site-packages" / request.param
    path.parent.mkdir(parents=True)
    path.write_text(LIBRARY_SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    yield importlib.import_module("optimizer")
    del sys.modules["optimizer"]


def get_line():
    return sys._getframe(1).f_lineno


def list_titles(recorded):
    return [run.title for run in recorded]


def test_bar_of_a_library_is_called_by_the_programs_line(library, recorder):
    library.fit(io.StringIO()); line = get_line()  # fmt: skip # noqa: E702
    assert list_titles(recorder) == [f"optimizer - test_places.py:{line}"]


def test_bar_in_a_callback_is_called_by_its_own_line(library, recorder):
    library.call(lambda: list(tqdm(range(3), file=io.StringIO())))
    assert list_titles(recorder) == [f"test_places.py:{get_line() - 1}"]


def test_bar_in_the_standard_library_has_its_callers_line(recorder):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(list, tqdm(range(3), file=io.StringIO())).result(60)
        line = get_line() - 1
    assert list_titles(recorder) == [f"test_places.py:{line}"]


def test_bar_of_a_library_in_a_thread_is_called_by_the_library(library, recorder):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(library.fit, io.StringIO()).result(60)
    assert list_titles(recorder) == ["optimizer"]


@pytest.mark.parametrize(
    ("path", "package"),
    [
        (os.__file__, ""),
        ("<frozen runpy>", ""),
        (str(Path(sys.executable).with_name("a-command")), ""),
        (pytest.__file__, "pytest"),
        (__file__, None),
        ("<string>", None),
    ],
    ids=["standard library", "frozen", "command", "package", "program", "string"],
)
def test_files_of_the_program_are_recognized(path, package):
    assert _find_package(path) == package


def test_loop_of_track_is_called_by_its_line(recorder):
    list(track(range(3), display=False))
    assert list_titles(recorder) == [f"test_places.py:{get_line() - 1}"]


def test_bar_with_a_description_keeps_it(library, recorder):
    list(tqdm(range(3), desc="rows", file=io.StringIO()))
    assert list_titles(recorder) == ["rows"]


@pytest.mark.parametrize(
    ("options", "title", "description"),
    [
        ({"desc": "\x1b[1;32mTraining\x1b[0m: "}, "Training", ""),
        ({"desc": "rows\r\n\a"}, "rows", ""),
        ({"desc": "\x1b]8;;http://x\x1b\\rows\x1b]8;;\x1b\\"}, "rows", ""),
        ({"desc": "rows", "postfix": {"info": ""}}, "rows", ""),
        ({"desc": "rows", "postfix": {"loss": "\x1b[31m0.5\x1b[0m", "info": ""}}, "rows", "loss=0.5"),
        ({"desc": "rows", "postfix": ["Batch", {"n": 7, "info": ""}]}, "rows", "Batch n=7"),
    ],
)
def test_texts_of_tqdm_are_clean(recorder, options, title, description):
    file = io.StringIO()
    bar = tqdm(range(3), file=file, bar_format="{desc}", **options)
    assert [(run.title, run.description) for run in recorder] == [(title, description)]
    bar.close()


def test_changed_postfix_of_tqdm_is_read_again(recorder):
    postfix = ["Batch", {"n": ""}]
    bar = tqdm(range(3), file=io.StringIO(), bar_format="{desc}", postfix=postfix)
    assert [run.description for run in recorder] == ["Batch"]
    postfix[1]["n"] = 8
    assert [run.description for run in recorder] == ["Batch n=8"]
    bar.close()


@pytest.mark.parametrize("field", ["title", "description"])
def test_own_texts_have_no_escape_sequences(recorder, field):
    with track(total=1, id="job", display=False, **{field: "\x1b[31mred\x1b[0m\x1b[K"}):
        pass
    assert getattr(recorder["job"], field) == "red"
