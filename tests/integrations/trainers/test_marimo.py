"""Bars in the outputs of marimo cells, which marimo executes and exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HOSTILE_TITLE = "<script>alert(1)</script>"
CODE_BY_CELL = {
    "loop": f"for _ in track(range(8), id='a/b', title={HOSTILE_TITLE!r}): pass",
    "nested": "for _ in track('ab', id='outer'):\n    for _ in track('abc', id='inner'): time.sleep(0.05)",
    "left": "for _n in track(range(8), id='left'):\n    if _n == 3: break",
    "block": "with track(total=3, id='block') as _bar: _bar.advance(3)",
    "two": "for _ in track('ab', id='first'): pass\nfor _ in track('ab', id='second'): pass",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The HTML of each cell in the exported session."""
    folder = tmp_path_factory.mktemp("marimo")
    setup = "@app.cell\ndef _():\n    import time\n    from progressbar_tracker import track\n    return time, track\n"
    cells = [
        f"@app.cell\ndef _(time, track):\n    {code}\n    return\n"
        for code in (code.replace("\n", "\n    ") for code in CODE_BY_CELL.values())
    ]
    (folder / "notebook.py").write_text(
        "import marimo\n\napp = marimo.App()\n\n\n" + "\n\n".join([setup, *cells]), "utf-8"
    )
    environ = {
        **os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder),
        "XDG_STATE_HOME": str(folder), "PROGRESSBAR_URL": "http://127.0.0.1:1/base",
        "PROGRESSBAR_API_KEY": "secret-key", "PROGRESSBAR_CONFIG": str(folder / "config.toml"),
    }  # fmt: skip
    command = [sys.executable, "-m", "marimo", "export", "session", "notebook.py", "--force-overwrite"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "__marimo__/session/notebook.py.json").read_text("utf-8")
    assert "secret-key" not in text
    htmls = [
        "".join(output["data"].get("text/html", "") for output in cell["outputs"]) for cell in json.loads(text)["cells"]
    ]
    return dict(zip(["setup", *CODE_BY_CELL], htmls, strict=True))


def test_saved_cell_shows_the_result_with_a_link(outputs):
    assert outputs["loop"].count('role="progressbar"') == 1
    assert 'aria-valuenow="100"' in outputs["loop"]
    assert 'href="http://127.0.0.1:1/base/items/a%2Fb?run=' in outputs["loop"]


def test_hostile_title_is_escaped(outputs):
    assert "&lt;script&gt;" in outputs["loop"]
    assert "<script" not in outputs["loop"]


@pytest.mark.parametrize(("cell", "text"), [("nested", "2/2"), ("left", "/8"), ("block", "3/3")])
def test_cell_has_one_bar_in_its_last_state(outputs, cell, text):
    assert outputs[cell].count('role="progressbar"') == 1
    assert text in outputs[cell]


def test_loops_of_a_cell_are_listed_in_their_order(outputs):
    assert outputs["two"].index("first") < outputs["two"].index("second")
