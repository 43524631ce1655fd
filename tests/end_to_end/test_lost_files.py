"""The files of a database are deleted, replaced or overwritten while a server writes to them.

Each row is one way. The server refuses writes and says why, its readiness and ``doctor`` agree, and whatever it
acknowledged is there after a restart. Where the file can be put back, all goes on without a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.stores.sqlite.backup import backup
from tests.support.server_process import ADMIN_KEY, Serving, history, listed, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def serving(tmp_path, folder):
    serving = Serving(tmp_path, PROGRESSBAR_DATABASE=str(folder / "progress.db"))
    yield serving
    serving.close()


def other(path: Path) -> Path:
    """Make a database of another life."""
    made = path.with_name("other.db")
    backup(path, made, replace=True)
    with contextlib.closing(sqlite3.connect(made)) as file, file:
        file.execute("DELETE FROM items")
        file.execute("UPDATE meta SET value = value + 1")
    return made


def delete(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    other(path).replace(path)


def reuse_inode(path: Path) -> None:
    made = other(path)
    path.unlink()
    for n in range(50):  # the next files get the numbers that are free
        path.with_name(f"{n}.tmp").write_bytes(b"")
    shutil.copy(made, path)


def overwrite(path: Path) -> None:
    made = other(path)
    with path.open("r+b") as file:
        file.write(made.read_bytes())
        file.truncate()


def copy_over(path: Path) -> None:
    shutil.copy(other(path), path)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * 100)


def delete_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def replace_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    shutil.copy(log, log.with_name("copy"))
    log.with_name("copy").replace(log)


def truncate_log(path: Path) -> None:
    os.truncate(path.with_name(path.name + "-wal"), 0)


def shorten_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    os.truncate(log, log.stat().st_size - 4096)


def scribble_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    with log.open("r+b") as file:
        file.write(bytes(32))


def delete_index(path: Path) -> None:
    path.with_name(path.name + "-shm").unlink()


def delete_all(path: Path) -> None:
    for one in path.parent.iterdir():
        one.unlink()


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def replace_folder(path: Path) -> None:
    shutil.copytree(path.parent, path.parent.with_name("copy"))
    rename_folder(path)
    path.parent.with_name("copy").rename(path.parent)


WAYS: list[Callable[[Path], None]] = [
    delete, rename, replace, reuse_inode, overwrite, copy_over, truncate, scribble, delete_log, replace_log,
    truncate_log, shorten_log, scribble_log, delete_index, delete_all, rename_folder, replace_folder,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_lost_file_refuses_every_write_and_says_why(serving, folder, tmp_path, way):
    with serving.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        assert http.get("/readyz").status_code == 200
        way(folder / "progress.db")
        refused = [
            http.put("/api/v1/items/new", json={"run_id": "r"}),
            http.patch("/api/v1/items/before", json={"run_id": "r", "seq": 5, "value": 0.5}),
            http.delete("/api/v1/items/before"),
            http.post("/api/v1/keys", json={"type": "read", "name": "x"}),
            http.post("/api/v1/shares", json={"group": "g"}),
            http.post("/api/v1/items:batch", json={"ops": [{"op": "put", "id": "b", "run_id": "r"}]}),
            http.get("/readyz"),
        ]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.headers["retry-after"] for answer in refused} == {"5"}
        assert all("database file was deleted, moved, replaced or overwritten" in a.json()["detail"] for a in refused)
        assert str(folder) not in refused[0].text
        assert http.get("/healthz").status_code == 200
        assert set(listed(http)) == {"before"}
    looked = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "doctor", "--json"],
        env={**os.environ, "PROGRESSBAR_URL": serving.url, "PROGRESSBAR_API_KEY": ADMIN_KEY,
             "PROGRESSBAR_CONFIG": str(tmp_path / "none.toml"), "PROGRESSBAR_DATABASE": str(folder / "progress.db")},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert looked.returncode == 1
    findings = [one for one in json.loads(looked.stdout) if one["what"] == "database"]
    assert any(one["state"] == "bad" and "overwritten" in one["text"] for one in findings)
    code, said = serving.stop(signal.SIGTERM)
    assert code == 0
    assert said.count("the store fails") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("way", [rename, rename_folder], ids=lambda way: way.__name__)
def test_a_file_that_is_put_back_takes_writes_again(serving, folder, way):
    path = folder / "progress.db"
    with serving.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        way(path)
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
        moved = path.with_name("moved.db") if folder.exists() else folder.with_name("moved")
        moved.rename(path if folder.exists() else folder)
        until(lambda: http.put("/api/v1/items/after", json={"run_id": "r"}).status_code in {200, 201})
        assert http.get("/readyz").status_code == 200
    serving.stop(signal.SIGKILL)
    serving.start()
    with serving.http() as http:
        assert set(listed(http)) == {"before", "after"}


@pytest.mark.parametrize("way", [replace, copy_over, overwrite], ids=lambda way: way.__name__)
def test_a_restart_serves_what_was_put_in_place(serving, folder, way):
    """The log of the former file is not merged into the new one."""
    with serving.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        way(folder / "progress.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    serving.stop(signal.SIGTERM)
    serving.start()
    with serving.http() as http:
        assert listed(http) == {}
        http.put("/api/v1/items/after", json={"run_id": "r"}).raise_for_status()
    with contextlib.closing(sqlite3.connect(folder / "progress.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_no_acknowledged_write_is_lost_when_the_folder_moves_under_load(serving, folder):
    """Whatever was acknowledged is in the file that is put back."""
    path, acknowledged = folder / "progress.db", []
    with serving.http() as http:
        for n in range(60):
            if n % 20 == 10:
                folder.rename(folder.with_name("moved"))
            if n % 20 == 15:
                folder.with_name("moved").rename(folder)
            if http.put(f"/api/v1/items/{n}", json={"run_id": "r"}).status_code == 201:
                acknowledged.append(str(n))
    assert len(acknowledged) == 45
    serving.stop(signal.SIGKILL)
    serving.start()
    with serving.http() as http:
        assert set(acknowledged) <= set(listed(http))
    assert path.exists()


def test_what_other_programs_may_do_stops_nothing(serving, folder):
    """A backup, a key from the command line, SQLite's own shell, a touch: none of them is a fault."""
    path = folder / "progress.db"
    with serving.http() as http:
        for n in range(5):
            http.put(f"/api/v1/items/{n}", json={"run_id": "r"}).raise_for_status()
            backup(path, folder / f"{n}.copy")
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
                file.execute("UPDATE meta SET value = value WHERE name = 'probed_at'")
                file.execute(f"PRAGMA wal_checkpoint({['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE', 'TRUNCATE'][n]})")
                if n == 3:
                    file.execute("VACUUM")
            path.touch()
            path.chmod(0o640)
            assert http.put(f"/api/v1/items/after-{n}", json={"run_id": "r"}).status_code == 201
            assert http.get("/readyz").status_code == 200
        big = {"ops": [{"op": "put", "id": f"big-{n}", "run_id": "r", "title": "x" * 200} for n in range(500)]}
        for _ in range(20):  # enough for checkpoints
            http.post("/api/v1/items:batch", json=big).raise_for_status()
            http.post("/api/v1/items:batch", json={"ops": [{"op": "delete", "id": f"big-{n}"} for n in range(500)]})
        assert http.get("/readyz").status_code == 200
        assert len(history(http)) == 10_000


