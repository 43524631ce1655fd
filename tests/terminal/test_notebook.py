"""The bar in the output of a notebook's cell, as a saved notebook has it."""

from __future__ import annotations

import html
import json
import re
import sys
from types import ModuleType

import pytest

from progressbar_tracker import _runtime, track
from progressbar_tracker._sender.snapshot import Snapshot
from progressbar_tracker._terminal.cell import Cell, find_cell
from progressbar_tracker._terminal.display import Display
from progressbar_tracker._terminal.markup import BarState, render_html, render_text
from tests.support.notebook import execute_cells

SERVER_URL, SERVER_KEY = "http://127.0.0.1:1/base", "secret-key"
HOSTILE_TITLE = "<script>alert('\"')</script>"

SETUP_CELL = """
from progressbar_tracker import _runtime, track
draw = lambda: _runtime.get_display().draw_frame()
"""
NOTEBOOK_CELLS = {
    "setup": SETUP_CELL,
    "loop": f"for _ in track(range(4), id='a/b', title={HOSTILE_TITLE!r}):\n    draw()\ndraw()",
    "nested": "for _ in track('ab', id='outer'):\n    for _ in track('ab', id='inner'):\n        draw()\ndraw()",
    "failed": "for n in track(range(4), id='bad'):\n    draw()\n    if n == 2: raise ValueError('bad <row>')",
    "left": "draw()\nfor n in track(range(4), id='left'):\n    draw()\n    if n == 2:\n        break",
    "block": "with track(total=3, id='block') as bar:\n    bar.advance(3)\n    draw()\n    bar.write('written')",
    "first": "bar = track(total=2, id='across')\nbar.advance()\ndraw()",
    "second": "bar.advance()\nbar.close()\ndraw()",
    "hidden": "for _ in track(range(2), id='hidden', display=False):\n    draw()",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    every = execute_cells(
        list(NOTEBOOK_CELLS.values()), folder, PROGRESSBAR_URL=SERVER_URL, PROGRESSBAR_API_KEY=SERVER_KEY,
        PROGRESSBAR_CONFIG=str(folder / "config.toml"),
    )  # fmt: skip
    assert SERVER_KEY not in json.dumps(every)
    return dict(zip(NOTEBOOK_CELLS, every, strict=True))


def get_bar(outputs, cell):
    """Return the text and the HTML of the only bar in a cell."""
    (bar,) = [output["data"] for output in outputs[cell] if output["output_type"] == "display_data"]
    return bar["text/plain"], bar["text/html"]


def test_saved_cell_shows_the_result(outputs):
    text, markup = get_bar(outputs, "loop")
    assert re.search(r": 100%\|#{20}\| 4/4 \[\d\d:\d\d, .*it/s\]$", text)
    assert 'role="progressbar"' in markup
    assert 'aria-valuenow="100"' in markup


def test_hostile_title_is_escaped(outputs):
    _, markup = get_bar(outputs, "loop")
    assert html.escape(HOSTILE_TITLE) in markup
    assert "<script" not in markup


def test_bar_links_to_its_page(outputs):
    _, markup = get_bar(outputs, "loop")
    (link,) = re.findall(r'<a href="([^"]+)" target="_blank" rel="noopener noreferrer"', markup)
    assert re.fullmatch(SERVER_URL + r"/items/a%2Fb\?run=[\w-]+", link)


def test_nested_bars_share_an_output(outputs):
    text, _ = get_bar(outputs, "nested")
    assert text.startswith("outer: 100%")
    assert "inner" not in text


def test_failed_loop_stays_failed(outputs):
    text, markup = get_bar(outputs, "failed")
    assert text.endswith("failed: ValueError: bad <row>")
    assert "2/4" in text
    assert "bad &lt;row&gt;" in markup


def test_left_loop_is_stopped(outputs):
    text, _ = get_bar(outputs, "left")
    assert text.endswith("stopped")


def test_written_line_is_an_output_of_its_own(outputs):
    assert [output["text"] for output in outputs["block"] if output["output_type"] == "stream"] == ["written\n"]
    assert get_bar(outputs, "block")[0].startswith("block: 100%")


def test_bar_stays_in_the_cell_that_began_it(outputs):
    text, _ = get_bar(outputs, "first")
    assert text.startswith("across: 100%")
    assert outputs["second"] == []


def test_display_argument_hides_the_bar(outputs):
    assert outputs["hidden"] == []


def test_ipython_without_a_kernel_has_no_cell():
    pytest.importorskip("IPython")
    assert find_cell() is None


class FakePublisher:
    """A publisher that records its messages."""

    topic = b"topic"
    pub_socket = object()

    def __init__(self, error=None):
        self.sent, self.updates, self._error = [], [], error
        self.session = self

    def send(self, socket, kind, content, *, parent, ident):
        if self._error is not None:
            raise self._error
        self.sent.append((kind, parent, content["data"]["text/plain"]))

    def publish(self, data, metadata, *, transient, update):
        self.updates.append((update, data["text/plain"]))


class CapturePublisher:
    """The publisher of ``%%capture``: it stores every output."""

    def __init__(self):
        self.outputs = []

    def publish(self, data, metadata, *, transient, update):
        self.outputs.append(data["text/plain"])


@pytest.fixture
def show_in_cell(monkeypatch):
    """Show bars in a cell of a publisher."""

    def show(publisher):
        display = Display()
        display._worker.start = lambda *, quiet=False: True
        display._worker.wake = display.draw_frame
        cell = Cell(publisher, {"msg_id": "cell 1"})
        monkeypatch.setattr("progressbar_tracker._terminal.display.find_cell", lambda: cell)
        monkeypatch.setattr(_runtime, "_display", display)
        return display

    return show


def test_output_is_created_with_the_parent_of_the_cell(show_in_cell):
    publisher = FakePublisher()
    display = show_in_cell(publisher)
    with track(total=2, id="job", display=True) as bar:
        display.draw_frame()
        bar.advance(2)
    ((kind, parent, text),) = publisher.sent
    assert (kind, parent) == ("display_data", {"msg_id": "cell 1"})
    assert text.startswith("job:   0%")
    ((is_update, last),) = publisher.updates
    assert is_update
    assert last.startswith("job: 100%")


def test_updates_are_throttled(show_in_cell):
    publisher = FakePublisher()
    display = show_in_cell(publisher)
    display._clock = lambda: 1000.0
    with track(total=100, id="job", display=True) as bar:
        for _ in range(50):
            bar.advance()
            display.draw_frame()
        assert len(publisher.sent + publisher.updates) == 1


def test_captured_cell_gets_the_last_state_only(show_in_cell):
    publisher = CapturePublisher()
    display = show_in_cell(publisher)
    for _ in track(range(10), id="job", display=True):
        display.draw_frame()
    assert len(publisher.outputs) == 1
    assert publisher.outputs[0].startswith("job: 100%")


def test_failing_kernel_does_not_affect_the_program(show_in_cell):
    display = show_in_cell(FakePublisher(OSError("the socket is closed")))
    done = []
    for number in track(range(3), id="job", display=True):
        display.draw_frame()
        done.append(number)
    assert done == [0, 1, 2]
    assert display._outputs == []


def test_failing_output_leaves_others_shown(show_in_cell, monkeypatch):
    working = FakePublisher()
    display = show_in_cell(FakePublisher(OSError("the socket is closed")))
    failing = track(total=2, id="failing", display=True)
    failing.advance()
    monkeypatch.setattr("progressbar_tracker._terminal.display.find_cell", lambda: Cell(working, {"msg_id": "cell 2"}))
    with track(total=2, id="job", display=True) as bar:
        display.draw_frame()
        bar.advance(2)
    failing.close()
    assert working.updates[-1][1].startswith("job: 100%")


def make_state(completed, total, status="running", **fields):
    snapshot = Snapshot("job", "", completed, total, 0, status, fields.pop("error", None))
    return BarState(snapshot, "it", "00:10", "", "", fields.pop("url", None))


def test_bar_without_total_has_no_value():
    markup = render_html([make_state(7, None)])
    assert 'role="progressbar"' in markup
    assert "aria-valuenow" not in markup
    assert render_text([make_state(7, None)]) == "job: 7it [00:10]"


def test_url_is_escaped():
    assert 'href="http://x/&quot;&gt;"' in render_html([make_state(1, 2, url='http://x/">')])


def test_colors_suit_light_and_dark_pages():
    """Only the fill has a color of its own; text and border have those of the page."""
    markup = render_html([make_state(1, 2), make_state(1, 2, "failed", error="bad"), make_state(1, 2, "stopped")])
    assert re.findall(r"[^-]color:", markup) == []
    assert markup.count("border:1px solid currentColor") == 3


@pytest.mark.parametrize("names", [("marimo",), ("marimo", "marimo._runtime.context")])
def test_module_of_another_marimo_is_no_cell(monkeypatch, names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert find_cell() is None
