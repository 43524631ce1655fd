"""The published package 1.0.0, installed unchanged in a virtual environment of its own, with a real server.

The package uses part 1 of the protocol, which is frozen for its sake. Each documented use is a program here.

One documented use never worked: with ``auto_detect=False`` the package assumes a key without permissions. Every
call raises before it sends a request. A server cannot change that, and the test states it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import seed_page
from tests.support.server import start_server

PUBLISHED_PACKAGE = "progressbar-tracker==1.0.0"

PROGRAM_PRELUDE = """
import json, sys
from progressbar_tracker import PermissionError, ProgressBar

def refused(call, *arguments, kind=PermissionError):
    try:
        call(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"{call.__name__}{arguments} was not refused")

url, key, *rest = sys.argv[1:]
"""


@pytest.fixture(scope="session")
def published_python(tmp_path_factory):
    """The Python of an environment with only the published package and its dependencies."""
    folder = tmp_path_factory.mktemp("published") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    path = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # This environment's pip installs into it: a pip of its own would take longer than everything else.
    pip = [sys.executable, "-m", "pip", "--python", str(path), "--disable-pip-version-check", "--quiet"]
    done = subprocess.run([*pip, "install", PUBLISHED_PACKAGE], capture_output=True, text=True, timeout=200)
    if done.returncode != 0:
        reason = f"needs {PUBLISHED_PACKAGE}, which pip could not install: check the network. {done.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return path


@pytest.fixture
def run_published(published_python, tmp_path):
    """Run the published package's Python, isolated from this checkout; return its output."""

    def run(*arguments, **options):
        done = subprocess.run(
            [str(published_python), "-I", "-X", "utf8", *arguments],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=100,
            **options,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def run_snippet(server, run_published):
    """Run a snippet of the page with a key; return its output."""

    def run(name, key):
        source = seed_page.fill_snippet(name, server.url, server.keys[key])
        return run_published(seed_page.__file__, input=json.dumps(source))

    return run


@pytest.fixture
def run_program(server, run_published):
    """Run a program with the server's URL and a key; return the JSON of its last line, and the lines before."""

    def run(code, key, *rest, url=None):
        lines = run_published(
            "-c", PROGRAM_PRELUDE + code, url or server.url, server.keys.get(key, key), *rest
        ).splitlines()
        return json.loads(lines[-1]), lines[:-1]

    return run


def test_published_package_is_the_one_installed(run_published):
    code = "import progressbar_tracker, importlib.metadata as m; print(m.version('progressbar-tracker'));"
    version, folder = run_published("-c", code + "print(progressbar_tracker.__file__)").splitlines()
    assert version == "1.0.0"
    assert "site-packages" in Path(folder).parts


# The snippets of the page


def test_published_quick_start_runs_as_written(server, run_snippet):
    out = run_snippet("quick start", "write").splitlines()
    assert out[:2] == ["✓ API Key Type: WRITE", "✓ Permissions: read, create, update_own, delete_own"]
    assert out[-2:] == ["Encoding Video: 50%", "✓ Successfully deleted progress for 'video-encoding-001'."]
    assert server.items() == {}
    assert server.final_statuses() == {"video-encoding-001": "deleted"}


def test_published_read_key_lists_and_its_create_raises(server, run_snippet):
    server.create_as_other("listed")
    assert "✓ Retrieved 1 progress items" in run_snippet("read key", "read")
    assert list(server.items()) == ["listed"]


def test_published_write_key_changes_its_own_items_only(server, run_snippet):
    server.create_as_other("other-task")
    run_snippet("write key", "write")
    items = server.items()
    assert (items["my-task"]["value"], items["my-task"]["description"]) == (0.9, "Almost done")
    assert items["other-task"]["value"] == 0.1


def test_published_admin_key_changes_and_deletes_any_item(server, run_snippet):
    server.create_as_other("any-task")
    run_snippet("admin key", "admin")
    assert server.items() == {}
    assert server.history()[0]["value"] == 0.5


@pytest.mark.parametrize(("key", "sentence"), seed_page.PERMISSION_SENTENCES.items())
def test_published_permission_check_distinguishes_keys(run_snippet, key, sentence):
    assert run_snippet("check permissions", key).splitlines()[-1] == sentence


def test_published_error_handling_catches_its_exceptions(server, run_snippet):
    assert "Created with progress 50.00%" in run_snippet("error handling", "write")
    assert "Validation error: Item with ID 'task-1' already exists" in run_snippet("error handling", "write")
    assert "Permission denied: Your API key (type: read)" in run_snippet("error handling", "read")
    assert server.items()["task-1"]["value"] == 0.5


def test_published_video_pipeline_runs_to_its_end(server, run_snippet):
    assert run_snippet("video encoding pipeline", "write").splitlines()[-1] == "✓ Encoding complete!"
    run = server.history()[0]
    assert (run["id"], run["status"], run["description"]) == ("video-001", "succeeded", "Processing frame 1000/1000")


def test_published_batch_ends_complete(server, run_snippet):
    run_snippet("batch processing", "write")
    assert server.items() == {}
    assert server.final_statuses() == {"process-0": "succeeded", "process-1": "succeeded", "process-2": "succeeded"}


# The reference of the page, method by method


def test_published_get_all_is_ordered_by_weight(server, run_program):
    code = """
pb = ProgressBar(url, key, auto_detect=True)
pb.create("light", "Light", "first", 0.25)
pb.create("heavy", "Heavy", "second", 0.5, weight=7)
pb.create("as light", "Light too", "third", 0.75, 0)
print(json.dumps(pb.get_all()))
"""
    items, output = run_program(code, "write")
    names = ("id", "title", "description", "value", "weight")
    assert [tuple(item[name] for name in names) for item in items] == [
        ("heavy", "Heavy", "second", 0.5, 7),
        ("light", "Light", "first", 0.25, 0),
        ("as light", "Light too", "third", 0.75, 0),
    ]
    assert output[-1] == "✓ Retrieved 3 progress items"


@pytest.mark.parametrize(
    ("key", "answers"),
    [
        ("read", [False, True, False, False]),
        ("write", [False, False, True, True]),
        ("admin", [True, False, True, True]),
    ],
)
def test_published_permission_helpers_for_each_key_type(run_program, key, answers):
    code = """
pb = ProgressBar(url, key)
print(json.dumps([pb.is_admin(), pb.is_read_only(), pb.can_write(), pb.can_delete()]))
"""
    assert run_program(code, key)[0] == answers


def test_published_duplicate_and_unknown_ids_raise_value_errors(server, run_program):
    code = """
pb = ProgressBar(url, key)
pb.create("once", "Once", "", 0.0)
twice = refused(pb.create, "once", "Twice", "", 0.9, kind=ValueError)
print(json.dumps([twice, refused(pb.update, "never", "Never", "", 0.5, kind=ValueError)]))
"""
    (twice, never), _ = run_program(code, "write")
    assert twice == "Item with ID 'once' already exists. Use update() to modify it."
    assert never == "Item with ID 'never' not found. Use create() to create new items."
    assert {name: item["title"] for name, item in server.items().items()} == {"once": "Once"}


def test_published_write_key_cannot_change_another_keys_item(server, run_program):
    server.create_as_other("theirs")
    code = """
pb = ProgressBar(url, key)
print(json.dumps([refused(pb.update, "theirs", "Mine now", "", 0.9), refused(pb.delete, "theirs")]))
"""
    (update, delete), _ = run_program(code, "write")
    assert "Write keys can only update items they created" in update
    assert "Write keys can only delete items they created" in delete
    assert server.items()["theirs"]["title"] == "Task"


def test_published_read_key_cannot_write(server, run_program):
    server.create_as_other("theirs")
    code = """
pb = ProgressBar(url, key)
arguments = "theirs", "Mine now", "", 0.9
refused(pb.create, *arguments), refused(pb.update, *arguments), refused(pb.delete, "theirs")
# With other permissions in the package, the server refuses as well.
pb.permissions = ["read", "create", "update_all", "delete_all"]
errors = [refused(pb.create, *arguments), refused(pb.update, *arguments), refused(pb.delete, "theirs")]
print(json.dumps([errors, len(pb.get_all())]))
"""
    (errors, item_count), _ = run_program(code, "read")
    assert all(error.startswith("Permission denied: ") for error in errors)
    assert item_count == 1
    assert server.items()["theirs"]["title"] == "Task"


def test_published_update_below_one_restarts_an_ended_item(server, run_program):
    code = """
pb = ProgressBar(url, key)
pb.create("again", "Again", "", 0.5)
pb.update("again", "Again", "", 1.0)
first = pb.get_all()[0]["status"]
pb.update("again", "Again", "", 0.2)
print(json.dumps([first, pb.get_all()[0]["status"]]))
"""
    assert run_program(code, "write")[0] == ["succeeded", "running"]


def test_published_delete_of_a_missing_item_prints_an_error(run_program):
    code = """
pb = ProgressBar(url, key)
pb.create("twice", "Twice", "", 0.5)
pb.delete("twice"), pb.delete("twice")
print(json.dumps(len(pb.get_all())))
"""
    item_count, output = run_program(code, "write")
    assert item_count == 0
    assert output[-2].startswith("Error deleting progress for 'twice': 404")


def test_published_unusual_ids_and_texts_arrive_unchanged(server, run_program):
    item_id, title = "a/b c?d#e%25&é 進捗", "Ünïcode → “quoted” \\ <b>"
    code = """
pb = ProgressBar(url, key)
item_id, title = rest
pb.create(item_id, title, "line", 0.25)
pb.update(item_id, title, "line\\nand another", 0.5)
item = pb.get_all()[0]
pb.delete(item_id)
print(json.dumps([item["id"], item["title"], item["description"], len(pb.get_all())]))
"""
    assert run_program(code, "write", item_id, title)[0] == [item_id, title, "line\nand another", 0]


@pytest.mark.parametrize("slash", ["", "/"])
def test_published_base_url_works_with_and_without_final_slash(tmp_path, run_program, slash):
    code = """
pb = ProgressBar(url, key)
pb.create("job", "Job", "", 0.5)
print(json.dumps([item["id"] for item in pb.get_all()]))
"""
    with start_server(tmp_path / "sub.db", base_path="/sub") as server:
        assert server.url.endswith("/sub")
        assert run_program(code, server.create_key("write", "me"), url=server.url + slash)[0] == ["job"]


def test_published_unknown_key_warns_and_is_refused(run_program):
    code = """
pb = ProgressBar(url, key)
print(json.dumps(refused(pb.get_all)))
"""
    error, output = run_program(code, "no-key-of-this-server")
    assert output[0].startswith("Warning: Could not fetch key info: 401")
    assert error.startswith("Your API key (type: unknown)")


def test_published_calls_without_auto_detection_raise_unsent(server, run_program):
    code = """
pb = ProgressBar(url, key, auto_detect=False)
arguments = "job", "Job", "", 0.5
writes = [refused(pb.create, *arguments), refused(pb.update, *arguments), refused(pb.delete, "job")]
errors = [refused(pb.get_all), *writes]
print(json.dumps([errors, pb.is_admin(), pb.is_read_only(), pb.can_write(), pb.can_delete()]))
"""
    (errors, *helpers), _ = run_program(code, "admin")
    assert all(error.startswith("Your API key (type: None) does not have permission") for error in errors)
    assert helpers == [False, False, False, False]
    assert server.items() == {}
