"""Transfers of fsspec as items."""

from __future__ import annotations

import gc

import fsspec
import pytest
from fsspec.callbacks import TqdmCallback
from fsspec.implementations.memory import MemoryFileSystem

from progressbar_tracker import track
from progressbar_tracker.integrations.fsspec import TrackCallback
from progressbar_tracker.tqdm import tqdm


@pytest.fixture
def memory_fs():
    """An in-memory file system with three files."""
    MemoryFileSystem.store.clear()
    file_system = fsspec.filesystem("memory")
    for number in range(3):
        file_system.pipe_file(f"/photos/{number}.jpg", bytes(1000 * (number + 1)))
    return file_system


def final_state(run):
    return run.status, run.completed, run.total, run.unit, run.error


def test_one_file_is_counted_in_bytes(recorder, memory_fs, tmp_path):
    with TrackCallback(id="x", title="A photo") as callback:
        memory_fs.get_file("/photos/2.jpg", str(tmp_path / "2.jpg"), callback=callback)
    assert final_state(recorder["x"]) == ("succeeded", 3000, 3000, "B", None)
    assert recorder["x"].title == "A photo"


def test_many_files_are_counted_with_nested_items(recorder, memory_fs, tmp_path):
    with TrackCallback(id="x", group="night") as callback:
        memory_fs.get("/photos/", str(tmp_path), recursive=True, callback=callback)
    transfer, *files = [run for run in recorder if run.total]
    assert final_state(transfer) == ("succeeded", 4, 4, "files", None)  # fsspec counts the folder
    assert [(*final_state(run)[:4], run.title, run.parent, run.group) for run in files] == [
        ("succeeded", 1000 * (number + 1), 1000 * (number + 1), "B", f"{number}.jpg", "x", "night")
        for number in range(3)
    ]


def test_put_is_counted(recorder, memory_fs, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(700))
    with TrackCallback(id="x") as callback:
        memory_fs.put_file(str(tmp_path / "a.bin"), "/a.bin", callback=callback)
    assert final_state(recorder["x"]) == ("succeeded", 700, 700, "B", None)


def test_exception_fails_transfer_and_its_file(recorder, memory_fs, tmp_path, monkeypatch):
    def broken(self, length=-1):
        raise OSError("line dropped")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", broken)
    with pytest.raises(OSError, match="line dropped"), TrackCallback(id="x") as callback:
        memory_fs.get("/photos/", str(tmp_path), recursive=True, callback=callback)
    assert [(run.status, run.error) for run in recorder] == [("failed", "OSError: line dropped")] * 2


def test_freed_callback_ends_transfer(recorder, memory_fs, tmp_path):
    memory_fs.get_file("/photos/2.jpg", str(tmp_path / "2.jpg"), callback=TrackCallback(id="whole"))
    half = TrackCallback(id="half")
    half.set_size(10)
    half.absolute_update(5)
    assert recorder["half"].status == "running"
    del half
    gc.collect()
    assert final_state(recorder["whole"]) == ("succeeded", 3000, 3000, "B", None)
    assert final_state(recorder["half"]) == ("stopped", 5, 10, "B", None)


def test_unused_callback_is_not_shown(recorder):
    with TrackCallback(id="x"):
        pass
    TrackCallback().close()
    assert len(recorder) == 0


def test_second_transfer_is_separate_run(recorder, memory_fs, tmp_path):
    callback = TrackCallback(id="x")
    for number in range(2):
        memory_fs.get_file(f"/photos/{number}.jpg", str(tmp_path / "a"), callback=callback)
    callback.close()
    callback.close()
    assert [final_state(run)[:3] for run in recorder] == [("succeeded", 1000, 1000), ("succeeded", 2000, 2000)]


def test_transfer_without_size_ends(recorder, memory_fs, tmp_path):
    memory_fs.pipe_file("/empty", b"")
    memory_fs.get_file("/empty", str(tmp_path / "a"), callback=TrackCallback(id="empty"))
    with TrackCallback(id="unknown") as callback:
        callback.set_size(None)
        callback.relative_update(5)
    assert final_state(recorder["empty"])[:3] == ("succeeded", 0, 0)
    assert final_state(recorder["unknown"])[:3] == ("succeeded", 5, None)


def test_signature_in_url_is_hidden(recorder):
    with TrackCallback(id="x") as callback, callback.branched("https://h/a/b.zip?sig=secret", "b.zip") as child:
        child.set_size(1)
    assert [run.title for run in recorder] == ["Transfer", "b.zip"]


def test_branch_and_other_methods_work(recorder):
    callback = TrackCallback(id="x")
    options = {}
    callback.branch("/a", "/b", options)
    options["callback"].relative_update(3)
    callback.what_nobody_knows("does nothing")
    options["callback"].close()
    assert [run.completed for run in recorder] == [0, 3]


def test_transfer_is_nested_in_bar_of_loop(recorder, memory_fs, tmp_path):
    for name in track(["0.jpg"], id="names"):
        memory_fs.get_file(f"/photos/{name}", str(tmp_path / name), callback=TrackCallback(id="x"))
    assert recorder["x"].parent == "names"


@pytest.mark.parametrize(
    ("options", "error"), [({"id": 5}, TypeError), ({"interval": 0}, ValueError), ({"size": 5}, TypeError)]
)
def test_invalid_options_are_refused_at_once(options, error):
    with pytest.raises(error):
        TrackCallback(**options)


def test_fsspecs_tqdm_callback_is_mirrored(recorder, memory_fs, tmp_path):
    callback = TqdmCallback(tqdm_kwargs={"id": "x", "disable": None, "unit": "B"}, tqdm_cls=tqdm)
    memory_fs.get_file("/photos/2.jpg", str(tmp_path / "2.jpg"), callback=callback)
    callback.close()
    assert final_state(recorder["x"]) == ("succeeded", 3000, 3000, "B", None)
