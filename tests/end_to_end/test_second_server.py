"""A second server on the database of a running one, by every name that the file can have."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.stores.sqlite.locks import FileLock
from tests.support.connections import list_items
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def server_process(tmp_path):
    """A server process that a second one competes with."""
    process = ServerProcess(tmp_path)
    yield process
    process.close()


def run_command(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", *map(str, arguments)],
        env={**os.environ, "PROGRESSBAR_CONFIG": "/nonexistent"}, cwd=cwd, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def run_serve(database, cwd=None):
    return run_command("serve", "--port", "0", "--no-local-key", "--database", database, cwd=cwd)


def same_path(path: Path) -> str:
    return str(path)


def symbolic_link(path: Path) -> str:
    link = path.parent / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    return str(link)


def chain_of_links(path: Path) -> str:
    (path.parent / "one.db").symlink_to(path.name)
    (path.parent / "two.db").symlink_to("one.db")
    return str(path.parent / "two.db")


def linked_folder(path: Path) -> str:
    link = path.parent.parent / (path.parent.name + "-link")
    link.symlink_to(path.parent)
    return str(link / path.name)


def hard_link(path: Path) -> str:
    (path.parent / "hard.db").hardlink_to(path)
    return str(path.parent / "hard.db")


def hard_link_elsewhere(path: Path) -> str:
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere" / path.name).hardlink_to(path)
    return str(path.parent / "elsewhere" / path.name)


def lock_removed(path: Path) -> str:
    path.with_name(path.name + ".lock").unlink()
    return str(path)


def lock_replaced(path: Path) -> str:
    lock = path.with_name(path.name + ".lock")
    lock.with_name("new").write_bytes(b"")
    lock.with_name("new").replace(lock)
    return str(path)


def relative(path: Path) -> str:
    return f"../{path.parent.name}/./{path.name}"


def dots(path: Path) -> str:
    return f"{path.parent}/../{path.parent.name}//{path.name}"


def descriptor_path(path: Path) -> str:
    """A descriptor of this process, which stays open until the tests end."""
    handle = os.open(path, os.O_RDONLY)
    return f"/proc/{os.getpid()}/fd/{handle}"


def bind_mount(path: Path) -> str:
    target = path.parent / "bound.db"
    target.touch()
    mount(path, target)
    return str(target)


def bind_mounted_folder(path: Path) -> str:
    target = path.parent.parent / (path.parent.name + "-bound")
    target.mkdir()
    mount(path.parent, target)
    return str(target / path.name)


MOUNT_POINTS: list[Path] = []


def mount(source: Path, target: Path) -> None:
    if subprocess.run(["mount", "--bind", source, target], capture_output=True).returncode:
        pytest.skip("the machine does not permit mounts")
    MOUNT_POINTS.append(target)


@pytest.fixture(autouse=True)
def unmount_all():
    """Unmount what a test has mounted."""
    yield
    while MOUNT_POINTS:
        subprocess.run(["umount", "--lazy", MOUNT_POINTS.pop()], check=True)


PATH_VARIANTS: list[Callable[[Path], str]] = [
    same_path, symbolic_link, chain_of_links, linked_folder, hard_link, hard_link_elsewhere, lock_removed,
    lock_replaced,
    relative, dots, descriptor_path, bind_mount, bind_mounted_folder,
]  # fmt: skip


@pytest.mark.parametrize("name", PATH_VARIANTS, ids=lambda name: name.__name__)
def test_second_server_on_the_file_is_refused(server_process, tmp_path, name):
    database = tmp_path / "progress.db"
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        done = run_serve(name(database), cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "a server is running on the database" in done.stderr
        http.put("/api/v1/items/b", json={"run_id": "r"}).raise_for_status()
    server_process.stop(signal.SIGKILL)
    remove_second_names(database)
    server_process.start()
    with server_process.http() as http:
        assert set(list_items(http)) == {"a", "b"}


OTHER_NAMES = [name for name in PATH_VARIANTS if name in {hard_link, hard_link_elsewhere, bind_mount}]
"""Names under which SQLite would use a separate log."""


@pytest.mark.parametrize("name", PATH_VARIANTS, ids=lambda name: name.__name__)
def test_command_beside_a_server_uses_the_same_file_or_fails(server_process, tmp_path, name):
    place = name(tmp_path / "progress.db")
    copy = tmp_path / "copy.db"
    keys = run_command("keys", "create", "--name", "laptop", "--type", "read", "--database", place, cwd=tmp_path)
    backup = run_command("backup", copy, "--database", place, cwd=tmp_path)
    assert backup.returncode == keys.returncode
    if name in OTHER_NAMES:
        assert keys.returncode == 1
        assert "under another name: use that one" in keys.stderr
    else:
        assert keys.returncode == 0
        with server_process.http() as http:
            assert "laptop" in [key["name"] for key in http.get("/api/v1/keys").json()["keys"]]
        restore = run_command("restore", copy, "--database", place, cwd=tmp_path)
        assert (restore.returncode, restore.stderr.count("\n")) == (1, 1)
        assert "a server is running" in restore.stderr
    with server_process.http() as http:
        assert http.get("/readyz").status_code == 200


def link_to_hard_link(path: Path) -> str:
    (path.parent / "link.db").symlink_to(hard_link(path))
    return str(path.parent / "link.db")


def name_with_hard_link(path: Path) -> str:
    hard_link(path)
    return str(path)


def linked_tree(path: Path) -> str:
    """A copy of the folder by `cp --archive --link`, with the log."""
    tree = path.parent / "tree"
    shutil.copytree(path.parent, tree, copy_function=os.link, ignore=shutil.ignore_patterns("tree"))
    return str(tree / path.name)


def mount_on_itself(path: Path) -> str:
    mount(path, path)
    return str(path)


SECOND_NAMES: list[Callable[[Path], str]] = [
    hard_link, hard_link_elsewhere, link_to_hard_link, name_with_hard_link, linked_tree, bind_mount, mount_on_itself,
]  # fmt: skip


def remove_second_names(path: Path) -> None:
    while MOUNT_POINTS:
        subprocess.run(["umount", MOUNT_POINTS.pop()], check=True)
    inode = path.stat().st_ino
    for other in path.parent.rglob("*"):
        if other != path and not other.is_symlink() and other.samefile(path):
            other.unlink()
    assert (path.stat().st_ino, path.stat().st_nlink) == (inode, 1)


@pytest.fixture
def killed_server(server_process, tmp_path):
    """The key that a server revoked before it was killed; only the log has the revocation."""
    with server_process.http() as http:
        key = http.post("/api/v1/keys", json={"name": "former", "type": "admin"}).raise_for_status().json()
        with contextlib.closing(sqlite3.connect(tmp_path / "progress.db")) as file:
            assert file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        http.delete(f"/api/v1/keys/{key['key_id']}").raise_for_status()
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
    server_process.stop(signal.SIGKILL)
    return key["key"]


def assert_refused(done):
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "has several names (hard links)" in done.stderr or "mount the folder, not the file" in done.stderr


@pytest.mark.parametrize("name", SECOND_NAMES, ids=lambda name: name.__name__)
def test_start_under_a_second_name_loses_nothing(server_process, killed_server, tmp_path, name):
    database = tmp_path / "progress.db"
    assert_refused(run_serve(name(database)))
    remove_second_names(database)
    server_process.start()
    with server_process.http() as http:
        assert set(list_items(http)) == {"a"}
    with server_process.http(killed_server) as http:
        assert http.get("/api/v1/keys").status_code == 401


@pytest.mark.parametrize("name", SECOND_NAMES, ids=lambda name: name.__name__)
def test_command_under_a_second_name_is_refused(killed_server, tmp_path, name):
    place = name(tmp_path / "progress.db")
    KeyAdmin(tmp_path / "new.db").close()
    assert run_command("backup", tmp_path / "copy.db", "--database", tmp_path / "new.db").returncode == 0
    for command in (
        ["keys", "create", "--name", "x", "--type", "read"], ["keys", "list"], ["backup", tmp_path / "stale.db"],
        ["restore", tmp_path / "copy.db"],
    ):  # fmt: skip
        assert_refused(run_command(*command, "--database", place))
    assert_refused(run_command("restore", place, "--database", tmp_path / "new.db"))
    assert not (tmp_path / "stale.db").exists()


def test_hard_link_made_while_serving_stops_nothing(server_process, tmp_path):
    database = tmp_path / "progress.db"
    linked_tree(database)
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
        assert run_command("keys", "create", "--name", "x", "--type", "read", "--database", database).returncode == 0
        assert run_command("backup", tmp_path / "copy.db", "--database", database).returncode == 0
        assert http.get("/readyz").status_code == 200
    server_process.stop(signal.SIGTERM)
    assert_refused(run_serve(database))


@pytest.mark.parametrize("name", [hard_link, bind_mount], ids=lambda name: name.__name__)
def test_copy_with_a_second_name_can_be_restored(server_process, tmp_path, name):
    """A finished copy is complete without a log. Backups are often linked, or mounted into containers."""
    with server_process.http() as http:
        http.put("/api/v1/items/a", json={"run_id": "r"}).raise_for_status()
    copy = tmp_path / "copy.db"
    assert run_command("backup", copy, "--database", tmp_path / "progress.db").returncode == 0
    done = run_command("restore", name(copy), "--database", tmp_path / "new.db")
    assert done.returncode == 0, done.stderr


def test_killed_server_releases_the_file(server_process, tmp_path):
    for _ in range(3):
        server_process.stop(signal.SIGKILL)
        server_process.start()
    server_process.stop(signal.SIGTERM)
    FileLock(tmp_path / "progress.db").release()


def test_child_process_keeps_no_lock(tmp_path):
    """Neither a forked child nor a child with another program keeps it."""
    database = tmp_path / "progress.db"
    KeyAdmin(database).close()
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        "from progressbar_tracker.server.stores.sqlite.store import SqliteStore\n"
        "store = SqliteStore(pathlib.Path(sys.argv[1]))\n"
        "program = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1)\n"
        "    time.sleep(60)\n"
        "print(program.pid, child, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = [int(pid) for pid in process.stdout.readline().split()]
    try:
        assert run_serve(database).returncode == 1
        process.kill()
        process.wait(60)
        lock = FileLock(database)
        lock.release()
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_serve_on_a_path_that_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "progress.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    done = run_serve(path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be used" in done.stderr


def test_copy_of_a_served_file_is_another_database(server_process, tmp_path):
    done = run_command("backup", tmp_path / "copy.db", "--database", tmp_path / "progress.db")
    assert done.returncode == 0
    shutil.copy(tmp_path / "copy.db", tmp_path / "second.db")
    FileLock(tmp_path / "second.db").release()
