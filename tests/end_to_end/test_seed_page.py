"""Runs each Python snippet of the published page, as written, with this package and a real server."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest

import progressbar_tracker
from tests.support.seed_page import PAGE_SNIPPETS, PERMISSION_SENTENCES, fill_snippet, run_snippet_source


@pytest.fixture
def run_snippet(server, capsys):
    """Run a snippet of the page with a key; return its output, its exceptions and its variables."""
    clients = []

    def run(name, key):
        names = {}
        capsys.readouterr()
        raised = run_snippet_source(fill_snippet(name, server.url, server.keys[key]), names)
        clients.append(names["pb"])
        return capsys.readouterr().out, raised, names

    yield run
    for client in clients:
        client.close()


def test_page_quick_start_creates_updates_lists_and_deletes(server, run_snippet):
    out, _, names = run_snippet("quick start", "write")
    assert out == "Encoding Video: 50%\n"
    item = names["items"][0]
    assert (item["id"], item["description"], item["weight"]) == ("video-encoding-001", "50% complete", 100)
    assert server.items() == {}
    assert server.final_statuses() == {"video-encoding-001": "deleted"}


def test_page_read_key_lists_and_its_create_raises(server, run_snippet):
    server.create_as_other("listed")
    out, raised, names = run_snippet("read key", "read")
    assert [item["id"] for item in names["items"]] == ["listed"]
    assert isinstance(raised[0], progressbar_tracker.PermissionError)
    assert isinstance(raised[0], builtins.PermissionError)
    assert (out, list(server.items())) == ("", ["listed"])


def test_page_write_key_changes_its_own_items_only(server, run_snippet):
    server.create_as_other("other-task")
    _, raised, _ = run_snippet("write key", "write")
    assert isinstance(raised[0], builtins.PermissionError)
    items = server.items()
    assert (items["my-task"]["value"], items["my-task"]["description"]) == (0.9, "Almost done")
    assert items["other-task"]["value"] == 0.1


def test_page_admin_key_changes_and_deletes_any_item(server, run_snippet):
    server.create_as_other("any-task")
    run_snippet("admin key", "admin")
    assert server.items() == {}
    run = server.history()[0]
    assert (run["id"], run["status"], run["value"]) == ("any-task", "deleted", 0.5)


@pytest.mark.parametrize(("key", "sentence"), PERMISSION_SENTENCES.items())
def test_page_permission_helpers_distinguish_keys(run_snippet, key, sentence):
    out, _, _ = run_snippet("check permissions", key)
    assert out == f"{sentence}\n"


def test_page_error_handling_catches_its_exceptions(server, run_snippet):
    assert run_snippet("error handling", "write")[0] == ""
    assert server.items()["task-1"]["value"] == 0.5
    assert run_snippet("error handling", "write")[0].startswith("Validation error: ")
    assert run_snippet("error handling", "read")[0].startswith("Permission denied: ")


def test_page_without_auto_detection_the_server_decides(server, run_snippet):
    pb = run_snippet("disable auto-detection", "write")[2]["pb"]
    pb.create("undetected", "Task", "", 0.5)
    assert pb.can_write()
    pb = run_snippet("disable auto-detection", "read")[2]["pb"]
    assert [item["id"] for item in pb.get_all()] == ["undetected"]
    with pytest.raises(builtins.PermissionError):
        pb.delete("undetected")


def test_page_video_pipeline_runs_to_its_end(server, run_snippet):
    out, _, names = run_snippet("video encoding pipeline", "write")
    assert out == "✓ Encoding complete!\n"
    assert names["slept"] == [1] * 11
    run = server.history()[0]
    assert (run["id"], run["status"], run["description"]) == ("video-001", "succeeded", "Processing frame 1000/1000")


def test_page_batch_is_listed_by_weight_and_ends_complete(server, run_snippet):
    run_snippet("batch processing", "write")
    assert server.items() == {}
    assert server.final_statuses() == {"process-0": "succeeded", "process-1": "succeeded", "process-2": "succeeded"}
    assert {run["id"]: run["weight"] for run in server.history()} == {"process-0": 0, "process-1": 0, "process-2": 0}


def test_page_snippets_are_complete_and_unchanged():
    paths = sorted((Path(__file__).parents[3] / "shared").glob("seed-*.txt"))
    if not paths:
        pytest.skip("the text of the published page is not beside this checkout")
    page = paths[0].read_text("utf-8")
    for name, snippet in PAGE_SNIPPETS.items():
        assert snippet in page, name
        page = page.replace(snippet, "")
    code = [line for line in page.splitlines() if "pb." in line or "import" in line or line.startswith("pb =")]
    assert code == []
