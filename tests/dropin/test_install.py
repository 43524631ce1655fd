"""``install()`` for all bars of the process, and ``mirror()`` for existing bars."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys

import pytest
import tqdm as stock
import tqdm.asyncio
import tqdm.auto
import tqdm.contrib
import tqdm.gui
import tqdm.std

from progressbar_tracker import tqdm as dropin
from progressbar_tracker.tqdm import install, mirror, uninstall

STOCK_TQDM = stock.tqdm  # as in a library that was imported earlier


def final_states(recorded):
    return [(run.title, run.status, run.completed) for run in recorded]


@pytest.mark.parametrize(
    "kind", [STOCK_TQDM, stock.std.tqdm, stock.auto.tqdm, stock.asyncio.tqdm], ids=lambda kind: kind.__module__
)
def test_install_shows_every_class_in_any_import_order(kind, installed_dropin, recorder, terminal):
    for _ in kind(range(3), desc="all", file=terminal):
        pass
    for _ in kind(range(3), desc="some", file=terminal):
        break
    with pytest.raises(ValueError, match="bad"), kind(range(3), desc="none", file=terminal) as bar:
        for _ in bar:
            raise ValueError("bad")
    assert final_states(recorder) == [("all", "succeeded", 3), ("some", "stopped", 0), ("none", "failed", 0)]


def test_install_shows_derived_class(installed_dropin, recorder, terminal):
    class LibraryBar(STOCK_TQDM):
        def __init__(self, *args, name=None, **options):
            self.name = name
            super().__init__(*args, **options)

        def close(self):
            self.closed = True
            super().close()

    for _ in LibraryBar(range(3), name="x", desc="library", file=terminal):
        pass
    assert final_states(recorder) == [("library", "succeeded", 3)]


def test_install_shows_functions_of_tqdm(installed_dropin, recorder, terminal):
    list(stock.trange(2, desc="trange", file=terminal))
    list(stock.contrib.tenumerate("ab", desc="tenumerate", file=terminal))
    assert final_states(recorder) == [("trange", "succeeded", 2), ("tenumerate", "succeeded", 2)]


def test_install_shows_drop_in_once(installed_dropin, recorder, terminal):
    list(dropin.tqdm(range(3), id="drop-in", file=terminal))
    with dropin.tqdm(range(3), id="block", file=terminal) as bar:
        list(bar)
    assert [(run.id, run.status) for run in recorder] == [("drop-in", "succeeded"), ("block", "succeeded")]


def test_install_shows_hidden_but_not_disabled_bar(installed_dropin, recorder):
    out = io.StringIO()
    list(STOCK_TQDM(range(3), disable=True, desc="off", file=out))
    list(STOCK_TQDM(range(3), disable=None, desc="batch", file=out))
    assert out.getvalue() == ""
    assert final_states(recorder) == [("batch", "succeeded", 3)]


def test_install_ignores_earlier_bar(recorder, terminal):
    bar = STOCK_TQDM(range(3), file=terminal)
    install()
    try:
        list(bar)
    finally:
        uninstall()
    assert len(recorder) == 0


def test_install_is_idempotent_and_reversible(recorder, terminal):
    before = {
        name: stock.std.tqdm.__dict__[name] for name in ("__init__", "close", "__iter__", "__enter__", "__exit__")
    }
    install()
    install()
    uninstall()
    uninstall()
    assert {name: stock.std.tqdm.__dict__[name] for name in before} == before
    list(STOCK_TQDM(range(3), file=terminal))
    assert len(recorder) == 0


def test_uninstall_keeps_open_bar(recorder, terminal):
    install()
    bar, other = STOCK_TQDM(total=3, desc="done", file=terminal), STOCK_TQDM(total=3, desc="left", file=terminal)
    uninstall()
    bar.update(3)
    bar.close()
    other.update(1)
    other.close()
    assert final_states(recorder) == [("done", "succeeded", 3), ("left", "stopped", 1)]


def test_uninstall_keeps_foreign_patch(recorder, terminal, monkeypatch):
    install()
    installed_init = stock.std.tqdm.__init__
    calls = []

    def foreign_init(self, *args, **options):
        calls.append(args)
        installed_init(self, *args, **options)

    monkeypatch.setattr(stock.std.tqdm, "__init__", foreign_init)
    uninstall()
    list(STOCK_TQDM(range(3), file=terminal))
    assert (len(calls), len(recorder)) == (1, 0)
    install()
    list(STOCK_TQDM(range(3), file=terminal))
    assert (len(calls), len(recorder)) == (2, 1)
    monkeypatch.undo()
    uninstall()
    assert stock.std.tqdm.__init__ is not installed_init


def test_failing_constructor_raises_as_before(installed_dropin, recorder, terminal):
    with pytest.raises(stock.std.TqdmKeyError):
        STOCK_TQDM(range(3), id="not an option of tqdm", file=terminal)
    gc.collect()
    assert len(recorder) == 0


def test_progress_apply_of_pandas_is_shown(installed_dropin, recorder, terminal):
    pandas = pytest.importorskip("pandas")
    STOCK_TQDM.pandas(desc="rows", file=terminal)
    frame = pandas.DataFrame({"a": [1, 2, 3]})
    assert list(frame["a"].progress_apply(lambda x: x + 1)) == [2, 3, 4]
    assert final_states(recorder) == [("rows", "succeeded", 3)]


# --- mirror() ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [stock.std.tqdm, stock.auto.tqdm], ids=lambda kind: kind.__module__)
def test_mirror_starts_at_current_count(kind, recorder, terminal):
    bar = kind(range(5), desc="here", file=terminal)
    iterator = iter(bar)
    next(iterator), next(iterator)
    assert mirror(bar, id="mirrored", keep=True) is bar
    assert list(iterator) == [2, 3, 4]
    run = recorder["mirrored"]
    assert (run.title, run.status, run.completed, run.keep) == ("here", "succeeded", 5, True)
    assert isinstance(bar, kind)


def test_mirrored_bar_has_the_age_of_the_bar(recorder, terminal):
    bar = stock.tqdm(total=5, file=terminal)
    bar.start_t -= 100.0  # it was made 100 s ago
    mirror(bar, id="old").close()
    assert recorder["old"].duration_seconds == pytest.approx(100.0, abs=20)


def test_mirrored_bar_distinguishes_break_and_failure(recorder, terminal):
    bar = mirror(stock.tqdm(range(5), file=terminal), id="broken off")
    for i in bar:
        if i == 2:
            break
    assert (recorder["broken off"].status, recorder["broken off"].completed) == ("stopped", 2)
    with pytest.raises(ValueError, match="no"), mirror(stock.tqdm(range(5), file=terminal), id="failed") as bar:
        for _ in bar:
            raise ValueError("no")
    assert recorder["failed"].error == "ValueError: no"


def test_mirror_accepts_bar_of_rich(recorder):
    pytest.importorskip("rich")
    import warnings

    from tqdm.rich import tqdm_rich

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bar = tqdm_rich(total=3, desc="rich", options={"console": _make_console()})
    mirror(bar, id="rich")
    bar.update(3)
    bar.close()
    assert (recorder["rich"].status, recorder["rich"].completed, recorder["rich"].title) == ("succeeded", 3, "rich")


def _make_console():
    from rich.console import Console

    return Console(file=io.StringIO())


def test_mirror_accepts_bar_of_notebook(recorder):
    pytest.importorskip("ipywidgets")
    from tqdm.notebook import tqdm_notebook

    bar = mirror(tqdm_notebook(range(3), desc="notebook", display=False), id="notebook")
    assert list(bar) == [0, 1, 2]
    assert (recorder["notebook"].status, recorder["notebook"].completed) == ("succeeded", 3)


@pytest.mark.parametrize("wrong", [None, 5, "bar", [1, 2], object()], ids=lambda wrong: type(wrong).__name__)
def test_mirror_error_names_invalid_bar(wrong):
    with pytest.raises(TypeError, match="bar must be a bar of tqdm, not"):
        mirror(wrong)


def test_mirror_refuses_closed_or_disabled_bar(terminal):
    bar = stock.tqdm(total=3, file=terminal)
    bar.close()
    for each in (bar, stock.tqdm(total=3, disable=True)):
        with pytest.raises(ValueError, match="closed or disabled"):
            mirror(each)


def test_mirror_refuses_bar_shown_already(recorder, terminal):
    with pytest.raises(ValueError, match="shown already"):
        mirror(dropin.tqdm(range(3), file=terminal))


def test_unreferenced_mirrored_bar_is_freed(recorder, terminal):
    mirror(stock.tqdm(total=3, file=terminal), id="gone")
    assert recorder["gone"].status == "stopped"
    assert not list(stock.tqdm._instances)


# --- without a server, or with a bad one ------------------------------------------------------------------------------


def test_unreachable_server_does_not_affect_program(tmp_path):
    program = (
        "import sys\nfrom progressbar_tracker.tqdm import tqdm\n"
        "print(sum(tqdm(range(1000), mininterval=0)), file=sys.stdout)"
    )
    environ = {**os.environ, "PROGRESSBAR_URL": "http://127.0.0.1:9", "PROGRESSBAR_API_KEY": "nobody-listens"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environ, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "499500\n")
    assert done.stderr.rstrip().splitlines()[-1].startswith("100%")


def test_mirror_replaces_the_run_of_install(installed_dropin, recorder, terminal):
    """A program that calls ``mirror()`` works under ``run``, too."""
    with mirror(STOCK_TQDM(total=3, desc="rows", file=terminal), id="mine") as bar:
        bar.update(3)
    assert [(run.status, run.completed) for run in recorder] == [("stopped", 0), ("succeeded", 3)]
    assert recorder.runs[1].id == "mine"


@pytest.mark.parametrize("name", ["find_user_frame", "start_mirror", "LoopMirror"])
def test_broken_hook_does_not_reach_the_program(recorder, terminal, monkeypatch, name):
    def fail(*args, **options):
        raise RuntimeError("of the hook")

    monkeypatch.setattr(f"progressbar_tracker._tracking.tqdm_bar.{name}", fail)
    install()
    try:
        for kind in (STOCK_TQDM, dropin.tqdm):
            for file in (terminal, io.StringIO()):
                with kind(range(3), file=file, disable=None) as bar:
                    assert list(bar) == [0, 1, 2]
    finally:
        uninstall()
