"""The files of a database are deleted, replaced or overwritten while a server writes to them.

The server refuses writes with the reason, its readiness and ``doctor`` agree, and acknowledged writes survive restarts.
If the file is put back, the server takes writes again without a restart.
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
    process = ServerProcess(tmp_path, PROGRESSBAR_DATABASE=str(data_folder / "progress.db"))
    yield process
    process.close()


def make_other_database(path: Path) -> Path:
    """Make a valid database without items and with other revisions."""
    other = path.with_name("other.db")
    create_backup(path, other, replace=True)
    with contextlib.closing(sqlite3.connect(other)) as file, file:
        file.execute("DELETE FROM items")
        file.execute("UPDATE meta SET value = value + 1")
    return other


def delete(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    make_other_database(path).replace(path)


def reuse_inode(path: Path) -> None:
    other = make_other_database(path)
    path.unlink()
    for n in range(50):  # new files reuse the free inode numbers
        path.with_name(f"{n}.tmp").write_bytes(b"")
    shutil.copy(other, path)


def overwrite(path: Path) -> None:
    other = make_other_database(path)
    with path.open("r+b") as file:
        file.write(other.read_bytes())
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
    for file in path.parent.iterdir():
        file.unlink()


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


@pytest.mark.parametrize("break_file", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_lost_file_refuses_writes_with_the_reason(server_process, data_folder, tmp_path, break_file):
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        assert http.get("/readyz").status_code == 200
        break_file(data_folder / "progress.db")
        replies = [
            http.put("/api/v1/items/new", json={"run_id": "r"}),
            http.patch("/api/v1/items/before", json={"run_id": "r", "seq": 5, "value": 0.5}),
            http.delete("/api/v1/items/before"),
            http.post("/api/v1/keys", json={"type": "read", "name": "x"}),
            http.post("/api/v1/shares", json={"group": "g"}),
            http.post("/api/v1/items:batch", json={"ops": [{"op": "put", "id": "b", "run_id": "r"}]}),
            http.get("/readyz"),
        ]
        assert {reply.status_code for reply in replies} == {503}
        assert {reply.headers["retry-after"] for reply in replies} == {"5"}
        detail = "database file was deleted, moved, replaced or overwritten"
        assert all(detail in reply.json()["detail"] for reply in replies)
        assert str(data_folder) not in replies[0].text
        assert http.get("/healthz").status_code == 200
        assert set(list_items(http)) == {"before"}
    doctor = subprocess.run(
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
    assert doctor.returncode == 1
    findings = [finding for finding in json.loads(doctor.stdout) if finding["what"] == "database"]
    assert any(finding["state"] == "bad" and "overwritten" in finding["text"] for finding in findings)
    code, output = server_process.stop(signal.SIGTERM)
    assert code == 0
    assert output.count("the store fails") == 1
    assert "Traceback" not in output


@pytest.mark.parametrize("move", [rename, rename_folder], ids=lambda move: move.__name__)
def test_restored_file_takes_writes_again(server_process, data_folder, move):
    path = data_folder / "progress.db"
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        move(path)
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
        moved = path.with_name("moved.db") if data_folder.exists() else data_folder.with_name("moved")
        moved.rename(path if data_folder.exists() else data_folder)
        wait_until(lambda: http.put("/api/v1/items/after", json={"run_id": "r"}).status_code in {200, 201})
        assert http.get("/readyz").status_code == 200
    server_process.stop(signal.SIGKILL)
    server_process.start()
    with server_process.http() as http:
        assert set(list_items(http)) == {"before", "after"}


@pytest.mark.parametrize("replace_file", [replace, copy_over, overwrite], ids=lambda fault: fault.__name__)
def test_restart_serves_the_replacing_file(server_process, data_folder, replace_file):
    """The log of the former file is not merged into the new one."""
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        replace_file(data_folder / "progress.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    server_process.stop(signal.SIGTERM)
    server_process.start()
    with server_process.http() as http:
        assert list_items(http) == {}
        http.put("/api/v1/items/after", json={"run_id": "r"}).raise_for_status()
    with contextlib.closing(sqlite3.connect(data_folder / "progress.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_moving_folder_under_load_loses_no_acknowledged_write(server_process, data_folder):
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


def test_harmless_use_by_other_programs_stops_no_writes(server_process, data_folder):
    """A backup, a key from the command line, SQLite's shell and ``touch`` are no faults."""
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
def test_command_does_not_recreate_a_moved_file(server_process, data_folder, command):
    """Otherwise SQLite creates a new file at the path, and deletes the server's log."""
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


def test_moved_file_is_complete_without_its_log(server_process, data_folder):
    path = data_folder / "progress.db"
    with server_process.http() as http:
        http.put("/api/v1/items/before", json={"run_id": "r"}).raise_for_status()
        path.rename(data_folder / "moved.db")
        assert http.put("/api/v1/items/during", json={"run_id": "r"}).status_code == 503
    server_process.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(data_folder / "moved.db")) as file:
        assert file.execute("SELECT id FROM items").fetchall() == [("before",)]
