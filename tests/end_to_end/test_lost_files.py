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

from progressbar_tracker.server.stores.sqlite.backup import create_backup
from tests.support.connections import list_history, list_items
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def data_folder(tmp_path):
    """The folder of the database, which a test can move."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def server_process(tmp_path, data_folder):
    """A server process whose database is in a folder of its own."""
    serving = ServerProcess(tmp_path, PROGRESSBAR_DATABASE=str(data_folder / "progress.db"))
    yield serving
    serving.close()


def make_other_database(path: Path) -> Path:
    """Make a database of another life."""
    made = path.with_name("other.db")
    create_backup(path, made, replace=True)
    with contextlib.closing(sqlite3.connect(made)) as file, file:
        file.execute("DELETE FROM items")
        file.execute("UPDATE meta SET value = value + 1")
    return made


def delete(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    make_other_database(path).replace(path)


def reuse_inode(path: Path) -> None:
    made = make_other_database(path)
    path.unlink()
    for n in range(50):  # the next files get the numbers that are free
        path.with_name(f"{n}.tmp").write_bytes(b"")
    shutil.copy(made, path)


def overwrite(path: Path) -> None:
    made = make_other_database(path)
    with path.open("r+b") as file:
        file.write(made.read_bytes())
        file.truncate()


def copy_over(path: Path) -> None:
    shutil.copy(make_other_database(path), path)


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


FILE_FAULTS: list[Callable[[Path], None]] = [
    delete, rename, replace, reuse_inode, overwrite, copy_over, truncate, scribble, delete_log, replace_log,
    truncate_log, shorten_log, scribble_log, delete_index, delete_all, rename_folder, replace_folder,
]  # fmt: skip


@pytest.mark.parametrize("way", FILE_FAULTS, ids=lambda way: way.__name__)
def test_a_lost_file_refuses_every_write_and_says_why(server_process, data_folder, tmp_path, way):
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        assert http.get("/readyz").status_code == 200
        way(data_folder / "progress.db")
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
        assert str(data_folder) not in refused[0].text
        assert http.get("/healthz").status_code == 200
        assert set(list_items(http)) == {"before"}
    looked = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "doctor", "--json"],
        env={
            **os.environ,
            "PROGRESSBAR_URL": server_process.url,
            "PROGRESSBAR_API_KEY": ADMIN_KEY,
            "PROGRESSBAR_CONFIG": str(tmp_path / "none.toml"),
            "PROGRESSBAR_DATABASE": str(data_folder / "progress.db"),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert looked.returncode == 1
    findings = [one for one in json.loads(looked.stdout) if one["what"] == "database"]
    assert any(one["state"] == "bad" and "overwritten" in one["text"] for one in findings)
    code, said = server_process.stop(signal.SIGTERM)
    assert code == 0
    assert said.count("the store fails") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("way", [rename, rename_folder], ids=lambda way: way.__name__)
def test_a_file_that_is_put_back_takes_writes_again(server_process, data_folder, way):
    path = data_folder / "progress.db"
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        way(path)
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
        moved = path.with_name("moved.db") if data_folder.exists() else data_folder.with_name("moved")
        moved.rename(path if data_folder.exists() else data_folder)
        wait_until(lambda: http.put("/api/v1/items/after", json={"run_id": "r"}).status_code in {200, 201})
        assert http.get("/readyz").status_code == 200
    server_process.stop(signal.SIGKILL)
    server_process.start()
    with server_process.http() as http:
        assert set(list_items(http)) == {"before", "after"}


@pytest.mark.parametrize("way", [replace, copy_over, overwrite], ids=lambda way: way.__name__)
def test_a_restart_serves_what_was_put_in_place(server_process, data_folder, way):
    """The log of the former file is not merged into the new one."""
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        way(data_folder / "progress.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    server_process.stop(signal.SIGTERM)
    server_process.start()
    with server_process.http() as http:
        assert list_items(http) == {}
        http.put("/api/v1/items/after", json={"run_id": "r"}).raise_for_status()
    with contextlib.closing(sqlite3.connect(data_folder / "progress.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_no_acknowledged_write_is_lost_when_the_folder_moves_under_load(server_process, data_folder):
    """Whatever was acknowledged is in the file that is put back."""
    path, acknowledged = data_folder / "progress.db", []
    with server_process.http() as http:
        for n in range(60):
            if n % 20 == 10:
                data_folder.rename(data_folder.with_name("moved"))
            if n % 20 == 15:
                data_folder.with_name("moved").rename(data_folder)
            if http.put(f"/api/v1/items/{n}", json={"run_id": "r"}).status_code == 201:
                acknowledged.append(str(n))
    assert len(acknowledged) == 45
    server_process.stop(signal.SIGKILL)
    server_process.start()
    with server_process.http() as http:
        assert set(acknowledged) <= set(list_items(http))
    assert path.exists()


def test_what_other_programs_may_do_stops_nothing(server_process, data_folder):
    """A backup, a key from the command line, SQLite's own shell, a touch: none of them is a fault."""
    path = data_folder / "progress.db"
    with server_process.http() as http:
        for n in range(5):
            http.put(f"/api/v1/items/{n}", json={"run_id": "r"}).raise_for_status()
            create_backup(path, data_folder / f"{n}.copy")
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
        assert len(list_history(http)) == 10_000


@pytest.mark.parametrize("command", [
    ["keys", "create", "--type", "read", "--name", "x"], ["keys", "list"], ["backup", "copy.db"],
    ["restore", "kept.db"], ["serve", "--port", "0", "--no-local-key"],
], ids=lambda command: command[0])  # fmt: skip
def test_no_command_takes_the_place_of_a_file_that_was_moved(server_process, data_folder, command):
    """SQLite would make another file there, and delete the log of the server."""
    path = data_folder / "progress.db"
    create_backup(path, data_folder / "kept.db")
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        path.rename(data_folder / "moved.db")
        done = subprocess.run(
            [sys.executable, "-m", "progressbar_tracker", *command, "--database", path], cwd=data_folder,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert not path.exists()
        (data_folder / "moved.db").rename(path)
        http.put("/api/v1/items/after", json={"run_id": "r"}).raise_for_status()
    server_process.stop(signal.SIGKILL)
    server_process.start()
    with server_process.http() as http:
        assert set(list_items(http)) == {"before", "after"}


def test_a_file_that_was_moved_is_whole_without_its_log(server_process, data_folder):
    path = data_folder / "progress.db"
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        path.rename(data_folder / "moved.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    server_process.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(data_folder / "moved.db")) as file:
        assert file.execute("SELECT id FROM items").fetchall() == [("before",)]