@pytest.mark.parametrize("command", [
    ["keys", "create", "--type", "read", "--name", "x"], ["keys", "list"], ["backup", "copy.db"],
    ["restore", "kept.db"], ["serve", "--port", "0", "--no-local-key"],
], ids=lambda command: command[0])  # fmt: skip
def test_no_command_takes_the_place_of_a_file_that_was_moved(serving, folder, command):
    """SQLite would make another file there, and delete the log of the server."""
    path = folder / "progress.db"
    backup(path, folder / "kept.db")
    with serving.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        path.rename(folder / "moved.db")
        done = subprocess.run(
            [sys.executable, "-m", "progressbar_tracker", *command, "--database", path], cwd=folder,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert not path.exists()
        (folder / "moved.db").rename(path)
        http.put("/api/v1/items/after", json={"run_id": "r"}).raise_for_status()
    serving.stop(signal.SIGKILL)
    serving.start()
    with serving.http() as http:
        assert set(listed(http)) == {"before", "after"}


def test_a_file_that_was_moved_is_whole_without_its_log(serving, folder):
    path = folder / "progress.db"
    with serving.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        path.rename(folder / "moved.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    serving.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(folder / "moved.db")) as file:
        assert file.execute("SELECT id FROM items").fetchall() == [("before",)]
